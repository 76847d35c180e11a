"""The platform's way in: events of all conversations, in order, in as few requests as they come."""

import asyncio
from collections import Counter, deque
from typing import Any, Final

import msgspec

from clients.connector import Connector
from clients.policy import Backoff
from clients.wire import HubError

EVENTS_MAX: Final = 500  # a request; the hub takes 1,000
BODY_BYTES_MAX: Final = 900_000  # a request; the hub takes 1 MiB


class Feed:
    """
    Events on their way to the hub. `push` never waits; `run` sends until cancelled, one request at a time.

    Order is kept, also through failures: a request that had no answer is repeated whole, which the hub knows by the
    events' ids.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._waiting: deque[bytes] = deque()
        self._some = asyncio.Event()
        self.accepted = 0
        self.requests = 0
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, event: dict[str, Any]) -> None:
        """Queue an event."""
        self._waiting.append(msgspec.json.encode(event))
        self._some.set()

    async def run(self) -> None:
        """Send what is pushed, until cancelled. Raises `HubError` where the hub refuses requests as such."""
        while True:
            await self._some.wait()
            await self._send(self._batch())
            if not self._waiting:
                self._some.clear()

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and len(batch) < EVENTS_MAX and size + len(self._waiting[0]) < BODY_BYTES_MAX:
            batch.append(self._waiting.popleft())
            size += len(batch[-1]) + 1
        return batch

    async def _send(self, batch: list[bytes]) -> None:
        failures, backoff = 0, Backoff(cap_ms=2_000)
        while True:
            try:
                results = await self._connector.post_body(b"\n".join(batch))
            except (OSError, HubError) as error:
                if isinstance(error, HubError) and not error.retryable:
                    raise
                failures += 1
                await asyncio.sleep(backoff.delay_s(failures, self._connector.chance))
                continue
            break
        self.requests += 1
        for result in results:
            if result.status == "refused":
                self.refused[str((result.error or {}).get("code"))] += 1
            else:
                self.accepted += 1
