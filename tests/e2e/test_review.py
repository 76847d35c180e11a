"""Sessions that go, and stores that stay away, in the middle of something: nothing stays half open or falls silent."""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.app import running
from hub.edge.connector import ConnectorSession
from hub.edge.parts import Parts
from hub.edge.session import BaseSession
from hub.edge.supervisor import SupervisorSession
from hub.edge.turn import Packet
from hub.protocol.platform import decode_event
from hub.settings import Settings
from hub.store.redis_store import store_unavailable
from tests.support.centre import Centre, confirm
from tests.support.processes import SECRET, HubProcess, StoreProcess
from tests.support.socket import Json, eventually
from tests.support.tokens import token

CNV = "cnv_1"


class Line:
    """The peer's side of a session that no server drives."""

    def __init__(self, scene: "Scene", kind: type[BaseSession]) -> None:
        self.objects: list[Json] = []
        self.unread = 0
        self.code: int | None = None
        self._ids = 0
        self.session: Any = kind(scene.parts, self, "")

    def write(self, packet: Packet) -> int:
        """The session sends."""
        self.objects += [json.loads(line) for frame in packet.frames for line in frame.split(b"\n")]
        return self.unread

    def backlog(self) -> int:
        """As the test says."""
        return self.unread

    def close(self, code: int, reason: str) -> None:
        """The session closes."""
        self.code = code

    def abort(self) -> None:
        """Nothing to drop."""

    def ask(self, cmd: str, **arguments: Any) -> int:
        """Send a command; its id."""
        self._ids += 1
        self.session.on_text(json.dumps({"id": self._ids, "cmd": cmd} | arguments))
        return self._ids

    def named(self, event: str) -> list[Json]:
        """Events of that name."""
        return [one for one in self.objects if one.get("event") == event]

    def answers(self, number: int) -> list[Json]:
        """Everything that answers that command."""
        return [one for one in self.objects if one.get("id") == number]

    async def answer(self, number: int) -> Json:
        """The answer to that command."""
        await until(lambda: self.answers(number))
        return self.answers(number)[0]


class Scene:
    """A node in this process, and an organization of its own on it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.node = parts.node
        self.org = "org-" + uuid.uuid4().hex[:12]
        self._events = 0

    def line(self, kind: type[BaseSession] = SupervisorSession) -> Line:
        """A socket that hasn't said hello."""
        return Line(self, kind)

    def token(self, sub: str = "ana", role: str = "supervisor", **changed: Any) -> str:
        """A token of the organization."""
        return token(sub, role, self.org, **changed)

    async def supervisor(self) -> Line:
        """One who is Available."""
        line = self.line()
        assert "ok" in await line.answer(line.ask("hello", token=self.token()))
        await line.answer(line.ask("status.set", status="available"))
        return line

    async def monitoring(self) -> Line:
        """One who monitors the conversation."""
        await self.tell("conversation.started", channel="web", queue="support", division="home", customer={"id": "c"})
        await self.tell("participant.connected", participant_id="p", purpose="agent", user_id="max", name="Max")
        line = await self.supervisor()
        assert "ok" in await line.answer(line.ask("monitor.start", conversation_id=CNV))
        await until(lambda: line.named("monitor.started"))
        return line

    async def tell(self, kind: str, **data: Any) -> None:
        """The platform's events."""
        self._events += 1
        event = {"id": f"e{self._events}", "type": kind, "conversation_id": CNV, "at": 1795377600000, "data": data}
        [result] = await self.parts.ingest.take(self.org, "platform", [decode_event(json.dumps(event).encode())])
        assert result.refused is None

    async def says(self, text: str) -> None:
        """The customer writes."""
        await self.tell("message.created", message_id=f"m{text}", text=text, purpose="customer")

    async def nodes_of(self, user: str) -> list[str]:
        """Where the store believes that somebody is."""
        raw = await self.parts.store.person(self.org, user)
        return list(json.loads(raw)["nodes"]) if raw else []


