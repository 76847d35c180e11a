"""
Masking: payment data and personal data in texts, hidden from people who only watch.

    Masker(card=True, ...).mask("My card is 4111 1111 1111 1111.", chars_max=1_024)
        -> "My card is [card ••••1111]."

What is found is replaced by a placeholder that still says what stood there:

    [card ••••1111]      13 to 19 digits whose check digit is right (Luhn, ISO/IEC 7812-1, annex B); the last four stay
    [iban DE••••3000]    country, length and check digits right (ISO 13616, ISO 7064 mod 97-10); country and last four
    [e-mail ••••]        an address with a domain
    [phone ••••67]       +, 00 or 0 and enough digits, or the American 3-3-4; the last two stay
    [NAME ••••]          a pattern of the installation's own; nothing stays

Rules that the tests hold:

- *Nothing survives*: in what comes out, no group of digits (nor several with separators between) is a card number.
- *Idempotent*: a placeholder is opaque, masking again changes nothing.
- *Bounded*: what comes out is no longer than `chars_max` (or than what went in); what would be is cut, `[…]` behind it.
- *Linear*: texts are walked by runs of characters, each place is looked at a bounded number of times, no regular
  expression here repeats anything but a single class. An installation's patterns are given in as finders, because the
  standard library's engine can be made to take exponential time by what a customer writes.

Digits and letters of other scripts and widths count as what they mean (`４`, `٤`, `④`, `Ａ`), characters without width
count as nothing. A number that is split over two messages is not found.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

CUT = "[…]"
CARD_DIGITS_MIN, CARD_DIGITS_MAX = 13, 19
GAP_CHARS_MAX = 4  # visible characters between two groups of one number
ROUNDS_MAX = 8  # what is cut out may leave something that is found only then; beyond this the rest goes as a whole
PATTERN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")

# Lengths by country: SWIFT, IBAN registry (release 99).
IBAN_LENGTHS: dict[str, int] = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FK FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}

Span = tuple[int, int, str]  # where it begins and ends, and the placeholder for it
Finder = Callable[[str], Iterable[tuple[int, int]]]

_DIGITS = re.compile(r"[0-9]+")
_ALNUM = re.compile(r"[0-9A-Za-z]+")
_NOTHING = "\u200b"  # what characters without width are read as
_ADDRESS = re.compile(rf"[\w.%+'{_NOTHING}-]+")
_CARD_GAP = frozenset(" -_./·•'\t\n\r")
_IBAN_GAP = frozenset(" -.\t\n\r")
_PHONE_GAP = frozenset(" -./()\t\n\r")
_DATES = ((2, 2, 4), (2, 2, 2), (4, 2, 2))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of the installation's own: its name, and a finder of (start, end) that takes linear time."""

    name: str
    find: Finder


@dataclass(frozen=True, slots=True)
class Masker:
    """What is masked; `Masker()` masks nothing."""

    card: bool = False
    iban: bool = False
    email: bool = False
    phone: bool = False
    patterns: tuple[Pattern, ...] = ()

    @property
    def on(self) -> bool:
        """True where anything is masked."""
        return self.card or self.iban or self.email or self.phone or bool(self.patterns)

    def mask(self, text: str, chars_max: int) -> str:
        """
        The text as somebody who only watches sees it; the very same object where nothing in it is masked.

        `chars_max`: characters that the field may have.
        """
        pieces: Sequence[_Piece] = _opened(text, self._opaque)
        masked = self._once(pieces)
        if masked == pieces:
            return text
        for _ in range(ROUNDS_MAX):
            pieces, masked = masked, self._once(masked)
            if masked == pieces:
                break
        else:
            masked = [piece if self._once([piece]) == [piece] else _Piece(CUT, True) for piece in masked]
        return _fitted(masked, max(chars_max, len(text)))

    def card_number(self, digits: str) -> str | None:
        """The placeholder for a number that stands alone, where it is a card's; else None."""
        if not self.card or not CARD_DIGITS_MIN < len(digits) <= CARD_DIGITS_MAX or not luhn(digits):
            return None  # thirteen digits as a number are a time in milliseconds; such cards are none any more
        return f"[card ••••{digits[-4:]}]"

    @property
    def _opaque(self) -> re.Pattern[str]:
        return _opaque(tuple(one.name for one in self.patterns))

    def _once(self, pieces: Sequence["_Piece"]) -> list["_Piece"]:
        """Each kind once over what isn't masked yet; the installation's own first: they may mean whole lines."""
        found = list(pieces)
        for find in self._finders():
            found = [part for piece in found for part in _cut_out(piece, find)]
        return found

    def _finders(self) -> Iterator[Callable[[str], Iterable[Span]]]:
        for pattern in self.patterns:
            yield _by_pattern(pattern)
        if self.iban:
            yield lambda text: _ibans(folded(text))
        if self.card:
            yield lambda text: _cards(folded(text))
        if self.email:
            yield lambda text: _addresses(folded(text))
        if self.phone:
            yield lambda text: _phones(folded(text))


