"""
A node's replica of one organization's board: every conversation's row, kept as bytes beside a thin index.

    log entry ──► Board.apply ──► Change(old, new) ──► views.mark            b"R" row \n x      a whole row
    snapshot row ──► Board.load                                              b"P" patch         counters only

What costs memory is held once: the row stays the bytes that screens get, what the hub alone knows of it (`x`) is packed
into about a hundred bytes and decoded when somebody asks, repeated words are interned, and nothing here is visited by
the garbage collector row by row. Everything is synchronous and free of I/O.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from sys import intern
from typing import Any

import msgspec
import orjson
from msgspec import Struct

ENDED_MAX = 20_000
CONNECTED, MONITORS, NOTICED, WRAPS_UP = 1, 2, 4, 8  # bits: why a conversation stands in a person's index

# --- what never leaves the hub ------------------------------------------------------------------------------------


class MonitorRef(Struct, frozen=True, gc=False):
    """Who monitors, under which fence, at which participant's side."""

    monitor_id: str
    user_id: str
    participant_id: str


class MonitorEnd(Struct, frozen=True, gc=False):
    """A monitor's end; `by` is `{"user_id", "name"}` or None."""

    monitor_id: str
    user_id: str
    reason: str
    by: dict[str, Any] | None
    duration_ms: int


class Participation(Struct, frozen=True, gc=False):
    """A connected agent, bot or owning supervisor; `since` in Unix milliseconds."""

    participant_id: str
    user_id: str
    purpose: str
    since: int


class Notice(Struct, frozen=True, gc=False):
    """A takeover that this person has not acknowledged."""

    takeover_id: str
    user_id: str


class Wrapup(Struct, frozen=True, gc=False):
    """An open wrap-up; `due_at` in Unix milliseconds."""

    participant_id: str
    user_id: str
    prompt: str
    codes: tuple[str, ...]
    timeout_ms: int | None
    due_at: int | None


class WrapupEnd(Struct, frozen=True, gc=False):
    """A wrap-up's end: submitted with `code`, or timed out."""

    participant_id: str
    user_id: str
    code: str | None
    timed_out: bool


class Hidden(Struct, frozen=True, gc=False):
    """
    What the hub knows about a row and shows to nobody as such; decodes from JSON, other names are ignored.

    `monitor_ended` and `wrapup_ended` belong to one change: they are empty in an entry that a snapshot or a patch made.
    """

    people: tuple[Participation, ...] = ()
    monitor: MonitorRef | None = None
    queued_since: int | None = None
    ended_at: int | None = None
    notices: tuple[Notice, ...] = ()
    wrapups: tuple[Wrapup, ...] = ()
    monitor_ended: MonitorEnd | None = None
    wrapup_ended: tuple[WrapupEnd, ...] = ()

    def of_change(self) -> bool:
        """True where something in here belongs to one change only."""
        return self.monitor_ended is not None or bool(self.wrapup_ended)

    def lasting(self) -> "Hidden":
        """The same without what belongs to one change."""
        return msgspec.structs.replace(self, monitor_ended=None, wrapup_ended=())


# The same as arrays: how it is kept, 40 bytes where nothing special goes on. Same fields, in the same order.


class _MonitorRef(MonitorRef, frozen=True, array_like=True): ...


class _MonitorEnd(MonitorEnd, frozen=True, array_like=True): ...


class _Participation(Participation, frozen=True, array_like=True): ...


class _Notice(Notice, frozen=True, array_like=True): ...


class _Wrapup(Wrapup, frozen=True, array_like=True): ...


class _WrapupEnd(WrapupEnd, frozen=True, array_like=True): ...


class _Packed(Hidden, frozen=True, array_like=True):
    people: tuple[_Participation, ...] = ()
    monitor: _MonitorRef | None = None
    notices: tuple[_Notice, ...] = ()
    wrapups: tuple[_Wrapup, ...] = ()
    monitor_ended: _MonitorEnd | None = None
    wrapup_ended: tuple[_WrapupEnd, ...] = ()


