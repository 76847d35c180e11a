"""The connection core against a scripted hub: hello, resume, close codes, idempotence, heartbeats, slow consumers."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from clients import ConnectionEnded, HubError, connect_agent, connect_supervisor
from tests.unit.clients.scripted import FAST, Line, ScriptedHub, until


def said(n: int, conversation: str = "cnv_1") -> dict[str, Any]:
    """A message at offset `n`."""
    data = {"message_id": f"msg_{n}", "text": str(n)}
    return {"event": "message.created", "conversation_id": conversation, "cursor": f"e.t-{n}", "at": n, "data": data}


async def test_hello_carries_the_token_and_its_answer_is_kept(hub: ScriptedHub) -> None:
    """The first object is hello at the role's endpoint; the session's facts are readable afterwards."""

    async def script(line: Line) -> None:
        hello = await line.hello(status="away", permissions=["monitor"])
        assert hello == {"id": 1, "cmd": "hello", "token": "T"}
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        assert client.hello is not None
        assert (client.user_id, client.hello.status, client.hello.permissions) == ("ana", "away", ["monitor"])
        assert client.connected
    assert hub.paths == ["/v1/supervisor"]
    assert hub.lines[0].socket.close_code == 1000


async def test_answers_find_their_commands_in_any_order(hub: ScriptedHub) -> None:
    """Answers are matched by id; changing commands carry a `req`, others don't; refusals become HubError."""

    async def script(line: Line) -> None:
        await line.hello()
        view, monitor = await line.expect("view.subscribe"), await line.expect("monitor.start")
        assert "req" in monitor
        assert "req" not in view
        details = {"holder": {"user_id": "bo"}}
        error = {"code": "monitor_held", "message": "Bo is.", "retryable": False, "details": details}
        await line.send({"id": monitor["id"], "error": error}, {"id": view["id"], "ok": {"subscription": "sub_1"}})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        view = asyncio.create_task(client.view_subscribe("interactions", filter={"queues": ["q"]}))
        await asyncio.sleep(0)
        with pytest.raises(HubError) as refused:
            await client.monitor_start("cnv_1")
        assert await view == "sub_1"
    assert refused.value.code == "monitor_held"
    assert refused.value.details["holder"]["user_id"] == "bo"
    assert not refused.value.retryable


async def test_ping_is_answered_with_pong(hub: ScriptedHub) -> None:
    """A heartbeat is answered at once, without id, and isn't shown to the application."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.send({"event": "ping", "at": 1})
        assert await line.receive() == {"cmd": "pong"}
        await line.send({"event": "monitor.ended", "conversation_id": "cnv_1", "data": {}})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        assert [(await client.recv()).event for _ in range(2)] == ["session.started", "monitor.ended"]


async def test_resume_names_session_secret_and_cursors(hub: ScriptedHub) -> None:
    """After a broken line the next hello resumes from the last position seen, by message and by snapshot."""

    async def first(line: Line) -> None:
        await line.hello()
        snapshot = {"monitor_id": "mon_1", "participant_id": "p", "snapshot": {"cursor": "e.t-7"}}
        await line.send({"event": "monitor.started", "conversation_id": "cnv_2", "data": snapshot}, said(1), said(2))
        line.cut()

    async def second(line: Line) -> None:
        hello = await line.hello(resumed=True)
        cursors = {"cnv_1": "e.t-2", "cnv_2": "e.t-7"}
        assert hello["resume"] == {"session": "ses_1", "secret": "of-ses_1", "cursors": cursors}
        await line.send(said(2), said(3))
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        seen = [await client.recv() for _ in range(7)]
        assert [event.data["text"] for event in seen if event.event == "message.created"] == ["1", "2", "3"]
        started = [event.data for event in seen if event.event == "session.started"]
        assert [each["resumed"] for each in started] == [False, True]
        assert (client.gaps, client.reconnects) == (0, 1)


async def test_an_ended_monitor_has_no_position(hub: ScriptedHub) -> None:
    """What is over isn't named at the next resume."""

    async def first(line: Line) -> None:
        await line.hello()
        ended = {"event": "monitor.ended", "conversation_id": "cnv_1", "data": {"reason": "stopped"}}
        await line.send(said(1), ended, said(1, "cnv_2"))
        line.cut()

    async def second(line: Line) -> None:
        assert (await line.hello(resumed=True))["resume"]["cursors"] == {"cnv_2": "e.t-1"}
        await line.send(said(2, "cnv_2"))
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        while (await client.recv()).cursor != "e.t-2":
            pass


