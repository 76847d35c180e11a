"""
Views: what each person sees of a board, as rows that change.

    node:  change = board.apply(...) ─► views.mark(change)            what may differ is only noted
    tick:  for cls in views.dirty(): for view, told in cls.news()     each class looks once at what was noted

Viewers with the same view, rights, filter, sort and limit form a *class*; it holds the rows its members know, by id. A
look compares the noted ids with those rows and, where something differs, makes a new *tick*: a number and the ids that
changed in it. A member knows the tick it has seen, so what it lacks is the ids of all later ticks as they stand now.
Nothing is lost whoever asks in whatever order; whoever is behind by the same ticks shares one answer, encoded once. A
snapshot looks first, so a member that comes between two ticks begins at a tick of its own, and the older ones are told
of that tick with their next.

Of a class with more rows than its limit those beyond it are sorted, too: when one leaves the window, the next is known.
"""

import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
import orjson

from hub.domain.errors import Refused
from hub.domain.grants import EVERYTHING, Person
from hub.fanout.board import Board, Bucket, Change, Entry, PersonRecord, compact, roles_of
from hub.protocol.commands import SORT_FIELDS
from hub.protocol.fields import ROWS_MAX, SEARCH_CHARS_MAX

log = logging.getLogger(__name__)

LIMIT_DEFAULT = 10_000
TICKS_KEPT = 32  # of a class, apart; older ones are merged
PART_ROWS_MAX = 500
PART_BYTES_MAX = 768 * 1024  # leaves room for the rest of a frame

CHANNELS = frozenset({"web", "open", "sms"})
LIVE_STATES = frozenset({"queued", "active", "wrapup"})
STATES = LIVE_STATES | {"ended"}
EVERY_FILTER = frozenset({"queues", "channels", "agent", "state", "text"})
FILTERS = {
    "interactions": EVERY_FILTER,
    "queues": frozenset({"queues", "channels", "text"}),
    "agents": frozenset({"queues", "agent", "text"}),
    "roster": EVERY_FILTER,
}
SORT_DEFAULT = {"interactions": "-started_at", "queues": "queue", "agents": "name", "roster": "-since"}
_THIN = SORT_FIELDS["interactions"] & set(Entry.__struct_fields__)


# --- what is asked for --------------------------------------------------------------------------------------------


class Filter(msgspec.Struct, frozen=True):
    """A checked filter; None lets everything pass. `text` is case folded."""

    queues: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    agent: str | None = None
    states: frozenset[str] | None = None
    text: str | None = None


def read_filter(view: str, wanted: object) -> Filter:
    """
    Check a filter: an object with attributes queues, channels, agent, state, text (None or unset: not asked), or None.

    Raises:
        Refused: `schema_invalid` with the path of what makes no sense for this view.
    """
    given: dict[str, Any] = {}
    for name in ("queues", "channels", "agent", "state", "text"):
        value = getattr(wanted, name, None)
        if value is None or value is msgspec.UNSET:
            continue
        if name not in FILTERS[view]:
            raise _nonsense(f"filter.{name}", f"The view {view} can't be filtered by {name}.")
        given[name] = value
    text = _text(given.get("text"), "filter.text")
    return Filter(
        queues=_texts(given.get("queues"), "filter.queues"),
        channels=_texts(given.get("channels"), "filter.channels", CHANNELS),
        agent=_text(given.get("agent"), "filter.agent"),
        states=_texts(given.get("state"), "filter.state", STATES),
        text=text.casefold() if text else None,
    )


def _text(value: object, path: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > SEARCH_CHARS_MAX:
        raise _nonsense(path, f"Text of at most {SEARCH_CHARS_MAX} characters is wanted.")
    return value


def _texts(value: object, path: str, allowed: frozenset[str] | None = None) -> frozenset[str] | None:
    if value is None:
        return None
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in values):
        raise _nonsense(path, "A list of texts is wanted.")
    if allowed is not None and not allowed.issuperset(values):
        raise _nonsense(path, f"Each must be one of {', '.join(sorted(allowed))}.")
    return frozenset(values)


def read_sort(view: str, sort: object) -> tuple[str, bool]:
    """
    Field and direction (True: descending) of a sort; None is the view's own.

    Raises:
        Refused: `schema_invalid`, path `sort`.
    """
    if sort is None or sort is msgspec.UNSET:
        sort = SORT_DEFAULT[view]
    field = sort.removeprefix("-") if isinstance(sort, str) else ""
    if field not in SORT_FIELDS[view]:
        raise _nonsense(
            "sort", f"One of {', '.join(sorted(SORT_FIELDS[view]))} is wanted, with - in front for descending."
        )
    return field, str(sort).startswith("-")


def read_limit(limit: object) -> int:
    """
    Check how many rows are wanted; None is `LIMIT_DEFAULT`.

    Raises:
        Refused: `schema_invalid`, path `limit`.
    """
    if limit is None or limit is msgspec.UNSET:
        return LIMIT_DEFAULT
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= ROWS_MAX:
        raise _nonsense("limit", f"A number from 1 to {ROWS_MAX} is wanted.")
    return limit


