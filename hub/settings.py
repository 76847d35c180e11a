"""
Settings: everything a person may configure, read once and passed down.

    load(config, env, flags)        reads the files, then `build`: the one way in
    build(text, name, env, flags)   pure: defaults < TOML file < environment `HUB_*` < flags
    Settings                        one frozen value; `sources` knows where each field came from
    bind(host, port)                a listening socket, or the error that names the flag
    SettingsError                   a wrong key or value: file, line, what was got, what is allowed

Each field is declared with its meaning, its default, and what zero does; the unit is the last word of its name. Queues,
channels, people and issuers come from the file alone, since they have more shape than a variable can hold.
"""

import dataclasses
import difflib
import ipaddress
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from hub.domain.grants import EVERYTHING, PERMISSIONS, ROLES

SECRET_BYTES_MIN: Final = 32
BACKLOG: Final = 2_048
DEFAULT_DIVISION: Final = "home"
CONFIG_NAME: Final = "hub.toml"
WRAPUP_PROMPTS: Final = ("none", "optional", "mandatory", "timeout")
CHANNELS: Final = ("web", "open", "sms")
LOOP_ENGINES: Final = ("auto", "asyncio", "uvloop")
SOCKET_DRIVERS: Final = ("lean", "asgi")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
STORE_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
HOW_TO_MAKE_ONE: Final = "export HUB_TOKEN_SECRET=$(openssl rand -hex 32)"

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_KEY_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DAY_MS = 86_400_000
_NONE = "no limit"
_INT_MAX = 2**53 - 1
_T = TypeVar("_T")
Path_ = tuple[str | int, ...]  # where a value stands in the file: ("queues", "support", "name"), ("issuers", 0)


class SettingsError(Exception):
    """A wrong configuration; the message is one sentence for the person who wrote it. Programs exit with 2."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """
    One queue: `name` for people, its `division`, and what wrap-up it asks of whoever owned the conversation.

    `wrapup_prompt` is one of `WRAPUP_PROMPTS`; `wrapup_timeout_ms` (at least 1) counts for `optional` and `timeout`.
    """

    name: str
    division: str
    wrapup_prompt: str = "none"
    wrapup_timeout_ms: int = 30_000
    wrapup_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One channel: True in `agent_name_visible` where its customers are shown the name of who answers."""

    agent_name_visible: bool = False


