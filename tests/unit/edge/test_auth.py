"""Tokens: what is taken, and everything that isn't."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hub.domain.claims import ClaimNames, Grant, IssuerRules
from hub.domain.errors import Refused
from hub.edge.auth import TOKEN_CHARS_MAX, Authenticator, issue_token
from hub.settings import IssuerSettings, Settings

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_MS = 1_795_377_600_123
NOW_S = NOW_MS // 1000
ISSUER = "https://login.example.com/"
OTHER = "https://other.example.com/"
GRANTING = "https://groups.example.com/"
ANYBODY = IssuerRules(organizations=frozenset("*"))

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC_OTHER = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
RSA_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a key as an issuer lists it."""
    algorithm: dict[Any, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    made = next(made for kind, made in algorithm.items() if isinstance(key, kind))
    fields: dict[str, Any] = made.to_jwk(key.public_key(), as_dict=True)
    return fields | more | ({} if kid is None else {"kid": kid})


KEYS = {
    "keys": [
        jwk(RSA, "rsa"),
        jwk(EC, "ec"),
        jwk(ED, "ed"),
        jwk(RSA_WEAK, "weak"),
        jwk(EC_OTHER, "encrypting", use="enc"),
        {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("=")},
        {"kty": "unknown", "kid": "later"},
        "not a key",
    ]
}


class Keys:
    """What an issuer answers, and how often it was asked."""

    def __init__(self, document: Mapping[str, Any] = KEYS) -> None:
        self.document = document
        self.asked = 0
        self.down = False

    def __call__(self, issuer: IssuerSettings) -> Mapping[str, Any]:
        self.asked += 1
        if self.down:
            raise OSError
        return self.document if issuer.issuer == ISSUER else {"keys": [jwk(EC_OTHER, "ec")]}


def authenticator(keys: Keys | None = None, *, secret: bytes | None = SECRET, now_ms: int = NOW_MS) -> Authenticator:
    """One with a secret, two issuers and a clock that stands still."""
    one = Grant(("groups",), "cc-agents", "agent", queues=frozenset({"support"}))
    rules = IssuerRules("acme", claims=ClaimNames(sub=("oid",)), grants=(one,))
    issuers = (
        IssuerSettings(ISSUER, jwks_url=f"{ISSUER}keys", rules=ANYBODY),
        IssuerSettings(OTHER, jwks_url=f"{OTHER}keys", rules=IssuerRules(organizations=frozenset({"elsewhere"}))),
        IssuerSettings(GRANTING, jwks_url=f"{OTHER}keys", audience="api://hub", rules=rules),
    )
    settings = Settings(token_secret=secret, issuers=issuers)
    return Authenticator(settings, clock=lambda: now_ms, fetch=keys or Keys(), monotonic=lambda: 1_000.0)


def claims(**changed: Any) -> dict[str, Any]:
    """A supervisor's claims with some changed; a value of `...` leaves the claim out."""
    usual = {
        "iss": "hub",
        "aud": "hub",
        "sub": "ana",
        "name": "Ana Ortiz",
        "org": "acme",
        "role": "supervisor",
        "permissions": ["view", "monitor"],
        "queues": ["support"],
        "divisions": ["*"],
        "iat": NOW_S - 60,
        "exp": NOW_S + 60,
    }
    return {claim: value for claim, value in (usual | changed).items() if value is not ...}


def own(**changed: Any) -> str:
    """A token signed with the hub's secret."""
    return signed(claims(**changed))


def foreign(key: Any = EC, algorithm: str = "ES256", kid: str | None = "ec", **changed: Any) -> str:
    """A token signed by an issuer."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**({"iss": ISSUER} | changed)), key, algorithm=algorithm, headers=headers)


def raw(header: object, body: object, signature: bytes = b"sig") -> str:
    """A token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed(body: object, *, header: Mapping[str, Any] | None = None, key: Any = SECRET, by: Any = None) -> str:
    """A token with a right signature that PyJWT would not make, of any body; HS256 with the secret if not said."""
    algorithm = by or jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    unsigned = raw(header or {"alg": "HS256"}, body).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(algorithm.sign(unsigned.encode(), key)).decode().rstrip("=")
    return f"{unsigned}.{signature}"


def doubled(again: str) -> str:
    """A token of the hub's own in which one claim stands twice; JSON keeps the last one."""
    body = json.dumps(claims())[:-1] + f",{again}}}"
    return jwt.api_jws.encode(body.encode(), SECRET, algorithm="HS256")


RS256 = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
ES256 = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)


