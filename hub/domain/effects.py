"""
What a commit writes for the events it was decided to: transcript, actions for the platform, closed segments, ledger.

Audiences of a transcript entry are letters: `a` agents and bots, `s` supervisors, `c` the customer. An agent sees every
entry between its own connecting and leaving; `takeover.completed` follows the leaving of all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hub.domain import events as e
from hub.domain.board import ended_monitor
from hub.domain.conversation import Conversation, Participant, Situation, Wrapup
from hub.domain.decide import public

INSIDE = "as"
EVERYBODY = "asc"
SUPERVISORS = "s"


@dataclass(frozen=True, slots=True)
class Entry:
    """One transcript entry; `data` is JSON-ready."""

    audience: str
    event: str
    at: int
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Action:
    """Something the platform must do; it gets its `action_id` where it is stored."""

    event: str
    at: int
    data: dict[str, object]


@dataclass(slots=True)
class Effects:
    """Collected in the order of the events; `segments` and `ledger` are JSON-ready."""

    transcript: list[Entry] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    segments: list[dict[str, object]] = field(default_factory=list)
    ledger: list[dict[str, object]] = field(default_factory=list)


def effects_of(before: Situation, events: Iterable[e.Event], after: Situation) -> Effects:
    """Everything that `events`, decided in `before` and leading to `after`, leave behind."""
    effects = Effects()
    for event in events:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(effects, event, before, after)
        effects.ledger.append(_ledger(event, after.existing))
    return effects


def participant_data(participant: Participant, disconnect_type: str | None = None) -> dict[str, object]:
    """Data of `participant.connected` and `participant.disconnected`."""
    data: dict[str, object] = {"participant_id": participant.participant_id, "participant": public(participant)}
    if disconnect_type is not None:
        data["disconnect_type"] = disconnect_type
    return data


def interact_segment(one: Participant, end: int | None, disconnect_type: str | None = None) -> dict[str, object]:
    """One participant's part; `end` is null while it runs."""
    return {
        "kind": "interact",
        "participant_id": one.participant_id,
        "user": {"user_id": one.user_id, "name": one.name},
        "purpose": one.purpose,
        "start": one.since,
        "end": end,
        "disconnect_type": disconnect_type,
    }


def wrapup_segment(
    one: Wrapup, end: int | None, code: str | None = None, notes: str | None = None
) -> dict[str, object]:
    """One wrap-up; `code` is null where none was submitted."""
    return {
        "kind": "wrapup",
        "participant_id": one.participant_id,
        "user": {"user_id": one.user_id, "name": one.name},
        "start": one.asked_at,
        "end": end,
        "disconnect_type": None,
        "prompt": one.prompt,
        "code": code,
        "notes": notes,
    }


def _started(effects: Effects, event: e.ConversationStarted, before: Situation, after: Situation) -> None:
    data = participant_data(event.conversation.customer)
    effects.transcript.append(Entry(INSIDE, "participant.connected", event.at, data))


def _connected(effects: Effects, event: e.ParticipantConnected, before: Situation, after: Situation) -> None:
    effects.transcript.append(Entry(INSIDE, "participant.connected", event.at, participant_data(event.participant)))


def _disconnected(effects: Effects, event: e.ParticipantDisconnected, before: Situation, after: Situation) -> None:
    data = participant_data(event.participant, event.disconnect_type)
    effects.transcript.append(Entry(INSIDE, "participant.disconnected", event.at, data))
    effects.segments.append(interact_segment(event.participant, event.at, event.disconnect_type))
    if event.participant.purpose == "supervisor":  # the platform knows of all others itself
        told = _for_platform(event.participant, before, event.disconnect_type)
        effects.actions.append(Action("participant.disconnected", event.at, told))


def _transferred(effects: Effects, event: e.ConversationTransferred, before: Situation, after: Situation) -> None:
    effects.transcript.append(Entry(INSIDE, "conversation.transferred", event.at, {"queue": event.queue}))
    effects.segments.append(
        {"kind": "transfer", "start": event.at, "end": event.at, "from": event.from_queue, "queue": event.queue}
    )


def _ended(effects: Effects, event: e.ConversationEnded, before: Situation, after: Situation) -> None:
    effects.transcript.append(Entry(EVERYBODY, "conversation.ended", event.at, {"reason": event.reason}))
    conversation = after.existing
    effects.segments += [interact_segment(one, event.at) for one in (conversation.customer, *conversation.at_end)]
    if not event.by_platform:
        effects.actions.append(Action("conversation.ended", event.at, {"reason": event.reason}))


def _wrapup_completed(effects: Effects, event: e.WrapupCompleted, before: Situation, after: Situation) -> None:
    effects.segments.append(wrapup_segment(event.wrapup, event.at, event.code, event.notes))


def _wrapup_timed_out(effects: Effects, event: e.WrapupTimedOut, before: Situation, after: Situation) -> None:
    effects.segments.append(wrapup_segment(event.wrapup, event.at) | {"timed_out": True})


def _monitor_ended(effects: Effects, event: e.MonitorEnded, before: Situation, after: Situation) -> None:
    monitor = event.monitor
    effects.segments.append(
        {
            "kind": "monitoring",
            "participant_id": monitor.participant_id,
            "user": {"user_id": monitor.user_id, "name": monitor.name},
            "start": monitor.since,
            "end": event.at,
            "disconnect_type": None,
            **{key: value for key, value in ended_monitor(event).items() if key != "user_id"},
        }
    )


