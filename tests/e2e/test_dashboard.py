"""The Grafana dashboard: it shows what a running hub really counts, and says what it is."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from clients.load.dashboard import DASHBOARD, FILES, Shown, as_asked, shown_by
from tests.support.centre import Centre
from tests.support.fixtures import running
from tests.support.processes import ROOT, HubProcess, free_port
from tests.support.provider import new_secret, open_config, open_table

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
SHOWN = shown_by(BOARD)
GIVEN_BY_PROMETHEUS = {"node", "le"}  # the target's own label, and a histogram's
# What a panel must be there for, by a metric that it shows.
WANTED = {
    *(
        "hub_loop_lag_seconds",
        "hub_collector_seconds",
        "hub_deliveries_total",
        "hub_delivered_bytes_total",
        "hub_view_rows_total",
    ),
    *("hub_board_changes_total", "hub_resets_total", "hub_slow_readers_total", "hub_follow_age_seconds"),
    *("hub_follow_lag_seconds", "hub_script_seconds", "hub_pipeline_calls", "hub_sockets", "hub_monitors"),
    *("hub_store_ok", "hub_store_durable", "hub_store_vouched", "hub_nodes", "hub_takeovers_total"),
    *("hub_refused_total", "hub_ledger_seal_age_seconds", "hub_ledger_seals_total", "hub_erasures_total"),
    *("hub_erased_conversations_total", "hub_outbound_waiting", "hub_outbound_dead_letters"),
    *("hub_outbound_endpoints_open", "hub_outbound_sent_total", "hub_outbound_retried_total"),
    "hub_outbound_failed_total",
}


def names_in(expression: str) -> set[str]:
    """The metrics of an expression: its words that are no function, label, range, number or operator."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on)\s*\([^)]*\)|\b\d+[smhd]\b", " ", expression)
    words = set(re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\w*\s*\()", bare))
    return words - {"and", "or", "unless", "bool", "offset"}


def labels_in(expression: str) -> set[str]:
    """The labels of an expression: those it chooses by and those it groups by."""
    chosen = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
    grouped = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    return {*chosen, *(label.strip() for group in grouped for label in group.split(","))}


def metric_of(sample: str) -> str:
    """The metric that a sample's name belongs to: a histogram's parts are one."""
    return re.sub(r"_(bucket|sum|count)$", "", sample)


async def exposed(centre: Centre) -> tuple[set[str], set[str]]:
    """Names of all samples of the hub's metrics, and of all their labels."""
    text = (await centre.http.get(centre.hub.metrics)).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}


@pytest_asyncio.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Centre]:
    """An organization on a hub that has a connector, and allows a session one view."""
    table = open_table("shop", "acme", f"http://127.0.0.1:{free_port()}/hook", new_secret())
    config = open_config(table, limits="subscriptions_per_session = 1\n")
    async with running(HubProcess(tmp_path / "hub", config=config)) as centre:
        yield centre


async def test_the_hub_exposes_what_is_shown(busy: Centre) -> None:
    """Every metric of every expression, and every label but the target's, is in `/metrics` once something of each happened."""
    centre = busy
    ana, story = await centre.supervisor("ana"), await centre.story()
    await ana.command("view.subscribe", view="interactions")
    await ana.refused("rate_limited", "view.subscribe", view="queues")
    await story.monitored_by(ana)
    for number in range(40):  # scripts are sampled
        await story.customer_says(f"{number}")
    names, labels = await exposed(centre)
    assert {one: missing for one in SHOWN if (missing := names_in(one.expression) - names)} == {}
    shown_labels = {label for one in SHOWN for label in labels_in(one.expression)}
    assert shown_labels - labels <= GIVEN_BY_PROMETHEUS


def test_what_must_be_seen_is_shown() -> None:
    """Lag, deliveries, merges, resets, ages, scripts, sockets, monitors, the store, refusals, providers, records: by node."""
    shown = {metric_of(name) for one in SHOWN for name in names_in(one.expression)}
    assert shown >= WANTED
    for name in WANTED - {"hub_nodes"}:
        assert any("by (node" in one.expression for one in SHOWN if name in map(metric_of, names_in(one.expression))), (
            name
        )


def names_of_alerts() -> set[str]:
    """The metrics of all rules."""
    (group,) = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    return {metric_of(name) for rule in group["rules"] for name in names_in(rule["expr"])}


def test_alerts_are_about_what_is_shown() -> None:
    """Whoever is told of something finds it on the dashboard, so its metrics are ones that a hub exposes."""
    assert len(names_of_alerts()) >= 3
    assert names_of_alerts() <= {metric_of(name) for one in SHOWN for name in names_in(one.expression)}


def test_what_is_shown_is_explained() -> None:
    """docs/operations.md has a line for each metric of the dashboard."""
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in {metric_of(name) for one in SHOWN for name in names_in(one.expression)}:
        assert re.search(rf"`{name}(\{{\w+\}})?`", text), name


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']}-{panel['title']}")
def test_a_panel_says_what_it_is(panel: dict[str, Any]) -> None:
    """Each has a title, a sentence, a unit, the provisioned source, and expressions of the chosen hubs with a legend."""
    (source,) = yaml.safe_load((FILES / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == wanted
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == wanted
        assert target["legendFormat"]
        selectors = re.findall(r"hub_\w+(\{[^}]*\})?", target["expr"])
        assert set(selectors) == {'{node=~"$node"}'}


def test_panels_are_told_apart_and_dont_overlap() -> None:
    """Ids and titles (within a kind) are unique; no two panels share a place of the grid, and none leaves it."""
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({(panel["type"], panel["title"]) for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & taken, panel["title"]
        assert all(x < 24 for x, _ in places), panel["title"]
        taken |= places


def test_hubs_are_chosen_by_a_label_that_targets_have() -> None:
    """The dashboard's variable lists the values of `node`, which Prometheus gives each target by relabelling."""
    (variable,) = BOARD["templating"]["list"]
    assert variable["query"]["query"] == "label_values(hub_nodes, node)"
    assert variable["datasource"]["uid"] == PANELS[0]["datasource"]["uid"]
    (job,) = yaml.safe_load((FILES / "prometheus.yml").read_text())["scrape_configs"]
    assert [rule["target_label"] for rule in job["relabel_configs"]] == [variable["name"]]


def test_expressions_are_asked_without_grafanas_variables() -> None:
    """What is sent to Prometheus itself has a range and a pattern in their place; nothing of Grafana's is left."""
    assert as_asked('rate(a{node=~"$node"}[$__rate_interval])') == 'rate(a{node=~".*"}[15s])'
    assert [one for one in SHOWN if "$" in as_asked(one.expression)] == []


def test_expressions_are_listed_with_their_panel() -> None:
    """Rows have none; a panel with two has both, in their order."""
    panels = [{"title": "r"}, {"title": "p", "targets": [{"expr": "a"}, {"expr": "b"}]}]
    assert shown_by({"panels": panels}) == [Shown("p", "a"), Shown("p", "b")]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (node) (rate(hub_a_total{node=~"x"}[1m]))', {"hub_a_total"}),
        ("histogram_quantile(0.9, sum by (le) (rate(hub_b_bucket[5m]))) / (hub_c > 0)", {"hub_b_bucket", "hub_c"}),
        ("max(hub_d) and on (node) hub_e offset 5m", {"hub_d", "hub_e"}),
    ],
)
def test_names_are_found_in_expressions(expression: str, names: set[str]) -> None:
    """The reading that the tests above rest on takes every metric and nothing else."""
    assert names_in(expression) == names
