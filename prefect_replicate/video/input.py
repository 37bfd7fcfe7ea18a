"""The parameters that video models have in common, in each model's own names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prefect_replicate.values.model_schema import (
    InputProperty,
    ModelSchema,
    one_of,
    span,
    validate_input,
)

# From the schemas of the video models on Replicate; the first that a model has is used. Reference
# images and last frames are other things than a first frame, and are left to `input`.
_SECONDS = (
    "duration",
    "seconds",
    "duration_seconds",
    "seconds_duration",
    "video_duration",
    "duration_sec",
    "length_seconds",
    "video_seconds",
)
_FRAMES = ("num_frames", "frame_num", "number_of_frames", "frames", "video_length", "length")
_FRAME_RATES = ("frames_per_second", "fps", "frame_rate", "framerate", "output_fps")
_NAMES = {
    "prompt": ("prompt", "text_prompt", "text"),
    "image": (
        "image",
        "start_image",
        "first_frame_image",
        "input_image",
        "input_reference",
        "first_frame",
        "start_frame",
        "start_image_url",
        "first_frame_url",
        "image_url",
        "init_image",
        "img",
        "images",
        "input_images",
    ),
    "duration": _SECONDS + _FRAMES,
    "aspect_ratio": ("aspect_ratio", "ratio", "video_aspect_ratio"),
    "resolution": ("resolution", "quality", "target_size", "size", "video_size", "video_quality"),
    "seed": ("seed", "random_seed"),
    "negative_prompt": ("negative_prompt", "negative", "n_prompt"),
}
# Models that count frames without saying in their schema how many a second.
_KNOWN_FRAME_RATES = {
    "lightricks/ltx-video": 24.0,  # "produces 24 FPS videos", https://replicate.com/lightricks/ltx-video
}
_FRAME_TOLERANCE = 0.5
"""Seconds by which a whole number of frames may miss what was asked."""

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:s|sec|secs|second|seconds)?", re.IGNORECASE)
# wan-2.1-1.3b: "Video duration in frames (based on standard 16fps playback)"
_RATE_IN_WORDS = re.compile(r"\b(\d+)\s*(?:fps|frames per second)\b", re.IGNORECASE)
# hunyuan-video: "Number of frames to generate (must be 4k+1, ex: 49 or 129)"
_STEP_IN_WORDS = re.compile(r"\b(\d+)\s*\*?\s*[kn]\s*\+\s*1\b")


class _Refused(Exception):
    """The model cannot be asked for this value; the text says what it can do."""


def video_input(
    schema: ModelSchema,
    model: str,
    *,
    prompt: str,
    image: str | Path | IO[bytes] | None = None,
    duration: float | None = None,
    aspect_ratio: str | None = None,
    resolution: str | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    input: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a model's input from common parameters, and check it before anything is paid.

    Where the schema is unknown the parameters go by their own names, unchecked.

    Args:
        schema: The model's own input schema.
        model: The model as the user named it.
        prompt: What to show; may be empty where the model has no prompt or `input` has it.
        image: The first frame: a URL, a path, or an open binary file.
        duration: Seconds. A model that counts frames gets the nearest number of frames that it
            takes, if that misses by at most half a second; nothing else is rounded.
        aspect_ratio: Such as `16:9`.
        resolution: Such as `720p`, in upper or lower case.
        seed: For a repeatable result.
        negative_prompt: What not to show.
        input: The model's own inputs by its own names; they win over the parameters.

    Raises:
        InvalidInputError: The model has no such input or doesn't take the value; the message
            lists all problems, and what it takes.
    """
    given = {
        "prompt": prompt,
        "image": image,
        "duration": duration,
        "aspect_ratio": aspect_ratio,
        "resolution": resolution,
        "seed": seed,
        "negative_prompt": negative_prompt,
    }
    call = _Call(schema, model, dict(input or {}))
    mapped, problems = call.mapped({name: v for name, v in given.items() if v is not None})
    whole = {**mapped, **call.free}
    validate_input(schema, model, whole, problems=problems)
    return whole


