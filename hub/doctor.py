"""
`hub doctor`: looks at everything that a hub needs before somebody depends on it, and says in a line each what it found.

    examine(settings)     the findings (`hub.findings`), one after another

What stands around a hub is looked at in `hub.surroundings`; here are the machine and the store. Nothing is changed and
nothing is started. Each check is independent: one that can't be made is a finding, too.
"""

import asyncio
import ipaddress
import resource
import shutil
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from hub import surroundings
from hub.findings import Finding, Level, free_bytes, gib, private_folder
from hub.settings import Settings, parse_address
from hub.store.access import KEY, NEEDED, SOMETIMES, TOO_MUCH, sample
from hub.store.connection import Endpoint, ReplyError, Unavailable, Unknown, ask_once, command
from hub.store.embedded import VERSION_MIN, EmbeddedError, engine_version, find_engine
from hub.store.topology import Address, Primaries

CLOCK_WARN_MS: Final = 500
CLOCK_FAIL_MS: Final = 5_000
DISK_FREE_BYTES_MIN: Final = 1 << 30
OPEN_FILES_MIN: Final = 4_096
CHROMIUM_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_LANE: Final = "doctor"
_SENTINEL_TIMEOUT_S: Final = 1.5
_START_S: Final = 2.0  # somebody is waiting for the report


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every finding, in an order that a person reads well; those of the store last, since they may take seconds."""
    for finding in _python():
        yield finding
    async for finding in surroundings.identity(settings):
        yield finding
    for checked in (
        surroundings.secret_files(settings),
        surroundings.ledger_key(settings),
        surroundings.connectors(settings),
        _data_dir(settings.data_dir) if settings.redis_url is None else (),
    ):
        for finding in checked:
            yield finding
    async for finding in surroundings.files(settings):
        yield finding
    for checked in (_network(settings), _machine(settings)):
        for finding in checked:
            yield finding
    async for finding in _store(settings):
        yield finding


# Without the store.


def _python() -> Iterator[Finding]:
    shown = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "python", f"{shown} ({sys.implementation.name})")
    try:
        yield Finding("ok", "loop", f"uvloop {version('uvloop')}")
    except PackageNotFoundError:
        yield Finding("warn", "loop", "uvloop isn't installed: asyncio's own loop serves less; `pip install uvloop`")


def _data_dir(path: Path) -> Iterator[Finding]:
    yield private_folder("data dir", path)
    free = free_bytes(path)
    level: Level = "ok" if free >= DISK_FREE_BYTES_MIN else "warn"
    yield Finding(level, "disk", f"{gib(free)} free for the embedded store")


def _network(settings: Settings) -> Iterator[Finding]:
    beyond = settings.host not in ("127.0.0.1", "localhost", "::1")
    if beyond:
        yield Finding("warn", "network", f"{settings.host} is reachable by others: a proxy must end TLS before it")
        if not settings.trusted_proxies:
            text = "trusted_proxies is empty: behind a proxy all clients count as one address"
            yield Finding("warn", "proxies", text)
    if settings.metrics_listen and parse_address(settings.metrics_listen)[0] not in ("127.0.0.1", "localhost", "::1"):
        yield Finding("warn", "metrics", f"{settings.metrics_listen} shows counts of monitors to whoever reaches it")


def _machine(settings: Settings) -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < OPEN_FILES_MIN:
        yield Finding("warn", "open files", f"at most {files}, one for each socket: ulimit -n {OPEN_FILES_MIN}")
    else:
        yield Finding("ok", "open files", f"at most {files}")
    found = next((path for path in map(shutil.which, CHROMIUM_NAMES) if path), None)
    if found:
        yield Finding("ok", "chromium", found)
    else:
        yield Finding("warn", "chromium", "not found; only the browser tests need it")


# The store.


async def _store(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.redis_url
    if url is None:
        try:
            engine = await asyncio.to_thread(find_engine)
            shown = ".".join(map(str, await asyncio.to_thread(engine_version, engine)))
            yield Finding("ok", "engine", f"embedded: {engine.name} {shown} ({engine})")
        except EmbeddedError as error:
            yield Finding("fail", "engine", str(error))
            return
        socket = settings.data_dir.absolute() / "store" / "engine.sock"
        if not socket.is_socket():
            yield Finding("ok", "store", "embedded, not running now; it will append to disk every second")
            return
        url = f"unix://{socket}"
    try:
        primaries = await Primaries.connect(url, lanes=(_LANE,), start_s=_START_S)
    except (ValueError, Unavailable) as error:
        level: Level = "fail" if settings.redis_url else "ok"  # an engine that was killed leaves its socket behind
        yield Finding(level, "store", str(error) if settings.redis_url else "embedded, not running now")
        return
    try:
        if settings.redis_url is not None:  # ours alone reaches the embedded one: by a socket in a private folder
            for finding in _way(primaries.address):
                yield finding
        for primary in primaries.primaries():
            async for finding in _server(primaries, primary):
                yield finding
        if settings.redis_url is not None:
            for primary in primaries.primaries():
                async for finding in _rights(primaries, primary, settings.key_prefix):
                    yield finding
        if primaries.address.kind == "sentinel":
            yield await _sentinels(primaries.address)
    finally:
        await primaries.aclose()


async def _server(primaries: Primaries, primary: Endpoint) -> AsyncIterator[Finding]:
    try:
        info = _info(await primaries.call_on(_LANE, primary, b"INFO", b"everything"))
        before = time.time()
        seconds, micros = await primaries.call_on(_LANE, primary, b"TIME")
        after = time.time()
    except (ReplyError, Unavailable, Unknown) as error:
        yield Finding("fail", "store", f"{primary}: {error}")
        return
    yield _version(info)
    yield _clock(int(seconds) * 1000 + int(micros) / 1000, (before + after) * 500, (after - before) * 500)
    for finding in _durability(info):
        yield finding
    async for finding in _configuration(primaries, primary, info):
        yield finding


def _way(address: Address) -> Iterator[Finding]:
    """How the store is reached."""
    far = [server for server in address.servers if not _is_near(server)]
    if address.login.tls is None and far:
        yield Finding("warn", "store way", f"{far[0]}: plaintext over a network, password included; rediss:// and a CA")
    elif address.login.tls is not None and address.login.tls.verify_mode != ssl.CERT_REQUIRED:
        yield Finding(
            "warn", "store way", "TLS, but whoever answers is believed: without ssl_cert_reqs=none, with a CA"
        )
    else:
        yield Finding("ok", "store way", "this machine" if address.login.tls is None else "TLS, certificate checked")


def _is_near(server: Endpoint) -> bool:
    if server.path or server.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(server.host).is_loopback
    except ValueError:
        return False


async def _rights(primaries: Primaries, primary: Endpoint, prefix: str) -> AsyncIterator[Finding]:
    """Whether the hub's user may what it must, and no more."""
    key = f"{prefix}:{{doctor}}:key"
    try:
        user = _text(await primaries.call_on(_LANE, primary, b"ACL", b"WHOAMI"))
        lacking = [name for name in NEEDED if not await _may(primaries, primary, user, sample(name, key))]
        probes = [[key if word == KEY else word for word in words] for words in TOO_MUCH]
        excess = [" ".join(words[:2]) for words in probes if await _may(primaries, primary, user, words)]
    except (ReplyError, Unavailable, Unknown) as error:
        yield Finding("warn", "rights", f"the user can't be looked at ({error}); it needs ACL WHOAMI and ACL DRYRUN")
        return
    must = [name for name in lacking if name not in SOMETIMES]
    if must:
        yield Finding("fail", "rights", f"the user {user} lacks {', '.join(must)}, or these on {prefix}:*")
    for name in (name for name in lacking if name in SOMETIMES):
        yield Finding("warn", "rights", f"the user {user} lacks {name}, needed for: {SOMETIMES[name]}")
    if len(excess) == len(probes):
        yield Finding(
            "warn", "rights", f"the user {user} has every right: give the hub one of its own (docs/stack/users.acl)"
        )
    elif excess:
        yield Finding("warn", "rights", f"the user {user} may more than the hub needs: {', '.join(excess)}")
    elif not lacking:
        yield Finding("ok", "rights", f"the user {user} may what the hub needs, and no more")


