"""
A hub for a connector under development: the listening half of `hub connector-check`.

    standing(settings)     a whole hub in this process, on a store of its own that goes with it
    Seat                   one connector's place there: what it told, what it is told
    lead(seat, say)        the story, step by step; `connector_story.judged` makes the verdicts of what was seen

It is the hub itself that reads, checks and answers: `make_app` with the real ingest, outbox and channels. Around them stand
an ingest that writes down each event with its result, and answers now and then as a hub in trouble does; and an ASGI
application that writes down what was refused as a whole. A supervisor of the check's own takes over by the SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from clients import HubError, Supervisor, connect_supervisor
from hub.app import drain, make_app, make_server, running
from hub.channels.delivery import ROUTE
from hub.channels.open import PREFIX
from hub.connector_check import hosts_of
from hub.connector_story import (
    Fault,
    Outcome,
    Place,
    Receipt,
    Record,
    Told,
    Trouble,
    TurnedAway,
    by_customer,
    came_again,
    connected,
    judged,
    lookalike,
    whole_conversation,
)
from hub.domain.errors import Refused
from hub.edge.auth import issue_token, now_ms
from hub.edge.parts import Parts
from hub.edge.socket import Door
from hub.protocol import platform as p
from hub.service.ingest import Ingest, Result
from hub.settings import ConnectorSettings, Settings, SettingsError, bind, parse_address
from hub.store.embedded import Embedded, EmbeddedError
from hub.store.outbound import Outbound
from hub.store.redis_store import store_unavailable

CONNECTOR: Final = "check"
ORG: Final = "check"
BUSY_MS: Final = 2_000  # how long the connector is told to wait
TOKEN_MS: Final = 24 * 3_600_000
ANSWER_BYTES_MAX: Final = 65_536  # of a refusal that is looked at
REMEMBERED_MAX: Final = 10_000  # commands of one socket whose answers are known to be of events
TOLD_MAX: Final = 100_000  # events that are kept; a check isn't a load test
LOOK_S: Final = 0.1  # between two looks for what the store alone knows
TELLING_CODES: Final = frozenset({4400, 4408, 4413, 4429})  # closes that a connector itself has caused
TROUBLES: Final[tuple[Trouble, ...]] = ("away", "lost", "busy")


@dataclass(slots=True)
class Seat:
    """
    One connector's place at the standing hub: who it is there, and what was seen of it.

    `wait_s`: longest wait for one step. `trouble` is the fault that the next message of the customer meets.
    """

    parts: Parts
    org: str
    connector: str
    url: str = ""
    wait_s: float = 120.0
    busy_ms: int = BUSY_MS
    record: Record = field(default_factory=Record)
    trouble: Trouble | None = None
    busy_until: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def token(self) -> str:
        """The connector's."""
        return self._issue(sub=self.connector, role="connector")

    @property
    def supervisor_token(self) -> str:
        """That of who takes over."""
        return self._issue(sub="supervisor", role="supervisor", permissions=("view", "monitor", "takeover"))

    def _issue(self, *, sub: str, role: str, permissions: Sequence[str] = ()) -> str:
        secret = self.parts.settings.token_secret
        assert secret is not None
        return issue_token(
            secret, sub=sub, name=sub.capitalize(), org=self.org, role=role, permissions=permissions,
            queues=("*",), divisions=("*",), ttl_ms=TOKEN_MS, now_ms=now_ms(),
        )  # fmt: skip

    # -- what is seen --------------------------------------------------------------------------------------------------

    def tell(self, events: Sequence[p.AnyEvent | p.BadEvent], outcome: Outcome) -> int:
        """Events that were all answered alike; where they stand in the record."""
        return self._keep([Told(_ms(), event, outcome) for event in events])

    def tell_results(self, events: Sequence[p.AnyEvent | p.BadEvent], results: Sequence[Result]) -> None:
        """Events, each with its own result."""
        outcomes: dict[str, Outcome] = {"accepted": "accepted", "duplicate": "duplicate", "refused": "refused"}
        pairs = zip(events, results, strict=True)
        self._keep([Told(_ms(), event, outcomes[one.status], one.refused) for event, one in pairs])

    def _keep(self, told: list[Told]) -> int:
        index = len(self.record.told)
        if index < TOLD_MAX:
            self.record.told += told
        self._changed.set()
        return index

    def turn_away(self, one: TurnedAway) -> None:
        """A request or frame that was refused as a whole."""
        if len(self.record.turned_away) < TOLD_MAX:
            self.record.turned_away.append(one)
        self._changed.set()

    def receive_receipt(self, message_id: str, status: str, reason: str) -> None:
        """What was reported of a message; it may come before the message's id is known here."""
        self.record.receipts.append(Receipt(message_id, status, reason))
        self._changed.set()

    def trouble_for(self, events: Sequence[p.AnyEvent | p.BadEvent]) -> Trouble | None:
        """The fault that these events meet; each kind is made once, and `busy` stays for its time."""
        if time.monotonic() < self.busy_until:
            return "busy"
        mine = (event for event in events if not isinstance(event, p.BadEvent))
        if self.trouble is None or not any(by_customer(event, self.record.conversation_id) for event in mine):
            return None
        kind, self.trouble = self.trouble, None
        return kind

    def note_fault(self, kind: Trouble, events: Sequence[p.AnyEvent | p.BadEvent]) -> None:
        """The fault was made for these events."""
        index = self.tell(events, kind)
        if self.record.fault(kind) is not None:
            return  # busy still
        wait_ms = self.busy_ms if kind == "busy" else 0
        self.record.faults.append(Fault(kind, index, len(events), _ms(), wait_ms))
        if kind == "busy":
            self.busy_until = time.monotonic() + wait_ms / 1000

    async def until(self, condition: Callable[[], bool | Awaitable[bool]], wait_s: float | None = None) -> bool:
        """Wait until it holds; False where it didn't in time."""
        ends = time.monotonic() + (self.wait_s if wait_s is None else wait_s)
        while True:
            self._changed.clear()
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return True
            left = ends - time.monotonic()
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(LOOK_S, left))


