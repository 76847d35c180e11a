"""
What a platform's delivery may do to its events, and what it can't change.

A platform has several sources: its routing (start, transfers, end), each participant's line, the customer's, the panels
beside the conversation. Each tells its own events in order; between sources any order may arrive, cut into batches
anywhere, and any event again at any later place. Two shapes of platforms are generated: in one a participant's line
tells its own coming and going (`central` False), in the other the routing tells all of them (`central` True), so that
words may arrive after their speaker left.

What must hold (protocol.md, section 5):

1. Each event is answered by what arrived before it, and by nothing else: `accepted`; `duplicate` where its id, or its
   message's, was accepted; refused with `unknown_conversation` before the start, `conversation_ended` after the end
   (receipts excepted), `stale_owner` from who isn't connected. A leaving told under two ids is accepted twice and has
   its effect once. `Expected` says it.
2. A duplicate and a refused event leave no trace: the state is that of the accepted events told once, in their true
   order. That is more than equality with the sorted run, which couldn't be asked for where something came too late:
   what was refused is left out of the sorted run, what was accepted is in it, whole.
3. Neither answers nor state depend on how the events were cut into batches.

What must be equal in 2: who is and was there; queue, panels, end; the transcript per source as a sequence (so as a
whole as a multiset); segments and ledger as multisets; the ids that are remembered; the number of messages; whatever
the platform is told (nothing: it knows). Where one source tells all connects, also their order, the owner and its epoch,
who owes a wrap-up.

What legitimately differs, and is compared with this run's own transcript instead: how the sources are interleaved in
it, thus who owns where connects come from different sources, and with the owner who owes a wrap-up; whose turn it is,
since when, and how many messages have no answer. Tags, versions and the epoch are random or count commits.

What came too early is refused like what came too late; a platform that sends it again until it is accepted loses
nothing (4), but then its order is that of the acceptances.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from hub.domain.board import extra_of, row_of
from hub.domain.conversation import Conversation
from hub.protocol import platform as p
from hub.protocol.cursor import parse_cursor
from hub.service.ingest import Result
from tests.support.fake_store import START_MS, Numbered
from tests.unit.service.words import Node, event, offsets, statuses

EARLY = ("unknown_conversation", "not yet")
QUEUES = ("support", "timed", "billing")
PANELS = ("customer", "order")
USERS = ("bob", "cay", "robo")


@dataclass(frozen=True, slots=True)
class Told:
    """One event of one source; `at` of the event says its true place."""

    source: str
    event: p.AnyEvent


class SameCustomer(Numbered):
    """The customer's participant has the same id in every run."""

    def new(self, prefix: str, org: str, conversation_id: str) -> str:
        """As asked for, but without a number."""
        return f"{prefix}_1" if prefix == "prt" else super().new(prefix, org, conversation_id)


# -- plausible histories ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class History:
    """A conversation in its true order, as it is made."""

    central: bool
    told: list[Told] = field(default_factory=list)
    here: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    people: int = 0

    def tell(self, source: str, kind: str, **data: object) -> None:
        """The next event."""
        number = len(self.told)
        self.told.append(Told(source, event(f"e{number}", kind, data, at=START_MS + number)))

    def presence(self, participant: str) -> str:
        """Who tells that somebody comes or goes."""
        return "routing" if self.central else participant

    def comes(self, user: str) -> None:
        """Somebody connects, under an id that nobody had before."""
        self.people += 1
        one = f"prt_{self.people}_{user}"
        purpose = "bot" if user == "robo" else "agent"
        self.here.append(one)
        about = {"participant_id": one, "purpose": purpose, "user_id": user, "name": user.title()}
        self.tell(self.presence(one), "participant.connected", **about)

    def goes(self, place: int) -> None:
        """Somebody who is here leaves."""
        one = self.here.pop(place % len(self.here))
        self.tell(self.presence(one), "participant.disconnected", participant_id=one, disconnect_type="client")

    def says(self, who: dict[str, object], source: str) -> None:
        """A message."""
        self.messages.append(f"m{len(self.told)}")
        self.tell(source, "message.created", message_id=self.messages[-1], text=self.messages[-1], **who)

    def receipt(self, place: int) -> None:
        """The customer has read something."""
        self.tell("customer", "message.receipt", message_id=self.messages[place % len(self.messages)], status="read")


