"""
`python -m clients.load.bench`: the project's promises of speed, measured on a hub of its own.

Starts `hub serve` with its embedded store (AOF on) for each measurement, sends on loopback only, prints target,
measured, ratio and result, and optionally a JSON report.

    ingest      messages a second by NDJSON requests of 100 over 10,000 conversations, and what a request takes at a rate
    monitors    age of messages at the monitors' sockets: 1,000 a second over 2,000 monitored conversations
    takeover    takeover.confirm to the agent's takeover.notified, beside that, and beside saturated ingest
    readers     800 monitors beside 200 stuck desks: what they wait, what the node's memory grows by
    views       100,000 live conversations: a node's first view, sorted and searched ones, memory, processor, pauses
    growth      what one more costs: with 100 to 100,000 conversations, with one to four nodes
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clients.launch import NotStarted, start_hub
from clients.load.figures import Figure, machine, table
from clients.load.growth import growth, pictures, within
from clients.load.measure import Target, monitor_freshness, names, stuck_readers
from clients.load.scale import Flood, ingest_at, many_conversations, takeovers_beside, takeovers_beside_monitors

Measured = tuple[list[Figure], dict[str, Any]]
Measurement = Callable[[Path, float], Awaitable[Measured]]


async def measure_ingest(folder: Path, scale: float) -> Measured:
    """As fast as it goes, then on a schedule."""
    async with start_hub(folder) as hub:
        target, count, seconds = Target(hub.url, hub.secret), int(10_000 * scale), 8 * min(1.0, scale * 2)
        platform = target.platform()
        await platform.begin(names(count), [f"agent-{n}" for n in range(100)])
        await platform.close()
        fastest = await Flood(target, count, seconds).run()
        at = {rate: await ingest_at(target, count, rate, seconds) for rate in (10_000, 15_000)}
    return [
        Figure("ingest, NDJSON of 100", "messages/s", 10_000, fastest["per_second"], at_least=True),
        Figure("ingest at 10,000 a second: a request, p99", "ms", 80, at[10_000]["request_ms"]["p99"]),
    ], {"fastest": fastest, "at": at}


async def measure_monitors(folder: Path, scale: float) -> Measured:
    """Freshness of 2,000 monitored conversations at 1,000 messages a second, in requests of 10 and of 100."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for batch, p50, p99 in ((10, 4, 15), (100, 12, 30)):
        async with start_hub(folder / str(batch)) as hub:
            target, seconds = Target(hub.url, hub.secret), 10 * min(1.0, scale * 2)
            found = await monitor_freshness(target, int(2_000 * scale), 1_000, seconds, batch)
        if found["lost"]:
            print(f"warning: {found['lost']} of {found['sent']} messages never came", file=sys.stderr)
        figures += [
            Figure(f"monitor's frame, POSTs of {batch}, p50", "ms", p50, found["frame_ms"]["p50"]),
            Figure(f"monitor's frame, POSTs of {batch}, p99", "ms", p99, found["frame_ms"]["p99"]),
        ]
        details[str(batch)] = found
    return figures, details


async def measure_takeover(folder: Path, scale: float) -> Measured:
    """Confirmation to notice, beside monitors, and beside ingest that takes all there is."""
    count, rate = max(20, int(500 * scale)), 25.0
    async with start_hub(folder / "monitors") as hub:
        target = Target(hub.url, hub.secret)
        beside = await takeovers_beside_monitors(target, int(2_000 * scale), count, rate)
    async with start_hub(folder / "ingest") as hub:
        target, conversations = Target(hub.url, hub.secret), int(10_000 * scale)
        platform = target.platform()
        await platform.begin(names(conversations), [f"agent-{n}" for n in range(100)])
        await platform.close()
        flood = Flood(target, conversations, count / rate + 3.0)
        full = await takeovers_beside(target, count, rate, flood.run, flood.stop)
    for name, found in (("monitors", beside), ("ingest", full)):
        if found["unseen"]:
            print(f"warning: beside {name} {found['unseen']} notices never came", file=sys.stderr)
    return [
        Figure("takeover.confirm to the agent's frame, p99", "ms", 15, beside["notice_ms"]["p99"]),
        Figure("the same beside saturated ingest, p99", "ms", 40, full["notice_ms"]["p99"]),
    ], {"monitors": beside, "ingest": full}


