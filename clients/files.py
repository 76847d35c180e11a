"""
Files of conversations over HTTP: upload one to send it with a message, fetch one that somebody sent.

    file = await upload_file(url, token=token, conversation_id="cnv_1", name="form.pdf", content=content)
    await agent.message_send("cnv_1", "Please fill this in.", client_message_id="m-1", attachments=[file])
    content = await fetch_file(url, token=token, file_url=message["attachments"][0]["url"])
"""

from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from clients.http import Answer, HttpClient
from clients.wire import http_path

TIMEOUT_S = 300.0


async def upload_file(
    url: str,
    *,
    token: str,
    name: str,
    content: bytes,
    mime: str = "application/octet-stream",
    conversation_id: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, str]:
    """
    Upload a file; the attachment (`url`, `name`, `mime`) to send. A customer's conversation is the token's.

    Raises:
        HubError: It isn't taken: `file_refused` with a `reason`, `too_large`, or what `message.send` would be refused with.
        OSError: No answer (`TimeoutError` too); the file may have been kept, which does no harm.
    """
    query = "" if conversation_id is None else "?" + urlencode({"conversation_id": conversation_id})
    headers = {"content-type": mime, "x-file-name": quote(name, safe="")}
    answer = await _ask(url, token, "POST", f"/v1/files{query}", content, headers, timeout_s)
    said: dict[str, Any] = msgspec.json.decode(answer.body)
    return {part: str(said[part]) for part in ("url", "name", "mime")}


async def fetch_file(url: str, *, token: str, file_url: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """
    The content of a file, by its address in a message.

    Raises:
        ValueError: That is no file of a hub's: platforms' attachments have addresses of their own.
        HubError: `unknown_file`, `not_permitted`.
        OSError: No answer (`TimeoutError` too).
    """
    if not file_url.startswith("/v1/files/"):
        raise ValueError(f"not a file that a hub keeps: {file_url[:100]!r}")
    return (await _ask(url, token, "GET", file_url, b"", {}, timeout_s)).body


async def _ask(
    url: str, token: str, method: str, path: str, body: bytes, headers: dict[str, str], timeout_s: float
) -> Answer:
    client = HttpClient(url, timeout_s=timeout_s)
    try:
        answer = await client.request(
            method, http_path(url, path), body, {**headers, "authorization": f"Bearer {token}"}
        )
    finally:
        await client.close()
    if answer.status != 200:
        raise answer.refusal()
    return answer
