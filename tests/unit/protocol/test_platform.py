"""Platform events in."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.protocol import platform
from hub.protocol.platform import AnyEvent, BadEvent, PlatformEvent, decode_event, decode_events

JSON, NDJSON = "application/json", "application/x-ndjson"
DATA: dict[str, dict[str, Any]] = {
    "conversation.started": {"channel": "web", "queue": "support", "customer": {"id": "cus_7"}},
    "participant.connected": {"participant_id": "p", "purpose": "agent", "user_id": "ben", "name": "Ben"},
    "participant.disconnected": {"participant_id": "p", "disconnect_type": "client"},
    "message.created": {"message_id": "m", "text": "Hi", "purpose": "customer"},
    "message.receipt": {"message_id": "m", "status": "read"},
    "typing": {"on": True, "participant_id": "p"},
    "panel.updated": {"panel": "orders", "content": [1]},
    "conversation.transferred": {"queue": "billing"},
    "conversation.ended": {"reason": "client"},
}


def event(kind: str = "message.created", /, **changes: Any) -> dict[str, Any]:
    """An event of `kind`; `changes` replace members of its data (None: takes them away)."""
    data = {**DATA[kind], **changes}
    data = {name: value for name, value in data.items() if value is not None}
    return {"id": "evt_1", "type": kind, "conversation_id": "cnv_1", "at": 1795377600000, "data": data}


def read(value: object) -> AnyEvent | BadEvent:
    """A value as it comes in."""
    return decode_event(json.dumps(value).encode())


def good(value: object) -> Any:
    """The event that a value is."""
    decoded = read(value)
    assert isinstance(decoded, PlatformEvent), decoded
    return decoded


def bad(value: object, code: str = "schema_invalid") -> BadEvent:
    """The refusal that a value gets."""
    decoded = read(value)
    assert isinstance(decoded, BadEvent), decoded
    assert decoded.refused.code == code
    return decoded


@pytest.mark.parametrize("kind", DATA)
def test_each_type_is_its_struct(kind: str) -> None:
    """The nine types of protocol.md, section 5."""
    decoded = good(event(kind))
    assert (decoded.type, decoded.id, decoded.conversation_id, decoded.at) == (kind, "evt_1", "cnv_1", 1795377600000)


@pytest.mark.parametrize("kind", DATA)
def test_unknown_fields_are_refused_everywhere(kind: str) -> None:
    """In the event and in its data, with the id of the event and the place."""
    for value, path in ((event(kind) | {"x": 1}, "x"), (event(kind, y=1), "data.y")):
        assert bad(value).id == "evt_1"
        assert bad(value).refused.details == {"path": path}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (kind, field)
        for kind, data in DATA.items()
        for field in data
        if (kind, field) != ("conversation.ended", "reason")
    ],
)
def test_required_fields_are_required(kind: str, field: str) -> None:
    """Everything in the samples is, but the reason of an end."""
    assert bad(event(kind, **{field: None})).id == "evt_1"


@pytest.mark.parametrize("field", ["id", "type", "conversation_id", "at", "data"])
def test_every_event_has_five_members(field: str) -> None:
    """Without one of them it is refused; without an id the result has none either."""
    value = event()
    del value[field]
    decoded = bad(value)
    assert decoded.id == (None if field == "id" else "evt_1")
    assert decoded.refused.details["path"] == field


def test_an_end_needs_no_data() -> None:
    """Some platforms know no reason."""
    value = event("conversation.ended")
    del value["data"]
    assert good(value).data.reason is None


@pytest.mark.parametrize("id", ["", "a b", "evt\n", "{evt}", 3, None, ["evt"]])
def test_an_unusable_id_is_null_in_the_result(id: object) -> None:
    """It can't be given back as an id."""
    assert bad(event() | {"id": id}).id is None


@pytest.mark.parametrize("at", [-1, 1.5, "1", True, 2**53])
def test_times_are_unix_milliseconds(at: object) -> None:
    """Integers from 0 to 2^53 - 1."""
    assert bad(event() | {"at": at}).refused.details == {"path": "at"}


@pytest.mark.parametrize("channel", ["web", "open", "sms"])
def test_three_channels_are_supported(channel: str) -> None:
    """The messaging ones."""
    assert good(event("conversation.started", channel=channel)).data.channel == channel


def test_another_channel_is_told_apart() -> None:
    """It is no malformed event, but a medium that the hub doesn't do."""
    decoded = bad(event("conversation.started", channel="voice"), "channel_unsupported")
    assert decoded.id == "evt_1"
    assert decoded.refused.details == {"channel": "voice", "supported": ["web", "open", "sms"]}


def test_a_channel_that_is_no_string_is_malformed() -> None:
    """There is no medium to name."""
    assert bad(event("conversation.started", channel=3)).refused.details == {"path": "data.channel"}


