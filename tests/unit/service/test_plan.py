"""From events to one commit: fields, guards, entries, what is due."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.board import monitor_parts
from hub.domain.conversation import Conversation, Participant, Situation
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.service.codec import encode_state, spoken_as
from hub.service.plan import MONITOR_HERE, check_room, fitted, plan_commit
from hub.service.ports import Commit, Loaded
from tests.unit.domain.words import (
    BOB,
    CAY,
    CUSTOMER,
    MANDATORY,
    NOW,
    after,
    begin,
    confirm,
    connect,
    conversation,
    desk,
    disconnect,
    finish,
    lacking,
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


def plan(given: Situation, command: c.Command, stored: bytes = b"", **options: Any) -> Commit:
    """The commit for `command`, over the state as it was stored."""
    events = decide(given, command)
    loaded = Loaded(given, "" if given.conversation is None else "7.99", "55" if given.monitor else "", stored=stored)
    usual: dict[str, Any] = {
        "fresh_tag": "123",
        "fresh_epoch": "456",
        "new_action_id": lambda: "act_1",
    }
    return plan_commit(loaded, given, events, evolve_all(given, events), **{**usual, **options})


TAKEOVER = watched(BOB, prepared=prepared(), wrapup_rule=MANDATORY)


def test_new_conversation() -> None:
    """There must be none yet; epoch, platform, customer and state are written."""
    commit = plan(Situation(NOW), begin(panels=(("customer", "{}"),)))
    assert (commit.version, commit.monitor_version, commit.new_version) == ("", None, "1.123")
    sets = dict(commit.sets)
    assert sets.pop("lc") == b"1 %b 456123c" % orjson.loads(commit.ledger[-1])["mac"].encode()
    assert sets == {
        "epoch": b"456",
        "conn": b"platform",
        "cust": b"prt_dana",
        "p:prt_dana": spoken_as(CUSTOMER),
        "state": encode_state(after(Situation(NOW), begin()).existing),
    }
    assert (commit.index, commit.panels, commit.awaiting) == ("live", [("customer", b"{}")], "")


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (watched(BOB), connect(CAY)),
        (after(TAKEOVER, confirm()), c.AcknowledgeTakeover(desk("bob"), "tko_1")),
        (after(TAKEOVER, confirm()), c.SubmitWrapup(desk("bob"), "resolved", None)),
        (situation(wrapups=(wrapup(BOB, due_at=NOW),)), c.TimeOutWrapups()),
    ],
)
def test_what_agents_do_is_not_guarded_by_the_monitor(given: Situation, command: c.Command) -> None:
    """A commit that neither reads nor writes the monitor doesn't look at its version, and doesn't move it."""
    commit = plan(given, command)
    assert (commit.monitor_version, commit.new_monitor_version) == (None, None)
    assert commit.new_version == "8.123"


@pytest.mark.parametrize(
    "command", [disconnect(), disconnect(CAY), transfer(), finish(), c.EndConversation(messenger())]
)
@pytest.mark.parametrize("held", [None, monitor()])
def test_what_could_end_a_monitor_looks_at_it(command: c.Command, held: object) -> None:
    """A monitor that starts meanwhile makes these decide again."""
    commit = plan(situation(BOB, CAY, monitor=held), command)
    assert commit.monitor_version == ("55" if held else "")
    ends = held is not None and command not in (disconnect(CAY), transfer())
    assert commit.new_monitor_version == ("123" if ends else None)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (situation(BOB), watch()),
        (watched(BOB), watch(session="ses_2")),
        (watched(BOB), c.StopMonitor(person())),
        (watched(BOB), prepare()),
        (TAKEOVER, c.CancelTakeover(lacking("takeover"), "tko_1")),
    ],
)
def test_monitors_leave_the_conversations_version_alone(given: Situation, command: c.Command) -> None:
    """What changes a monitor only is decided on the version but doesn't move it: nobody else decides again for it."""
    commit = plan(given, command)
    assert (commit.version, commit.new_version) == ("7.99", None)
    assert commit.new_monitor_version == "123"
    assert commit.index is None
    assert not {"state", "owner"} & {name for name, _ in commit.sets}
    assert (commit.transcript, commit.actions) == ([], [])


