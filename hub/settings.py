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

from hub.domain.claims import ClaimNames, ClaimPath, Grant, IssuerRules
from hub.domain.files import TYPES
from hub.domain.grants import EVERYTHING, PERMISSIONS, ROLES
from hub.domain.ledger import LedgerKeys, derived_key
from hub.domain.masking import PATTERN_NAME
from hub.linear import NoEngine, finder

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
    `retention_ms` is how long its ended conversations are kept; None: as long as those of any queue.
    """

    name: str
    division: str
    wrapup_prompt: str = "none"
    wrapup_timeout_ms: int = 30_000
    wrapup_codes: tuple[str, ...] = ()
    retention_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One channel: True in `agent_name_visible` where its customers are shown the name of who answers."""

    agent_name_visible: bool = False


@dataclass(frozen=True, slots=True)
class MaskingSettings:
    """
    What people who only watch don't get to read: kinds that are built in, and `patterns`, (name, RE2 pattern) of one's own.

    See `hub/domain/masking.py`; nothing is masked by default.
    """

    card: bool = False
    iban: bool = False
    email: bool = False
    phone: bool = False
    patterns: tuple[tuple[str, str], ...] = ()


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
    """
    An identity provider whose tokens are taken; its keys (JWKS) come from exactly one of URL and file.

    `audience` is what its tokens call this hub (`aud`); `rules` say whom it may speak for, and what its claims mean.
    """

    issuer: str
    jwks_url: str | None = None
    jwks_file: Path | None = None
    audience: str = "hub"
    rules: IssuerRules = field(default_factory=IssuerRules)


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """
    How people sign in in a browser: with which of the issuers (OpenID Connect), and as which of its clients.

    `public_url` is the hub's own origin as browsers see it, without a path; `client_secret` None: a public client.
    `discovery_url` is where the issuer describes itself.
    """

    issuer: str
    client_id: str
    public_url: str
    discovery_url: str
    client_secret: bytes | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "profile")

    @property
    def secure(self) -> bool:
        """True where browsers reach the hub by https, so that cookies are for that alone."""
        return self.public_url.startswith("https://")


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """
    Files of conversations: the folder (None: `files` in `data_dir`) or S3 bucket they are kept in, the media types that are
    taken, and the scanner's argv (empty: none).

    `s3_bucket` empty: the folder; `s3_endpoint` empty: Amazon's own. Credentials come from the environment (`AWS_*`) alone.
    """

    dir: Path | None = None
    s3_bucket: str = ""
    s3_prefix: str = "hub"
    s3_endpoint: str = ""
    s3_region: str = ""
    types: tuple[str, ...] = tuple(TYPES)
    scan_command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """
    One connector that the hub delivers for by itself: conversations of `org` that the connector of this name started.

    `adapter` names the code that speaks to the provider (`hub.channels.delivery.ADAPTERS`); `options` are its own (texts,
    numbers, booleans, lists and tables of texts), never shown, since secrets are among them. `allow_private`: `name:port`
    of hosts that may be called although their addresses are not public ones.
    """

    org: str
    adapter: str
    allow_private: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


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
    public_url: str = _option(
        "", "address at which providers reach the hub, like https://hub.example.org; empty: as they call it", top=True
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
    # Where the secret was read, so that `hub doctor` can look at who else may read it.
    token_secret_file: Path | None = None
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
    idle_ms: int = _option(_DAY_MS, "time without any event after which a conversation ends by inactivity")
    retention_ms: int = _option(7 * _DAY_MS, "how long ended conversations are kept; a queue may say otherwise")
    erasure_wait_ms: int = _option(
        30_000, "time a platform has to be told that a conversation is over before it is erased", zero="not waited for"
    )
    ledger_seal_ms: int = _option(60_000, "time between two seals of the ledger")
    ledger_entries_max: int = _option(1_000_000, "ledger lines kept of each of the 64 partitions; the oldest go")
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
    file_orphan_ms: int = _option(_DAY_MS, "age from which bytes of a file that nobody names are removed")
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
    outbound_file_ms: int = _option(7 * _DAY_MS, "how long a link to a file opens it that a provider was sent")
    outbound_parallel: int = _option(16, "actions of one connector under way at a time on one node")
    outbound_tries_max: int = _option(20, "tries after which an action is given up")
    outbound_age_max_ms: int = _option(4 * 3_600_000, "age at which an action that could not be sent is given up")
    outbound_backoff_ms: int = _option(1_000, "longest wait before the second try; it doubles with each")
    outbound_backoff_max_ms: int = _option(300_000, "longest wait between two tries")
    outbound_answer_bytes_max: int = _option(1_048_576, "size of a provider's answer")
    breaker_failures: int = _option(5, "failures in a row after which an endpoint is left alone")
    breaker_ms: int = _option(30_000, "how long it is left alone before one call tries it again")
    dead_letters_max: int = _option(1_000, "dead letters kept of one connector in each of the 64 partitions")

    files: FilesSettings = FilesSettings()
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
    if "sign_in" in document.values:
        values["sign_in"] = _sign_in(document, env, read or _read, values.get("issuers", ()))
        sources["sign_in"] = document.at(("sign_in",))
    _take_connectors(document, read, values, sources)
    _take_ledger_keys(document, env, read, values, sources)
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
    keys = f"{len(settings.ledger_keys)} set" if settings.ledger_keys else "unset"
    yield "ledger_keys", keys, settings.source("ledger_keys"), "make and check the ledger's codes"
    for index, issuer in enumerate(settings.issuers):
        yield from _described(f"issuers.{index}", issuer, settings.source("issuers"))
    if settings.sign_in is not None:
        yield from _described("sign_in", settings.sign_in, settings.source("sign_in"))
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


def _public_url(value: str, at: str) -> str:
    if value and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._~/-]*)?", value):
        raise _wrong(at, "public_url", value, "an address like https://hub.example.org, or nothing")
    return value.rstrip("/")


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
    "public_url": _public_url,
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
    allowed = [*TOP_LEVEL, "token_secret_file", "ledger_key_file", "limits", *_STRUCTURED]
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
    if "files" in document.values:
        yield "files", _files(document), document.at(("files",))
    if "issuers" in document.values:
        yield "issuers", _issuers(document), document.at(("issuers",))
    yield from _maskings(document)


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
        retention_ms=_retention(document, path, table),
    )


