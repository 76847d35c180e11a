"""What leaves at the end of a turn: once for many, in order, and nobody's trouble is another's."""

import asyncio

import pytest
from websockets.frames import Frame
from websockets.streams import StreamReader

from hub.edge.turn import Packet, Turn
from hub.metrics import Meter

BYTES_MAX = 300_000


class One:
    """A session that writes down its packets; `fails` raises instead."""

    def __init__(self, turn: Turn, *, fails: bool = False) -> None:
        self.turn = turn
        self.fails = fails
        self.out: list[bytes] | None = None
        self.packets: list[Packet] = []

    def send(self, *objects: bytes) -> None:
        """As sessions do."""
        if self.out is None:
            self.out = []
            self.turn.add(self)
        self.out += objects

    def write_out(self, packet: Packet) -> None:
        """Keep it."""
        if self.fails:
            raise RuntimeError("a write that fails")
        self.packets.append(packet)


@pytest.fixture
def meter() -> Meter:
    """What the turn counts."""
    return Meter()


@pytest.fixture
def turn(meter: Meter) -> Turn:
    """A node's."""
    return Turn(meter, BYTES_MAX)


def texts_in(wire: bytes) -> list[bytes]:
    """The text frames in what a server sent, by the library."""
    reader, frames = StreamReader(), []
    reader.feed_data(wire)
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=False, max_size=None)
        with pytest.raises(StopIteration) as parsed:
            next(parser)
        frames.append(parsed.value.value.data)
    return frames


async def test_the_same_objects_are_one_packet(turn: Turn, meter: Meter) -> None:
    """Sessions that were sent the same objects in the same order share the bytes; any other one has its own."""
    one, two, three, four = (One(turn) for _ in range(4))
    first, second = b'{"a":1}', b'{"b":2}'
    equal = bytes(bytearray(first))  # another object
    for session, objects in (
        (one, (first, second)),
        (two, (first, second)),
        (three, (second, first)),
        (four, (equal,)),
    ):
        session.send(*objects)
    await asyncio.sleep(0)
    [packet] = one.packets
    assert two.packets[0] is packet
    assert texts_in(packet.wire) == [b'{"a":1}\n{"b":2}']
    assert texts_in(three.packets[0].wire) == [b'{"b":2}\n{"a":1}']
    assert texts_in(four.packets[0].wire) == [b'{"a":1}']
    assert (meter.deliveries, meter.writes, meter.bytes) == (7, 4, 49)


async def test_a_turn_is_over_when_it_was_written(turn: Turn) -> None:
    """What is sent later leaves later, each once."""
    one = One(turn)
    one.send(b"1")
    await asyncio.sleep(0)
    one.send(b"2")
    one.send(b"3")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [packet.objects for packet in one.packets] == [[b"1"], [b"2", b"3"]]


async def test_at_once(turn: Turn, meter: Meter) -> None:
    """One session's part may leave before the others'; it isn't written again, and nothing is counted twice."""
    one, two = One(turn), One(turn)
    one.send(b"1")
    two.send(b"2")
    turn.now(one)
    assert [packet.objects for packet in one.packets] == [[b"1"]]
    assert not two.packets
    turn.now(one)
    await asyncio.sleep(0)
    assert (len(one.packets), len(two.packets), meter.deliveries) == (1, 1, 2)


async def test_a_write_that_fails_is_nobody_elses(turn: Turn) -> None:
    """The sessions behind it get theirs."""
    one, two = One(turn, fails=True), One(turn)
    one.send(b"1")
    two.send(b"2")
    await asyncio.sleep(0)
    assert [packet.objects for packet in two.packets] == [[b"2"]]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_heads(size: int) -> None:
    """Each of the three forms of a length is read back by the library."""
    assert texts_in(Packet([b"x" * size], BYTES_MAX).wire) == [b"x" * size]


def test_objects_are_joined_within_the_limit() -> None:
    """Objects share a frame as long as it has at most so many bytes."""
    packet = Packet([b"a" * 4, b"b" * 4, b"c" * 4], 9)
    assert texts_in(packet.wire) == [b"aaaa\nbbbb", b"cccc"]
    assert packet.size == 12
