"""
`python -m clients.load.peers`: what the hub costs beside Nchan, uWebSockets.js and Socket.IO, on this machine.

The measured server has a core of its own; the load client, the store and everything else share another one. Each round
runs the hub and then a peer, so a ratio compares two neighbours in time; shown are medians with the lowest and the
highest round. Traffic goes to loopback only. Installed packages and the built load client stay in a scratch folder:
`--scratch`, else the variable BENCH_TMP, else ~/.cache/supervision-hub-bench. Linux only.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from clients.load.figures import machine
from clients.load.peers.driver import build
from clients.load.peers.figures import Line, Pair, lines_of, missed, table
from clients.load.peers.measure import (
    QUESTIONS,
    SCENARIOS,
    Bench,
    disturbance,
    measurer,
    most_sockets,
    plans,
    report,
    say,
)
from clients.load.peers.others import OTHERS, install
from clients.load.peers.plots import pictures
from clients.load.peers.programs import BenchError, two_cores

FOLDER = "supervision-hub-bench"


def scratch_folder(given: Path | None) -> Path:
    """Where packages and the built client stay."""
    if given is not None:
        return given.absolute()
    if told := os.environ.get("BENCH_TMP"):
        return Path(told).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FOLDER


def names_of(text: str) -> list[str]:
    """Names of peers, separated by commas."""
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(OTHERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(OTHERS)}")
    return names


def above_zero(text: str) -> int:
    """A number of things."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number from 1 on is wanted")
    return int(text)


def arguments() -> argparse.ArgumentParser:
    """What the program takes."""
    parser = argparse.ArgumentParser(prog="python -m clients.load.peers", description="Measure the hub beside peers.")
    parser.add_argument("only", nargs="*", choices=[[], *SCENARIOS], help="which questions (default: all)")
    parser.add_argument("--peers", type=names_of, default=list(OTHERS), help=f"of {','.join(OTHERS)} (default: all)")
    parser.add_argument("--rounds", type=above_zero, default=3, help="of hub and peer in turn (default: %(default)s)")
    parser.add_argument("--seconds", type=above_zero, default=2, help="of each measurement (default: %(default)s)")
    parser.add_argument("--thousand", type=above_zero, default=1_000, help="sockets instead of 1,000, for a quick look")
    parser.add_argument("--growth", action="store_true", help="the hub alone with 100, 1,000 and 10,000 sockets, too")
    parser.add_argument("--scratch", type=Path, help="folder for packages (default: $BENCH_TMP, or in ~/.cache)")
    parser.add_argument("--install", action="store_true", help="get the peers, then end")
    parser.add_argument("--json", type=Path, help="write a report to this file")
    parser.add_argument("--plots", type=Path, help="write pictures (SVG) into this folder")
    return parser


async def present(scratch: Path, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Which of the peers are there, with their versions; who isn't is named in a line."""
    versions: dict[str, str] = {}
    for name in names:
        other = OTHERS[name](scratch)
        if missing := other.missing():
            say(f"{other.title} is left out ({missing}). To get it: {other.how}, or --install")
        else:
            versions[name] = await other.version()
    return list(versions), versions


async def run(bench: Bench, args: argparse.Namespace, names: list[str]) -> tuple[list[Line], list[Pair]]:
    """Measure what was asked for: the lines of the table, and the rounds behind them."""
    chosen: list[str] = args.only or list(SCENARIOS)
    pairs: list[Pair] = []
    lines: list[Line] = []
    async with measurer(bench, most_sockets(chosen, bench.thousand, args.growth)) as measuring:
        for group in plans(chosen):
            pairs += await measuring.compare(group, names)
        for question in QUESTIONS:
            lines += lines_of(question, pairs)
        if args.growth:
            lines += await measuring.growth()
    return lines, pairs


async def work(args: argparse.Namespace) -> int:
    """Install, or measure and print; the exit status."""
    scratch = scratch_folder(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    if args.install:
        wrong = await install(scratch, args.peers)
        for name, why in wrong.items():
            say(f"{name}: {why}")
        await build(scratch)
        return 1 if wrong else 0
    bench = Bench(
        binary=await build(scratch),
        scratch=scratch,
        cores=two_cores(),
        rounds=args.rounds,
        seconds=args.seconds,
        thousand=args.thousand,
    )
    names, versions = await present(scratch, args.peers)
    lines, pairs = await run(bench, args, names)
    print(table(lines))
    for name, version in versions.items():
        print(f"{name}: {OTHERS[name].title}, {version}")
    if others := disturbance(pairs):
        print(f"Other programs took {others} % of the two cores meanwhile; much of that makes the figures worthless.")
    if args.json:
        found = {"machine": machine(), "versions": versions, **report(bench, pairs)}
        found["figures"] = [line.as_json() for line in lines]
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures(lines).items():
            (args.plots / name).write_text(picture, encoding="utf-8")
    return 1 if missed(lines) else 0


def main() -> int:
    """Exit status 0 where every target is met, 1 where one isn't or nothing could be measured."""
    args = arguments().parse_args()
    try:
        return asyncio.run(work(args))
    except BenchError as error:
        print(f"Not measured: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
