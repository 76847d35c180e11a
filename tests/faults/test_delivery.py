"""
A provider that is down, slow, late, busy, or says things twice, and hubs that die meanwhile: each message reaches it once by
its id, in the order of its conversation, one at a time, or is reported failed.
"""

import asyncio
import contextlib
import os
import random
import uuid
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.centre import Centre, Story
from tests.support.fixtures import east_and_west
from tests.support.processes import StoreProcess
from tests.support.provider import Call, Habit, Provider, Reply, friendly, ids_of, open_config, open_table, providing
from tests.support.socket import Json, Socket, eventually

CONVERSATIONS = 6
MESSAGES = int(os.environ.get("SOAK_OUTBOUND", "48"))
KILLS = int(os.environ.get("SOAK_OUTBOUND_KILLS", "1"))
SEED = int(os.environ.get("PROVIDER_SEED", "7042"))

# Limits that a test can wait out; a call still has much less time than its claim.
LIMITS = """
outbound_timeout_ms = 400
outbound_claim_ms = 1500
outbound_tries_max = 6
outbound_backoff_ms = 20
outbound_backoff_max_ms = 100
breaker_failures = 40
breaker_ms = 300
"""


@contextlib.asynccontextmanager
async def delivering(
    folder: Path, store: StoreProcess, habit: Habit = friendly, *, limits: str = LIMITS
) -> AsyncIterator[tuple[Centre, Provider]]:
    """Two nodes, of which only the first runs, and a provider that they both call."""
    org = "org-" + uuid.uuid4().hex[:12]
    async with providing(habit=habit) as provider:
        name = f"{org}-shop"
        config = open_config(open_table(name, org, provider.url, provider.secrets[0]), limits=limits)
        east, west = east_and_west(folder, store.url, config)
        centre = Centre(east, west, org=org)
        centre.platform.sub = name
        try:
            await asyncio.to_thread(east.start)
            yield centre, provider
        finally:
            await centre.close()
            for hub in (east, west):
                if hub.process is not None:
                    hub.kill()


async def say(line: Socket, story: Story, text: str) -> str:
    """Write to the customer; the message's id."""
    ok = await line.command("message.send", conversation_id=story.id, text=text, client_message_id=uuid.uuid4().hex)
    return str(ok["message_id"])


def receipts(line: Socket, story: Story) -> dict[str, list[Json]]:
    """What the screen was told of each message."""
    told: dict[str, list[Json]] = {}
    for event in line.of(story.id, "message.receipt"):
        told.setdefault(event["data"]["message_id"], []).append(event["data"])
    return told


async def all_told(line: Socket, story: Story, ids: list[str], timeout: float = 20) -> dict[str, list[Json]]:
    """Wait until the screen was told of each of these messages."""
    await line.until(lambda: set(ids) <= set(receipts(line, story)), timeout, f"receipts of {story.id}")
    return receipts(line, story)


def habit_of(text: str) -> str:
    """What a clumsy provider does with a message: it follows from the seed and the text alone."""
    habits = ("take",) * 4 + ("error", "busy", "late", "cut", "cut untaken", "twice", "fail")
    return habits[zlib.crc32(f"{SEED} {text}".encode()) % len(habits)]


async def clumsy(call: Call, times: int) -> Reply:
    """Everything wrong that a provider may do; most of it the first time only."""
    habit = habit_of(call.json["data"].get("text", ""))
    if habit == "twice":
        return Reply(times=2)
    if habit == "fail":
        return Reply(410)
    if times > 1:
        return Reply()
    match habit:
        case "error":
            return Reply(500)
        case "busy":
            return Reply(429, {"retry-after": "0"})
        case "late":
            await call.hung_up()
            return Reply(taken=True)
        case "cut":
            return Reply(times=0, taken=True)
        case "cut untaken":
            return Reply(times=0, taken=False)
    return Reply()


