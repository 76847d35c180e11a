"""`[connectors.SUB]`: what the hub delivers for by itself, with options that only their adapter understands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hub.tables.document import Document, SettingsError, TablePath, parse_address, texts_of, wrong


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """
    One connector that the hub delivers for by itself: conversations of `org` that the connector of this name started.

    `adapter` names the code that speaks to the provider (`hub.channels.delivery.ADAPTERS`); `options` are its own (texts,
    numbers, booleans, lists and tables of texts), never shown, since secrets are among them. `allow_private`: `name:port`
    of hosts that may be called although their addresses are not public ones.
    """

    org: str
    adapter: str
    allow_private: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


def take_connectors(
    document: Document,
    read: Callable[[Path], bytes],
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """`[connectors.<sub>]`: who it is for, which adapter, and the adapter's options, those of files read."""
    made: dict[str, ConnectorSettings] = {}
    for key in document.table(("connectors",)):
        made[key] = _connector(document, key, read, sources)
        sources[f"connectors.{key}"] = document.at(("connectors", key))
    if made:
        values["connectors"], sources["connectors"] = MappingProxyType(made), document.at(("connectors",))


def _connector(
    document: Document, key: str, read: Callable[[Path], bytes], sources: dict[str, str]
) -> ConnectorSettings:
    path: TablePath = ("connectors", key)
    table = document.entry(path, None)
    options: dict[str, Any] = {}
    for name, value in table.items():
        if name in ("org", "adapter", "allow_private"):
            continue
        at = document.at((*path, name))
        if name.endswith("_file"):
            name = name.removesuffix("_file")
            value = _of_file(document, path, name, read)
        if name in options:
            raise SettingsError(f"{at}: `{name}` and `{name}_file` both stand there; one is allowed")
        within = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else ()
        plain = isinstance(value, (str, int, float, bool, list, dict)) and all(isinstance(one, str) for one in within)
        if not plain:
            kind = "table" if isinstance(value, dict) else type(value).__name__
            raise SettingsError(f"{at}: `{name}` is a {kind}; allowed: text, number, boolean, texts, a table of texts")
        options[name], sources[f"connectors.{key}.{name}"] = value, at
    private = texts_of(table.get("allow_private", []), "allow_private", document.at((*path, "allow_private")))
    for one in private:
        try:
            parse_address(one)
        except ValueError as error:
            at = document.at((*path, "allow_private"))
            raise wrong(at, "allow_private", one, f"{error}, like mail.internal:443") from None
    return ConnectorSettings(
        org=document.id(path, "org"),
        adapter=document.text(path, "adapter"),
        allow_private=tuple(one.lower() for one in private),
        options=MappingProxyType(options),
    )


def _of_file(document: Document, path: TablePath, name: str, read: Callable[[Path], bytes]) -> str:
    """The text of a file that the option `<name>_file` names."""
    file = document.beside(document.text(path, f"{name}_file"))
    at = document.at((*path, f"{name}_file"))
    try:
        text = read(file).decode().strip()
    except SettingsError as error:
        raise SettingsError(f"{at}: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{at}: {file} isn't text") from None
    if not text:
        raise SettingsError(f"{at}: {file} is empty")
    return text
