"""The store's laws on real engines for what the hub delivers by itself: claims, tries, dead letters, notes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from hub.protocol.commands import MessageSend
from hub.store.keys import Keys, partition
from hub.store.outbound import OUTBOUND_SCRIPTS, DeadLetter, Outbound, StoreNotes, Taken
from hub.store.redis_store import SCRIPTS
from hub.store.topology import Primaries
from tests.contract.test_store import CONNECTOR, ORG, World, agent, make_world, settings_for
from tests.contract.test_store_more import until_gone
from tests.support.engines import Engines


@dataclass
class Desk:
    """A world, and the store's side of delivery in it."""

    world: World
    outbound: Outbound

    async def said(self, *texts: str) -> tuple[str, list[str]]:
        """A new conversation in which its agent said this; its id, the messages' ids."""
        conversation = await self.world.begin("ann")
        return conversation, [await self.say(conversation, text) for text in texts]

    async def say(self, conversation: str, text: str) -> str:
        """The agent says something more."""
        send = MessageSend(id=1, req=None, conversation_id=conversation, text=text, client_message_id=text)
        return await self.world.messaging.send(agent("ann"), conversation, send)

    async def take(self, conversation: str, claim: str = "one", count: int = 10) -> list[Taken]:
        """What there is to claim in the conversation's partition."""
        return await self.outbound.take(partition(ORG, conversation), ORG, CONNECTOR, claim, count)

    async def only(self, conversation: str, claim: str = "one") -> Taken:
        """The one thing that there is to claim."""
        [taken] = await self.take(conversation, claim)
        return taken

    def due_now(self, conversation: str) -> None:
        """Whatever of it is claimed or waits is due, as if the time were over."""
        due = self.world.shared(f"due:{ORG}/{CONNECTOR}", conversation)
        self.world.ask("ZADD", due, "1", f"{ORG}/{conversation}")

    async def bury(self, taken: Taken, reason: str = "no such number") -> bool:
        """Give it up and take it out."""
        return await self.outbound.doom(taken, reason) and await self.outbound.bury(taken, letter(taken, reason))


def letter(taken: Taken, reason: str) -> DeadLetter:
    """What is kept of it."""
    return DeadLetter(
        id=taken.id,
        conversation_id=taken.conversation_id,
        connector=taken.connector,
        type="outbound.message",
        at=1,
        tries=taken.tries,
        reason=reason,
        failed_at=taken.now_ms,
    )


@pytest.fixture
async def desk(engines: Engines, keys: Keys) -> AsyncIterator[Desk]:
    """A desk over each kind of engine."""
    settings = replace(settings_for(keys), dead_letters_max=2)
    primaries = await Primaries.connect(engines.url, scripts=(*SCRIPTS, *OUTBOUND_SCRIPTS))
    try:
        world = make_world(engines, primaries, settings)
        yield Desk(world, Outbound(world.store, settings))
    finally:
        await primaries.aclose()


async def test_one_node_has_a_conversations_first_action(desk: Desk) -> None:
    """Of many that ask at once one gets it; the next action is due when this one was reported, and not before."""
    conversation, (first, second) = await desk.said("one", "two")
    answers = await asyncio.gather(*(desk.take(conversation, f"node{n}") for n in range(10)))
    [taken] = [one for answer in answers for one in answer]
    assert (taken.id, taken.tries, taken.why, taken.doom, taken.back_at) == (first, 1, "", "", None)
    assert b'"text":"one"' in taken.event
    assert await desk.world.store.report(ORG, CONNECTOR, conversation, first)
    assert (await desk.only(conversation)).id == second


async def test_a_claim_ends_and_the_try_counts(desk: Desk) -> None:
    """Whoever comes after a node that is gone has the next try, and the one that is gone can write nothing any more."""
    conversation, _ = await desk.said("one")
    lost = await desk.only(conversation, "lost")
    assert await desk.take(conversation, "next") == []
    desk.due_now(conversation)
    taken = await desk.only(conversation, "next")
    assert taken.tries == 2
    assert not await desk.outbound.later(lost, 0, "late")
    assert not await desk.bury(lost)
    assert await desk.outbound.later(taken, 60_000, "busy")


