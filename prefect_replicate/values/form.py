"""A model's inputs as the form of a deployment, for Prefect's two UIs; pure.

Both UIs sort by `position`, draw an enum as a select if it has a type, and leave out a `null` value
only if `null` is one of several alternatives (measured with Prefect 3.8.8 and 3.9.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from prefect_replicate.values.model_schema import InputProperty, ModelSchema

_MADE_UP = re.compile(r"^An enumeration\.?$")
"""Cog writes this for an enum without a description."""

_KEPT = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
    *("type", "enum", "items", "default", "properties", "required", "additionalProperties"),
    *("anyOf", "oneOf", "allOf"),
}
_WHOLE_WORDS = {
    *("api", "cfg", "clip", "cpu", "dpi", "fps", "gif", "gpu", "hd", "hdr", "id", "json", "llm"),
    *("nsfw", "ocr", "pdf", "png", "rgb", "srt", "svg", "tts", "ui", "url", "vae", "vram", "xl"),
}
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def form_of(schema: ModelSchema, hidden: Iterable[str] = ()) -> dict[str, Any]:
    """Return the JSON Schema of the parameter `input`, with its fields in Replicate's order.

    Args:
        schema: The model's own schema.
        hidden: Inputs to leave out of the form; secret inputs are always left out.
    """
    left_out = {*hidden, *schema.secrets}
    shown = [one for one in schema.inputs.values() if one.name not in left_out]
    form: dict[str, Any] = {
        "title": "Input",
        "type": "object",
        "properties": {one.name: _field(one, place) for place, one in enumerate(shown)},
    }
    if required := [one.name for one in shown if one.is_required]:
        form["required"] = required
    if schema.is_known and not schema.is_open:
        form["additionalProperties"] = False
    return form


def title_of(name: str) -> str:
    """Return a name as people read it: `Aspect ratio` for `aspect_ratio`, `FPS` for `fps`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ")
    words = [one.upper() if one.lower() in _WHOLE_WORDS else one.lower() for one in spaced.split()]
    if not words:
        return name
    first = words[0] if words[0].isupper() else words[0][:1].upper() + words[0][1:]
    return " ".join([first, *words[1:]])


def changes_in(
    parameters: Mapping[str, Any] | None, fixed: Mapping[str, Any], schema: ModelSchema
) -> list[str]:
    """List how a deployment's form differs from the model's current inputs, one phrase each.

    Args:
        parameters: The JSON Schema of the deployment's parameters; its `Input` is the form.
        fixed: The deployment's own parameters.
        schema: The model's current schema.
    """
    before = _part(_part(parameters, "definitions"), "Input")
    if not before:
        return []
    now = with_defaults(form_of(schema, _part(fixed, "secrets")), _part(fixed, "input"))
    old, new = _part(before, "properties"), _part(now, "properties")
    were_needed, are_needed = _names(before), _names(now)
    changes = [f"{name} is gone" for name in old if name not in new]
    for name in new:
        if name not in old:
            changes.append(f"{name} is new" + (" and required" if name in are_needed else ""))
            continue
        if name in are_needed and name not in were_needed:
            changes.append(f"{name} is required")
        changes += _differences(name, _part(old, name), _part(new, name))
    return changes


def with_defaults(form: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Set the given values as defaults in the form, and return it."""
    for name, value in given.items():
        if name in form["properties"]:
            form["properties"][name]["default"] = value
    return form


def _names(form: Mapping[str, Any]) -> list[str]:
    return list(form.get("required") or ())


def _differences(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = sorted({*old, *new} - {"position", "title", "description"})
    differing = [key for key in keys if old.get(key) != new.get(key)]
    return [f"{name} has a different {', '.join(differing)}"] if differing else []


def _part(of: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    found = (of or {}).get(name)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _field(one: InputProperty, position: int) -> dict[str, Any]:
    rules = _plain(one.rules)
    about = {"title": title_of(one.name), "position": position}
    description = _description(one)
    if description:
        about["description"] = description
    if not one.is_nullable:
        return {**rules, **about}
    default = {"default": rules.pop("default")} if "default" in rules else {"default": None}
    return {"anyOf": [rules, {"type": "null"}], **default, **about}


def _plain(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules without Cog's own keywords, and with a type for each enum."""
    kept: dict[str, Any] = {name: value for name, value in rules.items() if name in _KEPT}
    if "enum" in kept and "type" not in kept and kept["enum"]:
        first: object = kept["enum"][0]
        kept["type"] = _TYPES.get(type(first), "string")
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _plain(_part(kept, key))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in kept:
            kept[key] = [_plain(branch) for branch in kept[key]]
    if isinstance(kept.get("properties"), dict):
        kept["properties"] = {
            name: _plain(each) for name, each in _part(kept, "properties").items()
        }
    return kept


def _limits(rules: Mapping[str, Any]) -> str:
    """Write out a number's limits, which no form shows."""
    least, most = rules.get("minimum"), rules.get("maximum")
    if least is None and most is None:
        return ""
    if most is None:
        return f"at least {least:g}"
    return f"at most {most:g}" if least is None else f"from {least:g} to {most:g}"


def _description(one: InputProperty) -> str:
    text = " ".join(one.description.split())
    if _MADE_UP.match(text):
        text = ""
    if limits := _limits(one.rules):
        text = f"{text.rstrip('.')} ({limits})." if text else f"{limits.capitalize()}."
    if one.is_file or one.is_file_list:
        what = "URLs, or files" if one.is_file_list else "A URL, or a file"
        where = "in a folder that the worker's settings name."
        text = f"{text.rstrip('.')}. {what} {where}" if text else f"{what} {where}"
    return text