_decode_hidden: Callable[[bytes], Hidden] = msgspec.json.Decoder(Hidden).decode
_encode_packed = msgspec.msgpack.Encoder().encode
_decode_packed: Callable[[bytes], Hidden] = msgspec.msgpack.Decoder(_Packed).decode


def _pack(x: Hidden) -> bytes:
    return compact(_encode_packed(msgspec.convert(x, _Packed, from_attributes=True)))


def compact(encoded: bytes) -> bytes:
    """
    A copy for keeping.

    An encoder's bytes begin as a big buffer that is cut to size; kept by the ten thousands, the cut-off ends are too
    scattered to be used again (8,500 bytes a row instead of 1,000).
    """
    return bytes(memoryview(encoded))


def roles_of(x: Hidden) -> dict[str, int]:
    """Why each person has to do with the conversation: user id to bits."""
    roles: dict[str, int] = {}
    for person in x.people:
        roles[person.user_id] = CONNECTED
    if x.monitor is not None:
        roles[x.monitor.user_id] = roles.get(x.monitor.user_id, 0) | MONITORS
    for notice in x.notices:
        roles[notice.user_id] = roles.get(notice.user_id, 0) | NOTICED
    for wrapup in x.wrapups:
        roles[wrapup.user_id] = roles.get(wrapup.user_id, 0) | WRAPS_UP
    return roles


# --- rows ---------------------------------------------------------------------------------------------------------


class _Loose(Struct, gc=False):
    """Base of what is decoded and soon forgotten; names that it doesn't know are ignored."""


class _Agent(_Loose):
    participant_id: str
    user_id: str
    purpose: str
    name: str | None = None


class _Head(_Loose):
    """What of a row is kept decoded."""

    conversation_id: str
    channel: str
    queue: str
    division: str
    state: str
    started_at: int
    agents: tuple[_Agent, ...] = ()
    owner: str | None = None
    awaiting: str | None = None
    awaiting_since: int | None = None
    messages: int = 0


class _Customer(_Loose):
    name: str | None = None


class _Holder(_Loose):
    since: int


class _Words(_Loose):
    """What of a row is looked at rarely."""

    conversation_id: str
    subject: str | None = None
    customer: _Customer | None = None
    agents: tuple[_Agent, ...] = ()
    owner: str | None = None
    monitor: _Holder | None = None


class _Patch(_Loose):
    conversation_id: str
    awaiting: str | None
    awaiting_since: int | None
    messages: int


_decode_head: Callable[[bytes], _Head] = msgspec.json.Decoder(_Head).decode
_decode_words: Callable[[bytes], _Words] = msgspec.json.Decoder(_Words).decode
_decode_patch: Callable[[bytes | memoryview], _Patch] = msgspec.json.Decoder(_Patch).decode


class Entry(Struct, frozen=True, eq=False, gc=False):
    """
    One conversation on the board: the bytes that screens get, and what is sorted and filtered by.

    `row` carries the current counters; `shown` is the same as views show and search it (the same object where nothing is
    masked); `hidden` is the packed `x`; `row_at` is the board offset this is as of; times
    are Unix milliseconds. `owner_user` is the owner's user id, `supervised` says that the owner is a supervisor.
    Replaced as a whole by each change, so an entry that somebody holds never changes.
    """

    conversation_id: str
    p: int
    row_at: int
    row: bytes
    hidden: bytes
    queue: str
    division: str
    channel: str
    state: str
    awaiting: str | None
    awaiting_since: int | None
    started_at: int
    messages: int
    owner_user: str | None
    supervised: bool
    shown: bytes

    @property
    def x(self) -> Hidden:
        """What never leaves the hub, decoded anew by each access (half a microsecond)."""
        return _decode_packed(self.hidden)

    @property
    def queued_since(self) -> int | None:
        """Since when it waits; None where it doesn't."""
        return self.x.queued_since

    @property
    def ended_at(self) -> int | None:
        """When it ended; None while it runs."""
        return self.x.ended_at

    @property
    def owner(self) -> str | None:
        """The owner's participant id."""
        return _decode_words(self.row).owner

    @property
    def agents(self) -> tuple[str, ...]:
        """User ids of the row's agents, in its order."""
        return tuple([agent.user_id for agent in _decode_words(self.row).agents])

    @property
    def monitor_since(self) -> int | None:
        """When the running monitor began, as the row states it."""
        holder = _decode_words(self.row).monitor
        return holder.since if holder else None

    @property
    def text(self) -> str:
        """What a search looks in, case folded: subject, customer, agents' names, id; one line each."""
        return _searched(self.row)

    @property
    def shown_text(self) -> str:
        """The same of what is shown: a search must not find what is masked."""
        return _searched(self.shown)

    def away_row(self) -> bytes:
        """The row as shown, with `owner_away` true (it is always written as false)."""
        # A string of the row can't contain this: inside one, each quote has a backslash before it.
        if b'"owner_away":false' in self.shown:
            return self.shown.replace(b'"owner_away":false', b'"owner_away":true', 1)
        fields = orjson.loads(self.shown)
        fields["owner_away"] = True
        return compact(orjson.dumps(fields))


