"""
A file on its way in: streamed to the disk, bounded in size and time, looked through, scanned.

Nothing of it is kept in memory but the part at hand. Whatever happens, the temporary file is removed unless it was used up.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from hub.domain.errors import Refused
from hub.domain.files import HEAD_BYTES, TYPES, checked_head, checked_package, checked_text, is_text, refused
from hub.store.file_folder import INCOMING, PART_BYTES, make_incoming

log = logging.getLogger(__name__)

BUFFER_BYTES: Final = 262_144  # gathered before each write: a thread for every packet would cost more than the disk
PACKAGE_PARTS_MAX: Final = 10_000


class Intake:
    """
    Receives files into a folder. `scan_command` (argv; the file's path is added) says by exit status 0 that one is clean.

    Times are in milliseconds. A scanner that can't be run, or takes longer than `scan_ms`, lets nothing through.
    """

    def __init__(
        self, folder: Path, *, bytes_max: int, upload_ms: int, scan_command: Sequence[str] = (), scan_ms: int = 30_000
    ) -> None:
        self.bytes_max = bytes_max
        self._folder = folder
        self._upload_s = upload_ms / 1000
        self._scan_command = tuple(scan_command)
        self._scan_s = scan_ms / 1000
        self._prepared = False

    def prepare(self) -> None:
        """
        Make the folder, and remove what a crash left in it; the first file does it where nobody did before. Blocks.

        Raises:
            OSError: The folder can't be written to.
        """
        make_incoming(self._folder)
        self._prepared = True

    def check_scanner(self) -> None:
        """
        Look whether the scanner can be run. Blocks.

        Raises:
            OSError: There is no such program.
        """
        if self._scan_command and shutil.which(self._scan_command[0]) is None:
            raise FileNotFoundError(f"there is no program {self._scan_command[0]!r}")

    @contextlib.asynccontextmanager
    async def receive(self, parts: AsyncIterator[bytes], mime: str) -> AsyncIterator[tuple[Path, int]]:
        """
        A temporary file with all of `parts`, checked to be of that type and scanned, and its size in bytes.

        Raises:
            Refused: `too_large`; `file_refused` with `content`, `scan` or `slow`.
        """
        path = self._folder / INCOMING / secrets.token_hex(16)
        try:
            try:
                async with asyncio.timeout(self._upload_s):
                    size = await self._store(parts, path, mime)
            except TimeoutError:
                message = f"The file took longer than {self._upload_s:g} s to arrive; try again on a better connection."
                raise refused("slow", message, timeout_ms=round(self._upload_s * 1000)) from None
            await asyncio.to_thread(_look_through, path, mime)
            await self._scan(path)
            yield path, size
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _store(self, parts: AsyncIterator[bytes], path: Path, mime: str) -> int:
        size = 0
        gathered = bytearray()
        try:
            if not self._prepared:
                await asyncio.to_thread(self.prepare)
            file = await asyncio.to_thread(_create, path)
        except OSError as error:
            raise _no_room(error) from error
        try:
            async for part in parts:
                size += len(part)
                if size > self.bytes_max:
                    raise too_large(self.bytes_max)
                gathered += part
                if len(gathered) >= BUFFER_BYTES:
                    await asyncio.to_thread(file.write, bytes(gathered))
                    gathered.clear()
            await asyncio.to_thread(file.write, bytes(gathered))
        except OSError as error:
            raise _no_room(error) from error
        finally:
            await asyncio.to_thread(file.close)
        return size

    async def _scan(self, path: Path) -> None:
        if not self._scan_command:
            return
        try:
            process = await asyncio.create_subprocess_exec(
                *self._scan_command,
                str(path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            log.error("the files' scanner can't be run: %s", error.strerror or type(error).__name__)
            raise _not_scanned() from error
        try:
            async with asyncio.timeout(self._scan_s):
                status = await process.wait()
        except TimeoutError:
            log.error("the files' scanner took longer than %g s", self._scan_s)
            raise _not_scanned() from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # it and whatever it started
                await process.wait()
        if status != 0:
            log.warning("the files' scanner refused a file: exit status %d", status)
            raise refused("scan", "The file was refused by the virus scanner.")


def _no_room(error: OSError) -> Refused:
    log.error("a file can't be received: %s", error.strerror or type(error).__name__)
    return refused("space", "The file can't be kept at the moment; try again later.")


def _not_scanned() -> Refused:
    return refused("scan", "The file can't be scanned for viruses at the moment; try again later.")


def too_large(bytes_max: int) -> Refused:
    """A file that is larger than files may be."""
    return Refused("too_large", f"A file has at most {bytes_max} bytes.", {"bytes_max": bytes_max})


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _look_through(path: Path, mime: str) -> None:
    """The content is what the type says: its beginning, and all of a text or the parts of a package. Blocks."""
    with path.open("rb") as file:
        checked_head(mime, file.read(HEAD_BYTES))
        if is_text(mime):
            file.seek(0)
            while part := file.read(PART_BYTES):
                checked_text(mime, part)
    if TYPES[mime].package:
        checked_package(mime, _parts_of(path))


def _parts_of(path: Path) -> list[str]:
    """The names in a ZIP's directory; none where it can't be read. Nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as package:
            names = package.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, RuntimeError):
        return []
    return names if len(names) <= PACKAGE_PARTS_MAX else []
