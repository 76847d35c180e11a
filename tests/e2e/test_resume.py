"""Hello, loss and resume: issue, line 14; protocol, section 1."""

import asyncio
import time
from typing import Any

import pytest

from tests.support.centre import Centre, confirm
from tests.support.socket import Json, Socket, offset
from tests.support.view import View


async def test_hello_answers_with_the_session(centre: Centre) -> None:
    """The answer has every field of section 1, for a new session `resumed` false."""
    now = time.time() * 1000
    line = await centre.connect("/v1/supervisor", centre.token("ana", permissions=["monitor", "takeover"]))
    ok = line.session
    assert set(ok) >= {"session", "secret", "resumed", "user", "status", "permissions", "heartbeat_ms", "server_time"}
    assert ok["session"].startswith("ses_")
    assert ok["secret"]
    assert ok["resumed"] is False
    assert ok["user"] == {"id": "ana", "name": "Ana Ortiz"}
    assert (ok["status"], sorted(ok["permissions"]), ok["heartbeat_ms"]) == ("offline", ["monitor", "takeover"], 25000)
    assert abs(ok["server_time"] - now) < 5000


@pytest.mark.parametrize("role", ["supervisor", "admin"])
async def test_the_subprotocol_is_spoken_where_offered(centre: Centre, role: str) -> None:
    """`hub.v1` is chosen where it is among those offered, and spoken where none is."""
    offers: list[tuple[str, ...] | None] = [("hub.v1",), ("other", "hub.v1"), None]
    chosen = []
    for offered in offers:
        line = await centre.connect("/v1/supervisor", centre.token("ana", role), subprotocols=offered)
        chosen.append(line.line.subprotocol)
    assert chosen == ["hub.v1", "hub.v1", None]


async def again(centre: Centre, line: Socket, node: int = 0, **changed: Any) -> Socket:
    """The same person connects again with `resume`."""
    return await centre.connect("/v1/supervisor", centre.token("ana"), node=node, resume=line.resumption(**changed))


async def test_a_resume_gives_back_the_session(centre: Centre) -> None:
    """Same session, a new secret, `resumed` true."""
    ana = await centre.supervisor()
    await ana.drop()
    back = await again(centre, ana)
    assert (back.session["resumed"], back.session["session"]) == (True, ana.session["session"])
    assert back.session["secret"] != ana.session["secret"]
    assert back.session["status"] == "available"


@pytest.mark.parametrize("how", ["drop", 1001, 1011, 4000])
async def test_nothing_is_lost_or_doubled_over_a_loss(centre: Centre, how: Any) -> None:
    """After any end but 1000 the resumed session gets exactly the events after its cursor, in order."""
    ana, story = await centre.supervisor(), await centre.story()
    started = await story.monitored_by(ana)
    await story.customer_says("before")
    await ana.expect("message.created", story.id, text="before")
    await (ana.drop() if how == "drop" else ana.close(how))
    for number in range(20):
        await story.customer_says(f"m{number}")
    back = await again(centre, ana)
    await story.customer_says("live")
    await back.expect("message.created", story.id, text="live")
    texts = [event["data"]["text"] for event in back.of(story.id, "message.created")]
    assert texts == [f"m{n}" for n in range(20)] + ["live"]
    assert back.of(story.id, "monitor.started", "stream.reset") == []
    assert (await centre.row(story.id))["monitor"]["user_id"] == "ana"
    assert len((await centre.detail(story.id))["monitors"]) == 1
    ok = await back.command("monitor.start", conversation_id=story.id)
    assert ok["monitor_id"] == started["data"]["monitor_id"]


