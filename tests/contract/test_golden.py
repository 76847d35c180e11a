"""
Nodes of two versions beside each other: what an older one wrote is read, what a newer one adds is passed over.

`tests/golden/<version>` has what a node of that version leaves in the store and publishes, byte for byte. This version
goes on from each of them; it writes what the newest one has, so the version before, whose own test reads that, reads this
version, too. And a node of this version reads the same with one more field in every record, as a later one might write it.
"""

import inspect
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hub.store.keys import Keys, partition
from tests.golden import frames
from tests.golden.make import made, version
from tests.golden.state import LATER, Json, grown, in_the_present, load, read, text, versions
from tests.golden.story import ORG, OVER, OWED, PLATFORM, TAKEN, WATCHED
from tests.support.centre import Centre, confirm, participant
from tests.support.processes import HubProcess, StoreProcess
from tests.support.socket import Socket, snapshot_of
from tests.support.store import ask
from tests.support.view import View

NEWEST = versions()[-1]
CONVERSATIONS = (WATCHED, TAKEN, OWED, OVER)
AGAIN = "run `python -m tests.golden.make`, look at the difference: can a node of the version before read it?"
# What the store names by itself, beside `Keys`: answers by their asker, what an id of ours belongs to, tickets, revocations.
STORES_OWN = ("q:", "n:", "ticket:", "revoked")


def as_written(state: list[Json]) -> list[Json]:
    """Nothing added."""
    return state


# -- the files -------------------------------------------------------------------------------------------------------


def test_the_newest_golden_is_of_this_version() -> None:
    """A release has a golden of its own."""
    assert version() == NEWEST, AGAIN


async def test_this_version_writes_the_newest_golden(tmp_path: Path) -> None:
    """The same story leaves the same bytes under the same keys, and publishes the same."""
    for name, value in (await made(tmp_path)).items():
        assert text(value) == text(read(NEWEST, name)), f"{name}: {AGAIN}"


def named_by(method: Callable[..., bytes]) -> set[str]:
    """The keys that a method of `Keys` gives the people and conversations of the story."""
    found = set()
    for conversation_id in CONVERSATIONS:
        known: Json = {
            "p": partition(ORG, conversation_id),
            "org": ORG,
            "conversation_id": conversation_id,
            "k": 0,
            "connector": f"{ORG}/{PLATFORM}",
            "role": "supervisor",
            "user_id": "bo",
            "req": "r_confirm",
            "session_id": read(NEWEST, "known.json")["ana"]["session"],
        }
        wanted = inspect.signature(method).parameters
        if set(wanted) == {"p"}:
            found.add(method(0).decode())  # where the installation's own things are
        found.add(method(**{name: known[name] for name in wanted}).decode())
        required = [name for name, one in wanted.items() if one.default is inspect.Parameter.empty]
        found.add(method(**{name: known[name] for name in required}).decode())
    return found


def test_every_key_of_the_hub_is_in_the_golden() -> None:
    """Whatever `hub/store/keys.py` can name is there; and nothing that nobody names."""
    keys, there = Keys(), {one["key"] for one in read(NEWEST, "state.json")}
    naming = {name: method for name, method in inspect.getmembers(keys, inspect.ismethod) if not name.startswith("_")}
    for beginning in ("base", "seen_base"):
        del naming[beginning]
    for name, method in naming.items():
        assert named_by(method) & there, f"no golden of Keys.{name}"
    assert named_by(lambda p: keys.due(p, f"{ORG}/{PLATFORM}")) & there
    ours = set[str]().union(*(named_by(method) for method in naming.values()))
    sessions = {one for one in there if "}:s:" in one}
    assert {one for one in there - ours - sessions if not one.partition("}:")[2].startswith(STORES_OWN)} == set()


@pytest.mark.parametrize("of", versions())
def test_frames_keep_what_they_have(of: str) -> None:
    """Of each frame that a version had, today's samples have every member, with the types it had."""
    today = frames.shapes()
    for frame, shape in read(of, "frames.json").items():
        for path, types in shape.items():
            assert set(types) <= set(today.get(frame, {}).get(path, ())), f"{frame}{path}"


def test_grown_records_have_more() -> None:
    """The state of a later version differs from the golden in every kind of record; else the test below says nothing."""
    state = read(NEWEST, "state.json")
    same = [a["key"].partition("}:")[2] for a, b in zip(state, grown(state), strict=True) if a["value"] == b["value"]]
    kinds = {name.partition(":")[0].partition("/")[0] for name in same}
    # ids, positions and times; what stands under r and n is an id or a record, whose answers are maps of the protocol's own
    assert kinds <= {
        "",
        "incarnation",
        "revoked",
        "boardtop",
        "top",
        "d",
        "due",
        "live",
        "closed",
        "n",
        "p",
        "ledgernames",
    }, kinds


# -- a hub on it -----------------------------------------------------------------------------------------------------


