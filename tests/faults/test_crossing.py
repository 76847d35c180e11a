"""Two nodes, losses and races: what each may see, once and in order, and nothing else."""

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.centre import Centre, confirm
from tests.support.processes import HubProcess, StoreProcess
from tests.support.socket import Json, Socket
from tests.support.store import ask

ROUNDS = int(os.environ.get("SOAK_CROSSINGS", "1"))


class Restless:
    """A client that loses its socket now and then and resumes on either node; `seen` over all its sockets."""

    def __init__(self, centre: Centre, endpoint: str, bearer: str) -> None:
        self.centre = centre
        self.endpoint = endpoint
        self.bearer = bearer
        self.lines: list[Socket] = []
        self.kept: dict[int, int] = {}

    async def connect(self, node: int, resume: Json | None = None) -> Socket:
        """A new socket, resumed or fresh."""
        line = await self.centre.connect(self.endpoint, self.bearer, node=node, resume=resume)
        self.lines.append(line)
        return line

    async def hop(self, chance: random.Random) -> None:
        """Lose the socket, with or without a word, and resume on some node; sometimes before the old one is gone."""
        old = self.lines[-1]
        how = chance.randrange(3)
        if how == 0:
            await old.drop()
        elif how == 1:
            await old.close(1001)
        resume = old.resumption()
        if how == 2:  # the old socket may still get data: what it got after this is repeated to the new one
            self.kept[len(self.lines) - 1] = len(old.events)
        line = await self.connect(chance.randrange(2), resume)
        assert line.session["resumed"] is True

    def seen(self, conversation: str, name: str) -> list[Json]:
        """Every event of that name over all sockets, in order; of a replaced socket only what it had by then."""
        found: list[Json] = []
        for place, line in enumerate(self.lines):
            kept = line.events[: self.kept.get(place, len(line.events))]
            found += [
                event for event in kept if event.get("conversation_id") == conversation and event["event"] == name
            ]
        return found


@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_nothing_lost_or_doubled_over_many_losses(pair: Centre, turn: int) -> None:
    """Supervisor, agent and customer lose their sockets while 300 messages come on both nodes: each sees each once."""
    chance, story = random.Random(4_711 + turn), await pair.story()
    people = [
        Restless(pair, "/v1/supervisor", pair.token("ana")),
        Restless(pair, "/v1/agent", pair.token("max", "agent")),
        Restless(pair, "/v1/customer", pair.token("cus_7", "customer", conversation=story.id)),
    ]
    for place, person in enumerate(people):
        line = await person.connect(place % 2)
        if place == 0:
            await line.command("status.set", status="available")
            await story.monitored_by(line)
        else:
            await line.expect("conversation.snapshot", story.id)
    for number in range(300):
        await story.customer_says(f"m{number}", node=number % 2)
        if number % 7 == 0:
            await story.tell("panel.updated", panel="p", content={"n": number}, node=(number + 1) % 2)
        if number % 12 == 5:
            await chance.choice(people).hop(chance)
    wanted = [f"m{number}" for number in range(300)]
    for person in people:
        await person.lines[-1].until(
            lambda person=person: (
                [e["data"]["text"] for e in person.seen(story.id, "message.created")][-1:] == ["m299"]
            ),  # type: ignore[misc]
            10,
            "the last message",
        )
        assert [event["data"]["text"] for event in person.seen(story.id, "message.created")] == wanted, person.endpoint


async def test_the_same_events_on_both_nodes_are_taken_once(pair: Centre) -> None:
    """The same batch posted to both nodes at the same moment: each event is accepted by exactly one."""
    for _ in range(5):
        story = await pair.story()
        batch = [
            story.event("message.created", message_id=f"m_{n}", text=str(n), purpose="customer") for n in range(100)
        ]
        answers = await asyncio.gather(*(pair.platform.post(*batch, node=node) for node in (0, 1, 0, 1)))
        for results in zip(*answers, strict=True):
            assert sorted(result["status"] for result in results) == ["accepted", "duplicate", "duplicate", "duplicate"]
        texts = [event["text"] for event in await pair.messages(story.id)]
        assert sorted(texts, key=int) == [str(n) for n in range(100)]


async def test_everybody_sees_one_order(pair: Centre) -> None:
    """Posts to both nodes at the same time: monitors on both nodes, the agent and the transcript have one order."""
    story = await pair.story()
    ana, tab = await pair.supervisor(node=0), await pair.supervisor(node=1)
    agent = await pair.agent("max", node=1)
    for line in (ana, tab):
        await story.monitored_by(line)
    await agent.expect("conversation.snapshot", story.id)

    async def poster(node: int) -> None:
        for number in range(60):
            await story.customer_says(f"{node}:{number}", node=node)

    await asyncio.gather(poster(0), poster(1))
    await story.fence(ana, tab, agent)
    order = [entry["text"] for entry in await pair.messages(story.id)]
    assert len(order) == 120
    for line in (ana, tab, agent):
        assert [event["data"]["text"] for event in line.of(story.id, "message.created")] == order
    for node in (0, 1):
        assert [text for text in order if text.startswith(f"{node}:")] == [f"{node}:{n}" for n in range(60)]


