"""
What to do after a try, and when an endpoint is left alone: decisions only, no clock, no chance of their own.

    step_after(outcome, ...)   Done, Wait or GiveUp
    Breaker                    failures in a row open it; after a while one call may look, and closes it or opens it again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hub.channels.port import Failed, Later, Outcome, Sent

REASON_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """`tries_max` tries or an age of `age_max_ms` end it; waits grow from `backoff_ms` up to `backoff_max_ms`."""

    tries_max: int
    age_max_ms: int
    backoff_ms: int
    backoff_max_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The provider has it; `status` is what its receipt says."""

    status: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Again after `delay_ms`; `uncounted`: the provider was not asked, so this was no try."""

    delay_ms: int
    reason: str
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never; `reason` is shown to who wrote it."""

    reason: str


Step = Done | Wait | GiveUp


def step_after(
    outcome: Outcome, *, tries: int, age_ms: int, paused_ms: int | None, limits: Limits, chance: Callable[[], float]
) -> Step:
    """
    What follows from the outcome of try number `tries` (from 1) of an action that is `age_ms` old.

    `paused_ms`: the endpoint was left alone, for so much longer; None where it was asked. `chance` gives [0, 1).
    """
    match outcome:
        case Sent(status=status):
            return Done(status)
        case Failed(reason=reason):
            return GiveUp(shown(reason))
        case Later(reason=reason, after_ms=after_ms):
            return _again(shown(reason), after_ms, tries, age_ms, paused_ms, limits, chance)


def _again(
    reason: str,
    after_ms: int,
    tries: int,
    age_ms: int,
    paused_ms: int | None,
    limits: Limits,
    chance: Callable[[], float],
) -> Step:
    left_ms = limits.age_max_ms - age_ms
    if paused_ms is None and tries >= limits.tries_max:
        return GiveUp(f"given up after {tries} tries: {reason}")
    if left_ms <= 0 or after_ms >= left_ms:
        return GiveUp(f"given up after {limits.age_max_ms // 1000} s: {reason}")
    if paused_ms is not None:
        # Those who wait for the same endpoint don't all come back in the same moment.
        return Wait(min(left_ms, paused_ms + int(chance() * limits.backoff_ms)), reason, uncounted=True)
    # "Full jitter": uniform between nothing and the bound, which spreads the load best
    # (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); what the provider asked for comes first.
    bound_ms = min(limits.backoff_max_ms, limits.backoff_ms << min(tries - 1, 40))
    return Wait(min(left_ms, after_ms + int(chance() * bound_ms)), reason)


def given_up_before(*, tries: int, age_ms: int, why: str, limits: Limits) -> str | None:
    """
    Why an action isn't even tried (again), or None: it is too old, or its tries ended the nodes that made them.

    `tries` counts the one that would be made now; `why` is what the last one said.
    """
    said = f": {why}" if why else ""
    if tries > limits.tries_max:
        return f"given up after {tries - 1} tries{said}"
    if age_ms >= limits.age_max_ms:
        return f"given up after {limits.age_max_ms // 1000} s{said}"
    return None


def shown(reason: str) -> str:
    """A reason as it may be shown: printable, and short."""
    return "".join(one if one.isprintable() else " " for one in reason)[:REASON_CHARS_MAX] or "no reason given"


@dataclass(frozen=True, slots=True)
class Breaker:
    """
    One endpoint as one node knows it; all times are of one monotonic clock, in ms.

    `open_until_ms` None: closed. Past it, one call at a time may look (`looking`).
    """

    failures: int = 0
    open_until_ms: int | None = None
    looking: bool = False

    def wait_ms(self, now_ms: int, open_ms: int) -> int:
        """0 where a call may be made now, else how long to leave the endpoint alone."""
        if self.open_until_ms is None:
            return 0
        if now_ms < self.open_until_ms:
            return self.open_until_ms - now_ms
        return open_ms if self.looking else 0

    def asked(self) -> Breaker:
        """A call is made."""
        return self if self.open_until_ms is None else replace(self, looking=True)

    def answered(self, *, well: bool, now_ms: int, failures_max: int, open_ms: int) -> Breaker:
        """That call has ended, `well` or not."""
        if well:
            return Breaker()
        failures = self.failures + 1
        opens = self.open_until_ms is not None or failures >= failures_max
        return Breaker(failures, now_ms + open_ms if opens else None)

    @property
    def state(self) -> str:
        """`closed`, `open`, or `half-open` while one call looks."""
        if self.open_until_ms is None:
            return "closed"
        return "half-open" if self.looking else "open"
