"""What viewers see of a board: filters, rights, windows, and the replay law."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.fanout.board import Board
from hub.fanout.views import NOTHING, TICKS_KEPT, Item, Order, Told, View, Views, Window, joined_parts

from .rows import T0, both, full, known, patch, person

NAMES = {"support": ("Support", "home"), "sales": ("Sales", "home"), "vip": ("Very important", "abroad")}
KEYS = {"interactions": "conversation_id", "queues": "queue", "agents": "user_id", "roster": "conversation_id"}


@dataclass
class Wanted:
    """A filter as the wire has it."""

    queues: list[str] | None = None
    channels: list[str] | None = None
    agent: str | None = None
    state: Any = None
    text: str | None = None


class Centre:
    """A board with its views, driven as a node drives them."""

    def __init__(self, *, configured: Sequence[str] = (), ended_max: int = 100) -> None:
        self.board = Board("acme", ended_max=ended_max)
        self.views = self.fresh_views(configured)
        self.configured = configured
        self.offset = 0

    def fresh_views(self, configured: Sequence[str]) -> Views:
        """Views that have seen nothing yet."""
        return Views(self.board, queues=NAMES.__getitem__, now_ms=lambda: T0, configured=configured)

    def behind(self) -> list[View]:
        """Views that the next tick has something for."""
        return [view for cls in self.views.dirty() for view in cls.members if view.seen not in (None, cls.tick)]

    def tick(self) -> dict[View, Told]:
        """As a node does it: what each view is told."""
        return {view: told for cls in self.views.dirty() for view, told in cls.news()}

    def put(self, conversation_id: str, **fields: Any) -> None:
        """A whole row arrives."""
        self._apply(full(conversation_id, **fields))

    def patch(self, conversation_id: str, awaiting: str | None, messages: int) -> None:
        """Counters arrive."""
        self._apply(patch(conversation_id, awaiting, T0 + self.offset, messages))

    def _apply(self, body: bytes) -> None:
        self.offset += 1
        change = self.board.apply(1, self.offset, body)
        if change is not None:
            self.views.mark(change)

    def meet(self, user_id: str, **fields: Any) -> None:
        """A person's record arrives."""
        self.views.mark_person(self.board.apply_person(known(user_id, **fields)))

    def open(
        self, view: str, who: Person | None = None, wanted: object = None, sort: str | None = None, limit: Any = None
    ) -> "Screen":
        """Someone opens a view and gets its snapshot."""
        return Screen(self.views.subscribe(who or person(), view, wanted, sort, limit), view)


class Screen:
    """What a client knows: the snapshot, changed by what came."""

    def __init__(self, view: View, kind: str) -> None:
        self.view, self.key = view, KEYS[kind]
        self.rows: dict[str, Any] = {}
        self.order: list[str] = []
        self.load()

    def load(self) -> None:
        """Take a snapshot."""
        rows = [orjson.loads(row) for row in self.view.snapshot()]
        self.order = [row[self.key] for row in rows]
        self.rows = {row[self.key]: row for row in rows}

    def tick(self) -> tuple[set[str], set[str]]:
        """This viewer alone is told; returns ids of rows that came and ids that were removed."""
        view, cls = self.view, self.view.cls
        if view.seen is None:
            return self.take(NOTHING)
        cls.refresh()
        seen, view.seen = view.seen, cls.tick
        return self.take(cls.since(seen))

    def take(self, told: Told) -> tuple[set[str], set[str]]:
        """Take what is told in."""
        rows, removed = told.rows, told.removed
        changed = {row[self.key]: row for row in map(orjson.loads, rows)}
        assert len(changed) == len(rows)
        assert changed.keys().isdisjoint(removed)
        self.rows.update(changed)
        for key in removed:
            self.rows.pop(key, None)
        return set(changed), set(removed)


@pytest.fixture
def centre() -> Centre:
    """An empty contact centre."""
    return Centre()


# --- interactions -------------------------------------------------------------------------------------------------


def test_interactions_snapshot_is_newest_first(centre: Centre) -> None:
    """Without a sort the conversation started last comes first; rows are the board's bytes."""
    for number in (2, 3, 1):
        centre.put(f"cnv_{number}", started_at=T0 + number)
    screen = centre.open("interactions")
    assert screen.order == ["cnv_3", "cnv_2", "cnv_1"]
    entry = centre.board.get("cnv_3")
    assert entry is not None
    assert screen.view.snapshot()[0] is entry.row


def test_change_comes_once(centre: Centre) -> None:
    """A changed row is in the next changes and not in those after."""
    centre.put("cnv_1")
    screen = centre.open("interactions")
    centre.put("cnv_1", subject="Other")
    centre.put("cnv_2")
    assert centre.behind() == [screen.view]
    assert screen.tick() == ({"cnv_1", "cnv_2"}, set())
    assert screen.rows["cnv_1"]["subject"] == "Other"
    assert screen.tick() == (set(), set())
    assert centre.behind() == []


def test_equal_projection_sends_nothing(centre: Centre) -> None:
    """A change of what the row doesn't show, or there and back within a tick, brings no row."""
    centre.put("cnv_1")
    screen = centre.open("interactions")
    centre.put("cnv_1", notices=["bob"])
    centre.put("cnv_1", subject="Other")
    centre.put("cnv_1")
    assert screen.tick() == (set(), set())


def test_patch_reaches_the_row(centre: Centre) -> None:
    """Who is awaited changes the row."""
    centre.put("cnv_1")
    screen = centre.open("interactions")
    centre.patch("cnv_1", "customer", 4)
    assert screen.tick() == ({"cnv_1"}, set())
    assert (screen.rows["cnv_1"]["awaiting"], screen.rows["cnv_1"]["messages"]) == ("customer", 4)


