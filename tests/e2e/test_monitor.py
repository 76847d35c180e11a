"""Monitors: issue, lines 2 to 7 and 14; protocol, sections 1 to 3."""

import asyncio

import pytest

from tests.support.centre import Centre
from tests.support.socket import offset
from tests.support.view import View


async def test_monitor_start_answers_and_brings_the_snapshot(centre: Centre) -> None:
    """`ok` has `monitor_id` and a lease of 15 s; `monitor.started` has conversation, participants, panels, messages."""
    ana, story = await centre.supervisor(), await centre.story(panels={"customer": {"tier": "gold"}})
    await story.customer_says("Hello")
    ok = await ana.command("monitor.start", conversation_id=story.id)
    assert (set(ok), ok["lease_ms"]) == ({"monitor_id", "lease_ms"}, 15000)
    assert ok["monitor_id"].startswith("mon_")
    data = (await ana.expect("monitor.started", story.id))["data"]
    assert (data["monitor_id"], data["participant_id"]) == (ok["monitor_id"], "p_max")
    snapshot = data["snapshot"]
    assert snapshot.keys() >= {"conversation", "participants", "panels", "messages", "draft", "cursor"}
    assert snapshot["conversation"]["conversation_id"] == story.id
    assert snapshot["panels"] == {"customer": {"tier": "gold"}}
    assert [message["text"] for message in snapshot["messages"]] == ["Hello"]
    assert "p_max" in {participant.get("participant_id") for participant in snapshot["participants"]}


async def test_the_snapshot_has_the_last_50_messages(centre: Centre) -> None:
    """With 60 messages the snapshot has the last 50 in order; the older ones come by the transcript."""
    ana, story = await centre.supervisor(), await centre.story()
    for number in range(60):
        await story.customer_says(f"m{number}")
    messages = (await story.monitored_by(ana))["data"]["snapshot"]["messages"]
    assert [message["text"] for message in messages] == [f"m{n}" for n in range(10, 60)]
    first = messages[0].get("offset") or offset(messages[0]["cursor"])
    older = [entry["text"] for entry in await centre.entries(story.id, before=first) if entry["kind"] == "message"]
    assert older[-10:] == [f"m{n}" for n in range(10)]


async def test_marks_are_not_among_the_messages(centre: Centre) -> None:
    """After a takeover and a transfer the snapshot's messages are messages only."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.customer_says("before")
    await story.transfer("billing")
    await story.taken_over_by(ana)
    await story.customer_says("after")
    messages = (await story.monitored_by(bo))["data"]["snapshot"]["messages"]
    assert [message["text"] for message in messages] == ["before", "after"]


async def test_everything_follows_live(centre: Centre) -> None:
    """Messages, typing, receipts, panels, participants and transfers reach the monitor with their literal fields."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    asked = await story.customer_says("Where is it?")
    event = await ana.expect("message.created", story.id)
    wanted = {"message_id": asked, "purpose": "customer", "text": "Where is it?"}
    assert event["data"].items() >= wanted.items()
    answered = await story.agent_says("On its way")
    event = await ana.expect("message.created", story.id)
    wanted = {"message_id": answered, "participant_id": "p_max", "purpose": "agent", "text": "On its way"}
    assert event["data"].items() >= wanted.items()
    await story.tell("message.receipt", message_id=answered, status="read")
    assert (await ana.expect("message.receipt", story.id, message_id=answered))["data"]["status"] == "read"
    await story.tell("typing", on=True, participant_id="p_max")
    typing = await ana.expect("typing", story.id)
    assert typing["data"].items() >= {"participant_id": "p_max", "purpose": "agent", "on": True}.items()
    await story.tell("panel.updated", panel="order", content={"n": 1})
    assert (await ana.expect("panel.updated", story.id))["data"].items() >= {
        "panel": "order",
        "content": {"n": 1},
    }.items()
    await story.join("eva")
    joined = await ana.expect("participant.connected", story.id)
    assert joined["data"]["participant"].items() >= {"participant_id": "p_eva", "user_id": "eva"}.items()
    await story.leave("eva", "transfer")
    left = await ana.expect("participant.disconnected", story.id)
    assert left["data"]["participant"]["participant_id"] == "p_eva"
    assert left["data"]["disconnect_type"] == "transfer"
    await story.transfer("billing")
    assert (await ana.expect("conversation.transferred", story.id))["data"]["queue"] == "billing"


