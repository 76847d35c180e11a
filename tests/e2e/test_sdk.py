"""The Python SDK, the simulated centre and the client programs against a real hub."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from clients import (
    Event,
    HubError,
    Options,
    Session,
    Supervisor,
    connect_agent,
    connect_connector,
    connect_customer,
    connect_supervisor,
)
from clients.policy import Backoff
from clients.simulate import Centre
from clients.tokens import SUPERVISOR_PERMISSIONS, make_token
from tests.support.processes import ROOT, SECRET, HubProcess

FAST = Options(backoff=Backoff(base_ms=20, cap_ms=200), open_timeout_s=10, command_timeout_s=10)


@pytest.fixture
def org() -> str:
    """An organization that no other test has."""
    return f"sdk-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def token(org: str) -> Callable[..., str]:
    """Tokens of that organization: `token(role, user id)`."""

    def make(role: str, sub: str, name: str = "", **more: Any) -> str:
        permissions = (*SUPERVISOR_PERMISSIONS, "release") if role == "supervisor" else ()
        return make_token(SECRET, role, sub, name, org=org, permissions=permissions, **more)

    return make


@pytest.fixture
async def ana(hub: HubProcess, token: Callable[..., str]) -> AsyncIterator[Supervisor]:
    """A supervisor who is Available."""
    async with connect_supervisor(hub.url, token=token("supervisor", "ana", "Ana Ortiz"), options=FAST) as client:
        await client.status_set("available")
        yield client


async def next_event(client: Session, name: str, **data: Any) -> Event:
    """The next event of that name with those data; others before it are passed over."""
    async with asyncio.timeout(10):
        while True:
            event = await client.recv()
            if event.event == name and data.items() <= event.data.items():
                return event


def said(conversation: str, number: int, text: str = "Hello", participant: str | None = None) -> dict[str, Any]:
    """A message's event."""
    who = {"participant_id": participant} if participant else {"purpose": "customer"}
    data = {"message_id": f"{conversation}-m{number}", "text": text, **who}
    return {"id": f"m{number}", "type": "message.created", "conversation_id": conversation, "at": 1, "data": data}


def begun(conversation: str, queue: str = "support") -> list[dict[str, Any]]:
    """A conversation with one agent, max."""
    started = {"channel": "web", "queue": queue, "customer": {"id": "cus", "name": "Dana"}, "subject": "Refund"}
    agent = {"participant_id": f"{conversation}-max", "purpose": "agent", "user_id": "max", "name": "Max Weber"}
    base = {"conversation_id": conversation, "at": 1}
    return [
        {"id": "e1", "type": "conversation.started", "data": started, **base},
        {"id": "e2", "type": "participant.connected", "data": agent, **base},
    ]


async def test_a_takeover_by_the_sdk_alone(hub: HubProcess, token: Callable[..., str], ana: Supervisor) -> None:
    """Platform, agent, customer's answer and supervisor, all by the SDK: from the first event to the wrap-up."""
    async with (
        connect_connector(hub.url, token=token("connector", "platform"), options=FAST) as platform,
        connect_agent(hub.url, token=token("agent", "max", "Max Weber"), options=FAST) as agent,
    ):
        results = await platform.post_events([*begun("cnv_1", "billing"), said("cnv_1", 1)])
        assert [each.status for each in results] == ["accepted"] * 3
        assert (await platform.push_event(said("cnv_1", 1))).status == "duplicate"
        await next_event(agent, "conversation.snapshot")

        monitor = await ana.monitor_start("cnv_1")
        started = await next_event(ana, "monitor.started", monitor_id=monitor.monitor_id)
        assert started.data["snapshot"]["messages"][0]["text"] == "Hello"
        await agent.message_send("cnv_1", "Max here.", "a1")
        outbound = await next_event(platform, "outbound.message", text="Max here.")
        await platform.delivery_report(outbound.data["message_id"], "sent")
        assert (await next_event(ana, "message.created", text="Max here.")).cursor

        plan = await ana.takeover_prepare("cnv_1")
        assert [each["user_id"] for each in plan.consequences["removed"]] == ["max"]
        owned = await ana.takeover_confirm(plan.takeover_id, plan.confirm_token)
        notice = await next_event(agent, "takeover.notified", takeover_id=plan.takeover_id)
        assert notice.data["supervisor"]["name"] == "Ana Ortiz"
        await agent.takeover_acknowledge(plan.takeover_id)
        with pytest.raises(HubError) as refused:
            await agent.message_send("cnv_1", "Wait!", "a2")
        assert (refused.value.code, refused.value.details["draft"]) == ("stale_owner", "Wait!")
        await agent.wrapup_submit("cnv_1", "resolved")

        await ana.message_send("cnv_1", "I take care of it.", "s1")
        for _ in range(4):
            action = await platform.recv()
            while "action_id" in action.data:
                await platform.action_done(action.data["action_id"])
                action = await platform.recv()
            if action.event == "outbound.message":
                break
        assert (action.data["text"], action.data["owner_epoch"]) == ("I take care of it.", owned.owner_epoch)
        await platform.delivery_report(action.data["message_id"], "delivered")
        await ana.conversation_end("cnv_1")
        await next_event(ana, "wrapup.requested")
        await ana.wrapup_submit("cnv_1", "resolved", "All good.")
        await next_event(ana, "wrapup.completed")
        assert ana.gaps == agent.gaps == 0


