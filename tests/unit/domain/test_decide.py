"""The rules: each command accepted and refused from one setup, in the order of the protocol's section 2."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import Notice, Participant, Situation, WrapupRule
from hub.domain.decide import consequences, decide, holding, public, speaker, visible
from hub.domain.errors import Refused
from hub.domain.grants import Person
from tests.unit.domain.words import (
    BOB,
    CAY,
    CUSTOMER,
    EVE,
    LEASE_MS,
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
    ended,
    finish,
    lacking,
    messenger,
    monitor,
    names,
    person,
    prepare,
    prepared,
    refused,
    situation,
    transfer,
    watch,
    watched,
    wrapup,
)

NOBODY = Situation(NOW)
ENDED = situation(ended_at=NOW - 1, end_reason="solved", at_end=(BOB,), last_owner="prt_bob", queued_since=None)
LAPSED = monitor("zoe", BOB, until=NOW)
ELSEWHERE = person(queues=frozenset({"billing"}))

# -- who may see it ----------------------------------------------------------------------------------------------------

OF_PEOPLE: list[Callable[[Person], c.Command]] = [
    watch,
    c.StopMonitor,
    lambda who: c.ReleaseMonitor(who, "needed"),
    prepare,
    confirm,
    lambda who: c.CancelTakeover(who, "tko_1"),
    lambda who: c.AcknowledgeTakeover(who, "tko_1"),
    lambda who: c.SubmitWrapup(who, "resolved", None),
    c.EndConversation,
]
SUPERVISING = (watch, c.StopMonitor, lambda who: c.ReleaseMonitor(who, "needed"), prepare, confirm)
OF_PLATFORMS: list[Callable[[str], c.Command]] = [
    lambda connector: connect(BOB, connector),
    lambda connector: disconnect(BOB, connector),
    lambda connector: transfer(connector=connector),
    finish,
]


@pytest.mark.parametrize("command", OF_PEOPLE)
@pytest.mark.parametrize(
    "stranger",
    [
        person(org="other"),
        person(queues=frozenset({"billing"})),
        person(divisions=frozenset({"abroad"})),
        desk("zoe"),
        messenger("cnv_2"),
        messenger(None),
    ],
)
def test_hidden_conversations_are_unknown(command: Callable[[Person], c.Command], stranger: Person) -> None:
    """Another organization's, another queue's, another division's and a missing one are refused in the same words."""
    hidden = refused("unknown_conversation", watched(BOB), command(stranger))
    missing = refused("unknown_conversation", NOBODY, command(stranger))
    assert (str(hidden), hidden.details) == (str(missing), missing.details)


@pytest.mark.parametrize("command", OF_PEOPLE)
def test_hiding_comes_before_permission(command: Callable[[Person], c.Command]) -> None:
    """Who may not see a conversation isn't told what permission they lack."""
    refused("unknown_conversation", watched(BOB), command(replace(ELSEWHERE, permissions=frozenset())))


def test_visible_to_whom_it_concerns() -> None:
    """A supervisor of queue and division, each agent who was ever in it, and its customer see a conversation."""
    given = situation(BOB, past=(CAY,))
    for who in (person(), desk("bob"), desk("cay"), messenger()):
        assert visible(given, who) == given.conversation


@pytest.mark.parametrize(
    "given",
    [
        situation(EVE),
        replace(ENDED, conversation=replace(ENDED.existing, at_end=(EVE,))),
        situation(BOB, past=(EVE,), wrapups=(wrapup(EVE),)),
        situation(BOB, past=(EVE,), notices=(Notice("tko_1", "eve", "prt_eve", "Ana", NOW, "none", (), 0),)),
    ],
)
def test_supervisors_see_what_they_take_part_in(given: Situation) -> None:
    """Who answers, answered at the end, owes a wrap-up or has a notice sees it outside their queues, and can't monitor it."""
    elsewhere = replace(ELSEWHERE, user_id="eve")
    assert visible(given, elsewhere) == given.conversation
    for command in SUPERVISING:
        refused("unknown_conversation", given, command(elsewhere))


def test_having_answered_once_gives_no_rights() -> None:
    """
    A supervisor whose part is over sees a conversation outside their queues no more.

    Who took over in their own queue could once watch and take over again when it had been transferred to another one.
    """
    of_support = person("max", queues=frozenset({"support"}))
    given = after(situation(BOB), watch(of_support), prepare(of_support), confirm(of_support), transfer("billing"))
    given = after(given, connect(CAY))
    assert (given.existing.queue, given.existing.owner) == ("billing", "prt_cay")
    for command in (*SUPERVISING, lambda who: c.CancelTakeover(who, "tko_1")):
        refused("unknown_conversation", given, command(of_support))
    with pytest.raises(Refused):
        visible(given, of_support)
    assert visible(given, desk("max")) == given.conversation
    assert names(decide(given, watch(participant_id="prt_cay"))) == ["MonitorStarted"]


