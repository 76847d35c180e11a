"""Who a load test's sockets are: people of the hub's own secret, or tokens of an identity provider read from a file."""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import msgspec

from clients.tokens import SUPERVISOR_PERMISSIONS, make_token


class CredentialsError(Exception):
    """The tokens that were given can't be used, or aren't enough."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can say hello: their id and a token."""

    user_id: str
    token: str


@dataclass
class Credentials:
    """
    People by role, the next one at each call.

    With a `secret` there are as many as wanted, in the organization `org`; people that were `given` come first, and
    only supervisors are given out twice: an agent's second socket would get the first one's messages again.
    """

    secret: str = ""
    org: str = field(default_factory=lambda: "load-" + secrets.token_hex(4))
    given: dict[str, list[Person]] = field(default_factory=dict)
    _taken: Counter[str] = field(default_factory=Counter)

    def has(self, role: str, count: int) -> bool:
        """True where `count` calls of `next_person` will succeed."""
        given = self.given.get(role, [])
        return bool(self.secret) or len(given) >= count or (role != "agent" and bool(given))

    def next_person(self, role: str) -> Person:
        """
        Somebody of a role, with every right of it.

        Raises:
            CredentialsError: There is nobody (else).
        """
        number, given = self._taken[role], self.given.get(role, [])
        self._taken[role] += 1
        if number < len(given):
            return given[number]
        if self.secret:
            sub = f"{role}-{number}"
            permissions = SUPERVISOR_PERMISSIONS if role == "supervisor" else ()
            return Person(sub, make_token(self.secret, role, sub, org=self.org, permissions=permissions))
        if not given or role == "agent":
            raise CredentialsError(f"there are {len(given)} tokens of role {role}, and no secret to make more")
        return given[number % len(given)]


def read_tokens(path: Path, secret: str = "") -> Credentials:
    """
    Credentials from a file: a supervisor's token on each line, or JSON objects {"role", "token"}, one a line.

    Raises:
        CredentialsError: The file or a line can't be read, or its people are of several organizations.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{path} can't be read: {error}") from None
    return credentials_of(lines, secret)


def credentials_of(lines: Sequence[str], secret: str = "") -> Credentials:
    """As `read_tokens`, of lines; empty ones are skipped."""
    given: dict[str, list[Person]] = {}
    orgs: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        role, token = _line(line.strip(), number)
        claims = _claims(token, number)
        given.setdefault(role, []).append(Person(str(claims["sub"]), token))
        orgs.add(str(claims.get("org", "")))
    if not given:
        raise CredentialsError("there is no token in the file")
    if len(orgs) > 1:
        raise CredentialsError(f"the tokens are of several organizations: {', '.join(sorted(orgs))}")
    return Credentials(secret, orgs.pop(), given)


def _line(line: str, number: int) -> tuple[str, str]:
    if not line.startswith("{"):
        return "supervisor", line
    try:
        read = msgspec.json.decode(line, type=dict[str, str])
        return read["role"], read["token"]
    except (msgspec.MsgspecError, KeyError):
        raise CredentialsError(f'line {number} isn\'t {{"role": ..., "token": ...}}') from None


def _claims(token: str, number: int) -> dict[str, Any]:
    """What the token says, unchecked: that is the hub's work; we only need to know who it is."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise CredentialsError(f"line {number} isn't a token (JWT): {error}") from None
    if "sub" not in claims:
        raise CredentialsError(f"the token of line {number} has no `sub`")
    return claims
