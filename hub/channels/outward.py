"""
Calls out of the hub, to addresses that operators, customers or providers wrote down: none of them may reach inside.

A name is resolved once, every address that it has is looked at, and the connection goes to one of those very addresses:
a name that answers differently the second time gains nothing. The name itself stays in the Host header and is what TLS
asks for and checks. Where the check sits, in what opens connections, no spelling of an address goes around it (decimal,
octal, hexadecimal, IPv4 within IPv6, a trailing dot): whatever the system makes of a host is what is looked at.

No redirect is followed, no proxy is asked, nothing is unpacked, and answers are read up to a bound.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import httpcore
import httpx

from hub.channels.port import Answer, Unreachable

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

CONNECTIONS_MAX: Final = 100
URL_CHARS_MAX: Final = 8_192
RETRY_AFTER_MAX_MS: Final = 24 * 3_600_000

# Beside what the registries call not global: addresses that are of no use to a provider, or that clouds answer inside.
_DENIED: Final = tuple(
    IPv6Network(one) if ":" in one else IPv4Network(one)
    for one in (
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle's metadata
        "192.88.99.0/24",  # relays of 6to4, deprecated
        "168.63.129.16/32",  # Azure's host, from within
        "64:ff9b:1::/48",  # translation of local use (RFC 8215)
        "fec0::/10",  # site-local, deprecated
        "100::/64",  # discard
        "2001::/23",  # protocol assignments
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")


def forbidden(address: Address) -> bool:
    """
    True for an address where calls may not go: not a public host's.

    Private, loopback, link-local (with the clouds' metadata), carrier-grade NAT, multicast, reserved, documentation; and
    every way in which IPv6 wraps such an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo).
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return True
        if any(forbidden(inner) for inner in _inside(address)):
            return True
        if address.ipv4_mapped is not None or address in _NAT64:
            return False  # what it wraps is public
    if not address.is_global or address.is_multicast or address.is_unspecified:
        return True
    return any(address in network for network in _DENIED if network.version == address.version)


