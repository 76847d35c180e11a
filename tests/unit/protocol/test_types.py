"""Shapes of what the hub sends."""

import inspect
from typing import Any, is_typeddict

import msgspec
import pytest

from hub.protocol import types
from hub.protocol.commands import ENDPOINT_COMMANDS, tag_of
from hub.protocol.decode import ENDPOINTS
from hub.protocol.types import ENDPOINT_EVENTS, OK_SHAPES

TRANSCRIPT = {
    "message.created",
    "message.updated",
    "message.receipt",
    "panel.updated",
    "participant.connected",
    "participant.disconnected",
    "conversation.transferred",
    "conversation.ended",
    "takeover.completed",
}
SHAPES = [one for _, one in inspect.getmembers(types, is_typeddict)]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_documented_and_described(shape: Any) -> None:
    """A docstring for the reader, a JSON Schema for the documents."""
    assert shape.__doc__
    assert msgspec.json.schema(shape)


@pytest.mark.parametrize("endpoint", ["supervisor", "agent", "customer"])
def test_events_of_the_transcript_have_cursors(endpoint: str) -> None:
    """These and no others (protocol.md, section 1)."""
    events = ENDPOINT_EVENTS[endpoint]
    assert {name for name, shape in events.items() if shape.cursor} == TRANSCRIPT & set(events)
    assert all(shape.conversation for shape in events.values() if shape.cursor)


def test_actions_have_no_cursors() -> None:
    """A platform is told one after the other instead."""
    assert not any(shape.cursor for shape in ENDPOINT_EVENTS["connector"].values())


@pytest.mark.parametrize("endpoint", ["agent", "connector", "customer"])
def test_nobody_but_supervisors_hears_of_monitors(endpoint: str) -> None:
    """There is no such event for them."""
    assert not any(name.startswith("monitor.") for name in ENDPOINT_EVENTS[endpoint])


def test_each_endpoint_is_described() -> None:
    """Events for all, answers for commands that exist."""
    assert set(ENDPOINT_EVENTS) == set(ENDPOINTS)
    assert set(OK_SHAPES) <= {tag_of(kind) for kinds in ENDPOINT_COMMANDS.values() for kind in kinds}
