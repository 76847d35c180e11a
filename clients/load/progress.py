"""The progress of a load test, once a second: one line updated in place on a terminal, a line each elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TextIO

from clients.load.figures import percentile
from clients.load.report import progress_text
from clients.load.scenarios import Scene

EVERY_S: Final = 1.0
_TO_START_AND_CLEAR: Final = "\r\x1b[K"


@asynccontextmanager
async def progress_of(scene: Scene, to: TextIO) -> AsyncIterator[None]:
    """Print the progress of what happens inside, each second and at the end."""
    began = time.monotonic()
    task = asyncio.create_task(_print_all(scene, to, began))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        _print(scene, to, began)
        if to.isatty():
            print(file=to, flush=True)


async def _print_all(scene: Scene, to: TextIO, began: float) -> None:
    for number in range(1, 1 << 40):
        await asyncio.sleep(began + number * EVERY_S - time.monotonic())
        _print(scene, to, began)


def _print(scene: Scene, to: TextIO, began: float) -> None:
    fresh, scene.fresh = sorted(scene.fresh), []
    p99_ms = percentile(fresh, 0.99) if fresh else None
    sockets = sum(seat.connected for seat in scene.seats)
    text = progress_text(round(time.monotonic() - began), scene.sent, scene.delivered, p99_ms, sockets)
    print(f"{_TO_START_AND_CLEAR}{text}" if to.isatty() else text, end="" if to.isatty() else "\n", file=to, flush=True)