async def test_a_clumsy_provider_gets_each_message_once_and_in_order(store: StoreProcess, tmp_path: Path) -> None:
    """Whatever it does, and although a node dies in between; what it will never take is reported failed, once."""
    print(f"PROVIDER_SEED={SEED}")
    chance = random.Random(SEED)
    async with delivering(tmp_path, store, clumsy) as (centre, provider):
        east, west = centre.hubs
        await asyncio.to_thread(west.start)
        line = await centre.agent(node=1)
        stories = [await centre.story(f"cnv-{n}") for n in range(CONVERSATIONS)]
        said: dict[str, list[str]] = {story.id: [] for story in stories}
        texts: dict[str, str] = {}
        kills = sorted(chance.sample(range(MESSAGES), KILLS))
        for number in range(MESSAGES):
            story = stories[number % CONVERSATIONS]
            text = f"{number} in {story.id}"
            said[story.id].append(await say(line, story, text))
            texts[said[story.id][-1]] = text
            if number in kills:
                await asyncio.to_thread(east.kill)
                await asyncio.to_thread(east.start)
        for story in stories:
            told = await all_told(line, story, said[story.id], 20 + MESSAGES)
            fails = [one for one in said[story.id] if habit_of(texts[one]) == "fail"]
            assert provider.delivered[story.id] == [one for one in said[story.id] if one not in fails]
            for id, statuses in told.items():
                assert [one["status"] for one in statuses] == ["failed" if id in fails else "sent"], texts[id]
                assert all("410" in one["reason"] for one in statuses if id in fails)


async def test_a_provider_that_is_down_gets_everything_later(store: StoreProcess, tmp_path: Path) -> None:
    """It is left alone for a while after some failures; what has no receipt is still to come; then all is in order."""
    limits = LIMITS.replace("breaker_failures = 40", "breaker_failures = 3").replace("max = 6", "max = 600")
    async with delivering(tmp_path, store, limits=limits) as (centre, provider):
        await provider.stop()
        line = await centre.agent()
        stories = [await centre.story(f"cnv-{n}") for n in range(3)]
        said = {story.id: [await say(line, story, f"{n}") for n in range(4)] for story in stories}

        async def left_alone() -> bool:
            return await figure(centre, "hub_outbound_endpoints_open") == 1

        await eventually(left_alone, wanted="the endpoint is left alone")
        assert all(receipts(line, story) == {} for story in stories)
        late = await centre.agent()
        snapshot = await late.expect("conversation.snapshot", stories[0].id)
        assert [one.get("status") for one in snapshot["data"]["messages"]] == [None] * 4
        await provider.start()
        for story in stories:
            told = await all_told(line, story, said[story.id])
            assert [one[0]["status"] for one in told.values()] == ["sent"] * 4
        assert provider.delivered == said
        assert await figure(centre, "hub_outbound_sent_total") == 12


async def figure(centre: Centre, name: str) -> float:
    """One figure of the connector's, of the first node."""
    text = (await centre.http.get(f"http://127.0.0.1:{centre.hub.metrics_port}/metrics")).text
    found = [line for line in text.splitlines() if line.startswith(f'{name}{{connector="{centre.platform.sub}"}}')]
    return float(found[0].rpartition(" ")[2])


async def test_what_is_never_taken_is_reported_failed(store: StoreProcess, tmp_path: Path) -> None:
    """After its last try, with the reason, to agent and supervisor; the conversation's next message goes on."""

    async def broken(call: Call, _times: int) -> Reply:
        return Reply(503) if call.json["data"]["text"] == "bad" else Reply()

    async with delivering(tmp_path, store, broken) as (centre, provider):
        story, agent, ana = await centre.story(), await centre.agent(), await centre.supervisor()
        await story.monitored_by(ana)
        bad, good = await say(agent, story, "bad"), await say(agent, story, "good")
        for line in (agent, ana):
            told = await all_told(line, story, [bad, good])
            assert [one["status"] for one in told[bad]] == ["failed"]
            assert told[bad][0]["reason"] == "given up after 6 tries: the receiver answered 503"
            assert [one["status"] for one in told[good]] == ["sent"]
        assert ids_of(provider.calls) == [bad] * 6 + [good]
        assert provider.delivered == {story.id: [good]}
        assert await figure(centre, "hub_outbound_failed_total") == 1


