"""Checks the bodies of creates, with the findings worded as gojsonschema words them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from jsonschema import Draft202012Validator, FormatChecker, validators

from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.problems import InvalidField

_CREATE_FIELDS = {
    "input": {"type": "object"},
    "webhook": {"type": "string", "format": "uri"},
    "webhook_events_filter": {
        "type": "array",
        "items": {"type": "string", "enum": ["start", "output", "logs", "completed"]},
    },
    "stream": {"type": "boolean"},
}
CREATE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["input"],
    "properties": _CREATE_FIELDS,
}
CREATE_FROM_VERSION = {
    **CREATE,
    "required": ["version", "input"],
    "properties": {"version": {"type": "string"}, **_CREATE_FIELDS},
}
_FILTER_ALONE = InvalidField(
    "webhook_events_filter", "", "webhook_events_filter cannot be provided without webhook"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_FORMATS = FormatChecker(formats=())
_WORDINGS = {
    "minimum": ("number_gte", "Must be greater than or equal to {:g}"),
    "maximum": ("number_lte", "Must be less than or equal to {:g}"),
    "exclusiveMinimum": ("number_gt", "Must be greater than {:g}"),
    "exclusiveMaximum": ("number_lt", "Must be less than {:g}"),
    "multipleOf": ("multiple_of", "Must be a multiple of {:g}"),
    "format": ("format", "Does not match format '{}'"),
    "pattern": ("pattern", "Does not match pattern '{}'"),
    "minLength": ("string_gte", "String length must be greater than or equal to {}"),
    "maxLength": ("string_lte", "String length must be less than or equal to {}"),
    "minItems": ("array_min_items", "Array must have at least {} items"),
    "maxItems": ("array_max_items", "Array must have at most {} items"),
    "anyOf": ("number_any_of", "Must validate at least one schema (anyOf)"),
    "oneOf": ("number_one_of", "Must validate one and only one schema (oneOf)"),
}


class _Finding(Protocol):
    """The part of jsonschema's errors that is read here."""

    @property
    def validator(self) -> str: ...
    @property
    def validator_value(self) -> Any: ...
    @property
    def instance(self) -> Any: ...
    @property
    def absolute_path(self) -> Sequence[str | int]: ...
    @property
    def schema(self) -> Mapping[str, Any]: ...


@_FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or _URI.fullmatch(value) is not None


def check_body(body: object, schema: Mapping[str, Any]) -> list[InvalidField]:
    """Return what is wrong with a body according to its schema."""
    return _findings(schema, body, ())


def check_create_body(body: object, schema: Mapping[str, Any]) -> list[InvalidField]:
    """Return what is wrong with the body of a create, apart from its input."""
    invalid = check_body(body, schema)
    if not invalid:
        asked = cast("Mapping[str, Any]", body)
        if asked.get("webhook_events_filter") is not None and not asked.get("webhook"):
            invalid.append(_FILTER_ALONE)
    return invalid


def check_input(
    values: Mapping[str, Any], openapi_schema: Mapping[str, Any], *, strict: bool
) -> list[InvalidField]:
    """Return what is wrong with an input according to its model's schema.

    Args:
        values: The input.
        openapi_schema: The OpenAPI document of the version.
        strict: Whether a key that the schema does not have is an error; otherwise it is ignored.
    """
    schema = {"$ref": "#/components/schemas/Input", "components": openapi_schema["components"]}
    invalid = _findings(schema, values, ("input",))
    if strict:
        known = cog.inputs(openapi_schema)
        invalid += [_unknown("input", name) for name in values if name not in known]
    return invalid


def _findings(
    schema: Mapping[str, Any], instance: object, prefix: tuple[str, ...]
) -> list[InvalidField]:
    found = (one for error in _errors(schema, instance) for one in _translate(error, prefix))
    # jsonschema reports each missing name separately, but each time with all required names.
    return list(dict.fromkeys(found))


def _errors(schema: Mapping[str, Any], instance: object) -> Iterator[_Finding]:
    validator = _validator(json.dumps(schema))
    # An overload in the stubs has no types.
    found = validator.iter_errors(cast("Any", instance))  # pyright: ignore[reportUnknownMemberType]
    return cast("Iterator[_Finding]", found)


@lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    return _InputValidator(json.loads(schema), format_checker=_FORMATS)


def _unless_null(check: Callable[..., Any]) -> Callable[..., Any]:
    def checked(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Any:
        if instance is not None or schema.get("nullable") is not True:
            yield from check(validator, value, instance, schema) or ()

    return checked


_CHECKS_UNLESS_NULL = {
    keyword: _unless_null(Draft202012Validator.VALIDATORS[keyword])
    for keyword in ("type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf")
}
# Cog writes OpenAPI 3.0, whose `nullable` JSON Schema does not have.
_InputValidator = cast(
    "type[Draft202012Validator]",
    validators.extend(Draft202012Validator, _CHECKS_UNLESS_NULL),  # pyright: ignore[reportUnknownMemberType] untyped
)


def _translate(error: _Finding, prefix: tuple[str, ...]) -> Iterator[InvalidField]:
    path = (*prefix, *(str(part) for part in error.absolute_path))
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        for name in error.instance:
            if name not in known:
                yield _unknown(".".join(path), name)
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield InvalidField("required", ".".join(path), f"{name} is required")
    else:
        yield _finding(error, path)


def _finding(error: _Finding, path: tuple[str, ...]) -> InvalidField:
    field, name = ".".join(path), path[-1] if path else "(root)"
    if error.validator == "type":
        return InvalidField("invalid_type", field, _wrong_type(error))
    if error.validator == "enum":
        return InvalidField("enum", field, _not_in_enum(error, name))
    unworded = error.validator, f"Does not satisfy {error.validator}"
    kind, wording = _WORDINGS.get(error.validator, unworded)
    return InvalidField(kind, field, wording.format(error.validator_value))


def _unknown(field: str, name: str) -> InvalidField:
    description = f"Additional property {name} is not allowed"
    return InvalidField("additional_property_not_allowed", field, description)


def _wrong_type(error: _Finding) -> str:
    wanted = error.validator_value
    if isinstance(wanted, list):
        wanted = ",".join(cast("list[str]", wanted))
    return f"Invalid type. Expected: {wanted}, given: {_type_name(error.instance)}"


def _not_in_enum(error: _Finding, name: str) -> str:
    choices = ", ".join(json.dumps(value, ensure_ascii=False) for value in error.validator_value)
    return f"{name} must be one of the following: {choices}"


def _type_name(value: object) -> str:
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"),
        (list, "array"), (dict, "object"),
    )  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "null")
