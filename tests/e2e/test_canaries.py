"""
Nothing secret and nothing that people wrote leaves by a log, a metric or a refusal: canaries are planted everywhere a tour
leads, and looked for wherever an operator or somebody else could see them. The hub runs at its most talkative.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

from hub.settings import SettingsError, build, describe
from hub.store.embedded import find_engine
from hub.store.topology import parse_url
from tests.support.centre import Centre
from tests.support.engines import Engine
from tests.support.processes import CONFIG, ROOT, SECRET, HubProcess, free_port
from tests.support.socket import HubError
from tests.support.tour import Tour

PASSWORD = "Kanari-store-password"
SENTINELS = "Kanari-sentinel-password"
# What a person who was refused must find again, since they wrote it: an unsent text comes back.
RETURNED = {"stale text", "late text"}
# What is refused by naming it, to its sender alone; and who holds a monitor, as the protocol has it.
NAMED = {"extra field", "wrong code", "status", "supervisor's name", "number that is none", "key of a body"}


class Canaries:
    """Texts that can't be mistaken for anything else, by what they stand for."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def say(self, what: str) -> str:
        """The canary for that."""
        return self.said.setdefault(what, f"Kanari{len(self.said):02d}x{crc32(what.encode()):08x}")

    def found(self, text: str) -> set[str]:
        """What of all that was said stands in there."""
        return {what for what, canary in self.said.items() if canary in text}


def secrets_of(tour: Tour) -> dict[str, str]:
    """Secrets that the hub itself made or was sent during the tour."""
    found: dict[str, str] = {"token secret": SECRET, "unused ticket": tour.unused}
    for line in tour.lines:
        for frame in line.written:
            thing = frame.thing
            for where, part in (("hello", thing), ("resume", thing.get("resume")), ("ok", thing.get("ok"))):
                for name in ("token", "secret", "confirm_token", "ticket"):
                    value = part.get(name) if isinstance(part, dict) else None
                    if isinstance(value, str) and len(value) > 12:
                        found[f"{where} {name} {len(found)}"] = value[-16:]  # the last part of a token signs it
    return found


