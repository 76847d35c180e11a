"""
State as bytes and back. The stored form is JSON of the domain's own values.

While nodes are brought up to date one after the other, a newer one may have written members that this one doesn't know.
They have no place in the domain's values; they are kept beside them, and written back by the next commit.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import orjson

from hub.domain.conversation import Conversation, Counters, Monitor, MonitorSession, Participant, Prepared, Situation
from hub.domain.ledger import CHAIN_MONITOR, CHAIN_STATE, Head
from hub.service.ports import Loaded

_encoder = msgspec.json.Encoder()
_conversation = msgspec.json.Decoder(Conversation)
_monitor = msgspec.json.Decoder(Monitor)
_prepared = msgspec.json.Decoder(Prepared)


def encode_state(value: Conversation | Monitor | Prepared) -> bytes:
    """JSON of one of the stored values."""
    return _encoder.encode(value)


@dataclass(frozen=True, slots=True)
class Newer:
    """
    Members of a stored state that only a newer node knows: those of the state itself, and those of things in it.

    They are carried, not understood: what a newer node derives from the rest it must not take from here.
    """

    members: Mapping[str, Any] = field(default_factory=dict)
    of_things: Mapping[tuple[object, ...], Mapping[str, Any]] = field(default_factory=dict)


NOTHING_NEWER = Newer()


# What tells one thing in a list from the others of its list, and finds it again where it has moved to another one.
_IDENTITY = ("participant_id", "takeover_id", "user_id", "since", "asked_at")


def newer_in(stored: bytes, known: Conversation) -> Newer:
    """What `stored` has beside `known`, which was decoded from it."""
    ours = encode_state(known)
    if stored == ours:
        return NOTHING_NEWER  # nearly always: a state that this version wrote
    theirs, mine = orjson.loads(stored), orjson.loads(ours)
    of_things = {
        _identity(there): more
        for name in mine
        for there, here in zip(_things(theirs.get(name)), _things(mine[name]), strict=False)
        if (more := _beside(there, here))
    }
    return Newer(_beside(theirs, mine), of_things)


def with_newer(state: bytes, newer: Newer) -> bytes:
    """A state as it is written: with what a newer node had put into it. Things that are gone take theirs with them."""
    if newer == NOTHING_NEWER:
        return state
    value = orjson.loads(state)
    for name in value:
        for thing in _things(value[name]):
            thing.update(newer.of_things.get(_identity(thing), {}))
    return orjson.dumps(value | dict(newer.members))


def _beside(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in theirs.items() if name not in mine}


def _things(value: object) -> list[dict[str, Any]]:
    """The objects that a member holds: itself, or those in it."""
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, dict)]


def _identity(thing: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(thing.get(name) for name in _IDENTITY)


def decode_loaded(fields: Mapping[bytes, bytes], now_ms: int) -> Loaded:
    """What the record's `fields` say; an empty record is a conversation that isn't there."""
    if b"state" not in fields:
        return Loaded(Situation(now_ms), version="")
    monitor = _monitor.decode(fields[b"m"]) if b"m" in fields else None
    if monitor is not None:
        leases = {name[3:].decode(): int(value) for name, value in fields.items() if name.startswith(b"ml:")}
        sessions = tuple(MonitorSession(session, end) for session, end in sorted(leases.items()))
        whose, _, first = fields.get(b"m.from", b"").decode().partition(" ")
        shown = int(first) if whose == monitor.monitor_id else None
        monitor = replace(monitor, sessions=sessions, first_shown=shown)
    since = fields.get(b"since")
    situation = Situation(
        now_ms=now_ms,
        conversation=_conversation.decode(fields[b"state"]),
        monitor=monitor,
        counters=Counters(
            messages=int(fields.get(b"messages", 0)),
            awaiting=fields[b"awaiting"].decode() if b"awaiting" in fields else None,
            awaiting_since=None if since is None else int(since),
            unanswered=int(fields.get(b"unanswered", 0)),
        ),
        prepared=_prepared.decode(fields[b"x"]) if b"x" in fields else None,
    )
    return Loaded(
        situation=situation,
        version=fields[b"version"].decode(),
        stored=fields[b"state"],
        monitor_version=fields.get(b"mv", b"").decode(),
        epoch=fields[b"epoch"].decode(),
        top=int(fields.get(b"top", 0)),
        tag=fields.get(b"tag", b"0").decode(),
        customer_top=int(fields.get(b"ctop", 0)),
        drafts={name[6:].decode(): text.decode() for name, text in fields.items() if name.startswith(b"draft:")},
        ledger={chain: head for chain in (CHAIN_STATE, CHAIN_MONITOR) if (head := ledger_head(fields, chain)).number},
    )


def ledger_field(chain: str) -> str:
    """The record's field with number, code and chain of a chain's last line; its place is in `<field>.at`."""
    return f"l{chain}"


def ledger_head(fields: Mapping[bytes, bytes], chain: str) -> Head:
    """The last line of a chain as the record has it; the empty head where there is none."""
    name = ledger_field(chain).encode()
    number, code, id = fields.get(name, b"0  ").decode().split(" ")
    return Head(int(number), code, fields.get(name + b".at", b"").decode(), chain=id)


def ledger_value(head: Head) -> bytes:
    """The record's field for the last line of a chain."""
    return f"{head.number} {head.code} {head.chain}".encode()


def spoken_as(participant: Participant) -> bytes:
    """The members that tell who acts, put into a body by the store: `<purpose> "participant_id":…`."""
    who = {"participant_id": participant.participant_id, "purpose": participant.purpose, "name": participant.name}
    return participant.purpose.encode() + b" " + orjson.dumps(who)[1:-1]


def digest(value: object) -> str:
    """Short hash of a JSON-ready value; equal values have equal digests."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()