async def test_sends_racing_with_a_takeover_on_another_node(pair: Centre) -> None:
    """The agent sends on one node while the takeover is confirmed on the other: before the mark, or refused."""
    ana, agent = await pair.supervisor(node=0), await pair.agent("max", node=1)
    for turn in range(10):
        story = await pair.story()
        await agent.expect("conversation.snapshot", story.id)
        await story.monitored_by(ana)
        prepared = await story.prepared_by(ana)
        said: Json = {"conversation_id": story.id}
        sends = [
            await agent.post("message.send", **said, text=f"{n}", client_message_id=f"d_{turn}_{n}") for n in range(20)
        ]
        ok = await confirm(ana, prepared)
        answers = [await agent.answer(number) for number in sends]
        entries = await pair.entries(story.id)
        mark = [entry["kind"] for entry in entries].index("takeover")
        accepted = [str(n) for n, answer in enumerate(answers) if "ok" in answer]
        assert [entry["text"] for entry in entries[:mark]] == accepted
        assert entries[mark + 1 :] == []
        for answer in answers[len(accepted) :]:
            assert answer["error"]["code"] == "stale_owner", answers
            assert answer["error"]["details"]["owner"] == ok["participant_id"]


async def test_nothing_after_a_release_on_another_node(pair: Centre) -> None:
    """What is posted after `monitor.release` was answered never reaches the released monitor, on any node."""
    ana, bo = await pair.supervisor(node=0), await pair.supervisor("bo", node=1)
    for turn in range(20):
        story = await pair.story()
        await story.monitored_by(ana)
        posting = [asyncio.create_task(story.customer_says(f"b{turn}-{n}", node=n % 2)) for n in range(5)]
        await bo.command("monitor.release", conversation_id=story.id, reason="race")
        await story.customer_says(f"hush-{turn}", node=turn % 2)
        await asyncio.gather(*posting)
        await ana.expect("monitor.ended", story.id, reason="force_released")
        await story.monitored_by(bo)
        await story.fence(bo)
        await ana.round_trip()
        assert f"hush-{turn}" not in "".join(ana.lines)
        assert ana.names(story.id)[-1] == "monitor.ended"
        await bo.command("monitor.stop", conversation_id=story.id)


async def test_nothing_after_a_transfer_out_of_sight_on_another_node(pair: Centre) -> None:
    """What is posted after a transfer out of one's queues never reaches the monitor, its view or its roster."""
    ana = await pair.supervisor(node=0, queues=("support",))
    await ana.command("view.subscribe", view="interactions")
    for turn in range(10):
        story = await pair.story()
        await story.monitored_by(ana)
        moved = story.event("conversation.transferred", queue="billing")
        hush = story.event("message.created", message_id="m_h", text=f"hush-{turn}", purpose="customer")
        await pair.platform.accepted(moved, hush, node=1)
        await ana.expect("monitor.ended", story.id, reason="permission_lost")
        await ana.round_trip()
        assert f"hush-{turn}" not in "".join(ana.lines)
    assert '"billing"' not in json.dumps([event for event in ana.events if event["event"].startswith("view.")])


async def test_a_killed_hub_starts_again_on_its_data(tmp_path: Path) -> None:
    """SIGKILL of a hub with its embedded store: the next start on the same directory has everything; the engine died."""
    hub = HubProcess(tmp_path / "hub")
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    try:
        ana, story = await centre.supervisor(), await centre.story()
        await story.taken_over_by(ana)
        await story.customer_says("Still there?")
        await persisted(centre)
        hub.kill()
        await asyncio.to_thread(hub.start)
        assert [entry["kind"] for entry in await centre.entries(story.id)] == ["takeover", "message"]
        await centre.supervisor()
    finally:
        await centre.close()
        hub.kill()


async def persisted(centre: Centre) -> None:
    """The embedded store writes its file every second: two seconds of round trips."""
    ends = asyncio.get_running_loop().time() + 2.2
    while asyncio.get_running_loop().time() < ends:
        await centre.http.get(centre.hub.url + "/readyz")


async def test_a_node_that_dies_takes_nobodys_session(pair: Centre, tmp_path: Path, store: Any) -> None:
    """SIGKILL of a node: supervisor, agent and customer resume on the other and have lost nothing."""
    doomed = HubProcess(tmp_path / "doomed", redis_url=store.url)
    await asyncio.to_thread(doomed.start)
    centre = Centre(doomed, pair.hubs[1])
    try:
        story = await centre.story()
        ana, agent = await centre.supervisor(), await centre.agent("max")
        customer = await centre.customer(story.id)
        await story.monitored_by(ana)
        for line in (agent, customer):
            await line.expect("conversation.snapshot", story.id)
        doomed.kill()
        for line in (ana, agent, customer):
            await line.closed()
        for number in range(5):
            await story.customer_says(f"m{number}", node=1)
        bearers = {
            ana: centre.token("ana"),
            agent: centre.token("max", "agent"),
            customer: centre.token("cus_7", "customer", conversation=story.id),
        }
        for line, bearer in bearers.items():
            back = await centre.connect(line.endpoint, bearer, node=1, resume=line.resumption())
            assert back.session["resumed"] is True
            await back.expect("message.created", story.id, text="m4")
            texts = [event["data"]["text"] for event in back.of(story.id, "message.created")]
            assert texts == [f"m{n}" for n in range(5)]
    finally:
        await centre.close()
        doomed.kill()


async def test_late_news_of_an_older_monitor_end_no_newer_one(pair: Centre, store: StoreProcess) -> None:
    """The subscription is lost, a monitor released and the next one begins: what is read again of the old one isn't theirs."""
    ana, bo = await pair.supervisor("ana"), await pair.supervisor("bo")
    for _ in range(10):
        story = await pair.story()
        await story.monitored_by(ana)
        await ask(store, "CLIENT", "KILL", "TYPE", "pubsub")
        await bo.command("monitor.release", conversation_id=story.id, reason="mine")
        await story.monitored_by(bo)
        await ana.expect("monitor.ended", story.id, timeout=15)
        await bo.round_trip()
        assert bo.of(story.id, "monitor.ended") == []
