"""How facts change the state. Total and pure: an event that was decided always applies."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from hub.domain import events as e
from hub.domain.conversation import PAST_MAX, TAKEOVERS_MAX, Conversation, Counters, Participant, Situation


def evolve(situation: Situation, event: e.Event) -> Situation:
    """The situation after `event`."""
    return _HANDLERS[type(event)](situation, event)


def evolve_all(situation: Situation, events: Iterable[e.Event]) -> Situation:
    """The situation after all of them, in order."""
    for event in events:
        situation = evolve(situation, event)
    return situation


def _settle_owner(conversation: Conversation, at: int) -> Conversation:
    """The owner stays while connected; else who has been there longest; else nobody, and the conversation waits."""
    if conversation.owner is not None and conversation.participant(conversation.owner) is not None:
        return conversation
    owner = conversation.connected[0].participant_id if conversation.connected else None
    if owner == conversation.owner:
        return conversation
    return replace(
        conversation,
        owner=owner,
        owner_epoch=conversation.owner_epoch + 1,
        last_owner=owner or conversation.last_owner,
        queued_since=at if owner is None else None,
    )


def _left(past: tuple[Participant, ...], *gone: Participant) -> tuple[Participant, ...]:
    ids = {one.participant_id for one in gone}
    return (*(one for one in past if one.participant_id not in ids), *gone)[-PAST_MAX:]


def _started(situation: Situation, event: e.ConversationStarted) -> Situation:
    return replace(situation, conversation=event.conversation, monitor=None, prepared=None, counters=Counters())


def _connected(situation: Situation, event: e.ParticipantConnected) -> Situation:
    old = situation.existing
    known = tuple(one for one in old.past if one.participant_id != event.participant.participant_id)
    new = replace(old, connected=(*old.connected, event.participant), past=known)
    return replace(situation, conversation=_settle_owner(new, event.at))


def _disconnected(situation: Situation, event: e.ParticipantDisconnected) -> Situation:
    old = situation.existing
    stay = tuple(one for one in old.connected if one.participant_id != event.participant.participant_id)
    new = replace(old, connected=stay, past=_left(old.past, event.participant))
    return replace(situation, conversation=_settle_owner(new, event.at))


def _transferred(situation: Situation, event: e.ConversationTransferred) -> Situation:
    return replace(situation, conversation=replace(situation.existing, queue=event.queue, division=event.division))


def _ended(situation: Situation, event: e.ConversationEnded) -> Situation:
    old = situation.existing
    new = replace(
        old,
        ended_at=event.at,
        end_reason=event.reason,
        at_end=old.connected,
        connected=(),
        owner=None,
        queued_since=None,
    )
    counters = replace(situation.counters, awaiting=None, awaiting_since=None)
    return replace(situation, conversation=new, prepared=None, counters=counters)


def _wrapup_requested(situation: Situation, event: e.WrapupRequested) -> Situation:
    old = situation.existing
    return replace(situation, conversation=replace(old, wrapups=(*old.wrapups, event.wrapup)))


def _wrapup_over(situation: Situation, event: e.WrapupCompleted | e.WrapupTimedOut) -> Situation:
    old = situation.existing
    rest = tuple(one for one in old.wrapups if one.participant_id != event.wrapup.participant_id)
    return replace(situation, conversation=replace(old, wrapups=rest))


def _monitor_started(situation: Situation, event: e.MonitorStarted) -> Situation:
    return replace(situation, monitor=event.monitor, prepared=None)


def _monitor_joined(situation: Situation, event: e.MonitorJoined) -> Situation:
    assert situation.monitor is not None
    return replace(situation, monitor=situation.monitor.with_session(event.session, event.lease_end, event.until))


def _monitor_left(situation: Situation, event: e.MonitorLeft) -> Situation:
    assert situation.monitor is not None
    return replace(situation, monitor=situation.monitor.without_session(event.session))


def _monitor_ended(situation: Situation, event: e.MonitorEnded) -> Situation:
    return replace(situation, monitor=None, prepared=None)


def _revealed(situation: Situation, event: e.MessageRevealed) -> Situation:
    return situation  # kept nowhere but in the ledger: what was shown once is masked again wherever it is read


def _prepared(situation: Situation, event: e.TakeoverPrepared) -> Situation:
    return replace(situation, prepared=event.prepared)


def _cancelled(situation: Situation, event: e.TakeoverCancelled) -> Situation:
    return replace(situation, prepared=None)


def _taken_over(situation: Situation, event: e.TakenOver) -> Situation:
    old = situation.existing
    new = replace(
        old,
        connected=(event.supervisor,),
        past=_left(old.past, *event.removed),
        owner=event.supervisor.participant_id,
        owner_epoch=old.owner_epoch + 1,
        last_owner=event.supervisor.participant_id,
        queued_since=None,
        taken_over=True,
        takeovers=(*old.takeovers, event.takeover_id)[-TAKEOVERS_MAX:],
        notices=(*old.notices, *event.notices),
    )
    return replace(situation, conversation=new, prepared=None)


def _acknowledged(situation: Situation, event: e.TakeoverAcknowledged) -> Situation:
    old = situation.existing
    rest = tuple(one for one in old.notices if (one.takeover_id, one.user_id) != (event.takeover_id, event.user_id))
    return replace(situation, conversation=replace(old, notices=rest))


_HANDLERS: dict[type, Callable[[Situation, Any], Situation]] = {
    e.ConversationStarted: _started,
    e.ParticipantConnected: _connected,
    e.ParticipantDisconnected: _disconnected,
    e.ConversationTransferred: _transferred,
    e.ConversationEnded: _ended,
    e.WrapupRequested: _wrapup_requested,
    e.WrapupCompleted: _wrapup_over,
    e.WrapupTimedOut: _wrapup_over,
    e.MonitorStarted: _monitor_started,
    e.MonitorJoined: _monitor_joined,
    e.MonitorLeft: _monitor_left,
    e.MonitorEnded: _monitor_ended,
    e.MessageRevealed: _revealed,
    e.TakeoverPrepared: _prepared,
    e.TakeoverCancelled: _cancelled,
    e.TakenOver: _taken_over,
    e.TakeoverAcknowledged: _acknowledged,
}