class Away:
    """A method of the store that is away for the first `times` calls, then as it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int = 1) -> None:
        self.real, self.left, self.calls = getattr(owner, name), times, 0
        monkeypatch.setattr(owner, name, self._call)

    async def _call(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise store_unavailable("none")
        return await self.real(*args, **options)


class Gate:
    """A method that waits, after its work, until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.real, self.reached, self.open = getattr(owner, name), asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(owner, name, self._call)

    async def _call(self, *args: Any, **options: Any) -> Any:
        done = await self.real(*args, **options)
        self.reached.set()
        await self.open.wait()
        return done


async def until(condition: Callable[[], Any]) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def scene(store: StoreProcess) -> AsyncIterator[Scene]:
    """A node in this process."""
    async with running(replace(Settings(), token_secret=SECRET.encode()), store.url) as parts:
        yield Scene(parts)


async def test_what_was_missed_comes_although_the_store_was_away_as_it_was_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A monitor that was silent gets what it missed, even where the first reading of it fails; it fell silent for ever."""
    line = await scene.monitoring()
    line.session.last_heard -= 60
    await scene.says("missed")
    watch = line.session.watches[CNV]
    await until(lambda: watch.behind)
    away = Away(monkeypatch, scene.parts.store, "entries")
    line.session.on_text('{"cmd":"pong"}')
    await until(lambda: line.named("message.created"))
    assert away.calls >= 2
    await scene.says("live")
    await until(lambda: len(line.named("message.created")) == 2)


async def test_a_monitor_starts_once_answered_though_its_snapshot_fails(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the `ok` and the snapshot the store goes: one answer, and `monitor.started` when it is back."""
    away = Away(monkeypatch, scene.parts.store, "snapshot")
    line = await scene.monitoring()
    assert away.calls == 2
    assert [set(one) for one in line.objects if "id" in one] == [{"id", "ok"}] * 3
    await scene.says("live")
    await until(lambda: line.named("message.created"))


async def test_a_monitor_that_ended_while_its_snapshot_was_read_is_not_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`monitor.started` never comes behind the `monitor.ended` of the same monitor."""
    line = await scene.monitoring()
    await line.answer(line.ask("monitor.stop", conversation_id=CNV))
    await until(lambda: line.named("monitor.ended") and not line.session.watches)
    gate = Gate(monkeypatch, scene.parts.store, "snapshot")
    line.ask("monitor.start", conversation_id=CNV)
    await gate.reached.wait()
    await scene.tell("conversation.ended", reason="done")
    await until(lambda: len(line.named("monitor.ended")) == 2)
    gate.open.set()
    await until(lambda: not line.session.watches and not scene.node.topics)
    assert len(line.named("monitor.started")) == 1


@pytest.mark.parametrize("code", [1000, 1006])
async def test_a_socket_that_goes_while_its_monitor_starts_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The node forgets it; where the session was ended on purpose the conversation is free at once."""
    line = await scene.monitoring()
    await line.answer(line.ask("monitor.stop", conversation_id=CNV))
    await until(lambda: not line.session.monitors)
    gate = Gate(monkeypatch, scene.parts.conversations, "run")
    line.ask("monitor.start", conversation_id=CNV)
    await gate.reached.wait()
    line.session.on_close(code)
    gate.open.set()
    await until(lambda: line.session._worker is None)
    assert not scene.node.monitoring
    assert not line.session.monitors
    loaded = await scene.parts.conversations.load(scene.org, CNV)
    assert (loaded.situation.monitor is None) == (code == 1000)


async def test_a_socket_that_goes_while_it_says_hello_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone while the board is loaded: it isn't counted, and its person isn't there."""
    gate = Gate(monkeypatch, scene.node, "org")
    line = scene.line()
    line.ask("hello", token=scene.token())
    await gate.reached.wait()
    line.session.on_close(1006)
    gate.open.set()
    await until(lambda: line.session._worker is None)
    assert not scene.node.sessions
    assert not scene.node.by_user
    assert scene.node.orgs[scene.org].sockets == 0
    assert await scene.nodes_of("ana") == []


async def test_a_person_who_leaves_while_arriving_has_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The departure came before the arrival was written, which then stayed: present for ever, without a socket."""
    gate = Gate(monkeypatch, scene.parts.store, "open_session")
    line = scene.line()
    line.ask("hello", token=scene.token())
    await gate.reached.wait()
    line.session.on_close(1006)
    await until(lambda: not scene.node.by_user)
    gate.open.set()
    await until(lambda: line.session._worker is None)
    assert await scene.nodes_of("ana") == []


