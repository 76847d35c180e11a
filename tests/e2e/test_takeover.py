"""Takeovers and wrap-up: issue, lines 8 to 13; protocol, sections 2 to 4."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.centre import Centre, Story, confirm
from tests.support.socket import Json, Socket
from tests.support.view import View

CODES = ["resolved", "follow-up"]
WRAPUPS: dict[str, Json] = {
    "support": {"prompt": "none"},
    "billing": {"prompt": "mandatory", "codes": CODES, "timeout_ms": 30000},
    "survey": {"prompt": "optional", "codes": CODES, "timeout_ms": 1500},
    "quick": {"prompt": "timeout", "codes": CODES, "timeout_ms": 1500},
}


async def monitoring(centre: Centre, sub: str = "ana", **story: Any) -> tuple[Socket, Story]:
    """A supervisor who monitors a fresh conversation of one agent."""
    line, told = await centre.supervisor(sub), await centre.story(**story)
    await told.monitored_by(line)
    return line, told


# Prepare


async def test_prepare_says_what_will_happen(centre: Centre) -> None:
    """`takeover.prepare` answers with id, token, an end 60 s away, and every consequence."""
    ana, story = await monitoring(centre, queue="billing")
    await story.agent_says("Hello")
    for text in ("one", "two"):
        await story.customer_says(text)
    ok = await story.prepared_by(ana)
    assert ok["takeover_id"].startswith("tko_")
    assert ok["confirm_token"]
    assert 55_000 < ok["expires_at"] - time.time() * 1000 <= 60_500
    consequences = ok["consequences"]
    assert [gone["participant_id"] for gone in consequences["removed"]] == ["p_max"]
    assert consequences["wrapup"] == WRAPUPS["billing"]
    assert consequences["name_visible"] is True
    assert consequences["unanswered"] == 2


@pytest.mark.parametrize(("channel", "visible"), [("web", True), ("open", False), ("sms", False)])
async def test_prepare_says_whether_the_name_shows(centre: Centre, channel: str, visible: bool) -> None:
    """`name_visible` is what the channel's configuration says; the default is false."""
    ana, story = await monitoring(centre, channel=channel)
    assert (await story.prepared_by(ana))["consequences"]["name_visible"] is visible


@pytest.mark.parametrize("queue", ["support", "billing", "survey", "quick"])
async def test_prepare_says_which_wrapup(centre: Centre, queue: str) -> None:
    """`wrapup` is null for `none`, else prompt, codes and timeout."""
    ana, story = await monitoring(centre, queue=queue)
    wrapup = (await story.prepared_by(ana))["consequences"]["wrapup"]
    assert wrapup == (None if queue == "support" else WRAPUPS[queue])


async def test_unanswered_counts_since_the_last_answer(centre: Centre) -> None:
    """Customer messages since the last answer of an agent or a bot; none after an answer."""
    ana, story = await monitoring(centre)
    assert (await story.prepared_by(ana))["consequences"]["unanswered"] == 0
    await story.customer_says("Hello?")
    assert (await story.prepared_by(ana))["consequences"]["unanswered"] == 1
    await story.agent_says("Here")
    assert (await story.prepared_by(ana))["consequences"]["unanswered"] == 0


async def test_prepare_changes_nothing(centre: Centre) -> None:
    """After `takeover.prepare` the agent owns, the monitor runs, and the agent has been told nothing."""
    ana, story = await monitoring(centre)
    agent = await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    before = await centre.row(story.id)
    await story.prepared_by(ana)
    await story.fence(ana, agent)
    assert await centre.row(story.id) == before
    assert agent.of(story.id, "takeover.notified", "participant.disconnected") == []


async def test_prepare_needs_the_permission_and_a_live_monitor(centre: Centre) -> None:
    """Unknown, not permitted, not monitoring: each its code, in this order."""
    story = await centre.story()
    less = await centre.supervisor("bo", permissions=("view", "monitor"))
    await less.refused("unknown_conversation", "takeover.prepare", conversation_id="cnv_nowhere")
    await less.refused("not_permitted", "takeover.prepare", conversation_id=story.id)
    ana = await centre.supervisor()
    await ana.refused("not_monitoring", "takeover.prepare", conversation_id=story.id)
    await story.monitored_by(ana)
    await ana.command("monitor.stop", conversation_id=story.id)
    await ana.refused("not_monitoring", "takeover.prepare", conversation_id=story.id)


async def test_another_supervisors_monitor_is_not_enough(centre: Centre) -> None:
    """While somebody else monitors: `not_monitoring`."""
    _, story = await monitoring(centre)
    await (await centre.supervisor("bo")).refused("not_monitoring", "takeover.prepare", conversation_id=story.id)