def _nonsense(path: str, message: str) -> Refused:
    return Refused("schema_invalid", message, {"path": path})


class Scope:
    """Which conversations a class may see: the rights of its viewers, narrowed by a filter's queues and channels."""

    __slots__ = ("_seen", "channels", "divisions", "granted", "queues")

    def __init__(self, queues: frozenset[str], divisions: frozenset[str], wanted: Filter) -> None:
        self.granted = queues
        self.divisions = divisions
        self.channels = wanted.channels
        own = None if EVERYTHING in queues else queues
        if wanted.queues is None:
            self.queues = own
        else:
            self.queues = wanted.queues if own is None else wanted.queues & own
        self._seen: dict[str, bool] = {}

    def sees(self, queue: str, division: str) -> bool:
        """True where both are among what the rights grant and the filter leaves."""
        if self.queues is not None and queue not in self.queues:
            return False
        seen = self._seen.get(division)
        if seen is None:
            seen = self._seen[division] = EVERYTHING in self.divisions or division in self.divisions
        return seen

    def holds(self, entry: Entry) -> bool:
        """True where the conversation may be seen, whatever its state."""
        return self.sees(entry.queue, entry.division) and (self.channels is None or entry.channel in self.channels)

    def buckets(self, board: Board) -> Iterator[Bucket]:
        """Those of the board that may be seen."""
        for queue in board.queues if self.queues is None else self.queues & board.queues.keys():
            yield from self.of_queue(board, queue)

    def of_queue(self, board: Board, queue: str) -> Iterator[Bucket]:
        """One queue's buckets that may be seen."""
        for bucket in board.queues.get(queue, {}).values():
            if self.sees(queue, bucket.division) and (self.channels is None or bucket.channel in self.channels):
                yield bucket


# --- order --------------------------------------------------------------------------------------------------------

Item = tuple[bool, Any, str]  # whether the value comes last, the value, the id (so that no two are equal)


class Order:
    """Items kept sorted in chunks: adding and removing one moves a chunk, not 100,000 items."""

    __slots__ = ("_chunk", "_chunks", "_lasts", "_len")

    def __init__(self, items: list[Item], *, chunk: int = 512) -> None:
        self._chunk = chunk
        self._chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
        self._lasts = [chunk[-1] for chunk in self._chunks]
        self._len = len(items)

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[Item]:
        for chunk in self._chunks:
            yield from chunk

    def __reversed__(self) -> Iterator[Item]:
        for chunk in reversed(self._chunks):
            yield from reversed(chunk)

    def first(self) -> Item:
        """The smallest."""
        return self._chunks[0][0]

    def last(self) -> Item:
        """The largest."""
        return self._lasts[-1]

    def add(self, item: Item) -> None:
        """Put one in its place."""
        self._len += 1
        if not self._chunks:
            self._chunks.append([item])
            self._lasts.append(item)
            return
        at = min(bisect_left(self._lasts, item), len(self._lasts) - 1)
        chunk = self._chunks[at]
        insort(chunk, item)
        if len(chunk) > 2 * self._chunk:
            upper = chunk[self._chunk :]
            self._chunks.insert(at + 1, upper)
            del chunk[self._chunk :]
            self._lasts[at : at + 1] = [chunk[-1], upper[-1]]  # the item may be larger than all before
        else:
            self._lasts[at] = chunk[-1]

    def remove(self, item: Item) -> None:
        """Take one out; it must be there."""
        at = bisect_left(self._lasts, item)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, item)]
        self._len -= 1
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]


class Window:
    """The first `limit` of a sorted set of ids, and those beyond it."""

    __slots__ = ("_descending", "_inside", "_items", "_limit", "_outside")

    def __init__(self, limit: int, descending: bool, values: Iterable[tuple[str, Any]]) -> None:
        self._limit, self._descending = limit, descending
        # As `_item`, written out because 100,000 of them hold up everybody else.
        items = [((value is None) is not descending, 0 if value is None else value, key) for key, value in values]
        self._items = {item[2]: item for item in items}
        items.sort()
        cut = max(0, len(items) - limit) if descending else limit
        low, high = Order(items[:cut]), Order(items[cut:])
        self._inside, self._outside = (high, low) if descending else (low, high)

    def _item(self, key: str, value: Any) -> Item:
        # Rows without a value come last in both directions.
        return ((value is None) is not self._descending, 0 if value is None else value, key)

    def __iter__(self) -> Iterator[str]:
        """Ids inside, in the order asked for."""
        for item in reversed(self._inside) if self._descending else self._inside:
            yield item[2]

    def __contains__(self, key: str) -> bool:
        item = self._items.get(key)
        return item is not None and self._is_inside(item)

    def ids(self) -> list[str]:
        """Ids inside and beyond, in no order."""
        return list(self._items)

    def _is_inside(self, item: Item) -> bool:
        if not len(self._outside):
            return True
        return item > self._outside.last() if self._descending else item < self._outside.first()

    def put(self, key: str, value: Any) -> list[str]:
        """Give an id its value; returns the others that crossed the window's edge by it."""
        item, old = self._item(key, value), self._items.get(key)
        if item == old:
            return []
        if old is not None:
            self._take(old)
        self._items[key] = item
        (self._inside if self._is_inside(item) else self._outside).add(item)
        return self._settle()

    def remove(self, key: str) -> list[str]:
        """Take an id out where it is there; returns the others that crossed the edge by it."""
        old = self._items.pop(key, None)
        if old is None:
            return []
        self._take(old)
        return self._settle()

    def _take(self, item: Item) -> None:
        (self._inside if self._is_inside(item) else self._outside).remove(item)

    def _settle(self) -> list[str]:
        crossed = []
        while len(self._inside) > self._limit:
            item = self._inside.first() if self._descending else self._inside.last()
            self._inside.remove(item)
            self._outside.add(item)
            crossed.append(item[2])
        while len(self._inside) < self._limit and len(self._outside):
            item = self._outside.last() if self._descending else self._outside.first()
            self._outside.remove(item)
            self._inside.add(item)
            crossed.append(item[2])
        return crossed


