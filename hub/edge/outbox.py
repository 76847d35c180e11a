"""
The outbox as operators see it, role `admin`, each organization its own: what waits for providers, and what was given up.

    GET    /v1/outbox?connector=&state=&limit=   waiting ones and dead letters
    GET    /v1/outbox/{id}                       one of them
    POST   /v1/outbox/{id}/retry                 waiting: tried now; dead: to the end of its conversation's queue
    DELETE /v1/outbox/{id}                       waiting: given up now; dead: forgotten

Only what a message is called is told, never what it says: that stands in its conversation's transcript, for those who may
read it. Also here: the figures for Prometheus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response

from hub.domain.errors import Refused
from hub.edge.answers import json_answer
from hub.store.outbound import DeadLetter, Waiting

if TYPE_CHECKING:
    from hub.channels.delivery import Delivery
    from hub.edge.http import Http

STATES: Final = ("waiting", "dead")
PAGE: Final = 100
PAGE_MAX: Final = 1_000
DROPPED: Final = "dropped by an operator"

Handler = Callable[[Request], Awaitable[Response]]


def outbox_handlers(http: Http) -> list[tuple[str, str, Handler]]:
    """(path, method, handler) of the routes; handlers raise Refused."""
    routes = OutboxRoutes(http)
    return [
        ("/v1/outbox", "GET", routes.list),
        ("/v1/outbox/{id}", "GET", routes.show),
        ("/v1/outbox/{id}/retry", "POST", routes.retry),
        ("/v1/outbox/{id}", "DELETE", routes.drop),
    ]


class OutboxRoutes:
    """See the module."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._delivery = http.parts.delivery
        self._outbound = self._delivery.outbound

    def _connectors(self, org: str, asked: str | None) -> list[str]:
        """The organization's configured connectors, or the one that was asked for."""
        own = [name for owner, name in sorted(self._delivery.keys) if owner == org]
        if asked is None:
            return own
        if asked not in own:
            details: dict[str, object] = {"path": "connector", "got": asked[:64], "allowed": own}
            raise Refused("schema_invalid", "No connector of this name is configured for this organization.", details)
        return [asked]

    async def list(self, request: Request) -> Response:
        """`GET /v1/outbox`: the longest due first, then dead letters, the newest first."""
        person = await self._http.person(request, "admin")
        wanted = request.query_params
        state = wanted.get("state")
        if state is not None and state not in STATES:
            details = {"path": "state", "got": state[:64], "allowed": list(STATES)}
            raise Refused("schema_invalid", "The parameter state is waiting or dead.", details)
        limit = _limit(wanted.get("limit"))
        found: list[Any] = []
        for name in self._connectors(person.org, wanted.get("connector")):
            if state != "dead":
                found += await self._outbound.waiting(person.org, name, limit)
        for name in self._connectors(person.org, wanted.get("connector")):
            if state != "waiting":
                found += await self._outbound.dead_letters(person.org, name, limit)
        return json_answer({"actions": [shown(one) for one in found[:limit]], "more": len(found) > limit})

    async def show(self, request: Request) -> Response:
        """`GET /v1/outbox/{id}`"""
        _, found = await self._found(request)
        return json_answer(shown(found))

    async def retry(self, request: Request) -> Response:
        """`POST /v1/outbox/{id}/retry`"""
        org, found = await self._found(request)
        if isinstance(found, DeadLetter):
            place = (org, found.connector, found.conversation_id, found.id)
            done = await self._outbound.revive(*place, back=True)
        else:
            done = await self._outbound.hasten(found, org)
        return self._done(done)

    async def drop(self, request: Request) -> Response:
        """`DELETE /v1/outbox/{id}`"""
        org, found = await self._found(request)
        if isinstance(found, DeadLetter):
            place = (org, found.connector, found.conversation_id, found.id)
            done = await self._outbound.revive(*place, back=False)
        else:
            done = await self._outbound.hasten(found, org, drop=DROPPED)
        return self._done(done)

    async def _found(self, request: Request) -> tuple[str, DeadLetter | Waiting]:
        person = await self._http.person(request, "admin")
        for name in self._connectors(person.org, None):
            found = await self._outbound.find(person.org, name, request.path_params["id"])
            if found is not None:
                return person.org, found
        raise Refused("unknown_conversation", "No action of this id is the first to wait, or was given up.")

    def _done(self, done: bool) -> Response:
        if not done:
            raise Refused("not_in_progress", "This action is being sent right now, or has just been.")
        return json_answer({})


def shown(one: DeadLetter | Waiting) -> dict[str, object]:
    """An action as it is answered: one form for both states."""
    state = "dead" if isinstance(one, DeadLetter) else "waiting"
    return {"state": state, "next_at": None, "failed_at": None, "behind": 0, **msgspec.to_builtins(one)}


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PAGE_MAX:
        details = {"path": "limit", "got": text[:64]}
        raise Refused("schema_invalid", f"The parameter limit is a whole number from 1 to {PAGE_MAX}.", details)
    return int(text)


def delivery_metrics(delivery: Delivery) -> Iterator[Metric]:
    """What each configured connector's deliveries came to on this node, and what of it is in the store."""
    counters = {
        "hub_outbound_sent": ("Actions that a provider took.", "sent"),
        "hub_outbound_retried": ("Tries that have to be made again.", "retried"),
        "hub_outbound_failed": ("Actions that were given up.", "failed"),
    }
    for name, (text, field) in counters.items():
        counter = CounterMetricFamily(name, text, labels=["connector"])
        for connector, courier in delivery.couriers.items():
            counter.add_metric([connector], getattr(courier.tally, field))
        yield counter
    gauges = {
        "hub_outbound_waiting": "Conversations with something to send.",
        "hub_outbound_dead_letters": "Actions that were given up and are kept.",
        "hub_outbound_endpoints_open": "Endpoints that are left alone for a while, since they failed in a row.",
    }
    families = {name: GaugeMetricFamily(name, text, labels=["connector"]) for name, text in gauges.items()}
    for connector, courier in delivery.couriers.items():
        values = (courier.tally.waiting, courier.tally.dead, courier.endpoints.open)
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([connector], value)
    yield from families.values()
