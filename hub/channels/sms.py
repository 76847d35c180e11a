"""
SMS by Twilio, and by providers that speak as it does: its forms in, its REST call out.

    make(options, place) the adapter; options are those of `Account`
    signature_of(...)    what the provider signs its requests with
    pair_of, number_of   a phone number inside an id, and back

Which conversation a message belongs to follows from the two numbers and from how many conversations between them are
over (`series`): `sms:<ours>:<theirs>:<n>`. Ids of events are made of the provider's `MessageSid`, so a form that is
posted again changes nothing, on any node. What became of a message comes to the address that was given with it
(`StatusCallback`), which names the message and the conversation: nothing has to be looked up.

Sources: Twilio's "Programmable Messaging" (the Messages resource, parameters of incoming messages, status callbacks,
error codes) and "Webhooks security" (the signature).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from hub.channels import series
from hub.channels.gsm import cut, mark_units, numbered, segments
from hub.channels.option_reader import Options
from hub.channels.port import (
    Action,
    Answer,
    BadOption,
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
from hub.protocol.fields import (
    ATTACHMENTS_MAX,
    ID_PATTERN,
    MIME_CHARS_MAX,
    MIME_PATTERN,
    URL_CHARS_MAX,
    URL_PATTERN,
)

log = logging.getLogger(__name__)

Form = Mapping[str, str]
Event = dict[str, Any]

BODY_UNITS_MAX: Final = 1_600  # of one message to the provider (its error 21617)
MEDIA_MAX: Final = 10
PARTS_MAX: Final = 10
# A message's notes outlive every report about it; a stop lasts until the number takes it back.
MESSAGE_TTL_MS: Final = 7 * 86_400_000
STOP_TTL_MS: Final = 10 * 365 * 86_400_000
EMPTY_TWIML: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'

# The provider's own words for the end and the start of texts; those of `Options` are added.
STOP_WORDS: Final = frozenset({"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"})
START_WORDS: Final = frozenset({"start", "unstop", "yes"})

DELIVERED: Final = frozenset({"delivered", "read"})  # SMS knows no reading; what comes so has arrived
UNDELIVERED: Final = frozenset({"undelivered", "failed", "canceled"})
OPTED_OUT_CODE: Final = 21610
REASONS: Final = {
    OPTED_OUT_CODE: "opted_out",
    21211: "invalid_number",
    21408: "region_not_enabled",
    21606: "sender_not_enabled",
    21612: "unreachable_from_sender",
    21614: "not_a_mobile_number",
    21617: "too_long",
    30003: "unreachable",
    30004: "blocked",
    30005: "unknown_number",
    30006: "landline_or_unreachable",
    30007: "filtered_by_carrier",
    30008: "unknown_error",
}

_NUMBER: Final = re.compile(r"\+[1-9][0-9]{1,14}|[0-9]{3,8}")
_CONVERSATION: Final = re.compile(r"sms:(s?[0-9]{2,15}):(s?[0-9]{2,15}):[0-9]+")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What an operator writes. `numbers`: our numbers, each with the queue that its conversations go to.

    `account_sid` and `auth_token` are the provider's; `url` is this connector's address as the provider reaches it;
    `api_base` is where the provider's interface is. `parts_max`: a longer text than fits into so many messages of 1,600
    characters is refused. `stop_words`, `start_words`: those of one's own language.
    """

    account_sid: str
    auth_token: str
    numbers: Mapping[str, str]
    url: str
    division: str
    subject: str
    api_base: str
    parts_max: int
    stop_words: tuple[str, ...]
    start_words: tuple[str, ...]


def make(options: Mapping[str, Option], place: Place) -> Sms:
    """The adapter of one connector. Raises BadOption."""
    reader = Options(options)
    account = Account(
        account_sid=reader.text("account_sid"),
        auth_token=reader.secret("auth_token", bytes_min=16),
        numbers=reader.table("numbers"),
        url=place.url,
        division=reader.text("division", ""),
        subject=reader.text("subject", "Text message"),
        api_base=reader.text("api_base", "https://api.twilio.com").rstrip("/"),
        parts_max=reader.number("parts_max", 4, least=1, most=PARTS_MAX),
        stop_words=reader.texts("stop_words", ()),
        start_words=reader.texts("start_words", ()),
    )
    reader.done()
    _check(account)
    return Sms(account)


