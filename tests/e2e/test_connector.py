"""Actions out to the platform: protocol, section 5."""

import contextlib

import pytest

from tests.support.centre import Centre, Connector, confirm, participant, sender_name
from tests.support.files import uploaded
from tests.support.socket import HubError, eventually


async def said(centre: Centre, conversation: str, text: str, sub: str = "max") -> str:
    """An agent answers from the hub's desk; the message's id."""
    line = await centre.agent(sub)
    ok = await line.command("message.send", conversation_id=conversation, text=text, client_message_id=f"d_{text}")
    return str(ok["message_id"])


async def test_an_agents_message_goes_out(centre: Centre) -> None:
    """`outbound.message` has id, text, attachments, sender and the owner's epoch; the first report is `{}`."""
    platform, story = await centre.connector(), await centre.story()
    message_id = await said(centre, story.id, "Hello")
    action = await platform.action("outbound.message", story.id)
    data = action["data"]
    assert (data["message_id"], data["text"], data["attachments"]) == (message_id, "Hello", [])
    assert sender_name(data) == "Max Weber"
    assert data["owner_epoch"] == (await centre.row(story.id))["owner_epoch"]
    assert await platform.report(action, "sent") == {}


@pytest.mark.parametrize(("channel", "name"), [("web", "Max Weber"), ("open", None), ("sms", None)])
async def test_senders_are_named_only_where_the_channel_shows_names(
    centre: Centre, channel: str, name: str | None
) -> None:
    """`sender` is null, or its name is, where the channel hides names."""
    platform, story = await centre.connector(), await centre.story(channel=channel)
    await said(centre, story.id, "Hello")
    action = await platform.action("outbound.message", story.id)
    assert sender_name(action["data"]) == name
    assert ("Max Weber" in "".join(platform.socket.lines)) is (name is not None)


async def test_actions_of_a_conversation_come_one_by_one(centre: Centre) -> None:
    """The next action comes when the last is reported; another conversation doesn't wait for it."""
    platform, one, two = await centre.connector(), await centre.story(), await centre.story()
    for text in ("first", "second"):
        await said(centre, one.id, text)
    await said(centre, two.id, "elsewhere")
    first = await platform.action("outbound.message", one.id, text="first")
    await platform.action("outbound.message", two.id, text="elsewhere")
    await platform.socket.round_trip()
    assert "second" not in "".join(platform.socket.lines)
    await platform.report(first)
    await platform.action("outbound.message", one.id, text="second")


async def test_an_unreported_action_is_repeated(centre: Centre) -> None:
    """What isn't reported comes again with the same id, until it is; then never again."""
    platform, story = await centre.connector(), await centre.story()
    message_id = await said(centre, story.id, "Hello")
    for _ in range(3):
        action = await platform.action("outbound.message", story.id)
        assert action["data"]["message_id"] == message_id
    await platform.report(action)
    count = len(platform.actions(story.id))
    await said(centre, story.id, "next")
    for _ in range(2):
        await platform.action("outbound.message", story.id, text="next")
    assert [event["data"]["text"] for event in platform.actions(story.id)[count:]].count("Hello") == 0


async def test_actions_wait_for_the_connector(centre: Centre) -> None:
    """What happened while no connector was there comes when it connects, in order."""
    story = await centre.story()
    for text in ("first", "second"):
        await said(centre, story.id, text)
    platform = await centre.connector()
    for text in ("first", "second"):
        await platform.carry_out("outbound.message", story.id, text=text)


async def test_actions_go_to_the_connector_that_started_the_conversation(centre: Centre) -> None:
    """Another connector of the organization, and the same name in another one, get nothing."""
    other = Centre(centre.hub)
    platform, neighbour = await centre.connector(), await centre.connector("other-platform")
    stranger = await other.connector("platform")
    story = await centre.story()
    await said(centre, story.id, "Hello")
    await platform.action("outbound.message", story.id)
    for line in (neighbour, stranger):
        await line.socket.round_trip()
        assert line.socket.events == []
    await other.close()


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "failed"])
async def test_reports_become_receipts(centre: Centre, status: str) -> None:
    """Each report is shown as `message.receipt` with its status and reason."""
    platform, story, agent = await centre.connector(), await centre.story(), await centre.agent("max")
    message_id = await said(centre, story.id, "Hello")
    action = await platform.action("outbound.message", story.id)
    await platform.report(action, status, **({"reason": "no such number"} if status == "failed" else {}))
    receipt = (await agent.expect("message.receipt", story.id, message_id=message_id))["data"]
    assert receipt["status"] == status
    if status == "failed":
        assert receipt["reason"] == "no such number"


