"""Commands: one struct per `cmd`, valid when built by the decoder."""

import inspect
from typing import Any

import msgspec
import pytest

from hub.protocol import commands, types
from hub.protocol.commands import ENDPOINT_COMMANDS, SORT_FIELDS, Changing, Command, tag_of
from hub.protocol.fields import TEXT_CHARS_MAX


def decode(kind: type[Any], **fields: object) -> Any:
    """A command of `kind` from JSON fields, with an id."""
    return msgspec.json.decode(msgspec.json.encode({"id": 1, "cmd": tag_of(kind), **fields}), type=kind)


def refused(kind: type[Any], **fields: object) -> str:
    """What the decoder says against these fields."""
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(kind, **fields)
    return str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        (
            "supervisor",
            "hello pong status.set view.subscribe view.unsubscribe monitor.start monitor.stop monitor.release "
            "message.reveal "
            "takeover.prepare takeover.confirm takeover.cancel takeover.acknowledge message.send typing "
            "conversation.end wrapup.submit",
        ),
        (
            "agent",
            "hello pong status.set view.subscribe view.unsubscribe message.send typing draft.update "
            "takeover.acknowledge wrapup.submit conversation.end",
        ),
        ("connector", "hello pong event delivery.report action.done"),
        ("customer", "hello pong conversation.start message.send typing receipt.send conversation.end"),
    ],
)
def test_each_endpoint_takes_its_commands(endpoint: str, names: str) -> None:
    """The lists of protocol.md, and `view.unsubscribe` wherever one can subscribe."""
    assert sorted(tag_of(kind) for kind in ENDPOINT_COMMANDS[endpoint]) == sorted(names.split())


def test_class_names_are_the_commands_names() -> None:
    """`monitor.start` is `MonitorStart`; a variant for one endpoint has the endpoint before it."""
    for endpoint, kinds in ENDPOINT_COMMANDS.items():
        for kind in kinds:
            plain = "".join(part.capitalize() for part in tag_of(kind).split("."))
            assert kind.__name__.removeprefix(endpoint.capitalize()) in (plain, "EventPush")


def test_every_command_is_a_documented_frozen_struct() -> None:
    """Commands are values with a docstring, and refuse unknown fields."""
    for _, kind in inspect.getmembers(commands, inspect.isclass):
        if issubclass(kind, Command):
            assert kind.__struct_config__.frozen
            assert kind.__struct_config__.forbid_unknown_fields
            assert kind.__doc__


def test_what_changes_something_takes_req() -> None:
    """Only hello, pong and the views have none, and the reveal, whose answer must not be kept."""
    kinds = {kind for kinds in ENDPOINT_COMMANDS.values() for kind in kinds}
    without = {tag_of(kind) for kind in kinds if not issubclass(kind, Changing)}
    assert without == {"hello", "pong", "view.subscribe", "view.unsubscribe", "message.reveal"}


def test_a_missing_token_is_left_to_the_edge() -> None:
    """So that it is answered as unauthenticated, not as a malformed command."""
    assert decode(commands.Hello).token == ""


def test_resume_names_the_cursors() -> None:
    """Cursors are optional; a session must look like an id."""
    hello = decode(commands.Hello, token="t", resume={"session": "ses_1", "secret": "x"})
    assert hello.resume.cursors == {}
    assert "$.resume.session" in refused(commands.Hello, resume={"session": "a{b}", "secret": "x"})


@pytest.mark.parametrize("view", SORT_FIELDS)
def test_views_sort_by_fields_of_their_rows(view: str) -> None:
    """Each row field with one plain value, in both directions, and none at all."""
    rows: dict[str, Any] = {
        "interactions": types.InteractionRow,
        "queues": types.QueueRow,
        "agents": types.AgentRow,
        "roster": types.RosterRow,
    }
    assert SORT_FIELDS[view] <= set(rows[view].__annotations__)
    for field in SORT_FIELDS[view]:
        assert decode(commands.ViewSubscribe, view=view, sort=field).sort == field
        assert decode(commands.ViewSubscribe, view=view, sort=f"-{field}").sort == f"-{field}"
    assert decode(commands.ViewSubscribe, view=view).sort is None


@pytest.mark.parametrize("sort", ["", "-", "--name", "name ", "rows", "customer", "waiting"])
def test_views_sort_by_nothing_else(sort: str) -> None:
    """A field of another view is refused as well."""
    assert "`sort`: Expected one of " in refused(commands.ViewSubscribe, view="interactions", sort=sort)


