"""
The addresses of files: the one that stands in messages, the signed link that opens one file until a time.

    file_url, split_url     `/v1/files/<id>/<name>`, the same for everybody, useless without a right
    sign, signed            what a link has besides: a time and a proof that the hub made it
    disposition             under which name a browser saves
"""

import hmac
import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from hub.domain.files import FILE_ID, FileMeta

FILES_PATH: Final = "/v1/files/"

_URL = re.compile(rf"{re.escape(FILES_PATH)}({FILE_ID})/([A-Za-z0-9_.~%-]{{1,1600}})")


def file_url(meta: FileMeta) -> str:
    """The address that stands in messages: a path at the hub, the same for everybody, useless without a right."""
    return f"{FILES_PATH}{meta.file_id}/{quote(meta.name, safe='')}"


def split_url(url: str) -> tuple[str, str] | None:
    """File id and name of such an address, or None where it is something else."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    try:
        return found[1], unquote(found[2], errors="strict")
    except UnicodeDecodeError:
        return None


def sign(secret: bytes, file_id: str, until_ms: int) -> str:
    """What proves that the hub made a link to this file until that time (HMAC with SHA-256, 32 hex digits of it)."""
    return hmac.new(secret, f"{file_id} {until_ms}".encode(), sha256).hexdigest()[:32]


def signed(secret: bytes, file_id: str, until: str, signature: str, now_ms: int) -> bool:
    """True where such a link is ours and not over; the texts are as they came."""
    if not (until.isascii() and until.isdigit() and len(until) <= 16) or int(until) <= now_ms:
        return False
    return hmac.compare_digest(sign(secret, file_id, int(until)).encode(), signature.encode())


def disposition(name: str) -> str:
    """A `Content-Disposition` that saves under this name (RFC 6266, section 4.3, with RFC 8187 for other letters)."""
    plain = "".join(char if (char.isascii() and char.isalnum()) or char in " ._-()" else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
