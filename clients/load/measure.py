"""
The measurements: each takes a running hub, makes its own organization there, and returns plain numbers.

Times of frames are taken where the bytes arrive. A message carries when it was due in its text (`@<ns>@`), so that its
age at a screen counts from the schedule and not from when the generator got round to it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from clients.launch import HubProcess
from clients.load.figures import spread
from clients.load.line import Line, open_line
from clients.load.platform import TEXT, Platform, bodies_of, message
from clients.load.schedule import at_rate
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token

MONITORS_A_SESSION: Final = 100  # the hub's limit
SETTLE_S: Final = 10.0  # the longest wait for frames that are still on their way


@dataclass
class Target:
    """Where a measurement sends: a hub's address and its tokens, in an organization of the measurement's own."""

    url: str
    secret: str
    org: str = field(default_factory=lambda: "load-" + secrets.token_hex(4))

    def token(self, role: str, sub: str) -> str:
        """A token with every right of the role."""
        permissions = SUPERVISOR_PERMISSIONS if role == "supervisor" else ()
        return make_token(self.secret, role, sub, org=self.org, permissions=permissions)

    def platform(self, connections: int = 4) -> Platform:
        """A connector by HTTP."""
        return Platform(self.url, self.token("connector", "load-platform"), connections)

    async def supervisor(self, number: int, on_event: Callable[[dict[str, Any], int], None] | None = None) -> Line:
        """A supervisor's socket, Available."""
        line = await open_line(self.url, "/v1/supervisor", self.token("supervisor", f"sup-{number}"), on_event)
        await line.tell("status.set", status="available")
        return line


def names(count: int) -> list[str]:
    """Conversation ids."""
    return [f"c{number:06}" for number in range(count)]


# Freshness of monitors


class Ages:
    """Ages in ms of messages at the sockets, by the time in their text."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def take(self, event: dict[str, Any], now_ns: int) -> None:
        """Note a message's age; other events have none."""
        if event["event"] == "message.created" and (text := str(event["data"]["text"])).startswith("@"):
            self.ms.append((now_ns - int(text.split("@", 2)[1])) / 1e6)


async def start_monitors(lines: Sequence[Line], conversations: Sequence[str]) -> None:
    """Monitor the conversations, an equal share of them at each socket."""
    for at, line in enumerate(lines):
        shares = conversations[at :: len(lines)]
        await asyncio.gather(*(line.tell("monitor.start", conversation_id=name) for name in shares))


