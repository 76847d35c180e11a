"""Lines, chains, seals and their checking: pure, every way to change what was written is found by its kind."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.ledger import (
    BEHIND,
    Finding,
    Head,
    LedgerKeys,
    Report,
    Row,
    Span,
    Summing,
    Verifier,
    chained,
    derived_key,
    key_id,
    ledger_name,
    sealed,
)

KEY = b"k" * 32
KEYS = LedgerKeys([KEY])


class Memory(dict[str, Head]):
    """Heads in memory."""

    def put(self, chain: str, head: Head, conversation: str) -> None:
        """It has gone on."""
        self[chain] = head


class Written:
    """A ledger as hubs write it: `items` are rows and seals in the order in which they are checked."""

    def __init__(self, key: bytes = KEY) -> None:
        self.key = key
        self.items: list[Row | bytes] = []
        self.heads: dict[str, Head] = {}
        self.open: dict[int, list[Row]] = {}
        self.ends: dict[int, str] = {}
        self.seals = 0
        self.prev = ""
        self.clock = 1_000_000

    def commit(self, p: int, chain: str, *whats: str) -> None:
        """Lines of one commit."""
        bodies = [json.dumps({"what": what, "conversation": chain}, separators=(",", ":")).encode() for what in whats]
        lines, head = chained(bodies, chain, self.heads.get(chain, Head()), self.key)
        top = str(self.clock % 7)
        for line in lines:
            self.clock += 1
            row = Row(p, f"{self.clock}-0", top, line)
            self.open.setdefault(p, []).append(row)
        self.heads[chain] = replace(head, place=row.place)

    def seal(self, lost: dict[int, str] | None = None) -> None:
        """Everything since the last one."""
        spans = {}
        for p in sorted(self.open):
            summing = Summing()
            for row in self.open[p]:
                summing.add(row)
                self.items.append(row)
            spans[p] = Span(self.ends.get(p, ""), self.open[p][-1].id, summing.lines, summing.code)
            self.ends[p] = self.open[p][-1].id
        self.seals += 1
        raw, self.prev = sealed(self.seals, self.clock, self.prev, spans, lost or {}, self.key)
        self.items.append(raw)
        self.open = {}

    def all(self) -> list[Row | bytes]:
        """With what isn't sealed yet."""
        return [*self.items, *(row for p in sorted(self.open) for row in self.open[p])]


def story() -> Written:
    """Three conversations in two partitions, two seals, and lines behind them."""
    ledger = Written()
    for number in range(3):
        ledger.commit(1, "a", "x", "y")
        ledger.commit(1, "b", f"b{number}")
        ledger.commit(2, "c", "z")
    ledger.seal()
    ledger.commit(1, "a", "x")
    ledger.commit(2, "c", "z", "zz")
    ledger.seal()
    ledger.commit(1, "b", "end")
    ledger.commit(1, "a", "last", "very last")
    return ledger


def findings(items: Sequence[Row | bytes], keys: LedgerKeys = KEYS, **options: Any) -> list[Finding]:
    """What is found in them."""
    found: list[Finding] = []
    end = options.pop("end", {})
    verifier = Verifier(keys, Memory(), found.append, **options)
    for one in items:
        if isinstance(one, Row):
            verifier.line(one)
        else:
            verifier.seal(one)
    verifier.end(**end)
    return found


def kinds(items: Sequence[Row | bytes], **options: Any) -> set[str]:
    """Kinds of what is found."""
    return {one.kind for one in findings(items, **options)}


def rows_of(items: Sequence[Row | bytes]) -> list[int]:
    """Places of the rows."""
    return [place for place, one in enumerate(items) if isinstance(one, Row)]


def test_what_was_written_is_whole() -> None:
    """Nothing is found in a ledger as hubs write it, and everything in it was looked at."""
    items = story().all()
    assert findings(items) == []
    counted = Verifier(KEYS, Memory(), lambda found: None)
    for one in items:
        counted.line(one) if isinstance(one, Row) else counted.seal(one)
    counted.end()
    assert (counted.counts.lines, counted.counts.seals, counted.counts.unsealed) == (18, 2, 3)


def test_lines_hold_what_they_are_given_and_their_place() -> None:
    """A line is a JSON object with its own members, then those of its chain; the next one names it."""
    lines, head = chained([b'{"what":"a"}', b'{"what":"b"}'], "e.c", Head(4, "before", "7-0/3"), KEY)
    first, second = map(json.loads, lines)
    assert (first["what"], first["chain"], first["n"], first["prev"], first["after"]) == (
        "a",
        "e.c",
        5,
        "before",
        "7-0/3",
    )
    assert (second["n"], second["prev"], second["after"], second["key"]) == (6, first["mac"], BEHIND, key_id(KEY))
    assert (head.number, head.code, head.place) == (6, second["mac"], BEHIND)


