"""`req`: the same request twice is carried out once. Protocol, section 1."""

from typing import Any

import pytest

from tests.support.centre import Centre, confirm
from tests.support.socket import Json


async def test_the_same_req_gets_the_first_ok_again(centre: Centre) -> None:
    """A repeated takeover confirmation answers with the first `ok` and takes over once."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    prepared = await story.prepared_by(ana)
    first = await confirm(ana, prepared, req="r_1")
    assert await confirm(ana, prepared, req="r_1") == first
    assert len((await centre.detail(story.id))["takeovers"]) == 1


async def test_a_repeated_start_after_a_stop_starts_nothing(centre: Centre) -> None:
    """`monitor.start` with a used `req` gives the first `ok`, and no new monitor."""
    ana, story = await centre.supervisor(), await centre.story()
    first = await ana.command("monitor.start", conversation_id=story.id, req="r_1")
    await ana.command("monitor.stop", conversation_id=story.id)
    assert await ana.command("monitor.start", conversation_id=story.id, req="r_1") == first
    assert (await centre.row(story.id))["monitor"] is None
    assert len((await centre.detail(story.id))["monitors"]) == 1


async def test_a_repeated_send_is_one_message(centre: Centre) -> None:
    """The same `req` gives one message, although the `client_message_id` is new in none of both."""
    story, agent = await centre.story(), await centre.agent("max")
    said: Json = {"conversation_id": story.id, "text": "Hello", "client_message_id": "d_1", "req": "r_1"}
    first = await agent.command("message.send", **said)
    assert await agent.command("message.send", **said) == first
    assert [entry["text"] for entry in await centre.entries(story.id)] == ["Hello"]


@pytest.mark.parametrize(
    ("cmd", "arguments"),
    [
        ("monitor.stop", {}),
        ("monitor.start", {"participant_id": "p_max"}),
        ("takeover.prepare", {}),
        ("typing", {"on": True}),
    ],
)
async def test_with_another_command_it_is_schema_invalid(centre: Centre, cmd: str, arguments: dict[str, Any]) -> None:
    """The same `req` with another command or other arguments is refused and changes nothing."""
    ana, story = await centre.supervisor(), await centre.story()
    await ana.command("monitor.start", conversation_id=story.id, req="r_1")
    await ana.refused("schema_invalid", cmd, conversation_id=story.id, req="r_1", **arguments)
    assert (await centre.row(story.id))["monitor"]["user_id"] == "ana"


async def test_with_another_conversation_it_is_schema_invalid(centre: Centre) -> None:
    """The same `req` for another conversation is another command."""
    ana, one, two = await centre.supervisor(), await centre.story(), await centre.story()
    await ana.command("monitor.start", conversation_id=one.id, req="r_1")
    await ana.refused("schema_invalid", "monitor.start", conversation_id=two.id, req="r_1")
    assert (await centre.row(two.id))["monitor"] is None


async def test_refusals_are_not_remembered(centre: Centre) -> None:
    """A refused command may be sent again with the same `req` and is carried out then."""
    ana, story = await centre.supervisor(status="busy"), await centre.story()
    await ana.refused("not_available", "monitor.start", conversation_id=story.id, req="r_1")
    await ana.command("status.set", status="available")
    await ana.command("monitor.start", conversation_id=story.id, req="r_1")
    await ana.expect("monitor.started", story.id)


async def test_the_same_req_of_another_user_or_role_is_another(centre: Centre) -> None:
    """A `req` is the user's and the role's own."""
    ana, bo, story = await centre.supervisor(), await centre.supervisor("bo"), await centre.story()
    own = await centre.story(agents=("ana",))
    await ana.command("monitor.start", conversation_id=story.id, req="r_1")
    await bo.refused("monitor_held", "monitor.start", conversation_id=story.id, req="r_1")
    agent = await centre.agent("ana")
    said: Json = {"conversation_id": own.id, "text": "Hi", "client_message_id": "d_1", "req": "r_1"}
    assert "message_id" in await agent.command("message.send", **said)


async def test_the_same_req_of_another_organization_is_another(centre: Centre) -> None:
    """A `req` doesn't cross organizations."""
    other = Centre(centre.hub)
    first = await (await centre.supervisor()).command(
        "monitor.start", conversation_id=(await centre.story("cnv_1")).id, req="r_1"
    )
    line, story = await other.supervisor(), await other.story("cnv_1")
    second = await line.command("monitor.start", conversation_id=story.id, req="r_1")
    assert first["monitor_id"] != second["monitor_id"]
    await line.expect("monitor.started", "cnv_1")
    await other.close()


