"""
What a client reads off a socket, as values.

    Event                      something happened; for whoever iterates
    Line                       one decoded object of a frame: an answer, an error or an event
    ClientError
    ├── HubError               a command was refused: code, sentence, details
    └── ConnectionEnded        the hub will not have this client back without a change on the client's side
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

SUBPROTOCOL: Final = "hub.v1"
FRAME_BYTES_MAX: Final = 64 * 1024  # what the hub takes from us in one frame
HUB_FRAME_BYTES_MAX: Final = 1024 * 1024  # what the hub may send in one frame


class ClientError(Exception):
    """Anything that the SDK raises of its own."""


class HubError(ClientError):
    """
    A command that the hub refused.

    `code` is stable (protocol, section 2), `message` is for a person, `retryable` says whether sending the same again
    can help, `details` is JSON (for `monitor_held` the holder, for `target_ambiguous` the candidates, ...).
    """

    def __init__(self, code: str, message: str, retryable: bool = False, details: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.details: dict[str, Any] = details or {}


class ConnectionEnded(ClientError):
    """
    The connection is over and a reconnect would not help (protocol, section 1, close codes that say "stops").

    `code` is the close code, or the HTTP status of a refused handshake; `error` the refusal of hello, if any.
    """

    def __init__(self, code: int, reason: str, error: HubError | None = None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.error = error


class Event(msgspec.Struct, frozen=True):
    """
    One event of the hub.

    `cursor` is set for a transcript's events only; `at` is Unix milliseconds UTC (0 where the hub gave none); `data`
    is as protocol section 3 to 5 tell it. Two events are the SDK's own: `session.started` (each hello answered:
    `session`, `resumed`, `status`, `lost`: conversations whose continuation a new session cannot promise) and
    `session.interrupted` (`code`, `reason`).
    """

    event: str
    conversation_id: str | None = None
    cursor: str | None = None
    at: int = 0
    data: dict[str, Any] = {}


class Line(msgspec.Struct, frozen=True):
    """One object of a frame, undecided: `event` is set for events, `ok` or `error` for answers to `id`."""

    id: int | None = None
    ok: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    event: str | None = None
    conversation_id: str | None = None
    cursor: str | None = None
    at: int | None = 0
    data: dict[str, Any] | None = None

    def as_event(self) -> Event:
        """The event in this line; only where `event` is set."""
        assert self.event is not None
        return Event(self.event, self.conversation_id, self.cursor, self.at or 0, self.data or {})

    def as_error(self) -> HubError:
        """The refusal in this line; only where `error` is set."""
        error = self.error or {}
        return HubError(
            str(error.get("code", "unknown")),
            str(error.get("message", "")),
            bool(error.get("retryable", False)),
            error.get("details") or {},
        )


_decoder = msgspec.json.Decoder(Line)


def lines_of(frame: str | bytes) -> Iterator[Line]:
    r"""
    Objects of a frame, in order; the hub batches several into one frame, separated by `\n`.

    Raises:
        msgspec.DecodeError: The frame is not what the protocol says; the connection can't be trusted any more.
    """
    if isinstance(frame, str):
        frame = frame.encode()
    for part in frame.split(b"\n"):
        if part:
            yield _decoder.decode(part)


def offset_of(cursor: str) -> int | None:
    """The offset in a cursor (what follows the last `-`), or None where there is none; all else is opaque."""
    tail = cursor.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else None


def endpoint_url(url: str, path: str) -> str:
    """
    Socket address for `path` (such as `/v1/agent`) from a hub's address.

    Takes `http(s)://` and `ws(s)://`, with or without the endpoint's path.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss"):
        raise ValueError(f"the hub's address begins with http, https, ws or wss, not with {parts.scheme!r}")
    base = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, base if base.endswith(path) else base + path, "", ""))


def http_path(url: str, route: str) -> str:
    """Path of the HTTP route `route` behind a hub's address of either kind (which may have a path of its own)."""
    base = urlsplit(url).path.rstrip("/")
    for endpoint in ("/v1/supervisor", "/v1/agent", "/v1/connector", "/v1/customer"):
        base = base.removesuffix(endpoint)
    return base + route


def is_loopback(url: str) -> bool:
    """True where the address is this host's own; a proxy from the environment must not get such traffic."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
