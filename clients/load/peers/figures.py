"""Figures of a comparison: medians with their ranges, ratios round by round, targets, the table; pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HUB = "hub"


@dataclass(frozen=True, slots=True)
class Range:
    """The median of what some rounds measured, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range":
        """
        Sum up one or more values.

        Raises:
            ValueError: There are none.
        """
        if not values:
            raise ValueError("a range needs one value at least")
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)}-{short(self.high)})"

    def as_json(self) -> dict[str, float]:
        """For the report."""
        return {"median": self.median, "min": self.low, "max": self.high}


def short(value: float) -> str:
    """Three figures that count, whole numbers from 1,000 on with separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: what the hub measured, and right after it a peer; names to figures (a peer's 0 is no figure)."""

    peer: str
    hub: dict[str, float]
    other: dict[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    """
    One figure that is compared.

    `against` maps a peer to what the hub's figure may be as a multiple of the peer's (with `more`: must be at least);
    `at_most` is a limit for the hub's figure itself. A peer that isn't in `against` is shown without a target.
    """

    scenario: str
    figure: str
    title: str
    unit: str
    against: dict[str, float]
    at_most: float | None = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line of the table: a figure of the hub, or of a peer with the hub's ratio to it.

    `passed` is None where the line has no target.
    """

    question: Question
    server: str
    value: Range
    ratio: Range | None
    target: float | None
    passed: bool | None

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "scenario": self.question.scenario,
            "figure": self.question.title,
            "unit": self.question.unit,
            "server": self.server,
            "value": self.value.as_json(),
            "hub_to_this": self.ratio.as_json() if self.ratio else None,
            "target": self.target,
            "passed": self.passed,
        }


def lines_of(question: Question, pairs: Sequence[Pair]) -> list[Line]:
    """The hub's line, then one for each peer that was measured; the medians are judged."""
    name = question.figure
    own = [pair.hub[name] for pair in pairs if name in pair.hub]
    if not own:
        return []
    value = Range.of(own)
    within = None if question.at_most is None else value.median <= question.at_most
    lines = [Line(question, HUB, value, None, question.at_most, within)]
    for peer in dict.fromkeys(pair.peer for pair in pairs):
        rounds = [pair for pair in pairs if pair.peer == peer and name in pair.hub and pair.other.get(name)]
        both = [(pair.hub[name], pair.other[name]) for pair in rounds]
        if not both:
            continue
        ratio = Range.of([hub / other for hub, other in both])
        target = question.against.get(peer)
        passed = None if target is None else ratio.median >= target if question.more else ratio.median <= target
        lines.append(Line(question, peer, Range.of([other for _, other in both]), ratio, target, passed))
    return lines


def missed(lines: Sequence[Line]) -> list[Line]:
    """Those whose target was not reached."""
    return [line for line in lines if line.passed is False]


def table(lines: Sequence[Line]) -> str:
    """The lines as text, median (lowest-highest) each, one paragraph a figure."""
    head = f"{'':<4}{'server':<12}{'median (range)':<32}{'hub to it (range)':<26}{'target':<12}result"
    shown = [head, "-" * len(head)]
    last: Question | None = None
    for line in lines:
        if line.question is not last:
            last = line.question
            shown.append(f"{last.scenario}  {last.title}, {last.unit}")
        sign = ">=" if line.question.more and line.ratio else "<="
        target = "" if line.target is None else f"{sign} {line.target:g}"
        result = {None: "", True: "pass", False: "FAIL"}[line.passed]
        ratio = str(line.ratio or "")
        shown.append(f"{'':<4}{line.server:<12}{line.value!s:<32}{ratio:<26}{target:<12}{result}".rstrip())
    return "\n".join(shown)