async def monitor_freshness(
    target: Target,
    conversations: int,
    per_second: float,
    seconds: float,
    batch: int = 10,
    begun: asyncio.Event | None = None,
) -> dict[str, Any]:
    """
    How old messages are when they reach the monitors' sockets, in ms since their request was due.

    All `conversations` are monitored, 100 at a socket; messages come at a constant rate in requests of `batch`. `begun` is
    set with the first of them.
    """
    platform, every, ages = target.platform(), names(conversations), Ages()
    await platform.begin(every, [f"agent-{n}" for n in range(50)])
    count = -(-conversations // MONITORS_A_SESSION)
    lines = [await target.supervisor(number, ages.take) for number in range(count)]
    await start_monitors(lines, every)
    answers_ms: list[float] = []
    if begun is not None:
        begun.set()

    async def post(number: int, due_ns: int) -> None:
        at = number * batch
        chosen = [every[(at + i) * 7919 % conversations] for i in range(batch)]
        events = [message(name, f"f{at + i}", f"@{due_ns}@ {TEXT}") for i, name in enumerate(chosen)]
        await platform.post(bodies_of(events, batch)[0])
        answers_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    sent = batch * await at_rate(per_second / batch, seconds, post)
    await settle(lambda: len(ages.ms) >= sent)
    for line in lines:
        line.close()
    await platform.close()
    return {
        "sent": sent,
        "lost": sent - len(ages.ms),
        "frame_ms": spread(ages.ms),
        "request_ms": spread(answers_ms),
        "results": dict(platform.results),
    }


# Readers that don't read


async def stuck_readers(target: Target, hub: HubProcess, sockets: int, seconds: float) -> dict[str, Any]:
    """
    Whether desks that stop reading, a fifth of all sockets, make the monitors at the others wait.

    The same traffic twice, first with everybody reading: small messages to the monitors, one conversation at each socket
    (their ages in ms are `quiet_ms` and `beside_ms`), and large ones to the desks, about 2 MiB each. `out` is how many of the
    stuck were dropped 10 s later; `grown_mib` is what the node's memory grew by while they were stuck.
    """
    platform, every, ages = target.platform(), names(sockets), Ages()
    small, large = [name for place, name in enumerate(every) if place % 5], every[::5]
    await platform.begin(small, [f"agent-{n}" for n in range(50)])
    await platform.begin(large, [f"desk-{n}" for n in range(len(large))])
    lines = [await target.supervisor(number, ages.take) for number in range(len(small))]
    for line, conversation in zip(lines, small, strict=True):
        await line.tell("monitor.start", conversation_id=conversation)
    stuck = [
        await open_line(target.url, "/v1/agent", target.token("agent", f"desk-{n}"), receive_buffer=32_768)
        for n in range(len(large))
    ]
    padding = "x" * 16_000
    large_each = 130  # 2 MiB: twice the hub's limit, with what the kernel takes in
    sent = 0

    async def phase() -> list[float]:
        nonlocal sent
        ages.ms = []
        rate = 50.0
        larger = -(-len(large) * large_each // int(rate * seconds))

        async def post(number: int, due_ns: int) -> None:
            nonlocal sent
            at = number * larger
            events = [
                message(small[(number * 10 + i) * 7919 % len(small)], f"q{sent}-{i}", f"@{due_ns}@ {TEXT}")
                for i in range(10)
            ]
            events += [message(large[(at + i) % len(large)], f"b{sent}-{i}", padding) for i in range(larger)]
            sent += 1
            for body in bodies_of(events, 50):
                await platform.post(body)

        expected = 10 * await at_rate(rate, seconds, post)
        await settle(lambda: len(ages.ms) >= expected)
        if len(ages.ms) < expected:
            raise RuntimeError(f"{expected - len(ages.ms)} of {expected} messages never came to those who read")
        return ages.ms

    quiet = await phase()
    before = memory(hub)["node_mib"]
    for line in stuck:
        line.pause()
    watching = asyncio.create_task(_largest(hub))
    beside = await phase()
    grown = await _stopped(watching) - before
    await asyncio.sleep(10.0)
    for line in stuck:
        line.resume()
    await asyncio.wait([line.closed for line in stuck], timeout=3.0)
    out = sum(line.closed.done() for line in stuck)
    for line in (*lines, *stuck):
        line.close()
    await platform.close()
    return {
        "sockets": sockets,
        "stuck": len(stuck),
        "out": out,
        "grown_mib": round(grown, 1),
        "quiet_ms": spread(quiet),
        "beside_ms": spread(beside),
        "results": dict(platform.results),
    }


async def _largest(hub: HubProcess) -> float:
    """The node's largest memory in MiB until this is cancelled, which is its end."""
    largest = 0.0
    with suppress(asyncio.CancelledError):
        while True:
            largest = max(largest, memory(hub)["node_mib"])
            await asyncio.sleep(0.1)
    return largest


async def _stopped(task: asyncio.Task[float]) -> float:
    task.cancel()
    return await task


# The node


def memory(hub: HubProcess) -> dict[str, float]:
    """Resident MiB of the node's process, and of its embedded store beside it."""
    return {"node_mib": round(hub.rss_bytes() / 2**20, 1), "store_mib": round(hub.store_rss_bytes() / 2**20, 1)}


async def settle(condition: Callable[[], bool]) -> None:
    """Wait until what was sent has arrived, or until it is plain that it won't."""
    until = time.monotonic() + SETTLE_S
    while not condition() and time.monotonic() < until:  # noqa: ASYNC110 - sampling, outside of what is measured
        await asyncio.sleep(0.01)
