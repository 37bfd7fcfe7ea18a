"""Deployments of `generate_video` take a saved block, in the forms that Prefect checks."""

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from prefect_replicate import ReplicateCredentials, generate_video

SAVED = {"$ref": {"block_document_id": "45756a0d-ad9c-426f-afff-5a916c6436b3"}}
KEPT_BY_THE_UI = {"block_type_slug", "description", "properties", "required", "title", "type"}


def schema_as_the_server_has_it() -> dict[str, Any]:
    return parameter_schema(generate_video).model_dump_for_openapi()


def schema_as_the_ui_sends_it() -> dict[str, Any]:
    schema = schema_as_the_server_has_it()
    for name, block in schema["definitions"].items():
        kept = {key: value for key, value in block.items() if key in KEPT_BY_THE_UI}
        schema["definitions"][name] = kept
    return schema


@pytest.mark.parametrize("schema", [schema_as_the_server_has_it(), schema_as_the_ui_sends_it()])
@pytest.mark.parametrize("credentials", [SAVED, None])
def test_credentials_may_be_a_saved_block_or_none(
    schema: dict[str, Any], credentials: dict[str, Any] | None
) -> None:
    problems = validate({"prompt": "a fox", "credentials": credentials}, schema)

    assert problems == []


def test_the_token_has_a_field_of_its_own_for_passwords() -> None:
    field = ReplicateCredentials.model_json_schema()["properties"]["api_token"]

    assert (field["type"], field["format"], field["writeOnly"]) == ("string", "password", True)
