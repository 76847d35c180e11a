"""The whole matrix of rights against the pure rules: every cell, by a table that knows nothing of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hub.domain import commands as c
from hub.domain.conversation import Notice, Situation
from hub.domain.decide import decide, speaker, visible
from hub.domain.errors import Refused
from hub.domain.grants import PERMISSIONS, Person
from hub.protocol.commands import ENDPOINT_COMMANDS, tag_of
from hub.protocol.platform import PlatformEvent
from tests.support.rights import BY_ROLE, NO_CONVERSATION, OK, STATES, Cell, cells, expected, pairwise
from tests.unit.domain.words import BOB, NOW, ROBO, begin, conversation, monitor, person, prepared, situation, wrapup

ANA = replace(BOB, participant_id="prt_ana", user_id="ana", name="Ana", purpose="supervisor")
OVER: dict[str, Any] = {"ended_at": NOW - 1, "owner": None, "at_end": (BOB,), "last_owner": BOB.participant_id}
NOTICE = Notice("tko_0", "bob", BOB.participant_id, "Ana", NOW - 1, "none", (), 0)
SITUATIONS: dict[str, Callable[[], Situation]] = {
    "queued": situation,
    "bot": lambda: situation(ROBO),
    "agent": lambda: situation(BOB),
    "mine": lambda: situation(BOB, monitor=monitor(), prepared=prepared()),
    "watched": lambda: situation(BOB, monitor=monitor("zoe")),
    "owned": lambda: situation(ANA, past=(BOB,), notices=(NOTICE,), taken_over=True, takeovers=("tko_0",)),
    "wrapup": lambda: Situation(NOW, conversation(wrapups=(wrapup(BOB),), **OVER)),
    "ended": lambda: Situation(NOW, conversation(**OVER)),
}
USERS = {"supervisor": "ana", "admin": "ana", "agent": "bob", "customer": "cus_7", "connector": "platform"}
COMMANDS: dict[str, Callable[[Person], c.Command]] = {
    "monitor.start": lambda who: c.StartMonitor(who, "available", "ses_ana", None, "mon_new", NOW + 15_000),
    "monitor.stop": c.StopMonitor,
    "monitor.release": lambda who: c.ReleaseMonitor(who, "asked"),
    "message.reveal": lambda who: c.RevealMessage(who, "ses_ana", "msg_1", "asked"),
    "takeover.prepare": lambda who: c.PrepareTakeover(who, "ses_ana", "tko_2", "hash", NOW + 60_000),
    "takeover.confirm": lambda who: c.ConfirmTakeover(who, "ses_ana", "tko_1", "hash", "prt_ana"),
    "takeover.cancel": lambda who: c.CancelTakeover(who, "tko_1"),
    "takeover.acknowledge": lambda who: c.AcknowledgeTakeover(who, "tko_0"),
    "conversation.end": c.EndConversation,
    "wrapup.submit": lambda who: c.SubmitWrapup(who, "resolved", None),
}
EVENTS: dict[str, Callable[[str], c.Command]] = {
    "conversation.started": lambda connector: begin(connector=connector),
    "participant.connected": lambda connector: c.ConnectParticipant(connector, replace(BOB, participant_id="prt_new")),
    "participant.disconnected": lambda connector: c.DisconnectParticipant(connector, "prt_nobody", "client", NOW),
    "conversation.transferred": lambda connector: c.TransferConversation(connector, "billing", "home", NOW),
    "conversation.ended": lambda connector: c.EndByPlatform(connector, "done", NOW),
}


def asker(cell: Cell) -> Person:
    """Who asks, as the cell says; the conversation is of acme, support and home."""
    return person(
        USERS[cell.role],
        role=cell.role,
        org="acme" if cell.org else "evil",
        queues=frozenset({"support", "sales"} if cell.queue else {"sales"}),
        divisions=frozenset({"home"} if cell.division else {"abroad"}),
        permissions=PERMISSIONS - {"coach"} if cell.permitted else frozenset({"coach"}),
        conversation="cnv_1" if cell.queue else "cnv_2",
    )


def answer(cell: Cell) -> str:
    """What the rules say, and that a refusal has changed nothing by being pure."""
    given, who = SITUATIONS[cell.state](), asker(cell)
    assert given.existing.state == {"queued": "queued", "wrapup": "wrapup", "ended": "ended"}.get(cell.state, "active")
    try:
        if cell.role == "connector":
            # A platform's own organization is part of the key under which its conversations are looked up.
            given = given if cell.org else Situation(NOW)
            command = EVENTS[cell.command]("platform" if cell.queue else "another")
            if cell.org or cell.command != "conversation.started":
                decide(given, command)
            else:
                return "unknown_conversation"  # there it is a new one: nothing of this one is touched
        elif cell.command in ("message.send", "typing"):
            speaker(given, who)
        elif cell.command in ("receipt.send", "draft.update"):
            seen = visible(given, who)
            if cell.command == "draft.update":
                _draft(seen.ended_at, [one.user_id for one in seen.connected])
        else:
            decide(given, COMMANDS[cell.command](who))
    except Refused as refused:
        return refused.code
    return OK


def _draft(ended_at: int | None, connected: list[str]) -> None:
    """As the messaging service does it, where no rule of the domain's is involved."""
    if ended_at is not None:
        raise Refused("conversation_ended", "The conversation has ended.")
    if "bob" not in connected:
        raise Refused("stale_owner", "You are not the one who answers this conversation.")


