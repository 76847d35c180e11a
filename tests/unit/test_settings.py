"""Settings: four layers, and errors that a person can act on."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from hub import settings as module
from hub.domain.claims import ClaimNames, Grant, IssuerRules
from hub.settings import (
    LIMITS,
    TOP_LEVEL,
    ChannelSettings,
    IssuerSettings,
    Settings,
    SettingsError,
    SignInSettings,
    build,
    describe,
    load,
    parse_address,
    parse_duration_ms,
    unknown_variables,
)

SECRET = "0123456789abcdef0123456789abcdef"
FULL = """
host = "0.0.0.0"
port = 9000
origins = ["https://Desk.example.com"]
token_secret_file = "secret"

[limits]
tick_ms = 0
drain_ms = 5_000

[queues.support]
name = "Support"
division = "home"
wrapup_prompt = "mandatory"
wrapup_timeout_ms = 30000
wrapup_codes = ["resolved", "follow-up"]

[queues."a.b"]

[channels.web]
agent_name_visible = true

[people.ana]
name = "Ana Ortiz"
org = "acme"
role = "supervisor"
permissions = ["view", "monitor"]
queues = ["*"]
divisions = ["home"]

[[issuers]]
issuer = "https://login.example.com/"
jwks_url = "https://login.example.com/keys"
audience = "api://hub"
org = "acme"
roles = ["supervisor", "agent"]

[issuers.claims]
sub = "oid"
name = ["profile", "display name"]

[[issuers.grants]]
claim = "groups"
value = "cc-supervisors"
role = "supervisor"
permissions = ["view", "monitor"]
queues = ["*"]
divisions = ["home"]

[[issuers.grants]]
claim = ["realm_access", "roles"]
value = "senior"
permissions = ["takeover"]

[[issuers]]
issuer = "https://other.example.com/"
jwks_file = "keys.json"
organizations = ["acme", "other"]
"""


def full(env: dict[str, str] | None = None, flags: dict[str, str | None] | None = None) -> Settings:
    """Settings of the whole file, as if it stood in /etc/hub."""
    return build(FULL, "/etc/hub/hub.toml", env or {}, flags, read=lambda path: SECRET.encode() + b"\n")


def error(text: str, env: dict[str, str] | None = None, flags: dict[str, str | None] | None = None) -> str:
    """The message of the refusal."""
    with pytest.raises(SettingsError) as refused:
        build(text, "hub.toml", env or {}, flags)
    return str(refused.value)


def test_defaults() -> None:
    """Without anything, every field has its default and says so."""
    made = build("", "hub.toml", {})
    assert made == Settings()
    assert {made.source(field.name) for field in dataclasses.fields(made)} == {"default"}
    assert (made.host, made.port, made.metrics_address) == ("127.0.0.1", 8000, ("127.0.0.1", 9464))
    assert made.data_dir == Path(".hub")


def test_file() -> None:
    """All that a file can say is read, and each value knows its line."""
    made = full()
    assert (made.host, made.port, made.tick_ms, made.drain_ms) == ("0.0.0.0", 9000, 0, 5000)
    assert made.origins == ("https://desk.example.com",)
    assert made.token_secret == SECRET.encode()
    support = made.queues["support"]
    assert (support.wrapup_prompt, support.wrapup_codes) == ("mandatory", ("resolved", "follow-up"))
    assert made.channels == {"web": ChannelSettings(agent_name_visible=True)}
    assert made.people["ana"].sub == "ana"
    assert made.people["ana"].permissions == ("view", "monitor")
    assert made.issuers[1] == IssuerSettings(
        "https://other.example.com/",
        jwks_file=Path("/etc/hub/keys.json"),
        rules=IssuerRules(organizations=frozenset({"acme", "other"})),
    )
    assert (made.issuers[0].audience, made.issuers[0].rules.org) == ("api://hub", "acme")
    assert made.issuers[0].rules.roles == {"supervisor", "agent"}
    assert made.issuers[0].rules.claims == ClaimNames(sub=("oid",), name=("profile", "display name"))
    assert made.issuers[0].rules.grants == (
        Grant(
            claim=("groups",),
            value="cc-supervisors",
            role="supervisor",
            permissions=frozenset({"view", "monitor"}),
            queues=frozenset({"*"}),
            divisions=frozenset({"home"}),
        ),
        Grant(claim=("realm_access", "roles"), value="senior", permissions=frozenset({"takeover"})),
    )
    assert made.source("port") == "/etc/hub/hub.toml line 3"
    assert made.source("tick_ms") == "/etc/hub/hub.toml line 8"
    assert made.source("queues.a.b") == "/etc/hub/hub.toml line 18"
    assert made.source("token_secret") == "/etc/hub/hub.toml line 5 (/etc/hub/secret)"


def test_layers() -> None:
    """Flags win over variables, those over the file, that over the defaults."""
    made = full({"HUB_PORT": "9001", "HUB_TICK_MS": "50", "HUB_TOKEN_SECRET": SECRET.upper()}, {"port": "9002"})
    assert (made.host, made.port, made.tick_ms) == ("0.0.0.0", 9002, 50)
    assert made.token_secret == SECRET.upper().encode()
    assert made.source("port") == "--port"
    assert made.source("tick_ms") == "HUB_TICK_MS"
    assert made.source("token_secret") == "HUB_TOKEN_SECRET"


def test_flags_left_out() -> None:
    """A flag that wasn't typed changes nothing."""
    assert build("", "hub.toml", {}, {"port": None, "redis_url": None}) == Settings()


