"""
A socket for load tests: one asyncio protocol per connection, no task, frames handled where they arrive.

The SDK's sockets cost a task and several wake-ups a frame, which a load generator would measure as the hub's. This one
speaks just what a test needs: the handshake, unfragmented text frames, ping and close. Frames go out masked with a key
of zeros, which RFC 6455 allows and which spares the load generator the masking.
"""

import asyncio
import base64
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import orjson

from clients.session import Hello
from clients.wire import SUBPROTOCOL, ConnectionEnded, HubError, endpoint_url

OnEvent = Callable[[dict[str, Any], int], None]  # the event, and when its frame arrived (monotonic ns)
OnFrame = Callable[[bytes, int], bool]  # a whole frame; True: dealt with, don't decode it
OPEN_S: Final = 20.0
_TEXT: Final = 0x81
_PONG: Final = 0x8A
_CLOSE: Final = 0x88


def text_frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A masked frame of a client (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", opcode, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", opcode, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


class Line(asyncio.Protocol):
    """One connection. `on_event` gets every event but pings (answered here); `on_frame` may take raw frames."""

    def __init__(self, host: str, path: str, on_event: OnEvent | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.on_event = on_event
        self.on_frame: OnFrame | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.frames = self.bytes = 0
        self.hello: Hello | None = None
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        ).encode()
        self._buffer = bytearray()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._why = "the line broke"
        self._bytes_per_s = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Cut frames out of what arrived."""
        now_ns = time.monotonic_ns()
        self._buffer += data
        if self._bytes_per_s:
            self.pause()
            asyncio.get_running_loop().call_later(len(data) / self._bytes_per_s, self._read_on)
        if not self.opened.done() and not self._shake():
            return
        while (frame := self._cut()) is not None:
            opcode, payload = frame
            if opcode == 1:
                self._take(payload, now_ns)
            elif opcode == 9:
                self._write(text_frame(payload, _PONG))
            elif opcode == 8:
                self._why = f"closed with {int.from_bytes(payload[:2], 'big')}"
                self._write(text_frame(payload[:2], _CLOSE))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        error = ConnectionEnded(1006, self._why)
        waiters: list[asyncio.Future[Any]] = [self.opened, *self._answers.values()]
        for waiting in waiters:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()
        if not self.closed.done():
            self.closed.set_result(None)

    # Commands

    def tell(self, cmd: str, **arguments: Any) -> "asyncio.Future[dict[str, Any]]":
        """Send a command now; the future is its `ok` or raises `HubError`, or `ConnectionEnded` where the line ends first."""
        self._next_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if not self.connected:
            answer.set_exception(ConnectionEnded(1006, self._why))
            answer.exception()  # who doesn't ask for it isn't told
            return answer
        self._answers[self._next_id] = answer
        self._write(text_frame(orjson.dumps({"id": self._next_id, "cmd": cmd, **arguments})))
        return answer

    @property
    def connected(self) -> bool:
        """True until the line ends, from either side."""
        return self._transport is not None and not self._transport.is_closing()

    def pause(self) -> None:
        """Read nothing from now on, as a frozen browser does."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again, as fast as it comes."""
        self._bytes_per_s = 0.0
        self._read_on()

    def slow_down(self, bytes_per_s: float) -> None:
        """Read no more than this from now on; 0: nothing at all."""
        self._bytes_per_s = bytes_per_s
        if bytes_per_s:
            self._read_on()
        elif self.connected:
            self.pause()

    def drop(self) -> None:
        """Break the line as a lost network does: no close frame, and nothing more is read."""
        self.on_event = self.on_frame = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Leave with 1000, which ends the session."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(text_frame(struct.pack("!H", 1000), _CLOSE))
            self._transport.close()

    # Frames

    def _shake(self) -> bool:
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return False
        status = head.split(b" ", 2)[1]
        if status != b"101":
            self._why = f"handshake refused: HTTP {status.decode()}"
            assert self._transport is not None
            self._transport.abort()
            return False
        self._buffer = bytearray(rest)
        self.opened.set_result(None)
        return True

    def _cut(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
        del buffer[: start + size]
        return opcode, payload

    def _take(self, payload: bytes, now_ns: int) -> None:
        self.frames += 1
        self.bytes += len(payload)
        if self.on_frame is not None and self.on_frame(payload, now_ns):
            return
        for part in payload.split(b"\n"):
            if part:
                self._take_object(orjson.loads(part), now_ns)

    def _take_object(self, taken: dict[str, Any], now_ns: int) -> None:
        event = taken.get("event")
        if event == "ping":
            self._write(text_frame(b'{"cmd":"pong"}'))
        elif event == "closing":
            self._why = str(taken.get("data"))
        elif event is not None:
            if self.on_event is not None:
                self.on_event(taken, now_ns)
        else:
            self._answer(taken)

    def _answer(self, taken: dict[str, Any]) -> None:
        waiting = self._answers.pop(taken.get("id") or 0, None)
        if waiting is None or waiting.done():
            return
        if (error := taken.get("error")) is not None:
            waiting.set_exception(HubError(error["code"], error["message"], error["retryable"], error.get("details")))
        else:
            waiting.set_result(taken["ok"])

    def _read_on(self) -> None:
        if self._transport is not None and self.connected:
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def open_line(
    url: str,
    endpoint: str,
    token: str,
    on_event: OnEvent | None = None,
    *,
    receive_buffer: int = 0,
    resume: dict[str, Any] | None = None,
) -> Line:
    """
    A connected socket that has said hello. `receive_buffer` (bytes; 0: the system's) bounds what the kernel takes in unread;
    `resume` is hello's.

    Raises:
        HubError: hello was refused.
        ConnectionEnded: The handshake was, or the line broke.
        OSError: There was no connection (`TimeoutError`: not in time).
    """
    parts = urlsplit(endpoint_url(url, endpoint))
    tls = ssl.create_default_context() if parts.scheme == "wss" else None
    host, port = parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(OPEN_S):
        plain = await _connected(host, port, receive_buffer)
        _, line = await loop.create_connection(
            lambda: Line(parts.netloc, parts.path, on_event), sock=plain, ssl=tls, server_hostname=host if tls else None
        )
        try:
            await line.opened
            hello = {"token": token, **({"resume": resume} if resume else {})}
            line.hello = msgspec.convert(await line.tell("hello", **hello), Hello)
        except BaseException:
            line.drop()
            raise
    return line


async def _connected(host: str, port: int, receive_buffer: int) -> socket.socket:
    """A TCP connection to the first of the host's addresses that takes one."""
    loop = asyncio.get_running_loop()
    failed: OSError = OSError(f"{host} has no address")
    for family, _, _, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.setblocking(False)
        if receive_buffer:  # before connecting, or it is too late
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await loop.sock_connect(plain, address)
        except OSError as error:
            failed = error
            plain.close()
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise failed
