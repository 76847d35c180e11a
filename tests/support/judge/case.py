"""One conversation before the judge: what is stored of it, what everybody got and sent, and what follows from that."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.support.judge.frames import CONVERSATION_ACTIONS, action_id, platforms_of
from tests.support.judge.records import Command, Json, Place, Record, Violation
from tests.support.judge.stored import Kept, Written
from tests.support.judge.walks import Given, Walk

STORE = "the store"


@dataclass
class Case:
    """One conversation before the judge: what is stored, and what everybody got and sent of it."""

    kept: Kept
    org: str
    records: Sequence[Record]
    walks: Sequence[Walk]
    given: list[Given] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The conversation's id."""
        return self.kept.conversation_id

    @cached_property
    def staff_entries(self) -> dict[Place, Written]:
        """Entries by their position as people who answer see them."""
        return {one.place(self.kept.epoch): one for one in self.kept.entries}

    @cached_property
    def customer_entries(self) -> dict[Place, Written]:
        """Entries that the customer sees, by the customer's position."""
        seen = [one for one in self.kept.entries if "c" in one.audience]
        return {one.place(self.kept.epoch, customer=True): one for one in seen}

    def blame(self, promise: str, seen: str, wanted: str, socket: object = STORE) -> Violation:
        """A violation in this conversation."""
        return Violation(promise, str(socket), self.name, seen, wanted)

    def commands(self, *names: str) -> Iterator[tuple[Record, Command, Json]]:
        """Commands that were answered `ok`, with the `ok`; where they name a conversation, it is this one."""
        for record in self.records:
            for command in record.commands:
                asked = command.asked
                named = asked.get("conversation_id") or record.claims.get("conversation") or self.name
                if asked["cmd"] in names and command.ok is not None and named == self.name:
                    yield record, command, command.ok

    def pushed(self) -> Iterator[tuple[Record, Json, Json]]:
        """Events of this conversation that platforms pushed, with the result."""
        for record, command, ok in self.commands("event"):
            event = command.asked["event"]
            if isinstance(event, dict) and event.get("conversation_id") == self.name:
                yield record, event, ok


@dataclass(slots=True)
class Fold:
    """Who is in a conversation, by its transcript."""

    connected: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    customer: str = ""
    owner: str | None = None
    epoch: int = 0
    removed: set[str] = field(default_factory=set)  # by takeovers, and not connected again

    def take(self, entry: Written, taken_over: Json | None) -> None:
        """What an entry changes; `taken_over` is the takeover that was written together with it, if any."""
        data, name = entry.data, entry.name
        if name == "takeover.completed":
            self.connected, self.owner = [data["to"]], data["to"]
            self.epoch += 1
            self.removed |= set(data["from"])
        elif name == "participant.connected":
            one = data["participant"]
            self.users[one["participant_id"]] = one["user_id"]
            if one["purpose"] == "customer":
                self.customer = one["participant_id"]
            elif taken_over is None:
                self.connected.append(one["participant_id"])
                self.removed.discard(one["participant_id"])
        elif name == "participant.disconnected" and taken_over is None:
            self.connected = [one for one in self.connected if one != data["participant_id"]]
        elif name == "conversation.ended":
            self.connected, self.owner = [], None
            return
        if self.owner not in self.connected:
            owner = self.connected[0] if self.connected else None
            self.epoch += owner != self.owner
            self.owner = owner


def marks(entries: Iterable[Written]) -> dict[str, Json]:
    """The takeover mark of each commit that has one; all entries of a commit share a tag."""
    return {one.tag: one.data for one in entries if one.name == "takeover.completed"}


def actions_of(case: Case) -> Iterator[tuple[Record | str, Json]]:
    """The platform's actions in their order, each once: those that it got, then those that wait."""
    known: set[str] = set()
    got: list[tuple[float, Record | str, Json]] = []
    for platform in platforms_of(case.records):
        for record in platform:
            got += [(at, record, event) for at, event in record.events if event.get("conversation_id") == case.name]
    got.sort(key=lambda one: one[0])
    waiting: list[tuple[Record | str, Json]] = [(STORE, one) for one in case.kept.actions]
    for where, event in [*((where, event) for _, where, event in got), *waiting]:
        if event["event"] in CONVERSATION_ACTIONS and action_id(event) not in known:
            known.add(action_id(event))
            yield where, event