def _check(account: Account) -> None:
    """Refuse what would only be found out by the first message."""
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", account.account_sid):
        raise BadOption("account_sid", "isn't one; allowed: AC and 32 hexadecimal digits")
    if not account.numbers:
        raise BadOption("numbers", "is empty; allowed: at least one number with its queue")
    for number, queue in account.numbers.items():
        if not _NUMBER.fullmatch(number):
            raise BadOption("numbers", f"has {number!r}; allowed: numbers like +15005550006, or short codes")
        if not re.search(ID_PATTERN, queue):
            raise BadOption("numbers", f"has the queue {queue!r} for {number}; allowed: a queue's id")
    if account.division and not re.search(ID_PATTERN, account.division):
        raise BadOption("division", f"is {account.division!r}; allowed: a division's id")
    if not account.url:
        message = "is right, but the provider must be told where to report: set `public_url`"
        raise BadOption("numbers", message)
    if not re.fullmatch(r"https?://[^\s?#]+", account.api_base):
        raise BadOption("api_base", "isn't an address; allowed: https://HOST, for tests http://HOST:PORT")


# Numbers inside ids: an id holds no `+`, and a short code has none.


def code_of(number: str) -> str:
    """
    A phone number as it stands in an id: `+15005550006` is `15005550006`, the short code `12345` is `s12345`.

    Raises:
        Refused: `schema_invalid`; it is neither.
    """
    if not _NUMBER.fullmatch(number):
        message = "Expected a phone number like +15005550006, or a short code, got something else."
        raise Refused("schema_invalid", message, {"path": "From"})
    return number[1:] if number.startswith("+") else f"s{number}"


def number_of(code: str) -> str:
    """The phone number of `code_of`'s form."""
    return code[1:] if code.startswith("s") else f"+{code}"


def customer_of(code: str) -> str:
    """The customer's id, by the `code_of` their number."""
    return f"tel:{code}"


def pair_of(conversation_id: str) -> tuple[str, str] | None:
    """Our code and theirs in a conversation's id, or None where it isn't one of ours."""
    found = _CONVERSATION.fullmatch(conversation_id)
    return (found[1], found[2]) if found else None


# The signature.


