"""Calls out on real sockets: nothing inside is ever connected to, and a name is what TLS and the Host header see."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.channels.outward import Outward, Resolve, system_resolve
from hub.channels.port import Answer, Unreachable
from tests.support.socket import eventually

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Wire:
    """
    Every connection that this process begins while it is watched, by the interpreter's own audit; none leaves the machine.

    An audit hook can't be taken out again, so there is one, and it looks only while somebody watches.
    """

    def __init__(self) -> None:
        self.watched: list[tuple[Any, ...]] | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.watched is not None:
            self.watched.append(args[1])
            if args[1][0] not in ("127.0.0.1", "::1"):
                raise OSError("nothing leaves this machine")


WIRE = _Wire()


@contextlib.contextmanager
def watched() -> Any:
    """The addresses that are connected to meanwhile."""
    WIRE.watched = []
    try:
        yield WIRE.watched
    finally:
        WIRE.watched = None


class Listener:
    """A server on both loopbacks; `connections` counts what came, `open` what is still there, `requests` has what was said."""

    def __init__(self, answer: bytes = OK, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.tls = tls
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._met: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Listener":
        first = socket.socket()
        first.bind(("127.0.0.1", 0))
        self.port = first.getsockname()[1]
        first.close()
        hosts = ["127.0.0.1", "::1"] if socket.has_ipv6 else ["127.0.0.1"]
        self._server = await asyncio.start_server(self._meet, hosts, self.port, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for task in self._met:
            task.cancel()
        await asyncio.gather(*self._met, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        task = asyncio.current_task()
        assert task is not None
        self._met.add(task)
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        finally:
            self.open -= 1
            writer.transport.abort()


@contextlib.asynccontextmanager
async def calling(resolve: Resolve = system_resolve, **options: Any) -> AsyncIterator[Outward]:
    """A caller with short limits."""
    one = Outward(**({"timeout_ms": 2_000, "answer_bytes_max": 1_000} | options), resolve=resolve)
    try:
        yield one
    finally:
        await one.aclose()


async def get(caller: Outward, url: str) -> Answer:
    """One GET."""
    return await caller.call("GET", url, headers={}, body=b"")


# `{port}` is the listener's. Names ending in `.test` are answered by the resolver below.
HOSTILE_TEXT = r"""
http://127.0.0.1:{port}/ http://127.1:{port}/ http://127.0.1:{port}/ http://127.127.127.127:{port}/
http://2130706433:{port}/ http://017700000001:{port}/ http://0x7f000001:{port}/ http://0x7f.0.0.1:{port}/
http://0x7f.1:{port}/ http://0177.0.0.1:{port}/ http://0177.1:{port}/ http://127.0.0.1.:{port}/ http://0:{port}/
http://0.0.0.0:{port}/ http://localhost:{port}/ http://LOCALHOST:{port}/ http://localhost.:{port}/
http://[::1]:{port}/ http://[::]:{port}/ http://[0:0:0:0:0:0:0:1]:{port}/ http://[::ffff:127.0.0.1]:{port}/
http://[::ffff:7f00:1]:{port}/ http://[::127.0.0.1]:{port}/ http://[64:ff9b::127.0.0.1]:{port}/
http://[64:ff9b:1::127.0.0.1]:{port}/ http://[2002:7f00:1::]:{port}/ http://[2001:0:7f00:1::]:{port}/
http://[fe80::1]:{port}/ http://[fe80::1%25lo]:{port}/ http://[fc00::1]:{port}/ http://[ff02::1]:{port}/
http://10.0.0.1:{port}/ http://172.16.0.1:{port}/ http://192.168.0.1:{port}/ http://100.64.0.1:{port}/
http://169.254.169.254/latest/meta-data/ http://2852039166/latest/meta-data/ http://0xa9fea9fe/
http://[fd00:ec2::254]/latest/ http://[::ffff:169.254.169.254]/ http://100.100.100.200/latest/ http://192.0.0.192/opc/
http://168.63.129.16/machine/ http://224.0.0.1:{port}/ http://240.0.0.1:{port}/ http://255.255.255.255:{port}/
http://public.test@127.0.0.1:{port}/ http://public.test:80@127.0.0.1:{port}/ http://127.0.0.1:{port}@public.test/
http://public.test#@127.0.0.1:{port}/../ http://public.test\@127.0.0.1:{port}/ http://127.0.0.1:{port}\@public.test/
http://127.0.0.1%00.public.test:{port}/ http://127。0。0。1:{port}/ http://①②⑦.⓪.⓪.①:{port}/
http://inside.test:{port}/ http://mapped.test:{port}/ http://mixed.test:{port}/ http://translated.test:{port}/
https://127.0.0.1:{port}/ https://inside.test:{port}/ https://localhost:{port}/
ftp://127.0.0.1:{port}/ file:///etc/passwd gopher://127.0.0.1:{port}/ //127.0.0.1:{port}/ http:127.0.0.1:{port}
"""
HOSTILE = HOSTILE_TEXT.split()

ZONE = {
    "public.test": [PUBLIC],
    "inside.test": ["127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "translated.test": ["64:ff9b::7f00:1"],
    "mixed.test": [PUBLIC, "127.0.0.1"],
}


async def zone_resolve(host: str, port: int) -> Sequence[str]:
    """What the zone says, else what the system does for what needs no name server."""
    if host in ZONE:
        return ZONE[host]
    if host.endswith(".test"):
        raise OSError("no such name")
    return await system_resolve(host, port)


async def test_no_hostile_url_reaches_anything_inside() -> None:
    """Of more than 60 spellings none makes a connection: not to the listeners, not to anything but a public address."""
    assert len(HOSTILE) >= 60
    async with Listener() as listener, calling(zone_resolve) as caller:
        with watched() as connected:
            for url in HOSTILE:
                with pytest.raises(Unreachable):
                    await get(caller, url.format(port=listener.port))
        assert listener.connections == 0
        assert {address[0] for address in connected} <= {PUBLIC}


async def test_a_name_that_changes_its_answer_gains_nothing() -> None:
    """It is asked once a connection, and what was looked at is what is connected to."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    asked = 0

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return next(answers)

    async with Listener() as listener, calling(rebinding) as caller:
        with watched() as connected:
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await get(caller, f"http://rebind.test:{listener.port}/")
        assert (asked, listener.connections) == (3, 0)
        assert [address[:2] for address in connected] == [(PUBLIC, listener.port)]


