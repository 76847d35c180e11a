"""
What a channel is: how a provider's requests become events, and how actions become calls to the provider.

    Channel.receive(inbound)   a provider's request -> events in the protocol's form (section 5) and what to answer
    Channel.send(action)       an action -> one call to the provider -> `Sent`, `Later` or `Failed`

An adapter decides nothing about order, repetition or giving up: the outbox hands it one action of a conversation at a
time, again with the same id after `Later`, and never one that was `Sent` or `Failed`. It keeps nothing in memory that
another node would need; what must be remembered between requests goes into `Notes`.

A module of this package is an adapter when it has one function and is named in `delivery.ADAPTERS`:

    def make(options: Mapping[str, Option], place: Place) -> Channel

It is called once per connector when the hub starts, does no I/O, and raises `BadOption` for what it can't work with:
missing, of the wrong type, out of range, or a key that it doesn't know. `options` are the connector's own ones, as they
stand in its table of the configuration: without those that are the hub's (`HUB_OPTIONS`), and with `x` read from the
file where the table names an `x_file`, as a text without white space at its ends. `option_reader.Options` reads them with
the checks that most need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Option = str | int | float | bool | Sequence[str] | Mapping[str, str]  # what a key of `[connectors.<sub>]` may hold
HUB_OPTIONS = frozenset({"org", "adapter", "allow_private"})  # never given to an adapter


class BadOption(Exception):
    """
    An option that an adapter can't work with. `key` names it; `message` says what was got and what is allowed, without
    the value where that may be a secret. The hub adds file and line.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"`{key}` {message}")
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True)
class Place:
    """
    Whose side of which connector a channel is.

    `url` is where the provider reaches it, `https://hub.example.org/v1/channels/<connector>` (more may follow after
    another `/`); empty where the setting `public_url` isn't set.
    """

    org: str
    connector: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Inbound:
    """
    A provider's request, whole. `url` is the one that the provider called, as it sees it (public scheme and host, with
    the query), since signatures cover it; names of `headers` are in lower case; `now_ms` is Unix ms.
    `over`: conversations into which this very request wanted and that had ended, in that order (see `Renewing`).
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    now_ms: int
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """
    `events` for ingest, in order, each an object of the protocol's section 5; the rest answers the provider, once all
    events are in (503 instead where the store is away). An event that is refused doesn't change the answer.

    `results`: the body is what became of each event, as `POST /v1/events` answers it. `once`: a word that stands for this
    very request; another request with the same one within `once_ms` is a replay, refused with `unauthenticated`. It is
    remembered when the events are in, so that a request which was never carried out can be sent again.
    """

    events: Sequence[Mapping[str, Any]] = ()
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"
    results: bool = False
    once: str = ""
    once_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Action:
    """
    One action for the provider: `type` and `data` as the connector's socket would get them (protocol, section 5).

    `id` is the same in every try; `attempt` counts from 1; `customer_id` is the conversation's customer, `at` Unix ms.
    `links`: of each attachment that lies at the hub (`/v1/files/...`, which by itself opens nothing) a public address that
    opens it, for `outbound_file_ms`; empty where the setting `public_url` isn't set.
    """

    id: str
    type: str
    org: str
    conversation_id: str
    customer_id: str
    at: int
    attempt: int
    data: Mapping[str, Any]
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> list[str]:
        """Of the message's attachments, as they are for a provider that has no token of the hub's."""
        urls = [str(one["url"]) for one in self.data.get("attachments") or ()]
        return [self.links.get(url, url) for url in urls]


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider has it, or it is of no use to this provider. `status`: `sent`, or more where the provider says so."""

    status: str = "sent"


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: tried again with backoff, not before `after_ms` where the provider named a time. `reason` is shown."""

    reason: str
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """Never: `reason` (short, without text of the conversation) is shown to who wrote it and to operators."""

    reason: str


Outcome = Sent | Later | Failed


class Notes(Protocol):
    """A channel's memory in the store, one per connector: short texts by key. Raises Refused `store_unavailable`."""

    async def get(self, key: str) -> str | None:
        """What was put there, or None."""

    async def put(self, key: str, value: str, *, ttl_ms: int, absent: bool = False) -> bool:
        """Remember for `ttl_ms`; with `absent` only where nothing is there yet. True where it was written."""

    def about(self, customer_id: str) -> Notes:
        """
        The same notes; what is put through these goes when that customer (as `conversation.started` names them) is erased.

        `send` gets its notes so, and `ended` where it can be known; `receive` itself knows whom a request is about.
        """


class Unreachable(Exception):
    """No answer came from the provider: refused, cut, too slow, or an address where calls may not go."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Caller(Protocol):
    """Calls out. It follows no redirect, reaches only addresses where calls may go, and its answers are bounded."""

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request with the configured time-out. Raises Unreachable; cancelling leaves the outcome unknown."""


class Channel(Protocol):
    """One configured connector's side of a provider. Made by the adapter's `make(options, place)`; see the module."""

    async def receive(self, inbound: Inbound, notes: Notes) -> Received:
        """Raises Refused: `unauthenticated` for a wrong signature, `schema_invalid` for what can't be read."""

    async def send(self, action: Action, notes: Notes, caller: Caller) -> Outcome:
        """
        Carry one action out; never raises for the provider's faults (`Unreachable` is `Later`).

        It is cancelled after `outbound_timeout_ms` in all, and tried again: `Later` counts as a try, as does that.
        """


@runtime_checkable
class Renewing(Protocol):
    """
    Beside `Channel`, for providers that know no conversations: two numbers, a thread that is opened again.

    The hub ends conversations by itself, too, and an end may still be on its way to `send` while the customer writes again.
    """

    async def ended(self, conversation_id: str, notes: Notes) -> bool:
        """
        An event for this conversation was refused because it has ended. Note it, so that `receive` finds the next one.

        True: `receive` is asked again for the same request, with this conversation in `over`, and what it then answers counts.
        Idempotent.
        """


Maker = Callable[[Mapping[str, Option], Place], Channel]
