"""Open messaging's own rules: options, signatures as the convention's library makes them, what an answer means."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from hub.channels.open import TOLERANCE_S, OpenMessaging, make, outcome_of, payload, sign, verify
from hub.channels.port import Action, Answer, BadOption, Failed, Inbound, Later, Place, Sent, Unreachable
from hub.domain.errors import Refused

KEY = bytes(range(32))
OTHER = bytes(reversed(range(32)))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PLACE = Place("acme", "shop")
NOW_S = 1_800_000_000
ACTION = Action("msg_1", "outbound.message", "acme", "cnv_1", "cus_7", 1_795_377_600_123, 1, {"text": "Hallö"})
NOTES: Any = None  # this channel remembers nothing by itself


def inbound(
    body: bytes = b'{"events": []}',
    headers: Mapping[str, str] | None = None,
    *,
    id: str = "evt-1",
    seconds: int = NOW_S,
    key: bytes = KEY,
) -> Inbound:
    """A request that the convention's library has signed."""
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = Webhook(secret).sign(id, datetime.fromtimestamp(seconds, UTC), body.decode())
    named = {"webhook-id": id, "webhook-timestamp": str(seconds), "webhook-signature": signature}
    return Inbound("POST", "https://hub/v1/channels/shop", {**named, **(headers or {})}, body, NOW_S * 1000)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"secret": SECRET}, "`url` is missing"),
        ({"url": "https://x.example"}, "`secret` is missing"),
        ({"url": "http://x.example", "secret": SECRET}, "`url` begins with http://"),
        ({"url": "ftp://x.example", "secret": SECRET, "insecure": True}, "`url` can't be called"),
        ({"url": "https://a@x.example", "secret": SECRET}, "`url` can't be called: the address has a user in it"),
        ({"url": "https://x.example", "secret": "whsec_%%%"}, "`secret` isn't base64"),
        ({"url": "https://x.example", "secret": "whsec_aGFsbG8="}, "`secret` has 5 bytes; allowed: 24 to 64"),
        ({"url": "https://x.example", "secret": SECRET, "secret_previous": "x!"}, "`secret_previous` isn't base64"),
        ({"url": "https://x.example", "secret": SECRET, "sercet": "x"}, "`sercet` is unknown; did you mean `secret`?"),
    ],
)
def test_wrong_options_are_said(options: dict[str, Any], wanted: str) -> None:
    """By their key, and never with the secret itself."""
    with pytest.raises(BadOption) as caught:
        make(options, PLACE)
    assert wanted in str(caught.value)
    assert SECRET not in str(caught.value)


@settings(max_examples=25)
@given(st.text(alphabet="abcXYZ019_-", min_size=1), st.integers(0, 10**10), st.text())
def test_a_signature_is_the_conventions(id: str, seconds: int, body: str) -> None:
    """Byte for byte what its own library makes."""
    theirs = Webhook(SECRET).sign(id, datetime.fromtimestamp(seconds, UTC), body)
    assert sign(KEY, id, seconds, body.encode()) == theirs


def test_a_request_of_a_known_key_is_taken() -> None:
    """Of the present one or the one before, also where the sender signs with both."""
    both = f"v1,AAAA {sign(OTHER, 'evt-1', NOW_S, b'{}')} v1a,BBBB"
    assert verify([KEY], inbound()) == f"evt-1.{NOW_S}"
    assert verify([KEY, OTHER], inbound(key=OTHER)) == f"evt-1.{NOW_S}"
    assert verify([OTHER], inbound(b"{}", {"webhook-signature": both})) == f"evt-1.{NOW_S}"