async def test_nothing_comes_before_the_snapshot(centre: Centre) -> None:
    """The first event of a monitored conversation is `monitor.started`, and its cursor joins what follows."""
    ana, story = await centre.supervisor(), await centre.story()
    for number in range(5):
        posting = asyncio.create_task(story.customer_says(f"m{number}"))
        await story.monitored_by(ana)
        await posting
        await story.fence(ana)
        await ana.command("monitor.stop", conversation_id=story.id)
        await ana.expect("monitor.ended", story.id)
    assert ana.names(story.id)[0] == "monitor.started"


# Refusals: each with its own code and a sentence for a person, in the order of section 2.


async def test_permission_is_needed(centre: Centre) -> None:
    """Without `monitor`: `not_permitted`."""
    ana, story = await centre.supervisor(permissions=("view", "takeover", "history")), await centre.story()
    await ana.refused("not_permitted", "monitor.start", conversation_id=story.id)


@pytest.mark.parametrize("status", ["offline", "busy", "away", "break", "meal", "meeting", "training", "on_queue"])
async def test_own_status_must_be_available(centre: Centre, status: str) -> None:
    """In any other status: `not_available`; once available it works."""
    ana, story = await centre.supervisor(status=status), await centre.story()
    error = await ana.refused("not_available", "monitor.start", conversation_id=story.id)
    assert len(error.message.split()) > 2
    await ana.command("status.set", status="available")
    await story.monitored_by(ana)


async def test_a_queued_conversation_is_not_in_progress(centre: Centre) -> None:
    """Without an agent: `not_in_progress`."""
    ana, story = await centre.supervisor(), await centre.story(agents=())
    await ana.refused("not_in_progress", "monitor.start", conversation_id=story.id)


async def test_an_ended_conversation_is_not_in_progress(centre: Centre) -> None:
    """After the end, and while only wrap-up is open: `not_in_progress`."""
    ana, ended, wrapping = await centre.supervisor(), await centre.story(), await centre.story(queue="billing")
    for story in (ended, wrapping):
        await story.end()
        await ana.refused("not_in_progress", "monitor.start", conversation_id=story.id)
    assert (await centre.row(wrapping.id))["state"] == "wrapup"


async def test_unknown_foreign_and_out_of_sight_are_answered_alike(centre: Centre) -> None:
    """An unknown id, another organization's, one outside the queues, one outside the divisions: the same answer."""
    other = Centre(centre.hub)
    await other.story("cnv_foreign")
    await centre.story("cnv_queue", queue="billing")
    await centre.story("cnv_division", queue="unlisted", division="away")
    ana = await centre.supervisor(queues=("support", "unlisted"), divisions=("home",))
    answers = []
    for conversation in ("cnv_foreign", "cnv_queue", "cnv_division", "cnv_nowhere"):
        error = await ana.refused("unknown_conversation", "monitor.start", conversation_id=conversation)
        answers.append(
            (error.message.replace(conversation, "X"), error.retryable, repr(error.details).replace(conversation, "X"))
        )
    assert len(set(answers)) == 1
    await other.close()


async def test_the_loser_is_told_who_holds(centre: Centre) -> None:
    """A second supervisor gets `monitor_held` with the holder's id, name and since; the name is in the sentence."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.monitored_by(ana)
    error = await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
    assert error.retryable is False
    assert "Ana Ortiz" in error.message
    holder = error.details["holder"]
    assert (holder["user_id"], holder["name"], type(holder["since"])) == ("ana", "Ana Ortiz", int)


async def test_several_targets_are_ambiguous(centre: Centre) -> None:
    """With an agent and a bot connected, `target_ambiguous` lists both with their fields; naming one works."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max",), bots=("robo",))
    error = await ana.refused("target_ambiguous", "monitor.start", conversation_id=story.id)
    wanted = [
        {"participant_id": "p_max", "user_id": "max", "name": "Max Weber", "purpose": "agent"},
        {"participant_id": "p_robo", "user_id": "robo", "name": "Robo", "purpose": "bot"},
    ]
    assert sorted(error.details["candidates"], key=lambda candidate: str(candidate["participant_id"])) == wanted
    started = await story.monitored_by(ana, participant_id="p_robo")
    assert started["data"]["participant_id"] == "p_robo"


