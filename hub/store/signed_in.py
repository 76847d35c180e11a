"""
Browsers' sessions in the store, and sign-ins that are under way.

No key or value holds what a browser shows: a session is found by the hash of its secret, which is also its public name
(`session_name`), so whoever reads the store, or a log, can't use one. Everything ends by itself.
"""

from __future__ import annotations

import hashlib
from typing import Final

from hub.store.keys import partition
from hub.store.redis_store import RedisStore

SESSION: Final = "web_"
NAME_CHARS: Final = 40  # 160 bits


def session_name(secret: str) -> str:
    """The public name of the session with that secret: an id that revocations can name."""
    return SESSION + hashlib.sha256(secret.encode()).hexdigest()[:NAME_CHARS]


class SignedIn:
    """See the module. Every method raises Refused `store_unavailable`; times to live are in ms, at least 1."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def begin(self, state: str, kept: bytes, ttl_ms: int) -> None:
        """Remember what belongs to a sign-in that has begun."""
        key = self._key(b"signin:", hashlib.sha256(state.encode()).hexdigest())
        await self._store.call("commit", key, b"SET", key, kept, b"PX", b"%d" % ttl_ms)

    async def finish(self, state: str) -> bytes | None:
        """What belongs to the sign-in, once."""
        key = self._key(b"signin:", hashlib.sha256(state.encode()).hexdigest())
        kept: bytes | None = await self._store.call("commit", key, b"GETDEL", key)
        return kept

    async def put(self, name: str, person: bytes, ttl_ms: int) -> None:
        """A session."""
        key = self._key(b"web:", name)
        await self._store.call("commit", key, b"SET", key, person, b"PX", b"%d" % ttl_ms)

    async def get(self, name: str) -> bytes | None:
        """Who is behind a session."""
        key = self._key(b"web:", name)
        person: bytes | None = await self._store.call("commit", key, b"GET", key)
        return person

    async def touch(self, name: str, ttl_ms: int) -> bool:
        """It was used; False where it has ended."""
        key = self._key(b"web:", name)
        return bool(await self._store.call("commit", key, b"PEXPIRE", key, b"%d" % ttl_ms))

    async def end(self, name: str) -> None:
        """No session any more. Idempotent."""
        key = self._key(b"web:", name)
        await self._store.call("commit", key, b"DEL", key)

    async def forget(self, revocations: list[str]) -> None:
        """Revocations of sessions that have ended so long ago that nothing of them can be left."""
        key = self._store.revoked_key()
        await self._store.call("commit", key, b"HDEL", key, *(one.encode() for one in revocations))

    def _key(self, kind: bytes, name: str) -> bytes:
        return self._store.keys.base(partition("", name)) + kind + name.encode()
