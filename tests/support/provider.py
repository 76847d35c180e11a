"""A provider as the hub's open messaging meets it: a real HTTP server that keeps what it is sent, and answers as told."""

import asyncio
import base64
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook

from hub.app import make_server
from tests.support.processes import CONFIG, free_port

Json = dict[str, Any]


def new_secret() -> str:
    """A key as the convention writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def open_table(connector: str, org: str, url: str, secret: str, *more: str) -> str:
    """The table of one connector of open messaging; `more` are lines of it."""
    lines = [
        f"[connectors.{connector}]",
        f'org = "{org}"',
        'adapter = "open"',
        f'url = "{url}"',
        f'secret = "{secret}"',
        "insecure = true",
        f'allow_private = ["{httpx.URL(url).netloc.decode()}"]',
        *more,
    ]
    return "\n".join(lines) + "\n"


def open_config(*tables: str, limits: str = "") -> str:
    """A hub's configuration with those tables; `limits` are lines of `[limits]`."""
    return "".join(tables) + CONFIG + limits  # CONFIG's last table is [limits]


@dataclass
class Call:
    """One request that came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The webhook's id."""
        return self.headers["webhook-id"]

    @property
    def json(self) -> Json:
        """Its body."""
        return dict(json.loads(self.body))


@dataclass
class Reply:
    """What it is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Habit = Callable[[Call, int], Awaitable[Reply]]


async def friendly(_call: Call, _times: int) -> Reply:
    """Take everything."""
    return Reply()


class Provider:
    """
    It listens on `port`, from `start` to `stop`, as often as wanted. `habit` gets each call and how often its id has come
    (from 1). Every call must be signed by one of `secrets`, else the test fails in `close`.

    `delivered`: per conversation the ids of messages that it took (answered 2xx), repeats dropped, in order.
    """

    def __init__(self, *secret: str, port: int = 0, habit: Habit = friendly) -> None:
        self.secrets = secret or (new_secret(),)
        self.habit = habit
        self.port = port or free_port()
        self.calls: list[Call] = []
        self.delivered: dict[str, list[str]] = {}
        self.texts: dict[str, list[str]] = {}
        self.unsigned: list[Call] = []
        self.under_way: dict[str, int] = {}
        self.overlaps: list[str] = []
        self._times: dict[str, int] = {}
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the hub calls it."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> "Provider":
        """Listen."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(128)

        async def app(scope: Any, receive: Any, send: Any) -> None:  # uvicorn knows functions, not methods
            await self._app(scope, receive, send)

        self._server = make_server(app)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        return self

    async def stop(self) -> None:
        """Refuse connections, and cut those that are there."""
        if self._serving is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        await self._serving
        self._serving = None

    async def close(self) -> None:
        """The end; fails where a call was not signed, or two of one conversation were under way at once."""
        await self.stop()
        assert not self.unsigned, f"{len(self.unsigned)} calls without a right signature"
        assert not self.overlaps, f"two calls at once: {self.overlaps}"

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        call = Call({name.decode(): value.decode() for name, value in scope["headers"]}, body)
        reply = await self._answer(call)
        headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, call: Call) -> Reply:
        if not any(verified(call, one) for one in self.secrets):
            self.unsigned.append(call)
            return Reply(401)
        self.calls.append(call)
        times = self._times[call.id] = self._times.get(call.id, 0) + 1
        conversation = call.json["conversation_id"]
        self.under_way[conversation] = self.under_way.get(conversation, 0) + 1
        if self.under_way[conversation] > 1:
            self.overlaps.append(call.id)
        try:
            reply = await self.habit(call, times)
        finally:
            self.under_way[conversation] -= 1
        if 200 <= reply.status < 300:
            self.take(call)
        return reply

    def take(self, call: Call) -> None:
        """Give a message to its customer, unless they have it."""
        conversation, data = call.json["conversation_id"], call.json["data"]
        if call.json["type"] == "outbound.message" and call.id not in self.delivered.setdefault(conversation, []):
            self.delivered[conversation].append(call.id)
            self.texts.setdefault(conversation, []).append(data["text"])


def verified(call: Call, secret: str) -> bool:
    """True where the convention's own library finds the signature right."""
    with contextlib.suppress(Exception):
        Webhook(secret).verify(call.body, call.headers)
        return True
    return False


@contextlib.asynccontextmanager
async def providing(*secret: str, port: int = 0, habit: Habit = friendly) -> AsyncIterator[Provider]:
    """A provider that listens, and is judged at the end."""
    provider = await Provider(*secret, port=port, habit=habit).start()
    try:
        yield provider
    finally:
        await provider.close()


def ids_of(calls: Iterable[Call], kind: str = "outbound.message") -> list[str]:
    """Ids of the calls of that type, in the order in which they came."""
    return [call.id for call in calls if call.json["type"] == kind]
