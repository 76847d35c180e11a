"""Limits, slow readers, draining: protocol, section 1."""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import HubError, Json, eventually


async def test_too_many_commands_are_told_when_to_come_back(centre: Centre) -> None:
    """The burst of 400 is answered; beyond it `rate_limited` with `retry_ms`; later it works again."""
    ana = await centre.supervisor()
    numbers = range(1000, 1700)
    command = {"cmd": "monitor.stop", "conversation_id": "nowhere"}
    await ana.send("\n".join(json.dumps({"id": number} | command) for number in numbers))
    codes = [(await ana.answer(number, 20))["error"] for number in numbers]
    assert {error["code"] for error in codes[:390]} == {"unknown_conversation"}
    limited = [error for error in codes if error["code"] == "rate_limited"]
    assert limited
    assert all(error["retryable"] and error["details"]["retry_ms"] > 0 for error in limited)
    await ana.refused("schema_invalid", "monitor.stop", conversation_id="{}")


async def test_pongs_are_not_commands(centre: Centre) -> None:
    """The rate of commands doesn't make a socket fail that answers pings."""
    ana = await centre.supervisor()
    await ana.send("\n".join(['{"cmd":"pong"}'] * 300))
    await ana.round_trip()


async def test_20_sockets_a_user(centre: Centre) -> None:
    """The 21st socket of a user is closed with 4429; when another one goes, there is room."""
    lines = [await centre.supervisor(status=None) for _ in range(20)]
    extra = await centre.raw("/v1/supervisor")
    await extra.send({"id": 1, "cmd": "hello", "token": centre.token("ana")})
    assert await extra.closed() == 4429
    assert extra.answers[1]["error"]["code"] == "rate_limited"
    await centre.supervisor("bo", status=None)
    await lines[0].close(1000)
    await centre.supervisor(status=None)


async def test_200_subscriptions_a_session(centre: Centre) -> None:
    """The 201st subscription is refused, the socket stays, and after an unsubscribe there is room."""
    ana = await centre.supervisor()
    held = [(await ana.command("view.subscribe", view="roster"))["subscription"] for _ in range(200)]
    number = await ana.post("view.subscribe", view="roster")
    assert "error" in await ana.answer(number)
    await ana.command("view.unsubscribe", subscription=held[0])
    await ana.command("view.subscribe", view="roster")


async def test_100_monitors_a_session(centre: Centre) -> None:
    """The 101st monitor is refused and not held; after a stop there is room."""
    ana, bo = await centre.supervisor(), await centre.supervisor("bo")
    stories = [await centre.story() for _ in range(101)]
    for story in stories[:100]:
        await ana.command("monitor.start", conversation_id=story.id)
    number = await ana.post("monitor.start", conversation_id=stories[100].id)
    assert "error" in await ana.answer(number)
    await stories[100].monitored_by(bo)
    await bo.command("monitor.stop", conversation_id=stories[100].id)
    await ana.command("monitor.stop", conversation_id=stories[0].id)
    await stories[100].monitored_by(ana)


async def test_a_slow_reader_is_let_go_and_resumes(centre: Centre) -> None:
    """A monitor that doesn't read is closed with 4502 or dropped; nobody else waits; resumed it has lost nothing."""
    slow = await centre.raw("/v1/supervisor", receive_buffer=8192)
    await slow.hello(centre.token("ana"))
    await slow.command("status.set", status="available")
    quick, story = await centre.agent("max"), await centre.story()
    await story.monitored_by(slow)
    slow.line.transport.pause_reading()
    count = 0
    while count < 1000:
        batch = [
            story.event("message.created", message_id=f"m_{count + n}", text="x" * 15_000, purpose="customer")
            for n in range(50)
        ]
        await centre.platform.accepted(*batch)
        count += 50
    await quick.expect("message.created", story.id, message_id=f"m_{count - 1}")
    slow.line.transport.resume_reading()
    assert await slow.closed(timeout=10) in {4502, 1006}
    back = await centre.connect("/v1/supervisor", centre.token("ana"), resume=slow.resumption())
    assert back.session["resumed"] is True
    await back.expect("message.created", story.id, message_id=f"m_{count - 1}", timeout=20)
    seen = [event["data"]["message_id"] for line in (slow, back) for event in line.of(story.id, "message.created")]
    assert seen == [f"m_{n}" for n in range(count)]


