"""Views: issue, lines 1, 3 and 6; protocol, section 3."""

import json
from typing import Any

import pytest

from tests.support.centre import Centre, confirm
from tests.support.view import View

ROW = {
    "conversation_id", "channel", "queue", "division", "state", "subject", "customer", "agents", "owner", "owner_epoch",
    "owner_away", "monitor", "taken_over", "awaiting", "awaiting_since", "started_at", "messages",
}  # fmt: skip


async def test_an_empty_view_has_a_snapshot_too(centre: Centre) -> None:
    """The snapshot comes after the `ok`, also when there is nothing in it."""
    ana = await centre.supervisor()
    view = await View.open(ana, "interactions")
    assert [(part["rows"], part["more"]) for part in view.parts] == [([], False)]
    answer = next(n for n, line in enumerate(ana.lines) if '"subscription"' in line and '"ok"' in line)
    snapshot = next(n for n, line in enumerate(ana.lines) if "view.snapshot" in line)
    assert answer < snapshot


async def test_the_row_of_a_conversation(centre: Centre) -> None:
    """An `interactions` row has every field with its literal content."""
    story = await centre.story(subject="Refund")
    view = await View.open(await centre.supervisor(), "interactions")
    row = view.rows[story.id]
    assert row.keys() >= ROW
    wanted = {
        "channel": "web", "queue": "support", "division": "home", "state": "active", "subject": "Refund",
        "customer": {"id": "cus_7", "name": "Dana"}, "owner": "p_max", "monitor": None, "awaiting": None, "messages": 0,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert not row["taken_over"]
    assert not row["owner_away"]
    [agent] = row["agents"]
    assert (
        agent.items() >= {"participant_id": "p_max", "user_id": "max", "name": "Max Weber", "purpose": "agent"}.items()
    )
    assert "state" in agent


async def test_changes_follow_in_order(centre: Centre) -> None:
    """A row goes through queued, active, queued and is removed at the end, in this order."""
    view = await View.open(await centre.supervisor(), "interactions")
    story = await centre.story(agents=())
    await view.row(story.id, state="queued")
    await story.join("max")
    await view.row(story.id, state="active", owner="p_max")
    await story.leave("max")
    await view.row(story.id, state="queued", owner=None)
    await story.end()
    await view.without(story.id)
    assert story.id in view.removed


async def test_awaiting_says_whose_turn_it_is(centre: Centre) -> None:
    """`awaiting` is `agent` after the customer wrote, `customer` after the answer; `messages` counts as of then."""
    view = await View.open(await centre.supervisor(), "interactions")
    story = await centre.story()
    await story.customer_says("Hello?")
    asked = await view.row(story.id, awaiting="agent", messages=1)
    assert isinstance(asked["awaiting_since"], int)
    await story.customer_says("Anybody?")
    await story.agent_says("Here")
    await view.row(story.id, awaiting="customer", messages=3)


async def test_a_monitor_stands_in_everybodys_row_at_once(centre: Centre) -> None:
    """Each supervisor's row shows the holder, its participant and since; it is free again when the monitor ends."""
    story, ana, bo = await centre.story(), await centre.supervisor("ana"), await centre.supervisor("bo")
    views = [await View.open(line, "interactions") for line in (ana, bo)]
    await story.monitored_by(ana)
    for view in views:
        rows = await view.until(lambda rows: rows[story.id]["monitor"] is not None)
        monitor = rows[story.id]["monitor"]
        assert (monitor["user_id"], monitor["name"], monitor["participant_id"]) == ("ana", "Ana Ortiz", "p_max")
        assert isinstance(monitor["since"], int)
    await ana.command("monitor.stop", conversation_id=story.id)
    for view in views:
        await view.row(story.id, monitor=None)


async def test_a_takeover_stands_in_the_row(centre: Centre) -> None:
    """After a takeover the row has the supervisor as owner, a higher epoch, `taken_over`, and no monitor."""
    story, ana = await centre.story(), await centre.supervisor()
    view = await View.open(ana, "interactions")
    ok = await story.taken_over_by(ana)
    row = await view.row(story.id, owner=ok["participant_id"], owner_epoch=ok["owner_epoch"], monitor=None)
    assert row["taken_over"]
    assert row["state"] == "active"
    assert [agent["purpose"] for agent in row["agents"]] == ["supervisor"]


@pytest.mark.parametrize(
    ("rights", "sees"),
    [
        ({"queues": ("support",), "divisions": ("*",)}, {"s_home"}),
        ({"queues": ("*",), "divisions": ("home",)}, {"s_home", "b_home"}),
        ({"queues": ("abroad",), "divisions": ("away",)}, {"a_away"}),
        ({"queues": ("support",), "divisions": ("away",)}, set()),
        ({"queues": (), "divisions": ("*",)}, set()),
        ({"queues": ("*",), "divisions": ()}, set()),
        ({"queues": ("*",), "divisions": ("*",)}, {"s_home", "b_home", "a_away"}),
    ],
)
async def test_only_own_queues_and_divisions(centre: Centre, rights: dict[str, Any], sees: set[str]) -> None:
    """Rows are only those whose queue and division are in the token, in the snapshot and in changes."""
    before = await View.open(await centre.supervisor("ana", **rights), "interactions")
    await centre.story("s_home", queue="support")
    await centre.story("b_home", queue="billing")
    await centre.story("a_away", queue="abroad", division="away")
    witness = await View.open(await centre.supervisor("bo"), "interactions")
    after = await View.open(before.socket, "interactions")
    assert set(witness.rows) == {"s_home", "b_home", "a_away"}
    assert set(after.rows) == sees
    await before.until(lambda rows: set(rows) == sees)
    assert {row["conversation_id"] for event in before.events for row in event["data"]["rows"]} == sees


async def test_a_transfer_out_of_sight_removes_the_row(centre: Centre) -> None:
    """A conversation that is transferred out of the token's queues is `removed`, one transferred in appears."""
    view = await View.open(await centre.supervisor(queues=("support",)), "interactions")
    story = await centre.story()
    await view.row(story.id)
    await story.transfer("billing")
    await view.without(story.id)
    assert "billing" not in json.dumps([event["data"]["rows"] for event in view.events])
    await story.transfer("support")
    await view.row(story.id, queue="support")


@pytest.mark.parametrize(
    ("chosen", "sees"),
    [
        ({"queues": ["support"]}, {"one"}),
        ({"queues": ["support", "billing"]}, {"one", "two"}),
        ({"channels": ["sms"]}, {"two"}),
        ({"agent": "eva"}, {"two"}),
        ({"state": "queued"}, {"three"}),
        ({"state": "active"}, {"one", "two"}),
        ({"text": "pineapple"}, {"one"}),
        ({"queues": ["support"], "channels": ["sms"]}, set()),
    ],
)
async def test_filters(centre: Centre, chosen: dict[str, Any], sees: set[str]) -> None:
    """Each filter leaves exactly what it names; several must all hold."""
    await centre.story("one", subject="A pineapple", queue="support", channel="web", agents=("max",))
    await centre.story("two", subject="Refund", queue="billing", channel="sms", agents=("eva",))
    await centre.story("three", subject="Refund", queue="survey", channel="open", agents=())
    view = await View.open(await centre.supervisor(), "interactions", filter=chosen)
    assert set(view.rows) == sees


async def test_what_leaves_the_filter_is_removed_and_what_enters_appears(centre: Centre) -> None:
    """A filter holds for changes, too."""
    view = await View.open(await centre.supervisor(), "interactions", filter={"state": "queued"})
    story = await centre.story(agents=())
    await view.row(story.id)
    await story.join("max")
    await view.without(story.id)
    await story.leave("max")
    await view.row(story.id, state="queued")


async def test_ended_conversations_only_where_asked_for(centre: Centre) -> None:
    """What is ended is in no view unless `filter.state` asks for it."""
    story = await centre.story()
    await story.end()
    ana = await centre.supervisor()
    assert (await View.open(ana, "interactions")).rows == {}
    assert set((await View.open(ana, "interactions", filter={"state": "ended"})).rows) == {story.id}


async def test_parts_of_at_most_500_rows(centre: Centre) -> None:
    """1,100 conversations come in parts of at most 500; only the last says `more: false`; none is missing."""
    p, customer = centre.platform, {"id": "cus_7", "name": "Dana"}
    for start in (0, 550):
        names = [f"c_{n}" for n in range(start, start + 550)]
        await p.accepted(
            *(p.event("conversation.started", n, channel="web", queue="support", customer=customer) for n in names)
        )
    view = await View.open(await centre.supervisor(), "interactions")
    assert set(view.rows) == {f"c_{n}" for n in range(1100)}
    assert max(len(part["rows"]) for part in view.parts) <= 500
    assert [part["more"] for part in view.parts] == [True] * (len(view.parts) - 1) + [False]


async def test_limit(centre: Centre) -> None:
    """`limit` bounds the rows."""
    for _ in range(4):
        await centre.story()
    assert len((await View.open(await centre.supervisor(), "interactions", limit=3)).rows) == 3


async def test_unsubscribed_views_are_silent(centre: Centre) -> None:
    """After `view.unsubscribe` nothing comes of it; another subscription of the same socket goes on."""
    ana = await centre.supervisor()
    gone, stays = await View.open(ana, "interactions"), await View.open(ana, "interactions")
    assert gone.subscription != stays.subscription
    assert await ana.command("view.unsubscribe", subscription=gone.subscription) == {}
    story = await centre.story()
    await stays.row(story.id)
    assert story.id not in gone.rows


async def test_queues_wait_and_interact(centre: Centre) -> None:
    """A queue's row counts waiting and interacting, names what interacts, and says since when the longest waits."""
    view = await View.open(await centre.supervisor(), "queues")
    story = await centre.story(agents=())
    row = await view.row("support", waiting=1, interacting=0)
    assert row["name"] == "Support"
    assert isinstance(row["longest_wait_since"], int)
    await story.join("max")
    row = await view.row("support", waiting=0, interacting=1)
    assert row["longest_wait_since"] is None
    [known] = row["interacting_conversations"]
    assert story.id in json.dumps(known)


async def test_queues_show_only_own(centre: Centre) -> None:
    """Queues outside the token aren't counted and aren't named."""
    view = await View.open(await centre.supervisor(queues=("support",)), "queues")
    await centre.story(queue="billing")
    await centre.story(queue="support")
    await view.row("support", interacting=1)
    assert set(view.rows) == {"support"}


async def test_on_queue_agents_with_their_conversations(centre: Centre) -> None:
    """`on_queue_agents` are those whose status is `on_queue` with the queue in the token, with their conversations."""
    view = await View.open(await centre.supervisor(), "queues")
    story = await centre.story()
    max_, eva = await centre.agent("max", queues=("support",)), await centre.agent("eva", queues=("billing",))
    for line in (eva, max_):
        await line.command("status.set", status="on_queue")
    wanted = {"user_id": "max", "name": "Max Weber", "status": "on_queue", "conversations": [story.id]}
    rows = await view.until(lambda rows: "support" in rows and rows["support"]["on_queue_agents"] != [])
    assert rows["support"]["on_queue_agents"] == [wanted]
    await max_.command("status.set", status="busy")
    await view.row("support", on_queue_agents=[])


async def test_agents_with_status_and_conversations(centre: Centre) -> None:
    """`agents` shows who isn't offline or has a conversation, with status, since, and the conversations' ids."""
    view = await View.open(await centre.supervisor(), "agents")
    max_ = await centre.agent("max")
    await max_.command("status.set", status="on_queue")
    row = await view.row("max", status="on_queue", conversations=[])
    assert (row["name"], type(row["status_since"])) == ("Max Weber", int)
    story = await centre.story()
    await view.row("max", conversations=[story.id])
    await story.end()
    await view.row("max", conversations=[])
    await max_.command("status.set", status="offline")
    await view.without("max")


async def test_agents_share_a_queue_and_a_division(centre: Centre) -> None:
    """An agent whose token shares no queue, or no division, with the viewer's isn't shown; supervisors never are."""
    view = await View.open(await centre.supervisor(queues=("support",), divisions=("home",)), "agents")
    tokens: dict[str, Any] = {
        "q": {"queues": ("billing",), "divisions": ("home",)},
        "d": {"queues": ("support",), "divisions": ("away",)},
        "both": {"queues": ("support", "billing"), "divisions": ("home", "away")},
        "all": {"queues": ("*",), "divisions": ("*",)},
    }
    for user, rights in tokens.items():
        await (await centre.agent(user, **rights)).command("status.set", status="on_queue")
    await view.until(lambda rows: {"both", "all"} <= set(rows))
    assert set(view.rows) == {"both", "all"}


async def test_conversations_of_agents_are_those_the_viewer_may_see(centre: Centre) -> None:
    """Ids of conversations outside the viewer's queues are left out."""
    await (await centre.agent("max")).command("status.set", status="on_queue")
    seen, _ = await centre.story("seen", queue="support"), await centre.story("unseen", queue="billing")
    view = await View.open(await centre.supervisor(queues=("support",)), "agents")
    await view.row("max", conversations=[seen.id])
    assert "unseen" not in "".join(view.socket.lines)


@pytest.mark.parametrize(
    "status", ["available", "busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline"]
)
async def test_statuses(centre: Centre, status: str) -> None:
    """Each status can be set and is what the next hello says."""
    max_ = await centre.agent("max")
    assert await max_.command("status.set", status=status) == {}
    assert (await centre.agent("max")).session["status"] == status


async def test_status_lives_with_the_person(centre: Centre) -> None:
    """It is `offline` at first, and comes back with the next hello after the last socket has gone."""
    ana = await centre.supervisor(status=None)
    assert ana.session["status"] == "offline"
    await ana.command("status.set", status="meal")
    await ana.close(1000)
    assert (await centre.supervisor(status=None)).session["status"] == "meal"


async def test_unknown_status_is_refused(centre: Centre) -> None:
    """Another word is `schema_invalid` and changes nothing."""
    ana = await centre.supervisor()
    await ana.refused("schema_invalid", "status.set", status="idle")
    assert (await centre.supervisor(status=None)).session["status"] == "available"


async def test_roster_has_the_monitored_apart_from_own(centre: Centre) -> None:
    """A monitored conversation stands in the own roster as `monitored`, after a takeover as `own`, then no more."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    mine, theirs = await View.open(ana, "roster"), await View.open(bo, "roster")
    await story.monitored_by(ana)
    assert isinstance((await mine.row(story.id, kind="monitored"))["since"], int)
    await confirm(ana, await story.prepared_by(ana))
    await mine.row(story.id, kind="own")
    await ana.command("conversation.end", conversation_id=story.id)
    await mine.without(story.id)
    await bo.round_trip()
    assert theirs.rows == {}


async def test_an_agents_roster(centre: Centre) -> None:
    """An agent may subscribe to the roster only, and it has the own conversations."""
    max_, story = await centre.agent("max"), await centre.story()
    roster = await View.open(max_, "roster")
    await roster.row(story.id, kind="own")
    for view in ("interactions", "queues", "agents"):
        number = await max_.post("view.subscribe", view=view)
        assert (await max_.answer(number))["error"]["code"] in {"schema_invalid", "not_permitted"}


async def test_views_need_the_permission(centre: Centre) -> None:
    """Without `view` a subscription is `not_permitted`."""
    ana = await centre.supervisor(permissions=("monitor",))
    for view in ("interactions", "queues", "agents"):
        await ana.refused("not_permitted", "view.subscribe", view=view)


@pytest.mark.parametrize(
    "arguments",
    [
        {"view": "everything"},
        {},
        {"view": "interactions", "filter": []},
        {"view": "interactions", "filter": {"colour": "red"}},
        {"view": "interactions", "filter": {"queues": "support"}},
        {"view": "interactions", "filter": {"channels": [1]}},
        {"view": "interactions", "limit": -1},
        {"view": "interactions", "limit": "3"},
        {"view": "interactions", "colour": "red"},
    ],
)
async def test_subscriptions_of_another_form_are_refused(centre: Centre, arguments: dict[str, Any]) -> None:
    """An unknown view, filter or field and a wrong type are `schema_invalid` with a path; the socket stays."""
    ana = await centre.supervisor()
    error = await ana.refused("schema_invalid", "view.subscribe", **arguments)
    assert isinstance(error.details["path"], str)
    await ana.round_trip()


async def test_other_organizations_are_invisible(centre: Centre) -> None:
    """No view shows a conversation or a person of another organization."""
    other = Centre(centre.hub)
    views = [await View.open(await centre.supervisor(), view) for view in ("interactions", "queues", "agents")]
    await (await other.agent("max")).command("status.set", status="on_queue")
    story = await other.story("cnv_theirs")
    await (await View.open(await other.supervisor(), "interactions")).row(story.id)
    await centre.story("cnv_ours")
    await views[0].row("cnv_ours")
    await views[1].row("support", interacting=1)
    assert set(views[0].rows) == {"cnv_ours"}
    assert views[2].rows.get("max", {"conversations": ["cnv_ours"]})["conversations"] == ["cnv_ours"]
    await other.close()


async def test_an_offline_agent_with_a_conversation_is_shown(centre: Centre) -> None:
    """An agent whose status is `offline` stays in the view as long as there is a conversation."""
    view = await View.open(await centre.supervisor(), "agents")
    agent, story = await centre.agent("max"), await centre.story()
    await agent.command("status.set", status="on_queue")
    await agent.command("status.set", status="offline")
    await view.row("max", status="offline", conversations=[story.id])
    await story.end()
    await view.without("max")


async def test_views_of_different_supervisors_differ_by_their_rights(centre: Centre) -> None:
    """The same change reaches each view as far as its owner may see it, at the same time."""
    both = [await centre.supervisor("ana", queues=("support",)), await centre.supervisor("bo", queues=("billing",))]
    views = [await View.open(line, "interactions") for line in both]
    support, billing = await centre.story(queue="support"), await centre.story(queue="billing")
    await views[0].row(support.id)
    await views[1].row(billing.id)
    await support.transfer("billing")
    await views[1].row(support.id)
    await views[0].without(support.id)
    assert set(views[0].rows) == set()
    assert billing.id not in "".join(both[0].lines)
