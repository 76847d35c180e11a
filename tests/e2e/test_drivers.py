"""The same stories on each of the two socket drivers, each on a hub of its own: nobody behind a socket can tell them apart."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import Socket, eventually

BUFFER = 131_072
TEXT = "x" * 15_000  # a dozen of these fill the buffers of a socket that doesn't read


DRIVERS = ["lean", "asgi"]


def driven_by(driver: str, folder: Path, store: StoreProcess) -> HubProcess:
    """A started hub with that driver."""
    config = f'socket_driver = "{driver}"\n{CONFIG}socket_buffer_bytes_max = {BUFFER}\ndrain_ms = 1000\n'
    return HubProcess(folder, redis_url=store.url, config=config).start()


@pytest.fixture(scope="module", params=DRIVERS)
def driven(
    request: pytest.FixtureRequest, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HubProcess]:
    """A hub with each driver."""
    hub = driven_by(request.param, tmp_path_factory.mktemp(request.param), store)
    yield hub
    hub.kill()


@pytest_asyncio.fixture
async def here(driven: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization there."""
    own = Centre(driven)
    yield own
    await own.close()


async def test_monitor_and_takeover(here: Centre) -> None:
    """A supervisor watches, takes over and answers; the agent is told, and a resumed session goes on where it was."""
    agent = await here.agent("max")
    story = await here.story()
    ana = await here.supervisor("ana")
    await story.monitored_by(ana)
    await story.customer_says("Is anybody there?")
    await ana.expect("message.created", story.id, text="Is anybody there?")
    await ana.drop()
    await story.customer_says("Hello?")
    back = await here.connect("/v1/supervisor", here.token("ana"), resume=ana.resumption())
    assert back.session["resumed"]
    await back.expect("message.created", story.id, text="Hello?")
    prepared = await story.prepared_by(back)
    token = {"takeover_id": prepared["takeover_id"], "confirm_token": prepared["confirm_token"]}
    await back.command("takeover.confirm", **token)
    await agent.expect("takeover.notified", story.id, takeover_id=prepared["takeover_id"])
    sent = await back.command("message.send", conversation_id=story.id, text="Ana here.", client_message_id="1")
    await back.expect("message.created", story.id, message_id=sent["message_id"])
    refusal = await agent.refused(
        "stale_owner", "message.send", conversation_id=story.id, text="Me, too.", client_message_id="2"
    )
    assert refusal.details["draft"] == "Me, too."


async def test_a_slow_reader(here: Centre) -> None:
    """Who doesn't read is closed with 4502 or dropped, and resumes without a gap; who reads beside them waits for nobody."""
    story = await here.story()
    quick = await here.supervisor("ana")
    await story.monitored_by(quick)
    stuck = await here.raw("/v1/supervisor", receive_buffer=8192)
    await stuck.hello(here.token("ana"))
    await story.monitored_by(stuck)
    stuck.line.transport.pause_reading()
    for number in range(60):
        await story.tell("message.created", message_id=f"m{number}", text=TEXT, purpose="customer")
    await quick.expect("message.created", story.id, message_id="m59", timeout=20)

    async def dropped() -> bool:
        stuck.line.transport.resume_reading()
        return stuck.close_code is not None

    await eventually(dropped, 15, "dropped")
    assert stuck.close_code in {4502, 1006}
    back = await here.connect("/v1/supervisor", here.token("ana"), resume=stuck.resumption())
    await back.expect("message.created", story.id, message_id="m59", timeout=20)
    got = [event["data"]["message_id"] for line in (stuck, back) for event in line.of(story.id, "message.created")]
    assert got == [f"m{number}" for number in range(60)]
    assert quick.close_code is None


@pytest.mark.parametrize(
    ("sent", "code"),
    [('{"cmd":"pong"}', 4400), (b"\x00", 4400), ("[]", 4400), ("x" * 70_000, 4413), ("x" * 1_100_000, 1009)],
    ids=["no hello", "binary", "no object", "too big for a command", "too big for a frame"],
)
async def test_closes(here: Centre, sent: str | bytes, code: int) -> None:
    """What can't be spoken on with is closed, with the reason before."""
    line = await here.raw("/v1/supervisor")
    await line.send(sent)
    assert await line.closed() == code


@pytest.mark.parametrize("driver", DRIVERS)
async def test_drain(driver: str, store: StoreProcess, tmp_path: Path) -> None:
    """Each socket is told its own delay, then closed with 4501, and the process ends with 0 and without a complaint."""
    hub = await asyncio.to_thread(driven_by, driver, tmp_path, store)
    centre = Centre(hub)
    try:
        lines: list[Socket] = [await centre.supervisor(f"s{number}", status=None) for number in range(20)]
        ending = asyncio.create_task(asyncio.to_thread(hub.stop))
        assert [await line.closed(10) for line in lines] == [4501] * 20
        delays = [line.events[-1]["data"]["retry_ms"] for line in lines]
        assert len(set(delays)) > 1
        assert await ending == 0
        assert "Traceback" not in hub.tail(100_000), hub.tail()
    finally:
        await centre.close()
        hub.kill()
