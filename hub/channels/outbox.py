"""
Actions on their way to platforms: one per conversation at a time, the next when it was reported, again after a while.

Which action is next, and who may send it now, is the store's to say (`claim`); this only knows who is connected here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hub.domain.errors import Refused
from hub.domain.grants import Person

if TYPE_CHECKING:
    from hub.fanout.node import Node

log = logging.getLogger(__name__)

REPEAT_LOOK_S = 1.0


class Platform(Protocol):
    """A platform's socket."""

    person: Person
    closed: bool

    def send(self, frame: bytes) -> None:
        """Send one frame; never waits."""


class Line:
    """One platform, as connected to this node."""

    def __init__(self) -> None:
        self.platforms: list[Platform] = []
        self.wanted: set[int] = set()
        self.channels: dict[bytes, int] = {}
        self.busy: asyncio.Task[None] | None = None
        self.heard: asyncio.Future[Any] | None = None  # done when its channels are subscribed
        self.joining: dict[Platform, set[bytes]] = {}  # what each socket got before it was given all that waits


class Outbox:
    """Hands the actions of each platform that is connected here to one of its sockets."""

    def __init__(self, node: Node, delivered: Container[tuple[str, str]] = ()) -> None:
        """`delivered`: (organization, connector) of those that the hub delivers for by itself: no socket gets actions."""
        self._node = node
        self._delivered = delivered
        self._lines: dict[tuple[str, str], Line] = {}
        self._repeats: asyncio.Task[None] | None = None

    async def listen(self, platform: Platform) -> None:
        """A socket of a platform is there: what waits comes at once, also what another socket got and didn't report."""
        person = platform.person
        key = (person.org, person.user_id)
        if key in self._delivered:
            return
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line()
            base = self._node.store.keys.base
            for p in self._node.store.partitions():
                name = b"%bwake:%b/%b" % (base(p), person.org.encode(), person.user_id.encode())
                line.channels[name] = p
            line.heard = asyncio.gather(
                *(self._node.follower.channel(name, partial(self._woken, key, p)) for name, p in line.channels.items()),
                return_exceptions=True,  # one that isn't confirmed yet will be: until then we look by the clock
            )
        line.platforms.append(platform)  # at once: it may leave while this waits
        line.joining[platform] = set()
        assert line.heard is not None
        try:
            await asyncio.shield(line.heard)
            if platform.closed:
                return
            await asyncio.gather(*(self._claim(key, p, again=platform) for p in self._node.store.partitions()))
        finally:
            del line.joining[platform]

    def leave(self, platform: Platform) -> None:
        """It has gone."""
        key = (platform.person.org, platform.person.user_id)
        line = self._lines.get(key)
        if line is None or platform not in line.platforms:
            return
        line.platforms.remove(platform)
        if not line.platforms:
            del self._lines[key]
            for name in line.channels:
                self._node.follower.drop_channel(name)

    def _woken(self, key: tuple[str, str], p: int, _payload: bytes) -> None:
        line = self._lines.get(key)
        if line is None:
            return
        line.wanted.add(p)
        if line.busy is None:
            line.busy = self._node.spawn(self._drain(key, line))

    async def _drain(self, key: tuple[str, str], line: Line) -> None:
        try:
            while line.wanted:
                await self._claim(key, line.wanted.pop())
        finally:
            line.busy = None

    async def _claim(self, key: tuple[str, str], p: int, *, again: Platform | None = None) -> None:
        """Send what is due; `again`: a socket that has just come, which gets what others were given and didn't report."""
        if key not in self._lines:
            return  # nobody here: others may claim it
        for _, action in await self._node.store.claim(p, *key, again=again is not None):
            line = self._lines.get(key)
            if line is None:
                return  # claimed, and due again when the claim is over
            platform = line.platforms[-1]
            given = line.joining.get(platform)
            if given is not None:
                if again is platform and action in given:
                    continue  # became due, and was sent to it, while it was joining
                given.add(action)
            platform.send(action.partition(b" ")[2])

    def start(self) -> None:
        """Begin to look for what is due again."""
        self._repeats = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Hand out nothing more."""
        if self._repeats is not None:
            self._repeats.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_LOOK_S)
            for key in list(self._lines):
                try:
                    await asyncio.gather(*(self._claim(key, p) for p in self._node.store.partitions()))
                except Refused as refused:
                    log.warning("looking for actions: %s", refused.code)
                except Exception:
                    log.exception("looking for actions failed")  # and would end this task for everybody
