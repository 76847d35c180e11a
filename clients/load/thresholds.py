"""
Limits that a report must keep: `monitor_frame_ms.p99>30` fails where the report holds more than 30; pure.

A limit names any number of the report by its dotted path. What was never measured keeps no limit: a percentile of
nothing is not a good one.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
# Counts by code: any code may turn up, and one that didn't was counted no times.
OPEN_ENDED: Final = frozenset({"results", "errors"})
_FORM: Final = re.compile(r"\s*([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\s*(>=|<=|>|<)\s*(\S+)\s*")


class UnknownKey(Exception):
    """The report has no such number."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The run fails where `path` of its report stands in this relation to `limit`."""

    path: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.path} {self.relation} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a threshold; `value` None: nothing was measured, which is no success."""

    threshold: Threshold
    value: float | None

    def __str__(self) -> str:
        value = "nothing was measured" if self.value is None else f"it is {self.value:g}"
        return f"{self.threshold}: {value}"

    @property
    def failed(self) -> bool:
        """True where the run must fail."""
        return self.value is None or OPERATORS[self.threshold.relation](self.value, self.threshold.limit)


def parse_threshold(text: str) -> Threshold:
    """
    Read `key.of.the.report>30`, with one of > < >= <=.

    Raises:
        ValueError: It isn't of this form, or the limit is no number.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} isn't a key of the report, one of > < >= <=, and a number")
    path, relation, number = found.groups()
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"{number!r} in {text!r} isn't a number")
    return Threshold(path, relation, limit)


def look_up(report: Mapping[str, Any], path: str) -> float | None:
    """
    The number at a dotted path; None where it sums up no measurement at all.

    Raises:
        UnknownKey: There is none; the text says which keys there are.
    """
    first, _, rest = path.partition(".")
    if first in OPEN_ENDED and first in report and rest:
        return float(report[first].get(rest, 0))
    at: Any = report
    for name in path.split("."):
        if not isinstance(at, Mapping) or name not in at:
            there = ", ".join(map(str, at)) if isinstance(at, Mapping) else "none below it"
            raise UnknownKey(f"{path!r} is no key of this report: no {name!r}; there are: {there}")
        above, at = at, at[name]
    if at is None:
        return None
    if isinstance(at, bool) or not isinstance(at, int | float):
        below = f"; name one of: {', '.join(map(str, at))}" if isinstance(at, Mapping) else ""
        raise UnknownKey(f"{path!r} is no number{below}")
    if name != "count" and above.get("count") == 0:
        return None
    return float(at)


def judge(threshold: Threshold, report: Mapping[str, Any]) -> Verdict:
    """Hold a report against a threshold; raises `UnknownKey`."""
    return Verdict(threshold, look_up(report, threshold.path))
