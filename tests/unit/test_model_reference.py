from __future__ import annotations

import pytest

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values import ModelReference

VERSION = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full_name", "version", "is_deployment"),
    [
        ("owner/name", "owner/name", None, False),
        ("wan-video/wan-2.2-i2v-fast", "wan-video/wan-2.2-i2v-fast", None, False),
        ("a/b_c.d", "a/b_c.d", None, False),
        (f"owner/name:{VERSION}", "owner/name", VERSION, False),
        (VERSION, None, VERSION, False),
        ("deployment:owner/name", "owner/name", None, True),
    ],
)
def test_the_four_forms_are_read_and_written(
    text: str, full_name: str | None, version: str | None, is_deployment: bool
) -> None:
    reference = ModelReference.parse(f"  {text}\n")

    assert (reference.full_name, reference.version) == (full_name, version)
    assert reference.is_deployment is is_deployment
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "owner/",
        "/name",
        "owner/name:latest",
        f"owner/name:{VERSION[:-1]}",
        f"owner/name:{VERSION.upper()}",
        f"deployment:owner/name:{VERSION}",
        "deployment:name",
        "owner/na me",
        "owner/name/extra",
        "../predictions",
        "owner/..",
        "owner/name?x=1",
        "https://replicate.com/owner/name",
    ],
)
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"is not a model reference; use 'owner/n"):
        ModelReference.parse(text)
