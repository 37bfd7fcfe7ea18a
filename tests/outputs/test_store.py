from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from prefect_replicate.exceptions import OutputError, OutputExpiredError
from prefect_replicate.outputs import is_there
from prefect_replicate.values import OutputFile

from .conftest import names

COMPLETED = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
EXPIRED = "prediction abc123 are gone: it completed on 2026-03-01 at 12:30:00 UTC.*paid again"


@pytest.mark.parametrize("output", [None, "http://127.0.0.1:1/a.mp4"])
async def test_removed_data_is_expired(store, prediction, tmp_path, output: str | None):
    removed = prediction(output, data_removed=True, completed_at=COMPLETED)

    with pytest.raises(OutputExpiredError, match=EXPIRED):
        await store(removed, tmp_path)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_file_that_the_host_has_deleted_is_expired(
    host, store, prediction, tmp_path, status: int
):
    host.answers(status)

    with pytest.raises(OutputExpiredError, match=EXPIRED):
        await store(prediction(f"{host.url}/a", completed_at=COMPLETED), tmp_path)

    assert len(host.requests) == 1
    assert names(tmp_path) == []


async def test_a_part_of_an_expired_file_is_not_kept(host, store, prediction, tmp_path):
    url = host.add("/a", b"video" * 1000)
    host.breaks_off(after=100)
    host.answers(404)

    with pytest.raises(OutputExpiredError, match="an unknown time"):
        await store(prediction(url), tmp_path)

    assert names(tmp_path) == []


@pytest.mark.parametrize("status", ["processing", "failed", "canceled", "aborted", "new-status"])
async def test_only_a_succeeded_prediction_has_files(store, prediction, tmp_path, status: str):
    with pytest.raises(OutputError, match=f"abc123 is '{status}'; only a succeeded prediction"):
        await store(prediction("http://127.0.0.1:1/a", status=status), tmp_path)


@pytest.mark.parametrize("output", [None, ["To", "day"], "x" * 1000])
async def test_an_output_may_have_no_files(store, prediction, tmp_path, output: object):
    assert await store(prediction(output), tmp_path) == []


async def test_an_id_that_is_a_path_is_refused(store, prediction, tmp_path):
    with pytest.raises(OutputError, match="can't be part of a file name"):
        await store(prediction("data:,x", id="../../etc/x"), tmp_path / "a" / "b")


async def test_a_bad_destination_after_paying_is_an_output_error(store, prediction, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"succeeded and is paid for, but.*can't be written to"):
        await store(prediction("data:,x"), tmp_path / "file")


async def test_an_older_file_of_the_same_name_is_replaced(store, prediction, tmp_path: Path):
    (tmp_path / "abc123.txt").write_text("half")

    await store(prediction("data:,whole"), tmp_path)

    assert (tmp_path / "abc123.txt").read_text() == "whole"


def test_a_file_in_a_block_counts_as_there_however_its_path_looks(tmp_path) -> None:
    here = tmp_path / "a.mp4"
    here.write_text("video")
    fields = {"output_path": "", "source": "", "media_type": "video/mp4", "size": 5, "sha256": ""}

    def there(**more: Any) -> bool:
        return is_there(OutputFile.model_validate({**fields, "location": str(here), **more}))

    assert there()
    assert not there(size=6)
    assert not there(location=str(tmp_path / "b.mp4"))
    assert not there(location="\0")
    assert there(location="/home/videos/b.mp4", block="sftp/videos")
