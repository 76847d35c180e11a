"""
Delivery to providers that have no socket here: for each connector of the configuration, every node claims what is due,
has the connector's adapter send it, and writes down what became of it.

    store.take ──► adapter.send ──► Sent     receipt `sent`; the conversation's next action is due
     (claim)       (time-out)       Later    due again after a backoff, shared by all nodes
                                    Failed   receipt `failed`, dead letter; the next action is due

One action of a conversation is under way at a time, on any node: a claim lasts longer than a call may (`outbound_claim_ms`
above `outbound_timeout_ms`), and an action that was claimed too long ago isn't begun. Whoever claims a try counts it in
the store first, so that neither restarts nor other nodes begin again. Conversations don't wait for each other: up to
`outbound_parallel` of a connector's are under way on a node.

An action that is given up goes three steps, each noted in the store before the next: given up (`doom`), told (receipt),
taken out (`bury`). A node that ends in between leaves it to the next one to go on, without another try.

What remains: where a node ends, or the store goes away, after a provider took a message and before that was written, the
message is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import orjson

from hub.channels.attempts import Breaker, Done, GiveUp, Limits, Wait, given_up_before, step_after
from hub.channels.port import Action, Answer, BadOption, Caller, Channel, Later, Maker, Outcome, Place, Unreachable
from hub.domain.errors import Refused
from hub.service.files import Files
from hub.service.messaging import Messaging
from hub.settings import Settings, SettingsError
from hub.store.keys import partition
from hub.store.outbound import DeadLetter, Outbound, StoreNotes, Taken

if TYPE_CHECKING:
    from hub.fanout.node import Node

log = logging.getLogger(__name__)

# Every adapter by its name in the configuration; a module is imported only where a connector names it.
ADAPTERS: Final[Mapping[str, str]] = {
    "open": "hub.channels.open",
    "sms": "hub.channels.sms",
    "chatwoot": "hub.channels.chatwoot",
}
ROUTE: Final = "/v1/channels/"
MESSAGE: Final = "outbound.message"
STATUSES: Final = frozenset({"sent", "delivered", "read"})

LOOK_S: Final = 1.0  # between two looks for what is due without anybody having said so
FIGURES_S: Final = 5.0  # between two counts of what waits and of dead letters
STOP_S: Final = 2.0  # what is under way when the node stops has so long to end
WRITE_AGAIN_S: Final = 0.5  # between two attempts to write down what became of an action while the store is away
ENDPOINTS_MAX: Final = 256  # breakers kept of one connector


# -- what the configuration names ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configured:
    """One connector of the configuration with its channel."""

    place: Place
    adapter: str
    channel: Channel
    allowed: tuple[str, ...] = ()


def make_channels(settings: Settings) -> dict[str, Configured]:
    """
    The channel of each configured connector, by the connector's id.

    Raises:
        SettingsError: An adapter that doesn't exist, or an option that it can't work with; with file and line.
    """
    made = {}
    for name, one in settings.connectors.items():
        url = f"{settings.public_url}{ROUTE}{name}" if settings.public_url else ""
        place = Place(org=one.org, connector=name, url=url)
        at = settings.source(f"connectors.{name}")
        try:
            channel = _maker(one.adapter, at)(one.options, place)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{at}: the adapter {one.adapter!r} needs {error.name}, which isn't installed"
            ) from None
        except BadOption as error:
            key = f"connectors.{name}.{error.key}"
            where = settings.sources.get(key, at)
            raise SettingsError(f"{where}: [connectors.{name}] {error}") from None
        made[name] = Configured(place, one.adapter, channel, one.allow_private)
    return made


def _maker(adapter: str, at: str) -> Maker:
    """
    What makes the channels of an adapter: one of the hub's own by its name, any other as `module:function`.

    Raises:
        SettingsError: It is neither, or there is no such function; `at` says where it stands.
        ModuleNotFoundError: There is no such module, or one that it needs is missing.
    """
    module, _, function = ADAPTERS.get(adapter, adapter).partition(":")
    if adapter not in ADAPTERS and not function:
        named = ", ".join(sorted(ADAPTERS))
        raise SettingsError(f"{at}: `adapter` is {adapter!r}; allowed: {named}, or module:function")
    made: Maker | None = getattr(import_module(module), function or "make", None)
    if made is None:
        raise SettingsError(f"{at}: `adapter` is {adapter!r}, but {module} has no {function}")
    return made


# -- calls, and endpoints that are left alone ------------------------------------------------------------------------------


class Endpoints:
    """The breakers of one connector on this node, by scheme, host and port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breakers: dict[str, Breaker] = {}

    def wait_ms(self, origin: str) -> int:
        """0 where it may be called, else how long to leave it alone."""
        return self._of(origin).wait_ms(_now_ms(), self._settings.breaker_ms)

    def asked(self, origin: str) -> None:
        """It is called."""
        if origin not in self._breakers and len(self._breakers) >= ENDPOINTS_MAX:
            del self._breakers[next(iter(self._breakers))]
        self._breakers[origin] = self._of(origin).asked()

    def answered(self, origin: str, *, well: bool) -> None:
        """It has answered `well`, or not (at all)."""
        before = self._of(origin)
        after = before.answered(
            well=well,
            now_ms=_now_ms(),
            failures_max=self._settings.breaker_failures,
            open_ms=self._settings.breaker_ms,
        )
        self._breakers[origin] = after
        if (before.open_until_ms is None) != (after.open_until_ms is None):
            log.warning("the endpoint %s is %s", origin, "reached again" if well else "left alone for a while")

    @property
    def open(self) -> int:
        """How many are left alone now."""
        return sum(one.open_until_ms is not None for one in self._breakers.values())

    def _of(self, origin: str) -> Breaker:
        return self._breakers.get(origin, Breaker())


