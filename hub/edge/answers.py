"""What HTTP routes answer with: JSON that nobody keeps, and refusals in the protocol's shape."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from hub.domain.errors import Refused
from hub.protocol.close import HTTP_STATUS
from hub.protocol.encode import encode_error


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json", headers=_unkept(headers))


def refusal(refused: Refused, headers: Mapping[str, str] | None = None, *, status: int | None = None) -> Response:
    """A refusal as HTTP answers it; with `status` where the code's own isn't meant."""
    status = HTTP_STATUS[refused.code] if status is None else status
    sent = _unkept(headers) | refusal_headers(status, refused)
    return Response(encode_error(None, refused), status, media_type="application/json", headers=sent)


def refusal_headers(status: int, refused: Refused | None = None) -> dict[str, str]:
    """What a status asks for beside a body of any kind (RFC 9110, sections 11.6.1 and 10.2.3); names in small letters."""
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if status == 429:
        retry_ms = refused.details.get("retry_ms") if refused is not None else None
        return {"retry-after": retry_after(retry_ms if isinstance(retry_ms, int) else 0)}
    return {}


def retry_after(retry_ms: int) -> str:
    """Whole seconds, at least one (RFC 9110, section 10.2.3)."""
    return str(max(1, -(-retry_ms // 1000)))


def _unkept(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {"cache-control": "no-store", **(headers or {})}
