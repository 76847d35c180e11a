"""Slow and stuck readers: they are let go or get the last state later, and nobody else waits for them."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.centre import Centre
from tests.support.plain import plain_client
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import Socket, eventually
from tests.support.view import View

READERS = int(os.environ.get("SOAK_READERS", "1000"))
TABS = 20  # of one supervisor
MESSAGES = 16
# With the limit below half of them fit into a stuck socket: they must overflow it before its silence is noticed, in 5 s.
LONG = "x" * 50_000
EVENTS_AT_ONCE = 15  # a body has a megabyte at most
OUT_S = 10.0


@pytest.fixture
def small_buffers(store: StoreProcess, tmp_path: Path) -> Iterator[HubProcess]:
    """A hub that lets 128 KiB wait for a socket."""
    config = CONFIG + "socket_buffer_bytes_max = 131072\nsockets_per_address = 5000\nsockets_per_user = 21\n"
    hub = HubProcess(tmp_path / "hub", redis_url=store.url, config=config).start()
    yield hub
    hub.kill()


async def sockets(hub: HubProcess) -> int:
    """How many supervisors' sockets the hub has."""
    async with plain_client() as http:
        text = (await http.get(hub.metrics)).text
    wanted = 'hub_sockets{endpoint="supervisor"} '
    return int(float(next(line for line in text.splitlines() if line.startswith(wanted)).removeprefix(wanted)))


@pytest.mark.alone
async def test_one_in_five_is_stuck(small_buffers: HubProcess) -> None:
    """Who reads gets every message and is never closed; the stuck are out in 10 s and resume without a gap."""
    asyncio.get_running_loop().set_debug(False)
    centre = Centre(small_buffers)
    try:
        stuck, quick = (
            await watched(centre, "stuck", READERS // 5, beside=1),
            await watched(centre, "quick", READERS * 4 // 5),
        )
        everybody = await sockets(small_buffers)
        for _, lines in stuck:
            for line in lines[1:]:  # the first reads beside them
                line.line.transport.pause_reading()
        for message in range(MESSAGES):
            long = [said(centre, conversation, message, LONG) for conversation, _ in stuck]
            for start in range(0, len(long), EVENTS_AT_ONCE):
                await centre.platform.accepted(*long[start : start + EVENTS_AT_ONCE])
            await centre.platform.accepted(*(said(centre, conversation, message, "short") for conversation, _ in quick))
        wanted = [f"m{message}" for message in range(MESSAGES)]
        for conversation, lines in (*quick, *((conversation, lines[:1]) for conversation, lines in stuck)):
            for line in lines:
                await line.expect("message.created", conversation, message_id=wanted[-1], timeout=20)
                assert ids(conversation, line) == wanted
                assert line.close_code is None

        async def out() -> bool:
            return await sockets(small_buffers) == everybody - sum(len(lines) - 1 for _, lines in stuck)

        await eventually(out, OUT_S, "the stuck ones out")
        for number, (conversation, lines) in enumerate(stuck):
            lines[1].line.transport.resume_reading()
            assert await lines[1].closed() in {4502, 1006}
            token = centre.token(f"stuck{number}")
            back = await centre.connect("/v1/supervisor", token, resume=lines[1].resumption())
            await back.expect("message.created", conversation, message_id=wanted[-1], timeout=20)
            assert ids(conversation, lines[1], back) == wanted
            for line in lines[2:]:
                await line.drop()
    finally:
        await centre.close()


async def watched(centre: Centre, who: str, readers: int, *, beside: int = 0) -> list[tuple[str, list[Socket]]]:
    """Conversations, each watched by one supervisor in `TABS` tabs and those `beside`."""
    found: list[tuple[str, list[Socket]]] = []
    for number in range(readers // TABS):
        story = await centre.story(agents=(f"{who}-agent{number}",))
        lines: list[Socket] = []
        for _ in range(TABS + beside):
            line = await centre.raw("/v1/supervisor", receive_buffer=8192 if who == "stuck" else None)
            await line.hello(centre.token(f"{who}{number}"))
            await line.command("status.set", status="available")
            await story.monitored_by(line)
            lines.append(line)
        found.append((story.id, lines))
    return found


def said(centre: Centre, conversation: str, message: int, text: str) -> dict[str, Any]:
    """What the customer says in one conversation."""
    return centre.platform.event(
        "message.created", conversation, message_id=f"m{message}", text=text, purpose="customer"
    )


def ids(conversation: str, *lines: Socket) -> list[str]:
    """The messages that these sockets got, one after the other."""
    return [event["data"]["message_id"] for line in lines for event in line.of(conversation, "message.created")]


async def test_a_stuck_view_is_merged_and_catches_up(small_buffers: HubProcess) -> None:
    """A view is never a reason to be closed: what changed meanwhile comes as one, when it reads again."""
    centre = Centre(small_buffers)
    try:
        quick = await View.open(await centre.supervisor("bo"), "interactions")
        line = await centre.raw("/v1/supervisor", receive_buffer=8192)
        await line.hello(centre.token("ana"))
        stuck = await View.open(line, "interactions")
        stories = [await centre.story(agents=(f"a{number}",)) for number in range(50)]
        line.line.transport.pause_reading()
        for turn in range(60):
            queue = ("billing", "support")[turn % 2]
            moved = (story.event("conversation.transferred", queue=queue) for story in stories)
            await centre.platform.accepted(*moved)
            await quick.row(stories[-1].id, queue=queue)
        await stories[0].transfer("survey")
        line.line.transport.resume_reading()
        await stuck.row(stories[0].id, timeout=10, queue="survey")
        for story in stories[1:]:
            await stuck.row(story.id, queue="support")
        assert line.close_code is None
        assert len(stuck.history(stories[0].id)) < 60
    finally:
        await centre.close()
