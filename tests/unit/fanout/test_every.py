"""Routine work of a node: in its rhythm, soon again where the store gave no answer; who counts as dead."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from hub.fanout.node import AGAIN_S
from hub.fanout.node import Node as Hub
from hub.store.redis_store import store_unavailable


@pytest.mark.parametrize(("seconds", "again"), [(5.0, AGAIN_S), (0.2, 0.2)])
async def test_unanswered_work_does_not_wait_for_its_turn(
    monkeypatch: pytest.MonkeyPatch, seconds: float, again: float
) -> None:
    """A lease of 15 s that is renewed each 5 s was lost when three turns fell into short absences of the store."""
    pauses: list[float] = []
    answers = iter([store_unavailable("none"), store_unavailable("unknown"), None, None])

    async def pause(given: float) -> None:
        pauses.append(given)

    async def work() -> None:
        try:
            refused = next(answers)
        except StopIteration:
            raise asyncio.CancelledError from None
        if refused is not None:
            raise refused

    monkeypatch.setattr("hub.fanout.node.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await Hub._every(cast(Hub, SimpleNamespace(store_ok=False)), seconds, work)
    assert pauses == [seconds, again, again, seconds, seconds]


def test_a_node_that_is_not_there_yet_is_not_dead() -> None:
    """
    Dead is who is missing for some beats.

    A node that had just started was taken for dead until the next beat, and whoever had connected to it read offline.
    """
    hub = cast(Hub, SimpleNamespace(alive=["here"], node_id="here", _beats=7, _missing={}))
    assert not Hub._dead(hub, "here")
    for beats, dead in ((7, False), (8, False), (9, True)):
        hub._beats = beats
        assert Hub._dead(hub, "new") is dead
    hub.alive = ["here", "new"]
    assert not Hub._dead(hub, "new")
