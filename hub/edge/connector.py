"""`/v1/connector`: a platform's events in, actions out. A node claims what is due; an unreported action comes again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hub.domain.decide import unknown
from hub.domain.errors import Refused
from hub.edge.session import BaseSession
from hub.protocol import commands as c
from hub.protocol.encode import encode_error
from hub.protocol.platform import decode_event
from hub.service.ports import Request
from hub.store.keys import partition_of
from hub.store.redis_store import store_unavailable

log = logging.getLogger(__name__)

EVENTS_AT_ONCE = 200


class ConnectorSession(BaseSession):
    """A messaging platform's socket."""

    endpoint = "connector"
    roles = frozenset({"connector"})
    present = False
    __slots__ = ()

    def request_of(self, item: Any) -> Request | None:
        """Events and reports are idempotent by their own ids."""
        return None

    async def opened(self, resumed: tuple[bytes, bytes] | None, cursors: dict[str, str]) -> None:
        """Everything that waits, from the first one of each conversation."""
        await self.parts.outbox.listen(self)

    def forget(self) -> None:
        """No more actions for this socket."""
        self.parts.outbox.leave(self)

    async def push(self, item: c.EventPush) -> None:
        """`event`: neighbours in the queue are taken in together."""
        pushes = [item]
        while self._queue and isinstance(self._queue[0], c.EventPush) and len(pushes) < EVENTS_AT_ONCE:
            pushes.append(self._queue.popleft())
        try:
            events = [decode_event(one.event) for one in pushes]
            results = await self.parts.ingest.take(self.person.org, self.person.user_id, events)
        except Exception as error:
            if not isinstance(error, Refused):
                log.exception("events failed")
            why = error if isinstance(error, Refused) else store_unavailable("unknown")
            for one in pushes:  # each is answered, not only the one that the queue knows of
                self.send(encode_error(one.id, why))
            return
        for one, result in zip(pushes, results, strict=True):
            if result.refused is not None:
                self.send(encode_error(one.id, result.refused))
            else:
                body = result.wire()
                del body["id"]
                self.ok(one.id, body)

    async def report(self, item: c.DeliveryReport) -> None:
        """`delivery.report`"""
        await self.done(item, conversation_id=await self._reported(item.message_id, item))

    async def action_done(self, item: c.ActionDone) -> None:
        """`action.done`"""
        await self.done(item, conversation_id=await self._reported(item.action_id, None))

    async def _reported(self, id: str, report: c.DeliveryReport | None) -> str:
        """The conversation that the action was of. Raises Refused `unknown_conversation`."""
        p = partition_of(id)
        found = await self.parts.store.pointed(p, id) if p is not None else None
        if found is None or found[0] != self.person.org:
            raise unknown()
        org, conversation_id = found
        if report is not None:
            await self.parts.messaging.receipts(
                org, conversation_id, self.person.user_id, self.node.now_ms(), id, report.status, report.reason
            )
        await self.parts.store.report(org, self.person.user_id, conversation_id, id)
        return conversation_id

    handlers: ClassVar[dict[type, Callable[[Any, Any], Awaitable[None]]]] = {
        c.EventPush: push,
        c.DeliveryReport: report,
        c.ActionDone: action_done,
    }