STEPS = (
    "comes",
    "goes",
    "says",
    "says",
    "types",
    "customer",
    "customer",
    "customer types",
    "receipt",
    "panel",
    "moves",
)
Step = tuple[str, int]
A_STEP = st.tuples(st.sampled_from(STEPS), st.integers(0, 11))


def take_step(history: History, step: Step) -> None:
    """Carry out a step where it is possible; else nothing happens."""
    kind, number = step
    speaker = history.here[number % len(history.here)] if history.here else None
    match kind:
        case "comes" if len(history.here) < 3:
            history.comes(USERS[number % len(USERS)])
        case "goes" if history.here:
            history.goes(number)
        case "says" if speaker:
            history.says({"participant_id": speaker}, speaker)
        case "types" if speaker:
            history.tell(speaker, "typing", participant_id=speaker, on=number % 2 == 0)
        case "customer":
            history.says({"purpose": "customer"}, "customer")
        case "customer types":
            history.tell("customer", "typing", purpose="customer", on=True)
        case "receipt" if history.messages:
            history.receipt(number)
        case "panel":
            content = None if number % 3 == 0 else {"n": number}
            history.tell("panels", "panel.updated", panel=PANELS[number % len(PANELS)], content=content)
        case "moves":
            history.tell("routing", "conversation.transferred", queue=QUEUES[number % len(QUEUES)])


def history_of(steps: Sequence[Step], *, central: bool, ends: bool) -> list[Told]:
    """A whole conversation; after its end come receipts only."""
    history = History(central)
    about: dict[str, object] = {"channel": "web", "queue": "support", "customer": {"id": "cus_7", "name": "Dana"}}
    history.tell("routing", "conversation.started", panels={"customer": {"tier": "gold"}}, **about)
    for step in steps:
        take_step(history, step)
    if ends:
        history.tell("routing", "conversation.ended", reason="solved")
        for _ in history.messages[:2]:
            history.receipt(len(history.told))
    return history.told


# -- deliveries ------------------------------------------------------------------------------------------------------


class Expected:
    """What each event must be answered, by what arrived before it: status, or the refusal's code."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.here: set[str] = set()
        self.been: set[str] = set()
        self.started = self.ended = False

    def of(self, one: p.AnyEvent) -> tuple[str, str]:
        """The answer, and `not yet` or `too late` where it is `stale_owner`."""
        ids = {f"e {one.id}"} | ({f"m {one.data.message_id}"} if isinstance(one, p.Message) else set())
        if not self.started and not isinstance(one, p.Started):
            return EARLY[0], ""
        if ids & self.ids:
            return "duplicate", ""
        if self.ended and not isinstance(one, p.Receipt):
            return "conversation_ended", ""
        speaker = one.data.participant_id if isinstance(one, p.Message | p.TypingEvent) else None
        if speaker is not None and speaker not in self.here:
            return "stale_owner", "too late" if speaker in self.been else EARLY[1]
        self.ids |= ids
        self._happens(one)
        return "accepted", ""

    def _happens(self, one: p.AnyEvent) -> None:
        match one:
            case p.Started():
                self.started = True
            case p.Ended():
                self.ended = True
            case p.Connected(data=data):
                self.here.add(data.participant_id)
                self.been.add(data.participant_id)
            case p.Disconnected(data=data):
                self.here.discard(data.participant_id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrives, in the order in which it does, cut into batches."""

    arrivals: list[Told]
    sizes: list[int]

    def batches(self) -> Iterator[list[Told]]:
        """The arrivals, cut."""
        start = 0
        for size in (*self.sizes, len(self.arrivals)):
            if self.arrivals[start : start + size]:
                yield self.arrivals[start : start + size]
            start += size