def _taken_over(effects: Effects, event: e.TakenOver, before: Situation, after: Situation) -> None:
    at, supervisor = event.at, event.supervisor
    for one in event.removed:
        data = participant_data(one, "takeover")
        effects.transcript.append(Entry(INSIDE, "participant.disconnected", at, data))
        effects.segments.append(interact_segment(one, at, "takeover"))
        effects.actions.append(Action("participant.disconnected", at, _for_platform(one, before, "takeover")))
    effects.transcript.append(Entry(INSIDE, "participant.connected", at, participant_data(supervisor)))
    mark: dict[str, object] = {
        "takeover_id": event.takeover_id,
        "from": [one.participant_id for one in event.removed],
        "to": supervisor.participant_id,
        "owner_epoch": before.existing.owner_epoch + 1,
    }
    effects.transcript.append(Entry(SUPERVISORS, "takeover.completed", at, mark))
    user = {"user_id": supervisor.user_id, "name": supervisor.name}
    effects.segments.append({"kind": "takeover", "user": user, "start": at, "end": at, **mark})
    effects.actions.append(Action("participant.connected", at, _for_platform(supervisor, after)))
    if after.name_visible:
        effects.actions.append(Action("sender.changed", at, {"name": supervisor.name}))


def _for_platform(one: Participant, situation: Situation, disconnect_type: str | None = None) -> dict[str, object]:
    """A participant as the platform is told, a supervisor's name only where the channel shows names."""
    shown = public(one)
    if one.purpose == "supervisor" and not situation.name_visible:
        del shown["name"]
    data: dict[str, object] = {**shown, "participant": shown}
    return data if disconnect_type is None else {**data, "disconnect_type": disconnect_type}


_HANDLERS: dict[type, Callable[[Effects, Any, Situation, Situation], None]] = {
    e.ConversationStarted: _started,
    e.ParticipantConnected: _connected,
    e.ParticipantDisconnected: _disconnected,
    e.ConversationTransferred: _transferred,
    e.ConversationEnded: _ended,
    e.WrapupCompleted: _wrapup_completed,
    e.WrapupTimedOut: _wrapup_timed_out,
    e.MonitorEnded: _monitor_ended,
    e.TakenOver: _taken_over,
}


def _ledger(event: e.Event, conversation: Conversation) -> dict[str, object]:
    """One line of the ledger: what happened to which conversation by whom, ids only."""
    line: dict[str, object] = {
        "what": _LEDGER_NAMES[type(event)],
        "at": event.at,
        "org": conversation.org,
        "conversation_id": conversation.conversation_id,
    }
    return line | _ledger_details(event)


def _ledger_details(event: e.Event) -> dict[str, object]:
    match event:
        case e.MonitorStarted(monitor=monitor):
            return {"monitor_id": monitor.monitor_id, "user_id": monitor.user_id, "target": monitor.participant_id}
        case e.MonitorJoined() | e.MonitorLeft():
            return {"monitor_id": event.monitor_id, "session": event.session}
        case e.MonitorEnded(monitor=monitor):
            by = None if event.by is None else event.by[0]
            why = {} if event.why is None else {"why": event.why}
            ended = {"monitor_id": monitor.monitor_id, "user_id": monitor.user_id, "reason": event.reason, "by": by}
            # what it saw ends where the transcript ends as this is written: the store writes that down beside the line
            return {**ended, "from_offset": monitor.first_shown, **why}
        case e.MessageRevealed():
            who = {"monitor_id": event.monitor_id, "user_id": event.user_id}
            return {**who, "message_id": event.message_id, "why": event.why}
        case e.TakeoverPrepared(prepared=prepared):
            return {"takeover_id": prepared.takeover_id, "user_id": prepared.user_id}
        case e.TakeoverCancelled() | e.TakeoverAcknowledged():
            return {"takeover_id": event.takeover_id, "user_id": event.user_id}
        case e.TakenOver():
            removed = [one.participant_id for one in event.removed]
            return {"takeover_id": event.takeover_id, "user_id": event.supervisor.user_id, "removed": removed}
        case e.ParticipantConnected() | e.ParticipantDisconnected():
            return {"participant_id": event.participant.participant_id, "user_id": event.participant.user_id}
        case e.WrapupRequested() | e.WrapupCompleted() | e.WrapupTimedOut():
            return {"participant_id": event.wrapup.participant_id, "user_id": event.wrapup.user_id}
        case e.ConversationTransferred():
            return {"queue": event.queue, "from": event.from_queue}
        case e.ConversationEnded():
            # a platform's reason is its own words, which may be about the customer: lines outlive them
            return {"reason": "platform" if event.by_platform else event.reason, "by": event.by_user}
        case _:
            return {}


_LEDGER_NAMES: dict[type, str] = {
    e.ConversationStarted: "conversation.started",
    e.ParticipantConnected: "participant.connected",
    e.ParticipantDisconnected: "participant.disconnected",
    e.ConversationTransferred: "conversation.transferred",
    e.ConversationEnded: "conversation.ended",
    e.WrapupRequested: "wrapup.requested",
    e.WrapupCompleted: "wrapup.completed",
    e.WrapupTimedOut: "wrapup.timed_out",
    e.MonitorStarted: "monitor.started",
    e.MonitorJoined: "monitor.joined",
    e.MonitorLeft: "monitor.left",
    e.MonitorEnded: "monitor.ended",
    e.MessageRevealed: "message.revealed",
    e.TakeoverPrepared: "takeover.prepared",
    e.TakeoverCancelled: "takeover.cancelled",
    e.TakenOver: "takeover.completed",
    e.TakeoverAcknowledged: "takeover.acknowledged",
}
