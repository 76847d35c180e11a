"""
`python -m clients.load.sockets --sockets 5000 --driver lean`: what one supervisor's socket costs the hub.

Starts `hub serve` with its embedded store, opens that many sockets on loopback, says hello on each, and reads from /proc
what the hub's process has used by then (Linux):

    memory      resident bytes a socket, with its session in the store
    handshake   processor time from connecting to the 101
    hello       processor time of a hello: token, session, presence, answer
    pong        ... of a `pong`, which gets no answer
    unknown     ... of a `view.unsubscribe` of an unknown subscription, which is refused without asking the store
    idle        ... of a socket that says nothing, per second

The load side is plain sockets and frames made beforehand: no library, no task, no event loop beside the hub. In a round
each socket gets one command; one more socket's answer says that the round was read.
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from clients.launch import HubProcess, NotStarted, start_hub
from clients.load.figures import Figure, machine, table
from clients.load.line import text_frame
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token
from clients.wire import SUBPROTOCOL

AT_ONCE: Final = 50  # sockets that connect or greet at the same time
ROUNDS: Final = 20  # of commands: below the burst that a socket may send
WARM: Final = 50  # sockets before the first measurement: what the first one of its kind loads
SETTLE_S: Final = 2.0
IDLE_S: Final = 5.0
PATIENCE_S: Final = 60.0
CONFIG: Final = """
[limits]
heartbeat_ms = 600000
hello_timeout_ms = 600000
sockets_per_address = 1000000
"""
PONG: Final = text_frame(b'{"cmd":"pong"}')
UNKNOWN: Final = text_frame(b'{"id":9,"cmd":"view.unsubscribe","subscription":"sub_0"}')


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has used: processor time, and memory now."""

    cpu_ns: int
    rss_bytes: int


def use_of(hub: HubProcess) -> Use:
    """Read from /proc: all threads' time on a processor, resident memory."""
    process = Path(f"/proc/{hub.process.pid}")
    cpu_ns = sum(int(task.read_text().split()[0]) for task in process.glob("task/*/schedstat"))
    return Use(cpu_ns, hub.rss_bytes())


class Peer:
    """One client's end: blocking, with a time limit."""

    __slots__ = ("_line", "_unread")

    def __init__(self, host: str, port: int) -> None:
        self._line = socket.create_connection((host, port), PATIENCE_S)
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self._line.sendall(data)

    def _read(self) -> None:
        data = self._line.recv(65_536)
        if not data:
            raise ConnectionError(f"the hub closed a socket after {self._unread[:200]!r}")
        self._unread += data

    def shaken(self) -> None:
        """Wait for the 101."""
        while b"\r\n\r\n" not in self._unread:
            self._read()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise ConnectionError(f"the hub refused a socket: {head[:200]!r}")

    def frame(self) -> bytes:
        """Wait for the next frame; what is in it."""
        while True:
            size, head = self._unread[1] & 127 if len(self._unread) > 1 else 126, 2
            if size == 126:
                size, head = int.from_bytes(self._unread[2:4], "big"), 4
            if len(self._unread) >= head + size and len(self._unread) >= head:
                found, self._unread = self._unread[head : head + size], self._unread[head + size :]
                return found
            self._read()

    def close(self) -> None:
        """Drop it."""
        self._line.close()


