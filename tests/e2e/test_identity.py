"""A real identity provider beside a real hub: keys that change, outages, whom it may speak for, forged tokens."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from prometheus_client.parser import text_string_to_metric_families

from tests.support.centre import Centre
from tests.support.identity import ALL, ORG, grant, issuer_table
from tests.support.openid_provider import Provider
from tests.support.own_delay import own_delay
from tests.support.processes import CONFIG, SECRET, HubProcess
from tests.support.socket import eventually

FRESH_MS, AGAIN_MS = 1_000, 400
STRANGER = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GRANTS = (
    grant("cc-supervisors", "supervisor", permissions=("view", "monitor"), queues=ALL, divisions=ALL),
    grant("senior", claim=("realm", "roles"), permissions=("takeover",)),
    grant("cc-agents", "agent", queues=("support",), divisions=ALL),
)


def rules(provider: Provider, of: str = f'org = "{ORG}"') -> str:
    """What the hub is told of a provider that calls it `api://hub`; `of` is whom it may speak for."""
    more = ['audience = "api://hub"', of, 'roles = ["supervisor", "agent"]', "", "[issuers.claims]", 'name = "display"']
    return issuer_table(provider.issuer, *GRANTS, more=more)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """An identity provider, shared by the tests here; each leaves it reachable."""
    with Provider() as made:
        yield made


@pytest.fixture(scope="module")
def naming() -> Iterator[Provider]:
    """A second one, whose tokens name one of two organizations."""
    with Provider() as made:
        yield made


@pytest.fixture(scope="module")
def issued_hub(provider: Provider, naming: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that takes that provider's tokens, by groups and for one organization, and a second provider's as they are."""
    config = CONFIG + f"keys_fresh_ms = {FRESH_MS}\nkeys_again_ms = {AGAIN_MS}\n"
    config += rules(provider) + rules(naming, 'organizations = ["acme", "beta"]')
    hub = HubProcess(tmp_path_factory.mktemp("issued"), config=config)
    hub.start()
    yield hub
    hub.kill()


@pytest_asyncio.fixture
async def issued(issued_hub: HubProcess) -> AsyncIterator[Centre]:
    """The provider's organization on that hub."""
    centre = Centre(issued_hub, org=ORG)
    yield centre
    await centre.close()


def body(provider: Provider, **changed: Any) -> dict[str, Any]:
    """A supervisor's claims as this provider writes them; one that is None is left out."""
    now = int(time.time())
    usual = {"iss": provider.issuer, "aud": "api://hub", "sub": "ana", "display": "Ana", "groups": ["cc-supervisors"]}
    claims = usual | {"iat": now, "exp": now + 300} | changed
    return {name: value for name, value in claims.items() if value is not None}


async def fetched(provider: Provider, more: int) -> None:
    """Wait until the hub has asked for the keys so many times more."""
    wanted = provider.asked["/keys"] + more

    async def there() -> bool:
        return provider.asked["/keys"] >= wanted

    await eventually(there, timeout=10, wanted=f"{more} more fetches")


async def key_age(centre: Centre, provider: Provider) -> float:
    """How old the hub says the provider's keys are, in seconds."""
    text = (await centre.http.get(centre.hub.metrics)).text
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "hub_issuer_keys_age_seconds"]
    return next(float(one.value) for one in family.samples if one.labels == {"issuer": provider.issuer})


async def aged(centre: Centre, provider: Provider, seconds: float) -> bool:
    """True where they are older than that."""
    return await key_age(centre, provider) > seconds


async def hello(centre: Centre, token: str, endpoint: str = "/v1/supervisor") -> tuple[str, int]:
    """What becomes of a hello: `ok`, or the code of the refusal and of the close."""
    line = await centre.raw(endpoint)
    await line.send({"id": 1, "cmd": "hello", "token": token})
    answer = await line.answer(1)
    if "ok" in answer:
        line.session = answer["ok"]
        await line.close()
        return "ok", 0
    return answer["error"]["code"], await line.closed()


async def test_groups_become_rights(issued: Centre, provider: Provider) -> None:
    """Groups of the provider's token are role and permissions here, several add up, and the name is its own claim's."""
    line = await issued.raw("/v1/supervisor")
    claims = body(provider, realm={"roles": ["senior"]}, permissions=["admin"], role="admin", org="elsewhere")
    await line.hello(provider.token(claims))
    assert line.session["user"] == {"id": "ana", "name": "Ana"}
    assert sorted(line.session["permissions"]) == ["monitor", "takeover", "view"]
    seen = await issued.get("/v1/conversations", bearer=provider.token(claims))
    assert seen.status_code == 200
    assert await hello(issued, provider.token(body(provider, groups=["cc-agents"])), "/v1/agent") == ("ok", 0)


