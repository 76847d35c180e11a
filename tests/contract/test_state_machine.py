"""
Commands in any order, on a model and on the real store: they agree after each step.

The model knows nothing of events, versions or bytes: it is the protocol's rules once more, as plainly as possible. Each
step goes through the service (`Conversations`, `Ingest`, `Messaging`) on a real engine; what is stored is then read past
the service and compared field by field.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hub.domain import commands as c
from hub.domain.conversation import Situation
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.domain.ledger import ledger_name
from hub.protocol.commands import DraftUpdate, MessageSend
from hub.protocol.platform import AnyEvent
from hub.service.conversations import Conversations
from hub.service.ports import Loaded
from hub.store.keys import Keys, partition
from hub.store.redis_store import SCRIPTS, Lease, RedisStore, pairs
from hub.store.topology import Primaries
from tests.contract.test_store import (
    CONNECTOR,
    HOUR_MS,
    ORG,
    World,
    agent,
    customer_of,
    make_world,
    settings_for,
    supervisor,
)
from tests.support.engines import start_once

EXAMPLES, STEPS = 300, 50
FOREVER = 2**42
OK = ""

AGENTS = ("ann", "bob", "bot")
SUPERVISORS = ("sue", "tom", "lee")
LIMITED = frozenset({"none", "optional"})  # lee's queues
QUEUES = ("none", "optional", "mandatory", "timeout")

agents = st.sampled_from(AGENTS)
supervisors = st.sampled_from(SUPERVISORS)
sessions = st.sampled_from(("1", "2"))
queues = st.sampled_from(QUEUES)


def person_of(user: str) -> Person:
    """Whoever this name is."""
    if user in AGENTS:
        return agent(user)
    return supervisor(user, queues=LIMITED) if user == "lee" else supervisor(user)


@dataclass
class Part:
    """One connected participant."""

    participant: str
    user: str
    purpose: str


@dataclass
class Watching:
    """The monitor; `lapsed` once its leases are over."""

    monitor_id: str
    user: str
    target: str
    sessions: set[str]
    lapsed: bool = False


@dataclass
class Prepared:
    """The takeover that waits."""

    takeover: str
    user: str
    monitor_id: str
    epoch: int
    expired: bool


@dataclass
class Model:
    """What one conversation must be. Methods give the code of the refusal, or nothing, and change it if there is none."""

    channel: str
    queue: str
    connected: list[Part] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    owner: str | None = None
    epoch: int = 0
    last_owner: str | None = None
    ended: bool = False
    at_end: list[str] = field(default_factory=list)
    monitor: Watching | None = None
    prepared: Prepared | None = None
    takeovers: list[str] = field(default_factory=list)
    wrapups: dict[str, str] = field(default_factory=dict)
    notices: list[tuple[str, str, str]] = field(default_factory=list)
    drafts: dict[str, str] = field(default_factory=dict)
    panels: set[str] = field(default_factory=set)
    messages: int = 0
    awaiting: str | None = None
    unanswered: int = 0
    entries: list[tuple[str, str, str]] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)

    # -- what is so ----------------------------------------------------------------------------------------------

    def part(self, participant: str | None) -> Part | None:
        """The connected participant."""
        return next((one for one in self.connected if one.participant == participant), None)

    def takes_part(self, user: str) -> bool:
        """Is in it, was at its end, or owes or is owed something."""
        return user in {*(one.user for one in self.connected), *self.at_end} or user in {
            *self.wrapups.values(),
            *(one[1] for one in self.notices),
        }

    def supervises(self, user: str) -> bool:
        """Has the right to its queue."""
        return user != "lee" or self.queue in LIMITED

    def sees(self, user: str) -> bool:
        """May know that the conversation exists."""
        if user in AGENTS:
            return user in self.known
        return self.supervises(user) or self.takes_part(user)

    @property
    def holder(self) -> Watching | None:
        """The monitor while its lease runs."""
        return self.monitor if self.monitor is not None and not self.monitor.lapsed else None

    @property
    def state(self) -> str:
        """As rows say it."""
        if not self.ended:
            return "queued" if self.owner is None else "active"
        return "wrapup" if self.last_owner in self.wrapups else "ended"

    # -- pieces --------------------------------------------------------------------------------------------------

    def write(self, *entries: tuple[str, str]) -> None:
        """Entries of one script: all under the monitor of its begin."""
        held = self.monitor.monitor_id if self.monitor is not None else "-"
        self.entries += [(event, audience, held) for event, audience in entries]

    def settle(self) -> None:
        """Who answers now."""
        if self.part(self.owner) is None:
            owner = self.connected[0].participant if self.connected else None
            if owner != self.owner:
                self.owner, self.epoch = owner, self.epoch + 1
                self.last_owner = owner or self.last_owner

    def ask_wrapup(self, part: Part, queue: str | None = None) -> None:
        """A wrap-up where the queue wants one and none is open."""
        if (queue or self.queue) != "none" and part.purpose != "bot" and part.participant not in self.wrapups:
            self.wrapups[part.participant] = part.user
            self.ledger.append("wrapup.requested")

    def end_monitor(self) -> None:
        """Over."""
        self.monitor = self.prepared = None
        self.segments.append("monitoring")
        self.ledger.append("monitor.ended")

    def leave(self, part: Part, queue: str) -> None:
        """One participant goes; `queue` is the one whose rules hold."""
        self.connected.remove(part)
        if part.participant not in {one[2] for one in self.notices}:
            self.drafts.pop(part.participant, None)
        self.segments.append("interact")
        self.ledger.append("participant.disconnected")
        if part.purpose == "supervisor":
            self.actions.append("participant.disconnected")
        if self.owner == part.participant:
            self.ask_wrapup(part, queue)
        if self.monitor is not None and self.monitor.target == part.participant:
            self.end_monitor()
        self.settle()

    def close(self, *, by_platform: bool) -> str:
        """The end."""
        self.write(("conversation.ended", "asc"))
        self.segments += ["interact"] * (1 + len(self.connected))
        self.ledger.append("conversation.ended")
        if not by_platform:
            self.actions.append("conversation.ended")
        owner = self.part(self.owner)
        gone = {one.participant for one in self.connected} - {one[2] for one in self.notices}
        self.drafts = {name: text for name, text in self.drafts.items() if name not in gone}
        self.at_end = [one.user for one in self.connected]
        self.connected, self.owner, self.ended = [], None, True
        self.awaiting = None
        self.prepared = None
        if owner is not None:
            self.ask_wrapup(owner)
        if self.monitor is not None:
            self.end_monitor()
        return OK

    # -- platforms -----------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Its customer is there."""
        self.write(("participant.connected", "as"))
        self.ledger.append("conversation.started")
        return OK

    def connect(self, user: str) -> str:
        """`participant.connected`."""
        if self.ended:
            return "conversation_ended"
        if self.part(f"p-{user}") is None:
            self.write(("participant.connected", "as"))
            self.connected.append(Part(f"p-{user}", user, "bot" if user == "bot" else "agent"))
            self.known.add(user)
            self.ledger.append("participant.connected")
            self.settle()
        return OK

    def disconnect(self, participant: str) -> str:
        """`participant.disconnected`."""
        if self.ended:
            return "conversation_ended"
        part = self.part(participant)
        if part is not None and part.purpose == "supervisor":
            return "not_permitted"
        if part is not None:
            self.write(("participant.disconnected", "as"))
            self.leave(part, self.queue)
        return OK

    def transfer(self, queue: str) -> str:
        """`conversation.transferred`; an owning supervisor goes, a monitor without the right to the new queue, too."""
        if self.ended:
            return "conversation_ended"
        old, self.queue = self.queue, queue
        self.segments.append("transfer")
        self.ledger.append("conversation.transferred")
        owner = self.part(self.owner)
        if owner is not None and owner.purpose == "supervisor":
            self.write(("conversation.transferred", "as"), ("participant.disconnected", "as"))
            self.leave(owner, old)
        else:
            self.write(("conversation.transferred", "as"))
        if self.monitor is not None and self.monitor.user == "lee" and queue not in LIMITED:
            self.end_monitor()
        return OK

    def platform_end(self) -> str:
        """`conversation.ended`."""
        return "conversation_ended" if self.ended else self.close(by_platform=True)

    def said(self, participant: str | None) -> str:
        """A message; None is the customer's."""
        if self.ended:
            return "conversation_ended"
        if participant is not None and self.part(participant) is None:
            return "stale_owner"
        self.write(("message.created", "asc"))
        self.messages += 1
        self.awaiting = "agent" if participant is None else "customer"
        self.unanswered = self.unanswered + 1 if participant is None else 0
        return OK

    # -- people --------------------------------------------------------------------------------------------------

    def may_speak(self, user: str) -> str:
        """Refusal for who isn't the customer or the owner."""
        if user == "carl":
            return "conversation_ended" if self.ended else OK
        if not self.sees(user):
            return "unknown_conversation"
        if self.ended:
            return "conversation_ended"
        owner = self.part(self.owner)
        return OK if owner is not None and owner.user == user else "stale_owner"

    def send(self, user: str) -> str:
        """`message.send` by a person."""
        refused = self.may_speak(user)
        if not refused:
            self.said(None if user == "carl" else self.owner)
            if user != "carl":
                self.actions.append("outbound.message")
        return refused

    def draft(self, user: str, text: str) -> str:
        """`draft.update` by an agent who is connected."""
        if not self.sees(user):
            return "unknown_conversation"
        if self.ended:
            return "conversation_ended"
        if self.part(f"p-{user}") is None:
            return "stale_owner"
        self.drafts[f"p-{user}"] = text
        return OK

    def end(self, user: str) -> str:
        """`conversation.end`."""
        return self.may_speak(user) or self.close(by_platform=False)

    def acknowledge(self, user: str, takeover: str) -> str:
        """`takeover.ack`."""
        if not self.sees(user):
            return "unknown_conversation"
        mine = [one for one in self.notices if one[:2] == (takeover, user)]
        if not mine:
            return "already_done"
        self.notices = [one for one in self.notices if one not in mine]
        left = {one[2] for one in self.notices}
        for notice in mine:
            if notice[2] not in left:
                self.drafts.pop(notice[2], None)
        self.ledger.append("takeover.acknowledged")
        return OK

    def submit(self, user: str, code: str) -> str:
        """`wrapup.submit`: one's oldest open one."""
        if not self.sees(user):
            return "unknown_conversation"
        mine = [one for one, whose in self.wrapups.items() if whose == user]
        if not mine:
            return "already_done"
        if code not in ("sold", "spam"):
            return "schema_invalid"
        del self.wrapups[mine[0]]
        self.segments.append("wrapup")
        self.ledger.append("wrapup.completed")
        return OK

    def time_out(self) -> str:
        """All wrap-ups are over."""
        self.segments += ["wrapup"] * len(self.wrapups)
        self.ledger += ["wrapup.timed_out"] * len(self.wrapups)
        self.wrapups = {}
        return OK

    # -- monitors ------------------------------------------------------------------------------------------------

    def watch(self, user: str, session: str, status: str, target: str | None, monitor_id: str) -> str:
        """`monitor.start`."""
        if not self.supervises(user):
            return "unknown_conversation"
        held = self.holder
        if held is not None and held.user == user:
            if session not in held.sessions:
                held.sessions.add(session)
                self.ledger.append("monitor.joined")
            return OK
        if status != "available":
            return "not_available"
        if self.state != "active":
            return "not_in_progress"
        part = self.part(target) if target is not None else self.connected[0] if len(self.connected) == 1 else None
        answers = any((one.user, one.purpose) == (user, "supervisor") for one in self.connected)
        if answers or (part is not None and part.user == user):
            return "already_done"
        if held is not None:
            return "monitor_held"
        if part is None:
            return "target_ambiguous"
        if self.monitor is not None:
            self.end_monitor()
        self.monitor, self.prepared = Watching(monitor_id, user, part.participant, {session}), None
        self.ledger.append("monitor.started")
        return OK

    def stop(self, user: str) -> str:
        """`monitor.stop`."""
        if not self.supervises(user):
            return "unknown_conversation"
        if self.monitor is None or self.monitor.user != user:
            return "not_monitoring"
        self.end_monitor()
        return OK

    def release(self, user: str) -> str:
        """`monitor.release`."""
        if not self.supervises(user):
            return "unknown_conversation"
        if self.monitor is None:
            return "not_monitoring"
        self.end_monitor()
        return OK

    def session_ends(self, user: str, session: str) -> str:
        """A session was closed on purpose."""
        held = self.monitor
        if held is not None and held.user == user and session in held.sessions:
            if len(held.sessions) > 1 and not held.lapsed:
                held.sessions.remove(session)
                self.ledger.append("monitor.left")
            else:
                self.end_monitor()
        return OK

    def expire(self) -> str:
        """The sweeper looks."""
        if self.monitor is not None and self.monitor.lapsed:
            self.end_monitor()
        return OK

    # -- takeovers -----------------------------------------------------------------------------------------------

    def watched(self, user: str, session: str) -> str:
        """Refusal for who isn't watching live in this session."""
        if self.monitor is None or self.monitor.user != user or session not in self.monitor.sessions:
            return "not_monitoring"
        return "lease_lost" if self.monitor.lapsed else OK

    def prepare(self, user: str, session: str, takeover: str, *, expired: bool) -> str:
        """`takeover.prepare`."""
        refused = OK if self.supervises(user) else "unknown_conversation"
        refused = refused or self.watched(user, session)
        if not refused:
            assert self.monitor is not None
            self.prepared = Prepared(takeover, user, self.monitor.monitor_id, self.epoch, expired)
            self.ledger.append("takeover.prepared")
        return refused

    def confirm(self, user: str, session: str, takeover: str, token: str, participant: str) -> str:
        """`takeover.confirm`: everyone who answered goes, the supervisor owns."""
        if not self.sees(user):
            return "unknown_conversation"
        if takeover in self.takeovers and user in self.known:
            return "already_done"
        if not self.supervises(user):
            return "unknown_conversation"
        mine = self.prepared is not None and self.prepared.takeover == takeover
        if self.prepared is not None and mine and self.prepared.user != user:
            return "confirmation_required"
        refused = self.watched(user, session)
        if refused:
            return refused
        if self.prepared is None or not mine or token != "token":
            return "confirmation_required"
        if self.prepared.expired or self.prepared.epoch != self.epoch:
            return "confirmation_expired"
        removed = self.connected
        self.write(
            *[("participant.disconnected", "as")] * len(removed),
            ("participant.connected", "as"),
            ("takeover.completed", "s"),
        )
        self.segments += ["interact"] * len(removed) + ["takeover"]
        self.actions += ["participant.disconnected"] * len(removed) + ["participant.connected"]
        if self.channel == "open":
            self.actions.append("sender.changed")
        self.ledger.append("takeover.completed")
        self.notices += [(takeover, one.user, one.participant) for one in removed]
        for part in removed:
            self.ask_wrapup(part)
        self.end_monitor()
        self.takeovers.append(takeover)
        self.connected = [Part(participant, user, "supervisor")]
        self.known.add(user)
        self.owner = self.last_owner = participant
        self.epoch += 1
        return OK

    def cancel(self, user: str, takeover: str) -> str:
        """`takeover.cancel`."""
        if not self.sees(user):
            return "unknown_conversation"
        if takeover in self.takeovers:
            return "already_done"
        if self.prepared is None or (self.prepared.takeover, self.prepared.user) != (takeover, user):
            return "confirmation_required"
        self.prepared = None
        self.ledger.append("takeover.cancelled")
        return OK