async def test_a_req_works_over_a_new_session(centre: Centre) -> None:
    """After a loss the same `req` on another socket of the user gets the first `ok`."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    prepared = await story.prepared_by(ana)
    first = await confirm(ana, prepared, req="r_1")
    await ana.drop()
    assert await confirm(await centre.supervisor(), prepared, req="r_1") == first


async def test_a_req_works_on_another_node(pair: Centre) -> None:
    """The other node knows the first `ok`, too."""
    ana, story = await pair.supervisor(node=0), await pair.story()
    await story.monitored_by(ana)
    prepared = await story.prepared_by(ana)
    first = await confirm(ana, prepared, req="r_1")
    assert await confirm(await pair.supervisor(node=1), prepared, req="r_1") == first


@pytest.mark.parametrize("repeats", [2, 8])
async def test_the_same_req_many_times_at_once(centre: Centre, repeats: int) -> None:
    """Sent from several sockets at the same moment it is carried out once, and everybody gets the same `ok`."""
    story = await centre.story()
    lines = [await centre.supervisor() for _ in range(repeats)]
    numbers = [await line.post("monitor.start", conversation_id=story.id, req="r_1") for line in lines]
    answers = [await line.answer(number) for line, number in zip(lines, numbers, strict=True)]
    assert len({answer["ok"]["monitor_id"] for answer in answers}) == 1
    assert len((await centre.detail(story.id))["monitors"]) == 1


@pytest.mark.parametrize("req", ["", "a" * 300, 5, [], True])
async def test_a_req_of_another_form(centre: Centre, req: object) -> None:
    """A `req` that is empty, endless or no text is `schema_invalid`."""
    ana, story = await centre.supervisor(), await centre.story()
    error = await ana.refused("schema_invalid", "monitor.start", conversation_id=story.id, req=req)
    assert "req" in error.details["path"]


async def test_status_and_wrapup_take_a_req(centre: Centre) -> None:
    """Every command that changes something takes one."""
    story, agent = await centre.story(queue="billing"), await centre.agent("max")
    for _ in range(2):
        assert await agent.command("status.set", status="busy", req="r_1") == {}
        assert await agent.command("draft.update", conversation_id=story.id, text="x", req="r_2") == {}
    await story.end()
    for _ in range(2):
        assert await agent.command("wrapup.submit", conversation_id=story.id, code="resolved", req="r_3") == {}
    await agent.refused("already_done", "wrapup.submit", conversation_id=story.id, code="resolved", req="r_4")


async def test_a_status_repeated_later_changes_nothing(centre: Centre) -> None:
    """A used `req` doesn't set the status again."""
    agent = await centre.agent("max")
    await agent.command("status.set", status="busy", req="r_1")
    await agent.command("status.set", status="meal")
    await agent.command("status.set", status="busy", req="r_1")
    assert (await centre.agent("max")).session["status"] == "meal"


@pytest.mark.parametrize("new_session", [False, True])
async def test_a_repeated_wrapup_gets_its_ok_again(pair: Centre, new_session: bool) -> None:
    """After the conversation has ended the same `req` still gets the first `ok`, on the same session or a new one."""
    story, agent = await pair.story(queue="billing"), await pair.agent("max")
    await story.end()
    arguments: Json = {"conversation_id": story.id, "code": "resolved", "req": "r_1"}
    assert await agent.command("wrapup.submit", **arguments) == {}
    await agent.expect("wrapup.completed", story.id)
    again = await pair.agent("max", node=1) if new_session else agent
    assert await again.command("wrapup.submit", **arguments) == {}


async def test_one_req_from_two_nodes_at_once(pair: Centre) -> None:
    """The same confirmation with the same `req` on both nodes at the same moment: both get the same `ok`."""
    lines = [await pair.supervisor(node=node) for node in (0, 1)]
    for turn in range(10):
        story = await pair.story()
        for line in lines:
            await story.monitored_by(line)
        prepared = await story.prepared_by(lines[0])
        sent = {name: prepared[name] for name in ("takeover_id", "confirm_token")} | {"req": f"r_{turn}"}
        numbers = [await line.post("takeover.confirm", **sent) for line in lines]
        answers = [await line.answer(number) for line, number in zip(lines, numbers, strict=True)]
        assert "ok" in answers[0], answers
        assert answers[0]["ok"] == answers[1].get("ok"), answers


async def test_one_wrapup_from_two_nodes_at_once(pair: Centre) -> None:
    """The same submit with the same `req` on both nodes at the same moment: both get `{}`."""
    lines = [await pair.agent("max", node=node) for node in (0, 1)]
    for turn in range(10):
        story = await pair.story(queue="billing")
        await story.end()
        sent: Json = {"conversation_id": story.id, "code": "resolved", "req": f"r_{turn}"}
        numbers = [await line.post("wrapup.submit", **sent) for line in lines]
        answers = [await line.answer(number) for line, number in zip(lines, numbers, strict=True)]
        assert [answer.get("ok") for answer in answers] == [{}, {}], answers
        assert len((await pair.detail(story.id))["wrapups"]) == 1


async def test_one_send_many_times_at_once(pair: Centre) -> None:
    """The same send with the same `req` four times at once on two nodes is one message with one id."""
    story = await pair.story()
    lines = [await pair.agent("max", node=node) for node in (0, 1, 0, 1)]
    sent: Json = {"conversation_id": story.id, "text": "Hi", "client_message_id": "d_1", "req": "r_1"}
    numbers = [await line.post("message.send", **sent) for line in lines]
    answers = [await line.answer(number) for line, number in zip(lines, numbers, strict=True)]
    assert len({answer["ok"]["message_id"] for answer in answers}) == 1, answers
    assert [entry["text"] for entry in await pair.entries(story.id)] == ["Hi"]
