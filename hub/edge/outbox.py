"""The outbox as operators see it: figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from hub.channels.delivery import Delivery


def delivery_metrics(delivery: Delivery) -> Iterator[Metric]:
    """What each configured connector's deliveries came to on this node, and what of it is in the store."""
    counters = {
        "hub_outbound_sent": ("Actions that a provider took.", "sent"),
        "hub_outbound_retried": ("Tries that have to be made again.", "retried"),
        "hub_outbound_failed": ("Actions that were given up.", "failed"),
    }
    for name, (text, field) in counters.items():
        counter = CounterMetricFamily(name, text, labels=["connector"])
        for connector, courier in delivery.couriers.items():
            counter.add_metric([connector], getattr(courier.tally, field))
        yield counter
    gauges = {
        "hub_outbound_waiting": "Conversations with something to send.",
        "hub_outbound_dead_letters": "Actions that were given up and are kept.",
        "hub_outbound_endpoints_open": "Endpoints that are left alone for a while, since they failed in a row.",
    }
    families = {name: GaugeMetricFamily(name, text, labels=["connector"]) for name, text in gauges.items()}
    for connector, courier in delivery.couriers.items():
        values = (courier.tally.waiting, courier.tally.dead, courier.endpoints.open)
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([connector], value)
    yield from families.values()
