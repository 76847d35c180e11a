"""
Real engines for contract tests: the embedded Valkey, Debian's redis-server, and a Cluster of three.

`tests/contract/conftest.py` makes them fixtures; `engines` runs a test on each of the three. They are
started once per test process, on unix sockets (and ports of the loopback for the Cluster), keep nothing on disk, and
end with us, even when we are killed.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import hiredis
import pytest

from hub.store.embedded import find_engine
from hub.store.keys import SLOTS, Keys, slot
from tests.support.processes import free_port

Kind = Literal["valkey", "redis", "cluster"]
START_S = 10.0
CLUSTER_NODES = 3


def wait_until(condition: Callable[[], bool], what: str, within_s: float = START_S) -> None:
    """Poll `condition` until it holds; fails the test when it doesn't."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, f"still not: {what}"
        time.sleep(0.01)


class Engine:
    """
    One server process on `host`, in a network of its own where `within` is the command that enters it. `ask` talks to it
    past everything under test.
    """

    def __init__(
        self,
        binary: str,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="engine"))  # short: a unix socket's path has 107 bytes at most
        self.path = self.folder / "s"
        self.port = port
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self._line = [*within, binary, *self._place(), "--save", "", "--appendonly", "no", *options]

    def _place(self) -> list[str]:
        place = ["--port", str(self.port), "--bind", self.host, "--unixsocket", str(self.path)]
        return [*place, "--dir", str(self.folder), "--protected-mode", "no"]  # else only the loopback would be let in

    @classmethod
    def sentinel(
        cls,
        binary: str,
        service: str,
        primary: "Engine",
        *,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
        quorum: int = 1,
        down_after_ms: int = 30_000,
    ) -> "Engine":
        """A Sentinel that watches one service; not started yet."""
        self = cls(binary, port=free_port(), host=host)
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {service} {primary.host} {primary.port} {quorum}\n"
            f"sentinel down-after-milliseconds {service} {down_after_ms}\n"
            f"sentinel failover-timeout {service} 10000\n"
        )
        self._line = [*within, binary, str(config), "--sentinel", *self._place()]
        return self

    def start(self) -> "Engine":
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._line, stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent()
            )
        wait_until(self._answers, "the engine answers")
        return self

    def ask(self, *args: str | bytes) -> Any:
        """Answer to one command; an error answer raises `hiredis.ReplyError`."""
        reader = hiredis.Reader()
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(START_S)
            line.connect(str(self.path))
            line.sendall(cast(bytes, hiredis.pack_command(cast(Any, args))))
            while (answer := reader.gets()) is False:
                data = line.recv(1 << 16)
                assert data, "the engine hung up"
                reader.feed(data)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP freezes it, SIGCONT wakes it."""
        assert self.process is not None
        self.process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Neither answers nor hangs up meanwhile."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; what it had is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def remove(self) -> None:
        """End it and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with contextlib.suppress(OSError, hiredis.ReplyError):
            return bool(self.ask("PING") == b"PONG")
        return False


