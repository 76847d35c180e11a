"""The SDK for supervisors: views, silent monitoring, takeover, and one's own conversations."""

from functools import partial
from typing import Any

import msgspec

from clients.session import Hello, Options, Session, Token
from clients.wire import Event


class Monitor(msgspec.Struct, frozen=True):
    """A running monitor; `lease_ms` is how long the hub keeps it without a live socket."""

    monitor_id: str
    lease_ms: int = 15_000


class TakeoverPlan(msgspec.Struct, frozen=True):
    """
    What a takeover would do; nothing has happened yet.

    `expires_at` is Unix milliseconds; `consequences`: `removed` (participants), `wrapup` (None or prompt, codes,
    timeout_ms), `name_visible`, `unanswered`.
    """

    takeover_id: str
    confirm_token: str
    expires_at: int
    consequences: dict[str, Any]


class Ownership(msgspec.Struct, frozen=True):
    """A conversation is now one's own, as this participant and under this epoch."""

    participant_id: str
    owner_epoch: int


class Supervisor(Session):
    """
    A supervisor's (or admin's) connection.

    Views survive a lost session: they are subscribed again and go on under the id that `view_subscribe` returned first.
    Monitors are resumed with the session; they are never started again on their own (see `session.started`, `lost`).
    """

    endpoint = "/v1/supervisor"

    def __init__(self, url: str, token: Token, options: Options | None = None) -> None:
        super().__init__(url, token, options)
        self._views: dict[str, dict[str, Any]] = {}  # the caller's subscription id -> arguments
        self._view_now: dict[str, str] = {}  # the hub's subscription id -> the caller's

    async def status_set(self, status: str) -> None:
        """Set one's status: available, busy, away, break, meal, meeting, training, on_queue or offline."""
        await self.command("status.set", status=status)

    async def view_subscribe(
        self,
        view: str,
        *,
        filter: dict[str, Any] | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> str:
        """
        Watch `interactions`, `queues`, `agents` or `roster`; returns the subscription's id.

        `view.snapshot` events follow (in parts, the last with `more: false`), then `view.changed`.
        """
        arguments: dict[str, Any] = {"view": view, "filter": filter, "sort": sort, "limit": limit}
        answer = await self.command("view.subscribe", **arguments)
        subscription = str(answer["subscription"])
        self._views[subscription] = arguments
        return subscription

    async def view_unsubscribe(self, subscription: str) -> None:
        """Stop watching."""
        self._views.pop(subscription, None)
        current = next((now for now, first in self._view_now.items() if first == subscription), subscription)
        self._view_now.pop(current, None)
        await self.command("view.unsubscribe", subscription=current)

    async def monitor_start(self, conversation_id: str, participant_id: str | None = None) -> Monitor:
        """
        Watch a conversation silently; `participant_id` is needed where several agents or bots are in it.

        `monitor.started` with the snapshot follows as an event. Raises `HubError`: `monitor_held` (details: holder),
        `target_ambiguous` (details: candidates), `not_available`, `not_in_progress`, ...
        """
        answer = await self.command("monitor.start", conversation_id=conversation_id, participant_id=participant_id)
        return msgspec.convert(answer, Monitor)

    async def monitor_stop(self, conversation_id: str) -> None:
        """End one's monitor of a conversation, in all of one's sessions."""
        await self.command("monitor.stop", conversation_id=conversation_id)

    async def monitor_release(self, conversation_id: str, reason: str) -> None:
        """End another supervisor's monitor (permission `release`)."""
        await self.command("monitor.release", conversation_id=conversation_id, reason=reason)

    async def message_reveal(self, conversation_id: str, message_id: str, reason: str) -> dict[str, Any]:
        """
        One message of a monitored conversation without masks (permission `reveal`); the reason goes to the ledger.

        Kept by nobody else: snapshots, events and history have it masked as before.
        """
        arguments = {"conversation_id": conversation_id, "message_id": message_id, "reason": reason}
        answer = await self.command("message.reveal", **arguments)
        return dict(answer["message"])

    async def takeover_prepare(self, conversation_id: str) -> TakeoverPlan:
        """Ask what a takeover would do; only while monitoring. A second prepare voids the first."""
        return msgspec.convert(await self.command("takeover.prepare", conversation_id=conversation_id), TakeoverPlan)

    async def takeover_confirm(self, takeover_id: str, confirm_token: str) -> Ownership:
        """Take the conversation over, within 60 s of prepare: agents and bots are removed, one owns it."""
        answer = await self.command("takeover.confirm", takeover_id=takeover_id, confirm_token=confirm_token)
        return msgspec.convert(answer, Ownership)

    async def takeover_cancel(self, takeover_id: str) -> None:
        """Forget a prepared takeover."""
        await self.command("takeover.cancel", takeover_id=takeover_id)

    async def takeover_acknowledge(self, takeover_id: str) -> None:
        """Say that one has seen that one's own conversation was taken over; the notice isn't repeated after it."""
        await self.command("takeover.acknowledge", takeover_id=takeover_id)

    async def message_send(
        self,
        conversation_id: str,
        text: str,
        client_message_id: str,
        attachments: list[dict[str, str]] | None = None,
    ) -> str:
        """Send to the customer as owner; returns the message's id. The same `client_message_id` is sent once."""
        answer = await self.command(
            "message.send",
            conversation_id=conversation_id,
            text=text,
            client_message_id=client_message_id,
            attachments=attachments,
        )
        return str(answer["message_id"])

    async def typing(self, conversation_id: str, on: bool) -> None:
        """Show or hide that one is typing."""
        await self.command("typing", conversation_id=conversation_id, on=on)

    async def conversation_end(self, conversation_id: str) -> None:
        """End one's own conversation."""
        await self.command("conversation.end", conversation_id=conversation_id)

    async def wrapup_submit(self, conversation_id: str, code: str, notes: str | None = None) -> None:
        """Answer `wrapup.requested` with one of its codes."""
        await self.command("wrapup.submit", conversation_id=conversation_id, code=code, notes=notes)

    # Views across sessions

    def _started(self, hello: Hello, again: bool) -> None:
        if hello.resumed or not again or not self._views:
            return
        self._view_now.clear()
        for first, arguments in self._views.items():
            body = {key: value for key, value in arguments.items() if value is not None}
            self._enqueue({"cmd": "view.subscribe", **body}, partial(self._subscribed_again, first))

    def _subscribed_again(self, first: str, answer: dict[str, Any]) -> None:
        if first in self._views:
            self._view_now[str(answer["subscription"])] = first

    def _take_event(self, event: Event) -> None:
        if event.event.startswith("view."):
            first = self._view_now.get(str(event.data.get("subscription")))
            if first is not None:
                event = msgspec.structs.replace(event, data={**event.data, "subscription": first})
        super()._take_event(event)


def connect_supervisor(url: str, *, token: Token, options: Options | None = None) -> Supervisor:
    """
    A supervisor's client for `async with`; `token` is a JWT, or a function (async or not) that gets a fresh one.

    Entering waits for the first hello and raises `ConnectionEnded` where the hub refuses for good, `TimeoutError`
    where it can't be reached in `options.open_timeout_s`.
    """
    return Supervisor(url, token, options)
