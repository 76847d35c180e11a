"""Rules that the frames of the sockets alone can break."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.support.judge.records import Json, Record, Session, Violation, place_of
from tests.support.judge.walks import Given, Walk

# What people write themselves may hold any word.
FREE_TEXT = {"text", "content", "draft", "returned_draft", "notes", "subject", "name", "panels", "reason"}
UNHEARD_ROLES = ("agent", "customer", "connector")
CONVERSATION_ACTIONS = {
    "outbound.message",
    "participant.disconnected",
    "participant.connected",
    "sender.changed",
    "conversation.ended",
}


def judge_frames(records: Sequence[Record], sessions: Sequence[Session], walks: Sequence[Walk]) -> list[Violation]:
    """Everything that is wrong whatever the store says."""
    found = [violation for walk in walks for violation in walk.violations]
    found += one_content_each([given for walk in walks for given in walk.given])
    found += one_monitor_each([given for walk in walks for given in walk.given])
    found += early_expiries(sessions, walks)
    found += notices(records)
    found += rows_in_sight(sessions)
    found += own_organization(records)
    found += actions(records)
    found += ids_once(records)
    for record in records:
        if record.role in UNHEARD_ROLES:
            found += silence(record)
    return found


# -- I5: one position, one content -----------------------------------------------------------------------------------


def one_content_each(given: Iterable[Given]) -> Iterator[Violation]:
    """
    Whoever is given a position of a history is given the same event; people who answer see more than customers, and more
    than those who only watch where something is masked.
    """
    known: dict[tuple[str, str, str, str], Json] = {}
    for one in given:
        kind = "customer" if one.record.role == "customer" else "staff"
        if one.event["data"].get("masked"):
            if one.record.role in UNHEARD_ROLES:
                yield Violation("I8", str(one.record), one.conversation, f"{one.event}", "what was said, without masks")
            kind = "watching"
        key = (one.record.org, one.conversation, kind, str(one.place))
        first = known.setdefault(key, one.event)
        if first != one.event:
            yield Violation("I5", str(one.record), one.conversation, f"{one.event}", f"as others got it: {first}")


# -- I1: one monitor -------------------------------------------------------------------------------------------------


def one_monitor_each(given: Iterable[Given]) -> Iterator[Violation]:
    """No position of a transcript is given to sessions of two different monitors."""
    known: dict[tuple[str, str, str], str] = {}
    for one in given:
        if one.monitor is None or one.takes_part:
            continue
        first = known.setdefault((one.record.org, one.conversation, str(one.place)), one.monitor)
        if first != one.monitor:
            yield Violation("I1", str(one.record), one.conversation, f"{one.place} under {one.monitor}", first)


def early_expiries(sessions: Sequence[Session], walks: Sequence[Walk]) -> Iterator[Violation]:
    """A monitor can't have lapsed before its first lease was over; 0 stands for an end that nobody could look up."""
    leases = {
        command.ok["monitor_id"]: int(command.ok["lease_ms"])
        for session in sessions
        for record in session.records
        for command in record.commands
        if command.asked["cmd"] == "monitor.start" and command.ok
    }
    for walk in walks:
        for record, conversation, data in walk.monitors:
            lasted, lease_ms = data.get("duration_ms", 0), leases.get(data["monitor_id"], 0)
            if data.get("reason") == "lease_expired" and 0 < lasted < lease_ms:
                seen = f"{data['monitor_id']} lapsed after {lasted} ms"
                yield Violation("I1", str(record), conversation, seen, f"a lease of {lease_ms} ms")


# -- I4: notices -----------------------------------------------------------------------------------------------------


def notices(records: Iterable[Record]) -> Iterator[Violation]:
    """Once on each socket; none after one's own acknowledgement there, nor on a socket that came later."""
    staff = [one for one in records if one.role in ("agent", "supervisor")]
    seen_at: dict[tuple[str, str, str], float] = {}
    for record in staff:
        for command in record.commands:
            if command.asked["cmd"] == "takeover.acknowledge" and command.ok is not None:
                key = (record.org, record.user, str(command.asked["takeover_id"]))
                seen_at[key] = min(command.answered_at, seen_at.get(key, command.answered_at))
    for record in staff:
        yield from _notices_of(record, seen_at)


