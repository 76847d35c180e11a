"""docker-compose.yml and the files that it mounts: what starts when, what is reachable from where, what fits together."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from hub.settings import Settings, parse_address, unknown_variables
from hub.store.topology import parse_url

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HUBS = sorted(name for name, service in SERVICES.items() if service.get("build") == ".")
PROFILES = {
    "": {"hub", "store"},
    "nodes": {"hub2", "proxy"},
    "metrics": {"prometheus", "grafana"},
    "sentinel": {"replica1", "replica2", "sentinel1", "sentinel2", "sentinel3"},
    "cluster": {"cluster1", "cluster2", "cluster3", "cluster-ready"},
}


def stack(name: str) -> str:
    """Text of a file below docs/stack."""
    return (ROOT / "docs" / "stack" / name).read_text()


def mounts(service: dict[str, Any]) -> list[list[str]]:
    """Source, target, and options of each volume of a service."""
    return [volume.split(":") for volume in service.get("volumes", ())]


def default_of(value: str) -> str:
    """What compose puts in where the operator's variables are unset."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)


def program(name: str) -> str:
    """Path of an installed program; else the test is left out, with the reason."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} isn't installed")
    return found


def test_profiles_add_to_one_hub_and_its_store() -> None:
    """Without a profile a hub and its store start, and nothing else; each profile adds its own services."""
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        (profile,) = service.get("profiles", [""])
        found.setdefault(profile, set()).add(name)
    assert found == PROFILES


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_what_starts_with_it(name: str) -> None:
    """Whatever a service must wait for is in no other profile, or needn't be there; and it can say when it is ready."""
    own = set(SERVICES[name].get("profiles", ()))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        needed = set(SERVICES[other].get("profiles", ()))
        assert needed <= own or how.get("required") is False, other
        if how["condition"] == "service_healthy" and other not in HUBS:  # theirs stands in the Dockerfile
            assert SERVICES[other]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_everything_mounted_is_there(name: str) -> None:
    """A path of the repository exists and is mounted read-only; a volume is declared; so is each network."""
    for source, target, *options in mounts(SERVICES[name]):
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert options == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    assert set(SERVICES[name]["networks"]) <= COMPOSE["networks"].keys()


def test_every_volume_and_network_is_used() -> None:
    """Nothing is declared that no service uses."""
    used = {source for service in SERVICES.values() for source, *_ in mounts(service) if not source.startswith(".")}
    assert used == COMPOSE["volumes"].keys()
    assert {name for service in SERVICES.values() for name in service["networks"]} == COMPOSE["networks"].keys()


@pytest.mark.parametrize("name", HUBS)
def test_hubs_get_settings_that_they_know(name: str) -> None:
    """Each `HUB_*` variable is a setting, and the addresses among them are of its form."""
    variables = SERVICES[name]["environment"]
    assert unknown_variables(variables) == []
    assert parse_url(default_of(variables["HUB_REDIS_URL"])).servers[0].host in PROFILES[""]
    assert default_of(variables["HUB_STORE_REPLICAS"]) == str(Settings().store_replicas)
    assert parse_address(variables["HUB_METRICS_LISTEN"]) == ("0.0.0.0", 9464)
    dockerfile = re.findall(r"\b(HUB_[A-Z_]+)=", (ROOT / "Dockerfile").read_text())
    assert unknown_variables(dict.fromkeys(dockerfile, "")) == []


def test_no_other_service_gets_variables_of_the_hub() -> None:
    """What isn't a hub has no `HUB_*` variable, and so no secret."""
    others = [service.get("environment", {}) for name, service in SERVICES.items() if name not in HUBS]
    assert [name for variables in others for name in variables if name.startswith("HUB_")] == []


def test_only_pages_are_published_and_to_this_machine() -> None:
    """Hub, proxy and Grafana are published on the loopback; no metrics, no store, no Prometheus."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "hub": ["127.0.0.1:8000:8000"],
        "proxy": ["127.0.0.1:8080:8080"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    for network in ("store", "metrics"):
        assert COMPOSE["networks"][network]["internal"] is True
    assert SERVICES["prometheus"]["networks"] == ["metrics"]


@pytest.mark.parametrize("profile", ["sentinel", "cluster"])
def test_the_head_of_the_file_names_stores_that_the_profile_starts(profile: str) -> None:
    """The address to export for a store of another kind is one that a hub takes, and its hosts are that profile's."""
    (url,) = re.findall(rf"export HUB_REDIS_URL=(redis\+{profile}\S+)", TEXT)
    address = parse_url(url)
    assert address.kind == profile
    for server in address.servers:
        assert SERVICES[server.host]["profiles"] == [profile]
    assert f"--profile {profile} up" in TEXT


