"""
Names of everything in the store, and the ids that carry their own place.

Every conversation belongs to one of `PARTITIONS` partitions, and all keys of a partition share a hash tag: one slot of
a Redis Cluster, so one script may touch them all. The number of partitions and the tags are fixed for good: another
value would look for old data in the wrong place.

Ids of organizations, conversations, users and queues match `^[A-Za-z0-9_.:-]{1,64}$`, so `/` separates them without
doubt, and a brace from outside can't move a key into another slot.
"""

import random
import re
import secrets
from binascii import crc_hqx
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

PARTITIONS: Final = 64
SLOTS: Final = 16384

# The slot of TAGS[p] lies in [p * 256, p * 256 + 256), so that any number of primaries with even shares of the slots
# gets an even share of the partitions (64 random tags on 6 primaries: from 6 to 16 each). They begin
# with p in hex, for people.
# fmt: off
TAGS: Final[tuple[str, ...]] = (
    "00c8", "01a9", "02ai", "03", "04bc", "05ax", "06d", "07r",
    "08c2", "09a3", "0a8", "0bbx", "0cca", "0dar", "0ex", "0fb9",
    "109", "11c9", "12bs", "13ah", "14y", "15k", "16b2", "17fd",
    "181", "19c3", "1afj", "1bab", "1caa", "1dbh", "1eab", "1fb",
    "20s", "21a", "22c2", "23a3", "243", "25b9", "26bi", "27ar",
    "28ai", "29i", "2aax", "2bh", "2cfs", "2db3", "2ea9", "2f",
    "30by", "31ab", "32j", "33x", "34b8", "35fj", "36as", "378",
    "38bs", "39ah", "3ar", "3bc9", "3cp", "3d1", "3e2", "3fbb",
)
# fmt: on

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(a + b for a in _DIGITS for b in _DIGITS)
_SPACE = 36**20
_OURS = re.compile(r"[a-z]{3}_([0-3][0-9a-f])[0-9a-z]{20}")