CHANGING = [
    (situation(BOB), connect(CAY)),
    (situation(BOB, CAY), disconnect()),
    (situation(BOB), transfer()),
    (situation(BOB), finish()),
    (situation(BOB), c.EndConversation(messenger())),
    (situation(BOB), c.EndIdle()),
    (situation(BOB), c.EndErased()),
    (TAKEOVER, confirm()),
    (after(TAKEOVER, confirm()), c.AcknowledgeTakeover(desk("bob"), "tko_1")),
    (after(TAKEOVER, confirm()), c.SubmitWrapup(desk("bob"), "resolved", None)),
    (situation(wrapups=(wrapup(BOB, due_at=NOW),)), c.TimeOutWrapups()),
]


@pytest.mark.parametrize(("given", "command"), CHANGING, ids=[type(command).__name__ for _, command in CHANGING])
def test_what_a_newer_node_wrote_survives(given: Situation, command: c.Command) -> None:
    """Whoever commits writes back what they don't know: the state's own, and its participants', wherever they are now."""
    stored = orjson.loads(encode_state(given.existing))
    people = [*stored["connected"], *stored["past"], stored["customer"]]
    for thing in (stored, *people):
        thing["mood"] = "sunny"
    commit = plan(given, command, stored=orjson.dumps(stored))
    written = orjson.loads(dict(commit.sets)["state"])
    known = {one["participant_id"] for one in people}
    now = [*written["connected"], *written["past"], *written["at_end"], written["customer"]]
    assert known <= {one["participant_id"] for one in now}
    assert [one.pop("mood", None) for one in now] == [
        "sunny" if one["participant_id"] in known else None for one in now
    ]
    assert written.pop("mood") == "sunny"
    assert orjson.dumps(written) == encode_state(after(given, command).existing)


def test_preparations_change_no_row() -> None:
    """Nobody sees on the board that somebody thinks of a takeover."""
    assert plan(watched(BOB), prepare()).row is None
    assert plan(TAKEOVER, c.CancelTakeover(person(), "tko_1")).row is None
    assert plan(situation(BOB), watch()).row is not None


def test_monitors_fields() -> None:
    """Monitor, its fence, each lease and who ever watched are fields; the end takes all but the last away."""
    commit = plan(situation(BOB), watch())
    begun = after(situation(BOB), watch()).monitor
    assert begun is not None
    sets = dict(commit.sets)
    assert sets.pop("lm") == b"1 %b 456123m" % orjson.loads(commit.ledger[-1])["mac"].encode()
    lease_end = begun.sessions[0].lease_end
    seen, hidden = monitor_parts(begun)
    assert sets == {
        "m": encode_state(begun),
        "m.id": b"mon_ana",
        "m.row": orjson.dumps(seen),
        "m.extra": orjson.dumps(hidden),
        "w:ana": b"1",
        "ml:ses_ana": b"%d" % lease_end,
    }
    assert commit.due == [("lease", lease_end)]
    stop = plan(watched(BOB), c.StopMonitor(person()))
    assert set(stop.drops) == {"m", "m.id", "m.row", "m.extra", "m.from", "ml:ses_ana"}
    assert stop.due_drop == ["lease"]


def test_only_the_joining_lease_is_written() -> None:
    """A session that joins rewrites nobody else's lease: it may have been renewed meanwhile."""
    joined = plan(watched(BOB), watch(session="ses_2", lease_end=NOW + 77))
    assert dict(joined.sets)["ml:ses_2"] == b"%d" % (NOW + 77)
    assert "ml:ses_ana" not in dict(joined.sets)
    two = watched(BOB, monitor=monitor("ana", BOB, "ses_ana", "ses_2"))
    assert "ml:ses_ana" in plan(two, c.LeaveMonitor("ana", "ses_ana")).drops