def test_rights_over_a_conversation_that_is_transferred_back() -> None:
    """Back in their queue it is theirs to supervise again, and the wrap-up that they owe can be handed in meanwhile."""
    of_support = person("max", queues=frozenset({"support"}))
    given = after(situation(BOB, wrapup_rule=MANDATORY), watch(of_support), prepare(of_support), confirm(of_support))
    given = after(given, transfer("billing"), connect(CAY))
    refused("unknown_conversation", given, watch(of_support))
    assert names(decide(given, c.SubmitWrapup(of_support, "resolved", None))) == ["WrapupCompleted"]
    assert names(decide(after(given, transfer("support")), watch(of_support, participant_id="prt_cay"))) == [
        "MonitorStarted"
    ]


@pytest.mark.parametrize("command", OF_PLATFORMS)
def test_platforms_own_their_conversations(command: Callable[[str], c.Command]) -> None:
    """A conversation answers to the connector that started it; those of the web messenger to whoever serves them."""
    given = situation(BOB)
    decide(given, command("platform"))
    refused("unknown_conversation", given, command("other"))
    refused("unknown_conversation", NOBODY, command("platform"))
    decide(situation(BOB, connector=""), command("other"))


@pytest.mark.parametrize("command", OF_PLATFORMS)
def test_platforms_change_nothing_after_the_end(command: Callable[[str], c.Command]) -> None:
    """Ownership is looked at first, then whether it has ended."""
    refused("conversation_ended", ENDED, command("platform"))
    refused("unknown_conversation", ENDED, command("other"))


# -- the platform's events ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["web", "open", "sms"])
def test_start(channel: str) -> None:
    """A new conversation has its customer, waits in its queue and has no owner."""
    (event,) = decide(NOBODY, begin(channel=channel, panels=(("customer", "{}"),)))
    assert isinstance(event, e.ConversationStarted)
    assert event.conversation == conversation(channel=channel)
    assert event.panels == (("customer", "{}"),)


def test_start_is_refused_in_order() -> None:
    """Another connector's id is unknown, one's own done already, and only then the channel is looked at."""
    given = situation()
    refused("unknown_conversation", given, begin(connector="other", channel="fax"))
    refused("already_done", given, begin(channel="fax"))
    unsupported = refused("channel_unsupported", NOBODY, begin(channel="fax"))
    assert unsupported.details == {"channel": "fax", "supported": ["web", "open", "sms"]}


def test_connect() -> None:
    """Somebody comes; the same one again is accepted without effect, somebody else under their id is refused."""
    given = situation(BOB)
    assert decide(given, connect(CAY)) == [e.ParticipantConnected(CAY.since, CAY)]
    assert decide(given, connect(BOB)) == []
    assert decide(given, connect(replace(BOB, name="Robert"))) == []
    for other in (replace(BOB, user_id="zoe"), replace(BOB, purpose="bot"), replace(BOB, participant_id="prt_dana")):
        assert refused("schema_invalid", given, connect(other)).details["path"] == "data.participant_id"


def test_disconnect() -> None:
    """Somebody goes; who isn't there is accepted without effect; customer and supervisor don't go this way."""
    given = situation(BOB, EVE)
    assert decide(given, disconnect(BOB)) == [e.ParticipantDisconnected(NOW, BOB, "client")]
    assert decide(given, disconnect(CAY)) == []
    for one in (CUSTOMER, EVE):
        assert refused("not_permitted", given, disconnect(one)).details == {"purpose": one.purpose}


def test_transfer_keeps_agents() -> None:
    """Agents stay until the platform disconnects them."""
    given = situation(BOB)
    moved = e.ConversationTransferred(NOW, "billing", "home", from_queue="support")
    assert decide(given, transfer()) == [moved]


def test_transfer_ends_an_owning_supervisors_part() -> None:
    """A supervisor who owns is out, owes wrap-up by the old queue's rule, and the monitor at their side ends."""
    given = watched(EVE, wrapup_rule=MANDATORY)
    events = decide(given, transfer())
    assert names(events) == [
        "ConversationTransferred",
        "ParticipantDisconnected",
        "WrapupRequested",
        "MonitorEnded",
    ]
    gone = events[1]
    assert isinstance(gone, e.ParticipantDisconnected)
    assert (gone.participant, gone.disconnect_type) == (EVE, "transfer")
    assert ended(given, transfer()).reason == "agent_left"


@pytest.mark.parametrize(
    ("queues", "divisions", "to", "reason"),
    [
        (("*",), ("*",), ("billing", "abroad"), None),
        (("support", "billing"), ("home",), ("billing", "home"), None),
        (("support",), ("*",), ("billing", "home"), "permission_lost"),
        (("*",), ("home",), ("billing", "abroad"), "permission_lost"),
    ],
)
def test_transfer_out_of_the_monitors_rights(
    queues: tuple[str, ...], divisions: tuple[str, ...], to: tuple[str, str], reason: str | None
) -> None:
    """A monitor ends where the conversation goes to a queue or a division that its holder doesn't have."""
    given = situation(BOB, monitor=replace(monitor(), queues=queues, divisions=divisions))
    events = decide(given, transfer(*to))
    assert [one.reason for one in events if isinstance(one, e.MonitorEnded)] == ([reason] if reason else [])


