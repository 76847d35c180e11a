"""
The store's laws on real engines: commits, appends, positions and headers.

`World` (also for the neighbours of this file) is a hub's parts over one store with keys of its own.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.conversation import Participant, Situation
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.domain.ledger import ledger_name
from hub.protocol import platform as p
from hub.service.conversations import Conversations
from hub.service.ids import id_hash
from hub.service.ingest import Ingest, Result
from hub.service.messaging import Messaging
from hub.service.ports import Append, Appended, Commit, Committed, Conflict, Loaded, NotDue, Repeated, Request
from hub.settings import ChannelSettings, QueueSettings, Settings
from hub.store.follow import Follower
from hub.store.keys import Keys, partition
from hub.store.redis_store import SCRIPTS, RandomIds, RedisStore
from hub.store.topology import Primaries
from tests.support.engines import Engines

ORG, CONNECTOR = "acme", "crm"
HOUR_MS = 3_600_000
# How a key of each type is read, and brought into an order of its own where the engine's means nothing.
READERS: dict[bytes, tuple[Any, ...]] = {
    b"string": ("GET", bytes),
    b"list": ("LRANGE", "0", "-1", list),
    b"set": ("SMEMBERS", sorted),
    b"zset": ("ZRANGE", "0", "-1", "WITHSCORES", list),
    b"hash": ("HGETALL", lambda flat: dict(zip(flat[::2], flat[1::2], strict=True))),
    b"stream": ("XRANGE", "-", "+", list),
}
PERMISSIONS = frozenset({"view", "monitor", "takeover", "release", "history"})


def settings_for(keys: Keys) -> Settings:
    """Defaults, a queue of each wrap-up prompt, and a channel that shows names."""
    queues = {
        prompt: QueueSettings(prompt, "home", wrapup_prompt=prompt, wrapup_codes=("sold", "spam"))
        for prompt in ("none", "optional", "mandatory", "timeout")
    }
    return replace(Settings(), key_prefix=keys.prefix, queues=queues, channels={"open": ChannelSettings(True)})


def supervisor(user_id: str, **changes: Any) -> Person:
    """A supervisor with every right."""
    everything = frozenset({"*"})
    one = Person(user_id, user_id.title(), ORG, "supervisor", PERMISSIONS, everything, everything)
    return replace(one, **changes)


def agent(user_id: str) -> Person:
    """An agent."""
    return supervisor(user_id, role="agent", permissions=frozenset())


def customer_of(conversation_id: str) -> Person:
    """The customer, by a token for this conversation."""
    return supervisor("carl", role="customer", permissions=frozenset(), conversation=conversation_id)


class Planning(RedisStore):
    """A store that only notes what it is asked to write, decided on what it was given."""

    loaded: Loaded

    def __init__(self, primaries: Primaries, settings: Settings) -> None:
        super().__init__(primaries, settings)
        self.planned: list[Commit] = []

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """What was given."""
        return self.loaded

    async def commit(self, commit: Commit, *, lane: str = "commit") -> Committed:
        """Noted."""
        self.planned.append(commit)
        return Committed(0, "0", "")


@dataclass
class World:
    """A node's parts over one store; `now` is for events of platforms (ms)."""

    engines: Engines
    store: RedisStore
    settings: Settings
    conversations: Conversations
    ingest: Ingest
    messaging: Messaging
    ids: RandomIds = field(default_factory=RandomIds)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    now: int = 1_700_000_000_000

    # -- words ---------------------------------------------------------------------------------------------------

    def event(self, kind: str, conversation_id: str, *, id: str | None = None, **data: Any) -> p.AnyEvent:
        """A platform's event; each later than the one before."""
        self.now += 10
        number = next(self.numbers)
        event = p.decode_event(
            orjson.dumps(
                {
                    "id": id or f"ev{number}",
                    "type": kind,
                    "conversation_id": conversation_id,
                    "at": self.now,
                    "data": data,
                }
            )
        )
        assert not isinstance(event, p.BadEvent), event.refused
        return event

    async def push(self, *events: p.AnyEvent, connector: str = CONNECTOR) -> list[Result]:
        """Take in events, and expect each to be accepted."""
        results = await self.ingest.take(ORG, connector, events)
        assert [one.status for one in results] == ["accepted"] * len(events), results
        return results

    async def begin(self, *agents: str, queue: str = "none", channel: str = "web", connector: str = CONNECTOR) -> str:
        """A new conversation with these agents (participant `p-<user>`); its id."""
        conversation_id = f"c{uuid.uuid4().hex[:10]}"
        start: dict[str, Any] = {"channel": channel, "queue": queue, "customer": {"id": "carl", "name": "Carl"}}
        events = [self.event("conversation.started", conversation_id, **start)]
        events += [self.arrival(conversation_id, one) for one in agents]
        await self.push(*events, connector=connector)
        return conversation_id

    def arrival(self, conversation_id: str, user_id: str, purpose: str = "agent") -> p.AnyEvent:
        """`participant.connected`."""
        who = {"participant_id": f"p-{user_id}", "user_id": user_id, "name": user_id.title(), "purpose": purpose}
        return self.event("participant.connected", conversation_id, **who)

    def message(self, conversation_id: str, who: str | None = None, *, id: str | None = None) -> p.AnyEvent:
        """`message.created` by an agent (`who` a user), or by the customer."""
        sender = {"purpose": "customer"} if who is None else {"participant_id": f"p-{who}"}
        number = next(self.numbers)
        return self.event("message.created", conversation_id, id=id, message_id=f"m{number}", text="hello", **sender)

    async def load(self, conversation_id: str) -> Loaded:
        """The conversation with the configuration's part."""
        return await self.conversations.load(ORG, conversation_id)

    async def do(self, conversation_id: str, command: c.Command) -> Situation:
        """Carry out a command; the situation after it."""
        return (await self.conversations.run(ORG, conversation_id, lambda _: command)).after

    async def plan(self, loaded: Loaded, command: c.Command, *, request: Request | None = None) -> Commit:
        """The commit that `command` is, decided on `loaded`; not written."""
        planning = Planning(self.store.primaries, self.settings)
        planning.loaded = loaded
        service = Conversations(planning, self.settings, self.ids.new, self.ids.tag)
        name = getattr(command, "conversation_id", "")
        name = loaded.situation.conversation.conversation_id if loaded.situation.conversation is not None else name
        await service.run(ORG, name, lambda _: command, answer=lambda *_: {"answer": 1}, request=request)
        [commit] = planning.planned
        return commit

    def watching(self, conversation_id: str, user_id: str = "sue", **changes: Any) -> c.StartMonitor:
        """`monitor.start` with an hour's lease, session `ses-<user>`."""
        command = c.StartMonitor(
            person=supervisor(user_id),
            status="available",
            session=f"ses-{user_id}",
            participant_id=None,
            monitor_id=self.ids.new("mon", ORG, conversation_id),
            lease_end=2**42,
        )
        return replace(command, **changes)

    async def take_over(self, conversation_id: str, user_id: str = "sue") -> str:
        """Prepare and confirm a takeover by whoever is watching; its id."""
        takeover_id = self.ids.new("tko", ORG, conversation_id)
        person, session = supervisor(user_id), f"ses-{user_id}"
        await self.do(conversation_id, c.PrepareTakeover(person, session, takeover_id, "hash", 2**42))
        confirm = c.ConfirmTakeover(person, session, takeover_id, "hash", f"p-{user_id}")
        await self.do(conversation_id, confirm)
        return takeover_id

    # -- what is stored ------------------------------------------------------------------------------------------

    def key(self, kind: str, conversation_id: str) -> bytes:
        """A key of a conversation: `c`, `t`, `d`, `p`, `o`, `g`."""
        base = self.store.keys.base(partition(ORG, conversation_id))
        return base + f"{kind}:{ORG}/{conversation_id}".encode()

    def shared(self, name: str, conversation_id: str) -> bytes:
        """A key of the conversation's partition: `due`, `live`, `closed`, `ledger`, …"""
        return self.store.keys.base(partition(ORG, conversation_id)) + name.encode()

    def ask(self, verb: str, key: bytes, *args: str | bytes) -> Any:
        """Answer of the engine, past everything under test."""
        return self.engines.node_of(key).ask(*verb.split(), key, *args)

    def fields(self, conversation_id: str) -> dict[str, str]:
        """The conversation's record."""
        flat = [one.decode() for one in self.ask("HGETALL", self.key("c", conversation_id))]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def everything(self) -> dict[bytes, object]:
        """All keys of this world with their contents, but for what ids point to (written before, by design)."""
        found: dict[bytes, object] = {}
        for node in self.engines.nodes:
            for key in node.ask("KEYS", f"{self.store.keys.prefix}:*"):
                if b":n:" not in key:
                    *words, shape = READERS[node.ask("TYPE", key)]
                    found[key] = shape(node.ask(words[0], key, *words[1:]))
        return found

    def board(self, conversation_id: str) -> list[str]:
        """The board's log that has this conversation."""
        key = self.shared(f"board:{ORG}", conversation_id)
        return [entry[3].decode() for _, entry in self.ask("XRANGE", key, "-", "+")]


