"""
Bugs that are planted into a hub, so that the judge can show that it finds them.

A plant is a list of edits: a function of the hub's (or one of its scripts), a piece of its text, and what stands there
instead. The edited function is compiled in its own module, and its code put in place of the old one, so that whoever holds
the function has the bug. Nothing in `hub/` knows of this. A piece of text that isn't there (any more), or is there twice,
is an error: a plant that no longer grows must not pass for one that was found.

Some plants need weather: something a right hub has to live with, and which alone must break no promise.
"""

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha1
from importlib import import_module
from types import FunctionType
from typing import Any

from hub.store import redis_store
from hub.store.connection import Script


class PlantError(Exception):
    """An edit doesn't fit the hub as it is now."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One piece of text of one target: `module:Class.function`, or `name.lua`."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: what is wrong then, the promise that it breaks (empty: none), and the scenario that shows it."""

    wrong: str
    promise: str
    scenario: str
    edits: tuple[Edit, ...]

    def grow(self) -> None:
        """
        Put the bug into this process.

        Raises:
            PlantError: The hub's text is another one now.
        """
        by_target: dict[str, list[Edit]] = {}
        for edit in self.edits:
            by_target.setdefault(edit.target, []).append(edit)
        for target, edits in by_target.items():
            if target.endswith(".lua"):
                _edit_script(target, edits)
            else:
                _edit_function(target, edits)


def _edited(target: str, text: str, edits: Iterable[Edit]) -> str:
    for edit in edits:
        if (count := text.count(edit.old)) != 1:
            raise PlantError(f"{target} has {count} times: {edit.old!r}")
        text = text.replace(edit.old, edit.new)
    return text


def _edit_script(target: str, edits: Iterable[Edit]) -> None:
    name = target.removesuffix(".lua")
    found: list[Script] = [one for one in redis_store.SCRIPTS if one.name == name]
    if len(found) != 1:
        raise PlantError(f"there is no script {name}")
    found[0].text = _edited(target, found[0].text.decode(), edits).encode()
    found[0].sha = sha1(found[0].text, usedforsecurity=False).hexdigest().encode()


def _edit_function(target: str, edits: Iterable[Edit]) -> None:
    module_name, _, path = target.partition(":")
    module = import_module(module_name)
    found: Any = module
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
    function = found.fget if isinstance(found, property) else found
    if not isinstance(function, FunctionType):
        raise PlantError(f"there is no function {target}")
    source = re.sub(r"\A(@.*\n)+", "", textwrap.dedent(inspect.getsource(function)))
    made: dict[str, Any] = {}
    text = "from __future__ import annotations\n" + _edited(target, source, edits)
    exec(compile(text, f"<planted {target}>", "exec"), vars(module), made)
    new = made[function.__name__]
    if new.__code__.co_freevars != function.__code__.co_freevars:
        raise PlantError(f"{target} is a closure")
    function.__code__, function.__defaults__ = new.__code__, new.__defaults__


# -- the weather -----------------------------------------------------------------------------------------------------

LATE_BOARD = Edit(
    "hub.fanout.node:Node._changed",
    "    if new is None",
    """    if not _later:
        asyncio.get_running_loop().call_later(0.4, lambda: self._changed(org, old, new, True))
        return
    if new is None""",
)
LATE = (
    LATE_BOARD,
    Edit("hub.fanout.node:Node._changed", "new: Entry | None) -> None:", "new: Entry | None, _later=False) -> None:"),
)

# -- the plants ------------------------------------------------------------------------------------------------------

CHANCE = '__import__("os").urandom(8).hex()'
STALE = "return refused({'stale', c[5] or ''}) end"


def _one(
    wrong: str, promise: str, scenario: str, target: str, old: str, new: str, weather: tuple[Edit, ...] = ()
) -> Plant:
    return Plant(wrong, promise, scenario, (Edit(target, old, new), *weather))


