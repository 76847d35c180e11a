"""
A platform's events, in batches: one result per event, in order; one bad event stops no other.

What changes nothing but the transcript (messages, receipts, panels, typing) is appended without loading anything. What
changes a conversation's state is decided; neighbours of one conversation share a commit. Different conversations don't
wait for each other; the events of one keep their order.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import Participant, Situation
from hub.domain.decide import decide, unknown
from hub.domain.effects import EVERYBODY, INSIDE
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.protocol import platform as p
from hub.protocol.cursor import format_cursor
from hub.protocol.encode import encode_event, error_body
from hub.service.conversations import Conversations, Decided
from hub.service.ids import Ids, id_hash
from hub.service.plan import check_room
from hub.service.ports import Append, Appended, ConversationStore
from hub.settings import Settings

# What a batch does in one turn of the loop; then whoever else is here has theirs: a takeover must not wait for a thousand
# messages that came at the same moment.
APPENDS_A_TURN = 20
CONVERSATIONS_AT_ONCE = 20

KINDS = {p.Message: "message", p.Receipt: "receipt", p.TypingEvent: "typing", p.Panel: "panel"}
APPENDED = tuple(KINDS)


@dataclass(frozen=True, slots=True)
class Result:
    """
    What became of one event; `refused` is None where it was `accepted` or a `duplicate`.

    `durable` is False where it isn't on as many replicas as wanted (yet).
    """

    id: str | None
    status: str
    cursor: str | None = None
    refused: Refused | None = None
    durable: bool = True

    def wire(self) -> dict[str, object]:
        """As the protocol answers it."""
        body: dict[str, object] = {"id": self.id, "status": self.status}
        if self.cursor is not None:
            body["cursor"] = self.cursor
        if self.refused is not None:
            body["error"] = error_body(self.refused)
        if not self.durable:
            body["durable"] = False
        return body


class Ingest:
    """Takes in what platforms push."""

    def __init__(self, store: ConversationStore, conversations: Conversations, settings: Settings, ids: Ids) -> None:
        self.store = store
        self.conversations = conversations
        self.settings = settings
        self.ids = ids
        self._next = asyncio.Lock()  # batches take turns

    async def take(self, org: str, connector: str, events: Sequence[p.AnyEvent | p.BadEvent]) -> list[Result]:
        """
        Carry out `events` of one platform.

        Raises:
            Refused: `store_unavailable` where the store went away; the same batch can be sent again.
        """
        results: list[Result | None] = [None] * len(events)
        groups: dict[str, list[int]] = {}
        simple: set[str] = set()
        for index, event in enumerate(events):
            if isinstance(event, p.BadEvent):
                results[index] = Result(event.id, "refused", refused=event.refused)
                continue
            group = groups.get(event.conversation_id)
            if group is None:
                groups[event.conversation_id] = group = []
                simple.add(event.conversation_id)
            group.append(index)
            if not isinstance(event, APPENDED):
                simple.discard(event.conversation_id)
        quick = [index for name, group in groups.items() if name in simple for index in group]
        slow = [group for name, group in groups.items() if name not in simple]
        batch = _Batch(self, org, connector, events, results)
        jobs = [batch.one_conversation(group) for group in slow]
        if quick:
            jobs.append(batch.appends(quick))
        if len(jobs) == 1:
            await jobs[0]
        else:
            await _all(jobs)
        if not self.store.durable(org, None):
            batch.mark_what_may_be_lost()
        return [result for result in results if result is not None]

    async def append(self, appends: Iterable[Append], count: int) -> list[Appended]:
        """The store's answers to `count` appends, which are made and sent in order, some in each turn of the loop."""
        if count <= APPENDS_A_TURN:
            return await self.store.append(list(appends))
        waiting: list[asyncio.Task[list[Appended]]] = []
        making = iter(appends)
        for _ in range(0, count, APPENDS_A_TURN):
            async with self._next:
                some = list(islice(making, APPENDS_A_TURN))
                waiting.append(asyncio.create_task(self.store.append(some)))
                await asyncio.sleep(0)  # the task has begun: these are sent, and nothing may get between them
        answers: list[Appended] = []
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            answers += outcome
        return answers