async def test_takeover_of_an_ended_conversation_is_impossible(centre: Centre) -> None:
    """Prepared before the end or not: nothing can be taken over after it."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    await story.end()
    await ana.expect("monitor.ended", story.id)
    number = await ana.post(
        "takeover.confirm", takeover_id=prepared["takeover_id"], confirm_token=prepared["confirm_token"]
    )
    assert (await ana.answer(number))["error"]["code"] in {"not_monitoring", "confirmation_expired"}
    await ana.refused("not_monitoring", "takeover.prepare", conversation_id=story.id)
    assert (await centre.detail(story.id))["takeovers"] == []


# Confirmations that change nothing


async def unchanged(centre: Centre, story: Story) -> None:
    """The agent still owns and the monitor still runs."""
    detail = await centre.detail(story.id)
    assert (detail["conversation"]["owner"], detail["takeovers"]) == ("p_max", [])
    assert detail["conversation"]["monitor"]["user_id"] == "ana"
    assert [monitor["to"] for monitor in detail["monitors"]] == [None]


async def test_a_wrong_confirmation_changes_nothing(centre: Centre) -> None:
    """A wrong token or an unknown takeover id: `confirmation_required`; the right one works afterwards."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    await ana.refused(
        "confirmation_required", "takeover.confirm", takeover_id=prepared["takeover_id"], confirm_token="wrong"
    )
    await ana.refused(
        "confirmation_required", "takeover.confirm", takeover_id="tko_none", confirm_token=prepared["confirm_token"]
    )
    await unchanged(centre, story)
    await confirm(ana, prepared)


async def test_a_cancelled_confirmation_changes_nothing(centre: Centre) -> None:
    """After `takeover.cancel`: `confirmation_required`."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    assert await ana.command("takeover.cancel", takeover_id=prepared["takeover_id"]) == {}
    await ana.refused(
        "confirmation_required",
        "takeover.confirm",
        takeover_id=prepared["takeover_id"],
        confirm_token=prepared["confirm_token"],
    )
    await unchanged(centre, story)


async def test_a_foreign_confirmation_changes_nothing(centre: Centre) -> None:
    """Another supervisor with the id and token of one who prepared: `confirmation_required`."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    bo = await centre.supervisor("bo")
    for line in (bo, await Centre(centre.hub, org=centre.org + "x").supervisor("ana")):
        await line.refused(
            "confirmation_required",
            "takeover.confirm",
            takeover_id=prepared["takeover_id"],
            confirm_token=prepared["confirm_token"],
        )
        await line.close()
    await unchanged(centre, story)


async def test_a_second_prepare_voids_the_first(centre: Centre) -> None:
    """Only the last prepared takeover can be confirmed."""
    ana, story = await monitoring(centre)
    first, second = await story.prepared_by(ana), await story.prepared_by(ana)
    assert first["takeover_id"] != second["takeover_id"]
    await ana.refused(
        "confirmation_required",
        "takeover.confirm",
        takeover_id=first["takeover_id"],
        confirm_token=first["confirm_token"],
    )
    await unchanged(centre, story)
    await confirm(ana, second)


async def test_another_owner_since_voids_it(centre: Centre) -> None:
    """Prepared, then the owner changed: `confirmation_expired`."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"))
    await story.monitored_by(ana, participant_id="p_eva")
    prepared = await story.prepared_by(ana)
    await story.leave("max")
    await ana.expect("participant.disconnected", story.id)
    await ana.refused(
        "confirmation_expired",
        "takeover.confirm",
        takeover_id=prepared["takeover_id"],
        confirm_token=prepared["confirm_token"],
    )
    assert (await centre.row(story.id))["owner"] == "p_eva"
    await confirm(ana, await story.prepared_by(ana))


async def test_a_confirmation_without_the_monitor_is_refused(centre: Centre) -> None:
    """Prepared, then the monitor stopped or released: `not_monitoring`."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    await ana.command("monitor.stop", conversation_id=story.id)
    await ana.refused(
        "not_monitoring",
        "takeover.confirm",
        takeover_id=prepared["takeover_id"],
        confirm_token=prepared["confirm_token"],
    )
    assert (await centre.row(story.id))["owner"] == "p_max"


async def test_a_confirmation_twice_is_already_done(centre: Centre) -> None:
    """The second confirmation of a done takeover changes nothing."""
    ana, story = await monitoring(centre)
    prepared = await story.prepared_by(ana)
    ok = await confirm(ana, prepared)
    await ana.refused(
        "already_done",
        "takeover.confirm",
        takeover_id=prepared["takeover_id"],
        confirm_token=prepared["confirm_token"],
    )
    assert (await centre.row(story.id))["owner_epoch"] == ok["owner_epoch"]


async def test_a_confirmation_expires(hasty: Centre) -> None:
    """After its time: `confirmation_expired`, nothing has changed, and preparing again works."""
    ana, story = await monitoring(hasty)
    prepared = await story.prepared_by(ana)
    while time.time() * 1000 <= prepared["expires_at"] + 100:
        await ana.expect("ping")
    await ana.refused(
        "confirmation_expired",
        "takeover.confirm",
        takeover_id=prepared["takeover_id"],
        confirm_token=prepared["confirm_token"],
    )
    await unchanged(hasty, story)
    await confirm(ana, await story.prepared_by(ana))


async def test_mandatory_wrapup_ends_at_its_latest(hasty: Centre) -> None:
    """A mandatory wrap-up that nobody submits is over at its longest time, too (24 h by default)."""
    story = await hasty.story(queue="billing")
    await story.end()
    assert (await hasty.row(story.id))["state"] == "wrapup"
    await hasty.row_with(story.id, state="ended")


