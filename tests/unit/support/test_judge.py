"""The judge, on small records written by hand: each rule lets the right one pass and names the wrong one."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hub.domain.conversation import Conversation, Monitor, MonitorSession, Notice, Participant
from tests.support.judge import Frame, Kept, Record, Truth, Violation, Written, judge
from tests.support.tokens import token

Json = dict[str, Any]
CNV = "cnv_1"
ROLES = {"/v1/supervisor": "supervisor", "/v1/agent": "agent", "/v1/customer": "customer", "/v1/connector": "connector"}
BOTH = pytest.mark.parametrize("wrong", [False, True])


@dataclass
class Line:
    """One socket's record in the making."""

    endpoint: str
    user: str
    clock: "itertools.count[int]"
    frames: list[Frame] = field(default_factory=list)
    closed_at: float | None = None
    last_id: int = 0

    def sent(self, thing: Json) -> None:
        """The client said this, a second later than what was before."""
        self.frames.append(Frame(next(self.clock), True, thing))

    def got(self, thing: Json) -> None:
        """The hub said this."""
        self.frames.append(Frame(next(self.clock), False, thing))

    def ask(self, cmd: str, ok: Json | None = None, **arguments: Any) -> None:
        """A command and its `ok`."""
        self.last_id += 1
        self.sent({"id": self.last_id, "cmd": cmd, **arguments})
        self.got({"id": self.last_id, "ok": ok or {}})

    def event(self, event: str, offset: int | None = None, /, *, at: int = 0, **data: Any) -> None:
        """An event, with a cursor where an offset is given."""
        cursor = {} if offset is None else {"cursor": cursor_at(offset)}
        self.got({"event": event, "conversation_id": CNV, "at": at, "data": data} | cursor)

    def snapshot(self, offset: int, *people: Json, **more: Any) -> None:
        """A snapshot of a conversation of one's own."""
        self.event("conversation.snapshot", **snapshot_at(offset, *people, **more))

    def watches(self, offset: int, monitor: str = "mon_1", **row: Any) -> None:
        """A monitor starts."""
        self.event("monitor.started", monitor_id=monitor, participant_id="p_max", snapshot=snapshot_at(offset, **row))


def cursor_at(offset: int, epoch: str = "7") -> str:
    """A cursor of a history in which each tag is its offset in hundreds."""
    return f"{epoch}.{offset * 100}-{offset}"


def snapshot_at(offset: int, *people: Json, epoch: str = "7", **row: Any) -> Json:
    """A snapshot with nothing in it but a row, people and a position."""
    about = {"conversation_id": CNV, "queue": "support", "division": "home"} | row
    return {"conversation": about, "participants": list(people), "messages": [], "cursor": cursor_at(offset, epoch)}


def person(participant_id: str, user_id: str, purpose: str) -> Json:
    """A participant as the protocol shows it."""
    return {"participant_id": participant_id, "user_id": user_id, "name": user_id.capitalize(), "purpose": purpose}


MAX, ANA = person("p_max", "max", "agent"), person("prt_ana", "ana", "supervisor")


class Court:
    """All lines of a case; each thing that happens is a second later than the one before."""

    def __init__(self) -> None:
        self.clock = itertools.count()
        self.lines: list[Line] = []
        self.sessions = itertools.count(1)

    def line(self, endpoint: str, user: str, *, session: str = "", resume: Json | None = None, **claims: Any) -> Line:
        """A socket that has said hello; with `resume` it goes on with a session."""
        line = Line(endpoint, user, self.clock)
        named = session or f"ses_{next(self.sessions)}"
        org = claims.pop("org", "acme")
        arguments: Json = {"token": token(user, ROLES[endpoint], org, **claims)}
        if resume is not None:
            arguments["resume"] = {"session": named, "secret": "", "cursors": resume}
        line.ask("hello", {"session": named, "resumed": resume is not None, "user": {"id": user}}, **arguments)
        self.lines.append(line)
        return line

    def supervisor(self, user: str = "ana", **options: Any) -> Line:
        """A supervisor's browser."""
        return self.line("/v1/supervisor", user, **options)

    def agent(self, user: str = "max", **options: Any) -> Line:
        """An agent's desktop, in the conversation up to the second entry."""
        line = self.line("/v1/agent", user, **options)
        if options.get("resume") is None:
            line.snapshot(2, person(f"p_{user}", user, "agent"))
        return line

    def records(self) -> list[Record]:
        """All of them."""
        return [
            Record(f"{line.endpoint}#{number}", line.endpoint, line.frames, closed_at=line.closed_at)
            for number, line in enumerate(self.lines)
        ]

    def finds(self, truth: Truth | None = None) -> list[str]:
        """The promises that are broken."""
        return sorted({one.promise for one in judge(self.records(), truth)})


