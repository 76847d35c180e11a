"""Platform events in: protocol, section 5."""

import json

import pytest

from tests.support.centre import Centre
from tests.support.socket import offset
from tests.support.view import View

STARTED = {"channel": "web", "queue": "support", "customer": {"id": "cus_7", "name": "Dana"}}


async def test_every_type_is_accepted_with_its_own_cursor(centre: Centre) -> None:
    """Each of the nine event types is accepted; offsets rise by one; typing alone has no cursor."""
    p, c = centre.platform, "cnv_1"
    events = [
        p.event(
            "conversation.started", c, **STARTED, division="home", subject="Refund", panels={"customer": {"tier": 1}}
        ),
        p.event("participant.connected", c, participant_id="p_1", purpose="agent", user_id="max", name="Max Weber"),
        p.event("message.created", c, message_id="m_1", text="Hello", purpose="customer"),
        p.event("message.created", c, message_id="m_2", text="Hi", participant_id="p_1", attachments=[]),
        p.event("message.receipt", c, message_id="m_2", status="read"),
        p.event("panel.updated", c, panel="customer", content={"tier": "gold"}),
        p.event("conversation.transferred", c, queue="billing"),
        p.event("participant.disconnected", c, participant_id="p_1", disconnect_type="client"),
        p.event("conversation.ended", c, reason="done"),
    ]
    typing = p.event("typing", c, on=True, purpose="customer")
    cursors = await p.accepted(*events[:5], typing, *events[5:])
    assert cursors.pop(5) is None
    offsets = [offset(cursor) for cursor in cursors[1:] if cursor]
    assert offsets == list(range(offsets[0], offsets[0] + 8))


async def test_result_cursor_is_the_one_of_the_event_that_a_supervisor_sees(centre: Centre) -> None:
    """The `cursor` of a result is the event's own."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    cursor = await story.tell("message.created", message_id="m_1", text="Hello", purpose="customer")
    assert (await ana.expect("message.created", story.id, message_id="m_1"))["cursor"] == cursor


@pytest.mark.parametrize("channel", ["web", "open", "sms"])
async def test_the_three_channels_are_taken(centre: Centre, channel: str) -> None:
    """web, open and sms are accepted."""
    story = await centre.story(channel=channel)
    assert (await centre.row(story.id))["channel"] == channel


@pytest.mark.parametrize("channel", ["voice", "email", "facebook", "WEB", ""])
async def test_another_channel_is_refused(centre: Centre, channel: str) -> None:
    """A conversation on another medium is refused with `channel_unsupported` and doesn't exist afterwards."""
    p = centre.platform
    [result] = await p.post(p.event("conversation.started", "cnv_1", **(STARTED | {"channel": channel})))
    assert result["status"] == "refused"
    assert result["error"]["code"] == "channel_unsupported"
    await p.refused("unknown_conversation", p.event("typing", "cnv_1", on=True, purpose="customer"))


@pytest.mark.parametrize("missing", ["channel", "queue", "customer"])
async def test_start_needs_channel_queue_and_customer(centre: Centre, missing: str) -> None:
    """`channel`, `queue` and `customer` are required."""
    p, data = centre.platform, {name: value for name, value in STARTED.items() if name != missing}
    await p.refused("schema_invalid", p.event("conversation.started", "cnv_1", **data))


async def test_start_needs_nothing_else(centre: Centre) -> None:
    """`channel`, `queue` and `customer` are enough."""
    p = centre.platform
    await p.accepted(p.event("conversation.started", "cnv_1", **STARTED))


async def test_a_conversation_starts_once(centre: Centre) -> None:
    """Starting an id that exists is `already_done` and changes nothing."""
    story, p = await centre.story(), centre.platform
    await p.refused("already_done", p.event("conversation.started", story.id, **STARTED, subject="Other"))
    assert (await centre.row(story.id))["subject"] == "Refund"


