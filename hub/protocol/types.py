"""
Shapes of what the hub sends: answers, rows, snapshots, events, HTTP bodies (protocol.md, sections 1 to 6).

Typed dictionaries, because these are JSON on both sides: the hub builds them as such, and `clients` hands them on as
they came. The documents are generated from them. Times are Unix milliseconds UTC, durations end in `_ms`; clients must
ignore fields that they don't know.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from hub.protocol.fields import Channel

Purpose = Literal["customer", "agent", "bot", "supervisor"]
State = Literal["queued", "active", "wrapup", "ended"]
PersonStatus = Literal["available", "busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline"]
DisconnectType = Literal["client", "endpoint", "transfer", "takeover", "inactivity"]
ReceiptStatus = Literal["sent", "delivered", "read", "failed"]
WrapupPrompt = Literal["none", "optional", "mandatory", "timeout"]
MonitorEnd = Literal[
    "stopped", "conversation_ended", "agent_left", "lease_expired", "force_released", "taken_over", "permission_lost"
]

# --- people and things ----------------------------------------------------------------------------


class User(TypedDict):
    """Whoever is behind the socket's token."""

    id: str
    name: str


class PersonRef(TypedDict):
    """A person named in passing."""

    user_id: str
    name: str


class CustomerRef(TypedDict):
    """The customer of a conversation; `name` is empty where the platform knows none."""

    id: str
    name: str


class Holder(TypedDict):
    """Who monitors, since when."""

    user_id: str
    name: str
    since: int


class MonitorRef(Holder):
    """Who monitors, since when, at whose side."""

    participant_id: str


class Participant(TypedDict):
    """One taking part. `state`, in rows, is `connected`, `wrapup` or `disconnected`; `since`, in snapshots, a time."""

    participant_id: str
    user_id: NotRequired[str | None]
    name: NotRequired[str | None]
    purpose: Purpose
    state: NotRequired[Literal["connected", "wrapup", "disconnected"]]
    since: NotRequired[int]


class Candidate(TypedDict):
    """One of several whom a monitor could mean."""

    participant_id: str
    user_id: str
    name: str
    purpose: Purpose


class AttachmentRef(TypedDict):
    """A file that goes with a message."""

    url: str
    name: str
    mime: str


class Sender(TypedDict):
    """The name that a customer is shown; null where the channel shows none."""

    name: str | None


# --- rows of the views ----------------------------------------------------------------------------


class InteractionRow(TypedDict):
    """A conversation. `messages` counts as of the last change of `awaiting`; `monitor` never reaches an agent."""

    conversation_id: str
    channel: Channel
    queue: str
    division: str | None
    state: State
    subject: str | None
    customer: CustomerRef
    agents: list[Participant]
    owner: str | None
    owner_epoch: int
    owner_away: bool
    monitor: NotRequired[MonitorRef | None]
    taken_over: bool
    awaiting: Literal["agent", "customer"] | None
    awaiting_since: int | None
    started_at: int
    messages: int


class QueueAgent(TypedDict):
    """An agent on a queue, with the ids of those of their conversations that the viewer may see."""

    user_id: str
    name: str
    status: PersonStatus
    conversations: list[str]


class QueueRow(TypedDict):
    """A queue: how many wait, which conversations are under way, who is on it."""

    queue: str
    name: str
    waiting: int
    interacting: int
    longest_wait_since: int | None
    interacting_conversations: list[str]
    on_queue_agents: list[QueueAgent]


class AgentRow(TypedDict):
    """An agent and the ids of those of their conversations that the viewer may see."""

    user_id: str
    name: str
    status: PersonStatus
    status_since: int
    conversations: list[str]


class RosterRow(TypedDict):
    """A conversation that the viewer has to do with."""

    conversation_id: str
    kind: Literal["monitored", "own"]
    since: int


if TYPE_CHECKING:
    ViewRow = InteractionRow | QueueRow | AgentRow | RosterRow
else:  # msgspec takes one typed dictionary per union, so the schema is told apart from the type
    ViewRow = Annotated[
        dict[str, Any],
        Meta(
            extra_json_schema={
                "anyOf": [
                    {"$ref": f"#/components/schemas/{row.__name__}"}
                    for row in (InteractionRow, QueueRow, AgentRow, RosterRow)
                ]
            }
        ),
    ]

