"""
Following logs: each entry once and in order, or an honest `reset`.

A log is a stream and a sharded channel of the same name. Whoever appends publishes the same entry in the same script:

    stored    b"<offset>-<tag> <previous tag> <header> <body>"; in the stream: id "<offset>-<tag>", fields h, e
    live      b"~ <header> <body>", not stored (typing)

Offsets rise by one from 1. Tags are random decimals; before the first entry stands tag 0. A header has no spaces; `-`
is an empty one. Channels lose messages without a word (a restart, a slow reader, a link that is half open), and a
server can forget what it had and grow it anew, so three things keep a follower honest:

    the law      an entry fits if it has the next offset and names our tag as the one before. What we know already is
                 ignored. Anything else makes us hold the log's entries and repair it
    repair       read the stream from our own position, that entry included: if it isn't there with our tag, the history
                 is another one, and the log is reset; else deliver what we miss, then what was held
    comparing    ask for top and tag of each log every `compare_s`, and whenever a subscription was confirmed. Then a
                 PING goes through the subscription: what was published before we asked arrives before its answer, so
                 who is still behind then has lost something

Each primary has one subscription connection with a beat of ours through it; two beats unanswered and it is made anew.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, cast

import hiredis

from hub.store.connection import (
    Endpoint,
    ReplyError,
    Unavailable,
    backoff_s,
    command,
    open_link,
)
from hub.store.keys import slot
from hub.store.topology import Primaries

_logger = logging.getLogger(__name__)

COMPARED_AT_ONCE: Final = 50  # a millisecond's work
REPAIRED_AT_ONCE: Final = 50
ENTRIES_AT_ONCE: Final = 200
SUBSCRIBED_AT_ONCE: Final = 500
HELD_MAX: Final = 5_000  # entries held per log; past it they are dropped: the stream has them
FRUITLESS_MAX: Final = 3  # repairs that found nothing, though the channel had more than the stream
BEATS_MISSED_MAX: Final = 2
OFFSET_DIGITS_MAX: Final = 19  # a stream's id has 64 bits

# What a log is doing.
APART, WAITING, LIVE, REPAIRING = range(4)

Entry = tuple[int, bytes, bytes, bytes, bytes]  # offset (0: live), tag, previous tag, header, body


class Log:
    """
    One followed log; override the methods below. They are called from the reader: be quick, and don't raise.

    `name` is the stream's key and the channel; `top_key` a hash of the same slot with fields `top` and `tag`. `offset`
    and `tag` are the position: that of the last entry delivered.
    """

    def __init__(self, name: bytes, top_key: bytes) -> None:
        self.name = name
        self.top_key = top_key
        self.offset = 0
        self.tag = b"0"
        self._doing = APART
        self._held: list[Entry] = []
        self._lossy = False  # something may be missing that nothing held will show
        self._known_to = 0  # the channel may still repeat what was read elsewhere, up to this offset
        self._fruitless = 0

    def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        """Take a stored entry: each exactly once, in order."""
        raise NotImplementedError

    def live(self, header: bytes, body: bytes) -> None:
        """Take an entry that isn't stored: at most once."""

    def reset(self, reason: str) -> None:
        """Position and history don't fit, or a handler failed: this isn't followed any more. `reason`: for people."""
        raise NotImplementedError


