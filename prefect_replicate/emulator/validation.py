"""Checks the bodies of creates, with the findings worded as gojsonschema words them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from jsonschema import Draft202012Validator, FormatChecker

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


def check_create_body(body: object, schema: Mapping[str, Any]) -> list[InvalidField]:
    """Return what is wrong with the body of a create, apart from its input."""
    invalid = _findings(schema, body, ())
    if not invalid:
        asked = cast("Mapping[str, Any]", body)
        if asked.get("webhook_events_filter") is not None and not asked.get("webhook"):
            invalid.append(_FILTER_ALONE)
    return invalid


def check_input(
    values: Mapping[str, Any], openapi_schema: Mapping[str, Any], *, strict: bool
) -> list[InvalidField]:
    """Return what is wrong with an input by the schema of its model.

    Args:
        values: The input.
        openapi_schema: The OpenAPI document of the version.
        strict: Whether a key that the schema does not have is wrong; otherwise it is ignored.
    """
    schema = {"$ref": "#/components/schemas/Input", "components": openapi_schema["components"]}
    invalid = _findings(schema, values, ("input",))
    if strict:
        known = openapi_schema["components"]["schemas"]["Input"]["properties"]
        invalid += [_unknown("input", name) for name in values if name not in known]
    return invalid


def _findings(
    schema: Mapping[str, Any], instance: object, prefix: tuple[str, ...]
) -> list[InvalidField]:
    found = (one for error in _errors(schema, instance) for one in _translate(error, prefix))
    # jsonschema reports each missing name by itself, but with all of the required ones.
    return list(dict.fromkeys(found))


def _errors(schema: Mapping[str, Any], instance: object) -> Iterator[_Finding]:
    validator = _validator(json.dumps(schema))
    # An overload of the stubs is without types.
    found = validator.iter_errors(cast("Any", instance))  # pyright: ignore[reportUnknownMemberType]
    return cast("Iterator[_Finding]", found)


@lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema), format_checker=_FORMATS)


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
    kind, wording = _WORDINGS.get(error.validator, (error.validator, _unworded))
    return InvalidField(kind, ".".join(path), wording(error, path[-1] if path else "(root)"))


def _unknown(field: str, name: str) -> InvalidField:
    description = f"Additional property {name} is not allowed"
    return InvalidField("additional_property_not_allowed", field, description)


def _wrong_type(error: _Finding, name: str) -> str:
    given = _type_name(error.instance)
    return f"Invalid type. Expected: {error.validator_value}, given: {given}"


def _not_in_enum(error: _Finding, name: str) -> str:
    choices = ", ".join(json.dumps(value, ensure_ascii=False) for value in error.validator_value)
    return f"{name} must be one of the following: {choices}"


def _too_small(error: _Finding, name: str) -> str:
    return f"Must be greater than or equal to {error.validator_value:g}"


def _too_large(error: _Finding, name: str) -> str:
    return f"Must be less than or equal to {error.validator_value:g}"


def _wrong_format(error: _Finding, name: str) -> str:
    return f"Does not match format '{error.validator_value}'"


def _unworded(error: _Finding, name: str) -> str:
    return f"Does not satisfy {error.validator}"


_WORDINGS: dict[str, tuple[str, Callable[[_Finding, str], str]]] = {
    "type": ("invalid_type", _wrong_type),
    "enum": ("enum", _not_in_enum),
    "minimum": ("number_gte", _too_small),
    "maximum": ("number_lte", _too_large),
    "format": ("format", _wrong_format),
}


def _type_name(value: object) -> str:
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"),
        (list, "array"), (dict, "object"),
    )  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "null")
