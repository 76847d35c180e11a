"""
What must hold. The judge sees each write as the store does it, each entry as a follower delivers it and a screen gets it.

It believes nobody: what a write means is read from the states before and after it and from its ledger lines, who held
and owned at an entry's time is kept from those states, and a screen's right is looked up there, not in the watch that
gave the entry. The invariants are those of `docs/guarantees.md`; `Violation.invariant` names the one that is broken.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from hub.domain.conversation import Conversation, Situation
from hub.service.ports import Append, Commit, Committed, Loaded
from tests.support.fake_store import START_MS, Record

if TYPE_CHECKING:
    from tests.simulation.node import FollowedTopic, Node, Screen
    from tests.simulation.people import Call, Tab
    from tests.simulation.world import World

Json = dict[str, Any]


class Violation(AssertionError):
    """A promise is broken."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


@dataclass(eq=False, slots=True)
class Write:
    """One commit or append that was done; a failover may have `forgotten` it since."""

    number: int
    at: float
    conversation_id: str
    what: tuple[str, ...]
    answer: bytes = b""
    request: tuple[str, str] | None = None
    forgotten: bool = False


@dataclass(eq=False, slots=True)
class Written:
    """One transcript entry as it was written: in which write, behind which tag, under whose eyes, among whom."""

    write: Write
    offset: int
    tag: str
    before: str
    body: bytes
    monitor_id: str | None
    present: frozenset[str]


@dataclass(eq=False, slots=True)
class Life:
    """One monitor: its person, and per session until when the store has ever promised the lease."""

    user_id: str
    conversation_id: str
    sessions: dict[str, int] = field(default_factory=dict)
    lapses: list[tuple[str, int, float]] = field(default_factory=list)  # session, from, joined again at


@dataclass(slots=True)
class Told:
    """What the ledger's lines say that a conversation is, folded from the state before them."""

    connected: list[str]
    wrapups: set[str]
    notices: set[tuple[str, str, str]]
    monitor: str | None
    sessions: set[str]
    prepared: str | None
    ended: bool
    queue: str


