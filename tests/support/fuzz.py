"""
Frames that nobody sends on purpose: made by a grammar of the wire types, then broken.

    Grammar(endpoint, chance)      one frame after another: `frame()`; `learn(text)` takes over ids that the hub gave
    wire_bytes(chance)             bytes for a frame parser: frames, broken frames, noise

All of it comes from one seeded `random.Random`, so that a run can be repeated from its seed.
"""

import json
import random
import re
import struct
from typing import Any, Final

import msgspec

from hub.protocol.commands import ENDPOINT_COMMANDS, Hello

IDS: Final = ("cnv_1", "cnv_2", "cnv_own", "unknown", "a" * 64, "-", "x:y")
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**64, 10**30, 1.5, -0.0, 1e308, "", " ", "\u0000", "\ud800",
    "\u202e", "😀" * 40, "x" * 300, "x" * 5_000, [], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}}, "cnv_1\n", "*",
    "../..", "${jndi}", "'; --", "<script>", "NaN", "{}", "a.b-1", "k3f9.a71c-42", "k3f9.a71c-99999999999999999999",
)  # fmt: skip
_GIVEN: Final = re.compile(
    r'"(?:monitor_id|takeover_id|confirm_token|subscription|message_id|action_id)":"([^"]{1,80})"'
)
PLATFORM_EVENTS: Final = (
    "conversation.started", "participant.connected", "participant.disconnected", "message.created", "message.receipt",
    "typing", "panel.updated", "conversation.transferred", "conversation.ended",
)  # fmt: skip
EVENT_FIELDS: Final = (
    "channel", "queue", "division", "customer", "subject", "panels", "participant_id", "purpose", "user_id", "name",
    "disconnect_type", "message_id", "text", "attachments", "status", "on", "panel", "content", "reason",
)  # fmt: skip


class Grammar:
    """Frames of one endpoint; about a third of them as they should be."""

    def __init__(self, endpoint: str, chance: random.Random) -> None:
        self.chance = chance
        kinds = [kind for kind in ENDPOINT_COMMANDS[endpoint] if kind is not Hello]
        self.structs = [
            one for one in msgspec.inspect.multi_type_info(kinds) if isinstance(one, msgspec.inspect.StructType)
        ]
        self.known = list(IDS)
        self._id = 0

    def learn(self, text: str) -> None:
        """Ids that the hub gave are worth sending back; the oldest are forgotten."""
        self.known += _GIVEN.findall(text)[:4]
        del self.known[len(IDS) : -40]

    def frame(self) -> str:
        """One text frame: an object, several, or what is left of them."""
        chance = self.chance
        lines = [self.line() for _ in range(1 if chance.random() < 0.9 else chance.randint(2, 6))]
        text = "\n".join(lines)
        return self.broken(text) if chance.random() < 0.01 else text

    def line(self) -> str:
        """One object as JSON."""
        chance = self.chance
        thing: Any = self.command()
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3))):
            thing = self.changed(thing)
        text = json.dumps(thing, ensure_ascii=chance.random() < 0.5)
        if chance.random() < 0.02:
            depth = chance.choice((50, 200, 2_000))
            text = text[:-1] + ',"deep":' + "[" * depth + "]" * depth + "}"
        return text

    def command(self) -> dict[str, Any]:
        """A command of the endpoint with all that it must have and some of what it may."""
        self._id += 1
        info = self.chance.choice(self.structs)
        made: dict[str, Any] = {"cmd": info.tag}
        for field in info.fields:
            if field.encode_name == "id":
                made["id"] = self._id
            elif field.required or self.chance.random() < 0.3:
                made[field.encode_name] = self.value(field.encode_name, field.type)
        return made

    def value(self, name: str, kind: Any) -> Any:
        """Something that a field of that type may hold, more or less."""
        chance, inspect = self.chance, msgspec.inspect
        if name == "event":
            return self.event()
        if isinstance(kind, inspect.UnionType):
            return self.value(name, chance.choice(kind.types))
        if isinstance(kind, inspect.BoolType):
            return chance.random() < 0.5
        if isinstance(kind, inspect.IntType | inspect.FloatType):
            return chance.choice((0, 1, 5, 500, 10**6))
        if isinstance(kind, inspect.EnumType):
            return chance.choice(list(kind.cls)).value
        if isinstance(kind, inspect.LiteralType):
            return chance.choice(kind.values)
        if isinstance(kind, inspect.NoneType):
            return None
        if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
            return [self.value(name, kind.item_type) for _ in range(chance.randint(0, 3))]
        if isinstance(kind, inspect.DictType):
            return {chance.choice(self.known): self.value(name, kind.value_type) for _ in range(chance.randint(0, 3))}
        if isinstance(kind, inspect.StructType):
            return {
                one.encode_name: self.value(one.encode_name, one.type) for one in kind.fields if chance.random() < 0.7
            }
        return "words" if name in ("text", "notes", "reason", "subject", "name") else chance.choice(self.known)

    def event(self) -> dict[str, Any]:
        """A platform's event."""
        chance = self.chance
        data = {
            name: self.changed(chance.choice(self.known)) for name in chance.sample(EVENT_FIELDS, chance.randint(0, 6))
        }
        kind = chance.choice(PLATFORM_EVENTS)
        if kind == "message.created" and chance.random() < 0.5:
            data = {"message_id": f"m_{chance.randrange(10**6)}", "text": "words", "purpose": "customer"}
        if kind == "conversation.started" and chance.random() < 0.5:
            data = {"channel": "web", "queue": "support", "customer": {"id": "cus_1", "name": "Dana"}}
        number = chance.randrange(10**6)
        about = {"id": f"evt_{number}", "type": kind, "conversation_id": chance.choice(self.known), "at": number}
        return about | {"data": data}

    def changed(self, thing: Any) -> Any:
        """The same with one thing about it changed."""
        chance = self.chance
        if not isinstance(thing, dict) or not thing or chance.random() < 0.003:
            return chance.choice(ODD) if chance.random() < 0.5 else thing
        name = chance.choice(list(thing))
        if name == "id" and chance.random() < 0.97:
            return thing  # without an id that can be used it ends the socket, and with it what was built up on it
        match chance.randrange(6):
            case 0:
                return {key: value for key, value in thing.items() if key != name}
            case 1:
                return thing | {chance.choice(("extra", "", "cmd", "req", "conversation_id")): chance.choice(ODD)}
            case 2:
                return thing | {name: self.changed(thing[name])}
            case 3:
                return thing | {name: chance.choice(self.known)}
            case _:
                return thing | {name: chance.choice(ODD)}

    def broken(self, text: str) -> str:
        """The text with something torn out, doubled, put in, or cut off."""
        chance = self.chance
        at = chance.randrange(len(text) + 1)
        length = chance.randint(1, 8)
        match chance.randrange(6):
            case 0:
                return text[:at]
            case 1:
                return text[:at] + text[at + length :]
            case 2:
                return text[:at] + text[max(0, at - length) : at] + text[at:]
            case 3:
                return (
                    text[:at]
                    + "".join(chr(chance.choice((0, 9, 34, 92, 123, 125, 0x2028, 0xFFFF))) for _ in range(2))
                    + text[at:]
                )
            case 4:
                return text.replace('"', "'", chance.randint(1, 3))
            case _:
                return text + chance.choice(("}", "]", ",", "\n", "\n\n", " {", "\x00", "\ufeff"))


