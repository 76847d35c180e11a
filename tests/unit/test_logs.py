"""Logs: kinds and places of what went wrong, never what an exception says, unless we said it."""

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.logs import FORMAT, QUIET, Discreet, configure, watch, wording
from hub.store.connection import ReplyError, Unavailable

CANARY = "Kanari-in-an-exception"


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What a logger called `canaries` writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Discreet(FORMAT))
    log = logging.getLogger("canaries")
    log.propagate, log.handlers = False, [handler]
    yield text
    log.handlers = []


def provoke(error: BaseException) -> str:
    """What `log.exception` makes of it, raised while another one was handled."""
    log = logging.getLogger("canaries")
    with logged() as text:
        try:
            try:
                raise KeyError(CANARY)
            except KeyError:
                raise error  # noqa: B904 - what was handled becomes its context
        except BaseException:
            log.exception("a session failed")
        return text.getvalue()


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        KeyError(CANARY),
        UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
        ExceptionGroup(CANARY, [ValueError(CANARY), ExceptionGroup(CANARY, [TypeError(CANARY)])]),
        Refused("monitor_held", CANARY, {"holder": CANARY}),
        ReplyError(f"ERR unknown command 'XADD', with args beginning with: 'key' '{CANARY}'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exceptions_text_stays_out(error: Exception) -> None:
    """Its kind, its causes' kinds and the places are there; its text, its notes and its values aren't."""
    error.add_note(CANARY)
    text = provoke(error)
    assert CANARY not in text
    assert "in provoke" in text
    assert "KeyError" in text
    assert type(error).__name__ in text


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=8))
def test_no_text_gets_through(said: str) -> None:
    """Whatever an exception says."""
    begin = "Kanari" + said
    assert begin not in provoke(RuntimeError(begin))


def test_our_own_words_are_kept() -> None:
    """What we wrote ourselves, and what the system says, helps an operator."""
    assert "no connection to store" in provoke(Unavailable("no connection to store"))
    assert "No such file" in provoke(FileNotFoundError(2, "No such file", CANARY))
    assert wording(Refused("stale_owner", CANARY)) == "stale_owner"
    assert wording(ReplyError("NOPERM no")) == "NOPERM no"


def test_a_line_break_makes_no_second_line() -> None:
    """Somebody's value can't pretend to be a line of ours."""
    with logged() as text:
        logging.getLogger("canaries").warning("%s: refused", "acme\n2026-01-01 ERROR hub: forged")
    assert text.getvalue().count("\n") == 1


async def test_what_nobody_caught() -> None:
    """asyncio's own words quote arguments and results; ours name the kinds."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    root = logging.getLogger("hub.loop")
    text = io.StringIO()
    stream = logging.StreamHandler(text)
    stream.setFormatter(Discreet(FORMAT))
    root.addHandler(stream)
    try:
        watch(loop)
        loop.call_exception_handler(
            {"message": f"Exception in callback f('{CANARY}')", "exception": ValueError(CANARY), "handle": CANARY}
        )
    finally:
        loop.set_exception_handler(handler)
        root.removeHandler(stream)
    assert CANARY not in text.getvalue()
    assert "not caught: Exception in callback f (exception ValueError, handle str)" in text.getvalue()


def test_libraries_stay_quiet_at_any_level() -> None:
    """At the debug level websockets would write frames, and asyncio its handles with their arguments."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in QUIET}
    filters = logging.getLogger("asyncio").filters[:]
    try:
        configure("debug")
        assert all(not logging.getLogger(name).isEnabledFor(logging.INFO) for name in (*QUIET, "websockets.server"))
        assert logging.getLogger("hub.edge").isEnabledFor(logging.DEBUG)
        record = logging.LogRecord("asyncio", 30, "", 0, "Executing %s took %.3f seconds", (CANARY, 0.5), None)
        assert logging.getLogger("asyncio").filter(record)
        assert CANARY not in record.getMessage()
    finally:
        root.handlers, levels = kept[0], kept[2]
        root.setLevel(kept[1])
        logging.getLogger("asyncio").filters = filters
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
