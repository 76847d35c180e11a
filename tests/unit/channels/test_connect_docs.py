"""docs/connect.md: each configuration in it is one that a hub starts with, and each event one that it reads."""

import json
import re
import sys
from pathlib import Path

import pytest

from hub.channels.delivery import ADAPTERS, make_channels
from hub.connector_check import CHECKS
from hub.connector_story import CHECKS as STORY_CHECKS
from hub.protocol.platform import BadEvent, decode_event
from hub.settings import build

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/connect.md").read_text()
FILES = {"shop": b"whsec_" + b"QUFB" * 8}  # every other secret is a text of no form
TELEGRAM = 'token = "123456:a-token-for-tests"\nwebhook_secret = "a-secret-for-tests-only"\nqueue = "support"\n'


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_every_configuration_is_one_that_a_hub_starts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the hub's adapters is shown, and the one in a file of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/examples"))
    shown = set()
    for block in blocks("toml"):
        text = block + (TELEGRAM if "telegram_adapter" in block else "")
        settings = build(text, "hub.toml", {}, read=lambda path: FILES.get(path.name, b"a-secret-of-some-length"))
        shown |= {made.adapter for made in make_channels(settings).values()}
    sys.modules.pop("telegram_adapter", None)
    assert shown == {*ADAPTERS, "telegram_adapter:make"}


def test_every_event_is_one_that_the_hub_reads() -> None:
    """Line by line."""
    lines = [json.loads(line) for block in blocks("json") for line in block.splitlines()]
    events = [line["event"] for line in lines if line["cmd"] == "event"]
    assert events
    for event in events:
        assert not isinstance(decode_event(json.dumps(event).encode()), BadEvent)


def test_every_check_is_described() -> None:
    """By its name, in the tables of both directions."""
    for name in [check.name for check in CHECKS] + [check.name for check in STORY_CHECKS]:
        assert f"`{name}`" in TEXT, name