def test_sentinels_and_hubs_call_the_service_alike() -> None:
    """The service's name in the hubs' address is the one that the Sentinels' file gives it."""
    (url,) = re.findall(r"export HUB_REDIS_URL=(redis\+sentinel\S+)", TEXT)
    assert f"sentinel monitor {parse_url(url).service} " in stack("sentinel.sh")
    for name in ("sentinel1", "sentinel2", "sentinel3"):
        assert SERVICES[name]["command"] == ["sh", "/stack/sentinel.sh", "store", "6379", name]


@pytest.mark.parametrize("name", [name for name in SERVICES if name.startswith(("store", "replica", "cluster"))])
def test_stores_keep_what_they_are_given(name: str) -> None:
    """Every server appends to disk, never evicts, and is known to others by its own service's name."""
    if name == "cluster-ready":
        assert SERVICES[name]["command"][2:] == [f"cluster{number}:6379" for number in (1, 2, 3)]
        return
    command = SERVICES[name]["command"]
    assert command[:2] == ["valkey-server", "/stack/valkey.conf"]
    for line in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"):
        assert line in stack("valkey.conf").splitlines()
    announce = "--cluster-announce-hostname" if name.startswith("cluster") else "--replica-announce-ip"
    assert command[command.index(announce) + 1] == name
    assert "/data" in [target for _, target, *_ in mounts(SERVICES[name])]


def test_prometheus_asks_each_hub_where_it_answers() -> None:
    """The names and the port that Prometheus scrapes are those of the hubs, on a network that both are in."""
    (job,) = yaml.safe_load(stack("prometheus.yml"))["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert sorted(discovery["names"]) == HUBS
    for name in HUBS:
        assert parse_address(SERVICES[name]["environment"]["HUB_METRICS_LISTEN"])[1] == discovery["port"]
        assert set(SERVICES[name]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_the_proxy_leads_to_each_hub() -> None:
    """Every variable of haproxy.cfg is given by compose, and each hub is one of its servers."""
    variables = SERVICES["proxy"]["environment"]
    assert set(re.findall(r'"\$\{([A-Z_0-9]+)\}"', stack("haproxy.cfg"))) == variables.keys()
    nodes = {value for name, value in variables.items() if name.startswith("NODE_")}
    assert nodes == {f"{name}:8000" for name in HUBS}
    for word in ("balance leastconn", "uri /readyz", "timeout tunnel"):
        assert word in stack("haproxy.cfg")


def test_haproxy_takes_its_configuration() -> None:
    """`haproxy -c` finds nothing wrong, and nothing to warn of."""
    variables = {"PROXY_BIND": "127.0.0.1:1", "NODE_1": "127.0.0.1:2", "NODE_2": "127.0.0.1:3"}
    line = [program("haproxy"), "-c", "-dW", "-f", str(ROOT / "docs" / "stack" / "haproxy.cfg")]
    said = subprocess.run(line, env=os.environ | variables, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stderr


def test_prometheus_takes_its_configuration() -> None:
    """`promtool check config` finds nothing wrong."""
    line = [program("promtool"), "check", "config", str(ROOT / "docs" / "stack" / "prometheus.yml")]
    said = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stderr


def test_alerts_fire_when_they_should() -> None:
    """`promtool test rules`: each alert fires in its case and stays quiet in the one beside it; none is left out."""
    folder = ROOT / "docs" / "stack"
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    cases = [
        one
        for test in yaml.safe_load((folder / "alerts_test.yml").read_text())["tests"]
        for one in test["alert_rule_test"]
    ]
    for fires in (True, False):
        assert {one["alertname"] for one in cases if bool(one["exp_alerts"]) == fires} == {
            one["alert"] for one in rules
        }
    line = [program("promtool"), "test", "rules", str(folder / "alerts_test.yml")]
    said = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("name", ["sentinel.sh", "cluster.sh"])
def test_scripts_are_a_shells(name: str) -> None:
    """A POSIX shell can read the scripts, and stops at the first failure."""
    said = subprocess.run(["sh", "-n", str(ROOT / "docs" / "stack" / name)], capture_output=True, text=True, timeout=20)
    assert (said.returncode, said.stderr) == (0, "")
    assert "set -eu\n" in stack(name)


def test_grafana_is_given_what_its_files_ask_for() -> None:
    """Each variable in the provisioned files is in Grafana's environment and leads to something that is mounted."""
    folder = ROOT / "docs" / "stack" / "grafana" / "provisioning"
    asked = {name for file in folder.rglob("*.yml") for name in re.findall(r"\$([A-Z_]+)", file.read_text())}
    variables = SERVICES["grafana"]["environment"]
    assert asked == {"PROMETHEUS_URL", "DASHBOARDS_PATH"}
    assert variables["PROMETHEUS_URL"] == "http://prometheus:9090"
    sources = {target: ROOT / source for source, target, *_ in mounts(SERVICES["grafana"])}
    home = Path(variables["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == variables["DASHBOARDS_PATH"]
    assert (sources[variables["DASHBOARDS_PATH"]] / home.name).exists()
