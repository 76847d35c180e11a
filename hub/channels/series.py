"""
Conversations one after another between the same two sides: which one is running now.

A provider knows two numbers, or a thread that is opened again; the hub knows conversations, and an ended one stays
ended. So they are numbered 1, 2, 3, ..., and a mark in the notes says which of them are over. The running one is the
first without a mark, so all nodes come to the same one, and whoever is late with a mark changes nothing: no number is
ever written that somebody slower could turn back. Where to begin looking is noted, too, but only to look less.

A provider's request may come twice, at once or much later, when the conversation that took it is over. The hub knows ids
per conversation only, so where a request wanted to go is noted (`number_of`): first, and after each conversation that had
ended before it came. All copies read the same places in the same order. One that was taken in a conversation is known
there for good (`duplicate` is said before `conversation_ended`), and one that was refused there wasn't taken by it: so it
is taken once.

    number_of(notes, pair, request, over)   the conversation that a request goes into
    over(notes, pair, number)               that one has ended
    running(notes, pair)                    the one that runs, or would be the next
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub.channels.port import Notes

# Far longer than ended conversations are kept: afterwards the numbers begin again at 1.
SERIES_TTL_MS: Final = 400 * 86_400_000
REQUEST_TTL_MS: Final = 7 * 86_400_000  # no provider sends a request again after so long


async def running(notes: Notes, pair: str) -> int:
    """The number of the conversation that runs or would be the next. Raises what `notes` raises."""
    number = int(await notes.get(f"from:{pair}") or 1)
    while await notes.get(f"over:{pair}:{number}") is not None:
        number += 1
    return number


async def number_of(notes: Notes, pair: str, request: str, over: Sequence[str]) -> int:
    """
    The number of the conversation that a request goes into, the same for all its copies.

    `request` stands for it (the provider's id); `over` is `Inbound.over`. Raises what `notes` raises.
    """
    key = f"at:{pair}:{request}:{len(over)}"
    noted = await notes.get(key)
    if noted is None:
        number = str(await running(notes, pair))
        if await notes.put(key, number, ttl_ms=REQUEST_TTL_MS, absent=True):
            return int(number)
        noted = await notes.get(key) or number  # another copy was faster
    return int(noted)


async def over(notes: Notes, pair: str, number: int) -> None:
    """Remember that this one has ended; may be repeated, from any node, in any order."""
    # The mark first: without it the other note would only make `running` look from a wrong place.
    await notes.put(f"over:{pair}:{number}", "1", ttl_ms=SERIES_TTL_MS)
    await notes.put(f"from:{pair}", str(number + 1), ttl_ms=SERIES_TTL_MS)
