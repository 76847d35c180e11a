"""
Commands as they come over the sockets (protocol.md, sections 1, 3, 4 and 5).

One frozen struct per command, chosen by its `cmd`; what exists is valid. `ENDPOINT_COMMANDS` says which endpoint takes
which. All have `id`, and those that change something `req`, by which a repeat is known.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from hub.protocol.fields import (
    ATTACHMENTS_MAX,
    CURSORS_MAX,
    FILTER_VALUES_MAX,
    ROWS_MAX,
    Channel,
    CommandId,
    CursorText,
    Id,
    Label,
    Mime,
    OptionalLabel,
    Reason,
    Req,
    SaidText,
    Search,
    Secret,
    SentUrl,
    Subject,
    Text,
    Token,
    Url,
    check_said,
)

Status = Literal["available", "busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline"]
View = Literal["interactions", "queues", "agents", "roster"]
RowState = Literal["queued", "active", "wrapup", "ended"]

SORT_FIELDS: dict[str, frozenset[str]] = {
    "interactions": frozenset(
        {
            "conversation_id",
            "channel",
            "queue",
            "division",
            "state",
            "subject",
            "owner",
            "owner_epoch",
            "owner_away",
            "taken_over",
            "awaiting",
            "awaiting_since",
            "started_at",
            "messages",
        }
    ),
    "queues": frozenset({"queue", "name", "waiting", "interacting", "longest_wait_since"}),
    "agents": frozenset({"user_id", "name", "status", "status_since"}),
    "roster": frozenset({"conversation_id", "kind", "since"}),
}


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cmd"):
    """What a client asks for. `id` is the client's and comes back with the answer."""

    id: CommandId


