"""A model's own schema, and the check of an input against it."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend  # pyright: ignore[reportUnknownVariableType]
from pydantic import BaseModel, ConfigDict, Field

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.given import is_file
from prefect_replicate.values.output import OutputSchema

_MOST_LISTED = 30
_MOST_PARTS = 20_000
"""The limit for a schema with its references resolved; the largest known have a few hundred."""

_KINDS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "True or False",
    "array": "a list",
    "object": "a dict",
    "null": "None",
}
_SIZES = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
# At least two letters, so that a Windows path (`C:\cat.png`) is not taken for a URL.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_FILE_URI = "file:"

_formats = FormatChecker(formats=())
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 40


class Refused(Exception):
    """A model can't do what was asked; the text says what it can do."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
        """The input that the value was for, or the parameter that has no input."""


class InputProperty(BaseModel):
    """One input of a model."""

    model_config = ConfigDict(frozen=True)

    name: str
    rules: dict[str, Any] = Field(default_factory=dict)
    """Its JSON Schema, with every `$ref` resolved."""
    is_required: bool = False

    @property
    def type(self) -> str | None:
        """JSON Schema's type; `None` if it takes several types, or any."""
        kind = self.rules.get("type")
        return kind if isinstance(kind, str) else None

    @property
    def takes_text(self) -> bool:
        """Whether the schema says that it takes text."""
        branches = [self.rules, *(self.rules.get("anyOf") or self.rules.get("oneOf") or ())]
        return "string" in [one.get("type") for one in branches]

    @property
    def enum(self) -> tuple[Any, ...]:
        """The choices; empty if it has none."""
        return tuple(self.rules.get("enum", ()))

    @property
    def minimum(self) -> float | None:
        return self.rules.get("minimum")

    @property
    def maximum(self) -> float | None:
        return self.rules.get("maximum")

    @property
    def default(self) -> Any:
        return self.rules.get("default")

    @property
    def format(self) -> str | None:
        return self.rules.get("format")

    @property
    def description(self) -> str:
        return self.rules.get("description") or ""

    @property
    def is_nullable(self) -> bool:
        return self.rules.get("nullable") is True

    @property
    def is_deprecated(self) -> bool:
        # kling-v2.5-turbo-pro says it in words only: "Deprecated: Use start_image instead."
        return self.rules.get("deprecated") is True or self.description.startswith("Deprecated")

    @property
    def is_file(self) -> bool:
        """Whether it takes a file: a URL, or a file to upload."""
        return _takes_file(self.rules)

    @property
    def is_file_list(self) -> bool:
        return _takes_file(_items(self.rules))

    @property
    def takes(self) -> str:
        """What it takes, in words: `a number, from 0 to 5`."""
        if self.enum:
            return one_of([repr(choice) for choice in self.enum])
        limits = span(self.minimum, self.maximum)
        kinds = one_of(_kinds(self.rules)) or "anything"
        return f"{kinds}, {limits}" if limits else kinds

    @property
    def is_secret(self) -> bool:
        """Whether replies don't show it."""
        return _is_secret(self.rules)

    def problems(self, value: Any) -> list[str]:
        """List what is wrong with a value, one short phrase for each place in it."""
        if value is None and self.is_nullable:
            return []
        validator = _Validator(self.rules, format_checker=_formats)
        worst: dict[str, ValidationError] = {}
        for error in validator.iter_errors(_as_json(value, self.rules)):
            place = self.name + "".join(f"[{step!r}]" for step in error.absolute_path)
            worst[place] = min(worst.get(place, error), error, key=_vagueness)
        return [f"{place} {_phrase(error)}" for place, error in worst.items()]