def test_end_by_platform() -> None:
    """Everybody's part ends by one fact; the monitor ends with it."""
    given = watched(BOB)
    events = decide(given, finish())
    assert events == [
        e.ConversationEnded(NOW, "solved", None, by_platform=True),
        e.MonitorEnded(NOW, given.monitor, "conversation_ended"),  # type: ignore[arg-type]
    ]


def test_end_by_inactivity() -> None:
    """A silent conversation ends, once; ended and missing ones are left alone."""
    assert decide(situation(), c.EndIdle()) == [e.ConversationEnded(NOW, "inactivity", None, by_platform=False)]
    assert decide(ENDED, c.EndIdle()) == []
    assert decide(NOBODY, c.EndIdle()) == []


def test_an_erased_customers_conversation_ends_and_asks_nobody_for_anything() -> None:
    """It ends, so does its monitor, open wrap-ups end unasked, none is asked for; what has ended or isn't there is left."""
    owed = wrapup(BOB, due_at=NOW + 1)
    events = decide(replace(watched(BOB), conversation=replace(watched(BOB).existing, wrapups=(owed,))), c.EndErased())
    assert [type(one) for one in events] == [e.WrapupTimedOut, e.ConversationEnded, e.MonitorEnded]
    assert events[1] == e.ConversationEnded(NOW, "erased", None, by_platform=False)
    assert isinstance(events[2], e.MonitorEnded)
    assert events[2].reason == "conversation_ended"
    assert decide(ENDED, c.EndErased()) == []
    assert decide(NOBODY, c.EndErased()) == []


# -- people in the conversation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "who"),
    [(BOB, desk("bob")), (ROBO, desk("robo")), (EVE, person("eve")), (BOB, messenger())],
)
def test_owner_and_customer_speak_and_end(owner: Participant, who: Person) -> None:
    """The owner, of whatever purpose, and the customer may speak and may end the conversation."""
    given = situation(owner, CAY)
    expected = CUSTOMER if who.role == "customer" else owner
    assert speaker(given, who) == expected
    (event,) = decide(given, c.EndConversation(who))
    assert isinstance(event, e.ConversationEnded)
    assert (event.at, event.reason, event.by_platform) == (NOW, expected.purpose, False)
    # The ledger's `by` names people of the company; it once named the customer by the platform's own id.
    assert event.by_user == (None if who.role == "customer" else owner.user_id)


@pytest.mark.parametrize("who", [desk("cay"), person(), person("bob"), desk("eve")])
def test_others_do_not_answer(who: Person) -> None:
    """Another agent, a supervisor who only watches, and the owner's user in another role are refused alike."""
    given = watched(BOB, CAY, past=(EVE,))
    assert refused("stale_owner", given, c.EndConversation(who)).details == {"owner": "prt_bob", "owner_epoch": 1}


def test_nobody_owns_a_queued_conversation() -> None:
    """Who has left is no owner any more."""
    given = situation(past=(BOB,), owner_epoch=2)
    assert refused("stale_owner", given, c.EndConversation(desk("bob"))).details == {"owner": None, "owner_epoch": 2}


@pytest.mark.parametrize("who", [desk("bob"), messenger(), person()])
def test_end_after_the_end(who: Person) -> None:
    """That it has ended is said before who answers."""
    refused("conversation_ended", ENDED, c.EndConversation(who))


# -- wrap-up -----------------------------------------------------------------------------------------------------------

ENDINGS: list[tuple[Participant, c.Command]] = [
    (BOB, disconnect()),
    (BOB, finish()),
    (BOB, c.EndConversation(messenger())),
    (BOB, c.EndIdle()),
    (EVE, transfer()),
    (EVE, c.EndConversation(person("eve"))),
]


@pytest.mark.parametrize(("owner", "command"), ENDINGS)
@pytest.mark.parametrize("prompt", ["optional", "mandatory", "timeout"])
def test_wrapup_is_asked_of_the_owner(owner: Participant, command: c.Command, prompt: str) -> None:
    """Whoever owned owes one when their part ends, as the queue says, whatever ended it."""
    given = situation(owner, CAY, wrapup_rule=WrapupRule(prompt, ("resolved",), 30_000, 40_000))
    (event,) = [one for one in decide(given, command) if isinstance(one, e.WrapupRequested)]
    asked = event.wrapup
    assert (asked.participant_id, asked.user_id, asked.name) == (owner.participant_id, owner.user_id, owner.name)
    assert (asked.prompt, asked.codes, asked.timeout_ms) == (prompt, ("resolved",), 30_000)
    assert (asked.asked_at, asked.due_at) == (NOW, NOW + 40_000)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        *((situation(owner, CAY), command) for owner, command in ENDINGS),
        (situation(ROBO, wrapup_rule=MANDATORY), finish()),
        (situation(BOB, CAY, wrapup_rule=MANDATORY), disconnect(CAY)),
        (situation(wrapup_rule=MANDATORY), finish()),
        (situation(BOB, wrapup_rule=MANDATORY, wrapups=(wrapup(BOB),)), finish()),
    ],
)
def test_wrapup_is_not_asked(given: Situation, command: c.Command) -> None:
    """Not with `none`, never of a bot, not of who didn't own, and not twice of one participant."""
    assert "WrapupRequested" not in names(decide(given, command))


