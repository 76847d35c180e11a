"""
A small HTTP/1.1 client on asyncio streams: one kept-alive connection, one request at a time.

It exists so that the SDK needs no HTTP library: it speaks to the hub's own routes only (bodies with a length or in
chunks, no redirects, no compression). Several of them side by side are several connections.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from clients.wire import HubError

BODY_BYTES_MAX: Final = 64 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def refusal(self) -> HubError:
        """The error in the body; what isn't ours (a proxy's page) keeps its status as the code."""
        try:
            error = msgspec.json.decode(self.body)["error"]
            return HubError(error["code"], error["message"], bool(error.get("retryable")), error.get("details"))
        except (msgspec.DecodeError, LookupError, TypeError):
            text = self.body[:200].decode(errors="replace")
            return HubError(f"http_{self.status}", text, self.status >= 500)


class HttpClient:
    """
    One connection to an HTTP origin, opened at the first request and again when it was lost.

    `request` raises `OSError` (or `TimeoutError`) where no whole answer came; whether the request arrived is unknown
    then. A connection that the server had closed before this request began is replaced once.
    """

    def __init__(self, origin: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(origin)
        self._tls = parts.scheme in ("https", "wss")
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its whole answer. Cancelling drops the connection."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._authority}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        async with self._lock, asyncio.timeout(self._timeout_s):
            try:
                return await self._exchange(data, again=self._streams is not None)
            except BaseException:
                self.drop()
                raise

    def drop(self) -> None:
        """Close the connection; the next request opens another. Idempotent."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def close(self) -> None:
        """Close the connection and wait until it is."""
        if self._streams is not None:
            writer = self._streams[1]
            self.drop()
            try:
                await writer.wait_closed()
            except OSError:
                return  # it was broken before; closed is closed

    async def _exchange(self, data: bytes, *, again: bool) -> Answer:
        if self._streams is None:
            context = ssl.create_default_context() if self._tls else None
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        reader, writer = self._streams
        try:
            writer.write(data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.drop()
            if again and not getattr(error, "partial", b""):
                return await self._exchange(data, again=False)
            raise ConnectionResetError("the hub closed the connection before its answer") from error
        answer = await _read_answer(reader, head)
        if answer.headers.get("connection", "").lower() == "close":
            self.drop()
        return answer


async def _read_answer(reader: asyncio.StreamReader, head: bytes) -> Answer:
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunks(reader)
        else:
            body = await reader.readexactly(min(int(headers.get("content-length", "0")), BODY_BYTES_MAX))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the hub closed the connection within its answer") from error
    return Answer(int(first.split(" ", 2)[1]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        if len(body) + size > BODY_BYTES_MAX:
            raise ConnectionResetError("the answer is larger than any of the hub's")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass  # trailers
    return bytes(body)
