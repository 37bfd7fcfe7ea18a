from __future__ import annotations

import asyncio
import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import acreate_prediction, create_prediction
from prefect_replicate.api.input_files import UPLOAD_BYTES
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import InvalidInputError


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    path.write_bytes(b"a small picture")
    return path


def sent_output(emulator: Emulator, value: Any) -> Any:
    return create_prediction.fn("emulator/timer", {"output": value}).input["output"]


def uploads(emulator: Emulator) -> list[Any]:
    return emulator.requests.matching("POST", "/v1/files")


def uploaded(emulator: Emulator, value: Any) -> bytes:
    """The content of the one file that was uploaded for an input, and whose URL was sent."""
    url = sent_output(emulator, value)
    [upload] = uploads(emulator)
    assert url.startswith(f"{emulator.base_url}/v1/files/")
    assert upload.headers["content-type"].startswith("multipart/form-data")
    return upload.body


@pytest.mark.parametrize("size", [1, 10, 1_000_000])
def test_a_file_of_any_size_is_uploaded(
    replicate_emulator: Emulator, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "frame.jpg"
    path.write_bytes(b"x" * size)

    body = uploaded(replicate_emulator, path)

    assert b'filename="frame.jpg"' in body
    assert b"image/jpeg" in body


def test_an_open_file_is_sent_whole_each_time(replicate_emulator: Emulator, picture: Path) -> None:
    with picture.open("rb") as file:
        first, second = (sent_output(replicate_emulator, file) for _ in range(2))

    assert first == second
    [upload] = uploads(replicate_emulator)
    assert b"a small picture" in upload.body


def test_a_file_without_a_name_is_sent_as_bytes(replicate_emulator: Emulator) -> None:
    body = uploaded(replicate_emulator, io.BytesIO(b"raw"))

    assert b"raw" in body
    assert b"application/octet-stream" in body


def test_a_data_uri_is_uploaded(replicate_emulator: Emulator) -> None:
    body = uploaded(
        replicate_emulator, f"data:image/png;base64,{base64.b64encode(b'raw').decode()}"
    )

    assert b"raw" in body
    assert b'filename="file.png"' in body
    assert b"image/png" in body


@pytest.mark.parametrize(
    "text",
    [
        "data: the robot, not the type",
        "data:image/png;base64,no base64!",
        "data:text/plain,hello",
        "see data:image/png;base64,AAAA",
    ],
)
def test_other_text_is_sent_as_it_is(replicate_emulator: Emulator, text: str) -> None:
    create_prediction.fn("emulator/timer", {"output": text})

    assert uploads(replicate_emulator) == []
    [sent] = replicate_emulator.requests.matching("POST")
    assert sent.json["input"]["output"] == text


def test_files_are_found_at_any_depth(replicate_emulator: Emulator, picture: Path) -> None:
    sent = sent_output(replicate_emulator, {"frames": [picture, ("text", [picture])], "n": 1})

    url = sent["frames"][0]
    assert sent == {"frames": [url, ["text", [url]]], "n": 1}
    assert url.startswith("http")
    assert len(uploads(replicate_emulator)) == 1


async def test_a_file_is_uploaded_once_however_many_calls_use_it(
    account: LocalAccount, picture: Path
) -> None:
    inputs = [{"output": picture, "seed": n} for n in range(10)]

    made = await asyncio.gather(*(acreate_prediction.fn("emulator/timer", one) for one in inputs))

    assert len({one.input["output"] for one in made}) == 1
    assert len(account.traffic.matching("POST", "/v1/files")) == 1


async def test_a_file_that_replicate_has_deleted_is_uploaded_again(
    account: LocalAccount, picture: Path
) -> None:
    first = await acreate_prediction.fn("emulator/timer", {"output": picture})
    await asyncio.sleep(account.platform.behaviour.file_lifetime + 1)

    second = await acreate_prediction.fn("emulator/timer", {"output": picture})

    assert first.input["output"] != second.input["output"]


async def test_a_file_is_used_again_while_it_is_there(account: LocalAccount, picture: Path) -> None:
    first = await acreate_prediction.fn("emulator/timer", {"output": picture})
    await asyncio.sleep(account.platform.behaviour.file_lifetime / 2)

    second = await acreate_prediction.fn("emulator/timer", {"output": picture})

    assert first.input["output"] == second.input["output"]


async def test_none_is_not_sent(account: LocalAccount) -> None:
    await acreate_prediction.fn("emulator/timer", {"prompt": "a fox", "seed": None})

    [sent] = account.traffic.matching("POST")
    assert sent.json["input"] == {"prompt": "a fox"}


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
    with pytest.raises(InvalidInputError, match="is a folder"):
        sent_output(replicate_emulator, tmp_path)


def test_a_file_that_is_open_as_text_is_refused(
    replicate_emulator: Emulator, picture: Path
) -> None:
    with (
        picture.open() as text,
        pytest.raises(InvalidInputError, match="opened as text; open it with mode 'rb'"),
    ):
        sent_output(replicate_emulator, text)


def test_a_closed_file_is_refused(replicate_emulator: Emulator, picture: Path) -> None:
    with picture.open("rb") as file:
        pass

    with pytest.raises(InvalidInputError, match=r"'frame.png' can't be read: .*closed file"):
        sent_output(replicate_emulator, file)


def test_a_lost_create_with_a_file_is_adopted(
    still: Emulator, impatient: None, picture: Path
) -> None:
    still.faults.add("lost_reply", method="POST", path="/predictions$")

    adopted = create_prediction.fn("emulator/timer", {"seconds": 9, "output": picture})

    assert [one.id for one in still.predictions] == [adopted.id]
    assert len(uploads(still)) == 1


async def test_an_upload_that_fails_is_repeated(account: LocalAccount, picture: Path) -> None:
    account.faults.add("error_page", method="POST", path="/v1/files$")

    created = await acreate_prediction.fn("emulator/timer", {"output": picture})

    assert created.input["output"].startswith("http")
    assert len(account.traffic.matching("POST", "/v1/files")) == 2
    assert account.predictions.create_requests == 1
