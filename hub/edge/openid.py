"""
The hub as a relying party of OpenID Connect: authorization code with PKCE.

    OpenId.request(...)     the address at the provider that a browser is sent to
    OpenId.person(...)      who comes back with a code: exchanged for an ID token, which is checked
    OpenId.end_address()    the provider's sign-out (RP-Initiated Logout 1.0), where it has one

Addresses, token requests and the rules of ID tokens are Authlib's, what travels is httpx's; both are the extra `sign-in`.
Signatures and what claims mean are checked as for every token of that issuer (`edge.auth`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import time
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.auth import CLOCK_SKEW_MS, Authenticator, issuers_person, now_ms
from hub.settings import Settings, SettingsError, SignInSettings

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 262_144
DISCOVERED_S: Final = 600.0
CODE_CHARS_MAX: Final = 4_096
CALLBACK: Final = "/sign-in/callback"
_ERROR = re.compile(r"[a-z_]{1,40}")


class SignInFailed(Exception):
    """
    A sign-in that came to nothing: a stable code, a sentence for the person, the HTTP status.

    Nothing that the provider or the browser sent is in it.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Discovered(msgspec.Struct, frozen=True):
    """What we need of a provider's metadata (Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True):
    """What we need of the token endpoint's answer (Core 1.0, section 3.1.3.3)."""

    id_token: str


def require_extra(settings: Settings) -> None:
    """Raise SettingsError where sign-in is configured, but what it needs isn't installed."""
    missing = [name for name in ("authlib", "httpx") if importlib.util.find_spec(name) is None]
    if settings.sign_in is not None and missing:
        raise SettingsError(
            f"{settings.source('sign_in')}: signing in needs {' and '.join(missing)}; "
            "install with: pip install 'supervision-hub[sign-in]'"
        )


class _Tools:
    """
    What is only installed, and only loaded, where people sign in here.

    Loaded when the hub starts: a second's work in the middle of things would hold up everybody. So are the authorities
    that vouch for a provider's address (`SSL_CERT_FILE`, else certifi's).
    """

    def __init__(self) -> None:
        import httpx
        from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
        from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
            prepare_grant_uri,
            prepare_token_request,
        )
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
        from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]

        self.httpx = httpx
        self.tls = httpx.create_ssl_context()
        self.client_auth: Any = ClientAuth
        self.grant_address: Any = prepare_grant_uri
        self.token_request: Any = prepare_token_request
        self.challenge: Any = create_s256_code_challenge
        self.id_token: Any = CodeIDToken


