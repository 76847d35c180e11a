"""What docker-compose.yml mounts, run here: the proxy before two hubs, and stores made by the scripts."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from clients.load.dashboard import FILES
from tests.support.centre import Centre
from tests.support.engines import wait_until
from tests.support.processes import ROOT, HubProcess, StoreProcess, free_port, store_binary
from tests.support.socket import eventually

READY_S = 15.0


def program(*names: str) -> str:
    """Path of the first that is installed; else the test is left out, with the reason."""
    for name in names:
        if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
            return found
    pytest.skip(f"{' or '.join(names)} isn't installed")


@contextlib.contextmanager
def running(line: list[str], log: Path, cwd: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(line, stdout=output, stderr=output, cwd=cwd, env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def gauge(centre: Centre, hub: HubProcess, name: str) -> float:
    """Sum of a metric's samples at one hub."""
    families = text_string_to_metric_families((await centre.http.get(hub.metrics)).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


# The proxy.


class Proxied(HubProcess):
    """Two hubs behind HAProxy, as one hub looks to its clients."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.port = port


@contextlib.asynccontextmanager
async def behind_proxy(folder: Path, *ports: int) -> AsyncIterator[Centre]:
    """An organization whose people go through the proxy, with compose's configuration, to hubs on these ports."""
    port = free_port()
    variables = {f"NODE_{number}": f"127.0.0.1:{each}" for number, each in enumerate(ports, 1)}
    line = [program("haproxy"), "-db", "-f", str(FILES / "haproxy.cfg")]
    with running(line, folder / "log", folder, {"PROXY_BIND": f"127.0.0.1:{port}", **variables}):
        centre = Centre(Proxied(folder / "proxied", port))

        async def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await centre.http.get(f"{centre.hub.url}/readyz")).status_code == 200
            return False

        await eventually(ready, timeout=READY_S)
        yield centre
        await centre.close()


@pytest_asyncio.fixture
async def proxied(nodes: tuple[HubProcess, HubProcess], tmp_path: Path) -> AsyncIterator[Centre]:
    """An organization behind the proxy to both hubs."""
    async with behind_proxy(tmp_path, *(hub.port for hub in nodes)) as centre:
        yield centre


async def test_sockets_are_spread_over_the_hubs(proxied: Centre, nodes: tuple[HubProcess, HubProcess]) -> None:
    """Each new socket goes where the fewest are; a conversation is watched through the proxy as without."""
    before = [await gauge(proxied, hub, "hub_sockets") for hub in nodes]
    bosses = [await proxied.supervisor(f"boss-{number}") for number in range(4)]
    after = [await gauge(proxied, hub, "hub_sockets") for hub in nodes]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 2]
    story = await proxied.story()
    await story.monitored_by(bosses[1])
    await story.customer_says("Through the proxy")
    await bosses[1].expect("message.created", story.id, text="Through the proxy")


async def test_a_hub_that_is_not_ready_gets_nothing(nodes: tuple[HubProcess, HubProcess], tmp_path: Path) -> None:
    """With one of two hubs away every socket opens at the other, also before the proxy has noticed."""
    async with behind_proxy(tmp_path, nodes[0].port, free_port()) as centre:
        before = await gauge(centre, nodes[0], "hub_sockets")
        for number in range(4):
            await centre.supervisor(f"boss-{number}")
        assert await gauge(centre, nodes[0], "hub_sockets") == before + 4


async def test_the_proxy_gives_no_metrics(proxied: Centre) -> None:
    """Not even with an admin's token: whoever may read them asks a hub itself."""
    admin = {"authorization": f"Bearer {proxied.token('root', 'admin')}"}
    assert (await proxied.http.get(f"{proxied.hub.url}/metrics", headers=admin)).status_code == 403


# Stores of other kinds.


@pytest.fixture
def image(tmp_path: Path) -> dict[str, str]:
    """Variables that give the scripts what the store's image has: its programs and its entry point."""
    folder = tmp_path / "bin"
    folder.mkdir()
    runs = {
        "docker-entrypoint.sh": '"$@"',
        "valkey-server": f'{store_binary()} "$@"',
        "valkey-cli": f'{program("valkey-cli", "redis-cli")} "$@"',
    }
    for name, what in runs.items():
        (folder / name).write_text(f"#!/bin/sh\nexec {what}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def answers(line: list[str], environment: dict[str, str], wanted: str) -> Callable[[], bool]:
    """A question by command line, and whether the answer has `wanted` in it."""

    def ask() -> bool:
        said = subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, timeout=10)
        return said.returncode == 0 and wanted in said.stdout

    return ask