async def test_later_reports_are_taken_too(centre: Centre) -> None:
    """`sent`, then `delivered`, then `read`; also what was reported before is answered with `{}`."""
    platform, story, agent = await centre.connector(), await centre.story(), await centre.agent("max")
    await said(centre, story.id, "Hello")
    action = await platform.action("outbound.message", story.id)
    for status in ("sent", "sent", "delivered", "read", "read"):
        assert await platform.report(action, status) == {}
    for status in ("sent", "delivered", "read"):
        await agent.expect("message.receipt", story.id, status=status)


async def test_a_failed_message_does_not_block(centre: Centre) -> None:
    """`failed` is a report: the next action follows."""
    platform, story = await centre.connector(), await centre.story()
    for text in ("first", "second"):
        await said(centre, story.id, text)
    await platform.report(await platform.action("outbound.message", story.id, text="first"), "failed", reason="x")
    await platform.action("outbound.message", story.id, text="second")


@pytest.mark.parametrize(("channel", "named"), [("web", True), ("sms", False)])
async def test_a_takeovers_actions_in_their_order(centre: Centre, channel: str, named: bool) -> None:
    """Each one removed, then the supervisor connected, then `sender.changed` where names show, then its messages."""
    platform, ana = await centre.connector(), await centre.supervisor()
    story = await centre.story(agents=("max", "eva"), bots=("robo",), channel=channel)
    ok = await story.taken_over_by(ana, participant_id="p_max")
    await ana.command("message.send", conversation_id=story.id, text="Hello", client_message_id="d_1")
    removed = [await platform.carry_out("participant.disconnected", story.id) for _ in range(3)]
    assert {participant(action["data"])["participant_id"] for action in removed} == {"p_max", "p_eva", "p_robo"}
    connected = participant((await platform.carry_out("participant.connected", story.id))["data"])
    assert (connected["participant_id"], connected["purpose"]) == (ok["participant_id"], "supervisor")
    assert connected.get("name") == ("Ana Ortiz" if named else None)
    if named:
        assert (await platform.carry_out("sender.changed", story.id))["data"]["name"] == "Ana Ortiz"
    message = await platform.carry_out("outbound.message", story.id)
    assert message["data"]["owner_epoch"] == ok["owner_epoch"]
    names = [action["event"] for action in platform.actions(story.id)]
    wanted = ["participant.disconnected"] * 3 + ["participant.connected"] + ["sender.changed"] * named
    assert list(dict.fromkeys(names)) == list(dict.fromkeys([*wanted, "outbound.message"]))
    assert ("Ana Ortiz" in "".join(platform.socket.lines)) is named


async def test_each_action_carries_its_id_the_same_in_repeats(centre: Centre) -> None:
    """`data.action_id` begins with `act_`, is the same in a repeat, and another one for the next action."""
    platform, ana, story = await centre.connector(), await centre.supervisor(), await centre.story()
    await story.taken_over_by(ana)
    first = await platform.action("participant.disconnected", story.id)
    repeat = await platform.action("participant.disconnected", story.id)
    assert first["data"]["action_id"].startswith("act_")
    assert repeat["data"]["action_id"] == first["data"]["action_id"]
    await platform.report(first)
    second = await platform.action("participant.connected", story.id)
    assert second["data"]["action_id"] != first["data"]["action_id"]
    assert await platform.report(first) == {}


async def test_the_removed_one_is_told_with_takeover(centre: Centre) -> None:
    """The disconnect's type is `takeover`."""
    platform, ana, story = await centre.connector(), await centre.supervisor(), await centre.story()
    await story.taken_over_by(ana)
    assert (await platform.action("participant.disconnected", story.id))["data"]["disconnect_type"] == "takeover"


async def test_the_end_goes_out(centre: Centre) -> None:
    """A supervisor's `conversation.end` is an action with an id."""
    platform, ana, story = await centre.connector(), await centre.supervisor(), await centre.story(channel="sms")
    await story.taken_over_by(ana)
    await ana.command("conversation.end", conversation_id=story.id)
    for name in ("participant.disconnected", "participant.connected", "conversation.ended"):
        await platform.carry_out(name, story.id)
    assert (await centre.row(story.id))["state"] == "ended"


async def test_what_the_platform_reported_is_never_sent_back(centre: Centre) -> None:
    """Messages, connects, disconnects, transfers and the end of the platform's own give no action."""
    platform, story, agent = await centre.connector(), await centre.story(), await centre.agent("max")
    await agent.expect("conversation.snapshot", story.id)
    await story.customer_says("from the platform")
    await story.agent_says("from its desktop")
    await story.join("eva")
    await story.transfer("survey")
    await story.leave("eva")
    await story.end()
    await agent.expect("conversation.ended", story.id)
    other = await centre.story()
    await said(centre, other.id, "marker")
    await platform.action("outbound.message", other.id)
    assert platform.actions(story.id) == []