async def test_an_unanswered_command_is_sent_again_with_its_req(hub: ScriptedHub) -> None:
    """A line that breaks between command and answer leaves the outcome unknown: the same `req` is asked again."""
    reqs: list[str] = []

    async def first(line: Line) -> None:
        await line.hello()
        reqs.append((await line.expect("takeover.confirm"))["req"])
        line.cut()

    async def second(line: Line) -> None:
        await line.hello(resumed=True)
        again = await line.expect("takeover.confirm")
        reqs.append(again["req"])
        await line.send({"id": again["id"], "ok": {"participant_id": "prt_1", "owner_epoch": 2}})
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        owned = await client.takeover_confirm("tko_1", "c")
    assert (owned.participant_id, owned.owner_epoch) == ("prt_1", 2)
    assert reqs[0] == reqs[1]


async def test_an_unknown_outcome_is_asked_again_with_the_same_req(hub: ScriptedHub) -> None:
    """`store_unavailable` with outcome `unknown` is repeated by its `req`; with `none` it is the caller's."""

    async def script(line: Line) -> None:
        await line.hello()
        first = await line.expect("monitor.stop")
        error = {"code": "store_unavailable", "message": "", "retryable": True, "details": {"outcome": "unknown"}}
        await line.send({"id": first["id"], "error": error})
        second = await line.expect("monitor.stop")
        assert second["req"] == first["req"]
        assert second["id"] != first["id"]
        await line.send({"id": second["id"], "ok": {}})
        third = await line.expect("monitor.stop")
        await line.send({"id": third["id"], "error": {**error, "details": {"outcome": "none"}}})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        await client.monitor_stop("cnv_1")
        with pytest.raises(HubError, match="store_unavailable"):
            await client.monitor_stop("cnv_1")


async def test_stream_reset_is_an_event_and_moves_the_position(hub: ScriptedHub) -> None:
    """What the hub can't give back is shown to the application, and later resumes go on from its snapshot."""

    async def first(line: Line) -> None:
        await line.hello()
        reset = {"reason": "history_gone", "snapshot": {"cursor": "f.u-3", "messages": []}}
        await line.send(said(900), {"event": "stream.reset", "conversation_id": "cnv_1", "data": reset}, said(4))
        line.cut()

    async def second(line: Line) -> None:
        assert (await line.hello(resumed=True))["resume"]["cursors"] == {"cnv_1": "e.t-4"}
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        kinds = [(await client.recv()).event for _ in range(6)]
    assert kinds[1:4] == ["message.created", "stream.reset", "message.created"]


async def test_a_new_session_says_what_it_can_not_continue(hub: ScriptedHub) -> None:
    """`resumed: false` forgets the cursors, names them as lost, and subscribes to the views again under the old id."""

    async def first(line: Line) -> None:
        await line.hello()
        view = await line.expect("view.subscribe")
        await line.send({"id": view["id"], "ok": {"subscription": "sub_1"}}, said(5))
        line.cut()

    async def second(line: Line) -> None:
        await line.hello("ses_2")
        view = await line.expect("view.subscribe")
        assert view["view"] == "queues"
        snapshot = {"event": "view.snapshot", "data": {"subscription": "sub_9", "rows": [], "more": False}}
        await line.send({"id": view["id"], "ok": {"subscription": "sub_9"}}, snapshot)
        gone = await line.expect("view.unsubscribe")
        assert gone["subscription"] == "sub_9"
        await line.send({"id": gone["id"], "ok": {}})
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        assert await client.view_subscribe("queues") == "sub_1"
        events = {}
        while "view.snapshot" not in events:
            event = await client.recv()
            events[event.event] = event
        assert events["session.started"].data["lost"] == ["cnv_1"]
        assert events["view.snapshot"].data["subscription"] == "sub_1"
        await client.view_unsubscribe("sub_1")


@pytest.mark.parametrize("code", [4400, 4403, 4409, 4413, 1009])
async def test_codes_that_say_stop_end_the_iteration(hub: ScriptedHub, code: int) -> None:
    """The iteration raises with the code and the reason; waiting commands fail with the same; nobody reconnects."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.expect("status.set")
        await line.close(code)

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        waiting = asyncio.create_task(client.status_set("away"))
        with pytest.raises(ConnectionEnded) as ended:
            async for _ in client:
                pass
        assert ended.value.code == code
        with pytest.raises(ConnectionEnded):
            await waiting
        with pytest.raises(ConnectionEnded):
            await client.status_set("away")
    assert len(hub.lines) == 1


async def test_a_refused_hello_fails_the_entry(hub: ScriptedHub) -> None:
    """`async with` raises what the hub said where the role isn't allowed."""

    async def script(line: Line) -> None:
        hello = await line.expect("hello")
        await line.send({"id": hello["id"], "error": {"code": "not_permitted", "message": "No.", "retryable": False}})
        await line.close(4403)

    with pytest.raises(ConnectionEnded) as ended:
        async with connect_agent(hub.play(script), token="T", options=FAST):
            pass
    assert ended.value.error is not None
    assert ended.value.error.code == "not_permitted"