async def test_repeats_of_an_event_id_are_duplicates_without_effect(centre: Centre) -> None:
    """The same event id twice, in one body or in two, is a `duplicate`, also with another content."""
    story, p = await centre.story(), centre.platform
    event = story.event("message.created", message_id="m_1", text="once", purpose="customer")
    first, second = await p.post(event, event)
    [third] = await p.post(event | {"data": event["data"] | {"message_id": "m_2", "text": "twice"}})
    assert first["status"] == "accepted"
    assert second == third == {"id": event["id"], "status": "duplicate"}
    assert [entry["text"] for entry in await centre.entries(story.id) if entry["kind"] == "message"] == ["once"]


async def test_event_ids_are_per_conversation(centre: Centre) -> None:
    """The same event id in two conversations is two events."""
    one, two = await centre.story(), await centre.story()
    event = one.event("message.created", message_id="m_1", text="Hello", purpose="customer")
    results = await centre.platform.post(event, event | {"conversation_id": two.id})
    assert [result["status"] for result in results] == ["accepted", "accepted"]


async def test_a_refused_event_may_come_again(centre: Centre) -> None:
    """An event that was refused isn't remembered: it is accepted when what it needed is there."""
    p = centre.platform
    event = p.event("message.created", "cnv_1", message_id="m_1", text="Hello", purpose="customer")
    await p.refused("unknown_conversation", event)
    await p.accepted(p.event("conversation.started", "cnv_1", **STARTED), event)


async def test_results_stand_in_order_and_one_bad_event_stops_no_other(centre: Centre) -> None:
    """Good, bad, repeated and good again: one result each, in the order of the events."""
    story, p = await centre.story(), centre.platform
    good = story.event("message.created", message_id="m_1", text="a", purpose="customer")
    bad = story.event("message.created", message_id="m_2", text=5, purpose="customer")
    last = story.event("message.created", message_id="m_3", text="b", purpose="customer")
    results = await p.post(good, bad, good, last)
    assert [result["id"] for result in results] == [good["id"], bad["id"], good["id"], last["id"]]
    assert [result["status"] for result in results] == ["accepted", "refused", "duplicate", "accepted"]
    assert results[1]["error"]["code"] == "schema_invalid"
    assert set(results[1]["error"]) == {"code", "message", "retryable", "details"}
    assert "text" in results[1]["error"]["details"]["path"]


async def test_events_of_many_conversations_in_one_body_keep_their_order(centre: Centre) -> None:
    """Interleaved events of two conversations keep their order in each, and results that of the body."""
    one, two = await centre.story(), await centre.story()
    events = [
        (one, two)[number % 2].event("message.created", message_id=f"m_{number}", text=str(number), purpose="customer")
        for number in range(100)
    ]
    await centre.platform.accepted(*events)
    assert [entry["text"] for entry in await centre.entries(one.id, limit=100) if entry["kind"] == "message"][-5:] == [
        "90", "92", "94", "96", "98",
    ]  # fmt: skip


async def test_ndjson_is_the_same(centre: Centre) -> None:
    """A body of lines gives the same results; a final newline is no event."""
    story, p = await centre.story(), centre.platform
    events = [story.event("message.created", message_id=f"m_{n}", text="x", purpose="customer") for n in range(3)]
    answer = await p.http("\n".join(map(json.dumps, events)) + "\n", "application/x-ndjson")
    results = answer.json()["results"]
    assert [(result["id"], result["status"]) for result in results] == [(event["id"], "accepted") for event in events]


async def test_a_line_that_cannot_be_read_is_refused_alone(centre: Centre) -> None:
    """A broken NDJSON line is `refused` with `id` null; its neighbours are accepted."""
    story, p = await centre.story(), centre.platform
    good = [story.event("message.created", message_id=f"m_{n}", text="x", purpose="customer") for n in range(2)]
    body = json.dumps(good[0]) + '\n{"id": "evt_x", "type":\n' + json.dumps(good[1])
    results = (await p.http(body, "application/x-ndjson")).json()["results"]
    assert [result["status"] for result in results] == ["accepted", "refused", "accepted"]
    assert results[1]["id"] is None
    assert results[1]["error"]["code"] == "schema_invalid"