# In one step


async def test_confirm_does_everything(centre: Centre) -> None:
    """Agents and bots gone, supervisor owner under the next epoch, monitor ended, mark, roster `own`."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"), bots=("robo",))
    roster = await View.open(ana, "roster")
    await story.monitored_by(ana, participant_id="p_max")
    before = await centre.row(story.id)
    prepared = await story.prepared_by(ana)
    assert {gone["participant_id"] for gone in prepared["consequences"]["removed"]} == {"p_max", "p_eva", "p_robo"}
    ok = await confirm(ana, prepared)
    assert ok["participant_id"].startswith("prt_")
    assert ok["owner_epoch"] == before["owner_epoch"] + 1
    mark = (await ana.expect("takeover.completed", story.id))["data"]
    assert (mark["takeover_id"], mark["to"], mark["owner_epoch"]) == (
        ok["takeover_id"],
        ok["participant_id"],
        ok["owner_epoch"],
    )
    assert set(mark["from"]) == {"p_max", "p_eva", "p_robo"}
    ended = (await ana.expect("monitor.ended", story.id))["data"]
    assert ended["reason"] == "taken_over"
    await roster.row(story.id, kind="own")
    row = await centre.row(story.id)
    assert (row["owner"], row["monitor"], row["state"]) == (ok["participant_id"], None, "active")
    assert row["taken_over"]
    assert [(agent["user_id"], agent["purpose"]) for agent in row["agents"]] == [("ana", "supervisor")]
    assert [entry["kind"] for entry in await centre.entries(story.id)].count("takeover") == 1


async def test_the_supervisor_becomes_a_participant(centre: Centre) -> None:
    """`conversation.snapshot` comes to the new owner, itself among the participants; what follows comes live."""
    ana, story = await monitoring(centre)
    ok = await confirm(ana, await story.prepared_by(ana))
    snapshot = (await ana.expect("conversation.snapshot", story.id))["data"]
    assert ok["participant_id"] in {participant["participant_id"] for participant in snapshot["participants"]}
    await story.customer_says("Who is this?")
    await ana.expect("message.created", story.id, text="Who is this?")


async def test_every_tab_of_the_supervisor_is_a_participant(centre: Centre) -> None:
    """Other sessions of the person become participants, too, whether they had joined the monitor or not."""
    ana, story = await monitoring(centre)
    joined, other = await centre.supervisor(), await centre.supervisor()
    await story.monitored_by(joined)
    await confirm(ana, await story.prepared_by(ana))
    await joined.expect("monitor.ended", story.id, reason="taken_over")
    for line in (joined, other):
        await line.expect("conversation.snapshot", story.id)
    await story.fence(ana, joined, other)


def about(participant_id: str) -> Callable[[Json], bool]:
    """True for the `participant.disconnected` of that participant."""
    return lambda event: (
        event["event"] == "participant.disconnected"
        and event["data"]["participant"]["participant_id"] == participant_id
    )


async def test_each_removed_agent_is_told(centre: Centre) -> None:
    """Two agents and a bot: each gets the notice and its own `participant.disconnected`, and nothing else after it."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"), bots=("robo",))
    lines = {user: await centre.agent(user) for user in ("max", "eva", "robo")}
    for line in lines.values():
        await line.expect("conversation.snapshot", story.id)
    ok = await story.taken_over_by(ana, participant_id="p_max")
    for user, line in lines.items():
        own = await line.expect("participant.disconnected", story.id, where=about(f"p_{user}"))
        assert own["data"]["disconnect_type"] == "takeover"
        notice = (await line.expect("takeover.notified", story.id))["data"]
        assert (notice["takeover_id"], notice["supervisor"]["name"]) == (ok["takeover_id"], "Ana Ortiz")
        assert isinstance(notice["at"], int)
        assert notice["returned_draft"] is None
    await ana.command("message.send", conversation_id=story.id, text="Hello, Ana here", client_message_id="d_1")
    await ana.expect("message.created", story.id, text="Hello, Ana here")
    for user, line in lines.items():
        await line.round_trip()
        names = line.names(story.id)
        place = next(n for n, event in enumerate(line.of(story.id)) if about(f"p_{user}")(event))
        assert set(names[place + 1 :]) <= {"takeover.notified", "wrapup.requested"}, names
        assert names.count("takeover.notified") == 1
        assert "Hello, Ana here" not in "".join(line.lines)


@pytest.mark.parametrize("queue", ["support", "billing", "survey", "quick"])
async def test_the_notice_says_which_wrapup_is_owed(centre: Centre, queue: str) -> None:
    """`wrapup` has `required` (true for `mandatory`, `timeout`), `prompt`, `codes`, `timeout_ms`."""
    ana, story = await monitoring(centre, queue=queue)
    agent = await centre.agent("max")
    await confirm(ana, await story.prepared_by(ana))
    wrapup = (await agent.expect("takeover.notified", story.id))["data"]["wrapup"]
    assert wrapup["required"] is (queue in {"billing", "quick"})
    assert wrapup["prompt"] == WRAPUPS[queue]["prompt"]
    if queue != "support":
        assert {name: wrapup[name] for name in ("prompt", "codes", "timeout_ms")} == WRAPUPS[queue]


