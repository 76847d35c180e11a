"""`hub doctor` on what stands around a hub: files, keys, identity providers, connectors; and what helps."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.doctor import examine
from hub.domain.claims import IssuerRules
from hub.settings import FilesSettings, IssuerSettings, Settings, SettingsError, SignInSettings, build
from tests.support.bucket import bucket_settings
from tests.support.openid_provider import CLIENT, Provider
from tests.support.processes import SECRET, free_port

HUB = "https://hub.example.com"
CONNECTORS = """\
public_url = "https://hub.example.com"
[connectors.shop]
org = "acme"
adapter = "open"
url = "https://shop.example/hook"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

[connectors.phone]
org = "acme"
adapter = "sms"

[connectors.desk]
org = "acme"
adapter = "open"
url = "https://desk.example/hook"
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    """An identity provider."""
    with Provider() as made:
        yield made


async def found(tmp_path: Path, subject: str, **settings: Any) -> list[tuple[str, str]]:
    """(level, text) of what doctor says about one subject."""
    usual = Settings(data_dir=tmp_path / "data", token_secret=SECRET.encode())
    asked = dataclasses.replace(usual, **settings)
    return [(one.level, one.text) async for one in examine(asked) if one.subject == subject]


def signing_in(provider: Provider, **changed: Any) -> dict[str, Any]:
    """Settings of a hub that people sign in to with that provider."""
    discovery = f"{provider.issuer}/.well-known/openid-configuration"
    sign_in = SignInSettings(issuer=provider.issuer, client_id=CLIENT, public_url=HUB, discovery_url=discovery)
    issuer = IssuerSettings(provider.issuer, jwks_url=f"{provider.issuer}/keys", rules=IssuerRules("acme"))
    return {"issuers": (issuer,), "sign_in": dataclasses.replace(sign_in, **changed)}


# -- files


async def test_a_folder_for_files(tmp_path: Path) -> None:
    """A folder that isn't there yet will be made, one that can't be fails; without a choice of one's own that is a warning."""
    [fine] = await found(tmp_path, "files dir")
    assert fine == ("ok", f"{tmp_path / 'data' / 'files'} (will be made)")
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "files"
    [wrong] = await found(tmp_path, "files dir", files=FilesSettings(dir=below))
    assert wrong == ("fail", f"{below} can't be written: {tmp_path / 'file'} isn't a folder of ours")
    [unused] = await found(tmp_path, "files dir", data_dir=tmp_path / "file", redis_url=f"unix://{tmp_path}/none")
    assert unused[0] == "warn"
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    [everybodys] = await found(tmp_path, "files dir", files=FilesSettings(dir=tmp_path / "open"))
    assert everybodys[0] == "fail"
    assert "chmod 700" in everybodys[1]


async def test_room_for_files(tmp_path: Path) -> None:
    """Room for what an organization may keep is fine; less is a warning that names the quota, too little for one file fails."""
    [fine] = await found(tmp_path, "files room", files_org_bytes_max=1)
    assert fine[0] == "ok"
    [narrow] = await found(tmp_path, "files room", files_org_bytes_max=2**53 - 1)
    assert (narrow[0], "files_org_bytes_max" in narrow[1]) == ("warn", True)
    [full] = await found(tmp_path, "files room", file_bytes_max=2**53 - 1)
    assert (full[0], "file_bytes_max" in full[1]) == ("fail", True)


