"""
A person's seat at the hub: it outlives its sockets, and knows if anything is missing.

A load test's sockets are plain lines; this keeps what a resume needs (session, secret, the last cursor of each
conversation) and counts on the way what must never happen: offsets that were skipped or came twice.
"""

import asyncio
import time
from typing import Any, Final

from clients.load.credentials import Person
from clients.load.line import Line, OnEvent, open_line
from clients.session import SNAPSHOTS, Hello
from clients.wire import ClientError, ConnectionEnded, HubError, offset_of

COMMAND_S: Final = 30.0
RESUME_S: Final = 15.0  # the hub forgets the session after it
AGAIN_S: Final = 0.1  # between two attempts to come back


class Seat:
    """
    One person at one endpoint. `on_event` gets each event once, with when its frame arrived (monotonic ns).

    `gaps`, `repeats` and `resets` count transcript positions: skipped without a word, seen before, given up by the
    hub (`stream.reset`). `closed` is True where the hub ended the line and nobody here had asked for it.
    """

    def __init__(
        self, url: str, endpoint: str, person: Person, on_event: OnEvent | None = None, *, receive_buffer: int = 0
    ) -> None:
        self.on_event = on_event
        self.gaps = self.repeats = self.resets = 0
        self.closed = False
        self._url, self._endpoint, self._person = url, endpoint, person
        self._receive_buffer = receive_buffer
        self._line: Line | None = None
        self._hello: Hello | None = None
        self._positions: dict[str, tuple[str, int]] = {}  # conversation: its last cursor and the offset in it
        self._up = asyncio.Event()
        self._turn = asyncio.Lock()
        self._frames = self._bytes = 0  # of earlier lines

    async def open(self) -> "Seat":
        """Connect and say hello. Raises `ClientError` or `OSError`."""
        await self._connect(None)
        return self

    @property
    def line(self) -> Line:
        """The socket of the moment."""
        assert self._line is not None, "not opened"
        return self._line

    @property
    def connected(self) -> bool:
        """True while there is a line that has said hello."""
        return self._up.is_set() and self.line.connected

    @property
    def frames(self) -> int:
        """Frames over all lines."""
        return self._frames + self.line.frames

    @property
    def bytes(self) -> int:
        """Bytes of these."""
        return self._bytes + self.line.bytes

    async def ask(self, cmd: str, **arguments: Any) -> dict[str, Any]:
        """
        A command's `ok`. Where the line is dropped meanwhile the command is sent again on the next one, so what changes
        something carries a `req` or a `client_message_id`.

        Raises:
            HubError: It was refused.
            ConnectionEnded: The line ended, and not by `come_back`.
            TimeoutError: No answer in 30 s.
        """
        async with asyncio.timeout(COMMAND_S):
            while True:
                await self._up.wait()
                if self.closed:
                    raise ConnectionEnded(1006, "the hub ended it")
                try:
                    return await self.line.tell(cmd, **arguments)
                except ConnectionEnded:
                    if self._up.is_set():
                        raise

    async def come_back(self) -> bool:
        """
        Drop the line and resume the session on a new one; True where the hub gave it back.

        It tries for 15 s, after which there is nothing to be given back. Calls take turns.
        """
        async with self._turn:
            if not self.connected or self._hello is None:
                return False
            self._leave()
            hello = self._hello
            resume = {"session": hello.session, "secret": hello.secret}
            until = time.monotonic() + RESUME_S
            while time.monotonic() < until:
                cursors = {name: cursor for name, (cursor, _) in self._positions.items()}
                try:
                    await self._connect({**resume, "cursors": cursors})
                except HubError as refusal:
                    if not refusal.retryable:
                        break
                except (ClientError, OSError):
                    pass  # the hub is busy or away: that is what the 15 s are for
                else:
                    return self._hello.resumed
                await asyncio.sleep(AGAIN_S)
            self.closed = True
            self._up.set()  # nobody need wait for it
            return False

    def close(self) -> None:
        """Leave with 1000, which ends the session."""
        self._up.clear()
        if self._line is not None:
            self._line.close()

    async def _connect(self, resume: dict[str, Any] | None) -> None:
        line = await open_line(
            self._url,
            self._endpoint,
            self._person.token,
            self._take,
            receive_buffer=self._receive_buffer,
            resume=resume,
        )
        if self._line is not None:
            self._frames, self._bytes = self.frames, self.bytes
        self._line, self._hello = line, line.hello
        self._up.set()
        line.closed.add_done_callback(lambda _: self._ended(line))

    def _leave(self) -> None:
        self._up.clear()
        self.line.drop()

    def _ended(self, line: Line) -> None:
        if line is self._line and self._up.is_set():
            self.closed = True

    # Positions

    def _take(self, event: dict[str, Any], now_ns: int) -> None:
        conversation = event.get("conversation_id")
        if conversation is not None and not self._is_new(conversation, event):
            return
        if self.on_event is not None:
            self.on_event(event, now_ns)

    def _is_new(self, conversation: str, event: dict[str, Any]) -> bool:
        cursor, kind = event.get("cursor"), event["event"]
        if cursor is not None:
            return self._moved(conversation, cursor)
        if kind in SNAPSHOTS:
            self.resets += kind == "stream.reset"
            self._start(conversation, event["data"])
        elif kind == "monitor.ended" and event["data"]["reason"] != "taken_over":
            self._positions.pop(conversation, None)
        return True

    def _start(self, conversation: str, data: dict[str, Any]) -> None:
        cursor = (data.get("snapshot") or data).get("cursor")
        offset = offset_of(cursor) if cursor else None
        if cursor and offset is not None:
            self._positions[conversation] = cursor, offset

    def _moved(self, conversation: str, cursor: str) -> bool:
        offset, before = offset_of(cursor), self._positions.get(conversation)
        if offset is None:
            return True
        if before is not None and offset <= before[1]:
            self.repeats += 1
            return False
        if before is not None and offset > before[1] + 1:
            self.gaps += 1
        self._positions[conversation] = cursor, offset
        return True
