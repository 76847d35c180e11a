"""The checker of linearizability: what it must accept, what it must refuse, and that it agrees with trying everything."""

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.linear import (
    NEVER,
    Contest,
    Lock,
    Operation,
    Scene,
    Spec,
    assert_linearizable,
    linearization,
)

Answer = tuple[Hashable, ...] | None
S = TypeVar("S", bound=Hashable)


class Register:
    """One value: `write value` and `read -> ok value`."""

    initial = 0

    def step(self, state: int, operation: Operation) -> Iterable[int]:
        """A write is always answered `ok`; a read by what was written last."""
        match operation.what:
            case ("write", int(value)):
                return [value]
            case _:
                return [state] if operation.answer in (None, ("ok", state)) else []


def at(when: str, *what: Hashable, answer: Answer = None, effect: Hashable = None) -> Operation:
    """An operation from the first to the last character of `when` that isn't a dot; open where it ends by `>`."""
    begins = len(when) - len(when.lstrip("."))
    ends = NEVER if when.endswith(">") else float(len(when))
    return Operation(what, float(begins), ends, answer, effect)


OK: Answer = ("ok",)


def holds(spec: Spec[S], *history: Operation) -> bool:
    """True where there is an order."""
    return linearization(spec, history) is not None


# -- registers: the textbook's histories ---------------------------------------------------------------------------------


def test_one_after_the_other() -> None:
    """A read behind a write reads it, and nothing older."""
    write = at("--", "write", 1, answer=OK)
    assert holds(Register(), write, at("...--", "read", answer=("ok", 1)))
    assert not holds(Register(), write, at("...--", "read", answer=("ok", 0)))


def test_overlapping_may_be_either_way() -> None:
    """A read beside a write may read before or behind it."""
    write = at("------", "write", 1, answer=OK)
    for value in (0, 1):
        assert holds(Register(), write, at("..--", "read", answer=("ok", value)))
    assert not holds(Register(), write, at("..--", "read", answer=("ok", 2)))


def test_new_then_old_is_refused() -> None:
    """Two reads beside a write, one behind the other, can't read the new value first and the old one then."""
    write = at("----------", "write", 1, answer=OK)
    reads = [at(".--", "read", answer=("ok", 1)), at("....--", "read", answer=("ok", 0))]
    assert not holds(Register(), write, *reads)


def test_unanswered_may_have_happened() -> None:
    """A write without an answer may be read, at any time after it was asked for, or never."""
    write = at("-->", "write", 1)
    for values in ((0, 0), (0, 1), (1, 1)):
        reads = [at(f"{'.' * (5 * n)}--", "read", answer=("ok", value)) for n, value in enumerate(values, 1)]
        assert holds(Register(), write, *reads)
    back = [at(".....--", "read", answer=("ok", 1)), at("..........--", "read", answer=("ok", 0))]
    assert not holds(Register(), write, *back)


def test_unanswered_does_not_happen_before_it_was_asked_for() -> None:
    """What is read can't have been written later."""
    assert not holds(Register(), at("--", "read", answer=("ok", 1)), at("....->", "write", 1))


def test_unanswered_with_an_end() -> None:
    """What was over by some time didn't happen behind it."""
    write = at("---", "write", 1)
    reads = [at("....--", "read", answer=("ok", 0)), at(".......--", "read", answer=("ok", 1))]
    assert not holds(Register(), write, *reads)
    assert holds(Register(), at("--------", "write", 1), *reads)


def test_the_order_is_told() -> None:
    """The order has every answered operation once, in an order that explains them, and unanswered ones only as needed."""
    needed, late = at("->", "write", 1), at("......->", "write", 2)
    read = at("....--", "read", answer=("ok", 1))
    assert linearization(Register(), [late, needed, read]) == [needed, read]


def test_a_failure_says_where_it_stops() -> None:
    """Whoever has to find out why gets the end of the best order, and what can't follow it."""
    history = [at("--", "write", 1, answer=OK), at("...--", "read", answer=("ok", 7))]
    with pytest.raises(
        AssertionError, match=r"(?s)seed 5; after\s+0\.0+\.\.2\.0+ \('write', 1\).*none.*\s+3\.0+.*'ok', 7"
    ):
        assert_linearizable(Register(), history, "seed 5")


def test_nothing_is_explained_by_nothing() -> None:
    """An empty history, and one of unanswered operations alone, have the empty order."""
    assert linearization(Register(), []) == linearization(Register(), [at("->", "write", 1)]) == []


