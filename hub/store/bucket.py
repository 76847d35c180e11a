"""
The bytes of files in an S3-compatible bucket, by obstore (the extra `s3`).

    <prefix>/<organization>/<conversation>/<file id>     as in a folder, hashes included

Whatever the bucket says but that there is no such object is an `OSError` here. Retries are few and bounded: a person waits.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from hub.settings import FilesSettings
from hub.store.file_folder import MARK, PART_BYTES, Stored, hashed

TIMEOUT_S = 30
RETRIES = 2


class MissingExtra(Exception):
    """The library for buckets isn't installed; the message says what to install."""


class BucketBlobs:
    """See the module, and `hub.service.files.Blobs`."""

    def __init__(self, settings: FilesSettings) -> None:
        """
        Credentials are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, …).

        Raises:
            MissingExtra: obstore isn't installed.
        """
        try:
            import obstore
            from obstore.exceptions import BaseError, NotFoundError
            from obstore.store import S3Store
        except ImportError:
            raise MissingExtra("files in a bucket need obstore; install supervision-hub[s3]") from None
        self._obstore = obstore
        self._not_found = (NotFoundError, FileNotFoundError)  # which of them, depends on its version
        self._error = (BaseError, OSError)
        options: dict[str, Any] = {"prefix": settings.s3_prefix}
        if settings.s3_endpoint:
            options |= {"endpoint": settings.s3_endpoint, "virtual_hosted_style_request": False}
        if settings.s3_region:
            options["region"] = settings.s3_region
        self._store = S3Store(
            settings.s3_bucket,
            client_options={"timeout": f"{TIMEOUT_S} s", "allow_http": settings.s3_endpoint.startswith("http://")},
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=TIMEOUT_S)},
            **options,
        )

    def _name(self, org: str, conversation_id: str, file_id: str = "") -> str:
        return "/".join((*hashed(org, conversation_id), file_id))

    def _failed(self, error: Exception) -> OSError:
        # Its own text may hold the request, with its headers.
        return OSError(f"the bucket refused or didn't answer ({type(error).__name__})")

    async def reach(self) -> None:
        """Look whether it is there and may be listed, as forgetting needs; nothing changes."""
        try:
            async for _ in self._obstore.list(self._store, "reach/"):
                break
        except self._error as error:
            raise self._failed(error) from error

    async def put(self, org: str, conversation_id: str, file_id: str, source: Path) -> None:
        """Upload a local file; in parts where it is large."""
        try:
            await self._obstore.put_async(self._store, self._name(org, conversation_id, file_id), source)
        except self._error as error:
            raise self._failed(error) from error

    async def open(self, org: str, conversation_id: str, file_id: str) -> AsyncIterator[bytes]:
        """The content in parts. Raises FileNotFoundError."""
        try:
            found = await self._obstore.get_async(self._store, self._name(org, conversation_id, file_id))
        except self._not_found:
            raise FileNotFoundError(file_id) from None
        except self._error as error:
            raise self._failed(error) from error

        async def parts() -> AsyncIterator[bytes]:
            async for part in found.stream(min_chunk_size=PART_BYTES):
                yield bytes(part)

        return parts()

    async def there(self, org: str, conversation_id: str, file_id: str) -> bool:
        """True where the content is there."""
        try:
            await self._obstore.head_async(self._store, self._name(org, conversation_id, file_id))
        except self._not_found:
            return False
        except self._error as error:
            raise self._failed(error) from error
        return True

    async def listed(self, after: str, count: int) -> list[Stored]:
        """See `hub.store.file_sweep.Shelf`."""
        try:
            async for page in self._obstore.list(self._store, offset=after or None, chunk_size=count):
                return [Stored(one["path"], int(one["last_modified"].timestamp() * 1000)) for one in page]
        except self._error as error:
            raise self._failed(error) from error
        return []

    async def remove(self, path: str) -> None:
        """See `hub.store.file_sweep.Shelf`."""
        try:
            await self._obstore.delete_async(self._store, path)
        except self._not_found:
            return
        except self._error as error:
            raise self._failed(error) from error

    async def claimed(self, word: str) -> bool:
        """See `hub.store.file_sweep.Shelf`."""
        try:
            found = await self._obstore.get_async(self._store, MARK)
            return bytes(await found.bytes_async()) == word.encode()
        except self._not_found:
            pass
        except self._error as error:
            raise self._failed(error) from error
        try:
            await self._obstore.put_async(self._store, MARK, word.encode())
        except self._error as error:
            raise self._failed(error) from error
        return True

    async def drop(self, org: str, conversation_id: str, file_id: str) -> None:
        """One file."""
        try:
            await self._obstore.delete_async(self._store, self._name(org, conversation_id, file_id))
        except self._not_found:
            return
        except self._error as error:
            raise self._failed(error) from error

    async def forget(self, org: str, conversation_id: str) -> None:
        """Everything of a conversation."""
        try:
            async for found in self._obstore.list(self._store, self._name(org, conversation_id)):
                await self._obstore.delete_async(self._store, [one["path"] for one in found])
        except self._error as error:
            raise self._failed(error) from error
