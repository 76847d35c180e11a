"""
The measurements of a hub that has much to do: ingest on a schedule, takeovers beside it, and 100,000 conversations.

What is measured of the node itself (memory, processor time, the collector's pauses) is read from /proc and from its
metrics (Linux).
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import redis

from clients.http import HttpClient
from clients.launch import HubProcess, start_hub
from clients.load.figures import spread
from clients.load.line import Line, open_line
from clients.load.measure import (
    Target,
    memory,
    monitor_freshness,
    names,
    settle,
    start_monitors,
)
from clients.load.platform import TEXT, bodies_of, message
from clients.load.schedule import at_rate
from clients.load.sockets import use_of

MESSAGES_EACH: Final = 20
AGENTS: Final = 400
VIEWERS: Final = 10
SNAPSHOT_S: Final = 120.0
ROWS_WANTED: Final = 200
TAKEOVERS_EACH: Final = 10  # of one supervisor, whose commands are carried out one after the other


async def ingest_at(target: Target, conversations: int, per_second: float, seconds: float) -> dict[str, Any]:
    """How long NDJSON requests of 100 messages take from when they were due, at that many messages a second, in ms."""
    platform, every, batch = target.platform(8), names(conversations), 100
    requests_ms: list[float] = []
    count = int(per_second / batch * seconds)
    events = [message(every[n % conversations], f"r{per_second:g}-{n}", TEXT) for n in range(count * batch)]
    bodies = bodies_of(events, batch)

    async def post(number: int, due_ns: int) -> None:
        await platform.post(bodies[number])
        requests_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    began = time.monotonic()
    await at_rate(per_second / batch, seconds, post)
    took_s = time.monotonic() - began
    await platform.close()
    return {
        "wanted_per_second": per_second,
        "per_second": round(count * batch / took_s, 1),
        "request_ms": spread(requests_ms),
        "results": dict(platform.results),
    }


# Takeovers beside other work

FASTEST: Final = 15_000  # messages a second that no ingest here exceeds: so many are made beforehand


class Flood:
    """
    Ingest that takes all there is, by four connections, for so many seconds or until it is told to stop.

    Its requests are made beforehand: what is measured beside it is in the same process, and mustn't wait for that.
    """

    def __init__(self, target: Target, conversations: int, seconds: float) -> None:
        self._seconds = seconds
        every = names(conversations)
        events = (message(every[n % conversations], f"f{n}", TEXT) for n in range(int(FASTEST * seconds)))
        self._bodies = bodies_of(list(events), 100)
        self._platform = target.platform()
        self._stopping = False

    async def run(self, begun: asyncio.Event | None = None) -> dict[str, Any]:
        """Send (`begun` is set then); what came of it."""
        if begun is not None:
            begun.set()
        took_s = await self._platform.post_all(self._until_stopped())
        await self._platform.close()
        taken = self._platform.results["accepted"]
        return {"per_second": round(taken / took_s, 1), "results": dict(self._platform.results)}

    def _until_stopped(self) -> Iterator[bytes]:
        until = time.monotonic() + self._seconds
        for body in self._bodies:
            if self._stopping or time.monotonic() > until:
                return
            yield body

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = True


async def takeovers_beside(
    target: Target,
    count: int,
    per_second: float,
    other: Callable[[asyncio.Event], Coroutine[Any, Any, dict[str, Any]]],
    stop: Callable[[], None] = lambda: None,
    agents: int = 20,
) -> dict[str, Any]:
    """
    From `takeover.confirm` to the agent's `takeover.notified`, in ms, while `other` runs in the same hub.

    It sets its event when its work begins. `stop` asks it to end; `other_lasted` tells whether it had to.
    """
    platform = target.platform()
    every, people = [f"t{number:06}" for number in range(count)], [f"taken-{n}" for n in range(agents)]
    seen_ns: dict[str, int] = {}

    def notice(event: dict[str, Any], now_ns: int) -> None:
        if event["event"] == "takeover.notified":
            seen_ns[event["data"]["takeover_id"]] = now_ns

    desks = [await open_line(target.url, "/v1/agent", target.token("agent", name), notice) for name in people]
    await platform.begin(every, people, "taken")
    bosses = [await target.supervisor(5_000 + number) for number in range(-(-count // TAKEOVERS_EACH))]
    await start_monitors(bosses, every)
    confirmed_ns: dict[str, int] = {}

    async def take(number: int, _: int) -> None:
        boss = bosses[number % len(bosses)]
        plan = await boss.tell("takeover.prepare", conversation_id=every[number])
        confirmed_ns[plan["takeover_id"]] = time.monotonic_ns()
        await boss.tell("takeover.confirm", takeover_id=plan["takeover_id"], confirm_token=plan["confirm_token"])

    begun = asyncio.Event()
    beside = asyncio.create_task(other(begun))
    await begun.wait()
    await asyncio.sleep(1.0)  # so that none of the takeovers finds the hub idle
    await at_rate(per_second, count / per_second, take)
    await settle(lambda: seen_ns.keys() >= confirmed_ns.keys())
    still_busy = not beside.done()
    stop()
    found = await beside
    for line in (*desks, *bosses):
        line.close()
    await platform.close()
    notices = [(seen_ns[name] - at) / 1e6 for name, at in confirmed_ns.items() if name in seen_ns]
    return {
        "takeovers": len(confirmed_ns),
        "unseen": len(confirmed_ns) - len(notices),
        "notice_ms": spread(notices),
        "other_lasted": still_busy,
        "other": found,
    }


async def takeovers_beside_monitors(
    target: Target, conversations: int, count: int, per_second: float
) -> dict[str, Any]:
    """Beside 1,000 messages a second to as many monitored conversations as given."""
    seconds = count / per_second + 3.0

    def monitors(begun: asyncio.Event) -> Coroutine[Any, Any, dict[str, Any]]:
        return monitor_freshness(target, conversations, 1_000, seconds, begun=begun)

    return await takeovers_beside(target, count, per_second, monitors)


# 100,000 conversations


async def metrics_of(hub: HubProcess) -> dict[str, float]:
    """A node's metrics by name, labels and all."""
    client = HttpClient(hub.metrics_url)
    try:
        answer = await client.request("GET", "/metrics")
    finally:
        await client.close()
    found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) ([0-9.e+-]+)$", answer.body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def longest(figures: dict[str, float], before: dict[str, float], name: str) -> float:
    """Upper bound in ms of the longest value that came into a histogram meanwhile; 0.0 where none did."""
    worst = seen = 0.0
    for key, count in figures.items():
        if key.startswith(f"{name}_bucket"):
            new = count - before.get(key, 0.0)
            bound = key.partition('le="')[2].partition('"')[0]
            if new > seen:
                worst = float(bound) * 1000
            seen = new
    return worst


