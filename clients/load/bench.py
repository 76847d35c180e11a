"""
`python -m clients.load.bench`: the project's promises of speed, measured on a hub of its own.

Starts `hub serve` with its embedded store (AOF on) for each measurement, sends on loopback only, prints target,
measured, ratio and result, and optionally a JSON report.

    ingest      messages a second by NDJSON requests of 100 over 10,000 conversations
    monitors    age of messages at the monitors' sockets: 1,000 a second over 2,000 monitored conversations, tens
    takeover    takeover.confirm to the agent's takeover.notified
    readers     800 monitors beside 200 stuck desks: what they wait, what the node's memory grows by
    views       10,000 live conversations: first complete snapshot of a node's first viewer, memory of the node
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clients.launch import HubProcess, NotStarted, start_hub
from clients.load.figures import Figure, machine, table
from clients.load.measure import (
    Target,
    first_snapshot,
    ingest_rate,
    memory,
    monitor_freshness,
    names,
    stuck_readers,
    takeover_notice,
)

Measured = tuple[list[Figure], dict[str, Any]]
Measurement = Callable[[HubProcess, float], Awaitable[Measured]]


async def measure_views(hub: HubProcess, scale: float) -> Measured:
    """10,000 live conversations in a view, and the ingest into them."""
    target = Target(hub.url, hub.secret)
    count = int(10_000 * scale)
    platform = target.platform()
    await platform.begin(names(count), [f"agent-{n}" for n in range(100)])
    await platform.close()
    snapshots = [await first_snapshot(target, number) for number in range(5)]
    resident = memory(hub)
    ingest = await ingest_rate(target, count, 8 * min(1.0, scale * 2))
    later = memory(hub)
    if snapshots[0]["rows"] != count:
        print(f"warning: the snapshot held {snapshots[0]['rows']} rows of {count}", file=sys.stderr)
    return [
        Figure("ingest, NDJSON of 100, 10,000 conversations", "messages/s", 8_000, ingest["per_second"], at_least=True),
        Figure("10,000 rows: first complete snapshot", "ms", 500, snapshots[0]["ms"]),
        Figure("10,000 rows: node's memory", "MiB", 200, max(resident["node_mib"], later["node_mib"])),
    ], {"snapshots": snapshots, "memory": resident, "memory_after_ingest": later, "ingest": ingest}


async def measure_monitors(hub: HubProcess, scale: float) -> Measured:
    """Freshness of 2,000 monitored conversations at 1,000 messages a second."""
    target = Target(hub.url, hub.secret)
    found = await monitor_freshness(target, int(2_000 * scale), 1_000, 10 * min(1.0, scale * 2))
    if found["lost"]:
        print(f"warning: {found['lost']} of {found['sent']} messages never came", file=sys.stderr)
    return [
        Figure("monitor's frame behind ingest, p50", "ms", 6, found["frame_ms"]["p50"]),
        Figure("monitor's frame behind ingest, p99", "ms", 30, found["frame_ms"]["p99"]),
    ], found


async def measure_takeover(hub: HubProcess, scale: float) -> Measured:
    """Confirmation to notice."""
    target = Target(hub.url, hub.secret)
    found = await takeover_notice(target, max(20, int(1_000 * scale)), 50)
    if found["unseen"]:
        print(f"warning: {found['unseen']} of {found['takeovers']} notices never came", file=sys.stderr)
    return [Figure("takeover.confirm to the agent's frame, p99", "ms", 25, found["notice_ms"]["p99"])], found


async def measure_readers(hub: HubProcess, scale: float) -> Measured:
    """200 of 1,000 sockets are stuck."""
    found = await stuck_readers(Target(hub.url, hub.secret), hub, int(1_000 * scale), 25)
    share = found["beside_ms"]["p99"] / found["quiet_ms"]["p99"]
    return [
        Figure("200 of 1,000 sockets stuck: p99 of the others, to quiet", "ratio", 2, share),
        Figure("the stuck dropped 10 s later", "sockets", found["stuck"], found["out"], at_least=True),
        Figure("the node's memory grew by", "MiB", 1.5 * found["stuck"], max(found["grown_mib"], 0.1)),
    ], found


MEASUREMENTS: dict[str, Measurement] = {
    "views": measure_views,
    "monitors": measure_monitors,
    "takeover": measure_takeover,
    "readers": measure_readers,
}


async def run(chosen: list[str], scale: float) -> tuple[list[Figure], dict[str, Any]]:
    """Run measurements one after the other, each on a fresh hub; figures and details."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for name in chosen:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
            async with start_hub(Path(directory) / "data") as hub:
                found, details[name] = await MEASUREMENTS[name](hub, scale)
        figures += found
    return figures, details


def main() -> int:
    """Parse, measure, print; exit status 0 where every target is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m clients.load.bench", description="Measure the hub's promises.")
    parser.add_argument("only", nargs="*", choices=[[], *MEASUREMENTS], help="which ones (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of conversations, for a quick look")
    parser.add_argument("--json", type=Path, help="write a report to this file")
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
