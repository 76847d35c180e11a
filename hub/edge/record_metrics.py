"""What a node says of the records it keeps: seals of the ledger, what was erased. Whose they are is in the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from hub.fanout.records import Records


def record_metrics(records: Records) -> Iterator[Metric]:
    """The age has no sample where another node seals: the least of all nodes is the installation's."""
    age = GaugeMetricFamily("hub_ledger_seal_age_seconds", "Time since a seal covered all of the ledger.", labels=[])
    if (seconds := records.seal_age_s) is not None:
        age.add_metric([], seconds)
    yield age
    yield CounterMetricFamily("hub_ledger_seals", "Seals of the ledger made by this node.", records.seals)
    yield CounterMetricFamily("hub_erasures", "Erasures of customers finished by this node.", records.erasures_done)
    erased = CounterMetricFamily("hub_erased_conversations", "Conversations erased by this node.", labels=["why"])
    for why, count in sorted(records.erased.items()):
        erased.add_metric([why], count)
    yield erased
