"""A scripted hub: a real WebSocket server on loopback that says what a test tells it to, one script per connection."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed

from clients import Backoff, Options

FAST = Options(backoff=Backoff(base_ms=0, cap_ms=0), open_timeout_s=5, command_timeout_s=5, seed=1)


class Line:
    """One connection as the scripted hub sees it: what came, and words for what to send."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.hello_seen: dict[str, Any] = {}

    async def receive(self) -> dict[str, Any]:
        """The next object from the client."""
        taken: dict[str, Any] = json.loads(await self.socket.recv())
        return taken

    async def send(self, *objects: dict[str, Any]) -> None:
        """Objects in one frame."""
        await self.socket.send("\n".join(json.dumps(each) for each in objects))

    async def hello(self, session: str = "ses_1", *, resumed: bool = False, **more: Any) -> dict[str, Any]:
        """Take hello and answer it with ok; returns what came."""
        self.hello_seen = await self.receive()
        assert self.hello_seen["cmd"] == "hello"
        ok = {"session": session, "secret": f"of-{session}", "resumed": resumed, "user": {"id": "ana", "name": "Ana"}}
        await self.send({"id": self.hello_seen["id"], "ok": {**ok, "heartbeat_ms": 25000, **more}})
        return self.hello_seen

    async def expect(self, cmd: str) -> dict[str, Any]:
        """The next object, which must be this command."""
        taken = await self.receive()
        assert taken["cmd"] == cmd, taken
        return taken

    async def close(self, code: int, **why: Any) -> None:
        """Say why, then close with the code."""
        await self.send({"event": "closing", "at": 1, "data": {"code": code, "reason": "test", **why}})
        await self.socket.close(code)

    def cut(self) -> None:
        """Break the line without a word."""
        self.socket.transport.abort()

    async def stay(self) -> None:
        """Keep the line until the client ends it."""
        await self.socket.wait_closed()


Script = Callable[[Line], Awaitable[None]]


class ScriptedHub:
    """Plays one script per connection, in order; a failed script fails the test that calls `check`."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.lines: list[Line] = []
        self.failures: list[BaseException] = []
        self.paths: list[str] = []
        self.server: Server | None = None

    @property
    def url(self) -> str:
        """The hub's address."""
        assert self.server is not None
        return f"http://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    def play(self, *scripts: Script) -> str:
        """Set the scripts of the next connections; returns the address."""
        self.scripts += scripts
        return self.url

    async def handle(self, socket: ServerConnection) -> None:
        """One connection."""
        line = Line(socket)
        self.lines.append(line)
        assert socket.request is not None
        self.paths.append(socket.request.path)
        try:
            await self.scripts.pop(0)(line)
        except ConnectionClosed:
            return
        except (AssertionError, LookupError, TypeError) as failure:
            self.failures.append(failure)
            await socket.close(4400)

    def check(self) -> None:
        """Raise the first failure of a script."""
        if self.failures:
            raise self.failures[0]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is any expression of a test
            await asyncio.sleep(0)
