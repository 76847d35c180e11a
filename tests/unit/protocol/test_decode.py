"""Frames in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol.close import Close
from hub.protocol.commands import ENDPOINT_COMMANDS, Hello, MonitorStart, MonitorStop, Pong, StatusSet, tag_of
from hub.protocol.decode import ENDPOINTS, Decoded, Fatal, Malformed, decode_frame

STOP = '{"id":1,"cmd":"monitor.stop","conversation_id":"cnv_1"}'


def one(text: str, endpoint: str = "supervisor") -> Decoded:
    """The only thing in a frame."""
    (decoded,) = decode_frame(text, endpoint)
    return decoded


def malformed(text: str, endpoint: str = "supervisor") -> Malformed:
    """The refusal that a frame gets."""
    decoded = one(text, endpoint)
    assert isinstance(decoded, Malformed), decoded
    assert decoded.refused.code == "schema_invalid"
    return decoded


def test_a_command_is_its_struct() -> None:
    """One object, wherever `cmd` stands in it."""
    assert one(STOP) == MonitorStop(id=1, conversation_id="cnv_1")
    assert one('{"conversation_id":"c","id":2,"req":"r","cmd":"monitor.start"}') == MonitorStart(
        id=2, req="r", conversation_id="c"
    )


def test_several_commands_in_one_frame_keep_their_order() -> None:
    """Lines are objects; empty ones, and those ended by CRLF, are fine."""
    frame = '\n{"id":1,"cmd":"status.set","status":"busy"}\r\n\n  \n' + STOP + "\n"
    assert decode_frame(frame, "supervisor") == [
        StatusSet(id=1, status="busy"),
        MonitorStop(id=1, conversation_id="cnv_1"),
    ]


def test_one_object_may_take_several_lines() -> None:
    """A person who types or formats JSON gets through."""
    assert one(json.dumps(json.loads(STOP), indent=2)) == MonitorStop(id=1, conversation_id="cnv_1")


@pytest.mark.parametrize("text", ['{"cmd":"pong"}', '{"cmd":"pong","id":"x"}', '{"cmd":"pong","at":1}'])
def test_pong_needs_no_id(text: str) -> None:
    """Whatever stands beside it is ignored."""
    assert isinstance(one(text), Pong)


def test_pong_is_a_pong_even_where_it_cannot_be_read_in_full() -> None:
    """It has no answer, so there is nothing to refuse."""
    assert one('{"cmd":"pong","x":"\\ud800"}') == Pong()


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n"])
def test_an_empty_frame_is_fatal(text: str) -> None:
    """There must be something in it."""
    assert one(text) == Fatal(Close.BAD_FRAME, "empty frame")


@pytest.mark.parametrize("text", ["{", "x", "{}}", STOP + "x", "{'id':1}", '{"id":1,"cmd":NaN}', "\ufeff{}", "\x00"])
def test_what_is_not_json_is_fatal(text: str) -> None:
    """No answer is possible without an id."""
    assert one(text) == Fatal(Close.BAD_FRAME, "not JSON")


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "true", "[" * 1024 + "]" * 1024])
def test_what_is_not_an_object_is_fatal(text: str) -> None:
    """1,024 nested arrays are just another array."""
    assert one(text) == Fatal(Close.BAD_FRAME, "not an object")


@pytest.mark.parametrize(
    "number", ["0", "-1", "9007199254740992", "1.0", "1e2", "true", '"1"', "null", "[1]", "9" * 400, "9" * 5000]
)
def test_an_unusable_id_is_fatal(number: str) -> None:
    """An id is an integer from 1 to 2^53 - 1; booleans and floats are none."""
    assert one(f'{{"id":{number},"cmd":"monitor.stop","conversation_id":"c"}}') == Fatal(Close.BAD_FRAME, "no id")


def test_a_missing_id_is_fatal() -> None:
    """Even where the command itself is fine."""
    assert one('{"cmd":"monitor.stop","conversation_id":"c"}') == Fatal(Close.BAD_FRAME, "no id")


def test_the_largest_id_is_usable() -> None:
    """2^53 - 1 is kept exactly."""
    decoded = one(STOP.replace("1", str(2**53 - 1), 1))
    assert isinstance(decoded, MonitorStop)
    assert decoded.id == 2**53 - 1


def test_nothing_is_read_after_a_fatal_line() -> None:
    """What came before it still counts."""
    decoded = decode_frame(f"{STOP}\n[]\n{STOP}", "supervisor")
    assert decoded == [MonitorStop(id=1, conversation_id="cnv_1"), Fatal(Close.BAD_FRAME, "not an object")]


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("", "cmd"),
        (',"cmd":null', "cmd"),
        (',"cmd":3', "cmd"),
        (',"cmd":"monitor.explode"', "cmd"),
        (',"cmd":"event","event":{}', "cmd"),
        (',"cmd":"monitor.stop"', "conversation_id"),
        (',"cmd":"monitor.stop","conversation_id":"c","x":1', "x"),
        (',"cmd":"monitor.stop","conversation_id":3', "conversation_id"),
        (',"cmd":"monitor.stop","conversation_id":"c\\n"', "conversation_id"),
        (',"cmd":"monitor.stop","conversation_id":"{c}"', "conversation_id"),
        (',"cmd":"view.subscribe","view":"interactions","sort":"x"', "sort"),
        (',"cmd":"view.subscribe","view":"interactions","filter":{"channels":["web","fax"]}', "filter.channels[1]"),
        (',"cmd":"typing","conversation_id":"c","on":' + "[" * 1024 + "]" * 1024, "on"),
        (',"cmd":"typing","conversation_id":"\\ud800","on":true', "$"),
        (',"cmd":"status.set","status":"busy","req":"a\\u0000"', "req"),
    ],
)
def test_what_has_an_id_is_answered(rest: str, path: str) -> None:
    """Whatever else is wrong, the socket stays and the answer says where."""
    decoded = malformed(f'{{"id":5{rest}}}')
    assert decoded.id == 5
    assert decoded.refused.details == {"path": path}


def test_the_sentence_names_what_was_got_and_wanted() -> None:
    """For the person who reads the log of their client."""
    assert "got `monitor.explode`" in malformed('{"id":5,"cmd":"monitor.explode"}').refused.message
    assert "command of the agent endpoint" in malformed(STOP, "agent").refused.message
    assert (
        "Expected `bool`, got `str`"
        in malformed('{"id":5,"cmd":"typing","conversation_id":"c","on":"yes"}').refused.message
    )


def test_deep_nesting_anywhere_is_answered() -> None:
    """Also where a field takes any JSON."""
    deep = "[" * 1024 + "]" * 1024
    decoded = one(f'{{"id":5,"cmd":"event","event":{deep}}}', "connector")
    assert isinstance(decoded, Malformed)
    assert "too deeply" in decoded.refused.message


def test_a_lone_surrogate_in_the_text_itself_is_survived() -> None:
    """No transport delivers one, but nothing here depends on that."""
    assert malformed('{"id":5,"cmd":"status.set","status":"\ud800"}').id == 5


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_commands_of_other_endpoints_are_refused(endpoint: str) -> None:
    """Each endpoint knows its own commands only."""
    mine = {tag_of(kind) for kind in ENDPOINT_COMMANDS[endpoint]}
    every = {tag_of(kind) for kinds in ENDPOINT_COMMANDS.values() for kind in kinds}
    for cmd in every - mine:
        assert malformed(f'{{"id":5,"cmd":"{cmd}"}}', endpoint).refused.details == {"path": "cmd"}


def test_duplicate_members_do_not_raise() -> None:
    """JSON allows them; some command or refusal comes of it."""
    assert isinstance(one('{"id":5,"id":6,"cmd":"hello","token":"a","token":"b"}'), Hello)
    assert isinstance(one('{"cmd":"pong","cmd":"hello","id":5}'), Hello | Malformed | Pong)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
FIELDS = sorted({name for kinds in ENDPOINT_COMMANDS.values() for kind in kinds for name in kind.__struct_fields__})
NAMES = st.sampled_from(sorted({tag_of(kind) for kinds in ENDPOINT_COMMANDS.values() for kind in kinds}))
OBJECTS = st.builds(
    lambda rest, head: {**rest, **head},
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), VALUES, max_size=5),
    st.fixed_dictionaries({}, optional={"cmd": NAMES | VALUES, "id": st.integers(1, 9) | VALUES}),
)


def check(text: str, endpoint: str) -> None:
    """What holds for every frame."""
    decoded = decode_frame(text, endpoint)
    assert decoded
    assert not any(isinstance(item, Fatal) for item in decoded[:-1])
    for item in decoded:
        if isinstance(item, Malformed):
            assert item.refused.message
            item.refused.message.encode()
            json.dumps(item.refused.details).encode()


@given(st.text(), st.sampled_from(ENDPOINTS))
def test_no_text_raises(text: str, endpoint: str) -> None:
    """Any text is commands, refusals, or an end."""
    check(text, endpoint)


@given(st.text('{}[]":,\\nu0dc8 \n1eE-.ait'), st.sampled_from(ENDPOINTS))
def test_no_text_that_looks_like_json_raises(text: str, endpoint: str) -> None:
    """The same with the signs that JSON is made of."""
    check(text, endpoint)


@given(st.lists(OBJECTS, max_size=3), st.sampled_from(ENDPOINTS), st.booleans())
def test_no_json_raises(objects: list[dict[str, Any]], endpoint: str, pretty: bool) -> None:
    """The same with objects that are nearly commands, NaN and half surrogate pairs included."""
    check("\n".join(json.dumps(item, indent=1 if pretty else None) for item in objects), endpoint)
