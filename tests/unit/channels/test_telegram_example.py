"""The recipe of an adapter in docs/examples: it does what docs/connect.md says an adapter does."""

import runpy
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.channels.port import Action, Answer, BadOption, Failed, Inbound, Later, Outcome, Place, Sent
from hub.domain.errors import Refused
from hub.protocol.platform import BadEvent, decode_event
from tests.support.http_server import HttpServer, LoopbackCaller
from tests.support.notes import MemoryNotes

EXAMPLE = runpy.run_path(str(Path(__file__).parents[3] / "docs/examples/telegram_adapter.py"), run_name="example")
PLACE = Place("acme", "telegram", "https://hub.example.org/v1/channels/telegram")
SECRET, TOKEN = "a-secret-for-tests-only", "123456:a-token-for-tests"
OPTIONS = {"token": TOKEN, "webhook_secret": SECRET, "queue": "support"}
NOW_MS = 1_795_377_600_000
FIRST, SECOND = "tg:41:1", "tg:41:2"


def adapter(**changed: Any) -> Any:
    """The example's adapter."""
    return EXAMPLE["make"](OPTIONS | changed, PLACE)


def update(message_id: int = 7, text: str | None = "Hi", secret: str = SECRET, **chat: Any) -> Inbound:
    """An update as Telegram posts it."""
    told = {"id": 41, "type": "private", "first_name": "Dana", "last_name": "Fox"} | chat
    message = {"message_id": message_id, "date": NOW_MS // 1000, "from": told, "chat": told, "text": text}
    body = orjson.dumps({"update_id": 1, "message": message})
    return Inbound("POST", PLACE.url, {"x-telegram-bot-api-secret-token": secret}, body, NOW_MS)


def action(kind: str = "outbound.message", **data: Any) -> Action:
    """An action of the outbox."""
    about = {"message_id": "msg_1", "text": "Hello", "attachments": []} | data
    return Action("act_1", kind, "acme", FIRST, "tg-41", NOW_MS, 1, about)


async def test_a_message_becomes_events_that_the_hub_reads() -> None:
    """With its start, under ids that a repeat has again."""
    channel, notes = adapter(), MemoryNotes()
    received = await channel.receive(update(), notes)
    assert not any(isinstance(decode_event(orjson.dumps(event)), BadEvent) for event in received.events)
    start, said = received.events
    assert start["data"]["customer"] == {"id": "tg-41", "name": "Dana Fox"}
    assert said["data"] == {"message_id": "tg-41-7", "purpose": "customer", "text": "Hi"}
    assert (await channel.receive(update(), notes)).events == received.events


async def test_after_the_end_comes_the_next_conversation() -> None:
    """Whether the hub ended it or found it ended."""
    channel, notes = adapter(), MemoryNotes()
    assert await channel.send(action("conversation.ended"), notes, LoopbackCaller()) == Sent()
    assert (await channel.receive(update(), notes)).events[0]["conversation_id"] == SECOND
    assert not await channel.ended("cnv_1", notes)


async def test_others_are_refused_and_what_is_nothing_to_us_is_taken() -> None:
    """A wrong secret and what isn't an update; groups and stickers mean nothing."""
    for inbound, code in (
        (update(secret="another"), "unauthenticated"),
        (Inbound("POST", PLACE.url, {"x-telegram-bot-api-secret-token": SECRET}, b"[]", NOW_MS), "schema_invalid"),
        (Inbound("POST", PLACE.url, {"x-telegram-bot-api-secret-token": SECRET}, b"{", NOW_MS), "schema_invalid"),
    ):
        with pytest.raises(Refused) as refused:
            await adapter().receive(inbound, MemoryNotes())
        assert refused.value.code == code
    assert (await adapter().receive(update(type="group"), MemoryNotes())).events == ()
    assert (await adapter().receive(update(text=None), MemoryNotes())).events == ()


async def test_a_message_is_one_call() -> None:
    """To the chat that the conversation's id names, with addresses of files behind the text."""
    with HttpServer() as telegram:
        channel = adapter(api_base=telegram.url)
        files = [{"url": "https://shop.example/a.png"}]
        assert await channel.send(action(attachments=files), MemoryNotes(), LoopbackCaller()) == Sent()
        assert await channel.send(action("sender.changed"), MemoryNotes(), LoopbackCaller()) == Sent()
        assert await channel.send(action(text="x" * 5_000), MemoryNotes(), LoopbackCaller()) == Failed("too_long")
    [asked] = telegram.asked
    assert asked.target == f"/bot{TOKEN}/sendMessage"
    assert asked.json == {"chat_id": 41, "text": "Hello\nhttps://shop.example/a.png"}
    assert await channel.send(action(), MemoryNotes(), LoopbackCaller()) == Later("unreachable")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200), Sent()),
        (Answer(403), Failed("blocked_by_customer")),
        (Answer(400), Failed("telegram_status_400")),
        (Answer(429, {}, b'{"parameters":{"retry_after":3}}'), Later("telegram_status_429", 3_000)),
        (Answer(502, {}, b"<html>"), Later("telegram_status_502")),
    ],
)
def test_each_answer_means_one_outcome(answer: Answer, outcome: Outcome) -> None:
    """Done, never, or not now."""
    assert EXAMPLE["outcome_of"](answer) == outcome


def test_a_wrong_option_is_named() -> None:
    """As of every adapter."""
    for changed in ({"token": "short"}, {"colour": "blue"}):
        with pytest.raises(BadOption) as bad:
            adapter(**changed)
        assert bad.value.key in changed
