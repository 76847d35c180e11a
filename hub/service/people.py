"""
People's presence: a status that lives with the person, not with a socket.

A record says on which nodes the person has sockets. It reads `offline` 60 s after the last of them (`presence_ms`), and the
status comes back with the next hello within 12 h (`presence_memory_ms`). Nodes that died are taken out by the others.
"""

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec
import orjson

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.settings import Settings

TRIES_MAX = 16


class Rights(msgspec.Struct, frozen=True):
    """Queues and divisions of a person's token of role `agent`."""

    queues: list[str]
    divisions: list[str]


class Record(msgspec.Struct, frozen=True):
    """
    One person. `status` is what was set, `shown` what reads now; `left_at` is when the last socket went (null: has some).

    `agent` is null for those who never connected with role `agent`.
    """

    user_id: str
    name: str
    status: str = "offline"
    shown: str = "offline"
    status_since: int = 0
    nodes: list[str] = []
    left_at: int | None = None
    present: bool = False
    agent: Rights | None = None

    def public(self) -> bytes:
        """What the people's log says."""
        return orjson.dumps(
            {
                "user_id": self.user_id,
                "name": self.name,
                "status": self.shown,
                "status_since": self.status_since,
                "present": self.present,
                "agent": None
                if self.agent is None
                else {"queues": self.agent.queues, "divisions": self.agent.divisions},
                "nodes": self.nodes,
                "left_at": self.left_at,
            }
        )


_decode = msgspec.json.Decoder(Record).decode


class PeopleStore(Protocol):
    """What presence needs of the store."""

    async def person(self, org: str, user_id: str) -> bytes:
        """A record; empty where there is none."""

    async def set_person(self, org: str, user_id: str, expected: bytes, record: bytes, entry: bytes) -> bytes | None:
        """Compare and set; None where it was written, else the record now."""


class People:
    """Presence of all organizations, as this node changes and asks it."""

    def __init__(self, store: PeopleStore, settings: Settings, node: str, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._settings = settings
        self._node = node
        self._now_ms = now_ms

    @staticmethod
    def public(raw: bytes) -> bytes:
        """What the people's log would say of a stored record."""
        return _decode(raw).public()

    @staticmethod
    def presence_of(body: bytes) -> tuple[str, int | None, tuple[str, ...], bool]:
        """From an entry of the people's log: user, when the last socket went, nodes with sockets, present."""
        person = orjson.loads(body)
        return person["user_id"], person["left_at"], tuple(person["nodes"]), person["present"]

    async def status(self, org: str, user_id: str) -> str:
        """The person's status as it reads now."""
        raw = await self._store.person(org, user_id)
        return _decode(raw).shown if raw else "offline"

    async def arrive(self, person: Person) -> str:
        """The person has a socket here; their status."""

        def change(old: Record) -> Record:
            now = self._now_ms()
            gone_ms = now - old.left_at if old.left_at is not None and not old.nodes else 0
            status = "offline" if gone_ms > self._settings.presence_memory_ms else old.status
            rights = old.agent
            if person.role == "agent":
                rights = Rights(sorted(person.queues), sorted(person.divisions))
            return msgspec.structs.replace(
                old,
                name=person.name,
                status=status,
                shown=status,
                status_since=old.status_since if status == old.shown else now,
                nodes=sorted({*old.nodes, self._node}),
                left_at=None,
                present=True,
                agent=rights,
            )

        return (await self._change(person.org, person.user_id, change)).shown

    async def set_status(self, person: Person, status: str) -> None:
        """Set the person's own status."""

        def change(old: Record) -> Record:
            if old.shown == status:
                return old
            return msgspec.structs.replace(old, status=status, shown=status, status_since=self._now_ms())

        await self._change(person.org, person.user_id, change)

    async def depart(self, org: str, user_id: str, node: str | None = None) -> None:
        """The person's last socket on a node (this one, or one that died) has gone."""
        gone = node or self._node

        def change(old: Record) -> Record:
            if gone not in old.nodes:
                return old
            nodes = [one for one in old.nodes if one != gone]
            return msgspec.structs.replace(old, nodes=nodes, left_at=None if nodes else self._now_ms())

        await self._change(org, user_id, change)

    async def fade(self, org: str, user_id: str) -> None:
        """Read `offline` if nobody has come back in time."""

        def change(old: Record) -> Record:
            now = self._now_ms()
            over = old.left_at is not None and now - old.left_at >= self._settings.presence_ms
            if not over or old.nodes or not old.present:
                return old
            since = old.status_since if old.shown == "offline" else now
            return msgspec.structs.replace(old, shown="offline", status_since=since, present=False)

        await self._change(org, user_id, change)

    def faded(self, left_at: int | None, nodes: Collection[str], present: bool) -> bool:
        """True where `fade` has something to do."""
        if left_at is None or nodes or not present:
            return False
        return self._now_ms() - left_at >= self._settings.presence_ms

    async def _change(self, org: str, user_id: str, change: Callable[[Record], Record]) -> Record:
        raw = await self._store.person(org, user_id)
        for _ in range(TRIES_MAX):
            old = _decode(raw) if raw else Record(user_id=user_id, name=user_id)
            new = change(old)
            if new == old:
                return new
            now = await self._store.set_person(org, user_id, raw, msgspec.json.encode(new), new.public())
            if now is None:
                return new
            raw = now
        raise Refused("store_unavailable", "Too many changes at once; try again.", {"outcome": "none"})
