"""A provider as the hub's open messaging meets it: a real HTTP server that keeps what it is sent, and answers as told."""

import asyncio
import base64
import contextlib
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook

from tests.support.centre import Centre, Platform
from tests.support.processes import CONFIG, HubProcess, free_port

Json = dict[str, Any]
SEEN_S = 0.3  # in which a connection's end is seen here, after it ended


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
    reader: asyncio.StreamReader
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def hung_up(self) -> None:
        """Wait until whoever called has lost patience."""
        with contextlib.suppress(OSError):
            await self.reader.read()

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
    """What it is answered: a number of times; 0: the connection is cut instead. `taken` None: where it is a 2xx."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    taken: bool | None = None

    @property
    def wire(self) -> bytes:
        """As HTTP has it."""
        lines = [f"HTTP/1.1 {self.status} Answer", "content-length: 2", *(f"{k}: {v}" for k, v in self.headers.items())]
        return "\r\n".join([*lines, "", "ok"]).encode() * self.times

    @property
    def takes(self) -> bool:
        """True where the provider has the message."""
        return 200 <= self.status < 300 if self.taken is None else self.taken


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
        self.under_way: dict[str, Call] = {}
        self.overlaps: list[str] = []
        self._times: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._meetings: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the hub calls it."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> "Provider":
        """Listen."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)
        return self

    async def stop(self) -> None:
        """Refuse connections, and cut those that are there. Idempotent."""
        if self._server is not None:
            self._server.close()
            for task in self._meetings:
                task.cancel()
            await asyncio.gather(*self._meetings, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def close(self) -> None:
        """The end; fails where a call was not signed, or two of one conversation were under way at once."""
        await self.stop()
        assert not self.unsigned, f"{len(self.unsigned)} calls without a right signature"
        assert not self.overlaps, f"two calls at once: {self.overlaps}"

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._meetings.add(task)
        try:
            while True:
                await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or this one goes
        finally:
            self._meetings.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
        call = Call(headers, await reader.readexactly(int(headers["content-length"])), reader)
        reply = await self._answer(call)
        if not reply.times:
            raise ConnectionResetError
        writer.write(reply.wire)
        await writer.drain()

    async def _answer(self, call: Call) -> Reply:
        if not any(verified(call, one) for one in self.secrets):
            self.unsigned.append(call)
            return Reply(401)
        self.calls.append(call)
        times = self._times[call.id] = self._times.get(call.id, 0) + 1
        await self._alone(call)
        try:
            reply = await self.habit(call, times)
        finally:
            call.over.set()
        if reply.takes:
            self.take(call)
        return reply

    async def _alone(self, call: Call) -> None:
        """Note where another call of the conversation is under way, but for one whose end is just not seen yet."""
        conversation = call.json["conversation_id"]
        before = self.under_way.get(conversation)
        self.under_way[conversation] = call
        if before is not None and not before.over.is_set():
            try:
                await asyncio.wait_for(before.over.wait(), SEEN_S)
            except TimeoutError:
                self.overlaps.append(f"{call.id} while {before.id}")

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


# -- organizations whose platform the hub calls ----------------------------------------------------------------------

FAST = "outbound_backoff_ms = 40\noutbound_backoff_max_ms = 200\nbreaker_ms = 300\n"


@dataclass
class Shops:
    """One hub with many organizations that have a connector each; each test takes one that nobody had."""

    hub: HubProcess
    free: list[tuple[str, str, int]]  # name of connector and organization, key, port


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shops]:
    """Such a hub, shared by the tests of this process."""
    places = [("shop-" + uuid.uuid4().hex[:12], new_secret(), free_port()) for _ in range(30)]
    tables = [open_table(name, name, f"http://127.0.0.1:{port}/hook", key) for name, key, port in places]
    hub = HubProcess(tmp_path_factory.mktemp("shops"), config=open_config(*tables, limits=FAST)).start()
    yield Shops(hub, places)
    hub.kill()


@pytest_asyncio.fixture
async def shop(shops: Shops) -> AsyncIterator[tuple[Centre, Provider]]:
    """An organization whose platform has no socket: the hub calls it."""
    name, key, port = shops.free.pop()
    async with providing(key, port=port) as provider:
        centre = Centre(shops.hub, org=name)
        centre.platform = Platform(centre, name)
        yield centre, provider
        await centre.close()
