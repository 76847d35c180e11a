"""Eight supervisors want one conversation, on two hubs over one real server: exactly one winner each."""

import asyncio
import itertools
import os

from tests.support.centre import Centre, Story, confirm
from tests.support.socket import Json, Socket

CONTESTS = int(os.environ.get("SOAK_CONTESTS", "1000"))
NAMES = ("ana", "bo", "cy", "di", "ed", "fay", "gus", "hal")
AT_ONCE = 10


async def contest(story: Story, lines: dict[str, Socket], turn: int) -> str:
    """All eight ask at the same moment, in turning order; the winner's name."""
    order = NAMES[turn % 8 :] + NAMES[: turn % 8]
    numbers = {name: await lines[name].post("monitor.start", conversation_id=story.id) for name in order}
    answers = {name: await lines[name].answer(number, 30) for name, number in numbers.items()}
    winners = [name for name, answer in answers.items() if "ok" in answer]
    assert len(winners) == 1, answers
    for name, answer in answers.items():
        if name not in winners:
            assert answer["error"]["code"] == "monitor_held", answer
            assert answer["error"]["details"]["holder"]["user_id"] == winners[0]
    return winners[0]


async def started_at(line: Socket, story: Story) -> Json:
    """The winner's `monitor.started`."""
    return await line.expect("monitor.started", story.id, timeout=20)


async def rounds(centre: Centre, lines: dict[str, Socket], lane: int, count: int) -> list[str]:
    """Contests for one conversation, one after the other; who won."""
    story = await centre.story(f"cnv_{lane}")
    won = []
    for turn in range(count):
        winner = await contest(story, lines, lane + turn)
        won.append(winner)
        await started_at(lines[winner], story)
        await lines[winner].command("monitor.stop", conversation_id=story.id, patience=20)
    return won


async def test_one_winner_each(pair: Centre) -> None:
    """In every contest one gets the monitor, seven are told who holds it; data comes to winners only."""
    lines = {name: await pair.supervisor(name, node=place % 2) for place, name in enumerate(NAMES)}
    each = max(1, CONTESTS // AT_ONCE)
    won = await asyncio.gather(*(rounds(pair, lines, lane, each) for lane in range(AT_ONCE)))
    for lane, winners in enumerate(won):
        monitors = (await pair.detail(f"cnv_{lane}"))["monitors"]
        assert len(monitors) == len(winners)
        assert all(one["to"] <= two["from"] for one, two in itertools.pairwise(monitors))
        for name, line in lines.items():
            assert len(line.of(f"cnv_{lane}", "monitor.started")) == winners.count(name)
    assert len({name for winners in won for name in winners}) > 1


async def test_one_takeover_each(pair: Centre) -> None:
    """A supervisor's tabs on both nodes confirm the same takeover at the same moment: it is done once."""
    here, there = await pair.supervisor(node=0), await pair.supervisor(node=1)
    for _ in range(max(1, min(25, CONTESTS // 40))):
        story = await pair.story()
        for line in (here, there):
            await story.monitored_by(line)
        prepared = await story.prepared_by(here)
        arguments = {"takeover_id": prepared["takeover_id"], "confirm_token": prepared["confirm_token"]}
        numbers = [await line.post("takeover.confirm", **arguments) for line in (here, there)]
        answers = [await line.answer(number) for line, number in zip((here, there), numbers, strict=True)]
        codes = sorted(answer.get("error", {}).get("code", "ok") for answer in answers)
        assert codes == ["already_done", "ok"]
        detail = await pair.detail(story.id)
        assert (len(detail["takeovers"]), detail["metrics"]["n_takeover"]) == (1, 1)


async def test_a_takeover_or_a_release_not_both(pair: Centre) -> None:
    """Confirm here and release there at the same moment: taken over, or released and refused; never half of each."""
    ana, bo = await pair.supervisor("ana", node=0), await pair.supervisor("bo", node=1)
    for _ in range(max(1, min(25, CONTESTS // 40))):
        story = await pair.story()
        await story.monitored_by(ana)
        prepared = await story.prepared_by(ana)
        confirming = asyncio.create_task(confirm(ana, prepared))
        releasing = await bo.post("monitor.release", conversation_id=story.id, reason="race")
        [result] = await asyncio.gather(confirming, return_exceptions=True)
        released = await bo.answer(releasing)
        detail = await pair.detail(story.id)
        [monitor] = detail["monitors"]
        if isinstance(result, BaseException):
            assert "ok" in released, (result, released)
            assert (monitor["reason"], detail["conversation"]["owner"]) == ("force_released", "p_max")
        else:
            assert released["error"]["code"] == "not_monitoring", released
            assert (monitor["reason"], detail["conversation"]["owner"]) == ("taken_over", result["participant_id"])


async def test_a_takeover_or_an_end_not_both(pair: Centre) -> None:
    """Confirm here while the platform ends the conversation there: never an ended one with a fresh owner."""
    ana = await pair.supervisor("ana", node=0)
    for _ in range(max(1, min(25, CONTESTS // 40))):
        story = await pair.story()
        await story.monitored_by(ana)
        prepared = await story.prepared_by(ana)
        confirming = asyncio.create_task(confirm(ana, prepared))
        await story.tell("conversation.ended", node=1, reason="race")
        [result] = await asyncio.gather(confirming, return_exceptions=True)
        detail = await pair.detail(story.id)
        assert detail["conversation"]["state"] == "ended"
        assert len(detail["takeovers"]) == (0 if isinstance(result, BaseException) else 1)
        marks = [entry["kind"] for entry in await pair.entries(story.id)].count("takeover")
        assert marks == len(detail["takeovers"])
