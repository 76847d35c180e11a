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
import json
import math
import re
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hub.domain.errors import Refused
from hub.domain.grants import EVERYTHING, PERMISSIONS, ROLES, Person
from hub.settings import IssuerSettings, Settings

HUB_ISSUER: Final = "hub"
AUDIENCE: Final = "hub"
TOKEN_CHARS_MAX: Final = 8_192
CLAIM_IDS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 200
CLOCK_SKEW_MS: Final = 60_000  # an issuer's clock may be ahead of ours by this much
ISSUER_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
RSA_BITS_MIN: Final = 2_048
REFETCH_S: Final = 30.0  # keys are fetched again for an unknown `kid` at most this often
KEYS_FRESH_S: Final = 300.0  # a key that the issuer withdrew is taken for at most this long
KEYS_USABLE_S: Final = 3_600.0  # ... or this long while the issuer can't be reached
FETCH_TIMEOUT_S: Final = 5.0
JWKS_BYTES_MAX: Final = 1_048_576

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Keys = Mapping[str | None, jwt.PyJWK]
Fetch = Callable[[IssuerSettings], Mapping[str, Any]]


def now_ms() -> int:
    """Unix milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000


def fetch_keys(issuer: IssuerSettings) -> Mapping[str, Any]:
    """
    An issuer's key set (RFC 7517) from its URL or file; blocks.

    Raises:
        OSError: it can't be reached or read.
        ValueError: it isn't a JSON object, or larger than 1 MiB.
    """
    if issuer.jwks_file is not None:
        body = issuer.jwks_file.read_bytes()
    else:
        assert issuer.jwks_url is not None
        with urllib.request.build_opener(_NoRedirects).open(issuer.jwks_url, timeout=FETCH_TIMEOUT_S) as answer:
            body = answer.read(JWKS_BYTES_MAX + 1)
    if len(body) > JWKS_BYTES_MAX:
        raise ValueError("larger than 1 MiB")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as an error: keys come from the address that was configured, or not at all."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        return None


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
        self._issuers = {issuer.issuer: _IssuerKeys(issuer, fetch, monotonic) for issuer in settings.issuers}
        self._clock = clock

    async def verify(self, token: str, *, audience: str = AUDIENCE) -> Person:
        """
        The person a token speaks of. May wait for an issuer's keys, in a thread; safe to cancel.

        Raises:
            Refused: `unauthenticated`; the message never contains anything of the token.
        """
        _check_form(token)
        claims = self._own_claims(token) or await self._issuers_claims(token)
        return _person(claims, audience, self._clock())

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

    async def _issuers_claims(self, token: str) -> Mapping[str, Any]:
        header, unverified = _parsed(token)
        algorithm, issuer = header.get("alg"), unverified.get("iss")
        if issuer == HUB_ISSUER:
            if self._own is None:
                raise _unauthenticated("its issuer isn't known here")
            if algorithm != "HS256":
                raise _unauthenticated("its algorithm isn't allowed")
            return _verified(token, self._own, "HS256")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise _unauthenticated("its issuer isn't known here")
        if not isinstance(algorithm, str) or algorithm not in ISSUER_ALGORITHMS:
            raise _unauthenticated("its algorithm isn't allowed")
        return _verified(token, await self._issuers[issuer].key(header.get("kid"), algorithm), algorithm)


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


def _person(claims: Mapping[str, Any], audience: str, now: int) -> Person:
    """The person that verified claims speak of; every claim's type is checked, since issuers make mistakes, too."""
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    if expires_at <= now:
        raise _unauthenticated("it has expired")
    if issued_at > now + CLOCK_SKEW_MS or ("nbf" in claims and _time(claims, "nbf") > now + CLOCK_SKEW_MS):
        raise _unauthenticated("it isn't valid yet")
    _check_audience(claims.get("aud"), audience)
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


# An issuer's keys.


class _IssuerKeys:
    """
    One issuer's keys, kept for five minutes; for an unknown `kid` fetched again at most every 30 s.

    A fetch runs in a thread, one at a time; who waits for it is bounded by its time-out. While the issuer can't be
    reached its last keys are taken for up to an hour, so that its outage isn't ours.
    """

    def __init__(self, issuer: IssuerSettings, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._now = monotonic
        self._keys: Keys = {}
        self._fetched = -math.inf
        self._tried = -math.inf
        self._lock = asyncio.Lock()

    async def key(self, kid: object, algorithm: str) -> jwt.PyJWK:
        """
        The key of this id that is made for this algorithm; without an id the only one that is.

        Raises:
            Refused: there is none, or the keys can't be had.
        """
        if kid is not None and not isinstance(kid, str):
            raise _unauthenticated("its key isn't known")
        if self._age() > KEYS_FRESH_S or self._find(kid, algorithm) is None:
            await self._refresh(kid, algorithm)
        key = self._find(kid, algorithm) if self._age() < KEYS_USABLE_S else None
        if key is None:
            raise _unauthenticated("its key isn't known")
        return key

    def _age(self) -> float:
        return self._now() - self._fetched

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if kid is not None:
            key = self._keys.get(kid)
            return key if key is not None and key.algorithm_name == algorithm else None
        fitting = [key for key in self._keys.values() if key.algorithm_name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self, kid: str | None, algorithm: str) -> None:
        async with self._lock:
            # Somebody may have brought the keys while we waited for the lock.
            if self._age() <= KEYS_FRESH_S and self._find(kid, algorithm) is not None:
                return
            if self._now() - self._tried < REFETCH_S:
                return
            self._tried = self._now()
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    document = await asyncio.to_thread(self._fetch, self._issuer)
            except (OSError, ValueError, RecursionError):
                return
            self._keys, self._fetched = _usable_keys(document), self._now()


def _usable_keys(document: Mapping[str, Any]) -> Keys:
    """The signature keys of a key set that we may use, by `kid`; others are left out, as RFC 7517, section 5, wants."""
    listed = document.get("keys")
    keys: dict[str | None, jwt.PyJWK] = {}
    for index, fields in enumerate(listed if isinstance(listed, list) else ()):
        key = _usable_key(fields)
        if key is not None:
            keys[key.key_id if isinstance(key.key_id, str) else f"\0{index}"] = key
    return keys


def _usable_key(fields: object) -> jwt.PyJWK | None:
    if not isinstance(fields, dict) or fields.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(fields)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if key.algorithm_name not in ISSUER_ALGORITHMS:
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < RSA_BITS_MIN:
        return None
    return key


def _unauthenticated(why: str) -> Refused:
    return Refused("unauthenticated", f"The token was refused: {why}.")
