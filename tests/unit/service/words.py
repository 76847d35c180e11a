"""The words that tests of the service are written in: a node over the store in memory, and platforms' events."""

from collections.abc import Sequence
from typing import Any

import orjson

from hub.domain import commands as c
from hub.domain.conversation import Conversation
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.protocol import platform as p
from hub.service.conversations import Conversations, Done
from hub.service.history import History
from hub.service.ingest import Ingest, Result
from hub.service.messaging import Messaging
from hub.service.plan import plan_commit
from hub.service.ports import Committed, Loaded
from hub.settings import ChannelSettings, QueueSettings, Settings
from tests.support.fake_store import START_MS, FakeStore, Numbered, Record

ORG, CNV, CONNECTOR = "acme", "cnv_1", "platform"
SETTINGS = Settings(
    queues={
        "support": QueueSettings("Support", "home", "mandatory", 30_000, ("resolved", "follow-up")),
        "timed": QueueSettings("Timed", "home", "timeout", 30_000, ("resolved",)),
    },
    channels={"open": ChannelSettings(agent_name_visible=True)},
)


class Node:
    """One node's service over a store, which it may share with another node."""

    def __init__(
        self, store: FakeStore | None = None, settings: Settings = SETTINGS, ids: Numbered | None = None
    ) -> None:
        self.store = store or FakeStore()
        self.ids = ids or Numbered()
        self.conversations = Conversations(self.store, settings, self.ids.new, self.ids.tag)
        self.ingest = Ingest(self.store, self.conversations, settings, self.ids)
        self.messaging = Messaging(self.store, self.conversations, self.ids)
        self.history = History(self.store, self.conversations, settings.list_rows_max)

    @property
    def record(self) -> Record:
        """What is stored of the conversation."""
        return self.store.record(ORG, CNV)

    @property
    def loaded(self) -> Loaded:
        """The conversation as it stands, at once."""
        return self.store.now(ORG, CNV)

    @property
    def conversation(self) -> Conversation:
        """Its state."""
        return self.loaded.situation.existing

    async def run(self, command: c.Command, **options: Any) -> Done:
        """Carry out a command on the conversation."""
        return await self.conversations.run(ORG, CNV, lambda situation: command, **options)

    async def take(self, *events: p.AnyEvent | p.BadEvent, connector: str = CONNECTOR) -> list[Result]:
        """Take in a platform's batch."""
        return await self.ingest.take(ORG, connector, events)

    def slip_in(self, command: c.Command) -> None:
        """Carry out a command in one step, in between whatever is under way."""
        loaded = self.loaded
        before = self.conversations.configured(loaded.situation)
        events = decide(before, command)
        after = evolve_all(before, events)
        commit = plan_commit(
            loaded,
            before,
            events,
            after,
            fresh_tag=self.ids.tag(),
            fresh_epoch=self.ids.tag(),
            new_action_id=lambda: self.ids.new("act", ORG, CNV),
        )
        assert isinstance(self.store._commit(commit), Committed)

    def shown(self) -> list[tuple[int, str, str]]:
        """Offset, audience and event of each transcript entry."""
        return [(one.offset, one.audience, orjson.loads(one.body)["event"]) for one in self.record.transcript]

    def ledger(self) -> list[str]:
        """What the ledger says has happened, in order."""
        return [orjson.loads(line)["what"] for line in self.record.ledger]


def event(id: str, type: str, data: dict[str, object], conversation_id: str = CNV, at: int = START_MS) -> p.AnyEvent:
    """A platform's event as it is decoded from the wire."""
    body = {"id": id, "type": type, "conversation_id": conversation_id, "at": at, "data": data}
    decoded = p.decode_event(orjson.dumps(body))
    assert not isinstance(decoded, p.BadEvent), decoded
    return decoded


def started(id: str = "e-start", conversation_id: str = CNV, **data: object) -> p.AnyEvent:
    """A conversation begins."""
    usual: dict[str, object] = {"channel": "web", "queue": "support", "customer": {"id": "cus_7", "name": "Dana"}}
    return event(id, "conversation.started", usual | data, conversation_id)


def connected(user: str = "bob", id: str = "", purpose: str = "agent", conversation_id: str = CNV) -> p.AnyEvent:
    """Somebody comes."""
    data: dict[str, object] = {
        "participant_id": f"prt_{user}",
        "purpose": purpose,
        "user_id": user,
        "name": user.title(),
    }
    return event(id or f"e-in-{user}", "participant.connected", data, conversation_id)


def disconnected(user: str = "bob", id: str = "") -> p.AnyEvent:
    """Somebody goes."""
    data: dict[str, object] = {"participant_id": f"prt_{user}", "disconnect_type": "client"}
    return event(id or f"e-out-{user}", "participant.disconnected", data)


def said(text: str, user: str | None = None, id: str = "", conversation_id: str = CNV) -> p.AnyEvent:
    """Somebody says something; the customer, where nobody is named."""
    who: dict[str, object] = {"purpose": "customer"} if user is None else {"participant_id": f"prt_{user}"}
    data = {"message_id": f"m-{text}", "text": text, **who}
    return event(id or f"e-{text}", "message.created", data, conversation_id)


def over(id: str = "e-end") -> p.AnyEvent:
    """It has ended."""
    return event(id, "conversation.ended", {"reason": "solved"})


def statuses(results: Sequence[Result]) -> list[tuple[str | None, str]]:
    """Id and status, or the refusal's code, of each result."""
    return [(one.id, one.refused.code if one.refused else one.status) for one in results]


def offsets(results: Sequence[Result]) -> list[int | None]:
    """The offset in each result's cursor."""
    return [None if one.cursor is None else int(one.cursor.rpartition("-")[2]) for one in results]


def draft_of(refused: Refused) -> object:
    """The text that comes back."""
    return refused.details.get("draft")
