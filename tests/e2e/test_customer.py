"""The web messenger: protocol, section 4."""

import pytest

from tests.support.centre import Centre, confirm, sender_name
from tests.support.socket import offset, snapshot_of
from tests.support.view import View


async def test_a_customer_starts_a_conversation(centre: Centre) -> None:
    """`conversation.start` opens the token's conversation on the web, queued, with subject and name."""
    view = await View.open(await centre.supervisor(), "interactions")
    customer = await centre.customer("cnv_9", sub="cus_9")
    await customer.command("conversation.start", queue="support", subject="Lost parcel", name="Dana")
    row = await view.row("cnv_9", state="queued", channel="web", queue="support", subject="Lost parcel")
    assert row["customer"]["name"] == "Dana"
    await customer.expect("conversation.snapshot", "cnv_9")
    await customer.command("message.send", conversation_id="cnv_9", text="Hello", client_message_id="d_1")
    await customer.expect("message.created", "cnv_9", text="Hello")


async def test_a_customer_sees_messages_only(centre: Centre) -> None:
    """The snapshot has messages, no panels, participants or rows of people; the events are a customer's."""
    ana, story = await centre.supervisor(), await centre.story(panels={"customer": {"tier": "gold-secret"}})
    await story.customer_says("one")
    customer = await centre.customer(story.id)
    snapshot = snapshot_of(await customer.expect("conversation.snapshot", story.id))
    assert snapshot is not None
    assert [message["text"] for message in snapshot["messages"]] == ["one"]
    await story.tell("panel.updated", panel="order", content={"note": "panel-secret"})
    await story.join("eva")
    await story.transfer("survey")
    await story.leave("eva")
    await story.agent_says("two")
    await customer.expect("message.created", story.id, text="two")
    assert set(customer.names(story.id)) <= {"conversation.snapshot", "message.created"}
    text = "".join(customer.lines)
    for word in ("gold-secret", "panel-secret", "survey", "Eva", "max"):
        assert word not in text
    await ana.round_trip()


async def test_a_customers_cursors_count_what_they_see(centre: Centre) -> None:
    """Offsets rise by one over their own events, whatever happened between."""
    story = await centre.story()
    customer = await centre.customer(story.id)
    first = await customer.expect("conversation.snapshot", story.id)
    position = offset((snapshot_of(first) or {})["cursor"])
    for number in range(3):
        await story.tell("panel.updated", panel="p", content={"n": number})
        await story.join(f"a{number}")
        await story.customer_says(str(number))
        event = await customer.expect("message.created", story.id, text=str(number))
        assert offset(event["cursor"]) == position + 1 + number


async def test_a_takeover_is_no_gap_for_the_customer(centre: Centre) -> None:
    """On a channel without names the customer's stream goes on as if nothing had happened."""
    ana, story = await centre.supervisor(), await centre.story(channel="sms")
    customer = await centre.customer(story.id)
    await customer.expect("conversation.snapshot", story.id)
    await story.customer_says("before")
    await story.monitored_by(ana)
    await confirm(ana, await story.prepared_by(ana))
    await ana.command("message.send", conversation_id=story.id, text="after", client_message_id="d_1")
    said = await customer.expect("message.created", story.id, text="after")
    assert sender_name(said["data"]) is None
    assert customer.names(story.id) == ["conversation.snapshot", "message.created", "message.created"]
    assert "Ana" not in "".join(customer.lines)


@pytest.mark.parametrize(("channel", "name"), [("web", "Max Weber"), ("open", None), ("sms", None)])
async def test_names_only_where_the_channel_shows_them(centre: Centre, channel: str, name: str | None) -> None:
    """`sender` carries the agent's name only where the configuration says so."""
    story = await centre.story(channel=channel)
    customer, agent = await centre.customer(story.id), await centre.agent("max")
    await agent.command("message.send", conversation_id=story.id, text="Hi", client_message_id="d_1")
    said = await customer.expect("message.created", story.id, text="Hi")
    assert sender_name(said["data"]) == name
    if name is None:
        assert "Max" not in "".join(customer.lines)


