"""
One conversation's log on this node, and the sessions that watch it.

A `Topic` follows the transcript while somebody here watches it. A `Watch` is one session's place in it: a position, and
rights that change at the transcript's own entries. A monitor's watch gets an entry only if the entry itself says that it
was written under that monitor; a participant's one from its connecting to its leaving.

    held      entries wait while a snapshot or the missed part of the log is read; then those behind it are delivered
    behind    the session was silent (or the lease is doubtful): nothing is delivered, and the log is read from the
              watch's own position as soon as it is heard again
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import orjson

from hub.domain.grants import Person
from hub.domain.masking import Masker
from hub.protocol.cursor import format_cursor
from hub.protocol.encode import encode_event, with_cursor
from hub.service.masking import masked_event
from hub.service.ports import StoredEntry
from hub.service.snapshots import customer_message
from hub.store.follow import Log
from hub.store.redis_store import parsed_entry

if TYPE_CHECKING:
    from hub.fanout.node import Node

HELD_MAX = 5_000  # entries a watch may hold; beyond it the log is read again


# As what a role takes part; the customer's right doesn't come and go.
PURPOSES: dict[str, tuple[str, ...]] = {
    "agent": ("agent", "bot"),
    "supervisor": ("supervisor",),
    "admin": ("supervisor",),
    "customer": (),
}


class Listener(Protocol):
    """A session, as fan-out sees it."""

    person: Person
    closed: bool

    @property
    def quiet(self) -> bool:
        """Silent for too long: it gets no conversation data until it is heard."""

    def send(self, frame: bytes) -> None:
        """Send one frame; never waits."""

    def lease_ends(self, conversation_id: str) -> float:
        """Loop time up to which the monitor's lease is certain."""

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """The conversation's log is another one: start again from a snapshot."""

    def watch_idle(self, watch: Watch) -> None:
        """A watch has lost its last right."""

    def sender_changed(self, item: Item) -> None:
        """A customer's: somebody else answers, and the channel shows names."""


class Item:
    """
    One entry on its way to many watches: each class's frame is made once, and only if somebody needs it.

    `before` is the tag of the entry before it, where it comes from the followed log.
    """

    __slots__ = ("_change", "_customer", "_staff", "_watchers", "before", "entry", "topic")

    def __init__(self, topic: Topic, entry: StoredEntry, before: str = "") -> None:
        self.topic = topic
        self.entry = entry
        self.before = before
        self._staff: bytes | None = None
        self._watchers: bytes | None = None
        self._customer: bytes | None = None
        self._change: tuple[str, str, str, str] | None = None

    @property
    def staff_frame(self) -> bytes:
        """For those who answer: agents, and a supervisor who has taken over."""
        if self._staff is None:
            self._staff = self._with_cursor(self.entry.body)
        return self._staff

    @property
    def watchers_frame(self) -> bytes:
        """For supervisors who only watch; the same as `staff_frame` where nothing in it is masked."""
        if self._watchers is None:
            masker = self.topic.masker
            body = self.entry.body if masker is None else masked_event(self.entry.body, masker)
            self._watchers = self.staff_frame if body is self.entry.body else self._with_cursor(body)
        return self._watchers

    def _with_cursor(self, body: bytes) -> bytes:
        cursor = format_cursor(self.topic.epoch, self.entry.tag, self.entry.offset)
        return with_cursor(body, cursor.encode())

    @property
    def customer_frame(self) -> bytes:
        """For the customer: their own positions, and at most a name of who answers."""
        if self._customer is None:
            event = orjson.loads(self.entry.body)
            data = event["data"]
            if event["event"] in ("message.created", "message.updated"):
                data = customer_message(data, self.topic.name_visible)
            elif event["event"] == "conversation.ended":
                data = {}  # the reason may name a role
            cursor = format_cursor(self.topic.epoch, self.entry.tag, self.entry.customer_offset)
            self._customer = encode_event(
                event["event"], data, conversation_id=self.topic.conversation_id, at=event["at"], cursor=cursor
            )
        return self._customer

    @property
    def change(self) -> tuple[str, str, str, str]:
        """What changes rights: (event, participant, user, purpose); the event is empty where nothing does."""
        if self._change is None:
            self._change = ("", "", "", "")
            body = self.entry.body
            if body.startswith((b'{"event":"participant.', b'{"event":"conversation.ended"')):
                event = orjson.loads(body)
                who = event["data"].get("participant", {})
                self._change = (
                    event["event"],
                    who.get("participant_id", ""),
                    who.get("user_id", ""),
                    who.get("purpose", ""),
                )
        return self._change