def test_an_empty_head_begins_a_chain() -> None:
    """The first line of a chain follows nothing."""
    [line], _ = chained([b'{"what":"a"}'], "e.c", Head(), KEY)
    assert (json.loads(line)["n"], json.loads(line)["prev"], json.loads(line)["after"]) == (1, "", "")


def changed(row: Row) -> Row:
    """Another word in it, of the same length."""
    return replace(row, line=row.line.replace(b'"what":"', b'"what":"_', 1))


@pytest.mark.parametrize("place", range(18))
def test_an_edit_is_found_where_it_is(place: int) -> None:
    """Of any line that was edited it is said that it was, and where."""
    items = story().all()
    where = rows_of(items)[place]
    one = items[where]
    assert isinstance(one, Row)
    items[where] = changed(one)
    found = [found for found in findings(items) if found.kind == "changed"]
    assert [one.id in each.where for each in found] == [True]


@pytest.mark.parametrize("place", range(15))
def test_a_sealed_line_that_is_gone_is_missed(place: int) -> None:
    """Whichever sealed line is taken out, the seal over it says that it was there."""
    items = story().all()
    del items[rows_of(items)[place]]
    assert kinds(items) & {"span_changed", "cut_off"}


def test_a_line_that_is_gone_from_within_is_missed_before_it_is_sealed() -> None:
    """The line behind it in its chain names it."""
    ledger = story()
    del ledger.open[1][1]
    assert "missing" in kinds(ledger.all())


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (lambda items: [*items[:8], items[8], items[8], *items[9:]], "repeated"),
        (lambda items: [items[1], items[0], *items[2:]], "missing"),
        (lambda items: [replace(items[0], top="99"), *items[1:]], "span_changed"),
        (lambda items: [*items[:-1], replace(items[-1], p=2)], "foreign"),
        (lambda items: [one for one in items if isinstance(one, Row) or b'"seal":1' not in one], "seal_missing"),
        (lambda items: [one if isinstance(one, Row) else one.replace(b'"at":1', b'"at":2') for one in items], "seal_changed"),
        (lambda items: [*items, Row(1, "9999999-0", "1", b'{"what":"made up","conversation_id":"a"}')], "unchained"),
        (lambda items: [*items, Row(1, "9999999-0", "1", b"no line")], "changed"),
    ],
)  # fmt: skip
def test_each_way_has_its_name(tamper: Callable[[list[Any]], list[Any]], kind: str) -> None:
    """Repeated, swapped, moved, made up or left out: what was done is said by its kind."""
    assert kind in kinds(tamper(story().all()))


def test_the_end_cannot_be_cut_off() -> None:
    """Sealed lines that are gone from a partition's end are missed, though every line that is left is right."""
    ledger = story()
    ledger.open = {}
    items = [one for one in ledger.all() if not (isinstance(one, Row) and one.p == 2 and '"zz"' in one.line.decode())]
    assert kinds(items) == {"cut_off"}


def test_what_a_failover_forgot_is_named() -> None:
    """Lines at the end are gone, and the hub that went on says so in the next seal: that isn't called a change."""
    ledger = story()
    ledger.open = {}
    gone = [one for one in ledger.items if isinstance(one, Row) and one.p == 2][-1]
    ledger.commit(1, "d", "goes on")
    ledger.seal(lost={2: gone.id})
    items = [one for one in ledger.all() if one is not gone]
    assert kinds(items) == {"forgotten"}


def test_a_whole_partition_that_is_gone_is_missed() -> None:
    """Nothing is left of its chains, but the seals had its lines."""
    items = [one for one in story().all() if not (isinstance(one, Row) and one.p == 2)]
    assert kinds(items) & {"cut_off", "span_changed"}


def test_lines_before_the_upgrade_are_told_apart() -> None:
    """Lines without codes in front of the first one that has one are counted, not refused; later ones only up to a time."""
    old = [Row(1, f"{at}-0", "-", b'{"what":"x","conversation_id":"a"}') for at in (1, 2)]
    assert findings(old) == []
    ledger = Written()
    ledger.commit(1, "a", "x")
    late = Row(1, "2000000-0", "-", b'{"what":"y","conversation_id":"b"}')
    assert kinds([*old, *ledger.all()]) == set()
    assert kinds([*old, *ledger.all(), late]) == {"unchained"}
    assert kinds([*old, *ledger.all(), late], unchained_until_ms=2_000_000) == set()


