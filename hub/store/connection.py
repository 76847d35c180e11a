"""
One ordered connection to one primary.

    Unavailable                not sent, or refused before anything ran: outcome `none`
    Unknown                    sent, and no answer: it may or may not have run
    ReplyError                 the server answered with an error

Order is the whole point of a `Lane`: calls leave in the order in which they were made, one write per turn of the loop,
and are answered in that order, so messages of a conversation can't change places. Three things could break it, and all
three are handled in the same way, called *holding*: new calls wait, what is in flight is answered, then whatever has to
be done is done, then those that were turned away go again, in order, and behind them those that waited.

    NOSCRIPT                   somebody flushed the scripts: they are loaded again
    MOVED, ASK, READONLY, …    the key lives elsewhere: whoever owns the lane (`topology.py`) takes and routes the calls
    a lost connection          what was sent is Unknown; the rest waits for the next connection, within bounds

A call that was turned away with one of these errors has not run, so sending it again is safe; nothing else is ever sent
twice. Two gaps are left, both within one pipeline: if a second client loads the scripts between two of our calls, the
later one runs first; so does the later one of two that share a key of a slot that is half moved, if it alone needs no
key that has left (TRYAGAIN).

Where the server has replicas, what is sent in one turn ends with one WAIT, its answers are kept until that is answered,
and what comes meanwhile leaves together afterwards: a failover then forgets nothing that was answered. A replica that
doesn't acknowledge must not stop everything: after `EMPTY_WAITS_MAX` of them nobody waits, `durable` says so, and each
`LOOK_S` it is looked whether enough replicas keep up again.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Protocol, TypeVar, cast

import hiredis

from hub.metrics import Meter

log = logging.getLogger(__name__)

ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN"})
# Answered before anything was written, by the engine's rules: whoever asks may try again.
NOT_RUN: Final = frozenset({"LOADING", "BUSY", "NOREPLICAS", "MISCONF", "OOM", "NOAUTH"})
RELOADS_MAX: Final = 3
BACKOFF_FIRST_S: Final = 0.02
BACKOFF_MAX_S: Final = 1.0
REPLICA_WAIT_MS: Final = 200  # how long one WAIT may take
EMPTY_WAITS_MAX: Final = 3  # in a row; then answers don't wait for replicas any more
LOOK_S: Final = 1.0  # between two looks whether replicas keep up
STEADY_S: Final = 1.0  # a connection that lived this long was a good one: the next loss starts with a short pause again


class Unavailable(Exception):
    """Nothing ran: the call was not sent, or the server refused it before doing anything. Trying again is safe."""


class Unknown(Exception):
    """The call was sent, and its connection lost or too slow: it may or may not have run. Ask by its request id."""


class ReplyError(Exception):
    """The server's error answer, as it stands but for the arguments that it quotes of a command it doesn't know."""

    def __init__(self, answer: str = "") -> None:
        super().__init__(answer.partition(", with args beginning with")[0])

    @property
    def code(self) -> str:
        """First word of the answer: `ERR`, `WRONGTYPE`, `MOVED`, …"""
        return str(self).partition(" ")[0]


class Script:
    """A Lua script by its digest: `name` for people, `text` as the engine gets it, `sha` as EVALSHA wants it."""

    def __init__(self, name: str, text: bytes) -> None:
        self.name = name
        self.text = text
        self.sha = sha1(text, usedforsecurity=False).hexdigest().encode()

    def wire(self, keys: Sequence[bytes], args: Sequence[bytes]) -> bytes:
        """The whole EVALSHA, ready to be sent."""
        return command(b"EVALSHA", self.sha, b"%d" % len(keys), *keys, *args)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens: a unix socket's `path`, or `host` and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """How to be let in: the same for all servers of one store. Empty strings and None mean: not needed."""

    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None

    def greeting(self, name: str) -> list[bytes]:
        """What is sent first on a connection; `name` is what CLIENT LIST shows."""
        wires = []
        if self.password:
            user = (self.username.encode(),) if self.username else ()
            wires.append(command(b"AUTH", *user, self.password.encode()))
        if self.db:
            wires.append(command(b"SELECT", b"%d" % self.db))
        wires.append(command(b"CLIENT", b"SETNAME", name.encode()))
        return wires


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Bounds of a lane.

    `timeout_s`: age of the oldest unanswered call at which the connection is given up. `connect_wait_s`: how long a
    call waits for a connection. `pending_max`: calls sent and not answered. `waiting_max`: calls waiting for a
    connection. `replicas`: how many of them must have a write before it is answered (0: none), where the server has
    any; `replicas_expected`: that it has is a matter of course, so none is a fault.
    """

    timeout_s: float = 1.5
    connect_wait_s: float = 1.0
    pending_max: int = 20_000
    waiting_max: int = 2_000
    replicas: int = 0
    replicas_expected: bool = False


