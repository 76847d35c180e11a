"""Nothing about a monitor reaches agent, customer or platform: issue, line 5; protocol, section 4; promise I8."""

import json
import re

from tests.support.centre import Centre, Connector, Story
from tests.support.socket import Json, Socket

MADE_UP = re.compile(r"\b(ses|mon|tko|prt|msg|sub|act)_[0-9a-zA-Z]+")
TIMES = re.compile(r'"(at|since|started_at|awaiting_since|server_time|status_since|expires_at)":\d+')
CURSOR = re.compile(r'"cursor":"[^"]*-(\d+)"')
SECRET = re.compile(r'"secret":"[^"]*"')


def normal(line: str) -> str:
    """A line without what differs between any two runs: times, ids made by the hub, epochs and tags of cursors."""
    line = TIMES.sub(r'"\1":0', SECRET.sub('"secret":""', line))
    return MADE_UP.sub(r"\1_", CURSOR.sub(r'"cursor":"\1"', line))


def stream(line: Socket) -> tuple[list[str], list[str]]:
    """What a socket got, byte by byte: its answers, and its events."""
    normalised = [normal(text) for text in line.lines if '"event":"ping"' not in text]
    return [text for text in normalised if text.startswith('{"id"')], [
        t for t in normalised if not t.startswith('{"id"')
    ]


async def supervised(centre: Centre, story: Story, step: int) -> None:
    """What supervisors do at each step: start, join from a second tab, be held off, release, prepare, go away."""
    if step == 0 or step == 1:
        await story.monitored_by(await centre.supervisor("ana"))
    elif step == 2:
        bo = await centre.supervisor("bo")
        await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
        await bo.command("monitor.release", conversation_id=story.id, reason="shift change")
        await story.monitored_by(bo)
        await story.prepared_by(bo)
    elif step == 3:
        for line in centre.opened:
            if line.endpoint == "/v1/supervisor":
                await line.close(1001)


async def scenario(centre: Centre, *, monitored: bool) -> Json:
    """One conversation on the web, with everything that agent, customer and platform can see of it; what they saw."""
    story = await centre.story("cnv_1", panels={"customer": {"tier": "gold"}})
    agent, customer, platform = await centre.agent("max"), await centre.customer("cnv_1"), await centre.connector()
    await agent.expect("conversation.snapshot", "cnv_1")
    await customer.expect("conversation.snapshot", "cnv_1")
    cursors: list[int] = []
    tabs: list[Socket] = []
    for step in range(4):
        if monitored:
            await supervised(centre, story, step)
        cursors += await exchange(story, step, agent, customer, platform)
        tabs.append(await newcomer(centre))
    transcript = await centre.get("/v1/conversations/cnv_1/transcript", bearer=centre.token("max", "agent"))
    await story.end()
    for line in (agent, customer):
        await line.expect("conversation.ended", "cnv_1")
        await line.round_trip()
    assert transcript.status_code == 200
    return {
        "agent": stream(agent),
        "tabs": [stream(tab) for tab in tabs],
        "customer": stream(customer),
        "platform": stream(platform.socket),
        "cursors": cursors,
        "transcript": normal(transcript.text),
    }


async def newcomer(centre: Centre) -> Socket:
    """A second tab of the agent, opened in the middle, with its roster."""
    tab = await centre.agent("max")
    await tab.expect("conversation.snapshot", "cnv_1")
    await tab.command("view.subscribe", view="roster")
    await tab.expect("view.snapshot")
    await tab.close(1001)
    return tab


async def exchange(story: Story, step: int, agent: Socket, customer: Socket, platform: Connector) -> list[int]:
    """The customer asks, the agent types and answers from the desk, the platform sends and reports; cursors given."""
    asked = await story.tell("message.created", message_id=f"m_{step}", text=f"question {step}", purpose="customer")
    for line in (agent, customer):
        await line.expect("message.created", "cnv_1", text=f"question {step}")
    await agent.command("typing", conversation_id="cnv_1", on=True)
    await customer.expect("typing", "cnv_1")
    said: Json = {"conversation_id": "cnv_1", "text": f"answer {step}", "client_message_id": f"d_{step}"}
    await agent.command("message.send", **said)
    for line in (agent, customer):
        await line.expect("message.created", "cnv_1", text=f"answer {step}")
    await platform.carry_out("outbound.message", "cnv_1", text=f"answer {step}")
    await agent.expect("message.receipt", "cnv_1", status="sent")
    panel = await story.tell("panel.updated", panel="order", content={"step": step})
    await agent.expect("panel.updated", "cnv_1", content={"step": step})
    assert asked
    assert panel
    return [int(cursor.rpartition("-")[2]) for cursor in (asked, panel)]


