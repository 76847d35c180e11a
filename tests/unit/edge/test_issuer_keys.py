"""An issuer's keys: fetched before they are needed, looked for once, forgotten in time."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hub.domain.errors import Refused
from hub.edge import issuer_keys
from hub.edge.issuer_keys import MISSING_MAX, ON_DEMAND, IssuerKeys, KeyTimes, fetch_keys, usable_keys
from hub.settings import IssuerSettings, Settings

ISSUER = IssuerSettings("https://login.example.com/", jwks_url="https://login.example.com/keys")
TIMES = KeyTimes.of(Settings())
FRESH_S, USABLE_S, AGAIN_S = TIMES.fresh_ms / 1000, TIMES.usable_ms / 1000, TIMES.again_ms / 1000
PUBLIC = ec.generate_private_key(ec.SECP256R1()).public_key()


def listed(*kids: str) -> dict[str, Any]:
    """A key set with keys of these ids."""
    fields = jwt.algorithms.ECAlgorithm.to_jwk(PUBLIC, as_dict=True)
    return {"keys": [fields | {"kid": kid} for kid in kids]}


class Issuer:
    """What an issuer answers, how often it was asked, and the seconds that have passed."""

    def __init__(self, *kids: str, times: KeyTimes = TIMES) -> None:
        self.document: Mapping[str, Any] = listed(*kids)
        self.asked = 0
        self.fault: Exception | None = None
        self.slow = threading.Event()
        self.slow.set()
        self.seconds = 1_000.0
        self.keys = IssuerKeys(ISSUER, self._fetch, lambda: self.seconds, times)

    def _fetch(self, issuer: IssuerSettings) -> Mapping[str, Any]:
        assert issuer is ISSUER
        self.asked += 1
        self.slow.wait(5)
        if self.fault is not None:
            raise self.fault
        return self.document

    async def has(self, kid: object) -> bool:
        """True where a token with this `kid` can be checked; a moment passes."""
        self.seconds += 0.001
        with contextlib.suppress(Refused):
            return bool(await self.keys.key(kid, "ES256"))
        return False


@contextlib.asynccontextmanager
async def kept(issuer: Issuer) -> Any:
    """The keys are kept in the background, as the hub does it, and were fetched once."""
    task = asyncio.create_task(issuer.keys.keep())
    await issuer.keys.tried.wait()
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a thread does."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.001)


async def test_keys_are_fetched_once() -> None:
    """Many tokens at once, and more of them later, cost one fetch."""
    issuer = Issuer("a")
    assert all(await asyncio.gather(*(issuer.has("a") for _ in range(20))))
    assert await issuer.has("a")
    assert issuer.asked == 1


async def test_kept_keys_wait_for_nobody() -> None:
    """With kept keys a token is checked without a turn of the loop; they are fetched again at half their time."""
    issuer = Issuer("a", times=KeyTimes(fresh_ms=40, usable_ms=80, again_ms=10))
    async with kept(issuer):
        checking = issuer.keys.key("a", "ES256")
        with pytest.raises(StopIteration):  # it never waits
            checking.send(None)
        await until(lambda: issuer.asked >= 3)


async def test_a_new_key_is_taken_at_once() -> None:
    """A `kid` that appears is looked for with its first token, however lately the keys were fetched."""
    issuer = Issuer("old")
    assert await issuer.has("old")
    issuer.document = listed("old", "new")
    assert await issuer.has("new")
    assert issuer.asked == 2


async def test_an_unknown_key_is_looked_for_once() -> None:
    """A `kid` that the issuer doesn't have is known to be unknown for 30 s, then looked for again."""
    issuer = Issuer("a")
    assert await issuer.has("a")
    for _ in range(50):
        assert not await issuer.has("made-up")
    assert issuer.asked == 2
    issuer.document = listed("a", "made-up")
    issuer.seconds += AGAIN_S
    assert await issuer.has("made-up")


async def test_a_flood_of_unknown_keys_is_bounded() -> None:
    """Thousands of made-up `kid`s cost the issuer four fetches and then one per 30 s, and little memory."""
    issuer = Issuer("a")
    for number in range(2_000):
        assert not await issuer.has(f"made-up-{number}")
        assert await issuer.has("a")
    assert issuer.asked == ON_DEMAND
    assert len(issuer.keys._missing) <= MISSING_MAX
    issuer.seconds += AGAIN_S * 2
    for number in range(2_000):
        assert not await issuer.has(f"again-{number}")
    assert issuer.asked <= ON_DEMAND + 3


async def test_many_unknown_keys_are_forgotten_in_turn() -> None:
    """What is remembered of unknown `kid`s has a bound; the oldest is forgotten first."""
    issuer = Issuer("a", times=KeyTimes(fresh_ms=300_000, usable_ms=3_600_000, again_ms=1))
    for number in range(MISSING_MAX + 40):
        issuer.seconds += 1
        await issuer.has(f"made-up-{number}")
    assert len(issuer.keys._missing) == MISSING_MAX
    assert ("made-up-0", "ES256") not in issuer.keys._missing


async def test_a_withdrawn_key_ends() -> None:
    """A key that the issuer no longer lists isn't taken after five minutes."""
    issuer = Issuer("a", "b")
    assert await issuer.has("a")
    issuer.document = listed("b")
    issuer.seconds += FRESH_S + 1
    assert not await issuer.has("a")
    assert await issuer.has("b")


