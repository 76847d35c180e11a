"""Masks: what they hide, what they leave, and what they cost."""

import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain import masking
from hub.domain.masking import CUT, IBAN_LENGTHS, Masker, Pattern, folded, luhn, mod_97

CARDS, EVERYTHING = Masker(card=True), Masker(card=True, iban=True, email=True, phone=True)
ALONE = {
    "card": CARDS,
    "iban": Masker(iban=True),
    "email": Masker(email=True),
    "phone": Masker(phone=True),
}
MAX = 65_536


def mask(text: str, masker: Masker = EVERYTHING) -> str:
    """The masked text of a message."""
    return masker.mask(text, MAX)


def number(digits: list[int]) -> str:
    """Digits, and behind them the check digit that makes them a card's number."""
    begun = "".join(map(str, digits))
    return next(begun + str(last) for last in range(10) if luhn(begun + str(last)))


def iban(country: str, seed: str) -> str:
    """An IBAN of that country, made of the seed's digits."""
    account = (seed * 40)[: IBAN_LENGTHS[country] - 4]
    return f"{country}{98 - mod_97(f'{country}00{account}'):02}{account}"


CARD_NUMBERS = st.lists(st.integers(0, 9), min_size=12, max_size=18).map(number)
IBANS = st.builds(iban, st.sampled_from(sorted(IBAN_LENGTHS)), st.text("0123456789", min_size=1, max_size=30))
SEPARATORS = st.sampled_from(["", " ", "-", " - ", ".", "\u00a0", "\u2009", "\u2011", "\u200b", "_", "\n", "/"])
SCRIPTS = st.sampled_from(
    ["0123456789", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "⓪①②③④⑤⑥⑦⑧⑨"]
)
# What numbers are made of, so that they come about by chance; and everything else.
TEXTS = st.text(
    st.one_of(st.sampled_from("0123456789" * 3 + " -./+()[]•…@.abDE\u200b４٤④"), st.characters(codec="utf-8")),
    max_size=200,
)


def survivors(text: str) -> Iterator[str]:
    """Card numbers in a text, found the slow way: every stretch from the beginning of a number to the end of one."""
    groups = list(re.finditer("[0-9]+", folded(text)))
    for first in range(len(groups)):
        digits = ""
        for last in range(first, len(groups)):
            between = folded(text)[groups[last - 1].end() : groups[last].start()] if last > first else ""
            visible = between.replace("\u200b", "")
            if len(visible) > 4 or set(visible) - set(" -_./·•'\t\n\r"):
                break
            digits += groups[last].group()
            if 13 <= len(digits) <= 19 and luhn(digits):
                yield digits


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("My card is 4111 1111 1111 1111.", "My card is [card ••••1111]."),
        ("378282246310005, please", "[card ••••0005], please"),
        ("4111-1111-1111-1111 12/27 123", "[card ••••1111] 12/27 123"),
        ("４１１１\u200b1111・", "４１１１\u200b1111・"),
        ("Card:４１１１ １１１１ １１１１ １１１１!", "Card:[card ••••1111]!"),
        ("4️⃣1️⃣1️⃣1️⃣ 1111 1111 1111", "[card ••••1111]"),
        ("12 4111 1111 1111 1111", "12 [card ••••1111]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("IBAN DE89 3704 0044 0532 0130 00 ok", "IBAN [iban DE••••3000] ok"),
        ("de89370400440532013000", "[iban DE••••3000]"),
        ("GB82-WEST-1234-5698-7654-32", "[iban GB••••5432]"),
        ("mail dana.o'neil+x@mail.example.com.", "mail [e-mail ••••]."),
        ("Ünal@exämple.com, dana＠example．com", "[e-mail ••••], [e-mail ••••]"),
        ("a@b, @example.com, a@1.2, a@b..com", "a@b, @example.com, a@1.2, a@b..com"),
        ("+49 (0)151 123 45 67", "[phone ••••67]"),
        ("call (212) 555-0123 or 0151/23456789", "call [phone ••••23] or [phone ••••89]"),
        ("0049 151 1234567", "[phone ••••67]"),
        ("on 24.11.2026, 01.02.2026 or 2026-01-02 at 09.30", "on 24.11.2026, 01.02.2026 or 2026-01-02 at 09.30"),
        ("order 12345678, ref0123456789, 00000000", "order 12345678, ref0123456789, 00000000"),
    ],
)
def test_what_is_masked_and_what_stays(text: str, shown: str) -> None:
    """Each kind in the forms in which people write it; what only resembles one stays."""
    assert mask(text) == shown


@pytest.mark.parametrize("kind", ALONE)
def test_each_kind_is_asked_for_by_itself(kind: str) -> None:
    """One kind masks what is its own, and none masks nothing."""
    texts = {
        "card": "4111111111111111",
        "iban": "DE89370400440532013000",
        "email": "dana@example.com",
        "phone": "+4915112345679",
    }
    masker = ALONE[kind]
    assert masker.on
    assert {name for name, text in texts.items() if mask(text, masker) != text} == {kind}
    assert not Masker().on
    assert all(mask(text, Masker()) is text for text in texts.values())


@given(TEXTS, CARD_NUMBERS, SEPARATORS, SCRIPTS, st.integers(1, 6), TEXTS)
def test_no_card_number_survives(before: str, digits: str, gap: str, script: str, size: int, after: str) -> None:
    """Whatever stands around it, in whatever digits and groups it is written; nor does any other in the text."""
    written = gap.join(digits[at : at + size] for at in range(0, len(digits), size))
    text = f"{before} :{written.translate({48 + value: one for value, one in enumerate(script)})}: {after}"
    for masker in (CARDS, EVERYTHING):
        assert list(survivors(mask(text, masker))) == []
    assert "[card ••••" in mask(text, CARDS)