async def test_nobody_without_a_group(issued: Centre, provider: Provider) -> None:
    """Whoever is in none of the groups is told `not_permitted`, on the socket and by HTTP, with no word of theirs."""
    token = provider.token(body(provider, groups=["cc-guests"], sub="secret-guest"))
    assert await hello(issued, token) == ("not_permitted", 4403)
    answer = await issued.get("/v1/conversations", bearer=token)
    assert answer.status_code == 403
    assert "guest" not in answer.text


async def test_a_new_key_is_taken_at_once(issued: Centre, provider: Provider) -> None:
    """The first token of a key that the provider has just made is taken."""
    provider.rotate("second")
    assert await hello(issued, provider.token(body(provider))) == ("ok", 0)


async def test_a_withdrawn_key_is_refused_in_time(issued: Centre, provider: Provider) -> None:
    """A key that is no longer listed is refused within `keys_fresh_ms`, without anybody asking for it."""
    provider.rotate("third")
    old = provider.token(body(provider))
    assert await hello(issued, old) == ("ok", 0)
    provider.rotate("fourth", keep=False)
    withdrawn = time.monotonic()
    while (await hello(issued, old))[0] == "ok":
        assert time.monotonic() - withdrawn < FRESH_MS / 1000 + 2, "still taken"  # and a slow machine's moment
        await asyncio.sleep(0.05)
    assert await hello(issued, old) == ("unauthenticated", 4401)
    assert await hello(issued, provider.token(body(provider))) == ("ok", 0)


async def test_keys_are_fetched_without_anybody(issued: Centre, provider: Provider) -> None:
    """The hub keeps the keys by itself, so that no hello has to wait for them; made-up key ids hardly add to that."""
    await fetched(provider, 2)
    before, began = provider.asked["/keys"], time.monotonic()
    forged = [provider.token(body(provider), kid=f"made-up-{number}", key=STRANGER) for number in range(30)]
    assert {await hello(issued, token) for token in forged} == {("unauthenticated", 4401)}
    background = (time.monotonic() - began) * 1000 * (2 / FRESH_MS + 1 / AGAIN_MS)
    assert provider.asked["/keys"] - before <= 4 + background + 2


async def test_the_provider_is_down(issued: Centre, provider: Provider) -> None:
    """While the provider can't be reached its people come in as before, beyond the time a key stays fresh."""
    assert await hello(issued, provider.token(body(provider))) == ("ok", 0)
    provider.down = True
    try:
        await fetched(provider, 4)
        before, after = await key_age(issued, provider), FRESH_MS / 1000
        await eventually(lambda: aged(issued, provider, after), timeout=10, wanted=f"keys of {after} s, from {before}")
        assert await hello(issued, provider.token(body(provider))) == ("ok", 0)
    finally:
        provider.down = False
    assert "can't be fetched" in issued.hub.tail(20_000)


async def test_the_provider_is_slow(issued: Centre, provider: Provider) -> None:
    """While the provider answers nothing for seconds a hello with a known key takes no longer than ever."""
    assert await hello(issued, provider.token(body(provider))) == ("ok", 0)
    provider.slow = True
    try:
        await fetched(provider, 1)  # it hangs
        async with own_delay() as watch:
            assert await hello(issued, provider.token(body(provider))) == ("ok", 0)
            assert watch.passed_s < 2
    finally:
        provider.slow = False


def raw(header: Any, claims: Any, signature: bytes = b"sig") -> str:
    """A token put together by hand."""
    parts = [
        header if isinstance(header, bytes) else json.dumps(header).encode(),
        json.dumps(claims).encode(),
        signature,
    ]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed(header: dict[str, Any], payload: bytes, key: Any) -> str:
    """A rightly signed token of any header and payload."""
    return jwt.api_jws.encode(payload, key, algorithm="ES256", headers=header)