def test_variables_of_every_kind() -> None:
    """Numbers, lists, folders and addresses can be given as variables; an empty address means none."""
    env = {"HUB_ORIGINS": "https://a.example, https://b.example:8443", "HUB_DATA_DIR": "/var/lib/hub"}
    made = build("", "hub.toml", env | {"HUB_REDIS_URL": "", "HUB_METRICS_LISTEN": "", "HUB_PORT": "0"})
    assert made.origins == ("https://a.example", "https://b.example:8443")
    assert made.data_dir == Path("/var/lib/hub")
    assert made.redis_url is None
    assert made.metrics_address is None
    assert made.port == 0


@pytest.mark.parametrize("scheme", module.STORE_SCHEMES)
def test_store_addresses(scheme: str) -> None:
    """Each kind of store address is taken."""
    assert build("", "hub.toml", {"HUB_REDIS_URL": f"{scheme}://a:1"}).redis_url == f"{scheme}://a:1"


WITHOUT_ORIGINS = FULL.replace('origins = ["https://Desk.example.com"]', "")
TOP = 'public_url = "https://hub.example.com"\n'
SIGN_IN = """
[sign_in]
issuer = "https://login.example.com/"
client_id = "hub-console"
"""


def test_signing_in() -> None:
    """What a file says of signing in is read; the secret comes from a file beside it or from the environment."""
    made = build(TOP + WITHOUT_ORIGINS + SIGN_IN, "/etc/hub/hub.toml", {}, read=lambda path: SECRET.encode()).sign_in
    assert made == SignInSettings(
        issuer="https://login.example.com/",
        client_id="hub-console",
        public_url="https://hub.example.com",
        discovery_url="https://login.example.com/.well-known/openid-configuration",
    )
    assert made.secure
    assert made.scopes == ("openid", "profile")
    files = {Path("/etc/hub/secret"): SECRET.encode(), Path("/etc/hub/client"): b"from-file\n"}
    more = SIGN_IN + 'client_secret_file = "client"\nscopes = ["openid", "groups"]\ndiscovery_url = "https://d/x"\n'
    by_file = build(TOP + WITHOUT_ORIGINS + more, "/etc/hub/hub.toml", {}, read=files.__getitem__)
    assert by_file.sign_in is not None
    assert (by_file.sign_in.client_secret, by_file.sign_in.scopes) == (b"from-file", ("openid", "groups"))
    assert by_file.sign_in.discovery_url == "https://d/x"
    env = {"HUB_SIGN_IN_SECRET": "from-environment"}
    by_env = build(TOP + WITHOUT_ORIGINS + more, "/etc/hub/hub.toml", env, read=files.__getitem__)
    assert by_env.sign_in is not None
    assert by_env.sign_in.client_secret == b"from-environment"
    assert not unknown_variables(env)
    shown = "\n".join(map(str, describe(by_env)))
    assert "hub-console" in shown
    assert "sign_in.public_url" not in shown, "it stands at the top, and is shown there"
    assert "from-environment" not in shown + repr(by_env)


