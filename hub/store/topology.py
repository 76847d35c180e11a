"""
Who is primary of what, and the lanes to them.

One server, a server behind Sentinel, and a Cluster look the same from outside: a call names a lane and a key. Only who
owns a slot is asked here; what is asked for data goes through lanes. The map is read at the start, every `REFRESH_S`,
and whenever a server says that a key lives elsewhere or a connection can't be made.

When slots move, order per key is kept: lanes that lose slots are held and settle (nothing in flight any more), then the
map changes in one step, then what they held goes where it belongs, in its order. A call that an ASK sent elsewhere may
be turned away there, too, when its slot moves on or back; so the lane where it belongs stays held until it has run.
"""

import asyncio
import contextlib
import functools
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from hub.metrics import SAMPLED, Meter
from hub.store.connection import (
    Call,
    Endpoint,
    Lane,
    Limits,
    Login,
    ReplyError,
    Script,
    Unavailable,
    Unknown,
    ask_once,
    backoff_s,
    command,
)
from hub.store.keys import SLOTS, slot

log = logging.getLogger(__name__)

REFRESH_S: Final = 10.0
SENTINEL_REFRESH_S: Final = 1.0  # an old primary takes writes, which will be lost, until it hears of its demotion
VOUCHED_S: Final = 2.0  # how long a majority of the Sentinels is believed
STORM_S: Final = 0.5  # looks at the map closer together than this are slowed down
SETTLING_S: Final = 0.1  # but while slots move, calls wait for the next look: no longer than this
LANES: Final = ("ingest", "commit", "takeover")
Kind = Literal["single", "sentinel", "cluster"]
Map = list[tuple[int, int, Endpoint]]  # first slot, last slot (inclusive), primary


@dataclass(frozen=True, slots=True)
class Address:
    """
    A store's URL, taken apart.

    `servers` are the server itself, the Sentinels, or some of the Cluster's nodes; `service` is what the Sentinels call
    it; `sentinel_login` is for them.
    """

    kind: Kind
    servers: tuple[Endpoint, ...]
    login: Login
    service: str = ""
    sentinel_login: Login = Login()  # noqa: RUF009 - frozen


