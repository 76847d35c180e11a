"""Rows, and what nodes know beside them."""

from dataclasses import replace

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.board import ended_monitor, extra_of, row_of
from hub.domain.decide import decide, public
from hub.domain.evolve import evolve_all
from tests.unit.domain.words import (
    BOB,
    CAY,
    MANDATORY,
    NOW,
    ROBO,
    after,
    confirm,
    connect,
    counters,
    desk,
    disconnect,
    finish,
    monitor,
    person,
    prepare,
    situation,
    watch,
    watched,
    wrapup,
)


def test_row_of_a_running_conversation() -> None:
    """The row has every field of the protocol's."""
    given = watched(BOB, ROBO, counters=counters())
    assert row_of(given) == {
        "conversation_id": "cnv_1",
        "channel": "web",
        "queue": "support",
        "division": "home",
        "state": "active",
        "subject": "Refund",
        "customer": {"id": "cus_7", "name": "Dana"},
        "agents": [{**public(BOB), "state": "connected"}, {**public(ROBO), "state": "connected"}],
        "owner": "prt_bob",
        "owner_epoch": 1,
        "owner_away": False,
        "monitor": {"user_id": "ana", "name": "Ana", "since": NOW - 4_000, "participant_id": "prt_bob"},
        "taken_over": False,
        "awaiting": "agent",
        "awaiting_since": NOW - 3_000,
        "started_at": NOW - 9_000,
        "messages": 5,
    }


def test_row_of_an_ended_conversation() -> None:
    """Those who were there at the end stay in the row, with what each still owes; nobody monitors or is awaited."""
    given = after(watched(BOB, CAY, wrapup_rule=MANDATORY, counters=counters()), finish())
    row = row_of(given)
    assert row["state"] == "wrapup"
    assert row["agents"] == [{**public(BOB), "state": "wrapup"}, {**public(CAY), "state": "disconnected"}]
    assert (row["owner"], row["monitor"], row["awaiting"], row["awaiting_since"]) == (None, None, None, None)
    done = after(given, c.SubmitWrapup(desk("bob"), "resolved", None))
    assert row_of(done)["state"] == "ended"


def test_row_without_its_monitor_is_what_an_agent_sees() -> None:
    """Taking `monitor` out of a row leaves the row of a conversation that nobody monitors, byte for byte."""
    without = row_of(situation(BOB)) | {"monitor": None}
    for command in (watch(), watch(session="ses_2"), prepare(), c.StopMonitor(person())):
        given = situation(BOB) if command == watch() else watched(BOB)
        assert row_of(after(given, command)) | {"monitor": None} == without


def test_extra_says_whom_to_tell_what() -> None:
    """People, notices and open wrap-ups stand beside the row, and under which monitor data belongs."""
    given = after(watched(BOB, wrapup_rule=MANDATORY), prepare(), confirm())
    assert extra_of(given) == {
        "connector": "platform",
        "monitor": None,
        "monitor_ended": None,
        "people": [{"participant_id": "prt_ana", "user_id": "ana", "purpose": "supervisor", "since": NOW}],
        "notices": [{"takeover_id": "tko_1", "user_id": "bob"}],
        "wrapups": [
            {
                "participant_id": "prt_bob",
                "user_id": "bob",
                "prompt": "mandatory",
                "codes": ["resolved", "follow-up"],
                "timeout_ms": 30_000,
                "due_at": NOW + MANDATORY.due_ms,
            }
        ],
        "wrapup_ended": [],
        "queued_since": None,
        "ended_at": None,
    }
    held = extra_of(watched(BOB))
    assert held["monitor"] == {"monitor_id": "mon_ana", "user_id": "ana", "participant_id": "prt_bob"}


def test_extra_of_waiting_and_ended_conversations() -> None:
    """Since when it waits, and when it was over, is told."""
    queued = after(situation(BOB), disconnect(BOB, at=NOW + 1))
    assert extra_of(queued)["queued_since"] == NOW + 1
    assert extra_of(after(queued, finish()))["ended_at"] == NOW


def test_extra_of_a_change_names_what_ended_with_it() -> None:
    """A monitor's and a wrap-up's end belong to the change that made them."""
    given = watched(BOB, wrapups=(wrapup(CAY, due_at=NOW), wrapup(ROBO, due_at=NOW)))
    events = [
        *decide(given, c.StopMonitor(person())),
        e.WrapupCompleted(NOW, wrapup(CAY), "resolved", "secret words"),
        e.WrapupTimedOut(NOW, wrapup(ROBO)),
    ]
    extra = extra_of(evolve_all(given, events), events)
    over = events[0]
    assert isinstance(over, e.MonitorEnded)
    assert extra["monitor_ended"] == ended_monitor(over)
    assert extra["wrapup_ended"] == [
        {"participant_id": "prt_cay", "user_id": "cay", "code": "resolved", "timed_out": False},
        {"participant_id": "prt_robo", "user_id": "robo", "code": None, "timed_out": True},
    ]
    assert "secret words" not in str(extra)


def test_ended_monitor() -> None:
    """The holder is told why, by whom and how long it was; a clock that went back makes no negative duration."""
    by_somebody = e.MonitorEnded(NOW, monitor(), "force_released", ("zoe", "Zoe"), "why")
    assert ended_monitor(by_somebody) == {
        "monitor_id": "mon_ana",
        "user_id": "ana",
        "reason": "force_released",
        "by": {"user_id": "zoe", "name": "Zoe"},
        "duration_ms": 4_000,
    }
    by_itself = replace(by_somebody, at=0, by=None, reason="lease_expired")
    assert (ended_monitor(by_itself)["by"], ended_monitor(by_itself)["duration_ms"]) == (None, 0)


def test_row_counts_participants_in_the_order_they_came() -> None:
    """Agents stand in the row as they connected."""
    agents = row_of(after(situation(CAY), connect(BOB)))["agents"]
    assert isinstance(agents, list)
    assert [one["user_id"] for one in agents] == ["cay", "bob"]