@pytest.mark.parametrize("target", ["p_gone", "p_nobody"])
async def test_a_target_that_is_not_connected_is_ambiguous(centre: Centre, target: str) -> None:
    """Naming somebody who left or never was there lists who is."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "gone"))
    await story.leave("gone")
    error = await ana.refused("target_ambiguous", "monitor.start", conversation_id=story.id, participant_id=target)
    assert [candidate["participant_id"] for candidate in error.details["candidates"]] == ["p_max"]


async def test_the_order_of_the_checks(centre: Centre) -> None:
    """Where several reasons hold, the first in the order of section 2 is given."""
    bo, story = await centre.supervisor("bo"), await centre.story(agents=("max", "eva"))
    queued = await centre.story(agents=())
    await story.monitored_by(bo, participant_id="p_max")
    nothing = await centre.supervisor("ana", permissions=("view",), status="offline")
    await nothing.refused("schema_invalid", "monitor.start", conversation_id="{}", participant_id=5)
    await nothing.refused("unknown_conversation", "monitor.start", conversation_id="cnv_nowhere")
    await nothing.refused("not_permitted", "monitor.start", conversation_id=queued.id)
    ana = await centre.supervisor("ana", status="offline")
    await ana.refused("not_available", "monitor.start", conversation_id=queued.id)
    await ana.command("status.set", status="available")
    await ana.refused("not_in_progress", "monitor.start", conversation_id=queued.id)
    await ana.refused("monitor_held", "monitor.start", conversation_id=story.id)
    await bo.command("monitor.stop", conversation_id=story.id)
    await ana.refused("target_ambiguous", "monitor.start", conversation_id=story.id)


async def test_a_refusal_changes_nothing(centre: Centre) -> None:
    """After refusals the row has no monitor, history none, and no data came."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"))
    await ana.refused("target_ambiguous", "monitor.start", conversation_id=story.id)
    await ana.refused("not_monitoring", "monitor.stop", conversation_id=story.id)
    await story.customer_says("Hello")
    await ana.round_trip()
    detail = await centre.detail(story.id)
    assert (detail["conversation"]["monitor"], detail["monitors"]) == (None, [])
    assert ana.of(story.id) == []


async def test_only_one_of_many_at_once(centre: Centre) -> None:
    """Of eight who ask at the same moment exactly one gets the monitor, seven get `monitor_held` by that one."""
    story = await centre.story()
    lines = {name: await centre.supervisor(name) for name in ("ana", "bo", "cy", "di", "ed", "fay", "gus", "hal")}
    numbers = {name: await line.post("monitor.start", conversation_id=story.id) for name, line in lines.items()}
    answers = {name: await lines[name].answer(number) for name, number in numbers.items()}
    [winner] = [name for name, answer in answers.items() if "ok" in answer]
    losers = [answer["error"] for answer in answers.values() if "error" in answer]
    assert {error["code"] for error in losers} == {"monitor_held"}
    assert {error["details"]["holder"]["user_id"] for error in losers} == {winner}


# Ends


async def test_stop_ends_it(centre: Centre) -> None:
    """`monitor.stop` answers `{}`; `monitor.ended` says `stopped` and how long; nothing of the conversation follows."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    started = await story.monitored_by(ana)
    assert await ana.command("monitor.stop", conversation_id=story.id) == {}
    ended = (await ana.expect("monitor.ended", story.id))["data"]
    assert (ended["monitor_id"], ended["reason"]) == (started["data"]["monitor_id"], "stopped")
    assert ended["duration_ms"] >= 0
    assert "by" in ended
    await story.monitored_by(bo)
    await story.fence(bo)
    await ana.round_trip()
    assert ana.names(story.id)[-1] == "monitor.ended"


async def test_stop_without_a_monitor(centre: Centre) -> None:
    """`monitor.stop` and `monitor.release` without a monitor are `not_monitoring`; another's can't be stopped."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await ana.refused("not_monitoring", "monitor.stop", conversation_id=story.id)
    await ana.refused("not_monitoring", "monitor.release", conversation_id=story.id, reason="stuck")
    await story.monitored_by(bo)
    await ana.refused("not_monitoring", "monitor.stop", conversation_id=story.id)


async def test_it_can_be_started_again_any_number_of_times(centre: Centre) -> None:
    """Each start has its own `monitor_id`; history has one entry each, in order."""
    ana, story = await centre.supervisor(), await centre.story()
    ids = []
    for _ in range(5):
        ids.append((await story.monitored_by(ana))["data"]["monitor_id"])
        await ana.command("monitor.stop", conversation_id=story.id)
    assert len(set(ids)) == 5
    monitors = (await centre.detail(story.id))["monitors"]
    assert [monitor["reason"] for monitor in monitors] == ["stopped"] * 5
    assert [monitor["from"] for monitor in monitors] == sorted(monitor["from"] for monitor in monitors)


