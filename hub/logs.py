"""
Logs: lines for an operator, with nothing in them that people wrote, are called, or keep secret.

    configure(level)      the process's logging, on standard error
    Discreet              the formatter: what an exception says stays out, where it happened stays in
    watch(loop)           the same for what asyncio itself would print

Our own lines are made of ids and sizes. An exception's text is not ours: a decoder quotes its input, a `KeyError` its key,
a store's error its arguments. So of each exception the kind and the places in the code are told; its text only where we
wrote it ourselves, or the operating system did (`wording`).
"""

import asyncio
import logging
import ssl
import sys
import traceback
from types import TracebackType
from typing import Any, Final

from hub.domain.errors import Refused
from hub.store.connection import ReplyError, Unavailable, Unknown

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHAIN_MAX: Final = 8  # of exceptions that were caused by one another
# Libraries that would write frames, requests or tokens at the debug level.
QUIET: Final = ("websockets", "uvicorn", "asyncio", "urllib3", "httpx", "httpcore")
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def wording(error: BaseException) -> str:
    """What of an exception's text may be shown; empty where it isn't ours."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, Unavailable | Unknown | ReplyError):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    if isinstance(error, OSError):
        return error.strerror or ""
    return ""


class Discreet(logging.Formatter):
    """Lines as usual; tracebacks without the exceptions' own texts. A line break in a value can't make a second line."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """The places and kinds of an exception and of what caused it, innermost last."""
        return "\n".join(_told(ei[1], 0)) if ei[1] is not None else ""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line, whatever is in it."""
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def _told(error: BaseException, depth: int) -> list[str]:
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < CHAIN_MAX:
        lines += [*_told(cause, depth + 1), "", "then:", ""]
    lines.append("Traceback (most recent call last):")
    for frame in traceback.extract_tb(error.__traceback__):  # lines of the program, which hold no values
        lines.append(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
    said = wording(error)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines.append(f"{name}: {said}" if said else name)
    if isinstance(error, BaseExceptionGroup) and depth < CHAIN_MAX:
        for each in error.exceptions:
            lines += [f"  | {line}" for line in _told(each, depth + 1)]
    return lines


class _NoReprs(logging.Filter):
    """asyncio prints handles and tasks with their arguments and results; their kind is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(one if isinstance(one, int | float) else type(one).__name__ for one in record.args)
        return True


def configure(level: str) -> None:
    """Log to standard error from `level` (one of the setting's) on; libraries that write what they carry stay at warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Discreet(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_NoReprs())


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """What nobody caught is logged with its place; asyncio's own handler would print arguments and results."""
    log = logging.getLogger("hub.loop")

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        kinds = ", ".join(f"{name} {type(context[name]).__name__}" for name in sorted(context) if name != "message")
        log.error("not caught: %s (%s)", _fixed(context.get("message")), kinds, exc_info=error)

    loop.set_exception_handler(handle)


def _fixed(message: object) -> str:
    """asyncio's sentences up to where one of them quotes something: `Exception in callback f(secret)`."""
    return str(message or "").partition("(")[0].partition("<")[0].strip()
