"""Words to a real store server."""

from typing import Any

from hub.store.connection import Endpoint, Login, ask_once, command
from tests.support.processes import StoreProcess


async def ask(store: StoreProcess, *words: str) -> Any:
    """The answer to one command, on a connection of its own."""
    wire = command(*(word.encode() for word in words))
    return await ask_once(Endpoint(path=str(store.socket)), Login(), wire, 10.0)
