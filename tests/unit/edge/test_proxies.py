"""Whose connection it is: trusted proxies, X-Forwarded-For, PROXY headers, networks."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.edge.proxies import Proxies, network, read_proxy_header

NEAR = Proxies(("127.0.0.1", "10.0.0.0/8", "fd00::/8"))
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [b""], "127.0.0.1"),
        ("127.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", [b"6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", [b"6.6.6.6", b"192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("127.0.0.1", [b"192.0.2.7:4711"], "192.0.2.7"),
        ("127.0.0.1", [b"[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", [b"2001:db8::7"], "2001:db8::7"),
        ("127.0.0.1", [b"6.6.6.6, nonsense, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", [b"6.6.6.6, unknown"], "127.0.0.1"),
        ("127.0.0.1", [b"10.1.2.3, 10.1.2.4"], "10.1.2.3"),
        ("::ffff:127.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
        ("192.0.2.1", [b"6.6.6.6"], "192.0.2.1"),
        ("", [b"6.6.6.6"], ""),
    ],
)
def test_who_the_client_is(peer: str, forwarded: list[bytes], client: str) -> None:
    """The rightmost address that isn't a believed proxy's; of a peer that isn't believed, the peer."""
    assert NEAR.client(peer, forwarded) == client


@given(addresses, st.lists(st.one_of(addresses, st.text(max_size=20)), max_size=6))
def test_nobody_is_believed_by_default(peer: str, said: list[str]) -> None:
    """Without trusted proxies no header changes anything."""
    assert Proxies().client(peer, [", ".join(said).encode("utf-8")]) == peer


@given(st.lists(st.text(max_size=30), max_size=4), st.ip_addresses(v=4).filter(lambda ip: ip.is_global).map(str))
def test_what_a_client_says_changes_nothing(said: list[str], client: str) -> None:
    """Whatever stands further left than what the proxy has put there."""
    values = [one.encode("utf-8", "surrogatepass") for one in said]
    assert NEAR.client("127.0.0.1", [*values, client.encode()]) == client
    joined = b",".join([*values, client.encode()])
    assert NEAR.client("127.0.0.1", [joined]) == client


def test_the_header_is_read_no_further_than_needed() -> None:
    """A chain of trusted proxies that has no end is cut."""
    assert NEAR.client("127.0.0.1", [b"192.0.2.7," + b"10.0.0.1," * 100 + b"10.0.0.2"]) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    """An IPv6 client owns a /64 and could change its address with every socket."""
    assert network(address) == counted


@given(st.ip_addresses(v=6, network="2001:db8::/32"), st.ip_addresses(v=6, network="2001:db8::/32"))
def test_equal_halves_count_as_one(one: ipaddress.IPv6Address, other: ipaddress.IPv6Address) -> None:
    """Two IPv6 addresses count together exactly where their first 64 bits are equal."""
    assert (network(str(one)) == network(str(other))) == (int(one) >> 64 == int(other) >> 64)


V2 = b"\r\n\r\n\x00\r\nQUIT\n"
GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", ("192.0.2.7", 4711)),
    (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", ("2001:db8::7", 4711)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\x12\x67\x01\xbb", ("192.0.2.7", 4711)),
    (V2 + b"\x21\x21\x00\x24" + bytes(15) + b"\x07" + bytes(16) + b"\x12\x67\x01\xbb", ("::7", 4711)),
    (V2 + b"\x20\x00\x00\x00", None),
    (V2 + b"\x21\x00\x00\x03abc", None),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_proxy_headers(header: bytes, client: tuple[str, int] | None) -> None:
    """Both versions, whole and cut anywhere; what follows isn't theirs."""
    found = read_proxy_header(header + b"GET / HTTP/1.1\r\n")
    assert found == (len(header), client)
    assert all(read_proxy_header(header[:cut]) is None for cut in range(len(header)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 nobody 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 ::1 ::1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 443\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        V2 + b"\x31\x11\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\x00\x04" + bytes(4),
        V2 + b"\x21\x11\xff\xff",
        b"\r\n\r\nX",
    ],
)
def test_no_proxy_header(data: bytes) -> None:
    """Anything else is refused, never guessed at (specification, section 2)."""
    with pytest.raises(ValueError, match=r"."):
        read_proxy_header(data)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Any bytes are a header, the beginning of one, or a ValueError; a header is never longer than what came."""
    for begin in (b"", b"PROXY ", V2):
        try:
            found = read_proxy_header(begin + data)
        except ValueError:
            continue
        assert found is None or found.size <= len(begin + data)
