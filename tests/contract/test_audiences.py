"""
Who gets which entry of a conversation is told by the entry's header, whatever has happened.

Random histories run through the service on a real engine; its log is followed as a node follows it, with a watch for each
agent, each supervisor, the customer and a stranger. Monitors are never told here that they are over: what keeps them from
seeing more is the header alone.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.fanout.watch import Item, Topic, Watch
from hub.protocol.commands import MessageSend
from hub.service.masking import Maskers
from hub.service.ports import StoredEntry
from hub.store.follow import Follower
from hub.store.keys import Keys, partition
from hub.store.redis_store import SCRIPTS
from hub.store.topology import Primaries
from tests.contract.test_store import CONNECTOR, ORG, World, agent, customer_of, make_world, settings_for, supervisor
from tests.support.engines import start_once

AGENTS, SUPERVISORS = ("ann", "bob"), ("sue", "tom")
SEEN_BY = {  # the protocol's rule once more: `a` agents, `s` supervisors, `c` the customer
    "message.created": "asc",
    "message.receipt": "asc",
    "conversation.ended": "asc",
    "panel.updated": "as",
    "participant.connected": "as",
    "participant.disconnected": "as",
    "conversation.transferred": "as",
    "takeover.completed": "s",
}

agents, everybody = st.sampled_from(AGENTS), st.sampled_from(("carl", *AGENTS))
supervisors = st.sampled_from(SUPERVISORS)
steps = st.one_of(
    st.tuples(st.just("message"), everybody),
    st.tuples(st.just("typing"), everybody),
    st.tuples(st.just("connect"), agents),
    st.tuples(st.just("disconnect"), agents),
    st.tuples(st.sampled_from(("panel", "receipt", "transfer")), st.just("")),
    st.tuples(st.sampled_from(("watch", "watch", "stop", "take_over", "say")), supervisors),
    st.tuples(st.sampled_from(("watch", "take_over", "watch", "take_over", "stop")), supervisors),
)


class Recorder:
    """A session that writes down what it is sent."""

    quiet = False
    closed = False

    def __init__(self, person: Person) -> None:
        self.person = person
        self.frames: list[dict[str, Any]] = []
        self.senders: list[int] = []

    def send(self, frame: bytes) -> None:
        """Take a frame."""
        self.frames.append(orjson.loads(frame))

    def lease_ends(self, conversation_id: str) -> float:
        """Never: what isn't theirs must be kept away by the header."""
        return float("inf")

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """No history is replaced here."""
        raise AssertionError(reason)

    def watch_idle(self, watch: Watch) -> None:
        """Stay; a right may come back."""

    def sender_changed(self, item: Item) -> None:
        """Somebody else answers the customer."""
        self.senders.append(item.entry.offset)

    @property
    def stored(self) -> list[dict[str, Any]]:
        """What came of the log."""
        return [one for one in self.frames if one["event"] != "typing"]

    @property
    def typing(self) -> list[int]:
        """Times of the typing that came."""
        return [one["at"] for one in self.frames if one["event"] == "typing"]


@dataclass
class History:
    """What was done: who held the monitor for which entries, and who typed when."""

    monitors: list[tuple[str, str, int, int]] = field(default_factory=list)  # user, monitor, first and last offset
    typed: list[tuple[int, str, str, frozenset[str], bool]] = field(default_factory=list)


