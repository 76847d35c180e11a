"""What has happened in a conversation: facts in the past tense, each with the time `at` (Unix ms)."""

from dataclasses import dataclass

from hub.domain.conversation import Conversation, Monitor, Notice, Participant, Prepared, Wrapup


@dataclass(frozen=True, slots=True)
class ConversationStarted:
    """A new conversation; it has its customer and nobody else. `panels` are (name, JSON text) pairs."""

    at: int
    conversation: Conversation
    panels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ParticipantConnected:
    """An agent or a bot has come."""

    at: int
    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantDisconnected:
    """A participant has gone, otherwise than by a takeover or the end."""

    at: int
    participant: Participant
    disconnect_type: str


@dataclass(frozen=True, slots=True)
class ConversationTransferred:
    """The conversation went to another queue; an owning supervisor's part ends by its own event."""

    at: int
    queue: str
    division: str
    from_queue: str


@dataclass(frozen=True, slots=True)
class ConversationEnded:
    """Everybody's part is over. `by_user` is null where the platform, the customer or inactivity ended it."""

    at: int
    reason: str
    by_user: str | None
    by_platform: bool


@dataclass(frozen=True, slots=True)
class WrapupRequested:
    """Somebody owes a wrap-up from now on."""

    at: int
    wrapup: Wrapup


@dataclass(frozen=True, slots=True)
class WrapupCompleted:
    """It was submitted with a code of the queue's."""

    at: int
    wrapup: Wrapup
    code: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class WrapupTimedOut:
    """It ended by itself."""

    at: int
    wrapup: Wrapup


@dataclass(frozen=True, slots=True)
class MonitorStarted:
    """A supervisor watches from now on; nobody in the conversation is told."""

    at: int
    monitor: Monitor


@dataclass(frozen=True, slots=True)
class MonitorJoined:
    """Another session of the holder watches, too, or one goes on with a newer token; the rights last until then."""

    at: int
    monitor_id: str
    session: str
    lease_end: int
    until: int = 0


@dataclass(frozen=True, slots=True)
class MonitorLeft:
    """One session of several has gone; the monitor goes on."""

    at: int
    monitor_id: str
    session: str


@dataclass(frozen=True, slots=True)
class MonitorEnded:
    """
    It is over for all its sessions; `by` (user id, name) is null where nobody did it.

    `why` is the sentence that a release was given.
    """

    at: int
    monitor: Monitor
    reason: str
    by: tuple[str, str] | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class MessageRevealed:
    """A monitor was shown one message without masks, and said why; nothing else comes of it."""

    at: int
    monitor_id: str
    user_id: str
    message_id: str
    why: str


@dataclass(frozen=True, slots=True)
class TakeoverPrepared:
    """A takeover waits for its confirmation."""

    at: int
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class TakeoverCancelled:
    """It won't be confirmed."""

    at: int
    takeover_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Everyone who answered is removed at once and the supervisor owns; one fact, so that nothing is in between."""

    at: int
    takeover_id: str
    supervisor: Participant
    removed: tuple[Participant, ...]
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class TakeoverAcknowledged:
    """One removed participant has seen the notice."""

    at: int
    takeover_id: str
    user_id: str


MonitorEvent = MonitorStarted | MonitorJoined | MonitorLeft | MonitorEnded | MessageRevealed
PreparedEvent = TakeoverPrepared | TakeoverCancelled
Event = (
    ConversationStarted
    | ParticipantConnected
    | ParticipantDisconnected
    | ConversationTransferred
    | ConversationEnded
    | WrapupRequested
    | WrapupCompleted
    | WrapupTimedOut
    | TakenOver
    | TakeoverAcknowledged
    | MonitorEvent
    | PreparedEvent
)
