"""What an operator sees of each fault: `/readyz`, metrics and log tell them from one another (docs/faults.md)."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.centre import Centre
from tests.support.fixtures import HASTY
from tests.support.processes import HubProcess, StoreProcess
from tests.support.shown import Shown
from tests.support.silence import passed
from tests.support.store import ask


class Watched(Shown):
    """One hub on a store of its own, and what it shows."""

    def __init__(self, store: StoreProcess, hub: HubProcess) -> None:
        super().__init__(hub)
        self.store = store


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A hub and its store, both about to suffer."""
    store = StoreProcess(tmp_path / "store", port=0).start()
    hub = HubProcess(tmp_path / "hub", redis_url=store.url, config=HASTY).start()
    yield Watched(store, hub)
    hub.kill()
    store.kill()


async def test_a_paused_hub_says_how_long_it_stood_still(watched: Watched) -> None:
    """The store is well, and it is the same one: only `hub_stalled_seconds` rises."""
    watched.hub.signal(signal.SIGSTOP)
    await passed(2.0)  # nothing can be asked of a process that is stopped
    watched.hub.signal(signal.SIGCONT)
    await watched.until_gauge("hub_stalled_seconds", 1.0)
    await watched.until_logged("this process stood still for")
    assert await watched.gauge("hub_store_replaced") == 0


async def test_a_frozen_store_is_silent(watched: Watched) -> None:
    """Connections stay open and nothing comes: the log says for how long, and `/readyz` turns until it answers again."""
    watched.store.signal(signal.SIGSTOP)
    assert (await watched.until_ready(503))["store"] is False
    await watched.until_logged("has not answered for")
    watched.store.signal(signal.SIGCONT)
    await watched.until_ready(200)
    assert await watched.gauge("hub_store_replaced") == 0


async def test_a_killed_store_refuses_connections(watched: Watched) -> None:
    """The log says why at once, and no call waits for an answer; what comes back without its data is another store."""
    watched.store.kill()
    assert (await watched.until_ready(503))["store"] is False
    await watched.until_logged("the store is away: ")
    assert not watched.logged("has not answered for")
    watched.store.start()
    await watched.until_ready(200)
    await watched.until_gauge("hub_store_replaced", 1)
    await watched.until_logged("the store answers again after")


async def test_a_wiped_store_is_another_one(watched: Watched) -> None:
    """Nothing was away for a moment; sockets are closed all the same, and the log and a counter say why."""
    centre = Centre(watched.hub)
    try:
        ana = await centre.supervisor("ana")
        await ask(watched.store, "FLUSHALL")
        await ana.closed()
        assert ana.close_code == 4503
    finally:
        await centre.close()
    await watched.until_gauge("hub_store_replaced", 1)
    await watched.until_logged("this is another store than before")
    assert not watched.logged("has not answered for")
    await watched.until_ready(200)


async def test_a_full_store_says_so(watched: Watched) -> None:
    """Writes are refused by the store itself, and the log has its reason."""
    await ask(watched.store, "CONFIG", "SET", "maxmemory", "1mb")
    assert (await watched.until_ready(503))["store"] is False
    await watched.until_logged("the store is away: OOM")
    await ask(watched.store, "CONFIG", "SET", "maxmemory", "0")
    await watched.until_ready(200)
    assert not watched.logged("has not answered for")


async def test_a_draining_hub_says_so(watched: Watched) -> None:
    """The store is well while the hub takes leave of its sockets."""
    centre = Centre(watched.hub)
    try:
        sockets = [await centre.supervisor(f"s{number}") for number in range(30)]
        watched.hub.signal(signal.SIGTERM)
        await watched.until_logged("draining 30 sockets")
        for socket in sockets:
            await socket.closed()
        assert {socket.close_code for socket in sockets} == {4501}
    finally:
        await centre.close()
    assert watched.hub.stop() == 0