async def test_canaries(tmp_path: Path) -> None:
    """Fifty canaries and more through every path: none in the log at its debug level, in metrics, or in a refusal."""
    store = Engine(str(find_engine()), port=free_port()).start()
    store.ask("ACL", "SETUSER", "hub", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = f"redis://hub:{PASSWORD}@127.0.0.1:{store.port}"
    hub = HubProcess(tmp_path / "hub", redis_url=url, config='log_level = "debug"\n' + CONFIG)
    canaries = Canaries()
    hub.start()
    centre = Centre(hub)
    try:
        tour = Tour(centre, canaries.say)
        await tour.all()
        assert len(canaries.said) >= 50
        metrics = (await centre.http.get(hub.metrics)).text
        kept = stored(store)
        assert [what for what, secret in secrets_of(tour).items() if secret in kept] == [], (
            "kept as it is, not as a hash"
        )
        await broken_records(centre, store)
        log = hub.log.read_text()
        assert "Traceback" in log, "nothing went wrong: the crash paths weren't walked"
        found = {where: canaries.found(text) for where, text in {"log": log, "metrics": metrics}.items()}
        assert found == {"log": set(), "metrics": set()}
        for text in (log, metrics):
            leaked = [what for what, secret in secrets_of(tour).items() if secret in text]
            assert leaked == []
            assert PASSWORD not in text
        refusals = "\n".join([*tour.errors, *errors_of(tour)])
        assert canaries.found(refusals) <= RETURNED | NAMED
        print(f"{len(canaries.said)} canaries, {len(secrets_of(tour))} secrets, {len(log.splitlines())} lines of log")
    finally:
        await centre.close()
        hub.kill()
        store.remove()


def stored(store: Engine) -> str:
    """Everything that the store holds: names and values of all keys."""
    readers = {
        b"string": ("GET",),
        b"hash": ("HGETALL",),
        b"list": ("LRANGE", "0", "-1"),
        b"set": ("SMEMBERS",),
        b"zset": ("ZRANGE", "0", "-1"),
        b"stream": ("XRANGE", "-", "+"),
    }
    found = []
    for key in store.ask("KEYS", "*"):
        command, *rest = readers[store.ask("TYPE", key)]
        found += [repr(key), repr(store.ask(command, key, *rest))]
    assert len(found) > 100
    return "".join(found)


def errors_of(tour: Tour) -> list[str]:
    """Every refusal and every reason of a close that a socket got."""
    found = []
    for line in tour.lines:
        for text in line.lines:
            thing = json.loads(text)
            if "error" in thing or thing.get("event") == "closing":
                found.append(text)
    return found


async def broken_records(centre: Centre, store: Engine) -> None:
    """Crash paths: what is stored is damaged, with a canary in it, and asked for."""
    story = await centre.story("broken")
    ana = await centre.supervisor("ana")
    [key] = store.ask("KEYS", f"*c:{centre.org}/broken")
    for broken in ('{"participants": "Kanari-broken', '["Kanari-broken"]', '{"Kanari-broken": 1}'):
        store.ask("HSET", key, "state", broken)
        with pytest.raises(HubError) as refused:
            await ana.command("monitor.start", conversation_id=story.id)
        assert refused.value.code == "store_unavailable"
        assert "Kanari" not in str(refused.value.details)
    answer = await centre.get("/v1/conversations/broken")
    assert answer.status_code >= 500
    assert "Kanari" not in answer.text
    assert "Kanari-broken" not in centre.hub.log.read_text()
    store.ask("DEL", key)


def run(*words: str, **variables: str) -> str:
    """All that a program of the hub prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")} | variables
    done = subprocess.run(
        [sys.executable, "-m", "hub", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


ADDRESSES = [
    f"redis://hub:{PASSWORD}@127.0.0.1:1/0",
    f"redis://hub:{PASSWORD}/x@127.0.0.1:1/0",
    f"redis://hub:{PASSWORD}:x@127.0.0.1:1",
    f"redis://:x/{PASSWORD}@127.0.0.1:1",
    f"redis+sentinel://hub:{PASSWORD}@127.0.0.1:1/hub?sentinel_username=s&sentinel_password={SENTINELS}",
    f"rediss://hub:{PASSWORD}@127.0.0.1:1/0?ssl_cert_reqs=sometimes",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_address_is_shown_with_its_password(url: str) -> None:
    """`hub config show` and the error about an address say where the store is, without its passwords."""
    settings = build("", "hub.toml", {"HUB_REDIS_URL": url, "HUB_TOKEN_SECRET": SECRET})
    said = " ".join(" ".join(row) for row in describe(settings)) + repr(settings)
    with contextlib.suppress(ValueError):
        said += repr(parse_url(url).servers)
    try:
        parse_url(url)
    except ValueError as error:
        said += str(error)
    with pytest.raises(SettingsError) as refused:
        build("", "hub.toml", {"HUB_REDIS_URL": "nonsense" + url})
    assert not re.search(f"{PASSWORD}|{SENTINELS}|{SECRET}", said + str(refused.value))


async def test_programs_print_no_secret(tmp_path: Path) -> None:
    """`hub config show`, `hub doctor`, and a hub that can't start: one sentence each, none with a secret in it."""
    data = str(tmp_path)
    asked = {
        ("config", "show", "--explain"): ADDRESSES[4],
        ("doctor",): ADDRESSES[0],
        ("serve", "--port", "0", "--metrics-listen", "", "--data-dir", data): ADDRESSES[3],
        ("serve", "--port", "0", "--metrics-listen", "", "--data-dir", data, "--host", "127.0.0.1"): ADDRESSES[5],
    }
    said = await asyncio.gather(
        *(asyncio.to_thread(run, *words, HUB_TOKEN_SECRET=SECRET, HUB_REDIS_URL=url) for words, url in asked.items())
    )
    for text in said:
        assert len(text) > 20
        assert "Traceback" not in text
        assert not re.search(f"{PASSWORD}|{SENTINELS}|{SECRET}", text), text
    assert all("can't be reached" in text for text in said[2:])