async def test_a_bot_owes_no_wrapup(centre: Centre) -> None:
    """A removed bot's notice has prompt `none`, and no wrap-up is requested of it, in a mandatory queue, too."""
    ana, story = await centre.supervisor(), await centre.story(agents=(), bots=("robo",), queue="billing")
    bot = await centre.agent("robo")
    prepared_wrapup = await story.taken_over_by(ana)
    notice = (await bot.expect("takeover.notified", story.id))["data"]
    assert notice["takeover_id"] == prepared_wrapup["takeover_id"]
    assert (notice["wrapup"]["prompt"], notice["wrapup"]["required"]) == ("none", False)
    await bot.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")
    assert bot.of(story.id, "wrapup.requested") == []


async def test_an_absent_agent_is_told_at_the_next_connect(centre: Centre) -> None:
    """The notice waits, comes on each new session until acknowledged, and never again after that."""
    ana, story = await monitoring(centre)
    ok = await confirm(ana, await story.prepared_by(ana))
    for _ in range(2):
        agent = await centre.agent("max")
        notice = await agent.expect("takeover.notified", story.id)
        assert notice["data"]["takeover_id"] == ok["takeover_id"]
    assert await agent.command("takeover.acknowledge", takeover_id=ok["takeover_id"]) == {}
    later = await centre.agent("max")
    await later.round_trip()
    assert later.of(story.id) == []


async def test_acknowledging_is_ones_own(centre: Centre) -> None:
    """Another agent can't acknowledge; acknowledging twice does no harm to the state."""
    ana, story = await monitoring(centre)
    ok = await confirm(ana, await story.prepared_by(ana))
    stranger = await centre.agent("eva")
    number = await stranger.post("takeover.acknowledge", takeover_id=ok["takeover_id"])
    assert "error" in await stranger.answer(number)
    await (await centre.agent("max")).expect("takeover.notified", story.id)


async def test_two_takeovers_give_two_notices(centre: Centre) -> None:
    """Each takeover of one's own conversations has its own notice, and each is acknowledged alone."""
    ana, stories = await centre.supervisor(), [await centre.story() for _ in range(2)]
    done = [await story.taken_over_by(ana) for story in stories]
    agent = await centre.agent("max")
    for story in stories:
        await agent.expect("takeover.notified", story.id)
    await agent.command("takeover.acknowledge", takeover_id=done[0]["takeover_id"])
    later = await centre.agent("max")
    await later.expect("takeover.notified", stories[1].id)
    await later.round_trip()
    assert later.of(stories[0].id) == []


async def test_the_draft_comes_back(centre: Centre) -> None:
    """What the agent was writing comes back in `returned_draft`; the supervisor doesn't see it."""
    ana, story = await monitoring(centre)
    agent = await centre.agent("max")
    assert await agent.command("draft.update", conversation_id=story.id, text="Dear Dana, I") == {}
    await confirm(ana, await story.prepared_by(ana))
    notice = await agent.expect("takeover.notified", story.id)
    assert notice["data"]["returned_draft"] == "Dear Dana, I"
    await ana.round_trip()
    assert "Dear Dana" not in "".join(ana.lines)


async def test_a_draft_is_in_ones_own_snapshot(centre: Centre) -> None:
    """`draft` of the snapshot is the agent's own text."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.command("draft.update", conversation_id=story.id, text="half a sent")
    again = await centre.agent("max")
    snapshot = await again.expect("conversation.snapshot", story.id)
    assert snapshot["data"]["draft"] == "half a sent"


async def test_a_send_after_the_takeover_is_refused_and_comes_back(centre: Centre) -> None:
    """`stale_owner` with the new owner, its epoch and the text as `draft`; the customer never sees it."""
    ana, story = await monitoring(centre)
    agent, customer = await centre.agent("max"), await centre.customer(story.id)
    platform = await centre.connector()
    ok = await confirm(ana, await story.prepared_by(ana))
    error = await agent.refused(
        "stale_owner", "message.send", conversation_id=story.id, text="too late", client_message_id="d_1"
    )
    wanted = {"owner": ok["participant_id"], "owner_epoch": ok["owner_epoch"], "draft": "too late"}
    assert error.details.items() >= wanted.items()
    await ana.command("message.send", conversation_id=story.id, text="marker", client_message_id="d_2")
    await customer.expect("message.created", story.id, text="marker")
    assert "too late" not in "".join(customer.lines + platform.socket.lines + ana.lines)


async def test_a_send_at_that_instant_is_before_the_mark_or_refused(centre: Centre) -> None:
    """Agent's sends racing with the confirmation: each is before the mark, or refused with its text."""
    ana, story = await monitoring(centre)
    agent, prepared = await centre.agent("max"), await story.prepared_by(ana)
    sends = []
    for number in range(30):
        sends.append(
            await agent.post(
                "message.send", conversation_id=story.id, text=f"s{number}", client_message_id=f"d_{number}"
            )
        )
        if number == 15:
            confirming = await ana.post(
                "takeover.confirm", takeover_id=prepared["takeover_id"], confirm_token=prepared["confirm_token"]
            )
    assert "ok" in await ana.answer(confirming)
    answers = [await agent.answer(number) for number in sends]
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert {error["code"] for error in refused} <= {"stale_owner"}
    entries = await centre.entries(story.id)
    mark = [entry["kind"] for entry in entries].index("takeover")
    said = {f"s{number}" for number, answer in enumerate(answers) if "ok" in answer}
    assert {entry["text"] for entry in entries[:mark] if entry["kind"] == "message"} == said
    assert [entry for entry in entries[mark:] if entry["kind"] == "message"] == []
    assert {error["details"]["draft"] for error in refused} == {f"s{number}" for number in range(30)} - said


