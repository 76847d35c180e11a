"""
Settings: everything a person may configure, read once and passed down.

    load(config, env, flags)        reads the files, then `build`: the one way in
    build(text, name, env, flags)   pure: defaults < TOML file < environment `HUB_*` < flags
    Settings                        one frozen value; `sources` knows where each field came from
    bind(host, port)                a listening socket, or the error that names the flag
    SettingsError                   a wrong key or value: file, line, what was got, what is allowed

Each field is declared with its meaning, its default, and what zero does; the unit is the last word of its name. Queues,
channels, people, issuers and other tables come from the file alone, since they have more shape than a variable can hold;
`hub.tables` reads them.
"""

import dataclasses
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from hub.domain.ledger import LedgerKeys, derived_key
from hub.tables.connectors import ConnectorSettings, take_connectors
from hub.tables.document import (
    DAY_MS,
    ID,
    INT_MAX,
    Document,
    SettingsError,
    did_you_mean,
    one_of,
    parse_address,
    read_file,
    texts_of,
    unknown_key,
    wrong,
)
from hub.tables.files import FilesSettings, files_of
from hub.tables.identity import IssuerSettings, SignInSettings, issuers_of, sign_in_of
from hub.tables.masking import MaskingSettings, maskings_of
from hub.tables.queues import (
    DEFAULT_DIVISION,
    ChannelSettings,
    PersonSettings,
    QueueSettings,
    channel_of,
    person_of,
    queue_of,
)
from hub.tables.secrets import HOW_TO_MAKE_ONE, take_ledger_keys, take_secret

# What the values of tables are made of is imported from here, whichever of `hub.tables` it stands in.
__all__ = [
    "HOW_TO_MAKE_ONE",
    "LIMITS",
    "TOP_LEVEL",
    "ChannelSettings",
    "ConnectorSettings",
    "FilesSettings",
    "IssuerSettings",
    "MaskingSettings",
    "PersonSettings",
    "QueueSettings",
    "Settings",
    "SettingsError",
    "SignInSettings",
    "bind",
    "build",
    "describe",
    "load",
    "parse_address",
    "parse_duration_ms",
    "unknown_variables",
]

BACKLOG: Final = 2_048
CONFIG_NAME: Final = "hub.toml"
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

_KEY_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NONE = "no limit"
_T = TypeVar("_T")