def test_expiry_is_looked_at_again() -> None:
    """Only an end by the lease is refused where the lease was renewed meanwhile."""
    lapsed = situation(BOB, monitor=monitor("zoe", until=NOW))
    assert plan(lapsed, c.ExpireMonitor()).lease_due
    assert plan(lapsed, watch()).lease_due
    assert not plan(watched(BOB), c.StopMonitor(person())).lease_due
    over = replace(monitor("zoe", until=NOW), until=NOW - 1)  # with their token
    assert plan(situation(BOB, monitor=over), c.ExpireMonitor()).lease_due
    assert not plan(situation(BOB, monitor=replace(over, queues=("x",))), transfer()).lease_due


def test_a_reveal_writes_its_line_and_nothing_else() -> None:
    """No entry, no row, no version that an agent's command is guarded by: only the ledger's line, and its place there."""
    commit = plan(watched(BOB), c.RevealMessage(person(), "ses_ana", "msg_1", "asked"))
    assert len(commit.ledger) == 1
    assert [name for name, _ in commit.sets] == [commit.ledger_field]
    assert (commit.drops, commit.transcript, commit.actions, commit.row) == ([], [], [], None)
    assert (commit.new_version, commit.index, commit.segments, commit.due) == (None, None, [], [])
    assert commit.monitor_version is not None


def test_participants_fields() -> None:
    """Who may speak stands in fields of its own, the owner with the epoch."""
    commit = plan(situation(BOB), connect(CAY))
    sets = dict(commit.sets)
    assert sets["p:prt_cay"] == spoken_as(CAY)
    assert sets["owner"] == b"prt_bob 1"
    assert "p:prt_bob" not in sets
    gone = plan(situation(BOB), disconnect())
    assert {"p:prt_bob", "draft:prt_bob", "owner"} <= set(gone.drops)


def test_takeover_is_one_commit() -> None:
    """Removal, owner, end of the monitor, notices, wrap-up and mark are written together."""
    commit = plan(TAKEOVER, confirm())
    sets, drops = dict(commit.sets), set(commit.drops)
    assert sets["owner"] == b"prt_ana 2"
    assert {"p:prt_bob", "m", "m.id", "m.row", "m.extra", "ml:ses_ana", "x"} <= drops
    assert "draft:prt_bob" not in drops, "it comes back with the notice"
    assert (commit.monitor_version, commit.new_monitor_version, commit.new_version) == ("55", "123", "8.123")
    assert [audience for audience, _ in commit.transcript] == ["as", "as", "s"]
    assert [one.partition(b" ")[0] for one in commit.actions] == [b"act_1"] * 2
    assert commit.due == [("wrapup", NOW + MANDATORY.due_ms)]
    assert commit.due_drop == ["lease"]
    acknowledged = plan(after(TAKEOVER, confirm()), c.AcknowledgeTakeover(desk("bob"), "tko_1"))
    assert "draft:prt_bob" in acknowledged.drops


def test_end() -> None:
    """Nothing can be said any more, nobody is awaited, and what is settled leaves the live ones."""
    commit = plan(situation(BOB), finish())
    assert dict(commit.sets)["ended"] == b"1"
    assert {"owner", "awaiting", "since", "p:prt_bob"} <= set(commit.drops)
    assert commit.index == "closed"
    owing = plan(situation(BOB, wrapup_rule=MANDATORY), finish())
    assert (owing.index, owing.due) == ("live", [("wrapup", NOW + MANDATORY.due_ms)])
    over = after(situation(BOB, wrapup_rule=MANDATORY), finish())
    done = plan(over, c.SubmitWrapup(desk("bob"), "resolved", None))
    assert (done.index, done.due_drop) == ("closed", ["wrapup"])
    assert "ended" not in dict(done.sets)