async def test_agents_who_connect_later_do_not_own(centre: Centre) -> None:
    """After a takeover another agent may connect, but can't send; the supervisor still owns."""
    ana, story = await centre.supervisor(), await centre.story()
    ok = await story.taken_over_by(ana)
    await story.join("eva")
    agent = await centre.agent("eva")
    await agent.refused("stale_owner", "message.send", conversation_id=story.id, text="Hi", client_message_id="d_1")
    row = await centre.row(story.id)
    assert (row["owner"], row["owner_epoch"]) == (ok["participant_id"], ok["owner_epoch"])


async def test_the_customer_gets_no_notice(centre: Centre) -> None:
    """The customer sees `sender.changed` where the channel shows names, and nothing else of the takeover."""
    ana, story = await monitoring(centre)
    customer = await centre.customer(story.id)
    await customer.expect("conversation.snapshot", story.id)
    await confirm(ana, await story.prepared_by(ana))
    changed = await customer.expect("sender.changed", story.id)
    assert changed["data"] == {"name": "Ana Ortiz"}
    await ana.command("message.send", conversation_id=story.id, text="Hello", client_message_id="d_1")
    said = await customer.expect("message.created", story.id, text="Hello")
    assert said["data"]["sender"]["name"] == "Ana Ortiz"
    assert customer.names(story.id) == ["conversation.snapshot", "sender.changed", "message.created"]
    assert "takeover" not in "".join(customer.lines)


async def test_then_supervisor_and_customer_talk(centre: Centre) -> None:
    """The owner's sends are committed with an id, shown in order, and only the owner may send."""
    ana, story = await centre.supervisor(), await centre.story()
    bo = await centre.supervisor("bo")
    await story.taken_over_by(ana)
    ok = await ana.command("message.send", conversation_id=story.id, text="Hello", client_message_id="d_1")
    assert ok["message_id"].startswith("msg_")
    shown = (await ana.expect("message.created", story.id, text="Hello"))["data"]
    assert (shown["message_id"], shown["purpose"]) == (ok["message_id"], "supervisor")
    await story.monitored_by(bo)
    await bo.refused("stale_owner", "message.send", conversation_id=story.id, text="Me too", client_message_id="d_1")
    assert await ana.command("typing", conversation_id=story.id, on=True) == {}
    assert (await bo.expect("typing", story.id))["data"]["purpose"] == "supervisor"


async def test_a_monitor_can_neither_send_nor_end(centre: Centre) -> None:
    """Only monitoring: sending, typing and ending are refused with `stale_owner`, and nothing reaches anyone."""
    ana, story = await monitoring(centre)
    agent = await centre.agent("max")
    await ana.refused("stale_owner", "message.send", conversation_id=story.id, text="psst", client_message_id="d_1")
    await ana.refused("stale_owner", "typing", conversation_id=story.id, on=True)
    await ana.refused("stale_owner", "conversation.end", conversation_id=story.id)
    await story.fence(agent)
    assert agent.names(story.id) == ["conversation.snapshot", "panel.updated"]
    assert (await centre.row(story.id))["state"] == "active"


async def test_client_message_ids_are_once_per_conversation_and_user(centre: Centre) -> None:
    """The same `client_message_id` gets the first `ok` again and no second message."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.taken_over_by(ana)
    said: Json = {"conversation_id": story.id, "text": "Hello", "client_message_id": "d_1"}
    assert await ana.command("message.send", **said) == await ana.command("message.send", **said)
    texts = [entry["text"] for entry in await centre.entries(story.id) if entry["kind"] == "message"]
    assert texts == ["Hello"]


async def test_an_owning_supervisor_cannot_monitor_oneself(centre: Centre) -> None:
    """`monitor.start` on one's own conversation, with or without the participant: `already_done`."""
    ana, story = await centre.supervisor(), await centre.story()
    ok = await story.taken_over_by(ana)
    await ana.refused("already_done", "monitor.start", conversation_id=story.id)
    own = ok["participant_id"]
    await ana.refused("already_done", "monitor.start", conversation_id=story.id, participant_id=own)


