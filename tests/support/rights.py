"""
Who may do what: the table, written from the protocol and not from the rules, and its cells.

The asker is always the same person of a role: Ana supervises, Bob answers as an agent, Dana is the customer, the
platform is the one whose conversation it is (or isn't). What differs is what their token says and how the conversation
stands, in the words of `STATES`.

    queued          nobody answers                        watched     Bob answers, Zoe watches him
    bot             a bot answers                         owned       Ana has taken over from Bob
    agent           Bob answers                           wrapup      over, Bob owes a wrap-up
    mine            Bob answers, Ana watches him and      ended       over, and nothing is owed
                    has prepared a takeover
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

OK = "ok"
STATES = ("queued", "bot", "agent", "mine", "watched", "owned", "wrapup", "ended")
RUNNING = ("queued", "bot", "agent", "mine", "watched", "owned")
WITH_BOB = ("agent", "mine", "watched")
SUPERVISING = ("supervisor", "admin")

# What each command of a supervisor needs, and what it answers by state where nothing else is in the way.
NEEDS = {
    "monitor.start": "monitor",
    "monitor.release": "release",
    "message.reveal": "reveal",
    "takeover.prepare": "takeover",
    "takeover.confirm": "takeover",
}
_NOT_MONITORING = dict.fromkeys(STATES, "not_monitoring")
_SPEAKS = {**dict.fromkeys(RUNNING, "stale_owner"), "wrapup": "conversation_ended", "ended": "conversation_ended"}
SUPERVISORS: Mapping[str, Mapping[str, str]] = {
    "monitor.start": {
        **dict.fromkeys(("bot", "agent", "mine"), OK),
        **dict.fromkeys(("queued", "wrapup", "ended"), "not_in_progress"),
        "watched": "monitor_held",
        "owned": "already_done",
    },
    "monitor.stop": {**_NOT_MONITORING, "mine": OK},
    "monitor.release": {**_NOT_MONITORING, "mine": OK, "watched": OK},
    "message.reveal": {**_NOT_MONITORING, "mine": OK},
    "takeover.prepare": {**_NOT_MONITORING, "mine": OK},
    "takeover.confirm": {**_NOT_MONITORING, "mine": OK},
    "takeover.cancel": {**dict.fromkeys(STATES, "confirmation_required"), "mine": OK},
    "takeover.acknowledge": dict.fromkeys(STATES, "already_done"),
    "message.send": {**_SPEAKS, "owned": OK},
    "typing": {**_SPEAKS, "owned": OK},
    "conversation.end": {**_SPEAKS, "owned": OK},
    "wrapup.submit": dict.fromkeys(STATES, "already_done"),
}
# These are about supervising: having answered in a conversation gives no right to them.
BY_SIGHT_ALONE = {
    *("monitor.start", "monitor.stop", "monitor.release", "message.reveal", "takeover.prepare", "takeover.confirm"),
}
_UNKNOWN_TO_BOB = dict.fromkeys(("queued", "bot"), "unknown_conversation")
_BOB_SPEAKS = {**_UNKNOWN_TO_BOB, **dict.fromkeys(WITH_BOB, OK), "owned": "stale_owner"}
_BOB_SPEAKS |= dict.fromkeys(("wrapup", "ended"), "conversation_ended")
AGENTS: Mapping[str, Mapping[str, str]] = {
    "message.send": _BOB_SPEAKS,
    "typing": _BOB_SPEAKS,
    "conversation.end": _BOB_SPEAKS,
    "draft.update": _BOB_SPEAKS,
    "takeover.acknowledge": {**dict.fromkeys(STATES, "already_done"), **_UNKNOWN_TO_BOB, "owned": OK},
    "wrapup.submit": {**dict.fromkeys(STATES, "already_done"), **_UNKNOWN_TO_BOB, "wrapup": OK},
}
_DANA_SPEAKS = {**dict.fromkeys(RUNNING, OK), **dict.fromkeys(("wrapup", "ended"), "conversation_ended")}
CUSTOMERS: Mapping[str, Mapping[str, str]] = {
    "message.send": _DANA_SPEAKS,
    "typing": _DANA_SPEAKS,
    "conversation.end": _DANA_SPEAKS,
    "receipt.send": dict.fromkeys(STATES, OK),
}
PLATFORMS: Mapping[str, Mapping[str, str]] = {
    "conversation.started": dict.fromkeys(STATES, "already_done"),
    "participant.connected": _DANA_SPEAKS,
    "participant.disconnected": _DANA_SPEAKS,
    "conversation.transferred": _DANA_SPEAKS,
    "conversation.ended": _DANA_SPEAKS,
}
BY_ROLE = {
    "supervisor": SUPERVISORS,
    "admin": SUPERVISORS,
    "agent": AGENTS,
    "customer": CUSTOMERS,
    "connector": PLATFORMS,
}
# Commands that no conversation's rights decide: the session's own affairs, and reports on what the asker was given.
NO_CONVERSATION = {
    *("hello", "pong", "status.set", "view.subscribe", "view.unsubscribe"),
    *("conversation.start", "event", "delivery.report", "action.done"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """
    One question: may somebody of this role do this in this state?

    `org`, `queue`, `division`: whether the conversation's are theirs (for a customer or a platform `queue` says whether
    the conversation is); `permitted`: whether the token has every permission, or `coach` alone, which grants nothing.
    """

    role: str
    command: str
    state: str
    org: bool
    queue: bool
    division: bool
    permitted: bool


def expected(cell: Cell) -> str:
    """`ok`, or the code of the refusal."""
    answer = BY_ROLE[cell.role][cell.command][cell.state]
    if cell.role in SUPERVISING:
        return _for_supervisors(cell, answer)
    if not cell.org or (cell.role in ("customer", "connector") and not cell.queue):
        return "unknown_conversation"
    return answer


def _for_supervisors(cell: Cell, answer: str) -> str:
    in_sight = cell.queue and cell.division
    theirs = cell.state == "owned" and cell.command not in BY_SIGHT_ALONE
    if cell.command == "takeover.confirm" and cell.org and cell.state == "owned" and not cell.permitted:
        return (
            "not_permitted"  # they answer it, so that it exists is no news; a repeated confirmation must be told apart
        )
    if not cell.org or not (in_sight or theirs):
        return "unknown_conversation"
    if cell.command in NEEDS and not cell.permitted:
        return "not_permitted"
    return answer


def readable(cell: Cell, route: str) -> int:
    """The HTTP status of reading `detail`, `transcript` or `timeline` of the conversation, whatever `command` says."""
    if cell.role in SUPERVISING:
        if not cell.org or not ((cell.queue and cell.division) or cell.state == "owned"):
            return 404
        return 200 if cell.permitted else 403
    if route != "transcript" or not cell.org:
        return 403
    if cell.role == "agent":
        return 403 if cell.state in ("queued", "bot") else 200
    return 200 if cell.queue else 403


def cells() -> Iterator[Cell]:
    """All of them."""
    for role, table in BY_ROLE.items():
        for command, state in itertools.product(table, STATES):
            for org, queue, division, permitted in itertools.product((True, False), repeat=4):
                yield Cell(role, command, state, org, queue, division, permitted)


def pairwise(all_cells: Sequence[Cell], seed: int, *, together: bool = False) -> list[Cell]:
    """
    A sample in which any two values of different axes that meet in some cell meet in one of the sample; greedy.

    `together`: role and command are one axis, so that each role has each of its commands in each state.
    """
    chance = random.Random(seed)
    pairs = {cell: set(itertools.combinations(_axes(cell, together), 2)) for cell in all_cells}
    missing = set().union(*pairs.values())
    order = list(all_cells)
    chance.shuffle(order)
    order.sort(
        key=lambda cell: expected(cell) == "unknown_conversation"
    )  # the commonest answer, which teaches least, last
    sample = []
    for least in (8, 4, 2, 1):
        for cell in order:
            if len(pairs[cell] & missing) >= least:
                missing -= pairs[cell]
                sample.append(cell)
    assert not missing
    return sample


def _axes(cell: Cell, together: bool) -> list[tuple[str, object]]:
    names = ("state", "org", "queue", "division", "permitted")
    asked: list[tuple[str, object]] = [("role", cell.role), ("command", cell.command)]
    if together:
        asked = [("command", (cell.role, cell.command))]
    return [*asked, *((name, getattr(cell, name)) for name in names)]
