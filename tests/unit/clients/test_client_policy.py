"""The close-code table and the waiting."""

import random

import pytest

from clients.policy import Backoff, Ending, Move, move_after, silence_limit_s


@pytest.mark.parametrize(
    ("code", "move"),
    [
        (4400, Move.STOP),
        (4401, Move.FRESH),
        (4403, Move.STOP),
        (4408, Move.RETRY),
        (4409, Move.STOP),
        (4413, Move.STOP),
        (1009, Move.STOP),
        (4429, Move.RETRY),
        (4502, Move.RETRY),
        (4503, Move.RETRY),
        (1006, Move.RETRY),
        (1012, Move.RETRY),
        (403, Move.STOP),
        (401, Move.FRESH),
        (503, Move.RETRY),
    ],
)
def test_close_codes_lead_to_what_the_protocol_says(code: int, move: Move) -> None:
    """Each close code and handshake status has the consequence that the protocol's table gives it."""
    assert move_after(Ending(code)) is move


def test_draining_waits_only_where_the_hub_said_how_long() -> None:
    """4501 waits for its `retry_ms`; without one it is an ordinary retry."""
    assert move_after(Ending(4501, "", 1200)) is Move.WAIT
    assert move_after(Ending(4501)) is Move.RETRY


@pytest.mark.parametrize(
    ("monitor_ping_ms", "limit_s"), [(0, 35.0), (2_000, 5.0), (300, 1.3), (10_000, 25.0), (60_000, 35.0)]
)
def test_silence_while_monitoring_is_noticed_by_pings_that_are_missing(monitor_ping_ms: int, limit_s: float) -> None:
    """Two pings and a half, a second more than one at least, and never later than by the heartbeat and its slack."""
    assert silence_limit_s(25_000, 10.0, monitor_ping_ms) == limit_s


def test_backoff_is_uniform_below_a_growing_bound() -> None:
    """Full jitter: every wait lies between 0 and the bound, which doubles up to its cap."""
    backoff, chance = Backoff(base_ms=100, cap_ms=1000), random.Random(7)
    for failures, bound_s in ((0, 0.1), (1, 0.2), (3, 0.8), (4, 1.0), (40, 1.0)):
        waits = [backoff.delay_s(failures, chance) for _ in range(300)]
        assert 0 <= min(waits) < bound_s * 0.1
        assert bound_s * 0.9 < max(waits) <= bound_s
