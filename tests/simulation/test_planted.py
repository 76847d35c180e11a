"""Bugs put into the hub or its store on purpose: the simulation finds each, by the invariant that it breaks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hub.domain import commands as c
from hub.domain import decide as rules
from hub.domain import events as e
from hub.domain import evolve as facts
from hub.domain.conversation import Monitor, Situation
from hub.fanout.watch import Watch
from hub.service.ports import Append, Appended, Commit, Committed, Loaded, StoredEntry
from hub.store.follow import Follower, Log
from tests.simulation import node
from tests.simulation.judge import Violation
from tests.simulation.store import Line, ModelStore
from tests.simulation.world import World

SEEDS = 400
Patch = pytest.MonkeyPatch


def found(invariant: str) -> int:
    """
    The first seed that breaks that invariant. One planted bug may break others, too, and earlier.

    Raises:
        AssertionError: None does.
    """
    others: dict[str, int] = {}
    for seed in range(SEEDS):
        try:
            World(seed).run()
        except Violation as violation:
            if violation.invariant == invariant:
                return seed
            others.setdefault(violation.invariant, seed)
        except Exception as error:
            others.setdefault(repr(error), seed)
    raise AssertionError(f"no seed below {SEEDS} breaks {invariant}; others (and their first seeds): {others}")


def without_fence(patch: Patch) -> None:
    """The store writes whatever was decided, on whatever that was decided."""
    commit = ModelStore._commit

    def unfenced(self: ModelStore, one: Commit) -> Any:
        now = self.now(one.org, one.conversation_id)
        return commit(self, replace(one, version=now.version, monitor_version=None))

    patch.setattr(ModelStore, "_commit", unfenced)


def lease_not_looked_at(patch: Patch) -> None:
    """A node gives to a monitor's screen whether or not its lease is certain."""
    patch.setattr(Watch, "hearing", lambda self: not self.listener.quiet)


def lock_not_looked_at(patch: Patch) -> None:
    """Whoever starts gets the lock, as if nobody had it."""
    start = rules._HANDLERS[c.StartMonitor]

    def greedy(situation: Situation, command: c.StartMonitor) -> list[e.Event]:
        return start(replace(situation, monitor=None), command)

    patch.setitem(rules._HANDLERS, c.StartMonitor, greedy)


def monitor_id_not_compared(patch: Patch) -> None:
    """Whoever monitors gets every entry, under whomever it was written."""

    def sees(self: Watch, entry: StoredEntry) -> bool:
        return self.participant_id is not None or self.monitor_id is not None

    patch.setattr(Watch, "sees", sees)


def command_not_recognised(patch: Patch) -> None:
    """A command that comes again is done again."""
    commit = ModelStore._commit

    def forgetful(self: ModelStore, one: Commit) -> Any:
        self.requests.clear()
        return commit(self, one)

    async def nothing(self: Line, key: tuple[str, ...]) -> None:
        return None

    patch.setattr(ModelStore, "_commit", forgetful)
    patch.setattr(Line, "_answered", nothing)


def message_not_recognised(patch: Patch) -> None:
    """A message that comes again is written again."""
    append = ModelStore._append
    patch.setattr(ModelStore, "_append", lambda self, one: append(self, replace(one, seen=())))


def message_acknowledged_only(patch: Patch) -> None:
    """Every tenth message or so is answered with `ok`, and not written."""
    append = ModelStore._append

    def sloppy(self: ModelStore, one: Append) -> Appended:
        if one.kind == "message" and self.world.chance.random() < 0.1:
            return Appended("ok", None)
        return append(self, one)

    patch.setattr(ModelStore, "_append", sloppy)


def takeover_in_two_steps(patch: Patch) -> None:
    """A takeover's state is written first, and what tells of it in a second commit."""
    commit = ModelStore.do_commit

    def halved(self: ModelStore, one: Commit) -> Any:
        if not any(b'"takeover.completed"' in body for _, body in one.transcript):
            return commit(self, one)
        answer = commit(self, replace(one, transcript=(), actions=()))
        if isinstance(answer, Committed):
            version = one.new_version or ""
            rest = replace(one, version=version, monitor_version=None, sets=(), drops=(), ledger=(), request=None)
            self.world.loop.call_later(0.01, commit, self, rest)
        return answer

    patch.setattr(ModelStore, "do_commit", halved)


