"""What facts leave behind: transcript and its audiences, actions, segments, ledger."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import Participant, Situation
from hub.domain.decide import decide, public
from hub.domain.effects import Effects, effects_of, interact_segment, participant_data, wrapup_segment
from hub.domain.evolve import evolve_all
from tests.unit.domain.words import (
    BOB,
    CAY,
    CUSTOMER,
    EVE,
    MANDATORY,
    NOW,
    ROBO,
    after,
    begin,
    confirm,
    connect,
    desk,
    disconnect,
    finish,
    messenger,
    monitor,
    person,
    prepare,
    prepared,
    situation,
    transfer,
    watch,
    watched,
    wrapup,
)


def left(given: Situation, command: c.Command) -> Effects:
    """What `command` leaves behind."""
    return of(given, decide(given, command))


def of(given: Situation, events: Sequence[e.Event]) -> Effects:
    """What `events` leave behind."""
    return effects_of(given, events, evolve_all(given, events))


def lines(effects: Effects) -> list[tuple[str, str]]:
    """Audience and event of each transcript entry, in order."""
    return [(one.audience, one.event) for one in effects.transcript]


def acts(effects: Effects) -> list[str]:
    """Events of the actions, in order."""
    return [one.event for one in effects.actions]


TAKEOVER = watched(BOB, ROBO, prepared=prepared(), wrapup_rule=MANDATORY)
EVERY_COMMAND: list[tuple[Situation, c.Command]] = [
    (Situation(NOW), begin()),
    (situation(), connect()),
    (watched(BOB), disconnect()),
    (watched(BOB), transfer()),
    (watched(EVE), transfer()),
    (watched(BOB, wrapup_rule=MANDATORY), finish()),
    (watched(BOB), c.EndConversation(messenger())),
    (watched(BOB), c.EndIdle()),
    (situation(BOB), watch()),
    (situation(BOB, monitor=monitor("zoe", until=NOW)), watch()),
    (watched(BOB), watch(session="ses_2")),
    (watched(BOB), c.StopMonitor(person())),
    (watched(BOB), c.ReleaseMonitor(person("zoe"), "needed")),
    (watched(BOB, monitor=monitor("ana", BOB, "ses_ana", "ses_2")), c.LeaveMonitor("ana", "ses_ana")),
    (watched(BOB, monitor=monitor(until=NOW)), c.ExpireMonitor()),
    (watched(BOB), c.RevealMessage(person(), "ses_ana", "msg_1", "asked")),
    (watched(BOB), prepare()),
    (TAKEOVER, confirm()),
    (TAKEOVER, c.CancelTakeover(person(), "tko_1")),
    (after(TAKEOVER, confirm()), c.AcknowledgeTakeover(desk("bob"), "tko_1")),
    (after(TAKEOVER, confirm()), c.SubmitWrapup(desk("bob"), "resolved", "notes")),
    (situation(wrapups=(wrapup(BOB, due_at=NOW),)), c.TimeOutWrapups()),
]


@pytest.mark.parametrize(("given", "command"), EVERY_COMMAND)
def test_every_event_has_its_ledger_line(given: Situation, command: c.Command) -> None:
    """One line for each fact, in order, that says what happened where and when, in JSON and without anybody's words."""
    events = decide(given, command)
    ledger = left(given, command).ledger
    assert len(ledger) == len(events)
    for event, line in zip(events, ledger, strict=True):
        assert (line["at"], line["org"], line["conversation_id"]) == (event.at, "acme", "cnv_1")
        assert json.loads(json.dumps(line)) == line
        assert "notes" not in line.values()


def test_ledger_lines_cover_every_kind_of_event() -> None:
    """The commands above cause every event there is, and each has its own name."""
    found = {type(event): line["what"] for given, command in EVERY_COMMAND for event, line in _ledger(given, command)}
    assert set(found) == set(get_args(e.Event))
    assert len(set(found.values())) == len(found)


def test_a_platforms_words_do_not_stand_in_the_ledger() -> None:
    """Why a platform ended it may be about the customer, whose erasing the lines outlive; who else ended it is said."""
    for command, reason in ((finish(), "platform"), (c.EndIdle(), "inactivity"), (c.EndErased(), "erased")):
        [line] = [line for _, line in _ledger(watched(BOB), command) if line["what"] == "conversation.ended"]
        assert line["reason"] == reason


def test_the_end_of_a_monitor_says_from_where_it_saw() -> None:
    """The oldest entry that it was shown; null where that isn't known."""
    given = watched(BOB)
    assert given.monitor is not None
    for first in (7, None):
        shown = replace(given, monitor=replace(given.monitor, first_shown=first))
        [line] = [line for _, line in _ledger(shown, c.StopMonitor(person())) if line["what"] == "monitor.ended"]
        assert line["from_offset"] == first


def _ledger(given: Situation, command: c.Command) -> list[tuple[e.Event, dict[str, object]]]:
    return list(zip(decide(given, command), left(given, command).ledger, strict=True))


