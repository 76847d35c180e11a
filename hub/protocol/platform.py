"""
Events that messaging platforms send in (protocol.md, section 5).

One frozen struct per `type`, read by one typed decoder; what is wrong with a single event is a value (`BadEvent`), so
that it stops no other. Names beside the type's own: `Started` is `conversation.started`, `Connected` and
`Disconnected` are `participant.*`, `Message` and `Receipt` are `message.*`, `TypingEvent` is `typing`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from hub.domain.errors import Refused
from hub.protocol.commands import Attachments
from hub.protocol.decode import UNREADABLE
from hub.protocol.explain import ROOT, explain, invalid, printable, read_leniently
from hub.protocol.fields import (
    CHANNELS,
    PANEL_BYTES_MAX,
    PANELS_MAX,
    Channel,
    Id,
    Label,
    OptionalLabel,
    Reason,
    SaidText,
    Subject,
    TimeMs,
    check_said,
    compact_json,
)

EVENTS_MAX = 1_000
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_NULL = b"null"
_ONE_SENDER = "`participant_id`: Expected either `participant_id` or `purpose`, got both or none"


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who contacted us; `name` is empty where the platform knows none."""

    id: Id
    name: OptionalLabel = ""


class StartedData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a conversation begins with. `panels`: name to JSON content, on one line each."""

    channel: Channel
    queue: Id
    customer: Customer
    division: Id | None = None
    subject: Subject | None = None
    panels: Annotated[dict[Label, Raw], Meta(max_length=PANELS_MAX)] = {}

    def __post_init__(self) -> None:
        """
        Check the panels, and put their contents in the form in which they are passed on.

        Raises:
            ValueError: A content is no JSON or too large.
        """
        if not self.panels:
            return
        try:
            panels = {name: compact_json(content, PANEL_BYTES_MAX) for name, content in self.panels.items()}
        except ValueError as error:
            raise ValueError(f"`panels`: {error}") from None
        msgspec.structs.force_setattr(self, "panels", panels)


class ConnectedData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who joined to answer the customer."""

    participant_id: Id
    purpose: Literal["agent", "bot"]
    user_id: Id
    name: Label


