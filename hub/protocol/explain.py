"""
Why something couldn't be read, in words for its sender: only reached once the typed decoder has failed.

msgspec says "Expected `int`, got `str` - at `$.x`"; clients get the same as a sentence and the place as
`details.path`: names from the outermost object in, joined by dots (`filter.channels[0]`), `$` for the object itself.
"""

import json
import re
from typing import NoReturn

from hub.domain.errors import Refused
from hub.protocol.fields import PATTERN_WORDS

ROOT = "$"
NESTING_MAX = 64
SAFE_DIGITS_MAX = 20
# What takes the place of a part that nests too deeply: JSON by its grammar, but refused by every typed field.
TOO_DEEP = r'"\udead"'

_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_OWN = re.compile(r"`(?P<name>\w+)`: (?P<words>.*)", re.DOTALL)  # raised by a struct's own check
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_PATTERN = re.compile(r"Expected `str` matching regex (?P<pattern>'.*'|\".*\")", re.DOTALL)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_NAME_CHARS_MAX = 64


def invalid(path: str, message: str) -> Refused:
    """A `schema_invalid` about the place `path`."""
    return Refused("schema_invalid", message, {"path": path})


def explain(error: Exception, prefix: str = "") -> Refused:
    """`schema_invalid` for what msgspec (or the interpreter below it) raised; `prefix` goes before the path."""
    text = str(error)
    if isinstance(error, RecursionError):
        return invalid(prefix or ROOT, "Expected JSON of a few levels, got one that nests too deeply.")
    if isinstance(error, UnicodeError) or text == "Input data was truncated" or "surrogate" in text:
        return invalid(prefix or ROOT, "Expected text of whole Unicode characters, got a broken one (half a pair).")
    place = _PLACE.search(text)
    if place:
        text = text[: place.start()]
    path = _join(prefix, place["path"] if place else "")
    if found := _MISSING.fullmatch(text):
        return invalid(_join(path, found["name"]), f"Expected the field `{found['name']}`, got none.")
    if found := _UNKNOWN.fullmatch(text):
        name = printable(found["name"])
        return invalid(_join(path, name), f"Expected only known fields, got `{name}`.")
    if found := _OWN.fullmatch(text):
        path, text = _join(path, found["name"]), found["words"]
    elif found := _PATTERN.fullmatch(text):
        text = f"Expected {_pattern_words(found['pattern'])}, got something else"
    return invalid(path or ROOT, f"At `{path or ROOT}`: {printable(text, 200)}.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _pattern_words(quoted: str) -> str:
    pattern = quoted[1:-1].replace("\\\\", "\\")
    return PATTERN_WORDS.get(pattern, f"a string matching {pattern}")


def printable(text: str, chars_max: int = _NAME_CHARS_MAX) -> str:
    """`text` fit for a message: shortened, and what can't be printed replaced by `?`."""
    return "".join(char if char.isprintable() else "?" for char in text[:chars_max])


def read_leniently(text: str) -> object:
    """
    `text` as JSON of any shape, however deep or large its numbers are; only for finding out what was meant.

    Integers too large for us come back as floats; parts that nest more than `NESTING_MAX` levels as a string.

    Raises:
        ValueError: Not JSON.
    """
    try:
        return _loads(text)
    except RecursionError:
        return _loads(flatten(text))


def _loads(text: str) -> object:
    return json.loads(text, parse_int=_int_or_float, parse_constant=_refuse_constant)


def _int_or_float(digits: str) -> int | float:
    return int(digits) if len(digits) <= SAFE_DIGITS_MAX else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def flatten(text: str) -> str:
    """`text` with every part that nests more than `NESTING_MAX` levels replaced by the string `TOO_DEEP`."""
    kept: list[str] = []
    depth = start = 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == NESTING_MAX + 1:
                kept += text[start : token.start()], TOO_DEEP
        elif token[0] in "]}":
            if depth == NESTING_MAX + 1:
                start = token.end()
            depth -= 1
    if depth <= NESTING_MAX:
        kept.append(text[start:])
    return "".join(kept)
