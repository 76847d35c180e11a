"""A platform's batches: results in order, repeats without effect, one commit for neighbours."""

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.protocol import platform as p
from hub.protocol.cursor import parse_cursor
from hub.service.ingest import APPENDS_A_TURN, Result, append_of, refusal_of
from hub.service.ports import Append, Appended
from tests.support.fake_store import START_MS, FakeStore
from tests.unit.domain.words import confirm as confirm_takeover
from tests.unit.domain.words import finish, messenger, person, prepare, watch
from tests.unit.service.words import (
    ORG,
    SETTINGS,
    Node,
    connected,
    disconnected,
    event,
    offsets,
    over,
    said,
    started,
    statuses,
)

WHOLE = [started(), connected(), said("hello"), said("hi", "bob"), disconnected(), over()]


def cursor_of(result: Result) -> tuple[str, int]:
    """Tag and offset of the cursor."""
    parsed = parse_cursor(result.cursor or "")
    assert parsed is not None
    return parsed[1:]


async def running() -> Node:
    """A conversation that Bob answers."""
    node = Node()
    await node.take(started(), connected())
    return node


async def test_a_whole_conversation_in_one_batch() -> None:
    """Everything is accepted in order, each with the cursor of its own entry."""
    node = Node()
    results = await node.take(*WHOLE)
    assert statuses(results) == [(one.id, "accepted") for one in WHOLE]
    assert offsets(results) == [1, 2, 3, 4, 5, 6]
    assert node.shown() == [
        (1, "as", "participant.connected"),
        (2, "as", "participant.connected"),
        (3, "asc", "message.created"),
        (4, "asc", "message.created"),
        (5, "as", "participant.disconnected"),
        (6, "asc", "conversation.ended"),
    ]
    for result, entry in zip(results, node.record.transcript, strict=True):
        assert result.cursor is not None
        assert parse_cursor(result.cursor) == (node.loaded.epoch, entry.tag, entry.offset)


async def test_neighbours_share_a_commit() -> None:
    """A run of events that change the state is one commit, runs are cut where messages stand between."""
    node = Node()
    await node.take(*WHOLE)
    assert len(node.store.answers) == 2
    assert [len(commit.transcript) for commit, _ in node.store.answers] == [2, 2]


@pytest.mark.parametrize("size", [1, 2, 6])
async def test_repeats_have_no_effect(size: int) -> None:
    """The same ids again, however they are cut into batches, are duplicates and leave everything as it was."""
    node = Node()
    await node.take(*WHOLE)
    fields, entries = dict(node.record.fields), node.shown()
    for start in range(0, len(WHOLE), size):
        part = WHOLE[start : start + size]
        assert statuses(await node.take(*part)) == [(one.id, "duplicate") for one in part]
    assert (node.record.fields, node.shown()) == (fields, entries)


async def test_repeats_within_a_batch() -> None:
    """The second of two equal ids is the duplicate."""
    node = Node()
    batch = [started(), started(), connected(), connected(), said("hello"), said("hello")]
    assert [status for _, status in statuses(await node.take(*batch))] == ["accepted", "duplicate"] * 3
    assert len(node.record.transcript) == 3


async def test_same_message_under_another_event_id() -> None:
    """A message id is taken once, whatever event brings it."""
    node = await running()
    assert statuses(await node.take(said("hi"), said("hi", id="e-other"))) == [
        ("e-hi", "accepted"),
        ("e-other", "duplicate"),
    ]


async def test_one_bad_event_stops_no_other() -> None:
    """Unreadable ones, refused ones and good ones each have their result, at their place."""
    node = await running()
    unread = p.decode_event(b'{"id":"e-bad"}')
    nothing = p.decode_event(b"not json")
    assert isinstance(unread, p.BadEvent)
    assert isinstance(nothing, p.BadEvent)
    results = await node.take(
        said("a"), unread, connected("zoe", "e-x"), said("b", "nobody"), nothing, said("c"), started("e-again"), over()
    )
    assert statuses(results) == [
        ("e-a", "accepted"),
        ("e-bad", "schema_invalid"),
        ("e-x", "accepted"),
        ("e-b", "stale_owner"),
        (None, "schema_invalid"),
        ("e-c", "accepted"),
        ("e-again", "already_done"),
        ("e-end", "accepted"),
    ]
    assert offsets(results) == [3, None, 4, None, None, 5, None, 6]