def parse_url(url: str) -> Address:
    """
    Address that `url` names. Raises ValueError, with a message for people and without the password.

    `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS), `unix://[[user]:password@]/path[?db=0]`,
    `redis+sentinel://[…@]host:port,host:port/service[/db]`, `redis+cluster://[…@]host:port,host:port`; the last two
    with TLS as `rediss+…`. TLS options: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (paths), `ssl_cert_reqs=none`;
    for Sentinels of their own: `sentinel_username`, `sentinel_password`.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if (
        scheme not in ("redis", "rediss", "unix")
        or kind not in ("", "sentinel", "cluster")
        or (scheme == "unix" and kind)
    ):
        raise ValueError(
            f"store URL: {parts.scheme or 'no scheme'}:// is none of "
            "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
        )
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    tls = _tls(query) if scheme == "rediss" else None

    def login(db: str) -> Login:
        if not db.isdigit():
            # Nothing is quoted: behind a `/` or `:` that wasn't encoded stands a part of the password.
            raise ValueError("store URL: the database is not a number; in user and password encode what isn't a letter")
        return Login(unquote(username), unquote(password), int(db), tls)

    if scheme == "unix":
        if not parts.path:
            raise ValueError("store URL: unix:// needs the socket's path")
        return Address("single", (Endpoint(path=unquote(parts.path)),), login(query.get("db", "0")))
    port = 26379 if kind == "sentinel" else 6379
    servers = tuple(_endpoint(host, port) for host in hosts.split(","))
    if kind == "sentinel":
        if not path:
            raise ValueError("store URL: redis+sentinel:// needs the service's name behind the hosts")
        own = Login(query.get("sentinel_username", ""), query.get("sentinel_password", ""), 0, tls)
        return Address("sentinel", servers, login(path[1] if len(path) > 1 else "0"), path[0], own)
    if kind == "cluster":
        return Address("cluster", servers, login("0"))
    if len(servers) > 1:
        raise ValueError("store URL: several hosts need redis+sentinel:// or redis+cluster://")
    return Address("single", servers, login(path[0] if path else query.get("db", "0")))


class Primaries:
    """
    All primaries of one store, each with the same lanes.

    Calls of one lane whose keys share a slot run in the order in which they were made. Make one with `connect`; it
    belongs to the running loop.
    """

    def __init__(self, address: Address, scripts: Sequence[Script], lanes: Sequence[str], limits: Limits) -> None:
        self.address = address
        self.lane_names = tuple(lanes)
        self.limits = limits
        self.refreshes = 0  # how often the map was read, for tests and metrics
        self.meter = Meter()  # of this process: there is one store
        self._asked_scripts = 0
        self._scripts = tuple(scripts)
        self._lanes: dict[Endpoint, dict[str, Lane]] = {}
        self._owners: list[dict[str, Lane]] = []  # by slot; empty where one server has everything
        self._only: dict[str, Lane] = {}
        self._asked: dict[Endpoint, dict[str, Lane]] = {}  # not on the map (yet), named by ASK
        self._asked_at: dict[Endpoint, float] = {}  # loop time of the last ASK
        self._away: dict[Call, Lane] = {}  # sent to another server than the map says, by ASK, and not answered
        self._awaiting: list[Lane] = []  # held until those that belong there have run
        self._refreshing = False
        self._listeners: list[Callable[[], None]] = []
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._vouched_at = float("-inf")  # loop time at which the majority that agreed last was asked
        self._named: Endpoint | None = None  # by the majority that agreed last
        self._doubted_until = 0.0  # whoever believes another one may do so until then

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        scripts: Sequence[Script] = (),
        lanes: Sequence[str] = LANES,
        timeout_s: float = 1.5,
        connect_wait_s: float = 1.0,
        pending_max: int = 20_000,
        replicas: int = 0,
        start_s: float = 5.0,
    ) -> "Primaries":
        """
        Connected lanes to every primary that `url` leads to (see `parse_url`), whose answers wait for `replicas`.

        Raises:
            ValueError: The URL makes no sense.
            Unavailable: Not everything answered within `start_s` seconds; nothing is left open.
        """
        address = parse_url(url)
        limits = Limits(
            timeout_s=timeout_s,
            connect_wait_s=connect_wait_s,
            pending_max=pending_max,
            replicas=replicas,
            replicas_expected=address.kind != "single",
        )
        self = cls(address, scripts, lanes, limits)
        trouble: list[Exception] = []
        try:
            async with asyncio.timeout(start_s):
                await self._first_map(trouble)
                await asyncio.gather(*[lane.up() for lane in self._all()])
        except TimeoutError:
            trouble += [lane.trouble for lane in self._all() if lane.trouble]
            await self.aclose()
            raise Unavailable(f"store not reachable: {trouble[-1] if trouble else 'no answer'}") from None
        except BaseException:
            await self.aclose()
            raise
        self._spawn(self._keep_map())
        return self

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(self, lane: str, key: bytes, *args: bytes) -> asyncio.Future[Any]:
        """
        Answer to the command `args`, sent to the primary of `key`'s slot.

        The future raises Unavailable (did not run), Unknown (may have run), ReplyError. Safe to cancel: the answer is
        thrown away, the command may have run.
        """
        return self._lane(lane, key).send(command(*args), key)

    def script(self, lane: str, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> asyncio.Future[Any]:
        """Answer of a script (EVALSHA), as `call`. `keys` share a slot; `script` is one of those given to `connect`."""
        future = self._lane(lane, keys[0]).send(script.wire(keys, args), keys[0])
        self._asked_scripts += 1
        if not self._asked_scripts % SAMPLED:
            self._time(script.name, future)
        return future

    def _time(self, name: str, future: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()

        def answered(done: asyncio.Future[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                self.meter.script_s[name].add(loop.time() - asked)

        future.add_done_callback(answered)

    def wire(self, lane: str, key: bytes, wire: bytes) -> asyncio.Future[Any]:
        """Answer to one command that is encoded already, as `call`."""
        return self._lane(lane, key).send(wire, key)

    def many(self, lane: str, commands: Sequence[tuple[bytes, Sequence[bytes]]]) -> asyncio.Future[list[Any]]:
        """Answers to several (key, command), in one write per primary, in their order; errors among them as values."""
        return asyncio.gather(*[self.call(lane, key, *args) for key, args in commands], return_exceptions=True)

    def call_on(self, lane: str, primary: Endpoint, *args: bytes) -> asyncio.Future[Any]:
        """Answer of one given primary (`primaries`), for what concerns a server and no key: INFO, CONFIG GET, TIME."""
        return self._lanes[primary][lane].send(command(*args))

    # -- the map -------------------------------------------------------------------------------------------------

    def primaries(self) -> tuple[Endpoint, ...]:
        """Every primary on the map."""
        return tuple(self._lanes)

    def primary_of(self, key: bytes) -> Endpoint:
        """Primary of `key`'s slot."""
        return next(iter(self._owner(key).values())).endpoint

    @property
    def clustered(self) -> bool:
        """True where keys of one command must share a slot."""
        return self.address.kind == "cluster"

    def durable(self, key: bytes | None) -> bool:
        """True where as many replicas as wanted have all that the primary of `key`'s slot (none: each) has answered."""
        lanes = self._all() if key is None else self._owner(key).values()
        return all(lane.durable for lane in lanes)

    @property
    def pending(self) -> int:
        """Calls that were sent and not answered."""
        return sum(lane.pending for lane in self._all())

    @property
    def vouched(self) -> bool:
        """
        False where another hub may believe in another primary than ours, and give to somebody what is given here.

        One that was cut off together with us answers as ever, so we believe in it for `VOUCHED_S` after a question that a
        majority of the Sentinels answered with it; and in a new one that long after we heard of it, when nobody believes
        in the one before any more: two majorities share a Sentinel, so whoever was told of the old one asked before.
        Only Sentinel needs it: nobody else replaces a single server, and a primary that is cut off from its Cluster's
        majority stops by itself before it is replaced.
        """
        if self.address.kind != "sentinel":
            return True
        now = asyncio.get_running_loop().time()
        return self._named in self._lanes and self._doubted_until <= now < self._vouched_at + VOUCHED_S

    async def believed(self) -> None:
        """Wait until nobody believes in a primary that was replaced just before we came. Safe to cancel."""
        if self.address.kind == "sentinel" and self._named is not None:
            await asyncio.sleep(self._doubted_until - asyncio.get_running_loop().time())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever the map has changed."""
        self._listeners.append(listener)

    def refresh(self) -> None:
        """Read the map again soon; calling it often costs nothing more."""
        self._wanted.set()

    @property
    def healthy(self) -> bool:
        """True while every lane can send."""
        return all(lane.ready for lane in self._all())

    async def aclose(self) -> None:
        """Answer or fail whatever is open, and close every connection. Idempotent."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[lane.aclose() for lane in self._all()])

    # -- inside --------------------------------------------------------------------------------------------------

    def _lane(self, name: str, key: bytes) -> Lane:
        owners = self._owners
        return (owners[slot(key)] if owners else self._only)[name]

    def _owner(self, key: bytes) -> dict[str, Lane]:
        return self._owners[slot(key)] if self._owners else self._only

    def _all(self) -> list[Lane]:
        return [lane for lanes in (*self._lanes.values(), *self._asked.values()) for lane in lanes.values()]

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _open(self, endpoint: Endpoint) -> dict[str, Lane]:
        lanes = {}
        for name in self.lane_names:
            lanes[name] = lane = Lane(
                name,
                endpoint,
                self.address.login,
                self._scripts,
                limits=self.limits,
                meter=self.meter,
                on_elsewhere=lambda _: self.refresh(),
                on_trouble=lambda _: self.refresh(),
            )
            lane.start()
        return lanes

    async def _first_map(self, trouble: list[Exception]) -> None:
        attempt = 0
        while True:
            try:
                self._apply(await self._discover())
                return
            except (OSError, TimeoutError, ReplyError, Unavailable, Unknown) as error:
                trouble.append(error)
                await asyncio.sleep(backoff_s(attempt))
                attempt += 1

    async def _keep_map(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, last = 0, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SENTINEL_REFRESH_S if self.address.kind == "sentinel" else REFRESH_S):
                    await self._wanted.wait()
            self._wanted.clear()
            attempt, last = attempt + 1 if loop.time() - last < STORM_S else 0, loop.time()
            pause_max_s = SETTLING_S
            try:
                await self._refresh()
            except (OSError, TimeoutError, ReplyError, Unavailable, Unknown) as error:
                log.warning("store: nobody says who is primary: %s", error)
                pause_max_s = REFRESH_S
                self._wanted.set()
            except Exception:
                log.exception("store: reading the map failed")
                self._wanted.set()
            await asyncio.sleep(min(pause_max_s, backoff_s(attempt)))

    async def _refresh(self) -> None:
        found = await self._discover()
        self.refreshes += 1
        self._refreshing = True
        try:
            for lane in self._losing(found):
                lane.hold()
            held = [lane for lane in self._all() if lane.held]
            for lane in held:
                await lane.settled()
            # From here to the end there is no await: nobody can put a call in front of those that were held.
            changed = self._apply(found)
            settled = [lane for lane in held if not lane.pending]
            self._route(settled)
            if len(settled) < len(held):  # one has loaded its scripts anew meanwhile
                self.refresh()
        finally:
            self._refreshing = False
        self._retire()
        if changed:
            log.info("store: primaries are now %s", ", ".join(map(str, self._lanes)))
            for listener in self._listeners:
                listener()

    async def _discover(self) -> Map:
        address = self.address
        if address.kind == "single":
            return [(0, SLOTS - 1, address.servers[0])]
        if address.kind == "sentinel":
            return [(0, SLOTS - 1, await self._named_by_sentinels())]
        hints = [lane.hint for lane in self._all() if lane.hint]  # whoever is named by MOVED knows of the move
        trouble: Exception = Unavailable("no server named")
        for server in dict.fromkeys((*hints, *self._lanes, *address.servers)):
            try:
                answer = await ask_once(server, address.login, command(b"CLUSTER", b"SLOTS"), self.limits.timeout_s)
                return _slots(answer, server)
            except (OSError, TimeoutError, ReplyError, Unavailable, Unknown) as error:
                trouble = error
        raise trouble

    async def _named_by_sentinels(self) -> Endpoint:
        """
        The primary that a majority of the Sentinels names; else, and then it isn't `vouched`, the one named most often.

        One Sentinel alone may be cut off from the others together with us, and know nothing of a failover.
        """
        asked = asyncio.get_running_loop().time()
        answers = [asyncio.create_task(self._named_by(server)) for server in self.address.servers]
        named: Counter[Endpoint] = Counter()
        trouble: Exception = Unavailable("no Sentinel named")
        try:
            for answer in asyncio.as_completed(answers):
                try:
                    primary = await answer
                except (OSError, TimeoutError, ReplyError, Unavailable, Unknown) as error:
                    trouble = error
                    continue
                named[primary] += 1
                if named[primary] > len(answers) // 2:
                    if self._named != primary:
                        self._doubted_until = asyncio.get_running_loop().time() + VOUCHED_S
                    self._named, self._vouched_at = primary, asked
                    return primary
        finally:
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
        if not named:
            raise trouble
        return named.most_common(1)[0][0]

    async def _named_by(self, sentinel: Endpoint) -> Endpoint:
        wire = command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.address.service.encode())
        answer = await ask_once(sentinel, self.address.sentinel_login, wire, self.limits.timeout_s)
        if not isinstance(answer, list) or len(answer) != 2:
            raise Unavailable(f"the Sentinel doesn't know {self.address.service}")
        return Endpoint(answer[0].decode(), int(answer[1]))

    def _losing(self, found: Map) -> list[Lane]:
        """Lanes of primaries that lose a slot by `found`."""
        losers: dict[Endpoint, dict[str, Lane]] = {}
        for first, last, endpoint in found:
            for owner in self._owners[first : last + 1] if self._owners else [self._only]:
                lane = next(iter(owner.values()), None)
                if lane is not None and lane.endpoint != endpoint:
                    losers[lane.endpoint] = owner
        return [lane for lanes in losers.values() for lane in lanes.values()]

    def _apply(self, found: Map) -> bool:
        """Make `found` the map; True where that changed anything."""
        before = self._shape()
        for endpoint in {endpoint for _, _, endpoint in found} - self._lanes.keys():
            self._lanes[endpoint] = self._asked.pop(endpoint) if endpoint in self._asked else self._open(endpoint)
        if self.clustered:
            owners = list(self._owners) or [self._lanes[found[0][2]]] * SLOTS
            for first, last, endpoint in found:
                owners[first : last + 1] = [self._lanes[endpoint]] * (last + 1 - first)
            self._owners = owners
        else:
            self._only = self._lanes[found[0][2]]
        return self._shape() != before

    def _shape(self) -> list[int]:
        return [id(lanes) for lanes in self._owners or [self._only]]

    def _route(self, held: Sequence[Lane]) -> None:
        """Give everything that lanes held to the lanes of the same names where it belongs now, and release them."""
        too_old = asyncio.get_running_loop().time() - self.limits.connect_wait_s
        taken = [(call, lane.name) for lane in held for call in lane.take()]
        for call, name in sorted(taken, key=lambda one: one[0].number):
            self._away.pop(call, None)
            if call.since < too_old:
                call.fail(Unavailable("the store's slots are moving"))
                continue
            target = self._target(name, call)
            if target is not self._lane(name, call.key):
                self._away[call] = target
                call.future.add_done_callback(functools.partial(self._came_back, call))
            target.put(call)
        homes = self._homes()
        for home in homes:
            home.hold()
        self._awaiting = [lane for lane in self._all() if lane in homes]
        for lane in held:
            if lane not in homes:
                lane.release()

    def _homes(self) -> set[Lane]:
        """Lanes where calls belong that are away."""
        return {self._lane(lane.name, call.key) for call, lane in self._away.items()}

    def _came_back(self, call: Call, _: asyncio.Future[Any]) -> None:
        if self._away.pop(call, None) is None or self._refreshing:
            return  # was routed anew; or is looked at right after this
        homes = self._homes()
        waited, self._awaiting = self._awaiting, [lane for lane in self._awaiting if lane in homes]
        for lane in waited:
            if lane not in homes:
                lane.release()

    def _target(self, name: str, call: Call) -> Lane:
        target, call.target = call.target, None
        if target is None:
            return self._lane(name, call.key)
        if target not in self._lanes:
            if target not in self._asked:
                self._asked[target] = self._open(target)
            self._asked_at[target] = asyncio.get_running_loop().time()
        return (self._lanes.get(target) or self._asked[target])[name]

    def _retire(self) -> None:
        """Close the lanes of primaries that own nothing any more, and those that an ASK named long ago."""
        owning = set(self._shape())
        idle_since = asyncio.get_running_loop().time() - REFRESH_S
        gone = [self._lanes.pop(e) for e, lanes in list(self._lanes.items()) if id(lanes) not in owning]
        gone += [self._asked.pop(e) for e in list(self._asked) if self._asked_at[e] < idle_since]
        for lanes in gone:
            for lane in lanes.values():
                self._spawn(lane.aclose())


