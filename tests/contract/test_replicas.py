"""Answers wait for replicas where there are any, and say so where there aren't enough; whom the Sentinels name."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from hub.store.connection import EMPTY_WAITS_MAX, LOOK_S, REPLICA_WAIT_MS, Unavailable, Unknown
from hub.store.embedded import find_engine
from hub.store.keys import Keys
from hub.store.topology import VOUCHED_S, Primaries
from tests.support.engines import Engine, Engines, followed, wait_until
from tests.support.processes import free_port
from tests.support.socket import eventually

AT_ONCE = ("--repl-diskless-sync-delay", "0")
SENTINELS = 3


class Pair:
    """A primary and its replica; `primaries` are a hub's connections to it."""

    def __init__(self, primary: Engine, replica: Engine, primaries: Primaries) -> None:
        self.primary = primary
        self.replica = replica
        self.primaries = primaries

    def set(self, key: bytes, value: int) -> "asyncio.Future[Any]":
        """Write a value."""
        return self.primaries.call("commit", key, b"SET", key, b"%d" % value)

    def durable(self, key: bytes) -> bool:
        """What the hub says of it."""
        return self.primaries.durable(key)


def replica_of(primary: Engine) -> Engine:
    """A replica that has caught up."""
    options = (*AT_ONCE, "--replicaof", f"127.0.0.1 {primary.port}")
    replica = Engine(str(find_engine()), port=free_port(), options=options).start()
    wait_until(lambda: followed(primary), "a replica that follows")
    return replica


@contextlib.contextmanager
def two_engines() -> Iterator[tuple[Engine, Engine]]:
    """A primary and its replica."""
    with contextlib.ExitStack() as ends:
        primary = Engine(str(find_engine()), port=free_port(), options=AT_ONCE)
        ends.callback(primary.remove)
        replica = replica_of(primary.start())
        ends.callback(replica.remove)
        yield primary, replica


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Engine, Engine]]:
    """A primary and its replica, shared: it takes them a second or two to find each other."""
    with two_engines() as both:
        yield both


@contextlib.asynccontextmanager
async def connected(primary: Engine, replica: Engine) -> AsyncIterator[Pair]:
    """Connections that want a write on one replica."""
    primaries = await Primaries.connect(f"redis://127.0.0.1:{primary.port}", replicas=1)
    try:
        yield Pair(primary, replica, primaries)
    finally:
        await primaries.aclose()


@pytest_asyncio.fixture
async def pair(two: tuple[Engine, Engine]) -> AsyncIterator[Pair]:
    """The shared two, and connections of one's own."""
    async with connected(*two) as own:
        yield own


async def test_a_write_is_answered_when_a_replica_has_it(pair: Pair, keys: Keys) -> None:
    """Nothing is answered as durable that the replica doesn't have at that moment."""
    key = keys.base(0) + b"n"
    for value in range(50):
        assert await pair.set(key, value) == b"OK"
        assert pair.durable(key)
        assert pair.replica.ask("GET", key) == b"%d" % value


async def test_a_killed_primary_takes_nothing_that_was_answered(keys: Keys) -> None:
    """Writes of many tasks, the primary killed amid them: the replica has each one that was answered."""
    with two_engines() as two:
        async with connected(*two) as pair:
            await _written_and_killed(pair, keys)


async def _written_and_killed(pair: Pair, keys: Keys) -> None:
    base, answered = keys.base(0), list[bytes]()

    async def write(number: int) -> None:
        for turn in range(10_000):
            key = base + b"%d:%d" % (number, turn)
            try:
                await pair.set(key, turn)
            except (Unavailable, Unknown):
                return
            assert pair.durable(key)
            answered.append(key)

    writers = [asyncio.create_task(write(number)) for number in range(20)]
    await eventually(lambda: _true(len(answered) > 2_000), 20)
    pair.primary.kill()
    await asyncio.gather(*writers)
    missing = [key for key in answered if pair.replica.ask("EXISTS", key) == 0]
    assert missing == []


async def test_what_comes_while_one_waits_leaves_together(pair: Pair, keys: Keys) -> None:
    """One pipeline at a time: calls made while replicas are waited for share the next write, in their order."""
    lane, key = pair.primaries._lane("commit", keys.base(0)), keys.base(0) + b"list"
    before, calls = lane.writes, []
    for number in range(200):
        calls.append(pair.primaries.call("commit", key, b"RPUSH", key, b"%d" % number))
        await asyncio.sleep(0)  # a turn of the loop each, which would be a write each
    assert await asyncio.gather(*calls) == list(range(1, 201))
    assert pair.primary.ask("LRANGE", key, "0", "-1") == [b"%d" % number for number in range(200)]
    assert lane.writes - before < 100


