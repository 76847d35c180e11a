"""The board's replica: loading, following, indexes, bounds."""

import msgspec
import orjson
import pytest

from hub.fanout.board import Board, Entry

from .rows import T0, both, full, known, patch


def load(board: Board, conversation_id: str, *, p: int = 1, row_at: int = 10, **fields: object) -> Entry:
    """Load one whose counters are the row's."""
    shown, hidden = both(conversation_id, **fields)
    row = orjson.loads(shown)
    return board.load(p, shown, hidden, row_at, row["awaiting"], row["awaiting_since"], row["messages"])


@pytest.fixture
def board() -> Board:
    """An empty board."""
    return Board("acme")


def test_load_keeps_the_rows_bytes(board: Board) -> None:
    """A row whose counters are current is kept as it came."""
    shown, hidden = both("cnv_1", monitor="ana", queued_since=None)
    entry = board.load(1, shown, hidden, 10, "agent", T0, 3)
    assert entry.row == shown
    assert entry is board.get("cnv_1")
    assert (entry.queue, entry.division, entry.channel, entry.state) == ("support", "home", "web", "active")
    assert (entry.awaiting, entry.awaiting_since, entry.started_at, entry.messages) == ("agent", T0, T0, 3)
    assert (entry.owner, entry.owner_user, entry.supervised, entry.agents) == ("prt_bob", "bob", False, ("bob",))
    assert entry.monitor_since == T0 + 5
    assert entry.text == "refund\ndana\ncnv_1\nbob"


def test_load_merges_newer_counters(board: Board) -> None:
    """Counters given beside a snapshot row stand in its bytes and in what is sorted by."""
    shown, hidden = both("cnv_1")
    entry = board.load(1, shown, hidden, 10, "customer", T0 + 7, 9)
    assert orjson.loads(entry.row) == {
        **orjson.loads(shown),
        "awaiting": "customer",
        "awaiting_since": T0 + 7,
        "messages": 9,
    }
    assert (entry.awaiting, entry.awaiting_since, entry.messages) == ("customer", T0 + 7, 9)


def test_load_reads_no_one_as_none(board: Board) -> None:
    """An empty `awaiting` is nobody."""
    shown, hidden = both("cnv_1")
    entry = board.load(1, shown, hidden, 10, "", None, 3)
    assert entry.awaiting is None
    assert orjson.loads(entry.row)["awaiting"] is None


def test_load_older_than_what_stands_changes_nothing(board: Board) -> None:
    """A snapshot row that a live entry overtook is not taken back."""
    new = board.apply(1, 12, full("cnv_1", subject="Newer"))
    assert new is not None
    assert load(board, "cnv_1", row_at=11, subject="Older") is new.new
    assert board.get("cnv_1") is new.new


def test_hidden_part_comes_back_as_it_was_written(board: Board) -> None:
    """Every part of `x` survives packing."""
    ended = {
        "monitor_id": "mon_ana",
        "user_id": "ana",
        "reason": "stopped",
        "by": {"user_id": "eve", "name": "Eve"},
        "duration_ms": 7,
    }
    wrapped = [{"participant_id": "prt_bob", "user_id": "bob", "code": "resolved", "timed_out": False}]
    body = full(
        "cnv_1",
        people=[("bob", "agent"), ("bot", "bot")],
        monitor="ana",
        notices=["cid"],
        wrapups=["dan"],
        queued_since=5,
        ended_at=6,
        monitor_ended=ended,
        wrapup_ended=wrapped,
    )
    change = board.apply(1, 1, body)
    assert change is not None
    assert change.old is None
    x = change.new.x
    assert [(one.participant_id, one.user_id, one.purpose, one.since) for one in x.people] == [
        ("prt_bob", "bob", "agent", T0 + 1),
        ("prt_bot", "bot", "bot", T0 + 1),
    ]
    assert x.monitor is not None
    assert (x.monitor.monitor_id, x.monitor.user_id, x.monitor.participant_id) == ("mon_ana", "ana", "prt_bob")
    assert (x.notices[0].takeover_id, x.notices[0].user_id) == ("tko_cid", "cid")
    assert (x.wrapups[0].user_id, x.wrapups[0].codes, x.wrapups[0].timeout_ms) == ("dan", ("resolved",), None)
    assert x.monitor_ended is not None
    assert (x.monitor_ended.by, x.monitor_ended.duration_ms) == ({"user_id": "eve", "name": "Eve"}, 7)
    assert (x.wrapup_ended[0].code, x.wrapup_ended[0].timed_out) == ("resolved", False)
    assert (change.new.queued_since, change.new.ended_at) == (5, 6)


