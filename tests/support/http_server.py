"""A small HTTP server that stands where a provider or a connector stands: it keeps what it got, a function answers."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hub.channels.outward import Outward
from hub.channels.port import Answer

TLS = ssl.create_default_context()  # reading the authorities takes longer than a test


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came: `target` is path and query; names of `headers` are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query's members."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> list[tuple[str, str]]:
        """The body as a url-encoded form."""
        return parse_qsl(self.body.decode(), keep_blank_values=True)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer; `body` is sent as JSON unless it is bytes."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpServer:
    """
    Serves in threads of its own until `close`: `answers` may block like a slow provider, or raise to cut the line.

    `asked` has every request in the order of arrival.
    """

    def __init__(self, answers: Callable[[Asked], Said] = lambda _: Said()) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "HttpServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes; the second would wait for an acknowledgement

            def serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                server.asked.append(asked)
                try:
                    said = server.answers(asked)
                except ConnectionError:
                    self.close_connection = True  # without an answer
                    return
                body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except ConnectionError:
                    self.close_connection = True  # whoever asked has gone

            do_GET = do_POST = do_PATCH = do_PUT = serve  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                """The test knows what was asked."""

        return Handler


class LoopbackCaller:
    """The hub's own way out, for tests' servers: each call may go to the address that it names."""

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """See the port."""
        host = urlsplit(url).netloc
        outward = Outward(timeout_ms=5_000, answer_bytes_max=1 << 20, allowed=[host], tls=TLS)
        try:
            return await outward.call(method, url, headers=headers, body=body)
        finally:
            await outward.aclose()
