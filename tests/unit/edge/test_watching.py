"""What a session gives of what it has read, and how long it believes its monitor's lease."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hub.edge.supervisor import SupervisorSession
from hub.edge.watching import WatchingSession
from hub.fanout.node import MonitorRef
from hub.service.ports import StoredEntry
from hub.settings import Settings
from tests.unit.domain.words import BOB, NOW, monitor
from tests.unit.fanout.test_watch import World

BODY = b'{"event":"message.created","conversation_id":"cnv_1","at":1,"data":{}}'
LEASE_MS = Settings().lease_ms


class Session:
    """As much of a session as is looked at."""

    monitors: dict[str, MonitorRef]

    def __init__(self, **parts: object) -> None:
        vars(self).update(parts)


def entries(*offsets: int) -> list[StoredEntry]:
    """Messages that were written under the monitor `mon_1`."""
    return [StoredEntry(offset, str(offset), "as", 0, "mon_1", BODY) for offset in offsets]


async def test_what_was_read_is_given_as_long_as_the_lease_is_certain() -> None:
    """
    A process that stood still while it read doesn't give what it read to a supervisor who may not be the monitor any more.

    Catching up and resuming delivered all they had read, whatever the lease said by then.
    """
    world = World(monitor_id="mon_1")
    world.shown(10, "10")
    replay = WatchingSession._replay
    replay(cast(Any, None), world.watch, entries(11))
    world.screen.lease_until = 0.0
    replay(cast(Any, None), world.watch, entries(12, 13))
    assert world.screen.given == [11]
    assert (world.watch.behind, world.watch.offset) == (True, 11)


async def test_what_was_read_for_a_monitor_that_is_over_is_nobodys() -> None:
    """The monitor ended while this was read."""
    world = World(monitor_id="mon_1")
    world.shown(10, "10")
    world.watch.monitor_id = None
    WatchingSession._replay(cast(Any, None), world.watch, entries(11))
    assert world.screen.given == []


@pytest.mark.parametrize(("rest_ms", "certain_s"), [(LEASE_MS, 12.0), (LEASE_MS // 2, 4.5), (0, -3.0)])
async def test_a_start_that_extends_nothing_prolongs_no_belief(rest_ms: int, certain_s: float) -> None:
    """
    What is believed of a lease is what is left of it as the store has it, less the part that is in doubt.

    A start that was repeated, or joined a monitor that the session had joined, extends nothing; it was taken for a whole lease.
    """
    session = Session(
        session_id="ses_ana",
        settings=Settings(),
        monitors={},
        person=SimpleNamespace(org="acme"),
        node=SimpleNamespace(monitoring=defaultdict(set)),
    )
    asked = asyncio.get_running_loop().time()
    held = monitor("ana", BOB, until=NOW + rest_ms)
    SupervisorSession._remember(cast(Any, session), "cnv_1", held, asked, NOW)
    assert session.monitors["cnv_1"].certain_until == pytest.approx(asked + certain_s)
