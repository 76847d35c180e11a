"""
Rows: what a screen shows of a conversation, and what a node must know of it beside that.

The row is the protocol's (section 3). The extra part never leaves the hub: whom to tell what (people, notices, wrap-ups)
and which monitor data belongs to.
"""

from collections.abc import Iterable

from hub.domain import events as e
from hub.domain.conversation import Conversation, Monitor, Participant, Situation
from hub.domain.decide import public


def monitor_parts(monitor: Monitor | None) -> tuple[dict[str, object] | None, dict[str, object] | None]:
    """What row and extra part say about the monitor."""
    if monitor is None:
        return None, None
    seen: dict[str, object] = {
        "user_id": monitor.user_id,
        "name": monitor.name,
        "since": monitor.since,
        "participant_id": monitor.participant_id,
    }
    hidden: dict[str, object] = {
        "monitor_id": monitor.monitor_id,
        "user_id": monitor.user_id,
        "participant_id": monitor.participant_id,
    }
    return seen, hidden


def row_of(situation: Situation) -> dict[str, object]:
    """The `interactions` row, `owner_away` as false: only the people's log knows it."""
    conversation, counters = situation.existing, situation.counters
    return {
        "conversation_id": conversation.conversation_id,
        "channel": conversation.channel,
        "queue": conversation.queue,
        "division": conversation.division,
        "state": conversation.state,
        "subject": conversation.subject,
        "customer": {"id": conversation.customer_id, "name": conversation.customer.name},
        "agents": [
            {**public(one), "state": _part_state(conversation, one)}
            for one in (conversation.at_end if conversation.ended_at is not None else conversation.connected)
        ],
        "owner": conversation.owner,
        "owner_epoch": conversation.owner_epoch,
        "owner_away": False,
        "monitor": monitor_parts(situation.monitor)[0],
        "taken_over": conversation.taken_over,
        "awaiting": counters.awaiting,
        "awaiting_since": counters.awaiting_since,
        "started_at": conversation.started_at,
        "messages": counters.messages,
    }


def _part_state(conversation: Conversation, one: Participant) -> str:
    if conversation.ended_at is None:
        return "connected"
    owes = any(wrapup.participant_id == one.participant_id for wrapup in conversation.wrapups)
    return "wrapup" if owes else "disconnected"


def extra_of(situation: Situation, events: Iterable[e.Event] = ()) -> dict[str, object]:
    """What a node must know beside the row; `monitor_ended` and `wrapup_ended` are of this change (`events`) only."""
    conversation = situation.existing
    return {
        "connector": conversation.connector,
        "monitor": monitor_parts(situation.monitor)[1],
        "monitor_ended": next((ended_monitor(one) for one in events if isinstance(one, e.MonitorEnded)), None),
        "people": [
            {
                "participant_id": one.participant_id,
                "user_id": one.user_id,
                "purpose": one.purpose,
                "since": one.since,
            }
            for one in conversation.connected
        ],
        "notices": [{"takeover_id": one.takeover_id, "user_id": one.user_id} for one in conversation.notices],
        "wrapups": [
            {
                "participant_id": one.participant_id,
                "user_id": one.user_id,
                "prompt": one.prompt,
                "codes": list(one.codes),
                "timeout_ms": one.timeout_ms,
                "due_at": one.due_at,
            }
            for one in conversation.wrapups
        ],
        "wrapup_ended": [
            {
                "participant_id": one.wrapup.participant_id,
                "user_id": one.wrapup.user_id,
                "code": one.code if isinstance(one, e.WrapupCompleted) else None,
                "timed_out": isinstance(one, e.WrapupTimedOut),
            }
            for one in events
            if isinstance(one, e.WrapupCompleted)
            or (isinstance(one, e.WrapupTimedOut) and one.wrapup.prompt != "optional")  # which ends unasked
        ],
        "queued_since": conversation.queued_since,
        "ended_at": conversation.ended_at,
    }


def ended_monitor(event: e.MonitorEnded) -> dict[str, object]:
    """What its holder is told: `monitor_id`, `user_id`, `reason`, `by` ({user_id, name} or null), `duration_ms`."""
    return {
        "monitor_id": event.monitor.monitor_id,
        "user_id": event.monitor.user_id,
        "reason": event.reason,
        "by": None if event.by is None else {"user_id": event.by[0], "name": event.by[1]},
        "duration_ms": max(0, event.at - event.monitor.since),
    }
