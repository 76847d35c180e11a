"""Who may do what to what: a person's rights as their token states them."""

from dataclasses import dataclass

PERMISSIONS = frozenset({"view", "monitor", "takeover", "release", "history", "admin", "coach", "reveal"})
ROLES = frozenset({"supervisor", "admin", "agent", "connector", "customer"})
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Person:
    """
    Whoever is behind a verified token.

    `queues` and `divisions` hold ids or `EVERYTHING`; `conversation` binds a customer's token to one conversation;
    `token_id` is the token's `jti` (empty where it has none); times are Unix milliseconds.
    """

    user_id: str
    name: str
    org: str
    role: str
    permissions: frozenset[str]
    queues: frozenset[str]
    divisions: frozenset[str]
    conversation: str | None = None
    token_id: str = ""
    issued_at: int = 0
    expires_at: int = 0

    def may(self, permission: str) -> bool:
        """True where the token grants `permission`; nothing implies another."""
        return permission in self.permissions

    def sees(self, queue: str, division: str) -> bool:
        """True where both the queue and the division are the person's."""
        return covers(self.queues, queue) and covers(self.divisions, division)


def covers(granted: frozenset[str], wanted: str) -> bool:
    """True where `wanted` is among the granted ids, or everything is."""
    return EVERYTHING in granted or wanted in granted
