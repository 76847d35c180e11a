"""What the store itself says, read past the hub: transcripts with their headers, ledger, segments, state, actions."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.domain.conversation import Conversation, Monitor
from hub.service.codec import decode_loaded
from hub.service.ports import StoredEntry
from hub.store.keys import PARTITIONS, Keys, partition
from hub.store.redis_store import pairs, stored_entry
from tests.support.judge.records import Json, Place
from tests.support.processes import StoreProcess
from tests.support.store import ask


@dataclass(frozen=True, slots=True)
class Written:
    """One transcript entry; `monitor` is who held the conversation when it was written (`-`: nobody)."""

    offset: int
    tag: str
    audience: str
    customer_offset: int
    monitor: str
    event: Json

    @property
    def name(self) -> str:
        """The event's name."""
        return str(self.event["event"])

    @property
    def data(self) -> Json:
        """The event's data."""
        found: Json = self.event["data"]
        return found

    def place(self, epoch: str, *, customer: bool = False) -> Place:
        """Its position as people who answer see it, or as the customer does."""
        return Place(epoch, self.tag, self.customer_offset if customer else self.offset)


@dataclass(frozen=True)
class Kept:
    """
    Everything that the store has of one conversation.

    `ledger` and `segments` are in the order in which they were written, a line with the store's time of that moment as
    `written_at` (its own `at` is from when it was decided); `actions` are the ones not reported yet.
    """

    conversation_id: str
    epoch: str
    state: Conversation
    monitor: Monitor | None
    entries: Sequence[Written]
    ledger: Sequence[Json] = ()
    segments: Sequence[Json] = ()
    actions: Sequence[Json] = ()

    @property
    def top(self) -> int:
        """Offset of the last entry."""
        return self.entries[-1].offset if self.entries else 0

    @property
    def customer_top(self) -> int:
        """The customer's last offset."""
        return self.entries[-1].customer_offset if self.entries else 0

    @property
    def whole(self) -> bool:
        """True where nothing was cut off the transcript's beginning."""
        return bool(self.entries) and self.entries[0].offset == 1


@dataclass(frozen=True)
class Truth:
    """One organization as the store has it; `at` is monotonic time (seconds) before it was read."""

    at: float
    org: str
    conversations: Mapping[str, Kept] = field(default_factory=dict)


# Whatever stands under each key, all as of one moment.
_READ = """
local out = {}
local how = {zset = {'ZRANGE', 0, -1}, stream = {'XRANGE', '-', '+'}, list = {'LRANGE', 0, -1}, hash = {'HGETALL'}}
for i, key in ipairs(KEYS) do
  local way = how[redis.call('TYPE', key).ok]
  out[i] = way and redis.call(way[1], key, unpack(way, 2)) or {}
end
return out
"""


async def read_truth(store: StoreProcess, org: str, prefix: str = "hub") -> Truth:
    """
    Read everything of an organization, when nothing is under way any more: sockets that are open at this moment are
    expected to have been told all of it.
    """
    at, keys = asyncio.get_running_loop().time(), Keys(prefix)
    every = range(PARTITIONS)
    members = {
        one.decode()
        for index in await _read(store, [*map(keys.live, every), *map(keys.closed, every)])
        for one in index
    }
    names = sorted(one.partition("/")[2] for one in members if one.partition("/")[0] == org)
    parts = (keys.conversation, keys.transcript, keys.segments, keys.actions)
    wanted = [key(partition(org, name), org, name) for name in names for key in parts]
    # together, or one would be older than the other
    found = await _read(store, [*map(keys.ledger, every), *map(keys.ledger_names, every), *wanted])
    called = {name: member for flat in found[PARTITIONS : 2 * PARTITIONS] for name, member in pairs(flat).items()}
    ledgers: dict[str, list[Json]] = {name: [] for name in names}
    for id, entry in [entry for ledger in found[:PARTITIONS] for entry in ledger]:
        line = json.loads(entry[1])
        # an older hub's lines have the id, today's the name that stands for it
        member = (
            called.get(line.get("conversation", "").encode(), b"").decode() or f"{org}/{line.get('conversation_id')}"
        )
        if line["org"] == org and (name := member.partition(" ")[0].partition("/")[2]) in ledgers:
            ledgers[name].append(line | {"conversation_id": name, "written_at": int(id.partition(b"-")[0])})
    stored = [found[place : place + len(parts)] for place in range(2 * PARTITIONS, len(found), len(parts))]
    return Truth(at, org, {name: _kept(name, ledgers[name], *one) for name, one in zip(names, stored, strict=True)})


async def _read(store: StoreProcess, keys: Sequence[bytes]) -> list[Any]:
    if not keys:
        return []
    answer: list[Any] = await ask(store, "EVAL", _READ, str(len(keys)), *(key.decode() for key in keys))
    return answer


def _kept(name: str, ledger: list[Json], fields: Any, entries: Any, segments: Any, actions: Any) -> Kept:
    loaded = decode_loaded(pairs(fields), 0)
    return Kept(
        conversation_id=name,
        epoch=loaded.epoch,
        state=loaded.situation.existing,
        monitor=loaded.situation.monitor,
        entries=[_written(stored_entry(id, entry)) for id, entry in entries],
        ledger=ledger,
        segments=[json.loads(entry[1]) for _, entry in segments],
        actions=[json.loads(action.partition(b" ")[2]) for action in actions],
    )


def _written(one: StoredEntry) -> Written:
    return Written(one.offset, one.tag, one.audience, one.customer_offset, one.monitor_id, json.loads(one.body))
