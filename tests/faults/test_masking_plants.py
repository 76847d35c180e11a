"""The tests of masking, tested: each planted bug lets something through, and the test that is named for it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e import test_masking
from tests.faults.test_plants import PlantedHub
from tests.support.centre import Centre
from tests.support.plants import MASKING_PLANTS
from tests.support.processes import StoreProcess
from tests.support.socket import HubError

TESTS: list[str] = sorted({plant.scenario for plant in MASKING_PLANTS.values()})


def named(test: str) -> Callable[[Centre], Awaitable[None]]:
    """That test, to be run on any organization whose hub masks."""
    found: Callable[[Centre], Awaitable[None]] = getattr(test_masking, test)
    return found


@pytest_asyncio.fixture
async def planted(name: str, store: StoreProcess, tmp_path: Path) -> AsyncIterator[Centre]:
    """An organization on a hub that masks, with that bug in it."""
    hub = PlantedHub(tmp_path, name, store, test_masking.MASKED)
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    yield centre
    for line in centre.opened:
        await line.drop()
    await centre.http.aclose()
    hub.kill()


@pytest.mark.parametrize("name", ["nothing"])
async def test_without_a_bug_they_pass(planted: Centre, name: str) -> None:
    """On a right hub that is started the same way, each of them is content."""
    for test in TESTS:
        own = Centre(*planted.hubs)
        await named(test)(own)
        await own.close()


@pytest.mark.parametrize("name", MASKING_PLANTS)
async def test_a_bug_in_masking_is_found(planted: Centre, name: str) -> None:
    """The test named for the bug fails, by what it looks for and not since the hub is away."""
    plant = MASKING_PLANTS[name]
    found = ""
    try:
        await named(plant.scenario)(planted)
    except (AssertionError, HubError) as error:
        found = repr(error)
    assert found, f"{plant.wrong}: {plant.scenario} should fail"
    assert (await planted.http.get(planted.hub.url + "/readyz")).status_code == 200
    assert "Traceback" not in planted.hub.tail()