def interleaved(truth: list[Told], order: Sequence[str]) -> list[Told]:
    """The events in the order of their sources' names; each source keeps its own."""
    queues: dict[str, list[Told]] = defaultdict(list)
    for one in reversed(truth):
        queues[one.source].append(one)
    return [queues[source].pop() for source in order]


def again(one: Told, number: int) -> Told:
    """The same event once more; every third under another event id, where the protocol knows it by something else."""
    if number % 3:
        return one
    match one.event:
        case p.Message(data=said):
            who = {"participant_id": said.participant_id} if said.participant_id else {"purpose": "customer"}
            data: dict[str, object] = {"message_id": said.message_id, "text": said.text, **who}
        case p.Disconnected(data=gone):
            data = {"participant_id": gone.participant_id, "disconnect_type": gone.disconnect_type}
        case _:
            return one
    return Told(one.source, event(f"{one.event.id}-{number}", one.event.type, data, at=one.event.at))


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    """
    Any history, in any interleaving, with any repeats, in any batches.

    What arrived too early isn't repeated: the repeat could be its first acceptance, which is law 4's.
    """
    central, ends, start_first = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 4)) > 0
    crowd, fewest = draw(st.integers(0, 3)), draw(st.sampled_from((0, 16)))  # short ones are clear, long ones meet more
    steps = [("comes", number) for number in range(crowd)] + draw(st.lists(A_STEP, min_size=fewest, max_size=32))
    truth = history_of(steps, central=central, ends=ends)
    names = [one.source for one in truth]
    order = [names[0], *draw(st.permutations(names[1:]))] if start_first else draw(st.permutations(names))
    arrivals = interleaved(truth, order)
    expected = Expected()
    early = {place for place, one in enumerate(arrivals) if set(expected.of(one.event)) & set(EARLY)}
    repeats = st.tuples(st.integers(0, len(arrivals) - 1), st.integers(1, 30))
    at: dict[int, list[Told]] = defaultdict(list)
    for number, (place, later) in enumerate(draw(st.lists(repeats, max_size=8))):
        if place not in early:
            at[min(place + later, len(arrivals))].append(again(arrivals[place], number))
    mixed = [one for place in range(len(arrivals) + 1) for one in (*arrivals[place : place + 1], *at[place])]
    sizes = draw(st.lists(st.integers(1, 7), max_size=len(mixed)))
    return Delivery(mixed, sizes)


# -- what is left of it ----------------------------------------------------------------------------------------------


async def deliver(batches: Iterator[list[Told]]) -> tuple[Node, list[Result]]:
    """A fresh hub that has taken them."""
    node, results = Node(ids=SameCustomer()), list[Result]()
    for batch in batches:
        results += await node.take(*(one.event for one in batch))
    return node, results


def source_of(body: dict[str, Any], central: bool) -> str:
    """Which source told what stands in the transcript."""
    name, data = body["event"], body["data"]
    participant = data.get("participant_id")
    if name.startswith("participant."):
        return "routing" if central or participant == "prt_1" else participant
    if name in {"message.created", "typing"}:
        return "customer" if data["purpose"] == "customer" else participant
    return {"panel.updated": "panels", "message.receipt": "customer"}.get(name, "routing")


def bodies(node: Node) -> list[dict[str, Any]]:
    """What the transcript says."""
    return [orjson.loads(one.body) for one in node.record.transcript]


