"""Which adapter a connector has: one of the hub's own by name, or anybody's as `module:function`; and options in tables."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.channels.delivery import make_channels
from hub.channels.port import Renewing
from hub.channels.sms import Sms
from hub.settings import SettingsError, build

EXAMPLES = Path(__file__).parents[3] / "docs/examples"
TELEGRAM = """
[connectors.bot]
org = "acme"
adapter = "telegram_adapter:make"
token = "123456:a-token-for-tests"
webhook_secret = "a-secret-for-tests-only"
queue = "support"
"""
SMS = """
public_url = "https://hub.example.org"

[connectors.texts]
org = "acme"
adapter = "sms"
account_sid = "AC00000000000000000000000000000001"
auth_token = "a-token-for-tests-0123456789"

[connectors.texts.numbers]
"+15005550006" = "support"
"""


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example stands where Python finds modules, as an operator's file would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    sys.modules.pop("telegram_adapter", None)


def test_an_adapter_of_ones_own_is_one_file() -> None:
    """Named by its module and function; it gets its options and its place."""
    made = make_channels(build(TELEGRAM, "hub.toml", {}))["bot"]
    assert type(made.channel).__name__ == "Telegram"
    assert isinstance(made.channel, Renewing)


def test_an_option_may_be_a_table() -> None:
    """As text messages have their numbers."""
    channel = make_channels(build(SMS, "hub.toml", {}))["texts"].channel
    assert isinstance(channel, Sms)
    assert channel.account.numbers == {"+15005550006": "support"}
    assert channel.account.url == "https://hub.example.org/v1/channels/texts"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TELEGRAM.replace(":make", ""), "allowed: chatwoot, open, sms, or module:function"),
        (TELEGRAM.replace(":make", ":build"), "telegram_adapter has no build"),
        (TELEGRAM.replace("telegram_adapter", "no_such_adapter"), "no_such_adapter, which isn't installed"),
        (TELEGRAM.replace('queue = "support"', ""), "`queue` is missing"),
        (TELEGRAM + "colour = { sky = 1 }", "`colour` is a table; allowed"),
        (SMS.replace('"+15005550006"', '"15005550006"'), "`numbers` has '15005550006'"),
        (SMS.replace('public_url = "https://hub.example.org"', ""), "set `public_url`"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, words: str) -> None:
    """When the hub starts."""
    with pytest.raises(SettingsError) as wrong:
        make_channels(build(text, "hub.toml", {}))
    assert words in str(wrong.value)
    assert str(wrong.value).startswith("hub.toml line ")
