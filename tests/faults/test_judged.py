"""A busy centre on two nodes, with losses, repeats and a node that stands still: the judge finds no promise broken."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed

from tests.support.centre import Centre, Connector, Story, name_of
from tests.support.fixtures import AWAKE, east_and_west, running
from tests.support.judge import AT_REST_S, Truth, judge, read_truth
from tests.support.processes import StoreProcess
from tests.support.socket import HubError, Json, Socket, eventually

ROUNDS = int(os.environ.get("SOAK_JUDGED", "1"))
SEED = int(os.environ.get("JUDGED_SEED", "1"))
LEASE_S = 1.5  # as HASTY has it
PATIENCE_S = 10.0  # a node stands still for a while
STEPS = 30  # of each person
QUEUES = ("support", "billing", "quick", "survey", "support")


class Client:
    """One device of one person: it loses its socket now and then, and comes back on some node."""

    def __init__(self, centre: Centre, endpoint: str, user: str, chance: random.Random, **claims: Any) -> None:
        self.centre = centre
        self.endpoint = endpoint
        self.user = user
        self.claims = claims
        self.bearer = centre.token(user, endpoint.rpartition("/")[2], **claims)
        self.chance = chance
        self.mind = ""  # the conversation that a supervisor looks after
        self.seen = 0  # events of the present socket that were looked at
        self._line: Socket | None = None

    @property
    def line(self) -> Socket:
        """The present socket."""
        assert self._line is not None
        return self._line

    async def come(self) -> None:
        """Connect where somebody answers: as the session that was lost, or (seldom) as a new one."""
        old = self._line
        resume = old.resumption() if old is not None and old.session and self.chance.random() < 0.9 else None

        async def welcomed() -> bool:
            line = await self.centre.raw(self.endpoint, node=self.chance.randrange(2))
            with contextlib.suppress(HubError, AssertionError, ConnectionClosed):
                await line.hello(self.bearer, resume)
                self._line, self.seen = line, 0
                return True
            return False

        await eventually(welcomed, 30, f"a socket for {self.user}")

    async def hop(self) -> None:
        """Lose the socket, with or without a word, or leave it open behind one's back, and come again."""
        how = self.chance.randrange(3)
        if how == 0:
            await self.line.drop()
        elif how == 1:
            await self.line.close(1001)
        await self.come()

    async def ask(self, cmd: str, /, **arguments: Any) -> Json | None:
        """The `ok`; None where it was refused, or nobody answered."""
        if self._line is None or self._line.close_code is not None:
            await self.come()
        line = self.line
        try:
            answer = await line.answer(await line.post(cmd, **arguments), PATIENCE_S)
        except ConnectionClosed:
            return None  # lost as this was sent
        except AssertionError:
            assert line.close_code is not None, f"no answer to {cmd} for {self.user}"
            return None
        wrong = answer.get("error", {}).get("code")
        assert wrong not in ("schema_invalid", "unauthenticated"), f"{self.user}'s {cmd} was refused: {answer}"
        return answer.get("ok")

    def news(self, *names: str) -> list[Json]:
        """Events of those names that came since the last look."""
        fresh, self.seen = self.line.events[self.seen :], len(self.line.events)
        return [event for event in fresh if event["event"] in names]


