"""
Commands of two nodes at once over one store in memory, in seeded interleavings.

Each seed is one order in which tasks get their turns; a failing seed fails again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.conversation import Participant
from hub.domain.errors import Refused
from hub.protocol.commands import MessageSend
from hub.service.conversations import Done
from hub.service.ports import Commit
from tests.support.fake_store import FakeStore, Numbered
from tests.unit.domain.words import (
    BOB,
    CAY,
    LEASE_MS,
    ROBO,
    begin,
    confirm,
    connect,
    desk,
    disconnect,
    finish,
    messenger,
    names,
    person,
    prepare,
    watch,
)
from tests.unit.service.words import CNV, ORG, Node

SEEDS = range(30)


async def two_nodes(seed: int, *connected: Participant) -> tuple[FakeStore, Node, Node]:
    """Two nodes over one store, and a conversation with those connected."""
    store, ids = FakeStore(seed, turns_max=3), Numbered()
    east, west = Node(store, ids=ids), Node(store, ids=ids)
    await east.run(begin())
    for one in connected:
        await east.run(connect(one))
    store.answers.clear()
    return store, east, west


async def outcomes(*jobs: Awaitable[object]) -> list[str]:
    """Of each job, `done` or the code of its refusal."""
    ends = await asyncio.gather(*jobs, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, Refused):
            raise end
    return [end.code if isinstance(end, Refused) else "done" for end in ends]


def words(text: str) -> MessageSend:
    """A message."""
    return MessageSend(id=1, conversation_id=CNV, text=text, client_message_id=text)


# -- agents can't feel a monitor ---------------------------------------------------------------------------------------

MONITORS: dict[str, tuple[list[c.Command], c.Command]] = {
    "start": ([], watch()),
    "join": ([watch()], watch(session="ses_2")),
    "leave": ([watch(), watch(session="ses_2")], c.LeaveMonitor("ana", "ses_2")),
    "stop": ([watch()], c.StopMonitor(person())),
    "release": ([watch()], c.ReleaseMonitor(person("zoe"), "needed")),
    "prepare": ([watch()], prepare()),
    "cancel": ([watch(), prepare()], c.CancelTakeover(person(), "tko_1")),
}


async def says(node: Node) -> None:
    """The agent answers."""
    await node.messaging.send(desk("bob"), CNV, words("hello"))


async def customer_says(node: Node) -> None:
    """The customer asks."""
    await node.messaging.send(messenger(), CNV, words("hello"))


async def colleague_comes(node: Node) -> None:
    """Another agent is brought in."""
    await node.run(connect(CAY))


@pytest.mark.parametrize("change", MONITORS)
@pytest.mark.parametrize("agents", [says, customer_says, colleague_comes])
async def test_monitors_never_make_agents_try_again(change: str, agents: Callable[[Node], Awaitable[None]]) -> None:
    """Whatever a monitor does between looking and writing, an agent's command goes through at its first attempt."""
    before, meanwhile = MONITORS[change]
    _, east, _ = await two_nodes(0, BOB)
    for command in before:
        await east.run(command)
    loads = 0
    slipped: list[str] = []
    load = east.store.load

    async def counted(org: str, conversation_id: str, *, lane: str = "commit") -> object:
        nonlocal loads
        loads += 1
        return await load(org, conversation_id, lane=lane)

    def hook(*_: Commit) -> None:
        if not slipped:
            slipped.append(change)
            east.slip_in(meanwhile)

    east.store.load = counted  # type: ignore[assignment,method-assign]
    east.store.before_commit = east.store.before_append = hook
    await agents(east)
    assert (slipped, loads, east.store.conflicts) == ([change], 1, 0)


async def test_renewals_make_nobody_try_again() -> None:
    """A lease is extended beside all versions, also while the holder's own command is under way."""
    store, east, _ = await two_nodes(0, BOB)
    await east.run(watch())

    def hook(commit: Commit) -> None:
        assert store.renew(ORG, CNV, "mon_ana", "ses_ana", store.now_ms + LEASE_MS)

    store.before_commit = hook
    for command in (connect(CAY), prepare(), watch(session="ses_2"), disconnect()):
        await east.run(command)
    assert store.conflicts == 0


# -- contests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_one_winner_of_a_contest(seed: int) -> None:
    """Of eight supervisors on two nodes one holds the conversation, the others are told who."""
    store, *nodes = await two_nodes(seed, BOB)
    people = [person(f"sup-{number}") for number in range(8)]
    jobs = [nodes[number % 2].run(watch(one)) for number, one in enumerate(people)]
    ends = await outcomes(*jobs)
    assert sorted(ends) == ["done", *["monitor_held"] * 7]
    held = store.now(ORG, CNV).situation.monitor
    assert held is not None
    assert held.user_id == f"sup-{ends.index('done')}"
    assert nodes[0].ledger().count("monitor.started") == 1
    assert nodes[0].record.rows[-1]["monitor"]["user_id"] == held.user_id  # type: ignore[index]


