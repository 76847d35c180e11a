"""
A hub node: the real services, the real law of following, the real watches, on a line to the model store.

What is made here is the little that lies between them: the sessions' screens (the order of `hub.edge.watching` and
`hub.edge.supervisor`: remember, hold, snapshot, release) and the clockwork of renewing, sweeping and comparing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import orjson

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import Conversation, Situation
from hub.domain.decide import consequences
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.fanout.node import LEASE_CERTAIN
from hub.fanout.node import Node as HubNode
from hub.fanout.watch import PURPOSES, Item, Topic, Watch
from hub.protocol.commands import MessageSend
from hub.protocol.cursor import format_cursor, parse_cursor
from hub.service.codec import digest
from hub.service.conversations import Conversations, repeated
from hub.service.ids import secret_hash
from hub.service.ingest import Ingest
from hub.service.messaging import Messaging
from hub.service.ports import Request, Snapshot, StoredEntry
from hub.settings import QueueSettings, Settings
from hub.store.follow import LIVE, REPAIRING, Follower, Log, _differs
from hub.store.redis_store import store_unavailable
from tests.simulation.clockwork import Process
from tests.simulation.store import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

ORG = "acme"
LEASE_MS, RENEW_S, SWEEP_S, COMPARE_S, AGAIN_S = 15_000, 5.0, 4.0, 10.0, 0.5
QUIET_S = 5.0
SETTINGS = Settings(
    queues={
        "support": QueueSettings("Support", "home", "timeout", 8_000, ("resolved",)),
        "billing": QueueSettings("Billing", "home", "none", 30_000, ()),
    }
)
Json = dict[str, Any]

logging.getLogger("hub").addHandler(logging.NullHandler())


class Feed:
    """The node's subscriptions: where the real one has a connection, this has the world's channel."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.names: dict[bytes, None] = {}
        self.last = 0.0  # one connection: what comes through it keeps its order
        self.deaf_until = 0.0
        self._unsure: dict[Log, None] = {}

    async def join(self, name: bytes) -> None:
        """Subscribe; returns when confirmed."""
        await self.node.store.ask(lambda: self.names.update({name: None}))

    def leave(self, name: bytes) -> None:
        """Give a name up."""
        self.names.pop(name, None)

    def mend(self, log: Log) -> None:
        """Have a log repaired."""
        self.node.world.count("repairs")
        self.node.spawn(self._mend(log))

    def message(self, name: bytes, payload: bytes) -> None:
        """One published payload."""
        if name in self.names:
            self.node.follower._message(name, payload)

    async def _mend(self, log: Log) -> None:
        position, topic = (log.offset, log.tag), cast(FollowedTopic, log)
        while log._doing == REPAIRING and (log.offset, log.tag) == position:
            try:
                page = await self.node.store.entries(topic.org, topic.conversation_id, log.offset)
            except Refused:
                await asyncio.sleep(AGAIN_S)
                continue
            if log._doing == REPAIRING and (log.offset, log.tag) == position:
                self.node.follower._mend(log, [_streamed(one) for one in page], full=False)
            return

    async def compare(self) -> None:
        """Ask for each log's top; what was published before has arrived when the answer is looked at."""
        for log in list(self.node.follower._logs.values()):
            topic, had = cast(FollowedTopic, log), log.offset
            if log._doing != LIVE:
                continue
            top = await self.node.store.top(topic.org, topic.conversation_id)
            fence: asyncio.Future[None] = self.node.world.loop.create_future()
            self.node.world.through_channel(self, fence.set_result, None)
            await fence
            if log._doing == LIVE and self.node.follower._logs.get(log.name) is log and _differs(log, had, top):
                self.node.follower._repair(log)


def _streamed(entry: StoredEntry) -> tuple[bytes, list[bytes]]:
    """An entry as its stream has it."""
    header = f"{entry.audience},{entry.customer_offset},{entry.monitor_id}".encode()
    return f"{entry.offset}-{entry.tag}".encode(), [b"h", header, b"e", entry.body]