async def _all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them to their end, some at a time, then the first error: none may go on behind a finished request."""
    room = asyncio.Semaphore(CONVERSATIONS_AT_ONCE)

    async def one(job: Coroutine[Any, Any, None]) -> None:
        async with room:
            await job

    for outcome in await asyncio.gather(*map(one, jobs), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


class _Batch:
    """One batch on its way."""

    def __init__(
        self,
        ingest: Ingest,
        org: str,
        connector: str,
        events: Sequence[p.AnyEvent | p.BadEvent],
        results: list[Result | None],
    ) -> None:
        self._ingest = ingest
        self._org = org
        self._connector = connector
        self._events = events
        self._results = results

    def _event(self, index: int) -> p.AnyEvent:
        event = self._events[index]
        assert not isinstance(event, p.BadEvent)
        return event

    async def one_conversation(self, indexes: Sequence[int]) -> None:
        """The events of one conversation: runs of the same kind, one after the other."""
        run: list[int] = []
        for index in indexes:
            if run and isinstance(self._event(run[0]), APPENDED) != isinstance(self._event(index), APPENDED):
                await self._run(run)
                run = []
            run.append(index)
        await self._run(run)

    def mark_what_may_be_lost(self) -> None:
        """Say of each event that was taken if replicas don't have it."""
        for index, result in enumerate(self._results):
            if result is not None and result.refused is None:
                conversation_id = self._event(index).conversation_id
                durable = self._ingest.store.durable(self._org, conversation_id)
                self._results[index] = replace(result, durable=durable)

    async def _run(self, indexes: Sequence[int]) -> None:
        if isinstance(self._event(indexes[0]), APPENDED):
            await self.appends(indexes)
        else:
            await self._commits(indexes)

    async def appends(self, indexes: Sequence[int]) -> None:
        """Events that only append, of any conversations, in one pipeline."""
        appends = (append_of(self._org, self._connector, self._event(index)) for index in indexes)
        answers = await self._ingest.append(appends, len(indexes))
        for index, answer in zip(indexes, answers, strict=True):
            self._results[index] = result_of(self._event(index).id, answer, self._ingest.settings.panels_max)

    async def _commits(self, indexes: Sequence[int]) -> None:
        """Neighbouring events of one conversation that change its state, in one commit."""
        conversation_id = self._event(indexes[0]).conversation_id
        hashes = [id_hash("e", self._event(index).id) for index in indexes]
        accepted: dict[int, int] = {}  # index to how many transcript entries there are up to and with it

        async def decide_now(situation: Situation) -> Decided:
            known = await self._ingest.store.seen(self._org, conversation_id, hashes)
            return self._decide(situation, indexes, hashes, known, accepted)

        done = await self._ingest.conversations.attempt(self._org, conversation_id, decide_now)
        if done.committed is None:
            return
        total = max(accepted.values(), default=0)
        for index, upto in accepted.items():
            offset, tag = done.committed.top - (total - upto), done.committed.tag
            if not upto and done.loaded is not None:  # without effect, before the first entry of this commit
                offset, tag = done.loaded.top, done.loaded.tag
            cursor = format_cursor(done.committed.epoch, tag, offset)
            self._results[index] = Result(self._event(index).id, "accepted", cursor)

    def _decide(
        self,
        situation: Situation,
        indexes: Sequence[int],
        hashes: Sequence[bytes],
        known: Sequence[bool],
        accepted: dict[int, int],
    ) -> Decided:
        """Each event on what the ones before it left; a refused one leaves nothing."""
        accepted.clear()
        events: list[e.Event] = []
        taken: list[bytes] = []
        entries = 0
        for index, hash_, is_known in zip(indexes, hashes, known, strict=True):
            event = self._event(index)
            conversation = situation.conversation
            if is_known or hash_ in taken:
                foreign = conversation is not None and conversation.connector not in (self._connector, "")
                self._results[index] = (
                    Result(event.id, "refused", refused=unknown()) if foreign else Result(event.id, "duplicate")
                )
                continue
            try:
                caused = decide(situation, self._command(event, situation))
                if isinstance(event, p.Started | p.Connected) and caused:
                    check_room(evolve_all(situation, caused).existing, self._ingest.settings.state_bytes_max)
            except Refused as refused:
                self._results[index] = Result(event.id, "refused", refused=refused)
                continue
            situation = self._ingest.conversations.configured(evolve_all(situation, caused))
            events += caused
            taken.append(hash_)
            entries += sum(_entries(one) for one in caused)
            accepted[index] = entries
        return events, taken

    def _command(self, event: p.AnyEvent, situation: Situation) -> c.Command:
        settings, connector = self._ingest.settings, self._connector
        match event:
            case p.Started(data=data):
                queue = settings.queue(data.queue, data.division or "home")
                return c.StartConversation(
                    org=self._org,
                    conversation_id=event.conversation_id,
                    connector=connector,
                    channel=data.channel,
                    queue=data.queue,
                    division=queue.division,
                    subject=data.subject,
                    customer_id=data.customer.id,
                    customer_name=data.customer.name,
                    customer_participant=self._ingest.ids.new("prt", self._org, event.conversation_id),
                    at=event.at,
                    panels=tuple((name, bytes(content).decode()) for name, content in data.panels.items()),
                )
            case p.Connected(data=data):
                one = Participant(data.participant_id, data.purpose, data.user_id, data.name, event.at)
                return c.ConnectParticipant(connector, one)
            case p.Disconnected(data=data):
                return c.DisconnectParticipant(connector, data.participant_id, data.disconnect_type, event.at)
            case p.Transferred(data=data):
                division = situation.conversation.division if situation.conversation else "home"
                return c.TransferConversation(
                    connector, data.queue, settings.queue(data.queue, division).division, event.at
                )
            case p.Ended(data=data):
                return c.EndByPlatform(connector, data.reason or "platform", event.at)
            case _:
                raise AssertionError(event)


