"""
The model store, its replica that lags, and each process's own line to it.

Effects happen in one step, on the primary, in virtual time; what a line does is to be late, or to lose the question or
the answer. A question that is late may still take effect after its asker was told `unknown`, or on behalf of one that is
dead by then.
"""

import asyncio
import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hub.domain.conversation import Situation
from hub.domain.errors import Refused
from hub.service.ports import (
    Append,
    Appended,
    Commit,
    Committed,
    Conflict,
    Loaded,
    NotDue,
    Repeated,
    Request,
    Snapshot,
    StoredEntry,
)
from hub.store.redis_store import store_unavailable
from tests.simulation.clockwork import NOBODY, Process
from tests.support.fake_store import START_MS, FakeStore, Key, Record

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
TIMEOUT_S = 1.5


@dataclass(slots=True)
class Replica:
    """Everything as it was when the `writes`-th write had been done."""

    writes: int
    records: dict[Key, Record]
    requests: dict[tuple[str, ...], tuple[str, bytes]]
    pointed: dict[str, Key]


class ModelStore(FakeStore):
    """The fake store with random tags, told to the judge write by write, which can fall back to a replica."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self.world = world
        self._read: dict[Key, Loaded] = {}  # decoded once per change: most of what is loaded is as it was

    def now(self, org: str, conversation_id: str) -> Loaded:
        """The conversation as of now, at once."""
        loaded = self._read.get((org, conversation_id))
        if loaded is None:
            loaded = self._read[org, conversation_id] = super().now(org, conversation_id)
        elif loaded.situation.now_ms != self.now_ms:
            old = loaded.situation
            situation = Situation(self.now_ms, old.conversation, old.monitor, old.counters, old.prepared)
            loaded = replace(loaded, situation=situation)
        return loaded

    def _changed(self, org: str, conversation_id: str) -> None:
        self._read.pop((org, conversation_id), None)

    def _tag(self) -> str:
        return str(self.world.chance.getrandbits(31) | 1)

    def tick(self) -> None:
        """The store's clock is the world's."""
        self.now_ms = START_MS + int(self.world.loop.time() * 1000)

    # -- effects, each one step --------------------------------------------------------------------------------------

    def do_commit(self, commit: Commit) -> Committed | Conflict | Repeated | NotDue:
        """The commit's script."""
        record = self.record(commit.org, commit.conversation_id)
        before, lines = self.now(commit.org, commit.conversation_id), len(record.ledger)
        told = self._tops(record)
        answer = self._commit(commit)
        if isinstance(answer, Committed):
            self._changed(commit.org, commit.conversation_id)
            after = self.now(commit.org, commit.conversation_id)
            self.world.judge.committed(commit, answer, before, after, record, record.ledger[lines:])
            self._publish(record, commit.conversation_id, told, board=commit.row is not None)
        return answer

    def do_appends(self, appends: Sequence[Append]) -> list[Appended]:
        """The append's script, for each."""
        return [self.do_append(one) for one in appends]

    def do_append(self, one: Append) -> Appended:
        """The append's script."""
        record = self.record(one.org, one.conversation_id)
        before, told = self.now(one.org, one.conversation_id), self._tops(record)
        answer = self._append(one)
        if answer.outcome == "ok":
            self._changed(one.org, one.conversation_id)
        if answer.outcome == "ok" and self._tops(record) != told:
            self.world.judge.appended(one, before, record)
            self._publish(record, one.conversation_id, told, board=False)
        return answer

    def do_renew(self, org: str, conversation_id: str, monitor_id: str, session: str, lease_ms: int) -> bool:
        """The renewal's script, for one lease."""
        end = self.now_ms + lease_ms
        kept = self.renew(org, conversation_id, monitor_id, session, end)
        if kept:
            self._changed(org, conversation_id)
            self.world.judge.renewed(monitor_id, session, end)
        return kept

    @staticmethod
    def _tops(record: Record) -> tuple[int, str]:
        return record.number(b"top"), record.fields.get(b"tag", b"0").decode()

    def _publish(self, record: Record, conversation_id: str, told: tuple[int, str], *, board: bool) -> None:
        """To every subscription, what the step wrote, in the step's order."""
        top, before = told
        for one in record.transcript[top:]:
            header = f"{one.audience},{one.customer_offset},{one.monitor_id}"
            payload = f"{one.offset}-{one.tag} {before} {header} ".encode() + one.body
            self.world.publish(conversation_id, payload)
            before = one.tag
        if board:
            self.world.publish("board", record.fields[b"extra"], conversation_id)

    # -- failover ----------------------------------------------------------------------------------------------------

    def replica(self) -> Replica:
        """A copy of everything, as of now."""
        records = {key: _copied(record) for key, record in self.records.items()}
        return Replica(self.world.judge.writes, records, dict(self.requests), dict(self.pointed))

    def fail_over(self, replica: Replica) -> None:
        """The replica is the primary now; what it had not got is forgotten, by the store and by nobody else."""
        self.records, self.requests, self.pointed = replica.records, replica.requests, replica.pointed
        self._read.clear()


def _copied(record: Record) -> Record:
    names = (name for name in record.__slots__ if name != "index")
    return Record(**{name: copy.copy(getattr(record, name)) for name in names}, index=record.index)


