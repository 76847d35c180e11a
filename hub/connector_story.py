"""
What a connector told a hub, and what to make of it: the judging half of `hub connector-check --listen`.

    Record            all that was seen, in the order in which it came; written by `connector_hub`
    judged(record)    a verdict for each of `CHECKS`

Whether an event can be read, and what becomes of it, the hub itself has said before anything is written here. What is judged
here is what a hub can't refuse: repeats under other ids, an order that makes no sense, what comes too early or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hub.connector_check import Check, Verdict
from hub.domain.errors import Refused
from hub.protocol import platform as p

IN_FLIGHT_MS: Final = 250  # what was sent before an answer was read can't obey it
AUTHENTICATION: Final = frozenset({"unauthenticated", "not_permitted"})
UNREADABLE: Final = frozenset({"schema_invalid", "channel_unsupported", "too_large"})
OF_ORDER: Final = frozenset({"unknown_conversation", "stale_owner", "conversation_ended"})
LIFE: Final = (p.Started, p.Connected, p.Disconnected, p.Message, p.Transferred, p.Ended)
SHOWN_MAX: Final = 3  # things of one kind that a line names

# What the hub did with an event: its own results, then the faults that the check makes.
Outcome = Literal["accepted", "duplicate", "refused", "away", "lost", "busy"]
Trouble = Literal["away", "lost", "busy"]
Place = Literal["events", "webhooks", "socket", "other"]


@dataclass(frozen=True, slots=True)
class Told:
    """One event, when it came (ms of a monotonic clock), and what it was answered."""

    at_ms: int
    event: p.AnyEvent | p.BadEvent
    outcome: Outcome
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A request or frame that was refused as a whole: `where` it came in, and the refusal's status, code and words."""

    where: Place
    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault of the hub's that the check made: from `Record.told[index]` on, `count` events were answered with it.

    `at_ms` is when; `wait_ms` how long the answer said to wait (0: it said nothing).
    """

    kind: Trouble
    index: int
    count: int
    at_ms: int
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was reported of a message; `reason` is empty where there is none."""

    message_id: str
    status: str
    reason: str


@dataclass(slots=True)
class Record:
    """
    What was seen of one connector.

    `conversation_id` is the conversation that is looked at, from when it had all that is needed. Marks (`taken_over`,
    `reported`, `asked_again`, `ended`) are lengths of `told` at that time; None where it didn't come to that. `removed`:
    participants that the takeover removed; `stuck`: the type of the action that wasn't reported in time; `said`,
    `message_id`, `word`: the supervisor's message; `receipts`: what was reported of messages.
    """

    told: list[Told] = field(default_factory=list)
    turned_away: list[TurnedAway] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    conversation_id: str | None = None
    taken_over: int | None = None
    removed: tuple[p.ConnectedData, ...] = ()
    reported: int | None = None
    stuck: str = ""
    said: str = ""
    word: str = ""
    message_id: str = ""
    receipts: list[Receipt] = field(default_factory=list)
    asked_again: int | None = None
    ended: int | None = None
    stuck_at_end: str = ""

    def events(self, since: int = 0) -> Iterator[tuple[p.AnyEvent, Told]]:
        """What could be read, from a mark on."""
        for one in self.told[since:]:
            if not isinstance(one.event, p.BadEvent):
                yield one.event, one

    def taken(self, since: int = 0) -> Iterator[p.AnyEvent]:
        """What was accepted, from a mark on."""
        return (event for event, one in self.events(since) if one.outcome == "accepted")

    @property
    def reports(self) -> list[Receipt]:
        """What was reported of the supervisor's message."""
        return [one for one in self.receipts if one.message_id == self.message_id]

    def fault(self, kind: Trouble) -> Fault | None:
        """The fault of a kind, if it was made."""
        return next((one for one in self.faults if one.kind == kind), None)


# What the check waits for, and the checks ask about, too.


def by_customer(event: p.AnyEvent, conversation_id: str | None) -> bool:
    """True for a message of the conversation's customer."""
    return isinstance(event, p.Message) and event.data.purpose is not None and event.conversation_id == conversation_id


