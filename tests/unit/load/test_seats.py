"""A seat outlives its sockets: it comes back with its cursors, and counts what was skipped or came twice."""

import asyncio
from typing import Any

import pytest

from clients.load.credentials import Person
from clients.load.line import open_line
from clients.load.schedule import together
from clients.load.seats import Seat
from clients.wire import ConnectionEnded
from tests.unit.clients.scripted import Line, ScriptedHub, until

ANA = Person("ana", "T")


def said(offset: int) -> dict[str, Any]:
    """A message at a position of conversation `c`."""
    return {
        "event": "message.created",
        "conversation_id": "c",
        "cursor": f"k.a-{offset}",
        "data": {"text": str(offset)},
    }


STARTED = {"event": "monitor.started", "conversation_id": "c", "data": {"snapshot": {"cursor": "k.a-4"}}}


async def test_a_seat_comes_back_where_it_was(hub: ScriptedHub) -> None:
    """The next hello names the session, its secret and the last cursor; what comes then continues, none twice."""

    async def first(line: Line) -> None:
        await line.hello()
        await line.send(STARTED, said(5))
        await line.stay()

    async def second(line: Line) -> None:
        hello = await line.hello(resumed=True)
        assert hello["resume"] == {"session": "ses_1", "secret": "of-ses_1", "cursors": {"c": "k.a-5"}}
        await line.send(said(6))
        await line.stay()

    heard: list[str] = []
    seat = Seat(hub.play(first, second), "/v1/supervisor", ANA, lambda event, _: heard.append(event["event"]))
    await seat.open()
    await until(lambda: len(heard) == 2)
    assert await seat.come_back()
    await until(lambda: len(heard) == 3)
    assert (seat.gaps, seat.repeats, seat.resets, seat.closed) == (0, 0, 0, False)
    assert seat.connected
    seat.close()
    await seat.line.closed


async def test_a_seat_counts_gaps_repeats_and_resets(hub: ScriptedHub) -> None:
    """A skipped position, one that was had, and a history given up; repeats aren't handed on."""
    reset = {"event": "stream.reset", "conversation_id": "c", "data": {"reason": "x", "snapshot": {"cursor": "n.b-1"}}}
    other = {"event": "conversation.snapshot", "conversation_id": "d", "data": {"cursor": "k.c-9"}}

    async def script(line: Line) -> None:
        await line.hello()
        await line.send(STARTED, said(5), said(7), said(6), said(8), reset, said(2), other)
        await line.stay()

    heard: list[str] = []
    seat = Seat(hub.play(script), "/v1/agent", ANA, lambda event, _: heard.append(event["data"].get("text", "-")))
    await seat.open()
    await until(lambda: len(heard) == 7)
    assert heard == ["-", "5", "7", "8", "-", "2", "-"]
    assert (seat.gaps, seat.repeats, seat.resets) == (1, 1, 1)
    seat.close()
    await seat.line.closed


async def test_a_seat_that_is_not_given_back_says_so(hub: ScriptedHub) -> None:
    """A new session instead of the old one is no resume."""

    async def first(line: Line) -> None:
        await line.hello()
        await line.stay()

    async def second(line: Line) -> None:
        await line.hello("ses_2", resumed=False)
        await line.stay()

    seat = await Seat(hub.play(first, second), "/v1/supervisor", ANA).open()
    assert not await seat.come_back()
    seat.close()
    await seat.line.closed


async def test_a_command_survives_a_drop(hub: ScriptedHub) -> None:
    """What had no answer when the line was dropped is sent again on the next one."""
    asked = asyncio.Event()

    async def first(line: Line) -> None:
        await line.hello()
        await line.expect("message.send")
        asked.set()
        await line.stay()

    async def second(line: Line) -> None:
        await line.hello(resumed=True)
        taken = await line.expect("message.send")
        assert taken["client_message_id"] == "a1"
        await line.send({"id": taken["id"], "ok": {"message_id": "msg_1"}})
        await line.stay()

    seat = await Seat(hub.play(first, second), "/v1/agent", ANA).open()
    asking = asyncio.ensure_future(seat.ask("message.send", client_message_id="a1"))
    await asked.wait()
    assert await seat.come_back()
    assert await asking == {"message_id": "msg_1"}
    seat.close()
    await seat.line.closed


async def test_a_seat_that_the_hub_closes_is_closed(hub: ScriptedHub) -> None:
    """Nobody asked for it: it is counted, and commands fail at once instead of hanging."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.close(4502)

    seat = await Seat(hub.play(script), "/v1/supervisor", ANA).open()
    await until(lambda: seat.closed)
    assert not seat.connected
    with pytest.raises(ConnectionEnded):
        await seat.ask("status.set", status="available")
    assert not await seat.come_back()


async def test_a_line_reads_as_slowly_as_it_is_told(hub: ScriptedHub) -> None:
    """Told to read nothing it hears nothing, while another one does; told a speed it hears what waited."""
    go, sent = asyncio.Event(), asyncio.Event()

    async def slow(line: Line) -> None:
        await line.hello()
        await go.wait()
        await line.send(said(1))
        sent.set()
        await line.stay()

    async def quick(line: Line) -> None:
        await line.hello()
        await sent.wait()
        await line.send(said(1))
        await line.stay()

    heard: list[str] = []
    url = hub.play(slow, quick)
    lines = [
        await open_line(url, "/v1/supervisor", "T", lambda *_: heard.append("slow")),
        await open_line(url, "/v1/supervisor", "T", lambda *_: heard.append("quick")),
    ]
    lines[0].slow_down(0)
    go.set()
    await until(lambda: heard == ["quick"])
    lines[0].slow_down(1e6)
    await until(lambda: heard == ["quick", "slow"])
    for line in lines:
        line.close()
        await line.closed


async def test_the_first_error_comes_out_as_it_was() -> None:
    """A run fails by what went wrong, not by a group of it, and the others are cancelled."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fails() -> None:
        raise ConnectionEnded(1006, "gone")

    async def both() -> None:
        async with together() as group:
            group.create_task(waits())
            group.create_task(fails())

    with pytest.raises(ConnectionEnded, match="gone"):
        await both()
    assert ended == ["cancelled"]