@pytest.mark.parametrize(
    ("filters", "good"),
    [
        ({}, True),
        ({"queues": ["a"], "channels": ["web"], "agent": "ben", "state": "ended", "text": ""}, True),
        ({"state": ["queued", "wrapup"], "queues": None, "channels": None, "agent": None, "text": None}, True),
        ({"state": "gone"}, False),
        ({"channels": ["voice"]}, False),
        ({"queues": "a"}, False),
        ({"text": "a\nb"}, False),
        ({"owner": "ben"}, False),
    ],
)
def test_filters_take_what_is_documented(filters: dict[str, object], good: bool) -> None:
    """Five fields, each optional."""
    if good:
        decode(commands.ViewSubscribe, view="interactions", filter=filters)
    else:
        assert "$.filter" in refused(commands.ViewSubscribe, view="interactions", filter=filters) or "owner" in filters


@pytest.mark.parametrize("limit", [0, -1, 100_001, 1.5, "10", True])
def test_limits_are_positive_integers(limit: object) -> None:
    """A limit of no rows is a mistake."""
    assert "$.limit" in refused(commands.ViewSubscribe, view="queues", limit=limit)


def test_agents_subscribe_to_the_roster_only() -> None:
    """Their `view.subscribe` is one too, for whoever handles it."""
    assert isinstance(decode(commands.AgentViewSubscribe, view="roster"), commands.ViewSubscribe)
    assert "$.view" in refused(commands.AgentViewSubscribe, view="interactions")


def test_any_string_may_be_tried_as_confirmation() -> None:
    """A wrong one is for the rules to refuse, with their own code."""
    assert decode(commands.TakeoverConfirm, takeover_id="tko_1", confirm_token="").confirm_token == ""


def message(**fields: object) -> dict[str, Any]:
    """Fields of a message that can be sent."""
    return {"conversation_id": "cnv_1", "text": "Hi", "client_message_id": "c-1", **fields}


def test_a_message_has_text_or_attachments() -> None:
    """One of both is enough; an attachment's name and type have defaults."""
    url = f"/v1/files/fil_00{'a' * 20}/b.pdf"
    sent = decode(commands.MessageSend, **message(text="", attachments=[{"url": url}]))
    assert sent.attachments == (commands.SentFile(url=url),)
    assert (sent.attachments[0].name, sent.attachments[0].mime) == ("", "application/octet-stream")
    assert "`text`" in refused(commands.MessageSend, **message(text=""))


@pytest.mark.parametrize(
    "url", ["/v1/files/fil_00a/b", f"/v1/files/fil_00{'a' * 20}/b?c", "//a/v1/files/", "javascript:x", "ftp://a/b"]
)
def test_what_is_no_file_of_the_hub_is_a_web_address(url: str) -> None:
    """Anything else is refused where it is read."""
    assert "attachments" in refused(commands.MessageSend, **message(text="", attachments=[{"url": url}]))


def test_a_text_has_a_limit() -> None:
    """16,384 characters, however many bytes they take."""
    decode(commands.MessageSend, **message(text="🙂" * TEXT_CHARS_MAX))
    assert "$.text" in refused(commands.MessageSend, **message(text="x" * (TEXT_CHARS_MAX + 1)))


@pytest.mark.parametrize("field", ["conversation_id", "text", "client_message_id"])
def test_a_message_needs_its_fields(field: str) -> None:
    """None of the three has a default."""
    fields = message()
    del fields[field]
    assert field in refused(commands.MessageSend, **fields)


def test_an_empty_draft_is_one() -> None:
    """It drops what was kept."""
    assert decode(commands.DraftUpdate, conversation_id="c", text="").text == ""


@pytest.mark.parametrize(
    ("kind", "base", "fields"),
    [
        (commands.CustomerMessageSend, commands.MessageSend, {"text": "Hi", "client_message_id": "c"}),
        (commands.CustomerTyping, commands.Typing, {"on": True}),
        (commands.CustomerConversationEnd, commands.ConversationEnd, {}),
    ],
)
def test_customers_need_not_name_their_conversation(kind: type[Any], base: type[Any], fields: dict[str, Any]) -> None:
    """It is the token's; a given one is kept and must look like an id."""
    assert decode(kind, **fields).conversation_id == ""
    assert decode(kind, **fields, conversation_id="cnv_1").conversation_id == "cnv_1"
    assert isinstance(decode(kind, **fields), base)
    refused(kind, **fields, conversation_id="")
    assert "conversation_id" in refused(base, **fields)


def test_a_command_without_its_own_name_is_our_mistake() -> None:
    """`tag_of` is for the structs that stand on the wire."""
    with pytest.raises(AssertionError):
        tag_of(commands.Attachment)
