"""
The store on Redis or Valkey: the ports of the service, plus sessions, people, actions and history.

Every write that must be whole is one script (`lua/`). Errors of the connection become refusals here and nowhere else:
`outcome: none` where nothing was sent, `unknown` where the answer is missing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from hub.domain.errors import Refused
from hub.domain.ledger import CHAIN_STATE, Head, chained, ledger_name
from hub.service.codec import decode_loaded
from hub.service.history import Listed
from hub.service.ids import secret_hash
from hub.service.ports import (
    Append,
    Appended,
    Commit,
    Committed,
    Conflict,
    Loaded,
    NotDue,
    Repeated,
    Request,
    Snapshot,
    StoredEntry,
)
from hub.settings import Settings
from hub.store.connection import ReplyError, Script, Unavailable, Unknown
from hub.store.keys import PARTITIONS, Keys, new_id, new_tag, partition, stable_id
from hub.store.topology import Primaries

_LUA = Path(__file__).with_name("lua")


def load_script(name: str) -> Script:
    """The script of that name in `lua/`."""
    return Script(name, (_LUA / f"{name}.lua").read_bytes())


NODE_SILENCE_MS = 5_000
ERASE_TRIES = 16
REWRITE_IDS = 20  # conversations taken out of a board's log at once: it looks for each in every row
UNPROVEN_MS = 1_000  # silence of a resumed socket after which its client hasn't got the new secret

APPEND, COMMIT, RENEW, CUT, SNAPSHOT, CLAIM, REPORT, PERSON, RESUME, SESSION, BEAT, *_OF_RECORDS = SCRIPTS = tuple(
    load_script(name)
    for name in (
        "append", "commit", "renew", "cut", "snapshot", "claim", "report", "person", "resume", "session", "beat",
        "seal", "erase", "rewrite", "seen",
    )
)  # fmt: skip
SEAL, ERASE, REWRITE, SEEN = _OF_RECORDS


class RandomIds:
    """Ids by the system's randomness, in the partition of their conversation."""

    def new(self, prefix: str, org: str, conversation_id: str) -> str:
        """A fresh id."""
        return new_id(prefix, partition(org, conversation_id))

    def stable(self, prefix: str, org: str, conversation_id: str, *parts: str) -> str:
        """The same id for the same parts."""
        return stable_id(prefix, partition(org, conversation_id), org, conversation_id, *parts)

    def tag(self) -> str:
        """A random tag."""
        return new_tag().decode()


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease to extend."""

    org: str
    conversation_id: str
    monitor_id: str
    session: str


class Unproven:
    """A session's last answer to hello may or may not have arrived."""


def store_unavailable(outcome: str) -> Refused:
    """The store did not do it (`none`), or nobody knows whether it did (`unknown`)."""
    return Refused("store_unavailable", "The store is not reachable; try again.", {"outcome": outcome})


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A reply of names and values as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def time_ms(reply: Sequence[bytes]) -> int:
    """`TIME` in milliseconds."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def _translated(error: Unavailable | Unknown) -> Refused:
    """A connection's error as a refusal, to be raised from it: whoever keeps the log finds the reason there."""
    return store_unavailable("none" if isinstance(error, Unavailable) else "unknown")


