"""
One hub process: what it follows, who listens, and what it does by the clock.

    board change ─► `_changed`: tell the people it concerns (joined, noticed, wrap-up, monitor over)
    tick         ─► views that may have changed, one frame per socket
    renew        ─► leases of sessions that were heard
    sweep        ─► what is due in the store: leases, wrap-ups, idle and old conversations, faded presence
    beat         ─► this node lives; who else; revocations; is it still the same store
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import orjson

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.fanout.board import Entry, Hidden, MonitorEnd, Participation, Wrapup, WrapupEnd
from hub.fanout.orgs import Org
from hub.fanout.records import Records
from hub.fanout.views import Told, View
from hub.fanout.watch import Listener, Topic, Watch
from hub.protocol.encode import encode_event
from hub.service.conversations import Conversations
from hub.service.ids import Ids
from hub.service.ingest import Ingest
from hub.service.masking import Maskers
from hub.service.people import People
from hub.settings import Settings
from hub.store.follow import Follower
from hub.store.keys import partition
from hub.store.redis_store import Lease, RedisStore, store_unavailable

log = logging.getLogger(__name__)

STORE_AWAY_MAX_S = 20.0  # sockets are closed with 4503 after this long without the store
ORG_IDLE_S = 30.0
LEASE_CERTAIN = 0.8  # of a lease: what may pass since it was asked for before it is in doubt
SWEEP_ALL_S = 3.0
DEAD_AFTER_BEATS = 2
AGAIN_S = 0.5  # when routine work is tried again that the store didn't answer: a lease must not wait for its turn
TIMERS_S = 0.5
AT_ONCE = 200  # people that are looked at before somebody else has a turn
TIMER_SLICES = 10  # so many parts of the sessions are looked at one after the other: nobody waits for all of them
LAG_S = 0.1
STALL_S = 1.0  # a process that stood still this long says so
CLOCK_APART_MS = 500
_ABSENT: tuple[int | None, tuple[str, ...], bool] = (None, (), False)


class Session(Listener, Protocol):
    """What the node needs of a session."""

    session_id: str
    nonce: str
    present: bool
    ready: bool
    monitors: dict[str, MonitorRef]
    views: dict[str, View]

    def on_timer(self, now: float) -> None:
        """Half a second has passed."""

    def joined(self, conversation_id: str, one: Participation) -> None:
        """The person is a participant now."""

    def noticed(self, conversation_id: str, takeover_id: str) -> None:
        """The person was taken over."""

    def wrapup_requested(self, conversation_id: str, wrapup: Wrapup) -> None:
        """The person owes a wrap-up."""

    def wrapup_ended(self, conversation_id: str, wrapup: WrapupEnd) -> None:
        """A wrap-up of the person's is over."""

    def monitor_over(self, conversation_id: str, monitor_id: str, ended: MonitorEnd | None) -> None:
        """A monitor of this session is over; why is in the store where `ended` is None."""

    def out_of_sight(self, conversation_id: str) -> None:
        """A conversation that this session monitors is none of its person's any more."""

    def view_changed(self, view: View, told: Told) -> None:
        """A view has changed; `told` is what the viewer lacks."""

    def close(self, code: int, reason: str, retry_ms: int | None = None) -> None:
        """Say why, then close."""

    def revoke(self) -> None:
        """The token is void."""


class MonitorRef:
    """One monitor that a session has joined; `certain_until` is loop time."""

    __slots__ = ("certain_until", "monitor_id", "participant_id", "since")

    def __init__(self, monitor_id: str, participant_id: str, since: int, certain_until: float) -> None:
        self.monitor_id = monitor_id
        self.participant_id = participant_id
        self.since = since
        self.certain_until = certain_until