async def test_a_wait_is_the_stores(desk: Desk) -> None:
    """After `later` nobody gets it until its time; then with the reason; an uncounted try wasn't one."""
    conversation, _ = await desk.said("one")
    assert await desk.outbound.later(await desk.only(conversation), 60_000, "busy")
    assert await desk.take(conversation) == []
    due = desk.world.shared(f"due:{ORG}/{CONNECTOR}", conversation)
    at = int(desk.world.ask("ZSCORE", due, f"{ORG}/{conversation}"))
    assert abs(at - await desk.world.store.now_ms() - 60_000) < 5_000
    desk.due_now(conversation)
    taken = await desk.only(conversation)
    assert (taken.tries, taken.why) == (2, "busy")
    assert await desk.outbound.later(taken, 0, "left alone", uncounted=True)
    assert (await desk.only(conversation)).tries == 2


async def test_tries_are_an_actions_own(desk: Desk) -> None:
    """The next action of the conversation begins with its first."""
    conversation, (first, _) = await desk.said("one", "two")
    for _ in range(3):
        assert await desk.outbound.later(await desk.only(conversation), 0, "busy")
    assert await desk.world.store.report(ORG, CONNECTOR, conversation, first)
    taken = await desk.only(conversation)
    assert (taken.tries, taken.why) == (1, "")


async def test_no_more_than_asked_for(desk: Desk) -> None:
    """A node claims what it has room for; the rest is there for others."""
    conversation, _ = await desk.said("one")
    p = partition(ORG, conversation)
    names = {conversation}
    while len(names) < 3:  # of the same partition
        other = await desk.world.begin("ann")
        if partition(ORG, other) == p:
            await desk.say(other, "one")
            names.add(other)
    taken = await desk.take(conversation, count=2)
    assert len(taken) == 2
    assert {one.conversation_id for one in taken + await desk.take(conversation)} == names


async def test_what_is_given_up_is_a_dead_letter_and_the_next_is_due(desk: Desk) -> None:
    """It is out of the queue and in the list in one step; a second burial finds nothing."""
    conversation, (first, second) = await desk.said("one", "two")
    taken = await desk.only(conversation)
    assert await desk.bury(taken)
    assert not await desk.bury(taken)
    [kept] = await desk.outbound.dead_letters(ORG, CONNECTOR, 10)
    assert (kept.id, kept.conversation_id, kept.reason) == (first, conversation, "no such number")
    assert (await desk.only(conversation)).id == second


async def test_what_was_doomed_is_not_tried_again(desk: Desk) -> None:
    """A node that ends after it gave an action up leaves the reason to the next one."""
    conversation, (first,) = await desk.said("one")
    assert await desk.outbound.doom(await desk.only(conversation, "lost"), "no such number")
    assert await desk.take(conversation, "next") == []
    desk.due_now(conversation)
    taken = await desk.only(conversation, "next")
    assert (taken.id, taken.doom) == (first, "no such number")
    assert await desk.outbound.bury(taken, letter(taken, taken.doom))


async def test_a_dead_letter_goes_back_to_the_end(desk: Desk) -> None:
    """Once; its tries and its age begin anew."""
    conversation, (first, second) = await desk.said("one", "two")
    assert await desk.bury(await desk.only(conversation))
    assert await desk.outbound.revive(ORG, CONNECTOR, conversation, first, back=True)
    assert not await desk.outbound.revive(ORG, CONNECTOR, conversation, first, back=True)
    assert await desk.outbound.dead_letters(ORG, CONNECTOR, 10) == []
    assert await desk.world.store.report(ORG, CONNECTOR, conversation, second)
    taken = await desk.only(conversation)
    assert (taken.id, taken.tries, taken.why) == (first, 1, "")
    assert taken.back_at is not None
    assert 0 <= taken.now_ms - taken.back_at < 60_000


async def test_a_dead_letter_can_be_forgotten(desk: Desk) -> None:
    """It is gone, and nothing is sent; another connector's or organization's can't be named."""
    conversation, (first,) = await desk.said("one")
    assert await desk.bury(await desk.only(conversation))
    assert not await desk.outbound.revive(ORG, CONNECTOR, conversation, "msg_other", back=False)
    assert await desk.outbound.dead_letters(ORG, "other", 10) == []
    assert await desk.outbound.revive(ORG, CONNECTOR, conversation, first, back=False)
    assert await desk.outbound.dead_letters(ORG, CONNECTOR, 10) == []
    assert await desk.take(conversation) == []