def _inside(address: IPv6Address) -> Iterable[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _COMPATIBLE:
        yield IPv4Address(int(address) & 0xFFFFFFFF)


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that the system has for a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


class _Gate(httpcore.AsyncNetworkBackend):
    """Opens connections, to addresses only that were looked at."""

    def __init__(self, allowed: frozenset[str], resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """One of the host's addresses, in their order. Raises Unreachable."""
        addresses = await self._addresses(host, port)
        last: Exception = Unreachable("the host has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            texts = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):
            raise Unreachable("the host's name has no address") from None
        name = f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"
        if name not in self._allowed and any(forbidden(ip_address(text)) for text in texts):
            raise Unreachable("the host's address is not a public one")
        return texts

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never. Raises Unreachable."""
        raise Unreachable("calls go to hosts only")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _Stream(httpx.AsyncByteStream):
    """A body as httpx reads it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._stream.aclose()


class _Transport(httpx.AsyncBaseTransport):
    """httpx over a pool whose connections come through the gate; httpx's own transport can't be given one."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        asked = httpcore.Request(
            request.method, target, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        answer = await self._pool.handle_async_request(asked)
        stream = _Stream(answer.stream)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class Outward:
    """
    The `Caller` of one connector (see the port): connections are its own, since what one may reach another may not.

    `allowed`: `name:port` as they stand in a URL, in lower case, that may have any address. `timeout_ms` is for the whole
    of a call, `answer_bytes_max` for the body of its answer.
    """

    def __init__(
        self,
        *,
        timeout_ms: int,
        answer_bytes_max: int,
        allowed: Iterable[str] = (),
        resolve: Resolve = system_resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s = timeout_ms / 1000
        self._answer_bytes_max = answer_bytes_max
        self._calls: set[asyncio.Task[Answer]] = set()
        pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=CONNECTIONS_MAX,
            # One call a connection. On a kept one, what a broken provider said too much would be taken for the answer to
            # the next call, and a connection that it was just closing makes calls of which nobody knows if they arrived.
            max_keepalive_connections=0,
            network_backend=_Gate(frozenset(allowed), resolve),
        )
        self._client = httpx.AsyncClient(
            transport=_Transport(pool), trust_env=False, follow_redirects=False, timeout=self._timeout_s
        )

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """
        See the port.

        The work is a task of its own, cancelled once and then left to itself. A second cancellation while httpcore cleans up
        after the first (two time-outs that end together are enough) would leave the connection open, and the provider
        believing that somebody still waits.
        """
        checked = checked_url(url)
        work = asyncio.create_task(self._call(method, checked, headers, body))
        self._calls.add(work)
        work.add_done_callback(self._over)
        try:
            done, _ = await asyncio.wait({work}, timeout=self._timeout_s)
        finally:
            work.cancel()
        if not done:
            raise Unreachable(f"no answer within {self._timeout_s:g} s")
        return work.result()

    def _over(self, work: asyncio.Task[Answer]) -> None:
        self._calls.discard(work)
        if not work.cancelled():
            work.exception()  # whoever asked may have gone

    async def _call(self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> Answer:
        plain = {"accept-encoding": "identity", "connection": "close", "user-agent": "supervision-hub", **headers}
        try:
            async with self._client.stream(method, url, headers=plain, content=body) as answer:
                whole = await self._read(answer)
                named = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status_code, named, whole)
        except (httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise Unreachable(_why(error)) from None
        except (OSError, ValueError) as error:  # a header or a body that HTTP can't carry is the adapter's fault
            raise Unreachable(f"the call failed: {type(error).__name__}") from None

    async def _read(self, answer: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in answer.aiter_raw():
            size += len(part)
            if size > self._answer_bytes_max:
                raise Unreachable(f"the answer has more than {self._answer_bytes_max} bytes")
            parts.append(part)
        return b"".join(parts)

    async def aclose(self) -> None:
        """End what is under way, and close every connection. Idempotent."""
        for work in self._calls:
            work.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._client.aclose()


def checked_url(url: str) -> httpx.URL:
    """
    A URL that may be called as far as its text goes; its address is looked at when it is.

    Raises:
        Unreachable: Not `http` or `https`, no host, a user in it (what stands before an `@` is taken for the host by
            some and not by others), too long, or unreadable.
    """
    if len(url) > URL_CHARS_MAX:
        raise Unreachable(f"the address has more than {URL_CHARS_MAX} characters")
    if any(one.isspace() or not one.isprintable() for one in url):
        raise Unreachable("the address has white space or control characters in it")
    if "@" in re.split(r"[/?#]", url.partition("//")[2], maxsplit=1)[0]:
        raise Unreachable("the address has a user in it")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise Unreachable("the address can't be read") from None
    if parsed.scheme not in ("http", "https"):
        raise Unreachable("the address begins neither with https:// nor with http://")
    if not parsed.host:
        raise Unreachable("the address has no host")
    if parsed.port is not None and not 1 <= parsed.port <= 65_535:
        raise Unreachable("the address has a port that is none")
    return parsed


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as it is called; raises Unreachable as `checked_url`."""
    parsed = checked_url(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    return f"{parsed.scheme}://{parsed.host}:{port}"


def retry_after_ms(answer: Answer, now_ms: int) -> int:
    """How long the provider asks to wait (`Retry-After`, seconds or a date; RFC 9110, section 10.2.3); 0: it doesn't."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        wait_ms = int(text[:9]) * 1000
    else:
        try:
            wait_ms = int(parsedate_to_datetime(text).timestamp() * 1000) - now_ms
        except (ValueError, OverflowError):
            return 0
    return min(max(wait_ms, 0), RETRY_AFTER_MAX_MS)


def _why(error: Exception) -> str:
    """The kind of a failure in a few words; a library's own words may hold what was sent."""
    kinds: list[tuple[tuple[type[Exception], ...], str]] = [
        ((httpx.TimeoutException, httpcore.TimeoutException), "no answer in time"),
        ((httpx.ConnectError, httpcore.ConnectError), "no connection"),
        ((httpx.ProtocolError, httpcore.ProtocolError), "the answer isn't HTTP"),
    ]
    return next((words for types, words in kinds if isinstance(error, types)), "the connection was lost")