@pytest.fixture
def court() -> Court:
    """A fresh case."""
    return Court()


def broken(wrong: bool, promise: str) -> list[str]:
    """What the judge must find."""
    return [promise] if wrong else []


# -- frames alone: I5 ------------------------------------------------------------------------------------------------


@BOTH
def test_offsets_rise_by_one(court: Court, wrong: bool) -> None:
    """The entry behind position 2 is the third one."""
    agent = court.agent()
    agent.event("message.created", 4 if wrong else 3)
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_no_entry_comes_twice(court: Court, wrong: bool) -> None:
    """An entry is followed by the next one, not by itself."""
    agent = court.agent()
    for offset in (3, 3 if wrong else 4):
        agent.event("message.created", offset)
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_who_resumes_goes_on_behind_the_cursor(court: Court, wrong: bool) -> None:
    """Over two sockets of a session the positions go on where the client said."""
    agent = court.agent(session="ses_a")
    agent.event("message.created", 3, text="hello")
    again = court.agent(session="ses_a", resume={CNV: cursor_at(3)})
    again.event("message.created", 3 if wrong else 4, text="hello")
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_a_snapshot_or_a_reset_begins_anew(court: Court, wrong: bool) -> None:
    """A gap needs an explicit new beginning."""
    agent = court.agent()
    if not wrong:
        agent.event("stream.reset", reason="trimmed", snapshot=snapshot_at(8, MAX))
    agent.event("message.created", 9)
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_what_comes_before_any_snapshot_is_lost(court: Court, wrong: bool) -> None:
    """A resumed session gets a snapshot of each conversation that it named no cursor of."""
    court.agent(session="ses_a")
    again = court.agent(session="ses_a", resume={})
    if not wrong:
        again.snapshot(2, MAX)
    again.event("message.created", 3)
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_two_histories_need_a_reset_between_them(court: Court, wrong: bool) -> None:
    """Another epoch is another history, even where the offset fits."""
    agent = court.agent()
    agent.got({
        "event": "message.created", "conversation_id": CNV, "at": 0, "data": {},
        "cursor": cursor_at(3, "8" if wrong else "7"),
    })  # fmt: skip
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_a_snapshot_never_goes_back(court: Court, wrong: bool) -> None:
    """Within one history a later snapshot stands later."""
    agent = court.agent()
    agent.event("message.created", 3)
    agent.snapshot(2 if wrong else 3, MAX)
    assert court.finds() == broken(wrong, "I5")


@BOTH
def test_a_position_has_one_content(court: Court, wrong: bool) -> None:
    """Two desks get the same at the same position."""
    for user in ("max", "eva"):
        court.agent(user).event("message.created", 3, text="for Eva" if wrong and user == "eva" else "for all")
    assert court.finds() == broken(wrong, "I5")


# -- frames alone: I1, I6 ---------------------------------------------------------------------------------------------


@BOTH
def test_nothing_comes_after_a_monitors_end(court: Court, wrong: bool) -> None:
    """Neither entries nor typing, until the next one starts."""
    ana = court.supervisor()
    ana.watches(2)
    ana.event("message.created", 3)
    ana.event("monitor.ended", monitor_id="mon_1", reason="stopped", duration_ms=20_000)
    if not wrong:
        ana.watches(3, "mon_2")
    ana.event("typing", on=True)
    ana.event("message.created", 4)
    assert court.finds() == broken(wrong, "I1")


@BOTH
def test_the_end_counts_on_the_next_socket_too(court: Court, wrong: bool) -> None:
    """A session whose monitor has ended gets nothing of it on any socket."""
    ana = court.supervisor(session="ses_a")
    ana.watches(2)
    if wrong:
        ana.event("monitor.ended", monitor_id="mon_1", reason="stopped", duration_ms=20_000)
    again = court.supervisor(session="ses_a", resume={CNV: cursor_at(2)})
    again.event("message.created", 3)
    assert court.finds() == broken(wrong, "I1")


