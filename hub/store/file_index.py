"""
What is known of files, in the store:

| key | type | what |
| --- | --- | --- |
| `{p}f:<org>/<conv>` | hash | file id -> what is known of it |
| `{p}i:<file id>` | string | the conversation of a file |
| `{files/<org>}bytes` | string | bytes kept for an organization |
| `<prefix>:files` | string | the secret of links |

Counts are taken before and given back after: a hub that dies in between leaves an organization charged for one file too many,
never one too few.
"""

from collections.abc import Sequence

import msgspec

from hub.domain.files import FileMeta
from hub.service.ids import new_secret
from hub.store.keys import partition, partition_of
from hub.store.redis_store import RedisStore


class RedisFileIndex:
    """See the module, and `hub.service.files.FileIndex`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._secret = b""

    def _place(self, org: str, conversation_id: str) -> tuple[int, bytes]:
        p = partition(org, conversation_id)
        return p, self._store.keys.base(p) + f"f:{org}/{conversation_id}".encode()

    def _pointer(self, p: int, file_id: str) -> bytes:
        return self._store.keys.base(p) + b"i:" + file_id.encode()

    def _bytes_key(self, org: str) -> bytes:
        return f"{self._store.keys.prefix}:{{files/{org}}}bytes".encode()

    async def _call(self, key: bytes, *args: bytes) -> object:
        return await self._store.call("commit", key, *args)

    async def secret(self) -> bytes:
        """The installation's secret for links."""
        if not self._secret:
            key = f"{self._store.keys.prefix}:files".encode()
            await self._call(key, b"SET", key, new_secret().encode(), b"NX")
            made = await self._call(key, b"GET", key)
            assert isinstance(made, bytes)
            self._secret = made
        return self._secret

    async def reserve(self, org: str, size: int, bytes_max: int) -> bool:
        """Count bytes for an organization, unless it would have too many."""
        key = self._bytes_key(org)
        total = await self._call(key, b"INCRBY", key, b"%d" % size)
        assert isinstance(total, int)
        if total <= bytes_max:
            return True
        await self.release(org, size)
        return False

    async def release(self, org: str, size: int) -> None:
        """Count them off again."""
        key = self._bytes_key(org)
        await self._call(key, b"DECRBY", key, b"%d" % size)

    async def used(self, org: str) -> int:
        """Bytes that are counted for an organization."""
        key = self._bytes_key(org)
        value = await self._call(key, b"GET", key)
        return int(value) if isinstance(value, bytes) else 0

    async def add(self, meta: FileMeta, count_max: int) -> bool:
        """Name a file, unless its conversation is full or gone. Of two at once at the limit both may be refused."""
        p, key = self._place(meta.org, meta.conversation_id)
        field, pointer = meta.file_id.encode(), self._pointer(p, meta.file_id)
        await self._call(key, b"SET", pointer, f"{meta.org}/{meta.conversation_id}".encode())
        await self._call(key, b"HSET", key, field, msgspec.json.encode(meta))
        count = await self._call(key, b"HLEN", key)
        there = await self._call(key, b"EXISTS", self._store.keys.conversation(p, meta.org, meta.conversation_id))
        assert isinstance(count, int)
        if count <= count_max and there:
            return True
        await self._call(key, b"HDEL", key, field)
        await self._call(key, b"UNLINK", pointer)
        return False

    async def count(self, org: str, conversation_id: str) -> int:
        """How many files a conversation has."""
        _, key = self._place(org, conversation_id)
        count = await self._call(key, b"HLEN", key)
        assert isinstance(count, int)
        return count

    async def kept(self, org: str, conversation_id: str, file_ids: Sequence[str]) -> list[FileMeta | None]:
        """Files of a conversation by their ids."""
        _, key = self._place(org, conversation_id)
        found = await self._call(key, b"HMGET", key, *(one.encode() for one in file_ids))
        assert isinstance(found, list)
        return [None if one is None else msgspec.json.decode(one, type=FileMeta) for one in found]

    async def find(self, file_id: str) -> FileMeta | None:
        """A file by its id alone."""
        p = partition_of(file_id)
        if p is None:
            return None
        pointer = self._pointer(p, file_id)
        place = await self._call(pointer, b"GET", pointer)
        if not isinstance(place, bytes):
            return None
        org, _, conversation_id = place.decode().partition("/")
        return (await self.kept(org, conversation_id, [file_id]))[0]

    async def forget(self, org: str, conversation_id: str) -> None:
        """Nothing is named and counted for this conversation any more."""
        p, key = self._place(org, conversation_id)
        known = await self._call(key, b"HVALS", key)
        assert isinstance(known, list)
        if not known:
            return
        files = [msgspec.json.decode(one, type=FileMeta) for one in known]
        await self._call(key, b"UNLINK", key, *(self._pointer(p, one.file_id) for one in files))
        await self.release(org, sum(one.bytes for one in files))
