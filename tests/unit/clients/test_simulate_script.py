"""The simulation's scripts: repeatable, varied, and within what the protocol allows."""

import re
from collections import Counter

from clients.simulate.script import CHANNELS, TRAITS, Plan, answer_to, plan_conversation
from clients.simulate.subjects import SUBJECTS


def plans(seed: int, count: int = 600) -> list[Plan]:
    """The first conversations of a centre."""
    return [plan_conversation(seed, number, "sim") for number in range(1, count + 1)]


def test_the_same_seed_plays_the_same_script() -> None:
    """A conversation depends on seed and number alone, not on what was planned before it."""
    assert plans(3, 50) == plans(3, 50)
    assert plan_conversation(3, 40, "sim") == plans(3, 50)[39]
    assert plans(3, 50) != plans(4, 50)


def test_a_centre_has_every_channel_subject_and_trait() -> None:
    """All three channels, all subjects and everything a supervisor would react to come up."""
    made = plans(1)
    assert {plan.channel for plan in made} == set(CHANNELS)
    assert {plan.subject.split(":")[0] for plan in made} == {subject.name for subject in SUBJECTS}
    assert len(SUBJECTS) >= 8
    assert set(Counter(plan.trait for plan in made)) == set(TRAITS)


def test_traits_show_in_what_is_played() -> None:
    """A long wait waits and asks, a bot in a loop repeats itself, an angry customer says more than others."""
    made = plans(2)
    waits = [plan for plan in made if plan.trait == "long_wait"]
    assert all(plan.wait_ms >= 45_000 and len(plan.waiting_turns) == 3 for plan in waits)
    loops = [plan for plan in made if plan.trait == "bot_loop"]
    assert all(max(Counter(turn.text for turn in plan.bot_turns).values()) >= 4 for plan in loops)
    shortest_angry = min(len(plan.turns) for plan in made if plan.trait == "angry")
    assert shortest_angry > min(len(plan.turns) for plan in made if plan.trait == "ordinary")


def test_dialogues_take_turns_and_leave_no_gap_unfilled() -> None:
    """Every dialogue has several turns of both sides, ids the hub takes, and no placeholder but the agent's name."""
    for plan in plans(5):
        assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", f"{plan.conversation_id}:e999999")
        assert {turn.by for turn in plan.turns} == {"customer", "agent"}
        assert len(plan.turns) >= 6
        for turn in (*plan.turns, *plan.bot_turns, *plan.waiting_turns):
            assert turn.text
            assert "{" not in turn.text.replace("{agent}", "")
            assert turn.think_ms >= turn.typing_ms >= 0


def test_customers_answer_a_supervisor_to_the_point() -> None:
    """The customer's words for a supervisor depend on what was said, and are the same each time."""
    plan = plans(1, 1)[0]
    refund = answer_to("I'll arrange the refund.", plan, 0)
    assert refund == answer_to("I'll arrange the refund.", plan, 0)
    assert "refund" not in refund.lower()
    assert answer_to("Goodbye!", plan, 1) in ("Thank you, goodbye!", "Bye, and thanks for stepping in.")
    assert all(answer_to(text, plan, n) for n, text in enumerate(["", "Sorry", "Right?", "ok"]))