PLANTS: Mapping[str, Plant] = {
    "nothing": Plant("nothing is wrong", "", "everything", ()),
    "late_news": Plant("nodes learn late what has changed, which is no bug", "", "everything", LATE),
    # I1
    "no_fence": _one(
        "a commit doesn't compare the versions it was decided on", "I1", "rivals", "commit.lua",
        "if (c[1] or '') ~= ARGV[1] or (ARGV[2] ~= '*' and (c[2] or '') ~= ARGV[2]) then", "if false then",
    ),
    "no_lease": Plant(
        "a monitor starts although another one's lease runs",
        "I1",
        "day",
        (
            Edit("hub.domain.decide:holding", "monitor.alive(situation.now_ms) else None", "False else None"),
            Edit("commit.lua", "if score and tonumber(score) > now then return {'not_due'} end", ""),
        ),
    ),
    "blind_expiry": _one(
        "what was due once ends without looking again", "I1", "lapse", "hub.domain.decide:_expire_monitor",
        "held is None or held.alive(situation.now_ms)", "held is None",
    ),
    "any_renewal": _one(
        "a renewal extends whatever monitor is there", "I1", "usurped", "renew.lua",
        "if c[1] == ARGV[a + 1] and c[2] and tonumber(c[2]) > now then", "if c[1] then",
    ),
    "any_monitor_sees": _one(
        "a monitor gets what was written under another one", "I1", "handover", "hub.fanout.watch:Watch.sees",
        " and entry.monitor_id == self.monitor_id", "", LATE,
    ),
    "typing_to_former": _one(
        "typing is shown to a monitor that is over", "I1", "handover", "hub.fanout.watch:Watch.offer_typing",
        " and self.monitor_id == monitor_id", "", LATE,
    ),
    # I2
    "half_a_takeover": Plant(
        "a takeover is written by two scripts, and the node dies between them", "I2", "day",
        (
            Edit(
                "hub.store.redis_store:RedisStore.commit", "    p, member = self._place(",
                "    half = any(b'\"takeover.completed\"' in body for _, body in commit.transcript)\n"
                "    if half:\n"
                "        from dataclasses import replace\n"
                "        commit = replace(commit, transcript=[], actions=[], segments=[], ledger=[])\n"
                "    p, member = self._place(",
            ),
            Edit(
                "hub.store.redis_store:RedisStore.commit", "await self.script(lane, COMMIT, keys, args)\n",
                "await self.script(lane, COMMIT, keys, args)\n    if half:\n        raise store_unavailable('unknown')\n",
            ),
        ),
    ),
    "no_owner_check": _one(
        "whoever isn't the owner may speak", "I2", "day", "append.lua",
        f"if ARGV[4] ~= '' and c[5] ~= ARGV[4] then {STALE}", "",
    ),
    "no_connected_check": _one(
        "whoever isn't connected may speak", "I2", "day", "append.lua",
        f"  if not line then {STALE}",
        """  line = line or 'agent "participant_id":"' .. who .. '","purpose":"agent","name":"?"'""",
    ),
    "leavers_stay": _one(
        "a takeover leaves those that it removes among the connected", "I2", "day", "hub.service.plan:_fields",
        'drops += [f"p:{participant_id}" for participant_id in gone_ids]\n', "pass\n",
    ),
    "same_epoch": _one(
        "a takeover doesn't count as a change of owner", "I2", "day", "hub.domain.evolve:_taken_over",
        "owner_epoch=old.owner_epoch + 1", "owner_epoch=old.owner_epoch",
    ),
    "no_wrapup": _one(
        "a takeover asks nobody for a wrap-up", "I2", "day", "hub.domain.decide:_confirm",
        "asked = [event for one in removed for event in _wrapup_asked(situation, one, at)]", "asked = []",
    ),
    # I3
    "events_forgotten": _one(
        "an event's id isn't remembered", "I3", "day", "hub.service.ingest:append_of",
        'id_hash("e", event.id)', f'id_hash("e", {CHANCE})',
    ),
    "messages_forgotten": _one(
        "a client's message id isn't remembered", "I3", "day", "hub.service.messaging:Messaging._message",
        '(id_hash("m", message_id),)', f'(id_hash("m", {CHANCE}),)',
    ),
    "acked_not_written": _one(
        "a message is answered and not written", "I3", "day", "append.lua",
        "-- From here on nothing refuses",
        "if kind == 'message' and top % 4 == 0 then return {'ok', top, c[2], c[13]} end\n--",
    ),
    "not_sent_on": _one(
        "what staff says isn't sent to the platform", "I3", "day", "append.lua",
        "  if redis.call('RPUSH', KEYS[8], ARGV[14]) == 1 then", "  if false then",
    ),
    "new_action_id": _one(
        "an action has another id each time it is sent", "I3", "day", "hub.channels.outbox:Outbox._claim",
        'platform.send(action.partition(b" ")[2])',
        f"""platform.send(action.partition(b" ")[2].replace(b'"msg_', b'"msg_' + {CHANCE}.encode()))""",
    ),
    "next_too_early": _one(
        "the next action is sent before the last one was reported", "I3", "day", "claim.lua",
        "    out[#out + 1] = action\n",
        """    out[#out + 1] = action
    local second = redis.call('LINDEX', ARGV[1] .. 'o:' .. member, 1)
    if second then out[#out + 1] = member; out[#out + 1] = second end
""",
    ),
    # I4
    "told_again": _one(
        "an acknowledgement doesn't take the notice away", "I4", "day", "hub.domain.evolve:_acknowledged",
        "return replace(situation, conversation=replace(old, notices=rest))", "return situation",
    ),
    "one_device": _one(
        "only one of a person's sessions is told", "I4", "day", "hub.fanout.node:Node._sessions_of",
        "tuple(self.by_user.get((org.org, user_id), ()))", "tuple(self.by_user.get((org.org, user_id), ()))[:1]",
    ),
    "no_notice": _one(
        "a takeover leaves no notice", "I4", "day", "hub.domain.decide:_confirm",
        "notices = tuple(_notice(situation, command, one) for one in removed)", "notices = ()",
    ),
    # I5
    "given_twice": _one(
        "an entry is given twice", "I5", "day", "hub.fanout.watch:Watch.pass_on",
        "self.listener.send(item.staff_frame if", "for _ in range(2): self.listener.send(item.staff_frame if",
    ),
    "not_given": _one(
        "an entry isn't given", "I5", "day", "hub.fanout.watch:Watch.pass_on",
        "if self.sees(item.entry):", "if self.sees(item.entry) and item.entry.offset % 5:",
    ),
    "cursor_jumps": _one(
        "a cursor's offset jumps", "I5", "day", "hub.fanout.watch:Item._with_cursor",
        "self.entry.tag, self.entry.offset)", "self.entry.tag, self.entry.offset + (self.entry.offset > 7))",
    ),
    "resume_repeats": _one(
        "who resumes gets the entry at the cursor again", "I5", "day", "hub.edge.watching:WatchingSession._entries_behind",
        "return entries[1:]", "return entries",
    ),
    "resume_skips": _one(
        "who resumes misses an entry", "I5", "day", "hub.edge.watching:WatchingSession._entries_behind",
        "return entries[1:]", "return entries[2:]",
    ),
    "hidden_counted": _one(
        "a customer's position counts what they don't see", "I5", "day", "append.lua",
        "if string.find(ARGV[17], 'c', 1, true) then ctop = ctop + 1 end", "ctop = ctop + 1",
    ),
    "told_otherwise": _one(
        "what is published isn't what is stored", "I5", "day", "append.lua",
        "header .. ' ' .. body)\nlocal fields", "header .. ' ' .. (string.gsub(body, '\"text\":\"', '%0~')))\nlocal fields",
    ),
    "short_snapshot": _one(
        "a snapshot lacks the last message", "I5", "day", "hub.service.snapshots:messages_of",
        "[-MESSAGES_SHOWN:]", "[:-1]",
    ),
    # I6
    "leaver_listens": _one(
        "an agent goes on getting events after leaving", "I6", "day", "hub.fanout.watch:Watch._rights_change",
        "self.participant_id = None", "pass",
    ),
    "foreign_rows": _one(
        "a view shows rows of another division", "I6", "day", "hub.fanout.views:Scope.sees",
        "EVERYTHING in self.divisions or division in self.divisions", "True",
    ),
    "one_topic_for_all": Plant(
        "conversations of one id share a topic, whatever their organization, and nobody looks whose history it is",
        "I6",
        "day",
        (
            Edit("hub.fanout.node:Node._topic", "key = (org, conversation_id)", 'key = ("", conversation_id)'),
            Edit("hub.fanout.watch:Watch.offer", "ahead > 1 or item.before != self.tag", "False"),
        ),
    ),
    # I7
    "end_not_in_ledger": _one(
        "the end of a monitor has no line in the ledger", "I7", "day", "hub.domain.effects:effects_of",
        "effects.ledger.append(", "isinstance(event, e.MonitorEnded) or effects.ledger.append(",
    ),
    # I8
    "agents_see_it": _one(
        "an agent's snapshot has the monitor", "I8", "day", "hub.service.snapshots:snapshot_for_staff",
        "if not supervisor:", "if False:",
    ),
}  # fmt: skip