async def test_a_supervisor_can_be_monitored_and_taken_over(centre: Centre) -> None:
    """A second takeover: the first supervisor is removed and told like an agent, and may acknowledge."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    first = await story.taken_over_by(ana)
    started = await story.monitored_by(bo)
    assert started["data"]["participant_id"] == first["participant_id"]
    second = await confirm(bo, await story.prepared_by(bo))
    assert second["owner_epoch"] == first["owner_epoch"] + 1
    notice = (await ana.expect("takeover.notified", story.id))["data"]
    assert (notice["takeover_id"], notice["supervisor"]["name"]) == (second["takeover_id"], "Bo Lind")
    gone = await ana.expect("participant.disconnected", story.id, where=about(first["participant_id"]))
    assert gone["data"]["disconnect_type"] == "takeover"
    assert await ana.command("takeover.acknowledge", takeover_id=second["takeover_id"]) == {}
    await ana.refused("stale_owner", "message.send", conversation_id=story.id, text="x", client_message_id="d_1")
    assert (await bo.expect("takeover.completed", story.id))["data"]["from"] == [first["participant_id"]]
    assert len((await centre.detail(story.id))["takeovers"]) == 2


async def test_a_first_supervisor_is_not_told_of_being_monitored(centre: Centre) -> None:
    """An owning supervisor's stream says nothing of a monitor at the own side."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.taken_over_by(ana)
    await story.fence(ana)
    before = len(ana.of(story.id))
    await story.monitored_by(bo)
    await story.fence(ana, bo)
    assert [event["event"] for event in ana.of(story.id)[before:]] == ["panel.updated"]


# Ending, transfer, wrap-up


async def test_the_supervisor_ends_it(centre: Centre) -> None:
    """`conversation.end` by the owner: everybody sees the end, without `participant.disconnected`."""
    ana, story = await centre.supervisor(), await centre.story()
    customer = await centre.customer(story.id)
    await customer.expect("conversation.snapshot", story.id)
    await story.taken_over_by(ana)
    await story.fence(ana)
    before = len(ana.of(story.id))
    assert await ana.command("conversation.end", conversation_id=story.id) == {}
    await ana.expect("conversation.ended", story.id)
    await customer.expect("conversation.ended", story.id)
    await ana.refused("conversation_ended", "conversation.end", conversation_id=story.id)
    await ana.refused("conversation_ended", "message.send", conversation_id=story.id, text="x", client_message_id="d_9")
    await ana.refused("conversation_ended", "typing", conversation_id=story.id, on=True)
    assert "participant.disconnected" not in [event["event"] for event in ana.of(story.id)[before:]]
    assert (await centre.row(story.id))["state"] == "ended"


async def test_a_transfer_ends_the_supervisors_part(centre: Centre) -> None:
    """After a transfer the supervisor is disconnected with `transfer`, doesn't own, and owes the wrap-up."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    ok = await story.taken_over_by(ana)
    await story.transfer("support")
    gone = await ana.expect("participant.disconnected", story.id, disconnect_type="transfer")
    assert gone["data"]["participant"]["participant_id"] == ok["participant_id"]
    requested = await ana.expect("wrapup.requested", story.id, participant_id=ok["participant_id"])
    assert requested["data"]["prompt"] == "mandatory"
    row = await centre.row(story.id)
    assert (row["owner"], row["state"], row["queue"]) == (None, "queued", "support")
    await ana.command("wrapup.submit", conversation_id=story.id, code="resolved")


async def test_a_transfer_gives_it_to_an_agent_who_connected_since(centre: Centre) -> None:
    """With an agent connected after the takeover, a transfer makes that one the owner."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.taken_over_by(ana)
    await story.join("eva")
    await story.transfer("survey")
    row = await centre.row(story.id)
    assert (row["owner"], row["state"]) == ("p_eva", "active")


async def request_of(line: Socket, story: Story, participant_id: str) -> Json:
    """The wrap-up that is asked of a participant."""
    return dict((await line.expect("wrapup.requested", story.id, participant_id=participant_id))["data"])


