"""Owners and takeovers, by the store: promises I2 and I4."""

from collections.abc import Iterator, Sequence

from tests.support.judge.case import Case, Fold, actions_of, marks
from tests.support.judge.frames import action_id
from tests.support.judge.records import Record, Violation
from tests.support.judge.stored import Written


def owners(case: Case) -> Iterator[Violation]:
    """Whoever spoke was connected, through the hub only the owner; owner and epoch are those that the entries lead to."""
    if not case.kept.whole:
        return
    sent = {ok["message_id"]: record for record, _, ok in case.commands("message.send")}
    fold, taken = Fold(), marks(case.kept.entries)
    epochs: dict[str, int] = {}
    for entry in case.kept.entries:
        if entry.name == "message.created":
            epochs[entry.data["message_id"]] = fold.epoch
            yield from _spoken(case, fold, entry, sent.get(entry.data["message_id"]))
        fold.take(entry, taken.get(entry.tag))
        if entry.name == "takeover.completed" and entry.data["owner_epoch"] != fold.epoch:
            yield case.blame("I2", f"owner_epoch {entry.data['owner_epoch']} in the mark", f"{fold.epoch}")
    state = case.kept.state
    if (state.owner, state.owner_epoch) != (fold.owner, fold.epoch):
        seen = f"owner {state.owner} of epoch {state.owner_epoch} in the record"
        yield case.blame("I2", seen, f"{fold.owner}, {fold.epoch}, as in the transcript")
    if [one.participant_id for one in state.connected] != fold.connected:
        seen = f"{[one.participant_id for one in state.connected]} connected in the record"
        yield case.blame("I2", seen, f"{fold.connected}, as in the transcript")
    for where, action in actions_of(case):
        wanted = epochs.get(action["data"].get("message_id", ""))
        if action["event"] == "outbound.message" and wanted not in (None, action["data"]["owner_epoch"]):
            yield case.blame("I2", f"{action_id(action)} of epoch {action['data']['owner_epoch']}", f"{wanted}", where)


def _spoken(case: Case, fold: Fold, entry: Written, sender: Record | None) -> Iterator[Violation]:
    who, message = entry.data["participant_id"], entry.data["message_id"]
    if who in fold.removed:
        yield case.blame("I2", f"{message} by {who}", "nothing by whom a takeover removed")
    elif who != fold.customer and who not in fold.connected:
        yield case.blame("I2", f"{message} by {who}", f"one of {fold.connected}")
    if sender is None:
        by_staff = message.startswith("msg_") and who != fold.customer  # through the hub, and nobody got the answer
        if by_staff and who != fold.owner:
            yield case.blame("I2", f"{message} by {who}", f"by the owner {fold.owner} only")
        return
    if sender.role == "customer":
        if who != fold.customer:
            yield case.blame("I2", f"{message} of the customer's by {who}", fold.customer, sender)
    elif who != fold.owner or fold.users.get(who) != sender.user:
        seen = f"{message} by {who} ({fold.users.get(who)}), sent by {sender.user}"
        yield case.blame("I2", seen, f"by the owner {fold.owner} only", sender)


def takeovers_are_whole(case: Case) -> Iterator[Violation]:
    """Each takeover has all its parts, once, and each part belongs to one; what was confirmed is there."""
    done = {data["takeover_id"]: tag for tag, data in marks(case.kept.entries).items()}
    lines = [str(one["takeover_id"]) for one in case.kept.ledger if one["what"] == "takeover.completed"]
    segments = [str(one["takeover_id"]) for one in case.kept.segments if one["kind"] == "takeover"]
    if case.kept.whole:
        for takeover in {*done, *lines, *segments, *case.kept.state.takeovers}:
            counts = (int(takeover in done), lines.count(takeover), segments.count(takeover))
            if counts != (1, 1, 1):
                yield case.blame("I2", f"{takeover}: mark, ledger, segment {counts}", "one of each")
    yield from _confirmed(case)
    for takeover, tag in done.items():
        yield from _one_takeover(case, takeover, [one for one in case.kept.entries if one.tag == tag])


def _confirmed(case: Case) -> Iterator[Violation]:
    """What was prepared in this conversation and confirmed with an `ok` has its mark, as the `ok` said."""
    prepared = {ok["takeover_id"] for _, _, ok in case.commands("takeover.prepare")}
    there = {one["takeover_id"]: one for one in marks(case.kept.entries).values()}
    for record, command, ok in case.commands("takeover.confirm"):
        takeover = command.asked["takeover_id"]
        if takeover not in prepared or not case.kept.whole:
            continue
        mark, wanted = there.get(takeover, {}), (ok["participant_id"], ok["owner_epoch"])
        if (mark.get("to"), mark.get("owner_epoch")) != wanted:
            yield case.blame("I2", f"the mark {mark}", f"{wanted}, as {takeover} was confirmed", record)


def _one_takeover(case: Case, takeover: str, entries: Sequence[Written]) -> Iterator[Violation]:
    data = entries[-1].data
    removed = [one.data["participant_id"] for one in entries if one.name == "participant.disconnected"]
    came = [one.data["participant_id"] for one in entries if one.name == "participant.connected"]
    if (removed, came) != (data.get("from"), [data.get("to")]):
        yield case.blame("I2", f"{takeover}: {removed} removed, {came} came", f"{data.get('from')}, {data.get('to')}")
    people = {
        one.data["participant_id"]: one.data["participant"] for one in entries if one.name == "participant.disconnected"
    }
    ended = [str(one["participant_id"]) for one in case.kept.segments if one.get("disconnect_type") == "takeover"]
    asked = {str(one["participant_id"]) for one in case.kept.ledger if one["what"] == "wrapup.requested"}
    wrapup_due = _wrapup_due(case, takeover)
    told = {(one.takeover_id, one.user_id) for one in case.kept.state.notices} | {
        (one["takeover_id"], one["user_id"]) for one in case.kept.ledger if one["what"] == "takeover.acknowledged"
    }
    for name, one in people.items():
        if name not in ended:
            yield case.blame("I2", f"{takeover}: no segment of {name}", "one that ends by takeover")
        if (takeover, one["user_id"]) not in told:
            yield case.blame("I4", f"{takeover}: no notice for {one['user_id']}", "one, until it is acknowledged")
        if wrapup_due and one["purpose"] != "bot" and name not in asked:
            yield case.blame("I2", f"{takeover}: no wrap-up of {name}", "one, as the consequences said")
    actions = [one for _, one in actions_of(case)]
    if any(one.role == "connector" for one in case.records) and case.kept.state.connector:
        for kind, names in (("participant.disconnected", removed), ("participant.connected", came)):
            there = {one["data"]["participant_id"] for one in actions if one["event"] == kind}
            if not set(names) <= there:
                yield case.blame("I2", f"{takeover}: no {kind} of {set(names) - there} for the platform", "one each")


def _wrapup_due(case: Case, takeover: str) -> bool:
    """True where the consequences named a wrap-up, and the conversation stayed in its queue until it was taken over."""
    named = any(
        ok["takeover_id"] == takeover and ok["consequences"]["wrapup"] for _, _, ok in case.commands("takeover.prepare")
    )
    lines = [one["what"] for one in case.kept.ledger if takeover == one.get("takeover_id") or "queue" in one]
    done = lines.index("takeover.completed") if "takeover.completed" in lines else 0
    return named and lines[:done][-1:] == ["takeover.prepared"]