# -- masking -----------------------------------------------------------------------------------------------------------

# No promise of the judge's: the scenario is the test of tests/e2e/test_masking.py that finds the bug.
MASKING_PLANTS: Mapping[str, Plant] = {
    "live_unmasked": _one(
        "monitors get what is said as it is", "masking", "test_a_monitor_reads_masks",
        "hub.fanout.watch:Item.watchers_frame", "self.entry.body if masker is None else masked_event(self.entry.body, masker)",
        "self.entry.body",
    ),
    "snapshots_unmasked": _one(
        "snapshots show monitors what was said as it is", "masking", "test_a_resume_gives_masks_back",
        "hub.edge.watching:WatchingSession.wire_snapshot", "None if answers(self.person, conversation) else", "None and",
    ),
    "rows_unmasked": _one(
        "rows of views are shown as they are", "masking", "test_views_show_and_search_masks",
        "hub.service.masking:Maskers.row", "if not self.on:", "if True:",
    ),
    "history_unmasked": _one(
        "history is shown as it is", "masking", "test_history_is_masked",
        "hub.service.masking:answers", 'if person.role not in ("supervisor", "admin"):', "if True:",
    ),
    "reveal_outlives": Plant(
        "a message is revealed although the monitor is over", "masking", "test_a_reveal_ends_with_the_monitor",
        (
            Edit(
                "hub.domain.decide:_reveal", "held = _watched_by(situation, person, command.session)",
                'held = situation.monitor or Monitor("mon_00" + "0" * 20, person.user_id, person.name, "", 0, (), ())',
            ),
            Edit(
                "hub.edge.supervisor:SupervisorSession.message_reveal",
                "if ref is None or ref.monitor_id != revealed.monitor_id or", "if False and",
            ),
        ),
    ),
}  # fmt: skip
