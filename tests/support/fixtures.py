"""Fixtures over real hubs: one with the embedded store per test process, and two nodes over one real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess, StoreProcess

# Limits a test can wait out; what they mean stays the same.
HASTY = (
    CONFIG
    + """
heartbeat_ms = 1000
silence_grace_ms = 1000
monitor_ping_ms = 300
monitor_silence_ms = 900
hello_timeout_ms = 500
resume_ms = 1500
lease_ms = 1500
lease_renew_ms = 400
confirm_ms = 1000
presence_ms = 1000
ticket_ms = 1000
request_memory_ms = 1000
wrapup_mandatory_max_ms = 1500
idle_ms = 4000
sweep_ms = 200
"""
)
# The same, where no conversation ends for want of words, and where people keep their sessions and monitors as usual.
AWAKE = HASTY.replace("idle_ms = 4000", "idle_ms = 86400000")
PATIENT = AWAKE.replace("resume_ms = 1500", "resume_ms = 15000").replace("lease_ms = 1500", "lease_ms = 15000")


def east_and_west(folder: Path, url: str, config: str = CONFIG) -> tuple[HubProcess, HubProcess]:
    """Two nodes over one store, not started yet."""
    return HubProcess(folder / "east", redis_url=url, config=config), HubProcess(
        folder / "west", redis_url=url, config=config
    )


@contextlib.asynccontextmanager
async def running(*hubs: HubProcess, org: str | None = None) -> AsyncIterator[Centre]:
    """These hubs, and an organization on them; none is left behind, whatever happens."""
    centre = Centre(*hubs, org=org)
    try:
        await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in hubs))
        yield centre
    finally:
        try:
            await centre.close()
        finally:
            for hub in hubs:
                if hub.process is not None:
                    hub.kill()


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One hub with its embedded store, shared by the tests of this process."""
    process = HubProcess(tmp_path_factory.mktemp("hub"))
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """One real store server, shared by the tests of this process."""
    process = StoreProcess(tmp_path_factory.mktemp("store")).start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def nodes(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, HubProcess]]:
    """Two hubs over one real store; contests ask faster than people may."""
    config = CONFIG + "commands_per_s = 5000\ncommands_burst = 5000\n"  # its last table is [limits]
    pair = tuple(
        HubProcess(tmp_path_factory.mktemp(name), redis_url=store.url, config=config) for name in ("east", "west")
    )
    for process in pair:
        process.start()
    yield pair[0], pair[1]
    for process in pair:
        process.kill()


@pytest_asyncio.fixture
async def centre(hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization on the shared hub."""
    own = Centre(hub)
    yield own
    await own.close()


@pytest_asyncio.fixture
async def pair(nodes: tuple[HubProcess, HubProcess]) -> AsyncIterator[Centre]:
    """A fresh organization on two nodes: `node=0` and `node=1`."""
    own = Centre(*nodes)
    yield own
    await own.close()


@pytest.fixture(scope="session")
def hasty_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One hub whose time limits are a second or so."""
    process = HubProcess(tmp_path_factory.mktemp("hasty"), config=HASTY)
    process.start()
    yield process
    process.kill()


@pytest_asyncio.fixture
async def hasty(hasty_hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization on the hub with short time limits."""
    own = Centre(hasty_hub)
    yield own
    await own.close()
