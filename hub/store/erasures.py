"""
Erasures of customers in the store: what was asked for, how far it is, and finding what is theirs.

    {0}:erasures              set    ids of those that are under way
    {0}:erasure:<id>          hash   org, state, conversations, erased, asked_at, done_at; `customer` until it is done
    {0}:erasure:<id>:ids      set    their conversations, until it is done

An id is made of a keyed hash of the customer's, so that asking again is the same erasure, and what is kept of it names nobody.
"""

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from hub.store.connection import ReplyError
from hub.store.outbound import MARK_BYTES, mark_of
from hub.store.redis_store import RedisStore, pairs

ROWS_AT_ONCE = 100
KEYS_AT_ONCE = 1_000
_MARK_ENDS = b"%d" % (MARK_BYTES - 1)
REMEMBERED_MS = 30 * 24 * 3_600_000  # how long the status of one that is done can be asked for
FINDING, ERASING, CLEANING, DONE = "finding", "erasing", "cleaning", "done"


@dataclass(frozen=True, slots=True)
class Erasure:
    """
    How far one is. `customer` is empty once it is done; times in Unix ms, `done_at` 0 before.

    `rewritten`: the engines were asked to write their files anew, so that what is on disk goes, too.
    """

    id: str
    org: str
    customer: str
    state: str
    conversations: int
    erased: int
    asked_at: int
    done_at: int
    rewritten: bool

    def wire(self) -> dict[str, object]:
        """As it is answered."""
        return {
            "erasure_id": self.id,
            "state": "done" if self.state == DONE else "running",
            "conversations": self.conversations,
            "erased": self.erased,
            "asked_at": self.asked_at,
            "done_at": self.done_at or None,
            "files_rewritten": self.rewritten,
        }


