"""
The hub's side of a comparison.

One node takes events in (on the core of everything else), another one is measured: it follows what the first one wrote
to their store, and has the supervisors' sockets. Both are `hub serve` as anybody starts it: rights, positions, fences,
limits and metrics are on. Set are the store's address, `sockets_per_address`, and `tick_ms` where the question asks for 0.

A *view* is the interactions view of one queue. Its conversations are told of in turn, an agent's and a customer's
message after another, so that each message changes a row: who awaits an answer, and since when. That time is the
event's own `at`, and so carries the mark. A row is changed again only when all others were, so that nothing which a
peer would deliver is merged away: the hub sends as much as it ever must. *Tens* of supervisors monitor one conversation
each, and its customer writes.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from clients.launch import HubProcess, NotStarted, new_secret, start_hub
from clients.load.peers.driver import LENGTH, MARK, NUMBER, SERIAL, WHO, Speech
from clients.load.peers.programs import BenchError, on_core
from clients.load.platform import TEXT, Platform
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token
from clients.wire import SUBPROTOCOL

QUEUE: Final = "support"
CONVERSATIONS: Final = 64  # of a view: more than are ever changed within a tick, or under way at once
AGENTS: Final = 20
GOODBYE_S: Final = 20.0
CONFIG: Final = "[limits]\nsockets_per_address = 1000000\ntick_ms = {tick_ms}\n"
PONG: Final = ('{"event":"ping"', '{"cmd":"pong"}')
HEADER: Final = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"


def _step(**command: object) -> str:
    return orjson.dumps(command).decode()


HELLO: Final = ("", _step(id=1, cmd="hello", token=WHO))
VIEW: Final = (
    HELLO,
    ('"id":1,"ok"', _step(id=2, cmd="view.subscribe", view="interactions", filter={"queues": [QUEUE]})),
    ('"more":false', ""),
)
TENS: Final = (
    HELLO,
    ('"id":1,"ok"', _step(id=2, cmd="status.set", status="available")),
    ('"id":2,"ok"', _step(id=3, cmd="monitor.start", conversation_id=f"m{NUMBER}")),
    ('"event":"monitor.started"', ""),
)


@asynccontextmanager
async def node(folder: Path, core: int, store_port: int, secret: str, tick_ms: int = 100) -> AsyncIterator[HubProcess]:
    """
    A hub on that core and that store.

    Raises:
        BenchError: It did not start.
    """
    config = configured(folder, tick_ms)
    variables = {"HUB_REDIS_URL": f"redis://127.0.0.1:{store_port}"}
    async with AsyncExitStack() as stack:
        with on_core(core):
            starting = start_hub(folder / "data", config=config, secret=secret, variables=variables)
            try:
                hub = await stack.enter_async_context(starting)
            except NotStarted as error:
                raise BenchError(f"the hub did not start: {error}") from None
        yield hub


def configured(folder: Path, tick_ms: int) -> Path:
    """The configuration's file, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(tick_ms=tick_ms))
    return config


def port_of(hub: HubProcess) -> int:
    """Its TCP port."""
    port = urlsplit(hub.url).port
    assert port is not None
    return port


