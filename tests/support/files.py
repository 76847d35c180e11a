"""Files as tests send them: small real ones of each kind, and how they are uploaded and opened."""

import io
import struct
import zipfile
import zlib
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.centre import Centre
from tests.support.socket import Json


def png(width: int = 2, height: int = 2) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def package(*parts: str) -> bytes:
    """A ZIP with these parts, as office files are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for part in parts:
            archive.writestr(part, "<x/>")
    return made.getvalue()


PDF = b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\ntrailer\n<< >>\n%%EOF\n"
DOCX = package("[Content_Types].xml", "word/document.xml")


async def post_file(
    centre: Centre, bearer: str, conversation: str | None, name: str, content: Any, mime: str = "", *, node: int = 0
) -> httpx.Response:
    """POST a file; `content` is bytes or an async iterator of them."""
    headers = {"authorization": f"Bearer {bearer}", "x-file-name": quote(name), "content-type": mime}
    params = {} if conversation is None else {"conversation_id": conversation}
    return await centre.http.post(centre.hubs[node].url + "/v1/files", content=content, headers=headers, params=params)


async def uploaded(centre: Centre, bearer: str, conversation: str, name: str = "a.pdf", content: Any = PDF) -> Json:
    """A file that is taken; the attachment to send."""
    answer = await post_file(centre, bearer, conversation, name, content)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return {part: said[part] for part in ("url", "name", "mime")}


async def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and reason of a refusal."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "retryable", "details"}
    return answer.status_code, error["code"], error["details"].get("reason", "")


async def fetched(centre: Centre, url: str, bearer: str | None = None, *, node: int = 0) -> httpx.Response:
    """GET a file's address, as it is or with a token."""
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    return await centre.http.get(centre.hubs[node].url + url, headers=headers)


async def linked(centre: Centre, url: str, bearer: str) -> httpx.Response:
    """Ask for a link to a file."""
    path = url.rpartition("/")[0] + "/link"
    return await centre.http.post(centre.hub.url + path, headers={"authorization": f"Bearer {bearer}"})
