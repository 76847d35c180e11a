"""Rules that take the store's own word: monitors, the ledger, and whether everybody was told everything."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.support.judge.case import Case, marks
from tests.support.judge.contents import (
    events_are_stored,
    given_is_stored,
    messages_are_stored,
    platform_is_told,
    snapshots_are_stored,
)
from tests.support.judge.records import Json, Record, Violation
from tests.support.judge.stored import Truth, Written
from tests.support.judge.takeovers import owners, takeovers_are_whole
from tests.support.judge.walks import Seat, Walk

AT_REST_S = 0.5  # a socket that was welcomed this long before the store was read has been told all of it


def judge_truth(records: Sequence[Record], walks: Sequence[Walk], truth: Truth) -> list[Violation]:
    """Everything that frames and store together show to be wrong."""
    org = truth.org
    mine = [one for one in records if one.org in (org, "")]
    found: list[Violation] = []
    for kept in truth.conversations.values():
        given = [one for walk in walks for one in walk.given if one.conversation == kept.conversation_id]
        case = Case(kept, org, mine, walks, [one for one in given if one.record.org in (org, "")])
        found += monitors_alternate(case)
        found += headers_name_the_monitor(case)
        found += monitors_get_their_own(case)
        found += owners(case)
        found += takeovers_are_whole(case)
        found += messages_are_stored(case)
        found += events_are_stored(case)
        found += platform_is_told(case)
        found += given_is_stored(case)
        found += snapshots_are_stored(case)
        found += all_is_told(case, truth.at)
        found += ledger_tells_all(case)
    return found


# -- I1: monitors ----------------------------------------------------------------------------------------------------


def monitors_alternate(case: Case) -> Iterator[Violation]:
    """In the ledger a monitor starts when none is, and ends once; the record holds the one that hasn't ended."""
    running: str | None = None
    for line in case.kept.ledger:
        what, monitor = line["what"], str(line.get("monitor_id"))
        if what == "monitor.started":
            if running is not None:
                yield case.blame("I1", f"{monitor} started while {running} ran", "its end first")
            running = monitor
        elif what == "monitor.ended":
            if running != monitor:
                yield case.blame("I1", f"{monitor} ended while {running} ran", "the end of the one that runs, once")
            running = None
    held = case.kept.monitor
    if (held.monitor_id if held is not None else None) != running:
        yield case.blame("I1", f"{held.monitor_id if held else None} in the record", f"{running}, as in the ledger")
    people = {one.session: one.user for one in case.records if one.session}
    for one in held.sessions if held is not None else ():
        if held is not None and people.get(one.session, held.user_id) != held.user_id:
            seen = f"a lease for {one.session} of {people[one.session]} in {held.user_id}'s monitor"
            yield case.blame("I1", seen, "the holder's sessions only")


def headers_name_the_monitor(case: Case) -> Iterator[Violation]:
    """Along the transcript the headers name the monitors of the ledger, each in one piece, in their order."""
    order = [str(one["monitor_id"]) for one in case.kept.ledger if one["what"] == "monitor.started"]
    at = -1
    for entry in case.kept.entries:
        if entry.monitor == "-":
            continue
        place = order.index(entry.monitor) if entry.monitor in order else -1
        if place < at or place < 0:
            yield case.blame("I1", f"entry {entry.offset} under {entry.monitor}", f"the order {order}")
        at = max(at, place)


def monitors_get_their_own(case: Case) -> Iterator[Violation]:
    """A session that only monitors gets what was written under its monitor; typing, too, as far as its time tells."""
    headers = {one.place(case.kept.epoch): one.monitor for one in case.kept.entries}
    for one in case.given:
        if one.monitor is not None and not one.takes_part and headers.get(one.place, one.monitor) != one.monitor:
            seen = f"{one.place}, written under {headers[one.place]}, given under {one.monitor}"
            yield case.blame("I1", seen, "what was written under its own monitor", one.record)
    ends = {one["monitor_id"]: one["written_at"] for one in case.kept.ledger if one["what"] == "monitor.ended"}
    for walk in case.walks:
        for record, event, monitor, takes_part in walk.typed:
            if event["conversation_id"] != case.name or record.org != case.org or monitor is None or takes_part:
                continue
            if monitor in ends and event["at"] > ends[monitor]:
                yield case.blame("I1", f"typing of {event['at']} after {monitor} ended", f"{ends[monitor]}", record)


# -- at rest ---


def all_is_told(case: Case, at: float) -> Iterator[Violation]:
    """At rest, whoever is there and has a right has been told everything up to the end of the transcript."""
    for walk in case.walks:
        for record, seats in walk.seats.items():
            welcomed = record.hello.answered_at if record.hello is not None else at
            there = record.closed_at is None or record.closed_at > at
            if record.org in (case.org, "") and there and welcomed < at - AT_REST_S:
                yield from _told(case, record, seats.get(case.name, Seat()))


