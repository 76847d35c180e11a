"""One session's place in one conversation: what it is given follows what it was shown, or it starts again."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from hub.domain.grants import Person
from hub.fanout.watch import Item, Topic, Watch
from tests.unit.domain.words import person

ANA = {"participant_id": "prt_ana", "user_id": "ana", "purpose": "supervisor"}


class Screen:
    """A session that notes what it is given."""

    def __init__(self) -> None:
        self.person: Person = person("ana")
        self.closed = self.quiet = False
        self.lease_until = float("inf")
        self.given: list[int] = []
        self.restarts: list[str] = []

    def send(self, frame: bytes) -> None:
        """Note the position."""
        self.given.append(int(orjson.loads(frame)["cursor"].rpartition("-")[2]))

    def lease_ends(self, conversation_id: str) -> float:
        """As long as the test wants."""
        return self.lease_until

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """Note why."""
        self.restarts.append(reason)

    def watch_idle(self, watch: Watch) -> None:
        """The last right has gone."""


class World:
    """A topic that stands at offset 10 with tag 10, and one watch on it."""

    def __init__(self, **rights: str) -> None:
        node = SimpleNamespace(unwatch=lambda watch: watch.topic.watches.pop(watch, None))
        self.topic = Topic(cast(Any, node), "acme", "cnv_1", b"t", b"c")
        self.topic.epoch = "e"
        self.topic.last_tag = "10"
        self.screen = Screen()
        self.watch = Watch(cast(Any, self.screen), self.topic)
        self.topic.watches[self.watch] = None
        for name, value in rights.items():
            setattr(self.watch, name, value)

    def shown(self, offset: int, tag: str) -> None:
        """A snapshot of that position."""
        self.watch.stand(offset, tag)
        self.watch.release()

    def entry(
        self, offset: int, tag: str, header: bytes = b"as,0,-", event: str = "message.created", **data: object
    ) -> None:
        """The log's next entry."""
        body = orjson.dumps({"event": event, "conversation_id": "cnv_1", "at": 1, "data": data})
        self.topic.entry(offset, tag.encode(), header, body)


def test_what_follows_the_snapshot_is_given() -> None:
    """What the snapshot holds isn't repeated, what comes behind it is given once."""
    world = World(participant_id="prt_x")
    world.shown(11, "11")
    for number in (11, 12, 13):
        world.entry(number, str(number))
    assert (world.screen.given, world.screen.restarts) == ([12, 13], [])


def test_a_snapshot_of_what_was_forgotten_is_noticed() -> None:
    """
    The snapshot was ahead of the followed log, and a failover forgot it: another entry has its position.

    It was taken for the one in the snapshot, so a message was never shown and no position was skipped.
    """
    world = World(participant_id="prt_x")
    world.shown(11, "old")
    world.entry(11, "new")
    world.entry(12, "12")
    assert world.screen.given == []
    assert world.screen.restarts == ["what was shown has been forgotten"]


def test_a_snapshot_of_another_history_is_noticed() -> None:
    """What follows names another entry before it than the one in the snapshot."""
    world = World(participant_id="prt_x")
    world.shown(10, "old")
    world.entry(11, "11")
    assert (world.screen.given, len(world.screen.restarts)) == ([], 1)


def test_a_snapshot_behind_the_log_is_noticed() -> None:
    """A failover took the store back behind what the log has given already: no position is skipped silently."""
    world = World(participant_id="prt_x")
    world.shown(8, "8")
    world.entry(11, "11")
    assert (world.screen.given, len(world.screen.restarts)) == ([], 1)


@pytest.mark.parametrize("idle", [True, False], ids=["monitor over", "still theirs"])
async def test_what_was_held_is_for_whoever_has_a_right(idle: bool) -> None:
    """
    A monitor that ends while its snapshot is read gets nothing of what was held.

    Their own coming in another tab was among it, made them a participant, and what followed was given without a snapshot.
    """
    world = World(monitor_id="mon_1")
    world.watch.stand(10, "10")
    world.entry(11, "11", b"as,0,mon_1", "participant.connected", participant=ANA)
    world.entry(12, "12", b"s,0,mon_1", "takeover.completed")
    if idle:
        world.watch.monitor_id = None
    world.watch.release()
    assert world.screen.given == ([] if idle else [11, 12])
    assert world.watch.participant_id == (None if idle else "prt_ana")


async def test_nothing_is_given_past_the_lease() -> None:
    """Past what is certain of the lease the watch is behind, and gives nothing."""
    world = World(monitor_id="mon_1")
    world.shown(10, "10")
    world.screen.lease_until = 0.0
    world.entry(11, "11", b"as,0,mon_1")
    assert (world.screen.given, world.watch.behind) == ([], True)


def test_an_item_knows_what_was_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic names the tag of the entry before."""
    world = World()
    seen: list[Item] = []
    monkeypatch.setattr(world.watch, "offer", seen.append)
    for number in (11, 12):
        world.entry(number, str(number))
    assert [item.before for item in seen] == ["10", "11"]