class Judge:
    """See the module."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.writes = 0
        self.journal: list[Write] = []
        self.entries: dict[tuple[str, int, str], list[Written]] = defaultdict(list)
        self.lives: dict[str, Life] = {}
        self.shown: dict[str, tuple[str | None, int]] = {}
        self.messages: dict[str, list[Write]] = defaultdict(list)
        self.requests: dict[tuple[str, str, str], list[Write]] = defaultdict(list)
        self.taken: set[bytes] = set()  # hashes of events that changed a state, or could have
        self.acked_messages: dict[str, str] = {}  # id to conversation
        self.acked: list[Call] = []
        self.followed_to: dict[FollowedTopic, Written | None] = {}

    def broken(self, invariant: str, what: str) -> None:
        """End the run."""
        self.world.loop.fail(Violation(invariant, what))

    def holds(self, invariant: str, condition: bool, what: object) -> None:
        """End the run where it doesn't."""
        if not condition:
            self.broken(invariant, str(what))

    # -- writes --------------------------------------------------------------------------------------------------------

    def committed(
        self, commit: Commit, answer: Committed, before: Loaded, after: Loaded, record: Record, lines: list[bytes]
    ) -> None:
        """One commit was done."""
        told = [orjson.loads(line) for line in lines]
        old, new = before.situation, after.situation
        write = self._note(commit.conversation_id, tuple(line["what"] for line in told))
        write.answer = commit.answer
        self.taken.update(commit.seen)
        if commit.request is not None:
            self._once(commit, write)
        self._monitor(old, new, told)
        self._owner(old, new, told)
        self._fence(new.existing, record)
        entries = self._entries(write, before, new.existing, record)
        self._taken_over(commit, old, new, told, entries)
        self._ledger(old, new, told)
        self.world.say("store", "commit", commit.conversation_id, *write.what)

    def _note(self, conversation_id: str, what: tuple[str, ...]) -> Write:
        self.writes += 1
        write = Write(self.writes, self.world.loop.time(), conversation_id, what)
        self.journal.append(write)
        return write

    def _once(self, commit: Commit, write: Write) -> None:
        """I3: a request is carried out once."""
        assert commit.request is not None
        write.request = (commit.request.user_id, commit.request.req)
        done = self.requests[*write.request, commit.conversation_id]
        self.holds("I3", all(one.forgotten for one in done), f"{write.request} was carried out twice")
        done.append(write)

    def _monitor(self, old: Situation, new: Situation, told: list[Json]) -> None:
        """I1: one monitor at a time; a lapse only when it may be."""
        was, is_ = old.monitor, new.monitor
        ended = {line["monitor_id"]: line["reason"] for line in told if line["what"] == "monitor.ended"}
        if was is not None and (is_ is None or is_.monitor_id != was.monitor_id):
            self.holds("I1", was.monitor_id in ended, f"{was.monitor_id} is gone without having ended")
            if ended.get(was.monitor_id) == "lease_expired":
                self.holds("I1", not was.alive(new.now_ms), f"{was.monitor_id} expired before its lease was over")
        if is_ is None:
            return
        life = self.lives.get(is_.monitor_id)
        if was is None or was.monitor_id != is_.monitor_id:
            self.holds("I1", life is None, f"{is_.monitor_id} is back from the dead")
            life = self.lives[is_.monitor_id] = Life(is_.user_id, new.existing.conversation_id)
            self.world.count("monitors")
        if life is None:
            self.broken("I1", f"{is_.monitor_id} never started")
            return
        self.holds("I1", life.user_id == is_.user_id, f"{is_.monitor_id} changed hands")
        for one in is_.sessions:
            self._promised(life, one.session, one.lease_end)

    def _promised(self, life: Life, session: str, lease_end: int) -> None:
        until = life.sessions.get(session)
        now = self.world.store.now_ms
        if until is not None and until <= now and lease_end > until:
            life.lapses.append((session, until, self.world.loop.time()))
        life.sessions[session] = max(lease_end, until or 0)

    def renewed(self, monitor_id: str, session: str, lease_end: int) -> None:
        """A lease was extended."""
        self._promised(self.lives[monitor_id], session, lease_end)

    def _owner(self, old: Situation, new: Situation, told: list[Json]) -> None:
        """I2: one owner, who is there; each change of it has its own epoch."""
        was, is_ = old.conversation, new.existing
        connected = [one.participant_id for one in is_.connected]
        self.holds("I2", (is_.owner is None) == (not connected), f"owner {is_.owner} of {connected}")
        self.holds("I2", is_.owner is None or is_.owner in connected, f"owner {is_.owner} of {connected}")
        self.holds("I2", len(set(connected)) == len(connected), f"twice in {connected}")
        supervisors = [one for one in is_.connected if one.purpose == "supervisor"]
        self.holds("I2", len(supervisors) <= 1, f"two supervisors in {connected}")
        if was is None or is_.ended_at is not None:
            return
        if was.owner != is_.owner:
            self.holds("I2", is_.owner_epoch > was.owner_epoch, f"{is_.owner} owns under {was.owner}'s epoch")
        elif len(told) == 1:
            self.holds("I2", is_.owner_epoch == was.owner_epoch, f"a new epoch for {is_.owner}")

    def _fence(self, is_: Conversation, record: Record) -> None:
        """I2: what an append is measured by says the same as the state: who may speak, and who owns."""
        there = {name[2:].decode() for name in record.fields if name.startswith(b"p:")}
        wanted = {one.participant_id for one in (is_.customer, *is_.connected)}
        self.holds("I2", there == wanted, f"{sorted(there)} may speak, {sorted(wanted)} are connected")
        owner = record.fields.get(b"owner", b"").decode()
        wanted_owner = f"{is_.owner} {is_.owner_epoch}" if is_.owner is not None else ""
        self.holds("I2", owner == wanted_owner, f"{owner!r} may answer, the owner is {wanted_owner!r}")

    def _taken_over(
        self, commit: Commit, old: Situation, new: Situation, told: list[Json], entries: list[Written]
    ) -> None:
        """I2: a takeover is whole, by who monitored, and of the owner that was shown."""
        for line in told:
            if line["what"] == "takeover.prepared":
                self.shown[line["takeover_id"]] = (old.existing.owner, old.existing.owner_epoch)
        known = old.conversation.takeovers if old.conversation is not None else ()
        done = [one for one in new.existing.takeovers if one not in known]
        marks = [line for line in told if line["what"] == "takeover.completed"]
        self.holds("I2", done == [line["takeover_id"] for line in marks], f"took over: {done}, lines: {marks}")
        bodies = [orjson.loads(one.body) for one in entries]
        in_log = [body for body in bodies if body["event"] == "takeover.completed"]
        self.holds("I2", len(in_log) == len(done), f"took over: {done}, transcript: {in_log}")
        if not done or not marks or not in_log:
            return
        self.world.count("takeovers")
        line, was, is_, held = marks[0], old.existing, new.existing, old.monitor
        by, takeover_id = line["user_id"], done[0]
        mine = held is not None and held.user_id == by and held.alive(commit.now_ms)  # when it was decided
        self.holds("I2", mine, f"{by} took over without monitoring: {held}")
        now = (was.owner, was.owner_epoch)
        self.holds("I2", self.shown.get(takeover_id) == now, f"shown {self.shown.get(takeover_id)}, took over {now}")
        owner = is_.participant(is_.owner)
        whole = owner is not None and (owner.user_id, owner.purpose) == (by, "supervisor") and new.monitor is None
        self.holds("I2", whole and is_.connected == (owner,), f"half taken over: {is_.connected}, {new.monitor}")
        removed = [one.participant_id for one in was.connected]
        self.holds("I2", line["removed"] == removed, f"removed {line['removed']} of {removed}")
        told_of = [body["event"] for body in bodies]
        wanted = ["participant.disconnected"] * len(removed) + ["participant.connected", "takeover.completed"]
        self.holds("I2", told_of == wanted, f"the transcript says {told_of}")
        self.holds("I2", len(commit.actions) == len(removed) + 1, f"{len(commit.actions)} actions for {removed}")
        segments = [orjson.loads(one)["kind"] for one in commit.segments]
        self.holds("I2", segments.count("interact") == len(removed), f"segments {segments} for {removed}")
        owed = {(one.takeover_id, one.participant_id) for one in is_.notices if one.takeover_id == takeover_id}
        self.holds("I4", owed == {(takeover_id, one) for one in removed}, f"notices {owed} for {removed}")

    def _ledger(self, old: Situation, new: Situation, told: list[Json]) -> None:
        """I7: the lines, folded over what was, give what is. (I4: and so do the notices.)"""
        try:
            folded = fold(state_of(old), told, new)
        except (KeyError, ValueError) as error:
            self.broken("I7", f"a line of {told} fits nothing: {error!r}")
            return
        is_ = state_of(new)
        self.holds("I4", folded.notices == is_.notices, f"owed {is_.notices}, by the ledger {folded.notices}")
        self.holds("I7", folded == is_, f"{is_} isn't what {told} make: {folded}")

    def _entries(self, write: Write, before: Loaded, after: Conversation | None, record: Record) -> list[Written]:
        """I5: entries rise by one and chain; I1: each says who watched when its write began."""
        offset, tag, monitor = before.top, before.tag, before.situation.monitor
        watching = monitor.monitor_id if monitor is not None else None
        present = frozenset(_present(before.situation.conversation) | _present(after))
        found = []
        for one in record.transcript[before.top :]:
            self.holds("I5", one.offset == offset + 1, f"entry {one.offset} behind {offset}")
            self.holds("I1", one.monitor_id == (watching or "-"), f"{one} was written under {watching}")
            entry = Written(write, one.offset, one.tag, tag, one.body, watching, present)
            self.entries[write.conversation_id, one.offset, one.tag].append(entry)
            found.append(entry)
            offset, tag = one.offset, one.tag
        top = (record.number(b"top"), record.fields.get(b"tag", b"0").decode())
        self.holds("I5", top == (offset, tag), f"top {top}, last {offset}-{tag}")
        return found

    def appended(self, append: Append, before: Loaded, record: Record) -> None:
        """One append was done."""
        write = self._note(append.conversation_id, (append.kind,))
        entries = self._entries(write, before, before.situation.conversation, record)
        self.holds("I3", len(entries) == 1, f"one append wrote {len(entries)} entries")
        if append.kind == "message":
            self._message(append, before.situation.existing, write, entries[0])

    def _message(self, append: Append, conversation: Conversation, write: Write, entry: Written) -> None:
        data = orjson.loads(entry.body)["data"]
        message_id, who = data["message_id"], data["participant_id"]
        write.what = ("message", message_id)
        written = self.messages[message_id]
        self.holds("I3", all(one.forgotten for one in written), f"{message_id} was written twice")
        written.append(write)
        speaker = conversation.participant(who)
        self.holds("I2", speaker is not None and conversation.ended_at is None, f"{who} spoke, who isn't there")
        if append.connector is None:
            _, role, user_id, _ = message_id.split(".")
            named = speaker is not None and speaker.user_id == user_id
            owns = role == "customer" or who == conversation.owner
            self.holds("I2", named and owns, f"{user_id} spoke as {who}, {conversation.owner} owns")
        self.world.count("messages")
        self.world.say("store", "append", append.conversation_id, message_id, who)

    # -- failover ------------------------------------------------------------------------------------------------------

    def failed_over(self, writes: int) -> None:
        """Everything after that many writes is forgotten."""
        for write in self.journal:
            if write.number > writes and not write.forgotten:
                write.forgotten = True
                self.world.count("forgotten")

    # -- what is delivered -----------------------------------------------------------------------------------------------

    def _written(self, conversation_id: str, offset: int, tag: str, body: bytes) -> Written | None:
        found = self.entries.get((conversation_id, offset, tag), ())
        return next((one for one in reversed(found) if one.body == body), None)

    def follows(self, topic: "FollowedTopic", offset: int, tag: str) -> None:
        """A follower starts behind that position."""
        found = self.entries.get((topic.conversation_id, offset, tag))
        self.followed_to[topic] = found[-1] if found else None

    def followed(self, topic: "FollowedTopic", offset: int, tag: str, body: bytes) -> None:
        """I5: an entry comes behind the one that it was written behind, and none of this history behind a forgotten one."""
        last, entry = self.followed_to.get(topic), self._written(topic.conversation_id, offset, tag, body)
        if entry is None:
            self.broken("I5", f"{topic.conversation_id} {offset}-{tag} was followed, but never written")
            return
        self._chained(last, entry, f"a follower of {topic.conversation_id}")
        self.followed_to[topic] = entry

    def _chained(self, last: Written | None, entry: Written, who: str) -> None:
        if last is None:
            self.holds("I5", entry.offset == 1, f"{who} begins at {entry.offset}")
            return
        fits = (entry.offset, entry.before) == (last.offset + 1, last.tag)
        self.holds("I5", fits, f"{who} got {entry.offset}-{entry.tag} behind {last.offset}-{last.tag}")
        silent = last.write.forgotten and not entry.write.forgotten
        self.holds("I5", not silent, f"{who} went on behind forgotten {last.offset}-{last.tag} without a word")

    def given(self, screen: "Screen", frame: bytes) -> None:
        """I1, I6: an entry is given to a screen of whom the history says that it was theirs."""
        body, mark, cursor = frame.rpartition(b',"cursor":"')
        if not mark:
            return
        conversation_id = orjson.loads(frame)["conversation_id"]
        tag, _, offset = cursor[:-2].decode().rpartition(".")[2].partition("-")
        entry = self._written(conversation_id, int(offset), tag, body + b"}")
        if entry is None:
            self.broken("I5", f"{conversation_id} {offset}-{tag} was given, but never written")
            return
        self.world.count("given")
        if screen.person.user_id in entry.present:
            return
        self._given_to_monitor(screen, conversation_id, entry)

    def position(self, conversation_id: str, cursor: str) -> Written | None:
        """I5: where a cursor stands; one that was given out is of an entry that was written."""
        tag, _, offset = cursor.rpartition(".")[2].partition("-")
        found = self.entries.get((conversation_id, int(offset), tag))
        self.holds("I5", bool(found) or offset == "0", f"cursor {cursor} of {conversation_id} is of nothing")
        return found[-1] if found else None

    def shown_to(self, tab: "Tab", conversation_id: str, frame: bytes) -> Written | None:
        """I5: what a client's screen shows follows what it showed."""
        body, _, cursor = frame.rpartition(b',"cursor":"')
        tag, _, offset = cursor[:-2].decode().rpartition(".")[2].partition("-")
        entry = self._written(conversation_id, int(offset), tag, body + b"}")
        if entry is None or conversation_id not in tab.seen:
            self.broken("I5", f"{tab.session} was shown {cursor!r} of {conversation_id} out of nothing")
            return None
        self._chained(tab.seen[conversation_id], entry, f"{tab.session} in {conversation_id}")
        return entry

    def _given_to_monitor(self, screen: "Screen", conversation_id: str, entry: Written) -> None:
        who = f"{screen.session} of {screen.person.user_id}"
        life = self.lives.get(entry.monitor_id or "")
        mine = life is not None and life.user_id == screen.person.user_id and screen.person.role != "agent"
        self.holds("I1", mine, f"{who} got {entry.offset}, written under {entry.monitor_id}")
        if life is None:
            return
        until = life.sessions.get(screen.session)
        self.holds("I1", until is not None, f"{who} never joined {entry.monitor_id}")
        now = self.world.loop.time()
        self.holds("I1", START_MS + now * 1000 <= (until or 0), f"{who} got {entry.offset} after its lease: {until}")
        self.holds("I1", now < screen.lease_ends(conversation_id), f"{who} got {entry.offset} with its lease in doubt")
        self.world.count("given to monitors")

    # -- the end ---------------------------------------------------------------------------------------------------------

    def at_end(self) -> None:
        """What must hold when everything has come to rest."""
        for (_, conversation_id), record in self.world.store.records.items():
            self._in_transcript(conversation_id, record)
        for message_id, conversation_id in self.acked_messages.items():
            written = self.messages.get(message_id)
            self.holds("I3", bool(written), f"{message_id} of {conversation_id} was acknowledged, but never written")
        for call in self.acked:
            self._was_done(call)
        for node in self.world.nodes.values():
            self._at_rest(node)

    def acknowledged(self, call: "Call") -> None:
        """Somebody was told that what they wanted is done."""
        if isinstance(call.answer, dict):
            self.acked.append(call)

    def _was_done(self, call: "Call") -> None:
        """I3: what was acknowledged was done, and it was that; a failover may have forgotten it since, whole."""
        if call.cmd == "monitor.start":  # joining twice needs no commit
            life = self.lives.get(call.answer["monitor_id"])  # type: ignore[index]
            done = life is not None and life.user_id == call.user_id and call.session in life.sessions
        else:
            writes = self.requests.get((call.user_id, call.req, call.conversation_id), ())
            done = any(orjson.loads(one.answer) == call.answer for one in writes)
        self.holds("I3", done, f"{call.cmd} ({call.req}) was acknowledged with {call.answer}, but never done")

    def _in_transcript(self, conversation_id: str, record: Record) -> None:
        """I3: what was written and not forgotten is there once; what was forgotten isn't there at all."""
        kept = [one for one in self.journal if one.conversation_id == conversation_id and not one.forgotten]
        there = [
            event["data"]["message_id"]
            for event in map(orjson.loads, (one.body for one in record.transcript))
            if event["event"] == "message.created"
        ]
        wanted = [one.what[1] for one in kept if one.what[:1] == ("message",)]
        self.holds("I3", there == wanted, f"{conversation_id}: messages {there}, written and kept: {wanted}")
        lines = [orjson.loads(line)["what"] for line in record.ledger]
        done = [what for one in kept if one.what[:1] not in APPENDED for what in one.what]
        self.holds("I7", lines == done, f"{conversation_id}: the ledger says {lines}, done and kept: {done}")

    def _at_rest(self, node: "Node") -> None:
        """I5: each follower is where the store is."""
        for topic in node.topics.values():
            record = self.world.store.record("acme", topic.conversation_id)
            here = (topic.offset, topic.tag.decode())
            there = (record.number(b"top"), record.fields.get(b"tag", b"0").decode())
            self.holds(
                "I5", here == there, f"{node.process.name} follows {topic.conversation_id} at {here}, not {there}"
            )
            last = self.followed_to.get(topic)
            self.holds("I5", last is None or not last.write.forgotten, f"{topic.conversation_id}: at a forgotten entry")


