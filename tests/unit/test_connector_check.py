"""`hub connector-check`: a good receiver passes, and each wrong one is found by the name of what it does wrong."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hub.channels.outward import Outward
from hub.connector_check import CHECKS, Line, Verdict, examine
from tests.support.http_server import TLS, Asked, HttpServer, Said

KEY = b"a-key-of-a-connector-for-tests!!"
TIMEOUT_MS = 3_000
ROOT = Path(__file__).resolve().parents[2]


class Good:
    """A receiver as docs/connect.md describes it."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}
        self.lock = threading.Lock()

    def answer(self, asked: Asked) -> Said:
        """What it answers."""
        if not self.is_the_hubs(asked):
            return Said(401)
        try:
            action = self.read(asked)
        except ValueError:
            return Said(400)
        with self.lock:
            if asked.headers["webhook-id"] in self.taken:
                return self.repeated()
            self.taken[asked.headers["webhook-id"]] = action
        return self.take(action)

    def is_the_hubs(self, asked: Asked) -> bool:
        """True for a signature of the key over id, time and body, and for a time of now."""
        headers = asked.headers
        if not self.is_of_now(headers.get("webhook-timestamp", "")):
            return False
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + self.signed(asked)
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, sha256).digest()).decode()
        return any(hmac.compare_digest(one, wanted) for one in self.signatures(headers.get("webhook-signature", "")))

    def is_of_now(self, seconds: str) -> bool:
        """Within five minutes."""
        return seconds.isdecimal() and abs(time.time() - int(seconds)) <= 300

    def signed(self, asked: Asked) -> bytes:
        """What of the body is signed."""
        return asked.body

    def signatures(self, header: str) -> list[str]:
        """All that are there."""
        return header.split(" ")

    def read(self, asked: Asked) -> Any:
        """The action."""
        return json.loads(asked.body)

    def repeated(self) -> Said:
        """One that it has."""
        return Said(200)

    def take(self, action: Any) -> Said:
        """One that it hasn't."""
        return Said(204, b"")


class Trusting(Good):
    """Takes whatever comes."""

    def is_the_hubs(self, asked: Asked) -> bool:
        return True


class Timeless(Good):
    """Never looks at the time."""

    def is_of_now(self, seconds: str) -> bool:
        return True


class PastOnly(Good):
    """Looks whether it is too late, never whether it is too early."""

    def is_of_now(self, seconds: str) -> bool:
        return seconds.isdecimal() and time.time() - int(seconds) <= 300


class Lenient(Good):
    """Checks a signature where there is one."""

    def is_the_hubs(self, asked: Asked) -> bool:
        return not asked.headers.get("webhook-signature") or super().is_the_hubs(asked)


class Knowing(Good):
    """Answers what it has without looking who asks."""

    def is_the_hubs(self, asked: Asked) -> bool:
        return asked.headers.get("webhook-id") in self.taken or super().is_the_hubs(asked)


class FirstOnly(Good):
    """Looks at the first signature only."""

    def signatures(self, header: str) -> list[str]:
        return header.split(" ")[:1]


class WholeHeader(Good):
    """Takes the header for one signature."""

    def signatures(self, header: str) -> list[str]:
        return [header]


class Rewriting(Good):
    """Checks the signature over its own spelling of the body."""

    def signed(self, asked: Asked) -> bytes:
        try:
            return json.dumps(json.loads(asked.body), separators=(",", ":"), ensure_ascii=False).encode()
        except ValueError:
            return asked.body


class Conflicting(Good):
    """Takes a repeat for a mistake."""

    def repeated(self) -> Said:
        return Said(409)


class Closed(Good):
    """Refuses types that it doesn't know."""

    def take(self, action: Any) -> Said:
        known = "outbound.message participant.connected participant.disconnected sender.changed conversation.ended"
        return Said(200 if action["type"] in known.split() else 422)


class MessagesOnly(Good):
    """Has never heard of other actions."""

    def take(self, action: Any) -> Said:
        return Said(200 if "text" in action["data"] else 400)


class Strict(Good):
    """Refuses members that it doesn't know."""

    def take(self, action: Any) -> Said:
        known = {"action_id", "message_id", "text", "attachments", "sender", "owner_epoch"}
        return Said(200 if action["type"] != "outbound.message" or set(action["data"]) <= known else 400)


class Talkative(Good):
    """Wants a text in every message."""

    def take(self, action: Any) -> Said:
        return Said(200 if action["data"].get("text", "x") else 400)


class Named(Good):
    """Counts on a name for everybody."""

    def take(self, action: Any) -> Said:
        person = action["data"].get("participant") or action["data"].get("sender") or {"name": "x"}
        return Said(200 if person.get("name") else 500)


class Ascii(Good):
    """Reads bytes as ASCII."""

    def read(self, asked: Asked) -> Any:
        try:
            return json.loads(asked.body.decode("ascii"))
        except UnicodeDecodeError:
            raise ValueError from None


class Small(Good):
    """Takes bodies of 16 KiB."""

    def answer(self, asked: Asked) -> Said:
        return Said(413) if len(asked.body) > 16_384 else super().answer(asked)


class Fragile(Good):
    """Falls over a body that isn't JSON."""

    def read(self, asked: Asked) -> Any:
        try:
            return super().read(asked)
        except ValueError:
            return None

    def take(self, action: Any) -> Said:
        return Said(500 if action is None else 200)


class Limited(Good):
    """Takes so many and no more in a run."""

    def take(self, action: Any) -> Said:
        return Said(429 if len(self.taken) > 24 else 200)


