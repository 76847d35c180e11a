"""The store is killed, wiped, full, or its link dies: what was acknowledged is there once, and screens go on or start anew."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.centre import Centre, Story, confirm
from tests.support.fixtures import east_and_west, running
from tests.support.processes import CONFIG, StoreProcess
from tests.support.proxy import Proxy
from tests.support.socket import HubError, Json, Socket, eventually
from tests.support.store import ask
from tests.support.talk import Talk, screens_of

KILLS = int(os.environ.get("SOAK_STORE_KILLS", "20"))
RUNS = 4  # that share the kills, each with a store of its own
WIPES = int(os.environ.get("SOAK_WIPES", "5"))
LINKS = int(os.environ.get("SOAK_LINKS", "10"))
FULL = int(os.environ.get("SOAK_FULL", "1"))
SEED = int(os.environ.get("STORE_SEED", "6113"))
QUICK = CONFIG + "store_timeout_ms = 500\nbeat_ms = 300\n"
# Each write is in the file before it is answered: then SIGKILL can take nothing that was acknowledged.
KEPT = ("--appendonly", "yes", "--appendfsync", "always")
LONG = 0 if any(name.startswith("SOAK_") for name in os.environ) else 120
CONVERSATIONS = 6


def two_hubs(url: str, folder: Path) -> AbstractAsyncContextManager[Centre]:
    """Two nodes over that store, and an organization on them."""
    return running(*east_and_west(folder, url, QUICK))


async def in_transcript(centre: Centre, story: Story) -> list[str]:
    """The ids of all messages of the transcript, in order."""
    return [message["message_id"] for message in await centre.messages(story.id)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[StoreProcess]:
    """A store that keeps what it acknowledged, over its death."""
    store = StoreProcess(tmp_path / "store", KEPT, port=0).start()
    yield store
    store.kill()


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("run", range(RUNS))
async def test_killed_and_started_again_under_load(kept: StoreProcess, tmp_path: Path, run: int) -> None:
    """Down for 0.3 to 3 s again and again: no acknowledged message is lost or doubled, no monitor ends, streams live on."""
    chance = random.Random(f"{SEED}/{run}")
    async with two_hubs(kept.url, tmp_path) as centre:
        stories, screens = await screens_of(centre, centre.hubs[0].url, centre.hubs[1].url, CONVERSATIONS)

        async def some_node() -> int:
            return chance.randrange(2)

        talk = Talk(centre, stories, some_node)
        waits = []
        for _ in range(KILLS // RUNS):
            await talk.goes_on(chance.randint(1, 4))
            kept.kill()
            down_until = time.monotonic() + chance.uniform(0.3, 3.0)

            async def long_enough(until: float = down_until) -> bool:
                return time.monotonic() > until

            await eventually(long_enough)
            await asyncio.to_thread(kept.start)
            back = time.monotonic()
            await talk.goes_on(1)
            said = list(talk.said)
            for screen in screens:
                await screen.has(said[-1])
            waits.append(time.monotonic() - back)
        said = await talk.stop()
        for screen in screens:
            await screen.shows(said, f"seed {SEED}")
        for story in stories:
            assert await in_transcript(centre, story) == said, f"seed {SEED}"
            assert [monitor["to"] for monitor in (await centre.detail(story.id))["monitors"]] == [None]
        await asyncio.gather(*(screen.close() for screen in screens))
    print(f"streams lived again {max(waits):.2f} s after the store answered, at the worst of {KILLS // RUNS}")


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(KILLS // 5))
async def test_killed_amid_takeovers(kept: StoreProcess, tmp_path: Path, turn: int) -> None:
    """The store dies while takeovers are confirmed: each is there whole or not at all, and the same `req` says which."""
    chance = random.Random(f"{SEED}/{turn}")
    async with two_hubs(kept.url, tmp_path) as centre:
        ana = await centre.supervisor()
        stories = [await centre.story() for _ in range(4)]
        asked = []
        for story in stories:
            await story.monitored_by(ana)
            asked.append(await story.prepared_by(ana))
        numbers = []
        die_at = chance.randrange(4)
        for place, (story, prepared) in enumerate(zip(stories, asked, strict=True)):
            if place == die_at:
                await asyncio.to_thread(kept.kill)
            command = {name: prepared[name] for name in ("takeover_id", "confirm_token")}
            numbers.append(await ana.post("takeover.confirm", **command, req=f"r_{story.id}"))
        answers = [await ana.answer(number, 20) for number in numbers]
        assert any("error" in answer for answer in answers), "the store died too late"
        await asyncio.to_thread(kept.start)
        for story, prepared, answer in zip(stories, asked, answers, strict=True):
            ok = await confirmed(ana, story, prepared)
            if "ok" in answer:
                assert {name: ok[name] for name in answer["ok"]} == answer["ok"], f"seed {SEED}, turn {turn}"
            else:
                assert answer["error"]["code"] == "store_unavailable", answer
            detail = await centre.detail(story.id)
            assert detail["conversation"]["owner"] == ok["participant_id"]
            assert len(detail["takeovers"]) == 1
            assert [entry["kind"] for entry in await centre.entries(story.id)].count("takeover") == 1


async def confirmed(ana: Socket, story: Story, prepared: Json) -> Json:
    """The confirmation's `ok`, asked again by the same `req` while the store isn't there."""
    ok: Json = {}

    async def answered() -> bool:
        try:
            ok.update(await confirm(ana, prepared, req=f"r_{story.id}"))
        except HubError as error:
            if error.code != "store_unavailable":
                raise
        return bool(ok)

    await eventually(answered, 20, "a confirmed takeover", pause=0.1)
    return ok


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(WIPES))
async def test_wiped(tmp_path: Path, turn: int) -> None:
    """Everybody starts anew: no old session, cursor or confirmation means anything, and positions aren't used again."""
    store = StoreProcess(tmp_path / "store", port=0).start()
    try:
        async with two_hubs(store.url, tmp_path) as centre:
            ana, agent = await centre.supervisor(node=turn % 2), await centre.agent("max", node=1)
            story = await centre.story("cnv_again")
            await agent.expect("conversation.snapshot", story.id)
            await story.monitored_by(ana)
            for number in range(5):
                await story.customer_says(f"before {number}")
            await agent.expect("message.created", story.id, text="before 4")
            await ana.expect("message.created", story.id, text="before 4")
            prepared = await story.prepared_by(ana)
            before = {line: line.resumption() for line in (ana, agent)}
            if turn % 2:
                await ask(store, "FLUSHALL")
            else:
                store.kill()
                await asyncio.to_thread(store.start)
            for line in before:
                assert await line.closed(20) == 4503
            await ready(centre)
            again = await centre.story("cnv_again")
            for number in range(7):
                await again.customer_says(f"after {number}")
            for line, name in ((ana, "ana"), (agent, "max")):
                role = "agent" if name == "max" else "supervisor"
                bearer = centre.token(name, role)
                back = await centre.connect(line.endpoint, bearer, resume=before[line], node=turn % 2)
                assert back.session["resumed"] is False
                if name == "max":
                    snapshot = (await back.expect("conversation.snapshot", story.id))["data"]
                    assert epoch(snapshot["cursor"]) != epoch(before[line]["cursors"][story.id])
                    assert [entry["text"] for entry in snapshot["messages"]] == [f"after {n}" for n in range(7)]
                else:
                    await back.round_trip()
                    assert back.of(story.id) == []
                    arguments = {key: prepared[key] for key in ("takeover_id", "confirm_token")}
                    number = await back.post("takeover.confirm", **arguments)
                    assert "error" in await back.answer(number)
                    assert (await centre.row(story.id))["owner"] == "p_max"
    finally:
        store.kill()


