"""Whose pages may connect: exactly the allowed origins, on the socket's handshake."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.origins import wrong_origins
from tests.support.processes import CONFIG, HubProcess

ALLOWED = "https://desk.example.com"
ENDPOINTS = ("/v1/supervisor", "/v1/agent", "/v1/connector", "/v1/customer")


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with a list of allowed origins; that both drivers of sockets judge alike is tests/contract/test_frames.py's."""
    config = f'origins = ["{ALLOWED}", "https://second.example:8443"]\n' + CONFIG
    hub = HubProcess(tmp_path_factory.mktemp("listing"), config=config)
    hub.start()
    yield hub
    hub.kill()


async def handshake(
    hub: HubProcess, origins: list[bytes], path: str = "/v1/supervisor", host: str | None = None
) -> int:
    """The status that a handshake with these `Origin` lines gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        lines = [
            f"GET {path} HTTP/1.1".encode(),
            f"Host: {host or f'127.0.0.1:{hub.port}'}".encode(),
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Protocol: hub.v1",
            *(b"Origin: " + origin for origin in origins),
        ]
        writer.write(b"\r\n".join((*lines, b"", b"")))
        async with asyncio.timeout(5):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_origins_that_are_not_on_the_list(listing: HubProcess) -> None:
    """Anything but exactly an allowed origin is refused by 403 (400 where there are two) before a socket is there."""
    wrong = wrong_origins(ALLOWED)
    assert len(wrong) >= 30
    answers = {name: await handshake(listing, lines) for name, lines in wrong.items()}
    assert {name for name, status in answers.items() if status not in (400, 403)} == set()
    assert {name for name, status in answers.items() if status == 400} <= {
        name for name in wrong if "two lines" in name
    }


async def test_origins_that_are(listing: HubProcess) -> None:
    """Each origin of the list may connect to every endpoint; a program says none. The hub's own isn't on this list."""
    for path in ENDPOINTS:
        assert await handshake(listing, [ALLOWED.encode()], path) == 101
        assert await handshake(listing, [b"https://evil.example"], path) == 403
    assert await handshake(listing, [b"https://second.example:8443"]) == 101
    assert await handshake(listing, []) == 101
    assert await handshake(listing, [listing.url.encode()]) == 403


async def test_without_a_list_it_is_the_own_origin(hub: HubProcess) -> None:
    """Without a list it is the host that was asked for, exactly; by http or https, since a proxy may end TLS."""
    assert await handshake(hub, [hub.url.encode()]) == 101
    wrong = wrong_origins(hub.url)
    assert await handshake(hub, wrong.pop("other scheme")) == 101
    answers = {name: await handshake(hub, lines) for name, lines in wrong.items()}
    assert {name for name, status in answers.items() if status not in (400, 403)} == set()
    assert await handshake(hub, [b"http://hub.example"], host="hub.example") == 101
    assert await handshake(hub, [hub.url.encode()], host="hub.example") == 403