# --- classes of viewers -------------------------------------------------------------------------------------------


def joined_parts(rows: list[bytes]) -> list[bytes]:
    """Rows joined by commas, in parts that fit a frame (a row that is bigger has a part of its own)."""
    parts, part, size = [], list[bytes](), 0
    for row in rows:
        if part and (len(part) == PART_ROWS_MAX or size + len(row) > PART_BYTES_MAX):
            parts.append(b",".join(part))
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    if part:
        parts.append(b",".join(part))
    return parts


class Told:
    """What members that have seen the same tick lack: rows as JSON, ids removed; encoded at most once."""

    __slots__ = ("_frames", "_parts", "removed", "rows")

    def __init__(self, rows: list[bytes], removed: list[str]) -> None:
        self.rows, self.removed = rows, removed
        self._parts: list[bytes] | None = None
        self._frames: dict[str, list[bytes]] = {}

    def frames(self, subscription: str) -> list[bytes]:
        """`view.changed` under that id, in parts that fit a frame: the same objects for everybody who asks by it."""
        frames = self._frames.get(subscription)
        if frames is None:
            frames = self._frames[subscription] = self._encoded(subscription)
        return frames

    def _encoded(self, subscription: str) -> list[bytes]:
        if self._parts is None:
            self._parts = joined_parts(self.rows) or [b""]
        head = b'{"event":"view.changed","data":{"subscription":"%b","rows":[' % subscription.encode()
        *first, last = self._parts
        return [
            *[b'%b%b],"removed":[]}}' % (head, part) for part in first],
            b'%b%b],"removed":%b}}' % (head, last, orjson.dumps(self.removed)),
        ]


NOTHING = Told([], [])


