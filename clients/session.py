"""
The connection core that all four roles share.

    command() ──► pending (by id, in order) ──► outbox ──► socket
    socket ──► one reader ──► answers to their futures, events to the inbox, pong at once

One task owns the connection: it says hello, reads until the line ends, looks up in the protocol's table what to do then
(`policy`), and connects again. A command stays in `pending` until it is answered, across connections: after a resume it
is sent again with the same `id` and the same `req`, so that the hub answers what it answered before instead of doing it
twice. Cursors are kept per conversation and given to the next hello; what the hub can't give back it says by
`stream.reset`, which the application sees as an event.
"""

import asyncio
import inspect
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from clients.inbox import Inbox
from clients.policy import Backoff, Ending, Move, move_after, silence_limit_s
from clients.wire import (
    HUB_FRAME_BYTES_MAX,
    SUBPROTOCOL,
    ConnectionEnded,
    Event,
    HubError,
    Line,
    endpoint_url,
    is_loopback,
    lines_of,
    offset_of,
)

Token = str | Callable[[], str | Awaitable[str]]

# Commands whose effect must not happen twice; all others are reads, or the last one wins anyway.
CHANGING: Final = frozenset(
    {
        "status.set",
        "monitor.start",
        "monitor.stop",
        "monitor.release",
        "takeover.prepare",
        "takeover.confirm",
        "takeover.cancel",
        "takeover.acknowledge",
        "message.send",
        "conversation.start",
        "conversation.end",
        "wrapup.submit",
    }
)
SNAPSHOTS: Final = frozenset({"monitor.started", "conversation.snapshot", "stream.reset"})
CURSORS_MAX: Final = 500  # in one hello, which is a frame of 64 KiB; the rest get their snapshot again
SILENCE_SLACK_S: Final = 10.0  # protocol: dead after heartbeat_ms + 10 s without a frame
CERTAIN_S: Final = 0.25  # what came while this loop was held up is read before the hub is called silent
STABLE_S: Final = 5.0  # a connection that lived this long forgives the failures before it
TOKEN_TRIES: Final = 5  # tokens refused in a row before giving up
UNKNOWN_TRIES: Final = 4  # how often a command of unknown outcome is asked again by its `req`


class Hello(msgspec.Struct, frozen=True):
    """
    The hub's answer to hello; `secret` is for the next resume, `status` of a supervisor or agent.

    `monitor_ping_ms` is the pace of pings while this session monitors; 0: it isn't told.
    """

    session: str
    secret: str = ""
    resumed: bool = False
    user: dict[str, Any] = {}
    status: str | None = None
    permissions: list[str] = []
    heartbeat_ms: int = 25_000
    monitor_ping_ms: int = 0
    server_time: int = 0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """
    What may be set on a client; all times are seconds.

    `events_max` bounds the unread events, `open_timeout_s` the first connection (None: try for ever),
    `command_timeout_s` a single command including reconnects, `seed` makes the jitter repeatable.
    """

    events_max: int = 10_000
    open_timeout_s: float | None = 15.0
    hello_timeout_s: float = 10.0
    command_timeout_s: float = 30.0
    backoff: Backoff = Backoff()
    seed: int | None = None
    origin: str | None = None


