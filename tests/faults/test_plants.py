"""The judge judged: each planted bug breaks its promise before the judge's eyes, and without one nothing is found."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hub.store.keys import Keys, partition
from tests.support.centre import Centre, Story
from tests.support.fixtures import HASTY
from tests.support.judge import AT_REST_S, Violation, judge, read_truth
from tests.support.plants import PLANTS, Edit, Plant, PlantError
from tests.support.processes import HubProcess, StoreProcess
from tests.support.socket import PATIENCE_S, HubError, Socket, eventually
from tests.support.store import ask
from tests.support.view import View

AHEAD = 2  # hubs that start while a test runs
SHORT_S = 0.4  # what is waited for something that a plant may keep from coming
BUGS = [name for name, plant in PLANTS.items() if plant.promise]


class PlantedHub(HubProcess):
    """A hub with a plant, and keys of its own in the shared store."""

    def __init__(self, folder: Path, name: str, store: StoreProcess, config: str = HASTY) -> None:
        super().__init__(folder, redis_url=store.url, config=f'key_prefix = "{name}"\n' + config)
        self.plant = name

    def command(self) -> list[str]:
        """The same command line, but for the program."""
        line = super().command()
        at = line.index("hub")
        return [*line[:at], "tests.support.planted", self.plant, *line[at + 1 :]]


class Nursery:
    """Starts the hubs of the plants that are wanted, the next ones while the present one is looked at."""

    def __init__(self, folder: Path, store: StoreProcess, wanted: list[str]) -> None:
        self.wanted = wanted  # a name for each test to come
        self.names = list(dict.fromkeys(wanted))
        self._hubs = {name: PlantedHub(folder / name, name, store) for name in self.names}
        self._started: dict[str, Future[HubProcess]] = {}
        self._pool = ThreadPoolExecutor(AHEAD)

    def get(self, name: str) -> HubProcess:
        """That plant's hub, started."""
        at = self.names.index(name)
        for one in self.names[at : at + 1 + AHEAD]:
            if one not in self._started:
                self._started[one] = self._pool.submit(self._hubs[one].start)
        return self._started[name].result()

    def drop(self, name: str) -> None:
        """That hub has been looked at, if no other test wants it."""
        self.wanted.remove(name)
        if name not in self.wanted:
            self._hubs[name].kill()

    def close(self) -> None:
        """End whatever was started."""
        self._pool.shutdown()
        for hub in self._hubs.values():
            if hub.process is not None:
                hub.kill()


@pytest.fixture(scope="module")
def nursery(
    request: pytest.FixtureRequest, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nursery]:
    """Of the plants that this run has tests of."""
    here = [one for one in request.session.items if one.path == request.path]
    items = [one for one in here if isinstance(one, pytest.Function) and hasattr(one, "callspec")]
    names = [str(one.callspec.params["name"]) for one in items if "name" in one.callspec.params]
    found = Nursery(tmp_path_factory.mktemp("plants"), store, names)
    yield found
    found.close()


class Scene:
    """
    What a scenario plays on: two organizations on one hub, which may do anything; `missed` is what didn't happen.

    `patience_s` is waited for what should come: not for long where a bug may keep it back.
    """

    def __init__(self, hub: HubProcess, store: StoreProcess, name: str) -> None:
        self.store = store
        self.prefix = name
        self.patience_s = SHORT_S if PLANTS[name].promise else PATIENCE_S
        self.centre = Centre(hub)
        self.other = Centre(hub)
        self.missed: list[str] = []

    async def soon(self, doing: Awaitable[Any]) -> Any:
        """Do it, or note that it couldn't be done."""
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                return await doing
        except (HubError, AssertionError, TimeoutError) as error:
            self.missed.append(repr(error)[:300])
            return None

    async def sees(self, line: Socket, name: str, conversation: str, **fields: Any) -> None:
        """An event that should come."""
        await self.soon(line.expect(name, conversation, timeout=self.patience_s, **fields))

    async def sees_late(self, line: Socket, name: str, conversation: str) -> None:
        """An event that should come, be the weather as it may."""
        await self.soon(line.expect(name, conversation, timeout=PATIENCE_S))

    async def judged(self) -> list[Violation]:
        """What the judge finds of everything so far."""
        records = self.centre.records() + self.other.records()
        return judge(records, await read_truth(self.store, self.centre.org, self.prefix))

    async def close(self) -> None:
        """Close all sockets; what they got was judged already."""
        for centre in (self.centre, self.other):
            for line in centre.opened:
                await line.drop()
            await centre.http.aclose()


