"""The hub as a relying party, in front of a provider that answers as it likes."""

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hub.domain.claims import IssuerRules
from hub.edge import openid
from hub.edge.auth import Authenticator
from hub.edge.openid import OpenId, SignInFailed, error_word, require_extra
from hub.settings import IssuerSettings, Settings, SettingsError, SignInSettings
from tests.support.openid_provider import CLIENT, CLIENT_SECRET, Provider

PUBLIC = "https://hub.example.com"
NONCE, VERIFIER = "n" * 43, "v" * 43
RIGHTS = {"role": "supervisor", "permissions": ["view"]}


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of its own for each test."""
    with Provider() as made:
        yield made


def party(provider: Provider, **changed: Any) -> OpenId:
    """A hub that people sign in to with that provider."""
    usual = SignInSettings(
        issuer=provider.issuer,
        client_id=CLIENT,
        public_url=PUBLIC,
        discovery_url=f"{provider.issuer}/.well-known/openid-configuration",
        client_secret=CLIENT_SECRET.encode(),
    )
    issuer = IssuerSettings(provider.issuer, jwks_url=f"{provider.issuer}/keys", rules=IssuerRules("acme"))
    settings = Settings(issuers=(issuer,), sign_in=dataclasses.replace(usual, **changed))
    return OpenId(settings, Authenticator(settings))


async def begun(hub: OpenId) -> str:
    """The address of a sign-in."""
    return await hub.request(state="s" * 43, nonce=NONCE, verifier=VERIFIER)


async def failed(work: Any) -> str:
    """The code of a failure."""
    with pytest.raises(SignInFailed) as found:
        await work
    return found.value.code


async def test_the_whole_way(provider: Provider) -> None:
    """A request with PKCE, a code exchanged for a token, a person with what the issuer's rules give."""
    hub = party(provider)
    code = provider.code(await begun(hub), **RIGHTS)
    person = await hub.person(code=code, nonce=NONCE, verifier=VERIFIER)
    assert (person.user_id, person.org, person.role) == ("ana", "acme", "supervisor")
    assert person.permissions == {"view"}


@pytest.mark.parametrize(
    ("methods", "secret", "shown"),
    [
        (None, CLIENT_SECRET, "basic"),
        (["client_secret_post", "client_secret_basic"], CLIENT_SECRET, "basic"),
        (["client_secret_post"], CLIENT_SECRET, "post"),
        (["client_secret_post"], None, "nothing"),
        (None, None, "nothing"),
    ],
)
async def test_how_the_client_shows_itself(
    provider: Provider, methods: list[str] | None, secret: str | None, shown: str
) -> None:
    """By what the provider takes, with a header where it can be; a public client by its name and PKCE alone."""
    provider.metadata = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
    provider.client_auth = shown
    hub = party(provider, client_secret=None if secret is None else secret.encode())
    code = provider.code(await begun(hub), **RIGHTS)
    assert (await hub.person(code=code, nonce=NONCE, verifier=VERIFIER)).user_id == "ana"


async def test_a_verifier_of_another_sign_in(provider: Provider) -> None:
    """A code that was asked for with another verifier is refused by the provider."""
    hub = party(provider)
    code = provider.code(await begun(hub), **RIGHTS)
    assert await failed(hub.person(code=code, nonce=NONCE, verifier="w" * 43)) == "provider_refused"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://else.example"},
        {"issuer": None},
        {"token_endpoint": 7},
        {"authorization_endpoint": "ftp://else.example/"},
        {"token_endpoint": "javascript:alert(1)"},
        {"end_session_endpoint": "file:///etc/passwd"},
    ],
)
async def test_metadata_that_must_not_be_believed(provider: Provider, metadata: dict[str, Any]) -> None:
    """Metadata of another issuer, of a wrong form, or that leads to other schemes ends the sign-in."""
    provider.metadata = metadata
    assert await failed(begun(party(provider))) == "provider_unavailable"


@pytest.mark.parametrize("page", ["/nothing", "/endless"])
async def test_no_metadata(provider: Provider, page: str) -> None:
    """A document that isn't there, or has no end, ends the sign-in."""
    hub = party(provider, discovery_url=provider.issuer + page)
    assert await failed(begun(hub)) in ("provider_refused", "provider_unavailable")


async def test_metadata_outlives_an_outage(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was discovered once is used while the provider can't be asked again."""
    hub = party(provider)
    before = await begun(hub)
    provider.down = True
    monkeypatch.setattr(openid, "DISCOVERED_S", -1.0)
    assert await begun(hub) == before
    assert await failed(hub.person(code="x", nonce=NONCE, verifier=VERIFIER)) == "provider_unavailable"
    assert await failed(begun(party(provider))) == "provider_unavailable"


async def test_whose_answer_it_is(provider: Provider) -> None:
    """An answer must name the issuer where the provider says that its answers do (RFC 9207), and no other one ever."""
    hub = party(provider)
    await hub.check_answer(None)
    await hub.check_answer(provider.issuer)
    assert await failed(hub.check_answer("https://else.example")) == "wrong_issuer"
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    strict = party(provider)
    await strict.check_answer(provider.issuer)
    assert await failed(strict.check_answer(None)) == "wrong_issuer"
    assert await failed(strict.check_answer("")) == "wrong_issuer"


async def test_the_providers_own_sign_out(provider: Provider) -> None:
    """The address says who asks and where to go back to; without such a page, or an answer, there is none."""
    provider.metadata = {"end_session_endpoint": f"{provider.issuer}/end?tenant=1"}
    address = await party(provider).end_address()
    assert address is not None
    assert parse_qs(urlsplit(address).query) == {
        "tenant": ["1"],
        "client_id": [CLIENT],
        "post_logout_redirect_uri": [f"{PUBLIC}/"],
    }
    provider.metadata = {"end_session_endpoint": None}
    assert await party(provider).end_address() is None
    provider.down = True
    assert await party(provider).end_address() is None


def test_what_may_stand_in_a_log() -> None:
    """A provider's word for an error is logged where it has the form of one."""
    assert error_word("access_denied") == "access_denied"
    assert error_word("<script>") == error_word("a" * 41) == error_word("") == "of another form"


def test_without_the_extra(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is to sign people in and can't says at start what to install; any other hub needs nothing."""
    issuer = IssuerSettings(provider.issuer, jwks_url=f"{provider.issuer}/keys", rules=IssuerRules("acme"))
    sign_in = SignInSettings(provider.issuer, CLIENT, PUBLIC, provider.issuer)
    settings = Settings(issuers=(issuer,), sign_in=sign_in)
    require_extra(settings)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_extra(Settings())
    with pytest.raises(SettingsError, match=r"authlib and httpx.*supervision-hub\[sign-in\]"):
        require_extra(settings)
