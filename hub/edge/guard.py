"""What stands before every HTTP route: whose request it is, and whether that address may ask so often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hub.edge.answers import refusal
from hub.edge.proxies import network
from hub.edge.socket import Door

App = Callable[[Any, Any, Any], Awaitable[None]]
FREE: Final = frozenset({"/healthz", "/readyz"})  # whoever asks these decides whether this node is used at all


def guarded(app: App, door: Door) -> App:
    """
    `app`, told the client's own address, behind `http_per_address_per_s`.

    Past that: 429 with `Retry-After`, without reading the body.
    """

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        peer = scope.get("client") or ("", 0)
        address = door.address(peer[0], scope["headers"])
        scope["client"] = (address, peer[1])
        if scope["path"] not in FREE:
            now = asyncio.get_running_loop().time()
            over = door.parts.quotas.first_over((("http_per_address_per_s", network(address)),), now)
            if over is not None:
                refused = over.refused("Too many requests from this address.")
                await refusal(refused, {"connection": "close"})(scope, receive, send)
                return
        await app(scope, receive, send)

    return guard