@pytest_asyncio.fixture
async def scene(name: str, nursery: Nursery, store: StoreProcess) -> AsyncIterator[Scene]:
    """A scene on the plant's hub."""
    hub = await asyncio.to_thread(nursery.get, name)
    found = Scene(hub, store, name)
    yield found
    await found.close()
    nursery.drop(name)


# -- the scenarios ---------------------------------------------------------------------------------------------------


async def day(scene: Scene) -> None:
    """Agents, a customer, a platform; two tabs that monitor, lose their line, take over and answer; notices, wrap-up."""
    centre = scene.centre
    platform = await centre.connector()
    report = asyncio.create_task(platform.report_all())
    try:
        await _day(scene, await centre.story("cnv_1", agents=("max", "eva"), queue="billing"))
    finally:
        report.cancel()
        await asyncio.gather(report, return_exceptions=True)


async def _day(scene: Scene, story: Story) -> None:
    centre, cnv = scene.centre, story.id
    agents = [await centre.agent(user) for user in ("max", "max", "eva", "eva")]
    ana, tab, bo = [await centre.supervisor(user) for user in ("ana", "ana", "bo")]
    customer = await centre.customer(cnv)
    for line in (*agents, customer):
        await scene.sees(line, "conversation.snapshot", cnv)
    for line in (ana, tab):
        await scene.soon(line.command("monitor.start", conversation_id=cnv, participant_id="p_max"))
        await scene.sees(line, "monitor.started", cnv)
    try:
        await bo.command("monitor.start", conversation_id=cnv, participant_id="p_max")
        scene.missed.append("bo monitors, too")
    except HubError:
        await scene.soon(bo.round_trip())
    await elsewhere(scene, cnv)
    await talk(scene, story, agents[0], customer, ana)
    ana = await over_a_loss(scene, story, ana)
    agents[1] = await over_a_loss(scene, story, agents[1])
    await takeover(scene, story, agents, ana)
    await aftermath(scene, story, agents, customer, ana)


async def elsewhere(scene: Scene, cnv: str) -> None:
    """The same conversation's id in another organization, and a view of one who may see only one division."""
    story = await scene.other.story(cnv)
    zoe, max_ = await scene.other.supervisor("zoe"), await scene.other.agent("max")
    await scene.soon(story.monitored_by(zoe))
    await scene.sees(max_, "conversation.snapshot", cnv)
    await story.customer_says("elsewhere")
    await scene.sees(max_, "message.created", cnv)
    await scene.centre.story("cnv_2", queue="abroad", division="away")
    cy = await scene.centre.supervisor("cy", divisions=["home"])
    await scene.soon(View.open(cy, "interactions"))


async def send(scene: Scene, line: Socket, cnv: str, text: str) -> None:
    """Write it, and the same again, as a client does that got no answer."""
    for _ in range(2):
        await scene.soon(
            line.command(
                "message.send", conversation_id=cnv, text=text, client_message_id="".join(filter(str.isalnum, text))
            )
        )


