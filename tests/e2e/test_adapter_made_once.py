"""A hub makes each connector's channel once, and before it starts anything."""

from pathlib import Path

from tests.support.processes import CONFIG, HubProcess

COUNTED = """
from pathlib import Path

def make(options, place):
    with Path(options["note"]).open("a") as note:
        note.write(place.connector + "\\n")
    return object()
"""


def test_a_channel_is_made_once(tmp_path: Path) -> None:
    """However many parts of the hub need it: an adapter may keep what it made for as long as the hub runs."""
    (tmp_path / "counted_adapter.py").write_text(COUNTED)
    note = tmp_path / "made"
    table = f'\n[connectors.one]\norg = "acme"\nadapter = "counted_adapter:make"\nnote = "{note}"\n'
    hub = HubProcess(tmp_path / "hub", config=CONFIG + table, environment={"PYTHONPATH": str(tmp_path)})
    try:
        hub.start()
        assert note.read_text() == "one\n"
        assert not hub.stop()
        assert note.read_text() == "one\n"
    finally:
        hub.kill()
