"""
The web apps as files: pages, their assets, the demonstration's people, and customers without a name.

    GET /, /desk, /messenger     one page each, with a strict content security policy
    GET /assets/<file>           what `clients/web/build.mjs` made; never anything else
    GET /v1/personas             the people of the file that `HUB_PERSONAS` names; 404 without one
    POST /v1/guests              a token for a fresh conversation of its own; 404 where `guests_org` is empty

Files are read and compressed once, when the routes are made: a request touches no disk, and a path from outside is
looked up in a table and never joined to a folder.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.domain.errors import Refused
from hub.edge.answers import json_answer, refusal
from hub.edge.auth import issue_token
from hub.edge.parts import Parts
from hub.edge.proxies import network
from hub.edge.socket import allowed_origin
from hub.protocol.fields import OptionalLabel
from hub.service.ids import new_secret

DIST: Final = Path(__file__).resolve().parents[2] / "clients" / "web" / "dist"
PAGES: Final = {"/": "console.html", "/desk": "desk.html", "/messenger": "messenger.html"}
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
GZIP_BYTES_MIN: Final = 512
# Names carry no hash, so a browser asks each time and is mostly told that nothing has changed.
CACHE_CONTROL: Final = "no-cache"

GUEST_TTL_MS: Final = 24 * 3_600_000
GUEST_BODY_BYTES_MAX: Final = 4_096
GUESTS_PER_MINUTE: Final = 10
ADDRESSES_MAX: Final = 10_000
GUEST_NAME: Final = "Guest"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory, as it is and compressed (None: compression gains nothing)."""

    media_type: str
    content: bytes
    compressed: bytes | None
    etag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> StaticFile:
        """The file `name` with that content."""
        media_type = MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
        # Without a time inside, so that every node sends the same bytes.
        small = gzip.compress(content, 9, mtime=0) if len(content) >= GZIP_BYTES_MIN else None
        digest = hashlib.sha256(content).hexdigest()[:32]
        return cls(media_type, content, small, f'"{digest}"')

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """200 with the file, or 304 where the browser has it (RFC 9110, section 13.1.2)."""
        sent = {"cache-control": CACHE_CONTROL, "etag": self.etag, "vary": "accept-encoding", **headers}
        known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
        if self.etag in known:
            return Response(status_code=304, headers=sent)
        if self.compressed is not None and accepts_gzip(request.headers.get("accept-encoding", "")):
            return Response(self.compressed, media_type=self.media_type, headers={**sent, "content-encoding": "gzip"})
        return Response(self.content, media_type=self.media_type, headers=sent)


def accepts_gzip(header: str) -> bool:
    """True where an `Accept-Encoding` names gzip (or everything) with a weight above zero."""
    for one in header.lower().split(","):
        coding, *parameters = (part.strip() for part in one.split(";"))
        if coding in {"gzip", "*"}:
            return not any(part.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for part in parameters)
    return False


