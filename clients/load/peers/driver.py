"""The load client `wsload.c` as a child process: built, told what a server's language is, asked to measure."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from clients.load.peers.programs import BenchError, end_of, on_core, output_of

SOURCE: Final = Path(__file__).with_name("wsload.c")
NO_COMPILER: Final = "the load client needs a C compiler: apt-get install gcc"
OPENING_S: Final = 70.0
STOP_S: Final = 5.0
PATIENCE_S: Final = 15.0  # beyond what a command takes by itself
# Placeholders that the client fills in, and as many of its characters.
NUMBER: Final = "I" * 7
SERIAL: Final = "N" * 10
MARK: Final = "#" * 16
LENGTH: Final = "L" * 7
WHO: Final = "@TOKEN@"

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """
    What the load client says to a server, as placeholders and all.

    `steps` are (what to expect, what to send then), `reply` is (how a ping begins, what answers it), `mark` stands
    before an event's time; `templates` are the bytes that publish an event, used in turn, each for one round of the
    `targets`; events that are due at the same time go together, with `head` before them; `one_each` says that an event
    goes to one socket, the target's, not to all. `serial` numbers the events of this client from there on.
    """

    path: str = "/"
    header: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    reply: tuple[str, str] | None = None
    mark: str = "T@"
    tokens: Path | None = None
    head: bytes = b""
    templates: tuple[bytes, ...] = ()
    publish_port: int = 0
    targets: int = 1
    one_each: bool = False
    serial: int = 0

    def arguments(self, sockets: int, port: int) -> list[str]:
        """The client's command line but for its name."""
        given = ["--sockets", str(sockets), "--port", str(port), "--path", self.path, "--mark", self.mark]
        given += ["--publish-port", str(self.publish_port), "--targets", str(self.targets)]
        given += ["--one-each", str(int(self.one_each)), "--serial", str(self.serial)]
        if self.header:
            given += ["--header", self.header.encode().hex()]
        for step in self.steps:
            given += ["--step", _pair(step)]
        if self.reply:
            given += ["--reply", _pair(self.reply)]
        if self.tokens:
            given += ["--tokens", str(self.tokens)]
        if self.head:
            given += ["--publish-head", self.head.hex()]
        for template in self.templates:
            given += ["--publish", template.hex()]
        return given


def _pair(texts: tuple[str, str]) -> str:
    return ":".join(text.encode().hex() for text in texts)


async def build(scratch: Path) -> Path:
    """
    Compile the client into `scratch` unless it is there and newer than its source.

    Raises:
        BenchError: There is no compiler, or it refuses.
    """
    binary = scratch / "wsload"
    if binary.exists() and binary.stat().st_mtime > SOURCE.stat().st_mtime:
        return binary
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchError(NO_COMPILER)
    fresh = scratch / f"wsload.{os.getpid()}"
    await output_of(compiler, "-O2", "-Wall", "-o", str(fresh), str(SOURCE))
    fresh.replace(binary)
    return binary


class Client:
    """A running load client with its sockets open."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    async def tell(self, command: str, seconds: float) -> Answer:
        """
        Give a command that takes `seconds`, and wait for its answer.

        Raises:
            BenchError: The client ended, or says nothing.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self.answer(seconds + PATIENCE_S)

    async def answer(self, seconds: float) -> Answer:
        """The next line."""
        assert self._process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        if not line:
            raise BenchError(f"the load client said nothing; {self.complaints()}")
        found: Answer = orjson.loads(line)
        return found

    def complaints(self) -> str:
        """The end of what it said on standard error."""
        return end_of(self._errors)


@asynccontextmanager
async def client(binary: Path, speech: Speech, sockets: int, port: int, core: int, log: Path) -> AsyncIterator[Client]:
    """
    A load client with `sockets` sockets on `port`, each past its script; they are closed on the way out.

    Raises:
        BenchError: Not every socket came that far.
    """
    with on_core(core), log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            *speech.arguments(sockets, port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    try:
        found = Client(process, log)
        opened = await found.answer(OPENING_S)
        if opened["ready"] != sockets:
            raise BenchError(f"{opened['ready']} of {sockets} sockets were let in; {found.complaints()}")
        yield found
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write_eof()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
