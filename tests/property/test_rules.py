"""The rules as a state machine: commands of supervisors, agents, customer and platform, invariants after each fact."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.board import row_of
from hub.domain.conversation import PAST_MAX, Counters, MonitorSession, Participant, Situation, WrapupRule
from hub.domain.decide import decide
from hub.domain.effects import effects_of
from hub.domain.errors import CODES, Refused
from hub.domain.evolve import evolve
from hub.domain.grants import Person, covers
from hub.service.codec import decode_loaded, encode_state
from tests.unit.domain.words import BOB, CAY, LEASE_MS, NOW, ROBO, begin, desk, messenger, person

SUPERVISORS = (
    person("ana"),
    person("zoe"),
    person("max", queues=frozenset({"support"})),  # rights of one queue only, and having answered gives no more
)
PARTICIPANTS = (BOB, CAY, ROBO, replace(BOB, participant_id="prt_bob2"))
PROMPTS = ("none", "optional", "mandatory", "timeout")
supervisors = st.sampled_from(SUPERVISORS)
sessions = st.sampled_from(("1", "2"))
someone = st.sampled_from(PARTICIPANTS)
OF_MONITORS = (
    c.StartMonitor,
    c.StopMonitor,
    c.ReleaseMonitor,
    c.LeaveMonitor,
    c.ExpireMonitor,
    c.PrepareTakeover,
    c.ConfirmTakeover,
    c.CancelTakeover,
)


class Rules(RuleBasedStateMachine):
    """
    A small model beside the state: who is connected in which order, who owns, how often that changed, whose monitor runs.

    The model is told of facts in the protocol's words and never looks at the state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.now = Situation(NOW)
        self.reset()

    def reset(self) -> None:
        """The model of a conversation that has just begun."""
        self.connected: list[str] = []
        self.owner: str | None = None
        self.changes = 0
        self.over = False
        self.monitor: str | None = None
        self.monitors_before: set[str] = set()
        self.takeovers = 0

    def fresh(self, prefix: str) -> str:
        """An id that wasn't there before."""
        self.number += 1
        return f"{prefix}_{self.number}"

    # -- carrying out ------------------------------------------------------------------------------------------------

    def carry_out(self, command: c.Command) -> bool:
        """Decide and evolve; True where it wasn't refused."""
        before, stored = self.now, _stored(self.now)
        try:
            events = decide(before, command)
        except Refused as refused:
            assert refused.code in CODES  # noqa: PT017 - a refusal is as good an outcome as any here
            assert _stored(before) == stored, "a refusal changes nothing"
            return False
        for event in events:
            self.check_fact(self.now, event)
            following = evolve(self.now, event)
            self.tell(event)
            self.check_epoch(self.now, following)
            self.now = following
        assert decide(before, command) == events, "the same question, the same answer"
        effects = effects_of(before, events, self.now) if self.now.conversation else None
        assert effects is None or len(effects.ledger) == len(events), "a ledger line each"
        if before.monitor is not None and not isinstance(command, OF_MONITORS):
            self.check_silence(before, command)
        return True

    def check_fact(self, before: Situation, event: e.Event) -> None:
        """Never two monitors at once, never a takeover but under a live one, nothing after a monitor's own end."""
        match event:
            case e.MonitorStarted(monitor=monitor):
                assert before.monitor is None
                assert monitor.monitor_id not in self.monitors_before
            case e.MonitorEnded(monitor=monitor):
                assert before.monitor == monitor
            case e.TakenOver():
                held, prepared = before.monitor, before.prepared
                assert held is not None
                assert prepared is not None
                assert held.alive(before.now_ms)
                assert held.user_id == event.supervisor.user_id == prepared.user_id
                own = [one for one in event.removed if one.user_id == event.supervisor.user_id]
                assert not own, "nobody takes over from themselves"
                assert prepared.monitor_id == held.monitor_id
                assert prepared.owner_epoch == before.existing.owner_epoch
                assert event.removed == before.existing.connected
                assert {one.participant_id for one in event.notices} == {one.participant_id for one in event.removed}
            case e.WrapupRequested(wrapup=wrapup):
                assert not wrapup.user_id.startswith("robo"), "a bot never owes one"

    @staticmethod
    def check_epoch(before: Situation, after: Situation) -> None:
        """`owner_epoch` counts changes of owner and nothing else."""
        old, new = before.conversation, after.conversation
        if old is None or new is None or new.ended_at is not None:
            return
        assert new.owner_epoch - old.owner_epoch == (1 if new.owner != old.owner else 0)

    @staticmethod
    def check_silence(monitored: Situation, command: c.Command) -> None:
        """Agents, customer and platform get the same with and without the monitor."""
        alone = replace(monitored, monitor=None, prepared=None)
        outcomes = []
        for given in (monitored, alone):
            events = decide(given, command)
            then = given
            for event in events:
                then = evolve(then, event)
            effects = effects_of(given, events, then)
            outcomes.append((effects.transcript, effects.actions, then.conversation, row_of(then) | {"monitor": None}))
        assert outcomes[0] == outcomes[1]

    def tell(self, event: e.Event) -> None:
        """What a fact means, in the model."""
        match event:
            case e.ParticipantConnected(participant=one):
                self.connected.append(one.participant_id)
            case e.ParticipantDisconnected(participant=one):
                self.connected.remove(one.participant_id)
            case e.TakenOver(supervisor=one):
                self.connected = [one.participant_id]
                self.takeovers += 1
            case e.ConversationEnded():
                self.over, self.connected, self.owner = True, [], None
                return
            case e.MonitorStarted(monitor=monitor):
                self.monitor = monitor.monitor_id
                self.monitors_before.add(monitor.monitor_id)
            case e.MonitorEnded():
                self.monitor = None
        if not self.over and self.owner not in self.connected:
            longest = self.connected[0] if self.connected else None
            self.changes += longest != self.owner
            self.owner = longest

    # -- the platform ------------------------------------------------------------------------------------------------

    @initialize(
        prompt=st.sampled_from(PROMPTS),
        visible=st.booleans(),
        there=st.lists(someone, max_size=3, unique_by=lambda one: one.participant_id),
    )
    def begin_with(self, prompt: str, visible: bool, there: list[Participant]) -> None:
        """A conversation with some people in it, so that no run is spent on waiting for one."""
        self.begin(prompt, visible)
        for one in there:
            assert self.carry_out(c.ConnectParticipant("platform", one))

    @precondition(lambda self: self.now.existing.ended_at is not None)
    @rule(prompt=st.sampled_from(PROMPTS), visible=st.booleans())
    def begin(self, prompt: str, visible: bool) -> None:
        """A new conversation."""
        wrapup_rule = WrapupRule(prompt, ("resolved",), 30_000, 30_000)
        self.now = Situation(self.now.now_ms, wrapup_rule=wrapup_rule, name_visible=visible)
        self.reset()
        assert self.carry_out(begin())

    @rule(one=someone)
    def connect(self, one: Participant) -> None:
        """Somebody comes."""
        self.carry_out(c.ConnectParticipant("platform", replace(one, since=self.now.now_ms)))

    @rule(one=someone)
    def disconnect(self, one: Participant) -> None:
        """Somebody goes."""
        self.carry_out(c.DisconnectParticipant("platform", one.participant_id, "client", self.now.now_ms))

    @rule(queue=st.sampled_from(("support", "support", "billing")))
    def transfer(self, queue: str) -> None:
        """It goes to a queue."""
        self.carry_out(c.TransferConversation("platform", queue, "home", self.now.now_ms))

    @precondition(lambda self: self.number % 4 == 0)
    @rule(how=st.sampled_from(("platform", "idle", "customer")))
    def end(self, how: str) -> None:
        """It is over."""
        ways: dict[str, c.Command] = {
            "platform": c.EndByPlatform("platform", "solved", self.now.now_ms),
            "idle": c.EndIdle(),
            "customer": c.EndConversation(messenger()),
        }
        self.carry_out(ways[how])

    @rule(unanswered=st.integers(0, 3))
    def speak(self, unanswered: int) -> None:
        """Messages are counted beside the state."""
        if self.now.conversation is not None and self.now.existing.ended_at is None:
            counters = Counters(self.now.counters.messages + 1, "agent", self.now.now_ms, unanswered)
            self.now = replace(self.now, counters=counters)

    @rule(ms=st.sampled_from((1, 1_000, LEASE_MS, 60_000)))
    def wait(self, ms: int) -> None:
        """Time goes by; leases aren't renewed meanwhile."""
        self.now = replace(self.now, now_ms=self.now.now_ms + ms)

    # -- supervisors -------------------------------------------------------------------------------------------------

    @rule(
        who=supervisors,
        session=sessions,
        status=st.sampled_from(("available", "available", "available", "busy")),
        beside=st.one_of(st.none(), someone.map(lambda one: one.participant_id)),
    )
    def start(self, who: Person, session: str, status: str, beside: str | None) -> None:
        """A supervisor wants to monitor."""
        held, monitor_id, given = self.now.monitor, self.fresh("mon"), self.now
        command = c.StartMonitor(who, status, f"{who.user_id}{session}", beside, monitor_id, self.now.now_ms + LEASE_MS)
        accepted = self.carry_out(command)
        if accepted:
            assert _sees(who, given), "only in their queues"
            assert self.now.monitor is not None
            mine = self.now.monitor.joined(command.session)
            assert mine is not None
            assert mine.lease_end > self.now.now_ms, "an ok means that this session watches"
        if held is not None and held.alive(self.now.now_ms):
            assert accepted == (held.user_id == who.user_id and _sees(who, self.now)), "the lock is the person's"
            assert self.now.monitor is not None
            assert self.now.monitor.monitor_id == held.monitor_id

    @precondition(lambda self: self.now.monitor is not None)
    @rule(leaves=st.booleans())
    def second_tab(self, leaves: bool) -> None:
        """The holder comes and goes with another session; the monitor stays the same one."""
        held = self.now.monitor
        assert held is not None
        who = next(one for one in SUPERVISORS if one.user_id == held.user_id)
        session, lease_end = f"{who.user_id}2", self.now.now_ms + LEASE_MS
        alive = held.alive(self.now.now_ms)
        self.carry_out(c.StartMonitor(who, "busy", session, None, self.fresh("mon"), lease_end))
        if leaves and alive:
            self.carry_out(c.LeaveMonitor(who.user_id, f"{who.user_id}1"))
            assert self.now.monitor is None or self.now.monitor.monitor_id == held.monitor_id

    @rule(who=supervisors)
    def stop(self, who: Person) -> None:
        """A supervisor stops monitoring."""
        held = self.now.monitor
        accepted = self.carry_out(c.StopMonitor(who))
        assert not accepted or (held is not None and held.user_id == who.user_id and self.now.monitor is None)

    @rule(who=supervisors)
    def release(self, who: Person) -> None:
        """A supervisor ends another's monitor."""
        self.carry_out(c.ReleaseMonitor(who, "needed"))

    @rule(who=supervisors, session=sessions, revoked=st.booleans())
    def leave(self, who: Person, session: str, revoked: bool) -> None:
        """A session ends, or the right has gone."""
        assert self.carry_out(c.LeaveMonitor(who.user_id, f"{who.user_id}{session}", revoked))

    @rule(who=supervisors, session=sessions)
    def renew(self, who: Person, session: str) -> None:
        """A lease that still runs is extended, beside all versions."""
        held = self.now.monitor
        joined = held.joined(f"{who.user_id}{session}") if held is not None else None
        if held is not None and joined is not None and joined.lease_end > self.now.now_ms:
            longer = held.with_session(joined.session, self.now.now_ms + LEASE_MS)
            self.now = replace(self.now, monitor=longer)

    @rule()
    def sweep(self) -> None:
        """What is due ends."""
        assert self.carry_out(c.ExpireMonitor())
        assert self.now.monitor is None or self.now.monitor.alive(self.now.now_ms)
        assert self.carry_out(c.TimeOutWrapups())

    @rule(who=supervisors, session=sessions)
    def prepare(self, who: Person, session: str) -> None:
        """A supervisor asks what a takeover would do."""
        command = c.PrepareTakeover(who, f"{who.user_id}{session}", self.fresh("tko"), "hash", self.now.now_ms + 60_000)
        self.carry_out(command)

    @rule(who=supervisors, session=sessions, token_hash=st.sampled_from(("hash", "hash", "hash", "wrong")))
    def confirm(self, who: Person, session: str, token_hash: str) -> None:
        """A supervisor takes over what is prepared."""
        prepared = self.now.prepared
        takeover_id = prepared.takeover_id if prepared is not None else "tko_none"
        command = c.ConfirmTakeover(who, f"{who.user_id}{session}", takeover_id, token_hash, self.fresh("prt"))
        before, held = self.takeovers, self.now.monitor
        if self.carry_out(command):
            assert held is not None
            mine = held.joined(command.session)
            assert mine is not None
            assert mine.lease_end > self.now.now_ms, "by a session whose own lease runs"
            assert token_hash == "hash"
            assert self.takeovers == before + 1
            assert self.now.existing.owner == command.participant_id

    @rule(who=supervisors)
    def take_over_from_the_start(self, who: Person) -> None:
        """The whole way in one go, so that it happens often."""
        session, takeover_id = f"{who.user_id}1", self.fresh("tko")
        target = self.now.conversation.owner if self.now.conversation is not None else None
        lease_end = self.now.now_ms + LEASE_MS
        self.carry_out(c.StartMonitor(who, "available", session, target, self.fresh("mon"), lease_end))
        if self.carry_out(c.PrepareTakeover(who, session, takeover_id, "hash", self.now.now_ms + 60_000)):
            command = c.ConfirmTakeover(who, session, takeover_id, "hash", self.fresh("prt"))
            assert self.carry_out(command)
            assert not self.carry_out(command), "once"

    @rule(who=supervisors)
    def cancel(self, who: Person) -> None:
        """A supervisor takes the preparation back."""
        prepared = self.now.prepared
        if self.carry_out(c.CancelTakeover(who, prepared.takeover_id if prepared is not None else "tko_none")):
            assert prepared is not None
            assert prepared.user_id == who.user_id

    # -- people of the conversation ----------------------------------------------------------------------------------

    @precondition(lambda self: self.number % 4 == 1)
    @rule(who=st.sampled_from((*SUPERVISORS, desk("bob"), desk("cay"))))
    def end_as_owner(self, who: Person) -> None:
        """Only the owner ends it."""
        owner = self.now.conversation.participant(self.now.existing.owner) if self.now.conversation else None
        if self.carry_out(c.EndConversation(who)):
            assert owner is not None
            assert owner.user_id == who.user_id

    @rule(who=st.sampled_from((*SUPERVISORS, desk("bob"), desk("cay"), desk("robo"))))
    def acknowledge(self, who: Person) -> None:
        """Whoever was removed has seen the notice; never again after that."""
        notices = self.now.conversation.notices if self.now.conversation is not None else ()
        mine = next((one.takeover_id for one in notices if one.user_id == who.user_id), "tko_none")
        command = c.AcknowledgeTakeover(who, mine)
        if self.carry_out(command):
            assert not self.carry_out(command)

    @rule(who=st.sampled_from((*SUPERVISORS, desk("bob"), desk("cay"))))
    def wrap_up(self, who: Person) -> None:
        """Whoever owes a wrap-up hands it in."""
        owed = _owed(self.now, who)
        assert self.carry_out(c.SubmitWrapup(who, "resolved", None)) == (owed > 0)
        assert _owed(self.now, who) == max(0, owed - 1)

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def model_agrees(self) -> None:
        """Owner, order of those connected, epoch and monitor are the model's."""
        one = self.now.conversation
        if one is None:
            return
        assert [each.participant_id for each in one.connected] == self.connected
        assert (one.owner, one.owner_epoch, one.ended_at is not None) == (self.owner, self.changes, self.over)
        assert (self.now.monitor.monitor_id if self.now.monitor is not None else None) == self.monitor
        assert one.taken_over == (self.takeovers > 0)

    @invariant()
    def monitor_is_at_somebodys_side(self) -> None:
        """Only in a conversation in progress, beside somebody connected, by a person whose rights cover it."""
        monitor, prepared = self.now.monitor, self.now.prepared
        assert prepared is None or (monitor is not None and prepared.monitor_id == monitor.monitor_id)
        if monitor is None:
            return
        one = self.now.existing
        assert one.state == "active"
        assert monitor.participant_id in self.connected
        assert monitor.sessions
        assert covers(frozenset(monitor.queues), one.queue)
        assert covers(frozenset(monitor.divisions), one.division)

    @invariant()
    def derived_values_agree(self) -> None:
        """State, waiting, memory and row say the same as what they are derived from."""
        one = self.now.conversation
        if one is None:
            return
        row = row_of(self.now)
        assert (row["state"] == "queued") == (one.ended_at is None and one.owner is None)
        assert (row["state"] in ("wrapup", "ended")) == (one.ended_at is not None)
        assert (one.queued_since is not None) == (row["state"] == "queued")
        assert one.owner is None or one.participant(one.owner) is not None
        assert len(one.past) <= PAST_MAX
        assert not {each.participant_id for each in one.past} & {each.participant_id for each in one.connected}
        owing = [each.participant_id for each in one.wrapups]
        assert len(owing) == len(set(owing))
        assert not (one.settled and (one.wrapups or one.notices or one.ended_at is None))

    @invariant()
    def state_survives_storing(self) -> None:
        """What is stored and read again is equal."""
        if self.now.conversation is not None:
            assert _read_again(self.now) == _stored(self.now)