class Change(Struct, frozen=True, eq=False, gc=False):
    """One applied entry: what the conversation was (None: new to this board) and is."""

    old: Entry | None
    new: Entry


def _searched(row: bytes) -> str:
    words = _decode_words(row)
    found = [words.subject, words.customer.name if words.customer else None, words.conversation_id]
    found += [agent.name for agent in words.agents]
    return "\n".join([word for word in found if word]).casefold()


def _as_it_is(row: bytes) -> bytes:
    return row


def _with_counters(row: bytes, awaiting: str | None, awaiting_since: int | None, messages: int) -> bytes:
    fields = orjson.loads(row)
    fields["awaiting"], fields["awaiting_since"], fields["messages"] = awaiting, awaiting_since, messages
    return compact(orjson.dumps(fields))


def _word(value: str | None) -> str | None:
    return intern(value) if value else None


def _entry(p: int, row_at: int, row: bytes, head: _Head, x: Hidden, conversation_id: str, shown: bytes) -> Entry:
    owner = None
    for agent in head.agents if head.owner else ():
        if agent.participant_id == head.owner:
            owner = agent
    user, purpose = (owner.user_id, owner.purpose) if owner else (None, None)
    for person in x.people if head.owner and not owner else ():
        if person.participant_id == head.owner:
            user, purpose = person.user_id, person.purpose
    return Entry(
        conversation_id,
        p,
        row_at,
        row,
        _pack(x),
        intern(head.queue),
        intern(head.division),
        intern(head.channel),
        intern(head.state),
        _word(head.awaiting),
        head.awaiting_since,
        head.started_at,
        head.messages,
        _word(user),
        purpose == "supervisor",
        shown,
    )


# --- people -------------------------------------------------------------------------------------------------------


class AgentRights(Struct, frozen=True, gc=False):
    """Queues and divisions of an agent's token; ids or `*`."""

    queues: frozenset[str]
    divisions: frozenset[str]


class PersonRecord(Struct, frozen=True, gc=False):
    """
    A person as the organization knows them.

    `status` reads `offline` where they aren't `present`; `agent` is None for who never connected with role agent.
    """

    user_id: str
    name: str
    status: str
    status_since: int | None = None
    present: bool = False
    agent: AgentRights | None = None


_decode_person: Callable[[bytes], PersonRecord] = msgspec.json.Decoder(PersonRecord).decode

# --- the board ----------------------------------------------------------------------------------------------------