FITTING = {
    "queue": "support",
    "channel": "sms",
    "state": "active",
    "subject": "Lost PARCEL",
    "customer": "Zoë Straße",
    "people": [("bob", "agent"), ("bot", "bot")],
}


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        (Wanted(queues=["support", "vip"]), {"queue": "sales"}),
        (Wanted(channels=["sms", "open"]), {"channel": "web"}),
        (Wanted(agent="bob"), {"people": [("eve", "agent")]}),
        (Wanted(agent="bot"), {"people": [("bob", "agent")]}),
        (Wanted(state="active"), {"state": "queued"}),
        (Wanted(state=["active", "wrapup"]), {"state": "queued"}),
        (Wanted(text="lost parcel"), {"subject": "Found parcel"}),
        (Wanted(text="ZOË"), {"customer": "Zoe"}),
        (Wanted(text="strasse"), {"customer": "Street"}),
        (Wanted(text="bot"), {"people": [("eve", "agent")], "subject": "robe"}),
        (Wanted(), {"state": "ended", "ended_at": T0}),
    ],
)
def test_filter_shows_what_fits_and_removes_what_no_longer_does(
    centre: Centre, wanted: Wanted, other: dict[str, Any]
) -> None:
    """Each filter lets the fitting row through, keeps the other out, and follows a row in both directions."""
    centre.put("cnv_1", **FITTING)
    centre.put("cnv_2", **{**FITTING, **other})
    screen = centre.open("interactions", wanted=wanted)
    assert screen.order == ["cnv_1"]
    centre.put("cnv_1", **{**FITTING, **other})
    centre.put("cnv_2", **FITTING)
    assert screen.tick() == ({"cnv_2"}, {"cnv_1"})


def test_text_finds_what_json_escapes(centre: Centre) -> None:
    """A search for what the row's bytes hold escaped still finds it."""
    centre.put("cnv_1", subject='say "hi" \\ back')
    assert centre.open("interactions", wanted=Wanted(text='"HI" \\')).order == ["cnv_1"]
    assert centre.open("interactions", wanted=Wanted(text="back")).order == ["cnv_1"]
    assert centre.open("interactions", wanted=Wanted(text="subject")).order == []
    assert centre.open("interactions", wanted=Wanted(text="")).order == ["cnv_1"]
    assert centre.open("interactions", wanted=Wanted(text="CNV_1")).order == ["cnv_1"]


def test_ended_are_shown_where_asked_for(centre: Centre) -> None:
    """With state `ended` what ended appears, and goes when the board forgets it."""
    centre = Centre(ended_max=1)
    screen = centre.open("interactions", wanted=Wanted(state="ended"))
    centre.put("cnv_1", state="ended", people=[], ended_at=1)
    assert screen.tick() == ({"cnv_1"}, set())
    centre.put("cnv_2", state="ended", people=[], ended_at=2)
    assert screen.tick() == ({"cnv_2"}, {"cnv_1"})


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        (person(queues=["*"], divisions=["*"]), {"cnv_1", "cnv_2", "cnv_3"}),
        (person(queues=["support"]), {"cnv_1", "cnv_3"}),
        (person(divisions=["home"]), {"cnv_1", "cnv_2"}),
        (person(queues=["support"], divisions=["home"]), {"cnv_1"}),
        (person(queues=["vip"]), set()),
        (person(queues=[]), set()),
        (person(divisions=[]), set()),
        (person(role="admin", queues=["sales"]), {"cnv_2"}),
    ],
)
def test_rights_bound_what_is_seen(centre: Centre, who: Person, seen: set[str]) -> None:
    """Only conversations of one's queues and divisions are in snapshot, changes and counts."""
    centre.put("cnv_1", queue="support", division="home")
    screen = centre.open("interactions", who)
    centre.put("cnv_2", queue="sales", division="home")
    centre.put("cnv_3", queue="support", division="abroad")
    screen.tick()
    assert set(screen.rows) == seen
    assert set(centre.open("interactions", who).rows) == seen
    shown = {one for row in centre.open("queues", who).rows.values() for one in row["interacting_conversations"]}
    assert shown == seen


def test_a_filter_never_widens_rights(centre: Centre) -> None:
    """Asking for a queue that isn't one's own shows nothing of it."""
    centre.put("cnv_1", queue="sales")
    for view in ("interactions", "queues"):
        assert centre.open(view, person(queues=["support"]), Wanted(queues=["sales"])).rows == {}


def test_conversation_that_leaves_ones_queues_is_removed(centre: Centre) -> None:
    """A transfer out of what one may see removes the row, one into it brings it."""
    mine, theirs = person(queues=["support"]), person(queues=["sales"])
    centre.put("cnv_1", queue="support")
    one, other = centre.open("interactions", mine), centre.open("interactions", theirs)
    centre.put("cnv_1", queue="sales")
    assert (one.tick(), other.tick()) == ((set(), {"cnv_1"}), ({"cnv_1"}, set()))


def test_drop_and_clear_remove_rows(centre: Centre) -> None:
    """What the board forgets leaves the views without being marked."""
    centre.put("cnv_1")
    centre.put("cnv_2")
    screen = centre.open("interactions")
    centre.board.drop("cnv_1")
    assert screen.tick() == (set(), {"cnv_1"})
    centre.board.clear_partition(1)
    assert screen.tick() == (set(), {"cnv_2"})


