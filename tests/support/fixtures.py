"""Fixtures over real hubs: one with the embedded store per test process, and two nodes over one real server."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.centre import Centre
from tests.support.processes import HubProcess, StoreProcess


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
    """Two hubs over one real store."""
    pair = tuple(HubProcess(tmp_path_factory.mktemp(name), redis_url=store.url) for name in ("east", "west"))
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