async def test_hellos_answer_comes_first(centre: Centre) -> None:
    """On resume the first object is hello's answer, then what was missed."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await ana.drop()
    await story.customer_says("missed")
    back = await again(centre, ana)
    await back.expect("message.created", story.id, text="missed")
    assert '"resumed":true' in back.lines[0].replace(" ", "")


async def test_a_conversation_without_cursor_comes_with_its_snapshot(centre: Centre) -> None:
    """What `cursors` doesn't name comes as `monitor.started` again, with the same monitor."""
    ana, named, unnamed = await centre.supervisor(), await centre.story(), await centre.story()
    for story in (named, unnamed):
        await story.monitored_by(ana)
    await ana.drop()
    await unnamed.customer_says("missed")
    back = await again(centre, ana, cursors={named.id: ana.cursors[named.id]})
    snapshot = (await back.expect("monitor.started", unnamed.id))["data"]["snapshot"]
    assert [message["text"] for message in snapshot["messages"]] == ["missed"]
    await named.fence(back)
    assert back.of(named.id, "monitor.started") == []


async def test_owned_conversations_come_back_with_their_snapshot(centre: Centre) -> None:
    """An own conversation that `cursors` doesn't name comes as `conversation.snapshot`; a named one goes on."""
    ana, one, two = await centre.supervisor(), await centre.story(), await centre.story()
    for story in (one, two):
        await story.taken_over_by(ana)
        await story.fence(ana)
    await ana.drop()
    await one.customer_says("missed")
    back = await again(centre, ana, cursors={one.id: ana.cursors[one.id]})
    await back.expect("message.created", one.id, text="missed")
    await back.expect("conversation.snapshot", two.id)
    assert back.of(one.id, "conversation.snapshot") == []


async def test_views_come_back_whole(centre: Centre) -> None:
    """Each subscription of the session gets a `view.snapshot` again, under its old name, and goes on."""
    ana, story = await centre.supervisor(), await centre.story()
    views = {view: await View.open(ana, view) for view in ("interactions", "roster")}
    await ana.drop()
    later = await centre.story()
    back = await again(centre, ana)
    for view in views.values():
        await back.expect("view.snapshot", subscription=view.subscription)
    resumed = View(back, "interactions")
    resumed.subscription = views["interactions"].subscription
    await resumed.until(lambda rows: {story.id, later.id} <= set(rows))
    await story.end()
    await resumed.without(story.id)


async def test_a_monitor_that_ended_meanwhile_is_told(centre: Centre) -> None:
    """`monitor.ended` that was missed comes after the resume, with its reason; no data does."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.monitored_by(ana)
    await ana.drop()
    await bo.command("monitor.release", conversation_id=story.id, reason="x")
    await story.customer_says("not for ana")
    back = await again(centre, ana)
    ended = (await back.expect("monitor.ended", story.id))["data"]
    assert (ended["reason"], ended["by"]["user_id"]) == ("force_released", "bo")
    await back.round_trip()
    assert "not for ana" not in "".join(back.lines)


async def test_open_wrapups_and_notices_come_again(centre: Centre) -> None:
    """An agent who lost the socket gets open wrap-ups and unacknowledged notices after the resume."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    agent = await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await agent.drop()
    ok = await story.taken_over_by(ana)
    back = await centre.agent("max", resume=agent.resumption())
    assert back.session["resumed"] is True
    await back.expect("takeover.notified", story.id, takeover_id=ok["takeover_id"])
    await back.expect("wrapup.requested", story.id, participant_id="p_max")
    assert back.of(story.id, "message.created", "takeover.completed") == []


async def test_an_agent_resumes_its_conversations(centre: Centre) -> None:
    """An agent's missed events come in order after the resume."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await agent.drop()
    for number in range(5):
        await story.customer_says(f"m{number}")
    back = await centre.agent("max", resume=agent.resumption())
    await back.expect("message.created", story.id, text="m4")
    assert [event["data"]["text"] for event in back.of(story.id, "message.created")] == [f"m{n}" for n in range(5)]
    assert back.of(story.id, "conversation.snapshot") == []


@pytest.mark.parametrize("change", [{"secret": "wrong"}, {"session": "ses_none"}])
async def test_what_cannot_be_given_back_is_a_new_session(centre: Centre, change: Json) -> None:
    """Wrong secret or unknown session: an `ok` with `resumed` false and a new session; the named one is as it was."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    stranger = await again(centre, ana, **change)
    assert stranger.session["resumed"] is False
    assert stranger.session["session"] != ana.session["session"]
    await story.fence(ana)
    await stranger.round_trip()
    assert stranger.of(story.id) == []