def test_reset_that_brings_the_same_sends_nothing(centre: Centre) -> None:
    """A partition cleared and loaded again in one go changes only rows that differ."""
    centre.put("cnv_1")
    centre.put("cnv_2")
    screens = [centre.open(view) for view in ("interactions", "queues")]
    centre.board.clear_partition(1)
    for number in (1, 2):
        shown, hidden = both(f"cnv_{number}")
        centre.board.load(1, shown, hidden, 1, "agent", T0, 2 + number)
    assert screens[0].tick() == ({"cnv_2"}, set())
    assert screens[1].tick() == (set(), set())


def test_owner_away_follows_the_supervisor(centre: Centre) -> None:
    """The row of a supervisor's own conversation says that they are away, and back."""
    centre.put("cnv_1", people=[("ana", "supervisor")])
    centre.put("cnv_2", people=[("bob", "agent")])
    centre.meet("bob", present=False)
    screen = centre.open("interactions", sort="-owner_away")
    assert {row["owner_away"] for row in screen.rows.values()} == {False}
    centre.meet("ana", present=False, queues=None)
    assert screen.tick() == ({"cnv_1"}, set())
    assert screen.rows["cnv_1"]["owner_away"] is True
    assert centre.open("interactions", sort="-owner_away", limit=1).order == ["cnv_1"]
    centre.meet("ana", queues=None)
    assert screen.tick() == ({"cnv_1"}, set())
    assert screen.rows["cnv_1"]["owner_away"] is False


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("started_at", ["cnv_1", "cnv_2", "cnv_3"]),
        ("-started_at", ["cnv_3", "cnv_2", "cnv_1"]),
        ("awaiting_since", ["cnv_3", "cnv_1", "cnv_2"]),
        ("-awaiting_since", ["cnv_1", "cnv_3", "cnv_2"]),
        ("subject", ["cnv_2", "cnv_1", "cnv_3"]),
        ("-messages", ["cnv_2", "cnv_3", "cnv_1"]),
        ("conversation_id", ["cnv_1", "cnv_2", "cnv_3"]),
        ("owner_epoch", ["cnv_1", "cnv_2", "cnv_3"]),
    ],
)
def test_sort_orders_and_puts_the_valueless_last(centre: Centre, sort: str, order: list[str]) -> None:
    """Every direction is honoured; rows without the value come last in both."""
    centre.put("cnv_1", started_at=1, awaiting_since=9, subject="b", messages=1)
    centre.put("cnv_2", started_at=2, awaiting=None, awaiting_since=None, subject="a", messages=3)
    centre.put("cnv_3", started_at=3, awaiting_since=5, subject="c", messages=2)
    assert centre.open("interactions", sort=sort).order == order


@pytest.mark.parametrize("sort", ["awaiting_since", "-awaiting_since"])
def test_window_moves_with_its_rows(centre: Centre, sort: str) -> None:
    """A row that sorts past the limit is removed, and the next one takes its place."""
    sign = -1 if sort.startswith("-") else 1
    for number in range(1, 5):
        centre.put(f"cnv_{number}", awaiting_since=T0 + sign * number * 10)
    screen = centre.open("interactions", sort=sort, limit=2)
    assert screen.order == ["cnv_1", "cnv_2"]
    centre.put("cnv_4", awaiting_since=T0 + sign * 5)
    assert screen.tick() == ({"cnv_4"}, {"cnv_2"})
    centre.put("cnv_1", state="ended", people=[], ended_at=T0)
    assert screen.tick() == ({"cnv_2"}, {"cnv_1"})
    centre.put("cnv_3", awaiting_since=T0 + sign * 31)
    assert screen.tick() == (set(), set())
    screen.load()
    assert screen.order == ["cnv_4", "cnv_2"]


# --- queues -------------------------------------------------------------------------------------------------------


def test_queue_rows_count_what_runs(centre: Centre) -> None:
    """A queue's row counts waiting and interacting, names the active ones and the longest wait."""
    centre.put("cnv_1", state="queued", people=[], queued_since=50)
    centre.put("cnv_2", state="queued", people=[], queued_since=40, channel="sms", division="abroad")
    centre.put("cnv_3")
    centre.put("cnv_4", state="wrapup")
    centre.put("cnv_5", state="ended", people=[], ended_at=T0)
    screen = centre.open("queues")
    assert screen.rows["support"] == {
        "queue": "support",
        "name": "Support",
        "waiting": 2,
        "interacting": 1,
        "longest_wait_since": 40,
        "interacting_conversations": ["cnv_3"],
        "on_queue_agents": [],
    }
    only = centre.open("queues", wanted=Wanted(channels=["web"])).rows["support"]
    assert (only["waiting"], only["longest_wait_since"]) == (1, 50)
    home = centre.open("queues", person(divisions=["home"])).rows["support"]
    assert (home["waiting"], home["longest_wait_since"]) == (1, 50)
    centre.put("cnv_2", channel="sms", division="abroad")
    assert screen.tick() == ({"support"}, set())
    assert (screen.rows["support"]["longest_wait_since"], screen.rows["support"]["interacting"]) == (50, 2)


def test_queue_without_conversations_goes_unless_configured() -> None:
    """Configured queues keep their row when empty; others are removed with their last conversation."""
    centre = Centre(configured=["support", "vip"])
    screen = centre.open("queues", person(divisions=["home"]))
    assert set(screen.rows) == {"support"}  # vip is of another division
    centre.put("cnv_1", queue="support")
    centre.put("cnv_2", queue="unheard")
    assert screen.tick() == ({"support", "unheard"}, set())
    assert screen.rows["unheard"]["name"] == "unheard"
    centre.put("cnv_1", queue="support", state="ended", ended_at=T0)
    centre.put("cnv_2", queue="unheard", state="ended", ended_at=T0)
    assert screen.tick() == ({"support"}, {"unheard"})
    assert screen.rows["support"]["interacting_conversations"] == []


