"""A right that goes takes the data with it: the last event at most 2 s later, the monitor's end and the ledger say why."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import jwt
import pytest
import pytest_asyncio

from tests.support.centre import Centre, Story
from tests.support.fixtures import AWAKE
from tests.support.judge import read_truth
from tests.support.processes import HubProcess, StoreProcess
from tests.support.socket import Json, Socket, eventually

AT_MOST_S = 2.0
AT_ONCE_S = 0.7  # what is told in the same step needs no longer look
TALKS_EVERY_S = 0.05


@pytest.fixture(scope="module")
def two_hubs(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, HubProcess]]:
    """Two nodes whose leases are a second and a half."""
    east, west = (
        HubProcess(tmp_path_factory.mktemp(name), redis_url=store.url, config=AWAKE) for name in ("east", "west")
    )
    for process in (east, west):
        process.start()
    yield east, west
    for process in (east, west):
        process.kill()


@pytest_asyncio.fixture
async def strict(two_hubs: tuple[HubProcess, HubProcess]) -> AsyncIterator[Centre]:
    """A fresh organization on them."""
    own = Centre(*two_hubs)
    yield own
    await own.close()


@contextlib.asynccontextmanager
async def talking(story: Story) -> AsyncIterator[None]:
    """The customer doesn't stop writing meanwhile."""

    async def talk() -> None:
        while True:
            await story.customer_says("and another thing")
            await asyncio.sleep(TALKS_EVERY_S)  # the pace of the customer: nothing is waited for

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def data_times(line: Socket, story: Story) -> list[float]:
    """When each event of the conversation's came to a socket, by the test's own monotonic clock."""
    about = ("message.created", "typing", "panel.updated")
    return [
        one.at for one in line.written if not one.sent and one.thing.get("event") in about and _of(one.thing, story)
    ]


def _of(thing: Json, story: Story) -> bool:
    return thing.get("conversation_id") == story.id


async def went_silent(line: Socket, story: Story, since: float, what: str, listen_s: float = AT_MOST_S + 0.2) -> None:
    """Nothing comes later than is allowed, though the customer goes on for `listen_s`; says how long it took."""
    async with talking(story):
        ends = since + listen_s
        before = len(data_times(line, story))

        async def over() -> bool:
            return time.monotonic() >= ends

        await eventually(over, timeout=AT_MOST_S + 3.0, wanted="the time to be over")
    times = data_times(line, story)
    last = max([at - since for at in times if at >= since], default=0.0)
    print(f"{what}: {len(times) - before} events behind it, the last one after {max(last, 0.0) * 1000:.0f} ms")
    assert last <= AT_MOST_S, what


async def reason_of(centre: Centre, store: StoreProcess, story: Story) -> str:
    """Why the monitor ended, once it has, as somebody else reads it; the ledger must say the same."""
    found: list[Json] = []

    async def is_over() -> bool:
        answer = await centre.get(f"/v1/conversations/{story.id}", bearer=centre.token("bo"))
        found[:] = answer.json()["monitors"]
        return found[-1]["to"] is not None

    await eventually(is_over, timeout=8.0, wanted="the monitor's end")
    lines = (await read_truth(store, centre.org)).conversations[story.id].ledger
    assert [one["reason"] for one in lines if one["what"] == "monitor.ended"] == [found[-1]["reason"]]
    return str(found[-1]["reason"])


async def test_an_expired_token(strict: Centre, store: StoreProcess) -> None:
    """The socket is closed as the token ends; nobody came back with a newer one: `permission_lost`, not a lost lease."""
    ana, story = await strict.supervisor(ttl=3), await strict.story()
    await story.monitored_by(ana)
    ends = time.monotonic() + (expiry(ana) - time.time())
    async with talking(story):
        assert await ana.closed(timeout=8) == 4401
    assert data_times(ana, story), "the monitor was live before"
    await went_silent(ana, story, ends, "token expired")
    assert await reason_of(strict, store, story) == "permission_lost"


def expiry(line: Socket) -> float:
    """When the token that a socket said hello with ends, in Unix seconds."""
    hello = next(one.thing for one in line.written if one.sent and one.thing.get("cmd") == "hello")
    return float(jwt.decode(hello["token"], options={"verify_signature": False})["exp"])


