"""Secrets of the hub itself: of the environment, else of files that the configuration names; never in it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hub.tables.document import Document, SettingsError, TablePath

SECRET_BYTES_MIN: Final = 32
HOW_TO_MAKE_ONE: Final = "export HUB_TOKEN_SECRET=$(openssl rand -hex 32)"


def secret_of(
    document: Document, env: Mapping[str, str], read: Callable[[Path], bytes], variable: str, path: TablePath, key: str
) -> tuple[bytes, str] | None:
    """
    What a variable holds, else the file that `key` of the table at `path` names; and where that was found. None: neither.

    Raises:
        SettingsError: the file can't be read.
    """
    if env.get(variable):
        return env[variable].encode(errors="surrogateescape"), variable
    if key not in document.get(path):
        return None
    at, file = document.at((*path, key)), document.beside(document.text(path, key))
    try:
        return read(file).strip(), f"{at} ({file})"
    except SettingsError as error:
        raise SettingsError(f"{at}: {error}") from None


def take_secret(
    document: Document,
    env: Mapping[str, str],
    read: Callable[[Path], bytes],
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """The secret of the environment, else of the file that the configuration names; too short a one is refused."""
    found = secret_of(document, env, read, "HUB_TOKEN_SECRET", (), "token_secret_file")
    if found is None:
        return
    secret, at = found
    if len(secret) < SECRET_BYTES_MIN:
        raise SettingsError(
            f"{at}: the token secret has {len(secret)} bytes; at least {SECRET_BYTES_MIN} are needed; "
            f"make one with: {HOW_TO_MAKE_ONE}"
        )
    values["token_secret"], sources["token_secret"] = secret, at


def take_ledger_keys(
    document: Document,
    env: Mapping[str, str],
    read: Callable[[Path], bytes],
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """`HUB_LEDGER_KEY`, else the lines of the file that the configuration names: the first is today's key."""
    found = secret_of(document, env, read, "HUB_LEDGER_KEY", (), "ledger_key_file")
    if found is None:
        return
    keys, at = found[0].split(), found[1]
    if not keys or any(len(key) < SECRET_BYTES_MIN for key in keys):
        shortest = min(map(len, keys), default=0)
        raise SettingsError(f"{at}: a ledger key has {shortest} bytes; at least {SECRET_BYTES_MIN} are needed")
    values["ledger_keys"], sources["ledger_keys"] = tuple(keys), at
