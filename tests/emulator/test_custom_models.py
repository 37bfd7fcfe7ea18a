import io
import json
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import replicate
from jsonschema import Draft202012Validator
from PIL import Image

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.artifacts import PictureFile, content_of
from prefect_replicate.emulator.models.custom import custom_model, read_schema
from prefect_replicate.emulator.models.model import Job
from prefect_replicate.emulator.plans import Plan, artifacts_in
from prefect_replicate.emulator.serving import serve
from prefect_replicate.emulator.validation import check_input

URI = {"type": "string", "format": "uri"}


def document(
    output: dict[str, Any], inputs: dict[str, Any] | None = None, **schemas: Any
) -> dict[str, Any]:
    asked = {"type": "object", "title": "Input", "properties": inputs or {}}
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "components": {"schemas": {"Input": asked, "Output": output, **schemas}},
    }


def plan(schema: dict[str, Any], name: str = "acme/model", **values: Any) -> Plan:
    return custom_model(name, schema).planner(Job(name, values, seed=7))


def as_urls(output: Any) -> Any:
    """The output as a reply has it."""
    return json.loads(json.dumps(output, default=lambda file: f"https://x.test/{file.name}"))


NESTED = {
    "type": "object",
    "required": ["segments", "language"],
    "properties": {
        "segments": {"type": "array", "items": {"$ref": "#/components/schemas/Segment"}},
        "language": {"allOf": [{"$ref": "#/components/schemas/Language"}]},
        "audio": URI,
        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
    },
}
PARTS = {
    "Segment": {
        "type": "object",
        "required": ["start", "text"],
        "properties": {
            "start": {"type": "number", "minimum": 0, "maximum": 1},
            "text": {"type": "string", "minLength": 200, "maxLength": 210},
            "speaker": {"type": "string", "nullable": True},
            "at": {"type": "string", "format": "date-time"},
        },
    },
    "Language": {"type": "string", "enum": ["en", "de"]},
    "Tree": {
        "type": "object",
        "properties": {
            "left": {"$ref": "#/components/schemas/Tree"},
            "right": {"$ref": "#/components/schemas/Tree"},
            "others": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
        },
    },
}


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"title": "Output"},
        URI,
        {"type": "string"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "enum": ["yes", "no"]},
        {"type": "boolean"},
        {"type": "null"},
        {"const": 5},
        {"type": "integer"},
        {"type": "integer", "minimum": 3, "maximum": 3},
        {"type": "integer", "maximum": -100},
        {"type": "integer", "minimum": 10, "multipleOf": 7},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": ["number", "null"]},
        {"anyOf": [{"type": "null"}, {"type": "number"}]},
        {"oneOf": [{"type": "string"}, {"type": "number"}]},
        {"type": "array", "items": URI},
        {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        {"type": "array", "items": {"type": "integer"}, "minItems": 5},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
        {
            "type": "array",
            "items": {"type": "string", "enum": ["a", "b"]},
            "x-cog-array-type": "iterator",
        },
        {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"},
        {"type": "array", "items": URI, "x-cog-array-type": "iterator"},
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}]}},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "required": ["a"]},
        {"$ref": "#/components/schemas/Tree", "title": "Output"},
        NESTED,
    ],
    ids=str,
)
def test_an_output_fits_its_schema(output: dict[str, Any]) -> None:
    made = as_urls(plan(document(output, **PARTS)).output)

    validator = Draft202012Validator({**output, "components": {"schemas": PARTS}})
    assert [one.message for one in validator.iter_errors(made)] == []


def test_an_output_follows_from_the_input_and_its_seed() -> None:
    schema = document(NESTED, **PARTS)
    one, same, other = (plan(schema, seed=seed).output for seed in (1, 1, 2))

    assert one == same != other


@pytest.mark.parametrize(
    ("name", "output", "values", "suffix"),
    [
        ("acme/model", URI, {}, "png"),
        ("acme/model", URI, {"output_format": "webp"}, "webp"),
        ("acme/model", URI, {"output_format": "mp3"}, "wav"),
        ("acme/model", {**URI, "title": "Transcript"}, {}, "txt"),
        ("acme/video-upscaler", URI, {}, "mp4"),
        ("acme/video-upscaler", {"type": "object", "properties": {"image": URI}}, {}, "png"),
        ("acme/model", {"type": "object", "properties": {"vocals": URI}}, {}, "wav"),
    ],
)
def test_a_file_is_of_the_kind_that_the_words_around_it_say(
    name: str, output: dict[str, Any], values: dict[str, Any], suffix: str
) -> None:
    made = plan(document(output), name, **values)

    assert [file.name.rpartition(".")[2] for file in artifacts_in(made.output)] == [suffix]