def test_long_histories_are_no_harder() -> None:
    """Memory keeps the search from trying every order of what doesn't matter: eight at once, two hundred times."""
    history = [
        Operation(("write", writer), turn * 10.0 + writer * 0.1, turn * 10.0 + 9, ("ok",))
        for turn in range(200)
        for writer in range(8)
    ]
    history.append(Operation(("read",), 5000.0, 5001.0, ("ok", 3)))
    assert holds(Register(), *history)


# -- against brute force -------------------------------------------------------------------------------------------------


def by_brute_force(spec: Spec[int], history: Sequence[Operation]) -> bool:
    """Every subset of the unanswered, in every order that time allows."""
    required = [one for one in history if one.answer is not None]
    optional = [one for one in history if one.answer is None]
    return any(
        in_time(order) and explains(spec, order)
        for count in range(len(optional) + 1)
        for chosen in itertools.combinations(optional, count)
        for order in itertools.permutations([*required, *chosen])
    )


def in_time(order: Sequence[Operation]) -> bool:
    """None stands behind one that was invoked after its answer."""
    return not any(later.answered < earlier.invoked for earlier, later in itertools.combinations(order, 2))


def explains(spec: Spec[int], order: Sequence[Operation]) -> bool:
    """Each is answered as it was."""
    states = {spec.initial}
    for operation in order:
        states = {after for state in states for after in spec.step(state, operation)}
    return bool(states)


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Up to six operations on a register, at small times."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        invoked = draw(st.integers(0, 8))
        answered = invoked + draw(st.integers(1, 6))
        value, answered_at_all = draw(st.integers(0, 2)), draw(st.booleans())
        writes = draw(st.booleans())
        what: tuple[Hashable, ...] = ("write", value) if writes else ("read",)
        answer: Answer = ("ok",) if writes else ("ok", value)
        ends = float(answered) if answered_at_all or draw(st.booleans()) else NEVER
        found.append(Operation(what, float(invoked), ends, answer if answered_at_all else None))
    return found


@settings(max_examples=300, deadline=None)
@given(histories())
def test_agrees_with_trying_everything(history: list[Operation]) -> None:
    """The search says yes exactly where some order of some subset does, and its order is one of those."""
    order = linearization(Register(), history)
    assert (order is not None) == by_brute_force(Register(), history)
    if order is not None:
        assert in_time(order)
        assert explains(Register(), order)


# -- the lock ------------------------------------------------------------------------------------------------------------


def start(when: str, user: str, answer: Answer, session: str = "") -> Operation:
    """Somebody starts."""
    return at(when, "start", user, session or f"ses_{user}", answer=answer)


def test_one_winner() -> None:
    """Of two at once one wins and the other is told who."""
    ana = start("----", "ana", ("ok", "m1"))
    assert holds(Lock(), ana, start(".----", "bo", ("no", "monitor_held", "ana")))
    assert not holds(Lock(), ana, start(".----", "bo", ("ok", "m2")))
    assert not holds(Lock(), ana, start(".----", "bo", ("no", "monitor_held", "cy")))


def test_a_refusal_needs_a_holder() -> None:
    """Nobody is told that one holds it who has stopped before."""
    ana = start("--", "ana", ("ok", "m1"))
    stop = at("...--", "stop", "ana", answer=OK)
    assert not holds(Lock(), ana, stop, start("......--", "bo", ("no", "monitor_held", "ana")))
    assert holds(Lock(), ana, stop, start("...---", "bo", ("no", "monitor_held", "ana")))
    assert holds(Lock(), ana, stop, start("......--", "bo", ("ok", "m2")))


def test_sessions_of_the_holder_join() -> None:
    """The same person's second session gets the same monitor, no other one."""
    ana = start("--", "ana", ("ok", "m1"))
    assert holds(Lock(), ana, start("...--", "ana", ("ok", "m1"), "other"))
    assert not holds(Lock(), ana, start("...--", "ana", ("ok", "m2"), "other"))


def test_no_monitor_comes_back() -> None:
    """A new start has a new id."""
    before = (start("--", "ana", ("ok", "m1")), at("...--", "release", "bo", answer=OK))
    assert holds(Lock(), *before, start("......--", "ana", ("ok", "m2")))
    assert not holds(Lock(), *before, start("......--", "ana", ("ok", "m1")))