# -- pieces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text: as it was written, or (`masked`) a placeholder, into which nobody looks again."""

    text: str
    masked: bool


@lru_cache(maxsize=64)
def _opaque(names: tuple[str, ...]) -> re.Pattern[str]:
    """Exactly the placeholders that can have been made: no other text may hide behind their form."""
    own = "".join(f"|{re.escape(name)} ••••" for name in names)
    kinds = "card ••••[0-9]{4}|iban [A-Z]{2}••••[0-9A-Z]{4}|e-mail ••••|phone ••••[0-9]{2}"
    return re.compile(rf"(\[(?:…|{kinds}{own})\])")


def _opened(text: str, opaque: re.Pattern[str]) -> list[_Piece]:
    parts = opaque.split(text) if "[" in text else [text]
    return [_Piece(part, bool(index % 2)) for index, part in enumerate(parts) if part]


def _cut_out(piece: _Piece, find: Callable[[str], Iterable[Span]]) -> Iterator[_Piece]:
    if piece.masked:
        yield piece
        return
    shown = 0
    for start, end, placeholder in find(piece.text):
        if start > shown:
            yield _Piece(piece.text[shown:start], False)
        yield _Piece(placeholder, True)
        shown = end
    if shown < len(piece.text):
        yield _Piece(piece.text[shown:], False) if shown else piece


def _fitted(pieces: Sequence[_Piece], chars_max: int) -> str:
    """Joined; what is too long is cut between placeholders, never within one."""
    size = sum(len(piece.text) for piece in pieces)
    if size <= chars_max:
        return "".join(piece.text for piece in pieces)
    kept: list[str] = []
    room = chars_max - len(CUT)
    for piece in pieces:
        if len(piece.text) > room:
            # Not a part of what isn't masked either: half of it may be a number that the whole was not.
            break
        kept.append(piece.text)
        room -= len(piece.text)
    return "".join(kept) + CUT


# -- reading other scripts -------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    """The text with each character read as the ASCII one that it means, where there is one; of the same length."""
    return text if text.isascii() else "".join([_folded(character) for character in text])


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    meant = unicodedata.normalize("NFKC", character)
    if len(meant) == 1 and meant.isascii():
        return meant
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me"):  # joiners, variation selectors, the frame of a keycap
        return _NOTHING
    return {"Pd": "-", "Pc": "_", "Zs": " ", "Zl": "\n", "Zp": "\n"}.get(category, character)


# -- numbers ---------------------------------------------------------------------------------------------------------

Group = tuple[int, int]