def _slots(answer: Any, asked: Endpoint) -> Map:
    """Map that CLUSTER SLOTS answered; an empty host is the one that was asked."""
    if not isinstance(answer, list) or not answer:
        raise Unavailable(f"{asked} knows of no slots")
    found = [
        (first, last, Endpoint((node[0] or b"").decode() or asked.host, node[1])) for first, last, node, *_ in answer
    ]
    if any(endpoint.host == "?" for _, _, endpoint in found):
        raise Unavailable(f"{asked} doesn't know where all primaries are")
    return found


def _endpoint(text: str, default_port: int) -> Endpoint:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default_port)
    if not port.isdigit():
        raise ValueError("store URL: the port is not a number; in user and password encode what isn't a letter")
    return Endpoint(host.strip("[]") or "localhost", int(port))


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=_readable(query, "ssl_ca_certs"))
    reqs = query.get("ssl_cert_reqs", "required")
    if reqs not in ("required", "none"):
        raise ValueError("store URL: ssl_cert_reqs is neither required nor none")
    if reqs == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := _readable(query, "ssl_certfile"):
        try:
            context.load_cert_chain(certificate, _readable(query, "ssl_keyfile"), password="")
        except ssl.SSLError as error:
            raise ValueError(f"store URL: ssl_certfile and ssl_keyfile can't be used ({error.reason})") from None
    return context


def _readable(query: dict[str, str], name: str) -> str | None:
    """The file that an option names, None where it isn't given. Raises ValueError where it can't be read."""
    if name not in query:
        return None
    try:
        with Path(query[name]).open("rb"):
            return query[name]
    except OSError as error:
        raise ValueError(f"store URL: {name} {query[name]} can't be read: {error.strerror}") from None
