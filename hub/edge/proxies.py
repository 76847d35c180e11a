"""
Whose connection it is: the client's address, directly or behind proxies that are believed.

    Proxies(trusted)                  which peers may speak for somebody else: addresses and networks (CIDR)
    Proxies.client(peer, forwarded)   the client's address, by `X-Forwarded-For` where the peer is believed
    read_proxy_header(data)           the same by HAProxy's PROXY protocol, versions 1 and 2
    network(address)                  what is counted as one address: an IPv6 client owns its /64

`X-Forwarded-For` is read from its right end, where each proxy puts whom it heard from: past those that are believed stands
the client, and whatever is further left was said by the client itself. An entry that is no address ends the reading, and
the last one that was believed counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

HOPS_MAX: Final = 32
IPV6_NETWORK_BITS: Final = 64
PROXY_V1_BYTES_MAX: Final = 107  # PROXY protocol, section 2.1
PROXY_V2_BYTES_MAX: Final = 4_096  # with more extensions than any proxy sends
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_network(text: str) -> _Network:
    """An address or a network in CIDR form. Raises ValueError."""
    return ipaddress.ip_network(text, strict=True)


class Proxies:
    """The proxies that are believed; none by default."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks = tuple(parse_network(one) for one in trusted)

    def believes(self, host: str) -> bool:
        """True where this peer may say for whom it speaks."""
        if not self._networks:
            return False
        found = _address(host)
        return found is not None and any(found in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[bytes]) -> str:
        """
        The client's address; `forwarded` are the values of `X-Forwarded-For`, in their order.

        A peer that isn't believed is the client itself, whatever it says.
        """
        client = peer
        if not self.believes(peer):
            return client
        said = b",".join(forwarded).decode("latin-1").split(",")
        for entry in said[: -HOPS_MAX - 1 : -1]:
            found = _address(_host(entry.strip()))
            if found is None:
                break
            client = str(found)
            if not self.believes(client):
                break
        return client


def _host(entry: str) -> str:
    """An entry without its port: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found  # a listener for both families sees ::ffff:192.0.2.1


@lru_cache(maxsize=4_096)
def network(address: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one, and any other text (a unix socket) as it is."""
    found = _address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, IPV6_NETWORK_BITS), strict=False))
    return str(found) if found is not None else address


class ProxyHeader(NamedTuple):
    """How many bytes the header took, and for whom the proxy speaks; None: for itself (a health check)."""

    size: int
    client: tuple[str, int] | None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    The PROXY header at the beginning of a connection; None while more of it must come.

    Source: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2. Raises ValueError where there is none.
    """
    if data.startswith(_V2[: len(data)]) and len(data) < 16:
        return None
    if data.startswith(_V2):
        return _version_2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _version_1(data)
    raise ValueError("no PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:PROXY_V1_BYTES_MAX].partition(b"\r\n")
    if not end:
        if len(data) >= PROXY_V1_BYTES_MAX:
            raise ValueError("a PROXY line that doesn't end")
        return None
    words = line.decode("latin-1").split(" ")
    size = len(line) + 2
    if words[1] == "UNKNOWN":
        return ProxyHeader(size, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not (words[4].isascii() and words[4].isdigit()):
        raise ValueError("not a PROXY line")
    client = ipaddress.ip_address(words[2])
    if client.version != (4 if words[1] == "TCP4" else 6) or int(words[4]) > 65_535:
        raise ValueError("not a PROXY line")
    return ProxyHeader(size, (str(client), int(words[4])))


def _version_2(data: bytes) -> ProxyHeader | None:
    command, family, length = data[12], data[13] >> 4, int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21) or length > PROXY_V2_BYTES_MAX:
        raise ValueError("not a PROXY header of version 2")
    size = 16 + length
    if len(data) < size:
        return None
    if command == 0x20 or family not in (1, 2):
        return ProxyHeader(size, None)
    width = 4 if family == 1 else 16
    if length < 2 * width + 4:
        raise ValueError("a PROXY header that is too short")
    client = ipaddress.ip_address(data[16 : 16 + width])
    port = int.from_bytes(data[16 + 2 * width : 18 + 2 * width], "big")
    return ProxyHeader(size, (str(client), port))