async def test_dead_letters_are_bounded(desk: Desk) -> None:
    """Of three two are kept, the newest, newest first; the oldest is gone for good."""
    conversation, ids = await desk.said("one", "two", "three")
    for n in range(3):
        taken = await desk.only(conversation)
        assert await desk.bury(replace(taken, now_ms=n))
    assert [one.id for one in await desk.outbound.dead_letters(ORG, CONNECTOR, 10)] == [ids[2], ids[1]]
    assert [one.id for one in await desk.outbound.dead_letters(ORG, CONNECTOR, 1)] == [ids[2]]
    assert desk.world.ask("HLEN", desk.world.key("dead", conversation)) == 2


async def test_what_waits_can_be_looked_at(desk: Desk) -> None:
    """The first action of each conversation, with its tries, its reason, and how many wait behind it."""
    conversation, (first, second) = await desk.said("one", "two")
    [fresh] = await desk.outbound.waiting(ORG, CONNECTOR, 10)
    assert (fresh.id, fresh.tries, fresh.reason, fresh.behind) == (first, 0, "", 1)
    await desk.outbound.later(await desk.only(conversation), 60_000, "busy")
    [tried] = await desk.outbound.waiting(ORG, CONNECTOR, 10)
    assert (tried.id, tried.type, tried.tries, tried.reason) == (first, "outbound.message", 1, "busy")
    assert await desk.outbound.figures(ORG, CONNECTOR) == (1, 0)
    assert await desk.outbound.ready(ORG, CONNECTOR, await desk.world.store.now_ms()) == []
    await desk.world.store.report(ORG, CONNECTOR, conversation, first)
    assert await desk.outbound.ready(ORG, CONNECTOR, 1) == [partition(ORG, conversation)]
    assert [one.id for one in await desk.outbound.waiting(ORG, CONNECTOR, 10)] == [second]


async def test_an_operator_hastens_or_drops_what_waits(desk: Desk) -> None:
    """Not what is being sent at the moment: two at once would be two messages."""
    conversation, (first,) = await desk.said("one")
    taken = await desk.only(conversation)
    [waiting] = await desk.outbound.waiting(ORG, CONNECTOR, 10)
    assert not await desk.outbound.hasten(waiting, ORG)
    assert not await desk.outbound.hasten(waiting, ORG, drop="dropped")
    assert await desk.outbound.later(taken, 60_000, "busy")
    assert await desk.outbound.hasten(waiting, ORG)
    taken = await desk.only(conversation)
    assert (taken.id, taken.tries) == (first, 2)
    assert await desk.outbound.later(taken, 60_000, "busy")
    assert await desk.outbound.hasten(waiting, ORG, drop="dropped")
    assert (await desk.only(conversation)).doom == "dropped"


async def test_nothing_stays_of_an_erased_conversation(desk: Desk) -> None:
    """Neither its tries nor its dead letters, which have its messages in them."""
    conversation, _ = await desk.said("one", "two")
    assert await desk.bury(await desk.only(conversation))
    assert await desk.outbound.later(await desk.only(conversation), 0, "busy")
    await desk.world.store.erase(ORG, conversation)
    names = [name for node in desk.world.engines.nodes for name in node.ask("KEYS", f"*{conversation}*")]
    assert [name for name in names if b":n:" not in name] == []
    assert await desk.outbound.dead_letters(ORG, CONNECTOR, 10) == []
    assert await desk.take(conversation) == []


async def test_notes_are_kept_for_their_time(desk: Desk) -> None:
    """By key, whatever is in it; `absent` writes once; another connector's are others."""
    notes, other = (StoreNotes(desk.world.store, ORG, name) for name in (CONNECTOR, "other"))
    key = "{a} b/ü\n" * 1_000
    assert await notes.get(key) is None
    assert await notes.put(key, "1", ttl_ms=60_000, absent=True)
    assert not await notes.put(key, "2", ttl_ms=60_000, absent=True)
    assert (await notes.get(key), await other.get(key)) == ("1", None)
    assert await notes.put(key, "3", ttl_ms=30)
    await until_gone(desk.world, notes._key(key))
    assert await notes.get(key) is None
