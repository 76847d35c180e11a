"""One client socket that records every frame, checks each against the contract, and waits for what a test expects."""

import asyncio
import contextlib
import json
import socket as sockets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from tests.support.judge.records import Frame, Record

Json = dict[str, Any]
PATIENCE_S = 5.0
ERROR_FIELDS = {"code", "message", "retryable", "details"}

# Protocol, section 1: the events of a transcript have a cursor, no other one does.
WITH_CURSOR = {
    "message.created",
    "message.updated",
    "message.receipt",
    "panel.updated",
    "participant.connected",
    "participant.disconnected",
    "conversation.transferred",
    "conversation.ended",
    "takeover.completed",
}
WITHOUT_CURSOR = {
    "typing",
    "monitor.started",
    "monitor.ended",
    "conversation.snapshot",
    "takeover.notified",
    "wrapup.requested",
    "wrapup.completed",
    "wrapup.timed_out",
    "view.snapshot",
    "view.changed",
    "sender.changed",
    "ping",
    "closing",
}
ABOUT_NO_CONVERSATION = {"view.snapshot", "view.changed", "ping", "closing"}


class HubError(Exception):
    """A command was refused; the fields are those of the error."""

    def __init__(self, error: Json) -> None:
        super().__init__(json.dumps(error))
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.retryable: bool = error["retryable"]
        self.details: Json = error["details"]


def offset(cursor: str) -> int:
    """The offset in a cursor: what follows the last `-`."""
    return int(cursor.rpartition("-")[2])


def snapshot_of(event: Json) -> Json | None:
    """The snapshot an event brings: inside `monitor.started` and `stream.reset`, itself in `conversation.snapshot`."""
    data = event.get("data", {})
    if event["event"] == "conversation.snapshot":
        return dict(data.get("snapshot", data))
    return data.get("snapshot") if event["event"] in {"monitor.started", "stream.reset"} else None