class Follower:
    """
    Follows any number of logs on all primaries of `primaries`; belongs to the running loop.

    `beat_s`: seconds between two beats through each subscription; `compare_s`: seconds between two comparisons;
    `on_turn` is called after everything that one socket read brought has been delivered; `lane` is used for reading
    streams and tops.
    """

    def __init__(
        self,
        primaries: Primaries,
        *,
        beat_s: float = 1.0,
        compare_s: float = 10.0,
        on_turn: Callable[[], None] | None = None,
        lane: str = "commit",
    ) -> None:
        assert lane in primaries.lane_names, lane
        self.primaries = primaries
        self.beat_s = beat_s
        self.compare_s = compare_s
        self.lane = lane
        self.repaired = 0  # entries that came by repair, for metrics
        self.resets = 0
        self._on_turn = on_turn or (lambda: None)
        self._logs: dict[bytes, Log] = {}
        self._channels: dict[bytes, Callable[[bytes], None]] = {}
        self._feeds: dict[Endpoint, _Feed] = {}
        self._homes: dict[bytes, _Feed] = {}  # name -> the feed that it is subscribed on
        self._closed = False
        primaries.on_change(self._move)

    # -- for callers ---------------------------------------------------------------------------------------------

    async def subscribe(self, log: Log) -> None:
        """
        Subscribe; returns when the server has confirmed it. Entries are held from then on, until `start`.

        Safe to cancel: then nothing is subscribed. Raises Unavailable where it isn't confirmed in three beats.
        """
        assert log.name not in self._homes, "one log per name"
        log._doing, log._held, log._lossy = WAITING, [], False
        self._logs[log.name] = log
        try:
            await self._confirmed(log.name)
        except BaseException:
            self.unsubscribe(log)
            raise

    def start(self, log: Log, offset: int, tag: bytes) -> None:
        """
        Deliver from (`offset`, `tag`) on, the position of a snapshot that was read after `subscribe`; (0, b"0") is
        before all.

        What is held and newer is delivered before this returns, unless something is missing: then it is read first.
        """
        if self._logs.get(log.name) is not log or log._doing != WAITING:
            return  # it was reset or given up while the snapshot was read
        log.offset, log.tag, log._known_to = offset, tag, offset
        log._doing = LIVE
        if self._drain(log):
            self._turn()

    def unsubscribe(self, log: Log) -> None:
        """Deliver nothing more from now on. Idempotent."""
        if self._logs.get(log.name) is log:
            del self._logs[log.name]
            self._leave(log.name)
        log._doing, log._held = APART, []

    def channel(self, name: bytes, callback: Callable[[bytes], None]) -> asyncio.Task[None]:
        """Have `callback` called with each payload of a channel without a log; done when confirmed, awaited or not."""
        assert name not in self._homes, "one callback per name"
        self._channels[name] = callback
        task = asyncio.get_running_loop().create_task(self._channel(name, callback))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())  # who doesn't await it need not look
        return task

    def drop_channel(self, name: bytes) -> None:
        """Undo `channel`. Idempotent."""
        if self._channels.pop(name, None) is not None:
            self._leave(name)

    @property
    def healthy(self) -> bool:
        """True while every subscription is confirmed, its connection beats, and no repair is failing."""
        return not self._closed and all(feed.healthy for feed in self._feeds.values())

    def lag(self) -> float:
        """Seconds since the most silent of the connections was last heard; 0.0 where there is none."""
        return max((feed.silence_s for feed in self._feeds.values()), default=0.0)

    async def aclose(self) -> None:
        """Close all connections; nothing is delivered any more. Idempotent."""
        self._closed = True
        for log in self._logs.values():
            log._doing = APART
        self._logs.clear()
        self._channels.clear()
        self._homes.clear()
        await asyncio.gather(*[feed.aclose() for feed in self._feeds.values()])
        self._feeds.clear()

    # -- subscriptions and where they are --------------------------------------------------------------------------

    async def _channel(self, name: bytes, callback: Callable[[bytes], None]) -> None:
        if self._channels.get(name) is not callback:
            raise Unavailable("given up")  # before this ran: subscribing now would be undone by nobody
        await self._confirmed(name)

    async def _confirmed(self, name: bytes) -> None:
        feed = self._home(name)
        bound_s = 3 * self.beat_s + self.primaries.limits.connect_wait_s
        try:
            async with asyncio.timeout(bound_s):
                await feed.join(name)
        except TimeoutError:
            raise Unavailable(f"subscription not confirmed in {bound_s:.1f} s") from None

    def _home(self, name: bytes) -> "_Feed":
        """The feed where `name` belongs by the map; from now on it is its home."""
        endpoint = self.primaries.primary_of(name)
        feed = self._feeds.get(endpoint)
        if feed is None:
            feed = self._feeds[endpoint] = _Feed(self, endpoint)
        self._homes[name] = feed
        return feed

    def _leave(self, name: bytes) -> None:
        feed = self._homes.pop(name, None)
        if feed is not None:
            feed.leave(name)

    def _move(self) -> None:
        """The map changed: subscribe where slots are now."""
        for name, feed in list(self._homes.items()):
            if self.primaries.primary_of(name) != feed.endpoint:
                self._home(name).adopt(name, feed)
        for endpoint in self._feeds.keys() - set(self.primaries.primaries()):
            self._feeds.pop(endpoint).retire()

    # -- delivery -----------------------------------------------------------------------------------------------------

    def _message(self, name: bytes, payload: bytes) -> None:
        """One published payload; the hot path."""
        log = self._logs.get(name)
        if log is None:
            callback = self._channels.get(name)
            if callback is not None:
                self._call_back(name, callback, payload)
            return
        entry = _parse(payload)
        if entry is None:
            _logger.error("log %r: a payload that is none of ours", name)
            self._repair(log)  # the stream is the truth
        elif log._doing != LIVE:
            self._hold(log, entry)
        elif not self._take(log, entry):
            log._held.append(entry)
            self._repair(log)

    def _take(self, log: Log, entry: Entry) -> bool:
        """Deliver `entry`, or ignore it where it is known; False where it doesn't fit."""
        offset, tag, before, header, body = entry
        if offset == log.offset + 1 and before == log.tag:
            log.offset, log.tag = offset, tag
            if offset > log._known_to:
                log._known_to = 0  # the channel has overtaken what was read: from here on nothing is repeated
            self._deliver(log, offset, tag, header, body)
            return True
        if offset == 0:
            self._deliver(log, offset, tag, header, body)
            return True
        return offset <= log._known_to and (offset < log.offset or tag == log.tag)

    def _deliver(self, log: Log, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
        try:
            if offset:
                log.entry(offset, tag, header, body)
            else:
                log.live(header, body)
        except Exception:
            _logger.exception("log %r: its handler failed at offset %d", log.name, log.offset)
            self._reset(log, "the handler failed")

    def _call_back(self, name: bytes, callback: Callable[[bytes], None], payload: bytes) -> None:
        try:
            callback(payload)
        except Exception:
            _logger.exception("channel %r: its callback failed", name)

    def _turn(self) -> None:
        try:
            self._on_turn()
        except Exception:
            _logger.exception("the end of a turn failed")

    def _hold(self, log: Log, entry: Entry) -> None:
        if len(log._held) >= HELD_MAX:
            log._held.clear()
            log._lossy = True
        log._held.append(entry)

    def _drain(self, log: Log) -> bool:
        """Go through what is held; True where anything was delivered. What doesn't fit starts a repair."""
        held, log._held = log._held, []
        position, live = log.offset, False
        for i, entry in enumerate(held):
            if not self._take(log, entry):
                log._held = held[i:]
                self._repair(log)
                break
            live = live or entry[0] == 0
            if log._doing != LIVE:
                break  # its handler failed, or gave it up
        if log._doing == LIVE and log._lossy:
            self._repair(log)
        return live or log.offset != position

    def _repair(self, log: Log) -> None:
        if log._doing == LIVE:
            log._doing, log._lossy = REPAIRING, False
            self._homes[log.name].mend(log)
        else:
            log._lossy = True

    def _mend(self, log: Log, entries: list[Any], full: bool) -> None:
        """Deliver what a repair read from `log`'s own position on; `full`: there may be more."""
        position = log.offset
        if position:
            if not entries or entries[0][0] != b"%d-%b" % (position, log.tag):
                self._reset(log, "its history is another one")
                return
            entries = entries[1:]
        for where, fields in entries:
            number, _, tag = where.partition(b"-")
            if int(number) != log.offset + 1:
                self._reset(log, "its history has a gap")
                return
            log.offset, log.tag = log.offset + 1, tag
            self.repaired += 1
            self._deliver(log, log.offset, tag, *_fields(fields))
            if log._doing != REPAIRING:
                return
        log._known_to = log.offset
        if full:
            self._homes[log.name].mend(log)
            return
        log._doing = LIVE
        self._drain(log)
        log._fruitless = log._fruitless + 1 if log.offset == position and log._held else 0
        if log._fruitless >= FRUITLESS_MAX:
            self._reset(log, "its channel has what its stream has not")

    def _reset(self, log: Log, reason: str) -> None:
        self.resets += 1
        self.unsubscribe(log)
        try:
            log.reset(reason)
        except Exception:
            _logger.exception("log %r: its reset failed", log.name)


class _Subscription(asyncio.Protocol):
    """The bytes of one subscription connection."""

    def __init__(self, feed: "_Feed") -> None:
        self.feed = feed
        self.reader = hiredis.Reader(replyError=ReplyError)
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.since = self.loop.time()
        self.heard = self.since
        self.unanswered = 0  # beats since anything was heard
        self.greeting: deque[asyncio.Future[Any]] = deque()
        self.fences: dict[bytes, asyncio.Future[None]] = {}
        self.subscribing: dict[bytes, int] = {}  # SSUBSCRIBEs sent and not answered, by name
        self.unsubscribing: dict[bytes, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        self.unanswered = 0
        follower, delivered, confirmed = self.feed.follower, False, []
        gets, message = self.reader.gets, follower._message
        try:
            self.reader.feed(data)
            while (answer := gets()) is not False:
                if answer.__class__ is list and answer[0] == b"smessage":
                    message(answer[1], answer[2])
                    delivered = True
                elif answer.__class__ is list and answer[0] == b"ssubscribe":
                    if self._answered(self.subscribing, answer[1]):
                        confirmed.append(answer[1])
                else:
                    self._told(answer)
        except (hiredis.HiredisError, IndexError) as error:
            _logger.error("store %s answered out of protocol: %s", self.feed.endpoint, error)
            self.abort()
        if delivered:
            follower._turn()
        if confirmed:
            self.feed.confirmed(self, confirmed)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (*self.greeting, *self.fences.values()):
            if not future.done():
                future.set_exception(Unavailable("connection lost"))
        if not self.lost.done():
            self.lost.set_result(None)
        self.feed.lost(self)

    async def greet(self, wires: list[bytes]) -> None:
        """Log in. Raises ReplyError, Unavailable."""
        self.greeting.extend(self.loop.create_future() for _ in wires)
        futures = list(self.greeting)
        self.write(*wires)
        for answer in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    def subscribe(self, names: Iterable[bytes], clustered: bool) -> None:
        """Ask for `names`."""
        self._ask(b"SSUBSCRIBE", names, clustered, self.subscribing)

    def unsubscribe(self, names: Iterable[bytes], clustered: bool) -> None:
        """Give `names` up."""
        self._ask(b"SUNSUBSCRIBE", names, clustered, self.unsubscribing)

    async def fence(self) -> None:
        """Returns when everything that was published before now has been delivered. Raises Unavailable."""
        if self.lost.done():
            raise Unavailable("connection lost")  # nothing would come back any more
        mark = b"f%d" % id(future := self.loop.create_future())
        self.fences[mark] = future
        try:
            self.write(command(b"PING", mark))
            await future
        finally:
            del self.fences[mark]

    def beat(self) -> None:
        """Look whether the last beats came back, and send the next."""
        if self.unanswered >= BEATS_MISSED_MAX:
            _logger.warning("store %s: the subscription is silent", self.feed.endpoint)
            self.abort()
        else:
            self.unanswered += 1
            self.write(command(b"PING", b"b"))

    def write(self, *wires: bytes) -> None:
        """Send at once."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(wires))

    def abort(self) -> None:
        """Drop the connection now."""
        if self.transport is not None:
            self.transport.abort()

    def _ask(self, verb: bytes, names: Iterable[bytes], clustered: bool, counts: dict[bytes, int]) -> None:
        wires = []
        for group in _groups(names, clustered):
            wires.append(command(verb, *group))
            for name in group:
                counts[name] = counts.get(name, 0) + 1
        if wires:
            self.write(*wires)

    def _answered(self, counts: dict[bytes, int], name: bytes) -> bool:
        """Count an answer; True where it is the last one expected. An earlier one may be older than our last word."""
        left = counts.get(name, 0) - 1
        if left > 0:
            counts[name] = left
            return False
        counts.pop(name, None)
        return True

    def _told(self, answer: Any) -> None:
        """Anything but a message and a confirmation."""
        if isinstance(answer, list):
            kind, what = answer[0], answer[1]
            if kind == b"pong":
                self._pong(what)
            elif kind == b"sunsubscribe":
                if self.unsubscribing.get(what):
                    self._answered(self.unsubscribing, what)
                elif what in self.feed.names:
                    self.feed.turned_away(self, "the slot moved")
        elif self.greeting:
            future = self.greeting.popleft()
            if not future.done():
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        elif isinstance(answer, Exception):
            self.feed.turned_away(self, str(answer))
        else:
            self._pong(answer)  # without any subscription the answer to PING is a plain one

    def _pong(self, mark: bytes) -> None:
        future = self.fences.get(mark)
        if future is not None and not future.done():
            future.set_result(None)


class _Feed:
    """The subscriptions on one primary: what is wanted, the connection that has it, and the repairs of its logs."""

    def __init__(self, follower: Follower, endpoint: Endpoint) -> None:
        self.follower = follower
        self.endpoint = endpoint
        self.names: dict[bytes, list[asyncio.Future[None]]] = {}  # wanted -> who waits for the confirmation
        self._loop = asyncio.get_running_loop()
        self._link: _Subscription | None = None
        self._fresh: dict[bytes, None] = {}  # wanted and not asked for yet
        self._stale: set[bytes] = set()  # lost, and not confirmed and compared since
        self._broken: dict[Log, None] = {}  # to be repaired, in order
        self._unsure: dict[Log, None] = {}  # to be compared
        self._failing = False  # the last repair was not answered
        self._work = asyncio.Event()
        self._heard = self._loop.time()
        self._tasks = [
            self._loop.create_task(run()) for run in (self._stay_connected, self._beat, self._look, self._labour)
        ]

    # -- what is wanted ------------------------------------------------------------------------------------------------

    def want(self, name: bytes) -> None:
        """Subscribe `name` in this turn of the loop, or with the next connection."""
        if name not in self.names:
            self.names[name] = []
            if not self._fresh:
                self._loop.call_soon(self._ask)
            self._fresh[name] = None

    async def join(self, name: bytes) -> None:
        """Subscribe `name`; returns when confirmed."""
        self.want(name)
        future: asyncio.Future[None] = self._loop.create_future()
        self.names[name].append(future)
        await future

    def leave(self, name: bytes) -> None:
        """Give `name` up."""
        for future in self.names.pop(name, ()):
            if not future.done():
                future.set_exception(Unavailable("given up"))
        self._stale.discard(name)
        if self._fresh.pop(name, self) is self and self._link is not None:
            self._link.unsubscribe([name], self._clustered)

    def adopt(self, name: bytes, other: "_Feed") -> None:
        """Take `name` over from `other`, with those who wait for it."""
        waiting, other.names[name] = other.names[name], []
        other.leave(name)
        self.want(name)
        self.names[name] += waiting

    def mend(self, log: Log) -> None:
        """Have `log` repaired."""
        self._broken[log] = None
        self._work.set()

    @property
    def healthy(self) -> bool:
        """See `Follower.healthy`."""
        return (
            self._link is not None
            and not self._stale
            and not self._failing
            and self._link.unanswered < BEATS_MISSED_MAX
        )

    @property
    def silence_s(self) -> float:
        """Seconds since the server was last heard."""
        return self._loop.time() - (self._link.heard if self._link else self._heard)

    def retire(self) -> None:
        """The primary has gone: stop; what was to be looked at goes with its name to where that lives now."""
        for task in self._tasks:
            task.cancel()
        if self._link is not None:
            self._link.abort()
        for log in self._broken:
            if log._doing == REPAIRING:
                self.follower._homes[log.name].mend(log)

    async def aclose(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        if self._link is not None:
            self._link.abort()
        for name in list(self.names):
            self.leave(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what the connection tells
    # ---------------------------------------------------------------------------------------

    def confirmed(self, link: _Subscription, names: list[bytes]) -> None:
        """`names` are subscribed: what was published until now may be lost."""
        if link is not self._link:
            return
        for name in names:
            futures = self.names.get(name)
            if futures is None:
                continue  # given up since
            log = self.follower._logs.get(name)
            if log is None or (log._doing == WAITING and futures):
                self._stale.discard(name)  # nothing was known before
            elif log._doing == LIVE:
                self._unsure[log] = None
                self._work.set()
            else:
                log._lossy = True  # its repair, or the one that follows its start, may have read before this moment
                self._stale.discard(name)
            for future in futures:
                if not future.done():
                    future.set_result(None)
            futures.clear()

    def turned_away(self, link: _Subscription, why: str) -> None:
        """The server doesn't have one of our channels: look who has, and begin anew."""
        _logger.info("store %s gave up a subscription: %s", self.endpoint, why)
        self.follower.primaries.refresh()
        link.abort()

    def lost(self, link: _Subscription) -> None:
        """The connection has gone, and whatever was published since with it."""
        if link is self._link:
            self._link = None
            self._heard = link.heard
            self._stale = {name for name, futures in self.names.items() if not futures}

    # -- the four tasks ------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                link = await self._connect()
            except Exception as error:  # whatever it was: try again, and say why
                if attempt == 0:
                    _logger.warning("no subscription to store %s: %s", self.endpoint, error)
                self.follower.primaries.refresh()
            else:
                await link.lost
                if self._loop.time() - link.since > 1.0:
                    attempt = 0
            await asyncio.sleep(backoff_s(attempt))
            attempt += 1

    async def _connect(self) -> _Subscription:
        login = self.follower.primaries.address.login
        async with asyncio.timeout(self.follower.primaries.limits.timeout_s):
            link = await open_link(self.endpoint, login, lambda: _Subscription(self))
            try:
                await link.greet(login.greeting("hub-follow"))
            except BaseException:
                link.abort()
                raise
        if link.lost.done():
            raise Unavailable("connection lost at once")
        self._link = link
        self._fresh.clear()
        link.subscribe(self.names, self._clustered)
        return link

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.follower.beat_s)
            if self._link is not None:
                self._link.beat()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self.follower.compare_s)
            logs = self.follower._logs
            self._unsure.update(dict.fromkeys(log for name in self.names if (log := logs.get(name))))
            self._work.set()

    async def _labour(self) -> None:
        attempt = 0
        while True:
            await self._work.wait()
            self._work.clear()
            while self._broken or self._unsure:
                try:
                    done = await (self._mend_some() if self._broken else self._compare_some())
                except Exception:
                    _logger.exception("repairing logs failed")
                    done = False
                self._failing = not done
                attempt = 0 if done else attempt + 1
                if not done:
                    await asyncio.sleep(backoff_s(attempt))

    # -- comparing and repairing
    # -----------------------------------------------------------------------------------------

    async def _compare_some(self) -> bool:
        """Compare some logs' tops with the store's; False where it didn't answer."""
        logs = [log for log in islice(_emptied(self._unsure), COMPARED_AT_ONCE) if log._doing == LIVE]
        had = [log.offset for log in logs]
        primaries, link = self.follower.primaries, self._link
        if link is None:
            return True  # compared when it is back
        tops = await primaries.many(
            self.follower.lane, [(log.top_key, (b"HMGET", log.top_key, b"top", b"tag")) for log in logs]
        )
        try:
            await link.fence()
        except Unavailable:
            return True
        done = True
        for log, before, top in zip(logs, had, tops, strict=True):
            if log._doing != LIVE or self.follower._homes.get(log.name) is not self:
                continue
            if isinstance(top, ReplyError):
                _logger.error("log %r: its top can't be read: %s", log.name, top)
                continue
            if isinstance(top, BaseException):
                self._unsure[log] = None
                done = False
                continue
            self._stale.discard(log.name)
            if _differs(log, before, top):
                self.follower._repair(log)
        return done

    async def _mend_some(self) -> bool:
        """Read what some logs miss; False where the store didn't answer."""
        logs = [log for log in islice(_emptied(self._broken), REPAIRED_AT_ONCE) if log._doing == REPAIRING]
        had = [(log.offset, log.tag) for log in logs]
        pages = await self.follower.primaries.many(
            self.follower.lane,
            [
                (log.name, (b"XRANGE", log.name, b"%d-%b" % position, b"+", b"COUNT", b"%d" % (ENTRIES_AT_ONCE + 1)))
                for log, position in zip(logs, had, strict=True)
            ],
        )
        done = True
        for log, position, page in zip(logs, had, pages, strict=True):
            if log._doing != REPAIRING or (log.offset, log.tag) != position:
                continue  # given up since, and perhaps followed anew
            if isinstance(page, ReplyError):
                self.follower._reset(log, f"its stream can't be read: {page}")
                continue
            if isinstance(page, BaseException):
                self._broken[log] = None
                done = False
                continue
            self._stale.discard(log.name)
            try:
                self.follower._mend(log, page, len(page) > ENTRIES_AT_ONCE)
            except (ValueError, KeyError):
                _logger.exception("log %r: its stream holds what is none of ours", log.name)
                self.follower._reset(log, "its stream is unreadable")
        self.follower._turn()
        return done

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _clustered(self) -> bool:
        return self.follower.primaries.clustered

    def _ask(self) -> None:
        names, self._fresh = self._fresh, {}
        if self._link is None:
            return  # the next connection asks for all
        self._link.subscribe(names, self._clustered)