FORGED = {
    "another key": inbound(key=OTHER),
    "stale": inbound(seconds=NOW_S - TOLERANCE_S - 1),
    "of the future": inbound(seconds=NOW_S + TOLERANCE_S + 1),
    "no id": inbound(headers={"webhook-id": ""}),
    "another id": inbound(headers={"webhook-id": "evt-2"}),
    "an id that moves the border": inbound(headers={"webhook-id": f"evt-1.{NOW_S}"}),
    "another time": inbound(headers={"webhook-timestamp": str(NOW_S + 1)}),
    "a time that is none": inbound(headers={"webhook-timestamp": "1e9"}),
    "no signature": inbound(headers={"webhook-signature": ""}),
    "a signature of no scheme": inbound(
        headers={"webhook-signature": sign(KEY, "evt-1", NOW_S, b'{"events": []}')[3:]}
    ),
    "a signature of no text": inbound(headers={"webhook-signature": "v1,ü"}),
    "encoded anew": Inbound("POST", "", inbound().headers, b'{"events":[]}', NOW_S * 1000),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_request_that_is_not_theirs_is_refused(name: str) -> None:
    """Whatever about it isn't what was signed, or not now."""
    with pytest.raises(Refused) as caught:
        verify([KEY], FORGED[name])
    assert caught.value.code == "unauthenticated"


@pytest.mark.parametrize(
    ("body", "count"),
    [(b'{"events": []}', 0), (b'{"events": [{"type": "a"}, {"type": "b"}]}', 2), (b'{"type": "typing"}', 1)],
)
async def test_events_come_alone_or_in_a_list(body: bytes, count: int) -> None:
    """In their order; the answer is what became of each, and the request is known by id and time."""
    received = await OpenMessaging("https://x", [KEY]).receive(inbound(body), NOTES)
    assert (len(received.events), received.results, received.once) == (count, True, f"evt-1.{NOW_S}")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b'{"events": 1}', b'{"events": [1]}', b'{"events": [], "x": 1}', b"{}"]
)
async def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    """As `schema_invalid`, since it is signed."""
    with pytest.raises(Refused) as caught:
        await OpenMessaging("https://x", [KEY]).receive(inbound(body), NOTES)
    assert caught.value.code == "schema_invalid"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Sent()),
        (204, Sent()),
        (400, Failed("the receiver answered 400")),
        (404, Failed("the receiver answered 404")),
        (410, Failed("the receiver answered 410")),
        (302, Later("the receiver answered 302", 9_000)),
        (408, Later("the receiver answered 408", 9_000)),
        (425, Later("the receiver answered 425", 9_000)),
        (429, Later("the receiver answered 429", 9_000)),
        (500, Later("the receiver answered 500", 9_000)),
        (503, Later("the receiver answered 503", 9_000)),
    ],
)
def test_what_an_answer_means(status: int, outcome: object) -> None:
    """Taken, never, or later: after the time that it names."""
    assert outcome_of(Answer(status, {"retry-after": "9"}), 0) == outcome


class Line:
    """A caller that keeps what it is asked."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def call(self, method: str, url: str, *, headers: Any, body: bytes) -> Answer:
        """See the port."""
        self.asked.append((method, url, dict(headers), body))
        if self.answer is None:
            raise Unreachable("no connection")
        return self.answer


async def test_what_is_sent_is_signed_with_both_keys() -> None:
    """So that a receiver with either of them verifies it, with the convention's own library."""
    line = Line(Answer(200))
    assert await OpenMessaging("https://x", [KEY, OTHER]).send(ACTION, NOTES, line) == Sent()
    [(method, url, headers, body)] = line.asked
    assert (method, url, headers["webhook-id"]) == ("POST", "https://x", "msg_1")
    for key in (KEY, OTHER):
        assert Webhook(base64.b64encode(key).decode()).verify(body, headers) == json.loads(body)


async def test_no_answer_is_later() -> None:
    """With the reason that the caller gave."""
    assert await OpenMessaging("https://x", [KEY]).send(ACTION, NOTES, Line(None)) == Later("no connection")


def test_the_payload_says_what_a_socket_would_get() -> None:
    """Type, time, ids and data; equal bytes for equal actions."""
    assert json.loads(payload(ACTION)) == {
        "type": "outbound.message",
        "timestamp": "2026-11-22T20:00:00.123Z",
        "id": "msg_1",
        "conversation_id": "cnv_1",
        "customer_id": "cus_7",
        "at": 1_795_377_600_123,
        "data": {"text": "Hallö"},
    }


def test_the_documented_payload_is_what_is_sent() -> None:
    """The line in docs/protocol.md, byte for byte."""
    text = (Path(__file__).resolve().parents[3] / "docs/protocol.md").read_text()
    [line] = [one.strip() for one in text.splitlines() if one.startswith('    {"type":"outbound.message"')]
    shown = json.loads(line)
    action = Action(shown["id"], shown["type"], "acme", "cnv_1", "cus_7", shown["at"], 1, shown["data"])
    assert payload(action).decode() == line
