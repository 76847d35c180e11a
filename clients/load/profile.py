"""
`python -m clients.load.profile`: where a hub's time goes under load, as a flame graph.

    hub load (child) ──sockets, HTTP──► hub serve (child) ◄── py-spy record (child) ──► profile.svg

py-spy looks at the hub from outside, so the hub runs as always. It is recorded while messages flow, not while
conversations and monitors are set up. The options of `hub load` may follow.
"""

import argparse
import asyncio
import os
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from clients.launch import NotStarted, start_hub

SETUP_S: Final = 120.0
MARGIN_S: Final = 3.0  # messages flow for this much longer than is recorded: py-spy takes a moment to start
FLOWING: Final = re.compile(rb"\s*[0-9]+ s\b")  # how a line of `hub load` begins once its setup is done
LOAD: Final = ("--conversations", "1000", "--monitors", "500", "--rate", "1000")
HOW_TO_GET: Final = "pip install py-spy"
HOW_TO_ALLOW: Final = "run it as root, or allow it: sysctl kernel.yama.ptrace_scope=0"


class NotRecorded(Exception):
    """No flame graph was made; the message says why and what helps."""


def find_py_spy() -> str:
    """
    Path of py-spy: beside this Python, else on PATH.

    Raises:
        NotRecorded: It isn't installed.
    """
    found = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if found is None:
        raise NotRecorded(f"py-spy is missing; to get it: {HOW_TO_GET}")
    return found


async def record(seconds: int, out: Path, load: Sequence[str], *, rate: int = 200, native: bool = False) -> None:
    """
    Write the flame graph of a hub's own process to `out`: `seconds` of `hub load` with the options `load`.

    `rate` is samples a second; `native` shows C functions, too. Safe to cancel: what was started is ended.

    Raises:
        NotRecorded: py-spy is missing or may not look, or the load failed.
        NotStarted: The hub didn't start.
    """
    program = find_py_spy()
    with tempfile.TemporaryDirectory(prefix="hub-profile-", ignore_cleanup_errors=True) as folder:
        async with start_hub(Path(folder) / "data") as hub:
            flow = [sys.executable, "-m", "hub", "load", "--url", hub.url, "--seconds", f"{seconds + MARGIN_S:g}"]
            traffic = await _start([*flow, *load], {"HUB_TOKEN_SECRET": hub.secret})
            try:
                await _flowing(traffic)
                look = [
                    "record",
                    "--pid",
                    str(hub.process.pid),
                    "--duration",
                    str(seconds),
                    "--rate",
                    str(rate),
                    "--threads",
                ]
                as_what = ["--format", "flamegraph", "--output", str(out), *(["--native"] if native else [])]
                await _look([program, *look, *as_what], out)
                await _ended(traffic)
            finally:
                await _end(traffic)


async def _start(line: Sequence[str], variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
    )


async def _flowing(traffic: asyncio.subprocess.Process) -> None:
    """Wait for the first line of `hub load`'s progress: then messages flow."""
    assert traffic.stderr is not None
    said: list[bytes] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(SETUP_S):
            async for line in traffic.stderr:
                said.append(line)
                if FLOWING.match(line):
                    return
    raise NotRecorded("the load didn't start:\n" + b"".join(said[-5:]).decode(errors="replace"))


async def _look(line: Sequence[str], out: Path) -> None:
    looking = await _start(line, {})
    try:
        _, said = await looking.communicate()
    finally:
        await _end(looking)
    text = said.decode(errors="replace").strip()
    if looking.returncode or not await asyncio.to_thread(out.exists):
        refused = "ermission" in text or "not permitted" in text
        raise NotRecorded(f"py-spy may not look at the hub; {HOW_TO_ALLOW}\n{text}" if refused else text)


async def _ended(traffic: asyncio.subprocess.Process) -> None:
    _, said = await traffic.communicate()
    if traffic.returncode:
        raise NotRecorded("the load failed, so the graph isn't of what was asked:\n" + said.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _run(args: argparse.Namespace) -> int:
    try:
        await record(args.seconds, args.out, args.load or LOAD, rate=args.rate, native=args.native)
    except (NotRecorded, NotStarted) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.out}: open it in a browser; a click goes into a frame, Ctrl-F searches")
    return 0


def main() -> int:
    """Parse, record; the exit status: 0, or 1 where there is no graph."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.load.profile", description="Flame graph of a hub under load.",
        epilog="Options of `hub load` may follow, behind `--`; without any: " + " ".join(LOAD),
    )  # fmt: skip
    parser.add_argument("--seconds", type=int, default=10, help="how long to record (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("profile.svg"), help="the picture (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="samples a second (default: %(default)s)")
    parser.add_argument("--native", action="store_true", help="show C functions, too")
    parser.add_argument("load", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(_run(args))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
