"""
The lean driver: a socket is a listener, not a coroutine.

The plain driver costs each idle socket a task with its stack, a queue, an event, uvicorn's protocol object and a whole frame
parser. Here uvicorn still reads the request; then one small object stands between the transport and the session:

    HttpFront ──upgrade──► LeanSocket: WAITING ──handshake──► OPEN ──close──► CLOSING ──► ENDED
    (uvicorn's, ends here)                          │
                                                    ├─ a whole masked text frame: cut out here, in a few lines
                                                    └─ all else, in whole frames: websockets' ServerProtocol, made for the
                                                       moment and dropped when the message is complete

Nearly every frame of a browser is one whole text frame in one read. Fragments, pings, closes, binary, and whatever breaks
the rules go to the library, which knows the RFC better. It is given whole frames only, so it never waits in the middle of
one, and dropping it loses nothing; only what will be refused by its header goes in as soon as that is there.

What must hold here, since nothing surrounds a message but us:

- an exception of the session's is logged and closes with 1011; none reaches the event loop;
- nothing is written after a close frame: `write` and the parser look at the state first;
- no extension is ever negotiated, or frames would mean something else than what is read here;
- at the end our side is only shut down for writing, and the peer's bytes are thrown away: closing with unread input would
  reset the connection, and a reset can swallow our close frame;
- with a closed socket no timer, set or cycle keeps it: whatever ends, ends in `connection_lost`.

The rules of the handshake (RFC 6455, section 4.2.1) are checked here for requests as browsers send them. Any other request
is read again by the library, so that what is wrong with it is found and said by the same code as with the plain driver.

This file alone touches what uvicorn doesn't promise: how it makes and feeds the object of `ws=`, `handle_websocket_upgrade`
and `parser` of its HTTP protocol and when it tells of a head, a message and an answer that are complete, `connections` and
`default_headers` of its server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN as CORE_OPEN
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from hub.edge.arrivals import Arrivals
from hub.edge.proxies import read_proxy_header
from hub.edge.socket import (
    NO_CODE,
    SESSION_FAILED,
    SUBPROTOCOL,
    Denied,
    Door,
    Listener,
    peers_code,
    short_reason,
    tell_close,
)
from hub.edge.turn import Packet

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of websockets without its C part
    from websockets.utils import apply_mask

log = logging.getLogger(__name__)

LINGER_S: Final = 2.0  # what the peer has to take our last bytes and close its side
PLAIN_REQUEST_BYTES_MAX: Final = 8_192  # longer ones are the library's to judge: it has limits of its own

WAITING, OPEN, CLOSING, ENDED = range(4)
_WHOLE_TEXT, _PONG = 0x81, 0x8A  # FIN and opcode, no reserved bit
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes
_ONCE = frozenset((b"connection", b"origin", b"sec-websocket-key", b"sec-websocket-version", b"upgrade"))


class HttpFront(HttpToolsProtocol):
    """
    uvicorn's HTTP protocol; it hands on what came in one segment with an upgrade request, which uvicorn forgets.

    A client ought to wait for the answer (RFC 6455, section 4.1), but where one doesn't, its hello isn't lost.

    Whoever doesn't ask, or not to the end, is let go in time (`Arrivals`); uvicorn would wait for ever.
    """

    _segment = b""
    _head_bytes = 0  # of the head that is being read
    _in_message = False  # the head is there, the body not yet
    _introduction: bytes | None = None  # a PROXY header, as far as it has come

    def __init__(self, *args: Any, arrivals: Arrivals, **options: Any) -> None:
        super().__init__(*args, **options)
        self._arrivals = arrivals
        if arrivals.settings.proxy_protocol:
            self._introduction = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Its first request is waited for."""
        super().connection_made(transport)
        self._arrivals.came(self, self._peer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._arrivals.done(self)
        super().connection_lost(exc)

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client is not None else ""

    def data_received(self, data: bytes) -> None:
        """A segment of the connection."""
        if self._introduction is not None:
            self._introduced(data)
            return
        if not self._arrivals.knows(self):
            self._arrivals.came(self, self._peer)
        if not self._in_message:
            self._head_bytes += len(data)
        self._segment = data
        super().data_received(data)
        self._segment = b""
        if self._head_bytes > self._arrivals.head_bytes_max and not self._in_message:
            self._refuse_head(431)

    def _introduced(self, data: bytes) -> None:
        """The beginning of a connection: the proxy says for whom it speaks, or there is no connection."""
        assert self._introduction is not None
        self._introduction += data
        try:
            if not self._arrivals.proxies.believes(self._peer):
                raise ValueError("not a trusted proxy")
            header = read_proxy_header(self._introduction)
        except ValueError:
            self._arrivals.quotas.refused["proxy_protocol"] += 1
            self._arrivals.done(self)
            self.transport.abort()
            return
        if header is None:
            return
        rest, self._introduction = self._introduction[header.size :], None
        self.client = self.client if header.client is None else header.client
        if rest:
            self.data_received(rest)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_message, self._head_bytes = True, 0
        self._arrivals.asked(self, moves_file=self.url.startswith(b"/v1/files"))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there."""
        self._in_message = False
        super().on_message_complete()
        self._look_if_over()

    def on_response_complete(self) -> None:
        """The answer is out."""
        super().on_response_complete()
        self._look_if_over()

    def _look_if_over(self) -> None:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        if not self._in_message and (cycle is None or cycle.response_complete):
            self._arrivals.done(self)

    def late(self) -> None:
        """The head didn't come in time, or others need the place."""
        self._refuse_head(408)

    def overdue(self) -> None:
        """The request isn't over in time: the body doesn't come, or the answer isn't taken."""
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse_head(self, status: int) -> None:
        self._arrivals.done(self)
        if self.transport.is_closing():
            return
        if self._head_bytes:
            phrase = HTTPStatus(status).phrase
            self.transport.write(
                f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
            )
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """Called while the parser's exception is handled, which says where the request ended."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        if self.scope["http_version"] != "1.1":  # RFC 6455, 4.2.1; uvicorn would write it out as 1.1
            self.send_400_response("A WebSocket needs HTTP/1.1.")
            return
        early = self._segment[upgrade.args[0] :]
        self._arrivals.done(self)
        lobby: Any = self.ws_protocol_class
        if isinstance(lobby, Lobby):
            lobby.peer = self._peer  # the socket is made and asks for it within the next call
        super().handle_websocket_upgrade()
        del self.parser  # it and this object hold each other, and both have nothing left to do
        if early and not self.transport.is_closing():
            self.transport.pause_reading()  # what comes later must wait for it
            self.loop.call_soon(_hand_on, self.transport, early)


def _hand_on(transport: asyncio.Transport, early: bytes) -> None:
    if not transport.is_closing():
        transport.resume_reading()
        protocol: Any = transport.get_protocol()
        protocol.data_received(early)


class Lobby:
    """What the sockets of one server share; what uvicorn takes as its `ws` class."""

    def __init__(self, door: Door, bytes_max: int) -> None:
        self.door = door
        self.bytes_max = bytes_max
        self.connections: set[Any] = set()
        self.server_state = ServerState()
        self.peer = ""  # of the request that is being handed on

    def __call__(self, *, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> LeanSocket:
        """A new one, for a request that asks for an upgrade."""
        self.server_state, self.connections = server_state, server_state.connections
        return LeanSocket(self)

    def address(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The client's network address: behind a trusted proxy, what that says."""
        return sys.intern(self.door.address(self.peer, headers))


class Asked(NamedTuple):
    """A handshake that keeps the rules. `headers` have lower-case names; `accept` is the answer to its key."""

    path: str
    offered: list[str]
    headers: list[tuple[bytes, bytes]]
    accept: str


def read_request(data: bytes) -> Asked | bytes:
    """What is asked for by a request as uvicorn writes it out again, or the answer to one that breaks the rules."""
    return _read_plainly(data) or _read_by_library(data)


def _split(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The first line of a request and its headers, as uvicorn has put them together."""
    line, *lines = data[:-4].split(b"\r\n")
    pairs = (each.partition(b": ") for each in lines)
    return line, [(name, value) for name, _, value in pairs]


def _read_plainly(data: bytes) -> Asked | None:
    """A request as browsers send it; None leaves the judgement to the library."""
    if len(data) > PLAIN_REQUEST_BYTES_MAX:
        return None
    line, headers = _split(data)
    method, _, rest = line.partition(b" ")
    target = rest.rpartition(b" ")[0]
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name in _ONCE:
            return None
        found[name] = value
    key, offered = found.get(b"sec-websocket-key", b""), found.get(b"sec-websocket-protocol")
    if (
        method != b"GET"
        or not target.isascii()
        or found.get(b"sec-websocket-version") != b"13"
        or found.get(b"upgrade", b"").lower() != b"websocket"
        or found.get(b"connection", b"").lower() not in (b"upgrade", b"keep-alive, upgrade")
        or not _KEY.fullmatch(key)
        or (offered is not None and offered != SUBPROTOCOL.encode())
    ):
        return None
    path = unquote(target.partition(b"?")[0].decode("ascii"))
    return Asked(path, [] if offered is None else [SUBPROTOCOL], headers, accept_key(key.decode("ascii")))


def _read_by_library(data: bytes) -> Asked | bytes:
    """The same by the library, as uvicorn's own class does it."""
    core = ServerProtocol()
    core.receive_data(data)
    events = core.events_received()
    request = events[0] if events else None
    if not isinstance(request, Request):
        return b"".join(core.data_to_send())  # it was too long, or no request
    response = core.accept(request)
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        core.send_response(response)
        return b"".join(core.data_to_send())
    assert not core.extensions, "none was offered to it"
    values = request.headers.get_all("Sec-WebSocket-Protocol")
    return Asked(
        path=unquote(request.path.partition("?")[0]),
        offered=[token.strip() for value in values for token in value.split(",")],
        headers=_split(data)[1],
        accept=response.headers["Sec-WebSocket-Accept"],
    )


def _acceptance(asked: Asked, more: list[tuple[bytes, bytes]]) -> bytes:
    """The 101, with the server's own headers."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + asked.accept.encode(),
        *(name + b": " + value for name, value in more),
    ]
    if SUBPROTOCOL in asked.offered:
        lines.append(b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode())
    return b"\r\n".join((*lines, b"", b""))


def _denial(denied: Denied) -> bytes:
    """The refusal of a handshake that kept the rules."""
    body, headers = denied.body, "".join(f"{name}: {value}\r\n" for name, value in denied.headers.items())
    head = (
        f"HTTP/1.1 {denied.status} {HTTPStatus(denied.status).phrase}\r\n{headers}"
        f"Date: {formatdate(usegmt=True)}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _descriptor(transport: asyncio.Transport) -> int:
    """That of the transport's socket; -1 where what is written isn't what is sent (TLS)."""
    socket = transport.get_extra_info("socket")
    return -1 if socket is None or transport.get_extra_info("sslcontext") is not None else socket.fileno()


class Core(ServerProtocol):
    """The library's parser, with what has come of the message that it is in: at most `bytes_max` bytes."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(state=CORE_OPEN, max_size=bytes_max)
        self.text = True
        self.message = bytearray()
        self.within = False  # a message that has begun and isn't complete

    def take(self, frame: Frame) -> bool:
        """One frame of those that make up messages; True where it is the last of its message."""
        if frame.opcode is not Opcode.CONT:
            self.text = frame.opcode is Opcode.TEXT
        self.message += frame.data
        self.within = not frame.fin
        return frame.fin


class LeanSocket(asyncio.Protocol):
    """One connection from the upgrade request on; the session's side of it is `edge.session.Socket`."""

    __slots__ = ("_address", "_core", "_descriptor", "_lobby", "_partial", "_session", "_state", "_transport")

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._transport: Any = None
        self._session: Listener | None = None
        self._state = WAITING
        self._core: Core | None = None  # only while the library is needed; from a close frame on for good
        self._partial: bytearray | None = None  # the beginning of a frame
        self._address = ""
        self._descriptor = -1  # the socket's, once it is open

    # -- what the transport tells ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """By uvicorn, right before it hands on the request."""
        self._transport = transport
        self._lobby.connections.add(self)  # uvicorn calls `shutdown` on each of these

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer; at first the request."""
        if self._state is not OPEN:
            self._receive_otherwise(data)
            return
        unread: bytes | bytearray = data
        if self._partial is not None:
            self._partial += data
            unread, self._partial = self._partial, None
        at, end, bytes_max = 0, len(unread), self._lobby.bytes_max
        while end - at > 1:
            first, size, head = unread[at], unread[at + 1] - 128, 6  # a size below 0: not masked
            if size > 125:
                head = 8 if size == 126 else 14
                if end - at < head - 4 and first & 0x07 <= 2:  # with a reserved opcode the library won't wait for it
                    break
                size = int.from_bytes(unread[at + 2 : at + head - 4], "big")
            stop = at + head + size
            if first == _WHOLE_TEXT and self._core is None and 0 <= size <= bytes_max:
                if stop > end:
                    break
                self._on_text(apply_mask(unread[at + head : stop], unread[at + head - 4 : at + head]))
            elif self._refused_by_header(first, size):
                stop = end
                self._on_frame(unread[at:])
            elif stop > end:
                break
            elif first != _PONG or self._core is not None or size > 125:
                self._on_frame(unread[at:stop])
            at = stop
            if self._state is not OPEN:
                self._receive_otherwise(unread[at:])
                return
        if at < end:
            self._partial = unread if isinstance(unread, bytearray) else bytearray(unread)
            del self._partial[:at]

    def eof_received(self) -> None:
        """The peer has said its last; the transport closes by itself, as with the plain driver."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of everything, whoever wanted it."""
        self._state = ENDED
        self._lobby.connections.discard(self)
        self._transport = self._partial = None
        self._drop_core()
        self._tell(NO_CODE)

    def shutdown(self) -> None:
        """uvicorn is stopping, and waits a moment; a hub that drains has closed its sockets before."""
        if self._state is OPEN:
            self.close(1012, "")
            self._loop.call_later(LINGER_S, self.abort)
        elif self._state is WAITING:
            self._transport.close()

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _receive_otherwise(self, data: bytes | bytearray) -> None:
        if self._state is WAITING:
            self._shake(bytes(data))
        elif self._state is CLOSING and data:
            assert self._core is not None
            self._core.receive_data(bytes(data))
            self._core.events_received()  # what the peer said before it saw our close
            self._settle(self._core)

    def _shake(self, data: bytes) -> None:
        """Answer the request."""
        try:
            asked = read_request(data)
            if isinstance(asked, bytes):
                self._refuse(asked)
                return
            door = self._lobby.door
            address = self._lobby.address(asked.headers)
            if (denied := door.denied(asked.path, asked.offered, dict(asked.headers), address)) is not None:
                self._refuse(_denial(denied))
                return
            self._address = address
        except Exception:
            log.exception("a handshake failed")
            self._refuse(b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        self._transport.write(_acceptance(asked, self._lobby.server_state.default_headers))
        self._state = OPEN
        self._descriptor = _descriptor(self._transport)
        try:
            self._session = door.open(asked.path, self, self._address)  # may close at once
        except Exception:
            door.leave(self._address)
            self._failed()

    def _refuse(self, answer: bytes) -> None:
        self._state = ENDED
        self._transport.write(answer)
        self._transport.close()

    # -- frames ------------------------------------------------------------------------------------------------------

    def _on_text(self, data: bytes | bytearray) -> None:
        """One whole message of text."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._fail(1007)
            return
        try:
            assert self._session is not None
            self._session.on_text(text)
        except Exception:
            self._failed()

    def _on_binary(self) -> None:
        try:
            assert self._session is not None
            self._session.on_binary()
        except Exception:
            self._failed()

    def _refused_by_header(self, first: int, size: int) -> bool:
        """True where the library won't wait for the rest: not masked, a reserved opcode, or too big with what it has."""
        reserved = first & 0x07 > 2
        had = len(self._core.message) if self._core is not None else 0
        return size < 0 or reserved or size > self._lobby.bytes_max - had

    def _on_frame(self, data: bytes | bytearray) -> None:
        """One whole frame, or the beginning of one that will be refused, for the library."""
        core = self._core = self._core or Core(self._lobby.bytes_max)
        core.receive_data(bytes(data))
        for frame in core.events_received():
            if not isinstance(frame, Frame) or frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
                continue  # its answer is among what is to be sent
            if core.take(frame):
                if core.text:
                    self._on_text(core.message)
                else:
                    self._on_binary()
        self._settle(core)

    def _settle(self, core: Core) -> None:
        """Send what the library wants sent; forget it where it has nothing to remember."""
        if self._state is ENDED:
            return
        if output := b"".join(core.data_to_send()):
            self._transport.write(output)
        if core.eof_sent:  # both close frames are out, or the peer broke the rules
            failed = core.parser_exc is not None or core.close_rcvd is None
            close = core.close_sent if failed else core.close_rcvd
            self._finish()
            self._tell(peers_code(close.code if close is not None else None))
        elif core.state is CORE_OPEN and not core.within:
            self._drop_core()

    def _drop_core(self) -> None:
        if self._core is not None:
            # The generator and an error's frames hold the object that holds them: nothing for the collector.
            del self._core.parser
            self._core.parser_exc = None
            self._core = None

    # -- what the session asks for -----------------------------------------------------------------------------------

    def write(self, packet: Packet) -> int:
        """
        Send its text frames in one write, never waiting; the `backlog` there was before them.

        With nothing in the transport's buffer they go straight to the kernel, which saves a sixth of a delivery. The
        descriptor is this connection's as long as the state is `OPEN`: transports close it after `connection_lost`.
        """
        if self._state is not OPEN:
            return 0
        transport, wire = self._transport, packet.wire
        before: int = transport.get_write_buffer_size()
        if not before and self._descriptor >= 0:
            try:
                taken = os.write(self._descriptor, wire)
            except OSError:  # the kernel's buffer is full; or the connection is lost, which the transport finds out
                taken = 0
            if taken == len(wire):
                return 0
            wire = wire[taken:]
        transport.write(wire)
        return before

    def backlog(self) -> int:
        """Bytes that the kernel has not taken: its own buffer is full."""
        size: int = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return size

    def close(self, code: int, reason: str) -> None:
        """Close after what was written; the peer's answer is waited for as long as nobody aborts."""
        if self._state is not OPEN:
            return
        self._state = CLOSING
        core = self._core = self._core or Core(self._lobby.bytes_max)
        core.send_close(code, short_reason(reason))
        self._transport.write(b"".join(core.data_to_send()))
        self._loop.call_soon(self._tell, code)  # not from within the session's own call
        if self._partial is not None:
            unread, self._partial = self._partial, None
            self._receive_otherwise(unread)

    def abort(self) -> None:
        """Drop the connection, whatever waits in its buffer; the session is told in a moment."""
        if self._transport is not None:
            self._state = ENDED
            self._transport.abort()

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _tell(self, code: int) -> None:
        """The session's end: once."""
        session, self._session = self._session, None
        if session is not None:
            self._lobby.door.leave(self._address)
            tell_close(session, code)

    def _fail(self, code: int) -> None:
        """The peer broke the rules: the close frame, and no waiting for an answer (RFC 6455, section 7.1.7)."""
        core = self._core = self._core or Core(self._lobby.bytes_max)
        core.fail(code)
        self._settle(core)

    def _failed(self) -> None:
        """The session raised: the peer is told that it wasn't them."""
        log.exception("a session failed")
        self.close(SESSION_FAILED, "")
        self._tell(SESSION_FAILED)
        self._loop.call_later(LINGER_S, self.abort)

    def _finish(self) -> None:
        """Nothing more is said; the peer has a moment to take what was, and to close its side."""
        self._state = ENDED
        self._partial = None
        self._drop_core()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._loop.call_later(LINGER_S, self.abort)
        else:
            self._transport.close()  # with TLS
