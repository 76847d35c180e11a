"""
A hub is killed at each of its awaits of the store: never half done, and the other node finishes in 3 s.

A relay between the doomed hub and the store counts what the hub sends. For each n the hub is killed (SIGKILL) when it
sends its n-th piece after the command: once before the store gets it, once after the store has answered but before the
hub learns it. So every await of the command is met, whatever else the hub sends meanwhile.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.centre import Centre, Connector, Story, confirm, participant
from tests.support.processes import HubProcess, StoreProcess
from tests.support.proxy import Relay
from tests.support.socket import Json, Socket, eventually

ROUNDS = int(os.environ.get("SOAK_KILLS", "1"))
RUNS, KILLS_A_RUN = 4 * ROUNDS, 5  # at random moments
SEED = int(os.environ.get("KILL_SEED", "20260"))
AWAITS_MAX = 40


class Doomed:
    """Two nodes over one store: node 0 behind a relay and about to die, node 1 the one that finishes."""

    def __init__(self, centre: Centre, relay: Relay, hub: HubProcess) -> None:
        self.centre = centre
        self.relay = relay
        self.hub = hub


@contextlib.asynccontextmanager
async def doomed(store: StoreProcess, survivor: HubProcess, folder: Path) -> AsyncIterator[Doomed]:
    """A fresh hub behind a relay, beside one that stays."""
    relay = Relay(store.port)
    await relay.start()
    hub = HubProcess(folder, redis_url=relay.url)
    await asyncio.to_thread(hub.start)
    centre = Centre(hub, survivor)
    try:
        yield Doomed(centre, relay, hub)
    finally:
        hub.kill()
        await relay.stop()
        await centre.close()


async def monitoring(centre: Centre, queue: str) -> tuple[Socket, Story]:
    """A supervisor on the doomed node who monitors a conversation of an agent and a bot."""
    story = centre_story = await centre.story(agents=("max",), bots=("robo",), queue=queue)
    ana = await centre.supervisor("ana", node=0)
    await centre_story.monitored_by(ana, participant_id="p_max")
    return ana, story


async def whole(centre: Centre, story: Story, ok: Json | None) -> None:
    """The takeover is there with all its parts, or with none."""
    detail = await get(centre, story, "")
    row, marks = detail["conversation"], await transcript(centre, story)
    if ok is None:
        assert (row["owner"], detail["takeovers"], marks) == ("p_robo", [], 0), detail
        return
    assert (row["owner"], row["owner_epoch"], row["monitor"]) == (ok["participant_id"], ok["owner_epoch"], None)
    assert [agent["purpose"] for agent in row["agents"]] == ["supervisor"]
    assert (len(detail["takeovers"]), marks) == (1, 1)
    assert [monitor["reason"] for monitor in detail["monitors"]] == ["taken_over"]


async def get(centre: Centre, story: Story, route: str) -> Json:
    """A route of the conversation on the node that stays."""
    answer = await centre.get(f"/v1/conversations/{story.id}{route}", node=1)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def transcript(centre: Centre, story: Story) -> int:
    """How many marks of a takeover the transcript has."""
    entries = (await get(centre, story, "/transcript"))["entries"]
    return [entry["kind"] for entry in entries].count("takeover")


async def finish(world: Doomed, ana: Socket, story: Story, prepared: Json) -> None:
    """On the other node: resume, send the confirmation again with the same `req`, and see that all is done once."""
    centre, began = world.centre, time.monotonic()
    back = await centre.connect("/v1/supervisor", centre.token("ana"), node=1, resume=ana.resumption())
    assert back.session["resumed"] is True
    ok = await confirm(back, prepared, req="r_1")
    agent = await centre.agent("max", node=1)
    notice = await agent.expect("takeover.notified", story.id, takeover_id=prepared["takeover_id"])
    assert notice["data"]["supervisor"]["name"] == "Ana Ortiz"
    assert time.monotonic() - began < 3.0
    await whole(centre, story, ok)
    platform = await centre.connector(node=1)
    await reported(platform, story, ok)
    await agent.round_trip()
    assert len(agent.of(story.id, "takeover.notified")) == 1


async def reported(platform: Connector, story: Story, ok: Json) -> None:
    """The platform is told each part once, in order."""
    removed = [participant((await platform.carry_out("participant.disconnected", story.id, timeout=15))["data"])]
    removed.append(participant((await platform.carry_out("participant.disconnected", story.id))["data"]))
    assert {person["participant_id"] for person in removed} == {"p_max", "p_robo"}
    connected = participant((await platform.carry_out("participant.connected", story.id))["data"])
    assert connected["participant_id"] == ok["participant_id"]
    await platform.carry_out("sender.changed", story.id)


async def killed_at(world: Doomed, line: Socket, piece: int, before: bool, cmd: str, **arguments: str) -> bool:
    """Send a command and kill the hub at that piece; False where the answer came first: all awaits are met then."""
    world.relay.at(piece, world.hub.kill, before=before)
    number = await line.post(cmd, **arguments)
    await line.until(lambda: number in line.answers or line.close_code is not None, 20)
    met = number not in line.answers
    world.hub.kill()
    await line.closed()
    return met


@pytest.mark.timeout(600)
@pytest.mark.parametrize("before", [True, False], ids=["never-sent", "never-answered"])
@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_killed_at_each_await_of_a_takeover(
    store: StoreProcess, nodes: tuple[HubProcess, HubProcess], tmp_path: Path, before: bool, turn: int
) -> None:
    """Killed at the n-th piece sent after the confirmation: all or nothing, and the repeat on the other node does it."""
    outcomes = []
    for piece in range(1, AWAITS_MAX):
        async with doomed(store, nodes[1], tmp_path / f"n{piece}") as world:
            ana, story = await monitoring(world.centre, "support")
            prepared = await story.prepared_by(ana)
            arguments = {name: prepared[name] for name in ("takeover_id", "confirm_token")}
            met = await killed_at(world, ana, piece, before, "takeover.confirm", **arguments, req="r_1")
            done = bool((await get(world.centre, story, ""))["takeovers"])
            outcomes.append(done)
            assert done or met, "the command was answered and isn't there"
            await whole(world.centre, story, await owner(world.centre, story) if done else None)
            await finish(world, ana, story, prepared)
        if not met:
            break
    assert set(outcomes) == {True, False}, outcomes
    assert not met


async def owner(centre: Centre, story: Story) -> Json:
    """Owner and epoch as the row has them."""
    row = (await get(centre, story, ""))["conversation"]
    return {"participant_id": row["owner"], "owner_epoch": row["owner_epoch"]}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("before", [True, False], ids=["never-sent", "never-answered"])
@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_killed_at_each_await_of_a_wrapup(
    store: StoreProcess, nodes: tuple[HubProcess, HubProcess], tmp_path: Path, before: bool, turn: int
) -> None:
    """Killed while a wrap-up is submitted: it is open or done, and the repeat on the other node does it, once."""
    outcomes = []
    for piece in range(1, AWAITS_MAX):
        async with doomed(store, nodes[1], tmp_path / f"n{piece}") as world:
            centre = world.centre
            story, agent = await centre.story(queue="billing"), await centre.agent("max", node=0)
            await story.tell("conversation.ended", node=1, reason="done")
            await agent.expect("wrapup.requested", story.id)
            submit: dict[str, Any] = {"conversation_id": story.id, "code": "resolved", "req": "r_1"}
            met = await killed_at(world, agent, piece, before, "wrapup.submit", **submit)
            detail = await get(centre, story, "")
            outcomes.append(detail["conversation"]["state"] == "ended")
            assert [wrapup["code"] for wrapup in detail["wrapups"]] == (["resolved"] if outcomes[-1] else [None])
            back = await centre.agent("max", node=1)
            assert await back.command("wrapup.submit", **submit) == {}
            detail = await get(centre, story, "")
            assert detail["conversation"]["state"] == "ended"
            assert [wrapup["code"] for wrapup in detail["wrapups"]] == ["resolved"]
        if not met:
            break
    assert set(outcomes) == {True, False}, outcomes
    assert not met


@pytest.mark.timeout(300)
async def test_the_other_node_times_a_wrapup_out(
    store: StoreProcess, nodes: tuple[HubProcess, HubProcess], tmp_path: Path
) -> None:
    """The hub dies while a wrap-up runs: the other one ends it at most 3 s after its time."""
    async with doomed(store, nodes[1], tmp_path / "doomed") as world:
        centre = world.centre
        story = await centre.story(queue="quick")
        agent = await centre.agent("max", node=1)
        await story.end()
        asked = await agent.expect("wrapup.requested", story.id)
        world.hub.kill()
        timed_out = await agent.expect("wrapup.timed_out", story.id, timeout=8)
        assert timed_out["at"] - asked["at"] <= asked["data"]["timeout_ms"] + 3000


@pytest.mark.timeout(300)
async def test_the_other_node_ends_a_dead_nodes_monitor(
    store: StoreProcess, nodes: tuple[HubProcess, HubProcess], tmp_path: Path
) -> None:
    """A monitor whose hub died and whose supervisor doesn't come back is free after its lease and at most 3 s."""
    async with doomed(store, nodes[1], tmp_path / "doomed") as world:
        centre = world.centre
        ana, story = await monitoring(centre, "support")
        bo = await centre.supervisor("bo", node=1)
        world.hub.kill()
        await ana.closed()
        await bo.refused("monitor_held", "monitor.start", conversation_id=story.id, participant_id="p_max")
        began = time.monotonic()

        async def free() -> bool:
            number = await bo.post("monitor.start", conversation_id=story.id, participant_id="p_max")
            answer = await bo.answer(number)
            assert answer.get("error", {"code": "monitor_held"})["code"] == "monitor_held", answer
            return "ok" in answer

        await eventually(free, timeout=20, pause=0.1, wanted="free")
        assert time.monotonic() - began < 18.5
        assert (await get(centre, story, ""))["monitors"][0]["reason"] == "lease_expired"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
