"""SMS: the provider's forms in, its calls out; the provider's own library is the other side."""

import asyncio
import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from hub.channels.gsm import utf16_units
from hub.channels.port import Action, Answer, BadOption, Failed, Inbound, Later, Outcome, Place, Received, Sent
from hub.channels.sms import BODY_UNITS_MAX, Sms, code_of, make, number_of, outcome_of, pair_of, signature_of
from hub.domain.errors import Refused
from hub.protocol.fields import ID_PATTERN
from hub.protocol.platform import BadEvent, decode_event
from tests.support.http_server import Asked, HttpServer, LoopbackCaller, Said
from tests.support.notes import MemoryNotes

SID = "AC" + "0" * 31 + "1"
TOKEN = "a-token-for-tests-0123456789"
OURS, THEIRS = "+15005550006", "+15005550101"
PLACE = Place("acme", "texts", "https://hub.example.org/v1/channels/texts")
OPTIONS: dict[str, Any] = {"account_sid": SID, "auth_token": TOKEN, "numbers": {OURS: "support"}}
FIRST = "sms:15005550006:15005550101:1"
SECOND = "sms:15005550006:15005550101:2"
NOW_MS = 1_795_377_600_000


def adapter(**changed: Any) -> Sms:
    """The adapter of one account."""
    return make(OPTIONS | changed, PLACE)


def inbound(form: dict[str, str], *, query: str = "", url: str = PLACE.url, token: str = TOKEN) -> Inbound:
    """A form as the provider posts it, signed by the provider's own library."""
    url = url + (f"?{query}" if query else "")
    signature = RequestValidator(token).compute_signature(url, form)
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return Inbound("POST", url, headers, urlencode(form).encode(), NOW_MS)


def text(body: str, sid: str = "SM1", **more: str) -> Inbound:
    """An incoming message."""
    return inbound(form_of(body, sid, **more))


def form_of(body: str, sid: str = "SM1", **more: str) -> dict[str, str]:
    """The form of an incoming message."""
    told = {"MessageSid": sid, "AccountSid": SID, "From": THEIRS, "To": OURS, "Body": body, "NumMedia": "0"}
    return told | more


def report(
    state: str, message: str = "msg_1", part: int = 0, parts: int = 0, *, more: dict[str, str] | None = None
) -> Inbound:
    """A status callback to the address that was given with the message."""
    query = {"message": message, "conversation": FIRST} | ({"part": part, "parts": parts} if part else {})
    form = {"MessageSid": "SM9", "AccountSid": SID, "MessageStatus": state} | (more or {})
    return inbound(form, query=urlencode(query))


def action(kind: str = "outbound.message", conversation: str = FIRST, *, attempt: int = 1, **data: Any) -> Action:
    """An action of the outbox."""
    about = {"message_id": "msg_1", "text": "Hello", "attachments": [], "sender": {"name": None}} | data
    return Action("act_1", kind, "acme", conversation, "tel:15005550101", NOW_MS, attempt, about)


def kinds(received: Received) -> list[str]:
    """The types of the events, each of which the hub must be able to read."""
    for event in received.events:
        read = decode_event(orjson.dumps(event))
        assert not isinstance(read, BadEvent), read
    return [event["type"] for event in received.events]


@pytest.fixture
def provider() -> Iterator[HttpServer]:
    """A provider that takes every message."""
    with HttpServer(lambda _: Said(201, {"sid": "SM7", "status": "queued", "num_segments": "1"})) as standing:
        yield standing


async def sent(provider: HttpServer, notes: MemoryNotes | None = None, **data: Any) -> Outcome:
    """What became of a message that was sent to this provider."""
    known = {name: data.pop(name) for name in ("attempt", "conversation") if name in data}
    channel = adapter(api_base=provider.url, **data.pop("options", {}))
    return await channel.send(action(**known, **data), notes or MemoryNotes(), LoopbackCaller())


# In.