async def test_the_end_of_the_conversation_ends_it(centre: Centre) -> None:
    """Reason `conversation_ended`, after the monitor has seen `conversation.ended`; no person did it."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await story.end("solved")
    over = await ana.expect("conversation.ended", story.id)
    ended = await ana.expect("monitor.ended", story.id)
    assert over["data"]["reason"] == "solved"
    assert ended["data"]["reason"] == "conversation_ended"


async def test_the_agent_leaving_ends_it(centre: Centre) -> None:
    """When the monitored participant leaves: `agent_left`; when another one leaves, it goes on."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"))
    await story.monitored_by(ana, participant_id="p_max")
    await story.leave("eva")
    await story.fence(ana)
    assert ana.of(story.id, "monitor.ended") == []
    await story.leave("max")
    assert (await ana.expect("monitor.ended", story.id))["data"]["reason"] == "agent_left"
    assert (await centre.row(story.id))["monitor"] is None


async def test_an_agent_leaving_for_another_who_stays_ends_it_too(centre: Centre) -> None:
    """The monitor is at one participant's side: another agent who stays doesn't keep it."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"))
    await story.monitored_by(ana, participant_id="p_max")
    await story.leave("max")
    assert (await ana.expect("monitor.ended", story.id))["data"]["reason"] == "agent_left"
    await story.customer_says("Still here?")
    await ana.round_trip()
    assert "Still here?" not in "".join(ana.lines)


async def test_a_transfer_out_of_sight_ends_it(centre: Centre) -> None:
    """When the conversation goes to a queue that isn't the supervisor's: `permission_lost`, and no data after it."""
    ana, bo, story = await centre.supervisor(queues=("support",)), await centre.supervisor("bo"), await centre.story()
    await story.monitored_by(ana)
    await story.transfer("billing")
    assert (await ana.expect("monitor.ended", story.id))["data"]["reason"] == "permission_lost"
    await story.monitored_by(bo)
    await story.customer_says("hush-hush")
    await bo.expect("message.created", story.id, text="hush-hush")
    await ana.round_trip()
    assert "hush-hush" not in "".join(ana.lines)


async def test_a_transfer_within_sight_keeps_it(centre: Centre) -> None:
    """A transfer to a queue of one's own ends nothing."""
    ana, story = await centre.supervisor(queues=("support", "billing")), await centre.story()
    await story.monitored_by(ana)
    await story.transfer("billing")
    await story.fence(ana)
    assert ana.of(story.id, "monitor.ended") == []


async def test_leaving_available_keeps_a_running_monitor(centre: Centre) -> None:
    """A running monitor goes on in another status; a new one is `not_available`."""
    ana, running, other = await centre.supervisor(), await centre.story(), await centre.story()
    await running.monitored_by(ana)
    await ana.command("status.set", status="meal")
    await running.fence(ana)
    await ana.refused("not_available", "monitor.start", conversation_id=other.id)


