"""A person as they are kept in the store: behind a ticket for seconds, behind a browser's session for hours."""

from __future__ import annotations

import msgspec

from hub.domain.grants import Person


class Kept(msgspec.Struct, frozen=True):
    """The fields of `Person`, in JSON's types."""

    user_id: str
    name: str
    org: str
    role: str
    permissions: list[str]
    queues: list[str]
    divisions: list[str]
    conversation: str | None
    token_id: str
    issued_at: int
    expires_at: int


def encode_person(person: Person) -> bytes:
    """JSON, the same for equal people."""
    kept = Kept(
        person.user_id,
        person.name,
        person.org,
        person.role,
        sorted(person.permissions),
        sorted(person.queues),
        sorted(person.divisions),
        person.conversation,
        person.token_id,
        person.issued_at,
        person.expires_at,
    )
    return msgspec.json.encode(kept)


def decode_person(content: bytes) -> Person:
    """What `encode_person` made. Raises msgspec.MsgspecError where it is something else."""
    kept = msgspec.json.decode(content, type=Kept)
    return Person(
        user_id=kept.user_id,
        name=kept.name,
        org=kept.org,
        role=kept.role,
        permissions=frozenset(kept.permissions),
        queues=frozenset(kept.queues),
        divisions=frozenset(kept.divisions),
        conversation=kept.conversation,
        token_id=kept.token_id,
        issued_at=kept.issued_at,
        expires_at=kept.expires_at,
    )