def by_source(told: Sequence[dict[str, Any]], central: bool) -> dict[str, list[dict[str, Any]]]:
    """What each source told, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for body in told:
        found[source_of(body, central)].append(body)
    return dict(found)


def lines(raw: Sequence[bytes]) -> Counter[bytes]:
    """As a multiset."""
    return Counter(orjson.dumps(orjson.loads(one), option=orjson.OPT_SORT_KEYS) for one in raw)


OWNERS = ("owner", "owner_epoch", "last_owner", "queued_since", "wrapups")
PRESENCE = ("connected", "past", "at_end")


def state_of(conversation: Conversation, central: bool) -> dict[str, Any]:
    """What of the state has to be equal."""
    state = asdict(conversation)
    if central:
        return state
    for name in PRESENCE:
        state[name] = sorted(state[name], key=lambda one: str(one["participant_id"]))
    return {name: value for name, value in state.items() if name not in OWNERS}


def unchained(line: bytes) -> bytes:
    """A line of the ledger without its place in the chain, which depends on what came between."""
    about = orjson.loads(line)
    return orjson.dumps({key: about[key] for key in about if key not in ("chain", "n", "prev", "after", "key", "mac")})


def left_by(node: Node, central: bool) -> dict[str, Any]:
    """Everything that has to be equal."""
    record = node.record
    told = map(unchained, record.ledger)
    ledger = [one for one in told if central or not orjson.loads(one)["what"].startswith("wrapup.")]
    typing = [orjson.loads(one) for one in record.typing]
    return {
        "state": state_of(node.conversation, central),
        "messages": record.number(b"messages"),
        "panels": dict(record.panels),
        "transcript": by_source(bodies(node), central),
        "audiences": Counter(one.audience for one in record.transcript),
        "typing": by_source(typing, central),
        "segments": lines(record.segments),
        "ledger": lines(ledger),
        "known": record.seen,
        "told to the platform": record.actions,
        "speakers": {name: value for name, value in record.fields.items() if name.startswith(b"p:")},
        "due": {name: at for name, at in record.due.items() if central or name != "wrapup"},
    }


# -- what has to agree with the transcript ---------------------------------------------------------------------------


def turn_of(told: Sequence[dict[str, Any]]) -> dict[str, object]:
    """Whose turn it is, since when, and how many of the customer's messages have no answer, by the transcript."""
    awaiting, since, unanswered = None, None, 0
    for body in told:
        if body["event"] == "message.created":
            by_customer = body["data"]["purpose"] == "customer"
            unanswered = unanswered + 1 if by_customer else 0
            now = "agent" if by_customer else "customer"
            awaiting, since = (awaiting, since) if now == awaiting else (now, body["at"])
        if body["event"] == "conversation.ended":
            awaiting = since = None
    return {"awaiting": awaiting, "awaiting_since": since, "unanswered": unanswered}


def owner_of(told: Sequence[dict[str, Any]]) -> tuple[str | None, int]:
    """Who owns and how often that changed, by the transcript: who came first of those who are there."""
    here, owner, epoch = list[str](), None, 0
    for body in told:
        match body["event"], body["data"].get("participant_id"):
            case "participant.connected", participant if participant != "prt_1":
                here.append(participant)
            case "participant.disconnected", participant:
                here.remove(participant)
            case "conversation.ended", _:
                return None, epoch
        now = here[0] if here else None
        if now != owner:
            owner, epoch = now, epoch + 1
    return owner, epoch


def check_itself(node: Node) -> None:
    """Counters, owner, positions and the board's row say what this run's transcript says."""
    situation, told = node.loaded.situation, bodies(node)
    conversation, counters = situation.existing, situation.counters
    assert asdict(counters) == {"messages": sum(one["event"] == "message.created" for one in told), **turn_of(told)}
    assert (conversation.owner, conversation.owner_epoch) == owner_of(told)
    assert [one.offset for one in node.record.transcript] == list(range(1, len(told) + 1))
    seen = [one.customer_offset for one in node.record.transcript if "c" in one.audience]
    assert seen == list(range(1, len(seen) + 1))
    newer = ("awaiting", "awaiting_since", "messages")  # than the row: patched
    row, extra = (orjson.loads(node.record.fields[name]) for name in (b"row", b"extra"))
    assert {**row, **dict.fromkeys(newer)} == {**row_of(situation), **dict.fromkeys(newer)}
    assert extra == orjson.loads(orjson.dumps(extra_of(situation)))
    assert (node.record.index == "closed") == conversation.settled


# -- the laws --------------------------------------------------------------------------------------------------------


def is_central(told: Sequence[Told]) -> bool:
    """True where all coming and going is told by one source."""
    return all(one.source == "routing" for one in told if isinstance(one.event, p.Connected))