def _option(
    default: _T, meaning: str, *, zero: str = "", top: bool = False, most: int = INT_MAX, shown: bool = True
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
    public_url: str = _option(
        "",
        "address at which browsers and providers reach the hub, like https://hub.example.org; empty: as they call it",
        top=True,
    )
    guests_org: str = _option("", "organization of anonymous customers of the web messenger", zero="", top=True)
    redis_url: str | None = _option(None, "the store; unset: an embedded one in data_dir", top=True, shown=False)
    data_dir: Path = _option(Path(".hub"), "folder of the embedded store", top=True)
    key_prefix: str = _option("hub", "first part of every key in the store", top=True)
    origins: tuple[str, ...] = _option(
        (), "browser origins allowed, exactly these; none: the host that was asked for", top=True
    )
    loop_engine: str = _option("auto", "event loop: auto takes uvloop where installed", top=True)
    socket_driver: str = _option("lean", "sockets: lean, or asgi for uvicorn's own class", top=True)
    log_level: str = _option("info", "least of what is logged: debug, info, warning or error", top=True)
    token_secret: bytes | None = field(
        default=None, repr=False, metadata={"meaning": "signs and checks the hub's own tokens; at least 32 bytes"}
    )
    # Files that secrets of any kind were read from, so that `hub doctor` can look at who else may read them.
    secret_files: tuple[Path, ...] = ()
    # Keys of the ledger (`hub.domain.ledger`): the first makes codes, all check. Empty: one made of the token secret.
    ledger_keys: tuple[bytes, ...] = field(
        default=(), repr=False, metadata={"meaning": "make and check the ledger's codes; 32 characters or more each"}
    )

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
    idle_ms: int = _option(DAY_MS, "time without any event after which a conversation ends by inactivity")
    retention_ms: int = _option(7 * DAY_MS, "how long ended conversations are kept; a queue may say otherwise")
    erasure_wait_ms: int = _option(
        30_000, "time a platform has to be told that a conversation is over before it is erased", zero="not waited for"
    )
    ledger_seal_ms: int = _option(60_000, "time between two seals of the ledger")
    ledger_entries_max: int = _option(1_000_000, "ledger lines kept of each of the 64 partitions; the oldest go")
    state_bytes_max: int = _option(8_192, "size of one conversation's state in the store")
    action_repeat_ms: int = _option(10_000, "time after which an unreported action is sent to the platform again")
    wrapup_mandatory_max_ms: int = _option(DAY_MS, "longest time a mandatory wrap-up stays open")
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
    keys_fresh_ms: int = _option(300_000, "how long a key is still taken that its issuer has withdrawn")
    keys_usable_ms: int = _option(3_600_000, "how long an issuer's keys are taken while it can't be reached")
    keys_again_ms: int = _option(30_000, "time after which an issuer is asked again for a key that it didn't have")
    sign_in_ms: int = _option(600_000, "time a person has to sign in at the identity provider")
    sign_ins_per_minute: int = _option(120, "sign-ins begun a minute from one network address")
    signed_in_ms: int = _option(8 * 3_600_000, "time after which somebody must sign in again")
    signed_in_idle_ms: int = _option(1_800_000, "time without an open page after which a sign-in is over")

    file_bytes_max: int = _option(20_971_520, "size of one file")
    files_per_conversation: int = _option(100, "files of one conversation")
    files_org_bytes_max: int = _option(10_737_418_240, "bytes of all files of an organization")
    file_transfer_ms: int = _option(300_000, "longest time in which a file must have come, or have been fetched")
    file_uploads_max: int = _option(64, "files that arrive at one node at a time")
    file_uploads_per_user: int = _option(3, "files that arrive from one person at a time, at one node")
    file_link_ms: int = _option(60_000, "how long a signed address opens a file")
    file_orphan_ms: int = _option(DAY_MS, "age from which bytes of a file that nobody names are removed")
    file_sweep_ms: int = _option(600_000, "time between two looks for such bytes", zero="they are never looked for")
    file_sweep_max: int = _option(1_000, "kept files that one such look is at")
    file_scan_ms: int = _option(30_000, "longest time for which the virus scanner may look at one file")

    # Quotas (hub/edge/quotas.py). A rate may be used up for 10 s at once.
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
    channel_body_bytes_max: int = _option(1_048_576, "size of the body of one POST /v1/channels/...")
    outbound_timeout_ms: int = _option(10_000, "time an adapter has to carry out one action")
    outbound_claim_ms: int = _option(
        30_000, "time after which another node takes up an action whose node is gone; above outbound_timeout_ms"
    )
    outbound_file_ms: int = _option(7 * DAY_MS, "how long a link to a file opens it that a provider was sent")
    outbound_parallel: int = _option(16, "actions of one connector under way at a time on one node")
    outbound_tries_max: int = _option(20, "tries after which an action is given up")
    outbound_age_max_ms: int = _option(4 * 3_600_000, "age at which an action that could not be sent is given up")
    outbound_backoff_ms: int = _option(1_000, "longest wait before the second try; it doubles with each")
    outbound_backoff_max_ms: int = _option(300_000, "longest wait between two tries")
    outbound_answer_bytes_max: int = _option(1_048_576, "size of a provider's answer")
    breaker_failures: int = _option(5, "failures in a row after which an endpoint is left alone")
    breaker_ms: int = _option(30_000, "how long it is left alone before one call tries it again")
    dead_letters_max: int = _option(1_000, "dead letters kept of one connector in each of the 64 partitions")

    files: FilesSettings = field(default_factory=FilesSettings)
    issuers: tuple[IssuerSettings, ...] = ()
    sign_in: SignInSettings | None = None
    queues: Mapping[str, QueueSettings] = field(default_factory=lambda: MappingProxyType({}))
    channels: Mapping[str, ChannelSettings] = field(default_factory=lambda: MappingProxyType({}))
    people: Mapping[str, PersonSettings] = field(default_factory=lambda: MappingProxyType({}))
    connectors: Mapping[str, ConnectorSettings] = field(default_factory=lambda: MappingProxyType({}))
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    masking_queues: Mapping[str, MaskingSettings] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    def queue(self, queue_id: str, division: str | None = None) -> QueueSettings:
        """The queue as configured; one that isn't has the defaults and the event's `division`."""
        configured = self.queues.get(queue_id)
        if configured is None:
            return QueueSettings(name=queue_id, division=division or DEFAULT_DIVISION)
        if configured.division:
            return configured
        return dataclasses.replace(configured, division=division or DEFAULT_DIVISION)

    def retention_of(self, queue_id: str) -> int:
        """How long ended conversations of a queue are kept, in milliseconds."""
        configured = self.queues.get(queue_id)
        own = configured.retention_ms if configured is not None else None
        return self.retention_ms if own is None else own

    @property
    def retention_least(self) -> int:
        """The shortest retention of any queue: nothing younger need be looked at."""
        return min(
            [self.retention_ms, *(one.retention_ms for one in self.queues.values() if one.retention_ms is not None)]
        )

    @property
    def ledger(self) -> LedgerKeys:
        """The ledger's keys: those configured, else one made of the token secret, else none."""
        if self.ledger_keys or self.token_secret is None:
            return LedgerKeys(self.ledger_keys)
        return LedgerKeys([derived_key(self.token_secret)])

    def name_visible(self, channel: str) -> bool:
        """True where customers of this channel are shown the name of who answers."""
        return self.channels.get(channel, ChannelSettings()).agent_name_visible

    def source(self, name: str) -> str:
        """Where a field's value came from: `default`, `hub.toml line 3`, `HUB_PORT` or `--port`."""
        return self.sources.get(name, "default")

    @property
    def files_dir(self) -> Path:
        """Where files are kept, or pass through on their way to a bucket."""
        return self.files.dir if self.files.dir is not None else self.data_dir / "files"

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


_STRUCTURED = ("issuers", "queues", "channels", "people", "sign_in", "files", "connectors", "masking")
_OPTIONS: Mapping[str, dataclasses.Field[Any]] = {
    f.name: f for f in dataclasses.fields(Settings) if "top" in f.metadata
}
TOP_LEVEL: tuple[str, ...] = tuple(name for name, f in _OPTIONS.items() if f.metadata["top"])
LIMITS: tuple[str, ...] = tuple(name for name, f in _OPTIONS.items() if not f.metadata["top"])
# Variables that belong to the programs, not to a field.
PROGRAM_VARIABLES: Final = (
    *("HUB_CONFIG", "HUB_TOKEN_SECRET", "HUB_SIGN_IN_SECRET", "HUB_LEDGER_KEY"),
    *("HUB_URL", "HUB_TOKEN", "HUB_PERSONAS"),
)


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
    text = "" if path is None else read_file(path).decode("utf-8", "replace")
    return build(text, str(path or CONFIG_NAME), env, flags or {}, read=read_file)


def build(
    text: str,
    name: str,
    env: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    read: Callable[[Path], bytes] | None = None,
) -> Settings:
    """
    Make settings of a TOML text called `name`, an environment and flags; pure but for `read`, which reads secrets.

    Raises:
        SettingsError: at the first thing that is wrong.
    """
    document = Document(text, name)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    secret_files: list[Path] = []

    def secret_of(path: Path) -> bytes:
        secret_files.append(path)
        return (read or read_file)(path)

    for key, value, at in _from_file(document):
        sources[key] = at
        if value is not None:
            values[key] = value
    for key, raw, at in _typed(env, flags or {}):
        values[key], sources[key] = _from_text(key, raw, at), at
    take_secret(document, env, secret_of, values, sources)
    if "sign_in" in document.values:
        public_url = values.get("public_url", ""), sources.get("public_url", "")
        values["sign_in"] = sign_in_of(document, env, secret_of, values.get("issuers", ()), public_url)
        sources["sign_in"] = document.at(("sign_in",))
    take_connectors(document, secret_of, values, sources)
    take_ledger_keys(document, env, secret_of, values, sources)
    settings = Settings(**values, secret_files=tuple(secret_files), sources=MappingProxyType(sources))
    _check_together(settings)
    return settings


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """
    One warning for each `HUB_*` variable that means nothing here, with what it may have been meant to be.

    They are no error: orchestrators add their own for a service that is called `hub` (`HUB_SERVICE_HOST`).
    """
    known = [*PROGRAM_VARIABLES, *(f"HUB_{name.upper()}" for name in _OPTIONS)]
    strangers = sorted(name for name in env if name.startswith("HUB_") and name not in known)
    return [f"{name} is not a setting{did_you_mean(name, known)}" for name in strangers]


def parse_duration_ms(text: str) -> int:
    """
    `8h`, `30m`, `90s`, `250ms` or `2d` as milliseconds.

    Raises:
        ValueError: it isn't a positive duration with a unit.
    """
    found = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    if not found or int(found[1]) == 0:
        raise ValueError("a duration like 8h, 30m or 90s")
    return int(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}[found[2]]


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
    keys = f"{len(settings.ledger_keys)} set" if settings.ledger_keys else "unset"
    yield "ledger_keys", keys, settings.source("ledger_keys"), "make and check the ledger's codes"
    for index, issuer in enumerate(settings.issuers):
        yield from _described(f"issuers.{index}", issuer, settings.source("issuers"))
    if settings.sign_in is not None:
        rows = _described("sign_in", settings.sign_in, settings.source("sign_in"))
        yield from (row for row in rows if row[0] != "sign_in.public_url")  # that one stands at the top
    yield from _described("files", settings.files, settings.source("files"))
    for table in ("queues", "channels", "people"):
        for key, entry in getattr(settings, table).items():
            yield from _described(f"{table}.{key}", entry, settings.source(f"{table}.{key}"))
    for key, connector in settings.connectors.items():
        path = f"connectors.{key}"
        for name in ("org", "adapter", "allow_private"):
            yield f"{path}.{name}", _shown(getattr(connector, name)), settings.source(path), ""
        for name in connector.options:
            yield f"{path}.{name}", "set", settings.source(f"{path}.{name}"), ""
    yield from _described("masking", settings.masking, settings.source("masking"))
    for key, entry in settings.masking_queues.items():
        yield from _described(f"masking.queues.{key}", entry, settings.source(f"masking.queues.{key}"))


def _described(path: str, entry: Any, origin: str) -> Iterator[tuple[str, str, str, str]]:
    for item in dataclasses.fields(entry):
        value, name = getattr(entry, item.name), f"{path}.{item.name}"
        if dataclasses.is_dataclass(value):
            yield from _described(path if item.name == "rules" else name, value, origin)
        elif item.name == "grants":
            for index, grant in enumerate(value):
                yield from _described(f"{name}.{index}", grant, origin)
        else:
            yield name, _shown(value), origin, ""


def _shown(value: object) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case bytes():
            return "set"
        case tuple():
            return "[" + ", ".join(_shown(item) for item in value) + "]"
        case frozenset():
            return _shown(tuple(sorted(value)))
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
            raise wrong(at, key, raw, _allowed_int(key))
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
            raise wrong(at, key, value, _allowed_int(key))
        return value
    if key == "origins":
        return _origins(value, at)
    if key == "trusted_proxies":
        return _networks(value, at)
    if not isinstance(value, str):
        raise wrong(at, key, value, "text")
    return _CHECKS[key](value, at)


def _allowed_int(key: str) -> str:
    metadata = _OPTIONS[key].metadata
    least = 0 if metadata["zero"] else 1
    return f"a whole number from {least} to {metadata['most']}"


def _host(value: str, at: str) -> str:
    if not value or not re.fullmatch(r"[A-Za-z0-9_.:%-]+", value):
        raise wrong(at, "host", value, "a host name or an IP address")
    return value


def _metrics_listen(value: str, at: str) -> str:
    try:
        if value:
            parse_address(value)
    except ValueError:
        raise wrong(at, "metrics_listen", value, "HOST:PORT, or empty for none") from None
    return value


def _redis_url(value: str, at: str) -> str | None:
    if not value:
        return None
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in STORE_SCHEMES or not rest:
        allowed = ", ".join(f"{name}://" for name in STORE_SCHEMES)
        raise wrong(at, "redis_url", _without_password(value), f"an address that begins with one of {allowed}")
    return value


def _data_dir(value: str, at: str) -> Path:
    if not value or "\0" in value:
        raise wrong(at, "data_dir", value, "a folder")
    return Path(value).expanduser()


def _guests_org(value: str, at: str) -> str:
    if value and not ID.fullmatch(value):
        raise wrong(at, "guests_org", value, "an organization's id, or nothing")
    return value


def _public_url(value: str, at: str) -> str:
    if value and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._~/-]*)?", value):
        raise wrong(at, "public_url", value, "an address like https://hub.example.org, or nothing")
    return value.rstrip("/")


