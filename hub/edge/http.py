"""HTTP: events in, tickets, revocations, history, health, metrics. Every error has the protocol's shape."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hub.domain.conversation import Situation
from hub.domain.decide import unknown, visible
from hub.domain.errors import Refused
from hub.domain.events import MonitorStarted, TakenOver
from hub.domain.grants import Person
from hub.domain.masking import Masker
from hub.edge.answers import json_answer, refusal
from hub.edge.auth import Authenticator
from hub.edge.browser import identify
from hub.edge.channels import CHANNEL_PATHS, channel_handler
from hub.edge.files import file_routes
from hub.edge.outbox import delivery_metrics, outbox_handlers
from hub.edge.pages import page_routes
from hub.edge.parts import Parts
from hub.edge.record_metrics import record_metrics
from hub.edge.sign_in import sign_in_routes
from hub.fanout.node import Node
from hub.metrics import Meter
from hub.protocol.fields import Id
from hub.protocol.platform import decode_events
from hub.service.conversations import Conversations
from hub.service.history import checked
from hub.service.masking import answers, masked_data, masked_message

log = logging.getLogger(__name__)

HISTORY_ROLES = frozenset({"supervisor", "admin"})
TRANSCRIPT_PAGE, TRANSCRIPT_PAGE_MAX = 100, 500
Handler = Callable[["Http", Request], Awaitable[Response]]


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"sub"}` or `{"jti"}`."""

    sub: Id | None = None
    jti: Id | None = None


class ErasureWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"customer_id"}`."""

    customer_id: Id


class Http:
    """The routes of the protocol's section 6."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def person(self, request: Request, *roles: str) -> Person:
        """Who asks. Raises Refused `unauthenticated`, or `not_permitted` for another role."""
        person = await identify(self.parts, request)
        token = (person.org, person.role, person.user_id, person.token_id)
        now = asyncio.get_running_loop().time()
        if (over := self.parts.quotas.first_over((("http_per_token_per_s", token),), now)) is not None:
            raise over.refused("Too many requests with this token.")
        if roles and person.role not in roles:
            raise Refused("not_permitted", f"This isn't for the role {person.role}.")
        return person

    async def body(self, request: Request, bytes_max: int) -> bytes:
        """The request's body. Raises Refused `too_large`."""
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > bytes_max:
                details = {"bytes_max": bytes_max}
                raise Refused("too_large", f"A body has at most {bytes_max} bytes.", details)
            parts.append(part)
        return b"".join(parts)

    async def events(self, request: Request) -> Response:
        """`POST /v1/events`"""
        person = await self.person(request, "connector")
        settings = self.parts.settings
        body = await self.body(request, settings.batch_bytes_max)
        content_type = request.headers.get("content-type", "")
        events = decode_events(body, content_type, events_max=settings.batch_events_max)
        results = await self.parts.ingest.take(person.org, person.user_id, events)
        return json_answer({"results": [one.wire() for one in results]})

    async def tickets(self, request: Request) -> Response:
        """`POST /v1/tickets`"""
        person = await self.person(request)
        ticket, expires_at = await self.parts.make_ticket(person)
        return json_answer({"ticket": ticket, "expires_at": expires_at})

    async def revocations(self, request: Request) -> Response:
        """`POST /v1/revocations`"""
        person = await self.person(request, "admin")
        raw = await self.body(request, 4096)
        try:
            wanted = msgspec.json.decode(raw, type=Revocation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _bad_revocation() from None
        if (wanted.sub is None) == (wanted.jti is None):
            raise _bad_revocation()
        kind, value = ("sub", wanted.sub) if wanted.sub is not None else ("jti", wanted.jti)
        assert value is not None
        await self.parts.store.revoke(person.org, kind, value, self.parts.node.now_ms())
        if kind == "jti" and self.parts.web is not None:
            await self.parts.web.revoked(person.org, value)
        await self.parts.node.beat()  # here at once; the other nodes look every second
        return json_answer({})

    async def erase(self, request: Request) -> Response:
        """`POST /v1/erasures`"""
        person = await self.person(request, "admin")
        raw = await self.body(request, 4096)
        try:
            wanted = msgspec.json.decode(raw, type=ErasureWanted)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Refused("schema_invalid", 'Expected {"customer_id": "..."}.', {"path": "$"}) from None
        node = self.parts.node
        found = await node.records.erasures.ask(person.org, wanted.customer_id)
        node.spawn(node.records.hasten(found.id))
        return json_answer(found.wire())

    async def erasure(self, request: Request) -> Response:
        """`GET /v1/erasures/{id}`"""
        person = await self.person(request, "admin")
        found = await self.parts.node.records.erasures.get(request.path_params["erasure_id"])
        if found is None or found.org != person.org:
            raise Refused("unknown_conversation", "There is no such erasure.")
        return json_answer(found.wire())

    # -- history -----------------------------------------------------------------------------------------------------

    async def _readable(self, request: Request, person: Person) -> Any:
        conversation_id = request.path_params["conversation_id"]
        situation = await self.parts.history.situation(person.org, conversation_id)
        conversation = visible(situation, person)
        running = conversation.state != "ended"
        if not (person.may("history") or (running and person.may("view"))):
            raise Refused("not_permitted", "This needs the permission 'history'.", {"permission": "history"})
        return situation

    async def conversations(self, request: Request) -> Response:
        """`GET /v1/conversations`"""
        person = await self.person(request, *HISTORY_ROLES)
        if not (person.may("history") or person.may("view")):
            raise Refused("not_permitted", "This needs the permission 'history'.", {"permission": "history"})
        wanted = checked(dict(request.query_params))
        return json_answer(await self.parts.history.list(person, wanted, mask=self.parts.node.maskers.row))

    async def detail(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}`"""
        person = await self.person(request, *HISTORY_ROLES)
        situation = await self._readable(request, person)
        return json_answer(self._shown(person, situation, await self.parts.history.detail(situation)))

    async def timeline(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/timeline`"""
        person = await self.person(request, *HISTORY_ROLES)
        situation = await self._readable(request, person)
        return json_answer(self._shown(person, situation, await self.parts.history.timeline(situation)))

    def _masker(self, person: Person, situation: Situation) -> Masker | None:
        """What the person doesn't get to read of it."""
        conversation = situation.existing
        return None if answers(person, conversation) else self.parts.node.maskers.of(conversation.queue)

    def _shown(self, person: Person, situation: Situation, found: Any) -> Any:
        masker = self._masker(person, situation)
        return found if masker is None else masked_data(found, masker)

    async def transcript(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/transcript`; of their own conversation also for agents, customers, platforms."""
        person = await self.person(request)
        conversation_id = request.path_params["conversation_id"]
        left: frozenset[str] = frozenset()
        masker: Masker | None = None
        if person.role in HISTORY_ROLES:
            masker = self._masker(person, await self._readable(request, person))
        else:
            left = await self._own(person, conversation_id)
        wanted = request.query_params
        before = _whole(wanted.get("before"), "before")
        limit = min(_whole(wanted.get("limit"), "limit") or TRANSCRIPT_PAGE, TRANSCRIPT_PAGE_MAX)
        viewer = "customer" if person.role == "customer" else "staff"
        found = await self.parts.history.transcript(
            person.org, conversation_id, before=before, limit=limit, viewer=viewer, left=left
        )
        if masker is not None:
            found["entries"] = [masked_message(one, masker) for one in found["entries"]]
        return json_answer(found)

    async def _own(self, person: Person, conversation_id: str) -> frozenset[str]:
        """
        As which participants an agent has left it (nothing later is theirs); empty while it is theirs.

        Raises:
            Refused: `not_permitted` where it isn't theirs, whether it exists or not.
        """
        situation = await self.parts.history.situation(person.org, conversation_id)
        try:
            if person.role == "connector":
                conversation = situation.conversation
                if conversation is None or conversation.connector != person.user_id:
                    raise unknown()
                return frozenset()
            conversation = visible(situation, person)
        except Refused:
            message = "This is for the transcripts of one's own conversations only."
            raise Refused("not_permitted", message) from None
        stayed = {one.user_id for one in (*conversation.connected, *conversation.at_end)}
        if person.role == "customer" or person.user_id in stayed:
            return frozenset()
        return frozenset(one.participant_id for one in conversation.past if one.user_id == person.user_id)

    # -- health and metrics --------------------------------------------------------------------------------------------

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`"""
        return json_answer({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`"""
        node = self.parts.node
        state = {"store": node.store_ok, "draining": node.draining, "following": node.follower.healthy}
        ready = node.store_ok and not node.draining
        return json_answer({"status": "ready" if ready else "not ready", **state}, 200 if ready else 503)

    async def admin_metrics(self, request: Request) -> Response:
        """`GET /metrics` on the public address: for admins, since a count of monitors is a leak."""
        await self.person(request, "admin")
        return await self.metrics(request)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text."""
        registry = CollectorRegistry()
        registry.register(_Figures(self.parts))
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


class _Figures:
    """What this node can say about itself, read when it is asked."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def collect(self) -> Iterator[Metric]:
        """What there is now, what was counted since the start, and how values were distributed."""
        node = self.parts.node
        yield from self._gauges(node)
        yield _key_ages(self.parts.authenticator)
        yield from _counters(node.meter, self.parts.conversations)
        yield _refusals(self.parts.quotas.refused)
        yield from _distributions(node)
        yield from delivery_metrics(self.parts.delivery)
        yield from record_metrics(node.records)

    def _gauges(self, node: Node) -> Iterator[Metric]:
        sockets = GaugeMetricFamily("hub_sockets", "Open sockets by endpoint.", labels=["endpoint"])
        counts: dict[str, int] = {}
        for session in node.sessions:
            endpoint = getattr(session, "endpoint", "")
            counts[endpoint] = counts.get(endpoint, 0) + 1
        for endpoint, count in sorted(counts.items()):
            sockets.add_metric([endpoint], count)
        primaries = node.store.primaries
        plain = {
            "hub_monitors": ("Monitors joined by sessions of this node.", sum(map(len, node.monitoring.values()))),
            "hub_views": ("Subscribed views.", sum(len(one.views) for one in node.orgs.values())),
            "hub_topics": ("Conversations followed.", len(node.topics)),
            "hub_board_rows": ("Rows of the replicas here.", sum(len(one.board) for one in node.orgs.values())),
            "hub_follow_lag_seconds": ("Silence of the most silent subscription.", node.follower.lag()),
            "hub_follow_repaired_entries": ("Entries that came by repair.", node.follower.repaired),
            "hub_follow_resets": ("Logs that had to start again.", node.follower.resets),
            "hub_store_ok": ("1 while the store answers.", int(node.store_ok)),
            "hub_store_durable": ("1 while answers wait for as many replicas as wanted.", int(primaries.durable(None))),
            "hub_store_vouched": ("1 while nobody else can have become the primary.", int(primaries.vouched)),
            "hub_store_replaced": ("Times another store was found than before.", node.store_replaced),
            "hub_clock_offset_seconds": ("The store's clock less this node's.", node.clock_offset_ms / 1000),
            "hub_stalled_seconds": ("Time this process stood still, in stalls of 1 s or more.", node.stalled_s),
            "hub_draining": ("1 while this node ends.", int(node.draining)),
            "hub_nodes": ("Nodes that live.", len(node.alive)),
            "hub_store_pending_calls": ("Calls to the store without an answer.", primaries.pending),
        }
        yield sockets
        for name, (text, value) in plain.items():
            yield GaugeMetricFamily(name, text, value)


def _key_ages(authenticator: Authenticator) -> Metric:
    ages = GaugeMetricFamily(
        "hub_issuer_keys_age_seconds", "Time since an issuer's keys were fetched.", labels=["issuer"]
    )
    for issuer, age in sorted(authenticator.key_ages().items()):
        ages.add_metric([issuer], age)
    return ages


def _counters(meter: Meter, conversations: Conversations) -> Iterator[Metric]:
    plain = {
        "hub_deliveries": ("Frames handed to sockets.", meter.deliveries),
        "hub_delivered_bytes": ("Bytes of those frames.", meter.bytes),
        "hub_socket_writes": ("Writes that those frames were glued to.", meter.writes),
        "hub_board_changes": ("Changed rows of the boards here.", meter.view_changes),
        "hub_view_rows": ("Rows sent to views; several changes of a row within a tick are one.", meter.view_rows),
        "hub_resets": ("Snapshots sent because a position didn't fit.", meter.resets),
        "hub_slow_readers": ("Sockets let go because they read too slowly.", meter.slow_readers),
        "hub_monitors_started": ("Monitors that began by this node.", conversations.committed[MonitorStarted]),
        "hub_takeovers": ("Takeovers confirmed by this node.", conversations.committed[TakenOver]),
    }
    for name, (text, value) in plain.items():
        yield CounterMetricFamily(name, text, value)


def _refusals(refused: Mapping[str, int]) -> Metric:
    """By the limit's name alone: whom it stopped is nobody's business."""
    family = CounterMetricFamily("hub_refused", "Refusals by the limit that was passed.", labels=["limit"])
    for limit, count in sorted(refused.items()):
        family.add_metric([limit], count)
    return family


def _distributions(node: Node) -> Iterator[Metric]:
    meter = node.meter
    scripts = HistogramMetricFamily(
        "hub_script_seconds", "From asking for a script to its answer (sampled).", labels=["script"]
    )
    for name, one in sorted(meter.script_s.items()):
        scripts.add_metric([name], list(one.buckets()), one.total)
    yield scripts
    plain = {
        "hub_collector_seconds": ("How long the garbage collector stopped everything.", meter.collector_s),
        "hub_loop_lag_seconds": ("How much later than asked for the loop came round.", meter.loop_lag_s),
        "hub_follow_age_seconds": (
            "From sending an entry to the store to writing it to sockets of the same node (sampled).",
            meter.follow_lag_s,
        ),
        "hub_pipeline_calls": ("Calls in one write to the store.", meter.pipeline_calls),
    }
    for name, (text, one) in plain.items():
        yield HistogramMetricFamily(name, text, list(one.buckets()), one.total)


def _bad_revocation() -> Refused:
    return Refused("schema_invalid", 'Expected {"sub": "..."} or {"jti": "..."}.', {"path": "$"})


def _whole(text: str | None, path: str) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        details = {"path": path, "got": text[:64]}
        raise Refused("schema_invalid", f"The parameter {path} must be a whole number.", details)
    return int(text)


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            return refusal(refused)
        except (HTTPException, ClientDisconnect):
            raise  # a route that isn't there after all; nobody is left to answer
        except Exception:
            log.exception("a request failed: %s", request.scope["route"].path if "route" in request.scope else "")
            message = "Something went wrong here; try again."
            return refusal(Refused("store_unavailable", message, {"outcome": "unknown"}))

    return guarded


async def _not_found(request: Request, exc: Exception) -> Response:
    """Routes that aren't there, and methods they don't have."""
    status = exc.status_code if isinstance(exc, HTTPException) else 404
    refused = Refused("schema_invalid", "There is no such route.", {"path": request.url.path[:256]})
    return refusal(refused, status=status)


def make_http(parts: Parts) -> Starlette:
    """The HTTP application of the public address."""
    http = Http(parts)
    routes = [
        Route("/v1/events", _guarded(http.events), methods=["POST"]),
        Route("/v1/tickets", _guarded(http.tickets), methods=["POST"]),
        Route("/v1/revocations", _guarded(http.revocations), methods=["POST"]),
        *(Route(path, _guarded(channel_handler(http)), methods=["GET", "POST"]) for path in CHANNEL_PATHS),
        *(Route(path, _guarded(handler), methods=[method]) for path, method, handler in outbox_handlers(http)),
        Route("/v1/erasures", _guarded(http.erase), methods=["POST"]),
        Route("/v1/erasures/{erasure_id}", _guarded(http.erasure), methods=["GET"]),
        Route("/v1/conversations", _guarded(http.conversations), methods=["GET"]),
        Route("/v1/conversations/{conversation_id}", _guarded(http.detail), methods=["GET"]),
        Route("/v1/conversations/{conversation_id}/transcript", _guarded(http.transcript), methods=["GET"]),
        Route("/v1/conversations/{conversation_id}/timeline", _guarded(http.timeline), methods=["GET"]),
        Route("/healthz", http.healthz, methods=["GET"]),
        Route("/readyz", http.readyz, methods=["GET"]),
        Route("/metrics", _guarded(http.admin_metrics), methods=["GET"]),
        *file_routes(parts, http.person),
        *page_routes(parts),
        *sign_in_routes(parts),
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})


def make_metrics(parts: Parts) -> Starlette:
    """The application of the metrics' own address."""
    http = Http(parts)
    routes = [Route("/metrics", http.metrics), Route("/healthz", http.healthz), Route("/readyz", http.readyz)]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})