def read_files(folder: Path) -> dict[str, StaticFile]:
    """Every file of the built apps by its name; empty where nothing was built."""
    if not folder.is_dir():
        return {}
    return {path.name: StaticFile.of(path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


class Persona(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the demonstration's people, with a ready-made token."""

    id: str
    name: str
    role: str
    app: str
    note: str
    token: str


class Personas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that `HUB_PERSONAS` names."""

    personas: tuple[Persona, ...]


class GuestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer without an account says of themselves."""

    name: OptionalLabel | None = None


class AddressLimit:
    """
    A token bucket per network address: `per_minute` at once, and as many again each minute.

    The table is bounded; the address that was silent longest is forgotten first. `now` is in seconds, rising.
    """

    def __init__(self, per_minute: int = GUESTS_PER_MINUTE, addresses_max: int = ADDRESSES_MAX) -> None:
        self._per_minute = per_minute
        self._addresses_max = addresses_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> int:
        """0 where this address may, else the milliseconds until it may."""
        tokens, at = self._buckets.pop(address, (float(self._per_minute), now))
        tokens = min(self._per_minute, tokens + (now - at) * self._per_minute / 60)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._addresses_max:
            self._buckets.popitem(last=False)
        return 0 if allowed else int((1 - tokens) * 60_000 / self._per_minute) + 1


class Pages:
    """The routes of this module over a running hub's parts."""

    def __init__(self, parts: Parts, *, folder: Path = DIST, personas_file: str | None = None) -> None:
        self.parts = parts
        self.files = read_files(folder)
        self.personas_file = personas_file
        self.guest_limit = AddressLimit()

    def page(self, name: str) -> Handler:
        """The handler of one page."""

        async def handler(request: Request) -> Response:
            file = self.files.get(name)
            return _not_found(request) if file is None else file.response(request, PAGE_HEADERS)

        return handler

    async def asset(self, request: Request) -> Response:
        """`GET /assets/<file>`: open to other origins, since desks and shops embed parts of it."""
        file = self.files.get(request.path_params["file"])
        if file is None:
            return _not_found(request)
        shared = {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
        return file.response(request, {**PAGE_HEADERS, **shared})

    async def personas(self, request: Request) -> Response:
        """`GET /v1/personas`: read each time, since the demonstration renews its tokens."""
        if self.personas_file is None:
            return _not_found(request)
        try:
            content = await asyncio.to_thread(Path(self.personas_file).read_bytes)
            known = msgspec.json.decode(content, type=Personas)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _not_found(request)
        return json_answer(msgspec.to_builtins(known))

    async def guests(self, request: Request) -> Response:
        """`POST /v1/guests`: an anonymous customer's token, bound to a conversation that is only theirs."""
        origin = request.headers.get("origin")
        settings = self.parts.settings
        org = settings.guests_org
        if not org or settings.token_secret is None:
            return _not_found(request)
        if origin is not None and not allowed_origin(origin, request.headers.get("host", ""), settings.origins):
            return refusal(Refused("not_permitted", "This Origin may not ask."))
        cors = {} if origin is None else {"access-control-allow-origin": origin, "vary": "origin"}
        if request.method == "OPTIONS":
            allowed = {"access-control-allow-methods": "POST", "access-control-allow-headers": "content-type"}
            return Response(status_code=204, headers={**cors, **allowed, "access-control-max-age": "600"})
        try:
            return json_answer(await self._guest(request, org, settings.token_secret), headers=cors)
        except Refused as refused:
            return refusal(refused, cors)

    async def _guest(self, request: Request, org: str, secret: bytes) -> dict[str, object]:
        wanted = await _guest_request(request)
        address = request.client.host if request.client is not None else ""
        retry_ms = self.guest_limit.take(network(address), asyncio.get_running_loop().time())
        if retry_ms:
            message = "Too many conversations from this address; wait a moment."
            raise Refused("rate_limited", message, {"retry_ms": retry_ms})
        name = " ".join((wanted.name or "").split())
        now_ms = self.parts.node.now_ms()
        conversation_id = self.parts.ids.new("cnv", org, new_secret())
        try:
            token = issue_token(
                secret,
                sub="gst_" + new_secret()[:24],
                name=name if name and name.isprintable() else GUEST_NAME,
                org=org,
                role="customer",
                ttl_ms=GUEST_TTL_MS,
                now_ms=now_ms,
                conversation=conversation_id,
            )
        except ValueError as error:
            raise Refused("schema_invalid", f"That name can't be used: {error}", {"path": "name"}) from None
        return {"token": token, "conversation_id": conversation_id, "expires_at": now_ms + GUEST_TTL_MS}


async def _guest_request(request: Request) -> GuestRequest:
    """The body, which may be empty. Raises Refused `too_large`, `schema_invalid`."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > GUEST_BODY_BYTES_MAX:
            details = {"bytes_max": GUEST_BODY_BYTES_MAX}
            raise Refused("too_large", f"A body has at most {GUEST_BODY_BYTES_MAX} bytes.", details)
    try:
        return msgspec.json.decode(body or b"{}", type=GuestRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused("schema_invalid", 'Expected {"name": "..."} or nothing.', {"path": "$"}) from None


def _not_found(request: Request) -> Response:
    refused = Refused("schema_invalid", "There is no such route.", {"path": request.url.path[:256]})
    return refusal(refused, status=404)


def page_routes(parts: Parts) -> list[Route]:
    """The routes of the web apps; the files are read here, once."""
    pages = Pages(parts, personas_file=os.environ.get("HUB_PERSONAS") or None)
    return [
        *(Route(path, pages.page(name), methods=["GET"]) for path, name in PAGES.items()),
        Route("/favicon.ico", pages.page("icon.svg"), methods=["GET"]),  # browsers ask for it beside any document
        Route("/assets/{file}", pages.asset, methods=["GET"]),
        Route("/v1/personas", pages.personas, methods=["GET"]),
        Route("/v1/guests", pages.guests, methods=["POST", "OPTIONS"]),
    ]
