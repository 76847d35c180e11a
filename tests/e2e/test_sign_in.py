"""Signing in with an identity provider, as a browser does it: what works, what must not, and how it ends."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.centre import Centre
from tests.support.fixtures import running
from tests.support.identity import ORG, grant, sign_in_config
from tests.support.openid_provider import CLIENT, CLIENT_SECRET, Provider
from tests.support.origins import wrong_origins
from tests.support.plain import plain_client
from tests.support.processes import HubProcess, StoreProcess
from tests.support.refusals import asked_for
from tests.support.socket import Socket

STRANGER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = "https://hub.example.com"
PATIENT = "sign_ins_per_minute = 2000\nhello_timeout_ms = 60000\n"
SESSION, STATE = "hub_session", "hub_sign_in"
ENVIRONMENT = {"HUB_SIGN_IN_SECRET": CLIENT_SECRET}


def with_sign_in(hub: HubProcess, provider: Provider, *, limits: str = "", public: str | None = None) -> HubProcess:
    """The hub, configured for signing in; not started yet."""
    hub.environment = ENVIRONMENT
    platforms = grant("platforms", "connector")
    hub.config.write_text(sign_in_config(provider.issuer, public or hub.url, platforms, limits=limits))
    return hub


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """An identity provider, shared by the tests here; each leaves it as it was."""
    with Provider() as made:
        yield made


@pytest.fixture(scope="module")
def signing(provider: Provider, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub where one signs in with that provider."""
    hub = HubProcess(tmp_path_factory.mktemp("signing"), redis_url=store.url)
    with_sign_in(hub, provider, limits=PATIENT).start()
    yield hub
    hub.kill()


@pytest.fixture(scope="module")
def west(provider: Provider, signing: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A second node on the same store, which browsers reach by https, through a proxy that isn't here."""
    hub = HubProcess(tmp_path_factory.mktemp("west"), redis_url=signing.redis_url)
    with_sign_in(hub, provider, limits=PATIENT, public=PUBLIC).start()
    yield hub
    hub.kill()


@pytest_asyncio.fixture
async def office(signing: HubProcess) -> AsyncIterator[Centre]:
    """The provider's organization on that hub."""
    centre = Centre(signing, org=ORG)
    yield centre
    await centre.close()


class Browser:
    """A browser as far as the hub sees one: cookies, and the headers that its pages send. Used as a context."""

    def __init__(self, hub: HubProcess, provider: Provider) -> None:
        self.hub = hub
        self.provider = provider
        self.client = plain_client(base_url=hub.url, timeout=20.0)

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_args: object) -> None:
        await self.client.aclose()

    @property
    def page(self) -> dict[str, str]:
        """What the hub's own pages send along."""
        return {"origin": self.hub.url, "x-hub-page": "1", "sec-fetch-site": "same-origin"}

    async def begin(self, to: str = "console") -> str:
        """Go to the provider; the address there."""
        answer = await self.client.get("/sign-in", params={"to": to})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def back(self, **params: Any) -> httpx.Response:
        """Come back from the provider."""
        return await self.client.get("/sign-in/callback", params=params)

    async def sign_in(self, **claims: Any) -> httpx.Response:
        """All of it, as somebody of the supervisors; the answer that sends the browser to its page."""
        address = await self.begin()
        code = self.provider.code(address, **({"groups": ["cc-supervisors"], "name": "Ana Ortiz"} | claims))
        return await self.back(code=code, state=state_of(address))

    async def user(self) -> str | None:
        """The id of whoever has signed in."""
        answer = await self.client.get("/v1/session", headers=self.page)
        assert answer.status_code == 200, answer.text
        user = answer.json()["user"]
        return None if user is None else user["id"]

    async def ticket(self, node: HubProcess | None = None) -> httpx.Response:
        """Ask for a ticket, as the page does."""
        return await self.client.post(f"{(node or self.hub).url}/v1/tickets", headers=self.page)


