"""From decided events to one commit: which fields change, which entries are written, which guards hold. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson

from hub.domain import events as e
from hub.domain.board import extra_of, monitor_parts, row_of
from hub.domain.conversation import Conversation, Situation
from hub.domain.effects import Action, effects_of
from hub.domain.errors import Refused
from hub.domain.ledger import CHAIN_MONITOR, CHAIN_STATE, Head, LedgerKeys, chained, ledger_name
from hub.protocol.encode import encode_event
from hub.service.codec import NOTHING_NEWER, encode_state, ledger_field, ledger_value, newer_in, spoken_as, with_newer
from hub.service.ports import Commit, Loaded, Request

# Decisions that look at the monitor without touching it: a monitor that starts meanwhile must make them decide again.
_READ_MONITOR = (
    e.ParticipantDisconnected,
    e.ConversationTransferred,
    e.ConversationEnded,
    e.TakenOver,
    e.MessageRevealed,
)
# What no screen's row tells.
_OFF_BOARD = (e.TakeoverPrepared, e.TakeoverCancelled, e.MessageRevealed)
_WRITE_MONITOR = (
    e.MonitorStarted,
    e.MonitorJoined,
    e.MonitorLeft,
    e.MonitorEnded,
    e.TakeoverPrepared,
    e.TakeoverCancelled,
)


# Most commits aren't guarded by the monitor (an agent must not feel it), so what they say of it would be as old as their
# decision. The store puts in what holds when it writes. No string can look like this member: quotes in it are escaped.
MONITOR_HERE = "@"
NO_KEYS = LedgerKeys()


def plan_commit(
    loaded: Loaded,
    before: Situation,
    events: Sequence[e.Event],
    after: Situation,
    *,
    fresh_tag: str,
    fresh_epoch: str,
    new_action_id: Callable[[], str],
    seen: Sequence[bytes] = (),
    request: Request | None = None,
    answer: bytes = b"",
    keys: LedgerKeys = NO_KEYS,
) -> Commit:
    """
    The commit that makes `events` (decided in `before`, leading to `after`) a fact.

    `fresh_tag` and `fresh_epoch` are random, as are the ids that `new_action_id` makes. `keys` are the ledger's.
    """
    conversation = after.existing
    effects = effects_of(before, events, after)
    of_state = after.conversation != before.conversation
    moves_state = bool(of_state or seen or effects.transcript)
    # The ledger's last line must be known when the next one is made: whatever writes one moves the version that guards it.
    writes_monitor = any(isinstance(one, _WRITE_MONITOR) for one in events) or (bool(events) and not moves_state)
    reads_monitor = writes_monitor or any(isinstance(one, _READ_MONITOR) for one in events)
    sets, drops = _fields(before, after, fresh_epoch, loaded.stored)
    chain = CHAIN_STATE if moves_state else CHAIN_MONITOR
    name, ledger, head = _ledger(loaded, effects.ledger, conversation, chain, f"{fresh_epoch}{fresh_tag}", keys)
    if ledger:
        sets.append((ledger_field(chain), ledger_value(head)))
    number = int(loaded.version.partition(".")[0] or 0) + 1
    due, due_drop = _due(before, after)
    # A transfer is a fact, however a monitor stands; what ends only because nobody renewed it waits for the lease's end.
    moved = any(isinstance(one, e.ConversationTransferred) for one in events)
    lapsed = not moved and any(isinstance(one, e.MonitorEnded) and _nobody_renewed(one) for one in events)
    on_board = any(not isinstance(one, _OFF_BOARD) for one in events)
    return Commit(
        org=conversation.org,
        conversation_id=conversation.conversation_id,
        connector=conversation.connector,
        version=loaded.version,
        monitor_version=loaded.monitor_version if reads_monitor else None,
        new_version=f"{number}.{fresh_tag}" if moves_state else None,
        new_monitor_version=fresh_tag if writes_monitor else None,
        now_ms=after.now_ms,
        index=("closed" if conversation.settled else "live") if of_state else None,
        lease_due=lapsed,
        row=orjson.dumps({**row_of(after), "monitor": MONITOR_HERE}) if on_board else None,
        extra=orjson.dumps({**extra_of(after, events), "monitor": MONITOR_HERE}),
        awaiting=after.counters.awaiting or "",
        sets=sets,
        drops=drops,
        transcript=[
            (
                one.audience,
                encode_event(one.event, one.data, conversation_id=conversation.conversation_id, at=one.at),
            )
            for one in effects.transcript
        ],
        actions=[encode_action(one, conversation.conversation_id, new_action_id()) for one in effects.actions]
        if conversation.connector
        else [],
        segments=[orjson.dumps(one) for one in effects.segments],
        due=due,
        due_drop=due_drop,
        panels=[
            (name, content.encode())
            for one in events
            if isinstance(one, e.ConversationStarted)
            for name, content in one.panels
        ],
        seen=seen,
        ledger=ledger,
        request=request,
        answer=answer,
        ledger_field=ledger_field(chain) if ledger else "",
        ledger_name=name,
    )


def _ledger(
    loaded: Loaded,
    lines: Sequence[dict[str, object]],
    conversation: Conversation,
    chain: str,
    fresh: str,
    keys: LedgerKeys,
) -> tuple[str, list[bytes], Head]:
    """
    The lines as they are written behind the last one of their chain, and the head after them.

    First of all the conversation's name where the chain begins, else nothing. Lines hold the name instead of the id.
    `fresh` is random: a chain that begins is called by it.
    """
    name = ledger_name(keys.first, conversation.org, conversation.conversation_id)
    before = loaded.ledger.get(chain, Head())
    bodies = [
        orjson.dumps({key: value for key, value in one.items() if key != "conversation_id"} | {"conversation": name})
        for one in lines
    ]
    made, head = chained(bodies, before.chain or f"{fresh}{chain}", before, keys.first)
    return name if made and not before.number else "", made, head


def fitted(conversation: Conversation, bytes_max: int) -> Conversation:
    """The same, with as many of those who left forgotten (oldest first) as the limit of the state asks."""
    while conversation.past and len(encode_state(conversation)) > bytes_max:
        conversation = replace(conversation, past=conversation.past[len(conversation.past) // 2 + 1 :])
    return conversation


def check_room(conversation: Conversation, bytes_max: int) -> None:
    """
    Refuse what makes a conversation larger by somebody's will; what ends or takes over always has room.

    Raises:
        Refused: `too_large`.
    """
    size = len(encode_state(replace(conversation, past=())))
    limit = bytes_max * 3 // 4
    if size > limit:
        details = {"bytes": size, "bytes_max": limit}
        raise Refused("too_large", "Too many participants for one conversation.", details)


def _nobody_renewed(ended: e.MonitorEnded) -> bool:
    by_itself = ended.reason == "permission_lost" and not ended.monitor.alive(ended.at)
    return ended.reason == "lease_expired" or by_itself


def encode_action(action: Action, conversation_id: str, action_id: str) -> bytes:
    """An action as it waits for its platform: `<action id> <event>`."""
    data = {"action_id": action_id, **action.data}
    event = encode_event(action.event, data, conversation_id=conversation_id, at=action.at)
    return action_id.encode() + b" " + event


def _fields(
    before: Situation, after: Situation, fresh_epoch: str, stored: bytes
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """The record's fields that differ."""
    sets: list[tuple[str, bytes]] = []
    drops: list[str] = []
    old, new = before.conversation, after.existing
    if old is None:
        sets += [
            ("epoch", fresh_epoch.encode()),
            ("conn", new.connector.encode()),
            ("cust", new.customer.participant_id.encode()),
            (f"p:{new.customer.participant_id}", spoken_as(new.customer)),
        ]
    if new != old:
        newer = newer_in(stored, old) if old is not None and stored else NOTHING_NEWER
        sets.append(("state", with_newer(encode_state(new), newer)))
        was = {one.participant_id: one for one in old.connected} if old is not None else {}
        # By id: who has left and come back at once is another value, but not gone.
        gone_ids = sorted(was.keys() - {one.participant_id for one in new.connected})
        sets += [
            (f"p:{one.participant_id}", spoken_as(one)) for one in new.connected if was.get(one.participant_id) != one
        ]
        drops += [f"p:{participant_id}" for participant_id in gone_ids]
        noticed = {one.participant_id for one in new.notices}
        drops += [f"draft:{participant_id}" for participant_id in gone_ids if participant_id not in noticed]
        if old is not None:
            gone = {one.participant_id for one in old.notices} - noticed
            drops += [f"draft:{participant_id}" for participant_id in sorted(gone)]
        if new.owner is None:
            drops.append("owner")
        else:
            sets.append(("owner", f"{new.owner} {new.owner_epoch}".encode()))
        if new.ended_at is not None and (old is None or old.ended_at is None):
            sets.append(("ended", b"1"))
            drops += ["awaiting", "since"]
    if before.monitor != after.monitor:
        monitor_sets, monitor_drops = _monitor_fields(before, after)
        sets += monitor_sets
        drops += monitor_drops
    if before.prepared != after.prepared:
        if after.prepared is None:
            drops.append("x")
        else:
            sets.append(("x", encode_state(after.prepared)))
    return sets, drops