class OneAtATime(Good):
    """Can't do two things at once."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = threading.Lock()

    def take(self, action: Any) -> Said:
        if action["conversation_id"].endswith("-1"):
            return Said(200)  # the conversation of all other checks
        if not self.busy.acquire(blocking=False):
            return Said(503)
        time.sleep(0.2)  # what it does besides
        self.busy.release()
        return Said(200)


class Moved(Good):
    """Is somewhere else now."""

    def answer(self, asked: Asked) -> Said:
        return Said(308, headers={"location": "/hook/"})


class Dead(Good):
    """Hangs up."""

    def answer(self, asked: Asked) -> Said:
        raise ConnectionResetError


class Sluggish(Good):
    """Does its work before it answers."""

    def take(self, action: Any) -> Said:
        if len(self.taken) == 1:
            time.sleep(0.6)
        return Said(200)


EVERYTHING = {check.name for check in CHECKS}
UNSIGNED = {"wrong-key", "no-signature", "changed-body", "changed-head"}
WRONG: list[tuple[Callable[[], Good], set[str]]] = [
    (Trusting, UNSIGNED | {"old", "future", "no-time"}),
    (Timeless, {"old", "future"}),
    (PastOnly, {"future"}),
    (Lenient, {"no-signature"}),
    (Knowing, {"wrong-key"}),
    (FirstOnly, {"two-signatures", "unknown-signature"}),
    (WholeHeader, {"two-signatures", "unknown-signature"}),
    (Rewriting, {"signed-bytes"}),
    (Conflicting, {"repeat"}),
    (Closed, {"unknown"}),
    (MessagesOnly, {"other-actions", "unknown"}),
    (Strict, {"unknown"}),
    (Talkative, {"attachments"}),
    (Named, {"other-actions", "any-text"}),
    (Ascii, {"any-text"}),
    (Small, {"long-text"}),
    (Fragile, {"unreadable"}),
    (Limited, {"in-a-row", "at-once"}),
    (OneAtATime, {"at-once"}),
    (Moved, EVERYTHING),
    (Dead, EVERYTHING),
]


async def verdicts_on(receiver: Good, timeout_ms: int = TIMEOUT_MS) -> list[Verdict]:
    """What the check says of it."""
    with HttpServer(receiver.answer) as standing:
        host = standing.url.removeprefix("http://")
        caller = Outward(timeout_ms=timeout_ms, answer_bytes_max=1 << 20, allowed=[host], tls=TLS)
        try:
            line = Line(standing.url + "/hook", KEY, caller, timeout_ms)
            return [verdict async for verdict in examine(line)]
        finally:
            await caller.aclose()


async def test_a_good_receiver_passes() -> None:
    """Every check is made, and none has anything to mend; the repeat was taken once."""
    receiver = Good()
    found = await verdicts_on(receiver)
    assert [verdict.name for verdict in found] == [*(check.name for check in CHECKS), "pace"]
    assert {(verdict.level, verdict.mend) for verdict in found} == {("ok", "")}
    shown = [one["data"].get("text") for one in receiver.taken.values()]
    assert shown.count("Connector check: this must be shown once") == 1


async def test_the_receiver_of_the_documentation_passes() -> None:
    """As docs/connect.md has it, with the convention's own library; nothing to mend."""
    source = (ROOT / "docs/connect.md").read_text()
    [code] = [block.partition("```")[0] for block in source.split("```python\n")[1:] if "def hub(request)" in block]
    kept: dict[str, Any] = {}
    names: dict[str, Any] = {
        "SECRET": "whsec_" + base64.b64encode(KEY).decode(),
        "known": kept.__contains__,
        "keep": lambda action: kept.setdefault(action["id"], action),
    }
    exec(code, names)

    class Documented(Good):
        """What stands there."""

        def answer(self, asked: Asked) -> Said:
            return Said(names["hub"](asked), b"")

    found = await verdicts_on(Documented())
    assert [verdict.name for verdict in found if verdict.level != "ok"] == []
    assert [one["data"]["text"] for one in kept.values()].count("Connector check: this must be shown once") == 1


@pytest.mark.parametrize(("made", "wrong"), WRONG, ids=[made.__name__ for made, _ in WRONG])
async def test_a_wrong_receiver_is_found_by_what_it_does_wrong(made: Callable[[], Good], wrong: set[str]) -> None:
    """Those checks fail and no other, each with what was got and what to do."""
    found = await verdicts_on(made())
    assert {verdict.name for verdict in found if verdict.level in ("fail", "left out")} == wrong
    for verdict in found:
        if verdict.level == "fail":
            assert verdict.mend
            assert verdict.got
            assert verdict.wanted


async def test_a_slow_receiver_is_told() -> None:
    """Not as a mistake: the answer came in time."""
    found = {verdict.name: verdict for verdict in await verdicts_on(Sluggish(), 1_000)}
    assert found["pace"].level == "warn"
    assert found["pace"].mend
    assert {verdict.level for name, verdict in found.items() if name != "pace"} == {"ok"}


async def test_where_nothing_is_taken_nothing_else_is_said() -> None:
    """A receiver that refuses everything doesn't pass the checks of what must be refused."""

    class Shut(Good):
        """Refuses everything."""

        def answer(self, asked: Asked) -> Said:
            return Said(401)

    found = await verdicts_on(Shut())
    assert [verdict.level for verdict in found] == ["fail"] + ["left out"] * (len(CHECKS) - 1)


def test_every_check_is_found_missing_by_some_wrong_receiver() -> None:
    """No check that can't fail: each one is failed by a receiver that does little else wrong."""
    alone = [wrong for _, wrong in WRONG if wrong != EVERYTHING]
    assert set().union(*alone) == EVERYTHING - {"message"}