@dataclass(slots=True)
class Organization:
    """
    One kind of conversations with its supervisors, an organization of its own, on the ingesting node.

    `serial` counts the events that were published into it, by all clients one after the other.
    """

    ingest: HubProcess
    name: str
    one_each: bool
    conversations: int
    tokens: Path
    serial: int = 0
    sockets: int = field(default=0, init=False)

    async def begin(self) -> None:
        """Start the conversations: each with an agent, and a customer who awaits an answer."""
        platform = Platform(self.ingest.url, self._token("connector", "platform"))
        try:
            await platform.begin(self.ids(), [f"agent-{number}" for number in range(AGENTS)], QUEUE)
        finally:
            await platform.close()
        if set(platform.results) != {"accepted"}:
            raise BenchError(f"the hub took the conversations' beginnings like this: {dict(platform.results)}")

    def ids(self) -> Sequence[str]:
        """Of the conversations, in the order in which events are published."""
        letter = "m" if self.one_each else "v"
        return [f"{letter}{number:07}" for number in range(self.conversations)]

    def admit(self, sockets: int) -> None:
        """Make a token for each socket, of a supervisor of its own."""
        if sockets > self.sockets:
            lines = [self._token("supervisor", f"sup-{number}") for number in range(sockets)]
            self.tokens.write_text("\n".join([*lines, ""]))
            self.sockets = sockets

    def speech(self) -> Speech:
        """How the load client speaks to a node that follows, and publishes to the one that takes events in."""
        return Speech(
            path="/v1/supervisor",
            header=HEADER,
            steps=TENS if self.one_each else VIEW,
            reply=PONG,
            mark="T@" if self.one_each else '"awaiting_since":',
            tokens=self.tokens,
            head=self._head(),
            templates=self._templates(),
            publish_port=port_of(self.ingest),
            targets=self.conversations,
            one_each=self.one_each,
            serial=self.serial,
        )

    def _templates(self) -> tuple[bytes, ...]:
        now_ms = time.time_ns() // 1_000_000
        if self.one_each:
            return (self._event(f"m{NUMBER}", str(now_ms), f"T@{MARK} {TEXT}", '"purpose":"customer"'),)
        name = f"v{NUMBER}"
        agent, customer = f'"participant_id":"{name}:a"', '"purpose":"customer"'
        return tuple(self._event(name, MARK, TEXT, author) for author in (agent, customer))

    @staticmethod
    def _event(conversation: str, at: str, text: str, author: str) -> bytes:
        """A message as a line of NDJSON. Not by an encoder: a mark's digits stand where a number does."""
        return (
            f'{{"id":"b{SERIAL}","type":"message.created","conversation_id":"{conversation}","at":{at},'
            f'"data":{{"message_id":"n{SERIAL}","text":"{text}",{author}}}}}\n'
        ).encode()

    def _head(self) -> bytes:
        """What goes before the lines: a `POST /v1/events` of its own for what is due together."""
        token = self._token("connector", "platform")
        return (
            f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/x-ndjson\r\nContent-Length: {LENGTH}\r\n\r\n"
        ).encode()

    def _token(self, role: str, sub: str) -> str:
        permissions = SUPERVISOR_PERMISSIONS if role == "supervisor" else ()
        return make_token(self.ingest.secret, role, sub, org=self.name, permissions=permissions)


class Hubs:
    """The ingesting node and its organizations; `measured` starts a node to measure."""

    def __init__(self, ingest: HubProcess, folder: Path, store_port: int) -> None:
        self._ingest = ingest
        self._folder = folder
        self._store_port = store_port
        self._organizations: dict[tuple[bool, int], Organization] = {}

    async def organization(self, one_each: bool, sockets: int) -> Organization:
        """The one for a view, or for so many monitors; begun at the first call."""
        conversations = sockets if one_each else CONVERSATIONS
        found = self._organizations.get((one_each, conversations))
        if found is None:
            name = f"{'tens' if one_each else 'views'}-{conversations}"
            found = Organization(self._ingest, name, one_each, conversations, self._folder / f"{name}.tokens")
            await found.begin()
            self._organizations[one_each, conversations] = found
        found.admit(sockets)
        return found

    @asynccontextmanager
    async def measured(self, core: int, tick_ms: int) -> AsyncIterator[HubProcess]:
        """
        A node that only follows, on that core.

        It is given time to say goodbye for its people: what it left to do would be done by the next round's node.
        """
        folder = self._folder / f"measured-{secrets.token_hex(4)}"
        async with node(folder, core, self._store_port, self._ingest.secret, tick_ms) as hub:
            yield hub
            hub.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await hub.process.wait()


@asynccontextmanager
async def hubs(folder: Path, core: int, store_port: int) -> AsyncIterator[Hubs]:
    """The ingesting node, on that core."""
    async with node(folder / "ingest", core, store_port, new_secret()) as ingest:
        yield Hubs(ingest, folder, store_port)
