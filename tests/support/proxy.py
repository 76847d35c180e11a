"""What stands between two ends of a connection and lets it down: silently, slowly, with a word, with a reset, in time."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable

PIECE_BYTES = 1 << 20
NO_LINGER = struct.pack("ii", 1, 0)  # what is unsent is thrown away, and the peer gets an RST


class Pair:
    """One connection through the proxy: the caller's side and the target's."""

    def __init__(self, caller: asyncio.StreamWriter, target: asyncio.StreamWriter) -> None:
        self.caller = caller
        self.target = target
        self.silent = False
        self.lost: list[bytes] = []  # what the target wrote since
        self.heard_at = 0.0  # loop time at which the caller's last piece was passed on
        self.ended = 0  # how many of its two sides have said their last word

    @property
    def live(self) -> bool:
        """True while both of its sides stand, and are not kept apart."""
        closing = self.caller.transport.is_closing() or self.target.transport.is_closing()
        return not (self.silent or closing or self.ended)

    def reset(self) -> None:
        """End it with an RST to either side."""
        for writer in (self.caller, self.target):
            if not writer.transport.is_closing():
                line: socket.socket = writer.get_extra_info("socket")
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()


Give = Callable[[Pair, bytes], Awaitable[bool]]


class Proxy:
    """
    A TCP proxy before one port of the loopback.

    `half_open` lets nothing through the present connections any more, in either direction, not even their end; new ones
    work, and go wherever `target` is by then. `reset` ends the present ones with an RST, `drop` with a FIN, each to
    either side. `delay` makes every piece wait. While `refusing`, new ones are reset at once.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.refusing = False
        self.pairs: list[Pair] = []
        self._pause_s: Callable[[], float] | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What a hub is given as its store's address."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def sockets(self) -> str:
        """What a client is given as a hub's address."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> "Proxy":
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in self.pairs:
            for writer in (pair.caller, pair.target):
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    def half_open(self) -> list[Pair]:
        """Nothing more passes on the present connections, which are these."""
        live = [pair for pair in self.pairs if pair.live]
        for pair in live:
            pair.silent = True
        return live

    def reset(self) -> None:
        """End the present connections with an RST."""
        for pair in self.pairs:
            pair.reset()

    def drop(self) -> None:
        """End the present connections as either side would who closes without a word of its own; none that is silent."""
        for pair in self.pairs:
            if pair.live:
                pair.caller.close()
                pair.target.close()

    def delay(self, seconds: float, jitter: float = 0.0, chance: random.Random | None = None) -> None:
        """
        Every piece waits that long from now on, up to `jitter` seconds more by `chance`; 0 ends it.

        Pieces of one direction stay in order. What waits when its connection is reset or goes silent is lost.
        """
        chance = chance or random.Random(0)
        self._pause_s = (lambda: seconds + chance.uniform(0, jitter)) if seconds or jitter else None

    async def up(self, pair: Pair, piece: bytes) -> bool:
        """A piece from the caller: passed on; False where nothing more shall be."""
        if not pair.silent:
            pair.heard_at = asyncio.get_running_loop().time()
            pair.target.write(piece)
            await pair.target.drain()
        return True

    async def down(self, pair: Pair, piece: bytes) -> bool:
        """A piece from the target, likewise."""
        if pair.silent:
            pair.lost.append(piece)
        else:
            pair.caller.write(piece)
            await pair.caller.drain()
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            Pair(writer, writer).reset()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(writer, back)
        self.pairs.append(pair)
        for work in (self._pass(pair, reader, self.up, back), self._pass(pair, there, self.down, writer)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, pair: Pair, reader: asyncio.StreamReader, give: Give, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(PIECE_BYTES):
                if self._pause_s is not None:
                    await asyncio.sleep(self._pause_s())
                if not await give(pair, piece):
                    return
        if not pair.silent:
            to.close()
        self._end(pair)

    def _end(self, pair: Pair) -> None:
        """One side has said its last word; a connection of which both have is forgotten."""
        pair.ended += 1
        if pair.ended == 2:
            for writer in (pair.caller, pair.target):
                writer.close()
            self.pairs.remove(pair)


class Relay(Proxy):
    """
    A proxy before a store that counts what the hub sends and can act at the n-th piece.

    `at(n, act, before=True)` calls `act` once when the n-th piece from now arrives from the hub: before it is passed on
    (the store never sees it), or after the store answered it but before the hub gets the answer. Nothing more is passed
    on either way afterwards.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.pieces = 0
        self._at: tuple[int, Callable[[], object], bool] | None = None
        self._acted = False
        self._answer_due = False

    def at(self, piece: int, act: Callable[[], object], *, before: bool) -> None:
        """Call `act` at the `piece`-th piece from now."""
        self._at = (self.pieces + piece, act, before)

    async def up(self, pair: Pair, piece: bytes) -> bool:
        """Counted; at the n-th one it acts, or will when its answer comes."""
        if self._acted:
            return False
        self.pieces += 1
        if self._at and self.pieces == self._at[0]:
            if self._at[2]:
                self._act()
                return False
            self._answer_due = True
        return await super().up(pair, piece)

    async def down(self, pair: Pair, piece: bytes) -> bool:
        """Passed on, unless it is the answer that `at` waits for, or comes after it."""
        if self._answer_due and not self._acted:
            self._act()
        return not self._acted and await super().down(pair, piece)

    def _act(self) -> None:
        assert self._at is not None
        self._acted = True
        self._at[1]()