async def test_a_first_message_begins_a_conversation() -> None:
    """It starts one in the number's queue, named by the two numbers, and says what the customer said."""
    received = await adapter().receive(text("Hi, where is my order?"), MemoryNotes())
    assert kinds(received) == ["conversation.started", "message.created"]
    start, said = received.events
    assert start["conversation_id"] == said["conversation_id"] == FIRST
    assert start["data"]["queue"] == "support"
    assert start["data"]["channel"] == "sms"
    assert start["data"]["customer"] == {"id": "tel:15005550101", "name": THEIRS}
    assert said["id"] == said["data"]["message_id"] == "SM1"
    assert said["data"]["text"] == "Hi, where is my order?"
    assert (received.content_type, received.status) == ("text/xml", 200)
    assert received.body.endswith(b"<Response/>")


async def test_a_form_that_is_posted_again_makes_the_same_events() -> None:
    """The ids are the provider's, so the hub knows them; also where two nodes have the two copies at once."""
    notes = MemoryNotes()
    copies = await asyncio.gather(*(adapter().receive(text("Hi"), notes) for _ in range(2)))
    assert copies[0].events == copies[1].events


async def test_two_messages_at_once_go_to_one_conversation() -> None:
    """Both nodes come to the same conversation and to the same id of its start."""
    notes = MemoryNotes()
    one, two = await asyncio.gather(
        adapter().receive(text("Hi", "SM1"), notes), adapter().receive(text("Hi!", "SM2"), notes)
    )
    assert one.events[0] == two.events[0]
    assert [event["id"] for event in (one.events[1], two.events[1])] == ["SM1", "SM2"]


async def test_a_message_after_the_end_begins_the_next_conversation() -> None:
    """Whoever ended it, and however often that is told."""
    notes, channel = MemoryNotes(), adapter()
    assert await channel.send(action("conversation.ended", action_id="act_1"), notes, LoopbackCaller()) == Sent()
    assert await channel.ended(FIRST, notes)
    received = await channel.receive(text("One more thing", "SM2"), notes)
    assert {event["conversation_id"] for event in received.events} == {SECOND}
    await channel.ended(SECOND, notes)
    await channel.ended(FIRST, notes)  # a node that was slow
    received = await channel.receive(text("And another", "SM3"), notes)
    assert {event["conversation_id"] for event in received.events} == {FIRST[:-1] + "3"}


async def test_a_form_that_comes_again_after_the_end_goes_where_it_was_taken() -> None:
    """There it is known. One that had not been taken there goes on into the next, and so does its copy."""
    notes, channel = MemoryNotes(), adapter()
    first = await channel.receive(text("Hi"), notes)
    await channel.ended(FIRST, notes)
    assert (await channel.receive(text("Hi"), notes)).events == first.events
    for _ in range(2):
        refused_there = replace(text("Hi"), over=(FIRST,))
        assert {one["conversation_id"] for one in (await channel.receive(refused_there, notes)).events} == {SECOND}


async def test_ends_are_remembered_longer_than_conversations() -> None:
    """After a year they still count; and when they are forgotten they are forgotten together."""
    notes, channel = MemoryNotes(), adapter()
    for one in (FIRST, SECOND):
        await channel.ended(one, notes)
        notes.now_ms += 1000
    day = 86_400_000
    for days, number in ((365, 3), (36, 1)):
        notes.now_ms += days * day
        received = await channel.receive(text("Hello again", f"SM{days}"), notes)
        assert received.events[0]["conversation_id"] == f"{FIRST[:-1]}{number}"


async def test_another_conversation_id_isnt_ours() -> None:
    """Only ids of this adapter are counted on."""
    assert not await adapter().ended("cnv_1", MemoryNotes())


