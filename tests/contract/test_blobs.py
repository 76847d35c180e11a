"""Where the bytes of files are: one battery, on a folder and on a bucket of a real S3 server."""

import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.service.files import Blobs
from hub.settings import FilesSettings
from hub.store.bucket import BucketBlobs, MissingExtra
from hub.store.file_folder import INCOMING, LEFT_OVER_S, FolderBlobs, make_incoming
from tests.support.bucket import BUCKET, bucket_settings

FILE, OTHER = "fil_00" + "a" * 20, "fil_00" + "b" * 20
LARGE = os.urandom(6_000_000)  # more than the one part that a bucket takes at once


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """An empty place."""
    if request.param == "folder":
        return FolderBlobs(tmp_path / "kept")
    return bucket(request.getfixturevalue("s3_endpoint"), monkeypatch)


def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, name: str = BUCKET) -> BucketBlobs:
    """The blobs of a bucket of that name."""
    return BucketBlobs(bucket_settings(endpoint, monkeypatch, name))


async def put(blobs: Blobs, folder: Path, conversation: str, file_id: str, content: bytes) -> None:
    """Keep a content."""
    source = folder / "source"
    source.write_bytes(content)
    await blobs.put("acme", conversation, file_id, source)


async def content(parts: AsyncIterator[bytes]) -> bytes:
    """All of it."""
    return b"".join([part async for part in parts])


async def test_what_is_put_is_there(blobs: Blobs, tmp_path: Path) -> None:
    """Small, empty and large contents come back as they were, in parts."""
    for file_id, kept in ((FILE, b"one"), (OTHER, LARGE)):
        await put(blobs, tmp_path, "cnv_1", file_id, kept)
        assert await blobs.there("acme", "cnv_1", file_id)
        assert await content(await blobs.open("acme", "cnv_1", file_id)) == kept
    await blobs.forget("acme", "cnv_1")


async def test_what_is_not_there(blobs: Blobs) -> None:
    """Another conversation's or none: not there, not found; dropping and forgetting it is no error."""
    assert not await blobs.there("acme", "cnv_9", FILE)
    with pytest.raises(FileNotFoundError):
        await content(await blobs.open("acme", "cnv_9", FILE))
    await blobs.drop("acme", "cnv_9", FILE)
    await blobs.forget("acme", "cnv_9")


async def test_forgetting_takes_one_conversation(blobs: Blobs, tmp_path: Path) -> None:
    """Everything of it, nothing of one whose id begins alike, differs in case, or climbs; dropping takes one file."""
    others = ("cnv_10", "CNV_1", "..", ".", "a:b")
    for conversation in ("cnv_1", *others):
        for file_id in (FILE, OTHER):
            await put(blobs, tmp_path, conversation, file_id, conversation.encode())
    await blobs.drop("acme", "cnv_10", FILE)
    await blobs.forget("acme", "cnv_1")
    await blobs.forget("acme", "cnv_1")
    assert [await blobs.there("acme", "cnv_1", one) for one in (FILE, OTHER)] == [False, False]
    assert [await blobs.there("acme", "cnv_10", one) for one in (FILE, OTHER)] == [False, True]
    for conversation in others:
        assert await content(await blobs.open("acme", conversation, OTHER)) == conversation.encode()


async def test_a_bucket_that_is_not_there(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is an `OSError` that names no request, and soon."""
    missing = bucket(s3_endpoint, monkeypatch, "elsewhere")
    with pytest.raises(OSError, match="the bucket refused"):
        await put(missing, tmp_path, "cnv_1", FILE, b"x")
    with pytest.raises(OSError, match="the bucket refused"):
        await missing.forget("acme", "cnv_1")
    with pytest.raises(OSError, match="the bucket refused"):
        await missing.reach()
    await bucket(s3_endpoint, monkeypatch).reach()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"supervision-hub\[s3\]"):
        BucketBlobs(FilesSettings(s3_bucket="files"))


async def test_a_folder_is_the_hubs_alone(tmp_path: Path) -> None:
    """Nobody else may look into it; nothing of a conversation's name stands in it."""
    blobs = FolderBlobs(tmp_path / "kept")
    await put(blobs, tmp_path, "cnv_secret", FILE, b"x")
    made = [blobs.folder, *(one for one in blobs.folder.rglob("*") if one.is_dir())]
    assert {stat.S_IMODE(one.stat().st_mode) for one in made} == {0o700}
    assert not any("secret" in str(one) for one in made)


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    """Arriving files that are older than any could be go; those that arrive now stay."""
    incoming = make_incoming(tmp_path)
    assert stat.S_IMODE(incoming.stat().st_mode) == 0o700
    for name, age_s in (("old", LEFT_OVER_S + 60), ("new", 0)):
        (incoming / name).write_bytes(b"x")
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    make_incoming(tmp_path)
    assert [one.name for one in (tmp_path / INCOMING).iterdir()] == ["new"]