def _key_prefix(value: str, at: str) -> str:
    # Braces or colons would move keys to other slots, or into one another's names.
    if not _KEY_PREFIX.fullmatch(value):
        raise wrong(at, "key_prefix", value, "1 to 32 of A-Z, a-z, 0-9, `_`, `-`")
    return value


def _loop_engine(value: str, at: str) -> str:
    if value not in LOOP_ENGINES:
        raise wrong(at, "loop_engine", value, one_of(LOOP_ENGINES))
    return value


def _socket_driver(value: str, at: str) -> str:
    if value not in SOCKET_DRIVERS:
        raise wrong(at, "socket_driver", value, one_of(SOCKET_DRIVERS))
    return value


def _origins(value: object, at: str) -> tuple[str, ...]:
    origins = texts_of(value, "origins", at)
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", origin):
            raise wrong(at, "origins", origin, "origins like https://desk.example.com, without a path")
    return tuple(origin.lower() for origin in origins)


def _log_level(value: str, at: str) -> str:
    if value not in LOG_LEVELS:
        raise wrong(at, "log_level", value, one_of(LOG_LEVELS))
    return value


def _networks(value: object, at: str) -> tuple[str, ...]:
    texts = texts_of(value, "trusted_proxies", at)
    for text in texts:
        wanted = "addresses like 10.0.0.7, or networks like 10.0.0.0/24 without host bits; nobody can trust everybody"
        try:
            everybody = ipaddress.ip_network(text).prefixlen == 0
        except ValueError:
            raise wrong(at, "trusted_proxies", text, wanted) from None
        if everybody:
            raise wrong(at, "trusted_proxies", text, wanted)
    return texts