def _told(case: Case, record: Record, seat: Seat) -> Iterator[Violation]:
    kept = case.kept
    customer = record.role == "customer"
    if customer and record.claims.get("conversation") != case.name:
        return
    top = kept.customer_top if customer else kept.top
    held = kept.monitor.monitor_id if kept.monitor is not None else None
    if seat.monitor not in (None, held) and not seat.parts:
        yield case.blame("I5", f"{seat.monitor} still runs, for all this socket knows", "monitor.ended", record)
    elif customer or seat.right:
        if seat.place is None or (seat.place.epoch, seat.place.offset) != (kept.epoch, top):
            yield case.blame("I5", f"told up to {seat.place}", f"offset {top} of {kept.epoch}", record)
    elif record.role in ("agent", "supervisor"):
        connected = [{"user_id": one.user_id, "purpose": one.purpose} for one in kept.state.connected]
        if any(record.is_me(one) for one in connected):
            yield case.blame("I5", "nothing of a conversation one is in", "its snapshot and what followed", record)
        if kept.monitor is not None and kept.monitor.joined(record.session) is not None:
            yield case.blame("I5", f"nothing under {kept.monitor.monitor_id}", "its snapshot and what followed", record)
    told = {event["data"]["takeover_id"] for _, event in record.events if event["event"] == "takeover.notified"}
    for notice in kept.state.notices:
        if notice.user_id == record.user and record.role in ("agent", "supervisor") and notice.takeover_id not in told:
            yield case.blame(
                "I4", f"{notice.takeover_id} wasn't told", "told on each socket, until acknowledged", record
            )


# -- I7: the ledger --------------------------------------------------------------------------------------------------


def ledger_tells_all(case: Case) -> Iterator[Violation]:
    """Transcript and ledger tell the same transitions in the same order; so do segments and ledger."""
    if not case.kept.whole:
        return
    written, told = list(_transitions(case.kept.entries)), list(_told_transitions(case.kept.ledger))
    if written != told:
        yield case.blame("I7", f"the ledger's {told}", f"{written}, as in the transcript")
    watched = [(one["monitor_id"], one["reason"]) for one in case.kept.segments if one["kind"] == "monitoring"]
    ended = [(one["monitor_id"], one["reason"]) for one in case.kept.ledger if one["what"] == "monitor.ended"]
    if watched != ended:
        yield case.blame("I7", f"the ledger's ends of monitors {ended}", f"{watched}, as in the timeline")
    started = {str(one["monitor_id"]) for one in case.kept.ledger if one["what"] == "monitor.started"}
    held = {one.monitor for one in case.kept.entries} - {"-"}
    for walk in case.walks:
        held |= {
            str(data["monitor_id"])
            for record, name, data in walk.monitors
            if name == case.name and record.org == case.org
        }
    if not held <= started:
        yield case.blame("I7", f"no start of {sorted(held - started)} in the ledger", "each monitor's start")
    for walk in case.walks:
        for record, name, data in walk.monitors:
            over_for_good = "reason" in data and name == case.name and record.org == case.org
            if over_for_good and data["monitor_id"] not in {monitor for monitor, _ in ended}:
                yield case.blame("I7", f"{data['monitor_id']} ended, it was told", "its end in the ledger", record)
    over = [one["participant_id"] for one in case.kept.segments if one["kind"] == "wrapup"]
    ends = ("wrapup.completed", "wrapup.timed_out")
    said = [one["participant_id"] for one in case.kept.ledger if one["what"] in ends]
    if over != said:
        yield case.blame("I7", f"the ledger's wrap-ups {said}", f"{over}, as in the timeline")


def _transitions(entries: Sequence[Written]) -> Iterator[tuple[str, object]]:
    taken = marks(entries)
    for one in entries:
        data = one.data
        if one.name == "takeover.completed":
            yield one.name, data["takeover_id"]
        elif one.name == "participant.connected" and data["participant"]["purpose"] == "customer":
            yield "conversation.started", None
        elif one.name.startswith("participant.") and one.tag not in taken:
            yield one.name, data["participant_id"]
        elif one.name == "conversation.transferred":
            yield one.name, data["queue"]
        elif one.name == "conversation.ended":
            yield one.name, data["reason"]


_SAID_BY: Mapping[str, str] = {
    "takeover.completed": "takeover_id",
    "conversation.started": "",
    "participant.connected": "participant_id",
    "participant.disconnected": "participant_id",
    "conversation.transferred": "queue",
    "conversation.ended": "reason",
}


def _told_transitions(ledger: Iterable[Json]) -> Iterator[tuple[str, object]]:
    for line in ledger:
        if line["what"] in _SAID_BY:
            yield line["what"], line.get(_SAID_BY[line["what"]])
