"""Commands: load, decide, commit, and what happens when somebody was faster."""

import asyncio
from dataclasses import replace

import pytest

from hub.domain import commands as c
from hub.domain.board import monitor_parts
from hub.domain.conversation import Situation
from hub.domain.errors import Refused
from hub.domain.events import MonitorStarted
from hub.service.conversations import ATTEMPTS_MAX
from hub.service.ports import Commit, Committed, Request
from tests.unit.domain.words import CAY, begin, connect, disconnect, finish, names, person, watch
from tests.unit.service.words import CNV, ORG, Node

REQUEST = Request(ORG, "supervisor", "ana", "req-1", "digest-1")


async def running(node: Node | None = None) -> Node:
    """A node with a conversation that Bob answers."""
    node = node or Node()
    await node.run(begin())
    await node.run(connect())
    return node


def once(node: Node, command: c.Command) -> None:
    """Let `command` be faster than the next commit."""

    def hook(commit: Commit) -> None:
        node.store.before_commit = lambda commit: None
        node.slip_in(command)

    node.store.before_commit = hook


async def test_done_says_what_happened() -> None:
    """Events, both situations, the answer and the position come back."""
    node = await running()
    done = await node.run(watch(), answer=lambda before, events, after: {"monitor_id": after.monitor.monitor_id})
    assert names(done.events) == ["MonitorStarted"]
    assert node.conversations.committed[MonitorStarted] == 1
    assert (done.before.monitor, done.after.monitor) == (None, node.loaded.situation.monitor)
    assert done.answer == {"monitor_id": "mon_ana"}
    assert done.committed is not None
    assert done.committed.top == 2
    assert done.loaded is not None
    assert (done.loaded.top, done.loaded.monitor_version) == (2, "")


async def test_without_effect_nothing_is_written() -> None:
    """What is accepted without effect makes no commit."""
    node = await running()
    before = len(node.store.answers)
    done = await node.run(connect())
    assert (done.events, done.committed, len(node.store.answers)) == ([], None, before)


async def test_refusal_writes_nothing() -> None:
    """A refused command leaves the record as it was."""
    node = await running()
    fields = dict(node.record.fields)
    with pytest.raises(Refused):
        await node.run(watch(status="busy"))
    assert node.record.fields == fields


async def test_configuration_is_part_of_the_decision() -> None:
    """Wrap-up and shown names follow queue and channel; a mandatory one runs for its own limit."""
    node = await running()
    situation = (await node.conversations.load(ORG, CNV)).situation
    assert (situation.wrapup_rule.prompt, situation.wrapup_rule.codes) == ("mandatory", ("resolved", "follow-up"))
    assert (situation.wrapup_rule.timeout_ms, situation.wrapup_rule.due_ms) == (30_000, 86_400_000)
    assert not situation.name_visible
    assert node.conversations.configured(Situation(0)) == Situation(0)
    await node.run(c.TransferConversation("platform", "timed", "home", 0))
    assert (await node.conversations.load(ORG, CNV)).situation.wrapup_rule.due_ms == 30_000


async def test_conflict_is_decided_again() -> None:
    """Somebody faster brings what to decide on: the loser is told the state of things now."""
    node = await running()
    once(node, watch(person("zoe")))
    with pytest.raises(Refused) as caught:
        await node.run(watch())
    assert caught.value.code == "monitor_held"
    assert node.store.conflicts == 1


async def test_conflict_that_does_not_matter() -> None:
    """Decided again, a command that still holds is carried out."""
    node = await running()
    once(node, connect(CAY))
    assert names((await node.run(disconnect())).events) == ["ParticipantDisconnected", "WrapupRequested"]
    assert node.conversation.owner == "prt_cay"
    assert node.store.conflicts == 1


async def test_monitor_that_starts_meanwhile_is_on_the_board() -> None:
    """
    A commit that isn't guarded by the monitor shows the one that there is when it is written.

    It once wrote the one of its decision: a monitor that had started meanwhile was in no view, and its holder was told
    that it was over.
    """
    node = await running()
    once(node, watch(participant_id="prt_bob"))
    await node.run(connect(CAY))
    assert node.store.conflicts == 0
    assert node.loaded.situation.monitor is not None
    assert [one["monitor"] for one in node.record.rows[-3:]] == [None, *[node.record.rows[-1]["monitor"]] * 2]
    seen, hidden = monitor_parts(node.loaded.situation.monitor)
    assert (node.record.rows[-1]["monitor"], node.record.extras[-1]["monitor"]) == (seen, hidden)
    assert [one["user_id"] for one in node.record.rows[-1]["agents"]] == ["bob", "cay"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "over",
    [c.StopMonitor(person()), c.ReleaseMonitor(person("zoe"), "needed"), c.LeaveMonitor("ana", "", revoked=True)],
)
async def test_monitor_that_ends_meanwhile_is_off_the_board(over: c.Command) -> None:
    """The same for its end: nobody is shown as watching who doesn't."""
    node = await running()
    await node.run(watch())
    once(node, over)
    await node.run(connect(CAY))
    assert node.store.conflicts == 0
    assert (node.record.rows[-1]["monitor"], node.record.extras[-1]["monitor"]) == (None, None)
    assert node.record.extras[-2]["monitor_ended"] is not None
    assert node.record.extras[-1]["monitor_ended"] is None


