"""
`hub demo`: a hub with an embedded store, a simulated contact centre on it, and tokens to look at both.

    this process ──starts──► hub serve (child) ◄── sockets, HTTP ── Centre (in this process)
         └── prints addresses and tokens, then a live summary; Ctrl-C ends all of it
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from clients.connector import connect_connector
from clients.launch import HubProcess, NotStarted, free_port, new_secret, start_hub
from clients.simulate.centre import Centre
from clients.simulate.people import QUEUES
from clients.supervisor import connect_supervisor
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token
from clients.wire import ClientError

ORG: Final = "demo"

CONFIG: Final = """\
# Made by `hub demo`.

guests_org = "demo"

[queues.support]
name = "Support"
division = "home"
wrapup_prompt = "mandatory"
wrapup_codes = ["resolved", "follow-up", "wrong number"]

[queues.billing]
name = "Billing"
division = "home"
wrapup_prompt = "timeout"
wrapup_timeout_ms = 60000
wrapup_codes = ["refunded", "explained", "escalated"]

[queues.sales]
name = "Sales"
division = "home"
wrapup_prompt = "optional"
wrapup_timeout_ms = 30000
wrapup_codes = ["sold", "not interested", "call back"]

[channels.web]
agent_name_visible = true
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hub demo`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: %(default)s; if in use, a free one)")
    parser.add_argument("--data-dir", type=Path, help="keep the store here (default: a temporary directory)")
    parser.add_argument("--conversations", type=int, default=24, help="live at a time (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="conversations begun a second (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="how much quicker than people (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed plays the same script (default: %(default)s)"
    )
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so many seconds")
    parser.add_argument("--no-traffic", action="store_true", help="only the hub and the tokens, no simulated people")


async def run_demo(args: argparse.Namespace) -> int:
    """
    Run the demo until Ctrl-C (or `--for`); returns the exit status: 0, or 1 where the hub didn't start or died.

    The store's directory is removed at the end unless `--data-dir` names one.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if args.seconds is not None:
        loop.call_later(args.seconds, stop.set)
    with tempfile.TemporaryDirectory(prefix="hub-demo-", ignore_cleanup_errors=True) as temporary:
        data_dir = args.data_dir or Path(temporary) / "data"
        config = Path(temporary) / "hub.toml"
        config.write_text(CONFIG, encoding="utf-8")
        secret = _secret(args.data_dir)
        personas = Path(temporary) / "personas.json"
        personas.write_text(json.dumps({"personas": people_of(secret)}), encoding="utf-8")
        try:
            port = free_port(args.host, args.port)
            if args.port not in (0, port):
                print(f"Port {args.port} is in use; taking {port}.", flush=True)
            print("Starting the hub and its store ...", flush=True)
            async with start_hub(
                data_dir,
                config=config,
                host=args.host,
                port=port,
                secret=secret,
                stop=stop,
                variables={"HUB_PERSONAS": str(personas)},
            ) as hub:
                return await _show(args, hub, secret, stop)
        except NotStarted as error:
            if stop.is_set():
                return 0
            print(f"The hub did not start: {error}", file=sys.stderr)
            return 1


async def _show(args: argparse.Namespace, hub: HubProcess, secret: str, stop: asyncio.Event) -> int:
    print_welcome(hub.url, secret)
    centre = Centre(
        hub.url,
        secret,
        seed=args.seed,
        conversations=args.conversations,
        rate=args.rate,
        time_scale=args.speed,
        org=ORG,
        prefix=f"d{int(time.time()):x}",  # a kept store has the conversations of earlier runs
    )
    died = asyncio.ensure_future(hub.process.wait())
    playing: asyncio.Future[Any] = asyncio.ensure_future(stop.wait() if args.no_traffic else centre.run())
    stopping = asyncio.ensure_future(stop.wait())
    summary = asyncio.ensure_future(summarize(centre, quiet=args.no_traffic))
    routing = asyncio.ensure_future(_route_guests(hub.url, secret))
    try:
        await asyncio.wait({died, playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return 0 if stop.is_set() else await _explain(died, playing)
    finally:
        for each in (summary, routing, playing, stopping, died):
            each.cancel()
        # The hub may be gone already; the centre's goodbyes get a moment, not more.
        await asyncio.wait({summary, routing, playing, stopping, died}, timeout=0.5)
        print("\nStopped." if sys.stdout.isatty() else "stopped", flush=True)


async def _explain(died: "asyncio.Future[int]", playing: "asyncio.Future[Any]") -> int:
    if died.done():
        print(f"The hub ended by itself with status {died.result()}.", file=sys.stderr)
    elif playing.done() and not playing.cancelled():
        error = playing.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        kind = "refused the simulation" if isinstance(error, ClientError) else "and the simulation disagree"
        print(f"The hub {kind}: {error!r}", file=sys.stderr)
    return 1


PEOPLE: Final = (  # id, name, role, app, what they are for, permissions
    (
        "ana",
        "Ana Ortiz",
        "supervisor",
        "console",
        "Supervisor: watches, takes over, looks back",
        SUPERVISOR_PERMISSIONS,
    ),
    ("bo", "Bo Lind", "supervisor", "console", "A second supervisor, to see the lock", SUPERVISOR_PERMISSIONS),
    ("cy", "Cy Park", "supervisor", "console", "May monitor, but not take over", ("view", "monitor", "history")),
    ("lea", "Lea Moser", "agent", "desk", "Agent: gets the messenger's conversations", ()),
    ("tom", "Tom Reed", "agent", "desk", "A second agent", ()),
    ("ada", "Ada Stone", "admin", "console", "May release monitors", (*SUPERVISOR_PERMISSIONS, "release", "admin")),
)


def people_of(secret: str) -> list[dict[str, str]]:
    """The demonstration's people with tokens for 8 hours; agents answer all queues, the others see everything."""
    return [
        {
            "id": sub,
            "name": name,
            "role": role,
            "app": app,
            "note": note,
            "token": make_token(
                secret, role, sub, name, org=ORG, permissions=permissions, queues=QUEUES if role == "agent" else ("*",)
            ),
        }
        for sub, name, role, app, note, permissions in PEOPLE
    ]


async def _route_guests(url: str, secret: str) -> None:
    """Give each conversation that starts in the messenger to an agent who is there: the centre knows only its own."""
    agents = [(sub, name) for sub, name, role, *_ in PEOPLE if role == "agent"]
    begun: dict[str, int] = {}
    watcher = make_token(secret, "admin", "router", "Router", org=ORG, permissions=("view",))
    token = make_token(secret, "connector", "router", "Router", org=ORG)
    sockets = url.replace("http", "ws", 1)
    async with (
        connect_supervisor(sockets, token=watcher) as hub,
        connect_connector(sockets, token=token) as platform,
    ):
        await hub.view_subscribe("interactions", filter={"state": "queued", "channels": ["web"]})
        async for event in hub:
            for row in event.data.get("rows", ()) if event.event.startswith("view.") else ():
                conversation_id = row["conversation_id"]
                if not conversation_id.startswith("cnv_") or conversation_id in begun:
                    continue
                begun[conversation_id] = len(begun)
                sub, name = agents[(len(begun) - 1) % len(agents)]
                data = {"participant_id": f"prt_{sub}_{len(begun)}", "purpose": "agent", "user_id": sub, "name": name}
                await platform.push_event(
                    {
                        "id": f"evt_route_{conversation_id}"[:64],
                        "type": "participant.connected",
                        "conversation_id": conversation_id,
                        "at": int(time.time() * 1000),
                        "data": data,
                    }
                )


def print_welcome(url: str, secret: str) -> None:
    print(f"\n  console    {url}/\n  desk       {url}/desk\n  messenger  {url}/messenger\n")
    print("Tokens, good for 8 hours (the pages offer these people to click):\n")
    for person in people_of(secret):
        print(f"  {person['role']} {person['name']}: {person['note']}\n  {person['token']}\n")
    print("In another terminal, with a supervisor's token:\n")
    print(f"  hub tail --url {url.replace('http', 'ws', 1)} --token TOKEN\n\nCtrl-C ends everything.\n", flush=True)


async def summarize(centre: Centre, *, quiet: bool) -> None:
    """One line about what goes on: rewritten in place on a terminal, every 5 s elsewhere."""
    terminal = sys.stdout.isatty()
    began = time.monotonic()
    while not quiet:
        await asyncio.sleep(1 if terminal else 5)
        text = summary_line(centre, time.monotonic() - began)
        print(f"\r\033[2K{text}" if terminal else text, end="" if terminal else "\n", flush=True)


def summary_line(centre: Centre, seconds: float) -> str:
    """What happened in the centre so far, on one line of at most 120 characters."""
    tally, stages = centre.tally, centre.stages
    minutes, rest = divmod(int(seconds), 60)
    return (
        f"{minutes:02}:{rest:02}  live {len(centre.live)}: {stages['queued']} waiting, {stages['bot']} bot, "
        f"{stages['agent']} agent, {stages['supervisor']} supervisor | begun {tally.started}, ended {tally.ended}, "
        f"messages {tally.said.total()}, takeovers {tally.takeovers}"
    )


def _secret(data_dir: Path | None) -> str:
    """A new random secret, or that of the kept store, so that its tokens stay good."""
    new = new_secret()
    if data_dir is None:
        return new
    data_dir.mkdir(parents=True, exist_ok=True)
    kept = data_dir / "demo-secret"
    if not kept.exists():
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new)
    return kept.read_text(encoding="ascii").strip()
