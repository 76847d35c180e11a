"""
Those who talk to nodes: supervisors and agents at their screens, a customer, a platform.

Each asks one thing at a time, under a `req` (or a message's or event's id) of its own, and asks the same again, perhaps of
another node, while the answer doesn't come or is `unknown`. What each asked and was told is kept in `calls`.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from hub.domain.errors import Refused
from hub.domain.grants import EVERYTHING, PERMISSIONS, Person
from hub.protocol import platform as p
from hub.service.ingest import Result
from tests.simulation.judge import Written
from tests.simulation.node import ORG, Ask, Node
from tests.support.fake_store import START_MS

if TYPE_CHECKING:
    from tests.simulation.world import World

Json = dict[str, Any]
ATTEMPTS_MAX = 5
NOWHERE = frozenset[str]()
ANYWHERE = frozenset({EVERYTHING})


def supervisor(user_id: str) -> Person:
    """A supervisor with every right."""
    return Person(user_id, user_id.title(), ORG, "supervisor", PERMISSIONS, ANYWHERE, ANYWHERE)


def agent(user_id: str) -> Person:
    """An agent, as their own token states them."""
    return Person(user_id, user_id.title(), ORG, "agent", NOWHERE, NOWHERE, NOWHERE)


def customer(conversation_id: str) -> Person:
    """The customer of one conversation."""
    return Person("dana", "Dana", ORG, "customer", NOWHERE, NOWHERE, NOWHERE, conversation_id)


PLATFORM = Person("platform", "Platform", ORG, "connector", NOWHERE, NOWHERE, NOWHERE)


@dataclass(slots=True)
class Call:
    """
    One thing that somebody asked, however often.

    `answer` is the `ok`, the refusal, or None where none came (`answered` is then infinite).
    """

    user_id: str
    session: str
    cmd: str
    conversation_id: str
    req: str
    args: Json
    asked: float
    answered: float = float("inf")
    answer: object = None


class Client:
    """Somebody with a line to one node at a time; `patience` is how much longer than others they think."""

    patience = 1.0

    def __init__(self, world: "World", person: Person, session: str) -> None:
        self.world = world
        self.person = person
        self.session = session
        self.where: Node | None = None
        self.line = 0

    @property
    def chance(self) -> Any:
        """The world's."""
        return self.world.chance

    async def live(self) -> None:
        """One thing after the other, while the world is busy."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Think; people's turns fall together often enough to collide."""
        loop = self.world.loop
        ahead = loop.time() + self.chance.expovariate(1 / (self.world.faults.think_s * self.patience))
        await asyncio.sleep(int(ahead * 4 + 1) / 4 - loop.time() + self.chance.random() * 0.01)

    async def sit_down(self) -> None:
        """Any node that answers."""
        self.where = self.world.some_node()

    async def ask(self, cmd: str, conversation_id: str, **args: Any) -> object:
        """The answer (`ok` or Refused); None where there is none after all attempts."""
        world, req = self.world, self.world.ids.req(self.session)
        call = Call(self.person.user_id, self.session, cmd, conversation_id, req, args, world.loop.time())
        world.calls.append(call)
        in_doubt = False
        for _ in range(ATTEMPTS_MAX):
            if self.where is None:
                await self.sit_down()
            answer = await self.once(Ask(self.person, self.session, cmd, conversation_id, req, args))
            if not _unsettled(answer):
                call.answered, call.answer = world.loop.time(), answer
                world.judge.acknowledged(call)
                if in_doubt:
                    world.count("unknown resolved")
                break
            in_doubt = True
            if answer is None or self.chance.random() < 0.6:
                self.where = None
            await asyncio.sleep(self.chance.uniform(0.01, 0.5))
        world.say(self.session, cmd, conversation_id, req, _short(call.answer))
        return call.answer

    async def once(self, ask: Ask) -> object:
        """One attempt; None where no answer came in time."""
        if self.where is None:
            return None
        return await self.world.exchange(self.where, ask)

    def receive(self, line: int, frame: bytes) -> None:
        """A frame; only those with screens get any."""


def _unsettled(answer: object) -> bool:
    return answer is None or (isinstance(answer, Refused) and answer.code == "store_unavailable")


def _short(answer: object) -> str:
    if isinstance(answer, Refused):
        return answer.code
    return "no answer" if answer is None else str(answer)


