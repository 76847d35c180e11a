"""
The bytes of files in a folder of this machine (or one that several share).

    <folder>/<organization>/<conversation>/<file id>     both as hashes, since an id may be `..` or differ in case alone
    <folder>/.incoming/<random>                          what is arriving; older ones are left from a crash, and removed

A file is moved into its place whole, so a reader finds all of it or nothing. Folders and files are the hub's alone (0700,
0600).
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

PART_BYTES: Final = 65_536
LEFT_OVER_S: Final = 3_600
INCOMING: Final = ".incoming"


MARK: Final = ".installation"  # whose files these are


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies at a path, `<organization>/<conversation>/<file id>`, since when (Unix ms)."""

    path: str
    at_ms: int


def hashed(org: str, conversation_id: str) -> tuple[str, str]:
    """Names of a conversation's two folders: letters and digits of one case, the same for the same ids."""
    one = sha256(org.encode()).hexdigest()[:24]
    return one, sha256(f"{org}/{conversation_id}".encode()).hexdigest()[:32]


class FolderBlobs:
    """See the module, and `hub.service.files.Blobs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _folder(self, org: str, conversation_id: str) -> Path:
        return self.folder.joinpath(*hashed(org, conversation_id))

    async def put(self, org: str, conversation_id: str, file_id: str, source: Path) -> None:
        """Move a file of the same file system into its place."""

        def move() -> None:
            folder = self._folder(org, conversation_id)
            make_private(folder, self.folder)
            # The name is in the folder only when its content is on the disk: an answered upload survives a power cut.
            with source.open("rb") as file:
                os.fsync(file.fileno())
            source.replace(folder / file_id)

        await asyncio.to_thread(move)

    async def open(self, org: str, conversation_id: str, file_id: str) -> AsyncIterator[bytes]:
        """The content in parts. Raises FileNotFoundError."""
        file = await asyncio.to_thread((self._folder(org, conversation_id) / file_id).open, "rb")

        async def parts() -> AsyncIterator[bytes]:
            try:
                while part := await asyncio.to_thread(file.read, PART_BYTES):
                    yield part
            finally:
                file.close()

        return parts()

    async def there(self, org: str, conversation_id: str, file_id: str) -> bool:
        """True where the content is there."""
        return await asyncio.to_thread((self._folder(org, conversation_id) / file_id).is_file)

    async def drop(self, org: str, conversation_id: str, file_id: str) -> None:
        """One file."""
        await asyncio.to_thread((self._folder(org, conversation_id) / file_id).unlink, missing_ok=True)

    async def forget(self, org: str, conversation_id: str) -> None:
        """Everything of a conversation."""

        def remove() -> None:
            folder = self._folder(org, conversation_id)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # the organization's, where it was the last
                folder.parent.rmdir()

        await asyncio.to_thread(remove)

    async def listed(self, after: str, count: int) -> list[Stored]:
        """See `hub.store.file_sweep.Shelf`."""
        return await asyncio.to_thread(lambda: list(islice(self._walk(after), count)))

    def _walk(self, after: str) -> Iterator[Stored]:
        """Every file behind a path, in order; folders before it aren't opened."""
        for org in _names(self.folder):
            if org < after[: len(org)] or org.startswith("."):
                continue
            for conversation in _names(self.folder / org):
                place = f"{org}/{conversation}"
                if place < after[: len(place)]:
                    continue
                for name in _names(self.folder / place):
                    path = f"{place}/{name}"
                    with contextlib.suppress(FileNotFoundError):
                        if path > after:
                            yield Stored(path, int((self.folder / path).stat().st_mtime * 1000))

    async def remove(self, path: str) -> None:
        """See `hub.store.file_sweep.Shelf`; the conversation's folder, too, where it was the last."""

        def unlink() -> None:
            file = self.folder / path
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                file.parent.rmdir()
                file.parent.parent.rmdir()

        await asyncio.to_thread(unlink)

    async def claimed(self, word: str) -> bool:
        """See `hub.store.file_sweep.Shelf`."""

        def mark() -> bool:
            path = self.folder / MARK
            with contextlib.suppress(FileExistsError):
                path.touch(mode=0o600, exist_ok=False)
            if not path.stat().st_size:  # also where somebody died between making and writing it
                path.write_text(word)
            return path.read_text() == word

        return await asyncio.to_thread(mark)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_private(folder: Path, top: Path) -> None:
    """Make a folder and those above it up to `top`, each for the hub alone (`parents` would make those for everybody)."""
    if folder != top:
        make_private(folder.parent, top)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def make_incoming(folder: Path) -> Path:
    """The folder of what is arriving, made where it isn't there, without what is older than an hour."""
    incoming = folder / INCOMING
    make_private(incoming, folder)
    for left in incoming.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - LEFT_OVER_S:
                left.unlink()
    return incoming