class Line:
    """One process's connection to the store: the port that the node's services get."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._loop = world.loop
        self._process = process
        self.cut_until = 0.0

    async def ask(self, effect: Callable[[], T]) -> T:
        """
        The effect's answer.

        Raises:
            Refused: `store_unavailable`; with `unknown` the effect may have happened, or happen yet.
        """
        world, loop, born = self._world, self._loop, self._loop.time()
        answer: asyncio.Future[T] = loop.create_future()
        if self._burns():
            return await answer  # it died before it asked
        if born < self.cut_until:
            world.count("store refused")
            raise store_unavailable("none")
        there, back, luck = world.travel_to_store(), world.travel_to_store(), world.chance.random()
        if luck >= world.faults.questions_lost:
            loop.call_at(born + there, self._arrive, effect, answer, born, back, luck, context=NOBODY)
        if there + back >= TIMEOUT_S or luck < world.faults.questions_lost:
            self._give_up(answer, born)
        try:
            return await answer
        except Refused:
            world.count("store unknown")
            raise

    def _arrive(
        self, effect: Callable[[], T], answer: "asyncio.Future[T]", born: float, back: float, luck: float
    ) -> None:
        world = self._world
        if born < world.failed_over_at or born < self.cut_until:
            self._give_up(answer, born)  # the connection that carried it is gone
            return
        world.store.tick()
        result = effect()
        if self._burns() or luck > 1 - world.faults.answers_lost:
            self._give_up(answer, born)
        else:
            self._loop.call_at(self._loop.time() + back, _settle, answer, result, context=NOBODY)

    def _give_up(self, answer: "asyncio.Future[Any]", born: float) -> None:
        """No answer will come in time."""
        self._loop.call_at(born + TIMEOUT_S, _settle, answer, store_unavailable("unknown"), context=NOBODY)

    def _burns(self) -> bool:
        """Each question and each effect is a moment to die in; True where this one is it, or was."""
        process = self._process
        if process.fuse is not None and not process.dead:
            process.fuse -= 1
            if process.fuse <= 0:
                self._world.kill(process)
        return process.dead

    # -- the port ----------------------------------------------------------------------------------------------------

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """The conversation as of now."""
        return await self.ask(functools.partial(self._world.store.now, org, conversation_id))

    async def commit(self, commit: Commit, *, lane: str = "commit") -> Committed | Conflict | Repeated | NotDue:
        """One script."""
        answer = await self.ask(lambda: self._world.store.do_commit(commit))
        self._world.count(type(answer).__name__.lower())
        return answer

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """One script each, in order, in one pipeline."""
        return await self.ask(lambda: self._world.store.do_appends(appends))

    def durable(self, org: str, conversation_id: str | None) -> bool:
        """The replica lags whatever is said here; who may rely on what is the judge's to know."""
        return True

    async def seen(self, org: str, conversation_id: str, hashes: Sequence[bytes]) -> list[bool]:
        """Which of these ids the conversation has taken in."""
        record = self._world.store.record
        return await self.ask(lambda: [one in record(org, conversation_id).seen for one in hashes])

    async def committed(self, org: str, conversation_id: str, request: Request) -> Repeated | None:
        """What the same request was answered when it was committed, or None."""
        return await self._answered((request.org, request.role, request.user_id, request.req, conversation_id))

    async def first_answer(self, request: Request) -> Repeated | None:
        """What the same `req` was answered first, or None."""
        return await self._answered((request.org, request.role, request.user_id, request.req))

    async def _answered(self, key: tuple[str, ...]) -> Repeated | None:
        first = await self.ask(lambda: self._world.store.requests.get(key))
        return None if first is None else Repeated(*first)

    async def remember_answer(self, request: Request, answer: bytes) -> None:
        """Keep the first `ok` of a request."""
        key, kept = (request.org, request.role, request.user_id, request.req), (request.digest, answer)
        await self.ask(lambda: self._world.store.requests.setdefault(key, kept))

    async def point(self, id: str, org: str, conversation_id: str, ttl_ms: int) -> None:
        """Remember the conversation of an id."""
        await self.ask(lambda: self._world.store.pointed.update({id: (org, conversation_id)}))

    async def pointed(self, id: str) -> Key | None:
        """Organization and conversation of an id, or None."""
        return await self.ask(lambda: self._world.store.pointed.get(id))

    async def renew(self, leases: Sequence[tuple[str, str, str, str]], lease_ms: int) -> list[bool]:
        """Extend leases (organization, conversation, monitor, session); False where it isn't theirs any more."""
        return await self.ask(lambda: [self._world.store.do_renew(*one, lease_ms) for one in leases])

    async def due(self) -> list[tuple[str, str, str]]:
        """What is due: (kind, organization, conversation)."""
        store = self._world.store
        return await self.ask(
            lambda: [
                (kind, *key)
                for key, record in store.records.items()
                for kind, at in record.due.items()
                if at <= store.now_ms
            ]
        )

    async def snapshot(self, org: str, conversation_id: str) -> Snapshot:
        """A conversation and its newest entries as of one moment."""
        store = self._world.store
        return await self.ask(
            lambda: Snapshot(store.now(org, conversation_id), {}, store.record(org, conversation_id).transcript[-5:])
        )

    async def entries(self, org: str, conversation_id: str, from_offset: int) -> list[StoredEntry]:
        """Entries from an offset on, oldest first."""
        store = self._world.store
        return await self.ask(lambda: store.record(org, conversation_id).transcript[max(from_offset - 1, 0) :])

    async def top(self, org: str, conversation_id: str) -> list[bytes | None]:
        """Top and tag of a transcript, as the store has them."""
        store = self._world.store
        return await self.ask(
            lambda: [store.record(org, conversation_id).fields.get(name) for name in (b"top", b"tag")]
        )


def _settle(answer: "asyncio.Future[Any]", result: object) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
