"""
What the store keeps of actions that the hub delivers by itself: claims, tries, dead letters, and the channels' notes.

Beside the queues that every platform has (`o:<org>/<conversation>`, `due:<org>/<connector>`), all in the slot of the
conversation:

    try:<org>/<conversation>     hash: `id` of the first action, `tries`, `claim`, `why` (last reason), `doom` (given up)
    back:<org>/<conversation>    hash: id of an action that an operator put back, and when (Unix ms)
    dead:<org>/<conversation>    hash: id of an action that was given up, its record and the action itself
    deads:<org>/<connector>      sorted set: `<org>/<conversation> <id>` of the dead letters, by when they were given up
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from hub.settings import Settings
from hub.store.keys import partition, partition_of
from hub.store.redis_store import RedisStore, load_script, pairs

TAKE, SETTLE, REVIVE = OUTBOUND_SCRIPTS = tuple(load_script(name) for name in ("take", "settle", "revive"))
_DAY_MS: Final = 86_400_000
NOTE_CHARS_MAX: Final = 8_192
NOTE_MARK: Final = b"\xff"  # of notes about a customer, followed by 16 hex digits
MARK_BYTES: Final = 17
ANY_CLAIM: Final = "*"


@dataclass(frozen=True, slots=True)
class Taken:
    """
    One claimed action as it is stored, `<id> <event>`. `tries` counts this one; `doom`: why it was given up already.

    `back_at` is when an operator put it back (Unix ms, None: never), `now_ms` the store's clock at the claim.
    """

    org: str
    connector: str
    conversation_id: str
    action: bytes
    claim: str
    tries: int
    why: str
    doom: str
    back_at: int | None
    now_ms: int

    @property
    def id(self) -> str:
        """The action's id."""
        return self.action.partition(b" ")[0].decode()

    @property
    def event(self) -> bytes:
        """The action as a platform's socket would get it."""
        return self.action.partition(b" ")[2]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An action that was given up: nothing of its content. Times are Unix ms."""

    id: str
    conversation_id: str
    connector: str
    type: str
    at: int
    tries: int
    reason: str
    failed_at: int


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's first action that is still to be sent: `next_at` is when it is due, `behind` how many follow."""

    id: str
    conversation_id: str
    connector: str
    type: str
    at: int
    tries: int
    reason: str
    next_at: int
    behind: int


class _Head(msgspec.Struct):
    event: str
    at: int


