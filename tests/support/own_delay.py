"""How long this process itself kept a test waiting, so that a promise of the hub's isn't judged by the machine's speed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

STEP_S = 0.005  # between two looks; whoever is later than twice that waited for a turn


class OwnDelay:
    """
    Seconds in which this process wanted to run and couldn't, so far: its loop was busy with the test's own work, or another
    process had the processor. What the hub took is at least the time that passed without them.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._late_s = 0.0

    def restart(self) -> None:
        """Count from here."""
        self._began, self._late_s = time.monotonic(), 0.0

    @property
    def passed_s(self) -> float:
        """Seconds since the start, without what was this process's own."""
        return time.monotonic() - self._began - self._late_s

    async def look(self) -> None:
        """Look on and on; runs until it is cancelled."""
        while True:
            asked = time.monotonic()
            await asyncio.sleep(STEP_S)
            late_s = time.monotonic() - max(asked, self._began) - STEP_S
            if late_s > STEP_S:
                self._late_s += late_s


@contextlib.asynccontextmanager
async def own_delay() -> AsyncIterator[OwnDelay]:
    """A stopwatch for the hub: see `OwnDelay`."""
    delay = OwnDelay()
    looking = asyncio.create_task(delay.look())
    try:
        await asyncio.sleep(0)  # the first look has begun
        delay.restart()
        yield delay
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
