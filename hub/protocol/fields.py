"""
Field types of everything that comes in, with their limits.

A value that is out of bounds is refused where it is read, so what lies behind the protocol never meets a braced id, a
control character or half a surrogate pair. Lengths count characters (code points) unless the name says bytes.
"""

from typing import Annotated, Literal

import orjson
from msgspec import Meta, Raw

COMMAND_ID_MAX = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
TIME_MS_MAX = 2**53 - 1
ID_CHARS_MAX = 64
TEXT_CHARS_MAX = 65_536  # as much as a client's frame could hold
REASON_CHARS_MAX = 1_024
LABEL_CHARS_MAX = 256
SUBJECT_CHARS_MAX = 1_024
SEARCH_CHARS_MAX = 256
TOKEN_CHARS_MAX = 65_536  # a whole frame: one that is too long is for the edge to refuse, as `unauthenticated`
SECRET_CHARS_MAX = 1_024
CURSOR_CHARS_MAX = 256
URL_CHARS_MAX = 2_048
MIME_CHARS_MAX = 128
CURSORS_MAX = 1_000
ATTACHMENTS_MAX = 10
PANELS_MAX = 32
PANEL_BYTES_MAX = 16_384
FILTER_VALUES_MAX = 1_000
ROWS_MAX = 100_000

# `\Z`, because `$` would let a trailing newline pass.
ID_PATTERN = rf"^[A-Za-z0-9_.:-]{{1,{ID_CHARS_MAX}}}\Z"
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*\Z"
TEXT_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*\Z"
URL_PATTERN = r"^https?://[^\x00-\x20\x7f-\x9f\"<>\\^`{|}]+\Z"
SENT_URL_PATTERN = (
    r"^(/v1/files/fil_[0-3][0-9a-f][0-9a-z]{20}/[A-Za-z0-9_.~%-]+|https?://[^\x00-\x20\x7f-\x9f\"<>\\^`{|}]+)\Z"
)
MIME_PATTERN = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[A-Za-z0-9_.+-]+=[A-Za-z0-9_.+-]+)*\Z"

PATTERN_WORDS = {
    ID_PATTERN: f"an id (1 to {ID_CHARS_MAX} letters, digits, or `_` `.` `:` `-`)",
    LINE_PATTERN: "one line of text without control characters",
    TEXT_PATTERN: "text without control characters other than newline, tab and carriage return",
    URL_PATTERN: "an http or https address",
    SENT_URL_PATTERN: "an http or https address, or a file's as `POST /v1/files` answered it",
    MIME_PATTERN: "a media type like `image/png`",
}


Channel = Literal["web", "open", "sms"]
CHANNELS: tuple[Channel, ...] = ("web", "open", "sms")

CommandId = Annotated[int, Meta(ge=1, le=COMMAND_ID_MAX)]
Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Req = Id
TimeMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
Text = Annotated[str, Meta(pattern=TEXT_PATTERN, max_length=TEXT_CHARS_MAX)]
# For structs that call `check_said`: what is said holds any character, drafts and notes only printable ones.
SaidText = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Reason = Annotated[str, Meta(pattern=TEXT_PATTERN, min_length=1, max_length=REASON_CHARS_MAX)]
Label = Annotated[str, Meta(pattern=LINE_PATTERN, min_length=1, max_length=LABEL_CHARS_MAX)]
OptionalLabel = Annotated[str, Meta(pattern=LINE_PATTERN, max_length=LABEL_CHARS_MAX)]
Subject = Annotated[str, Meta(pattern=LINE_PATTERN, max_length=SUBJECT_CHARS_MAX)]
Search = Annotated[str, Meta(pattern=LINE_PATTERN, max_length=SEARCH_CHARS_MAX)]
Token = Annotated[str, Meta(max_length=TOKEN_CHARS_MAX)]
Secret = Annotated[str, Meta(max_length=SECRET_CHARS_MAX)]
CursorText = Annotated[str, Meta(max_length=CURSOR_CHARS_MAX)]
Url = Annotated[str, Meta(pattern=URL_PATTERN, max_length=URL_CHARS_MAX)]
SentUrl = Annotated[str, Meta(pattern=SENT_URL_PATTERN, max_length=URL_CHARS_MAX)]
Mime = Annotated[str, Meta(pattern=MIME_PATTERN, max_length=MIME_CHARS_MAX)]


def compact_json(raw: Raw, bytes_max: int) -> Raw:
    """
    `raw` again as checked JSON on one line, detached from the message it was read from.

    Frames are separated by newlines and `msgspec.Raw` is neither checked for UTF-8 nor for escapes, so nothing may be
    passed on as it came. Nests at most 254 levels (orjson's bound for writing).

    Raises:
        ValueError: Not JSON, nested too deeply, or more than `bytes_max` bytes.
    """
    try:
        content = orjson.dumps(orjson.loads(bytes(raw)))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        raise ValueError("Expected JSON in UTF-8 that nests at most 254 levels, got something else") from None
    if len(content) > bytes_max:
        raise ValueError(f"Expected at most {bytes_max} bytes of JSON, got {len(content)}")
    return Raw(content)


def check_said(text: str, attachments: tuple[object, ...]) -> None:
    """
    Check that a message says something. What it says is the customer's: every character of theirs is passed on.

    Raises:
        ValueError: Neither text nor attachments. (A message that begins with a field's name tells `explain` the place.)
    """
    if not text and not attachments:
        raise ValueError("`text`: Expected at least one character where there are no attachments, got none")