def epoch(cursor: str) -> str:
    """What stands before the offset and its tag."""
    return cursor.partition(".")[0]


async def ready(centre: Centre) -> None:
    """Wait until both nodes are."""

    async def both() -> bool:
        answers = [await centre.http.get(f"{hub.url}/readyz") for hub in centre.hubs]
        return [answer.status_code for answer in answers] == [200, 200]

    await eventually(both, 20, "both nodes ready")


@pytest.mark.timeout(LONG)
async def test_a_half_open_link_is_noticed_and_replaced(tmp_path: Path) -> None:
    """The hub's connections to the store go silent without a word: replaced in time, nothing lost, no monitor ended."""
    store = StoreProcess(tmp_path / "store").start()
    proxy = Proxy(store.port)
    await proxy.start()
    waits = []
    try:
        async with two_hubs(proxy.url, tmp_path) as centre:
            stories, screens = await screens_of(centre, centre.hubs[0].url, centre.hubs[1].url, CONVERSATIONS)

            async def first() -> int:
                return 0

            talk = Talk(centre, stories, first)
            for _ in range(LINKS):
                await talk.goes_on(2)
                assert proxy.half_open()
                began = time.monotonic()
                await talk.goes_on(1)
                last = talk.said[-1]
                for screen in screens:
                    await screen.has(last)
                waits.append(time.monotonic() - began)
            said = await talk.stop()
            for screen in screens:
                await screen.shows(said, "after half-open links")
            for story in stories:
                assert await in_transcript(centre, story) == said
                assert [monitor["to"] for monitor in (await centre.detail(story.id))["monitors"]] == [None]
            await asyncio.gather(*(screen.close() for screen in screens))
    finally:
        await proxy.stop()
        store.kill()
    print(f"with store_timeout_ms = 500 and beat_ms = 300, screens went on after {max(waits):.2f} s at the worst")


