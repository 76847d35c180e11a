"""What was said and what was given, against what is stored: promises I3, I5 and I6."""

from collections import Counter
from collections.abc import Iterator

from tests.support.judge.case import Case, actions_of
from tests.support.judge.frames import action_id
from tests.support.judge.records import Json, Place, Violation, place_of

MESSAGES_SHOWN = 50  # of a snapshot
APPENDED = ("message.created", "message.receipt", "panel.updated")


# -- I3: messages ----------------------------------------------------------------------------------------------------


def messages_are_stored(case: Case) -> Iterator[Violation]:
    """What was acknowledged is in the transcript once, with its text; what is there was sent by somebody."""
    if not case.kept.whole:
        return
    entries = [one for one in case.kept.entries if one.name == "message.created"]
    counts = Counter(str(one.data["message_id"]) for one in entries)
    texts = {str(one.data["message_id"]): one.data["text"] for one in entries}
    for message, count in counts.items():
        if count != 1:
            yield case.blame("I3", f"{message} {count} times in the transcript", "once")
    for record, command, ok in case.commands("message.send"):
        message, text = ok["message_id"], command.asked["text"]
        if texts.get(message) != text:
            yield case.blame("I3", f"{message} is {texts.get(message)!r} in the transcript", f"{text!r}", record)
    said = set(_texts_tried(case))
    if not any(one.endpoint == "/v1/events" for one in case.records):
        return  # what platforms posted isn't known
    for message, text in texts.items():
        if text not in said:
            yield case.blame("I3", f"{message} {text!r}", "only what somebody sent")


def events_are_stored(case: Case) -> Iterator[Violation]:
    """What was accepted stands at the position that was answered, each at its own; a known message stands somewhere."""
    if not case.kept.whole:
        return
    there = {one.data["message_id"] for one in case.kept.entries if one.name == "message.created"}
    taken: dict[str, str] = {}
    for record, event, ok in case.pushed():
        if event["type"] not in APPENDED:
            continue
        if ok["status"] == "duplicate":
            if event["type"] == "message.created" and event["data"]["message_id"] not in there:
                yield case.blame("I3", f"{event['data']['message_id']} is known and isn't there", "in it", record)
            continue
        place = place_of(ok.get("cursor"))
        stored = case.staff_entries.get(place) if place is not None else None
        if stored is None or not _is_what_was_pushed(stored.event, event):
            yield case.blame("I3", f"{stored.event if stored else None} at {place}", f"{event}", record)
        if taken.setdefault(str(place), event["id"]) != event["id"]:
            yield case.blame("I3", f"{event['id']} at {place}, as {taken[str(place)]}", "a position each", record)


def _is_what_was_pushed(stored: Json, event: Json) -> bool:
    told = {key: value for key, value in event["data"].items() if stored["data"].get(key) != value}
    return bool((stored["event"], stored["at"]) == (event["type"], event["at"]) and not told)


def _texts_tried(case: Case) -> Iterator[str]:
    for record in case.records:
        for command in record.commands:
            asked = command.asked
            event = asked.get("event")
            if asked["cmd"] == "message.send" and "text" in asked:
                yield asked["text"]
            elif isinstance(event, dict) and event.get("type") == "message.created":
                yield event["data"].get("text")


def platform_is_told(case: Case) -> Iterator[Violation]:
    """What staff said through the hub reached the platform, or waits for it, once and in the transcript's order."""
    if not case.kept.state.connector or not any(one.role == "connector" for one in case.records) or not case.kept.whole:
        return
    pushed = {event["data"].get("message_id") for _, event, _ in case.pushed() if event["type"] == "message.created"}
    wanted = [
        str(one.data["message_id"])
        for one in case.kept.entries
        if one.name == "message.created" and one.data["purpose"] != "customer" and one.data["message_id"] not in pushed
    ]
    got = [action_id(event) for _, event in actions_of(case) if event["event"] == "outbound.message"]
    if got != wanted:
        yield case.blame("I3", f"the platform's messages {got}", f"{wanted}")
    for record in case.records:
        foreign = record.role == "connector" and record.user != case.kept.state.connector
        if foreign and any(event.get("conversation_id") == case.name for _, event in record.events):
            yield case.blame("I6", "actions of another platform's conversation", "none", record)


# -- I5: positions ---------------------------------------------------------------------------------------------------


def given_is_stored(case: Case) -> Iterator[Violation]:
    """What somebody was given stands in the transcript at that position, for their eyes, with that content."""
    for one in case.given:
        customer = one.record.role == "customer"
        stored = (case.customer_entries if customer else case.staff_entries).get(one.place)
        if one.place.epoch != case.kept.epoch:
            continue  # of a history that was lost since
        if stored is None:
            yield case.blame("I5", f"{one.event['event']} at {one.place}", "a position of the transcript", one.record)
            continue
        letter = {"customer": "c", "agent": "a"}.get(one.record.role, "s")
        if letter not in stored.audience:
            yield case.blame("I6", f"{one.place}, for {stored.audience}", "what is for one's own eyes", one.record)
        event = {key: value for key, value in one.event.items() if key != "cursor"}
        same = _alike(event, stored.event) if customer else event == stored.event
        if not same:
            yield case.blame("I5", f"{one.place} as {event}", f"{stored.event}, as stored", one.record)


def _alike(shown: Json, stored: Json) -> bool:
    """Customers see less of each event, and of a message the same id and text."""
    kept = ("message_id", "text", "status")
    same = all(shown["data"].get(key) == stored["data"].get(key) for key in kept)
    return bool(same and shown["event"] == stored["event"] and shown["at"] == stored["at"])


def snapshots_are_stored(case: Case) -> Iterator[Violation]:
    """A snapshot's messages are the last ones of the transcript up to its cursor."""
    for walk in case.walks:
        for record, conversation, snapshot in walk.snapshots:
            place = Place.of(snapshot["cursor"])
            if conversation != case.name or record.org not in (case.org, "") or place.epoch != case.kept.epoch:
                continue
            customer = record.role == "customer"
            stored: dict[str, tuple[str, str, int]] = {}
            for entry in case.kept.entries if case.kept.whole else ():
                offset = entry.customer_offset if customer else entry.offset
                if offset <= place.offset and entry.name in ("message.created", "message.updated"):
                    message = str(entry.data["message_id"])
                    stored[message] = (message, entry.data["text"], offset)
            shown = [(one["message_id"], one["text"], one["offset"]) for one in snapshot["messages"]]
            wanted = list(stored.values())[-MESSAGES_SHOWN:]
            if case.kept.whole and shown != wanted:
                yield case.blame("I5", f"a snapshot at {place} with {shown}", f"{wanted}", record)
