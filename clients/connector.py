"""The SDK for messaging platforms: events in (socket or HTTP), actions out, reports back."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from clients.http import Answer, HttpClient
from clients.session import Options, Session, Token
from clients.wire import http_path


class EventResult(msgspec.Struct, frozen=True):
    """
    What became of one event.

    `status` is `accepted`, `duplicate` or `refused`; `id` is None where the event couldn't be read or came over the
    socket; `cursor` of accepted ones; `error` of refused ones, as in `HubError`.
    """

    status: str
    id: str | None = None
    cursor: str | None = None
    error: dict[str, Any] | None = None


class Connector(Session):
    """
    A platform's connection. Iterating brings the actions (`outbound.message`, `participant.disconnected`, ...).

    Each action must be reported (`delivery_report` for messages, `action_done` for the others) before the next one of
    its conversation is sent; one that isn't is repeated after 10 s, with the same `message_id` or `action_id`.
    """

    endpoint = "/v1/connector"

    def __init__(self, url: str, token: Token, options: Options | None = None) -> None:
        super().__init__(url, token, options)
        self._http = HttpClient(url)

    async def push_event(self, event: Mapping[str, Any]) -> EventResult:
        """
        Hand one event over by the socket. Idempotent by the event's `id`: a repeat is a `duplicate`.

        Raises:
            HubError: The event was refused.
        """
        return msgspec.convert(await self.command("event", event=dict(event)), EventResult)

    async def post_events(self, events: Iterable[Mapping[str, Any]]) -> list[EventResult]:
        """
        Hand over up to 1,000 events (1 MiB) by one HTTP request; results in order, one each.

        Safe to repeat whole: what was accepted before comes back as `duplicate`.

        Raises:
            HubError: The request as a whole was refused (token, size, form).
            OSError: No answer (`TimeoutError` too); whether the events arrived is unknown.
        """
        return await self.post_body(b"\n".join(map(msgspec.json.encode, events)))

    async def post_body(self, ndjson: bytes) -> list[EventResult]:
        """As `post_events`, for a body of NDJSON that is made already."""
        answer = await self._post(ndjson)
        if answer.status == 401 and not isinstance(self._token, str):
            self._token_now = None  # expired meanwhile; the callback has a newer one
            answer = await self._post(ndjson)
        if answer.status != 200:
            raise answer.refusal()
        return msgspec.convert(msgspec.json.decode(answer.body)["results"], list[EventResult])

    async def _post(self, ndjson: bytes) -> Answer:
        if self._token_now is None:
            self._token_now = await self._fetch_token()
        headers = {"content-type": "application/x-ndjson", "authorization": f"Bearer {self._token_now}"}
        return await self._http.request("POST", http_path(self.url, "/v1/events"), ndjson, headers)

    async def delivery_report(self, message_id: str, status: str, reason: str | None = None) -> None:
        """Report what became of an `outbound.message`: sent, delivered, read or failed (with a reason)."""
        await self.command("delivery.report", message_id=message_id, status=status, reason=reason)

    async def action_done(self, action_id: str) -> None:
        """Report any other action as carried out."""
        await self.command("action.done", action_id=action_id)

    async def close(self, code: int = 1000) -> None:
        """End this client and its HTTP connections. Idempotent."""
        await super().close(code)
        await self._http.close()


def connect_connector(url: str, *, token: Token, options: Options | None = None) -> Connector:
    """A platform's client for `async with`; see `connect_supervisor` for `token`, waiting and errors."""
    return Connector(url, token, options)
