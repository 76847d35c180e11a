"""
The rules: `decide(situation, command)` gives the events that the command causes, or raises `Refused`.

Checks stand in the order of the protocol's section 2, so that the first thing that is wrong is what one is told. A
command may be decided again on a newer situation when somebody else was faster; nothing here reads a clock or chance.
"""

from collections.abc import Callable
from typing import Any

from hub.domain import commands as c
from hub.domain import events as e
from hub.domain.conversation import (
    CHANNELS,
    IN_PROGRESS,
    Conversation,
    Monitor,
    MonitorSession,
    Notice,
    Participant,
    Prepared,
    Situation,
    Wrapup,
)
from hub.domain.errors import Refused
from hub.domain.evolve import evolve_all
from hub.domain.grants import Person, covers

Events = list[e.Event]


def decide(situation: Situation, command: c.Command) -> Events:
    """
    What `command` causes in `situation`; empty where it is accepted without effect.

    Raises:
        Refused: The rules say no. Nothing has changed.
    """
    return _HANDLERS[type(command)](situation, command)


# -- who may see it at all -------------------------------------------------------------------------------------------


def unknown() -> Refused:
    """The one answer to foreign, hidden and missing conversations, so that nobody can tell them apart."""
    return Refused("unknown_conversation", "There is no such conversation.")


def visible(situation: Situation, person: Person) -> Conversation:
    """
    The conversation, where the person may know that it exists.

    Raises:
        Refused: `unknown_conversation`.
    """
    conversation = situation.conversation
    if conversation is None or conversation.org != person.org:
        raise unknown()
    if person.role == "customer":
        if person.conversation != conversation.conversation_id:
            raise unknown()
    elif person.role == "agent":
        if not conversation.knew(person.user_id):
            raise unknown()
    elif not person.sees(conversation.queue, conversation.division) and not conversation.takes_part(person.user_id):
        raise unknown()
    return conversation


def supervised(situation: Situation, person: Person) -> Conversation:
    """
    The conversation, where it is the person's to supervise: having answered in it once gives no right to that.

    Raises:
        Refused: `unknown_conversation`.
    """
    conversation = visible(situation, person)
    if not person.sees(conversation.queue, conversation.division):
        raise unknown()
    return conversation


def _platforms(situation: Situation, connector: str) -> Conversation:
    """The conversation, for the platform that started it; the web messenger's belong to whoever serves them."""
    conversation = situation.conversation
    if conversation is None or conversation.connector not in (connector, ""):
        raise unknown()
    return conversation


def _running(situation: Situation, connector: str) -> Conversation:
    conversation = _platforms(situation, connector)
    if conversation.ended_at is not None:
        raise _is_ended()
    return conversation


def _is_ended() -> Refused:
    return Refused("conversation_ended", "The conversation has ended.")


def _may(person: Person, permission: str) -> None:
    if not person.may(permission):
        raise Refused("not_permitted", f"This needs the permission {permission!r}.", {"permission": permission})


# -- the platform's events -------------------------------------------------------------------------------------------


def _start(situation: Situation, command: c.StartConversation) -> Events:
    old = situation.conversation
    if old is not None:
        if old.connector != command.connector:
            raise unknown()
        raise Refused("already_done", "A conversation of this id exists already.")
    if command.channel not in CHANNELS:
        details = {"channel": command.channel, "supported": list(CHANNELS)}
        raise Refused("channel_unsupported", f"The channel {command.channel!r} isn't supported.", details)
    customer = Participant(
        command.customer_participant, "customer", command.customer_id, command.customer_name, command.at
    )
    conversation = Conversation(
        org=command.org,
        conversation_id=command.conversation_id,
        connector=command.connector,
        channel=command.channel,
        queue=command.queue,
        division=command.division,
        subject=command.subject,
        customer_id=command.customer_id,
        customer=customer,
        started_at=command.at,
        queued_since=command.at,
    )
    return [e.ConversationStarted(command.at, conversation, command.panels)]


def _connect(situation: Situation, command: c.ConnectParticipant) -> Events:
    conversation = _running(situation, command.connector)
    new = command.participant
    old = conversation.participant(new.participant_id)
    if old is None:
        return [e.ParticipantConnected(new.since, new)]
    if (old.purpose, old.user_id) != (new.purpose, new.user_id):
        details = {"path": "data.participant_id", "participant_id": new.participant_id}
        raise Refused("schema_invalid", "Somebody else is connected under this participant_id.", details)
    return []


