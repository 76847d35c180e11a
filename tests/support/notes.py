"""A channel's notes in memory, with a clock that the test sets."""

from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class MemoryNotes:
    """One connector's notes; `now_ms` moves only when a test moves it, and notes end by it."""

    now_ms: int = 1_795_377_600_000
    kept: dict[str, tuple[str, int]] = field(default_factory=dict)
    whose: dict[str, str] = field(default_factory=dict)  # the customer whom a note is about
    customer: str = ""

    async def get(self, key: str) -> str | None:
        """What was put there and hasn't ended."""
        value, ends = self.kept.get(key, ("", 0))
        return value if ends > self.now_ms else None

    async def put(self, key: str, value: str, *, ttl_ms: int, absent: bool = False) -> bool:
        """Remember; with `absent` only where nothing is there."""
        if absent and await self.get(key) is not None:
            return False
        self.kept[key] = (value, self.now_ms + ttl_ms)
        self.whose[key] = self.customer
        return True

    def about(self, customer_id: str) -> "MemoryNotes":
        """The same notes, what is put being about that customer."""
        return replace(self, customer=customer_id)
