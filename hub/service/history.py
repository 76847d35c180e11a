"""What is told afterwards (and meanwhile): detail, transcript, timeline, list."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from hub.domain.board import row_of
from hub.domain.conversation import Situation
from hub.domain.effects import interact_segment, wrapup_segment
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.protocol.cursor import format_cursor
from hub.service.conversations import Conversations
from hub.service.ports import StoredEntry
from hub.service.snapshots import Receipts, customer_message, messages_of

PAGE = 50
PAGE_MAX = 200
RECEIPTS_AHEAD = 1_000  # entries behind a page in which receipts of its messages are looked for
RECEIPT = b'{"event":"message.receipt"'
READ_AT_ONCE = 500
SAID = (b'{"event":"message.created"', b'{"event":"message.updated"')
MARKS = {b"takeover.completed": "takeover", b"conversation.transferred": "transfer"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One conversation of the indexes: its place in the list, row, hidden part, and who asked whether they watched."""

    place: tuple[int, str]
    row: bytes
    extra: bytes
    watched: bool


class HistoryStore(Protocol):
    """What history needs of the store."""

    async def segments(self, org: str, conversation_id: str) -> list[bytes]:
        """Closed segments."""

    async def entries_before(
        self, org: str, conversation_id: str, *, before: int | None, count: int
    ) -> list[StoredEntry]:
        """Entries before an offset, newest first."""

    async def listed(
        self, org: str, *, below: tuple[int, str] | None, count: int, watched_by: str | None
    ) -> list[Listed]:
        """The organization's conversations, last active first, behind a place."""


