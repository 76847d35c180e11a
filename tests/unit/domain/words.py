"""The words that tests of the rules are written in: people, conversations, monitors, commands with usual values."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import (
    Conversation,
    Counters,
    Monitor,
    MonitorSession,
    Participant,
    Prepared,
    Situation,
    Wrapup,
    WrapupRule,
)
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.domain.grants import EVERYTHING, PERMISSIONS, Person

NOW = 1_795_377_600_000
LEASE_MS = 15_000
CUSTOMER = Participant("prt_dana", "customer", "cus_7", "Dana", NOW - 9_000)
BOB = Participant("prt_bob", "agent", "bob", "Bob", NOW - 8_000)
CAY = Participant("prt_cay", "agent", "cay", "Cay", NOW - 7_000)
ROBO = Participant("prt_robo", "bot", "robo", "Robo", NOW - 6_000)
EVE = Participant("prt_eve", "supervisor", "eve", "Eve", NOW - 5_000)
MANDATORY = WrapupRule("mandatory", ("resolved", "follow-up"), 30_000, 86_400_000)


def person(user_id: str = "ana", **changes: Any) -> Person:
    """A supervisor with every permission everywhere."""
    usual = Person(
        user_id=user_id,
        name=user_id.capitalize(),
        org="acme",
        role="supervisor",
        permissions=PERMISSIONS,
        queues=frozenset({EVERYTHING}),
        divisions=frozenset({EVERYTHING}),
    )
    return replace(usual, **changes)


def lacking(permission: str, user_id: str = "ana") -> Person:
    """A supervisor with every permission but one."""
    return person(user_id, permissions=PERMISSIONS - {permission})


def desk(user_id: str = "bob") -> Person:
    """An agent (or a bot) as their own token states them."""
    return person(user_id, role="agent", permissions=frozenset(), queues=frozenset(), divisions=frozenset())


def messenger(conversation_id: str | None = "cnv_1") -> Person:
    """The customer of a conversation."""
    return person("cus_7", role="customer", permissions=frozenset(), conversation=conversation_id)


def conversation(*connected: Participant, **changes: Any) -> Conversation:
    """A running one, owned by the first of those connected."""
    usual = Conversation(
        org="acme",
        conversation_id="cnv_1",
        connector="platform",
        channel="web",
        queue="support",
        division="home",
        subject="Refund",
        customer_id="cus_7",
        customer=CUSTOMER,
        started_at=CUSTOMER.since,
        connected=connected,
        owner=connected[0].participant_id if connected else None,
        owner_epoch=1 if connected else 0,
        last_owner=connected[0].participant_id if connected else None,
        queued_since=None if connected else CUSTOMER.since,
    )
    return replace(usual, **changes)


def monitor(user_id: str = "ana", target: Participant = BOB, *sessions: str, until: int = NOW + LEASE_MS) -> Monitor:
    """A monitor at somebody's side, joined by `ses_<user_id>` unless sessions are named."""
    return Monitor(
        monitor_id=f"mon_{user_id}",
        user_id=user_id,
        name=user_id.capitalize(),
        participant_id=target.participant_id,
        since=NOW - 4_000,
        queues=(EVERYTHING,),
        divisions=(EVERYTHING,),
        sessions=tuple(MonitorSession(one, until) for one in sessions or (f"ses_{user_id}",)),
    )


def prepared(user_id: str = "ana", **changes: Any) -> Prepared:
    """A takeover that waits for its confirmation, under `monitor(user_id)`."""
    return replace(Prepared("tko_1", user_id, "hash", f"mon_{user_id}", 1, NOW + 60_000), **changes)


def situation(*connected: Participant, **changes: Any) -> Situation:
    """A running conversation with those connected; `changes` are of the situation or of the conversation."""
    own = {name: changes.pop(name) for name in list(changes) if name in Situation.__dataclass_fields__}
    own.setdefault("conversation", conversation(*connected, **changes))
    return Situation(**{"now_ms": NOW, **own})


def watched(*connected: Participant, **changes: Any) -> Situation:
    """Ana monitors the first of those connected (Bob, where nobody is named)."""
    connected = connected or (BOB,)
    return situation(*connected, **{"monitor": monitor(target=connected[0]), **changes})


def counters(unanswered: int = 2) -> Counters:
    """The customer waits for an answer."""
    return Counters(messages=5, awaiting="agent", awaiting_since=NOW - 3_000, unanswered=unanswered)


def wrapup(one: Participant, due_at: int = NOW + 30_000, **changes: Any) -> Wrapup:
    """An open wrap-up of a participant."""
    usual = Wrapup(one.participant_id, one.user_id, one.name, "timeout", ("resolved",), 30_000, NOW - 1_000, due_at)
    return replace(usual, **changes)


def begin(**changes: Any) -> c.StartConversation:
    """The platform opens the conversation."""
    usual = c.StartConversation(
        "acme", "cnv_1", "platform", "web", "support", "home", "Refund", "cus_7", "Dana", "prt_dana", CUSTOMER.since
    )
    return replace(usual, **changes)


def connect(one: Participant = BOB, connector: str = "platform") -> c.ConnectParticipant:
    """The platform brings somebody in."""
    return c.ConnectParticipant(connector, one)


def disconnect(one: Participant = BOB, connector: str = "platform", at: int = NOW) -> c.DisconnectParticipant:
    """The platform takes somebody out."""
    return c.DisconnectParticipant(connector, one.participant_id, "client", at)


def transfer(queue: str = "billing", division: str = "home", connector: str = "platform") -> c.TransferConversation:
    """The platform moves it to another queue."""
    return c.TransferConversation(connector, queue, division, NOW)


def finish(connector: str = "platform") -> c.EndByPlatform:
    """The platform says that it is over."""
    return c.EndByPlatform(connector, "solved", NOW)


def watch(who: Person | None = None, **changes: Any) -> c.StartMonitor:
    """Ana wants to monitor, available, without naming a target."""
    who = who or person()
    usual = c.StartMonitor(who, "available", f"ses_{who.user_id}", None, f"mon_{who.user_id}", NOW + LEASE_MS)
    return replace(usual, **changes)


def prepare(who: Person | None = None, **changes: Any) -> c.PrepareTakeover:
    """Ana asks what a takeover would do."""
    who = who or person()
    return replace(c.PrepareTakeover(who, f"ses_{who.user_id}", "tko_1", "hash", NOW + 60_000), **changes)


def confirm(who: Person | None = None, **changes: Any) -> c.ConfirmTakeover:
    """Ana takes over."""
    who = who or person()
    return replace(c.ConfirmTakeover(who, f"ses_{who.user_id}", "tko_1", "hash", f"prt_{who.user_id}"), **changes)


def refused(code: str, given: Situation, command: c.Command) -> Refused:
    """The refusal of `command` with that code."""
    with pytest.raises(Refused) as caught:
        decide(given, command)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")
    return caught.value


def names(events: Sequence[e.Event]) -> list[str]:
    """The kinds of events, in order."""
    return [type(one).__name__ for one in events]


def after(given: Situation, *commands: c.Command) -> Situation:
    """The situation when all of `commands` were carried out in it."""
    for command in commands:
        given = evolve_all(given, decide(given, command))
    return given


def ended(given: Situation, command: c.Command) -> e.MonitorEnded:
    """How `command` ends the monitor."""
    return next(one for one in decide(given, command) if isinstance(one, e.MonitorEnded))
