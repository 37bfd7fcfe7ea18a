"""A video's length in a model's own unit: seconds, milliseconds, or frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefect_replicate.values.model_schema import (
    InputProperty,
    ModelSchema,
    Refused,
    one_of,
    span,
)

# The names are those of the video models on Replicate; the first that is a length is used.
_LENGTHS = (
    "duration",
    "seconds",
    "duration_seconds",
    "seconds_duration",
    "video_duration",
    "duration_sec",
    "length_seconds",
    "video_seconds",
    "duration_ms",
    "num_frames",
    "frame_num",
    "number_of_frames",
    "max_frames",
    "frames",
    "video_length",
    "length",
)
# In a description the first unit is the input's: "in frames (… 16 frames @ 8 fps is 2 seconds)".
_UNITS = re.compile(
    r"(?P<ms>\bmilliseconds?\b|\bms\b)"
    r"|(?P<minutes>\bminutes?\b)"
    r"|(?P<frames>\bframes?\b(?! ?(?:per|/|rate)))"
    r"|(?P<s>\bseconds?\b|\bsecs?\b)",
    re.IGNORECASE,
)
# ltx-2-retake: "Duration of the edited section in seconds".
_SAYS_OTHER_LENGTH = re.compile(
    r"\b(?:section|segment|chunk|edit\w*|trim\w*|transition|fade|each|audio|music|sound|input)\b",
    re.IGNORECASE,
)
_FRAME_RATES = (
    "frames_per_second",
    "fps",
    "frame_rate",
    "framerate",
    "output_fps",
    "playback_frames_per_second",
)
# Models that count frames, but whose schema doesn't give the frame rate.
_KNOWN_FRAME_RATES = {
    "lightricks/ltx-video": 24.0,  # "produces 24 FPS videos", https://replicate.com/lightricks/ltx-video
    "wan-video/wan2.1-with-lora": 16.0,  # 17, 33, … or 81 frames are said to be "1 to 5 seconds"
    "shridharathi/ghibli-vid": 16.0,  # the same words
}
_FRAME_TOLERANCE = 0.5
"""Seconds that a whole number of frames may differ from the requested length."""
_QUANTITY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:s|sec|secs|second|seconds)?", re.IGNORECASE)
# wan-2.1-1.3b: "Video duration in frames (based on standard 16fps playback)"
_RATE_IN_WORDS = re.compile(r"\b(\d{1,3})\s*(?:fps|frames per second)\b", re.IGNORECASE)
# hunyuan-video: "must be 4k+1, ex: 49 or 129"; ltx-video: "will be 8N+1"
_STEP_IN_WORDS = re.compile(r"\b([1-9]\d{0,2})\s*\*?\s*[kn]\s*\+\s*1\b", re.IGNORECASE)


def video_duration(
    seconds: float, schema: ModelSchema, model: str, free: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a video's length in the model's own terms.

    Args:
        seconds: The requested length. A model that counts frames gets the nearest number of frames
            that it takes, if that is off by at most half a second; nothing else is rounded.
        schema: The model's own schema, which is known.
        model: The model as the user named it.
        free: The user's own part of the input, which may set the frame rate.

    Raises:
        Refused: The model can't do it.
    """
    target = schema.find(_LENGTHS, _is_length)
    if target is None:
        raise Refused("duration", "it has no input for duration")
    match _unit(target, model):
        case "frames":
            return {target.name: _frames(seconds, target, _frame_rate(target, schema, model, free))}
        case "ms":
            return {target.name: exact_time(seconds, target, 1000)}
        case "s":
            return {target.name: exact_time(seconds, target)}
        case _:
            raise Refused(
                target.name,
                f"its schema does not say that {target.name!r} counts seconds or frames:"
                " set it in `input` instead of duration",
            )


def _is_length(one: InputProperty) -> bool:
    first_clause = re.split(r"[.;(]", one.description, maxsplit=1)[0]
    is_number = bool(_numbered(one)) or one.type in ("integer", "number")
    return is_number and not _SAYS_OTHER_LENGTH.search(first_clause)


