"""A Cluster of three primaries with a replica each: one primary is killed, slots move, and nobody else is disturbed."""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hub.store.keys import Keys, partition, slot
from tests.support.centre import Centre, Story
from tests.support.engines import CLUSTER_NODES, Engine, Engines
from tests.support.fixtures import PATIENT, east_and_west, running
from tests.support.socket import eventually
from tests.support.talk import Screen, Talk, Writer, screens_of

KILLS = int(os.environ.get("SOAK_CLUSTER_KILLS", "1"))
MOVES = int(os.environ.get("SOAK_MOVES", "4"))
SEED = int(os.environ.get("CLUSTER_SEED", "5501"))
LONG = 0 if any(name.startswith("SOAK_") for name in os.environ) else 120
NODE_TIMEOUT_MS = 1_500
CONVERSATIONS_EACH = 3  # of each primary
UNDISTURBED_S = 2.5  # longest pause between two messages of conversations whose primary lives
BACK_S = 5.0  # after the promotion


class Clustered:
    """Two hubs on a Cluster, with conversations on all of its primaries and two screens of each."""

    def __init__(self, engines: Engines, centre: Centre, stories: list[Story], screens: list[Screen]) -> None:
        self.engines = engines
        self.centre = centre
        self.stories = stories
        self.screens = screens

    def slot_of(self, story: Story) -> int:
        """Where a conversation is."""
        return slot(Keys().base(partition(self.centre.org, story.id)))

    def primary_of(self, story: Story) -> Engine:
        """Whose it is."""
        return self.engines.node_of(Keys().base(partition(self.centre.org, story.id)))

    async def messages(self, story: Story) -> list[str]:
        """The ids in the transcript."""
        return [message["message_id"] for message in await self.centre.messages(story.id)]

    async def no_monitor_ended(self) -> None:
        """All are as they were started."""
        for story in self.stories:
            assert [one["to"] for one in (await self.centre.detail(story.id))["monitors"]] == [None]


def _spread(engines: Engines, org: str) -> list[str]:
    """Ids of conversations, as many on each primary."""
    ids: dict[Engine, list[str]] = {primary: [] for primary in engines.nodes[:CLUSTER_NODES]}
    for number in itertools.count():
        if all(len(found) == CONVERSATIONS_EACH for found in ids.values()):
            return list(itertools.chain(*ids.values()))
        found = ids[engines.node_of(Keys().base(partition(org, f"cnv_{number}")))]
        if len(found) < CONVERSATIONS_EACH:
            found.append(f"cnv_{number}")
    raise AssertionError("every primary has some partition")


@pytest_asyncio.fixture
async def clustered(tmp_path: Path) -> AsyncIterator[Clustered]:
    """A fresh one: tests kill its primaries."""
    engines = Engines("cluster", replicas=True, node_timeout_ms=NODE_TIMEOUT_MS)
    try:
        await asyncio.to_thread(engines.start)
        async with running(*east_and_west(tmp_path, engines.url, PATIENT)) as centre:
            east, west = (hub.url for hub in centre.hubs)
            stories, screens = await screens_of(centre, east, west, _spread(engines, centre.org))
            yield Clustered(engines, centre, stories, screens)
            await asyncio.gather(*(screen.close() for screen in screens))
    finally:
        await asyncio.to_thread(engines.remove)


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(KILLS))
async def test_a_killed_primary(clustered: Clustered, turn: int) -> None:
    """The conversations of the others go on as if nothing were; its own are back soon, with all that was acknowledged."""
    chance, world = random.Random(f"{SEED}/{turn}"), clustered
    writers = {story: Writer(world.centre, story, chance.randrange(2)) for story in world.stories}
    primaries = world.engines.nodes[:CLUSTER_NODES]
    assert {world.primary_of(story) for story in world.stories} == set(primaries)
    await asyncio.gather(*(writer.durable_again() for writer in writers.values()))
    killed = chance.choice(primaries)
    replica = world.engines.nodes[primaries.index(killed) + CLUSTER_NODES]
    hit = [story for story in world.stories if world.primary_of(story) is killed]
    loop = asyncio.get_running_loop()
    killed.kill()
    killed_at = loop.time()

    async def promoted() -> bool:
        return bool(replica.ask("ROLE")[0] == b"master")

    await eventually(promoted, 30, "a promoted replica")
    promoted_at = loop.time()
    await asyncio.gather(*(_taken_after(writers[story], promoted_at) for story in hit))
    await asyncio.gather(*(writer.stop() for writer in writers.values()))
    back = max(min(at for at in writers[story].taken if at > promoted_at) for story in hit) - promoted_at
    pauses = [_longest_pause(writers[story].taken) for story in world.stories if story not in hit]
    print(
        f"promoted after {promoted_at - killed_at:.1f} s, back {back:.1f} s later; others paused {max(pauses):.2f} s at most"
    )
    assert back < BACK_S
    assert max(pauses) < UNDISTURBED_S, pauses
    for number, story in enumerate(world.stories):
        writer, there = writers[story], await world.messages(story)
        assert [one for one in there if one in writer.durable] == writer.durable, f"seed {SEED}/{turn}"
        assert len(set(there)) == len(there), f"seed {SEED}/{turn}"
        for screen in world.screens[2 * number : 2 * number + 2]:
            await screen.has(there[-1])
            assert screen.messages == there or "stream.reset" in screen.breaks, f"seed {SEED}/{turn}: a silent gap"
            assert set(screen.breaks) <= ({"stream.reset"} if story in hit else set()), f"seed {SEED}/{turn}"
    await world.no_monitor_ended()


def _longest_pause(taken: list[float]) -> float:
    return max(after - before for before, after in itertools.pairwise(taken))


async def _taken_after(writer: Writer, at: float) -> None:
    async def there() -> bool:
        return writer.taken[-1] > at

    await eventually(there, 30, "a message taken by the new primary")


@pytest.mark.timeout(LONG)
async def test_slots_move_under_load(clustered: Clustered) -> None:
    """Conversations are moved from primary to primary while people talk: each message is there once, on each screen."""
    chance, world = random.Random(SEED), clustered

    async def some_node() -> int:
        return chance.randrange(2)

    talk = Talk(world.centre, world.stories, some_node)
    for _ in range(MOVES):
        await talk.goes_on(1)
        story = chance.choice(world.stories)
        target = chance.choice(
            [one for one in world.engines.nodes[:CLUSTER_NODES] if one is not world.primary_of(story)]
        )
        await asyncio.to_thread(world.engines.move_slot, world.slot_of(story), target)
        assert world.primary_of(story) is target
    await talk.goes_on(1)
    said = await talk.stop()
    for screen in world.screens:
        await screen.shows(said, f"seed {SEED}")
    for story in world.stories:
        assert await world.messages(story) == said, f"seed {SEED}"
    await world.no_monitor_ended()