def always(command: c.Command) -> Callable[[Situation], c.Command]:
    """The same command, whatever the situation."""
    return lambda _: command


class Later(RedisStore):
    """The same store two days later, as far as decisions know."""

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """As loaded, with another `now_ms`."""
        loaded = await super().load(org, conversation_id, lane=lane)
        return replace(loaded, situation=replace(loaded.situation, now_ms=loaded.situation.now_ms + 48 * HOUR_MS))


class Bench:
    """One engine, one loop, two nodes; shared by all examples."""

    def __init__(self, runner: asyncio.Runner, world: World, other: Conversations, later: Conversations) -> None:
        self.runner = runner
        self.world = world
        self.other = other
        self.later = later
        self.steps = 0
        self.takeovers = 0


class Machine(RuleBasedStateMachine):
    """Rules are commands; each is carried out on both sides, and both must say the same."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.world = self.bench.world
        self.run = self.bench.runner.run
        self.age = self.ended = 0  # steps of this conversation, and those after its end

    # -- words ---------------------------------------------------------------------------------------------------

    @initialize(channel=st.sampled_from(("web", "open", "sms")), queue=queues, first=agents)
    def begin(self, channel: str, queue: str, first: str) -> None:
        """A new conversation with one who answers."""
        self.name = f"c{uuid.uuid4().hex[:12]}"
        self.model = Model(channel, queue)
        self.accepted: list[AnyEvent] = []
        self.age = self.ended = 0
        data = {"channel": channel, "queue": queue, "customer": {"id": "carl", "name": "Carl"}}
        self.push("conversation.started", self.model.start(), **data)
        self.connect(first)

    def push(self, kind: str, expected: str, **data: Any) -> None:
        """A platform's event."""
        event = self.world.event(kind, self.name, **data)
        [result] = self.run(self.world.ingest.take(ORG, CONNECTOR, [event]))
        got = result.refused.code if result.refused is not None else OK
        assert got == expected, (kind, data, got, expected)
        assert (result.status == "accepted") == (expected == OK)
        if expected == OK:
            self.accepted.append(event)

    def outcome(self, work: Callable[[], Awaitable[object]]) -> str:
        """Code of the refusal, or nothing."""

        async def tried() -> str:
            try:
                await work()
            except Refused as refused:
                return refused.code
            return OK

        return self.run(tried())

    def do(self, command: c.Command, expected: str, *, by: Conversations | None = None) -> None:
        """A command about the conversation."""
        conversations = by or self.world.conversations
        got = self.outcome(lambda: conversations.run(ORG, self.name, lambda _: command))
        assert got == expected, (command, got, expected)

    def fresh(self, prefix: str) -> str:
        """A new id."""
        return self.world.ids.new(prefix, ORG, self.name)

    # -- platforms -----------------------------------------------------------------------------------------------

    @rule(queue=queues)
    def start_again(self, queue: str) -> None:
        """A conversation starts once."""
        data = {"channel": "web", "queue": queue, "customer": {"id": "mallory", "name": "Mallory"}}
        self.push("conversation.started", "already_done", **data)

    @rule(user=agents)
    def connect(self, user: str) -> None:
        """An agent or bot comes."""
        who = {"participant_id": f"p-{user}", "user_id": user, "name": user.title()}
        purpose = "bot" if user == "bot" else "agent"
        self.push("participant.connected", self.model.connect(user), purpose=purpose, **who)

    @rule(user=agents, owner=st.booleans())
    def disconnect(self, user: str, owner: bool) -> None:
        """An agent or bot goes; a supervisor can't be sent away like this."""
        participant = (self.model.owner if owner else None) or f"p-{user}"
        expected = self.model.disconnect(participant)
        self.push("participant.disconnected", expected, participant_id=participant, disconnect_type="client")

    @rule(queue=queues)
    def transfer(self, queue: str) -> None:
        """To another queue, or the same."""
        self.push("conversation.transferred", self.model.transfer(queue), queue=queue)

    @rule(user=st.sampled_from(("carl", *AGENTS)))
    def message(self, user: str) -> None:
        """A message through the platform."""
        participant = None if user == "carl" else f"p-{user}"
        sender = {"purpose": "customer"} if participant is None else {"participant_id": participant}
        message_id = f"m{uuid.uuid4().hex}"
        self.push("message.created", self.model.said(participant), message_id=message_id, text="hello", **sender)

    @rule(name=st.sampled_from(("crm", "history")), there=st.booleans())
    def panel(self, name: str, there: bool) -> None:
        """A panel changes or goes."""
        expected = OK
        if self.model.ended:
            expected = "conversation_ended"
        else:
            self.model.write(("panel.updated", "as"))
            self.model.panels = self.model.panels | {name} if there else self.model.panels - {name}
        self.push("panel.updated", expected, panel=name, content={"n": 1} if there else None)

    @rule()
    def receipt(self) -> None:
        """A receipt, also after the end."""
        self.model.write(("message.receipt", "asc"))
        self.push("message.receipt", OK, message_id="m1", status="delivered")

    @rule(user=agents)
    def typing(self, user: str) -> None:
        """Typing leaves nothing."""
        expected = OK if self.model.part(f"p-{user}") else "stale_owner"
        self.push("typing", "conversation_ended" if self.model.ended else expected, participant_id=f"p-{user}", on=True)

    @rule(number=st.integers(0, 60))
    def repeat(self, number: int) -> None:
        """An event that was accepted is a duplicate for ever."""
        event = self.accepted[number % len(self.accepted)]
        [result] = self.run(self.world.ingest.take(ORG, CONNECTOR, [event]))
        assert result.status == "duplicate"

    @precondition(lambda self: self.age > 25)
    @rule()
    def platform_end(self) -> None:
        """The platform says that it is over."""
        self.push("conversation.ended", self.model.platform_end())

    # -- people --------------------------------------------------------------------------------------------------

    @rule(user=st.sampled_from(("carl", *AGENTS, *SUPERVISORS)), owner=st.booleans())
    def send(self, user: str, owner: bool) -> None:
        """A message by a person's own socket."""
        user = self.owner_or(user, owner)
        command = MessageSend(
            id=1, req="r", conversation_id=self.name, text="hello", client_message_id=uuid.uuid4().hex
        )
        person = customer_of(self.name) if user == "carl" else person_of(user)
        got = self.outcome(lambda: self.world.messaging.send(person, self.name, command))
        assert got == self.model.send(user)

    def owner_or(self, user: str, owner: bool) -> str:
        """The owner's user where that is wanted."""
        part = self.model.part(self.model.owner)
        return part.user if owner and part is not None else user

    @rule(user=agents, text=st.sampled_from(("", "well", "ähm")))
    def draft(self, user: str, text: str) -> None:
        """An agent's draft."""
        command = DraftUpdate(id=1, req="r", conversation_id=self.name, text=text)
        got = self.outcome(lambda: self.world.messaging.draft(person_of(user), command))
        assert got == self.model.draft(user, text)

    @precondition(lambda self: self.age > 25)
    @rule(user=st.sampled_from(("carl", *AGENTS, *SUPERVISORS)), owner=st.booleans())
    def end(self, user: str, owner: bool) -> None:
        """A person ends it."""
        user = self.owner_or(user, owner)
        person = customer_of(self.name) if user == "carl" else person_of(user)
        self.do(c.EndConversation(person), self.model.end(user))

    @rule(number=st.integers(0, 9), user=agents)
    def acknowledge(self, number: int, user: str) -> None:
        """A notice is seen; each once."""
        takeover = self.fresh("tko")
        if self.model.notices:
            takeover, user, _ = self.model.notices[number % len(self.model.notices)]
        self.do(c.AcknowledgeTakeover(person_of(user), takeover), self.model.acknowledge(user, takeover))
        self.do(c.AcknowledgeTakeover(person_of(user), takeover), self.model.acknowledge(user, takeover))

    @rule(user=st.sampled_from((*AGENTS, *SUPERVISORS)), code=st.sampled_from(("sold", "spam", "nonsense")))
    def submit(self, user: str, code: str) -> None:
        """A wrap-up is handed in."""
        self.do(c.SubmitWrapup(person_of(user), code, None), self.model.submit(user, code))

    @rule(late=st.booleans())
    def time_out(self, late: bool) -> None:
        """The sweeper looks for wrap-ups: too early, or late enough."""
        if late:
            self.do(c.TimeOutWrapups(), self.model.time_out(), by=self.bench.later)
        else:
            self.do(c.TimeOutWrapups(), OK)

    # -- monitors ------------------------------------------------------------------------------------------------

    def watching(self, user: str, session: str, status: str, target: str | None) -> c.StartMonitor:
        """`monitor.start`."""
        return c.StartMonitor(person_of(user), status, f"{user}-{session}", target, self.fresh("mon"), FOREVER)

    @rule(
        user=supervisors,
        session=sessions,
        status=st.sampled_from(("available", "available", "busy")),
        beside=st.sampled_from((None, "owner", "p-ann", "p-bot")),
    )
    def watch(self, user: str, session: str, status: str, beside: str | None) -> None:
        """A supervisor starts to monitor, joins, or may not."""
        command = self.watching(user, session, status, self.model.owner if beside == "owner" else beside)
        expected = self.model.watch(user, command.session, status, command.participant_id, command.monitor_id)
        self.do(command, expected)

    def watch_owner(self, user: str) -> None:
        """A supervisor monitors whoever answers, if they may."""
        command = self.watching(user, "1", "available", self.model.owner)
        args = (user, command.session, "available", command.participant_id, command.monitor_id)
        self.do(command, self.model.watch(*args))

    @rule(users=st.permutations(SUPERVISORS))
    def contest(self, users: list[str]) -> None:
        """Two supervisors on two nodes at once: the store lets one win, and the model follows the winner."""
        commands = [self.watching(user, "1", "available", self.model.owner) for user in users[:2]]
        nodes = (self.world.conversations, self.bench.other)

        async def both() -> list[object]:
            jobs = [node.run(ORG, self.name, always(one)) for node, one in zip(nodes, commands, strict=True)]
            return list(await asyncio.gather(*jobs, return_exceptions=True))

        got = [one.code if isinstance(one, Refused) else OK for one in self.run(both())]
        order = [0, 1] if got[0] == OK else [1, 0]
        for n in order:
            one = commands[n]
            expected = self.model.watch(one.person.user_id, one.session, one.status, one.participant_id, one.monitor_id)
            assert got[n] == expected, (users, got, expected)

    @rule(user=supervisors)
    def stop(self, user: str) -> None:
        """The holder stops it."""
        self.do(c.StopMonitor(person_of(user)), self.model.stop(user))

    @rule(user=supervisors)
    def release(self, user: str) -> None:
        """Somebody ends another's."""
        self.do(c.ReleaseMonitor(person_of(user), "too long"), self.model.release(user))

    @rule(user=supervisors, session=sessions)
    def session_ends(self, user: str, session: str) -> None:
        """A session was closed on purpose."""
        self.do(c.LeaveMonitor(user, f"{user}-{session}"), self.model.session_ends(user, f"{user}-{session}"))

    @precondition(lambda self: self.model.monitor is not None)
    @rule()
    def lapse(self) -> None:
        """Nobody has renewed for long enough."""
        held = self.model.monitor
        assert held is not None
        held.lapsed = True
        store, key, due = self.world.store, self.world.key("c", self.name), self.world.shared("due", self.name)
        fields = [part for one in sorted(held.sessions) for part in (f"ml:{one}".encode(), b"1")]
        member = f"lease:{ORG}/{self.name}".encode()

        async def write() -> None:
            await store.call("commit", key, b"HSET", key, *fields)
            await store.call("commit", due, b"ZADD", due, b"1", member)

        self.run(write())

    @rule()
    def expire(self) -> None:
        """The sweeper ends a monitor whose lease is over, and no other."""
        self.do(c.ExpireMonitor(), self.model.expire())

    @rule(session=sessions, foreign=st.booleans())
    def renew(self, session: str, foreign: bool) -> None:
        """Leases are extended for the sessions of the monitor that runs."""
        held = self.model.monitor
        monitor_id = self.fresh("mon") if foreign or held is None else held.monitor_id
        name = f"{held.user if held is not None else 'sue'}-{session}"
        lease = Lease(ORG, self.name, monitor_id, name)
        [kept] = self.run(self.world.store.renew(partition(ORG, self.name), [lease]))
        mine = held is not None and not foreign and name in held.sessions and not held.lapsed
        assert kept == mine

    # -- takeovers -----------------------------------------------------------------------------------------------

    @rule(user=supervisors, session=sessions, holder=st.booleans(), expired=st.booleans())
    def prepare(self, user: str, session: str, holder: bool, expired: bool) -> None:
        """A takeover is prepared; the newest voids others."""
        user, name = self.holder_or(user, session, holder)
        takeover = self.fresh("tko")
        command = c.PrepareTakeover(person_of(user), name, takeover, "token", 1 if expired else FOREVER)
        self.do(command, self.model.prepare(user, name, takeover, expired=expired))

    def holder_or(self, user: str, session: str, holder: bool) -> tuple[str, str]:
        """Whoever holds the monitor, in a session of it, where that is wanted."""
        held = self.model.monitor
        if holder and held is not None:
            return held.user, min(held.sessions)
        return user, f"{user}-{session}"

    @rule(
        user=supervisors,
        session=sessions,
        holder=st.booleans(),
        which=st.sampled_from(("prepared", "prepared", "other", "done")),
        token=st.sampled_from(("token", "token", "wrong")),
    )
    def confirm(self, user: str, session: str, holder: bool, which: str, token: str) -> None:
        """A takeover is confirmed by whoever, with whatever."""
        user, name = self.holder_or(user, session, holder)
        takeover = self.fresh("tko")
        if which == "prepared" and self.model.prepared is not None:
            takeover = self.model.prepared.takeover
        elif which == "done" and self.model.takeovers:
            takeover = self.model.takeovers[-1]
        participant = self.fresh("prt")
        command = c.ConfirmTakeover(person_of(user), name, takeover, token, participant)
        self.do(command, self.model.confirm(user, name, takeover, token, participant))

    @rule(user=supervisors)
    def cancel(self, user: str) -> None:
        """A prepared takeover is given up."""
        takeover = self.model.prepared.takeover if self.model.prepared is not None else self.fresh("tko")
        self.do(c.CancelTakeover(person_of(user), takeover), self.model.cancel(user, takeover))

    @precondition(lambda self: self.model.state == "active")
    @rule(supervisor=supervisors, user=agents, owner=st.booleans())
    def take_over_while_somebody_speaks(self, supervisor: str, user: str, owner: bool) -> None:
        """A whole takeover while a message is on its way: before the mark it counts, after it the sender is stale."""
        if self.model.holder is None:
            self.watch_owner(supervisor)
        held = self.model.holder
        if held is None:
            return
        name, takeover, participant = min(held.sessions), self.fresh("tko"), self.fresh("prt")
        person, user = person_of(held.user), self.owner_or(user, owner)
        prepare = c.PrepareTakeover(person, name, takeover, "token", FOREVER)
        self.do(prepare, self.model.prepare(held.user, name, takeover, expired=False))
        if self.model.prepared is None or self.model.prepared.takeover != takeover:
            return
        confirm = c.ConfirmTakeover(person, name, takeover, "token", participant)
        send = MessageSend(id=1, req="r", conversation_id=self.name, text="wait", client_message_id=uuid.uuid4().hex)

        async def both() -> list[object]:
            jobs = (
                self.bench.other.run(ORG, self.name, lambda _: confirm, lane="takeover"),
                self.world.messaging.send(person_of(user), self.name, send),
            )
            return list(await asyncio.gather(*jobs, return_exceptions=True))

        taken, said = (one.code if isinstance(one, Refused) else OK for one in self.run(both()))
        if said == OK:
            assert self.model.send(user) == OK
        assert taken == self.model.confirm(held.user, name, takeover, "token", participant) == OK
        if said != OK:
            assert said == self.model.may_speak(user) != OK

    # -- afterwards ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.ended and self.ended > 4)
    @rule(channel=st.sampled_from(("web", "open", "sms")), queue=queues, first=agents)
    def another(self, channel: str, queue: str, first: str) -> None:
        """Something new, when this is over."""
        self.check_history()
        self.begin(channel, queue, first)

    def teardown(self) -> None:
        """At the end, all that only grows."""
        if hasattr(self, "model"):
            self.check_history()

    @invariant()
    def store_is_as_the_model(self) -> None:
        """What is stored says the same as the model, on every account."""
        if not hasattr(self, "model"):
            return
        self.age += 1
        self.ended += self.model.ended
        self.bench.steps += 1
        self.run(self._compare())

    async def _compare(self) -> None:
        world, model = self.world, self.model
        call, member = world.store.primaries.call, f"{ORG}/{self.name}".encode()
        record, due = world.key("c", self.name), world.shared("due", self.name)
        indexes = [world.shared(name, self.name) for name in ("live", "closed")]
        last = len(model.entries)
        raw, lease, wrapup, live, closed, loaded, newest, panels = await asyncio.gather(
            call("commit", record, b"HGETALL", record),
            call("commit", due, b"ZSCORE", due, b"lease:" + member),
            call("commit", due, b"ZSCORE", due, b"wrapup:" + member),
            call("commit", due, b"ZSCORE", indexes[0], member),
            call("commit", due, b"ZSCORE", indexes[1], member),
            world.store.load(ORG, self.name),
            world.store.entries(ORG, self.name, from_offset=max(1, last - 7)),
            call("commit", due, b"HKEYS", world.key("p", self.name)),
        )
        self._compare_state(loaded)
        self._compare_record({name.decode(): value.decode() for name, value in pairs(raw).items()})
        assert (lease is not None, wrapup is not None) == (model.monitor is not None, bool(model.wrapups))
        settled = model.ended and not model.wrapups and not model.notices
        assert (live is None, closed is None) == (settled, not settled)
        assert [one.offset for one in newest] == list(range(max(1, last - 7), last + 1))
        assert [(*_kind(one.body), one.audience, one.monitor_id) for one in newest] == model.entries[-8:]
        assert {one.decode() for one in panels} == model.panels

    def _compare_state(self, loaded: Loaded) -> None:
        model, situation = self.model, loaded.situation
        stored, counters = situation.existing, situation.counters
        assert (stored.owner, stored.owner_epoch, stored.last_owner) == (model.owner, model.epoch, model.last_owner)
        assert (stored.state, stored.queue, stored.taken_over) == (model.state, model.queue, bool(model.takeovers))
        parts = [Part(one.participant_id, one.user_id, one.purpose) for one in stored.connected]
        assert parts == model.connected
        assert {one.participant_id: one.user_id for one in stored.wrapups} == model.wrapups
        assert [(one.takeover_id, one.user_id, one.participant_id) for one in stored.notices] == model.notices
        assert (counters.messages, counters.awaiting) == (model.messages, model.awaiting)
        assert counters.unanswered == model.unanswered
        assert loaded.drafts == model.drafts
        assert loaded.top == len(model.entries)
        assert loaded.customer_top == sum("c" in audience for _, audience, _ in model.entries)
        found = None
        if situation.monitor is not None:
            one = situation.monitor
            names = {session.session for session in one.sessions}
            found = Watching(one.monitor_id, one.user_id, one.participant_id, names, not one.alive(situation.now_ms))
        assert found == model.monitor
        assert (situation.prepared is None) == (model.prepared is None)
        if situation.prepared is not None and model.prepared is not None:
            assert situation.prepared.takeover_id == model.prepared.takeover

    def _compare_record(self, fields: dict[str, str]) -> None:
        model = self.model
        assert fields.get("owner") == (None if model.owner is None else f"{model.owner} {model.epoch}")
        spoken = {name[2:] for name in fields if name.startswith("p:")}
        assert spoken == {fields["cust"], *(one.participant for one in model.connected)}
        assert ("ended" in fields) == model.ended
        row = orjson.loads(fields["row"])
        held = row["monitor"] and row["monitor"]["user_id"]
        assert held == (model.monitor.user if model.monitor is not None else None)
        assert (row["owner"], row["owner_epoch"], row["state"]) == (model.owner, model.epoch, model.state)
        assert [one["user_id"] for one in row["agents"]] == [one.user for one in model.connected] or model.ended

    def check_history(self) -> None:
        """Transcript, actions, segments and ledger, whole and in order."""
        self.bench.takeovers += len(self.model.takeovers)
        world, model = self.world, self.model
        actions, ledger = world.key("o", self.name), world.shared("ledger", self.name)

        async def read() -> tuple[Any, ...]:
            return tuple(
                await asyncio.gather(
                    world.store.entries(ORG, self.name, from_offset=1),
                    world.store.call("commit", actions, b"LRANGE", actions, b"0", b"-1"),
                    world.store.segments(ORG, self.name),
                    world.store.call("commit", ledger, b"XREVRANGE", ledger, b"+", b"-", b"COUNT", b"1000"),
                )
            )

        entries, sent, segments, lines = self.run(read())
        assert [one.offset for one in entries] == list(range(1, len(model.entries) + 1))
        assert [(*_kind(one.body), one.audience, one.monitor_id) for one in entries] == model.entries
        customers = 0
        for one in entries:
            customers += "c" in one.audience
            assert one.customer_offset == customers
        assert [_kind(one.partition(b" ")[2])[0] for one in sent] == model.actions
        assert [orjson.loads(one)["kind"] for one in segments] == model.segments
        said = [orjson.loads(line[1]) for _, line in reversed(lines)]
        name = ledger_name(world.settings.ledger.first, ORG, self.name)
        assert [one["what"] for one in said if one["conversation"] == name] == model.ledger