class Topic(Log):
    """One transcript, followed."""

    def __init__(self, node: Node, org: str, conversation_id: str, name: bytes, top_key: bytes) -> None:
        super().__init__(name, top_key)
        self.node = node
        self.org = org
        self.conversation_id = conversation_id
        self.epoch = ""
        self.name_visible = False
        self.masker: Masker | None = None  # of the queue that it is in now
        self.last_tag = "0"  # of the entry before the next one
        self.sent: dict[bytes, float] = {}  # when some entries left this node, by tag
        self.watches: dict[Watch, None] = {}
        self.ready: asyncio.Future[None] | None = None

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        """A stored entry, to everybody who may see it."""
        item = Item(self, parsed_entry(offset, tag, header, body), self.last_tag)
        self.last_tag = item.entry.tag
        if body.startswith(b'{"event":"conversation.transferred"'):
            self.masker = self.node.maskers.of(orjson.loads(body)["data"]["queue"])
        for watch in list(self.watches):
            watch.offer(item)
        if tag in self.sent:
            self.node.note_age(self.sent.pop(tag))

    def live(self, header: bytes, body: bytes) -> None:
        """Typing: to whoever is there right now."""
        audience, _, monitor_id, *_ = header.decode().split(",")  # a later version may say more
        event = orjson.loads(body)
        typist = event["data"].get("participant_id")
        customers = encode_event(
            "typing", {"on": event["data"]["on"]}, conversation_id=self.conversation_id, at=event["at"]
        )
        for watch in self.watches:
            watch.offer_typing(audience, monitor_id, typist, body, customers)

    def reset(self, reason: str) -> None:
        """Position and history don't fit: every watcher starts again from a snapshot."""
        self.node.topic_reset(self, reason)


class Watch:
    """One session's place in one conversation."""

    def __init__(self, listener: Listener, topic: Topic) -> None:
        self.listener = listener
        self.topic = topic
        self.offset = 0  # the position of what was shown last, with its tag
        self.tag = "0"
        self.monitor_id: str | None = None
        self.participant_id: str | None = None
        self.announced: str | None = None  # the participant for whom a snapshot was sent
        self.customer = listener.person.role == "customer"
        self.held: list[Item] | None = []
        self.behind = False
        self.lock = asyncio.Lock()  # one reading of snapshot or log at a time

    @property
    def idle(self) -> bool:
        """True where it has no right to anything."""
        return self.monitor_id is None and self.participant_id is None and not self.customer

    @property
    def answers(self) -> bool:
        """True where it is of somebody who reads everything, because they answer."""
        return self.participant_id is not None or self.listener.person.role == "agent"

    def hold(self) -> None:
        """Let entries wait from now on."""
        if self.held is None:
            self.held = []

    def stand(self, offset: int, tag: str) -> None:
        """A snapshot was shown: go on behind its position, which may be lower where a failover forgot something."""
        self.offset, self.tag = offset, tag

    def release(self) -> None:
        """Deliver what waited behind the position, and go on live; whoever lost all rights meanwhile gets nothing."""
        held, self.held = self.held or [], None
        for item in () if self.idle else held:
            self.offer(item)

    def offer(self, item: Item) -> None:
        """An entry of the log, in order; where it doesn't follow what was shown, start again from a snapshot."""
        if self.held is not None:
            if len(self.held) < HELD_MAX:
                self.held.append(item)
            else:
                self.behind = True
            return
        if self.listener.closed or self not in self.topic.watches:
            return
        ahead = item.entry.offset - self.offset
        if ahead <= 0:
            if ahead == 0 and item.entry.tag != self.tag:
                self._restart("what was shown has been forgotten")
            return
        if self.behind or not self.hearing():
            self.behind = True
            return
        if ahead > 1 or item.before != self.tag:
            self._restart("what was shown is of another history")
            return
        self.pass_on(item)

    def _restart(self, reason: str) -> None:
        self.topic.node.unwatch(self)
        self.listener.topic_restarts(self.topic.conversation_id, reason)

    def hearing(self) -> bool:
        """True while the session may get data: heard lately, and its lease certain."""
        if self.listener.quiet:
            return False
        if self.monitor_id is None:
            return True
        return asyncio.get_running_loop().time() < self.listener.lease_ends(self.topic.conversation_id)

    def pass_on(self, item: Item) -> None:
        """Deliver it if it is theirs; then let it change their rights."""
        self.stand(item.entry.offset, item.entry.tag)
        if self.customer:
            if "c" in item.entry.audience:
                self.listener.send(item.customer_frame)
            elif (
                self.topic.name_visible and item.change[0] == "participant.connected" and item.change[3] == "supervisor"
            ):
                self.listener.sender_changed(item)
            return
        if self.sees(item.entry):
            self.listener.send(item.staff_frame if self.answers else item.watchers_frame)
        event, participant_id, user_id, purpose = item.change
        if event:
            self._rights_change(event, participant_id, user_id, purpose)
            if self.idle and self.held is None:
                self.listener.watch_idle(self)

    def sees(self, entry: StoredEntry) -> bool:
        """True where the entry is for this viewer, by what the entry itself says."""
        supervising = self.listener.person.role != "agent"
        if self.participant_id is not None and ("s" if supervising else "a") in entry.audience:
            return True
        return self.monitor_id is not None and entry.monitor_id == self.monitor_id

    def _rights_change(self, event: str, participant_id: str, user_id: str, purpose: str) -> None:
        person = self.listener.person
        if (
            event == "participant.disconnected" and participant_id == self.participant_id
        ) or event == "conversation.ended":
            self.participant_id = None
        elif event == "participant.connected" and user_id == person.user_id and purpose in PURPOSES[person.role]:
            self.participant_id = participant_id

    def offer_typing(self, audience: str, monitor_id: str, typist: str, body: bytes, customers: bytes) -> None:
        """Typing is for who hears right now, but not for who types."""
        if self.held is not None or self.behind or self.listener.closed or not self.hearing():
            return
        if self.customer:
            if "c" in audience:
                self.listener.send(customers)
        elif self.participant_id is not None:
            if typist != self.participant_id:
                self.listener.send(body)
        elif self.monitor_id is not None and self.monitor_id == monitor_id:
            self.listener.send(body)