class Crowd:
    """Supervisors' sockets on one hub, `tabs` of each supervisor."""

    def __init__(self, hub: HubProcess, tabs: int) -> None:
        address = urlsplit(hub.url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._secret = hub.secret
        self._tabs = tabs
        self.peers: list[Peer] = []
        key = base64.b64encode(os.urandom(16)).decode()
        self._request = (
            f"GET /v1/supervisor HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
            f"Origin: {hub.url}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Language: en,de;q=0.5\r\n"
            "Accept-Encoding: gzip, deflate, br\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        ).encode()

    def connect(self, count: int) -> list[Peer]:
        """Open that many sockets; they haven't said hello."""
        new: list[Peer] = []
        for many in _parts(range(count)):
            some = [Peer(self._host, self._port) for _ in many]
            new += some
            for peer in some:
                peer.send(self._request)
            for peer in some:
                peer.shaken()
        self.peers += new
        return new

    def hellos(self, count: int) -> list[bytes]:
        """Frames for the next sockets, made beforehand."""
        first = len(self.peers)
        return [self._hello((first + number) // self._tabs) for number in range(count)]

    def _hello(self, user: int) -> bytes:
        token = make_token(
            self._secret, "supervisor", f"sup-{user}", f"Supervisor {user}", permissions=SUPERVISOR_PERMISSIONS
        )
        return text_frame(orjson.dumps({"id": 1, "cmd": "hello", "token": token}))

    @staticmethod
    def greet(peers: Sequence[Peer], hellos: Sequence[bytes]) -> None:
        """Say hello on each, and wait for its `ok`."""
        for some in _parts(list(zip(peers, hellos, strict=True))):
            for peer, hello in some:
                peer.send(hello)
            for peer, _ in some:
                answer = orjson.loads(peer.frame())
                if "ok" not in answer:
                    raise ConnectionError(f"hello was refused: {answer}")

    def round(self, command: bytes, *, answered: bool) -> None:
        """One command from everybody but the first, whose answer to a command of its own ends the round."""
        fence, *others = self.peers
        for peer in others:
            peer.send(command)
        fence.send(UNKNOWN)
        fence.frame()
        for peer in others if answered else ():
            peer.frame()

    def close(self) -> None:
        """Drop everybody."""
        for peer in self.peers:
            peer.close()


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def measure(hub: HubProcess, count: int, tabs: int) -> dict[str, float]:
    """All figures of one hub; times in microseconds, memory in bytes, each for one socket or command."""
    crowd = Crowd(hub, tabs)
    try:
        hellos = crowd.hellos(WARM)
        crowd.greet(crowd.connect(WARM), hellos)
        crowd.round(UNKNOWN, answered=True)
        hellos = crowd.hellos(count)
        time.sleep(SETTLE_S)
        start = use_of(hub)
        new = crowd.connect(count)
        shaken = use_of(hub)
        crowd.greet(new, hellos)
        greeted = use_of(hub)
        time.sleep(SETTLE_S)
        full = use_of(hub)
        time.sleep(IDLE_S)
        rested = use_of(hub)
        found = {
            "rss_bytes": (full.rss_bytes - start.rss_bytes) / count,
            "handshake_us": (shaken.cpu_ns - start.cpu_ns) / 1000 / count,
            "hello_us": (greeted.cpu_ns - shaken.cpu_ns) / 1000 / count,
            "idle_us_per_s": (rested.cpu_ns - full.cpu_ns) / 1000 / IDLE_S / len(crowd.peers),
        }
        for name, command, answered in (("pong_us", PONG, False), ("unknown_us", UNKNOWN, True)):
            found[name] = _cost(hub, partial(crowd.round, command, answered=answered), len(crowd.peers))
        return found
    finally:
        crowd.close()


def _cost(hub: HubProcess, one_round: Callable[[], None], commands: int) -> float:
    before = use_of(hub).cpu_ns
    for _ in range(ROUNDS):
        one_round()
    return (use_of(hub).cpu_ns - before) / 1000 / ROUNDS / commands


def figures(found: dict[str, float]) -> list[Figure]:
    """What was measured, beside the targets of the lean driver."""
    return [
        Figure("memory of a socket after hello", "bytes", 8_192, found["rss_bytes"]),
        Figure("handshake", "us", 300, found["handshake_us"]),
        Figure("hello", "us", 600, found["hello_us"]),
        Figure("pong", "us", 40, found["pong_us"]),
        Figure("view.unsubscribe of an unknown one", "us", 40, found["unknown_us"]),
        Figure("an idle socket, per second", "us", 20, found["idle_us_per_s"]),
    ]


async def run(driver: str, engine: str, count: int, tabs: int) -> dict[str, float]:
    """Measure one driver on a hub of its own."""
    variables = {"HUB_SOCKET_DRIVER": driver, "HUB_LOOP_ENGINE": engine}
    with tempfile.TemporaryDirectory(prefix="hub-sockets-", ignore_cleanup_errors=True) as directory:
        config = Path(directory) / "hub.toml"
        config.write_text(CONFIG)
        async with start_hub(Path(directory) / "data", config=config, variables=variables) as hub:
            return await asyncio.to_thread(measure, hub, count, tabs)


def main() -> int:
    """Parse, measure, print; exit status 0 where every target is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m clients.load.sockets", description="Measure what a socket costs.")
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--driver", choices=["lean", "asgi"], default="lean")
    parser.add_argument("--loop", choices=["auto", "asyncio", "uvloop"], default="auto")
    parser.add_argument("--tabs", type=int, default=5, help="sockets of one supervisor (default: 5)")
    parser.add_argument("--json", type=Path, help="write a report to this file")
    args = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # inherited by the hub
    try:
        found = asyncio.run(run(args.driver, args.loop, args.sockets, args.tabs))
    except NotStarted as error:
        print(f"The hub did not start: {error}", file=sys.stderr)
        return 1
    shown = figures(found)
    print(f"{args.sockets} sockets, driver {args.driver}, loop {args.loop}")
    print(table(shown))
    if args.json:
        report = {"machine": machine(), "driver": args.driver, "sockets": args.sockets, "found": found}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.passed for figure in shown) else 1


if __name__ == "__main__":
    raise SystemExit(main())
