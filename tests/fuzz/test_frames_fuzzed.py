"""
Frames that nobody sends on purpose, at real sessions over a real store, and bytes at the lean driver's parser.

Nothing may be uncaught: no failure in the log, nothing at the loop's exception handler, no answer and no close but those
that the protocol documents. A run prints its seed; SEED repeats it. SOAK_FRAMES and SOAK_BYTES say how much (`make fuzz`).
"""

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hub.app import running
from hub.domain.errors import CODES
from hub.edge.parts import Parts
from hub.edge.quotas import Quotas
from hub.edge.session import BaseSession
from hub.edge.socket import ENDPOINTS, Door
from hub.edge.transport import LeanSocket, Lobby
from hub.edge.turn import Packet
from hub.protocol.close import Close
from hub.settings import LIMITS, Settings, build
from tests.support.engines import Engine
from tests.support.fuzz import Grammar, wire_bytes
from tests.support.processes import CONFIG, SECRET
from tests.support.tokens import token

FRAMES = int(os.environ.get("SOAK_FRAMES", "20000"))
STREAMS = int(os.environ.get("SOAK_BYTES", "800"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
AT_ONCE = 10  # frames between two looks
BESIDE = 5  # attackers of each endpoint at once
ORG = "fuzz"
QUOTAS = [name for name in LIMITS if "_per_" in name and not name.startswith(("connections_", "subscriptions_per_s"))]
# Neither is what a client did wrong: the first is our bug, whatever it says.
BUG = "Something went wrong here"


class Wire:
    """The driver's side of a session: what was sent, and how it was closed."""

    def __init__(self, learn: Callable[[str], None]) -> None:
        self.learn = learn
        self.codes: Counter[str] = Counter()
        self.closed: int | None = None
        self.wrong: list[str] = []

    def write(self, packet: Packet) -> int:
        """Look at each object that leaves."""
        for one in packet.objects:
            thing = json.loads(one)
            error = thing.get("error")
            if error is not None:
                self.codes[error["code"]] += 1
                if error["code"] not in CODES or BUG in error["message"]:
                    self.wrong.append(one.decode())
            elif "ok" in thing:
                self.codes["ok"] += 1
            self.learn(one.decode())
        return 0

    def backlog(self) -> int:
        """Everything is taken at once."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        self.closed = code

    def abort(self) -> None:
        """Nothing to drop."""


@pytest_asyncio.fixture
async def parts(own_engine: Engine) -> AsyncIterator[Parts]:
    """A node on a store of its own, whose quotas stop nobody."""
    unlimited = {f"HUB_{name.upper()}": "1000000000" for name in QUOTAS}
    settings = build(CONFIG, "hub.toml", unlimited | {"HUB_TOKEN_SECRET": SECRET, "HUB_COMMANDS_BURST": "1000000000"})
    asyncio.get_running_loop().set_debug(False)  # ten times as many frames
    async with running(settings, f"unix://{own_engine.path}") as node:
        yield node


@pytest.fixture
def failures(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the log has of things that failed: anything with a traceback, and any error."""
    caplog.set_level(logging.INFO, "hub")

    def found() -> list[str]:
        records = [one for one in caplog.records if one.name.startswith("hub")]
        failed = [one for one in records if one.exc_info or one.levelno >= logging.ERROR]
        texts = [f"{one.getMessage()} {one.exc_text or one.exc_info or ''}" for one in failed]
        caplog.clear()
        return texts

    return found


class Attacker:
    """Sockets of one endpoint, one after another; some say hello, some don't."""

    def __init__(self, parts: Parts, path: str, seed: int) -> None:
        self.parts, self.path = parts, path
        self.chance = random.Random(seed)
        self.grammar = Grammar(path.rpartition("/")[2], self.chance)
        self.codes: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()
        self.frames = 0
        self.wire = Wire(self.grammar.learn)
        self.session: BaseSession | None = None

    def open(self) -> BaseSession:
        """Another socket."""
        self.finish()
        self.wire = Wire(self.grammar.learn)
        session = ENDPOINTS[self.path](self.parts, self.wire, "127.0.0.1")
        self.session = session
        if self.chance.random() < 0.9:
            role = self.path.rpartition("/")[2]
            sub = self.chance.choice(("ana", "bo", "max"))
            bearer = token(sub, role, ORG, conversation="cnv_own" if role == "customer" else None)
            session.on_text(json.dumps({"id": 1, "cmd": "hello", "token": bearer}))
        return session

    def finish(self) -> None:
        """The end of the present socket, by its peer."""
        assert self.wire.wrong == [], f"seed {SEED}: {self.wire.wrong[:3]}"
        self.codes += self.wire.codes
        if self.wire.closed is not None:
            self.closes[self.wire.closed] += 1
        if self.session is not None:
            self.session.on_close(self.chance.choice((1000, 1001, 1006)))

    async def attack(self, frames: int) -> None:
        """Send so many frames."""
        while self.frames < frames:
            session = self.open()
            for number in range(self.chance.choice((1, 40, 400))):
                session.on_text(self.grammar.frame())
                self.frames += 1
                if number % AT_ONCE == 0:
                    await self.settled(session)
                if self.wire.closed is not None:
                    break
            await self.settled(session)
        self.finish()

    async def settled(self, session: BaseSession) -> None:
        """Wait until its commands were carried out: what it queues is bounded, and would be refused."""
        async with asyncio.timeout(30):
            while session._worker is not None and not session.closed:  # noqa: ASYNC110 - in our own loop's turns
                await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_frames_of_a_grammar(parts: Parts, failures: Callable[[], list[str]]) -> None:
    """Whatever is said at the four endpoints: answered or closed as documented, and the node goes on."""
    print(f"SEED={SEED} SOAK_FRAMES={FRAMES}")
    uncaught: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(str(context)))
    attackers = [Attacker(parts, path, SEED + number) for number, path in enumerate([*ENDPOINTS] * BESIDE)]
    share, done = FRAMES // len(attackers), 0
    while done < share:
        done = min(share, done + 50_000)
        await asyncio.gather(*(attacker.attack(done) for attacker in attackers))
        assert uncaught == [], f"SEED={SEED}: {uncaught[:3]}"
        assert failures() == [], f"SEED={SEED}"
    await parts.node.settle(seconds=5.0)
    assert (uncaught, failures()) == ([], []), f"SEED={SEED}"
    codes, closes = Counter[str](), Counter[int]()
    for attacker in attackers:
        codes += attacker.codes
        closes += attacker.closes
    print(f"{FRAMES} frames: {dict(codes.most_common())}, closed with {dict(closes)}")
    assert set(codes) <= {"ok", *CODES}
    assert set(closes) <= set(map(int, Close))
    assert codes["ok"] > FRAMES // 100, "nearly nothing got through: the grammar is of no use"
    assert codes["schema_invalid"] > FRAMES // 100
    assert not parts.node.sessions


# -- bytes


class Pipe:
    """A transport without a network: what was written, and whether it has been closed."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.closing, "written after the end"
        self.written += data

    def get_write_buffer_size(self) -> int:
        """Everything is taken."""
        return 0

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def is_closing(self) -> bool:
        """After `close`, `abort` or `write_eof`."""
        return self.closing

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """Our end."""
        self.closing = True

    def close(self) -> None:
        """Our end."""
        self.closing = True

    abort = close


class Ear:
    """A session that writes down what it is told."""

    def __init__(self, parts: Any, socket: Any, address: str) -> None:
        self.heard: list[str | None] = []
        self.code: int | None = None
        parts.ears.append(self)

    def on_text(self, text: str) -> None:
        """A text."""
        self.heard.append(text)

    def on_binary(self) -> None:
        """Something binary."""
        self.heard.append(None)

    def on_close(self, code: int) -> None:
        """The end."""
        self.code = code

    def close(self, code: int, reason: str) -> None:
        """Nobody asks for it here."""
        raise AssertionError("closed by the door")


REQUEST = (
    b"GET /v1/ear HTTP/1.1\r\nhost: hub\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BYTES_MAX = 65_536
# What was found once: a reserved opcode was refused only with the rest of its header, which never had to come.
FOUND = [b"\xf3\xff", b"\x8f\xfe", b"\x83\xff\x00"]


def by_library(stream: bytes) -> tuple[list[str | None], bytes, int | None]:
    """What the websockets library makes of the same bytes: messages, what it answers, and the code the session is told."""
    core = ServerProtocol(state=OPEN, max_size=BYTES_MAX)
    core.receive_data(stream)
    heard: list[str | None] = []
    parts: list[Frame] = []
    answer = b""
    for frame in core.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts = [frame] if frame.opcode is not Opcode.CONT else [*parts, frame]
            if frame.fin:
                whole = b"".join(bytes(part.data) for part in parts)
                if parts[0].opcode is Opcode.BINARY:
                    heard.append(None)
                else:
                    try:
                        heard.append(whole.decode())
                    except UnicodeDecodeError:
                        return heard, b"not UTF-8", 1007
    answer = b"".join(core.data_to_send())
    code = None
    if core.state is not OPEN:
        failed = core.parser_exc is not None or core.close_rcvd is None
        close = core.close_sent if failed else core.close_rcvd
        code = close.code if close is not None and close.code != 1005 else 1006
    return heard, answer, code


def by_us(lobby: Lobby, stream: bytes, chance: random.Random) -> tuple[list[str | None], bytes, int | None]:
    """The same by a lean socket, in pieces of any size."""
    pipe, socket = Pipe(), LeanSocket(lobby)
    socket.connection_made(cast(Any, pipe))
    socket.data_received(REQUEST)
    head, _, _ = bytes(pipe.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    ear: Ear = cast(Any, lobby.door.parts).ears.pop()
    at = 0
    while at < len(stream):
        size = chance.choice((1, 2, 7, 100, 70_000))
        socket.data_received(stream[at : at + size])
        at += size
    heard, code = list(ear.heard), ear.code
    answer = bytes(pipe.written[len(head) + 4 :])
    socket.connection_lost(None)
    assert ear.code is not None, "told of its end"
    return heard, answer, code


async def test_bytes_at_the_frame_parser(caplog: pytest.LogCaptureFixture) -> None:
    """Any bytes, cut anywhere: the lean driver hears, answers and closes as the websockets library does."""
    print(f"SEED={SEED} SOAK_BYTES={STREAMS}")
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    uncaught: list[str] = []
    loop.set_exception_handler(lambda _, context: uncaught.append(str(context)))
    settings = Settings(handshakes_per_address_per_s=0, handshakes_per_node_per_s=0)
    parts: Any = SimpleNamespace(
        settings=settings, node=SimpleNamespace(draining=False), addresses=Counter(), quotas=Quotas(settings), ears=[]
    )
    lobby = Lobby(Door(parts, {"/v1/ear": cast(Any, Ear)}), BYTES_MAX)
    codes: Counter[int | None] = Counter()
    for number in range(STREAMS):
        chance = random.Random(SEED * 1_000_003 + number)
        stream = FOUND[number] if number < len(FOUND) else wire_bytes(chance)
        wanted = by_library(stream)
        got = by_us(lobby, stream, chance)
        codes[got[2]] += 1
        if wanted[1] == b"not UTF-8":
            assert (got[0], got[2]) == (wanted[0], wanted[2]), f"SEED={SEED}, stream {number}: {stream!r}"
            continue
        assert got == wanted, f"SEED={SEED}, stream {number}: {stream[:400]!r}"
        if number % 500 == 0:
            await asyncio.sleep(0)
    print(f"{STREAMS} streams, codes {dict(codes)}")
    assert {None, 1002, 1006, 1007, 1009} <= set(codes)
    assert not parts.addresses
    assert uncaught == []
    assert [one for one in caplog.records if one.exc_info] == []