async def test_a_redirect_is_an_answer() -> None:
    """Nobody follows it, wherever it points."""
    async with Listener() as inside, calling() as nobody:
        with pytest.raises(Unreachable):
            await get(nobody, f"http://127.0.0.1:{inside.port}/")
        for status in (301, 302, 303, 307, 308):
            line = f"HTTP/1.1 {status} Go\r\nlocation: http://127.0.0.1:{inside.port}/\r\ncontent-length: 0\r\n\r\n"
            async with Listener(line.encode()) as outside, calling(allowed=[f"127.0.0.1:{outside.port}"]) as caller:
                answer = await get(caller, f"http://127.0.0.1:{outside.port}/")
                assert (answer.status, outside.connections) == (status, 1)
        assert inside.connections == 0


async def test_what_is_allowed_is_one_name_and_one_port() -> None:
    """Not its address under another name, not its other ports."""
    async with Listener() as listener, Listener() as other:
        async with calling(allowed=[f"localhost:{listener.port}"]) as caller:
            answer = await get(caller, f"http://LOCALHOST:{listener.port}/x")
            assert (answer.status, answer.body) == (200, b"ok")
            for url in (f"http://127.0.0.1:{listener.port}/", f"http://localhost:{other.port}/"):
                with pytest.raises(Unreachable, match="not a public one"):
                    await get(caller, url)
        assert (listener.connections, other.connections) == (1, 0)


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could reach what we don't."""
    async with Listener() as proxy, calling() as caller:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable):
            await get(caller, "http://10.0.0.1/")
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"3e8\r\n"
            + b"x" * 1000
            + b"\r\n"
            + b"1\r\nx\r\n",
            "more",
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "isn't HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "no answer within"),
    ],
    ids=["long", "long in chunks", "no HTTP", "never whole"],
)
async def test_an_answer_that_is_none(answer: bytes, reason: str) -> None:
    """Too long, of another protocol, or never ending: the call fails, in time, and says why."""
    async with Listener(answer) as listener, calling(allowed=[f"127.0.0.1:{listener.port}"], timeout_ms=300) as caller:
        with pytest.raises(Unreachable, match=reason):
            await get(caller, f"http://127.0.0.1:{listener.port}/")


async def test_no_connection_outlives_its_call() -> None:
    """
    Also where it is cancelled twice, the second time while the first is being cleaned up after.

    Two time-outs that ended in the same moment did that: connections stayed open, and a provider that answers late took the
    next try for a second one at the same time.
    """
    async with Listener(b"") as listener, calling(allowed=[f"127.0.0.1:{listener.port}"], timeout_ms=5_000) as caller:

        async def asked(count: int) -> bool:
            return len(listener.requests) == count

        for turns in range(12):
            call = asyncio.create_task(get(caller, f"http://127.0.0.1:{listener.port}/"))
            await eventually(partial(asked, turns + 1), 5, "a call that waits")
            call.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        async def all_ended() -> bool:
            return not listener.open

        await eventually(all_ended, 5, "the end of every connection")


async def test_nothing_is_unpacked() -> None:
    """The hub asks for plain bytes, and takes what comes as it is: a small answer can't grow."""
    packed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd"
    async with Listener(packed) as listener, calling(allowed=[f"127.0.0.1:{listener.port}"]) as caller:
        assert (await get(caller, f"http://127.0.0.1:{listener.port}/")).body == b"abcd"
        assert b"accept-encoding: identity" in listener.requests[0].lower()


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server that is called `name`, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


async def test_tls_asks_for_the_name_and_checks_it(tmp_path: Path) -> None:
    """Although the connection goes to an address that was looked up before; another name's certificate is refused."""
    server, client = certificate(tmp_path, "provider.test")
    asked: list[str | None] = []
    server.sni_callback = lambda _object, name, _context: asked.append(name)

    async def here(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with Listener(tls=server) as listener:
        names = [f"{name}.test:{listener.port}" for name in ("provider", "stranger")]
        async with calling(here, tls=client, allowed=names) as caller:
            assert (await get(caller, f"https://{names[0]}/hook?a=1")).status == 200
            with pytest.raises(Unreachable, match="no connection"):
                await get(caller, f"https://{names[1]}/")
        assert asked == ["provider.test", "stranger.test"]
        [request] = listener.requests
        assert request.startswith(b"GET /hook?a=1 HTTP/1.1\r\n")
        assert f"host: {names[0]}".encode() in request.lower()