@dataclass(frozen=True)
class _Call:
    """What the common parameters are mapped for; `free` is the user's own part of the input."""

    schema: ModelSchema
    model: str
    free: dict[str, Any]

    def mapped(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The given parameters by the model's names, and the problems by name."""
        values: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for parameter, value in given.items():
            target = self.target(parameter)
            if target is None:
                # A model may have no prompt at all, and then takes an empty one.
                if parameter != "prompt" or value.strip():
                    problems[parameter] = f"it has no input for {parameter}"
            elif target.name not in self.free:
                try:
                    values[target.name] = self.converted(parameter, value, target)
                except _Refused as refusal:
                    problems[target.name] = str(refusal)
        return values, problems

    def target(self, parameter: str) -> InputProperty | None:
        if not self.schema.is_known:
            return InputProperty(name=parameter)
        candidates = filter(None, map(self.schema.property, _NAMES[parameter]))
        return next((target for target in candidates if _fits(parameter, target)), None)

    def converted(self, parameter: str, value: Any, target: InputProperty) -> Any:
        match parameter:
            case "prompt" if not value.strip():
                raise _Refused("the prompt is empty")
            case "image" if target.is_file_list and not target.is_file:
                return [value]
            case "duration" if target.name in _FRAMES:
                return _frames(value, target, self.frame_rate(target))
            case "duration":
                return _seconds(value, target)
            case "aspect_ratio" | "resolution":
                return _choice(value, target)
            case _:
                return value

    def frame_rate(self, frames: InputProperty) -> float | None:
        """Frames a second: as the user sets them, else as the schema or the model's makers say."""
        named = next(filter(None, map(self.schema.property, _FRAME_RATES)), None)
        words = _RATE_IN_WORDS.search(frames.description)
        sources = (
            self.free.get(named.name, named.default) if named else None,
            words[1] if words else None,
            _KNOWN_FRAME_RATES.get(self.model.partition(":")[0]),
        )
        return next(filter(None, map(_number, sources)), None)


def _fits(parameter: str, target: InputProperty) -> bool:
    if parameter == "image":
        return target.is_file or target.is_file_list or target.type == "string"
    if parameter == "duration":
        return bool(_numbered(target)) or target.type in ("integer", "number")
    return True


def _choice(value: str, target: InputProperty) -> Any:
    """Find the model's own spelling; a value that it doesn't take stays, for the schema to tell."""
    asked = _loose(value)
    for choice in target.enum:
        if _loose(choice) == asked:
            return choice
    return int(asked) if target.type == "integer" and asked.isdecimal() else value


def _loose(choice: Any) -> str:
    return str(choice).strip().casefold().removesuffix("p")


def _seconds(asked: float, target: InputProperty) -> Any:
    _refuse_no_time(asked)
    choices = _numbered(target)
    if choices:
        if asked not in choices:
            raise _Refused(f"it makes videos of {_listed(choices)} s, not {asked:g} s")
        return choices[asked]
    low, high = target.minimum, target.maximum
    is_split = target.type == "integer" and not float(asked).is_integer()
    if is_split or not (low is None or low <= asked) or not (high is None or asked <= high):
        whole = " in whole seconds" if is_split else ""
        raise _Refused(f"it makes videos{_reach(low, high)}{whole}, not {asked:g} s")
    # A flow's `duration: float` turns 5 into 5.0.
    return int(asked) if float(asked).is_integer() else asked


def _frames(asked: float, target: InputProperty, rate: float | None) -> Any:
    _refuse_no_time(asked)
    if rate is None:
        raise _Refused(
            "it counts frames and does not say how many a second:"
            f" set {target.name!r} in `input` instead of duration"
        )
    choices = _numbered(target)
    if choices:
        count = min(choices, key=lambda number: abs(number - asked * rate))
        possible = f" of {_listed(number / rate for number in choices)} s"
    else:
        count = _nearest_count(asked * rate, target)
        possible = _reach(*_bounds_in_seconds(target, rate))
    if abs(count / rate - asked) > _FRAME_TOLERANCE:
        raise _Refused(f"it makes videos{possible} at {rate:g} frames a second, not {asked:g} s")
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


def _bounds_in_seconds(target: InputProperty, rate: float) -> tuple[float | None, float | None]:
    low, high = target.minimum, target.maximum
    return (
        None if low is None else round(low / rate, 1),
        None if high is None else round(high / rate, 1),
    )


def _refuse_no_time(asked: float) -> None:
    if not 0 < asked < math.inf:
        raise _Refused(f"duration must be more than 0 s, not {asked:g} s")


def _reach(low: float | None, high: float | None) -> str:
    # seedance-2.0 takes -1 for "as long as the model likes", which is not a length.
    written = span(low if low is not None and low > 0 else None, high)
    preposition = "" if written.startswith("from") else "of "
    return f" {preposition}{written} s" if written else ""


def _numbered(target: InputProperty) -> dict[float, Any]:
    """The choices by what they measure: `5`, `"5"` and `"5s"` are all 5."""
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
