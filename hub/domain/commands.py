"""
What somebody wants of a conversation: imperatives that may be refused, each with exactly one handler in `decide`.

Ids and secrets come from outside, made by the caller; `session` is the asker's session.
"""

from dataclasses import dataclass

from hub.domain.conversation import Participant
from hub.domain.grants import Person


@dataclass(frozen=True, slots=True)
class StartConversation:
    """A platform (or the web messenger, `connector` empty) opens a conversation; `panels` are (name, JSON text)."""

    org: str
    conversation_id: str
    connector: str
    channel: str
    queue: str
    division: str
    subject: str | None
    customer_id: str
    customer_name: str
    customer_participant: str
    at: int
    panels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectParticipant:
    """A platform brings an agent or a bot in; `participant.since` is the event's own time."""

    connector: str
    participant: Participant


@dataclass(frozen=True, slots=True)
class DisconnectParticipant:
    """A platform takes a participant out."""

    connector: str
    participant_id: str
    disconnect_type: str
    at: int


@dataclass(frozen=True, slots=True)
class TransferConversation:
    """A platform moves the conversation to another queue."""

    connector: str
    queue: str
    division: str
    at: int


@dataclass(frozen=True, slots=True)
class EndByPlatform:
    """The platform says that the conversation is over."""

    connector: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class EndConversation:
    """Its owner, or its customer, ends it."""

    person: Person


@dataclass(frozen=True, slots=True)
class EndIdle:
    """Nothing has happened for too long."""


@dataclass(frozen=True, slots=True)
class EndErased:
    """The customer is to be erased: it ends, and nobody owes anything any more."""


@dataclass(frozen=True, slots=True)
class StartMonitor:
    """`status` is the asker's own; `lease_end` what a granted lease would run to."""

    person: Person
    status: str
    session: str
    participant_id: str | None
    monitor_id: str
    lease_end: int


@dataclass(frozen=True, slots=True)
class StopMonitor:
    """The holder ends it, for all sessions."""

    person: Person


@dataclass(frozen=True, slots=True)
class ReleaseMonitor:
    """Somebody with the right to it ends another's monitor."""

    person: Person
    reason: str


@dataclass(frozen=True, slots=True)
class RevealMessage:
    """Who watches through this session wants to read one message without masks; `reason` is for the ledger."""

    person: Person
    session: str
    message_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeaveMonitor:
    """
    A session ended on purpose (closed with 1000), or this one's own right has gone (`out_of_sight`).

    `revoked` where the person's right has gone, and so that of all their sessions.
    """

    user_id: str
    session: str
    revoked: bool = False
    out_of_sight: bool = False


@dataclass(frozen=True, slots=True)
class KeepMonitor:
    """A session that was resumed with a newer token goes on watching; without effect where it watches no more."""

    person: Person
    session: str
    monitor_id: str
    lease_end: int


@dataclass(frozen=True, slots=True)
class ExpireMonitor:
    """The lease may be over."""


@dataclass(frozen=True, slots=True)
class PrepareTakeover:
    """The holder asks what a takeover would do; `token_hash` is of the confirmation token."""

    person: Person
    session: str
    takeover_id: str
    token_hash: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class ConfirmTakeover:
    """The holder does it; `participant_id` is for the supervisor's own part."""

    person: Person
    session: str
    takeover_id: str
    token_hash: str
    participant_id: str


@dataclass(frozen=True, slots=True)
class CancelTakeover:
    """The holder won't do it."""

    person: Person
    takeover_id: str


@dataclass(frozen=True, slots=True)
class AcknowledgeTakeover:
    """A removed participant has seen the notice."""

    person: Person
    takeover_id: str


@dataclass(frozen=True, slots=True)
class SubmitWrapup:
    """Who owes a wrap-up hands it in."""

    person: Person
    code: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class TimeOutWrapups:
    """Wrap-ups may be due."""


Command = (
    StartConversation
    | ConnectParticipant
    | DisconnectParticipant
    | TransferConversation
    | EndByPlatform
    | EndConversation
    | EndIdle
    | EndErased
    | StartMonitor
    | StopMonitor
    | ReleaseMonitor
    | LeaveMonitor
    | KeepMonitor
    | RevealMessage
    | ExpireMonitor
    | PrepareTakeover
    | ConfirmTakeover
    | CancelTakeover
    | AcknowledgeTakeover
    | SubmitWrapup
    | TimeOutWrapups
)
