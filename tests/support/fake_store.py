"""
The store in memory: one dictionary per conversation, each call one step that nothing gets into.

It keeps the laws of `hub.service.ports` as the scripts in `hub/store/lua` do: a commit is guarded by the version and,
where it asks so, by the monitor's version; an append by who is connected and who owns; each entry's header names the
monitor that held the conversation when the step began, each row the one that holds it when the step ends; leases are
looked at again at the commit. Before and after each step other tasks get a seeded number of turns, so that a seed is an
interleaving that can be repeated.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from hub.service.codec import decode_loaded
from hub.service.history import Listed
from hub.service.plan import MONITOR_HERE
from hub.service.ports import (
    Append,
    Appended,
    Commit,
    Committed,
    Conflict,
    Loaded,
    NotDue,
    Repeated,
    Request,
    Snapshot,
    StoredEntry,
)

START_MS = 1_795_377_600_000
Key = tuple[str, str]


class Numbered:
    """Ids and tags that count, for tests that compare them."""

    def __init__(self) -> None:
        self._next = 0

    def new(self, prefix: str, org: str, conversation_id: str) -> str:
        """`<prefix>_1`, `<prefix>_2`, and so on."""
        self._next += 1
        return f"{prefix}_{self._next}"

    def stable(self, prefix: str, org: str, conversation_id: str, *parts: str) -> str:
        """The same id for the same parts."""
        return f"{prefix}_{'.'.join((org, conversation_id, *parts))}"

    def tag(self) -> str:
        """Decimal digits, never `0`."""
        self._next += 1
        return str(self._next)


@dataclass(slots=True)
class Record:
    """One conversation as stored; `rows` and `extras` are what the board was told whole, `patches` the counters between."""

    fields: dict[bytes, bytes] = field(default_factory=dict)
    transcript: list[StoredEntry] = field(default_factory=list)
    panels: dict[str, bytes] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    actions: list[bytes] = field(default_factory=list)
    segments: list[bytes] = field(default_factory=list)
    ledger: list[bytes] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    extras: list[dict[str, object]] = field(default_factory=list)
    patches: list[dict[str, object]] = field(default_factory=list)
    typing: list[bytes] = field(default_factory=list)
    due: dict[str, int] = field(default_factory=dict)
    index: str = ""

    def number(self, name: bytes) -> int:
        """A counter of the record."""
        return int(self.fields.get(name, 0))


class FakeStore:
    """See the module. `before_commit` is called with each commit just before its step, to get in between."""

    def __init__(self, seed: int = 0, turns_max: int = 0) -> None:
        """`turns_max` is how many turns others get at most before and after each step."""
        self.now_ms = START_MS
        self.records: dict[Key, Record] = {}
        self.people: dict[Key, bytes] = {}
        self.people_log: list[bytes] = []
        self.requests: dict[tuple[str, ...], tuple[str, bytes]] = {}
        self.pointed: dict[str, Key] = {}
        self.answers: list[tuple[Commit, Committed | Conflict | Repeated | NotDue]] = []
        self.before_commit: Callable[[Commit], None] = lambda commit: None
        self.before_append: Callable[[], None] = lambda: None
        self._chance = random.Random(seed)
        self._turns_max = turns_max
        self._tags = 0

    def record(self, org: str, conversation_id: str) -> Record:
        """The conversation's record; an empty one where there is none."""
        return self.records.setdefault((org, conversation_id), Record())

    @property
    def conflicts(self) -> int:
        """How often a commit came too late."""
        return sum(isinstance(answer, Conflict) for _, answer in self.answers)

    async def _others(self) -> None:
        for _ in range(self._chance.randint(0, self._turns_max)):
            await asyncio.sleep(0)

    def _tag(self) -> str:
        self._tags += 1
        return str(self._tags)

    # -- commands ----------------------------------------------------------------------------------------------------

    def now(self, org: str, conversation_id: str) -> Loaded:
        """The conversation as of now, at once."""
        return decode_loaded(dict(self.record(org, conversation_id).fields), self.now_ms)

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """The conversation as of now."""
        await self._others()
        loaded = self.now(org, conversation_id)
        await self._others()
        return loaded

    async def commit(self, commit: Commit, *, lane: str = "commit") -> Committed | Conflict | Repeated | NotDue:
        """Everything or nothing."""
        await self._others()
        self.before_commit(commit)
        answer = self._commit(commit)
        self.answers.append((commit, answer))
        await self._others()
        return answer

    def _commit(self, commit: Commit) -> Committed | Conflict | Repeated | NotDue:
        record = self.record(commit.org, commit.conversation_id)
        fields = record.fields
        if commit.request is not None:
            first = self.requests.get((*_request(commit.request), commit.conversation_id))
            if first is not None:
                return Repeated(*first)
        version, monitor_version = fields.get(b"version", b"").decode(), fields.get(b"mv", b"").decode()
        if version != commit.version or commit.monitor_version not in (None, monitor_version):
            return Conflict(self.now(commit.org, commit.conversation_id))
        if commit.lease_due and record.due.get("lease", 0) > self.now_ms:
            return NotDue()
        if commit.request is not None:
            self.requests[*_request(commit.request), commit.conversation_id] = (commit.request.digest, commit.answer)
        monitor = fields.get(b"m.id", b"-").decode()
        for name, value in commit.sets:
            fields[name.encode()] = value
        for name in commit.drops:
            fields.pop(name.encode(), None)
        tag = self._tag()
        for audience, body in commit.transcript:
            self._write(record, tag, audience, monitor, body)
        if commit.new_version is not None:
            fields[b"version"] = commit.new_version.encode()
        if commit.new_monitor_version is not None:
            fields[b"mv"] = commit.new_monitor_version.encode()
        if commit.row is not None:
            self._show(record, commit.conversation_id, commit.row, commit.extra, commit.awaiting)
        record.actions += commit.actions
        record.segments += commit.segments
        record.due.update(commit.due)
        for kind in commit.due_drop:
            record.due.pop(kind, None)
        record.panels.update(commit.panels)
        record.seen.update(commit.seen)
        record.ledger += commit.ledger
        if commit.ledger:
            fields[f"{commit.ledger_field}.at".encode()] = b"%d-0/%d" % (len(record.ledger), record.number(b"top"))
        record.index = commit.index or record.index
        return Committed(record.number(b"top"), fields.get(b"tag", b"0").decode(), fields[b"epoch"].decode())

    def _show(self, record: Record, conversation_id: str, row: bytes, extra: bytes, awaiting: str) -> None:
        """Tell the board, with the monitor as it stands now: the commit may have been decided without looking at it."""
        fields = record.fields
        fields[b"row"] = _with_monitor(row, fields.get(b"m.row"))
        fields[b"extra"] = _with_monitor(extra, fields.get(b"m.extra"))
        record.rows.append(orjson.loads(fields[b"row"]))
        record.extras.append(orjson.loads(fields[b"extra"]))
        now = fields.get(b"awaiting")
        if now is not None and now.decode() != awaiting:  # a message came between deciding and this
            self._patch(record, conversation_id)

    def _patch(self, record: Record, conversation_id: str) -> None:
        record.patches.append(
            {
                "conversation_id": conversation_id,
                "awaiting": record.fields[b"awaiting"].decode(),
                "awaiting_since": record.number(b"since"),
                "messages": record.number(b"messages"),
            }
        )

    def _write(self, record: Record, tag: str, audience: str, monitor: str, body: bytes) -> int:
        top = record.number(b"top") + 1
        customer_top = record.number(b"ctop") + ("c" in audience)
        record.transcript.append(StoredEntry(top, tag, audience, customer_top, monitor, body))
        record.fields |= {b"top": b"%d" % top, b"tag": tag.encode(), b"ctop": b"%d" % customer_top}
        return top

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Each refused, known or written; in order."""
        await self._others()
        self.before_append()
        answers = [self._append(one) for one in appends]
        await self._others()
        return answers

    def _append(self, one: Append) -> Appended:
        record = self.record(one.org, one.conversation_id)
        fields = record.fields
        if b"top" not in fields:
            return Appended("unknown")
        owning = fields[b"conn"].decode()
        if one.connector and owning and owning != one.connector:
            return Appended("unknown")
        if record.seen & set(one.seen):
            return Appended("duplicate")
        if b"ended" in fields and one.kind != "receipt":
            return Appended("ended")
        owner = fields.get(b"owner", b"").decode()
        who = fields[b"cust"].decode() if one.participant == "@" else one.participant
        purpose, said = b"", b""
        if who:
            known = fields.get(f"p:{who}".encode())
            if known is None:
                return Appended("stale", owner=owner)
            purpose, _, said = known.partition(b" ")
        if one.owner and owner != one.owner:
            return Appended("stale", owner=owner)
        body = one.head + said + one.tail
        if one.kind == "draft":
            fields[f"draft:{who}".encode()] = one.tail
            return Appended("ok")
        if one.kind == "typing":
            record.typing.append(body)
            record.seen.update(one.seen)
            return Appended("ok")
        if one.kind == "panel":
            if one.content and one.panel not in record.panels and len(record.panels) >= 32:
                return Appended("panels")
            record.panels.pop(one.panel, None)
            if one.content:
                record.panels[one.panel] = one.content
        record.seen.update(one.seen)
        tag = self._tag()
        offset = self._write(record, tag, one.audience, fields.get(b"m.id", b"-").decode(), body)
        if one.kind == "message":
            self._count(record, one.conversation_id, purpose, one.at)
        if one.action:
            record.actions.append(one.action)
        return Appended("ok", f"{fields[b'epoch'].decode()}.{tag}-{offset}")

    def _count(self, record: Record, conversation_id: str, purpose: bytes, at: int) -> None:
        fields = record.fields
        fields[b"messages"] = b"%d" % (record.number(b"messages") + 1)
        by_customer = purpose == b"customer"
        fields[b"unanswered"] = b"%d" % (record.number(b"unanswered") + 1 if by_customer else 0)
        awaiting = b"agent" if by_customer else b"customer"
        if fields.get(b"awaiting") != awaiting:
            fields |= {b"awaiting": awaiting, b"since": b"%d" % at}
            self._patch(record, conversation_id)

    async def committed(self, org: str, conversation_id: str, request: Request) -> Repeated | None:
        """What the same request was answered when it was committed, or None."""
        await self._others()
        first = self.requests.get((*_request(request), conversation_id))
        return None if first is None else Repeated(*first)

    def durable(self, org: str, conversation_id: str | None) -> bool:
        """Memory has no replicas."""
        return True

    async def seen(self, org: str, conversation_id: str, hashes: Sequence[bytes]) -> list[bool]:
        """Which of these ids the conversation has taken in."""
        await self._others()
        return [one in self.record(org, conversation_id).seen for one in hashes]

    async def point(self, id: str, org: str, conversation_id: str, ttl_ms: int) -> None:
        """Remember the conversation of an id."""
        await self._others()
        self.pointed[id] = (org, conversation_id)

    def renew(self, org: str, conversation_id: str, monitor_id: str, session: str, lease_end: int) -> bool:
        """Extend one session's lease, where it still is the same monitor's and runs."""
        record = self.record(org, conversation_id)
        name = f"ml:{session}".encode()
        if record.fields.get(b"m.id") != monitor_id.encode() or record.number(name) <= self.now_ms:
            return False
        record.fields[name] = b"%d" % lease_end
        record.due["lease"] = max(lease_end, record.due.get("lease", 0))
        return True

    # -- history -----------------------------------------------------------------------------------------------------

    async def snapshot(self, org: str, conversation_id: str, *, entries: int = 200) -> Snapshot | None:
        """A conversation, its panels and its newest entries as of one moment."""
        record = self.record(org, conversation_id)
        if not record.fields:
            return None
        return Snapshot(self.now(org, conversation_id), dict(record.panels), record.transcript[-entries:])

    async def segments(self, org: str, conversation_id: str) -> list[bytes]:
        """Closed segments."""
        return list(self.record(org, conversation_id).segments)

    async def entries_before(
        self, org: str, conversation_id: str, *, before: int | None, count: int
    ) -> list[StoredEntry]:
        """Entries before an offset, newest first."""
        kept = [one for one in self.record(org, conversation_id).transcript if before is None or one.offset < before]
        return kept[::-1][:count]

    async def listed(
        self, org: str, *, below: tuple[int, str] | None, count: int, watched_by: str | None
    ) -> list[Listed]:
        """The organization's conversations, the newest ids first, behind a place."""
        found = [
            Listed(
                (0, conversation_id),
                record.fields[b"row"],
                record.fields[b"extra"],
                watched_by is not None and f"w:{watched_by}".encode() in record.fields,
            )
            for (its_org, conversation_id), record in self.records.items()
            if its_org == org and record.fields
        ]
        found.sort(key=lambda one: one.place, reverse=True)
        return [one for one in found if below is None or one.place < below][:count]

    # -- people ------------------------------------------------------------------------------------------------------

    async def person(self, org: str, user_id: str) -> bytes:
        """A record; empty where there is none."""
        await self._others()
        return self.people.get((org, user_id), b"")

    async def set_person(self, org: str, user_id: str, expected: bytes, record: bytes, entry: bytes) -> bytes | None:
        """Compare and set; None where it was written, else the record now."""
        await self._others()
        now = self.people.get((org, user_id), b"")
        if now != expected:
            return now
        self.people[org, user_id] = record
        self.people_log.append(entry)
        return None


def _with_monitor(text: bytes, monitor: bytes | None) -> bytes:
    """The first placeholder replaced, as it stands between quotes that no string can have."""
    before, placeholder, after = text.partition(b'"monitor":"%b"' % MONITOR_HERE.encode())
    assert placeholder, text
    return before + b'"monitor":' + (monitor or b"null") + after


def _request(request: Request) -> tuple[str, str, str, str]:
    return (request.org, request.role, request.user_id, request.req)
