"""What every edge shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hub.channels.delivery import Delivery
from hub.channels.outbox import Outbox
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.auth import Authenticator
from hub.edge.kept import decode_person, encode_person
from hub.edge.quotas import Quotas
from hub.edge.turn import Turn
from hub.edge.web_sessions import WebSessions
from hub.fanout.node import Node
from hub.service.conversations import Conversations
from hub.service.files import Files
from hub.service.history import History
from hub.service.ids import Ids, new_secret
from hub.service.ingest import Ingest
from hub.service.messaging import Messaging
from hub.settings import Settings
from hub.store.intake import Intake
from hub.store.redis_store import RedisStore

TICKET = "tkt_"


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
    files: Files
    intake: Intake
    delivery: Delivery
    addresses: Counter[str] = field(default_factory=Counter)  # sockets per address
    web: WebSessions | None = None  # people who sign in in their browser, where that is configured
    quotas: Quotas = field(init=False)

    def __post_init__(self) -> None:
        self.quotas = Quotas(self.settings)

    async def identify(self, token: str) -> Person:
        """
        Who is behind a token or a ticket (which is used up by this).

        Raises:
            Refused: `unauthenticated`; `store_unavailable`.
        """
        if token.startswith(TICKET):
            return self.unrevoked(await self._ticketed(token))
        return await self.identify_bearer(token)

    async def identify_bearer(self, token: str) -> Person:
        """Who is behind a token; a ticket is for a socket's hello only. Raises Refused `unauthenticated`."""
        if not token:
            raise Refused("unauthenticated", "A token is missing.")
        return self.unrevoked(await self.authenticator.verify(token))

    def unrevoked(self, person: Person) -> Person:
        """The person. Raises Refused `unauthenticated` where they, or their token, were revoked."""
        if self.node.is_revoked(person.org, person.user_id, person.token_id, person):
            raise Refused("unauthenticated", "The token was revoked.")
        return person

    async def _ticketed(self, ticket: str) -> Person:
        claims = await self.store.take_ticket(ticket)
        if claims is None:
            raise Refused("unauthenticated", "The ticket is unknown, used or over.")
        return decode_person(claims)

    async def make_ticket(self, person: Person) -> tuple[str, int]:
        """A single-use ticket for a person, and when it is over."""
        ticket = TICKET + new_secret()
        expires_at = self.node.now_ms() + self.settings.ticket_ms
        await self.store.put_ticket(ticket, encode_person(person), self.settings.ticket_ms)
        return ticket, expires_at