def test_a_start_without_an_answer() -> None:
    """It may hold the lock, and whoever joins then learns its id; or it may not."""
    lost = at("-->", "start", "ana", "ses_ana")
    assert holds(Lock(), lost, start("...--", "bo", ("no", "monitor_held", "ana")))
    assert holds(Lock(), lost, start("...--", "bo", ("ok", "m2")))
    joined = start(".....--", "ana", ("ok", "m1"), "other")
    assert holds(Lock(), lost, joined, start("........--", "ana", ("ok", "m1"), "third"))
    assert not holds(Lock(), lost, joined, start("........--", "ana", ("ok", "m3"), "third"))


def test_a_lease_lapses_only_when_it_may() -> None:
    """Who doesn't stop keeps the lock until the lease runs out, and loses it only then."""
    ana, bo = start("--", "ana", ("ok", "m1")), start(".......--", "bo", ("ok", "m2"))
    assert not holds(Lock(), ana, bo)
    assert holds(Lock(), ana, bo, at(".....>", "lapse", "m1", "ses_ana"))
    assert not holds(Lock(), ana, bo, at("..........>", "lapse", "m1", "ses_ana"))


def test_each_session_has_its_lease() -> None:
    """The monitor goes on while one session's lease runs."""
    ana, other = start("--", "ana", ("ok", "m1")), start("...--", "ana", ("ok", "m1"), "other")
    lapse = at(".....>", "lapse", "m1", "ses_ana")
    bo = start(".......--", "bo", ("ok", "m2"))
    assert not holds(Lock(), ana, other, lapse, bo)
    assert holds(Lock(), ana, other, lapse, at(".....>", "lapse", "m1", "other"), bo)


def test_a_lapsed_monitor_may_be_swept_or_not() -> None:
    """Its holder's stop finds it, or somebody has ended it already."""
    ana, lapse = start("--", "ana", ("ok", "m1")), at("...>", "lapse", "m1", "ses_ana")
    for answer in (OK, ("no", "not_monitoring")):
        assert holds(Lock(), ana, lapse, at("......--", "stop", "ana", answer=answer))
    assert not holds(Lock(), ana, at("......--", "stop", "ana", answer=("no", "not_monitoring")))


def test_a_takeover_ends_it() -> None:
    """Only who monitors takes over, and monitors no more then."""
    ana = start("--", "ana", ("ok", "m1"))
    taken = at("...--", "takeover", "ana", "ses_ana", answer=OK)
    assert holds(Lock(), ana, taken, start("......--", "bo", ("ok", "m2")))
    assert not holds(Lock(), ana, taken, at("......--", "stop", "ana", answer=OK))
    assert not holds(Lock(), ana, at("...--", "takeover", "bo", "ses_bo", answer=OK))


# -- takeovers -------------------------------------------------------------------------------------------------------------

BEGUN = (
    Operation(("begin",), -9.0, -8.0, OK),
    Operation(("connect", "p_max", "max", "agent"), -7.0, -6.0, OK),
    Operation(("start", "ana", "1", None), -5.0, -4.0, ("ok", "m1")),
    Operation(("prepare", "ana", "1"), -3.0, -2.0, ("ok", "t1")),
)
DONE: Answer = ("ok", "p_ana", 2)


def confirm(when: str, answer: Answer, user: str = "ana", session: str = "1") -> Operation:
    """The takeover is confirmed."""
    return at(when, "confirm", user, session, "t1", answer=answer)


def test_a_takeover() -> None:
    """It gives the next epoch, once; its owner may speak then, and the agent no more."""
    done = confirm("--", DONE)
    after = [
        at("...--", "send", "ana", "supervisor", answer=OK),
        at("...--", "send", "max", "agent", answer=("no", "stale_owner")),
        at("...--", "confirm", "ana", "2", "t1", answer=("no", "already_done")),
    ]
    assert holds(Contest(), *BEGUN, done, *after)
    assert not holds(Contest(), *BEGUN, confirm("--", ("ok", "p_ana", 3)))
    assert not holds(Contest(), *BEGUN, done, at("...--", "send", "max", "agent", answer=OK))
    assert not holds(Contest(), *BEGUN, done, confirm("...--", ("ok", "p_ana2", 3)))