async def test_a_broken_line_loses_and_doubles_nothing(
    hub: HubProcess, token: Callable[..., str], ana: Supervisor
) -> None:
    """While messages pour in, the monitor's line breaks again and again: every message comes once, in order."""
    total = 120
    async with connect_connector(hub.url, token=token("connector", "platform"), options=FAST) as platform:
        await platform.post_events(begun("cnv_1"))
        await ana.monitor_start("cnv_1")
        await next_event(ana, "monitor.started")

        async def pour() -> None:
            for number in range(total):
                await platform.push_event(said("cnv_1", number, str(number)))
                if number % 40 == 20:
                    ana._abort()

        pouring = asyncio.create_task(pour())
        texts: list[str] = []
        async with asyncio.timeout(20):
            while len(texts) < total:
                event = await ana.recv()
                assert event.event != "stream.reset"
                if event.event == "session.started":
                    assert event.data["resumed"] or not texts
                texts += [event.data["text"]] if event.event == "message.created" else []
        await pouring
    assert texts == [str(number) for number in range(total)]
    assert ana.reconnects == 3
    assert ana.gaps == 0


async def test_commands_survive_a_broken_line(hub: HubProcess, token: Callable[..., str], ana: Supervisor) -> None:
    """A line that breaks right after a command was sent still brings its one answer."""
    async with connect_connector(hub.url, token=token("connector", "platform"), options=FAST) as platform:
        await platform.post_events(begun("cnv_1"))
        starting = asyncio.create_task(ana.monitor_start("cnv_1"))
        await asyncio.sleep(0)
        ana._abort()
        monitor = await starting
        assert (await ana.monitor_start("cnv_1")).monitor_id == monitor.monitor_id
        await ana.monitor_stop("cnv_1")


async def test_a_customer_and_the_owner_talk(hub: HubProcess, token: Callable[..., str]) -> None:
    """The web messenger's client begins a conversation under its token's id and is answered there."""
    bearer = token("customer", "cus", "Dana", conversation="cnv_1")
    async with connect_customer(hub.url, token=bearer, options=FAST) as customer:
        await customer.conversation_start("support", "Refund", "Dana")
        snapshot = await next_event(customer, "conversation.snapshot")
        assert snapshot.conversation_id == "cnv_1"
        sent = await customer.message_send("cnv_1", "Hi", "c1")
        assert await customer.message_send("cnv_1", "Hi", "c1") == sent
        await customer.conversation_end("cnv_1")
        await next_event(customer, "conversation.ended")


async def test_views_show_a_simulated_centre(hub: HubProcess, org: str, ana: Supervisor) -> None:
    """The simulated centre plays to its end on the public interface, without anything refused but what was over."""
    centre = Centre(hub.url, SECRET, seed=5, org=org, conversations=12, rate=200, total=12, time_scale=400)
    view = await ana.view_subscribe("interactions", filter={"state": ["queued", "active", "wrapup", "ended"]})
    playing = asyncio.create_task(centre.run())
    rows: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(60):
        while len(rows) < 12 or any(row["state"] not in ("ended", "wrapup") for row in rows.values()):
            event = await ana.recv()
            if event.data.get("subscription") == view:
                rows |= {row["conversation_id"]: row for row in event.data["rows"]}
        await playing
    assert centre.tally.started == centre.tally.ended == 12
    assert {row["channel"] for row in rows.values()} <= {"web", "open", "sms"}
    assert set(centre.refused) <= {"conversation_ended"}


async def test_a_centre_goes_on_with_a_supervisor(hub: HubProcess, org: str, ana: Supervisor) -> None:
    """When a simulated agent's conversation is taken over, the agent acknowledges and the customer answers us."""
    centre = Centre(hub.url, SECRET, seed=9, org=org, conversations=6, rate=100, time_scale=4)
    playing = asyncio.create_task(centre.run())
    try:
        await ana.view_subscribe("interactions", filter={"state": "active"})
        async with asyncio.timeout(30):
            conversation = await with_agent(ana)
            await ana.monitor_start(conversation)
            plan = await ana.takeover_prepare(conversation)
            await ana.takeover_confirm(plan.takeover_id, plan.confirm_token)
            await ana.message_send(conversation, "Sorry for the trouble. How can I help?", "s1")
            while not centre.staff.takeovers_seen.total():  # noqa: ASYNC110 - a counter of another program's part
                await asyncio.sleep(0.01)
        answer = await next_event(ana, "message.created", purpose="customer")
        assert answer.data["text"]
        assert centre.stages["supervisor"] == 1
    finally:
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing


async def with_agent(ana: Supervisor) -> str:
    """A conversation of the view that an agent of the simulation has."""
    while True:
        event = await ana.recv()
        for row in event.data.get("rows", []):
            if row["owner"] and row["agents"][0]["purpose"] == "agent":
                return str(row["conversation_id"])