async def test_refused_event_id_can_be_used_again() -> None:
    """A refusal is not remembered: the same id is taken in when it fits."""
    node = Node()
    assert statuses(await node.take(connected())) == [("e-in-bob", "unknown_conversation")]
    assert statuses(await node.take(started(), connected())) == [("e-start", "accepted"), ("e-in-bob", "accepted")]


async def test_conversations_keep_their_own_order() -> None:
    """Mixed events of several conversations come back in the batch's order and stand in each one's own."""
    node = Node()
    batch: list[p.AnyEvent] = []
    for name in ("cnv_1", "cnv_2"):
        batch += [started(f"s-{name}", name), connected(id=f"c-{name}", conversation_id=name)]
    mixed = [batch[0], batch[2], batch[1], batch[3]]
    mixed += [said(f"{n}{name}", "bob", conversation_id=name) for n in range(3) for name in ("cnv_1", "cnv_2")]
    results = await node.take(*mixed)
    assert statuses(results) == [(one.id, "accepted") for one in mixed]
    for name in ("cnv_1", "cnv_2"):
        bodies = [orjson.loads(one.body)["data"] for one in node.store.record(ORG, name).transcript]
        assert [one["text"] for one in bodies if "text" in one] == [f"{n}{name}" for n in range(3)]


async def test_another_connectors_conversation_is_unknown() -> None:
    """Nothing of another platform's can be changed, or even known about; its ids are no duplicates either."""
    node = await running()
    foreign = [said("x"), connected("zoe"), started("e-new"), started(), said("y", "bob"), over(), disconnected()]
    for one in foreign:
        assert statuses(await node.take(one, connector="other")) == [(one.id, "unknown_conversation")]
    assert len(node.record.transcript) == 2


async def test_without_effect_is_accepted() -> None:
    """Who isn't connected any more can leave again; the id is remembered."""
    node = await running()
    assert statuses(await node.take(disconnected("zoe"))) == [("e-out-zoe", "accepted")]
    assert statuses(await node.take(disconnected("zoe"))) == [("e-out-zoe", "duplicate")]
    assert len(node.record.transcript) == 2


async def test_after_the_end_only_receipts() -> None:
    """Everything else is refused with the reason."""
    node = await running()
    await node.take(said("hi", "bob"), over())
    receipt = event("e-r", "message.receipt", {"message_id": "m-hi", "status": "read"})
    late = [said("late"), connected("zoe"), disconnected(), event("e-t", "typing", {"on": True, "purpose": "customer"})]
    results = await node.take(receipt, *late)
    assert [status for _, status in statuses(results)] == ["accepted", *["conversation_ended"] * 4]


async def test_removed_agents_words_are_refused() -> None:
    """What an agent says after a takeover is refused and names the owner."""
    node = await running()
    for command in (watch(), prepare(), confirm_takeover()):
        await node.run(command)
    (result,) = await node.take(said("late", "bob"))
    assert result.refused is not None
    assert result.refused.code == "stale_owner"
    assert result.refused.details == {"owner": "prt_ana", "owner_epoch": 2}
    assert [name for _, _, name in node.shown()][-1] == "takeover.completed"


async def test_transfer_by_a_platform() -> None:
    """The queue's configured division counts, else the conversation's own; a supervisor's part ends with it."""
    node = await running()
    for command in (watch(), prepare(), confirm_takeover()):
        await node.run(command)
    results = await node.take(event("e-t", "conversation.transferred", {"queue": "billing"}), connected("cay"))
    assert statuses(results) == [("e-t", "accepted"), ("e-in-cay", "accepted")]
    assert offsets(results) == [7, 8]
    assert (node.conversation.queue, node.conversation.division, node.conversation.owner) == (
        "billing",
        "home",
        "prt_cay",
    )
    moved = event("e-none", "conversation.transferred", {"queue": "billing"}, "cnv_none")
    assert statuses(await node.take(moved)) == [("e-none", "unknown_conversation")]