async def test_release_by_the_right_to_it(centre: Centre) -> None:
    """`monitor.release` ends another's monitor: `force_released` by whom; the conversation is free at once."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.monitored_by(ana)
    assert await bo.command("monitor.release", conversation_id=story.id, reason="Ana went home") == {}
    ended = (await ana.expect("monitor.ended", story.id))["data"]
    assert (ended["reason"], ended["by"]) == ("force_released", {"user_id": "bo", "name": "Bo Lind"})
    await story.monitored_by(bo)
    assert (await centre.detail(story.id))["monitors"][0]["reason"] == "force_released"


async def test_release_needs_its_permission_and_a_reason(centre: Centre) -> None:
    """Without `release`: `not_permitted`; without a reason: `schema_invalid`; the monitor goes on."""
    ana, story = await centre.supervisor(), await centre.story()
    bo = await centre.supervisor("bo", permissions=("view", "monitor", "takeover", "history"))
    await story.monitored_by(ana)
    await bo.refused("not_permitted", "monitor.release", conversation_id=story.id, reason="x")
    await bo.refused("schema_invalid", "monitor.release", conversation_id=story.id)
    await story.fence(ana)
    assert ana.of(story.id, "monitor.ended") == []


# Several sessions of one person


async def test_two_tabs_share_the_lock(centre: Centre) -> None:
    """A second session of the holder joins with the same `monitor_id`, whatever the status; each gets the data."""
    one, two, story = await centre.supervisor(), await centre.supervisor(), await centre.story()
    first = await story.monitored_by(one)
    await two.command("status.set", status="busy")
    second = await story.monitored_by(two)
    assert first["data"]["monitor_id"] == second["data"]["monitor_id"]
    await story.fence(one, two)


async def test_only_joined_sessions_get_data(centre: Centre) -> None:
    """A session of the holder that hasn't joined gets nothing of the conversation but its view's rows."""
    one, two, story = await centre.supervisor(), await centre.supervisor(), await centre.story()
    await story.monitored_by(one)
    await story.fence(one)
    await two.round_trip()
    assert two.of(story.id) == []


async def test_starting_again_from_the_same_session_is_the_same_monitor(centre: Centre) -> None:
    """`monitor.start` while monitoring answers with the same `monitor_id`."""
    ana, story = await centre.supervisor(), await centre.story()
    first = await ana.command("monitor.start", conversation_id=story.id)
    second = await ana.command("monitor.start", conversation_id=story.id)
    assert first["monitor_id"] == second["monitor_id"]
    assert len((await centre.detail(story.id))["monitors"]) == 1


async def test_stop_from_any_tab_ends_it_for_all(centre: Centre) -> None:
    """Each joined session is told `monitor.ended`."""
    one, two, story = await centre.supervisor(), await centre.supervisor(), await centre.story()
    await story.monitored_by(one)
    await story.monitored_by(two)
    await two.command("monitor.stop", conversation_id=story.id)
    for line in (one, two):
        assert (await line.expect("monitor.ended", story.id))["data"]["reason"] == "stopped"


async def test_a_tab_that_never_joined_may_stop_it(centre: Centre) -> None:
    """The lock is the person's: another session (the view, the roster) stops it, too."""
    one, two, story = await centre.supervisor(), await centre.supervisor(), await centre.story()
    await story.monitored_by(one)
    await two.command("monitor.stop", conversation_id=story.id)
    await one.expect("monitor.ended", story.id, reason="stopped")


async def test_the_same_name_in_another_organization_is_another_person(centre: Centre) -> None:
    """`ana` of another organization doesn't join, stop or release anything here."""
    other = Centre(centre.hub)
    ana, story, stranger = await centre.supervisor(), await centre.story(), await other.supervisor()
    await story.monitored_by(ana)
    for cmd, more in (("monitor.start", {}), ("monitor.stop", {}), ("monitor.release", {"reason": "x"})):
        await stranger.refused("unknown_conversation", cmd, conversation_id=story.id, **more)
    await story.fence(ana)
    await other.close()


async def test_a_supervisor_monitors_many_at_once(centre: Centre) -> None:
    """Conversations of one session don't mix."""
    ana, stories = await centre.supervisor(), [await centre.story() for _ in range(5)]
    for story in stories:
        await story.monitored_by(ana)
    for story in stories:
        await story.customer_says(f"to {story.id}")
    for story in stories:
        await ana.expect("message.created", story.id, text=f"to {story.id}")
        assert [event["data"]["text"] for event in ana.of(story.id, "message.created")] == [f"to {story.id}"]


async def test_agents_and_customers_have_no_such_command(centre: Centre) -> None:
    """`monitor.start` on other sockets is `schema_invalid` like any unknown command."""
    story = await centre.story()
    for line in (await centre.agent("max"), await centre.customer(story.id), (await centre.connector()).socket):
        await line.refused("schema_invalid", "monitor.start", conversation_id=story.id)


async def test_a_monitor_gets_pings_every_two_seconds(centre: Centre) -> None:
    """A socket that has a monitor is pinged at the latest every 2 s."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    _, first, second = [await ana.expect("ping") for _ in range(3)]
    assert second["at"] - first["at"] <= 2500, "by the hub's own clock; its timer may be late"


async def test_a_silent_monitor_gets_no_data_until_its_next_frame(centre: Centre) -> None:
    """A monitor's socket that was silent for 5 s gets no conversation data until its next frame, then what it missed."""
    ana, bo, story = await centre.supervisor(), await centre.agent("max"), await centre.story()
    await bo.expect("conversation.snapshot", story.id)
    await story.monitored_by(ana)
    ana.answers_pings = False
    for _ in range(4):
        await ana.expect("ping")
    await story.customer_says("while silent")
    await bo.expect("message.created", story.id)
    await ana.expect("ping")
    assert ana.of(story.id, "message.created") == []
    await ana.send({"cmd": "pong"})
    await ana.expect("message.created", story.id, text="while silent")


async def test_the_holder_shows_in_a_view_opened_later(centre: Centre) -> None:
    """A snapshot taken while somebody monitors has the holder."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.monitored_by(ana)
    view = await View.open(bo, "interactions")
    assert view.rows[story.id]["monitor"]["user_id"] == "ana"
