from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from benchmarks.local_account import LocalAccount
from scripted_api import ScriptedAPI, served

from prefect_replicate import (
    PollPolicy,
    apredict,
    create_prediction,
    predict,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import (
    ConfigurationError,
    InvalidInputError,
    OutputError,
    OutputExpiredError,
    PredictionFailedError,
    PredictionTimeoutError,
)

TIMER = "emulator/timer"
TEXT = {"type": "array", "items": {"type": "string"}, "x-cog-array-display": "concatenate"}


def test_a_prediction_is_made_waited_for_and_stored(
    replicate_emulator: Emulator, tmp_path: Path, quick: PollPolicy
) -> None:
    made = predict.fn(TIMER, {"seconds": 0.1}, destination=tmp_path, policy=quick)

    [file] = made.files
    assert made.prediction.is_succeeded
    assert Path(file.location).read_text().startswith("output.txt")
    assert replicate_emulator.predictions.create_requests == 1


async def test_its_twin_does_the_same(account: LocalAccount, tmp_path: Path) -> None:
    made = await apredict.fn(TIMER, {"seconds": 100, "output": {"a": [1, "x"]}})

    assert (made.output, made.text, made.files) == ({"a": [1, "x"]}, None, [])


def test_without_a_destination_nothing_is_stored(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    made = predict.fn(TIMER, {"seconds": 0}, policy=quick)

    assert made.files == []
    assert made.output.startswith("http")


@pytest.mark.parametrize(
    ("rules", "output", "text"),
    [
        (TEXT, ["Foxes ", "laugh", "."], "Foxes laugh."),
        (TEXT, [], ""),
        ({"type": "string"}, "whole", "whole"),
        ({"type": "array", "items": {"type": "string"}}, ["a", "b"], None),
        ({"type": "string", "format": "uri"}, "https://replicate.delivery/a.png", None),
        ({"title": "Output"}, [0.5, 1], None),
    ],
)
def test_the_schema_says_how_an_output_is_shown(
    scripted: ScriptedAPI, tmp_path: Path, rules: dict[str, Any], output: Any, text: str | None
) -> None:
    document = {"components": {"schemas": {"Input": {"properties": {}}, "Output": rules}}}
    page = {"latest_version": {"id": "0" * 64, "openapi_schema": document}, "is_official": True}
    done = {"id": uuid4().hex, "status": "succeeded", "model": "owner/name", "output": output}
    scripted.says(page, done)

    made = predict.fn("owner/name", {}, scripted.credentials)

    assert made.output == (text if text is not None else output)
    assert made.text == text


@pytest.mark.parametrize("act", [predict.fn, create_prediction.fn], ids=["predict", "create"])
@pytest.mark.parametrize(
    ("input", "told"),
    [
        ({"secnods": 9}, r"'secnods' is unknown \(did you mean 'seconds'\?\)"),
        ({"seconds": "9"}, r"seconds takes a number, not '9'"),
        ({"outcome": "great"}, "outcome must be 'succeeded' or 'failed'"),
        ({"log_lines": -1}, "log_lines must be at least 0, not -1"),
        ({"log_lines": 1.5, "x": 1}, "log_lines takes an integer, not 1.5; 'x' is unknown"),
    ],
)
def test_a_wrong_input_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, act: Any, input: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        act(TIMER, input)
    assert replicate_emulator.predictions.create_requests == 0


def test_an_input_is_sent_unchecked_where_the_schema_is_known_to_be_wrong(
    replicate_emulator: Emulator,
) -> None:
    with pytest.raises(InvalidInputError, match="was not started"):
        predict.fn(TIMER, {"seconds": -1}, check_input=False)
    assert len(replicate_emulator.requests.matching("POST")) == 1


def test_a_result_goes_straight_into_the_next_model(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path
) -> None:
    first = predict.fn(TIMER, {"seconds": 0}, policy=quick, destination=tmp_path)

    of_output = create_prediction.fn(TIMER, {"seconds": 0, "image": first})
    of_file = create_prediction.fn(TIMER, {"seconds": 0, "image": first.files[0]})
    of_prediction = create_prediction.fn(TIMER, {"seconds": 0, "image": first.prediction})

    assert of_output.input["image"] == of_prediction.input["image"] == first.output
    assert of_file.input["image"] == first.files[0].source


def test_of_several_files_one_has_to_be_chosen(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path
) -> None:
    two = {"seconds": 0, "output": ["file:a.png", "file:b.png"]}
    first = predict.fn(TIMER, two, policy=quick, destination=tmp_path)

    with pytest.raises(InvalidInputError, match="image takes a URL or a file, not"):
        create_prediction.fn(TIMER, {"seconds": 0, "image": first})


def test_a_destination_that_is_none_is_said_before_anything_is_paid(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="can't be written to"):
        predict.fn(TIMER, {}, destination=tmp_path / "file" / "below")
    assert replicate_emulator.predictions.create_requests == 0


def test_a_failure_and_a_limit_are_as_those_of_a_wait(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    with pytest.raises(PredictionFailedError, match="NSFW"):
        predict.fn(TIMER, {"outcome": "failed", "error": "NSFW content"}, policy=quick)
    with pytest.raises(PredictionTimeoutError, match="not done"):
        predict.fn(TIMER, {"seconds": 1000}, timeout=0.2, policy=quick)
    assert replicate_emulator.predictions.live() == []


def test_a_text_that_replicate_has_deleted_is_not_handed_out_as_none(
    scripted: ScriptedAPI,
) -> None:
    page = {"latest_version": None, "is_official": True}
    id = uuid4().hex
    done = {"id": id, "status": "succeeded", "output": None, "data_removed": True}
    scripted.says(page, done)

    with pytest.raises(OutputExpiredError, match=f"The output of prediction {id} is gone"):
        predict.fn("owner/name", {}, scripted.credentials)


@pytest.mark.parametrize("is_allowed", [False, True])
def test_files_on_other_hosts_are_stored_where_the_credentials_allow_it(
    scripted: ScriptedAPI, tmp_path: Path, is_allowed: bool
) -> None:
    with served() as host:
        host.says((200, "a picture", {"content-type": "image/png"}))
        elsewhere = host.base_url.replace("127.0.0.1", "localhost")
        urls = [f"{scripted.base_url}/v1/files/abc", f"{elsewhere}/b.png"]
        page = {"latest_version": None, "is_official": True}
        scripted.routes["/v1/files"] = (200, "another", {"content-type": "image/png"})
        scripted.says(page, {"id": uuid4().hex, "status": "succeeded", "output": urls})
        allowed = [elsewhere.removeprefix("http://")] if is_allowed else []
        credentials = scripted.credentials.model_copy(update={"allowed_hosts": allowed})

        try:
            files = predict.fn("owner/name", {}, credentials, destination=tmp_path).files
        except OutputError as exc:
            assert "add 'localhost:" in str(exc)  # noqa: PT017 it is one of two outcomes
            assert str(exc).endswith("1 of 2 files are stored.")  # noqa: PT017
            files = exc.files

    assert [Path(one.location).read_text() for one in files] == ["another", "a picture"][
        : 1 + is_allowed
    ]