async def test_another_user_cannot_resume(centre: Centre) -> None:
    """The right secret with another user's token: a new session without anything of the named one."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    bo = await centre.connect("/v1/supervisor", centre.token("bo"), resume=ana.resumption())
    assert bo.session["resumed"] is False
    await story.fence(ana)
    await bo.round_trip()
    assert bo.of(story.id) == []


async def test_the_same_user_of_another_organization_cannot_resume(centre: Centre) -> None:
    """User ids are per organization."""
    other, ana = Centre(centre.hub), await centre.supervisor()
    line = await other.connect("/v1/supervisor", other.token("ana"), resume=ana.resumption())
    assert line.session["resumed"] is False
    await ana.round_trip()
    await other.close()


async def test_a_secret_works_once(centre: Centre) -> None:
    """After a resume the old secret gives a new session only."""
    ana = await centre.supervisor()
    await ana.drop()
    back = await again(centre, ana)
    thief = await again(centre, ana)
    assert thief.session["resumed"] is False
    await back.round_trip()


async def test_the_old_socket_is_told(centre: Centre) -> None:
    """If the old socket is still there, it gets `closing` and 4409; the data goes to the new one."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    back = await again(centre, ana)
    assert back.session["resumed"] is True
    assert await ana.closed() == 4409
    await story.fence(back)


async def test_a_cursor_that_does_not_fit_is_said(centre: Centre) -> None:
    """A cursor of another history gives `stream.reset` with a reason and a snapshot, and events go on from there."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await story.customer_says("one")
    await ana.expect("message.created", story.id)
    cursor = ana.cursors[story.id]
    epoch, _, rest = cursor.partition(".")
    await ana.drop()
    back = await again(centre, ana, cursors={story.id: f"{epoch}x.{rest}"})
    reset = (await back.expect("stream.reset", story.id))["data"]
    assert reset["reason"]
    assert [message["text"] for message in reset["snapshot"]["messages"]] == ["one"]
    await story.fence(back)


async def test_a_cursor_from_the_future_is_said(centre: Centre) -> None:
    """An offset that the history hasn't reached gives `stream.reset`, not silence."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await ana.drop()
    cursor = ana.cursors[story.id]
    future = f"{cursor.rpartition('-')[0]}-{offset(cursor) + 500}"
    back = await again(centre, ana, cursors={story.id: future})
    await back.expect("stream.reset", story.id)
    await story.fence(back)


async def test_a_cursor_of_what_is_not_ones_own_gives_nothing(centre: Centre) -> None:
    """Naming a conversation in `cursors` that the session doesn't have brings no data of it."""
    ana, own, other = await centre.supervisor(), await centre.story(), await centre.story()
    await own.monitored_by(ana)
    bo = await centre.supervisor("bo")
    await other.monitored_by(bo)
    await other.customer_says("hush-hush")
    await bo.expect("message.created", other.id)
    await ana.drop()
    back = await again(centre, ana, cursors=ana.cursors | {other.id: bo.of(other.id)[0]["data"]["snapshot"]["cursor"]})
    await own.fence(back)
    await other.fence(bo)
    await back.round_trip()
    assert "hush-hush" not in "".join(back.lines)


