"""
Whoever asks for too much, or holds connections open without asking: refused by name, let go in time, felt by nobody else.

Attackers come from addresses of their own (127.0.0.2 and on), as they would. SOAK_STALLED sets how many connections stall.
"""

import asyncio
import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.centre import Centre
from tests.support.own_delay import own_delay
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.refusals import asked_for
from tests.support.socket import HubError, eventually

STALLED = int(os.environ.get("SOAK_STALLED", "120"))
HONEST_S = 1.0  # in which an honest client is in, whatever the others do
MEMORY_BYTES_MAX = 64 << 20  # what all of the attackers together may cost
TIGHT = (
    CONFIG
    + """
handshakes_per_address_per_s = 1
sockets_per_address = 12
handshakes_per_user_per_s = 1
sockets_per_org = 5
commands_per_user_per_s = 2
subscriptions_per_user = 2
replay_bytes_per_user_per_s = 100
http_per_token_per_s = 1
"""
)
# A rate of commands that attackers pass however slow the machine is that runs them.
SHORT = """
request_head_ms = 1000
request_ms = 1000
hello_timeout_ms = 1000
http_per_address_per_s = 2
commands_per_s = 20
"""
UPGRADE = (
    b"GET /v1/supervisor HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
STALLS = {
    "nothing": b"",
    "half a request": b"GET /v1/conversations HTTP/1.1\r\nHost: hub\r\nX-Slow: ",
    "TLS to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "upgrade without hello": UPGRADE,
    "half a body": b"POST /v1/events HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\n{",
    "empty lines": b"\r\n\r\n",
}


@pytest.fixture(scope="module")
def tight_hub(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub whose quotas a test can reach."""
    config = 'trusted_proxies = ["127.0.0.9"]\n' + TIGHT
    hub = HubProcess(tmp_path_factory.mktemp("tight"), redis_url=store.url, config=config).start()
    yield hub
    hub.kill()


@pytest_asyncio.fixture
async def tight(tight_hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization there."""
    own = Centre(tight_hub)
    yield own
    await own.close()


@pytest.fixture(scope="module")
def strong_hub(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with the default quotas of connections and short deadlines."""
    config = CONFIG + SHORT
    hub = HubProcess(tmp_path_factory.mktemp("strong"), redis_url=store.url, config=config).start()
    yield hub
    hub.kill()


@pytest_asyncio.fixture
async def strong(strong_hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization there."""
    own = Centre(strong_hub)
    yield own
    await own.close()


async def refusals(centre: Centre) -> dict[str, float]:
    """How often each limit said no, by `/metrics`."""
    text = (await centre.http.get(centre.hub.metrics)).text
    found = re.findall(r'^hub_refused_total\{limit="(\w+)"\} (\S+)$', text, flags=re.M)
    assert "{org" not in text
    assert centre.org not in text, "metrics name nobody"
    return {limit: float(count) for limit, count in found}


def memory(hub: HubProcess) -> int:
    """Bytes that the hub's process holds."""
    assert hub.process is not None
    text = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) * 1024


async def honest(centre: Centre, sub: str) -> float:
    """Seconds that an honest supervisor, from 127.0.0.1, waits for the hub to be in, and to be answered."""
    async with own_delay() as watch:
        line = await centre.supervisor(sub)
        await line.round_trip()
        return watch.passed_s


# -- connections that don't ask


async def stall(centre: Centre, kind: str, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One connection of that kind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", centre.hub.port, local_addr=(address, 0))
    writer.write(STALLS[kind])
    return reader, writer


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, as if the head were about to come."""
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)


async def gone(reader: asyncio.StreamReader) -> None:
    """Return when the hub has let it go."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65_536):
            pass


async def test_stalled_connections(strong: Centre) -> None:
    """Beside any number of connections that hang an honest client is in within 1 s; each of them is let go in its time."""
    await strong.supervisor("warm")
    before = memory(strong.hub)
    kinds = list(STALLS)
    lines = [await stall(strong, kinds[n % len(kinds)], f"127.0.0.{2 + n % 4}") for n in range(STALLED)]
    drips = [asyncio.create_task(drip(writer)) for _, writer in lines[1 :: len(kinds)]]
    try:
        took = [await honest(strong, f"h{n}") for n in range(3)]
        grown = memory(strong.hub) - before
        print(
            f"{STALLED} stalled: honest client in after {median(took):.3f} s ({max(took):.3f} at most), {grown >> 10} KiB"
        )
        assert median(took) < HONEST_S, took
        assert grown < MEMORY_BYTES_MAX
        async with asyncio.timeout(10):
            await asyncio.gather(*(gone(reader) for reader, _ in lines))
    finally:
        for task in drips:
            task.cancel()
        for _, writer in lines:
            writer.transport.abort()
    counted = await refusals(strong)
    assert counted["request_head_ms"] >= STALLED // 2 - 10
    assert 'hub_sockets{endpoint="supervisor"} 4' in (await strong.http.get(strong.hub.metrics)).text


async def test_a_head_without_end(strong: Centre) -> None:
    """A head beyond `head_bytes_max` is a 431, however fast it comes; nothing of it is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strong.hub.port, local_addr=("127.0.0.2", 0))
    writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n")
    with contextlib.suppress(ConnectionError):
        for n in range(2_000):
            writer.write(b"X-%d: %s\r\n" % (n, b"x" * 1000))
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert b" 431 " in await reader.read(4096)
    writer.transport.abort()


async def test_a_slow_head_is_told_why(strong: Centre) -> None:
    """Half a request gets 408 when its time is over; a connection that said nothing just ends."""
    (half, one), (none, two) = [await stall(strong, kind, "127.0.0.2") for kind in ("half a request", "nothing")]
    async with asyncio.timeout(6):
        assert (await half.read()).startswith(b"HTTP/1.1 408 ")
        assert await none.read() == b""
    one.close()
    two.close()


async def test_a_second_request_has_its_time_too(strong: Centre) -> None:
    """A connection that was used once and then drips is let go like a new one; a quick second request is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strong.hub.port, local_addr=("127.0.0.2", 0))
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b'"ok"}')
    writer.write(b"GET /healthz HTTP/1.1\r\nHost:")
    task = asyncio.create_task(drip(writer))
    async with asyncio.timeout(6):
        assert b" 408 " in await reader.read()
    task.cancel()
    writer.close()


# -- floods


async def storm(centre: Centre, count: int) -> None:
    """Connections that are made and dropped at once."""
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", centre.hub.port, local_addr=("127.0.0.3", 0))
        writer.transport.abort()


async def command_flood(centre: Centre) -> int:
    """Commands far above the rate; the code the socket is closed with."""
    line = await centre.connect("/v1/supervisor", centre.token("mallory"), local="127.0.0.4")
    command = json.dumps({"id": 7, "cmd": "monitor.stop", "conversation_id": "nowhere"})
    with contextlib.suppress(ConnectionClosed):
        for _ in range(100):
            await line.send("\n".join([command] * 100))
            await asyncio.sleep(0)  # a line that is never read to its end breaks before its close is seen
    return await line.closed()


async def post_flood(centre: Centre, count: int) -> Counter[int]:
    """Requests that are pipelined on a connection, each with a token that is none; how often each status came."""
    body = b'{"events":[]}'
    request = (
        b"POST /v1/events HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer nonsense\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    found: Counter[int] = Counter()
    while found.total() < count:
        reader, writer = await asyncio.open_connection("127.0.0.1", centre.hub.port, local_addr=("127.0.0.5", 0))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for _ in range(count - found.total()):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                found[int(head.split(b" ", 2)[1])] += 1
                length = re.search(rb"content-length: (\d+)", head, flags=re.I)
                await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
    return found


async def test_floods(strong: Centre) -> None:
    """During storms of connections, commands and requests an honest client is in within 1 s, and the node's memory stays."""
    await strong.supervisor("warm")
    before = memory(strong.hub)
    floods = [asyncio.create_task(storm(strong, 2 * STALLED)), asyncio.create_task(post_flood(strong, STALLED))]
    flood = asyncio.create_task(command_flood(strong))
    took = [await honest(strong, f"h{n}") for n in range(4)]
    _, statuses = await asyncio.gather(*floods)
    assert isinstance(statuses, Counter)
    grown = memory(strong.hub) - before
    print(
        f"floods: honest client in after {median(took):.3f} s ({max(took):.3f} at most), {grown >> 10} KiB, {dict(statuses)}"
    )
    assert await flood == 4429
    assert median(took) < HONEST_S, took
    assert grown < MEMORY_BYTES_MAX
    assert set(statuses) == {401, 429}
    assert statuses[401] <= 20 + 2 * 60
    counted = await refusals(strong)
    assert counted["commands_per_s"] >= 400
    # A refused body isn't read, so the connection's end may reach a client before the answer does.
    assert counted["http_per_address_per_s"] >= statuses[429] > 0
    reader, writer = await asyncio.open_connection("127.0.0.1", strong.hub.port, local_addr=("127.0.0.5", 0))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
    assert b" 200 " in await reader.readline(), "whether the node is well is told to everybody"
    writer.close()


# -- each limit by its name


async def shut_out(centre: Centre, address: str, forwarded: Callable[[int], str] | None = None) -> InvalidStatus:
    """Connect from there until a handshake is refused; `forwarded` makes the header of each."""
    for n in range(40):
        headers = {"X-Forwarded-For": forwarded(n)} if forwarded is not None else None
        try:
            await centre.raw("/v1/supervisor", local=address, headers=headers)
        except InvalidStatus as refused:
            return refused
    raise AssertionError(f"{address} was let in 40 times")


async def test_handshakes_of_an_address(tight: Centre) -> None:
    """Past the rate a handshake is answered with 429 and the limit's name; another address isn't concerned."""
    wanted = "handshakes_per_address_per_s"
    response = (await shut_out(tight, "127.0.0.6")).response
    assert response.status_code == 429
    assert asked_for(429, response.headers)
    error = json.loads(bytes(response.body or b""))["error"]
    assert (error["code"], error["retryable"], error["details"]["limit"]) == ("rate_limited", True, wanted)
    assert error["details"]["retry_ms"] > 0
    await tight.raw("/v1/supervisor", local="127.0.0.7")
    assert (await refusals(tight))[wanted] >= 1


async def test_handshakes_behind_a_proxy_count_for_the_client(tight: Centre) -> None:
    """What a trusted proxy says counts; what a client says itself, or puts before it, makes nobody another one."""
    await shut_out(tight, "127.0.0.8", lambda n: f"198.51.100.{n}")
    await shut_out(tight, "127.0.0.9", lambda n: f"198.51.100.{n}, 203.0.113.7")
    for n in range(15):
        line = await tight.raw("/v1/supervisor", local="127.0.0.9", headers={"X-Forwarded-For": f"203.0.114.{n}"})
        await line.close()


async def test_sockets_of_an_ipv6_network(tight: Centre) -> None:
    """Addresses of one /64 share the limit of an address."""
    for n in range(12):
        said = {"X-Forwarded-For": f"2001:db8:0:1::{n}"}
        await tight.raw("/v1/supervisor", local="127.0.0.9", headers=said)
    with pytest.raises(InvalidStatus):
        await tight.raw("/v1/supervisor", local="127.0.0.9", headers={"X-Forwarded-For": "2001:db8:0:1:f::1"})
    await tight.raw("/v1/supervisor", local="127.0.0.9", headers={"X-Forwarded-For": "2001:db8:0:2::1"})


async def limited(centre: Centre, sub: str, address: str) -> str:
    """The limit by which a hello of that person is refused, with 4429; empty where it isn't."""
    line = await centre.raw("/v1/supervisor", local=address)
    await line.send({"id": 1, "cmd": "hello", "token": centre.token(sub)})
    answer = await line.answer(1)
    if "ok" in answer:
        return ""
    assert answer["error"]["code"] == "rate_limited"
    assert await line.closed() == 4429
    return str(answer["error"]["details"]["limit"])


async def test_sockets_of_an_organization(tight: Centre) -> None:
    """The sixth socket of an organization is closed with 4429; another organization has its own."""
    found = [await limited(tight, f"u{n}", "127.0.0.10") for n in range(6)]
    assert found == [""] * 5 + ["sockets_per_org"]
    other = Centre(tight.hub)
    assert await limited(other, "u1", "127.0.0.10") == ""
    await other.close()


async def test_hellos_of_a_user(tight: Centre) -> None:
    """A person who connects again and again is stopped by name, from whatever addresses."""
    found = ""
    for n in range(24):
        found = await limited(tight, "ana", f"127.0.1.{1 + n % 12}")
        if found:
            break
        await tight.opened[-1].close()
    assert found == "handshakes_per_user_per_s"


async def test_commands_of_a_user(tight: Centre) -> None:
    """A person's sockets share one rate; the socket stays, and the refusal names limit and wait."""
    lines = [await tight.connect("/v1/supervisor", tight.token("ana"), local="127.0.0.11") for _ in range(2)]
    codes = Counter[str]()
    for line in lines * 20:
        with pytest.raises(HubError) as refused:
            await line.command("monitor.stop", conversation_id="nowhere")
        codes[refused.value.code] += 1
        if refused.value.code == "rate_limited":
            assert refused.value.details["limit"] == "commands_per_user_per_s"
            assert refused.value.details["max"] == 2
    assert codes["unknown_conversation"] >= 20
    assert codes["rate_limited"] >= 5


async def test_subscriptions_of_a_user(tight: Centre) -> None:
    """A person's sockets share the views; one that is given up makes room, and so does a socket that goes."""
    one, two = [await tight.connect("/v1/supervisor", tight.token("ana"), local="127.0.0.12") for _ in range(2)]
    held = [(await line.command("view.subscribe", view="roster"))["subscription"] for line in (one, two)]
    refused = await two.refused("rate_limited", "view.subscribe", view="roster")
    assert refused.details["limit"] == "subscriptions_per_user"
    await two.command("view.unsubscribe", subscription=held[1])
    await two.command("view.subscribe", view="queues")
    await one.close()

    async def room() -> bool:
        try:
            await two.command("view.subscribe", view="roster")
        except HubError:
            return False
        return True

    await eventually(room, wanted="room", pause=0.6)


async def test_replayed_bytes_of_a_user(tight: Centre) -> None:
    """A resume that would send too much again gives a reset with a snapshot, said as such; nothing is left out silently."""
    story = await tight.story()
    ana = await tight.connect("/v1/supervisor", tight.token("ana"), local="127.0.0.13")
    await ana.command("status.set", status="available")
    await story.monitored_by(ana)
    for round_ in range(3):
        await ana.drop()
        for n in range(3):
            await story.customer_says(f"{round_}.{n} " + "x" * 1000)
        ana = await tight.connect(
            "/v1/supervisor", tight.token("ana"), resume=ana.resumption(), local=f"127.0.0.{14 + round_}"
        )
        assert ana.session["resumed"] is True
        if round_ == 0:
            for _ in range(3):
                await ana.expect("message.created", story.id)
    reset = await ana.expect("stream.reset", story.id)
    assert reset["data"]["reason"] == "more was missed than is sent again"
    assert len(reset["data"]["snapshot"]["messages"]) == 9
    assert (await refusals(tight))["replay_bytes_per_user_per_s"] >= 1


async def test_requests_of_a_token(tight: Centre) -> None:
    """Past the rate of a token: 429, with `Retry-After` and the limit's name; another token isn't concerned."""
    bearer = tight.token("ana")
    answers = [await tight.get("/v1/conversations", bearer=bearer) for _ in range(14)]
    assert answers[0].status_code == 200
    last = answers[-1]
    assert (last.status_code, last.json()["error"]["details"]["limit"]) == (429, "http_per_token_per_s")
    assert asked_for(429, last.headers)
    assert (await tight.get("/v1/conversations", bearer=tight.token("bo"))).status_code == 200


# -- PROXY


async def test_proxy_protocol(store: StoreProcess, tmp_path: Path) -> None:
    """With `proxy_protocol` a trusted proxy's header says who the client is; whoever sends none, or isn't one, is dropped."""
    config = 'trusted_proxies = ["127.0.0.9"]\nproxy_protocol = 1\n' + CONFIG + "sockets_per_address = 1\n"
    hub = HubProcess(tmp_path / "hub", redis_url=store.url, config=config).start()

    async def answer(local: str, *parts: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, local_addr=(local, 0))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(5):
                got = await reader.read(64)
            writer.transport.abort()
            return got
        return b""

    ask = b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n"
    try:
        line = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n"
        assert b" 200 " in await answer("127.0.0.9", line + ask)
        assert b" 200 " in await answer("127.0.0.9", line[:9], line[9:], ask)
        assert await answer("127.0.0.9", ask) == b""
        assert await answer("127.0.0.2", line + ask) == b""
        first = await answer("127.0.0.9", line + UPGRADE)
        assert b" 101 " in first
    finally:
        hub.kill()
