"""How facts change the state: owner rules, what is remembered, what ends with what."""

from dataclasses import replace

import pytest

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import PAST_MAX, TAKEOVERS_MAX, Counters, Participant, Situation
from hub.domain.evolve import evolve, evolve_all
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
    conversation,
    counters,
    desk,
    disconnect,
    finish,
    monitor,
    person,
    prepare,
    prepared,
    situation,
    transfer,
    watched,
    wrapup,
)


def owned(given: Situation) -> tuple[str | None, int, int | None]:
    """Owner, epoch, and since when it waits."""
    one = given.existing
    return one.owner, one.owner_epoch, one.queued_since


def test_started() -> None:
    """A new conversation starts from nothing, whatever lay around."""
    given = evolve_all(
        situation(BOB, prepared=prepared(), counters=counters()), [e.ConversationStarted(1, conversation())]
    )
    assert given == Situation(NOW, conversation())


def test_owner_is_the_agent_or_bot_connected_longest() -> None:
    """The first one owns; when they leave the next; with none left nobody, and the conversation waits again."""
    given = after(Situation(NOW), begin(), connect(ROBO))
    assert owned(given) == ("prt_robo", 1, None)
    given = after(given, connect(BOB), connect(CAY))
    assert owned(given) == ("prt_robo", 1, None)
    given = after(given, disconnect(BOB))
    assert owned(given) == ("prt_robo", 1, None)
    given = after(given, disconnect(ROBO))
    assert owned(given) == ("prt_cay", 2, None)
    given = after(given, disconnect(CAY, at=NOW + 5))
    assert owned(given) == (None, 3, NOW + 5)
    assert given.existing.last_owner == "prt_cay"
    assert owned(after(given, connect(BOB)))[:2] == ("prt_bob", 4)


def test_coming_order_counts_not_the_platforms_clock() -> None:
    """Who came first stays the owner even if the platform dates somebody else earlier."""
    early = replace(CAY, since=0)
    assert owned(after(situation(BOB), connect(early)))[0] == "prt_bob"


def test_connected_agent_does_not_change_a_taken_over_conversation() -> None:
    """A supervisor owns until the end or a transfer, whoever connects."""
    given = after(watched(BOB, ROBO), prepare(), confirm())
    assert owned(given) == ("prt_ana", 2, None)
    given = after(given, connect(CAY))
    assert owned(given) == ("prt_ana", 2, None)
    assert owned(after(given, transfer())) == ("prt_cay", 3, None)


def test_leaving_an_unowned_conversation_changes_no_owner() -> None:
    """With nobody there and nobody owning, another one's leaving changes no owner."""
    given = evolve(situation(), e.ParticipantDisconnected(NOW, CAY, "client"))
    assert owned(given) == (None, 0, CUSTOMER.since)


def test_transfer_of_a_taken_over_conversation_without_agents() -> None:
    """With the supervisor out, it waits in the new queue."""
    given = after(watched(BOB), prepare(), confirm(), transfer())
    assert owned(given) == (None, 3, NOW)
    assert (given.existing.state, given.existing.queue, given.existing.taken_over) == ("queued", "billing", True)


def test_those_who_left_are_remembered_up_to_a_bound() -> None:
    """The last ones stay, each once, and who comes back isn't among them."""
    many = [Participant(f"prt_{number}", "bot", f"bot-{number}", "Bot", NOW) for number in range(PAST_MAX + 2)]
    given = situation(BOB)
    for one in many:
        given = after(given, connect(one), disconnect(one))
    assert given.existing.past == tuple(many[2:])
    back = after(given, connect(many[-1]))
    assert back.existing.past == tuple(many[2:-1])
    assert after(back, disconnect(many[-1])).existing.past == tuple(many[2:])


def test_leaving_twice_is_remembered_once() -> None:
    """Being removed under an id that is remembered already moves it to the end."""
    event = e.ParticipantDisconnected(NOW, BOB, "client")
    given = evolve(situation(BOB, CAY, past=(BOB, EVE)), event)
    assert given.existing.past == (EVE, BOB)