class ViewClass:
    """
    Viewers that see the same: their rows, computed once for all of them.

    A subclass says what may have changed (`_noted`, emptied by asking), what stands behind an id, its row, its place.
    """

    def __init__(self, board: Board, field: str, descending: bool, limit: int) -> None:
        self.board = board
        self.members: dict[View, None] = {}
        self.key: tuple[object, ...] = ()  # by which it is found again
        self.tick = 0
        self._field, self._descending, self._limit = field, descending, limit
        self._built = False
        self._everything = False  # look at every id
        self._window = Window(limit, descending, ())
        self._rows: dict[str, bytes] = {}
        self._ticks: list[tuple[int, set[str]]] = []
        self._told: dict[int, Told] = {}  # by tick seen, as of the present tick
        self._snapshot: list[bytes] | None = None
        self._snapshot_parts: list[bytes] | None = None

    # What the views are; each is looked up by `_find`, then asked for value and row.

    def _find(self, key: str) -> Any:
        """The thing that has a row under this id, or None."""
        raise NotImplementedError

    def _value(self, thing: Any) -> Any:
        """What it sorts by."""
        raise NotImplementedError

    def _row(self, thing: Any) -> bytes:
        """Its row as JSON."""
        raise NotImplementedError

    def _all(self) -> Iterable[str]:
        """Every id that may have a row."""
        raise NotImplementedError

    def _find_all(self) -> tuple[Iterable[str], Mapping[str, Any]]:
        """Ids of everything that has a row, and where to look them up."""
        things = {key: thing for key in self._all() if (thing := self._find(key)) is not None}
        return things, things

    def _noted(self) -> Iterable[str]:
        """Ids that may have changed since this was last asked."""
        raise NotImplementedError

    def has_notes(self) -> bool:
        """True where something may have changed."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Compute what rows are made of, before the first look at all of them."""

    def note_all(self) -> None:
        """Look at everything by the next tick."""
        self._everything = True

    def refresh(self) -> None:
        """Look at what was noted; where rows differ from what members know, begin a new tick."""
        if not self._built:
            self._build()
            return
        noted = set(self._noted())
        if self._everything:
            self._everything = False
            noted.update(self._all(), self._window.ids())
        if not noted:
            return
        found = {key: self._find(key) for key in noted}
        crossed: set[str] = set()
        for key, thing in found.items():
            crossed.update(self._window.remove(key) if thing is None else self._window.put(key, self._value(thing)))
        changed = set()
        for key in crossed.union(found):
            thing = found[key] if key in found else self._find(key)
            if self._differs(key, thing):
                changed.add(key)
        if changed:
            self._begin_tick(changed)

    def _differs(self, key: str, thing: Any) -> bool:
        known = self._rows.get(key)
        if thing is None or key not in self._window:
            if known is not None:
                del self._rows[key]
            return known is not None
        row = self._row(thing)
        if row == known:
            return False
        self._rows[key] = row
        return True

    def _build(self) -> None:
        self._prepare()
        self._noted()  # whatever it is, all is looked at now
        self._built, self._everything = True, False
        ids, things = self._find_all()
        value = self._value
        self._window = Window(self._limit, self._descending, [(key, value(things[key])) for key in ids])
        self._rows = {key: self._row(things[key]) for key in self._window}

    def _begin_tick(self, changed: set[str]) -> None:
        self.tick += 1
        self._ticks.append((self.tick, changed))
        self._told.clear()
        self._snapshot = self._snapshot_parts = None
        if len(self._ticks) > TICKS_KEPT // 2:
            behind = min((view.seen for view in self.members if view.seen is not None), default=self.tick)
            self._ticks = [record for record in self._ticks if record[0] > behind]
        if len(self._ticks) > TICKS_KEPT:
            # Under the later number: who has seen only the former is told again of what it knows, which is harmless.
            (_, first), (number, second) = self._ticks[:2]
            self._ticks[:2] = [(number, first | second)]

    # What members ask for.

    def since(self, seen: int) -> Told:
        """What a member lacks that has seen this tick."""
        if seen == self.tick:
            return NOTHING
        told = self._told.get(seen)
        if told is None:
            ids: set[str] = set().union(*[changed for number, changed in self._ticks if number > seen])
            rows = self._rows
            told = Told([rows[key] for key in ids if key in rows], [key for key in ids if key not in rows])
            self._told[seen] = told
        return told

    def news(self) -> Iterator[tuple["View", Told]]:
        """
        What each view lacks that is behind as of the present tick; it counts as told with this.

        Never loses a row; may repeat one that the viewer knows, or remove one it doesn't, where another member's snapshot
        fell between. `told` is shared, not to be changed.
        """
        tick, last, told = self.tick, -1, NOTHING
        for view in list(self.members):  # telling may end one
            seen = view.seen
            if seen is None or seen == tick:
                continue
            if seen != last:
                last, told = seen, self.since(seen)
            view.seen = tick
            yield view, told

    def snapshot(self) -> list[bytes]:
        """The rows as of now, in order; shared, not to be changed."""
        self.refresh()
        if self._snapshot is None:
            self._snapshot = [self._rows[key] for key in self._window]
        return self._snapshot

    def snapshot_parts(self) -> list[bytes]:
        """The rows of the snapshot as of the present tick, joined by commas, in parts that fit a frame."""
        if self._snapshot_parts is None:
            self._snapshot_parts = joined_parts(self._snapshot if self._snapshot is not None else self.snapshot())
        return self._snapshot_parts


class View:
    """
    One subscription of one person.

    `seen` is the class's tick it knows; None before its snapshot and while it is paused. `owner` is the session that has
    it, `subscription` its id there.
    """

    __slots__ = ("cls", "owner", "person", "seen", "subscription")

    def __init__(self, cls: ViewClass, person: Person) -> None:
        self.cls, self.person = cls, person
        self.seen: int | None = None
        self.owner: Any = None
        self.subscription = ""

    def snapshot(self) -> list[bytes]:
        """The rows as of now, in the order asked for; later changes count from here. Not to be changed."""
        rows = self.cls.snapshot()
        self.seen = self.cls.tick
        return rows

    def pause(self) -> None:
        """Stop collecting changes (a slow reader); the next thing it gets is a snapshot."""
        self.seen = None


class Conversations(ViewClass):
    """The view `interactions`: a row per conversation."""

    def __init__(self, board: Board, scope: Scope, wanted: Filter, field: str, descending: bool, limit: int) -> None:
        super().__init__(board, field, descending, limit)
        self.scope = scope
        self._match = Match(scope, wanted)
        self._states = wanted.states if wanted.states is not None else LIVE_STATES
        self._ids: set[str] = set()
        self._sorted_by: Callable[[Entry], Any] = _looked_up(field)
        if field in _THIN:
            self._sorted_by = attrgetter(field)
        elif field == "owner_away":
            self._sorted_by = self._owner_is_away

    def note(self, conversation_id: str) -> None:
        """It may have changed."""
        self._ids.add(conversation_id)

    def has_notes(self) -> bool:
        return bool(self._ids) or self._everything

    def _noted(self) -> Iterable[str]:
        ids, self._ids = self._ids, set()
        return ids

    def _all(self) -> Iterable[str]:
        for bucket in self.scope.buckets(self.board):
            yield from bucket.of_states(self._states - {"ended"})
        if "ended" in self._states:
            yield from self.board.ended

    def _find_all(self) -> tuple[Iterable[str], Mapping[str, Any]]:
        if "ended" in self._states:
            return super()._find_all()
        ids, entries = self._all(), self.board.entries  # a bucket that may be seen holds nothing that may not
        if not self._match.by_place:
            passes = self._match.besides_place
            ids = [key for key in ids if passes(entries[key])]
        return ids, entries

    def _find(self, key: str) -> Entry | None:
        entry = self.board.get(key)
        return entry if entry is not None and entry.state in self._states and self._match(entry) else None

    def _value(self, thing: Entry) -> Any:
        return self._sorted_by(thing)

    def _row(self, thing: Entry) -> bytes:
        return thing.away_row() if self._owner_is_away(thing) else thing.shown

    def _owner_is_away(self, entry: Entry) -> bool:
        if not entry.supervised or entry.owner_user is None:
            return False
        owner = self.board.people.get(entry.owner_user)
        return owner is not None and not owner.present