def _sees(who: Person, given: Situation) -> bool:
    return who.sees(given.existing.queue, given.existing.division)


def _owed(given: Situation, who: Person) -> int:
    if given.conversation is None:
        return 0
    return sum(one.user_id == who.user_id for one in given.conversation.wrapups)


def _stored(given: Situation) -> Situation:
    """Without what the configuration says, and with sessions in the order in which a store gives them."""
    monitor = given.monitor
    if monitor is not None:
        ordered = tuple(sorted(monitor.sessions, key=lambda one: one.session))
        monitor = replace(monitor, sessions=ordered)
    return replace(given, monitor=monitor, wrapup_rule=WrapupRule(), name_visible=False)


def _read_again(given: Situation) -> Situation:
    counters = given.counters
    fields = {
        b"state": encode_state(given.existing),
        b"version": b"1.7",
        b"epoch": b"9",
        b"messages": b"%d" % counters.messages,
        b"unanswered": b"%d" % counters.unanswered,
    }
    if counters.awaiting is not None and counters.awaiting_since is not None:
        fields |= {b"awaiting": counters.awaiting.encode(), b"since": b"%d" % counters.awaiting_since}
    if given.monitor is not None:
        leases: tuple[MonitorSession, ...] = given.monitor.sessions
        fields[b"m"] = encode_state(given.monitor)
        fields |= {f"ml:{one.session}".encode(): b"%d" % one.lease_end for one in leases}
    if given.prepared is not None:
        fields[b"x"] = encode_state(given.prepared)
    return decode_loaded(fields, given.now_ms).situation


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