@contextlib.asynccontextmanager
async def opened(engines: Engines, keys: Keys) -> AsyncIterator[World]:
    """A world over `engines`."""
    settings = settings_for(keys)
    primaries = await Primaries.connect(engines.url, scripts=SCRIPTS)
    try:
        yield make_world(engines, primaries, settings)
    finally:
        await primaries.aclose()


def make_world(engines: Engines, primaries: Primaries, settings: Settings) -> World:
    """A node's parts over lanes that are there."""
    ids = RandomIds()
    store = RedisStore(primaries, settings)
    conversations = Conversations(store, settings, ids.new, ids.tag)
    ingest = Ingest(store, conversations, settings, ids)
    return World(engines, store, settings, conversations, ingest, Messaging(store, conversations, ids))


@pytest.fixture
async def world(engines: Engines, keys: Keys) -> AsyncIterator[World]:
    """A world over each kind of engine."""
    async with opened(engines, keys) as one:
        yield one


def connect_command(user_id: str) -> c.ConnectParticipant:
    """A platform brings an agent in."""
    return c.ConnectParticipant(CONNECTOR, Participant(f"p-{user_id}", "agent", user_id, user_id.title(), 5))


def without_time(loaded: Loaded) -> Loaded:
    """What was loaded, but for when."""
    return replace(loaded, situation=replace(loaded.situation, now_ms=0))


# -- commits ---------------------------------------------------------------------------------------------------------


