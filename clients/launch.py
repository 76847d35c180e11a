"""Starting `hub serve` as a child process: for the demo, the load tests, and whoever wants a hub of their own."""

import asyncio
import base64
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READY_S: Final = 30.0
STOP_S: Final = 2.0  # what the hub gets to end before it is killed
_PR_SET_PDEATHSIG: Final = 1


class NotStarted(Exception):
    """The hub's process ended, or said nothing in time; the text is what it logged last."""


@dataclass(frozen=True, slots=True)
class HubProcess:
    """A running hub: its process, its addresses (`http://...`) and the secret its tokens are made with."""

    process: asyncio.subprocess.Process
    url: str
    secret: str
    metrics_url: str

    def rss_bytes(self) -> int:
        """Resident memory of the hub's process alone (Linux)."""
        return _rss_bytes(self.process.pid)

    def store_rss_bytes(self) -> int:
        """Resident memory of the processes that it started: the embedded store (Linux)."""
        return sum(map(_rss_bytes, self._children()))

    def store_socket(self) -> Path:
        """The unix socket of its embedded store (Linux)."""
        for child in self._children():
            _, named, rest = Path(f"/proc/{child}/cmdline").read_bytes().partition(b" unixsocket:")  # its title says so
            if named:
                return Path(rest.replace(b"\0", b" ").split(b" ")[0].decode())
        raise LookupError("this hub has no embedded store")

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]


@asynccontextmanager
async def start_hub(
    data_dir: Path,
    *,
    config: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    secret: str | None = None,
    stop: asyncio.Event | None = None,
    more: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[HubProcess]:
    """
    A hub on its embedded store in `data_dir`, ready; ended on the way out, at last by force and its store with it.

    `port` 0 takes a free one; `secret` None makes a random one; `config` None is an empty file (not the `hub.toml` that
    may lie about); `stop` ends the waiting for it to become ready; `variables` are added to its environment. The
    environment's own `HUB_*` don't reach it, so that it never works on a store that isn't its own.

    Raises:
        NotStarted: It ended or wasn't ready in 30 s, or `stop` was set.
    """
    secret = secret or new_secret()
    metrics = free_port("127.0.0.1")
    arguments = ["--host", host, "--port", str(port or free_port(host)), "--data-dir", str(data_dir)]
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    if config is None:
        config = data_dir / "hub.toml"
        await asyncio.to_thread(config.touch)
    arguments += ["--metrics-listen", f"127.0.0.1:{metrics}", "--config", str(config), *more]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    log = data_dir / "hub.log"
    with await asyncio.to_thread(log.open, "wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hub",
            "serve",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env={**inherited, **(variables or {}), "HUB_TOKEN_SECRET": secret},
            # Ctrl-C goes to the whole foreground group; the hub is ended by us, after its clients.
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
    try:
        url = await _ready(process, log, stop or asyncio.Event())
        yield HubProcess(process, url, secret, f"http://127.0.0.1:{metrics}")
    finally:
        await end(process)


def end_with_parent() -> Callable[[], None] | None:
    """What the child does first on Linux: ask for SIGTERM when this process dies, however it dies (prctl(2))."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: a fresh fork had better not load libraries

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask


async def _ready(process: asyncio.subprocess.Process, log: Path, stop: asyncio.Event) -> str:
    """The address in the hub's `ready` line."""
    assert process.stdout is not None
    reading = asyncio.ensure_future(process.stdout.readline())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({reading, stopping}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        line = reading.result().decode().strip() if reading.done() else ""
    finally:
        reading.cancel()
        stopping.cancel()
    if line.startswith("ready "):
        return line.removeprefix("ready ")
    said = await asyncio.to_thread(log.read_text, "utf-8", "replace")
    raise NotStarted("\n".join([line, *said.splitlines()[-15:]]).strip() or f"no word in {READY_S:g} s")


async def end(process: asyncio.subprocess.Process, within_s: float = STOP_S) -> None:
    """Ask it to end, then make it, and what it started: its id is that of a group."""
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def new_secret() -> str:
    """A random secret that is long enough for the hub."""
    return base64.urlsafe_b64encode(secrets.token_bytes(48)).decode()


def free_port(host: str, wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else some free port."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((host, port))
                found: int = probe.getsockname()[1]
                return found
    raise NotStarted(f"no free port on {host}")


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
