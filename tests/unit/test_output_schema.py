from __future__ import annotations

from typing import Any

import pytest

from prefect_replicate.values.model_schema import ModelSchema
from prefect_replicate.values.output import OutputSchema

URI, TEXT = {"type": "string", "format": "uri"}, {"type": "string"}
WORDS = {"type": "array", "items": TEXT, "x-cog-array-display": "concatenate"}


def of(rules: Any, **schemas: Any) -> OutputSchema:
    document = {"components": {"schemas": {"Output": rules, **schemas}}}
    return ModelSchema.from_openapi(document).output


@pytest.mark.parametrize(
    ("rules", "makes_files"),
    [
        (URI, True),
        ({"type": "array", "items": URI}, True),
        ({"$ref": "#/components/schemas/Named"}, True),
        ({"anyOf": [{"type": "null"}, URI]}, True),
        ({"type": "object", "additionalProperties": URI}, True),
        (TEXT, False),
        (WORDS, False),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, False),
        ({"type": "object", "properties": {"a": TEXT, "b": {"type": "number"}}}, False),
        ({"type": "object", "title": "Output"}, None),
        ({"type": "array"}, None),
        ({"title": "Output"}, None),
        ({"type": "object", "properties": {"a": TEXT, "b": {}}}, None),
        ({"type": "nonsense"}, None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_a_schema_says_whether_there_will_be_files(rules: Any, makes_files: bool | None) -> None:
    named = {"type": "object", "properties": {"sound": URI, "score": {"type": "number"}}}

    assert of(rules, Named=named).makes_files is makes_files


def test_one_without_an_end_is_read_to_where_it_repeats_itself() -> None:
    again = {"$ref": "#/components/schemas/Output"}
    tree = {"type": "object", "properties": {"next": again, "a": URI}}

    assert of(tree).makes_files is True
    assert [leaf for _, leaf, _ in of(tree).texts({"next": {"next": {"a": "x"}}})] == ["x"]


@pytest.mark.parametrize(
    ("rules", "output", "shown"),
    [
        (WORDS, ["Foxes", " laugh"], "Foxes laugh"),
        (WORDS, [], ""),
        (WORDS, ["page ", 5, None], "page 5"),
        (WORDS, "whole", "whole"),
        (WORDS, None, None),
        ({"anyOf": [{"type": "null"}, WORDS]}, ["a", "b"], "ab"),
        ({"type": "array", "items": TEXT}, ["a", "b"], ["a", "b"]),
        ({}, ["a", "b"], ["a", "b"]),
    ],
)
def test_what_is_written_bit_by_bit_is_put_together(rules: Any, output: Any, shown: Any) -> None:
    assert of(rules).joined(output) == shown


def test_a_text_of_fifty_megabytes_and_ten_thousand_files_are_read_at_once() -> None:
    many = [f"https://replicate.delivery/{number}.png" for number in range(10_000)]

    assert len(of(WORDS).joined(["x" * 5000] * 10_000)) == 50_000_000
    assert len(list(of({"type": "array", "items": URI}).texts(many))) == 10_000