def test_time_limit_runs_on_the_stores_clock() -> None:
    """A platform's clock that is wrong by an hour neither shortens nor lengthens a wrap-up."""
    given = situation(BOB, wrapup_rule=MANDATORY)
    (_, event) = decide(given, disconnect(at=NOW - 3_600_000))
    assert isinstance(event, e.WrapupRequested)
    assert (event.wrapup.asked_at, event.wrapup.due_at) == (NOW - 3_600_000, NOW + MANDATORY.due_ms)


def test_submit_wrapup() -> None:
    """Who owes one hands it in with one of the queue's codes; then it is done already."""
    given = situation(CAY, wrapups=(wrapup(BOB),), past=(BOB,))
    command = c.SubmitWrapup(desk("bob"), "resolved", "all well")
    assert decide(given, command) == [e.WrapupCompleted(NOW, wrapup(BOB), "resolved", "all well")]
    wrong = refused("schema_invalid", given, replace(command, code="made-up"))
    assert wrong.details == {"path": "code", "got": "made-up", "allowed": ["resolved"]}
    refused("already_done", given, replace(command, person=desk("cay")))
    refused("already_done", after(given, command), command)


def test_submit_wrapup_where_the_queue_names_no_codes() -> None:
    """Any word will do where the configuration lists none."""
    given = situation(CAY, wrapups=(wrapup(BOB, codes=()),))
    assert names(decide(given, c.SubmitWrapup(desk("bob"), "whatever", None))) == ["WrapupCompleted"]


def test_time_out_wrapups() -> None:
    """Those that are due end by themselves; the others stay open."""
    due, open_ = wrapup(BOB, due_at=NOW), wrapup(CAY, due_at=NOW + 1)
    given = situation(wrapups=(due, open_))
    assert decide(given, c.TimeOutWrapups()) == [e.WrapupTimedOut(NOW, due)]
    assert decide(NOBODY, c.TimeOutWrapups()) == []


# -- monitoring --------------------------------------------------------------------------------------------------------


def test_start_monitor() -> None:
    """A monitor begins at the only one there, under the rights that it was asked with."""
    who = person(queues=frozenset({"support", "billing"}), divisions=frozenset({"home"}))
    (event,) = decide(situation(BOB), watch(who))
    assert isinstance(event, e.MonitorStarted)
    begun = event.monitor
    assert (event.at, begun.since, begun.monitor_id) == (NOW, NOW, "mon_ana")
    assert (begun.user_id, begun.name, begun.participant_id) == ("ana", "Ana", "prt_bob")
    assert (begun.queues, begun.divisions) == (("billing", "support"), ("home",))
    assert [(one.session, one.lease_end) for one in begun.sessions] == [("ses_ana", NOW + LEASE_MS)]


@pytest.mark.parametrize("target", [BOB, ROBO, EVE])
def test_start_monitor_at_agents_bots_and_supervisors(target: Participant) -> None:
    """Each who may answer can be the target, named or alone; what is named needn't be alone."""
    for given in (situation(target), situation(target, CAY)):
        command = watch(participant_id=target.participant_id)
        (event,) = decide(given, command)
        assert isinstance(event, e.MonitorStarted)
        assert event.monitor.participant_id == target.participant_id


def test_start_monitor_is_refused_in_the_protocols_order() -> None:
    """Everything is wrong at first; put right one after the other, the next thing wrong is what one is told."""
    held = monitor("zoe")
    nobody = situation(monitor=held)
    several = situation(BOB, CAY, monitor=held)
    wrong = watch(replace(ELSEWHERE, permissions=frozenset()), status="busy")
    refused("unknown_conversation", nobody, wrong)
    wrong = replace(wrong, person=lacking("monitor"))
    assert refused("not_permitted", nobody, wrong).details == {"permission": "monitor"}
    wrong = replace(wrong, person=person())
    assert refused("not_available", nobody, wrong).details == {"status": "busy"}
    wrong = replace(wrong, status="available")
    assert refused("not_in_progress", nobody, wrong).details == {"state": "queued"}
    holder = {"user_id": "zoe", "name": "Zoe", "since": NOW - 4_000}
    assert refused("monitor_held", several, wrong).details == {"holder": holder}
    several = replace(several, monitor=None)
    refused("target_ambiguous", several, wrong)
    assert names(decide(several, replace(wrong, participant_id="prt_cay"))) == ["MonitorStarted"]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (situation(), "queued"),
        (ENDED, "ended"),
        (replace(ENDED, conversation=replace(ENDED.existing, wrapups=(wrapup(BOB),))), "wrapup"),
    ],
)
def test_only_conversations_in_progress_are_monitored(given: Situation, state: str) -> None:
    """Queued, in wrap-up and ended ones aren't."""
    assert refused("not_in_progress", given, watch()).details == {"state": state}


