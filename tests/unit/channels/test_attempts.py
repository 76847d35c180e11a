"""What follows from a try, and when an endpoint is left alone: pure decisions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.channels.attempts import (
    REASON_CHARS_MAX,
    Breaker,
    Done,
    GiveUp,
    Limits,
    Step,
    Wait,
    given_up_before,
    shown,
    step_after,
)
from hub.channels.port import Failed, Later, Outcome, Sent

LIMITS = Limits(tries_max=5, age_max_ms=60_000, backoff_ms=1_000, backoff_max_ms=8_000)
OPENING = {"failures_max": 3, "open_ms": 1_000}


def after(outcome: Outcome, tries: int = 1, age_ms: int = 0, paused_ms: int | None = None, chance: float = 0.5) -> Step:
    """The step after a try, by the limits above."""
    return step_after(outcome, tries=tries, age_ms=age_ms, paused_ms=paused_ms, limits=LIMITS, chance=lambda: chance)


def test_what_was_sent_is_done() -> None:
    """With the status that the provider gave it."""
    assert after(Sent()) == Done("sent")
    assert after(Sent("delivered"), tries=99, age_ms=10**9) == Done("delivered")


def test_what_failed_is_given_up_at_once() -> None:
    """However often it may still be tried."""
    assert after(Failed("no such number")) == GiveUp("no such number")


def test_waits_double_up_to_their_bound() -> None:
    """With chance at its half: half of 1, 2, 4, 8 and again 8 s."""
    limits = replace(LIMITS, tries_max=9)
    waits = [
        step_after(Later("busy"), tries=n, age_ms=0, paused_ms=None, limits=limits, chance=lambda: 0.5)
        for n in range(1, 6)
    ]
    assert waits == [Wait(ms, "busy") for ms in (500, 1_000, 2_000, 4_000, 4_000)]


def test_the_last_try_is_the_last() -> None:
    """Its reason is what the last answer was."""
    assert after(Later("busy"), tries=4) == Wait(4_000, "busy")
    assert after(Later("busy"), tries=5) == GiveUp("given up after 5 tries: busy")


def test_age_ends_it_too() -> None:
    """At the latest then; a wait never goes beyond."""
    assert after(Later("busy"), tries=4, age_ms=59_000) == Wait(1_000, "busy")
    assert after(Later("busy"), age_ms=60_000) == GiveUp("given up after 60 s: busy")


def test_the_provider_says_how_long() -> None:
    """The backoff comes on top; a time beyond the age is no use."""
    assert after(Later("busy", after_ms=7_000)) == Wait(7_500, "busy")
    assert after(Later("busy", after_ms=60_000)) == GiveUp("given up after 60 s: busy")


def test_an_endpoint_that_was_left_alone_costs_no_try() -> None:
    """Not even the last one; its age still counts."""
    assert after(Later("left alone"), tries=5, paused_ms=2_000) == Wait(2_500, "left alone", uncounted=True)
    assert after(Later("left alone"), tries=5, age_ms=60_000, paused_ms=2_000) == GiveUp(
        "given up after 60 s: left alone"
    )


def test_what_ended_its_nodes_is_not_tried_for_ever() -> None:
    """A try counts when it is claimed, whatever became of the node."""
    assert given_up_before(tries=5, age_ms=0, why="", limits=LIMITS) is None
    assert given_up_before(tries=6, age_ms=0, why="", limits=LIMITS) == "given up after 5 tries"
    assert given_up_before(tries=1, age_ms=60_000, why="busy", limits=LIMITS) == "given up after 60 s: busy"


@given(
    st.integers(1, 200),
    st.integers(0, 70_000),
    st.integers(0, 100_000),
    st.none() | st.integers(1, 90_000),
    st.floats(0, 1, exclude_max=True),
)
def test_every_try_comes_to_an_end(
    tries: int, age_ms: int, after_ms: int, paused_ms: int | None, chance: float
) -> None:
    """A wait is never below nothing, never beyond the age's limit, and none follows the last try."""
    step = after(Later("busy", after_ms), tries, age_ms, paused_ms, chance)
    if isinstance(step, Wait):
        assert 0 <= step.delay_ms <= LIMITS.age_max_ms - age_ms
        assert step.uncounted or tries < LIMITS.tries_max
    else:
        assert isinstance(step, GiveUp)


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [("", "no reason given"), ("a\nb\x00c", "a b c"), ("x" * 500, "x" * REASON_CHARS_MAX)],
    ids=["empty", "unprintable", "long"],
)
def test_a_reason_can_be_shown(reason: str, wanted: str) -> None:
    """On one line, printable, not too long."""
    assert shown(reason) == wanted


def failed(breaker: Breaker, times: int, now_ms: int = 0) -> Breaker:
    """After so many failures."""
    for _ in range(times):
        breaker = breaker.asked().answered(well=False, now_ms=now_ms, **OPENING)
    return breaker


def test_failures_in_a_row_open_the_breaker() -> None:
    """One fewer doesn't, nor does one success among them."""
    assert failed(Breaker(), 2).state == "closed"
    assert failed(Breaker(), 3).state == "open"
    again = failed(failed(Breaker(), 2).answered(well=True, now_ms=0, **OPENING), 2)
    assert again.state == "closed"


def test_an_open_breaker_says_how_long() -> None:
    """From the last failure on."""
    breaker = failed(Breaker(), 3, now_ms=100)
    assert breaker.wait_ms(400, 1_000) == 700
    assert breaker.wait_ms(1_100, 1_000) == 0


def test_one_call_looks_and_decides() -> None:
    """Others wait meanwhile; well closes it, badly opens it for another while."""
    looking = failed(Breaker(), 3).asked()
    assert looking.state == "half-open"
    assert looking.wait_ms(5_000, 1_000) == 1_000
    assert looking.answered(well=True, now_ms=5_000, **OPENING) == Breaker()
    shut = looking.answered(well=False, now_ms=5_000, **OPENING)
    assert (shut.state, shut.wait_ms(5_500, 1_000)) == ("open", 500)