@dataclass(frozen=True, slots=True)
class PersonSettings:
    """A person where no identity provider exists; what `hub token --person SUB` puts into their token."""

    sub: str
    name: str
    org: str
    role: str
    permissions: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    divisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An identity provider whose tokens are taken; its keys (JWKS) come from exactly one of URL and file."""

    issuer: str
    jwks_url: str | None = None
    jwks_file: Path | None = None


def _option(
    default: _T, meaning: str, *, zero: str = "", top: bool = False, most: int = _INT_MAX, shown: bool = True
) -> _T:
    """Declare one field. `zero` says what 0 does (empty: 0 is refused); `top`: it stands outside `[limits]`."""
    metadata = {"meaning": meaning, "zero": zero, "top": top, "most": most}
    return field(default=default, metadata=metadata, repr=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the hub was told; `Settings()` has every default. Made by `load`, or by `dataclasses.replace` in tests."""

    host: str = _option("127.0.0.1", "address to listen on", top=True)
    port: int = _option(8000, "TCP port to listen on", zero="any free port", top=True, most=65_535)
    metrics_listen: str = _option("127.0.0.1:9464", "HOST:PORT of /metrics; empty: only /metrics by token", top=True)
    # Not in the repr: it may hold a password.
    guests_org: str = _option("", "organization of anonymous customers of the web messenger", zero="", top=True)
    redis_url: str | None = _option(None, "the store; unset: an embedded one in data_dir", top=True, shown=False)
    data_dir: Path = _option(Path(".hub"), "folder of the embedded store", top=True)
    key_prefix: str = _option("hub", "first part of every key in the store", top=True)
    origins: tuple[str, ...] = _option((), "browser origins allowed besides the hub's own", top=True)
    loop_engine: str = _option("auto", "event loop: auto takes uvloop where installed", top=True)
    socket_driver: str = _option("lean", "sockets: lean, or asgi for uvicorn's own class", top=True)
    token_secret: bytes | None = field(
        default=None, repr=False, metadata={"meaning": "signs and checks the hub's own tokens; at least 32 bytes"}
    )
    # Where the secret was read, so that `hub doctor` can look at who else may read it.
    token_secret_file: Path | None = None

    heartbeat_ms: int = _option(25_000, "longest time between two pings to a socket")
    monitor_ping_ms: int = _option(2_000, "time between two pings to a socket that has a monitor")
    silence_grace_ms: int = _option(10_000, "silence beyond heartbeat_ms after which a socket counts as dead")
    monitor_silence_ms: int = _option(5_000, "silence after which a monitor's socket gets no conversation data")
    hello_timeout_ms: int = _option(5_000, "time a new socket has to say hello")
    resume_ms: int = _option(15_000, "how long a lost session can be resumed")
    lease_ms: int = _option(15_000, "how long a monitor stays without renewal")
    lease_renew_ms: int = _option(5_000, "time between two renewals of the monitors' leases; below lease_ms")
    confirm_ms: int = _option(60_000, "how long a prepared takeover can be confirmed")
    drain_ms: int = _option(10_000, "time over which closes are spread when the node stops", zero="all at once")
    sweep_ms: int = _option(500, "time between two looks for what is due")
    tick_ms: int = _option(100, "views' changes are merged for this long", zero="each is sent at once")
    beat_ms: int = _option(1_000, "time between two beats through the store's subscription")
    frame_bytes_max: int = _option(65_536, "size of a client's frame")
    hub_frame_bytes_max: int = _option(1_048_576, "size of a frame that the hub sends")
    commands_per_s: int = _option(200, "commands a second from one socket")
    commands_burst: int = _option(400, "commands at once from one socket")
    sockets_per_user: int = _option(20, "sockets of one user at a time")
    sockets_per_address: int = _option(1_000, "sockets of one network address at a time")
    subscriptions_per_session: int = _option(200, "subscribed views of one session")
    monitors_per_session: int = _option(100, "monitors of one session")
    batch_events_max: int = _option(1_000, "events in one POST /v1/events")
    batch_bytes_max: int = _option(1_048_576, "size of the body of one POST /v1/events")
    panels_max: int = _option(32, "panels of one conversation")
    transcript_entries_max: int = _option(20_000, "entries kept of one transcript")
    idle_ms: int = _option(_DAY_MS, "time without any event after which a conversation ends by inactivity")
    retention_ms: int = _option(7 * _DAY_MS, "how long ended conversations are kept")
    state_bytes_max: int = _option(8_192, "size of one conversation's state in the store")
    action_repeat_ms: int = _option(10_000, "time after which an unreported action is sent to the platform again")
    wrapup_mandatory_max_ms: int = _option(_DAY_MS, "longest time a mandatory wrap-up stays open")
    presence_ms: int = _option(60_000, "time after the last socket from which a person reads offline")
    presence_memory_ms: int = _option(12 * 3_600_000, "time within which the next hello brings the status back")
    socket_buffer_bytes_max: int = _option(1_048_576, "unsent bytes of one socket before it counts as too slow")
    store_timeout_ms: int = _option(1_500, "age of the oldest unanswered call at which a store connection is dropped")
    store_replicas: int = _option(
        1, "replicas that must have a write before it is answered, where the store has any", zero="answers don't wait"
    )
    list_rows_max: int = _option(2_000, "rows looked at for one list request")
    ticket_ms: int = _option(30_000, "how long a ticket can be used")
    request_memory_ms: int = _option(600_000, "how long the answer to a `req` is remembered")

    # Quotas (hub/edge/quotas.py). A rate may be used up for 10 s at once.
    log_level: str = _option("info", "least of what is logged: debug, info, warning or error", top=True)
    trusted_proxies: tuple[str, ...] = _option(
        (), "addresses and networks of proxies whose X-Forwarded-For or PROXY header is believed", top=True
    )
    proxy_protocol: int = _option(
        0, "1: each connection begins with the PROXY header of a trusted proxy", zero="none does", top=True, most=1
    )
    handshakes_per_address_per_s: int = _option(200, "handshakes a second from one network address", zero=_NONE)
    handshakes_per_user_per_s: int = _option(50, "hellos a second of one user", zero=_NONE)
    handshakes_per_org_per_s: int = _option(1_000, "hellos a second of one organization, on one node", zero=_NONE)
    handshakes_per_node_per_s: int = _option(2_000, "handshakes a second on one node", zero=_NONE)
    sockets_per_org: int = _option(20_000, "sockets of one organization at a time, on one node", zero=_NONE)
    sockets_per_node: int = _option(50_000, "sockets of one node at a time", zero=_NONE)
    commands_per_address_per_s: int = _option(
        5_000, "commands a second from one network address, at each endpoint", zero=_NONE
    )
    commands_per_user_per_s: int = _option(1_000, "commands a second of one user, at each endpoint", zero=_NONE)
    commands_per_org_per_s: int = _option(
        10_000, "commands a second of one organization on one node, at each endpoint", zero=_NONE
    )
    commands_per_node_per_s: int = _option(20_000, "commands a second on one node, at each endpoint", zero=_NONE)
    subscriptions_per_address: int = _option(10_000, "subscribed views of one network address", zero=_NONE)
    subscriptions_per_user: int = _option(1_000, "subscribed views of one user, on one node", zero=_NONE)
    subscriptions_per_org: int = _option(20_000, "subscribed views of one organization, on one node", zero=_NONE)
    subscriptions_per_node: int = _option(50_000, "subscribed views of one node", zero=_NONE)
    replay_bytes_per_conversation: int = _option(
        33_554_432, "missed entries of one conversation that a resume sends; beyond it a reset", zero=_NONE
    )
    replay_bytes_per_address_per_s: int = _option(
        33_554_432, "bytes a second that resumes from one network address are sent; beyond it resets", zero=_NONE
    )
    replay_bytes_per_user_per_s: int = _option(
        4_194_304, "bytes a second that resumes of one user are sent; beyond it resets", zero=_NONE
    )
    replay_bytes_per_org_per_s: int = _option(
        33_554_432, "bytes a second that resumes of one organization are sent; beyond it resets", zero=_NONE
    )
    replay_bytes_per_node_per_s: int = _option(
        67_108_864, "bytes a second that resumes on one node are sent; beyond it resets", zero=_NONE
    )
    http_per_address_per_s: int = _option(1_000, "HTTP requests a second from one network address", zero=_NONE)
    http_per_token_per_s: int = _option(1_000, "HTTP requests a second with one token", zero=_NONE)
    request_head_ms: int = _option(5_000, "time in which the head of a request or handshake must be there")
    request_ms: int = _option(60_000, "time in which a request must be over, its body and answer included")
    head_bytes_max: int = _option(65_536, "size of the head of a request or handshake")
    connections_waiting_per_address: int = _option(
        1_000, "connections of one network address without a request; the oldest goes; at least sockets_per_address"
    )
    connections_waiting_per_node: int = _option(4_000, "connections of one node without a request; the oldest goes")

    issuers: tuple[IssuerSettings, ...] = ()
    queues: Mapping[str, QueueSettings] = field(default_factory=lambda: MappingProxyType({}))
    channels: Mapping[str, ChannelSettings] = field(default_factory=lambda: MappingProxyType({}))
    people: Mapping[str, PersonSettings] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    def queue(self, queue_id: str, division: str | None = None) -> QueueSettings:
        """The queue as configured; one that isn't has the defaults and the event's `division`."""
        configured = self.queues.get(queue_id)
        if configured is None:
            return QueueSettings(name=queue_id, division=division or DEFAULT_DIVISION)
        if configured.division:
            return configured
        return dataclasses.replace(configured, division=division or DEFAULT_DIVISION)

    def name_visible(self, channel: str) -> bool:
        """True where customers of this channel are shown the name of who answers."""
        return self.channels.get(channel, ChannelSettings()).agent_name_visible

    def source(self, name: str) -> str:
        """Where a field's value came from: `default`, `hub.toml line 3`, `HUB_PORT` or `--port`."""
        return self.sources.get(name, "default")

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the metrics' own address; None where it is switched off."""
        return parse_address(self.metrics_listen) if self.metrics_listen else None

    def require_identity(self) -> None:
        """
        Refuse to serve where nobody could ever be let in.

        Raises:
            SettingsError: neither a secret nor an issuer is configured; says how to make a secret.
        """
        if self.token_secret is None and not self.issuers:
            raise SettingsError(
                "no token secret and no issuer is configured, so nobody could connect; "
                f"make a secret with: {HOW_TO_MAKE_ONE}"
            )