def _retention(document: "_Document", path: Path_, table: Mapping[str, Any]) -> int | None:
    value = table.get("retention_ms")
    if value is not None and (type(value) is not int or not 1 <= value <= _INT_MAX):
        at = document.at((*path, "retention_ms"))
        raise _wrong(at, "retention_ms", value, f"a whole number of milliseconds from 1 to {_INT_MAX}")
    return value


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


def _files(document: "_Document") -> FilesSettings:
    path: Path_ = ("files",)
    table = document.entry(path, [f.name for f in dataclasses.fields(FilesSettings)])
    types = _texts(table.get("types", list(TYPES)), "types", document.at((*path, "types")))
    stranger = next((one for one in types if one not in TYPES), None)
    if stranger is not None or not types:
        raise _wrong(document.at((*path, "types")), "types", stranger or types, _one_of(list(TYPES)))
    if "s3_endpoint" in table and not re.match(r"https?://[^/\s]", document.text(path, "s3_endpoint")):
        at = document.at((*path, "s3_endpoint"))
        raise _wrong(at, "s3_endpoint", table["s3_endpoint"], "an address that begins with https://")
    texts = {
        name: document.text(path, name)
        for name in ("s3_bucket", "s3_prefix", "s3_endpoint", "s3_region")
        if name in table
    }
    return FilesSettings(
        dir=document.beside(document.text(path, "dir")) if "dir" in table else None,
        types=types,
        scan_command=_texts(table.get("scan_command", []), "scan_command", document.at((*path, "scan_command"))),
        **texts,
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
    table = document.entry(path, _ISSUER_KEYS)
    name = document.text(path, "issuer")
    if name == "hub":
        raise _wrong(document.at((*path, "issuer")), "issuer", name, "another name: `hub` is the hub's own secret")
    if ("jwks_url" in table) == ("jwks_file" in table):
        raise SettingsError(f"{document.at(path)}: an issuer needs either jwks_url or jwks_file")
    audience, rules = document.text(path, "audience", "hub"), _rules(document, path, table)
    if "jwks_file" in table:
        file = document.beside(document.text(path, "jwks_file"))
        return IssuerSettings(issuer=name, jwks_file=file, audience=audience, rules=rules)
    url = document.text(path, "jwks_url")
    if not re.match(r"https?://[^/\s]", url):
        raise _wrong(document.at((*path, "jwks_url")), "jwks_url", url, "an address that begins with https://")
    return IssuerSettings(issuer=name, jwks_url=url, audience=audience, rules=rules)


# Whom an issuer may speak for, and what its claims mean.

_ISSUER_KEYS = ("issuer", "jwks_url", "jwks_file", "audience", "org", "organizations", "roles", "claims", "grants")
_CLAIM_NAMES = tuple(f.name for f in dataclasses.fields(ClaimNames))
_GRANT_KEYS = tuple(f.name for f in dataclasses.fields(Grant))
_RIGHTS = ("role", "permissions", "queues", "divisions")


def _rules(document: "_Document", path: Path_, table: Mapping[str, Any]) -> IssuerRules:
    """The rules of one issuer; one that may speak for no organization is refused."""
    if ("org" in table) == ("organizations" in table):
        raise SettingsError(
            f"{document.at(path)}: an issuer needs either `org` (everybody it speaks of belongs there) or "
            f'`organizations` (those that its tokens may name; ["*"]: any)'
        )
    organizations = _ids(table.get("organizations", []), "organizations", document.at((*path, "organizations")))
    if "organizations" in table and not organizations:
        raise _wrong(document.at((*path, "organizations")), "organizations", [], 'ids, or ["*"] for any')
    roles = _listed(document, path, table, "roles", ROLES) if "roles" in table else ROLES
    if not roles:
        raise _wrong(document.at((*path, "roles")), "roles", [], _one_of(sorted(ROLES)))
    names, grants = _claim_names(document, path), _grants(document, path)
    if grants:
        for name in _RIGHTS:
            if name in document.table((*path, "claims")):
                at = document.at((*path, "claims", name))
                raise SettingsError(f"{at}: `{name}` comes from the grants, which this issuer has; remove one of both")
    for index, grant in enumerate(grants):
        if grant.role and grant.role not in roles:
            at = document.at((*path, "grants", index, "role"))
            raise _wrong(at, "role", grant.role, f"one of the issuer's roles: {_one_of(sorted(roles))}")
    return IssuerRules(document.id(path, "org", ""), frozenset(organizations), roles, names, grants)


def _listed(
    document: "_Document", path: Path_, table: Mapping[str, Any], key: str, allowed: frozenset[str]
) -> frozenset[str]:
    """A list of known words."""
    at = document.at((*path, key))
    words = _texts(table.get(key, []), key, at)
    for word in words:
        if word not in allowed:
            raise _wrong(at, key, word, _one_of(sorted(allowed)))
    return frozenset(words)


def _claim_names(document: "_Document", path: Path_) -> ClaimNames:
    """`[issuers.claims]`: which claim says what."""
    path = (*path, "claims")
    if not document.table(path):
        return ClaimNames()
    table = document.entry(path, _CLAIM_NAMES)
    if "org" in table and "org" in document.get(path[:-1]):
        raise SettingsError(f"{document.at((*path, 'org'))}: the issuer has a fixed `org`; remove one of both")
    return ClaimNames(**{name: _claim_path(value, name, document.at((*path, name))) for name, value in table.items()})


def _claim_path(value: object, key: str, at: str) -> ClaimPath:
    """The name of a claim, or the names that lead to one within another."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise _wrong(at, key, value, 'the name of a claim, or a list like ["realm_access", "roles"]')
    return tuple(names)


def _grants(document: "_Document", path: Path_) -> tuple[Grant, ...]:
    """`[[issuers.grants]]`, in the file's order."""
    listed = document.get(path).get("grants", [])
    if not isinstance(listed, list):
        at = document.at((*path, "grants"))
        raise _wrong(at, "grants", listed, "tables that begin with [[issuers.grants]]")
    return tuple(_grant(document, (*path, "grants", index)) for index in range(len(listed)))


def _grant(document: "_Document", path: Path_) -> Grant:
    table = document.entry(path, _GRANT_KEYS)
    if "claim" not in table:
        raise SettingsError(f"{document.at(path)}: `claim` is missing")
    if not any(table.get(name) for name in _RIGHTS):
        raise SettingsError(f"{document.at(path)}: a grant needs one of {_one_of(_RIGHTS)}")
    role = document.text(path, "role") if "role" in table else ""
    if role and role not in ROLES:
        raise _wrong(document.at((*path, "role")), "role", role, _one_of(sorted(ROLES)))
    return Grant(
        claim=_claim_path(table["claim"], "claim", document.at((*path, "claim"))),
        value=document.text(path, "value"),
        role=role,
        permissions=_listed(document, path, table, "permissions", PERMISSIONS),
        queues=frozenset(_ids(table.get("queues", []), "queues", document.at((*path, "queues")))),
        divisions=frozenset(_ids(table.get("divisions", []), "divisions", document.at((*path, "divisions")))),
    )


# Signing in in a browser.

_SIGN_IN_KEYS = ("issuer", "client_id", "client_secret_file", "public_url", "discovery_url", "scopes")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _sign_in(
    document: "_Document",
    env: Mapping[str, str],
    read: Callable[[Path], bytes],
    issuers: Sequence[IssuerSettings],
) -> SignInSettings:
    """`[sign_in]`; the client's secret is that of the environment, else of the file it names, else there is none."""
    path: Path_ = ("sign_in",)
    table = document.table(path)
    if "client_secret" in table:
        at = document.at((*path, "client_secret"))
        raise SettingsError(f"{at}: a secret doesn't stand in this file; use HUB_SIGN_IN_SECRET or client_secret_file")
    document.entry(path, _SIGN_IN_KEYS)
    issuer = document.text(path, "issuer")
    if issuer not in [one.issuer for one in issuers]:
        known = _one_of([one.issuer for one in issuers]) or "none is configured"
        raise _wrong(document.at((*path, "issuer")), "issuer", issuer, f"one of [[issuers]]: {known}")
    scopes = _texts(table.get("scopes", ["openid", "profile"]), "scopes", document.at((*path, "scopes")))
    if "openid" not in scopes or not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in scopes):
        raise _wrong(document.at((*path, "scopes")), "scopes", list(scopes), "a list of words, one of them openid")
    discovery = document.text(path, "discovery_url", issuer.rstrip("/") + "/.well-known/openid-configuration")
    if not re.match(r"https?://[^/\s]", discovery):
        at = document.at((*path, "discovery_url" if "discovery_url" in table else "issuer"))
        raise _wrong(at, "discovery_url", discovery, "an address that begins with https://")
    return SignInSettings(
        issuer=issuer,
        client_id=document.text(path, "client_id"),
        public_url=_sign_in_origin(document, path),
        discovery_url=discovery,
        client_secret=_client_secret(document, path, env, read),
        scopes=scopes,
    )