async def assert_a_hub_takes(url: str, folder: Path, **environment: str) -> None:
    """A hub starts on the store and is ready, with everything as it should be."""
    hub = HubProcess(folder, redis_url=url, environment=environment)
    centre = Centre(hub)
    try:
        await asyncio.to_thread(hub.start)
        assert (await centre.http.get(f"{hub.url}/readyz")).status_code == 200
        for name in ("hub_store_ok", "hub_store_durable", "hub_store_vouched"):
            await eventually(partial(_is_one, centre, hub, name), wanted=name)
    finally:
        await centre.close()
        hub.kill()


async def _is_one(centre: Centre, hub: HubProcess, name: str) -> bool:
    return await gauge(centre, hub, name) == 1


async def test_cluster_script_makes_a_store(image: dict[str, str], tmp_path: Path) -> None:
    """Three servers with compose's settings become one Cluster of names; asked again, the script changes nothing."""
    with contextlib.ExitStack() as servers:
        nodes = []
        for number in range(3):
            options = ["--include", str(FILES / "valkey.conf"), "--cluster-enabled", "yes", "--dir", "."]
            options += ["--cluster-port", str(free_port()), "--cluster-announce-hostname", "localhost"]
            store = StoreProcess(tmp_path / f"{number}", [*options, "--cluster-preferred-endpoint-type", "hostname"])
            servers.callback(store.kill)
            nodes.append(f"localhost:{store.start().port}")
        for _ in range(2):
            line = ["sh", str(FILES / "cluster.sh"), *nodes]
            said = subprocess.run(line, env=os.environ | image, capture_output=True, text=True, timeout=30)
            assert said.returncode == 0, said.stdout + said.stderr
        await assert_a_hub_takes(f"redis+cluster://{','.join(nodes)}", tmp_path / "hub", HUB_STORE_REPLICAS="0")


async def test_sentinel_script_makes_a_store(image: dict[str, str], tmp_path: Path) -> None:
    """Three Sentinels by the script agree on the primary by its name, and a hub believes them; a kept file is kept."""
    with contextlib.ExitStack() as servers:
        common = ["--include", str(FILES / "valkey.conf"), "--replica-announce-ip", "localhost", "--dir", "."]
        common += ["--repl-diskless-sync-delay", "0", "--min-replicas-to-write", "1"]
        primary = StoreProcess(tmp_path / "primary", common)
        servers.callback(primary.kill)
        primary.start()
        replica = StoreProcess(tmp_path / "replica", [*common, "--replicaof", "localhost", str(primary.port)])
        servers.callback(replica.kill)
        replica.start()
        ports = [free_port() for _ in range(3)]
        for port in ports:
            folder = tmp_path / f"sentinel-{port}"
            folder.mkdir()
            line = ["sh", str(FILES / "sentinel.sh"), "localhost", str(primary.port), "localhost", str(port)]
            servers.enter_context(running(line, folder / "log", folder, image))
        for port in ports:
            line = ["valkey-cli", "-e", "-p", str(port), "sentinel", "ckquorum", "hub"]
            wait_until(answers(line, image, "OK 3 usable"), "the Sentinels know each other")
        hosts = ",".join(f"localhost:{port}" for port in ports)
        await assert_a_hub_takes(f"redis+sentinel://{hosts}/hub", tmp_path / "hub")
        assert f"sentinel monitor hub localhost {primary.port} 2" in (folder / "sentinel.conf").read_text()


# All of it.


async def test_ctrl_c_ends_the_whole_stack(tmp_path: Path) -> None:
    """`make stack` prints where everything is; after Ctrl-C it ends with 0, and nobody listens there any more."""
    line = [sys.executable, "-m", "clients.load.stack", "--port", "0", "--prometheus-port", "0", "--grafana-port", "0"]
    said = tmp_path / "said"
    with running(line, said, ROOT, {}) as process:
        await eventually(partial(_has, said, "Ctrl-C ends everything"), timeout=60, wanted="everything started")
        ports = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", said.read_text())}
        assert len(ports) >= 4  # two hubs, each with an address for metrics
        assert all(map(is_open, ports))
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 15) == 0, said.read_text()
    assert not any(map(is_open, ports))


async def _has(file: Path, text: str) -> bool:
    return text in file.read_text()


def is_open(port: int) -> bool:
    """True where somebody listens on that port of the loopback."""
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0
