from __future__ import annotations

from typing import Any

import pytest

from prefect_replicate import Prediction
from prefect_replicate.outputs.fetch import AccessRules
from prefect_replicate.outputs.found import collect_files
from prefect_replicate.values.output import OutputSchema

RULES = AccessRules.make("https://api.replicate.com", ["files.example"])
URI = {"type": "string", "format": "uri"}
A = "https://replicate.delivery/a.mp4"
B = "https://replicate.delivery/b.png"
INLINE = "data:image/png;base64,AAAA"


def files_in(output: Any, rules: dict[str, Any] | None = None, **input: Any) -> list[Any]:
    prediction = Prediction(id="abc", status="succeeded", input=input, output=output)
    return collect_files(prediction, OutputSchema(rules=rules or {}), RULES.has_files_alone)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (A, [("", A)]),
        ([A, B], [("[0]", A), ("[1]", B)]),
        ({"video": {"url": A}}, [("video.url", A)]),
        (
            {"frames": [{"image": A}, {"image": B}]},
            [("frames[0].image", A), ("frames[1].image", B)],
        ),
        ([[A], [B]], [("[0][0]", A), ("[1][0]", B)]),
        ({"a b": A, "x.y": B}, [('["a b"]', A), ('["x.y"]', B)]),
        ({"video": A, "seed": 42, "ok": True, "note": None}, [("video", A)]),
        (INLINE, [("", INLINE)]),
        ([A, A], [("[0]", A), ("[1]", A)]),
    ],
)
def test_files_are_found_in_any_shape(output: object, found: list[tuple[str, str]]) -> None:
    assert files_in(output) == found


@pytest.mark.parametrize(
    "output",
    [
        None,
        3.5,
        [],
        {},
        "A haiku about llamas",
        ["Here ", "is ", "a ", "link: https://replicate.delivery/a.mp4"],
        f"see {A} for more",
        "https://",
        "data: is what I need",
        "data:",
        "ftp://replicate.delivery/a.mp4",
        "https://example.com/",
        "https://example.com/page.html",
        "https://example.com/article",
        {"link": "https://example.com/watch?v=a.mp4"},
    ],
)
def test_other_strings_are_text(output: object) -> None:
    assert files_in(output) == []


ELSEWHERE = "https://blobs.example/a"


@pytest.mark.parametrize(
    ("rules", "output", "found"),
    [
        (URI, ELSEWHERE, [""]),
        ({"type": "array", "items": URI}, [ELSEWHERE, B], ["[0]", "[1]"]),
        ({"type": "string"}, "https://blobs.example/a.png", []),
        ({"type": "array", "items": {"type": "string"}}, ["https://blobs.example/a.png"], []),
        ({"type": "string"}, A, [""]),  # there is nothing but files there, whatever the schema says
        ({"type": "object", "properties": {"a": URI, "b": {"type": "string"}}},
         {"a": ELSEWHERE, "b": ELSEWHERE}, ["a"]),
        ({"type": "object", "additionalProperties": URI}, {"x": ELSEWHERE}, ["x"]),
        ({"anyOf": [{"type": "null"}, URI]}, ELSEWHERE, [""]),
        ({"type": "array", "items": {"anyOf": [URI, {"type": "object"}]}}, [ELSEWHERE], ["[0]"]),
        ({"title": "Output"}, "https://blobs.example/a.png", []),
        ({"title": "Output"}, "https://replicate.delivery/x", [""]),
        ({"type": "object"}, {"sources": ["https://arxiv.org/pdf/1.pdf"]}, []),
        ({}, "Data:, or it did not happen", []),
        ({"title": "Output"}, ELSEWHERE, []),
        ({}, "https://storage.googleapis.com/replicate-files/x/y", [""]),
        ({}, "https://storage.googleapis.com/r8-outputs-us/x", [""]),
        ({}, "https://storage.googleapis.com/others/x", []),
        ({}, "https://api.replicate.com/v1/files/abc/download", [""]),
        ({}, "https://api.replicate.com/v1/account", []),
        ({}, "https://files.example/x", [""]),
    ],
)  # fmt: skip
def test_the_schema_says_what_is_a_file(
    rules: dict[str, Any], output: Any, found: list[str]
) -> None:
    assert [path for path, _ in files_in(output, rules)] == found


def test_what_was_given_is_no_output() -> None:
    assert files_in([A, B], {"type": "array", "items": URI}, image=B, more=[{"x": [A]}]) == []
