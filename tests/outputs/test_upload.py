import asyncio
import threading
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import fsspec
import pytest
from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.filesystems import LocalFileSystem, RemoteFileSystem, WritableFileSystem
from prefect.utilities.asyncutils import sync_compatible
from pydantic import Field

from prefect_replicate.exceptions import OutputError, OutputExpiredError
from prefect_replicate.outputs import check_destination

from .conftest import content_of, names

VIDEO = b"video" * 1000


class Bucket(ObjectStorageBlock):
    """A bucket in memory, which can refuse a number of uploads."""

    objects: dict[str, bytes] = Field(default_factory=dict)
    refusals: int = 0
    threads: list[int] = Field(default_factory=list)

    def keep(self, from_path: str | Path, to_path: str) -> str:
        self.threads.append(threading.get_ident())
        if self.refusals > 0:
            self.refusals -= 1
            raise RuntimeError("the bucket\nis closed")
        self.objects[f"videos/{to_path}"] = Path(from_path).read_bytes()
        return f"videos/{to_path}"

    async def download_object_to_path(
        self, from_path: str, to_path: str | Path, **download_kwargs: Any
    ) -> Path:
        raise NotImplementedError

    async def download_object_to_file_object(
        self, from_path: str, to_file_object: BinaryIO, **download_kwargs: Any
    ) -> BinaryIO:
        raise NotImplementedError

    async def download_folder_to_path(
        self, from_folder: str, to_folder: str | Path, **download_kwargs: Any
    ) -> Path:
        raise NotImplementedError

    async def upload_from_path(
        self, from_path: str | Path, to_path: str, **upload_kwargs: Any
    ) -> str:
        return self.keep(from_path, to_path)

    async def upload_from_file_object(
        self, from_file_object: BinaryIO, to_path: str, **upload_kwargs: Any
    ) -> str:
        raise NotImplementedError

    async def upload_from_folder(
        self, from_folder: str | Path, to_folder: str, **upload_kwargs: Any
    ) -> str:
        raise NotImplementedError


class SyncBucket(Bucket):
    def upload_from_path(self, from_path: str | Path, to_path: str) -> str:  # type: ignore
        return self.keep(from_path, to_path)


class OldBucket(Bucket):
    @sync_compatible
    async def upload_from_path(self, from_path: str | Path, to_path: str) -> str:  # type: ignore
        return self.keep(from_path, to_path)


class S3Bucket(Bucket):
    """Looks as that of prefect-aws does."""

    _block_type_slug = "s3-bucket"

    bucket_name: str = "media"


class DispatchBucket(Bucket):
    async def _upload(self, from_path: str | Path, to_path: str) -> str:
        return self.keep(from_path, to_path)

    @async_dispatch(_upload)
    def upload_from_path(self, from_path: str | Path, to_path: str) -> str:  # type: ignore
        return self.keep(from_path, to_path)


class TwinBucket(Bucket):
    async def aupload_from_path(self, from_path: str | Path, to_path: str) -> str:
        return self.keep(from_path, to_path)

    def upload_from_path(self, from_path: str | Path, to_path: str) -> str:  # type: ignore
        raise AssertionError("the async twin is there")


class Shelf(WritableFileSystem):
    """A file system that says nothing of where it put what."""

    files: dict[str, bytes] = Field(default_factory=dict)

    async def read_path(self, path: str) -> bytes:
        return self.files[path]

    async def write_path(self, path: str, content: bytes) -> None:
        self.files[path] = content


@pytest.fixture
def staging(prefect_home: Path) -> Path:
    return prefect_home / "replicate-outputs"


@pytest.mark.parametrize("kind", [Bucket, SyncBucket, OldBucket, DispatchBucket, TwinBucket])
async def test_a_bucket_of_any_make_gets_the_file(
    host, store, prediction, staging: Path, kind: type[Bucket]
):
    bucket = kind()

    (file,) = await store(prediction(host.add("/a", VIDEO)), bucket)

    assert bucket.objects == {"videos/abc123.mp4": VIDEO}
    assert file.location == "videos/abc123.mp4"
    assert names(staging) == []


async def test_the_uri_of_a_file_in_a_bucket_is_that_of_the_bucket(
    host, store, prediction, staging: Path
):
    (file,) = await store(prediction(host.add("/a", VIDEO)), S3Bucket())

    assert file.uri == "s3://media/videos/abc123.mp4"


async def test_a_blocking_upload_does_not_block_the_event_loop(
    host, store, prediction, staging: Path
):
    bucket = SyncBucket()

    await store(prediction(host.add("/a", VIDEO)), bucket)

    assert threading.get_ident() not in bucket.threads


async def test_a_file_system_without_a_reply_is_named_by_the_file(
    host, store, prediction, staging: Path
):
    shelf = Shelf()

    (file,) = await store(prediction(host.add("/a", VIDEO)), shelf)

    assert shelf.files == {"abc123.mp4": VIDEO}
    assert file.location == "abc123.mp4"


