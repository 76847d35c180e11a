"""`[masking]`: what people who only watch don't get to read."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hub.domain.masking import PATTERN_NAME
from hub.linear import NoEngine, finder
from hub.tables.document import Document, SettingsError, TablePath, unknown_key, wrong


@dataclass(frozen=True, slots=True)
class MaskingSettings:
    """
    What people who only watch don't get to read: kinds that are built in, and `patterns`, (name, RE2 pattern) of one's own.

    See `hub/domain/masking.py`; nothing is masked by default.
    """

    card: bool = False
    iban: bool = False
    email: bool = False
    phone: bool = False
    patterns: tuple[tuple[str, str], ...] = ()


_MASKED_KINDS: Final = ("card", "iban", "email", "phone")
_MASKED_PATTERNS_MAX: Final = 64


def maskings_of(document: Document) -> Iterator[tuple[str, Any, str]]:
    """`[masking]`, and what `[masking.queues.ID]` says otherwise for one queue; what that leaves out stays."""
    table = document.table(("masking",))
    if not table:
        return
    everywhere = _masking(document, ("masking",), (*_MASKED_KINDS, "patterns", "queues"), MaskingSettings())
    yield "masking", everywhere, document.at(("masking",))
    made: dict[str, MaskingSettings] = {}
    for key in document.table(("masking", "queues")):
        path: TablePath = ("masking", "queues", key)
        document.entry(path, (*_MASKED_KINDS, "patterns"))
        made[key] = _masking(document, path, (*_MASKED_KINDS, "patterns"), everywhere)
        yield f"masking.queues.{key}", None, document.at(path)
    yield "masking_queues", MappingProxyType(made), document.at(("masking", "queues"))


def _masking(
    document: Document, path: TablePath, allowed: Sequence[str], otherwise: MaskingSettings
) -> MaskingSettings:
    table = document.table(path)
    for key, value in table.items():
        if key not in allowed:
            raise unknown_key(document.at((*path, key)), key, allowed)
        if key in _MASKED_KINDS and not isinstance(value, bool):
            raise wrong(document.at((*path, key)), key, value, "true or false")
    kinds = {key: table[key] for key in _MASKED_KINDS if key in table}
    if "patterns" in table:
        return dataclasses.replace(otherwise, **kinds, patterns=_patterns(document, (*path, "patterns")))
    return dataclasses.replace(otherwise, **kinds)


def _patterns(document: Document, path: TablePath) -> tuple[tuple[str, str], ...]:
    listed = document.get(path)
    if not isinstance(listed, list) or len(listed) > _MASKED_PATTERNS_MAX:
        allowed = f'at most {_MASKED_PATTERNS_MAX} tables like {{name = "order", pattern = "KD-[0-9]+"}}'
        raise wrong(document.at(path), "patterns", listed, allowed)
    patterns = tuple(_pattern(document, (*path, index)) for index in range(len(listed)))
    names = [name for name, _ in patterns]
    if len(set(names)) < len(names):
        raise SettingsError(f"{document.at(path)}: two patterns have the same name; each is allowed once")
    return patterns


def _pattern(document: Document, path: TablePath) -> tuple[str, str]:
    document.entry(path, ("name", "pattern"))
    name, pattern = document.text(path, "name"), document.text(path, "pattern")
    if not PATTERN_NAME.fullmatch(name) or name in (*_MASKED_KINDS, "e-mail"):
        at = document.at((*path, "name"))
        raise wrong(at, "name", name, "1 to 24 of a-z, 0-9, `-`, other than the kinds that are built in")
    try:
        finder(pattern)
    except NoEngine as error:
        raise SettingsError(f"{document.at((*path, 'pattern'))}: {error}") from None
    except ValueError as error:
        raise wrong(document.at((*path, "pattern")), "pattern", pattern, str(error)) from None
    return name, pattern
