"""
What to do when a connection ends: a pure table and the arithmetic of waiting.

The table is the protocol's (section 1, close codes). Whatever it doesn't name (1001, 1006, 1011, 1012, a refused TCP
connection) is a broken line: resume, with full jitter, so that a thousand clients don't come back at once.
"""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Move(Enum):
    """What follows the end of a connection."""

    STOP = "stop"  # give up; the application must change something
    FRESH = "fresh token"  # ask the token callback, then connect
    RETRY = "retry"  # connect again after a random part of a growing bound
    WAIT = "wait"  # connect again after exactly what the hub said
    NOW = "now"  # connect again at once


CLOSE_CODES: Final = {
    1009: Move.STOP,
    4400: Move.STOP,
    4401: Move.FRESH,
    4403: Move.STOP,
    4408: Move.RETRY,
    4409: Move.STOP,
    4413: Move.STOP,
    4429: Move.RETRY,
    4501: Move.WAIT,
    4502: Move.RETRY,
    4503: Move.RETRY,
}
HTTP_STATUSES: Final = {400: Move.STOP, 401: Move.FRESH, 403: Move.STOP, 404: Move.STOP, 426: Move.STOP}


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a connection ended.

    `code` is the close code, 1006 for a line that broke, or the HTTP status of a refused handshake; `retry_ms` is what
    the hub's `closing` said.
    """

    code: int
    reason: str = ""
    retry_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds of the waiting, in milliseconds: the n-th wait is uniform in [0, min(cap_ms, base_ms * 2**n)]."""

    base_ms: float = 250
    cap_ms: float = 10_000

    def delay_s(self, failures: int, chance: random.Random) -> float:
        """Seconds to wait after `failures` endings in a row ("full jitter")."""
        bound = min(self.cap_ms, self.base_ms * 2.0 ** min(failures, 30))
        return chance.uniform(0, bound) / 1000


def silence_limit_s(heartbeat_ms: int, slack_s: float, monitor_ping_ms: int) -> float:
    """
    Seconds without a frame after which the hub is gone (protocol, section Heartbeat).

    `monitor_ping_ms` is the hub's pace while one monitors, 0 where one doesn't or the hub hasn't said it: two pings and a
    half that didn't come tell as much as a heartbeat and its slack. Below a second any machine may be late by itself.
    """
    usual = heartbeat_ms / 1000 + slack_s
    pace_s = monitor_ping_ms / 1000
    return min(usual, max(2.5 * pace_s, pace_s + 1.0)) if monitor_ping_ms else usual


def move_after(ending: Ending) -> Move:
    """The table's row for an ending; WAIT only where the hub said for how long."""
    if ending.code < 1000:
        return HTTP_STATUSES.get(ending.code, Move.RETRY)
    move = CLOSE_CODES.get(ending.code, Move.RETRY)
    return Move.RETRY if move is Move.WAIT and ending.retry_ms is None else move
