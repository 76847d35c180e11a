"""
The public keys of a configured issuer (JWKS, RFC 7517), fetched before anybody needs them.

    IssuerKeys.keep()           fetches at start and again before the keys are stale; the hub runs one of these per issuer
    IssuerKeys.key(kid, alg)    the key to check a token with; waits only where that may change the answer

How long things are believed (`KeyTimes`, from the settings): a key that the issuer withdrew is taken for at most
`fresh_ms`, or, while the issuer can't be reached, `usable_ms`, so that its outage isn't ours. Whoever shows a `kid` that
isn't known makes the hub look once; for `again_ms` that `kid` is then known to be unknown, and a flood of made-up ones
costs the issuer `ON_DEMAND` fetches and then one per `again_ms`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from hub.domain.errors import Refused
from hub.settings import IssuerSettings, Settings

log = logging.getLogger(__name__)

ISSUER_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
RSA_BITS_MIN: Final = 2_048
FETCH_TIMEOUT_S: Final = 5.0
JWKS_BYTES_MAX: Final = 1_048_576
KID_CHARS_MAX: Final = 256
MISSING_MAX: Final = 256  # unknown `kid`s that are remembered
ON_DEMAND: Final = 4  # fetches in a row for unknown `kid`s
READ_BYTES: Final = 65_536

Keys = Mapping[str | None, jwt.PyJWK]
Fetch = Callable[[IssuerSettings], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """How long what is known of an issuer's keys holds; see the module."""

    fresh_ms: int
    usable_ms: int
    again_ms: int

    @classmethod
    def of(cls, settings: Settings) -> KeyTimes:
        """As configured."""
        return cls(settings.keys_fresh_ms, settings.keys_usable_ms, settings.keys_again_ms)


def fetch_keys(issuer: IssuerSettings) -> Mapping[str, Any]:
    """
    An issuer's key set from its URL or file; blocks for at most twice `FETCH_TIMEOUT_S`.

    Raises:
        OSError: it can't be reached or read, or answers too slowly.
        ValueError: it isn't a JSON object, or larger than 1 MiB.
        http.client.HTTPException: what came isn't HTTP.
    """
    body = issuer.jwks_file.read_bytes() if issuer.jwks_file is not None else _read_address(issuer.jwks_url or "")
    if len(body) > JWKS_BYTES_MAX:
        raise ValueError("larger than 1 MiB")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def _read_address(url: str) -> bytes:
    """What stands there, up to one byte too much. The time-out is of each read, so the whole has its own."""
    ends = time.monotonic() + FETCH_TIMEOUT_S
    body = b""
    with urllib.request.build_opener(_NoRedirects).open(url, timeout=FETCH_TIMEOUT_S) as answer:
        while len(body) <= JWKS_BYTES_MAX and (part := answer.read1(READ_BYTES)):
            body += part
            if time.monotonic() > ends:
                raise TimeoutError("too slow")
    return body


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as an error: keys come from the address that was configured, or not at all."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        return None


class IssuerKeys:
    """
    One issuer's keys; see the module. `now` gives rising seconds, `fetch` brings the key set and may block.

    A fetch runs in a thread, one at a time.
    """

    def __init__(self, issuer: IssuerSettings, fetch: Fetch, now: Callable[[], float], times: KeyTimes) -> None:
        self.issuer = issuer
        self.tried = asyncio.Event()  # set after the first fetch, whatever came of it
        self._fetch = fetch
        self._now = now
        self._times = times
        self._keys: Keys = {}
        self._fetched = -math.inf
        self._failing = False
        self._missing: OrderedDict[tuple[str | None, str], float] = OrderedDict()  # until when
        self._tokens = float(ON_DEMAND)  # a bucket of fetches for unknown keys
        self._tokens_at = now()
        self._lock = asyncio.Lock()

    async def keep(self) -> None:
        """Fetch now and always again before the keys are stale; for ever."""
        while True:
            async with self._lock:
                await self._load()
            times = self._times
            pause_ms = min(times.again_ms, times.fresh_ms / 2) if self._failing else times.fresh_ms / 2
            await asyncio.sleep(pause_ms / 1000)

    async def key(self, kid: object, algorithm: str) -> jwt.PyJWK:
        """
        The key of this id that is made for this algorithm; without an id the only one that is. Safe to cancel.

        Raises:
            Refused: `unauthenticated`: there is none, or the keys can't be had.
        """
        if kid is not None and (not isinstance(kid, str) or len(kid) > KID_CHARS_MAX):
            raise _unknown()
        key = self._find(kid, algorithm)
        if key is None:
            key = await self._look_for(kid, algorithm)
        elif self._stale() and not self._failing:  # nobody keeps them, or this process stood still
            await self._refresh(self._stale)
            key = self._find(kid, algorithm)
        if key is None or self._age() * 1000 >= self._times.usable_ms:
            raise _unknown()
        return key

    async def _look_for(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """A key that isn't known: ask the issuer, unless it was asked lately."""
        asked = self._now()
        if self._missing.get((kid, algorithm), -math.inf) > asked:
            return None
        # Whoever waited for somebody else's fetch has its answer, too.
        await self._refresh(lambda: self._fetched < asked and self._may_ask())
        key = self._find(kid, algorithm)
        if key is None and self._fetched >= asked:
            self._missing[kid, algorithm] = self._now() + self._times.again_ms / 1000
            self._missing.move_to_end((kid, algorithm))
            if len(self._missing) > MISSING_MAX:
                self._missing.popitem(last=False)
        return key

    def _may_ask(self) -> bool:
        now = self._now()
        grown = (now - self._tokens_at) * 1000 / self._times.again_ms
        self._tokens, self._tokens_at = min(ON_DEMAND, self._tokens + grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _refresh(self, wanted: Callable[[], bool]) -> None:
        async with self._lock:
            if wanted():
                await self._load()

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                document = await asyncio.to_thread(self._fetch, self.issuer)
            self._keys, self._fetched = usable_keys(document), self._now()
            if self._failing:
                log.info("the keys of issuer %s can be fetched again", self.issuer.issuer)
            self._failing = False
        except Exception as error:  # whatever a broken issuer sends: who keeps the keys must go on
            if not self._failing:
                log.warning("the keys of issuer %s can't be fetched: %s", self.issuer.issuer, type(error).__name__)
            self._failing = True
        finally:
            self.tried.set()

    @property
    def age_s(self) -> float:
        """Seconds since the keys were fetched; infinite where they never were."""
        return self._age()

    def _age(self) -> float:
        return self._now() - self._fetched

    def _stale(self) -> bool:
        return self._age() * 1000 > self._times.fresh_ms

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if kid is not None:
            key = self._keys.get(kid)
            return key if key is not None and key.algorithm_name == algorithm else None
        fitting = [key for key in self._keys.values() if key.algorithm_name == algorithm]
        return fitting[0] if len(fitting) == 1 else None


def usable_keys(document: Mapping[str, Any]) -> Keys:
    """
    The signature keys of a key set that we may use, by `kid`; others are left out, as RFC 7517, section 5, wants.

    Raises:
        ValueError: it is no key set, which says nothing of the keys there were.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("no key set")
    keys: dict[str | None, jwt.PyJWK] = {}
    for index, fields in enumerate(listed):
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


def _unknown() -> Refused:
    return Refused("unauthenticated", "The token was refused: its key isn't known.")