# --- events ---------------------------------------------------------------------------------------


class MessageBody(TypedDict):
    """
    A message. What is sent to a customer has `sender` instead of `participant_id` and `purpose`.

    `masked`: true where something in it is masked, which only supervisors who watch see.
    """

    message_id: str
    participant_id: NotRequired[str | None]
    purpose: NotRequired[Purpose]
    sender: NotRequired[Sender]
    text: str
    attachments: list[AttachmentRef]
    masked: NotRequired[bool]


class SnapshotMessage(MessageBody):
    """A message of the past, with its time and its last receipt's status; `reason`, to staff, where that is `failed`."""

    at: int
    offset: NotRequired[int]
    status: NotRequired[ReceiptStatus]
    reason: NotRequired[str | None]


class Snapshot(TypedDict):
    """A conversation as of `cursor`: the last 50 messages, every panel by name. `draft` is the receiver's own."""

    conversation: InteractionRow
    participants: list[Participant]
    panels: dict[str, Any]
    messages: list[SnapshotMessage]
    draft: NotRequired[str | None]
    cursor: str


class CustomerSnapshot(TypedDict):
    """What a customer sees of the conversation so far."""

    conversation: NotRequired[dict[str, Any]]
    messages: list[SnapshotMessage]
    cursor: str


class ViewSnapshotData(TypedDict):
    """A part of a view, at most 500 rows; the last has `more: false`. The last row of a thing wins."""

    subscription: str
    rows: list[ViewRow]
    more: bool


class ViewChangedData(TypedDict):
    """Rows that are new or changed, and ids of those that left the view."""

    subscription: str
    rows: list[ViewRow]
    removed: list[str]


class MonitorStartedData(TypedDict):
    """The receiver's session watches the conversation from here on."""

    monitor_id: str
    participant_id: str
    snapshot: Snapshot


class MonitorEndedData(TypedDict):
    """The receiver's monitor is over; `by` is who ended it where it was somebody."""

    monitor_id: str
    reason: MonitorEnd
    by: PersonRef | None
    duration_ms: int


class MessageReceiptData(TypedDict):
    """What became of a message."""

    message_id: str
    status: ReceiptStatus
    reason: NotRequired[str | None]


class TypingShown(TypedDict):
    """Typing began or ended."""

    participant_id: NotRequired[str | None]
    purpose: NotRequired[Purpose]
    on: bool


class PanelUpdatedData(TypedDict):
    """A panel's content; null: removed. `masked`: as in a message."""

    panel: str
    content: Any
    masked: NotRequired[bool]


class ParticipantConnectedData(TypedDict):
    """Somebody joined; the id stands beside the participant, too."""

    participant_id: NotRequired[str]
    participant: Participant


class ParticipantDisconnectedData(TypedDict):
    """Somebody left; the id stands beside the participant, too."""

    participant_id: NotRequired[str]
    participant: Participant
    disconnect_type: DisconnectType


class ConversationTransferredData(TypedDict):
    """The conversation went to another queue."""

    queue: str


class ConversationEndedData(TypedDict):
    """The conversation is over."""

    reason: str | None


class CustomerEndedData(TypedDict):
    """The conversation is over; why is not the customer's business."""


TakeoverCompletedData = TypedDict(
    "TakeoverCompletedData", {"takeover_id": str, "from": list[str], "to": str, "owner_epoch": int}
)
TakeoverCompletedData.__doc__ = "A supervisor answers from here on: participant ids of who was removed and of who owns."


class WrapupRequestedData(TypedDict):
    """A wrap-up is asked of this participant."""

    participant_id: str
    prompt: WrapupPrompt
    codes: list[str]
    timeout_ms: int | None


class WrapupCompletedData(TypedDict):
    """A wrap-up was submitted."""

    participant_id: str
    code: str | None


class WrapupTimedOutData(TypedDict):
    """A wrap-up ended by itself."""

    participant_id: str


class NoticeWrapup(TypedDict):
    """What a removed agent owes; `prompt` is `none` for bots, too."""

    required: bool
    prompt: WrapupPrompt
    codes: list[str]
    timeout_ms: int | None


