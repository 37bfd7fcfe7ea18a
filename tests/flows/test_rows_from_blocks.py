from pathlib import Path
from typing import Any, BinaryIO

import pytest
from prefect import flow
from prefect.blocks.abstract import ObjectStorageBlock
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.filesystems import LocalFileSystem, ReadableFileSystem
from pydantic import Field

from prefect_replicate import VideoRequest
from prefect_replicate.batch.requests import video_requests
from prefect_replicate.engine import call
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError

FOX = VideoRequest(prompt="a fox")
BOTH = [FOX, VideoRequest(prompt="a hen", seed=7)]
CSV = "prompt,seed\na fox,\na hen,7\n"


class RowsBucket(ObjectStorageBlock):
    """A bucket whose objects are saved with it."""

    objects: dict[str, str] = Field(default_factory=dict)

    async def download_object_to_file_object(
        self, from_path: str, to_file_object: BinaryIO, **download_kwargs: Any
    ) -> BinaryIO:
        to_file_object.write(self.objects[from_path].encode())
        return to_file_object

    async def download_object_to_path(self, *args: Any, **kwargs: Any) -> Path:
        raise NotImplementedError

    async def download_folder_to_path(self, *args: Any, **kwargs: Any) -> Path:
        raise NotImplementedError

    async def upload_from_path(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError

    async def upload_from_file_object(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError

    async def upload_from_folder(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError


class SyncRowsBucket(RowsBucket):
    """One whose methods block, as many do."""

    def download_object_to_file_object(  # type: ignore[override]
        self, from_path: str, to_file_object: BinaryIO, **download_kwargs: Any
    ) -> BinaryIO:
        to_file_object.write(self.objects[from_path].encode())
        return to_file_object


class RowsShelf(ReadableFileSystem):
    """A file system that can only be read."""

    files: dict[str, str] = Field(default_factory=dict)

    async def read_path(self, path: str) -> bytes:
        return self.files[path].encode()


async def saved(block: Block) -> str:
    await block.asave("rows", overwrite=True)
    return f"block:{block.get_block_type_slug()}/rows"


@pytest.fixture
def local_block(tmp_path: Path) -> str:
    (tmp_path / "to").mkdir()
    LocalFileSystem(basepath=str(tmp_path)).save("rows", overwrite=True)
    return "block:local-file-system/rows"


async def test_rows_come_from_a_saved_folder(local_block: str, tmp_path: Path) -> None:
    (tmp_path / "to" / "a.csv").write_text(CSV)

    assert await video_requests(path=f"{local_block}/to/a.csv") == BOTH


async def test_parquet_comes_from_a_saved_folder(local_block: str, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"prompt": ["a fox", "a hen"], "seed": [None, 7]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")

    assert await video_requests(path=f"{local_block}/a.parquet") == BOTH


@pytest.mark.parametrize("bucket", [RowsBucket, SyncRowsBucket])
async def test_rows_come_from_a_saved_bucket(bucket: type[RowsBucket]) -> None:
    reference = await saved(bucket(objects={"to/a.csv": CSV}))

    assert await video_requests(path=f"{reference}/to/a.csv") == BOTH


async def test_rows_come_from_a_file_system_that_can_only_be_read() -> None:
    reference = await saved(RowsShelf(files={"a.jsonl": '{"prompt": "a fox"}'}))

    assert await video_requests(path=f"{reference}/a.jsonl") == [FOX]


def test_a_flow_reads_them_on_the_engine(local_block: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)

    @flow
    def campaign() -> list[VideoRequest]:
        return call(lambda _: video_requests(path=f"{local_block}/a.csv"))

    assert campaign() == BOTH


async def test_a_bad_row_is_told_with_the_block(local_block: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,seed\na fox,x\n")

    with pytest.raises(InvalidInputError, match=f"row 1 of {local_block}/a.csv .line 2.: seed 'x'"):
        await video_requests(path=f"{local_block}/a.csv")


async def test_a_file_that_the_block_has_not_is_told(local_block: str) -> None:
    with pytest.raises(InvalidInputError, match=r"rows/no.csv': ValueError: .* does not exist"):
        await video_requests(path=f"{local_block}/no.csv")


async def test_a_block_that_is_not_there_is_told() -> None:
    with pytest.raises(
        ConfigurationError, match=r"local-file-system/nobody/a.csv' can't be loaded"
    ):
        await video_requests(path="block:local-file-system/nobody/a.csv")


async def test_a_block_that_has_no_files_is_told() -> None:
    reference = await saved(Secret(value="x"))

    with pytest.raises(ConfigurationError, match="a Secret is not a storage block"):
        await video_requests(path=f"{reference}/a.csv")
