"""The documented example input: readable by the hub, complete, and converted from the provider's forms as shown."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from hub.protocol.platform import BadEvent, decode_event

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
CONVERTER = runpy.run_path(str(EXAMPLES / "twilio_to_events.py"), run_name="example")


def documented() -> list[dict[str, Any]]:
    """The events of the example file."""
    lines = (EXAMPLES / "ten-conversations.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def forms() -> list[dict[str, str]]:
    """The provider's forms."""
    return list(CONVERTER["read_forms"]((EXAMPLES / "twilio-forms.txt").read_text(encoding="ascii")))


def test_every_example_event_is_one_the_hub_reads() -> None:
    """Each line passes the hub's own decoder."""
    for event in documented():
        read = decode_event(json.dumps(event).encode())
        assert not isinstance(read, BadEvent), read


def test_the_example_is_ten_conversations_over_three_channels_in_order() -> None:
    """Ten conversations begin before anything else happens in them, times never go back, ids are unique."""
    events = documented()
    started = {e["conversation_id"]: e["data"]["channel"] for e in events if e["type"] == "conversation.started"}
    assert sorted(started.values()) == ["open"] * 3 + ["sms"] * 3 + ["web"] * 4
    seen: set[str] = set()
    for event in events:
        assert event["type"] == "conversation.started" or event["conversation_id"] in seen
        seen.add(event["conversation_id"])
    assert [e["at"] for e in events] == sorted(e["at"] for e in events)
    assert len({e["id"] for e in events}) == len(events)


def test_only_connected_participants_speak() -> None:
    """Nobody says anything before connecting, after leaving, or after the end."""
    present: dict[str, set[str]] = {}
    ended: set[str] = set()
    for event in documented():
        there, data = present.setdefault(event["conversation_id"], set()), event["data"]
        assert event["conversation_id"] not in ended
        if event["type"] == "participant.connected":
            there.add(data["participant_id"])
        elif event["type"] == "participant.disconnected":
            there.remove(data["participant_id"])
        elif event["type"] == "conversation.ended":
            ended.add(event["conversation_id"])
        elif "participant_id" in data:
            assert data["participant_id"] in there


def test_sms_customers_are_what_the_converter_makes_of_the_forms() -> None:
    """The example's incoming text messages equal the conversion of the provider's forms, but for their times."""

    def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in event.items() if key != "at"} for event in events]

    incoming = [
        event
        for event in documented()
        if event["conversation_id"].startswith("sms:")
        and (event["type"] == "conversation.started" or event["data"].get("purpose") == "customer")
    ]
    assert timeless(incoming) == timeless(list(CONVERTER["events_of"](forms(), 0)))


def test_the_converter_is_a_program() -> None:
    """Run on the sample file it prints NDJSON; media become attachments and numbers become ids."""
    command = [sys.executable, str(EXAMPLES / "twilio_to_events.py"), str(EXAMPLES / "twilio-forms.txt"), "--at", "5"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    events = [json.loads(line) for line in printed.splitlines()]
    assert len(events) == len(forms()) + 3
    assert events[0]["at"] == 5
    assert events[0]["conversation_id"] == "sms:15005550101:15005550006"
    pictures = [e["data"]["attachments"] for e in events if "attachments" in e["data"]]
    assert [[each["mime"] for each in files] for files in pictures] == [["image/jpeg"]]
