"""
An adapter in one file: Telegram's bot API, as a recipe for any other platform.

    [connectors.telegram]                             # in hub.toml; this file must be where Python finds modules
    org = "acme"
    adapter = "telegram_adapter:make"
    token_file = "/run/secrets/telegram-token"        # of @BotFather
    webhook_secret_file = "/run/secrets/telegram-webhook"
    queue = "support"

and once, to tell Telegram where the hub is:

    curl "https://api.telegram.org/bot$TOKEN/setWebhook" -d url=https://hub.example.org/v1/channels/telegram \\
         -d secret_token="$WEBHOOK_SECRET" -d 'allowed_updates=["message"]'

What every adapter has to answer, in the order of the code: which options it needs; how it knows that a request is the
platform's; which conversation a message belongs to; which ids make a repeat a repeat; what each action means there; and
which answers of the platform are passing, which are final.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from hub.channels import series
from hub.channels.option_reader import Options
from hub.channels.port import (
    Action,
    Answer,
    Caller,
    Failed,
    Inbound,
    Later,
    Notes,
    Option,
    Outcome,
    Place,
    Received,
    Sent,
    Unreachable,
)
from hub.domain.errors import Refused

TEXT_CHARS_MAX = 4_096  # of one message, by Telegram's reference of sendMessage


def make(options: Mapping[str, Option], place: Place) -> Telegram:
    """1. The options: read with their checks, and nothing left over. Raises BadOption."""
    reader = Options(options)
    adapter = Telegram(
        token=reader.secret("token", bytes_min=20),
        webhook_secret=reader.secret("webhook_secret", bytes_min=16),
        queue=reader.text("queue"),
        api_base=reader.text("api_base", "https://api.telegram.org"),
    )
    reader.done()
    return adapter


class Telegram:
    """One bot: each private chat is a customer, with one conversation after another."""

    def __init__(self, *, token: str, webhook_secret: str, queue: str, api_base: str) -> None:
        self._send_url = f"{api_base}/bot{token}/sendMessage"
        self._webhook_secret = webhook_secret
        self._queue = queue

    async def receive(self, inbound: Inbound, notes: Notes) -> Received:
        """2. Whose request is it? Compare secrets in constant time, and say no more than no."""
        given = inbound.headers.get("x-telegram-bot-api-secret-token", "")
        if not hmac.compare_digest(given.encode(), self._webhook_secret.encode()):
            raise Refused("unauthenticated", "The secret token isn't the one that was given with setWebhook.")
        try:
            message = orjson.loads(inbound.body).get("message") or {}
            chat, text = message.get("chat") or {}, message.get("text") or message.get("caption")
        except (orjson.JSONDecodeError, AttributeError):
            raise Refused(
                "schema_invalid", "Expected an update of Telegram's, got something else.", {"path": "$"}
            ) from None
        if chat.get("type") != "private" or not text:
            return Received()  # groups, stickers, edits: taken, so that it isn't sent again, and nothing to us
        return Received(await self._events(chat, message, text, inbound, notes))

    async def _events(self, chat: Any, message: Any, text: str, inbound: Inbound, notes: Notes) -> list[dict[str, Any]]:
        """3. Which conversation: the running one of this chat. 4. Ids are made of the platform's own."""
        customer = f"tg-{chat['id']}"
        notes = notes.about(customer)  # what is noted of somebody goes when they are erased
        number = await series.number_of(notes, f"{chat['id']}", f"{message['message_id']}", inbound.over)
        conversation = f"tg:{chat['id']}:{number}"
        name = " ".join(filter(None, (chat.get("first_name"), chat.get("last_name")))) or chat.get("username") or ""
        start = {"channel": "open", "queue": self._queue, "customer": {"id": customer, "name": name[:256]}}
        said = {"message_id": f"tg-{chat['id']}-{message['message_id']}", "purpose": "customer", "text": text}

        def event(id: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
            return {"id": id, "type": kind, "conversation_id": conversation, "at": inbound.now_ms, "data": data}

        # The start goes with every message: a repeat is a duplicate, and one that was lost is made up for.
        return [
            event(f"{conversation}:start", "conversation.started", start),
            event(said["message_id"], "message.created", said),
        ]

    async def ended(self, conversation_id: str, notes: Notes) -> bool:
        """A conversation is over: the chat's next message begins another one. False where it isn't of this adapter."""
        kind, _, rest = conversation_id.partition(":")
        chat, _, number = rest.rpartition(":")
        if kind != "tg" or not number.isdecimal():
            return False
        await series.over(notes, chat, int(number))
        return True

    async def send(self, action: Action, notes: Notes, caller: Caller) -> Outcome:
        """5. What an action means: a message is a call, an end is remembered, all else can't be shown in a chat."""
        if action.type == "conversation.ended":
            await self.ended(action.conversation_id, notes)
        if action.type != "outbound.message":
            return Sent()
        text = "\n".join(filter(None, [action.data.get("text") or "", *action.addresses]))
        if len(text) > TEXT_CHARS_MAX:
            return Failed("too_long")
        body = orjson.dumps({"chat_id": int(action.conversation_id.split(":")[1]), "text": text})
        try:
            answer = await caller.call("POST", self._send_url, headers={"content-type": "application/json"}, body=body)
        except Unreachable:
            return Later("unreachable")
        return outcome_of(answer)


def outcome_of(answer: Answer) -> Outcome:
    """6. What the platform's answer means: done, never, or not now. When in doubt about an answer: `Later`."""
    if answer.status == 200:
        return Sent()
    if answer.status == 403:
        return Failed("blocked_by_customer")
    if answer.status in (400, 404):
        return Failed(f"telegram_status_{answer.status}")
    try:
        after_s = int(orjson.loads(answer.body)["parameters"]["retry_after"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        after_s = 0
    return Later(f"telegram_status_{answer.status}", after_s * 1000)
