"""Erasing a customer on each kind of engine: found, taken away from every key, and remembered without a name."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.domain import commands as c
from hub.store.erasures import CLEANING, DONE, ERASING, Erasures
from hub.store.keys import Keys, partition
from tests.contract.test_store import ORG, World, agent, opened
from tests.support.engines import Engines

KEY = b"a-key-for-the-ledger-of-the-tests-only"


@pytest.fixture
async def world(engines: Engines, keys: Keys) -> AsyncIterator[World]:
    """A world over each kind of engine."""
    async with opened(engines, keys) as one:
        yield one


async def begun(world: World, conversation: str, customer: str) -> str:
    """A conversation of that customer, with a message, a draft and an end."""
    about: dict[str, Any] = {"channel": "web", "queue": "none", "customer": {"id": customer, "name": customer.title()}}
    await world.push(
        world.event(
            "conversation.started", conversation, **about, subject=customer, panels={customer: {"a": customer}}
        ),
        world.arrival(conversation, "ann"),
        world.event("message.created", conversation, message_id=f"m-{customer}", text=customer, purpose="customer"),
    )
    await world.do(conversation, world.watching(conversation))
    await world.do(conversation, c.EndConversation(agent("ann")))
    return conversation


async def test_all_that_is_a_customers_goes(world: World) -> None:
    """Running ones and ended ones of one organization; every step may be repeated; then no key has a word of theirs."""
    erasures = Erasures(world.store, KEY)
    mine = [await begun(world, f"hansi{number}", "hansi") for number in range(5)]
    other = await begun(world, "kept", "carla")
    asked = await erasures.ask(ORG, "hansi")
    assert (asked.state, asked.conversations) == (ERASING, 5)
    assert await erasures.running() == [asked.id]
    assert await erasures.conversations(asked.id) == sorted(mine)
    for _ in range(2):
        for conversation in mine:
            await world.store.erase(ORG, conversation, why="customer", forget=True)
    await erasures.write(asked.id, state=CLEANING)
    for p in {partition(ORG, conversation) for conversation in mine}:
        await world.store.rewrite_board(p, ORG, mine)
    for _ in range(2):
        await erasures.clean(asked)
    await erasures.finish(asked)
    left = repr(world.everything()).lower()
    points = [key for node in world.engines.nodes for key in node.ask("KEYS", f"{world.store.keys.prefix}:*}}:n:*")]
    assert "hansi" not in left
    assert not [key for key in points if b"hansi" in (world.ask("GET", key) or b"")]
    assert "carla" in left
    assert (await world.load(other)).situation.conversation is not None
    done = await erasures.get(asked.id)
    assert done is not None
    assert (done.state, done.customer, done.rewritten) == (DONE, "", True)
    assert await erasures.running() == []


async def test_a_board_written_anew_keeps_its_positions(world: World) -> None:
    """Entries of the erased say nothing, all others and every position, header and tag are as they were."""
    gone = await begun(world, "gone", "hansi")
    key = world.store.keys.board(partition(ORG, gone), ORG)
    before = world.ask("XRANGE", key, "-", "+")
    await world.store.rewrite_board(partition(ORG, gone), ORG, [gone, "another"])
    after = world.ask("XRANGE", key, "-", "+")
    assert [id for id, _ in after] == [id for id, _ in before]
    assert [fields[:3] for _, fields in after] == [fields[:3] for _, fields in before]
    bodies = [(was[3], is_[3]) for (_, was), (_, is_) in zip(before, after, strict=True)]
    assert all(is_ == (b"E" if b'"gone"' in was else was) for was, is_ in bodies)
    assert any(is_ == b"E" for _, is_ in bodies)