async def _may(primaries: Primaries, primary: Endpoint, user: str, words: Sequence[str]) -> bool:
    """True where the server would let that user. A command that it doesn't have may be done by nobody."""
    asked = (b"ACL", b"DRYRUN", user.encode(), *(word.encode() for word in words))
    try:
        return bool(_text(await primaries.call_on(_LANE, primary, *asked)) == "OK")
    except ReplyError as error:
        if error.code == "NOPERM":
            raise
        return False


async def _sentinels(address: Address) -> Finding:
    """Are all named? A hub believes whom most of those that it knows name."""
    wire = command(b"SENTINEL", b"MASTER", address.service.encode())
    try:
        about = _pairs(await ask_once(address.servers[0], address.sentinel_login, wire, _SENTINEL_TIMEOUT_S))
    except (OSError, TimeoutError, ReplyError, Unavailable, Unknown) as error:
        return Finding("warn", "sentinels", f"{address.servers[0]} doesn't answer ({error})")
    there, named = int(about["num-other-sentinels"]) + 1, len(address.servers)
    if named < there:
        why = "a hub that is cut off may not notice; name all"
        return Finding("warn", "sentinels", f"{there} watch {address.service}, {named} are named in the address: {why}")
    return Finding("ok", "sentinels", f"{named} of {there} named")


