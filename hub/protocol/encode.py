"""
Outgoing frames as bytes: answers, errors, events.

An event is encoded once and the same bytes go to many sockets, so everything here returns bytes and what is already
encoded (`bytes` arguments) is put in as it is. A `bytes` argument must be JSON on one line.
"""

from collections.abc import Mapping, Sequence

import orjson

from hub.domain.errors import Refused

Encodable = Mapping[str, object] | bytes


def _json(value: Encodable) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)


def encode_ok(id: int, ok: Encodable) -> bytes:
    """`{"id", "ok"}`: the command of that id was carried out and committed."""
    return b'{"id":%d,"ok":%b}' % (id, _json(ok))


def error_body(refused: Refused) -> dict[str, object]:
    """The object under `error`: {`code`, `message`, `retryable`, `details`}."""
    return {
        "code": refused.code,
        "message": refused.message,
        "retryable": refused.retryable,
        "details": refused.details,
    }


def encode_error(id: int | None, refused: Refused) -> bytes:
    """`{"id", "error"}`; without `id` (None) as HTTP answers it."""
    body = orjson.dumps(error_body(refused))
    return b'{"error":%b}' % body if id is None else b'{"id":%d,"error":%b}' % (id, body)


def encode_event(
    event: str,
    data: Encodable | None,
    *,
    conversation_id: str | None = None,
    at: int | None = None,
    cursor: str | None = None,
) -> bytes:
    """
    `{"event", "conversation_id", "cursor", "at", "data"}`, what is None left out.

    `at` is Unix milliseconds. `data` is None only for `ping`.
    """
    head = b'{"event":%b' % orjson.dumps(event)
    if conversation_id is not None:
        head += b',"conversation_id":%b' % orjson.dumps(conversation_id)
    if cursor is not None:
        head += b',"cursor":%b' % orjson.dumps(cursor)
    if at is not None:
        head += b',"at":%d' % at
    return head + b"}" if data is None else b'%b,"data":%b}' % (head, _json(data))


def with_cursor(body: bytes, cursor: bytes) -> bytes:
    """`body`, an encoded event without cursor, with the member `cursor` appended; the cursor needs no escapes."""
    assert body.endswith(b"}"), "an encoded event"
    return b'%b,"cursor":"%b"}' % (body[:-1], cursor)


def closing(code: int, reason: str, retry_ms: int | None = None) -> bytes:
    """The `closing` event that goes before a close frame; `retry_ms` is this socket's own delay before it returns."""
    data: dict[str, object] = {"code": int(code), "reason": reason}
    if retry_ms is not None:
        data["retry_ms"] = retry_ms
    return encode_event("closing", data)


def batch(frames: Sequence[bytes], bytes_max: int) -> list[bytes]:
    """
    `frames` in their order, joined by newlines into frames of at most `bytes_max` bytes.

    One that alone is larger stays alone: nothing is dropped or split.
    """
    joined: list[bytes] = []
    start, size = 0, -1  # -1: the first of a group has no newline before it
    for index, frame in enumerate(frames):
        if size + 1 + len(frame) > bytes_max and index > start:
            joined.append(b"\n".join(frames[start:index]))
            start, size = index, -1
        size += 1 + len(frame)
    if frames:
        joined.append(b"\n".join(frames[start:]))
    return joined