async def test_pictures_come_as_attachments() -> None:
    """With their address and kind; an address without TLS, and a kind that is none, are left out."""
    media = {
        "NumMedia": "3",
        "MediaUrl0": "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1",
        "MediaContentType0": "image/jpeg",
        "MediaUrl1": "http://api.twilio.com/x",
        "MediaContentType1": "image/png",
        "MediaUrl2": "https://api.twilio.com/y.pdf?a=1",
        "MediaContentType2": "no kind",
    }
    received = await adapter().receive(text("", **media), MemoryNotes())
    assert kinds(received) == ["conversation.started", "message.created"]
    assert received.events[1]["data"]["attachments"] == [
        {"url": media["MediaUrl0"], "name": "ME1", "mime": "image/jpeg"},
        {"url": media["MediaUrl2"], "name": "y.pdf", "mime": "application/octet-stream"},
    ]


async def test_a_message_that_says_nothing_says_nothing() -> None:
    """Neither text nor picture: only the conversation is there."""
    assert kinds(await adapter().receive(text(""), MemoryNotes())) == ["conversation.started"]


@pytest.mark.parametrize(
    ("changed", "code", "path"),
    [
        ({"To": "+15005550007"}, "schema_invalid", "To"),
        ({"To": "nobody"}, "schema_invalid", "From"),
        ({"From": "ACME"}, "schema_invalid", "From"),
        ({"AccountSid": "AC2"}, "schema_invalid", "AccountSid"),
        ({"MessageSid": ""}, "schema_invalid", "MessageSid"),
        ({"MessageSid": "no id"}, "schema_invalid", "MessageSid"),
    ],
)
async def test_what_isnt_for_us_is_refused(changed: dict[str, str], code: str, path: str) -> None:
    """Another number, another account, no id: refused, and nothing is noted."""
    notes = MemoryNotes()
    with pytest.raises(Refused) as refused:
        await adapter().receive(text("Hi", **changed), notes)
    assert (refused.value.code, refused.value.details["path"]) == (code, path)
    assert notes.kept == {}


# The signature.


async def test_a_wrong_signature_is_refused_whatever_it_is() -> None:
    """Another token, another address, a changed form, none at all."""
    good = text("Hi")
    other = inbound(form_of("Hi"), token="another-token-0123456789")
    moved = Inbound(good.method, good.url + "/x", good.headers, good.body, NOW_MS)
    changed = Inbound(good.method, good.url, good.headers, good.body + b"&Body=Ho", NOW_MS)
    bare = Inbound(good.method, good.url, {}, good.body, NOW_MS)
    strange = Inbound(good.method, good.url, {"x-twilio-signature": "é"}, good.body, NOW_MS)
    for wrong in (other, moved, changed, bare, strange):
        with pytest.raises(Refused) as refused:
            await adapter().receive(wrong, MemoryNotes())
        assert refused.value.code == "unauthenticated"
        assert TOKEN not in str(refused.value)
    assert kinds(await adapter().receive(good, MemoryNotes()))


@pytest.mark.parametrize(
    ("signed", "seen"),
    [
        ("https://hub.example.org:443/v1/channels/texts", "https://hub.example.org/v1/channels/texts"),
        ("https://hub.example.org/v1/channels/texts", "https://hub.example.org:443/v1/channels/texts"),
        ("http://hub.example.org:80/x?a=1", "http://hub.example.org/x?a=1"),
    ],
)
async def test_the_usual_port_may_be_named_or_not(signed: str, seen: str) -> None:
    """The provider signs the address with or without it; both are the same address."""
    good = inbound(form_of("Hi"), url=signed)
    assert kinds(await adapter().receive(Inbound("POST", seen, good.headers, good.body, NOW_MS), MemoryNotes()))


FORMS = st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=9)


@given(FORMS, st.sampled_from(["", "?a=1&b=%20", "?message=msg_1"]))
def test_the_providers_library_accepts_what_we_sign(form: dict[str, str], query: str) -> None:
    """Over any names and values."""
    url = PLACE.url + query
    assert RequestValidator(TOKEN).validate(url, form, signature_of(TOKEN, url, list(form.items())))


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=%d" % one for one in range(600))])
async def test_what_is_no_form_is_refused(body: bytes) -> None:
    """A body that isn't text, or has fields without end."""
    with pytest.raises(Refused) as refused:
        await adapter().receive(Inbound("POST", PLACE.url, {}, body, NOW_MS), MemoryNotes())
    assert refused.value.code == "schema_invalid"


