"""
An event loop whose time is made, and processes on it.

Nothing waits: time jumps to whatever is due next. Equal times keep the order in which they were asked for, so a run is
decided by what is asked of the loop alone. Whatever a process began runs in that process's context; one that stands
still gets nothing done until it goes on, and then everything that came meanwhile, in order; a dead one gets nothing done
for good, not even its `finally`.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVarTuple

from hub.domain.errors import Refused

Ts = TypeVarTuple("Ts")
PROCESS: ContextVar["Process"] = ContextVar("process")
NOBODY = Context()  # the world's own doings belong to no process


class Process:
    """One operating system's process. `fuse`: how many of its calls to the store it still survives (None: all)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.context = Context()
        self.context.run(PROCESS.set, self)
        self.dead = False
        self.paused = False
        self.parked: list[asyncio.Handle] = []
        self.fuse: int | None = None


class Clockwork(asyncio.BaseEventLoop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._asked = 0
        self._soon: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.Handle]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.failure: BaseException | None = None
        self.steps = 0

    # -- what asyncio asks of a loop ---------------------------------------------------------------------------------

    def time(self) -> float:
        """Made seconds."""
        return self._now

    def get_debug(self) -> bool:
        """Off: it would look up where each of a hundred thousand tasks was made."""
        return False

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Behind what was asked for already."""
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """In `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """At that time, or next where it is over."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._asked += 1
        heapq.heappush(self._later, (when, self._asked, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing may go wrong unseen: the run ends with the first error (but nobody hears what the dead were refused)."""
        if isinstance(context.get("exception"), Refused):
            return
        self.fail(context.get("exception") or AssertionError(context["message"]))

    # -- running -----------------------------------------------------------------------------------------------------

    def fail(self, failure: BaseException) -> None:
        """End the run with it, behind the current step."""
        if self.failure is None:
            self.failure = failure

    def start(self, work: Coroutine[Any, Any, Any], context: Context | None = NOBODY) -> asyncio.Task[Any]:
        """Run it as a task: the doing of nobody, of a process, or (None) of whoever asks."""
        task = asyncio.Task(work, loop=self, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the dead don't end what they began
        self._tasks.append(task)
        return task

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """A task of whoever asks."""
        return self.start(coro, context)

    def close(self) -> None:
        """The end: whatever was begun and isn't done is dropped where it stands."""
        for task in self._tasks:
            if not task.done():
                coroutine = task.get_coro()
                assert coroutine is not None
                coroutine.close()
        super().close()

    def run_to(self, end: float) -> None:
        """
        Everything up to that time.

        Raises whatever went wrong first.
        """
        soon, later = self._soon, self._later
        asyncio._set_running_loop(self)
        try:
            while self.failure is None:
                if soon:
                    handle = soon.popleft()
                elif later and later[0][0] <= end:
                    when, _, timer = heapq.heappop(later)
                    self._now = max(self._now, when)
                    handle = timer
                else:
                    break
                if handle._cancelled:
                    continue
                process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]
                if process is None:
                    handle._run()
                elif process.paused:
                    process.parked.append(handle)
                elif not process.dead:
                    handle._run()
                self.steps += 1
        finally:
            asyncio._set_running_loop(None)
        if self.failure is not None:
            raise self.failure
        self._now = max(self._now, end)

    def go_on(self, process: Process) -> None:
        """A process that stood still goes on."""
        process.paused = False
        parked, process.parked = process.parked, []
        for handle in parked:
            self._asked += 1
            heapq.heappush(self._later, (self._now, self._asked, handle))