async def test_a_commit_on_an_old_version_writes_nothing(world: World) -> None:
    """Of two commits decided on one version the second changes not a byte, and is told the state to decide on now."""
    conversation = await world.begin("ann")
    loaded = await world.store.load(ORG, conversation)
    first, second = [await world.plan(loaded, connect_command(user)) for user in ("bob", "cid")]
    assert isinstance(await world.store.commit(first), Committed)
    before = world.everything()
    answer = await world.store.commit(second)
    assert isinstance(answer, Conflict)
    assert world.everything() == before
    now = await world.store.load(ORG, conversation)
    assert without_time(answer.loaded) == without_time(now)
    assert [one.user_id for one in now.situation.existing.connected] == ["ann", "bob"]
    assert abs(answer.loaded.situation.now_ms - now.situation.now_ms) < 60_000


async def test_a_start_needs_that_nothing_is_there(world: World) -> None:
    """Two starts of one conversation decided on nothing: one is written, the other is told of the first."""
    command = c.StartConversation(ORG, "c1", CONNECTOR, "web", "none", "home", None, "carl", "Carl", "p-carl", 5)
    loaded = await world.store.load(ORG, "c1")
    answers = await asyncio.gather(*[world.store.commit(await world.plan(loaded, command)) for _ in range(2)])
    assert [type(one) for one in answers] == [Committed, Conflict]
    assert isinstance(answers[1], Conflict)
    assert answers[1].loaded.situation.existing.customer.participant_id == "p-carl"
    assert answers[1].loaded.top == 1


async def test_a_takeover_is_written_whole(world: World) -> None:
    """One commit leaves record, transcript, actions, segments, ledger, due things, index, board and no half of it."""
    conversation = await world.begin("ann", "bob", queue="mandatory", channel="open")
    await world.do(conversation, world.watching(conversation, participant_id="p-ann"))
    takeover_id = await world.take_over(conversation)
    fields = world.fields(conversation)
    assert fields["owner"] == "p-sue 2"
    assert {name for name in fields if name.startswith("p:")} == {f"p:{fields['cust']}", "p:p-sue"}
    assert not {"m", "m.id", "x", "ml:ses-sue"} & set(fields)
    events = [orjson.loads(one.body)["event"] for one in await world.store.entries(ORG, conversation, from_offset=4)]
    assert events == ["participant.disconnected"] * 2 + ["participant.connected", "takeover.completed"]
    actions = [
        orjson.loads(one.partition(b" ")[2]) for one in world.ask("LRANGE", world.key("o", conversation), "0", "-1")
    ]
    assert [one["event"] for one in actions] == [
        *["participant.disconnected"] * 2,
        "participant.connected",
        "sender.changed",
    ]
    kinds = [orjson.loads(one)["kind"] for one in await world.store.segments(ORG, conversation)]
    assert kinds == ["interact", "interact", "takeover", "monitoring"]
    ledger = [
        orjson.loads(entry[1]) for _, entry in world.ask("XRANGE", world.shared("ledger", conversation), "-", "+")
    ]
    name = ledger_name(world.settings.ledger.first, ORG, conversation)
    assert [one["what"] for one in ledger if one["conversation"] == name][-4:] == [
        "takeover.completed",
        "wrapup.requested",
        "wrapup.requested",
        "monitor.ended",
    ]
    member = f"{ORG}/{conversation}"
    assert world.ask("ZSCORE", world.shared("due", conversation), f"lease:{member}") is None
    assert world.ask("ZSCORE", world.shared("due", conversation), f"wrapup:{member}") is not None
    assert world.ask("ZSCORE", world.shared("live", conversation), member) is not None
    assert world.ask("ZSCORE", world.shared(f"due:{ORG}/{CONNECTOR}", conversation), member) == b"0"
    row = orjson.loads(world.board(conversation)[-1].partition("\n")[0][1:])
    assert (row["owner"], row["owner_epoch"], row["taken_over"], row["monitor"]) == ("p-sue", 2, True, None)
    notices = (await world.load(conversation)).situation.existing.notices
    assert {(one.takeover_id, one.user_id) for one in notices} == {(takeover_id, "ann"), (takeover_id, "bob")}


async def test_the_end_moves_the_conversation_to_the_closed_index(world: World) -> None:
    """A conversation is in one index: live until it is settled, closed from then on."""
    conversation = await world.begin("ann", queue="mandatory")
    member = f"{ORG}/{conversation}"
    await world.push(world.event("conversation.ended", conversation))
    assert world.ask("ZSCORE", world.shared("live", conversation), member) is not None
    await world.do(conversation, c.SubmitWrapup(agent("ann"), "sold", None))
    assert world.ask("ZSCORE", world.shared("live", conversation), member) is None
    assert world.ask("ZSCORE", world.shared("closed", conversation), member) is not None
    assert world.ask("ZSCORE", world.shared("due", conversation), f"wrapup:{member}") is None


@pytest.mark.parametrize("change", ["connect", "acknowledge"])
async def test_a_commit_that_does_not_read_the_monitor_stands_beside_one(world: World, change: str) -> None:
    """A monitor that starts after the decision doesn't make agents' and platforms' commits decide again."""
    conversation = await world.begin("ann")
    command: c.Command = connect_command("bob")
    if change == "acknowledge":
        await world.do(conversation, world.watching(conversation, "tom"))
        takeover_id = await world.take_over(conversation, "tom")
        command = c.AcknowledgeTakeover(agent("ann"), takeover_id)
    commit = await world.plan(await world.load(conversation), command)
    version = world.fields(conversation)["version"]
    await world.do(conversation, world.watching(conversation))
    assert world.fields(conversation)["version"] == version
    assert isinstance(await world.store.commit(commit), Committed)
    monitor = (await world.load(conversation)).situation.monitor
    assert monitor is not None
    assert monitor.user_id == "sue"
    row, _, extra = world.board(conversation)[-1][1:].partition("\n")
    assert orjson.loads(row)["monitor"]["user_id"] == "sue", "though it was decided without one"
    assert orjson.loads(extra)["monitor"]["monitor_id"] == monitor.monitor_id


