"""Afterwards: detail, transcript, timeline, list: issue, "Afterwards"; protocol, section 6."""

from typing import Any

import pytest

from tests.support.centre import Centre, Story, confirm
from tests.support.socket import Json, Socket

ROUTES = ("", "/transcript", "/timeline")


async def told(centre: Centre) -> tuple[Socket, Story, Json]:
    """A conversation that ana monitored twice and took over, whose wrap-ups are done, and which has ended."""
    ana, story = await centre.supervisor(), await centre.story(queue="billing")
    await story.customer_says("Where is my refund?")
    await story.monitored_by(ana)
    await ana.command("monitor.stop", conversation_id=story.id)
    ok = await story.taken_over_by(ana)
    await ana.command("message.send", conversation_id=story.id, text="Ana here", client_message_id="d_1")
    agent = await centre.agent("max")
    await agent.command("wrapup.submit", conversation_id=story.id, code="follow-up")
    await ana.command("conversation.end", conversation_id=story.id)
    await ana.command("wrapup.submit", conversation_id=story.id, code="resolved", notes="Paid")
    await centre.row_with(story.id, state="ended")
    return ana, story, ok


async def test_detail_tells_the_whole_story(centre: Centre) -> None:
    """Row, participants, metrics, who monitored from when to when and why it ended, takeovers, wrap-ups."""
    _, story, ok = await told(centre)
    detail = await centre.detail(story.id)
    assert detail.keys() >= {"conversation", "participants", "metrics", "monitors", "takeovers", "wrapups"}
    assert (detail["conversation"]["conversation_id"], detail["conversation"]["state"]) == (story.id, "ended")
    assert {person.get("user_id") for person in detail["participants"]} >= {"max", "ana"}
    metrics = detail["metrics"]
    assert (metrics["messages"], metrics["n_monitor"], metrics["n_takeover"]) == (2, 2, 1)
    assert metrics["duration_ms"] >= metrics["monitoring_ms"] >= 0
    monitors = detail["monitors"]
    assert [set(monitor) >= {"user_id", "name", "from", "to", "reason"} for monitor in monitors] == [True, True]
    assert [(monitor["user_id"], monitor["name"], monitor["reason"]) for monitor in monitors] == [
        ("ana", "Ana Ortiz", "stopped"),
        ("ana", "Ana Ortiz", "taken_over"),
    ]
    assert all(monitor["from"] <= monitor["to"] for monitor in monitors)
    assert monitors[0]["to"] <= monitors[1]["from"]
    [takeover] = detail["takeovers"]
    assert ok["takeover_id"] in str(takeover)
    assert len(detail["wrapups"]) == 2
    assert {wrapup["code"] for wrapup in detail["wrapups"]} == {"follow-up", "resolved"}


async def test_detail_while_it_runs(centre: Centre) -> None:
    """A running monitor has no end and no reason yet."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    [monitor] = (await centre.detail(story.id))["monitors"]
    assert (monitor["user_id"], monitor["to"], monitor["reason"]) == ("ana", None, None)


async def test_transcript_has_messages_and_marks_in_order(centre: Centre) -> None:
    """Entries have kind, at, offset and the event's fields; offsets rise; the takeover is between the messages."""
    _, story, ok = await told(centre)
    entries = await centre.entries(story.id)
    assert [entry["kind"] for entry in entries] == ["message", "takeover", "message"]
    assert [entries[0]["text"], entries[2]["text"]] == ["Where is my refund?", "Ana here"]
    mark = entries[1]
    assert (mark["takeover_id"], mark["from"], mark["to"]) == (ok["takeover_id"], ["p_max"], ok["participant_id"])
    offsets = [entry["offset"] for entry in entries]
    assert offsets == sorted(set(offsets))
    assert all(isinstance(entry["at"], int) for entry in entries)