def partition(org: str, conversation_id: str) -> int:
    """Partition of a conversation, 0 to `PARTITIONS` - 1; the same in every process and release."""
    digest = blake2b(f"{org}/{conversation_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % PARTITIONS


def slot(key: bytes) -> int:
    """Cluster slot of `key`, 0 to 16383: CRC16/XMODEM of its hash tag, else of all of it (Cluster specification)."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def new_id(prefix: str, p: int, chance: Callable[[int], int] = secrets.randbits) -> str:
    """
    Fresh id of partition `p`: `<prefix>_`, two hex digits of the partition, 20 random characters of `[0-9a-z]`.

    `prefix` is three small letters; `chance(bits)` gives random bits (a seeded `random.Random(n).getrandbits` in
    tests).
    """
    return f"{prefix}_{p:02x}{_base36(chance(128) % _SPACE)}"


def stable_id(prefix: str, p: int, *parts: str) -> str:
    """Id of the shape of `new_id`, always the same for the same `prefix`, `p` and `parts`."""
    digest = blake2b(_joined((prefix, *parts)), digest_size=16).digest()
    return f"{prefix}_{p:02x}{_base36(int.from_bytes(digest, 'little') % _SPACE)}"


def partition_of(id_: str) -> int | None:
    """Partition that an id of ours names, or None where it hasn't the shape of one (it may still be a made-up one)."""
    found = _OURS.fullmatch(id_)
    return int(found[1], 16) if found else None


def new_tag() -> bytes:
    """
    Random tag of a log entry or a version: decimal digits, 1 to 2^31 - 1, never `0` (which stands before the first
    entry).

    Not a secret: it only tells two histories apart that have the same offset.
    """
    return b"%d" % (random.getrandbits(31) | 1)


def _joined(parts: tuple[str, ...]) -> bytes:
    # With lengths, or ("a", "b:c") and ("a:b", "c") would be the same.
    return b"".join([b"%d:%b" % (len(raw), raw) for raw in [part.encode() for part in parts]])


def _base36(number: int) -> str:
    pairs = []
    for _ in range(10):
        number, low = divmod(number, 1296)
        pairs.append(_PAIRS[low])
    return "".join(pairs)


class Keys:
    """Keys of one installation; `prefix` keeps several apart on one server (and tests from each other)."""

    def __init__(self, prefix: str = "hub") -> None:
        assert not {"{", "}"} & set(prefix), "a brace in the prefix would move every key"
        self.prefix = prefix
        self._bases = tuple(f"{prefix}:{{{tag}}}:".encode() for tag in TAGS)

    def base(self, p: int) -> bytes:
        """`<prefix>:{<tag>}:`, with which every key of partition `p` begins."""
        return self._bases[p]

    def conversation(self, p: int, org: str, conversation_id: str) -> bytes:
        """Hash: state, row, version, monitor, top of the transcript, counters."""
        return b"%bc:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def transcript(self, p: int, org: str, conversation_id: str) -> bytes:
        """Log: the transcript; its top stands in `conversation`."""
        return b"%bt:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def segments(self, p: int, org: str, conversation_id: str) -> bytes:
        """Stream: closed segments of the timeline."""
        return b"%bg:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def panels(self, p: int, org: str, conversation_id: str) -> bytes:
        """Hash: panels by name."""
        return b"%bp:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def seen(self, p: int, org: str, conversation_id: str, k: int) -> bytes:
        """Set number `k`: hashes of the ids that were taken in."""
        return b"%b:%d" % (self.seen_base(p, org, conversation_id), k)

    def seen_base(self, p: int, org: str, conversation_id: str) -> bytes:
        """What the names of the sets (`seen`) begin with; scripts add `:<k>`."""
        return b"%bd:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def actions(self, p: int, org: str, conversation_id: str) -> bytes:
        """List: actions for the platform that it has not reported yet."""
        return b"%bo:%b/%b" % (self._bases[p], org.encode(), conversation_id.encode())

    def board(self, p: int, org: str) -> bytes:
        """Log: changed rows of an organization's conversations in this partition."""
        return b"%bboard:%b" % (self._bases[p], org.encode())

    def board_top(self, p: int, org: str) -> bytes:
        """Hash: `top` and `tag` of `board`."""
        return b"%bboardtop:%b" % (self._bases[p], org.encode())

    def due(self, p: int, connector: str | None = None) -> bytes:
        """Sorted set: what is due when; with `connector`, the conversations that have actions to send through it."""
        return self._bases[p] + (b"due" if connector is None else b"due:" + connector.encode())

    def live(self, p: int) -> bytes:
        """Sorted set: conversations that have not ended, by last activity."""
        return self._bases[p] + b"live"

    def closed(self, p: int) -> bytes:
        """Sorted set: ended conversations, by their end."""
        return self._bases[p] + b"closed"

    def ledger(self, p: int) -> bytes:
        """Stream: who did what to whom."""
        return self._bases[p] + b"ledger"

    def ledger_names(self, p: int) -> bytes:
        """Hash: `<org>/<conversation>` by the name that the ledger's lines use."""
        return self.ledger(p) + b"names"

    def request(self, p: int, org: str, role: str, user_id: str, req: str) -> bytes:
        """String, 10 minutes: a request and its answer. Two organizations may have equal user ids."""
        return f"{self._bases[p].decode()}r:{org}/{role}/{user_id}/{req}".encode()

    def session(self, session_id: str) -> bytes:
        """Hash, 60 s: a session. Raises ValueError where the id isn't one of ours."""
        return self._by_id(b"s:", session_id)

    def incarnation(self, p: int) -> bytes:
        """String: random, set once; another value means that the store was wiped."""
        return self._bases[p] + b"incarnation"

    def people(self, org: str) -> bytes:
        """Hash: statuses of an organization's people by user id. All keys of its people share a slot."""
        return f"{self.prefix}:{{people/{org}}}:now".encode()

    def people_top(self, org: str) -> bytes:
        """Hash: `top` and `tag` of `people_log` (not in `people`, where they could be users)."""
        return f"{self.prefix}:{{people/{org}}}:top".encode()

    def people_log(self, org: str) -> bytes:
        """Log: changes of `people`."""
        return f"{self.prefix}:{{people/{org}}}:log".encode()

    def nodes(self) -> bytes:
        """Sorted set: the nodes' last beats."""
        return f"{self.prefix}:nodes".encode()

    def _by_id(self, kind: bytes, id_: str) -> bytes:
        p = partition_of(id_)
        if p is None:
            raise ValueError(f"not an id of ours: {id_[:64]!r}")
        return b"%b%b%b" % (self._bases[p], kind, id_.encode())
