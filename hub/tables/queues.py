"""`[queues.ID]`, `[channels.NAME]` and `[people.ID]`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.domain.grants import PERMISSIONS, ROLES
from hub.tables.document import DAY_MS, INT_MAX, Document, TablePath, ids_of, one_of, texts_of, unknown_key, wrong

DEFAULT_DIVISION: Final = "home"
WRAPUP_PROMPTS: Final = ("none", "optional", "mandatory", "timeout")
CHANNELS: Final = ("web", "open", "sms")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """
    One queue: `name` for people, its `division`, and what wrap-up it asks of whoever owned the conversation.

    `wrapup_prompt` is one of `WRAPUP_PROMPTS`; `wrapup_timeout_ms` (at least 1) counts for `optional` and `timeout`.
    `retention_ms` is how long its ended conversations are kept; None: as long as those of any queue.
    """

    name: str
    division: str
    wrapup_prompt: str = "none"
    wrapup_timeout_ms: int = 30_000
    wrapup_codes: tuple[str, ...] = ()
    retention_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One channel: True in `agent_name_visible` where its customers are shown the name of who answers."""

    agent_name_visible: bool = False


@dataclass(frozen=True, slots=True)
class PersonSettings:
    """A person where no identity provider exists; what `hub token --person SUB` puts into their token."""

    sub: str
    name: str
    org: str
    role: str
    permissions: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    divisions: tuple[str, ...] = ()


def queue_of(document: Document, key: str) -> QueueSettings:
    """`[queues.<key>]`"""
    path: TablePath = ("queues", key)
    table = document.entry(path, [f.name for f in dataclasses.fields(QueueSettings)])
    prompt = table.get("wrapup_prompt", "none")
    if prompt not in WRAPUP_PROMPTS:
        raise wrong(document.at((*path, "wrapup_prompt")), "wrapup_prompt", prompt, one_of(WRAPUP_PROMPTS))
    timeout = table.get("wrapup_timeout_ms", 30_000)
    if type(timeout) is not int or not 1 <= timeout <= DAY_MS:
        at = document.at((*path, "wrapup_timeout_ms"))
        raise wrong(at, "wrapup_timeout_ms", timeout, f"a whole number from 1 to {DAY_MS}")
    return QueueSettings(
        name=document.text(path, "name", key),
        # Empty until a conversation says which: `Settings.queue` fills it in.
        division=document.id(path, "division", ""),
        wrapup_prompt=prompt,
        wrapup_timeout_ms=timeout,
        wrapup_codes=texts_of(table.get("wrapup_codes", []), "wrapup_codes", document.at((*path, "wrapup_codes"))),
        retention_ms=_retention(document, path, table),
    )


def _retention(document: Document, path: TablePath, table: Mapping[str, Any]) -> int | None:
    value = table.get("retention_ms")
    if value is not None and (type(value) is not int or not 1 <= value <= INT_MAX):
        at = document.at((*path, "retention_ms"))
        raise wrong(at, "retention_ms", value, f"a whole number of milliseconds from 1 to {INT_MAX}")
    return value


def channel_of(document: Document, key: str) -> ChannelSettings:
    """`[channels.<key>]`"""
    path: TablePath = ("channels", key)
    if key not in CHANNELS:
        raise unknown_key(document.at(path), key, CHANNELS)
    table = document.entry(path, ["agent_name_visible"])
    visible = table.get("agent_name_visible", False)
    if not isinstance(visible, bool):
        raise wrong(document.at((*path, "agent_name_visible")), "agent_name_visible", visible, "true or false")
    return ChannelSettings(agent_name_visible=visible)


def person_of(document: Document, key: str) -> PersonSettings:
    """`[people.<key>]`"""
    path: TablePath = ("people", key)
    table = document.entry(path, [f.name for f in dataclasses.fields(PersonSettings)])
    role = document.text(path, "role")
    if role not in ROLES:
        raise wrong(document.at((*path, "role")), "role", role, one_of(sorted(ROLES)))
    permissions = texts_of(table.get("permissions", []), "permissions", document.at((*path, "permissions")))
    for permission in permissions:
        if permission not in PERMISSIONS:
            at = document.at((*path, "permissions"))
            raise wrong(at, "permissions", permission, one_of(sorted(PERMISSIONS)))
    return PersonSettings(
        sub=document.id(path, "sub", key),
        name=document.text(path, "name", key),
        org=document.id(path, "org"),
        role=role,
        permissions=permissions,
        queues=ids_of(table.get("queues", []), "queues", document.at((*path, "queues"))),
        divisions=ids_of(table.get("divisions", []), "divisions", document.at((*path, "divisions"))),
    )
