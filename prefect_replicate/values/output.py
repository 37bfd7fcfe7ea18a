"""A prediction's output: stored files, text, or JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import PurePath
from typing import Any, cast
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from prefect_replicate.values.prediction import Prediction

KEPT = timedelta(hours=1)
"""How long Replicate keeps a prediction's files after its end
(https://replicate.com/docs/topics/predictions/data-retention)."""

_MARGIN = timedelta(minutes=10)

_URL = re.compile(r"[a-z0-9]+://")
_NOT_IN_KEYS = re.compile(r"[\x00-\x20\x7f#?&%\"'<>\[\]{}|\\^`~]")
_LONGEST_KEY = 512
"""Prefect's limit for an asset key, which also can't have the characters above, except `~`."""


class OutputFile(BaseModel):
    """One file of a prediction's output, stored and verified."""

    model_config = ConfigDict(frozen=True)

    location: str
    """An absolute path, or the storage block's own path or key."""
    output_path: str
    """Its place in the output: `""` for the whole output, `"[1]"`, `"video.url"`."""
    source: str
    """The URL it came from; `data:` for an inline file."""
    media_type: str
    """Such as `video/mp4`."""
    size: int
    """Bytes."""
    sha256: str
    """The checksum of the content, as 64 hexadecimal digits."""
    block: str | None = None
    """The storage block that holds it, as `type-slug/name`; `None` for a local file."""
    bucket: str | None = None
    """The block's bucket, such as `s3://media`; `None` if unknown."""
    expires_at: datetime | None = None
    """When Replicate deletes the file at `source`."""

    @property
    def web_url(self) -> str | None:
        """The page that shows it in a browser; `None` if there is none."""
        scheme, _, rest = self._plain_uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme == "s3":
            return f"https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key)}"
        if scheme in ("gs", "gcs"):
            return f"https://storage.cloud.google.com/{bucket}/{quote(key)}"
        return quote(self._plain_uri, safe=":/?=&%") if scheme in ("http", "https") else None

    @property
    def uri(self) -> str:
        """Its key as a Prefect asset, such as `file:///home/me/videos/abc.mp4`.

        Characters that a key can't have are written as `~` and two hexadecimal digits.
        """
        return _asset_key(self._plain_uri)

    @property
    def _plain_uri(self) -> str:
        if _URL.match(self.location):
            return self.location
        path = PurePath(self.location).as_posix().lstrip("/")
        if self.block is None:
            return f"file:///{path}"
        return f"{self.bucket or f'block://{self.block}'}/{path}"

    @property
    def is_at_source(self) -> bool:
        """Whether Replicate still has it, with time left to use it."""
        if self.expires_at is None or not self.source.startswith("http"):
            return False
        return datetime.now(timezone.utc) < self.expires_at - _MARGIN


def _asset_key(uri: str) -> str:
    key = _NOT_IN_KEYS.sub(lambda found: f"~{ord(found[0]):02X}", uri)
    if len(key) <= _LONGEST_KEY:
        return key
    end = f"~{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    return key[: _LONGEST_KEY - len(end)] + end


class ModelOutput(BaseModel):
    """The result of `run_model` and `predict`."""

    model_config = ConfigDict(frozen=True)

    prediction: Prediction
    """The prediction that made it, in its final status."""
    output: Any = None
    """JSON; text that the model streams in parts is joined."""
    text: str | None = None
    """The output, if it is text."""
    files: list[OutputFile] = []
    """The output's files, as stored; empty if no destination was given."""

    @property
    def has_files_alone(self) -> bool:
        """Whether the output has nothing but files."""
        return bool(self.files) and _count(self.output) <= len(self.files)

    @property
    def predict_time(self) -> float | None:
        """Seconds of model time, as in `Prediction`."""
        return self.prediction.predict_time


class GeneratedVideo(ModelOutput):
    """The result of `generate_video`."""


def _count(value: Any) -> int:
    """Count the texts, numbers and other single values in an output."""
    if isinstance(value, dict):
        return sum(map(_count, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return sum(map(_count, cast("list[Any]", value)))
    return value is not None


class OutputSchema(BaseModel):
    """A model's output, as its version's schema describes it."""

    model_config = ConfigDict(frozen=True)

    rules: dict[str, Any] = {}
    """JSON Schema, with every `$ref` resolved; empty if unknown."""

    @property
    def makes_files(self) -> bool | None:
        """Whether there is a file anywhere in the output; `None` if the schema doesn't say."""
        found = _files_in(_branches(self.rules))
        return True if True in found else None if None in found else False

    def joined(self, output: Any) -> Any:
        """Join the parts of a text if the schema says to display them joined."""
        shown = [one.get("x-cog-array-display") for one in _branches(self.rules)]
        if "concatenate" not in shown or not isinstance(output, list):
            return output
        return "".join(str(one) for one in cast("list[Any]", output) if one is not None)

    def texts(self, output: Any) -> Iterator[tuple[Place, str, bool | None]]:
        """Yield each text in an output.

        Yields:
            Its place, the text, and whether it is a file (`None` if the schema doesn't say).
        """
        yield from _texts(output, _branches(self.rules), ())


Place = tuple[str | int, ...]
"""The keys and indexes that lead from the whole output to a part of it."""

_Rules = list[dict[str, Any]]
"""The rules for one value: its own, and the alternatives in them."""


def _branches(*rules: Any) -> _Rules:
    found = _Rules()
    for one in rules:
        if isinstance(one, dict):
            own = cast("dict[str, Any]", one)
            inner = [each for key in ("anyOf", "oneOf", "allOf") for each in own.get(key) or ()]
            found += [own, *_branches(*inner)]
    return found


def _is_file(rules: _Rules) -> bool | None:
    if any(one.get("format") == "uri" for one in rules):
        return True
    return False if any("type" in one for one in rules) else None


def _items(rules: _Rules) -> _Rules:
    return _branches(*(one.get("items") for one in rules))


def _properties(rules: dict[str, Any]) -> dict[str, Any]:
    named = rules.get("properties")
    return cast("dict[str, Any]", named) if isinstance(named, dict) else {}


def _member(rules: _Rules, name: str) -> _Rules:
    return _branches(
        *(_properties(one).get(name, one.get("additionalProperties")) for one in rules)
    )


def _texts(value: Any, rules: _Rules, place: Place) -> Iterator[tuple[Place, str, bool | None]]:
    if isinstance(value, str):
        yield place, value, _is_file(rules)
    elif isinstance(value, dict):
        for name, one in cast("dict[str, Any]", value).items():
            yield from _texts(one, _member(rules, name), (*place, name))
    elif isinstance(value, list | tuple):
        inner = _items(rules)
        for number, one in enumerate(cast("list[Any]", value)):
            if isinstance(one, str | dict | list | tuple):
                yield from _texts(one, inner, (*place, number))


def _files_in(rules: _Rules) -> set[bool | None]:
    inner = [one.get(key) for one in rules for key in ("items", "additionalProperties")]
    named = [each for one in rules for each in _properties(one).values()]
    within = [found for one in [*inner, *named] if (found := _branches(one))]
    if not within and any(one.get("type") in ("object", "array") for one in rules):
        return {None}  # of anything
    return {one for each in within for one in _files_in(each)} or {_is_file(rules)}