@dataclass
class Play:
    """One conversation on its way, as its script knows it."""

    world: World
    name: str
    watches: dict[str, Watch]
    connected: list[str] = field(default_factory=list)  # participants, in the order in which they came
    users: dict[str, str] = field(default_factory=dict)  # participant to user
    owner: str | None = None
    ended: bool = False
    holder: tuple[str, str, int] | None = None  # user, monitor, top at the start
    top: int = 0
    history: History = field(default_factory=History)

    async def run(self, step: tuple[str, str]) -> None:
        """One step; what the rules refuse leaves nothing."""
        what, who = step
        with contextlib.suppress(Refused):
            await getattr(self, what)(who)
        loaded = await self.world.load(self.name)
        if self.holder is not None and loaded.situation.monitor is None:
            user, monitor_id, since = self.holder
            # The entries of the commit that ended it are the last ones under it.
            self.history.monitors.append((user, monitor_id, since + 1, loaded.top))
            self.holder = None
        conversation = loaded.situation.existing
        self.connected = [one.participant_id for one in conversation.connected]
        self.users.update({one.participant_id: one.user_id for one in conversation.connected})
        self.owner, self.top = conversation.owner, loaded.top

    async def push(self, kind: str, **data: Any) -> str:
        """A platform's event; its status."""
        [result] = await self.world.ingest.take(ORG, CONNECTOR, [self.world.event(kind, self.name, **data)])
        return result.status

    async def message(self, who: str) -> None:
        """Through the platform."""
        sender = {"purpose": "customer"} if who == "carl" else {"participant_id": f"p-{who}"}
        await self.push("message.created", message_id=uuid.uuid4().hex, text="hello", **sender)

    async def say(self, who: str) -> None:
        """By the supervisor who owns."""
        send = MessageSend(id=1, req="r", conversation_id=self.name, text="hi", client_message_id=uuid.uuid4().hex)
        await self.world.messaging.send(supervisor(who), self.name, send)

    async def typing(self, who: str) -> None:
        """Not stored."""
        sender = {"purpose": "customer"} if who == "carl" else {"participant_id": f"p-{who}"}
        if await self.push("typing", on=True, **sender) == "accepted":
            held = self.holder[0] if self.holder is not None else ""
            there = frozenset(self.users[one] for one in self.connected)
            owns = who != "carl" and self.owner == f"p-{who}"
            self.history.typed.append((self.world.now, who, held, there, owns))

    async def connect(self, who: str) -> None:
        """An agent comes."""
        await self.world.ingest.take(ORG, CONNECTOR, [self.world.arrival(self.name, who)])

    async def disconnect(self, who: str) -> None:
        """An agent goes."""
        await self.push("participant.disconnected", participant_id=f"p-{who}", disconnect_type="client")

    async def panel(self, _: str) -> None:
        """A panel changes."""
        await self.push("panel.updated", panel="crm", content={"n": 1})

    async def receipt(self, _: str) -> None:
        """A message was read."""
        await self.push("message.receipt", message_id="m1", status="read")

    async def transfer(self, _: str) -> None:
        """To another queue."""
        await self.push("conversation.transferred", queue="none")

    async def end(self, _: str) -> None:
        """The platform ends it."""
        await self.push("conversation.ended")

    async def watch(self, who: str) -> None:
        """A supervisor watches the owner, from now on and for ever, as far as their session knows."""
        if self.holder is not None and self.holder[0] == who:
            return
        command = self.world.watching(self.name, who, participant_id=self.owner)
        await self.world.do(self.name, command)
        top = (await self.world.load(self.name)).top
        self.holder = (who, command.monitor_id, top)
        self.watches[who].monitor_id = command.monitor_id

    async def stop(self, who: str) -> None:
        """A supervisor stops."""
        await self.world.do(self.name, c.StopMonitor(supervisor(who)))

    async def take_over(self, who: str) -> None:
        """Whoever watches takes over."""
        takeover_id = self.world.ids.new("tko", ORG, self.name)
        session, person = f"ses-{who}", supervisor(who)
        await self.world.do(self.name, c.PrepareTakeover(person, session, takeover_id, "hash", 2**42))
        participant = self.world.ids.new("prt", ORG, self.name)
        await self.world.do(self.name, c.ConfirmTakeover(person, session, takeover_id, "hash", participant))


@dataclass
class Bench:
    """One engine and one loop for all examples."""

    runner: asyncio.Runner
    world: World
    follower: Follower
    delivered: int = 0


