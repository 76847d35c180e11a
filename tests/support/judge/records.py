"""What a socket got and sent, as its client wrote it down: the evidence that the judge has."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Json = dict[str, Any]

# As what a role takes part in conversations.
PURPOSES = {"agent": ("agent", "bot"), "supervisor": ("supervisor",), "admin": ("supervisor",)}
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was broken: where, what was seen and what was wanted."""

    promise: str
    socket: str
    conversation: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.socket}, {self.conversation or '-'}: {self.seen}; wanted: {self.wanted}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One object on the wire; `at` is monotonic time (seconds), `sent` is true for what the client said."""

    at: float
    sent: bool
    thing: Json


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its answer; `answer` is None where none came."""

    asked: Json
    asked_at: float
    answer: Json | None = None
    answered_at: float = 0.0

    @property
    def ok(self) -> Json | None:
        """The `ok`, or None where it was refused or not answered."""
        return None if self.answer is None else self.answer.get("ok")


@dataclass(frozen=True, eq=False)
class Record:
    """
    Everything between one client and the hub, in order. Who that is stands in the frames themselves: in the token of
    the hello and in its answer.

    The events that a platform posts by HTTP are a record, too: endpoint `/v1/events`, each event a command `event`;
    `org_known` and `user_known` say whose it is, as nothing in its frames does. `closed_at` is None while it is open.
    """

    name: str
    endpoint: str
    frames: Sequence[Frame]
    close_code: int | None = None
    closed_at: float | None = None
    org_known: str = ""
    user_known: str = ""

    @cached_property
    def commands(self) -> list[Command]:
        """Commands in the order in which they were sent, each with its answer."""
        found: list[Command] = []
        waiting: dict[object, list[int]] = {}
        for frame in self.frames:
            number = frame.thing.get("id")
            if not isinstance(number, int):
                continue
            if frame.sent and "cmd" in frame.thing:
                waiting.setdefault(number, []).append(len(found))
                found.append(Command(frame.thing, frame.at))
            elif not frame.sent and waiting.get(number):
                place = waiting[number].pop(0)
                found[place] = Command(found[place].asked, found[place].asked_at, frame.thing, frame.at)
        return found

    @cached_property
    def hello(self) -> Command | None:
        """The hello that was answered with `ok`."""
        return next((one for one in self.commands if one.asked["cmd"] == "hello" and one.ok is not None), None)

    @property
    def welcome(self) -> Json:
        """The `ok` of the hello; empty where there was none."""
        return (self.hello.ok or {}) if self.hello is not None else {}

    @property
    def session(self) -> str:
        """The session's id; empty where hello wasn't answered."""
        return str(self.welcome.get("session", ""))

    @property
    def resumed(self) -> bool:
        """True where it goes on with a session that another socket had."""
        return bool(self.welcome.get("resumed"))

    @cached_property
    def resumed_from(self) -> Mapping[str, str]:
        """The cursors that the hub took up, by conversation."""
        if self.hello is None or not self.resumed:
            return {}
        resume = self.hello.asked.get("resume")
        return dict(resume.get("cursors", {})) if isinstance(resume, dict) else {}

    @cached_property
    def claims(self) -> Json:
        """What the token says; empty where it was a ticket, which says nothing."""
        return claims_of(self.hello.asked.get("token")) if self.hello is not None else {}

    @property
    def user(self) -> str:
        """The person's (or platform's) id."""
        return str(self.welcome.get("user", {}).get("id", "")) or self.user_known

    @property
    def org(self) -> str:
        """The organization; empty where a ticket hides it."""
        return str(self.claims.get("org", "")) or self.org_known

    @property
    def role(self) -> str:
        """The kind of endpoint it is: `supervisor`, `agent`, `customer`, `connector`, or `events` for HTTP."""
        return self.endpoint.rpartition("/")[2]

    @property
    def person(self) -> tuple[str, str, str]:
        """Organization, role and user."""
        return self.org, self.role, self.user

    @property
    def events(self) -> Iterator[tuple[float, Json]]:
        """What the hub told, with when it came."""
        return ((one.at, one.thing) for one in self.frames if not one.sent and "event" in one.thing)

    def is_me(self, participant: Json) -> bool:
        """True for a participant that is this person in this role."""
        return participant.get("user_id") == self.user and participant.get("purpose") in PURPOSES.get(self.role, ())

    def may_see(self, queue: str, division: str | None = None) -> bool:
        """True where the token grants both; a ticket says nothing, so anything goes."""
        if not self.claims:
            return True
        queues, divisions = self.claims.get("queues", []), self.claims.get("divisions", [])
        in_queue = EVERYTHING in queues or queue in queues
        return in_queue and (division is None or EVERYTHING in divisions or division in divisions)

    def __str__(self) -> str:
        return f"{self.name} {self.user or '?'} {self.session}".rstrip()


@dataclass(slots=True)
class Session:
    """One session: its sockets in the order in which they were welcomed."""

    records: list[Record] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """True where its first socket is among the records, so that nothing was given to it that nobody wrote down."""
        return not self.records[0].resumed


def sessions_of(records: Sequence[Record]) -> list[Session]:
    """The records by session; those that were never welcomed are in none."""
    found: dict[str, Session] = {}
    welcomed = [one for one in records if one.session]
    for record in sorted(welcomed, key=lambda one: one.hello.answered_at if one.hello is not None else 0.0):
        found.setdefault(record.session, Session()).records.append(record)
    return list(found.values())


def claims_of(token: object) -> Json:
    """What a JWT says, unchecked; empty for anything else."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor taken apart: `<epoch>.<tag>-<offset>`."""

    epoch: str
    tag: str
    offset: int

    @classmethod
    def of(cls, cursor: str) -> "Place":
        """The place that a cursor means. Raises ValueError where it isn't one."""
        epoch, _, rest = cursor.partition(".")
        tag, _, offset = rest.rpartition("-")
        return cls(epoch, tag, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.tag}-{self.offset}"


def place_of(cursor: object) -> Place | None:
    """The place that a cursor means, or None where it isn't one of the hub's."""
    try:
        return Place.of(cursor) if isinstance(cursor, str) else None
    except ValueError:
        return None
