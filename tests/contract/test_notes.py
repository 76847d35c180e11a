"""A channel's notes, in memory and on real engines: the laws of the port, and the numbering that stands on them."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator

import pytest

from hub.channels import series
from hub.channels.port import Notes
from hub.store.keys import Keys
from hub.store.outbound import StoreNotes
from hub.store.redis_store import SCRIPTS
from hub.store.topology import Primaries
from tests.contract.test_store import ORG, make_world, settings_for
from tests.support.engines import Engines
from tests.support.notes import MemoryNotes


@pytest.fixture(params=["memory", "store"])
async def notes(request: pytest.FixtureRequest, engines: Engines, keys: Keys) -> AsyncIterator[Notes]:
    """One connector's notes, of both kinds."""
    if request.param == "memory":
        yield MemoryNotes()
        return
    primaries = await Primaries.connect(engines.url, scripts=SCRIPTS)
    try:
        world = make_world(engines, primaries, settings_for(keys))
        yield StoreNotes(world.store, ORG, f"texts-{uuid.uuid4().hex[:8]}")
    finally:
        await primaries.aclose()


async def test_what_was_put_is_there(notes: Notes) -> None:
    """The last put counts; with `absent` the first."""
    assert await notes.get("key") is None
    assert await notes.put("key", "1", ttl_ms=60_000, absent=True)
    assert not await notes.put("key", "2", ttl_ms=60_000, absent=True)
    assert await notes.get("key") == "1"
    assert await notes.put("key", "3", ttl_ms=60_000)
    assert await notes.get("key") == "3"


async def test_notes_about_somebody_are_the_same_notes(notes: Notes) -> None:
    """Whoever asks finds them, also with `absent`, and also what was written before anybody said whom it is about."""
    about = notes.about("tel:15005550101")
    assert await about.put("key", "\u00ff1", ttl_ms=60_000)
    assert await notes.get("key") == await about.get("key") == await notes.about("x").get("key") == "\u00ff1"
    assert not await notes.put("key", "2", ttl_ms=60_000, absent=True)
    assert await notes.put("plain", "\u00ff2", ttl_ms=60_000)
    assert await about.get("plain") == "\u00ff2"


async def test_of_many_who_put_first_one_has_it(notes: Notes) -> None:
    """However many nodes ask at once."""
    won = await asyncio.gather(*(notes.put("once", str(n), ttl_ms=60_000, absent=True) for n in range(20)))
    assert won.count(True) == 1
    assert await notes.get("once") == str(won.index(True))


async def test_all_copies_of_a_request_go_the_same_way(notes: Notes) -> None:
    """At once or late, on any node: where it first wanted to go, and the next place for each that was over."""
    first = await asyncio.gather(*(series.number_of(notes, "pair", "SM1", ()) for _ in range(8)))
    assert set(first) == {1}
    await series.over(notes, "pair", 1)
    assert await series.number_of(notes, "pair", "SM1", ()) == 1
    assert await series.number_of(notes, "pair", "SM2", ()) == 2
    second = await asyncio.gather(*(series.number_of(notes, "pair", "SM1", ("c:1",)) for _ in range(8)))
    assert set(second) == {2}
    await series.over(notes, "pair", 2)
    assert await series.number_of(notes, "pair", "SM1", ("c:1",)) == 2
    assert await series.number_of(notes, "pair", "SM1", ("c:1", "c:2")) == 3


async def test_numbers_go_on_and_never_back(notes: Notes) -> None:
    """Ends told late, twice and at once: each ends the running one or one before it, and none turns the numbers back."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    running = 1
    while running < 12:
        told = [chance.randint(1, running) for _ in range(chance.randint(1, 4))]
        await asyncio.gather(*(series.over(notes, "pair", number) for number in told))
        running += running in told
        assert await series.running(notes, "pair") == running
    assert await series.running(notes, "other") == 1
