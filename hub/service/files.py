"""
Files of conversations: who may bring one, who may open one, and that none outlives its conversation.

    Files.admit(person, conversation)      may this person send here now? asked before a byte is read
    Files.keep(person, conversation, …)    a received and checked file becomes the conversation's
    Files.kept(org, conversation, ids)     what may be attached to a message
    Files.readable(person, file_id)        the file, where this person may see it
    Files.link(…), Files.linked(…)         a signed address that opens one file for a minute
    Files.forget(org, conversation)        everything of a conversation that is erased

Who may send may bring a file (`decide.speaker`); who may read the transcript may open one. The bytes live in `Blobs`, what
is known of them in the store (`FileIndex`): the bytes are written first, so what the index names is there.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

from hub.domain.conversation import Conversation, Situation
from hub.domain.decide import speaker, visible
from hub.domain.errors import Refused
from hub.domain.files import FileMeta, is_file_id, refused, unknown_file
from hub.domain.grants import Person
from hub.service.file_links import file_url, sign, signed, split_url
from hub.service.history import History
from hub.service.ids import Ids

log = logging.getLogger(__name__)


class Blobs(Protocol):
    """Where the bytes are. Every error of it is an `OSError`; a place that isn't there is `FileNotFoundError`."""

    async def put(self, org: str, conversation_id: str, file_id: str, source: Path) -> None:
        """Keep the content of a local file, which may be moved away. All of it or nothing."""

    async def open(self, org: str, conversation_id: str, file_id: str) -> AsyncIterator[bytes]:
        """The content in parts."""

    async def there(self, org: str, conversation_id: str, file_id: str) -> bool:
        """True where the content is there."""

    async def forget(self, org: str, conversation_id: str) -> None:
        """Everything of a conversation; idempotent."""

    async def drop(self, org: str, conversation_id: str, file_id: str) -> None:
        """One file; idempotent."""


class FileIndex(Protocol):
    """What is known of files. Raises Refused `store_unavailable`."""

    async def secret(self) -> bytes:
        """The installation's secret for links, the same on every node; made once."""

    async def reserve(self, org: str, size: int, bytes_max: int) -> bool:
        """Count bytes for an organization; False (and nothing counted) where it would have more than `bytes_max`."""

    async def release(self, org: str, size: int) -> None:
        """Count them off again."""

    async def add(self, meta: FileMeta, count_max: int) -> bool:
        """Name a file; False (and nothing named) where its conversation has as many as it may, or is gone."""

    async def count(self, org: str, conversation_id: str) -> int:
        """How many files a conversation has."""

    async def kept(self, org: str, conversation_id: str, file_ids: Sequence[str]) -> list[FileMeta | None]:
        """Files of a conversation by their ids."""

    async def find(self, file_id: str) -> FileMeta | None:
        """A file by its id alone."""

    async def forget(self, org: str, conversation_id: str) -> None:
        """Nothing is named and counted for this conversation any more; idempotent."""