def test_on_queue_agents_are_those_of_the_queue(centre: Centre) -> None:
    """Agents with status on_queue stand at each queue of their token, with conversations that the viewer may see."""
    centre.put("cnv_1", people=[("bob", "agent")])
    centre.put("cnv_2", people=[("bob", "agent")], queue="sales")
    centre.put("cnv_3", people=[("bob", "agent")], queue="vip", division="abroad")
    centre.meet("bob", status="on_queue", queues=["support"])
    centre.meet("eve", status="on_queue", queues=["*"])
    centre.meet("dan", status="available", queues=["*"])
    centre.meet("sue", status="on_queue", queues=None)
    screen = centre.open("queues", person(queues=["support", "sales"]))
    assert screen.rows["support"]["on_queue_agents"] == [
        {"user_id": "bob", "name": "Bob", "status": "on_queue", "conversations": ["cnv_1", "cnv_2"]},
        {"user_id": "eve", "name": "Eve", "status": "on_queue", "conversations": []},
    ]
    assert [one["user_id"] for one in screen.rows["sales"]["on_queue_agents"]] == ["eve"]
    centre.meet("eve", status="busy", queues=["*"])
    assert screen.tick() == ({"support", "sales"}, set())
    assert screen.rows["sales"]["on_queue_agents"] == []
    centre.put("cnv_2", people=[], queue="sales", state="queued", queued_since=1)
    assert screen.tick() == ({"support", "sales"}, set())
    assert screen.rows["support"]["on_queue_agents"][0]["conversations"] == ["cnv_1"]


def test_agent_moves_with_the_queues_of_a_new_token(centre: Centre) -> None:
    """An agent who connects with other queues stands at those."""
    centre.put("cnv_1", people=[])
    centre.put("cnv_2", people=[], queue="sales")
    centre.meet("bob", status="on_queue", queues=["support"])
    screen = centre.open("queues")
    centre.meet("bob", status="on_queue", queues=["sales"])
    assert screen.tick() == ({"support", "sales"}, set())
    assert [len(screen.rows[queue]["on_queue_agents"]) for queue in ("support", "sales")] == [0, 1]
    centre.meet("bob", status="on_queue", queues=["*"])
    assert screen.tick() == ({"support"}, set())


def test_counters_dont_touch_queues_agents_and_rosters(centre: Centre) -> None:
    """A patch is nobody's business but that of `interactions`."""
    centre.put("cnv_1")
    centre.meet("bob")
    for view in ("queues", "agents", "roster"):
        centre.open(view, person("bob"))
    centre.patch("cnv_1", "customer", 4)
    assert centre.behind() == []


# --- agents -------------------------------------------------------------------------------------------------------


def test_agents_are_those_at_work(centre: Centre) -> None:
    """Agents who aren't offline, and offline ones with a conversation; nobody else."""
    centre.put("cnv_1", people=[("eve", "agent")])
    centre.meet("bob", status="busy")
    centre.meet("eve", present=False)
    centre.meet("dan", present=False)
    centre.meet("ana", queues=None)
    screen = centre.open("agents")
    assert screen.rows == {
        "bob": {"user_id": "bob", "name": "Bob", "status": "busy", "status_since": T0, "conversations": []},
        "eve": {"user_id": "eve", "name": "Eve", "status": "offline", "status_since": T0, "conversations": ["cnv_1"]},
    }
    centre.put("cnv_1", people=[("bob", "agent")])
    assert screen.tick() == ({"bob"}, {"eve"})
    centre.put("cnv_1", people=[("bob", "agent")], state="ended", ended_at=1)
    assert screen.tick() == ({"bob"}, set())
    assert screen.rows["bob"]["conversations"] == []


@pytest.mark.parametrize(
    ("queues", "divisions", "shown"),
    [
        (["support", "vip"], ["home"], True),
        (["*"], ["*"], True),
        (["vip"], ["home"], False),
        (["support"], ["abroad"], False),
        ([], ["*"], False),
    ],
)
def test_agents_share_queue_and_division(centre: Centre, queues: list[str], divisions: list[str], shown: bool) -> None:
    """An agent is seen by those with whom they share a queue and a division."""
    centre.meet("bob", queues=queues, divisions=divisions)
    assert ("bob" in centre.open("agents", person(queues=["support"], divisions=["home"])).rows) is shown
    assert ("bob" in centre.open("agents").rows) is bool(queues)


def test_agents_conversations_are_those_the_viewer_may_see(centre: Centre) -> None:
    """Conversations outside the viewer's rights aren't listed, and don't show an offline agent."""
    centre.put("cnv_1", people=[("bob", "agent")], queue="vip")
    centre.put("cnv_2", people=[("bob", "agent")])
    centre.meet("bob")
    mine = person(queues=["support"])
    assert centre.open("agents", mine).rows["bob"]["conversations"] == ["cnv_2"]
    assert centre.open("agents", mine, Wanted(queues=["support"])).rows["bob"]["conversations"] == ["cnv_2"]
    centre.meet("bob", present=False)
    screen = centre.open("agents", mine)
    assert set(screen.rows) == {"bob"}
    centre.put("cnv_2", people=[])
    assert screen.tick() == (set(), {"bob"})