class Bucket:
    """
    Conversations that run, of one queue, division and channel, by state.

    `queued` maps an id to since when it waits (None: unknown), `active` and `wrapup` hold ids. What a queue's row is
    made of is computed once after a change, for all viewers.
    """

    __slots__ = ("_ids", "_oldest", "active", "channel", "division", "queue", "queued", "wrapup")

    def __init__(self, queue: str, division: str, channel: str) -> None:
        self.queue, self.division, self.channel = queue, division, channel
        self.queued: dict[str, int | None] = {}
        self.active: dict[str, None] = {}
        self.wrapup: dict[str, None] = {}
        self._ids: bytes | None = None
        self._oldest: int | None = None

    def put(self, conversation_id: str, state: str, queued_since: int | None) -> None:
        """Add one, or give it a new time of queueing."""
        if state == "queued":
            self.queued[conversation_id] = queued_since
        elif state == "wrapup":
            self.wrapup[conversation_id] = None
        else:
            self.active[conversation_id] = None
        self._ids = None

    def remove(self, conversation_id: str, state: str) -> None:
        """Take one out of its state."""
        side: dict[str, Any] = self.queued if state == "queued" else self.wrapup if state == "wrapup" else self.active
        side.pop(conversation_id, None)
        self._ids = None

    def __len__(self) -> int:
        return len(self.queued) + len(self.active) + len(self.wrapup)

    def of_states(self, states: Iterable[str]) -> Iterator[str]:
        """Ids of those in one of the states."""
        for state in states:
            yield from self.queued if state == "queued" else self.wrapup if state == "wrapup" else self.active

    def interacting(self) -> bytes:
        """Ids of the active ones as the inside of a JSON array."""
        self._measure()
        assert self._ids is not None
        return self._ids

    def oldest(self) -> int | None:
        """The earliest time of queueing among those that wait."""
        self._measure()
        return self._oldest

    def _measure(self) -> None:
        if self._ids is None:
            self._ids = orjson.dumps(list(self.active))[1:-1]
            self._oldest = min((since for since in self.queued.values() if since is not None), default=None)


Observer = Callable[[Entry | None, Entry | None], None]
_ANSWERED = frozenset({"queued", "active"})  # states in which somebody awaits an answer