@BOTH
def test_a_monitor_ends_before_the_next_one_starts(court: Court, wrong: bool) -> None:
    """A session is told the end of what it had."""
    ana = court.supervisor()
    ana.watches(2)
    if not wrong:
        ana.event("monitor.ended", monitor_id="mon_1", reason="stopped", duration_ms=20_000)
    ana.watches(2, "mon_2")
    assert court.finds() == broken(wrong, "I1")


@BOTH
def test_no_position_belongs_to_two_monitors(court: Court, wrong: bool) -> None:
    """Two sessions get the same entry under one monitor, or not both."""
    for user, monitor in (("ana", "mon_1"), ("ana" if not wrong else "bo", "mon_2" if wrong else "mon_1")):
        line = court.supervisor(user)
        line.watches(2, monitor)
        line.event("message.created", 3)
    assert court.finds() == broken(wrong, "I1")


@BOTH
def test_no_monitor_lapses_before_its_lease(court: Court, wrong: bool) -> None:
    """Whoever got a lease of 15 s may not be told after 2 s that it is over."""
    ana = court.supervisor()
    ana.ask("monitor.start", {"monitor_id": "mon_1", "lease_ms": 15_000}, conversation_id=CNV)
    ana.watches(2)
    ana.event("monitor.ended", monitor_id="mon_1", reason="lease_expired", duration_ms=2_000 if wrong else 16_000)
    assert court.finds() == broken(wrong, "I1")


@BOTH
def test_a_supervisor_gets_what_they_monitor_or_take_part_in(court: Court, wrong: bool) -> None:
    """The owner's right begins with the own connecting and ends with the own leaving."""
    ana = court.supervisor()
    ana.watches(2)
    ana.event("participant.connected", 3, participant_id="prt_ana", participant=ANA)
    ana.event("monitor.ended", monitor_id="mon_1", reason="taken_over", duration_ms=20_000)
    ana.event("message.created", 4)
    ana.event("participant.disconnected", 5, participant_id="prt_ana", participant=ANA, disconnect_type="transfer")
    if wrong:
        ana.event("message.created", 6)
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_an_agent_gets_nothing_after_leaving(court: Court, wrong: bool) -> None:
    """But notices and wrap-ups."""
    agent = court.agent()
    agent.event("participant.disconnected", 3, participant_id="p_max", participant=MAX, disconnect_type="takeover")
    agent.event("takeover.notified", takeover_id="tko_1")
    agent.event("wrapup.requested", participant_id="p_max")
    if wrong:
        agent.event("typing", on=True)
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_who_left_behind_the_cursor_gets_all_up_to_it(court: Court, wrong: bool) -> None:
    """A cursor before the own leaving brings that again, one behind it brings nothing."""
    agent = court.agent(session="ses_a")
    agent.event("participant.disconnected", 3, participant_id="p_max", participant=MAX, disconnect_type="client")
    again = court.agent(session="ses_a", resume={CNV: cursor_at(3 if wrong else 2)})
    if wrong:
        again.event("message.created", 4)
    else:
        again.event("participant.disconnected", 3, participant_id="p_max", participant=MAX, disconnect_type="client")
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_a_cursor_of_an_older_session_is_worth_what_it_was(court: Court, wrong: bool) -> None:
    """What the person was shown goes on for them up to their leaving; what nobody showed them doesn't."""
    if not wrong:
        court.agent()
    court.line("/v1/agent", "max", session="ses_b")
    again = court.line("/v1/agent", "max", session="ses_b", resume={CNV: cursor_at(2)})
    again.event("participant.disconnected", 3, participant_id="p_max", participant=MAX, disconnect_type="client")
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_the_end_of_a_conversation_ends_every_part(court: Court, wrong: bool) -> None:
    """Nothing follows the end."""
    agent = court.agent()
    agent.event("conversation.ended", 3, reason="done")
    if wrong:
        agent.event("message.receipt", 4)
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_snapshots_are_of_own_conversations(court: Court, wrong: bool) -> None:
    """Whoever gets one stands in it."""
    court.line("/v1/agent", "max").snapshot(2, person("p_eva", "eva", "agent") if wrong else MAX)
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_customers_get_their_own_conversation(court: Court, wrong: bool) -> None:
    """It is the one in their token."""
    customer = court.line("/v1/customer", "cus_7", conversation="cnv_9" if wrong else CNV)
    customer.snapshot(1)
    customer.event("message.created", 2)
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_rows_are_of_own_divisions(court: Court, wrong: bool) -> None:
    """A view shows what the token grants."""
    ana = court.supervisor(divisions=["home"])
    ana.ask("view.subscribe", {"subscription": "sub_1"}, view="interactions")
    row = {"conversation_id": CNV, "queue": "abroad", "division": "away" if wrong else "home"}
    ana.got({"event": "view.snapshot", "data": {"subscription": "sub_1", "rows": [row], "more": False}})
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_queues_are_ones_own(court: Court, wrong: bool) -> None:
    """A view of queues shows what the token grants."""
    ana = court.supervisor(queues=["support"])
    ana.ask("view.subscribe", {"subscription": "sub_1"}, view="queues")
    row = {"queue": "billing" if wrong else "support"}
    ana.got({"event": "view.changed", "data": {"subscription": "sub_1", "rows": [row], "removed": []}})
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_monitors_are_of_own_queues(court: Court, wrong: bool) -> None:
    """What is monitored is in a queue and a division of the token's."""
    court.supervisor(queues=["support"]).watches(2, queue="billing" if wrong else "support")
    assert court.finds() == broken(wrong, "I6")