async def test_mandatory_wrapup_waits_for_the_submit(centre: Centre) -> None:
    """At the end the row is `wrapup`; another code is refused; the submit completes it and ends the conversation."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing", agents=())
    await story.join("max")
    agent = await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.end()
    asked = await request_of(agent, story, "p_max")
    assert {name: asked[name] for name in ("prompt", "codes", "timeout_ms")} == WRAPUPS["billing"]
    assert (await centre.row(story.id))["state"] == "wrapup"
    await agent.refused("schema_invalid", "wrapup.submit", conversation_id=story.id, code="nonsense")
    ok = await agent.command("wrapup.submit", conversation_id=story.id, code="resolved", notes="Refunded")
    assert ok == {}
    assert (await agent.expect("wrapup.completed", story.id))["data"]["code"] == "resolved"
    await agent.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")
    await centre.row_with(story.id, state="ended")
    await ana.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")


async def test_timeout_wrapup_ends_by_itself(centre: Centre) -> None:
    """`timeout`: after its time `wrapup.timed_out`, and the conversation is `ended`."""
    story = await centre.story(queue="quick")
    agent = await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.end()
    assert (await request_of(agent, story, "p_max"))["prompt"] == "timeout"
    await agent.expect("wrapup.timed_out", story.id, participant_id="p_max", timeout=6)
    await centre.row_with(story.id, state="ended")
    await agent.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")


async def test_timeout_wrapup_may_be_submitted_before(centre: Centre) -> None:
    """`timeout`: a submit in time completes it, and no time-out follows."""
    story = await centre.story(queue="quick")
    agent = await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.end()
    await request_of(agent, story, "p_max")
    await agent.command("wrapup.submit", conversation_id=story.id, code="follow-up")
    await agent.expect("wrapup.completed", story.id, code="follow-up")
    await centre.row_with(story.id, state="ended")


async def test_optional_wrapup_ends_unasked(centre: Centre) -> None:
    """`optional`: may be submitted; left alone it ends after its timeout without `wrapup.timed_out`."""
    one, two = await centre.story(queue="survey"), await centre.story(queue="survey")
    agent = await centre.agent("max")
    for story in (one, two):
        await agent.expect("conversation.snapshot", story.id)
    for story in (one, two):
        await story.end()
    await agent.command("wrapup.submit", conversation_id=one.id, code="resolved")
    await agent.expect("wrapup.completed", one.id)
    await centre.row_with(two.id, state="ended")
    await agent.round_trip()
    assert agent.of(two.id, "wrapup.timed_out") == []


async def test_no_wrapup_where_none_is_configured(centre: Centre) -> None:
    """`none`: nothing is requested, the conversation is `ended` at once."""
    story, agent = await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.end()
    await agent.expect("conversation.ended", story.id)
    assert (await centre.row(story.id))["state"] == "ended"
    await agent.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")
    assert agent.of(story.id, "wrapup.requested") == []


async def test_each_removed_agent_owes_wrapup(centre: Centre) -> None:
    """Two agents are removed from a mandatory queue: each is asked, each submits alone, the state stays `active`."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"), queue="billing")
    lines = {user: await centre.agent(user) for user in ("max", "eva")}
    await story.taken_over_by(ana, participant_id="p_max")
    for user, line in lines.items():
        await request_of(line, story, f"p_{user}")
        assert line.of(story.id, "wrapup.requested")[0].get("cursor") is None
    await lines["max"].command("wrapup.submit", conversation_id=story.id, code="resolved")
    await lines["max"].expect("wrapup.completed", story.id, participant_id="p_max")
    assert (await centre.row(story.id))["state"] == "active"
    await ana.command("conversation.end", conversation_id=story.id)
    await ana.command("wrapup.submit", conversation_id=story.id, code="resolved")
    await centre.row_with(story.id, state="ended")
    assert await lines["eva"].command("wrapup.submit", conversation_id=story.id, code="follow-up") == {}


async def test_open_wrapup_is_shown_on_a_new_session(centre: Centre) -> None:
    """An agent who was away learns of the notice and can submit at the next connect."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    await story.taken_over_by(ana)
    agent = await centre.agent("max")
    assert (await agent.expect("takeover.notified", story.id))["data"]["wrapup"]["required"] is True
    assert await agent.command("wrapup.submit", conversation_id=story.id, code="resolved") == {}


async def test_supervisor_wrapup_keeps_the_conversation_open(centre: Centre) -> None:
    """The supervisor who took over owes wrap-up at the end: `wrapup` until submitted, then `ended`."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    ok = await story.taken_over_by(ana)
    view = await View.open(ana, "interactions")
    await ana.command("conversation.end", conversation_id=story.id)
    await request_of(ana, story, ok["participant_id"])
    await view.row(story.id, state="wrapup")
    await ana.command("wrapup.submit", conversation_id=story.id, code="resolved")
    await view.without(story.id)


async def test_the_platform_ends_what_a_supervisor_owns(centre: Centre) -> None:
    """After a takeover the platform can still end the conversation; the supervisor is told and owes wrap-up."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    ok = await story.taken_over_by(ana)
    await story.end("customer left")
    assert (await ana.expect("conversation.ended", story.id))["data"]["reason"] == "customer left"
    await request_of(ana, story, ok["participant_id"])


async def test_takeover_in_another_status_works(centre: Centre) -> None:
    """Available is needed to start a monitor, not to take over what one monitors."""
    ana, story = await monitoring(centre)
    await ana.command("status.set", status="busy")
    await confirm(ana, await story.prepared_by(ana))


async def test_another_joined_tab_may_confirm(centre: Centre) -> None:
    """The lock is the person's: what one tab prepared, another joined tab of the same person confirms."""
    ana, story = await monitoring(centre)
    other = await centre.supervisor()
    await story.monitored_by(other)
    await confirm(other, await story.prepared_by(ana))
    await ana.expect("monitor.ended", story.id, reason="taken_over")


# Who owes what, who may what


async def test_an_owner_who_leaves_owes_wrapup(centre: Centre) -> None:
    """The platform disconnects the owning agent: it is asked, the conversation goes on as `queued`."""
    story, agent = await centre.story(queue="billing"), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.leave("max")
    assert (await request_of(agent, story, "p_max"))["prompt"] == "mandatory"
    assert (await centre.row(story.id))["state"] == "queued"
    assert await agent.command("wrapup.submit", conversation_id=story.id, code="resolved") == {}


