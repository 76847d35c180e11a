"""Secrets of the hub itself: of the environment, else of files that the configuration names; never in it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hub.tables.document import Document, SettingsError

SECRET_BYTES_MIN: Final = 32
HOW_TO_MAKE_ONE: Final = "export HUB_TOKEN_SECRET=$(openssl rand -hex 32)"


def take_secret(
    document: Document,
    env: Mapping[str, str],
    read: Callable[[Path], bytes],
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """The secret of the environment, else of the file that the configuration names; too short a one is refused."""
    if env.get("HUB_TOKEN_SECRET"):
        secret, at = env["HUB_TOKEN_SECRET"].encode(errors="surrogateescape"), "HUB_TOKEN_SECRET"
    elif "token_secret_file" in document.values:
        at = document.at(("token_secret_file",))
        path = document.beside(document.text((), "token_secret_file"))
        try:
            secret = read(path).strip()
        except SettingsError as error:
            raise SettingsError(f"{at}: {error}") from None
        at = f"{at} ({path})"
    else:
        return
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
    if env.get("HUB_LEDGER_KEY"):
        keys, at = env["HUB_LEDGER_KEY"].encode(errors="surrogateescape").split(), "HUB_LEDGER_KEY"
    elif "ledger_key_file" in document.values:
        at = document.at(("ledger_key_file",))
        path = document.beside(document.text((), "ledger_key_file"))
        try:
            keys = read(path).split()
        except SettingsError as error:
            raise SettingsError(f"{at}: {error}") from None
        at = f"{at} ({path})"
    else:
        return
    if not keys or any(len(key) < SECRET_BYTES_MIN for key in keys):
        shortest = min(map(len, keys), default=0)
        raise SettingsError(f"{at}: a ledger key has {shortest} bytes; at least {SECRET_BYTES_MIN} are needed")
    values["ledger_keys"], sources["ledger_keys"] = tuple(keys), at
