"""
Is there an order? A small checker of linearizability, and what it is asked here: the lock of monitoring, and takeovers.

A history is linearizable if each operation can be given one moment between its invocation and its answer so that, done
one after the other at those moments, all of them are answered as they were (Herlihy and Wing, 1990). The search is Wing
and Gong's with Lowe's memory: a set of operations done and a state reached by them is looked at once. Operations without
an answer may have happened at any time after their invocation, or not at all.

    linearization(spec, history)    an order that explains the history, or None
    Lock                            one conversation's monitor: start, join, stop, release, lapse, taken over
    Contest                         owner and takeover beside it: who is connected, prepare, confirm, who may speak
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation: `what` (a name and its arguments), from `invoked` to `answered`, with its `answer`.

    An `answer` of None: none came. It then may have happened, but not after `answered` (infinite, unless something
    else shows that it was over by then). Answers are `("ok", …)` or `("no", code, …)`.
    """

    what: tuple[Hashable, ...]
    invoked: float
    answered: float = NEVER
    answer: tuple[Hashable, ...] | None = None
    effect: Hashable = None  # what an unanswered one made, where that is known otherwise (a monitor's id)


class Spec(Protocol[S]):
    """How things are one after the other."""

    initial: S

    def step(self, state: S, operation: Operation) -> Iterable[S]:
        """The states in which the operation, so answered, can leave `state`; none if it can't be answered so."""


@dataclass(slots=True)
class _Search(Generic[S]):
    """One search; `deepest` is the best order so far, for whoever has to find out why there is none."""

    spec: Spec[S]
    history: Sequence[Operation]
    deepest: list[Operation] = field(default_factory=list)

    def run(self) -> list[Operation] | None:
        """An order of all answered operations (and of those others that it needs), or None."""
        required = sum(1 << place for place, one in enumerate(self.history) if one.answer is not None)
        seen: set[tuple[int, S]] = set()
        order: list[Operation] = []
        stack = [self._moves(0, self.spec.initial)]
        if not required:
            return []
        while stack:
            for done, state, operation in stack[-1]:
                if (done, state) in seen:
                    continue
                seen.add((done, state))
                order.append(operation)
                if len(order) > len(self.deepest):
                    self.deepest = list(order)
                if done & required == required:
                    return order
                stack.append(self._moves(done, state))
                break
            else:
                stack.pop()
                if order:
                    order.pop()
        return None

    def _moves(self, done: int, state: S) -> Iterable[tuple[int, S, Operation]]:
        """What can come next: the answered ones by their answers, then those that may not have happened at all."""
        candidates = self._candidates(done)
        candidates.sort(key=lambda place: self.history[place].answered)
        for place in candidates:
            operation = self.history[place]
            for after in self.spec.step(state, operation):
                if operation.answer is not None or after != state:
                    yield done | 1 << place, after, operation

    def _candidates(self, done: int) -> list[int]:
        """Operations that no undone one comes before, and that no done one came after."""
        last_invocation = self.history[done.bit_length() - 1].invoked if done else -NEVER
        first_answer, found = NEVER, []
        for place in range((~done & (done + 1)).bit_length() - 1, len(self.history)):
            one = self.history[place]
            if done >> place & 1:
                continue
            if one.invoked > first_answer:
                break
            if one.answer is not None:
                first_answer = min(first_answer, one.answered)
            if one.answered >= last_invocation:
                found.append(place)
        return found


def linearization(spec: Spec[S], history: Iterable[Operation]) -> list[Operation] | None:
    """An order that explains `history`, with the unanswered operations that it needs; None where there is none."""
    return _Search(spec, sorted(history, key=lambda one: (one.invoked, one.answered))).run()


def assert_linearizable(spec: Spec[S], history: Iterable[Operation], about: str = "") -> None:
    """
    Like `linearization`, for tests.

    Raises:
        AssertionError: There is none; says how far one gets and what is left then.
    """
    search = _Search(spec, sorted(history, key=lambda one: (one.invoked, one.answered)))
    if search.run() is not None:
        return
    left = [one for one in search.history if one not in search.deepest and one.answer is not None]
    so_far = "\n  ".join(map(_told, search.deepest[-8:]))
    stuck = "\n  ".join(map(_told, left[:8]))
    raise AssertionError(
        f"no order explains this history {about}; after\n  {so_far}\nnone of these can be next\n  {stuck}"
    )


def _told(one: Operation) -> str:
    return f"{one.invoked:.4f}..{one.answered:.4f} {one.what} -> {one.answer}"


