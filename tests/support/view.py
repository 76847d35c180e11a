"""A view as its subscriber sees it: the rows of the snapshot, then each change folded in."""

from collections.abc import Callable
from typing import Any

from tests.support.socket import PATIENCE_S, Json, Socket

KEYS = {"interactions": "conversation_id", "queues": "queue", "agents": "user_id", "roster": "conversation_id"}


class View:
    """One subscription of one socket; `open` returns when the snapshot is complete."""

    def __init__(self, socket: Socket, view: str) -> None:
        self.socket = socket
        self.key = KEYS[view]
        self.subscription = ""

    @classmethod
    async def open(cls, socket: Socket, view: str, **arguments: Any) -> "View":
        """Subscribe and wait for the last part of the snapshot."""
        self = cls(socket, view)
        self.subscription = (await socket.command("view.subscribe", view=view, **arguments))["subscription"]
        await socket.until(lambda: bool(self.parts) and self.parts[-1]["more"] is False, wanted=f"snapshot of {view}")
        return self

    @property
    def events(self) -> list[Json]:
        """What came for this subscription, in order."""
        wanted = {"view.snapshot", "view.changed"}
        return [
            event
            for event in self.socket.events
            if event["event"] in wanted and event["data"]["subscription"] == self.subscription
        ]

    @property
    def parts(self) -> list[Json]:
        """The data of the snapshot's parts."""
        return [event["data"] for event in self.events if event["event"] == "view.snapshot"]

    @property
    def rows(self) -> dict[str, Json]:
        """The rows as they stand now, by id."""
        rows: dict[str, Json] = {}
        for event in self.events:
            for gone in event["data"].get("removed", []):
                rows.pop(gone, None)
            rows |= {row[self.key]: row for row in event["data"]["rows"]}
        return rows

    @property
    def removed(self) -> list[str]:
        """Every id that was ever removed."""
        return [gone for event in self.events for gone in event["data"].get("removed", [])]

    def history(self, thing: str) -> list[Json]:
        """Every row of one thing, in the order they came."""
        return [row for event in self.events for row in event["data"]["rows"] if row[self.key] == thing]

    async def until(self, condition: Callable[[dict[str, Json]], bool], timeout: float = PATIENCE_S) -> dict[str, Json]:
        """Wait until the rows are as wanted; the rows."""
        await self.socket.until(
            lambda: condition(self.rows), timeout, f"wanted rows; there were {list(self.rows.values())}"
        )
        return self.rows

    async def row(self, thing: str, timeout: float = PATIENCE_S, **fields: Any) -> Json:
        """Wait until the row of a thing is there with those fields; the row."""

        def there(rows: dict[str, Json]) -> bool:
            return thing in rows and all(rows[thing].get(name, self) == value for name, value in fields.items())

        return (await self.until(there, timeout))[thing]

    async def without(self, thing: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the view has no row of a thing."""
        await self.until(lambda rows: thing not in rows, timeout)