@BOTH
def test_organizations_share_no_history(court: Court, wrong: bool) -> None:
    """Equal ids of conversations are two histories."""
    court.agent()
    court.line("/v1/agent", "max", org="other").snapshot(2, MAX, epoch="7" if wrong else "8")
    assert court.finds() == broken(wrong, "I6")


# -- frames alone: I4 ------------------------------------------------------------------------------------------------


@BOTH
def test_a_notice_comes_once_on_each_socket(court: Court, wrong: bool) -> None:
    """And again on the next one, until it is acknowledged."""
    for _ in range(2):
        agent = court.agent()
        for _ in range(1 + wrong):
            agent.event("takeover.notified", takeover_id="tko_1")
    assert court.finds() == broken(wrong, "I4")


@BOTH
def test_no_notice_after_it_was_seen(court: Court, wrong: bool) -> None:
    """A socket that comes after the person's acknowledgement isn't told any more."""
    agent = court.agent()
    agent.event("takeover.notified", takeover_id="tko_1")
    agent.ask("takeover.acknowledge", takeover_id="tko_1")
    court.agent().event("takeover.notified", takeover_id="tko_1" if wrong else "tko_2")
    assert court.finds() == broken(wrong, "I4")


# -- frames alone: I3 ------------------------------------------------------------------------------------------------


def action(line: Line, message: str, text: str = "hello") -> None:
    """A message for the platform."""
    line.event("outbound.message", message_id=message, text=text, owner_epoch=1)


@BOTH
def test_a_repeated_action_is_the_same(court: Court, wrong: bool) -> None:
    """What comes again under an id has the content it had."""
    platform = court.line("/v1/connector", "platform")
    action(platform, "msg_1")
    action(platform, "msg_1", "goodbye" if wrong else "hello")
    assert court.finds() == broken(wrong, "I3")


@BOTH
def test_the_next_action_waits_for_the_report(court: Court, wrong: bool) -> None:
    """One by one in each conversation, whichever socket it is that reports."""
    platform, second = court.line("/v1/connector", "platform"), court.line("/v1/connector", "platform")
    action(platform, "msg_1")
    if not wrong:
        second.ask("delivery.report", message_id="msg_1", status="sent")
    platform.event("sender.changed", action_id="act_2", name="Ana")
    assert court.finds() == broken(wrong, "I3")


@BOTH
def test_a_reported_action_never_comes_again(court: Court, wrong: bool) -> None:
    """Where the report was answered, it is done."""
    platform = court.line("/v1/connector", "platform")
    action(platform, "msg_1")
    platform.ask("delivery.report", message_id="msg_1", status="sent")
    action(platform, "msg_1" if wrong else "msg_2")
    assert court.finds() == broken(wrong, "I3")