WRONG_SIGN_IN = {
    "no table": ("sign_in = 1", "a table"),
    "unknown key": ('[sign_in]\nclient = "a"', "unknown key `client`"),
    "secret in the file": ('[sign_in]\nclient_secret = "s"', "client_secret_file"),
    "no issuer": ("[sign_in]", "`issuer` is missing"),
    "another issuer": ('[sign_in]\nissuer = "https://b"', "one of [[issuers]]: https://a"),
    "no client": ('[sign_in]\nissuer = "https://a"', "`client_id` is missing"),
    "the address where it stood before": (
        '[sign_in]\npublic_url = "https://c"',
        "`public_url` belongs to the top of the file, before the first [table]",
    ),
    "no address": (
        '[sign_in]\nissuer = "https://a"\nclient_id = "b"',
        "`public_url` is missing at the top of the file",
    ),
    "scopes without openid": (
        '[sign_in]\nissuer = "https://a"\nclient_id = "b"\nscopes = ["profile"]',
        "one of them openid",
    ),
    "a scope of two words": (
        '[sign_in]\nissuer = "https://a"\nclient_id = "b"\nscopes = ["openid", "a b"]',
        "words",
    ),
    "discovery elsewhere": (
        '[sign_in]\nissuer = "https://a"\nclient_id = "b"\ndiscovery_url = "file:///x"',
        "https://",
    ),
    "secret's file gone": (
        '[sign_in]\nissuer = "https://a"\nclient_id = "b"\nclient_secret_file = "gone"',
        "gone",
    ),
}


@pytest.mark.parametrize(("text", "hint"), WRONG_SIGN_IN.values(), ids=WRONG_SIGN_IN.keys())
def test_errors_of_signing_in(text: str, hint: str) -> None:
    """What is wrong with signing in is named with its line; the last line of each of these."""
    issuer = '[[issuers]]\nissuer = "https://a"\njwks_file = "a"\norg = "a"\n'
    whole = f"{text}\n{issuer}" if text.startswith("sign_in =") else issuer + text
    message = error(whole, {} if "missing at the top" in hint else {"HUB_PUBLIC_URL": "https://c"})
    missing = "missing" in hint
    line = whole.splitlines().index("[sign_in]") + 1 if missing else len(whole.splitlines())
    assert f"hub.toml line {1 if text.startswith('sign_in =') else line}" in message
    assert hint in message


@pytest.mark.parametrize("content", [b"", b"\n", "sécret".encode(), b"\xff", b"a\nb"])
def test_client_secrets_that_cannot_be_shown(content: bytes) -> None:
    """A client's secret is printable ASCII, as RFC 6749 has it; it isn't repeated in the message."""
    text = TOP + WITHOUT_ORIGINS + SIGN_IN + 'client_secret_file = "client"\n'
    files = {Path("secret"): SECRET.encode(), Path("client"): content}
    with pytest.raises(SettingsError, match="ASCII's printable ones") as refused:
        build(text, "hub.toml", {}, read=files.__getitem__)
    assert "cret'" not in str(refused.value)


def test_an_own_origin_that_may_not_connect() -> None:
    """Where origins are listed, the one that people sign in at must be among them, or their pages would be refused."""
    message = error(TOP + FULL.replace("token_secret_file = ", "# ") + SIGN_IN)
    assert message.startswith("hub.toml line 1: the pages of public_url 'https://hub.example.com' couldn't connect")
    assert "origins (hub.toml line 5)" in message


