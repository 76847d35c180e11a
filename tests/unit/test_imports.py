"""The direction of imports, read from the sources: what the drawing in the design says, and that rules do no I/O."""

import ast
import sys
from collections.abc import Iterator
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