_CHECKS: Mapping[str, Callable[[str, str], Any]] = {
    "host": _host,
    "metrics_listen": _metrics_listen,
    "redis_url": _redis_url,
    "data_dir": _data_dir,
    "guests_org": _guests_org,
    "public_url": _public_url,
    "key_prefix": _key_prefix,
    "loop_engine": _loop_engine,
    "socket_driver": _socket_driver,
    "log_level": _log_level,
}


# The file.


def _from_file(document: Document) -> Iterator[tuple[str, Any, str]]:
    """(field, value, origin) for everything the file says but the secret; a value of None adds only an origin."""
    allowed = [*TOP_LEVEL, "token_secret_file", "ledger_key_file", "limits", *_STRUCTURED]
    for key, value in document.values.items():
        at = document.at((key,))
        if key in LIMITS:
            raise SettingsError(f"{at}: `{key}` belongs under [limits]")
        if key == "token_secret":
            raise SettingsError(f"{at}: a secret doesn't stand in this file; use HUB_TOKEN_SECRET or token_secret_file")
        if key not in allowed:
            raise unknown_key(at, key, allowed)
        if key in TOP_LEVEL:
            yield key, _checked(key, value, at), at
    for key, value in document.table(("limits",)).items():
        at = document.at(("limits", key))
        if key in TOP_LEVEL:
            raise SettingsError(f"{at}: `{key}` belongs to the top of the file, before the first [table]")
        if key not in LIMITS:
            raise unknown_key(at, key, LIMITS)
        yield key, _checked(key, value, at), at
    yield from _structured(document)


