"""Events that adapters hand over as objects are read as their JSON is: taken alike, and refused alike."""

import copy
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol.platform import BadEvent, PanelData, StartedData, decode_event, event_from

Json = dict[str, Any]
FILE = {"url": "https://example.org/1.png", "name": "Größe.png", "mime": "image/png"}
DATA: dict[str, Json] = {
    "conversation.started": {
        "channel": "open",
        "queue": "support",
        "customer": {"id": "k-1", "name": "Dana"},
        "panels": {"crm": {"tier": ["gold", None, 1.5]}, "empty": {}},
    },
    "participant.connected": {"participant_id": "p-1", "purpose": "agent", "user_id": "max", "name": "Max Weber"},
    "participant.disconnected": {"participant_id": "p-1", "disconnect_type": "client"},
    "message.created": {"message_id": "m-1", "purpose": "customer", "text": "漢字 👩🏽‍🚀", "attachments": [FILE]},
    "message.receipt": {"message_id": "m-1", "status": "failed", "reason": "no way"},
    "typing": {"on": True, "participant_id": "p-1"},
    "panel.updated": {"panel": "crm", "content": {"a": [1, "ü"]}},
    "conversation.transferred": {"queue": "billing"},
    "conversation.ended": {"reason": "done"},
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
    st.sampled_from(["open", "voice", "customer", "a b", "", "x" * 65, "message.created", {"id": "k"}, [FILE] * 11]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a value, by the names that lead there."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, member in value.items():
            found += places(member, (*path, name))
    return found


@st.composite
def events(draw: st.DrawFn) -> Json:
    """A good event, or one in which something is missing, odd, or too much."""
    kind = draw(st.sampled_from(sorted(DATA)))
    event: Json = {"id": "e-1", "type": kind, "conversation_id": "c-1", "at": 1, "data": copy.deepcopy(DATA[kind])}
    for _ in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from(places(event)))
        inside = event
        for name in way:
            inside = inside[name]
        change = draw(st.sampled_from(["odd", "missing", "more"]))
        if change == "odd":
            inside[last] = draw(ODD)
        elif change == "missing":
            del inside[last]
        else:
            inside["more"] = draw(ODD)
        if not places(event):
            break
    return event


def shown(event: Any) -> object:
    """What can be compared: of a refusal its words, of contents that are passed on their bytes."""
    if isinstance(event, BadEvent):
        return event.id, event.refused.code, event.refused.message, event.refused.details
    fields = msgspec.structs.asdict(event)
    if isinstance(event.data, PanelData):
        fields["data"] = (event.data.panel, bytes(event.data.content))
    elif isinstance(event.data, StartedData):
        panels = {name: bytes(content) for name, content in event.data.panels.items()}
        fields["data"] = msgspec.structs.asdict(event.data) | {"panels": panels}
    return type(event), fields


@given(events())
def test_an_object_is_read_as_its_json_is(event: Json) -> None:
    """The same event, or the same refusal; and the object stays as it was."""
    before = copy.deepcopy(event)
    assert shown(event_from(event)) == shown(decode_event(orjson.dumps(event)))
    assert event == before


@pytest.mark.parametrize("kind", sorted(DATA))
def test_good_ones_are_taken(kind: str) -> None:
    """Each type, so that the comparison isn't one of refusals alone."""
    event = {"id": "e-1", "type": kind, "conversation_id": "c-1", "at": 1, "data": DATA[kind]}
    assert not isinstance(event_from(event), BadEvent)


@pytest.mark.parametrize("data", [{"text": "\ud800"}, {"text": "x", "attachments": [FILE | {"name": "\udfff"}]}])
def test_half_a_character_is_a_mistake_of_the_adapters(data: Json) -> None:
    """JSON can't have it, so nothing of it may get to a screen."""
    event = {"id": "e-1", "type": "message.created", "conversation_id": "c-1", "at": 1}
    with pytest.raises(TypeError):
        event_from(event | {"data": {"message_id": "m-1", "purpose": "customer"} | data})
