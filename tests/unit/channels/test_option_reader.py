"""Options of an adapter: what is refused, in which words, and what is never shown."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hub.channels.option_reader import Options
from hub.channels.port import BadOption, Option

GIVEN: Mapping[str, Option] = {"url": "https://x", "retries": 3, "on": True, "names": ["a", "b"], "key": "hush-hush"}
BAD: Mapping[str, tuple[Callable[[Options], Any], str]] = {
    "missing": (lambda options: options.text("from"), "`from` is missing"),
    "number for a text": (lambda options: options.text("retries"), "`retries` is 3; allowed: a printable text"),
    "text for a number": (lambda options: options.number("url"), "`url` is a text of 9 characters; allowed: a whole"),
    "boolean for a number": (lambda options: options.number("on"), "`on` is True; allowed: a whole number"),
    "too large": (
        lambda options: options.number("retries", most=2),
        "`retries` is 3; allowed: a whole number from 0 to 2",
    ),
    "number for a flag": (lambda options: options.flag("retries"), "`retries` is 3; allowed: true or false"),
    "text for texts": (
        lambda options: options.texts("url"),
        "`url` is a text of 9 characters; allowed: a list of texts",
    ),
    "short secret": (lambda options: options.secret("key", bytes_min=16), "`key` has 9 bytes; allowed: at least 16"),
    "secret that is none": (lambda options: options.secret("retries"), "`retries` isn't a printable text"),
    "unknown": (
        lambda options: [options.text("ur", ""), *map(Options.done, [options])],
        "`url` is unknown; did you mean `ur`?; allowed: ur",
    ),
}


def test_what_is_right_is_read() -> None:
    """Each kind, and defaults where a key isn't there."""
    options = Options(GIVEN)
    assert (options.text("url"), options.number("retries"), options.flag("on")) == ("https://x", 3, True)
    assert (options.texts("names"), options.secret("key")) == (("a", "b"), "hush-hush")
    assert (options.text("more", "x"), options.number("many", 7), options.flag("off", False)) == ("x", 7, False)
    assert (options.texts("none", ()), options.secret("old", "")) == ((), "")
    options.done()


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    """Key, what was got, what is allowed; never the text itself, which may be a secret in the wrong place."""
    read, wanted = BAD[name]
    with pytest.raises(BadOption) as caught:
        read(Options(GIVEN))
    assert wanted in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "https" not in str(caught.value)