APPENDED = (("message",), ("receipt",), ("panel",))


def _present(conversation: Conversation | None) -> set[str]:
    if conversation is None:
        return set()
    there = conversation.connected if conversation.ended_at is None else conversation.at_end
    return {one.user_id for one in there}


def state_of(situation: Situation) -> Told:
    """What the ledger should have told of a situation."""
    conversation, monitor = situation.conversation, situation.monitor
    if conversation is None:
        return Told([], set(), set(), None, set(), None, False, "")
    return Told(
        connected=[one.participant_id for one in conversation.connected],
        wrapups={one.participant_id for one in conversation.wrapups},
        notices={(one.takeover_id, one.participant_id, one.user_id) for one in conversation.notices},
        monitor=monitor.monitor_id if monitor is not None else None,
        sessions={one.session for one in monitor.sessions} if monitor is not None else set(),
        prepared=situation.prepared.takeover_id if situation.prepared is not None else None,
        ended=conversation.ended_at is not None,
        queue=conversation.queue,
    )


def fold(told: Told, lines: list[Json], new: Situation) -> Told:
    """
    What the lines make of it; `new` says only what a line leaves out (names of new ids).

    Raises:
        ValueError, KeyError: A line doesn't fit what was.
    """
    for line in lines:
        _fold_one(told, line, new)
    return told


