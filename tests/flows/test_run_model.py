from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, unmapped

from prefect_replicate import (
    ModelOutput,
    PollPolicy,
    apredict,
    arun_model,
    cli,
    predict,
    run_model,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import InvalidInputError, OutputExpiredError

Artifacts = Callable[..., list[Any]]
TIMER = "emulator/timer"


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"policy": quick, "destination": tmp_path / "outputs"}


@pytest.mark.smoke
def test_files_are_stored_and_the_rest_is_returned(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    output = {"picture": "file:a.png", "score": 0.5, "label": "a fox"}

    made = run_model(TIMER, {"seconds": 0, "output": output}, **options)

    [file] = made.files
    assert file.output_path == "picture"
    assert Path(file.location).is_file()
    assert (made.output["score"], made.output["label"], made.text) == (0.5, "a fox", None)


async def test_its_twin_returns_a_text(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = await arun_model(TIMER, {"seconds": 0, "output": "Foxes laugh."}, **options)

    assert (made.text, made.files) == ("Foxes laugh.", [])


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("A fox | laughs\n<b>loudly</b>", ["> A fox \\| laughs", "> &lt;b&gt;loudly&lt;/b&gt;"]),
        ({"scores": [1, 2]}, ["```json", '  "scores": [']),
        ("```", ["> \\`\\`\\`"]),
        ({"code": "```"}, ["````json"]),
        ("", ["> "]),
    ],
)
def test_the_page_shows_what_it_is(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    artifacts: Artifacts,
    output: Any,
    shown: list[str],
) -> None:
    state = run_model(TIMER, {"seconds": 0, "output": output}, **options, return_state=True)

    page = artifacts(state, "markdown")[-1]
    assert page.key == "model-output"
    lines = page.data.splitlines()
    assert all(any(line.startswith(one) for line in lines) for one in shown)


def test_a_wrong_input_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=r"'secnods' is unknown \(did you mean"):
        run_model(TIMER, {"secnods": 1}, **options)
    assert replicate_emulator.predictions.create_requests == 0


def test_a_text_is_a_local_file_where_the_model_takes_one(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    picture = tmp_path / "a picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")

    made = run_model(TIMER, {"seconds": 0, "image": str(picture)}, **options)

    assert "/v1/files/" in made.prediction.input["image"]


def test_an_emptied_field_of_a_form_is_no_file(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = run_model(TIMER, {"seconds": 0, "image": " "}, **options)

    assert "image" not in made.prediction.input


def test_one_result_goes_into_the_next_model(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    @flow
    def chain() -> ModelOutput:
        first = run_model(TIMER, {"seconds": 0, "output": "file:a.png"}, **options)
        return run_model(TIMER, {"seconds": 0, "image": first.files[0]}, **options)

    made = chain()

    assert made.prediction.input["image"].endswith("a.png")


async def test_predict_is_submitted_mapped_and_retried_as_any_task(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    stubborn = predict.with_options(retries=1, retry_delay_seconds=0)
    replicate_emulator.faults.add("insufficient_credit", method="POST", times=1)

    @flow
    def many() -> list[Any]:
        inputs = [{"seconds": 0, "output": number} for number in (1, 2, 3)]
        submitted = stubborn.submit(TIMER, {"seconds": 0, "output": 4}, policy=quick).result()
        mapped = predict.map(TIMER, inputs, policy=unmapped(quick))
        return [one.output for one in [*mapped.result(), submitted]]

    @flow
    async def gathered() -> list[Any]:
        inputs = [{"seconds": 0, "output": number} for number in (5, 6)]
        return [one.output for one in await asyncio.gather(*(apredict(TIMER, i) for i in inputs))]

    assert await asyncio.to_thread(many) == [1, 2, 3, 4]
    assert await gathered() == [5, 6]


@pytest.mark.parametrize(
    ("output", "printed"),
    [("Foxes laugh.", "Foxes laugh.\n"), ({"a": "ü"}, '{"a": "ü"}\n'), (None, None)],
)
def test_the_command_prints_a_text_json_or_paths(
    replicate_emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: Any,
    printed: str | None,
) -> None:
    asked = [f"output={output if isinstance(output, str) else __import__('json').dumps(output)}"]

    code = cli.run(
        TIMER, input=["seconds=0", *(asked if output else [])], destination=str(tmp_path)
    )

    out = capsys.readouterr().out
    assert code == 0
    assert out == printed if printed else Path(out.strip()).is_file()


def test_the_command_shows_what_a_model_takes(
    replicate_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.inputs("bytedance/seedance-1-lite")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["INPUT", "TAKES", "DEFAULT", "ABOUT"]
    assert lines[1].startswith("prompt * ")
    assert any(line.startswith("aspect_ratio ") and "'16:9'" in line for line in lines)
    assert lines[-1] == "* required. It makes files."


@pytest.mark.parametrize("output", ["Foxes laugh.", {"scores": [1, 2]}])
def test_a_retry_still_has_a_text_that_replicate_has_deleted(
    still: Emulator, options: dict[str, Any], output: Any, forget: Callable[..., None]
) -> None:
    attempts = list[int]()

    @flow(retries=1)
    def pipeline() -> Any:
        made = run_model(TIMER, {"seconds": 0, "output": output}, **options)
        attempts.append(1)
        if len(attempts) == 1:
            still.clock.advance(2 * 3600)
            forget("ledgers", "ancestries", "process")
            raise RuntimeError
        return made.output

    assert pipeline() == output
    assert still.predictions.create_requests == 1


def test_a_retry_does_not_take_the_link_of_a_deleted_file_for_a_text(
    still: Emulator, quick: PollPolicy, forget: Callable[..., None]
) -> None:
    attempts = list[int]()

    @flow(retries=1)
    def pipeline() -> ModelOutput:
        made = predict(TIMER, {"seconds": 0, "output": "file:a.png"}, policy=quick)
        attempts.append(1)
        if len(attempts) == 1:
            still.clock.advance(2 * 3600)
            forget("ledgers", "ancestries", "process")
            raise RuntimeError
        return made

    with pytest.raises(OutputExpiredError):
        pipeline()
    assert still.predictions.create_requests == 1


def test_a_model_that_makes_no_files_needs_no_place_for_them(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    where = {**options, "destination": "/proc/nowhere"}

    made = run_model("emulator/language", {"prompt": "What do foxes eat?"}, **where)

    assert made.text


def test_a_secret_in_the_parameters_is_warned_of(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    secret = {"type": "string", "format": "password", "x-cog-secret": True, "writeOnly": True}
    schema = {
        "components": {
            "schemas": {
                "Input": {"type": "object", "properties": {"api_key": secret}},
                "Output": {"type": "string"},
            }
        }
    }
    replicate_emulator.add_model("acme/secret", schema, output="done")

    run_model("acme/secret", {"api_key": "hush-hush-hush"}, **options)

    assert "'api_key' is secret, but it is in the parameters of this run" in caplog.text