def test_web_messengers_conversations_have_no_actions() -> None:
    """Where no platform is, nobody has to be told."""
    assert plan(replace(TAKEOVER, conversation=replace(TAKEOVER.existing, connector="")), confirm()).actions == []


def test_everything_is_json_on_one_line() -> None:
    """Bodies, rows, segments and ledger can be read back."""
    commit = plan(TAKEOVER, confirm())
    assert commit.row is not None
    bodies = [commit.row, commit.extra, *commit.segments, *commit.ledger, *(body for _, body in commit.transcript)]
    for one in (*bodies, *(action.partition(b" ")[2] for action in commit.actions)):
        assert b"\n" not in one
        orjson.loads(one)


@pytest.mark.parametrize("given", [situation(BOB), watched(BOB)])
@pytest.mark.parametrize("command", [connect(CAY), finish(), c.EndConversation(desk("bob"))])
def test_rows_leave_the_monitor_to_the_store(given: Situation, command: c.Command) -> None:
    """
    Row and hidden part have a placeholder where the monitor stands, monitored or not.

    A commit that isn't guarded by the monitor used to publish the one of its decision: a monitor that had started
    meanwhile vanished from every view, and its holder was told that it was over.
    """
    commit = plan(given, command)
    assert commit.row is not None
    for body in (commit.row, commit.extra):
        assert orjson.loads(body)["monitor"] == MONITOR_HERE
        assert body.count(b'"monitor":"@"') == 1


def test_no_text_looks_like_the_placeholder() -> None:
    """Whatever a platform writes into subject and names, there is one placeholder."""
    text = '"monitor":"@"'
    given = situation(replace(BOB, name=text), subject=text, customer=replace(CUSTOMER, name=text))
    commit = plan(given, connect(replace(CAY, name=text)))
    assert commit.row is not None
    assert commit.row.count(b'"monitor":"@"') == commit.extra.count(b'"monitor":"@"') == 1
    assert orjson.loads(commit.row)["subject"] == text


def test_what_is_remembered_or_written_moves_the_version() -> None:
    """
    A transfer to the queue where it is, and an event without effect, leave the state equal and still move the version.

    With the version standing, a second node's commit of the same event was no conflict, and was written twice.
    """
    same = transfer("support")
    assert after(situation(BOB), same).conversation == situation(BOB).conversation
    assert plan(situation(BOB), same).new_version == "8.123"
    assert plan(situation(BOB), disconnect(CAY), seen=(b"1",)).new_version == "8.123"
    assert plan(situation(BOB), disconnect(CAY)).new_version is None


def crowd(count: int) -> tuple[Participant, ...]:
    """So many agents."""
    return tuple(Participant(f"prt_{n}", "agent", f"agent-{n}", "x" * 40, NOW + n) for n in range(count))


def size(one: Conversation) -> int:
    """How many bytes are stored of it."""
    return len(encode_state(one))


def test_those_who_left_make_room() -> None:
    """What is over the limit forgets who left, the oldest first and no more than it has to; what fits is left alone."""
    one = conversation(BOB, past=crowd(20))
    assert fitted(one, size(one)) == one
    less = fitted(one, size(one) - 1)
    assert size(less) < size(one)
    assert less == replace(one, past=one.past[-len(less.past) :])
    assert less.past
    assert fitted(one, 1) == replace(one, past=())
    assert fitted(conversation(*crowd(20)), 1) == conversation(*crowd(20)), "nobody who is there is forgotten"


def test_room_is_kept_for_what_must_be_written() -> None:
    """More than three quarters of the limit is refused, so that an end fits; those who left don't count."""
    one = conversation(*crowd(20))
    check_room(replace(one, past=crowd(60)), size(one) * 4 // 3 + 1)
    with pytest.raises(Refused) as caught:
        check_room(one, size(one) * 4 // 3 - 2)
    assert caught.value.code == "too_large"
    assert caught.value.details == {"bytes": size(one), "bytes_max": (size(one) * 4 // 3 - 2) * 3 // 4}