@given(TEXTS, IBANS, SEPARATORS, TEXTS)
def test_no_iban_survives(before: str, account: str, gap: str, after: str) -> None:
    """In groups of four, in either case; of every country."""
    gap = gap if gap in ("", " ", "-", ".", "\u00a0", "\u200b") else " "
    written = gap.join(account[at : at + 4] for at in range(0, len(account), 4))
    for text in (written, written.lower()):
        assert mask(f"{before} : {text} : {after}", Masker(iban=True)).count(text) == 0


@given(TEXTS)
def test_masking_again_changes_nothing(text: str) -> None:
    """Placeholders are opaque, and what a placeholder leaves beside it is no new find."""
    own = Masker(card=True, iban=True, email=True, phone=True, patterns=(words("[0-9]{3}"), words("[a-z]", "b")))
    for masker in (CARDS, EVERYTHING, own):
        once = mask(text, masker)
        assert mask(once, masker) == once


@given(st.text(st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"], exclude_characters="@＠﹫"), max_size=300))
def test_text_without_such_data_is_the_same_object(text: str) -> None:
    """No digit and no @: nothing is masked, and the caller can tell without comparing."""
    assert mask(text) is text


@given(TEXTS, st.integers(8, 120))
def test_what_comes_out_fits_the_field(text: str, chars_max: int) -> None:
    """It has at most as many characters as the field may have, or as went in; what is cut says so."""
    masker = Masker(card=True, email=True, phone=True, patterns=(words("[0-9]"),))
    masked = masker.mask(text, chars_max)
    assert len(masked) <= max(chars_max, len(text))
    if masked.endswith(CUT) and not text.endswith(CUT):
        assert len(masker.mask(text, MAX)) > max(chars_max, len(text))


def test_a_long_text_of_short_finds_is_cut() -> None:
    """A message full of single digits that are masked doesn't grow past a message's bound."""
    masked = Masker(patterns=(words("[0-9]"),)).mask("1 " * 30_000, MAX)
    assert len(masked) <= MAX
    assert masked.endswith(CUT)


def test_an_iban_is_checked() -> None:
    """A wrong check digit, a wrong length and a country that has none are no IBAN."""
    for text in ("DE88 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130", "US89 3704 0044 0532 0130 00"):
        assert mask(text, Masker(iban=True)) is text


def words(pattern: str, name: str = "own") -> Pattern:
    """A pattern of the installation's own."""
    compiled = re.compile(pattern)
    return Pattern(name, lambda text: [found.span() for found in compiled.finditer(text)])


def test_an_installations_own_patterns() -> None:
    """They go first, show their name and nothing else, and mean digits of every script, or the character itself."""
    masker = Masker(card=True, patterns=(words("KD-[0-9]{4}", "customer-number"), words("–[a-z]+", "dash")))
    assert (
        mask("KD-1234 and KD-４５６７, –abc", masker)
        == "[customer-number ••••] and [customer-number ••••], [dash ••••]"
    )
    assert mask("KD-4111 1111 1111 1111", masker) == "[customer-number ••••] 1111 1111 1111"


def test_nothing_hides_behind_the_form_of_a_placeholder() -> None:
    """Brackets and dots around a number don't protect it; only what can have been made is left alone."""
    for text in ("[card ••••4111111111111111]", "[4111111111111111 ••••]", "[own ••••4111111111111111]"):
        assert list(survivors(mask(text, CARDS))) == []
    assert mask("[card ••••1111]") == "[card ••••1111]"


def test_a_number_alone() -> None:
    """A card's number that isn't text is found; a time in milliseconds isn't taken for one."""
    assert CARDS.card_number("4111111111111111") == "[card ••••1111]"
    assert CARDS.card_number("4111111111111112") is None
    assert CARDS.card_number(number([int(one) for one in "179537760000"])) is None
    assert Masker(email=True).card_number("4111111111111111") is None


HARD: dict[str, Callable[[int], str]] = {
    "single digits": lambda n: "1 " * n,
    "one long number": lambda n: "4" * n,
    "cards": lambda n: "4111 1111 1111 1111 " * (n // 20),
    "zeros": lambda n: "0 " * n,
    "almost IBANs": lambda n: "DE89 " * n,
    "letters": lambda n: "DE " * n,
    "addresses": lambda n: "a@b.c@" * (n // 6),
    "dots": lambda n: "a@" + "b." * n,
    "signs": lambda n: "@" * n,
    "pluses": lambda n: "+1 " * n,
    "brackets": lambda n: "[card ••••" * (n // 10),
    "nothing": lambda n: "1" + "\u200b" * n + "1",
    "gaps": lambda n: "1" + " " * n + "1",
    "nothing between": lambda n: "4\u200b" * n,
}


def steps(text: str) -> int:
    """Lines of the module that run while a text is masked: a measure that no other program's load changes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != masking.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        mask(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", HARD)
def test_the_time_is_linear(kind: str) -> None:
    """Four times the text takes at most about four times the steps, of everything that is made to be hard."""
    small, big = steps(HARD[kind](500)), steps(HARD[kind](2_000))
    assert big <= 4.2 * small + 500, f"{kind}: {small} steps, {big} for four times the text"


def test_expressions_repeat_single_classes_only() -> None:
    """What the standard library's engine is asked for can't make it go back: at most one class, repeated."""
    for expression in (masking._DIGITS, masking._ALNUM, masking._ADDRESS):
        assert re.fullmatch(r"\[[^\]]+\]\+", expression.pattern), expression.pattern