@pytest.mark.parametrize("status", ["busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline"])
def test_only_the_available_start(status: str) -> None:
    """Every status but `available` forbids a new monitor."""
    refused("not_available", situation(BOB), watch(status=status))


def test_ambiguous_target_lists_the_candidates() -> None:
    """With several there, and with one named who isn't, all who could be meant are told."""
    candidates = [public(BOB), public(ROBO)]
    for command in (watch(), watch(participant_id="prt_cay"), watch(participant_id="prt_dana")):
        assert refused("target_ambiguous", situation(BOB, ROBO), command).details == {"candidates": candidates}


def test_ones_own_part_is_no_target() -> None:
    """Who owns the conversation has nothing to monitor in it."""
    given = situation(EVE)
    refused("already_done", given, watch(person("eve")))
    refused("already_done", given, watch(person("eve"), participant_id="prt_eve"))
    assert names(decide(given, watch())) == ["MonitorStarted"]
    refused("already_done", situation(CAY, BOB), watch(person("bob"), participant_id="prt_bob"))


def test_who_answers_does_not_monitor_another() -> None:
    """
    A supervisor who is in the conversation watches nobody in it, whoever is named.

    Beside an agent who came later they could once take over from themselves, and were told of it and asked to wrap up.
    """
    given = after(watched(BOB), prepare(), confirm(), connect(CAY))
    for participant_id in ("prt_cay", "prt_ana", "prt_none", None):
        refused("already_done", given, watch(participant_id=participant_id, monitor_id="mon_2"))
    again = watch(person("zoe"), participant_id="prt_cay", monitor_id="mon_zoe")
    assert names(decide(given, again)) == ["MonitorStarted"]


def test_second_session_of_the_holder_joins() -> None:
    """Another tab joins whatever the own status; the same tab again changes nothing."""
    given = watched(BOB)
    assert decide(given, watch(session="ses_2", status="away", lease_end=NOW + 5)) == [
        e.MonitorJoined(NOW, "mon_ana", "ses_2", NOW + 5)
    ]
    assert decide(given, watch(status="away")) == []
    refused("not_permitted", given, watch(lacking("monitor")))


def test_lapsed_session_of_a_living_monitor_joins_again() -> None:
    """
    Where another tab keeps the monitor alive, a start from the session whose own lease is over gives it a new one.

    It was once answered without effect; a renewal extends no lapsed lease, so that tab lost the monitor soon after.
    """
    held = monitor(until=NOW).with_session("ses_2", NOW + 9_000)
    given = watched(BOB, monitor=held)
    for command in (prepare(), replace(confirm(), takeover_id="tko_9")):
        refused("lease_lost", given, command)
    assert names(decide(given, prepare(session="ses_2"))) == ["TakeoverPrepared"]
    end = NOW + LEASE_MS
    assert decide(given, watch(lease_end=end)) == [e.MonitorJoined(NOW, "mon_ana", "ses_ana", end)]
    again = after(given, watch(lease_end=end))
    assert again.monitor is not None
    assert {one.session: one.lease_end for one in again.monitor.sessions} == {"ses_2": NOW + 9_000, "ses_ana": end}
    assert decide(again, watch(lease_end=end + 1)) == []
    assert names(decide(again, prepare())) == ["TakeoverPrepared"]


@pytest.mark.parametrize("holder", ["zoe", "ana"])
def test_lapsed_monitor_gives_way(holder: str) -> None:
    """A lease that is over holds nobody up, and its end stands before the new beginning."""
    given = situation(BOB, monitor=monitor(holder, until=NOW))
    events = decide(given, watch(monitor_id="mon_new"))
    assert names(events) == ["MonitorEnded", "MonitorStarted"]
    over = ended(given, watch())
    assert (over.monitor.user_id, over.reason, over.by) == (holder, "lease_expired", None)
    refused("not_available", given, watch(status="busy"))


def test_holding_looks_at_the_lease() -> None:
    """A monitor counts for as long as its lease runs."""
    assert holding(watched(BOB)) == monitor()
    assert holding(situation(BOB, monitor=LAPSED)) is None
    assert holding(situation(BOB)) is None


def test_stop_monitor() -> None:
    """The holder ends it from any session; nobody else does, nor where there is none."""
    given = watched(BOB)
    stop = c.StopMonitor(person())
    assert decide(given, stop) == [e.MonitorEnded(NOW, monitor(), "stopped", ("ana", "Ana"))]
    refused("not_monitoring", given, c.StopMonitor(person("zoe")))
    refused("not_monitoring", situation(BOB), stop)


def test_release_monitor() -> None:
    """With the right to it, another's monitor is ended, with the sentence that was given."""
    given = watched(BOB)
    release = c.ReleaseMonitor(person("zoe"), "shift is over")
    assert decide(given, release) == [e.MonitorEnded(NOW, monitor(), "force_released", ("zoe", "Zoe"), "shift is over")]
    refused("not_permitted", given, replace(release, person=lacking("release", "zoe")))
    refused("not_permitted", situation(BOB), replace(release, person=lacking("release", "zoe")))
    refused("not_monitoring", situation(BOB), release)