def _disconnect(situation: Situation, command: c.DisconnectParticipant) -> Events:
    conversation = _running(situation, command.connector)
    gone = conversation.participant(command.participant_id)
    if gone is None:
        return []
    if gone.purpose in ("customer", "supervisor"):
        message = "The customer's and a supervisor's part ends with the conversation or by a transfer."
        raise Refused("not_permitted", message, {"purpose": gone.purpose})
    return _part_ends(situation, gone, command.disconnect_type, command.at)


def _part_ends(situation: Situation, gone: Participant, disconnect_type: str, at: int) -> Events:
    """One participant goes: their own wrap-up where they answered, and the monitor at their side."""
    conversation = situation.existing
    events: Events = [e.ParticipantDisconnected(at, gone, disconnect_type)]
    if gone.participant_id == conversation.owner:
        events += _wrapup_asked(situation, gone, at)
    monitor = situation.monitor
    if monitor is not None and monitor.participant_id == gone.participant_id:
        events.append(e.MonitorEnded(situation.now_ms, monitor, "agent_left"))
    return events


def _wrapup_asked(situation: Situation, participant: Participant, at: int) -> Events:
    """`at` is the fact's own time; the time limit runs on the store's clock."""
    rule = situation.wrapup_rule
    if rule.prompt == "none" or participant.purpose == "bot":
        return []
    if any(one.participant_id == participant.participant_id for one in situation.existing.wrapups):
        return []
    wrapup = Wrapup(
        participant_id=participant.participant_id,
        user_id=participant.user_id,
        name=participant.name,
        prompt=rule.prompt,
        codes=rule.codes,
        timeout_ms=rule.timeout_ms,
        asked_at=at,
        due_at=situation.now_ms + rule.due_ms,
    )
    return [e.WrapupRequested(at, wrapup)]


def _transfer(situation: Situation, command: c.TransferConversation) -> Events:
    conversation = _running(situation, command.connector)
    events: Events = [
        e.ConversationTransferred(command.at, command.queue, command.division, from_queue=conversation.queue)
    ]
    owner = conversation.participant(conversation.owner)
    if owner is not None and owner.purpose == "supervisor":
        events += _part_ends(situation, owner, "transfer", command.at)
    monitor = evolve_all(situation, events).monitor
    if monitor is not None:
        queues, divisions = frozenset(monitor.queues), frozenset(monitor.divisions)
        if not (covers(queues, command.queue) and covers(divisions, command.division)):
            events.append(e.MonitorEnded(situation.now_ms, monitor, "permission_lost"))
    return events


def _end_by_platform(situation: Situation, command: c.EndByPlatform) -> Events:
    _running(situation, command.connector)
    return _ends(situation, command.at, command.reason, by_user=None, by_platform=True)


def _ends(situation: Situation, at: int, reason: str, *, by_user: str | None, by_platform: bool) -> Events:
    conversation = situation.existing
    events: Events = [e.ConversationEnded(at, reason, by_user, by_platform)]
    owner = conversation.participant(conversation.owner)
    if owner is not None:
        events += _wrapup_asked(situation, owner, at)
    if situation.monitor is not None:
        events.append(e.MonitorEnded(situation.now_ms, situation.monitor, "conversation_ended"))
    return events


# -- people in the conversation --------------------------------------------------------------------------------------


def speaker(situation: Situation, person: Person) -> Participant:
    """
    The participant as whom `person` may speak now: its customer, or its owner.

    Raises:
        Refused: `unknown_conversation`, `conversation_ended` or `stale_owner`.
    """
    conversation = visible(situation, person)
    if conversation.ended_at is not None:
        raise _is_ended()
    if person.role == "customer":
        return conversation.customer
    owner = conversation.participant(conversation.owner)
    if owner is None or owner.user_id != person.user_id or (owner.purpose == "supervisor") == (person.role == "agent"):
        raise stale_owner(conversation)
    return owner


def stale_owner(conversation: Conversation) -> Refused:
    """Somebody else answers (by now)."""
    details = {"owner": conversation.owner, "owner_epoch": conversation.owner_epoch}
    return Refused("stale_owner", "You are not the one who answers this conversation.", details)


def _end(situation: Situation, command: c.EndConversation) -> Events:
    who = speaker(situation, command.person)
    by_user = None if who.purpose == "customer" else who.user_id
    return _ends(situation, situation.now_ms, who.purpose, by_user=by_user, by_platform=False)


def _end_idle(situation: Situation, command: c.EndIdle) -> Events:
    if situation.conversation is None or situation.conversation.ended_at is not None:
        return []
    return _ends(situation, situation.now_ms, "inactivity", by_user=None, by_platform=False)


