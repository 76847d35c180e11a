"""The progress of a run: in place on a terminal, a line each elsewhere."""

import asyncio
import io

import pytest

from clients.load.credentials import Credentials
from clients.load.platform import Platform
from clients.load.progress import progress_of
from clients.load.scenarios import Scene
from tests.unit.clients.scripted import until


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


def scene() -> Scene:
    """A run of which some messages have come."""
    credentials = Credentials("-" * 32)
    url = "http://127.0.0.1"
    made = Scene(url, credentials, None, Platform(url, ""))
    made.sent = 5
    made.arrived(0, 2_500_000)
    return made


@pytest.mark.parametrize("to", [io.StringIO(), Terminal()], ids=["file", "terminal"])
async def test_progress_is_printed_at_the_end_at_the_latest(to: io.StringIO) -> None:
    """What was sent and delivered, and the last second's p99; a terminal's line is cleared before and ended after."""
    async with progress_of(scene(), to):
        assert to.getvalue() == ""
    before = "\r\x1b[K" if to.isatty() else ""
    assert to.getvalue() == f"{before}   0 s  sent 5  delivered 1  p99 2.5 ms  sockets 0\n"


async def test_each_message_counts_in_one_second_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The p99 is of what came since the last line; every interval has its line."""
    monkeypatch.setattr("clients.load.progress.EVERY_S", 0.001)
    made, to = scene(), io.StringIO()
    async with asyncio.timeout(5), progress_of(made, to):
        await until(lambda: to.getvalue().count("\n") >= 3)
    first, *others = to.getvalue().splitlines()
    assert "p99 2.5 ms" in first
    assert all("p99 -" in line for line in others)
