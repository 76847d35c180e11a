"""
The store's laws on the store in memory, as `tests/contract/test_store.py` asks them of real engines.

What the service's tests prove is worth as much as the store that they prove it on.
"""

import copy
from dataclasses import replace
from typing import Any

import orjson
import pytest
from msgspec import structs

from hub.domain import commands as c
from hub.domain.board import monitor_parts
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.service.plan import plan_commit
from hub.service.ports import Append, Appended, Commit, Committed, Conflict, Loaded, NotDue, Repeated, Request
from tests.support.fake_store import FakeStore, Record
from tests.unit.domain.words import (
    BOB,
    CAY,
    LEASE_MS,
    begin,
    confirm,
    connect,
    desk,
    disconnect,
    finish,
    person,
    prepare,
    transfer,
    watch,
)
from tests.unit.service.words import CNV, CONNECTOR, ORG, Node, connected, event, said, started

REQUEST = Request(ORG, "supervisor", "ana", "r1", "digest")


async def running(*users: str, **data: Any) -> Node:
    """A conversation with these agents, Bob where nobody is named."""
    node = Node()
    await node.take(started(**data), *(connected(one) for one in users or ("bob",)))
    return node


def plan(node: Node, command: c.Command, loaded: Loaded | None = None, **options: Any) -> Commit:
    """The commit for `command`, decided on `loaded` (what there is now, where nothing is given); not written."""
    loaded = loaded or node.loaded
    before = node.conversations.configured(loaded.situation)
    events = decide(before, command)
    return plan_commit(
        loaded,
        before,
        events,
        evolve_all(before, events),
        fresh_tag=node.ids.tag(),
        fresh_epoch=node.ids.tag(),
        new_action_id=lambda: node.ids.new("act", ORG, CNV),
        **options,
    )


def stored(node: Node) -> tuple[dict[tuple[str, str], Record], dict[tuple[str, ...], tuple[str, bytes]]]:
    """Everything, as it is now."""
    records = {key: record for key, record in node.store.records.items() if record.fields}
    return copy.deepcopy((records, node.store.requests))


def saying(**changes: Any) -> Append:
    """Bob's message, as his platform sends it."""
    one = Append(
        kind="message",
        org=ORG,
        conversation_id=CNV,
        connector=CONNECTOR,
        participant="prt_bob",
        owner=None,
        at=7,
        head=b'{"event":"message.created","data":{',
        tail=b"}}",
        audience="asc",
        seen=(b"1", b"2"),
    )
    return replace(one, **changes)


# -- commits ---------------------------------------------------------------------------------------------------------


async def test_a_commit_on_an_old_version_writes_nothing() -> None:
    """Of two commits decided on one version the second changes nothing, and is told the state to decide on now."""
    node = await running()
    first, second = (plan(node, connect(one)) for one in (CAY, replace(CAY, participant_id="prt_2")))
    assert isinstance(await node.store.commit(first), Committed)
    before = stored(node)
    assert await node.store.commit(second) == Conflict(node.loaded)
    assert stored(node) == before
    assert [one.user_id for one in node.conversation.connected] == ["bob", "cay"]


async def test_a_start_needs_that_nothing_is_there() -> None:
    """Two starts of one conversation decided on nothing: one is written, the other is told of the first."""
    node = Node()
    first, second = (plan(node, begin()) for _ in range(2))
    assert isinstance(await node.store.commit(first), Committed)
    answer = await node.store.commit(second)
    assert isinstance(answer, Conflict)
    assert (answer.loaded.situation.existing.customer.participant_id, answer.loaded.top) == ("prt_dana", 1)


async def test_a_takeover_is_written_whole() -> None:
    """One commit leaves record, transcript, actions, segments, ledger, due things, index, board and no half of it."""
    node = await running("bob", "cay", channel="open")
    for command in (watch(participant_id="prt_bob"), prepare(), confirm()):
        await node.run(command)
    record, fields = node.record, node.record.fields
    assert fields[b"owner"] == b"prt_ana 2"
    assert {name for name in fields if name.startswith(b"p:")} == {b"p:" + fields[b"cust"], b"p:prt_ana"}
    assert not {b"m", b"m.id", b"m.row", b"m.extra", b"x", b"ml:ses_ana"} & set(fields)
    assert [name for _, _, name in node.shown()][3:] == [
        *["participant.disconnected"] * 2,
        "participant.connected",
        "takeover.completed",
    ]
    assert [orjson.loads(one.partition(b" ")[2])["event"] for one in record.actions] == [
        *["participant.disconnected"] * 2,
        "participant.connected",
        "sender.changed",
    ]
    assert [orjson.loads(one)["kind"] for one in record.segments] == ["interact", "interact", "takeover", "monitoring"]
    assert node.ledger()[-4:] == ["takeover.completed", "wrapup.requested", "wrapup.requested", "monitor.ended"]
    assert (set(record.due), record.index) == ({"wrapup"}, "live")
    row = record.rows[-1]
    assert (row["owner"], row["owner_epoch"], row["taken_over"], row["monitor"]) == ("prt_ana", 2, True, None)
    assert {one.user_id for one in node.conversation.notices} == {"bob", "cay"}