@pytest.mark.parametrize(
    "command",
    [
        c.DisconnectParticipant(CONNECTOR, "p-ann", "client", 5),
        c.TransferConversation(CONNECTOR, "timeout", "home", 5),
        c.EndByPlatform(CONNECTOR, "platform", 5),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_commit_that_read_the_monitor_is_guarded_by_it(world: World, command: c.Command) -> None:
    """Whatever ends monitors is decided again when one started meanwhile; the conflict brings it."""
    conversation = await world.begin("ann")
    commit = await world.plan(await world.load(conversation), command)
    await world.do(conversation, world.watching(conversation))
    before = world.everything()
    answer = await world.store.commit(commit)
    assert isinstance(answer, Conflict)
    assert world.everything() == before
    assert answer.loaded.situation.monitor is not None
    assert answer.loaded.situation.monitor.joined("ses-sue") is not None
    assert isinstance(await world.store.commit(await world.plan(answer.loaded, command)), Committed)
    monitor = (await world.load(conversation)).situation.monitor
    assert (monitor is None) == (not isinstance(command, c.TransferConversation))


async def test_one_of_eight_monitors_wins(world: World) -> None:
    """Of eight starts decided on the same free conversation one is written; each conflict names the winner."""
    conversation = await world.begin("ann")
    loaded = await world.load(conversation)
    plans = [await world.plan(loaded, world.watching(conversation, f"s{n}")) for n in range(8)]
    answers = await asyncio.gather(*[world.store.commit(plan) for plan in plans])
    assert [type(one) for one in answers].count(Committed) == 1
    holders = {
        one.loaded.situation.monitor.user_id
        for one in answers
        if isinstance(one, Conflict) and one.loaded.situation.monitor
    }
    winner = (await world.load(conversation)).situation.monitor
    assert winner is not None
    assert holders == {winner.user_id}


async def test_a_takeover_decided_before_another_owner_came_is_refused(world: World) -> None:
    """A confirmation whose decision saw an older owner writes nothing; decided again, the rules refuse it."""
    conversation = await world.begin("ann")
    await world.do(conversation, world.watching(conversation, participant_id="p-ann"))
    await world.push(world.arrival(conversation, "bob"))
    sue, takeover_id = supervisor("sue"), world.ids.new("tko", ORG, conversation)
    await world.do(conversation, c.PrepareTakeover(sue, "ses-sue", takeover_id, "hash", 2**42))
    confirm = c.ConfirmTakeover(sue, "ses-sue", takeover_id, "hash", "p-sue")
    commit = await world.plan(await world.load(conversation), confirm)
    gone = {"participant_id": "p-ann", "disconnect_type": "client"}
    await world.push(world.event("participant.disconnected", conversation, **gone))
    answer = await world.store.commit(commit)
    assert isinstance(answer, Conflict)
    with pytest.raises(Refused, match="not_monitoring"):
        await world.plan(answer.loaded, confirm)
    assert (await world.load(conversation)).situation.existing.owner == "p-bob"


async def test_a_request_is_carried_out_once(world: World) -> None:
    """The same request again is answered with the first answer, whatever has happened since, and changes nothing."""
    conversation = await world.begin("ann")
    loaded = await world.load(conversation)
    request = Request(ORG, "supervisor", "sue", "r1", "digest")
    commit = await world.plan(loaded, world.watching(conversation), request=request)
    assert isinstance(await world.store.commit(commit), Committed)
    await world.do(conversation, c.StopMonitor(supervisor("sue")))
    before = world.everything()
    assert await world.store.commit(commit) == Repeated("digest", b'{"answer":1}')
    assert world.everything() == before
    key = world.shared(f"r:{ORG}/supervisor/sue/r1", conversation)
    assert 0 < world.ask("PTTL", key) <= world.settings.request_memory_ms


async def test_a_refused_commit_does_not_remember_its_request(world: World) -> None:
    """A request whose commit conflicted can be decided again and is then carried out."""
    conversation = await world.begin("ann")
    loaded = await world.load(conversation)
    request = Request(ORG, "supervisor", "sue", "r1", "digest")
    commit = await world.plan(loaded, world.watching(conversation), request=request)
    await world.push(world.arrival(conversation, "bob"))
    answer = await world.store.commit(commit)
    assert isinstance(answer, Conflict)
    again = await world.plan(answer.loaded, world.watching(conversation, participant_id="p-bob"), request=request)
    assert isinstance(await world.store.commit(again), Committed)


async def test_another_command_under_a_used_req_is_refused(world: World) -> None:
    """The service answers a repeat like the first time, and refuses another command under the same `req`."""
    conversation = await world.begin("ann")
    command = world.watching(conversation)

    async def run(digest: str) -> dict[str, object]:
        request = Request(ORG, "supervisor", "sue", "r1", digest)
        done = await world.conversations.run(
            ORG,
            conversation,
            lambda _: replace(command, session=f"ses-{digest}"),
            answer=lambda *_: {"n": digest},
            request=request,
        )
        return done.answer

    assert await run("one") == {"n": "one"}
    with pytest.raises(Refused, match="schema_invalid"):
        await run("two")
    monitor = (await world.load(conversation)).situation.monitor
    assert monitor is not None
    assert [one.session for one in monitor.sessions] == ["ses-one"]


async def test_an_expiry_is_written_only_when_the_lease_is_over(world: World) -> None:
    """A sweeper whose clock is ahead, or that was overtaken by a renewal, can't end a running monitor."""
    conversation = await world.begin("ann")
    loaded = await world.load(conversation)
    soon = loaded.situation.now_ms + HOUR_MS
    await world.do(conversation, world.watching(conversation, lease_end=soon))
    loaded = await world.load(conversation)
    late = replace(loaded, situation=replace(loaded.situation, now_ms=soon + 1))
    commit = await world.plan(late, c.ExpireMonitor())
    before = world.everything()
    assert isinstance(await world.store.commit(commit), NotDue)
    assert world.everything() == before
    world.ask("ZADD", world.shared("due", conversation), "5", f"lease:{ORG}/{conversation}")
    assert isinstance(await world.store.commit(commit), Committed)
    assert (await world.load(conversation)).situation.monitor is None


# -- appends ---------------------------------------------------------------------------------------------------------


def saying(conversation_id: str, **changes: Any) -> Append:
    """Ann's message, as her platform sends it."""
    seen = (id_hash("e", "e1"), id_hash("m", "m1"))
    one = Append(
        kind="message",
        org=ORG,
        conversation_id=conversation_id,
        connector=CONNECTOR,
        participant="p-ann",
        owner=None,
        at=7,
        head=b'{"event":"message.created","data":{',
        tail=b"}}",
        audience="asc",
        seen=seen,
    )
    return replace(one, **changes)


async def test_a_message_is_written_with_who_said_it(world: World) -> None:
    """The store itself puts in who acts, as they are connected, and answers with the position."""
    conversation = await world.begin("ann")
    said, asked = await world.store.append(
        [saying(conversation), saying(conversation, participant="@", seen=(id_hash("m", "m2"),))]
    )
    entries = await world.store.entries(ORG, conversation, from_offset=3)
    who = [orjson.loads(one.body)["data"] for one in entries]
    assert who[0] == {"participant_id": "p-ann", "purpose": "agent", "name": "Ann"}
    assert (who[1]["purpose"], who[1]["name"]) == ("customer", "Carl")
    epoch = world.fields(conversation)["epoch"]
    assert [one.cursor for one in (said, asked)] == [f"{epoch}.{one.tag}-{one.offset}" for one in entries]


@pytest.mark.parametrize("which", [0, 1])
async def test_an_id_that_was_taken_in_makes_a_repeat(world: World, which: int) -> None:
    """The same event id, or the same message id under another event id, is a duplicate that changes nothing."""
    conversation = await world.begin("ann")
    assert (await world.store.append([saying(conversation)]))[0].outcome == "ok"
    before = world.everything()
    seen = [id_hash("e", "other"), id_hash("m", "other")]
    seen[which] = saying(conversation).seen[which]
    assert await world.store.append([saying(conversation, seen=tuple(seen))]) == [Appended("duplicate")]
    assert world.everything() == before


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"conversation_id": "nowhere"}, Appended("unknown")),
        ({"connector": "other"}, Appended("unknown")),
        ({"participant": "p-bob"}, Appended("stale", owner="p-ann 1")),
        ({"owner": "p-ann 2"}, Appended("stale", owner="p-ann 1")),
        ({"owner": "-"}, Appended("stale", owner="p-ann 1")),
        ({"kind": "typing", "participant": "p-bob"}, Appended("stale", owner="p-ann 1")),
        ({"kind": "draft", "participant": "p-bob"}, Appended("stale", owner="p-ann 1")),
    ],
    ids=["unknown", "foreign", "not-connected", "other-epoch", "nobody", "typing", "draft"],
)
async def test_an_append_is_refused_without_a_trace(world: World, changes: dict[str, Any], outcome: Appended) -> None:
    """Unknown and foreign conversations look alike, who isn't connected or doesn't own is stale; nothing is written."""
    conversation = await world.begin("ann")
    before = world.everything()
    assert await world.store.append([replace(saying(conversation), **changes)]) == [outcome]
    assert world.everything() == before
    assert (await world.store.append([saying(conversation, owner="p-ann 1")]))[0].outcome == "ok"