def test_agents_filters(centre: Centre) -> None:
    """Agents are filtered by queue of their token, by id, by name."""
    centre.meet("bob", queues=["support"])
    centre.meet("eve", queues=["sales"])
    assert set(centre.open("agents", wanted=Wanted(queues=["sales"])).rows) == {"eve"}
    assert set(centre.open("agents", wanted=Wanted(agent="bob")).rows) == {"bob"}
    assert set(centre.open("agents", wanted=Wanted(text="EV")).rows) == {"eve"}


# --- roster -------------------------------------------------------------------------------------------------------


def test_roster_tells_monitored_from_own(centre: Centre) -> None:
    """A monitored conversation becomes one's own by the takeover and leaves at the end."""
    centre.put("cnv_1", monitor="ana")
    centre.put("cnv_2", notices=["ana"], wrapups=["ana"])
    screen = centre.open("roster")
    assert screen.rows == {"cnv_1": {"conversation_id": "cnv_1", "kind": "monitored", "since": T0 + 5}}
    centre.put("cnv_1", people=[("ana", "supervisor")])
    assert screen.tick() == ({"cnv_1"}, set())
    assert screen.rows["cnv_1"] == {"conversation_id": "cnv_1", "kind": "own", "since": T0 + 1}
    centre.put("cnv_1", people=[], state="ended", ended_at=1)
    assert screen.tick() == (set(), {"cnv_1"})
    centre.put("cnv_2", monitor="ana")
    assert screen.tick() == ({"cnv_2"}, set())
    centre.put("cnv_2")
    assert screen.tick() == (set(), {"cnv_2"})


def test_agents_roster_never_knows_of_monitors(centre: Centre) -> None:
    """An agent's roster holds what they are connected to; a monitor's coming and going brings nothing."""
    centre.put("cnv_1")
    agent = person("bob", role="agent", queues=["support"])
    screen = centre.open("roster", agent)
    assert screen.rows == {"cnv_1": {"conversation_id": "cnv_1", "kind": "own", "since": T0 + 1}}
    centre.put("cnv_1", monitor="ana")
    assert screen.tick() == (set(), set())
    centre.put("cnv_2", people=[], monitor="bob")
    assert screen.tick() == (set(), set())
    assert set(centre.open("roster", person("bob")).rows) == {"cnv_1", "cnv_2"}


def test_roster_filters_by_conversation(centre: Centre) -> None:
    """A roster's filter looks at the conversations behind it."""
    centre.put("cnv_1", people=[("ana", "supervisor")], queue="sales")
    centre.put("cnv_2", people=[("ana", "supervisor")], state="wrapup")
    assert set(centre.open("roster", wanted=Wanted(queues=["sales"])).rows) == {"cnv_1"}
    assert set(centre.open("roster", wanted=Wanted(state="wrapup")).rows) == {"cnv_2"}


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "wanted", "sort", "limit", "path"),
    [
        ("unheard", None, None, None, "view"),
        ("interactions", None, "agents", None, "sort"),
        ("interactions", None, "--queue", None, "sort"),
        ("interactions", None, 7, None, "sort"),
        ("queues", None, "started_at", None, "sort"),
        ("interactions", None, None, 0, "limit"),
        ("interactions", None, None, True, "limit"),
        ("interactions", None, None, 10**9, "limit"),
        ("interactions", Wanted(state="over"), None, None, "filter.state"),
        ("interactions", Wanted(channels=["fax"]), None, None, "filter.channels"),
        ("interactions", Wanted(queues=[1]), None, None, "filter.queues"),  # type: ignore[list-item]
        ("interactions", Wanted(queues=7), None, None, "filter.queues"),  # type: ignore[arg-type]
        ("interactions", Wanted(agent=7), None, None, "filter.agent"),  # type: ignore[arg-type]
        ("interactions", Wanted(text="x" * 10_000), None, None, "filter.text"),
        ("queues", Wanted(agent="bob"), None, None, "filter.agent"),
        ("agents", Wanted(state="active"), None, None, "filter.state"),
    ],
)
def test_nonsense_is_refused_with_its_path(
    centre: Centre, view: str, wanted: object, sort: Any, limit: Any, path: str
) -> None:
    """What makes no sense is `schema_invalid`, with where it stands; nothing is opened."""
    with pytest.raises(Refused) as refused:
        centre.views.subscribe(person(), view, wanted, sort, limit)
    assert (refused.value.code, refused.value.details) == ("schema_invalid", {"path": path})
    assert centre.behind() == []


@pytest.mark.parametrize("role", ["agent", "customer", "connector"])
@pytest.mark.parametrize("view", ["interactions", "queues", "agents"])
def test_views_are_for_supervisors(centre: Centre, role: str, view: str) -> None:
    """Nobody else gets a view that could show a monitor."""
    with pytest.raises(Refused) as refused:
        centre.views.subscribe(person(role=role), view, None, None, None)
    assert refused.value.code == "not_permitted"


def test_board_of_another_organization_is_closed(centre: Centre) -> None:
    """A person of another organization is a mistake of ours, and gets nothing."""
    with pytest.raises(ValueError, match="organization"):
        centre.views.subscribe(person(org="other"), "interactions", None, None, None)


# --- classes ------------------------------------------------------------------------------------------------------


def test_alike_viewers_share_one_answer(centre: Centre) -> None:
    """Two people with the same rights and wishes get the same list and the same bytes."""
    one = centre.open("interactions", person("ana", queues=["*"]))
    two = centre.open("interactions", person("eve", queues=["*", "support"]))
    other = centre.open("interactions", person("dan", queues=["support"]))
    assert one.view.cls is two.view.cls
    assert one.view.cls is not other.view.cls
    centre.put("cnv_1")
    centre.put("cnv_2")
    news = centre.tick()
    told = news[one.view]
    assert news[two.view] is told
    assert news[other.view] is not told
    [frame] = told.frames("sub_1")
    assert told.frames("sub_1")[0] is frame
    rows = [orjson.loads(row) for row in told.rows]
    changed = {"subscription": "sub_1", "rows": rows, "removed": []}
    assert orjson.loads(frame) == {"event": "view.changed", "data": changed}
    assert len(rows) == 2
    assert orjson.loads(told.frames("sub_2")[0])["data"] == changed | {"subscription": "sub_2"}