_STRUCTURED = ("issuers", "queues", "channels", "people")
_OPTIONS: Mapping[str, dataclasses.Field[Any]] = {
    f.name: f for f in dataclasses.fields(Settings) if "top" in f.metadata
}
TOP_LEVEL: tuple[str, ...] = tuple(name for name, f in _OPTIONS.items() if f.metadata["top"])
LIMITS: tuple[str, ...] = tuple(name for name, f in _OPTIONS.items() if not f.metadata["top"])
# Variables that belong to the programs, not to a field.
PROGRAM_VARIABLES: Final = ("HUB_CONFIG", "HUB_TOKEN_SECRET", "HUB_URL", "HUB_TOKEN", "HUB_PERSONAS")


def load(
    *, config: Path | None = None, env: Mapping[str, str], flags: Mapping[str, str | None] | None = None
) -> Settings:
    """
    Read the configuration as a program is given it.

    The file is `config` (the flag `--config`), else `HUB_CONFIG`, else `hub.toml` in the current folder if it exists.
    `flags` maps field names to what was typed; None means that the flag was left out.

    Raises:
        SettingsError: a file can't be read, or anything in it is wrong.
    """
    path = config or (Path(env["HUB_CONFIG"]) if env.get("HUB_CONFIG") else None)
    if path is None and Path(CONFIG_NAME).is_file():
        path = Path(CONFIG_NAME)
    text = "" if path is None else _read(path).decode("utf-8", "replace")
    return build(text, str(path or CONFIG_NAME), env, flags or {}, read=_read)