def _version(info: Mapping[str, str]) -> Finding:
    name, shown = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    if tuple(int(part) for part in info["redis_version"].split(".")[:2]) < VERSION_MIN:
        return Finding("fail", "store", f"{name} {shown}; 7.0 or newer is needed")
    return Finding("ok", "store", f"{name} {shown}, {info.get('redis_mode', 'standalone')}")


def _clock(theirs_ms: float, ours_ms: float, uncertain_ms: float) -> Finding:
    difference = abs(theirs_ms - ours_ms)
    text = f"{difference:.0f} ms (± {uncertain_ms:.0f}) from the store's"
    if difference - uncertain_ms > CLOCK_FAIL_MS:
        return Finding(
            "fail", "clock", f"{text}: leases and tokens would end at the wrong time; synchronize them (NTP)"
        )
    if difference - uncertain_ms > CLOCK_WARN_MS:
        return Finding("warn", "clock", f"{text}: synchronize them (NTP)")
    return Finding("ok", "clock", text)


def _durability(info: Mapping[str, str]) -> Iterator[Finding]:
    if info.get("aof_enabled") != "1":
        yield Finding("warn", "durability", "no append-only file: a restart of the store loses data; appendonly yes")
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield Finding("fail", "durability", "the last write to the append-only file failed; is the disk full?")
    else:
        yield Finding("ok", "durability", "append-only file is on")


async def _configuration(primaries: Primaries, primary: Endpoint, info: Mapping[str, str]) -> AsyncIterator[Finding]:
    try:
        answer = await primaries.call_on(
            _LANE, primary, b"CONFIG", b"GET", b"maxmemory-policy", b"min-replicas-to-write", b"appendfsync"
        )
        config = _pairs(answer)
    except ReplyError:  # the hub's own user may not, and needn't: with it a password could be read
        config = {}
        unseen = (
            "appendfsync and min-replicas-to-write can't be looked at: this user may not CONFIG GET, as it should be"
        )
        yield Finding("ok", "store", unseen)
    except (Unavailable, Unknown):
        yield Finding("warn", "store", "CONFIG can't be read: check eviction (noeviction) and replicas yourself")
        return
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        yield Finding("ok", "eviction", "noeviction")
    else:
        yield Finding("fail", "eviction", f"{policy}: the store may drop conversations; maxmemory-policy noeviction")
    if config.get("appendfsync") == "no":
        yield Finding("warn", "durability", "appendfsync no: up to 30 s are lost at a power cut; appendfsync everysec")
    replicas, wanted = int(info.get("connected_slaves", 0)), int(config.get("min-replicas-to-write") or 0)
    if replicas and not wanted and config:
        yield Finding("warn", "replicas", f"{replicas}, none required: writes go on alone; min-replicas-to-write 1")
    else:
        yield Finding("ok", "replicas", f"{replicas}, {wanted} required")


def _info(answer: Any) -> dict[str, str]:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def _pairs(answer: Any) -> dict[str, str]:
    """CONFIG GET's answer, which is a map or a flat list by the protocol's version."""
    items = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return {_text(name): _text(value) for name, value in items}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