@BOTH
def test_an_events_id_is_accepted_once(court: Court, wrong: bool) -> None:
    """The second one is a duplicate, also over another socket."""
    for status in ("accepted", "accepted" if wrong else "duplicate"):
        platform = court.line("/v1/connector", "platform")
        event = {"id": "evt_1", "type": "panel.updated", "conversation_id": CNV, "data": {}}
        platform.ask("event", {"status": status}, event=event)
    assert court.finds() == broken(wrong, "I3")


def test_a_conversation_that_begins_anew_forgets(court: Court) -> None:
    """Where the store was lost, the platform tells everything again."""
    platform = court.line("/v1/connector", "platform")
    for _ in range(2):
        for number, kind in enumerate(("conversation.started", "panel.updated")):
            event = {"id": f"evt_{number}", "type": kind, "conversation_id": CNV, "data": {}}
            platform.ask("event", {"status": "accepted"}, event=event)
    assert court.finds() == []


@BOTH
def test_a_repeated_send_gets_the_same_id(court: Court, wrong: bool) -> None:
    """The client's id names one message."""
    agent = court.agent()
    for message in ("msg_1", "msg_2" if wrong else "msg_1"):
        agent.ask("message.send", {"message_id": message}, conversation_id=CNV, text="hi", client_message_id="m1")
    assert court.finds() == broken(wrong, "I3")


# -- frames alone: I8 ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        {"conversation": {"monitor": None}},
        {"details": [{"holder": "mon_3f"}]},
        {"why": "being monitored"},
    ],
)
@pytest.mark.parametrize("endpoint", ["/v1/agent", "/v1/customer", "/v1/connector"])
def test_no_word_of_monitoring(court: Court, endpoint: str, data: Json, wrong: bool) -> None:
    """Neither as a key nor as a value, at any depth; supervisors may read it."""
    line = court.line(endpoint, "max", conversation=CNV) if wrong else court.supervisor()
    line.got({"id": 5, "ok": data})
    assert court.finds() == broken(wrong, "I8")


def test_what_people_write_is_theirs(court: Court) -> None:
    """A customer may write of monitors, and a client is told which command of its own was refused."""
    agent = court.agent()
    agent.event("message.created", 3, text="I monitor my heart")
    agent.sent({"id": 9, "cmd": "monitor.start"})
    agent.got({"id": 9, "error": {"code": "schema_invalid", "message": "No command monitor.start here."}})
    assert court.finds() == []


# -- with the store's word -------------------------------------------------------------------------------------------


def entry(offset: int, name: str, /, *, tag: int = 0, monitor: str = "-", audience: str = "as", **data: Any) -> Written:
    """One entry; written with others where their tag is the same. The customer has seen one by each message."""
    event = {"event": name, "conversation_id": CNV, "at": offset, "data": data}
    return Written(offset, str(tag or offset * 100), audience, max(0, offset - 2), monitor, event)


def said(offset: int, message: str, who: Json, **more: Any) -> Written:
    """A message of somebody's."""
    about: Json = {"participant_id": who["participant_id"], "purpose": who["purpose"], "name": who["name"]}
    return entry(
        offset, "message.created", audience="asc", message_id=message, text=f"text of {message}", **about, **more
    )


def came(offset: int, who: Json, **more: Any) -> Written:
    """Somebody connects."""
    return entry(offset, "participant.connected", participant_id=who["participant_id"], participant=who, **more)


BO = person("p_bo", "bo", "agent")
DANA = person("prt_dana", "cus_7", "customer")
MARK = {"takeover_id": "tko_1", "from": ["p_max"], "to": "prt_ana", "owner_epoch": 2}