async def test_the_hub_itself_may_append_to_any_platforms_conversation(world: World) -> None:
    """Without a connector the conversation's platform isn't compared; the web messenger's take any."""
    conversation = await world.begin("ann")
    assert (await world.store.append([saying(conversation, connector=None)]))[0].outcome == "ok"
    own = await world.begin("ann", connector="")
    assert (await world.store.append([saying(own, connector="other")]))[0].outcome == "ok"


async def test_after_the_end_only_receipts_are_taken(world: World) -> None:
    """An ended conversation refuses messages, panels, typing and drafts, and still takes receipts and knows repeats."""
    conversation = await world.begin("ann")
    await world.store.append([saying(conversation)])
    await world.push(world.event("conversation.ended", conversation))
    before = world.everything()
    fresh = {"seen": (id_hash("e", "e9"),)}
    late = [
        saying(conversation, **fresh),
        saying(conversation, kind="panel", participant="", panel="crm", content=b"1", **fresh),
        saying(conversation, kind="typing", **fresh),
        saying(conversation, kind="draft", **fresh),
        saying(conversation),
    ]
    answers = await world.store.append(late)
    assert [one.outcome for one in answers] == ["ended"] * 4 + ["duplicate"]
    assert world.everything() == before
    receipt = saying(conversation, kind="receipt", participant="", **fresh)
    assert (await world.store.append([receipt]))[0].outcome == "ok"


