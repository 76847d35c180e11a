"""
What one more costs: a message where there are 100 or 100,000 conversations, a message where there are one to four nodes.

The cost is the hubs' processor time (from /proc), less what they use when nothing comes. Work and viewers stay the same
while the number grows, so that the cost of a unit would, too, where nothing looks at everything.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from clients.launch import HubProcess, start_hub
from clients.load.line import Line
from clients.load.measure import MONITORS_A_SESSION, Target, names, start_monitors
from clients.load.peers.figures import Range
from clients.load.peers.plots import bars
from clients.load.platform import TEXT, Platform, bodies_of, message
from clients.load.scale import fill, store_used_bytes, viewers
from clients.load.schedule import at_rate
from clients.load.sockets import use_of

CONVERSATIONS: Final = (100, 1_000, 10_000, 100_000)
NODES: Final = (1, 2, 4)
MONITORED: Final = 800
PER_SECOND: Final = 500.0
BATCH: Final = 10
WINDOW_ROWS: Final = 200
IDLE_S: Final = 3.0
FIRST: Final = 200


def within(costs: Sequence[float]) -> float:
    """How many times the dearest unit costs the cheapest."""
    return max(costs) / min(costs)


async def cost_of_messages(
    nodes: Sequence[HubProcess], platform: Platform, every: Sequence[str], seconds: float
) -> float:
    """Microseconds of all nodes' processor time for a message, less what they use idle."""
    began, before = time.monotonic(), _used_ns(nodes)
    await asyncio.sleep(IDLE_S)
    idle_share = (_used_ns(nodes) - before) / 1e9 / (time.monotonic() - began)

    async def post(number: int, _: int) -> None:
        at = number * BATCH
        chosen = [every[(at + place) * 7919 % len(every)] for place in range(BATCH)]
        events = [message(name, f"g{at + place}", TEXT) for place, name in enumerate(chosen)]
        await platform.post(bodies_of(events, BATCH)[0])

    began, before = time.monotonic(), _used_ns(nodes)
    sent = BATCH * await at_rate(PER_SECOND / BATCH, seconds, post)
    took_s = time.monotonic() - began
    return ((_used_ns(nodes) - before) / 1e3 - idle_share * took_s * 1e6) / sent


def _used_ns(nodes: Sequence[HubProcess]) -> int:
    return sum(use_of(node).cpu_ns for node in nodes)


async def by_conversations(folder: Path, counts: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
    """By number of conversations: `us` for a message with two views open, `bytes` of the engine for a conversation."""
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        async with start_hub(folder / f"c{count}") as hub:
            target = Target(hub.url, hub.secret)
            await fill(Target(hub.url, hub.secret), FIRST, messages=1)  # what the first ones bring isn't the others'
            empty = await asyncio.to_thread(store_used_bytes, hub)
            await fill(target, count, messages=5)
            full = await asyncio.to_thread(store_used_bytes, hub)
            platform = target.platform()
            async with viewers(target, 2, limit=WINDOW_ROWS):
                us = await cost_of_messages([hub], platform, names(count), seconds)
            await platform.close()
        found[f"{count:,}"] = {"us": round(us, 1), "bytes": round((full - empty) / count)}
    return found


async def by_nodes(folder: Path, counts: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
    """By number of nodes on one store: `us` of all nodes for a message to a monitor, the monitors spread over them."""
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(start_hub(folder / f"n{count}"))
            store = {"HUB_REDIS_URL": f"unix://{first.store_socket()}"}
            others = [
                await stack.enter_async_context(
                    start_hub(folder / f"n{count}-{number}", secret=first.secret, variables=store)
                )
                for number in range(1, count)
            ]
            us = await _monitored([first, *others], seconds)
        found[str(count)] = {"us": round(us, 1)}
    return found


async def _monitored(nodes: Sequence[HubProcess], seconds: float) -> float:
    first = nodes[0]
    target, every = Target(first.url, first.secret), names(MONITORED)
    platform = target.platform()
    await platform.begin(every, [f"agent-{number}" for number in range(50)])
    lines: list[Line] = []
    for number in range(MONITORED // MONITORS_A_SESSION):
        node = nodes[number % len(nodes)]
        lines.append(await Target(node.url, node.secret, target.org).supervisor(number))
    await start_monitors(lines, every)
    us = await cost_of_messages(nodes, platform, every, seconds)
    for line in lines:
        line.close()
    await platform.close()
    return us


async def growth(folder: Path, scale: float) -> dict[str, Any]:
    """Both; a `scale` below 1 leaves out the largest numbers of conversations and shortens the rest."""
    seconds = 10 * min(1.0, scale * 2)
    most = max(CONVERSATIONS) * scale
    counts = [count for count in CONVERSATIONS if count <= most] or [CONVERSATIONS[0]]
    return {
        "conversations": await by_conversations(folder, counts, seconds),
        "nodes": await by_nodes(folder, NODES, seconds),
    }


def pictures(found: dict[str, Any]) -> dict[str, str]:
    """File name to SVG of what `growth` found, a bar to each number."""
    return {
        f"p9-{name}.svg": bars(
            f"P9: {title}", unit, [(count, Range.of([one[key]])) for count, one in found[kind].items()]
        )
        for name, kind, key, title, unit in (
            ("messages-by-conversations", "conversations", "us", "processor for a message, by conversations", "us"),
            ("engine-by-conversations", "conversations", "bytes", "the engine's memory of a conversation", "bytes"),
            ("messages-by-nodes", "nodes", "us", "processor of all nodes for a monitor's message, by nodes", "us"),
        )
    }
