"""Three nodes are restarted one after the other under a thousand sockets: nobody loses a monitor, a message or a place."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.balancer import Balancer
from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import eventually
from tests.support.talk import Talk, screens_of

SOCKETS = int(os.environ.get("ROLLING_SOCKETS", "600"))
ROUNDS = int(os.environ.get("SOAK_ROLLING", "1"))
SHARE_AT_ONCE = 0.2  # of all sockets that may come back within one second


@pytest_asyncio.fixture
async def three(store: StoreProcess, tmp_path: Path) -> AsyncIterator[tuple[HubProcess, ...]]:
    """Three nodes over one store."""
    config = CONFIG + "sockets_per_address = 5000\n"
    hubs = tuple(HubProcess(tmp_path / f"n{n}", redis_url=store.url, config=config) for n in range(3))
    await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in hubs))
    yield hubs
    for hub in hubs:
        hub.kill()


@pytest.mark.alone
@pytest.mark.timeout(0 if "SOAK_ROLLING" in os.environ else 180)
@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_three_nodes_restarted_in_turn(three: tuple[HubProcess, ...], turn: int) -> None:
    """Every lease is kept, no position is skipped or repeated, and at most a fifth of the sockets come back in a second."""
    asyncio.get_running_loop().set_debug(False)  # it would cost more than a thousand clients do
    centre, balancer = Centre(*three), await Balancer(three).start()
    stories, screens = await screens_of(centre, balancer.url, balancer.url, SOCKETS // 2)

    async def ready() -> int:
        return three.index((await balancer.look())[0])

    async def connected() -> bool:
        return all(screen.client.connected for screen in screens)

    try:
        talk = Talk(centre, stories, ready)
        before = len(balancer.accepted)
        for hub in three:
            assert await asyncio.to_thread(hub.stop) == 0
            await eventually(connected, 30, "everybody connected again")
            await asyncio.to_thread(hub.start)
        said = await talk.stop()
        for screen in screens:
            await screen.shows(said, f"turn {turn}")
        for story in stories:
            [monitor] = (await centre.detail(story.id))["monitors"]
            assert monitor["to"] is None
        times = balancer.accepted[before:]
        assert len(times) >= SOCKETS  # each node had a third of them, and those that went there came back later
        busiest = max(sum(start <= time < start + 1.0 for time in times) for start in times)
        assert busiest <= SHARE_AT_ONCE * SOCKETS, f"{busiest} of {SOCKETS} sockets came back within one second"
    finally:
        await asyncio.gather(*(screen.close() for screen in screens))
        await balancer.stop()
        await centre.close()
