"""
The plain driver: one ASGI WebSocket, one session. Works on any ASGI server that has the denial-response extension.

What must be refused before the handshake is refused by HTTP: other subprotocols 400, a foreign Origin 403, a node that is
draining 503. Too many sockets of one address are closed with 4429: a browser's script sees no HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from hub.domain.errors import Refused
from hub.edge.agent import AgentSession
from hub.edge.connector import ConnectorSession
from hub.edge.customer import CustomerSession
from hub.edge.parts import Parts
from hub.edge.session import BaseSession
from hub.edge.supervisor import SupervisorSession
from hub.protocol.close import Close
from hub.protocol.encode import encode_error

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SUBPROTOCOL = "hub.v1"
REASON_BYTES_MAX = 120
ENDPOINTS: dict[str, type[BaseSession]] = {
    "/v1/supervisor": SupervisorSession,
    "/v1/agent": AgentSession,
    "/v1/connector": ConnectorSession,
    "/v1/customer": CustomerSession,
}


class AsgiSocket:
    """The session's side of an ASGI socket: frames wait here until the server takes them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._out: list[dict[str, Any]] = []
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    def write(self, frames: list[bytes]) -> None:
        """Send text frames; never waits."""
        for frame in frames:
            self._bytes += len(frame)
            self._put({"type": "websocket.send", "text": frame.decode()}, len(frame))

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
        short = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        self._put({"type": "websocket.close", "code": code, "reason": short}, 0)

    def abort(self) -> None:
        """Drop the connection: a stalled peer takes no close frame, and ASGI has no word for this."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None and not transport.is_closing():
            transport.abort()


async def serve_socket(parts: Parts, scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket from handshake to close."""
    await receive()  # websocket.connect
    kind = ENDPOINTS.get(scope["path"])
    denied = (404, Refused("schema_invalid", "There is no such endpoint.")) if kind is None else _denied(parts, scope)
    if denied is not None or kind is None:
        assert denied is not None
        await _deny(send, *denied)
        return
    offered = scope.get("subprotocols") or []
    accept: dict[str, Any] = {"type": "websocket.accept"}
    if SUBPROTOCOL in offered:
        accept["subprotocol"] = SUBPROTOCOL
    await send(accept)
    address = scope["client"][0] if scope.get("client") else ""
    parts.addresses[address] += 1
    session = kind(parts, AsgiSocket(send), address)
    if parts.addresses[address] > parts.settings.sockets_per_address:
        session.close(Close.TOO_MANY, "too many sockets of this address")
    code = 1006
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or 1006
                break
            text = message.get("text")
            if text is None:
                session.on_binary()
            else:
                session.on_text(text)
    finally:
        parts.addresses[address] -= 1
        if not parts.addresses[address]:
            del parts.addresses[address]
        session.on_close(code)


def _denied(parts: Parts, scope: Scope) -> tuple[int, Refused] | None:
    """Status and error where the handshake is refused, else None."""
    if parts.node.draining:
        return 503, Refused("store_unavailable", "This node is going away.", {"outcome": "none"})
    offered = scope.get("subprotocols") or []
    if offered and SUBPROTOCOL not in offered:
        details = {"path": "Sec-WebSocket-Protocol", "got": offered[:8], "supported": [SUBPROTOCOL]}
        return 400, Refused("schema_invalid", "None of these subprotocols is spoken here.", details)
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    if origin is not None and not allowed_origin(origin, headers.get(b"host", ""), parts.settings.origins):
        return 403, Refused("not_permitted", "This Origin may not connect.")
    return None


def allowed_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """True where a browser's page of that origin may connect: by the exact list, or by default from the same host."""
    if allowed:
        return origin in allowed
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and origin == f"{parts.scheme}://{host}"


async def _deny(send: Send, status: int, refused: Refused) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode_error(None, refused)})