async def test_the_end_moves_the_conversation_to_the_closed_index() -> None:
    """A conversation is in one index: live until it is settled, closed from then on."""
    node = await running()
    await node.run(finish())
    assert (node.record.index, set(node.record.due)) == ("live", {"wrapup"})
    await node.run(c.SubmitWrapup(desk("bob"), "resolved", None))
    assert (node.record.index, node.record.due) == ("closed", {})


@pytest.mark.parametrize("change", ["connect", "acknowledge"])
async def test_a_commit_that_does_not_read_the_monitor_stands_beside_one(change: str) -> None:
    """A monitor that starts after the decision doesn't make the commit decide again, and is in the row that it writes."""
    node = await running()
    command: c.Command = connect(CAY)
    if change == "acknowledge":
        for one in (watch(person("tom")), prepare(person("tom")), confirm(person("tom"))):
            await node.run(one)
        command = c.AcknowledgeTakeover(desk("bob"), "tko_1")
    commit, version = plan(node, command), node.loaded.version
    await node.run(watch())
    assert node.loaded.version == version
    assert isinstance(await node.store.commit(commit), Committed)
    monitor = node.loaded.situation.monitor
    assert monitor is not None
    seen, hidden = monitor_parts(monitor)
    assert (node.record.rows[-1]["monitor"], node.record.extras[-1]["monitor"]) == (seen, hidden)
    assert orjson.loads(node.record.fields[b"row"]) == node.record.rows[-1]
    assert orjson.loads(node.record.fields[b"extra"]) == node.record.extras[-1]


@pytest.mark.parametrize("command", [disconnect(), transfer("timed"), finish()], ids=lambda one: type(one).__name__)
async def test_a_commit_that_read_the_monitor_is_guarded_by_it(command: c.Command) -> None:
    """Whatever ends monitors is decided again when one started meanwhile; the conflict brings it."""
    node = await running()
    commit = plan(node, command)
    await node.run(watch())
    before = stored(node)
    answer = await node.store.commit(commit)
    assert isinstance(answer, Conflict)
    assert stored(node) == before
    assert answer.loaded.situation.monitor is not None
    assert answer.loaded.situation.monitor.joined("ses_ana") is not None
    assert isinstance(await node.store.commit(plan(node, command, answer.loaded)), Committed)
    assert (node.loaded.situation.monitor is None) == (not isinstance(command, c.TransferConversation))


async def test_one_of_eight_monitors_wins() -> None:
    """Of eight starts decided on the same free conversation one is written; each conflict names the winner."""
    node = await running()
    loaded = node.loaded
    plans = [plan(node, watch(person(f"s{n}")), loaded) for n in range(8)]
    first, *others = [await node.store.commit(one) for one in plans]
    assert isinstance(first, Committed)
    for one in others:
        assert isinstance(one, Conflict)
        assert one.loaded.situation.monitor is not None
        assert one.loaded.situation.monitor.user_id == "s0"


async def test_a_takeover_decided_before_another_owner_came_is_refused() -> None:
    """A confirmation whose decision saw an older owner writes nothing; decided again, the rules refuse it."""
    node = await running("bob", "cay")
    await node.run(watch(participant_id="prt_bob"))
    await node.run(prepare())
    commit = plan(node, confirm())
    await node.run(disconnect(BOB))
    answer = await node.store.commit(commit)
    assert isinstance(answer, Conflict)
    with pytest.raises(Refused, match="not_monitoring"):
        plan(node, confirm(), answer.loaded)
    assert node.conversation.owner == "prt_cay"