class Tab(Client):
    """A session with a screen: it sits at one node, with what it watches, and moves on with it."""

    def __init__(self, world: "World", person: Person, session: str) -> None:
        super().__init__(world, person, session)
        self.monitors: dict[str, str] = {}
        self.cursors: dict[str, str] = {}
        self.seen: dict[str, Written | None] = {}
        self.notices: dict[str, str] = {}
        self.told: list[str] = []
        self.silent_from = float("inf")  # no sign of life from then on
        self.moved_at = 0.0

    def heard_last(self, line: int) -> float:
        """When the node at the other end of that line last had a sign of life."""
        now = self.world.loop.time()
        return min(now, self.silent_from) if line == self.line else self.moved_at

    async def sit_down(self) -> None:
        """Say hello to some node, with the monitors that one has and the position of each."""
        node = self.world.some_node()
        self.line += 1
        self.moved_at = self.world.loop.time()
        mine = {name: (monitor_id, self.cursors.get(name)) for name, monitor_id in self.monitors.items()}
        for name in [name for name in self.cursors if name not in mine]:
            del self.cursors[name]
        self.told.clear()
        ask = Ask(self.person, self.session, "hello", "", "", {"line": self.line, "monitors": mine})
        answer = await self.world.exchange(node, ask)
        if not _unsettled(answer):
            self.world.count("hellos")
            self.where = node

    def receive(self, line: int, frame: bytes) -> None:
        """What the screen shows; a position always follows the last one, or is set anew by a snapshot."""
        if line != self.line:
            return
        event = orjson.loads(frame)
        name, conversation_id, data = event["event"], event["conversation_id"], event["data"]
        if "cursor" in event:
            self.seen[conversation_id] = self.world.judge.shown_to(self, conversation_id, frame)
            self.cursors[conversation_id] = event["cursor"]
        elif "cursor" in data:
            self.cursors[conversation_id] = data["cursor"]
            self.seen[conversation_id] = self.world.judge.position(conversation_id, data["cursor"])
            self.world.say(self.session, "sees", name, conversation_id, data["cursor"])
        elif name == "monitor.ended":
            if self.monitors.get(conversation_id) == data["monitor_id"]:
                del self.monitors[conversation_id]
            self.world.say(self.session, "sees", name, conversation_id, data["monitor_id"])
        elif name == "takeover.notified":
            self.world.judge.holds("I4", data["takeover_id"] not in self.told, f"{self.session} was told twice: {data}")
            self.told.append(data["takeover_id"])
            self.notices[data["takeover_id"]] = conversation_id
            self.world.say(self.session, "sees", name, conversation_id, data["takeover_id"])

    async def live(self) -> None:
        """One thing after the other, while the world is busy."""
        await self.pause()
        while self.world.busy:
            if self.silent_from <= self.world.loop.time():
                pass  # asleep, or in a tunnel
            elif self.where is None:
                await self.sit_down()
            else:
                await self.do_something()
            await self.pause()

    async def do_something(self) -> None:
        """What this person does."""
        raise NotImplementedError

    async def acknowledge(self) -> None:
        """What one was told of, most of the time."""
        takeover_id = next(iter(self.notices))
        conversation_id = self.notices.pop(takeover_id)
        await self.ask("takeover.acknowledge", conversation_id, takeover_id=takeover_id)

    async def say(self, conversation_id: str) -> None:
        """A message; what is acknowledged is remembered."""
        answer = await self.ask("message.send", conversation_id, text=f"by {self.session}")
        if isinstance(answer, str):
            self.world.judge.acked_messages[answer] = conversation_id


@dataclass
class _Wish:
    """Something to do and how much one wants to."""

    weight: float
    cmd: str


class SupervisorTab(Tab):
    """Starts, joins, stops, releases; prepares and confirms; answers what was taken over."""

    ALONE = (_Wish(6, "start"), _Wish(1, "release"), _Wish(0.5, "stop"), _Wish(2, "say"), _Wish(0.5, "submit"))
    WATCHING = (
        _Wish(6, "take over"),
        _Wish(2, "stop"),
        _Wish(1, "start"),
        _Wish(1, "cancel"),
        _Wish(1, "release"),
        _Wish(2, "look"),
        _Wish(0.5, "elsewhere"),
    )

    def __init__(self, world: "World", person: Person, session: str) -> None:
        super().__init__(world, person, session)
        self.owned: list[str] = []

    async def do_something(self) -> None:
        """By what one has on the screen."""
        if self.notices and self.chance.random() < 0.5:
            await self.acknowledge()
            return
        wishes = self.WATCHING if self.monitors else self.ALONE
        wish = self.chance.choices(wishes, [one.weight for one in wishes])[0].cmd
        anywhere = self.chance.choice(self.world.conversations)
        mine = self.chance.choice(list(self.monitors)) if self.monitors else anywhere
        match wish:
            case "start":
                await self.start(anywhere)
            case "stop":
                await self.stop(mine)
            case "release":
                await self.ask("monitor.release", anywhere)
            case "say":
                await self.say(self.chance.choice(self.owned) if self.owned else anywhere)
            case "submit":
                await self.ask("wrapup.submit", anywhere)
            case "take over" | "cancel":
                await self.take_over(mine, confirm=wish == "take over")
            case "elsewhere":
                self.where = None

    async def start(self, conversation_id: str) -> None:
        """Monitor somebody."""
        target = self.chance.choice((None, "prt_max", "prt_eva", "prt_robo"))
        answer = await self.ask("monitor.start", conversation_id, participant_id=target)
        if isinstance(answer, dict):
            self.monitors[conversation_id] = answer["monitor_id"]
            self.cursors.pop(conversation_id, None)

    async def stop(self, conversation_id: str) -> None:
        """Monitor no more."""
        if isinstance(await self.ask("monitor.stop", conversation_id), dict):
            self.monitors.pop(conversation_id, None)

    async def take_over(self, conversation_id: str, *, confirm: bool) -> None:
        """Prepare, read what will happen, and do it or not."""
        prepared = await self.ask("takeover.prepare", conversation_id)
        if not isinstance(prepared, dict):
            return
        await self.pause()
        takeover_id, token = prepared["takeover_id"], prepared["confirm_token"]
        if not confirm:
            await self.ask("takeover.cancel", conversation_id, takeover_id=takeover_id)
            return
        done = await self.ask("takeover.confirm", conversation_id, takeover_id=takeover_id, token=token)
        if isinstance(done, dict):
            self.owned.append(conversation_id)
            self.monitors.pop(conversation_id, None)
        elif done is not None:
            self.world.count("confirms refused")


