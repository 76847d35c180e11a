"""Explanations of what couldn't be read."""

import math
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from hub.protocol.explain import NESTING_MAX, TOO_DEEP, explain, flatten, invalid, printable, read_leniently
from hub.protocol.fields import Id, Label, Text


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """Something nested, with a check of its own."""

    ids: list[Id] = []
    named: dict[Id, int] = {}

    def __post_init__(self) -> None:
        """Refuse many ids."""
        if len(self.ids) > 1:
            raise ValueError("`ids`: Expected one, got more")


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """A sample of field kinds."""

    inner: Inner
    count: int = 0
    label: Label | None = None
    odd: Annotated[str, Meta(pattern="^x$")] = "x"

    def __post_init__(self) -> None:
        """Refuse 13."""
        if self.count == 13:
            raise ValueError("unlucky")


def explained(raw: bytes) -> tuple[object, str]:
    """Path and message for a body that `Outer` doesn't accept."""
    with pytest.raises((msgspec.MsgspecError, UnicodeError, RecursionError)) as caught:
        msgspec.json.decode(raw, type=Outer)
    refused = explain(caught.value)
    assert refused.code == "schema_invalid"
    return refused.details["path"], refused.message


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        (b"{}", "inner", "Expected the field `inner`, got none."),
        (b'{"inner":{},"x":1}', "x", "Expected only known fields, got `x`."),
        (b'{"inner":{"y":1}}', "inner.y", "Expected only known fields, got `y`."),
        (b'{"inner":{"a\\n`b":1}}', "inner.a?`b", "Expected only known fields, got `a?`b`."),
        (b'{"inner":{},"count":"3"}', "count", "At `count`: Expected `int`, got `str`."),
        (b'{"inner":[]}', "inner", "At `inner`: Expected `object`, got `array`."),
        (b'{"inner":{"ids":["a","b"]}}', "inner.ids", "At `inner.ids`: Expected one, got more."),
        (b'{"inner":{},"count":13}', "$", "At `$`: unlucky."),
        (b'{"inner":{},"odd":"y"}', "odd", "At `odd`: Expected a string matching ^x$, got something else."),
        (b"[]", "$", "At `$`: Expected `object`, got `array`."),
        (b"[", "$", "At `$`: Expected `object`, got `array`."),
    ],
)
def test_a_sentence_says_what_was_wanted_and_where(raw: bytes, path: str, message: str) -> None:
    """Path and sentence, from the typed decoder's own words."""
    assert explained(raw) == (path, message)


@pytest.mark.parametrize(
    ("raw", "path", "words"),
    [
        (b'{"inner":{"ids":["a b"]}}', "inner.ids[0]", "an id (1 to 64"),
        (b'{"inner":{"named":{"a b":1}}}', "inner.named", "an id (1 to 64"),
        (b'{"inner":{"named":{"a":"b"}}}', "inner.named[...]", "`int`, got `str`"),
        (b'{"inner":{},"label":"a\\nb"}', "label", "one line of text without control characters"),
    ],
)
def test_patterns_are_told_in_words(raw: bytes, path: str, words: str) -> None:
    """Nobody has to read a regular expression."""
    got, message = explained(raw)
    assert got == path
    assert words in message


@pytest.mark.parametrize("raw", [b'{"inner":{},"label":"\\ud800"}', b'{"inner":{},"label":"\xff"}'])
def test_broken_characters_are_named(raw: bytes) -> None:
    """Half a surrogate pair and broken UTF-8 read the same to the sender."""
    assert explained(raw) == ("$", "Expected text of whole Unicode characters, got a broken one (half a pair).")


def test_recursion_is_named() -> None:
    """What nests too deeply for the interpreter is refused like everything else."""
    refused = explain(RecursionError())
    assert (refused.details["path"], "too deeply" in refused.message) == ("$", True)


def test_a_refusal_has_its_path() -> None:
    """`invalid` is the short form."""
    refused = invalid("a.b", "No.")
    assert (refused.code, refused.message, refused.details) == ("schema_invalid", "No.", {"path": "a.b"})


def test_names_are_shortened_and_cleaned() -> None:
    """What a stranger sent can be put in a message."""
    assert printable("a\x1b\n" + "b" * 100) == "a??" + "b" * 61


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "-Infinity", "{'a':1}", '{"a":1,}', '"\x01"'])
def test_lenient_reading_still_wants_json(text: str) -> None:
    """Python's own extensions of JSON aren't JSON."""
    with pytest.raises(ValueError, match=r"."):
        read_leniently(text)


def test_lenient_reading_takes_large_numbers() -> None:
    """Integers beyond reason come back as floats instead of costing time or raising."""
    assert read_leniently("9" * 20) == int("9" * 20)
    assert read_leniently("1" + "0" * 21) == 1e21
    assert read_leniently("9" * 5000) == math.inf


def test_lenient_reading_takes_any_depth() -> None:
    """The members beside a deep one can be read."""
    value: Any = read_leniently('{"a":' + "[" * 100_000 + "]" * 100_000 + ',"id":7}')
    assert value["id"] == 7


def test_flattening_cuts_what_is_too_deep() -> None:
    """Up to the bound nothing changes; brackets in strings don't count."""
    fits = "[" * NESTING_MAX + "1" + "]" * NESTING_MAX
    assert flatten(fits) == fits
    assert flatten(f"[{fits},2]") == "[" * NESTING_MAX + TOO_DEEP + "]" * (NESTING_MAX - 1) + ",2]"
    brackets = '["' + "[{" * 200 + '\\""]'
    assert flatten(brackets) == brackets


def test_flattening_keeps_what_is_broken_broken() -> None:
    """Brackets that don't match end somewhere, without an error."""
    assert flatten("[" * 200).count("[") == NESTING_MAX
    assert flatten("]]]{") == "]]]{"


def test_too_deep_parts_fit_no_field() -> None:
    """What stands for a part that is too deep is refused by every typed field."""
    for kind in (str, Text, Id, int):
        with pytest.raises((msgspec.MsgspecError, UnicodeError)):
            msgspec.json.decode(TOO_DEEP.encode(), type=kind)


@given(st.text('[]{}"\\a,:1 \n'))
def test_flattening_never_raises(text: str) -> None:
    """Any text can be flattened, and never grows deeper than the bound."""
    flatten(text)