def swapped(token: str, **changed: Any) -> str:
    """The token with other claims under the old signature."""
    header, _, signature = token.split(".")
    return ".".join([header, raw({}, claims(**changed)).split(".")[1], signature])


BAD = {
    "empty": "",
    "words": "let me in",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "no base64": "!!!.???.###",
    "not JSON": "YWJj.YWJj.YWJj",
    "line break at the end": own() + "\n",
    "too long": own(name="x" * TOKEN_CHARS_MAX),
    "nested too deep": raw({"alg": "HS256"}, {}).split(".")[0]
    + "."
    + base64.urlsafe_b64encode(b"[" * 4800).decode()
    + ".c2ln",
    "payload is a list": raw({"alg": "HS256"}, ["iss", "hub"]),
    "header is a list": raw(["HS256"], claims()),
    "alg none, unsigned": raw({"alg": "none"}, claims(), b""),
    "alg none, signed": raw({"alg": "none"}, claims()),
    "alg None": raw({"alg": "None"}, claims()),
    "alg a list": raw({"alg": ["HS256"]}, claims()),
    "alg missing": raw({"typ": "JWT"}, claims()),
    "HS384 with the secret": jwt.encode(claims(), SECRET + SECRET, algorithm="HS384"),
    "another secret": jwt.encode(claims(), SECRET[::-1], algorithm="HS256"),
    "no signature": own().rpartition(".")[0] + ".",
    "signature cut": own()[:-4],
    "claims swapped": swapped(own(), sub="bob", role="admin"),
    "critical header": signed(claims(), header={"alg": "HS256", "crit": ["exp"]}),
    "header about the payload's form": signed(claims(), header={"alg": "HS256", "b64": True}),
    "issuer says hub, signed RS256": jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "rsa"}),
    "public key as secret": signed(claims(iss=ISSUER), header={"alg": "HS256", "kid": "rsa"}, key=RSA_PEM),
    "secret for an issuer": jwt.encode(claims(iss=ISSUER), SECRET, algorithm="HS256"),
    "shared key of the key set": jwt.encode(claims(iss=ISSUER), SECRET, algorithm="HS256", headers={"kid": "shared"}),
    "unknown issuer": foreign(iss="https://evil.example.com/"),
    "issuer is a list": signed(claims(iss=[ISSUER]), header={"alg": "ES256", "kid": "ec"}, key=EC, by=ES256),
    "one issuer's key for another": foreign(iss=OTHER),
    "unknown kid": foreign(kid="gone"),
    "kid is a number": signed(claims(iss=ISSUER), header={"alg": "ES256", "kid": 7}, key=EC, by=ES256),
    "kid names another algorithm's key": foreign(kid="rsa"),
    "another key under this kid": foreign(EC_OTHER),
    "weak RSA key": signed(claims(iss=ISSUER), header={"alg": "RS256", "kid": "weak"}, key=RSA_WEAK, by=RS256),
    "key for encryption": foreign(EC_OTHER, kid="encrypting"),
    "RS512": foreign(RSA, "RS512", "rsa"),
    "PS256": foreign(RSA, "PS256", "rsa"),
    "organization of another issuer": foreign(EC_OTHER, iss=OTHER),
    "organization in another case": foreign(EC_OTHER, iss=OTHER, org="Elsewhere"),
    "organization a list": foreign(EC_OTHER, iss=OTHER, org=["elsewhere"]),
    "no organization": foreign(EC_OTHER, iss=OTHER, org=...),
    "audience of the hub where the issuer has another": foreign(EC_OTHER, iss=GRANTING, oid="o1", groups=["cc-agents"]),
    "without the claim that is the id": foreign(EC_OTHER, iss=GRANTING, aud="api://hub", groups=["cc-agents"]),
    "expired, and granted nothing": foreign(EC_OTHER, iss=GRANTING, aud="api://hub", exp=NOW_S - 1),
    "two claims of one name, the last one bad": doubled('"role":"root"'),
    "two audiences, the last one another's": doubled('"aud":"shop"'),
    "two expiries, the last one over": doubled('"exp":1'),
    "a token within a token": own(sub=own()),
    "a token as the claims": signed(own()),
    "kid a path": foreign(kid="../../dev/null"),
    "kid of another line": foreign(kid="ec\n"),
    "kid very long": foreign(kid="k" * 5000),
    "key in the header": jwt.encode(claims(iss=ISSUER), EC_OTHER, "ES256", headers={"jwk": jwk(EC_OTHER, "ec")}),
    "address of keys in the header": jwt.encode(claims(iss=ISSUER), EC_OTHER, "ES256", headers={"jku": OTHER}),
    "expired": own(exp=NOW_S - 1),
    "expires now": own(exp=NOW_MS / 1000),
    "exp missing": own(exp=...),
    "exp a text": own(exp=str(NOW_S + 60)),
    "exp a boolean": own(exp=True),
    "exp null": own(exp=None),
    "exp infinite": own(exp=float("inf")),
    "exp not a number": own(exp=float("nan")),
    "iat missing": own(iat=...),
    "iat in the future": own(iat=NOW_S + 3600),
    "iat a text": signed(claims(iat="yesterday")),
    "not yet valid": own(nbf=NOW_S + 3600),
    "nbf a text": own(nbf="now"),
    "iss missing": own(iss=...),
    "aud missing": own(aud=...),
    "aud of another": own(aud="shop"),
    "aud an object": own(aud={"hub": True}),
    "sub missing": own(sub=...),
    "sub empty": own(sub=""),
    "sub with braces": own(sub="{ana}"),
    "sub with a line break": own(sub="ana\n"),
    "sub too long": own(sub="a" * 65),
    "sub not ASCII": own(sub="añà"),
    "org missing": own(org=...),
    "org with a slash": own(org="acme/x"),
    "org a number": own(org=7),
    "role missing": own(role=...),
    "role unknown": own(role="root"),
    "role a list": own(role=["admin"]),
    "name a number": own(name=7),
    "name with control characters": own(name="Ana\u0000"),
    "name too long": own(name="x" * 201),
    "permissions a text": own(permissions="view"),
    "permissions with a number": own(permissions=["view", 1]),
    "queues a text": own(queues="*"),
    "queues not ids": own(queues=["a b"]),
    "queues null": own(queues=None),
    "divisions an object": own(divisions={"home": 1}),
    "conversation not an id": own(role="customer", conversation="../x"),
    "conversation null": own(role="customer", conversation=None),
    "jti a number": signed(claims(jti=7)),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