def test_ledger_says_who_did_what_to_whom() -> None:
    """Ids of everybody concerned stand in the line."""
    said = {str(line["what"]): line for given, command in EVERY_COMMAND for _, line in _ledger(given, command)}
    expected: dict[str, dict[str, object]] = {
        "monitor.started": {"monitor_id": "mon_ana", "user_id": "ana", "target": "prt_bob"},
        "monitor.joined": {"monitor_id": "mon_ana", "session": "ses_2"},
        "monitor.left": {"monitor_id": "mon_ana", "session": "ses_ana"},
        "message.revealed": {"monitor_id": "mon_ana", "user_id": "ana", "message_id": "msg_1", "why": "asked"},
        "takeover.prepared": {"takeover_id": "tko_1", "user_id": "ana"},
        "takeover.cancelled": {"takeover_id": "tko_1", "user_id": "ana"},
        "takeover.completed": {"takeover_id": "tko_1", "user_id": "ana", "removed": ["prt_bob", "prt_robo"]},
        "takeover.acknowledged": {"takeover_id": "tko_1", "user_id": "bob"},
        "participant.connected": {"participant_id": "prt_bob", "user_id": "bob"},
        "participant.disconnected": {"participant_id": "prt_eve", "user_id": "eve"},
        "wrapup.requested": {"participant_id": "prt_bob", "user_id": "bob"},
        "wrapup.completed": {"participant_id": "prt_bob", "user_id": "bob"},
        "wrapup.timed_out": {"participant_id": "prt_bob", "user_id": "bob"},
        "conversation.transferred": {"queue": "billing", "from": "support"},
        "conversation.ended": {"reason": "inactivity", "by": None},
    }
    for what, details in expected.items():
        assert {key: said[what][key] for key in details} == details
    (released,) = left(watched(BOB), c.ReleaseMonitor(person("zoe"), "needed")).ledger
    assert (released["by"], released["why"], released["reason"]) == ("zoe", "needed", "force_released")
    (expired,) = left(watched(BOB, monitor=monitor(until=NOW)), c.ExpireMonitor()).ledger
    assert expired["by"] is None
    assert "why" not in expired


@pytest.mark.parametrize(("given", "command"), EVERY_COMMAND)
def test_transcript_and_actions_never_name_a_monitor(given: Situation, command: c.Command) -> None:
    """Whatever happens, what is in the transcript and what goes to the platform is the same with and without a monitor."""
    effects = left(given, command)
    entries = [(one.event, one.data) for one in effects.transcript]
    shown = json.dumps([*entries, *((one.event, one.data) for one in effects.actions)])
    assert "monitor" not in shown
    assert "mon_" not in shown


@pytest.mark.parametrize(
    ("command", "connected"),
    [
        (connect(CAY), (BOB,)),
        (disconnect(), (BOB, CAY)),
        (transfer(), (BOB,)),
        (transfer(), (EVE,)),
        (finish(), (BOB,)),
        (c.EndConversation(messenger()), (BOB,)),
        (c.EndIdle(), (BOB,)),
    ],
)
def test_agents_and_platform_cannot_tell_a_monitored_conversation(
    command: c.Command, connected: tuple[Participant, ...]
) -> None:
    """The same command with and without a monitor leaves equal entries and equal actions."""
    with_one, without = left(watched(*connected), command), left(situation(*connected), command)
    assert with_one.transcript == without.transcript
    assert with_one.actions == without.actions


@pytest.mark.parametrize(
    ("given", "command"),
    [(given, command) for given, command in EVERY_COMMAND if isinstance(command, (c.StartMonitor, c.StopMonitor))]
    + [(watched(BOB), c.ReleaseMonitor(person("zoe"), "needed")), (watched(BOB), prepare())],
)
def test_monitors_leave_nothing_in_transcript_and_actions(given: Situation, command: c.Command) -> None:
    """A monitor's start, stop and release, and a preparation, are for ledger and timeline only."""
    effects = left(given, command)
    assert (effects.transcript, effects.actions) == ([], [])


def test_participants_come_and_go_inside() -> None:
    """Agents and supervisors see who comes and goes, customers don't; the platform knows it already."""
    came = left(Situation(NOW), begin())
    assert lines(came) == [("as", "participant.connected")]
    assert came.transcript[0].data == participant_data(CUSTOMER)
    assert lines(left(situation(), connect())) == [("as", "participant.connected")]
    went = left(situation(BOB), disconnect())
    assert lines(went) == [("as", "participant.disconnected")]
    assert went.transcript[0].data == {
        "participant_id": "prt_bob",
        "participant": public(BOB),
        "disconnect_type": "client",
    }
    assert went.segments == [interact_segment(BOB, NOW, "client")]
    for effects in (came, went):
        assert effects.actions == []