def _notices_of(record: Record, seen_at: Mapping[tuple[str, str, str], float]) -> Iterator[Violation]:
    told: set[str] = set()
    own = {
        str(one.asked["takeover_id"]): one.answered_at
        for one in record.commands
        if one.asked["cmd"] == "takeover.acknowledge" and one.ok is not None
    }
    for at, event in record.events:
        if event["event"] != "takeover.notified":
            continue
        takeover, conversation = event["data"]["takeover_id"], event["conversation_id"]
        if takeover in told:
            yield Violation("I4", str(record), conversation, f"{takeover} was told twice", "once on each socket")
        told.add(takeover)
        began = record.hello.answered_at if record.hello is not None else at
        acknowledged = seen_at.get((record.org, record.user, takeover))
        if at > own.get(takeover, at) or (acknowledged is not None and began > acknowledged):
            yield Violation("I4", str(record), conversation, f"{takeover} was told after it was seen", "never again")


# -- I6: rights ------------------------------------------------------------------------------------------------------


def rows_in_sight(sessions: Iterable[Session]) -> Iterator[Violation]:
    """Views show rows of one's own queues and divisions."""
    for session in sessions:
        views = {
            command.ok["subscription"]: command.asked.get("view")
            for record in session.records
            for command in record.commands
            if command.asked["cmd"] == "view.subscribe" and command.ok
        }
        for record in session.records:
            for _, event in record.events:
                if event["event"] in ("view.snapshot", "view.changed"):
                    view = views.get(event["data"]["subscription"], "")
                    yield from _rows_of(record, str(view), event["data"]["rows"])


def _rows_of(record: Record, view: str, rows: Iterable[Json]) -> Iterator[Violation]:
    for row in rows:
        if view == "interactions" and not record.may_see(row["queue"], row["division"]):
            seen = f"a row of {row['queue']}, {row['division']}"
            yield Violation("I6", str(record), row["conversation_id"], seen, "own queues and divisions")
        if view == "queues" and not record.may_see(row["queue"]):
            yield Violation("I6", str(record), "", f"the queue {row['queue']}", "own queues")


def own_organization(records: Iterable[Record]) -> Iterator[Violation]:
    """No history (its epoch is random) and no monitor or takeover (by its id) is seen in two organizations."""
    owners: dict[str, str] = {}
    for record in records:
        if not record.org:
            continue
        for conversation, mark in _marks_of(record):
            owner = owners.setdefault(mark, record.org)
            if owner != record.org:
                yield Violation("I6", str(record), conversation, f"{mark} of {owner}", f"only what {record.org} has")


def _marks_of(record: Record) -> Iterator[tuple[str, str]]:
    for _, event in record.events:
        data = event.get("data", {})
        conversation = event.get("conversation_id", "")
        snapshot = data.get("snapshot", data) if isinstance(data.get("snapshot", data), dict) else {}
        for cursor in (event.get("cursor"), snapshot.get("cursor")):
            place = place_of(cursor)
            if place is not None:
                yield conversation, f"the history {place.epoch}"
        for key in ("monitor_id", "takeover_id"):
            if isinstance(data.get(key), str):
                yield conversation, data[key]


# -- I3: the platform ------------------------------------------------------------------------------------------------


def platforms_of(records: Iterable[Record]) -> list[list[Record]]:
    """The sockets and posts of each platform."""
    found: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.role in ("connector", "events"):
            found[(record.org, record.user)].append(record)
    return list(found.values())


def action_id(event: Json) -> str:
    """What names an action: the message's id, else the action's own."""
    data = event["data"]
    return str(data["message_id"] if event["event"] == "outbound.message" else data.get("action_id", ""))


def actions(records: Sequence[Record]) -> Iterator[Violation]:
    """The same in each repeat, none after its report, the next one only after the report of the one before."""
    for platform in platforms_of(records):
        yield from _actions_of(platform)