async def test_transcript_has_transfers(centre: Centre) -> None:
    """A transfer is a mark of kind `transfer`."""
    story = await centre.story()
    await story.customer_says("one")
    await story.transfer("billing")
    entries = await centre.entries(story.id)
    assert [entry["kind"] for entry in entries] == ["message", "transfer"]
    assert entries[1]["queue"] == "billing"


async def test_transcript_goes_back_page_by_page(centre: Centre) -> None:
    """`before` gives older entries, without gap or overlap, down to the first."""
    story = await centre.story()
    event = [story.event("message.created", message_id=f"m_{n}", text=str(n), purpose="customer") for n in range(230)]
    await centre.platform.accepted(*event)
    entries = await centre.entries(story.id)
    while older := await centre.entries(story.id, before=entries[0]["offset"]):
        assert older[-1]["offset"] < entries[0]["offset"]
        entries = older + entries
    assert [entry["text"] for entry in entries if entry["kind"] == "message"] == [str(n) for n in range(230)]


async def test_nothing_is_before_the_first_entry(centre: Centre) -> None:
    """`before=0` is a whole number, and there is nothing older: an empty page, as behind the last one."""
    story = await centre.story()
    await story.customer_says("Hello")
    assert await centre.entries(story.id, before=0) == []
    assert await centre.entries(story.id, before=1) == []


@pytest.mark.parametrize("before", ["x", "-1", "1.5", ""])
async def test_a_bad_before_is_a_400(centre: Centre, before: str) -> None:
    """`before` is an offset; something else is `schema_invalid`."""
    story = await centre.story()
    answer = await centre.get(f"/v1/conversations/{story.id}/transcript", before=before)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "schema_invalid")


async def test_timeline_has_one_segment_each(centre: Centre) -> None:
    """`interact` for each participant, one `monitoring` each, one `wrapup` each, with start, end and disconnect."""
    _, story, ok = await told(centre)
    segments = await centre.segments(story.id)
    assert all(
        segment.keys() >= {"kind", "participant_id", "user", "start", "end", "disconnect_type"} for segment in segments
    )
    assert all(segment["start"] <= segment["end"] for segment in segments)
    interact = {segment["participant_id"]: segment for segment in segments if segment["kind"] == "interact"}
    assert interact["p_max"]["disconnect_type"] == "takeover"
    assert ok["participant_id"] in interact
    assert len([segment for segment in segments if segment["kind"] == "monitoring"]) == 2
    assert {segment["participant_id"] for segment in segments if segment["kind"] == "wrapup"} == {
        "p_max",
        ok["participant_id"],
    }


async def test_an_open_segment_has_no_end(centre: Centre) -> None:
    """While it runs, a segment's `end` is null."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    [monitoring] = await centre.segments(story.id, "monitoring")
    assert monitoring["end"] is None
    await ana.command("monitor.stop", conversation_id=story.id)
    [monitoring] = await centre.segments(story.id, "monitoring")
    assert monitoring["end"] >= monitoring["start"]


async def listed(centre: Centre, **filters: Any) -> set[str]:
    """Ids of every page of a list."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        answer = await centre.get("/v1/conversations", **(filters | ({"cursor": cursor} if cursor else {})))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert set(body) == {"conversations", "cursor"}
        ids += [row["conversation_id"] for row in body["conversations"]]
        cursor = body["cursor"]
        if cursor is None:
            break
    assert len(ids) == len(set(ids))
    return set(ids)


