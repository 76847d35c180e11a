"""
What the service needs of a store, with the laws that every store keeps.

Laws: `commit` writes everything or nothing, and only while the versions that it was decided on still stand. `append`
refuses, knows a repeat or writes. What either wrote is in the log and on its channel in one step. Positions of a log rise
by one. An answer that did not come is `outcome: unknown`; one that was never asked is `none`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hub.domain.conversation import Situation
from hub.domain.ledger import Head


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    One conversation as the store has it, the situation still without the configuration's part.

    `version` and `monitor_version` are compared whole and mean nothing else; empty where there is none yet. `drafts` are
    by participant id. `fields` are the raw ones, for whoever writes the difference. `ledger` is the last line of each of
    its chains in the ledger, `stored` the state's own bytes, which the next state
    is written over: a newer node may have put more into it.
    """

    situation: Situation
    version: str = ""
    monitor_version: str = ""
    epoch: str = ""
    top: int = 0
    tag: str = "0"
    customer_top: int = 0
    drafts: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, Head] = field(default_factory=dict)
    stored: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """What makes a command idempotent: who asked under which `req`, and a hash of what was asked."""

    org: str
    role: str
    user_id: str
    req: str
    digest: str


@dataclass(frozen=True, slots=True)
class Commit:
    """
    One decided transition, ready to be written; all bytes are JSON on one line.

    `monitor_version` None: neither read nor written. `new_version`, `new_monitor_version` None: not moved. `index` is
    `live`, `closed` or None (stays). `lease_due`: refuse if the lease still runs. `due`: (kind, at) to set, `due_drop`
    kinds to take out. `transcript`: (audience, body). `sets` and `drops` are fields of the conversation's record.

    `ledger` are the lines, whole; the place of the last one becomes the record's field `<ledger_field>.at`. `ledger_name` is
    what they call the conversation, given with the first line of a chain: the store keeps whose name it is.
    """

    org: str
    conversation_id: str
    connector: str
    version: str
    monitor_version: str | None
    new_version: str | None
    new_monitor_version: str | None
    now_ms: int
    index: str | None
    lease_due: bool
    row: bytes | None
    extra: bytes
    awaiting: str
    sets: Sequence[tuple[str, bytes]]
    drops: Sequence[str]
    transcript: Sequence[tuple[str, bytes]]
    actions: Sequence[bytes]
    segments: Sequence[bytes]
    due: Sequence[tuple[str, int]]
    due_drop: Sequence[str]
    panels: Sequence[tuple[str, bytes]]
    seen: Sequence[bytes]
    ledger: Sequence[bytes]
    request: Request | None = None
    answer: bytes = b""
    ledger_field: str = ""
    ledger_name: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """Written; `top` and `tag` are the transcript's position now."""

    top: int
    tag: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody was faster; nothing was written. `loaded` is what to decide on now."""

    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same request was carried out before; `digest` and `answer` are the first one's."""

    digest: str
    answer: bytes


class NotDue:
    """The lease still runs; nothing was written."""


@dataclass(frozen=True, slots=True)
class Append:
    """
    One message, receipt, panel, sign of typing or draft (`kind`).

    `connector` None: the hub itself asks. `participant` `@` is the customer. `owner`: `<participant> <epoch>` that must
    own, or None. The body is `head`, who acts (put in by the store), `tail`. `seen` are hashes that make a repeat.
    """

    kind: str
    org: str
    conversation_id: str
    connector: str | None
    participant: str
    owner: str | None
    at: int
    head: bytes
    tail: bytes
    audience: str
    seen: tuple[bytes, ...] = ()
    panel: str = ""
    content: bytes = b""
    action: bytes = b""
    action_connector: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """`outcome`: `ok`, `duplicate`, `unknown`, `ended`, `stale` (then `owner`: `<participant> <epoch>`) or `panels`."""

    outcome: str
    cursor: str | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One transcript entry as stored; `monitor_id` is who held the conversation when it was written (`-`: nobody)."""

    offset: int
    tag: str
    audience: str
    customer_offset: int
    monitor_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation, its panels (name to JSON) and its newest entries (oldest first) as of one moment."""

    loaded: Loaded
    panels: Mapping[str, bytes]
    entries: Sequence[StoredEntry]


class ConversationStore(Protocol):
    """What commands need; the hub's store has more (sessions, people, actions, history)."""

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """The conversation as of now. Raises Refused `store_unavailable`."""

    async def commit(self, commit: Commit, *, lane: str = "commit") -> Committed | Conflict | Repeated | NotDue:
        """One script. Raises Refused `store_unavailable` with `outcome`."""

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """
        One script each, in order, in one pipeline; they have left before this first waits.

        Raises Refused `store_unavailable` with `outcome`.
        """

    def durable(self, org: str, conversation_id: str | None) -> bool:
        """False where what was written there (None: anywhere) and answered isn't on as many replicas as wanted (yet)."""

    async def seen(self, org: str, conversation_id: str, hashes: Sequence[bytes]) -> list[bool]:
        """Which of these ids the conversation has taken in."""

    async def committed(self, org: str, conversation_id: str, request: Request) -> Repeated | None:
        """What the same request was answered when it was committed to this conversation, or None."""

    async def point(self, id: str, org: str, conversation_id: str, ttl_ms: int) -> None:
        """Remember the conversation that an id of ours belongs to."""
