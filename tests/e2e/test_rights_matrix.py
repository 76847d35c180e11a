"""A sample of the matrix of rights, in which every pair of values meets, asked of a real hub; and every HTTP route."""

import os
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.support.centre import Centre, Story
from tests.support.rights import OK, STATES, SUPERVISING, Cell, cells, expected, pairwise, readable
from tests.support.socket import HubError, Json, Socket
from tests.support.tokens import ALL

SEED = 20_261_124
EVERYTHING = [*ALL, "reveal", "admin"]
ROUTES = {"detail": "", "transcript": "/transcript", "timeline": "/timeline"}
BY_ID = ("takeover.confirm", "takeover.cancel", "takeover.acknowledge")


@dataclass
class Stage:
    """One conversation in one of the states, and what a command about it has to name."""

    story: Story
    takeover: Json = field(default_factory=lambda: {"takeover_id": "tko_none", "confirm_token": "none"})


class World:
    """An organization and a foreign one; conversations in each state, kept so by people with every right."""

    def __init__(self, centre: Centre, foreign: Centre) -> None:
        self.centre, self.foreign = centre, foreign
        self.stages: dict[str, Stage] = {}

    async def open(self) -> None:
        """Everybody is there, and one conversation stands in each state."""
        self.ana = await self.centre.supervisor("ana", permissions=EVERYTHING)
        self.zoe = await self.centre.supervisor("zoe", permissions=EVERYTHING)
        await self.foreign.supervisor("ana", permissions=EVERYTHING)
        self.stages = {state: await self.stage(state) for state in STATES}

    async def stage(self, state: str) -> Stage:
        """A conversation of its own in that state."""
        people = {"queued": (), "bot": ()}.get(state, ("bob",))
        queue = "billing" if state == "wrapup" else "support"
        story = await self.centre.story(agents=people, bots=("robo",) if state == "bot" else (), queue=queue)
        stage = Stage(story)
        if state == "watched":
            await story.monitored_by(self.zoe)
        elif state in ("mine", "owned"):
            await story.monitored_by(self.ana)
            stage.takeover = await story.prepared_by(self.ana)
        if state == "owned":
            await self.ana.command("takeover.confirm", **_named(stage))
        elif state in ("wrapup", "ended"):
            await story.end()
        return stage

    def token(self, cell: Cell, story: Story) -> str:
        """What the cell says of the asker; the conversation's queue and division are theirs or not."""
        centre = self.centre if cell.org else self.foreign
        sub = {"agent": "bob", "customer": "cus_7", "connector": "platform" if cell.queue else "another"}
        return centre.token(
            sub.get(cell.role, "ana"),
            cell.role,
            queues=["support", "billing"] if cell.queue else ["sales"],
            divisions=["home"] if cell.division else ["abroad"],
            permissions=_permissions(cell),
            conversation=story.id if cell.queue else "cnv_other",
        )

    async def ask(self, cell: Cell, stage: Stage) -> str:
        """`ok`, or the code of the hub's refusal."""
        bearer = self.token(cell, stage.story)
        if cell.role == "connector":
            return await self.report(cell, stage, bearer)
        endpoint = "/v1/supervisor" if cell.role in SUPERVISING else f"/v1/{cell.role}"
        line = await (self.centre if cell.org else self.foreign).connect(endpoint, bearer)
        try:
            if cell.state == "mine" and cell.command in ("message.reveal", "takeover.prepare", "takeover.confirm"):
                await joined(line, cell, stage)
            await line.command(cell.command, **arguments(cell, stage))
        except HubError as refused:
            return refused.code
        finally:
            await line.close(1001)
        return OK

    async def report(self, cell: Cell, stage: Stage, bearer: str) -> str:
        """One event of a platform's."""
        event = stage.story.event(cell.command, **EVENTS[cell.command])
        answer = await self.centre.http.post(
            f"{self.centre.hub.url}/v1/events", json={"events": [event]}, headers={"authorization": f"Bearer {bearer}"}
        )
        [result] = answer.json()["results"]
        return OK if result["status"] == "accepted" else str(result["error"]["code"])