async def test_another_monitor_meanwhile_is_on_the_board() -> None:
    """Whoever watches when it is written is shown, not whoever did when it was decided."""
    node = await running()
    await node.run(watch())

    def hook(commit: Commit) -> None:
        node.store.before_commit = lambda commit: None
        node.slip_in(c.StopMonitor(person()))
        node.slip_in(watch(person("zoe"), participant_id="prt_bob"))

    node.store.before_commit = hook
    await node.run(connect(CAY))
    assert node.record.rows[-1]["monitor"]["user_id"] == "zoe"  # type: ignore[index]
    assert node.record.extras[-1]["monitor"]["monitor_id"] == "mon_zoe"  # type: ignore[index]


async def test_too_many_conflicts() -> None:
    """After 16 attempts one is told to try again, and nothing was written."""
    node = await running()
    numbers = iter(range(99))

    def always(commit: Commit) -> None:
        node.slip_in(connect(CAY) if next(numbers) % 2 == 0 else disconnect(CAY))

    node.store.before_commit = always
    with pytest.raises(Refused) as caught:
        await node.run(finish())
    assert (caught.value.code, caught.value.details) == ("store_unavailable", {"outcome": "none"})
    assert node.store.conflicts == ATTEMPTS_MAX
    assert node.conversation.ended_at is None


async def test_renewed_between_deciding_and_committing() -> None:
    """A lease that was renewed at the last moment isn't ended; a start then is refused for the holder."""
    node = await running()
    await node.run(watch(person("zoe")))
    node.store.now_ms = node.loaded.situation.monitor.sessions[0].lease_end  # type: ignore[union-attr]

    def renew(commit: Commit) -> None:
        node.record.due["lease"] = node.store.now_ms + 15_000
        node.record.fields[b"ml:ses_zoe"] = b"%d" % (node.store.now_ms + 15_000)

    node.store.before_commit = renew
    assert (await node.run(c.ExpireMonitor())).events == []
    with pytest.raises(Refused) as caught:
        await node.run(watch())
    assert caught.value.code == "monitor_held"
    assert node.loaded.situation.monitor is not None


async def test_same_request_gets_the_first_answer() -> None:
    """A repeat has no effect and the first `ok`; another command under the same `req` is refused."""
    node = await running()
    first = await node.run(watch(), request=REQUEST, answer=lambda b, e, a: {"monitor_id": "mon_ana"})
    await node.run(c.StopMonitor(person()))
    again = await node.run(watch(), request=REQUEST, answer=lambda b, e, a: {"monitor_id": "mon_other"})
    assert first.answer == again.answer == {"monitor_id": "mon_ana"}
    assert (again.events, again.committed) == ((), None)
    assert node.loaded.situation.monitor is None
    other = Request(ORG, "supervisor", "ana", "req-1", "digest-2")
    with pytest.raises(Refused) as caught:
        await node.run(watch(), request=other)
    assert (caught.value.code, caught.value.details) == ("schema_invalid", {"path": "req"})


async def test_lost_answer_is_given_again() -> None:
    """A command that was done and whose own effect refuses it now gets its first answer; a real refusal stays one."""
    node = await running()
    await node.run(watch())
    stop = c.StopMonitor(person())
    await node.run(stop, request=REQUEST, answer=lambda b, e, a: {"said": "first"})
    again = await node.run(stop, request=REQUEST)
    assert (again.answer, again.events, again.committed) == ({"said": "first"}, (), None)
    with pytest.raises(Refused) as caught:
        await node.run(stop, request=replace(REQUEST, digest="digest-2"))
    assert (caught.value.code, caught.value.details) == ("schema_invalid", {"path": "req"})
    for request in (None, replace(REQUEST, req="req-2")):
        with pytest.raises(Refused) as caught:
            await node.run(stop, request=request)
        assert caught.value.code == "not_monitoring"
    assert node.ledger().count("monitor.ended") == 1


async def test_one_attempt_at_a_time() -> None:
    """Those who try at once on one node don't make each other decide again."""
    node = await running()
    node.store._turns_max = 3
    many = [connect(type(CAY)(f"prt_{n}", "agent", f"agent-{n}", "Agent", n)) for n in range(20)]
    done = await asyncio.gather(*(node.run(one) for one in many))
    assert all(isinstance(one.committed, Committed) for one in done)
    assert node.store.conflicts == 0
    assert node.conversations._turns == {}


async def test_a_waiting_command_can_be_cancelled() -> None:
    """Who gives up waiting leaves the others their turn."""
    node = await running()
    node.store._turns_max = 3
    tasks = [asyncio.create_task(node.run(watch(person(name)))) for name in ("ana", "zoe", "max")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert sum(isinstance(one, Refused) for one in outcomes[1:]) == 1
    assert node.loaded.situation.monitor is not None
    assert node.conversations._turns == {}
