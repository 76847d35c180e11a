"""
What a socket says to raw bytes (RFC 6455), whichever driver reads them: frames, closes, ends, and the handshake.

Each row of the tables is sent to real servers with a tiny session behind the same door: the lean driver on both event loops,
and the plain ASGI driver. Rows are sent as they stand and byte by byte, because a parser is wrong at the seams first. They
are written by hand, not by a client library, which can't be made to send most of them.
"""

import asyncio
import contextlib
import gc
import importlib.util
import inspect
import logging
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hub.app import make_server
from hub.edge.parts import Parts
from hub.edge.quotas import Quotas
from hub.edge.session import Socket
from hub.edge.socket import Door, serve_socket
from hub.edge.transport import Core, HttpFront, LeanSocket, Lobby
from hub.edge.turn import Packet
from hub.settings import Settings, SettingsError, bind, build

PATIENCE_S: Final = 5.0
BYTES_MAX: Final = 1 << 20
BYTEWISE_MAX: Final = 400
MASK: Final = b"\x11\x22\x33\x44"
TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


# -- the session -----------------------------------------------------------------------------------------------------


def apart(*frames: bytes) -> Packet:
    """Text frames in one write, none joined to another."""
    return Packet(frames, 0)


class Echo:
    """Says each text back on the next turn of the loop, as sessions do; `got` is what it was told, the code at last."""

    def __init__(self, parts: Parts, socket: Socket, address: str) -> None:
        self.socket = socket
        self.address = address
        self.got: list[str | int] = []
        self.loop = asyncio.get_running_loop()
        cast(Any, parts).sessions.append(self)

    def on_text(self, text: str) -> None:
        """Some texts are orders."""
        self.got.append(text if len(text) < 100 else f"{len(text)} characters")
        order, _, rest = text.partition(" ")
        if order == "raise":
            raise RuntimeError("a session that fails")
        if order == "close":
            code, _, reason = rest.partition(" ")
            self.socket.write(apart(b"bye"))
            self.socket.close(int(code), reason)
            self.socket.write(apart(b"never"))
        elif order == "abort":
            self.socket.abort()
        else:
            frames = [b"x" * int(size) for size in rest.split()] or [text.encode()]
            self.loop.call_soon(self.socket.write, apart(*frames))

    def on_binary(self) -> None:
        """A binary message, however many frames it came in."""
        self.got.append("binary")
        self.loop.call_soon(self.socket.write, apart(b"binary"))

    def on_close(self, code: int) -> None:
        """The end."""
        self.got.append(code)

    def close(self, code: int, reason: str) -> None:
        """As the door asks for."""
        self.socket.close(code, reason)


def broken(parts: Parts, socket: Socket, address: str) -> Echo:
    """A session that can't even be made."""
    raise RuntimeError("no session")


# -- the servers -----------------------------------------------------------------------------------------------------