@pytest.mark.parametrize("url", ["http://localhost", "http://127.0.0.1:8000", "http://[::1]:8000", "https://a.b:8443"])
def test_public_urls(url: str) -> None:
    """Origins as browsers write them; without https only of this machine."""
    made = build(
        TOP.replace("https://hub.example.com", url) + WITHOUT_ORIGINS + SIGN_IN,
        "hub.toml",
        {},
        read=lambda path: SECRET.encode(),
    )
    assert made.sign_in is not None
    assert made.sign_in.public_url == made.public_url == url


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://hub.example.com/desk", "an origin like"),
        ("https://HUB.example.com", "an origin like"),
        ("https://hub.example.com:443", "an origin like"),
        ("http://hub.example.com", "http:// of this very machine"),
        ("http://localhost:80", "an origin like"),
    ],
)
def test_public_urls_that_browsers_would_write_otherwise(url: str, wanted: str) -> None:
    """Whoever signs people in must name the origin as browsers do, wherever it is said; for providers alone it may differ."""
    text = WITHOUT_ORIGINS.replace("token_secret_file = ", "# ")
    in_file = error(TOP.replace("https://hub.example.com", url) + text + SIGN_IN)
    assert in_file.startswith(f"hub.toml line 1: `public_url` is '{url}'; allowed: with [sign_in] ")
    assert wanted in in_file
    assert error(text + SIGN_IN, {"HUB_PUBLIC_URL": url}).startswith("HUB_PUBLIC_URL: `public_url`")
    assert build(text, "hub.toml", {"HUB_PUBLIC_URL": url}).public_url == url


def test_the_public_url_of_the_environment_signs_in() -> None:
    """It is one setting: the variable, or another line of the file, is the address that people sign in at."""
    made = build(
        WITHOUT_ORIGINS.replace("token_secret_file = ", "# ") + SIGN_IN, "hub.toml", {"HUB_PUBLIC_URL": "https://a.b/"}
    )
    assert made.sign_in is not None
    assert made.sign_in.public_url == "https://a.b"