class History:
    """Reads; who may read is checked by the edge."""

    def __init__(self, store: HistoryStore, conversations: Conversations, rows_max: int) -> None:
        self._store = store
        self._conversations = conversations
        self._rows_max = rows_max

    async def situation(self, org: str, conversation_id: str) -> Situation:
        """The conversation as of now."""
        return (await self._conversations.load(org, conversation_id)).situation

    async def segments(self, situation: Situation) -> list[dict[str, Any]]:
        """Closed and open segments by start; open ones have `end` null."""
        conversation = situation.existing
        closed: list[dict[str, Any]] = [
            orjson.loads(raw) for raw in await self._store.segments(conversation.org, conversation.conversation_id)
        ]
        running: list[dict[str, Any]] = [wrapup_segment(one, None) for one in conversation.wrapups]
        if conversation.ended_at is None:
            running += [interact_segment(one, None) for one in (conversation.customer, *conversation.connected)]
        monitor = situation.monitor
        if monitor is not None:
            running.append(
                {
                    "kind": "monitoring",
                    "participant_id": monitor.participant_id,
                    "user": {"user_id": monitor.user_id, "name": monitor.name},
                    "start": monitor.since,
                    "end": None,
                    "disconnect_type": None,
                    "monitor_id": monitor.monitor_id,
                    "reason": None,
                    "by": None,
                }
            )
        return sorted((*closed, *running), key=lambda one: one["start"])

    async def timeline(self, situation: Situation) -> dict[str, object]:
        """`segments`, without the marks that are no segment of anybody."""
        found = [one for one in await self.segments(situation) if one["kind"] not in ("takeover", "transfer")]
        return {"segments": found}

    async def detail(self, situation: Situation) -> dict[str, object]:
        """`conversation`, `participants`, `metrics`, `monitors`, `takeovers`, `wrapups`."""
        conversation = situation.existing
        segments = await self.segments(situation)
        end = conversation.ended_at if conversation.ended_at is not None else situation.now_ms

        def length(one: dict[str, Any]) -> int:
            return max(0, int((one["end"] if one["end"] is not None else situation.now_ms) - one["start"]))

        by_kind: dict[str, list[dict[str, Any]]] = {}
        for one in segments:
            by_kind.setdefault(one["kind"], []).append(one)
        monitoring, wrapups = by_kind.get("monitoring", []), by_kind.get("wrapup", [])
        takeovers = by_kind.get("takeover", [])
        metrics = {
            "duration_ms": max(0, end - conversation.started_at),
            "messages": situation.counters.messages,
            "n_monitor": len(monitoring),
            "monitoring_ms": sum(length(one) for one in monitoring),
            "n_takeover": len(takeovers),
            "n_transfer": len(by_kind.get("transfer", [])),
            "n_wrapup": len(wrapups),
            "wrapup_ms": sum(length(one) for one in wrapups),
        }
        return {
            "conversation": row_of(situation),
            "participants": [_participant(one) for one in by_kind.get("interact", [])],
            "metrics": metrics,
            "monitors": [
                {
                    "user_id": one["user"]["user_id"],
                    "name": one["user"]["name"],
                    "from": one["start"],
                    "to": one["end"],
                    "reason": one["reason"],
                    "by": one["by"],
                    "participant_id": one["participant_id"],
                }
                for one in monitoring
            ],
            "takeovers": [
                {
                    "takeover_id": one["takeover_id"],
                    "at": one["start"],
                    "user_id": one["user"]["user_id"],
                    "name": one["user"]["name"],
                    "from": one["from"],
                    "to": one["to"],
                    "owner_epoch": one["owner_epoch"],
                }
                for one in takeovers
            ],
            "wrapups": [
                {
                    "participant_id": one["participant_id"],
                    "user_id": one["user"]["user_id"],
                    "name": one["user"]["name"],
                    "prompt": one["prompt"],
                    "requested_at": one["start"],
                    "ended_at": one["end"],
                    "code": one["code"],
                    "notes": one["notes"],
                    "timed_out": one.get("timed_out", False),
                }
                for one in wrapups
            ],
        }

    async def message(self, org: str, conversation_id: str, message_id: str) -> dict[str, Any] | None:
        """One message as a snapshot has it, as it was changed last; None where the transcript has none of that id."""
        place: int | None = None
        quoted = orjson.dumps(message_id)
        while part := await self._store.entries_before(org, conversation_id, before=place, count=READ_AT_ONCE):
            place = part[-1].offset
            for entry in part:
                if quoted in entry.body and entry.body.startswith(SAID):
                    found = messages_of([entry])
                    if found and found[0]["message_id"] == message_id:
                        return found[0]
        return None

    async def transcript(
        self,
        org: str,
        conversation_id: str,
        *,
        before: int | None,
        limit: int,
        viewer: str,
        left: frozenset[str] = frozenset(),
    ) -> dict[str, list[dict[str, object]]]:
        """
        `entries` oldest first: messages and marks, each `{kind, at, offset, …}` as in its event, messages with the `status`
        of their furthest receipt.

        `viewer` is `staff`, or `customer`, who gets messages as their socket does. `before`: only older ones. `left`:
        the participants that somebody was who has gone; what came after the last of them left isn't theirs.
        """
        loaded = await self._conversations.load(org, conversation_id)
        found: list[dict[str, object]] = []
        place = before + RECEIPTS_AHEAD if before is not None and viewer == "staff" and not left else None
        hidden = bool(left)
        states = Receipts()  # newest first, so a message's are there before it
        while len(found) < limit:
            part = await self._store.entries_before(org, conversation_id, before=place, count=READ_AT_ONCE)
            if not part:
                break
            place = part[-1].offset
            for entry in part:
                if hidden:
                    hidden = not _leaves(entry, left)
                    continue
                if entry.body.startswith(RECEIPT):
                    states.take(orjson.loads(entry.body)["data"])
                    continue
                shown = _entry(entry, viewer, loaded.situation.name_visible, states)
                position = entry.customer_offset if viewer == "customer" else entry.offset
                if shown is None or (before is not None and position >= before):
                    continue
                if viewer == "staff":
                    shown["cursor"] = format_cursor(loaded.epoch, entry.tag, entry.offset)
                found.append(shown)
                if len(found) == limit:
                    break
        return {"entries": found[::-1]}

    async def list(
        self, person: Person, wanted: dict[str, str], *, mask: Callable[[bytes], bytes] = lambda row: row
    ) -> dict[str, object]:
        """
        `conversations` (rows, last active first, as `mask` shows them) and `cursor`.

        Raises Refused `schema_invalid`.
        """
        limit = _number(wanted, "limit", PAGE, PAGE_MAX)
        below = _place(wanted["cursor"]) if wanted.get("cursor") else None
        rows: list[orjson.Fragment] = []
        looked_at = 0
        cursor: str | None = None
        while len(rows) < limit and looked_at < self._rows_max:
            part = await self._store.listed(
                person.org, below=below, count=PAGE_MAX, watched_by=wanted.get("monitored_by")
            )
            looked_at += len(part)
            for one in part:
                below = one.place
                if _matches(one, person, wanted):
                    rows.append(orjson.Fragment(mask(one.row)))
                if len(rows) == limit:
                    break
            cursor = _cursor(below) if below is not None else None
            if len(part) < PAGE_MAX and (not part or below == part[-1].place):
                cursor = None
                break
        return {"conversations": rows, "cursor": cursor}


