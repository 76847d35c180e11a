"""
Quotas: how much one address, person, organization and this node may ask for, so that nobody takes from everybody else.

    Quotas.take(limit, key, now)            one of a rate: 0, or the milliseconds until there is one
    Quotas.spend(limit, key, now, amount)   an amount of a rate that is known only afterwards
    Quotas.full, .hold, .release            what is held for a while: subscriptions
    Quotas.refused                          how often each limit said no, by its name alone

Limits are called like their settings. A rate may be used up for `BURST_S` seconds at once. A limit of 0 is none. What is
remembered is bounded: past `KEYS_MAX` keys of one limit the one that was silent longest is forgotten, and begins anew
with a full burst.

Commands are counted apart for each endpoint, or a supervisor who monitors would use up what an agent of the same
organization, office or person may send, and the agent could feel it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.settings import LIMITS, Settings

BURST_S: Final = 10
KEYS_MAX: Final = 20_000  # of one limit; some 300 bytes each
MOVED_S: Final = 1.0  # how exactly it is known which key was silent longest: moving one costs more than counting
SCOPES: Final = ("address", "user", "org", "node")
COMMANDS: Final = {scope: f"commands_per_{scope}_per_s" for scope in SCOPES}
NODE: Final = ""  # the key of what concerns the whole node


class Over(NamedTuple):
    """A limit that was passed: its name, what it allows, and the milliseconds after which it is worth asking again."""

    limit: str
    most: int
    retry_ms: int

    def refused(self, message: str) -> Refused:
        """The refusal that says so."""
        return Refused("rate_limited", message, {"retry_ms": self.retry_ms, "limit": self.limit, "max": self.most})


class _Bucket:
    """What is left of one rate: `tokens` as of `at`; `moved` is when it was last put behind those that were silent."""

    __slots__ = ("at", "burst", "moved", "tokens")

    def __init__(self, burst: float, now: float) -> None:
        self.tokens = self.burst = burst
        self.at = self.moved = now


class Quotas:
    """All counts of one node. `now` is in seconds, rising."""

    def __init__(self, settings: Settings, *, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._most: dict[str, int] = {name: getattr(settings, name) for name in LIMITS}
        self._bursts = {name: float(most * BURST_S) for name, most in self._most.items()}
        coming_back = "handshakes_per_address_per_s"  # all sockets of an address may come back at once
        self._bursts[coming_back] = max(self._bursts[coming_back], float(settings.sockets_per_address))
        self._buckets: defaultdict[str, OrderedDict[Hashable, _Bucket]] = defaultdict(OrderedDict)
        self._held: Counter[tuple[str, Hashable]] = Counter()
        self.refused: Counter[str] = Counter()

    def most(self, limit: str) -> int:
        """What the setting of that name allows; 0: everything."""
        return self._most[limit]

    def over(self, limit: str, retry_ms: int) -> Over:
        """A limit that somebody was stopped by; counted."""
        self.refused[limit] += 1
        return Over(limit, self.most(limit), retry_ms)

    # -- rates -------------------------------------------------------------------------------------------------------

    def take(self, limit: str, key: Hashable, now: float) -> int:
        """0 where there was one, else the milliseconds until there is."""
        rate = self._most[limit]
        if not rate:
            return 0
        bucket = self._bucket(limit, key, now, rate)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0
        return int((1 - bucket.tokens) / rate * 1000) + 1

    def spend(self, limit: str, key: Hashable, now: float, amount: int) -> bool:
        """False where nothing was left; else `amount` is gone, and what it was too much is a debt of those who come next."""
        rate = self._most[limit]
        if not rate:
            return True
        bucket = self._bucket(limit, key, now, rate)
        if bucket.tokens <= 0:
            return False
        bucket.tokens -= amount
        return True

    def first_over(self, limits: Iterable[tuple[str, Hashable]], now: float) -> Over | None:
        """Take one of each of these rates; the first of which there was none."""
        for limit, key in limits:
            if retry_ms := self.take(limit, key, now):
                return self.over(limit, retry_ms)
        return None

    def _bucket(self, limit: str, key: Hashable, now: float, rate: int) -> _Bucket:
        """What is left of a rate as of now."""
        table = self._buckets[limit]
        bucket = table.get(key)
        if bucket is None:
            bucket = table[key] = _Bucket(self._bursts[limit], now)
            if len(table) > self._keys_max:
                table.popitem(last=False)
            return bucket
        tokens = bucket.tokens + (now - bucket.at) * rate
        bucket.tokens = tokens if tokens < bucket.burst else bucket.burst
        bucket.at = now
        if now - bucket.moved >= MOVED_S:
            bucket.moved = now
            table.move_to_end(key)
        return bucket

    # -- what is held ------------------------------------------------------------------------------------------------

    def full(self, kind: str, keys: Iterable[tuple[str, Hashable]]) -> Over | None:
        """The first limit `<kind>_per_<scope>` that forbids one more under its (scope, key)."""
        for scope, key in keys:
            limit = f"{kind}_per_{scope}"
            if 0 < self.most(limit) <= self._held[(limit, key)]:
                return self.over(limit, 0)
        return None

    def hold(self, kind: str, keys: Iterable[tuple[str, Hashable]]) -> None:
        """Hold one more `kind` under each (scope, key)."""
        for scope, key in keys:
            self._held[(f"{kind}_per_{scope}", key)] += 1

    def release(self, kind: str, keys: Iterable[tuple[str, Hashable]]) -> None:
        """Hold one less."""
        for scope, key in keys:
            name = (f"{kind}_per_{scope}", key)
            self._held[name] -= 1
            if self._held[name] <= 0:
                del self._held[name]


def keys_of(address: str, person: Person, endpoint: str = "") -> tuple[tuple[str, Hashable], ...]:
    """
    (scope, key) for each of `SCOPES`; of an `endpoint` alone where one is given. `address` is a network (`proxies.network`).

    Somebody who isn't known yet (their organization is empty) counts by address and node only.
    """
    here: tuple[tuple[str, Hashable], ...] = (("address", (endpoint, address)), ("node", (endpoint, NODE)))
    if not person.org:
        return here
    user = (endpoint, person.org, person.role, person.user_id)
    return (here[0], ("user", user), ("org", (endpoint, person.org)), here[1])
