"""Bytes that no index names go, all others stay: on a folder and on a bucket, with the index of a real store."""

import dataclasses
import time
import uuid
from pathlib import Path

import pytest

from hub.domain.errors import Refused
from hub.domain.files import FileMeta
from hub.store.bucket import BucketBlobs
from hub.store.file_folder import FolderBlobs, make_incoming
from hub.store.file_index import RedisFileIndex
from hub.store.file_sweep import FileSweep
from tests.contract.test_file_index import begun, meta
from tests.contract.test_store import ORG, World, world
from tests.support.bucket import bucket_settings

__all__ = ["world"]
DAY_MS = 86_400_000
Shelved = FolderBlobs | BucketBlobs


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelved:
    """An empty place."""
    if request.param == "folder":
        return FolderBlobs(tmp_path / "kept")
    settings = bucket_settings(request.getfixturevalue("s3_endpoint"), monkeypatch)
    return BucketBlobs(dataclasses.replace(settings, s3_prefix=uuid.uuid4().hex))


async def put(blobs: Shelved, folder: Path, one: FileMeta) -> None:
    """Its bytes, without a name."""
    source = folder / "source"
    source.write_bytes(b"x" * one.bytes)
    await blobs.put(one.org, one.conversation_id, one.file_id, source)


async def there(blobs: Shelved, *files: FileMeta) -> list[bool]:
    """Of each, whether its bytes are."""
    return [await blobs.there(one.org, one.conversation_id, one.file_id) for one in files]


def sweep_of(index: RedisFileIndex, blobs: Shelved, count: int = 100) -> FileSweep:
    """A sweep of what is a day old."""
    return FileSweep(index, blobs, DAY_MS, count, 1_000)


def tomorrow() -> int:
    """When everything here is old enough."""
    return int(time.time() * 1000) + DAY_MS + 60_000


async def test_what_nobody_names_goes_and_all_else_stays(world: World, blobs: Shelved, tmp_path: Path) -> None:
    """
    Named files stay, attached or not; unnamed ones, ones whose name was lost, and one that lies in another conversation's place
    go, but not before their time.
    """
    index = await begun(world)
    named, unnamed, lost, gone = meta(), meta(), meta(conversation_id="cnv_lost"), meta(conversation_id="cnv_gone")
    displaced = FileMeta(named.file_id, ORG, "cnv_other", "x", "application/pdf", 1, 1, "bob", "agent")
    for one in (named, unnamed, lost, gone, displaced):
        await put(blobs, tmp_path, one)
    assert await index.add(named, 5)
    assert not await index.add(lost, 5), "there is no such conversation"
    sweep = sweep_of(index, blobs)
    assert await sweep.sweep(int(time.time() * 1000)) == 0
    assert await there(blobs, named, unnamed, lost, gone, displaced) == [True] * 5
    assert await sweep.sweep(tomorrow()) == 4
    assert await there(blobs, named, unnamed, lost, gone, displaced) == [True, False, False, False, False]
    assert await sweep.sweep(tomorrow()) == 0
    await index.forget(ORG, named.conversation_id)
    assert await sweep.sweep(tomorrow()) == 1


async def test_a_sweep_looks_at_so_many_and_the_next_one_goes_on(world: World, blobs: Shelved, tmp_path: Path) -> None:
    """However many there are: page by page, then from the beginning, and each is come to."""
    index = await begun(world)
    files = [meta(1, f"cnv_{number % 4}") for number in range(11)]
    for one in files:
        await put(blobs, tmp_path, one)
    sweep = sweep_of(index, blobs, count=3)
    removed = [await sweep.sweep(tomorrow()) for _ in range(6)]
    assert max(removed) == 3
    assert sum(removed) == 11
    assert await there(blobs, *files) == [False] * 11


async def test_nothing_goes_where_another_installation_keeps_its_own(
    world: World, blobs: Shelved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A hub that was given an empty store, or the wrong place, knows no name of what lies there: it says so and takes none."""
    index, file = await begun(world), meta()
    await put(blobs, tmp_path, file)
    assert await blobs.claimed("a word of another installation")
    assert await sweep_of(index, blobs).sweep(tomorrow()) == 0
    assert await there(blobs, file) == [True]
    assert "another installation" in caplog.text


async def test_nothing_goes_while_nobody_can_say_what_is_named(world: World, blobs: Shelved, tmp_path: Path) -> None:
    """The store went away: the sweep ends there, and the same page is looked at again."""

    class Away(RedisFileIndex):
        """A store that is asked and doesn't answer."""

        async def find(self, file_id: str) -> FileMeta | None:
            raise Refused("store_unavailable", "", {"outcome": "none"})

    index, file = await begun(world), meta()
    await put(blobs, tmp_path, file)
    sweep = sweep_of(Away(world.store), blobs, count=2)  # one of them the bucket's mark
    with pytest.raises(Refused):
        await sweep.sweep(tomorrow())
    assert await there(blobs, file) == [True]
    sweep.index = index
    assert await sweep.sweep(tomorrow()) == 1


async def test_what_is_not_a_file_of_a_conversation_stays(world: World, tmp_path: Path) -> None:
    """What arrives, what the operator put there, and a folder that isn't there."""
    index, blobs = await begun(world), FolderBlobs(tmp_path / "kept")
    assert await sweep_of(index, blobs).sweep(tomorrow()) == 0
    assert not blobs.folder.exists()
    arriving = make_incoming(blobs.folder) / "now"
    notes = blobs.folder / "README"
    deep = blobs.folder / "a" / "b" / "notes.txt"
    deep.parent.mkdir(parents=True)
    for path in (arriving, notes, deep):
        path.write_text("x")
    assert await sweep_of(index, blobs).sweep(tomorrow()) == 0
    assert all(path.exists() for path in (arriving, notes, deep))
