"""Outgoing frames."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.protocol.close import Close
from hub.protocol.encode import batch, closing, encode_error, encode_event, encode_ok, error_body, with_cursor


def test_ok_takes_a_dictionary_or_bytes() -> None:
    """What is already encoded goes in as it is."""
    assert encode_ok(7, {"monitor_id": "mon_3f"}) == b'{"id":7,"ok":{"monitor_id":"mon_3f"}}'
    assert encode_ok(7, b'{"a":1}') == b'{"id":7,"ok":{"a":1}}'


def test_an_error_says_code_message_and_whether_to_retry() -> None:
    """The object under `error` has four members, in this order."""
    frame = encode_error(7, Refused("monitor_held", "Ana is monitoring.", {"holder": {"name": "Ana"}}))
    assert frame == (
        b'{"id":7,"error":{"code":"monitor_held","message":"Ana is monitoring.","retryable":false,'
        b'"details":{"holder":{"name":"Ana"}}}}'
    )


def test_an_error_without_id_is_the_http_form() -> None:
    """Over HTTP there is no `id`."""
    refused = Refused("rate_limited", "Too fast.")
    assert json.loads(encode_error(None, refused)) == {"error": error_body(refused)}
    assert error_body(refused)["retryable"] is True


def test_an_event_has_its_members_in_the_documented_order() -> None:
    """Event, conversation, cursor, time, data."""
    frame = encode_event("typing", {"on": True}, conversation_id="cnv_1", at=5, cursor="k.t-1")
    assert frame == b'{"event":"typing","conversation_id":"cnv_1","cursor":"k.t-1","at":5,"data":{"on":true}}'


def test_an_event_leaves_out_what_there_is_not() -> None:
    """A ping has a time only."""
    assert encode_event("ping", None, at=5) == b'{"event":"ping","at":5}'
    assert encode_event("view.changed", b"{}") == b'{"event":"view.changed","data":{}}'


def test_a_cursor_is_appended() -> None:
    """The bytes stored once get each receiver's cursor at the end."""
    body = encode_event("typing", {}, conversation_id="c", at=1)
    assert with_cursor(body, b"k.t-2") == body[:-1] + b',"cursor":"k.t-2"}'
    assert json.loads(with_cursor(body, b"k.t-2"))["cursor"] == "k.t-2"


def test_a_cursor_needs_an_object() -> None:
    """Anything but an encoded event is our own mistake."""
    with pytest.raises(AssertionError):
        with_cursor(b"[]", b"k.t-2")


def test_closing_says_when_to_return() -> None:
    """`retry_ms` is there where it was given; 0 is a value."""
    assert closing(Close.DRAINING, "draining", 0) == (
        b'{"event":"closing","data":{"code":4501,"reason":"draining","retry_ms":0}}'
    )
    assert closing(4400, "x") == b'{"event":"closing","data":{"code":4400,"reason":"x"}}'


def test_batches_are_joined_by_newlines() -> None:
    """As many as fit go together, counting the newlines."""
    assert batch([b"aa", b"bb", b"cc"], 5) == [b"aa\nbb", b"cc"]
    assert batch([b"aa", b"bb", b"cc"], 4) == [b"aa", b"bb", b"cc"]
    assert batch([b"aa", b"bb", b"cc"], 8) == [b"aa\nbb\ncc"]
    assert batch([], 8) == []


def test_a_large_frame_stays_alone() -> None:
    """What alone exceeds the limit is neither dropped nor split."""
    assert batch([b"a", b"x" * 9, b"b"], 4) == [b"a", b"x" * 9, b"b"]


@given(st.lists(st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b"")), max_size=20), st.integers(1, 30))
def test_batches_keep_all_frames_in_order(frames: list[bytes], bytes_max: int) -> None:
    """Whatever the limit: nothing lost, nothing moved, no batch over the limit unless it is a single frame."""
    batches = batch(frames, bytes_max)
    assert [one for joined in batches for one in joined.split(b"\n")] == frames
    assert all(len(joined) <= bytes_max or b"\n" not in joined for joined in batches)