WRONG = {
    "unknown key": ("prot = 1", "line 1", "did you mean `port`"),
    "unknown limit": ("[limits]\ntik_ms = 1", "line 2", "did you mean `tick_ms`"),
    "unknown key of a queue": ('[queues.a]\nnme = "A"', "line 2", "`name`"),
    "limit at the top": ("tick_ms = 1", "line 1", "belongs under [limits]"),
    "top key among limits": ("[limits]\n\nport = 1", "line 3", "top of the file"),
    "secret in the file": (f'token_secret = "{SECRET}"', "line 1", "token_secret_file"),
    "text for a number": ('port = "80"', "line 1", "'80'; allowed: a whole number from 0 to 65535"),
    "boolean for a number": ("[limits]\ntick_ms = true", "line 2", "True"),
    "fraction": ("[limits]\ntick_ms = 1.5", "line 2", "1.5"),
    "negative": ("[limits]\ntick_ms = -1", "line 2", "from 0"),
    "zero where it means nothing": ("[limits]\nlease_ms = 0", "line 2", "from 1"),
    "port too high": ("port = 65536", "line 1", "65535"),
    "number for a text": ("host = 1", "line 1", "text"),
    "host of two words": ('host = "a b"', "line 1", "IP address"),
    "metrics without a port": ('metrics_listen = "localhost"', "line 1", "HOST:PORT"),
    "store of another kind": ('redis_url = "http://a"', "line 1", "rediss://"),
    "key prefix with a brace": ('key_prefix = "{hub}"', "line 1", "1 to 32"),
    "loop": ('loop_engine = "trio"', "line 1", "auto, asyncio, uvloop"),
    "origin with a path": ('origins = ["https://a/b"]', "line 1", "without a path"),
    "origins a text": ('origins = "https://a"', "line 1", "a list of texts"),
    "empty folder": ('data_dir = ""', "line 1", "a folder"),
    "limits no table": ("limits = 1", "line 1", "[limits]"),
    "queues no table": ("queues = []", "line 1", "[queues]"),
    "queue no table": ("[queues]\na = 1", "line 2", "[queues.a]"),
    "queue id": ('[queues."a b"]', "line 1", "an id"),
    "prompt": ('[queues.a]\nwrapup_prompt = "always"', "line 2", "none, optional, mandatory, timeout"),
    "prompt a list": ('[queues.a]\nwrapup_prompt = ["none"]', "line 2", "none, optional"),
    "wrap-up time-out": ("[queues.a]\nwrapup_timeout_ms = 0", "line 2", "from 1"),
    "wrap-up codes": ("[queues.a]\nwrapup_codes = [1]", "line 2", "a list of texts"),
    "second queue": ('[queues.a]\nname = "A"\n[queues.b]\nname = 1', "line 4", "`name`"),
    "division": ('[queues.a]\ndivision = "a b"', "line 2", "an id"),
    "channel": ("[channels.fax]", "line 1", "open, sms, web"),
    "channel's switch": ('[channels.web]\nagent_name_visible = "yes"', "line 2", "true or false"),
    "person without role": ('[people.ana]\norg = "acme"', "line 1", "`role` is missing"),
    "person's role": ('[people.ana]\norg = "acme"\nrole = "boss"', "line 3", "supervisor"),
    "person's permission": ('[people.ana]\norg = "a"\nrole = "agent"\npermissions = ["fly"]', "line 4", "monitor"),
    "person's queues": ('[people.ana]\norg = "a"\nrole = "agent"\nqueues = ["a b"]', "line 4", "`*`"),
    "issuers no tables": ("issuers = 1", "line 1", "[[issuers]]"),
    "issuer without keys": ('[[issuers]]\nissuer = "a"', "line 1", "either jwks_url or jwks_file"),
    "second issuer": (
        '[[issuers]]\nissuer = "a"\njwks_file = "a"\norg = "a"\n[[issuers]]\nissuer = "b"\norg = "b"\njwks_url = "ftp://b"',
        "line 8",
        "https://",
    ),
    "issuer twice": (
        '[[issuers]]\nissuer = "a"\njwks_file = "a"\norg = "a"\n[[issuers]]\nissuer = "a"\njwks_file = "b"\norg = "a"',
        "line 1",
        "twice",
    ),
    **{
        f"issuer: {name}": (f'[[issuers]]\nissuer = "a"\njwks_file = "a"\n{text}', line, wanted)
        for name, (text, line, wanted) in {
            "for nobody": ("", "line 1", "needs either `org`"),
            "for one and many": ('org = "a"\norganizations = ["b"]', "line 1", "needs either `org`"),
            "for an empty list": ("organizations = []", "line 4", "ids, or"),
            "for no id": ('organizations = ["a b"]', "line 4", "'a b'"),
            "org no id": ('org = "a/b"', "line 4", "an id"),
            "unknown key": ('org = "a"\naudiences = "b"', "line 5", "did you mean `audience`"),
            "unknown role": ('org = "a"\nroles = ["root"]', "line 5", "'root'; allowed: admin, agent"),
            "no roles": ('org = "a"\nroles = []', "line 5", "supervisor"),
            "claims no table": ('org = "a"\nclaims = 1', "line 5", "a table"),
            "unknown claim": ('org = "a"\n[issuers.claims]\nsubj = "b"', "line 6", "did you mean `sub`"),
            "claim a number": ('org = "a"\n[issuers.claims]\nsub = 1', "line 6", "the name of a claim"),
            "claim an empty list": ('org = "a"\n[issuers.claims]\n\nsub = []', "line 7", "the name of a claim"),
            "fixed and read": ('org = "a"\n[issuers.claims]\norg = "tid"', "line 6", "fixed `org`"),
            "grants no tables": ('org = "a"\ngrants = 1', "line 5", "[[issuers.grants]]"),
            "grant without a claim": ('org = "a"\n[[issuers.grants]]\nvalue = "b"', "line 5", "`claim` is missing"),
            "grant of nothing": ('org = "a"\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"', "line 5", "one of role"),
            "grant without a value": (
                'org = "a"\n[[issuers.grants]]\nclaim = "b"\nrole = "agent"',
                "line 5",
                "`value` is missing",
            ),
            "grant's unknown role": (
                'org = "a"\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"\nrole = "boss"',
                "line 8",
                "'boss'",
            ),
            "grant's unknown permission": (
                'org = "a"\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"\nrole = "agent"\npermissions = ["fly"]',
                "line 9",
                "'fly'",
            ),
            "second grant's wrong queue": (
                'org = "a"\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"\nrole = "agent"\n'
                '[[issuers.grants]]\nclaim = "b"\nvalue = "d"\nqueues = ["a b"]',
                "line 12",
                "'a b'",
            ),
            "grant beyond the issuer's roles": (
                'org = "a"\nroles = ["agent"]\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"\nrole = "admin"',
                "line 9",
                "one of the issuer's roles: agent",
            ),
            "role by claim and grant": (
                'org = "a"\n[issuers.claims]\nrole = "r"\n[[issuers.grants]]\nclaim = "b"\nvalue = "c"\nrole = "agent"',
                "line 6",
                "comes from the grants",
            ),
        }.items()
    },
    "issuer hub": ('[[issuers]]\nissuer = "hub"\njwks_file = "a"', "line 2", "the hub's own secret"),
    "not TOML": ("port = 1\nhost =", "line 2", "not TOML"),
    "not TOML at the end": ('port = 1\nhost = """', "line 2", "not TOML"),
    "key twice": ("port = 1\nport = 2", "line 2", "not TOML"),
    "inline table": ('people = {ana = {role = "boss", org = "a"}}', "line 1", "supervisor"),
    "dotted key": ("limits.tick_ms = -1", "line 1", "from 0"),
    "quoted key": ('[limits]\n"tick_ms" = -1', "line 2", "from 0"),
    "below a long value": ('origins = [\n  "https://a",\n]\nport = -1', "line 4", "from 0"),
    "lease shorter than its renewal": ("[limits]\nlease_ms = 5000", "line 2", "must be below"),
}