def _sign_in_origin(document: "_Document", path: Path_) -> str:
    """An origin, written as browsers write it, since it is compared with what they say."""
    url, at = document.text(path, "public_url"), document.at((*path, "public_url"))
    found = re.fullmatch(r"(https?)://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?", url)
    if not found or found[3] == {"https": "443", "http": "80"}[found[1]]:
        wanted = "an origin like https://hub.example.com: small letters, no path, no port that goes without saying"
        raise _wrong(at, "public_url", url, wanted)
    if found[1] == "http" and found[2] not in _LOOPBACK:
        raise _wrong(at, "public_url", url, "https://, or http:// of this very machine")
    return url


def _client_secret(
    document: "_Document", path: Path_, env: Mapping[str, str], read: Callable[[Path], bytes]
) -> bytes | None:
    if env.get("HUB_SIGN_IN_SECRET"):
        secret, at = env["HUB_SIGN_IN_SECRET"].encode(errors="surrogateescape"), "HUB_SIGN_IN_SECRET"
    elif "client_secret_file" in document.get(path):
        at = document.at((*path, "client_secret_file"))
        try:
            secret = read(document.beside(document.text(path, "client_secret_file"))).strip()
        except SettingsError as error:
            raise SettingsError(f"{at}: {error}") from None
    else:
        return None
    if not re.fullmatch(rb"[ -~]+", secret):
        raise SettingsError(f"{at}: the client's secret is empty, or has other characters than ASCII's printable ones")
    return secret