def test_lines_wait_for_a_seal_only_so_long() -> None:
    """Lines that no seal covers are found once they are older than hubs let them be."""
    ledger = story()
    assert kinds(ledger.all(), end={"now_ms": ledger.clock + 100, "patience_ms": 200}) == set()
    assert kinds(ledger.all(), end={"now_ms": ledger.clock + 300, "patience_ms": 200}) == {"unsealed"}


def test_what_made_room_is_not_missed() -> None:
    """With a floor, older lines may be gone; what is there is checked as ever."""
    items = story().all()
    rows = [one for one in items if isinstance(one, Row) and one.p == 1]
    floor = rows[4].id
    kept = [one for one in items if not (isinstance(one, Row) and one.p == 1 and one in rows[:4])]
    assert kinds(kept) != set()
    assert kinds(kept, floors={1: floor}) == set()
    edited = [changed(one) if one is rows[6] else one for one in kept]
    assert "changed" in kinds(edited, floors={1: floor})


def test_another_key_is_not_taken_for_a_change() -> None:
    """Lines of a key that isn't given are said to be so; with both keys all is well."""
    ledger = story()
    ledger.key = b"n" * 32
    ledger.commit(1, "a", "after the change of keys")
    ledger.seal()
    assert kinds(ledger.all()) == {"unknown_key"}
    assert kinds(ledger.all(), keys=LedgerKeys([b"n" * 32, KEY])) == set()


def test_who_has_no_key_cannot_write_a_line() -> None:
    """A line made under another key, even under the empty one, isn't believed."""
    for key in (b"", b"m" * 32):
        ledger = story()
        ledger.key = key
        ledger.commit(1, "a", "forged")
        assert kinds(ledger.all()) == {"unknown_key"}
        forged = replace(
            ledger.open[1][-1], line=ledger.open[1][-1].line.replace(key_id(key).encode(), key_id(KEY).encode())
        )
        assert "changed" in kinds([*ledger.all()[:-1], forged])


def test_names_are_the_same_for_the_same_conversation_only() -> None:
    """Who has the key finds a conversation's lines; the name tells nothing else, and other keys give other names."""
    name = ledger_name(KEY, "acme", "sms:1555:1556:1")
    assert name == ledger_name(KEY, "acme", "sms:1555:1556:1")
    assert len({name, ledger_name(KEY, "other", "sms:1555:1556:1"), ledger_name(b"n", "acme", "sms:1555:1556:1")}) == 3
    assert "1556" not in name
    assert LedgerKeys([b"n", KEY]).names("acme", "sms:1555:1556:1")[1] == name


def test_keys_that_nobody_configured() -> None:
    """Without a key codes protect from accidents only, and that is known."""
    assert not LedgerKeys().secret
    assert LedgerKeys([KEY]).secret
    assert derived_key(b"secret") != derived_key(b"secreu")
    assert b"secret" not in derived_key(b"secret")


def test_a_report_has_the_first_of_each_kind() -> None:
    """However many there are, what is kept doesn't grow."""
    report = Report()
    for number in range(1000):
        report.add(Finding("changed", f"line {number}", "x"))
    report.add(Finding("moved", "line 7", "y"))
    assert report.counts == {"changed": 1000, "moved": 1}
    assert [sentence.split(" (")[0] for sentence in report.sentences()] == ["changed", "moved"]
    assert "line 0" in report.sentences()[0]


@given(st.data())
def test_any_byte_that_changes_is_found(data: st.DataObject) -> None:
    """Whichever bit of whichever line or seal is turned, something is found."""
    items = story().all()
    place = data.draw(st.integers(0, len(items) - 1))
    one = items[place]
    raw = one.line if isinstance(one, Row) else one
    at = data.draw(st.integers(0, len(raw) - 1))
    turned = raw[:at] + bytes([raw[at] ^ (1 << data.draw(st.integers(0, 7)))]) + raw[at + 1 :]
    items[place] = replace(one, line=turned) if isinstance(one, Row) else turned
    assert findings(items) != []


@given(st.integers(0, 2**32))
def test_any_order_but_the_right_one_is_found(seed: int) -> None:
    """Sealed lines of a partition in any other order aren't what was sealed."""
    items = story().all()
    places = [place for place in rows_of(items)[:12] if items[place].p == 1]  # type: ignore[union-attr]
    shuffled = places[:]
    random.Random(seed).shuffle(shuffled)
    moved = items[:]
    for place, other in zip(places, shuffled, strict=True):
        moved[place] = items[other]
    assert (findings(moved) == []) == (shuffled == places)
