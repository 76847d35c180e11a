"""What the sweeper ends, puts off and erases."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from hub.domain import commands as c
from hub.fanout.node import Node as Hub
from hub.fanout.records import Records
from hub.settings import QueueSettings, Settings
from tests.support.fake_store import FakeStore, Record
from tests.unit.domain.words import ROBO, begin, confirm, connect, desk, finish, prepare, watch
from tests.unit.service.words import CNV, ORG, SETTINGS, Node

LIVE = replace(SETTINGS, queues={}, idle_ms=1_000, retention_ms=60_000)


class Indexed(FakeStore):
    """A store whose one conversation is in the index that its record names, quiet since `quiet`."""

    quiet = 0
    forgotten = 0  # how often something outside was told of a conversation's end
    stuck = 0  # how often it can't do its part

    async def forget(self, org: str, conversation_id: str) -> None:
        """What the conversation has outside is removed, while its record is still there."""
        assert (org, conversation_id) in self.records
        if self.stuck:
            self.stuck -= 1
            raise OSError("the disk is away")
        self.forgotten += 1

    later: tuple[tuple[str, int], ...] = ()

    def partitions(self) -> Sequence[int]:
        """One."""
        return (0,)

    async def quiet_since(self, p: int, index: str, at_ms: int) -> list[tuple[str, str]]:
        """The conversation, where it is in that index and quiet for so long."""
        here = self.record(ORG, CNV)
        return [(ORG, CNV)] if here.index == index and self.quiet < at_ms else []

    async def touch_live(self, org: str, conversation_id: str, at_ms: int) -> None:
        """Looked at now."""
        self.quiet = at_ms

    async def ended_between(self, p: int, since: int, until: int, count: int) -> list[tuple[str, str, int]]:
        """The conversation, where it has settled in that time."""
        here = self.record(ORG, CNV)
        return [(ORG, CNV, self.quiet)] if here.index == "closed" and since <= self.quiet <= until else []

    async def endings(self, conversations: Sequence[tuple[str, str]]) -> list[tuple[str, int] | None]:
        """Queue and end of those that have ended."""
        states = [self.now(*name).situation.conversation for name in conversations]
        return [(one.queue, one.ended_at) if one is not None and one.ended_at is not None else None for one in states]

    async def set_due(self, kind: str, when: Sequence[tuple[str, str, int]]) -> None:
        """Noted."""
        self.later += tuple((kind, at) for _, _, at in when)

    async def erase(self, org: str, conversation_id: str, *, why: str, forget: bool) -> None:
        """Gone."""
        del self.records[org, conversation_id]


async def sweep(node: Node, store: Indexed, settings: Settings = LIVE) -> None:
    """One look at what is silent and what is old."""
    parts = {"store": store, "settings": settings, "conversations": node.conversations, "orgs": {}}
    hub = SimpleNamespace(**parts, prefers=lambda p: True)
    hub.records = Records(cast(Hub, hub))
    hub.records.on_erased = [store.forget]
    await Hub._idle_and_old(cast(Hub, hub), store.now_ms)


async def taken_over() -> tuple[Node, Indexed]:
    """A conversation that a supervisor took over from a bot."""
    store = Indexed()
    node = Node(store, settings=LIVE)
    for command in (begin(), connect(ROBO), watch(), prepare(), confirm()):
        await node.run(command)
    store.quiet = store.now_ms
    return node, store


@pytest.mark.parametrize("over", [finish(), c.EndIdle()])
async def test_unacknowledged_notices_are_erased_with_the_rest(over: c.Command) -> None:
    """
    A conversation whose notice nobody acknowledges stays for the retention time from its end, and no longer.

    A bot without a desk never does, so it stayed among the live ones, looked at again and again, for ever.
    """
    node, store = await taken_over()
    await node.run(over)
    ended = store.now_ms
    for _ in range(5):
        store.now_ms += LIVE.retention_ms // 5
        await sweep(node, store)
        assert node.conversation.ended_at is not None, "kept until then"
        assert (node.record.index, store.quiet) == ("live", store.now_ms)
    assert store.now_ms == ended + LIVE.retention_ms
    store.now_ms += LIVE.idle_ms + 1
    await sweep(node, store)
    assert node.record == Record()


async def test_acknowledged_ones_are_erased_as_closed() -> None:
    """The last notice settles it; from then on the index of the closed ones has it until the retention time is over."""
    node, store = await taken_over()
    await node.run(finish())
    await node.run(c.AcknowledgeTakeover(desk("robo"), "tko_1"))
    assert node.record.index == "closed"
    store.now_ms += LIVE.retention_ms
    await sweep(node, store)
    assert node.conversation.settled
    store.now_ms += 1
    await sweep(node, store)
    assert node.record == Record()


async def test_silent_ones_are_ended_and_not_erased() -> None:
    """A running conversation is ended by its silence, however long it lasted, and is then as old as its end."""
    node, store = await taken_over()
    store.now_ms += 10 * LIVE.retention_ms
    await sweep(node, store)
    assert (node.conversation.ended_at, node.conversation.end_reason) == (store.now_ms, "inactivity")


async def test_what_is_outside_goes_first() -> None:
    """Files are removed before the record; where that fails the record stays, and the next sweep does both."""
    node, store = await taken_over()
    await node.run(finish())
    await node.run(c.AcknowledgeTakeover(desk("robo"), "tko_1"))
    store.stuck = 1
    store.now_ms += LIVE.retention_ms + 1
    await sweep(node, store)
    assert node.conversation.settled
    await sweep(node, store)
    assert node.record == Record()
    assert store.forgotten == 1


async def test_a_queues_own_retention_is_noted_and_kept() -> None:
    """While another queue's is over, one with a longer retention isn't erased: it is noted when that will be due."""
    node, store = await taken_over()
    await node.run(finish())
    await node.run(c.AcknowledgeTakeover(desk("robo"), "tko_1"))
    ended = node.conversation.ended_at
    assert ended is not None
    longer = QueueSettings("Support", "home", retention_ms=5 * LIVE.retention_ms)
    settings = replace(LIVE, queues={node.conversation.queue: longer})
    store.now_ms += LIVE.retention_ms + 1
    await sweep(node, store, settings)
    assert node.conversation.settled
    assert store.later == (("erase", ended + 5 * LIVE.retention_ms),)
    await sweep(node, store, LIVE)
    assert node.record == Record()