def test_transfer() -> None:
    """Agents see the new queue; a supervisor's part that ends by it is an action for the platform."""
    effects = left(situation(EVE, CAY), transfer())
    assert lines(effects) == [("as", "conversation.transferred"), ("as", "participant.disconnected")]
    assert effects.transcript[0].data == {"queue": "billing"}
    assert acts(effects) == ["participant.disconnected"]
    assert effects.actions[0].data["disconnect_type"] == "transfer"
    assert effects.segments == [
        {"kind": "transfer", "start": NOW, "end": NOW, "from": "support", "queue": "billing"},
        interact_segment(EVE, NOW, "transfer"),
    ]
    assert acts(left(situation(BOB), transfer())) == []


@pytest.mark.parametrize(
    ("command", "actions"),
    [(finish(), []), (c.EndConversation(desk("bob")), ["conversation.ended"]), (c.EndIdle(), ["conversation.ended"])],
)
def test_end(command: c.Command, actions: list[str]) -> None:
    """Everybody sees the end, everybody's part closes, and the platform is told where it didn't say so itself."""
    effects = left(situation(BOB, CAY), command)
    assert lines(effects) == [("asc", "conversation.ended")]
    assert acts(effects) == actions
    assert effects.segments == [interact_segment(one, NOW) for one in (CUSTOMER, BOB, CAY)]


def test_takeover_in_order() -> None:
    """First all are gone, then the supervisor is there, then the mark, which no agent and no customer sees."""
    effects = left(TAKEOVER, confirm())
    assert lines(effects) == [
        ("as", "participant.disconnected"),
        ("as", "participant.disconnected"),
        ("as", "participant.connected"),
        ("s", "takeover.completed"),
    ]
    assert [one.data.get("disconnect_type") for one in effects.transcript[:2]] == ["takeover", "takeover"]
    mark = {"takeover_id": "tko_1", "from": ["prt_bob", "prt_robo"], "to": "prt_ana", "owner_epoch": 2}
    assert effects.transcript[3].data == mark
    kinds = [(one["kind"], one.get("participant_id"), one.get("disconnect_type")) for one in effects.segments]
    assert kinds == [
        ("interact", "prt_bob", "takeover"),
        ("interact", "prt_robo", "takeover"),
        ("takeover", None, None),
        ("monitoring", "prt_bob", None),
    ]
    assert effects.segments[2] == {
        "kind": "takeover",
        "user": {"user_id": "ana", "name": "Ana"},
        "start": NOW,
        "end": NOW,
        **mark,
    }


@pytest.mark.parametrize("visible", [True, False])
def test_takeover_tells_the_platform_in_order(visible: bool) -> None:
    """Each one removed, then the supervisor, then the new sender; a name only where the channel shows names."""
    given = watched(BOB, ROBO, prepared=prepared(), name_visible=visible)
    effects = left(given, confirm())
    expected = ["participant.disconnected", "participant.disconnected", "participant.connected"]
    assert acts(effects) == ([*expected, "sender.changed"] if visible else expected)
    came = effects.actions[2].data
    assert (came["participant_id"], came["purpose"], came["user_id"]) == ("prt_ana", "supervisor", "ana")
    assert came.get("name") == ("Ana" if visible else None)
    assert ("Ana" in json.dumps([one.data for one in effects.actions])) is visible
    if visible:
        assert effects.actions[3].data == {"name": "Ana"}


def test_monitoring_segment() -> None:
    """It says who watched whom from when to when, why it ended and by whom."""
    (segment,) = left(watched(BOB), c.ReleaseMonitor(person("zoe"), "needed")).segments
    assert segment == {
        "kind": "monitoring",
        "participant_id": "prt_bob",
        "user": {"user_id": "ana", "name": "Ana"},
        "start": NOW - 4_000,
        "end": NOW,
        "disconnect_type": None,
        "monitor_id": "mon_ana",
        "reason": "force_released",
        "by": {"user_id": "zoe", "name": "Zoe"},
        "duration_ms": 4_000,
    }


def test_wrapup_segments() -> None:
    """A wrap-up that was handed in keeps code and notes, one that timed out says so; neither is in the transcript."""
    open_ = wrapup(BOB, due_at=NOW)
    given = situation(wrapups=(open_,))
    done = left(given, c.SubmitWrapup(person("bob"), "resolved", "notes"))
    assert done.segments == [wrapup_segment(open_, NOW, "resolved", "notes")]
    late = left(given, c.TimeOutWrapups())
    assert late.segments == [{**wrapup_segment(open_, NOW), "timed_out": True}]
    for effects in (done, late):
        assert (effects.transcript, effects.actions) == ([], [])


def test_effects_keep_the_order_of_the_events() -> None:
    """Several facts of one commit stand in the transcript as they happened."""
    given = situation(BOB)
    events: list[e.Event] = []
    state = given
    for command in (connect(CAY), disconnect(BOB), finish()):
        caused = decide(state, command)
        events += caused
        state = evolve_all(state, caused)
    assert [one.event for one in of(given, events).transcript] == [
        "participant.connected",
        "participant.disconnected",
        "conversation.ended",
    ]
