"""Agents of the simulation: who sits where, how many chats they have, and what their desks do by themselves."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from clients.agent import Agent, connect_agent
from clients.session import Options
from clients.simulate import subjects as words
from clients.wire import ClientError, Event, HubError

TokenFactory = Callable[[str, str, str], str]  # role, user id, name -> JWT
CHATS_MAX: Final = 3  # at once, for most agents
CHATS_MAX_CROWDED: Final = 6  # for the one who can't say no
QUEUES: Final = ("support", "billing", "sales")


class Seat:
    """
    One agent. With a `client` the agent answers over `/v1/agent`; without one the platform has the desk itself and
    reports what is said there.
    """

    def __init__(self, number: int) -> None:
        name = words.AGENT_NAMES[number % len(words.AGENT_NAMES)]
        turn = number // len(words.AGENT_NAMES)
        self.number = number
        self.user_id = f"{name.split()[0].lower()}{turn + 1 if turn else ''}"
        self.name = f"{name} {turn + 1}" if turn else name
        self.client: Agent | None = None
        self.participants: dict[str, str] = {}  # conversation -> own participant id
        self.arrived: dict[str, asyncio.Event] = {}  # conversation -> its snapshot is on the desk
        self.away = False

    def join(self, conversation: str) -> str:
        """Take a chat on; returns the new participant id."""
        self.arrived[conversation] = asyncio.Event()
        self.participants[conversation] = f"{conversation}:{self.user_id}"
        return self.participants[conversation]

    def leave(self, conversation: str) -> str:
        """Let a chat go; returns what the participant id was."""
        self.arrived.pop(conversation, None)
        return self.participants.pop(conversation, "")

    @property
    def first_name(self) -> str:
        """How customers are greeted."""
        return self.name.split()[0]

    def is_free(self, *, crowded: bool) -> bool:
        """True where one more chat fits."""
        limit = CHATS_MAX_CROWDED if crowded and self.number == 0 else CHATS_MAX
        return not self.away and len(self.participants) < limit


class Staff:
    """All agents, and the tasks of their desks."""

    def __init__(self, count: int, sockets_max: int, seed: int, time_scale: float) -> None:
        self.seats = [Seat(number) for number in range(count)]
        self.takeovers_seen: Counter[str] = Counter()
        self.wrapups = 0
        self._sockets_max = sockets_max
        self._scale = time_scale
        self._chance = random.Random(f"{seed}:staff")

    def pick(self, *, crowded: bool) -> Seat | None:
        """The free agent with the fewest chats; a crowded conversation goes to the one who has too many already."""
        if crowded and self.seats[0].is_free(crowded=True):
            return self.seats[0]
        free = [seat for seat in self.seats if seat.is_free(crowded=False)]
        return min(free, key=lambda seat: len(seat.participants), default=None)

    async def run(self, url: str, token: TokenFactory, options: Options) -> None:
        """Connect the desks that have sockets and keep them working, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for seat in self.seats[: self._sockets_max]:
                group.create_task(self._work(seat, url, token, options))

    async def _work(self, seat: Seat, url: str, token: TokenFactory, options: Options) -> None:
        async with (
            connect_agent(url, token=lambda: token("agent", seat.user_id, seat.name), options=options) as client,
            asyncio.TaskGroup() as group,
        ):
            await client.status_set("on_queue")
            seat.client = client
            group.create_task(self._breaks(seat, client))
            async for event in client:
                group.create_task(self._react(seat, client, event))

    async def _react(self, seat: Seat, client: Agent, event: Event) -> None:
        """What a person at this desk does about an event; refusals mean that somebody was faster."""
        with suppress(ClientError, TimeoutError):
            if event.event == "conversation.snapshot":
                if arrival := seat.arrived.get(event.conversation_id or ""):
                    arrival.set()
            elif event.event == "takeover.notified":
                await self._pause(self._chance.uniform(1, 4))
                self.takeovers_seen[seat.user_id] += 1
                await client.takeover_acknowledge(event.data["takeover_id"])
            elif event.event == "wrapup.requested":
                await self._wrap_up(seat, client, event)

    async def _wrap_up(self, seat: Seat, client: Agent, event: Event) -> None:
        conversation, codes = event.conversation_id, event.data.get("codes") or []
        if conversation is None or not codes:
            return
        await self._pause(self._chance.uniform(3, 15))
        with suppress(HubError):  # another participant's, or timed out
            await client.wrapup_submit(conversation, self._chance.choice(codes))
            self.wrapups += 1

    async def _breaks(self, seat: Seat, client: Agent) -> None:
        """Now and then an agent takes a break, with whatever chats are open."""
        while True:
            await self._pause(self._chance.uniform(120, 600))
            with suppress(ClientError, TimeoutError):
                seat.away = True
                await client.status_set(self._chance.choice(("break", "meal", "meeting")))
                await self._pause(self._chance.uniform(20, 60))
                await client.status_set("on_queue")
            seat.away = False

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._scale)
