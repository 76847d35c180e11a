"""The terminal supervisor's lines."""

import pytest

from clients import Event, TakeoverPlan, connect_supervisor
from clients.tail import Tail, consequences, event_lines, printable, row_line
from tests.unit.clients.scripted import FAST, Line, ScriptedHub

ROW = {
    "conversation_id": "cnv_1",
    "state": "active",
    "channel": "sms",
    "queue": "support",
    "subject": "Refund",
    "customer": {"id": "c", "name": "Dana"},
    "agents": [{"participant_id": "p1", "name": "Max"}],
    "monitor": {"user_id": "bo", "name": "Bo Lind"},
    "taken_over": False,
    "awaiting": "agent",
    "awaiting_since": 1,
}


def test_a_row_says_who_and_what() -> None:
    """Customer, agent, subject, state, monitor and waiting stand on one line."""
    line = row_line(ROW)
    for part in ("cnv_1", "active", "sms", "Dana with Max", "Refund", "monitored by Bo Lind", "customer waits"):
        assert part in line
    assert "with nobody" in row_line({"conversation_id": "x"})


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event("message.created", "c", data={"purpose": "customer", "text": "Hi"}), "[c] customer: Hi"),
        (Event("monitor.ended", "c", data={"reason": "stopped", "by": None}), "[c] monitor ended: stopped"),
        (
            Event(
                "participant.disconnected", "c", data={"participant": {"name": "Max"}, "disconnect_type": "takeover"}
            ),
            "[c] Max disconnected (takeover)",
        ),
        (Event("wrapup.timed_out", "c"), "[c] wrap-up timed out"),
        (Event("session.interrupted", data={"reason": "lost"}), "connection lost (lost); trying again"),
    ],
)
def test_events_read_as_sentences(event: Event, line: str) -> None:
    """What happens in a conversation is told in a line."""
    assert event_lines(event) == [line]


def test_what_flickers_is_not_shown() -> None:
    """Typing and receipts are not lines."""
    assert not event_lines(Event("typing", "c"))
    assert not event_lines(Event("message.receipt", "c"))
    assert not event_lines(Event("session.started"))


def test_consequences_are_sentences() -> None:
    """Who leaves, the wrap-up, the name and what is unanswered are told before the question."""
    told = {"removed": [{"name": "Max"}], "wrapup": {"prompt": "mandatory"}, "name_visible": False, "unanswered": 2}
    lines = consequences(TakeoverPlan("t", "c", 1, told))
    assert lines[0] == "Max will be removed."
    assert "mandatory" in lines[1]
    assert "not see" in lines[2]
    assert "2" in lines[3]


def test_control_characters_do_not_reach_the_terminal() -> None:
    """Escape sequences in what customers wrote are made harmless."""
    assert "\x1b" not in printable("a\x1b[2Jb")
    assert printable("a\nb é") == "a\nb é"


async def test_taking_over_asks_first(hub: ScriptedHub, capsys: pytest.CaptureFixture[str]) -> None:
    """`take` shows the consequences, and only a yes confirms; ids may be shortened; refusals are explained."""

    async def script(line: Line) -> None:
        await line.hello()
        plan = {"takeover_id": "tko_1", "confirm_token": "s", "expires_at": 1, "consequences": {"unanswered": 3}}
        for answer, cmd in (("no", "takeover.cancel"), ("yes", "takeover.confirm")):
            prepare = await line.expect("takeover.prepare")
            assert prepare["conversation_id"] == "cnv_1"
            await line.send({"id": prepare["id"], "ok": plan})
            decided = await line.expect(cmd)
            assert answer
            await line.send({"id": decided["id"], "ok": {"participant_id": "prt_9", "owner_epoch": 2}})
        refused = await line.expect("monitor.start")
        details = {"candidates": [{"participant_id": "p1", "name": "Max"}]}
        error = {"code": "target_ambiguous", "message": "Which?", "retryable": False, "details": details}
        await line.send({"id": refused["id"], "error": error})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        tail = Tail(client)
        tail.rows["cnv_1"] = ROW
        for text in ("take cn", "no", "take cnv_1", "yes", "monitor cnv_1", "bogus", "say cnv_1", "", "list", "help"):
            await tail.obey(text)
    out = capsys.readouterr().out
    for part in (
        "3 customer messages",
        "nothing has changed",
        "prt_9",
        "p1 (Max)",
        "no command 'bogus'",
        "say ID TEXT",
    ):
        assert part in out