class Engines:
    """
    A store under test: its `url`, its `nodes`, and what only its owner may do. A Cluster of three has `replicas` behind
    its primaries on wish: then `nodes` are six, and the fourth follows the first.
    """

    def __init__(self, kind: Kind, *, replicas: bool = False, node_timeout_ms: int = 5_000) -> None:
        self.kind = kind
        if kind == "cluster":
            ports = [free_port() for _ in range(CLUSTER_NODES * (2 if replicas else 1))]
            options = [_cluster_options(node_timeout_ms) for _ in ports]
            self.nodes = [
                Engine(str(find_engine()), port=port, options=one) for port, one in zip(ports, options, strict=True)
            ]
            self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        else:
            binary = str(find_engine()) if kind == "valkey" else str(shutil.which("redis-server"))
            self.nodes = [Engine(binary)]
            self.url = f"unix://{self.nodes[0].path}"

    def start(self) -> "Engines":
        """Start all nodes and make them one store."""
        for node in self.nodes:
            node.start()
        if self.kind == "cluster":
            self._join()
        return self

    @property
    def clustered(self) -> bool:
        """True for the Cluster."""
        return self.kind == "cluster"

    def node_of(self, key: bytes) -> Engine:
        """Node whose data `key` is now."""
        for first, last, node, *_ in self.nodes[0].ask("CLUSTER", "SLOTS") if self.clustered else ():
            if first <= slot(key) <= last:
                return next(engine for engine in self.nodes if engine.port == node[1])
        return self.nodes[0]

    def ask(self, *args: str | bytes) -> list[Any]:
        """Answers of all nodes to one command."""
        return [node.ask(*args) for node in self.nodes]

    def move_slot(self, number: int, target: Engine) -> None:
        """Give a slot with everything in it to `target`, key by key, as an operator's tool would."""
        source = self._owner(number)
        source_id, target_id = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
        target.ask("CLUSTER", "SETSLOT", str(number), "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", str(number), "MIGRATING", target_id)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", str(number), "1"):
            source.ask("MIGRATE", "127.0.0.1", str(target.port), keys[0], "0", "1000")
        for node in (target, source, *self.nodes[:CLUSTER_NODES]):
            node.ask("CLUSTER", "SETSLOT", str(number), "NODE", target_id)

    def remove(self) -> None:
        """End all nodes and delete their folders."""
        for node in self.nodes:
            node.remove()

    def _owner(self, number: int) -> Engine:
        for first, last, node, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= number <= last:
                return next(engine for engine in self.nodes if engine.port == node[1])
        raise AssertionError("nobody has the slot")

    def _join(self) -> None:
        primaries, replicas = self.nodes[:CLUSTER_NODES], self.nodes[CLUSTER_NODES:]
        bounds = [round(i * SLOTS / CLUSTER_NODES) for i in range(CLUSTER_NODES + 1)]
        for i, node in enumerate(primaries):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(bounds[i]), str(bounds[i + 1] - 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(i + 1))
        for node in self.nodes[1:]:
            bus = self.nodes[0].ask("CONFIG", "GET", "cluster-port")[1]
            node.ask("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port), bus)

        def joined() -> bool:
            infos = self.ask("CLUSTER", "INFO")
            known = f"cluster_known_nodes:{len(self.nodes)}".encode()
            return all(b"cluster_state:ok" in info and known in info for info in infos)

        wait_until(joined, "the Cluster is one")
        for primary, replica in zip(primaries, replicas, strict=bool(replicas)):
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        if replicas:
            wait_until(lambda: all(map(followed, primaries)), "each primary has a replica")


def followed(primary: Engine, replicas: int = 1) -> bool:
    """True where that many replicas have acknowledged something: one that is still being filled hasn't."""
    return sum(int(offset) > 0 for _, _, offset in primary.ask("ROLE")[2]) >= replicas


def _cluster_options(node_timeout_ms: int) -> tuple[str, ...]:
    options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-port": str(free_port())}
    options["cluster-node-timeout"] = str(node_timeout_ms)  # one that a test freezes for a moment isn't given up
    options["repl-diskless-sync-delay"] = "0"
    return tuple(word for name, value in options.items() for word in (f"--{name}", value))


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask_for_death() -> None:
        libc.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask_for_death


_started: dict[str, Engines] = {}


@pytest.fixture(scope="session")
def _engines_end() -> Iterator[None]:
    yield
    for started in _started.values():
        started.remove()
    _started.clear()


@pytest.fixture(params=["valkey", "redis", "cluster"])
def engines(request: pytest.FixtureRequest, _engines_end: None) -> Engines:
    """A store of each kind, shared by all tests of this process: use keys of your own (`keys`)."""
    return start_once(request.param)


@pytest.fixture
def valkey(_engines_end: None) -> Engines:
    """The embedded Valkey alone, shared."""
    return start_once("valkey")


@pytest.fixture
def cluster(_engines_end: None) -> Engines:
    """The Cluster alone, shared."""
    return start_once("cluster")


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """An embedded Valkey that a test may kill."""
    engine = Engine(str(find_engine())).start()
    yield engine
    engine.remove()


@pytest.fixture
def keys() -> Keys:
    """Keys that no other test has."""
    return Keys(f"t{uuid.uuid4().hex[:12]}")


def start_once(kind: Kind) -> Engines:
    """The store of that kind, started by the first test that wants it."""
    if kind == "redis" and shutil.which("redis-server") is None:
        assert os.environ.get("CI") != "true", "redis-server is missing: apt-get install redis-server"
        pytest.skip("redis-server is missing: apt-get install redis-server")
    if kind not in _started:
        engines = Engines(kind)
        try:
            _started[kind] = engines.start()
        except BaseException:
            engines.remove()
            raise
    return _started[kind]