async def test_list_filters(centre: Centre) -> None:
    """Each filter of the list leaves exactly what it names, for running and ended conversations."""
    ana, bo = await centre.supervisor(), await centre.supervisor("bo")
    taken, watched = await centre.story("taken"), await centre.story("watched", agents=("eva",), channel="sms")
    await centre.story("plain", queue="billing", agents=())
    await taken.taken_over_by(ana)
    await watched.monitored_by(bo)
    await bo.command("monitor.stop", conversation_id="watched")
    await ana.command("conversation.end", conversation_id="taken")
    await centre.row_with("taken", state="ended")
    assert await listed(centre) == {"taken", "watched", "plain"}
    assert await listed(centre, state="ended") == {"taken"}
    assert await listed(centre, state="queued") == {"plain"}
    assert await listed(centre, queue="billing") == {"plain"}
    assert await listed(centre, channel="sms") == {"watched"}
    assert await listed(centre, agent="eva") == {"watched"}
    assert await listed(centre, monitored_by="ana") == {"taken"}
    assert await listed(centre, monitored_by="bo") == {"watched"}
    assert await listed(centre, taken_over="true") == {"taken"}
    assert await listed(centre, taken_over="false") == {"watched", "plain"}


async def test_list_by_time(centre: Centre) -> None:
    """`since` and `until` bound by time in milliseconds."""
    await centre.story("one")
    started = (await centre.row("one"))["started_at"]
    assert await listed(centre, since=started - 60_000) == {"one"}
    assert await listed(centre, until=started + 60_000) == {"one"}
    assert await listed(centre, since=started + 60_000) == set()
    assert await listed(centre, until=started - 60_000) == set()


async def test_list_comes_in_pages(centre: Centre) -> None:
    """More conversations than a page are reached by `cursor`, each once; the last page's cursor is null."""
    p, customer = centre.platform, {"id": "cus_7", "name": "Dana"}
    names = [f"c_{n}" for n in range(450)]
    await p.accepted(
        *(p.event("conversation.started", name, channel="web", queue="support", customer=customer) for name in names)
    )
    assert await listed(centre) == set(names)


@pytest.mark.parametrize("query", [{"state": "odd"}, {"since": "x"}, {"cursor": "!!"}, {"odd": "1"}])
async def test_a_bad_filter_is_a_400(centre: Centre, query: Any) -> None:
    """An unknown filter or value is `schema_invalid`."""
    answer = await centre.get("/v1/conversations", **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "schema_invalid")


async def test_list_shows_only_what_the_token_allows(centre: Centre) -> None:
    """Rows outside the queues or divisions, and of other organizations, aren't listed."""
    other = Centre(centre.hub)
    await other.story("theirs")
    await centre.story("seen", queue="support")
    await centre.story("unseen", queue="billing")
    await centre.story("abroad", queue="abroad", division="away")
    bearer = centre.token("ana", queues=["support", "abroad"], divisions=["home"])
    answer = await centre.get("/v1/conversations", bearer=bearer)
    assert [row["conversation_id"] for row in answer.json()["conversations"]] == ["seen"]
    await other.close()


@pytest.mark.parametrize("route", ROUTES)
async def test_unknown_and_foreign_ids_get_the_same_404(centre: Centre, route: str) -> None:
    """Unknown, of another organization, outside queues or divisions: byte-equal bodies."""
    path = f"/v1/conversations/cnv_1{route}"
    unknown = await centre.get(path)
    other = Centre(centre.hub)
    await other.story("cnv_1")
    foreign = await centre.get(path)
    await centre.story("cnv_1", queue="billing")
    outside = [
        await centre.get(path, bearer=centre.token("ana", queues=["support"])),
        await centre.get(path, bearer=centre.token("ana", divisions=["away"])),
    ]
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_conversation")
    for answer in (foreign, *outside):
        assert (answer.status_code, answer.content) == (404, unknown.content)
    await other.close()


@pytest.mark.parametrize("route", ROUTES)
async def test_history_needs_its_permission(centre: Centre, route: str) -> None:
    """`history`, or `view` while the conversation runs; else 403 `not_permitted`."""
    story = await centre.story()
    path = f"/v1/conversations/{story.id}{route}"
    bearers = {right: centre.token("ana", permissions=[right]) for right in ("view", "history", "monitor")}
    running = {right: (await centre.get(path, bearer=bearer)).status_code for right, bearer in bearers.items()}
    await story.end()
    over = {right: (await centre.get(path, bearer=bearer)).status_code for right, bearer in bearers.items()}
    assert running == {"view": 200, "history": 200, "monitor": 403}
    assert over == {"view": 403, "history": 200, "monitor": 403}


