"""
The peers: how each is got, started and spoken to.

Each does what it does best for "the same message to many sockets", with Redis as its way in, like the hub's store: so
each could have several nodes. They know no rights, no positions and no views; a client of theirs that was away for a
moment has to ask somebody else for what it missed.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import orjson

from clients.http import HttpClient
from clients.launch import free_port
from clients.load.peers.driver import MARK, NUMBER, Speech
from clients.load.peers.programs import BenchError, Process, output_of, program
from clients.load.platform import TEXT

SETTLE_TRIES: Final = 100
HERE: Final = Path(__file__).parent
EVENT: Final = {
    "type": "message.added",
    "conversation_id": "c0000001",
    "queue": "support",
    "seq": 123456,
    "mark": f"T@{MARK}",
    "author": {"kind": "customer", "id": "cu_81723", "name": "Ada Byron"},
    "at": "2026-01-02T03:04:05.678Z",
    "body": TEXT,
}
BODY: Final = orjson.dumps(EVENT)
EVERYBODY: Final = "q1"
ONE: Final = f"c{NUMBER}"
MODULES: Final = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


def redis_command(*words: bytes) -> bytes:
    """A command as it goes to Redis (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def channel(one_each: bool) -> str:
    """Whereto events go: everybody's channel, or one for each socket."""
    return ONE if one_each else EVERYBODY


class Other:
    """A peer. `name` is what `--peers` takes, `title` what it is."""

    name: str
    title: str
    how: str  # how to get it, for whoever has to do it by hand

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def missing(self) -> str | None:
        """What isn't there, or None where it can be measured."""
        raise NotImplementedError

    async def version(self) -> str:
        """Of the peer and of what runs it."""
        raise NotImplementedError

    async def install(self) -> None:
        """
        Get it, into the scratch folder where that can be.

        Raises:
            BenchError: It can't be got here.
        """
        raise NotImplementedError

    def speech(self, one_each: bool, store_port: int, port: int, targets: int) -> Speech:
        """How the load client subscribes and publishes."""
        raise NotImplementedError

    def command(self, port: int, store_port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of a server on `port`; `folder` is its own."""
        raise NotImplementedError

    @asynccontextmanager
    async def serving(self, core: int, store_port: int) -> AsyncIterator[tuple[Process, int]]:
        """A server on that core, and its port."""
        port = free_port("127.0.0.1")
        with tempfile.TemporaryDirectory(prefix=self.name, dir=self.scratch, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            argv, env = self.command(port, store_port, folder)
            async with program(argv, core, port, folder / "server.log", env=env, cwd=folder) as process:
                await self.settled(port)
                yield process, port

    async def settled(self, port: int) -> None:
        """Wait until it can do its work, where that takes longer than to listen."""


class _Node(Other):
    """A peer of Node.js: packages in a folder of the scratch folder, one script of ours."""

    packages: tuple[str, ...]
    shown: str  # the package whose version counts
    script: str
    flags: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its packages are."""
        return self.scratch / self.name

    def missing(self) -> str | None:
        if shutil.which("node") is None:
            return "Node.js is not installed"
        absent = [name for name in self.packages if not (self.folder / "node_modules" / name).exists()]
        return f"not installed: {', '.join(absent)}" if absent else None

    async def version(self) -> str:
        package = self.folder / "node_modules" / self.shown / "package.json"
        return f"{self.shown} {orjson.loads(package.read_bytes())['version']}, Node.js {await output_of('node', '--version')}"

    async def install(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "package.json").write_text('{"private": true}\n')
        await output_of("npm", "install", "--no-audit", "--no-fund", *self.flags, *self.packages, cwd=self.folder)

    def command(self, port: int, store_port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        modules = self.folder / "node_modules"
        env = {"NODE_PATH": str(modules), "NODE_ENV": "production"}
        return ["node", str(HERE / self.script), str(port), str(store_port)], env


class Uws(_Node):
    """uWebSockets.js: the fastest server of its kind that people use, written in C++."""

    name = "uws"
    title = "uWebSockets.js + Redis"
    packages = ("@trufflesuite/uws-js-unofficial", "redis")
    shown = "@trufflesuite/uws-js-unofficial"
    script = "uws.js"
    flags = ("--ignore-scripts",)  # they would replace the prebuilt binary by a download
    how = "npm install --ignore-scripts @trufflesuite/uws-js-unofficial redis"

    def command(self, port: int, store_port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        argv, env = super().command(port, store_port, folder)
        return argv, {**env, "UWS": str(self.folder / "node_modules" / self.shown / "dist" / "uws.js")}

    def speech(self, one_each: bool, store_port: int, port: int, targets: int) -> Speech:
        place = channel(one_each)
        return Speech(
            steps=(("", f'{{"sub":"{place}"}}'), ('"ok"', "")),
            templates=(redis_command(b"PUBLISH", f"ev:{place}".encode(), BODY),),
            publish_port=store_port,
            targets=targets,
            one_each=one_each,
        )


class SocketIo(_Node):
    """Socket.IO with its Redis adapter: what most people would begin with."""

    name = "socketio"
    title = "Socket.IO + Redis adapter"
    packages = ("socket.io", "@socket.io/redis-adapter", "redis")
    shown = "socket.io"
    script = "socketio.js"
    how = "npm install socket.io @socket.io/redis-adapter redis"

    def speech(self, one_each: bool, store_port: int, port: int, targets: int) -> Speech:
        place = channel(one_each)
        packet = {"type": 2, "data": ["ev", EVENT], "nsp": "/"}  # as the adapter's emitter writes it
        rooms = {"rooms": [place], "except": [], "flags": {}}
        message = msgspec.msgpack.encode(["emitter", packet, rooms])
        return Speech(
            path="/socket.io/?EIO=4&transport=websocket",
            steps=(("0{", "40"), ("40", f'42["sub","{place}"]'), ('"ok"', "")),
            reply=("2", "3"),
            templates=(redis_command(b"PUBLISH", f"socket.io#/#{place}#".encode(), message),),
            publish_port=store_port,
            targets=targets,
            one_each=one_each,
        )


class Nchan(Other):
    """Nchan: publish and subscribe inside nginx, in C; published to by HTTP, as it is made for."""

    name = "nchan"
    title = "Nchan + Redis"
    how = "apt-get install nginx-core libnginx-mod-nchan"

    def missing(self) -> str | None:
        absent = [name for name, found in (("nginx", self._nginx()), ("its Nchan module", self._module())) if not found]
        return f"not installed: {' and '.join(absent)}" if absent else None

    async def version(self) -> str:
        said = (await output_of(str(self._nginx()), "-v")).removeprefix("nginx version: ")
        if shutil.which("dpkg-query") is None:
            return said
        return f"{await output_of('dpkg-query', '-Wf', 'Nchan ${Version}', 'libnginx-mod-nchan')}, {said}"

    async def install(self) -> None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise BenchError(f"{self.title} comes as Debian packages, which root installs: {self.how}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # the latter: start no service
        await output_of("apt-get", "update", "-qq", env=quiet)
        await output_of("apt-get", "install", "-y", "-qq", "nginx-core", "libnginx-mod-nchan", env=quiet)

    def command(self, port: int, store_port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        text = (HERE / "nchan.conf").read_text()
        user = "user root;" if os.geteuid() == 0 else ""  # else its worker couldn't write into our folder
        words = {"USER": user, "MODULE": self._module(), "FOLDER": folder, "PORT": port, "STORE": store_port}
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        config = folder / "nginx.conf"
        config.write_text(text)
        return [str(self._nginx()), "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")], {}

    def speech(self, one_each: bool, store_port: int, port: int, targets: int) -> Speech:
        place = channel(one_each)
        head = f"POST /pub/{place} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return Speech(
            path=f"/sub/{place}",
            templates=(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY,),
            publish_port=port,
            targets=targets,
            one_each=one_each,
        )

    async def settled(self, port: int) -> None:
        """It listens before it is connected to Redis, and answers 503 until then."""
        http = HttpClient(f"http://127.0.0.1:{port}")
        try:
            for _ in range(SETTLE_TRIES):
                if (await http.request("POST", "/pub/settled", b"?")).status < 300:
                    return
                await asyncio.sleep(0.05)
            raise BenchError(f"{self.title} takes no message, though it is connected to by HTTP")
        finally:
            await http.close()

    @staticmethod
    def _nginx() -> str | None:
        return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")

    @staticmethod
    def _module() -> Path | None:
        return next((p for folder in MODULES if (p := Path(folder) / "ngx_nchan_module.so").exists()), None)


OTHERS: Final[dict[str, type[Other]]] = {kind.name: kind for kind in (Uws, Nchan, SocketIo)}


async def install(scratch: Path, names: list[str]) -> dict[str, str]:
    """Get those peers; what went wrong by name."""
    outcomes = await asyncio.gather(*(OTHERS[name](scratch).install() for name in names), return_exceptions=True)
    wrong: dict[str, str] = {}
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, BenchError):
            wrong[name] = str(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
    return wrong