class AgentTab(Tab):
    """Answers customers; reads notices; hands wrap-ups in."""

    patience = 2.5

    async def do_something(self) -> None:
        """Mostly talk."""
        conversation_id = self.chance.choice(self.world.conversations)
        luck = self.chance.random()
        if self.notices and luck < 0.4:
            await self.acknowledge()
        elif luck < 0.5:
            await self.ask("wrapup.submit", conversation_id)
        elif luck < 0.55:
            self.where = None
        else:
            await self.say(conversation_id)


class Messenger(Tab):
    """The customer of one conversation, who only talks; no screen of theirs is looked at."""

    patience = 3.0

    async def sit_down(self) -> None:
        """Any node."""
        self.where = self.world.some_node()

    async def do_something(self) -> None:
        """Ask something."""
        assert self.person.conversation is not None
        await self.say(self.person.conversation)


class Platform(Client):
    """One conversation's side of a platform: batches of events, each again until it is answered."""

    patience = 1.5

    def __init__(self, world: "World", conversation_id: str) -> None:
        super().__init__(world, PLATFORM, f"platform/{conversation_id}")
        self.conversation_id = conversation_id
        self.there: list[str] = []

    async def live(self) -> None:
        """It begins; people come and go, and talk."""
        who = ["robo", "max"] if self.chance.random() < 0.5 else ["max"]
        queue = "support" if self.chance.random() < 0.7 else "billing"
        about = {"channel": "web", "queue": queue, "customer": {"id": "dana", "name": "Dana"}}
        await self.post([self.event("conversation.started", **about), *(self.coming(one) for one in who)])
        while self.world.busy:
            await self.pause()
            await self.post([self.something() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))])

    def event(self, kind: str, **data: object) -> p.AnyEvent:
        """An event of an id of its own."""
        at = START_MS + int(self.world.loop.time() * 1000)
        body = {
            "id": self.world.ids.req("evt"),
            "type": kind,
            "conversation_id": self.conversation_id,
            "at": at,
            "data": data,
        }
        event = p.decode_event(orjson.dumps(body))
        assert not isinstance(event, p.BadEvent), event
        return event

    def coming(self, user: str) -> p.AnyEvent:
        """Somebody is brought in."""
        self.there.append(user)
        purpose = "bot" if user == "robo" else "agent"
        about = {"participant_id": f"prt_{user}", "purpose": purpose, "user_id": user, "name": user.title()}
        return self.event("participant.connected", **about)

    def something(self) -> p.AnyEvent:
        """What a platform has to tell."""
        chance = self.chance
        away = [one for one in ("max", "eva", "robo") if one not in self.there]
        match chance.choices(("customer", "agent", "come", "go", "transfer", "end", "panel"), (6, 4, 4, 4, 1, 0.3, 1))[
            0
        ]:
            case "agent" if self.there:
                who = f"prt_{chance.choice(self.there)}"
                return self.event("message.created", message_id=self.world.ids.req("msg"), text="a", participant_id=who)
            case "come" if away:
                return self.coming(chance.choice(away))
            case "come":  # again: those whom a takeover removed without the platform's knowing yet
                return self.coming(self.there.pop(chance.randrange(len(self.there))))
            case "go" if self.there:
                gone = self.there.pop(chance.randrange(len(self.there)))
                return self.event("participant.disconnected", participant_id=f"prt_{gone}", disconnect_type="client")
            case "transfer":
                return self.event("conversation.transferred", queue=chance.choice(("support", "billing")))
            case "end":
                return self.event("conversation.ended", reason="solved")
            case "panel":
                return self.event("panel.updated", panel="crm", content={"seen": True})
            case _:
                message_id = self.world.ids.req("msg")
                return self.event("message.created", message_id=message_id, text="c", purpose="customer")

    async def post(self, events: list[p.AnyEvent]) -> None:
        """One batch; what it was told is remembered."""
        results = await self.ask("events", self.conversation_id, events=events)
        if not isinstance(results, list):
            return
        for event, result in zip(events, results, strict=True):
            assert isinstance(result, Result)
            if result.status == "duplicate":
                self.world.count("duplicates")
            if result.refused is None and isinstance(event, p.Message):
                self.world.judge.acked_messages[event.data.message_id] = self.conversation_id
            if result.cursor is not None:
                self.world.judge.position(self.conversation_id, result.cursor)