async def test_panels_are_bounded(world: World) -> None:
    """A conversation has at most `panels_max` panels; known ones change and go, and make room."""
    conversation = await world.begin("ann")

    def panel(name: str, content: bytes) -> Append:
        seen = (id_hash("e", uuid.uuid4().hex),)
        return saying(
            conversation,
            kind="panel",
            participant="",
            panel=name,
            content=content,
            audience="as",
            tail=b'"x":1}}',
            seen=seen,
        )

    most = world.settings.panels_max
    answers = await world.store.append([panel(f"n{n}", b"%d" % n) for n in range(most + 1)])
    assert [one.outcome for one in answers] == ["ok"] * most + ["panels"]
    changes = [panel("n0", b"9"), panel("n1", b""), panel("new", b"{}"), panel("newer", b"{}"), panel("n2", b"")]
    assert [one.outcome for one in await world.store.append(changes)] == ["ok", "ok", "ok", "panels", "ok"]
    snapshot = await world.store.snapshot(ORG, conversation)
    assert snapshot is not None
    assert len(snapshot.panels) == most - 1
    assert snapshot.panels["n0"] == b"9"
    assert not {"n1", "n2", "newer"} & set(snapshot.panels)


async def test_typing_is_published_and_not_stored(world: World) -> None:
    """Typing reaches the channel with its audience and the monitor, moves no position, and is repeated once by its id."""
    conversation = await world.begin("ann", "bob")
    await world.do(conversation, world.watching(conversation, participant_id="p-ann"))
    monitor = (await world.load(conversation)).situation.monitor
    assert monitor is not None
    async with heard(world, world.key("t", conversation)) as payloads:
        top = world.fields(conversation)["top"]
        who = ["p-ann", "p-bob", "@", "p-ann"]
        ids = ["t1", "t2", "t3", "t1"]
        answers = await world.store.append(
            [
                saying(conversation, kind="typing", participant=one, seen=(id_hash("e", id),))
                for one, id in zip(who, ids, strict=True)
            ]
        )
        assert [one.outcome for one in answers] == ["ok", "ok", "ok", "duplicate"]
        assert answers[0].cursor is None
        assert world.fields(conversation)["top"] == top
        assert len(await world.store.entries(ORG, conversation, from_offset=1)) == int(top)
        await until(lambda: len(payloads) == 3)
    headers = [one.split(b" ", 2)[:2] for one in payloads]
    audiences = ["asc", "as", "as"]  # the owner's typing is the customer's to see, nobody else's
    assert headers == [[b"~", f"{one},0,{monitor.monitor_id}".encode()] for one in audiences]


async def test_a_draft_is_kept_beside_and_goes_with_its_writer(world: World) -> None:
    """A draft is kept by participant without any entry; who leaves takes it along, who is taken over finds it."""
    conversation = await world.begin("ann", "bob")
    top = world.fields(conversation)["top"]
    await world.store.append(
        [
            saying(conversation, kind="draft", participant=f"p-{one}", head=b"", tail=text, seen=())
            for one, text in (("ann", "grüß dich".encode()), ("bob", b"two"))
        ]
    )
    loaded = await world.load(conversation)
    assert loaded.drafts == {"p-ann": "grüß dich", "p-bob": "two"}
    assert world.fields(conversation)["top"] == top
    gone = {"participant_id": "p-bob", "disconnect_type": "client"}
    await world.push(world.event("participant.disconnected", conversation, **gone))
    assert (await world.load(conversation)).drafts == {"p-ann": "grüß dich"}
    await world.do(conversation, world.watching(conversation))
    takeover_id = await world.take_over(conversation)
    assert (await world.load(conversation)).drafts == {"p-ann": "grüß dich"}
    await world.do(conversation, c.AcknowledgeTakeover(agent("ann"), takeover_id))
    assert (await world.load(conversation)).drafts == {}


async def test_an_appended_message_and_a_takeover_exclude_each_other(world: World) -> None:
    """Appends racing with takeovers: what the old owner sends is before the mark or stale, never behind it."""
    conversation = await world.begin("ann")
    await world.do(conversation, world.watching(conversation))
    sue, takeover_id = supervisor("sue"), world.ids.new("tko", ORG, conversation)
    await world.do(conversation, c.PrepareTakeover(sue, "ses-sue", takeover_id, "hash", 2**42))
    commit = await world.plan(
        await world.load(conversation), c.ConfirmTakeover(sue, "ses-sue", takeover_id, "hash", "p-sue")
    )

    async def talk() -> list[str]:
        outcomes = []
        for n in range(60):
            one = saying(conversation, owner="p-ann 1", seen=(id_hash("m", f"race{n}"),))
            outcomes.append((await world.store.append([one]))[0].outcome)
        return outcomes

    talking = asyncio.create_task(talk())
    await until(lambda: int(world.fields(conversation).get("messages", 0)) > 5)
    assert isinstance(await world.store.commit(commit, lane="takeover"), Committed)
    outcomes = await talking
    assert outcomes == sorted(outcomes), "first all ok, then all stale"
    names = [orjson.loads(one.body)["event"] for one in await world.store.entries(ORG, conversation, from_offset=1)]
    mark = names.index("takeover.completed")
    assert names[2:mark].count("message.created") == outcomes.count("ok")
    assert "message.created" not in names[mark:]


# -- counters and the board ------------------------------------------------------------------------------------------