def _end_erased(situation: Situation, command: c.EndErased) -> Events:
    """No wrap-up is asked for what nobody will be able to look at, and open ones end unasked."""
    conversation = situation.conversation
    if conversation is None:
        return []
    at = situation.now_ms
    events: Events = [e.WrapupTimedOut(at, one) for one in conversation.wrapups]
    if conversation.ended_at is None:
        events.append(e.ConversationEnded(at, "erased", None, False))
    if situation.monitor is not None:
        events.append(e.MonitorEnded(at, situation.monitor, "conversation_ended"))
    return events


def _submit_wrapup(situation: Situation, command: c.SubmitWrapup) -> Events:
    conversation = visible(situation, command.person)
    mine = next((one for one in conversation.wrapups if one.user_id == command.person.user_id), None)
    if mine is None:
        raise Refused("already_done", "You have no open wrap-up in this conversation.")
    if command.code not in mine.codes and mine.codes:
        details = {"path": "code", "got": command.code, "allowed": list(mine.codes)}
        raise Refused("schema_invalid", f"The queue has no wrap-up code {command.code!r}.", details)
    return [e.WrapupCompleted(situation.now_ms, mine, command.code, command.notes)]


def _time_out_wrapups(situation: Situation, command: c.TimeOutWrapups) -> Events:
    if situation.conversation is None:
        return []
    due = [one for one in situation.conversation.wrapups if one.due_at <= situation.now_ms]
    return [e.WrapupTimedOut(situation.now_ms, one) for one in due]


def _acknowledge(situation: Situation, command: c.AcknowledgeTakeover) -> Events:
    conversation = visible(situation, command.person)
    mine = (command.takeover_id, command.person.user_id)
    if all((one.takeover_id, one.user_id) != mine for one in conversation.notices):
        raise Refused("already_done", "There is no unacknowledged takeover of that id for you.")
    return [e.TakeoverAcknowledged(situation.now_ms, *mine)]


# -- monitoring ------------------------------------------------------------------------------------------------------


def holding(situation: Situation) -> Monitor | None:
    """The monitor whose lease still runs."""
    monitor = situation.monitor
    return monitor if monitor is not None and monitor.alive(situation.now_ms) else None


def _start_monitor(situation: Situation, command: c.StartMonitor) -> Events:
    person = command.person
    conversation = supervised(situation, person)
    _may(person, "monitor")
    held = holding(situation)
    if held is not None and held.user_id == person.user_id:
        return _joined(situation, held, person, command.session, command.lease_end)
    if command.status != "available":
        message = "Set your own status to Available to start monitoring."
        raise Refused("not_available", message, {"status": command.status})
    if conversation.state != IN_PROGRESS:
        message = "Only a conversation that somebody is answering can be monitored."
        raise Refused("not_in_progress", message, {"state": conversation.state})
    target = _target(conversation, command)
    if held is not None:
        raise monitor_held(held)
    if target is None:
        raise _ambiguous(conversation)
    lapsed = situation.monitor
    events: Events = [] if lapsed is None else [_lapsed(situation, lapsed)]
    monitor = Monitor(
        monitor_id=command.monitor_id,
        user_id=person.user_id,
        name=person.name,
        participant_id=target.participant_id,
        since=situation.now_ms,
        queues=tuple(sorted(person.queues)),
        divisions=tuple(sorted(person.divisions)),
        sessions=(MonitorSession(command.session, command.lease_end),),
        until=person.expires_at,
    )
    return [*events, e.MonitorStarted(situation.now_ms, monitor)]


def _joined(situation: Situation, held: Monitor, person: Person, session: str, lease_end: int) -> Events:
    """The session watches under a monitor of its person's; nothing where it does so already, under the same rights."""
    mine, until = held.joined(session), held.until_with(person.expires_at)
    if mine is not None and mine.lease_end > situation.now_ms and until == held.until:
        return []
    return [e.MonitorJoined(situation.now_ms, held.monitor_id, session, lease_end, until)]


def _keep_monitor(situation: Situation, command: c.KeepMonitor) -> Events:
    held = holding(situation)
    if held is None or held.monitor_id != command.monitor_id or held.joined(command.session) is None:
        return []
    return _joined(situation, held, command.person, command.session, command.lease_end)


def _lapsed(situation: Situation, held: Monitor) -> e.MonitorEnded:
    """Nobody has renewed it: because they weren't heard any more, or because their token was over."""
    over = 0 < held.until <= situation.now_ms
    return e.MonitorEnded(situation.now_ms, held, "permission_lost" if over else "lease_expired")


