"""
Connections that haven't asked for anything yet, and requests that take too long: bounded in number, bytes and time.

    came     a connection was made, or a next request begins on it: its head must be there in `request_head_ms`
    asked    the head is there: the request must be over in `request_ms`, one that moves a file in `file_transfer_ms`
    done     it is over, became a WebSocket, or the connection has gone

Past `connections_waiting_per_address` or `connections_waiting_per_node` the one that has waited longest is let go, not the
newcomer: whoever means it asks at once, so an honest client gets in beside any number that only hold connections open.

One timer for all of them; the tables are in the order of their deadlines, since each has one time for all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from typing import Final, Protocol

from hub.edge.proxies import Proxies, network
from hub.edge.quotas import Quotas
from hub.settings import Settings

LOOK_S: Final = 0.25


class Arriving(Protocol):
    """A connection, as it is seen here."""

    def late(self) -> None:
        """The head didn't come in time, or others need the place."""

    def overdue(self) -> None:
        """The request isn't over in time."""


class Arrivals:
    """All of one server. Belongs to the running loop."""

    def __init__(self, settings: Settings, quotas: Quotas | None = None, proxies: Proxies | None = None) -> None:
        self.settings = settings
        self.quotas = quotas or Quotas(settings)
        self.proxies = proxies or Proxies(settings.trusted_proxies)
        self.head_bytes_max = settings.head_bytes_max
        self.waiting: OrderedDict[Arriving, tuple[float, str]] = OrderedDict()  # deadline, network
        self.asking: OrderedDict[Arriving, float] = OrderedDict()
        self.moving: OrderedDict[Arriving, float] = OrderedDict()  # files
        self._of_network: defaultdict[str, OrderedDict[Arriving, None]] = defaultdict(OrderedDict)
        self._timer: asyncio.TimerHandle | None = None

    def came(self, one: Arriving, address: str) -> None:
        """A head is expected of this connection; `address` is its peer's, which isn't counted where it is a trusted proxy."""
        loop = asyncio.get_running_loop()
        place = "" if self.proxies.believes(address) else network(address)
        self.waiting[one] = (loop.time() + self.settings.request_head_ms / 1000, place)
        self._of_network[place][one] = None
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look)
        most = max(self.settings.connections_waiting_per_address, self.settings.sockets_per_address)
        if place and len(self._of_network[place]) > most:
            self._let_go(next(iter(self._of_network[place])), "connections_waiting_per_address")
        if len(self.waiting) > self.settings.connections_waiting_per_node:
            self._let_go(next(iter(self.waiting)), "connections_waiting_per_node")

    def asked(self, one: Arriving, *, moves_file: bool = False) -> None:
        """Its head is there."""
        self._forget(one)
        loop = asyncio.get_running_loop()
        # A file's own time-out answers; this one, a little later, is for what no handler waits for.
        ms = self.settings.file_transfer_ms + self.settings.request_ms if moves_file else self.settings.request_ms
        under_way = self.moving if moves_file else self.asking
        under_way[one] = loop.time() + ms / 1000
        under_way.move_to_end(one)
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look)

    def done(self, one: Arriving) -> None:
        """Nothing is expected of it. Idempotent."""
        self._forget(one)
        self.asking.pop(one, None)
        self.moving.pop(one, None)

    def knows(self, one: Arriving) -> bool:
        """True where something is expected of it."""
        return one in self.waiting or one in self.asking or one in self.moving

    def _forget(self, one: Arriving) -> None:
        found = self.waiting.pop(one, None)
        if found is not None:
            place = self._of_network[found[1]]
            del place[one]
            if not place:
                del self._of_network[found[1]]

    def _let_go(self, one: Arriving, limit: str) -> None:
        self.quotas.over(limit, 0)
        self.done(one)
        one.late()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self.waiting and next(iter(self.waiting.values()))[0] <= now:
            self._let_go(next(iter(self.waiting)), "request_head_ms")
        for under_way in (self.asking, self.moving):
            while under_way and next(iter(under_way.values())) <= now:
                one, _ = under_way.popitem(last=False)
                self.quotas.over("request_ms", 0)
                one.overdue()
        self._timer = loop.call_later(LOOK_S, self._look) if self.waiting or self.asking or self.moving else None