# What became of a message.


@pytest.mark.parametrize(
    ("state", "more", "receipt"),
    [
        ("queued", {}, None),
        ("sending", {}, None),
        ("sent", {}, {"status": "sent"}),
        ("delivered", {}, {"status": "delivered"}),
        ("read", {}, {"status": "delivered"}),
        ("undelivered", {"ErrorCode": "30003"}, {"status": "failed", "reason": "unreachable"}),
        ("failed", {"ErrorCode": "30999"}, {"status": "failed", "reason": "provider_error_30999"}),
        ("failed", {}, {"status": "failed", "reason": "not_delivered"}),
    ],
)
async def test_a_report_becomes_a_receipt(state: str, more: dict[str, str], receipt: dict[str, str] | None) -> None:
    """Where it says something that the hub can say; it names the message and conversation of its address."""
    received = await adapter().receive(report(state, more=more), MemoryNotes())
    assert kinds(received) == (["message.receipt"] if receipt else [])
    for event in received.events:
        assert event["conversation_id"] == FIRST
        assert event["data"] == {"message_id": "msg_1"} | (receipt or {})


async def test_a_late_sent_undoes_nothing() -> None:
    """Once it is delivered, or known to be sent, `sent` says nothing new."""
    channel, notes = adapter(), MemoryNotes()
    assert len((await channel.receive(report("delivered"), notes)).events) == 1
    assert (await channel.receive(report("sent"), notes)).events == []


async def test_a_message_in_parts_is_delivered_when_all_are() -> None:
    """In any order and with repeats; one that isn't delivered makes the message fail."""
    channel, notes = adapter(), MemoryNotes()
    seen = [len((await channel.receive(report("delivered", "msg_1", n, 3), notes)).events) for n in (3, 1, 1, 2)]
    assert seen == [0, 0, 0, 1]
    failed = await channel.receive(report("undelivered", "msg_2", 2, 2, more={"ErrorCode": "30005"}), notes)
    assert failed.events[0]["data"]["reason"] == "unknown_number"


@pytest.mark.parametrize(
    "query", ["message=m", "message=m&conversation=cnv_1", f"message=m&conversation={FIRST}&part=x"]
)
async def test_a_report_about_nothing_of_ours_is_refused(query: str) -> None:
    """The address must be one that was given."""
    form = {"AccountSid": SID, "MessageStatus": "sent"}
    with pytest.raises(Refused) as refused:
        await adapter().receive(inbound(form, query=query), MemoryNotes())
    assert refused.value.code == "schema_invalid"


# Out.


class Redirected(TwilioHttpClient):  # type: ignore[misc]  # the library has no types
    """The provider's own client, led to another address."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        """As it would ask the provider."""
        return super().request(method, self.base + urlsplit(url).path, *arguments, **options)


async def test_the_call_is_the_one_that_the_providers_client_makes(provider: HttpServer) -> None:
    """Path, credentials and form of its own library's request are ours."""
    picture = "https://shop.example/a.png"
    assert await sent(provider, attachments=[{"url": picture, "name": "a.png", "mime": "image/png"}]) == Sent()
    [ours] = provider.asked
    client = Client(SID, TOKEN, http_client=Redirected(provider.url))
    callback = f"{PLACE.url}?message=msg_1&conversation={FIRST.replace(':', '%3A')}"

    def ask() -> Any:
        return client.messages.create(
            to=THEIRS, from_=OURS, body="Hello", status_callback=callback, media_url=[picture]
        )

    assert (await asyncio.to_thread(ask)).sid == "SM7"
    theirs = provider.asked[1]
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert ours.headers["authorization"] == theirs.headers["authorization"]
    assert sorted(ours.form) == sorted(theirs.form)