def test_a_conversation_may_begin_with_panels() -> None:
    """Each content is kept as JSON on one line."""
    started = good(event("conversation.started", panels={"customer": {"tier": "gold"}, "notes": []}))
    assert {name: bytes(content) for name, content in started.data.panels.items()} == {
        "customer": b'{"tier":"gold"}',
        "notes": b"[]",
    }
    assert (started.data.subject, started.data.division, started.data.customer.name) == (None, None, "")


@pytest.mark.parametrize("panels", [{"a": "x" * 16_383}, {f"p{n}": 1 for n in range(33)}, {"": 1}, {"a\n": 1}])
def test_panels_have_limits(panels: dict[str, object]) -> None:
    """16 KiB each, 32 of them, with names on one line."""
    assert bad(event("conversation.started", panels=panels)).refused.details["path"] in ("data.panels", "data")


def test_a_panel_is_any_json() -> None:
    """On one line, however it came."""
    raw = json.dumps(event("panel.updated", content={"a": [1, None]}), indent=3).encode()
    decoded = decode_event(raw)
    assert isinstance(decoded, platform.Panel)
    assert bytes(decoded.data.content) == b'{"a":[1,null]}'
    assert not decoded.data.removed


def test_a_panel_of_null_is_removed() -> None:
    """`content` must be there all the same."""
    raw = json.dumps(event("panel.updated")).replace("[1]", "null").encode()
    decoded = decode_event(raw)
    assert isinstance(decoded, platform.Panel)
    assert decoded.data.removed


def test_a_panel_has_a_limit() -> None:
    """16 KiB, counted as passed on."""
    good(event("panel.updated", content="x" * 16_382))
    assert bad(event("panel.updated", content="x" * 16_383)).refused.details == {"path": "data.content"}


@pytest.mark.parametrize("content", ["[" * 255 + "]" * 255, "[" * 1024 + "]" * 1024, '"\\ud800"', "[1e999999"])
def test_a_panel_that_browsers_cannot_read_is_refused(content: str) -> None:
    """Deep nesting and half surrogate pairs end here."""
    raw = json.dumps(event("panel.updated")).replace("[1]", content).encode()
    assert isinstance(decode_event(raw), BadEvent)


@pytest.mark.parametrize("purpose", ["customer", "supervisor", "other"])
def test_platforms_connect_agents_and_bots_only(purpose: str) -> None:
    """Supervisors join by takeover."""
    assert bad(event("participant.connected", purpose=purpose)).refused.details == {"path": "data.purpose"}


def test_platforms_do_not_take_over() -> None:
    """`takeover` is the hub's own to say."""
    for kind in ("client", "endpoint", "transfer", "inactivity"):
        good(event("participant.disconnected", disconnect_type=kind))
    bad(event("participant.disconnected", disconnect_type="takeover"))


@pytest.mark.parametrize("kind", ["message.created", "typing"])
def test_somebody_says_it_and_one_only(kind: str) -> None:
    """A participant or the customer."""
    assert good(event(kind, participant_id="p", purpose=None)).data.participant_id == "p"
    assert good(event(kind, participant_id=None, purpose="customer")).data.purpose == "customer"
    for both in ({"participant_id": "p", "purpose": "customer"}, {"participant_id": None, "purpose": None}):
        assert bad(event(kind, **both)).refused.details == {"path": "data.participant_id"}
    bad(event(kind, participant_id=None, purpose="agent"))


def test_a_message_has_text_or_attachments() -> None:
    """Like one that is sent."""
    files = [{"url": "https://a/b", "name": "b", "mime": "image/png"}]
    assert good(event(text="", attachments=files)).data.attachments[0].mime == "image/png"
    assert good(event(text=None, attachments=files)).data.text == ""
    assert bad(event(text="")).refused.details == {"path": "data.text"}
    assert bad(event(attachments=[{"url": "javascript:x"}])).refused.details == {"path": "data.attachments[0].url"}


def test_receipts_may_have_a_reason() -> None:
    """Four statuses."""
    for status in ("sent", "delivered", "read", "failed"):
        assert good(event("message.receipt", status=status, reason="why")).data.reason == "why"
    bad(event("message.receipt", status="lost"))


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"NaN", b'{"id":"evt_1"'])
def test_what_is_not_json_has_no_id(raw: bytes) -> None:
    """There is nothing to give back."""
    decoded = decode_event(raw)
    assert isinstance(decoded, BadEvent)
    assert (decoded.id, decoded.refused.details) == (None, {"path": "$"})


def test_raw_json_is_read_like_bytes() -> None:
    """As it comes from the `event` command."""
    assert isinstance(decode_event(msgspec.Raw(json.dumps(event()).encode())), platform.Message)


def body(*events: object) -> bytes:
    """A JSON body."""
    return json.dumps({"events": events}).encode()