async def talk(scene: Scene, story: Story, agent: Socket, customer: Socket, ana: Socket) -> None:
    """Everybody writes and types, and the platform repeats itself."""
    cnv = story.id
    panel = story.event("panel.updated", panel="order", content={"n": 1})
    for _ in range(2):
        await scene.centre.platform.post(panel)
    await send(scene, customer, cnv, "question of the customer")
    await send(scene, agent, cnv, "answer of the agent")
    await scene.soon(agent.command("typing", conversation_id=cnv, on=True))
    await scene.centre.platform.post(
        story.event("message.created", message_id="a:1", text="by a desk", participant_id="p_eva")
    )
    await story.customer_says("one more question")
    for line in (agent, customer, ana):
        await scene.sees(line, "message.created", cnv, text="one more question")


async def over_a_loss(scene: Scene, story: Story, line: Socket) -> Socket:
    """The line is lost, things happen, it is resumed; the new line."""
    await line.drop()
    for text in ("missed", "missed, too"):
        await story.customer_says(f"{text} by {line.session['user']['id']}")
    bearer = scene.centre.token(line.session["user"]["id"], line.endpoint.rpartition("/")[2])
    again = await scene.centre.connect(line.endpoint, bearer, resume=line.resumption())
    await scene.sees(again, "message.created", story.id)
    await scene.sees(again, "message.created", story.id)
    return again


async def takeover(scene: Scene, story: Story, agents: list[Socket], ana: Socket) -> None:
    """Prepared, confirmed, told to each device; what agents say then is refused."""
    prepared = await scene.soon(story.prepared_by(ana)) or {"takeover_id": "tko_0", "confirm_token": ""}
    keys = ("takeover_id", "confirm_token")
    await scene.soon(ana.command("takeover.confirm", **{key: prepared[key] for key in keys}))
    for line in agents:
        await scene.sees(line, "takeover.notified", story.id)
    late = {"text": "too late", "client_message_id": "late"}
    for line in (agents[0], agents[2]):
        number = await line.post("message.send", conversation_id=story.id, **late)
        await scene.soon(line.answer(number))
    desk = story.event("message.created", message_id="a:2", text="too late at the desk", participant_id="p_max")
    await scene.centre.platform.post(desk)


async def aftermath(scene: Scene, story: Story, agents: list[Socket], customer: Socket, ana: Socket) -> None:
    """The new owner answers; one agent sees the notice and comes with a new device, the other one doesn't."""
    cnv = story.id
    await story.customer_says("who is there now?")
    await send(scene, ana, cnv, "it is Ana, at your service")
    for number in range(3):
        await send(scene, customer, cnv, f"{number} thanks")
    notice = agents[0].of(cnv, "takeover.notified")
    if notice:
        seen = notice[0]["data"]["takeover_id"]
        await scene.soon(agents[0].command("takeover.acknowledge", takeover_id=seen))
    await scene.soon(agents[0].command("wrapup.submit", conversation_id=cnv, code="resolved"))
    third = await scene.centre.agent("max")
    for line in (third, ana, customer, *agents):
        await scene.soon(line.round_trip())


async def rivals(scene: Scene) -> None:
    """A takeover is confirmed while somebody else releases the monitor, again and again."""
    ana, bo = await scene.centre.supervisor("ana"), await scene.centre.supervisor("bo")
    for _ in range(25):
        story = await scene.centre.story()
        await scene.soon(story.monitored_by(ana))
        prepared = await scene.soon(story.prepared_by(ana))
        if prepared is None:
            continue
        keys = ("takeover_id", "confirm_token")
        confirming = await ana.post("takeover.confirm", **{key: prepared[key] for key in keys})
        releasing = await bo.post("monitor.release", conversation_id=story.id, reason="race")
        await scene.soon(ana.answer(confirming))
        await scene.soon(bo.answer(releasing))


async def lapse(scene: Scene) -> None:
    """The index of what is due is behind: it says that a lease is over that runs."""
    ana, story = await scene.centre.supervisor("ana"), await scene.centre.story()
    await scene.soon(story.monitored_by(ana))
    org = scene.centre.org
    due, member = Keys(scene.prefix).due(partition(org, story.id)).decode(), f"lease:{org}/{story.id}"

    async def looked_at() -> bool:
        """It was swept, if the lease has been renewed since it was set back."""
        score = await ask(scene.store, "ZSCORE", due, member)
        return score is None or float(score) > 0

    for _ in range(2):
        await ask(scene.store, "ZADD", due, "XX", "0", member)
        await eventually(looked_at)
    await scene.soon(ana.round_trip())