def test_what_belongs_to_one_change_is_not_told_twice(board: Board) -> None:
    """A patch after a monitor's end doesn't carry that end, nor does a loaded row."""
    ended = {"monitor_id": "mon_ana", "user_id": "ana", "reason": "stopped", "by": None, "duration_ms": 7}
    first = board.apply(1, 1, full("cnv_1", monitor_ended=ended, notices=["cid"]))
    second = board.apply(1, 2, patch("cnv_1", "customer", T0, 4))
    assert first is not None
    assert first.new.x.monitor_ended is not None
    assert second is not None
    assert second.new.x.monitor_ended is None
    assert second.new.x.notices == first.new.x.notices
    assert load(board, "cnv_2", monitor_ended=ended).x.monitor_ended is None


def test_patch_changes_counters_only(board: Board) -> None:
    """A patch gives row and entry its counters; everything else stays."""
    old = load(board, "cnv_1", subject='with "awaiting":null inside')
    change = board.apply(1, 11, patch("cnv_1", "customer", T0 + 1, 4))
    assert change is not None
    assert change.old is old
    assert orjson.loads(change.new.row) == {
        **orjson.loads(old.row),
        "awaiting": "customer",
        "awaiting_since": T0 + 1,
        "messages": 4,
    }
    assert (change.new.awaiting, change.new.messages, change.new.row_at) == ("customer", 4, 11)
    assert old.awaiting == "agent"


@pytest.mark.parametrize("offset", [9, 10])
@pytest.mark.parametrize("body", [patch("cnv_1", "customer", T0, 4), full("cnv_1", subject="Older")])
def test_entries_that_the_row_includes_are_ignored(board: Board, offset: int, body: bytes) -> None:
    """An entry at or before the row's position changes nothing."""
    entry = load(board, "cnv_1", row_at=10)
    assert board.apply(1, offset, body) is None
    assert board.get("cnv_1") is entry


def test_repeated_entry_is_ignored(board: Board) -> None:
    """The same entry twice is one change."""
    assert board.apply(1, 3, full("cnv_1")) is not None
    assert board.apply(1, 3, full("cnv_1")) is None


def test_patch_of_an_unknown_conversation_is_ignored(board: Board) -> None:
    """A patch knows too little to make a row."""
    assert board.apply(1, 3, patch("cnv_1", "agent", T0, 1)) is None
    assert len(board) == 0


def test_unknown_kind_is_ignored(board: Board) -> None:
    """What a later version writes doesn't stop this one."""
    assert board.apply(1, 3, b"Z{}") is None


@pytest.mark.parametrize("body", [b"R{}", b"R", b"P{}", b"Pnull", b'R{"conversation_id":1}\n{}'])
def test_malformed_entry_raises_and_changes_nothing(board: Board, body: bytes) -> None:
    """A body of another form is told to the caller."""
    with pytest.raises(msgspec.DecodeError):
        board.apply(1, 3, body)
    assert len(board) == 0


def test_row_decided_before_a_patch_doesnt_undo_it(board: Board) -> None:
    """
    A message between a commit's load and its script leaves the log as patch, then row.

    The row was made with the older counters: the patch's stay.
    """
    load(board, "cnv_1", messages=3, awaiting="customer")
    board.apply(1, 11, patch("cnv_1", "agent", T0 + 1, 4))
    change = board.apply(1, 12, full("cnv_1", messages=3, awaiting="customer", monitor="ana"))
    assert change is not None
    row = orjson.loads(change.new.row)
    assert (row["awaiting"], row["awaiting_since"], row["messages"]) == ("agent", T0 + 1, 4)
    assert row["monitor"]["user_id"] == "ana"
    ended = board.apply(1, 13, full("cnv_1", state="ended", messages=3, awaiting=None, awaiting_since=None))
    assert ended is not None
    assert (ended.new.awaiting, ended.new.messages) == (None, 4)