async def test_no_action_ever_names_a_monitor(centre: Centre) -> None:
    """Monitoring, then a message: the platform gets the message and nothing else."""
    platform, ana, story = await centre.connector(), await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    await said(centre, story.id, "Hello")
    await platform.carry_out("outbound.message", story.id)
    await ana.command("monitor.stop", conversation_id=story.id)
    await platform.socket.round_trip()
    assert [action["event"] for action in platform.actions(story.id)] == ["outbound.message"]
    assert "monitor" not in "".join(platform.socket.lines)
    assert "ana" not in "".join(platform.socket.lines).lower()


async def test_reports_of_another_form_are_refused(centre: Centre) -> None:
    """Another status, a missing or unknown field: `schema_invalid`; the action is repeated."""
    platform, story = await centre.connector(), await centre.story()
    message_id = await said(centre, story.id, "Hello")
    await platform.action("outbound.message", story.id)
    line = platform.socket
    await line.refused("schema_invalid", "delivery.report", message_id=message_id, status="seen")
    await line.refused("schema_invalid", "delivery.report", status="sent")
    await line.refused("schema_invalid", "action.done")
    await line.refused("schema_invalid", "action.done", action_id="act_1", status="sent")
    await platform.action("outbound.message", story.id)


async def test_another_connector_cannot_report(centre: Centre) -> None:
    """A foreign report doesn't count: the action is repeated to its own connector."""
    platform, thief, story = await centre.connector(), await centre.connector("thief"), await centre.story()
    await said(centre, story.id, "Hello")
    action = await platform.action("outbound.message", story.id)
    with contextlib.suppress(HubError):
        await thief.report(action, "sent")
    await platform.action("outbound.message", story.id)


async def test_the_takeover_holds_although_the_platform_is_away(centre: Centre) -> None:
    """Without a connector the takeover is done; its actions come when the platform is back."""
    ana, story = await centre.supervisor(), await centre.story(channel="open")
    await story.monitored_by(ana)
    await confirm(ana, await story.prepared_by(ana))
    platform = await centre.connector()
    await platform.carry_out("participant.disconnected", story.id)
    await platform.carry_out("participant.connected", story.id)


async def test_the_customers_end_goes_out(centre: Centre) -> None:
    """A customer ends it in the messenger, an agent on the desk: the platform is told by an action."""
    platform, one, two = await centre.connector(), await centre.story(), await centre.story()
    await (await centre.customer(one.id)).command("conversation.end", conversation_id=one.id)
    await (await centre.agent("max")).command("conversation.end", conversation_id=two.id)
    for story in (one, two):
        action = await platform.carry_out("conversation.ended", story.id)
        assert action["data"]["action_id"].startswith("act_")


async def test_attachments_go_out(centre: Centre) -> None:
    """What the owner attaches reaches the platform and the customer: a file as it was uploaded, a link as it was given."""
    platform, story, agent = await centre.connector(), await centre.story(), await centre.agent("max")
    customer = await centre.customer(story.id)
    link = {"url": "https://files.example/1.pdf", "name": "1.pdf", "mime": "application/pdf"}
    files = [link, await uploaded(centre, centre.token("max", "agent"), story.id)]
    await agent.command(
        "message.send", conversation_id=story.id, text="See", client_message_id="d_1", attachments=files
    )
    assert (await platform.action("outbound.message", story.id))["data"]["attachments"] == files
    assert (await customer.expect("message.created", story.id))["data"]["attachments"] == files


async def test_two_sockets_of_one_connector_get_an_action_once(centre: Centre) -> None:
    """With two sockets of the platform an action goes to one of them at a time, and one report is enough."""
    one, two, story = await centre.connector(), await centre.connector(), await centre.story()
    await said(centre, story.id, "Hello")
    lines = (one, two)
    await eventually(lambda: seen(lines, story.id), wanted="an action")
    await centre.platform.accepted(story.event("typing", on=True, purpose="customer"))
    for line in lines:
        await line.socket.round_trip()
    got = [line for line in lines if line.actions(story.id)]
    assert len(got) == 1
    await got[0].report(got[0].actions(story.id)[0])


async def seen(lines: tuple[Connector, ...], conversation: str) -> bool:
    """True once any of the sockets has an action of the conversation."""
    return any(line.actions(conversation) for line in lines)


async def test_actions_go_out_by_either_node(pair: Centre) -> None:
    """A connector on one node gets what happens on the other."""
    platform, story = await pair.connector(node=1), await pair.story()
    ana = await pair.supervisor(node=0)
    await story.taken_over_by(ana)
    for name in ("participant.disconnected", "participant.connected", "sender.changed"):
        await platform.carry_out(name, story.id)
