"""What the store knows of files, on each kind of engine."""

import asyncio
from pathlib import Path

import pytest

from hub.domain.errors import Refused
from hub.domain.files import FileMeta
from hub.domain.grants import Person
from hub.service.files import Files
from hub.service.history import History
from hub.store.file_folder import FolderBlobs
from hub.store.file_index import RedisFileIndex
from hub.store.redis_store import RandomIds
from tests.contract.test_store import CONNECTOR, ORG, World, world
from tests.unit.service.words import connected, started

__all__ = ["world"]
CNV = "cnv_f"
BOB = Person("bob", "Bob", ORG, "agent", frozenset(), frozenset("*"), frozenset("*"))


async def begun(world: World) -> RedisFileIndex:
    """A conversation that Bob answers."""
    await world.ingest.take(ORG, CONNECTOR, [started(conversation_id=CNV), connected(conversation_id=CNV)])
    return RedisFileIndex(world.store)


def meta(size: int = 10, conversation_id: str = CNV) -> FileMeta:
    """A new file of the conversation."""
    file_id = RandomIds().new("fil", ORG, conversation_id)
    return FileMeta(file_id, ORG, conversation_id, "Größe.pdf", "application/pdf", size, 1, "bob", "agent")


async def test_what_is_named_is_found(world: World) -> None:
    """By its conversation and by its id alone; another conversation has none of it."""
    index, file = await begun(world), meta()
    assert await index.add(file, 5)
    assert await index.find(file.file_id) == file
    assert await index.kept(ORG, CNV, [meta().file_id, file.file_id]) == [None, file]
    assert await index.kept(ORG, "cnv_other", [file.file_id]) == [None]
    assert await index.find(meta().file_id) is None
    assert await index.count(ORG, CNV) == 1


async def test_a_full_and_a_gone_conversation_take_none(world: World) -> None:
    """Nothing of what was refused stays, however many ask at once; never more than allowed are named."""
    index = await begun(world)
    done = await asyncio.gather(*(index.add(meta(), 3) for _ in range(9)))
    assert await index.count(ORG, CNV) == sum(done) <= 3
    gone = meta(conversation_id="cnv_never")
    assert not await index.add(gone, 3)
    assert await index.find(gone.file_id) is None
    assert await index.count(ORG, "cnv_never") == 0


async def test_bytes_of_an_organization(world: World) -> None:
    """They are counted up to the limit, refused ones aren't, and those of a forgotten conversation are given back."""
    index, file = await begun(world), meta(60)
    assert await index.reserve(ORG, 60, 100)
    assert not await index.reserve(ORG, 60, 100)
    assert await index.used(ORG) == 60
    assert await index.add(file, 5)
    for _ in range(2):
        await index.forget(ORG, CNV)
        assert (await index.used(ORG), await index.count(ORG, CNV)) == (0, 0)
    assert await index.find(file.file_id) is None


async def test_one_secret_for_all_nodes(world: World) -> None:
    """Made once, the same for whoever asks."""
    one, two = RedisFileIndex(world.store), RedisFileIndex(world.store)
    secret, other = await asyncio.gather(one.secret(), two.secret())
    assert secret == other
    assert len(secret) >= 32


@pytest.mark.parametrize("fault", ["disk", "full"])
async def test_a_file_that_is_not_kept_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Where the disk fails, or the conversation filled up meanwhile: no bytes, no name, no room taken."""
    index = await begun(world)
    blobs = FolderBlobs(tmp_path / "kept")
    history = History(world.store, world.conversations, 10)
    count_max = 0 if fault == "full" else 5
    files = Files(index, blobs, history, RandomIds(), count_max=count_max, org_bytes_max=100, link_ms=1_000)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10)
    if fault == "disk":
        source.unlink()
    with pytest.raises(Refused) as refused:
        await files.keep(BOB, CNV, name="a.pdf", mime="application/pdf", source=source, size=10)
    assert refused.value.details["reason"] == {"disk": "space", "full": "count"}[fault]
    assert (await index.used(ORG), await index.count(ORG, CNV)) == (0, 0)
    assert [one for one in (tmp_path / "kept").rglob("*") if one.is_file()] == []


async def test_a_kept_file_is_forgotten_whole(world: World, tmp_path: Path) -> None:
    """Bytes, name and room; again changes nothing. One whose bytes alone were lost is said to be unknown."""
    index = await begun(world)
    blobs = FolderBlobs(tmp_path / "kept")
    history = History(world.store, world.conversations, 10)
    files = Files(index, blobs, history, RandomIds(), count_max=5, org_bytes_max=100, link_ms=1_000)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    kept = await files.keep(BOB, CNV, name="a.pdf", mime="application/pdf", source=source, size=7)
    assert await files.readable(BOB, kept.file_id) == kept
    assert b"".join([part async for part in await files.content(kept)]) == b"content"
    for _ in range(2):
        await files.forget(ORG, CNV)
    with pytest.raises(Refused, match="unknown_file"):
        await files.readable(BOB, kept.file_id)
    with pytest.raises(Refused, match="unknown_file"):
        await files.content(kept)
    assert await index.used(ORG) == 0