def _actions_of(platform: Sequence[Record]) -> Iterator[Violation]:
    moments: list[tuple[float, int, Record, str, Json]] = []
    for record in platform:
        for at, event in record.events:
            if event["event"] in CONVERSATION_ACTIONS:
                moments.append((at, 1, record, "action", event))
        for command in record.commands:
            if command.asked["cmd"] in ("delivery.report", "action.done"):
                moments.append((command.asked_at, 0, record, "asked", command.asked))
                if command.ok is not None:
                    moments.append((command.answered_at, 2, record, "done", command.asked))
            elif _begins_anew(command.asked, command.ok):
                moments.append((command.asked_at, 0, record, "anew", command.asked["event"]))
    known: dict[tuple[str, str], Json] = {}
    waiting: dict[str, str] = {}
    reported: set[str] = set()
    done: set[tuple[Record, str]] = set()
    for _, _, record, what, thing in sorted(moments, key=lambda one: one[:2]):
        if what == "anew":
            waiting.pop(thing["conversation_id"], None)
            continue
        if what != "action":
            name = str(thing.get("message_id") or thing.get("action_id"))
            (reported.add(name) if what == "asked" else done.add((record, name)))
            continue
        conversation, name = thing["conversation_id"], action_id(thing)
        first = known.get((conversation, name))
        if first is not None and first != thing:
            yield Violation("I3", str(record), conversation, f"{name} again as {thing}", f"{first}")
        if (record, name) in done:
            yield Violation("I3", str(record), conversation, f"{name} again after its report", "never again")
        before = waiting.get(conversation)
        if first is None:
            if before is not None and before not in reported:
                yield Violation("I3", str(record), conversation, f"{name} before {before} was reported", "one by one")
            waiting[conversation] = name
            known[(conversation, name)] = thing


def _begins_anew(asked: Json, ok: Json | None) -> bool:
    """A conversation is started (again, after the store lost it, or forgot it in time)."""
    event = asked.get("event")
    return bool(ok) and isinstance(event, dict) and event.get("type") == "conversation.started"


def ids_once(records: Sequence[Record]) -> Iterator[Violation]:
    """An event's id is accepted once in a conversation; a client's message id always gets the same message's id."""
    for platform in platforms_of(records):
        pushes = [
            (command.answered_at, record, command)
            for record in platform
            for command in record.commands
            if command.asked["cmd"] == "event" and command.ok is not None and isinstance(command.asked["event"], dict)
        ]
        taken: dict[str, set[str]] = {}
        for _, record, command in sorted(pushes, key=lambda one: one[0]):
            event, ok = command.asked["event"], command.ok or {}
            if ok.get("status") != "accepted":
                continue
            conversation, name = str(event.get("conversation_id")), str(event.get("id"))
            if event.get("type") == "conversation.started":
                taken[conversation] = set()
            there = taken.setdefault(conversation, set())
            if name in there:
                yield Violation("I3", str(record), conversation, f"the event {name} accepted twice", "a duplicate")
            if ok.get("durable", True):  # else a failover may have forgotten it: what was said to be unsure
                there.add(name)
    yield from _messages_once(records)


def _messages_once(records: Iterable[Record]) -> Iterator[Violation]:
    named: dict[tuple[object, ...], str] = {}
    for record in records:
        for command in record.commands:
            asked, ok = command.asked, command.ok
            if asked["cmd"] != "message.send" or not ok or record.role == "connector":
                continue
            conversation = asked.get("conversation_id") or record.claims.get("conversation", "")
            key = (record.org, record.role, record.user, conversation, asked.get("client_message_id"))
            first = named.setdefault(key, ok["message_id"])
            if first != ok["message_id"]:
                seen = f"{asked.get('client_message_id')} became {ok['message_id']}"
                yield Violation("I3", str(record), str(conversation), seen, first)


# -- I8: silence -----------------------------------------------------------------------------------------------------


def silence(record: Record) -> Iterator[Violation]:
    """No key and no value about monitoring; what this client wrote itself may come back to it."""
    own = {text for frame in record.frames if frame.sent for _, text in _texts(frame.thing) if _tells(text)}
    for frame in record.frames:
        if frame.sent:
            continue
        for path, text in _texts(frame.thing):
            unsaid = text
            for word in own:
                unsaid = unsaid.replace(word, "")
            if _tells(unsaid):
                conversation = str(frame.thing.get("conversation_id", ""))
                seen = f"{path}: {text!r} in {frame.thing.get('event', 'an answer')}"
                yield Violation("I8", str(record), conversation, seen, "no word of monitoring")


def _tells(text: str) -> bool:
    return text.startswith("mon_") or "monitor" in text.lower()


def _texts(thing: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key and every text, with where it stands, but for what people write."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield path, str(key)
            if key not in FREE_TEXT or (isinstance(value, dict | list) and key != "content"):
                yield from _texts(value, f"{path}.{key}")
    elif isinstance(thing, list):
        for value in thing:
            yield from _texts(value, f"{path}[]")
    elif isinstance(thing, str):
        yield path, thing
