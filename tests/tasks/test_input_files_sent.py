from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import acreate_prediction, create_prediction
from prefect_replicate.api.input_files import INLINE_BYTES, UPLOAD_BYTES
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import InvalidInputError


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    path.write_bytes(b"a small picture")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "frame.jpg"
    path.write_bytes(b"x" * (INLINE_BYTES + 1))
    return path


def sent_output(emulator: Emulator, value: Any) -> Any:
    return create_prediction.fn("emulator/timer", {"output": value}).input["output"]


def uploads(emulator: Emulator) -> list[Any]:
    return emulator.requests.matching("POST", "/v1/files")


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def test_a_small_file_is_sent_inline(replicate_emulator: Emulator, small: Path) -> None:
    assert sent_output(replicate_emulator, small) == data_uri(b"a small picture")
    assert uploads(replicate_emulator) == []


def test_an_open_file_is_sent_whole_each_time(replicate_emulator: Emulator, small: Path) -> None:
    with small.open("rb") as file:
        sent = [sent_output(replicate_emulator, file) for _ in range(2)]

    assert sent == [data_uri(b"a small picture")] * 2


def test_a_file_without_a_name_is_sent_as_bytes(replicate_emulator: Emulator) -> None:
    sent = sent_output(replicate_emulator, io.BytesIO(b"raw"))

    assert sent == data_uri(b"raw", "application/octet-stream")


def test_the_largest_inline_file_is_inline(replicate_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(b"x" * INLINE_BYTES)

    assert sent_output(replicate_emulator, path).startswith("data:image/png;base64,")


def test_a_larger_file_is_uploaded_once(replicate_emulator: Emulator, large: Path) -> None:
    url = sent_output(replicate_emulator, large)

    [upload] = uploads(replicate_emulator)
    assert url.startswith(f"{replicate_emulator.base_url}/v1/files/")
    assert upload.headers["content-type"].startswith("multipart/form-data")
    assert b'filename="frame.jpg"' in upload.body
    assert b"image/jpeg" in upload.body


def test_files_are_found_at_any_depth(replicate_emulator: Emulator, small: Path) -> None:
    sent = sent_output(replicate_emulator, {"frames": [small, ("text", [small])], "n": 1})

    uri = data_uri(b"a small picture")
    assert sent == {"frames": [uri, ["text", [uri]]], "n": 1}


def test_a_file_of_more_than_100_mb_is_refused(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), UPLOAD_BYTES + 1)  # sparse: it takes no room

    with pytest.raises(InvalidInputError, match=r"huge.mp4' is larger than the 100 MB .*its URL"):
        sent_output(replicate_emulator, huge)
    assert len(replicate_emulator.requests) == 0


def test_an_open_file_of_more_than_100_mb_is_refused(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), UPLOAD_BYTES + 1)

    with (
        huge.open("rb") as file,
        pytest.raises(InvalidInputError, match="larger than the 100 MB"),
    ):
        sent_output(replicate_emulator, file)
    assert len(replicate_emulator.requests) == 0


def test_a_missing_file_is_said_before_anything_is_sent(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=r"no.png' can't be read: No such file.*Nothing wa"):
        sent_output(replicate_emulator, tmp_path / "no.png")
    assert len(replicate_emulator.requests) == 0


def test_a_folder_is_not_a_file(replicate_emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="can't be read: Is a directory"):
        sent_output(replicate_emulator, tmp_path)


def test_a_file_that_is_open_as_text_is_refused(replicate_emulator: Emulator, small: Path) -> None:
    with (
        small.open() as text,
        pytest.raises(InvalidInputError, match="open as text; open it with mode 'rb'"),
    ):
        sent_output(replicate_emulator, text)


def test_a_closed_file_is_refused(replicate_emulator: Emulator, small: Path) -> None:
    with small.open("rb") as file:
        pass

    with pytest.raises(InvalidInputError, match=r"'frame.png' can't be read: .*closed file"):
        sent_output(replicate_emulator, file)


def test_a_lost_create_with_a_file_is_adopted(
    still: Emulator, impatient: None, large: Path, small: Path
) -> None:
    still.faults.add("lost_reply", method="POST", path="/predictions$")

    adopted = create_prediction.fn("emulator/timer", {"seconds": 9, "output": [large, small]})

    assert [one.id for one in still.predictions] == [adopted.id]
    assert len(uploads(still)) == 1


async def test_an_upload_that_fails_is_repeated(account: LocalAccount, large: Path) -> None:
    account.faults.add("error_page", method="POST", path="/v1/files$")

    created = await acreate_prediction.fn("emulator/timer", {"output": large})

    assert created.input["output"].startswith("http")
    assert len(account.traffic.matching("POST", "/v1/files")) == 2
    assert account.predictions.create_requests == 1