def _monitor_fields(before: Situation, after: Situation) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Leases are fields of their own, so that a renewal rewrites nothing else."""
    old = {one.session: one.lease_end for one in before.monitor.sessions} if before.monitor else {}
    if after.monitor is None:
        return [], ["m", "m.id", "m.row", "m.extra", "m.from", *(f"ml:{session}" for session in old)]
    new = {one.session: one.lease_end for one in after.monitor.sessions}
    sets = [("m", encode_state(after.monitor)), ("m.id", after.monitor.monitor_id.encode())]
    seen, hidden = monitor_parts(after.monitor)
    sets += [("m.row", orjson.dumps(seen)), ("m.extra", orjson.dumps(hidden))]
    sets.append((f"w:{after.monitor.user_id}", b"1"))  # who ever watched, for the list of conversations
    sets += [(f"ml:{session}", str(end).encode()) for session, end in new.items() if old.get(session) != end]
    return sets, [f"ml:{session}" for session in old if session not in new]


def _due(before: Situation, after: Situation) -> tuple[list[tuple[str, int]], list[str]]:
    due: list[tuple[str, int]] = []
    drop: list[str] = []
    if before.monitor != after.monitor:
        if after.monitor is None:
            drop.append("lease")
        else:
            due.append(("lease", max(one.lease_end for one in after.monitor.sessions)))
    was = before.conversation.wrapups if before.conversation is not None else ()
    if after.existing.wrapups != was:
        if after.existing.wrapups:
            due.append(("wrapup", min(one.due_at for one in after.existing.wrapups)))
        else:
            drop.append("wrapup")
    return due, drop