async def test_presence_is_set_right_after_a_departure_that_was_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that goes while the store is away doesn't leave its person present for ever; nor does the reverse."""
    line, other = await scene.supervisor(), scene.line()
    away = Away(monkeypatch, scene.node.people, "depart")
    line.session.on_close(1006)
    await until(lambda: away.calls)
    assert await scene.nodes_of("ana") == [scene.node.node_id]
    await other.answer(other.ask("hello", token=scene.token("bo")))
    await eventually(lambda: _is(scene, "ana", []))
    await scene.node.people.depart(scene.org, "bo")  # as another node would, that holds this one for dead
    await eventually(lambda: _is(scene, "bo", [scene.node.node_id]))


async def _is(scene: Scene, user: str, nodes: list[str]) -> bool:
    return await scene.nodes_of(user) == nodes


async def test_a_hello_that_fails_leaves_no_open_socket(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a hello: one answer, then the close; commands were carried out for nobody otherwise."""

    async def broken(*_: Any) -> Any:
        raise RuntimeError("bug")

    monkeypatch.setattr(scene.node.people, "arrive", broken)
    line = scene.line()
    hello, command = line.ask("hello", token=scene.token()), line.ask("status.set", status="available")
    await until(lambda: line.code is not None)
    await until(lambda: not scene.node.by_user)
    assert (line.code, len(line.answers(hello)), line.answers(command)) == (4503, 1, [])
    assert scene.node.orgs[scene.org].sockets == 0


async def test_what_is_done_is_answered_although_the_answer_is_not_remembered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outcome: none` was said of what had happened."""
    line = await scene.supervisor()
    Away(monkeypatch, scene.parts.store, "remember_answer")
    assert "ok" in await line.answer(line.ask("status.set", status="busy", req="r"))


async def test_a_session_that_was_not_saved_is_saved_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view's `ok` isn't followed by an error when the session can't be saved, and a resume still finds the view."""
    line = await scene.supervisor()
    away = Away(monkeypatch, scene.parts.store, "write_session")
    number = line.ask("view.subscribe", view="interactions")
    await line.answer(number)
    await until(lambda: away.calls >= 2)
    await until(lambda: not line.session._unsaved)
    assert len(line.answers(number)) == 1
    hello = line.answers(1)[0]["ok"]
    line.session.on_close(1006)
    again = scene.line()
    resume = {"session": hello["session"], "secret": hello["secret"], "cursors": {}}
    assert (await again.answer(again.ask("hello", token=scene.token(), resume=resume)))["ok"]["resumed"]
    await until(lambda: again.named("view.snapshot"))


async def test_a_view_of_a_socket_that_has_gone_is_not_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribed in the moment of the close: no view stays behind that is brought up to date for nobody."""
    line = await scene.supervisor()
    gate = Gate(monkeypatch, scene.node, "org")
    line.ask("view.subscribe", view="interactions")
    await gate.reached.wait()
    line.session.on_close(1006)
    gate.open.set()
    await until(lambda: line.session._worker is None)
    assert not any(len(org.views) for org in scene.node.orgs.values())


async def test_a_resume_with_lesser_rights_ends_the_monitor(scene: Scene) -> None:
    """A token that lost the conversation's queue gets nothing of it back: `permission_lost`."""
    line = await scene.monitoring()
    hello = line.answers(1)[0]["ok"]
    line.session.on_close(1006)
    await scene.says("hush")
    again, resume = scene.line(), {"session": hello["session"], "secret": hello["secret"], "cursors": {}}
    bearer = scene.token(queues=["billing"])
    assert (await again.answer(again.ask("hello", token=bearer, resume=resume)))["ok"]["resumed"]
    await until(lambda: again.named("monitor.ended"))
    assert [one["data"]["reason"] for one in again.named("monitor.ended")] == ["permission_lost"]
    assert "hush" not in json.dumps(again.objects)


async def test_sessions_of_a_replaced_board_do_not_count_in_the_new_one(scene: Scene) -> None:
    """When a board is replaced, leaving sessions of the old one made the new one look empty, and it was given up."""
    old = await scene.supervisor()
    scene.node.orgs.pop(scene.org).stop()
    new = scene.line()
    await new.answer(new.ask("hello", token=scene.token("bo")))
    old.session.on_close(1006)
    await until(lambda: len(scene.node.by_user) == 1)
    assert scene.node.orgs[scene.org].sockets == 1


async def test_a_platform_that_goes_while_it_comes_takes_no_actions(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was kept as the line's last platform, and every action was sent to it, for ever."""
    gate = Gate(monkeypatch, scene.node, "enter")
    line = scene.line(ConnectorSession)
    line.ask("hello", token=scene.token("platform", "connector"))
    await gate.reached.wait()
    gate.open.set()
    await until(lambda: scene.parts.outbox._lines)
    line.session.on_close(1006)
    await until(lambda: line.session._worker is None)
    assert not scene.parts.outbox._lines
    again = scene.line(ConnectorSession)
    await again.answer(again.ask("hello", token=scene.token("platform", "connector")))
    await until(lambda: again.session._worker is None)
    assert [one.platforms for one in scene.parts.outbox._lines.values()] == [[again.session]]


async def test_locks_are_kept_no_longer_than_used(scene: Scene) -> None:
    """A session keeps nothing for each conversation that it ever looked at."""
    line = await scene.monitoring()
    await line.answer(line.ask("monitor.stop", conversation_id=CNV))
    await until(lambda: not line.session.watches)
    assert not line.session._locks


async def test_a_view_bigger_than_the_buffer_comes_whole(centre: Centre) -> None:
    """Regression: a snapshot over 1 MiB closed the socket of a reader who had kept up with 4502, again and again."""
    events = [
        centre.platform.event(
            "conversation.started", f"cnv_{n}", channel="web", queue="support", division="home",
            customer={"id": "cus_7"}, subject="x" * 900,
        )
        for n in range(1_500)
    ]  # fmt: skip
    for start in range(0, len(events), 500):
        await centre.platform.accepted(*events[start : start + 500])
    ana, rows, more = await centre.supervisor(), 0, True
    await ana.command("view.subscribe", view="interactions")
    while more:
        part = (await ana.expect("view.snapshot"))["data"]
        rows, more = rows + len(part["rows"]), part["more"]
    assert rows == len(events)
    await ana.command("status.set", status="busy")


async def test_everything_goes_on_after_three_seconds_without_the_store(tmp_path: Path) -> None:
    """Monitors, views, agents' screens and platforms get what comes after it; a hello during it is answered or closed."""
    store = StoreProcess(tmp_path / "store").start()
    hub = HubProcess(tmp_path / "hub", redis_url=store.url).start()
    centre = Centre(hub)
    try:
        story = await centre.story()
        ana, max_, platform = await centre.supervisor(), await centre.agent(), await centre.connector()
        await story.monitored_by(ana)
        await ana.command("view.subscribe", view="interactions")
        await ana.expect("view.snapshot")
        late = await centre.raw("/v1/supervisor")
        store.signal(signal.SIGSTOP)
        await late.send({"id": 1, "cmd": "hello", "token": centre.token("bo")})
        await asyncio.sleep(3.0)  # the fault itself
        store.signal(signal.SIGCONT)
        await eventually(lambda: _told(story), timeout=10)
        await story.fence(ana, max_)
        await story.join("eva")
        await ana.expect("view.changed")
        await eventually(lambda: _settled(late), timeout=10)
        bo = await centre.supervisor("bo")
        await bo.command("view.subscribe", view="agents")
        await confirm(ana, await story.prepared_by(ana))
        await platform.action("participant.disconnected", story.id)
        await max_.expect("takeover.notified", story.id)
    finally:
        await centre.close()
        hub.kill()
        store.kill()


async def _told(story: Any) -> bool:
    event = story.event("panel.updated", panel="probe", content={})
    answer = await story.centre.platform.http(json.dumps({"events": [event]}))
    return bool(answer.status_code == 200 and answer.json()["results"][0]["status"] == "accepted")


async def _settled(line: Any) -> bool:
    return line.close_code is not None or "ok" in line.answers.get(1, {})