# -- the lock ----------------------------------------------------------------------------------------------------------


class Holder(NamedTuple):
    """A monitor: `alive` sessions have a running lease, `lapsed` ones had. Its id is None while no answer told it."""

    monitor_id: Hashable
    user: str
    target: str | None
    alive: frozenset[str]
    lapsed: frozenset[str] = frozenset()


class Held(NamedTuple):
    """The lock: who has it, and the ids of monitors that are over (none comes back)."""

    holder: Holder | None = None
    over: frozenset[Hashable] = frozenset()


def _freed(held: Held) -> Held:
    """Nobody has it."""
    assert held.holder is not None
    return Held(None, held.over | {held.holder.monitor_id})


def _lapse(held: Held, monitor_id: Hashable, session: str) -> list[Held]:
    holder = held.holder
    if holder is None or holder.monitor_id != monitor_id or session not in holder.alive:
        return []
    return [held._replace(holder=holder._replace(alive=holder.alive - {session}, lapsed=holder.lapsed | {session}))]


def _begin(held: Held, operation: Operation, user: str, session: str, target: str | None) -> list[Held]:
    """Start or join, told `ok`; or not told, which may have been either."""
    answer, holder = operation.answer, held.holder
    told = answer[1] if answer is not None and answer[0] == "ok" else operation.effect
    if holder is not None and holder.alive:
        if holder.user != user or (told is not None and holder.monitor_id not in (None, told)):
            return []
        known = told if told is not None else holder.monitor_id
        joined = holder._replace(monitor_id=known, alive=holder.alive | {session}, lapsed=holder.lapsed - {session})
        return [held._replace(holder=joined)]
    if told is not None and (told in held.over or (holder is not None and holder.monitor_id == told)):
        return []
    before = _freed(held) if holder is not None else held
    return [Held(Holder(told, user, target, frozenset({session})), before.over)]


def _end(held: Held, operation: Operation, user: str | None) -> list[Held]:
    """Stop (by `user`) or release (by anybody)."""
    holder, answer = held.holder, operation.answer
    theirs = holder is not None and user in (None, holder.user)
    gone = holder is None or not theirs
    if answer is None or answer[0] == "ok":
        return [_freed(held)] if theirs else []
    if answer[1] != "not_monitoring":
        return []
    if gone:
        return [held]
    assert holder is not None
    return [] if holder.alive else [_freed(held)]  # its lease is over, and somebody has ended it for that already


class Lock:
    """
    One conversation's monitor. Operations:

        start user session      ok monitor_id; no monitor_held user; no … where nobody may start now
        stop user, release      ok; no not_monitoring
        lapse monitor session   never answered: given to the checker where a lease ran out, from that moment on
        takeover user session   ok; no … — an `ok` ends the monitor of that user
    """

    initial = Held()

    def step(self, state: Held, operation: Operation) -> Iterable[Held]:
        """See the class."""
        answer = operation.answer
        match operation.what:
            case ("start", str(user), str(session), *_):
                if answer is None or answer[0] == "ok":
                    return _begin(state, operation, user, session, None)
                return [state] if self._refused(state, answer, user) else []
            case ("stop", str(user)):
                return _end(state, operation, user)
            case ("release", *_):
                return _end(state, operation, None)
            case ("lapse", monitor_id, str(session)):
                return _lapse(state, monitor_id, session)
            case ("takeover", str(user), str(session)):
                holder = state.holder
                mine = holder is not None and holder.user == user and session in holder.alive
                if answer is None or answer[0] == "ok":
                    return [_freed(state)] if mine else []
                return [state]
            case _:
                raise AssertionError(operation)

    @staticmethod
    def _refused(state: Held, answer: tuple[Hashable, ...], user: str) -> bool:
        holder = state.holder
        if holder is None or not holder.alive:
            return answer[1] != "monitor_held"
        if holder.user == user:
            return False  # the holder's other sessions join, whatever else
        return answer[1:] == ("monitor_held", holder.user) or answer[1] in ("not_in_progress", "already_done")


# -- owner and takeover ------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Somebody connected."""

    participant_id: Hashable
    user: str
    purpose: str


class Plan(NamedTuple):
    """A prepared takeover, of the owner of that epoch."""

    takeover_id: Hashable
    user: str
    epoch: int


class Scene(NamedTuple):
    """One conversation as far as supervisors contend for it; `connected` in the order of coming, as the owner needs."""

    stage: str = "none"  # none, running, ended
    connected: tuple[Part, ...] = ()
    owner: Hashable = None
    epoch: int = 0
    known: frozenset[str] = frozenset()
    lock: Held = Held()
    plan: Plan | None = None
    done: frozenset[Hashable] = frozenset()

    @property
    def owning(self) -> Part | None:
        """The owner."""
        return next((one for one in self.connected if one.participant_id == self.owner), None)


