"""The report as text: every number under the path that names it, and what must be 0."""

from typing import Any

import pytest

from clients.load.figures import spread
from clients.load.report import LOSSES, losses, progress_text, table_of
from clients.load.thresholds import judge, look_up, parse_threshold

REPORT: dict[str, Any] = {
    "sent": 2000,
    "lost": 0,
    "monitor_frame_ms": spread([float(n) for n in range(1, 101)]),
    "snapshot_ms": spread([]),
    "errors": {},
    "takeovers": {"unseen": 0, "notice_ms": spread([5.25])},
    "readers": {"ratio": None, "dropped": 3},
    "memory": {"node_mib": 56.25},
    "machine": {"cores": 2},
}


def rows(table: str) -> dict[str, list[str]]:
    """The table's rows by their first word."""
    return {line.split()[0]: line.split()[1:] for line in table.splitlines() if line}


def test_the_table_has_every_number_under_its_path() -> None:
    """What a row is called is what a threshold would name."""
    table = rows(table_of(REPORT, []))
    assert table["monitor_frame_ms"] == ["100", "50.0", "90.0", "99.0", "100.0", "100.0"]
    assert table["takeovers.notice_ms"][:2] == ["1", "5.2"]
    assert table["sent"] == ["2000"]
    assert table["memory.node_mib"] == ["56.25"]
    assert look_up(REPORT, "memory.node_mib") == 56.25
    assert "machine.cores" not in table


def test_what_was_not_measured_is_a_dash() -> None:
    """No time and no ratio of nothing is printed as a number."""
    table = rows(table_of(REPORT, []))
    assert table["snapshot_ms"] == ["0", "-", "-", "-", "-", "-"]
    assert table["readers.ratio"] == ["-"]


def test_columns_stand_under_their_heads() -> None:
    """All rows of times end where the head ends."""
    head, *others = table_of(REPORT, []).split("\n\n", maxsplit=1)[0].splitlines()
    assert {len(line) for line in others} == {len(head)}


def test_thresholds_are_listed_with_their_values() -> None:
    """One line each says pass or FAIL."""
    verdicts = [judge(parse_threshold(text), REPORT) for text in ("monitor_frame_ms.p99>30", "lost>0")]
    *_, first, second = table_of(REPORT, verdicts).splitlines()
    assert first == "FAIL  fails if monitor_frame_ms.p99 > 30: it is 99"
    assert second == "pass  fails if lost > 0: it is 0"


def test_a_run_without_losses_has_none() -> None:
    """Zeros, absent scenarios and dropped slow readers are fine."""
    assert losses(REPORT) == []


@pytest.mark.parametrize("path", LOSSES)
def test_each_loss_is_named(path: str) -> None:
    """Any key that must be 0 and isn't makes one sentence."""
    name, _, rest = path.partition(".")
    assert losses({name: {rest: 2} if rest else 2}) == [f"{path} is 2, not 0"]


def test_failed_requests_are_losses() -> None:
    """Requests that failed as a whole count by their code."""
    assert losses({"errors": {"store_unavailable": 3}}) == ["errors.store_unavailable is 3, not 0"]


def test_progress_is_one_line() -> None:
    """Seconds, messages, the last second's p99 and sockets; a dash where nothing came."""
    assert progress_text(12, 2400, 2389, 6.14, 212) == "  12 s  sent 2400  delivered 2389  p99 6.1 ms  sockets 212"
    assert progress_text(1, 0, 0, None, 3) == "   1 s  sent 0  delivered 0  p99 -  sockets 3"