@pytest.mark.parametrize(
    ("inputs", "suffix"),
    [({"voice": {"type": "string"}}, "wav"), ({"fps": {"type": "integer"}}, "mp4")],
)
def test_the_names_of_inputs_say_what_a_model_makes(inputs: dict[str, Any], suffix: str) -> None:
    (file,) = artifacts_in(plan(document(URI, inputs)).output)

    assert file.name == f"out.{suffix}"


def test_as_many_files_are_made_as_the_input_asks_for() -> None:
    made = plan(document({"type": "array", "items": URI}), num_outputs=3)

    assert [file.name for file in artifacts_in(made.output)] == [
        "out-0.png", "out-1.png", "out-2.png",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_pictures_are_real(suffix: str) -> None:
    (file,) = artifacts_in(plan(document(URI), output_format=suffix).output)
    assert isinstance(file, PictureFile)

    picture = Image.open(io.BytesIO(content_of(file)))
    assert (f"image/{str(picture.format).lower()}", picture.size) == (file.media_type, (480, 270))


def test_a_stream_of_text_arrives_bit_by_bit(api: httpx.Client, still: Emulator) -> None:
    schema = document(
        {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"}
    )
    still.add_model("acme/writer", schema, is_official=True, output=["a", "b", "c"], seconds=4)
    created = api.post("/models/acme/writer/predictions", json={"input": {}}).json()

    outputs: list[Any] = []
    for _ in range(5):
        outputs.append(api.get(f"/predictions/{created['id']}").json().get("output"))
        still.clock.advance(1.01)

    assert outputs == [None, ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]


def test_an_output_can_be_given_with_files_of_any_kind(replicate_emulator: Emulator) -> None:
    given = {"picture": "file:a.png", "sounds": ["file:b.wav"], "video": "file:c.mp4", "n": 1}
    version = replicate_emulator.add_model("acme/model", document({}), output=given)
    client = replicate.Client()

    created = client.predictions.create(version=version.partition(":")[2], input={})
    created.wait()
    output = created.output

    assert Image.open(io.BytesIO(httpx.get(output["picture"]).content)).format == "PNG"
    with wave.open(io.BytesIO(httpx.get(output["sounds"][0]).content)) as sound:
        assert sound.getnframes() == 2 * sound.getframerate()
    with av.open(io.BytesIO(httpx.get(output["video"]).content)) as video:
        assert video.streams.video[0].frames == 48
    assert output["n"] == 1


def test_a_community_model_runs_by_its_version_only(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    version = replicate_emulator.add_model("acme/model", document({"type": "integer"}))
    latest = api.get("/models/acme/model").json()["latest_version"]["id"]

    assert version == f"acme/model:{latest}"
    assert isinstance(replicate.Client().run(version, input={}), int)
    assert api.post("/models/acme/model/predictions", json={"input": {}}).status_code == 404


def test_a_model_takes_the_place_of_one_with_the_same_name(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    schema = document(URI, {"subject": {"type": "string"}})
    replicate_emulator.add_model("google/veo-3.1-fast", schema, is_official=True)

    listed = [one["name"] for one in api.get("/models").json()["results"]]
    shown = api.get("/models/google/veo-3.1-fast").json()["latest_version"]["openapi_schema"]

    assert listed.count("veo-3.1-fast") == 1
    assert shown == schema


def test_what_is_added_to_a_running_emulator_is_gone_with_a_reset() -> None:
    emulator = Emulator()
    emulator.add_model("acme/before", document({}))
    with emulator:
        emulator.add_model("acme/after", document({}))
        emulator.reset()
        models = httpx.get(f"{emulator.base_url}/_emulator").json()["models"]

    assert "acme/before" in models
    assert "acme/after" not in models


def test_a_model_is_added_over_http(api: httpx.Client, replicate_emulator: Emulator) -> None:
    control = f"{replicate_emulator.base_url}/_emulator/models"
    added = {"name": "acme/model", "schema": document({}), "output": {"a": 1}}
    version = httpx.post(control, json=added).json()["version"]

    assert replicate.Client().run(version, input={}) == {"a": 1}
    for wrong in ({}, {"name": "acme/model"}, {**added, "colour": "red"}):
        assert httpx.post(control, json=wrong).status_code == 400


LOOP = {"$ref": "#/components/schemas/Loop"}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], r"it has no components\.schemas\.Input"),
        ({"components": {"schemas": {"Output": {}}}}, r"it has no components\.schemas\.Input"),
        ({"id": "5", "openapi_schema": {}}, "this is a whole version"),
        (document({"type": "picture"}), "Output is not a schema"),
        (document({"type": "string", "pattern": "("}), "Output is not a schema"),
        (document({}, {"a": True}), "the input a has no schema"),
        (document({}, {"a": {"allOf": [{"$ref": "#/components/schemas/a"}]}}), "it refers to #/c"),
        (document({"$ref": "https://example.com/x"}), "it refers to https://example.com/x"),
        (document({}, Loop={"anyOf": [LOOP, {"type": "null"}]}), "Loop refers to itself"),
        (document({"minimum": float("nan")}), "is not JSON"),
        (document({"example": object()}), "is not JSON"),
    ],
)
def test_schemas_that_make_no_sense_are_refused(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^the schema of acme/model .*{message}"):
        Emulator().add_model("acme/model", schema)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model", {}, "a model is owner/name, not 'model'"),
        ("a/b/c", {}, "a model is owner/name"),
        ("a/b", {"seconds": -1}, "seconds must be zero or more"),
        ("a/b", {"output": {1, 2}}, "the output of a/b is not JSON"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Emulator().add_model(name, document({}), **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the schema .*x.json: No such file or directory"),
        (b"{", "the schema .*x.json is not JSON"),
        (b"\xff", "the schema .*x.json is not JSON"),
        (b"[" * 100_000, "the schema .*x.json is nested too deeply"),
        (b"{}", "the schema .*x.json is invalid: it has no components"),
    ],
)
def test_a_file_without_a_schema_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match=message) as raised:
        serve(0, schemas={"acme/model": file})
    assert "\n" not in str(raised.value)


