"""
Each session's walk through its conversations, frame by frame: where it stands, and by what right.

A *seat* is one socket's place in one conversation. It has a right while it monitors (from `monitor.started` to
`monitor.ended`) or takes part (from a snapshot that names the person, or their own `participant.connected`, to their own
`participant.disconnected` or the end). A socket that resumes begins with the rights that its predecessor had at the
cursor: whoever left behind it is given everything up to that again.

The answer to `monitor.stop` ends no seat here: what was written before the end may still be on its way to this socket, by
another road than the answer. What was written after it is for the rules that know the store.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tests.support.judge.records import Json, Place, Record, Session, Violation, place_of

SOME_PART = frozenset({"?"})  # a part that another session was shown
Shown = tuple[str, str, str, str]  # organization, role, user, conversation
SNAPSHOTS = {"monitor.started", "conversation.snapshot", "stream.reset"}
WITHOUT_RIGHT = {"takeover.notified", "wrapup.requested", "wrapup.completed", "wrapup.timed_out", "monitor.ended"}


@dataclass(slots=True)
class Seat:
    """One socket's place in one conversation; `parts` are the own connected participants."""

    place: Place | None = None
    monitor: str | None = None
    parts: frozenset[str] = frozenset()
    left: int | None = None  # offset at which the last part ended
    left_parts: frozenset[str] = frozenset()
    watched: bool = False  # a monitor has ended here, and no right is left

    @property
    def right(self) -> bool:
        """True while anything of the conversation may be given."""
        return self.monitor is not None or bool(self.parts)


@dataclass(frozen=True, slots=True)
class Given:
    """One transcript event that a socket got, with the rights it had; `fresh` where it is the first behind a snapshot."""

    record: Record
    at: float
    event: Json
    place: Place
    monitor: str | None
    takes_part: bool

    @property
    def conversation(self) -> str:
        """Its conversation's id."""
        return str(self.event["conversation_id"])


@dataclass(slots=True)
class Walk:
    """What became of one session: how its sockets ended up, what they were given, what was wrong."""

    session: Session
    seats: dict[Record, dict[str, Seat]] = field(default_factory=dict)
    given: list[Given] = field(default_factory=list)
    typed: list[tuple[Record, Json, str | None, bool]] = field(default_factory=list)  # event, monitor, takes part
    snapshots: list[tuple[Record, str, Json]] = field(default_factory=list)
    monitors: list[tuple[Record, str, Json]] = field(default_factory=list)  # monitor.started and monitor.ended
    violations: list[Violation] = field(default_factory=list)

    def blame(self, promise: str, record: Record, conversation: str, seen: str, wanted: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(promise, str(record), conversation, seen, wanted))


def walk(session: Session, shown: Collection[Shown] = ()) -> Walk:
    """
    Go through all frames of a session's sockets in the order in which they came.

    `shown` is what each person was shown in any session: who names a cursor of another one has the rights of then.
    """
    self = Walk(session)
    moments: list[tuple[float, int, int, Record, Json]] = []
    for turn, record in enumerate(session.records):
        assert record.hello is not None
        moments.append((record.hello.answered_at, turn, -1, record, {}))
        moments += [
            (at, turn, number, record, event)
            for number, (at, event) in enumerate(record.events)
            if isinstance(event.get("conversation_id"), str)
        ]
    for at, _, number, record, event in sorted(moments, key=lambda one: one[:3]):
        if number < 0:
            self.seats[record] = _first_seats(self, record, shown)
        elif record in self.seats:
            _take(self, record, at, event)
    return self


def _first_seats(self: Walk, record: Record, shown: Collection[Shown]) -> dict[str, Seat]:
    """As the predecessor stands at this moment, at the cursors that were given."""
    before = self.session.records[: self.session.records.index(record)]
    known = copy.deepcopy(self.seats[before[-1]]) if record.resumed and before else {}
    for conversation, seat in known.items():
        seat.place = None
        place = place_of(record.resumed_from.get(conversation))
        if place is not None and not seat.parts and seat.left is not None and place.offset < seat.left:
            seat.parts = seat.left_parts
    for conversation, cursor in record.resumed_from.items():
        if conversation not in known and (*record.person, conversation) in shown:
            known[conversation] = Seat(parts=SOME_PART)
        known.setdefault(conversation, Seat()).place = place_of(cursor)
    return known


def _take(self: Walk, record: Record, at: float, event: Json) -> None:
    name, conversation = event["event"], event["conversation_id"]
    seat = self.seats[record].setdefault(conversation, Seat())
    data = event.get("data", {})
    if name in SNAPSHOTS:
        _snapshot(self, record, seat, event)
    elif name == "monitor.ended":
        self.monitors.append((record, conversation, data))
        if seat.monitor == data.get("monitor_id"):
            seat.monitor = None
            seat.watched = not seat.parts
    elif name == "typing":
        self.typed.append((record, event, seat.monitor, bool(seat.parts)))
        _check_right(self, record, seat, event)
    elif name not in WITHOUT_RIGHT:
        _check_right(self, record, seat, event)
        if isinstance(event.get("cursor"), str):
            _entry(self, record, seat, at, event)