async def test_a_newer_token_in_time_keeps_the_monitor(strict: Centre, store: StoreProcess) -> None:
    """Resumed with a new token on another node, the monitor goes on behind the old one's end; then it is a lost lease."""
    ana, story = await strict.supervisor(ttl=2), await strict.story()
    await story.monitored_by(ana)
    assert await ana.closed(timeout=8) == 4401
    back = await strict.supervisor(resume=ana.resumption(), node=1)
    assert back.session["resumed"] is True
    await story.fence(back)
    await back.close(1001)
    assert await reason_of(strict, store, story) == "lease_expired"


async def test_a_revoked_person(strict: Centre, store: StoreProcess) -> None:
    """Revoked on one node, watching by the other one: silent in 2 s, the monitor over with `permission_lost`."""
    ana, story = await strict.supervisor(node=1), await strict.story()
    await story.monitored_by(ana)
    await story.fence(ana)
    root = strict.token("root", "admin", permissions=["admin"])
    since = time.monotonic()
    answer = await strict.http.post(
        f"{strict.hub.url}/v1/revocations", json={"sub": "ana"}, headers={"authorization": f"Bearer {root}"}
    )
    assert answer.status_code == 200
    await went_silent(ana, story, since, "revoked")
    assert ana.close_code == 4401
    assert ana.closed_at is not None
    assert ana.closed_at - since <= AT_MOST_S
    assert await reason_of(strict, store, story) == "permission_lost"


@pytest.mark.parametrize("rights", [{"queues": ["support"]}, {"queues": ["support", "abroad"], "divisions": ["home"]}])
async def test_a_transfer_out_of_sight(strict: Centre, store: StoreProcess, rights: Json) -> None:
    """Into a queue that isn't the monitor's, or whose division isn't: over in the same step, and said so."""
    ana, story = await strict.supervisor(node=1, **rights), await strict.story()
    await story.monitored_by(ana)
    await story.fence(ana)
    since = time.monotonic()
    await story.transfer("abroad")
    ended = await ana.expect("monitor.ended", story.id, reason="permission_lost")
    await went_silent(ana, story, since, "transferred", AT_ONCE_S)
    assert ended["data"]["by"] is None
    assert await reason_of(strict, store, story) == "permission_lost"
    await ana.refused("unknown_conversation", "monitor.start", conversation_id=story.id)


async def test_one_sessions_sight(strict: Centre, store: StoreProcess) -> None:
    """Two tabs of a person with different tokens: a transfer ends it for the one that doesn't see the new queue, alone."""
    wide, narrow, story = (
        await strict.supervisor(),
        await strict.supervisor(queues=["support"], node=1),
        await strict.story(),
    )
    started = await story.monitored_by(wide)
    await story.monitored_by(narrow)
    await story.fence(wide, narrow)
    since = time.monotonic()
    await story.transfer("billing")
    ended = await narrow.expect("monitor.ended", story.id, reason="permission_lost")
    assert ended["data"]["monitor_id"] == started["data"]["monitor_id"]
    await went_silent(narrow, story, since, "transferred out of one session's sight", AT_ONCE_S)
    await story.fence(wide)
    assert wide.of(story.id, "monitor.ended") == []
    lines = (await read_truth(store, strict.org)).conversations[story.id].ledger
    assert [one["what"] for one in lines if one["what"].startswith("monitor.")][-1] == "monitor.left"


async def test_a_resume_with_a_lesser_token(strict: Centre, store: StoreProcess) -> None:
    """A tab that comes back with a token that doesn't reach so far is told so, gets nothing, and ends it for no other tab."""
    ana, tab, story = await strict.supervisor(), await strict.supervisor(node=1), await strict.story()
    await story.monitored_by(ana)
    await story.monitored_by(tab)
    await tab.close(1001)
    back = await strict.supervisor(resume=tab.resumption(), queues=["billing"], node=1)
    assert back.session["resumed"] is True
    await back.expect("monitor.ended", story.id, reason="permission_lost")
    await story.fence(ana)
    await back.round_trip()
    assert data_times(back, story) == []
    assert ana.of(story.id, "monitor.ended") == []
    await ana.command("monitor.stop", conversation_id=story.id)
    assert await reason_of(strict, store, story) == "stopped"