def monitor_held(held: Monitor) -> Refused:
    """Somebody else is monitoring: who, and since when."""
    holder = {"user_id": held.user_id, "name": held.name, "since": held.since}
    return Refused("monitor_held", f"{held.name} is monitoring this conversation.", {"holder": holder})


def _target(conversation: Conversation, command: c.StartMonitor) -> Participant | None:
    """At whose side to watch; None where that has to be said first."""
    if any(one.user_id == command.person.user_id for one in conversation.connected):
        raise Refused("already_done", "You are in this conversation yourself.")
    if command.participant_id is None:
        return conversation.connected[0] if len(conversation.connected) == 1 else None
    return next((one for one in conversation.connected if one.participant_id == command.participant_id), None)


def _ambiguous(conversation: Conversation) -> Refused:
    candidates = [
        {"participant_id": one.participant_id, "user_id": one.user_id, "name": one.name, "purpose": one.purpose}
        for one in conversation.connected
    ]
    message = "Say which participant to monitor." if candidates else "There is nobody to monitor."
    return Refused("target_ambiguous", message, {"candidates": candidates})


def _not_monitoring() -> Refused:
    return Refused("not_monitoring", "You are not monitoring this conversation.")


def _stop_monitor(situation: Situation, command: c.StopMonitor) -> Events:
    supervised(situation, command.person)
    held = situation.monitor
    if held is None or held.user_id != command.person.user_id:
        raise _not_monitoring()
    return [e.MonitorEnded(situation.now_ms, held, "stopped", (command.person.user_id, command.person.name))]


def _release_monitor(situation: Situation, command: c.ReleaseMonitor) -> Events:
    supervised(situation, command.person)
    _may(command.person, "release")
    held = situation.monitor
    if held is None:
        raise Refused("not_monitoring", "Nobody is monitoring this conversation.")
    by = (command.person.user_id, command.person.name)
    return [e.MonitorEnded(situation.now_ms, held, "force_released", by, command.reason)]


def _leave_monitor(situation: Situation, command: c.LeaveMonitor) -> Events:
    held = situation.monitor
    if held is None or held.user_id != command.user_id:
        return []
    if command.revoked:
        return [e.MonitorEnded(situation.now_ms, held, "permission_lost")]
    if held.joined(command.session) is None:
        return []
    if held.without_session(command.session).alive(situation.now_ms):
        return [e.MonitorLeft(situation.now_ms, held.monitor_id, command.session)]
    if command.out_of_sight:
        return [e.MonitorEnded(situation.now_ms, held, "permission_lost")]
    return [e.MonitorEnded(situation.now_ms, held, "stopped", (held.user_id, held.name))]


def _expire_monitor(situation: Situation, command: c.ExpireMonitor) -> Events:
    held = situation.monitor
    if held is None or held.alive(situation.now_ms):
        return []
    return [_lapsed(situation, held)]


def _reveal(situation: Situation, command: c.RevealMessage) -> Events:
    person = command.person
    supervised(situation, person)
    _may(person, "reveal")
    held = _watched_by(situation, person, command.session)
    return [e.MessageRevealed(situation.now_ms, held.monitor_id, person.user_id, command.message_id, command.reason)]


# -- takeover --------------------------------------------------------------------------------------------------------


def _watched_by(situation: Situation, person: Person, session: str) -> Monitor:
    """The monitor through which this very session watches live."""
    held = situation.monitor
    mine = held.joined(session) if held is not None and held.user_id == person.user_id else None
    if held is None or mine is None:
        raise _not_monitoring()
    if mine.lease_end <= situation.now_ms:
        raise Refused("lease_lost", "Your monitoring has lapsed; start it again.")
    return held


def _prepare(situation: Situation, command: c.PrepareTakeover) -> Events:
    conversation = supervised(situation, command.person)
    _may(command.person, "takeover")
    held = _watched_by(situation, command.person, command.session)
    prepared = Prepared(
        takeover_id=command.takeover_id,
        user_id=command.person.user_id,
        token_hash=command.token_hash,
        monitor_id=held.monitor_id,
        owner_epoch=conversation.owner_epoch,
        expires_at=command.expires_at,
    )
    return [e.TakeoverPrepared(situation.now_ms, prepared)]


