"""A platform that is down, slow, late or says things twice: each message once by its id, in order, or said to have failed."""

import asyncio
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.centre import Centre, Connector, Story
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import Json, Socket

MESSAGES = int(os.environ.get("SOAK_MESSAGES", "1000"))
CONVERSATIONS = 20
SEED = int(os.environ.get("PLATFORM_SEED", "7041"))


@pytest.fixture
def impatient(store: StoreProcess, tmp_path: Path) -> Iterator[tuple[HubProcess, HubProcess]]:
    """Two nodes that send an unreported action again after 0.2 s."""
    config = (
        CONFIG.replace("action_repeat_ms = 1000", "action_repeat_ms = 200")
        + "commands_per_s = 5000\ncommands_burst = 5000\n"
    )
    pair = tuple(HubProcess(tmp_path / name, redis_url=store.url, config=config).start() for name in ("east", "west"))
    yield pair[0], pair[1]
    for hub in pair:
        hub.kill()


class Clumsy:
    """
    A platform that does everything wrong that it may do, but drops repeats by id as it was told to.

    `delivered` is what its customers have, per conversation; `failed` the ids of what it reported as failed. What it does
    with an action follows from the action's id and the seed alone: it reports it, reports it twice, says that it failed,
    forgets to report it the first time, reports it only when it has come again, or loses its socket instead.
    """

    HABITS = ("report",) * 12 + ("twice", "forget", "late", "fail", "lose")

    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.delivered: dict[str, list[str]] = {}
        self.failed: set[str] = set()
        self.met: set[str] = set()
        self._seen: dict[str, int] = {}
        self._line: Connector | None = None
        self._hops = 0

    async def run(self) -> None:
        """Work until cancelled; a lost socket is followed by another one on the other node."""
        while True:
            self._hops += 1
            self._line = await self.centre.connector(node=self._hops % 2)
            await self._work(self._line)

    async def _work(self, line: Connector) -> None:
        done = 0
        while True:
            await line.socket.until(lambda: len(line.socket.events) > done or line.socket.close_code is not None, 60)  # noqa: B023
            for action in line.socket.events[done:]:
                done += 1
                if action["event"] == "outbound.message" and not await self._take(line, action):
                    await line.socket.drop()
                    return

    async def _take(self, line: Connector, action: Json) -> bool:
        message_id = action["data"]["message_id"]
        times = self._seen[message_id] = self._seen.get(message_id, 0) + 1
        if times == 1:
            self.delivered.setdefault(action["conversation_id"], []).append(message_id)
        habit = self.HABITS[zlib.crc32(f"{SEED} {action['data']['text']}".encode()) % len(self.HABITS)]
        self.met.add(habit)
        if times == 1 and habit in {"forget", "late"}:
            return True
        if times == 1 and habit == "lose":
            return False
        status: Json = {"status": "failed", "reason": "no such number"} if habit == "fail" else {"status": "sent"}
        if habit == "fail":
            self.failed.add(message_id)
        for _ in range(2 if habit in {"twice", "late"} else 1):  # late: once for each time that it came
            await line.socket.post("delivery.report", message_id=message_id, **status)
        return True


async def talk(agent: Socket, story: Story, count: int) -> list[str]:
    """An agent says that many things, 20 at once; the messages' ids in the order in which they were said."""
    ids = []
    for start in range(0, count, 20):
        texts = [f"{story.id}:{number}" for number in range(start, min(start + 20, count))]
        said: Json = {"conversation_id": story.id}
        numbers = [await agent.post("message.send", **said, text=text, client_message_id=text) for text in texts]
        for number in numbers:
            answer = await agent.answer(number, 60)
            assert "ok" in answer, answer
            ids.append(answer["ok"]["message_id"])
    return ids


@pytest.mark.timeout(0 if "SOAK_MESSAGES" in os.environ else 120)
async def test_a_clumsy_platform_gets_each_message_once_and_in_order(impatient: tuple[HubProcess, HubProcess]) -> None:
    """Down, slow, late, twice: its customers get each message once and in order; what failed is on both screens."""
    centre, chance = Centre(*impatient), random.Random(SEED)
    platform = Clumsy(centre)
    working = asyncio.create_task(platform.run())
    try:
        ana = await centre.supervisor("ana", node=1)
        stories, agents = [], []
        for number in range(CONVERSATIONS):
            name = f"a{number}"
            stories.append(await centre.story(agents=(name,)))
            agents.append(await centre.agent(name, node=chance.randrange(2)))
            await agents[-1].expect("conversation.snapshot", stories[-1].id)
            await stories[-1].monitored_by(ana)
        said = await asyncio.gather(
            *(talk(agent, story, MESSAGES // CONVERSATIONS) for agent, story in zip(agents, stories, strict=True))
        )
        for agent, story, ids in zip(agents, stories, said, strict=True):
            for line in (agent, ana):
                told = await final_receipts(line, story, ids)
                wanted = {one: "failed" if one in platform.failed else "sent" for one in ids}
                assert told == wanted, f"seed {SEED}"
            assert platform.delivered[story.id] == ids, f"seed {SEED}"
            assert [event["data"]["message_id"] for event in ana.of(story.id, "message.created")] == ids
        assert platform.met == set(Clumsy.HABITS), platform.met
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await centre.close()


async def final_receipts(line: Socket, story: Story, ids: list[str]) -> dict[str, str]:
    """What the screen says of each message when all were reported; a status never changes back."""

    def told() -> dict[str, str]:
        return {
            event["data"]["message_id"]: event["data"]["status"]
            for event in line.of(story.id, "message.receipt")
            if event["data"]["status"] in {"sent", "failed"}
        }

    await line.until(lambda: set(told()) == set(ids), 60, f"receipts of all messages (seed {SEED})")
    return told()
