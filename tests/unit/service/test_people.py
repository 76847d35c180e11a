"""Presence: a status that lives with the person."""

import asyncio
from dataclasses import dataclass

import orjson
import pytest

from hub.domain.errors import Refused
from hub.service.people import TRIES_MAX, People
from hub.settings import Settings
from tests.support.fake_store import FakeStore
from tests.unit.domain.words import desk, person

HOUR_MS = 3_600_000


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: int = 1_000_000

    def __call__(self) -> int:
        """Milliseconds."""
        return self.now


def nodes(*names: str) -> tuple[FakeStore, Clock, list[People]]:
    """Nodes over one store and one clock."""
    store, clock = FakeStore(), Clock()
    return store, clock, [People(store, Settings(), name, clock) for name in names or ("east",)]


async def test_offline_by_default() -> None:
    """Nobody has a status before setting one."""
    store, _, (people,) = nodes()
    assert await people.status("acme", "ana") == "offline"
    assert await people.arrive(person()) == "offline"
    assert store.people_log


async def test_status_lives_with_the_person() -> None:
    """Set on one node it reads so on all, since then, and setting it again changes nothing."""
    store, clock, (east, west) = nodes("east", "west")
    await east.arrive(person())
    await east.set_status(person(), "available")
    clock.now += 5
    entries = len(store.people_log)
    await west.set_status(person(), "available")
    assert await west.status("acme", "ana") == "available"
    assert await west.status("other", "ana") == "offline"
    assert len(store.people_log) == entries
    said = orjson.loads(store.people_log[-1])
    assert (said["status"], said["status_since"], said["present"], said["agent"]) == (
        "available",
        1_000_000,
        True,
        None,
    )


async def test_agents_rights_are_told() -> None:
    """Whoever connects with role `agent` is shown to those who share a queue and a division."""
    store, _, (people,) = nodes()
    await people.arrive(desk("bob"))
    assert orjson.loads(store.people_log[-1])["agent"] == {"queues": [], "divisions": []}
    assert People.public(store.people["acme", "bob"]) == store.people_log[-1]


async def test_offline_a_minute_after_the_last_socket() -> None:
    """Not before, not while another node has a socket, and only once."""
    store, clock, (east, west) = nodes("east", "west")
    await east.arrive(person())
    await west.arrive(person())
    await east.set_status(person(), "available")
    await east.depart("acme", "ana")
    await east.depart("acme", "ana")
    clock.now += 60_000
    await east.fade("acme", "ana")
    assert await east.status("acme", "ana") == "available"
    await east.depart("acme", "ana", "west")
    presence = People.presence_of(store.people_log[-1])
    assert presence == ("ana", clock.now, (), True)
    clock.now += 59_999
    await east.fade("acme", "ana")
    assert not east.faded(*presence[1:])
    assert await east.status("acme", "ana") == "available"
    clock.now += 1
    assert east.faded(*presence[1:])
    await asyncio.gather(east.fade("acme", "ana"), west.fade("acme", "ana"))
    assert await east.status("acme", "ana") == "offline"
    entries = len(store.people_log)
    await east.fade("acme", "ana")
    assert len(store.people_log) == entries
    assert not east.faded(*People.presence_of(store.people_log[-1])[1:])


@pytest.mark.parametrize(("gone_ms", "status"), [(30_000, "busy"), (11 * HOUR_MS, "busy"), (13 * HOUR_MS, "offline")])
async def test_comes_back_within_twelve_hours(gone_ms: int, status: str) -> None:
    """The next hello brings the status back, for half a day."""
    _, clock, (people,) = nodes()
    await people.arrive(person())
    await people.set_status(person(), "busy")
    await people.depart("acme", "ana")
    clock.now += gone_ms
    await people.fade("acme", "ana")
    assert await people.arrive(person()) == status


async def test_fading_of_somebody_already_offline_keeps_since() -> None:
    """Who set `offline` themselves is offline since then."""
    store, clock, (people,) = nodes()
    await people.arrive(person())
    await people.set_status(person(), "busy")
    await people.set_status(person(), "offline")
    since = orjson.loads(store.people_log[-1])["status_since"]
    await people.depart("acme", "ana")
    clock.now += 60_000
    await people.fade("acme", "ana")
    said = orjson.loads(store.people_log[-1])
    assert (said["status_since"], said["present"]) == (since, False)


async def test_two_nodes_at_once() -> None:
    """Neither node's change is lost."""
    store = FakeStore(7, turns_max=3)
    clock = Clock()
    both = [People(store, Settings(), name, clock) for name in ("east", "west")]
    await asyncio.gather(*(one.arrive(person()) for one in both), both[0].set_status(person(), "available"))
    said = orjson.loads(store.people_log[-1])
    assert (said["nodes"], said["status"]) == (["east", "west"], "available")


async def test_too_many_changes() -> None:
    """Who always comes too late is told to try again."""

    class Busy(FakeStore):
        tries = 0

        async def set_person(
            self, org: str, user_id: str, expected: bytes, record: bytes, entry: bytes
        ) -> bytes | None:
            Busy.tries += 1
            return b""

    people = People(Busy(), Settings(), "east", Clock())
    with pytest.raises(Refused) as caught:
        await people.arrive(person())
    assert (caught.value.code, Busy.tries) == ("store_unavailable", TRIES_MAX)
