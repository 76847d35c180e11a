"""Cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol.cursor import format_cursor, parse_cursor

NAMES = st.text("abcXYZ019_:", min_size=1, max_size=20)


@given(NAMES, NAMES, st.integers(0, 10**16 - 1))
def test_a_cursor_reads_back(epoch: str, tag: str, offset: int) -> None:
    """What was formatted is parsed to the same, and ends with the offset."""
    text = format_cursor(epoch, tag, offset)
    assert parse_cursor(text) == (epoch, tag, offset)
    assert text.rpartition("-")[2] == str(offset)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k3f9",
        "k3f9.a71c",
        "k3f9.a71c-",
        "k3f9.a71c--1",
        "k3f9.a71c-01",
        "k3f9.a71c-1\n",
        "k3f9.a71c-1x",
        ".a-1",
        "a.-1",
        "a.b.c-1",
        "a.b-" + "9" * 17,
        "{a}.b-1",
        "a.b-١",
    ],
)
def test_what_cannot_be_a_cursor_is_none(text: str) -> None:
    """Anything that the hub can't have made is None, never an exception."""
    assert parse_cursor(text) is None


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    """Any text is a cursor or None."""
    parsed = parse_cursor(text)
    assert parsed is None or format_cursor(*parsed) == text
