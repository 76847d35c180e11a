"""The store for a program beside the hub: the configured one, or the embedded one, whether its hub runs or not."""

import contextlib
import socket
from collections.abc import AsyncIterator

from hub.settings import Settings, SettingsError
from hub.store.connection import Unavailable
from hub.store.embedded import Embedded
from hub.store.redis_store import SCRIPTS, RedisStore
from hub.store.topology import Primaries


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[RedisStore]:
    """
    The store; an embedded one whose hub isn't running is started for as long as this takes.

    Raises:
        SettingsError: It can't be reached.
        EmbeddedError: The embedded store can't be started.
    """
    async with contextlib.AsyncExitStack() as stack:
        url = settings.redis_url or _running(settings)
        if url is None:
            if not (settings.data_dir / "store").is_dir():
                raise SettingsError(f"there is no store in {settings.data_dir}; give --redis-url or --data-dir")
            embedded = await Embedded.start(settings.data_dir)
            stack.push_async_callback(embedded.stop)
            url = embedded.url
        try:
            primaries = await Primaries.connect(url, scripts=SCRIPTS, timeout_s=settings.store_timeout_ms / 1000)
        except (Unavailable, ValueError) as error:
            raise SettingsError(f"the store can't be reached: {error}") from None
        stack.push_async_callback(primaries.aclose)
        yield RedisStore(primaries, settings)


def _running(settings: Settings) -> str | None:
    """The address of the running hub's own engine; an engine that was killed leaves its socket, and nobody behind it."""
    path = settings.data_dir.absolute() / "store" / "engine.sock"
    if not path.is_socket():
        return None
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1.0)
        line.connect(str(path))
        return f"unix://{path}"
    return None