async def test_a_report_to_the_given_address_is_about_the_message(provider: HttpServer) -> None:
    """What goes out with a message comes back as its receipt, without anything looked up."""
    await sent(provider)
    callback = dict(provider.asked[0].form)["StatusCallback"]
    form = {"AccountSid": SID, "MessageSid": "SM7", "MessageStatus": "delivered"}
    received = await adapter().receive(inbound(form, url=callback), MemoryNotes())
    assert received.events[0]["data"] == {"message_id": "msg_1", "status": "delivered"}
    assert received.events[0]["conversation_id"] == FIRST


async def test_sent_is_told_once(provider: HttpServer) -> None:
    """The outbox tells it when the provider has the message; the provider's `sent` then says nothing new."""
    notes = MemoryNotes()
    assert await sent(provider, notes) == Sent()
    assert (await adapter().receive(report("sent"), notes)).events == []


async def test_a_long_text_goes_in_numbered_parts(provider: HttpServer) -> None:
    """Each fits, in order, one report address each; pictures go with the last."""
    long = "A line of some words.\n" * 150
    files = [{"url": "https://shop.example/a.png", "name": "a.png", "mime": "image/png"}]
    assert await sent(provider, text=long, attachments=files) == Sent()
    forms = [dict(one.form) for one in provider.asked]
    bodies = [form["Body"] for form in forms]
    assert len(bodies) == 3
    assert all(utf16_units(body) <= BODY_UNITS_MAX for body in bodies)
    assert "".join(body.removeprefix(f"({place}/3) ") for place, body in enumerate(bodies, 1)) == long
    assert ["MediaUrl" in form for form in forms] == [False, False, True]
    assert [form["StatusCallback"].rpartition("&part=")[2] for form in forms] == ["1&parts=3", "2&parts=3", "3&parts=3"]


async def test_a_text_past_the_limit_is_refused_whole(provider: HttpServer) -> None:
    """No part of it is sent."""
    assert await sent(provider, text="word " * 700, options={"parts_max": 2}) == Failed("too_long")
    assert await sent(provider, text="x" * 60_000) == Failed("too_long")
    assert provider.asked == []


@given(st.text(st.sampled_from("ab €漢😀\n"), max_size=4_000), st.integers(1, 10))
def test_bodies_hold_the_whole_text(said: str, parts_max: int) -> None:
    """All of it, in order, in messages that the provider takes; or none."""
    bodies = adapter(parts_max=parts_max).bodies(said)
    if bodies is None:
        assert utf16_units(said) > BODY_UNITS_MAX * parts_max * 0.85 - 300 * parts_max
        return
    assert len(bodies) <= parts_max
    assert all(utf16_units(body) <= BODY_UNITS_MAX for body in bodies)
    marks = [f"({n}/{len(bodies)}) " if len(bodies) > 1 else "" for n in range(1, len(bodies) + 1)]
    assert "".join(body.removeprefix(mark) for body, mark in zip(bodies, marks, strict=True)) == said


async def test_a_try_again_goes_on_where_it_stopped() -> None:
    """A part that the provider took isn't sent twice, nor one that it reported about though its answer was lost."""
    answers = iter([Said(201), Said(503), None, Said(201)])
    notes, long = MemoryNotes(), "word " * 900

    def answer(_: Asked) -> Said:
        one = next(answers)
        if one is None:
            raise ConnectionResetError
        return one

    with HttpServer(answer) as provider:
        assert await sent(provider, notes, text=long) == Later("provider_status_503")
        assert await sent(provider, notes, text=long, attempt=2) == Later("unreachable")
        await adapter().receive(report("queued", "msg_1", 2, 3), notes)
        assert await sent(provider, notes, text=long, attempt=3) == Sent()
        assert [dict(one.form)["Body"][:5] for one in provider.asked] == ["(1/3)", "(2/3)", "(2/3)", "(3/3)"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(201, {}, b"{}"), Sent()),
        (Answer(400, {}, b'{"code": 21211, "message": "no"}'), Failed("invalid_number")),
        (Answer(400, {}, b'{"code": 21610}'), Failed("opted_out")),
        (Answer(403, {}, b'{"code": 21408}'), Failed("region_not_enabled")),
        (Answer(400, {}, b'{"code": 21999}'), Failed("provider_error_21999")),
        (Answer(400, {}, b"<html>"), Failed("provider_status_400")),
        (Answer(404, {}, b"[]"), Failed("provider_status_404")),
        (Answer(302), Failed("provider_status_302")),
        (Answer(429, {"retry-after": "7"}, b'{"code": 20429}'), Later("too_many_requests", 7_000)),
        (Answer(503, {"retry-after": "soon"}), Later("provider_status_503")),
        (Answer(500), Later("provider_status_500")),
        (Answer(401, {}, b'{"code": 20003}'), Later("credentials_refused")),
    ],
)
def test_each_answer_means_one_outcome(answer: Answer, outcome: Outcome) -> None:
    """What can pass is tried again, what can't has failed, with a reason in a word."""
    assert outcome_of(answer) == outcome