def wire_bytes(chance: random.Random) -> bytes:
    """Bytes as a client could send them after its handshake: frames in and out of order, and noise."""
    return b"".join(_piece(chance) for _ in range(chance.randint(1, 8)))


def _piece(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.06:
        return chance.randbytes(chance.randint(1, 30))
    opcode = chance.choice((1, 1, 1, 1, 0, 0, 2, 8, 9, 10, *((3, 7, 11, 15) if kind < 0.1 else ())))
    final = chance.random() < 0.8 or opcode >= 8
    reserved = chance.choice((0x10, 0x20, 0x40)) if chance.random() < 0.01 else 0
    size = chance.choice((0, 1, 2, 3, 10, 124, 125, 126, 127, 300)) if chance.random() < 0.97 else 65_600
    if opcode >= 8 and chance.random() < 0.95:
        size = min(size, 125)
    payload = bytes(chance.choices(b'abc{}"\n', k=size)) if chance.random() < 0.9 else chance.randbytes(size)
    if opcode == 8 and size >= 2:
        payload = struct.pack("!H", chance.choice((1000, 1001, 1005, 1006, 3000, 4429, 4999, 5000, 0))) + payload[2:]
    return _framed(chance, opcode | (0x80 if final else 0) | reserved, payload)


def _framed(chance: random.Random, first: int, payload: bytes) -> bytes:
    masked = chance.random() < 0.99
    size = len(payload)
    if chance.random() < 0.005:
        size = chance.choice((size + 1, 1 << 20, 1 << 40, (1 << 64) - 1))  # says more than there is
    if size < 126 and chance.random() < 0.99:
        head = bytes((first, size | (0x80 if masked else 0)))
    elif size < 65_536 and chance.random() < 0.99:
        head = bytes((first, 126 | (0x80 if masked else 0))) + struct.pack("!H", size)
    else:
        head = bytes((first, 127 | (0x80 if masked else 0))) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = chance.randbytes(4)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
