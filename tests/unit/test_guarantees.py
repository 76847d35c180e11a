"""docs/guarantees.md and SECURITY.md name tests: each is where it says."""

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


SECURITY = [
    cells
    for line in (ROOT / "SECURITY.md").read_text().splitlines()
    if (cells := [cell.strip() for cell in line.strip().strip("|").split(" | ")]) and line.startswith("| ")
    and cells[0] not in ("attack", "---")
]  # fmt: skip


@pytest.mark.parametrize("cells", SECURITY, ids=lambda cells: cells[0])
def test_each_protection_has_its_tests(cells: list[str]) -> None:
    """Each attack names its protection and tests that exist in the files named; or says that there is nothing here."""
    if "nothing here:" in cells[1]:
        assert not any(cell.strip("| ") for cell in cells[2:])
        return
    attack, protection, tests, places = cells
    names, files = re.findall(r"`(test_\w+)`", tests), re.findall(r"`(tests/[\w/.]+)`", places)
    assert attack
    assert protection
    assert names
    texts = {file: (ROOT / file).read_text() for file in files}
    missing = [name for name in names if not any(re.search(rf"\bdef {name}\(", text) for text in texts.values())]
    assert missing == []
    idle = [file for file, text in texts.items() if not any(re.search(rf"\bdef {name}\(", text) for name in names)]
    assert idle == [], "files in which none of these tests is"


def test_the_threat_model_is_whole() -> None:
    """Each attacker of the model has at least one row."""
    parts = re.split(r"^### ", (ROOT / "SECURITY.md").read_text(), flags=re.M)[1:]
    assert len(parts) == 9
    assert all("`test_" in part for part in parts)
    assert len(SECURITY) >= 25


def test_every_promise_has_tests() -> None:
    """Eight promises, and at least one row of tests each."""
    parts = re.split(r"^## (I\d)", (ROOT / "docs/guarantees.md").read_text(), flags=re.M)
    promises = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert sorted(promises) == [f"I{number}" for number in range(1, 9)]
    assert all("| `test_" in text for text in promises.values())
