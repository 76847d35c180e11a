"""
Bytes of files that no index names: left by a hub that died between writing and naming them, or whose name was lost.

    FileSweep.sweep(now_ms)    look at the next page of what is kept, and remove what nobody names
    FileSweep.run(may)         do so again and again, while it is this node's turn

A file that the index names stays, whether a message names it yet or not: it may still be sent, and goes with its conversation.
What nobody names can't be opened, nor can a message name it. Two guards against taking too much: what is younger than
`orphan_ms` stays, since bytes are written before they are named; and nothing is removed at a place that another installation
has marked. The mark is made of the secret of links, which is lost with the store: so a hub that is given an empty store doesn't
take all files for orphans.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from hub.domain.errors import Refused
from hub.domain.files import is_file_id
from hub.service.files import FileIndex
from hub.store.file_folder import Stored, hashed

log = logging.getLogger(__name__)

PARTS: Final = 3  # of a path: organization, conversation, file


class Shelf(Protocol):
    """`Blobs` as a sweep sees them. Every error of it is an `OSError`."""

    async def listed(self, after: str, count: int) -> Sequence[Stored]:
        """What comes behind the path `after`, in the order of paths; at most `count`, fewer only at the end."""

    async def remove(self, path: str) -> None:
        """What lies there; idempotent."""

    async def claimed(self, word: str) -> bool:
        """Mark the place as that of `word`, unless it is marked; True where the mark is this one."""


@dataclass(slots=True)
class FileSweep:
    """See the module. `count`: names that are looked at in one sweep; `every_ms`: time between two, 0: never."""

    index: FileIndex
    shelf: Shelf
    orphan_ms: int
    count: int
    every_ms: int
    _after: str = ""

    async def sweep(self, now_ms: int) -> int:
        """
        How many were removed of the next page. `now_ms` is Unix ms.

        Raises:
            OSError: What is kept can't be listed or removed.
            Refused: `store_unavailable`: nobody can say what is named.
        """
        page = await self.shelf.listed(self._after, self.count)
        ours = not page or await self._is_ours()  # marked at the first page, long before anything there can be lost
        old = [one for one in page if one.at_ms <= now_ms - self.orphan_ms]
        orphans = [one.path for one in old if await self._is_orphan(one.path)]
        if orphans and not ours:
            log.error(
                "files are kept where another installation (or a store that was lost) keeps its own; none is removed"
            )
            orphans = []
        for path in orphans:
            await self.shelf.remove(path)
        # Only now: a sweep that failed looks at the same page again.
        self._after = page[-1].path if len(page) == self.count else ""
        if orphans:
            log.info("%d files that nobody named were removed", len(orphans))
        return len(orphans)

    async def _is_orphan(self, path: str) -> bool:
        org, conversation, file_id = path.split("/") if path.count("/") == PARTS - 1 else ("", "", "")
        if not is_file_id(file_id):
            return False  # nothing of ours
        meta = await self.index.find(file_id)
        return meta is None or hashed(meta.org, meta.conversation_id) != (org, conversation)

    async def _is_ours(self) -> bool:
        return await self.shelf.claimed(sha256(b"files of " + await self.index.secret()).hexdigest()[:32])

    async def run(self, may: Callable[[], bool]) -> None:
        """Until this is cancelled."""
        while self.every_ms:
            await asyncio.sleep(self.every_ms / 1000)
            if not may():
                continue
            try:
                await self.sweep(int(time.time() * 1000))
            except (OSError, Refused) as error:
                log.warning("files that nobody names can't be looked for: %s", type(error).__name__)