def _permissions(cell: Cell) -> list[str]:
    if not cell.permitted:
        return ["coach"]
    # An agent whose token had it would be told so by hello: the judge hears of monitoring, and it opens nothing anyway.
    return EVERYTHING if cell.role in SUPERVISING else [one for one in EVERYTHING if one != "monitor"]


async def joined(line: Socket, cell: Cell, stage: Stage) -> None:
    """The asker's own session watches, too, where it may: what is asked for is for a session that does."""
    if expected(cell) == OK:
        await stage.story.monitored_by(line)


def _named(stage: Stage) -> Json:
    return {name: stage.takeover[name] for name in ("takeover_id", "confirm_token")}


def arguments(cell: Cell, stage: Stage) -> Json:
    """What the command says."""
    about = {"conversation_id": stage.story.id}
    match cell.command:
        case "takeover.confirm":
            return _named(stage)
        case "takeover.cancel" | "takeover.acknowledge":
            return {"takeover_id": stage.takeover["takeover_id"]}
        case "monitor.release":
            return about | {"reason": "asked"}
        case "message.reveal":
            return about | {"reason": "asked", "message_id": "c:1"}
        case "message.send":
            return about | {"text": "hello", "client_message_id": uuid.uuid4().hex}
        case "typing":
            return about | {"on": True}
        case "wrapup.submit":
            return about | {"code": "resolved"}
        case "draft.update":
            return about | {"text": "hel"}
        case "receipt.send":
            return about | {"message_id": "c:1", "status": "read"}
    return about


EVENTS: dict[str, Json] = {
    "conversation.started": {"channel": "web", "queue": "support", "customer": {"id": "cus_7", "name": "Dana"}},
    "participant.connected": {"participant_id": "p_new", "purpose": "agent", "user_id": "new", "name": "New"},
    "participant.disconnected": {"participant_id": "p_nobody", "disconnect_type": "client"},
    "conversation.transferred": {"queue": "support"},
    "conversation.ended": {"reason": "done"},
}


def wanted(cell: Cell) -> str:
    """The table's answer, as it is for somebody who asks by the ids that there are."""
    if cell.command == "conversation.started" and not cell.org:
        return OK  # in the foreign organization it is a new one
    if cell.command not in BY_ID:
        return expected(cell)
    if cell.role in SUPERVISING and (not cell.org or cell.state not in ("mine", "owned")):
        if cell.command == "takeover.acknowledge":
            return "already_done"
        return "confirmation_required" if cell.permitted else "not_permitted"
    if cell.role in SUPERVISING and cell.state == "owned":  # the id is of the takeover that is done
        return "not_permitted" if cell.command == "takeover.confirm" and not cell.permitted else "already_done"
    if cell.role == "agent" and (not cell.org or cell.state not in ("mine", "owned")):
        return "already_done"
    return expected(cell)


async def test_a_sample_of_the_matrix(centre: Centre) -> None:
    """Role, command, state, organization, queue, division, permission: any two values meet, and the hub says the table's."""
    foreign = Centre(centre.hub)
    world, wrong, counts = World(centre, foreign), list[str](), Counter[str]()
    sample = pairwise(list(cells()), SEED, together="SOAK_RIGHTS" in os.environ)
    try:
        await world.open()
        for number, cell in enumerate(sample):
            status = await read(world, cell, list(ROUTES)[number % len(ROUTES)])
            wrong += [status] if status else []
            # What is refused changes nothing, so one conversation in each state serves all of these.
            shared = wanted(cell) != OK
            stage = world.stages[cell.state] if shared else await world.stage(cell.state)
            if cell.command == "message.reveal" and not shared:
                assert await stage.story.customer_says("hello") == "c:1"
            got = await world.ask(cell, stage)
            counts[got] += 1
            if got != wanted(cell):
                wrong.append(f"{cell}: {got}, not {wanted(cell)}")
    finally:
        await foreign.close()
    print(f"seed {SEED}: {len(sample)} cells, {dict(counts.most_common())}")
    assert wrong == []
    for state, stage in world.stages.items():
        assert await standing(world, stage) == state