class Match:
    """
    Whether a conversation passes scope, agent and text (not the state); `by_place`: nothing but the scope counts.

    The text is searched for in what is shown; `clear`: in everything, for those who answer.
    """

    __slots__ = ("_agent", "_agent_bytes", "_clear", "_holds", "_text", "_text_bytes", "by_place")

    def __init__(self, scope: Scope, wanted: Filter, *, clear: bool = False) -> None:
        self._holds, self._clear = scope.holds, clear
        self._agent, self._text = wanted.agent, wanted.text
        self.by_place = wanted.agent is None and wanted.text is None
        self._agent_bytes = (wanted.agent or "").encode()
        plain = wanted.text is not None and wanted.text.isascii() and '"' not in wanted.text and "\\" not in wanted.text
        self._text_bytes = wanted.text.encode() if wanted.text and plain else b""

    def __call__(self, entry: Entry) -> bool:
        return self._holds(entry) and self.besides_place(entry)

    def besides_place(self, entry: Entry) -> bool:
        """The same of one whose scope fits: a search goes through 100,000 of them."""
        if self._agent is not None and not (self._agent_bytes in entry.row and self._agent in entry.agents):
            return False
        if self._text is None:
            return True
        row = entry.row if self._clear else entry.shown
        # Most rows are told apart by their bytes; escapes and letters that fold to others need the text itself.
        if self._text_bytes and row.isascii() and b"\\" not in row and self._text_bytes not in row.lower():
            return False
        return self._text in (entry.text if self._clear else entry.shown_text)


def _looked_up(field: str) -> Callable[[Entry], Any]:
    """What a row states under a field that no entry keeps."""
    return lambda entry: orjson.loads(entry.shown).get(field)  # an order tells what is behind a mask, too


def shares(mine: frozenset[str], theirs: frozenset[str]) -> bool:
    """True where two grants have something in common."""
    if EVERYTHING in mine or EVERYTHING in theirs:
        return bool(mine) and bool(theirs)
    return not mine.isdisjoint(theirs)


class Colleague(msgspec.Struct, gc=False):
    """An agent as a class of viewers sees them; `conversations` is the inside of a JSON array of ids."""

    record: PersonRecord
    conversations: bytes


def _colleague(board: Board, rights: Scope, user_id: str) -> Colleague | None:
    """The agent where viewers with these rights see them at all (an offline one: only by a conversation they see)."""
    record = board.people.get(user_id)
    if record is None or record.agent is None:
        return None
    if not shares(rights.granted, record.agent.queues) or not shares(rights.divisions, record.agent.divisions):
        return None
    ids = [entry.conversation_id for entry in board.connected(user_id) if rights.holds(entry)]
    return Colleague(record, orjson.dumps(ids)[1:-1]) if ids or record.status != "offline" else None


class Agents(ViewClass):
    """The view `agents`: a row per agent who isn't offline or has a conversation."""

    def __init__(self, board: Board, rights: Scope, wanted: Filter, field: str, descending: bool, limit: int) -> None:
        super().__init__(board, field, descending, limit)
        self._rights, self._wanted = rights, wanted
        self._users: set[str] = set()

    def note_users(self, user_ids: Iterable[str]) -> None:
        """They may have changed."""
        self._users.update(user_ids)

    def has_notes(self) -> bool:
        return bool(self._users) or self._everything

    def _noted(self) -> Iterable[str]:
        users, self._users = self._users, set()
        return users

    def _all(self) -> Iterable[str]:
        return list(self.board.people)

    def _find(self, key: str) -> Colleague | None:
        found = _colleague(self.board, self._rights, key)
        return found if found is not None and self._passes(found.record) else None

    def _passes(self, record: PersonRecord) -> bool:
        wanted = self._wanted
        assert record.agent is not None
        if wanted.queues is not None and not shares(wanted.queues, record.agent.queues):
            return False
        if wanted.agent is not None and record.user_id != wanted.agent:
            return False
        return wanted.text is None or wanted.text in f"{record.user_id}\n{record.name}".casefold()

    def _value(self, thing: Colleague) -> Any:
        return getattr(thing.record, self._field)

    def _row(self, thing: Colleague) -> bytes:
        record = thing.record
        head = orjson.dumps(
            {
                "user_id": record.user_id,
                "name": record.name,
                "status": record.status,
                "status_since": record.status_since,
            }
        )
        return b'%b,"conversations":[%b]}' % (head[:-1], thing.conversations)


