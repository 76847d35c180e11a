"""
Files over HTTP:

    GET  /v1/files                    what may be uploaded: sizes and types
    POST /v1/files?conversation_id=…  the body is the file, `x-file-name` its percent-encoded name, `content-type` its type
    POST /v1/files/{id}/link          an address that opens the file for a minute, for a browser to follow
    GET  /v1/files/{id}/{name}        the file, with a bearer token or by such an address

A raw body and not a form: it needs no parser, and can be refused before it is read. What is sent out is inert: a download of
a type from the allowlist that no browser looks into, in a sandbox of its own, that no other origin can embed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub.domain.errors import Refused
from hub.domain.files import TYPES, checked_name, checked_type, refused
from hub.domain.grants import Person
from hub.edge.answers import json_answer, refusal
from hub.edge.parts import Parts
from hub.edge.socket import allowed_origin
from hub.service.file_links import disposition, file_url
from hub.store.intake import Intake, too_large

ROLES: Final = frozenset({"supervisor", "admin", "agent", "customer"})
DRAIN_S: Final = 2.0
NAME_HEADER_CHARS_MAX: Final = 2_048
FILE_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "private, no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class FileRoutes:
    """The routes of this module over a running hub's parts."""

    def __init__(self, parts: Parts, person: Callable[[Request], Awaitable[Person]]) -> None:
        settings = parts.settings
        self.parts = parts
        self._person = person
        self.files = parts.files
        self.intake: Intake = parts.intake
        self._uploading: Counter[tuple[str, str]] = Counter()
        self._all_max = settings.file_uploads_max
        self._each_max = settings.file_uploads_per_user

    async def limits(self, request: Request) -> Response:
        """`GET /v1/files`: so that a page can say what won't be taken before it is sent."""
        await self._person(request)
        types = self.parts.settings.files.types
        return json_answer(
            {
                "bytes_max": self.intake.bytes_max,
                "files_per_conversation": self.parts.settings.files_per_conversation,
                "types": {mime: [f".{one}" for one in TYPES[mime].endings] for mime in types},
            }
        )

    async def upload(self, request: Request) -> Response:
        """`POST /v1/files`"""
        try:
            return await self._upload(request)
        except Refused:
            await _throw_away(request, self.intake.bytes_max)
            raise

    async def _upload(self, request: Request) -> Response:
        person = await self._person(request)
        if person.role not in ROLES:
            raise Refused("not_permitted", f"This isn't for the role {person.role}.")
        conversation_id = request.query_params.get("conversation_id") or person.conversation or ""
        self._check_length(request)
        name = checked_name(_name_of(request))
        mime = checked_type(name, request.headers.get("content-type", ""), self.parts.settings.files.types)
        with self._turn(person):
            await self.files.admit(person, conversation_id)
            async with self.intake.receive(_body(request), mime) as (source, size):
                meta = await self.files.keep(person, conversation_id, name=name, mime=mime, source=source, size=size)
        said = {
            "file_id": meta.file_id,
            "url": file_url(meta),
            "name": meta.name,
            "mime": meta.mime,
            "bytes": meta.bytes,
        }
        return json_answer(said)

    def _check_length(self, request: Request) -> None:
        """What says itself to be too large isn't waited for."""
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.intake.bytes_max:
            raise too_large(self.intake.bytes_max)

    @contextlib.contextmanager
    def _turn(self, person: Person) -> Iterator[None]:
        """One of the uploads that a node, and a person, may have at once."""
        who = (person.org, f"{person.role}/{person.user_id}")
        if self._uploading[who] >= self._each_max or self._uploading.total() >= self._all_max:
            raise Refused("rate_limited", "Too many files at once; send them one after the other.", {"retry_ms": 2_000})
        self._uploading[who] += 1
        try:
            yield
        finally:
            self._uploading[who] -= 1
            if not self._uploading[who]:
                del self._uploading[who]

    async def link(self, request: Request) -> Response:
        """`POST /v1/files/{id}/link`"""
        person = await self._person(request)
        meta = await self.files.readable(person, request.path_params["file_id"])
        url, until = await self.files.link(meta, self.parts.node.now_ms())
        return json_answer({"url": url, "expires_at": until})

    async def get(self, request: Request) -> Response:
        """`GET /v1/files/{id}/{name}`; the name in the address is for people, the kept one counts."""
        file_id, wanted = request.path_params["file_id"], request.query_params
        if "sign" in wanted:
            now_ms = self.parts.node.now_ms()
            meta = await self.files.linked(file_id, wanted.get("until", ""), wanted["sign"], now_ms)
        else:
            meta = await self.files.readable(await self._person(request), file_id)
        headers = {
            **FILE_HEADERS,
            "content-type": meta.mime,
            "content-length": str(meta.bytes),
            "content-disposition": disposition(meta.name),
        }
        return _Download(await self.files.content(meta), self.parts.settings.file_transfer_ms / 1000, headers)

    # -- other origins -------------------------------------------------------------------------------------------------------

    def shared(self, handler: Handler) -> Handler:
        """The handler with its refusals as answers, also for pages of the allowed origins (the embedded messenger)."""

        async def answer(request: Request) -> Response:
            origin = request.headers.get("origin")
            settings = self.parts.settings
            own = request.headers.get("host", "")
            if origin is not None and not allowed_origin(origin, own, settings.origins):
                return _error(Refused("not_permitted", "This Origin may not ask."))
            if request.method == "OPTIONS":
                response: Response = Response(status_code=204, headers=_PREFLIGHT)
            else:
                try:
                    response = await handler(request)
                except Refused as refused_:
                    response = _error(refused_)
                except ClientDisconnect:
                    response = Response(status_code=400)  # nobody reads it
            if origin is not None:
                response.headers["access-control-allow-origin"] = origin
                response.headers["vary"] = "origin"
            return response

        return answer