def command(*args: bytes) -> bytes:
    """A command as the wire has it (RESP2 array of bulk strings)."""
    return cast(bytes, hiredis.pack_command(cast(Any, args)))


def backoff_s(attempt: int) -> float:
    """Pause before attempt `attempt` (from 0): doubling, bounded, with jitter so that nodes don't come as one."""
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return jitter * min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt, 16))


ASKING: Final = command(b"ASKING")
PING: Final = command(b"PING")
ROLE: Final = command(b"ROLE")
_numbers = itertools.count()


class Call:
    """
    One command on its way.

    `key` says where it belongs (empty: to this server), `number` its place among all calls of this process, `since` and
    `sent` when it was made and sent (loop time), `ask` that ASKING goes before it, `target` which server an ASK named,
    `reloads` how often it met a missing script.
    """

    __slots__ = ("ask", "future", "key", "number", "reloads", "sent", "since", "target", "wire")

    def __init__(self, wire: bytes, key: bytes, future: asyncio.Future[Any], since: float) -> None:
        self.wire = wire
        self.key = key
        self.future = future
        self.number = next(_numbers)
        self.since = since
        self.sent = since
        self.reloads = 0
        self.ask = False
        self.target: Endpoint | None = None

    def fail(self, error: Exception) -> None:
        """Answer with `error`, unless the caller has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class Owner(Protocol):
    """Whose a `Link` is, and what it is told."""

    endpoint: Endpoint
    writes: int

    def refused(self, link: "Link", call: Call, error: ReplyError) -> None:
        """`call` was answered with an error."""

    def replicated(self, link: "Link", replicas: int) -> None:
        """So many replicas have acknowledged everything that was sent before a WAIT."""

    def answered_all(self, link: "Link") -> None:
        """Nothing is in flight any more."""

    def lost(self, link: "Link") -> None:
        """The connection has gone; what was in flight has been answered with Unknown."""


class Link(asyncio.Protocol):
    """
    The bytes of one connection: `waiting` are the calls that were sent and not answered, oldest first; `wait` is the WAIT
    among them, if any.
    """

    def __init__(self, lane: Owner) -> None:
        self.lane = lane
        self.loop = asyncio.get_running_loop()
        self.reader = hiredis.Reader(replyError=ReplyError)
        self.waiting: deque[Call] = deque()
        self.wait: Call | None = None
        self.kept: list[tuple[Call, Any]] = []  # answered by the server, and by no replica yet
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.since = self.loop.time()
        self.heard = self.since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast(asyncio.Transport, transport)  # not checked: uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Called by the loop: give each answer to its call, in order."""
        self.heard = self.loop.time()
        waiting, gets = self.waiting, self.reader.gets
        try:
            self.reader.feed(data)
            while (answer := gets()) is not False:
                call = waiting.popleft()
                future = call.future
                if call is self.wait:
                    self._replicated(answer)
                elif future.done():
                    continue  # its caller has gone; the answer is nobody else's
                elif answer.__class__ is ReplyError:
                    self.lane.refused(self, call, answer)
                elif self.wait is not None:
                    self.kept.append((call, answer))
                else:
                    future.set_result(answer)
        except (hiredis.HiredisError, IndexError) as error:
            log.error("store %s answered out of protocol: %s", self.lane.endpoint, error)
            self.abort()
        if not waiting:
            self.lane.answered_all(self)

    def _replicated(self, answer: Any) -> None:
        self.wait = None
        self.lane.replicated(self, answer if isinstance(answer, int) else 0)
        kept, self.kept = self.kept, []
        for call, answer in kept:
            if not call.future.done():
                call.future.set_result(answer)

    def eof_received(self) -> None:
        """Called by the loop: the server has hung up."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._end()

    def _end(self) -> None:
        """What was sent may or may not have run. Said once and at once: nothing may go into a dying connection."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        calls = [*(call for call, _ in self.kept), *self.waiting]
        self.waiting, self.kept, self.wait = deque(), [], None
        for call in calls:
            call.fail(Unknown(f"connection to {self.lane.endpoint} lost"))
        self.lane.lost(self)

    def send(self, calls: list[Call], replicas: int = 0) -> None:
        """Write `calls` at once; their answers wait until so many replicas have what they wrote."""
        assert self.transport is not None
        now, wires = self.loop.time(), []
        for call in calls:
            if call.future.done():
                continue  # cancelled before it left: never sent
            call.sent = now
            if call.ask:
                call.ask = False
                self.waiting.append(self._unasked(ASKING))
                wires.append(ASKING)
            self.waiting.append(call)
            wires.append(call.wire)
        if not wires:
            return
        self.lane.writes += 1
        self.transport.write(b"".join(wires))
        if replicas:
            self.confirm(replicas)

    def confirm(self, replicas: int) -> None:
        """Keep all answers back from now on until so many replicas have what was sent before."""
        assert self.wait is None, "one pipeline at a time"
        assert self.transport is not None
        self.wait = self._unasked(command(b"WAIT", b"%d" % replicas, b"%d" % REPLICA_WAIT_MS))
        self.waiting.append(self.wait)
        self.transport.write(self.wait.wire)

    async def ask(self, wires: list[bytes]) -> list[Any]:
        """Answers to `wires`, sent past every queue; errors among them as values, Unknown where the link is lost."""
        now = self.loop.time()
        calls = [Call(wire, b"", self.loop.create_future(), now) for wire in wires]
        self.send(calls)
        return list(await asyncio.gather(*[call.future for call in calls], return_exceptions=True))

    def abort(self) -> None:
        """Drop the connection now."""
        if self.transport is not None:
            self.transport.abort()
        self._end()

    @property
    def closing(self) -> bool:
        """True where nothing can be sent any more, though it may not have been said yet."""
        return self.transport is None or self.transport.is_closing()

    def ping(self) -> None:
        """Have the server say something, so that a connection which is half open shows."""
        if self.transport is not None:
            self.waiting.append(self._unasked(PING))
            self.transport.write(PING)

    def _unasked(self, wire: bytes) -> Call:
        future: asyncio.Future[Any] = self.loop.create_future()
        future.cancel()  # whatever is answered, nobody waits for it
        return Call(wire, b"", future, self.loop.time())