def test_ended() -> None:
    """The end keeps who was there, and takes owner, waiting and preparation away."""
    given = evolve(
        situation(BOB, CAY, counters=counters(), prepared=prepared()),
        e.ConversationEnded(NOW, "solved", None, by_platform=True),
    )
    one = given.existing
    assert (one.connected, one.at_end, one.owner, one.last_owner) == ((), (BOB, CAY), None, "prt_bob")
    assert (one.ended_at, one.end_reason, one.queued_since) == (NOW, "solved", None)
    assert given.prepared is None
    assert given.counters == Counters(messages=5, unanswered=2)


def test_wrapups() -> None:
    """One is open from being asked until handed in or timed out; others aren't touched."""
    given = situation(wrapups=(wrapup(CAY),))
    asked = evolve(given, e.WrapupRequested(NOW, wrapup(BOB)))
    assert asked.existing.wrapups == (wrapup(CAY), wrapup(BOB))
    assert evolve(asked, e.WrapupCompleted(NOW, wrapup(BOB), "resolved", None)) == given
    assert evolve(asked, e.WrapupTimedOut(NOW, wrapup(BOB))) == given


@pytest.mark.parametrize("prompt", ["optional", "mandatory", "timeout"])
def test_conversation_is_in_wrapup_for_its_last_owner_only(prompt: str) -> None:
    """It is `wrapup` while the last owner owes one, then `ended`; another's open one doesn't hold it up."""
    rule = replace(MANDATORY, prompt=prompt)
    given = after(watched(BOB, wrapup_rule=rule), prepare(), confirm(), finish())
    assert given.existing.state == "wrapup"
    given = after(given, c.SubmitWrapup(person(), "resolved", None))
    assert (given.existing.state, given.existing.settled) == ("ended", False)
    given = after(given, c.SubmitWrapup(desk("bob"), "resolved", None), c.AcknowledgeTakeover(desk("bob"), "tko_1"))
    assert given.existing.settled


def test_monitor_events() -> None:
    """A monitor begins, is joined, left and over; beginning and end void what was prepared."""
    started = evolve(situation(BOB, prepared=prepared()), e.MonitorStarted(NOW, monitor()))
    assert (started.monitor, started.prepared) == (monitor(), None)
    joined = evolve(started, e.MonitorJoined(NOW, "mon_ana", "ses_2", NOW + 5))
    assert joined.monitor == monitor().with_session("ses_2", NOW + 5)
    assert evolve(joined, e.MonitorLeft(NOW, "mon_ana", "ses_2")) == started
    ready = evolve(joined, e.TakeoverPrepared(NOW, prepared()))
    assert ready.prepared == prepared()
    assert evolve(ready, e.TakeoverCancelled(NOW, "tko_1", "ana")) == joined
    over = evolve(ready, e.MonitorEnded(NOW, monitor(), "stopped"))
    assert (over.monitor, over.prepared) == (None, None)
    assert over.conversation == started.conversation


def test_joining_or_leaving_nothing_is_our_mistake() -> None:
    """Such facts can't have been decided."""
    for event in (e.MonitorJoined(NOW, "mon_ana", "ses_2", NOW), e.MonitorLeft(NOW, "mon_ana", "ses_2")):
        with pytest.raises(AssertionError):
            evolve(situation(BOB), event)


def test_taken_over() -> None:
    """Only the supervisor is left, owns under the next epoch, and those removed are remembered with their notices."""
    given = watched(BOB, ROBO, prepared=prepared(), queued_since=None)
    one = after(given, confirm()).existing
    assert [each.participant_id for each in one.connected] == ["prt_ana"]
    assert (one.owner, one.owner_epoch, one.last_owner, one.taken_over) == ("prt_ana", 2, "prt_ana", True)
    assert one.past == (BOB, ROBO)
    assert one.takeovers == ("tko_1",)
    assert [each.user_id for each in one.notices] == ["bob", "robo"]


def test_takeovers_are_remembered_up_to_a_bound() -> None:
    """The last few are enough to know a repeated confirmation."""
    earlier = tuple(f"tko_old{number}" for number in range(TAKEOVERS_MAX))
    one = after(watched(BOB, prepared=prepared(), takeovers=earlier), confirm()).existing
    assert one.takeovers == (*earlier[1:], "tko_1")


def test_acknowledged() -> None:
    """One notice of one person is gone, the others stay."""
    given = after(watched(BOB, CAY), prepare(), confirm())
    left = evolve(given, e.TakeoverAcknowledged(NOW, "tko_1", "bob"))
    assert [one.user_id for one in left.existing.notices] == ["cay"]
