"""
`hub load`: a load test of a hub on this machine, with as many supervisors and messages as asked for.

Supervisors watch the interactions view or monitor conversations; messages come on an open-loop schedule. Printed and
written as JSON: ages of messages at the monitors, times of requests and snapshots, frames and bytes. Traffic goes to
loopback only.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from clients.launch import NotStarted, start_hub
from clients.load.figures import machine, spread
from clients.load.line import Line
from clients.load.measure import (
    MONITORS_A_SESSION,
    Ages,
    Target,
    memory,
    names,
    settle,
    start_monitors,
)
from clients.load.platform import TEXT, bodies_of, message
from clients.load.schedule import at_rate
from clients.wire import ClientError, is_loopback


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hub load`."""
    parser.add_argument("--url", help="a hub on this machine (default: one is started, with an embedded store)")
    parser.add_argument("--conversations", type=int, default=500, help="live conversations (default: %(default)s)")
    parser.add_argument("--supervisors", type=int, default=10, help="who watch the view (default: %(default)s)")
    parser.add_argument("--monitors", type=int, default=200, help="monitored conversations (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=10, help="messages a request (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the report to this file")


async def run_load(args: argparse.Namespace) -> int:
    """
    Run a load test; returns the exit status: 0, 1 where messages got lost or the hub failed, 2 for wrong arguments.

    Against a running hub (`--url`) tokens are made with `HUB_TOKEN_SECRET`.
    """
    secret = os.environ.get("HUB_TOKEN_SECRET", "")
    if args.url and not is_loopback(args.url):
        print("Load is sent to this machine only: give a loopback address.", file=sys.stderr)
        return 2
    if args.url and not secret:
        print("Set HUB_TOKEN_SECRET to the hub's secret, so that tokens can be made.", file=sys.stderr)
        return 2
    if args.monitors > args.conversations or args.batch < 1 or args.rate <= 0:
        print("--monitors can't exceed --conversations; --batch and --rate are above 0.", file=sys.stderr)
        return 2
    try:
        async with AsyncExitStack() as stack:
            report = await _run(args, stack, secret)
    except (NotStarted, ClientError, OSError) as error:
        print(f"The load test failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2))
    if args.json:
        await asyncio.to_thread(args.json.write_text, json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["lost"] == 0 else 1


async def _run(args: argparse.Namespace, stack: AsyncExitStack, secret: str) -> dict[str, Any]:
    hub = None
    if not args.url:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-load-", ignore_cleanup_errors=True))
        hub = await stack.enter_async_context(start_hub(Path(directory) / "data"))
    target = Target(hub.url, hub.secret) if hub else Target(args.url, secret)
    report = await _load(args, target)
    report["machine"] = machine()
    if hub is not None:
        report["memory"] = memory(hub)
    return report


async def _load(args: argparse.Namespace, target: Target) -> dict[str, Any]:
    platform, every, ages = target.platform(8), names(args.conversations), Ages()
    _say(f"{args.conversations} conversations ...")
    await platform.begin(every, [f"agent-{n}" for n in range(50)])
    monitored = every[: args.monitors]
    _say(f"{args.supervisors} viewers, {args.monitors} monitors ...")
    viewers, snapshot_ms = await _viewers(target, args.supervisors)
    count = -(-args.monitors // MONITORS_A_SESSION)
    monitors = [await target.supervisor(args.supervisors + n, ages.take) for n in range(count)]
    if monitors:
        await start_monitors(monitors, monitored)
    _say(f"{args.rate:g} messages a second for {args.seconds:g} s ...")
    requests_ms: list[float] = []
    expected = 0

    async def post(number: int, due_ns: int) -> None:
        nonlocal expected
        at = number * args.batch
        chosen = [(at + i) * 7919 % len(every) for i in range(args.batch)]
        events = [message(every[n], f"l{at + i}", f"@{due_ns}@ {TEXT}") for i, n in enumerate(chosen)]
        expected += sum(n < args.monitors for n in chosen)
        await platform.post(bodies_of(events, args.batch)[0])
        requests_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    sent = args.batch * await at_rate(args.rate / args.batch, args.seconds, post)
    await settle(lambda: len(ages.ms) >= expected)
    for line in (*viewers, *monitors):
        line.close()
    await platform.close()
    return {
        "sent": sent,
        "expected_at_monitors": expected,
        "lost": expected - len(ages.ms),
        "monitor_frame_ms": spread(ages.ms),
        "request_ms": spread(requests_ms),
        "snapshot_ms": spread(snapshot_ms),
        "view_frames": sum(line.frames for line in viewers),
        "view_bytes": sum(line.bytes for line in viewers),
        "results": dict(platform.results),
    }


async def _viewers(target: Target, count: int) -> tuple[list[Line], list[float]]:
    """Supervisors with an interactions view, and how long each one's snapshot took in ms."""
    lines, times = [], []
    for number in range(count):
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def watch(event: dict[str, Any], now_ns: int, done: "asyncio.Future[int]" = done) -> None:
            if event["event"] == "view.snapshot" and not event["data"]["more"] and not done.done():
                done.set_result(now_ns)

        line = await target.supervisor(number, watch)
        began_ns = time.monotonic_ns()
        await line.tell("view.subscribe", view="interactions")
        async with asyncio.timeout(30):
            times.append((await done - began_ns) / 1e6)
        line.on_event = None
        lines.append(line)
    return lines, times


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
