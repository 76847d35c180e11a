"""What people asked and were told in a world that forgot nothing, as histories of `tests.support.linear.Contest`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson

from hub.domain.errors import Refused
from hub.protocol import platform as p
from hub.service.ids import id_hash
from hub.service.ingest import Result
from tests.simulation.judge import Violation
from tests.simulation.people import Call
from tests.support.fake_store import START_MS
from tests.support.linear import NEVER, Contest, Operation, assert_linearizable

if TYPE_CHECKING:
    from tests.simulation.world import World

Answer = tuple[object, ...]
MADE = {"monitor.start": "monitor_id", "takeover.prepare": "takeover_id", "takeover.confirm": "participant_id"}


def check_histories(world: "World") -> None:
    """
    Each conversation's history has an order that explains it.

    Raises:
        Violation: One hasn't; its `invariant` is `order`.
    """
    for conversation_id in world.conversations:
        try:
            assert_linearizable(Contest(), history_of(world, conversation_id), conversation_id)
        except AssertionError as error:
            raise Violation("order", str(error)) from None


def history_of(world: "World", conversation_id: str) -> list[Operation]:
    """Everything about one conversation, leases that ran out included."""
    found = list(_lapses(world, conversation_id))
    for call in world.calls:
        if call.conversation_id == conversation_id:
            found += _of_platform(world, call) if call.cmd == "events" else _of_person(world, call)
    return found


def _of_person(world: "World", call: Call) -> Iterator[Operation]:
    """
    One command: as it was answered, and once more where the store did it otherwise than it was answered.

    Whatever was sent may be carried out late, when its asker has been refused on another node or has given up. What the
    journal knows to have been done so is in the history as an operation without an answer; what never was is not.
    """
    what = _asked(call)
    if what is None:
        return
    if call.answer is not None:
        yield Operation(what, call.asked, call.answered, _told(call))
    if call.cmd == "message.send":
        return
    for write in world.judge.requests.get((call.user_id, call.req, call.conversation_id), ()):
        made = orjson.loads(write.answer)
        if made != call.answer:
            yield Operation(what, call.asked, effect=made.get(MADE.get(call.cmd, "")))


def _asked(call: Call) -> tuple[object, ...] | None:
    args, user, session = call.args, call.user_id, call.session
    match call.cmd:
        case "monitor.start":
            return ("start", user, session, args["participant_id"])
        case "monitor.stop" | "monitor.release":
            return (call.cmd.rpartition(".")[2], user)
        case "takeover.prepare":
            return ("prepare", user, session)
        case "takeover.confirm":
            return ("confirm", user, session, args["takeover_id"])
        case "takeover.cancel":
            return ("cancel", user, args["takeover_id"])
        case "message.send" if user != "dana":
            return ("send", user, "agent" if session.startswith("desk") else "supervisor")
        case _:
            return None


def _told(call: Call) -> Answer:
    answer = call.answer
    if isinstance(answer, Refused):
        holder = answer.details.get("holder")
        return ("no", answer.code, holder["user_id"]) if isinstance(holder, dict) else ("no", answer.code)
    if not isinstance(answer, dict):
        return ("ok",)
    if call.cmd == "takeover.confirm":
        return ("ok", answer["participant_id"], answer["owner_epoch"])
    return ("ok", answer[MADE[call.cmd]]) if call.cmd in MADE else ("ok",)


def _of_platform(world: "World", call: Call) -> Iterator[Operation]:
    """Each event of a batch that changes more than the transcript."""
    results = call.answer if isinstance(call.answer, list) else [None] * len(call.args["events"])
    for event, result in zip(call.args["events"], results, strict=True):
        what = _happened(event)
        if what is None:
            continue
        assert result is None or isinstance(result, Result)
        if result is not None:
            answer: Answer = ("ok",) if result.refused is None else ("no", result.refused.code)
            yield Operation(what, call.asked, call.answered, answer)
        if (result is None or result.refused is not None) and id_hash("e", event.id) in world.judge.taken:
            yield Operation(what, call.asked)


def _happened(event: p.AnyEvent) -> tuple[object, ...] | None:
    match event:
        case p.Started():
            return ("begin",)
        case p.Connected(data=data):
            return ("connect", data.participant_id, data.user_id, data.purpose)
        case p.Disconnected(data=data):
            return ("disconnect", data.participant_id)
        case p.Transferred():
            return ("transfer",)
        case p.Ended():
            return ("end",)
        case _:
            return None


def _lapses(world: "World", conversation_id: str) -> Iterator[Operation]:
    """Leases that ran out, each from its end on; up to when its session joined again, if it did."""
    for monitor_id, life in world.judge.lives.items():
        if life.conversation_id != conversation_id:
            continue
        ends = [(session, until, NEVER) for session, until in life.sessions.items()]
        for session, until, over in [*life.lapses, *ends]:
            yield Operation(("lapse", monitor_id, session), (until - START_MS) / 1000, over)