async def test_a_bucket(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers is fine, with room for what arrives; one that isn't there, or a server that is away, fails."""
    there = bucket_settings(s3_endpoint, monkeypatch)
    [fine] = await found(tmp_path, "bucket", files=there)
    assert fine == ("ok", f"files at {s3_endpoint} answers")
    [narrow] = await found(tmp_path, "files room", files=there, file_uploads_max=2**40)
    assert (narrow[0], "file_uploads_max" in narrow[1]) == ("warn", True)
    [missing] = await found(tmp_path, "bucket", files=dataclasses.replace(there, s3_bucket="elsewhere"))
    assert (missing[0], "elsewhere" in missing[1], "AWS_*" in missing[1]) == ("fail", True, True)
    monkeypatch.setattr("hub.surroundings.BUCKET_S", 0.2)  # its library asks again for half a minute
    away = dataclasses.replace(there, s3_endpoint=f"http://127.0.0.1:{free_port()}")
    [unreached] = await found(tmp_path, "bucket", files=away)
    assert (unreached[0], "no answer within 0.2 s" in unreached[1]) == ("fail", True)


async def test_a_scanner(tmp_path: Path) -> None:
    """A scanner that isn't installed fails, since no file would get through."""
    [missing] = await found(tmp_path, "scanner", files=FilesSettings(scan_command=("no-such-scanner",)))
    assert missing[0] == "fail"
    assert "no-such-scanner" in missing[1]
    assert await found(tmp_path, "scanner", files=FilesSettings(scan_command=("true",))) == [("ok", "true")]
    assert await found(tmp_path, "scanner") == []


# -- the ledger's key


async def test_the_ledgers_key(tmp_path: Path) -> None:
    """One's own is fine, and so is one made of the token secret; none fails and says how to make one."""
    [own] = await found(tmp_path, "ledger key", ledger_keys=(b"k" * 40, b"o" * 32))
    assert own == ("ok", "set, 40, 32 bytes (default)")
    [derived] = await found(tmp_path, "ledger key")
    assert (derived[0], "token secret" in derived[1]) == ("ok", True)
    [missing] = await found(tmp_path, "ledger key", token_secret=None)
    assert missing[0] == "fail"
    assert "export HUB_LEDGER_KEY=$(openssl rand -hex 32)" in missing[1]


def test_too_short_a_ledger_key() -> None:
    """It is refused with the settings, which doctor reports before anything else."""
    with pytest.raises(SettingsError, match="HUB_LEDGER_KEY: a ledger key has 5 bytes; at least 32"):
        build("", "hub.toml", {"HUB_LEDGER_KEY": "short"})


# -- who people are


async def test_issuers_keys(tmp_path: Path, provider: Provider) -> None:
    """Keys that can be had are counted; an issuer that is away, or has none that could be used, fails."""
    [plain, fine] = await found(tmp_path, "issuer", issuers=signing_in(provider)["issuers"])
    assert (plain[0], fine) == ("warn", ("ok", f"{provider.issuer}: 1 keys from {provider.issuer}/keys"))
    provider.keys = {}
    [_, none] = await found(tmp_path, "issuer", issuers=signing_in(provider)["issuers"])
    assert (none[0], "no key that could be used" in none[1]) == ("fail", True)
    provider.down = True
    [_, away] = await found(tmp_path, "issuer", issuers=signing_in(provider)["issuers"])
    assert (away[0], f"no keys from {provider.issuer}/keys" in away[1]) == ("fail", True)
    missing = IssuerSettings("https://id.example", jwks_file=tmp_path / "none.json", rules=IssuerRules("acme"))
    [unread] = await found(tmp_path, "issuer", issuers=(missing,))
    assert (unread[0], "none.json (FileNotFoundError)" in unread[1]) == ("fail", True)


async def test_signing_in(tmp_path: Path, provider: Provider) -> None:
    """A provider that answers is fine, with the redirect address to register there; another's document, or none, fails."""
    [fine] = await found(tmp_path, "sign-in", **signing_in(provider, client_secret=b"x"))
    assert fine[0] == "ok"
    assert fine[1].endswith(
        "with a secret; register there as redirect address https://hub.example.com/sign-in/callback"
    )
    provider.metadata = {"issuer": "https://somebody.else"}
    [foreign] = await found(tmp_path, "sign-in", **signing_in(provider))
    assert (foreign[0], "isn't configured as it ought to be" in foreign[1]) == ("fail", True)
    provider.down = True
    [away] = await found(tmp_path, "sign-in", **signing_in(provider))
    assert (away[0], "can't be reached" in away[1]) == ("fail", True)


# -- connectors and secrets


async def test_connectors_one_by_one(tmp_path: Path) -> None:
    """Each is looked at by itself: two that lack a secret or an option don't hide each other, nor the one that is fine."""
    settings = build(CONNECTORS, "hub.toml", {})
    asked = {"public_url": settings.public_url, "connectors": settings.connectors, "sources": settings.sources}
    fine, phone, desk = await found(tmp_path, "connector", **asked)
    assert fine == ("ok", "shop by open, reached at https://hub.example.com/v1/channels/shop")
    assert (phone[0], "[connectors.phone]" in phone[1], "is missing" in phone[1]) == ("fail", True, True)
    assert (desk[0], "[connectors.desk] `secret` is missing" in desk[1]) == ("fail", True)


async def test_who_may_read_secrets(tmp_path: Path) -> None:
    """Every file that a secret came from is looked at, whoever it is for; one that others may read fails."""
    files = {name: tmp_path / name for name in ("token", "ledger", "shop")}
    for path in files.values():
        path.write_text("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")
        path.chmod(0o600)
    files["shop"].chmod(0o640)
    config = 'token_secret_file = "token"\nledger_key_file = "ledger"\n'
    config += CONNECTORS.split("secret =", maxsplit=1)[0] + 'secret_file = "shop"\n'
    settings = build(config, str(tmp_path / "hub.toml"), {})
    said = {
        one.text.split()[0]: one.level
        async for one in examine(dataclasses.replace(settings, data_dir=tmp_path))
        if one.subject == "secret file"
    }
    assert said == {str(files["token"]): "ok", str(files["ledger"]): "ok", str(files["shop"]): "fail"}
