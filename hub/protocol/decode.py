"""
Incoming frames: text in, commands out, and whatever is wrong with them as values.

Reading has a fast half and a slow one. The fast one is a single typed decode per line. Only when it fails the line is
read again without types, to tell apart what gets an error answer (`Malformed`: an object with a usable `id`) from what
ends the socket (`Fatal`). Nothing raises, whatever comes: depth, size and encoding included.
"""

from dataclasses import dataclass
from typing import Any, Union

from msgspec import MsgspecError
from msgspec.json import Decoder

from hub.domain.errors import Refused
from hub.protocol.close import CLOSE_REASONS, Close
from hub.protocol.commands import ENDPOINT_COMMANDS, Command, Pong, tag_of
from hub.protocol.explain import explain, invalid, printable, read_leniently
from hub.protocol.fields import COMMAND_ID_MAX

ENDPOINTS = ("supervisor", "agent", "connector", "customer")
UNREADABLE = (MsgspecError, UnicodeError, RecursionError)
_KNOWN = frozenset(tag_of(kind) for kinds in ENDPOINT_COMMANDS.values() for kind in kinds)
_TAKEN = {endpoint: frozenset(map(tag_of, kinds)) for endpoint, kinds in ENDPOINT_COMMANDS.items()}
_DECODERS: dict[str, Decoder[Any]] = {
    endpoint: Decoder(Union[kinds])  # noqa: UP007  a union made from a tuple has no other spelling
    for endpoint, kinds in ENDPOINT_COMMANDS.items()
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """An object that asks for nothing we can do: `id` gets the error `refused`, the socket stays."""

    id: int
    refused: Refused


@dataclass(frozen=True, slots=True)
class Fatal:
    """The peer doesn't speak this protocol: close with `code` and `reason`; nothing after it was read."""

    code: int
    reason: str


Decoded = Command | Pong | Malformed | Fatal


def decode_frame(text: str, endpoint: str) -> list[Decoded]:
    """
    The commands of a text frame in their order; never raises.

    A frame holds one object, on however many lines, or several separated by newlines. Empty lines are skipped; a frame
    of nothing else is `Fatal`. A `Fatal` is always the last.
    """
    if "\n" not in text:
        return [_decode_line(text, endpoint)]
    decoded: list[Decoded] = []
    for line in filter(str.strip, text.split("\n")):
        decoded.append(_decode_line(line, endpoint))
        if isinstance(decoded[-1], Fatal):
            break
    if not decoded or isinstance(decoded[0], Fatal):
        return [_decode_line(text, endpoint)]  # nothing at all, or one object whose first line alone is no JSON
    return decoded


def _decode_line(line: str, endpoint: str) -> Decoded:
    try:
        command: Command | Pong = _DECODERS[endpoint].decode(line)
    except UNREADABLE as error:
        return _diagnose(line, endpoint, error)
    return command


def _diagnose(line: str, endpoint: str, error: Exception) -> Decoded:
    """What `line` is, given that it is no command of this endpoint because of `error`."""
    try:
        value = read_leniently(line)
    except ValueError:
        return Fatal(Close.BAD_FRAME, "not JSON" if line.strip() else "empty frame")
    if not isinstance(value, dict):
        return Fatal(Close.BAD_FRAME, "not an object")
    cmd = value.get("cmd")
    if cmd == "pong":
        return Pong()
    command_id = value.get("id")
    if type(command_id) is not int or not 1 <= command_id <= COMMAND_ID_MAX:
        return Fatal(Close.BAD_FRAME, "no id")
    return Malformed(command_id, _refusal(cmd, endpoint, error))


def _refusal(cmd: object, endpoint: str, error: Exception) -> Refused:
    if cmd is None:
        return invalid("cmd", "Expected the field `cmd`, got none.")
    if not isinstance(cmd, str):
        return invalid("cmd", "At `cmd`: Expected the name of a command, got something that isn't a string.")
    if cmd not in _KNOWN:
        return invalid("cmd", f"Expected a command of this hub, got `{printable(cmd)}`.")
    if cmd not in _TAKEN[endpoint]:
        return invalid("cmd", f"Expected a command of the {endpoint} endpoint, got `{cmd}`.")
    return explain(error)


assert set(ENDPOINTS) == set(ENDPOINT_COMMANDS)
assert CLOSE_REASONS[Close.BAD_FRAME]