def _participant(one: dict[str, Any]) -> dict[str, object]:
    return {
        "participant_id": one["participant_id"],
        "user_id": one["user"]["user_id"],
        "name": one["user"]["name"],
        "purpose": one["purpose"],
        "connected_at": one["start"],
        "disconnected_at": one["end"],
        "disconnect_type": one["disconnect_type"],
    }


def _entry(entry: StoredEntry, viewer: str, name_visible: bool, states: Receipts) -> dict[str, object] | None:
    """An entry as the transcript route shows it, or None where it isn't shown."""
    name = entry.body[len(b'{"event":"') : entry.body.index(b'"', len(b'{"event":"'))]
    if name == b"message.created":
        event = orjson.loads(entry.body)
        data = event["data"] | states.of(event["data"]["message_id"])
        if viewer == "customer":
            data = customer_message(data, name_visible)
            return {"kind": "message", "at": event["at"], "offset": entry.customer_offset, **data}
        return {"kind": "message", "at": event["at"], "offset": entry.offset, **data}
    if name in MARKS and viewer != "customer":
        event = orjson.loads(entry.body)
        return {"kind": MARKS[name], "at": event["at"], "offset": entry.offset, **event["data"]}
    return None


def _leaves(entry: StoredEntry, participants: frozenset[str]) -> bool:
    """True where one of these participants leaves at this entry."""
    if not entry.body.startswith(b'{"event":"participant.disconnected"'):
        return False
    return orjson.loads(entry.body)["data"]["participant_id"] in participants


def _number(wanted: dict[str, str], name: str, default: int, most: int) -> int:
    text = wanted.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise _bad(name, text, "a whole number")
    return max(1, min(int(text), most))


def _bad(path: str, got: str, allowed: str) -> Refused:
    details = {"path": path, "got": got[:64], "allowed": allowed}
    return Refused("schema_invalid", f"The parameter {path} must be {allowed}.", details)


def _place(cursor: str) -> tuple[int, str]:
    try:
        score, _, member = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return int(score), member
    except ValueError:
        raise _bad("cursor", cursor, "one that a list answered") from None


def _cursor(place: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(f"{place[0]} {place[1]}".encode()).decode()


STATES = ("queued", "active", "wrapup", "ended")


def checked(wanted: dict[str, str]) -> dict[str, str]:
    """
    The list's parameters.

    Raises:
        Refused: `schema_invalid` with the `path` of what is unknown or wrong.
    """
    known = {"state", "queue", "channel", "agent", "monitored_by", "taken_over", "since", "until", "cursor", "limit"}
    for name in wanted:
        if name not in known:
            # Not its value: whoever puts a token into an address shouldn't find it in a log of refusals, too.
            raise _bad(name[:64], "", f"one of {', '.join(sorted(known))}")
    for name in ("since", "until"):
        _number(wanted, name, 0, 2**53)
    if any(state not in STATES for state in wanted.get("state", "active").split(",")):
        raise _bad("state", wanted["state"], f"of {', '.join(STATES)}")
    if wanted.get("taken_over", "true") not in ("true", "false", "1", "0"):
        raise _bad("taken_over", wanted["taken_over"], "true or false")
    return wanted


def _matches(one: Listed, person: Person, wanted: dict[str, str]) -> bool:
    row = orjson.loads(one.row)
    if not person.sees(row["queue"], row["division"]):
        return False
    running = row["state"] != "ended"
    if not (person.may("history") or (running and person.may("view"))):
        return False
    if "state" in wanted and row["state"] not in wanted["state"].split(","):
        return False
    if any(name in wanted and row[name] != wanted[name] for name in ("queue", "channel")):
        return False
    if "agent" in wanted and all(agent["user_id"] != wanted["agent"] for agent in row["agents"]):
        return False
    if "monitored_by" in wanted and not one.watched:
        return False
    if "taken_over" in wanted and row["taken_over"] != (wanted["taken_over"] in ("true", "1")):
        return False
    since, until = int(wanted.get("since", 0)), int(wanted.get("until", 2**53))
    return bool(since <= row["started_at"] <= until)
