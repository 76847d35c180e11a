"""Fixtures of the SDK's tests."""

from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import serve
from websockets.typing import Subprotocol

from tests.unit.clients.scripted import ScriptedHub


@pytest.fixture
async def hub() -> AsyncIterator[ScriptedHub]:
    """A scripted hub on a free port of loopback."""
    scripted = ScriptedHub()
    subprotocols = [Subprotocol("hub.v1")]
    async with serve(scripted.handle, "127.0.0.1", 0, subprotocols=subprotocols, close_timeout=1) as server:
        scripted.server = server
        yield scripted
    scripted.check()