async def test_panels_typing_receipts() -> None:
    """They are written (typing: only shown) without a commit; a null removes a panel; there is a bound."""
    node = await running()
    before = len(node.store.answers)
    batch = [
        event("p1", "panel.updated", {"panel": "customer", "content": {"tier": "gold"}}),
        event("p2", "panel.updated", {"panel": "order", "content": [1]}),
        event("p3", "panel.updated", {"panel": "order", "content": None}),
        event("t1", "typing", {"on": True, "participant_id": "prt_bob"}),
        event("t2", "typing", {"on": False, "purpose": "customer"}),
        event("r1", "message.receipt", {"message_id": "m-1", "status": "failed", "reason": "blocked"}),
    ]
    results = await node.take(*batch)
    assert [status for _, status in statuses(results)] == ["accepted"] * 6
    assert offsets(results) == [3, 4, 5, None, None, 6]
    assert node.record.panels == {"customer": b'{"tier":"gold"}'}
    shown = [orjson.loads(one) for one in node.record.typing]
    assert (shown[0]["data"]["participant_id"], shown[0]["data"]["on"]) == ("prt_bob", True)
    assert shown[1]["data"]["purpose"] == "customer"
    assert len(node.store.answers) == before
    many = [event(f"many-{n}", "panel.updated", {"panel": f"p{n}", "content": n}) for n in range(32)]
    last = (await node.take(*many))[-1]
    assert last.refused is not None
    assert (last.refused.code, last.refused.details["panels_max"]) == ("schema_invalid", 32)


async def test_the_body_of_a_message() -> None:
    """Whoever speaks stands in the event with id, purpose and name; attachments and any character survive."""
    node = await running()
    data: dict[str, object] = {
        "message_id": "m.1",
        "text": 'quote " and \\ and \u2028 and \U0001f600',
        "participant_id": "prt_bob",
        "attachments": [{"url": "https://example.com/a?b=1", "name": "a.png", "mime": "image/png"}],
    }
    await node.take(event("e1", "message.created", data))
    assert orjson.loads(node.record.transcript[-1].body) == {
        "event": "message.created",
        "conversation_id": "cnv_1",
        "at": node.store.now_ms,
        "data": {**data, "purpose": "agent", "name": "Bob"},
    }


async def test_result_on_the_wire() -> None:
    """Status and cursor, or the error in the usual shape."""
    node = await running()
    good, bad = await node.take(said("hi"), said("no", "nobody"))
    assert good.wire() == {"id": "e-hi", "status": "accepted", "cursor": good.cursor}
    error = bad.wire()["error"]
    assert isinstance(error, dict)
    assert set(error) == {"code", "message", "retryable", "details"}


async def test_decided_again_when_somebody_was_faster() -> None:
    """A conflict changes results, not their number: what was refused at first may be accepted then, and the reverse."""
    node = await running()

    def faster(commit: object) -> None:
        node.store.before_commit = lambda commit: None
        node.slip_in(finish())

    node.store.before_commit = faster
    results = await node.take(connected("cay"), disconnected("cay"))
    assert [status for _, status in statuses(results)] == ["conversation_ended"] * 2


async def test_same_batch_twice_at_once() -> None:
    """Of two equal requests under way at once each event has its effect once."""
    for seed in range(20):
        store = FakeStore(seed, turns_max=3)
        first, second = Node(store), Node(store)
        both = await asyncio.gather(first.take(*WHOLE), second.take(*WHOLE))
        assert [name for _, _, name in first.shown()] == [
            "participant.connected",
            "participant.connected",
            "message.created",
            "message.created",
            "participant.disconnected",
            "conversation.ended",
        ]
        for one in zip(*(statuses(results) for results in both), strict=True):
            assert {status for _, status in one} <= {"accepted", "duplicate", "unknown_conversation", "stale_owner"}


async def test_transfer_to_where_it_is_by_two_nodes_at_once() -> None:
    """
    An event that leaves the state equal is written once, whichever nodes take it in at once.

    The version stood still where the state did, so that the second node's commit was no conflict: transcript, segments
    and ledger had it twice, and both were told that theirs was the first.
    """
    for seed in range(20):
        store = FakeStore(seed, turns_max=3)
        first, second = Node(store), Node(store)
        await first.take(started(), connected())
        same = event("e-t", "conversation.transferred", {"queue": "support"})
        both = await asyncio.gather(first.take(same), second.take(same))
        assert sorted(status for results in both for _, status in statuses(results)) == ["accepted", "duplicate"]
        assert [name for _, _, name in first.shown()].count("conversation.transferred") == 1
        assert first.ledger().count("conversation.transferred") == 1