class World:
    """Conversations, everybody in them, and what they do, by chance and seed."""

    def __init__(self, centre: Centre, seed: int) -> None:
        self.centre = centre
        self.chance = random.Random(seed)
        self.stories: list[Story] = []
        self.numbers = itertools.count(1)
        self.steps = 0
        self.posted: list[Json] = []
        self.clients: list[Client] = []
        self.connectors: list[Connector] = []
        self.reporting: list[asyncio.Task[None]] = []

    def client(self, endpoint: str, user: str, **claims: Any) -> Client:
        """A device with chances of its own."""
        found = Client(self.centre, endpoint, user, random.Random(self.chance.random()), **claims)
        self.clients.append(found)
        return found

    async def open(self) -> None:
        """The conversations, each with an agent, some with a bot."""
        for number, queue in enumerate(QUEUES):
            bots = ("bob",) if number % 2 else ()
            self.stories.append(await self.centre.story(agents=(f"a{number}",), bots=bots, queue=queue))
        self.connectors = [await self.centre.connector(node=node) for node in range(2)]

    async def run(self) -> None:
        """Everybody at once, each to the end of their steps; the platform reports all the while."""
        self.reporting = [asyncio.create_task(one.report_all()) for one in self.connectors]
        people: list[Callable[[], Any]] = [self.platform]
        for number, story in enumerate(self.stories):
            customer = self.client("/v1/customer", "cus_7", conversation=story.id)
            devices = [self.client("/v1/agent", f"a{number}") for _ in range(1 + number % 2)]
            people += [self.person(customer, self.customer), *(self.person(one, self.agent) for one in devices)]
        people.append(self.person(self.client("/v1/agent", "bob"), self.agent))
        for number in range(3):
            tabs = [self.client("/v1/supervisor", f"s{number}") for _ in range(1 + (number == 0))]
            people += [self.person(tab, self.supervisor) for tab in tabs]
        people.append(self.pause)
        await asyncio.gather(*(one() for one in people))

    async def close(self) -> None:
        """The platform reports no more."""
        for one in self.reporting:
            one.cancel()
        await asyncio.gather(*self.reporting, return_exceptions=True)

    def person(self, client: Client, step: Callable[[Client], Any]) -> Callable[[], Any]:
        """What somebody does from coming to the last step."""

        async def act() -> None:
            await client.come()
            for _ in range(STEPS):
                await step(client)
                self.steps += 1
                if client.chance.random() < 0.08:
                    await client.hop()

        return act

    # -- what they do ------------------------------------------------------------------------------------------------

    def text(self, client: Client) -> Json:
        """A message that nobody else writes."""
        number = next(self.numbers)
        return {"text": f"{client.user} says {number}", "client_message_id": f"m{number}"}

    async def say(self, client: Client, conversation: str) -> None:
        """Write, and sometimes write the same again, as a client does that got no answer."""
        message = self.text(client) | {"conversation_id": conversation}
        for _ in range(1 + (client.chance.random() < 0.3)):
            await client.ask("message.send", **message)

    async def customer(self, client: Client) -> None:
        """A customer writes, types, or confirms that they read."""
        conversation = client.claims["conversation"]
        if client.chance.random() < 0.6:
            await self.say(client, conversation)
        else:
            await client.ask("typing", conversation_id=conversation, on=client.chance.random() < 0.5)

    async def agent(self, client: Client) -> None:
        """An agent answers, types, drafts, sees notices and wraps up."""
        story = client.chance.choice(self.stories[1::2]) if client.user == "bob" else self.stories[int(client.user[1:])]
        conversation, what = story.id, client.chance.random()
        for event in client.news("takeover.notified", "wrapup.requested"):
            if event["event"] == "wrapup.requested":
                await client.ask("wrapup.submit", conversation_id=event["conversation_id"], code="resolved")
            elif client.chance.random() < 0.6:
                await client.ask("takeover.acknowledge", takeover_id=event["data"]["takeover_id"])
        if what < 0.5:
            await self.say(client, conversation)
        elif what < 0.7:
            await client.ask("typing", conversation_id=conversation, on=True)
        elif what < 0.9:
            await client.ask("draft.update", conversation_id=conversation, text=f"draft {next(self.numbers)}")
        else:
            await client.ask("view.subscribe", view="roster")

    async def supervisor(self, client: Client) -> None:
        """A supervisor watches, stops, releases, takes over, answers: mostly the conversation they have in mind."""
        chance = client.chance
        if not client.mind or chance.random() < 0.25:
            place = chance.randrange(len(self.stories))
            client.mind = self.stories[place].id
            at = {"participant_id": chance.choice((f"p_a{place}", "p_bob"))} if chance.random() < 0.7 else {}
            await client.ask("status.set", status="available")
            await client.ask("monitor.start", conversation_id=client.mind, **at)
        conversation, what = client.mind, chance.random()
        if what < 0.3:
            await self.take_over(client, conversation)
        elif what < 0.4:
            await client.ask("monitor.stop", conversation_id=conversation)
        elif what < 0.5:
            await client.ask("monitor.release", conversation_id=conversation, reason="shift")
        elif what < 0.8:
            await self.say(client, conversation)
        elif what < 0.83:
            await client.ask("conversation.end", conversation_id=conversation)
        elif what < 0.9:
            await client.ask("view.subscribe", view="interactions")
        else:
            client.mind = ""

    async def take_over(self, client: Client, conversation: str) -> None:
        """Prepare, then confirm (twice, sometimes) or think better of it."""
        prepared = await client.ask("takeover.prepare", conversation_id=conversation)
        if prepared is None:
            return
        takeover = {"takeover_id": prepared["takeover_id"]}
        if client.chance.random() < 0.2:
            await client.ask("takeover.cancel", **takeover)
            return
        takeover |= {"confirm_token": prepared["confirm_token"]}
        for _ in range(1 + (client.chance.random() < 0.2)):
            await client.ask("takeover.confirm", **takeover)

    # -- the platform ------------------------------------------------------------------------------------------------

    async def platform(self) -> None:
        """Events on either node, some of them twice."""
        for _ in range(STEPS * 3):
            event = self.chance.choice(self.posted) if self.posted and self.chance.random() < 0.2 else self.event()
            self.posted.append(event)
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                await self.centre.platform.post(event, node=self.chance.randrange(2))

    def event(self) -> Json:
        """Something that happens on the platform."""
        place = self.chance.randrange(len(self.stories))
        story, what, number = self.stories[place], self.chance.random(), next(self.numbers)
        agent: Json = {"participant_id": f"p_a{place}", "user_id": f"a{place}", "purpose": "agent"}
        if what < 0.4:
            text = {"message_id": f"e{number}", "text": f"by the platform {number}"}
            who = {"purpose": "customer"} if what < 0.25 else {"participant_id": agent["participant_id"]}
            return story.event("message.created", **text, **who)
        if what < 0.6:
            return story.event("panel.updated", panel=f"p{number % 3}", content={"n": number})
        if what < 0.75:
            return story.event("participant.connected", **agent, name=name_of(f"a{place}"))
        if what < 0.8:
            gone = {"participant_id": agent["participant_id"], "disconnect_type": "client"}
            return story.event("participant.disconnected", **gone)
        if what < 0.86:
            return story.event("conversation.transferred", queue=self.chance.choice(QUEUES))
        return story.event("typing", on=True, purpose="customer")

    # -- faults ------------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Half way one node stands still for longer than a lease."""
        half, hub = STEPS * (len(self.clients) // 2), self.centre.hubs[self.chance.randrange(2)]

        async def half_way() -> bool:
            return self.steps > half

        await eventually(half_way, 60, "half of all steps")
        hub.signal(signal.SIGSTOP)
        try:
            until = time.monotonic() + LEASE_S * 1.2

            async def over() -> bool:
                return time.monotonic() > until

            await eventually(over, 20)
        finally:
            hub.signal(signal.SIGCONT)

    async def rest(self, store: StoreProcess) -> Truth:
        """Wait until nothing changes any more, and everybody has been there for a while; the store's word then."""
        for client in self.clients:
            if client.line.close_code is not None:
                await client.come()
        before: list[object] = []

        async def still() -> bool:
            nonlocal before
            truth = await read_truth(store, self.centre.org)
            now: list[object] = [(one.top, len(one.ledger), len(one.actions)) for one in truth.conversations.values()]
            same, before = now == before, now
            return same and not any(one.actions for one in truth.conversations.values())

        await eventually(still, 20, "rest", pause=AT_REST_S)
        return await read_truth(store, self.centre.org)


@pytest_asyncio.fixture
async def awake_pair(store: StoreProcess, tmp_path: Path) -> AsyncIterator[Centre]:
    """Two nodes whose time limits are a second or so."""
    async with running(*east_and_west(tmp_path, store.url, AWAKE)) as centre:
        yield centre


@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_no_promise_is_broken(awake_pair: Centre, store: StoreProcess, turn: int) -> None:
    """Whatever people do and whatever breaks, frames and store agree with each promise of the design."""
    world = World(awake_pair, SEED + turn)
    await world.open()
    try:
        await world.run()
        truth = await world.rest(store)
    finally:
        await world.close()
    found = judge(awake_pair.records(), truth)
    assert not found, f"JUDGED_SEED={SEED + turn}: {len(found)} violations\n" + "\n".join(map(str, found[:20]))