def _settled(scene: Scene) -> Scene:
    """The owner stays while connected; else who has been there longest; else nobody."""
    if scene.owning is not None:
        return scene
    owner = scene.connected[0].participant_id if scene.connected else None
    return scene if owner == scene.owner else scene._replace(owner=owner, epoch=scene.epoch + 1)


def _unwatched(scene: Scene) -> Scene:
    """The monitor is over, and what was prepared by it."""
    return scene._replace(lock=_freed(scene.lock), plan=None) if scene.lock.holder is not None else scene


class Contest:
    """
    One conversation with all that decides a takeover. Beside those of `Lock`, operations are:

        begin, end, transfer                        of the platform: ok; no conversation_ended, …
        connect participant user purpose            ok; no …
        disconnect participant                      ok; no …
        start user session participant|None         as in `Lock`, with each refusal only where the rules have it
        prepare user session                        ok takeover_id; no not_monitoring, lease_lost
        confirm user session takeover_id            ok participant epoch; no …
        cancel user takeover_id                     ok; no …
        send user role                              ok; no stale_owner, conversation_ended, unknown_conversation
    """

    initial = Scene()

    def step(self, state: Scene, operation: Operation) -> Iterable[Scene]:
        """See the class."""
        name, *args = operation.what
        handler = getattr(self, f"_{name}", None)
        assert handler is not None, operation
        if state.stage == "none" and name != "begin":
            return [state] if _no(operation, "unknown_conversation") else []
        after: Iterable[Scene] = handler(state, operation, *args)
        return after

    # -- the platform --------------------------------------------------------------------------------------------------

    def _begin(self, state: Scene, operation: Operation) -> Iterable[Scene]:
        if state.stage != "none":
            return [state] if _no(operation, "already_done") else []
        return [Scene("running")] if _ok(operation) else []

    def _end(self, state: Scene, operation: Operation) -> Iterable[Scene]:
        if state.stage == "ended":
            return _only_ended(state, operation)
        over = _unwatched(state)._replace(stage="ended", connected=(), owner=None, plan=None)
        return [over] if _ok(operation) else []

    def _connect(
        self, state: Scene, operation: Operation, participant_id: Hashable, user: str, purpose: str
    ) -> Iterable[Scene]:
        if state.stage == "ended":
            return _only_ended(state, operation)
        if not _ok(operation):
            return []
        if any(one.participant_id == participant_id for one in state.connected):
            return [state]
        there = (*state.connected, Part(participant_id, user, purpose))
        return [_settled(state._replace(connected=there, known=state.known | {user}))]

    def _disconnect(self, state: Scene, operation: Operation, participant_id: Hashable) -> Iterable[Scene]:
        if state.stage == "ended":
            return _only_ended(state, operation)
        return [self._gone(state, participant_id)] if _ok(operation) else []

    def _gone(self, state: Scene, participant_id: Hashable) -> Scene:
        stay = tuple(one for one in state.connected if one.participant_id != participant_id)
        if stay == state.connected:
            return state
        after = _settled(state._replace(connected=stay))
        watched = state.lock.holder is not None and state.lock.holder.target == participant_id
        return _unwatched(after) if watched else after

    def _transfer(self, state: Scene, operation: Operation) -> Iterable[Scene]:
        if state.stage == "ended":
            return _only_ended(state, operation)
        owner = state.owning
        if not _ok(operation):
            return []
        return [
            self._gone(state, owner.participant_id) if owner is not None and owner.purpose == "supervisor" else state
        ]

    # -- the lock ------------------------------------------------------------------------------------------------------

    def _start(
        self, state: Scene, operation: Operation, user: str, session: str, wanted: str | None
    ) -> Iterable[Scene]:
        holder = state.lock.holder
        held = holder is not None and bool(holder.alive)
        if holder is not None and held and holder.user == user:
            return [state._replace(lock=lock) for lock in _begin(state.lock, operation, user, session, None)]
        if state.owner is None:
            return [state] if _no(operation, "not_in_progress") else []
        if any(one.user == user for one in state.connected):
            return [state] if _no(operation, "already_done") else []
        if holder is not None and held:
            return [state] if _no(operation, "monitor_held", holder.user) else []
        there = [str(one.participant_id) for one in state.connected if wanted in (None, one.participant_id)]
        if len(there) != 1:
            return [state] if _no(operation, "target_ambiguous") else []
        begun = _begin(state.lock, operation, user, session, there[0]) if _ok(operation) else []
        return [state._replace(lock=lock, plan=None) for lock in begun]

    def _stop(self, state: Scene, operation: Operation, user: str) -> Iterable[Scene]:
        return self._over(state, _end(state.lock, operation, user))

    def _release(self, state: Scene, operation: Operation, _user: str) -> Iterable[Scene]:
        return self._over(state, _end(state.lock, operation, None))

    def _over(self, state: Scene, after: Iterable[Held]) -> Iterable[Scene]:
        return [state if lock == state.lock else state._replace(lock=lock, plan=None) for lock in after]

    def _lapse(self, state: Scene, operation: Operation, monitor_id: Hashable, session: str) -> Iterable[Scene]:
        return [state._replace(lock=lock) for lock in _lapse(state.lock, monitor_id, session)]

    # -- takeover ------------------------------------------------------------------------------------------------------

    def _unwatching(self, state: Scene, user: str, session: str) -> tuple[str, ...]:
        """Why this session may not take over, if so: any of these codes."""
        holder = state.lock.holder
        if holder is None or holder.user != user or session not in holder.alive | holder.lapsed:
            return ("not_monitoring",)
        if session in holder.alive:
            return ()
        return ("lease_lost",) if holder.alive else ("lease_lost", "not_monitoring")

    def _prepare(self, state: Scene, operation: Operation, user: str, session: str) -> Iterable[Scene]:
        why = self._unwatching(state, user, session)
        if why:
            return [state] if _no(operation, *why[:1]) or _no(operation, *why[1:]) else []
        if not _ok(operation):
            return []
        takeover_id = operation.answer[1] if operation.answer is not None else operation.effect
        return [state._replace(plan=Plan(takeover_id, user, state.epoch))]

    def _confirm(
        self, state: Scene, operation: Operation, user: str, session: str, takeover_id: Hashable
    ) -> Iterable[Scene]:
        if takeover_id in state.done and user in state.known:
            return [state] if _no(operation, "already_done") else []
        why, plan = self._unwatching(state, user, session), state.plan
        if plan is not None and plan.takeover_id == takeover_id and plan.user != user:
            return [state] if _no(operation, "confirmation_required") else []
        if why:
            return [state] if _no(operation, *why[:1]) or _no(operation, *why[1:]) else []
        if plan is None or plan.takeover_id != takeover_id:
            return [state] if _no(operation, "confirmation_required") else []
        if plan.epoch != state.epoch:
            return [state] if _no(operation, "confirmation_expired") else []
        answer = operation.answer
        if not _ok(operation) or (answer is not None and answer[2] != state.epoch + 1):
            return []
        mine = Part(answer[1] if answer is not None else operation.effect, user, "supervisor")
        return [
            _unwatched(state)._replace(
                connected=(mine,),
                owner=mine.participant_id,
                epoch=state.epoch + 1,
                known=state.known | {user},
                done=state.done | {takeover_id},
            )
        ]

    def _cancel(self, state: Scene, operation: Operation, user: str, takeover_id: Hashable) -> Iterable[Scene]:
        if takeover_id in state.done:
            return [state] if _no(operation, "already_done") else []
        if state.plan is None or (state.plan.takeover_id, state.plan.user) != (takeover_id, user):
            return [state] if _no(operation, "confirmation_required") else []
        return [state._replace(plan=None)] if _ok(operation) else []

    def _send(self, state: Scene, operation: Operation, user: str, role: str) -> Iterable[Scene]:
        if role == "agent" and user not in state.known:
            return [state] if _no(operation, "unknown_conversation") else []
        if state.stage == "ended":
            return _only_ended(state, operation)
        owner = state.owning
        theirs = owner is not None and owner.user == user and (owner.purpose == "supervisor") == (role == "supervisor")
        fits = _ok(operation) if theirs else _no(operation, "stale_owner")
        return [state] if fits else []


def _ok(operation: Operation) -> bool:
    """Told `ok`, or nothing."""
    return operation.answer is None or operation.answer[0] == "ok"


def _no(operation: Operation, *why: Hashable) -> bool:
    """Told just that; an unanswered one that is refused has done nothing and is left out."""
    return bool(why) and operation.answer is not None and operation.answer[0] == "no" and operation.answer[1:] == why


def _only_ended(state: Scene, operation: Operation) -> list[Scene]:
    return [state] if _no(operation, "conversation_ended") else []