async def test_bad_tokens_are_refused(token: str) -> None:
    """A bad token is `unauthenticated`, and nothing of it stands in the message."""
    with pytest.raises(Refused) as refused:
        await authenticator().verify(token)
    assert refused.value.code == "unauthenticated"
    assert not refused.value.details
    for part in token.split("."):
        assert len(part) < 4 or part not in str(refused.value)


@pytest.mark.parametrize("token", [None, 7, b"a.b.c", ["a"]])
async def test_tokens_of_another_type_are_refused(token: Any) -> None:
    """What isn't a text at all is `unauthenticated`, too."""
    with pytest.raises(Refused, match="unauthenticated"):
        await authenticator().verify(token)


async def test_own_token() -> None:
    """A token of the hub's own gives the person with all that it states, times in milliseconds."""
    person = await authenticator().verify(own(jti="t1"))
    assert (person.user_id, person.name, person.org, person.role) == ("ana", "Ana Ortiz", "acme", "supervisor")
    assert person.permissions == {"view", "monitor"}
    assert person.sees("support", "anywhere")
    assert not person.sees("sales", "anywhere")
    assert (person.token_id, person.conversation) == ("t1", None)
    assert (person.issued_at, person.expires_at) == ((NOW_S - 60) * 1000, (NOW_S + 60) * 1000)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")])
async def test_issuer_tokens(key: Any, algorithm: str, kid: str) -> None:
    """Each of the three algorithms is taken with the issuer's key of that id, and with its only one without an id."""
    for named in (kid, None):
        person = await authenticator().verify(foreign(key, algorithm, named))
        assert person.user_id == "ana"


async def test_claims_that_may_be_left_out() -> None:
    """Name defaults to the id; permissions, queues and divisions to none."""
    person = await authenticator().verify(own(name=..., permissions=..., queues=..., divisions=...))
    assert person.name == "ana"
    assert not (person.permissions | person.queues | person.divisions)