class DisconnectedData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who left, and why (`takeover` is the hub's own to say)."""

    participant_id: Id
    disconnect_type: Literal["client", "endpoint", "transfer", "inactivity"]


class MessageData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was said, by a participant or by the customer. `text` may be empty where there are attachments."""

    message_id: Id
    participant_id: Id | None = None
    purpose: Literal["customer"] | None = None
    text: SaidText = ""
    attachments: Attachments = ()

    def __post_init__(self) -> None:
        """
        Check what one field alone can't tell.

        Raises:
            ValueError: No sender or two; a control character; neither text nor attachments.
        """
        if (self.participant_id is None) == (self.purpose is None):
            raise ValueError(_ONE_SENDER)
        check_said(self.text, self.attachments)


class ReceiptData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a message."""

    message_id: Id
    status: Literal["sent", "delivered", "read", "failed"]
    reason: Reason | None = None


class TypingData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who began or ended typing: a participant or the customer."""

    on: bool
    participant_id: Id | None = None
    purpose: Literal["customer"] | None = None

    def __post_init__(self) -> None:
        """
        Check that exactly one sender is named.

        Raises:
            ValueError: None or two.
        """
        if (self.participant_id is None) == (self.purpose is None):
            raise ValueError(_ONE_SENDER)


class PanelData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New content of a panel: any JSON on one line, `null` removes the panel."""

    panel: Label
    content: Raw

    def __post_init__(self) -> None:
        """
        Check the content, and put it in the form in which it is passed on.

        Raises:
            ValueError: No JSON or too large.
        """
        try:
            content = compact_json(self.content, PANEL_BYTES_MAX)
        except ValueError as error:
            raise ValueError(f"`content`: {error}") from None
        msgspec.structs.force_setattr(self, "content", content)

    @property
    def removed(self) -> bool:
        """True where the panel goes away."""
        return bytes(self.content) == _NULL


class TransferredData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the conversation went."""

    queue: Id


class EndedData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it ended, in the platform's word."""

    reason: Reason | None = None


class PlatformEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Something that happened at the platform. `id` is the platform's; `at` is Unix milliseconds by its clock."""

    id: Id
    conversation_id: Id
    at: TimeMs

    @property
    def type(self) -> str:
        """The event's type as it stands on the wire."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class Started(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.started"):
    """A conversation began."""

    data: StartedData


class Connected(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="participant.connected"):
    """An agent or bot joined."""

    data: ConnectedData


class Disconnected(
    PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="participant.disconnected"
):
    """An agent or bot left."""

    data: DisconnectedData


class Message(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="message.created"):
    """A customer, agent or bot said something."""

    data: MessageData


class Receipt(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="message.receipt"):
    """A message was sent on, delivered, read, or failed."""

    data: ReceiptData


class TypingEvent(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="typing"):
    """Somebody began or ended typing."""

    data: TypingData


class Panel(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="panel.updated"):
    """A panel beside the conversation has new content."""

    data: PanelData


class Transferred(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.transferred"):
    """The conversation went to another queue."""

    data: TransferredData


class Ended(PlatformEvent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.ended"):
    """The conversation is over."""

    data: EndedData = EndedData()


AnyEvent = Started | Connected | Disconnected | Message | Receipt | TypingEvent | Panel | Transferred | Ended


@dataclass(frozen=True, slots=True)
class BadEvent:
    """An event that can't be taken; `id` is None where it has none that could be read."""

    id: str | None
    refused: Refused


class _Batch(Struct, frozen=True, forbid_unknown_fields=True):
    events: list[AnyEvent]


class _RawBatch(Struct, frozen=True, forbid_unknown_fields=True):
    events: list[Raw]


class _IdOnly(Struct, frozen=True):
    id: Id


_EVENT: Decoder[AnyEvent] = Decoder(AnyEvent)
_BATCH = Decoder(_Batch)
_RAW_BATCH = Decoder(_RawBatch)


def decode_event(raw: bytes | Raw) -> AnyEvent | BadEvent:
    """The event in `raw`, one JSON object; never raises."""
    try:
        return _EVENT.decode(raw)
    except UNREADABLE as error:
        return _diagnose(bytes(raw), error)


def decode_events(body: bytes, content_type: str, *, events_max: int = EVENTS_MAX) -> list[AnyEvent | BadEvent]:
    """
    The events of a request body, in order, good and bad.

    `content_type` is the header's value: an NDJSON type means one event a line (empty lines are skipped), everything
    else `{"events": [...]}`.

    Raises:
        Refused: `schema_invalid` where the body as a whole isn't of this form, `too_large` over `events_max` events.
    """
    if content_type.partition(";")[0].strip().lower() in NDJSON_TYPES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        _check_count(len(lines), events_max)
        return [decode_event(line) for line in lines]
    try:
        events: list[AnyEvent | BadEvent] = list(_BATCH.decode(body).events)
    except UNREADABLE:
        raws = _split(body)
        _check_count(len(raws), events_max)
        return [decode_event(raw) for raw in raws]
    _check_count(len(events), events_max)
    return events


def _check_count(count: int, events_max: int) -> None:
    if count > events_max:
        raise Refused("too_large", f"Expected at most {events_max} events, got {count}.", {"events_max": events_max})


def _split(body: bytes) -> Sequence[bytes | Raw]:
    """
    The members of `events`, unread.

    Raises:
        Refused: The body is no JSON object with just the list `events`.
    """
    try:
        return _RAW_BATCH.decode(body).events
    except msgspec.ValidationError as error:
        raise explain(error) from None
    except UNREADABLE:
        return _split_leniently(body)


def _split_leniently(body: bytes) -> list[bytes]:
    """
    The same for a body in which a broken character or a deep nesting stops msgspec: it must not stop the other events.

    Raises:
        Refused: The body is no JSON object with just the list `events`.
    """
    match _read(body):
        case {"events": [*events], **others} if not others:
            return [json.dumps(event).encode() for event in events]
    raise invalid(ROOT, 'Expected a body of JSON, {"events": [...]}, got something else.')


def _read(raw: bytes) -> object:
    try:
        return read_leniently(raw.decode())
    except ValueError:
        return None


def _diagnose(raw: bytes, error: Exception) -> BadEvent:
    """Why `raw` is no event, given what the typed decoder said."""
    value = _read(raw)
    if value is None:
        return BadEvent(None, invalid(ROOT, "Expected an event as a JSON object, got something that isn't JSON."))
    try:
        event_id: str | None = msgspec.convert(value, _IdOnly).id
    except UNREADABLE:
        event_id = None
    return BadEvent(event_id, _channel_refusal(value) or explain(error))


def _channel_refusal(value: object) -> Refused | None:
    """The refusal of a medium that the hub doesn't do, or None where the channel isn't what is wrong."""
    match value:
        case {"type": "conversation.started", "data": {"channel": str(channel)}} if channel not in CHANNELS:
            return Refused(
                "channel_unsupported",
                f"Conversations of the channel `{printable(channel)}` can't be supervised; {', '.join(CHANNELS)} can.",
                {"channel": printable(channel), "supported": list(CHANNELS)},
            )
    return None