def _kind(body: bytes) -> tuple[str]:
    return (body[len(b'{"event":"') : body.index(b'"', len(b'{"event":"'))].decode(),)


@pytest.fixture
def bench(keys: Keys, _engines_end: None) -> Iterator[Bench]:
    """One engine and one loop for all examples."""
    engine = start_once("valkey")
    options = replace(settings_for(keys), lease_ms=HOUR_MS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        primaries = runner.run(Primaries.connect(engine.url, scripts=SCRIPTS))
        world = make_world(engine, primaries, options)
        others = [
            Conversations(one, options, world.ids.new, world.ids.tag)
            for one in (world.store, Later(primaries, options))
        ]
        yield Bench(runner, world, *others)
        runner.run(primaries.aclose())


@pytest.mark.timeout(300)
def test_any_commands_in_any_order(bench: Bench) -> None:
    """300 histories of 50 commands: refusals, state, transcript, actions, segments and ledger are as the model says."""

    class Bound(Machine):
        pass

    Bound.bench = bench
    profile = settings(
        max_examples=EXAMPLES + EXAMPLES // 3,  # some histories are shorter than STEPS
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(Bound, settings=profile)
    assert bench.steps >= EXAMPLES * STEPS
    assert bench.takeovers >= EXAMPLES // 3  # it went deep, not only wide
