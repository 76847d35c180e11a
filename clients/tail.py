"""
`hub tail`: a supervisor in the terminal.

Shows the interactions live, one line per change, and takes commands line by line (also from a pipe): list, monitor,
stop, take, say, end, wrapup, status, help, quit. Conversations may be named by any unambiguous beginning of their id.
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from clients.session import Options
from clients.supervisor import Supervisor, TakeoverPlan, connect_supervisor
from clients.wire import ConnectionEnded, Event, HubError

HELP: Final = """\
  list                       the interactions you may see
  monitor ID [PARTICIPANT]   watch a conversation silently
  stop ID                    stop watching
  take ID                    take a monitored conversation over (shows what will happen, asks)
  say ID TEXT                write to the customer of your own conversation
  end ID                     end your own conversation
  wrapup ID CODE [NOTES]     complete your wrap-up
  status STATUS              available, busy, away, break, meal, meeting, training, on_queue, offline
  help, quit
"""
YES: Final = frozenset({"y", "yes"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hub tail`."""
    parser.add_argument("--url", default="ws://127.0.0.1:8000", help="the hub's address (default: %(default)s)")
    parser.add_argument("--token", help="a supervisor's token (default: the environment's HUB_TOKEN)")
    parser.add_argument("--queue", action="append", help="only this queue; may be repeated")
    parser.add_argument("--quiet", action="store_true", help="don't print changes of the interactions view")