def epoch_not_compared(patch: Patch) -> None:
    """A takeover is confirmed whoever owns by now."""
    confirm = rules._HANDLERS[c.ConfirmTakeover]

    def blind(situation: Situation, command: c.ConfirmTakeover) -> list[e.Event]:
        if situation.prepared is not None:
            now = replace(situation.prepared, owner_epoch=situation.existing.owner_epoch)
            situation = replace(situation, prepared=now)
        return confirm(situation, command)

    patch.setitem(rules._HANDLERS, c.ConfirmTakeover, blind)


def lapsed_may_confirm(patch: Patch) -> None:
    """A takeover is confirmed by whoever once monitored, if nobody has swept yet."""

    def watched_by(situation: Situation, person: Any, session: str) -> Monitor:
        held = situation.monitor
        if held is None or held.user_id != person.user_id:
            raise rules._not_monitoring()
        return held

    patch.setattr(rules, "_watched_by", watched_by)
    patch.setattr(node, "SWEEP_S", 60.0)


def tag_counted(patch: Patch) -> None:
    """Tags are counted: after a failover the same ones are given out again."""
    patch.setattr(ModelStore, "_tag", lambda self: str(1 + sum(len(one.transcript) for one in self.records.values())))


def gaps_not_repaired(patch: Patch) -> None:
    """A follower that misses something waits for better times."""

    def wait(self: Follower, log: Log) -> None:
        log._held.clear()

    patch.setattr(Follower, "_repair", wait)


def stale_owner_accepted(patch: Patch) -> None:
    """A message is written whoever owns by now."""
    append = ModelStore._append
    patch.setattr(ModelStore, "_append", lambda self, one: append(self, replace(one, owner=None)))


def notice_lost(patch: Patch) -> None:
    """Of several who are taken over one isn't told."""
    taken_over = facts._HANDLERS[e.TakenOver]

    def forgetting(situation: Situation, event: e.TakenOver) -> Situation:
        return taken_over(situation, replace(event, notices=event.notices[:-1]))

    patch.setitem(facts._HANDLERS, e.TakenOver, forgetting)


def notice_kept(patch: Patch) -> None:
    """A notice stays, whoever acknowledges it."""
    patch.setitem(facts._HANDLERS, e.TakeoverAcknowledged, lambda situation, event: situation)


def ledger_line_lost(patch: Patch) -> None:
    """Where a commit has several lines the last one is lost."""
    commit = ModelStore._commit
    patch.setattr(ModelStore, "_commit", lambda self, one: commit(self, replace(one, ledger=one.ledger[:1])))


def read_from_a_replica(patch: Patch) -> None:
    """Commands are decided on what was so one change ago; commits are fenced, but refusals are believed."""
    before: dict[tuple[ModelStore, str, str], list[Loaded]] = {}

    async def load(self: Line, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        store = self._world.store

        def stale() -> Loaded:
            now = store.now(org, conversation_id)
            known = before.setdefault((store, org, conversation_id), [now])
            if (now.version, now.monitor_version) != (known[-1].version, known[-1].monitor_version):
                known.append(now)
            return known[-2] if len(known) > 1 else now

        return await self.ask(stale)

    patch.setattr(Line, "load", load)


@pytest.mark.parametrize(
    ("invariant", "plant"),
    [
        ("I1", without_fence),
        ("I1", lease_not_looked_at),
        ("I1", lock_not_looked_at),
        ("I1", monitor_id_not_compared),
        ("I2", takeover_in_two_steps),
        ("I2", epoch_not_compared),
        ("I2", lapsed_may_confirm),
        ("I2", stale_owner_accepted),
        ("I3", command_not_recognised),
        ("I3", message_not_recognised),
        ("I3", message_acknowledged_only),
        ("I4", notice_lost),
        ("I4", notice_kept),
        ("I5", tag_counted),
        ("I5", gaps_not_repaired),
        ("I7", ledger_line_lost),
        ("order", read_from_a_replica),
    ],
)
def test_a_planted_bug_is_found(monkeypatch: Patch, invariant: str, plant: Callable[[Patch], None]) -> None:
    """Some hundred seeds are enough for each."""
    plant(monkeypatch)
    print(f"{plant.__name__}: found by {invariant} at seed {found(invariant)}")
