"""A store's whole content as a value that can be kept in a file, brought to the present, grown, and put into a store."""

import json
import re
from pathlib import Path
from typing import Any

from tests.support.processes import StoreProcess
from tests.support.store import ask

FOLDER = Path(__file__).parent
END_MS = 2_000_000_000_000  # when the story ends: no time of the machine that makes the golden looks like this
KEPT_MS = 60_000  # how long what is kept for a while is kept when it is put into a store
LATER = "from_a_later_version"

Json = dict[str, Any]
# Times within the story, its leases' ends, and what is due a day later; not when its tokens expire.
_TIMES = re.compile(r"(?<![0-9a-z])(1999999|2000000|2000086)\d{6}(?![0-9a-z])")

# Places in the ledger, and the codes that cover them.
_PLACES = re.compile(r'("(?:after|prev|mac)":")[^"+]+')


def versions() -> list[str]:
    """Of which there is a golden, oldest first."""
    names = [path.parent.name for path in FOLDER.glob("*/state.json")]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def read(version: str, name: str) -> Any:
    """One file of a version's golden."""
    return json.loads((FOLDER / version / name).read_text())


def text(value: Any) -> str:
    """A golden as it stands in its file: readable, and one order."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


# -- out of a store --------------------------------------------------------------------------------------------------


async def dump(store: StoreProcess) -> list[Json]:
    """
    Every key with its type, its value, and whether it is kept for a while only.

    What the engine dates by its own clock (ids of streams without positions of ours, beats) has no place in it.
    """
    kept = []
    for key in sorted(await ask(store, "KEYS", "*")):
        kind = (await ask(store, "TYPE", key.decode())).decode()
        for_a_while = int(await ask(store, "PTTL", key.decode())) > 0
        kept.append({"key": key.decode(), "type": kind, "for_a_while": for_a_while, "value": await _value(store, key)})
    return kept


async def _value(store: StoreProcess, key: bytes) -> Any:
    name = key.decode()
    match await ask(store, "TYPE", name):
        case b"string":
            return (await ask(store, "GET", name)).decode()
        case b"hash":
            flat = [one.decode() for one in await ask(store, "HGETALL", name)]
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            fields |= {name: str(END_MS) for name in ("attached",) if fields.get(name)}
            return {field: _unplaced(field, text) for field, text in fields.items()}
        case b"list":
            return [one.decode() for one in await ask(store, "LRANGE", name, "0", "-1")]
        case b"set":
            return sorted(one.decode() for one in await ask(store, "SMEMBERS", name))
        case b"zset":
            flat = [one.decode() for one in await ask(store, "ZRANGE", name, "0", "-1", "WITHSCORES")]
            beats = name.endswith(":nodes")
            return sorted(
                [member, END_MS if beats else int(at)] for member, at in zip(flat[::2], flat[1::2], strict=True)
            )
        case b"stream":
            dated = name.endswith(":ledger") or ":g:" in name
            entries = await ask(store, "XRANGE", name, "-", "+")
            return [
                ["*" if dated else id.decode(), *(_PLACES.sub(r"\1*", one.decode()) for one in fields)]
                for id, fields in entries
            ]
        case kind:
            raise AssertionError(f"{name} is a {kind!r}, which nobody reads")


def _unplaced(field: str, text: str) -> str:
    """A record's field without the ledger's place, which is dated by the engine, and without the code made of it."""
    if field in ("lc", "lm"):
        number, _, chain = text.split(" ")
        return f"{number} * {chain}"
    return "*" if field in ("lc.at", "lm.at") else text


# -- into a store ----------------------------------------------------------------------------------------------------


def in_the_present(value: Any, now_ms: int) -> Any:
    """The same story as if it had ended at `now_ms`: every time in it, wherever it stands, is moved."""

    def moved(found: "re.Match[str]") -> str:
        return str(int(found[0]) - END_MS + now_ms)

    return json.loads(_TIMES.sub(moved, json.dumps(value)))


async def load(store: StoreProcess, state: list[Json]) -> None:
    """Put the content into an empty store."""
    for one in state:
        name, value = one["key"], one["value"]
        match one["type"]:
            case "string":
                await ask(store, "SET", name, value)
            case "hash":
                await ask(store, "HSET", name, *(part for pair in value.items() for part in pair))
            case "list":
                await ask(store, "RPUSH", name, *value)
            case "set":
                await ask(store, "SADD", name, *value)
            case "zset":
                await ask(store, "ZADD", name, *(str(part) for member, at in value for part in (at, member)))
            case "stream":
                for entry in value:
                    await ask(store, "XADD", name, *entry)
        if one["for_a_while"]:
            await ask(store, "PEXPIRE", name, str(KEPT_MS))


# -- as a later version would write it -------------------------------------------------------------------------------


def grown(state: list[Json]) -> list[Json]:
    """
    The same with one more field in every record, whether JSON or a hash, and in every record within one.

    What is no record but a map by ids (panels, people, revocations, a session's monitors) gets no other id, and what a
    platform gave (a panel's content) is left as it is.
    """
    return [one | {"value": _grown_value(one["key"], one["type"], one["value"])} for one in state]


def _grown_value(key: str, kind: str, value: Any) -> Any:
    name = key.partition("}:")[2]
    if name.startswith("p:"):
        return value
    match kind:
        case "string":
            return _grown_text(value)
        case "hash":
            fields = {field: text if field == "monitors" else _grown_text(text) for field, text in value.items()}
            return fields | ({LATER: "1"} if name.startswith(("c:", "s:")) else {})
        case "list":
            return [_grown_text(one) for one in value]
        case "stream":
            return [["\n".join(map(_grown_text, part.split("\n"))) for part in entry] for entry in value]
    return value


def _grown_text(value: str) -> str:
    """With a field more in the JSON record that the text is, or ends with."""
    start = value.find("{")
    if start < 0 or not value.endswith("}"):
        return value
    try:
        record = json.loads(value[start:])
    except ValueError:
        return value
    return value[:start] + json.dumps(_with_more(record), separators=(",", ":"), ensure_ascii=False)


def _with_more(thing: Any) -> Any:
    if isinstance(thing, list):
        return [_with_more(one) for one in thing]
    if not isinstance(thing, dict):
        return thing
    opaque = {"content", "panels"}
    more = {name: value if name in opaque else _with_more(value) for name, value in thing.items()}
    by_id = all(isinstance(value, dict) and "view" in value for value in thing.values())  # a session's views
    return more if by_id and thing else more | {LATER: {"by": "nobody here"}}
