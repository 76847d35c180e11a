"""
Turn the forms that Twilio posts for incoming messages into the hub's events.

    python docs/examples/twilio_to_events.py docs/examples/twilio-forms.txt

reads url-encoded forms, one a line (`MessageSid`, `From`, `To`, `Body`, `NumMedia`, `MediaUrl0`, `MediaContentType0`,
...), and prints NDJSON for `POST /v1/events`. In a webhook of your own, call `start_of` and `message_of` per request
and send both: a start of a conversation that runs already is answered `already_done` and changes nothing, so nothing
has to be remembered here. (After a conversation's end its id stays used: put a count or a date into the id then.)
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

Form = Mapping[str, str]

QUEUE = "support"
STEP_MS = 1_000  # the forms carry no time; those of a file are put apart by this


def conversation_of(form: Form) -> str:
    """One conversation per pair of numbers: `sms:<customer's digits>:<our digits>`, since ids hold no `+`."""
    return "sms:" + ":".join(re.sub(r"\D", "", form[name]) for name in ("From", "To"))


def start_of(form: Form, at_ms: int) -> dict[str, Any]:
    """The event that begins the conversation of an incoming message."""
    data = {
        "channel": "sms",
        "queue": QUEUE,
        "customer": {"id": re.sub(r"\D", "", form["From"]), "name": form["From"]},
        "subject": "Text message",
    }
    return _event(form, f"{form['MessageSid']}:start", "conversation.started", at_ms, data)


def message_of(form: Form, at_ms: int) -> dict[str, Any]:
    """
    The event of the message itself.

    Its ids are the `MessageSid`, so a form that is posted twice has no effect the second time.
    """
    data: dict[str, Any] = {
        "message_id": form["MessageSid"],
        "purpose": "customer",
        "text": form.get("Body", ""),
    }
    if attachments := list(_attachments(form)):
        data["attachments"] = attachments
    return _event(form, form["MessageSid"], "message.created", at_ms, data)


def events_of(forms: Iterable[Form], at_ms: int) -> Iterator[dict[str, Any]]:
    """Events of several forms, in order; a conversation's start only before its first message."""
    begun: set[str] = set()
    for place, form in enumerate(forms):
        when_ms = at_ms + place * STEP_MS
        if conversation_of(form) not in begun:
            begun.add(conversation_of(form))
            yield start_of(form, when_ms)
        yield message_of(form, when_ms)


def read_forms(text: str) -> Iterator[dict[str, str]]:
    """Forms of a file: url-encoded, one a line; empty lines are skipped."""
    for line in text.splitlines():
        if line.strip():
            yield dict(parse_qsl(line.strip(), keep_blank_values=True))


def _attachments(form: Form) -> Iterator[dict[str, str]]:
    for number in range(int(form.get("NumMedia") or 0)):
        url = form[f"MediaUrl{number}"]
        mime = form.get(f"MediaContentType{number}", "application/octet-stream")
        yield {"url": url, "name": url.rpartition("/")[2], "mime": mime}


def _event(form: Form, event_id: str, kind: str, at_ms: int, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": event_id, "type": kind, "conversation_id": conversation_of(form), "at": at_ms, "data": data}


def main() -> None:
    """Convert a file, or standard input where it is `-`."""
    parser = argparse.ArgumentParser(description="Turn Twilio's forms into the hub's events.")
    parser.add_argument("forms", help="file with url-encoded forms, one a line; - reads standard input")
    parser.add_argument("--at", type=int, help="time of the first message, Unix milliseconds (default: now)")
    arguments = parser.parse_args()
    text = sys.stdin.read() if arguments.forms == "-" else Path(arguments.forms).read_text(encoding="ascii")
    for event in events_of(read_forms(text), arguments.at or int(time.time() * 1000)):
        sys.stdout.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