def test_leave_monitor() -> None:
    """The last session that goes on purpose ends it; one of several just leaves; strangers do nothing."""
    given = watched(BOB)
    two = replace(given, monitor=monitor().with_session("ses_2", NOW + 1))
    leave = c.LeaveMonitor("ana", "ses_ana")
    assert decide(given, leave) == [e.MonitorEnded(NOW, monitor(), "stopped", ("ana", "Ana"))]
    assert decide(two, leave) == [e.MonitorLeft(NOW, "mon_ana", "ses_ana")]
    assert decide(given, c.LeaveMonitor("ana", "ses_other")) == []
    assert decide(given, c.LeaveMonitor("zoe", "ses_ana")) == []
    assert decide(situation(BOB), leave) == []


def test_leaving_a_lapsed_session_behind() -> None:
    """A session whose lease is over keeps nothing alive for the one that goes."""
    given = watched(BOB, monitor=monitor().with_session("ses_2", NOW))
    assert ended(given, c.LeaveMonitor("ana", "ses_ana")).reason == "stopped"


def test_lost_permission_ends_it_for_all_sessions() -> None:
    """A revoked token takes the monitor from each of its holder's sessions."""
    given = watched(BOB, monitor=monitor().with_session("ses_2", NOW + 1))
    revoked = c.LeaveMonitor("ana", "ses_elsewhere", revoked=True)
    assert decide(given, revoked) == [e.MonitorEnded(NOW, given.monitor, "permission_lost")]  # type: ignore[arg-type]
    assert decide(given, replace(revoked, user_id="zoe")) == []


def test_expire_monitor() -> None:
    """A lease that is over ends the monitor; one that runs, or none at all, is left alone."""
    given = situation(BOB, monitor=LAPSED)
    assert decide(given, c.ExpireMonitor()) == [e.MonitorEnded(NOW, LAPSED, "lease_expired")]
    assert decide(watched(BOB), c.ExpireMonitor()) == []
    assert decide(situation(BOB), c.ExpireMonitor()) == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (c.StopMonitor(person()), "stopped"),
        (finish(), "conversation_ended"),
        (c.EndConversation(messenger()), "conversation_ended"),
        (c.EndIdle(), "conversation_ended"),
        (disconnect(BOB), "agent_left"),
        (c.ReleaseMonitor(person("zoe"), "needed"), "force_released"),
        (confirm(), "taken_over"),
        (c.LeaveMonitor("ana", "", revoked=True), "permission_lost"),
    ],
)
def test_every_reason_frees_the_conversation(command: c.Command, reason: str) -> None:
    """However it ends, the reason is the protocol's, nothing is held any more and nothing stays prepared."""
    given = watched(BOB, CAY, prepared=prepared())
    assert ended(given, command).reason == reason
    left = after(given, command)
    assert (left.monitor, left.prepared) == (None, None)


def test_monitor_stays_when_somebody_else_goes() -> None:
    """Only the one at whose side it is matters to a monitor."""
    assert names(decide(watched(BOB, CAY), disconnect(CAY))) == ["ParticipantDisconnected"]


def test_it_can_be_started_again() -> None:
    """A stopped monitor can be started any number of times."""
    given = situation(BOB)
    for number in range(3):
        given = after(given, watch(monitor_id=f"mon_{number}"), c.StopMonitor(person()))
    assert given.monitor is None


# -- takeover ----------------------------------------------------------------------------------------------------------


def test_prepare() -> None:
    """What is prepared is bound to asker, monitor and owner, and voids what was prepared before."""
    given = watched(BOB, prepared=prepared(takeover_id="tko_old"))
    (event,) = decide(given, prepare())
    assert event == e.TakeoverPrepared(NOW, prepared())
    assert after(given, prepare()).prepared == prepared()


@pytest.mark.parametrize("command", [prepare, confirm])
def test_takeover_needs_permission_then_a_live_monitor(command: Callable[[Person], c.Command]) -> None:
    """Permission first; then a monitor, of this person, joined by this session, whose lease runs."""
    given = watched(BOB, prepared=prepared())
    decide(given, command(person()))
    without = replace(given, monitor=None)
    refused("unknown_conversation", without, command(ELSEWHERE))
    assert refused("not_permitted", without, command(lacking("takeover"))).details == {"permission": "takeover"}
    refused("not_monitoring", without, command(person()))
    refused("not_monitoring", replace(given, monitor=monitor("zoe")), command(person()))
    refused("not_monitoring", replace(given, monitor=monitor("ana", BOB, "ses_other")), command(person()))
    refused("lease_lost", replace(given, monitor=monitor(until=NOW)), command(person()))