async def test_unknown_permissions_grant_nothing() -> None:
    """A permission that the hub doesn't know is left out, not refused."""
    person = await authenticator().verify(own(permissions=["view", "dance"]))
    assert person.permissions == {"view"}


async def test_audiences() -> None:
    """The audience may be one of a list, and another purpose can ask for another one."""
    await authenticator().verify(own(aud=["shop", "hub"]))
    await authenticator().verify(own(aud="hub:ticket"), audience="hub:ticket")
    with pytest.raises(Refused):
        await authenticator().verify(own(), audience="hub:ticket")


async def test_issuer_clock_may_be_ahead() -> None:
    """A token issued half a minute in our future is taken."""
    await authenticator().verify(foreign(iat=NOW_S + 30))


async def test_without_a_secret_own_tokens_are_refused() -> None:
    """A hub that has only issuers takes no token that claims to be its own, however signed."""
    for secret in (SECRET, b"\0" * 32):
        with pytest.raises(Refused):
            await authenticator(secret=None).verify(jwt.encode(claims(), secret, algorithm="HS256"))
    await authenticator(secret=None).verify(foreign())


async def test_an_issuers_grants() -> None:
    """Where an issuer has grants, role and rights are theirs, whatever its tokens say; ids come from its own claim."""
    token = foreign(
        EC_OTHER, iss=GRANTING, aud="api://hub", oid="o1", groups=["all", "cc-agents"], role="admin", org="x"
    )
    person = await authenticator().verify(token)
    assert (person.user_id, person.org, person.role) == ("o1", "acme", "agent")
    assert person.queues == {"support"}
    assert not person.permissions | person.divisions


async def test_nothing_granted_is_not_permitted() -> None:
    """Whoever is known but in none of the groups is told so, with no word of the token."""
    with pytest.raises(Refused) as refused:
        await authenticator().verify(foreign(EC_OTHER, iss=GRANTING, aud="api://hub", oid="o1", groups=["cc-guests"]))
    assert refused.value.code == "not_permitted"
    assert "cc-guests" not in refused.value.message
    assert "o1" not in refused.value.message


async def test_an_issuer_that_keeps_to_its_organization() -> None:
    """An issuer that is limited to organizations is believed for those."""
    person = await authenticator().verify(foreign(EC_OTHER, iss=OTHER, org="elsewhere"))
    assert person.org == "elsewhere"


async def test_signed_claims_are_of_that_issuer() -> None:
    """A token is taken as an issuer's only where that issuer has signed it."""
    header, body = await authenticator().signed_claims(foreign(aud="console"), ISSUER)
    assert (header["alg"], body["aud"]) == ("ES256", "console")
    for token in (own(), foreign(EC_OTHER, iss=OTHER)):
        with pytest.raises(Refused, match="unauthenticated"):
            await authenticator().signed_claims(token, ISSUER)


async def test_issued_token_is_taken() -> None:
    """What `issue_token` makes is verified, with an id of its own and the exact time of issue."""
    token = issue_token(
        SECRET,
        sub="cus_7",
        name="Dana",
        org="acme",
        role="customer",
        ttl_ms=60_000,
        now_ms=NOW_MS,
        conversation="cnv_1",
    )
    person = await authenticator().verify(token)
    assert (person.user_id, person.conversation, person.issued_at) == ("cus_7", "cnv_1", NOW_MS)
    assert person.token_id
    assert 60_000 <= person.expires_at - NOW_MS < 61_000
    await refused(authenticator(now_ms=NOW_MS + 61_000), token)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": "a b"},
        {"role": "root"},
        {"role": "customer"},
        {"permissions": ["dance"]},
        {"queues": ["a b"]},
        {"ttl_ms": 0 - 5_000},
    ],
)
def test_a_token_that_would_be_refused_is_not_issued(wrong: dict[str, Any]) -> None:
    """`issue_token` refuses to make a token that no hub would take."""
    usual: dict[str, Any] = {"sub": "ana", "name": "Ana", "org": "acme", "role": "agent", "ttl_ms": 1, "now_ms": NOW_MS}
    with pytest.raises(ValueError, match=r"."):
        issue_token(SECRET, **(usual | wrong))


async def refused(checker: Authenticator, token: str) -> None:
    """The token is refused."""
    with pytest.raises(Refused, match="unauthenticated"):
        await checker.verify(token)
