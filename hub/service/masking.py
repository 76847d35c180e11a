"""
Masking of what leaves for people who only watch: events, snapshots, rows, history.

Every text in it is masked but ids, fixed words and what the hub wrote itself, so that a field that comes later is masked
unless somebody decides otherwise (decision record 0029). Who gets the clear text is decided by the caller: whoever
answers a conversation, and platforms and customers, never come here.

Functions give back the very same object where nothing is masked, so that one encoding serves everybody.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from hub.domain.conversation import Conversation
from hub.domain.grants import Person
from hub.domain.masking import CUT, Masker, Pattern
from hub.linear import finder
from hub.protocol.fields import PANEL_BYTES_MAX, REASON_CHARS_MAX, TEXT_CHARS_MAX, URL_CHARS_MAX
from hub.settings import MaskingSettings, Settings

# Whose texts are ids, words of the protocol's, or written by the hub; everything else may hold anything.
PLAIN = frozenset(
    {
        *("event", "conversation_id", "cursor", "message_id", "participant_id", "user_id", "id", "purpose", "status"),
        *("disconnect_type", "queue", "division", "channel", "state", "owner", "awaiting", "takeover_id", "from", "to"),
        *("panel", "kind", "prompt", "code", "codes", "mime", "monitor_id", "monitor", "by", "monitors", "takeovers"),
        *("client_message_id", "draft"),
    }
)
LONG = frozenset({"text", "notes"})
STAFF = frozenset({"agent", "bot", "supervisor"})
Json = Any


class Maskers:
    """The masker of each queue, as configured; made once."""

    def __init__(self, settings: Settings) -> None:
        self._everywhere = masker_of(settings.masking)
        self._queues = {queue: masker_of(one) for queue, one in settings.masking_queues.items()}

    @property
    def on(self) -> bool:
        """True where anything is masked in any queue."""
        return self._everywhere.on or any(one.on for one in self._queues.values())

    def of(self, queue: str) -> Masker | None:
        """What is masked in conversations of this queue; None where nothing is."""
        masker = self._queues.get(queue, self._everywhere)
        return masker if masker.on else None

    def row(self, row: bytes) -> bytes:
        """A row as views and lists show it, by the queue that it names."""
        if not self.on:
            return row
        fields = orjson.loads(row)
        masker = self.of(fields["queue"])
        masked = fields if masker is None else masked_data(fields, masker)
        return row if masked is fields else orjson.dumps(masked)


def masker_of(settings: MaskingSettings) -> Masker:
    """What is configured, its patterns compiled (they were checked when it was read)."""
    patterns = tuple(Pattern(name, finder(pattern)) for name, pattern in settings.patterns)
    return Masker(settings.card, settings.iban, settings.email, settings.phone, patterns)


def answers(person: Person, conversation: Conversation) -> bool:
    """
    True where the person reads everything: agents, customers and platforms in what is theirs, a supervisor while they
    are connected to it, as after a takeover.
    """
    if person.role not in ("supervisor", "admin"):
        return True
    return conversation.of_user(person.user_id, "supervisor") is not None


def masked_event(body: bytes, masker: Masker) -> bytes:
    """
    An encoded event without cursor; its data has `masked: true` where something in it is.

    A removed panel, an id, a receipt's status: what has no text comes back as it is.
    """
    event = orjson.loads(body)
    data = event["data"]
    masked = masked_panel_data(data, masker) if event["event"] == "panel.updated" else masked_data(data, masker)
    return body if masked is data else orjson.dumps({**event, "data": {**masked, "masked": True}})


def masked_message(data: Mapping[str, Json], masker: Masker) -> dict[str, Json]:
    """A message of a snapshot or a transcript; has `masked: true` where something in it is."""
    masked = masked_data(data, masker)
    return dict(data) if masked is data else {**masked, "masked": True}


def masked_panel_data(data: Mapping[str, Json], masker: Masker) -> Mapping[str, Json]:
    """The data of `panel.updated`."""
    content = masked_content(data["content"], masker)
    return data if content is data["content"] else {**data, "content": content}


def masked_content(content: Json, masker: Masker) -> Json:
    """
    A panel's content: every text, key and long number in it. Never above `PANEL_BYTES_MAX`, as no panel is.

    Where its masks make it longer than that, a masked text is shortened to `[…]`, at last the whole.
    """
    masked = _everywhere(content, lambda text: masker.mask(text, PANEL_BYTES_MAX), masker)
    if masked is content or len(orjson.dumps(masked)) <= PANEL_BYTES_MAX:
        return masked
    shortest = _everywhere(content, lambda text: text if masker.mask(text, len(text)) is text else CUT, masker)
    return shortest if len(orjson.dumps(shortest)) <= PANEL_BYTES_MAX else CUT


def masked_panels(panels: Mapping[str, bytes], masker: Masker) -> dict[str, Json]:
    """Panels by name, as JSON, as a snapshot shows them."""
    return {name: masked_content(orjson.loads(content), masker) for name, content in panels.items()}


def masked_data(value: Json, masker: Masker) -> Json:
    """
    The same with every text masked but those of `PLAIN`, and names of staff.

    The very same object where nothing is.
    """
    if isinstance(value, str):
        return masker.mask(value, REASON_CHARS_MAX)
    if isinstance(value, list | tuple):
        parts = [masked_data(one, masker) for one in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    if not isinstance(value, Mapping):
        return value
    changed = {key: new for key, old in value.items() if (new := _field(value, key, old, masker)) is not old}
    return {**value, **changed} if changed else value


def _field(of: Mapping[str, Json], key: str, value: Json, masker: Masker) -> Json:
    if key in PLAIN or (key == "name" and _of_staff(of)) or (key == "user" and of.get("purpose") != "customer"):
        return value
    if key == "user":  # of a segment of the customer's
        name = masked_data(value["name"], masker)
        return value if name is value["name"] else {**value, "name": name}
    if key == "url":  # where long numbers are ids: a link must not break because one looks like a phone number
        return replace(masker, phone=False).mask(value, URL_CHARS_MAX)
    if key in LONG and isinstance(value, str):
        return masker.mask(value, TEXT_CHARS_MAX)
    return masked_data(value, masker)


def _of_staff(of: Mapping[str, Json]) -> bool:
    """Who works here may be called by a mail address: that is nobody's secret. Customers have a purpose, or an `id`."""
    return of["purpose"] in STAFF if "purpose" in of else "user_id" in of


def _everywhere(value: Json, mask: Callable[[str], str], masker: Masker) -> Json:
    """Every text below this, whatever it is called, and its keys."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return masker.card_number(str(abs(value))) or value
    if isinstance(value, list):
        parts = [_everywhere(one, mask, masker) for one in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    if not isinstance(value, dict):
        return value
    made: dict[str, Json] = {}
    for number, (key, one) in enumerate(value.items(), start=1):
        name = mask(key)
        if name in made:  # two masked keys may look the same; nothing is dropped
            name = f"{name} ({number})"
        made[name] = _everywhere(one, mask, masker)
    same = all(a is b and c is d for (a, c), (b, d) in zip(made.items(), value.items(), strict=True))
    return value if same else made