async def test_a_local_block_is_a_folder(host, store, prediction, tmp_path: Path):
    block = LocalFileSystem(basepath=str(tmp_path / "videos"))

    (file,) = await store(prediction(host.add("/a", VIDEO)), block)

    assert file.location == str(tmp_path / "videos" / "abc123.mp4")
    assert content_of(file) == VIDEO


async def test_a_remote_block_gets_the_file_streamed(host, store, prediction, staging: Path):
    block = RemoteFileSystem(basepath="memory://bucket/videos/")

    (file,) = await store(prediction(host.add("/a", VIDEO)), block)

    assert file.location == "memory://bucket/videos/abc123.mp4"
    assert fsspec.filesystem("memory").cat("bucket/videos/abc123.mp4") == VIDEO


async def test_a_url_is_a_place_as_fsspec_has_them(host, store, prediction, staging: Path):
    (file,) = await store(prediction(host.add("/a", VIDEO)), "memory://media/videos")

    assert (file.location, file.uri) == ("memory://media/videos/abc123.mp4",) * 2
    assert fsspec.filesystem("memory").cat("media/videos/abc123.mp4") == VIDEO


async def test_a_file_url_is_a_folder(host, store, prediction, tmp_path: Path):
    (file,) = await store(prediction(host.add("/a", VIDEO)), f"file://{tmp_path}/a%20b")

    assert file.location == str(tmp_path / "a b" / "abc123.mp4")
    assert content_of(file) == VIDEO


async def test_a_failed_upload_is_tried_again_without_a_second_download(
    host, store, prediction, staging: Path
):
    bucket = Bucket(refusals=2)

    await store(prediction(host.add("/a", VIDEO)), bucket)

    assert list(bucket.objects) == ["videos/abc123.mp4"]
    assert len(host.requests) == 1


async def test_a_file_that_the_block_never_took_is_kept_and_used_by_the_next_call(
    host, store, prediction, staging: Path
):
    bucket = Bucket(refusals=3)
    output = prediction(host.add("/a", VIDEO))
    kept = staging / "abc123" / "abc123.mp4"
    with pytest.raises(
        OutputError, match=r"abc123 .*block Bucket did not accept.*attempts: 3"
    ) as error:
        await store(output, bucket)
    assert f"RuntimeError: the bucket is closed. The file is kept at {kept}" in str(error.value)
    assert kept.read_bytes() == VIDEO
    host.files.clear()

    (file,) = await store(output, bucket)

    assert bucket.objects == {"videos/abc123.mp4": VIDEO}
    assert (file.media_type, file.size) == ("video/mp4", len(VIDEO))
    assert len(host.requests) == 1
    assert names(staging) == []


async def test_a_broken_download_for_a_block_is_resumed_by_the_next_call(
    host, store, prediction, staging: Path
):
    output = prediction(host.add("/a", VIDEO))
    for _ in range(4):
        host.breaks_off(after=1000)
    with pytest.raises(OutputError, match="could not be downloaded"):
        await store(output, Bucket())

    await store(output, Bucket())

    assert host.ranges[-1] == "bytes=4000-"


async def test_an_expired_file_leaves_no_folder_behind(host, store, prediction, staging: Path):
    with pytest.raises(OutputExpiredError, match="abc123"):
        await store(prediction(f"{host.url}/none"), Bucket())

    assert names(staging) == []


async def test_two_calls_at_once_keep_their_files_apart(host, store, prediction, staging: Path):
    output = prediction([host.add("/a", VIDEO), host.add("/b", VIDEO)])
    buckets = [Bucket(refusals=count) for count in (0, 1, 2)]

    await asyncio.gather(*(store(output, bucket) for bucket in buckets))

    for bucket in buckets:
        assert sorted(bucket.objects) == ["videos/abc123-1.mp4", "videos/abc123-2.mp4"]
    assert names(staging) == []


async def test_a_cancelled_upload_keeps_the_file(host, store, prediction, staging: Path):
    class Slow(Bucket):
        async def upload_from_path(self, from_path: str | Path, to_path: str) -> str:  # type: ignore
            scope.cancel()
            await anyio.sleep(60)
            return to_path

    with anyio.CancelScope() as scope:
        await store(prediction(host.add("/a", VIDEO)), Slow())

    assert (staging / "abc123" / "abc123.mp4").read_bytes() == VIDEO


@pytest.mark.usefixtures("prefect_home")
async def test_storage_blocks_pass_the_check_and_get_nothing_written() -> None:
    bucket, shelf = Bucket(), Shelf()

    await check_destination(bucket)
    await check_destination(shelf)
    await check_destination(RemoteFileSystem(basepath="memory://empty"))

    assert (bucket.objects, shelf.files) == ({}, {})