def test_of_user_follows_every_role(board: Board) -> None:
    """A person's conversations: connected, monitoring, with a notice, with an open wrap-up; never others."""
    load(board, "cnv_1", people=[("bob", "agent")])
    load(board, "cnv_2", people=[], monitor="bob")
    load(board, "cnv_3", people=[], notices=["bob"])
    load(board, "cnv_4", people=[], wrapups=["bob"])
    load(board, "cnv_5", people=[("eve", "agent")])
    assert [entry.conversation_id for entry in board.of_user("bob")] == ["cnv_1", "cnv_2", "cnv_3", "cnv_4"]
    assert [entry.conversation_id for entry in board.connected("bob")] == ["cnv_1"]
    for number in range(1, 5):
        board.apply(1, 10 + number, full(f"cnv_{number}", people=[("eve", "agent")]))
    assert board.of_user("bob") == []
    assert len(board.connected("eve")) == 5


def test_owner_is_found_by_the_row_or_by_the_people(board: Board) -> None:
    """An owning supervisor's conversations are found, whether or not the row lists them among its agents."""
    load(board, "cnv_1", people=[("ana", "supervisor")])
    shown, hidden = both("cnv_2", people=[("ana", "supervisor")])
    row = {**orjson.loads(shown), "agents": []}
    board.load(1, orjson.dumps(row), hidden, 10, "agent", T0, 3)
    shown, hidden = both("cnv_3", people=[("ana", "supervisor")])
    board.load(1, shown, orjson.dumps({}), 10, "agent", T0, 3)
    assert [entry.conversation_id for entry in board.owned_by("ana")] == ["cnv_1", "cnv_2", "cnv_3"]
    assert all(entry.supervised for entry in board.owned_by("ana"))
    assert len(board.of_user("ana")) == 2
    board.apply(1, 11, full("cnv_1", people=[]))
    assert [entry.conversation_id for entry in board.owned_by("ana")] == ["cnv_2", "cnv_3"]


def test_away_row_says_so_once(board: Board) -> None:
    """The owner's absence is written into the row, whatever its spacing and its texts."""
    entry = load(board, "cnv_1", subject='"owner_away":false')
    assert orjson.loads(entry.away_row()) == {**orjson.loads(entry.row), "owner_away": True}
    shown, hidden = both("cnv_2")
    spaced = board.load(1, shown.replace(b'"owner_away":', b'"owner_away": '), hidden, 10, "agent", T0, 3)
    assert orjson.loads(spaced.away_row())["owner_away"] is True


def test_buckets_follow_queue_and_state(board: Board) -> None:
    """A conversation stands in one bucket, by queue, division and channel, while it runs."""
    load(board, "cnv_1", state="queued", queued_since=7, people=[])
    load(board, "cnv_2", state="queued", queued_since=5, people=[])
    load(board, "cnv_3", state="wrapup")
    bucket = board.queues["support"]["home", "web"]
    assert (list(bucket.queued), bucket.oldest(), bucket.interacting(), len(bucket)) == (["cnv_1", "cnv_2"], 5, b"", 3)
    board.apply(1, 11, full("cnv_2"))
    assert (bucket.oldest(), bucket.interacting()) == (7, b'"cnv_2"')
    board.apply(1, 12, full("cnv_2", queue="sales", division="abroad", channel="sms"))
    assert bucket.interacting() == b""
    assert board.queues["sales"]["abroad", "sms"].interacting() == b'"cnv_2"'
    board.apply(1, 13, full("cnv_2", state="ended", queue="sales", ended_at=T0))
    assert list(board.queues) == ["support"]
    assert list(board.ended) == ["cnv_2"]


