"""
The ledger in the store: sealing it, and reading it in the order in which it is checked (see `hub.domain.ledger`).

    {p}:ledger          stream   fields e (the line), t (top of the conversation's transcript when it was written)
    {p}:ledgernames     hash     what lines call a conversation: `<org>/<conversation>`, once it is erased a blank and when
                                 (ms); erasing a customer takes it away
    {0}:seals           stream   field e (the seal)
    {0}:sealed          hash     n, mac: the last seal; <partition>: the place up to which it is sealed
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.domain.ledger import Finding, Head, LedgerKeys, Row, Span, Summing, Verifier, id_pair, parsed, sealed
from hub.service.codec import ledger_head
from hub.store.keys import PARTITIONS
from hub.store.redis_store import SEAL, RedisStore, pairs

PAGE = 200
SEALS_MAX = 1_000_000  # a seal a minute: almost two years
SPAN_LINES_MAX = 50_000  # of one partition in one seal; what is more waits for the next


@dataclass(frozen=True, slots=True)
class Begin:
    """What is known before anything is read: by partition the id from which on lines are there, where older ones went."""

    floors: Mapping[int, str]


class Ledger:
    """Reads and seals; safe to share."""

    def __init__(self, store: RedisStore, keys: LedgerKeys, entries_max: int) -> None:
        self.store = store
        self.keys = keys
        self._entries_max = entries_max

    @property
    def _sealed_key(self) -> bytes:
        return self.store.keys.base(0) + b"sealed"

    @property
    def _seals_key(self) -> bytes:
        return self.store.keys.base(0) + b"seals"

    async def _ask(self, key: bytes, *words: bytes) -> Any:
        return await self.store.call("commit", key, *words)

    # -- sealing -----------------------------------------------------------------------------------------------------

    async def seal(self) -> str | None:
        """
        Seal what isn't yet: `<number>:<code>` of the new seal; None where nothing is new, or another hub was faster.

        Repeating it is safe. Raises Refused `store_unavailable`.
        """
        last = pairs(await self._ask(self._sealed_key, b"HGETALL", self._sealed_key))
        number, prev = int(last.get(b"n", 0)), last.get(b"mac", b"").decode()
        spans: dict[int, Span] = {}
        lost: dict[int, str] = {}
        places: list[bytes] = []
        ends = {p: last.get(b"%d" % p, b"").decode() for p in range(PARTITIONS)}
        first = await self.pages(ends)
        for p, after in ends.items():
            if after and await self._forgotten(p, after):
                lost[p] = after
            span = await self._span(p, after, first.pop(p))
            if span is not None:
                spans[p] = span
                places += [b"%d" % p, span.to.encode()]
            elif p in lost:
                places += [b"%d" % p, (await self._newest(p)).encode()]
        if not spans and not lost:
            return None
        now = await self.store.now_ms()
        raw, code = sealed(number + 1, now, prev, spans, lost, self.keys.first)
        args = [b"%d" % number, b"%d" % (number + 1), code.encode(), raw, b"%d" % SEALS_MAX, *places]
        done = await self.store.script("commit", SEAL, [self._sealed_key, self._seals_key], args)
        return f"{number + 1}:{code}" if done else None

    async def _forgotten(self, p: int, id: str) -> bool:
        """True where a line that was sealed isn't there, and not because older ones went to make room."""
        key = self.store.keys.ledger(p)
        if await self._ask(key, b"XRANGE", key, id.encode(), id.encode()):
            return False
        return int(await self._ask(key, b"XLEN", key)) < self._entries_max

    async def _newest(self, p: int) -> str:
        key = self.store.keys.ledger(p)
        found = await self._ask(key, b"XREVRANGE", key, b"+", b"-", b"COUNT", b"1")
        return found[0][0].decode() if found else ""

    async def _span(self, p: int, after: str, rows: list[Row]) -> Span | None:
        summing, to = Summing(), after
        while rows:
            for row in rows:
                summing.add(row)
            to = rows[-1].id
            whole = len(rows) == PAGE and summing.lines < SPAN_LINES_MAX
            rows = await self.page(p, to) if whole else []
        return Span(after, to, summing.lines, summing.code) if summing.lines else None

    # -- reading -----------------------------------------------------------------------------------------------------

    async def page(self, p: int, after: str) -> list[Row]:
        """The next lines of a partition behind an id (empty: from the first on)."""
        return [_row(p, *entry) for entry in await self._page(p, after)]

    def _page(self, p: int, after: str) -> asyncio.Future[Any]:
        key = self.store.keys.ledger(p)
        start = b"(" + after.encode() if after else b"-"
        return self.store.primaries.call("commit", key, b"XRANGE", key, start, b"+", b"COUNT", b"%d" % PAGE)

    async def pages(self, after: Mapping[int, str]) -> dict[int, list[Row]]:
        """The next lines of each partition behind an id, asked for together."""
        replies = await self.store.many(self._page(p, id) for p, id in after.items())
        return {p: [_row(p, *entry) for entry in reply] for p, reply in zip(after, replies, strict=True)}

    async def begin(self, since_ms: int | None = None) -> Begin:
        """Where reading starts: at the first line, behind what had to make room, or at a time."""
        if since_ms is not None:
            return Begin(dict.fromkeys(range(PARTITIONS), f"{since_ms}-0"))
        keys = [self.store.keys.ledger(p) for p in range(PARTITIONS)]
        lengths = await self.store.many(self.store.primaries.call("commit", key, b"XLEN", key) for key in keys)
        full = [p for p, length in enumerate(lengths) if int(length) >= self._entries_max]
        return Begin({p: (await self.page(p, ""))[0].id for p in full})

    async def told(
        self, begin: Begin, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> AsyncIterator[Row | bytes]:
        """
        Lines and seals (bytes) as `Verifier` wants them, from `begin` on; nothing of after `until_ms`.

        A few pages are in memory at a time. What is written meanwhile may or may not be among them.
        """
        start = "" if since_ms is None else f"{since_ms - 1}-{2**63}"
        first = await self.pages(dict.fromkeys(range(PARTITIONS), start))
        readers = {p: _Reader(self, p, start, rows) for p, rows in first.items()}
        async for raw in self._seals():
            about = parsed(raw) or {}
            at = about.get("at")
            if since_ms is not None and isinstance(at, int) and at < since_ms:
                continue
            if until_ms is not None and isinstance(at, int) and at > until_ms:
                break
            for p, to in _ends(about.get("spans")):
                async for row in readers[p].up_to(to):
                    yield row
            yield raw
        last = None if until_ms is None else f"{until_ms}-{2**63}"
        for reader in readers.values():
            async for row in reader.up_to(last):
                yield row

    async def _seals(self) -> AsyncIterator[bytes]:
        key, start = self._seals_key, b"-"
        while found := await self._ask(key, b"XRANGE", key, start, b"+", b"COUNT", b"%d" % PAGE):
            for _, fields in found:
                yield fields[1]
            start = b"(" + found[-1][0]

    async def names(self, p: int, names: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Organization and conversation behind the names that lines use, for those that are still known."""
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return {}
        key = self.store.keys.ledger_names(p)
        found = await self._ask(key, b"HMGET", key, *(one.encode() for one in wanted))
        return {
            name: (org, conversation_id)
            for name, member in zip(wanted, found, strict=True)
            if member is not None
            for org, _, conversation_id in [member.decode().partition(" ")[0].partition("/")]
        }

    async def tidy(self, p: int) -> None:
        """Forget the names of conversations all of whose lines have made room for newer ones."""
        key = self.store.keys.ledger(p)
        if int(await self._ask(key, b"XLEN", key)) < self._entries_max:
            return
        oldest = int((await self.page(p, ""))[0].id.partition("-")[0])
        names, cursor = self.store.keys.ledger_names(p), b"0"
        while True:
            cursor, flat = await self._ask(names, b"HSCAN", names, cursor, b"COUNT", b"500")
            over = [name for name, member in pairs(flat).items() if 0 < int(member.partition(b" ")[2] or 0) < oldest]
            if over:
                await self._ask(names, b"HDEL", names, *over)
            if cursor == b"0":
                return

    # -- records -----------------------------------------------------------------------------------------------------

    async def compare_records(self, heads: "DiskHeads", tell: Any) -> None:
        """Tell where a conversation's record and its chains' last lines don't fit; to be called after everything was read."""
        places = [(p, index) for p in range(PARTITIONS) for index in (b"live", b"closed")]
        for start in range(0, len(places), 16):
            part = places[start : start + 16]
            keys = [self.store.keys.base(p) + index for p, index in part]
            members = await self.store.many(
                self.store.primaries.call("commit", key, b"ZRANGE", key, b"0", b"-1") for key in keys
            )
            for (p, _), found in zip(part, members, strict=True):
                for member in found:
                    org, _, conversation_id = member.decode().partition("/")
                    await self._compare_record(p, org, conversation_id, heads, tell)

    async def _compare_record(self, p: int, org: str, conversation_id: str, heads: "DiskHeads", tell: Any) -> None:
        key = self.store.keys.conversation(p, org, conversation_id)
        wanted = (b"lc", b"lc.at", b"lm", b"lm.at")
        values = await self._ask(key, b"HMGET", key, *wanted)
        fields = {name: value for name, value in zip(wanted, values, strict=True) if value is not None}
        for chain in ("c", "m"):
            recorded = ledger_head(fields, chain)
            known = heads.get(recorded.chain) or Head()
            if (recorded.number, recorded.code, recorded.place, known.p) == (known.number, known.code, known.place, p):
                continue
            if recorded.number == known.number == 0:
                continue
            if recorded.number > known.number and await self._there(p, recorded):
                continue  # written since this was read
            kind = "record_behind" if recorded.number < known.number else "record_ahead"
            where = f"partition {p}, chain {chain} of conversation {self.keys.names(org, conversation_id)[0]}"
            tell(Finding(kind, where, f"number {recorded.number} in the record, {known.number} in the ledger"))

    async def _there(self, p: int, head: Head) -> bool:
        """True where the line that a record names stands where it says."""
        key, id = self.store.keys.ledger(p), head.place.partition("/")[0].encode()
        found = await self._ask(key, b"XRANGE", key, id, id)
        return any(f'"mac":"{head.code}"'.encode() in fields[1] for _, fields in found)


class _Reader:
    """One partition's lines, a page at a time."""

    def __init__(self, ledger: Ledger, p: int, after: str, rows: list[Row]) -> None:
        """`rows` are the first ones behind `after`."""
        self._ledger = ledger
        self._p = p
        self._after = after
        self._rows = rows[::-1]
        self._over = len(rows) < PAGE

    async def up_to(self, id: str | None) -> AsyncIterator[Row]:
        """The next lines, to that one included; None: all that are there."""
        while True:
            if not self._rows:
                if self._over:
                    return
                rows = await self._ledger.page(self._p, self._after)
                self._rows, self._over = rows[::-1], len(rows) < PAGE
            while self._rows:
                if id is not None and _pair(self._rows[-1].id) > _pair(id):
                    return
                row = self._rows.pop()
                self._after = row.id
                yield row


def _ends(spans: object) -> list[tuple[int, str]]:
    """Up to where a seal covers which partition; what isn't of that form is left out: nobody has checked the seal yet."""
    found = []
    for p, span in spans.items() if isinstance(spans, dict) else ():
        to = span[1] if isinstance(span, list) and len(span) == 4 else None
        if isinstance(to, str) and id_pair(to) and p.isdecimal() and p.isascii() and int(p) < PARTITIONS:
            found.append((int(p), to))
    return sorted(found)


def _pair(id: str) -> tuple[int, int]:
    return id_pair(id) or (0, 0)


def _row(p: int, id: bytes, fields: list[bytes]) -> Row:
    found = pairs(fields)
    return Row(p, id.decode(), found.get(b"t", b"-").decode(), found.get(b"e", b""))


class DiskHeads:
    """Chains' last lines in a temporary database, so that memory doesn't grow with the conversations. Close it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("CREATE TABLE h (chain TEXT PRIMARY KEY, n, code, place, p, name) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def get(self, chain: str) -> Head | None:
        """The last one seen of that chain."""
        found = self._db.execute("SELECT n, code, place, p FROM h WHERE chain = ?", (chain,)).fetchone()
        return None if found is None else Head(*found)

    def put(self, chain: str, head: Head, conversation: str) -> None:
        """It has gone on."""
        values = (chain, head.number, head.code, head.place, head.p, conversation)
        self._db.execute("INSERT OR REPLACE INTO h VALUES (?, ?, ?, ?, ?, ?)", values)

    def close(self) -> None:
        """Forget all."""
        self._db.close()


async def feed(verifier: Verifier, told: AsyncIterator[Row | bytes]) -> None:
    """Everything that is told, to the verifier; the caller ends it."""
    async for one in told:
        if isinstance(one, Row):
            verifier.line(one)
        else:
            verifier.seal(one)
