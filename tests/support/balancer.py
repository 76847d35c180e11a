"""
A load balancer as operators have one: it asks `/readyz`, and gives a connection to the ready node that has fewest.

It runs in a process of its own, `python -m tests.support.balancer PORT...`: what it measures is the nodes' doing then, and
not that a test with a thousand clients gets its turn late.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import httpx

from tests.support.plain import plain_client
from tests.support.processes import ROOT, HubProcess

LOOK_S = 0.25
CLOSING = re.compile(rb'"event":"closing","data":\{"code":4501,[^}]*"retry_ms":(\d+)')


@dataclass(frozen=True, slots=True)
class Passed:
    """Monotonic times (seconds): of each connection to a node; and for which of them a node that ended asked its sockets."""

    accepted: tuple[float, ...]
    asked: tuple[float, ...]


class Balancer:
    """The process, as a test has it: `url` is where clients go."""

    def __init__(self, hubs: Sequence[HubProcess]) -> None:
        self.hubs = hubs
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        line = [sys.executable, "-m", __spec__.name, *(str(hub.port) for hub in self.hubs)]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def stop(self) -> Passed:
        """Close the listener and what it passed on; what it has seen."""
        assert self._process is not None
        out, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == 0
        seen = json.loads(out)
        return Passed(tuple(sorted(seen["accepted"])), tuple(sorted(seen["asked"])))


class _Running:
    """What runs in that process, until its standard input ends."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.accepted: list[float] = []
        self.asked: list[float] = []
        self._open = dict.fromkeys(ports, 0)
        self._ready: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with plain_client(timeout=2.0) as http:
            await self._look(http)
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
            print(server.sockets[0].getsockname()[1], flush=True)
            ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
            while not ended.done():
                await asyncio.wait([ended], timeout=LOOK_S)
                await self._look(http)  # never cancelled: httpx forgets a connection that has just been made, unclosed
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        print(json.dumps({"accepted": self.accepted, "asked": self.asked}))

    async def _look(self, http: httpx.AsyncClient) -> None:
        async def ready(port: int) -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            return False

        answers = await asyncio.gather(*map(ready, self._open))
        self._ready = [port for port, answer in zip(self._open, answers, strict=True) if answer]

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also where it was cancelled before it began

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in sorted(self._ready, key=self._open.__getitem__):
            self._open[port] += 1
            try:
                await self._to(port, reader, writer)
            except ConnectionError:
                continue  # gone since it was looked at
            finally:
                self._open[port] -= 1
            return

    async def _to(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        Pass everything on until both sides have ended.

        Raises:
            ConnectionError: That node doesn't listen.
        """
        there, back = await asyncio.open_connection("127.0.0.1", port)
        self.accepted.append(time.monotonic())
        try:
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
        finally:
            back.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                if found := CLOSING.search(
                    piece
                ):  # what a hub writes is in clear, and its last word comes in one piece
                    self.asked.append(time.monotonic() + int(found[1]) / 1000)
                writer.write(piece)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(_Running([int(port) for port in sys.argv[1:]]).run())