@pytest.fixture(scope="module")
def bench(_engines_end: None) -> Iterator[Bench]:
    """A node's following half over the embedded engine."""
    engine = start_once("valkey")
    options = settings_for(Keys(f"t{uuid.uuid4().hex[:12]}"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        primaries = runner.run(Primaries.connect(engine.url, scripts=SCRIPTS))

        async def follow() -> Follower:
            return Follower(primaries)

        follower = runner.run(follow())
        yield Bench(runner, make_world(engine, primaries, options), follower)
        runner.run(follower.aclose())
        runner.run(primaries.aclose())


def topic_of(bench: Bench, name: str, channel: str) -> Topic:
    """The conversation's log, as a node follows it."""

    def reset(topic: Topic, reason: str) -> None:
        raise AssertionError(reason)

    keys, p = bench.world.store.keys, partition(ORG, name)
    node = cast(Any, SimpleNamespace(topic_reset=reset, maskers=Maskers(bench.world.settings)))
    topic = Topic(node, ORG, name, keys.transcript(p, ORG, name), keys.conversation(p, ORG, name))
    topic.name_visible = bench.world.settings.name_visible(channel)
    return topic


async def play(
    bench: Bench, script: list[tuple[str, str]], channel: str
) -> tuple[Play, dict[str, Recorder], list[StoredEntry]]:
    """Run a history, followed from before its beginning; who got what, and what is stored."""
    world, name = bench.world, f"c{uuid.uuid4().hex[:12]}"
    people = [*(agent(one) for one in (*AGENTS, "zoe")), *(supervisor(one) for one in (*SUPERVISORS, "zed"))]
    people.append(customer_of(name))
    recorders = {one.user_id: Recorder(one) for one in people}
    topic = topic_of(bench, name, channel)
    watches = {user: Watch(recorder, topic) for user, recorder in recorders.items()}
    for watch in watches.values():
        topic.watches[watch] = None
        watch.release()
    await bench.follower.subscribe(topic)
    bench.follower.start(topic, 0, b"0")
    one = Play(world, name, watches)
    data: dict[str, Any] = {"channel": channel, "queue": "none", "customer": {"id": "carl", "name": "Carl"}}
    assert await one.push("conversation.started", **data) == "accepted"
    for step in [("connect", "ann"), *script, ("end", ""), ("receipt", "")]:
        await one.run(step)
        async with asyncio.timeout(10):
            while topic.offset < one.top:  # noqa: ASYNC110 - what is awaited comes from another process
                await asyncio.sleep(0)
    bench.follower.unsubscribe(topic)
    return one, recorders, await world.store.entries(ORG, name, from_offset=1)


def offsets(frames: list[dict[str, Any]]) -> list[int]:
    """Positions that frames state in their cursors."""
    return [int(one["cursor"].rpartition("-")[2]) for one in frames]


def parts_of(entries: list[StoredEntry]) -> list[tuple[str, str, int, int]]:
    """Who took part: user, purpose, first offset behind their coming, offset of their going."""
    running: dict[str, tuple[str, str, int]] = {}
    found = []
    for entry in entries:
        event = orjson.loads(entry.body)
        data = event["data"]
        if event["event"] == "participant.connected":
            who = data["participant"]
            running[data["participant_id"]] = (who["user_id"], who["purpose"], entry.offset + 1)
        elif event["event"] == "participant.disconnected":
            found.append((*running.pop(data["participant_id"]), entry.offset))
        elif event["event"] == "conversation.ended":
            found += [(*one, entry.offset) for one in running.values()]
            running = {}
    return found


def check(one: Play, recorders: dict[str, Recorder], entries: list[StoredEntry]) -> None:
    """Each audience got exactly its own."""
    assert [entry.offset for entry in entries] == list(range(1, one.top + 1))
    names = {entry.offset: orjson.loads(entry.body)["event"] for entry in entries}
    assert {entry.offset: entry.audience for entry in entries} == {at: SEEN_BY[name] for at, name in names.items()}
    held = {at: monitor for _, monitor, first, last in one.history.monitors for at in range(first, last + 1)}
    assert {entry.offset: entry.monitor_id for entry in entries} == {at: held.get(at, "-") for at in names}
    check_staff(one, recorders, entries, names)
    customers = [entry for entry in entries if SEEN_BY[names[entry.offset]] == "asc"]
    assert offsets(recorders["carl"].stored) == list(range(1, len(customers) + 1))
    assert [frame["event"] for frame in recorders["carl"].stored] == [names[entry.offset] for entry in customers]
    check_typing(one, recorders)


def check_staff(one: Play, recorders: dict[str, Recorder], entries: list[StoredEntry], names: dict[int, str]) -> None:
    """Agents between coming and going; supervisors under their own monitors and parts; strangers nothing."""
    parts = parts_of(entries)
    for user in (*AGENTS, "zoe", *SUPERVISORS, "zed"):
        letter = "a" if user in (*AGENTS, "zoe") else "s"
        due = {at for whose, _, first, last in parts if whose == user for at in range(first, last + 1)}
        due = {at for at in due if letter in SEEN_BY[names[at]]}
        due |= {at for whose, _, first, last in one.history.monitors if whose == user for at in range(first, last + 1)}
        frames = recorders[user].stored
        assert offsets(frames) == sorted(due), user
        assert [frame["event"] for frame in frames] == [names[at] for at in sorted(due)]


def check_typing(one: Play, recorders: dict[str, Recorder]) -> None:
    """Typing goes to who is there and to the monitor; to the customer only the owner's; to nobody their own."""
    for user in (*AGENTS, *SUPERVISORS, "zoe", "zed"):
        due = [at for at, who, held, there, _ in one.history.typed if who != user and (user in there or user == held)]
        assert recorders[user].typing == due, user
    assert recorders["carl"].typing == [at for at, _, _, _, owns in one.history.typed if owns]


@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=5, max_size=40), st.sampled_from(("web", "open")))
@example([("watch", "sue"), ("message", "carl"), ("take_over", "sue"), ("message", "carl"), ("say", "sue")], "open")
@example([("watch", "sue"), ("disconnect", "ann"), ("connect", "bob"), ("message", "bob"), ("watch", "tom")], "web")
@example([("watch", "sue"), ("stop", "sue"), ("watch", "tom"), ("typing", "carl"), ("take_over", "tom")], "web")
def test_each_audience_gets_exactly_its_entries(bench: Bench, script: list[tuple[str, str]], channel: str) -> None:
    """
    Whatever happens: agent, supervisor, customer and stranger get what the headers give them, each once and in order.

    Offsets rise by one, for the log and for the customer's own count.
    """
    one, recorders, entries = bench.runner.run(play(bench, script, channel))
    check(one, recorders, entries)
    supervisors_came = [
        entry.offset
        for entry in entries
        if orjson.loads(entry.body)["event"] == "participant.connected"
        and orjson.loads(entry.body)["data"]["participant"]["purpose"] == "supervisor"
    ]
    assert recorders["carl"].senders == (supervisors_came if channel == "open" else [])


def test_customers_learn_nothing_but_what_is_said(bench: Bench) -> None:
    """No participant, monitor or takeover is named in any frame of the customer's, nor a monitor in any of the agents'."""
    script = [
        ("message", "carl"),
        ("watch", "sue"),
        ("typing", "ann"),
        ("message", "ann"),
        ("panel", ""),
        ("take_over", "sue"),
    ]
    one, recorders, _ = bench.runner.run(play(bench, [*script, ("message", "carl"), ("say", "sue")], "web"))
    said = orjson.dumps(recorders["carl"].frames).decode()
    for word in ("ann", "sue", "Ann", "Sue", "agent", "supervisor", "participant", "takeover", "mon_", "epoch"):
        assert word not in said, word
    assert "mon_" not in orjson.dumps([recorders[user].frames for user in AGENTS]).decode()
    assert [user for user, _, _, _ in one.history.monitors] == ["sue"]