def missing_in(record: Record, conversation_id: str) -> list[str]:
    """What a conversation needs before it can be taken over and doesn't have yet, in words."""
    mine = [event for event in record.taken() if event.conversation_id == conversation_id]
    present = set(connected(record, conversation_id))
    messages = [event.data for event in mine if isinstance(event, p.Message)]
    found = {
        "conversation.started": any(isinstance(event, p.Started) for event in mine),
        "participant.connected": bool(present),
        "a message of the customer": any(one.purpose for one in messages),
        "a message of the agent": any(one.participant_id in present for one in messages),
    }
    return [name for name, there in found.items() if not there]


def connected(record: Record, conversation_id: str) -> dict[str, p.ConnectedData]:
    """Who of the platform is in a conversation, by participant."""
    present: dict[str, p.ConnectedData] = {}
    for event in record.taken():
        if event.conversation_id != conversation_id:
            continue
        if isinstance(event, p.Connected):
            present[event.data.participant_id] = event.data
        elif isinstance(event, p.Disconnected):
            present.pop(event.data.participant_id, None)
    return present


def whole_conversation(record: Record) -> str | None:
    """The first conversation that has all that is needed."""
    names = dict.fromkeys(event.conversation_id for event in record.taken())
    return next((name for name in names if not missing_in(record, name)), None)


def came_again(record: Record, fault: Fault) -> Told | None:
    """The first event of a fault, taken later under its own id."""
    first = record.told[fault.index].event
    for event, one in record.events(fault.index + fault.count):
        same = (event.conversation_id, event.id) == (_conversation(first), first.id)
        if same and one.outcome in ("accepted", "duplicate"):
            return one
    return None


def lookalike(record: Record, fault: Fault) -> p.AnyEvent | None:
    """An event that says what the fault's first one said, under another id: its repeat, most likely."""
    first = record.told[fault.index].event
    if isinstance(first, p.BadEvent):
        return None
    for event, one in record.events(fault.index + fault.count):
        if one.outcome in ("accepted", "duplicate") and event.id != first.id and _meaning(event) == _meaning(first):
            return event
    return None


def _conversation(event: p.AnyEvent | p.BadEvent) -> str:
    return "" if isinstance(event, p.BadEvent) else event.conversation_id


def _meaning(event: p.AnyEvent) -> object:
    """What an event says, whatever its ids and its time are."""
    if isinstance(event, p.Message):
        said = event.data
        return ("message", event.conversation_id, said.participant_id, said.purpose, said.text, said.attachments)
    return (event.type, event.conversation_id, event.data)


Look = Callable[[Record], str | None]

# The checks: what was got where something is wrong, None where all is well. NotSeen where nothing can be said.


class NotSeen(Exception):
    """It didn't come to that; the words say why."""