async def test_1000_gives_the_monitor_back_at_once(centre: Centre) -> None:
    """Closing with 1000 ends the session and frees its monitors at once; it can't be resumed."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    view = await View.open(bo, "interactions")
    await story.monitored_by(ana)
    await view.until(lambda rows: rows[story.id]["monitor"] is not None)
    await ana.close(1000)
    await view.row(story.id, monitor=None, timeout=2)
    await story.monitored_by(bo)
    assert (await again(centre, ana)).session["resumed"] is False


async def test_1000_keeps_what_another_tab_has_joined(centre: Centre) -> None:
    """A monitor that another session of the person has joined goes on there."""
    one, two, story = await centre.supervisor(), await centre.supervisor(), await centre.story()
    await story.monitored_by(one)
    await story.monitored_by(two)
    await one.close(1000)
    await story.fence(two)
    assert two.of(story.id, "monitor.ended") == []
    assert (await centre.row(story.id))["monitor"]["user_id"] == "ana"


@pytest.mark.parametrize("how", [1001, "drop"])
async def test_any_other_end_keeps_it(centre: Centre, how: Any) -> None:
    """After 1001 or a loss the monitor stays held: no row says otherwise, another one gets `monitor_held`."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    view = await View.open(bo, "interactions")
    await story.monitored_by(ana)
    await view.until(lambda rows: rows[story.id]["monitor"] is not None)
    held = len(view.history(story.id))
    await (ana.drop() if how == "drop" else ana.close(1001))
    await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
    back = await again(centre, ana)
    await story.fence(back)
    await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
    assert all(row["monitor"] for row in view.history(story.id)[held:])


async def test_the_lease_ends_what_nobody_resumes(hasty: Centre) -> None:
    """After the grace: `lease_expired` in history, the row is free, another may monitor, no resume."""
    ana, bo, story = await hasty.supervisor(), await hasty.supervisor("bo"), await hasty.story()
    view = await View.open(bo, "interactions")
    await story.monitored_by(ana)
    await view.until(lambda rows: rows[story.id]["monitor"] is not None)
    await ana.drop()
    await view.row(story.id, monitor=None, timeout=8)
    assert (await hasty.detail(story.id))["monitors"][0]["reason"] == "lease_expired"
    await story.monitored_by(bo)
    assert (await again(hasty, ana)).session["resumed"] is False


async def test_a_lease_lasts_as_long_as_the_socket(hasty: Centre) -> None:
    """A monitor with a live socket outlives many leases."""
    ana, story = await hasty.supervisor(), await hasty.story()
    await story.monitored_by(ana)
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        await ana.expect("ping")
        await story.fence(ana)
    assert ana.of(story.id, "monitor.ended") == []


async def test_a_silent_socket_is_dead(hasty: Centre) -> None:
    """Silence for `heartbeat_ms` and the grace closes the socket; one that answers stays."""
    silent, alive = await hasty.supervisor("bo"), await hasty.supervisor("ana")
    silent.answers_pings = False
    await silent.closed(timeout=8)
    await alive.expect("ping")
    await alive.round_trip()


async def test_a_status_reads_offline_a_while_after_the_last_socket(hasty: Centre) -> None:
    """The agents view shows an agent until the presence time is over; the next hello brings the status back."""
    view = await View.open(await hasty.supervisor(), "agents")
    agent = await hasty.agent("max")
    await agent.command("status.set", status="on_queue")
    await view.row("max", status="on_queue")
    await agent.close(1000)
    await view.without("max", timeout=8)
    back = await hasty.agent("max")
    assert back.session["status"] == "on_queue"
    await view.row("max", status="on_queue")


async def test_an_owner_without_a_socket_is_away(hasty: Centre) -> None:
    """`owner_away` after the presence time without any socket of the owning supervisor; not away once back."""
    ana, bo, story = await hasty.supervisor(), await hasty.supervisor("bo"), await hasty.story()
    view = await View.open(bo, "interactions")
    await story.taken_over_by(ana)
    await ana.close(1000)
    await view.row(story.id, owner_away=True, timeout=8)
    await hasty.supervisor("ana")
    await view.row(story.id, owner_away=False)


async def test_an_idle_conversation_ends_by_inactivity(hasty: Centre) -> None:
    """A conversation without any event for the idle time ends by itself with reason `inactivity`."""
    agent, story = await hasty.agent("max"), await hasty.story()
    ended = await agent.expect("conversation.ended", story.id, timeout=12)
    assert ended["data"]["reason"] == "inactivity"


# Two nodes over one store