def test_another_owner_voids_what_was_prepared() -> None:
    """Confirmed after the owner has changed it is refused, confirmed at that moment it may be either."""
    comes = Operation(("connect", "p_eva", "eva", "agent"), -1.9, -1.8, OK)
    watched = (*BEGUN, comes)
    leaves = at("--", "disconnect", "p_max", answer=OK)
    expired: Answer = ("no", "not_monitoring")  # max went, at whose side ana was
    assert holds(Contest(), *watched, leaves, confirm("...--", expired))
    assert not holds(Contest(), *watched, leaves, confirm("...--", DONE))
    assert holds(Contest(), *watched, leaves, confirm("--", DONE))


def test_an_expired_confirmation() -> None:
    """The owner changed while somebody else was watched: the monitor stays, the confirmation doesn't."""
    begun = (
        Operation(("begin",), -9.0, -8.0, OK),
        Operation(("connect", "p_max", "max", "agent"), -8.0, -7.0, OK),
        Operation(("connect", "p_eva", "eva", "agent"), -6.0, -5.5, OK),
        Operation(("start", "ana", "1", "p_eva"), -5.0, -4.0, ("ok", "m1")),
        Operation(("prepare", "ana", "1"), -3.0, -2.0, ("ok", "t1")),
        Operation(("disconnect", "p_max"), -1.9, -1.8, OK),
    )
    assert holds(Contest(), *begun, confirm("--", ("no", "confirmation_expired")))
    assert not holds(Contest(), *begun, confirm("--", DONE))
    assert not holds(Contest(), *begun, confirm("--", ("ok", "p_ana", 3)))


def test_released_or_taken_over() -> None:
    """A release at that moment: one of both is done, never both, never none."""
    done, refused = DONE, ("no", "not_monitoring")
    for confirmed, released, fits in (
        (done, refused, True),
        (refused, OK, True),
        (done, OK, False),
        (refused, refused, False),
    ):
        history = (*BEGUN, confirm("---", confirmed), at(".---", "release", "bo", answer=released))
        assert holds(Contest(), *history) is fits


def test_a_confirmation_without_an_answer() -> None:
    """It may have been done: what follows tells, and then it stays so."""
    lost = at("-->", "confirm", "ana", "1", "t1", effect="p_ana")
    spoke = at("...--", "send", "max", "agent", answer=OK)
    refused = at("......--", "send", "max", "agent", answer=("no", "stale_owner"))
    assert holds(Contest(), *BEGUN, lost, spoke, refused)
    assert not holds(Contest(), *BEGUN, lost, refused, at(".........--", "send", "max", "agent", answer=OK))


def test_a_lost_lease_takes_nothing_over() -> None:
    """Whose lease ran out is told so while another session goes on, or that they don't monitor when it was swept."""
    lapse = Operation(("lapse", "m1", "1"), -1.0)
    for code in ("lease_lost", "not_monitoring"):
        assert holds(Contest(), *BEGUN, lapse, confirm("--", ("no", code)))
        assert not holds(Contest(), *BEGUN, confirm("--", ("no", code)))


def test_a_transfer_ends_an_owning_supervisors_part() -> None:
    """Agents who came meanwhile go on."""
    history = (
        confirm("--", DONE),
        at("...--", "connect", "p_eva", "eva", "agent", answer=OK),
        at("......--", "transfer", answer=OK),
    )
    assert holds(Contest(), *BEGUN, *history, at(".........--", "send", "eva", "agent", answer=OK))
    assert not holds(Contest(), *BEGUN, *history, at(".........--", "send", "ana", "supervisor", answer=OK))


def test_the_end_ends_everything() -> None:
    """Nobody speaks, starts or takes over then."""
    over = at("--", "end", answer=OK)
    after = [
        at("...--", "send", "max", "agent", answer=("no", "conversation_ended")),
        at("...--", "start", "bo", "2", None, answer=("no", "not_in_progress")),
        confirm("...--", ("no", "not_monitoring")),
        at("...--", "end", answer=("no", "conversation_ended")),
    ]
    assert holds(Contest(), *BEGUN, over, *after)
    assert not holds(Contest(), *BEGUN, over, confirm("...--", DONE))


def test_before_it_begins() -> None:
    """There is no conversation before its first event."""
    early = at("--", "start", "ana", "1", None, answer=("no", "unknown_conversation"))
    assert holds(Contest(), early, at("...--", "begin", answer=OK))
    assert not holds(
        Contest(), at("--", "begin", answer=OK), at("...--", "stop", "ana", answer=("no", "unknown_conversation"))
    )
    assert Contest.initial == Scene()
