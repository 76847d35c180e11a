"""Customers who go on talking while things break, and screens that must show all of it once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import httpx

from clients import Agent, Options, Session, Supervisor
from clients.policy import Backoff
from tests.support.centre import Centre, Story
from tests.support.socket import Json, eventually

PAUSE_S = 0.1
BEGUN_AT_ONCE = 100
SEATED_AT_ONCE = 20
HASTE = Backoff(base_ms=50, cap_ms=500)


class Screen:
    """A client of the SDK and what it showed: ids of messages in order, and whatever began anew or ended."""

    def __init__(self, client: Session) -> None:
        self.client = client
        self.messages: list[str] = []
        self.breaks: list[str] = []
        self.begun = asyncio.Event()  # with the snapshot; what comes after it is shown as events
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.client:
            if event.event in {"conversation.snapshot", "monitor.started"}:
                self.begun.set()
            elif event.event == "message.created":
                self.messages.append(event.data["message_id"])
            elif event.event in {"monitor.ended", "stream.reset"}:
                self.breaks.append(event.event)
            elif event.event == "session.started" and event.data["lost"]:
                self.breaks.append("a new session")

    async def close(self) -> None:
        """End the client."""
        await self.client.close()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def has(self, message_id: str) -> None:
        """Wait for a message."""

        async def there() -> bool:
            return message_id in self.messages

        try:
            await eventually(there, 20, message_id)
        except AssertionError:
            client = self.client
            state = f"connected: {client.connected}, gaps: {client.gaps}, ended: {self._reading.done()}"
            raise AssertionError(
                f"{client.endpoint} doesn't show {message_id} but {self.messages[-3:]} ({state}; {self.breaks})"
            ) from None

    async def shows(self, said: list[str], why: str) -> None:
        """Wait for the last message; all of them were shown once, in order, in one go."""
        await self.has(said[-1])
        assert self.breaks == [], f"{why}: {self.breaks}"
        assert self.messages == said, f"{why}: {self.messages} instead of {said}"
        assert self.client.gaps == 0, f"{why}: {self.client.gaps} positions were skipped"


async def screens_of(
    centre: Centre, url: str, agent_url: str, conversations: int | Sequence[str]
) -> tuple[list[Story], list[Screen]]:
    """
    Conversations (so many, or of these ids), and two screens of each: a supervisor's who monitors it, its agent's.

    Where one of them can't be had, none is left open.
    """
    ids = [None] * conversations if isinstance(conversations, int) else conversations
    stories: list[Story] = []
    for first in range(0, len(ids), BEGUN_AT_ONCE):
        agents = {f"a{number}": ids[number] for number in range(len(ids))[first : first + BEGUN_AT_ONCE]}
        stories += await centre.stories(agents)
    screens: dict[tuple[int, str], Screen] = {}
    turn = asyncio.Semaphore(SEATED_AT_ONCE)

    async def seat(number: int) -> None:
        async with turn:
            options = Options(backoff=HASTE, seed=number)
            ana = Supervisor(url, centre.token(f"s{number}"), options)
            agent = Agent(agent_url, centre.token(f"a{number}", "agent"), options)
            for role, client in (("1 supervisor", ana), ("2 agent", agent)):
                await client.__aenter__()
                screens[number, role] = Screen(client)
            await ana.status_set("available")
            await ana.monitor_start(stories[number].id)
            await asyncio.gather(*(screens[number, role].begun.wait() for role in ("1 supervisor", "2 agent")))

    try:
        async with asyncio.timeout(20 + len(ids) / 10), asyncio.TaskGroup() as seats:
            for number in range(len(ids)):
                seats.create_task(seat(number))
    except BaseException:
        await asyncio.gather(*(screen.close() for screen in screens.values()))
        raise
    return stories, [screens[place] for place in sorted(screens)]


class Talk:
    """
    Messages of all customers, a round over all conversations at a time, until `stop`.

    A round is posted again, with the same ids, until each message was accepted or is known; so `said` is what was
    acknowledged. `node` says which hub to ask; `pause` are the seconds between two rounds.
    """

    def __init__(
        self, centre: Centre, stories: list[Story], node: Callable[[], Awaitable[int]], pause: float = PAUSE_S
    ) -> None:
        self.centre = centre
        self.pause = pause
        self.stories = stories
        self.node = node
        self.rounds = 0
        self.said: list[str] = []
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> list[str]:
        """Finish the round; what each customer has said."""
        self._stopping = True
        await self._task
        return self.said

    async def goes_on(self, rounds: int = 2) -> None:
        """Wait until that many more rounds were taken."""
        until = self.rounds + rounds

        async def there() -> bool:
            return self.rounds >= until or self._task.done()

        await eventually(there, 30, "messages taken")

    async def _run(self) -> None:
        while not self._stopping:
            message_id = f"m{self.rounds + 1}"
            batch = [
                story.event("message.created", message_id=message_id, text="Hello?", purpose="customer")
                for story in self.stories
            ]
            await self._until_taken(batch)
            self.said.append(message_id)
            self.rounds += 1
            await asyncio.sleep(self.pause)

    async def _until_taken(self, batch: list[Json]) -> None:
        async def taken() -> bool:
            try:
                results = await self.centre.platform.post(*batch, node=await self.node())
            except (httpx.HTTPError, AssertionError, IndexError):
                return False  # nobody there, or an answer that isn't 200: ask again
            refused = [result["error"] for result in results if result["status"] == "refused"]
            assert all(error["retryable"] for error in refused), refused
            return not refused

        await eventually(taken, 30, "a hub that takes events")


class Writer:
    """
    The customer of one conversation as the platform reports it to one hub, message after message, until `stop`.

    `durable` are those that were acknowledged, `unsure` those that were too but may be lost, `unknown` those without an
    answer; `taken` has the loop's time of each acknowledgement.
    """

    def __init__(self, centre: Centre, story: Story, node: int) -> None:
        self.centre = centre
        self.story = story
        self.node = node
        self.durable: list[str] = []
        self.unsure: list[str] = []
        self.unknown: list[str] = []
        self.taken: list[float] = []
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        number = 0
        while not self._stopping:
            number += 1
            message_id = f"n{self.node}:{number}"
            event = self.story.event("message.created", message_id=message_id, text=message_id, purpose="customer")
            try:
                [result] = await self.centre.platform.post(event | {"id": f"e{message_id}"}, node=self.node)
            except (httpx.HTTPError, AssertionError):
                self.unknown.append(message_id)
            else:
                if result["status"] != "accepted":
                    self.unknown.append(message_id)
                else:
                    (self.durable if result.get("durable", True) else self.unsure).append(message_id)
                    self.taken.append(asyncio.get_running_loop().time())
            await asyncio.sleep(PAUSE_S / 2)

    async def durable_again(self) -> None:
        """Wait until the next message is acknowledged as durable."""
        before = len(self.durable)

        async def more() -> bool:
            return len(self.durable) > before

        await eventually(more, 20, "a durable message")

    async def stop(self) -> None:
        """End after the message under way."""
        self._stopping = True
        await self._task
