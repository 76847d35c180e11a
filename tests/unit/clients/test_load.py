"""The load generator's arithmetic, schedule and socket."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from clients.load.figures import Figure, percentile, spread, table
from clients.load.line import open_line
from clients.load.schedule import at_rate
from clients.wire import ConnectionEnded, HubError
from tests.unit.clients.scripted import Line, ScriptedHub


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, 0.0),
        ([7.0], 0.99, 7.0),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.75, 3),
        (list(range(1, 101)), 0.99, 99),
    ],
)
def test_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    """The nearest rank, never an interpolation."""
    assert percentile(values, share) == expected


def test_spread_counts_everything() -> None:
    """Unsorted values are summed up in their own unit."""
    assert spread([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p90": 3.0, "p99": 3.0, "p999": 3.0, "max": 3.0}
    assert spread([])["count"] == 0


def test_figures_compare_in_their_direction() -> None:
    """More is better for rates, less for times; a figure of nothing fails."""
    rate, age = Figure("in", "1/s", 100, 150, at_least=True), Figure("age", "ms", 6, 12)
    assert (rate.ratio, rate.passed) == (1.5, True)
    assert (age.ratio, age.passed) == (0.5, False)
    assert not Figure("none", "ms", 6, 0).passed
    assert "FAIL" in table([rate, age])
    assert rate.as_json()["passed"] is True


async def test_a_schedule_does_not_wait_for_slow_work() -> None:
    """Later work starts although the first isn't done, and every due time lies on the fixed grid."""
    due: list[int] = []
    gate = asyncio.Event()

    async def work(number: int, due_ns: int) -> None:
        due.append(due_ns)
        if number == 9:
            gate.set()
        await gate.wait()

    assert await at_rate(2_000, 0.005, work) == 10
    assert [b - a for a, b in pairwise(due)] == [500_000] * 9


async def test_a_full_schedule_shows_its_delay() -> None:
    """Where too much is unfinished, later work starts late, and its due time stays what it was."""
    late_ns: list[int] = []

    async def work(number: int, due_ns: int) -> None:
        late_ns.append(time.monotonic_ns() - due_ns)
        if number == 0:
            await asyncio.sleep(0.05)

    await at_rate(1_000, 0.003, work, in_flight_max=1)
    assert late_ns[1] > 30_000_000


async def test_a_load_line_speaks_the_protocol(hub: ScriptedHub) -> None:
    """The lean socket says hello, matches answers, answers pings, cuts long and split frames."""
    events: list[dict[str, Any]] = []

    async def script(line: Line) -> None:
        await line.hello()
        await line.send({"event": "ping", "at": 1})
        assert await line.receive() == {"cmd": "pong"}
        await line.socket.ping()
        taken = await line.expect("monitor.start")
        await line.send(
            {"id": taken["id"], "ok": {"monitor_id": "mon_1"}}, {"event": "big", "data": {"text": "x" * 70_000}}
        )
        taken = await line.expect("monitor.stop")
        await line.send({"id": taken["id"], "error": {"code": "not_monitoring", "message": "", "retryable": False}})
        await line.send({"event": "mid", "data": {"text": "y" * 300}})
        await line.stay()

    line = await open_line(hub.play(script), "/v1/supervisor", "T", lambda event, _: events.append(event))
    assert line.hello is not None
    assert line.hello.session == "ses_1"
    assert await line.tell("monitor.start", conversation_id="c") == {"monitor_id": "mon_1"}
    with pytest.raises(HubError, match="not_monitoring"):
        await line.tell("monitor.stop", conversation_id="c" * 200)
    line.close()
    await line.closed
    assert len(events[0]["data"]["text"]) == 70_000


async def test_a_broken_load_line_fails_who_waits(hub: ScriptedHub) -> None:
    """A line that ends says so to every command that has no answer."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.receive()
        await line.close(4501, retry_ms=1)
        with pytest.raises(ConnectionClosed):
            await line.receive()

    line = await open_line(hub.play(script), "/v1/supervisor", "T")
    with pytest.raises(ConnectionEnded):
        await line.tell("status.set", status="away")
