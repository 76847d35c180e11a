"""
Commands about one conversation: load, authorize, decide, commit.

At most one attempt at a time per conversation and node, so that those who try at once on one node don't make each other
decide again; a conflict with another node brings what to decide on next, without a sleep (sleepers starve).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import orjson

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import Situation, WrapupRule
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.service.plan import fitted, plan_commit
from hub.service.ports import Committed, Conflict, ConversationStore, Loaded, NotDue, Repeated, Request
from hub.settings import Settings

ATTEMPTS_MAX = 16

Decided = tuple[Sequence[e.Event], Sequence[bytes]]  # events, and hashes of the ids they came with


@dataclass(frozen=True, slots=True)
class Done:
    """
    A command that was carried out; `events` is empty where it was accepted without effect.

    `answer` is the `ok`, `committed` the transcript's position after it (None without effect or when repeated),
    `loaded` what it was decided on.
    """

    answer: dict[str, object]
    events: Sequence[e.Event]
    before: Situation
    after: Situation
    committed: Committed | None
    loaded: Loaded | None = None


class Conversations:
    """Carries out commands on conversations; shared by all edges of a node."""

    def __init__(
        self,
        store: ConversationStore,
        settings: Settings,
        new_id: Callable[[str, str, str], str],
        tag: Callable[[], str],
    ) -> None:
        """`new_id(prefix, org, conversation_id)` makes ids that carry the conversation's partition."""
        self._store = store
        self._settings = settings
        self._new_id = new_id
        self._tag = tag
        self._keys = settings.ledger
        self._turns: dict[tuple[str, str, bool], _Turn] = {}
        self.committed: Counter[type[e.Event]] = Counter()  # what came about by this node, since its start

    def configured(self, situation: Situation) -> Situation:
        """The situation with what the configuration says about its queue and channel."""
        conversation = situation.conversation
        if conversation is None:
            return situation
        queue = self._settings.queue(conversation.queue, conversation.division)
        due_ms = queue.wrapup_timeout_ms
        if queue.wrapup_prompt == "mandatory":
            due_ms = self._settings.wrapup_mandatory_max_ms
        rule = WrapupRule(queue.wrapup_prompt, tuple(queue.wrapup_codes), queue.wrapup_timeout_ms, due_ms)
        visible = self._settings.name_visible(conversation.channel)
        return replace(situation, wrapup_rule=rule, name_visible=visible)

    async def load(self, org: str, conversation_id: str) -> Loaded:
        """The conversation now, with the configuration's part."""
        loaded = await self._store.load(org, conversation_id)
        return replace(loaded, situation=self.configured(loaded.situation))

    async def run(
        self,
        org: str,
        conversation_id: str,
        make: Callable[[Situation], c.Command],
        *,
        answer: Callable[[Situation, Sequence[e.Event], Situation], dict[str, object]] = lambda b, e, a: {},
        request: Request | None = None,
        lane: str = "commit",
        silent: bool = False,
    ) -> Done:
        """
        Carry out the command that `make` gives for the situation at hand (called again for each attempt).

        `silent` commands are those about a monitor: they take turns among themselves, and nobody else waits for them.

        Raises:
            Refused: By the rules; or `store_unavailable`, with `outcome` `none` or `unknown`.
        """

        async def one(situation: Situation) -> Decided:
            return decide(situation, make(situation)), ()

        return await self.attempt(org, conversation_id, one, answer=answer, request=request, lane=lane, silent=silent)

    async def attempt(
        self,
        org: str,
        conversation_id: str,
        decide_now: Callable[[Situation], Awaitable[Decided]],
        *,
        answer: Callable[[Situation, Sequence[e.Event], Situation], dict[str, object]] = lambda b, e, a: {},
        request: Request | None = None,
        lane: str = "commit",
        silent: bool = False,
    ) -> Done:
        """
        Decide and commit until the commit stands; `decide_now` is asked again for each attempt.

        It gives the events and the hashes of the ids they came with.
        """
        async with self._alone(org, conversation_id, silent):
            loaded = await self._store.load(org, conversation_id, lane=lane)
            for _ in range(ATTEMPTS_MAX):
                before = self.configured(loaded.situation)
                try:
                    events, seen = await decide_now(before)
                except Refused:
                    first = await self._store.committed(org, conversation_id, request) if request else None
                    if first is None:
                        raise
                    # It was done before, and the answer got lost on the way: what it changed refuses it now.
                    return Done(repeated(first, request), (), before, before, None)
                after = self._fitted(evolve_all(before, events))
                said = answer(before, events, after)
                if not events and not seen:
                    return Done(said, events, before, after, None)
                commit = plan_commit(
                    loaded,
                    before,
                    events,
                    self.configured(after),
                    fresh_tag=self._tag(),
                    fresh_epoch=self._tag(),
                    new_action_id=lambda: self._new_id("act", org, conversation_id),
                    seen=seen,
                    request=request,
                    answer=orjson.dumps(said),
                    keys=self._keys,
                )
                result = await self._store.commit(commit, lane=lane)
                match result:
                    case Committed():
                        self.committed.update(map(type, events))
                        return Done(said, events, before, after, result, loaded)
                    case Conflict():
                        loaded = result.loaded
                    case Repeated():
                        return Done(repeated(result, request), (), before, before, None)
                    case NotDue():  # renewed between deciding and committing
                        loaded = await self._store.load(org, conversation_id, lane=lane)
        raise Refused("store_unavailable", "Too many changes at once; try again.", {"outcome": "none"})

    def _fitted(self, situation: Situation) -> Situation:
        if situation.conversation is None:
            return situation
        return replace(situation, conversation=fitted(situation.conversation, self._settings.state_bytes_max))

    @asynccontextmanager
    async def _alone(self, org: str, conversation_id: str, silent: bool) -> AsyncIterator[None]:
        key = (org, conversation_id, silent)
        turn = self._turns.setdefault(key, _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[key]


@dataclass(slots=True)
class _Turn:
    """Whose attempt it is at one conversation, and how many want one."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


def repeated(first: Repeated, request: Request | None) -> dict[str, object]:
    """
    The first answer again.

    Raises:
        Refused: `schema_invalid`, where another command was asked for under the same `req`.
    """
    assert request is not None
    if first.digest != request.digest:
        raise Refused("schema_invalid", "This req was used for another command.", {"path": "req"})
    answer: dict[str, object] = orjson.loads(first.answer)
    return answer