async def test_a_frozen_replica_is_said_and_then_not_waited_for(pair: Pair, keys: Keys) -> None:
    """After some empty waits answers come at once, `durable` is False until the replica keeps up again."""
    key, loop = keys.base(0) + b"n", asyncio.get_running_loop()
    with pair.replica.frozen():
        for value in range(EMPTY_WAITS_MAX):
            assert await pair.set(key, value) == b"OK"
            assert not pair.durable(key)
        began = loop.time()
        for value in range(20):
            await pair.set(key, value)
        assert loop.time() - began < 20 * REPLICA_WAIT_MS / 1000
        assert not pair.durable(key)

    async def durable_again() -> bool:
        await pair.set(key, 7)
        return pair.durable(key)

    await eventually(durable_again, 20 * LOOK_S)
    assert pair.replica.ask("GET", key) == b"7"


async def test_a_replica_that_comes_later_is_waited_for(keys: Keys) -> None:
    """A server without replicas is enough as it is; one that gets a replica is waited for from then on."""
    primary = Engine(str(find_engine()), port=free_port(), options=AT_ONCE).start()
    primaries = await Primaries.connect(f"redis://127.0.0.1:{primary.port}", replicas=1)
    key = keys.base(0) + b"n"
    try:
        await primaries.call("commit", key, b"INCR", key)
        assert primaries.durable(key)
        assert _waits(primary) == 0
        replica = await asyncio.to_thread(replica_of, primary)

        async def waited() -> bool:
            await primaries.call("commit", key, b"INCR", key)
            return _waits(primary) > 0

        await eventually(waited, 10 * LOOK_S)
        replica.remove()
        await primaries.call("commit", key, b"INCR", key)
        assert not primaries.durable(key)
    finally:
        await primaries.aclose()
        primary.remove()


async def test_nobody_waits_where_no_replica_is_wanted(pair: Pair, keys: Keys) -> None:
    """With 0 answers come from the primary alone, and are what was asked for."""
    before = _waits(pair.primary)
    primaries = await Primaries.connect(f"redis://127.0.0.1:{pair.primary.port}", replicas=0)
    key = keys.base(0) + b"n"
    with pair.replica.frozen():
        assert await primaries.call("commit", key, b"INCR", key) == 1
        assert primaries.durable(key)
    assert _waits(pair.primary) == before
    await primaries.aclose()


def _waits(engine: Engine) -> int:
    """How many WAITs a server was sent."""
    stats = engine.ask("INFO", "commandstats").decode()
    line = next((line for line in stats.splitlines() if line.startswith("cmdstat_wait:")), "=0,")
    return int(line.partition("=")[2].partition(",")[0])


async def _true(value: bool) -> bool:
    return value


@pytest.fixture
def sentinels(valkey: Engines) -> Iterator[tuple[Engine, list[Engine]]]:
    """A primary, and three Sentinels that watch it."""
    primary = Engine(str(find_engine()), port=free_port()).start()
    three = [Engine.sentinel(str(find_engine()), "main", primary).start() for _ in range(SENTINELS)]
    yield primary, three
    for engine in (*three, primary):
        engine.remove()


async def test_a_primary_is_believed_while_most_sentinels_name_it(
    sentinels: tuple[Engine, list[Engine]], keys: Keys
) -> None:
    """With one Sentinel of three the primary answers, but isn't vouched for; with two it is again. Nor is it at once."""
    _, three = sentinels
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in three)
    primaries = await Primaries.connect(f"redis+sentinel://{hosts}/main", timeout_s=0.5)
    key = keys.base(0) + b"n"
    try:
        assert await _true(not primaries.vouched)
        await primaries.believed()
        assert await _true(primaries.vouched)
        for sentinel in three[:2]:
            sentinel.signal(signal.SIGSTOP)
        await eventually(lambda: _true(not primaries.vouched), VOUCHED_S + 5)
        assert await primaries.call("commit", key, b"INCR", key) == 1
        three[0].signal(signal.SIGCONT)
        await eventually(lambda: _true(primaries.vouched), 10)
        three[2].kill()
        three[1].signal(signal.SIGCONT)
        await eventually(lambda: _true(primaries.vouched), 10)
    finally:
        await primaries.aclose()