class _Home:
    """What the follower needs of the store's map: one primary, always there."""

    lane_names = ("commit",)
    limits = type("Limits", (), {"connect_wait_s": 30.0})

    def on_change(self, callback: Callable[[], None]) -> None:
        """It never changes."""

    def primary_of(self, name: bytes) -> str:
        """Everything lives there."""
        return "home"


class FollowedTopic(Topic):
    """A real topic; the judge is told of what its follower delivers."""

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        """A stored entry."""
        self.node.world.judge.followed(self, offset, tag.decode(), body)  # type: ignore[attr-defined]
        super().entry(offset, tag, header, body)


class Ref:
    """One monitor that a screen's session has joined; `certain_until` is loop time."""

    __slots__ = ("certain_until", "monitor_id")

    def __init__(self, monitor_id: str, certain_until: float) -> None:
        self.monitor_id = monitor_id
        self.certain_until = certain_until


class Screen:
    """One session on this node: what its watches may tell it goes to its client."""

    def __init__(self, node: "Node", session: str, person: Person, line: int) -> None:
        self.node = node
        self.session = session
        self.person = person
        self.line = line  # which of its client's connections
        self.closed = False
        self.monitors: dict[str, Ref] = {}
        self.watches: dict[str, Watch] = {}
        self.told: set[str] = set()
        self.locks: dict[str, asyncio.Lock] = {}
        self.sent_until = 0.0

    # -- what a watch asks of a listener -----------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Silent for too long, where there is a monitor."""
        if not self.monitors:
            return False
        tab = self.node.world.tabs[self.session]
        return self.node.world.loop.time() - tab.heard_last(self.line) > QUIET_S

    def send(self, frame: bytes) -> None:
        """One frame."""
        self.node.world.judge.given(self, frame)
        self.node.world.to_client(self, frame)

    def lease_ends(self, conversation_id: str) -> float:
        """Loop time up to which the monitor's lease is certain."""
        ref = self.monitors.get(conversation_id)
        return 0.0 if ref is None else ref.certain_until

    def topic_restarts(self, conversation_id: str, reason: str) -> None:
        """The log is another one: start again from a snapshot."""
        old = self.watches.pop(conversation_id, None)
        self.node.world.say(self.node, "reset", self.session, conversation_id, reason)
        if old is not None:
            self.node.spawn(self.surely(partial(self._restart, old.monitor_id, conversation_id)))

    def watch_idle(self, watch: Watch) -> None:
        """A watch has lost its last right."""
        self.let_go(watch)

    def sender_changed(self, item: Item) -> None:
        """No customer's screen is here."""

    # -- what a session does with its watches --------------------------------------------------------------------------

    def lock(self, conversation_id: str) -> asyncio.Lock:
        """One reading of a conversation at a time."""
        return self.locks.setdefault(conversation_id, asyncio.Lock())

    async def surely(self, work: Callable[[], Awaitable[None]]) -> None:
        """Where the store is away, again until it is back."""
        while not self.closed:
            try:
                await work()
            except Refused:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def held_watch(self, conversation_id: str) -> Watch:
        """This session's watch, held."""
        watch = self.watches.get(conversation_id)
        if watch is None or watch not in watch.topic.watches:
            watch = await self.node.watch(self, conversation_id)
            if self.closed or watch not in watch.topic.watches:
                self.node.unwatch(watch)
                raise store_unavailable("none")
            self.watches[conversation_id] = watch
        watch.hold()
        return watch

    def let_go(self, watch: Watch) -> None:
        """Forget a watch that has no right to anything."""
        if watch.idle:
            self.node.unwatch(watch)
            if self.watches.get(watch.topic.conversation_id) is watch:
                del self.watches[watch.topic.conversation_id]

    def give_up(self, watch: Watch) -> None:
        """Let go of one without rights, with what it held."""
        watch.release()
        self.let_go(watch)

    def remember(self, conversation_id: str, monitor_id: str, certain_until: float) -> None:
        """This session watches by that monitor."""
        self.monitors[conversation_id] = Ref(monitor_id, certain_until)

    async def begin(self, conversation_id: str) -> None:
        """Bring a monitor's snapshot, if it still is this session's."""
        async with self.lock(conversation_id):
            ref = self.monitors.get(conversation_id)
            if ref is None or self.closed:
                return
            watch = await self.held_watch(conversation_id)
            found = await self.node.store.snapshot(ORG, conversation_id)
            if self.monitors.get(conversation_id) is not ref:
                self.give_up(watch)
                return
            monitor = found.loaded.situation.monitor
            if monitor is None or monitor.monitor_id != ref.monitor_id:
                self.give_up(watch)
                self.monitor_over(conversation_id, ref.monitor_id)
                return
            watch.monitor_id = ref.monitor_id
            self._show("monitor.started", conversation_id, found, monitor_id=ref.monitor_id)
            watch.stand(found.loaded.top, found.loaded.tag)
            watch.release()

    async def attach(self, conversation_id: str) -> None:
        """Become a participant's screen."""
        async with self.lock(conversation_id):
            watch = await self.held_watch(conversation_id)
            if watch.participant_id is not None:
                watch.release()
                return
            found = await self.node.store.snapshot(ORG, conversation_id)
            watch.participant_id = self.my_part(found.loaded.situation.conversation)
            if watch.participant_id is None:
                self.give_up(watch)
                return
            self._show("conversation.snapshot", conversation_id, found)
            watch.stand(found.loaded.top, found.loaded.tag)
            watch.release()

    async def resume(self, conversation_id: str, cursor: str | None, monitor_id: str) -> None:
        """What happened behind the cursor, or a reset; without one, the snapshot."""
        if cursor is None:
            await self.begin(conversation_id)
            return
        async with self.lock(conversation_id):
            ref = self.monitors.get(conversation_id)
            if ref is None or ref.monitor_id != monitor_id:
                return  # tried again, and over since
            watch = await self.held_watch(conversation_id)
            watch.monitor_id = monitor_id
            found = await self.node.store.snapshot(ORG, conversation_id)
            missed = await self._since(conversation_id, cursor, found.loaded.epoch)
            if missed is None:
                self._restarted(watch, found)
                return
            if watch.idle:  # the monitor has ended while this was read
                self.give_up(watch)
                return
            parsed = parse_cursor(cursor)
            assert parsed is not None
            watch.stand(parsed[2], parsed[1])
            self.replay(watch, missed)
            watch.release()
            self.let_go(watch)

    def replay(self, watch: Watch, missed: Sequence[StoredEntry]) -> None:
        """Deliver what was read, as far as the lease is still certain: reading may have taken longer than that."""
        for entry in missed:
            if not watch.hearing():
                watch.behind = True
                return
            watch.pass_on(Item(watch.topic, entry))

    async def _since(self, conversation_id: str, cursor: str, epoch: str) -> list[StoredEntry] | None:
        """The entries behind the cursor; None where it isn't of this history."""
        parsed = parse_cursor(cursor)
        assert parsed is not None, cursor
        if parsed[0] != epoch:
            return None
        return await self._behind(conversation_id, parsed[2], parsed[1])

    async def _behind(self, conversation_id: str, offset: int, tag: str) -> list[StoredEntry] | None:
        """The entries behind a position; None where it isn't of this history."""
        entries = await self.node.store.entries(ORG, conversation_id, offset)
        if offset == 0:
            return entries
        if not entries or (entries[0].offset, entries[0].tag) != (offset, tag):
            return None
        return entries[1:]

    async def catch_up(self, watch: Watch) -> None:
        """Deliver from the log what the watch missed."""
        conversation_id = watch.topic.conversation_id
        async with self.lock(conversation_id):
            if not watch.behind or self.closed or watch not in watch.topic.watches:
                return
            watch.hold()
            watch.behind = False
            try:
                missed = await self._behind(conversation_id, watch.offset, watch.tag)
                found = None if missed is not None else await self.node.store.snapshot(ORG, conversation_id)
            except Refused:
                watch.behind = True
                watch.release()
                return
            if watch.idle:
                self.give_up(watch)
                return
            if missed is None:
                assert found is not None
                self._restarted(watch, found)
                return
            self.node.world.count("caught up")
            self.replay(watch, missed)
            watch.release()
            self.let_go(watch)

    async def _restart(self, monitor_id: str | None, conversation_id: str) -> None:
        async with self.lock(conversation_id):
            watch = await self.held_watch(conversation_id)
            watch.monitor_id = monitor_id
            self._restarted(watch, await self.node.store.snapshot(ORG, conversation_id))

    def _restarted(self, watch: Watch, found: Snapshot) -> None:
        situation = found.loaded.situation
        if situation.monitor is None or situation.monitor.monitor_id != watch.monitor_id:
            watch.monitor_id = None
        watch.participant_id = self.my_part(situation.conversation)
        if watch.idle:
            self.give_up(watch)
            return
        self._show("stream.reset", watch.topic.conversation_id, found)
        watch.stand(found.loaded.top, found.loaded.tag)
        watch.release()

    def my_part(self, conversation: Conversation | None) -> str | None:
        """The connected participant that this session speaks as."""
        for purpose in PURPOSES[self.person.role]:
            one = conversation.of_user(self.person.user_id, purpose) if conversation is not None else None
            if one is not None:
                return one.participant_id
        return None

    def _show(self, event: str, conversation_id: str, found: Snapshot, **data: object) -> None:
        cursor = format_cursor(found.loaded.epoch, found.loaded.tag, found.loaded.top)
        self.tell({"event": event, "conversation_id": conversation_id, "data": {**data, "cursor": cursor}})

    def tell(self, event: Json) -> None:
        """An event without a cursor."""
        self.node.world.to_client(self, orjson.dumps(event))

    def monitor_over(self, conversation_id: str, monitor_id: str) -> None:
        """Nothing more of it from now on."""
        ref = self.monitors.get(conversation_id)
        if ref is None or ref.monitor_id != monitor_id:
            return
        del self.monitors[conversation_id]
        watch = self.watches.get(conversation_id)
        if watch is not None:
            watch.monitor_id = None
            if watch.held is None:
                self.let_go(watch)
        data = {"monitor_id": monitor_id}
        self.tell({"event": "monitor.ended", "conversation_id": conversation_id, "data": data})

    def noticed(self, conversation_id: str, takeover_id: str) -> None:
        """The person was taken over: tell them once in this session."""
        if takeover_id not in self.told:
            self.told.add(takeover_id)
            self.node.spawn(self.surely(partial(self._notify, conversation_id, takeover_id)))

    async def _notify(self, conversation_id: str, takeover_id: str) -> None:
        loaded = await self.node.conversations.load(ORG, conversation_id)
        conversation = loaded.situation.conversation
        for notice in conversation.notices if conversation is not None else ():
            if (notice.takeover_id, notice.user_id) == (takeover_id, self.person.user_id):
                data = {"takeover_id": takeover_id}
                self.tell({"event": "takeover.notified", "conversation_id": conversation_id, "data": data})

    def close(self) -> None:
        """The socket has gone."""
        self.closed = True
        for watch in self.watches.values():
            self.node.unwatch(watch)
        self.watches.clear()