class QueueFacts(msgspec.Struct, gc=False):
    """What a queue's row states."""

    queue: str
    name: str
    waiting: int
    interacting: int
    longest_wait_since: int | None
    conversations: bytes
    agents: bytes


class Queues(ViewClass):
    """The view `queues`: a row per queue, with the agents who are on it."""

    def __init__(
        self,
        board: Board,
        scope: Scope,
        rights: Scope,
        wanted: Filter,
        configured: frozenset[str],
        name: Callable[[str], tuple[str, str]],
        field: str,
        descending: bool,
        limit: int,
    ) -> None:
        super().__init__(board, field, descending, limit)
        self.scope = scope
        self._rights = rights  # the same without the filter: whose conversations are shown at the agents
        self._wanted, self._configured, self._name = wanted, configured, name
        self._queues: set[str] = set()
        self._users: set[str] = set()
        self._on_queue: dict[str, dict[str, bytes]] = {}  # queue (or EVERYTHING), user: the agent's JSON
        self._on_queue_of: dict[str, frozenset[str]] = {}  # user: where in the former
        self._everywhere: bytes | None = None

    def note(self, queue: str) -> None:
        """The queue's numbers may have changed."""
        self._queues.add(queue)

    def note_users(self, user_ids: Iterable[str]) -> None:
        """They may have changed."""
        self._users.update(user_ids)

    def has_notes(self) -> bool:
        return bool(self._queues) or bool(self._users) or self._everything

    def _prepare(self) -> None:
        self._users.update(self.board.people)

    def note_all(self) -> None:
        super().note_all()
        self._users.update(self.board.people)

    def _noted(self) -> Iterable[str]:
        users, self._users = self._users, set()
        for user in users:
            self._place(user)
        queues, self._queues = self._queues, set()
        return queues

    def _place(self, user: str) -> None:
        """Where the agent is on queue, as of now; notes the queues whose rows differ by it."""
        found = _colleague(self.board, self._rights, user)
        places: frozenset[str] = frozenset()
        encoded = b""
        if found is not None and found.record.status == "on_queue" and found.record.agent is not None:
            queues = found.record.agent.queues
            places = frozenset({EVERYTHING}) if EVERYTHING in queues else queues
            head = orjson.dumps({"user_id": user, "name": found.record.name, "status": found.record.status})
            encoded = b'%b,"conversations":[%b]}' % (head[:-1], found.conversations)
        before = self._on_queue_of.pop(user, frozenset())
        if places:
            self._on_queue_of[user] = places
        for queue in before - places:
            del self._on_queue[queue][user]
            self._note_place(queue)
        for queue in places:
            there = self._on_queue.setdefault(queue, {})
            if there.get(user) != encoded:
                there[user] = encoded
                self._note_place(queue)

    def _note_place(self, queue: str) -> None:
        if queue == EVERYTHING:
            self._everywhere = None
            self._queues.update(self._all())
        else:
            self._queues.add(queue)

    def _all(self) -> Iterable[str]:
        shown = {bucket.queue for bucket in self.scope.buckets(self.board)}
        return shown | (self._configured if self.scope.queues is None else self._configured & self.scope.queues)

    def _find(self, key: str) -> QueueFacts | None:
        buckets = list(self.scope.of_queue(self.board, key))
        try:
            name, division = self._name(key)
        except KeyError:
            name, division = key, ""
        if not buckets and not (key in self._configured and self.scope.sees(key, division)):
            return None
        if self._wanted.text is not None and self._wanted.text not in f"{key}\n{name}".casefold():
            return None
        return QueueFacts(
            queue=key,
            name=name,
            waiting=sum([len(bucket.queued) for bucket in buckets]),
            interacting=sum([len(bucket.active) for bucket in buckets]),
            longest_wait_since=min([t for bucket in buckets if (t := bucket.oldest()) is not None], default=None),
            conversations=b",".join([bucket.interacting() for bucket in buckets if bucket.active]),
            agents=self._agents(key),
        )

    def _agents(self, queue: str) -> bytes:
        if self._everywhere is None:
            self._everywhere = b",".join(self._on_queue.get(EVERYTHING, {}).values())
        own = self._on_queue.get(queue)
        return b",".join([part for part in (*(own.values() if own else ()), self._everywhere) if part])

    def _value(self, thing: QueueFacts) -> Any:
        return getattr(thing, self._field)

    def _row(self, thing: QueueFacts) -> bytes:
        head = orjson.dumps(
            {
                "queue": thing.queue,
                "name": thing.name,
                "waiting": thing.waiting,
                "interacting": thing.interacting,
                "longest_wait_since": thing.longest_wait_since,
            }
        )
        return b'%b,"interacting_conversations":[%b],"on_queue_agents":[%b]}' % (
            head[:-1],
            thing.conversations,
            thing.agents,
        )