class Changing(Command, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that changes something; the same `req` again gets the first `ok` again."""

    req: Req | None = None


class Resume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session to give back: its secret, and per conversation id the cursor of the last event received."""

    session: Id
    secret: Secret
    cursors: Annotated[dict[Id, CursorText], Meta(max_length=CURSORS_MAX)] = {}


class Hello(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hello"):
    """Who connects: a JWT or a ticket. An empty `token` is one that is missing, for the edge to refuse."""

    token: Token = ""
    resume: Resume | None = None


class Pong(Struct, frozen=True, kw_only=True, tag_field="cmd", tag="pong"):
    """Answer to `ping`. It has no answer itself, so whatever stands beside `cmd` is ignored."""

    id: Any = None


class StatusSet(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="status.set"):
    """Set the person's own presence."""

    status: Status


class ViewFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows of a view are wanted; what is None doesn't restrict. `text` is searched for, `agent` a user id."""

    queues: Annotated[list[Id], Meta(max_length=FILTER_VALUES_MAX)] | None = None
    channels: Annotated[list[Channel], Meta(max_length=FILTER_VALUES_MAX)] | None = None
    agent: Id | None = None
    state: RowState | Annotated[list[RowState], Meta(max_length=FILTER_VALUES_MAX)] | None = None
    text: Search | None = None


class ViewSubscribe(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="view.subscribe"):
    """Show the rows of a view and keep showing them. `sort`: one of its `SORT_FIELDS`, descending with `-` before."""

    view: View
    filter: ViewFilter | None = None
    sort: str | None = None
    limit: Annotated[int, Meta(ge=1, le=ROWS_MAX)] | None = None

    def __post_init__(self) -> None:
        """
        Check what one field alone can't tell.

        Raises:
            ValueError: `sort` isn't a field of this view's rows.
        """
        fields = SORT_FIELDS[self.view]
        if self.sort is not None and self.sort.removeprefix("-") not in fields:
            raise ValueError(f"`sort`: Expected one of {', '.join(sorted(fields))}, got another")


class AgentViewSubscribe(ViewSubscribe, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="view.subscribe"):
    """`view.subscribe` of an agent, who has the roster only."""

    view: Literal["roster"]


class ViewUnsubscribe(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="view.unsubscribe"):
    """Stop a view."""

    subscription: Id


class MonitorStart(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="monitor.start"):
    """Watch a conversation silently, at the side of one participant (None where only one can be meant)."""

    conversation_id: Id
    participant_id: Id | None = None


class MonitorStop(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="monitor.stop"):
    """Stop the own monitor."""

    conversation_id: Id


class MonitorRelease(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="monitor.release"):
    """End somebody else's monitor; the reason goes to the ledger."""

    conversation_id: Id
    reason: Reason


class MessageReveal(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="message.reveal"):
    """
    Read one message of the monitored conversation without masks; the reason goes to the ledger.

    No `req`: its answer is kept nowhere, and each one stands in the ledger.
    """

    conversation_id: Id
    message_id: Id
    reason: Reason


class TakeoverPrepare(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="takeover.prepare"):
    """Ask what a takeover would do, and for the token that confirms it."""

    conversation_id: Id


class TakeoverConfirm(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="takeover.confirm"):
    """Do the prepared takeover. A wrong token is the rules' to refuse, so any string is one."""

    takeover_id: Id
    confirm_token: Secret


class TakeoverCancel(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="takeover.cancel"):
    """Drop the prepared takeover."""

    takeover_id: Id


class TakeoverAcknowledge(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="takeover.acknowledge"):
    """The notice of having been taken over was seen."""

    takeover_id: Id


class Attachment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that goes with a message, by its address; never fetched by the hub."""

    url: Url
    name: OptionalLabel = ""
    mime: Mime = "application/octet-stream"


Attachments = Annotated[tuple[Attachment, ...], Meta(max_length=ATTACHMENTS_MAX)]


class SentFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that was uploaded to this conversation, named as the hub keeps it whatever is said here; or a link elsewhere."""

    url: SentUrl
    name: OptionalLabel = ""
    mime: Mime = "application/octet-stream"


SentFiles = Annotated[tuple[SentFile, ...], Meta(max_length=ATTACHMENTS_MAX)]


class MessageSend(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="message.send"):
    """Say something. The same `client_message_id` by the same user gets the first `ok` again."""

    conversation_id: Id
    text: SaidText
    client_message_id: Id
    attachments: SentFiles = ()

    def __post_init__(self) -> None:
        """
        Check what one field alone can't tell.

        Raises:
            ValueError: A control character; neither text nor attachments.
        """
        check_said(self.text, self.attachments)


class Typing(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="typing"):
    """Typing began or ended; shown, never stored."""

    conversation_id: Id
    on: bool


class ConversationEnd(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.end"):
    """End the conversation for everybody."""

    conversation_id: Id


class CustomerMessageSend(MessageSend, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="message.send"):
    """`message.send` of a customer; the conversation is the token's where none is given (empty)."""

    conversation_id: Id = ""


class CustomerTyping(Typing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="typing"):
    """`typing` of a customer; the conversation is the token's where none is given (empty)."""

    conversation_id: Id = ""


class CustomerConversationEnd(
    ConversationEnd, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.end"
):
    """`conversation.end` of a customer; the conversation is the token's where none is given (empty)."""

    conversation_id: Id = ""


class WrapupSubmit(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wrapup.submit"):
    """Complete the own wrap-up with one of the queue's codes."""

    conversation_id: Id
    code: Label
    notes: Text | None = None


class DraftUpdate(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="draft.update"):
    """Keep what is being written; empty drops it."""

    conversation_id: Id
    text: Text


class ConversationStart(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conversation.start"):
    """A customer begins their conversation, under the id in their token."""

    queue: Id
    subject: Subject | None = None
    name: OptionalLabel | None = None


class ReceiptSend(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="receipt.send"):
    """The customer's messenger got or showed a message."""

    message_id: Id
    status: Literal["delivered", "read"]
    conversation_id: Id | None = None


class EventPush(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="event"):
    """One platform event, for `platform.decode_event` to read."""

    event: Raw


class DeliveryReport(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="delivery.report"):
    """What became of a message that the platform was given."""

    message_id: Id
    status: Literal["sent", "delivered", "read", "failed"]
    reason: Reason | None = None


class ActionDone(Changing, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="action.done"):
    """The platform carried out an action that is not a message."""

    action_id: Id


_OWNER_COMMANDS: tuple[type[Struct], ...] = (
    StatusSet,
    ViewUnsubscribe,
    TakeoverAcknowledge,
    MessageSend,
    Typing,
    ConversationEnd,
    WrapupSubmit,
)

ENDPOINT_COMMANDS: dict[str, tuple[type[Struct], ...]] = {
    "supervisor": (
        Hello,
        Pong,
        *_OWNER_COMMANDS,
        ViewSubscribe,
        MonitorStart,
        MonitorStop,
        MonitorRelease,
        MessageReveal,
        TakeoverPrepare,
        TakeoverConfirm,
        TakeoverCancel,
    ),
    "agent": (Hello, Pong, *_OWNER_COMMANDS, AgentViewSubscribe, DraftUpdate),
    "connector": (Hello, Pong, EventPush, DeliveryReport, ActionDone),
    "customer": (
        Hello,
        Pong,
        ConversationStart,
        CustomerMessageSend,
        CustomerTyping,
        CustomerConversationEnd,
        ReceiptSend,
    ),
}


def tag_of(kind: type[Struct]) -> str:
    """The `cmd` (or `type`) that chooses this struct."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str), kind
    return tag