def asked(address: str) -> dict[str, str]:
    """What an address asks for."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def state_of(address: str) -> str:
    """The state in an address."""
    return asked(address)["state"]


async def watching(centre: Centre, browser: Browser, node: int = 0) -> Socket:
    """A supervisor's socket, by a ticket of the browser's session."""
    answer = await browser.ticket()
    assert answer.status_code == 200, answer.text
    return await centre.connect("/v1/supervisor", answer.json()["ticket"], node=node)


async def test_signing_in(office: Centre, provider: Provider) -> None:
    """From the sign-in page to a live socket with the rights of one's groups; the page learns who one is, no secret."""
    async with Browser(office.hub, provider) as browser:
        address = await browser.begin()
        request = asked(address)
        assert address.startswith(f"{provider.issuer}/authorize?")
        assert (request["response_type"], request["client_id"]) == ("code", CLIENT)
        assert request["redirect_uri"] == f"{office.hub.url}/sign-in/callback"
        assert (request["scope"], request["code_challenge_method"]) == ("openid profile", "S256")
        assert min(len(request[name]) for name in ("state", "nonce", "code_challenge")) >= 43
        answer = await browser.sign_in()
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert answer.headers["cache-control"] == "no-store"
        said = await browser.client.get("/v1/session", headers=browser.page)
        assert set(said.json()) == {"user", "role", "session", "expires_at"}
        assert (said.json()["user"], said.json()["role"]) == ({"id": "ana", "name": "Ana Ortiz"}, "supervisor")
        assert 7.9 * 3_600_000 < said.json()["expires_at"] - time.time() * 1000 <= 8 * 3_600_000
        line = await watching(office, browser)
        assert sorted(line.session["permissions"]) == ["history", "monitor", "takeover", "view"]
        assert (await browser.client.get("/v1/conversations", headers=browser.page)).status_code == 200


async def test_each_role_has_its_page(office: Centre, provider: Provider) -> None:
    """Agents land at the desk, wherever they began; a role without a page is let in nowhere."""
    async with Browser(office.hub, provider) as browser:
        answer = await browser.sign_in(groups="cc-agents", sub="max")
        assert answer.headers["location"] == "/desk"
        given = (await browser.ticket()).json()["ticket"]
        await office.connect("/v1/agent", given)
    async with Browser(office.hub, provider) as browser:
        assert refusal(await browser.sign_in(groups=["platforms"])) == (403, "not_permitted")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a page that says why somebody isn't signed in; it sets no session and runs nothing."""
    assert answer.headers["content-type"].startswith("text/html"), answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert SESSION not in answer.headers.get("set-cookie", "")
    assert "<script" not in answer.text
    assert asked_for(answer.status_code, answer.headers)
    return answer.status_code, answer.text.split("<code>")[1].split("</code>")[0]


def none_signed(claims: dict[str, Any]) -> str:
    """A token without signature."""
    return jwt.encode(claims, "", algorithm="none")


