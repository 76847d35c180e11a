"""Connections that don't ask: the oldest goes where there are too many, each goes when its time is over."""

import asyncio
from typing import Any

from hub.edge.arrivals import Arrivals
from hub.settings import Settings


class Guest:
    """A connection that notes how it was sent away."""

    def __init__(self) -> None:
        self.told = ""
        self.news = asyncio.Event()

    def late(self) -> None:
        """The head didn't come."""
        self.told = "late"
        self.news.set()

    def overdue(self) -> None:
        """The request isn't over."""
        self.told = "overdue"
        self.news.set()


def arrivals(**changed: Any) -> Arrivals:
    """With these limits."""
    return Arrivals(Settings(**changed))


async def test_the_oldest_of_an_address_goes() -> None:
    """Past the limit of an address the one that has waited longest is let go, the newcomer stays; others aren't touched."""
    here = arrivals(connections_waiting_per_address=2, sockets_per_address=1)
    guests = [Guest() for _ in range(3)]
    other = Guest()
    here.came(other, "192.0.2.9")
    for guest in guests:
        here.came(guest, "192.0.2.7")
    assert [one.told for one in (*guests, other)] == ["late", "", "", ""]
    assert here.quotas.refused == {"connections_waiting_per_address": 1}


async def test_a_network_of_ipv6_counts_as_one() -> None:
    """Addresses of one /64 are one place."""
    here = arrivals(connections_waiting_per_address=1, sockets_per_address=1)
    one, two = Guest(), Guest()
    here.came(one, "2001:db8::1")
    here.came(two, "2001:db8::2")
    assert (one.told, two.told) == ("late", "")


async def test_the_oldest_of_all_goes() -> None:
    """Past the node's limit too, and behind a trusted proxy only that one counts."""
    here = arrivals(
        connections_waiting_per_node=2,
        connections_waiting_per_address=1,
        sockets_per_address=1,
        trusted_proxies=("10.0.0.1",),
    )
    guests = [Guest() for _ in range(3)]
    for guest in guests:
        here.came(guest, "10.0.0.1")
    assert [guest.told for guest in guests] == ["late", "", ""]
    assert here.quotas.refused == {"connections_waiting_per_node": 1}


async def test_each_has_its_time() -> None:
    """A head that doesn't come, and a request that isn't over, end it; who is done is left alone."""
    here = arrivals(request_head_ms=1, request_ms=1)
    waits, asks, done = Guest(), Guest(), Guest()
    for guest in (waits, asks, done):
        here.came(guest, "192.0.2.7")
    here.asked(asks)
    here.asked(done)
    here.done(done)
    await asyncio.gather(waits.news.wait(), asks.news.wait())
    assert (waits.told, asks.told, done.told) == ("late", "overdue", "")
    assert not here.waiting
    assert not here.asking
    assert not here._of_network
    assert here.quotas.refused == {"request_head_ms": 1, "request_ms": 1}


async def test_files_have_more_time() -> None:
    """One that moves a file isn't over with the others, and has its end all the same."""
    here = arrivals(request_ms=1, file_transfer_ms=600)
    asks, moves = Guest(), Guest()
    for guest, moves_file in ((moves, True), (asks, False)):
        here.came(guest, "192.0.2.7")
        here.asked(guest, moves_file=moves_file)
    await asks.news.wait()
    assert (asks.told, moves.told) == ("overdue", "")
    assert here.knows(moves)
    await moves.news.wait()
    assert not here.moving


async def test_nothing_is_kept_of_who_is_done() -> None:
    """Tables are empty when everybody has gone, however often that is said."""
    here = arrivals()
    guest = Guest()
    here.came(guest, "192.0.2.7")
    here.asked(guest)
    assert here.knows(guest)
    here.done(guest)
    here.done(guest)
    assert not here.knows(guest)
    assert not here._of_network
