"""A load balancer as operators have one: it asks `/readyz`, and gives each connection to the next node that is ready."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

import httpx

from tests.support.plain import plain_client
from tests.support.processes import HubProcess

LOOK_S = 0.1


class Balancer:
    """In front of several nodes; `accepted` has the loop's time of each connection that it passed on."""

    def __init__(self, hubs: Sequence[HubProcess]) -> None:
        self.hubs = hubs
        self.accepted: list[float] = []
        self.port = 0
        self._turns = itertools.count()
        self._ready: list[HubProcess] = []
        self._server: asyncio.Server | None = None
        self._looks: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> "Balancer":
        """Listen on a free port, and look at the nodes from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        await self.look()
        self._looks = asyncio.create_task(self._looking())
        return self

    async def stop(self) -> None:
        """Close the listener and what it passed on."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in (self._looks, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> list[HubProcess]:
        """The nodes that say that they are ready."""
        async with plain_client(timeout=2.0) as http:

            async def ready(hub: HubProcess) -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    return (await http.get(f"{hub.url}/readyz")).status_code == 200
                return False

            answers = await asyncio.gather(*map(ready, self.hubs))
        self._ready = [hub for hub, answer in zip(self.hubs, answers, strict=True) if answer]
        return self._ready

    async def _looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also where it was cancelled before it began

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(len(self._ready)):
            hub = self._ready[next(self._turns) % len(self._ready)]
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", hub.port)
                break
        else:
            return
        self.accepted.append(asyncio.get_running_loop().time())
        try:
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
        finally:
            back.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()
