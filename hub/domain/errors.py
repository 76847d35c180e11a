"""
Refusals: what the rules answer when they say no.

    Refused                    a stable code, a sentence for a person, details for a program
"""

from collections.abc import Mapping

RETRYABLE = frozenset({"rate_limited", "store_unavailable"})
CODES = frozenset(
    {
        "unauthenticated",
        "not_permitted",
        "too_large",
        "schema_invalid",
        "rate_limited",
        "unknown_conversation",
        "not_available",
        "not_in_progress",
        "channel_unsupported",
        "monitor_held",
        "target_ambiguous",
        "not_monitoring",
        "confirmation_required",
        "confirmation_expired",
        "already_done",
        "conversation_ended",
        "stale_owner",
        "lease_lost",
        "store_unavailable",
        "file_refused",
        "unknown_file",
    }
)


class Refused(Exception):
    """
    A command that was refused; nothing has changed, unless `details["outcome"]` is `unknown`.

    `code` is one of `CODES`; `message` is for a person; `details` is JSON-ready and may be empty; whether sending the
    same again can help is `retryable` (by the code).
    """

    def __init__(self, code: str, message: str, details: Mapping[str, object] | None = None) -> None:
        assert code in CODES, code
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details: dict[str, object] = dict(details or {})

    @property
    def retryable(self) -> bool:
        """True where the same command may succeed a little later without anybody changing anything."""
        return self.code in RETRYABLE