def tampered(token: str) -> str:
    """The token with another subject under its signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    body = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "eve"}).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "wrong nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "nonce a list": {"nonce": ["x"]},
    "audience another client": {"aud": "another"},
    "audience the hub": {"aud": "hub"},
    "no audience": {"aud": None},
    "several audiences, no party": {"aud": [CLIENT, "another"]},
    "another authorized party": {"azp": "another"},
    "expired": {"exp": 1_700_000_000},
    "expiry a text": {"exp": "later"},
    "no expiry": {"exp": None},
    "issued in the future": {"iat": 4_000_000_000},
    "another issuer": {"iss": "https://else.example"},
    "the hub as issuer": {"iss": "hub"},
    "no subject": {"sub": None},
    "subject no id": {"sub": "ana/acme"},
    "name a number": {"name": 7},
}
WRONG_TOKENS: dict[str, Callable[[Provider, dict[str, Any]], Any]] = {
    "signed by a stranger": lambda provider, claims: provider.token(claims, key=STRANGER),
    "unknown key": lambda provider, claims: provider.token(claims, kid="gone", key=STRANGER),
    "unsigned": lambda _, claims: none_signed(claims),
    "signed with the client's secret": lambda _, claims: jwt.encode(claims, CLIENT_SECRET * 2, algorithm="HS256"),
    "tampered": lambda provider, claims: tampered(provider.token(claims)),
    "no token": lambda *_: None,
    "a token that is a number": lambda *_: 7,
    "an opaque token": lambda *_: "opaque",
}


async def test_id_tokens_that_must_not_be_believed(office: Centre, provider: Provider) -> None:
    """Wrong nonce, audience, party, times, issuer, key or form: nobody is signed in, and nothing of it is repeated."""
    async with Browser(office.hub, provider) as browser:
        for name, wrong in WRONG_CLAIMS.items():
            assert refusal(await browser.sign_in(**wrong)) == (401, "unauthenticated"), name
            assert await browser.user() is None, name
        for name, make in WRONG_TOKENS.items():
            address = await browser.begin()
            code = provider.code(address, groups=["cc-supervisors"])
            provider.answer = {"id_token": make(provider, provider.codes[code]["claims"])}
            try:
                answer = await browser.back(code=code, state=state_of(address))
            finally:
                provider.answer = {}
            assert refusal(answer) in [(401, "unauthenticated"), (502, "provider_refused")], name
            assert await browser.user() is None, name


async def test_nobody_without_a_group(office: Centre, provider: Provider) -> None:
    """Whoever the provider knows and nothing is granted to is told so."""
    async with Browser(office.hub, provider) as browser:
        assert refusal(await browser.sign_in(groups=["guests"])) == (403, "not_permitted")
        assert await browser.user() is None


async def test_answers_that_are_not_to_ones_own_request(office: Centre, provider: Provider) -> None:
    """State, browser and code belong together, and each counts once."""
    async with Browser(office.hub, provider) as browser, Browser(office.hub, provider) as other:
        rows: dict[str, tuple[int, str]] = {}
        address = await browser.begin()
        code, state = provider.code(address, groups=["cc-supervisors"]), state_of(address)
        rows["wrong state"] = refusal(await browser.back(code=code, state="x" * 43))
        rows["no state"] = refusal(await browser.back(code=code))
        rows["two states"] = refusal(await browser.back(code=code, state=[state, state]))
        rows["a state that isn't ASCII"] = refusal(await browser.back(code=code, state="ü" * 43))
        rows["another browser"] = refusal(await other.back(code=code, state=state))
        await other.begin()
        rows["another browser that has begun, too"] = refusal(await other.back(code=code, state=state))
        assert set(rows.values()) == {(400, "wrong_state")}, rows
        assert (await browser.back(code=code, state=state)).status_code == 303
        assert refusal(await browser.back(code=code, state=state)) == (400, "wrong_state")  # its cookie has gone
        browser.client.cookies.set(STATE, state, domain="127.0.0.1")
        assert refusal(await browser.back(code=code, state=state)) == (400, "sign_in_over")
        assert await other.user() is None


async def test_codes_that_count_for_nothing(office: Centre, provider: Provider) -> None:
    """A used, foreign, made-up, missing or endless code signs nobody in, nor does a provider that says no."""
    async with Browser(office.hub, provider) as browser, Browser(office.hub, provider) as other:
        used = provider.code(address := await browser.begin(), groups=["cc-supervisors"])
        assert (await browser.back(code=used, state=state_of(address))).status_code == 303
        foreign = provider.code(await other.begin(), groups=["cc-supervisors"])
        expected = {
            "used": ({"code": used}, (400, "provider_refused")),
            "of another sign-in": ({"code": foreign}, (400, "provider_refused")),
            "made up": ({"code": "made-up"}, (400, "provider_refused")),
            "missing": ({}, (400, "schema_invalid")),
            "endless": ({"code": "x" * 5_000}, (400, "schema_invalid")),
            "refused": ({"error": "access_denied", "error_description": "<b>no"}, (401, "provider_refused")),
            "refused oddly": ({"error": "<script>alert(1)</script>", "code": "x"}, (401, "provider_refused")),
            "of another provider": ({"code": "x", "iss": "https://else.example"}, (400, "wrong_issuer")),
        }
        for name, (params, wanted) in expected.items():
            address = await other.begin()
            assert refusal(await other.back(state=state_of(address), **params)) == wanted, name
            assert await other.user() is None, name
        address = await other.begin()
        code = provider.code(address, groups=["cc-supervisors"])
        assert (await other.back(state=state_of(address), code=code, iss=provider.issuer)).status_code == 303


async def test_a_browser_is_sent_nowhere_else(office: Centre, provider: Provider) -> None:
    """Where one lands is a page of the hub's: whatever is asked for."""
    wrong = ["", "https://evil.example", "//evil.example", "/desk", "Console", "console/../x", "\\evil", "javascript:1"]
    async with Browser(office.hub, provider) as browser:
        for to in wrong:
            answer = await browser.client.get("/sign-in", params={"to": to})
            assert refusal(answer) == (400, "schema_invalid"), to
            assert "location" not in answer.headers
        address = await browser.begin()
        more = {"to": "//evil.example", "next": "https://evil.example", "redirect_uri": "https://evil.example"}
        code = provider.code(address, groups=["cc-supervisors"])
        answer = await browser.back(code=code, state=state_of(address), **more)
        assert answer.headers["location"] == "/"


