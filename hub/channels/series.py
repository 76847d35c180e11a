"""
Conversations one after another between the same two sides: which one is running now.

A provider knows two numbers, or a thread that is opened again; the hub knows conversations, and an ended one stays
ended. So they are numbered 1, 2, 3, ..., and a mark in the notes says which of them are over. The running one is the
first without a mark, so all nodes come to the same one, and whoever is late with a mark changes nothing: no number is
ever written that somebody slower could turn back. Where to begin looking is noted, too, but only to look less.
"""

from __future__ import annotations

from typing import Final

from hub.channels.port import Notes

# Far longer than ended conversations are kept: afterwards the numbers begin again at 1.
SERIES_TTL_MS: Final = 400 * 86_400_000


async def running(notes: Notes, pair: str) -> int:
    """The number of the conversation that runs or would be the next. Raises what `notes` raises."""
    number = int(await notes.get(f"from:{pair}") or 1)
    while await notes.get(f"over:{pair}:{number}") is not None:
        number += 1
    return number


async def over(notes: Notes, pair: str, number: int) -> None:
    """Remember that this one has ended; may be repeated, from any node, in any order."""
    # The mark first: without it the other note would only make `running` look from a wrong place.
    await notes.put(f"over:{pair}:{number}", "1", ttl_ms=SERIES_TTL_MS)
    await notes.put(f"from:{pair}", str(number + 1), ttl_ms=SERIES_TTL_MS)