async def test_cursor_of_an_event_without_effect() -> None:
    """
    Each accepted event's cursor is a position that there is, also before the first entry of its commit.

    It once had the old offset with the new entry's tag, which nobody could resume from.
    """
    node = await running()
    results = await node.take(disconnected("zoe"), connected("cay"), disconnected("max"), disconnected("cay"))
    assert offsets(results) == [2, 3, 3, 4]
    positions = {(one.tag, one.offset) for one in node.record.transcript}
    assert {cursor_of(one) for one in results} <= positions


async def test_cursor_of_an_event_without_effect_with_a_message_in_between() -> None:
    """A message that comes between deciding and writing has a tag of its own; the cursor stays where it was decided."""
    node = await running()

    def faster(commit: object) -> None:
        node.store.before_commit = lambda commit: None
        assert node.store._append(append_of(ORG, "platform", said("quick"))).outcome == "ok"

    node.store.before_commit = faster
    results = await node.take(disconnected("zoe"), connected("cay"))
    assert offsets(results) == [2, 4]
    positions = {(one.tag, one.offset) for one in node.record.transcript}
    assert {cursor_of(one) for one in results} <= positions


async def test_too_many_participants_stop_nobody_else() -> None:
    """
    Who doesn't fit any more is refused alone; the others in the batch and their conversations have their results.

    One conversation too large once made the whole batch one error, after the others were committed, and for ever again.
    """
    node = Node()
    many = [connected(f"agent-{n}-" + "x" * 40, f"c{n}") for n in range(60)]
    batch = [started(), *many, over(), started("s2", "cnv_2")]
    results = await node.take(*batch)
    codes = [code for _, code in statuses(results)]
    assert [one.id for one in results] == [one.id for one in batch]
    fit = codes.index("too_large") - 1
    assert codes == ["accepted"] * (1 + fit) + ["too_large"] * (60 - fit) + ["accepted"] * 2
    assert fit > 20
    refused = results[fit + 1].refused
    assert refused is not None
    assert refused.details["bytes_max"] == SETTINGS.state_bytes_max * 3 // 4
    assert statuses(await node.take(*batch[fit + 1 : -2])) == [(one.id, "conversation_ended") for one in many[fit:]]
    assert statuses(await node.take(batch[-1], batch[0])) == [("s2", "duplicate"), ("e-start", "duplicate")]


FULL_ENDS: list[list[c.Command]] = [
    [finish()],
    [c.EndConversation(messenger())],
    [c.EndIdle()],
    [watch(participant_id="prt_x"), prepare(), confirm_takeover(), finish()],
]


@pytest.mark.parametrize("commands", FULL_ENDS)
async def test_a_full_conversation_can_be_ended_and_taken_over(commands: list[c.Command]) -> None:
    """
    What must always work isn't refused for want of room.

    A state just below its limit once refused its own end, the sweeper's too, and takeovers, for ever.
    """
    node = Node()
    await node.take(started(), connected("x"))
    await node.take(*(connected(f"agent-{n}-" + "x" * 40, f"c{n}") for n in range(60)))
    assert statuses(await node.take(connected("y" * 40))) == [(f"e-in-{'y' * 40}", "too_large")]
    for command in commands:
        assert (await node.run(command)).committed is not None
    assert node.conversation.ended_at is not None
    assert len(node.record.fields[b"state"]) > SETTINGS.state_bytes_max * 3 // 4


async def test_a_long_conversation_forgets_who_left() -> None:
    """
    However many came and went, another one has room, and the state stays within its limit.

    Sixty-four remembered ones alone once filled it.
    """
    node = await running()
    for n in range(80):
        name = f"agent-{n}-" + "x" * 40
        batch = [connected(name, f"c{n}"), disconnected(name, f"d{n}")]
        assert [status for _, status in statuses(await node.take(*batch))] == ["accepted"] * 2
        assert len(node.record.fields[b"state"]) <= SETTINGS.state_bytes_max
    assert node.conversation.knew("agent-79-" + "x" * 40), "the last ones are remembered"
    assert not node.conversation.knew("agent-0-" + "x" * 40)