@pytest.mark.parametrize("seed", SEEDS)
async def test_one_winner_when_a_lease_is_over(seed: int) -> None:
    """A lapsed monitor is followed by one, ended once, and a sweep at that moment ends nobody else's."""
    store, east, west = await two_nodes(seed, BOB)
    await east.run(watch(person("old")))
    store.now_ms += LEASE_MS
    ends = await outcomes(
        east.run(watch(person("ana"), lease_end=store.now_ms + LEASE_MS)),
        west.run(watch(person("zoe"), lease_end=store.now_ms + LEASE_MS)),
        west.run(c.ExpireMonitor()),
        east.run(c.ExpireMonitor()),
    )
    assert sorted(ends[:2]) == ["done", "monitor_held"]
    assert [one for one in east.ledger() if one.startswith("monitor")] == [
        "monitor.started",
        "monitor.ended",
        "monitor.started",
    ]


@pytest.mark.parametrize("seed", SEEDS)
async def test_two_tabs_share_the_lock(seed: int) -> None:
    """One person starting twice at once has one monitor with both sessions."""
    store, east, west = await two_nodes(seed, BOB)
    ends = await outcomes(
        east.run(watch(session="ses_1", monitor_id="mon_1")), west.run(watch(session="ses_2", monitor_id="mon_2"))
    )
    held = store.now(ORG, CNV).situation.monitor
    assert ends == ["done", "done"]
    assert held is not None
    assert sorted(one.session for one in held.sessions) == ["ses_1", "ses_2"]
    assert sorted(east.ledger()[-2:]) == ["monitor.joined", "monitor.started"]


RIVALS: dict[str, c.Command] = {
    "end": finish(),
    "customer ends": c.EndConversation(messenger()),
    "agent leaves": disconnect(BOB),
    "stop": c.StopMonitor(person()),
    "release": c.ReleaseMonitor(person("zoe"), "needed"),
    "revoked": c.LeaveMonitor("ana", "", revoked=True),
    "cancel": c.CancelTakeover(person(), "tko_1"),
    "second prepare": prepare(takeover_id="tko_2"),
    "transfer": c.TransferConversation("platform", "billing", "home", 0),
    "agent comes": connect(CAY),
    "same again": confirm(),
}
PREVENTED = {"not_monitoring", "confirmation_required", "confirmation_expired", "already_done"}


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("seed", range(6))
async def test_takeover_against_a_rival(rival: str, seed: int) -> None:
    """Whoever is first, the takeover is whole or hasn't happened, and what follows fits what came before."""
    store, east, west = await two_nodes(seed, BOB, ROBO)
    await east.run(watch(participant_id="prt_bob"))
    await east.run(prepare())
    ends = await outcomes(east.run(confirm()), west.run(RIVALS[rival]))
    one, entries = east.conversation, [name for _, _, name in east.shown()]
    happened = "takeover.completed" in entries
    assert (happened, ends[0] in PREVENTED) in ((True, False), (False, True), (True, ends[0] == "already_done"))
    assert entries.count("takeover.completed") == east.ledger().count("takeover.completed") == int(happened)
    assert one.taken_over is happened
    monitors = [entry for entry in east.ledger() if entry in ("monitor.started", "monitor.ended")]
    still = store.now(ORG, CNV).situation.monitor is not None
    assert monitors == ["monitor.started"] if still else ["monitor.started", "monitor.ended"]
    assert not (happened and still)
    if happened:
        mark = entries.index("takeover.completed")
        assert entries[mark - 1] == "participant.connected"
        mark_data = orjson.loads(east.record.transcript[mark].body)["data"]
        assert mark_data["from"] == [notice.participant_id for notice in one.notices]
        assert all(removed.user_id != "bob" for removed in one.connected)
    if happened and one.ended_at is None and rival != "transfer":
        assert one.owner == "prt_ana"


