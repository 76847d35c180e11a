"""
What a browser may do with the cookie of its session: only what one of our own pages asked for.

Browsers add cookies to whatever any page makes them send. So a request that is known by its cookie alone must also have
been made by a page of the hub's own origin (`Origin`, `Sec-Fetch-Site`), with a header that no foreign page can add
without asking first, which is never allowed (the Fetch standard's CORS protocol). A bearer token needs none of it.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.edge.parts import Parts
from hub.settings import SignInSettings

PAGE_HEADER: Final = "x-hub-page"
SESSION_COOKIE: Final = "hub_session"


def bearer(request: Request) -> str:
    """The bearer token of a request, empty where there is none (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def cookie_name(settings: SignInSettings, name: str) -> str:
    """With https a name that only this very host can set, for itself alone (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{name}" if settings.secure else name


def session_secret(parts: Parts, request: Request) -> str:
    """The secret that a browser has shown, empty where it has none."""
    settings = parts.settings.sign_in
    return "" if settings is None else request.cookies.get(cookie_name(settings, SESSION_COOKIE), "")


async def identify(parts: Parts, request: Request) -> Person:
    """
    Who asks: by a bearer token, else by a browser's session.

    Raises:
        Refused: `unauthenticated`; `not_permitted` for a cookie that no page of ours has sent; `store_unavailable`.
    """
    token, secret = bearer(request), session_secret(parts, request)
    if token or not secret:
        return await parts.identify_bearer(token)
    check_own_page(parts, request)
    person = await signed_in(parts, request)
    if person is None:
        raise Refused("unauthenticated", "The session has ended: sign in again.")
    return person


async def signed_in(parts: Parts, request: Request) -> Person | None:
    """Who has signed in with this browser. Raises Refused `unauthenticated` where they were revoked."""
    assert parts.web is not None
    person = await parts.web.person(session_secret(parts, request))
    return None if person is None else parts.unrevoked(person)


def check_own_page(parts: Parts, request: Request) -> None:
    """Raise Refused `not_permitted` unless a page of the hub's own origin has made this request; see the module."""
    settings = parts.settings.sign_in
    assert settings is not None
    headers = request.headers
    origins = headers.getlist("origin")
    said = not origins and request.method == "GET"  # a browser says none where a page asks its own origin by GET
    if not said and origins != [settings.public_url]:
        raise Refused("not_permitted", "With a cookie only the hub's own pages may ask: wrong Origin.")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused("not_permitted", "With a cookie only the hub's own pages may ask: wrong Sec-Fetch-Site.")
    if headers.getlist(PAGE_HEADER) != ["1"]:
        raise Refused("not_permitted", f"With a cookie only the hub's own pages may ask: {PAGE_HEADER}: 1 is missing.")