async def test_streams_are_byte_equal_with_and_without_a_monitor(centre: Centre) -> None:
    """Agent's, customer's and connector's streams, the agent's transcript and the platform's cursors are equal."""
    plain = Centre(centre.hub)
    without = await scenario(plain, monitored=False)
    await plain.close()
    watched = await scenario(centre, monitored=True)
    for who in ("agent", "customer", "platform"):
        for part in (0, 1):
            assert watched[who][part] == without[who][part], who
    assert watched["tabs"] == without["tabs"]
    assert watched["cursors"] == without["cursors"]
    assert watched["transcript"] == without["transcript"]


async def test_no_word_of_monitoring_reaches_the_others(centre: Centre) -> None:
    """Neither the word, nor the supervisor's id or name, stands in anything they got."""
    got = json.dumps(await scenario(centre, monitored=True))
    for word in ("monitor", "ana", "Ana Ortiz", "bo", "Bo Lind", "supervisor"):
        assert f'"{word}"' not in got.replace('\\"', '"')
    assert "monitor" not in got


async def test_an_agents_snapshot_and_roster_have_no_monitor(centre: Centre) -> None:
    """An agent who connects while monitored gets a snapshot whose row has no `monitor`, and a roster without it."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    agent = await centre.agent("max")
    snapshot = (await agent.expect("conversation.snapshot", story.id))["data"]
    await agent.command("view.subscribe", view="roster")
    await agent.expect("view.snapshot")
    assert "monitor" not in json.dumps(snapshot)
    assert "monitor" not in "".join(agent.lines)


async def test_an_agents_rows_do_not_move_when_a_monitor_starts(centre: Centre) -> None:
    """Starting and ending a monitor sends an agent's roster nothing, not even an equal row."""
    ana, story, agent = await centre.supervisor(), await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await agent.command("view.subscribe", view="roster")
    await agent.expect("view.snapshot")
    await story.fence(agent)
    before = len(agent.lines)
    for _ in range(3):
        await story.monitored_by(ana)
        await ana.command("monitor.stop", conversation_id=story.id)
    await story.fence(agent)
    await agent.round_trip()
    assert [line for line in agent.lines[before:] if not line.startswith('{"id"')] == [
        line for line in agent.lines[before:] if '"panel.updated"' in line
    ]


async def test_a_refused_takeover_is_silent_too(centre: Centre) -> None:
    """Preparing, cancelling and a wrong confirmation reach neither the agent nor the platform."""
    ana, story, agent = await centre.supervisor(), await centre.story(), await centre.agent("max")
    platform = await centre.connector()
    await story.monitored_by(ana)
    prepared = await story.prepared_by(ana)
    await ana.refused(
        "confirmation_required", "takeover.confirm", takeover_id=prepared["takeover_id"], confirm_token="wrong"
    )
    await ana.command("takeover.cancel", takeover_id=prepared["takeover_id"])
    await story.fence(agent)
    await platform.socket.round_trip()
    assert agent.names(story.id) == ["conversation.snapshot", "panel.updated"]
    assert platform.actions(story.id) == []


async def test_reading_sends_no_read_mark(centre: Centre) -> None:
    """A monitor that reads the customer's messages causes no receipt, neither at the platform nor at the customer."""
    ana, story = await centre.supervisor(), await centre.story()
    customer, platform = await centre.customer(story.id), await centre.connector()
    await customer.expect("conversation.snapshot", story.id)
    await story.monitored_by(ana)
    await story.customer_says("Read me")
    await ana.expect("message.created", story.id)
    await customer.expect("message.created", story.id)
    await story.fence(ana)
    for line in (customer, platform.socket):
        await line.round_trip()
        assert line.of(story.id, "message.receipt") == []
    assert platform.actions(story.id) == []