async def standing(world: World, stage: Stage) -> str:
    """The state that a conversation is in after all the refusals."""
    row = await world.centre.row(stage.story.id)
    if row["state"] != "active":
        return str(row["state"])
    [owner] = [one for one in row["agents"] if one["participant_id"] == row["owner"]]
    if owner["purpose"] != "agent":
        return {"bot": "bot", "supervisor": "owned"}[owner["purpose"]]
    return {None: "agent", "ana": "mine", "zoe": "watched"}[(row["monitor"] or {}).get("user_id")]


async def read(world: World, cell: Cell, route: str) -> str:
    """What is wrong with the answer to reading the conversation of the cell's state; empty where nothing is."""
    stage = world.stages[cell.state]
    path = f"/v1/conversations/{stage.story.id}{ROUTES[route]}"
    answer = await world.centre.get(path, bearer=world.token(cell, stage.story))
    if answer.status_code == readable(cell, route):
        return ""
    return f"{cell}: {route} {answer.status_code}, not {readable(cell, route)}"


ROLES = ("supervisor", "admin", "agent", "customer", "connector")


async def post(centre: Centre, path: str, bearer: str, body: Json) -> int:
    """The status of a POST."""
    answer = await centre.http.post(centre.hub.url + path, json=body, headers={"authorization": f"Bearer {bearer}"})
    return answer.status_code


async def get(centre: Centre, path: str, bearer: str) -> int:
    """The status of a GET."""
    return (await centre.get(path, bearer=bearer)).status_code


# Who is let in, by route: with every permission, and with `coach` alone.
HTTP: dict[str, tuple[set[str], set[str], Callable[[Centre, str], Awaitable[int]]]] = {
    "events": ({"connector"}, {"connector"}, lambda centre, one: post(centre, "/v1/events", one, {"events": []})),
    "tickets": (set(ROLES), set(ROLES), lambda centre, one: post(centre, "/v1/tickets", one, {})),
    "revocations": (
        {"admin"},
        {"admin"},
        lambda centre, one: post(centre, "/v1/revocations", one, {"jti": uuid.uuid4().hex}),
    ),
    "list": ({"supervisor", "admin"}, set(), lambda centre, one: get(centre, "/v1/conversations", one)),
    "erasures": (
        {"admin"},
        {"admin"},
        lambda centre, one: post(centre, "/v1/erasures", one, {"customer_id": uuid.uuid4().hex}),
    ),
    "outbox": ({"admin"}, {"admin"}, lambda centre, one: get(centre, "/v1/outbox", one)),
    "metrics": ({"admin"}, {"admin"}, lambda centre, one: get(centre, "/metrics", one)),
}


@pytest.mark.parametrize("route", HTTP)
async def test_routes_by_role(centre: Centre, route: str) -> None:
    """Each route lets in the roles it is for, with every permission and with `coach` alone; all others get a 403."""
    with_permissions, without, ask = HTTP[route]
    for permissions, allowed in ((EVERYTHING, with_permissions), (["coach"], without)):
        for role in ROLES:
            bearer = centre.token(f"p-{role}", role, permissions=permissions, conversation="cnv_1")
            assert await ask(centre, bearer) == (200 if role in allowed else 403), (role, permissions)


async def test_views_by_permission(centre: Centre) -> None:
    """Views need `view`, but the roster, which is one's own; an agent has the roster alone; `coach` opens nothing."""
    ana = await centre.supervisor(permissions=["coach"], status=None)
    for view in ("interactions", "queues", "agents"):
        await ana.refused("not_permitted", "view.subscribe", view=view)
    await ana.command("view.subscribe", view="roster")
    bo, agent = await centre.supervisor("bo", permissions=["view"], status=None), await centre.agent()
    for view in ("interactions", "queues", "agents", "roster"):
        await bo.command("view.subscribe", view=view)
    await agent.command("view.subscribe", view="roster")
    await agent.refused("schema_invalid", "view.subscribe", view="interactions")
