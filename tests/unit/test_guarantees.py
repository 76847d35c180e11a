"""docs/guarantees.md names tests: each is where it says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    (names, files)
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if (cells := line.strip("| ").split(" | ")) and len(cells) == 2 and "`tests/" in cells[1]
    for names, files in [(re.findall(r"`([tT]est\w+)`", cells[0]), re.findall(r"`(tests/[\w/.]+)`", cells[1]))]
    if names
]


@pytest.mark.parametrize(("names", "files"), ROWS)
def test_each_named_test_exists(names: list[str], files: list[str]) -> None:
    """A promise whose test was renamed or removed has none."""
    text = "".join((ROOT / file).read_text() for file in files)
    missing = [name for name in names if not re.search(rf"\b(def {name}\(|{name} = )", text)]
    assert missing == []


def test_every_promise_has_tests() -> None:
    """Eight promises, and at least one row of tests each."""
    parts = re.split(r"^## (I\d)", (ROOT / "docs/guarantees.md").read_text(), flags=re.M)
    promises = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert sorted(promises) == [f"I{number}" for number in range(1, 9)]
    assert all("| `test_" in text for text in promises.values())
