"""Board entries as the store writes them, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hub.domain.grants import Person

T0 = 1_795_377_600_000
Part = tuple[str, str]  # user id, purpose


def row(
    conversation_id: str,
    *,
    queue: str = "support",
    division: str = "home",
    channel: str = "web",
    state: str = "active",
    subject: str = "Refund",
    customer: str = "Dana",
    people: Sequence[Part] = (("bob", "agent"),),
    owner: str | None = None,
    monitor: str | None = None,
    awaiting: str | None = "agent",
    awaiting_since: int | None = T0,
    started_at: int = T0,
    messages: int = 3,
) -> dict[str, Any]:
    """An `interactions` row; `owner` is a user id, without it the first of `people` owns."""
    user = owner or (people[0][0] if people else None)
    return {
        "conversation_id": conversation_id,
        "channel": channel,
        "queue": queue,
        "division": division,
        "state": state,
        "subject": subject,
        "customer": {"id": "cus_1", "name": customer},
        "agents": [
            {
                "participant_id": f"prt_{one}",
                "user_id": one,
                "name": one.title(),
                "purpose": purpose,
                "state": "connected",
            }
            for one, purpose in people
        ],
        "owner": f"prt_{user}" if user else None,
        "owner_epoch": 1,
        "owner_away": False,
        "monitor": monitor
        and {"user_id": monitor, "name": monitor.title(), "since": T0 + 5, "participant_id": "prt_bob"},
        "taken_over": False,
        "awaiting": awaiting,
        "awaiting_since": awaiting_since,
        "started_at": started_at,
        "messages": messages,
    }


def extra(
    *,
    people: Sequence[Part] = (("bob", "agent"),),
    monitor: str | None = None,
    notices: Sequence[str] = (),
    wrapups: Sequence[str] = (),
    queued_since: int | None = None,
    ended_at: int | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The hidden part; `notices` and `wrapups` are user ids."""
    return {
        "connector": "con",
        "monitor": monitor and {"monitor_id": f"mon_{monitor}", "user_id": monitor, "participant_id": "prt_bob"},
        "monitor_ended": None,
        "people": [
            {"participant_id": f"prt_{one}", "user_id": one, "purpose": purpose, "since": T0 + 1}
            for one, purpose in people
        ],
        "notices": [{"takeover_id": f"tko_{one}", "user_id": one} for one in notices],
        "wrapups": [
            {
                "participant_id": f"prt_{one}",
                "user_id": one,
                "prompt": "mandatory",
                "codes": ["resolved"],
                "timeout_ms": None,
                "due_at": T0 + 9,
            }
            for one in wrapups
        ],
        "wrapup_ended": [],
        "queued_since": queued_since,
        "ended_at": ended_at,
        **others,
    }


def both(conversation_id: str, **fields: Any) -> tuple[bytes, bytes]:
    """Row and hidden part of one conversation, from the fields of either."""
    hidden = {"notices", "wrapups", "queued_since", "ended_at", "monitor_ended", "wrapup_ended"}
    shared = {name: value for name, value in fields.items() if name in ("people", "monitor")}
    shown = {name: value for name, value in fields.items() if name not in hidden}
    kept = {name: value for name, value in fields.items() if name in hidden}
    return orjson.dumps(row(conversation_id, **shown)), orjson.dumps(extra(**kept, **shared))


def full(conversation_id: str, **fields: Any) -> bytes:
    """A log entry with a whole row."""
    shown, hidden = both(conversation_id, **fields)
    return b"R" + shown + b"\n" + hidden


def patch(conversation_id: str, awaiting: str | None, awaiting_since: int | None, messages: int) -> bytes:
    """A log entry with counters only."""
    return b"P" + orjson.dumps(
        {
            "conversation_id": conversation_id,
            "awaiting": awaiting,
            "awaiting_since": awaiting_since,
            "messages": messages,
        }
    )


def known(
    user_id: str,
    *,
    status: str = "available",
    present: bool = True,
    queues: Sequence[str] | None = ("*",),
    divisions: Sequence[str] = ("*",),
) -> bytes:
    """A person's record; `queues` None: never connected as an agent."""
    agent: Mapping[str, Any] | None = None if queues is None else {"queues": queues, "divisions": divisions}
    return orjson.dumps(
        {
            "user_id": user_id,
            "name": user_id.title(),
            "status": status if present else "offline",
            "status_since": T0,
            "present": present,
            "agent": agent,
        }
    )


def person(
    user_id: str = "ana",
    *,
    role: str = "supervisor",
    queues: Sequence[str] = ("*",),
    divisions: Sequence[str] = ("*",),
    org: str = "acme",
) -> Person:
    """Whoever looks."""
    return Person(user_id, user_id.title(), org, role, frozenset({"view"}), frozenset(queues), frozenset(divisions))