async def test_a_long_catch_up_stays_below_the_frame_limit(centre: Centre) -> None:
    """Much that was missed comes in frames of at most 1 MiB, in order."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await ana.drop()
    for start in range(0, 200, 50):
        await centre.platform.accepted(
            *(
                story.event("message.created", message_id=f"m_{start + n}", text="x" * 15_000, purpose="customer")
                for n in range(50)
            )
        )
    back = await centre.connect("/v1/supervisor", centre.token("ana"), resume=ana.resumption())
    await back.expect("message.created", story.id, message_id="m_199")
    assert max(len(frame.encode()) for frame in back.frames) <= 1 << 20


# Hubs of one's own


async def test_sigterm_drains(store: StoreProcess, tmp_path: Path) -> None:
    """SIGTERM: `/readyz` goes red, each socket gets `closing` 4501 with a delay of its own, the hub exits with 0."""
    east, west = (HubProcess(tmp_path / name, redis_url=store.url) for name in ("east", "west"))
    for hub in (east, west):
        await asyncio.to_thread(hub.start)
    centre = Centre(east, west)
    try:
        story = await centre.story()
        lines = [await centre.supervisor(f"u{n}", node=0) for n in range(5)]
        await story.monitored_by(lines[0])
        east.signal(signal.SIGTERM)
        codes = await asyncio.gather(*(line.closed(timeout=15) for line in lines))
        assert set(codes) == {4501}
        delays = [line.events[-1]["data"]["retry_ms"] for line in lines]
        assert all(isinstance(delay, int) and delay >= 0 for delay in delays)
        back = await centre.connect("/v1/supervisor", centre.token("u0"), node=1, resume=lines[0].resumption())
        assert back.session["resumed"] is True
        await centre.platform.accepted(story.event("panel.updated", panel="p", content={}), node=1)
        await back.expect("panel.updated", story.id)
        assert await asyncio.to_thread(east.stop) == 0
    finally:
        await centre.close()
        east.kill()
        west.kill()


async def test_what_was_committed_survives_a_restart(tmp_path: Path) -> None:
    """After SIGTERM the embedded store has everything: conversation, messages, takeover, status."""
    hub = HubProcess(tmp_path / "hub")
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    try:
        ana, story = await centre.supervisor(), await centre.story()
        await story.customer_says("Hello")
        ok = await story.taken_over_by(ana)
        assert await asyncio.to_thread(hub.stop) == 0
        await asyncio.to_thread(hub.start)
        row = await centre.row(story.id)
        assert (row["owner"], row["owner_epoch"]) == (ok["participant_id"], ok["owner_epoch"])
        assert [entry["kind"] for entry in await centre.entries(story.id)] == ["message", "takeover"]
        back = await centre.supervisor(status=None)
        assert back.session["status"] == "available"
        await (await centre.agent("max")).expect("takeover.notified", story.id)
    finally:
        await centre.close()
        hub.kill()


async def test_an_address_has_its_limit(tmp_path: Path) -> None:
    """Sockets of one address are bounded; the limit is a setting, 1,000 by default; beyond it 4429."""
    hub = HubProcess(tmp_path / "hub", config=CONFIG + "sockets_per_address = 3\n")
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    try:
        for number in range(3):
            await centre.supervisor(f"u{number}", status=None)
        extra = await centre.raw("/v1/supervisor")
        with contextlib.suppress(ConnectionClosed):
            await extra.send({"id": 1, "cmd": "hello", "token": centre.token("u9")})
        assert await extra.closed() == 4429
    finally:
        await centre.close()
        hub.kill()


@pytest.mark.parametrize("frozen_s", [6])
async def test_a_store_that_is_away_is_said(tmp_path: Path, frozen_s: int) -> None:
    """While the store is frozen a command is `store_unavailable`, retryable, with its outcome; then all goes on."""
    store = StoreProcess(tmp_path / "store").start()
    hub = HubProcess(tmp_path / "hub", redis_url=store.url)
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    try:
        ana, story = await centre.supervisor(), await centre.story()
        store.signal(signal.SIGSTOP)
        start: Json = {"conversation_id": story.id, "req": "r_1"}
        with pytest.raises(HubError) as away:
            await ana.command("monitor.start", patience=15, **start)
        assert (away.value.code, away.value.retryable) == ("store_unavailable", True)
        assert away.value.details["outcome"] in {"none", "unknown"}
        assert (await centre.http.get(hub.url + "/readyz")).status_code == 503
        assert (await centre.http.get(hub.url + "/healthz")).status_code == 200
        store.signal(signal.SIGCONT)
        await recovered(centre)
        if ana.close_code is not None:
            ana = await centre.connect("/v1/supervisor", centre.token("ana"), resume=ana.resumption())
        await ana.command("monitor.start", **start)
        assert len((await centre.detail(story.id))["monitors"]) == 1
    finally:
        store.signal(signal.SIGCONT)
        await centre.close()
        hub.kill()
        store.kill()


async def recovered(centre: Centre) -> None:
    """Wait until `/readyz` is green again."""

    async def ready() -> bool:
        return (await centre.http.get(centre.hub.url + "/readyz")).status_code == 200

    await eventually(ready, timeout=15, wanted="ready")