def test_drop_forgets_everywhere(board: Board) -> None:
    """A dropped conversation is in no index, and observers are told."""
    told: list[tuple[Entry | None, Entry | None]] = []
    entry = load(board, "cnv_1")
    board.observers.append(lambda old, new: told.append((old, new)))
    assert board.drop("cnv_1") is entry
    assert board.drop("cnv_1") is None
    assert (board.get("cnv_1"), list(board), board.queues, board.of_user("bob")) == (None, [], {}, [])
    assert told == [(entry, None)]


def test_clear_partition_makes_room_for_a_history_that_begins_again(board: Board) -> None:
    """After a reset lower offsets count again, and other partitions stay."""
    load(board, "cnv_1", p=1, row_at=100)
    other = load(board, "cnv_2", p=2, row_at=100)
    assert board.clear_partition(1) == 1
    assert list(board) == [other]
    assert load(board, "cnv_1", p=1, row_at=1).row_at == 1
    assert board.apply(1, 2, patch("cnv_1", "customer", T0, 1)) is not None


def test_ended_are_bounded_and_the_oldest_go(board: Board) -> None:
    """Of the ended conversations the latest stay, whatever the order they came in."""
    board = Board("acme", ended_max=2)
    for number, ended_at in enumerate([5, 1, 9, 3]):
        load(board, f"cnv_{number}", state="ended", people=[], ended_at=ended_at)
    load(board, "cnv_live")
    assert {entry.conversation_id for entry in board} == {"cnv_0", "cnv_2", "cnv_live"}
    assert set(board.ended) == {"cnv_0", "cnv_2"}


def test_ended_with_something_open_are_kept_until_it_closes(board: Board) -> None:
    """An open wrap-up or notice keeps an ended conversation; without it, it is as old as it is."""
    board = Board("acme", ended_max=1)
    load(board, "cnv_1", state="ended", people=[], wrapups=["bob"], ended_at=1)
    load(board, "cnv_2", state="ended", people=[], notices=["bob"], ended_at=2)
    load(board, "cnv_3", state="ended", people=[], ended_at=3)
    assert len(board) == 3
    change = board.apply(1, 11, full("cnv_1", state="ended", people=[], ended_at=1))
    assert change is not None
    assert board.get("cnv_1") is None
    assert {entry.conversation_id for entry in board} == {"cnv_2", "cnv_3"}


def test_ended_that_come_back_to_life_are_not_squeezed(board: Board) -> None:
    """What runs again under an ended one's id no longer counts as ended."""
    board = Board("acme", ended_max=1)
    load(board, "cnv_1", state="ended", people=[], ended_at=1)
    board.apply(1, 11, full("cnv_1"))
    load(board, "cnv_2", state="ended", people=[], ended_at=2)
    assert board.get("cnv_1") is not None
    assert board.get("cnv_2") is not None


def test_heap_of_ended_doesnt_outgrow_them(board: Board) -> None:
    """Ended conversations that are dropped by retention leave nothing behind for long."""
    for number in range(3_000):
        load(board, f"cnv_{number}", state="ended", people=[], ended_at=number)
        board.drop(f"cnv_{number}")
    assert len(board._oldest) < 1_100


def test_apply_person_replaces_the_record(board: Board) -> None:
    """The last record of a person stands."""
    board.apply_person(known("bob", status="available"))
    record = board.apply_person(known("bob", status="on_queue", queues=["support"]))
    assert board.people == {"bob": record}
    assert record.agent is not None
    assert (record.status, record.present, record.agent.queues) == ("on_queue", True, frozenset({"support"}))
    with pytest.raises(msgspec.DecodeError):
        board.apply_person(b"{}")


def test_repeated_words_are_held_once(board: Board) -> None:
    """Two rows of a queue share its name."""
    one, two = load(board, "cnv_1", queue="sup" + str(1)), load(board, "cnv_2", queue="sup" + str(1))
    assert one.queue is two.queue
    assert one.owner_user is two.owner_user