class Board:
    """
    All conversations of an organization, and its people, as this node knows them.

    Offsets are those of the 64 logs: entries of one partition must come in order, and while a partition's snapshot rows
    are loaded its live entries must wait (a patch for a conversation that isn't here yet is dropped). `observers` are
    told `(old, new)` of everything that changes by other ways than `apply`: loaded, dropped, cleared, squeezed out.
    At most `ended_max` ended conversations are kept besides those with an open notice or wrap-up.
    """

    def __init__(self, org: str, *, ended_max: int = ENDED_MAX, mask: Callable[[bytes], bytes] = _as_it_is) -> None:
        """`mask` gives a row as views show it, the same object where nothing in it is masked."""
        self.org = org
        self._mask = mask
        self.people: dict[str, PersonRecord] = {}
        self.observers: list[Observer] = []
        self.queues: dict[str, dict[tuple[str, str], Bucket]] = {}  # queue, then (division, channel)
        self.ended: dict[str, None] = {}
        self._entries: dict[str, Entry] = {}
        self._users: dict[str, dict[str, int]] = {}  # user, conversation: bits
        self._ended_max = ended_max
        self._squeezable: dict[str, int] = {}  # ended, nothing open: ended at
        self._oldest: list[tuple[int, str]] = []  # heap over the former; may hold what isn't there any more

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All by id; to look at only."""
        return self._entries

    def get(self, conversation_id: str) -> Entry | None:
        """The conversation's entry, or None."""
        return self._entries.get(conversation_id)

    def of_user(self, user_id: str) -> list[Entry]:
        """Conversations that this person is connected to, monitors, has a notice of or owes a wrap-up for."""
        ids = self._users.get(user_id, {})
        return [self._entries[conversation_id] for conversation_id, bits in ids.items() if bits]

    def connected(self, user_id: str) -> list[Entry]:
        """Conversations that this person is connected to and that haven't ended."""
        ids = self._users.get(user_id)
        if not ids:
            return []
        entries = [self._entries[conversation_id] for conversation_id, bits in ids.items() if bits & CONNECTED]
        return [entry for entry in entries if entry.state != "ended"]

    def owned_by(self, user_id: str) -> list[Entry]:
        """Conversations that this person owns."""
        entries = [self._entries[conversation_id] for conversation_id in self._users.get(user_id, ())]
        return [entry for entry in entries if entry.owner_user == user_id]

    def load(
        self,
        p: int,
        row: bytes,
        x: bytes,
        row_at: int,
        awaiting: str | None,
        awaiting_since: int | None,
        messages: int,
    ) -> Entry:
        """
        Put a snapshot's row here, with counters that may be newer than the row; returns what stands now.

        A row older than what stands here changes nothing. Loading is no change: `x.monitor_ended` and
        `x.wrapup_ended` are left out.

        Raises:
            msgspec.DecodeError: Row or `x` isn't of that form; nothing has changed.
        """
        head, hidden = _decode_head(row), _decode_hidden(x)
        old = self._entries.get(head.conversation_id)
        if old is not None and old.row_at > row_at:
            return old
        awaiting = awaiting or None
        if (head.awaiting, head.awaiting_since, head.messages) != (awaiting, awaiting_since, messages):
            row = _with_counters(row, awaiting, awaiting_since, messages)
            head.awaiting, head.awaiting_since, head.messages = awaiting, awaiting_since, messages
        hidden = hidden.lasting() if hidden.of_change() else hidden
        name = old.conversation_id if old else head.conversation_id
        entry = _entry(p, row_at, row, head, hidden, name, self._shown(row))
        self._put(old, entry, hidden)
        self._tell(old, entry)
        self._squeeze()
        return entry

    def apply(self, p: int, offset: int, body: bytes) -> Change | None:
        """
        Follow the log by one entry; None where it changes nothing here.

        Ignored are entries that the row here already includes, patches of unknown conversations, and kinds that this
        version doesn't know.

        Raises:
            msgspec.DecodeError: The body isn't of that form; nothing has changed.
        """
        kind = body[:1]
        if kind == b"R":
            return self._apply_row(p, offset, body)
        return self._apply_patch(offset, body) if kind == b"P" else None

    def _apply_row(self, p: int, offset: int, body: bytes) -> Change | None:
        end = body.index(b"\n") if b"\n" in body else len(body)
        row = body[1:end]
        head, hidden = _decode_head(row), _decode_hidden(body[end + 1 :] or b"{}")
        old = self._entries.get(head.conversation_id)
        if old is not None:
            if offset <= old.row_at:
                return None
            # Appends don't wait for commits: a patch may stand in the log before a row that was decided without it.
            # Messages are only ever added, so the row with fewer of them has the older counters.
            if head.messages < old.messages and head.started_at == old.started_at:
                head.messages = old.messages
                if head.state in _ANSWERED:
                    head.awaiting, head.awaiting_since = old.awaiting, old.awaiting_since
                row = _with_counters(row, head.awaiting, head.awaiting_since, head.messages)
        name = old.conversation_id if old else head.conversation_id
        new = _entry(p, offset, row, head, hidden, name, self._shown(row))
        self._put(old, new, hidden)
        self._squeeze()
        return Change(old, new)

    def _apply_patch(self, offset: int, body: bytes) -> Change | None:
        patch = _decode_patch(memoryview(body)[1:])
        old = self._entries.get(patch.conversation_id)
        if old is None or offset <= old.row_at:
            return None
        awaiting = _word(patch.awaiting)
        hidden = old.hidden
        if (x := old.x).of_change():
            hidden = _pack(x.lasting())
        row = _with_counters(old.row, awaiting, patch.awaiting_since, patch.messages)
        new = msgspec.structs.replace(
            old,
            row_at=offset,
            row=row,
            shown=row
            if old.shown is old.row
            else _with_counters(old.shown, awaiting, patch.awaiting_since, patch.messages),
            hidden=hidden,
            awaiting=awaiting,
            awaiting_since=patch.awaiting_since,
            messages=patch.messages,
        )
        self._entries[old.conversation_id] = new  # no index looks at counters
        return Change(old, new)

    def _shown(self, row: bytes) -> bytes:
        shown = self._mask(row)
        return row if shown is row else compact(shown)

    def apply_person(self, body: bytes) -> PersonRecord:
        """
        Put a person's record here; returns it.

        Raises:
            msgspec.DecodeError: The body isn't of that form; nothing has changed.
        """
        person = _decode_person(body)
        self.people[person.user_id] = person
        return person

    def drop(self, conversation_id: str) -> Entry | None:
        """Forget a conversation; returns what stood here."""
        old = self._entries.get(conversation_id)
        if old is not None:
            self._remove(old)
            self._tell(old, None)
        return old

    def clear_partition(self, p: int) -> int:
        """
        Forget a partition's conversations, so that it can be loaded from its beginning; returns how many.

        Where the new rows are at hand, clear and load in one go: views that see no difference then send nothing.
        """
        gone = [entry for entry in self._entries.values() if entry.p == p]
        for entry in gone:
            self._remove(entry)
            self._tell(entry, None)
        return len(gone)

    def _tell(self, old: Entry | None, new: Entry | None) -> None:
        for observer in self.observers:
            observer(old, new)

    def _put(self, old: Entry | None, new: Entry, x: Hidden) -> None:
        self._entries[new.conversation_id] = new
        self._index_queue(old, new, x)
        if old is None or old.hidden != new.hidden or old.owner_user != new.owner_user:
            self._index_users(new.conversation_id, self._roles(old) if old else {}, _roles_with_owner(new, x))
        if new.state == "ended" and not x.notices and not x.wrapups:
            self._may_squeeze(new, x.ended_at or 0)
        else:
            self._squeezable.pop(new.conversation_id, None)

    def _remove(self, old: Entry) -> None:
        del self._entries[old.conversation_id]
        self._leave_queue(old)
        self._index_users(old.conversation_id, self._roles(old), {})
        self._squeezable.pop(old.conversation_id, None)

    def _index_queue(self, old: Entry | None, new: Entry, x: Hidden) -> None:
        if old is not None and (old.state, old.queue, old.division, old.channel) != (
            new.state,
            new.queue,
            new.division,
            new.channel,
        ):
            self._leave_queue(old)
            old = None
        if new.state == "ended":
            self.ended[new.conversation_id] = None
        elif old is None or new.state == "queued":
            place = (new.division, new.channel)
            buckets = self.queues.setdefault(new.queue, {})
            bucket = buckets.get(place)
            if bucket is None:
                bucket = buckets[place] = Bucket(new.queue, new.division, new.channel)
            bucket.put(new.conversation_id, new.state, x.queued_since)

    def _leave_queue(self, old: Entry) -> None:
        if old.state == "ended":
            self.ended.pop(old.conversation_id, None)
            return
        buckets = self.queues[old.queue]
        bucket = buckets[old.division, old.channel]
        bucket.remove(old.conversation_id, old.state)
        if not len(bucket):
            del buckets[old.division, old.channel]
            if not buckets:
                del self.queues[old.queue]

    def _roles(self, entry: Entry) -> dict[str, int]:
        return _roles_with_owner(entry, entry.x)

    def _index_users(self, conversation_id: str, before: dict[str, int], after: dict[str, int]) -> None:
        for user in before:
            if user not in after:
                mine = self._users[user]
                del mine[conversation_id]
                if not mine:
                    del self._users[user]
        for user, bits in after.items():
            mine_or_none = self._users.get(user)
            if mine_or_none is None:
                mine_or_none = self._users[intern(user)] = {}
            mine_or_none[conversation_id] = bits

    def _may_squeeze(self, entry: Entry, ended_at: int) -> None:
        if self._squeezable.get(entry.conversation_id) != ended_at:
            self._squeezable[entry.conversation_id] = ended_at
            heapq.heappush(self._oldest, (ended_at, entry.conversation_id))

    def _squeeze(self) -> None:
        while len(self._squeezable) > self._ended_max:
            ended_at, conversation_id = heapq.heappop(self._oldest)
            if self._squeezable.get(conversation_id) == ended_at:
                self.drop(conversation_id)
        if len(self._oldest) > 2 * len(self._squeezable) + 1024:  # mostly what isn't there any more
            self._oldest = [(ended_at, key) for key, ended_at in self._squeezable.items()]
            heapq.heapify(self._oldest)


def _roles_with_owner(entry: Entry, x: Hidden) -> dict[str, int]:
    """As `roles_of`; an owner whom `x` doesn't name is there with no bit, so that their rows are found."""
    roles = roles_of(x)
    if entry.owner_user is not None:
        roles.setdefault(entry.owner_user, 0)
    return roles
