"""Conversion of a user's input into JSON values and files.

Results of other predictions stand for their files or text, so they can be passed straight to the
next model. A value without a plain meaning is refused, with the input's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from io import TextIOBase
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeAlias, cast
from uuid import UUID

from pydantic import AnyUrl, SecretBytes, SecretStr

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.output import KEPT, ModelOutput, OutputFile, OutputSchema
from prefect_replicate.values.prediction import Prediction

_DEEPEST = 90
_LARGEST = 10**300

File: TypeAlias = Path | BinaryIO | bytes
"""Values that are sent as files."""


class _Unusable(Exception):
    """The text follows "input 'x' is "; it says what the value is, and what to pass instead."""


def is_file(value: Any) -> bool:
    """Return whether a value is a `File`."""
    return isinstance(value, PurePath | bytes) or (
        hasattr(value, "read") and not isinstance(value, TextIOBase)
    )


def as_given(input: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an input to JSON values and `File`s, leaving out inputs that are `None`.

    Raises:
        InvalidInputError: An input has no plain meaning; the message names it.
    """
    given = dict[str, Any]()
    for name, value in input.items():
        if value is None:
            continue
        try:
            given[name] = _plain(value, 0)
        except _Unusable as exc:
            raise InvalidInputError(f"input {name!r} is {exc}. Nothing was sent.") from None
    return given


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise _Unusable("nested too deeply")
    while (meant := _meant(value)) is not value:
        value = meant
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, Any]", value).items()
        return {_name(name): _plain(one, depth + 1) for name, one in fields}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, depth + 1) for one in cast("list[Any]", value)]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unusable(f"{value}, which JSON can't represent")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise _Unusable("a number with hundreds of digits")
    if value is None or isinstance(value, bool | int | float) or is_file(value):
        return value
    if isinstance(value, TextIOBase):
        raise _Unusable("a file opened as text; open it with mode 'rb'")
    raise _Unusable(f"a {type(value).__name__}, which JSON can't represent")


def _meant(value: Any) -> Any:
    """Return what a value stands for; the value itself if nothing else."""
    match value:
        case Prediction() | ModelOutput() | OutputFile():
            return _made(value)
        case Enum():
            return value.value
        case SecretStr() | SecretBytes():
            return value.get_secret_value()
        case bytearray() | memoryview():
            return bytes(cast("bytearray", value))
        case Decimal():
            if value.is_nan():
                return math.nan
            is_whole = value.adjusted() < 300 and value == value.to_integral_value()
            return int(value) if value.is_finite() and is_whole else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case UUID() | AnyUrl():
            return str(value)
        case _:
            is_array = hasattr(value, "dtype") and hasattr(value, "tolist")
            return value.tolist() if is_array else value  # numpy's; its scalars have both, too


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise _Unusable(f"a dict with the key {name!r}, but JSON keys are strings")
    return _text(name)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unusable("a string with half a character (a lone surrogate)") from None
    return text


def _made(value: Prediction | ModelOutput | OutputFile) -> Any:
    """Return a result's files (each by its URL while Replicate has it, else as stored) or text."""
    match value:
        case OutputFile():
            return value.source if value.is_at_source else _stored(value)
        case ModelOutput(files=[_, *_]):
            files = [_made(one) for one in value.files]
            return files[0] if len(files) == 1 else files
        case ModelOutput():
            return _made_by(value.prediction) if value.text is None else value.text
        case Prediction():
            return _made_by(value)


def _stored(file: OutputFile) -> Path:
    if file.block is not None:
        raise _Unusable(
            f"a file that Replicate has deleted and that is stored as {file.location!r} in the"
            f" block {file.block}: read it from there, and pass its bytes"
        )
    return Path(file.location)


def _made_by(prediction: Prediction) -> Any:
    if not prediction.is_succeeded:
        raise _Unusable(f"prediction {prediction.id}, which is {prediction.status}")
    ended = prediction.completed_at
    is_late = ended is not None and datetime.now(timezone.utc) > ended + KEPT - timedelta(minutes=1)
    if prediction.data_removed or (is_late and prediction.source != "web"):
        raise _Unusable(
            f"prediction {prediction.id}, whose output Replicate has deleted: store its files"
            " within the hour, and pass those instead"
        )
    urls = [text for _, text, _ in OutputSchema().texts(prediction.output)]
    is_all_urls = urls and all(one.startswith(("http://", "https://", "data:")) for one in urls)
    if isinstance(prediction.output, str) or not is_all_urls:
        return prediction.output
    return urls[0] if len(urls) == 1 else urls