def signature_of(auth_token: str, url: str, form: Sequence[tuple[str, str]]) -> str:
    """Base64 of the HMAC-SHA1 over the address and the form's names and values, sorted; a pair that repeats counts once."""
    signed = url + "".join(name + value for name, value in sorted(set(form)))
    return base64.b64encode(hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def signed_urls(url: str) -> Iterator[str]:
    """The address as it may have been signed: the provider names the scheme's usual port, or leaves it out."""
    yield url
    parts = urlsplit(url)
    usual = _DEFAULT_PORTS.get(parts.scheme)
    host, _, port = parts.netloc.rpartition(":") if re.search(r":\d+\Z", parts.netloc) else (parts.netloc, "", "")
    if port and int(port) == usual:
        yield urlunsplit(parts._replace(netloc=host))
    elif not port and usual:
        yield urlunsplit(parts._replace(netloc=f"{host}:{usual}"))


class Sms:
    """One account with its numbers."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._queues = {code_of(number): queue for number, queue in account.numbers.items()}
        self._stops = STOP_WORDS | {word.casefold() for word in account.stop_words}
        self._starts = START_WORDS | {word.casefold() for word in account.start_words}
        credentials = f"{account.account_sid}:{account.auth_token}".encode()
        self._authorization = "Basic " + base64.b64encode(credentials).decode()
        self._messages_url = f"{account.api_base}/2010-04-01/Accounts/{account.account_sid}/Messages.json"

    # In.

    async def receive(self, inbound: Inbound, notes: Notes) -> Received:
        """
        A message, or what became of one of ours.

        Raises:
            Refused: `unauthenticated` for a wrong signature; `schema_invalid` for a form that isn't one, another account
                or a number that isn't configured.
        """
        form = self._verified(inbound)
        if form.get("AccountSid") != self.account.account_sid:
            raise _wrong("AccountSid", "Expected the configured account, got another one.")
        about = dict(parse_qsl(urlsplit(inbound.url).query))
        if "message" in about:
            events = await self._reported(about, form, inbound.now_ms, notes)
        else:
            events = await self._said(form, inbound, notes)
        return Received(events, content_type="text/xml", body=EMPTY_TWIML)

    async def ended(self, conversation_id: str, notes: Notes) -> bool:
        """The conversation is over: the next message begins another one. True where it is one of this adapter's."""
        pair = pair_of(conversation_id)
        if pair is None:
            return False
        await series.over(notes.about(customer_of(pair[1])), ":".join(pair), int(conversation_id.rpartition(":")[2]))
        return True

    def _verified(self, inbound: Inbound) -> Form:
        """The form, its signature checked."""
        try:
            pairs = parse_qsl(inbound.body.decode(), keep_blank_values=True, max_num_fields=500)
        except ValueError:
            raise _wrong("body", "Expected a url-encoded form of at most 500 fields, got something else.") from None
        given = inbound.headers.get("x-twilio-signature", "").encode()
        wanted = [signature_of(self.account.auth_token, url, pairs).encode() for url in signed_urls(inbound.url)]
        if not any(hmac.compare_digest(one, given) for one in wanted):
            message = (
                "The signature isn't the configured account's. It covers the address that the provider calls: "
                "check the public address and the auth token."
            )
            raise Refused("unauthenticated", message)
        return dict(pairs)

    async def _said(self, form: Form, inbound: Inbound, notes: Notes) -> list[Event]:
        """The events of an incoming message: its conversation's start, what it says, and whether texts are wanted."""
        sid = form.get("MessageSid", "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,40}", sid):
            raise _wrong("MessageSid", "Expected the message's id, got none that can be one.")
        ours, theirs = code_of(form.get("To", "")), code_of(form.get("From", ""))
        queue = self._queues.get(ours)
        if queue is None:
            configured = ", ".join(sorted(self.account.numbers))
            raise _wrong("To", f"Expected one of the configured numbers ({configured}), got another one.")
        notes = notes.about(customer_of(theirs))
        number = await series.number_of(notes, f"{ours}:{theirs}", sid, inbound.over)
        conversation_id = f"sms:{ours}:{theirs}:{number}"

        def event(id: str, kind: str, data: Event) -> Event:
            return {"id": id, "type": kind, "conversation_id": conversation_id, "at": inbound.now_ms, "data": data}

        data = _message(form, sid)
        said = [event(sid, "message.created", data)] if data is not None else []
        stopped = await self._stop_noted(form, sid, notes, f"{ours}:{theirs}")
        if stopped is not None:
            panel = {"panel": "sms", "content": _panel(form, stopped)}
            said.append(event(f"{sid}:panel", "panel.updated", panel))
        if stopped:
            return said  # shown where a conversation runs; who wants no texts begins none
        customer = {"id": customer_of(theirs), "name": form["From"]}
        start: Event = {"channel": "sms", "queue": queue, "customer": customer, "subject": self.account.subject}
        start["panels"] = {"sms": _panel(form, False)}
        if self.account.division:
            start["division"] = self.account.division
        # Always: a repeat is a duplicate, and a start that was lost with a node is made up for by the next message.
        return [event(f"{conversation_id}:start", "conversation.started", start), *said]

    async def _stop_noted(self, form: Form, sid: str, notes: Notes, pair: str) -> bool | None:
        """
        Note what the message says about further texts: True none are wanted, False they are again, None nothing.

        Once: a copy of an old STOP doesn't undo a START.
        """
        before = await notes.get(f"word:{sid}")
        if before is not None:
            return {"1": True, "0": False}.get(before)
        said = await self._word_noted(form, notes, pair)
        word = {True: "1", False: "0", None: ""}[said]
        await notes.put(f"word:{sid}", word, ttl_ms=MESSAGE_TTL_MS)  # behind what it stands for: nothing is skipped
        return said

    async def _word_noted(self, form: Form, notes: Notes, pair: str) -> bool | None:
        word = form.get("Body", "").strip().strip(".!").casefold()
        told = form.get("OptOutType", "").upper()  # the provider's word, where it looks after this itself
        if told == "STOP" or (not told and word in self._stops):
            await notes.put(f"stop:{pair}", "1", ttl_ms=STOP_TTL_MS)
            return True
        if (told == "START" or (not told and word in self._starts)) and await notes.get(f"stop:{pair}") == "1":
            await notes.put(f"stop:{pair}", "0", ttl_ms=STOP_TTL_MS)
            return False
        return None

    async def _reported(self, about: Form, form: Form, now_ms: int, notes: Notes) -> list[Event]:
        """The receipt that a status callback is, if it says anything new."""
        message, conversation = about["message"], about.get("conversation", "")
        pair = pair_of(conversation)
        if pair is None or pair[0] not in self._queues:
            raise _wrong("conversation", "Expected a conversation of a configured number, got none.")
        notes = notes.about(customer_of(pair[1]))
        try:
            part, parts = int(about.get("part", 1)), int(about.get("parts", 1))
        except ValueError:
            raise _wrong("part", "Expected a number, got something else.") from None
        state = form.get("MessageStatus", "")
        await notes.put(_taken(message, part), "1", ttl_ms=MESSAGE_TTL_MS)

        def receipt(status: str, reason: str | None = None) -> list[Event]:
            data = {"message_id": message, "status": status} | ({"reason": reason} if reason else {})
            id = f"{message}:{status}"
            return [{"id": id, "type": "message.receipt", "conversation_id": conversation, "at": now_ms, "data": data}]

        if state in UNDELIVERED:
            code = _code(form.get("ErrorCode"))
            if code == OPTED_OUT_CODE:
                await notes.put(f"stop:{pair[0]}:{pair[1]}", "1", ttl_ms=STOP_TTL_MS)
            return receipt("failed", reason_of(code))
        if state in DELIVERED:
            await notes.put(f"there:{message}:{part}", "1", ttl_ms=MESSAGE_TTL_MS)
            await notes.put(f"sent:{message}", "1", ttl_ms=MESSAGE_TTL_MS)  # a late `sent` says nothing new
            for other in range(1, min(parts, PARTS_MAX) + 1):
                if await notes.get(f"there:{message}:{other}") is None:
                    return []
            return receipt("delivered")
        if state == "sent" and await notes.put(f"sent:{message}", "1", ttl_ms=MESSAGE_TTL_MS, absent=True):
            return receipt("sent")
        return []  # accepted, scheduled, queued, sending: on its way

    # Out.

    async def send(self, action: Action, notes: Notes, caller: Caller) -> Outcome:
        """A message becomes one call, or several where it is long; an end is noted; all else means nothing to SMS."""
        if action.type == "conversation.ended":
            await self.ended(action.conversation_id, notes)
        if action.type != "outbound.message":
            return Sent()
        pair = pair_of(action.conversation_id)
        if pair is None:
            return Failed("not_an_sms_conversation")
        if pair[0] not in self._queues:
            return Failed("number_not_configured")
        if await notes.get(f"stop:{pair[0]}:{pair[1]}") == "1":
            return Failed("opted_out")
        media = action.addresses
        if not all(url.startswith("https://") for url in media):
            return Failed("attachment_not_https")
        if len(media) > MEDIA_MAX:
            return Failed("too_many_attachments")
        bodies = self.bodies(action.data.get("text") or "")
        if bodies is None:
            return Failed("too_long")
        return await self._send_all(action, pair, bodies, media, notes, caller)

    def bodies(self, text: str) -> list[str] | None:
        """The text as it is sent, in messages that the provider takes; None where it is too long even so."""
        if len(text) > BODY_UNITS_MAX * self.account.parts_max:
            return None
        pieces = cut(text, BODY_UNITS_MAX)
        if len(pieces) > 1:
            pieces = cut(text, BODY_UNITS_MAX - mark_units(self.account.parts_max))
        return numbered(pieces) or [""] if len(pieces) <= self.account.parts_max else None

    async def _send_all(
        self,
        action: Action,
        pair: tuple[str, str],
        bodies: Sequence[str],
        media: Sequence[str],
        notes: Notes,
        caller: Caller,
    ) -> Outcome:
        """One after the other, so that they keep their order; what the provider has already isn't sent again."""
        message = str(action.data["message_id"])
        for part, body in enumerate(bodies, 1):
            if await notes.get(_taken(message, part)) is not None:
                continue
            callback = {"message": message, "conversation": action.conversation_id}
            if len(bodies) > 1:
                callback |= {"part": str(part), "parts": str(len(bodies))}
            form = [("To", number_of(pair[1])), ("From", number_of(pair[0]))]
            form += [("StatusCallback", f"{self.account.url}?{urlencode(callback)}")]
            form += [("Body", body)] if body else []
            form += [("MediaUrl", url) for url in media] if part == len(bodies) else []
            outcome = await self._call(form, caller)
            if not isinstance(outcome, Sent):
                if outcome == Failed("opted_out"):
                    await notes.put(f"stop:{pair[0]}:{pair[1]}", "1", ttl_ms=STOP_TTL_MS)
                return outcome
            await notes.put(_taken(message, part), "1", ttl_ms=MESSAGE_TTL_MS)
        await notes.put(f"sent:{message}", "1", ttl_ms=MESSAGE_TTL_MS)
        log.info("%s sent in %d messages, %d segments", message, len(bodies), sum(map(segments, bodies)))
        return Sent()

    async def _call(self, form: Sequence[tuple[str, str]], caller: Caller) -> Outcome:
        headers = {"authorization": self._authorization, "content-type": "application/x-www-form-urlencoded"}
        try:
            answer = await caller.call("POST", self._messages_url, headers=headers, body=urlencode(form).encode())
        except Unreachable:
            return Later("unreachable")
        return outcome_of(answer)


def outcome_of(answer: Answer) -> Outcome:
    """What the provider's answer to a send means."""
    if 200 <= answer.status < 300:
        return Sent()
    code = _code(_member(answer.body, "code"))
    if answer.status == 429 or code == 20429:
        return Later("too_many_requests", _retry_after_ms(answer))
    if answer.status in (401, 403) and code not in REASONS:
        return Later("credentials_refused")  # an operator mends these, and then it goes on
    if answer.status >= 500 or answer.status == 408:
        return Later(f"provider_status_{answer.status}", _retry_after_ms(answer))
    return Failed(reason_of(code) if code else f"provider_status_{answer.status}")


def reason_of(code: int | None) -> str:
    """The provider's error code in a word."""
    if code is None:
        return "not_delivered"
    return REASONS.get(code, f"provider_error_{code}")


def _message(form: Form, sid: str) -> Event | None:
    """What the customer said, or None where nothing was said."""
    attachments = list(_attachments(form))
    text = form.get("Body", "")
    if not text and not attachments:
        return None
    data: Event = {"message_id": sid, "purpose": "customer", "text": text}
    return data | {"attachments": attachments} if attachments else data


def _attachments(form: Form) -> Iterator[Event]:
    count = form.get("NumMedia") or "0"
    for place in range(min(int(count) if count.isdecimal() else 0, ATTACHMENTS_MAX)):
        url = form.get(f"MediaUrl{place}", "")
        if url.startswith("https://") and re.search(URL_PATTERN, url) and len(url) <= URL_CHARS_MAX:
            told = form.get(f"MediaContentType{place}", "")
            mime = told if re.search(MIME_PATTERN, told) and len(told) <= MIME_CHARS_MAX else "application/octet-stream"
            yield {"url": url, "name": urlsplit(url).path.rpartition("/")[2] or "attachment", "mime": mime}


def _panel(form: Form, opted_out: bool) -> Event:
    return {"our_number": form["To"], "opted_out": opted_out}


def _taken(message: str, part: int) -> str:
    """The note that the provider has this part: by its answer, or by a report about it where the answer was lost."""
    return f"taken:{message}:{part}"


def _wrong(path: str, message: str) -> Refused:
    return Refused("schema_invalid", message, {"path": path})


def _code(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) else None


def _member(body: bytes, name: str) -> object:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value.get(name) if isinstance(value, dict) else None


def _retry_after_ms(answer: Answer) -> int:
    text = answer.headers.get("retry-after", "")
    return int(text) * 1000 if text.isdecimal() and len(text) < 7 else 0
