"""
People's lines break, hundreds of times: every screen shows every acknowledged message once, and nobody loses a monitor.

Each person reaches the hubs through a proxy of their own, which lets the line down when the n-th piece from now passes:
with an RST, with a FIN, without a word, or by making every piece late. So the moments lie where data is, and many lie
within the next connection's handshake, its hello, or the answer to it. Half of the people use the SDK; the others raw
sockets, which see what the SDK would put right by itself: a position that comes twice.
"""

import asyncio
import contextlib
import functools
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import websockets.asyncio.client
from websockets.exceptions import WebSocketException

from clients import Agent, Customer, Options, Supervisor
from tests.support.centre import Centre, Story
from tests.support.fixtures import east_and_west, running
from tests.support.processes import CONFIG, StoreProcess
from tests.support.proxy import Give, Pair, Proxy
from tests.support.silence import goes_silent
from tests.support.socket import Json, Socket, eventually
from tests.support.talk import HASTE, PAUSE_S, Screen

FAULTS = int(os.environ.get("SOAK_LINES", "300"))
SEED = int(os.environ.get("LINES_SEED", "8017"))
TRIOS = 10
ROUND = 300  # faults of one round; more are told in more rounds, so that transcripts and logs stay short
KINDS = ("reset", "drop", "half-open", "delay")
CHAIN_MAX = 3  # faults before somebody has resumed: with each of them noticed in 2 s, that is within every lease
PIECES_MAX = 12  # after so many pieces at the latest; a resume has about six
DELAY_S = 0.05  # per piece, and up to as much more

# Leases and resumes as they are by default; what notices a silent line is quick.
QUICK = (
    CONFIG
    + """
heartbeat_ms = 1000
silence_grace_ms = 500
monitor_ping_ms = 300
monitor_silence_ms = 900
lease_renew_ms = 1000
"""
)
DEAD_S = 1.5  # the same for clients
NOTICED_S = 5.0  # a client that monitors has given up a silent line by then: 1.3 s, and what a busy machine adds
ANSWER_S = 2.0  # how long a client waits for a handshake or a hello
MONITOR_SILENCE_S = 5.0  # default settings
LET_IN_S = 22.0


class Line(Proxy):
    """One person's way to the hubs; `strike` lets it down at a chosen piece."""

    def __init__(self, ports: list[int], chance: random.Random) -> None:
        super().__init__(chance.choice(ports))
        self.ports = ports
        self.chance = chance
        self.struck = asyncio.Event()
        self._left = 0
        self._kind = ""
        self._before = False

    def strike(self, kind: str) -> None:
        """Let it down at one of the next pieces, before or after that one passes; who comes back may find another hub."""
        self.struck.clear()
        self._kind = kind
        self._before = self.chance.random() < 0.5
        self._left = self.chance.randint(1, PIECES_MAX)

    async def up(self, pair: Pair, piece: bytes) -> bool:
        """Counted, like what comes down."""
        return await self._count(super().up, pair, piece)

    async def down(self, pair: Pair, piece: bytes) -> bool:
        """Counted, like what goes up."""
        return await self._count(super().down, pair, piece)

    async def _count(self, give: Give, pair: Pair, piece: bytes) -> bool:
        self._left -= pair.live
        now = self._left == 0 and pair.live and not self.struck.is_set()
        if now and self._before:
            self._strike()
        await give(pair, piece)
        if now and not self._before:
            self._strike()
        return True

    def _strike(self) -> None:
        self.target = self.chance.choice(self.ports)
        self.delay(0)
        match self._kind:
            case "reset":
                self.reset()
            case "drop":
                self.drop()
            case "half-open":
                self.half_open()
            case "delay":
                self.delay(DELAY_S, DELAY_S, self.chance)
        self.struck.set()