class _Pending:
    """A command on its way: its future and the text that is sent, again and again, until it is answered."""

    __slots__ = ("answer", "id", "on_ok", "text")

    def __init__(
        self,
        number: int,
        text: str,
        answer: "asyncio.Future[dict[str, Any]]",
        on_ok: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.id = number
        self.text = text
        self.answer = answer
        self.on_ok = on_ok  # runs before the next line of the frame is looked at


class Session:
    """
    One client of the hub, over any number of connections; use it as an async context manager.

    Subclasses say the endpoint and add commands as methods. Not safe for use from several threads; commands may be
    called from several tasks, events are for one consumer.
    """

    endpoint = "/v1/supervisor"

    def __init__(self, url: str, token: Token, options: Options | None = None) -> None:
        self.url = url
        self.options = options or Options()
        self._address = endpoint_url(url, self.endpoint)
        self.hello: Hello | None = None
        self.cursors: dict[str, str] = {}
        self.gaps = 0  # transcript offsets that were skipped without a reset; must stay 0
        self.reconnects = 0
        self._token = token
        self._token_now: str | None = None
        self.chance = random.Random(self.options.seed)
        self._inbox = Inbox(self.options.events_max, self._abort)
        self._pending: dict[int, _Pending] = {}
        self._outbox: deque[_Pending] = deque()
        self._send_lock = asyncio.Lock()
        self._next_id = 1  # 1 is hello's, on every connection
        self._socket: ClientConnection | None = None
        self._ready = False
        self._greeted = False  # this connection's hello was answered with ok
        self._token_refusals = 0
        self._closing: dict[str, Any] = {}
        self._refusal: HubError | None = None
        self._heard = 0.0
        self._monitored: set[str] = set()  # conversations; the hub pings faster while there are any
        self._look: asyncio.TimerHandle | None = None  # the next one for a hub that has gone silent
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._close_code: int | None = None

    # Life

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        self._task = loop.create_task(self._run())
        try:
            async with asyncio.timeout(self.options.open_timeout_s):
                await self._first
        except BaseException:
            await self.close(1001)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, code: int = 1000) -> None:
        """
        End this client. Idempotent.

        With 1000 the hub ends the session and frees its monitors at once; with 1001 it keeps both for the 15 s in
        which another client may resume.
        """
        if self._close_code is None:
            self._close_code = code
            self._inbox.end(StopAsyncIteration())
        socket, task = self._socket, self._task
        if socket is not None:
            with suppress(ConnectionClosed, OSError, TimeoutError):
                await socket.close(code)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._fail_pending(ConnectionEnded(code, "closed by this client"))

    def _is_closed(self) -> bool:
        return self._close_code is not None

    @property
    def connected(self) -> bool:
        """True while hello is answered and the socket stands."""
        return self._ready

    @property
    def user_id(self) -> str:
        """The hub's name of whoever this is; empty before the first hello."""
        return str(self.hello.user.get("id", "")) if self.hello else ""

    # Events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await self._inbox.get()

    async def recv(self) -> Event:
        """The next event; safe to cancel. Raises `ConnectionEnded` when there will be none."""
        try:
            return await self._inbox.get()
        except StopAsyncIteration:
            raise ConnectionEnded(self._close_code or 1000, "closed by this client") from None

    # Commands

    async def command(self, cmd: str, /, *, req: str | None = None, **arguments: Any) -> dict[str, Any]:
        """
        Send a command and return its `ok`; arguments that are None are left out.

        A changing command gets a `req` and survives reconnects: it is sent again until answered. An answer
        `store_unavailable` with outcome `unknown` is asked again by the same `req`.

        Raises:
            HubError: The hub refused.
            ConnectionEnded: The client stopped before there was an answer.
            TimeoutError: No answer in `command_timeout_s`; for a changing command the outcome is unknown.
        """
        if req is None and cmd in CHANGING:
            req = secrets.token_hex(8)
        body = {"cmd": cmd, **({"req": req} if req else {}), **{k: v for k, v in arguments.items() if v is not None}}
        failures = 0
        async with asyncio.timeout(self.options.command_timeout_s):
            while True:
                try:
                    return await self._ask(body)
                except HubError as refusal:
                    failures += 1
                    if refusal.details.get("outcome") != "unknown" or failures >= UNKNOWN_TRIES:
                        raise
                await asyncio.sleep(self.options.backoff.delay_s(failures, self.chance))

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        pending = self._enqueue(body)
        try:
            await self._flush()
            return await pending.answer
        finally:
            self._pending.pop(pending.id, None)

    def _enqueue(self, body: dict[str, Any], on_ok: Callable[[dict[str, Any]], None] | None = None) -> _Pending:
        if self._is_closed() or (self._task is not None and self._task.done()):
            raise ConnectionEnded(self._close_code or 1006, "this client is closed")
        self._next_id += 1
        text = msgspec.json.encode({"id": self._next_id, **body}).decode()
        pending = _Pending(self._next_id, text, asyncio.get_running_loop().create_future(), on_ok)
        self._pending[pending.id] = pending
        self._outbox.append(pending)
        return pending

    async def _flush(self) -> None:
        """Send what waits, in the order of the calls; what the line swallows is sent again on the next one."""
        async with self._send_lock:
            while self._ready and self._socket is not None and self._outbox:
                pending = self._outbox.popleft()
                if pending.answer.done():
                    continue  # its caller has given up
                try:
                    await self._socket.send(pending.text)
                except ConnectionClosed:
                    return

    def _fail_pending(self, why: Exception) -> None:
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                pending.answer.set_exception(why)
                pending.answer.exception()  # a caller that was cancelled meanwhile won't read it

    # The connection's task

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._is_closed():
            began = loop.time()
            ending = await self._connection()
            failures = 0 if self._greeted and loop.time() - began >= STABLE_S else failures
            self._greeted = False
            if self._is_closed():
                return
            delay_s = self._delay_s(ending, failures)
            if delay_s is None:
                self._give_up(ConnectionEnded(ending.code, ending.reason, self._refusal))
                return
            failures += 1
            self.reconnects += 1
            self._inbox.put(Event("session.interrupted", data={"code": ending.code, "reason": ending.reason}))
            await asyncio.sleep(delay_s)

    def _delay_s(self, ending: Ending, failures: int) -> float | None:
        """Seconds until the next attempt after an ending; None: there is none."""
        move = move_after(ending)
        if self._inbox.lagging:
            move = Move.NOW if move is Move.RETRY and failures < 3 else move
        if move is Move.FRESH:
            self._token_refusals += 1
            if isinstance(self._token, str) or self._token_refusals >= TOKEN_TRIES:
                return None  # nobody can give us a better one
            self._token_now = None
            return 0.0 if failures == 0 else self.options.backoff.delay_s(failures, self.chance)
        if move is Move.STOP:
            return None
        if move is Move.WAIT:
            assert ending.retry_ms is not None
            return ending.retry_ms / 1000
        return 0.0 if move is Move.NOW else self.options.backoff.delay_s(failures, self.chance)

    def _give_up(self, why: Exception) -> None:
        self._inbox.end(why)
        self._fail_pending(why)
        if self._first is not None and not self._first.done():
            self._first.set_exception(why)

    async def _connection(self) -> Ending:
        """One connection from handshake to end; never raises but for cancellation."""
        self._closing, self._refusal = {}, None
        try:
            if self._token_now is None:
                self._token_now = await self._fetch_token()
        except Exception as error:  # the application's callback may raise anything; it is asked again
            return Ending(1006, f"token callback: {error!r}")
        try:
            self._socket = await connect(
                self._address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=HUB_FRAME_BYTES_MAX,
                ping_interval=None,  # the protocol has a heartbeat of its own
                close_timeout=2,
                proxy=None if is_loopback(self.url) else True,
                additional_headers={"Origin": self.options.origin} if self.options.origin else None,
            )
        except InvalidStatus as error:
            return Ending(error.response.status_code, error.response.body.decode(errors="replace")[:200])
        except (OSError, TimeoutError, InvalidHandshake) as error:
            return Ending(1006, str(error) or type(error).__name__)
        try:
            return await self._converse(self._socket)
        finally:
            self._socket, self._ready = None, False

    async def _fetch_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    async def _converse(self, socket: ClientConnection) -> Ending:
        try:
            async with asyncio.timeout(self.options.hello_timeout_s):
                await socket.send(self._hello_text())
                while not self._ready:
                    await self._take_frame(await socket.recv())
            self._watch()
            await self._flush()
            while True:
                await self._take_frame(await socket.recv())
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            reason = closed.rcvd.reason if closed.rcvd else "connection lost"
            return self._ending(code, reason)
        except (TimeoutError, msgspec.MsgspecError) as error:
            socket.transport.abort()
            return Ending(1006, str(error) or "no answer to hello")
        finally:
            if self._look is not None:
                self._look.cancel()
                self._look = None
            socket.transport.abort()  # where it has ended, nothing; where this was cancelled, nobody else would

    def _ending(self, code: int, reason: str) -> Ending:
        """The close as the hub explained it; an announced code counts where the line broke before the close frame."""
        if code == 1006:
            code = self._closing.get("code", code)
        return Ending(code, reason or str(self._closing.get("reason", "")), self._closing.get("retry_ms"))

    def _hello_text(self) -> str:
        hello: dict[str, Any] = {"id": 1, "cmd": "hello", "token": self._token_now}
        if self.hello is not None:
            hello["resume"] = {
                "session": self.hello.session,
                "secret": self.hello.secret,
                "cursors": dict(islice(reversed(self.cursors.items()), CURSORS_MAX)),
            }
        return msgspec.json.encode(hello).decode()

    def _watch(self) -> None:
        """See to it that a silent hub is noticed: a half-open line says nothing else."""
        if self._look is not None:
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_at(self._silent_at(), self._look_for_silence, False)

    def _silent_at(self) -> float:
        assert self.hello is not None
        pace_ms = self.hello.monitor_ping_ms if self._monitored else 0
        return self._heard + silence_limit_s(self.hello.heartbeat_ms, SILENCE_SLACK_S, pace_ms)

    def _look_for_silence(self, certain: bool) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_at():
            self._watch()
        elif not certain:
            self._look = loop.call_later(CERTAIN_S, self._look_for_silence, True)
        elif self._socket is not None:
            self._closing = {"code": 1006, "reason": "the hub is silent"}
            self._socket.transport.abort()

    def _abort(self) -> None:
        """Drop the line without a close code, so that the session can be resumed."""
        if self._socket is not None and self._ready:
            self._socket.transport.abort()

    # Frames

    async def _take_frame(self, frame: str | bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        for line in lines_of(frame):
            if line.event is None:
                self._take_answer(line)
            elif line.event == "ping":
                if self._socket is not None:
                    with suppress(ConnectionClosed):  # why it closes may be in what is still unread
                        await self._socket.send('{"cmd":"pong"}')
            elif line.event == "closing":
                self._closing = line.data or {}
            else:
                self._take_event(line.as_event())

    def _take_answer(self, line: Line) -> None:
        if line.id == 1:
            self._take_hello(line)
            return
        pending = self._pending.pop(line.id or 0, None)
        if pending is None or pending.answer.done():
            return
        if line.error is not None:
            pending.answer.set_exception(line.as_error())
            return
        if pending.on_ok is not None:
            pending.on_ok(line.ok or {})
        pending.answer.set_result(line.ok or {})

    def _take_hello(self, line: Line) -> None:
        if line.error is not None:
            self._refusal = line.as_error()  # the close that follows decides
            return
        again = self.hello is not None
        self.hello = msgspec.convert(line.ok or {}, Hello)
        lost = [] if self.hello.resumed or not again else sorted(self.cursors)
        if not self.hello.resumed:
            self.cursors.clear()
            self._monitored.clear()
        self._inbox.caught_up()
        # Whatever had no answer is asked again, in the order of the calls and before anything newer.
        self._outbox = deque(self._pending.values())
        self._ready = True
        self._greeted = True
        self._token_refusals = 0
        self._started(self.hello, again)
        self._inbox.put(
            Event(
                "session.started",
                at=self.hello.server_time,
                data={
                    "session": self.hello.session,
                    "resumed": self.hello.resumed,
                    "status": self.hello.status,
                    "lost": lost,
                },
            )
        )
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _started(self, hello: Hello, again: bool) -> None:
        """For subclasses: hello was answered (`again`: not for the first time); runs before anything else is read."""

    def _take_event(self, event: Event) -> None:
        if event.event in {"monitor.started", "monitor.ended"}:
            self._note_monitor(event)
        if self._repeated(event):
            return
        if self._inbox.put(event):
            self._note_position(event)
        elif event.event in SNAPSHOTS and event.conversation_id is not None:
            self.cursors.pop(event.conversation_id, None)  # without a position the resume brings the snapshot again

    def _note_monitor(self, event: Event) -> None:
        """Monitors tell how often the hub pings."""
        before = len(self._monitored)
        if event.conversation_id is not None:
            change = self._monitored.add if event.event == "monitor.started" else self._monitored.discard
            change(event.conversation_id)
        if self._look is not None and not before and self._monitored:
            self._watch()  # the look that is due was meant for a slower pace

    def _repeated(self, event: Event) -> bool:
        """True for a transcript event that was had already; the hub doesn't send such, a proxy's replay might."""
        if event.cursor is None or event.conversation_id is None:
            return False
        known, offset = self.cursors.get(event.conversation_id), offset_of(event.cursor)
        before = offset_of(known) if known else None
        if before is None or offset is None:
            return False
        if offset > before + 1 and not self._inbox.lagging:
            self.gaps += 1
        return offset <= before

    def _note_position(self, event: Event) -> None:
        """Keep the place from which a resume goes on; a conversation that is over for us has none."""
        conversation = event.conversation_id
        if conversation is None:
            return
        if event.cursor is not None:
            self.cursors.pop(conversation, None)  # the dict's order is that of the last use
            self.cursors[conversation] = event.cursor
        elif event.event in SNAPSHOTS:
            snapshot = event.data.get("snapshot", event.data)
            if isinstance(snapshot, dict) and snapshot.get("cursor"):
                self.cursors[conversation] = snapshot["cursor"]
        elif event.event == "monitor.ended" and event.data.get("reason") != "taken_over":
            self.cursors.pop(conversation, None)
        if event.event == "conversation.ended":
            self.cursors.pop(conversation, None)