def build(
    text: str,
    name: str,
    env: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    read: Callable[[Path], bytes] | None = None,
) -> Settings:
    """
    Make settings of a TOML text called `name`, an environment and flags; pure but for `read`, which reads the secret.

    Raises:
        SettingsError: at the first thing that is wrong.
    """
    document = _Document(text, name)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value, at in _from_file(document):
        sources[key] = at
        if value is not None:
            values[key] = value
    for key, raw, at in _typed(env, flags or {}):
        values[key], sources[key] = _from_text(key, raw, at), at
    _take_secret(document, env, read, values, sources)
    settings = Settings(**values, sources=MappingProxyType(sources))
    _check_together(settings)
    return settings


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """
    One warning for each `HUB_*` variable that means nothing here, with what it may have been meant to be.

    They are no error: orchestrators add their own for a service that is called `hub` (`HUB_SERVICE_HOST`).
    """
    known = [*PROGRAM_VARIABLES, *(f"HUB_{name.upper()}" for name in _OPTIONS)]
    strangers = sorted(name for name in env if name.startswith("HUB_") and name not in known)
    return [f"{name} is not a setting{_did_you_mean(name, known)}" for name in strangers]


def parse_address(text: str) -> tuple[str, int]:
    """
    Split `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it isn't of that form.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError("HOST:PORT")
    if int(port) > 65_535:
        raise ValueError("a port up to 65535")
    return (host[1:-1] if bracketed else host), int(port)


def parse_duration_ms(text: str) -> int:
    """
    `8h`, `30m`, `90s`, `250ms` or `2d` as milliseconds.

    Raises:
        ValueError: it isn't a positive duration with a unit.
    """
    found = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    if not found or int(found[1]) == 0:
        raise ValueError("a duration like 8h, 30m or 90s")
    return int(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": _DAY_MS}[found[2]]


def bind(host: str, port: int, *, flag: str = "--port") -> socket.socket:
    """
    A listening socket on `host` and `port` (0: any free one), so that a second program on it is refused by now.

    Connections wait in its backlog until a server takes them. The caller closes it.

    Raises:
        SettingsError: the port is in use, or the address isn't ours; names the flag that changes it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"{flag}: {host}:{port} can't be listened on: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SettingsError(f"{flag}: {host}:{port} can't be listened on: {error.strerror}") from None
    return listening