def consequences(situation: Situation) -> dict[str, object]:
    """What a takeover would do now, as `takeover.prepare` answers it."""
    conversation = situation.existing
    rule = situation.wrapup_rule
    asked = rule.prompt != "none" and any(one.purpose != "bot" for one in conversation.connected)
    wrapup = {"prompt": rule.prompt, "codes": list(rule.codes), "timeout_ms": rule.timeout_ms} if asked else None
    return {
        "removed": [public(one) for one in conversation.connected],
        "wrapup": wrapup,
        "name_visible": situation.name_visible,
        "unanswered": situation.counters.unanswered,
    }


def public(participant: Participant) -> dict[str, object]:
    """A participant as the protocol shows it."""
    return {
        "participant_id": participant.participant_id,
        "user_id": participant.user_id,
        "name": participant.name,
        "purpose": participant.purpose,
    }


def _unconfirmed(why: str) -> Refused:
    return Refused("confirmation_required", why)


def _confirm(situation: Situation, command: c.ConfirmTakeover) -> Events:
    person = command.person
    conversation = visible(situation, person)
    _may(person, "takeover")
    if command.takeover_id in conversation.takeovers and conversation.knew(person.user_id):
        raise Refused("already_done", "This takeover is done already.")
    supervised(situation, person)
    prepared = situation.prepared
    mine = prepared is not None and prepared.takeover_id == command.takeover_id
    if prepared is not None and mine and prepared.user_id != person.user_id:
        raise _unconfirmed("Somebody else prepared this takeover; prepare your own.")
    held = _watched_by(situation, person, command.session)
    if prepared is None or not mine or prepared.monitor_id != held.monitor_id:
        raise _unconfirmed("This takeover isn't prepared (any more); prepare it again.")
    if prepared.token_hash != command.token_hash:
        raise _unconfirmed("The confirmation token is wrong; prepare the takeover again.")
    if prepared.expires_at <= situation.now_ms or prepared.owner_epoch != conversation.owner_epoch:
        why = "The confirmation came too late, or somebody else answers by now; prepare the takeover again."
        raise Refused("confirmation_expired", why)
    at = situation.now_ms
    removed = conversation.connected
    supervisor = Participant(command.participant_id, "supervisor", person.user_id, person.name, at)
    notices = tuple(_notice(situation, command, one) for one in removed)
    taken_over = e.TakenOver(at, command.takeover_id, supervisor, removed, notices)
    ended = e.MonitorEnded(at, held, "taken_over", (person.user_id, person.name))
    asked = [event for one in removed for event in _wrapup_asked(situation, one, at)]
    return [taken_over, *asked, ended]


def _notice(situation: Situation, command: c.ConfirmTakeover, removed: Participant) -> Notice:
    rule = situation.wrapup_rule
    asked = rule.prompt != "none" and removed.purpose != "bot"
    return Notice(
        takeover_id=command.takeover_id,
        user_id=removed.user_id,
        participant_id=removed.participant_id,
        supervisor_name=command.person.name,
        at=situation.now_ms,
        prompt=rule.prompt if asked else "none",
        codes=rule.codes if asked else (),
        timeout_ms=rule.timeout_ms if asked else 0,
    )


def _cancel(situation: Situation, command: c.CancelTakeover) -> Events:
    conversation = visible(situation, command.person)
    if command.takeover_id in conversation.takeovers:
        raise Refused("already_done", "This takeover is done already.")
    prepared = situation.prepared
    if prepared is None or (prepared.takeover_id, prepared.user_id) != (command.takeover_id, command.person.user_id):
        raise _unconfirmed("You have no prepared takeover of that id.")
    return [e.TakeoverCancelled(situation.now_ms, command.takeover_id, command.person.user_id)]


_HANDLERS: dict[type, Callable[[Situation, Any], Events]] = {
    c.StartConversation: _start,
    c.ConnectParticipant: _connect,
    c.DisconnectParticipant: _disconnect,
    c.TransferConversation: _transfer,
    c.EndByPlatform: _end_by_platform,
    c.EndConversation: _end,
    c.EndIdle: _end_idle,
    c.EndErased: _end_erased,
    c.StartMonitor: _start_monitor,
    c.StopMonitor: _stop_monitor,
    c.ReleaseMonitor: _release_monitor,
    c.LeaveMonitor: _leave_monitor,
    c.ExpireMonitor: _expire_monitor,
    c.RevealMessage: _reveal,
    c.KeepMonitor: _keep_monitor,
    c.PrepareTakeover: _prepare,
    c.ConfirmTakeover: _confirm,
    c.CancelTakeover: _cancel,
    c.AcknowledgeTakeover: _acknowledge,
    c.SubmitWrapup: _submit_wrapup,
    c.TimeOutWrapups: _time_out_wrapups,
}