async def test_4401_asks_the_callback_for_a_new_token(hub: ScriptedHub) -> None:
    """An expired token is replaced by the callback's next one and the session goes on."""
    tokens = iter(["old", "new"])

    async def fetch() -> str:
        return next(tokens)

    async def first(line: Line) -> None:
        assert (await line.hello())["token"] == "old"
        await line.close(4401)

    async def second(line: Line) -> None:
        hello = await line.hello(resumed=True)
        assert (hello["token"], hello["resume"]["session"]) == ("new", "ses_1")
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token=fetch, options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)


async def test_4401_with_a_fixed_token_stops(hub: ScriptedHub) -> None:
    """Without a callback there is no better token, so the client doesn't knock again."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.close(4401)

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        with pytest.raises(ConnectionEnded, match="4401"):
            async for _ in client:
                pass


@pytest.mark.parametrize("code", [4408, 4429, 4501, 4502, 4503, 1001, 1011])
async def test_other_codes_resume(hub: ScriptedHub, code: int) -> None:
    """Draining, slow reading, an absent store and ordinary closes lead to a resume of the same session."""

    async def first(line: Line) -> None:
        await line.hello()
        await line.close(code, retry_ms=0)

    async def second(line: Line) -> None:
        assert (await line.hello(resumed=True))["resume"]["session"] == "ses_1"
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)


async def test_commands_wait_for_the_line_and_keep_their_order(hub: ScriptedHub) -> None:
    """What is called while the line is down is sent after the resume, in the order of the calls."""
    cut = asyncio.Event()

    async def first(line: Line) -> None:
        await line.hello()
        await line.expect("typing")
        line.cut()
        cut.set()

    async def second(line: Line) -> None:
        await line.hello(resumed=True)
        for n in range(4):
            taken = await line.expect("typing")
            assert taken["conversation_id"] == f"cnv_{n}"
            await line.send({"id": taken["id"], "ok": {}})
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        one = asyncio.create_task(client.typing("cnv_0", True))
        await cut.wait()
        await asyncio.gather(one, *(client.typing(f"cnv_{n}", True) for n in range(1, 4)))


async def test_a_slow_consumer_gets_the_rest_by_a_resume(hub: ScriptedHub) -> None:
    """Past the bound events are forgotten, commands still work, and after catching up a resume brings the rest."""

    async def first(line: Line) -> None:
        await line.hello()
        await line.send(*(said(n) for n in range(1, 21)))
        taken = await line.expect("status.set")
        await line.send({"id": taken["id"], "ok": {}})
        await line.stay()

    async def second(line: Line) -> None:
        hello = await line.hello(resumed=True)
        after = int(hello["resume"]["cursors"]["cnv_1"].rpartition("-")[2])
        await line.send(*(said(n) for n in range(after + 1, 21)))
        await line.stay()

    options = msgspec.structs.replace(FAST, events_max=10)
    async with connect_supervisor(hub.play(first, second, *[second] * 5), token="T", options=options) as client:
        await client.status_set("away")
        texts: list[str] = []
        while len(texts) < 20:
            event = await client.recv()
            texts += [event.data["text"]] if event.cursor else []
        assert texts == [str(n) for n in range(1, 21)]
        assert client.gaps == 0


async def test_silence_means_dead(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line on which the hub says nothing for its heartbeat and the slack is given up and resumed."""
    monkeypatch.setattr("clients.session.SILENCE_SLACK_S", 0.0)

    async def first(line: Line) -> None:
        await line.hello(heartbeat_ms=20)
        await line.stay()

    async def second(line: Line) -> None:
        await line.hello(resumed=True)
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)


async def test_silence_while_monitoring_means_dead_sooner(hub: ScriptedHub) -> None:
    """Where the hub said how often it pings a monitor, two and a half pings that don't come end the line; else not."""

    async def first(line: Line) -> None:
        await line.hello(monitor_ping_ms=20)
        await line.send(
            {"event": "monitor.started", "conversation_id": "cnv_1", "at": 1, "data": {"monitor_id": "mon_1"}}
        )
        await line.stay()

    async def second(line: Line) -> None:
        await line.hello(resumed=True, monitor_ping_ms=20)
        await line.send({"event": "monitor.ended", "conversation_id": "cnv_1", "at": 2, "data": {"reason": "stopped"}})
        await line.send({"event": "ping", "at": 3})
        await line.expect("pong")
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)
        while (await client.recv()).event != "monitor.ended":
            pass
        loop = asyncio.get_running_loop()
        assert client._silent_at() - loop.time() > 30, "without a monitor it is a heartbeat and its slack again"