def _fold_one(told: Told, line: Json, new: Situation) -> None:
    match line["what"]:
        case "conversation.started":
            told.queue = new.existing.queue
        case "conversation.transferred":
            told.queue = line["queue"]
        case "conversation.ended":
            told.connected, told.prepared, told.ended = [], None, True
        case "participant.connected":
            told.connected.append(line["participant_id"])
        case "participant.disconnected":
            told.connected.remove(line["participant_id"])
        case "wrapup.requested":
            told.wrapups.add(line["participant_id"])
        case "wrapup.completed" | "wrapup.timed_out":
            told.wrapups.remove(line["participant_id"])
        case "monitor.started" | "monitor.joined" | "monitor.left" | "monitor.ended":
            _fold_monitor(told, line, new)
        case "takeover.prepared":
            told.prepared = line["takeover_id"]
        case "takeover.cancelled":
            told.prepared = None
        case "takeover.acknowledged":
            mine = (line["takeover_id"], line["user_id"])
            told.notices = {one for one in told.notices if (one[0], one[2]) != mine}
        case "takeover.completed":
            users = {one.participant_id: one.user_id for one in new.existing.past}
            told.notices |= {(line["takeover_id"], one, users[one]) for one in line["removed"]}
            told.connected, told.prepared = [new.existing.connected[0].participant_id], None
        case what:
            raise ValueError(f"no such line: {what}")


def _fold_monitor(told: Told, line: Json, new: Situation) -> None:
    match line["what"]:
        case "monitor.started":
            if told.monitor is not None or new.monitor is None:
                raise ValueError(f"{line['monitor_id']} beside {told.monitor}")
            told.monitor, told.prepared = line["monitor_id"], None
            told.sessions = {one.session for one in new.monitor.sessions}
        case "monitor.joined":
            told.sessions.add(line["session"])
        case "monitor.left":
            told.sessions.remove(line["session"])
        case _:
            if told.monitor != line["monitor_id"]:
                raise ValueError(f"the end of {line['monitor_id']}, not of {told.monitor}")
            told.monitor, told.sessions, told.prepared = None, set(), None
