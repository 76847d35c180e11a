"""
The bounded queue between a socket and whoever iterates.

A reader that waits for its consumer would also stop answering: a consumer that awaits a command inside its loop would
wait for ever. So the inbox never makes the reader wait. Past its bound it forgets what a resume brings back (transcript
events, views, actions that the hub repeats) and says `lagging`; when the consumer has caught up to half of the bound it
asks once for that resume. What no resume repeats (the end of a monitor, a takeover's notice) is kept in any case: there
are only a few of them per conversation.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from clients.wire import Event

REPEATED: Final = frozenset(
    {"view.snapshot", "view.changed", "typing", "outbound.message", "monitor.started", "conversation.snapshot"}
)


class Inbox:
    """Events not yet consumed, at most `bound` and the few that must not be lost; one consumer at a time."""

    def __init__(self, bound: int, catch_up: Callable[[], None]) -> None:
        self._bound = bound
        self._catch_up = catch_up
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._end: BaseException | None = None
        self.lagging = False
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> bool:
        """Take an event; False where it was forgotten for now and a resume will bring it again."""
        repeated = event.cursor is not None or event.event in REPEATED or "action_id" in event.data
        if repeated and (self.lagging or len(self._events) >= self._bound):
            self.lagging = True
            self.forgotten += 1
            return False
        if event.event.startswith("session.") and len(self._events) >= self._bound:
            return False  # nobody is reading; how often the line broke isn't worth memory without end
        self._events.append(event)
        self._wake()
        return True

    def caught_up(self) -> None:
        """A resume is under way: what was forgotten comes again."""
        self.lagging = False

    def end(self, why: BaseException) -> None:
        """No more events: the consumer gets what is there, then `why` is raised."""
        if self._end is None:
            self._end = why
        self._wake()

    async def get(self) -> Event:
        """
        The next event; safe to cancel.

        Raises:
            StopAsyncIteration: The client was closed by its owner.
            ConnectionEnded: The hub ended it.
        """
        while not self._events:
            if self._end is not None:
                raise self._end
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if self.lagging and len(self._events) <= self._bound // 2:
            self._catch_up()
        return event

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
