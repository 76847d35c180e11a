"""
Open-loop schedules.

Work is due at times fixed beforehand, and its latency counts from when it was due. A generator that waits for one
answer before it sends the next request would slow down together with the hub and leave out just the requests that
would have had to wait ("coordinated omission").
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error of its tasks as it was, not wrapped in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def sleep_until(due_ns: int) -> None:
    """Sleep until a monotonic time; at once where it is over."""
    wait_s = (due_ns - time.monotonic_ns()) / 1e9
    if wait_s > 0:
        await asyncio.sleep(wait_s)


async def at_rate(
    per_second: float, seconds: float, work: Callable[[int, int], Awaitable[None]], *, in_flight_max: int = 2_000
) -> int:
    """
    Start `work(number, due_ns)` at a constant rate, whether or not earlier work is done; returns how many were started.
    At a rate of 0 there is nothing to start.

    `due_ns` is monotonic. With `in_flight_max` unfinished the schedule waits, and what comes later is late by that,
    which its latency shows. Raises the first error of any work.
    """
    count = int(per_second * seconds)
    slots = asyncio.Semaphore(in_flight_max)
    began_ns = time.monotonic_ns() + 5_000_000

    async def one(number: int, due_ns: int) -> None:
        try:
            await work(number, due_ns)
        finally:
            slots.release()

    async with together() as group:
        for number in range(count):
            due_ns = began_ns + int(number * 1e9 / per_second)
            await sleep_until(due_ns)
            await slots.acquire()
            group.create_task(one(number, due_ns))
    return count