async def test_what_a_customer_sends_reaches_agent_and_monitor(centre: Centre) -> None:
    """A customer's message, typing and read mark arrive with their literal fields."""
    ana, story = await centre.supervisor(), await centre.story()
    customer, agent = await centre.customer(story.id), await centre.agent("max")
    await story.monitored_by(ana)
    await customer.command("typing", conversation_id=story.id, on=True)
    ok = await customer.command("message.send", conversation_id=story.id, text="Hello", client_message_id="d_1")
    said = await agent.command("message.send", conversation_id=story.id, text="Hi", client_message_id="d_2")
    await customer.expect("message.created", story.id, text="Hi")
    await customer.command("receipt.send", conversation_id=story.id, message_id=said["message_id"], status="read")
    for line in (ana, agent):
        assert (await line.expect("typing", story.id))["data"]["purpose"] == "customer"
        shown = (await line.expect("message.created", story.id, text="Hello"))["data"]
        assert (shown["message_id"], shown["purpose"]) == (ok["message_id"], "customer")
        await line.expect("message.receipt", story.id, message_id=said["message_id"], status="read")


async def test_a_customer_sees_the_owner_type(centre: Centre) -> None:
    """Only the owner's typing is shown to the customer."""
    story = await centre.story(agents=("max", "eva"))
    customer, agent = await centre.customer(story.id), await centre.agent("max")
    await customer.expect("conversation.snapshot", story.id)
    await story.tell("typing", on=True, participant_id="p_eva")
    await agent.command("typing", conversation_id=story.id, on=True)
    await customer.expect("typing", story.id, on=True)
    await story.customer_says("fence")
    await customer.expect("message.created", story.id)
    assert len(customer.of(story.id, "typing")) == 1


async def test_a_customer_ends_it(centre: Centre) -> None:
    """`conversation.end` by the customer ends it for everybody; then sending is `conversation_ended`."""
    story, agent = await centre.story(), await centre.agent("max")
    customer = await centre.customer(story.id)
    await customer.command("conversation.end", conversation_id=story.id)
    for line in (customer, agent):
        await line.expect("conversation.ended", story.id)
    await customer.refused(
        "conversation_ended", "message.send", conversation_id=story.id, text="x", client_message_id="d_1"
    )


async def test_a_customer_is_bound_to_one_conversation(centre: Centre) -> None:
    """Another conversation of the organization is answered like an unknown one, and sends nothing."""
    own, other = await centre.story(), await centre.story()
    customer = await centre.customer(own.id)
    for conversation in (other.id, "cnv_nowhere"):
        await customer.refused("unknown_conversation", "typing", conversation_id=conversation, on=True)
        await customer.refused(
            "unknown_conversation", "message.send", conversation_id=conversation, text="x", client_message_id="d_1"
        )
    await other.customer_says("secret")
    await customer.round_trip()
    assert customer.of(other.id) == []


async def test_a_customer_has_no_other_commands(centre: Centre) -> None:
    """Agents' and supervisors' commands are `schema_invalid` for a customer."""
    story = await centre.story()
    customer = await centre.customer(story.id)
    await customer.refused("schema_invalid", "view.subscribe", view="interactions")
    await customer.refused("schema_invalid", "status.set", status="available")
    await customer.refused("schema_invalid", "takeover.prepare", conversation_id=story.id)
    await customer.refused("schema_invalid", "wrapup.submit", conversation_id=story.id, code="resolved")


async def test_wrapup_is_nothing_for_the_customer(centre: Centre) -> None:
    """In a queue with wrap-up the customer sees the end and nothing of the wrap-up."""
    story = await centre.story(queue="quick")
    customer = await centre.customer(story.id)
    await customer.expect("conversation.snapshot", story.id)
    await story.end()
    await customer.expect("conversation.ended", story.id)
    await centre.row_with(story.id, state="ended")
    await customer.round_trip()
    assert customer.names(story.id) == ["conversation.snapshot", "conversation.ended"]