_MASKED_KINDS: Final = ("card", "iban", "email", "phone")
_MASKED_PATTERNS_MAX: Final = 64


def _maskings(document: "_Document") -> Iterator[tuple[str, Any, str]]:
    """`[masking]`, and what `[masking.queues.ID]` says otherwise for one queue; what that leaves out stays."""
    table = document.table(("masking",))
    if not table:
        return
    everywhere = _masking(document, ("masking",), (*_MASKED_KINDS, "patterns", "queues"), MaskingSettings())
    yield "masking", everywhere, document.at(("masking",))
    made: dict[str, MaskingSettings] = {}
    for key in document.table(("masking", "queues")):
        path: Path_ = ("masking", "queues", key)
        document.entry(path, (*_MASKED_KINDS, "patterns"))
        made[key] = _masking(document, path, (*_MASKED_KINDS, "patterns"), everywhere)
        yield f"masking.queues.{key}", None, document.at(path)
    yield "masking_queues", MappingProxyType(made), document.at(("masking", "queues"))


def _masking(document: "_Document", path: Path_, allowed: Sequence[str], otherwise: MaskingSettings) -> MaskingSettings:
    table = document.table(path)
    for key, value in table.items():
        if key not in allowed:
            raise _unknown(document.at((*path, key)), key, allowed)
        if key in _MASKED_KINDS and not isinstance(value, bool):
            raise _wrong(document.at((*path, key)), key, value, "true or false")
    kinds = {key: table[key] for key in _MASKED_KINDS if key in table}
    if "patterns" in table:
        return dataclasses.replace(otherwise, **kinds, patterns=_patterns(document, (*path, "patterns")))
    return dataclasses.replace(otherwise, **kinds)