@pytest.mark.parametrize(("text", "line", "hint"), WRONG.values(), ids=WRONG.keys())
def test_errors_of_the_file(text: str, line: str, hint: str) -> None:
    """A wrong key or value names file and line, and what is allowed."""
    message = error(text)
    assert f"hub.toml {line}" in message
    assert hint in message


def test_errors_of_variables_and_flags() -> None:
    """A wrong variable or flag is named as it was typed."""
    assert error("", {"HUB_PORT": "tcp://10.0.0.1:80"}).startswith("HUB_PORT: `port` is 'tcp://10.0.0.1:80'; allowed:")
    assert error("", {}, {"metrics_listen": "x"}).startswith("--metrics-listen: ")
    assert error("", {}, {"port": "1e3"}).startswith("--port: ")
    assert error("", {"HUB_ORIGINS": "nowhere"}).startswith("HUB_ORIGINS: ")


def test_passwords_are_not_shown() -> None:
    """A store's password stands neither in an error nor in the printed configuration."""
    assert "hunter2" not in error("", {"HUB_REDIS_URL": "http://u:hunter2@a"})
    made = build("", "hub.toml", {"HUB_REDIS_URL": "redis://u:hunter2@a:1/0", "HUB_TOKEN_SECRET": SECRET})
    printed = repr(list(describe(made))) + repr(made)
    assert "hunter2" not in printed
    assert SECRET not in printed


@pytest.mark.parametrize("length", [1, 31])
def test_short_secret(length: int) -> None:
    """A secret below 32 bytes is refused, unseen, with the way to make one."""
    message = error("", {"HUB_TOKEN_SECRET": "s" * length})
    assert f"has {length} byte" in message
    assert "openssl rand -hex 32" in message
    assert "ss" not in message.replace("openssl", "")


def test_secret_file_that_is_missing(tmp_path: Path) -> None:
    """A secret file that can't be read is named with the line that names it."""
    config = tmp_path / "hub.toml"
    config.write_text('token_secret_file = "nothing"')
    with pytest.raises(SettingsError, match=r"hub\.toml line 1: .*nothing can't be read"):
        load(config=config, env={})


def test_identity_is_required() -> None:
    """Without secret and issuers nobody could connect: refused with the way to make a secret."""
    with pytest.raises(SettingsError, match=r"export HUB_TOKEN_SECRET=\$\(openssl rand -hex 32\)"):
        Settings().require_identity()
    Settings(token_secret=SECRET.encode()).require_identity()
    Settings(issuers=(IssuerSettings("a", jwks_url="https://a"),)).require_identity()


def test_queues_that_are_not_configured() -> None:
    """Such a queue has its id as name, the event's division, and asks no wrap-up."""
    made = full()
    unknown = made.queue("sales", "east")
    assert (unknown.name, unknown.division, unknown.wrapup_prompt) == ("sales", "east", "none")
    assert made.queue("sales").division == "home"
    assert made.queue("a.b", "east").division == "east"
    assert made.queue("support", "east").division == "home"