async def test_no_answer_is_tried_again() -> None:
    """A line that is cut says nothing about the message."""

    def cut_off(_: Asked) -> Said:
        raise ConnectionResetError

    with HttpServer(cut_off) as provider:
        assert await sent(provider) == Later("unreachable")


async def test_a_file_of_the_hubs_goes_by_the_link_that_opens_it(provider: HttpServer) -> None:
    """Its address alone opens nothing; without a public address of the hub's there is no link, and that is said."""
    path, link = "/v1/files/fil_1/a.png", "https://hub.example.org/v1/files/fil_1/a.png?until=1&sign=2"
    opened, bare = (action(attachments=[{"url": url, "name": "a.png", "mime": "image/png"}]) for url in (link, path))
    channel = adapter(api_base=provider.url)
    assert await channel.send(opened, MemoryNotes(), LoopbackCaller()) == Sent()
    assert dict(provider.asked[0].form)["MediaUrl"] == link
    assert await channel.send(bare, MemoryNotes(), LoopbackCaller()) == Failed("attachment_not_https")


@pytest.mark.parametrize("kind", ["participant.connected", "participant.disconnected", "sender.changed"])
async def test_what_sms_cant_show_is_done_without_a_call(kind: str, provider: HttpServer) -> None:
    """Who answers, who left and under which name: nothing that a text could say."""
    channel = adapter(api_base=provider.url)
    assert await channel.send(action(kind, action_id="act_1"), MemoryNotes(), LoopbackCaller()) == Sent()
    assert provider.asked == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"conversation": "cnv_1"}, "not_an_sms_conversation"),
        ({"conversation": "sms:15005550007:15005550101:1"}, "number_not_configured"),
        ({"attachments": [{"url": "http://shop.example/a.png"}]}, "attachment_not_https"),
        ({"attachments": [{"url": "https://shop.example/a.png"}] * 11}, "too_many_attachments"),
    ],
)
async def test_what_cant_be_sent_fails_at_once(changed: dict[str, Any], reason: str, provider: HttpServer) -> None:
    """Without a call, and with the reason."""
    assert await sent(provider, **changed) == Failed(reason)
    assert provider.asked == []


# No more texts.


@pytest.mark.parametrize("word", ["STOP", "stop", " Stop. ", "StopAll", "UNSUBSCRIBE", "cancel", "END", "quit", "Halt"])
async def test_after_a_stop_nothing_is_sent(word: str, provider: HttpServer) -> None:
    """In the provider's words and one's own; the agent sees the message and the panel, and no conversation begins."""
    channel, notes = adapter(api_base=provider.url, stop_words=["HALT"], start_words=["los"]), MemoryNotes()
    received = await channel.receive(text(word), notes)
    assert kinds(received) == ["message.created", "panel.updated"]
    assert received.events[1]["data"] == {"panel": "sms", "content": {"our_number": OURS, "opted_out": True}}
    assert await channel.send(action(), notes, LoopbackCaller()) == Failed("opted_out")
    assert provider.asked == []
    received = await channel.receive(text("Los!", "SM2"), notes)
    assert kinds(received) == ["conversation.started", "message.created", "panel.updated"]
    assert received.events[2]["data"]["content"]["opted_out"] is False
    assert await channel.send(action(), notes, LoopbackCaller()) == Sent()


