"""Who answers and who watches: two frames for an entry, however many look."""

from types import SimpleNamespace
from typing import Any, cast

import orjson

from hub.domain.masking import Masker
from hub.fanout.board import Board
from hub.fanout.views import Views
from hub.fanout.watch import Topic, Watch
from hub.service.masking import Maskers
from hub.settings import MaskingSettings, Settings
from tests.unit.domain.words import person as somebody

from .rows import T0, both, full, patch, person

MANY = 200
CARD = "4111 1111 1111 1111"
MASKERS = Maskers(Settings(masking=MaskingSettings(card=True)))


class Screen:
    """A session that keeps the very objects it is given."""

    closed = quiet = False

    def __init__(self, role: str = "supervisor") -> None:
        self.person = somebody("ana", role=role)
        self.given: list[bytes] = []

    def send(self, frame: bytes) -> None:
        """Keep it."""
        self.given.append(frame)

    def lease_ends(self, conversation_id: str) -> float:
        """For ever."""
        return float("inf")


async def test_an_entry_is_encoded_twice_for_any_number() -> None:
    """200 sessions of a monitor and 200 that answer get two objects in all; without a find it is one."""
    topic = Topic(cast(Any, SimpleNamespace(maskers=MASKERS)), "acme", "cnv_1", b"t", b"c")
    topic.epoch, topic.masker = "e", Masker(card=True)
    watchers, answering = [Screen() for _ in range(MANY)], [Screen("agent") for _ in range(MANY)]
    for screen in (*watchers, *answering):
        watch = Watch(cast(Any, screen), topic)
        topic.watches[watch] = None
        watch.monitor_id, watch.participant_id = ("mon_1", None) if screen in watchers else (None, "prt_1")
        watch.release()
    for offset, text in ((1, CARD), (2, "hello")):
        data = {"message_id": "m", "text": text}
        body = orjson.dumps({"event": "message.created", "conversation_id": "cnv_1", "at": 1, "data": data})
        topic.entry(offset, b"%d" % offset if offset > 1 else b"1", b"asc,1,mon_1", body)
        objects = [{id(screen.given[-1]) for screen in screens} for screens in (watchers, answering)]
        assert [len(one) for one in objects] == [1, 1]
        assert (objects[0] == objects[1]) == (text == "hello")
    assert CARD.encode() not in b"".join(watchers[0].given)
    assert CARD.encode() in answering[0].given[0]


def test_a_row_is_masked_once_for_any_number() -> None:
    """200 viewers are told the very same masked row; what comes of patches is masked, too."""
    asked: list[bytes] = []

    def mask(row: bytes) -> bytes:
        asked.append(row)
        return MASKERS.row(row)

    board = Board("acme", mask=mask)
    views = Views(board, queues=lambda queue: (queue, "home"), now_ms=lambda: T0)
    opened = [views.subscribe(person(), "interactions", None, None, None) for _ in range(MANY)]
    for view in opened:
        view.snapshot()

    def apply(offset: int, body: bytes) -> set[int]:
        change = board.apply(1, offset, body)
        assert change is not None
        views.mark(change)
        told = [told for cls in views.dirty() for _, told in cls.news()]
        assert len(told) == MANY
        assert all(CARD.encode() not in row for one in told for row in one.rows)
        return {id(one.rows[0]) for one in told}

    assert len(apply(1, full("cnv_1", subject=CARD))) == 1
    assert len(asked) == 1
    assert len(apply(2, patch("cnv_1", "customer", T0, 9))) == 1
    assert len(asked) == 1
    entry = board.get("cnv_1")
    assert entry is not None
    assert (CARD.encode() in entry.row, CARD.encode() in entry.shown) == (True, False)
    assert orjson.loads(entry.shown)["messages"] == 9


def test_a_row_without_a_find_is_kept_once() -> None:
    """What is shown is the same object as the row, also after a patch, a snapshot and with the owner away."""
    board = Board("acme", mask=MASKERS.row)
    board.apply(1, 1, full("cnv_1"))
    board.apply(1, 2, patch("cnv_1", "customer", T0, 9))
    row, extra = both("cnv_2")
    board.load(1, row, extra, 3, "agent", T0, 3)
    for name in ("cnv_1", "cnv_2"):
        entry = board.get(name)
        assert entry is not None
        assert entry.shown is entry.row
        assert b'"owner_away":true' in entry.away_row()
