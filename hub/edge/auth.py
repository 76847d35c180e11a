"""
Who is there: a token in, a `Person` out, or a refusal that tells an attacker nothing.

    Authenticator.verify(token)   the hub's own tokens (HS256), or a configured issuer's (RS256, ES256, EdDSA by JWKS)
    issue_token(secret, …)        makes a token of the hub's own

What decides how a token is checked is its issuer, never the algorithm it names: `hub` is checked with the secret
alone, an issuer with that issuer's keys alone. A public key can so never be taken for a secret (RFC 8725, section
2.1), nor one issuer speak for another. Times are checked here and not by PyJWT, with a clock that tests can move.
"""

import asyncio
import base64
import contextlib
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jwt

from hub.domain.claims import hub_claims
from hub.domain.errors import Refused
from hub.domain.grants import EVERYTHING, PERMISSIONS, ROLES, Person
from hub.edge.issuer_keys import ISSUER_ALGORITHMS, Fetch, IssuerKeys, KeyTimes, fetch_keys
from hub.settings import IssuerSettings, Settings

HUB_ISSUER: Final = "hub"
AUDIENCE: Final = "hub"
TOKEN_CHARS_MAX: Final = 16_384  # some providers list 200 groups
CLAIM_IDS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 200
CLOCK_SKEW_MS: Final = 60_000  # an issuer's clock may be ahead of ours by this much
FIRST_KEYS_S: Final = 2.0  # a hub that starts waits this long for its issuers' keys

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def now_ms() -> int:
    """Unix milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000


class Authenticator:
    """
    Checks tokens by the settings' secret and issuers.

    `clock` gives Unix ms; `fetch` brings an issuer's keys and may block; `monotonic` gives the seconds of their ages.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], int] = now_ms,
        fetch: Fetch = fetch_keys,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = _own_key(settings.token_secret) if settings.token_secret is not None else None
        times = KeyTimes.of(settings)
        self._issuers = {issuer.issuer: IssuerKeys(issuer, fetch, monotonic, times) for issuer in settings.issuers}
        self._clock = clock
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to keep the issuers' keys; waits a moment for the first ones, not longer: a hub starts without them."""
        self._keeping = [asyncio.create_task(keys.keep()) for keys in self._issuers.values()]
        if self._keeping:
            tried = asyncio.gather(*(keys.tried.wait() for keys in self._issuers.values()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried, FIRST_KEYS_S)

    async def stop(self) -> None:
        """Keep them no longer."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def key_ages(self) -> Mapping[str, float]:
        """Seconds since each issuer's keys were fetched; infinite where they never were."""
        return {name: keys.age_s for name, keys in self._issuers.items()}

    async def verify(self, token: str, *, audience: str | None = None) -> Person:
        """
        The person a token speaks of; it must be meant for `audience` (None: the hub, or what its issuer calls it).

        May wait for an issuer's keys, in a thread; safe to cancel.

        Raises:
            Refused: `unauthenticated`, or `not_permitted` where its issuer's grants give the person nothing; the
                message never contains anything of the token.
        """
        _check_form(token)
        now = self._clock()
        own = self._own_claims(token)
        if own is not None:
            return _person(own, audience or AUDIENCE, now)
        claims, keys = await self._issuers_claims(token)
        return (
            issuers_person(claims, keys.issuer, audience, now) if keys else _person(claims, audience or AUDIENCE, now)
        )

    async def signed_claims(self, token: str, issuer: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """
        Header and claims of a token that this configured issuer has signed; nothing else of it is checked.

        Raises:
            Refused: `unauthenticated`; the message never contains anything of the token.
        """
        _check_form(token)
        header, unverified = _parsed(token)
        if unverified.get("iss") != issuer:
            raise _unauthenticated("its issuer isn't known here")
        claims, _ = await self._issuers_claims(token)
        return header, claims

    def _own_claims(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a good token of the hub's own, read once; None leaves the judgement to a closer look."""
        if self._own is None:
            return None
        try:
            parts = jwt.decode_complete(token, self._own, algorithms=["HS256"], options=_SIGNATURE_ONLY)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        claims: Mapping[str, Any] = parts["payload"]
        return claims if claims.get("iss") == HUB_ISSUER and not _asks_for_more(parts["header"]) else None

    async def _issuers_claims(self, token: str) -> tuple[Mapping[str, Any], IssuerKeys | None]:
        """Claims that whoever the token names as its issuer has signed, and that issuer; None: this hub."""
        header, unverified = _parsed(token)
        algorithm, issuer = header.get("alg"), unverified.get("iss")
        if issuer == HUB_ISSUER:
            if self._own is None:
                raise _unauthenticated("its issuer isn't known here")
            if algorithm != "HS256":
                raise _unauthenticated("its algorithm isn't allowed")
            return _verified(token, self._own, "HS256"), None
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise _unauthenticated("its issuer isn't known here")
        if not isinstance(algorithm, str) or algorithm not in ISSUER_ALGORITHMS:
            raise _unauthenticated("its algorithm isn't allowed")
        keys = self._issuers[issuer]
        return _verified(token, await keys.key(header.get("kid"), algorithm), algorithm), keys


def _own_key(secret: bytes) -> jwt.PyJWK:
    """The hub's secret in the form that the library needn't look at again for each token (RFC 7517, RFC 7518)."""
    k = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return jwt.PyJWK.from_dict({"kty": "oct", "alg": "HS256", "k": k})


def issue_token(
    secret: bytes,
    *,
    sub: str,
    name: str,
    org: str,
    role: str,
    permissions: Iterable[str] = (),
    queues: Iterable[str] = (),
    divisions: Iterable[str] = (),
    ttl_ms: int,
    now_ms: int,
    conversation: str | None = None,
    jti: str | None = None,
) -> str:
    """
    Make a token of the hub's own that is valid for `ttl_ms` from `now_ms` (Unix ms); `jti` is random if not given.

    Raises:
        ValueError: a token with these values would be refused; says why.
    """
    claims: dict[str, Any] = {
        "iss": HUB_ISSUER,
        "aud": AUDIENCE,
        "sub": sub,
        "name": name,
        "org": org,
        "role": role,
        "permissions": list(permissions),
        "queues": list(queues),
        "divisions": list(divisions),
        # With milliseconds (RFC 7519 allows it), so that a token made right after a revocation isn't older than it.
        "iat": now_ms / 1000,
        "exp": math.ceil((now_ms + ttl_ms) / 1000),
        "jti": jti or secrets.token_hex(12),
    }
    if conversation is not None:
        claims["conversation"] = conversation
    elif role == "customer":
        raise ValueError("a customer's token needs a conversation")
    strangers = sorted(set(claims["permissions"]) - PERMISSIONS)
    if strangers:
        raise ValueError(f"unknown permission {strangers[0]!r}; there are {', '.join(sorted(PERMISSIONS))}")
    try:
        _person(claims, AUDIENCE, now_ms)
    except Refused as refused:
        raise ValueError(refused.message) from None
    return jwt.encode(claims, secret, algorithm="HS256")


# The token's form and signature.

# The claims are checked by `_person`.
_SIGNATURE_ONLY: Final[Any] = {"verify_signature": True, "require": []} | dict.fromkeys(
    ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
)


def _check_form(token: object) -> None:
    if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX or not _FORM.fullmatch(token):
        raise _unauthenticated("it isn't a signed JWT")


def _parsed(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims as they stand there, unchecked: only to find out with what they are to be checked."""
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _unauthenticated("it can't be read") from None
    if _asks_for_more(parts["header"]):
        raise _unauthenticated("its header asks for what isn't supported")
    return parts["header"], parts["payload"]


def _asks_for_more(header: Mapping[str, Any]) -> bool:
    """RFC 7515, section 4.1.11: what isn't understood and is called critical must be refused. We understand none."""
    return "crit" in header or "b64" in header


def _verified(token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any]:
    try:
        return jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _unauthenticated("its signature is wrong") from None


# The claims.


def issuers_person(claims: Mapping[str, Any], issuer: IssuerSettings, audience: str | None, now: int) -> Person:
    """
    The person that an issuer's verified claims speak of, by its rules; `now` in Unix ms.

    Raises:
        Refused: `unauthenticated`, `not_permitted`.
    """
    audience = audience or issuer.audience
    _check_valid(claims, audience, now)  # first: what has expired isn't told what it would have granted
    return _person(hub_claims(claims, issuer.rules), audience, now)


def _person(claims: Mapping[str, Any], audience: str, now: int) -> Person:
    """The person that verified claims speak of; every claim's type is checked, since issuers make mistakes, too."""
    expires_at, issued_at = _check_valid(claims, audience, now)
    user_id, role = _id(claims, "sub"), claims.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise _unauthenticated("its role isn't known")
    return Person(
        user_id=user_id,
        name=_name(claims.get("name"), user_id),
        org=_id(claims, "org"),
        role=role,
        # Unknown ones are another system's, or a newer hub's: they grant nothing here.
        permissions=_texts(claims, "permissions") & PERMISSIONS,
        queues=_ids(claims, "queues"),
        divisions=_ids(claims, "divisions"),
        conversation=_id(claims, "conversation") if "conversation" in claims else None,
        token_id=_token_id(claims.get("jti", "")),
        issued_at=issued_at,
        expires_at=expires_at,
    )


def _check_valid(claims: Mapping[str, Any], audience: str, now: int) -> tuple[int, int]:
    """End and beginning of what is valid now, and for this audience."""
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    if expires_at <= now:
        raise _unauthenticated("it has expired")
    if issued_at > now + CLOCK_SKEW_MS or ("nbf" in claims and _time(claims, "nbf") > now + CLOCK_SKEW_MS):
        raise _unauthenticated("it isn't valid yet")
    _check_audience(claims.get("aud"), audience)
    return expires_at, issued_at


def _time(claims: Mapping[str, Any], claim: str) -> int:
    """A NumericDate (seconds, whole or not) as milliseconds."""
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise _unauthenticated(f"`{claim}` is missing or not a time in seconds")
    return round(value * 1000)


def _check_audience(claimed: object, audience: str) -> None:
    listed = [claimed] if isinstance(claimed, str) else claimed
    if not isinstance(listed, list) or audience not in listed:
        raise _unauthenticated("it is meant for somebody else")


def _id(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _unauthenticated(f"`{claim}` is missing or not an id")
    return value


def _ids(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    values = _texts(claims, claim)
    if any(value != EVERYTHING and not _ID.fullmatch(value) for value in values):
        raise _unauthenticated(f"`{claim}` is not a list of ids")
    return values


def _texts(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    values = claims.get(claim, [])
    if not isinstance(values, list) or len(values) > CLAIM_IDS_MAX:
        raise _unauthenticated(f"`{claim}` is not a list, or too long")
    if not all(isinstance(value, str) for value in values):
        raise _unauthenticated(f"`{claim}` is not a list of texts")
    return frozenset(values)


def _name(value: object, otherwise: str) -> str:
    if value is None:
        return otherwise
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_CHARS_MAX or not value.isprintable():
        raise _unauthenticated("`name` is not a printable text of 1 to 200 characters")
    return value


def _token_id(value: object) -> str:
    if not isinstance(value, str) or len(value) > 128 or not value.isprintable():
        raise _unauthenticated("`jti` is not a text of at most 128 characters")
    return value


def _unauthenticated(why: str) -> Refused:
    return Refused("unauthenticated", f"The token was refused: {why}.")
