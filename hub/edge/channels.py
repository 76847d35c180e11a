"""
`/v1/channels/<connector>`: providers' requests, whole to the connector's adapter, and what it makes of them to ingest.

The status tells the provider whether to send the request again: 2xx it is in (also where single events were refused, and
repeats), 4xx never, 503 later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hub.channels.delivery import place_of
from hub.channels.port import Inbound, Received, Renewing
from hub.domain.errors import Refused
from hub.protocol.platform import decode_event
from hub.service.ingest import Result

if TYPE_CHECKING:
    from hub.channels.delivery import Courier
    from hub.edge.http import Http

log = logging.getLogger(__name__)

CHANNEL_PATHS: Final = ("/v1/channels/{connector}", "/v1/channels/{connector}/{rest:path}")
ENDS_MAX: Final = 3  # conversations that may end while one request is on its way into the next
ONCE: Final = "once:"  # what requests that were carried out are remembered by, among the adapter's own notes


def channel_handler(http: Http) -> Callable[[Request], Awaitable[Response]]:
    """The handler of the two paths; it raises Refused, and HTTPException for a connector that isn't configured."""
    parts = http.parts

    async def handle(request: Request) -> Response:
        courier = parts.delivery.couriers.get(request.path_params["connector"])
        if courier is None:
            raise HTTPException(404)
        body = await http.body(request, parts.settings.channel_body_bytes_max)
        inbound = Inbound(
            method=request.method,
            url=public_url(request, parts.settings.public_url),
            headers=_headers(request),
            body=body,
            now_ms=parts.node.now_ms(),
        )
        try:
            for _ in range(1 + ENDS_MAX):
                received = await courier.configured.channel.receive(inbound, courier.notes)
                results = await _take(http, courier, received)
                over = await _over(courier, received, results)
                if not over:
                    break
                inbound = replace(inbound, over=(*inbound.over, *over))
        except Refused:
            raise
        except Exception as error:  # the adapter's mistake; its words may hold what somebody wrote
            name = courier.configured.place.connector
            log.error("a request through %s failed: %s at %s", name, type(error).__name__, place_of(error))
            return Response(b"", 500)
        content = orjson.dumps({"results": [one.wire() for one in results]}) if received.results else received.body
        return Response(
            content,
            received.status,
            media_type=received.content_type,
            headers={"cache-control": "no-store"},
        )

    return handle


def public_url(request: Request, public: str) -> str:
    """The URL that the provider called, as it sees it: what it signed."""
    if not public:
        return str(request.url)
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return public + (path + (b"?" + query if query else b"")).decode("latin-1")


def _headers(request: Request) -> dict[str, str]:
    """By name; several of one name are one with commas (RFC 9110, section 5.2)."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def _take(http: Http, courier: Courier, received: Received) -> Sequence[Result]:
    """The events into the hub, unless this very request was carried out before."""
    parts, place = http.parts, courier.configured.place
    limit = parts.settings.batch_events_max
    if len(received.events) > limit:
        raise Refused(
            "too_large", f"Expected at most {limit} events, got {len(received.events)}.", {"events_max": limit}
        )
    once = ONCE + received.once if received.once else ""
    if once and await courier.notes.get(once) is not None:
        raise _replayed()
    events = [decode_event(orjson.dumps(one)) for one in received.events]
    results = await parts.ingest.take(place.org, place.connector, events) if events else []
    for one in results:
        if one.refused is not None:
            log.info("an event through %s was refused: %s", place.connector, one.refused.code)
    # Afterwards, so that a request that was not carried out may come again as it was; of two at once one is taken.
    if once and not await courier.notes.put(once, "1", ttl_ms=received.once_ms, absent=True):
        raise _replayed()
    return results


async def _over(courier: Courier, received: Received, results: Sequence[Result]) -> list[str]:
    """Conversations that had ended without the channel's knowledge; it is told, and knows now which one comes next."""
    channel = courier.configured.channel
    if not isinstance(channel, Renewing):
        return []
    customer = next(filter(None, map(_customer_of, received.events)), None)
    wanted = [
        str(event.get("conversation_id"))
        for event, result in zip(received.events, results, strict=True)
        if result.refused is not None and result.refused.code == "conversation_ended"
    ]
    notes = courier.notes if customer is None else courier.notes.about(customer)
    return [one for one in dict.fromkeys(wanted) if await channel.ended(one, notes)]


def _customer_of(event: Mapping[str, Any]) -> str | None:
    """Whom a conversation is with, by its start; a request is about one customer."""
    match event:
        case {"type": "conversation.started", "data": {"customer": {"id": str(customer)}}}:
            return customer
    return None


def _replayed() -> Refused:
    return Refused("unauthenticated", "This very request was carried out before; a repeat needs a time of its own.")
