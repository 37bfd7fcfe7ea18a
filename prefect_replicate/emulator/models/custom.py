"""Models that users add: a real model's schema, and an output that fits it."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from math import ceil, floor
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError

from prefect_replicate.emulator.artifacts import (
    Artifact,
    PictureFile,
    SoundFile,
    TextFile,
    VideoFile,
)
from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.models.kinds import sentences
from prefect_replicate.emulator.models.model import Job, Model, Version
from prefect_replicate.emulator.models.studio import parse_ratio
from prefect_replicate.emulator.plans import Plan, artifacts_in, with_files
from prefect_replicate.emulator.scenes import Scene

_CREATED = 1_760_000_000.0
_FULL_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_REF = "#/components/schemas/"
_COMBINED = ("allOf", "anyOf", "oneOf")
_WANTED = "expected the openapi_schema of a model's version"
_SCHEMA_CHECKS = FormatChecker(formats=("regex",))

_FILE_SECONDS = 2.0
_LETTERS = re.compile(r"[a-z0-9]+")
_NAME_AS_ASKED = {
    **{suffix: suffix for suffix in ("png", "webp", "jpg", "mp4", "wav", "svg", "json", "txt")},
    "jpeg": "jpg",
    **dict.fromkeys(("webm", "mov", "gif"), "mp4"),
    **dict.fromkeys(("mp3", "flac", "ogg", "m4a", "aac", "opus"), "wav"),
}
_MEDIA = {
    "mp4": "video videos mp4 movie clip animation duration seconds frames fps",
    "wav": "audio sound music song speech voice vocals speaker drums bass wav mp3 tts lyrics",
    "png": "image images picture pictures photo mask thumbnail spectrogram png",
}
_OTHER_FILES = {
    "svg": "svg",
    "json": "json",
    "md": "markdown",
    "txt": "text txt transcript subtitles srt vtt csv",
}
_TEXTS = {
    "md": ("text/markdown", "# The local Replicate\n\nIt made this text.\n"),
    "svg": ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>\n'),
    "json": ("application/json", '{"made_by": "the local Replicate"}\n'),
}
_FORMATTED = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "email": "someone@example.com",
}
_TEXT_ITEM = re.compile(r"\s*\S+")
_SHALLOW, _DEEPEST = 4, 12
_MOST_FILES = 100


def custom_model(
    full_name: str,
    schema: Mapping[str, Any],
    *,
    is_official: bool = False,
    output: Any = None,
    seconds: float = 0.0,
) -> Model:
    """Return a model that takes what `schema` says and returns what `schema` says.

    The arguments are those of `Emulator.add_model`, which describes them.

    Raises:
        ValueError: An argument is invalid; the message says which.
    """
    if not _FULL_NAME.fullmatch(full_name):
        raise ValueError(f"a model is owner/name, not {full_name!r}")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds must be zero or more, not {seconds}")
    document = _copied(schema, f"the schema of {full_name}")
    wanted = _copied(output, f"the output of {full_name}")
    try:
        check_schema(document)
    except ValueError as exc:
        raise ValueError(f"the schema of {full_name} is invalid: {exc}") from exc
    schemas = document["components"]["schemas"]

    def plan(job: Job) -> Plan:
        if wanted is None:
            made = _Sampler(schemas, job).value(schemas.get("Output", {}))
        else:
            made = with_files(wanted, lambda name: _file(name, job))
        is_iterator = _whole(schemas.get("Output", {}), schemas).get("x-cog-array-type")
        arrivals = _arrivals(made, seconds) if is_iterator == "iterator" else ()
        return Plan(queue=0.0, run=seconds, output=made, arrivals=arrivals)

    owner, _, name = full_name.partition("/")
    digest = hashlib.sha256(f"{full_name} {json.dumps(document, sort_keys=True)}".encode())
    return Model(
        owner=owner,
        name=name,
        description="Added by its schema",
        versions=(Version(digest.hexdigest(), _CREATED, document),),
        planner=plan,
        is_official=is_official,
    )


def read_schema(file: Path) -> Mapping[str, Any]:
    """Return the OpenAPI document in a JSON file.

    Raises:
        ValueError: The file cannot be read, is not JSON, or holds something else.
    """
    try:
        document = json.loads(file.read_bytes())
        check_schema(document)
    except OSError as exc:
        raise ValueError(f"cannot read the schema {file}: {exc.strerror}") from exc
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise ValueError(f"the schema {file} is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise ValueError(f"the schema {file} is nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"the schema {file} is invalid: {exc}") from exc
    return document


def check_schema(document: object) -> None:
    """Raise unless `document` is the self-contained OpenAPI document of a version.

    Raises:
        ValueError: It isn't; the message says what is wrong.
    """
    match document:
        case {"components": {"schemas": {"Input": {}}}}:
            whole = cast("Mapping[str, Any]", document)
        case {"openapi_schema": {}}:
            raise ValueError(f"this is a whole version; {_WANTED}, which is a part of it")
        case _:
            raise ValueError(f"it has no components.schemas.Input; {_WANTED}")
    schemas: Mapping[str, Any] = whole["components"]["schemas"]
    for name, schema in schemas.items():
        try:
            Draft202012Validator.check_schema(schema, format_checker=_SCHEMA_CHECKS)
        except SchemaError as exc:
            raise ValueError(f"{name} is not a schema: {exc.message}") from exc
    if odd := [name for name, one in cog.inputs(whole).items() if not isinstance(one, Mapping)]:
        raise ValueError(f"the input {odd[0]} has no schema")
    for ref in _refs(schemas):
        # A reference to elsewhere would be fetched from the internet when an input is checked.
        if not ref.startswith(_REF) or ref.removeprefix(_REF) not in schemas:
            raise ValueError(f"it refers to {ref}, which is not in it")
    try:
        TopologicalSorter({name: set(_bases(one)) for name, one in schemas.items()}).prepare()
    except CycleError as exc:
        raise ValueError(f"{exc.args[1][0]} refers to itself without end") from exc


def _copied(value: Any, what: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as exc:
        raise ValueError(f"{what} is not JSON: {exc}") from exc


def _refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        named = cast("Mapping[str, Any]", schema)
        if isinstance(ref := named.get("$ref"), str):
            yield ref
        for one in named.values():
            yield from _refs(one)
    elif isinstance(schema, list):
        for one in cast("list[Any]", schema):
            yield from _refs(one)


def _bases(schema: Any) -> Iterator[str]:
    """Yield the names of the schemas that apply to the same value as `schema`."""
    if isinstance(schema, Mapping):
        named = cast("Mapping[str, Any]", schema)
        if "$ref" in named:
            yield named["$ref"].removeprefix(_REF)
        for keyword in _COMBINED:
            for one in named.get(keyword, ()):
                yield from _bases(one)


def _whole(schema: Any, schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `schema` merged with its references and its first alternative that is not null."""
    if not isinstance(schema, Mapping):
        return {}
    named = dict(cast("Mapping[str, Any]", schema))
    parts: list[Any] = list(named.pop("allOf", ()))
    if "$ref" in named:
        parts.append(schemas[named.pop("$ref").removeprefix(_REF)])
    for keyword in ("anyOf", "oneOf"):
        wholes = [_whole(one, schemas) for one in named.pop(keyword, ())]
        parts += [one for one in wholes if one.get("type") != "null"][:1]
    whole: dict[str, Any] = {}
    for part in parts:
        whole.update(_whole(part, schemas))
    return {**whole, **named}


