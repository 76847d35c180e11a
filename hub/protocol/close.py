"""Close codes of the sockets, and the HTTP status of each error code (protocol.md, sections 1, 2 and 6)."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from hub.domain.errors import CODES


class Close(IntEnum):
    """Why the hub closes a socket; each member's docstring-like comment says what the client does next."""

    BAD_FRAME = 4400  # not JSON, not an object, no id, binary or empty frame, a command before hello: stops
    UNAUTHENTICATED = 4401  # token missing, bad, expired, revoked: gets a new token, then connects
    NOT_PERMITTED = 4403  # role or Origin not allowed: stops
    NO_HELLO = 4408  # no hello in time: connects again
    RESUMED_ELSEWHERE = 4409  # the session lives on another socket now: stops
    TOO_BIG = 4413  # frame too big: stops
    TOO_MANY = 4429  # too many commands or connections: backs off with full jitter
    DRAINING = 4501  # this node goes away: resumes after its own `retry_ms`
    TOO_SLOW = 4502  # reads too slowly: resumes
    STORE_AWAY = 4503  # store unavailable too long: backs off, resumes


CLOSE_REASONS: Mapping[Close, str] = MappingProxyType(
    {
        Close.BAD_FRAME: "not JSON, not an object, no id, binary or empty frame, or a command before hello",
        Close.UNAUTHENTICATED: "token missing, bad, expired or revoked",
        Close.NOT_PERMITTED: "role or Origin not allowed here",
        Close.NO_HELLO: "no hello in time",
        Close.RESUMED_ELSEWHERE: "the session was resumed elsewhere",
        Close.TOO_BIG: "frame too big",
        Close.TOO_MANY: "too many commands or connections",
        Close.DRAINING: "this node is draining",
        Close.TOO_SLOW: "reads too slowly",
        Close.STORE_AWAY: "store unavailable too long",
    }
)

CONFLICT = 409
HTTP_STATUS: Mapping[str, int] = MappingProxyType(
    dict.fromkeys(CODES, CONFLICT)
    | {
        "schema_invalid": 400,
        "unauthenticated": 401,
        "not_permitted": 403,
        "unknown_conversation": 404,
        "too_large": 413,
        "rate_limited": 429,
        "store_unavailable": 503,
        "file_refused": 422,
        "unknown_file": 404,
    }
)