def luhn(digits: str) -> bool:
    """True where the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) << (index & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod_97(iban: str) -> int:
    """The remainder that is 1 for a right IBAN (ISO 7064, mod 97-10); upper case, without separators."""
    return int("".join([str(int(one, 36)) for one in iban[4:] + iban[:4]])) % 97


def _runs(text: str, groups: Iterable[Group], gap: frozenset[str]) -> Iterator[list[Group]]:
    """Groups with nothing but a short gap between them."""
    run: list[Group] = []
    for group in groups:
        if run and not _is_gap(text[run[-1][1] : group[0]], gap):
            yield run
            run = []
        run.append(group)
    if run:
        yield run


def _is_gap(between: str, gap: frozenset[str]) -> bool:
    visible = between.replace(_NOTHING, "")
    return len(visible) <= GAP_CHARS_MAX and gap.issuperset(visible)


def _groups(text: str, run: re.Pattern[str]) -> list[Group]:
    return [found.span() for found in run.finditer(text)]


def _cards(text: str) -> Iterator[Span]:
    for run in _runs(text, _groups(text, _DIGITS), _CARD_GAP):
        first = 0
        while first < len(run):
            found = _card_from(text, run, first)
            if found is None:
                first += 1
                continue
            last, number = found
            yield run[first][0], run[last][1], f"[card ••••{number[-4:]}]"
            first = last + 1


def _card_from(text: str, run: list[Group], first: int) -> tuple[int, str] | None:
    """The longest card number that begins with this group and ends with one: (that one, its digits)."""
    number, found = "", None
    for last in range(first, len(run)):
        start, end = run[last]
        if len(number) + end - start > CARD_DIGITS_MAX:
            break
        number += text[start:end]
        if len(number) >= CARD_DIGITS_MIN and luhn(number):
            found = (last, number)
    return found


def _ibans(text: str) -> Iterator[Span]:
    for run in _runs(text, _groups(text, _ALNUM), _IBAN_GAP):
        first = 0
        while first < len(run):
            found = _iban_from(text, run, first)
            if found is None:
                first += 1
                continue
            last, iban = found
            yield run[first][0], run[last][1], f"[iban {iban[:2]}••••{iban[-4:]}]"
            first = last + 1


def _iban_from(text: str, run: list[Group], first: int) -> tuple[int, str] | None:
    """The IBAN that begins with this group and ends with one: (that one, itself without gaps)."""
    start = run[first][0]
    wanted = IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    iban = ""
    for last in range(first, len(run)):
        start, end = run[last]
        if len(iban) + end - start > wanted:
            return None
        iban += text[start:end].upper()
        if len(iban) == wanted:
            return (last, iban) if iban[2:4].isdigit() and mod_97(iban) == 1 else None
    return None


def _phones(text: str) -> Iterator[Span]:
    for run in _runs(text, _groups(text, _DIGITS), _PHONE_GAP):
        first = 0
        while first < len(run):
            if tuple(end - start for start, end in run[first : first + 3]) in _DATES:
                first += 3
                continue
            last = _phone_from(text, run, first)
            if last is None:
                first += 1
                continue
            start, end = run[first][0], run[last][1]
            while start and text[start - 1] in "+(":
                start -= 1
            yield start, end, f"[phone ••••{_last_digits(text, run[first : last + 1], 2)}]"
            first = last + 1


def _phone_from(text: str, run: list[Group], first: int) -> int | None:
    """The last group of the phone number that begins with this group."""
    start = run[first][0]
    before = text[:start].rstrip(_NOTHING)[-1:] if start and text[start - 1] == _NOTHING else text[start - 1 : start]
    if before.isalnum() or before == "_":
        return None
    least, most = _phone_digits(text[start : start + 3], before == "+")
    sizes = [end - start for start, end in run[first : first + 15]]
    for american in ((3, 3, 4), (1, 3, 3, 4)):
        if tuple(sizes[: len(american)]) == american and (len(american) == 3 or text[start] == "1"):
            return first + len(american) - 1
    found, total = None, 0
    for index, size in enumerate(sizes if most else ()):
        total += size
        if total > most:
            break
        if total >= least:
            found = first + index
    return found


def _phone_digits(begins: str, plus: bool) -> tuple[int, int]:
    """How many digits a number has that begins so (ITU-T E.164: at most 15 behind the prefix); (0, 0) where it is none."""
    if plus:
        return 7, 15
    if begins.startswith("000") or not begins.startswith("0"):
        return 0, 0
    return (9, 17) if begins.startswith("00") else (8, 14)


def _last_digits(text: str, groups: Sequence[Group], count: int) -> str:
    return "".join([text[start:end] for start, end in groups[-count:]])[-count:]


# -- addresses and the installation's own ----------------------------------------------------------------------------


def _addresses(text: str) -> Iterator[Span]:
    if "@" not in text:
        return
    shown = 0
    for (start, end), (begins, ends) in _neighbours(text):
        if start < shown:
            continue
        domain = text[begins:ends].rstrip(".-'%+_" + _NOTHING)
        labels = domain.replace(_NOTHING, "").split(".")
        name_ok = text[start:end].strip(".-'%+" + _NOTHING) != ""
        if name_ok and len(labels) > 1 and all(labels) and len(labels[-1]) > 1 and not labels[-1].isdigit():
            shown = begins + len(domain)
            yield start, shown, "[e-mail ••••]"


def _neighbours(text: str) -> Iterator[tuple[Group, Group]]:
    """Words with nothing but an @ between them."""
    before: Group | None = None
    for found in _ADDRESS.finditer(text):
        word = found.span()
        if before is not None and word[0] - before[1] == 1 and text[before[1]] == "@":
            yield before, word
        before = word


def _by_pattern(pattern: Pattern) -> Callable[[str], Iterable[Span]]:
    placeholder = f"[{pattern.name} ••••]"

    def find(text: str) -> Iterator[Span]:
        spans = set(pattern.find(text))
        read = folded(text)
        if read != text:  # a pattern may mean the character itself, or the digit that it stands for
            spans |= set(pattern.find(read))
        shown = 0
        for start, end in sorted(spans):
            if end > max(start, shown):
                yield max(start, shown), end, placeholder
                shown = end

    return find