async def measure_views(folder: Path, scale: float) -> Measured:
    """100,000 live conversations."""
    found = await many_conversations(int(100_000 * scale), folder)
    return [
        Figure("100,000 conversations: the node's first view", "ms", 10_000, found["first_view_ms"]),
        Figure("first 200 rows, sorted and filtered", "ms", 100, max(one["whole_ms"] for one in found["sorted"])),
        Figure("first 200 rows, by text", "ms", 200, max(one["whole_ms"] for one in found["text"])),
        Figure("1,000 changes/s, 10 views: the node's processor", "% of a core", 25, found["busy_share"] * 100),
        Figure("meanwhile the collector's longest pause, at most", "ms", 50, max(found["collector_ms"], 0.1)),
        Figure("the node's memory", "MiB", 400, found["node_mib"]),
        Figure("the engine's memory, a conversation of 20 messages", "KB", 16, found["engine_bytes_each"] / 1024),
    ], found


async def measure_readers(folder: Path, scale: float) -> Measured:
    """200 of 1,000 sockets are stuck."""
    async with start_hub(folder) as hub:
        found = await stuck_readers(Target(hub.url, hub.secret), hub, int(1_000 * scale), 25)
    share = found["beside_ms"]["p99"] / found["quiet_ms"]["p99"]
    return [
        Figure("200 of 1,000 sockets stuck: p99 of the others, to quiet", "ratio", 2, share),
        Figure("the stuck dropped 10 s later", "sockets", found["stuck"], found["out"], at_least=True),
        Figure("the node's memory grew by", "MiB", 1.5 * found["stuck"], max(found["grown_mib"], 0.1)),
    ], found


async def measure_growth(folder: Path, scale: float) -> Measured:
    """The dearest unit to the cheapest, by number of conversations and of nodes."""
    found = await growth(folder, scale)
    conversations, nodes = found["conversations"].values(), found["nodes"].values()
    return [
        Figure("a message, by number of conversations", "ratio", 1.5, within([one["us"] for one in conversations])),
        Figure("the engine's bytes of a conversation", "ratio", 1.5, within([one["bytes"] for one in conversations])),
        Figure("a monitor's message, by number of nodes", "ratio", 1.5, within([one["us"] for one in nodes])),
    ], found


MEASUREMENTS: dict[str, Measurement] = {
    "ingest": measure_ingest,
    "monitors": measure_monitors,
    "takeover": measure_takeover,
    "readers": measure_readers,
    "views": measure_views,
    "growth": measure_growth,
}


async def run(chosen: list[str], scale: float) -> tuple[list[Figure], dict[str, Any]]:
    """Run measurements one after the other, each on a fresh hub; figures and details."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for name in chosen:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
            found, details[name] = await MEASUREMENTS[name](Path(directory), scale)
        figures += found
    return figures, details


def main() -> int:
    """Parse, measure, print; exit status 0 where every target is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m clients.load.bench", description="Measure the hub's promises.")
    parser.add_argument("only", nargs="*", choices=[[], *MEASUREMENTS], help="which ones (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of conversations, for a quick look")
    parser.add_argument("--json", type=Path, help="write a report to this file")
    parser.add_argument("--plots", type=Path, help="draw what grew as SVG files into this folder")
    args = parser.parse_args()
    try:
        figures, details = _runner()(run(args.only or list(MEASUREMENTS), args.scale))
    except NotStarted as error:
        print(f"The hub did not start: {error}", file=sys.stderr)
        return 1
    print(table(figures))
    report = {"machine": machine(), "scale": args.scale, "figures": [f.as_json() for f in figures], "details": details}
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if args.plots and "growth" in details:
        args.plots.mkdir(parents=True, exist_ok=True)
        for name, svg in pictures(details["growth"]).items():
            (args.plots / name).write_text(svg, encoding="utf-8")
    return 0 if all(figure.passed for figure in figures) else 1


def _runner() -> Callable[[Any], Any]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    runner: Callable[[Any], Any] = uvloop.run
    return runner


if __name__ == "__main__":
    raise SystemExit(main())