def _patterns(document: "_Document", path: Path_) -> tuple[tuple[str, str], ...]:
    listed = document.get(path)
    if not isinstance(listed, list) or len(listed) > _MASKED_PATTERNS_MAX:
        allowed = f'at most {_MASKED_PATTERNS_MAX} tables like {{name = "order", pattern = "KD-[0-9]+"}}'
        raise _wrong(document.at(path), "patterns", listed, allowed)
    patterns = tuple(_pattern(document, (*path, index)) for index in range(len(listed)))
    names = [name for name, _ in patterns]
    if len(set(names)) < len(names):
        raise SettingsError(f"{document.at(path)}: two patterns have the same name; each is allowed once")
    return patterns


def _pattern(document: "_Document", path: Path_) -> tuple[str, str]:
    document.entry(path, ("name", "pattern"))
    name, pattern = document.text(path, "name"), document.text(path, "pattern")
    if not PATTERN_NAME.fullmatch(name) or name in (*_MASKED_KINDS, "e-mail"):
        at = document.at((*path, "name"))
        raise _wrong(at, "name", name, "1 to 24 of a-z, 0-9, `-`, other than the kinds that are built in")
    try:
        finder(pattern)
    except NoEngine as error:
        raise SettingsError(f"{document.at((*path, 'pattern'))}: {error}") from None
    except ValueError as error:
        raise _wrong(document.at((*path, "pattern")), "pattern", pattern, str(error)) from None
    return name, pattern


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