async def test_killed_at_random_moments(
    store: StoreProcess, nodes: tuple[HubProcess, HubProcess], tmp_path: Path, run: int
) -> None:
    """Takeovers of some conversations are running when the hub dies: each is whole or untouched, each can be finished."""
    chance = random.Random(f"{SEED}/{run}")
    print(f"seed {SEED}/{run}")
    for turn in range(KILLS_A_RUN):
        async with doomed(store, nodes[1], tmp_path / f"r{turn}") as world:
            centre = world.centre
            ana = await centre.supervisor("ana", node=0)
            stories = [await centre.story(queue="billing", bots=("robo",)) for _ in range(6)]
            prepared = {}
            for story in stories:
                await story.monitored_by(ana, participant_id="p_max")
                prepared[story.id] = await story.prepared_by(ana)
            world.relay.at(chance.randint(1, 15), world.hub.kill, before=chance.random() < 0.5)
            for story in stories:
                arguments = {name: prepared[story.id][name] for name in ("takeover_id", "confirm_token")}
                await ana.post("takeover.confirm", **arguments, req=f"r:{story.id}")
            await ana.closed(timeout=20)
            back = await centre.connect("/v1/supervisor", centre.token("ana"), node=1, resume=ana.resumption())
            for story in stories:
                done = (await get(centre, story, ""))["takeovers"]
                await whole(centre, story, await owner(centre, story) if done else None)
                ok = await confirm(back, prepared[story.id], req=f"r:{story.id}")
                await whole(centre, story, ok)