async def usurped(scene: Scene) -> None:
    """A supervisor loses the line, and somebody else has the conversation by the time they are back."""
    ana, bo = await scene.centre.supervisor("ana"), await scene.centre.supervisor("bo")
    story = await scene.centre.story()
    await scene.soon(story.monitored_by(ana))
    await ana.drop()
    await scene.soon(bo.command("monitor.release", conversation_id=story.id, reason="gone"))
    await scene.soon(story.monitored_by(bo))
    again = await scene.centre.supervisor("ana", resume=ana.resumption())
    await scene.sees(again, "monitor.ended", story.id)
    await story.customer_says("to whom?")
    await scene.sees(bo, "message.created", story.id)


async def handover(scene: Scene) -> None:
    """Monitors are released and the conversations go on at once, before the former one may know of it."""
    ana, bo = await scene.centre.supervisor("ana"), await scene.centre.supervisor("bo")
    agent = await scene.centre.agent()
    for _ in range(3):  # now and then a renewal tells the former one sooner
        story = await scene.centre.story()
        await scene.sees_late(agent, "conversation.snapshot", story.id)
        await scene.soon(story.monitored_by(ana))
        await scene.soon(bo.command("monitor.release", conversation_id=story.id, reason="mine"))
        await story.customer_says("not for Ana")
        await scene.soon(agent.command("typing", conversation_id=story.id, on=True))
        await scene.soon(story.monitored_by(bo))
        await story.customer_says("for Bo")
        await scene.sees(bo, "message.created", story.id, text="for Bo")
        await scene.sees_late(ana, "monitor.ended", story.id)


SCENARIOS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    one.__name__: one for one in (day, rivals, lapse, usurped, handover)
}


async def played(scene: Scene, scenario: str) -> list[Violation]:
    """What the judge finds when a scenario is over, and everybody had time to be told."""
    await SCENARIOS[scenario](scene)
    until = asyncio.get_running_loop().time() + AT_REST_S

    async def rested() -> bool:
        return asyncio.get_running_loop().time() > until

    await eventually(rested)
    return await scene.judged()


# -- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scenario"), [*(("nothing", one) for one in SCENARIOS), ("late_news", "handover")])
async def test_without_a_bug_nothing_is_found(scene: Scene, name: str, scenario: str) -> None:
    """Each scenario goes as it should on a right hub, and breaks no promise."""
    found = await played(scene, scenario)
    assert (scene.missed, list(map(str, found))) == ([], [])


@pytest.mark.parametrize(
    "edit",
    [
        Edit("append.lua", "no such text", ""),
        Edit("append.lua", "redis.call", "twice and more often"),
        Edit("no_such.lua", "", ""),
        Edit("hub.domain.decide:holding", "no such text", ""),
        Edit("hub.domain.decide:no_such_function", "", ""),
    ],
)
def test_a_plant_that_does_not_fit_is_an_error(edit: Edit) -> None:
    """Text that isn't there, or isn't there once, is no bug that was planted."""
    with pytest.raises(PlantError):
        Plant("nothing", "I1", "day", (edit,)).grow()


@pytest.mark.parametrize("name", BUGS)
async def test_a_planted_bug_is_found(scene: Scene, name: str) -> None:
    """The promise that the bug breaks is named by the judge."""
    plant = PLANTS[name]
    found = await played(scene, plant.scenario)
    wrong = f"{plant.wrong}: {plant.promise} should be broken in {plant.scenario}"
    assert plant.promise in {one.promise for one in found}, f"{wrong}\n" + "\n".join(map(str, [*found, *scene.missed]))