async def test_one_who_never_owned_owes_nothing(centre: Centre) -> None:
    """A second agent who leaves, or is there at the end, is asked nothing."""
    story = await centre.story(queue="billing", agents=("max", "eva"))
    agent = await centre.agent("eva")
    await agent.expect("conversation.snapshot", story.id)
    await story.leave("eva")
    await agent.expect("participant.disconnected", story.id)
    await agent.round_trip()
    assert agent.of(story.id, "wrapup.requested") == []
    await agent.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved")


async def test_a_bystander_at_the_end_owes_nothing(centre: Centre) -> None:
    """At the end the owner is asked alone."""
    story = await centre.story(queue="billing", agents=("max", "eva"))
    owner, other = await centre.agent("max"), await centre.agent("eva")
    await other.expect("conversation.snapshot", story.id)
    await story.end()
    await request_of(owner, story, "p_max")
    await other.expect("conversation.ended", story.id)
    await other.round_trip()
    assert other.of(story.id, "wrapup.requested") == []


async def test_the_last_owners_wrapup_keeps_it_open(centre: Centre) -> None:
    """The owner left before the end and still owes: after the end the state is `wrapup` until that is done."""
    story, agent = await centre.story(queue="billing"), await centre.agent("max")
    await story.leave("max")
    await request_of(agent, story, "p_max")
    await story.end()
    assert (await centre.row(story.id))["state"] == "wrapup"
    await agent.command("wrapup.submit", conversation_id=story.id, code="resolved")
    await centre.row_with(story.id, state="ended")


async def test_a_supervisor_who_is_taken_over_owes_wrapup(centre: Centre) -> None:
    """A second takeover asks the first supervisor, in the notice and by `wrapup.requested`."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story(queue="billing")
    first = await story.taken_over_by(ana)
    await story.taken_over_by(bo)
    await request_of(ana, story, first["participant_id"])
    assert (await ana.expect("takeover.notified", story.id))["data"]["wrapup"]["required"] is True
    assert await ana.command("wrapup.submit", conversation_id=story.id, code="resolved") == {}
    assert (await centre.row(story.id))["state"] == "active"


async def test_a_second_takeover_removes_who_connected_since(centre: Centre) -> None:
    """An agent beside the owning supervisor is removed, too; both are candidates before."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    first = await story.taken_over_by(ana)
    await story.join("eva")
    error = await bo.refused("target_ambiguous", "monitor.start", conversation_id=story.id)
    purposes = {candidate["participant_id"]: candidate["purpose"] for candidate in error.details["candidates"]}
    assert purposes == {first["participant_id"]: "supervisor", "p_eva": "agent"}
    await story.monitored_by(bo, participant_id=first["participant_id"])
    prepared = await story.prepared_by(bo)
    removed = {gone["participant_id"] for gone in prepared["consequences"]["removed"]}
    assert removed == {first["participant_id"], "p_eva"}
    second = await confirm(bo, prepared)
    assert (await centre.row(story.id))["owner"] == second["participant_id"]
    assert [agent["user_id"] for agent in (await centre.row(story.id))["agents"]] == ["bo"]


async def test_the_customer_is_no_target(centre: Centre) -> None:
    """The customer can't be named as the one at whose side to monitor."""
    ana, story = await centre.supervisor(), await centre.story()
    detail = await centre.detail(story.id)
    ids = [person["participant_id"] for person in detail["participants"] if person["purpose"] == "customer"]
    for participant_id in ids:
        error = await ana.refused(
            "target_ambiguous", "monitor.start", conversation_id=story.id, participant_id=participant_id
        )
        assert [candidate["participant_id"] for candidate in error.details["candidates"]] == ["p_max"]


@pytest.mark.parametrize(
    ("cmd", "arguments"),
    [
        ("message.send", {"text": "mine", "client_message_id": "d_1"}),
        ("typing", {"on": True}),
        ("conversation.end", {}),
    ],
)
async def test_only_the_owner_answers(centre: Centre, cmd: str, arguments: Json) -> None:
    """A second agent gets `stale_owner` with owner and epoch; an agent never in it gets `unknown_conversation`."""
    story = await centre.story(agents=("max", "eva"))
    second, stranger = await centre.agent("eva"), await centre.agent("zoe")
    error = await second.refused("stale_owner", cmd, conversation_id=story.id, **arguments)
    assert (error.details["owner"], error.details["owner_epoch"]) == ("p_max", 1)
    assert ("draft" in error.details) is (cmd == "message.send")
    await stranger.refused("unknown_conversation", cmd, conversation_id=story.id, **arguments)
    assert (await centre.row(story.id))["state"] == "active"


async def test_owner_epochs_begin_at_one(centre: Centre) -> None:
    """`owner_epoch` counts changes of owner and nothing else: from none to one, to the next, to none."""
    story = await centre.story(agents=())
    epochs = [(await centre.row(story.id))["owner_epoch"]]
    for step in (
        story.join("max"),
        story.join("eva"),
        story.leave("eva"),
        story.transfer("survey"),
        story.leave("max"),
    ):
        await step
        epochs.append((await centre.row(story.id))["owner_epoch"])
    assert epochs == [0, 1, 1, 1, 1, 2]