class RedisStore:
    """See the module. Safe to share by all tasks of a node; a cancelled call has an unknown outcome."""

    def __init__(self, primaries: Primaries, settings: Settings) -> None:
        self.primaries = primaries
        self.keys = Keys(settings.key_prefix)
        self.sent: dict[bytes, float] = {}  # tags of some entries, and when they left (loop time)
        self._settings = settings

    # -- calls, with the errors translated ---------------------------------------------------------------------------

    async def call(self, lane: str, key: bytes, *args: bytes) -> Any:
        """One command. Raises Refused `store_unavailable`; ReplyError: what the server says of it is our own mistake."""
        return await self._answer(lambda: self.primaries.call(lane, key, *args))

    async def script(self, lane: str, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """One script. Raises Refused `store_unavailable`."""
        return await self._answer(lambda: self.primaries.script(lane, script, keys, args))

    async def _answer(self, send: Callable[[], asyncio.Future[Any]]) -> Any:
        try:
            return await send()
        except (Unavailable, Unknown) as error:
            raise _translated(error) from error

    async def many(self, calls: Iterable[asyncio.Future[Any]]) -> list[Any]:
        """Answers of calls that were sent together. Raises Refused `store_unavailable` if any is missing."""
        replies: list[Any] = []
        missing: Exception | None = None
        for call in list(calls):  # all are on their way; a lane answers in order, so waiting one by one costs no turn
            try:
                replies.append(await call)
            except (Unavailable, Unknown, ReplyError) as error:
                if missing is None or isinstance(error, Unknown):
                    missing = error
        if isinstance(missing, Unavailable | Unknown):
            raise _translated(missing) from missing
        if missing is not None:
            raise missing
        return replies

    # -- conversations -----------------------------------------------------------------------------------------------

    def _place(self, org: str, conversation_id: str) -> tuple[int, bytes]:
        """Partition, and the member `<org>/<conversation>` of its indexes."""
        return partition(org, conversation_id), f"{org}/{conversation_id}".encode()

    def _wake(self, base: bytes, org: str, connector: str) -> bytes:
        """Channel on which a platform's nodes are woken."""
        return b"%bwake:%b/%b" % (base, org.encode(), connector.encode()) if connector else b""

    async def load(self, org: str, conversation_id: str, *, lane: str = "commit") -> Loaded:
        """The conversation as of now. Raises Refused `store_unavailable`."""
        p = partition(org, conversation_id)
        key = self.keys.conversation(p, org, conversation_id)
        time, fields = await self.many(
            [self.primaries.call(lane, key, b"TIME"), self.primaries.call(lane, key, b"HGETALL", key)]
        )
        return decode_loaded(pairs(fields), time_ms(time))

    async def now_ms(self) -> int:
        """The store's clock."""
        return time_ms(await self.call("commit", self.keys.base(0), b"TIME"))

    async def seen(self, org: str, conversation_id: str, hashes: Sequence[bytes]) -> list[bool]:
        """Which of these ids the conversation has taken in."""
        p = partition(org, conversation_id)
        base = self.keys.base(p)
        count = int(
            await self.call("commit", base, b"HGET", self.keys.conversation(p, org, conversation_id), b"dn") or 0
        )
        known = [False] * len(hashes)
        for k in range(count // 500 + 1):
            reply = await self.call("commit", base, b"SMISMEMBER", self.keys.seen(p, org, conversation_id, k), *hashes)
            known = [was or bool(is_) for was, is_ in zip(known, reply, strict=True)]
        return known

    def durable(self, org: str, conversation_id: str | None) -> bool:
        """See the port."""
        place = self.keys.base(partition(org, conversation_id)) if conversation_id else None
        return self.primaries.durable(place)

    def trust(self) -> None:
        """
        Raise Refused `store_unavailable` where another primary may have been made without us (`Primaries.vouched`).

        Whoever is given a monitor, or a conversation, would otherwise share it with somebody on the other side.
        """
        if not self.primaries.vouched:
            raise store_unavailable("none")

    async def commit(self, commit: Commit, *, lane: str = "commit") -> Committed | Conflict | Repeated | NotDue:
        """One script; see the port."""
        p, member = self._place(commit.org, commit.conversation_id)
        base = self.keys.base(p)
        request = b"" if commit.request is None else self._request_key(p, commit.request)
        named, org, conversation_id = self.keys, commit.org, commit.conversation_id
        keys = [
            named.conversation(p, org, conversation_id),
            named.transcript(p, org, conversation_id),
            named.seen_base(p, org, conversation_id),
            named.panels(p, org, conversation_id),
            named.live(p),
            named.closed(p),
            named.board(p, org),
            named.board_top(p, org),
            named.actions(p, org, conversation_id),
            named.due(p, f"{org}/{commit.connector}"),
            named.segments(p, org, conversation_id),
            named.due(p),
            named.ledger(p),
            request or named.base(p) + b"r",
        ]
        answer = b""
        if commit.request is not None:
            answer = commit.request.digest.encode() + b" " + commit.answer
        args = [
            commit.version.encode(),
            b"*" if commit.monitor_version is None else commit.monitor_version.encode(),
            (commit.new_version or "").encode(),
            (commit.new_monitor_version or "").encode(),
            self._noted(new_tag()),
            b"%d" % commit.now_ms,
            member,
            (commit.index or "").encode(),
            b"lease:" + member if commit.lease_due else b"",
            answer,
            commit.row or b"",
            commit.extra,
            commit.awaiting.encode(),
            b"%d" % self._settings.transcript_entries_max,
            self._wake(base, commit.org, commit.connector),
            b"%d" % self._settings.request_memory_ms,
            b"%d" % self._settings.ledger_entries_max,
            f"{commit.ledger_field}.at".encode(),
            commit.ledger_name.encode(),
        ]
        for items in (
            [part for name, value in commit.sets for part in (name.encode(), value)],
            [name.encode() for name in commit.drops],
            [part for audience, body in commit.transcript for part in (audience.encode(), body)],
            commit.actions,
            commit.segments,
            [part for kind, at in commit.due for part in (b"%d" % at, kind.encode() + b":" + member)],
            [kind.encode() + b":" + member for kind in commit.due_drop],
            [part for name, content in commit.panels for part in (name.encode(), content)],
            commit.seen,
            commit.ledger,
        ):
            args.append(b"%d" % len(items))
            args.extend(items)
        if commit.actions:  # before, so that none is reported that nobody knows
            await self._remember_actions(base, member, commit.actions)
        reply = await self.script(lane, COMMIT, keys, args)
        match reply[0]:
            case b"ok":
                return Committed(int(reply[1]), reply[2].decode(), reply[3].decode())
            case b"conflict":
                return Conflict(decode_loaded(pairs(reply[2]), time_ms(reply[1])))
            case b"repeat":
                digest, _, first = reply[1].partition(b" ")
                return Repeated(digest.decode(), first)
            case _:
                return NotDue()

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """One script each, in order, in one pipeline; see the port."""
        now = b"%d" % _wall_ms()
        calls = [self._append(one, now) for one in appends]
        replies = await self.many(calls)
        return [_appended(reply) for reply in replies]

    def _noted(self, tag: bytes) -> bytes:
        """The tag of an entry that leaves now; of some it is noted, to see how old they are at the sockets here."""
        if tag.endswith(NOTED) and len(self.sent) < NOTED_MAX:
            self.sent[tag] = asyncio.get_running_loop().time()
        return tag

    def forget_noted(self) -> None:
        """Make room for tags of entries that somebody here follows."""
        old = asyncio.get_running_loop().time() - NOTED_S
        while self.sent and self.sent[first := next(iter(self.sent))] < old:
            del self.sent[first]

    def _append(self, one: Append, now: bytes) -> asyncio.Future[Any]:
        p, member = self._place(one.org, one.conversation_id)
        base = self.keys.base(p)
        named, org, conversation_id = self.keys, one.org, one.conversation_id
        connector = one.action_connector if one.action else ""
        keys = (
            named.conversation(p, org, conversation_id),
            named.transcript(p, org, conversation_id),
            named.seen_base(p, org, conversation_id),
            named.panels(p, org, conversation_id),
            named.live(p),
            named.board(p, org),
            named.board_top(p, org),
            named.actions(p, org, conversation_id),
            named.due(p, f"{org}/{connector}"),
        )
        seen = one.seen
        args = (
            one.kind.encode(),
            (one.connector or "").encode(),
            one.participant.encode(),
            (one.owner or "").encode(),
            seen[0] if seen else b"",
            seen[1] if len(seen) > 1 else b"",
            self._noted(new_tag()),
            b"%d" % one.at,
            member,
            one.head,
            one.tail,
            one.panel.encode(),
            one.content,
            one.action,
            b"%d" % self._settings.transcript_entries_max,
            b"%d" % self._settings.panels_max,
            one.audience.encode(),
            self._wake(base, one.org, connector),
            now,
        )
        return self.primaries.script("ingest", APPEND, keys, args)

    async def snapshot(self, org: str, conversation_id: str, *, entries: int = 200) -> Snapshot | None:
        """A conversation, its panels and its newest entries as of one moment; None where there is none."""
        p = partition(org, conversation_id)
        keys = [
            self.keys.conversation(p, org, conversation_id),
            self.keys.panels(p, org, conversation_id),
            self.keys.transcript(p, org, conversation_id),
        ]
        time, fields, panels, newest = await self.script("commit", SNAPSHOT, keys, [b"%d" % entries])
        if not fields:
            return None
        return Snapshot(
            decode_loaded(pairs(fields), time_ms(time)),
            {name.decode(): content for name, content in pairs(panels).items()},
            [stored_entry(id, entry) for id, entry in reversed(newest)],
        )

    async def entries(
        self, org: str, conversation_id: str, *, from_offset: int, to_offset: int | None = None, count: int = 500
    ) -> list[StoredEntry]:
        """Entries from an offset on (inclusive), oldest first; the caller goes on behind the last."""
        p = partition(org, conversation_id)
        end = b"+" if to_offset is None else b"%d" % to_offset
        key = self.keys.transcript(p, org, conversation_id)
        reply = await self.call("ingest", key, b"XRANGE", key, b"%d" % from_offset, end, b"COUNT", b"%d" % count)
        return [stored_entry(id, entry) for id, entry in reply]

    async def entries_before(
        self, org: str, conversation_id: str, *, before: int | None, count: int
    ) -> list[StoredEntry]:
        """Entries before an offset (exclusive; None: the newest), newest first."""
        if before == 0:
            return []  # "(0-0" is no interval to the engine
        p = partition(org, conversation_id)
        key = self.keys.transcript(p, org, conversation_id)
        end = b"+" if before is None else b"(%d-0" % before
        reply = await self.call("ingest", key, b"XREVRANGE", key, end, b"-", b"COUNT", b"%d" % count)
        return [stored_entry(id, entry) for id, entry in reply]

    async def segments(self, org: str, conversation_id: str) -> list[bytes]:
        """Closed segments, JSON each, in the order in which they closed."""
        p = partition(org, conversation_id)
        key = self.keys.segments(p, org, conversation_id)
        return [entry[1] for _, entry in await self.call("commit", key, b"XRANGE", key, b"-", b"+")]

    async def erase(self, org: str, conversation_id: str, *, why: str = "retention", forget: bool = False) -> None:
        """
        Everything that is kept under the conversation's name; idempotent, one script.

        The ledger stays, with one more line that says `why`. With `forget` it isn't known any more whose lines they are;
        rows in the board's log stay until newer ones have pushed them out, or `rewrite_board`.

        Raises Refused `store_unavailable`, `outcome: none` where it is changed all the time.
        """
        p, member = self._place(org, conversation_id)
        keys, named = self._settings.ledger, self.keys
        name = ledger_name(keys.first, org, conversation_id)
        for _ in range(ERASE_TRIES):
            loaded = await self.load(org, conversation_id)
            conversation = loaded.situation.conversation
            connector = conversation.connector if conversation is not None else ""
            await self._forget_deliveries(p, member, org, connector)
            told = {
                "what": "conversation.erased",
                "at": loaded.situation.now_ms,
                "org": org,
                "why": why,
                "conversation": name,
            }
            head = loaded.ledger.get(CHAIN_STATE, Head())
            chain = head.chain or f"{new_tag().decode()}{new_tag().decode()}{CHAIN_STATE}"
            lines, _ = chained([orjson.dumps(told)], chain, head, keys.first)
            at = (p, org, conversation_id)
            names = [named.conversation(*at), named.transcript(*at), named.seen_base(*at), named.panels(*at)]
            names += [named.live(p), named.closed(p), named.board(p, org), named.board_top(p, org), named.actions(*at)]
            names += [named.due(p, f"{org}/{connector}"), named.segments(*at), named.due(p), named.ledger(p)]
            args = [loaded.version.encode(), loaded.monitor_version.encode(), member, name.encode(), new_tag()]
            args += [b"1" if forget else b"0", b"%d" % self._settings.ledger_entries_max, *lines]
            if await self.script("commit", ERASE, names, args) != b"conflict":
                return
        raise store_unavailable("none")

    async def _forget_deliveries(self, p: int, member: bytes, org: str, connector: str) -> None:
        """What is known of tries to send its actions, dead letters too; before its record, so that a crash loses no trace."""
        base = self.keys.base(p)
        dead = base + b"dead:" + member
        letters = [member + b" " + id_ for id_ in pairs(await self.call("commit", base, b"HGETALL", dead))]
        if letters:
            await self.call("commit", base, b"ZREM", base + b"deads:" + f"{org}/{connector}".encode(), *letters)
        await self.call("commit", base, b"UNLINK", dead, base + b"try:" + member, base + b"back:" + member)

    async def rewrite_board(self, p: int, org: str, conversation_ids: Sequence[str]) -> None:
        """Take rows of erased conversations out of the board's log; positions stay. Idempotent."""
        key = self.keys.board(p, org)
        for start in range(0, len(conversation_ids), REWRITE_IDS):
            ids = [one.encode() for one in conversation_ids[start : start + REWRITE_IDS]]
            await self.script("commit", REWRITE, [key], ids)

    async def has_actions(self, org: str, conversation_id: str) -> bool:
        """True where the platform hasn't reported everything yet."""
        key = self.keys.actions(partition(org, conversation_id), org, conversation_id)
        return bool(await self.call("commit", key, b"EXISTS", key))

    async def note_first_shown(self, org: str, conversation_id: str, monitor_id: str, offset: int) -> None:
        """The oldest entry that a monitor was shown; nothing where it is over, or where that is known."""
        key = self.keys.conversation(partition(org, conversation_id), org, conversation_id)
        await self.script("commit", SEEN, [key], [monitor_id.encode(), b"%d" % offset])

    # -- requests ----------------------------------------------------------------------------------------------------

    def _request_key(self, p: int, request: Request) -> bytes:
        return self.keys.request(p, request.org, request.role, request.user_id, request.req)

    def _asker_key(self, request: Request) -> bytes:
        """The same request where only the asker is known: finds a `req` used for another conversation."""
        base = self.keys.base(partition(request.org, request.user_id))
        return base + f"q:{request.org}/{request.role}/{request.user_id}/{request.req}".encode()

    async def committed(self, org: str, conversation_id: str, request: Request) -> Repeated | None:
        """What the same request was answered when it was committed to this conversation, or None."""
        return await self._answered(self._request_key(partition(org, conversation_id), request))

    async def _answered(self, key: bytes) -> Repeated | None:
        value = await self.call("commit", key, b"GET", key)
        if value is None:
            return None
        digest, _, answer = value.partition(b" ")
        return Repeated(digest.decode(), answer)

    async def first_answer(self, request: Request) -> Repeated | None:
        """What the same `req` was answered first, or None."""
        return await self._answered(self._asker_key(request))

    async def remember_answer(self, request: Request, answer: bytes) -> None:
        """Keep the first `ok` of a request."""
        key = self._asker_key(request)
        value = request.digest.encode() + b" " + answer
        await self.call("commit", key, b"SET", key, value, b"PX", b"%d" % self._settings.request_memory_ms, b"NX")

    # -- what an id of ours belongs to -------------------------------------------------------------------------------

    async def point(self, id: str, org: str, conversation_id: str, ttl_ms: int) -> None:
        """Remember the conversation of an id (which carries its partition)."""
        base = self.keys.base(partition(org, conversation_id))
        key = base + b"n:" + id.encode()
        await self.call("commit", key, b"SET", key, f"{org}/{conversation_id}".encode(), b"PX", b"%d" % ttl_ms)

    async def pointed(self, p: int, id: str) -> tuple[str, str] | None:
        """Organization and conversation of an id in partition `p`, or None."""
        key = self.keys.base(p) + b"n:" + id.encode()
        value = await self.call("commit", key, b"GET", key)
        if value is None:
            return None
        org, _, conversation_id = value.decode().partition("/")
        return org, conversation_id

    # -- leases and due things ---------------------------------------------------------------------------------------

    async def renew(self, p: int, leases: Sequence[Lease]) -> list[bool]:
        """Extend leases of one partition; False where it isn't theirs any more."""
        keys = [self.keys.due(p)]
        args = [b"%d" % self._settings.lease_ms]
        for one in leases:
            member = f"{one.org}/{one.conversation_id}".encode()
            keys.append(self.keys.conversation(p, one.org, one.conversation_id))
            args += [b"lease:" + member, one.monitor_id.encode(), one.session.encode()]
        reply = await self.script("commit", RENEW, keys, args)
        return [bool(kept) for kept in reply[1]]

    async def due(self, partitions: Sequence[int], now_ms: int, count: int = 200) -> list[tuple[str, str, str]]:
        """What is due: (kind, organization, conversation)."""
        calls = []
        for p in partitions:
            key = self.keys.due(p)
            calls.append(
                self.primaries.call(
                    "commit", key, b"ZRANGEBYSCORE", key, b"-inf", b"%d" % now_ms, b"LIMIT", b"0", b"%d" % count
                )
            )
        found = []
        for members in await self.many(calls):
            for member in members:
                kind, _, rest = member.decode().partition(":")
                org, _, conversation_id = rest.partition("/")
                found.append((kind, org, conversation_id))
        return found

    async def cut_leases(self, partitions: Sequence[int], now_ms: int) -> None:
        """
        Cut leases that end further away than one lease to one: the clock was another one when they were given.

        Half a second is allowed for the difference between asking for the time and looking.
        """
        furthest = now_ms + self._settings.lease_ms
        calls = []
        for p in partitions:
            key = self.keys.due(p)
            most = (b"%d" % (furthest + 500), b"+inf", b"LIMIT", b"0", b"1000")
            calls.append(self.primaries.call("commit", key, b"ZRANGEBYSCORE", key, *most))
        for p, members in zip(partitions, await self.many(calls), strict=True):
            for member in members:
                if member.startswith(b"lease:"):
                    org, conversation_id = _split(member[6:])
                    keys = [self.keys.due(p), self.keys.conversation(p, org, conversation_id)]
                    await self.script("commit", CUT, keys, [member, b"%d" % furthest])

    async def drop_due(self, kind: str, org: str, conversation_id: str) -> None:
        """Nothing of this kind is due any more."""
        p, member = self._place(org, conversation_id)
        key = self.keys.due(p)
        await self.call("commit", key, b"ZREM", key, kind.encode() + b":" + member)

    async def set_due(self, kind: str, when: Iterable[tuple[str, str, int]]) -> None:
        """Something is due for these (organization, conversation, ms); another time of the same kind is forgotten."""
        calls = []
        for org, conversation_id, at_ms in when:
            p, member = self._place(org, conversation_id)
            key = self.keys.due(p)
            calls.append(self.primaries.call("commit", key, b"ZADD", key, b"%d" % at_ms, kind.encode() + b":" + member))
        await self.many(calls)

    async def ended_between(self, p: int, since_ms: int, until_ms: int, count: int) -> list[tuple[str, str, int]]:
        """Conversations of the `closed` index by the time of their end, oldest first: (organization, conversation, end)."""
        key, score = self.keys.closed(p), (b"%d" % since_ms, b"%d" % until_ms)
        limit = (b"WITHSCORES", b"LIMIT", b"0", b"%d" % count)
        reply = await self.call("commit", key, b"ZRANGEBYSCORE", key, *score, *limit)
        return [(*_split(member), int(float(at))) for member, at in zip(reply[::2], reply[1::2], strict=True)]

    async def endings(self, conversations: Iterable[tuple[str, str]]) -> list[tuple[str, int] | None]:
        """Queue and end (ms) of each; None where it isn't there, or hasn't ended."""
        calls = []
        for org, conversation_id in conversations:
            key = self.keys.conversation(partition(org, conversation_id), org, conversation_id)
            calls.append(self.primaries.call("commit", key, b"HGET", key, b"state"))
        states = [orjson.loads(state) if state is not None else {} for state in await self.many(calls)]
        return [(one["queue"], one["ended_at"]) if one.get("ended_at") is not None else None for one in states]

    async def quiet_since(self, p: int, index: str, at_ms: int, count: int = 100) -> list[tuple[str, str]]:
        """Conversations of the `live` or `closed` index whose time is before `at_ms`, oldest first."""
        key = self.keys.base(p) + index.encode()
        reply = await self.call(
            "commit", key, b"ZRANGEBYSCORE", key, b"-inf", b"%d" % at_ms, b"LIMIT", b"0", b"%d" % count
        )
        return [_split(member) for member in reply]

    async def touch_live(self, org: str, conversation_id: str, at_ms: int) -> None:
        """Something is still open there: look again later."""
        p, member = self._place(org, conversation_id)
        key = self.keys.live(p)
        await self.call("commit", key, b"ZADD", key, b"XX", b"%d" % at_ms, member)

    # -- the board ---------------------------------------------------------------------------------------------------

    async def indexed(self, p: int, index: str, *, newest: int | None = None) -> list[tuple[str, str]]:
        """Conversations in the `live` or `closed` index of a partition; only the `newest` where that is given."""
        key = self.keys.base(p) + index.encode()
        last = b"-1" if newest is None else b"%d" % (newest - 1)
        return [_split(member) for member in await self.call("ingest", key, b"ZREVRANGE", key, b"0", last)]

    async def board_top(self, p: int, org: str) -> tuple[int, bytes]:
        """Position of a board's log."""
        key = self.keys.board_top(p, org)
        top, tag = await self.call("ingest", key, b"HMGET", key, b"top", b"tag")
        return int(top or 0), tag or b"0"

    async def rows(self, p: int, org: str, conversation_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Per conversation: row, extra, row_at, awaiting, since, messages (None where missing)."""
        calls = []
        for conversation_id in conversation_ids:
            key = self.keys.conversation(p, org, conversation_id)
            fields = (b"row", b"extra", b"row_at", b"awaiting", b"since", b"messages")
            calls.append(self.primaries.call("ingest", key, b"HMGET", key, *fields))
        return await self.many(calls)

    async def listed(
        self, org: str, *, below: tuple[int, str] | None, count: int, watched_by: str | None
    ) -> list[Listed]:
        """The organization's conversations of both indexes, last active first, behind a place; see the port."""
        calls = []
        for p in self.partitions():
            for index in (b"live", b"closed"):
                key = self.keys.base(p) + index
                most = b"+inf" if below is None else b"%d" % below[0]
                limit = (b"LIMIT", b"0", b"%d" % LISTED_MAX)
                calls.append(
                    self.primaries.call("ingest", key, b"ZREVRANGEBYSCORE", key, most, b"-inf", b"WITHSCORES", *limit)
                )
        places: set[tuple[int, str]] = set()
        for reply in await self.many(calls):
            for member, score in zip(reply[::2], reply[1::2], strict=True):
                owner, conversation_id = _split(member)
                place = (int(float(score)), conversation_id)
                if owner == org and (below is None or place < below):
                    places.add(place)
        chosen = sorted(places, reverse=True)[:count]
        asked = (b"row", b"extra", b"awaiting", b"since", b"messages", f"w:{watched_by or ''}".encode())
        rows = []
        for _, conversation_id in chosen:
            p = partition(org, conversation_id)
            key = self.keys.conversation(p, org, conversation_id)
            rows.append(self.primaries.call("ingest", key, b"HMGET", key, *asked))
        return [
            Listed(place, with_counters(row, awaiting, since, messages), extra, watched is not None)
            for place, (row, extra, awaiting, since, messages, watched) in zip(
                chosen, await self.many(rows), strict=True
            )
            if row is not None
        ]

    # -- people ------------------------------------------------------------------------------------------------------

    async def person(self, org: str, user_id: str) -> bytes:
        """A person's record as stored; empty where there is none."""
        key = self.keys.people(org)
        return await self.call("commit", key, b"HGET", key, user_id.encode()) or b""

    async def people(self, org: str) -> tuple[int, bytes, list[bytes]]:
        """Position of the people's log, and everybody's record (which may be newer)."""
        key, top_key = self.keys.people(org), self.keys.people_top(org)
        (top, tag), records = await self.many(
            [
                self.primaries.call("commit", top_key, b"HMGET", top_key, b"top", b"tag"),
                self.primaries.call("commit", key, b"HVALS", key),
            ]
        )
        return int(top or 0), tag or b"0", records

    async def set_person(self, org: str, user_id: str, expected: bytes, record: bytes, entry: bytes) -> bytes | None:
        """Write a record if it still is `expected`; None where it was written, else what it is now."""
        keys = [self.keys.people(org), self.keys.people_log(org), self.keys.people_top(org)]
        reply = await self.script("commit", PERSON, keys, [user_id.encode(), expected, record, new_tag(), entry])
        return None if reply[0] == b"ok" else reply[1]

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def open_session(self, session: str, fields: Mapping[str, bytes], ttl_ms: int) -> None:
        """A new session."""
        key = self.keys.session(session)
        flat = [part for name, value in fields.items() for part in (name.encode(), value)]
        await self.many(
            [
                self.primaries.call("commit", key, b"HSET", key, *flat),
                self.primaries.call("commit", key, b"PEXPIRE", key, b"%d" % ttl_ms),
            ]
        )

    async def resume_session(
        self, session: str, *, secret: str, user: str, new_secret: str, nonce: str, node: str, ttl_ms: int
    ) -> tuple[str, str, bytes, bytes] | Unproven | None:
        """
        Attach a session to a new socket: (old node, old nonce, views, monitors), or None where that can't be.

        `Unproven`: the secret is the one before, and the socket with the new one may just be slow; ask again.
        """
        try:
            key = self.keys.session(session)
        except ValueError:
            return None
        args = [secret, user, new_secret, nonce, node, str(ttl_ms), str(UNPROVEN_MS)]
        reply = await self.script("commit", RESUME, [key], [one.encode() for one in args])
        if reply == b"unproven":
            return Unproven()
        return None if not reply else (reply[0].decode(), reply[1].decode(), reply[2], reply[3])

    async def write_session(self, session: str, nonce: str, ttl_ms: int, **fields: bytes) -> bool:
        """Write fields and the time to live (0: it ends); False where another socket has it."""
        flat = [part for name, value in fields.items() for part in (name.encode(), value)]
        args = [nonce.encode(), b"%d" % ttl_ms, *flat]
        return bool(await self.script("commit", SESSION, [self.keys.session(session)], args))

    # -- actions for platforms ---------------------------------------------------------------------------------------

    async def _remember_actions(self, base: bytes, member: bytes, actions: Sequence[bytes]) -> None:
        await self.many(
            self.primaries.call("commit", base, b"SET", base + b"n:" + action.partition(b" ")[0], member, b"PX", _DAY)
            for action in actions
        )

    async def claim(self, p: int, org: str, connector: str, *, again: bool = False) -> list[tuple[str, bytes]]:
        """The next action of each conversation that has one due: (conversation, action). `again`: also claimed ones."""
        base = self.keys.base(p)
        key = self.keys.due(p, f"{org}/{connector}")
        args = [base, b"%d" % self._settings.action_repeat_ms, b"200", b"1" if again else b"0"]
        reply = await self.script("commit", CLAIM, [key], args)
        return [(_split(member)[1], action) for member, action in zip(reply[::2], reply[1::2], strict=True)]

    async def report(self, org: str, connector: str, conversation_id: str, action_id: str) -> bool:
        """The platform has done its first action; False where it wasn't the first one, or isn't this platform's."""
        p, member = self._place(org, conversation_id)
        base = self.keys.base(p)
        keys = [
            self.keys.actions(p, org, conversation_id),
            self.keys.due(p, f"{org}/{connector}"),
            self.keys.conversation(p, org, conversation_id),
        ]
        args = [action_id.encode(), member, self._wake(base, org, connector), connector.encode()]
        return bool(await self.script("commit", REPORT, keys, args))

    # -- small things ------------------------------------------------------------------------------------------------

    async def put_ticket(self, ticket: str, claims: bytes, ttl_ms: int) -> None:
        """A ticket that can be taken once."""
        key = self._ticket_key(ticket)
        await self.call("commit", key, b"SET", key, claims, b"PX", b"%d" % ttl_ms)

    async def take_ticket(self, ticket: str) -> bytes | None:
        """The claims behind a ticket, once."""
        key = self._ticket_key(ticket)
        claims: bytes | None = await self.call("commit", key, b"GETDEL", key)
        if claims is None:  # made by a node of an earlier version, which kept it as it is
            plain = self.keys.base(partition("", ticket)) + b"ticket:" + ticket.encode()
            claims = await self.call("commit", plain, b"GETDEL", plain)
        return claims

    def _ticket_key(self, ticket: str) -> bytes:
        """By its hash: whoever reads the store doesn't get in with it."""
        return self.keys.base(partition("", ticket)) + b"ticket:" + secret_hash(ticket).encode()

    async def revoke(self, org: str, kind: str, value: str, at_ms: int) -> None:
        """Remember that tokens of a `sub` issued until now, or the token of a `jti`, are void."""
        key = self.revoked_key()
        await self.call("commit", key, b"HSET", key, f"{org}/{kind}/{value}".encode(), b"%d" % at_ms)

    async def revoked(self) -> dict[str, int]:
        """All revocations: `<org>/<sub|jti>/<value>` to when."""
        key = self.revoked_key()
        reply = await self.call("commit", key, b"HGETALL", key)
        return {name.decode(): int(at) for name, at in pairs(reply).items()}

    def revoked_key(self) -> bytes:
        """Hash: all revocations."""
        return self.keys.base(0) + b"revoked"

    async def beat(self, node: str) -> list[str]:
        """Say that this node lives; the nodes that do: heard within 5 s, by the store's clock."""
        alive = await self.script("commit", BEAT, [self.keys.nodes()], [node.encode(), b"%d" % NODE_SILENCE_MS])
        return [one.decode() for one in alive]

    async def leave(self, node: str) -> None:
        """This node stops."""
        key = self.keys.nodes()
        await self.call("commit", key, b"ZREM", key, node.encode())

    async def incarnation(self) -> str:
        """Random word of this store, made by whoever asks first; another one later means that it was wiped."""
        key = self.keys.incarnation(0)
        fresh = new_id("inc", 0).encode()
        await self.call("commit", key, b"SET", key, fresh, b"NX")
        value: bytes = await self.call("commit", key, b"GET", key)
        return value.decode()

    def node_channel(self, node: str) -> bytes:
        """Channel on which a node is told about its sessions."""
        return self.keys.base(partition("node", node)) + b"node:" + node.encode()

    async def tell_node(self, node: str, message: bytes) -> None:
        """Send a node a message; lost where it isn't there."""
        channel = self.node_channel(node)
        await self.call("commit", channel, b"SPUBLISH", channel, message)

    def partitions(self) -> range:
        """All partitions."""
        return range(PARTITIONS)


NOTED = (b"11", b"51")  # tags are random and odd: one in 25
NOTED_MAX = 1_000
NOTED_S = 5.0  # after which an entry is taken for one that nobody here follows
LISTED_MAX = 2_000  # members of one index looked at for one page
_DAY = b"%d" % (24 * 3600 * 1000)


def _wall_ms() -> int:
    return int(time.time() * 1000)


def with_counters(row: bytes, awaiting: bytes | None, since: bytes | None, messages: bytes | None) -> bytes:
    """A stored row with the counters that are newer than it."""
    value = orjson.loads(row)
    value["awaiting"] = awaiting.decode() if awaiting else None
    value["awaiting_since"] = int(since) if since else None
    value["messages"] = int(messages or 0)
    return orjson.dumps(value)


def _split(member: bytes) -> tuple[str, str]:
    org, _, conversation_id = member.decode().partition("/")
    return org, conversation_id


def stored_entry(id: bytes, entry: Sequence[bytes]) -> StoredEntry:
    """An entry of a transcript's stream (fields h and e)."""
    offset, _, tag = id.partition(b"-")
    return parsed_entry(int(offset), tag, entry[1], entry[3])


def parsed_entry(offset: int, tag: bytes, header: bytes, body: bytes) -> StoredEntry:
    """An entry with its header taken apart."""
    audience, customer_offset, monitor_id, *_ = header.decode().split(",")  # a later version may say more
    return StoredEntry(offset, tag.decode(), audience, int(customer_offset), monitor_id, body)


def _appended(reply: Sequence[bytes]) -> Appended:
    outcome = reply[0].decode()
    if outcome == "ok":
        cursor = f"{reply[3].decode()}.{reply[2].decode()}-{reply[1].decode()}" if reply[1] else None
        return Appended(outcome, cursor)
    return Appended(outcome, owner=reply[1].decode() if outcome == "stale" else "")
