"""Lanes on real engines: order, bounds, what is known after a failure, and recovery."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import hiredis
import pytest

from hub.store.connection import Endpoint, Lane, Limits, ReplyError, Script, Unavailable, Unknown
from hub.store.embedded import find_engine
from hub.store.keys import PARTITIONS, SLOTS, Keys, slot
from hub.store.topology import Primaries, parse_url
from tests.support.engines import Engine, Engines
from tests.support.processes import free_port

PUSH = Script("push", b"return redis.call('RPUSH', KEYS[1], ARGV[1])")
COUNT = Script("count", b"return redis.call('INCR', KEYS[1])")

Connect = Callable[..., Awaitable[Primaries]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connections to a store that are closed at the end."""
    opened: list[Primaries] = []

    async def make(url: str, **options: float) -> Primaries:
        opened.append(await Primaries.connect(url, scripts=[PUSH, COUNT], **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for primaries in opened:
        await primaries.aclose()


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is watched is in another process
            await asyncio.sleep(0.005)


async def outcome(future: Awaitable[object]) -> object:
    """Answer or error."""
    try:
        return await future
    except (Unavailable, Unknown, ReplyError) as error:
        return error


async def test_order_is_kept(engines: Engines, keys: Keys, connect: Connect) -> None:
    """3,000 calls of several loop turns run in the order in which they were made, and are answered in it."""
    primaries = await connect(engines.url)
    names = [keys.base(p) + b"list" for p in (0, 21, 42, 63)]
    futures = []
    for i in range(3000):
        futures.append(primaries.call("ingest", names[i % 4], b"RPUSH", names[i % 4], b"%d" % i))
        if i % 7 == 0:
            await asyncio.sleep(0)
    assert await asyncio.gather(*futures) == [i // 4 + 1 for i in range(3000)]
    for n, name in enumerate(names):
        stored = await primaries.call("ingest", name, b"LRANGE", name, b"0", b"-1")
        assert [int(item) for item in stored] == list(range(n, 3000, 4))


async def test_one_write_per_turn(engines: Engines, keys: Keys, connect: Connect) -> None:
    """All calls of one turn of the loop leave in one write per primary."""
    primaries = await connect(engines.url)
    before = sum(lane.writes for lane in primaries._all())
    await asyncio.gather(*[primaries.call("commit", keys.base(p), b"INCR", keys.base(p) + b"n") for p in range(64)])
    assert sum(lane.writes for lane in primaries._all()) - before == len(engines.nodes)


async def test_lanes_of_one_primary_do_not_wait_for_each_other(valkey: Engines, keys: Keys, connect: Connect) -> None:
    """A call that blocks one lane leaves the others free."""
    primaries = await connect(valkey.url)
    key = keys.base(0) + b"empty"
    blocked = primaries.call("ingest", key, b"BLPOP", key, b"1")
    assert await primaries.call("takeover", key, b"EXISTS", key) == 0
    assert not blocked.done()
    await primaries.call("takeover", key, b"RPUSH", key, b"x")
    assert await blocked == [key, b"x"]


async def test_script_runs_and_errors_are_the_callers(engines: Engines, keys: Keys, connect: Connect) -> None:
    """A script is found by its digest, and an error answer fails its own call only."""
    primaries = await connect(engines.url)
    key = keys.base(3) + b"k"
    good = primaries.script("commit", PUSH, [key], [b"a"])
    bad = primaries.script("commit", COUNT, [key], [])
    also_good = primaries.script("commit", PUSH, [key], [b"b"])
    assert (await good, await also_good) == (1, 2)
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        await bad
    answers = await primaries.many("commit", [(key, (b"LLEN", key)), (key, (b"GET", key)), (key, (b"TYPE", key))])
    assert answers[0] == 2
    assert isinstance(answers[1], ReplyError)
    assert answers[2] == b"list"


async def test_late_answer_fails_everything_sent_as_unknown(engines: Engines, keys: Keys, connect: Connect) -> None:
    """When the oldest call is too late, the connection is dropped: all its calls are unknown, the next one works."""
    primaries = await connect(engines.url, timeout_s=0.3, connect_wait_s=3.0)
    key = keys.base(5) + b"n"
    with engines.node_of(key).frozen():
        first = [asyncio.ensure_future(outcome(primaries.call("commit", key, b"INCR", key))) for _ in range(5)]
        await asyncio.sleep(0)
        answers = await asyncio.gather(*first)
    assert [type(answer) for answer in answers] == [Unknown] * 5
    assert await primaries.call("commit", key, b"SET", key, b"7") == b"OK"


async def test_other_primaries_are_not_concerned(cluster: Engines, keys: Keys, connect: Connect) -> None:
    """A frozen primary of a Cluster fails its own calls only."""
    primaries = await connect(cluster.url, timeout_s=0.3)
    frozen, well = keys.base(0) + b"n", keys.base(63) + b"n"
    with cluster.node_of(frozen).frozen():
        late = asyncio.ensure_future(outcome(primaries.call("commit", frozen, b"INCR", frozen)))
        assert await primaries.call("commit", well, b"INCR", well) == 1
        assert isinstance(await late, Unknown)


async def test_flushed_scripts_are_loaded_again_in_order(engines: Engines, keys: Keys, connect: Connect) -> None:
    """SCRIPT FLUSH amid 3,000 calls: every call runs once, and those of a key in their order."""
    primaries = await connect(engines.url)
    names = [keys.base(p) + b"list" for p in (0, 21, 42, 63)]
    futures = []
    for i in range(3000):
        futures.append(primaries.script("ingest", PUSH, [names[i % 4]], [b"%d" % i]))
        if i % 500 == 250:
            engines.ask("SCRIPT", "FLUSH")
        if i % 10 == 0:
            await asyncio.sleep(0)
    assert await asyncio.gather(*futures) == [i // 4 + 1 for i in range(3000)]
    for n, name in enumerate(names):
        stored = await primaries.call("ingest", name, b"LRANGE", name, b"0", b"-1")
        assert [int(item) for item in stored] == list(range(n, 3000, 4))


async def test_killed_connections_come_back(engines: Engines, keys: Keys, connect: Connect) -> None:
    """After CLIENT KILL a call is answered or unknown, never doubled, and later ones work."""
    primaries = await connect(engines.url, connect_wait_s=3.0)
    key = keys.base(9) + b"n"
    answers: list[object] = []
    for round_ in range(300):
        answers.append(await outcome(primaries.script("commit", COUNT, [key], [])))
        if round_ % 60 == 30:
            engines.ask("CLIENT", "KILL", "TYPE", "normal")
    unknown = sum(isinstance(answer, Unknown) for answer in answers)
    good = sum(isinstance(answer, int) for answer in answers)
    assert good + unknown == 300
    stored = int(await primaries.call("commit", key, b"GET", key))
    assert good <= stored <= good + unknown


async def test_restart_is_survived(own_engine: Engine, keys: Keys, connect: Connect) -> None:
    """A server that is started anew is found again by itself, scripts included."""
    primaries = await connect(f"unix://{own_engine.path}", connect_wait_s=5.0)
    key = keys.base(0) + b"n"
    assert await primaries.script("commit", COUNT, [key], []) == 1
    own_engine.kill()
    waiting = primaries.script("commit", COUNT, [key], [])
    await asyncio.sleep(0.05)
    own_engine.start()
    first = await outcome(waiting)
    assert first == 1 or isinstance(first, Unknown)
    assert await primaries.script("commit", COUNT, [key], []) == (2 if first == 1 else 1)
    await eventually(lambda: primaries.healthy)


async def test_absent_server_is_unavailable_soon(own_engine: Engine, keys: Keys, connect: Connect) -> None:
    """Without a server a call fails with Unavailable after the wait; those past the bound fail at once."""
    primaries = await connect(f"unix://{own_engine.path}", connect_wait_s=0.2)
    key = keys.base(0) + b"n"
    own_engine.kill()
    await eventually(lambda: not primaries.healthy)
    lane = primaries._lane("commit", key)
    futures = [primaries.call("commit", key, b"INCR", key) for _ in range(lane.limits.waiting_max + 1)]
    assert futures[-1].done()
    assert isinstance(futures[-1].exception(), Unavailable)
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}


async def test_connect_says_why_it_failed(tmp_path: object) -> None:
    """No server at the start: Unavailable with the reason, and nothing is left open."""
    with pytest.raises(Unavailable, match="not reachable"):
        await Primaries.connect(f"unix://{tmp_path}/none", start_s=0.2)


async def test_unanswered_calls_are_bounded(valkey: Engines, keys: Keys, connect: Connect) -> None:
    """Past `pending_max` a call fails at once with Unavailable instead of growing a queue."""
    primaries = await connect(valkey.url, pending_max=10)
    key = keys.base(0) + b"n"
    answers = await asyncio.gather(
        *[primaries.call("commit", key, b"INCR", key) for _ in range(15)], return_exceptions=True
    )
    assert answers[:10] == list(range(1, 11))
    assert {type(answer) for answer in answers[10:]} == {Unavailable}


async def test_cancelled_call_takes_its_answer_along(valkey: Engines, keys: Keys, connect: Connect) -> None:
    """The answer of a cancelled caller goes to nobody; one that was cancelled in its own turn never leaves."""
    primaries = await connect(valkey.url)
    key = keys.base(0) + b"n"
    never = primaries.call("commit", key, b"INCR", key)
    never.cancel()
    assert await primaries.call("commit", key, b"INCR", key) == 1
    sent = primaries.call("commit", key, b"INCR", key)
    after = primaries.call("commit", key, b"GET", key)
    await asyncio.sleep(0)
    sent.cancel()
    assert await after == b"2"


async def test_read_only_server_is_left_until_it_is_primary(own_engine: Engine, keys: Keys, connect: Connect) -> None:
    """A demoted server runs nothing: calls wait, then are Unavailable; they work once it is primary again."""
    primaries = await connect(f"unix://{own_engine.path}", connect_wait_s=0.3)
    key = keys.base(0) + b"n"
    own_engine.ask("REPLICAOF", "127.0.0.1", "1")
    assert isinstance(await outcome(primaries.script("commit", COUNT, [key], [])), Unavailable)
    assert isinstance(await outcome(primaries.script("commit", COUNT, [key], [])), Unavailable)
    own_engine.ask("REPLICAOF", "NO", "ONE")
    await eventually(lambda: primaries.healthy)
    assert await primaries.script("commit", COUNT, [key], []) == 1


@pytest.mark.parametrize("answer", ["LOADING Redis is loading", "NOREPLICAS Not enough", "OOM too much", "MISCONF x"])
async def test_what_the_engine_refuses_before_running_is_unavailable(answer: str, tmp_path: object) -> None:
    """These errors say that nothing ran, so the caller may try again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                for line in data.split(b"\r\n"):
                    if line in (b"CLIENT", b"ROLE"):
                        writer.write(b"+OK\r\n")
                    elif line == b"GET":
                        writer.write(b"-%b\r\n" % answer.encode())
        writer.close()

    server = await asyncio.start_unix_server(serve, f"{tmp_path}/s")
    lane = Lane("commit", Endpoint(path=f"{tmp_path}/s"), limits=Limits(connect_wait_s=2.0))
    lane.start()
    with pytest.raises(Unavailable, match=answer.split()[0]):
        await lane.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"k")
    await lane.aclose()
    server.close()
    await server.wait_closed()


async def test_moving_slot_keeps_order(cluster: Engines, keys: Keys, connect: Connect) -> None:
    """A slot that moves under load (ASK, TRYAGAIN, MOVED): every call runs once, those of a key in their order."""
    primaries = await connect(cluster.url, connect_wait_s=5.0)
    name = keys.base(7) + b"list"
    home = cluster.node_of(name)
    away = next(node for node in cluster.nodes if node is not home)
    futures: list[asyncio.Future[object]] = []
    for target in [away, home] * 3:
        move = asyncio.get_running_loop().run_in_executor(None, cluster.move_slot, slot(name), target)
        before = len(futures)
        while not move.done() or len(futures) < before + 200:
            for _ in range(5):
                futures.append(primaries.script("ingest", PUSH, [name], [b"%d" % len(futures)]))
            await asyncio.sleep(0.002)
        await move
        await asyncio.gather(*futures)  # a slot that comes back while a call is on its way is the next test
    assert await asyncio.gather(*futures) == list(range(1, len(futures) + 1))
    stored = await primaries.call("ingest", name, b"LRANGE", name, b"0", b"-1")
    assert [int(item) for item in stored] == list(range(len(futures)))
    assert primaries.refreshes > 0


async def test_a_slot_that_comes_back_keeps_order(connect: Connect) -> None:
    """What an ASK sent elsewhere is turned away there: meanwhile nothing that belongs behind it has left."""
    home = await _Node().start()
    away = await _Node().start()
    home.slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % home.port
    home.answers = [b"-ASK 1 127.0.0.1:%d\r\n" % away.port]
    away.answers = [b"-MOVED 1 127.0.0.1:%d\r\n" % home.port]
    away.open.clear()
    primaries = await connect(f"redis+cluster://127.0.0.1:{home.port}")
    first = primaries.call("ingest", b"k", b"SET", b"k", b"first")
    await eventually(lambda: away.asked == [b"first"])
    second = primaries.call("ingest", b"k", b"SET", b"k", b"second")
    third = primaries.call("commit", b"k", b"SET", b"k", b"another lane")
    assert await third == b"OK"
    assert home.asked == [b"first", b"another lane"]
    away.open.set()
    assert [await first, await second] == [b"OK", b"OK"]
    assert home.asked == [b"first", b"another lane", b"first", b"second"]
    for node in (home, away):
        await node.stop()


class _Node:
    """A server of a Cluster that answers as it is told to: `answers` one by one, then OK, and nothing until `open`."""

    def __init__(self) -> None:
        self.port = 0
        self.slots = b""
        self.answers: list[bytes] = []
        self.asked: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "_Node":
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no more."""
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    writer.write(await self._answer(command))
        writer.close()

    async def _answer(self, command: list[bytes]) -> bytes:
        if command[0] == b"CLUSTER":
            return self.slots
        if command[0] == b"SCRIPT":
            return b"$40\r\n%b\r\n" % Script("any", command[2]).sha
        if command[0] != b"SET":
            return b"+OK\r\n"
        self.asked.append(command[2])
        await self.open.wait()
        return self.answers.pop(0) if self.answers else b"+OK\r\n"


@pytest.fixture
def service() -> Iterator[tuple[Engine, Engine, Engine]]:
    """A primary, its replica, and the Sentinel that watches them as `main`."""
    binary, at_once = str(find_engine()), ("--repl-diskless-sync-delay", "0")
    primary = Engine(binary, port=free_port(), options=at_once)
    replica = Engine(binary, port=free_port(), options=(*at_once, "--replicaof", f"127.0.0.1 {primary.port}"))
    sentinel = Engine.sentinel(binary, "main", primary)
    for engine in (primary, replica, sentinel):
        engine.start()
    yield primary, replica, sentinel
    for engine in (primary, replica, sentinel):
        engine.remove()


async def test_failover_is_followed(service: tuple[Engine, Engine, Engine], keys: Keys, connect: Connect) -> None:
    """Behind Sentinel the primary is found, and after a failover the new one, with what had been replicated."""
    _, replica, sentinel = service
    primaries = await connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/main", connect_wait_s=5.0)
    key = keys.base(0) + b"n"
    await primaries.call("commit", key, b"SET", key, b"7")
    await eventually(lambda: replica.ask("GET", key) == b"7")
    await eventually(lambda: _done(sentinel, "SENTINEL", "FAILOVER", "main"))
    await eventually(lambda: primaries.primary_of(key).port == replica.port, 10.0)
    assert await primaries.script("commit", COUNT, [key], []) >= 8


def _done(engine: Engine, *args: str) -> bool:
    with contextlib.suppress(hiredis.ReplyError):
        return bool(engine.ask(*args))
    return False


async def test_map_changes_when_nothing_is_in_flight(
    valkey: Engines, own_engine: Engine, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call to a slot's new primary doesn't overtake one that the old primary has not answered yet."""
    old, new = valkey.nodes[0], own_engine
    owner = [old]

    async def discover(self: Primaries) -> list[tuple[int, int, Endpoint]]:
        return [(0, SLOTS - 1, Endpoint(path=str(owner[0].path)))]

    monkeypatch.setattr(Primaries, "_discover", discover)
    primaries = await Primaries.connect("redis+cluster://localhost", connect_wait_s=5.0)
    key, answered = keys.base(0) + b"list", list[str]()
    first = primaries.call("ingest", key, b"BLPOP", key, b"2")
    first.add_done_callback(lambda _: answered.append("first"))
    await asyncio.sleep(0)
    owner[0] = new
    primaries.refresh()
    await eventually(lambda: primaries._lane("ingest", key).held)
    second = primaries.call("ingest", key, b"INCR", key)
    second.add_done_callback(lambda _: answered.append("second"))
    await asyncio.sleep(0.05)
    assert answered == []
    old.ask("RPUSH", key, b"x")
    assert (await first, await second) == ([key, b"x"], 1)
    assert answered == ["first", "second"]
    assert (old.ask("EXISTS", key), new.ask("GET", key)) == (0, b"1")
    await primaries.aclose()


async def test_every_partition_has_a_primary(cluster: Engines, keys: Keys, connect: Connect) -> None:
    """The 64 partitions spread evenly over the primaries, and keys without a tag are found, too."""
    primaries = await connect(cluster.url)
    counts = [0] * len(cluster.nodes)
    for p in range(PARTITIONS):
        counts[primaries.primaries().index(primaries.primary_of(keys.base(p)))] += 1
        assert await primaries.call("commit", keys.base(p), b"SET", keys.base(p) + b"k", b"v") == b"OK"
    assert sorted(counts) == [21, 21, 22]
    assert await primaries.call("commit", keys.nodes(), b"ZADD", keys.nodes(), b"1", b"n") == 1


async def test_close_leaves_nothing(engines: Engines, keys: Keys) -> None:
    """Closing answers what was sent, fails what waits, and leaves no task and no connection."""
    primaries = await Primaries.connect(engines.url, scripts=[PUSH])
    key = keys.base(0) + b"n"
    sent = primaries.call("commit", key, b"INCR", key)
    await asyncio.sleep(0)
    await primaries.aclose()
    assert await sent == 1
    with pytest.raises(Unavailable):
        await primaries.call("commit", key, b"INCR", key)
    await primaries.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()


@pytest.mark.parametrize(
    ("url", "kind", "servers", "db"),
    [
        ("redis://example.org/3", "single", ["example.org:6379"], 3),
        ("redis://u:p%40ss@example.org:7000", "single", ["example.org:7000"], 0),
        ("redis://[::1]:7000/1", "single", ["::1:7000"], 1),
        ("unix:///run/store.sock?db=2", "single", ["/run/store.sock"], 2),
        ("redis+sentinel://a:1,b/main/4", "sentinel", ["a:1", "b:26379"], 4),
        ("redis+cluster://a:1,b", "cluster", ["a:1", "b:6379"], 0),
    ],
)
def test_urls_are_understood(url: str, kind: str, servers: list[str], db: int) -> None:
    """Each kind of URL names its servers and its database."""
    address = parse_url(url)
    assert (address.kind, [str(server) for server in address.servers], address.login.db) == (kind, servers, db)


def test_credentials_are_decoded_and_tls_is_on() -> None:
    """`rediss` brings TLS; user and password may hold any character, percent-encoded."""
    login = parse_url("rediss://ana:p%40ss%3A%2F@example.org").login
    assert (login.username, login.password, login.tls is not None) == ("ana", "p@ss:/", True)


@pytest.mark.parametrize(
    "url",
    ["http://x", "redis://a,b", "redis+sentinel://a", "redis://x/one", "unix://", "redis://x:port", "unix+cluster://x"],
)
def test_bad_urls_are_refused_without_the_password(url: str) -> None:
    """A URL that makes no sense raises ValueError, and a password never stands in the message."""
    with pytest.raises(ValueError, match="store URL") as caught:
        parse_url(url.replace("://", "://user:geheim@", 1) if url != "unix://" else url)
    assert "geheim" not in str(caught.value)