class Guarded:
    """The `Caller` of one try; `paused_ms` says afterwards how long an endpoint is left alone that it wanted to call."""

    def __init__(self, caller: Caller, endpoints: Endpoints) -> None:
        self._caller = caller
        self._endpoints = endpoints
        self.paused_ms: int | None = None

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """See the port; an endpoint that failed too often in a row isn't called for a while."""
        from hub.channels.outward import origin_of

        origin = origin_of(url)
        wait_ms = self._endpoints.wait_ms(origin)
        if wait_ms:
            self.paused_ms = wait_ms
            raise Unreachable("the provider is left alone for a while")
        self._endpoints.asked(origin)
        well = False
        try:
            answer = await self._caller.call(method, url, headers=headers, body=body)
            well = answer.status < 500
            return answer
        finally:  # also where this was cancelled: it took too long
            self._endpoints.answered(origin, well=well)


# -- one connector ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What one connector's deliveries came to on this node since its start; then how many wait in the store, and are dead."""

    sent: int = 0
    retried: int = 0
    failed: int = 0
    waiting: int = 0
    dead: int = 0


class Courier:
    """Delivers for one connector on this node."""

    def __init__(
        self, node: Node, messaging: Messaging, outbound: Outbound, configured: Configured, files: Files
    ) -> None:
        from hub.channels.outward import (
            Outward,  # a quarter of a hub's start, and most hubs have no connector that calls out
        )

        settings = node.settings
        self.configured = configured
        self.endpoints = Endpoints(settings)
        self.tally = Tally()
        self.notes = StoreNotes(node.store, configured.place.org, configured.place.connector)
        self._node = node
        self._settings = settings
        self._messaging = messaging
        self._files = files
        self._outbound = outbound
        self._outward = Outward(
            timeout_ms=settings.outbound_timeout_ms,
            answer_bytes_max=settings.outbound_answer_bytes_max,
            allowed=configured.allowed,
        )
        self._limits = Limits(
            settings.outbound_tries_max,
            settings.outbound_age_max_ms,
            settings.outbound_backoff_ms,
            settings.outbound_backoff_max_ms,
        )
        self._chance = random.SystemRandom().random
        self._wanted: set[int] = set()
        self._last = -1  # the partition that was looked at last
        self._wake = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], Taken] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._channels: list[bytes] = []
        self._loops: list[asyncio.Task[None]] = []

    @property
    def _key(self) -> tuple[str, str]:
        return self.configured.place.org, self.configured.place.connector

    def start(self) -> None:
        """Begin: what waits already, then whatever becomes due."""
        org, connector = self._key
        for p in self._node.store.partitions():
            name = b"%bwake:%b/%b" % (self._node.store.keys.base(p), org.encode(), connector.encode())
            self._channels.append(name)
            self._node.follower.channel(name, partial(self._woken, p))
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._count())]

    async def stop(self) -> None:
        """Begin nothing more; what is under way ends, or is left to the other nodes at once. Idempotent."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for name in self._channels:
            self._node.follower.drop_channel(name)
        for timer in self._timers.values():
            timer.cancel()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=STOP_S)
            left = [self._under_way[task] for task in late]
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for one in left:
                with contextlib.suppress(Refused):
                    await self._outbound.later(one, 0, "the node that sent it was stopped")
        await self._outward.aclose()

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _woken(self, p: int, _payload: bytes) -> None:
        self._want(p)

    def _want(self, p: int) -> None:
        self._wanted.add(p)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                self._wanted.update(await self._outbound.ready(*self._key, self._node.store_clock_ms()))
                await self._look_until_quiet()
            except Refused as refused:
                log.warning("looking for what to send: %s", refused.code)
                await asyncio.sleep(LOOK_S)
            except Exception:
                log.exception("looking for what to send failed")  # and would end this task for good
                await asyncio.sleep(LOOK_S)

    async def _look_until_quiet(self) -> None:
        """Whatever is wanted, while we are told of more at least every `LOOK_S`."""
        ends = time.monotonic() + LOOK_S
        while (left := ends - time.monotonic()) > 0:
            self._wake.clear()
            await self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)

    async def _look(self) -> None:
        """Claim and begin what there is room for."""
        for p in in_turn(self._wanted, self._last):
            room = self._settings.outbound_parallel - len(self._under_way)
            if room <= 0:
                return  # whatever ends looks again
            self._wanted.discard(p)
            self._last = p
            asked_at = time.monotonic()
            taken = await self._outbound.take(p, *self._key, self._claim(), room)
            if len(taken) == room:
                self._wanted.add(p)
            for one in taken:
                task = asyncio.create_task(self._deliver(one, asked_at))
                self._under_way[task] = one
                task.add_done_callback(partial(self._ended, p))

    def _claim(self) -> str:
        return f"{self._node.node_id}.{random.getrandbits(64):x}"

    def _ended(self, p: int, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery failed: %s at %s", type(error).__name__, place_of(error))
        self._want(p)

    # -- one action ------------------------------------------------------------------------------------------------------

    async def _deliver(self, one: Taken, asked_at: float) -> None:
        """From a claim to what is written down."""
        settings = self._settings
        action = await self._action(one)
        if action is None:  # the conversation was erased
            return
        age_ms = one.now_ms - (action.at if one.back_at is None else one.back_at)
        why = one.doom or given_up_before(tries=one.tries, age_ms=age_ms, why=one.why, limits=self._limits)
        if why:
            await self._give_up(one, action, why)
            return
        if (time.monotonic() - asked_at) * 1000 + settings.outbound_timeout_ms >= settings.outbound_claim_ms:
            return  # this node stood still: the claim might end before the call does; it is due again then
        guarded = Guarded(self._outward, self.endpoints)
        outcome = await self._send(action, guarded)
        step = step_after(
            outcome,
            tries=one.tries,
            age_ms=age_ms,
            paused_ms=guarded.paused_ms,
            limits=self._limits,
            chance=self._chance,
        )
        match step:
            case Done(status=status):
                await self._done(one, action, status if status in STATUSES else "sent")
            case Wait():
                await self._later(one, step)
            case GiveUp(reason=reason):
                await self._give_up(one, action, reason)

    async def _action(self, one: Taken) -> Action | None:
        """The action as an adapter gets it, or None where its conversation is no more."""
        loaded = await self._node.conversations.load(one.org, one.conversation_id)
        conversation = loaded.situation.conversation
        if conversation is None:
            return None
        event = orjson.loads(one.event)
        return Action(
            id=one.id,
            type=event["event"],
            org=one.org,
            conversation_id=one.conversation_id,
            customer_id=conversation.customer_id,
            at=event["at"],
            attempt=one.tries,
            data=event["data"],
            links=await self._links(event["data"], one.back_at or event["at"]),
        )

    async def _links(self, data: Mapping[str, Any], at: int) -> dict[str, str]:
        """What opens those of a message's attachments that lie here; by the message's time, so the same in every try."""
        links = {}
        for url in [one["url"] for one in data.get("attachments") or ()] if self._settings.public_url else ():
            opened = await self._files.opened(url, at + self._settings.outbound_file_ms)
            if opened is not None:
                links[url] = self._settings.public_url + opened
        return links

    async def _send(self, action: Action, caller: Caller) -> Outcome:
        try:
            async with asyncio.timeout(self._settings.outbound_timeout_ms / 1000):
                return await self.configured.channel.send(action, self.notes.about(action.customer_id), caller)
        except TimeoutError:
            return Later(f"no answer within {self._settings.outbound_timeout_ms / 1000:g} s")
        except Unreachable as error:
            return Later(str(error))
        except Refused as refused:  # the notes
            return Later(f"the hub's own store: {refused.code}")
        except Exception as error:  # a mistake of the adapter's must not stop the others; its words may hold the text
            name = self.configured.place.connector
            log.error("the adapter of %s failed: %s at %s", name, type(error).__name__, place_of(error))
            return Later(f"the adapter failed: {type(error).__name__}")

    async def _done(self, one: Taken, action: Action, status: str) -> None:
        self.tally.sent += 1
        await self._written(one, action, status, None)

    async def _written(self, one: Taken, action: Action, status: str, reason: str | None) -> None:
        """Receipt and report, as by `delivery.report`; as long as the claim lasts, also while the store is away."""
        ends = time.monotonic() + self._settings.outbound_claim_ms / 1000
        while True:
            try:
                await self._receipt(one, action, status, reason)
                await self._node.store.report(one.org, one.connector, one.conversation_id, one.id)
                return
            except Refused:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(WRITE_AGAIN_S)

    async def _receipt(self, one: Taken, action: Action, status: str, reason: str | None) -> None:
        """What the message's screens show; idempotent. Other actions have no receipt."""
        if action.type != MESSAGE:
            return
        now_ms = self._node.store_clock_ms()
        place = (one.org, one.conversation_id, one.connector)
        try:
            await self._messaging.receipts(*place, now_ms, one.id, status, reason)
        except Refused as refused:
            if refused.code != "unknown_conversation":  # erased meanwhile
                raise

    async def _later(self, one: Taken, wait: Wait) -> None:
        if not wait.uncounted:
            self.tally.retried += 1
        if await self._outbound.later(one, wait.delay_ms, wait.reason, uncounted=wait.uncounted):
            self._want_in(wait.delay_ms / 1000, partition(one.org, one.conversation_id))

    def _want_in(self, seconds: float, p: int) -> None:
        """Look there when it is due, rather than at the next look by the clock; one timer a partition is enough for that."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(p)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()

        def due() -> None:
            self._timers.pop(p, None)
            self._want(p)

        self._timers[p] = loop.call_later(seconds, due)

    async def _give_up(self, one: Taken, action: Action, reason: str) -> None:
        """Note it, tell it, take it out: see the module."""
        if not one.doom and not await self._outbound.doom(one, reason):
            return  # somebody else has it now
        await self._receipt(one, action, "failed", reason)
        letter = DeadLetter(
            id=one.id,
            conversation_id=one.conversation_id,
            connector=one.connector,
            type=action.type,
            at=action.at,
            tries=one.tries if not one.doom else one.tries - 1,
            reason=reason,
            failed_at=self._node.store_clock_ms(),
        )
        if await self._outbound.bury(one, letter):
            self.tally.failed += 1
            log.warning("%s of %s is a dead letter: %s", one.id, one.connector, reason)

    # -- figures ---------------------------------------------------------------------------------------------------------

    async def _count(self) -> None:
        while True:
            try:
                self.tally.waiting, self.tally.dead = await self._outbound.figures(*self._key)
            except Refused as refused:
                log.warning("counting what waits: %s", refused.code)
            await asyncio.sleep(FIGURES_S)


class Delivery:
    """All couriers of a node; `outbound` is the store's side of them."""

    def __init__(self, node: Node, messaging: Messaging, configured: Mapping[str, Configured], files: Files) -> None:
        self.outbound = Outbound(node.store, node.settings)
        self.couriers = {
            name: Courier(node, messaging, self.outbound, one, files) for name, one in sorted(configured.items())
        }

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """(organization, connector) of those that have no use for a socket."""
        return frozenset((one.configured.place.org, name) for name, one in self.couriers.items())

    def start(self) -> None:
        """Begin."""
        for one in self.couriers.values():
            one.start()

    async def stop(self) -> None:
        """Begin nothing more, and end what is under way. Idempotent."""
        await asyncio.gather(*(one.stop() for one in self.couriers.values()))


def in_turn(wanted: Iterable[int], last: int) -> list[int]:
    """The partitions from the one behind `last` on, then those before it: where there is no room for all, none is left out."""
    return sorted(wanted, key=lambda p: (p <= last, p))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def place_of(error: BaseException) -> str:
    """Where an error was raised, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