@pytest.mark.parametrize("rule", [WrapupRule(), WrapupRule("optional"), MANDATORY, WrapupRule("timeout", ("a",), 5, 6)])
@pytest.mark.parametrize("visible_name", [True, False])
def test_consequences(rule: WrapupRule, visible_name: bool) -> None:
    """One is told who goes, what wrap-up is asked, whether the name is shown and how many questions are open."""
    given = watched(BOB, ROBO, wrapup_rule=rule, name_visible=visible_name, counters=counters(unanswered=2))
    asked = {"prompt": rule.prompt, "codes": list(rule.codes), "timeout_ms": rule.timeout_ms}
    assert consequences(given) == {
        "removed": [public(BOB), public(ROBO)],
        "wrapup": None if rule.prompt == "none" else asked,
        "name_visible": visible_name,
        "unanswered": 2,
    }


def test_consequences_for_bots_only() -> None:
    """A bot never owes a wrap-up."""
    assert consequences(watched(ROBO, wrapup_rule=MANDATORY))["wrapup"] is None


def test_confirm_is_refused_in_the_protocols_order() -> None:
    """What is wrong with the confirmation itself comes after the monitor, being late after being wrong."""
    given = watched(BOB, prepared=prepared())
    late = prepared(expires_at=NOW)
    refused("confirmation_required", replace(given, prepared=None), confirm())
    refused("confirmation_required", replace(given, prepared=late), confirm(takeover_id="tko_2"))
    refused("confirmation_required", replace(given, prepared=replace(late, user_id="zoe")), confirm())
    refused("confirmation_required", replace(given, prepared=replace(late, monitor_id="mon_old")), confirm())
    refused("confirmation_required", replace(given, prepared=late), confirm(token_hash="wrong"))
    refused("confirmation_expired", replace(given, prepared=late), confirm())
    refused("confirmation_expired", replace(given, prepared=prepared(owner_epoch=0)), confirm())
    assert names(decide(given, confirm())) == ["TakenOver", "MonitorEnded"]


def test_another_owner_since_the_preparation() -> None:
    """What was prepared under one owner isn't confirmed under the next; somebody more in the conversation is no matter."""
    given = situation(CAY, BOB, monitor=monitor(), prepared=prepared())
    refused("confirmation_expired", after(given, disconnect(CAY)), confirm())
    assert names(decide(after(given, connect(ROBO)), confirm()))[0] == "TakenOver"


def test_takeover_removes_all_who_answer() -> None:
    """Agents, bots and an owning supervisor go by one fact, each is told; agents and supervisors owe wrap-up, bots don't."""
    given = watched(EVE, BOB, ROBO, prepared=prepared(), wrapup_rule=MANDATORY)
    taken, *asked, over = decide(given, confirm())
    assert isinstance(taken, e.TakenOver)
    assert taken.removed == (EVE, BOB, ROBO)
    assert taken.supervisor == Participant("prt_ana", "supervisor", "ana", "Ana", NOW)
    told = [(one.user_id, one.takeover_id, one.supervisor_name, one.at) for one in taken.notices]
    assert told == [(user, "tko_1", "Ana", NOW) for user in ("eve", "bob", "robo")]
    wrapups = [(one.prompt, one.codes, one.timeout_ms) for one in taken.notices]
    assert wrapups == [("mandatory", MANDATORY.codes, 30_000)] * 2 + [("none", (), 0)]
    assert [one.wrapup.user_id for one in asked if isinstance(one, e.WrapupRequested)] == ["eve", "bob"]
    assert over == e.MonitorEnded(NOW, monitor(target=EVE), "taken_over", ("ana", "Ana"))


def test_takeover_without_wrapup() -> None:
    """Where the queue asks nothing, the notice says so."""
    taken, *_ = decide(watched(BOB, prepared=prepared()), confirm())
    assert isinstance(taken, e.TakenOver)
    assert taken.notices == (Notice("tko_1", "bob", "prt_bob", "Ana", NOW, "none", (), 0),)


def test_takeover_happens_once() -> None:
    """The same confirmation again is done already, and so is its cancelling; a stranger isn't told as much."""
    given = after(watched(BOB), prepare(), confirm())
    refused("already_done", given, confirm())
    refused("already_done", given, c.CancelTakeover(person(), "tko_1"))
    refused("not_monitoring", given, confirm(person("zoe")))
    # Permission is looked at before; it once came after, and told those without it what was done.
    refused("not_permitted", given, confirm(lacking("takeover")))
    refused("not_permitted", given, confirm(lacking("takeover", "zoe")))
    # Who was there and is still seen to be is told, also outside their queues.
    refused("already_done", given, confirm(ELSEWHERE))


def test_taken_over_supervisor_can_be_taken_over() -> None:
    """The supervisor who owns is monitored and taken over like an agent."""
    given = after(watched(BOB), prepare(), confirm(), watch(person("zoe"), monitor_id="mon_zoe"))
    again = after(given, prepare(person("zoe"), takeover_id="tko_2"), confirm(person("zoe"), takeover_id="tko_2"))
    assert (again.existing.owner, again.existing.owner_epoch) == ("prt_zoe", 3)
    assert [one.user_id for one in again.existing.notices] == ["bob", "ana"]


