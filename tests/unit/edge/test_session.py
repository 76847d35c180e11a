"""What a session costs while it has nothing to do, and that it forgets nothing for it."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.quotas import Quotas
from hub.edge.session import SESSION_TOUCH_S, BaseSession, sparing
from hub.edge.socket import ENDPOINTS
from hub.edge.supervisor import SupervisorSession
from hub.edge.turn import Packet, Turn
from hub.metrics import Meter
from hub.protocol.encode import encode_event
from hub.settings import Settings

ANA = Person(
    "ana", "Ana Ortiz", "acme", "supervisor", frozenset({"view"}), frozenset({"*"}), frozenset({"home"}), token_id="t1"
)
START_MS = 1_795_377_600_000


class Wire:
    """A driver's socket that takes everything."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []
        self.lines: list[Any] = []
        self.closed: int | None = None
        self.aborted = False

    def write(self, packet: Packet) -> int:
        """Keep them, and the objects in them."""
        self.writes.append(list(packet.frames))
        self.lines += [orjson.loads(line) for frame in packet.frames for line in frame.split(b"\n")]
        return 0

    def backlog(self) -> int:
        """Nothing waits."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """Keep the code."""
        self.closed = code

    def abort(self) -> None:
        """Keep that it was."""
        self.aborted = True


class Scene:
    """One session that has said hello, on a node whose clock the test sets and whose store may be away."""

    def __init__(self, kind: type[BaseSession] = SupervisorSession, **changed: Any) -> None:
        self.now_ms = START_MS
        self.away = False
        self.saved: list[dict[str, bytes]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.meter = Meter()
        node = SimpleNamespace(
            sessions=set(),
            now_ms=lambda: self.now_ms,
            ping_frame=lambda: encode_event("ping", None, at=self.now_ms),
            spawn=self._spawn,
            orgs={},
            meter=self.meter,
        )
        store = SimpleNamespace(write_session=self._write_session)
        settings = Settings(**changed)
        turn = Turn(self.meter, settings.hub_frame_bytes_max)
        parts = SimpleNamespace(
            settings=settings, node=node, store=store, addresses=Counter(), turn=turn, quotas=Quotas(settings)
        )
        self.wire = Wire()
        self.session = kind(cast(Any, parts), self.wire, "127.0.0.1")
        self.session.person = sparing(ANA)
        self.session.session_id = "ses_1"
        self.session._greeted = self.session.ready = True
        self.begin = self.session.loop.time()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    async def _write_session(self, session: str, nonce: str, ttl_ms: int, **fields: bytes) -> None:
        if self.away:
            raise Refused("store_unavailable", "Away.", {"outcome": "none"})
        self.saved.append(fields)

    async def at(self, seconds: float) -> None:
        """The node's timer, so many seconds after the beginning; what it started is done afterwards."""
        self.session.on_timer(self.begin + seconds)
        await asyncio.gather(*self.tasks)
        await asyncio.sleep(0)

    async def say(self, *commands: dict[str, Any]) -> list[Any]:
        """Send commands in one frame; what was answered by the end of the turn."""
        before = len(self.wire.lines)
        self.session.on_text("\n".join(orjson.dumps(command).decode() for command in commands))
        await asyncio.gather(*self.tasks)
        await asyncio.sleep(0)
        return self.wire.lines[before:]

    def pings(self) -> int:
        """Pings so far."""
        return sum(line.get("event") == "ping" for line in self.wire.lines)


@pytest.mark.parametrize("kind", ENDPOINTS.values(), ids=list(ENDPOINTS))
async def test_a_session_has_slots_alone(kind: type[BaseSession]) -> None:
    """No session has a dict of its own: one that grows one costs more than the rest of it."""
    assert not hasattr(Scene(kind).session, "__dict__")


def test_equal_rights_are_shared() -> None:
    """People of equal names and rights share them, and stay equal to what their tokens say."""
    other = replace(ANA, permissions=frozenset(["vi" + "ew"]), queues=frozenset("*"), token_id="t2")
    one, two = sparing(ANA), sparing(other)
    assert (one, two) == (ANA, other)
    assert one.permissions is two.permissions
    assert one.queues is two.queues
    assert one.name is two.name