def test_late_member_neither_loses_nor_costs_the_others(centre: Centre) -> None:
    """A snapshot between two ticks holds what the others are told by the next one."""
    centre.put("cnv_1")
    one = centre.open("interactions")
    centre.put("cnv_1", subject="Other")
    centre.put("cnv_2")
    late = centre.open("interactions")
    assert late.rows["cnv_1"]["subject"] == "Other"
    assert set(late.rows) == {"cnv_1", "cnv_2"}
    assert centre.behind() == [one.view]
    centre.put("cnv_1")
    assert set(centre.behind()) == {one.view, late.view}
    one.tick()
    assert late.tick() == ({"cnv_1"}, set())
    assert one.rows == late.rows


def test_member_that_is_behind_gets_all_it_lacks(centre: Centre) -> None:
    """However many ticks others took meanwhile, the slow one's next changes bring it up to date."""
    for number in range(3):
        centre.put(f"cnv_{number}")
    fast, slow = centre.open("interactions"), centre.open("interactions")
    for number in range(3 * TICKS_KEPT):
        centre.put(f"cnv_{number % 3}", subject=str(number))
        centre.put(f"cnv_new{number}")
        fast.tick()
    centre.put("cnv_0", state="ended", ended_at=1)
    fast.tick()
    assert len(fast.view.cls._ticks) <= TICKS_KEPT
    slow.tick()
    assert slow.rows == fast.rows
    assert "cnv_0" not in slow.rows
    centre.put("cnv_1")
    fast.tick()
    slow.tick()
    for number in range(TICKS_KEPT):
        centre.put("cnv_1", subject=f"again {number}")
        fast.tick()
        slow.tick()
    assert len(fast.view.cls._ticks) <= TICKS_KEPT


def test_view_without_a_snapshot_has_no_changes(centre: Centre) -> None:
    """Changes count from a snapshot: before it, and while paused, there are none."""
    view = centre.views.subscribe(person(), "interactions", None, None, None)
    centre.put("cnv_1")
    assert (centre.tick(), centre.behind()) == ({}, [])
    assert len(view.snapshot()) == 1
    view.pause()
    centre.put("cnv_2")
    assert (centre.tick(), centre.behind()) == ({}, [])
    assert len(view.snapshot()) == 2


@pytest.mark.parametrize("view", ["interactions", "queues", "agents", "roster"])
@pytest.mark.parametrize("queues", [["*"], ["support"]])
def test_unsubscribed_leaves_nothing(centre: Centre, view: str, queues: list[str]) -> None:
    """The last member's leaving forgets the class; leaving twice is harmless."""
    who = person(queues=queues)
    one, two = centre.open(view, who), centre.open(view, who)
    centre.put("cnv_1", people=[("ana", "supervisor")])
    centre.views.unsubscribe(one.view)
    centre.views.unsubscribe(one.view)
    assert centre.behind() == ([two.view] if view != "agents" else centre.behind())
    centre.views.unsubscribe(two.view)
    assert centre.behind() == []
    empty = centre.fresh_views([])
    for name in ("_classes", "_people", "_rosters"):
        assert getattr(centre.views, name) == getattr(empty, name)
    for by_queue in (centre.views._conversations, centre.views._queues):
        assert (by_queue._of, by_queue._every) == ({}, {})
    centre.put("cnv_1")
    assert centre.behind() == []
    assert centre.open(view, who).view.cls is not one.view.cls


def test_mark_all_finds_what_nobody_marked(centre: Centre) -> None:
    """After `mark_all` everything is compared, whatever was missed."""
    screens = [centre.open(view, person("bob")) for view in KEYS]
    centre.board.apply(1, 1, full("cnv_1"))
    centre.board.apply_person(known("bob", status="on_queue"))
    assert centre.behind() == []
    centre.views.mark_all()
    for screen, key in zip(screens, ("cnv_1", "support", "bob", "cnv_1"), strict=True):
        assert screen.tick() == ({key}, set())
    centre.board.observers.clear()
    centre.board.drop("cnv_1")
    centre.views.mark_all()
    assert [screen.tick()[1] for screen in screens] == [{"cnv_1"}, {"support"}, set(), {"cnv_1"}]


def test_parts_fit_frames() -> None:
    """Rows are joined in parts of at most 500, and fewer where they are big."""
    assert joined_parts([]) == []
    assert [part.count(b",") + 1 for part in joined_parts([b"{}"] * 1_001)] == [500, 500, 1]
    big = b"x" * 400_000
    assert [len(part) for part in joined_parts([big, big, b"{}"])] == [400_000, 400_003]
    assert joined_parts([b"y" * 2_000_000]) == [b"y" * 2_000_000]


def test_snapshot_parts_are_the_snapshot(centre: Centre) -> None:
    """A snapshot's parts hold its rows in its order, encoded once for all members."""
    for number in range(501):
        centre.put(f"cnv_{number}", started_at=number)
    screen = centre.open("interactions")
    parts = screen.view.cls.snapshot_parts()
    assert [row["conversation_id"] for part in parts for row in orjson.loads(b"[%b]" % part)] == screen.order
    assert screen.view.cls.snapshot_parts() is parts