class Files:
    """
    See the module. `count_max`, `org_bytes_max` and `link_ms` are the settings'; `masked` is true for who reads that
    conversation with masks.
    """

    def __init__(
        self,
        index: FileIndex,
        blobs: Blobs,
        history: History,
        ids: Ids,
        *,
        count_max: int,
        org_bytes_max: int,
        link_ms: int,
        masked: Callable[[Person, Conversation], bool] = lambda person, conversation: False,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._history = history
        self._ids = ids
        self._count_max = count_max
        self._org_bytes_max = org_bytes_max
        self._link_ms = link_ms
        self._masked = masked

    async def admit(self, person: Person, conversation_id: str) -> None:
        """
        May this person bring a file into the conversation now?

        Raises:
            Refused: `unknown_conversation`, `conversation_ended`, `stale_owner` as for `message.send`; `file_refused` where
                the conversation is full.
        """
        speaker(await self._history.situation(person.org, conversation_id), person)
        if await self._index.count(person.org, conversation_id) >= self._count_max:
            raise self._full()

    def _full(self) -> Refused:
        message = f"This conversation has {self._count_max} files already; no more are taken."
        return refused("count", message, count_max=self._count_max)

    async def keep(
        self, person: Person, conversation_id: str, *, name: str, mime: str, source: Path, size: int
    ) -> FileMeta:
        """
        Make a checked file the conversation's own. `source` is used up where this succeeds.

        Raises:
            Refused: as `admit` (things may have changed while it came); `file_refused` with `space`; `store_unavailable`.
        """
        situation = await self._history.situation(person.org, conversation_id)
        speaker(situation, person)
        if not await self._index.reserve(person.org, size, self._org_bytes_max):
            raise refused("space", "There is no more room for files here; tell whoever runs this system.")
        file_id = self._ids.new("fil", person.org, conversation_id)
        meta = FileMeta(
            file_id, person.org, conversation_id, name, mime, size, situation.now_ms, person.user_id, person.role
        )
        try:
            await self._blobs.put(person.org, conversation_id, file_id, source)
            named = await self._index.add(meta, self._count_max)
        except BaseException as error:
            # Also when cancelled: what nobody will ever name must not stay. Of an unknown outcome the bytes may.
            await self._undo(meta, keep_bytes=isinstance(error, Refused) and error.details.get("outcome") == "unknown")
            if isinstance(error, OSError):
                log.error("a file can't be kept: %s", error.strerror or error)
                raise refused("space", "The file can't be kept at the moment; try again later.") from error
            raise
        if not named:
            await self._undo(meta)
            raise self._full()
        return meta

    async def _undo(self, meta: FileMeta, *, keep_bytes: bool = False) -> None:
        if keep_bytes:
            return
        try:
            await self._blobs.drop(meta.org, meta.conversation_id, meta.file_id)
            await self._index.release(meta.org, meta.bytes)
        except (OSError, Refused) as error:
            log.warning("%d bytes of a refused file are still counted: %s", meta.bytes, type(error).__name__)

    async def kept(self, org: str, conversation_id: str, file_ids: Sequence[str]) -> list[FileMeta | None]:
        """Files of this conversation, in the order asked; None where it has no such one."""
        return await self._index.kept(org, conversation_id, file_ids)

    async def readable(self, person: Person, file_id: str) -> FileMeta:
        """
        The file, where this person may read the place it stands in.

        Raises:
            Refused: `unknown_file`, whether there is none or it isn't theirs; `not_permitted` where what they read is
                masked: nobody can mask a file.
        """
        meta = await self._find(file_id)
        if meta is None or meta.org != person.org:
            raise unknown_file()
        situation = await self._history.situation(meta.org, meta.conversation_id)
        try:
            allowed = await self._allowed(person, meta, situation)
        except Refused as error:
            if error.code == "store_unavailable":
                raise
            raise unknown_file() from None
        if not allowed:
            raise unknown_file()
        if self._masked(person, situation.existing):
            message = "What you read of this conversation is masked; only those who answer it may open its files."
            raise Refused("not_permitted", message, {"reason": "masked"})
        return meta

    async def _find(self, file_id: str) -> FileMeta | None:
        return await self._index.find(file_id) if is_file_id(file_id) else None

    async def _allowed(self, person: Person, meta: FileMeta, situation: Situation) -> bool:
        """The same line as for transcripts: theirs while they are in it, and up to where they left."""
        if person.role == "connector":
            conversation = situation.conversation
            return conversation is not None and conversation.connector == person.user_id
        conversation = visible(situation, person)
        if person.role == "customer":
            return True
        if person.user_id in {one.user_id for one in (*conversation.connected, *conversation.at_end)}:
            return True
        if person.role == "agent":
            parts = [one for one in await self._history.segments(situation) if one["kind"] == "interact"]
            ends = [one["end"] for one in parts if one["user"]["user_id"] == person.user_id and one["end"]]
            return any(meta.at <= end for end in ends)
        watches = situation.monitor is not None and situation.monitor.user_id == person.user_id
        running = conversation.state != "ended"
        return person.may("history") or (running and (watches or person.may("view")))

    # -- links ---------------------------------------------------------------------------------------------------------------

    async def link(self, meta: FileMeta, now_ms: int) -> tuple[str, int]:
        """
        An address that opens this file for whoever has it, and when it is over (Unix ms).

        Raises:
            Refused: `unknown_file` where its bytes are gone, so that a page can say so instead of a failed download;
                `store_unavailable` where nobody can tell.
        """
        try:
            there = await self._blobs.there(meta.org, meta.conversation_id, meta.file_id)
        except OSError as error:
            raise _away(error) from error
        if not there:
            log.error("the bytes of a file are not where they were put; do all hubs share the folder?")
            raise unknown_file()
        until = now_ms + self._link_ms
        return f"{file_url(meta)}?until={until}&sign={sign(await self._index.secret(), meta.file_id, until)}", until

    async def opened(self, url: str, until_ms: int) -> str | None:
        """A file's address as messages have it, and what opens it until a time for whoever has it; None for another one."""
        split = split_url(url)
        if split is None:
            return None
        return f"{url}?until={until_ms}&sign={sign(await self._index.secret(), split[0], until_ms)}"

    async def linked(self, file_id: str, until: str, signature: str, now_ms: int) -> FileMeta:
        """
        The file of such an address.

        Raises:
            Refused: `unknown_file`: made up, over, or the file is gone.
        """
        if not is_file_id(file_id) or not signed(await self._index.secret(), file_id, until, signature, now_ms):
            raise unknown_file()
        meta = await self._index.find(file_id)
        if meta is None:
            raise unknown_file()
        return meta

    async def content(self, meta: FileMeta) -> AsyncIterator[bytes]:
        """
        The file's bytes in parts.

        Raises:
            Refused: `unknown_file` where they are gone, `store_unavailable` where they can't be had now.
        """
        try:
            return await self._blobs.open(meta.org, meta.conversation_id, meta.file_id)
        except FileNotFoundError:
            raise unknown_file() from None
        except OSError as error:
            raise _away(error) from error

    async def forget(self, org: str, conversation_id: str) -> None:
        """
        Remove every file of a conversation, before its record is erased; idempotent.

        Raises:
            OSError: The bytes can't be removed now; nothing is forgotten, so that it can be tried again.
        """
        await self._blobs.forget(org, conversation_id)
        await self._index.forget(org, conversation_id)


def _away(error: OSError) -> Refused:
    log.error("a file can't be read: %s", error.strerror or error)
    return Refused("store_unavailable", "The file can't be had at the moment; try again.", {"outcome": "none"})