async def test_cookies_are_for_nobody_elses_eyes(office: Centre, provider: Provider, west: HubProcess) -> None:
    """No script reads them, no other site's request carries the session; with https only this host, by https."""
    async with Browser(office.hub, provider) as browser:
        first = await browser.client.get("/sign-in")
        assert "; HttpOnly; SameSite=Lax" in first.headers["set-cookie"]
        session = next(one for one in (await browser.sign_in()).headers.get_list("set-cookie") if SESSION in one)
        assert "; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict" in session
    async with plain_client(base_url=west.url) as client:
        begun = await client.get("/sign-in")
        address, state = begun.headers["location"], begun.headers["set-cookie"]
        assert asked(address)["redirect_uri"] == f"{PUBLIC}/sign-in/callback"
        assert state.startswith(f"__Host-{STATE}=")
        assert state.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")
        code = provider.code(address, groups=["cc-supervisors"])
        params = {"code": code, "state": state_of(address)}
        back = await client.get("/sign-in/callback", params=params, headers={"cookie": state.split(";")[0]})
        session = back.headers.get_list("set-cookie")[0]
        assert session.startswith(f"__Host-{SESSION}=")
        assert session.endswith("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure")


async def test_whose_pages_may_use_the_cookie(office: Centre, provider: Provider) -> None:
    """With the cookie alone only the hub's own pages may ask, by exact Origin and a header that no other page can send."""
    wrong = wrong_origins(office.hub.url)
    assert len(wrong) >= 30
    async with Browser(office.hub, provider) as browser:
        await browser.sign_in()
        cookie = f"{SESSION}={browser.client.cookies[SESSION]}".encode()
        routes = [
            ("POST", "/v1/tickets"),
            ("POST", "/v1/sign-out"),
            ("GET", "/v1/session"),
            ("GET", "/v1/conversations"),
        ]
        for method, path in routes:
            for name, lines in wrong.items():
                sent = [(b"cookie", cookie), (b"x-hub-page", b"1"), *((b"origin", line) for line in lines)]
                assert await bare(office.hub, method, path, sent) == 403, (path, name)
            own = (b"origin", office.hub.url.encode())
            for others in ([own], [own, (b"x-hub-page", b"2")], [own, (b"x-hub-page", b"1"), (b"x-hub-page", b"1")]):
                assert await bare(office.hub, method, path, [(b"cookie", cookie), *others]) == 403, path
            for site in (b"cross-site", b"same-site", b"none"):
                sent = [(b"cookie", cookie), own, (b"x-hub-page", b"1"), (b"sec-fetch-site", site)]
                assert await bare(office.hub, method, path, sent) == 403, path
        assert await bare(office.hub, "POST", "/v1/tickets", [(b"cookie", cookie), (b"x-hub-page", b"1")]) == 403
        assert (await browser.ticket()).status_code == 200
        asks_first = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        preflight = await browser.client.options("/v1/tickets", headers=asks_first)
        assert "access-control-allow-origin" not in preflight.headers