class RosterLine(msgspec.Struct, gc=False):
    """A conversation of one's own, or that one monitors."""

    conversation_id: str
    kind: str
    since: int | None


class Roster(ViewClass):
    """The view `roster`: what one person is connected to and, for supervisors, monitors."""

    def __init__(
        self,
        board: Board,
        user_id: str,
        monitors: bool,
        wanted: Filter,
        field: str,
        descending: bool,
        limit: int,
    ) -> None:
        super().__init__(board, field, descending, limit)
        self.user_id = user_id
        self._monitors = monitors
        everything = frozenset({EVERYTHING})  # what one takes part in needs no further right
        self._match = Match(Scope(everything, everything, wanted), wanted, clear=not monitors)
        self._states = wanted.states
        self._ids: set[str] = set()

    def note(self, conversation_id: str) -> None:
        """It may have changed."""
        self._ids.add(conversation_id)

    def has_notes(self) -> bool:
        return bool(self._ids) or self._everything

    def _noted(self) -> Iterable[str]:
        ids, self._ids = self._ids, set()
        return ids

    def _all(self) -> Iterable[str]:
        return [entry.conversation_id for entry in self.board.of_user(self.user_id)]

    def _find(self, key: str) -> RosterLine | None:
        entry = self.board.get(key)
        if entry is None or (self._states is not None and entry.state not in self._states) or not self._match(entry):
            return None
        x = entry.x
        for person in x.people:
            if person.user_id == self.user_id:
                return RosterLine(key, "own", person.since)
        if self._monitors and x.monitor is not None and x.monitor.user_id == self.user_id:
            return RosterLine(key, "monitored", entry.monitor_since)
        return None

    def _value(self, thing: RosterLine) -> Any:
        return getattr(thing, self._field)

    def _row(self, thing: RosterLine) -> bytes:
        return compact(
            orjson.dumps({"conversation_id": thing.conversation_id, "kind": thing.kind, "since": thing.since})
        )


# --- all views of a board -----------------------------------------------------------------------------------------

C = TypeVar("C", bound=ViewClass)


class ByQueue(Generic[C]):
    """Classes by the queues they may see; those that see every queue stand apart."""

    def __init__(self) -> None:
        self._every: dict[C, None] = {}
        self._of: dict[str, dict[C, None]] = {}

    def add(self, cls: C, queues: frozenset[str] | None) -> None:
        """Register; None is every queue."""
        if queues is None:
            self._every[cls] = None
        for queue in queues or ():
            self._of.setdefault(queue, {})[cls] = None

    def remove(self, cls: C, queues: frozenset[str] | None) -> None:
        """Undo `add`."""
        self._every.pop(cls, None)
        for queue in queues or ():
            del self._of[queue][cls]
            if not self._of[queue]:
                del self._of[queue]

    def of(self, queue: str) -> Iterator[C]:
        """Those that may see this queue."""
        yield from self._every
        yield from self._of.get(queue, ())


