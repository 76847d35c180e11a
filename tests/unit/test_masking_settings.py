"""What may be configured about masking, and the engine of an installation's own patterns."""

import sys

import pytest

from hub.linear import PATTERN_CHARS_MAX, NoEngine, finder
from hub.service.masking import Maskers
from hub.settings import MaskingSettings, Settings, SettingsError, build, describe

CONFIG = """
[masking]
card = true
[[masking.patterns]]
name = "order"
pattern = "KD-[0-9]+"

[masking.queues.billing]
card = false
email = true

[masking.queues."vip"]
patterns = []
"""


def made(text: str) -> Settings:
    """Settings of a file."""
    return build(text, "hub.toml", {})


def test_nothing_is_masked_by_default() -> None:
    """Without the table, and with an empty one: every queue shows everything."""
    for text in ("", "[masking]"):
        assert made(text).masking == MaskingSettings()
        maskers = Maskers(made(text))
        assert not maskers.on
        assert maskers.of("support") is None
        assert maskers.row(b"as it is") == b"as it is"


def test_a_queue_says_otherwise_what_it_names() -> None:
    """What a queue's table leaves out is as everywhere."""
    settings = made(CONFIG)
    order = (("order", "KD-[0-9]+"),)
    assert settings.masking == MaskingSettings(card=True, patterns=order)
    assert settings.masking_queues == {
        "billing": MaskingSettings(email=True, patterns=order),
        "vip": MaskingSettings(card=True),
    }
    maskers = Maskers(settings)
    said = "4111111111111111 a@b.de KD-7"
    shown = {queue: masker.mask(said, 99) for queue in ("x", "billing", "vip") if (masker := maskers.of(queue))}
    assert shown == {
        "x": "[card ••••1111] a@b.de [order ••••]",
        "billing": "4111111111111111 [e-mail ••••] [order ••••]",
        "vip": "[card ••••1111] a@b.de KD-7",
    }


def test_one_queue_alone_may_be_masked() -> None:
    """Rows of the others come back as the same object."""
    maskers = Maskers(made("[masking.queues.vip]\ncard = true"))
    plain, vip = (b'{"queue":"%b","subject":"4111111111111111"}' % queue for queue in (b"support", b"vip"))
    assert maskers.on
    assert maskers.row(plain) is plain
    assert maskers.row(vip) == '{"queue":"vip","subject":"[card ••••1111]"}'.encode()


def test_it_is_described() -> None:
    """Every value stands in `hub config`, with where it came from."""
    shown = {name: (value, origin) for name, value, origin, _ in describe(made(CONFIG))}
    assert shown["masking.card"] == ("true", "hub.toml line 2")
    assert shown["masking.patterns"] == ('[["order", "KD-[0-9]+"]]', "hub.toml line 2")
    assert shown["masking.queues.billing.email"] == ("true", "hub.toml line 8")


OWN = '[masking]\n[[masking.patterns]]\nname = "order"\npattern = '
WRONG = {
    "no table": ("masking = true", "line 1", "[masking]"),
    "unknown kind": ("[masking]\ncards = true", "line 2", "did you mean `card`"),
    "no switch": ('[masking]\ncard = "yes"', "line 2", "true or false"),
    "queue's kind": ("[masking.queues.a]\n\niban = 1", "line 3", "true or false"),
    "queue's unknown": ("[masking.queues.a]\nqueues = {}", "line 2", "`queues`"),
    "queue id": ('[masking.queues."a b"]', "line 1", "an id"),
    "patterns no list": ('[masking]\npatterns = "x"', "line 2", "KD-[0-9]+"),
    "too many patterns": (f"[masking]\npatterns = [{'{}, ' * 65}]", "line 2", "at most 64"),
    "pattern without name": ('[masking]\npatterns = [{pattern = "x"}]', "line 2", "`name` is missing"),
    "pattern's name": ('[[masking.patterns]]\nname = "Order"\npattern = "x"', "line 2", "a-z"),
    "a name that is taken": ('[[masking.patterns]]\nname = "card"\npattern = "x"', "line 2", "built in"),
    "same name": (f"{OWN}'a'\n[[masking.patterns]]\nname = 'order'\npattern = 'b'", "line 2", "the same name"),
    "unbalanced": (f"{OWN}'('", "line 4", "missing )"),
    "look-ahead": (f"{OWN}'a(?=b)'", "line 4", "invalid perl operator"),
    "back-reference": (f"{OWN}'(a)\\1'", "line 4", "invalid escape sequence"),
    "empty match": (f"{OWN}'a*'", "line 4", "the empty text"),
    "too long": (f"{OWN}'{'a' * (PATTERN_CHARS_MAX + 1)}'", "line 4", "at most 1000 characters"),
    "too big": (f"{OWN}'((a{{100}}){{100}}){{100}}'", "line 4", "RE2 takes"),
}


@pytest.mark.parametrize(("text", "line", "hint"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_refused_at_the_start(text: str, line: str, hint: str) -> None:
    """The error names file and line, what was got, and what is allowed."""
    with pytest.raises(SettingsError) as refused:
        made(text)
    assert f"hub.toml {line}" in str(refused.value)
    assert hint in str(refused.value)


def test_patterns_need_their_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without RE2 the built-in kinds work, and patterns are refused with what to install."""
    monkeypatch.setitem(sys.modules, "re2", None)
    assert made("[masking]\ncard = true").masking.card
    with pytest.raises(NoEngine):
        finder("a")
    with pytest.raises(SettingsError, match=r"line 4: .*pip install 'supervision-hub\[masking\]'"):
        made(f"{OWN}'a'")


def test_a_finder_counts_characters() -> None:
    """Places are characters of the text, whatever their size in bytes."""
    assert list(finder("KD-[0-9]+")("ä😀 KD-1, é KD-22")) == [(3, 7), (11, 16)]


def test_a_pattern_that_ruins_others_engines_is_harmless() -> None:
    """`(a+)+$` over a long text that doesn't match: answered at once, nothing found."""
    assert list(finder("(a+)+$")("a" * 100_000 + "!")) == []
