"""What is shown of a whole conversation: snapshots for each kind of viewer, and messages folded with their receipts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from hub.domain.board import row_of
from hub.domain.conversation import Situation
from hub.domain.decide import public
from hub.domain.masking import Masker
from hub.protocol.cursor import format_cursor
from hub.service.masking import masked_data, masked_message, masked_panels
from hub.service.ports import Snapshot, StoredEntry

MESSAGES_SHOWN = 50
RANKS = {None: 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}  # receipts come out of order: the furthest counts


class Receipts:
    """What became of messages, whatever order their receipts are taken in."""

    def __init__(self) -> None:
        self._furthest: dict[str, Mapping[str, Any]] = {}

    def take(self, data: Mapping[str, Any]) -> None:
        """One receipt's `message_id`, `status` and `reason`."""
        known = self._furthest.get(data["message_id"], {})
        if RANKS[data["status"]] > RANKS[known.get("status")]:
            self._furthest[data["message_id"]] = data

    def of(self, message_id: str) -> dict[str, object]:
        """`status`, and `reason` where it failed and said why; empty for one without a receipt."""
        data = self._furthest.get(message_id)
        if data is None:
            return {}
        failed = data["status"] == "failed" and data.get("reason")
        return {"status": data["status"], **({"reason": data["reason"]} if failed else {})}


def messages_of(entries: Iterable[StoredEntry], *, customer: bool = False) -> list[dict[str, Any]]:
    """
    The newest messages among `entries` (oldest first), each with `at`, `offset` and the furthest receipt's `status`.

    `offset` counts what the viewer sees: with `customer` it is the customer's own. `reason` stands beside `failed`.
    """
    found: dict[str, dict[str, Any]] = {}
    states = Receipts()
    for entry in entries:
        if not entry.body.startswith(b'{"event":"message.'):
            continue
        event = orjson.loads(entry.body)
        data = event["data"]
        if event["event"] == "message.receipt":
            states.take(data)
        else:
            offset = entry.customer_offset if customer else entry.offset
            found[data["message_id"]] = {**data, "at": event["at"], "offset": offset}
    return [{**one, **states.of(one["message_id"])} for one in list(found.values())[-MESSAGES_SHOWN:]]


def customer_message(data: Mapping[str, object], name_visible: bool) -> dict[str, object]:
    """A message as the customer sees it: who answers is a name at most, and only where the channel shows it."""
    own = data.get("purpose") == "customer"
    name = data.get("name") if own or name_visible else None
    shown = {key: data[key] for key in ("message_id", "text", "attachments", "at", "offset", "status") if key in data}
    return {**shown, "own": own, "sender": {"name": name}}


def snapshot_for_staff(
    snapshot: Snapshot, situation: Situation, user_id: str, *, supervisor: bool, masker: Masker | None = None
) -> dict[str, object]:
    """The protocol's snapshot; agents get a row without anything about a monitor. `masker`: for who only watches."""
    conversation, loaded = situation.existing, snapshot.loaded
    row = row_of(situation)
    if not supervisor:
        del row["monitor"]
    mine = [one.participant_id for one in conversation.connected if one.user_id == user_id]
    found: dict[str, object] = {
        "conversation": row,
        "participants": [
            {**public(one), "since": one.since} for one in (conversation.customer, *conversation.connected)
        ],
        "panels": {name: orjson.Fragment(content) for name, content in sorted(snapshot.panels.items())},
        "messages": messages_of(snapshot.entries),
        "draft": next((loaded.drafts[one] for one in mine if one in loaded.drafts), None),
        "cursor": format_cursor(loaded.epoch, loaded.tag, loaded.top),
    }
    if masker is None:
        return found
    return {
        **found,
        "conversation": masked_data(row, masker),
        "participants": masked_data(found["participants"], masker),
        "panels": masked_panels(dict(sorted(snapshot.panels.items())), masker),
        "messages": [masked_message(one, masker) for one in messages_of(snapshot.entries)],
    }


def snapshot_for_customer(snapshot: Snapshot, situation: Situation) -> dict[str, object]:
    """Messages only, and a position that counts what the customer sees."""
    conversation, loaded = situation.existing, snapshot.loaded
    return {
        "conversation": {
            "conversation_id": conversation.conversation_id,
            "subject": conversation.subject,
            "ended": conversation.ended_at is not None,
        },
        "messages": [
            customer_message(one, situation.name_visible) for one in messages_of(snapshot.entries, customer=True)
        ],
        "cursor": format_cursor(loaded.epoch, loaded.tag, loaded.customer_top),
    }


def count_messages(entries: Sequence[StoredEntry]) -> int:
    """How many messages there are among `entries`."""
    return sum(1 for entry in entries if entry.body.startswith(b'{"event":"message.created"'))
