"""The task around `prefect_replicate.outputs`, whose own tests are in tests/outputs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem

from prefect_replicate import (
    PollPolicy,
    Prediction,
    adownload_outputs,
    create_prediction,
    download_outputs,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import OutputError, OutputExpiredError


@pytest.fixture
def made(replicate_emulator: Emulator, quick: PollPolicy) -> Any:
    """Make a finished prediction with this input."""

    def made(**asked: Any) -> Prediction:
        return wait_for_prediction.fn(create_prediction.fn("emulator/timer", asked), policy=quick)

    return made


def test_a_file_is_stored_whole_with_its_hash(made: Any, tmp_path: Path) -> None:
    [file] = download_outputs.fn(made(output_bytes=300_000), tmp_path / "new" / "folder")

    content = Path(file.location).read_bytes()
    assert (len(content), file.size) == (300_000, 300_000)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert [Path(file.location)] == list((tmp_path / "new" / "folder").iterdir())


def test_files_of_any_shape_are_stored_in_order(made: Any, tmp_path: Path) -> None:
    output = {"video": {"url": "file:a.mp4"}, "frames": ["file:b.png", "text"], "score": 0.5}

    files = download_outputs.fn(made(output=output, output_bytes=10), str(tmp_path))

    assert [file.output_path for file in files] == ["video.url", "frames[0]"]


def test_a_storage_block_is_a_destination(made: Any, tmp_path: Path) -> None:
    [file] = download_outputs.fn(made(), LocalFileSystem(basepath=str(tmp_path)))

    assert Path(file.location).is_relative_to(tmp_path)


def test_the_token_is_not_shown_to_the_file_host(
    replicate_emulator: Emulator, made: Any, tmp_path: Path
) -> None:
    replicate_emulator.faults.add("truncated", method="GET", path=r"\.bin$", bytes=100)

    download_outputs.fn(made(output_bytes=5000), tmp_path)

    assert len([one for one in replicate_emulator.requests if one.host == "files"]) == 2
    assert replicate_emulator.requests.file_authorizations == []


@pytest.mark.parametrize("output", ["just text", 42, {"score": 1}, [], {}])
def test_an_output_that_is_no_file_is_an_error(made: Any, tmp_path: Path, output: Any) -> None:
    with pytest.raises(OutputError, match=r"^Prediction \w+ made no files: its output is [^\n]*$"):
        download_outputs.fn(made(output=output), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_gone_are_an_error_of_their_own(
    replicate_emulator: Emulator, made: Any, tmp_path: Path
) -> None:
    done = made(output_bytes=100)
    replicate_emulator.clock.advance(3601)

    with pytest.raises(OutputExpiredError, match=r"are gone: it completed on .* one hour after"):
        download_outputs.fn(done, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_done_has_nothing_to_store(
    still: Emulator, running: Prediction, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=f"{running.id} is 'processing'; only a succeeded"):
        download_outputs.fn(running, tmp_path)


def test_a_destination_that_cannot_be_written_leaves_the_result_paid_and_said(
    made: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match=r"is paid for, but: .*can't be written to[^\n]*$"):
        download_outputs.fn(made(), tmp_path / "file" / "folder")


async def test_the_async_twin_stores_too(made: Any, tmp_path: Path) -> None:
    [file] = await adownload_outputs.fn(made(), tmp_path)

    assert (file.output_path, file.size) == ("", len("output.txt: the timer ran for 0 s\n"))
