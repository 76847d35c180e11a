"""
Eight supervisors do what they like on two hubs over one real server: there is always an order that explains it.

What each asked and was told, and when, is a history; `tests.support.linear` looks for one order of all of it in which
every answer is right. The hubs are two processes that share nothing but the store, so an answer that was decided on an
old state, a lock given twice or a takeover that another owner should have stopped leaves no such order.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from tests.support.centre import Centre, Story
from tests.support.linear import Contest, Lock, Operation, Spec, assert_linearizable
from tests.support.socket import Json, Socket

ROUNDS = int(os.environ.get("SOAK_HISTORIES", "1"))
SEED = int(os.environ.get("SIM_SEED", "0"))
NAMES = ("ana", "bo", "cy", "di", "ed", "fay", "gus", "hal")
TURNS, STORIES = 25, 3
Answer = tuple[Hashable, ...]
S = TypeVar("S", bound=Hashable)


class Told:
    """What was asked about one conversation, and answered."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.operations: list[Operation] = []
        self.prepared: list[tuple[str, str]] = []

    async def asking(self, what: tuple[Hashable, ...], ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask, and note when that was and what came."""
        loop = asyncio.get_running_loop()
        invoked = loop.time()
        answer = await ask()
        self.operations.append(Operation(what, invoked, loop.time(), answer))
        return answer

    async def command(
        self, line: Socket, what: tuple[Hashable, ...], cmd: str, *told: str, **arguments: object
    ) -> Json:
        """A command on a socket; `told` are the members of its `ok` that the history needs."""
        found: Json = {}

        async def ask() -> Answer:
            found.update(await line.answer(await line.post(cmd, **arguments), 30))
            if "ok" in found:
                return ("ok", *(found["ok"][name] for name in told))
            error = found["error"]
            holder = error["details"].get("holder")
            return ("no", error["code"], holder["user_id"]) if holder else ("no", error["code"])

        await self.asking(what, ask)
        return found

    def explained(self, spec: Spec[S], seed: int) -> None:
        """There is an order."""
        assert_linearizable(spec, self.operations, f"of {self.story.id} (SIM_SEED={seed})")


class Supervisor:
    """One person with one socket, who asks one thing at a time."""

    def __init__(self, name: str, line: Socket, chance: random.Random) -> None:
        self.name = name
        self.line = line
        self.chance = chance
        self.session = str(line.session["session"])

    async def lock(self, told: Told) -> None:
        """Start, stop or release."""
        match self.chance.choice(("start", "start", "stop", "release")):
            case "start":
                await self.start(told, None)
            case "stop":
                await self.stop(told)
            case _:
                await self.release(told)

    async def start(self, told: Told, wanted: str | None) -> None:
        """`monitor.start`"""
        arguments = {"conversation_id": told.story.id} | ({"participant_id": wanted} if wanted else {})
        what = ("start", self.name, self.session, wanted)
        await told.command(self.line, what, "monitor.start", "monitor_id", **arguments)

    async def stop(self, told: Told) -> None:
        """`monitor.stop`"""
        await told.command(self.line, ("stop", self.name), "monitor.stop", conversation_id=told.story.id)

    async def release(self, told: Told) -> None:
        """`monitor.release`"""
        about = {"conversation_id": told.story.id, "reason": "needed"}
        await told.command(self.line, ("release", self.name), "monitor.release", **about)

    async def contend(self, told: Told) -> None:
        """Anything that decides about a takeover."""
        match self.chance.choices(("start", "take over", "confirm", "stop", "release", "send"), (5, 5, 1, 1, 1, 2))[0]:
            case "start":
                await self.start(told, self.chance.choice((None, "p_max", "p_eva", "p_robo")))
            case "take over":
                await self.take_over(told)
            case "confirm" if told.prepared:  # anybody's, also what was done or voided long ago
                await self.confirm(told, *self.chance.choice(told.prepared))
            case "stop":
                await self.stop(told)
            case "release":
                await self.release(told)
            case _:
                about = {
                    "conversation_id": told.story.id,
                    "text": "hello",
                    "client_message_id": str(self.chance.random()),
                }
                await told.command(self.line, ("send", self.name, "supervisor"), "message.send", **about)

    async def take_over(self, told: Told) -> None:
        """Start, prepare; then confirm, or cancel, or leave it."""
        await self.start(told, self.chance.choice(("p_max", "p_eva")))
        what = ("prepare", self.name, self.session)
        answer = await told.command(self.line, what, "takeover.prepare", "takeover_id", conversation_id=told.story.id)
        if "ok" not in answer:
            return
        prepared = answer["ok"]
        told.prepared.append((prepared["takeover_id"], prepared["confirm_token"]))
        luck = self.chance.random()
        if luck < 0.7:
            await self.confirm(told, *told.prepared[-1])
        elif luck < 0.85:
            what = ("cancel", self.name, prepared["takeover_id"])
            await told.command(self.line, what, "takeover.cancel", takeover_id=prepared["takeover_id"])

    async def confirm(self, told: Told, takeover_id: str, confirm_token: str) -> None:
        """`takeover.confirm`"""
        what = ("confirm", self.name, self.session, takeover_id)
        arguments = {"takeover_id": takeover_id, "confirm_token": confirm_token}
        await told.command(self.line, what, "takeover.confirm", "participant_id", "owner_epoch", **arguments)


async def platform(told: Told, chance: random.Random, turns: int) -> None:
    """Agents come and go; a transfer gives a conversation back to them."""
    for _ in range(turns):
        user = chance.choice(("max", "eva", "robo"))
        purpose = "bot" if user == "robo" else "agent"
        kind = chance.choices(("connect", "disconnect", "transfer"), (4, 2, 1))[0]
        if kind == "connect":
            await event(told, (kind, f"p_{user}", user, purpose), told.story.connection(user, purpose), chance)
        elif kind == "disconnect":
            gone = {"participant_id": f"p_{user}", "disconnect_type": "client"}
            await event(told, (kind, f"p_{user}"), told.story.event("participant.disconnected", **gone), chance)
        else:
            moved = told.story.event("conversation.transferred", queue=chance.choice(("support", "billing")))
            await event(told, (kind,), moved, chance)


async def event(told: Told, what: tuple[Hashable, ...], one: Json, chance: random.Random) -> None:
    """Post one event to either node."""

    async def ask() -> Answer:
        [result] = await told.story.centre.platform.post(one, node=chance.randrange(2))
        return ("ok",) if result["status"] == "accepted" else ("no", result["error"]["code"])

    await told.asking(what, ask)


async def supervisors(pair: Centre, seed: int) -> list[Supervisor]:
    """All eight, half of them on each node."""
    return [
        Supervisor(name, await pair.supervisor(name, node=place % 2), random.Random(f"{seed}/{name}"))
        for place, name in enumerate(NAMES)
    ]


async def everybody(
    people: list[Supervisor], stories: list[Told], act: Callable[[Supervisor, Told], Awaitable[None]]
) -> None:
    """Each does something about some conversation, again and again, all at the same time."""

    async def one(person: Supervisor) -> None:
        for _ in range(TURNS):
            await act(person, person.chance.choice(stories))

    await asyncio.gather(*(one(person) for person in people))


def answers(stories: list[Told], name: str, *answer: Hashable) -> int:
    """How many operations of that name were answered so."""
    return sum(
        one.what[0] == name and one.answer is not None and one.answer[: len(answer)] == answer
        for told in stories
        for one in told.operations
    )


async def test_the_lock_has_an_order(pair: Centre) -> None:
    """Whoever starts, stops and releases at once on two nodes: the answers are those of some order."""
    people = await supervisors(pair, SEED)
    for round_ in range(ROUNDS):
        stories = [Told(await pair.story(f"cnv_lock_{round_}_{number}")) for number in range(STORIES)]
        await everybody(people, stories, Supervisor.lock)
        for told in stories:
            told.explained(Lock(), SEED)
        assert answers(stories, "start", "ok")
        assert answers(stories, "start", "no", "monitor_held")
        assert answers(stories, "release", "ok")


async def test_takeovers_have_an_order(pair: Centre) -> None:
    """Takeovers against locks, releases, leaving agents and transfers: owner and epochs are those of some order."""
    people = await supervisors(pair, SEED)
    for round_ in range(ROUNDS):
        stories = [Told(Story(pair, f"cnv_own_{round_}_{number}")) for number in range(STORIES)]
        chance = random.Random(f"{SEED}/{round_}")
        for told in stories:
            about = {"channel": "web", "queue": "support", "customer": {"id": "cus_7", "name": "Dana"}}
            await event(told, ("begin",), told.story.event("conversation.started", **about), chance)
            await event(told, ("connect", "p_max", "max", "agent"), told.story.connection("max"), chance)
        events = [platform(told, random.Random(f"{SEED}/{told.story.id}"), TURNS * 2) for told in stories]
        await asyncio.gather(everybody(people, stories, Supervisor.contend), *events)
        for told in stories:
            told.explained(Contest(), SEED)
        assert answers(stories, "confirm", "ok")
        assert answers(stories, "confirm", "no")
        assert answers(stories, "prepare", "ok")
        assert answers(stories, "send", "no", "stale_owner")
