"""
The ledger's lines, chains and seals: how they are written, and how anybody who has the key checks them.

    conversation's chain   line 1 ◄─ line 2 ◄─ line 3      each holds the code of the one before, and where that stands
    partition's stream     1a 1b 2a 3a 2b …                lines of many chains, as they were committed
    seals                  seal 7 ◄─ seal 8 ◄─ seal 9      each covers all lines of all partitions since the one before

A code is an HMAC-SHA256 under the hub's key, made in Python before the commit: a conversation has two chains, because its
last line must be known when a commit is decided. What moves the conversation's version goes on with the chain `c`, what
touches a monitor only (and must leave that version alone) with `m`; either is guarded by the version that it moves.

A line's code covers its bytes, its number, the code and the place of the line before. So an edit, a line that was made up,
one left out or moved shows at the line behind it, or at the last place that the conversation's record holds. A seal covers
the bytes, places and order of everything since the seal before, so that from then on the end can't be cut off either.

Nothing here does I/O; `Verifier` is fed with what was read, in order, and keeps one small value per partition. What grows
with the conversations (the last line of each chain) is kept by whoever feeds it: see `Heads`.
"""

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

CODE_CHARS = 40  # hex digits kept of a code: 160 bits
NAME_CHARS = 24  # of a conversation's name in the ledger: 96 bits
BEHIND = "+"  # instead of a place: the line before stands directly in front, written by the same commit
CHAIN_STATE, CHAIN_MONITOR = "c", "m"

_LINE, _RANGE, _SEAL, _NAME, _FILE = b"line\n", b"range\n", b"seal\n", b"name\n", b"file\n"


class LedgerKeys:
    """
    The keys of an installation: the first one makes codes, all of them check.

    Without any, codes are made under an empty key: they then find accidents, but nobody who knows this file.
    """

    __slots__ = ("_by_id", "first")

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        keys = tuple(keys) or (b"",)
        self._by_id = {key_id(key): key for key in keys}
        self.first = keys[0]

    @property
    def secret(self) -> bool:
        """False where codes protect from accidents only."""
        return bool(self.first)

    def get(self, id: str) -> bytes | None:
        """The key of that id."""
        return self._by_id.get(id)

    def all(self) -> list[tuple[str, bytes]]:
        """Each with its id."""
        return list(self._by_id.items())

    def names(self, org: str, conversation_id: str) -> list[str]:
        """What lines may call this conversation, by each of the keys; the first is what they call it now."""
        return [ledger_name(key, org, conversation_id) for key in self._by_id.values()]


def derived_key(secret: bytes) -> bytes:
    """A key for the ledger made of another secret, which it doesn't give away."""
    return hmac.new(secret, b"hub ledger key", sha256).hexdigest().encode()


def key_id(key: bytes) -> str:
    """What a line says of the key that its code was made with: 8 hex digits, `0` for none."""
    return sha256(b"hub ledger key id" + key).hexdigest()[:8] if key else "0"


def ledger_name(key: bytes, org: str, conversation_id: str) -> str:
    """
    What lines call a conversation: its id may hold a customer's number, and lines outlive the erasing of customers.

    Who has the key and an id finds its lines; from the lines alone nobody gets the id.
    """
    return _code(key, _NAME, f"{org}/{conversation_id}".encode())[:NAME_CHARS]


def _code(key: bytes, kind: bytes, *parts: bytes) -> str:
    made = hmac.new(key, kind, sha256)
    for part in parts:
        made.update(part)
    return made.hexdigest()[:CODE_CHARS]


