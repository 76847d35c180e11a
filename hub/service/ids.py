"""Ids and chance: everything random that a command needs comes from here, so that tests can bring their own."""

import secrets
from hashlib import blake2b
from typing import Protocol


class Ids(Protocol):
    """Makes ids that carry the partition of what they belong to."""

    def new(self, prefix: str, org: str, conversation_id: str) -> str:
        """A fresh id in the conversation's partition."""

    def stable(self, prefix: str, org: str, conversation_id: str, *parts: str) -> str:
        """The same id for the same parts."""

    def tag(self) -> str:
        """A random tag: decimal digits, never `0`."""


def id_hash(kind: str, id: str) -> bytes:
    """Signed 64-bit decimal that stands for an id: the engine keeps a set of these as packed integers, 8 bytes each."""
    raw = b"%d:%b:%b" % (len(kind), kind.encode(), id.encode())  # with a length: ("a", "b:c") is not ("a:b", "c")
    return b"%d" % int.from_bytes(blake2b(raw, digest_size=8).digest(), "little", signed=True)


def new_secret() -> str:
    """A secret of 256 bits for a session or a confirmation."""
    return secrets.token_urlsafe(32)


def secret_hash(secret: str) -> str:
    """What is stored of a secret."""
    return blake2b(secret.encode(), digest_size=16).hexdigest()
