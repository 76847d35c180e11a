"""Counting: distributions as Prometheus has them."""

import gc

import pytest

from hub.metrics import SECONDS, Distribution, Meter


def test_each_value_is_in_the_first_bucket_that_holds_it() -> None:
    """Buckets add up: each counts what is at most its bound; what is above all is in the last alone."""
    one = Distribution((1, 2, 5))
    for value in (0, 1, 1.5, 2, 5, 6):
        one.add(value)
    assert list(one.buckets()) == [("1", 2), ("2", 4), ("5", 5), ("+Inf", 6)]
    assert one.total == 15.5


@pytest.mark.parametrize("value", [*SECONDS, 0.0, 100.0])
def test_sums_and_counts_agree(value: float) -> None:
    """One value is one count in one bucket and all behind it."""
    one = Distribution(SECONDS)
    one.add(value)
    counts = [count for _, count in one.buckets()]
    assert counts == sorted(counts)
    assert (counts[-1], one.count, one.total) == (1, 1, value)


def test_scripts_have_a_distribution_each() -> None:
    """By name, made when first asked for."""
    meter = Meter()
    meter.script_s["append"].add(0.001)
    assert (meter.script_s["append"].count, meter.script_s["commit"].count) == (1, 0)


def test_the_collectors_runs_are_timed() -> None:
    """Each run is one value, until the watching ends."""
    meter = Meter()
    stop = meter.watch_collector()
    gc.collect()
    stop()
    counted = meter.collector_s.count
    assert counted >= 1
    assert meter.collector_s.total > 0
    gc.collect()
    assert meter.collector_s.count == counted