async def test_conversations_do_not_wait_for_each_other(store: StoreProcess, tmp_path: Path) -> None:
    """One whose message hangs holds up nobody else's, and its own next one waits."""
    free = asyncio.Event()

    async def hanging(call: Call, times: int) -> Reply:
        if call.json["data"]["text"] == "hang" and times == 1:
            await free.wait()
        return Reply()

    async with delivering(tmp_path, store, hanging, limits=PATIENT) as (centre, provider):
        one, other = await centre.story(), await centre.story()
        line = await centre.agent()
        stuck = [await say(line, one, "hang"), await say(line, one, "behind")]
        quick = [await say(line, other, f"{n}") for n in range(10)]
        await all_told(line, other, quick)
        assert receipts(line, one) == {}
        assert ids_of(provider.calls).count(stuck[0]) == 1
        free.set()
        await all_told(line, one, stuck)
        assert provider.delivered == {one.id: stuck, other.id: quick}


# A call that hangs is let go by the test, not by its time.
PATIENT = LIMITS.replace("outbound_timeout_ms = 400", "outbound_timeout_ms = 8000").replace(
    "claim_ms = 1500", "claim_ms = 9000"
)


async def test_another_node_goes_on_where_one_was_killed(store: StoreProcess, tmp_path: Path) -> None:
    """In the middle of a call whose message the provider has: it comes again, under its id, when the claim is over."""
    met = asyncio.Event()

    async def deaf(call: Call, times: int) -> Reply:
        if call.json["data"]["text"] == "first" and times == 1:
            provider.take(call)
            met.set()
            await call.hung_up()
        return Reply()

    async with delivering(tmp_path, store, deaf) as (centre, provider):
        east, west = centre.hubs
        line = await centre.agent()
        story = await centre.story()
        said = [await say(line, story, text) for text in ("first", "second", "third")]
        await asyncio.wait_for(met.wait(), 10)
        await asyncio.to_thread(east.kill)
        await asyncio.to_thread(west.start)
        later = await centre.agent(node=1)
        await eventually(lambda: taken_by(provider, story, said), wanted="all three", timeout=20)
        assert ids_of(provider.calls) == [said[0], *said]

        snapshot = await later.expect("conversation.snapshot", story.id)
        shown = {one["message_id"] for one in snapshot["data"]["messages"] if one.get("status") == "sent"}
        await all_told(later, story, [one for one in said if one not in shown])
        told = [one["status"] for told in receipts(later, story).values() for one in told]
        assert told == ["sent"] * (3 - len(shown))


async def taken_by(provider: Provider, story: Story, ids: list[str]) -> bool:
    """True when the provider has exactly these, in this order."""
    return provider.delivered.get(story.id) == ids


async def test_a_hub_that_is_stopped_leaves_what_it_has(store: StoreProcess, tmp_path: Path) -> None:
    """It waits a little for a call that hangs, then gives the action to the others at once, not when its claim is over."""
    limits = PATIENT.replace("claim_ms = 9000", "claim_ms = 600000")
    met = asyncio.Event()

    async def deaf(call: Call, times: int) -> Reply:
        if times == 1:
            met.set()
            await call.hung_up()
            return Reply(taken=False)
        return Reply()

    async with delivering(tmp_path, store, deaf, limits=limits) as (centre, provider):
        east, west = centre.hubs
        line = await centre.agent()
        story = await centre.story()
        said = await say(line, story, "first")
        await asyncio.wait_for(met.wait(), 10)
        assert await asyncio.to_thread(east.stop) == 0
        await asyncio.to_thread(west.start)
        await eventually(lambda: taken_by(provider, story, [said]), wanted="the message", timeout=20)