def test_cancel() -> None:
    """Who prepared it takes it back, without a monitor, too; others and other ids are refused."""
    given = situation(BOB, prepared=prepared())
    cancel = c.CancelTakeover(person(), "tko_1")
    assert decide(given, cancel) == [e.TakeoverCancelled(NOW, "tko_1", "ana")]
    refused("confirmation_required", given, c.CancelTakeover(person("zoe"), "tko_1"))
    refused("confirmation_required", given, c.CancelTakeover(person(), "tko_2"))
    refused("confirmation_required", after(given, cancel), cancel)


def test_cancelled_takeover_cannot_be_confirmed() -> None:
    """What was taken back needs a new preparation."""
    given = watched(BOB, prepared=prepared())
    refused("confirmation_required", after(given, c.CancelTakeover(person(), "tko_1")), confirm())


def test_acknowledge() -> None:
    """Each removed one acknowledges their own notice, once."""
    given = after(watched(BOB, CAY), prepare(), confirm())
    acknowledge = c.AcknowledgeTakeover(desk("bob"), "tko_1")
    assert decide(given, acknowledge) == [e.TakeoverAcknowledged(NOW, "tko_1", "bob")]
    refused("already_done", given, replace(acknowledge, takeover_id="tko_2"))
    refused("already_done", given, c.AcknowledgeTakeover(person(), "tko_1"))
    refused("already_done", after(given, acknowledge), acknowledge)
    assert names(decide(after(given, acknowledge), c.AcknowledgeTakeover(desk("cay"), "tko_1"))) == [
        "TakeoverAcknowledged"
    ]


def test_unacknowledged_notice_keeps_it_unsettled() -> None:
    """
    An ended conversation waits for each notice, also a bot's that has no desk to acknowledge at; silence changes nothing.

    Such ones never get into the index of the closed ones, so that the sweeper has to erase them by the time of their end.
    """
    given = after(watched(ROBO), prepare(), confirm(), finish())
    assert given.existing.state == "ended"
    assert not given.existing.settled
    assert decide(given, c.EndIdle()) == []
    assert after(given, c.AcknowledgeTakeover(desk("robo"), "tko_1")).existing.settled


def test_refusal_changes_nothing() -> None:
    """A refused command leaves the situation as it was, down to the last value."""
    given = watched(BOB, prepared=prepared())
    copy = replace(given)
    with pytest.raises(Refused):
        decide(given, confirm(token_hash="wrong"))
    assert given == copy


# How long rights last: tokens end, and are replaced by newer ones.


def until(*times: int) -> Situation:
    """Ana monitors with one session for each of these ends of tokens (0: none)."""
    given = situation(BOB)
    for number, expires_at in enumerate(times):
        who = person(expires_at=expires_at)
        given = after(given, watch(who, session=f"ses_{number}"))
    return given


def test_a_monitor_lasts_as_long_as_the_last_token() -> None:
    """The latest end of those who watch; none where one of them has none."""
    ends = {(5,): 5, (5, 9): 9, (9, 5): 9, (5, 0): 0, (0, 5): 0}
    for times, end in ends.items():
        held = until(*(NOW + time if time else 0 for time in times)).monitor
        assert held is not None
        assert held.until == (NOW + end if end else 0)


def test_a_lease_that_ends_behind_the_token_is_a_lost_permission() -> None:
    """Who couldn't renew because their token was over lost a right; who fell silent before lost a lease."""
    lapse = NOW + LEASE_MS
    for end, reason in ((lapse, "permission_lost"), (lapse + 1, "lease_expired"), (0, "lease_expired")):
        given = replace(until(end), now_ms=lapse)
        assert ended(given, c.ExpireMonitor()).reason == reason
        assert ended(given, watch(person("zoe"))).reason == reason


def test_a_newer_token_keeps_the_monitor() -> None:
    """Resumed with a token that lasts longer, the rights do; with the same one, or without a monitor, nothing happens."""
    given, longer = until(NOW + 5), person(expires_at=NOW + 99_000)
    keep = c.KeepMonitor(longer, "ses_0", "mon_ana", NOW + LEASE_MS)
    kept = after(given, keep).monitor
    assert kept is not None
    assert (kept.until, kept.sessions) == (NOW + 99_000, given.monitor.sessions if given.monitor else ())
    assert decide(after(given, keep), keep) == []
    for other in (replace(keep, monitor_id="mon_old"), replace(keep, session="ses_9")):
        assert decide(given, other) == []
    assert decide(situation(BOB), keep) == []
    assert decide(replace(given, now_ms=NOW + LEASE_MS), keep) == []


def test_one_session_out_of_sight_leaves_the_others() -> None:
    """A monitor goes on where another session still may; the last one's end is a lost permission."""
    two = until(0, 0)
    gone = c.LeaveMonitor("ana", "ses_1", out_of_sight=True)
    assert names(decide(two, gone)) == ["MonitorLeft"]
    assert ended(after(two, gone), replace(gone, session="ses_0")).reason == "permission_lost"