@pytest.mark.parametrize("role", BY_ROLE)
def test_every_cell(role: str) -> None:
    """The rules say in each cell of a role what the table says."""
    mine = [cell for cell in cells() if cell.role == role]
    wrong = [f"{cell}: {got}, not {expected(cell)}" for cell in mine if (got := answer(cell)) != expected(cell)]
    assert wrong == []
    counts = Counter(expected(cell) for cell in mine)
    print(f"{role}: {len(mine)} cells, {dict(counts.most_common())}")
    assert counts[OK]
    assert counts["unknown_conversation"]


def test_the_table_is_whole() -> None:
    """Every command of every endpoint and every state has its row, or its reason to have none."""
    endpoints = {"supervisor": "supervisor", "admin": "supervisor", "agent": "agent", "customer": "customer"}
    for role, endpoint in endpoints.items():
        commands = {tag_of(kind) for kind in ENDPOINT_COMMANDS[endpoint]}
        assert commands - NO_CONVERSATION == set(BY_ROLE[role]), role
    events = {tag_of(kind) for kind in PlatformEvent.__subclasses__()}
    assert set(BY_ROLE["connector"]) <= events
    assert all(set(row) == set(STATES) for table in BY_ROLE.values() for row in table.values())
    assert len(list(cells())) > 4_000


def test_coach_grants_nothing() -> None:
    """With the reserved permission alone each cell is as with none at all."""
    for cell in cells():
        if cell.role in ("supervisor", "admin") and not cell.permitted:
            who, given = asker(cell), SITUATIONS[cell.state]()
            nobody = replace(who, permissions=frozenset())
            if cell.command in COMMANDS:
                command = COMMANDS[cell.command]
                assert _code(given, command(who)) == _code(given, command(nobody)), cell


def _code(given: Situation, command: c.Command) -> str:
    try:
        decide(given, command)
    except Refused as refused:
        return refused.code
    return OK


def test_a_sample_has_every_pair() -> None:
    """The sample for the real hub is a small part of the cells, and any two values that can meet do in it."""
    every = list(cells())
    small, large = pairwise(every, seed=1), pairwise(every, seed=1, together=True)
    assert len(small) < 250 < len(large) < 500
    for sample, names in ((small, ("command", "state")), (large, ("role", "command", "state"))):
        met = [{tuple(getattr(cell, name) for name in names) for cell in some} for some in (sample, every)]
        assert met[0] == met[1]