async def test_what_needs_no_store_starts_no_task() -> None:
    """Stopping a view that there isn't is answered at once; the next command, too."""
    scene = Scene()
    answers = await scene.say(
        {"id": 1, "cmd": "view.unsubscribe", "subscription": "sub_0"},
        {"id": 2, "cmd": "view.unsubscribe", "subscription": "sub_1"},
    )
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [
        (1, "schema_invalid"),
        (2, "schema_invalid"),
    ]
    assert answers[1]["error"]["details"] == {"path": "subscription", "got": "sub_1"}
    assert not scene.tasks


async def test_an_answer_at_once_passes_nobody() -> None:
    """Where a command is under way, what comes behind it waits, however little it needs."""
    scene = Scene()
    answers = await scene.say(
        {"id": 1, "cmd": "view.subscribe", "view": "interactions", "filter": {"text": "x"}, "limit": 5, "sort": None},
        {"id": 2, "cmd": "view.unsubscribe", "subscription": "sub_0"},
    )
    assert [answer["id"] for answer in answers] == [1, 2]
    assert scene.session._worker is None
    assert scene.session._queue is None


async def test_an_answer_at_once_needs_a_token_that_holds() -> None:
    """A token that is over is found at every command."""
    scene = Scene()
    scene.session.person = replace(ANA, expires_at=START_MS)
    answers = await scene.say({"id": 1, "cmd": "view.unsubscribe", "subscription": "sub_0"})
    assert [answer.get("event") for answer in answers] == ["closing"]
    assert scene.wire.closed == 4401


async def test_the_timer_pings_when_it_is_time() -> None:
    """Nothing is due for a heartbeat's length, then a ping; a client that stays silent is dropped."""
    scene = Scene(heartbeat_ms=5_000, silence_grace_ms=2_000)
    for step in range(9):
        await scene.at(step / 2)
    assert scene.pings() == 0
    await scene.at(4.5)
    assert scene.pings() == 1
    await scene.at(6.9)
    assert not scene.wire.aborted
    await scene.at(7.1)
    assert scene.wire.aborted


async def test_the_timer_looks_sooner_where_there_is_a_monitor() -> None:
    """A monitor that begins between two heartbeats is pinged in its own time."""
    scene = Scene(heartbeat_ms=25_000, monitor_ping_ms=2_000)
    await scene.at(0.0)
    scene.session.monitors["cnv_1"] = cast(Any, None)
    await scene.at(1.6)
    assert scene.pings() == 1


async def test_the_timer_keeps_the_session_in_the_store() -> None:
    """Each 20 s; where the store was away, at the very next timer, with what it hasn't got yet."""
    scene = Scene()
    await scene.at(SESSION_TOUCH_S - 1)
    assert scene.saved == []
    scene.away = True
    await scene.session.save(views=b"{}")
    await scene.at(SESSION_TOUCH_S - 0.5)
    scene.away = False
    await scene.at(SESSION_TOUCH_S)
    assert scene.saved == [{"views": b"{}"}]
    await scene.at(SESSION_TOUCH_S + 0.5)
    assert len(scene.saved) == 1
    scene.session.last_heard = scene.begin + SESSION_TOUCH_S  # or it would be dropped by then
    await scene.at(2 * SESSION_TOUCH_S + 1)
    assert len(scene.saved) == 2


async def test_the_timer_sees_a_clock_that_was_set() -> None:
    """A token ends by the wall clock, also where that jumps between two looks at everything else."""
    scene = Scene()
    scene.session.person = replace(ANA, expires_at=START_MS + 3_600_000)
    await scene.at(0.5)
    scene.now_ms += 3_600_000
    await scene.at(1.0)
    assert scene.wire.closed == 4401


async def test_a_timer_after_the_end() -> None:
    """A closed session asks for nothing any more."""
    scene = Scene()
    scene.session.on_close(1006)
    await scene.at(1000.0)
    assert (scene.wire.closed, scene.wire.aborted, scene.wire.lines) == (None, False, [])


async def test_frames_of_one_turn_leave_together() -> None:
    """However many there are; the next turn's come after them."""
    scene = Scene()
    for frame in (b"1", b"2", b"3"):
        scene.session.send(frame)
    await asyncio.sleep(0)
    scene.session.send(b"4")
    await asyncio.sleep(0)
    assert scene.wire.writes == [[b"1\n2\n3"], [b"4"]]