def test_visible_names() -> None:
    """Names are shown where the channel's configuration says so."""
    assert full().name_visible("web")
    assert not full().name_visible("sms")


def test_finding_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag's file wins over the variable's, that over `hub.toml` in the current folder."""
    for number, name in enumerate(["flag.toml", "variable.toml", "hub.toml"], start=1):
        (tmp_path / name).write_text(f"port = {number}")
    monkeypatch.chdir(tmp_path)
    env = {"HUB_CONFIG": "variable.toml"}
    assert load(config=Path("flag.toml"), env=env).port == 1
    assert load(env=env).port == 2
    assert load(env={}).port == 3
    with pytest.raises(SettingsError, match=r"gone\.toml can't be read"):
        load(config=Path("gone.toml"), env={})


def test_unknown_variables() -> None:
    """A mistyped variable is told, with what it may have been; those of the programs aren't."""
    warned = unknown_variables({"HUB_PROT": "1", "HUB_URL": "u", "HUB_TICK_MS": "1", "PATH": os.defpath})
    assert warned == ["HUB_PROT is not a setting; did you mean `HUB_PORT`?"]


def test_every_field_is_documented() -> None:
    """Each field says what it means; each limit is a number whose name ends in its unit or bound."""
    for field in dataclasses.fields(Settings):
        if field.name in {*TOP_LEVEL, *LIMITS}:
            assert field.metadata["meaning"]
    assert all(isinstance(getattr(Settings(), name), int) for name in LIMITS)


def test_describe_shows_everything() -> None:
    """Each value stands there once with its origin."""
    rows = list(describe(full({"HUB_TICK_MS": "5"})))
    shown = {name: (value, origin) for name, value, origin, _ in rows}
    assert len(shown) == len(rows)
    assert shown["limits.tick_ms"] == ("5", "HUB_TICK_MS")
    assert shown["port"] == ("9000", "/etc/hub/hub.toml line 3")
    assert shown["token_secret"][0] == "set"
    assert shown["redis_url"] == ("unset", "default")
    assert shown["queues.support.wrapup_codes"] == ('["resolved", "follow-up"]', "/etc/hub/hub.toml line 11")
    assert shown["channels.web.agent_name_visible"][0] == "true"
    assert shown["issuers.0.org"][0] == '"acme"'
    assert shown["issuers.0.claims.sub"][0] == '["oid"]'
    assert shown["issuers.0.grants.1.permissions"][0] == '["takeover"]'
    assert shown["issuers.1.organizations"][0] == '["acme", "other"]'


@pytest.mark.parametrize(
    ("text", "expected"), [("8h", 28_800_000), ("30m", 1_800_000), ("90s", 90_000), ("250ms", 250), ("2d", 172_800_000)]
)
def test_durations(text: str, expected: int) -> None:
    """A number with a unit is a duration."""
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "8", "0s", "-1h", "1.5h", "1w", "1 h", "h"])
def test_wrong_durations(text: str) -> None:
    """Anything else isn't."""
    with pytest.raises(ValueError, match="8h"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9", ("::1", 9)), ("metrics:80", ("metrics", 80))]
)
def test_addresses(text: str, expected: Any) -> None:
    """Host and port are split at the last colon, outside of brackets."""
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "a", ":80", "::1:80", "a:65536", "a:-1", "a:"])
def test_wrong_addresses(text: str) -> None:
    """An address without a host or a proper port isn't one."""
    with pytest.raises(ValueError, match=r"HOST:PORT|65535"):
        parse_address(text)