class NoticeSupervisor(TypedDict):
    """Who took over."""

    name: str


class TakeoverNotifiedData(TypedDict):
    """The receiver was taken over; repeated on each new session until acknowledged."""

    takeover_id: str
    supervisor: NoticeSupervisor
    at: int
    returned_draft: str | None
    wrapup: NoticeWrapup


class SenderChangedData(TypedDict):
    """The name that the customer talks with from here on."""

    name: str | None


class ClosingData(TypedDict):
    """Why the socket is about to be closed, and when this client should come back."""

    code: int
    reason: str
    retry_ms: NotRequired[int]


class StreamResetData(TypedDict):
    """The events since the given cursor can't be given back; here is where things stand."""

    reason: str
    snapshot: NotRequired[Snapshot]


# --- actions to a platform ------------------------------------------------------------------------


class OutboundMessageData(TypedDict):
    """A message to bring to the customer, reported with `delivery.report`."""

    message_id: str
    text: str
    attachments: list[AttachmentRef]
    sender: Sender
    owner_epoch: int


class ActionParticipant(TypedDict):
    """A participant as platforms are told; `name` only where the channel shows names."""

    participant_id: str
    user_id: NotRequired[str | None]
    purpose: Purpose
    name: NotRequired[str | None]


class ActionDisconnectedData(TypedDict):
    """Remove a participant, then report `action.done`."""

    action_id: str
    participant_id: NotRequired[str]
    participant: ActionParticipant
    disconnect_type: DisconnectType


class ActionConnectedData(TypedDict):
    """Add a participant, then report `action.done`."""

    action_id: str
    participant_id: NotRequired[str]
    participant: ActionParticipant


class ActionSenderChangedData(TypedDict):
    """Show another name to the customer, then report `action.done`."""

    action_id: str
    name: str | None


class ActionEndedData(TypedDict):
    """End the conversation, then report `action.done`."""

    action_id: str
    reason: str | None


# --- answers to commands --------------------------------------------------------------------------


class Nothing(TypedDict):
    """Done; there is nothing more to say."""

    durable: NotRequired[bool]


class HelloOk(TypedDict):
    """Connected. `status`, `permissions` and `monitor_ping_ms` (supervisors) where the role has them."""

    session: str
    secret: str
    resumed: bool
    user: User
    status: NotRequired[PersonStatus]
    permissions: NotRequired[list[str]]
    heartbeat_ms: int
    monitor_ping_ms: NotRequired[int]
    server_time: int


class SubscribedOk(TypedDict):
    """The view's snapshot follows."""

    subscription: str


class MonitorOk(TypedDict):
    """The monitor is the caller's; `monitor.started` follows."""

    monitor_id: str
    lease_ms: int
    durable: NotRequired[bool]


class RevealedOk(TypedDict):
    """The message without masks, for the session that asked."""

    message: SnapshotMessage
    durable: NotRequired[bool]


class ConsequenceWrapup(TypedDict):
    """The wrap-up that a takeover asks for."""

    prompt: WrapupPrompt
    codes: list[str]
    timeout_ms: int | None


class Consequences(TypedDict):
    """What a takeover would do. `unanswered`: customer messages since the last answer."""

    removed: list[Participant]
    wrapup: ConsequenceWrapup | None
    name_visible: bool
    unanswered: int


class PreparedOk(TypedDict):
    """Confirm with both until `expires_at`."""

    takeover_id: str
    confirm_token: str
    expires_at: int
    consequences: Consequences
    durable: NotRequired[bool]


class TakenOverOk(TypedDict):
    """The caller owns the conversation."""

    participant_id: str
    owner_epoch: int
    durable: NotRequired[bool]


class MessageOk(TypedDict):
    """The message is in the transcript."""

    message_id: str
    durable: NotRequired[bool]


class StartedOk(TypedDict):
    """The customer's conversation is there."""

    conversation_id: NotRequired[str]
    durable: NotRequired[bool]


class EventOk(TypedDict):
    """The result of a pushed event: its `cursor`, where it has one."""

    status: Literal["accepted", "duplicate"]
    cursor: NotRequired[str]
    durable: NotRequired[bool]