# --- order --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=300))
def test_order_is_a_sorted_set(steps: list[tuple[bool, int]]) -> None:
    """Chunked or not, what was added and not removed comes in order from both ends."""
    order, model = Order([], chunk=4), set[Item]()
    for add, number in steps:
        item: Item = (False, number, str(number))
        if add and item not in model:
            order.add(item)
            model.add(item)
        elif not add and item in model:
            order.remove(item)
            model.remove(item)
        assert len(order) == len(model)
    assert list(order) == sorted(model)
    assert list(reversed(order)) == sorted(model, reverse=True)
    if model:
        assert (order.first(), order.last()) == (min(model), max(model))


@pytest.mark.parametrize("count", [1, 8, 9, 10, 17, 40])
def test_order_grows_at_its_end(count: int) -> None:
    """
    Items that come in ascending order are found and removed again, whatever the chunks are split into.

    A split once kept the old largest item of the last chunk as its last: the new one wasn't `last()`, and removing it
    was an error. A view sorted by time gets its rows in this order.
    """
    items: list[Item] = [(False, number, str(number)) for number in range(count)]
    order = Order([], chunk=4)
    for item in items:
        order.add(item)
        assert order.last() == item
    for item in reversed(items):
        assert order.last() == item
        order.remove(item)
    assert len(order) == 0


@pytest.mark.parametrize("descending", [False, True])
def test_window_of_rows_that_come_and_go_in_order(descending: bool) -> None:
    """Thousands of rows that come by time, newest last, and leave newest first are in the window while they are there."""
    window = Window(10_000, descending, [])
    for number in range(2_100):
        assert window.put(f"cnv_{number:04}", number) == []
    assert list(window) == sorted((f"cnv_{number:04}" for number in range(2_100)), reverse=descending)
    for number in reversed(range(2_100)):
        assert window.remove(f"cnv_{number:04}") == []
    assert list(window) == []


@given(
    st.integers(1, 5),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.integers(0, 4), st.booleans()), max_size=60),
)
def test_window_is_the_head_of_the_sorted_rows(
    limit: int, descending: bool, steps: list[tuple[str, int | None, bool]]
) -> None:
    """After any history the window is the first `limit` of all, and every other that crossed its edge was named."""
    window, model = Window(limit, descending, []), dict[str, int | None]()
    for key, value, keep in steps:
        before = set(window)
        if keep:
            crossed = window.put(key, value)
            model[key] = value
        else:
            crossed = window.remove(key)
            model.pop(key, None)
        keys = sorted(model, reverse=descending)
        keys.sort(key=lambda one: (model[one] is not None, model[one] or 0) if descending else model[one] or 0)
        valued = sorted((one for one in keys if model[one] is not None), key=lambda one: (model[one], one))
        valueless = sorted(one for one in keys if model[one] is None)
        expected = (valued[::-1] + valueless[::-1]) if descending else valued + valueless
        assert list(window) == expected[:limit]
        assert (before ^ set(window)) - {key} <= set(crossed)
        assert all((one in window) == (one in expected[:limit]) for one in "abcdefgh")


# --- the replay law -----------------------------------------------------------------------------------------------

USERS = ["ana", "bob", "eve"]
QUEUES = ["support", "sales", "vip", "other"]
conversation_ids = st.sampled_from([f"cnv_{number}" for number in range(4)])
parts = st.lists(
    st.tuples(st.sampled_from(USERS), st.sampled_from(["agent", "bot", "supervisor"])),
    max_size=2,
    unique_by=lambda part: part[0],
)
rows = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "division": st.sampled_from(["home", "abroad"]),
        "channel": st.sampled_from(["web", "sms"]),
        "state": st.sampled_from(["queued", "active", "active", "wrapup", "ended"]),
        "subject": st.sampled_from(["Refund", "refused", "Ünï"]),
        "people": parts,
        "monitor": st.none() | st.sampled_from(USERS),
        "notices": st.lists(st.sampled_from(USERS), max_size=1),
        "queued_since": st.none() | st.integers(1, 9),
        "ended_at": st.integers(1, 9),
        "started_at": st.integers(1, 9),
        "messages": st.integers(0, 9),
    }
)
records = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["available", "on_queue", "on_queue", "offline"]),
        "present": st.booleans(),
        "queues": st.none() | st.lists(st.sampled_from([*QUEUES, "*"]), max_size=2),
        "divisions": st.lists(st.sampled_from(["home", "abroad", "*"]), min_size=1, max_size=2),
    }
)
wishes = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.builds(Wanted, queues=st.lists(st.sampled_from(QUEUES), max_size=2)),
    st.builds(Wanted, state=st.sampled_from(["active", ["ended", "queued"]])),
    st.builds(Wanted, agent=st.sampled_from(USERS)),
    st.builds(Wanted, text=st.sampled_from(["REF", "ü", "bob"])),
    st.builds(Wanted, channels=st.just(["web"])),
)
viewers = st.builds(
    person,
    st.sampled_from(USERS),
    queues=st.sampled_from([["*"], ["support"], ["support", "other"]]),
    divisions=st.sampled_from([["*"], ["home"]]),
)
sorts = {
    "interactions": ["-started_at", "messages", "subject", "-awaiting_since", "owner_away"],
    "queues": ["queue", "-waiting", "longest_wait_since"],
    "agents": ["name", "-status"],
    "roster": ["since", "-kind"],
}
subscriptions = st.sampled_from(list(KEYS)).flatmap(
    lambda view: st.tuples(
        st.just(view), viewers, wishes, st.sampled_from(sorts[view]), st.sampled_from([None, None, 1, 2])
    )
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), conversation_ids, rows),
        st.tuples(st.just("put"), conversation_ids, rows),
        st.tuples(st.just("patch"), conversation_ids, st.integers(0, 12)),
        st.tuples(st.just("meet"), st.sampled_from(USERS), records),
        st.tuples(st.just("drop"), conversation_ids, st.none()),
        st.tuples(st.just("reload"), conversation_ids, rows),
        st.tuples(st.just("open"), st.none(), subscriptions),
        st.tuples(st.just("tick"), st.integers(0, 9), st.none()),
        st.tuples(st.just("tick all"), st.none(), st.none()),
        st.tuples(st.just("tick all"), st.none(), st.none()),
        st.tuples(st.just("again"), st.integers(0, 9), st.booleans()),
    ),
    min_size=15,
    max_size=50,
)