async def fill(target: Target, conversations: int, messages: int = MESSAGES_EACH) -> None:
    """Start the conversations and have so many messages said in each."""
    platform, every = target.platform(), names(conversations)
    await platform.begin(every, [f"agent-{n}" for n in range(AGENTS)])
    for number in range(1, messages):
        for start in range(0, conversations, 10_000):
            part = every[start : start + 10_000]
            await platform.post_all(bodies_of([message(name, f"m{number}", TEXT) for name in part], 200))
    await platform.close()


async def first_rows(target: Target, number: int, **wanted: Any) -> dict[str, Any]:
    """
    From `view.subscribe` to the first frame with rows, and to the whole view, in ms.

    The first frame has at most 500 rows, so it shows the first 200 of a sorted view.
    """
    times: list[tuple[int, int]] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def keep(frame: bytes, now_ns: int) -> bool:
        if b'"view.snapshot"' not in frame:
            return False
        times.append((now_ns, frame.count(b'{"conversation_id"')))
        if b'"more":false' in frame and not done.done():
            done.set_result(None)
        return b'"ok"' not in frame

    line = await target.supervisor(number)
    line.on_frame = keep
    began_ns = time.monotonic_ns()
    line.tell("view.subscribe", view="interactions", **wanted)
    async with asyncio.timeout(SNAPSHOT_S):
        await done
    line.close()
    return {
        "first_ms": round((times[0][0] - began_ns) / 1e6, 2),
        "first_rows": times[0][1],
        "whole_ms": round((times[-1][0] - began_ns) / 1e6, 2),
    }


async def hello_and_view(target: Target, conversations: int) -> float:
    """The first socket of an organization on a node, from connecting to its first complete view, in ms."""
    began = time.monotonic()
    await first_rows(target, 900, limit=conversations)
    return (time.monotonic() - began) * 1000


