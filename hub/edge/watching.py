"""What sessions that see conversations share: snapshots, catching up, resuming. One lock per watch keeps these apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import orjson

from hub.domain.conversation import Conversation, Situation
from hub.domain.errors import Refused
from hub.edge.session import BaseSession, Socket
from hub.fanout.watch import PURPOSES, Item, Watch
from hub.protocol.cursor import parse_cursor
from hub.protocol.encode import encode_event
from hub.service.masking import answers
from hub.service.ports import Snapshot, StoredEntry
from hub.service.snapshots import MESSAGES_SHOWN, count_messages, snapshot_for_customer, snapshot_for_staff

SNAPSHOT_ENTRIES = 200
SNAPSHOT_READS_MAX = 20
READ_AT_ONCE = 500
AGAIN_S = 0.5  # between two tries while the store is away

TOO_MUCH = "more was missed than is sent again"

if TYPE_CHECKING:
    from hub.edge.parts import Parts

log = logging.getLogger(__name__)


class TooMuchMissed(Exception):
    """What was missed is more than is sent again; a snapshot goes out instead."""


class WatchingSession(BaseSession):
    """A session with a place in some conversations."""

    __slots__ = ("_locks", "watches")

    def __init__(self, parts: Parts, socket: Socket, address: str) -> None:
        super().__init__(parts, socket, address)
        self.watches: dict[str, Watch] = {}
        # Of conversations that something is read of right now.
        self._locks: WeakValueDictionary[str, asyncio.Lock] | None = None

    def _lock(self, conversation_id: str) -> asyncio.Lock:
        if self._locks is None:
            self._locks = WeakValueDictionary()
        return self._locks.setdefault(conversation_id, asyncio.Lock())

    async def surely(self, work: Callable[[], Awaitable[None]]) -> bool:
        """
        Do what nobody would ask for a second time: where the store is away, again until it is back.

        False where the socket has gone.
        """
        while not self.closed:
            try:
                await work()
            except Refused as refused:
                log.warning("to be done again: %s", refused.code)
            else:
                break
            await asyncio.sleep(AGAIN_S)
        return not self.closed

    async def snapshot(self, conversation_id: str) -> tuple[Snapshot, Situation] | None:
        """The conversation as of one moment, with enough entries for its last messages."""
        org, store = self.person.org, self.parts.store
        snapshot = await store.snapshot(org, conversation_id, entries=SNAPSHOT_ENTRIES)
        if snapshot is None or snapshot.loaded.situation.conversation is None:
            return None
        entries: list[StoredEntry] = list(snapshot.entries)
        for _ in range(SNAPSHOT_READS_MAX):
            if count_messages(entries) >= MESSAGES_SHOWN or not entries or entries[0].offset <= 1:
                break
            older = await store.entries_before(org, conversation_id, before=entries[0].offset, count=SNAPSHOT_ENTRIES)
            if not older:
                break
            entries[:0] = reversed(older)
        situation = self.parts.conversations.configured(snapshot.loaded.situation)
        return replace(snapshot, entries=entries), situation

    def wire_snapshot(self, snapshot: Snapshot, situation: Situation) -> dict[str, object]:
        """The snapshot as this viewer may see it."""
        role = self.person.role
        if role == "customer":
            return snapshot_for_customer(snapshot, situation)
        conversation = situation.existing
        masker = None if answers(self.person, conversation) else self.node.maskers.of(conversation.queue)
        return snapshot_for_staff(snapshot, situation, self.person.user_id, supervisor=role != "agent", masker=masker)

    def my_part(self, conversation: Conversation) -> str | None:
        """The connected participant that this session speaks as, if any."""
        for purpose in PURPOSES[self.person.role]:
            one = conversation.of_user(self.person.user_id, purpose)
            if one is not None:
                return one.participant_id
        return None

    async def held_watch(self, conversation_id: str) -> Watch:
        """This session's watch, held: a new one where there is none."""
        watch = self.watches.get(conversation_id)
        if watch is None or watch not in watch.topic.watches:
            watch = await self.node.watch(self, conversation_id)
            if self.closed or watch not in watch.topic.watches:  # or its topic was reset as it started
                self.node.unwatch(watch)
                raise Refused("store_unavailable", "The socket has closed.", {"outcome": "none"})
            self.watches[conversation_id] = watch
        watch.hold()
        return watch

    def let_go(self, watch: Watch) -> None:
        """Forget a watch that has no right to anything."""
        conversation_id = watch.topic.conversation_id
        if watch.idle:
            self.node.unwatch(watch)
            if self.watches.get(conversation_id) is watch:
                del self.watches[conversation_id]

    def watch_idle(self, watch: Watch) -> None:
        """A watch has lost its last right at an entry of the log."""
        self.let_go(watch)

    async def attach(self, conversation_id: str, participant_id: str | None) -> None:
        """Become a participant's screen: the snapshot, then what happens behind it."""
        async with self._lock(conversation_id):
            watch = await self.held_watch(conversation_id)
            if participant_id is not None and watch.announced == participant_id:
                watch.release()
            else:
                await self._show_as_participant(watch)

    async def _show_as_participant(self, watch: Watch) -> bool:
        """The snapshot, where the person is a participant as of it; else nothing, and False. The caller holds the lock."""
        conversation_id = watch.topic.conversation_id
        found = await self.snapshot(conversation_id)
        if found is not None and not watch.customer:
            watch.participant_id = watch.announced = self.my_part(found[1].existing)
        if found is None or watch.idle:
            watch.release()
            self.let_go(watch)
            return False
        snapshot, situation = found
        self.event("conversation.snapshot", conversation_id, self.wire_snapshot(snapshot, situation))
        watch.stand(snapshot.loaded.top, snapshot.loaded.tag)
        watch.release()
        return True

    def event(self, event: str, conversation_id: str, data: dict[str, object]) -> None:
        """Send one event without a cursor about a conversation."""
        now = self.node.now_ms()
        encoded = orjson.dumps(data)
        self.send(encode_event(event, encoded, conversation_id=conversation_id, at=now))

    # -- catching up ---------------------------------------------------------------------------------------------------

    def heard_again(self) -> None:
        """Read what was kept back while the session was silent."""
        for watch in list(self.watches.values()):
            if watch.behind:
                self.node.spawn(self.catch_up(watch))

    def on_timer(self, now: float) -> None:
        """Besides what all sessions do: try again where the lease was in doubt."""
        super().on_timer(now)
        if not self.closed and self.watches and not self.quiet:
            for watch in list(self.watches.values()):
                if watch.behind and watch.held is None and watch.hearing():
                    self.node.spawn(self.catch_up(watch))

    async def catch_up(self, watch: Watch) -> None:
        """Deliver from the log what the watch missed."""
        conversation_id = watch.topic.conversation_id
        async with self._lock(conversation_id):
            if not watch.behind or self.closed or watch not in watch.topic.watches:
                return
            watch.hold()
            watch.behind = False
            try:
                entries = await self._entries_behind(conversation_id, watch.offset, watch.tag)
                if entries is None:
                    await self.restart(watch, "what was shown is not of this history, or was trimmed")
                    return
            except TooMuchMissed:
                await self.restart(watch, TOO_MUCH)
                return
            except Refused:
                watch.behind = True  # the timer tries again
                watch.release()
                return
            self._replay(watch, entries)
            watch.release()
            self.let_go(watch)

    async def _entries_after(self, conversation_id: str, offset: int) -> list[StoredEntry]:
        """Raises TooMuchMissed past `replay_bytes_per_conversation`."""
        found: list[StoredEntry] = []
        most = self.settings.replay_bytes_per_conversation
        size = 0
        while True:
            start = (found[-1].offset if found else offset) + 1
            part = await self.parts.store.entries(
                self.person.org, conversation_id, from_offset=start, count=READ_AT_ONCE
            )
            found += part
            size += sum(len(entry.body) for entry in part)
            if 0 < most < size:
                self.parts.quotas.over("replay_bytes_per_conversation", 0)
                raise TooMuchMissed
            if len(part) < READ_AT_ONCE:
                return found

    def _charge_replay(self, size: int) -> None:
        """Count bytes that a resume sends; 0 asks whether any more may be. Raises TooMuchMissed where not."""
        now, quotas = self.loop.time(), self.parts.quotas
        for scope, key in self._quota_keys:
            limit = f"replay_bytes_per_{scope}_per_s"
            if not quotas.spend(limit, key, now, size) and not size:
                quotas.over(limit, 0)
                raise TooMuchMissed

    async def _entries_behind(self, conversation_id: str, offset: int, tag: str) -> list[StoredEntry] | None:
        """The entries behind a position; None where it isn't of this history."""
        entries = await self._entries_after(conversation_id, max(offset - 1, 0))
        if offset == 0:
            return entries if tag == "0" and (not entries or entries[0].offset == 1) else None
        if not entries or (entries[0].offset, entries[0].tag) != (offset, tag):
            return None
        return entries[1:]

    def _replay(self, watch: Watch, entries: Sequence[StoredEntry]) -> None:
        """Deliver what was read, as long as it may be: a lease can end, and rights, while one reads."""
        for entry in entries:
            if watch.idle:
                return
            if not watch.hearing():
                watch.behind = True  # the timer reads it again
                return
            watch.pass_on(Item(watch.topic, entry))

    # -- resuming and resetting ------------------------------------------------------------------------------------------

    async def resume_watch(self, conversation_id: str, cursor: str, monitor_id: str | None) -> bool:
        """
        Every event after the cursor, in order, none twice; or an explicit reset. True where it is watched now.

        The rights are those at the cursor, changed by what follows: someone who left meanwhile gets all up to it.
        """
        async with self._lock(conversation_id):
            watch = await self.held_watch(conversation_id)
            watch.monitor_id = monitor_id
            if watch.announced is not None:
                watch.release()  # its snapshot was faster: it covers what the cursor stands before
                return True
            found = await self.snapshot(conversation_id)
            if found is None:
                self.let_go(watch)
                return False
            snapshot, situation = found
            reason = "the cursor is not of this history"
            try:
                self._charge_replay(0)
                since = await self._since_cursor(snapshot, conversation_id, cursor)
                self._charge_replay(sum(len(entry.body) for entry in since[1]) if since is not None else 0)
            except TooMuchMissed:
                since, reason = None, TOO_MUCH
            if not watch.customer:
                self._rights_at(watch, situation.existing, since[1] if since is not None else ())
            if watch.idle and since is not None:
                return await self._show_as_participant(watch)  # whoever has come since begins anew
            if since is None:
                watch.announced = watch.participant_id = self.my_part(situation.existing)
                if watch.idle:
                    self.let_go(watch)
                    return False
                self._reset(watch, snapshot, situation, reason)
                return True
            (offset, tag), entries = since
            watch.stand(offset, tag)
            watch.announced = self.my_part(situation.existing)
            self._replay(watch, entries)
            if watch.idle:
                return await self._show_as_participant(watch)  # they have left, and may have come again behind that
            watch.release()
            self.let_go(watch)
            return not watch.idle

    async def _since_cursor(
        self, snapshot: Snapshot, conversation_id: str, cursor: str
    ) -> tuple[tuple[int, str], list[StoredEntry]] | None:
        """The cursor's own position in the log, and the entries behind it; None where it isn't of this history."""
        parsed = parse_cursor(cursor)
        if parsed is None or parsed[0] != snapshot.loaded.epoch:
            return None
        _, tag, offset = parsed
        if self.person.role != "customer":
            behind = await self._entries_behind(conversation_id, offset, tag)
            return None if behind is None else ((offset, tag), behind)
        # Their positions count only what they see: the entry with that count and tag is somewhere behind it.
        entries = await self._entries_after(conversation_id, max(offset - 1, 0))
        if offset == 0 and (tag == "0" or not entries):
            return (entries[0].offset - 1 if entries else snapshot.loaded.top, tag), entries
        for index, entry in enumerate(entries):
            if entry.customer_offset == offset and entry.tag == tag:
                return (entry.offset, tag), entries[index + 1 :]
        return None

    def _rights_at(self, watch: Watch, conversation: Conversation, entries: Sequence[StoredEntry]) -> None:
        """Who the person was where `entries` begin: told by the first of them that is about them, else by now."""
        now = self.my_part(conversation)
        purposes = PURPOSES[self.person.role]
        for entry in entries:
            event, participant_id, user_id, purpose = Item(watch.topic, entry).change
            mine = user_id == self.person.user_id and purpose in purposes
            if event == "participant.disconnected" and mine:
                watch.participant_id = participant_id
                return
            if event == "participant.connected" and mine:
                watch.participant_id = None
                return
            if event == "conversation.ended":
                at_end = [one for one in conversation.at_end if one.user_id == self.person.user_id]
                watch.participant_id = next((one.participant_id for one in at_end if one.purpose in purposes), None)
                return
        watch.participant_id = now

    def _reset(self, watch: Watch, snapshot: Snapshot, situation: Situation, reason: str) -> None:
        self.node.meter.resets += 1
        data: dict[str, object] = {"reason": reason, "snapshot": self.wire_snapshot(snapshot, situation)}
        self.event("stream.reset", watch.topic.conversation_id, data)
        watch.stand(snapshot.loaded.top, snapshot.loaded.tag)
        watch.release()

    async def restart(self, watch: Watch, reason: str) -> None:
        """Say that the history is another one, and go on from a snapshot. The caller holds the lock."""
        if watch.monitor_id is not None:
            self.parts.store.trust()
        found = await self.snapshot(watch.topic.conversation_id)
        if found is None:
            watch.monitor_id = watch.participant_id = None
            self.let_go(watch)
            return
        snapshot, situation = found
        monitor = situation.monitor
        if watch.monitor_id is not None and (monitor is None or monitor.monitor_id != watch.monitor_id):
            watch.monitor_id = None
        watch.participant_id = watch.announced = self.my_part(situation.existing)
        if watch.idle:
            watch.release()
            self.let_go(watch)
            return
        self._reset(watch, snapshot, situation, reason)

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """The conversation's log is another one: start again from a snapshot."""
        old = self.watches.pop(conversation_id, None)
        if old is not None:
            self.node.spawn(self.surely(partial(self._restart_anew, old, conversation_id, reason)))

    async def _restart_anew(self, old: Watch, conversation_id: str, reason: str) -> None:
        async with self._lock(conversation_id):
            watch = await self.held_watch(conversation_id)
            watch.monitor_id = old.monitor_id
            await self.restart(watch, reason)

    def forget(self) -> None:
        """Watch nothing any more."""
        for watch in self.watches.values():
            self.node.unwatch(watch)
        self.watches = {}
