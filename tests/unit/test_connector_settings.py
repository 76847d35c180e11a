"""`[connectors.<sub>]`: what is read, what is refused with its line, and what is never shown."""

from pathlib import Path

import pytest

from hub.channels.delivery import make_channels
from hub.settings import Settings, SettingsError, build, describe

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
TABLE = f"""\
public_url = "https://hub.example.org/desk/"
[connectors.shop]
org = "acme"
adapter = "open"
url = "https://shop.example/hook"
secret = "{SECRET}"
allow_private = ["Mail.Internal:443"]
"""
WRONG = {
    "no organization": (TABLE.replace('org = "acme"\n', ""), "line 2", "`org` is missing"),
    "no adapter": (TABLE.replace('adapter = "open"\n', ""), "line 2", "`adapter` is missing"),
    "an adapter that isn't there": (
        TABLE.replace('"open"', '"fax"'),
        "line 2",
        "`adapter` is 'fax'; allowed: chatwoot, open",
    ),
    "an option of another type": (TABLE + "retries = 1979-05-27\n", "line 8", "`retries` is a date"),
    "an option that the adapter doesn't know": (
        TABLE + 'ulr = "x"\n',
        "line 8",
        "`ulr` is unknown; did you mean `url`?",
    ),
    "an option that it can't work with": (
        TABLE.replace("https://shop", "http://shop"),
        "line 5",
        "`url` begins with http",
    ),
    "an option that is missing": (TABLE.replace(f'secret = "{SECRET}"\n', ""), "line 2", "`secret` is missing"),
    "a secret twice": (TABLE + 'secret_file = "s"\n', "line 8", "`secret` and `secret_file` both stand there"),
    "no port to allow": (TABLE.replace("Internal:443", "Internal"), "line 7", "HOST:PORT"),
    "a name that is no id": (TABLE.replace("connectors.shop", 'connectors."a b"'), "line 2", "an id of 1 to 64"),
    "a public address that is none": ('public_url = "hub.example.org"', "line 1", "an address like https://"),
    "a call longer than its claim": (
        "[limits]\noutbound_timeout_ms = 30000",
        "line 2",
        "must be below outbound_claim_ms",
    ),
}


def read(text: str, files: dict[str, bytes] | None = None) -> Settings:
    """The settings that a text makes."""
    return build(text, "hub.toml", {}, read=lambda path: (files or {})[path.name])


def test_a_connector_is_read() -> None:
    """Its channel is made with the options, and with the address at which the provider reaches it."""
    settings = read(TABLE)
    [(name, made)] = make_channels(settings).items()
    assert (name, made.place.org, made.adapter) == ("shop", "acme", "open")
    assert made.place.url == "https://hub.example.org/desk/v1/channels/shop"
    assert made.allowed == ("mail.internal:443",)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    """With the file, the line, the key, and what is allowed; never with the secret."""
    text, line, words = WRONG[name]
    with pytest.raises(SettingsError) as caught:
        make_channels(read(text, {"s": SECRET.encode()}))
    assert f"hub.toml {line}" in str(caught.value)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_option_may_stand_in_a_file() -> None:
    """Any of them; white space at its ends doesn't count, and what is wrong with it names the line of the file's name."""
    text = TABLE.replace(f'secret = "{SECRET}"', 'secret_file = "shop.secret"')
    assert read(text, {"shop.secret": f" {SECRET}\n".encode()}).connectors == read(TABLE).connectors
    for content, words in ((b"", "is empty"), (b"\xff", "isn't text"), (b"whsec_AAAA", "has 3 bytes")):
        with pytest.raises(SettingsError, match=words) as caught:
            make_channels(read(text, {"shop.secret": content}))
        assert "line 6" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named, with the line that names it."""
    with pytest.raises(SettingsError, match=r"line 6: .*nowhere can't be read"):
        build(TABLE.replace(f'secret = "{SECRET}"', 'secret_file = "nowhere"'), str(tmp_path / "hub.toml"), {})


def test_options_are_never_shown() -> None:
    """Neither by `hub config show` nor by anything that prints the settings: a secret may stand under any name."""
    settings = read(TABLE)
    shown = {name: value for name, value, *_ in describe(settings)}
    assert (shown["connectors.shop.adapter"], shown["connectors.shop.secret"]) == ('"open"', "set")
    assert shown["connectors.shop.url"] == "set"
    for text in (repr(settings), repr(settings.connectors), str(shown), repr(make_channels(settings))):
        assert SECRET not in text
        assert "shop.example" not in text