@asynccontextmanager
async def viewers(target: Target, count: int, **wanted: Any) -> AsyncIterator[list[Line]]:
    """Supervisors with an interactions view each, sorted in different ways, of the default size unless `wanted` says so."""
    lines = []
    for number in range(count):
        sort = ("-started_at", "started_at", "queue", "-messages", "state")[number % 5]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def keep(frame: bytes, _: int, done: "asyncio.Future[None]" = done) -> bool:
            if b'"more":false' in frame and not done.done():
                done.set_result(None)
            return b'"view.' in frame and b'"ok"' not in frame

        line = await target.supervisor(1_000 + number)
        line.on_frame = keep
        line.tell("view.subscribe", view="interactions", sort=sort, **wanted)
        async with asyncio.timeout(SNAPSHOT_S):
            await done
        lines.append(line)
    yield lines
    for line in lines:
        line.close()


async def busy_share(target: Target, node: HubProcess, conversations: int, per_second: float, seconds: float) -> float:
    """
    The share of one core that the node uses while so many conversations a second change, with views open there.

    Agent and customer answer each other in turn: a row changes when somebody else is waited for.
    """
    platform, every, batch = target.platform(), names(conversations), 50

    async def post(number: int, _: int) -> None:
        at = number * batch
        events = []
        for place in range(at, at + batch):
            name = every[place * 7919 % conversations]
            agents_turn = place // conversations % 2 == 0
            events.append(message(name, f"b{place}", TEXT, f"{name}:a" if agents_turn else None))
        await platform.post(bodies_of(events, batch)[0])

    before, began = use_of(node), time.monotonic()
    await at_rate(per_second / batch, seconds, post)
    used = (use_of(node).cpu_ns - before.cpu_ns) / 1e9
    share = used / (time.monotonic() - began)
    await platform.close()
    return share


def store_used_bytes(hub: HubProcess) -> int:
    """What a hub's embedded store says that it has allocated (INFO, `used_memory`)."""
    with redis.Redis(unix_socket_path=str(hub.store_socket())) as client:
        used: int = client.info("memory")["used_memory"]
    return used


async def many_conversations(conversations: int, folder: Path) -> dict[str, Any]:
    """
    All figures of `conversations` live ones, each with 20 messages.

    They come in by one node, with an embedded store; a second one on the same store, which nobody used before, is the one
    that is looked at.
    """
    async with start_hub(folder / "filling") as first:
        filling = Target(first.url, first.secret)
        empty = await asyncio.to_thread(store_used_bytes, first)
        await fill(filling, conversations)
        full = await asyncio.to_thread(store_used_bytes, first)
        store = {"HUB_REDIS_URL": f"unix://{first.store_socket()}"}
        async with start_hub(folder / "looking", secret=first.secret, variables=store) as second:
            looking = Target(second.url, second.secret, filling.org)
            found = await _look(filling, looking, second, conversations)
    return {"conversations": conversations, "engine_bytes_each": (full - empty) / conversations, **found}


async def _look(filling: Target, looking: Target, node: HubProcess, conversations: int) -> dict[str, Any]:
    found: dict[str, Any] = {"first_view_ms": round(await hello_and_view(looking, conversations), 1)}
    wanted: dict[str, dict[str, Any]] = {
        "sorted": {"sort": "-messages", "filter": {"channels": ["web"]}},
        "text": {"sort": "-started_at", "filter": {"text": "customer 7"}},
    }
    for name, view in wanted.items():
        found[name] = [await first_rows(looking, 910 + n, limit=ROWS_WANTED, **_apart(view, n)) for n in range(3)]
    async with viewers(looking, VIEWERS):
        before = await metrics_of(node)
        found["busy_share"] = round(await busy_share(filling, node, conversations, 1_000, 10.0), 4)
        after = await metrics_of(node)
        found["node_mib"] = memory(node)["node_mib"]
    found["collector_ms"] = longest(after, before, "hub_collector_seconds")
    found["loop_lag_ms"] = longest(after, before, "hub_loop_lag_seconds")
    return found


def _apart(view: dict[str, Any], number: int) -> dict[str, Any]:
    """The same view for another class of viewers: nothing that was computed for the one before can be used again."""
    filter_ = dict(view["filter"])
    if "text" in filter_:
        filter_["text"] += str(number)
    else:
        filter_["channels"] = [("web", "open", "sms")[number]]
    return {**view, "filter": filter_}