def _take_connectors(
    document: "_Document",
    read: Callable[[Path], bytes] | None,
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """`[connectors.<sub>]`: who it is for, which adapter, and the adapter's options, those of files read."""
    made: dict[str, ConnectorSettings] = {}
    for key in document.table(("connectors",)):
        made[key] = _connector(document, key, read, sources)
        sources[f"connectors.{key}"] = document.at(("connectors", key))
    if made:
        values["connectors"], sources["connectors"] = MappingProxyType(made), document.at(("connectors",))


def _connector(
    document: "_Document", key: str, read: Callable[[Path], bytes] | None, sources: dict[str, str]
) -> ConnectorSettings:
    path: Path_ = ("connectors", key)
    table = document.entry(path, None)
    options: dict[str, Any] = {}
    for name, value in table.items():
        if name in ("org", "adapter", "allow_private"):
            continue
        at = document.at((*path, name))
        if name.endswith("_file"):
            name = name.removesuffix("_file")
            value = _of_file(document, path, name, read)
        if name in options:
            raise SettingsError(f"{at}: `{name}` and `{name}_file` both stand there; one is allowed")
        within = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else ()
        plain = isinstance(value, (str, int, float, bool, list, dict)) and all(isinstance(one, str) for one in within)
        if not plain:
            kind = "table" if isinstance(value, dict) else type(value).__name__
            raise SettingsError(f"{at}: `{name}` is a {kind}; allowed: text, number, boolean, texts, a table of texts")
        options[name], sources[f"connectors.{key}.{name}"] = value, at
    private = _texts(table.get("allow_private", []), "allow_private", document.at((*path, "allow_private")))
    for one in private:
        try:
            parse_address(one)
        except ValueError as error:
            at = document.at((*path, "allow_private"))
            raise _wrong(at, "allow_private", one, f"{error}, like mail.internal:443") from None
    return ConnectorSettings(
        org=document.id(path, "org"),
        adapter=document.text(path, "adapter"),
        allow_private=tuple(one.lower() for one in private),
        options=MappingProxyType(options),
    )


def _of_file(document: "_Document", path: Path_, name: str, read: Callable[[Path], bytes] | None) -> str:
    """The text of a file that the option `<name>_file` names."""
    file = document.beside(document.text(path, f"{name}_file"))
    at = document.at((*path, f"{name}_file"))
    try:
        text = (read or _read)(file).decode().strip()
    except SettingsError as error:
        raise SettingsError(f"{at}: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{at}: {file} isn't text") from None
    if not text:
        raise SettingsError(f"{at}: {file} is empty")
    return text


def _take_ledger_keys(
    document: "_Document",
    env: Mapping[str, str],
    read: Callable[[Path], bytes] | None,
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """`HUB_LEDGER_KEY`, else the lines of the file that the configuration names: the first is today's key."""
    if env.get("HUB_LEDGER_KEY"):
        keys, at = env["HUB_LEDGER_KEY"].encode(errors="surrogateescape").split(), "HUB_LEDGER_KEY"
    elif "ledger_key_file" in document.values:
        at = document.at(("ledger_key_file",))
        path = document.beside(document.text((), "ledger_key_file"))
        try:
            keys = (read or _read)(path).split()
        except SettingsError as error:
            raise SettingsError(f"{at}: {error}") from None
        at = f"{at} ({path})"
    else:
        return
    if not keys or any(len(key) < SECRET_BYTES_MIN for key in keys):
        shortest = min(map(len, keys), default=0)
        raise SettingsError(f"{at}: a ledger key has {shortest} bytes; at least {SECRET_BYTES_MIN} are needed")
    values["ledger_keys"], sources["ledger_keys"] = tuple(keys), at


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
            f"{settings.source('sign_in')}: the pages of public_url {settings.sign_in.public_url!r} couldn't connect: "
            f"it isn't among origins ({settings.source('origins')})"
        )


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

    def entry(self, path: Path_, allowed: Sequence[str] | None) -> Mapping[str, Any]:
        """A table of known keys (None: of any) whose own name is an id."""
        value = self.get(path)
        if not isinstance(value, dict):
            raise _wrong(self.at(path), str(path[-1]), value, f"a table: [{'.'.join(map(str, path))}]")
        if isinstance(path[-1], str) and not _ID.fullmatch(path[-1]):
            raise _wrong(self.at(path), str(path[0]), path[-1], "an id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
        for key in value:
            if allowed is not None and key not in allowed:
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
            table = _numbered(_path(header[1]), counts)
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


def _numbered(table: Path_, counts: Mapping[Path_, int]) -> Path_:
    """A header's path with the numbers of the tables above it: `issuers.claims` belongs to the last of `[[issuers]]`."""
    found: Path_ = ()
    for name in table[:-1]:
        found = (*found, name)
        if found in counts:
            found = (*found, counts[found])
    return (*found, *table[-1:])


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