class World:
    """A hub of this version on what another one left."""

    def __init__(self, centre: Centre, store: StoreProcess, known: Json, grown: bool) -> None:
        self.centre = centre
        self.store = store
        self.known = known
        self.grown = grown

    def event(self, kind: str, conversation_id: str, **data: Any) -> Json:
        """A platform's event under an id that the story didn't use."""
        event = self.centre.platform.event(kind, conversation_id, **data)
        return event | {"id": f"later-{event['id']}"}

    async def resumed(self, who: str) -> Socket:
        """Somebody who comes back, from the node that isn't there any more."""
        line = await self.centre.raw("/v1/supervisor")
        hello = await line.hello(self.centre.token(who), {"cursors": {}} | self.known[who])
        assert (hello["resumed"], hello["status"]) == (True, "available")
        return line

    async def keeps_what_is_newer(self, conversation_id: str) -> None:
        """What a later version had put into the state is there after a commit, too; where it had, and only there."""
        name = Keys().conversation(partition(ORG, conversation_id), ORG, conversation_id).decode()
        state = json.loads(await ask(self.store, "HGET", name, "state"))
        later = [LATER in thing for thing in (state, state["customer"])]
        assert later == [self.grown] * 2

    async def published(self, key: bytes, top_key: bytes, body: bytes) -> None:
        """Another node's script appends to a log and publishes."""
        name, top_name = key.decode(), top_key.decode()
        top, tag = (one.decode() for one in await ask(self.store, "HMGET", top_name, "top", "tag"))
        at = f"{int(top) + 1}-77"
        await ask(self.store, "XADD", name, at, "h", "-", "e", body.decode())
        await ask(self.store, "HSET", top_name, "top", str(int(top) + 1), "tag", "77")
        await ask(self.store, "SPUBLISH", name, f"{at} {tag} - {body.decode()}")


WORLDS = [pytest.param((of, grow), id=f"{of}-{grow.__name__}") for of in versions() for grow in (as_written, grown)]