async def test_a_request_is_carried_out_once() -> None:
    """The same request again is answered with the first answer, whatever has happened since, and changes nothing."""
    node = await running()
    assert await node.store.committed(ORG, CNV, REQUEST) is None
    commit = plan(node, watch(), request=REQUEST, answer=b'{"answer":1}')
    assert isinstance(await node.store.commit(commit), Committed)
    await node.run(c.StopMonitor(person()))
    before, first = stored(node), Repeated("digest", b'{"answer":1}')
    assert await node.store.commit(commit) == first
    assert await node.store.committed(ORG, CNV, replace(REQUEST, digest="other")) == first
    assert stored(node) == before
    for other in (replace(REQUEST, req="r2"), replace(REQUEST, user_id="zoe"), replace(REQUEST, role="agent")):
        assert await node.store.committed(ORG, CNV, other) is None
    assert await node.store.committed(ORG, "cnv_2", REQUEST) is None


async def test_a_refused_commit_does_not_remember_its_request() -> None:
    """A request whose commit conflicted can be decided again and is then carried out."""
    node = await running()
    commit = plan(node, watch(), request=REQUEST)
    await node.run(connect(CAY))
    answer = await node.store.commit(commit)
    assert isinstance(answer, Conflict)
    assert await node.store.committed(ORG, CNV, REQUEST) is None
    again = plan(node, watch(participant_id="prt_cay"), answer.loaded, request=REQUEST)
    assert isinstance(await node.store.commit(again), Committed)


async def test_an_expiry_is_written_only_when_the_lease_is_over() -> None:
    """Who decided by a clock that is ahead, or was overtaken by a renewal, can't end a running monitor."""
    node = await running()
    await node.run(watch())
    loaded = node.loaded
    late = replace(loaded, situation=replace(loaded.situation, now_ms=node.store.now_ms + LEASE_MS))
    commit, before = plan(node, c.ExpireMonitor(), late), stored(node)
    assert isinstance(await node.store.commit(commit), NotDue)
    assert stored(node) == before
    node.store.now_ms += LEASE_MS
    assert isinstance(await node.store.commit(commit), Committed)
    assert node.loaded.situation.monitor is None


async def test_a_renewal_extends_what_is_still_theirs() -> None:
    """The monitor's id and a lease that still runs are asked for; no version moves."""
    node = await running()
    await node.run(watch())
    versions, end = (node.loaded.version, node.loaded.monitor_version), node.store.now_ms + 2 * LEASE_MS
    assert not node.store.renew(ORG, CNV, "mon_zoe", "ses_ana", end)
    assert not node.store.renew(ORG, CNV, "mon_ana", "ses_2", end)
    assert node.store.renew(ORG, CNV, "mon_ana", "ses_ana", end)
    assert (node.loaded.version, node.loaded.monitor_version) == versions
    assert (node.record.due["lease"], node.loaded.situation.monitor.sessions[0].lease_end) == (end, end)  # type: ignore[union-attr]
    node.store.now_ms = end
    assert not node.store.renew(ORG, CNV, "mon_ana", "ses_ana", end + LEASE_MS)
    await node.run(c.ExpireMonitor())
    assert not node.store.renew(ORG, CNV, "mon_ana", "ses_ana", end + LEASE_MS)


# -- appends ---------------------------------------------------------------------------------------------------------


async def test_a_message_is_written_with_who_said_it() -> None:
    """The store itself puts in who acts, as they are connected, and answers with the position."""
    node = await running()
    answers = await node.store.append([saying(), saying(participant="@", seen=(b"3",))])
    entries = node.record.transcript[2:]
    who = [orjson.loads(one.body)["data"] for one in entries]
    assert who[0] == {"participant_id": "prt_bob", "purpose": "agent", "name": "Bob"}
    assert (who[1]["purpose"], who[1]["name"]) == ("customer", "Dana")
    assert [one.cursor for one in answers] == [f"{node.loaded.epoch}.{one.tag}-{one.offset}" for one in entries]


@pytest.mark.parametrize("which", [0, 1])
async def test_an_id_that_was_taken_in_makes_a_repeat(which: int) -> None:
    """The same event id, or the same message id under another event id, is a duplicate that changes nothing."""
    node = await running()
    assert (await node.store.append([saying()]))[0].outcome == "ok"
    before, seen = stored(node), [b"8", b"9"]
    seen[which] = saying().seen[which]
    assert await node.store.append([saying(seen=tuple(seen))]) == [Appended("duplicate")]
    assert stored(node) == before
    assert await node.store.seen(ORG, CNV, [b"1", b"8", b"2"]) == [True, False, True]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"conversation_id": "nowhere"}, Appended("unknown")),
        ({"connector": "other"}, Appended("unknown")),
        ({"participant": "prt_cay"}, Appended("stale", owner="prt_bob 1")),
        ({"owner": "prt_bob 2"}, Appended("stale", owner="prt_bob 1")),
        ({"owner": "-"}, Appended("stale", owner="prt_bob 1")),
        ({"kind": "typing", "participant": "prt_cay"}, Appended("stale", owner="prt_bob 1")),
        ({"kind": "draft", "participant": "prt_cay"}, Appended("stale", owner="prt_bob 1")),
    ],
    ids=["unknown", "foreign", "not-connected", "other-epoch", "nobody", "typing", "draft"],
)
async def test_an_append_is_refused_without_a_trace(changes: dict[str, Any], outcome: Appended) -> None:
    """Unknown and foreign conversations look alike, who isn't connected or doesn't own is stale; nothing is written."""
    node = await running()
    before = stored(node)
    assert await node.store.append([saying(**changes)]) == [outcome]
    assert stored(node) == before
    assert (await node.store.append([saying(owner="prt_bob 1")]))[0].outcome == "ok"