def taken_over() -> Kept:
    """A conversation that Max had, Ana monitored and took over; both spoke, and the platform did all but one action."""
    gone: Json = {"participant_id": "p_max", "participant": MAX, "disconnect_type": "takeover"}
    entries = [
        came(1, DANA),
        came(2, MAX),
        said(3, "msg_1", MAX),
        said(4, "m_1", DANA, monitor="mon_1"),
        entry(5, "participant.disconnected", tag=500, monitor="mon_1", **gone),
        came(6, ANA, tag=500, monitor="mon_1"),
        entry(7, "takeover.completed", tag=500, monitor="mon_1", audience="s", **MARK),
        said(8, "msg_2", ANA),
    ]
    ledger: list[Json] = [
        {"what": "conversation.started"},
        {"what": "participant.connected", "participant_id": "p_max"},
        {"what": "monitor.started", "monitor_id": "mon_1", "at": 3},
        {"what": "takeover.prepared", "takeover_id": "tko_1"},
        {"what": "takeover.completed", "takeover_id": "tko_1"},
        {"what": "wrapup.requested", "participant_id": "p_max"},
        {"what": "monitor.ended", "monitor_id": "mon_1", "reason": "taken_over", "at": 6, "written_at": 7},
    ]
    segments: list[Json] = [
        {"kind": "interact", "participant_id": "p_max", "disconnect_type": "takeover"},
        {"kind": "takeover", **MARK},
        {"kind": "monitoring", "monitor_id": "mon_1", "reason": "taken_over", "disconnect_type": None},
    ]
    ana = Participant("prt_ana", "supervisor", "ana", "Ana", 6)
    state = Conversation(
        org="acme", conversation_id=CNV, connector="platform", channel="web", queue="support", division="home",
        subject=None, customer_id="cus_7", customer=Participant("prt_dana", "customer", "cus_7", "Dana", 1), started_at=1,
        connected=(ana,), owner="prt_ana", owner_epoch=2, takeovers=("tko_1",),
        notices=(Notice("tko_1", "max", "p_max", "Ana", 7, "mandatory", (), 0),),
    )  # fmt: skip
    waiting = [{"event": "outbound.message", "data": {"message_id": "msg_2", "owner_epoch": 2}}]
    return Kept(CNV, "7", state, None, entries, ledger, segments, waiting)


def give(line: Line, written: Written, *, customer: bool = False) -> None:
    """An entry as somebody is given it."""
    place = written.place("7", customer=customer)
    line.got(written.event | {"cursor": str(place)})


def seen(court: Court, kept: Kept) -> None:
    """What everybody saw of that conversation, as it should be."""
    max_ = court.line("/v1/agent", "max")
    max_.snapshot(2, MAX)
    ana = court.supervisor()
    platform = court.line("/v1/connector", "platform")
    max_.ask("message.send", {"message_id": "msg_1"}, conversation_id=CNV, text="text of msg_1", client_message_id="a")
    give(max_, kept.entries[2])
    platform.event("outbound.message", message_id="msg_1", owner_epoch=1)
    platform.ask("delivery.report", message_id="msg_1")
    first = {"message_id": "msg_1", "text": "text of msg_1", "offset": 3}
    snapshot = snapshot_at(3) | {"messages": [first]}
    ana.event("monitor.started", monitor_id="mon_1", participant_id="p_max", snapshot=snapshot)
    event = {"id": "evt_1", "type": "message.created", "conversation_id": CNV, "at": 4}
    event["data"] = {"message_id": "m_1", "text": "text of m_1", "purpose": "customer"}
    platform.ask("event", {"status": "accepted", "cursor": cursor_at(4)}, event=event)
    ok = {"takeover_id": "tko_1", "confirm_token": "", "consequences": {"wrapup": {"prompt": "mandatory"}}}
    ana.ask("takeover.prepare", ok, conversation_id=CNV)
    ana.ask("takeover.confirm", {"participant_id": "prt_ana", "owner_epoch": 2}, takeover_id="tko_1")
    for one in kept.entries[3:5]:
        give(max_, one)
    max_.event("takeover.notified", takeover_id="tko_1")
    for one in kept.entries[3:]:
        give(ana, one)
    ana.event("monitor.ended", monitor_id="mon_1", reason="taken_over", duration_ms=20_000)
    ana.ask("message.send", {"message_id": "msg_2"}, conversation_id=CNV, text="text of msg_2", client_message_id="b")
    for action_id, name, who in (
        ("act_1", "participant.disconnected", "p_max"),
        ("act_2", "participant.connected", "prt_ana"),
    ):
        platform.event(name, action_id=action_id, participant_id=who)
        platform.ask("action.done", action_id=action_id)


def violations(court: Court, kept: Kept) -> list[Violation]:
    """What the judge finds of everything, when all is quiet."""
    return judge(court.records(), Truth(float(next(court.clock)), "acme", {CNV: kept}))


def test_a_takeover_as_it_should_be(court: Court) -> None:
    """Whole, told to everybody, and nothing found."""
    seen(court, taken_over())
    assert violations(court, taken_over()) == []


def without(things: Sequence[Any], index: int) -> list[Any]:
    """All but one."""
    return [one for place, one in enumerate(things) if place != index]