class Node:
    """See the module."""

    def __init__(self, world: "World", name: str, life: int) -> None:
        self.world = world
        self.name = name
        self.process = Process(f"{name}.{life}")
        self.store = Line(world, self.process)
        ids = world.ids
        self.ids = ids
        self.conversations = Conversations(self.store, SETTINGS, ids.new, ids.tag)
        self.messaging = Messaging(self.store, self.conversations, ids)
        self.ingest = Ingest(self.store, self.conversations, SETTINGS, ids)
        self.follower = Follower(cast(Any, _Home()))
        self.feed = Feed(self)
        self.follower._feeds[cast(Any, "home")] = cast(Any, self.feed)
        self.topics: dict[str, FollowedTopic] = {}
        self.screens: dict[str, Screen] = {}
        for seconds, work in ((RENEW_S, self._renew), (SWEEP_S, self._sweep), (COMPARE_S, self.feed.compare)):
            self.spawn(self._every(seconds, work))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run in the background; refusals are the store's absence, anything else ends the run."""
        task = self.world.loop.start(work, self.process.context)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            self.world.loop.fail(error)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        pause = self.world.chance.uniform(0, seconds)
        while True:
            await asyncio.sleep(pause)
            pause = seconds
            try:
                await work()
            except Refused:
                pause = min(seconds, AGAIN_S)

    # -- following -----------------------------------------------------------------------------------------------------

    async def watch(self, listener: Screen, conversation_id: str) -> Watch:
        """A held watch on a followed conversation."""
        topic = self.topics.get(conversation_id)
        if topic is None:
            topic = FollowedTopic(cast(HubNode, self), ORG, conversation_id, conversation_id.encode(), b"")
            self.topics[conversation_id] = topic
            topic.ready = asyncio.ensure_future(self._follow(topic))
        watch = Watch(listener, topic)
        topic.watches[watch] = None
        assert topic.ready is not None
        try:
            await asyncio.shield(topic.ready)
        except Exception as error:
            self._drop_topic(topic)
            raise store_unavailable("none") from error
        return watch

    def unwatch(self, watch: Watch) -> None:
        """No more data for it."""
        watch.topic.watches.pop(watch, None)
        if not watch.topic.watches:
            self._drop_topic(watch.topic)

    async def _follow(self, topic: FollowedTopic) -> None:
        await self.follower.subscribe(topic)
        loaded = await self.conversations.load(ORG, topic.conversation_id)
        topic.epoch = loaded.epoch
        self.world.judge.follows(topic, loaded.top, loaded.tag)
        topic.last_tag = loaded.tag
        self.follower.start(topic, loaded.top, loaded.tag.encode())

    def _drop_topic(self, topic: Topic) -> None:
        if self.topics.get(topic.conversation_id) is topic:
            del self.topics[topic.conversation_id]
            self.follower.unsubscribe(topic)

    def topic_reset(self, topic: Topic, reason: str) -> None:
        """Its history is another one: whoever watched starts again on a new topic."""
        self.world.count("resets")
        watches = list(topic.watches)
        topic.watches.clear()
        self._drop_topic(topic)
        for watch in watches:
            watch.listener.topic_restarts(topic.conversation_id, reason)

    def board_changed(self, conversation_id: str, extra: bytes) -> None:
        """A row of the board: who is in it, who is owed a notice, whose monitor it is."""
        hidden = orjson.loads(extra)
        current = hidden["monitor"] and hidden["monitor"]["monitor_id"]
        people = {one["user_id"] for one in hidden["people"]}
        for screen in list(self.screens.values()):
            ref = screen.monitors.get(conversation_id)
            if ref is not None and ref.monitor_id != current:
                screen.monitor_over(conversation_id, ref.monitor_id)
            user_id = screen.person.user_id
            if user_id in people:
                self.spawn(screen.surely(partial(screen.attach, conversation_id)))
            for notice in hidden["notices"]:
                if notice["user_id"] == user_id:
                    screen.noticed(conversation_id, notice["takeover_id"])

    # -- by the clock --------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        asked = self.world.loop.time()
        mine = [
            (screen, name, ref)
            for screen in self.screens.values()
            if screen.monitors and not screen.quiet
            for name, ref in screen.monitors.items()
        ]
        if not mine:
            return
        leases = [(ORG, name, ref.monitor_id, screen.session) for screen, name, ref in mine]
        for (screen, name, ref), kept in zip(mine, await self.store.renew(leases, LEASE_MS), strict=True):
            if kept:
                ref.certain_until = asked + LEASE_MS / 1000 * LEASE_CERTAIN
            else:
                screen.monitor_over(name, ref.monitor_id)
        for screen, name, _ in mine:
            watch = screen.watches.get(name)
            if watch is not None and watch.behind and watch.held is None and watch.hearing():
                self.spawn(screen.catch_up(watch))

    async def _sweep(self) -> None:
        for kind, org, conversation_id in await self.store.due():
            command: c.Command = c.ExpireMonitor() if kind == "lease" else c.TimeOutWrapups()
            self.spawn(self._do_due(org, conversation_id, command))

    async def _do_due(self, org: str, conversation_id: str, command: c.Command) -> None:
        silent = isinstance(command, c.ExpireMonitor)
        await self.conversations.run(org, conversation_id, lambda _: command, silent=silent)

    # -- commands ------------------------------------------------------------------------------------------------------

    def hear(self, session: str, line: int) -> None:
        """A sign of life after some silence."""
        screen = self.screens.get(session)
        if screen is None or screen.line != line:
            return
        for watch in list(screen.watches.values()):
            if watch.behind:
                self.spawn(screen.catch_up(watch))

    async def carry_out(self, ask: "Ask", reply: Callable[[object], None]) -> None:
        """One command; the answer is its `ok` or its refusal."""
        try:
            answer: object = await self._command(ask)
        except Refused as refused:
            answer = refused
        reply(answer)

    async def _command(self, ask: "Ask") -> object:
        person, args = ask.person, ask.args
        match ask.cmd:
            case "hello":
                return await self._hello(ask)
            case "events":
                return await self.ingest.take(ORG, "platform", args["events"])
            case "message.send":
                send = MessageSend(
                    id=1, conversation_id=ask.conversation_id, text=args["text"], client_message_id=ask.req
                )
                return await self.messaging.send(person, ask.conversation_id, send)
        request = Request(ORG, person.role, person.user_id, ask.req, digest([ask.cmd, ask.conversation_id, args]))
        first = await self.store.first_answer(request)
        if first is not None:
            return repeated(first, request)
        answer = await self._changing(ask, request)
        try:
            await self.store.remember_answer(request, orjson.dumps(answer))
        except Refused:
            self.world.count("answers not remembered")
        return answer

    async def _changing(self, ask: "Ask", request: Request) -> Json:
        person, args, conversation_id = ask.person, ask.args, ask.conversation_id
        match ask.cmd:
            case "monitor.start":
                return await self._start(ask, request)
            case "monitor.stop":
                return await self._run(ask, request, c.StopMonitor(person), silent=True)
            case "monitor.release":
                return await self._run(ask, request, c.ReleaseMonitor(person, "needed"), silent=True)
            case "takeover.prepare":
                return await self._prepare(ask, request)
            case "takeover.confirm":
                participant_id, hash_ = self.ids.new("prt", ORG, conversation_id), secret_hash(args["token"])
                confirm = c.ConfirmTakeover(person, ask.session, args["takeover_id"], hash_, participant_id)
                return await self._run(
                    ask,
                    request,
                    confirm,
                    answer=lambda b, e, a: {"participant_id": participant_id, "owner_epoch": a.existing.owner_epoch},
                )
            case "takeover.cancel":
                return await self._run(ask, request, c.CancelTakeover(person, args["takeover_id"]), silent=True)
            case "takeover.acknowledge":
                return await self._run(ask, request, c.AcknowledgeTakeover(person, args["takeover_id"]))
            case "wrapup.submit":
                return await self._run(ask, request, c.SubmitWrapup(person, "resolved", None))
            case _:
                raise AssertionError(ask)

    async def _run(self, ask: "Ask", request: Request, command: c.Command, **options: Any) -> Json:
        done = await self.conversations.run(ORG, ask.conversation_id, lambda _: command, request=request, **options)
        return done.answer

    async def _start(self, ask: "Ask", request: Request) -> Json:
        conversation_id, person = ask.conversation_id, ask.person
        monitor_id = self.ids.new("mon", ORG, conversation_id)

        def make(situation: Situation) -> c.StartMonitor:
            lease_end = situation.now_ms + LEASE_MS
            return c.StartMonitor(person, "available", ask.session, ask.args["participant_id"], monitor_id, lease_end)

        def answer(before: Situation, events: Sequence[e.Event], after: Situation) -> Json:
            assert after.monitor is not None
            return {"monitor_id": after.monitor.monitor_id}

        asked = self.world.loop.time()
        done = await self.conversations.run(ORG, conversation_id, make, answer=answer, request=request, silent=True)
        screen, monitor = self.screens.get(ask.session), done.after.monitor
        joined = monitor.joined(ask.session) if monitor is not None and monitor.user_id == person.user_id else None
        if screen is None or screen.closed or monitor is None or joined is None:
            return done.answer  # it sits elsewhere by now, or this repeats one that has ended since
        known = screen.monitors.get(conversation_id)
        if known is not None and known.monitor_id == monitor.monitor_id:
            return done.answer
        if known is not None:
            screen.monitor_over(conversation_id, known.monitor_id)
        # What is left of the lease, not a whole one: a repeat, or one that runs already, has extended nothing.
        left_ms = joined.lease_end - done.before.now_ms
        screen.remember(conversation_id, monitor.monitor_id, asked + (left_ms - LEASE_MS * (1 - LEASE_CERTAIN)) / 1000)
        self.spawn(screen.surely(partial(screen.begin, conversation_id)))
        return done.answer

    async def _prepare(self, ask: "Ask", request: Request) -> Json:
        takeover_id, token = self.ids.new("tko", ORG, ask.conversation_id), f"secret-{self.ids.tag()}"
        await self.store.point(takeover_id, ORG, ask.conversation_id, 0)

        def make(situation: Situation) -> c.PrepareTakeover:
            expires_at = situation.now_ms + SETTINGS.confirm_ms
            return c.PrepareTakeover(ask.person, ask.session, takeover_id, secret_hash(token), expires_at)

        def answer(before: Situation, events: Sequence[e.Event], after: Situation) -> Json:
            removed = consequences(after)["removed"]
            return {"takeover_id": takeover_id, "confirm_token": token, "removed": removed}

        done = await self.conversations.run(
            ORG, ask.conversation_id, make, answer=answer, request=request, lane="takeover", silent=True
        )
        return done.answer

    async def _hello(self, ask: "Ask") -> Json:
        """A session sits here now, with the monitors that it still has; what it is owed is told."""
        old = self.screens.get(ask.session)
        if old is not None:
            old.close()
        screen = self.screens[ask.session] = Screen(self, ask.session, ask.person, ask.args["line"])
        for conversation_id, (monitor_id, cursor) in ask.args["monitors"].items():
            asked = self.world.loop.time()
            kept = (await self.store.renew([(ORG, conversation_id, monitor_id, ask.session)], LEASE_MS))[0]
            if kept:
                screen.remember(conversation_id, monitor_id, asked + LEASE_MS / 1000 * LEASE_CERTAIN)
                self.spawn(screen.surely(partial(screen.resume, conversation_id, cursor, monitor_id)))
            else:
                data = {"monitor_id": monitor_id}
                screen.tell({"event": "monitor.ended", "conversation_id": conversation_id, "data": data})
        for conversation_id in self.world.conversations:
            conversation = (await self.conversations.load(ORG, conversation_id)).situation.conversation
            if conversation is None:
                continue
            if screen.my_part(conversation) is not None:
                self.spawn(screen.surely(partial(screen.attach, conversation_id)))
            for notice in conversation.notices:
                if notice.user_id == ask.person.user_id:
                    screen.noticed(conversation_id, notice.takeover_id)
        return {}


class Ask:
    """What somebody wants of a node: a command, and the `req` under which it may be asked again."""

    __slots__ = ("args", "cmd", "conversation_id", "person", "req", "session")

    def __init__(self, person: Person, session: str, cmd: str, conversation_id: str, req: str, args: Json) -> None:
        self.person = person
        self.session = session
        self.cmd = cmd
        self.conversation_id = conversation_id
        self.req = req
        self.args = args