class _Download(StreamingResponse):
    """A file on its way out, for as long as that may take: who reads too slowly is cut off."""

    def __init__(self, content: AsyncIterator[bytes], seconds: float, headers: dict[str, str]) -> None:
        super().__init__(content, headers=headers)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)


_PREFLIGHT: Final = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type, x-file-name",
    "access-control-max-age": "600",
}


def _name_of(request: Request) -> str:
    raw = request.headers.get("x-file-name", "")
    if not raw.isascii() or len(raw) > NAME_HEADER_CHARS_MAX:
        raise refused("name", "The header x-file-name must be the file's name, percent-encoded, of a moderate length.")
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise refused("name", "The header x-file-name isn't UTF-8, percent-encoded.") from None


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for part in request.stream():
        yield part


async def _throw_away(request: Request, bytes_max: int) -> None:
    """
    Take in what is left of a refused body, for a moment: a browser reads the answer only once it has sent everything.

    What is longer or slower than that is cut off with the connection.
    """
    left = bytes_max
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_S):
            async for part in request.stream():
                left -= len(part)
                if left < 0:
                    return


def _error(refused_: Refused) -> Response:
    """A refusal; the connection ends with it where there may be a body that nobody will read."""
    response = refusal(refused_)
    if refused_.code not in ("unknown_file", "unauthenticated"):
        response.headers["connection"] = "close"
    return response


def file_routes(parts: Parts, person: Callable[[Request], Awaitable[Person]]) -> list[Route]:
    """The routes of files; `person` says who asks, or raises Refused."""
    routes = FileRoutes(parts, person)
    return [
        Route("/v1/files", routes.shared(routes.limits), methods=["GET"]),
        Route("/v1/files", routes.shared(routes.upload), methods=["POST", "OPTIONS"]),
        Route("/v1/files/{file_id}/link", routes.shared(routes.link), methods=["POST", "OPTIONS"]),
        Route("/v1/files/{file_id}/{name}", routes.shared(routes.get), methods=["GET"]),
    ]