async def test_messages_count_and_say_who_must_speak(world: World) -> None:
    """Counters follow the messages; the board gets a patch only where `awaiting` flips, with the time of the flip."""
    conversation = await world.begin("ann")
    rows = len(world.board(conversation))
    expected = []
    for n, who in enumerate([None, None, "ann", "ann", None], 1):
        await world.push(world.message(conversation, who))
        expected.append((world.now, n))
    counters = (await world.load(conversation)).situation.counters
    assert (counters.messages, counters.awaiting, counters.unanswered) == (5, "agent", 1)
    assert counters.awaiting_since == expected[4][0]
    patches = [one for one in world.board(conversation)[rows:] if conversation in one]
    assert all(one.startswith("P") for one in patches)
    assert [orjson.loads(one[1:]) for one in patches] == [
        {"conversation_id": conversation, "awaiting": awaiting, "awaiting_since": at, "messages": n}
        for awaiting, (at, n) in zip(
            ("agent", "customer", "agent"), (expected[0], expected[2], expected[4]), strict=True
        )
    ]


async def test_unanswered_counts_until_somebody_answers(world: World) -> None:
    """Each message of the customer's counts as unanswered; an answer sets the count to none."""
    conversation = await world.begin("ann")
    seen = []
    for who in (None, None, None, "ann", None):
        await world.push(world.message(conversation, who))
        seen.append((await world.load(conversation)).situation.counters.unanswered)
    assert seen == [1, 2, 3, 0, 1]


async def test_a_message_between_decision_and_commit_is_on_the_board(world: World) -> None:
    """A commit stands although a message came meanwhile, and its row is followed by a patch with the newer counters."""
    conversation = await world.begin("ann")
    commit = await world.plan(await world.load(conversation), connect_command("bob"))
    await world.push(world.message(conversation))
    at = world.now
    before = len(world.board(conversation))
    assert isinstance(await world.store.commit(commit), Committed)
    row, patch = world.board(conversation)[before:]
    assert row.startswith("R")
    assert orjson.loads(row.partition("\n")[0][1:])["awaiting"] is None
    assert orjson.loads(patch[1:]) == {
        "conversation_id": conversation,
        "awaiting": "agent",
        "awaiting_since": at,
        "messages": 1,
    }
    [stored] = await world.store.rows(partition(ORG, conversation), ORG, [conversation])
    assert stored[2] == world.ask("HGET", world.shared(f"boardtop:{ORG}", conversation), "top")
    assert list(stored[3:]) == [b"agent", b"%d" % at, b"1"]


async def test_the_end_takes_awaiting_away_whatever_came_between(world: World) -> None:
    """Nobody has to speak any more after the end, also where a message came after it was decided."""
    conversation = await world.begin("ann")
    commit = await world.plan(await world.load(conversation), c.EndByPlatform(CONNECTOR, "platform", 5))
    await world.push(world.message(conversation))
    assert isinstance(await world.store.commit(commit), Committed)
    counters = (await world.load(conversation)).situation.counters
    assert (counters.awaiting, counters.awaiting_since, counters.messages) == (None, None, 1)
    assert world.board(conversation)[-1].startswith("R")


# -- positions and headers -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def heard(world: World, channel: bytes) -> AsyncIterator[list[bytes]]:
    """What a channel says meanwhile, as bytes."""
    payloads: list[bytes] = []
    follower = Follower(world.store.primaries, beat_s=1.0, compare_s=60.0)
    try:
        await follower.channel(channel, payloads.append)
        yield payloads
    finally:
        await follower.aclose()


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is watched is in another process
            await asyncio.sleep(0.002)


async def test_positions_have_no_gap_and_chain_by_tags(world: World) -> None:
    """Commits and appends at once: offsets rise by one, and what is published is what is stored, each naming the last."""
    conversation = await world.begin("ann")
    async with heard(world, world.key("t", conversation)) as payloads:
        top = int(world.fields(conversation)["top"])
        jobs: list[Any] = [world.push(world.message(conversation, who)) for who in ("ann", None) * 20]
        jobs += [world.push(world.arrival(conversation, f"agent{n}")) for n in range(10)]
        jobs.append(world.push(world.arrival(conversation, "x1"), world.arrival(conversation, "x2")))
        await asyncio.gather(*jobs)
        await until(lambda: len(payloads) == 52)
    entries = await world.store.entries(ORG, conversation, from_offset=1)
    assert [one.offset for one in entries] == list(range(1, top + 53))
    fields = world.fields(conversation)
    assert (int(fields["top"]), fields["tag"]) == (entries[-1].offset, entries[-1].tag)
    for before, entry, payload in zip(entries[top - 1 :], entries[top:], payloads, strict=False):
        header = f"{entry.audience},{entry.customer_offset},{entry.monitor_id}"
        said = f"{entry.offset}-{entry.tag} {before.tag} {header} ".encode() + entry.body
        assert payload == said


async def test_a_batch_answers_the_position_of_each_event(world: World) -> None:
    """Events of one batch that share a commit are each told their own entry's cursor."""
    conversation = f"c{uuid.uuid4().hex[:8]}"
    start: dict[str, Any] = {"channel": "web", "queue": "none", "customer": {"id": "carl", "name": "Carl"}}
    events = [world.event("conversation.started", conversation, **start), world.arrival(conversation, "ann")]
    events += [
        world.message(conversation, "ann"),
        world.event("conversation.transferred", conversation, queue="timeout"),
    ]
    results = await world.push(*events)
    epoch = world.fields(conversation)["epoch"]
    entries = await world.store.entries(ORG, conversation, from_offset=1)
    assert [one.cursor for one in results] == [f"{epoch}.{one.tag}-{one.offset}" for one in entries]


