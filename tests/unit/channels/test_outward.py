"""Which addresses and URLs calls out may not go to, and what a provider asks by Retry-After."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.channels.outward import checked_url, forbidden, origin_of, retry_after_ms
from hub.channels.port import Answer, Unreachable

INSIDE_TEXT = """
127.0.0.1 127.255.255.254 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 169.254.170.2
100.64.0.1 100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255 168.63.129.16 192.88.99.1
::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 fec0::1 ff02::1 ff0e::1 2001:db8::1 100::1 3fff::1 5f00::1
2001::1 2001:10::1
::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:100.64.0.1 ::127.0.0.1 ::10.0.0.1
64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::1
2002:7f00:1:: 2002:a00:1:: 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:80ff:fffe
"""
INSIDE = INSIDE_TEXT.split()
OUTSIDE = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111"]
OUTSIDE += ["::ffff:93.184.216.34", "64:ff9b::5db8:d822"]


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_forbidden(text: str) -> None:
    """Whichever of the registries' kinds it is of, or IPv6 wraps."""
    assert forbidden(ip_address(text))


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_public_address_is_allowed(text: str) -> None:
    """Also where IPv6 wraps it."""
    assert not forbidden(ip_address(text))


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_gains_nothing(address: object) -> None:
    """Mapped or translated, a forbidden IPv4 address stays forbidden."""
    inner = ip_address(str(address))
    if forbidden(inner):
        assert forbidden(ip_address(f"::ffff:{address}"))
        assert forbidden(ip_address(f"64:ff9b::{address}"))
        assert forbidden(ip_address(f"2002:{int(inner) >> 16:x}:{int(inner) & 0xFFFF:x}::1"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//host/path",
        "http:///path",
        "ftp://host/",
        "file:///etc/passwd",
        "gopher://host/",
        "https://user@host/",
        "https://user:word@host/",
        "https://@host/",
        "https://host\n/",
        "https://ho st/",
        "https://[::1/",
        "https://host:99999999/",
        "https://" + "h" * 9_000,
    ],
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    """Before any name is looked up."""
    with pytest.raises(Unreachable):
        checked_url(url)


def test_an_origin_is_scheme_host_and_port() -> None:
    """With the scheme's own port where none is named."""
    assert origin_of("https://API.example.org/a?b") == "https://api.example.org:443"
    assert origin_of("http://api.example.org:8080") == "http://api.example.org:8080"


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("", 0),
        ("7", 7_000),
        (" 7 ", 7_000),
        ("-7", 0),
        ("soon", 0),
        ("99999999999999", 24 * 3_600_000),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 10_000),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 99 Foo 2027", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, wait_ms: int) -> None:
    """Of the past or unreadable: nothing; at most a day."""
    assert retry_after_ms(Answer(429, {"retry-after": text}), 1_800_000_000_000) == wait_ms
