"""`/v1/supervisor`: views, monitoring, takeover, and the conversations that one has taken over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, ClassVar

import orjson

from hub.domain import commands as d
from hub.domain import events as e
from hub.domain.conversation import Monitor, Situation
from hub.domain.decide import consequences, decide
from hub.domain.errors import Refused
from hub.edge.staff import StaffSession
from hub.fanout.board import MonitorEnd
from hub.fanout.node import LEASE_CERTAIN, MonitorRef
from hub.fanout.watch import PURPOSES
from hub.protocol import commands as c
from hub.service.ids import new_secret, secret_hash
from hub.store.keys import partition
from hub.store.redis_store import Lease

log = logging.getLogger(__name__)


def _same(command: d.Command, _situation: Situation) -> d.Command:
    return command


class SupervisorSession(StaffSession):
    """A supervisor's browser."""

    endpoint = "supervisor"
    roles = frozenset({"supervisor", "admin"})
    part_purposes = PURPOSES["supervisor"]
    __slots__ = ("_ended", "_ending", "_prepared", "_told_ended")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._ending: dict[str, MonitorRef] = {}  # monitors as the socket went
        # Those that have ended, until the client was heard after it was told: an end that gets lost is told at the resume.
        self._ended: dict[str, str] = {}
        self._told_ended: dict[str, None] = {}
        self._prepared = ("", "")  # the takeover that this socket prepared last, and its conversation

    def paces(self) -> dict[str, object]:
        """How often this socket is pinged while it has a monitor: who hears nothing for some of these is cut off."""
        return {"monitor_ping_ms": self.settings.monitor_ping_ms}

    # -- monitoring --------------------------------------------------------------------------------------------------

    async def monitor_start(self, item: c.MonitorStart) -> None:
        """`monitor.start`: the `ok`, then `monitor.started` with the snapshot, then live."""
        person, conversation_id = self.person, item.conversation_id
        limit = self.settings.monitors_per_session
        if len(self.monitors) >= limit and conversation_id not in self.monitors:
            over = self.parts.quotas.over("monitors_per_session", 0)
            raise over.refused(f"A session has at most {limit} monitors.")
        status = await self.node.people.status(person.org, person.user_id)
        monitor_id = self.parts.ids.new("mon", person.org, conversation_id)
        lease_ms = self.settings.lease_ms

        def make(situation: Situation) -> d.StartMonitor:
            lease_end = situation.now_ms + lease_ms
            return d.StartMonitor(person, status, self.session_id, item.participant_id, monitor_id, lease_end)

        def answer(before: Situation, events: Sequence[e.Event], after: Situation) -> dict[str, object]:
            assert after.monitor is not None
            return {"monitor_id": after.monitor.monitor_id, "lease_ms": lease_ms}

        self.parts.store.trust()
        asked = self.loop.time()
        done = await self.parts.conversations.run(
            person.org, conversation_id, make, answer=answer, request=self.request_of(item), silent=True
        )
        monitor = done.after.monitor
        await self.done(item, done.answer)
        if monitor is None or monitor.joined(self.session_id) is None or monitor.user_id != person.user_id:
            return  # a repeat of one that has ended since
        if self.closed:
            if self.on_purpose or self._revoked:  # `ended` came before this one was there
                await self._leave_monitor(conversation_id)
            return
        known = self.monitors.get(conversation_id)
        if known is not None and known.monitor_id == monitor.monitor_id:
            return
        if known is not None:  # its end hasn't reached this node yet, and couldn't be told from here on
            self._lose(conversation_id)
            if not await self.surely(partial(self._tell_end, conversation_id, known.monitor_id)):
                return
        self._remember(conversation_id, monitor, asked, done.before.now_ms)
        await self._save_monitors()
        await self.surely(partial(self.begin_monitor, conversation_id))

    def _remember(self, conversation_id: str, monitor: Monitor, asked: float, now_ms: int) -> None:
        """
        The monitor is this session's: `asked` is loop time before the store was, which then said that it was `now_ms`.

        A start that was repeated, or had no effect, has extended nothing: what counts is the lease as it stands.
        """
        joined = monitor.joined(self.session_id)
        rest_ms = joined.lease_end - now_ms if joined is not None else 0
        certain_until = asked + (rest_ms - self.settings.lease_ms * (1 - LEASE_CERTAIN)) / 1000
        ref = MonitorRef(monitor.monitor_id, monitor.participant_id, monitor.since, certain_until)
        self.monitors[conversation_id] = ref
        self.node.monitoring[(self.person.org, conversation_id)].add(self)

    def _save_monitors(self) -> Coroutine[Any, Any, None]:
        # Put together now: when this is carried out, the socket may have gone, and what it had been forgotten.
        monitors = {**self._ended, **{name: ref.monitor_id for name, ref in self.monitors.items()}}
        return self.save(monitors=orjson.dumps(monitors))

    def _heard(self) -> None:
        super()._heard()
        if self._told_ended:
            for conversation_id in self._told_ended:
                self._ended.pop(conversation_id, None)
            self._told_ended.clear()
            self.node.spawn(self._save_monitors())

    async def begin_monitor(self, conversation_id: str) -> None:
        """Bring the snapshot, if the monitor still is this session's."""
        async with self._lock(conversation_id):
            ref = self.monitors.get(conversation_id)
            if ref is None or self.closed:
                return
            self.parts.store.trust()
            watch = await self.held_watch(conversation_id)
            found = await self.snapshot(conversation_id)
            if self.monitors.get(conversation_id) is not ref:  # it has ended, and that was told, while this was read
                watch.release()
                self.let_go(watch)
                return
            monitor = found[1].monitor if found is not None else None
            if found is None or monitor is None or monitor.monitor_id != ref.monitor_id:
                watch.release()
                self.let_go(watch)
                self.monitor_over(conversation_id, ref.monitor_id, None)
                return
            snapshot, situation = found
            watch.monitor_id = ref.monitor_id
            shown = self.wire_snapshot(snapshot, situation)
            self.event(
                "monitor.started",
                conversation_id,
                {
                    "monitor_id": ref.monitor_id,
                    "participant_id": ref.participant_id,
                    "snapshot": shown,
                },
            )
            watch.stand(snapshot.loaded.top, snapshot.loaded.tag)
            watch.release()
            messages: Any = shown["messages"]
            first = messages[0]["offset"] if messages else snapshot.loaded.top + 1
            store = self.parts.store
            self.node.spawn(store.note_first_shown(self.person.org, conversation_id, ref.monitor_id, first))

    def monitor_over(self, conversation_id: str, monitor_id: str, ended: MonitorEnd | None) -> None:
        """Nothing more of it from now on; say why as soon as that is known."""
        ref = self.monitors.get(conversation_id)
        if ref is None or ref.monitor_id != monitor_id:
            return
        self._lose(conversation_id)
        if self.closed:
            return
        self._ended[conversation_id] = monitor_id
        self.node.spawn(self._save_monitors())
        if ended is None:
            self.node.spawn(self.surely(partial(self._tell_end, conversation_id, monitor_id)))
        else:
            self._say_end(conversation_id, monitor_id, ended.reason, ended.by, ended.duration_ms)

    def out_of_sight(self, conversation_id: str) -> None:
        """Nothing more of it here; the monitor goes on where another session of the person still may."""
        ref = self.monitors.get(conversation_id)
        if ref is not None:
            self._lose(conversation_id)
            self._ended[conversation_id] = ref.monitor_id
            self.node.spawn(self._save_monitors())
            self.node.spawn(self.surely(partial(self._leave_out_of_sight, conversation_id, ref)))

    async def _leave_out_of_sight(self, conversation_id: str, ref: MonitorRef) -> None:
        command = d.LeaveMonitor(self.person.user_id, self.session_id, out_of_sight=True)
        done = await self.parts.conversations.run(
            self.person.org, conversation_id, partial(_same, command), silent=True
        )
        self._say_end(conversation_id, ref.monitor_id, "permission_lost", None, max(0, done.before.now_ms - ref.since))

    def _lose(self, conversation_id: str) -> None:
        """No more data by the monitor."""
        self._drop_monitor(conversation_id)
        watch = self.watches.get(conversation_id)
        if watch is not None:
            watch.monitor_id = None
            if watch.held is None:
                self.let_go(watch)

    def _drop_monitor(self, conversation_id: str) -> None:
        del self.monitors[conversation_id]
        key = (self.person.org, conversation_id)
        self.node.monitoring[key].discard(self)
        if not self.node.monitoring[key]:
            del self.node.monitoring[key]

    async def _tell_end(self, conversation_id: str, monitor_id: str) -> None:
        """Look up why it ended: its closed segment says."""
        for raw in reversed(await self.parts.store.segments(self.person.org, conversation_id)):
            segment = orjson.loads(raw)
            if segment.get("monitor_id") == monitor_id:
                self._say_end(conversation_id, monitor_id, segment["reason"], segment["by"], segment["duration_ms"])
                return
        self._say_end(conversation_id, monitor_id, "lease_expired", None, 0)

    def _say_end(self, conversation_id: str, monitor_id: str, reason: str, by: Any, duration_ms: int) -> None:
        data = {"monitor_id": monitor_id, "reason": reason, "by": by, "duration_ms": duration_ms}
        self.event("monitor.ended", conversation_id, data)
        self._ended[conversation_id] = monitor_id
        self._told_ended[conversation_id] = None
        self.ping()  # its pong says that they have it

    async def monitor_stop(self, item: c.MonitorStop) -> None:
        """`monitor.stop`"""
        await self.run(item, item.conversation_id, d.StopMonitor(self.person), silent=True)

    async def monitor_release(self, item: c.MonitorRelease) -> None:
        """`monitor.release`"""
        await self.run(item, item.conversation_id, d.ReleaseMonitor(self.person, item.reason), silent=True)

    async def message_reveal(self, item: c.MessageReveal) -> None:
        """
        `message.reveal`: the ledger's line first, then the message, to this session alone.

        The answer is remembered nowhere, so nobody can have it once the monitor is over.
        """
        person, conversation_id = self.person, item.conversation_id
        command = d.RevealMessage(person, self.session_id, item.message_id, item.reason)
        self.parts.store.trust()
        loaded = await self.parts.conversations.load(person.org, conversation_id)
        decide(loaded.situation, command)  # nobody without the right learns what messages there are
        message = await self.parts.history.message(person.org, conversation_id, item.message_id)
        if message is None:
            details = {"path": "message_id", "got": item.message_id}
            raise Refused("schema_invalid", "There is no such message in this conversation.", details)
        done = await self.parts.conversations.run(person.org, conversation_id, partial(_same, command), silent=True)
        revealed = done.events[0]
        assert isinstance(revealed, e.MessageRevealed)
        ref = self.monitors.get(conversation_id)
        if ref is None or ref.monitor_id != revealed.monitor_id or self.loop.time() >= self.lease_ends(conversation_id):
            raise Refused("lease_lost", "Your monitoring has ended; start it again.")
        await self.done(item, {"message": message})

    # -- takeover ----------------------------------------------------------------------------------------------------

    async def takeover_prepare(self, item: c.TakeoverPrepare) -> None:
        """`takeover.prepare`"""
        person, conversation_id = self.person, item.conversation_id
        takeover_id, token = self.parts.ids.new("tko", person.org, conversation_id), new_secret()
        await self.parts.store.point(takeover_id, person.org, conversation_id, self.settings.retention_ms)

        def make(situation: Situation) -> d.PrepareTakeover:
            expires_at = situation.now_ms + self.settings.confirm_ms
            return d.PrepareTakeover(person, self.session_id, takeover_id, secret_hash(token), expires_at)

        def answer(before: Situation, events: Sequence[e.Event], after: Situation) -> dict[str, object]:
            assert after.prepared is not None
            return {
                "takeover_id": takeover_id,
                "confirm_token": token,
                "expires_at": after.prepared.expires_at,
                "consequences": consequences(after),
            }

        done = await self.parts.conversations.run(
            person.org,
            conversation_id,
            make,
            answer=answer,
            request=self.request_of(item),
            lane="takeover",
            silent=True,
        )
        self._prepared = (takeover_id, conversation_id)
        await self.done(item, done.answer)

    async def takeover_confirm(self, item: c.TakeoverConfirm) -> None:
        """`takeover.confirm`"""
        conversation_id = await self._prepared_in(item.takeover_id)
        self.parts.store.trust()
        participant_id = self.parts.ids.new("prt", self.person.org, conversation_id)
        command = d.ConfirmTakeover(
            self.person, self.session_id, item.takeover_id, secret_hash(item.confirm_token), participant_id
        )

        def answer(before: Situation, events: Sequence[e.Event], after: Situation) -> dict[str, object]:
            return {"participant_id": participant_id, "owner_epoch": after.existing.owner_epoch}

        await self.run(item, conversation_id, command, answer=answer, lane="takeover")

    async def takeover_cancel(self, item: c.TakeoverCancel) -> None:
        """`takeover.cancel`"""
        conversation_id = await self._prepared_in(item.takeover_id)
        await self.run(
            item, conversation_id, d.CancelTakeover(self.person, item.takeover_id), lane="takeover", silent=True
        )

    async def _prepared_in(self, takeover_id: str) -> str:
        if takeover_id == self._prepared[0]:
            return self._prepared[1]  # the conversation itself knows whether it still is
        conversation_id = await self.taken_over_in(takeover_id)
        if conversation_id is None:
            self._may_take_over()
            raise Refused("confirmation_required", "There is no prepared takeover of that id; prepare one.")
        return conversation_id

    def _may_take_over(self) -> None:
        if not self.person.may("takeover"):
            details = {"permission": "takeover"}
            raise Refused("not_permitted", "This needs the permission 'takeover'.", details)

    # -- life --------------------------------------------------------------------------------------------------------

    async def opened(self, resumed: tuple[bytes, bytes] | None, cursors: dict[str, str]) -> None:
        """The session's monitors first, then everything else."""
        if resumed is not None and resumed[1]:
            await self._resume_monitors(orjson.loads(resumed[1]), cursors)
        await super().opened(resumed, cursors)

    async def _resume_monitors(self, monitors: dict[str, str], cursors: dict[str, str]) -> None:
        """Those whose lease still runs go on; of the others the end is told."""
        person = self.person
        if monitors:
            self.parts.store.trust()
        for conversation_id, monitor_id in monitors.items():
            asked = self.loop.time()
            lease = Lease(person.org, conversation_id, monitor_id, self.session_id)
            kept = (await self.parts.store.renew(partition(person.org, conversation_id), [lease]))[0]
            monitor = None
            if kept:
                loaded = await self.parts.conversations.load(person.org, conversation_id)
                monitor = loaded.situation.monitor
            if monitor is None or monitor.monitor_id != monitor_id:
                await self._tell_end(conversation_id, monitor_id)
                continue
            if self.closed:
                return
            self._remember(conversation_id, monitor, asked, loaded.situation.now_ms)
            about = loaded.situation.existing
            if not person.may("monitor") or not person.sees(about.queue, about.division):
                ref = self.monitors[conversation_id]
                self._lose(conversation_id)  # before anything of it is given back
                await self._leave_out_of_sight(conversation_id, ref)
                continue
            if monitor.until_with(person.expires_at) != monitor.until:
                await self._keep(conversation_id, monitor_id)
            if conversation_id not in cursors:
                await self.begin_monitor(conversation_id)
        await self._save_monitors()

    async def _keep(self, conversation_id: str, monitor_id: str) -> None:
        """Say that the rights last longer: this session's token is a newer one than the monitor was started with."""
        person, lease_ms = self.person, self.settings.lease_ms

        def make(situation: Situation) -> d.KeepMonitor:
            return d.KeepMonitor(person, self.session_id, monitor_id, situation.now_ms + lease_ms)

        await self.parts.conversations.run(person.org, conversation_id, make, silent=True)

    async def ended(self, on_purpose: bool) -> None:
        """Free the monitors at once where the session was ended; else keep them for one more lease."""
        monitors, self.monitors = dict(self._ending), {}
        if on_purpose or self._revoked:
            for conversation_id in monitors:
                await self._leave_monitor(conversation_id)
        elif self._closing != 4409:
            for conversation_id, ref in monitors.items():
                lease = Lease(self.person.org, conversation_id, ref.monitor_id, self.session_id)
                await self.parts.store.renew(partition(self.person.org, conversation_id), [lease])

    async def _leave_monitor(self, conversation_id: str) -> None:
        command = d.LeaveMonitor(self.person.user_id, self.session_id, revoked=self._revoked)
        try:
            await self.parts.conversations.run(self.person.org, conversation_id, partial(_same, command), silent=True)
        except Refused as refused:
            log.warning("a monitor isn't left, its lease ends it: %s", refused.code)  # the others are, all the same

    def forget(self) -> None:
        """Give up watches, views and monitors on this node."""
        super().forget()
        self._ending = dict(self.monitors)
        for conversation_id in list(self.monitors):
            self._drop_monitor(conversation_id)

    handlers: ClassVar[dict[type, Callable[[Any, Any], Awaitable[None]]]] = {
        c.StatusSet: StaffSession.set_status,
        c.ViewSubscribe: StaffSession.subscribe,
        c.MonitorStart: monitor_start,
        c.MonitorStop: monitor_stop,
        c.MonitorRelease: monitor_release,
        c.MessageReveal: message_reveal,
        c.TakeoverPrepare: takeover_prepare,
        c.TakeoverConfirm: takeover_confirm,
        c.TakeoverCancel: takeover_cancel,
        c.TakeoverAcknowledge: StaffSession.acknowledge,
        c.MessageSend: StaffSession.send_message,
        c.Typing: StaffSession.show_typing,
        c.ConversationEnd: StaffSession.end,
        c.WrapupSubmit: StaffSession.submit_wrapup,
    }
