"""Every literal frame of the documentation, read and written by the code (they stand in `tests/frames`)."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.domain.errors import Refused
from hub.protocol import commands, platform, types
from hub.protocol.commands import ENDPOINT_COMMANDS, Command, Pong, tag_of
from hub.protocol.decode import decode_frame
from hub.protocol.encode import encode_error, encode_event, encode_ok
from hub.protocol.types import ENDPOINT_EVENTS, OK_SHAPES

ROOT = Path(__file__).parents[3]
FRAMES: list[tuple[str, dict[str, Any]]] = [
    (path.stem, sample)
    for path in sorted((ROOT / "tests" / "frames").glob("*.json"))
    for sample in json.loads(path.read_text())
]
ROWS: dict[str, Any] = {
    "subscription": types.InteractionRow,
    "waiting": types.QueueRow,
    "status_since": types.AgentRow,
    "kind": types.RosterRow,
}


def of(kind: str) -> list[Any]:
    """Test parameters: the samples of a kind with their place."""
    return [
        pytest.param(place, sample, id=f"{place}-{index}-{sample['name']}")
        for index, (place, sample) in enumerate(FRAMES)
        if sample["kind"] == kind
    ]


def fits(value: Any, shape: Any) -> None:
    """Check that `value` has the shape, and nothing that the shape doesn't know."""
    assert msgspec.to_builtins(msgspec.convert(value, shape)) == value


@pytest.mark.parametrize(("place", "sample"), of("command"))
def test_commands_are_read(place: str, sample: dict[str, Any]) -> None:
    """Each decodes to its struct, and back to the same fields."""
    (command,) = decode_frame(sample["frame"], place)
    assert isinstance(command, Command | Pong)
    assert type(command) is getattr(commands, sample["struct"])
    assert tag_of(type(command)) == sample["name"]
    wire = json.loads(sample["frame"])
    again = json.loads(msgspec.json.encode(command))
    assert {name: again[name] for name in wire} == wire


@pytest.mark.parametrize(("place", "sample"), of("platform"))
def test_platform_events_are_read(place: str, sample: dict[str, Any]) -> None:
    """Each decodes to its struct, and back to the same fields."""
    event = platform.decode_event(sample["frame"].encode())
    assert type(event) is getattr(platform, sample["struct"])
    wire = json.loads(sample["frame"])
    again = json.loads(msgspec.json.encode(event))
    assert {name: again["data"][name] for name in wire["data"]} == wire["data"]
    assert wire["type"] == sample["name"]


@pytest.mark.parametrize(("place", "sample"), of("event"))
def test_events_are_written(place: str, sample: dict[str, Any]) -> None:
    """Each is encoded to these very bytes, and has the shape that is documented for its endpoint."""
    wire = json.loads(sample["frame"])
    shape = ENDPOINT_EVENTS[place][sample["name"]]
    assert set(wire) - {"at"} == {
        "event",
        *(["conversation_id"] if shape.conversation else []),
        *(["cursor"] if shape.cursor else []),
        *(["data"] if shape.data is not None else []),
    }
    if shape.data is not None:
        fits(wire["data"], shape.data)
    frame = encode_event(
        wire["event"],
        wire.get("data"),
        conversation_id=wire.get("conversation_id"),
        at=wire.get("at"),
        cursor=wire.get("cursor"),
    )
    assert frame.decode() == sample["frame"]


@pytest.mark.parametrize(("place", "sample"), of("ok"))
def test_answers_are_written(place: str, sample: dict[str, Any]) -> None:
    """Each is encoded to these very bytes, and has the shape of its command's answer."""
    wire = json.loads(sample["frame"])
    fits(wire["ok"], OK_SHAPES.get(sample["name"], types.Nothing))
    assert encode_ok(wire["id"], wire["ok"]).decode() == sample["frame"]


@pytest.mark.parametrize(("place", "sample"), of("error"))
def test_refusals_are_written(place: str, sample: dict[str, Any]) -> None:
    """Each is encoded to these very bytes, `retryable` following from the code."""
    wire = json.loads(sample["frame"])
    error = wire["error"]
    assert error["code"] == sample["name"]
    refused = Refused(error["code"], error["message"], error["details"])
    assert encode_error(wire.get("id"), refused).decode() == sample["frame"]


@pytest.mark.parametrize(("place", "sample"), of("body"))
def test_bodies_have_their_shape(place: str, sample: dict[str, Any]) -> None:
    """Each HTTP body has the shape that is documented for its route."""
    fits(json.loads(sample["frame"]), getattr(types, sample["struct"]))


def test_rows_have_their_shape() -> None:
    """The rows in the samples are complete, those for agents without `monitor`."""
    seen = set()
    for place, sample in FRAMES:
        wire = json.loads(sample["frame"])
        data = wire.get("data", {})
        rows = [*data.get("rows", ()), *([data["conversation"]] if "conversation" in data else ())]
        for row in rows:
            shape = next((ROWS[mark] for mark in ROWS if mark in row), types.InteractionRow)
            fits(row, shape)
            missing = set(shape.__annotations__) - set(row)
            assert missing == ({"monitor"} if place == "agent" else set())
            seen.add(shape)
    assert len(seen) == 4


def test_the_documentation_shows_these_frames() -> None:
    """Every line of a JSON block is a sample, in its section's file, and every sample is shown."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    blocks = re.findall(r"^```json (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = {(place, line) for place, body in blocks for line in body.splitlines()}
    assert shown == {(place, sample["frame"]) for place, sample in FRAMES}
    assert "```json\n" not in text


def test_every_command_and_event_has_a_sample() -> None:
    """By name, at one endpoint at least."""
    commands_shown = {sample["name"] for _, sample in FRAMES if sample["kind"] == "command"}
    assert commands_shown == {tag_of(kind) for kinds in ENDPOINT_COMMANDS.values() for kind in kinds}
    events_shown = {sample["name"] for _, sample in FRAMES if sample["kind"] == "event"}
    assert events_shown == {name for events in ENDPOINT_EVENTS.values() for name in events}
    types_shown = {sample["name"] for _, sample in FRAMES if sample["kind"] == "platform"}
    assert types_shown == {tag_of(kind) for kind in platform.PlatformEvent.__subclasses__()}
