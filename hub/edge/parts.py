"""What every edge shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from hub.channels.delivery import Delivery
from hub.channels.outbox import Outbox
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.auth import Authenticator
from hub.edge.turn import Turn
from hub.fanout.node import Node
from hub.service.conversations import Conversations
from hub.service.history import History
from hub.service.ids import Ids, new_secret
from hub.service.ingest import Ingest
from hub.service.messaging import Messaging
from hub.settings import Settings
from hub.store.redis_store import RedisStore

TICKET = "tkt_"


class Ticketed(msgspec.Struct, frozen=True):
    """A person behind a ticket, as kept for its 30 seconds."""

    user_id: str
    name: str
    org: str
    role: str
    permissions: list[str]
    queues: list[str]
    divisions: list[str]
    conversation: str | None
    token_id: str
    issued_at: int
    expires_at: int


@dataclass(slots=True)
class Parts:
    """The parts of a running hub, wired by `app`."""

    settings: Settings
    store: RedisStore
    node: Node
    conversations: Conversations
    ingest: Ingest
    messaging: Messaging
    history: History
    outbox: Outbox
    ids: Ids
    authenticator: Authenticator
    turn: Turn
    delivery: Delivery
    addresses: Counter[str] = field(default_factory=Counter)  # sockets per address

    async def identify(self, token: str) -> Person:
        """
        Who is behind a token or a ticket (which is used up by this).

        Raises:
            Refused: `unauthenticated`; `store_unavailable`.
        """
        if token.startswith(TICKET):
            return self._unrevoked(await self._ticketed(token))
        return await self.identify_bearer(token)

    async def identify_bearer(self, token: str) -> Person:
        """Who is behind a token; a ticket is for a socket's hello only. Raises Refused `unauthenticated`."""
        if not token:
            raise Refused("unauthenticated", "A token is missing.")
        return self._unrevoked(await self.authenticator.verify(token))

    def _unrevoked(self, person: Person) -> Person:
        if self.node.is_revoked(person.org, person.user_id, person.token_id, person):
            raise Refused("unauthenticated", "The token was revoked.")
        return person

    async def _ticketed(self, ticket: str) -> Person:
        claims = await self.store.take_ticket(ticket)
        if claims is None:
            raise Refused("unauthenticated", "The ticket is unknown, used or over.")
        kept = msgspec.json.decode(claims, type=Ticketed)
        return Person(
            user_id=kept.user_id,
            name=kept.name,
            org=kept.org,
            role=kept.role,
            permissions=frozenset(kept.permissions),
            queues=frozenset(kept.queues),
            divisions=frozenset(kept.divisions),
            conversation=kept.conversation,
            token_id=kept.token_id,
            issued_at=kept.issued_at,
            expires_at=kept.expires_at,
        )

    async def make_ticket(self, person: Person) -> tuple[str, int]:
        """A single-use ticket for a person, and when it is over."""
        ticket = TICKET + new_secret()
        expires_at = self.node.now_ms() + self.settings.ticket_ms
        kept = Ticketed(
            person.user_id,
            person.name,
            person.org,
            person.role,
            sorted(person.permissions),
            sorted(person.queues),
            sorted(person.divisions),
            person.conversation,
            person.token_id,
            person.issued_at,
            person.expires_at,
        )
        await self.store.put_ticket(ticket, msgspec.json.encode(kept), self.settings.ticket_ms)
        return ticket, expires_at