@pytest.mark.parametrize("word", ["Please stop", "stopping", "START", "yes", "HELP"])
async def test_other_words_mean_nothing_of_the_kind(word: str) -> None:
    """A word inside a sentence, a start without a stop, a question for help are messages like others."""
    received = await adapter().receive(text(word), MemoryNotes())
    assert kinds(received) == ["conversation.started", "message.created"]


async def test_a_copy_of_an_old_stop_undoes_no_start() -> None:
    """It makes the same events, which the hub knows, and nothing else."""
    channel, notes = adapter(), MemoryNotes()
    stop = await channel.receive(text("STOP"), notes)
    await channel.receive(text("START", "SM2"), notes)
    assert (await channel.receive(text("STOP"), notes)).events == stop.events
    with HttpServer(lambda _: Said(201)) as provider:
        assert await sent(provider, notes) == Sent()


async def test_where_the_provider_looks_after_stops_its_word_counts() -> None:
    """With `OptOutType` the words are the provider's to know."""
    channel, notes = adapter(), MemoryNotes()
    assert "panel.updated" in kinds(await channel.receive(text("Basta", OptOutType="STOP"), notes))
    assert "panel.updated" not in kinds(await channel.receive(text("START", "SM2", OptOutType="HELP"), notes))
    assert "panel.updated" in kinds(await channel.receive(text("Vamos", "SM3", OptOutType="START"), notes))


@pytest.mark.parametrize("by", ["answer", "report"])
async def test_a_stop_that_only_the_provider_knew_is_learnt(by: str) -> None:
    """Its error for such numbers is remembered, so that the next message isn't tried."""
    notes = MemoryNotes()
    with HttpServer(lambda _: Said(400, {"code": 21610})) as provider:
        if by == "answer":
            assert await sent(provider, notes) == Failed("opted_out")
        else:
            await adapter().receive(report("failed", more={"ErrorCode": "21610"}), notes)
        asked = len(provider.asked)
        assert await sent(provider, notes) == Failed("opted_out")
        assert len(provider.asked) == asked


# Options and ids.


@given(st.from_regex(r"\A(\+[1-9][0-9]{1,14}|[0-9]{3,8})\Z"), st.from_regex(r"\A(\+[1-9][0-9]{1,14}|[0-9]{3,8})\Z"))
def test_numbers_come_back_from_ids(ours: str, theirs: str) -> None:
    """An id holds a number reversibly, and is an id by the protocol."""
    conversation = f"sms:{code_of(ours)}:{code_of(theirs)}:1234567"
    assert re.search(ID_PATTERN, conversation)
    pair = pair_of(conversation)
    assert pair is not None
    assert tuple(map(number_of, pair)) == (ours, theirs)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"account_sid": "AC1"}, "account_sid"),
        ({"auth_token": "brief"}, "auth_token"),
        ({"numbers": {}}, "numbers"),
        ({"numbers": {"+0155": "support"}}, "numbers"),
        ({"numbers": {OURS: "no queue"}}, "numbers"),
        ({"numbers": [OURS]}, "numbers"),
        ({"api_base": "ftp://x"}, "api_base"),
        ({"parts_max": 11}, "parts_max"),
        ({"division": "no division"}, "division"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_option_is_named(changed: dict[str, Any], key: str) -> None:
    """When the hub starts, with what is allowed; a secret isn't shown."""
    with pytest.raises(BadOption) as bad:
        adapter(**changed)
    assert bad.value.key == key
    assert "brief" not in bad.value.message


def test_an_address_for_reports_is_needed() -> None:
    """Without a public address nothing could be reported, so it is said at the start."""
    with pytest.raises(BadOption, match="public_url"):
        make(OPTIONS, Place("acme", "texts"))


def test_credentials_stand_in_the_header_alone() -> None:
    """Basic authentication by account and token."""
    channel = adapter()
    assert base64.b64decode(channel._authorization.split()[1]).decode() == f"{SID}:{TOKEN}"
