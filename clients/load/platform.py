"""The platform's side of a load test: conversations made in bulk, and messages as prepared NDJSON bodies."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from clients.http import HttpClient
from clients.load.schedule import together
from clients.simulate.script import CHANNELS
from clients.wire import http_path

TEXT: Final = "Hello, I still have not received the parcel that I ordered two weeks ago, can you check it please?"
EVENTS_A_REQUEST: Final = 399  # three a conversation: requests are in flight side by side, so none is split


class Platform:
    """A connector over HTTP with several connections; counts results by status or error code."""

    def __init__(self, url: str, token: str, connections: int = 4) -> None:
        self._idle: asyncio.Queue[HttpClient] = asyncio.Queue()
        for _ in range(connections):
            self._idle.put_nowait(HttpClient(url))
        self._connections = connections
        self._path = http_path(url, "/v1/events")
        self._headers = {"content-type": "application/x-ndjson", "authorization": f"Bearer {token}"}
        self.results: Counter[str] = Counter()
        self.requests = 0

    async def post(self, body: bytes) -> None:
        """Send a body and count its results; waits for a free connection."""
        client = await self._idle.get()
        try:
            answer = await client.request("POST", self._path, body, self._headers)
        finally:
            self._idle.put_nowait(client)
        if answer.status != 200:
            raise answer.refusal()
        self.requests += 1
        for result in orjson.loads(answer.body)["results"]:
            status = result["status"]
            self.results[result["error"]["code"] if status == "refused" else status] += 1

    async def post_all(self, bodies: Iterable[bytes]) -> float:
        """Send bodies over all connections as fast as the hub takes them; returns the seconds it took."""
        began, waiting = time.monotonic(), iter(bodies)

        async def worker() -> None:
            for body in waiting:
                await self.post(body)

        async with together() as group:
            for _ in range(self._connections):
                group.create_task(worker())
        return time.monotonic() - began

    async def begin(self, conversations: Sequence[str], agents: Sequence[str], queue: str = "support") -> None:
        """Start the conversations, each with one of the agents, in turn."""
        events = [
            event
            for number, name in enumerate(conversations)
            for event in beginning(name, number, agents[number % len(agents)], queue)
        ]
        await self.post_all(bodies_of(events, EVENTS_A_REQUEST))

    async def close(self) -> None:
        """Close the connections."""
        while not self._idle.empty():
            await self._idle.get_nowait().close()


def beginning(conversation: str, number: int, agent: str, queue: str) -> list[dict[str, Any]]:
    """A conversation's first events: started, an agent connected, the customer's first message."""
    customer = {"id": f"cus-{number}", "name": f"Customer {number}"}
    panels = {"customer": {"tier": "gold", "since": 2019}}
    started = {"channel": CHANNELS[number % 3], "queue": queue, "customer": customer, "panels": panels}
    agent_data = {
        "participant_id": f"{conversation}:a",
        "purpose": "agent",
        "user_id": agent,
        "name": agent.title(),
    }
    return [
        _event(conversation, "e1", "conversation.started", {**started, "subject": "Late delivery"}),
        _event(conversation, "e2", "participant.connected", agent_data),
        message(conversation, "m0", TEXT),
    ]


def message(conversation: str, name: str, text: str, participant: str | None = None) -> dict[str, Any]:
    """A message's event, the customer's where no participant is given."""
    who = {"participant_id": participant} if participant else {"purpose": "customer"}
    data = {"message_id": f"{conversation}:{name}", "text": text, **who}
    return _event(conversation, name, "message.created", data)


def ending(conversation: str) -> dict[str, Any]:
    """A conversation's last event."""
    return _event(conversation, "end", "conversation.ended", {"reason": "endpoint"})


def bodies_of(events: Sequence[dict[str, Any]], size: int) -> list[bytes]:
    """NDJSON bodies of `size` events each."""
    return [b"\n".join(map(orjson.dumps, events[at : at + size])) for at in range(0, len(events), size)]


def _event(conversation: str, name: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    return {"id": f"{conversation}:{name}", "type": kind, "conversation_id": conversation, "at": now_ms, "data": data}