# -- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """
    The last line of a chain: its number (from 1), code, and place.

    A place is `<id in the stream>/<top of the transcript>`, or `BEHIND` (only while a commit is put together). `p` is its
    partition where a line was read, -1 where that isn't known. `chain` is the chain's id, empty before it has begun.
    """

    number: int = 0
    code: str = ""
    place: str = ""
    p: int = -1
    chain: str = ""


def chained(lines: Iterable[bytes], chain: str, head: Head, key: bytes) -> tuple[list[bytes], Head]:
    """
    `lines` (JSON objects, not empty) as they are written behind `head`, and the head after them (its place isn't known yet).

    Each gets the members `chain`, `n`, `prev`, `after`, `key`, and as its last one `mac`, the code of all before it.
    """
    made = []
    id = key_id(key)
    for line in lines:
        about = {"chain": chain, "n": head.number + 1, "prev": head.code, "after": head.place, "key": id}
        signed = line[:-1] + b"," + json.dumps(about, separators=(",", ":")).encode()[1:-1]
        code = _code(key, _LINE, signed)
        made.append(signed + b',"mac":"' + code.encode() + b'"}')
        head = Head(head.number + 1, code, BEHIND, chain=chain)
    return made, head


@dataclass(frozen=True, slots=True)
class Span:
    """What one seal says of one partition: the lines behind the place `after` up to `to`, how many, and their hash."""

    after: str
    to: str
    lines: int
    code: str


def sealed(
    number: int, at: int, prev: str, spans: Mapping[int, Span], lost: Mapping[int, str], key: bytes
) -> tuple[bytes, str]:
    """
    A seal as it is written, and its code. `at` is the store's time (Unix ms).

    `lost`: by partition the last place that the seal before covered, where the store doesn't have it any more.
    """
    about = {
        "seal": number,
        "at": at,
        "prev": prev,
        "spans": {str(p): [one.after, one.to, one.lines, one.code] for p, one in sorted(spans.items())},
        "lost": {str(p): place for p, place in sorted(lost.items())},
        "key": key_id(key),
    }
    signed = json.dumps(about, separators=(",", ":")).encode()[:-1]
    code = _code(key, _SEAL, signed)
    return signed + b',"mac":"' + code.encode() + b'"}', code


class Summing:
    """A hash of a run of lines, taken one by one; the seal that holds it has a code."""

    def __init__(self) -> None:
        self._made = sha256(_RANGE)
        self.lines = 0

    def add(self, row: "Row") -> None:
        """The next line."""
        self._made.update(b"%b/%b %d\n%b\n" % (row.id.encode(), row.top.encode(), len(row.line), row.line))
        self.lines += 1

    @property
    def code(self) -> str:
        """Of all so far."""
        return self._made.hexdigest()[:CODE_CHARS]


def file_code(key: bytes) -> "hmac.HMAC":
    """What the lines of an exported file are added to, for the code in its last one."""
    return hmac.new(key, _FILE, sha256)


# -- checking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One line as it was read: partition, id in its stream, top of the transcript (`-`: not written then), bytes."""

    p: int
    id: str
    top: str
    line: bytes

    @property
    def place(self) -> str:
        """Where it stands, as the line behind it says."""
        return f"{self.id}/{self.top}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that isn't as it was written. `kind` is one of `KINDS`; `where` is for people: partition, place, chain."""

    kind: str
    where: str
    got: str


KINDS: Mapping[str, str] = {
    "changed": "a line's code doesn't fit its bytes: edited, or made up",
    "foreign": "a line of a conversation that belongs to another partition",
    "unknown_key": "a line or seal was made with a key that isn't given here",
    "unchained": "a line without a code behind lines that have one",
    "missing": "lines of a chain are missing before this one",
    "repeated": "a line stands where its chain has already gone on",
    "moved": "a line doesn't stand behind the one that it names",
    "seal_changed": "a seal's code doesn't fit its bytes: edited, or made up",
    "seal_missing": "seals are missing before this one",
    "seal_gone": "a seal that was noted earlier isn't there",
    "span_changed": "what a seal covers isn't what was there when it was sealed",
    "forgotten": "sealed lines are gone, and the next seal says so: a failover that forgot writes, or somebody cut them off",
    "cut_off": "sealed lines are gone from the end, and no seal says so",
    "cut_front": "the oldest lines are gone although there was room",
    "unsealed": "lines have waited too long for a seal: seals are missing, or no hub was running",
    "record_ahead": "a conversation's record names a later line than there is: cut off at the end",
    "record_behind": "a conversation's record names an earlier line than there is: an old state was put back",
    "file_cut": "the file isn't whole, or was changed",
}


class Heads(Protocol):
    """The last line of each chain, kept outside of memory where there may be many."""

    def get(self, chain: str) -> Head | None:
        """The last one seen of that chain."""

    def put(self, chain: str, head: Head, conversation: str) -> None:
        """It has gone on."""


@dataclass(slots=True)
class _Place:
    """What is known of one partition while it is read."""

    summing: Summing | None = None
    last: str = ""
    last_place: str = ""  # of the last line, as `after` names it
    last_code: str = ""
    lines: int = 0
    chained: bool = False


@dataclass(slots=True)
class Counts:
    """What was looked at."""

    lines: int = 0
    unchained: int = 0
    trimmed: int = 0
    seals: int = 0
    unsealed: int = 0
    last_seal: str = ""
    last_sealed_at: int = 0


class Verifier:
    """
    Checks what it is given in this order: the lines that a seal covers (by partition, as in their streams), then that
    seal; at the end the lines that no seal covers yet; then `end`. Tells each finding to `tell`.
    """

    def __init__(
        self,
        keys: LedgerKeys,
        heads: Heads,
        tell: Callable[[Finding], None],
        *,
        floors: Mapping[int, str] | None = None,
        gaps: bool = True,
        unchained_until_ms: int = 0,
    ) -> None:
        """
        Args:
            keys: Those of the installation.
            heads: Empty.
            tell: Gets each finding, in the order in which they are found.
            floors: By partition the id from which on lines are looked at; older ones were trimmed, or aren't asked for.
            gaps: False where lines were chosen (by user), so that chains have holes.
            unchained_until_ms: Up to when lines without codes are taken for an older hub's; always before the first
                line of the partition that has one.
        """
        self._keys = keys
        self._heads = heads
        self._tell = tell
        self._floors = dict(floors or {})
        self._gaps = gaps
        self._unchained_until = unchained_until_ms
        self._places: dict[int, _Place] = {}
        self._seal_number: int | None = None
        self._seal_code = ""
        self._lost: dict[int, str] = {}
        self._short: dict[int, Finding] = {}
        self.counts = Counts()

    def line(self, row: Row) -> None:
        """The next line of its partition."""
        place = self._places.setdefault(row.p, _Place())
        if place.summing is None:
            place.summing = Summing()
        self.counts.lines += 1
        self._look_at(row, place)
        place.summing.add(row)
        place.last, place.last_place = row.id, row.place
        place.lines += 1

    def _look_at(self, row: Row, place: _Place) -> None:
        about = parsed(row.line)
        code, place.last_code = place.last_code, ""
        if about is None or "mac" not in about:
            self._without_code(row, place, about)
            return
        place.chained = True
        key = self._keys.get(str(about.get("key")))
        where = f"partition {row.p}, line {row.id}"
        if key is None:
            self._tell(Finding("unknown_key", where, f"key {about.get('key')}"))
            return
        signed, _, _ = row.line.rpartition(b',"mac":"')
        if not hmac.compare_digest(_code(key, _LINE, signed).encode(), str(about["mac"]).encode()):
            self._tell(Finding("changed", where, _named(about)))
            return
        place.last_code = str(about["mac"])
        self._link(row, place, about, code, where)

    def _without_code(self, row: Row, place: _Place, about: dict[str, Any] | None) -> None:
        self.counts.unchained += 1
        written = _id_pair(row.id)[0]
        if about is None:
            self._tell(Finding("changed", f"partition {row.p}, line {row.id}", "no JSON object"))
        elif place.chained and written > self._unchained_until:
            self._tell(Finding("unchained", f"partition {row.p}, line {row.id}", _named(about)))

    def _link(self, row: Row, place: _Place, about: dict[str, Any], code_in_front: str, where: str) -> None:
        """Does it follow its chain's last line, and does that stand where this one says?"""
        chain, number, after = str(about["chain"]), int(about["n"]), str(about["after"])
        head = self._heads.get(chain)
        known = head is not None
        if head is None:
            head = self._before(row.p, number, after, place)
        if head is not None and self._gaps:
            wrong = (
                "foreign"
                if head.p not in (-1, row.p)
                else self._wrong_link(head, number, about, row.top, code_in_front)
            )
            if wrong is not None:
                got = f"{_named(about)}, number {number} of its chain behind number {head.number}"
                self._tell(Finding(wrong, where, got))
        if not known or head is None or number > head.number:
            self._heads.put(
                chain, Head(number, str(about["mac"]), row.place, row.p), str(about.get("conversation", ""))
            )

    def _before(self, p: int, number: int, after: str, place: _Place) -> Head | None:
        """The head of a chain that hasn't been seen; None where the line before may be one of those not looked at."""
        floor = self._floors.get(p)
        if number == 1:
            return Head()
        before = (not place.last) if after == BEHIND else floor is not None and _older(after.partition("/")[0], floor)
        if floor is not None and before:
            return None
        return Head(0)

    @staticmethod
    def _wrong_link(head: Head, number: int, about: dict[str, Any], top: str, code_in_front: str) -> str | None:
        if number <= head.number:
            return "repeated"
        if number > head.number + 1 or about["prev"] != head.code:
            return "missing"
        after = str(about["after"])
        if after == BEHIND:  # of one commit: the same top, and nothing in between
            return None if (code_in_front, top) == (head.code, head.place.partition("/")[2]) else "moved"
        return None if after == head.place else "moved"

    # -- seals -------------------------------------------------------------------------------------------------------

    def seal(self, raw: bytes) -> None:
        """The seal over the lines since the one before."""
        about = parsed(raw)
        self.counts.seals += 1
        if about is None or "mac" not in about:
            self._tell(Finding("seal_changed", f"seal {self.counts.seals}", "no seal"))
            self._start_spans()
            return
        where = f"seal {about.get('seal')}"
        key = self._keys.get(str(about.get("key")))
        signed, _, _ = raw.rpartition(b',"mac":"')
        if key is None:
            self._tell(Finding("unknown_key", where, f"key {about.get('key')}"))
        elif not hmac.compare_digest(_code(key, _SEAL, signed).encode(), str(about["mac"]).encode()):
            self._tell(Finding("seal_changed", where, "its code doesn't fit"))
            key = None
        if key is not None:
            self._follow(about, where)
            self._lost = {int(p): place for p, place in about["lost"].items()}
            self._settle_short()
            self._spans(about, where)
        self._start_spans()

    def _follow(self, about: dict[str, Any], where: str) -> None:
        number = int(about["seal"])
        first = self._seal_number is None
        if not first and (number != (self._seal_number or 0) + 1 or about["prev"] != self._seal_code):
            self._tell(Finding("seal_missing", where, f"it follows seal {self._seal_number}"))
        elif first and number != 1 and not self._floors:
            self._tell(Finding("seal_missing", where, "it is the first one there"))
        self._seal_number, self._seal_code = number, str(about["mac"])
        self.counts.last_seal = f"{number}:{about['mac']}"
        self.counts.last_sealed_at = int(about["at"])

    def _spans(self, about: dict[str, Any], where: str) -> None:
        told = {int(p): Span(*span) for p, span in about["spans"].items()}
        for p, place in self._places.items():
            if place.lines and p not in told:
                self._tell(Finding("span_changed", f"{where}, partition {p}", f"{place.lines} lines, none were there"))
        for p, span in told.items():
            floor = self._floors.get(p)
            if floor is not None and _older(span.after or "0-0", floor):
                seen = self._places.get(p)
                self.counts.trimmed += max(0, span.lines - (seen.lines if seen is not None else 0))
                continue
            self._compare(p, span, where)

    def _compare(self, p: int, span: Span, where: str) -> None:
        place = self._places.get(p) or _Place()
        summing = place.summing or Summing()
        if (summing.lines, summing.code) == (span.lines, span.code):
            return
        got = f"{summing.lines} lines of {span.lines}"
        at_end = summing.lines < span.lines and place.last != span.to
        found = Finding(
            "span_changed", f"{where}, partition {p}, lines behind {span.after or 'the first'} to {span.to}", got
        )
        if at_end:
            self._short[p] = found  # what it is, the next seal says
        else:
            self._tell(found)

    def _settle_short(self) -> None:
        for p, found in self._short.items():
            kind = "forgotten" if p in self._lost else found.kind
            self._tell(Finding(kind, found.where, found.got))
        self._short = {}

    def _start_spans(self) -> None:
        for place in self._places.values():
            place.summing, place.lines = None, 0

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, *, now_ms: int | None = None, patience_ms: int = 0) -> None:
        """Everything was given. `now_ms`: lines older than `patience_ms` should be sealed; None where that isn't asked."""
        for found in self._short.values():
            self._tell(Finding("cut_off", found.where, found.got))
        self._short = {}
        for p, place in sorted(self._places.items()):
            self.counts.unsealed += place.lines
            if place.lines and now_ms is not None and _id_pair(place.last)[0] < now_ms - patience_ms:
                self._tell(Finding("unsealed", f"partition {p}, lines up to {place.last}", f"{place.lines} lines"))


def _older(id: str, than: str) -> bool:
    return _id_pair(id) < _id_pair(than)


def _id_pair(id: str) -> tuple[int, int]:
    return id_pair(id) or (0, 0)


def id_pair(id: str) -> tuple[int, int] | None:
    """A place in a stream as numbers; None where somebody has made another text of it."""
    ms, _, number = id.partition("-")
    return (int(ms), int(number)) if ms.isdecimal() and number.isdecimal() and id.isascii() else None


def parsed(line: bytes) -> dict[str, Any] | None:
    """A line or seal as a mapping, None where it is no JSON object."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _named(about: Mapping[str, Any]) -> str:
    return f"{about.get('what')} of conversation {about.get('conversation', about.get('conversation_id'))}"


# -- telling ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """The first finding of each kind, and how many there were."""

    first: dict[str, Finding] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """One more."""
        self.first.setdefault(finding.kind, finding)
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1

    def sentences(self) -> list[str]:
        """One for each kind, for people."""
        return [
            f"{kind} ({self.counts[kind]}): {KINDS[kind]}; first: {one.where}: {one.got}"
            for kind, one in self.first.items()
        ]
