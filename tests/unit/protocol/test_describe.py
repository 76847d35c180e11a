"""The documents made from the types."""

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.protocol import describe
from hub.protocol.commands import ENDPOINT_COMMANDS, tag_of
from hub.protocol.describe import asyncapi, documents, main, openapi, schemas
from hub.protocol.platform import PlatformEvent
from hub.protocol.types import ENDPOINT_EVENTS

DOCS = Path(__file__).parents[3] / "docs"
DOCUMENTS = {"asyncapi.json": asyncapi(), "openapi.json": openapi()}


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def resolve(document: dict[str, Any], ref: str) -> Any:
    """What a reference inside the document points to."""
    assert ref.startswith("#/"), ref
    for part in ref[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_files_are_up_to_date(name: str) -> None:
    """Run `python -m hub.protocol.describe` after a change of the types."""
    assert (DOCS / name).read_bytes() == documents()[name]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_resolves(name: str) -> None:
    """Within the document itself."""
    refs = [one["$ref"] for one in walk(DOCUMENTS[name]) if "$ref" in one]
    assert refs
    for ref in refs:
        resolve(DOCUMENTS[name], ref)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_used(name: str) -> None:
    """Nothing is described that never goes over the wire."""
    start = "#/components/schemas/"
    used = {one["$ref"] for one in walk(DOCUMENTS[name]) if one.get("$ref", "").startswith(start)}
    assert {start + schema for schema in DOCUMENTS[name]["components"]["schemas"]} == used


@pytest.mark.parametrize("name", DOCUMENTS)
def test_patterns_are_portable(name: str) -> None:
    """ECMA-262 has no `\\Z`."""
    patterns = [one["pattern"] for one in walk(DOCUMENTS[name]) if isinstance(one.get("pattern"), str)]
    assert patterns
    for pattern in patterns:
        assert not pattern.endswith("\\Z")
        re.compile(pattern)


def test_asyncapi_has_the_four_sockets() -> None:
    """One channel each, with an operation for either direction."""
    document = DOCUMENTS["asyncapi.json"]
    assert document["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == {
        "/v1/supervisor",
        "/v1/agent",
        "/v1/connector",
        "/v1/customer",
    }
    assert sorted(one["action"] for one in document["operations"].values()) == ["receive"] * 4 + ["send"] * 4
    for operation in document["operations"].values():
        channel = resolve(document, operation["channel"]["$ref"])
        for message in operation["messages"]:
            assert message["$ref"].rpartition("/")[2] in channel["messages"]


@pytest.mark.parametrize("endpoint", ENDPOINT_COMMANDS)
def test_asyncapi_names_every_command_and_event(endpoint: str) -> None:
    """By the name on the wire."""
    document = DOCUMENTS["asyncapi.json"]
    listed = [resolve(document, one["$ref"])["name"] for one in document["channels"][endpoint]["messages"].values()]
    commands = [tag_of(kind) for kind in ENDPOINT_COMMANDS[endpoint]]
    answers = [f"{name} ok" for name in commands if name != "pong"]
    assert sorted(listed) == sorted([*commands, *answers, *ENDPOINT_EVENTS[endpoint], "error"])


def test_openapi_has_every_route() -> None:
    """The table of protocol.md, section 6."""
    document = DOCUMENTS["openapi.json"]
    assert document["openapi"].startswith("3.1")
    assert {(method, path) for path, item in document["paths"].items() for method in item} == {
        ("post", "/v1/events"),
        ("post", "/v1/tickets"),
        ("get", "/v1/session"),
        ("post", "/v1/sign-out"),
        ("post", "/v1/revocations"),
        ("post", "/v1/channels/{connector}"),
        ("get", "/v1/outbox"),
        ("get", "/v1/outbox/{id}"),
        ("delete", "/v1/outbox/{id}"),
        ("post", "/v1/outbox/{id}/retry"),
        ("post", "/v1/erasures"),
        ("get", "/v1/erasures/{id}"),
        ("get", "/v1/conversations"),
        ("get", "/v1/conversations/{id}"),
        ("get", "/v1/conversations/{id}/transcript"),
        ("get", "/v1/conversations/{id}/timeline"),
        ("get", "/v1/files"),
        ("post", "/v1/files"),
        ("post", "/v1/files/{id}/link"),
        ("get", "/v1/files/{id}/{name}"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/"),
        ("get", "/desk"),
        ("get", "/messenger"),
    }


def test_openapi_operations_are_complete() -> None:
    """Each has a name of its own, responses, and its path's parameters."""
    operations = [(path, one) for path, item in DOCUMENTS["openapi.json"]["paths"].items() for one in item.values()]
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names))
    for path, operation in operations:
        assert "200" in operation["responses"]
        assert all(response["description"] for response in operation["responses"].values())
        declared = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


def test_all_platform_events_are_offered() -> None:
    """By HTTP and by the `event` command alike."""
    kinds = {kind.__name__ for kind in PlatformEvent.__subclasses__()}
    by_http = DOCUMENTS["openapi.json"]["components"]["schemas"]["PlatformEvent"]["oneOf"]
    pushed = DOCUMENTS["asyncapi.json"]["components"]["schemas"]["EventPush"]["properties"]["event"]["anyOf"]
    assert {one["$ref"].rpartition("/")[2] for one in by_http} == kinds
    assert {one["$ref"].rpartition("/")[2] for one in pushed} == kinds


def test_a_field_named_pattern_stays_one() -> None:
    """Only the keyword is translated."""

    class Named(msgspec.Struct):
        """A struct with such a field."""

        pattern: int

    assert schemas([Named])["Named"]["properties"]["pattern"] == {"type": "integer"}


def test_the_program_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing and changed files fail the check, written ones pass."""
    arguments = ["--docs", str(tmp_path)]
    assert main([*arguments, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    (tmp_path / "openapi.json").write_text("{}")
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 1
    assert "openapi.json is out of date" in capsys.readouterr().err
    assert (tmp_path / "asyncapi.json").read_bytes() == documents()["asyncapi.json"]


def test_it_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is the program's result."""
    monkeypatch.setattr(sys, "argv", ["describe", "--check", "--docs", str(DOCS)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(describe.__file__), run_name="__main__")
    assert caught.value.code == 0