async def test_the_hub_itself_may_append_to_any_platforms_conversation() -> None:
    """Without a connector the conversation's platform isn't compared; the web messenger's take any."""
    node = await running()
    assert (await node.store.append([saying(connector=None)]))[0].outcome == "ok"
    own = Node()
    await own.take(started(), connected(), connector="")
    assert (await own.store.append([saying(connector="other")]))[0].outcome == "ok"


async def test_after_the_end_only_receipts_are_taken() -> None:
    """An ended conversation refuses messages, panels, typing and drafts, and still takes receipts and knows repeats."""
    node = await running()
    await node.store.append([saying()])
    await node.run(finish())
    before, fresh = stored(node), {"seen": (b"9",)}
    late = [
        saying(**fresh),
        saying(kind="panel", participant="", panel="crm", content=b"1", **fresh),
        saying(kind="typing", **fresh),
        saying(kind="draft", **fresh),
        saying(),
    ]
    answers = await node.store.append(late)
    assert [one.outcome for one in answers] == ["ended"] * 4 + ["duplicate"]
    assert stored(node) == before
    assert (await node.store.append([saying(kind="receipt", participant="", **fresh)]))[0].outcome == "ok"


async def test_panels_are_bounded() -> None:
    """A conversation has at most 32 panels; known ones change and go, and make room."""
    node = await running()

    async def panel(name: str, content: bytes) -> str:
        one = saying(kind="panel", participant="", panel=name, content=content, audience="as", seen=())
        return (await node.store.append([one]))[0].outcome

    assert {await panel(f"p{n}", b"1") for n in range(32)} == {"ok"}
    assert [await panel(*one) for one in (("p32", b"1"), ("p0", b"2"), ("p1", b""), ("p32", b"1"))] == [
        *("panels", "ok", "ok", "ok")
    ]
    assert (len(node.record.panels), node.record.panels["p0"]) == (32, b"2")


async def test_typing_is_shown_and_not_stored() -> None:
    """It has no position and makes no entry; a repeat of its id isn't shown again."""
    node = await running("bob", "cay")
    top = node.loaded.top
    parts = [("prt_bob", b"1"), ("prt_cay", b"2"), ("@", b"3"), ("prt_bob", b"1")]
    answers = await node.store.append([saying(kind="typing", participant=one, seen=(id,)) for one, id in parts])
    assert [one.outcome for one in answers] == ["ok", "ok", "ok", "duplicate"]
    assert [one.cursor for one in answers] == [None] * 4
    assert (node.loaded.top, len(node.record.transcript), len(node.record.typing)) == (top, top, 3)


async def test_a_draft_is_kept_beside_and_goes_with_its_writer() -> None:
    """A draft is kept by participant without any entry; who leaves takes it along, who is taken over finds it."""
    node = await running("bob", "cay")
    top = node.loaded.top
    texts = {"prt_bob": "grüß dich", "prt_cay": "two"}
    await node.store.append(
        [saying(kind="draft", participant=one, tail=text.encode(), seen=()) for one, text in texts.items()]
    )
    assert (node.loaded.drafts, node.loaded.top) == (texts, top)
    await node.run(disconnect(CAY))
    for command in (watch(), prepare(), confirm()):
        await node.run(command)
    assert node.loaded.drafts == {"prt_bob": "grüß dich"}
    await node.run(c.AcknowledgeTakeover(desk("bob"), "tko_1"))
    assert node.loaded.drafts == {}


# -- counters and the board ------------------------------------------------------------------------------------------


