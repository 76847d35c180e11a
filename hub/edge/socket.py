"""
The door, and the plain driver: one ASGI WebSocket, one session, on any ASGI server with the denial-response extension.

`Door` decides for both drivers (the other one is `edge/transport.py`) who comes in and which session is made. What must be
refused before the handshake is refused by HTTP: an unknown endpoint 404, other subprotocols 400, a foreign Origin 403, a
node that is draining 503, handshakes that come too fast 429. Too many sockets of one address are closed with 4429: a
browser's script sees no HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from hub.domain.errors import Refused
from hub.edge.agent import AgentSession
from hub.edge.answers import refusal_headers
from hub.edge.connector import ConnectorSession
from hub.edge.customer import CustomerSession
from hub.edge.parts import Parts
from hub.edge.proxies import Proxies, network
from hub.edge.quotas import NODE
from hub.edge.session import CLOSE_S, BaseSession, Socket
from hub.edge.supervisor import SupervisorSession
from hub.edge.turn import Packet
from hub.protocol.close import Close
from hub.protocol.encode import encode_error

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SUBPROTOCOL = "hub.v1"
REASON_BYTES_MAX = 120
NO_CODE = 1006  # what a session is told where the peer gave no code of its own
SESSION_FAILED = 1011  # RFC 6455, 7.4.1: an unexpected condition on our side
ENDPOINTS: dict[str, type[BaseSession]] = {
    "/v1/supervisor": SupervisorSession,
    "/v1/agent": AgentSession,
    "/v1/connector": ConnectorSession,
    "/v1/customer": CustomerSession,
}


class Listener(Protocol):
    """A session, as a driver sees it."""

    def on_text(self, text: str) -> None:
        """One text message."""

    def on_binary(self) -> None:
        """One binary message."""

    def on_close(self, code: int) -> None:
        """The socket has gone; `code` is the peer's, 1006 where there was none. Called at least once, last."""

    def close(self, code: int, reason: str) -> None:
        """Say why, then close."""


Opener = Callable[[Parts, Socket, str], Listener]


class Denied(NamedTuple):
    """A handshake that is refused: the HTTP status, and the error of the body."""

    status: int
    refused: Refused

    @property
    def body(self) -> bytes:
        """What both drivers answer, as `application/json`."""
        return encode_error(None, self.refused)

    @property
    def headers(self) -> dict[str, str]:
        """What both send beside it."""
        return {"content-type": "application/json", **refusal_headers(self.status, self.refused)}