class Bare:
    """Somebody with raw sockets, who resumes as the protocol says; what they showed, as `Screen` has it."""

    def __init__(self, line: Line, endpoint: str, bearer: str) -> None:
        self.line = line
        self.endpoint = endpoint
        self.bearer = bearer
        self.sockets: list[Socket] = []
        self.breaks: list[str] = []
        self.begun = asyncio.Event()
        self._resume: Json | None = None
        self._connecting = asyncio.create_task(self._run())

    @property
    def messages(self) -> list[str]:
        """Ids of the messages of all sockets, in order."""
        events = [event for socket in self.sockets for event in socket.events]
        return [event["data"]["message_id"] for event in events if event["event"] == "message.created"]

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                async with asyncio.timeout(ANSWER_S):
                    socket = await Socket.open(self.line.sockets, self.endpoint)
                self.sockets.append(socket)
                await self._use(socket)
            await asyncio.sleep(self.line.chance.uniform(0, HASTE.base_ms / 1000))

    async def _use(self, socket: Socket) -> None:
        """Until the line breaks, or is silent for so long that it must have."""
        try:
            with contextlib.suppress(AssertionError):  # closed, or nothing came
                async with asyncio.timeout(ANSWER_S):
                    await socket.hello(self.bearer, self._resume)
                self.begun.set()
                while await self._more(socket):
                    pass
        finally:
            await socket.drop()
            self._note(socket)

    async def _more(self, socket: Socket) -> bool:
        known = len(socket.frames)
        await socket.until(lambda: len(socket.frames) > known, DEAD_S)
        return True

    def _note(self, socket: Socket) -> None:
        """Keep the place for the next hello, also where this one was given up just before its answer was read."""
        answer = socket.answers.get(1, {})
        if "ok" in answer:
            if self._resume is not None and not answer["ok"]["resumed"]:
                self.breaks.append("a new session")
            socket.session = answer["ok"]
            self._resume = socket.resumption()
        found = [event["event"] for event in socket.events]
        self.breaks += [name for name in found if name in {"monitor.ended", "stream.reset"}]

    async def shows(self, said: list[str], why: str) -> None:
        """Wait for the last message; all of them were shown once, in order, and no position twice."""

        async def there() -> bool:
            return said[-1] in self.messages

        await eventually(there, 20, f"{said[-1]} at {self.endpoint} ({why}; {self.breaks})")
        await self.close()
        violations = [fault for socket in self.sockets for fault in socket.violations]
        assert (self.breaks, violations) == ([], []), why
        assert self.messages == said, why

    async def close(self) -> None:
        """Stop coming back."""
        self._connecting.cancel()
        await asyncio.gather(self._connecting, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a screen, and their line."""

    line: Line
    screen: Screen | Bare
    why: str

    async def suffers(self, faults: int, tally: Counter[str]) -> None:
        """Their line is let down that many times: when they are back, or while they try to be."""
        chance, chain = self.line.chance, 0
        for _ in range(faults):
            kind, shown = chance.choice(KINDS), len(self.screen.messages)
            self.line.strike(kind)
            async with asyncio.timeout(30):
                await self.line.struck.wait()
            tally[kind] += 1
            tally["while resuming"] += chain > 0
            chain += 1
            if chain == CHAIN_MAX or chance.random() < 0.5:
                await self.sees_more_than(shown)
                chain = 0

    async def sees_more_than(self, shown: int) -> None:
        """Wait until something new is on the screen."""

        async def more() -> bool:
            assert self.screen.breaks == [], f"{self}: {self.screen.breaks}"
            return len(self.screen.messages) > shown

        await eventually(more, 30, f"anything new for {self}")

    def __str__(self) -> str:
        return (
            f"{self.screen.client.endpoint if isinstance(self.screen, Screen) else self.screen.endpoint} ({self.why})"
        )


class Customers:
    """Customers who go on talking over their own lines until `stop`; `said` is what was acknowledged, by conversation."""

    def __init__(self, clients: dict[str, Customer]) -> None:
        self.said: dict[str, list[str]] = {conversation_id: [] for conversation_id in clients}
        self._stopping = False
        self._talking = asyncio.gather(*(self._talk(*one) for one in clients.items()))

    async def stop(self) -> dict[str, list[str]]:
        """Let everybody finish their sentence."""
        self._stopping = True
        await self._talking
        return self.said

    async def cancel(self) -> None:
        """Stop at once."""
        self._talking.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)

    async def _talk(self, conversation_id: str, client: Customer) -> None:
        while not self._stopping:
            number = len(self.said[conversation_id])
            self.said[conversation_id].append(await client.message_send(conversation_id, f"{number}", f"c{number}"))
            await asyncio.sleep(PAUSE_S)


class World:
    """Ten trios on two nodes, each person behind a line of their own."""

    def __init__(self, centre: Centre, seed: str) -> None:
        self.centre = centre
        self.seed = seed
        self.people: dict[str, list[Person]] = {}  # by conversation
        self.customers: dict[str, Customer] = {}

    async def line(self) -> Line:
        """A new one, with a seed of its own."""
        number = sum(map(len, self.people.values()))
        ports = [hub.port for hub in self.centre.hubs]
        line = Line(ports, random.Random(f"{self.seed}/{number}"))
        await line.start()
        return line

    async def trio(self, number: int) -> None:
        """A conversation with its supervisor, agent and customer at their screens."""
        story = await self.centre.story(agents=(f"a{number}",))
        self.people[story.id] = []
        bearers = {
            "/v1/supervisor": self.centre.token(f"s{number}"),
            "/v1/agent": self.centre.token(f"a{number}", "agent"),
            "/v1/customer": self.centre.token("cus_7", "customer", conversation=story.id),
        }
        await self._customer(story, bearers["/v1/customer"])
        if number % 2:
            for endpoint, bearer in bearers.items():
                await self._bare(story, endpoint, bearer)
        else:
            await self._agent(story, bearers["/v1/agent"])
            await self._supervisor(story, bearers["/v1/supervisor"])

    async def _customer(self, story: Story, bearer: str) -> None:
        line = await self.line()
        client = Customer(line.sockets, bearer, self._options(line))
        await client.__aenter__()
        self.customers[story.id] = client
        self.people[story.id].append(Person(line, Screen(client), f"LINES_SEED={self.seed}, {story.id}"))

    async def _agent(self, story: Story, bearer: str) -> None:
        line = await self.line()
        client = Agent(line.sockets, bearer, self._options(line))
        await client.__aenter__()
        self.people[story.id].append(Person(line, Screen(client), f"LINES_SEED={self.seed}, {story.id}"))

    async def _supervisor(self, story: Story, bearer: str) -> None:
        line = await self.line()
        client = Supervisor(line.sockets, bearer, self._options(line))
        await client.__aenter__()
        self.people[story.id].append(Person(line, Screen(client), f"LINES_SEED={self.seed}, {story.id}"))
        await client.status_set("available")
        await client.monitor_start(story.id)

    async def _bare(self, story: Story, endpoint: str, bearer: str) -> None:
        line = await self.line()
        bare = Bare(line, endpoint, bearer)
        self.people[story.id].append(Person(line, bare, f"LINES_SEED={self.seed}, {story.id}"))
        await bare.begun.wait()
        if endpoint == "/v1/supervisor":
            await bare.sockets[0].command("status.set", status="available")
            await bare.sockets[0].command("monitor.start", conversation_id=story.id)

    def _options(self, line: Line) -> Options:
        return Options(backoff=HASTE, hello_timeout_s=ANSWER_S, seed=line.port)

    async def talks_while(self, *works: Coroutine[None, None, None]) -> dict[str, list[str]]:
        """All customers talk until those are done; what of it was acknowledged, by conversation."""
        customers = Customers(self.customers)
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
            return await customers.stop()
        finally:
            await customers.cancel()

    async def close(self) -> None:
        """Everybody goes home."""
        people = [person for trio in self.people.values() for person in trio]
        await asyncio.gather(*(person.screen.close() for person in people))
        await asyncio.gather(*(person.line.stop() for person in people))


@pytest.fixture
def impatient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK waits ten seconds for a handshake, and ten beyond a heartbeat for a frame; here it is two and a half."""
    connect = functools.partial(websockets.asyncio.client.connect, open_timeout=ANSWER_S)
    monkeypatch.setattr("clients.session.connect", connect)
    monkeypatch.setattr("clients.session.SILENCE_SLACK_S", DEAD_S - 1.0)


@pytest_asyncio.fixture
async def quick_pair(store: StoreProcess, tmp_path: Path) -> AsyncIterator[Centre]:
    """Two nodes that notice a silent line in two seconds."""
    async with running(*east_and_west(tmp_path, store.url, QUICK)) as centre:
        yield centre


def shares(faults: int, people: int) -> Iterator[int]:
    """As evenly as it goes."""
    for place in range(people):
        yield faults // people + (place < faults % people)


@pytest.mark.usefixtures("impatient_clients")
@pytest.mark.parametrize("turn", range(-(-FAULTS // ROUND)))
async def test_lines_break(quick_pair: Centre, turn: int) -> None:
    """Reset, dropped, half-open and late, also while one resumes: every message once, in order, and all monitors kept."""
    asyncio.get_running_loop().set_debug(False)  # it would cost more than the people do
    seed, tally = f"{SEED}/{turn}", Counter[str]()
    world = World(quick_pair, seed)
    try:
        for number in range(TRIOS):
            await world.trio(number)
        people = [person for trio in world.people.values() for person in trio]
        faults = min(ROUND, FAULTS - turn * ROUND)
        said = await world.talks_while(
            *(one.suffers(share, tally) for one, share in zip(people, shares(faults, len(people)), strict=True))
        )
        for conversation_id, trio in world.people.items():
            why = f"LINES_SEED={SEED}, turn {turn}, {conversation_id}"
            for person in trio:
                await person.screen.shows(said[conversation_id], why)
            messages = [message["message_id"] for message in await quick_pair.messages(conversation_id)]
            assert messages == said[conversation_id], why
            [monitor] = (await quick_pair.detail(conversation_id))["monitors"]
            assert monitor["to"] is None, why
        assert all(tally[kind] for kind in (*KINDS, "while resuming")), tally
        print(f"{faults} faults of {len(people)} lines, {sum(map(len, said.values()))} messages: {dict(tally)}")
    finally:
        await world.close()


async def test_a_line_goes_silent_with_default_settings(pair: Centre) -> None:
    """Half-open, without a word to either end: nothing is sent on it after 5 s, and the next one is let in within 22 s."""
    took = await goes_silent(pair, silence_s=MONITOR_SILENCE_S, within_s=LET_IN_S)
    print(f"let in {took:.1f} s after the line went silent")


async def test_a_client_notices_a_silent_line(quick_pair: Centre) -> None:
    """Half-open while one monitors: it is given up when some pings didn't come, and the next line shows what was missed."""
    proxy = await Proxy(quick_pair.hubs[0].port).start()
    story = await quick_pair.story()
    client = Supervisor(proxy.sockets, quick_pair.token("ana"), Options(backoff=HASTE, seed=1))
    await client.__aenter__()
    screen = Screen(client)
    try:
        await client.status_set("available")
        await client.monitor_start(story.id)
        await screen.begun.wait()
        proxy.half_open()
        said = [await story.customer_says("Hello?")]

        async def back() -> bool:
            return client.reconnects > 0 and client.connected

        await eventually(back, NOTICED_S, "another line")  # a heartbeat and its slack are 11 s
        await screen.shows(said, "a silent line")
    finally:
        await screen.close()
        await proxy.stop()


async def test_the_answer_to_a_resume_is_lost(pair: Centre) -> None:
    """
    Who never read the answer, and so the new secret, is given the session by the one they have.

    The line broke between the hub's write and the client's read. The store already had the next secret, so that the
    client's only one was wrong: a new session, and nobody renewed the monitor.
    """
    ana, story = await pair.supervisor(), await pair.story()
    await story.monitored_by(ana)
    await ana.drop()
    for node in (1, 0):
        unheard = await pair.raw("/v1/supervisor", node=node)
        unheard.answers_pings, unheard.cursors = False, dict(ana.cursors)
        await unheard.post("hello", token=pair.token("ana"), resume=ana.resumption())
        await unheard.until(lambda line=unheard: 1 in line.answers)  # type: ignore[misc]
        await unheard.drop()
    back = await pair.connect("/v1/supervisor", pair.token("ana"), resume=ana.resumption())
    assert back.session["resumed"] is True
    await story.fence(back)
