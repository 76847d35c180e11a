"""`/v1/customer`: the web messenger; one conversation, the token's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

import orjson

from hub.domain import commands as d
from hub.domain.errors import Refused
from hub.edge.watching import WatchingSession
from hub.fanout.watch import Item
from hub.protocol import commands as c


class CustomerSession(WatchingSession):
    """A customer's messenger. Who answers is a name at most, and only where the channel shows it."""

    endpoint = "customer"
    roles = frozenset({"customer"})
    present = False
    __slots__ = ()

    def _conversation(self, named: str) -> str:
        own = self.person.conversation or ""
        if named and named != own:
            raise Refused("unknown_conversation", "There is no such conversation.")
        return own

    async def opened(self, resumed: tuple[bytes, bytes] | None, cursors: dict[str, str]) -> None:
        """The conversation, if it was started; behind the cursor where there is one."""
        own = self._conversation("")
        if own in cursors:
            await self.resume_watch(own, cursors[own], None)
        else:
            await self._show(own)

    async def _show(self, conversation_id: str) -> None:
        loaded = await self.parts.conversations.load(self.person.org, conversation_id)
        if loaded.situation.conversation is not None:
            await self.attach(conversation_id, None)

    async def start(self, item: c.ConversationStart) -> None:
        """`conversation.start`"""
        person, own = self.person, self._conversation("")
        queue = self.settings.queue(item.queue, "home")
        command = d.StartConversation(
            org=person.org,
            conversation_id=own,
            connector="",
            channel="web",
            queue=item.queue,
            division=queue.division,
            subject=item.subject,
            customer_id=person.user_id,
            customer_name=item.name or person.name,
            customer_participant=self.parts.ids.new("prt", person.org, own),
            at=self.node.now_ms(),
        )
        done = await self.parts.conversations.run(
            person.org,
            own,
            lambda _: command,
            answer=lambda b, e, a: {"conversation_id": own},
            request=self.request_of(item),
        )
        await self.done(item, done.answer, conversation_id=own)
        for tab in list(self.node.by_user.get((person.org, person.user_id), ())):
            if isinstance(tab, CustomerSession) and tab.ready and tab is not self:
                self.node.spawn(tab.surely(partial(tab.attach, own, None)))  # the messenger's other tabs
        await self.surely(partial(self.attach, own, None))

    async def send_message(self, item: c.CustomerMessageSend) -> None:
        """`message.send`"""
        own = self._conversation(item.conversation_id)
        message_id = await self.parts.messaging.send(self.person, own, item)
        await self.done(item, {"message_id": message_id}, conversation_id=own)

    async def show_typing(self, item: c.CustomerTyping) -> None:
        """`typing`"""
        own = self._conversation(item.conversation_id)
        await self.parts.messaging.type(self.person, own, item)
        await self.done(item, conversation_id=own)

    async def end(self, item: c.CustomerConversationEnd) -> None:
        """`conversation.end`"""
        own = self._conversation(item.conversation_id)
        command = d.EndConversation(self.person)
        done = await self.parts.conversations.run(
            self.person.org, own, lambda _: command, request=self.request_of(item)
        )
        await self.done(item, done.answer, conversation_id=own)

    async def receipt(self, item: c.ReceiptSend) -> None:
        """`receipt.send`"""
        own = self._conversation(item.conversation_id or "")
        await self.parts.messaging.receipt(self.person, own, item)
        await self.done(item, conversation_id=own)

    def sender_changed(self, item: Item) -> None:
        """Where the channel shows names: who answers from now on."""
        name = orjson.loads(item.entry.body)["data"]["participant"]["name"]
        self.event("sender.changed", item.topic.conversation_id, {"name": name})

    handlers: ClassVar[dict[type, Callable[[Any, Any], Awaitable[None]]]] = {
        c.ConversationStart: start,
        c.CustomerMessageSend: send_message,
        c.CustomerTyping: show_typing,
        c.CustomerConversationEnd: end,
        c.ReceiptSend: receipt,
    }
