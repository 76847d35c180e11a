"""Following logs on real engines: each entry once and in order, or an honest reset."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hub.store import follow
from hub.store.connection import Script, Unavailable
from hub.store.follow import Follower, Log
from hub.store.keys import Keys, new_tag, slot
from hub.store.topology import Primaries
from tests.support.engines import Engine, Engines

# What every writing script does: one entry into stream, top and channel at once. ARGV[4] = '0': not into the channel.
APPEND = Script(
    "append",
    b"""
    local c = redis.call('HMGET', KEYS[2], 'top', 'tag')
    local offset = (c[1] or 0) + 1
    local id = string.format('%d-%s', offset, ARGV[1])
    redis.call('XADD', KEYS[1], id, 'h', ARGV[2], 'e', ARGV[3])
    redis.call('HSET', KEYS[2], 'top', offset, 'tag', ARGV[1])
    if ARGV[4] == '1' then
      redis.call('SPUBLISH', KEYS[1], id .. ' ' .. (c[2] or '0') .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
    end
    return id
    """,
)


class Recorder(Log):
    """A log that writes down what it is told."""

    def __init__(self, keys: Keys, p: int = 0, name: str = "c") -> None:
        super().__init__(keys.transcript(p, "acme", name), keys.conversation(p, "acme", name))
        self.entries: list[tuple[int, bytes, bytes]] = []
        self.lives: list[tuple[bytes, bytes]] = []
        self.resets: list[str] = []

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        self.entries.append((offset, header, body))

    def live(self, header: bytes, body: bytes) -> None:
        self.lives.append((header, body))

    def reset(self, reason: str) -> None:
        self.resets.append(reason)

    @property
    def offsets(self) -> list[int]:
        """Offsets in the order in which they came."""
        return [offset for offset, _, _ in self.entries]


class Writer:
    """Whoever appends to logs."""

    def __init__(self, primaries: Primaries) -> None:
        self.primaries = primaries
        self._numbers = itertools.count(1)

    def append(
        self, log: Log, body: bytes = b"", *, header: bytes = b"a,s", publish: bool = True
    ) -> "asyncio.Future[Any]":
        """Append one entry; `publish=False` is a message that the channel loses."""
        args = [new_tag(), header, body or b"entry %d" % next(self._numbers), b"1" if publish else b"0"]
        return self.primaries.script("ingest", APPEND, [log.name, log.top_key], args)

    async def fill(self, log: Log, count: int) -> tuple[int, bytes]:
        """Append `count` entries; position of the last."""
        ids = await asyncio.gather(*[self.append(log) for _ in range(count)])
        offset, _, tag = ids[-1].partition(b"-")
        return int(offset), tag

    async def forget(self, log: Log) -> None:
        """The store loses a log."""
        await self.primaries.call("ingest", log.name, b"DEL", log.name, log.top_key)


class World:
    """A store's lanes, a writer, and followers that end with the test."""

    def __init__(self, primaries: Primaries) -> None:
        self.primaries = primaries
        self.writer = Writer(primaries)
        self.turns = 0
        self._followers: list[Follower] = []

    def follower(self, *, beat_s: float = 1.0, compare_s: float = 60.0) -> Follower:
        """A follower; beats and comparisons as given, else so rare that a test doesn't see them."""
        follower = Follower(self.primaries, on_turn=self._turn, beat_s=beat_s, compare_s=compare_s)
        self._followers.append(follower)
        return follower

    async def aclose(self) -> None:
        """End everything."""
        for follower in self._followers:
            await follower.aclose()
        await self.primaries.aclose()

    def _turn(self) -> None:
        self.turns += 1


Make = Callable[[str], Awaitable[World]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Worlds over a store's URL."""
    worlds: list[World] = []

    async def world(url: str) -> World:
        primaries = await Primaries.connect(url, scripts=[APPEND], connect_wait_s=3.0)
        worlds.append(World(primaries))
        return worlds[-1]

    yield world
    for each in worlds:
        await each.aclose()


@pytest.fixture
async def world(engines: Engines, make: Make) -> World:
    """A world on each kind of store."""
    return await make(engines.url)


async def until(condition: Callable[[], bool], within_s: float = 8.0) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is watched is in another process
            await asyncio.sleep(0.005)


async def followed(follower: Follower, log: Log, offset: int = 0, tag: bytes = b"0") -> None:
    """Subscribe and start at a position."""
    await follower.subscribe(log)
    follower.start(log, offset, tag)


async def test_entries_come_once_and_in_order(world: World, keys: Keys) -> None:
    """Entries of several logs come with header and body, spaces included, in the order of the stream."""
    follower = world.follower()
    logs = [Recorder(keys, p) for p in (0, 21, 42, 63)]
    for log in logs:
        await followed(follower, log)
    for i in range(200):
        await world.writer.append(logs[i % 4], b"body %d of two" % i)
    await until(lambda: all(log.offset == 50 for log in logs))
    assert logs[1].entries == [(n + 1, b"a,s", b"body %d of two" % (1 + 4 * n)) for n in range(50)]
    assert follower.repaired == 0
    assert follower.healthy
    assert follower.lag() < 5.0


async def test_snapshot_and_channel_are_merged(world: World, keys: Keys) -> None:
    """What was held since the subscription is dropped up to the snapshot and delivered after it."""
    follower, log = world.follower(), Recorder(keys)
    await world.writer.fill(log, 3)
    await follower.subscribe(log)
    snapshot = await world.writer.fill(log, 3)
    await world.writer.fill(log, 4)
    assert log.entries == []
    await until(lambda: len(log._held) == 7)
    follower.start(log, *snapshot)
    assert log.offsets == [7, 8, 9, 10]
    await world.writer.fill(log, 1)
    await until(lambda: log.offset == 11)
    assert log.offsets == [7, 8, 9, 10, 11]
    assert follower.repaired == 0


async def test_old_snapshot_is_repaired_from_the_stream(world: World, keys: Keys) -> None:
    """A snapshot older than the subscription leaves a gap, which the stream fills; long ones by several pages."""
    follower, log = world.follower(), Recorder(keys)
    snapshot = await world.writer.fill(log, 2)
    await world.writer.fill(log, 2 * follow.ENTRIES_AT_ONCE + 50)
    await follower.subscribe(log)
    last, _ = await world.writer.fill(log, 1)
    follower.start(log, *snapshot)
    await until(lambda: log.offset == last)
    assert log.offsets == list(range(3, last + 1))


async def test_gap_is_repaired(world: World, keys: Keys) -> None:
    """Entries that the channel lost come from the stream as soon as a later one shows the gap."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    for i in range(1, 61):
        await world.writer.append(log, publish=i % 4 == 0)
    await until(lambda: log.offset == 60)
    assert log.offsets == list(range(1, 61))
    assert follower.repaired >= 45


async def test_lost_last_entry_is_found_by_comparing(world: World, keys: Keys) -> None:
    """An entry that was lost without a later one to show it comes at the next comparison."""
    follower, log = world.follower(compare_s=0.05), Recorder(keys)
    await followed(follower, log)
    await world.writer.append(log)
    await world.writer.append(log, publish=False)
    await until(lambda: log.offset == 2)
    assert log.offsets == [1, 2]
    assert log.resets == []


async def test_comparing_repairs_nothing_that_is_on_its_way(world: World, keys: Keys) -> None:
    """Comparisons under load find no log behind that only has its messages still in the socket."""
    follower, log = world.follower(compare_s=0.01), Recorder(keys)
    await followed(follower, log)
    for _ in range(100):
        await asyncio.gather(*[world.writer.append(log) for _ in range(10)])
    await until(lambda: log.offset == 1000)
    assert log.offsets == list(range(1, 1001))
    assert follower.repaired == 0


async def test_comparison_waits_for_what_was_published_before_it(
    world: World, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While the subscription is slower than the answer about tops, a log that is behind hasn't lost anything yet.

    Comparisons ask only once the entries are there: one that asked before would wait behind the silent subscription
    until that is given up, and then repair. Nothing beats, so that a slow machine doesn't give it up either.
    """
    follower, log = world.follower(beat_s=60.0, compare_s=0.05), Recorder(keys)
    ask, filled, compared = world.primaries.many, asyncio.Event(), asyncio.Event()

    async def ask_and_tell(*args: Any) -> list[Any]:
        await filled.wait()
        answer = await ask(*args)
        if answer and answer[0][0] == b"5":
            compared.set()
        return answer

    monkeypatch.setattr(world.primaries, "many", ask_and_tell)
    await followed(follower, log)
    transport = next(iter(follower._feeds.values()))._link.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.pause_reading()
    await world.writer.fill(log, 5)
    filled.set()
    await compared.wait()
    await asyncio.sleep(0)
    assert log.offset == 0, "the subscription has been silent"
    transport.resume_reading()
    await until(lambda: log.offset == 5)
    assert follower.repaired == 0


async def test_killed_subscriptions_lose_and_double_nothing(world: World, engines: Engines, keys: Keys) -> None:
    """CLIENT KILL TYPE pubsub again and again under load: every log has every entry once and in order."""
    follower = world.follower()
    logs = [Recorder(keys, p, f"c{n}") for n, p in enumerate([0, 9, 21, 30, 42, 50, 63] * 5)]
    await asyncio.gather(*[followed(follower, log) for log in logs])
    for round_ in range(60):
        for log in logs:
            world.writer.append(log)
        if round_ % 10 == 5:
            engines.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(0.01)
    await until(lambda: all(log.offset == 60 for log in logs))
    assert all(log.offsets == list(range(1, 61)) for log in logs)
    assert not any(log.resets for log in logs)
    await until(lambda: follower.healthy)


@pytest.mark.parametrize("grown", [1, 3, 5, 8])
async def test_wiped_and_regrown_log_is_reset_at_once(world: World, keys: Keys, grown: int) -> None:
    """A log that the store lost and grew anew is never continued: reset, whatever offset it has reached."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await world.writer.fill(log, 5)
    await until(lambda: log.offset == 5)
    await world.writer.forget(log)
    await world.writer.fill(log, grown)
    await until(lambda: bool(log.resets))
    assert log.offsets == [1, 2, 3, 4, 5]
    await world.writer.fill(log, 3)
    await followed(follower, other := Recorder(keys, 0, "other"))
    await world.writer.fill(other, 1)
    await until(lambda: other.offset == 1)
    assert (len(log.entries), len(log.resets)) == (5, 1)


@pytest.mark.parametrize("grown", [0, 3, 5, 8])
async def test_log_regrown_while_away_is_reset(world: World, engines: Engines, keys: Keys, grown: int) -> None:
    """The same while the subscription is away, so that no message shows it: the comparison does."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await world.writer.fill(log, 5)
    await until(lambda: log.offset == 5)
    await world.writer.forget(log)
    await asyncio.gather(*[world.writer.append(log, publish=False) for _ in range(grown)])
    engines.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: bool(log.resets))
    assert log.offsets == [1, 2, 3, 4, 5]


async def test_regrown_log_is_reset_after_a_repair_too(world: World, keys: Keys) -> None:
    """A repair may read ahead of the channel; once the channel has caught up, low offsets are no repeats any more."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await asyncio.gather(*[world.writer.append(log, publish=n in (0, 4, 5)) for n in range(6)])
    await until(lambda: log.offset == 6)
    assert follower.repaired > 0
    await world.writer.append(log)
    await until(lambda: log.offset == 7)
    await world.writer.forget(log)
    await world.writer.append(log)
    await until(lambda: bool(log.resets))
    assert log.offsets == list(range(1, 8))


async def test_next_offset_of_another_history_is_not_delivered(world: World, keys: Keys) -> None:
    """An entry that has the next offset but follows another entry than ours belongs to another history: reset."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await world.writer.fill(log, 5)
    await until(lambda: log.offset == 5)
    await world.writer.forget(log)
    await asyncio.gather(*[world.writer.append(log, publish=False) for _ in range(5)])
    await world.writer.append(log)
    await until(lambda: bool(log.resets))
    assert log.offsets == [1, 2, 3, 4, 5]


async def test_subscription_lost_amid_a_comparison(
    world: World, engines: Engines, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Regression: the tops were asked for, the subscription broke, then the comparison waited for an answer on the lost
    connection for ever, and no log of that primary was repaired again.
    """
    follower, log = world.follower(compare_s=0.05), Recorder(keys)
    await followed(follower, log)
    ask, broken = world.primaries.many, asyncio.Event()

    async def break_then_ask(*args: Any) -> list[Any]:
        link = next(iter(follower._feeds.values()))._link
        if link is not None and not broken.is_set():
            broken.set()
            engines.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await link.lost
        return await ask(*args)

    monkeypatch.setattr(world.primaries, "many", break_then_ask)
    await broken.wait()
    await world.writer.append(log, publish=False)
    await until(lambda: log.offset == 1)


async def test_trimmed_history_is_a_reset(world: World, keys: Keys) -> None:
    """A position that the bounded stream has dropped can't be continued: reset, not a silent gap."""
    follower, log = world.follower(), Recorder(keys)
    snapshot = await world.writer.fill(log, 2)
    await world.writer.fill(log, 20)
    await world.primaries.call("ingest", log.name, b"XTRIM", log.name, b"MAXLEN", b"5")
    await followed(follower, log, *snapshot)
    await world.writer.append(log)
    await until(lambda: bool(log.resets))
    assert log.entries == []


async def test_live_entries_come_without_being_stored(world: World, keys: Keys) -> None:
    """Typing comes between stored entries and moves no position."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await world.writer.append(log)
    await world.primaries.call("ingest", log.name, b"SPUBLISH", log.name, b"~ s typing on")
    await world.writer.append(log)
    await until(lambda: log.offset == 2)
    assert log.lives == [(b"s", b"typing on")]
    assert log.offsets == [1, 2]
    assert follower.repaired == 0


async def test_failing_handler_resets_its_own_log_only(world: World, keys: Keys) -> None:
    """An exception in a handler ends that log with a reset; others go on."""

    class Failing(Recorder):
        def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
            if offset == 2:
                raise RuntimeError("bug")
            super().entry(offset, tag, header, body)

    follower, bad, good = world.follower(), Failing(keys, 0, "bad"), Recorder(keys, 0, "good")
    for log in (bad, good):
        await followed(follower, log)
    for _ in range(3):
        await asyncio.gather(world.writer.append(bad), world.writer.append(good))
    await until(lambda: good.offset == 3)
    assert bad.offsets == [1]
    assert len(bad.resets) == 1
    assert good.resets == []


async def test_foreign_payload_and_channel_ahead_of_stream(world: World, keys: Keys) -> None:
    """Payloads that are none of ours change nothing; one that only the channel has is a reset after a few looks."""
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    await world.writer.append(log)
    for payload in (b"", b"x", b"~", b"~ s", b"1 2 3", b"-1-2 0 h b", b"x-2 0 h b", b"0-2 0 h b"):
        await world.primaries.call("ingest", log.name, b"SPUBLISH", log.name, payload)
    await world.writer.append(log)
    await until(lambda: log.offset == 2)
    assert log.resets == []
    await world.primaries.call("ingest", log.name, b"SPUBLISH", log.name, b"9-9 8 h b")
    await until(lambda: bool(log.resets))
    assert log.offsets == [1, 2]


async def test_one_turn_for_what_one_read_brought(valkey: Engines, make: Make, keys: Keys) -> None:
    """`on_turn` is called once after many entries that arrive together."""
    world = await make(valkey.url)
    follower, log = world.follower(), Recorder(keys)
    await followed(follower, log)
    engine = valkey.nodes[0]
    with engine.frozen():
        for _ in range(100):
            world.writer.append(log)
        await asyncio.sleep(0.01)
    await until(lambda: log.offset == 100)
    assert 1 <= world.turns < 20


async def test_plain_channels(world: World, keys: Keys) -> None:
    """A channel without a log brings payloads until it is dropped; a failing callback is survived."""
    follower, name, got = world.follower(), keys.base(11) + b"news", list[bytes]()

    def take(payload: bytes) -> None:
        got.append(payload)
        if payload == b"bad":
            raise RuntimeError("bug")

    await follower.channel(name, take)
    for payload in (b"one", b"bad", b"two"):
        await world.primaries.call("ingest", name, b"SPUBLISH", name, payload)
    await until(lambda: got == [b"one", b"bad", b"two"])
    follower.drop_channel(name)
    follower.drop_channel(name)
    await follower.channel(other := keys.base(11) + b"other", got.append)
    for channel in (name, other):
        await world.primaries.call("ingest", channel, b"SPUBLISH", channel, b"three")
    await until(lambda: len(got) == 4)
    assert got[3] == b"three"


async def test_unsubscribed_log_is_silent_and_may_come_back(world: World, keys: Keys) -> None:
    """Nothing is delivered after `unsubscribe`, and the same name can be followed again at once, again and again."""
    follower = world.follower()
    first = Recorder(keys)
    await followed(follower, first)
    position = await world.writer.fill(first, 2)
    await until(lambda: first.offset == 2)
    for _ in range(20):
        follower.unsubscribe(first)
        second = Recorder(keys)
        await follower.subscribe(second)
        follower.unsubscribe(second)
        first = Recorder(keys)
        await followed(follower, first, *position)
        position = await world.writer.fill(first, 1)
        await until(lambda: first.offset == position[0])  # noqa: B023 - run at once
        assert (len(first.entries), second.entries) == (1, [])


async def test_confirmation_is_that_of_the_last_word(world: World, keys: Keys) -> None:
    """Subscribed, given up and subscribed again in one breath: only the server's last answer confirms it."""
    follower, one, two = world.follower(), Recorder(keys), Recorder(keys)
    await followed(follower, Recorder(keys, 0, "other"))
    link = follower._homes[Recorder(keys, 0, "other").name]._link
    assert link is not None
    assert link.transport is not None
    link.transport.pause_reading()  # the server's answers come one by one, from here
    first = asyncio.create_task(follower.subscribe(one))
    await until(lambda: bool(link.subscribing))
    follower.unsubscribe(one)
    second = asyncio.create_task(follower.subscribe(two))
    await until(lambda: link.subscribing[two.name] == 2)
    for verb, confirmed in ((b"ssubscribe", False), (b"sunsubscribe", False), (b"ssubscribe", True)):
        link.data_received(b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(verb), verb, len(two.name), two.name))
        await asyncio.wait([second], timeout=0.01)
        assert second.done() == confirmed
    link.transport.resume_reading()
    with pytest.raises(Unavailable):
        await first


async def test_many_held_entries_are_bounded(world: World, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a snapshot is awaited only so many entries are held; what is dropped comes from the stream."""
    monkeypatch.setattr(follow, "HELD_MAX", 20)
    follower, log = world.follower(), Recorder(keys)
    await follower.subscribe(log)
    await world.writer.fill(log, 105)
    await asyncio.sleep(0.02)
    assert len(log._held) <= 20
    follower.start(log, 0, b"0")
    await until(lambda: log.offset == 105)
    assert log.offsets == list(range(1, 106))


async def test_entries_lost_before_the_start_are_found(world: World, engines: Engines, keys: Keys) -> None:
    """A subscription that broke between its confirmation and the start is repaired at the start."""
    follower, log = world.follower(), Recorder(keys)
    await follower.subscribe(log)
    snapshot = await world.writer.fill(log, 1)
    await asyncio.gather(*[world.writer.append(log, publish=False) for _ in range(3)])
    engines.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: log._lossy)
    follower.start(log, *snapshot)
    await until(lambda: log.offset == 4)
    assert log.offsets == [2, 3, 4]


async def test_silent_connection_is_noticed_and_healed(own_engine: Engine, make: Make, keys: Keys) -> None:
    """A server that neither answers nor hangs up makes the follower unhealthy after two beats, and is survived."""
    world = await make(f"unix://{own_engine.path}")
    follower, log = world.follower(beat_s=0.05), Recorder(keys)
    await followed(follower, log)
    assert follower.healthy
    with own_engine.frozen():
        await until(lambda: not follower.healthy)
    await world.writer.fill(log, 3)
    await until(lambda: follower.healthy and log.offset == 3)
    assert log.offsets == [1, 2, 3]


async def test_restart_with_a_wiped_store_resets(own_engine: Engine, make: Make, keys: Keys) -> None:
    """A server that comes back empty resets what was followed, and takes new subscriptions."""
    world = await make(f"unix://{own_engine.path}")
    follower, log, empty = world.follower(beat_s=0.1), Recorder(keys), Recorder(keys, 0, "empty")
    await followed(follower, log)
    await followed(follower, empty)
    await world.writer.fill(log, 3)
    await until(lambda: log.offset == 3)
    own_engine.kill()
    own_engine.start()
    await until(lambda: bool(log.resets))
    await world.writer.fill(empty, 2)
    await until(lambda: empty.offset == 2)
    assert (log.offsets, empty.offsets, empty.resets) == ([1, 2, 3], [1, 2], [])


async def test_absent_server_refuses_a_subscription(own_engine: Engine, make: Make, keys: Keys) -> None:
    """Without a server `subscribe` raises Unavailable, and nothing stays subscribed."""
    primaries = await Primaries.connect(f"unix://{own_engine.path}", scripts=[APPEND], connect_wait_s=0.1)
    follower, log = Follower(primaries, beat_s=0.05), Recorder(keys)
    own_engine.kill()
    with pytest.raises(Unavailable):
        await follower.subscribe(log)
    own_engine.start()
    await until(lambda: primaries.healthy)
    await follower.subscribe(log)
    await follower.aclose()
    await primaries.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_subscription_leaves_nothing(valkey: Engines, make: Make, keys: Keys) -> None:
    """A subscription that was cancelled can be made again."""
    world = await make(valkey.url)
    follower, log = world.follower(), Recorder(keys)
    task = asyncio.create_task(follower.subscribe(log))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await followed(follower, log)
    await world.writer.fill(log, 2)
    await until(lambda: log.offsets == [1, 2])


async def test_moved_slot_is_followed(cluster: Engines, make: Make, keys: Keys) -> None:
    """When a slot moves under load its logs are followed on their new primary, without a gap or a repeat."""
    world = await make(cluster.url)
    follower, log = world.follower(), Recorder(keys, 13)
    await followed(follower, log)
    home = cluster.node_of(log.name)
    away = next(node for node in cluster.nodes if node is not home)
    for target in (away, home):
        moving = asyncio.get_running_loop().run_in_executor(None, cluster.move_slot, slot(log.name), target)
        for _ in range(100):
            await world.writer.append(log)
        await moving
    last, _ = await world.writer.fill(log, 1)
    await until(lambda: log.offset == last)
    assert log.offsets == list(range(1, last + 1))
    assert log.resets == []
    await until(lambda: follower.healthy)
