"""
A session: what stands behind one socket, whoever drives it.

A driver (`edge/socket.py`) calls `on_text`, `on_binary` and `on_close`; the session answers at once or queues a command.
Commands are carried out one after the other. Outgoing frames gather for one turn of the loop and leave in one write.

    connecting ──hello──► greeting ──ok──► open ──close──► closed
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec
import orjson

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.quotas import COMMANDS, Over, keys_of
from hub.edge.turn import Packet
from hub.fanout.board import MonitorEnd, Participation, Wrapup, WrapupEnd
from hub.fanout.node import MonitorRef
from hub.fanout.views import Told, View
from hub.fanout.watch import Item, Watch
from hub.protocol import commands as c
from hub.protocol.close import Close
from hub.protocol.decode import Fatal, Malformed, decode_frame
from hub.protocol.encode import closing, encode_error, encode_ok
from hub.service.codec import digest
from hub.service.conversations import repeated
from hub.service.ids import new_secret, secret_hash
from hub.service.ports import Request
from hub.store.keys import new_id, partition
from hub.store.redis_store import Unproven, store_unavailable

if TYPE_CHECKING:
    from hub.edge.parts import Parts

log = logging.getLogger(__name__)

QUEUED_MAX = 1_000  # commands waiting on one socket
REFUSED_MAX = 400  # refusals for haste beyond the commands let through meanwhile, after which the socket is closed
SESSION_TTL_MS = 60_000
UNPROVEN_TRIES = 24  # longer than UNPROVEN_MS of silence
UNPROVEN_PAUSE_S = 0.05
CLOSE_S = 2.0  # what a peer has to take the close; then the connection is dropped
SESSION_TOUCH_S = 20.0


class Socket(Protocol):
    """The driver's side."""

    def write(self, packet: Packet) -> int:
        """Send its text frames, never waiting; the `backlog` there was before them."""

    def backlog(self) -> int:
        """Bytes that the peer has not taken yet."""

    def close(self, code: int, reason: str) -> None:
        """Close after what was written."""

    def abort(self) -> None:
        """Drop the connection."""


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._tokens, self._at = rate, burst, burst, now

    def take(self, now: float) -> int:
        """0 where there was one, else the milliseconds until there is."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return int((1 - self._tokens) / self._rate * 1000) + 1


class BaseSession:
    """
    What all four endpoints share; each has its own commands.

    There are thousands of these, most of them idle: their attributes have slots, and what an idle one has no use for
    (a queue, a batch of frames) is made when it is needed.
    """

    __slots__ = (
        *(
            "_borrowed",
            "_bucket",
            "_burst",
            "_closing",
            "_doomed",
            "_due",
            "_entered",
            "_greeted",
            "_lags",
            "_limits",
            "_opened",
            "_pinged",
        ),
        *("_queue", "_refused", "_revoked", "_secret", "_touched", "_unproven", "_unsaved", "_worker", "address"),
        *("closed", "last_heard", "loop", "monitors", "node", "nonce", "on_purpose", "out", "parts", "person", "ready"),
        *("session_id", "settings", "socket", "views"),
    )

    endpoint = ""
    roles: frozenset[str] = frozenset()
    present = True  # whether a socket of this kind means that the person is there

    def __init__(self, parts: Parts, socket: Socket, address: str) -> None:
        self.parts = parts
        self.node = parts.node
        self.settings = parts.settings
        self.socket = socket
        self.address = address
        self.loop = asyncio.get_running_loop()
        self.person: Person = _NOBODY
        self.session_id = ""
        self.nonce = ""
        self.monitors: dict[str, MonitorRef] = {}
        self.views: dict[str, View] = {}
        self.closed = False
        self.on_purpose = False  # the peer ended the session, rather than lost it
        self.ready = False
        self._greeted = False
        self._limits: tuple[tuple[str, Hashable], ...] | None = None  # the quotas of its commands, once it sends some
        self._unproven = False  # resumed, and not heard since: the client may not have the new secret
        self._entered = False
        self._closing: int | None = None
        self._revoked = False
        self._doomed = False  # a frame was broken; nothing after it is read
        self.out: list[bytes] | None = None  # what leaves at the end of this turn
        self._borrowed = False  # `out` is somebody else's
        self._lags = False  # the peer had not taken much of what was written before the last write
        self._burst = 0  # bytes that were sent at once to a peer that had taken everything before
        self._unsaved: dict[str, bytes] = {}  # fields of the stored session that the store hasn't got yet
        self._queue: deque[Any] | None = None  # commands that wait for the one under way
        self._worker: asyncio.Task[None] | None = None
        now = self.loop.time()
        self._opened = self.last_heard = self._pinged = self._touched = now
        self._due = now  # when the timer has to look again; unless there is a monitor
        self._secret = ""  # between attaching and hello's answer
        self._bucket = Bucket(self.settings.commands_per_s, self.settings.commands_burst, now)
        self._refused = 0
        parts.node.sessions.add(self)

    # -- out ---------------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send one frame with what else this turn of the loop brings; never waits."""
        if self.closed:
            return
        if self.out is None:
            self.out = [frame]
            self.parts.turn.add(self)
        elif self._borrowed:
            self.out, self._borrowed = [*self.out, frame], False
        else:
            self.out.append(frame)

    def send_shared(self, frames: list[bytes]) -> None:
        """Send frames that many are sent, without a list of one's own; they aren't changed."""
        if self.out is None and not self.closed:
            self.out, self._borrowed = frames, True
            self.parts.turn.add(self)
        else:
            for frame in frames:
                self.send(frame)

    def write_out(self, packet: Packet) -> None:
        """Write what this turn brought; close where the peer doesn't keep up."""
        limit = self.settings.socket_buffer_bytes_max
        if self.socket.write(packet) <= limit // 4:
            # Whoever has kept up isn't slow because a snapshot or what they missed is big: it counts behind that.
            self._burst = packet.size
            self._lags = False
            return
        self._lags = True
        if self._closing is None and self.socket.backlog() > limit + self._burst:
            self.node.meter.slow_readers += 1
            self.close(Close.TOO_SLOW, "this socket reads too slowly")

    def close(self, code: int, reason: str, retry_ms: int | None = None) -> None:
        """Say why, then close; the session is over here at once, whether or not the peer takes the close."""
        if self.closed or self._closing is not None:
            return
        self._closing = int(code)
        self.send(closing(code, reason, retry_ms))
        self.parts.turn.now(self)
        self.socket.close(int(code), reason)
        self.loop.call_later(CLOSE_S, self.socket.abort)
        self.on_close(1006)

    def revoke(self) -> None:
        """The token is void: no more data, and no monitor is kept for this person."""
        self._revoked = True
        self.close(Close.UNAUTHENTICATED, "the token was revoked")

    # -- in ----------------------------------------------------------------------------------------------------------

    def on_text(self, text: str) -> None:
        """One text frame."""
        if self.closed or self._doomed or self._closing is not None:
            return
        limit = self.settings.frame_bytes_max
        if len(text) * 4 > limit and len(text.encode()) > limit:  # no character has more than four bytes
            self.close(Close.TOO_BIG, f"a frame has at most {limit} bytes")
            return
        self._heard()
        if self._unproven and self.ready:  # they have the answer to hello, and the new secret in it
            self._unproven = False
            self.node.spawn(self.save(before=b""))
        for item in decode_frame(text, self.endpoint):
            if isinstance(item, c.Pong):
                if not self._greeted:
                    self.close(Close.BAD_FRAME, "the first object must be hello")
                    return
                continue
            if isinstance(item, Fatal):
                self._doomed = True  # what came before it is still carried out
                if self._worker is None:
                    self.close(item.code, item.reason)
                else:
                    self._enqueue(item)
                return
            if not self._take(item, text):
                return

    def on_binary(self) -> None:
        """One binary frame: there are none in this protocol."""
        self.close(Close.BAD_FRAME, "binary frames are not spoken here")

    def _take(self, item: Any, text: str) -> bool:
        """One object; False where the socket is closing."""
        wait_ms = self._bucket.take(self.loop.time())
        if wait_ms and self._greeted:
            return self._too_fast(item, self.parts.quotas.over("commands_per_s", wait_ms))
        if self._greeted and (over := self._over_quota()) is not None:
            return self._too_fast(item, over)
        if self._refused:
            self._refused -= 1  # not 0: tokens come with time, so a slow machine would never see many in a row
        if isinstance(item, Malformed):
            if not self._greeted and '"hello"' not in text:
                self.close(Close.BAD_FRAME, "the first object must be hello")
                return False
            if self._queue or self._worker is not None:
                self._enqueue(item)
            else:
                self.send(encode_error(item.id, item.refused))
            return True
        if not self._greeted:
            if not isinstance(item, c.Hello):
                self.close(Close.BAD_FRAME, "the first object must be hello")
                return False
            self._greeted = True
        elif isinstance(item, c.Hello):
            details = {"path": "cmd", "got": "hello"}
            self.send(encode_error(item.id, Refused("schema_invalid", "This socket has said hello.", details)))
            return True
        if self._queue is not None and len(self._queue) >= QUEUED_MAX:
            return self._too_fast(item, self.parts.quotas.over("commands_per_s", 100))
        self._enqueue(item)
        return True

    def _over_quota(self) -> Over | None:
        """The first quota of commands that is used up: of the address, the person, the organization or the node."""
        if self._limits is None:
            self._limits = tuple((COMMANDS[scope], key) for scope, key in self._quota_keys)
        return self.parts.quotas.first_over(self._limits, self.loop.time())

    @property
    def _quota_keys(self) -> tuple[tuple[str, Hashable], ...]:
        """(scope, key) of what counts for this session: the address, the person, the organization, the node."""
        return keys_of(self.address, self.person, self.endpoint)

    def _too_fast(self, item: Any, over: Over) -> bool:
        self._refused += 1
        if self._refused > REFUSED_MAX:
            self.close(Close.TOO_MANY, "too many commands")
            return False
        self.send(encode_error(item.id, over.refused(f"Too many commands; wait {over.retry_ms} ms.")))
        return True

    def _enqueue(self, item: Any) -> None:
        if self._worker is None and type(item) in self.instant:
            self._at_once(item)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(item)
        if self._worker is None:
            self._worker = self.node.spawn(self._work())

    def _at_once(self, item: Any) -> None:
        """A command that waits for nothing, with none before it: no task is needed."""
        try:
            self._check_token()
            self.instant[type(item)](self, item)
        except Exception as error:
            self._refuse(item, error)

    def _refuse(self, item: Any, error: Exception) -> None:
        if isinstance(error, Refused):
            self.send(encode_error(item.id, error))
            return
        log.error("command failed: %s", type(item).__name__, exc_info=error)
        unsure = Refused("store_unavailable", "Something went wrong here; try again.", {"outcome": "unknown"})
        self.send(encode_error(item.id, unsure))

    async def _work(self) -> None:
        try:
            while self._queue and not self.closed:
                await self._one(self._queue.popleft())
        finally:
            self._worker = self._queue = None

    async def _one(self, item: Any) -> None:
        if isinstance(item, Malformed):
            self.send(encode_error(item.id, item.refused))
            return
        if self._closing is not None:
            return
        if isinstance(item, Fatal):
            self.close(item.code, item.reason)
            return
        try:
            if isinstance(item, c.Hello):
                await self._hello(item)
            else:
                await self._command(item)
        except Exception as error:
            self._refuse(item, error)

    async def _command(self, item: Any) -> None:
        """Carry out one command; a `req` that was answered before is answered the same."""
        self._check_token()
        if type(item) in self.instant:
            self.instant[type(item)](self, item)
            return
        handler = self.handlers.get(type(item))
        assert handler is not None, item
        request = self.request_of(item)
        if request is not None:
            first = await self.parts.store.first_answer(request)
            if first is not None:
                self.ok(item.id, repeated(first, request))
                return
        await handler(self, item)

    handlers: ClassVar[dict[type, Callable[[Any, Any], Awaitable[None]]]] = {}
    instant: ClassVar[dict[type, Callable[[Any, Any], None]]] = {}  # those that wait for nothing, the store included

    def request_of(self, item: Any) -> Request | None:
        """What makes this command idempotent, where it has a `req`."""
        req = getattr(item, "req", None)
        if req is None:
            return None
        asked = msgspec.to_builtins(item)
        del asked["id"]
        person = self.person
        return Request(person.org, person.role, person.user_id, req, digest(asked))

    def ok(self, id: int, answer: dict[str, object] | None = None) -> None:
        """Answer a command."""
        self.send(encode_ok(id, answer or {}))

    async def done(
        self, item: Any, answer: dict[str, object] | None = None, *, conversation_id: str | None = None
    ) -> None:
        """
        Answer a command that changed something, and remember the answer for its `req`.

        `conversation_id` is what it changed, where the command itself doesn't say so.
        """
        request = self.request_of(item)
        if request is not None:
            try:
                await self.parts.store.remember_answer(request, orjson.dumps(answer or {}))
            except Refused as refused:
                log.warning("an answer isn't remembered: %s", refused.code)  # what was asked for is done, all the same
        changed = conversation_id or getattr(item, "conversation_id", None)
        if not self.parts.store.durable(self.person.org, changed):
            answer = {**(answer or {}), "durable": False}
        self.ok(item.id, answer)

    def _check_token(self) -> None:
        if self.person.expires_at and self.node.now_ms() >= self.person.expires_at:
            self.close(Close.UNAUTHENTICATED, "the token has expired")
            raise Refused("unauthenticated", "The token has expired.")

    # -- hello -------------------------------------------------------------------------------------------------------

    async def _hello(self, hello: c.Hello) -> None:
        try:
            person = await self.parts.identify(hello.token)
            if person.role not in self.roles:
                raise Refused("not_permitted", f"This endpoint isn't for the role {person.role}.")
            if person.role == "customer" and person.conversation is None:
                raise Refused("unauthenticated", "A customer's token must name its conversation.")
        except Refused as refused:
            self.send(encode_error(hello.id, refused))
            codes = {"unauthenticated": Close.UNAUTHENTICATED, "not_permitted": Close.NOT_PERMITTED}
            if refused.code in codes:
                self.close(codes[refused.code], refused.message)
            else:
                self.close(Close.STORE_AWAY, refused.message)
            return
        if (over := self._too_many_of(person)) is not None:
            whose = "organization" if "_org" in over.limit else "user"
            self.send(encode_error(hello.id, over.refused(f"Too many connections of this {whose}.")))
            self.close(Close.TOO_MANY, f"too many connections of this {whose}")
            return
        self.person, self._limits = sparing(person), None
        try:
            await self._greet(hello)
        except Exception as error:
            # Nobody is left on a socket that is half open: without its monitors, its views, or even its person.
            why = error if isinstance(error, Refused) else store_unavailable("none")
            if why is not error:
                log.exception("hello failed")
            if not self.ready:
                self.send(encode_error(hello.id, why))
            self.close(Close.STORE_AWAY, why.message)

    def _too_many_of(self, person: Person) -> Over | None:
        """What forbids this person, or their organization, one more socket on this node."""
        quotas, org = self.parts.quotas, self.node.orgs.get(person.org)
        if len(self.node.by_user.get((person.org, person.user_id), ())) >= self.settings.sockets_per_user:
            return quotas.over("sockets_per_user", 1_000)
        if org is not None and 0 < quotas.most("sockets_per_org") <= org.sockets:
            return quotas.over("sockets_per_org", 1_000)
        limits = [
            ("handshakes_per_user_per_s", (person.org, person.role, person.user_id)),
            ("handshakes_per_org_per_s", person.org),
        ]
        return quotas.first_over(limits, self.loop.time())

    async def _greet(self, hello: c.Hello) -> None:
        if not await self.node.enter(self):
            return
        self._entered = True
        resumed = await self._attach(hello.resume)
        status = await self.node.people.arrive(self.person) if self.present else None
        if self.closed:
            await self._end()  # what was done for its end came before some of this
            return
        answer: dict[str, object] = {
            "session": self.session_id,
            "secret": self._secret,
            "resumed": resumed is not None,
            "user": {"id": self.person.user_id, "name": self.person.name},
            "permissions": sorted(self.person.permissions),
            "heartbeat_ms": self.settings.heartbeat_ms,
            **self.paces(),
            "server_time": self.node.now_ms(),
        }
        if status is not None:
            answer["status"] = status
        self._unproven = resumed is not None
        self.ok(hello.id, answer)
        self._secret = ""  # the store has its hash
        self.ready = True
        if self._unproven:
            self.ping()  # its pong says that they have the secret
        cursors = hello.resume.cursors if hello.resume is not None and resumed is not None else {}
        await self.opened(resumed, cursors)

    def paces(self) -> dict[str, object]:
        """For subclasses: how often what else happens on such a socket, for hello's answer."""
        return {}

    async def _attach(self, resume: c.Resume | None) -> tuple[bytes, bytes] | None:
        """Take over the old session (its views and monitors), or make a new one (None)."""
        person, store = self.person, self.parts.store
        self._secret, self.nonce = new_secret(), new_id("nce", 0)
        user = f"{person.org}/{person.role}/{person.user_id}"
        if resume is not None:
            attachment = {
                "secret": secret_hash(resume.secret),
                "user": user,
                "new_secret": secret_hash(self._secret),
                "nonce": self.nonce,
                "node": self.node.node_id,
            }
            old = await store.resume_session(resume.session, ttl_ms=SESSION_TTL_MS, **attachment)
            for _ in range(UNPROVEN_TRIES):
                if not isinstance(old, Unproven) or self.closed:
                    break
                await asyncio.sleep(UNPROVEN_PAUSE_S)  # that socket is heard, or known to have closed, in a moment
                old = await store.resume_session(resume.session, ttl_ms=SESSION_TTL_MS, **attachment)
            if old is not None and not isinstance(old, Unproven):
                self.session_id = resume.session
                node, nonce, views, monitors = old
                message = orjson.dumps({"session": resume.session, "nonce": nonce})
                if node == self.node.node_id:
                    self.node.told(message)
                else:
                    await store.tell_node(node, message)
                return views, monitors
        self.session_id = new_id("ses", partition(person.org, person.user_id))
        fields = {
            "secret": secret_hash(self._secret),
            "user": user,
            "node": self.node.node_id,
            "nonce": self.nonce,
        }
        await store.open_session(self.session_id, {k: v.encode() for k, v in fields.items()}, SESSION_TTL_MS)
        return None

    async def opened(self, resumed: tuple[bytes, bytes] | None, cursors: dict[str, str]) -> None:
        """Hello was answered: bring what belongs on this screen. `resumed`: stored views and monitors."""

    # -- time --------------------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        was_quiet = bool(self.monitors) and self.quiet
        self.last_heard = self.loop.time()
        if was_quiet:
            self.heard_again()

    def heard_again(self) -> None:
        """It was silent for too long, and isn't any more."""

    @property
    def quiet(self) -> bool:
        """Silent for too long to be given conversation data: only where there is a monitor."""
        if not self.monitors:
            return False
        return (self.loop.time() - self.last_heard) * 1000 > self.settings.monitor_silence_ms

    def lease_ends(self, conversation_id: str) -> float:
        """Loop time up to which the monitor's lease is certain; a primary that isn't the one any more may say anything."""
        ref = self.monitors.get(conversation_id)
        return 0.0 if ref is None or not self.node.store.primaries.vouched else ref.certain_until

    def on_timer(self, now: float) -> None:
        """Half a second has passed; for most of thousands of sockets nothing can be due."""
        if self.closed:
            return
        if now >= self._due or self.monitors:
            self._look(now)
        elif self.person.expires_at:
            self._look_at_token()

    def _look(self, now: float) -> None:
        settings = self.settings
        if not self._greeted:
            if (now - self._opened) * 1000 > settings.hello_timeout_ms:
                self.close(Close.NO_HELLO, "no hello in time")
            return
        if (now - self.last_heard) * 1000 > settings.heartbeat_ms + settings.silence_grace_ms:
            self.socket.abort()
            return
        if self._closing is not None or not self.ready:
            return
        every_ms = settings.monitor_ping_ms if self.monitors else settings.heartbeat_ms
        if (now - self._pinged + 0.5) * 1000 >= every_ms:
            self.ping()
        self._look_at_token()
        if now - self._touched > SESSION_TOUCH_S:
            self._touched = now
            self.node.spawn(self.save())
        dead_at = self.last_heard + (settings.heartbeat_ms + settings.silence_grace_ms) / 1000
        self._due = min(dead_at, self._pinged + settings.heartbeat_ms / 1000 - 0.5, self._touched + SESSION_TOUCH_S)

    def _look_at_token(self) -> None:
        """By the wall clock, which may be set: each time."""
        if self.person.expires_at and self.node.now_ms() >= self.person.expires_at:
            self.close(Close.UNAUTHENTICATED, "the token has expired")

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        self._pinged = self.loop.time()
        self.send(self.node.ping_frame())

    async def save(self, **fields: bytes) -> None:
        """Keep the session in the store, with changed fields; where it is away, as soon as it is back."""
        self._unsaved.update(fields)
        if self.closed or not self.session_id:
            return
        saving = dict(self._unsaved)
        try:
            await self.parts.store.write_session(self.session_id, self.nonce, SESSION_TTL_MS, **saving)
        except Refused as refused:
            log.warning("a session isn't saved: %s", refused.code)
            self._touched = self._due = float("-inf")  # at the next timer
            return
        for name, value in saving.items():
            if self._unsaved.get(name) is value:
                del self._unsaved[name]

    # -- the end -----------------------------------------------------------------------------------------------------

    def on_close(self, code: int) -> None:
        """The socket has gone; `code` is the peer's (1006 where there was none)."""
        if self.closed:
            return
        self.closed = True
        self.out = None
        self.on_purpose = code == 1000 and self._closing is None
        self.node.sessions.discard(self)
        self.forget()
        if self._entered:
            self.node.spawn(self._end())

    def forget(self) -> None:
        """Give up everything that this node does for the session."""

    async def _end(self) -> None:
        try:
            await self.ended(self.on_purpose)
            if self.session_id:
                ttl_ms = 0 if self.on_purpose else self.settings.resume_ms
                if self._unproven:
                    self._unsaved["attached"] = b""
                await self.parts.store.write_session(self.session_id, self.nonce, ttl_ms, **self._unsaved)
        finally:
            await self._depart()

    async def ended(self, on_purpose: bool) -> None:
        """The session is over (`on_purpose`), or waits to be resumed."""

    async def _depart(self) -> None:
        self._entered = False
        if self.node.leave(self) and self.present:
            await self.node.people.depart(self.person.org, self.person.user_id)

    # -- what the node tells; only people who answer or supervise care ---------------------------------------------------

    def joined(self, conversation_id: str, one: Participation) -> None:
        """The person is a participant now."""

    def noticed(self, conversation_id: str, takeover_id: str) -> None:
        """The person was taken over."""

    def wrapup_requested(self, conversation_id: str, wrapup: Wrapup) -> None:
        """The person owes a wrap-up."""

    def wrapup_ended(self, conversation_id: str, wrapup: WrapupEnd) -> None:
        """A wrap-up of the person's is over."""

    def monitor_over(self, conversation_id: str, monitor_id: str, ended: MonitorEnd | None) -> None:
        """A monitor of this session is over."""

    def out_of_sight(self, conversation_id: str) -> None:
        """A monitored conversation has gone where this session's rights don't reach."""

    def view_changed(self, view: View, told: Told) -> None:
        """A view has changed."""

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """The conversation's log is another one."""

    def watch_idle(self, watch: Watch) -> None:
        """A watch has lost its last right."""

    def sender_changed(self, item: Item) -> None:
        """A customer's: somebody else answers, and the channel shows names."""


@lru_cache(maxsize=256)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """One set for all that are equal: thousands of people have the same rights."""
    return frozenset(map(sys.intern, names))


def sparing(person: Person) -> Person:
    """The same person, whose texts and sets are shared with those who have the same."""
    return replace(
        person,
        user_id=sys.intern(person.user_id),
        name=sys.intern(person.name),
        org=sys.intern(person.org),
        role=sys.intern(person.role),
        permissions=_shared(person.permissions),
        queues=_shared(person.queues),
        divisions=_shared(person.divisions),
    )


_NOBODY = Person("", "", "", "", frozenset(), frozenset(), frozenset())