def _named(things: Sequence[str]) -> str | None:
    """The first few, in a line; None where there are none."""
    different = list(dict.fromkeys(things))
    more = len(different) - SHOWN_MAX
    return "; ".join(different[:SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "") or None


def _turned_away(record: Record, codes: frozenset[str], *places: Place) -> list[str]:
    return [
        f"{one.status}: {one.message}" if one.status else f"{one.code}: {one.message}"
        for one in record.turned_away
        if one.where in places and one.code in codes
    ]


def _address(record: Record) -> str | None:
    return _named([f"{one.status}: {one.message}" for one in record.turned_away if one.where == "other"])


def _token(record: Record) -> str | None:
    return _named(_turned_away(record, AUTHENTICATION, "events", "socket"))


def _signature(record: Record) -> str | None:
    return _named(_turned_away(record, AUTHENTICATION, "webhooks"))


def _connected(record: Record) -> str | None:
    return None if record.told else "no event has come"


def _shapes(record: Record) -> str | None:
    single = [
        f"{one.event.id or 'an event without an id'}: {one.refused.message}"
        for one in record.told
        if isinstance(one.event, p.BadEvent) and one.refused is not None
    ]
    others = [one for one in record.turned_away if one.where != "other" and one.code not in AUTHENTICATION]
    return _named(single + [f"{one.code or one.status}: {one.message}" for one in others])


def _whole(record: Record) -> str | None:
    names = dict.fromkeys(event.conversation_id for event in record.taken())
    if not names:
        return "no event was accepted"
    if record.conversation_id is not None:
        return None
    nearest = min(names, key=lambda name: len(missing_in(record, name)))
    return f"{nearest} has no {', no '.join(missing_in(record, nearest))}"


def _refusals(record: Record) -> str | None:
    """What was refused for another reason than those that have a check of their own."""
    return _named(
        [
            f"{event.id} ({event.type}): {one.refused.message}"
            for event, one in record.events()
            if one.refused is not None and one.outcome == "refused" and one.refused.code not in OF_ORDER | UNREADABLE
        ]
    )


def _order(record: Record) -> str | None:
    """By what the hub refused, and by the platform's own times, which can't go back from one event to the next."""
    wrong = []
    latest: dict[str, p.AnyEvent] = {}
    for event, one in record.events():
        code = one.refused.code if one.refused is not None and one.outcome == "refused" else ""
        who = event.data.participant_id if isinstance(event, (p.Message, p.TypingEvent)) else None
        if code == "unknown_conversation":
            wrong.append(f"{event.id} ({event.type}) came before the start of {event.conversation_id}")
        elif code == "stale_owner" and not _was_here(record, event, one):
            wrong.append(f"{event.id} ({event.type}) is of {who}, who had not been connected")
        elif one.outcome == "accepted" and isinstance(event, LIFE):
            before = latest.get(event.conversation_id)
            if before is not None and event.at < before.at:
                wrong.append(f"{event.id} ({event.type}) is older than {before.id}, which was there before it")
            latest[event.conversation_id] = event
    return _named(wrong)


def _was_here(record: Record, event: p.AnyEvent, told: Told) -> bool:
    """True where who speaks in `event` had been connected before."""
    who = event.data.participant_id if isinstance(event, (p.Message, p.TypingEvent)) else None
    for before, one in record.events():
        if one is told:
            return False
        if one.outcome == "accepted" and isinstance(before, p.Connected) and before.data.participant_id == who:
            return True
    return False


def _event_ids(record: Record) -> str | None:
    wrong = []
    for fault in record.faults:
        other = lookalike(record, fault) if came_again(record, fault) is None else None
        if other is not None:
            wrong.append(f"{record.told[fault.index].event.id} came again as {other.id}")
    first: dict[tuple[str, str], p.AnyEvent] = {}
    for event, one in record.events():
        if one.outcome == "refused":
            continue
        known = first.setdefault((event.conversation_id, event.id), event)
        if _meaning(known) != _meaning(event):
            wrong.append(f"{event.id} stands for two different events")
    return _named(wrong)


def _message_ids(record: Record) -> str | None:
    wrong = []
    by_event: dict[tuple[str, str], str] = {}
    by_message: dict[tuple[str, str], object] = {}
    for event, one in record.events():
        if not isinstance(event, p.Message) or one.outcome == "refused":
            continue
        place, id = event.conversation_id, event.data.message_id
        before = by_event.setdefault((place, event.id), id)
        if before != id:
            wrong.append(f"the message of {event.id} was {before}, then {id}")
        if by_message.setdefault((place, id), _meaning(event)) != _meaning(event):
            wrong.append(f"{id} stands for two different messages")
    for fault in record.faults:
        first = record.told[fault.index].event
        other = lookalike(record, fault) if came_again(record, fault) is None else None
        if not isinstance(first, p.Message) or not isinstance(other, p.Message):
            continue
        if first.data.message_id != other.data.message_id:
            wrong.append(f"the message of {first.id} was {first.data.message_id}, then {other.data.message_id}")
    return _named(wrong)


def _repeats(kind: Trouble, answer: str) -> Look:
    def look(record: Record) -> str | None:
        fault = record.fault(kind)
        if fault is None:
            raise NotSeen("the customer wrote no message to try it with")
        if came_again(record, fault) is None and lookalike(record, fault) is None:
            return f"{record.told[fault.index].event.id} was answered {answer}, and has not come again"
        return None

    return look


def _waits(record: Record) -> str | None:
    got = _repeats("busy", "429 (rate_limited)")(record)
    fault = record.fault("busy")
    assert fault is not None
    ends = fault.at_ms + fault.wait_ms
    for one in record.told[fault.index + fault.count :]:
        if fault.at_ms + IN_FLIGHT_MS < one.at_ms < ends:
            after = one.at_ms - fault.at_ms
            return f"{one.event.id or 'an event'} came after {after} ms; the answer said to wait {fault.wait_ms} ms"
    return got


def _need_takeover(record: Record) -> int:
    if record.taken_over is None:
        raise NotSeen("no conversation could be taken over")
    return record.taken_over


def _actions(record: Record) -> str | None:
    _need_takeover(record)
    if record.stuck and record.stuck != "outbound.message":
        return f"{record.stuck} was not reported"
    return None


def _receipts(record: Record) -> str | None:
    _need_takeover(record)
    if record.stuck and record.stuck != "outbound.message":
        raise NotSeen(f"the message comes when {record.stuck} was reported")
    failed = [one.reason for one in record.reports if one.status == "failed"]
    if failed:
        return f"the message was reported failed: {failed[0] or 'no reason given'}"
    return None if record.reports else f"nothing was reported of {record.message_id}"


def _shown(record: Record) -> str | None:
    since = _need_takeover(record)
    if not record.reports:
        raise NotSeen("the message of the supervisor was not taken")
    answers = (event for event in record.taken(since) if by_customer(event, record.conversation_id))
    if any(record.word in event.data.text for event in answers if isinstance(event, p.Message)):
        return None
    return f"no message of the customer has the word {record.word}"


def _no_echo(record: Record) -> str | None:
    since = _need_takeover(record)
    if not record.reports:
        raise NotSeen("the message of the supervisor was not taken")
    return _named(
        [
            f"{event.id} is the supervisor's message"
            for event, _ in record.events(since)
            if isinstance(event, p.Message) and event.data.text == record.said
        ]
    )


def _agent_removed(record: Record) -> str | None:
    _need_takeover(record)
    if record.reported is None:
        raise NotSeen("the takeover was not reported")
    gone, people = {one.participant_id for one in record.removed}, {one.user_id for one in record.removed}
    wrong = []
    for event, _ in record.events(record.reported):
        if event.conversation_id != record.conversation_id:
            continue
        if isinstance(event, p.Connected) and event.data.user_id in people:
            wrong.append(f"{event.id} connects {event.data.user_id} again")
        elif isinstance(event, (p.Message, p.TypingEvent)) and event.data.participant_id in gone:
            wrong.append(f"{event.id} ({event.type}) is of {event.data.participant_id}, who was removed")
    if not wrong and record.asked_again is None:
        raise NotSeen("the customer wrote no message after it")
    return _named(wrong)


def _end(record: Record) -> str | None:
    if record.ended is None:
        raise NotSeen("the conversation was not ended")
    return f"{record.stuck_at_end} was not reported" if record.stuck_at_end else None


def _next_conversation(record: Record) -> str | None:
    if record.ended is None:
        raise NotSeen("the conversation was not ended")
    late = [
        f"{event.id} ({event.type}) came into {event.conversation_id}, which had ended"
        for event, one in record.events()
        if one.refused is not None and one.refused.code == "conversation_ended"
    ]
    if late:
        return _named(late)
    begun = {event.conversation_id for event in record.taken(record.ended) if isinstance(event, p.Started)}
    if any(isinstance(event, p.Message) and event.conversation_id in begun for event in record.taken(record.ended)):
        return None
    return "no message came in a new conversation"


_SAME: Final = "Keep an event's id, and its message_id, with the event, and send what wasn't answered again as it was."

CHECKS: Final[tuple[Check[Look], ...]] = (
    Check(
        "address",
        "requests to addresses that a hub has",
        "Events go to /v1/events, /v1/connector or, signed, to the address for webhooks; each by POST.",
        _address,
    ),
    Check(
        "token",
        "the token that was printed, at /v1/events and in hello",
        "Send `Authorization: Bearer <token>` over HTTP, and the token in `hello` on a socket.",
        _token,
    ),
    Check(
        "signature",
        "each request signed with the secret",
        "Sign `<webhook-id>.<webhook-timestamp>.<body>` by HMAC-SHA256 with the key behind whsec_ (base64); the time in Unix "
        "seconds, of this very try; the body as it is sent.",
        _signature,
    ),
    Check("connected", "events", "Nothing else can be said before an event comes.", _connected),
    Check(
        "shapes",
        "events as docs/protocol.md has them",
        "Unknown members are refused, missing ones too; the words name the place.",
        _shapes,
    ),
    Check(
        "conversation",
        "conversation.started, participant.connected, and a message of each side",
        "A takeover needs to know who is there: tell the start, who answers, and what is said by whom.",
        _whole,
    ),
    Check("refusals", "no event refused", "The words say what was expected.", _refusals),
    Check(
        "order",
        "the events of a conversation in the order in which they happened",
        "Send the next event of a conversation when the one before it was taken; what must be sent again holds up the rest.",
        _order,
    ),
    Check("event-ids", "one id for one event, the same in repeats", _SAME, _event_ids),
    Check("message-ids", "one message_id for one message, the same in repeats", _SAME, _message_ids),
    Check(
        "away",
        "the same event again",
        "503 (store_unavailable) means that nothing was carried out: send it again after a while.",
        _repeats("away", "503 (store_unavailable)"),
    ),
    Check(
        "lost",
        "the same event again",
        "503 (outcome: unknown) may have been carried out: send it again under the same id; it is answered `duplicate`.",
        _repeats("lost", "503 (outcome: unknown)"),
    ),
    Check(
        "busy",
        "nothing before the time, then the same event again",
        "429 (rate_limited) says when to go on: Retry-After (seconds) or details.retry_ms. Until then send nothing.",
        _waits,
    ),
    Check(
        "actions",
        "each action of a takeover reported",
        "On a socket answer with action.done and the action's action_id; webhooks are answered with 2xx.",
        _actions,
    ),
    Check(
        "receipts",
        "the message reported",
        "On a socket answer outbound.message with delivery.report (sent, delivered, read or failed); a webhook with 2xx.",
        _receipts,
    ),
    Check(
        "shown",
        "the customer's answer to the supervisor's message",
        "Show the text of outbound.message to the customer, whoever answered before.",
        _shown,
    ),
    Check(
        "no-echo",
        "what the hub sent isn't told back",
        "Tell what customers, agents and bots say; the hub knows what it sent.",
        _no_echo,
    ),
    Check(
        "agent-removed",
        "nothing from who was removed",
        "participant.disconnected with disconnect_type takeover takes the conversation from that agent or bot: nothing that "
        "they write may reach the customer, and nobody connects them again.",
        _agent_removed,
    ),
    Check(
        "end",
        "the end reported",
        "conversation.ended ends the conversation for the customer, too; report it like any other action.",
        _end,
    ),
    Check(
        "next-conversation",
        "a new conversation, under an id of its own",
        "An id is used once: after the end begin another conversation.",
        _next_conversation,
    ),
)
BEFORE: Final = frozenset({"address", "token", "signature", "connected"})  # said also where no event has come


def judged(record: Record) -> Iterator[Verdict]:
    """A verdict for each check, in order; where nothing came, or it didn't come to that, it is left out."""
    for check in CHECKS:
        if not record.told and check.name not in BEFORE:
            yield check.left_out("nothing can be said while no event comes")
            continue
        try:
            yield check.found(check.look(record))
        except NotSeen as why:
            yield check.left_out(str(why))