async def bare(hub: HubProcess, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> int:
    """The status of a request with exactly these headers beside `Host`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    lines = [f"{method} {path} HTTP/1.1".encode(), f"Host: 127.0.0.1:{hub.port}".encode(), b"Content-Length: 0"]
    writer.write(b"\r\n".join([*lines, b"Connection: close", *(b": ".join(one) for one in headers), b"", b""]))
    async with asyncio.timeout(5):
        status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


async def test_junk_is_refused_like_anything_else(office: Centre) -> None:
    """Broken queries and cookies are answered by a refusal or by nobody's session, and fail nothing inside."""
    queries = [
        "",
        "state=%ff%fe&code=%00",
        "state=a&state=b",
        "state[]=x",
        "&&&===",
        "error=%0d%0aset-cookie:x",
        "iss=" * 900,
    ]
    cookies = [
        b"",
        b"%ff",
        b"x" * 5_000,
        b'"open',
        b"\xff\xfe",
        b"a=b=c",
        b"\t",
        "ü".encode(),
        b"web_" + b"0" * 40,
    ]
    for query in queries:
        for value in cookies[:4]:
            sent = [(b"cookie", b"%s=%s" % (STATE.encode(), value))]
            assert await bare(office.hub, "GET", f"/sign-in/callback?{query}", sent) == 400, (query, value)
    for value in cookies:
        sent = [(b"cookie", b"%s=%s" % (SESSION.encode(), value)), (b"x-hub-page", b"1")]
        assert await bare(office.hub, "GET", "/v1/session", sent) == 200, value
        sent.append((b"origin", office.hub.url.encode()))
        assert await bare(office.hub, "POST", "/v1/tickets", sent) == 401, value
        assert await bare(office.hub, "POST", "/v1/sign-out", sent) == 200, value
    assert "Traceback" not in office.hub.log.read_text()


async def test_a_bearer_token_counts_more_than_a_cookie(office: Centre, provider: Provider) -> None:
    """Where a request has both, it is judged by its token alone, good or bad."""
    async with Browser(office.hub, provider) as browser:
        await browser.sign_in()
        good = {"authorization": f"Bearer {office.token('bo')}"}
        given = (await browser.client.post("/v1/tickets", headers=good)).json()["ticket"]
        line = await office.connect("/v1/supervisor", given)
        assert line.session["user"]["id"] == "bo"
        bad = browser.page | {"authorization": "Bearer a.b.c"}
        assert (await browser.client.post("/v1/tickets", headers=bad)).status_code == 401


async def test_the_store_and_the_log_hold_no_secret(office: Centre, provider: Provider, store: StoreProcess) -> None:
    """Neither cookies nor codes, state or tokens stand in the log, nor in any key or value of the store."""
    import redis

    async with Browser(office.hub, provider) as browser:
        address = await browser.begin()
        code = provider.code(address, groups=["cc-supervisors"])
        claims = provider.codes[code]["claims"]
        await browser.back(code=code, state=state_of(address))
        secrets = [browser.client.cookies[SESSION], code, state_of(address), CLIENT_SECRET, provider.token(claims)]
        with redis.Redis.from_url(store.url) as client:
            kept = b"".join(key + (client.get(key) or b"") for key in client.scan_iter("*web:*", 1_000))
        assert b'"user_id":"ana"' in kept
        logged = office.hub.log.read_text()
        assert "signed in: acme/ana as supervisor, session web_" in logged
        assert [one for one in secrets if one in logged or one.encode() in kept] == []


async def test_signing_out(provider: Provider, signing: HubProcess, west: HubProcess) -> None:
    """Sockets of the session are closed on every node within 2 s, its cookie opens nothing, others' sessions stay."""
    centre = Centre(signing, west, org=ORG)
    try:
        async with Browser(signing, provider) as browser, Browser(signing, provider) as other:
            await browser.sign_in()
            await other.sign_in()
            lines = [await watching(centre, browser, node) for node in (0, 1)]
            stays = await watching(centre, other, 1)
            unused = (await browser.ticket()).json()["ticket"]
            cookie = browser.client.cookies[SESSION]
            answer = await browser.client.post("/v1/sign-out", headers=browser.page)
            left = time.monotonic()
            assert answer.status_code == 200
            end = urlsplit(answer.json()["redirect"])
            assert f"{end.scheme}://{end.netloc}{end.path}" == f"{provider.issuer}/end"
            assert asked(answer.json()["redirect"]) == {
                "client_id": CLIENT, "post_logout_redirect_uri": f"{signing.url}/"
            }  # fmt: skip
            assert [await line.closed() for line in lines] == [4401, 4401]
            assert time.monotonic() - left < 2
            assert SESSION not in browser.client.cookies
            browser.client.cookies.set(SESSION, cookie, domain="127.0.0.1")
            assert (await browser.ticket()).status_code == 401
            assert await browser.user() is None
            late = await centre.raw("/v1/supervisor", node=1)
            await late.send({"id": 1, "cmd": "hello", "token": unused})
            assert (await late.answer(1))["error"]["code"] == "unauthenticated"
            assert stays.close_code is None
            assert await other.user() == "ana"
            again = await browser.client.post("/v1/sign-out", headers=browser.page)
            assert (again.status_code, again.json()) == (200, {"redirect": None})
    finally:
        await centre.close()


async def test_revoking(provider: Provider, office: Centre) -> None:
    """A revoked person, or session, is out on sockets and by cookie within 2 s; whoever signs in afterwards is in."""
    admin = {"authorization": f"Bearer {office.token('root', 'admin')}"}
    for kind in ("sub", "jti"):
        async with Browser(office.hub, provider) as browser:
            await browser.sign_in(sub="gil")
            line = await watching(office, browser)
            session = (await browser.client.get("/v1/session", headers=browser.page)).json()["session"]
            elsewhere = Centre(office.hub)  # its admin can't
            foreign = {"authorization": f"Bearer {elsewhere.token('root', 'admin')}"}
            body = {kind: "gil" if kind == "sub" else session}
            await office.http.post(office.hub.url + "/v1/revocations", json=body, headers=foreign)
            await elsewhere.close()
            assert await browser.user() == "gil"
            answer = await office.http.post(office.hub.url + "/v1/revocations", json=body, headers=admin)
            revoked = time.monotonic()
            assert answer.status_code == 200
            assert await line.closed() == 4401
            assert time.monotonic() - revoked < 2
            assert (await browser.ticket()).status_code == 401
            assert await browser.user() is None
            await browser.sign_in(sub="gil")
            assert await browser.user() == "gil"


async def test_a_session_has_its_time(provider: Provider, store: StoreProcess, tmp_path: Path) -> None:
    """Unused it ends early, used it goes on; at its absolute end sockets are closed. Sign-ins have a time and a rate."""
    limits = "signed_in_ms = 5000\nsigned_in_idle_ms = 1500\nsign_in_ms = 2500\nsign_ins_per_minute = 5\n"
    hub = with_sign_in(HubProcess(tmp_path, redis_url=store.url), provider, limits=limits)
    async with running(hub) as centre:
        centre.org = ORG
        async with Browser(hub, provider) as used, Browser(hub, provider) as idle, Browser(hub, provider) as late:
            await idle.sign_in()
            began = time.monotonic()
            await used.sign_in()
            line = await watching(centre, used)
            address = await late.begin()
            code, state = provider.code(address, groups=["cc-supervisors"]), state_of(address)
            kept, unused = used.client.cookies[SESSION], idle.client.cookies[SESSION]
            while time.monotonic() - began < 1.7:
                assert await used.user() == "ana"
                await asyncio.sleep(0.1)
            idle.client.cookies.set(SESSION, unused, domain="127.0.0.1")
            assert await idle.user() is None
            assert await line.closed() == 4401
            used.client.cookies.set(SESSION, kept, domain="127.0.0.1")
            assert await used.user() is None
            late.client.cookies.set(STATE, state, domain="127.0.0.1")
            assert refusal(await late.back(code=code, state=state)) == (400, "sign_in_over")
            begun = [(await late.client.get("/sign-in")).status_code for _ in range(50)]
            assert set(begun) == {303, 429}
            assert refusal(await late.client.get("/sign-in")) == (429, "rate_limited")


async def test_a_provider_that_is_away(office: Centre, provider: Provider) -> None:
    """Without the provider nobody signs in, and is told to try again; who is signed in stays it."""
    async with Browser(office.hub, provider) as browser, Browser(office.hub, provider) as other:
        await browser.sign_in()
        address = await other.begin()
        code = provider.code(address, groups=["cc-supervisors"])
        provider.down = True
        try:
            assert refusal(await other.back(code=code, state=state_of(address))) == (503, "provider_unavailable")
            assert await browser.user() == "ana"
            assert (await browser.ticket()).status_code == 200
        finally:
            provider.down = False
        assert (await other.sign_in()).status_code == 303


async def test_without_sign_in_nothing_is_there(centre: Centre) -> None:
    """Where signing in isn't configured its routes don't exist, and a cookie means nothing."""
    for method, path in (
        ("GET", "/sign-in"),
        ("GET", "/sign-in/callback"),
        ("GET", "/v1/session"),
        ("POST", "/v1/sign-out"),
    ):
        assert (await centre.http.request(method, centre.hub.url + path)).status_code == 404
    headers = {"cookie": f"{SESSION}=x", "x-hub-page": "1", "origin": centre.hub.url}
    assert (await centre.http.post(centre.hub.url + "/v1/tickets", headers=headers)).status_code == 401


async def test_a_ticket_is_taken_once_by_two_hundred(signing: HubProcess, west: HubProcess) -> None:
    """Of 200 hellos with one ticket at the same moment, on two nodes of one store, exactly one gets in."""
    centre = Centre(signing, west)
    try:
        answer = await centre.http.post(
            centre.hubs[0].url + "/v1/tickets", headers={"authorization": f"Bearer {centre.token('ana')}"}
        )
        given = answer.json()["ticket"]
        lines = [await centre.raw("/v1/supervisor", node=number % 2) for number in range(200)]
        await asyncio.gather(*(line.send({"id": 1, "cmd": "hello", "token": given}) for line in lines))
        answers = [await line.answer(1) for line in lines]
        assert sum("ok" in one for one in answers) == 1
        codes = {one["error"]["code"] for one in answers if "error" in one}
        assert codes == {"unauthenticated"}
        for line, one in zip(lines, answers, strict=True):
            if "ok" in one:
                line.session = one["ok"]
    finally:
        await centre.close()