class ErrorBody(TypedDict):
    """A refusal. `code` is stable, `message` is for a person, `details` depends on the code."""

    code: str
    message: str
    retryable: bool
    details: dict[str, Any]


# --- HTTP -----------------------------------------------------------------------------------------


class ErrorAnswer(TypedDict):
    """Every error over HTTP."""

    error: ErrorBody


class EventResult(TypedDict):
    """What became of one event; `id` is null where it couldn't be read."""

    id: str | None
    status: Literal["accepted", "duplicate", "refused"]
    cursor: NotRequired[str]
    error: NotRequired[ErrorBody]


class EventResults(TypedDict):
    """One result per event, in their order."""

    results: list[EventResult]


class TicketAnswer(TypedDict):
    """A single-use token for a browser's hello."""

    ticket: str
    expires_at: int


class SignedInUser(TypedDict):
    """Whoever has signed in with a browser."""

    id: str
    name: str


class SessionAnswer(TypedDict):
    """A browser's session; `user` is null, and nothing else is there, where nobody has signed in."""

    user: SignedInUser | None
    role: NotRequired[str]
    session: NotRequired[str]
    expires_at: NotRequired[int]


class SignOutAnswer(TypedDict):
    """Where the browser ends its session at the identity provider; null where it needn't or can't."""

    redirect: str | None


class RevocationRequest(TypedDict):
    """Whom, or which token, to cut off: exactly one of both."""

    sub: NotRequired[str]
    jti: NotRequired[str]


class OutboxAction(TypedDict):
    """
    An action that waits for its provider, or was given up; nothing of what it says. Times are Unix milliseconds.

    `tries` made so far, `reason` of the last one; `next_at` and how many wait `behind` it (waiting), `failed_at` (dead).
    """

    state: Literal["waiting", "dead"]
    id: str
    conversation_id: str
    connector: str
    type: str
    at: int
    tries: int
    reason: str
    next_at: int | None
    failed_at: int | None
    behind: int


class OutboxList(TypedDict):
    """Actions of the organization's connectors; `more`: there are more than were asked for."""

    actions: list[OutboxAction]
    more: bool


class ErasureRequest(TypedDict):
    """Whose conversations to erase: the customer's id, as platforms give it."""

    customer_id: str


class ErasureAnswer(TypedDict):
    """How far an erasure is: `conversations` were found, `erased` of them are gone. Times in Unix ms."""

    erasure_id: str
    state: Literal["running", "done"]
    conversations: int
    erased: int
    asked_at: int
    done_at: int | None
    files_rewritten: bool


class ConversationList(TypedDict):
    """A page of conversations; `cursor` is null at the end."""

    conversations: list[InteractionRow]
    cursor: str | None


class Metrics(TypedDict):
    """Figures of a conversation; there may be more."""

    duration_ms: int
    messages: int
    n_monitor: int
    monitoring_ms: int
    n_takeover: int


PastMonitor = TypedDict(
    "PastMonitor", {"user_id": str, "name": str, "from": int, "to": int | None, "reason": MonitorEnd | None}
)
PastMonitor.__doc__ = "Who monitored from when to when, and why it ended (null: it is running)."


class ConversationDetail(TypedDict):
    """A conversation afterwards, or while it runs."""

    conversation: InteractionRow
    participants: list[dict[str, Any]]
    metrics: Metrics
    monitors: list[PastMonitor]
    takeovers: list[dict[str, Any]]
    wrapups: list[dict[str, Any]]


class TranscriptEntry(TypedDict):
    """A message or a mark; the other fields are those of the event."""

    kind: Literal["message", "takeover", "transfer"]
    at: int
    offset: int
    message_id: NotRequired[str]
    participant_id: NotRequired[str | None]
    purpose: NotRequired[Purpose]
    text: NotRequired[str]
    attachments: NotRequired[list[AttachmentRef]]
    status: NotRequired[ReceiptStatus]
    reason: NotRequired[str | None]
    takeover_id: NotRequired[str]
    queue: NotRequired[str]


class Transcript(TypedDict):
    """Entries by offset; older ones with `before` set to the first's offset."""

    entries: list[TranscriptEntry]


class FileKept(TypedDict):
    """A file that was uploaded; `url`, `name` and `mime` are the attachment to send."""

    file_id: str
    url: str
    name: str
    mime: str
    bytes: int


