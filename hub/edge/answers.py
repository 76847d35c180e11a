"""What HTTP routes answer with: JSON that nobody keeps, and refusals in the protocol's shape."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from hub.domain.errors import Refused
from hub.edge.guard import retry_after
from hub.protocol.close import HTTP_STATUS
from hub.protocol.encode import encode_error


def json_answer(value: object, status: int = 200) -> Response:
    """JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json", headers={"cache-control": "no-store"})


def refusal(refused: Refused) -> Response:
    """A refusal as HTTP answers it."""
    headers = {"cache-control": "no-store"}
    if refused.code == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    if refused.code == "rate_limited":
        retry_ms = refused.details.get("retry_ms")
        headers["retry-after"] = retry_after(retry_ms if isinstance(retry_ms, int) else 0)
    status = HTTP_STATUS[refused.code]
    return Response(encode_error(None, refused), status, media_type="application/json", headers=headers)
