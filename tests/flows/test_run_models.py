from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from prefect_replicate import ModelRequest, PollPolicy, arun_models, run_models
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import BatchError, InvalidInputError

TIMER, LANGUAGE, PICTURE = "emulator/timer", "emulator/language", "emulator/picture"


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"policy": quick, "destination": tmp_path / "outputs"}


@pytest.mark.smoke
def test_each_item_is_stored_files_as_they_are_texts_and_json_as_files(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    asked: list[Any] = [
        {"output": "file:a.png"},
        {"output": "Foxes laugh."},
        ModelRequest(input={"output": {"a": "ü"}}, id="json"),
        {"model": PICTURE, "prompt": "a fox"},
    ]

    made = run_models(asked, TIMER, **options)

    picture, text, data, other = (Path(one.files[0].location) for one in made.outcomes)
    assert [one.suffix for one in (picture, text, data, other)] == [
        ".png",
        ".txt",
        ".json",
        ".webp",
    ]
    assert text.read_text() == "Foxes laugh."
    assert json.loads(data.read_text()) == {"a": "ü"}
    assert [one.output for one in made.outcomes] == [None, "Foxes laugh.", {"a": "ü"}, None]
    assert [one.id for one in made.outcomes] == [None, None, "json", None]


async def test_a_text_is_a_prompt_and_what_a_model_writes_is_put_together(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = await arun_models(["What do foxes eat?", "And owls?"], LANGUAGE, **options)

    assert all(isinstance(one.output, str) and len(one.output) > 3 for one in made.succeeded)
    assert [one.prompt for one in made.outcomes] == ["What do foxes eat?", "And owls?"]


def test_the_table_is_named_after_what_is_made(
    replicate_emulator: Emulator, options: dict[str, Any], artifacts: Callable[..., list[Any]]
) -> None:
    state: Any = run_models(["a fox"], PICTURE, **options, return_state=True)

    assert [one.key for one in artifacts(state, "table")] == ["model-outputs"]
    assert [one.key for one in artifacts(state, "markdown")] == ["model-outputs-gallery"]


def test_a_long_text_is_in_its_file_alone(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = run_models([{"output": "x" * 100_000}], TIMER, {"seconds": 0}, **options)

    assert made.outcomes[0].output is None
    assert len(Path(made.outcomes[0].files[0].location).read_text()) == 100_000


CSV = 'seconds,output,log_lines,id\n0,"{""a"": 1}",2,one\n0.1,"a text",,two\n'
JSONL = """\
{"seconds": 0, "output": {"a": 1}, "log_lines": 2, "id": "one"}
{"seconds": 0.1, "output": "a text", "id": "two"}
"""
NAMED = 'input.seconds,input.output,input.log_lines,id\n0,"{""a"": 1}",2,one\n0.1,"a text",,two\n'


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", CSV), ("a.jsonl", JSONL), ("b.csv", NAMED)]
)
def test_the_columns_of_a_file_are_the_models_own_inputs(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    tmp_path: Path,
    name: str,
    content: str,
) -> None:
    path = tmp_path / name
    path.write_text(content)

    made = run_models(model=TIMER, path=path, **options)

    inputs = {one.id: one.input for one in replicate_emulator.predictions}
    first, second = (inputs[str(one.prediction_id)] for one in made.outcomes)
    assert (first["seconds"], first["log_lines"]) == (0, 2)
    assert (second["seconds"], second["output"]) == (0.1, "a text")
    assert [one.id for one in made.outcomes] == ["one", "two"]


UNKNOWN_COLUMNS = [
    ("a.csv", "secnods,colour,id\n0,red,one\n1,blue,two\n",
     r"a\.csv has unknown columns: 'secnods' \(did you mean 'seconds'\?\), 'colour'; accepted for"
     rf" {TIMER} are [^\n]*seconds, [^\n]*, model, id\. Nothing was paid\.$"),
    ("a.csv", "input.colour,output\nred,a\n", "unknown columns: 'colour'; accepted for"),
    ("a.jsonl", '{"seconds": 0}\n{"colour": "red"}\n', "a.jsonl has unknown columns: 'colour'"),
    ("a.csv", f"model,prompt,seconds\n{LANGUAGE},a fox,\n{PICTURE},a fox,1\n",
     f"unknown columns: 'seconds'; accepted for {PICTURE} are prompt, "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), UNKNOWN_COLUMNS)
def test_a_column_that_the_model_has_no_input_for_fails_the_batch_once_unpaid(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    tmp_path: Path,
    name: str,
    content: str,
    said: str,
) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(InvalidInputError, match=said):
        run_models(model=TIMER, path=tmp_path / name, **options)
    assert replicate_emulator.predictions.create_requests == 0


def test_a_column_is_not_checked_if_inputs_are_not_to_be(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("seconds,colour\n0,red\n")

    run_models(model=TIMER, path=tmp_path / "a.csv", check_input=False, **options)

    assert [one.input["colour"] for one in replicate_emulator.predictions] == ["red"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_file_with_other_separators_than_commas_is_refused_by_that_name(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path, separator: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"prompt{separator}seed\na fox{separator}7\n")

    with pytest.raises(InvalidInputError, match=r"a\.csv must be separated by commas, not by"):
        run_models(model=LANGUAGE, path=path, **options)
    assert len(replicate_emulator.requests) == 0


def test_variations_differ_from_the_input_of_all(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    base = {"seconds": 0, "output": "a"}
    made = run_models(model=TIMER, input=base, variations=[{}, {"output": "b"}], **options)

    assert [one.output for one in made.outcomes] == ["a", "b"]


def test_an_item_that_takes_nothing_is_made(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = run_models([{}], TIMER, **options)

    assert [one.state for one in made.outcomes] == ["succeeded"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"requests": ["a"], "variations": [{}]},
            "exactly one of `requests`, `prompts`, `variations`",
        ),
        ({"requests": ["a"], "model": None}, "`model` is not given, and not all items name one"),
        ({"requests": []}, "The batch is empty"),
        ({"requests": [{"model": "fox"}]}, "'fox' is not a model reference"),
        ({"requests": [{"input": 5}]}, "input 5 should be a valid dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, options: dict[str, Any], asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        run_models(**{"model": TIMER, **asked, **options})
    assert replicate_emulator.predictions.create_requests == 0


def test_a_wrong_input_fails_its_item_alone_unpaid(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    asked: list[Any] = [{"secnods": 1}, {"seconds": "soon"}, {"seconds": 0}]

    with pytest.raises(BatchError, match="did you mean 'seconds'") as failed:
        run_models(asked, TIMER, **options)

    assert [one.state for one in failed.value.videos.outcomes] == ["failed", "failed", "succeeded"]
    assert replicate_emulator.predictions.create_requests == 1


def test_a_retry_redoes_only_what_is_not_done(
    replicate_emulator: Emulator, options: dict[str, Any], forget: Callable[..., None]
) -> None:
    found: list[Any] = []

    @flow(retries=1)
    def batch() -> None:
        asked: list[Any] = [{"output": "a"}, {"output": {"b": 1}}, {"output": "file:c.png"}]
        found.append(run_models(asked, TIMER, {"seconds": 0}, **options))
        if len(found) == 1:
            replicate_emulator.clock.advance(2 * 3600)
            forget("ledgers", "process", "taken")
            raise RuntimeError

    batch()

    first, second = ([one.files[0].sha256 for one in made.outcomes] for made in found)
    assert first == second
    assert [one.output for one in found[1].outcomes] == ["a", {"b": 1}, None]
    assert replicate_emulator.predictions.create_requests == 3


def test_what_is_no_file_of_an_output_with_files_is_stored_too(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    output = {"image": "file:a.png", "caption": "a fox", "score": 0.7}

    made = run_models([{"output": output}], TIMER, **options)

    picture, data = (Path(one.location) for one in made.outcomes[0].files)
    assert picture.suffix == ".png"
    assert json.loads(data.read_text())["caption"] == "a fox"
    assert made.outcomes[0].output["score"] == 0.7


ANYTHING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "count": {"type": "integer"},
        "anything": {},
    },
}


@pytest.fixture
def echo(replicate_emulator: Emulator) -> str:
    schema = {"components": {"schemas": {"Input": ANYTHING, "Output": {"type": "string"}}}}
    replicate_emulator.add_model("acme/echo", schema, output="done")
    return "acme/echo"


@pytest.mark.parametrize("given", ['"quoted"', "null", "2024", "true", '["a"]', "7.10"])
def test_a_text_stays_one_where_the_model_takes_a_text(
    replicate_emulator: Emulator, options: dict[str, Any], echo: str, given: str
) -> None:
    run_models([{"text": given, "either": given}], echo, **options)

    [prediction] = replicate_emulator.predictions
    assert prediction.input == {"text": given, "either": given}


def test_the_cells_of_a_file_are_read_by_the_models_types(
    replicate_emulator: Emulator, options: dict[str, Any], echo: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        'input.text,input.count,input.anything,,\n2024,7,"[1, 2]",,\n"""q""",8,7.10,,\n'
    )

    run_models(model=echo, path=path, **options)

    assert sorted((one.input for one in replicate_emulator.predictions), key=str) == [
        {"text": '"q"', "count": 8, "anything": "7.10"},
        {"text": "2024", "count": 7, "anything": [1, 2]},
    ]


def test_open_files_are_told_apart_by_what_is_in_them(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG a picture")

    with (tmp_path / "a.png").open("rb") as file:
        made = run_models([{"output": "a", "image": file}], TIMER, {"seconds": 0}, **options)

    assert made.outcomes[0].output == "a"


def test_each_line_of_the_prompts_is_an_item(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = run_models(prompts=["a fox\n\n an owl ", "a hare"], model=LANGUAGE, **options)

    assert [one.prompt for one in made.outcomes] == ["a fox", "an owl", "a hare"]


def test_requests_and_prompts_are_not_given_together(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"`requests` or `prompts`, not both"):
        run_models(["a fox"], LANGUAGE, prompts=["an owl"], **options)
