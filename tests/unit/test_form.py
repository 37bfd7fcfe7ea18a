from __future__ import annotations

from typing import Any

import pytest

from prefect_replicate.values.form import changes_in, form_of, title_of
from prefect_replicate.values.model_schema import ModelSchema

RATIOS = {"title": "aspect_ratio", "type": "string", "enum": ["16:9", "1:1"], "description": "x"}


def schema(required: tuple[str, ...] = (), **properties: Any) -> ModelSchema:
    own = {"properties": properties, "required": list(required)}
    document = {"components": {"schemas": {"Input": own, "aspect_ratio": RATIOS}}}
    return ModelSchema.from_openapi(document)


def field(**rules: Any) -> dict[str, Any]:
    [found] = form_of(schema(it=rules))["properties"].values()
    return found


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("aspect_ratio", "Aspect ratio"),
        ("seed", "Seed"),
        ("fps", "FPS"),
        ("num_inference_steps", "Num inference steps"),
        ("cfg_scale", "CFG scale"),
        ("image_url", "Image URL"),
        ("promptUpsampling", "Prompt upsampling"),
        ("input-image", "Input image"),
        ("LoRA", "Lo ra"),
        ("_", "_"),
    ],
)
def test_titles_read_alike(name: str, title: str) -> None:
    assert title_of(name) == title


def test_fields_are_in_replicates_order() -> None:
    own = schema(a={"type": "string", "x-order": 2}, b={"type": "string", "x-order": 0}, c={})

    form = form_of(own)

    assert [(n, one["position"]) for n, one in form["properties"].items()] == [
        ("b", 0),
        ("a", 1),
        ("c", 2),
    ]


@pytest.mark.parametrize(
    ("rules", "drawn"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
         {"type": "integer", "minimum": 1, "maximum": 4, "default": 1,
          "description": "From 1 to 4."}),
        ({"type": "number", "minimum": 0.5, "description": "How fast."},
         {"type": "number", "minimum": 0.5, "description": "How fast (at least 0.5)."}),
        ({"allOf": [{"$ref": "#/components/schemas/aspect_ratio"}], "default": "1:1"},
         {"type": "string", "enum": ["16:9", "1:1"], "default": "1:1", "description": "x"}),
        ({"enum": [480, 720]}, {"type": "integer", "enum": [480, 720]}),
        ({"type": "string", "description": "An enumeration."}, {"type": "string"}),
        ({"type": "string", "x-cog-x": 1, "title": "It Is"}, {"type": "string"}),
        ({"type": "string", "nullable": True},
         {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 5},
         {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 5}),
        ({"type": "array", "items": {"type": "string", "x-order": 1}},
         {"type": "array", "items": {"type": "string"}}),
        ({"type": "boolean", "default": False}, {"type": "boolean", "default": False}),
    ],
)  # fmt: skip
def test_a_field_is_drawn_as_its_rules_say(rules: dict[str, Any], drawn: dict[str, Any]) -> None:
    assert field(**rules) == {**drawn, "title": "It", "position": 0}


def test_a_file_is_a_text_that_says_what_it_may_be() -> None:
    file = {"type": "string", "format": "uri", "description": "First frame."}
    files = {"type": "array", "items": {"type": "string", "format": "uri"}}

    assert "format" not in field(**file)
    assert field(**file)["description"].startswith("First frame. A URL, or a file in a folder")
    assert field(**files)["description"].startswith("URLs, or files in a folder")


def test_what_is_secret_or_hidden_is_not_in_it() -> None:
    secret = {"type": "string", "format": "password"}
    own = schema(("key", "a"), key=secret, a={"type": "string"}, b={"type": "string"})

    form = form_of(own, hidden=["b"])

    assert list(form["properties"]) == ["a"]
    assert form["required"] == ["a"]
    assert form["additionalProperties"] is False


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        (schema(("a",), a={"type": "string"}, b={"type": "integer", "default": 5}), []),
        (schema(("a",), a={"type": "string"}), ["b is gone"]),
        (schema(("a", "c"), a={"type": "string"}, b={"type": "integer", "default": 5},
                c={"type": "string"}), ["c is new and required"]),
        (schema(("a",), a={"type": "string"}, b={"type": "integer", "default": 7}),
         ["b has a different default"]),
        (schema(("a", "b"), a={"type": "number"}, b={"type": "integer", "default": 5}),
         ["a has a different type", "b is required"]),
        (schema(("a",), a={"type": "string", "description": "New"},
                b={"type": "integer", "default": 5}), []),
    ],
)  # fmt: skip
def test_what_has_changed_since_is_told(now: ModelSchema, changes: list[str]) -> None:
    before = schema(("a",), a={"type": "string"}, b={"type": "integer", "default": 5})

    assert changes_in({"definitions": {"Input": form_of(before)}}, {}, now) == changes


def test_defaults_of_the_deployment_are_no_change() -> None:
    before = schema(a={"type": "string"})
    form = form_of(before)
    form["properties"]["a"]["default"] = "a fox"

    fixed = {"input": {"a": "a fox"}}
    assert changes_in({"definitions": {"Input": form}}, fixed, before) == []


@pytest.mark.parametrize("parameters", [None, {}, {"definitions": None}, {"definitions": {}}])
def test_a_deployment_without_a_form_has_no_changes(parameters: Any) -> None:
    assert changes_in(parameters, {}, schema(a={})) == []