def _differs(log: Log, before: int, top: list[bytes | None]) -> bool:
    """True where the top shows that something is missing, or another history; `before`: our offset before asking."""
    offset, tag = int(top[0] or 0), top[1] or b"0"
    return log.offset < offset or before > offset or (log.offset == offset and log.tag != tag)


def _parse(payload: bytes) -> Entry | None:
    """Entry of a published payload; None where it is none."""
    parts = payload.split(b" ", 3)
    if len(parts) == 4 and parts[0] != b"~":
        position, before, header, body = parts
        offset, dash, tag = position.partition(b"-")
        if not dash or not offset.isdigit() or offset == b"0" or len(offset) > OFFSET_DIGITS_MAX:
            return None
        return int(offset), tag, before, header, body
    parts = payload.split(b" ", 2)
    return (0, b"", b"", parts[1], parts[2]) if len(parts) == 3 and parts[0] == b"~" else None


def _fields(fields: list[bytes]) -> tuple[bytes, bytes]:
    """Header and body of a stream's entry."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return values.get(b"h", b"-"), values[b"e"]


def _groups(names: Iterable[bytes], clustered: bool) -> Iterator[list[bytes]]:
    """`names` as commands may have them: bounded, and on a Cluster of one slot each."""
    by_slot: dict[int, list[bytes]] = {}
    for name in names:
        by_slot.setdefault(slot(name) if clustered else 0, []).append(name)
    for group in by_slot.values():
        for i in range(0, len(group), SUBSCRIBED_AT_ONCE):
            yield group[i : i + SUBSCRIBED_AT_ONCE]


def _emptied(queue: dict[Log, None]) -> Iterator[Log]:
    """Take logs out of `queue`, oldest first."""
    while queue:
        log = next(iter(queue))
        del queue[log]
        yield log
