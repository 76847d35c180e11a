"""Field types that everything incoming is made of."""

import msgspec
import pytest
from msgspec import Raw

from hub.protocol import fields
from hub.protocol.fields import check_said, compact_json


def accepts(kind: object, value: object) -> bool:
    """True where a field of `kind` takes `value` from JSON."""
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("value", ["a", "cnv_1", "A-Z.a:b_", ":", "x" * 64])
def test_ids_are_letters_digits_and_four_signs(value: str) -> None:
    """An id is 1 to 64 of letters, digits, `_` `.` `:` `-`."""
    assert accepts(fields.Id, value)


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "{a}", "a\n", "\na", "a\x00", "ä", "a/b", "a|b", 3, None])
def test_ids_refuse_everything_else(value: object) -> None:
    """Braces, spaces, control characters and a trailing newline are no part of an id."""
    assert not accepts(fields.Id, value)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("https://files.example.org/a.pdf?x=1", True),
        ("http://[::1]/a", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://a/\n", False),
        ("https://a b", False),
        ("//a", False),
    ],
)
def test_addresses_are_http(value: str, good: bool) -> None:
    """An attachment's address is one that a screen may link to."""
    assert accepts(fields.Url, value) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [("image/png", True), ("text/plain; charset=utf-8", True), ("image", False), ("image/png\n", False), ("", False)],
)
def test_media_types_have_two_parts(value: str, good: bool) -> None:
    """A media type is `type/subtype`, with parameters or without."""
    assert accepts(fields.Mime, value) is good


def test_json_is_passed_on_compact() -> None:
    """Content comes back on one line, whatever its spelling, and detached from its message."""
    assert bytes(compact_json(Raw(b'{ "a" :\n [1,\t2] }'), 100)) == b'{"a":[1,2]}'


@pytest.mark.parametrize("raw", [b"", b"NaN", b'"\\ud800"', b'"\xff"', b"[" * 255 + b"]" * 255, b"[" * 2000, b'"\x01"'])
def test_json_that_browsers_cannot_read_is_refused(raw: bytes) -> None:
    """Broken UTF-8, half surrogate pairs and deep nesting don't get through."""
    with pytest.raises(ValueError, match="Expected JSON in UTF-8"):
        compact_json(Raw(raw), 10_000)


def test_json_may_nest_to_the_bound() -> None:
    """254 levels are passed on."""
    raw = b"[" * 254 + b"]" * 254
    assert bytes(compact_json(Raw(raw), 508)) == raw


def test_json_counts_compact_bytes() -> None:
    """The limit is one of bytes as passed on, so blanks don't count."""
    assert bytes(compact_json(Raw(b"[1,    2]"), 5)) == b"[1,2]"
    with pytest.raises(ValueError, match="at most 4 bytes of JSON, got 5"):
        compact_json(Raw(b"[1,2]"), 4)


@pytest.mark.parametrize("text", ["Hello", "two\nlines\r\n\tindented", "naïve 🙂", "zero\u200bwidth"])
def test_messages_may_hold_any_text(text: str) -> None:
    """Lines, tabs, signs of any script and invisible ones are text."""
    check_said(text, ())


@pytest.mark.parametrize("text", ["a\x00", "\x1b[2J", "\x7f", "\x85", "ok\x08"])
def test_messages_may_hold_control_characters(text: str) -> None:
    """What a customer managed to write is never refused: a lost message is worse than an odd one."""
    check_said(text, ())


def test_messages_say_something() -> None:
    """An empty text needs an attachment."""
    check_said("", (object(),))
    with pytest.raises(ValueError, match=r"^`text`: Expected at least one character"):
        check_said("", ())