def snapshot_in(event: Json) -> Json:
    """The snapshot that an event brings."""
    data: Json = event["data"]
    found: Json = data.get("snapshot", data if event["event"] == "conversation.snapshot" else {})
    return found


def _snapshot(self: Walk, record: Record, seat: Seat, event: Json) -> None:
    conversation, data, snapshot = event["conversation_id"], event["data"], snapshot_in(event)
    place = place_of(snapshot.get("cursor"))
    if place is None:
        self.blame("I5", record, conversation, f"{event['event']} without a position", "a cursor in its snapshot")
        return
    old = seat.place
    if old is not None and old.epoch == place.epoch and place.offset < old.offset and event["event"] != "stream.reset":
        self.blame("I5", record, conversation, f"a snapshot at {place} after {old}", "never back in one history")
    seat.place = place
    self.snapshots.append((record, conversation, snapshot))
    mine = frozenset(one["participant_id"] for one in snapshot.get("participants", ()) if record.is_me(one))
    if event["event"] == "monitor.started":
        if seat.monitor not in (None, data["monitor_id"]):
            self.blame("I1", record, conversation, f"{data['monitor_id']} while {seat.monitor} runs", "its end first")
        seat.monitor = data["monitor_id"]
        self.monitors.append((record, conversation, data))
        row = snapshot["conversation"]
        if not record.may_see(row["queue"], row["division"]):
            self.blame("I6", record, conversation, f"a monitor in {row['queue']}, {row['division']}", "own ones only")
    if record.role in ("agent", "supervisor"):
        if not mine and event["event"] == "conversation.snapshot":
            self.blame("I6", record, conversation, "a snapshot of a conversation one isn't in", "none")
        seat.parts = mine
    if mine:
        seat.left = None
    seat.watched = False


def _check_right(self: Walk, record: Record, seat: Seat, event: Json) -> None:
    conversation, seen = event["conversation_id"], f"{event['event']} {event.get('cursor', '')}".rstrip()
    if record.role == "customer":
        own = record.claims.get("conversation", conversation)
        if conversation != own:
            self.blame("I6", record, conversation, seen, f"nothing but of {own}")
    elif record.role in ("agent", "supervisor") and not seat.right and self.session.whole:
        promise = "I1" if seat.watched else "I6"
        wanted = "nothing after monitor.ended" if seat.watched else "nothing without a right"
        self.blame(promise, record, conversation, seen, wanted)


def _entry(self: Walk, record: Record, seat: Seat, at: float, event: Json) -> None:
    conversation, place = event["conversation_id"], place_of(event["cursor"])
    if place is None:
        self.blame("I5", record, conversation, f"the cursor {event['cursor']!r}", "<epoch>.<tag>-<offset>")
        return
    _check_place(self, record, seat, event, place)
    seat.place = place
    self.given.append(Given(record, at, event, place, seat.monitor, bool(seat.parts) or record.role == "customer"))
    _rights_change(record, seat, event, place)


def _check_place(self: Walk, record: Record, seat: Seat, event: Json, place: Place) -> None:
    conversation, before = event["conversation_id"], seat.place
    if before is None:
        self.blame("I5", record, conversation, f"{event['event']} {place} before any snapshot", "a snapshot first")
    elif before.epoch != place.epoch:
        self.blame("I5", record, conversation, f"{place} after {before}", "a stream.reset between two histories")
    elif place.offset != before.offset + 1:
        self.blame("I5", record, conversation, f"{place} after {before}", f"offset {before.offset + 1}")


def _rights_change(record: Record, seat: Seat, event: Json, place: Place) -> None:
    one, name = event["data"].get("participant", {}), event["event"]
    if name == "participant.connected" and record.is_me(one):
        seat.parts |= {one["participant_id"]}
        seat.left = None
    elif seat.parts and (name == "conversation.ended" or (name == "participant.disconnected" and record.is_me(one))):
        every = name == "conversation.ended" or seat.parts == SOME_PART
        gone = seat.parts if every else frozenset({one["participant_id"]})
        if not seat.parts - gone:
            seat.left, seat.left_parts = place.offset, seat.parts
        seat.parts -= gone


def walks_of(sessions: Sequence[Session]) -> list[Walk]:
    """The walk of each session of people."""
    people = [one for one in sessions if one.records[0].role in ("agent", "supervisor", "customer")]
    shown: set[Shown] = {
        (*record.person, str(event["conversation_id"]))
        for session in people
        for record in session.records
        for _, event in record.events
        if event["event"] in SNAPSHOTS
    }
    return [walk(one, shown) for one in people]