def _structured(document: Document) -> Iterator[tuple[str, Any, str]]:
    makers = {"queues": queue_of, "channels": channel_of, "people": person_of}
    for table, make in makers.items():
        made: dict[str, object] = {}
        for key in document.table((table,)):
            made[key] = make(document, key)
            yield f"{table}.{key}", None, document.at((table, key))
        if made:
            yield table, MappingProxyType(made), document.at((table,))
    if "files" in document.values:
        yield "files", files_of(document), document.at(("files",))
    if "issuers" in document.values:
        yield "issuers", issuers_of(document), document.at(("issuers",))
    yield from maskings_of(document)


# Whom an issuer may speak for, and what its claims mean.


# Signing in in a browser.


def _check_together(settings: Settings) -> None:
    """What is wrong only next to another value; each pair is (smaller, larger)."""
    pairs = [
        ("lease_renew_ms", "lease_ms"),
        ("monitor_ping_ms", "monitor_silence_ms"),
        ("monitor_silence_ms", "lease_ms"),
        ("keys_fresh_ms", "keys_usable_ms"),
        ("outbound_timeout_ms", "outbound_claim_ms"),
        ("outbound_backoff_ms", "outbound_backoff_max_ms"),
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
    if settings.sign_in is not None and settings.origins and settings.sign_in.public_url not in settings.origins:
        raise SettingsError(
            f"{settings.source('public_url')}: the pages of public_url {settings.public_url!r} couldn't connect: "
            f"it isn't among origins ({settings.source('origins')})"
        )


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
