"""
Open messaging: any third party's own messenger, by signed webhooks in both directions (Standard Webhooks 1.0).

Out, one POST to `url` for each action, the same bytes in every try:

    webhook-id: <action id>, webhook-timestamp: <seconds, of this try>, webhook-signature: v1,<base64> [v1,<base64>]
    {"type": "outbound.message", "timestamp": "...", "id": "...", "conversation_id": "...", "customer_id": "...",
     "at": <ms>, "data": {...}}                                       `data` as the connector's socket gets it

In, to `/v1/channels/<connector>`, signed the same way: `{"events": [...]}`, or one event. The answer says what became of
each event, as that of `POST /v1/events` does.

    [connectors.shop]
    org = "acme"
    adapter = "open"
    url = "https://shop.example/hub"
    secret_file = "shop.secret"                   # whsec_ and 24 to 64 bytes in base64
    secret_previous_file = "shop.secret.old"      # while keys are changed: what goes out is signed with both

Replays. A request older than five minutes is refused, and so is one with an id and a time that were carried out already.
Whoever sends a request again because no answer came gives it a new time, as the convention asks, and signs it again: the
same id with another time is taken, and what it brings a second time are duplicates by the events' own ids. A request
that was not carried out (no answer, or 503) may come again just as it was.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import orjson

from hub.channels.option_reader import Options
from hub.channels.outward import checked_url, retry_after_ms
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

TOLERANCE_S: Final = 300
SECRET_BYTES: Final = (24, 64)
PREFIX: Final = "whsec_"
AGAIN: Final = frozenset({408, 425, 429})  # refusals that time may change
SIGNATURES_MAX: Final = 10
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,256}")  # no `.`, which separates it from what follows it in what is signed
_SECONDS = re.compile(r"[0-9]{1,12}")


def make(options: Mapping[str, Option], place: Place) -> OpenMessaging:
    """
    See `hub.channels.port`. Options: `url`, `secret`, and while keys are changed `secret_previous`.

    `insecure = true` allows a `url` of http://, over which whoever is in between reads what people write.
    """
    read = Options(options)
    url = read.text("url")
    try:
        scheme = checked_url(url).scheme
    except Unreachable as error:
        raise BadOption("url", f"can't be called: {error}") from None
    if not read.flag("insecure", False) and scheme != "https":
        raise BadOption("url", f"begins with {scheme}://; allowed: https://, or also http:// with `insecure = true`")
    keys = [_key(read.secret("secret"), "secret")]
    previous = read.secret("secret_previous", "")
    if previous:
        keys.append(_key(previous, "secret_previous"))
    read.done()
    return OpenMessaging(url, keys)


def _key(text: str, option: str) -> bytes:
    least, most = SECRET_BYTES
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadOption(option, f"isn't base64 (behind {PREFIX})") from None
    if not least <= len(key) <= most:
        raise BadOption(option, f"has {len(key)} bytes; allowed: {least} to {most}")
    return key


def sign(key: bytes, id: str, seconds: int, body: bytes) -> str:
    """One signature, `v1,<base64>`, over id, time and body."""
    signed = b"%b.%d.%b" % (id.encode(), seconds, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode()


def verify(keys: Sequence[bytes], inbound: Inbound) -> str:
    """
    The word that stands for this very request: its id and its time.

    Raises:
        Refused: `unauthenticated`: a header is missing or unreadable, the time is too far off, or no signature is of one
            of the keys (how near one came can't be told from the time this takes).
    """
    id = inbound.headers.get("webhook-id", "")
    seconds = inbound.headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(id) or not _SECONDS.fullmatch(seconds):
        raise _unauthenticated("The headers webhook-id and webhook-timestamp (seconds) are needed.")
    if abs(inbound.now_ms // 1000 - int(seconds)) > TOLERANCE_S:
        raise _unauthenticated(f"The request's time is more than {TOLERANCE_S} s off.")
    given = [one for one in inbound.headers.get("webhook-signature", "").split(" ") if one.startswith("v1,")]
    wanted = [sign(key, id, int(seconds), inbound.body) for key in keys]
    # All pairs, also behind one that fits.
    fits = [hmac.compare_digest(one.encode(), own.encode()) for one in given[:SIGNATURES_MAX] for own in wanted]
    if not any(fits):
        raise _unauthenticated("No signature of this request is of a key that is known here.")
    return f"{id}.{int(seconds)}"


def _unauthenticated(message: str) -> Refused:
    return Refused("unauthenticated", message)


class OpenMessaging:
    """See the module. `keys`: the present one, and the one before it while they are changed."""

    def __init__(self, url: str, keys: Sequence[bytes]) -> None:
        self._url = url
        self._keys = tuple(keys)

    async def receive(self, inbound: Inbound, notes: Notes) -> Received:
        """See the port."""
        if inbound.method != "POST":
            raise Refused("schema_invalid", "Expected a POST.", {"path": "$"})
        once = verify(self._keys, inbound)
        return Received(events=_events(inbound.body), results=True, once=once, once_ms=2 * TOLERANCE_S * 1000 + 60_000)

    async def send(self, action: Action, notes: Notes, caller: Caller) -> Outcome:
        """See the port."""
        body = payload(action)
        seconds = _now_s()
        headers = {
            "content-type": "application/json",
            "webhook-id": action.id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(sign(key, action.id, seconds, body) for key in self._keys),
        }
        try:
            answer = await caller.call("POST", self._url, headers=headers, body=body)
        except Unreachable as error:
            return Later(str(error))
        return outcome_of(answer, seconds * 1000)


def payload(action: Action) -> bytes:
    """An action as it is posted; the same bytes in every try."""
    time = datetime.fromtimestamp(action.at / 1000, UTC)
    return orjson.dumps(
        {
            "type": action.type,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{action.at % 1000:03d}Z",
            "id": action.id,
            "conversation_id": action.conversation_id,
            "customer_id": action.customer_id,
            "at": action.at,
            "data": action.data,
        }
    )


def outcome_of(answer: Answer, now_ms: int) -> Outcome:
    """What an answer means: taken, never, or not now."""
    status = answer.status
    if 200 <= status < 300:
        return Sent()
    if 400 <= status < 500 and status not in AGAIN:
        return Failed(f"the receiver answered {status}")
    return Later(f"the receiver answered {status}", retry_after_ms(answer, now_ms))


def _events(body: bytes) -> Sequence[Mapping[str, Any]]:
    """The events of a request: a list of them, or one alone. Raises Refused `schema_invalid`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    match value:
        case {"events": [*events], **others} if not others and all(isinstance(one, dict) for one in events):
            return events
        case {"type": _}:
            return [value]
    raise Refused("schema_invalid", 'Expected {"events": [...]}, or one event.', {"path": "$"})


def _now_s() -> int:
    return int(datetime.now(UTC).timestamp())