def forged(provider: Provider) -> dict[str, str]:
    """Tokens that must not be believed, by what is wrong with them; each is right in everything else."""
    good, kid, now = body(provider), list(provider.keys)[-1], int(time.time())
    key = provider.keys[kid]
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, text = {"kid": kid}, json.dumps(good).encode()
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(STRANGER.public_key()))
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    confused = raw({"alg": "HS256", "kid": kid}, good).rpartition(".")[0]
    confused += "." + base64.urlsafe_b64encode(hmac.sign(confused.encode(), public)).decode().rstrip("=")
    changed: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 1},
        "expired long ago": {"exp": 1},
        "no expiry": {"exp": None},
        "expiry a text": {"exp": str(now + 60)},
        "expiry true": {"exp": True},
        "expiry beyond all time": {"exp": 10**20},
        "issued in the future": {"iat": now + 3_600},
        "issued at a text": {"iat": "now"},
        "no time of issue": {"iat": None},
        "not valid yet": {"nbf": now + 3_600},
        "no audience": {"aud": None},
        "audience of another": {"aud": "shop"},
        "audience of the hub's own tokens": {"aud": "hub"},
        "audience nearly right": {"aud": "api://hub/"},
        "audience a number": {"aud": 7},
        "no id": {"sub": None},
        "id a number": {"sub": 7},
        "id a list": {"sub": ["ana"]},
        "id with a slash": {"sub": "ana/acme"},
        "id with a line break": {"sub": "ana\n"},
        "name a list": {"display": ["Ana"]},
        "name with a control character": {"display": "Ana\u0007"},
        "unknown issuer": {"iss": "https://else.example"},
        "issuer with a slash more": {"iss": provider.issuer + "/"},
        "issuer the hub": {"iss": "hub"},
        "issuer a list": {"iss": [provider.issuer]},
        "no issuer": {"iss": None},
        "another connection's id a list": {"jti": [1]},
    }
    tokens = {}
    for name, change in changed.items():
        claims = {key: value for key, value in (good | change).items() if value is not None}
        tokens[name] = signed(header, json.dumps(claims).encode(), key)
    doubled = json.dumps(good)[:-1]
    return tokens | {
        "no algorithm": raw({"alg": "none", "kid": kid}, good, b""),
        "no algorithm, signed": raw({"alg": "nOnE", "kid": kid}, good),
        "the public key as a secret": confused,
        "the hub's secret": jwt.encode(good, SECRET, algorithm="HS256", headers=header),
        "another key": signed(header, text, STRANGER),
        "another algorithm": jwt.encode(good, RSA, algorithm="RS256", headers=header),
        "a key that nobody has": signed({"kid": "gone"}, text, key),
        "a key in the header": signed({"jwk": jwk, "kid": "mine"}, text, STRANGER),
        "an address of keys in the header": signed({"jku": "http://127.0.0.1:1/", "kid": "mine"}, text, STRANGER),
        "something critical": signed(header | {"crit": ["exp"], "exp": now}, text, key),
        "kid an object": raw({"alg": "ES256", "kid": {"a": 1}}, good),
        "huge": signed(header, json.dumps(good | {"more": "x" * 40_000}).encode(), key),
        "nested": signed(header, b"[" * 5_000, key),
        "a list": signed(header, b'["iss"]', key),
        "not JSON": signed(header, b"{", key),
        "two expiries": signed(header, f'{doubled}, "exp": 1}}'.encode(), key),
        "two audiences": signed(header, f'{doubled}, "aud": "shop"}}'.encode(), key),
        "a header that isn't JSON": raw(b"{", good),
        "signature cut": signed(header, text, key)[:-6],
        "claims changed": swapped(signed(header, text, key), good | {"groups": ["cc-supervisors", "cc-agents"]}),
        "a token of the hub's own for itself signed by the provider": signed(header, json.dumps(own(now)).encode(), key),
    }  # fmt: skip


def own(now: int) -> dict[str, Any]:
    """Claims of a token of the hub's own, of an admin elsewhere."""
    rights = {"role": "admin", "permissions": ["admin"], "org": "elsewhere", "queues": ["*"], "divisions": ["*"]}
    return rights | {"iss": "hub", "aud": "hub", "sub": "eve", "iat": now, "exp": now + 60}


def swapped(token: str, claims: dict[str, Any]) -> str:
    """The token with other claims under the old signature."""
    header, _, signature = token.split(".")
    return ".".join([header, raw({}, claims).split(".")[1], signature])


async def test_forged_tokens(issued: Centre, provider: Provider) -> None:
    """Each is `unauthenticated`: 4401, by HTTP 401; neither answer nor log has anything of it."""
    assert await hello(issued, provider.token(body(provider))) == ("ok", 0)
    table = forged(provider)
    assert len(table) >= 40
    logged = issued.hub.log.stat().st_size

    async def judged(name: str, token: str) -> None:
        line = await issued.raw("/v1/supervisor")
        await line.send({"id": 1, "cmd": "hello", "token": token})
        answer = await line.answer(1)
        assert answer.get("error", {}).get("code") == "unauthenticated", name
        assert answer["error"]["details"] == {}, name
        assert await line.closed() == 4401, name
        over_http = await issued.get("/v1/conversations", bearer=token)
        assert over_http.status_code == 401, name
        said = "\n".join(line.lines) + over_http.text
        assert not [
            part for part in (*token.split("."), "elsewhere", "else.example") if len(part) > 5 and part in said
        ], name

    await asyncio.gather(*(judged(name, token) for name, token in table.items()))
    written = issued.hub.log.read_text()[logged:]
    leaked = [name for name, token in table.items() for part in token.split(".") if len(part) > 5 and part in written]
    assert leaked == []
    assert "ana" not in written


async def test_another_organization_needs_to_be_configured(issued: Centre, naming: Provider) -> None:
    """A provider that may name some organizations is believed for those, and for no other."""
    for org in ("acme", "beta"):
        assert await hello(issued, naming.token(body(naming, org=org))) == ("ok", 0)
    for wrong in ("gamma", "ACME", ["acme"], None, "acme/beta", "*"):
        assert await hello(issued, naming.token(body(naming, org=wrong))) == ("unauthenticated", 4401)