def test_a_schema_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document(URI)))

    assert read_schema(file) == document(URI)


def test_the_command_adds_models_and_shows_their_versions(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document({"type": "integer"})))
    command = ["-m", "prefect_replicate.cli", "emulator", "--port", "0", "--official"]
    added = [f"--schema=acme/{name}={file}" for name in ("one", "two")]

    with subprocess.Popen(
        [sys.executable, *command, *added], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "Ctrl-C stops it.\n"))
        origin = lines[0].split()[-1]
        client = replicate.Client(lines[1].split()[-1], base_url=origin)
        outputs = [client.run(one, input={}) for one in ("acme/one", "acme/two")]
        process.send_signal(signal.SIGINT)

    versions = [one.split()[1].partition(":")[0] for one in lines if one.startswith("  model ")]
    assert versions == ["acme/one", "acme/two"]
    assert all(isinstance(one, int) for one in outputs)
    assert process.returncode == 0


NULLABLE_REF = {"allOf": [{"$ref": "#/components/schemas/mode"}], "nullable": True}
MODE = {"type": "string", "enum": ["a", "b"]}
WRONG_TYPE = "Invalid type. Expected: integer,null, given: string"
TOO_LONG = "String length must be less than or equal to 2"


@pytest.mark.parametrize(
    ("field", "value", "findings"),
    [
        ({"type": "string", "nullable": True}, None, []),
        ({"type": "string"}, None, ["Invalid type. Expected: string, given: null"]),
        (NULLABLE_REF, None, []),
        (NULLABLE_REF, "c", ['x must be one of the following: "a", "b"']),
        ({"type": ["integer", "null"]}, None, []),
        ({"type": ["integer", "null"]}, "1", [WRONG_TYPE]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, []),
        ({"anyOf": [{"type": "integer"}]}, "1", ["Must validate at least one schema (anyOf)"]),
        ({"type": "number", "exclusiveMinimum": 0}, 0, ["Must be greater than 0"]),
        ({"type": "string", "maxLength": 2}, "abc", [TOO_LONG]),
        ({"type": "array", "minItems": 1}, [], ["Array must have at least 1 items"]),
        ({"type": "string", "pattern": "^a"}, "b", ["Does not match pattern '^a'"]),
        ({"type": "integer"}, 7.0, []),
        ({"type": "integer"}, 7.5, ["Invalid type. Expected: integer, given: number"]),
        ({"type": "integer"}, True, ["Invalid type. Expected: integer, given: boolean"]),
    ],
)  # fmt: skip
def test_inputs_are_checked_by_any_schema(
    field: dict[str, Any], value: object, findings: list[str]
) -> None:
    schema = document({}, {"x": field}, mode=MODE)

    found = check_input({"x": value}, schema, strict=False)

    assert [one.description for one in found] == findings