def alike(rows: dict[str, Any]) -> dict[str, Any]:
    """Rows without the order of what is a set."""
    return {
        key: {
            name: sorted(map(orjson.dumps, _sorted_inside(value))) if isinstance(value, list) else value
            for name, value in row.items()
        }
        for key, row in rows.items()
    }


def _sorted_inside(values: list[Any]) -> list[Any]:
    inner = "conversations"
    return [{**one, inner: sorted(one[inner])} if isinstance(one, dict) and inner in one else one for one in values]


def play(centre: Centre, step: tuple[str, Any, Any], screens: list[tuple[Screen, Any]]) -> None:
    """Do one step of a history."""
    kind, one, two = step
    if kind == "put":
        centre.put(one, **two)
    elif kind == "patch":
        centre.patch(one, "customer", two)
    elif kind == "meet":
        centre.meet(one, **two)
    elif kind == "drop":
        centre.board.drop(one)
    elif kind == "reload":
        centre.board.clear_partition(1)
        shown, hidden = both(one, **two)
        centre.board.load(1, shown, hidden, centre.offset, "agent", T0, 3)
    elif kind == "open":
        try:
            screens.append((centre.open(*two), two))
        except Refused:
            assert two[2] is not None
    elif kind == "tick all":
        _told(centre, screens)
    elif screens:
        screen = screens[one % len(screens)][0]
        if kind == "tick":
            screen.tick()
        else:
            if two:
                screen.view.pause()
            screen.load()


def _told(centre: Centre, screens: Sequence[tuple[Screen, Any]]) -> None:
    news = centre.tick()
    for screen, _ in screens:
        if screen.view in news:
            screen.take(news[screen.view])


@settings(max_examples=200, deadline=None)
@given(st.lists(subscriptions, min_size=4, max_size=8), steps)
def test_replay_law(opened: list[Any], history: list[tuple[str, Any, Any]]) -> None:
    """A snapshot at any time and all changes since equal a snapshot made afresh, for every view and history."""
    centre = Centre(configured=["support", "vip"], ended_max=2)
    screens: list[tuple[Screen, Any]] = []
    for step in [("open", None, one) for one in opened] + history:
        play(centre, step, screens)
    _told(centre, screens)
    fresh = centre.fresh_views(centre.configured)
    for screen, (view, who, wanted, sort, limit) in screens:
        truth = Screen(fresh.subscribe(who, view, wanted, sort, limit), view)
        assert alike(screen.rows) == alike(truth.rows)
        screen.load()
        assert screen.order == truth.order
        assert screen.tick() == (set(), set())
        assert_by_definition(centre, view, who, wanted, truth, limit)
    assert centre.behind() == []


def assert_by_definition(
    centre: Centre, view: str, who: Person, wanted: Wanted | None, truth: Screen, limit: int | None
) -> None:
    """Unfiltered and unlimited views are what the protocol says of them, told as plainly as possible."""
    if wanted is not None or limit is not None:
        return
    live = [entry for entry in centre.board if entry.state != "ended"]
    seen = [entry for entry in live if who.sees(entry.queue, entry.division)]
    if view == "interactions":
        assert set(truth.rows) == {entry.conversation_id for entry in seen}
    elif view == "queues":
        configured = {queue for queue in centre.configured if who.sees(queue, NAMES[queue][1])}
        assert set(truth.rows) == {entry.queue for entry in seen} | configured
        for queue, row in truth.rows.items():
            mine = [entry for entry in seen if entry.queue == queue]
            assert row["waiting"] == sum(entry.state == "queued" for entry in mine)
            active = {entry.conversation_id for entry in mine if entry.state == "active"}
            assert set(row["interacting_conversations"]) == active
            assert row["interacting"] == len(active)
    elif view == "agents":
        for row in truth.rows.values():
            mine_too = {
                entry.conversation_id for entry in seen if any(one.user_id == row["user_id"] for one in entry.x.people)
            }
            assert set(row["conversations"]) == mine_too
    else:
        mine_or_monitored = {
            entry.conversation_id
            for entry in centre.board
            if any(one.user_id == who.user_id for one in entry.x.people)
            or (entry.x.monitor is not None and entry.x.monitor.user_id == who.user_id)
        }
        assert set(truth.rows) == mine_or_monitored


def test_one_class_that_fails_holds_up_no_other(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong with one class of views is said once a change; the others' viewers are told all the same."""
    broken, other = centre.open("interactions"), centre.open("interactions", limit=5)

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(broken.view.cls, "refresh", fail)
    centre.put("cnv_1")
    told = centre.tick()
    assert set(told) == {other.view}
    assert other.take(told[other.view]) == ({"cnv_1"}, set())
    assert [record.message for record in caplog.records] == ["a class of views failed"]
    assert centre.tick() == {}
    assert len(caplog.records) == 1