class Erasures:
    """See the module. Every step may be repeated, by any node, after any of them has died."""

    def __init__(self, store: RedisStore, key: bytes) -> None:
        """`key` is the ledger's."""
        self.store = store
        self._key = key

    @property
    def _running(self) -> bytes:
        return self.store.keys.base(0) + b"erasures"

    def id_of(self, org: str, customer_id: str) -> str:
        """The id of this customer's erasure."""
        made = hmac.new(self._key, f"erasure\n{org}/{customer_id}".encode(), sha256)
        return "era_" + made.hexdigest()[:24]

    def _place(self, id: str) -> bytes:
        return self.store.keys.base(0) + b"erasure:" + id.encode()

    async def _ask(self, key: bytes, *words: bytes) -> Any:
        return await self.store.call("commit", key, *words)

    async def ask(self, org: str, customer_id: str) -> Erasure:
        """
        Erase what there is of a customer now; asking again while it is under way changes nothing.

        Their conversations have been counted when this answers; the rest is `hub.fanout.records`' work. Raises Refused.
        """
        id = self.id_of(org, customer_id)
        known = await self.get(id)
        if known is None or known.state == DONE:
            now = await self.store.now_ms()
            await self._begin(id, org, customer_id, now)
        found = await self.find(id)
        assert found is not None, "it was written a moment ago"
        return found

    async def _begin(self, id: str, org: str, customer_id: str, now: int) -> None:
        key = self._place(id)
        fields = {"org": org, "customer": customer_id, "state": FINDING, "erased": "0", "asked_at": str(now)}
        flat = [part.encode() for pair in fields.items() for part in pair]
        await self._ask(key, b"PERSIST", key)
        await self._ask(key, b"HDEL", key, b"done_at", b"rewritten", b"conversations")
        await self._ask(key, b"HSET", key, *flat)
        await self._ask(self._running, b"SADD", self._running, id.encode())

    async def get(self, id: str) -> Erasure | None:
        """One, or None."""
        key = self._place(id)
        fields = {name.decode(): value.decode() for name, value in pairs(await self._ask(key, b"HGETALL", key)).items()}
        if "state" not in fields:
            return None
        return Erasure(
            id,
            fields["org"],
            fields.get("customer", ""),
            fields["state"],
            int(fields.get("conversations", 0)),
            int(fields.get("erased", 0)),
            int(fields["asked_at"]),
            int(fields.get("done_at", 0)),
            fields.get("rewritten") == "1",
        )

    async def running(self) -> list[str]:
        """Ids of those under way."""
        return [one.decode() for one in await self._ask(self._running, b"SMEMBERS", self._running)]

    async def forget(self, id: str) -> None:
        """One that names nothing is under way no more."""
        await self._ask(self._running, b"SREM", self._running, id.encode())

    async def write(self, id: str, **fields: str) -> None:
        """Write how far it is."""
        key = self._place(id)
        await self._ask(key, b"HSET", key, *[part.encode() for pair in fields.items() for part in pair])

    async def conversations(self, id: str) -> list[str]:
        """Those that were found."""
        key = self._place(id) + b":ids"
        return sorted(one.decode() for one in await self._ask(key, b"SMEMBERS", key))

    async def find(self, id: str) -> Erasure | None:
        """
        Find the customer's conversations, unless they have been; how far it is then.

        There is no index by customer: it would be one more trace of theirs, and lack what older hubs began. All of the
        organization's records are looked at, `ROWS_AT_ONCE` at a time, some 10 µs of the store's time each.
        """
        one = await self.get(id)
        if one is None or one.state != FINDING:
            return one
        key = self._place(id) + b":ids"
        async for conversation_id in self._of_customer(one.org, one.customer):
            await self._ask(key, b"SADD", key, conversation_id.encode())
        count = len(await self.conversations(id))
        await self.write(id, state=ERASING, conversations=str(count))
        return await self.get(id)

    async def _of_customer(self, org: str, customer_id: str) -> AsyncIterator[str]:
        wanted = f'"customer_id":"{customer_id}"'.encode()
        for p in self.store.partitions():
            ids = {
                name
                for index in ("live", "closed")
                for its_org, name in await self.store.indexed(p, index)
                if its_org == org
            }
            ordered = sorted(ids)
            for start in range(0, len(ordered), ROWS_AT_ONCE):
                part = ordered[start : start + ROWS_AT_ONCE]
                calls = []
                for name in part:
                    key = self.store.keys.conversation(p, org, name)
                    calls.append(self.store.primaries.call("commit", key, b"HGET", key, b"state"))
                for name, state in zip(part, await self.store.many(calls), strict=True):
                    if state is not None and wanted in state and orjson.loads(state)["customer_id"] == customer_id:
                        yield name

    async def clean(self, one: Erasure) -> None:
        """
        Take away what is kept under other names: answers to their requests, sessions, tickets, what ids of ours belong to,
        and what adapters noted about them. Looks at every key once; keys that are kept for a while only.
        """
        ids = set(await self.conversations(one.id))
        members = {f"{one.org}/{name}".encode() for name in ids}
        for primary in self.store.primaries.primaries():
            cursor = b"0"
            while True:
                pattern = f"{self.store.keys.prefix}:*".encode()
                words = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % KEYS_AT_ONCE)
                cursor, found = await self.store.primaries.call_on("commit", primary, *words)
                for key in found:
                    if await self._theirs(key, one, ids, members):
                        await self._ask(key, b"UNLINK", key)
                if cursor == b"0":
                    break
        revoked = self.store.keys.base(0) + b"revoked"
        await self._ask(revoked, b"HDEL", revoked, f"{one.org}/sub/{one.customer}".encode())

    async def _theirs(self, key: bytes, one: Erasure, ids: set[str], members: set[bytes]) -> bool:
        kind, _, rest = key.partition(b"}:")[2].partition(b":")
        person = f"{one.org}/customer/{one.customer}".encode()
        if kind in (b"r", b"q"):
            if rest.startswith(person + b"/"):
                return True
            value = await self._ask(key, b"GET", key) or b""
            return any(f'"{name}"'.encode() in value for name in ids)
        if kind == b"n":
            return await self._ask(key, b"GET", key) in members
        if kind == b"s":
            return bool(await self._ask(key, b"HGET", key, b"user") == person)
        if kind == b"note":
            about = rest.startswith(f"{one.org}/".encode()) and await self._ask(key, b"GETRANGE", key, b"0", _MARK_ENDS)
            return bool(about == mark_of(one.org, one.customer))
        if kind == b"ticket":
            value = await self._ask(key, b"GET", key) or b"{}"
            known = orjson.loads(value)
            return (known.get("org"), known.get("role"), known.get("user_id")) == (one.org, "customer", one.customer)
        return False

    async def finish(self, one: Erasure) -> None:
        """Everything is gone: have the files on disk written anew, and forget whom it was about."""
        rewritten = await self._rewrite_files()
        key = self._place(one.id)
        now = await self.store.now_ms()
        await self._ask(key, b"UNLINK", key + b":ids")
        await self._ask(key, b"HDEL", key, b"customer")
        await self.write(one.id, state=DONE, done_at=str(now), rewritten="1" if rewritten else "0")
        await self._ask(key, b"PEXPIRE", key, b"%d" % REMEMBERED_MS)
        await self.forget(one.id)

    async def _rewrite_files(self) -> bool:
        """Ask each primary; False where one may not be asked, or is about to do it anyway."""
        done = True
        for primary in self.store.primaries.primaries():
            try:
                await self.store.primaries.call_on("commit", primary, b"BGREWRITEAOF")
            except ReplyError:
                done = False
        return done