async def test_headers_say_audience_and_the_customers_own_position(world: World) -> None:
    """Each entry's header has its audience, and the count of what the customer may see up to and with it."""
    conversation = await world.begin("ann")
    await world.push(
        world.message(conversation),
        world.event("panel.updated", conversation, panel="crm", content={"a": 1}),
        world.message(conversation, "ann"),
        world.event("message.receipt", conversation, message_id="m1", status="read"),
        world.event("conversation.transferred", conversation, queue="timeout"),
        world.event("conversation.ended", conversation),
    )
    entries = await world.store.entries(ORG, conversation, from_offset=1)
    headers = [(one.audience, one.customer_offset) for one in entries]
    assert headers == [("as", 0), ("as", 0), ("asc", 1), ("as", 1), ("asc", 2), ("asc", 3), ("as", 3), ("asc", 4)]
    assert (await world.load(conversation)).customer_top == 4


async def test_headers_name_the_monitor_of_the_scripts_begin(world: World) -> None:
    """What ends a monitor is still said under it, what comes later not, whoever watches then."""
    conversation = await world.begin("ann", "bob")
    first = world.watching(conversation, participant_id="p-ann")
    await world.push(world.message(conversation))
    await world.do(conversation, first)
    await world.push(world.message(conversation))
    gone = {"participant_id": "p-ann", "disconnect_type": "client"}
    await world.push(world.event("participant.disconnected", conversation, **gone))
    await world.push(world.message(conversation))
    second = world.watching(conversation, "tom")
    await world.do(conversation, second)
    await world.push(world.message(conversation, "bob"))
    await world.take_over(conversation, "tom")
    await world.push(world.message(conversation))
    found = [one.monitor_id for one in await world.store.entries(ORG, conversation, from_offset=4)]
    assert found == ["-", first.monitor_id, first.monitor_id, "-", *[second.monitor_id] * 4, "-"]


async def test_ids_are_remembered_in_small_integer_sets(world: World) -> None:
    """1,300 ids fill sets of 500 that the engine packs as integers, and each of them is known for ever."""
    conversation = await world.begin("ann")
    seen = [(id_hash("e", f"e{n}"), id_hash("m", f"m{n}")) for n in range(650)]
    for start in range(0, 650, 130):
        part = [saying(conversation, seen=one) for one in seen[start : start + 130]]
        assert {one.outcome for one in await world.store.append(part)} == {"ok"}
    sets = [world.key("d", conversation) + b":%d" % k for k in range(4)]
    assert [world.ask("SCARD", key) for key in sets] == [500, 500, 302, 0]
    assert {world.ask("OBJECT ENCODING", key) for key in sets[:3]} == {b"intset"}
    assert world.fields(conversation)["dn"] == "1302"
    again = [saying(conversation, seen=(e if n % 2 else b"77", b"88" if n % 2 else m)) for n, (e, m) in enumerate(seen)]
    assert {one.outcome for one in await world.store.append(again)} == {"duplicate"}
    hashes = [one for pair in seen[::50] for one in pair]
    assert await world.store.seen(ORG, conversation, [*hashes, b"99"]) == [True] * len(hashes) + [False]


async def test_events_of_a_commit_are_known_like_messages(world: World) -> None:
    """An event that changed the state, or had no effect on it, is a duplicate from then on, alone and in a batch."""
    conversation = await world.begin()
    arrival = world.arrival(conversation, "ann")
    await world.push(arrival)
    same = world.arrival(conversation, "ann")
    await world.push(same)
    top = world.fields(conversation)["top"]
    results = await world.ingest.take(ORG, CONNECTOR, [arrival, same, same, world.arrival(conversation, "bob")])
    assert [one.status for one in results] == ["duplicate", "duplicate", "duplicate", "accepted"]
    assert int(world.fields(conversation)["top"]) == int(top) + 1


async def test_an_event_that_two_nodes_take_in_at_once_is_written_once(world: World) -> None:
    """Also where the event leaves the state as it was (a transfer to the same queue), so that only its id tells."""
    conversation = await world.begin("ann")
    other = make_world(world.engines, world.store.primaries, world.settings)
    for event in (
        world.event("conversation.transferred", conversation, queue="none"),
        world.arrival(conversation, "bob"),
    ):
        top = int(world.fields(conversation)["top"])
        results = await asyncio.gather(*[node.ingest.take(ORG, CONNECTOR, [event]) for node in (world, other)])
        assert sorted(one.status for [one] in results) == ["accepted", "duplicate"]
        assert int(world.fields(conversation)["top"]) == top + 1


async def test_a_transcript_is_bounded(engines: Engines, keys: Keys) -> None:
    """Past its bound a transcript loses its oldest entries; positions go on."""
    settings = replace(settings_for(keys), transcript_entries_max=100)
    primaries = await Primaries.connect(engines.url, scripts=SCRIPTS)
    try:
        world = make_world(engines, primaries, settings)
        conversation = await world.begin("ann")
        for _ in range(4):
            await world.push(*[world.message(conversation) for _ in range(150)])
        length = world.ask("XLEN", world.key("t", conversation))
        assert 100 <= length <= 300  # the engine trims whole nodes of its tree
        newest = await world.store.entries_before(ORG, conversation, before=None, count=1)
        assert newest[0].offset == 602
    finally:
        await primaries.aclose()