async def test_store_away() -> None:
    """Where the store is away, the batch is refused as a whole when everything under way has come to its end."""

    class Away(FakeStore):
        async def append(self, appends: object) -> list[Appended]:
            raise Refused("store_unavailable", "Away.", {"outcome": "unknown"})

    node = Node(Away())
    with pytest.raises(Refused) as caught:
        await node.take(started(), said("x", conversation_id="cnv_2"))
    assert caught.value.code == "store_unavailable"
    assert [name for _, _, name in node.shown()] == ["participant.connected"]


async def test_monitor_has_no_part_in_results() -> None:
    """The same batches get the same results with and without a monitor."""
    outcomes = []
    for monitored in (False, True):
        node = await running()
        if monitored:
            await node.run(watch(person()))
        results = await node.take(said("a"), connected("cay"), said("b", "bob"), disconnected(), over())
        outcomes.append((statuses(results), offsets(results)))
    assert outcomes[0] == outcomes[1]


def test_append_is_for_the_kinds_that_append() -> None:
    """Our own mistakes are told apart from the platform's."""
    assert isinstance(append_of(ORG, "platform", said("x")), Append)
    with pytest.raises(AssertionError):
        append_of(ORG, "platform", started())
    with pytest.raises(AssertionError):
        refusal_of(Appended("ok"))


async def test_who_leaves_and_returns_in_one_batch_may_speak() -> None:
    """
    A desktop that reconnects tells both at once; the participant is the same one, and owns and speaks.

    The record's line of who speaks was written and then dropped, since who came back was another value than who left: all
    they said was refused as `stale_owner`, though they owned the conversation.
    """
    node = Node()
    await node.take(started(), connected("bob"))
    back = event(
        "e-back",
        "participant.connected",
        {"participant_id": "prt_bob", "purpose": "agent", "user_id": "bob", "name": "Bob"},
        at=START_MS + 1,
    )
    assert statuses(await node.take(disconnected("bob"), back)) == [("e-out-bob", "accepted"), ("e-back", "accepted")]
    assert node.conversation.owner == "prt_bob"
    assert statuses(await node.take(said("hello", "bob"))) == [("e-hello", "accepted")]


async def test_a_large_batch_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends are sent some in each turn of the loop, whatever batches there are; each batch's order is kept."""
    node = await running()
    sent: list[int] = []
    turns = [0]

    async def append(appends: Sequence[Append]) -> list[Appended]:
        sent.append(turns[0])
        assert len(appends) <= APPENDS_A_TURN
        return [node.store._append(one) for one in appends]

    async def count_turns() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(node.store, "append", append)
    counting = asyncio.create_task(count_turns())
    batches = [[said(f"{name}{n}") for n in range(5 * APPENDS_A_TURN)] for name in ("a", "b")]
    results = await asyncio.gather(*(node.take(*batch) for batch in batches))
    counting.cancel()
    for batch, result in zip(batches, results, strict=True):
        assert statuses(result) == [(one.id, "accepted") for one in batch]
        there = [offset for offset in offsets(result) if offset is not None]
        assert len(there) == len(batch)
        assert there == sorted(there)
    assert len(sent) == 10
    assert len(set(sent)) == len(sent), f"more than one piece in a turn: {sent}"


async def test_a_piece_that_fails_is_told_when_all_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a batch goes on behind its refusal."""
    node = await running()
    over: list[int] = []

    async def append(appends: Sequence[Append]) -> list[Appended]:
        await asyncio.sleep(0)
        over.append(len(appends))
        if len(over) == 1:
            raise Refused("store_unavailable", "The store is away.", {"outcome": "none"})
        return [node.store._append(one) for one in appends]

    monkeypatch.setattr(node.store, "append", append)
    with pytest.raises(Refused, match="away"):
        await node.take(*[said(f"m{n}") for n in range(2 * APPENDS_A_TURN + 1)])
    assert over == [APPENDS_A_TURN, APPENDS_A_TURN, 1]
