"""
The state of one conversation: what decisions need, and no more.

`Conversation` changes by its own events; `Monitor` lives beside it, because starting and stopping one must leave the
conversation's version alone (an agent's command must not even be decided again on account of a monitor); `Counters` are
written with each message and are therefore newer than the other two. A `Situation` holds all three as of one moment.
"""

from dataclasses import dataclass, field, replace

IN_PROGRESS = "active"
CHANNELS = ("web", "open", "sms")
STATUSES = ("available", "busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline")
PAST_MAX = 64  # participants remembered after they left; older ones are in the closed segments only
TAKEOVERS_MAX = 8  # completed takeovers remembered, so that a repeated confirmation is told so


@dataclass(frozen=True, slots=True)
class Participant:
    """
    Someone in a conversation: purpose `customer`, `agent`, `bot` or `supervisor`.

    `since` is when they connected (Unix ms).
    """

    participant_id: str
    purpose: str
    user_id: str
    name: str
    since: int


@dataclass(frozen=True, slots=True)
class WrapupRule:
    """
    What a queue asks for after a part in a conversation: `prompt` is `none`, `optional`, `mandatory` or `timeout`.

    `timeout_ms` is what people are told; `due_ms` when an open one ends by itself.
    """

    prompt: str = "none"
    codes: tuple[str, ...] = ()
    timeout_ms: int = 30_000
    due_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Wrapup:
    """An open wrap-up: asked of one participant at `asked_at`, over by itself at `due_at` (Unix ms)."""

    participant_id: str
    user_id: str
    name: str
    prompt: str
    codes: tuple[str, ...]
    timeout_ms: int
    asked_at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A takeover that one removed participant has not acknowledged yet."""

    takeover_id: str
    user_id: str
    participant_id: str
    supervisor_name: str
    at: int
    prompt: str
    codes: tuple[str, ...]
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """
    One conversation. `connected` has agents, bots and owning supervisors in the order in which they came, never the
    customer; `past` those who left. `owner` is the participant who answers the customer, `last_owner` the one who did
    so last; `owner_epoch` counts changes of owner. `ended_at` is null while it runs.
    """

    org: str
    conversation_id: str
    connector: str
    channel: str
    queue: str
    division: str
    subject: str | None
    customer_id: str
    customer: Participant
    started_at: int
    connected: tuple[Participant, ...] = ()
    past: tuple[Participant, ...] = ()
    owner: str | None = None
    owner_epoch: int = 0
    last_owner: str | None = None
    queued_since: int | None = None
    taken_over: bool = False
    takeovers: tuple[str, ...] = ()
    wrapups: tuple[Wrapup, ...] = ()
    notices: tuple[Notice, ...] = ()
    ended_at: int | None = None
    end_reason: str | None = None
    at_end: tuple[Participant, ...] = ()

    @property
    def state(self) -> str:
        """`queued`, `active`, `wrapup` (ended, its last owner owes one) or `ended`."""
        if self.ended_at is None:
            return "queued" if self.owner is None else IN_PROGRESS
        owes = any(wrapup.participant_id == self.last_owner for wrapup in self.wrapups)
        return "wrapup" if owes else "ended"

    @property
    def settled(self) -> bool:
        """True where nothing is open any more: ended, no wrap-up owed, no notice unacknowledged."""
        return self.ended_at is not None and not self.wrapups and not self.notices

    def participant(self, participant_id: str | None) -> Participant | None:
        """The connected participant of that id, the customer included."""
        if participant_id == self.customer.participant_id:
            return self.customer
        return next((one for one in self.connected if one.participant_id == participant_id), None)

    def of_user(self, user_id: str, purpose: str) -> Participant | None:
        """The connected participant that this user is with that purpose; the owner first where there are several."""
        mine = [one for one in self.connected if one.user_id == user_id and one.purpose == purpose]
        return next((one for one in mine if one.participant_id == self.owner), mine[0] if mine else None)

    def takes_part(self, user_id: str) -> bool:
        """True where the user is a participant (or was one at the end), or still owes or is owed something."""
        return any(one.user_id == user_id for one in (*self.connected, *self.at_end)) or any(
            user == user_id for user in (*(one.user_id for one in self.wrapups), *(one.user_id for one in self.notices))
        )

    def knew(self, user_id: str) -> bool:
        """True where the user takes part or ever did."""
        return self.takes_part(user_id) or any(one.user_id == user_id for one in self.past)


@dataclass(frozen=True, slots=True)
class MonitorSession:
    """One session that has joined a monitor; its lease ends at `lease_end` (store time, Unix ms)."""

    session: str
    lease_end: int


@dataclass(frozen=True, slots=True)
class Monitor:
    """
    One supervisor silently watching one participant.

    `monitor_id` is random and new for each start: it is the fence. `queues` and `divisions` are the rights it was
    started with, so that a transfer out of them ends it. The lease is the longest of its sessions', `until` (Unix ms) the
    end of the last of their tokens; 0: one of them has none. `first_shown` is the offset of the oldest entry that it was
    shown (for the ledger), None while that isn't known.
    """

    monitor_id: str
    user_id: str
    name: str
    participant_id: str
    since: int
    queues: tuple[str, ...]
    divisions: tuple[str, ...]
    sessions: tuple[MonitorSession, ...] = ()
    first_shown: int | None = None
    until: int = 0

    def alive(self, now_ms: int) -> bool:
        """True while the lease of at least one session runs."""
        return any(one.lease_end > now_ms for one in self.sessions)

    def joined(self, session: str) -> MonitorSession | None:
        """That session's part of it, or None."""
        return next((one for one in self.sessions if one.session == session), None)

    def with_session(self, session: str, lease_end: int, until: int = 0) -> "Monitor":
        """The same with the session in it, its lease ending then, and the rights that long."""
        others = tuple(one for one in self.sessions if one.session != session)
        return replace(self, sessions=(*others, MonitorSession(session, lease_end)), until=until)

    def until_with(self, expires_at: int) -> int:
        """`until` where somebody watches with a token that expires then (0: never), too."""
        return max(self.until, expires_at) if self.until and expires_at else 0

    def without_session(self, session: str) -> "Monitor":
        """The same without the session."""
        return replace(self, sessions=tuple(one for one in self.sessions if one.session != session))


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of messages: `unanswered` are the customer's since the last answer; `awaiting` is who has to speak."""

    messages: int = 0
    awaiting: str | None = None
    awaiting_since: int | None = None
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A takeover that waits for its confirmation; one per conversation, a second one voids the first."""

    takeover_id: str
    user_id: str
    token_hash: str
    monitor_id: str
    owner_epoch: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision about one conversation may look at, as of `now_ms` (store time)."""

    now_ms: int
    conversation: Conversation | None = None
    monitor: Monitor | None = None
    counters: Counters = field(default_factory=Counters)
    prepared: Prepared | None = None
    wrapup_rule: WrapupRule = field(default_factory=WrapupRule)
    name_visible: bool = False

    @property
    def existing(self) -> Conversation:
        """The conversation, which the caller has made sure exists."""
        assert self.conversation is not None
        return self.conversation
