"""
A TOML text that still knows where each value stands, and the words in which what is wrong with one is said.

    Document(text, name)      the parsed text; `at(path)` is `hub.toml line 3`
    SettingsError             a wrong key or value: file, line, what was got, what is allowed
    wrong, unknown_key        the two errors that most checks end with
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.domain.grants import EVERYTHING

ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
DAY_MS = 86_400_000
INT_MAX = 2**53 - 1
TablePath = tuple[str | int, ...]  # where a value stands in the file: ("queues", "support", "name"), ("issuers", 0)


class SettingsError(Exception):
    """A wrong configuration; the message is one sentence for the person who wrote it. Programs exit with 2."""


def parse_address(text: str) -> tuple[str, int]:
    """
    Split `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it isn't of that form.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError("HOST:PORT")
    if int(port) > 65_535:
        raise ValueError("a port up to 65535")
    return (host[1:-1] if bracketed else host), int(port)


def texts_of(value: object, key: str, at: str) -> tuple[str, ...]:
    """A list of texts, none of them empty."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise wrong(at, key, value, "a list of texts")
    return tuple(value)


def ids_of(value: object, key: str, at: str) -> tuple[str, ...]:
    """Ids, or the one that means everything."""
    texts = texts_of(value, key, at)
    for text in texts:
        if text != EVERYTHING and not ID.fullmatch(text):
            raise wrong(at, key, text, "ids of 1 to 64 of A-Z, a-z, 0-9, `_.:-`, or `*`")
    return texts


class Document:
    """A parsed TOML text that still knows on which line each value stands."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            self.values: Mapping[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(_syntax_error(name, text, str(error))) from None
        self._lines = _lines(text)

    def at(self, path: TablePath) -> str:
        """`hub.toml line 3`; of the nearest table where a value's own line isn't found (inline tables)."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.name} line {self._lines[path]}" if path else self.name

    def get(self, path: TablePath) -> Any:
        """What stands at a path that exists."""
        value: Any = self.values
        for part in path:
            value = value[part]
        return value

    def table(self, path: TablePath) -> Mapping[str, Any]:
        """The table at a path; empty where there is none."""
        if path[-1] not in self.get(path[:-1]):
            return {}
        value = self.get(path)
        if not isinstance(value, dict):
            raise wrong(self.at(path), str(path[-1]), value, f"a table: [{'.'.join(map(str, path))}]")
        return value

    def entry(self, path: TablePath, allowed: Sequence[str] | None) -> Mapping[str, Any]:
        """A table of known keys (None: of any) whose own name is an id."""
        value = self.get(path)
        if not isinstance(value, dict):
            raise wrong(self.at(path), str(path[-1]), value, f"a table: [{'.'.join(map(str, path))}]")
        if isinstance(path[-1], str) and not ID.fullmatch(path[-1]):
            raise wrong(self.at(path), str(path[0]), path[-1], "an id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
        for key in value:
            if allowed is not None and key not in allowed:
                raise unknown_key(self.at((*path, key)), key, allowed)
        return value

    def text(self, path: TablePath, key: str, default: str | None = None) -> str:
        """A text that isn't empty; without a default it must be there."""
        value = self.get(path).get(key, default)
        if value is None:
            raise SettingsError(f"{self.at(path)}: `{key}` is missing")
        if not isinstance(value, str) or not value or not value.isprintable():
            raise wrong(self.at((*path, key)), key, value, "a printable text")
        return value

    def id(self, path: TablePath, key: str, default: str | None = None) -> str:
        """An id, or the default where it isn't there."""
        if default is not None and key not in self.get(path):
            return default
        value = self.text(path, key)
        if not ID.fullmatch(value):
            raise wrong(self.at((*path, key)), key, value, "an id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
        return value

    def beside(self, name: str) -> Path:
        """A file that the configuration names: relative to the configuration's own folder."""
        return Path(self.name).parent / Path(name).expanduser()


def _lines(text: str) -> dict[TablePath, int]:
    """
    Line numbers by path, read from headers and the left sides of `=`.

    The fragments are parsed by tomllib itself, so quoted and dotted keys mean what they mean there. Lines within
    multi-line values may be taken for keys; they then only add entries that nobody looks up.
    """
    found: dict[TablePath, int] = {}
    table: TablePath = ()
    counts: dict[TablePath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[(.+?)\]\]\s*(#.*)?$", line) or re.match(r"\s*\[(.+?)\]\s*(#.*)?$", line)
        if header:
            table = _numbered(_path(header[1]), counts)
            if line.lstrip().startswith("[["):
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, counts[table])
        elif "=" in line:
            path = (*table, *_key_path(line))
            if path != table:
                found.setdefault(path, number)
            continue
        for length in range(1, len(table) + 1) if header else ():
            found.setdefault(table[:length], number)
    return found


def _numbered(table: TablePath, counts: Mapping[TablePath, int]) -> TablePath:
    """A header's path with the numbers of the tables above it: `issuers.claims` belongs to the last of `[[issuers]]`."""
    found: TablePath = ()
    for name in table[:-1]:
        found = (*found, name)
        if found in counts:
            found = (*found, counts[found])
    return (*found, *table[-1:])


def _key_path(line: str) -> TablePath:
    """The path on the left of a line's first `=` that isn't within quotes; empty where there is none."""
    for position in (found.start() for found in re.finditer("=", line)):
        path = _path(line[:position])
        if path:
            return path
    return ()


def _path(fragment: str) -> TablePath:
    try:
        value: Any = tomllib.loads(f"{fragment} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)


def _syntax_error(name: str, text: str, message: str) -> str:
    found = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)$", message)
    if not found:
        return f"{name}: not TOML: {message}"
    line = found[1] or str(max(1, len(text.splitlines())))
    return f"{name} line {line}: not TOML: {message[: found.start()]}"


def read_file(path: Path) -> bytes:
    """What a file holds. Raises SettingsError where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from None


def wrong(at: str, key: str, got: object, allowed: str) -> SettingsError:
    """The error of a value: where it stands, what was got, what is allowed."""
    shown = repr(got)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return SettingsError(f"{at}: `{key}` is {shown}; allowed: {allowed}")


def unknown_key(at: str, key: str, allowed: Sequence[str]) -> SettingsError:
    """The error of a key that nobody knows, with the one that may have been meant."""
    hint = did_you_mean(key, allowed)
    return SettingsError(f"{at}: unknown key `{key}`{hint}; allowed: {', '.join(sorted(allowed))}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of an error: the known name that is most like this one, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def one_of(names: Sequence[str]) -> str:
    """What is allowed, where that is one of these."""
    return ", ".join(names)