class FileLimits(TypedDict):
    """What may be uploaded; `types` has the endings of names by media type."""

    bytes_max: int
    files_per_conversation: int
    types: dict[str, list[str]]


class FileLink(TypedDict):
    """An address that opens a file until a time."""

    url: str
    expires_at: int


class Segment(TypedDict):
    """A part of a conversation's time. `kind` is `interact`, `monitoring`, `wrapup` or another."""

    kind: str
    participant_id: str | None
    user: NotRequired[PersonRef | None]
    start: int
    end: int | None
    disconnect_type: NotRequired[DisconnectType | None]


class Timeline(TypedDict):
    """Segments by start."""

    segments: list[Segment]


# --- which of them goes where ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventShape:
    """An event as an endpoint gets it; `cursor`: it is of the transcript and has a cursor."""

    data: Any
    conversation: bool = True
    cursor: bool = False


_COMMON = {
    "ping": EventShape(None, conversation=False),
    "closing": EventShape(ClosingData, conversation=False),
}
_TRANSCRIPT = {
    "message.created": EventShape(MessageBody, cursor=True),
    "message.updated": EventShape(MessageBody, cursor=True),
    "message.receipt": EventShape(MessageReceiptData, cursor=True),
    "panel.updated": EventShape(PanelUpdatedData, cursor=True),
    "participant.connected": EventShape(ParticipantConnectedData, cursor=True),
    "participant.disconnected": EventShape(ParticipantDisconnectedData, cursor=True),
    "conversation.transferred": EventShape(ConversationTransferredData, cursor=True),
    "conversation.ended": EventShape(ConversationEndedData, cursor=True),
}
_PEOPLE = _COMMON | {
    "stream.reset": EventShape(StreamResetData),
    "view.snapshot": EventShape(ViewSnapshotData, conversation=False),
    "view.changed": EventShape(ViewChangedData, conversation=False),
    "conversation.snapshot": EventShape(Snapshot),
    "typing": EventShape(TypingShown),
    "wrapup.requested": EventShape(WrapupRequestedData),
    "wrapup.completed": EventShape(WrapupCompletedData),
    "wrapup.timed_out": EventShape(WrapupTimedOutData),
    "takeover.notified": EventShape(TakeoverNotifiedData),
}

ENDPOINT_EVENTS: MappingProxyType[str, dict[str, EventShape]] = MappingProxyType(
    {
        "supervisor": _PEOPLE
        | _TRANSCRIPT
        | {
            "monitor.started": EventShape(MonitorStartedData),
            "monitor.ended": EventShape(MonitorEndedData),
            "takeover.completed": EventShape(TakeoverCompletedData, cursor=True),
        },
        "agent": _PEOPLE | _TRANSCRIPT,
        "connector": _COMMON
        | {
            "outbound.message": EventShape(OutboundMessageData),
            "participant.disconnected": EventShape(ActionDisconnectedData),
            "participant.connected": EventShape(ActionConnectedData),
            "sender.changed": EventShape(ActionSenderChangedData),
            "conversation.ended": EventShape(ActionEndedData),
        },
        "customer": _COMMON
        | {
            "stream.reset": EventShape(StreamResetData),
            "conversation.snapshot": EventShape(CustomerSnapshot),
            "message.created": EventShape(MessageBody, cursor=True),
            "message.updated": EventShape(MessageBody, cursor=True),
            "message.receipt": EventShape(MessageReceiptData, cursor=True),
            "typing": EventShape(TypingShown),
            "sender.changed": EventShape(SenderChangedData),
            "conversation.ended": EventShape(CustomerEndedData, cursor=True),
        },
    }
)

# What `ok` holds, by command; every other command that is answered has `Nothing`.
OK_SHAPES: MappingProxyType[str, Any] = MappingProxyType(
    {
        "hello": HelloOk,
        "view.subscribe": SubscribedOk,
        "monitor.start": MonitorOk,
        "message.reveal": RevealedOk,
        "takeover.prepare": PreparedOk,
        "takeover.confirm": TakenOverOk,
        "message.send": MessageOk,
        "conversation.start": StartedOk,
        "event": EventOk,
    }
)
