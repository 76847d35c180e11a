"""State as bytes and back. The stored form is JSON of the domain's own values; unknown fields of a newer node are kept out."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

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
