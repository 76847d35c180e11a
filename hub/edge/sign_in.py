"""
Signing in with the identity provider, in a browser; only where `[sign_in]` is configured.

    GET /sign-in?to=console|desk     begins: remembers state, nonce and verifier once, sends the browser to the provider
    GET /sign-in/callback            the browser is back: checks, a session, on to its page
    GET /v1/session                  who has signed in with this browser
    POST /v1/sign-out                ends the session, closes its sockets; where to end the provider's own

Where a browser is sent on to is one of `PAGES` and never anything that came with a request. What goes wrong in front of a
person's eyes is a page with a sentence and a code; the provider's own words are not repeated.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.answers import json_answer, refusal, refusal_headers
from hub.edge.browser import SESSION_COOKIE, check_own_page, cookie_name, signed_in
from hub.edge.openid import CALLBACK, CODE_CHARS_MAX, OpenId, SignInFailed, error_word
from hub.edge.pages import PAGE_HEADERS, AddressLimit
from hub.edge.parts import Parts
from hub.edge.proxies import network
from hub.protocol.close import HTTP_STATUS

log = logging.getLogger(__name__)

PAGES: Final = {"console": "/", "desk": "/desk"}
ROLE_PAGES: Final = {"supervisor": "console", "admin": "console", "agent": "desk"}
STATE_COOKIE: Final = "hub_sign_in"
ADDRESSES_MAX: Final = 10_000
NO_STORE: Final = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
Handler = Callable[[Request], Awaitable[Response]]


class Begun(msgspec.Struct, frozen=True):
    """What a sign-in that is under way must come back with."""

    nonce: str
    verifier: str
    to: str


class SignIn:
    """The routes of this module over a running hub's parts."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings.sign_in
        assert settings is not None
        assert parts.web is not None
        self.parts = parts
        self.settings = settings
        self.web = parts.web
        self.openid = OpenId(parts.settings, parts.authenticator)
        self.limit = AddressLimit(parts.settings.sign_ins_per_minute, ADDRESSES_MAX)

    async def begin(self, request: Request) -> Response:
        """`GET /sign-in`"""
        to = request.query_params.get("to", "console")
        if to not in PAGES:
            raise SignInFailed("schema_invalid", f"One can sign in to {' or '.join(PAGES)} only.")
        address = network(request.client.host) if request.client is not None else ""
        if retry_ms := self.limit.take(address, asyncio.get_running_loop().time()):
            raise Refused("rate_limited", "Too many sign-ins from this network; wait a moment.", {"retry_ms": retry_ms})
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        location = await self.openid.request(state=state, nonce=nonce, verifier=verifier)
        kept = msgspec.json.encode(Begun(nonce, verifier, to))
        await self.web.kept.begin(state, kept, self.parts.settings.sign_in_ms)
        answer = RedirectResponse(location, 303, NO_STORE)
        # Lax: the provider's page sends the browser back here, and the cookie must come along.
        self._set(answer, STATE_COOKIE, state, self.parts.settings.sign_in_ms, "lax")
        return answer

    async def callback(self, request: Request) -> Response:
        """`GET /sign-in/callback`"""
        begun = await self._begun(request)
        asked = request.query_params
        await self.openid.check_answer(asked.get("iss"))
        if "error" in asked:
            log.warning("sign-in refused by the provider: %s", error_word(asked["error"]))
            raise SignInFailed("provider_refused", "The identity provider didn't sign you in.", 401)
        code = asked.get("code", "")
        if not 1 <= len(code) <= CODE_CHARS_MAX:
            raise SignInFailed("schema_invalid", "The answer of the identity provider has no code.")
        person = await self.openid.person(code=code, nonce=begun.nonce, verifier=begun.verifier)
        page = ROLE_PAGES.get(person.role)
        if page is None:
            raise SignInFailed("not_permitted", f"There is no page for the role {person.role}.", 403)
        answer = RedirectResponse(PAGES[page], 303, NO_STORE)
        self._set(answer, SESSION_COOKIE, await self.web.open(person), self.parts.settings.signed_in_ms, "strict")
        self._drop(answer, STATE_COOKIE)
        return answer

    async def _begun(self, request: Request) -> Begun:
        """The sign-in that this browser has begun, once: its state is in its cookie, in the answer and in the store."""
        states = request.query_params.getlist("state")
        own = request.cookies.get(cookie_name(self.settings, STATE_COOKIE), "")
        if len(states) != 1 or not own or not hmac.compare_digest(states[0].encode(), own.encode()):
            raise SignInFailed("wrong_state", "This isn't the answer to a sign-in of this browser; sign in again.")
        kept = await self.web.kept.finish(own)
        if kept is None:
            raise SignInFailed("sign_in_over", "This sign-in took too long, or has been used; sign in again.")
        return msgspec.json.decode(kept, type=Begun)

    async def _whoever(self, request: Request) -> Person | None:
        """Who has signed in with this browser, None where nobody has or they were revoked. Refuses another's page."""
        check_own_page(self.parts, request)
        try:
            return await signed_in(self.parts, request)
        except Refused as refused:
            if refused.code != "unauthenticated":
                raise
            return None

    async def session(self, request: Request) -> Response:
        """`GET /v1/session`"""
        person = await self._whoever(request)
        if person is None:
            return json_answer({"user": None})
        user = {"id": person.user_id, "name": person.name}
        return json_answer(
            {"user": user, "role": person.role, "session": person.token_id, "expires_at": person.expires_at}
        )

    async def sign_out(self, request: Request) -> Response:
        """`POST /v1/sign-out`"""
        person = await self._whoever(request)
        if person is not None:
            await self.web.end(person)
        answer = json_answer({"redirect": await self.openid.end_address() if person is not None else None})
        self._drop(answer, SESSION_COOKIE)
        return answer

    def _set(self, answer: Response, name: str, value: str, age_ms: int, same_site: str) -> None:
        named, age = cookie_name(self.settings, name), max(1, age_ms // 1000)
        secure = "; Secure" if self.settings.secure else ""
        cookie = f"{named}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite={same_site.capitalize()}{secure}"
        answer.headers.append("set-cookie", cookie)

    def _drop(self, answer: Response, name: str) -> None:
        named, secure = cookie_name(self.settings, name), "; Secure" if self.settings.secure else ""
        answer.headers.append("set-cookie", f"{named}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{secure}")


def _shown(handler: Handler) -> Handler:
    """For routes that people see: what goes wrong is a page."""

    async def shown(request: Request) -> Response:
        try:
            return await handler(request)
        except SignInFailed as failed:
            log.warning("sign-in failed: %s", failed.code)
            return _page(failed)
        except Refused as refused:
            return _page(SignInFailed(refused.code, refused.message, HTTP_STATUS[refused.code]), refused)

    return shown


def _page(failed: SignInFailed, refused: Refused | None = None) -> Response:
    message, code = html.escape(failed.message), html.escape(failed.code)
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Not signed in</title><link rel="icon" type="image/svg+xml" href="/assets/icon.svg">'
        '<link rel="stylesheet" href="/assets/console.css"><main class="signin"><div class="signin-card">'
        f'<h1>Not signed in</h1><p>{message}</p><p class="muted"><code>{code}</code></p>'
        '<a class="button primary wide" href="/">Back to the start</a></div></main></html>'
    )
    headers = {**PAGE_HEADERS, **NO_STORE, **refusal_headers(failed.status, refused)}
    return Response(body, failed.status, media_type="text/html", headers=headers)


def _guarded(handler: Handler) -> Handler:
    """For routes that programs read: what goes wrong has the protocol's shape."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            return refusal(refused, NO_STORE)

    return guarded


def sign_in_routes(parts: Parts) -> list[Route]:
    """The routes of this module; none where nobody signs in here."""
    if parts.settings.sign_in is None:
        return []
    routes = SignIn(parts)
    return [
        Route("/sign-in", _shown(routes.begin), methods=["GET"]),
        Route(CALLBACK, _shown(routes.callback), methods=["GET"]),
        Route("/v1/session", _guarded(routes.session), methods=["GET"]),
        Route("/v1/sign-out", _guarded(routes.sign_out), methods=["POST"]),
    ]