class Outbound:
    """See the module. Every method raises Refused `store_unavailable`; a cancelled call has an unknown outcome."""

    def __init__(self, store: RedisStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    # -- the node's side -----------------------------------------------------------------------------------------------

    async def ready(self, org: str, connector: str, now_ms: int) -> list[int]:
        """Partitions in which this connector has something due by `now_ms`, the store's clock."""
        partitions = list(self._store.partitions())
        calls = []
        for p in partitions:
            key = self._store.keys.due(p, f"{org}/{connector}")
            first = (b"-inf", b"%d" % now_ms, b"LIMIT", b"0", b"1")
            calls.append(self._store.primaries.call("commit", key, b"ZRANGEBYSCORE", key, *first))
        return [p for p, found in zip(partitions, await self._store.many(calls), strict=True) if found]

    async def take(self, p: int, org: str, connector: str, claim: str, count: int) -> list[Taken]:
        """Claim the next action of at most `count` conversations that have one due; counts the try."""
        memory_ms = self._settings.outbound_age_max_ms + _DAY_MS
        numbers = (self._settings.outbound_claim_ms, count)
        args = [self._store.keys.base(p), *(b"%d" % one for one in numbers), claim.encode(), b"%d" % memory_ms]
        now, *flat = await self._store.script("commit", TAKE, [self._store.keys.due(p, f"{org}/{connector}")], args)
        taken = []
        for member, action, tries, why, doom, back in zip(*(flat[n::6] for n in range(6)), strict=True):
            owner, _, conversation_id = member.decode().partition("/")
            taken.append(
                Taken(
                    org=owner,
                    connector=connector,
                    conversation_id=conversation_id,
                    action=action,
                    claim=claim,
                    tries=int(tries),
                    why=why.decode(),
                    doom=doom.decode(),
                    back_at=int(back) if back else None,
                    now_ms=int(now),
                )
            )
        return taken

    async def later(self, one: Taken, delay_ms: int, reason: str, *, uncounted: bool = False) -> bool:
        """Due again after a delay; `uncounted`: this was no try. False where the claim is another one's by now."""
        return await self._settle("later", one, delay_ms, reason.encode(), take_back=int(uncounted))

    async def doom(self, one: Taken, reason: str) -> bool:
        """Note that it is given up, before anybody is told: whoever takes it up goes on from there. False as `later`."""
        return await self._settle("doom", one, self._settings.outbound_claim_ms, reason.encode())

    async def bury(self, one: Taken, letter: DeadLetter) -> bool:
        """Take it out of the queue and keep it as a dead letter; the next action is due. False as `later`."""
        return await self._settle("bury", one, 0, msgspec.json.encode(letter))

    async def _settle(self, what: str, one: Taken, delay_ms: int, text: bytes, *, take_back: int = 0) -> bool:
        p = partition(one.org, one.conversation_id)
        base, member = self._store.keys.base(p), f"{one.org}/{one.conversation_id}".encode()
        due = self._store.keys.due(p, f"{one.org}/{one.connector}")
        keys = [base + b"o:" + member, base + b"try:" + member, due, base + b"dead:" + member]
        keys += [self._deads(p, one.org, one.connector), base + b"back:" + member]
        args = [what.encode(), one.id.encode(), one.claim.encode(), member, b"%d" % delay_ms, text, b"%d" % take_back]
        args += [self._wake(p, one.org, one.connector), b"%d" % self._settings.dead_letters_max, base]
        return bool(await self._store.script("commit", SETTLE, keys, args))

    def _deads(self, p: int, org: str, connector: str) -> bytes:
        return self._store.keys.base(p) + f"deads:{org}/{connector}".encode()

    def _wake(self, p: int, org: str, connector: str) -> bytes:
        return self._store.keys.base(p) + f"wake:{org}/{connector}".encode()

    async def figures(self, org: str, connector: str) -> tuple[int, int]:
        """How many conversations have something to send through the connector, and its dead letters."""
        calls = []
        for p in self._store.partitions():
            for key in (self._store.keys.due(p, f"{org}/{connector}"), self._deads(p, org, connector)):
                calls.append(self._store.primaries.call("commit", key, b"ZCARD", key))
        counts = await self._store.many(calls)
        return sum(counts[::2]), sum(counts[1::2])

    # -- the operators' side -------------------------------------------------------------------------------------------

    async def dead_letters(self, org: str, connector: str, count: int) -> list[DeadLetter]:
        """The newest dead letters of a connector, newest first."""
        calls = []
        for p in self._store.partitions():
            key = self._deads(p, org, connector)
            calls.append(self._store.primaries.call("commit", key, b"ZREVRANGE", key, b"0", b"%d" % (count - 1)))
        reads = []
        for p, members in zip(self._store.partitions(), await self._store.many(calls), strict=True):
            for one in members:
                member, _, id_ = one.partition(b" ")
                key = self._store.keys.base(p) + b"dead:" + member
                reads.append(self._store.primaries.call("commit", key, b"HGET", key, id_))
        kept = [one for one in await self._store.many(reads) if one is not None]
        letters = [msgspec.json.decode(one.partition(b"\n")[0], type=DeadLetter) for one in kept]
        return sorted(letters, key=lambda letter: (letter.failed_at, letter.id), reverse=True)[:count]

    async def waiting(self, org: str, connector: str, count: int) -> list[Waiting]:
        """The first action of conversations that have some to send, the longest due first."""
        calls = []
        for p in self._store.partitions():
            key = self._store.keys.due(p, f"{org}/{connector}")
            most = (b"-inf", b"+inf", b"WITHSCORES", b"LIMIT", b"0", b"%d" % count)
            calls.append(self._store.primaries.call("commit", key, b"ZRANGEBYSCORE", key, *most))
        members: list[tuple[int, bytes, int]] = []
        for p, flat in zip(self._store.partitions(), await self._store.many(calls), strict=True):
            members += [(int(float(at)), member, p) for member, at in pairs(flat).items()]
        found = [await self._head(p, member, at, connector) for at, member, p in sorted(members)[:count]]
        return [one for one in found if one is not None]

    async def find(self, org: str, connector: str, action_id: str) -> DeadLetter | Waiting | None:
        """A dead letter, or the first action of a conversation that waits, by its id; None where there is none."""
        p = partition_of(action_id)
        if p is None:
            return None
        key, base = self._deads(p, org, connector), self._store.keys.base(p)
        for one in await self._store.call("commit", key, b"ZREVRANGE", key, b"0", b"-1"):
            member, _, id_ = one.partition(b" ")
            if id_ == action_id.encode():
                name = base + b"dead:" + member
                kept = await self._store.call("commit", name, b"HGET", name, id_)
                return None if kept is None else msgspec.json.decode(kept.partition(b"\n")[0], type=DeadLetter)
        place = await self._store.pointed(p, action_id)
        if place is None or place[0] != org:
            return None
        member, due = "/".join(place).encode(), self._store.keys.due(p, f"{org}/{connector}")
        at = await self._store.call("commit", due, b"ZSCORE", due, member)
        found = None if at is None else await self._head(p, member, int(float(at)), connector)
        return found if found is not None and found.id == action_id else None

    async def _head(self, p: int, member: bytes, at: int, connector: str) -> Waiting | None:
        base = self._store.keys.base(p)
        actions, tries = base + b"o:" + member, base + b"try:" + member
        action, length, (id_, count, why) = await self._store.many(
            [
                self._store.primaries.call("commit", actions, b"LINDEX", actions, b"0"),
                self._store.primaries.call("commit", actions, b"LLEN", actions),
                self._store.primaries.call("commit", tries, b"HMGET", tries, b"id", b"tries", b"why"),
            ]
        )
        if action is None:
            return None
        id, _, event = action.partition(b" ")
        head = msgspec.json.decode(event, type=_Head)
        tried = id_ == id
        return Waiting(
            id=id.decode(),
            conversation_id=member.decode().partition("/")[2],
            connector=connector,
            type=head.event,
            at=head.at,
            tries=int(count or 0) if tried else 0,
            reason=(why or b"").decode() if tried else "",
            next_at=at,
            behind=length - 1,
        )

    async def revive(self, org: str, connector: str, conversation_id: str, action_id: str, *, back: bool) -> bool:
        """Put a dead letter back at the end of its conversation's queue, or (`back` False) forget it. False: no such one."""
        p = partition(org, conversation_id)
        base, member = self._store.keys.base(p), f"{org}/{conversation_id}".encode()
        due = self._store.keys.due(p, f"{org}/{connector}")
        keys = [base + b"dead:" + member, self._deads(p, org, connector), base + b"o:" + member]
        keys += [base + b"back:" + member, due]
        memory_ms = self._settings.outbound_age_max_ms + _DAY_MS
        args = [action_id.encode(), member, self._wake(p, org, connector), b"%d" % back, b"%d" % memory_ms]
        return bool(await self._store.script("commit", REVIVE, keys, args))

    async def hasten(self, one: Waiting, org: str, *, drop: str = "") -> bool:
        """A waiting action is due now; with `drop` it is given up for that reason. False: not now, it is being sent, or was."""
        taken = Taken(org, one.connector, one.conversation_id, one.id.encode(), ANY_CLAIM, 0, "", "", None, 0)
        what, text = ("doom", drop) if drop else ("later", one.reason)
        return await self._settle(what, taken, 0, text.encode())


def mark_of(org: str, customer_id: str) -> bytes:
    """
    What a note about this customer begins with: no UTF-8, so that it is told apart from notes about nobody.

    As little as the note's own name, which is a hash, does it say whom it is about to whoever doesn't know already.
    """
    digest = blake2b(f"{org}/{customer_id}".encode(), digest_size=8, person=b"about").hexdigest()
    return NOTE_MARK + digest.encode()


class StoreNotes:
    """A connector's `Notes` in the store (`hub.channels.port`)."""

    def __init__(self, store: RedisStore, org: str, connector: str, mark: bytes = b"") -> None:
        self._store = store
        self._org = org
        self._connector = connector
        self._place = f"{org}/{connector}"
        self._mark = mark

    def about(self, customer_id: str) -> StoreNotes:
        """See the port."""
        return StoreNotes(self._store, self._org, self._connector, mark_of(self._org, customer_id))

    def _key(self, key: str) -> bytes:
        # A provider chooses what it is remembered by: of any length, in any characters.
        digest = blake2b(key.encode(), digest_size=16, person=b"note").hexdigest()
        return self._store.keys.base(partition(self._place, digest)) + f"note:{self._place}/{digest}".encode()

    async def get(self, key: str) -> str | None:
        """See the port."""
        name = self._key(key)
        value: bytes | None = await self._store.call("commit", name, b"GET", name)
        if value is not None and value.startswith(NOTE_MARK):
            value = value[MARK_BYTES:]
        return None if value is None else value.decode()

    async def put(self, key: str, value: str, *, ttl_ms: int, absent: bool = False) -> bool:
        """See the port."""
        assert len(value) <= NOTE_CHARS_MAX, f"a note of {len(value)} characters"
        name = self._key(key)
        only = (b"NX",) if absent else ()
        reply = await self._store.call(
            "commit", name, b"SET", name, self._mark + value.encode(), b"PX", b"%d" % ttl_ms, *only
        )
        return bool(reply == b"OK")