def _ms() -> int:
    return int(time.monotonic() * 1000)


# The hub, and what stands around it.


class WatchedIngest(Ingest):
    """The hub's own, which also writes down what came of each event, and makes the faults that a seat asks for."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.store, parts.conversations, parts.settings, parts.ids)
        self.seats: dict[tuple[str, str], Seat] = {}

    async def take(self, org: str, connector: str, events: Sequence[p.AnyEvent | p.BadEvent]) -> list[Result]:
        """See the hub's; what is refused here as a whole has the hub's own words."""
        seat = self.seats.get((org, connector))
        trouble = seat.trouble_for(events) if seat is not None else None
        if seat is None:
            return await super().take(org, connector, events)
        if trouble is None:
            results = await super().take(org, connector, events)
            seat.tell_results(events, results)
            return results
        if trouble == "lost":
            await super().take(org, connector, events)
        seat.note_fault(trouble, events)
        if trouble == "busy":
            left_ms = max(1, int((seat.busy_until - time.monotonic()) * 1000))
            raise Refused("rate_limited", "Too many events; wait.", {"retry_ms": left_ms})
        raise store_unavailable("none" if trouble == "away" else "unknown")


class Watch:
    """The hub's ASGI application, which also writes down for a seat what was refused as a whole."""

    def __init__(self, app: Any, seat: Seat) -> None:
        self._app = app
        self._seat = seat

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            await self._app(scope, receive, partial(self._answer, _Answer(place_of_path(scope["path"])), send))
        elif scope["type"] == "websocket" and scope["path"] == "/v1/connector":
            line = _Line(self._seat)
            await self._app(scope, partial(line.receive, receive), partial(line.send, send))
        else:
            await self._app(scope, receive, send)

    async def _answer(self, answer: _Answer, send: Any, message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")[:ANSWER_BYTES_MAX]
            if not message.get("more_body") and 400 <= answer.status < 500 and answer.status != 429:
                self._seat.turn_away(answer.turned_away())
        await send(message)


def place_of_path(path: str) -> Place:
    """Which of a connector's ways in a path is."""
    if path == "/v1/events":
        return "events"
    return "webhooks" if path.startswith(ROUTE) else "other"


@dataclass(slots=True)
class _Answer:
    """An HTTP answer on its way."""

    where: Place
    status: int = 0
    body: bytes = b""

    def turned_away(self) -> TurnedAway:
        code, message = _error_in(self.body)
        return TurnedAway("other" if self.status in (404, 405) else self.where, self.status, code, message)


def _error_in(body: bytes) -> tuple[str, str]:
    """Code and words of a refusal, as the hub writes it."""
    try:
        error = orjson.loads(body)["error"]
        return str(error["code"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "", "no words"


class _Line:
    """One socket of the connector: refusals of everything but events, of which the ingest tells."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._events: deque[object] = deque(maxlen=REMEMBERED_MAX)

    async def receive(self, receive: Any) -> Any:
        """A frame of the connector's: which commands are events."""
        message = await receive()
        for thing in _objects(message.get("text")):
            if thing.get("cmd") == "event":
                self._events.append(thing.get("id"))
        return message

    async def send(self, send: Any, message: Any) -> None:
        """A frame of the hub's: refusals, and why it closes."""
        for thing in _objects(message.get("text")):
            error = thing.get("error")
            data = thing.get("data") or {}
            if error is not None and thing.get("id") not in self._events:
                self._seat.turn_away(TurnedAway("socket", 0, error["code"], error["message"]))
            elif thing.get("event") == "closing" and data["code"] in TELLING_CODES:
                self._seat.turn_away(TurnedAway("socket", data["code"], "", data["reason"]))
        await send(message)


def _objects(text: str | None) -> list[dict[str, Any]]:
    """The JSON objects of a frame; what is none the hub itself refuses."""
    found = []
    for line in (text or "").split("\n"):
        with contextlib.suppress(orjson.JSONDecodeError):
            thing = orjson.loads(line)
            if isinstance(thing, dict):
                found.append(thing)
    return found


class Standing:
    """A running hub, with a place for each connector; `seat` may be called for several, each on an address of its own."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._door = Door(parts)
        self._app = make_app(parts, self._door)
        self._ingest = WatchedIngest(parts)
        parts.ingest = self._ingest
        self._servers: list[tuple[Any, asyncio.Task[None], socket.socket]] = []

    async def seat(self, listening: socket.socket, org: str, connector: str, **options: Any) -> Seat:
        """A place for a connector behind a listening socket, which is closed with the hub."""
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        seat = Seat(self.parts, org, connector, url, **options)
        self._ingest.seats[org, connector] = seat
        server = make_server(Watch(self._app, seat))
        self._servers.append((server, asyncio.create_task(server.serve(sockets=[listening])), listening))
        while not server.started:  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.01)
        return seat

    async def close(self) -> None:
        """Let everybody go, as a hub does that is stopped."""
        hurry = asyncio.Event()
        hurry.set()
        for server, _, _ in self._servers[:1]:
            await drain(self.parts, server, hurry)
        for server, _, _ in self._servers:
            server.should_exit = True
        for _, task, listening in self._servers:
            await task
            listening.close()


@contextlib.asynccontextmanager
async def standing(settings: Settings) -> AsyncIterator[Standing]:
    """
    A hub in this process whose store and files lie in a folder that goes with it.

    Raises:
        SettingsError: A connector of the settings has an option that its adapter can't work with.
        EmbeddedError: The store can't be started.
    """
    with tempfile.TemporaryDirectory(prefix="hub-check-") as folder:
        embedded = await Embedded.start(Path(folder))
        try:
            own = replace(settings, data_dir=Path(folder), token_secret=secrets.token_bytes(32))
            async with running(own, embedded.url) as parts:
                hub = Standing(parts)
                try:
                    yield hub
                finally:
                    await hub.close()
        finally:
            await embedded.stop()


# The story.

Say = Callable[[str, str], None]  # a step's name, and what is to be done


async def lead(seat: Seat, say: Say) -> None:
    """Ask for each step, wait for what comes of it, and go on; what is missing is in the record."""
    record = seat.record
    say("begin", "A customer begins a conversation and writes; an agent (or bot) joins it and answers.")
    if not await seat.until(lambda: whole_conversation(record) is not None):
        return
    record.conversation_id = whole_conversation(record)
    for number, kind in enumerate(TROUBLES, start=1):
        text = f"Message {number} of {len(TROUBLES)}: in {record.conversation_id} the customer writes something new."
        await _make_trouble(seat, kind, partial(say, "trouble", text))
    async with connect_supervisor(seat.url, token=seat.supervisor_token) as supervisor:
        listening = asyncio.create_task(_hear(seat, supervisor))
        try:
            if await _take_over(seat, supervisor, say):
                await _end(seat, supervisor, say)
        except (
            HubError
        ) as error:  # the conversation ended meanwhile, or the agent left: the record says what is missing
            say("stopped", f"The supervisor was refused: {error}")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _make_trouble(seat: Seat, kind: Trouble, ask: Callable[[], None]) -> None:
    """One fault, and the time to get over it."""
    record = seat.record
    seat.trouble = kind
    ask()
    if not await seat.until(lambda: record.fault(kind) is not None):
        seat.trouble = None
        return
    fault = record.fault(kind)
    assert fault is not None
    wait_s = seat.wait_s + fault.wait_ms / 1000
    await seat.until(lambda: came_again(record, fault) is not None or lookalike(record, fault) is not None, wait_s)


async def _hear(seat: Seat, supervisor: Supervisor) -> None:
    """What is reported of the supervisor's messages."""
    async for event in supervisor:
        if event.event == "message.receipt":
            seat.receive_receipt(event.data["message_id"], event.data["status"], event.data.get("reason") or "")


async def _take_over(seat: Seat, supervisor: Supervisor, say: Say) -> bool:
    """True where all of it was reported, so that the conversation's next action can come."""
    record, conversation_id = seat.record, seat.record.conversation_id
    assert conversation_id is not None
    present = connected(record, conversation_id)
    names = ", ".join(one.name for one in present.values())
    await supervisor.status_set("available")
    await supervisor.monitor_start(conversation_id, next(iter(present), None))
    plan = await supervisor.takeover_prepare(conversation_id)
    mark = len(record.told)
    await supervisor.takeover_confirm(plan.takeover_id, plan.confirm_token)
    record.taken_over, record.removed = mark, tuple(present.values())
    record.word = f"word-{secrets.token_hex(3)}"
    record.said = f"Connector check: please answer with {record.word}"
    say("takeover", f"A supervisor has taken the conversation over from {names} and asks the customer for a word.")
    record.message_id = await supervisor.message_send(conversation_id, record.said, record.word)
    if not await seat.until(lambda: bool(record.reports)):
        record.stuck = await _first_waiting(seat)
        return False
    record.reported = len(record.told)
    await seat.until(lambda: _answered(record))
    mark = len(record.told)
    say("removed", f"{names}, who was removed, tries to write; then the customer writes.")
    if await seat.until(lambda: _customer_wrote(record, mark)):
        record.asked_again = mark
    return True


def _answered(record: Record) -> bool:
    since = record.taken_over or 0
    return any(
        isinstance(event, p.Message) and by_customer(event, record.conversation_id) and record.word in event.data.text
        for event in record.taken(since)
    )


def _customer_wrote(record: Record, since: int) -> bool:
    return any(by_customer(event, record.conversation_id) for event in record.taken(since))


async def _end(seat: Seat, supervisor: Supervisor, say: Say) -> None:
    record, conversation_id = seat.record, seat.record.conversation_id
    assert conversation_id is not None
    await supervisor.conversation_end(conversation_id)
    record.ended = len(record.told)

    async def reported() -> bool:
        return not await seat.parts.store.has_actions(seat.org, conversation_id)

    if not await seat.until(reported):
        record.stuck_at_end = await _first_waiting(seat)
    say("end", f"The supervisor has ended {conversation_id}. The customer writes again: it is a new conversation.")
    await seat.until(lambda: _wrote_anew(record) or _wrote_late(record))


def _wrote_anew(record: Record) -> bool:
    since = record.ended or 0
    begun = {event.conversation_id for event in record.taken(since) if isinstance(event, p.Started)}
    return any(isinstance(event, p.Message) and event.conversation_id in begun for event in record.taken(since))


def _wrote_late(record: Record) -> bool:
    return any(
        one.refused is not None and one.refused.code == "conversation_ended" for one in record.told[record.ended or 0 :]
    )


async def _first_waiting(seat: Seat) -> str:
    """The type of the conversation's action that isn't reported; empty where all are."""
    waiting = await Outbound(seat.parts.store, seat.parts.settings).waiting(seat.org, seat.connector, 100)
    mine = (one.type for one in waiting if one.conversation_id == seat.record.conversation_id)
    return next(mine, "")


# The program.


async def run_listening(args: argparse.Namespace, secret: str | None) -> int:
    """
    Stand as a hub for one connector at `args.listen`: 0 where all is well, 1 where something is missing.

    `secret` (whsec_...) is that of the webhooks to and from `args.url`; None makes one.

    Raises:
        SettingsError: The address to listen on, or the URL, can't be one (exit status 2).
    """
    try:
        host, port = parse_address(args.listen)
    except ValueError as error:
        raise SettingsError(f"--listen: {args.listen!r}; allowed: {error}") from None
    secret = secret or PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    listening = bind(host, port, flag="--listen")
    try:
        async with standing(settings_for(args.url, secret)) as hub:
            seat = await hub.seat(listening, ORG, CONNECTOR, wait_s=args.wait_s)
            _introduce(seat, secret if args.url else "", as_json=args.json)
            await lead(seat, partial(_print_step, as_json=args.json))
            return _report(seat, as_json=args.json)
    except EmbeddedError as error:
        raise SettingsError(f"--listen needs a store of its own: {error}") from None
    finally:
        listening.close()  # where the hub couldn't be started


def settings_for(url: str | None, secret: str, *, org: str = ORG, connector: str = CONNECTOR) -> Settings:
    """The hub's: with a URL its connector gets signed webhooks, else actions go to its socket."""
    if url is None:
        return Settings()
    options = {"url": url, "secret": secret, "insecure": True}
    one = ConnectorSettings(org=org, adapter="open", allow_private=tuple(hosts_of(url)), options=options)
    return Settings(connectors={connector: one})


def _introduce(seat: Seat, secret: str, *, as_json: bool) -> None:
    shown = {"address": seat.url, "token": seat.token}
    if secret:
        shown |= {"webhooks": f"{seat.url}{ROUTE}{seat.connector}", "secret": secret}
    if as_json:
        print(json.dumps(shown), flush=True)
        return
    for name, value in shown.items():
        print(f"{name:<8}  {value}", flush=True)


def _print_step(name: str, text: str, *, as_json: bool) -> None:
    print(json.dumps({"step": name, "say": text}) if as_json else f"{'step':<8}  {name:<20} {text}", flush=True)


def _report(seat: Seat, *, as_json: bool) -> int:
    verdicts = list(judged(seat.record))
    passed = sum(one.level == "ok" for one in verdicts)
    if as_json:
        counted = {"passed": passed, "missing": len(verdicts) - passed}
        print(json.dumps(counted | {"checks": [asdict(one) for one in verdicts]}), flush=True)
    else:
        for one in verdicts:
            print(one)
        print(f"{passed} passed, {len(verdicts) - passed} missing")
    return 0 if passed == len(verdicts) else 1
