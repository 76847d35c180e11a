"""The stopwatch that leaves out what the test's own process was late."""

import asyncio
import time

from tests.support.own_delay import STEP_S, own_delay


async def test_waiting_counts() -> None:
    """What somebody else took is all counted."""
    async with own_delay() as watch:
        began = time.monotonic()
        await asyncio.sleep(4 * STEP_S)
        assert 0 < watch.passed_s <= time.monotonic() - began + 0.001


async def test_own_work_does_not() -> None:
    """A process that is busy itself doesn't count the time, however often it is."""
    async with own_delay() as watch:
        for _ in range(3):
            time.sleep(0.1)
            await asyncio.sleep(2 * STEP_S)
        assert watch.passed_s < 0.2, "0.3 s were its own work"