async def test_a_pong_that_comes_too_late(hub: ScriptedHub) -> None:
    """
    Whoever finds the line closed when they answer a ping reads first why it is, and comes back when they were asked to.

    The pong's failure ended the reading: `closing` stayed unread behind the ping, and the client came at once.
    """
    asked = []

    async def first(line: Line) -> None:
        await line.hello()
        await line.send({"event": "ping", "at": 1})
        asked.append(time.monotonic())
        await line.close(4501, retry_ms=200)

    async def second(line: Line) -> None:
        asked.append(time.monotonic())
        await line.hello(resumed=True)
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)
    assert asked[1] - asked[0] >= 0.2


async def test_nonsense_from_the_hub_breaks_the_line(hub: ScriptedHub) -> None:
    """A frame that isn't the protocol's can't be trusted further: the client resumes on a new line."""

    async def first(line: Line) -> None:
        await line.hello()
        await line.socket.send("{")
        await line.stay()

    async def second(line: Line) -> None:
        await line.hello(resumed=True)
        await line.stay()

    async with connect_supervisor(hub.play(first, second), token="T", options=FAST) as client:
        await until(lambda: client.reconnects == 1 and client.connected)


async def test_close_with_1001_keeps_the_session(hub: ScriptedHub) -> None:
    """Whoever leaves with 1001 can resume elsewhere; the iteration just ends."""

    async def script(line: Line) -> None:
        await line.hello()
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        await client.close(1001)
        assert [event.event async for event in client] == ["session.started"]
    assert hub.lines[0].socket.close_code == 1001


async def test_no_hub_is_a_timeout(hub: ScriptedHub) -> None:
    """Entering gives up after `open_timeout_s` where nobody answers."""
    url, options = hub.url, msgspec.structs.replace(FAST, open_timeout_s=0.05)
    assert hub.server is not None
    hub.server.close()
    await hub.server.wait_closed()
    with pytest.raises(TimeoutError):
        async with connect_supervisor(url, token="T", options=options):
            pass


async def test_a_reveal_gives_the_message(hub: ScriptedHub) -> None:
    """`message_reveal` sends conversation, message and reason, no `req`, and returns the message of the answer."""

    async def script(line: Line) -> None:
        await line.hello()
        taken = await line.expect("message.reveal")
        assert taken == {
            "id": taken["id"],
            "cmd": "message.reveal",
            "conversation_id": "cnv_1",
            "message_id": "m_1",
            "reason": "asked to",
        }
        await line.send({"id": taken["id"], "ok": {"message": {"message_id": "m_1", "text": "clear"}}})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        assert await client.message_reveal("cnv_1", "m_1", "asked to") == {"message_id": "m_1", "text": "clear"}


@pytest.mark.parametrize(
    ("call", "cmd", "arguments"),
    [
        (lambda c: c.monitor_release("cnv_1", "stuck"), "monitor.release", {"reason": "stuck"}),
        (lambda c: c.takeover_cancel("tko_1"), "takeover.cancel", {"takeover_id": "tko_1"}),
        (lambda c: c.takeover_acknowledge("tko_1"), "takeover.acknowledge", {"takeover_id": "tko_1"}),
        (lambda c: c.conversation_end("cnv_1"), "conversation.end", {"conversation_id": "cnv_1"}),
        (lambda c: c.wrapup_submit("cnv_1", "resolved"), "wrapup.submit", {"code": "resolved"}),
    ],
)
async def test_methods_are_the_protocols_commands(
    hub: ScriptedHub, call: Callable[[Any], Any], cmd: str, arguments: dict[str, Any]
) -> None:
    """Each method sends its command with exactly the protocol's arguments, and none for what is None."""

    async def script(line: Line) -> None:
        await line.hello()
        taken = await line.expect(cmd)
        extra = {"id", "cmd", "req", "conversation_id"}
        assert {key: value for key, value in taken.items() if key not in extra} == {
            key: value for key, value in arguments.items() if key not in extra
        }
        await line.send({"id": taken["id"], "ok": {}})
        await line.stay()

    async with connect_supervisor(hub.play(script), token="T", options=FAST) as client:
        await call(client)
