"""A load test's report as people read it: what was lost, a table of times and counts, a line of progress; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from clients.load.thresholds import Verdict

# Keys that must be 0, whatever else was asked for: something was lost, repeated, refused or broken off.
LOSSES: Final = (
    "lost",
    "refused",
    "gaps",
    "repeats",
    "closed",
    "agents.lost",
    "agents.answers_lost",
    "agents.answers_refused",
    "agents.undelivered",
    "takeovers.unseen",
    "takeovers.refused",
    "reconnects.not_resumed",
)
_HEAD: Final = "time since it was due, ms"
_COLUMNS: Final = {"count": "count", "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}
_UNLISTED: Final = ("machine", "failures")


def losses(report: Mapping[str, Any]) -> list[str]:
    """Sentences about everything that should be 0 and isn't."""
    numbers = dict(_numbers(report))
    found = [f"{path} is {numbers[path]:g}, not 0" for path in LOSSES if numbers.get(path)]
    return found + [f"{path} is {count:g}, not 0" for path, count in numbers.items() if path.startswith("errors.")]


def table_of(report: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """The report as text; each row begins with the path that a threshold would name."""
    times, numbers = list(_times(report)), dict(_numbers(report))
    width = max(len(path) for path in [_HEAD, *(path for path, _ in times), *numbers])
    lines = [f"{_HEAD:<{width}}" + "".join(f"{name:>10}" for name in _COLUMNS.values())]
    lines += [f"{path:<{width}}" + "".join(_cell(spread, key) for key in _COLUMNS) for path, spread in times]
    lines += ["", *(f"{path:<{width}}{_plain(number):>10}" for path, number in numbers.items())]
    if verdicts:
        lines += ["", *(f"{'FAIL' if verdict.failed else 'pass'}  fails if {verdict}" for verdict in verdicts)]
    return "\n".join(lines)


def progress_text(second: int, sent: int, delivered: int, p99_ms: float | None, sockets: int) -> str:
    """One line about the run so far; `p99_ms` is of the last second, None where nothing came in it."""
    p99 = "-" if p99_ms is None else f"{p99_ms:.1f} ms"
    return f"{second:>4} s  sent {sent}  delivered {delivered}  p99 {p99}  sockets {sockets}"


def _cell(spread: Mapping[str, float], key: str) -> str:
    if key == "count":
        return f"{spread[key]:>10}"
    return f"{spread[key]:>10.1f}" if spread["count"] else f"{'-':>10}"


def _plain(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:.0f}" if number == int(number) else f"{number:.2f}"


def _times(report: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, float]]]:
    for name, value in report.items():
        if isinstance(value, Mapping) and name not in _UNLISTED:
            if "p99" in value:
                yield before + name, value
            else:
                yield from _times(value, f"{before}{name}.")


def _numbers(report: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float | None]]:
    for name, value in report.items():
        if name in _UNLISTED:
            continue
        if isinstance(value, Mapping):
            if "p99" not in value:
                yield from _numbers(value, f"{before}{name}.")
        elif value is None or isinstance(value, int | float):
            yield before + name, value
