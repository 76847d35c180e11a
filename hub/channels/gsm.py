"""
How a text travels as SMS: its alphabet, its segments, and where a long one is cut.

    encoding_of(text)           `gsm7` where each character has a place in the GSM alphabet, else `ucs2`
    segments(text)              how many segments the network carries (and bills)
    cut(text, units_max)        pieces of at most that many UTF-16 units; joined again they are the text
    numbered(pieces)            the pieces as they are sent: "(1/3) ..." where there are several

Sources: 3GPP TS 23.038, section 6.2.1 (the alphabet and its extension table); 3GPP TS 23.040, section 9.2.3.24.1 (a
concatenated message loses 6 octets of each segment to its header: 153 of 160 septets, 67 of 70 UCS-2 units are left).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Literal

Encoding = Literal["gsm7", "ucs2"]

BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION: Final = frozenset("\f^{}\\[~]|€")  # an escape and a septet each

ALONE: Final[dict[Encoding, int]] = {"gsm7": 160, "ucs2": 70}
JOINED: Final[dict[Encoding, int]] = {"gsm7": 153, "ucs2": 67}

# A cut looks back this far for a space or the end of a line before it goes through a word.
LOOK_BACK_UNITS: Final = 200
_ZERO_WIDTH_JOINER: Final = "\u200d"
_REGIONAL: Final = range(0x1F1E6, 0x1F200)  # two of them are one flag
_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
_SPACE: Final = re.compile(r"\s")


def encoding_of(text: str) -> Encoding:
    """The alphabet that the whole text travels in: one character outside the GSM alphabet makes all of it UCS-2."""
    return "gsm7" if all(char in BASIC or char in EXTENSION for char in text) else "ucs2"


def units_of(char: str, encoding: Encoding) -> int:
    """What one character takes of a segment: septets in `gsm7`, UTF-16 units in `ucs2`."""
    if encoding == "gsm7":
        return 2 if char in EXTENSION else 1
    return 2 if ord(char) > 0xFFFF else 1


def segments(text: str) -> int:
    """
    How many segments the text takes; an empty one takes none.

    No character is divided between two segments: an escape stays with its septet, a surrogate with its other half.
    """
    encoding = encoding_of(text)
    sizes = [units_of(char, encoding) for char in text]
    total = sum(sizes)
    if total <= ALONE[encoding]:
        return 1 if total else 0
    count, used, room = 1, 0, JOINED[encoding]
    for size in sizes:
        if used + size > room:
            count, used = count + 1, 0
        used += size
    return count


def utf16_units(text: str) -> int:
    """The text's length as providers count it: UTF-16 units."""
    return len(text) + sum(char > "\uffff" for char in text)


def cut(text: str, units_max: int) -> list[str]:
    """
    The text in pieces of at most `units_max` (at least 2) UTF-16 units, at spaces where there are some near.

    Joined again the pieces are the text. What is seen as one character (an accent on its letter, an emoji of several
    parts) stays together, unless it alone is longer than a piece.
    """
    assert units_max >= 2, units_max
    pieces, start = [], 0
    while start < len(text):
        end = _reach(text, start, units_max)
        if end < len(text):
            end = _better(text, start, end)
        pieces.append(text[start:end])
        start = end
    return pieces


def numbered(pieces: Sequence[str]) -> list[str]:
    """The pieces with their numbers in front, since networks may hand them over in another order; one stays as it is."""
    if len(pieces) < 2:
        return list(pieces)
    return [f"({place}/{len(pieces)}) {piece}" for place, piece in enumerate(pieces, 1)]


def mark_units(pieces_max: int) -> int:
    """The most that `numbered` adds to a piece where there are at most `pieces_max`."""
    return len(f"({pieces_max}/{pieces_max}) ")


def _reach(text: str, start: int, units_max: int) -> int:
    """The first place behind `start` that doesn't fit any more."""
    used, place = 0, start
    while place < len(text):
        used += units_of(text[place], "ucs2")
        if used > units_max:
            break
        place += 1
    return place


def _better(text: str, start: int, end: int) -> int:
    """The best place to cut in `(start, end]`: behind a space, else between two characters as they are seen."""
    lowest = max(start + 1, end - LOOK_BACK_UNITS)
    for place in range(end, lowest - 1, -1):
        if _SPACE.match(text[place - 1]) and _parts(text, place):
            return place
    for place in range(end, start, -1):
        if _parts(text, place):
            return place
    return end


def _parts(text: str, place: int) -> bool:
    """True where the characters before and behind `place` are seen as two (the frequent cases of UAX #29)."""
    before, behind = text[place - 1], text[place]
    if before + behind == "\r\n" or _ZERO_WIDTH_JOINER in (before, behind):
        return False
    if unicodedata.category(behind) in ("Mn", "Mc", "Me") or ord(behind) in _SKIN_TONES:
        return False
    if ord(before) in _REGIONAL and ord(behind) in _REGIONAL:
        run = place
        while run and ord(text[run - 1]) in _REGIONAL:
            run -= 1
        return (place - run) % 2 == 0
    return True