# Programs


async def start_program(*words: str, **environment: str) -> asyncio.subprocess.Process:
    """`hub <words>` in a process of its own, its output in a pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hub",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def processes_of_session(session: int) -> list[int]:
    """Live processes of a session (Linux): a program's children that it left behind."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


async def test_ctrl_c_ends_the_demo_and_its_children(tmp_path: Path) -> None:
    """The demo prints addresses, tokens and a summary; SIGINT ends it with status 0 in 3 s, and no child stays."""
    demo = await start_program("demo", "--port", "0", "--speed", "20", "--rate", "20", TMPDIR=str(tmp_path))
    assert demo.stdout is not None
    hub_pid, text = 0, ""
    async with asyncio.timeout(60):
        while "takeovers" not in text:
            text += (await demo.stdout.readline()).decode()
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        hub_pid = int(children[0])
        demo.send_signal(signal.SIGINT)
        async with asyncio.timeout(3):
            assert await demo.wait() == 0
    for part in ("console    http://127.0.0.1:", "/desk", "supervisor Ana Ortiz", "but not take over", "admin", "eyJ"):
        assert part in text
    assert not processes_of_session(hub_pid)
    assert not list(tmp_path.glob("hub-demo-*"))


async def test_a_killed_demo_leaves_no_hub(tmp_path: Path) -> None:
    """Where the demo itself is killed, its hub and the hub's store end, too."""
    demo = await start_program("demo", "--port", "0", "--no-traffic", TMPDIR=str(tmp_path))
    assert demo.stdout is not None
    async with asyncio.timeout(60):
        while b"Ctrl-C" not in await demo.stdout.readline():
            pass
        hub_pid = int(Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()[0])
        store_pid = int(Path(f"/proc/{hub_pid}/task/{hub_pid}/children").read_text().split()[0])
        demo.kill()
        await demo.wait()
        while processes_of_session(hub_pid) or Path(f"/proc/{store_pid}").exists():  # noqa: ASYNC110 - not our children
            await asyncio.sleep(0.05)


async def test_tail_takes_commands_from_a_pipe(hub: HubProcess, token: Callable[..., str]) -> None:
    """A supervisor in the terminal lists, monitors, reads, is asked, takes over, answers and ends."""
    async with connect_connector(hub.url, token=token("connector", "platform"), options=FAST) as platform:
        await platform.post_events([*begun("cnv_1"), said("cnv_1", 1, "Where is it?\x07"[:12])])
        tail = await start_program("tail", "--url", hub.sockets, "--token", token("supervisor", "bo", "Bo Lind"))
        assert tail.stdin is not None
        assert tail.stdout is not None
        text = ""

        async def read_until(part: str) -> None:
            nonlocal text
            async with asyncio.timeout(15):
                while part not in text:
                    line = await tail.stdout.readline() if tail.stdout else b""
                    assert line, text
                    text += line.decode()
            text = text.partition(part)[2]

        for command, answer in (
            ("monitor cnv_1", "not_available"),
            ("status available", "you are available"),
            ("list", "1 interactions"),
            ("monitor cnv", "customer: Where is it?"),
            ("take cnv_1", "Max Weber will be removed."),
            ("yes", "it is yours now"),
            ("say cnv_1 Hello, Bo here", "supervisor: Hello, Bo here"),
            ("end cnv_1", "[cnv_1] ended"),
        ):
            tail.stdin.write(command.encode() + b"\n")
            await tail.stdin.drain()
            await read_until(answer)
        tail.stdin.write(b"quit\n")
        assert await asyncio.wait_for(tail.wait(), 5) == 0


async def test_a_refused_tail_says_why(hub: HubProcess, token: Callable[..., str]) -> None:
    """A token of another role ends the program with status 1 and the hub's sentence."""
    tail = await start_program("tail", "--url", hub.sockets, "--token", token("agent", "max"))
    out, _ = await asyncio.wait_for(tail.communicate(b""), 15)
    assert tail.returncode == 1
    assert b"not_permitted" in out


async def test_load_reports_as_json(hub: HubProcess, tmp_path: Path) -> None:
    """A small load test against a running hub loses nothing and writes its report."""
    report = tmp_path / "load.json"
    words = ["--conversations", "20", "--supervisors", "2", "--monitors", "10", "--rate", "50", "--seconds", "1"]
    load = await start_program("load", "--url", hub.url, *words, "--json", str(report), HUB_TOKEN_SECRET=SECRET)
    out, _ = await asyncio.wait_for(load.communicate(b""), 30)
    assert load.returncode == 0, out.decode()
    found = orjson.loads(report.read_bytes())
    assert found["sent"] == 50
    assert found["lost"] == 0
    assert found["monitor_frame_ms"]["count"] == found["expected_at_monitors"]


async def test_load_goes_to_loopback_only() -> None:
    """An address that isn't this machine's is refused before anything is sent."""
    load = await start_program("load", "--url", "http://192.0.2.1:8000", HUB_TOKEN_SECRET=SECRET)
    out, _ = await asyncio.wait_for(load.communicate(b""), 15)
    assert load.returncode == 2
    assert b"loopback" in out