def describe(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """
    Each value as (name, value, origin, meaning) for a person, in the file's order; the secret only as `set`.

    Values look as they would in the TOML file.
    """
    for name, option in _OPTIONS.items():
        zero = f"; 0: {option.metadata['zero']}" if option.metadata["zero"] else ""
        path = name if option.metadata["top"] else f"limits.{name}"
        yield path, _shown(getattr(settings, name)), settings.source(name), option.metadata["meaning"] + zero
    secret = "unset" if settings.token_secret is None else "set"
    yield "token_secret", secret, settings.source("token_secret"), "signs and checks the hub's own tokens"
    for index, issuer in enumerate(settings.issuers):
        yield from _described(f"issuers.{index}", issuer, settings.source("issuers"))
    for table in ("queues", "channels", "people"):
        for key, entry in getattr(settings, table).items():
            yield from _described(f"{table}.{key}", entry, settings.source(f"{table}.{key}"))


def _described(path: str, entry: Any, origin: str) -> Iterator[tuple[str, str, str, str]]:
    for item in dataclasses.fields(entry):
        yield f"{path}.{item.name}", _shown(getattr(entry, item.name)), origin, ""


def _shown(value: object) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case tuple():
            return "[" + ", ".join(_shown(item) for item in value) + "]"
        case _:
            return f'"{_without_password(str(value))}"'


def _without_password(text: str) -> str:
    """An address as it may be shown: what stands between the user's colon and the last `@` is hidden, and so in options."""
    text = re.sub(
        r"(://[^:/@]*:).*@", r"\1***@", text, flags=re.S
    )  # a slash in it should have been encoded; it may not be
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", text)


# What a single value must be, wherever it was written.


def _from_text(key: str, raw: str, at: str) -> Any:
    """A variable's or a flag's text as the field's value."""
    default = _OPTIONS[key].default
    if isinstance(default, int):
        if not re.fullmatch(r"-?[0-9]{1,16}", raw.strip()):
            raise _wrong(at, key, raw, _allowed_int(key))
        return _checked(key, int(raw), at)
    if isinstance(default, tuple):
        return _checked(key, [part.strip() for part in raw.split(",") if part.strip()], at)
    return _checked(key, raw, at)


def _checked(key: str, value: object, at: str) -> Any:
    """A value as the field wants it, or the error that says what it wants."""
    default = _OPTIONS[key].default
    if isinstance(default, int):
        least = 0 if _OPTIONS[key].metadata["zero"] else 1
        if type(value) is not int or not least <= value <= _OPTIONS[key].metadata["most"]:
            raise _wrong(at, key, value, _allowed_int(key))
        return value
    if key == "origins":
        return _origins(value, at)
    if key == "trusted_proxies":
        return _networks(value, at)
    if not isinstance(value, str):
        raise _wrong(at, key, value, "text")
    return _CHECKS[key](value, at)


def _allowed_int(key: str) -> str:
    metadata = _OPTIONS[key].metadata
    least = 0 if metadata["zero"] else 1
    return f"a whole number from {least} to {metadata['most']}"


def _host(value: str, at: str) -> str:
    if not value or not re.fullmatch(r"[A-Za-z0-9_.:%-]+", value):
        raise _wrong(at, "host", value, "a host name or an IP address")
    return value


def _metrics_listen(value: str, at: str) -> str:
    try:
        if value:
            parse_address(value)
    except ValueError:
        raise _wrong(at, "metrics_listen", value, "HOST:PORT, or empty for none") from None
    return value


def _redis_url(value: str, at: str) -> str | None:
    if not value:
        return None
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in STORE_SCHEMES or not rest:
        allowed = ", ".join(f"{name}://" for name in STORE_SCHEMES)
        raise _wrong(at, "redis_url", _without_password(value), f"an address that begins with one of {allowed}")
    return value


def _data_dir(value: str, at: str) -> Path:
    if not value or "\0" in value:
        raise _wrong(at, "data_dir", value, "a folder")
    return Path(value).expanduser()


def _guests_org(value: str, at: str) -> str:
    if value and not _ID.fullmatch(value):
        raise _wrong(at, "guests_org", value, "an organization's id, or nothing")
    return value


def _key_prefix(value: str, at: str) -> str:
    # Braces or colons would move keys to other slots, or into one another's names.
    if not _KEY_PREFIX.fullmatch(value):
        raise _wrong(at, "key_prefix", value, "1 to 32 of A-Z, a-z, 0-9, `_`, `-`")
    return value


def _loop_engine(value: str, at: str) -> str:
    if value not in LOOP_ENGINES:
        raise _wrong(at, "loop_engine", value, _one_of(LOOP_ENGINES))
    return value


def _socket_driver(value: str, at: str) -> str:
    if value not in SOCKET_DRIVERS:
        raise _wrong(at, "socket_driver", value, _one_of(SOCKET_DRIVERS))
    return value


def _origins(value: object, at: str) -> tuple[str, ...]:
    origins = _texts(value, "origins", at)
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", origin):
            raise _wrong(at, "origins", origin, "origins like https://desk.example.com, without a path")
    return tuple(origin.lower() for origin in origins)


def _log_level(value: str, at: str) -> str:
    if value not in LOG_LEVELS:
        raise _wrong(at, "log_level", value, _one_of(LOG_LEVELS))
    return value


def _networks(value: object, at: str) -> tuple[str, ...]:
    texts = _texts(value, "trusted_proxies", at)
    for text in texts:
        wanted = "addresses like 10.0.0.7, or networks like 10.0.0.0/24 without host bits; nobody can trust everybody"
        try:
            everybody = ipaddress.ip_network(text).prefixlen == 0
        except ValueError:
            raise _wrong(at, "trusted_proxies", text, wanted) from None
        if everybody:
            raise _wrong(at, "trusted_proxies", text, wanted)
    return texts


_CHECKS: Mapping[str, Callable[[str, str], Any]] = {
    "host": _host,
    "metrics_listen": _metrics_listen,
    "redis_url": _redis_url,
    "data_dir": _data_dir,
    "guests_org": _guests_org,
    "key_prefix": _key_prefix,
    "loop_engine": _loop_engine,
    "socket_driver": _socket_driver,
    "log_level": _log_level,
}


def _texts(value: object, key: str, at: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise _wrong(at, key, value, "a list of texts")
    return tuple(value)


def _ids(value: object, key: str, at: str) -> tuple[str, ...]:
    """Ids, or the one that means everything."""
    texts = _texts(value, key, at)
    for text in texts:
        if text != EVERYTHING and not _ID.fullmatch(text):
            raise _wrong(at, key, text, "ids of 1 to 64 of A-Z, a-z, 0-9, `_.:-`, or `*`")
    return texts


# The file.


def _from_file(document: "_Document") -> Iterator[tuple[str, Any, str]]:
    """(field, value, origin) for everything the file says but the secret; a value of None adds only an origin."""
    allowed = [*TOP_LEVEL, "token_secret_file", "limits", *_STRUCTURED]
    for key, value in document.values.items():
        at = document.at((key,))
        if key in LIMITS:
            raise SettingsError(f"{at}: `{key}` belongs under [limits]")
        if key == "token_secret":
            raise SettingsError(f"{at}: a secret doesn't stand in this file; use HUB_TOKEN_SECRET or token_secret_file")
        if key not in allowed:
            raise _unknown(at, key, allowed)
        if key in TOP_LEVEL:
            yield key, _checked(key, value, at), at
    for key, value in document.table(("limits",)).items():
        at = document.at(("limits", key))
        if key in TOP_LEVEL:
            raise SettingsError(f"{at}: `{key}` belongs to the top of the file, before the first [table]")
        if key not in LIMITS:
            raise _unknown(at, key, LIMITS)
        yield key, _checked(key, value, at), at
    yield from _structured(document)


def _structured(document: "_Document") -> Iterator[tuple[str, Any, str]]:
    makers = {"queues": _queue, "channels": _channel, "people": _person}
    for table, make in makers.items():
        made: dict[str, object] = {}
        for key in document.table((table,)):
            made[key] = make(document, key)
            yield f"{table}.{key}", None, document.at((table, key))
        if made:
            yield table, MappingProxyType(made), document.at((table,))
    if "issuers" in document.values:
        yield "issuers", _issuers(document), document.at(("issuers",))


def _queue(document: "_Document", key: str) -> QueueSettings:
    path: Path_ = ("queues", key)
    table = document.entry(path, [f.name for f in dataclasses.fields(QueueSettings)])
    prompt = table.get("wrapup_prompt", "none")
    if prompt not in WRAPUP_PROMPTS:
        raise _wrong(document.at((*path, "wrapup_prompt")), "wrapup_prompt", prompt, _one_of(WRAPUP_PROMPTS))
    timeout = table.get("wrapup_timeout_ms", 30_000)
    if type(timeout) is not int or not 1 <= timeout <= _DAY_MS:
        at = document.at((*path, "wrapup_timeout_ms"))
        raise _wrong(at, "wrapup_timeout_ms", timeout, f"a whole number from 1 to {_DAY_MS}")
    return QueueSettings(
        name=document.text(path, "name", key),
        # Empty until a conversation says which: `Settings.queue` fills it in.
        division=document.id(path, "division", ""),
        wrapup_prompt=prompt,
        wrapup_timeout_ms=timeout,
        wrapup_codes=_texts(table.get("wrapup_codes", []), "wrapup_codes", document.at((*path, "wrapup_codes"))),
    )


def _channel(document: "_Document", key: str) -> ChannelSettings:
    path: Path_ = ("channels", key)
    if key not in CHANNELS:
        raise _unknown(document.at(path), key, CHANNELS)
    table = document.entry(path, ["agent_name_visible"])
    visible = table.get("agent_name_visible", False)
    if not isinstance(visible, bool):
        raise _wrong(document.at((*path, "agent_name_visible")), "agent_name_visible", visible, "true or false")
    return ChannelSettings(agent_name_visible=visible)


def _person(document: "_Document", key: str) -> PersonSettings:
    path: Path_ = ("people", key)
    table = document.entry(path, [f.name for f in dataclasses.fields(PersonSettings)])
    role = document.text(path, "role")
    if role not in ROLES:
        raise _wrong(document.at((*path, "role")), "role", role, _one_of(sorted(ROLES)))
    permissions = _texts(table.get("permissions", []), "permissions", document.at((*path, "permissions")))
    for permission in permissions:
        if permission not in PERMISSIONS:
            at = document.at((*path, "permissions"))
            raise _wrong(at, "permissions", permission, _one_of(sorted(PERMISSIONS)))
    return PersonSettings(
        sub=document.id(path, "sub", key),
        name=document.text(path, "name", key),
        org=document.id(path, "org"),
        role=role,
        permissions=permissions,
        queues=_ids(table.get("queues", []), "queues", document.at((*path, "queues"))),
        divisions=_ids(table.get("divisions", []), "divisions", document.at((*path, "divisions"))),
    )


def _issuers(document: "_Document") -> tuple[IssuerSettings, ...]:
    listed = document.values["issuers"]
    at = document.at(("issuers",))
    if not isinstance(listed, list):
        raise _wrong(at, "issuers", listed, "tables that begin with [[issuers]]")
    issuers = tuple(_issuer(document, index) for index in range(len(listed)))
    names = [issuer.issuer for issuer in issuers]
    if len(set(names)) < len(names):
        raise SettingsError(f"{at}: the same issuer stands there twice; each is allowed once")
    return issuers


def _issuer(document: "_Document", index: int) -> IssuerSettings:
    path: Path_ = ("issuers", index)
    table = document.entry(path, ["issuer", "jwks_url", "jwks_file"])
    name = document.text(path, "issuer")
    if name == "hub":
        raise _wrong(document.at((*path, "issuer")), "issuer", name, "another name: `hub` is the hub's own secret")
    if ("jwks_url" in table) == ("jwks_file" in table):
        raise SettingsError(f"{document.at(path)}: an issuer needs either jwks_url or jwks_file")
    if "jwks_file" in table:
        return IssuerSettings(issuer=name, jwks_file=document.beside(document.text(path, "jwks_file")))
    url = document.text(path, "jwks_url")
    if not re.match(r"https?://[^/\s]", url):
        raise _wrong(document.at((*path, "jwks_url")), "jwks_url", url, "an address that begins with https://")
    return IssuerSettings(issuer=name, jwks_url=url)


def _take_secret(
    document: "_Document",
    env: Mapping[str, str],
    read: Callable[[Path], bytes] | None,
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """The secret of the environment, else of the file that the configuration names; too short a one is refused."""
    if env.get("HUB_TOKEN_SECRET"):
        secret, at = env["HUB_TOKEN_SECRET"].encode(errors="surrogateescape"), "HUB_TOKEN_SECRET"
    elif "token_secret_file" in document.values:
        at = document.at(("token_secret_file",))
        path = document.beside(document.text((), "token_secret_file"))
        try:
            secret = (read or _read)(path).strip()
        except SettingsError as error:
            raise SettingsError(f"{at}: {error}") from None
        at = f"{at} ({path})"
        values["token_secret_file"] = path
    else:
        return
    if len(secret) < SECRET_BYTES_MIN:
        raise SettingsError(
            f"{at}: the token secret has {len(secret)} bytes; at least {SECRET_BYTES_MIN} are needed; "
            f"make one with: {HOW_TO_MAKE_ONE}"
        )
    values["token_secret"], sources["token_secret"] = secret, at


def _check_together(settings: Settings) -> None:
    """What is wrong only next to another value; each pair is (smaller, larger)."""
    pairs = [
        ("lease_renew_ms", "lease_ms"),
        ("monitor_ping_ms", "monitor_silence_ms"),
        ("monitor_silence_ms", "lease_ms"),
    ]
    for smaller, larger in pairs:
        if getattr(settings, smaller) >= getattr(settings, larger):
            got = f"{smaller} = {getattr(settings, smaller)} ({settings.source(smaller)})"
            limit = f"{larger} = {getattr(settings, larger)} ({settings.source(larger)})"
            raise SettingsError(f"{got} must be below {limit}")
    if settings.proxy_protocol:
        at = f"proxy_protocol = 1 ({settings.source('proxy_protocol')})"
        if not settings.trusted_proxies:
            raise SettingsError(f"{at} needs trusted_proxies: nobody else may connect then")
        if settings.socket_driver != "lean":
            raise SettingsError(f'{at} needs socket_driver = "lean"')


class _Document:
    """A parsed TOML text that still knows on which line each value stands."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            self.values: Mapping[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(_syntax_error(name, text, str(error))) from None
        self._lines = _lines(text)

    def at(self, path: Path_) -> str:
        """`hub.toml line 3`; of the nearest table where a value's own line isn't found (inline tables)."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.name} line {self._lines[path]}" if path else self.name

    def get(self, path: Path_) -> Any:
        """What stands at a path that exists."""
        value: Any = self.values
        for part in path:
            value = value[part]
        return value

    def table(self, path: Path_) -> Mapping[str, Any]:
        """The table at a path; empty where there is none."""
        if path[-1] not in self.get(path[:-1]):
            return {}
        value = self.get(path)
        if not isinstance(value, dict):
            raise _wrong(self.at(path), str(path[-1]), value, f"a table: [{'.'.join(map(str, path))}]")
        return value

    def entry(self, path: Path_, allowed: Sequence[str]) -> Mapping[str, Any]:
        """A table of known keys whose own name is an id."""
        value = self.get(path)
        if not isinstance(value, dict):
            raise _wrong(self.at(path), str(path[-1]), value, f"a table: [{'.'.join(map(str, path))}]")
        if isinstance(path[-1], str) and not _ID.fullmatch(path[-1]):
            raise _wrong(self.at(path), str(path[0]), path[-1], "an id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
        for key in value:
            if key not in allowed:
                raise _unknown(self.at((*path, key)), key, allowed)
        return value

    def text(self, path: Path_, key: str, default: str | None = None) -> str:
        """A text that isn't empty; without a default it must be there."""
        value = self.get(path).get(key, default)
        if value is None:
            raise SettingsError(f"{self.at(path)}: `{key}` is missing")
        if not isinstance(value, str) or not value or not value.isprintable():
            raise _wrong(self.at((*path, key)), key, value, "a printable text")
        return value

    def id(self, path: Path_, key: str, default: str | None = None) -> str:
        """An id, or the default where it isn't there."""
        if default is not None and key not in self.get(path):
            return default
        value = self.text(path, key)
        if not _ID.fullmatch(value):
            raise _wrong(self.at((*path, key)), key, value, "an id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
        return value

    def beside(self, name: str) -> Path:
        """A file that the configuration names: relative to the configuration's own folder."""
        return Path(self.name).parent / Path(name).expanduser()


def _lines(text: str) -> dict[Path_, int]:
    """
    Line numbers by path, read from headers and the left sides of `=`.

    The fragments are parsed by tomllib itself, so quoted and dotted keys mean what they mean there. Lines within
    multi-line values may be taken for keys; they then only add entries that nobody looks up.
    """
    found: dict[Path_, int] = {}
    table: Path_ = ()
    counts: dict[Path_, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[(.+?)\]\]\s*(#.*)?$", line) or re.match(r"\s*\[(.+?)\]\s*(#.*)?$", line)
        if header:
            table = _path(header[1])
            if line.lstrip().startswith("[["):
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, counts[table])
        elif "=" in line:
            path = (*table, *_key_path(line))
            if path != table:
                found.setdefault(path, number)
            continue
        for length in range(1, len(table) + 1) if header else ():
            found.setdefault(table[:length], number)
    return found


def _key_path(line: str) -> Path_:
    """The path on the left of a line's first `=` that isn't within quotes; empty where there is none."""
    for position in (found.start() for found in re.finditer("=", line)):
        path = _path(line[:position])
        if path:
            return path
    return ()


def _path(fragment: str) -> Path_:
    try:
        value: Any = tomllib.loads(f"{fragment} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)


def _syntax_error(name: str, text: str, message: str) -> str:
    found = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)$", message)
    if not found:
        return f"{name}: not TOML: {message}"
    line = found[1] or str(max(1, len(text.splitlines())))
    return f"{name} line {line}: not TOML: {message[: found.start()]}"


# Words.


def _typed(env: Mapping[str, str], flags: Mapping[str, str | None]) -> Iterator[tuple[str, str, str]]:
    """(field, text, origin) of variables, then of flags, so that the last one wins."""
    for name in _OPTIONS:
        variable = f"HUB_{name.upper()}"
        if variable in env:
            yield name, env[variable], variable
    for name, raw in flags.items():
        if raw is not None:
            yield name, raw, f"--{name.replace('_', '-')}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from None


def _wrong(at: str, key: str, got: object, allowed: str) -> SettingsError:
    shown = repr(got)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return SettingsError(f"{at}: `{key}` is {shown}; allowed: {allowed}")


def _unknown(at: str, key: str, allowed: Sequence[str]) -> SettingsError:
    hint = _did_you_mean(key, allowed)
    return SettingsError(f"{at}: unknown key `{key}`{hint}; allowed: {', '.join(sorted(allowed))}")


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _one_of(names: Sequence[str]) -> str:
    return ", ".join(names)
