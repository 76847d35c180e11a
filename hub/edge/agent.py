"""`/v1/agent`: agent desktops, and bots that answer customers. Nothing here knows that there are monitors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hub.edge.staff import StaffSession
from hub.fanout.watch import PURPOSES
from hub.protocol import commands as c


class AgentSession(StaffSession):
    """An agent's desktop, or a bot."""

    endpoint = "agent"
    roles = frozenset({"agent"})
    part_purposes = PURPOSES["agent"]
    __slots__ = ()

    async def update_draft(self, item: c.DraftUpdate) -> None:
        """`draft.update`"""
        await self.parts.messaging.draft(self.person, item)
        await self.done(item)

    handlers: ClassVar[dict[type, Callable[[Any, Any], Awaitable[None]]]] = {
        c.StatusSet: StaffSession.set_status,
        c.AgentViewSubscribe: StaffSession.subscribe,
        c.TakeoverAcknowledge: StaffSession.acknowledge,
        c.MessageSend: StaffSession.send_message,
        c.Typing: StaffSession.show_typing,
        c.ConversationEnd: StaffSession.end,
        c.WrapupSubmit: StaffSession.submit_wrapup,
        c.DraftUpdate: update_draft,
    }