def _unit(target: InputProperty, model: str) -> str | None:
    for text in (target.description, target.name.replace("_", " ")):
        said = _UNITS.search(text)
        if said:
            return said.lastgroup
    if "length" in target.name:
        return "frames" if _known_rate(model) else None
    return "s"


def _known_rate(model: str) -> float | None:
    return _KNOWN_FRAME_RATES.get(model.partition(":")[0])


def _frame_rate(
    frames: InputProperty, schema: ModelSchema, model: str, free: Mapping[str, Any]
) -> float | None:
    """Return the frames per second that the user sets, else the schema's or the makers' number."""
    named = schema.find(_FRAME_RATES, lambda _: True)
    words = _RATE_IN_WORDS.search(frames.description)
    sources = (
        free.get(named.name, named.default) if named else None,
        words[1] if words else None,
        _known_rate(model),
    )
    return next(filter(None, map(_number, sources)), None)


def exact_time(asked: float, target: InputProperty, per_second: int = 1) -> Any:
    """Write seconds or milliseconds exactly as the input takes them."""
    _refuse_no_time(asked, target)
    amount = round(asked * per_second, 6)
    choices = _numbered(target)
    if choices and amount not in choices:
        possible = f" of {_listed(number / per_second for number in choices)} s"
        raise Refused(target.name, f"it makes videos{possible}, not {asked:g} s")
    if choices:
        return choices[amount]
    low, high = target.minimum, target.maximum
    is_split = target.type == "integer" and not float(amount).is_integer()
    if is_split or not (low is None or low <= amount) or not (high is None or amount <= high):
        whole = " in whole seconds" if is_split and per_second == 1 else ""
        possible = _reach(target, per_second)
        raise Refused(target.name, f"it makes videos{possible}{whole}, not {asked:g} s")
    # A flow's `duration: float` turns 5 into 5.0.
    return int(amount) if float(amount).is_integer() else amount


def _frames(asked: float, target: InputProperty, rate: float | None) -> Any:
    _refuse_no_time(asked, target)
    if rate is None:
        raise Refused(
            target.name,
            "it counts frames, and its schema does not say how many per second:"
            f" set {target.name!r} in `input` instead of duration",
        )
    choices = _numbered(target)
    if choices:
        count = min(choices, key=lambda number: abs(number - asked * rate))
        possible = f" of {_listed(number / rate for number in choices)} s"
    else:
        count = _nearest_count(asked * rate, target)
        possible = _reach(target, rate)
    if abs(count / rate - asked) > _FRAME_TOLERANCE:
        text = f"it makes videos{possible} at {rate:g} frames per second, not {asked:g} s"
        raise Refused(target.name, text)
    return choices.get(count, count)


def _nearest_count(wanted: float, target: InputProperty) -> int:
    described = _STEP_IN_WORDS.search(target.description)
    step = int(described[1]) if described else 1
    steps = round((wanted - 1) / step)
    if target.maximum is not None:
        steps = min(steps, math.floor((target.maximum - 1) / step))
    if target.minimum is not None:
        steps = max(steps, math.ceil((target.minimum - 1) / step))
    return max(steps, 0) * step + 1


def _refuse_no_time(asked: float, target: InputProperty) -> None:
    if not 0 < asked < math.inf:
        raise Refused(target.name, f"duration must be more than 0 s, not {asked:g} s")


def _reach(target: InputProperty, per_second: float) -> str:
    low, high = (
        None if bound is None else round(bound / per_second, 1)
        for bound in (target.minimum, target.maximum)
    )
    # seedance-2.0 takes -1 for "as long as the model likes", which is not a length.
    written = span(low if low is not None and low > 0 else None, high)
    preposition = "" if written.startswith("from") else "of "
    return f" {preposition}{written} s" if written else ""


def _numbered(target: InputProperty) -> dict[float, Any]:
    """Return the choices by their number: `5`, `"5"` and `"5s"` are all 5."""
    numbers = ((_number(choice), choice) for choice in target.enum)
    return {number: choice for number, choice in numbers if number is not None and number > 0}


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    quantity = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(quantity[1]) if quantity else None


def _listed(numbers: Iterable[float]) -> str:
    return one_of([f"{round(number, 1):g}" for number in sorted(numbers)])