class Server:
    """One uvicorn in a thread of its own; `failures` is what reached its loop's exception handler."""

    def __init__(self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.name = name
        self.lean = name.startswith("lean")
        self.failures: list[str] = []
        self.sessions: list[Echo] = []
        settings = Settings(
            origins=("https://desk.example.com",),
            sockets_per_address=3,
            trusted_proxies=("127.0.0.1",),
            handshakes_per_address_per_s=0,  # thousands are made here
            handshakes_per_node_per_s=0,
        )
        node = SimpleNamespace(draining=False)
        self.parts: Any = SimpleNamespace(
            settings=settings, node=node, addresses=Counter(), sessions=self.sessions, quotas=Quotas(settings)
        )
        self.door = Door(cast(Parts, self.parts), {"/v1/echo": cast(Any, Echo), "/v1/broken": cast(Any, broken)})
        self._factory = loop_factory
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> "Server":
        """Returns when it takes connections."""
        self._thread.start()
        assert self._started.wait(PATIENCE_S), "the server didn't start"
        return self

    def stop(self) -> None:
        """Returns when it has ended."""
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(debug=True, loop_factory=self._factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.failures.append(str(context)))
        listening = bind("127.0.0.1", 0)
        self.port = int(listening.getsockname()[1])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self._app(scope, receive, send)

        self.server: uvicorn.Server = make_server(app, self.door if self.lean else None)
        serving = asyncio.create_task(self.server.serve(sockets=[listening]))
        while not self.server.started:  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.001)
        self._started.set()
        await serving

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await serve_socket(self.door, scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def session(self) -> Echo:
        """The one behind the last connection that was accepted."""
        self.eventually(lambda: bool(self.sessions), "a session")
        return self.sessions.pop()

    def turn(self) -> None:
        """Return when the loop has read what was sent by now: two turns, since the first one may be under way."""
        for _ in range(2):
            turned = threading.Event()
            self.loop.call_soon_threadsafe(turned.set)
            assert turned.wait(PATIENCE_S), "the loop stands still"

    def eventually(self, condition: Callable[[], bool], wanted: str) -> None:
        """Turn the loop until it holds."""
        ends = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < ends, f"{self.name}: not {wanted}"
            self.turn()


def _servers() -> Iterator[Server]:
    yield Server("lean, asyncio", asyncio.SelectorEventLoop)
    yield Server("asgi, asyncio", asyncio.SelectorEventLoop)
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        yield Server("lean, uvloop", uvloop.new_event_loop)
        yield Server("asgi, uvloop", uvloop.new_event_loop)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """All of them, started."""
    all_servers = [server.start() for server in _servers()]
    yield all_servers
    for server in all_servers:
        server.stop()


# -- bytes -----------------------------------------------------------------------------------------------------------


def frame(
    opcode: int,
    data: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    form: int = 0,
    size: int | None = None,
) -> bytes:
    """A client's frame; `form` 2 or 8: so many bytes of length, needed or not; `size`: another length than the true one."""
    payload = data.encode() if isinstance(data, str) else data
    size = len(payload) if size is None else size
    masked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 8 or (not form and size > 65_535):
        head += bytes([masked | 127]) + struct.pack("!Q", size)
    elif form == 2 or (not form and size > 125):
        head += bytes([masked | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked | size])
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


def text(data: bytes | str, **options: Any) -> bytes:
    """A text frame."""
    return frame(TEXT, data, **options)


def part(opcode: int, data: bytes | str = b"") -> bytes:
    """A fragment that isn't the last."""
    return frame(opcode, data, fin=False)


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


def said(data: bytes | str, opcode: int = TEXT) -> bytes:
    """A frame as the server writes it."""
    return frame(opcode, data, mask=None)


def pong(data: bytes = b"") -> bytes:
    """The server's answer to a ping."""
    return said(data, PONG)


EOF, RESET = "the client shuts its side down for writing", "the client resets the connection"
Step = bytes | int | str  # bytes to send; a number of bytes to wait for; EOF; RESET


@dataclass(frozen=True)
class Row:
    """
    `steps` after the handshake; `gets` before the close; `close`: the server's code (a whole frame where it has no code,
    0: none, the connection just ends; None: it stays open, and the test closes with 1000). `told` to the session, then
    `code` (default: `close`). `apart` is what is got where the row is sent byte by byte: what is answered on the next turn
    comes before what follows. `asgi_told` is what the plain driver's session is told, where `why` says why it differs.
    """

    name: str
    steps: Sequence[Step]
    gets: Sequence[bytes] = ()
    close: int | bytes | None = None
    told: Sequence[str] = ()
    code: int | None = None
    apart: Sequence[bytes] | None = None
    asgi_told: Sequence[str] | None = None
    why: str = ""


A, SAID_A = text("a"), said("a")
BIG, MAX = "x" * 65_536, "x" * BYTES_MAX


def echo(name: str, sent: bytes, payload: str = "a") -> Row:
    """A message that is understood."""
    shown = payload if len(payload) < 100 else f"{len(payload)} characters"
    return Row(name, [sent], [said(payload)], told=[shown])


def bad(name: str, sent: bytes, code: int = 1002) -> Row:
    """Bytes for which the connection is failed."""
    return Row(name, [sent], close=code)


def _size_rows() -> Iterator[Row]:
    for size in (0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65_534, 65_535, 65_536, 65_537, BYTES_MAX - 1, BYTES_MAX):
        yield echo(f"text of {size} bytes", text("x" * size), "x" * size)
    for size in (0, 1, 125, 126, 65_535):
        yield echo(f"text of {size} bytes, length in 8", text("x" * size, form=8), "x" * size)
    for size in (0, 1, 125):
        yield echo(f"text of {size} bytes, length in 2", text("x" * size, form=2), "x" * size)
    for size in (BYTES_MAX + 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        yield bad(f"text of {size} bytes, header alone", text(b"", size=size, form=8), 1009)
    yield bad("ping of 2^63 bytes, header alone", frame(PING, size=1 << 63, form=8), 1009)
    yield bad("binary of 2^40 bytes, header alone", frame(BINARY, size=1 << 40, form=8), 1009)
    yield bad("continuation of 2^40 bytes, nothing begun", frame(MORE, size=1 << 40, form=8), 1009)
    yield Row("text too big behind a text", [A, 3, text(b"", size=1 << 40, form=8)], [SAID_A], 1009, ["a"])
    half = BYTES_MAX // 2
    yield Row(
        "fragments as big as allowed",
        [part(TEXT, MAX[:half]), frame(MORE, MAX[half:])],
        [said(MAX)],
        told=[f"{BYTES_MAX} characters"],
    )
    yield bad("fragments too big together", part(TEXT, MAX[:half]) + frame(MORE, size=half + 1, form=8), 1009)
    yield bad("a ping that doesn't fit beside fragments", part(TEXT, MAX) + frame(PING, "x"), 1009)
    yield Row("many messages of 64 KiB", [text(BIG)] * 8, [said(BIG)] * 8, told=["65536 characters"] * 8)


def _fragment_rows() -> Iterator[Row]:
    yield echo("two fragments", part(TEXT, "a") + frame(MORE, "b"), "ab")
    yield echo("three fragments", part(TEXT, "a") + part(MORE, "b") + frame(MORE, "c"), "abc")
    yield echo("fifty fragments", part(TEXT, "a") + part(MORE, "b") * 48 + frame(MORE, "c"), "a" + "b" * 48 + "c")
    yield echo("an empty first fragment", part(TEXT) + frame(MORE, "a"))
    yield echo("an empty last fragment", part(TEXT, "a") + frame(MORE))
    yield echo("empty fragments between", part(TEXT, "a") + part(MORE) * 9 + frame(MORE, "b"), "ab")
    yield echo("nothing but empty fragments", part(TEXT) + part(MORE) + frame(MORE), "")
    yield echo("fragments of unneeded lengths", part(TEXT, "a") + frame(MORE, "b", form=8), "ab")
    yield Row(
        "fragments, then a whole text",
        [part(TEXT, "a") + frame(MORE, "b"), 4, A],
        [said("ab"), SAID_A],
        told=["ab", "a"],
    )
    yield Row("two fragmented texts", [(part(TEXT, "a") + frame(MORE, "b")) * 2], [said("ab")] * 2, told=["ab"] * 2)
    yield Row(
        "a ping amid fragments",
        [part(TEXT, "a") + frame(PING, "p") + frame(MORE, "b")],
        [pong(b"p"), said("ab")],
        told=["ab"],
    )
    yield Row(
        "many pings amid fragments",
        [part(TEXT, "a") + frame(PING, "p") * 5 + part(MORE, "b") + frame(PING) + frame(MORE, "c")],
        [pong(b"p")] * 5 + [pong(), said("abc")],
        told=["abc"],
    )
    yield echo("a pong amid fragments", part(TEXT, "a") + frame(PONG, "p") + frame(MORE, "b"), "ab")
    yield bad("a continuation alone", frame(MORE, "a"))
    yield bad("a continuation alone that isn't the last", part(MORE, "a"))
    yield bad("an empty continuation alone", frame(MORE))
    yield Row("a continuation after a whole text", [A, 3, frame(MORE, "b")], [SAID_A], 1002, ["a"])
    yield Row(
        "a continuation after the last fragment",
        [part(TEXT, "a") + frame(MORE, "b"), 4, frame(MORE, "c")],
        [said("ab")],
        1002,
        ["ab"],
    )
    yield bad("a new text amid fragments", part(TEXT, "a") + A)
    yield bad("a new fragmented text amid fragments", part(TEXT, "a") + part(TEXT, "b"))
    yield bad("a binary amid fragments of text", part(TEXT, "a") + frame(BINARY, "b"))
    yield bad("a text amid fragments of binary", part(BINARY, "a") + A)
    yield bad("a close amid fragments", part(TEXT, "a") + close(1000))
    yield bad("a new text amid empty fragments", part(TEXT) + A)


def _header_rows() -> Iterator[Row]:
    yield bad("unmasked text", text("a", mask=None))
    yield bad("unmasked text, its header alone", b"\x81\x0b")
    yield bad("unmasked long text, two bytes of it", b"\x81\x7f")
    yield bad("unmasked ping", frame(PING, mask=None))
    yield bad("unmasked close", frame(CLOSE, b"\x03\xe8", mask=None))
    yield bad("unmasked fragment", frame(TEXT, "a", fin=False, mask=None))
    yield Row("unmasked after a text", [A, 3, text("b", mask=None)], [SAID_A], 1002, ["a"])
    yield echo("a mask of zeros", text("abcde", mask=bytes(4)), "abcde")
    yield echo("a mask of ones", text("abcde", mask=b"\xff" * 4), "abcde")
    yield echo("a mask that looks like a frame", text("abcde", mask=b"\x81\x82\x88\x80"), "abcde")
    for name, rsv in (("1", 4), ("2", 2), ("3", 1), ("1 to 3", 7)):
        yield bad(f"reserved bit {name} on a text", text("a", rsv=rsv))
    yield bad("reserved bit 1 on a ping", frame(PING, rsv=4))
    yield bad("reserved bit 3 on a pong", frame(PONG, rsv=1))
    yield bad("reserved bit 2 on a close", frame(CLOSE, b"\x03\xe8", rsv=2))
    yield bad("reserved bit 1 on a continuation", part(TEXT, "a") + frame(MORE, "b", rsv=4))
    yield bad("reserved bit 1 on a binary", frame(BINARY, "a", rsv=4))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield bad(f"opcode {opcode}", frame(opcode, "a"))
        yield bad(f"opcode {opcode}, its header alone", frame(opcode, size=100)[:2])
    yield bad("an opcode amid fragments", part(TEXT, "a") + frame(3, "b"))
    yield Row(
        "a bad frame behind a text, in one segment",
        [A + frame(3)],
        close=1002,
        told=["a"],
        apart=[SAID_A],
        asgi_told=[],
        why="uvicorn looks for the error before it hands on what was read with it",
    )


def _control_rows() -> Iterator[Row]:
    for size in (0, 1, 4, 124, 125):
        yield Row(f"a ping of {size} bytes", [frame(PING, b"\xff" * size)], [pong(b"\xff" * size)])
    yield Row("a ping of an unneeded length", [frame(PING, "p", form=2)], [pong(b"p")])
    yield Row(
        "three pings", [frame(PING, "1") + frame(PING, "2") + frame(PING, "3")], [pong(b"1"), pong(b"2"), pong(b"3")]
    )
    yield Row("a ping before a text", [frame(PING, "p") + A], [pong(b"p"), SAID_A], told=["a"])
    yield Row(
        "a ping behind a text, in one segment",
        [A + frame(PING, "p")],
        [pong(b"p"), SAID_A],
        told=["a"],
        apart=[SAID_A, pong(b"p")],
    )
    yield bad("a ping of 126 bytes", frame(PING, "x" * 126))
    yield bad("a pong of 126 bytes", frame(PONG, "x" * 126))
    yield bad("a close of 126 bytes", close(1000, b"x" * 124))
    yield bad("a fragmented ping", part(PING, "p"))
    yield bad("a fragmented pong", part(PONG, "p"))
    yield bad("a fragmented close", part(CLOSE, b"\x03\xe8"))
    yield bad("a fragmented ping amid fragments", part(TEXT, "a") + part(PING))
    yield echo("an unasked pong, then a text", frame(PONG, "p") + A)
    yield echo("an empty pong, then a text", frame(PONG) + A)
    yield echo("a pong of 125 bytes, then a text", frame(PONG, "p" * 125) + A)
    yield Row("nothing but pongs", [frame(PONG, "p") * 20])


def _unicode_rows() -> Iterator[Row]:
    euro, clef = "€".encode(), "\U0001d11e".encode()
    for name, payload in (
        ("two bytes", "ä"),
        ("three", "€"),
        ("four", "\U0001d11e"),
        ("the last one", "\U0010ffff"),
        ("a non-character", "\ufffe"),
        ("NUL", "a\0b"),
        ("a byte order mark", "\ufeffa"),
        ("many", "ä€\U0001d11e" * 12),
    ):
        yield echo(f"characters: {name}", text(payload), payload)
    for at in (1, 2):
        yield echo(f"three bytes cut at {at} by fragments", part(TEXT, euro[:at]) + frame(MORE, euro[at:]), "€")
    for at in (1, 2, 3):
        yield echo(f"four bytes cut at {at} by fragments", part(TEXT, clef[:at]) + frame(MORE, clef[at:]), "\U0001d11e")
    yield echo(
        "a fragment for each byte",
        part(TEXT, clef[:1]) + part(MORE, clef[1:2]) + part(MORE, clef[2:3]) + frame(MORE, clef[3:]),
        "\U0001d11e",
    )
    for name, broken_text in (
        ("0xff", b"\xff"),
        ("a continuation byte", b"\x80"),
        ("half a character", euro[:2]),
        ("a character, then half of one", euro + clef[:3]),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("overlong in 2", b"\xc0\xaf"),
        ("overlong in 3", b"\xe0\x80\xaf"),
        ("overlong in 4", b"\xf0\x80\x80\xaf"),
        ("overlong NUL", b"\xc0\x80"),
        ("above the last", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("latin-1", b"Gr\xfc\xdfe"),
    ):
        yield bad(f"not UTF-8: {name}", text(broken_text), 1007)
        fragments = part(TEXT, broken_text[:1]) + frame(MORE, broken_text[1:])
        yield bad(f"not UTF-8, fragmented: {name}", fragments, 1007)
    yield Row("not UTF-8 behind a text", [A, 3, text(b"\xff")], [SAID_A], 1007, ["a"])


def _binary_rows() -> Iterator[Row]:
    yield Row("a binary", [frame(BINARY, b"\0\xff")], [said("binary")], told=["binary"])
    yield Row("an empty binary", [frame(BINARY)], [said("binary")], told=["binary"])
    yield Row("a binary of 64 KiB", [frame(BINARY, BIG)], [said("binary")], told=["binary"])
    yield Row(
        "a fragmented binary",
        [part(BINARY, b"\xff") + part(MORE) + frame(MORE, "a")],
        [said("binary")],
        told=["binary"],
    )
    yield Row("a binary, then a text", [frame(BINARY, "b"), 8, A], [said("binary"), SAID_A], told=["binary", "a"])


def _close_rows() -> Iterator[Row]:
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4400, 4999):
        yield Row(f"close {code}", [close(code)], close=code)
    reason = "vielleicht später".encode()
    yield Row("close with a reason", [close(1000, reason)], close=said(b"\x03\xe8" + reason, CLOSE), code=1000)
    longest = b"x" * 123
    yield Row(
        "close with the longest reason", [close(4000, longest)], close=said(b"\x0f\xa0" + longest, CLOSE), code=4000
    )
    yield Row("close without a code", [frame(CLOSE)], close=said(b"", CLOSE), code=1006)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield bad(f"close {code}, which there isn't", close(code))
    yield bad("close of one byte", frame(CLOSE, b"\x03"))
    yield bad("close with a reason that isn't UTF-8", close(1000, b"\xff"), 1007)
    yield bad("close with half a character", close(1000, "€".encode()[:2]), 1007)
    yield Row("a text, then close", [A, 3, close(1000)], [SAID_A], 1000, ["a"])
    yield Row("a text and close in one segment", [A + close(1000)], close=1000, told=["a"], apart=[SAID_A])
    yield Row("a text behind close", [close(1000) + A], close=1000)
    yield Row("rubbish behind close", [close(1000) + b"\xff" * 50], close=1000)
    yield Row("two closes", [close(1000) + close(1001)], close=1000)
    yield Row("a text behind close, when that was answered", [close(1000), 4, A], close=1000)
    yield Row("a ping behind close", [close(1000) + frame(PING, "p")], close=1000)
    bye = [said("bye")]
    yield Row(
        "the session closes",
        [text("close 4400 gone"), close(4400)],
        bye,
        said(b"\x11\x30gone", CLOSE),
        ["close 4400 gone"],
        4400,
    )
    yield Row(
        "the session closes, the peer answers otherwise",
        [text("close 4501"), 9, close(1000)],
        bye,
        4501,
        ["close 4501"],
    )
    yield Row(
        "the session closes amid what the peer sends",
        [text("close 4501"), 9, A + part(TEXT, "b") + frame(PING, "p") + frame(MORE, "c") + close(4501)],
        [*bye, said(b"\x11\x95", CLOSE), pong(b"p")],
        0,
        ["close 4501"],
        4501,
    )
    yield Row(
        "the session closes, the peer breaks the rules", [text("close 4501"), 9, frame(3)], bye, 4501, ["close 4501"]
    )
    cut = "ä" * 60  # 120 bytes, and what is more is cut
    yield Row(
        "a reason too long for a frame",
        [text(f"close 4000 {cut}ä!"), close(4000)],
        bye,
        said(b"\x0f\xa0" + cut.encode(), CLOSE),
        [f"close 4000 {cut}ä!"],
        4000,
    )
    yield Row("the session fails", [text("raise"), 4, close(1011)], close=1011, told=["raise"])
    yield Row(
        "the session fails at a fragmented text",
        [part(TEXT, "ra") + frame(MORE, "ise"), 4, close(1011)],
        close=1011,
        told=["raise"],
    )
    yield Row("the session aborts", [text("abort")], close=0, told=["abort"], code=1006)


def _segment_rows() -> Iterator[Row]:
    yield Row(
        "three texts in one segment", [A + text("b") + text("c")], [SAID_A, said("b"), said("c")], told=["a", "b", "c"]
    )
    yield Row("a hundred texts in one segment", [A * 100], [SAID_A] * 100, told=["a"] * 100)
    yield Row("a text cut in its header", [A[:1], A[1:]], [SAID_A], told=["a"])
    yield Row("a text cut in its mask", [A[:4], A[4:]], [SAID_A], told=["a"])
    yield Row("a text and half of the next", [A + A[:3], 3, A[3:]], [SAID_A, SAID_A], told=["a", "a"])
    yield Row("a long text cut in its length", [text(BIG)[:5], text(BIG)[5:]], [said(BIG)], told=["65536 characters"])
    yield Row(
        "one answer of many frames",
        [text("sizes 0 1 125 126 65535 65536")],
        [said("x" * size) for size in (0, 1, 125, 126, 65_535, 65_536)],
        told=["sizes 0 1 125 126 65535 65536"],
    )
    yield Row("an answer of a megabyte", [text("sizes 1048576")], [said(MAX)], told=["sizes 1048576"])


def _end_rows() -> Iterator[Row]:
    yield Row("the peer just ends", [EOF], close=0, code=1006)
    yield Row("the peer ends behind a text", [A, 3, EOF], [SAID_A], 0, ["a"], 1006)
    yield Row("the peer ends amid a frame", [A[:3], EOF], close=0, code=1006)
    yield Row("the peer ends amid fragments", [part(TEXT, "a"), EOF], close=0, code=1006)
    yield Row("the peer resets", [A, 3, RESET], [SAID_A], 0, ["a"], 1006)
    yield Row("the peer closes, then ends", [close(1000) + A, EOF], close=1000)
    yield Row("the session closes, the peer ends", [text("close 4501"), 9, EOF], [said("bye")], 4501, ["close 4501"])


ROWS: list[Row] = [
    *_size_rows(),
    *_fragment_rows(),
    *_header_rows(),
    *_control_rows(),
    *_unicode_rows(),
    *_binary_rows(),
    *_close_rows(),
    *_segment_rows(),
    *_end_rows(),
]
SHORT = [row for row in ROWS if 1 < sum(len(step) for step in row.steps if isinstance(step, bytes)) <= BYTEWISE_MAX]


# -- a client of bytes -----------------------------------------------------------------------------------------------

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the example of RFC 6455, section 1.3
HEADERS: Final = {
    "Host": "hub.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(
    target: str = "/v1/echo", *, method: str = "GET", version: str = "HTTP/1.1", more: str = "", **changed: str | None
) -> bytes:
    """A handshake; `changed` headers by name with `_` for `-`, None leaves one out; `more` are lines as they are."""
    headers: dict[str, str | None] = dict(HEADERS)
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [
        f"{method} {target} {version}",
        *(f"{name}: {value}" for name, value in headers.items() if value is not None),
    ]
    return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode("latin-1")


class Line:
    """One connection; `got` is all that came, `ended` how it ended: eof or reset."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.line = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = b""
        self.ended = ""

    def send(self, data: bytes) -> None:
        """In one segment, where it is small enough; returns when the server has read it."""
        with contextlib.suppress(ConnectionError):  # the server has refused it already
            self.line.sendall(data)
        self.server.turn()

    def read(self) -> bool:
        """Wait for bytes; False at the end."""
        try:
            data = self.line.recv(1 << 20)
        except ConnectionResetError:
            self.ended = "reset"
            return False
        self.got += data
        self.ended = self.ended or ("" if data else "eof")
        return bool(data)

    def until(self, size: int) -> None:
        """Wait until so many bytes have come, or the end."""
        while len(self.got) < size and self.read():
            pass

    def look(self) -> bool:
        """Take what has come, without waiting; True at the end."""
        self.line.setblocking(False)
        try:
            while self.read():
                pass
        except BlockingIOError:
            pass
        finally:
            self.line.settimeout(PATIENCE_S)
        return bool(self.ended)

    def shake(self, asked: bytes) -> bytes:
        """Send a request; the head of the answer. What follows it stays in `got`."""
        self.send(asked)
        while b"\r\n\r\n" not in self.got and self.read():
            pass
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        return head

    def reset(self) -> None:
        """Drop the connection so that the server sees an error."""
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.line.close()
        self.ended = "reset by us"

    def play(self, steps: Sequence[Step], *, bytewise: bool) -> None:
        """Take the steps; byte by byte it stops where the server has ended: it would only be told so by a reset."""
        for step in steps:
            if isinstance(step, int):
                self.until(step)
            elif step == EOF:
                self.line.shutdown(socket.SHUT_WR)
            elif step == RESET:
                self.reset()
            elif not bytewise:
                self.send(cast(bytes, step))
            else:
                for byte in cast(bytes, step):
                    if self.look():
                        return
                    self.send(bytes((byte,)))


def play(server: Server, row: Row, *, bytewise: bool, early: bool = False) -> tuple[bytes, list[str | int]]:
    """
    Send a row to one server and check it; all bytes that came, and what the session was told.

    `early`: its first step in one segment with the request.
    """
    line = Line(server)
    try:
        steps = list(row.steps)
        assert b" 101 " in line.shake(request() + (cast(bytes, steps.pop(0)) if early else b""))
        session = server.session()
        line.play(steps, bytewise=bytewise)
        gets = b"".join(row.gets if not bytewise or row.apart is None else row.apart)
        if row.close is None:
            line.until(len(gets))
            line.send(close(1000))
        while not line.ended and line.read():
            pass
        ending = 1000 if row.close is None else row.close
        got, end = line.got[: len(gets)], line.got[len(gets) :]
        assert got == gets, f"{server.name}: got {line.got[:200]!r}"
        if isinstance(ending, bytes) or not ending:
            assert end == (ending or b""), f"{server.name}: closed with {end!r}"
        else:
            assert end[:1] == b"\x88", f"{server.name}: closed with {end!r}"
            assert int.from_bytes(end[2:4], "big") == ending, f"{server.name}: closed with {end!r}"
        if server.lean and RESET not in row.steps and "abort" not in row.told:
            assert line.ended == "eof", f"{server.name}: {line.ended}"
    finally:
        line.line.close()
    server.eventually(lambda: any(isinstance(told, int) for told in session.got), "told the end")
    code = row.code if row.code is not None else ending
    plain = row.asgi_told if not server.lean and not bytewise and row.asgi_told is not None else row.told
    assert session.got == [*plain, code], f"{server.name}: the session was told {session.got}"
    server.eventually(lambda: not server.parts.addresses, "counted out")
    return line.got, session.got


@pytest.fixture(autouse=True)
def _nothing_reaches_the_loop(servers: list[Server]) -> Iterator[None]:
    yield
    for server in servers:
        failures, server.failures = server.failures, []
        assert not failures, f"{server.name}: {failures}"
        server.sessions.clear()


def test_tables_are_large_enough() -> None:
    """No row stands twice, and none was lost."""
    assert len({row.name for row in ROWS}) == len(ROWS) >= 120
    assert len({name for name, *_ in SHAKES}) == len(SHAKES) >= 25


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_frames(servers: list[Server], row: Row) -> None:
    """Every driver answers these bytes the same, to the byte, and tells the session the same."""
    answers = {play(server, row, bytewise=False)[0] for server in servers}
    assert len(answers) == 1, answers


@pytest.mark.parametrize("row", SHORT, ids=[row.name for row in SHORT])
def test_frames_byte_by_byte(servers: list[Server], row: Row) -> None:
    """However the network cuts what is sent, it means the same."""
    answers = {play(server, row, bytewise=True)[0] for server in servers}
    assert len(answers) == 1, answers


def test_differences_are_explained() -> None:
    """Where the drivers differ, the row says why."""
    assert all(bool(row.why) == (row.asgi_told is not None) for row in ROWS)


# -- the handshake ---------------------------------------------------------------------------------------------------

FOREIGN = "https://evil.example.com"
OWN = "https://desk.example.com"
MANY = "".join(f"X-Header-{number}: x\r\n" for number in range(100))
# name, request, status, what stands in the answer (lower-case header lines, or the body)
SHAKES: list[tuple[str, bytes, int, str]] = [
    (
        "as browsers do",
        request(Connection="keep-alive, Upgrade", Origin=OWN, Sec_WebSocket_Protocol="hub.v1"),
        101,
        "sec-websocket-protocol: hub.v1",
    ),
    ("without a subprotocol", request(), 101, f"sec-websocket-accept: {ACCEPT}".lower()),
    ("names and values in other cases", request(Upgrade="WebSocket", Connection="UPGRADE"), 101, "upgrade: websocket"),
    ("connection of many options", request(Connection="a, upgrade , b"), 101, "connection: upgrade"),
    ("two connection headers", request(more="Connection: keep-alive\r\n", Connection=None), 404, ""),
    (
        "two connection headers, the last asks",
        request(Connection="keep-alive", more="Connection: upgrade\r\n"),
        101,
        "upgrade: websocket",
    ),
    ("a query", request("/v1/echo?a=b&c=%20"), 101, "upgrade: websocket"),
    ("an escaped path", request("/v1/%65cho"), 101, "upgrade: websocket"),
    ("an unneeded body length", request(Content_Length="0"), 101, "upgrade: websocket"),
    ("a hundred headers", request(more=MANY), 101, "upgrade: websocket"),
    ("a header of 4 KiB", request(Cookie="x" * 4096), 101, "upgrade: websocket"),
    ("a header in latin-1", request(X_Name="Gr\xfc\xdfe"), 101, "upgrade: websocket"),
    ("an empty header", request(X_Name=""), 101, "upgrade: websocket"),
    (
        "several subprotocols",
        request(Sec_WebSocket_Protocol="chat, hub.v1,hub.v2"),
        101,
        "sec-websocket-protocol: hub.v1",
    ),
    (
        "subprotocols in two headers",
        request(Sec_WebSocket_Protocol="chat", more="Sec-WebSocket-Protocol: hub.v1\r\n"),
        101,
        "sec-websocket-protocol: hub.v1",
    ),
    ("a foreign subprotocol", request(Sec_WebSocket_Protocol="chat"), 400, '"got":["chat"]'),
    ("foreign subprotocols", request(Sec_WebSocket_Protocol="chat, hub.v2"), 400, '"got":["chat","hub.v2"]'),
    ("an empty subprotocol", request(Sec_WebSocket_Protocol=""), 400, ""),
    ("a subprotocol that is none", request(Sec_WebSocket_Protocol="hub v1"), 400, ""),
    (
        "an extension",
        request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
        101,
        "upgrade: websocket",
    ),
    ("extensions that are none", request(Sec_WebSocket_Extensions=";;;"), 101, "upgrade: websocket"),
    ("an allowed Origin", request(Origin=OWN), 101, "upgrade: websocket"),
    ("a foreign Origin", request(Origin=FOREIGN), 403, "not_permitted"),
    ("an Origin of null", request(Origin="null"), 403, "not_permitted"),
    ("an empty Origin", request(Origin=""), 403, "not_permitted"),
    ("an allowed Origin on another port", request(Origin=OWN + ":8443"), 403, "not_permitted"),
    ("two Origins", request(Origin=OWN, more=f"Origin: {OWN}\r\n"), 400, ""),
    ("another path", request("/v1/nothing"), 404, "there is no such endpoint"),
    ("no path", request("/"), 404, "there is no such endpoint"),
    ("an absolute target", request("http://hub.example.com/v1/echo"), 404, "there is no such endpoint"),
    ("another path and a foreign Origin", request("/v1/nothing", Origin=FOREIGN), 404, "there is no such endpoint"),
    ("a foreign Origin and subprotocol", request(Origin=FOREIGN, Sec_WebSocket_Protocol="chat"), 400, "subprotocols"),
    ("no key", request(Sec_WebSocket_Key=None), 400, "sec-websocket-key"),
    ("an empty key", request(Sec_WebSocket_Key=""), 400, "sec-websocket-key"),
    ("a short key", request(Sec_WebSocket_Key="aGk="), 400, "sec-websocket-key"),
    ("a long key", request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZSE9PQ=="), 400, "sec-websocket-key"),
    ("a key that isn't base64", request(Sec_WebSocket_Key="!" * 22 + "=="), 400, "sec-websocket-key"),
    ("a key without padding", request(Sec_WebSocket_Key=KEY[:-2]), 400, "sec-websocket-key"),
    ("a key of other trailing bits", request(Sec_WebSocket_Key=KEY[:-3] + "R=="), 101, "upgrade: websocket"),
    ("two keys", request(more=f"Sec-WebSocket-Key: {KEY}\r\n"), 400, "multiple values"),
    ("no version", request(Sec_WebSocket_Version=None), 400, "sec-websocket-version"),
    ("version 8", request(Sec_WebSocket_Version="8"), 400, "sec-websocket-version"),
    ("version 14", request(Sec_WebSocket_Version="14"), 400, "sec-websocket-version"),
    ("two versions", request(more="Sec-WebSocket-Version: 13\r\n"), 400, "multiple values"),
    ("a list of versions", request(Sec_WebSocket_Version="13, 8"), 400, "sec-websocket-version"),
    ("POST", request(method="POST"), 405, "allow: get"),
    ("HEAD", request(method="HEAD"), 405, "allow: get"),
    ("HTTP/1.0", request(version="HTTP/1.0"), 400, "http/1.1"),
    ("no Upgrade", request(Upgrade=None), 404, ""),
    ("another Upgrade", request(Upgrade="h2c"), 404, ""),
    ("two Upgrades", request(Upgrade="h2c", more="Upgrade: websocket\r\n"), 426, "upgrade: websocket"),
    ("no Connection", request(Connection=None), 404, ""),
    ("another Connection", request(Connection="keep-alive"), 404, ""),
    ("a Connection that is none", request(Connection="upgrade, a b"), 400, ""),
    ("two hosts", request(Origin=OWN, more="Host: other.example.com\r\n"), 101, "upgrade: websocket"),
]


def dateless(answer: bytes) -> bytes:
    """An answer without what the second brings."""
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answer)


def whole_answer(line: Line, head: bytes) -> bytes:
    """Head and body of a refusal, which ends the connection or says its length."""
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if length is None:
        while line.read():
            pass
    else:
        line.until(int(length[1]))
    return dateless(head + b"\r\n\r\n" + line.got)


@pytest.mark.parametrize(("name", "asked", "status", "holds"), SHAKES, ids=[name for name, *_ in SHAKES])
def test_handshakes(servers: list[Server], name: str, asked: bytes, status: int, holds: str) -> None:
    """A handshake is taken or refused by every driver with the same bytes; one that is taken can be spoken on."""
    answers = set()
    for server in servers:
        line = Line(server)
        try:
            head = line.shake(asked)
            assert head.startswith(b"HTTP/1.1 %d " % status), f"{server.name}: {head!r}"
            if status == 101:
                answers.add(dateless(head))
                assert b"extensions" not in head.lower()
                line.send(A)
                line.until(len(SAID_A))
                assert line.got == SAID_A
                line.send(close(1000))
                while line.read():
                    pass
            else:
                answers.add(whole_answer(line, head))
            assert holds in answers.copy().pop().decode("latin-1").lower(), answers
        finally:
            line.line.close()
        server.eventually(lambda: not server.parts.addresses, "counted out")  # noqa: B023
    assert len(answers) == 1, answers


def test_a_node_that_drains_refuses(servers: list[Server]) -> None:
    """503 as JSON while the node is going away, at known endpoints only."""
    for server in servers:
        server.parts.node.draining = True
    try:
        test_handshakes(servers, "", request(), 503, "this node is going away")
        test_handshakes(servers, "", request("/v1/nothing"), 404, "no such endpoint")
    finally:
        for server in servers:
            server.parts.node.draining = False


EARLY: dict[str, Row] = {
    "a text": Row("", [A, 0], [SAID_A], told=["a"]),
    "two texts": Row("", [A + text("b")], [SAID_A, said("b")], told=["a", "b"]),
    "half a text": Row("", [A[:3], A[3:]], [SAID_A], told=["a"]),
    "a text and half of the next": Row("", [A + A[:3], 3, A[3:]], [SAID_A] * 2, told=["a"] * 2),
    "a ping": Row("", [frame(PING, "p")], [pong(b"p")]),
    "a close": Row("", [close(1000)], close=1000),
    "half a close": Row("", [close(1000)[:1], close(1000)[1:]], close=1000),
    "a bad frame": Row("", [frame(3)], close=1002),
    "an end": Row("", [A, 3, EOF], [SAID_A], 0, ["a"], 1006),
}


@pytest.mark.parametrize("row", EARLY.values(), ids=list(EARLY))
def test_frames_with_the_request(servers: list[Server], row: Row) -> None:
    """What comes in one segment with the request isn't lost, nor what is cut there: no client should, but some may."""
    answers = {play(server, row, bytewise=False, early=True)[0] for server in servers}
    assert len(answers) == 1, answers


def test_nothing_comes_behind_a_refusal(servers: list[Server]) -> None:
    """A frame behind a request that is refused means nothing."""
    test_handshakes(servers, "", request("/v1/nothing") + A, 404, "no such endpoint")


# -- what both offer a session ----------------------------------------------------------------------------------------


def ended(line: Line) -> bytes:
    """All that came up to the end."""
    while not line.ended and line.read():
        pass
    line.line.close()
    return line.got


def test_too_many_of_one_address(servers: list[Server]) -> None:
    """One socket too many is accepted, and closed with 4429; one that leaves makes room."""
    for server in servers:
        held = [Line(server) for _ in range(3)]
        for line in held:
            assert b" 101 " in line.shake(request())
        for _ in range(2):
            line = Line(server)
            assert b" 101 " in line.shake(request())
            line.until(4)
            line.send(close(4429))
            assert ended(line)[2:4] == struct.pack("!H", 4429), server.name
        held[0].send(close(1000))
        ended(held[0])
        server.eventually(lambda: server.parts.addresses["127.0.0.1"] == 2, "one less")  # noqa: B023
        line = Line(server)
        assert b" 101 " in line.shake(request())
        line.send(A)
        line.until(3)
        assert line.got == SAID_A
        for each in (line, *held[1:]):
            each.reset()
        server.eventually(lambda: not server.parts.addresses, "counted out")  # noqa: B023


def test_the_address_behind_a_proxy(servers: list[Server]) -> None:
    """The session's address is what a proxy on this machine says it is; a lie further left isn't believed."""
    for server in servers:
        for more, wanted in (
            ("", "127.0.0.1"),
            ("X-Forwarded-For: 10.0.0.7\r\n", "10.0.0.7"),
            ("X-Forwarded-For: 6.6.6.6, 10.0.0.7:4711\r\n", "10.0.0.7"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 10.0.0.7, 127.0.0.1\r\n", "10.0.0.7"),
            ("X-Forwarded-For: \r\n", "127.0.0.1"),
        ):
            line = Line(server)
            assert b" 101 " in line.shake(request(more=more))
            assert server.session().address == wanted, f"{server.name}: {more}"
            line.reset()
        server.eventually(lambda: not server.parts.addresses, "counted out")  # noqa: B023


def test_a_session_that_cannot_be_made(servers: list[Server], caplog: pytest.LogCaptureFixture) -> None:
    """The peer is told that it wasn't them, and the log says what it was."""
    for server in servers:
        caplog.clear()
        line = Line(server)
        assert b" 101 " in line.shake(request("/v1/broken"))
        line.until(4)
        line.send(close(1011))
        assert ended(line) == said(b"\x03\xf3", CLOSE), server.name
        server.eventually(lambda: not server.parts.addresses, "counted out")  # noqa: B023
        assert [record.exc_text for record in caplog.records if "no session" in (record.exc_text or "")], server.name


def test_the_session_closes_amid_a_frame(servers: list[Server]) -> None:
    """A session closes when it likes; what the peer has begun by then is read to its end, and so is the peer's close."""
    for server in servers:
        line = Line(server)
        assert b" 101 " in line.shake(request())
        session = server.session()
        line.send(A[:3])
        server.loop.call_soon_threadsafe(session.socket.close, 4501, "")
        line.until(4)
        line.send(A[3:] + frame(PING, "p") + close(4501))
        assert ended(line) == said(b"\x11\x95", CLOSE) + pong(b"p"), server.name
        assert session.got == [4501], server.name


def test_a_stalled_peer(servers: list[Server]) -> None:
    """What a peer doesn't take is counted, and such a peer can be dropped at once."""
    for server in servers:
        line = Line(server)
        line.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert b" 101 " in line.shake(request())
        session = server.session()
        server.loop.call_soon_threadsafe(session.socket.write, apart(*[MAX.encode()] * 16))
        server.eventually(lambda: session.socket.backlog() > 8 * BYTES_MAX, "backed up")  # noqa: B023
        server.loop.call_soon_threadsafe(session.socket.close, 4502, "")
        server.turn()
        server.loop.call_soon_threadsafe(session.socket.abort)
        server.eventually(lambda: not server.parts.addresses, "counted out")  # noqa: B023
        server.eventually(lambda: not server.server.server_state.connections, "forgotten by uvicorn")  # noqa: B023
        server.loop.call_soon_threadsafe(session.socket.write, apart(b"never"))
        server.turn()
        assert len(session.got) == 1
        line.line.close()


def test_a_peer_that_reads_by_starts(servers: list[Server]) -> None:
    """Whatever the kernel takes at once, a part of it or none, each byte comes once and in order."""
    for server in servers:
        line = Line(server)
        line.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 524_288)
        assert b" 101 " in line.shake(request())
        session = server.session()
        wanted = b""
        for _ in range(3):
            while session.socket.backlog() < BYTES_MAX // 4:
                packet = apart(b"%06d " % (len(wanted) % 999_983) * (1 + len(wanted) % 9_000))
                wanted += packet.wire
                server.loop.call_soon_threadsafe(session.socket.write, packet)
                server.turn()
            line.until(len(line.got) + 1_000_000)
        line.until(len(wanted))
        server.loop.call_soon_threadsafe(session.socket.write, apart(b"and on"))
        wanted += apart(b"and on").wire
        line.until(len(wanted))
        assert line.got == wanted, server.name
        line.send(close(1000))
        assert ended(line)[len(wanted) :] == said(b"\x03\xe8", CLOSE), server.name


LIVES: list[list[Step]] = [
    [A, 3, close(1000)],
    [part(TEXT, "a") + frame(PING), 2, EOF],
    [part(TEXT, "a") + frame(PING), 2, RESET],
    [frame(3)],
    [text(b"\xff")],
    [text("close 4501"), 9, close(4501)],
    [text("raise"), 4, close(1011)],
    [A[:3], EOF],
]


def test_nothing_is_kept(servers: list[Server], caplog: pytest.LogCaptureFixture) -> None:
    """A lean socket that has gone is freed by counting alone: no cycle of it waits for the collector."""
    for server in servers:
        if not server.lean:
            continue
        gc.collect()
        caplog.set_level(logging.CRITICAL, "hub.edge.transport")  # a record of a failure would hold its frames
        known = {id(thing) for thing in alive()}  # of other tests, whose sockets may linger for a moment
        gc.disable()
        try:
            for steps in LIVES:
                line = Line(server)
                line.shake(request())
                line.play(steps, bytewise=False)
                ended(line)
                server.session()
            server.eventually(lambda: {id(thing) for thing in alive()} <= known, "freed")  # noqa: B023
        finally:
            gc.enable()


def alive() -> list[object]:
    """Objects of connections that the interpreter still has."""
    kinds = (LeanSocket, Core, HttpFront)
    return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]


def test_uvicorn_stops() -> None:
    """Sockets that are open when uvicorn stops are closed with 1012."""
    for server in _servers():
        server.start()
        line = Line(server)
        assert b" 101 " in line.shake(request())
        session = server.session()
        server.server.should_exit = True
        line.until(4)
        line.send(close(1012))
        assert ended(line)[:4] == said(b"\x03\xf4", CLOSE), server.name
        server.stop()
        assert session.got == [1012], server.name
        assert not server.failures


def test_a_request_too_long_for_the_library(servers: list[Server]) -> None:
    """
    The lean driver refuses what the library finds too long.

    uvicorn's class forgets to send that answer and leaves the connection open, so the plain driver has no row for it.
    """
    for server in servers:
        if server.lean:
            for asked, status in ((request("/v1/echo?" + "x" * 9000), b"414"), (request(Cookie="x" * 9000), b"431")):
                line = Line(server)
                assert line.shake(asked).startswith(b"HTTP/1.1 " + status)
                ended(line)


def test_the_setting() -> None:
    """The driver is one of two; another word is refused with what is allowed."""
    assert build('socket_driver = "asgi"', "hub.toml", {}).socket_driver == "asgi"
    assert Settings().socket_driver == "lean"
    with pytest.raises(SettingsError, match="allowed: lean, asgi"):
        build('socket_driver = "fast"', "hub.toml", {})


def test_uvicorn_is_as_the_lean_driver_expects() -> None:
    """What the driver touches of uvicorn and what isn't promised there: where it goes, this says so first."""
    front = inspect.getsource(HttpToolsProtocol)
    assert "except httptools.HttpParserUpgrade:" in inspect.getsource(HttpToolsProtocol.data_received)
    assert list(inspect.signature(HttpToolsProtocol.handle_websocket_upgrade).parameters) == ["self"]
    upgrade = inspect.getsource(HttpToolsProtocol.handle_websocket_upgrade)
    calls = [
        "self.ws_protocol_class(",
        "protocol.connection_made(",
        "protocol.data_received(",
        ".set_protocol(protocol)",
    ]
    assert sorted(calls, key=upgrade.index) == calls
    assert all(f"{name}=self.{name}" in upgrade for name in ("config", "server_state", "app_state"))
    assert "self.parser = " in front
    state = ServerState()
    assert isinstance(state.connections, set)
    assert isinstance(state.default_headers, list)
    told = ("on_headers_complete", "on_message_complete", "on_response_complete", "connection_lost")
    assert all(callable(getattr(HttpToolsProtocol, name)) for name in told)


def test_the_driver_is_the_one_asked_for(servers: list[Server]) -> None:
    """The tables above are about two drivers, not about one twice."""
    assert {isinstance(server.server.config.ws, Lobby) for server in servers} == {True, False}
    assert all(isinstance(server.server.config.ws, Lobby) == server.lean for server in servers)