class Views:
    """
    All subscriptions to one board on this node.

    `queues` gives a queue's name and division (a `KeyError` means the defaults), `configured` the ids that have a row
    without any conversation. The board's loads and drops are noted by themselves; what `apply` and `apply_person`
    return must be given to `mark` and `mark_person` (twice is harmless) before the next `dirty`.
    """

    def __init__(
        self,
        board: Board,
        *,
        queues: Callable[[str], tuple[str, str]],
        now_ms: Callable[[], int],
        configured: Iterable[str] = (),
    ) -> None:
        self.board = board
        self.now_ms = now_ms  # no row depends on the time yet: each age is stated by its beginning
        self._name, self._configured = queues, frozenset(configured)
        self._classes: dict[tuple[object, ...], ViewClass] = {}
        self._dirty: dict[ViewClass, None] = {}
        self._conversations: ByQueue[Conversations] = ByQueue()
        self._queues: ByQueue[Queues] = ByQueue()
        self._people: dict[Agents | Queues, None] = {}
        self._rosters: dict[str, dict[Roster, None]] = {}
        board.observers.append(self._mark)

    def subscribe(self, person: Person, view: str, filter: object, sort: object, limit: object) -> View:
        """
        Open a view for a person of this board's organization; its rows come by `View.snapshot`.

        `filter` is any object with the attributes of the wire's filter, or None; `sort` a field, `-` in front for
        descending; None everywhere means the view's default.

        Raises:
            Refused: `schema_invalid` with the path of what makes no sense; `not_permitted` for a view that isn't for
                the person's role (agents have their roster only).
        """
        if person.org != self.board.org:
            raise ValueError("a person of another organization")
        if view not in FILTERS:
            raise _nonsense("view", f"One of {', '.join(sorted(FILTERS))} is wanted.")
        if person.role not in ("supervisor", "admin") and not (person.role == "agent" and view == "roster"):
            raise Refused("not_permitted", f"The view {view} isn't for the role {person.role}.")
        wanted, (field, descending), rows_max = read_filter(view, filter), read_sort(view, sort), read_limit(limit)
        who: tuple[object, ...] = (_granted(person.queues), _granted(person.divisions))
        if view == "roster":
            who = (person.user_id, person.role != "agent")
        key = (view, who, wanted, field, descending, rows_max)
        cls = self._classes.get(key)
        if cls is None:
            cls = self._classes[key] = self._open(person, view, wanted, field, descending, rows_max)
            cls.key = key
        member = View(cls, person)
        cls.members[member] = None
        return member

    def _open(self, person: Person, view: str, wanted: Filter, field: str, descending: bool, limit: int) -> ViewClass:
        scope = Scope(_granted(person.queues), _granted(person.divisions), wanted)
        rights = Scope(_granted(person.queues), _granted(person.divisions), Filter())
        if view == "interactions":
            conversations = Conversations(self.board, scope, wanted, field, descending, limit)
            self._conversations.add(conversations, scope.queues)
            return conversations
        if view == "agents":
            agents = Agents(self.board, rights, wanted, field, descending, limit)
            self._people[agents] = None
            return agents
        if view == "queues":
            queues = Queues(self.board, scope, rights, wanted, self._configured, self._name, field, descending, limit)
            self._queues.add(queues, scope.queues)
            self._people[queues] = None
            return queues
        roster = Roster(self.board, person.user_id, person.role != "agent", wanted, field, descending, limit)
        self._rosters.setdefault(person.user_id, {})[roster] = None
        return roster

    def unsubscribe(self, view: View) -> None:
        """Close a view; idempotent. A class without members is forgotten."""
        cls = view.cls
        view.pause()
        if view not in cls.members:
            return
        del cls.members[view]
        if cls.members:
            return
        del self._classes[cls.key]
        self._dirty.pop(cls, None)
        if isinstance(cls, Conversations):
            self._conversations.remove(cls, cls.scope.queues)
        elif isinstance(cls, Queues):
            self._queues.remove(cls, cls.scope.queues)
            del self._people[cls]
        elif isinstance(cls, Agents):
            del self._people[cls]
        elif isinstance(cls, Roster):
            rosters = self._rosters[cls.user_id]
            del rosters[cls]
            if not rosters:
                del self._rosters[cls.user_id]

    def mark(self, change: Change) -> None:
        """Note what an applied entry may change."""
        self._mark(change.old, change.new)

    def mark_person(self, person: PersonRecord) -> None:
        """Note what a person's new record may change."""
        for cls in self._people:
            cls.note_users((person.user_id,))
            self._dirty[cls] = None
        for entry in self.board.owned_by(person.user_id):
            if entry.supervised:
                self._mark_conversation(entry.conversation_id, entry.queue)

    def mark_all(self) -> None:
        """Look at everything by the next tick."""
        for cls in self._classes.values():
            cls.note_all()
            self._dirty[cls] = None

    def _mark(self, old: Entry | None, new: Entry | None) -> None:
        entry = new or old
        assert entry is not None
        moved_from = old.queue if old is not None and old.queue != entry.queue else None
        self._mark_conversation(entry.conversation_id, entry.queue)
        if moved_from is not None:
            self._mark_conversation(entry.conversation_id, moved_from)
        if _only_counters(old, new):
            return
        self._mark_queue(entry.queue)
        if moved_from is not None:
            self._mark_queue(moved_from)
        if self._people or self._rosters:
            self._mark_users(old, new, entry.conversation_id)

    def _mark_conversation(self, conversation_id: str, queue: str) -> None:
        for cls in self._conversations.of(queue):
            cls.note(conversation_id)
            self._dirty[cls] = None

    def _mark_queue(self, queue: str) -> None:
        for cls in self._queues.of(queue):
            cls.note(queue)
            self._dirty[cls] = None

    def _mark_users(self, old: Entry | None, new: Entry | None, conversation_id: str) -> None:
        users: set[str] = set()
        for entry in (old, new):
            if entry is not None:
                users.update(roles_of(entry.x))
        for cls in self._people if users else ():
            cls.note_users(users)
            self._dirty[cls] = None
        for user in users & self._rosters.keys():
            for roster in self._rosters[user]:
                roster.note(conversation_id)
                self._dirty[roster] = None

    def __len__(self) -> int:
        """Open views."""
        return sum(len(cls.members) for cls in self._classes.values())

    def dirty(self) -> list["ViewClass"]:
        """Classes some of whose views lack something as of now; only classes with notes are looked at."""
        behind: list[ViewClass] = []
        for cls in list(self._dirty):
            if cls.has_notes() and any(view.seen is not None for view in cls.members):
                try:
                    cls.refresh()
                except Exception:
                    log.exception("a class of views failed")  # the others' viewers go on
                    del self._dirty[cls]
                    continue
            if any(view.seen not in (None, cls.tick) for view in cls.members):
                behind.append(cls)
            elif not cls.has_notes():
                del self._dirty[cls]
        return behind


def _only_counters(old: Entry | None, new: Entry | None) -> bool:
    """True where nothing but the row of `interactions` can differ: a patch hands its entry's `hidden` on."""
    return old is not None and new is not None and old.hidden is new.hidden


def _granted(ids: frozenset[str]) -> frozenset[str]:
    return frozenset({EVERYTHING}) if EVERYTHING in ids else ids
