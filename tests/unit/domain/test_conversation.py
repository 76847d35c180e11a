"""The state's own words: what is derived from it."""

from dataclasses import replace

import pytest

from hub.domain.conversation import Conversation, Notice, Participant, Situation
from tests.unit.domain.words import BOB, CAY, CUSTOMER, EVE, NOW, ROBO, conversation, monitor, wrapup

NOTICE = Notice("tko_1", "bob", "prt_bob", "Ana", NOW, "none", (), 0)


def over(*at_end: Participant, **changes: object) -> Conversation:
    """An ended conversation whose last owner was Bob."""
    usual = conversation(ended_at=NOW, end_reason="solved", at_end=at_end, last_owner="prt_bob", queued_since=None)
    return replace(usual, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (conversation(), "queued"),
        (conversation(BOB), "active"),
        (conversation(BOB, wrapups=(wrapup(CAY),)), "active"),
        (over(BOB), "ended"),
        (over(BOB, wrapups=(wrapup(BOB),)), "wrapup"),
        (over(BOB, CAY, wrapups=(wrapup(CAY),)), "ended"),
    ],
)
def test_state(given: Conversation, state: str) -> None:
    """Queued without an owner, active with one, in wrap-up while the last owner owes one, else ended."""
    assert given.state == state


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        (conversation(BOB), False),
        (over(BOB), True),
        (over(BOB, wrapups=(wrapup(CAY),)), False),
        (over(BOB, notices=(NOTICE,)), False),
    ],
)
def test_settled(given: Conversation, settled: bool) -> None:
    """Nothing is open any more once it has ended, nobody owes a wrap-up and every notice was seen."""
    assert given.settled is settled


def test_participant_is_a_connected_one_or_the_customer() -> None:
    """Those who left aren't found any more, nor is nobody."""
    given = conversation(BOB, past=(CAY,))
    assert given.participant("prt_bob") == BOB
    assert given.participant("prt_dana") == CUSTOMER
    assert given.participant("prt_cay") is None
    assert given.participant(None) is None


def test_of_user_prefers_the_owner() -> None:
    """A user with two parts of one purpose is found as the owner, where one of them is."""
    twice = replace(BOB, participant_id="prt_bob2")
    assert conversation(BOB, twice).of_user("bob", "agent") == BOB
    assert conversation(BOB, twice, owner="prt_bob2").of_user("bob", "agent") == twice
    assert conversation(ROBO, BOB, twice).of_user("bob", "agent") == BOB
    assert conversation(BOB).of_user("bob", "supervisor") is None
    assert conversation(BOB).of_user("cay", "agent") is None


@pytest.mark.parametrize(
    "given",
    [
        conversation(BOB),
        conversation(CAY, past=(BOB,)),
        over(BOB),
        over(wrapups=(wrapup(BOB),)),
        over(notices=(NOTICE,)),
    ],
)
def test_knew_everybody_who_ever_was_there(given: Conversation) -> None:
    """A user stays known by being there, having left, or being owed or owing something."""
    assert given.knew("bob")
    assert not given.knew("zoe")


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (conversation(BOB), True),
        (conversation(CAY, past=(BOB,)), False),
        (over(BOB), True),
        (over(past=(BOB,)), False),
        (conversation(CAY, past=(BOB,), wrapups=(wrapup(BOB),)), True),
        (conversation(CAY, past=(BOB,), notices=(NOTICE,)), True),
    ],
)
def test_takes_part_until_nothing_is_open(given: Conversation, part: bool) -> None:
    """Having left and being owed and owing nothing is no part any more; being there at the end is."""
    assert given.takes_part("bob") is part
    assert given.knew("bob")
    assert not given.takes_part("zoe")


def test_monitor_lives_as_long_as_its_longest_lease() -> None:
    """The person holds it while one of the joined sessions does."""
    held = monitor("ana", BOB, "ses_1", until=NOW + 5).with_session("ses_2", NOW + 10)
    assert held.alive(NOW + 9)
    assert not held.alive(NOW + 10)
    assert not held.without_session("ses_2").alive(NOW + 5)
    assert not replace(held, sessions=()).alive(0)


def test_session_stands_once_in_a_monitor() -> None:
    """Joining again replaces the session's lease."""
    held = monitor("ana", BOB, "ses_1").with_session("ses_1", NOW + 99)
    found = held.joined("ses_1")
    assert found is not None
    assert (found.lease_end, len(held.sessions)) == (NOW + 99, 1)
    assert held.joined("ses_2") is None
    assert held.without_session("ses_1").sessions == ()


def test_existing_needs_a_conversation() -> None:
    """Only who has looked may say that it exists."""
    assert Situation(NOW, conversation(EVE)).existing.owner == "prt_eve"
    with pytest.raises(AssertionError):
        _ = Situation(NOW).existing
