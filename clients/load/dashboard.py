"""
The hub's Grafana dashboard, and whether a Prometheus has what it shows.

`python -m clients.load.stack --check` asks for every expression and prints the table.
"""

import asyncio
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from clients.http import HttpClient
from clients.wire import ClientError

FILES: Final = Path(__file__).parents[2] / "docs" / "stack"  # what docker-compose.yml mounts, too
DASHBOARD: Final = FILES / "grafana" / "dashboards" / "hub.json"
CHECK_S: Final = 90.0
LOOK_S: Final = 1.0
RATE_RANGE: Final = "15s"  # of a rate, where Grafana would take four times its scrape interval


@dataclass(frozen=True, slots=True)
class Shown:
    """One expression of the dashboard, and the panel that shows it."""

    panel: str
    expression: str

    @property
    def may_be_empty(self) -> bool:
        """True where hubs that deliver to no provider, and refuse nobody, have nothing to show."""
        return "hub_outbound_" in self.expression or "hub_refused_" in self.expression


def shown_by(dashboard: Mapping[str, Any]) -> list[Shown]:
    """Every expression of a Grafana dashboard, in the order of its panels."""
    return [
        Shown(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]


def dashboard() -> list[Shown]:
    """Every expression of the hub's dashboard."""
    return shown_by(json.loads(DASHBOARD.read_text("utf-8")))


def as_asked(expression: str) -> str:
    """The expression as Prometheus takes it: for all hubs, with a range instead of Grafana's variable."""
    return expression.replace("$__rate_interval", RATE_RANGE).replace("$node", ".*")


class Prometheus:
    """A Prometheus server's HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = HttpClient(url)

    async def ready(self) -> bool:
        """True where it answers queries."""
        try:
            return (await self._http.request("GET", "/-/ready")).status == 200
        except OSError:
            return False

    async def values(self, expression: str) -> list[float]:
        """
        The value of each series that an expression has now; a quantile of nothing is none.

        Raises:
            ClientError: It isn't an expression, or Prometheus failed; with Prometheus's sentence.
        """
        answer = orjson.loads((await self._http.request("GET", f"/api/v1/query?query={quote(expression)}")).body)
        if answer["status"] != "success":
            raise ClientError(f"{answer.get('error', answer)}: {expression}")
        values = (float(series["value"][1]) for series in answer["data"]["result"])
        return [value for value in values if not math.isnan(value)]

    async def close(self) -> None:
        """Close the connection."""
        await self._http.close()


async def check(prometheus: Prometheus, shown: Sequence[Shown]) -> tuple[dict[Shown, list[float]], bool]:
    """
    What each expression has, and whether all that can't be empty have something within `CHECK_S`.

    Raises:
        ClientError: Prometheus refused an expression.
    """
    found: dict[Shown, list[float]] = {}
    until = time.monotonic() + CHECK_S
    wanted = {one for one in shown if not one.may_be_empty}
    while wanted - found.keys() and time.monotonic() < until:
        for one in shown:
            if one not in found and (values := await prometheus.values(as_asked(one.expression))):
                found[one] = values
        await asyncio.sleep(LOOK_S)
    return found, wanted <= found.keys()


def table(shown: Iterable[Shown], found: Mapping[Shown, Sequence[float]]) -> str:
    """One line for each expression: panel, number of series, smallest and largest value."""
    head = f"{'panel':<36}{'series':>8}{'least':>14}{'most':>14}  expression"
    rows = [head, "-" * len(head)]
    for one in shown:
        values = found.get(one, ())
        span = f"{min(values):>14.6g}{max(values):>14.6g}" if values else f"{'-':>14}{'-':>14}"
        rows.append(f"{one.panel:<36}{len(values):>8}{span}  {one.expression}")
    return "\n".join(rows)
