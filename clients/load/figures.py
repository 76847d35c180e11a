"""Figures of a load test: percentiles, targets, tables; pure."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all don't exceed; 0.0 of none. `values` are sorted."""
    if not values:
        return 0.0
    return values[min(len(values) - 1, max(0, -int(-share * len(values) // 1) - 1))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p90, p99, p99.9 and maximum, in the values' own unit."""
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    figures = {name: round(percentile(ordered, share), 3) for name, share in shares.items()}
    return {"count": len(ordered), **figures, "max": round(ordered[-1], 3) if ordered else 0.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One measured figure with its target.

    `at_least` says in which direction it is good; `ratio` above 1 is better than the target.
    """

    name: str
    unit: str
    target: float
    measured: float
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """How many times better than the target."""
        worse, better = (self.target, self.measured) if self.at_least else (self.measured, self.target)
        return better / worse if worse else float("inf")

    @property
    def passed(self) -> bool:
        """True where the target is met. Nothing measured is not met."""
        return self.measured > 0 and self.ratio >= 1

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "ratio": round(self.ratio, 3), "passed": self.passed}


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text: target, measured, ratio, pass or fail."""
    head = f"{'measurement':<58}{'target':>12}{'measured':>12}{'ratio':>8}  result"
    rows = [
        f"{each.name + ', ' + each.unit:<58}{('>= ' if each.at_least else '<= ') + f'{each.target:g}':>12}"
        f"{each.measured:>12.1f}{each.ratio:>8.2f}  {'pass' if each.passed else 'FAIL'}"
        for each in figures
    ]
    return "\n".join([head, "-" * len(head), *rows])


def machine() -> dict[str, Any]:
    """What the figures were taken on; no names or paths."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
