"""Tokens of configured issuers: RS256, ES256 and EdDSA by JWKS. Protocol, section 1."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.centre import Centre
from tests.support.processes import CONFIG, SECRET, HubProcess
from tests.support.tokens import claims

ISSUER = "https://login.example"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def jwks() -> str:
    """The public keys as a JWK set."""
    keys = []
    for algorithm, key in KEYS.items():
        known = jwt.get_algorithm_by_name(algorithm)
        keys.append(json.loads(known.to_jwk(key.public_key())) | {"kid": algorithm, "alg": algorithm, "use": "sig"})
    return json.dumps({"keys": keys})


@pytest_asyncio.fixture
async def issued(tmp_path: Path) -> AsyncIterator[Centre]:
    """A hub that takes tokens of an issuer beside its own."""
    keys = tmp_path / "jwks.json"
    keys.write_text(jwks())
    config = CONFIG + f'\n[[issuers]]\nissuer = "{ISSUER}"\njwks_file = "{keys}"\norganizations = ["*"]\n'
    hub = HubProcess(tmp_path / "hub", config=config)
    await asyncio.to_thread(hub.start)
    centre = Centre(hub)
    yield centre
    await centre.close()
    hub.kill()


async def hello(centre: Centre, token: str) -> bool:
    """True where the token is believed."""
    line = await centre.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello", "token": token})
    answer = await line.answer(1)
    if "error" in answer:
        assert answer["error"]["code"] == "unauthenticated"
        assert await line.closed() == 4401
    return "ok" in answer


async def test_each_algorithm(issued: Centre) -> None:
    """RS256, ES256 and EdDSA tokens of the issuer are believed, and the hub's own still are."""
    for algorithm, key in KEYS.items():
        body = claims("ana", "supervisor", issued.org, iss=ISSUER)
        assert await hello(issued, jwt.encode(body, key, algorithm=algorithm, headers={"kid": algorithm}))
    assert await hello(issued, issued.token("ana"))


async def test_forged_tokens_of_an_issuer(issued: Centre) -> None:
    """Another key, another issuer, the hub's name, the hub's secret, an unknown key: none is believed."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    body = claims("ana", "supervisor", issued.org, iss=ISSUER)
    header = {"kid": "RS256"}
    assert not await hello(issued, jwt.encode(body, stranger, algorithm="RS256", headers=header))
    for issuer in ("https://else.example", "hub"):
        other = body | {"iss": issuer}
        assert not await hello(issued, jwt.encode(other, KEYS["RS256"], algorithm="RS256", headers=header))
    assert not await hello(issued, jwt.encode(body, SECRET, algorithm="HS256"))
    assert not await hello(issued, jwt.encode(body, KEYS["RS256"], algorithm="RS256", headers={"kid": "unknown"}))


@pytest.mark.parametrize("change", [{"aud": "other"}, {"exp": 1}, {"sub": None}])
async def test_claims_are_checked_for_them_too(issued: Centre, change: dict[str, Any]) -> None:
    """Audience, expiry and subject count for an issuer's tokens, too."""
    body = claims("ana", "supervisor", issued.org, iss=ISSUER) | change
    body = {name: value for name, value in body.items() if value is not None}
    assert not await hello(issued, jwt.encode(body, KEYS["ES256"], algorithm="ES256", headers={"kid": "ES256"}))
