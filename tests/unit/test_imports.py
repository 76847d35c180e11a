"""The direction of imports, read from the sources: what the drawing in the design says, and that rules do no I/O."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# module or package: those of ours that it may import besides itself
ALLOWED = {
    "hub.domain": set(),
    "hub.protocol": {"hub.domain"},
    "hub.service": {"hub.domain", "hub.protocol", "hub.settings", "hub.linear"},
    "hub.settings": {"hub.domain", "hub.tables"},
    "hub.tables": {"hub.domain", "hub.linear"},
    "hub.linear": set(),
    "clients": {"hub.protocol"},
}
# Standard modules that would bring a clock, chance or the outside world into the rules.
OUTSIDE = {
    *(
        "asyncio",
        "datetime",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
    ),
    *("signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
}


def sources(package: str) -> list[Path]:
    """The files of a package or of a module."""
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it, with full names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module in ("hub", "clients"))


def within(name: str, package: str) -> bool:
    """True for the package itself and everything below it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    """A package imports of ours only what the design allows it."""
    allowed = {package, "hub", *ALLOWED[package]}
    for path in sources(package):
        for name in imports(path):
            if within(name, "hub") or within(name, "clients"):
                assert name == "hub" or any(within(name, each) for each in allowed - {"hub"}), f"{path}: {name}"


def test_rules_use_the_standard_library_only() -> None:
    """The domain imports nothing that was installed, and nothing that has a clock, chance or I/O."""
    for path in sources("hub.domain"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top == "hub" or (top in sys.stdlib_module_names and top not in OUTSIDE), f"{path}: {name}"


def test_wire_types_do_no_io() -> None:
    """The protocol may use installed codecs, but nothing that reaches outside; the program that describes it may."""
    for path in sources("hub.protocol"):
        if path.name == "describe.py":
            continue
        for name in imports(path):
            assert name.partition(".")[0] not in OUTSIDE, f"{path}: {name}"


def one_spelling(distribution: str) -> str:
    """Its name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared() -> set[str]:
    """The distributions that come with every installation; those of extras don't."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {one_spelling(re.split(r"[^\w.-]", line)[0]) for line in project["dependencies"]}
    return names | ({"cryptography"} if any("[crypto]" in line for line in project["dependencies"]) else set())


def test_what_a_module_needs_to_be_imported_is_a_dependency() -> None:
    """Whatever stands at the top of a module is installed with the hub; what only an extra brings is imported when needed."""
    installed, named = packages_distributions(), declared()
    for path in sources("hub"):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for name in [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ("hub", "clients"):
                    assert named & set(map(one_spelling, installed[top])), f"{path}: {name}"
