"""A small HTTP server that stands where a provider or a connector stands: it keeps what it got, a function answers."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from hub.channels.port import Answer, Unreachable


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


class Provider:
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

    def __enter__(self) -> "Provider":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                provider.asked.append(asked)
                try:
                    said = provider.answers(asked)
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


class PlainCaller:
    """Calls out over real connections, to loopback addresses too."""

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request; raises Unreachable where no answer came."""

        def ask() -> Answer:
            with httpx.Client(trust_env=False, timeout=5.0) as client:
                answer = client.request(method, url, headers=dict(headers), content=body)
            return Answer(
                answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
            )

        try:
            return await asyncio.to_thread(ask)
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from None
