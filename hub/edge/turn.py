"""
What leaves at the end of a turn of the loop, of all sessions of a node.

A session's frames gather during a turn and leave in one write. When one event is for many, these are the same objects in
the same order for all of them, so they are joined and framed once: known by identity, which costs nothing to look up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from hub.metrics import Meter
from hub.protocol.encode import batch

log = logging.getLogger(__name__)

_SHORT: Final = [b"\x81" + bytes((size,)) for size in range(126)]


def text_head(size: int) -> bytes:
    """What stands before a server's text frame of that many bytes (RFC 6455, section 5.2)."""
    if size < 126:
        return _SHORT[size]
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


class Packet:
    """
    What one session is sent in one write, and perhaps many others, too.

    `objects` are the protocol's, `frames` the text frames they are joined to, `wire` is these as they stand on the wire,
    `size` the objects' bytes.
    """

    __slots__ = ("frames", "objects", "size", "wire")

    def __init__(self, objects: Sequence[bytes], bytes_max: int) -> None:
        self.objects = objects
        self.frames: Sequence[bytes] = objects if len(objects) == 1 else batch(objects, bytes_max)
        self.wire = b"".join([part for frame in self.frames for part in (text_head(len(frame)), frame)])
        self.size = sum(map(len, objects))


_NOTHING: Final = Packet([b""], 1)


class Leaving(Protocol):
    """A session, as a turn sees it: `out` is what gathered, None where nothing did, or nothing may leave any more."""

    out: list[bytes] | None

    def write_out(self, packet: Packet) -> None:
        """Write it, and judge whether the peer keeps up."""


class Turn:
    """The present turn's sessions with something to send."""

    __slots__ = ("_bytes_max", "_loop", "_meter", "_sessions")

    def __init__(self, meter: Meter, bytes_max: int) -> None:
        self._meter = meter
        self._bytes_max = bytes_max
        self._sessions: list[Leaving] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, session: Leaving) -> None:
        """A session has its first frame of this turn."""
        if not self._sessions:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self.end)
        self._sessions.append(session)

    def end(self) -> None:
        """Write what gathered."""
        sessions, self._sessions = self._sessions, []
        packets: dict[int | tuple[int, ...], Packet] = {}  # each keeps its objects alive, and so their identity
        deliveries = size = writes = 0
        last: Sequence[bytes] = ()
        packet = _NOTHING
        for session in sessions:
            objects = session.out
            if objects is None:
                continue
            session.out = None
            if objects is not last:  # what is shared comes many times in a row
                key = id(objects[0]) if len(objects) == 1 else tuple(map(id, objects))
                found = packets.get(key)
                packet = packets[key] = Packet(objects, self._bytes_max) if found is None else found
                last = objects
            deliveries += len(objects)
            size += packet.size
            writes += 1
            try:
                session.write_out(packet)
            except Exception:
                log.exception("a write failed")  # the others' are made
        self._count(deliveries, size, writes)

    def now(self, session: Leaving) -> None:
        """Write one session's part at once; the rest of its turn finds nothing."""
        objects, session.out = session.out, None
        if objects is not None:
            packet = Packet(objects, self._bytes_max)
            session.write_out(packet)
            self._count(len(objects), packet.size, 1)

    def _count(self, deliveries: int, size: int, writes: int) -> None:
        meter = self._meter
        meter.deliveries += deliveries
        meter.bytes += size
        meter.writes += writes