@given(deliveries())
async def test_each_event_is_answered_by_what_came_before(delivery: Delivery) -> None:
    """Accepted at a place that there is, a duplicate, or refused with the protocol's code, whatever the batches."""
    node, results = await deliver(delivery.batches())
    expected = Expected()
    wanted = [(one.event.id, expected.of(one.event)[0]) for one in delivery.arrivals]
    assert statuses(results) == wanted
    positions = {(one.tag, one.offset) for one in node.record.transcript}
    for result in results:
        assert (result.refused is None) == (result.status in {"accepted", "duplicate"})
        cursor = parse_cursor(result.cursor or "")
        assert cursor is None or cursor[1:] in positions


@given(deliveries())
async def test_the_state_is_that_of_the_accepted_in_true_order(delivery: Delivery) -> None:
    """Duplicates and what was refused leave no trace; what was accepted is there whole, wherever it came in between."""
    node, results = await deliver(delivery.batches())
    central = is_central(delivery.arrivals)
    accepted = [one for one, result in zip(delivery.arrivals, results, strict=True) if result.status == "accepted"]
    kept = sorted(accepted, key=lambda one: one.event.at)  # a leaving that was told twice stays behind its first
    sorted_run, all_accepted = await deliver(iter([[one] for one in kept]))
    assert {result.status for result in all_accepted} == {"accepted"}
    assert left_by(node, central) == left_by(sorted_run, central)
    check_itself(node)
    check_itself(sorted_run)


@given(deliveries())
async def test_batches_may_be_cut_anywhere(delivery: Delivery) -> None:
    """One by one, all at once or in any parts: the same answers with the same positions, and the same state."""
    one_by_one = iter([[one] for one in delivery.arrivals])
    runs = [await deliver(batches) for batches in (delivery.batches(), one_by_one, iter([delivery.arrivals]))]
    answers = [
        [(one.wire() | {"cursor": None}, place) for one, place in zip(r, offsets(r), strict=True)] for _, r in runs
    ]
    assert answers[0] == answers[1] == answers[2]
    first, *others = [node for node, _ in runs]
    for node in others:
        assert bodies(node) == bodies(first)
        assert left_by(node, central=True) == left_by(first, central=True)
        assert node.loaded.situation == first.loaded.situation


@given(st.lists(A_STEP, max_size=24), st.booleans(), st.randoms())
async def test_who_sends_again_what_was_refused_loses_nothing(steps: list[Step], central: bool, chance: Any) -> None:
    """What came too early is accepted once it fits: repeated in full, everything is there once."""
    stays = [step for step in steps if step[0] != "goes"]
    truth = history_of(stays, central=central, ends=False)
    arrivals = list(truth)
    chance.shuffle(arrivals)  # within a source, too: it can't make anything early stay out
    node, results = await deliver(iter([arrivals] * (len(truth) + 1)))
    told = Counter(one.id for one in results if one.status == "accepted")
    assert told == Counter(one.event.id for one in truth)
    assert {one.status for one in results[-len(truth) :]} == {"duplicate"}
    wanted, _ = await deliver(iter([truth]))
    ids = [Counter(orjson.dumps(body) for body in bodies(one)) for one in (node, wanted)]
    assert ids[0] == ids[1]
    assert {one.participant_id for one in node.conversation.connected} == {
        one.participant_id for one in wanted.conversation.connected
    }
    check_itself(node)


MET = ["accepted", "duplicate", "conversation_ended", "stale_owner", "unknown_conversation"]


@pytest.mark.parametrize("answer", MET)
def test_the_deliveries_meet_every_answer(answer: str) -> None:
    """The laws are about something: each kind of answer is met more than once."""

    def met(delivery: Delivery) -> bool:
        expected = Expected()
        answers = Counter(expected.of(one.event)[0] for one in delivery.arrivals)
        return answers[answer] >= 2

    find(
        deliveries(),
        met,
        settings=settings(max_examples=300, derandomize=True, database=None, phases=(Phase.generate,)),
    )