class OpenId:
    """See the module. Every method may raise `SignInFailed`; each waits for the provider for a bounded time."""

    def __init__(self, settings: Settings, authenticator: Authenticator) -> None:
        assert settings.sign_in is not None
        self._settings: SignInSettings = settings.sign_in
        self._issuer = next(one for one in settings.issuers if one.issuer == self._settings.issuer)
        self._authenticator = authenticator
        self._tools = _Tools()
        self._discovered: Discovered | None = None
        self._discovered_at = 0.0

    @property
    def callback(self) -> str:
        """Where the provider sends browsers back to; must be registered there."""
        return self._settings.public_url + CALLBACK

    async def reach(self) -> None:
        """Ask for the provider's metadata and check it, unless that was done lately."""
        await self._provider()

    async def request(self, *, state: str, nonce: str, verifier: str) -> str:
        """The address of the provider's page for one sign-in (Core 1.0, section 3.1.2.1; RFC 7636, section 4.3)."""
        provider = await self._provider()
        address: str = self._tools.grant_address(
            provider.authorization_endpoint,
            self._settings.client_id,
            "code",
            redirect_uri=self.callback,
            scope=list(self._settings.scopes),
            state=state,
            nonce=nonce,
            code_challenge=self._tools.challenge(verifier),
            code_challenge_method="S256",
        )
        return address

    async def check_answer(self, issuer: str | None) -> None:
        """Whether an answer that names this issuer (RFC 9207) is our provider's; None: it names none."""
        provider = await self._provider()
        named = issuer is not None or provider.authorization_response_iss_parameter_supported
        if named and issuer != self._settings.issuer:
            raise SignInFailed("wrong_issuer", "The answer came from another identity provider.")

    async def person(self, *, code: str, nonce: str, verifier: str) -> Person:
        """Who the provider says has signed in (Core 1.0, sections 3.1.3.1 to 3.1.3.7)."""
        token = await self._exchange(code, verifier)
        try:
            header, claims = await self._authenticator.signed_claims(token, self._settings.issuer)
            self._check_id_token(header, claims, nonce)
            return issuers_person(claims, self._issuer, self._settings.client_id, now_ms())
        except Refused as refused:
            status = 403 if refused.code == "not_permitted" else 401
            raise SignInFailed(refused.code, refused.message, status) from None

    async def end_address(self) -> str | None:
        """Where a browser ends its session at the provider; None where it has no such page, or can't be asked."""
        try:
            provider = await self._provider()
        except SignInFailed:
            return None
        if provider.end_session_endpoint is None:
            return None
        asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": f"{self._settings.public_url}/"}
        between = "&" if urlsplit(provider.end_session_endpoint).query else "?"
        return provider.end_session_endpoint + between + urlencode(asked)

    def _check_id_token(self, header: Any, claims: Any, nonce: str) -> None:
        """
        The rules that are an ID token's own: nonce, authorized party.

        `at_hash` isn't looked at: with codes it is optional, and the access token isn't used for anything.
        """
        party = {"nonce": nonce, "client_id": self._settings.client_id}
        checked = self._tools.id_token(dict(claims), dict(header), {}, party)
        try:
            checked.validate(now=now_ms() // 1000, leeway=CLOCK_SKEW_MS // 1000)
        except Exception:  # of joserfc's, or of a claim that isn't of the type it expects
            raise Refused("unauthenticated", "The identity provider's token was refused.") from None

    async def _exchange(self, code: str, verifier: str) -> str:
        """The ID token for a code."""
        settings, provider = self._settings, await self._provider()
        fields = {"code": code, "redirect_uri": self.callback, "code_verifier": verifier}
        body = self._tools.token_request("authorization_code", "", **fields)
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        secret = settings.client_secret.decode() if settings.client_secret is not None else ""
        name, method = settings.client_id, _auth_method(settings, provider)
        if method == "client_secret_basic":  # RFC 6749, section 2.3.1: encoded as in a form, which Authlib leaves to us
            name, secret = quote_plus(name), quote_plus(secret)
        auth = self._tools.client_auth(name, secret, method)
        url, headers, body = auth.prepare("POST", provider.token_endpoint, headers, body)
        content = await self._send("POST", url, headers, body.encode())
        try:
            return msgspec.json.decode(content, type=Tokens).id_token
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise SignInFailed(
                "provider_refused", "The identity provider gave no token for this sign-in.", 502
            ) from None

    async def _provider(self) -> Discovered:
        """The provider's metadata, ten minutes old at most; older where it can't be asked."""
        if self._discovered is None or time.monotonic() - self._discovered_at > DISCOVERED_S:
            try:
                content = await self._send("GET", self._settings.discovery_url, {"accept": "application/json"})
                self._discovered, self._discovered_at = _discovered(content, self._settings), time.monotonic()
            except SignInFailed:
                if self._discovered is None:
                    raise
        return self._discovered

    async def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
        """One request to the provider; no redirects, and no more than so much of an answer in so much time."""
        httpx = self._tools.httpx
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx.AsyncClient(timeout=TIMEOUT_S, verify=self._tools.tls) as client,
                client.stream(method, url, headers=headers, content=body) as answer,
            ):
                content = b""
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > ANSWER_BYTES_MAX:
                        raise SignInFailed("provider_unavailable", "The identity provider's answer is too long.", 503)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            log.warning("the identity provider can't be asked: %s", type(error).__name__)
            message = "The identity provider can't be reached; try again in a moment."
            raise SignInFailed("provider_unavailable", message, 503) from None
        if answer.status_code >= 500:
            raise SignInFailed(
                "provider_unavailable", "The identity provider has a problem; try again in a moment.", 503
            )
        if answer.status_code != 200:
            log.warning("the identity provider refused: %d %s", answer.status_code, _error_of(content))
            raise SignInFailed("provider_refused", "The identity provider refused this sign-in; try again.")
        return content


def _discovered(content: bytes, settings: SignInSettings) -> Discovered:
    """Metadata that may be believed: of the issuer that is configured, and not to less safe addresses than its own."""
    try:
        found = msgspec.json.decode(content, type=Discovered)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    scheme = f"{urlsplit(settings.discovery_url).scheme}://"
    if found is not None and found.issuer == settings.issuer:
        addresses = [found.authorization_endpoint, found.token_endpoint, found.end_session_endpoint or scheme]
        if all(address.startswith(("https://", scheme)) for address in addresses):
            return found
    log.error("the document at %s isn't the metadata of issuer %s", settings.discovery_url, settings.issuer)
    raise SignInFailed("provider_unavailable", "The identity provider isn't configured as it ought to be.", 503)


def _auth_method(settings: SignInSettings, provider: Discovered) -> str:
    """How the hub shows its client secret (RFC 6749, section 2.3.1); a public client has none."""
    if settings.client_secret is None:
        return "none"
    known = provider.token_endpoint_auth_methods_supported
    return (
        "client_secret_post"
        if "client_secret_basic" not in known and "client_secret_post" in known
        else "client_secret_basic"
    )


class _Error(msgspec.Struct, frozen=True):
    """What of a refusal may be looked at (RFC 6749, section 5.2)."""

    error: str


def _error_of(content: bytes) -> str:
    try:
        return error_word(msgspec.json.decode(content, type=_Error).error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "without a reason"


def error_word(error: str) -> str:
    """A provider's `error` as it may stand in a log."""
    return error if _ERROR.fullmatch(error) else "of another form"
