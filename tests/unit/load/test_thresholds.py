"""Limits on a report: how they are written, what they find, when they fail."""

import pytest

from clients.load.figures import spread
from clients.load.thresholds import Threshold, UnknownKey, judge, look_up, parse_threshold

REPORT = {
    "lost": 0,
    "monitor_frame_ms": spread([1.0, 2.0, 3.0, 40.0]),
    "snapshot_ms": spread([]),
    "results": {"accepted": 7},
    "readers": {"ratio": None},
    "machine": {"cpu": "any"},
}


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("lost>0", Threshold("lost", ">", 0)),
        (" monitor_frame_ms.p99 >= 30.5 ", Threshold("monitor_frame_ms.p99", ">=", 30.5)),
        ("sent<=1e3", Threshold("sent", "<=", 1000)),
        ("a.b.c<-1", Threshold("a.b.c", "<", -1)),
    ],
)
def test_a_threshold_is_a_path_a_relation_and_a_number(text: str, threshold: Threshold) -> None:
    """Each relation is read, with or without spaces."""
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize(
    "text", ["", "lost", "lost>", ">3", "lost=3", "lost>x", "lost>nan", "lost>inf", "a..b>1", "a.>1"]
)
def test_what_is_no_threshold_is_refused(text: str) -> None:
    """The refusal names the text."""
    with pytest.raises(ValueError, match=r"isn't a"):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("lost", 0),
        ("monitor_frame_ms.p99", 40),
        ("monitor_frame_ms.count", 4),
        ("results.accepted", 7),
        ("results.store_unavailable", 0),
        ("snapshot_ms.count", 0),
    ],
)
def test_a_path_leads_to_a_number(path: str, value: float) -> None:
    """Dots go down; a result that never came was counted no times."""
    assert look_up(REPORT, path) == value


@pytest.mark.parametrize("path", ["snapshot_ms.p99", "readers.ratio"])
def test_nothing_measured_is_no_number(path: str) -> None:
    """A percentile of no values isn't a 0 that any limit would let pass."""
    assert look_up(REPORT, path) is None
    assert judge(Threshold(path, ">", 1e9), REPORT).failed


@pytest.mark.parametrize(
    "path", ["nothing", "monitor_frame_ms", "monitor_frame_ms.p98", "machine.cpu", "lost.p99", "results", "takeovers.x"]
)
def test_a_path_to_nowhere_is_refused(path: str) -> None:
    """Unknown keys, tables and words are no numbers."""
    with pytest.raises(UnknownKey, match=path.split(".")[0]):
        look_up(REPORT, path)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("monitor_frame_ms.p99>39", True),
        ("monitor_frame_ms.p99>40", False),
        ("monitor_frame_ms.p99>=40", True),
        ("monitor_frame_ms.p50<2", False),
        ("monitor_frame_ms.p50<2.1", True),
        ("monitor_frame_ms.p50<=2", True),
    ],
)
def test_a_run_fails_where_the_relation_holds(text: str, failed: bool) -> None:
    """Each relation is that of its sign, equality included where it says so."""
    verdict = judge(parse_threshold(text), REPORT)
    assert verdict.failed is failed
    assert text.partition("p")[0] in str(verdict)
