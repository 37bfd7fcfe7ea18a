from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.model_schema import ModelSchema, validate_input


def document(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> Any:
    """An `openapi_schema` as Cog writes it; `more` are schemas beside `Input`."""
    root: dict[str, Any] = {"type": "object", "title": "Input", "properties": properties}
    if required:
        root["required"] = list(required)
    return {"openapi": "3.0.2", "components": {"schemas": {"Input": root, **more}}}


def read(properties: dict[str, Any], *required: str, **more: Any) -> ModelSchema:
    return ModelSchema.from_openapi(document(properties, required, **more))


# bytedance/seedance-1-lite, shortened.
SEEDANCE = read(
    {
        "fps": {"allOf": [{"$ref": "#/components/schemas/fps"}], "default": 24, "x-order": 6},
        "seed": {"type": "integer", "title": "Seed", "x-order": 9},
        "image": {"type": "string", "format": "uri", "x-order": 1},
        "prompt": {"type": "string", "title": "Prompt", "x-order": 0},
        "duration": {"type": "integer", "default": 5, "minimum": 2, "maximum": 12, "x-order": 3},
        "resolution": {
            "allOf": [{"$ref": "#/components/schemas/resolution"}],
            "default": "720p",
            "description": "Video resolution",
            "x-order": 4,
        },
        "camera_fixed": {"type": "boolean", "default": False, "x-order": 7},
        "reference_images": {
            "type": "array",
            "items": {"type": "string", "format": "uri"},
            "maxItems": 4,
            "x-order": 8,
        },
        "openai_api_key": {"type": "string", "format": "password", "maxLength": 3, "x-order": 10},
    },
    "prompt",
    fps={"enum": [24], "type": "integer"},
    resolution={"enum": ["480p", "720p", "1080p"], "type": "string", "title": "resolution"},
)


def test_names_are_in_the_order_that_replicate_shows():
    assert SEEDANCE.names[:5] == ("prompt", "image", "duration", "resolution", "fps")


def test_an_enum_by_reference_keeps_what_stands_beside_it():
    resolution = SEEDANCE.property("resolution")

    assert resolution is not None
    assert resolution.type == "string"
    assert resolution.enum == ("480p", "720p", "1080p")
    assert resolution.default == "720p"
    assert resolution.description == "Video resolution"


def test_a_property_tells_its_bounds_and_whether_it_is_required():
    duration, prompt = SEEDANCE.property("duration"), SEEDANCE.property("prompt")

    assert duration is not None
    assert prompt is not None
    assert (duration.minimum, duration.maximum, duration.is_required) == (2, 12, False)
    assert (prompt.minimum, prompt.enum, prompt.is_required) == (None, (), True)
    assert SEEDANCE.property("length") is None


@pytest.mark.parametrize(
    "rules",
    [
        {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        {"type": ["string", "null"], "format": "uri"},
        {"type": "string", "format": "uri", "nullable": True},
        {"allOf": [{"$ref": "#/components/schemas/Image"}], "nullable": True},
        {"anyOf": [{"$ref": "#/components/schemas/Image"}, {"type": "null"}]},
    ],
)
def test_every_way_to_write_an_optional_file_is_read(rules: dict[str, Any]):
    image = read({"image": rules}, Image={"type": "string", "format": "uri"}).property("image")

    assert image is not None
    assert (image.type, image.format, image.is_file, image.is_nullable) == (
        "string",
        "uri",
        True,
        True,
    )
    assert image.problems(None) == []
    assert image.problems(5) == ["image takes a URL or a file, not 5"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"duration": 30}, "duration must be from 2 to 12, not 30"),
        ({"duration": "5"}, "duration takes an integer, not '5'"),
        ({"duration": True}, "duration takes an integer, not True"),
        ({"duration": 5.5}, "duration takes an integer, not 5.5"),
        ({"resolution": "4k"}, "resolution must be '480p', '720p' or '1080p', not '4k'"),
        ({"resolution": 720}, "resolution must be '480p', '720p' or '1080p', not 720"),
        ({"fps": 25}, "fps must be 24, not 25"),
        ({"seed": None}, "seed takes an integer, not None"),
        ({"camera_fixed": "yes"}, "camera_fixed takes True or False, not 'yes'"),
        ({"image": "cat.png"}, "image takes a URL or a file, not 'cat.png'"),
        ({"image": r"C:\cat.png"}, r"image takes a URL or a file, not 'C:\\cat.png'"),
        ({"image": ""}, "image takes a URL or a file, not ''"),
        ({"image": ["https://x.org/1.png"]}, "image takes a URL or a file, not ['https://x.or"),
        ({"prompt": Path("cat.txt")}, "prompt takes a string, not a file"),
        ({"prompt": io.BytesIO(b"")}, "prompt takes a string, not a file"),
        ({"seed": [1]}, "seed takes an integer, not [1]"),
        (
            {"reference_images": "https://x.org/1.png"},
            "reference_images takes a list of URLs or files, not 'https://x.org/1.png'",
        ),
        (
            {"reference_images": ["https://x.org/1.png", 2]},
            "reference_images[1] takes a URL or a file, not 2",
        ),
        (
            {"reference_images": ["https://x.org/1.png"] * 5},
            "reference_images must have at most 4 items, not 5",
        ),
        ({"resolutoin": "720p"}, "'resolutoin' is unknown (did you mean 'resolution'?)"),
        ({"zzz": 1}, "'zzz' is unknown"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(given: dict[str, Any], problem: str):
    (told,) = SEEDANCE.problems({"prompt": "a cat", **given})

    assert told.startswith(problem)


@pytest.mark.parametrize(
    "given",
    [
        {"duration": 2},
        {"duration": 5.0},
        {"resolution": "1080p"},
        {"image": "https://x.org/cat.png"},
        {"image": "data:image/png;base64,AAAA"},
        {"image": Path("cat.png")},
        {"image": io.BytesIO(b"")},
        {"reference_images": ["https://x.org/1.png", Path("2.png"), io.BytesIO(b"")]},
        {"reference_images": (Path("1.png"),)},
    ],
)
def test_what_the_model_takes_is_no_problem(given: dict[str, Any]):
    assert SEEDANCE.problems({"prompt": "a cat", **given}) == []


def test_a_text_file_is_no_upload(tmp_path: Path):
    (tmp_path / "cat.txt").write_text("cat")

    with (tmp_path / "cat.txt").open() as text:
        (told,) = SEEDANCE.problems({"prompt": "a cat", "image": text})

    assert told.startswith("image takes a URL or a file, not ")


def test_all_problems_are_told_at_once():
    assert SEEDANCE.problems({"duration": 1, "seed": "x", "colour": "red"}) == [
        "prompt is missing",
        "duration must be from 2 to 12, not 1",
        "seed takes an integer, not 'x'",
        "'colour' is unknown",
    ]


def test_a_name_that_the_caller_reports_on_is_left_out():
    assert SEEDANCE.problems({"duration": 1}, told=("prompt", "duration")) == []


def test_a_secret_is_not_shown():
    (told,) = SEEDANCE.problems({"prompt": "a cat", "openai_api_key": 12345})

    assert told == "openai_api_key takes a string, not the value given"


@pytest.mark.parametrize(
    ("rules", "value", "problem"),
    [
        ({"type": "number", "minimum": 0}, -1, "x must be at least 0, not -1"),
        ({"type": "number", "maximum": 0.5}, 1, "x must be at most 0.5, not 1"),
        ({"type": "integer", "maximum": 4294967295}, 2**40, "x must be at most 4294967295, not"),
        ({"type": "integer", "multipleOf": 8}, 9, "x must be a multiple of 8, not 9"),
        ({"type": "string", "maxLength": 3}, "four", "x must have at most 3 characters, not 4"),
        ({"type": "string", "enum": ["5s"]}, "8s", "x must be '5s', not '8s'"),
        (
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            1.5,
            "x takes an integer or a string, not 1.5",
        ),
        ({"enum": list(range(40))}, 40, "x must be 0, 1, "),
    ],
)
def test_less_common_rules_are_told_too(rules: dict[str, Any], value: Any, problem: str):
    (told,) = read({"x": rules}).problems({"x": value})

    assert told.startswith(problem)


def test_a_long_choice_is_cut():
    (told,) = read({"x": {"enum": list(range(40))}}).problems({"x": 40})

    assert told.endswith("28, 29 or 10 more, not 40")


def test_a_long_value_is_cut_and_stays_on_one_line():
    (told,) = read({"seed": {"type": "integer"}}).problems({"seed": "many\nlines " * 1000})

    assert len(told) < 100
    assert "\n" not in told


@pytest.mark.parametrize(
    "openapi",
    [None, {}, "text", {"components": None}, {"components": {"schemas": {"Input": []}}}],
)
def test_an_unreadable_schema_takes_anything(openapi: Any):
    schema = ModelSchema.from_openapi(openapi)

    assert not schema.is_known
    assert schema.problems({"anything": object()}) == []


@pytest.mark.parametrize(
    "rules",
    [{"type": "nonsense"}, {"type": "string", "pattern": "("}, {"$ref": "#/components/schemas/no"}],
)
def test_broken_rules_take_any_value_but_the_name_stays_known(rules: dict[str, Any]):
    assert read({"x": rules}).problems({"x": 1, "y": 1}) == ["'y' is unknown"]


def test_a_schema_that_refers_to_itself_is_read():
    tree = {"type": "object", "properties": {"child": {"$ref": "#/components/schemas/Tree"}}}

    schema = read({"tree": {"$ref": "#/components/schemas/Tree"}}, Tree=tree)

    assert schema.problems({"tree": {"child": {"child": 1}}}) == []
    assert schema.problems({"tree": 1}) == ["tree takes a dict, not 1"]


def test_a_schema_that_allows_more_takes_unknown_names():
    openapi = document({"prompt": {"type": "string"}})
    openapi["components"]["schemas"]["Input"]["additionalProperties"] = True

    assert ModelSchema.from_openapi(openapi).problems({"style": "noir"}) == []


def test_a_schema_survives_a_task_boundary():
    assert ModelSchema.model_validate_json(SEEDANCE.model_dump_json()) == SEEDANCE


def test_a_refusal_is_one_line_with_all_problems_and_what_the_model_takes():
    schema = read({"prompt": {"type": "string"}, "seed": {"type": "integer"}}, "prompt")

    with pytest.raises(InvalidInputError, match="cannot take") as caught:
        validate_input(schema, "acme/cam", {"seed": 0.5, "sead": 1})

    assert str(caught.value) == (
        "acme/cam cannot take this input: prompt is missing; seed takes an integer, not 0.5;"
        " 'sead' is unknown (did you mean 'seed'?)."
        " Its inputs are: prompt (required), seed. Nothing was sent."
    )


def test_a_sound_input_is_not_refused():
    validate_input(SEEDANCE, "bytedance/seedance-1-lite", {"prompt": "a cat"})


def of_inputs(properties: Any, required: Any = (), **schemas: Any) -> ModelSchema:
    own = {"properties": properties, "required": required}
    return ModelSchema.from_openapi({"components": {"schemas": {"Input": own, **schemas}}})


TEXT = {"type": "string"}
NULL_TEXT = {**TEXT, "nullable": True}


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        ({"type": "array", "items": NULL_TEXT}, [None, "x"]),
        ({"type": "array", "items": {"anyOf": [TEXT, {"type": "null"}]}}, [None, "x"]),
        ({"type": "object", "properties": {"k": NULL_TEXT}}, {"k": None}),
        ({"type": "object", "properties": {"img": {"type": "string", "format": "uri"}}},
         {"img": b"x"}),
        ({"allOf": [{"type": "string"}, {"format": "uri"}]}, b"x"),
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 40 + "!"),
        ({"type": "string", "$dynamicRef": "#zz"}, "x"),
    ],
)  # fmt: skip
def test_what_a_model_takes_within_is_taken(rules: dict[str, Any], value: Any) -> None:
    assert of_inputs({"a": rules}).problems({"a": value}) == []


@pytest.mark.parametrize("required", [5, None, "a", {"a": 1}])
def test_a_schema_that_says_nonsense_of_what_is_required_requires_nothing(required: Any) -> None:
    assert of_inputs({"a": {}}, required).problems({}) == []


def test_schemas_that_refer_to_each_other_have_an_end() -> None:
    names = [f"T{number}" for number in range(8)]
    each = {"properties": {one: {"$ref": f"#/components/schemas/{one}"} for one in names}}
    chain = {
        f"C{number}": {"properties": {one: {"$ref": f"#/x/C{number + 1}"} for one in "ab"}}
        for number in range(25)
    }

    schema = of_inputs(
        {"a": {"$ref": "#/components/schemas/T0"}, "b": {"$ref": "#/x/C0"}},
        **dict.fromkeys(names, each),
        **chain,
    )

    assert schema.problems({"a": {"T1": {}}, "b": {"a": {}}}) == []


def test_one_that_nests_without_an_end_is_unknown() -> None:
    rules: Any = {}
    for _ in range(2000):
        rules = {"type": "array", "items": rules}

    assert not of_inputs({"a": rules}).is_known