def test_files() -> None:
    """The table's folder is relative to the file, types are known ones, the scanner is its argv."""
    text = """
    [files]
    dir = "kept"
    types = ["image/png", "application/pdf"]
    scan_command = ["clamdscan", "--no-summary"]
    s3_bucket = "b"
    s3_endpoint = "https://s3.example.org"
    """
    made = build(text, "/etc/hub/hub.toml", {})
    assert made.files_dir == Path("/etc/hub/kept")
    assert made.files.types == ("image/png", "application/pdf")
    assert made.files.scan_command == ("clamdscan", "--no-summary")
    assert (made.files.s3_bucket, made.files.s3_prefix) == ("b", "hub")
    assert made.source("files") == "/etc/hub/hub.toml line 2"
    assert build("", "hub.toml", {"HUB_DATA_DIR": "/var/hub"}).files_dir == Path("/var/hub/files")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('types = ["text/html"]', "'text/html'; allowed: image/png"),
        ("types = []", "allowed: image/png"),
        ('scan_command = "clamscan"', "a list of texts"),
        ('s3_endpoint = "minio:9000"', "https://"),
        ("dir = 5", "a printable text"),
        ('folder = "x"', "unknown key `folder`"),
    ],
)
def test_wrong_files(line: str, words: str) -> None:
    """What is wrong in the table is named with its line and what is allowed."""
    with pytest.raises(SettingsError) as raised:
        build(f"[files]\n{line}\n", "hub.toml", {})
    assert "hub.toml line 2" in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize("value", ["10.0.0.300", "10.0.0.1/8", "proxy", "*", "0.0.0.0/0", "::/0"])
def test_wrong_proxies(value: str) -> None:
    """What is no address or network is refused, `*` above all: whoever believes everybody believes the attacker."""
    with pytest.raises(SettingsError, match="trusted_proxies"):
        build(f'trusted_proxies = ["{value}"]', "hub.toml", {})


def test_proxies_are_read() -> None:
    """From the file as a list, from a variable with commas."""
    assert build('trusted_proxies = ["10.0.0.7", "fd00::/8"]', "hub.toml", {}).trusted_proxies == (
        "10.0.0.7",
        "fd00::/8",
    )
    assert build("", "hub.toml", {"HUB_TRUSTED_PROXIES": "10.0.0.7, 10.1.0.0/16"}).trusted_proxies[1] == "10.1.0.0/16"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("proxy_protocol = 1", "needs trusted_proxies"),
        ('proxy_protocol = 1\ntrusted_proxies = ["10.0.0.7"]\nsocket_driver = "asgi"', 'needs socket_driver = "lean"'),
        ("proxy_protocol = 2", "a whole number from 0 to 1"),
    ],
)
def test_the_proxy_protocol_needs_a_proxy(text: str, why: str) -> None:
    """Without a believed proxy nobody could connect, and only one driver tells a socket who the client is."""
    with pytest.raises(SettingsError, match=why):
        build(text, "hub.toml", {})


def test_the_ledgers_key_is_the_files_first_or_of_the_secret() -> None:
    """Lines of the file are keys, today's first; without one a key is made of the token secret, and no key is known as none."""
    keys = ["k" * 32, "o" * 40]
    made = build('ledger_key_file = "keys"', "hub.toml", {}, read=lambda path: "\n".join([*keys, ""]).encode())
    assert made.ledger.first == keys[0].encode()
    assert [key.decode() for _, key in made.ledger.all()] == keys
    assert keys[0] not in repr(made)
    assert "k" * 8 not in "".join(map(str, describe(made)))
    typed = build('ledger_key_file = "keys"', "hub.toml", {"HUB_LEDGER_KEY": "e" * 32}, read=lambda path: b"")
    assert typed.ledger.first == b"e" * 32
    of_secret = build("", "hub.toml", {"HUB_TOKEN_SECRET": SECRET}).ledger
    assert of_secret.secret
    assert SECRET.encode() not in of_secret.first
    assert not build("", "hub.toml", {}).ledger.secret
    with pytest.raises(SettingsError, match=r"line 1.*a ledger key has 5 bytes; at least 32"):
        build('ledger_key_file = "keys"', "hub.toml", {}, read=lambda path: b"short")


def test_queues_have_a_retention_of_their_own() -> None:
    """Else the general one; a wrong one is named with its line."""
    text = "[limits]\nretention_ms = 1000\n[queues.a]\nretention_ms = 5\n[queues.b]\n"
    made = build(text, "hub.toml", {})
    assert [made.retention_of(queue) for queue in ("a", "b", "c")] == [5, 1000, 1000]
    assert made.retention_least == 5
    with pytest.raises(SettingsError, match=r"line 2.*`retention_ms` is 0"):
        build("[queues.a]\nretention_ms = 0\n", "hub.toml", {})
