"""What `/metrics` says of the ledger's seals and of erasing, as an operator's alerts read it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from hub.store.keys import Keys
from tests.support.centre import Centre
from tests.support.fixtures import east_and_west, running
from tests.support.processes import CONFIG, StoreProcess
from tests.support.shown import Shown
from tests.support.socket import eventually
from tests.support.store import ask

QUICK = CONFIG + "erasure_wait_ms = 1000\nledger_seal_ms = 300\n"
AGE = "hub_ledger_seal_age_seconds"
SEALED = (Keys().base(0) + b"sealed").decode()


@pytest_asyncio.fixture
async def pair_of_own(tmp_path: Path) -> AsyncIterator[tuple[Centre, StoreProcess]]:
    """Two nodes that seal often, over a store that no other test has."""
    store = StoreProcess(tmp_path / "store").start()
    try:
        async with running(*east_and_west(tmp_path, store.url, QUICK)) as centre:
            yield centre, store
    finally:
        store.kill()


async def ages(centre: Centre) -> list[float]:
    """Of those nodes that say one."""
    found = [await Shown(hub).gauges(AGE) for hub in centre.hubs]
    return [age for each in found for age in each]


async def total(centre: Centre, name: str) -> float:
    """A counter, of both nodes together."""
    return sum([await Shown(hub).gauge(name) for hub in centre.hubs])


async def test_the_seal_grows_old_where_it_cannot_be_made(pair_of_own: tuple[Centre, StoreProcess]) -> None:
    """One node says its age, young while seals are made or nothing is new; it grows while sealing fails, and is young again."""
    centre, store = pair_of_own
    await centre.story()

    async def sealed() -> bool:
        return await total(centre, "hub_ledger_seals_total") >= 1 and len(await ages(centre)) == 1

    await eventually(sealed, 20, "a seal, and one node that says how old it is")

    async def older() -> bool:
        return min(await ages(centre)) > 1.5

    async def young() -> bool:
        return min(await ages(centre)) < 1.0

    await eventually(young, 20, "a young seal, though nothing is new")
    await ask(store, "RENAME", SEALED, f"{SEALED}-aside")
    await ask(store, "SET", SEALED, "no hash")
    await eventually(older, 20, "a seal that grows old")
    await ask(store, "RENAME", f"{SEALED}-aside", SEALED)
    await eventually(young, 20, "a young seal again")


async def test_erasures_are_counted(pair_of_own: tuple[Centre, StoreProcess]) -> None:
    """An erased customer is one erasure and each of their conversations, by whichever node; nothing names them."""
    centre, _ = pair_of_own
    for name in ("one", "two"):
        await centre.story(name, customer={"id": "cus-canary", "name": "Dana"})
    bearer = {"authorization": f"Bearer {centre.token('root', 'admin', permissions=['admin'])}"}
    asked = await centre.http.post(f"{centre.hub.url}/v1/erasures", headers=bearer, json={"customer_id": "cus-canary"})
    assert asked.status_code == 200, asked.text

    async def counted() -> bool:
        return await total(centre, "hub_erasures_total") >= 1

    await eventually(counted, 20, "an erasure")
    assert await total(centre, 'hub_erased_conversations_total{why="customer"}') == 2
    assert await total(centre, 'hub_erased_conversations_total{why="retention"}') == 0
    for hub in centre.hubs:
        assert "canary" not in (await centre.http.get(hub.metrics)).text