class Room:
    """Something of the store's that can be used up and freed."""

    def __init__(self, store: StoreProcess) -> None:
        self.store = store

    async def fill(self) -> None:
        """Leave no room."""
        raise NotImplementedError

    async def free(self) -> None:
        """Make room again."""
        raise NotImplementedError


class Memory(Room):
    """`maxmemory`, without eviction."""

    async def fill(self) -> None:
        """Below what is in use."""
        await ask(self.store, "CONFIG", "SET", "maxmemory", "1mb")

    async def free(self) -> None:
        """No limit."""
        await ask(self.store, "CONFIG", "SET", "maxmemory", "0")


class Disk(Room):
    """A small file system of its own, with the store's append-only file on it."""

    async def fill(self) -> None:
        """A file that takes what is left."""
        with (self.store.folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)

    async def free(self) -> None:
        """Remove it."""
        (self.store.folder / "ballast").unlink()


@pytest.fixture(params=["memory", "disk"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """A store about to have no more room."""
    folder = tmp_path / "store"
    if request.param == "memory":
        store = StoreProcess(folder).start()
        yield Memory(store)
        store.kill()
        return
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a full disk needs a file system of its own, and to mount one needs root")
    store = StoreProcess(folder, ("--appendonly", "yes"))
    try:
        yield Disk(store.start())
    finally:
        store.kill()
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(FULL))
async def test_no_room(room: Room, tmp_path: Path, turn: int) -> None:
    """Refused with `store_unavailable`, nothing half done, and all goes on by itself when there is room again."""
    async with two_hubs(room.store.url, tmp_path) as centre:
        ana, agent = await centre.supervisor(), await centre.agent("max", node=1)
        story = await centre.story()
        await agent.expect("conversation.snapshot", story.id)
        await story.monitored_by(ana)
        prepared = await story.prepared_by(ana)
        await room.fill()

        async def refused() -> bool:
            event = story.event("message.created", message_id=uuid.uuid4().hex, text="x" * 4000, purpose="customer")
            return "store_unavailable" in (await centre.platform.http(json.dumps({"events": [event]}))).text

        await eventually(refused, 30, "a refused message")
        arguments = {name: prepared[name] for name in ("takeover_id", "confirm_token")}
        refusal = await ana.refused("store_unavailable", "takeover.confirm", **arguments, req="r_full")
        sending: Json = {"conversation_id": story.id, "client_message_id": "d_full", "req": "r_said"}
        await agent.refused("store_unavailable", "message.send", text="Hello", **sending)
        assert refusal.retryable
        await room.free()
        await ready(centre)
        row, said = await centre.row(story.id), await in_transcript(centre, story)
        assert (row["owner"], row["taken_over"]) == ("p_max", False)
        assert [entry["kind"] for entry in await centre.entries(story.id)].count("takeover") == 0
        await agent.command("message.send", text="Hello", **sending)
        ok = await confirmed(ana, story, prepared)
        assert (await centre.row(story.id))["owner"] == ok["participant_id"]
        await agent.expect("takeover.notified", story.id)
        after = await in_transcript(centre, story)
        assert after[: len(said)] == said
        assert len(after) == len(said) + 1
