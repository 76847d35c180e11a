"""One organization's board on this node: a replica of its logs, and the views made of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.fanout.board import Board, Entry
from hub.fanout.views import Views
from hub.service.people import People
from hub.store.follow import Log

if TYPE_CHECKING:
    from hub.fanout.node import Node

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 200
ENDED_LOADED = 300  # newest settled conversations of a partition that views can ask for after a start
PARTITIONS_AT_ONCE = 8
Changed = Callable[["Org", Entry | None, Entry | None], None]


class BoardLog(Log):
    """The board of one partition."""

    def __init__(self, org: Org, p: int, name: bytes, top_key: bytes) -> None:
        super().__init__(name, top_key)
        self.org = org
        self.p = p

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        """A changed row, or one that is gone."""
        if body.startswith(b"D"):
            self.org.erased(self.p, body[1:].decode())
            return
        change = self.org.board.apply(self.p, offset, body)
        if change is not None:
            self.org.node.meter.view_changes += 1
            self.org.views.mark(change)
            self.org.changed(self.org, change.old, change.new)

    def reset(self, reason: str) -> None:
        """Load the partition again."""
        self.org.node.spawn(self.org.reload(self, reason))


class PeopleLog(Log):
    """Everybody's presence."""

    def __init__(self, org: Org, name: bytes, top_key: bytes) -> None:
        super().__init__(name, top_key)
        self.org = org

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        """A changed person."""
        self.org.views.mark_person(self.org.board.apply_person(body))
        self.org.note_presence(body)

    def reset(self, reason: str) -> None:
        """Load everybody again."""
        self.org.node.spawn(self.org.reload(self, reason))


class Org:
    """See the module. `sockets` counts the sessions here; without any the replica is given up after a while."""

    def __init__(self, node: Node, org: str, changed: Changed) -> None:
        self.node = node
        self.org = org
        self.changed = changed
        settings = node.settings
        self.board = Board(org, mask=node.maskers.row)

        def queue(queue_id: str) -> tuple[str, str]:
            found = settings.queues[queue_id]
            return found.name, found.division

        self.views = Views(self.board, queues=queue, now_ms=node.now_ms, configured=settings.queues)
        self.sockets = 0
        self.empty_since = 0.0
        self.presence: dict[str, tuple[int | None, tuple[str, ...], bool]] = {}  # user: left_at, nodes, present
        self._logs: list[Log] = []
        self.ready: asyncio.Future[None] | None = None
        self.board.observers.append(lambda old, new: self.changed(self, old, new))

    async def start(self) -> None:
        """Subscribe to everything, load it, then let what came meanwhile in."""
        keys = self.node.store.keys
        logs = [
            BoardLog(self, p, keys.board(p, self.org), keys.board_top(p, self.org))
            for p in self.node.store.partitions()
        ]
        people = PeopleLog(self, keys.people_log(self.org), keys.people_top(self.org))
        self._logs = [*logs, people]
        bound = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def one(followed: Log) -> None:
            async with bound:
                await self._load(followed)

        await asyncio.gather(*(self.node.follower.subscribe(one) for one in self._logs))
        await asyncio.gather(*(one(followed) for followed in self._logs))

    def erased(self, p: int, name: str) -> None:
        """A conversation was erased: the log calls it by its name in the ledger."""
        keys = self.node.settings.ledger
        for entry in list(self.board):
            if entry.p == p and name in keys.names(self.org, entry.conversation_id):
                self.board.drop(entry.conversation_id)
                return

    def stop(self) -> None:
        """Follow nothing any more."""
        logs, self._logs = self._logs, []
        for one in logs:
            self.node.follower.unsubscribe(one)

    async def reload(self, followed: Log, reason: str) -> None:
        """After a reset: the same from the beginning."""
        log.warning("board log of %s starts again: %s", self.org, reason)
        while followed in self._logs:
            try:
                self.node.follower.unsubscribe(followed)
                await self.node.follower.subscribe(followed)
                await self._load(followed)
                return
            except Exception as error:
                log.warning("loading again failed: %s", type(error).__name__)
            await asyncio.sleep(0.5)

    async def _load(self, followed: Log) -> None:
        if isinstance(followed, BoardLog):
            await self._load_board(followed)
        else:
            top, tag, records = await self.node.store.people(self.org)
            for raw in records:
                body = People.public(raw)
                self.views.mark_person(self.board.apply_person(body))
                self.note_presence(body)
            self.node.follower.start(followed, top, tag)

    async def _load_board(self, followed: BoardLog) -> None:
        """Everything is read first: rows that stay the same are no change for anybody."""
        store, p = self.node.store, followed.p
        top, tag = await store.board_top(p, self.org)
        live = await store.indexed(p, "live")
        closed = await store.indexed(p, "closed", newest=ENDED_LOADED)
        ids = [conversation_id for org, conversation_id in (*reversed(closed), *live) if org == self.org]
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows += await store.rows(p, self.org, ids[start : start + ROWS_AT_ONCE])
        self.board.clear_partition(p)
        for row, extra, row_at, awaiting, since, messages in rows:
            if row is not None:
                speaker = awaiting.decode() if awaiting else None
                self.board.load(p, row, extra, int(row_at), speaker, int(since) if since else None, int(messages or 0))
        self.node.follower.start(followed, top, tag)

    def note_presence(self, body: bytes) -> None:
        """Keep what the sweep looks at."""
        user_id, left_at, nodes, present = People.presence_of(body)
        self.presence[user_id] = (left_at, nodes, present)
