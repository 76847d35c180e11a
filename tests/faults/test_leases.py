"""A hub stands still, a line goes silent, clocks jump: a former monitor gets nothing, and the next one is let in."""

import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.centre import Centre
from tests.support.clock import Clock
from tests.support.fixtures import AWAKE, HASTY, east_and_west, running
from tests.support.processes import HubProcess, StoreProcess
from tests.support.silence import goes_silent, let_in, passed
from tests.support.socket import Json

PAUSES = int(os.environ.get("SOAK_PAUSES", "5"))
SILENCES = int(os.environ.get("SOAK_SILENCES", "2"))
STEPS = int(os.environ.get("SOAK_STEPS", "10"))
LEASE_S = 1.5  # these two as HASTY has them
SILENCE_S = 0.9
HOUR_S = 3600


@pytest_asyncio.fixture
async def hasty_pair(store: StoreProcess, tmp_path: Path) -> AsyncIterator[Centre]:
    """Two nodes whose time limits are a second or so."""
    async with running(*east_and_west(tmp_path, store.url, HASTY)) as centre:
        yield centre


@pytest.mark.parametrize("turn", range(PAUSES))
async def test_a_hub_paused_longer_than_its_leases(hasty_pair: Centre, turn: int) -> None:
    """Stopped for 1.5 leases and woken: its supervisor gets nothing of what was said since another one monitors."""
    centre, chance = hasty_pair, random.Random(turn)
    ana, bo = await centre.supervisor("ana", node=0), await centre.supervisor("bo", node=1)
    story = await centre.story()
    await story.monitored_by(ana)
    await story.customer_says("for ana")
    await ana.expect("message.created", story.id, text="for ana")
    centre.hubs[0].signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        await let_in(bo, story)
        for number in range(chance.randint(1, 20)):
            await story.customer_says(f"hush {number}", node=1)
        await passed(1.5 * LEASE_S - (time.monotonic() - began))
    finally:
        centre.hubs[0].signal(signal.SIGCONT)
    for number in range(5):
        await story.customer_says(f"hush after {number}", node=1)
    await bo.expect("message.created", story.id, text="hush after 4")
    if ana.close_code is None:
        await ana.until(lambda: ana.close_code is not None or bool(ana.of(story.id, "monitor.ended")), 20)
    assert "hush" not in "".join(ana.lines), f"turn {turn}"
    assert len((await centre.detail(story.id))["monitors"]) == 2


@pytest.mark.parametrize("turn", range(SILENCES))
async def test_a_supervisors_line_goes_silent(hasty_pair: Centre, turn: int) -> None:
    """Half-open, without a word to either end: nothing is sent on it after the silence, and the next one is let in."""
    took = await goes_silent(hasty_pair, silence_s=SILENCE_S, within_s=10 * LEASE_S)
    print(f"let in {took:.1f} s after the line went silent, with a tenth of the default lease and silence")


@pytest.mark.parametrize("whose", ["hub", "store"])
@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
@pytest.mark.parametrize("turn", range(-(-STEPS // 4)))
async def test_a_clock_jumps(tmp_path: Path, whose: str, hours: int, turn: int) -> None:
    """An hour ahead or behind, of a hub or the store: never two monitors, and the lock is free when its holder is gone."""
    clock = Clock(tmp_path / "clock")
    variables = clock.environment
    store = StoreProcess(tmp_path / "store", environment=variables if whose == "store" else None).start()
    hubs = [
        HubProcess(
            tmp_path / name,
            redis_url=store.url,
            config=AWAKE,
            environment=variables if whose == "hub" and name == "east" else None,
        )
        for name in ("east", "west")
    ]
    try:
        async with running(*hubs) as centre:
            long: Json = {"ttl": 4 * HOUR_S, "iat": int(time.time()) - 2 * HOUR_S}  # valid by each of the clocks
            ana, bo = await centre.supervisor("ana", node=0, **long), await centre.supervisor("bo", node=1, **long)
            story = await centre.story()
            await story.monitored_by(ana)
            clock.step(hours * HOUR_S)
            first = [
                story.event("message.created", message_id=f"f{n}", text=f"{n}", purpose="customer") for n in range(3)
            ]
            await centre.platform.accepted(*first, node=1)
            await passed(LEASE_S)
            await story.customer_says("before", node=1)
            held = not ana.of(story.id, "monitor.ended")
            if held:
                await ana.expect("message.created", story.id, text="before")
                await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
                await ana.drop()
            await let_in(bo, story)
            await story.customer_says("hush", node=1)
            await bo.expect("message.created", story.id, text="hush")
            if ana.close_code is None:
                await ana.round_trip()
            assert "hush" not in "".join(ana.lines)
            monitors = (await centre.get(f"/v1/conversations/{story.id}", node=1)).json()["monitors"]
            assert {one["user_id"] for one in monitors} == {"ana", "bo"}
            assert len(monitors) == 2
    finally:
        store.kill()