def _entries(event: e.Event) -> int:
    """How many transcript entries a fact of a platform's makes."""
    kinds = (e.ConversationStarted, e.ParticipantConnected, e.ParticipantDisconnected, e.ConversationTransferred)
    return 1 if isinstance(event, (*kinds, e.ConversationEnded)) else 0


def result_of(id: str, answer: Appended, panels_max: int) -> Result:
    """The result of an appended event."""
    if answer.outcome == "ok":
        return Result(id, "accepted", answer.cursor)
    if answer.outcome == "duplicate":
        return Result(id, "duplicate")
    return Result(id, "refused", refused=refusal_of(answer, panels_max))


def refusal_of(answer: Appended, panels_max: int = 0) -> Refused:
    """Why the store did not append."""
    match answer.outcome:
        case "unknown":
            return unknown()
        case "ended":
            return Refused("conversation_ended", "The conversation has ended.")
        case "stale":
            owner, _, epoch = answer.owner.partition(" ")
            details = {"owner": owner or None, "owner_epoch": int(epoch or 0)}
            return Refused("stale_owner", "This participant isn't connected, or doesn't answer any more.", details)
        case "panels":
            details = {"panels_max": panels_max, "path": "data.panel"}
            return Refused("schema_invalid", f"A conversation has at most {panels_max} panels.", details)
        case _:
            raise AssertionError(answer)


def append_of(org: str, connector: str, event: p.AnyEvent) -> Append:
    """The append that an event of a platform is."""
    conversation_id, at = event.conversation_id, event.at
    by_id = id_hash("e", event.id)

    def append(participant: str, head: bytes, tail: bytes, audience: str, *seen: bytes, **more: Any) -> Append:
        kind = KINDS[type(event)]
        return Append(kind, org, conversation_id, connector, participant, None, at, head, tail, audience, seen, **more)

    match event:
        case p.Message(data=data):
            by_message, named = id_hash("m", data.message_id), b'"message_id":%b,' % orjson.dumps(data.message_id)
            tail = b"," + said(data.text, data.attachments) + b"}}"
            return append(data.participant_id or "@", _head(event) + named, tail, EVERYBODY, by_id, by_message)
        case p.Receipt(data=data):
            body = receipt_body(conversation_id, at, data.message_id, data.status, data.reason)
            return append("", b"", body, EVERYBODY, by_id)
        case p.TypingEvent(data=data):
            tail = b',"on":%b}}' % (b"true" if data.on else b"false")
            return append(data.participant_id or "@", _head(event), tail, "", by_id)
        case p.Panel(data=data):
            content = bytes(data.content)
            shown = b'{"panel":%b,"content":%b}' % (orjson.dumps(data.panel), content)
            body = encode_event("panel.updated", shown, conversation_id=conversation_id, at=at)
            kept = b"" if data.removed else content
            return append("", b"", body, INSIDE, by_id, panel=data.panel, content=kept)
        case _:
            raise AssertionError(event)


def _head(event: p.AnyEvent) -> bytes:
    """An event's body up to where the store puts in who acts."""
    ids = (event.type.encode(), event.conversation_id.encode(), event.at)
    return b'{"event":"%b","conversation_id":"%b","at":%d,"data":{' % ids


def said(text: str, attachments: Sequence[object]) -> bytes:
    """The members `text` and `attachments` of a message."""
    files = [{"url": one.url, "name": one.name, "mime": one.mime} for one in attachments]  # type: ignore[attr-defined]
    return b'"text":%b,"attachments":%b' % (orjson.dumps(text), orjson.dumps(files))


def receipt_body(conversation_id: str, at: int, message_id: str, status: str, reason: str | None) -> bytes:
    """The event `message.receipt`."""
    data = {"message_id": message_id, "status": status, "reason": reason}
    return encode_event("message.receipt", data, conversation_id=conversation_id, at=at)