class Door:
    """Who comes in, and what stands behind their socket; the same for every driver."""

    def __init__(self, parts: Parts, endpoints: Mapping[str, Opener] = ENDPOINTS) -> None:
        self.parts = parts
        self.endpoints = endpoints
        self.proxies = Proxies(parts.settings.trusted_proxies)
        self._sockets = 0  # of this node; `parts.addresses` counts them by network

    def address(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's network address; `headers` have lower-case names. `peer` is who is at the other end."""
        if not self.proxies.believes(peer):
            return peer
        return self.proxies.client(peer, [value for name, value in headers if name == b"x-forwarded-for"])

    def denied(
        self, path: str, offered: Sequence[str], headers: Mapping[bytes, bytes], address: str = ""
    ) -> Denied | None:
        """
        Why this handshake is refused, else None; one that isn't counts against the quotas of `address` and of the node.

        `offered`: subprotocols; `headers`: by lower-case names.
        """
        if path not in self.endpoints:
            return Denied(404, Refused("schema_invalid", "There is no such endpoint."))
        if self.parts.node.draining:
            return Denied(503, Refused("store_unavailable", "This node is going away.", {"outcome": "none"}))
        if offered and SUBPROTOCOL not in offered:
            details = {"path": "Sec-WebSocket-Protocol", "got": list(offered[:8]), "supported": [SUBPROTOCOL]}
            return Denied(400, Refused("schema_invalid", "None of these subprotocols is spoken here.", details))
        origin = headers.get(b"origin")
        if origin is not None:
            host = headers.get(b"host", b"").decode("latin-1")
            if not allowed_origin(origin.decode("latin-1"), host, self.parts.settings.origins):
                return Denied(403, Refused("not_permitted", "This Origin may not connect."))
        limits = (("handshakes_per_address_per_s", network(address)), ("handshakes_per_node_per_s", NODE))
        over = self.parts.quotas.first_over(limits, asyncio.get_running_loop().time())
        return Denied(429, over.refused("Too many handshakes.")) if over is not None else None

    def open(self, path: str, socket: Socket, address: str) -> Listener:
        """The session behind an accepted socket, counted; whoever opened calls `leave` once, even where this raised."""
        addresses, quotas, place = self.parts.addresses, self.parts.quotas, network(address)
        addresses[place] += 1
        self._sockets += 1
        session = self.endpoints[path](self.parts, socket, place)
        if addresses[place] > self.parts.settings.sockets_per_address:
            quotas.over("sockets_per_address", 0)
            session.close(Close.TOO_MANY, "too many sockets of this address")
        elif 0 < quotas.most("sockets_per_node") < self._sockets:
            quotas.over("sockets_per_node", 0)
            session.close(Close.TOO_MANY, "too many sockets on this node")
        return session

    def leave(self, address: str) -> None:
        """One socket of the address less."""
        addresses, place = self.parts.addresses, network(address)
        self._sockets -= 1
        addresses[place] -= 1
        if not addresses[place]:
            del addresses[place]


def short_reason(reason: str) -> str:
    """What of a reason fits into a close frame: control frames carry 125 bytes, two of them the code."""
    return reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")


def peers_code(code: int | None) -> int:
    """The code that a session is told: 1005 (a close frame without any, or no frame at all) says no more than 1006."""
    return NO_CODE if code is None or code == 1005 else code


class AsgiSocket:
    """The session's side of an ASGI socket: frames wait here until the server takes them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._out: list[dict[str, Any]] = []
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    def write(self, packet: Packet) -> int:
        """Send its text frames, never waiting; the `backlog` there was before them."""
        before = self._bytes
        for frame in packet.frames:
            self._bytes += len(frame)
            self._put({"type": "websocket.send", "text": frame.decode()}, len(frame))
        return before

    def _put(self, message: dict[str, Any], size: int) -> None:
        if self._closed:
            return
        message["size"] = size
        self._out.append(message)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._out:
                message = self._out.pop(0)
                size = message.pop("size")
                await self._send(message)
                self._bytes -= size
        except Exception as error:
            self._closed = True
            self._out.clear()
            log.debug("socket write ended: %s", type(error).__name__)
        finally:
            self._writer = None

    def backlog(self) -> int:
        """Bytes that the server has not taken: its own buffer is full."""
        return self._bytes

    def close(self, code: int, reason: str) -> None:
        """Close after what was written."""
        self._put({"type": "websocket.close", "code": code, "reason": short_reason(reason)}, 0)

    def abort(self) -> None:
        """Drop the connection: a stalled peer takes no close frame, and ASGI has no word for this."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None and not transport.is_closing():
            transport.abort()

    async def fail(self) -> None:
        """Close with 1011 and wait until the server has taken that, or drop the connection."""
        self.close(SESSION_FAILED, "")
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=CLOSE_S)
        if self._writer is not None:
            self.abort()


async def serve_socket(door: Door, scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket from handshake to close."""
    await receive()  # websocket.connect
    path, offered = scope["path"], scope.get("subprotocols") or []
    headers = [(name.lower(), value) for name, value in scope["headers"]]
    address = door.address(scope["client"][0] if scope.get("client") else "", headers)
    denied = door.denied(path, offered, dict(headers), address)
    if denied is not None:
        await _deny(send, denied)
        return
    accept: dict[str, Any] = {"type": "websocket.accept"}
    if SUBPROTOCOL in offered:
        accept["subprotocol"] = SUBPROTOCOL
    await send(accept)
    socket = AsgiSocket(send)
    session: Listener | None = None
    code = NO_CODE
    try:
        session = door.open(path, socket, address)
        code = await _drive(session, receive)
    except Exception:
        log.exception("a session failed")
        code = SESSION_FAILED
    finally:
        door.leave(address)
        if session is not None:
            tell_close(session, code)
    if code == SESSION_FAILED:
        await socket.fail()


async def _drive(session: Listener, receive: Receive) -> int:
    """Tell the session what comes; the peer's code."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return peers_code(message.get("code"))
        text = message.get("text")
        if text is None:
            session.on_binary()
        else:
            session.on_text(text)


def tell_close(session: Listener, code: int) -> None:
    """Tell a session its end; what it does wrong with it concerns nobody else."""
    try:
        session.on_close(code)
    except Exception:
        log.exception("a session's end failed")


def allowed_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """True where a browser's page of that origin may connect: by the exact list, or by default from the same host."""
    if allowed:
        return origin in allowed
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and origin == f"{parts.scheme}://{host}"


async def _deny(send: Send, denied: Denied) -> None:
    headers = [(name.encode(), value.encode()) for name, value in denied.headers.items()]
    await send({"type": "websocket.http.response.start", "status": denied.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": denied.body})