class ModelSchema(BaseModel):
    """A model's inputs, in the order in which Replicate shows them, and its output.

    A model without a readable schema takes anything; `is_known` is then false.
    """

    model_config = ConfigDict(frozen=True)

    inputs: dict[str, InputProperty] = Field(default_factory=dict)
    is_known: bool = False
    is_open: bool = False
    """Whether it takes inputs that the schema doesn't name."""
    output: OutputSchema = OutputSchema()

    @cached_property
    def secrets(self) -> frozenset[str]:
        """The names of the inputs that replies don't show."""
        return frozenset(name for name, one in self.inputs.items() if one.is_secret)

    @classmethod
    def from_openapi(cls, document: Any) -> ModelSchema:
        """Read a version's `openapi_schema`, as Cog writes it for OpenAPI 3.0 or 3.1.

        Args:
            document: The whole document; `None` or anything unreadable gives an unknown schema.
        """
        schemas = _mapping(_mapping(_mapping(document).get("components")).get("schemas"))
        try:
            output = OutputSchema(rules=_sound(_Expansion(schemas).of(schemas.get("Output"))))
            root = _mapping(_Expansion(schemas).of(schemas.get("Input")))
        except RecursionError:
            return cls()
        if not isinstance(root.get("properties"), dict):
            return cls(output=output)
        required = root["required"] if isinstance(root.get("required"), list) else ()
        inputs = {
            name: InputProperty(name=name, rules=_sound(rules), is_required=name in required)
            for name, rules in sorted(_mapping(root["properties"]).items(), key=_order)
        }
        is_open = root.get("additionalProperties", False) is not False
        return cls(inputs=inputs, is_known=True, is_open=is_open, output=output)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    @property
    def listing(self) -> str:
        """The names for people: `prompt (required), image, seed`."""
        names = (f"{p.name} (required)" if p.is_required else p.name for p in self.inputs.values())
        return ", ".join(names) or "none"

    def find(
        self, names: Iterable[str], fits: Callable[[InputProperty], bool]
    ) -> InputProperty | None:
        """Return the first input with one of these names that fits and is not deprecated."""
        candidates = filter(None, map(self.inputs.get, names))
        return next((one for one in candidates if not one.is_deprecated and fits(one)), None)

    def problems(self, input: Mapping[str, Any], told: Collection[str] = ()) -> list[str]:
        """List everything that is wrong with an input, one short phrase each.

        Args:
            input: The whole input; a path or a binary file stands for its upload.
            told: Names that the caller reports on; they are skipped.
        """
        if not self.is_known:
            return []
        checked = {name: value for name, value in input.items() if name not in told}
        missing = [
            f"{p.name} is missing"
            for p in self.inputs.values()
            if p.is_required and p.name not in input and p.name not in told
        ]
        known = checked.keys() & self.inputs.keys()
        wrong = [
            text
            for name, value in checked.items()
            if name in known
            for text in self.inputs[name].problems(value)
        ]
        unknown = [
            f"{name!r} is unknown{did_you_mean(name, self.names)}"
            for name in checked
            if name not in known and not self.is_open
        ]
        return [*missing, *wrong, *unknown]

    # Last in the class, because the name hides the decorator from here on.
    def property(self, name: str) -> InputProperty | None:
        """Return the input with that name, if the model has it."""
        return self.inputs.get(name)


def validate_input(
    schema: ModelSchema,
    model: str,
    input: Mapping[str, Any],
    *,
    problems: Mapping[str, str] | None = None,
) -> None:
    """Reject an input that the model can't take, before anything is sent.

    Args:
        schema: The model's own schema.
        model: The model as the user named it, for the message.
        input: The whole input.
        problems: Problems that the caller already found, by input name.

    Raises:
        InvalidInputError: The message lists all problems and what the model takes.
    """
    told = problems or {}
    found = [*told.values(), *schema.problems(input, told.keys())]
    if found:
        listing = f" Its inputs are: {schema.listing}." if schema.is_known else ""
        raise InvalidInputError(
            f"{model} cannot take this input: {'; '.join(found)}.{listing} Nothing was sent."
        )


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a hint that follows a name, if one of the known names is close; else an empty text."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(texts: Sequence[str]) -> str:
    """Write a choice out: `4, 6 or 8`; a long one is cut."""
    if len(texts) > _MOST_LISTED:
        left = len(texts) - _MOST_LISTED
        return f"{', '.join(texts[:_MOST_LISTED])} or {left} more"
    return " or ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def span(low: float | None, high: float | None) -> str:
    """Write a range out: `from 2 to 12`, `at least 2`, `at most 12`, or nothing."""
    if low is not None and high is not None:
        return f"from {low:.15g} to {high:.15g}"
    if low is not None:
        return f"at least {low:.15g}"
    return "" if high is None else f"at most {high:.15g}"


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _order(item: tuple[str, Any]) -> float:
    order = _mapping(item[1]).get("x-order")
    return order if isinstance(order, int | float) else float("inf")


def _sound(rules: Any) -> dict[str, Any]:
    """Replace broken rules with none, so that the name stays known."""
    try:
        Draft202012Validator.check_schema(rules)
    except SchemaError:
        return {}
    return _mapping(rules)


