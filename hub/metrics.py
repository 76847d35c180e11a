"""
What a node counts about itself while it works; `/metrics` reads it when asked.

Counting must cost next to nothing: plain numbers, and distributions that find their bucket by bisection. What would cost
more than that (how long a script took, how old an entry was when it was written to its sockets) is looked at one time in
`SAMPLED`.
"""

import gc
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final

SAMPLED: Final = 16
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CALLS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Distribution:
    """How often a value was at most each of `bounds` (ascending), how often it was any, and the sum of all."""

    __slots__ = ("_counts", "bounds", "count", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.count = 0
        self.total = 0.0
        self._counts = [0] * len(bounds)

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.total += value
        place = bisect_left(self.bounds, value)
        if place < len(self._counts):
            self._counts[place] += 1

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Upper bound and how many values were at most that, as Prometheus has them; `+Inf` last."""
        below = 0
        for bound, count in zip(self.bounds, self._counts, strict=True):
            below += count
            yield str(bound), below
        yield "+Inf", self.count


class Meter:
    """All that one node counts."""

    __slots__ = (
        *(
            "bytes",
            "collector_s",
            "deliveries",
            "follow_lag_s",
            "loop_lag_s",
            "pipeline_calls",
            "resets",
            "script_s",
            "slow_readers",
        ),
        *("view_changes", "view_rows", "writes"),
    )

    def __init__(self) -> None:
        self.deliveries = 0  # frames handed to sockets
        self.bytes = 0  # of them
        self.writes = 0  # what they were glued to
        self.view_changes = 0  # rows of the boards here that changed
        self.view_rows = 0  # rows sent to viewers for that; changes of a row within a tick are merged
        self.resets = 0  # snapshots sent because a position didn't fit
        self.slow_readers = 0  # sockets let go
        self.loop_lag_s = Distribution(SECONDS)  # how late the loop was
        self.collector_s = Distribution(SECONDS)  # how long the garbage collector stopped everything
        self.follow_lag_s = Distribution(SECONDS)  # from sending an entry to the store to writing it to sockets here
        self.pipeline_calls = Distribution(CALLS)  # calls in one write to the store
        self.script_s: defaultdict[str, Distribution] = defaultdict(lambda: Distribution(SECONDS))  # asked to answered

    def watch_collector(self) -> Callable[[], None]:
        """Time each of the collector's runs from now on (`gc.callbacks`); call what is returned to stop."""
        began = 0.0

        def ran(phase: str, _: dict[str, int]) -> None:
            nonlocal began
            if phase == "start":
                began = perf_counter()
            else:
                self.collector_s.add(perf_counter() - began)

        gc.callbacks.append(ran)
        return lambda: gc.callbacks.remove(ran)