async def test_messages_count_and_say_who_must_speak() -> None:
    """Counters follow the messages; the board gets a patch only where `awaiting` flips, with the time of the flip."""
    node = await running()
    rows, unanswered = len(node.record.rows), []
    for n, who in enumerate([None, None, "bob", "bob", None], 1):
        at = node.store.now_ms + n
        await node.take(structs.replace(said(f"t{n}", who), at=at))
        unanswered.append(node.loaded.situation.counters.unanswered)
    counters = node.loaded.situation.counters
    assert (counters.messages, counters.awaiting, counters.awaiting_since) == (5, "agent", node.store.now_ms + 5)
    assert unanswered == [1, 2, 0, 0, 1]
    assert len(node.record.rows) == rows
    assert node.record.patches == [
        {"conversation_id": CNV, "awaiting": awaiting, "awaiting_since": node.store.now_ms + n, "messages": n}
        for awaiting, n in (("agent", 1), ("customer", 3), ("agent", 5))
    ]


async def test_a_message_between_decision_and_commit_is_on_the_board() -> None:
    """A commit stands although a message came meanwhile, and its row is followed by a patch with the newer counters."""
    node = await running()
    commit = plan(node, connect(CAY))
    await node.take(said("hello"))
    patch, rows = node.record.patches[-1], len(node.record.rows)
    assert isinstance(await node.store.commit(commit), Committed)
    assert (len(node.record.rows), node.record.rows[-1]["awaiting"]) == (rows + 1, None)
    assert node.record.patches == [patch, patch]
    await node.run(connect(replace(CAY, participant_id="prt_2")))
    assert len(node.record.patches) == 2, "a row that was made with the counters needs none"


async def test_the_end_takes_awaiting_away_whatever_came_between() -> None:
    """Nobody has to speak any more after the end, also where a message came after it was decided."""
    node = await running()
    commit = plan(node, finish())
    await node.take(said("hello"))
    patches = len(node.record.patches)
    assert isinstance(await node.store.commit(commit), Committed)
    counters = node.loaded.situation.counters
    assert (counters.awaiting, counters.awaiting_since, counters.messages) == (None, None, 1)
    assert len(node.record.patches) == patches


# -- positions and headers -------------------------------------------------------------------------------------------


async def test_positions_rise_by_one_and_each_step_has_a_tag() -> None:
    """Commits and appends leave no gap; entries of one step share a tag, steps don't."""
    node = await running()
    await node.take(said("a"), connected("cay"), connected("max"), said("b", "bob"))
    assert [one.offset for one in node.record.transcript] == list(range(1, 7))
    tags = [one.tag for one in node.record.transcript]
    assert tags[0] == tags[1] != tags[2] != tags[3] == tags[4] != tags[5]
    assert len(set(tags)) == 4
    assert (node.loaded.top, node.loaded.tag) == (6, tags[-1])


async def test_headers_say_audience_and_the_customers_own_position() -> None:
    """Each entry's header has its audience, and the count of what the customer may see up to and with it."""
    node = await running()
    await node.take(
        said("a"),
        event("p", "panel.updated", {"panel": "crm", "content": 1}),
        said("b", "bob"),
        event("r", "message.receipt", {"message_id": "m-b", "status": "read"}),
        event("t", "conversation.transferred", {"queue": "timed"}),
        event("e", "conversation.ended", {}),
    )
    headers = [(one.audience, one.customer_offset) for one in node.record.transcript]
    assert headers == [("as", 0), ("as", 0), ("asc", 1), ("as", 1), ("asc", 2), ("asc", 3), ("as", 3), ("asc", 4)]
    assert node.loaded.customer_top == 4


async def test_headers_name_the_monitor_of_the_steps_begin() -> None:
    """What ends a monitor is still said under it, what comes later not, whoever watches then."""
    node = await running("bob", "cay")
    tom = person("tom")
    await node.take(said("a"))
    await node.run(watch(participant_id="prt_bob"))
    await node.take(said("b"))
    await node.run(disconnect(BOB))
    await node.take(said("c"))
    await node.run(watch(tom))
    await node.take(said("d", "cay"))
    for command in (prepare(tom), confirm(tom)):
        await node.run(command)
    await node.take(said("e"))
    found = [one.monitor_id for one in node.record.transcript[3:]]
    assert found == ["-", "mon_ana", "mon_ana", "-", *["mon_tom"] * 4, "-"]


async def test_a_step_is_one_step() -> None:
    """Whatever gets in between is before or after a commit, never in it."""
    store = FakeStore(seed=3, turns_max=4)
    node = Node(store)
    await node.run(begin())
    seen: list[int] = []
    store.before_commit = lambda commit: seen.append(len(node.record.transcript))
    for one in (BOB, CAY):
        await node.run(connect(one))
    assert seen == [1, 2]