async def test_resume_on_another_node(pair: Centre) -> None:
    """A session lost on one node goes on at the other: monitor, view and cursors."""
    ana, story = await pair.supervisor(node=0), await pair.story()
    started = await story.monitored_by(ana)
    view = await View.open(ana, "interactions")
    await ana.drop()
    for number in range(10):
        await story.customer_says(f"m{number}", node=number % 2)
    back = await again(pair, ana, node=1)
    assert (back.session["resumed"], back.session["session"]) == (True, ana.session["session"])
    await back.expect("view.snapshot", subscription=view.subscription)
    await back.expect("message.created", story.id, text="m9")
    assert [event["data"]["text"] for event in back.of(story.id, "message.created")] == [f"m{n}" for n in range(10)]
    ok = await back.command("monitor.start", conversation_id=story.id)
    assert ok["monitor_id"] == started["data"]["monitor_id"]


async def test_the_old_socket_on_another_node_is_told(pair: Centre) -> None:
    """A resume on the other node closes the socket here with 4409."""
    ana = await pair.supervisor(node=0)
    await again(pair, ana, node=1)
    assert await ana.closed() == 4409


async def test_a_takeover_across_nodes(pair: Centre) -> None:
    """Supervisor here, agent and customer there: notice, mark and messages arrive all the same."""
    ana, story = await pair.supervisor(node=0), await pair.story()
    agent, customer = await pair.agent("max", node=1), await pair.customer(story.id, node=1)
    await story.monitored_by(ana)
    await agent.command("message.send", conversation_id=story.id, text="from west", client_message_id="d_1")
    await ana.expect("message.created", story.id, text="from west")
    ok = await confirm(ana, await story.prepared_by(ana))
    await agent.expect("takeover.notified", story.id, takeover_id=ok["takeover_id"])
    await ana.command("message.send", conversation_id=story.id, text="from east", client_message_id="d_2")
    await customer.expect("message.created", story.id, text="from east")


async def test_ones_next_command_sees_the_last_on_any_node(pair: Centre) -> None:
    """Status set here counts there, a monitor started here is held there, at once."""
    here, there, story = await pair.supervisor(node=0, status=None), await pair.supervisor(node=1, status=None), None
    story = await pair.story()
    bo = await pair.supervisor("bo", node=1)
    for _ in range(10):
        await here.command("status.set", status="available")
        started = await there.command("monitor.start", conversation_id=story.id)
        joined = await here.command("monitor.start", conversation_id=story.id)
        assert joined["monitor_id"] == started["monitor_id"]
        await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
        await here.command("monitor.stop", conversation_id=story.id)
        await there.command("status.set", status="busy")
        await here.refused("not_available", "monitor.start", conversation_id=story.id)


async def test_views_are_the_same_on_both_nodes(pair: Centre) -> None:
    """Rows that one node changes are shown by the other."""
    views = [await View.open(await pair.supervisor(sub, node=n), "interactions") for n, sub in enumerate(("ana", "bo"))]
    story = await pair.story()
    for view in views:
        await view.row(story.id, state="active")
    await story.monitored_by(views[0].socket)
    await views[1].until(lambda rows: (rows[story.id]["monitor"] or {}).get("user_id") == "ana")


async def test_sessions_on_two_nodes_share_a_monitor(pair: Centre) -> None:
    """Two tabs on two nodes: both get the data; a stop from one ends it for both."""
    one, two, story = await pair.supervisor(node=0), await pair.supervisor(node=1), await pair.story()
    await story.monitored_by(one)
    await story.monitored_by(two)
    await story.fence(one, two)
    await two.command("monitor.stop", conversation_id=story.id)
    await asyncio.gather(*(line.expect("monitor.ended", story.id, reason="stopped") for line in (one, two)))


async def test_another_role_cannot_resume(centre: Centre) -> None:
    """An agent's session isn't given to the same person's supervisor token, nor the other way."""
    story = await centre.story(agents=("ana",))
    agent = await centre.agent("ana")
    await agent.expect("conversation.snapshot", story.id)
    line = await centre.connect("/v1/supervisor", centre.token("ana"), resume=agent.resumption())
    assert line.session["resumed"] is False
    await story.fence(agent)