class _Expansion:
    """Resolves every `$ref`, and merges every lone `allOf` or `anyOf` branch into its parent.

    Cog puts an enum into `allOf: [{"$ref": …}]` next to its default, and OpenAPI 3.1 puts an
    optional input into `anyOf` with `null`. Schemas that refer to each other would never end: a
    reference that repeats itself, or follows thousands of others, accepts anything.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._left = _MOST_PARTS

    def of(self, node: Any, above: tuple[str, ...] = ()) -> Any:
        self._left -= 1
        if isinstance(node, list):
            return [self.of(item, above) for item in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        own = cast("dict[str, Any]", node)
        if isinstance(own.get("$ref"), str):
            name = own["$ref"].rpartition("/")[2]
            is_over = name in above or self._left < 0
            target = {} if is_over else _mapping(self._schemas.get(name))
            beside = {key: value for key, value in own.items() if key != "$ref"}
            return self.of({**target, **beside}, (*above, name))
        # JSON Schema's other references lead nowhere here.
        kept = {key: value for key, value in own.items() if not key.startswith("$")}
        return _lone({key: self.of(value, above) for key, value in kept.items()})


def _lone(rules: dict[str, Any]) -> dict[str, Any]:
    kinds = rules.get("type")
    if isinstance(kinds, list) and "null" in kinds:
        named = [kind for kind in cast("list[Any]", kinds) if kind != "null"]
        rules = {**rules, "type": named[0] if len(named) == 1 else named, "nullable": True}
    for key in ("allOf", "anyOf", "oneOf"):
        branches = rules.get(key)
        if not isinstance(branches, list):
            continue
        every = [_mapping(branch) for branch in cast("list[Any]", branches)]
        solid = [branch for branch in every if branch.get("type") != "null"]
        rest = {name: value for name, value in rules.items() if name != key}
        rules = {**solid[0], **rest} if len(solid) == 1 else {**rest, key: solid}
        if len(solid) < len(every):
            rules["nullable"] = True
    return rules


def _branches(rules: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield dict(rules)
    for key in ("anyOf", "oneOf", "allOf"):
        yield from (_mapping(branch) for branch in rules.get(key, ()))


def _takes_file(rules: Mapping[str, Any]) -> bool:
    return any(branch.get("format") == "uri" for branch in _branches(rules))


def _items(rules: Mapping[str, Any]) -> dict[str, Any]:
    inner = [_mapping(branch.get("items")) for branch in _branches(rules)]
    return next(filter(None, inner), inner[0])


def _as_json(value: Any, rules: Mapping[str, Any]) -> Any:
    """Replace each file with a URL, where a file is allowed."""
    if is_file(value) and _takes_file(rules):
        return _FILE_URI
    if isinstance(value, list | tuple):
        inner = _items(rules)
        return [_as_json(item, inner) for item in cast("Sequence[Any]", value)]
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {name: _as_json(one, _member(rules, name)) for name, one in fields}
    return value


def _member(rules: Mapping[str, Any], name: str) -> dict[str, Any]:
    named = [_mapping(_mapping(one.get("properties")).get(name)) for one in _branches(rules)]
    return next(filter(None, named), named[0])


def _or_null(keyword: str) -> Any:
    """Make a JSON Schema keyword admit null if OpenAPI 3.0's `nullable` is next to it."""
    check = cast("Any", Draft202012Validator.VALIDATORS)[keyword]

    def checked(validator: Any, value: Any, instance: Any, rules: Any) -> Any:
        if instance is None and rules.get("nullable") is True:
            return ()
        return check(validator, value, instance, rules)

    return checked


def _never_wrong(*_: Any) -> tuple[Any, ...]:
    return ()


# Matching a pattern may take longer than a prediction; Replicate checks it before it bills.
_CHANGED = ("type", "enum", "anyOf", "oneOf", "allOf")
_VALIDATORS: dict[str, Any] = {
    **{one: _or_null(one) for one in _CHANGED},
    **dict.fromkeys(("pattern", "patternProperties"), _never_wrong),
}
_Validator = cast("Any", extend(Draft202012Validator, _VALIDATORS))


@_formats.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or _URI.match(value) is not None


def _vagueness(error: ValidationError) -> int:
    told_by = ("enum", "type")
    return told_by.index(error.validator) if error.validator in told_by else len(told_by)


def _phrase(error: ValidationError) -> str:
    rules = _mapping(error.schema)
    rule = str(error.validator)
    limit: Any = error.validator_value
    if rule in _SIZES:
        return f"must have {_SIZES[rule].format(limit)}, not {len(cast('Any', error.instance))}"
    return f"{_demand(rule, limit, rules)}, not {_shown(error.instance, rules)}"


def _demand(rule: str, limit: Any, rules: Mapping[str, Any]) -> str:
    match rule:
        case "enum":
            return f"must be {one_of([repr(choice) for choice in limit])}"
        case "minimum" | "maximum":
            return f"must be {span(rules.get('minimum'), rules.get('maximum'))}"
        case "multipleOf":
            return f"must be a multiple of {limit}"
        case "type" | "format" | "anyOf" | "oneOf":
            return f"takes {one_of(_kinds(rules))}"
        case _:
            return f"must satisfy {rule} {_brief.repr(limit)}"


def _kinds(rules: Mapping[str, Any]) -> list[str]:
    kinds: list[str] = []
    for branch in _branches(rules):
        kind = branch.get("type", ())
        names = [kind] if isinstance(kind, str) else kind
        if branch.get("format") == "uri":
            kinds.append("a URL or a file")
        elif kind == "array" and _takes_file(_items(branch)):
            kinds.append("a list of URLs or files")
        else:
            kinds.extend(_KINDS[name] for name in names)
    return kinds


def _is_secret(rules: Mapping[str, Any]) -> bool:
    return rules.get("format") == "password" or bool(rules.get("x-cog-secret"))


def _shown(value: Any, rules: Mapping[str, Any]) -> str:
    if _is_secret(rules):
        return "the value given"
    return "a file" if is_file(value) else " ".join(_brief.repr(value).split())
