"""Texts as SMS: alphabets, segments, cuts."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.channels.gsm import BASIC, EXTENSION, cut, encoding_of, mark_units, numbered, segments, utf16_units

# 3GPP TS 23.038, section 6.2.1: the table by rows, as written there; the place of the escape is left out.
TABLE = (
    "@Δ 0¡P¿p£_!1AQaq$Φ\"2BRbr¥Γ#3CScsèΛ¤4DTdtéΩ%5EUeuùΠ&6FVfvìΨ'7GWgwòΣ(8HXhxÇΘ)9IYiy\nΞ*:JZjz"
    "Ø+;KÄkäøÆ,<LÖlö\ræ-=MÑmñÅß.>NÜnüåÉ/?O§oà"
)
ALPHABET = st.sampled_from(sorted(BASIC | EXTENSION))
ANY = st.one_of(ALPHABET, st.sampled_from(list(" \n€é漢😀👩🏽‍🚀🇩🇪́")), st.characters(exclude_categories=["Cs"]))


def test_the_alphabet_is_the_specifications() -> None:
    """127 characters in the basic table, 10 more behind the escape."""
    assert frozenset(TABLE) == BASIC
    assert (len(BASIC), len(EXTENSION)) == (127, 10)
    assert not BASIC & EXTENSION


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # the escape isn't parted from its septet, so the first has 152
        ("a" * 152 + "€" + "a" * 151, 2),
        ("漢" * 70, 1),
        ("漢" * 71, 2),
        ("漢" * 134, 2),
        ("漢" * 135, 3),
        ("a" * 69 + "ç", 1),  # the small ç isn't in the alphabet, the capital one is
        ("Ç" * 160, 1),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),  # 33 in each of 67 units
    ],
)
def test_segments_are_counted_as_the_network_counts_them(text: str, count: int) -> None:
    """160 septets or 70 units alone, 153 or 67 joined, no character divided."""
    assert segments(text) == count


@given(st.text(ALPHABET, max_size=700))
def test_what_the_alphabet_has_is_sent_in_it(text: str) -> None:
    """No character of the two tables makes a text UCS-2."""
    assert encoding_of(text) == "gsm7"


@given(st.text(ANY, max_size=400), st.text(ANY, max_size=5))
def test_more_text_never_takes_fewer_segments(text: str, more: str) -> None:
    """Segments grow with the text, and hold what their octets can hold."""
    assert segments(text) <= segments(text + more)
    units = sum(2 if char in EXTENSION else 1 for char in text) if encoding_of(text) == "gsm7" else utf16_units(text)
    alone, joined = (160, 153) if encoding_of(text) == "gsm7" else (70, 67)
    assert segments(text) == (0 if not units else 1) if units <= alone else segments(text) >= -(-units // joined)
    assert segments(text) <= 1 or segments(text) <= -(-units // (joined - 1))


@given(st.text(ANY, max_size=500), st.integers(2, 90))
@example("🇩🇪" * 9, 6)
@example("e\u0301" * 9, 3)
@example("👩🏽‍🚀" * 3, 9)
def test_cut_pieces_joined_again_are_the_text(text: str, units_max: int) -> None:
    """No piece is empty or longer than allowed, and nothing is lost, added or moved."""
    pieces = cut(text, units_max)
    assert "".join(pieces) == text
    assert all(0 < utf16_units(piece) <= units_max for piece in pieces)


@given(st.lists(st.sampled_from(["👩🏽‍🚀", "🇩🇪", "e\u0301", "a", "漢"]), max_size=60), st.integers(7, 40))
def test_cuts_go_between_characters_as_they_are_seen(seen: list[str], units_max: int) -> None:
    """An emoji of several parts, a flag, a letter with its accent are never divided where a piece can hold them."""
    starts = {0}
    for one in seen:
        starts.add(max(starts) + len(one))
    place = 0
    for piece in cut("".join(seen), units_max):
        assert place in starts, (seen, units_max)
        place += len(piece)


def test_cuts_are_made_at_spaces() -> None:
    """Words stay whole where a space is near; the space stays with the first piece."""
    text = "word " * 100
    pieces = cut(text, 64)
    assert all(piece.endswith(" ") and piece.startswith("word") for piece in pieces)
    assert all(len(one) > 55 for one, _ in pairwise(pieces))


def test_several_pieces_are_numbered_and_one_is_not() -> None:
    """Numbers stand in front, and take no more room than is left for them."""
    assert numbered(["all"]) == ["all"]
    assert numbered([]) == []
    assert numbered(["a", "b", "c"]) == ["(1/3) a", "(2/3) b", "(3/3) c"]
    assert all(len(one) - 1 <= mark_units(10) for one in numbered(["x"] * 10))