async def test_an_agents_1000_is_no_end_of_anything_else(centre: Centre) -> None:
    """An agent who closes with 1000 keeps the conversations: they come with a snapshot on the next session."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await agent.close(1000)
    back = await centre.agent("max", resume=agent.resumption())
    assert back.session["resumed"] is False
    await back.expect("conversation.snapshot", story.id)
    assert (await centre.row(story.id))["owner"] == "p_max"


async def test_an_agent_learns_of_a_new_conversation(centre: Centre) -> None:
    """On becoming a participant an online agent gets the snapshot, with the own connection in it, then what follows."""
    agent, story = await centre.agent("max"), await centre.story(agents=())
    await story.customer_says("Anybody?")
    await story.join("max")
    snapshot = (await agent.expect("conversation.snapshot", story.id))["data"]
    assert "p_max" in {person["participant_id"] for person in snapshot["participants"]}
    assert [message["text"] for message in snapshot["messages"]] == ["Anybody?"]
    await story.join("eva")
    joined = await agent.expect("participant.connected", story.id)
    assert joined["data"]["participant"]["participant_id"] == "p_eva"
    assert len(agent.of(story.id, "participant.connected")) == 1


async def test_an_agent_gets_nothing_after_leaving(centre: Centre) -> None:
    """Disconnected by the platform: the own `participant.disconnected` is the last of the conversation."""
    story, agent = await centre.story(agents=("max", "eva")), await centre.agent("max")
    other = await centre.agent("eva")
    await agent.expect("conversation.snapshot", story.id)
    await story.leave("max", "transfer")
    gone = await agent.expect("participant.disconnected", story.id)
    assert gone["data"]["disconnect_type"] == "transfer"
    await story.customer_says("not for max")
    await other.expect("message.created", story.id)
    await agent.round_trip()
    assert agent.names(story.id)[-1] == "participant.disconnected"


async def test_agents_who_rejoin_start_from_a_snapshot(centre: Centre) -> None:
    """Connected again under another participant id, an agent gets a snapshot and goes on from there."""
    story, agent = await centre.story(agents=("max", "eva")), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.leave("max")
    await story.customer_says("in between")
    again = story.event("participant.connected", participant_id="p_max2", purpose="agent", user_id="max", name="Max")
    await centre.platform.accepted(again)
    snapshot = (await agent.expect("conversation.snapshot", story.id))["data"]
    assert "p_max2" in {person["participant_id"] for person in snapshot["participants"]}
    await story.fence(agent)


async def test_who_left_and_came_back_over_a_loss_gets_a_snapshot(centre: Centre) -> None:
    """Behind the own leaving the transcript isn't theirs: what follows the own coming back begins with a snapshot."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await agent.drop()
    await story.leave("max")
    await story.customer_says("nobody there?")
    await story.join("max")
    await story.customer_says("hello again")
    again = await centre.agent("max", resume=agent.resumption())
    assert again.session["resumed"]
    await again.expect("participant.disconnected", story.id)
    await again.expect("conversation.snapshot", story.id)


async def test_who_came_back_over_a_loss_gets_a_snapshot(centre: Centre) -> None:
    """Left before the loss and connected again during it, with a cursor behind the leaving: the conversation is shown."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.leave("max")
    await agent.expect("participant.disconnected", story.id)
    await agent.drop()
    await story.join("max")
    again = await centre.agent("max", resume=agent.resumption())
    assert again.session["resumed"]
    await again.expect("conversation.snapshot", story.id)


async def test_a_missed_end_of_a_monitor_is_told_at_the_resume(centre: Centre) -> None:
    """Sent, but never read: the protocol (section 1, Resume) wants it again."""
    story, ana, tab = await centre.story(), await centre.supervisor(), await centre.supervisor()
    for line in (ana, tab):
        await story.monitored_by(line)
    ana.line.transport.pause_reading()
    await tab.command("monitor.stop", conversation_id=story.id)
    await tab.expect("monitor.ended", story.id)
    await story.fence()
    await ana.drop()
    again = await centre.supervisor("ana", resume=ana.resumption())
    assert again.session["resumed"]
    await again.expect("monitor.ended", story.id)