@pytest.mark.parametrize("role", ["agent", "customer", "connector"])
@pytest.mark.parametrize("route", ["", "/cnv_1", "/cnv_1/timeline", "/cnv_nowhere"])
async def test_agents_customers_and_connectors_get_403(centre: Centre, role: str, route: str) -> None:
    """Those roles get 403 `not_permitted`, whatever their permissions say, also for what doesn't exist."""
    await centre.story("cnv_1")
    sub = {"agent": "max", "customer": "cus_7", "connector": "platform"}[role]
    bearer = centre.token(sub, role, permissions=["history", "view", "admin"], conversation="cnv_1")
    answer = await centre.get("/v1/conversations" + route, bearer=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")


async def test_an_agent_reads_the_transcript_of_its_own(centre: Centre) -> None:
    """The transcript of an own conversation needs no permission; one never been in isn't given."""
    own, other = await centre.story(), await centre.story(agents=("eva",))
    await own.customer_says("Hello")
    bearer = centre.token("max", "agent", queues=[], divisions=[])
    answer = await centre.get(f"/v1/conversations/{own.id}/transcript", bearer=bearer)
    assert answer.status_code == 200
    assert [entry["text"] for entry in answer.json()["entries"]] == ["Hello"]
    for story in (other.id, "cnv_nowhere"):
        refused = await centre.get(f"/v1/conversations/{story}/transcript", bearer=bearer)
        assert refused.status_code in {403, 404}


async def test_an_agents_transcript_has_nothing_after_the_takeover(centre: Centre) -> None:
    """What is said after the agent was removed isn't in the agent's transcript."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.customer_says("before")
    await story.taken_over_by(ana)
    await story.customer_says("after")
    answer = await centre.get(f"/v1/conversations/{story.id}/transcript", bearer=centre.token("max", "agent"))
    assert answer.status_code == 200
    assert "before" in answer.text
    assert "after" not in answer.text
    assert "monitor" not in answer.text


async def test_a_customer_reads_the_transcript_of_its_own(centre: Centre) -> None:
    """A customer's transcript has the messages, no marks, no names that the channel hides."""
    ana, story = await centre.supervisor(), await centre.story(channel="sms")
    await story.customer_says("Hello")
    await story.transfer("survey")
    await story.taken_over_by(ana)
    bearer = centre.token("cus_7", "customer", conversation=story.id)
    answer = await centre.get(f"/v1/conversations/{story.id}/transcript", bearer=bearer)
    assert answer.status_code == 200
    assert [(entry["kind"], entry["text"]) for entry in answer.json()["entries"]] == [("message", "Hello")]
    assert "Ana" not in answer.text
    other = await centre.story()
    foreign = await centre.get(f"/v1/conversations/{other.id}/transcript", bearer=bearer)
    assert foreign.status_code in {403, 404}


async def test_takeover_from_history_is_impossible(centre: Centre) -> None:
    """An ended conversation can be neither monitored nor taken over."""
    ana, story, _ = await told(centre)
    await ana.refused("not_in_progress", "monitor.start", conversation_id=story.id)
    await ana.refused("not_monitoring", "takeover.prepare", conversation_id=story.id)


async def test_a_second_takeover_counts(centre: Centre) -> None:
    """Two takeovers: two in detail, two marks, two removed participants in the timeline."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    await story.taken_over_by(ana)
    await story.monitored_by(bo)
    await confirm(bo, await story.prepared_by(bo))
    detail = await centre.detail(story.id)
    assert (detail["metrics"]["n_takeover"], len(detail["takeovers"])) == (2, 2)
    interact = await centre.segments(story.id, "interact")
    assert [segment["disconnect_type"] for segment in interact].count("takeover") == 2
    assert [entry["kind"] for entry in await centre.entries(story.id)].count("takeover") == 2