class Node:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        store: RedisStore,
        conversations: Conversations,
        ingest: Ingest,
        ids: Ids,
        node_id: str,
    ) -> None:
        self.settings = settings
        self.store = store
        self.conversations = conversations
        self.ingest = ingest
        self.ids = ids
        self.node_id = node_id
        self.maskers = Maskers(settings)
        self.people = People(store, settings, node_id, self.store_clock_ms)
        self.records = Records(self)
        self.follower = Follower(store.primaries, beat_s=settings.beat_ms / 1000, on_turn=self._on_turn, lane="ingest")
        self.orgs: dict[str, Org] = {}
        self.topics: dict[tuple[str, str], Topic] = {}
        self.sessions: set[Session] = set()
        self._entered: dict[Session, Org] = {}  # the replica that each session counts in; it may be replaced meanwhile
        self.by_user: defaultdict[tuple[str, str], set[Session]] = defaultdict(set)
        self.monitoring: defaultdict[tuple[str, str], set[Session]] = defaultdict(set)
        self.revoked: dict[str, int] = {}
        self.alive: list[str] = [node_id]
        self.store_ok = False
        self.store_replaced = 0
        self._vouched = True
        self.clock_offset_ms = 0  # the store's clock less this node's
        self.stalled_s = 0.0
        self.meter = store.primaries.meter
        self.draining = False
        self._store_seen = time.monotonic()
        self._incarnation = ""
        self._timed = 0.0
        self._timed_now: list[Session] = []  # whose timers have their turn in this half second
        self._slice = -1
        self._ping = (0, b"")  # as it was made last, and when
        self._beats = 0
        self._missing: dict[str, int] = {}  # nodes that people are said to be on, but don't live: since which beat
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: list[asyncio.Task[None]] = []

    # -- life --------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """This node's clock: for what is shown, never for who may."""
        return time.time_ns() // 1_000_000

    def store_clock_ms(self) -> int:
        """The store's clock as it was when last compared: for times that other nodes compare with theirs."""
        return self.now_ms() + self.clock_offset_ms

    async def start(self) -> None:
        """Begin to follow and to keep time. Raises Refused `store_unavailable`."""
        self._incarnation = await self.store.incarnation()
        self._compare_clocks(await self.store.now_ms())
        await self.follower.channel(self.store.node_channel(self.node_id), self.told)
        await self.beat()
        settings = self.settings
        self._timed = asyncio.get_running_loop().time()
        self._loops = [
            asyncio.create_task(self._every(settings.beat_ms / 1000, self.beat)),
            asyncio.create_task(self._every(settings.sweep_ms / 1000, self._sweep)),
            asyncio.create_task(self._every(settings.lease_renew_ms / 1000, self._renew)),
            asyncio.create_task(self._every(TIMERS_S / TIMER_SLICES, self._timers)),
            asyncio.create_task(self._measure_lag()),
            asyncio.create_task(self._every(settings.ledger_seal_ms / 1000, self.records.seal)),
        ]
        if settings.tick_ms:
            self._loops.append(asyncio.create_task(self._ticks(settings.tick_ms / 1000)))

    async def stop(self) -> None:
        """Stop everything; sockets were closed before."""
        for task in (*self._loops, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)
        try:
            await self.records.seal()  # or what was done last would wait for a hub that starts again
            await self.store.leave(self.node_id)
        except Refused:
            log.warning("the store went before this node did")
        await self.follower.aclose()

    async def settle(self, seconds: float) -> None:
        """Let what was begun (sessions that end) come to its end."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run in the background; errors are logged, the store's absence only briefly."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Refused):
            log.warning("background work refused: %s", error.code)
        else:
            log.error("background work failed", exc_info=error)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            pause = seconds
            try:
                await work()
            except Refused as refused:
                pause = min(seconds, AGAIN_S)
                if self.store_ok:  # else the beat has said so
                    log.warning("%s: %s (%s)", work.__name__, refused.code, refused.__cause__)
            except Exception:
                log.exception("%s failed", work.__name__)

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def enter(self, session: Session) -> bool:
        """
        A session is there; False where it went while its organization was loaded.

        Raises Refused `store_unavailable` where that can't be loaded.
        """
        person = session.person
        org = await self.org(person.org)
        if session.closed:
            return False
        org.sockets += 1
        self._entered[session] = org
        self.by_user[(person.org, person.user_id)].add(session)
        return True

    def leave(self, session: Session) -> bool:
        """A session has gone; True where nothing of the person is left here that means that they are there. Idempotent."""
        person = session.person
        key = (person.org, person.user_id)
        org = self._entered.pop(session, None)
        if org is not None:
            org.sockets -= 1
            org.empty_since = time.monotonic()
            self.by_user[key].discard(session)
            if not self.by_user[key]:
                del self.by_user[key]
        return not any(one.present for one in self.by_user.get(key, ()))

    async def org(self, name: str) -> Org:
        """The organization's replica, loaded."""
        org = self.orgs.get(name)
        if org is None:
            org = self.orgs[name] = Org(self, name, self._changed)
            org.empty_since = time.monotonic()
            org.ready = asyncio.ensure_future(org.start())
        assert org.ready is not None
        try:
            await asyncio.shield(org.ready)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self.orgs.get(name) is org:
                del self.orgs[name]
                org.stop()
            log.warning("loading the board of %s failed: %s", name, type(error).__name__)
            raise store_unavailable("none") from None
        return org

    # -- conversations -----------------------------------------------------------------------------------------------

    async def watch(self, listener: Listener, conversation_id: str) -> Watch:
        """A held watch on a followed conversation."""
        topic = self._topic(listener.person.org, conversation_id)
        watch = Watch(listener, topic)
        topic.watches[watch] = None
        try:
            assert topic.ready is not None
            await asyncio.shield(topic.ready)
        except asyncio.CancelledError:
            self.unwatch(watch)
            raise
        except Exception as error:
            self._drop_topic(topic)
            log.warning("following a conversation failed: %s", type(error).__name__)
            raise store_unavailable("none") from None
        return watch

    def unwatch(self, watch: Watch) -> None:
        """No more data for it; the last one's topic isn't followed any more."""
        watch.topic.watches.pop(watch, None)
        if not watch.topic.watches:
            self._drop_topic(watch.topic)

    def _topic(self, org: str, conversation_id: str) -> Topic:
        key = (org, conversation_id)
        topic = self.topics.get(key)
        if topic is None:
            p, keys = partition(org, conversation_id), self.store.keys
            name, top_key = keys.transcript(p, org, conversation_id), keys.conversation(p, org, conversation_id)
            topic = self.topics[key] = Topic(self, org, conversation_id, name, top_key)
            topic.sent = self.store.sent
            topic.ready = asyncio.ensure_future(self._follow(topic))
        return topic

    async def _follow(self, topic: Topic) -> None:
        await self.follower.subscribe(topic)
        loaded = await self.conversations.load(topic.org, topic.conversation_id)
        topic.epoch = loaded.epoch
        topic.name_visible = loaded.situation.name_visible
        conversation = loaded.situation.conversation
        topic.masker = self.maskers.of(conversation.queue if conversation is not None else "")
        topic.last_tag = loaded.tag
        self.follower.start(topic, loaded.top, loaded.tag.encode())

    def ping_frame(self) -> bytes:
        """A ping of this millisecond: the same object for everybody who is pinged in it."""
        now = self.now_ms()
        if self._ping[0] != now:
            self._ping = (now, encode_event("ping", None, at=now))
        return self._ping[1]

    def note_age(self, sent: float) -> None:
        """An entry that left this node then is on its way to the sockets here: they write at the end of this turn."""
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self.meter.follow_lag_s.add(loop.time() - sent))

    def _drop_topic(self, topic: Topic) -> None:
        key = (topic.org, topic.conversation_id)
        if self.topics.get(key) is topic:
            del self.topics[key]
            self.follower.unsubscribe(topic)

    def topic_reset(self, topic: Topic, reason: str) -> None:
        """Its history is another one: whoever watched starts again on a new topic."""
        watches = list(topic.watches)
        topic.watches.clear()
        self._drop_topic(topic)
        for watch in watches:
            watch.listener.topic_restarts(topic.conversation_id, reason)

    # -- what a board's change means for people ----------------------------------------------------------------------

    def _changed(self, org: Org, old: Entry | None, new: Entry | None) -> None:
        if new is None or (old is not None and old.hidden is new.hidden):
            return
        conversation_id, was, is_ = new.conversation_id, old.x if old is not None else Hidden(), new.x
        key = (org.org, conversation_id)
        if key in self.monitoring:
            self._monitors_changed(key, is_)
            self._sight_changed(key, new)
        known = {one.participant_id for one in was.people}
        for one in is_.people:
            if one.participant_id not in known:
                for session in self._sessions_of(org, one.user_id):
                    session.joined(conversation_id, one)
        for notice in is_.notices:
            if notice not in was.notices:
                for session in self._sessions_of(org, notice.user_id):
                    session.noticed(conversation_id, notice.takeover_id)
        for wrapup in is_.wrapups:
            if wrapup not in was.wrapups:
                for session in self._sessions_of(org, wrapup.user_id):
                    session.wrapup_requested(conversation_id, wrapup)
        for ended in is_.wrapup_ended:
            for session in self._sessions_of(org, ended.user_id):
                session.wrapup_ended(conversation_id, ended)

    def _sessions_of(self, org: Org, user_id: str) -> Sequence[Session]:
        return tuple(self.by_user.get((org.org, user_id), ()))

    def _monitors_changed(self, key: tuple[str, str], is_: Hidden) -> None:
        current = is_.monitor.monitor_id if is_.monitor is not None else None
        for session in list(self.monitoring[key]):
            ref = session.monitors.get(key[1])
            if ref is None or ref.monitor_id == current:
                continue
            ended = is_.monitor_ended
            if ended is not None and ended.monitor_id == ref.monitor_id:
                session.monitor_over(key[1], ref.monitor_id, ended)
            else:
                self.spawn(self._look_at_monitor(session, key, ref))

    def _sight_changed(self, key: tuple[str, str], entry: Entry) -> None:
        """A monitor is a person's, a right is a token's: one session may see what another one doesn't."""
        for session in list(self.monitoring.get(key, ())):
            if not session.person.sees(entry.queue, entry.division):
                session.out_of_sight(key[1])

    async def _look_at_monitor(self, session: Session, key: tuple[str, str], ref: MonitorRef) -> None:
        """The board doesn't name it: the news may be older than the monitor, or its end was missed. The store knows."""
        monitor = (await self.conversations.load(*key)).situation.monitor
        if monitor is None or monitor.monitor_id != ref.monitor_id:
            session.monitor_over(key[1], ref.monitor_id, None)

    # -- views -------------------------------------------------------------------------------------------------------

    async def _ticks(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            await asyncio.sleep(seconds - now % seconds)  # a fixed grid, so that a tick tells nothing about its cause
            try:
                self._tick()
            except Exception:
                log.exception("tick failed")

    def _on_turn(self) -> None:
        if not self.settings.tick_ms:
            self._tick()

    def _tick(self) -> None:
        for org in self.orgs.values():
            for cls in org.views.dirty():
                for view, told in cls.news():
                    try:
                        view.owner.view_changed(view, told)
                    except Exception:
                        log.exception("a view failed")  # the others' go on

    # -- by the clock ------------------------------------------------------------------------------------------------

    async def _timers(self) -> None:
        now = asyncio.get_running_loop().time()
        self._notice_stall(now)
        self._slice = (self._slice + 1) % TIMER_SLICES
        if not self._slice:
            self._timed_now = list(self.sessions)
        for session in self._timed_now[self._slice :: TIMER_SLICES]:
            try:
                session.on_timer(now)
            except Exception:
                log.exception("a session's timer failed")  # the others' go on
        gone = time.monotonic() - ORG_IDLE_S
        for name, org in list(self.orgs.items()):
            if not org.sockets and org.empty_since < gone and org.ready is not None and org.ready.done():
                del self.orgs[name]
                org.stop()

    async def _measure_lag(self) -> None:
        """How much later than asked for this process gets its turn: what everybody here waits."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_S
            await asyncio.sleep(LAG_S)
            self.meter.loop_lag_s.add(max(0.0, loop.time() - due))
            self.store.forget_noted()

    def _notice_stall(self, now: float) -> None:
        """Paused, starved of processor time, or kept by one long step: everything here was as late."""
        late, self._timed = now - self._timed - TIMERS_S / TIMER_SLICES, now
        if late < STALL_S:
            return
        self.stalled_s += late
        log.warning("this process stood still for %.1f s", late)

    def _compare_clocks(self, store_ms: int) -> None:
        """Ours is for what is shown only, but times that jump confuse people: say it once each way."""
        offset, before = store_ms - self.now_ms(), self.clock_offset_ms
        self.clock_offset_ms = offset
        if (abs(offset) > CLOCK_APART_MS) != (abs(before) > CLOCK_APART_MS):
            log.warning("this node's clock and the store's are %d ms apart", abs(offset))

    async def beat(self) -> None:
        try:
            self.alive = await self.store.beat(self.node_id)
            incarnation = await self.store.incarnation()
            self.revoked = await self.store.revoked()
        except Refused as refused:
            if self.store_ok:
                log.error("the store is away: %s", refused.__cause__)
            self.store_ok = False
            if time.monotonic() - self._store_seen > STORE_AWAY_MAX_S:
                for session in list(self.sessions):
                    session.close(4503, "the store has been unavailable for too long")
            return
        if not self.store_ok and self._timed:
            log.warning("the store answers again after %.1f s", time.monotonic() - self._store_seen)
        self.store_ok = True
        self._store_seen = time.monotonic()
        self._notice_doubt(self.store.primaries.vouched)
        self._beats += 1
        for node_id in self.alive:
            self._missing.pop(node_id, None)
        if incarnation != self._incarnation:
            log.error("this is another store than before; everybody starts again")
            self._incarnation = incarnation
            self.store_replaced += 1
            for session in list(self.sessions):
                session.close(4503, "the store was replaced")
            for name, org in list(self.orgs.items()):
                del self.orgs[name]
                org.stop()
        self._close_revoked()

    def _notice_doubt(self, vouched: bool) -> None:
        """Cut off with a primary that may not be the one any more, or not any more cut off: say it once."""
        if vouched != self._vouched:
            said = "names this primary again" if vouched else "names this primary: monitors get nothing"
            log.warning("%s majority of the Sentinels %s", "a" if vouched else "no", said)
        self._vouched = vouched

    def _close_revoked(self) -> None:
        if not self.revoked:
            return
        for session in list(self.sessions):
            if self.is_revoked(session.person.org, session.person.user_id, session.person.token_id, session.person):
                session.revoke()

    def is_revoked(self, org: str, user_id: str, token_id: str, person: Any) -> bool:
        """True where the token was issued before its `sub` was revoked, or is the one that was."""
        at = self.revoked.get(f"{org}/sub/{user_id}")
        if at is not None and person.issued_at <= at:
            return True
        return bool(token_id) and f"{org}/jti/{token_id}" in self.revoked

    def told(self, message: bytes) -> None:
        """Another node (or this one) says that a session has moved."""
        told = orjson.loads(message)
        for session in list(self.sessions):
            if session.session_id == told["session"] and session.nonce == told["nonce"]:
                session.close(4409, "the session was resumed elsewhere")

    # -- leases ------------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        await self.renew([one for one in self.sessions if one.monitors and not one.quiet])

    async def renew(self, sessions: Sequence[Session]) -> None:
        """Extend the leases of these sessions' monitors."""
        by_partition: defaultdict[int, list[tuple[Session, str, MonitorRef]]] = defaultdict(list)
        for session in sessions:
            for conversation_id, ref in session.monitors.items():
                by_partition[partition(session.person.org, conversation_id)].append((session, conversation_id, ref))
        groups = by_partition.items()
        await asyncio.gather(
            *(self._renew_partition(p, group, number // 4) for number, (p, group) in enumerate(groups))
        )

    async def _renew_partition(self, p: int, group: Sequence[tuple[Session, str, MonitorRef]], later: int) -> None:
        """`later` is how many turns of the loop others have before: thousands of leases at once would hold up everybody."""
        for _ in range(later):
            await asyncio.sleep(0)
        group = [(session, name, ref) for session, name, ref in group if session.monitors.get(name) is ref]
        if not group:
            return
        asked = asyncio.get_running_loop().time()
        leases = [Lease(one.person.org, name, ref.monitor_id, one.session_id) for one, name, ref in group]
        kept = await self.store.renew(p, leases)
        for (session, conversation_id, ref), is_kept in zip(group, kept, strict=True):
            if is_kept:
                ref.certain_until = asked + self.settings.lease_ms / 1000 * LEASE_CERTAIN
            elif session.monitors.get(conversation_id) is ref:
                session.monitor_over(conversation_id, ref.monitor_id, None)

    # -- sweeping ----------------------------------------------------------------------------------------------------

    _swept_all = 0.0

    async def _sweep(self) -> None:
        now = await self.store.now_ms()
        self._compare_clocks(now)
        everything = time.monotonic() - self._swept_all >= SWEEP_ALL_S
        partitions = list(self.store.partitions())
        if everything:
            self._swept_all = time.monotonic()
        else:
            partitions = [p for p in partitions if self.prefers(p)]
        for kind, org, conversation_id in await self.store.due(partitions, now):
            self.spawn(self._do_due(kind, org, conversation_id))
        await self._presence()
        if everything:
            await self._present_here()
            await self.store.cut_leases(partitions, now)
            await self._idle_and_old(now)
            await self.records.carry_on()

    def prefers(self, p: int) -> bool:
        """Rendezvous hashing: each partition has one preferred node among those that live."""

        def weight(node: str) -> bytes:
            return hashlib.blake2b(f"{node}/{p}".encode(), digest_size=8).digest()

        return max({*self.alive, self.node_id}, key=weight) == self.node_id

    async def _do_due(self, kind: str, org: str, conversation_id: str) -> None:
        if kind == "erase":
            await self.records.retire_one(org, conversation_id)
            return
        command: c.Command = c.ExpireMonitor() if kind == "lease" else c.TimeOutWrapups()
        done = await self.conversations.run(org, conversation_id, lambda _: command, silent=kind == "lease")
        if not done.events:
            situation = done.after
            nothing = situation.conversation is None or (
                situation.monitor is None if kind == "lease" else not situation.conversation.wrapups
            )
            if nothing:
                await self.store.drop_due(kind, org, conversation_id)

    async def _idle_and_old(self, now: int) -> None:
        for p in self.store.partitions():
            if not self.prefers(p):
                continue
            for org, conversation_id in await self.store.quiet_since(p, "live", now - self.settings.idle_ms):
                try:
                    done = await self.conversations.run(org, conversation_id, lambda _: c.EndIdle())
                except Exception as error:  # one that can't be ended keeps no other one
                    log.warning("ending an idle conversation failed: %s", getattr(error, "code", type(error).__name__))
                    continue
                if done.events:
                    continue
                ended = done.after.conversation.ended_at if done.after.conversation is not None else 0
                queue = done.after.conversation.queue if done.after.conversation is not None else ""
                if ended is not None and now - ended > self.settings.retention_of(queue):
                    await self.records.erase(org, conversation_id)  # nobody came to acknowledge what is still open
                else:
                    await self.store.touch_live(org, conversation_id, now)
            await self.records.retire(p, now)

    async def _present_here(self) -> None:
        """Set right what the store says of this node: a departure can get lost with the store, or cross an arrival."""
        for number, ((name, user_id), sessions) in enumerate(list(self.by_user.items())):
            org = self.orgs.get(name)
            if org is not None and self.node_id not in org.presence.get(user_id, _ABSENT)[1]:
                there = next((one for one in sessions if one.present and one.ready), None)
                if there is not None:
                    await self.people.arrive(there.person)
            await _breathe(number)
        for org in list(self.orgs.values()):
            for number, (user_id, (_, nodes, _)) in enumerate(list(org.presence.items())):
                if self.node_id in nodes and not any(one.present for one in self.by_user.get((org.org, user_id), ())):
                    await self.people.depart(org.org, user_id)
                await _breathe(number)

    def _dead(self, node: str) -> bool:
        """
        True where a node hasn't been among the living for some beats.

        One that has just started, or after the store's clock has jumped, isn't for a moment.
        """
        if node in self.alive or node == self.node_id:
            return False
        return self._beats - self._missing.setdefault(node, self._beats) >= DEAD_AFTER_BEATS

    async def _presence(self) -> None:
        for org in list(self.orgs.values()):
            named = {node for _, nodes, _ in org.presence.values() for node in nodes}
            dead = {node for node in named if self._dead(node)}
            for user_id, (left_at, nodes, present) in list(org.presence.items()):
                for node in dead.intersection(nodes) if dead else ():
                    await self.people.depart(org.org, user_id, node)
                if left_at is not None and self.people.faded(left_at, nodes, present):
                    await self.people.fade(org.org, user_id)


async def _breathe(number: int) -> None:
    """Let others have their turn, now and then in a long walk."""
    if number % AT_ONCE == AT_ONCE - 1:
        await asyncio.sleep(0)