def _arrivals(output: Any, seconds: float) -> tuple[float, ...]:
    # The file host serves only the files of succeeded predictions.
    if not isinstance(output, list) or any(artifacts_in(output)):
        return ()
    count = len(cast("list[Any]", output))
    return tuple(seconds * number / (count + 1) for number in range(1, count + 1))


class _Sampler:
    """Makes a value for each schema, the same for the same input.

    Args:
        schemas: The schemas that a `$ref` may name.
        job: The prediction.
    """

    def __init__(self, schemas: Mapping[str, Any], job: Job) -> None:
        self._schemas = schemas
        self._job = job
        self._chance = random.Random(_seed(job))

    def value(self, schema: Any, path: tuple[str, ...] = ()) -> Any:
        """Return a value that fits `schema`; `path` leads to it from the whole output."""
        schema = _whole(schema, self._schemas)
        if len(path) > _DEEPEST:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chance.choice(schema["enum"])
        match _type(schema):
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "integer" | "number" as kind:
                return self._number(schema, is_integer=kind == "integer")
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
            case _:
                return self._text(schema, path)

    def _object(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        fields = schema.get("properties", {})
        required = schema.get("required", ())
        names = dict.fromkeys((*fields, *required) if len(path) < _SHALLOW else required)
        made = {name: self.value(fields.get(name, {}), (*path, name)) for name in names}
        others = schema.get("additionalProperties", {})
        if not fields and not made and others is not False:
            made["value"] = self.value(others, (*path, "value"))
        return made

    def _array(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> list[Any]:
        items = schema.get("items", {})
        item = _whole(items, self._schemas)
        is_file = item.get("format") == "uri"
        is_plain = item.get("type") == "string" and not item.keys() & {"format", "enum", "const"}
        if is_plain and schema.get("x-cog-array-type") == "iterator":
            return _TEXT_ITEM.findall(sentences(self._chance))
        count = 2 if len(path) < _SHALLOW else 0
        asked = self._job.input.get("num_outputs")
        if is_file and isinstance(asked, int):
            count = min(asked, _MOST_FILES)
        count = max(min(count, schema.get("maxItems", count)), schema.get("minItems", 0))
        return [self.value(items, (*path, str(number))) for number in range(count)]

    def _number(self, schema: Mapping[str, Any], *, is_integer: bool) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None else high - 10
        if high is None:
            high = low + 10
        step = schema.get("multipleOf", 1 if is_integer else None)
        between = low + (high - low) * self._chance.uniform(0.25, 0.75)
        if step is None:
            return round(between, 6) if high - low > 0.01 else between
        rounded = floor(between / step) * step
        return rounded if rounded >= low else ceil(low / step) * step

    def _text(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> str | Artifact:
        kind = schema.get("format")
        if kind == "uri":
            return _file(f"{'-'.join(('out', *path))}.{self._suffix(schema, path)}", self._job)
        if kind == "uuid":
            return str(UUID(int=self._chance.getrandbits(128), version=4))
        text = _FORMATTED.get(kind or "", sentences(self._chance))
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]

    def _suffix(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> str:
        """Return a file's extension: as the input asks, or as the words around it suggest."""
        asked = str(self._job.input.get("output_format", "")).lower()
        if asked in _NAME_AS_ASKED:
            return _NAME_AS_ASKED[asked]
        all_files = {**_MEDIA, **_OTHER_FILES}
        title = f"{schema.get('title', '')} {schema.get('description', '')}"
        inputs = " ".join(cog.inputs({"components": {"schemas": self._schemas}}))
        for words, files in (
            (" ".join(path), all_files),
            (title, all_files),
            (self._job.model, all_files),
            (inputs, _MEDIA),
        ):
            found = set(_LETTERS.findall(words.lower()))
            for suffix, known in files.items():
                if found.intersection(known.split()):
                    return suffix
        return "png"


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = cast("list[str]", kind)
        kind = next((one for one in kinds if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return "text" if kind == "string" else kind


def _file(name: str, job: Job) -> Artifact:
    """Return a small file of the kind that its extension says; a text if that is unknown."""
    suffix = name.rpartition(".")[2].lower()
    name = re.sub(r"[^\w.-]", "-", name) or "out"
    if suffix == "wav":
        return SoundFile(name, _FILE_SECONDS, _seed(job))
    if suffix in ("png", "webp", "jpg", "jpeg", "mp4"):
        prompt = str(job.input.get("prompt") or job.input.get("text") or "(no prompt)")
        ratio = parse_ratio(job.input.get("aspect_ratio"))
        scene = Scene(prompt, job.model, _FILE_SECONDS, _seed(job), ratio)
        return VideoFile(name, scene) if suffix == "mp4" else PictureFile(name, scene)
    media_type, text = _TEXTS.get(suffix, ("text/plain", f"{name}, from {job.model}\n"))
    return TextFile(name, text, media_type)


def _seed(job: Job) -> int:
    seed = job.input.get("seed")
    return seed if isinstance(seed, int) else job.seed