@pytest.mark.parametrize("seed", SEEDS)
async def test_message_against_takeover(seed: int) -> None:
    """What an agent says at that instant is before the mark, or comes back as a draft; nothing is shown after it."""
    _, east, west = await two_nodes(seed, BOB)
    await east.run(watch())
    await east.run(prepare())
    sends = [west.messaging.send(desk("bob"), CNV, words(f"m{number}")) for number in range(5)]
    ends = await outcomes(east.run(confirm()), *sends)
    assert ends[0] == "done"
    assert set(ends[1:]) <= {"done", "stale_owner"}
    names_ = [name for _, _, name in east.shown()]
    mark = names_.index("takeover.completed")
    assert "message.created" not in names_[mark:]
    assert names_.count("message.created") == ends[1:].count("done")
    assert len([one for one in east.record.actions if b"outbound.message" in one]) == ends[1:].count("done")


# -- everything at once ------------------------------------------------------------------------------------------------


def chaos(chance: random.Random, store: FakeStore, number: int) -> c.Command:
    """Something that somebody may want at any time."""
    who = person(chance.choice(("ana", "zoe", "max")))
    session = f"ses_{who.user_id}"
    one = chance.choice((BOB, CAY, ROBO))
    prepared = store.now(ORG, CNV).situation.prepared
    takeover_id = prepared.takeover_id if prepared is not None else "tko_none"
    return chance.choice(
        (
            connect(replace(one, since=store.now_ms)),
            disconnect(one, at=store.now_ms),
            watch(
                who, participant_id=one.participant_id, monitor_id=f"mon_{number}", lease_end=store.now_ms + LEASE_MS
            ),
            watch(who, session=f"{session}2", monitor_id=f"mon_{number}", lease_end=store.now_ms + LEASE_MS),
            c.StopMonitor(who),
            c.ReleaseMonitor(who, "needed"),
            c.LeaveMonitor(who.user_id, session),
            c.ExpireMonitor(),
            prepare(who, takeover_id=f"tko_{number}", expires_at=store.now_ms + 60_000),
            confirm(who, takeover_id=takeover_id, participant_id=f"prt_{number}"),
            c.CancelTakeover(who, takeover_id),
            c.TransferConversation("platform", "support", "home", store.now_ms),
            c.TimeOutWrapups(),
            c.SubmitWrapup(desk(one.user_id), "resolved", None),
        )
    )


@pytest.mark.parametrize("seed", SEEDS)
async def test_everything_at_once(seed: int) -> None:
    """After any mixture the log is gap-free, facts alternate as they must, and the state is what the ledger tells."""
    store, *nodes = await two_nodes(seed, BOB)
    chance = random.Random(seed)
    done: list[Done] = []

    async def somebody(number: int) -> None:
        for step in range(12):
            node = nodes[chance.randrange(2)]
            if chance.random() < 0.1:
                store.now_ms += chance.choice((10, LEASE_MS // 2, LEASE_MS))
            try:
                if chance.random() < 0.2:
                    await node.messaging.send(desk("bob"), CNV, words(f"m{number}-{step}"))
                else:
                    done.append(await node.run(chaos(chance, store, number * 100 + step)))
            except Refused as refused:
                assert refused.details.get("outcome") != "unknown"  # noqa: PT017

    await asyncio.gather(*(somebody(number) for number in range(6)))
    node = nodes[0]
    assert [one[0] for one in node.shown()] == list(range(1, node.loaded.top + 1))
    check_monitors(node)
    check_transcript(node)
    ledger = node.ledger()
    assert len(ledger) == 2 + sum(len(one.events) for one in done), (
        "a line for each fact that was committed, and no other"
    )
    taken = [one for one in done if "TakenOver" in names(one.events)]
    assert ledger.count("takeover.completed") == len(taken)
    for one in taken:
        assert one.after.existing.owner_epoch == one.before.existing.owner_epoch + 1
    owners = [one for one in done if one.committed and one.after.existing.owner != one.before.existing.owner]
    assert node.conversation.owner_epoch == 1 + len(owners)


def check_monitors(node: Node) -> None:
    """Starts and ends alternate, each end is of the monitor that was started, and the last one is the state's."""
    running: str | None = None
    for line in map(orjson.loads, node.record.ledger):
        if line["what"] == "monitor.started":
            assert running is None
            running = line["monitor_id"]
        elif line["what"] == "monitor.ended":
            assert running == line["monitor_id"]
            running = None
    held = node.loaded.situation.monitor
    assert (held.monitor_id if held is not None else None) == running


def check_transcript(node: Node) -> None:
    """Only who was connected speaks, and after leaving nobody does."""
    there: set[str] = set()
    for entry in node.record.transcript:
        event = orjson.loads(entry.body)
        who = event["data"].get("participant_id")
        match event["event"]:
            case "participant.connected":
                assert who not in there
                there.add(who)
            case "participant.disconnected":
                there.remove(who)
            case "message.created":
                assert who in there