def with_entry(kept: Kept, index: int, **changed: Any) -> Kept:
    """The same with one entry changed."""
    entries = list(kept.entries)
    entries[index] = replace(entries[index], **changed)
    return replace(kept, entries=entries)


def with_state(kept: Kept, **changed: Any) -> Kept:
    """The same with another state."""
    return replace(kept, state=replace(kept.state, **changed))


def with_line(kept: Kept, index: int, **line: Any) -> Kept:
    """The same with one more line in the ledger."""
    return replace(kept, ledger=[*kept.ledger[:index], line, *kept.ledger[index:]])


def spoken_by(kept: Kept, index: int, who: Json) -> Kept:
    """The same with another one saying that."""
    event = kept.entries[index].event
    told = event["data"] | {"participant_id": who["participant_id"], "purpose": who["purpose"]}
    return with_entry(kept, index, event=event | {"data": told})


def held_by(user: str) -> Monitor:
    """A monitor with a session of Ana's in it."""
    return Monitor("mon_2", user, user, "p_max", 9, ("*",), ("*",), (MonitorSession("ses_2", 99),))


STARTED = {"what": "monitor.started", "monitor_id": "mon_2", "at": 9}
WRONGS: dict[str, tuple[str, Callable[[Kept], Kept]]] = {
    "a monitor starts while one runs": ("I1", lambda kept: with_line(kept, 3, **STARTED)),
    "a monitor ends twice": ("I1", lambda kept: replace(kept, ledger=[*kept.ledger, kept.ledger[-1]])),
    "the record holds a monitor that is over": ("I1", lambda kept: replace(kept, monitor=held_by("ana"))),
    "a session of another one's in a monitor": (
        "I1", lambda kept: replace(with_line(kept, 7, **STARTED), monitor=held_by("bo")),
    ),
    "written under no monitor, given to one": ("I1", lambda kept: with_entry(kept, 3, monitor="-")),
    "written under a monitor that never was": ("I1", lambda kept: with_entry(kept, 7, monitor="mon_9")),
    "a takeover without its mark": ("I2", lambda kept: replace(kept, entries=without(kept.entries, 6))),
    "a takeover that disconnects nobody": ("I2", lambda kept: replace(kept, entries=without(kept.entries, 4))),
    "a takeover that connects nobody": ("I2", lambda kept: replace(kept, entries=without(kept.entries, 5))),
    "a takeover without its line": ("I2", lambda kept: replace(kept, ledger=without(kept.ledger, 4))),
    "a takeover without its segment": ("I2", lambda kept: replace(kept, segments=without(kept.segments, 1))),
    "a removed one without a segment": ("I2", lambda kept: replace(kept, segments=without(kept.segments, 0))),
    "a takeover that asks for no wrap-up": ("I2", lambda kept: replace(kept, ledger=without(kept.ledger, 5))),
    "an epoch that didn't move": ("I2", lambda kept: with_state(kept, owner_epoch=1)),
    "an owner that nobody made": ("I2", lambda kept: with_state(kept, owner="p_max")),
    "connected, though removed": ("I2", lambda kept: with_state(kept, connected=())),
    "spoken by whom the takeover removed": ("I2", lambda kept: spoken_by(kept, 7, MAX)),
    "spoken by nobody who is there": ("I2", lambda kept: spoken_by(kept, 3, person("p_x", "x", "agent"))),
    "a takeover without a notice": ("I4", lambda kept: with_state(kept, notices=())),
    "an acked message that isn't there": ("I3", lambda kept: replace(kept, entries=without(kept.entries, 7))),
    "an acked message that is there twice": (
        "I3", lambda kept: replace(kept, entries=[*kept.entries, said(9, "msg_2", ANA)]),
    ),
    "an accepted event that is another one": ("I3", lambda kept: with_entry(kept, 3, event=kept.entries[3].event | {"at": 5})),
    "a message that the platform never gets": ("I3", lambda kept: replace(kept, actions=[])),
    "given what isn't stored": ("I5", lambda kept: with_entry(kept, 4, tag="501")),
    "given otherwise than stored": ("I5", lambda kept: with_entry(kept, 5, event=kept.entries[5].event | {"at": 77})),
    "not told up to the end": ("I5", lambda kept: replace(kept, entries=[*kept.entries, came(9, BO)])),
    "a snapshot that lacks a message": ("I5", lambda kept: with_entry(kept, 1, event=said(2, "m_0", DANA).event)),
    "given what isn't for one's eyes": ("I6", lambda kept: with_entry(kept, 4, audience="s")),
    "a transition without its line": ("I7", lambda kept: replace(kept, ledger=without(kept.ledger, 1))),
    "a line without its transition": ("I7", lambda kept: with_line(kept, 7, what="conversation.ended", reason="done")),
    "an end of a monitor without its line": ("I7", lambda kept: replace(kept, ledger=without(kept.ledger, 6))),
    "an end of a monitor without its segment": ("I7", lambda kept: replace(kept, segments=without(kept.segments, 2))),
    "a wrap-up that ended without its line": (
        "I7", lambda kept: replace(kept, segments=[*kept.segments, {"kind": "wrapup", "participant_id": "p_max"}]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONGS)
def test_what_is_wrong_in_the_store(court: Court, wrong: str) -> None:
    """One thing is changed in what the store has, and its promise is among those that are broken."""
    promise, change = WRONGS[wrong]
    seen(court, taken_over())
    found = violations(court, change(taken_over()))
    assert promise in {one.promise for one in found}, "\n".join(map(str, found))


@BOTH
def test_at_rest_everybody_was_told(court: Court, wrong: bool) -> None:
    """Somebody who stays without a right, though connected, was forgotten; one whose line is lost comes for it later."""
    seen(court, taken_over())
    tab = court.supervisor()
    tab.closed_at = None if wrong else float(next(court.clock))
    assert {one.promise for one in violations(court, taken_over())} == ({"I5"} if wrong else set())


@BOTH
def test_at_rest_nobody_believes_in_a_monitor_that_is_over(court: Court, wrong: bool) -> None:
    """Its end is told, also to a session that came back too late to see it."""
    seen(court, taken_over())
    bo = court.supervisor("bo", session="ses_b")
    bo.watches(2)
    bo.closed_at = float(next(court.clock))
    again = court.supervisor("bo", session="ses_b", resume={CNV: cursor_at(2)})
    if not wrong:
        again.event("monitor.ended", monitor_id="mon_1", reason="taken_over", duration_ms=20_000)
    found = [one for one in violations(court, taken_over()) if "for all this socket knows" in one.seen]
    assert [one.promise for one in found] == broken(wrong, "I5")


@BOTH
def test_at_rest_each_device_has_its_notice(court: Court, wrong: bool) -> None:
    """A second desktop of the agent is told, too."""
    seen(court, taken_over())
    desktop = court.line("/v1/agent", "max")
    if not wrong:
        desktop.event("takeover.notified", takeover_id="tko_1")
    assert {one.promise for one in violations(court, taken_over())} == ({"I4"} if wrong else set())


@BOTH
def test_typing_ends_with_the_monitor(court: Court, wrong: bool) -> None:
    """Typing of a time behind the monitor's end in the ledger was shown to one who had no right any more."""
    bo, kept = court.supervisor("bo"), taken_over()
    lines = [line | {"reason": "stopped"} if line["what"] == "monitor.ended" else line for line in kept.ledger]
    segments = [one | {"reason": "stopped"} if one["kind"] == "monitoring" else one for one in kept.segments]
    bo.watches(2)
    bo.event("typing", at=8 if wrong else 6, on=True)
    bo.event("monitor.ended", monitor_id="mon_1", reason="stopped", duration_ms=20_000)
    found = violations(court, replace(kept, ledger=lines, segments=segments))
    assert ("I1" in {one.promise for one in found}) == wrong


@BOTH
def test_a_platform_gets_its_own_conversations(court: Court, wrong: bool) -> None:
    """Actions go to the platform that started the conversation."""
    seen(court, taken_over())
    if wrong:
        court.line("/v1/connector", "stranger").event("sender.changed", action_id="act_9", name="Ana")
    assert ("I6" in {one.promise for one in violations(court, taken_over())}) == wrong


def test_a_violation_says_everything(court: Court) -> None:
    """The promise, whose socket, which conversation, what was seen and what was wanted."""
    court.agent().event("message.created", 4)
    [violation] = judge(court.records())
    assert str(violation) == "I5 at /v1/agent#0 max ses_1, cnv_1: 7.400-4 after 7.200-2; wanted: offset 3"