class Lane:
    """
    One ordered stream of commands to one primary; connects and reconnects by itself once `start` was called.

    Every method but `aclose` and `settled` returns at once. A future may be cancelled at any time: the call is not sent
    if it hasn't left, else its answer is thrown away.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        login: Login = Login(),
        scripts: Sequence[Script] = (),
        *,
        limits: Limits = Limits(),
        meter: Meter | None = None,
        on_elsewhere: Callable[["Lane"], None] = lambda lane: None,
        on_trouble: Callable[["Lane"], None] = lambda lane: None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.limits = limits
        self.writes = 0  # how often something was written, for tests and metrics
        self.connects = 0
        self.trouble: Exception | None = None  # why there is no connection, for people
        self.hint: Endpoint | None = None  # who owns what was asked here, by the last MOVED
        self.durable = True  # as many replicas as wanted have all that was answered (or none is wanted)
        self._login = login
        self._scripts = tuple(scripts)
        self._meter = meter or Meter()
        self._on_elsewhere = on_elsewhere  # a call belongs on another server: hold, refresh the map, `take` and route
        self._on_trouble = on_trouble  # a connection could not be made
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._ready = False  # calls may be sent; then nothing is held
        self._routing = False  # held until the owner calls `take` and `release`
        self._demoted = False  # the server is a replica now
        self._unloaded = False  # the scripts have to be loaded again
        self._closed = False
        self._waits = False  # answers wait for replicas
        self._empty_waits = 0
        self._looked = 0.0  # loop time
        self._written = 0  # the server's replication offset then
        self._out: list[Call] = []  # leaves at the end of this turn of the loop, or behind the WAIT in flight
        self._again: deque[Call] = deque()  # turned away without having run
        self._held: deque[Call] = deque()
        self._settling: list[asyncio.Future[None]] = []
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tick_s = min(limits.timeout_s, limits.connect_wait_s) / 8
        self._ticked = self._loop.time()
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    # -- calls ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._spawn(self._stay_connected())

    def send(self, wire: bytes, key: bytes = b"") -> asyncio.Future[Any]:
        """
        Answer to one encoded command, in order with all others; `key` is what it is routed by if its slot moves.

        The future raises Unavailable, Unknown or ReplyError.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self.put(Call(wire, key, future, self._loop.time()))
        return future

    def put(self, call: Call) -> None:
        """Send `call` in this turn of the loop, or as soon as there is a connection."""
        if self._ready:
            if len(self._out) + self.pending >= self.limits.pending_max:
                call.fail(Unavailable(f"{self.pending} calls to {self.endpoint} are unanswered"))
                return
            if not self._out:
                self._loop.call_soon(self._flush)
            self._out.append(call)
        elif self._closed or len(self._held) >= self.limits.waiting_max:
            call.fail(Unavailable(f"no connection to {self.endpoint}: {self.trouble or 'closed'}"))
        else:
            self._held.append(call)

    @property
    def pending(self) -> int:
        """Calls that were sent and not answered."""
        return len(self._link.waiting) if self._link else 0

    @property
    def ready(self) -> bool:
        """True while calls are sent at once."""
        return self._ready

    async def up(self) -> None:
        """Wait for the first connection; bound it yourself. Safe to cancel."""
        await asyncio.shield(self._up)

    # -- holding -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Send nothing more until `release`."""
        self._routing = True
        self._stop_sending()

    async def settled(self) -> None:
        """Wait until nothing is in flight (at most `timeout_s`, then the connection is dropped). Safe to cancel."""
        if self.pending:
            future: asyncio.Future[None] = self._loop.create_future()
            self._settling.append(future)
            await future

    @property
    def held(self) -> bool:
        """True from `hold` to `release`."""
        return self._routing

    def take(self) -> list[Call]:
        """All calls that wait, in order: first those that were turned away. They are the caller's now."""
        calls = [*self._again, *self._held]
        self._again.clear()
        self._held.clear()
        return calls

    def release(self) -> None:
        """End of `hold`: what waits is sent, unless there is no connection yet."""
        self._routing = False
        self._continue()

    def reconnect(self) -> None:
        """Drop the connection and make another: what is in flight becomes Unknown."""
        if self._link is not None:
            self._link.abort()

    async def aclose(self) -> None:
        """Let what is in flight be answered (at most `timeout_s`), fail what waits, and close. Idempotent."""
        self._closed = True
        self.hold()
        with contextlib.suppress(asyncio.CancelledError):
            await self.settled()
        self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._link is not None:
            self._link.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in self.take():
            call.fail(Unavailable(f"connection to {self.endpoint} closed"))

    # -- what the link tells -------------------------------------------------------------------------------------

    def refused(self, link: Link, call: Call, error: ReplyError) -> None:
        """An error answer: remedy, or the caller's."""
        code = error.code
        if code == "NOSCRIPT" and call.reloads < RELOADS_MAX:
            call.reloads += 1
            self._unloaded = True
            self._again.append(call)
            self._stop_sending()
        elif code in ELSEWHERE and call.key:
            if code == "ASK":
                call.ask, call.target = True, moved_to(error, self.endpoint)
            elif code == "MOVED":
                self.hint = moved_to(error, self.endpoint)
            elif code == "READONLY":
                self._demoted = True
            self._again.append(call)
            self.hold()
            self._on_elsewhere(self)
        elif code in NOT_RUN:
            call.fail(Unavailable(str(error)))
            if code == "NOAUTH":
                link.abort()
        else:
            call.fail(error)

    def replicated(self, link: Link, replicas: int) -> None:
        """A WAIT was answered: what it waited for may be told, and the next pipeline leaves."""
        if link is not self._link:
            return
        self._empty_waits = 0 if replicas >= self.limits.replicas else self._empty_waits + 1
        if self._empty_waits == EMPTY_WAITS_MAX:
            self._waits = False
            log.warning("store %s (%s): answers don't wait for replicas: they don't keep up", self.endpoint, self.name)
        self.durable = not self._empty_waits
        if self._out:
            self._loop.call_soon(self._flush)

    def answered_all(self, link: Link) -> None:
        """Nothing is in flight."""
        if link is self._link and not self._ready:
            self._continue()

    def lost(self, link: Link) -> None:
        """The connection has gone; what it had sent has been answered with Unknown."""
        if link is self._link:
            self._link = None
            self._stop_sending()
            self._continue()

    # -- inside --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._link is not None and self._link.closing:
            self._link.abort()  # has them held
        if self._link is not None and self._link.wait is not None:
            return  # one pipeline at a time: these leave together when replicas have that one
        calls, self._out = self._out, []
        if calls:
            assert self._link is not None
            self._meter.pipeline_calls.add(len(calls))
            self._link.send(calls, self.limits.replicas if self._waits else 0)

    def _stop_sending(self) -> None:
        self._ready = False
        self._held.extend(self._out)  # nothing was held before: while calls are sent, nothing waits
        self._out = []

    def _continue(self) -> None:
        """Next step of whoever is holding, once nothing is in flight."""
        link = self._link
        if link is not None and link.waiting:
            return
        for future in self._settling:
            if not future.done():
                future.set_result(None)
        self._settling.clear()
        if link is not None and (self._demoted or link.closing):
            self._demoted = False
            link.abort()  # the next connection looks at the role, and waits for a primary
            return
        if link is None or self._routing or self._closed or self._ready:
            return
        if self._unloaded:
            self._unloaded = False
            self._spawn(self._reload(link))
        else:
            self._ready = True
            calls = self.take()
            if calls:
                link.send(calls, self.limits.replicas if self._waits else 0)

    async def _reload(self, link: Link) -> None:
        try:
            await self._load_scripts(link)
        except (ReplyError, Unavailable, Unknown) as error:
            self.trouble = error
            link.abort()  # connecting loads them, too

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                link = await self._connect()
            except Exception as error:  # whatever it was (a name that can't be encoded, say): try again, and say why
                if attempt == 0:
                    log.warning("no connection to store %s (%s): %s", self.endpoint, self.name, error)
                self.trouble = error
                self._on_trouble(self)
            else:
                self.trouble = None
                await link.lost
                if self._loop.time() - link.since > STEADY_S:
                    attempt = 0
                self.trouble = Unavailable("connection lost")
            await asyncio.sleep(backoff_s(attempt))
            attempt += 1

    async def _connect(self) -> Link:
        self._unloaded = False
        async with asyncio.timeout(self.limits.timeout_s):
            link = await open_link(self.endpoint, self._login, lambda: Link(self))
            try:
                await self._greet(link)
            except BaseException:
                link.abort()
                raise
        # Without an await from the last answer to here, so the link can't have been lost unnoticed.
        if link.lost.done():
            raise Unavailable("connection lost at once")
        self._link = link
        self.connects += 1
        if not self._up.done():
            self._up.set_result(None)
        self._continue()
        return link

    async def _greet(self, link: Link) -> None:
        greeting = self._login.greeting(f"hub-{self.name}")
        for answer in await link.ask(greeting):
            if isinstance(answer, Exception):
                raise answer
        [role] = await link.ask([ROLE])
        if isinstance(role, list) and role and role[0] != b"master":
            raise Unavailable(f"{self.endpoint} is a replica")  # a demoted primary that came back, say
        self._look_at(role, at_least=1)  # one that is still being filled acknowledges nothing
        await self._load_scripts(link)

    def _look_at(self, role: Any, at_least: int) -> bool:
        """Wait for replicas from now on if enough of them are there and have acknowledged the offset `at_least`: True."""
        self._looked = self._loop.time()
        if not isinstance(role, list) or len(role) < 3:  # no leave to ask for it, say
            return False
        self._written, there = int(role[1]), role[2]
        keeping_up = sum(int(offset) >= at_least for _, _, offset in there)
        if self.limits.replicas and keeping_up >= self.limits.replicas:
            if not self.durable:
                log.info("store %s (%s): answers wait for replicas again", self.endpoint, self.name)
            self._waits, self._empty_waits = True, 0
            return True
        if self._waits or self.limits.replicas_expected:
            if self.durable and self.limits.replicas:
                log.warning("store %s (%s) has fewer replicas than wanted", self.endpoint, self.name)
            self._waits, self.durable = False, not self.limits.replicas
        return False

    async def _look(self, link: Link) -> None:
        """Are enough replicas there, with everything that was written before the last look?"""
        [role] = await link.ask([ROLE])
        if link is self._link and not self._waits and self._look_at(role, at_least=self._written):
            link.confirm(self.limits.replicas)  # what was answered without waiting; nobody else might ask for long

    async def _load_scripts(self, link: Link) -> None:
        answers = await link.ask([command(b"SCRIPT", b"LOAD", script.text) for script in self._scripts])
        for script, answer in zip(self._scripts, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            if answer != script.sha:
                raise Unavailable(f"script {script.name} got another digest")

    def _tick(self) -> None:
        now = self._loop.time()
        # A late tick shows that this process stood still: answers may lie unread in the socket. Look again first.
        stood_still = now - self._ticked > 3 * self._tick_s
        self._ticked = now
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        if stood_still:
            return
        link = self._link
        if link is not None:
            if link.waiting and now - link.waiting[0].sent > self.limits.timeout_s:
                log.warning(
                    "store %s (%s) has not answered for %.1f s", self.endpoint, self.name, self.limits.timeout_s
                )
                link.abort()
            elif not link.waiting and now - link.heard > self.limits.timeout_s:
                # A connection that is half open would be found by the next call only, which would then be Unknown.
                link.ping()
            elif self.limits.replicas and not self._waits and self._ready and now - self._looked > LOOK_S:
                self._looked = now
                self._spawn(self._look(link))
        if not self._ready:
            self._expire(now - self.limits.connect_wait_s)

    def _expire(self, before: float) -> None:
        for queue in (self._again, self._held):
            while queue and queue[0].since < before:
                queue.popleft().fail(
                    Unavailable(f"no connection to {self.endpoint}: {self.trouble or 'waited too long'}")
                )

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Errand:
    """Owner of a link for one question."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.writes = 0

    def refused(self, link: Link, call: Call, error: ReplyError) -> None:
        call.fail(error)

    def replicated(self, link: Link, replicas: int) -> None:
        pass

    def answered_all(self, link: Link) -> None:
        pass

    def lost(self, link: Link) -> None:
        pass


async def ask_once(endpoint: Endpoint, login: Login, wire: bytes, timeout_s: float) -> Any:
    """Answer to one command, on a connection of its own. Raises OSError, TimeoutError, ReplyError, Unknown."""
    async with asyncio.timeout(timeout_s):
        link = await open_link(endpoint, login, lambda: Link(_Errand(endpoint)))
        try:
            answers = await link.ask([*login.greeting("hub-map"), wire])
        finally:
            link.abort()
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers[-1]


P = TypeVar("P", bound=asyncio.Protocol)


async def open_link(endpoint: Endpoint, login: Login, make: Callable[[], P]) -> P:
    """Connected protocol object; bound the time yourself. Raises OSError."""
    loop = asyncio.get_running_loop()
    if endpoint.path:
        _, protocol = await loop.create_unix_connection(make, endpoint.path)
    else:
        _, protocol = await loop.create_connection(make, endpoint.host, endpoint.port, ssl=login.tls)
    return protocol


def moved_to(error: ReplyError, asked: Endpoint) -> Endpoint | None:
    """Server that a MOVED or ASK names; an empty host is the one that was asked. None where it names none."""
    words = str(error).split(" ")
    if len(words) < 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    return Endpoint(host.strip("[]") or asked.host, int(port)) if port.isdigit() else None
