"""
Browsers that somebody has signed in with.

A browser has a random secret in a cookie that its scripts can't read. The store knows the secret's hash and the person
with the rights they had when they signed in. A session ends `signed_in_ms` after it began, `signed_in_idle_ms` after it was
used last, when they sign out, or when they or it (by its name, the `jti` of all it does) are revoked.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from typing import Final

from hub.domain.grants import Person
from hub.edge.kept import decode_person, encode_person
from hub.fanout.node import Node
from hub.settings import Settings
from hub.store.signed_in import SESSION, SignedIn, session_name

log = logging.getLogger(__name__)

SECRET_BYTES: Final = 32
SECRET_CHARS_MAX: Final = 64
FORGOTTEN_MS: Final = 300_000  # tickets and sockets of an ended session are gone long before
FORGOTTEN_AT_ONCE: Final = 500


class WebSessions:
    """See the module. Every method raises Refused `store_unavailable`."""

    def __init__(self, settings: Settings, kept: SignedIn, node: Node) -> None:
        self._settings = settings
        self.kept = kept
        self._node = node

    async def open(self, person: Person) -> str:
        """The secret of a new session of somebody who has just signed in."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        now = self._node.now_ms()
        ends = now + self._settings.signed_in_ms
        name = session_name(secret)
        known = dataclasses.replace(person, token_id=name, issued_at=now, expires_at=ends)
        await self.kept.put(name, encode_person(known), self._ttl(ends, now))
        log.info("signed in: %s/%s as %s, session %s", known.org, known.user_id, known.role, name)
        return secret

    async def person(self, secret: str) -> Person | None:
        """Who is behind that secret, whose session was used by this; None where it has ended, or never was."""
        if not secret or len(secret) > SECRET_CHARS_MAX:
            return None
        name, now = session_name(secret), self._node.now_ms()
        content = await self.kept.get(name)
        if content is None:
            return None
        person = decode_person(content)
        if person.expires_at <= now:
            return None
        return person if await self.kept.touch(name, self._ttl(person.expires_at, now)) else None

    async def end(self, person: Person) -> None:
        """End the session of that person: no tickets any more, sockets closed here at once, elsewhere within 2 s."""
        await self.kept.end(person.token_id)
        await self._node.store.revoke(person.org, "jti", person.token_id, self._node.now_ms())
        await self._node.beat()
        await self._forget()
        log.info("signed out: %s/%s, session %s", person.org, person.user_id, person.token_id)

    async def revoked(self, org: str, token_id: str) -> None:
        """That session was revoked by an admin of its organization: it is not kept any longer."""
        if token_id.startswith(SESSION):
            content = await self.kept.get(token_id)
            if content is not None and decode_person(content).org == org:
                await self.kept.end(token_id)

    async def _forget(self) -> None:
        """Revocations of sessions that ended long ago: the list would grow by each sign-out."""
        before = self._node.now_ms() - FORGOTTEN_MS
        old = [name for name, at in self._node.revoked.items() if f"/jti/{SESSION}" in name and at < before]
        if old:
            await self.kept.forget(old[:FORGOTTEN_AT_ONCE])

    def _ttl(self, ends: int, now: int) -> int:
        return max(1, min(self._settings.signed_in_idle_ms, ends - now))