@pytest.mark.parametrize("thing", [42, None, "text", [], [{}], {}, {"id": 7}])
async def test_an_event_that_cannot_be_read_is_refused_alone(centre: Centre, thing: object) -> None:
    """What is no event is `refused` with `id` null and `schema_invalid`; its neighbour is accepted."""
    story, p = await centre.story(), centre.platform
    good = story.event("message.created", message_id="m_1", text="x", purpose="customer")
    bad, fine = await p.post(thing, good)
    assert (bad["id"], bad["status"], bad["error"]["code"]) == (None, "refused", "schema_invalid")
    assert fine["status"] == "accepted"


@pytest.mark.parametrize("body", ["", "[]", "{", "{}", '{"events": {}}', '{"events": null}', "null", '"x"', "\xff"])
async def test_only_a_body_of_another_form_is_a_400(centre: Centre, body: str) -> None:
    """A body that isn't `{"events": […]}` is answered by 400 in the shape of every error."""
    answer = await centre.platform.http(body.encode("latin-1"))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "schema_invalid"
    assert "id" not in answer.json()


async def test_no_events_are_no_results(centre: Centre) -> None:
    """An empty list is answered by an empty list."""
    assert await centre.platform.post() == []


async def test_at_most_1000_events(centre: Centre) -> None:
    """1,000 events are taken in one body, 1,001 are not, and then none of them."""
    story, p = await centre.story(), centre.platform
    events = [story.event("message.created", message_id=f"m_{n}", text="x", purpose="customer") for n in range(1001)]
    answer = await p.http(json.dumps({"events": events}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    await p.accepted(*events[:1000])


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_at_most_one_mebibyte(centre: Centre, kind: str) -> None:
    """A body beyond 1 MiB is answered by 413."""
    story = await centre.story()
    event = story.event("message.created", message_id="m_1", text="x" * (1 << 20), purpose="customer")
    body = json.dumps(event if kind.endswith("ndjson") else {"events": [event]})
    answer = await centre.platform.http(body, kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("role", ["supervisor", "admin", "agent", "customer"])
async def test_only_connectors_may_post(centre: Centre, role: str) -> None:
    """Another role is answered by 403."""
    answer = await centre.platform.http('{"events": []}', role=role, conversation="cnv_1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")


async def test_a_conversation_belongs_to_the_connector_that_started_it(centre: Centre) -> None:
    """Another connector's events for it, its start included, are answered as for an unknown id."""
    story = await centre.story()
    centre.platform.sub = "other-platform"
    p = centre.platform
    message = story.event("message.created", message_id="m_1", text="x", purpose="customer")
    foreign = await p.refused("unknown_conversation", message)
    unknown = await p.refused("unknown_conversation", message | {"conversation_id": "cnv_nowhere"})
    assert foreign["details"].keys() == unknown["details"].keys()
    await p.refused("unknown_conversation", p.event("conversation.started", story.id, **STARTED))


async def test_another_organization_has_its_own_ids(centre: Centre) -> None:
    """The same conversation id may start in two organizations, and each has its own content."""
    other = Centre(centre.hub)
    await centre.story("cnv_1", subject="Ours")
    await other.story("cnv_1", subject="Theirs")
    assert (await centre.row("cnv_1"))["subject"] == "Ours"
    assert (await other.row("cnv_1"))["subject"] == "Theirs"
    await other.close()


async def test_words_of_one_who_left_are_refused(centre: Centre) -> None:
    """A message or typing of a participant who isn't connected any more is refused with `stale_owner`."""
    story = await centre.story(agents=("max", "eva"))
    await story.leave("max")
    said = story.event("message.created", message_id="m_1", text="late", participant_id="p_max")
    await centre.platform.refused("stale_owner", said)
    assert "late" not in [entry.get("text") for entry in await centre.entries(story.id)]


async def test_a_second_disconnect_is_accepted_without_effect(centre: Centre) -> None:
    """`participant.disconnected` of one who isn't connected any more is accepted and leaves no second entry."""
    ana, story = await centre.supervisor(), await centre.story(agents=("max", "eva"))
    await story.leave("max")
    await story.monitored_by(ana)
    await story.leave("max")
    await story.fence(ana)
    assert ana.of(story.id, "participant.disconnected") == []


async def test_after_a_takeover_the_agents_words_are_refused(centre: Centre) -> None:
    """What a removed agent says on the platform's desktop is refused and never in the transcript."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.taken_over_by(ana)
    await centre.platform.refused(
        "stale_owner", story.event("message.created", message_id="m_9", text="late", participant_id="p_max")
    )
    await story.leave("max")
    assert "late" not in [entry.get("text") for entry in await centre.entries(story.id)]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("message.created", {"message_id": "m_8", "text": "x", "purpose": "customer"}),
        ("typing", {"on": True, "purpose": "customer"}),
        ("panel.updated", {"panel": "customer", "content": {}}),
        ("conversation.transferred", {"queue": "billing"}),
        ("conversation.ended", {"reason": "again"}),
        ("participant.connected", {"participant_id": "p_2", "purpose": "agent", "user_id": "eva", "name": "Eva"}),
        ("participant.disconnected", {"participant_id": "p_max", "disconnect_type": "client"}),
    ],
)
async def test_after_the_end_all_but_receipts_is_refused(centre: Centre, kind: str, data: dict[str, object]) -> None:
    """After the end an event is refused with `conversation_ended`."""
    story = await centre.story()
    await story.end()
    await centre.platform.refused("conversation_ended", story.event(kind, **data))


async def test_receipts_are_taken_after_the_end(centre: Centre) -> None:
    """A receipt is accepted after the end."""
    story = await centre.story()
    message = await story.agent_says("Bye")
    await story.end()
    await story.tell("message.receipt", message_id=message, status="delivered")


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "failed"])
async def test_receipt_statuses(centre: Centre, status: str) -> None:
    """Each of the four receipt statuses is accepted."""
    story = await centre.story()
    await story.tell("message.receipt", message_id=await story.agent_says("Hi"), status=status)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("message.created", {"text": "x", "purpose": "customer"}),
        ("message.created", {"message_id": "m_1", "purpose": "customer"}),
        ("message.created", {"message_id": "m_1", "text": "x"}),
        ("message.created", {"message_id": "m_1", "text": "x", "purpose": "agent"}),
        ("message.created", {"message_id": "m_1", "text": "x", "purpose": "customer", "attachments": ["x"]}),
        ("message.created", {"message_id": "m 1", "text": "x", "purpose": "customer"}),
        ("message.created", {"message_id": "m_1", "text": "x", "purpose": "customer", "unknown": 1}),
        ("message.receipt", {"message_id": "m_1", "status": "seen"}),
        ("typing", {"on": "yes", "purpose": "customer"}),
        ("typing", {"purpose": "customer"}),
        ("panel.updated", {"content": {}}),
        ("participant.connected", {"participant_id": "p_2", "purpose": "customer", "user_id": "eva", "name": "E"}),
        ("participant.connected", {"participant_id": "p_2", "purpose": "supervisor", "user_id": "eva", "name": "E"}),
        ("participant.connected", {"participant_id": "p_2", "purpose": "agent", "name": "E"}),
        ("participant.connected", {"participant_id": "p{2}", "purpose": "agent", "user_id": "eva", "name": "E"}),
        ("participant.disconnected", {"participant_id": "p_max", "disconnect_type": "vanished"}),
        ("participant.disconnected", {"disconnect_type": "client"}),
        ("conversation.transferred", {}),
        ("conversation.transferred", {"queue": ""}),
        ("monitor.started", {}),
        ("takeover.completed", {}),
        ("nonsense", {}),
    ],
)
async def test_data_of_another_form_is_refused(centre: Centre, kind: str, data: dict[str, object]) -> None:
    """An unknown type, a missing, unknown or wrong field is refused with `schema_invalid` and a path."""
    story = await centre.story()
    error = await centre.platform.refused("schema_invalid", story.event(kind, **data))
    assert isinstance(error["details"]["path"], str)


@pytest.mark.parametrize("change", [{"extra": 1}, {"at": "now"}, {"at": -1}, {"data": []}, {"data": None}])
async def test_an_envelope_of_another_form_is_refused(centre: Centre, change: dict[str, object]) -> None:
    """An unknown or wrong field of the event itself is refused with `schema_invalid`."""
    story = await centre.story()
    await centre.platform.refused("schema_invalid", story.event("typing", on=True, purpose="customer") | change)


async def test_panels_are_bounded(centre: Centre) -> None:
    """A panel holds at most 16 KiB, a conversation at most 32 panels; one that is removed makes room."""
    story, p = await centre.story(), centre.platform
    await story.tell("panel.updated", panel="p_0", content={"x": "y" * 16_000})
    [big] = await p.post(story.event("panel.updated", panel="p_0", content={"x": "y" * 16_384}))
    assert big["status"] == "refused"
    await p.accepted(*(story.event("panel.updated", panel=f"p_{n}", content={"n": n}) for n in range(1, 32)))
    [many] = await p.post(story.event("panel.updated", panel="p_32", content={}))
    assert many["status"] == "refused"
    await story.tell("panel.updated", panel="p_0", content=None)
    await story.tell("panel.updated", panel="p_32", content={})


async def test_a_panel_with_null_is_removed(centre: Centre) -> None:
    """`content` null removes the panel: monitors are told, a later snapshot has it no more."""
    ana, story = await centre.supervisor(), await centre.story(panels={"customer": {"tier": "gold"}})
    started = await story.monitored_by(ana)
    assert started["data"]["snapshot"]["panels"] == {"customer": {"tier": "gold"}}
    await story.tell("panel.updated", panel="customer", content=None)
    changed = await ana.expect("panel.updated", story.id)
    assert changed["data"]["panel"] == "customer"
    assert changed["data"]["content"] is None
    await ana.command("monitor.stop", conversation_id=story.id)
    assert (await story.monitored_by(ana))["data"]["snapshot"]["panels"] == {}


async def test_owner_is_who_is_connected_longest(centre: Centre) -> None:
    """The first connected owns; when it leaves, the next; with none left the state is `queued`; epochs count that."""
    story = await centre.story(agents=())
    first = await centre.row(story.id)
    assert (first["state"], first["owner"]) == ("queued", None)
    await story.join("bot", "bot")
    owned = await centre.row_with(story.id, owner="p_bot")
    assert (owned["state"], owned["owner_epoch"]) == ("active", first["owner_epoch"] + 1)
    await story.join("max")
    assert (await centre.row(story.id))["owner_epoch"] == owned["owner_epoch"]
    await story.leave("bot")
    assert (await centre.row_with(story.id, owner="p_max"))["owner_epoch"] == owned["owner_epoch"] + 1
    await story.leave("max")
    left = await centre.row_with(story.id, owner=None)
    assert (left["state"], left["owner_epoch"]) == ("queued", owned["owner_epoch"] + 2)


async def test_a_transfer_keeps_connected_agents(centre: Centre) -> None:
    """After a transfer the agents stay connected and the owner stays the owner, until the platform disconnects them."""
    story = await centre.story()
    before = await centre.row(story.id)
    await story.transfer("survey")
    after = await centre.row_with(story.id, queue="survey")
    assert (after["owner"], after["owner_epoch"], after["state"]) == ("p_max", before["owner_epoch"], "active")


async def test_a_queue_nobody_configured_exists(centre: Centre) -> None:
    """A queue of no configuration takes its division from the event and asks no wrap-up."""
    eva = await centre.supervisor("eva", divisions=("north",))
    view = await View.open(eva, "interactions")
    story = await centre.story(queue="unheard-of", division="north")
    await view.row(story.id, queue="unheard-of", division="north", state="active")
    await story.end()
    await view.without(story.id)


async def test_attachments_reach_the_monitor(centre: Centre) -> None:
    """Attachments are shown as they were given."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    files = [{"url": "https://files.example/1.png", "name": "1.png", "mime": "image/png"}]
    await story.tell("message.created", message_id="m_1", text="See", purpose="customer", attachments=files)
    assert (await ana.expect("message.created", story.id))["data"]["attachments"] == files


@pytest.mark.parametrize("text", ["a\nb\tc", 'quote " \\ slash', "\u2028\u2029", "ñ 漢 👩‍🚀", "</script>", "{p}"])
async def test_any_text_arrives_as_it_was(centre: Centre, text: str) -> None:
    """Newlines, quotes, separators and any script reach the monitor unchanged."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await story.customer_says(text)
    assert (await ana.expect("message.created", story.id))["data"]["text"] == text


@pytest.mark.parametrize("conversation", [":cnv:", "a" * 64, "-", "0", "..", "t:org:cnv", "CNV_1"])
async def test_any_id_of_the_pattern_works(centre: Centre, conversation: str) -> None:
    """Ids with colons at the ends, dots, or 64 characters are ids like others."""
    ana, story = await centre.supervisor(), await centre.story(conversation)
    await story.monitored_by(ana)
    await story.customer_says("Hello")
    await ana.expect("message.created", conversation, text="Hello")


@pytest.mark.parametrize(
    "conversation", ["", "a" * 65, "a b", "cnv_{1}", "cnv\n", "cnv_1\n", "ünder", "a/b", "a\x00", 5]
)
async def test_any_other_id_is_refused(centre: Centre, conversation: object) -> None:
    """An id outside the pattern is refused with `schema_invalid`, wherever it stands."""
    p = centre.platform
    [result] = await p.post(p.event("conversation.started", "cnv_1", **STARTED) | {"conversation_id": conversation})
    assert (result["status"], result["error"]["code"]) == ("refused", "schema_invalid")
    assert "conversation_id" in result["error"]["details"]["path"]


async def test_the_connector_socket_takes_the_same_events(centre: Centre) -> None:
    """`event` on the connector socket answers with the result without `id`; refusals are errors."""
    line = await centre.connector()
    start = centre.platform.event("conversation.started", "cnv_1", **STARTED)
    first = await line.send_event(start)
    assert first["status"] == "accepted"
    assert "id" not in first
    assert isinstance(first["cursor"], str)
    assert await line.send_event(start) == {"status": "duplicate"}
    voice = centre.platform.event("conversation.started", "cnv_2", **(STARTED | {"channel": "voice"}))
    await line.socket.refused("channel_unsupported", "event", event=voice)
    await line.socket.refused("schema_invalid", "event", event=start | {"type": "nonsense"})
    await line.socket.refused("schema_invalid", "event", event=42)


async def test_both_ways_in_share_what_was_seen(centre: Centre) -> None:
    """An event that came by POST is a duplicate on the socket."""
    line, story = await centre.connector(), await centre.story()
    event = story.event("message.created", message_id="m_1", text="Hello", purpose="customer")
    await centre.platform.accepted(event)
    assert await line.send_event(event) == {"status": "duplicate"}


async def test_a_batch_is_seen_in_order(centre: Centre) -> None:
    """500 messages of one body reach a monitor in their order, none missing."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    events = [story.event("message.created", message_id=f"m_{n}", text=str(n), purpose="customer") for n in range(500)]
    await centre.platform.accepted(*events)
    await ana.expect("message.created", story.id, text="499")
    assert [event["data"]["text"] for event in ana.of(story.id, "message.created")] == [str(n) for n in range(500)]