@pytest_asyncio.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A store as a version left it a moment ago, as it is or with more in every record, and a hub of this version."""
    of, grow = request.param
    store = StoreProcess(tmp_path / "store").start()
    now_ms = int(time.time() * 1000)
    await load(store, in_the_present(grow(read(of, "state.json")), now_ms))
    hub = HubProcess(tmp_path / "hub", redis_url=store.url).start()
    centre = Centre(hub, org=ORG)
    try:
        yield World(centre, store, read(of, "known.json"), grow is grown)
        await centre.close()
    finally:
        hub.kill()
        store.kill()


async def test_a_monitor_goes_on_and_takes_over(world: World) -> None:
    """Resumed with view and monitor; what is said arrives at its position; the prepared takeover is confirmed."""
    ana = await world.resumed("ana")
    rows = (await ana.expect("view.snapshot"))["data"]["rows"]
    assert {row["conversation_id"]: row["state"] for row in rows} == {
        WATCHED: "active",
        TAKEN: "active",
        OWED: "wrapup",
    }
    await world.centre.platform.accepted(
        world.event("message.created", WATCHED, message_id="m_3", text="Still there?", purpose="customer")
    )
    await ana.expect("message.created", WATCHED, message_id="m_3")
    assert ana.of(WATCHED, "monitor.started", "monitor.ended", "stream.reset") == []
    ok = await confirm(ana, world.known["prepared"])
    assert ok["owner_epoch"] == 2
    ended = await ana.expect("monitor.ended", WATCHED)
    assert (ended["data"]["monitor_id"], ended["data"]["reason"]) == (world.known["monitor_id"], "taken_over")
    agent = await world.centre.agent("max")
    notice = await agent.expect("takeover.notified", WATCHED)
    assert notice["data"]["returned_draft"] == "One moment"
    await world.keeps_what_is_newer(WATCHED)


async def test_what_was_taken_over_goes_on(world: World) -> None:
    """Snapshot, notice with the draft, wrap-ups, the answers to repeated requests, and what waits for the platform."""
    bo, agent = await world.resumed("bo"), await world.centre.agent("max")
    snapshot = snapshot_of(await bo.expect("conversation.snapshot", TAKEN)) or {}
    assert [message["text"] for message in snapshot["messages"]] == ["Text “m_1”", "Bo here"]
    assert snapshot["panels"] == {"customer": {"tier": "gold"}}
    first = world.known["confirm"]
    again = await bo.command("takeover.confirm", **first["arguments"], req="r_confirm")
    assert first["ok"].items() <= again.items()
    said: Json = {"conversation_id": TAKEN, "text": "Bo here", "client_message_id": "c_1"}
    assert first["sent"].items() <= (await bo.command("message.send", **said, req="r_send")).items()
    notice = (await agent.expect("takeover.notified", TAKEN))["data"]
    assert notice["returned_draft"] == "As I was about to say"
    await agent.command("takeover.acknowledge", takeover_id=notice["takeover_id"])
    for conversation_id in (OWED, TAKEN):
        await agent.expect("wrapup.requested", conversation_id, prompt="mandatory")
        await agent.command("wrapup.submit", conversation_id=conversation_id, code="resolved")
    await world.centre.row_with(OWED, state="ended")
    for conversation_id in (OWED, TAKEN):
        await world.keeps_what_is_newer(conversation_id)
    platform = await world.centre.connector(PLATFORM)
    left = [await platform.carry_out("participant.disconnected", TAKEN) for _ in range(2)]
    assert [participant(one["data"])["participant_id"] for one in left] == ["p_max", "p_robo"]
    await platform.carry_out("participant.connected", TAKEN)
    await platform.carry_out("outbound.message", TAKEN, text="Bo here")


async def test_what_was_is_told(world: World) -> None:
    """History, timeline, list, statuses and known ids are as they were left."""
    centre = world.centre
    detail = await centre.detail(OVER)
    assert detail["conversation"]["state"] == "ended"
    assert [(one["user_id"], one["reason"]) for one in detail["monitors"]] == [("ana", "stopped")]
    assert [entry["text"] for entry in await centre.messages(OVER)] == ["Text “m_1”", "Text “m_2”"]
    kinds = [segment["kind"] for segment in await centre.segments(OVER)]
    assert sorted(kinds) == ["interact", "interact", "interact", "monitoring"]
    listed = (await centre.get("/v1/conversations")).json()["conversations"]
    assert {row["conversation_id"] for row in listed} == set(CONVERSATIONS)
    watched = (await centre.get("/v1/conversations", monitored_by="ana")).json()["conversations"]
    assert {row["conversation_id"] for row in watched} == {OVER, WATCHED}
    for conversation_id in CONVERSATIONS:
        [known] = await centre.platform.post(
            world.event("message.created", conversation_id, message_id="m_1", text="Again", purpose="customer")
        )
        assert known["status"] == "duplicate"
    view = await View.open(await centre.supervisor("cy"), "agents")
    assert view.rows["max"]["status"] == "on_queue"


async def test_tickets_and_revocations_hold(world: World) -> None:
    """A ticket of another node is good once; whom it has revoked stays out."""
    line = await world.centre.raw("/v1/supervisor")
    assert (await line.hello(world.known["ticket"]))["user"] == {"id": "cy", "name": "Cy"}
    void = await world.centre.raw("/v1/supervisor")
    await void.refused("unauthenticated", "hello", token=world.centre.token("zoe", iat=int(time.time()) - 3_600))
    assert await void.closed() == 4401


async def test_what_another_node_publishes_is_shown(world: World) -> None:
    """Rows, people, typing and the word that a session has moved on, with more in them than this version knows."""
    ana = await world.resumed("ana")
    await ana.expect("view.snapshot")
    agents = await View.open(ana, "agents")
    keys, p = Keys(), partition(ORG, WATCHED)
    record = keys.conversation(p, ORG, WATCHED).decode()
    row, extra = (json.loads(one) for one in await ask(world.store, "HMGET", record, "row", "extra"))
    body = "R" + json.dumps(row | {"subject": "Changed"}) + "\n" + json.dumps(extra | {LATER: 1})
    await world.published(keys.board(p, ORG), keys.board_top(p, ORG), body.encode())
    await ana.expect("view.changed", where=lambda event: event["data"]["rows"][0].get("subject") == "Changed")
    log, now = keys.people_log(ORG), json.loads(await ask(world.store, "HGET", keys.people(ORG).decode(), "max"))
    moved = now | {"status": "break", "shown": "break", LATER: 1}
    await ask(world.store, "HSET", keys.people(ORG).decode(), "max", json.dumps(moved))
    await world.published(log, keys.people_top(ORG), json.dumps(moved).encode())
    await agents.row("max", status="break")
    transcript = keys.transcript(p, ORG, WATCHED).decode()
    [typing] = [said for channel, said in read(NEWEST, "published.json") if channel == transcript and said[0] == "~"]
    await ask(world.store, "SPUBLISH", transcript, typing[:-2] + f',"{LATER}":1' + typing[-2:])
    assert (await ana.expect("typing", WATCHED))["data"]["participant_id"] == "p_max"
    session = world.known["ana"]["session"]
    node, nonce = await ask(world.store, "HMGET", keys.session(session).decode(), "node", "nonce")
    [told] = [json.loads(said) for channel, said in read(NEWEST, "published.json") if "}:node:" in channel]
    channel = keys.base(partition("node", node.decode())) + b"node:" + node
    said = told | {"session": session, "nonce": nonce.decode(), LATER: 1}
    await ask(world.store, "SPUBLISH", channel.decode(), json.dumps(said))
    assert await ana.closed() == 4409
