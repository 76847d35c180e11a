"""What agents' and supervisors' sessions share: own conversations, notices, wrap-ups, the roster, status."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import msgspec
import orjson

from hub.domain import commands as d
from hub.domain.errors import Refused
from hub.edge.watching import WatchingSession
from hub.fanout.board import Participation, Wrapup, WrapupEnd
from hub.fanout.views import Told, View
from hub.protocol import commands as c
from hub.store.keys import partition, partition_of, stable_id


class StaffSession(WatchingSession):
    """A person who answers or supervises."""

    __slots__ = ("_stale_views", "_told", "_view_commands")

    part_purposes: tuple[str, ...] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._told: dict[str, None] = {}  # takeovers and wrap-ups that this session was told of
        self._view_commands: dict[str, dict[str, Any]] = {}
        self._stale_views: dict[str, None] = {}  # dicts: empty ones are a third of an empty set

    # -- what one is part of -----------------------------------------------------------------------------------------

    async def opened(self, resumed: tuple[bytes, bytes] | None, cursors: dict[str, str]) -> None:
        """Own conversations, notices and open wrap-ups; what a cursor names goes on behind it."""
        org = await self.node.org(self.person.org)
        named = dict(cursors)
        for entry in list(org.board.of_user(self.person.user_id)):
            hidden, conversation_id = entry.x, entry.conversation_id
            if conversation_id not in named:
                for one in hidden.people:
                    if one.user_id == self.person.user_id:
                        self.joined(conversation_id, one)
            for notice in hidden.notices:
                if notice.user_id == self.person.user_id:
                    self.noticed(conversation_id, notice.takeover_id)
            for wrapup in hidden.wrapups:
                if wrapup.user_id == self.person.user_id:
                    self.wrapup_requested(conversation_id, wrapup)
        if resumed is not None:
            await self.resume_views(resumed[0])
        for conversation_id, cursor in named.items():
            await self.resume_watch(conversation_id, cursor, self._monitor_id(conversation_id))

    def _monitor_id(self, conversation_id: str) -> str | None:
        ref = self.monitors.get(conversation_id)
        return ref.monitor_id if ref is not None else None

    def joined(self, conversation_id: str, one: Participation) -> None:
        """The person is a participant now: show them the conversation."""
        if self.ready and one.purpose in self.part_purposes:
            self.node.spawn(self.surely(partial(self.attach, conversation_id, one.participant_id)))

    def noticed(self, conversation_id: str, takeover_id: str) -> None:
        """The person was taken over: tell them once in this session."""
        if self.ready and takeover_id not in self._told:
            self._told[takeover_id] = None
            self.node.spawn(self.surely(partial(self._notify, conversation_id, takeover_id)))

    async def _notify(self, conversation_id: str, takeover_id: str) -> None:
        loaded = await self.parts.conversations.load(self.person.org, conversation_id)
        conversation = loaded.situation.conversation
        if conversation is None:
            return
        for notice in conversation.notices:
            if (notice.takeover_id, notice.user_id) != (takeover_id, self.person.user_id):
                continue
            required = notice.prompt in ("mandatory", "timeout")
            wrapup = {
                "required": required,
                "prompt": notice.prompt,
                "codes": list(notice.codes),
                "timeout_ms": notice.timeout_ms,
            }
            self.event(
                "takeover.notified",
                conversation_id,
                {
                    "takeover_id": takeover_id,
                    "supervisor": {"name": notice.supervisor_name},
                    "at": notice.at,
                    "returned_draft": loaded.drafts.get(notice.participant_id),
                    "wrapup": wrapup,
                },
            )

    def wrapup_requested(self, conversation_id: str, wrapup: Wrapup) -> None:
        """The person owes a wrap-up: ask once in this session."""
        key = f"{conversation_id}/{wrapup.participant_id}"
        if not self.ready or key in self._told:
            return
        self._told[key] = None
        data: dict[str, object] = {
            "participant_id": wrapup.participant_id,
            "prompt": wrapup.prompt,
            "codes": list(wrapup.codes),
            "timeout_ms": wrapup.timeout_ms,
        }
        self.event("wrapup.requested", conversation_id, data)

    def wrapup_ended(self, conversation_id: str, wrapup: WrapupEnd) -> None:
        """It is over."""
        if not self.ready:
            return
        self._told.pop(f"{conversation_id}/{wrapup.participant_id}", None)
        if wrapup.timed_out:
            self.event("wrapup.timed_out", conversation_id, {"participant_id": wrapup.participant_id})
        else:
            data: dict[str, object] = {"participant_id": wrapup.participant_id, "code": wrapup.code}
            self.event("wrapup.completed", conversation_id, data)

    # -- commands ----------------------------------------------------------------------------------------------------

    async def run(self, item: Any, conversation_id: str, command: d.Command, **options: Any) -> None:
        """Carry out a command whose `ok` is empty."""
        done = await self.parts.conversations.run(
            self.person.org, conversation_id, lambda _: command, request=self.request_of(item), **options
        )
        await self.done(item, done.answer, conversation_id=conversation_id)

    async def set_status(self, item: c.StatusSet) -> None:
        """`status.set`"""
        await self.node.people.set_status(self.person, item.status)
        await self.done(item)

    async def send_message(self, item: c.MessageSend) -> None:
        """`message.send`"""
        message_id = await self.parts.messaging.send(self.person, item.conversation_id, item)
        await self.done(item, {"message_id": message_id})

    async def show_typing(self, item: c.Typing) -> None:
        """`typing`"""
        await self.parts.messaging.type(self.person, item.conversation_id, item)
        await self.done(item)

    async def end(self, item: c.ConversationEnd) -> None:
        """`conversation.end`"""
        await self.run(item, item.conversation_id, d.EndConversation(self.person))

    async def submit_wrapup(self, item: c.WrapupSubmit) -> None:
        """`wrapup.submit`"""
        await self.run(item, item.conversation_id, d.SubmitWrapup(self.person, item.code, item.notes))

    async def acknowledge(self, item: c.TakeoverAcknowledge) -> None:
        """`takeover.acknowledge`"""
        conversation_id = await self.taken_over_in(item.takeover_id)
        if conversation_id is None:
            raise Refused("already_done", "There is no unacknowledged takeover of that id for you.")
        await self.run(item, conversation_id, d.AcknowledgeTakeover(self.person, item.takeover_id))
        self._told.pop(item.takeover_id, None)

    async def taken_over_in(self, takeover_id: str) -> str | None:
        """The conversation of a takeover of this organization, by its id."""
        p = partition_of(takeover_id)
        found = await self.parts.store.pointed(p, takeover_id) if p is not None else None
        return found[1] if found is not None and found[0] == self.person.org else None

    # -- views -------------------------------------------------------------------------------------------------------

    async def subscribe(self, item: c.ViewSubscribe) -> None:
        """`view.subscribe`: the `ok`, then the snapshot, then changes."""
        if item.view != "roster" and not self.person.may("view"):
            raise Refused("not_permitted", "This needs the permission 'view'.", {"permission": "view"})
        limit = self.settings.subscriptions_per_session
        if len(self.views) >= limit:
            over = self.parts.quotas.over("subscriptions_per_session", 0)
            raise over.refused(f"A session has at most {limit} subscriptions.")
        if (full := self.parts.quotas.full("subscriptions", self._quota_keys)) is not None:
            raise full.refused("Too many views are subscribed to.")
        org = await self.node.org(self.person.org)
        if self.closed:
            return
        view = org.views.subscribe(self.person, item.view, item.filter, item.sort, item.limit)
        subscription = self._name_for(view)
        self._open_view(subscription, view, item)
        self.ok(item.id, {"subscription": subscription})
        if self._congested:
            self._stale_views[subscription] = None
        else:
            self._view_snapshot(subscription, view)
        await self._save_views()

    def _name_for(self, view: View) -> str:
        """The same id in all sessions that see the same, wherever they are: what changes is one frame for all of them."""
        org, key = self.person.org, msgspec.to_builtins(view.cls.key, order="sorted")
        number = 0
        while True:
            name = stable_id("sub", partition(org, ""), org, orjson.dumps(key).decode(), str(number))
            if name not in self.views:
                return name
            number += 1  # a second one of this session

    def _open_view(self, subscription: str, view: View, item: c.ViewSubscribe) -> None:
        self.views[subscription] = view
        self.parts.quotas.hold("subscriptions", self._quota_keys)
        view.subscription, view.owner = subscription, self
        wanted = {} if item.filter is None else {k: getattr(item.filter, k) for k in item.filter.__struct_fields__}
        self._view_commands[subscription] = {
            "view": item.view,
            "filter": {key: value for key, value in wanted.items() if value is not None} or None,
            "sort": item.sort,
            "limit": item.limit,
        }

    async def _save_views(self) -> None:
        await self.save(views=orjson.dumps(self._view_commands))

    def unsubscribe(self, item: c.ViewUnsubscribe) -> None:
        """`view.unsubscribe`"""
        view = self.views.pop(item.subscription, None)
        if view is None:
            details = {"path": "subscription", "got": item.subscription}
            raise Refused("schema_invalid", "This session has no such subscription.", details)
        self._close_view(view)
        del self._view_commands[item.subscription]
        self.ok(item.id)
        self.node.spawn(self._save_views())

    instant: ClassVar[dict[type, Callable[[Any, Any], None]]] = {c.ViewUnsubscribe: unsubscribe}

    def _close_view(self, view: View) -> None:
        self.parts.quotas.release("subscriptions", self._quota_keys)
        org = self.node.orgs.get(self.person.org)
        if org is not None:
            org.views.unsubscribe(view)

    async def resume_views(self, stored: bytes) -> None:
        """Subscribe again to what the session had."""
        org = await self.node.org(self.person.org)
        if self.closed:
            return
        for subscription, wanted in (orjson.loads(stored) if stored else {}).items():
            if wanted["view"] != "roster" and not self.person.may("view"):
                continue
            given = wanted["filter"] or {}  # a later version's may have more
            known = {name: given[name] for name in c.ViewFilter.__struct_fields__ if name in given}
            filter_ = c.ViewFilter(**known) if known else None
            item = c.ViewSubscribe(
                id=1, view=wanted["view"], filter=filter_, sort=wanted["sort"], limit=wanted["limit"]
            )
            view = org.views.subscribe(self.person, item.view, item.filter, item.sort, item.limit)
            self._open_view(subscription, view, item)
            self._view_snapshot(subscription, view)

    def _view_snapshot(self, subscription: str, view: View) -> None:
        view.snapshot()
        parts = view.cls.snapshot_parts() or [b""]
        head = b'{"event":"view.snapshot","data":{"subscription":"%b","rows":[' % subscription.encode()
        for index, part in enumerate(parts):
            more = b"true" if index < len(parts) - 1 else b"false"
            self.send(b'%b%b],"more":%b}}' % (head, part, more))

    @property
    def _congested(self) -> bool:
        return self.socket.backlog() > self.settings.socket_buffer_bytes_max // 4

    def view_changed(self, view: View, told: Told) -> None:
        """Send what changed; a slow reader gets the whole view when it has caught up."""
        if self._lags and self._congested:
            view.pause()
            self._stale_views[view.subscription] = None
            return
        self.node.meter.view_rows += len(told.rows)
        self.send_shared(told.frames(view.subscription))

    def on_timer(self, now: float) -> None:
        """Besides what all do: bring views up to date that were kept back."""
        super().on_timer(now)
        if self._stale_views and not self.closed and self.socket.backlog() == 0:
            for subscription in self._stale_views:
                if subscription in self.views:
                    self._view_snapshot(subscription, self.views[subscription])
            self._stale_views.clear()

    def forget(self) -> None:
        """Give up views and watches."""
        super().forget()
        for view in self.views.values():
            self._close_view(view)
        self.views = {}