def test_a_batch_keeps_its_order() -> None:
    """JSON and NDJSON, with the same result; empty lines are skipped."""
    values = [event() | {"id": f"evt_{n}"} for n in range(5)]
    lines = b"\n\n".join(json.dumps(value).encode() for value in values) + b"\r\n"
    from_json = decode_events(body(*values), JSON)
    assert [one.id for one in from_json] == ["evt_0", "evt_1", "evt_2", "evt_3", "evt_4"]
    assert decode_events(lines, NDJSON) == from_json


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "", "application/x-www-form-urlencoded"])
def test_what_is_not_ndjson_is_json(content_type: str) -> None:
    """So a command line's default works as well."""
    assert len(decode_events(body(event()), content_type)) == 1


@pytest.mark.parametrize("content_type", ["application/x-ndjson; charset=utf-8", "Application/NDJSON", NDJSON])
def test_ndjson_has_several_names(content_type: str) -> None:
    """Parameters and case don't matter."""
    assert decode_events(b"", content_type) == []
    assert [type(one) for one in decode_events(b"x\n" + json.dumps(event()).encode(), content_type)] == [
        BadEvent,
        platform.Message,
    ]


DEEP = "[" * 2000 + "]" * 2000


@pytest.mark.parametrize(
    "spoiled",
    [
        "3",
        "{}",
        json.dumps(event("conversation.started", channel="voice")),
        json.dumps(event(text="\ud800")),
        json.dumps(event("panel.updated")).replace("[1]", DEEP),
        json.dumps(event("panel.updated")).replace("[1]", '"\\ud800"'),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_one_bad_event_stops_no_other(spoiled: str, content_type: str) -> None:
    """Whatever is wrong with it, even where it can't be skipped."""
    before, after = json.dumps(event()), json.dumps(event("typing"))
    lines = [before, spoiled, after]
    text = "\n".join(lines) if content_type == NDJSON else '{"events":[' + ",".join(lines) + "]}"
    decoded = decode_events(text.encode(), content_type)
    assert [type(one) for one in decoded] == [platform.Message, BadEvent, platform.TypingEvent]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", "$"),
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"events":[]}x', "$"),
        (b"\xff", "$"),
        (b"{}", "events"),
        (b'{"events":3}', "events"),
        (b'{"events":null}', "events"),
        (b'{"events":[],"more":1}', "more"),
        (b'{"events":[' + DEEP.encode() + b'],"more":1}', "$"),
        (b'{"event":' + DEEP.encode() + b"}", "event"),
        (b'{"events":["\xff"', "$"),
    ],
)
def test_a_body_of_another_form_is_refused_as_a_whole(raw: bytes, path: str) -> None:
    """There are no events whose results could be given."""
    with pytest.raises(Refused) as caught:
        decode_events(raw, JSON)
    assert (caught.value.code, caught.value.details) == ("schema_invalid", {"path": path})


def test_no_events_are_a_batch() -> None:
    """An empty list has an empty result."""
    assert decode_events(body(), JSON) == []


@pytest.mark.parametrize("raw", [body(event(), event(), event()), body(1, 2, 3)])
def test_a_batch_has_a_limit(raw: bytes) -> None:
    """Good or bad, they count."""
    assert len(decode_events(raw, JSON, events_max=3)) == 3
    with pytest.raises(Refused) as caught:
        decode_events(raw, JSON, events_max=2)
    assert (caught.value.code, caught.value.details) == ("too_large", {"events_max": 2})


def test_lines_have_the_same_limit() -> None:
    """Empty ones don't count."""
    assert len(decode_events(b"1\n\n2\n", NDJSON, events_max=2)) == 2
    with pytest.raises(Refused, match="too_large"):
        decode_events(b"1\n2\n3", NDJSON, events_max=2)


@given(st.binary(), st.sampled_from([JSON, NDJSON]))
def test_no_body_raises_anything_else(raw: bytes, content_type: str) -> None:
    """Any bytes are events, bad events, or a refusal of the whole."""
    with suppress(Refused):
        assert all(isinstance(one, BadEvent | PlatformEvent) for one in decode_events(raw, content_type))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
KINDS = st.sampled_from(sorted(DATA))


@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), st.sampled_from(sorted(DATA[kind])), VALUES)), st.booleans())
def test_no_nearly_good_event_raises(changed: tuple[str, str, Any], alone: bool) -> None:
    """One field replaced by anything: an event, or a bad one whose message can be sent."""
    kind, field, value = changed
    sample = event(kind)
    sample["data"][field] = value
    raw = json.dumps(sample).encode()
    (decoded,) = [decode_event(raw)] if alone else decode_events(b'{"events":[' + raw + b"]}", JSON)
    if isinstance(decoded, BadEvent):
        decoded.refused.message.encode()
        json.dumps(decoded.refused.details).encode()
    else:
        msgspec.json.encode(decoded)
