"""
What a node does for the records, by the clock: seals the ledger, ends what was kept long enough, erases customers.

    seal      each minute, by the node that prefers partition 0
    retire    each full sweep, a page of ended conversations of each partition that this node prefers
    erasures  each full sweep, by the node that prefers partition 0; every step can be taken up by another one
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.store.connection import Unavailable, Unknown
from hub.store.erasures import CLEANING, DONE, ERASING, Erasure, Erasures
from hub.store.keys import PARTITIONS, partition
from hub.store.ledger import Ledger
from hub.store.redis_store import store_unavailable

if TYPE_CHECKING:
    from hub.fanout.node import Node

log = logging.getLogger(__name__)

PAGE = 100
SWEEP_MOST_S = 10.0
LOOK_AGAIN_S = 24 * 3600.0  # after which everything that has ended is looked at once more

Forget = Callable[[str, str], Awaitable[None]]


class Records:
    """
    See the module.

    `on_erased` are called with organization and conversation before one is erased, for what it has outside of the store;
    each may be asked again, and raises OSError where it can't now.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ledger = Ledger(node.store, node.settings.ledger, node.settings.ledger_entries_max)
        self.erasures = Erasures(node.store, node.settings.ledger.first)
        self.on_erased: list[Forget] = []
        self.seals = 0  # made here
        self.erasures_done = 0  # carried through here
        self.erased: Counter[str] = Counter({"retention": 0, "customer": 0})  # conversations erased here, by the reason
        self._walks: dict[int, _Walk] = {}
        self._tidied = 0
        self._sealed_s = time.monotonic()  # when all was sealed, or, before that, when it became this node's turn

    # -- the ledger --------------------------------------------------------------------------------------------------

    async def seal(self) -> None:
        """Seal the ledger, where that is this node's turn; the log has what was sealed, outside of the store."""
        if not self.node.prefers(0):
            self._sealed_s = time.monotonic()
            return
        began = time.monotonic()
        made = await self.ledger.seal()
        self._sealed_s = began
        if made is not None:
            self.seals += 1
            log.info("the ledger is sealed: %s", made)
        self._tidied = (self._tidied + 1) % PARTITIONS
        await self.ledger.tidy(self._tidied)

    @property
    def seal_age_s(self) -> float | None:
        """How old the oldest line can be that no seal covers yet, in seconds; None where sealing is another node's turn."""
        return time.monotonic() - self._sealed_s if self.node.prefers(0) else None

    # -- retention ---------------------------------------------------------------------------------------------------

    async def retire(self, p: int, now: int) -> None:
        """
        Look at a page of a partition's ended conversations, oldest first: erase them, or note when that is due.

        Each is looked at once after this node came to prefer the partition, and once a day: so what a changed
        configuration says is followed for those that ended under another one.
        """
        walk = self._walks.setdefault(p, _Walk())
        if walk.over_s and time.monotonic() - walk.over_s > LOOK_AGAIN_S:
            self._walks[p] = walk = _Walk()
        until = now - self.node.settings.retention_least - 1
        page = await self.node.store.ended_between(p, walk.since, until, walk.page)
        names = [(org, conversation_id) for org, conversation_id, _ in page]
        later = []
        for name, ending in zip(names, await self.node.store.endings(names), strict=True):
            if ending is None:
                await self.retire_one(*name)
            elif (at := ending[1] + self.node.settings.retention_of(ending[0])) < now:
                await self.erase(*name)
            else:
                later.append((*name, at))
        if later:
            await self.node.store.set_due("erase", later)
        walk.go_on(page)

    async def retire_one(self, org: str, conversation_id: str) -> None:
        """Erase an ended conversation whose queue's time is over, or note when it will be."""
        now = await self.node.store.now_ms()
        [ending] = await self.node.store.endings([(org, conversation_id)])
        if ending is None:
            await self.node.store.drop_due("erase", org, conversation_id)
            situation = (await self.node.conversations.load(org, conversation_id)).situation
            if situation.conversation is None:
                await self.erase(org, conversation_id)
            return
        at = ending[1] + self.node.settings.retention_of(ending[0])
        if at < now:
            await self.erase(org, conversation_id)
        else:
            await self.node.store.set_due("erase", [(org, conversation_id, at)])

    async def erase(self, org: str, conversation_id: str, *, why: str = "retention", forget: bool = False) -> bool:
        """
        Everything that is kept under its name; see `RedisStore.erase`.

        False where what it has outside of the store can't be erased now: its record stays, so that it is found again.
        """
        try:
            for told in self.on_erased:
                await told(org, conversation_id)
        except OSError as error:
            log.warning("what a conversation has outside the store can't be erased: %s", error.strerror or error)
            return False
        await self.node.store.erase(org, conversation_id, why=why, forget=forget)
        self.erased[why] += 1
        if org in self.node.orgs:
            self.node.orgs[org].board.drop(conversation_id)
        return True

    # -- customers ---------------------------------------------------------------------------------------------------

    async def carry_on(self) -> None:
        """A step further with each erasure that is under way, where that is this node's turn."""
        if not self.node.prefers(0):
            return
        for id in await self.erasures.running():
            await self._carry_on(id)

    async def hasten(self, id: str) -> None:
        """Carry on at once with what this node was asked for; should it die, the sweep goes on. Two at it do no harm."""
        until = time.monotonic() + self.node.settings.erasure_wait_ms / 1000 + SWEEP_MOST_S
        while not await self._carry_on(id) and time.monotonic() < until:  # noqa: ASYNC110 - it is work, not a question
            await asyncio.sleep(self.node.settings.sweep_ms / 1000)

    async def _carry_on(self, id: str) -> bool:
        """A step further; True where it is done. Raises Refused `store_unavailable`."""
        try:
            return await self._step(id)
        except (Unavailable, Unknown) as error:
            raise store_unavailable("unknown") from error

    async def _step(self, id: str) -> bool:
        one = await self.erasures.find(id)
        if one is None or one.state == DONE:
            await self.erasures.forget(id)
            return True
        if one.state == ERASING and await self._erase_all(one):
            await self.erasures.write(id, state=CLEANING)
            one = await self.erasures.get(id)
        if one is not None and one.state == CLEANING:
            await self._clean(one)
            self.erasures_done += 1
            log.info("erasure %s is done: %d conversations", id, one.conversations)
            return True
        return False

    async def _erase_all(self, one: Erasure) -> bool:
        """End and erase what was found; True when nothing is left to wait for."""
        left = 0
        ids = await self.erasures.conversations(one.id)
        for conversation_id in ids:
            try:
                left += not await self._erase_one(one, conversation_id)
            except Refused as refused:  # one that can't be ended now keeps no other one
                log.warning("erasing a conversation failed: %s", refused.code)
                left += 1
        await self.erasures.write(one.id, erased=str(len(ids) - left))
        return not left

    async def _erase_one(self, one: Erasure, conversation_id: str) -> bool:
        """False where the platform must first be told that it is over."""
        done = await self.node.conversations.run(one.org, conversation_id, lambda _: c.EndErased())
        conversation = done.after.conversation
        if conversation is not None and conversation.ended_at is not None:
            waited = done.after.now_ms - max(conversation.ended_at, one.asked_at)
            if waited < self.node.settings.erasure_wait_ms and await self.node.store.has_actions(
                one.org, conversation_id
            ):
                return False
        return await self.erase(one.org, conversation_id, why="customer", forget=True)

    async def _clean(self, one: Erasure) -> None:
        places: dict[int, list[str]] = {}
        for conversation_id in await self.erasures.conversations(one.id):
            places.setdefault(partition(one.org, conversation_id), []).append(conversation_id)
        for p, ids in places.items():
            await self.node.store.rewrite_board(p, one.org, ids)
        await self.erasures.clean(one)
        await self.erasures.finish(one)


class _Walk:
    """How far the ended conversations of one partition were looked at: by the time of their end."""

    def __init__(self) -> None:
        self.since = 0
        self.page = PAGE
        self.over_s = 0.0  # when there was nothing more, by the monotonic clock

    def go_on(self, page: list[tuple[str, str, int]]) -> None:
        """Behind what was looked at; several may have ended in one millisecond, also more than a page."""
        if len(page) < self.page:
            self.over_s = self.over_s or time.monotonic()
        last = page[-1][2] if page else self.since
        self.page = PAGE if last > self.since or len(page) < self.page else self.page * 2
        self.since = max(self.since, last)