async def run_tail(args: argparse.Namespace) -> int:
    """
    Run until `quit` or the end of the input; returns the exit status: 0, or 1 where the hub refused or ended it.

    Where the input ends without `quit`, the conversations one owns stay one's own.
    """
    token = args.token or os.environ.get("HUB_TOKEN", "")
    if not token:
        print("Give a supervisor's token: --token, or the environment variable HUB_TOKEN.", file=sys.stderr)
        return 2
    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    try:
        async with connect_supervisor(args.url, token=token, options=Options()) as hub:
            return await Tail(hub, quiet=args.quiet, queues=args.queue).run()
    except asyncio.CancelledError:
        return 0
    except ConnectionEnded as ended:
        print(f"The hub ended the connection: {ended.error or ended}", file=sys.stderr)
    except TimeoutError:
        print(f"No hub answers at {args.url}.", file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 1


class Tail:
    """The terminal's state: rows, what is monitored and owned, and the question that waits for yes or no."""

    def __init__(self, hub: Supervisor, *, quiet: bool = False, queues: list[str] | None = None) -> None:
        self.hub = hub
        self.rows: dict[str, dict[str, Any]] = {}
        self._quiet = quiet
        self._queues = queues
        self._plan: TakeoverPlan | None = None
        self._complete = asyncio.Event()  # the view's snapshot is there
        self._commands: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "list": self._list,
            "monitor": self._monitor,
            "stop": self._stop,
            "take": self._take,
            "say": self._say,
            "end": self._end,
            "wrapup": self._wrapup,
            "status": self._status,
            "help": self._help,
        }

    async def run(self) -> int:
        """
        Read commands and show events until `quit` or the end of the input; returns 0.

        Raises:
            ConnectionEnded: The hub ended it.
        """
        await self.hub.view_subscribe("interactions", filter={"queues": self._queues} if self._queues else None)
        watching = asyncio.ensure_future(self._watch())
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({watching, reading}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            return reading.result() if reading.done() else 0
        finally:
            for each in (watching, reading):
                each.cancel()
            await asyncio.gather(watching, reading, return_exceptions=True)

    async def _read(self) -> int:
        await self._complete.wait()
        status = self.hub.hello.status if self.hub.hello else None
        self._print(f"{len(self.rows)} interactions; you are {status or 'offline'}. `help` lists the commands.")
        async for line in input_lines():
            if line.strip() in ("quit", "exit"):
                break
            await self.obey(line)
        return 0

    async def obey(self, line: str) -> None:
        """Carry out one line; whatever is wrong is printed."""
        try:
            if self._plan is not None:
                await self._answer(line)
                return
            words = line.split(maxsplit=3)
            if not words:
                return
            command = self._commands.get(words[0].lower())
            if command is None:
                self._print(f"There is no command {words[0]!r}; `help` lists them.")
                return
            await command(words[1:])
        except HubError as refusal:
            self._print(f"refused: {refusal.message or refusal.code} ({refusal.code}){_hint(refusal)}")
        except TimeoutError:
            self._print("The hub did not answer in time; nobody knows whether it was done.")
        except _Usage as usage:
            self._print(str(usage))

    # Commands

    async def _list(self, words: list[str]) -> None:
        for row in sorted(self.rows.values(), key=lambda row: row.get("started_at") or 0):
            self._print(row_line(row))
        self._print(f"{len(self.rows)} interactions")

    async def _monitor(self, words: list[str]) -> None:
        monitor = await self.hub.monitor_start(self._id(words), words[1] if len(words) > 1 else None)
        self._print(f"monitoring as {monitor.monitor_id}")

    async def _stop(self, words: list[str]) -> None:
        await self.hub.monitor_stop(self._id(words))

    async def _take(self, words: list[str]) -> None:
        conversation = self._id(words)
        self._plan = plan = await self.hub.takeover_prepare(conversation)
        for line in consequences(plan):
            self._print(f"  {line}")
        self._print(f"Take {conversation} over? yes/no")

    async def _answer(self, line: str) -> None:
        plan, self._plan = self._plan, None
        assert plan is not None
        if line.strip().lower() in YES:
            owned = await self.hub.takeover_confirm(plan.takeover_id, plan.confirm_token)
            self._print(f"it is yours now, as {owned.participant_id}")
        else:
            await self.hub.takeover_cancel(plan.takeover_id)
            self._print("nothing has changed")

    async def _say(self, words: list[str]) -> None:
        text = " ".join(words[1:])
        if not text:
            raise _Usage("say ID TEXT")
        await self.hub.message_send(self._id(words), text, secrets.token_hex(8))

    async def _end(self, words: list[str]) -> None:
        await self.hub.conversation_end(self._id(words))

    async def _wrapup(self, words: list[str]) -> None:
        if len(words) < 2:
            raise _Usage("wrapup ID CODE [NOTES]")
        await self.hub.wrapup_submit(self._id(words), words[1], words[2] if len(words) > 2 else None)

    async def _status(self, words: list[str]) -> None:
        if not words:
            raise _Usage("status STATUS")
        await self.hub.status_set(words[0])
        self._print(f"you are {words[0]}")

    async def _help(self, words: list[str]) -> None:
        self._print(HELP.rstrip())

    def _id(self, words: list[str]) -> str:
        """The conversation meant by the first word: an id, or the beginning of just one that is shown."""
        if not words:
            raise _Usage("Which conversation? Give its id.")
        if words[0] in self.rows:
            return words[0]
        found = [name for name in self.rows if name.startswith(words[0])]
        if len(found) > 1:
            raise _Usage(f"{len(found)} ids begin with {words[0]!r}: {', '.join(sorted(found)[:5])} ...")
        return found[0] if found else words[0]

    # Events

    async def _watch(self) -> None:
        async for event in self.hub:
            if event.event.startswith("view."):
                self._view(event)
            else:
                for line in event_lines(event):
                    self._print(line)

    def _view(self, event: Event) -> None:
        for row in event.data.get("rows", []):
            self.rows[row["conversation_id"]] = row
            if self._complete.is_set() and not self._quiet:
                self._print(row_line(row))
        for name in event.data.get("removed", []):
            self.rows.pop(name, None)
            if not self._quiet:
                self._print(f"{name:<20} gone")
        if event.event == "view.snapshot" and not event.data.get("more"):
            self._complete.set()

    def _print(self, text: str) -> None:
        print(printable(text), flush=True)


class _Usage(Exception):
    """A line that can't be carried out; the text says how it is written."""


def row_line(row: dict[str, Any]) -> str:
    """A row of the interactions view on one line."""
    agents = ", ".join(str(agent.get("name")) for agent in row.get("agents") or []) or "nobody"
    monitor = row.get("monitor")
    since = row.get("awaiting_since")
    waits = f"{max(0, int(time.time() - since / 1000))} s" if since and row.get("awaiting") == "agent" else ""
    marks = [
        f"monitored by {monitor.get('name')}" if monitor else "",
        "taken over" if row.get("taken_over") else "",
        f"customer waits {waits}" if waits else "",
    ]
    return (
        f"{row['conversation_id']:<20} {row.get('state', ''):<8} {row.get('channel', ''):<5} "
        f"{row.get('queue', ''):<10} "
        f"{(row.get('customer') or {}).get('name') or '-'} with {agents}; {row.get('subject') or '-'}"
        + "".join(f"; {mark}" for mark in marks if mark)
    )


def event_lines(event: Event) -> list[str]:
    """What is shown of an event of a monitored or own conversation; nothing of what would only flicker."""
    name, data = f"[{event.conversation_id}]", event.data
    match event.event:
        case "message.created":
            files = [f"({file.get('name') or file.get('url')})" for file in data.get("attachments") or []]
            return [f"{name} {data.get('purpose')}: {' '.join([str(data.get('text', '')), *files])}"]
        case "monitor.started":
            return [f"{name} monitor started", *snapshot_lines(name, data.get("snapshot") or {})]
        case "conversation.snapshot":
            return [f"{name} yours", *snapshot_lines(name, data)]
        case "monitor.ended":
            by = (data.get("by") or {}).get("name")
            return [f"{name} monitor ended: {data.get('reason')}{f' by {by}' if by else ''}"]
        case "participant.connected" | "participant.disconnected":
            who = data.get("participant") or {}
            why = data.get("disconnect_type")
            return [
                f"{name} {who.get('name') or who.get('participant_id')} {event.event[12:]}{f' ({why})' if why else ''}"
            ]
        case "conversation.transferred":
            return [f"{name} transferred to {data.get('queue')}"]
        case "conversation.ended":
            return [f"{name} ended ({data.get('reason')})"]
        case "takeover.completed":
            return [f"{name} taken over"]
        case "takeover.notified":
            return [f"{name} was taken over from you by {(data.get('supervisor') or {}).get('name')}"]
        case "wrapup.requested":
            return [f"{name} wrap-up ({data.get('prompt')}): {', '.join(data.get('codes') or [])}"]
        case "wrapup.completed" | "wrapup.timed_out":
            return [f"{name} wrap-up {event.event[7:].replace('_', ' ')}"]
        case "stream.reset":
            return [
                f"{name} history was lost ({data.get('reason')})",
                *snapshot_lines(name, data.get("snapshot") or {}),
            ]
        case "session.interrupted":
            return [f"connection lost ({data.get('reason') or data.get('code')}); trying again"]
        case "session.started" if data.get("lost"):
            return [f"new session; no longer monitored: {', '.join(data['lost'])}"]
    return []


def snapshot_lines(name: str, snapshot: dict[str, Any]) -> list[str]:
    """Panels and the last messages of a snapshot."""
    panels = [f"{name}   {panel}: {content}" for panel, content in (snapshot.get("panels") or {}).items()]
    said = [f"{name}   {each.get('purpose')}: {each.get('text')}" for each in (snapshot.get("messages") or [])[-10:]]
    return panels + said


def consequences(plan: TakeoverPlan) -> list[str]:
    """What a takeover will do, in sentences."""
    told = plan.consequences
    removed = ", ".join(str(each.get("name") or each.get("participant_id")) for each in told.get("removed") or [])
    wrapup = told.get("wrapup")
    return [
        f"{removed or 'Nobody'} will be removed.",
        f"Wrap-up will be asked ({wrapup.get('prompt')})." if wrapup else "No wrap-up will be asked.",
        "The customer will see your name." if told.get("name_visible") else "The customer will not see your name.",
        f"{told.get('unanswered', 0)} customer messages are unanswered.",
    ]


def printable(text: str) -> str:
    """Text of customers without control characters, which could play tricks on a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _hint(refusal: HubError) -> str:
    candidates = refusal.details.get("candidates")
    if not candidates:
        return ""
    names = (f"{each.get('participant_id')} ({each.get('name')})" for each in candidates)
    return ": one of " + ", ".join(names)


async def input_lines() -> AsyncIterator[str]:
    """
    Lines of standard input, from a terminal, a pipe or a file, without blocking anything else; safe to cancel.

    A thread reads, because files can't be waited for and a terminal made non-blocking would be so for our output, too.
    It reads the descriptor itself: a thread that waits within `sys.stdin` at exit holds a lock that the exit needs.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    descriptor = sys.stdin.fileno()

    def read() -> None:
        data = b"\n"
        while data:
            try:
                data = os.read(descriptor, 65_536)
            except OSError:
                data = b""
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(chunks.put_nowait, data)

    threading.Thread(target=read, daemon=True).start()
    rest = b""
    while data := await chunks.get():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
