"""The flame graph of a hub under load, by py-spy itself."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from clients.load import profile
from clients.load.profile import HOW_TO_ALLOW, NotRecorded, find_py_spy, record

SMALL = ["--conversations", "20", "--monitors", "10", "--supervisors", "1", "--rate", "200"]


@pytest.fixture(autouse=True)
def py_spy(monkeypatch: pytest.MonkeyPatch) -> None:
    """py-spy, and a load that goes on for a moment longer than the recording; else the test is left out."""
    monkeypatch.setattr(profile, "MARGIN_S", 2.0)
    try:
        find_py_spy()
    except NotRecorded as error:
        pytest.skip(str(error))


async def test_the_graph_shows_the_hub_at_work(tmp_path: Path) -> None:
    """A picture that a browser can read, with the hub's own functions and none of the load's."""
    picture = tmp_path / "profile.svg"
    try:
        await record(1, picture, SMALL)
    except NotRecorded as error:
        if HOW_TO_ALLOW not in str(error):
            raise
        pytest.skip(f"py-spy may not look at other processes here: {HOW_TO_ALLOW}")
    titles = [element.text or "" for element in ET.parse(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert any("hub/edge/" in title for title in titles)
    assert not any("clients/load" in title for title in titles)


async def test_a_load_that_fails_makes_no_graph(tmp_path: Path) -> None:
    """Wrong arguments of the load are said as it says them; nothing is left running."""
    with pytest.raises(NotRecorded, match="--rate"):
        await record(1, tmp_path / "profile.svg", ["--rate", "nonsense"])
    assert not (tmp_path / "profile.svg").exists()
