"""
An adapter's options, read with the checks that most adapters need.

    options = Options(given)
    url = options.text("url")
    secret = options.secret("key", bytes_min=16)
    options.done()                                   # refuses whatever was not asked for
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from hub.channels.port import BadOption, Option


class Options:
    """Every method raises BadOption: for a value that is wrong, and for a missing one where there is no default."""

    def __init__(self, given: Mapping[str, Option]) -> None:
        self._given = given
        self._known: set[str] = set()

    def _value(self, key: str, default: Option | None) -> Option:
        self._known.add(key)
        value = self._given.get(key, default)
        if value is None:
            raise BadOption(key, "is missing")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A printable text; it may be empty only where that is the default."""
        value = self._value(key, default)
        if not isinstance(value, str) or not value.isprintable() or (not value and default != ""):
            raise BadOption(key, f"is {_shown(value)}; allowed: a printable text")
        return value

    def secret(self, key: str, default: str | None = None, *, bytes_min: int = 1) -> str:
        """A text that no error shows, of at least `bytes_min` bytes unless it is the (empty) default."""
        value = self._value(key, default)
        if not isinstance(value, str) or not value.isprintable():
            raise BadOption(key, "isn't a printable text")
        if value != default and len(value.encode()) < bytes_min:
            raise BadOption(key, f"has {len(value.encode())} bytes; allowed: at least {bytes_min}")
        return value

    def number(self, key: str, default: int | None = None, *, least: int = 0, most: int = 2**53 - 1) -> int:
        """A whole number from `least` to `most`."""
        value = self._value(key, default)
        if type(value) is not int or not least <= value <= most:
            raise BadOption(key, f"is {_shown(value)}; allowed: a whole number from {least} to {most}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise BadOption(key, f"is {_shown(value)}; allowed: true or false")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts."""
        value = self._value(key, default)
        if isinstance(value, (str, int, float, Mapping)) or not all(map(_is_text, value)):
            raise BadOption(key, f"is {_shown(value)}; allowed: a list of texts")
        return tuple(value)

    def table(self, key: str, default: Mapping[str, str] | None = None) -> dict[str, str]:
        """Texts by name."""
        value = self._value(key, default)
        if not isinstance(value, Mapping) or not all(map(_is_text, value.values())):
            raise BadOption(key, f"is {_shown(value)}; allowed: a table of texts")
        return dict(value)

    def done(self) -> None:
        """Refuse a key that nobody asked for."""
        for key in self._given:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = f"; did you mean `{close[0]}`?" if close else ""
                raise BadOption(key, f"is unknown{hint}; allowed: {', '.join(sorted(self._known))}")


def _shown(value: object) -> str:
    """What was got, for a person: of a text only its length, since a secret may stand in the wrong place."""
    return f"a text of {len(value)} characters" if isinstance(value, str) else repr(value)[:80]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
