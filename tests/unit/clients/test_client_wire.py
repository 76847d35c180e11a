"""Frames, cursors and addresses."""

import pytest

from clients.wire import endpoint_url, http_path, is_loopback, lines_of, offset_of


def test_a_frame_may_hold_several_objects() -> None:
    """Objects separated by newlines come out in order, empty lines and unknown fields are skipped."""
    lines = list(lines_of('{"id":1,"ok":{"a":1}}\n\n{"event":"ping","at":5,"news":[1]}\n{"id":2,"error":{"code":"x"}}'))
    assert [line.id for line in lines] == [1, None, 2]
    assert lines[0].ok == {"a": 1}
    assert lines[1].as_event().at == 5
    assert lines[2].as_error().code == "x"


@pytest.mark.parametrize(
    ("cursor", "offset"), [("k3f9.a71c-42", 42), ("a-b-0", 0), ("plain", None), ("", None), ("x-y", None)]
)
def test_offset_follows_the_last_dash(cursor: str, offset: int | None) -> None:
    """A cursor is opaque but for the number after its last dash."""
    assert offset_of(cursor) == offset


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1", "ws://h:1/v1/agent"),
        ("https://h/", "wss://h/v1/agent"),
        ("ws://h/v1/agent", "ws://h/v1/agent"),
        ("wss://h/base/", "wss://h/base/v1/agent"),
    ],
)
def test_endpoint_url_takes_any_form(url: str, address: str) -> None:
    """HTTP and socket addresses, with or without the endpoint's path, name the same socket."""
    assert endpoint_url(url, "/v1/agent") == address


def test_endpoint_url_refuses_other_schemes() -> None:
    """An address that is no hub's is said at once instead of being tried for ever."""
    with pytest.raises(ValueError, match="ftp"):
        endpoint_url("ftp://h", "/v1/agent")


def test_http_path_and_loopback() -> None:
    """HTTP routes keep a base path; loopback addresses are recognized in every spelling."""
    assert http_path("ws://h/base/v1/connector", "/v1/events") == "/base/v1/events"
    assert http_path("http://h", "/v1/events") == "/v1/events"
    assert all(is_loopback(f"ws://{host}:1/") for host in ("localhost", "127.0.0.1", "[::1]"))
    assert not any(is_loopback(f"ws://{host}:1/") for host in ("hub.example", "10.0.0.1"))
