"""Input and output schemas in the dialect that Cog writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

URI: Mapping[str, Any] = {"type": "string", "format": "uri"}
TEXT: Mapping[str, Any] = {"type": "string"}
_REF = "#/components/schemas/"


@dataclass(frozen=True)
class Field:
    """One input of a model.

    Args:
        type: `string`, `integer`, `number`, `boolean`, `array`, or empty for anything.
        items: What each item of an array is.
        is_nullable: Whether `null` may be sent for it.
    """

    type: str
    description: str
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_file: bool = False
    is_secret: bool = False
    is_nullable: bool = False
    items: Mapping[str, Any] | None = None


def text(description: str, default: str | None = None, *, required: bool = False) -> Field:
    """Return an input that takes a string."""
    return Field("string", description, default, required)


def file(description: str, *, required: bool = False) -> Field:
    """Return an input that takes the URL of a file."""
    return Field("string", description, required=required, is_file=True)


def secret(description: str) -> Field:
    """Return an input that replies don't show."""
    return Field("string", description, is_secret=True)


def array(description: str, items: Mapping[str, Any]) -> Field:
    """Return an input that takes a list."""
    return Field("array", description, items=items)


def nullable(field: Field) -> Field:
    """Return `field`, changed to take `null` as well."""
    return replace(field, is_nullable=True)


def flag(description: str, default: bool) -> Field:
    """Return an input that takes true or false."""
    return Field("boolean", description, default)


def choice(description: str, default: Any, *choices: Any) -> Field:
    """Return an input that takes one of a few strings or integers."""
    kind = "integer" if isinstance(default, int) else "string"
    return Field(kind, description, default, choices=choices)


def integer(
    description: str,
    default: int | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
) -> Field:
    """Return an input that takes an integer."""
    return Field("integer", description, default, minimum=minimum, maximum=maximum)


def number(
    description: str,
    default: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Field:
    """Return an input that takes a number."""
    return Field("number", description, default, minimum=minimum, maximum=maximum)


def seed() -> Field:
    """Return the seed that nearly every model has."""
    return integer("Random seed. Set for reproducible generation")


def openapi_schema(
    fields: Mapping[str, Field], output: Mapping[str, Any], **parts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the OpenAPI document of a model.

    Args:
        fields: The inputs by their names.
        output: The schema of its output.
        parts: Schemas that `output` refers to, by their names.
    """
    properties = {name: _property(name, fields[name], i) for i, name in enumerate(fields)}
    enums = {name: _enum(name, one) for name, one in fields.items() if one.choices}
    required = [name for name, one in fields.items() if one.required]
    asked: dict[str, Any] = {"title": "Input", "type": "object", "properties": properties}
    if required:
        asked["required"] = required
    return {
        "info": {"title": "Cog", "version": "0.1.0"},
        "openapi": "3.0.2",
        "paths": {},
        "components": {"schemas": {"Input": asked, "Output": output, **parts, **enums}},
    }


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of the inputs that have one."""
    return {name: one["default"] for name, one in inputs(schema).items() if "default" in one}


def secrets(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the inputs that replies don't show."""
    return frozenset(
        name
        for name, one in inputs(schema).items()
        if one.get("x-cog-secret") or one.get("format") == "password"
    )


def inputs(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of each input by its name; a model without inputs has no `properties`."""
    return schema["components"]["schemas"]["Input"].get("properties", {})


def _property(name: str, field: Field, order: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"x-order": order, "description": field.description}
    if field.choices:
        schema["allOf"] = [{"$ref": f"{_REF}{name}"}]
    else:
        schema["title"] = _title(name)
    optional = {
        "type": None if field.choices else field.type or None,
        "format": "uri" if field.is_file else "password" if field.is_secret else None,
        "writeOnly": True if field.is_secret else None,
        "x-cog-secret": True if field.is_secret else None,
        "items": field.items,
        "nullable": field.is_nullable or None,
        "default": field.default,
        "minimum": field.minimum,
        "maximum": field.maximum,
    }
    return {**schema, **{key: value for key, value in optional.items() if value is not None}}


def _enum(name: str, field: Field) -> dict[str, Any]:
    return {
        "title": name,
        "type": field.type,
        "enum": list(field.choices),
        "description": "An enumeration.",
    }


def _title(name: str) -> str:
    return name.replace("_", " ").title()