@pytest.mark.parametrize("fault", [OSError(), ValueError(), RecursionError(), RuntimeError()])
async def test_an_issuer_that_cannot_be_reached(fault: Exception) -> None:
    """While an issuer can't be reached its last keys are taken for an hour, without waiting, and no longer."""
    issuer = Issuer("a")
    async with kept(issuer):
        issuer.fault = fault
        issuer.seconds += FRESH_S + 1
        assert await issuer.has("a")
        asked = issuer.asked
        for _ in range(20):
            assert await issuer.has("a")
        assert issuer.asked == asked
        issuer.seconds += USABLE_S - FRESH_S
        assert not await issuer.has("a")


async def test_an_issuer_that_was_never_reached() -> None:
    """Without any keys a token is refused; when the issuer is back its keys are there by themselves."""
    issuer = Issuer("a", times=KeyTimes(fresh_ms=300_000, usable_ms=3_600_000, again_ms=5))
    issuer.fault = OSError()
    async with kept(issuer):
        assert not await issuer.has("a")
        issuer.fault = None
        asked = issuer.asked
        await until(lambda: issuer.asked > asked)
        assert await issuer.has("a")


async def test_a_slow_issuer_holds_up_nobody() -> None:
    """While an issuer takes its time to answer, tokens with known keys are checked at once."""
    issuer = Issuer("a", times=KeyTimes(fresh_ms=20, usable_ms=3_600_000, again_ms=10))
    async with kept(issuer):
        issuer.slow.clear()
        asked = issuer.asked
        await until(lambda: issuer.asked > asked)  # the background fetch is under way and hangs
        with pytest.raises(StopIteration):
            issuer.keys.key("a", "ES256").send(None)
        issuer.slow.set()


async def test_a_key_set_that_is_none_takes_nothing_away() -> None:
    """An answer that is no key set counts as an outage; an empty set withdraws every key."""
    issuer = Issuer("a")
    assert await issuer.has("a")
    issuer.document = {"error": "maintenance"}
    issuer.seconds += FRESH_S + 1
    assert await issuer.has("a")
    issuer = Issuer("a")
    assert await issuer.has("a")
    issuer.document = {"keys": []}
    issuer.seconds += FRESH_S + 1
    assert not await issuer.has("a")


@pytest.mark.parametrize("kid", [7, ["a"], {}, True, "k" * 257])
async def test_ids_that_are_none(kid: object) -> None:
    """A `kid` that is no short text is unknown without asking anybody."""
    issuer = Issuer("a")
    assert not await issuer.has(kid)
    assert issuer.asked == 0


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "abc"}])
def test_no_key_sets(document: Mapping[str, Any]) -> None:
    """What has no list of keys is no key set."""
    with pytest.raises(ValueError, match="no key set"):
        usable_keys(document)


def test_unusable_keys_are_left_out() -> None:
    """Keys that can't be read, are shared secrets or are for something else leave the others usable."""
    odd = [None, {}, 7, {"kty": "RSA", "n": 1}, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "later"}]
    document = listed("a")
    assert list(usable_keys({"keys": [*odd, *document["keys"]]})) == ["a"]
    assert not usable_keys({"keys": [one | {"use": "enc"} for one in document["keys"]]})


def test_keys_of_a_file(tmp_path: Path) -> None:
    """An issuer's keys may stand in a file; what isn't a key set is refused."""
    path = tmp_path / "keys.json"
    issuer = IssuerSettings("a", jwks_file=path)
    path.write_text(json.dumps(listed("a")))
    assert fetch_keys(issuer) == listed("a")
    path.write_text("[]")
    with pytest.raises(ValueError, match="not an object"):
        fetch_keys(issuer)
    path.write_text(json.dumps("x" * (issuer_keys.JWKS_BYTES_MAX + 1)))
    with pytest.raises(ValueError, match="1 MiB"):
        fetch_keys(issuer)


@pytest.fixture
def address() -> Iterator[str]:
    """A server: `/keys` has keys, `/moved` redirects there, `/endless` never ends, `/slow` sends a byte now and then."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Location", "/keys")
            self.end_headers()
            with contextlib.suppress(OSError):
                while self.path in ("/endless", "/slow"):
                    self.wfile.write(b"x" * (65_536 if self.path == "/endless" else 1))
                    stopped.wait(0.0 if self.path == "/endless" else 0.02)
                self.wfile.write(json.dumps(listed("a")).encode())

        def log_message(self, *_args: object) -> None:
            pass

    stopped = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        stopped.set()
        server.shutdown()
        thread.join()


def test_keys_of_an_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are read by HTTP; a redirect, too long an answer and one that takes for ever are errors."""
    monkeypatch.setattr(issuer_keys, "FETCH_TIMEOUT_S", 0.2)
    assert fetch_keys(IssuerSettings("a", jwks_url=f"{address}/keys"))["keys"]
    with pytest.raises(OSError, match="302"):
        fetch_keys(IssuerSettings("a", jwks_url=f"{address}/moved"))
    with pytest.raises(ValueError, match="1 MiB"):
        fetch_keys(IssuerSettings("a", jwks_url=f"{address}/endless"))
    with pytest.raises(TimeoutError, match="too slow"):
        fetch_keys(IssuerSettings("a", jwks_url=f"{address}/slow"))
