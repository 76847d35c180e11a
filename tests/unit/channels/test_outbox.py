"""Actions handed to platforms' sockets: what a socket gets while it joins."""

import asyncio
from typing import Any, cast

from hub.channels.outbox import Outbox
from hub.domain.grants import Person
from hub.fanout.node import Node
from hub.store.keys import Keys

NOTHING: frozenset[str] = frozenset()
PLATFORM = Person("crm", "CRM", "acme", "connector", NOTHING, NOTHING, NOTHING)
KEY = ("acme", "crm")
ACTION = b"act_1 frame"


class Platform:
    """A platform's socket that keeps what it is sent."""

    def __init__(self) -> None:
        self.person = PLATFORM
        self.closed = False
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        """Keep it."""
        self.frames.append(frame)


class Store:
    """One partition with one action that is due, or was claimed: `claims` notes each look."""

    def __init__(self) -> None:
        self.keys = Keys("hub")
        self.claims: list[bool] = []

    def partitions(self) -> list[int]:
        """The one partition."""
        return [0]

    async def claim(self, _p: int, _org: str, _connector: str, *, again: bool = False) -> list[tuple[str, bytes]]:
        """The action is always there: nobody reports it."""
        self.claims.append(again)
        return [("cnv_1", ACTION)]


class Follower:
    """A follower whose channels are confirmed when the test says so."""

    def __init__(self) -> None:
        self.confirmed = asyncio.Event()

    async def channel(self, _name: bytes, _woken: object) -> None:
        """Subscribed when confirmed."""
        await self.confirmed.wait()

    def drop_channel(self, _name: bytes) -> None:
        """Nothing to give back."""


class Parts:
    """What an outbox needs of a node."""

    def __init__(self) -> None:
        self.store = Store()
        self.follower = Follower()


async def joined(parts: Parts) -> tuple[Outbox, Platform, "asyncio.Task[None]"]:
    """An outbox, and a platform's socket on its way in."""
    outbox = Outbox(cast(Node, cast(Any, parts)))
    platform = Platform()
    return outbox, platform, asyncio.create_task(outbox.listen(platform))


async def test_what_became_due_while_it_joined_is_not_sent_twice() -> None:
    """
    The look by the clock finds an action between a socket's coming and its look at all that waits.

    Seen once in CI: a node had died with the claim, which ran out in just that time, and the socket got the same
    action twice in a row, long before its repeat was due.
    """
    parts = Parts()
    outbox, platform, joining = await joined(parts)
    await asyncio.sleep(0)
    await outbox._claim(KEY, 0)  # the look by the clock
    assert platform.frames == [b"frame"]
    parts.follower.confirmed.set()
    await joining
    assert parts.store.claims == [False, True]
    assert platform.frames == [b"frame"]


async def test_what_another_socket_did_not_report_comes_to_the_next_one() -> None:
    """A second socket gets what the first one was given."""
    parts = Parts()
    parts.follower.confirmed.set()
    outbox, first, joining = await joined(parts)
    await joining
    second = Platform()
    await outbox.listen(second)
    assert (first.frames, second.frames) == ([b"frame"], [b"frame"])


async def test_an_unreported_action_comes_again_to_the_same_socket() -> None:
    """Only what was sent while it joined is left out, and only then."""
    parts = Parts()
    parts.follower.confirmed.set()
    outbox, platform, joining = await joined(parts)
    await joining
    await outbox._claim(KEY, 0)
    assert platform.frames == [b"frame", b"frame"]


async def test_a_socket_that_left_while_it_joined_gets_nothing() -> None:
    """Nothing is claimed for it: others may."""
    parts = Parts()
    outbox, platform, joining = await joined(parts)
    await asyncio.sleep(0)
    platform.closed = True
    outbox.leave(platform)
    parts.follower.confirmed.set()
    await joining
    assert (parts.store.claims, platform.frames) == ([], [])