class Socket:
    """
    A client of one endpoint.

    `frames` are the raw text frames, `lines` the objects in them as text, `events` and `answers` the same parsed. Lines
    that break the contract are noted in `violations`; the fixtures fail a test that has any. `written` has every object
    that was got or sent, with its time, for the judge. Pings are answered unless `answers_pings` is off.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.frames: list[str] = []
        self.lines: list[str] = []
        self.events: list[Json] = []
        self.answers: dict[int, Json] = {}
        self.violations: list[str] = []
        self.written: list[Frame] = []
        self.cursors: dict[str, str] = {}
        self.session: Json = {}
        self.answers_pings = True
        self.close_code: int | None = None
        self.closed_at: float | None = None
        self._taken: set[int] = set()
        self._last_id = 0
        self._greeting = 0  # the hello's id
        self._news = asyncio.Event()
        self._line: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        base: str,
        endpoint: str,
        *,
        origin: str | None = None,
        subprotocols: tuple[str, ...] | None = ("hub.v1",),
        receive_buffer: int | None = None,
        local: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> "Socket":
        """
        Connect without saying hello.

        `receive_buffer` (bytes) bounds what the kernel takes in for a client that doesn't read; `local` is the address of
        the loopback to come from; `headers` are sent with the request.

        Raises:
            websockets.exceptions.InvalidStatus: The hub answered with another status than 101.
        """
        self = cls(endpoint)
        offered = [Subprotocol(name) for name in subprotocols] if subprotocols else None
        extra: Json = {}
        if receive_buffer:
            extra["sock"] = await asyncio.to_thread(_small_socket, base, receive_buffer)
        if local:
            extra["local_addr"] = (local, 0)
        if headers:
            extra["additional_headers"] = headers
        self._line = await connect(
            base + endpoint,
            origin=Origin(origin) if origin else None,
            subprotocols=offered,
            compression=None,
            proxy=None,
            ping_interval=None,
            max_size=1 << 20,
            max_queue=None,
            close_timeout=2,
            **extra,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    @property
    def line(self) -> ClientConnection:
        """The connection itself, for what only bytes can say."""
        assert self._line is not None
        return self._line

    async def _read(self) -> None:
        try:
            async for frame in self.line:
                if not isinstance(frame, str):
                    self.violations.append(f"binary frame {frame!r}")
                    continue
                self.frames.append(frame)
                for line in frame.split("\n"):
                    await self._take(line)
                self._tell()
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self.line.close_code or 1006
            self.closed_at = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _take(self, line: str) -> None:
        try:
            thing = json.loads(line)
            assert isinstance(thing, dict), "not an object"
        except (ValueError, AssertionError) as error:
            self.violations.append(f"{error}: {line[:200]!r}")
            return
        self.lines.append(line)
        self.written.append(Frame(time.monotonic(), False, thing))
        if "event" in thing:
            self._check_event(thing)
            self.events.append(thing)
            if thing["event"] == "ping" and self.answers_pings:
                with contextlib.suppress(ConnectionClosed):
                    await self.send({"cmd": "pong"})
        else:
            self._check_answer(thing)
            if thing.get("id") == self._greeting and not thing.get("ok", {}).get("resumed"):
                self.cursors.clear()  # a new session: the old one's positions are void
            self.answers[thing.get("id", 0)] = thing

    def _check_answer(self, thing: Json) -> None:
        if set(thing) not in ({"id", "ok"}, {"id", "error"}):
            self.violations.append(f"an answer has id and ok or error: {thing}")
        error = thing.get("error")
        if error is not None and (
            set(error) != ERROR_FIELDS or not error["message"] or not isinstance(error["details"], dict)
        ):
            self.violations.append(f"an error has code, message, retryable and details: {error}")

    def _check_event(self, event: Json) -> None:
        name, conversation = event["event"], event.get("conversation_id")
        if name != "ping" and not isinstance(event.get("data"), dict):
            self.violations.append(f"an event has data: {event}")
            return
        if name not in ABOUT_NO_CONVERSATION and not isinstance(conversation, str):
            self.violations.append(f"an event about a conversation names it: {event}")
            return
        if conversation is not None and not isinstance(event.get("at"), int):
            self.violations.append(f"an event says when: {event}")
        if self.endpoint != "/v1/connector" and isinstance(conversation, str):
            self._check_cursor(name, conversation, event)

    def _check_cursor(self, name: str, conversation: str, event: Json) -> None:
        """Snapshots set the position; each transcript event is the next one, so that none is lost, none comes twice."""
        cursor = event.get("cursor")
        snapshot = snapshot_of(event)
        if name in WITH_CURSOR and not isinstance(cursor, str):
            self.violations.append(f"a transcript event has a cursor: {event}")
        if name in WITHOUT_CURSOR and cursor is not None:
            self.violations.append(f"{name} has no cursor: {event}")
        if snapshot is not None:
            self.cursors[conversation] = snapshot["cursor"]
        if isinstance(cursor, str) and name in WITH_CURSOR:
            before = self.cursors.get(conversation)
            if before is None:
                self.violations.append(f"a transcript event before any snapshot: {event}")
            elif offset(cursor) != offset(before) + 1:
                self.violations.append(f"cursor {cursor} after {before}: {event}")
            self.cursors[conversation] = cursor

    async def send(self, thing: Json | str | bytes) -> None:
        """Send an object, or a frame exactly as given."""
        self.written += _objects_in(thing)
        await self.line.send(json.dumps(thing) if isinstance(thing, dict) else thing)

    def record(self, name: str) -> Record:
        """All that was got and sent so far, for the judge."""
        return Record(name, self.endpoint, tuple(self.written), self.close_code, self.closed_at)

    def next_id(self) -> int:
        """An id that this socket has not used."""
        self._last_id += 1
        return self._last_id

    async def post(self, cmd: str, /, **arguments: Any) -> int:
        """Send a command and don't wait; its id."""
        number = self.next_id()
        await self.send({"id": number, "cmd": cmd, **arguments})
        return number

    async def answer(self, number: int, timeout: float = PATIENCE_S) -> Json:
        """The whole answer to the command with that id."""
        await self.until(lambda: number in self.answers, timeout, f"an answer to {number}")
        return self.answers[number]

    async def command(self, cmd: str, /, *, patience: float = PATIENCE_S, **arguments: Any) -> Json:
        """
        Carry out a command; its `ok`.

        Raises:
            HubError: It was refused.
        """
        answer = await self.answer(await self.post(cmd, **arguments), patience)
        if "error" in answer:
            raise HubError(answer["error"])
        return dict(answer["ok"])

    async def refused(self, code: str, cmd: str, /, **arguments: Any) -> HubError:
        """Send a command that must be refused with `code`; the refusal."""
        try:
            ok = await self.command(cmd, **arguments)
        except HubError as error:
            if error.code == code:
                return error
            raise AssertionError(f"{cmd} was refused with {error}, wanted {code}") from None
        raise AssertionError(f"{cmd} was carried out ({ok}), wanted {code}")

    async def hello(self, token: str, resume: Json | None = None) -> Json:
        """Say hello; its `ok`, which is kept as `session`."""
        arguments: Json = {"token": token} | ({"resume": resume} if resume else {})
        self.cursors |= (resume or {}).get("cursors", {})
        self._greeting = self._last_id + 1
        self.session = await self.command("hello", **arguments)
        return self.session

    def resumption(self, **changed: Any) -> Json:
        """What a client sends as `resume` after losing this socket."""
        known = {"session": self.session["session"], "secret": self.session["secret"], "cursors": dict(self.cursors)}
        return known | changed

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_S, wanted: str = "that") -> None:
        """
        Wait until a condition holds; it is looked at again after each frame.

        Raises:
            AssertionError: It didn't in time, or the socket closed first.
        """
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    assert self.close_code is None, (
                        f"closed with {self.close_code} while waiting for {wanted}{self._told()}"
                    )
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {wanted} in {timeout} s{self._told()}") from None

    def _told(self) -> str:
        return f"; {self.endpoint} got:\n" + "\n".join(line[:600] for line in self.lines[-12:])

    def _find(self, name: str, conversation: str | None, where: Callable[[Json], bool], fields: Json) -> int | None:
        for index, event in enumerate(self.events):
            if index in self._taken or event["event"] != name:
                continue
            if conversation is not None and event.get("conversation_id") != conversation:
                continue
            data = event.get("data", {})
            if all(data.get(key, self) == value for key, value in fields.items()) and where(event):
                return index
        return None

    async def expect(
        self,
        name: str,
        conversation: str | None = None,
        *,
        where: Callable[[Json], bool] = lambda event: True,
        timeout: float = PATIENCE_S,
        **fields: Any,
    ) -> Json:
        """
        The first event of that name, conversation and fields of `data` that no `expect` has returned yet.

        Raises:
            AssertionError: It didn't come in time; says what came instead.
        """
        wanted = f"{name} of {conversation} with {fields}"
        await self.until(lambda: self._find(name, conversation, where, fields) is not None, timeout, wanted)
        found = self._find(name, conversation, where, fields)
        assert found is not None
        self._taken.add(found)
        return self.events[found]

    def of(self, conversation: str, *names: str) -> list[Json]:
        """Every event so far about a conversation, of those names or of any."""
        about = [event for event in self.events if event.get("conversation_id") == conversation]
        return [event for event in about if not names or event["event"] in names]

    def names(self, conversation: str) -> list[str]:
        """Names of every event so far about a conversation, in order."""
        return [event["event"] for event in self.of(conversation)]

    def index(self, event: Json) -> int:
        """Where an event stands among all that this socket got."""
        return next(place for place, known in enumerate(self.events) if known is event)

    async def round_trip(self) -> None:
        """Two answered commands: whatever the hub had queued for this socket before has arrived afterwards."""
        for _ in range(2):
            await self.answer(await self.post("typing", conversation_id="nowhere", on=True))

    async def closed(self, timeout: float = PATIENCE_S) -> int:
        """
        The close code, when the hub has closed the socket.

        Raises:
            AssertionError: It is still open; or a close of ours came without a `closing` that says why.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.close_code is None:
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"still open after {timeout} s{self._told()}") from None
        if 4400 <= self.close_code < 4600:
            last: Json = self.events[-1] if self.events else {"event": None}
            assert last["event"] == "closing", f"closed with {self.close_code} without saying why{self._told()}"
            assert last["data"]["code"] == self.close_code, last
            assert last["data"]["reason"], last
        return self.close_code

    async def close(self, code: int = 1000) -> None:
        """Close as a client does; returns when both sides have."""
        await self.line.close(code)
        if self._reader is not None:
            await self._reader

    async def drop(self) -> None:
        """Lose the connection without a word, as a phone in a tunnel does."""
        self.line.transport.abort()
        if self._reader is not None:
            await self._reader


def _objects_in(frame: Json | str | bytes) -> list[Frame]:
    """The objects that a client's frame holds; what can't be read is none."""
    if isinstance(frame, bytes):
        return []
    found: list[Any] = [frame] if isinstance(frame, dict) else []
    for line in frame.split("\n") if isinstance(frame, str) else ():
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [Frame(time.monotonic(), True, one) for one in found if isinstance(one, dict)]


def _small_socket(base: str, receive_buffer: int) -> sockets.socket:
    host, _, port = base.removeprefix("ws://").partition(":")
    line = sockets.socket()
    line.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, receive_buffer)
    line.connect((host, int(port)))
    line.setblocking(False)
    return line


async def eventually(
    question: Callable[[], Awaitable[bool]], timeout: float = PATIENCE_S, wanted: str = "that", pause: float = 0.02
) -> None:
    """
    Ask again and again until the answer is yes, with a pause (seconds) that leaves the hub air to breathe.

    Raises:
        AssertionError: It wasn't in time.
    """
    ends = asyncio.get_running_loop().time() + timeout
    while not await question():
        assert asyncio.get_running_loop().time() < ends, f"not {wanted} in {timeout} s"
        await asyncio.sleep(pause)
