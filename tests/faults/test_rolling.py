"""Three nodes are restarted one after the other under a thousand sockets: nobody loses a monitor, a message or a place."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clients import Agent, Options, Session, Supervisor
from tests.support.balancer import Balancer
from tests.support.centre import Centre, Story
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import eventually

SOCKETS = int(os.environ.get("ROLLING_SOCKETS", "600"))
ROUNDS = int(os.environ.get("SOAK_ROLLING", "1"))
SHARE_AT_ONCE = 0.2  # of all sockets that may come back within one second
PAUSE_S = 0.25


class Screen:
    """A client of the SDK and what it showed: ids of messages in order, and whatever ended or started anew."""

    def __init__(self, client: Session) -> None:
        self.client = client
        self.messages: list[str] = []
        self.resets: list[str] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.client:
            if event.event == "message.created":
                self.messages.append(event.data["message_id"])
            elif event.event in {"monitor.ended", "stream.reset"}:
                self.resets.append(event.event)
            elif event.event == "session.started" and event.data["lost"]:
                self.resets.append("a new session")


@pytest_asyncio.fixture
async def three(store: StoreProcess, tmp_path: Path) -> AsyncIterator[tuple[HubProcess, ...]]:
    """Three nodes over one store."""
    config = CONFIG + "sockets_per_address = 5000\n"
    hubs = tuple(HubProcess(tmp_path / f"n{n}", redis_url=store.url, config=config) for n in range(3))
    await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in hubs))
    yield hubs
    for hub in hubs:
        hub.kill()


class Talk:
    """Messages of all customers, each conversation in turn, until told to stop; posted to a node that is ready."""

    def __init__(self, centre: Centre, balancer: Balancer, stories: list[Story]) -> None:
        self.centre = centre
        self.balancer = balancer
        self.stories = stories
        self.said: dict[str, list[str]] = {story.id: [] for story in stories}
        self.stopping = False

    async def run(self) -> None:
        """One round over all conversations after the other."""
        turn = 0
        while not self.stopping:
            turn += 1
            ids = {story.id: f"m{turn}" for story in self.stories}
            batch = [
                story.event("message.created", message_id=ids[story.id], text="Hello?", purpose="customer")
                for story in self.stories
            ]
            await self._post(batch)
            for conversation, message_id in ids.items():
                self.said[conversation].append(message_id)
            await asyncio.sleep(PAUSE_S)

    async def _post(self, batch: list[dict[str, object]]) -> None:
        """A platform posts the same events again where a node goes away meanwhile; repeats are known by their ids."""

        async def taken() -> bool:
            try:
                node = self.centre.hubs.index((await self.balancer.look())[0])
                results = await self.centre.platform.post(*batch, node=node)
            except (OSError, AssertionError, IndexError):
                return False
            assert {result["status"] for result in results} <= {"accepted", "duplicate"}, results
            return True

        await eventually(taken, 20, "a node that takes events")


@pytest.mark.timeout(0 if "SOAK_ROLLING" in os.environ else 180)
@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_three_nodes_restarted_in_turn(three: tuple[HubProcess, ...], turn: int) -> None:
    """Every lease is kept, no position is skipped or repeated, and at most a fifth of the sockets come back in a second."""
    asyncio.get_running_loop().set_debug(False)  # it would cost more than a thousand clients do
    centre, balancer = Centre(*three), await Balancer(three).start()
    screens: list[Screen] = []
    try:
        stories = [await centre.story(agents=(f"a{number}",)) for number in range(SOCKETS // 2)]
        for number, story in enumerate(stories):
            ana = Supervisor(balancer.url, centre.token(f"s{number}"), Options(seed=number))
            agent = Agent(balancer.url, centre.token(f"a{number}", "agent"), Options(seed=-number))
            for client in (ana, agent):
                await client.__aenter__()
                screens.append(Screen(client))
            await ana.status_set("available")
            await ana.monitor_start(story.id)
        talk = Talk(centre, balancer, stories)
        talking = asyncio.create_task(talk.run())
        before = len(balancer.accepted)
        for hub in three:
            assert await asyncio.to_thread(hub.stop) == 0
            await eventually(lambda: connected(screens), 30, "everybody connected again")
            await asyncio.to_thread(hub.start)
        talk.stopping = True
        await talking
        for place, screen in enumerate(screens):
            said = talk.said[stories[place // 2].id]
            await eventually(lambda screen=screen, said=said: shown(screen, said), 20, "every message")  # type: ignore[misc]
            assert (screen.messages, screen.resets, screen.client.gaps) == (said, [], 0)
        for story in stories:
            [monitor] = (await centre.detail(story.id))["monitors"]
            assert monitor["to"] is None
        times = balancer.accepted[before:]
        assert len(times) >= SOCKETS  # each node had a third of them, and those that went there came back later
        busiest = max(sum(start <= time < start + 1.0 for time in times) for start in times)
        assert busiest <= SHARE_AT_ONCE * SOCKETS, f"{busiest} of {SOCKETS} sockets came back within one second"
    finally:
        await asyncio.gather(*(screen.client.close() for screen in screens))
        await balancer.stop()
        await centre.close()


async def connected(screens: list[Screen]) -> bool:
    """Everybody has said hello."""
    return all(screen.client.connected for screen in screens)


async def shown(screen: Screen, said: list[str]) -> bool:
    """The screen has the last message."""
    return screen.messages[-1:] == said[-1:]
