"""The parameters that video models have in common, in each model's own names and units.

A name alone says little: one model's `video_length` counts frames, another's seconds; a `size` may
be a font's, an `image` a style reference. So a name only makes an input a candidate, and what its
choices and its description say decides. What stays uncertain is refused, never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
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
from prefect_replicate.video.frame_size import Refused, frame_size

# The names are those of the video models on Replicate; the first that fits is used.

# Not `text`: what kling-lip-sync's says is spoken, not shown.
_PROMPTS = ("prompt", "text_prompt", "positive_prompt")
_NEGATIVES = ("negative_prompt", "negative", "n_prompt", "video_negative_prompt")
_SEEDS = ("seed", "random_seed")

_FIRST_FRAMES = (
    "start_image",
    "first_frame_image",
    "first_frame",
    "start_frame",
    "start_frame_image",
    "start_image_url",
    "first_frame_url",
    "init_image",
    "initial_image",
)
# A first frame unless the description says otherwise. sora-2's `input_reference` is one.
_PICTURES = (
    "image",
    "image_url",
    "input_image",
    "input_image_url",
    "input_reference",
    "img",
    "images",
    "input_images",
)
_SAYS_FIRST_FRAME = re.compile(
    r"\b(?:first[- ]frame|start(?:ing)?[- ](?:frame|image)|initial (?:frame|image)"
    r"|start generating from|image[- ]to[- ]video)\b",
    re.IGNORECASE,
)
_SAYS_OTHER_PICTURE = re.compile(
    r"\b(?:reference|mask|last|final|style|driving|control\w*|pose|depth|background|swap)\b",
    re.IGNORECASE,
)
# ltx-2.3-pro: its `image` is used where `task` is `image_to_video`, and `task` has another default.
_FROM_IMAGE = re.compile(r"(?:image|img|i)[ _-]?(?:to|2)[ _-]?v(?:id(?:eo)?)?\b", re.IGNORECASE)
_USES_IMAGE = re.compile(r"use_init\w*|(?:use|enable)_\w*image|image_to_video|i2v", re.IGNORECASE)

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
    r"(?P<ms>\bmilliseconds?\b|\bms\b|_ms\b)"
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
# Models that count frames without saying in their schema how many a second.
_KNOWN_FRAME_RATES = {
    "lightricks/ltx-video": 24.0,  # "produces 24 FPS videos", https://replicate.com/lightricks/ltx-video
    "wan-video/wan2.1-with-lora": 16.0,  # 17, 33, … or 81 frames are said to be "1 to 5 seconds"
    "shridharathi/ghibli-vid": 16.0,  # the same words
}
_FRAME_TOLERANCE = 0.5
"""Seconds by which a whole number of frames may miss what was asked."""
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:s|sec|secs|second|seconds)?", re.IGNORECASE)
# wan-2.1-1.3b: "Video duration in frames (based on standard 16fps playback)"
_RATE_IN_WORDS = re.compile(r"\b(\d+)\s*(?:fps|frames per second)\b", re.IGNORECASE)
# hunyuan-video: "must be 4k+1, ex: 49 or 129"; ltx-video: "will be 8N+1"
_STEP_IN_WORDS = re.compile(r"\b(\d+)\s*\*?\s*[kn]\s*\+\s*1\b", re.IGNORECASE)

_RANDOM_SEED_IN_WORDS = re.compile(r"(?<!\d)(-?\d+)\s*(?:=|for|means|to)\s*(?:a )?random", re.I)


def video_input(
    schema: ModelSchema,
    model: str,
    *,
    prompt: str | None,
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
        prompt: What to show; may be empty or `None` where the model works without, or `input`
            has it.
        image: The first frame: a URL, a path, or an open binary file.
        duration: Seconds. A model that counts frames gets the nearest number of frames that it
            takes, if that misses by at most half a second; nothing else is rounded.
        aspect_ratio: Such as `16:9`. A model that takes sizes gets one of that shape.
        resolution: Such as `720p`, in upper or lower case: the pixels of the shorter side.
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
    call = _Call(schema, model, given, dict(input or {}))
    written: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for parameter, write in (_WRITERS if schema.is_known else _UNKNOWN).items():
        if given[parameter] is None and parameter != "prompt":
            continue
        try:
            written |= write(call)
        except Refused as refusal:
            if refusal.target not in call.free:
                problems[refusal.target] = str(refusal)
    whole = {**written, **call.free}
    validate_input(schema, model, whole, problems=problems)
    return whole


@dataclass(frozen=True)
class _Call:
    """What is written for which model; `free` is the user's own part of the input."""

    schema: ModelSchema
    model: str
    given: Mapping[str, Any]
    free: Mapping[str, Any]

    def find(
        self, names: Iterable[str], fits: Callable[[InputProperty], bool]
    ) -> InputProperty | None:
        candidates = filter(None, map(self.schema.property, names))
        return next((one for one in candidates if not one.is_deprecated and fits(one)), None)

    def found(
        self, parameter: str, names: Iterable[str], fits: Callable[[InputProperty], bool]
    ) -> InputProperty:
        target = self.find(names, fits)
        if target is None:
            raise _no_input(parameter)
        return target

    def current(self, one: InputProperty) -> Any:
        return self.free.get(one.name, one.default)


def _no_input(parameter: str) -> Refused:
    return Refused(parameter, f"it has no input for {parameter}")


def _is_text(one: InputProperty) -> bool:
    return one.type in ("string", None) and not one.enum


def _prompt(call: _Call) -> dict[str, Any]:
    prompt = call.given["prompt"] or ""
    target = call.find(_PROMPTS, _is_text)
    if prompt.strip():
        return {(target or call.found("prompt", (), _is_text)).name: prompt}
    # Without one, a default such as "An astronaut riding a horse" would be made and paid.
    if target is not None and (target.is_required or target.default):
        raise Refused(target.name, "the prompt is empty")
    return {}


def _negative_prompt(call: _Call) -> dict[str, Any]:
    target = call.found("negative_prompt", _NEGATIVES, _is_text)
    return {target.name: call.given["negative_prompt"]}


def _seed(call: _Call) -> dict[str, Any]:
    seed = call.given["seed"]
    target = call.found("seed", _SEEDS, lambda one: one.type in ("integer", "string", None))
    # latentsync: "Set to 0 for Random seed"
    if str(seed) in _RANDOM_SEED_IN_WORDS.findall(target.description):
        raise Refused(target.name, f"its {target.name} {seed} stands for a random one")
    return {target.name: str(seed) if target.type == "string" else seed}


def _image(call: _Call) -> dict[str, Any]:
    target = call.find(_FIRST_FRAMES, _takes_picture) or call.found(
        "image", _PICTURES, lambda one: _takes_picture(one) and _starts(one, call.schema)
    )
    switch = next(filter(None, (_switch(one, target, call) for one in _others(target, call))), None)
    if switch:
        raise Refused(target.name, f"its {target.name!r} needs {switch}: set that in `input`")
    is_list = target.is_file_list and not target.is_file
    return {target.name: [call.given["image"]] if is_list else call.given["image"]}


def _others(target: InputProperty, call: _Call) -> list[InputProperty]:
    return [one for one in call.schema.inputs.values() if one.name != target.name]


def _takes_picture(one: InputProperty) -> bool:
    return one.is_file or one.is_file_list or (one.type == "string" and not one.enum)


def _starts(one: InputProperty, schema: ModelSchema) -> bool:
    if _SAYS_FIRST_FRAME.search(one.description):
        return True
    # Where a video is needed the frames come from it, and the picture is a face or a character.
    is_beside_video = any(
        other.is_required and "video" in other.name for other in schema.inputs.values()
    )
    return not is_beside_video and not _SAYS_OTHER_PICTURE.search(one.description)


def _switch(one: InputProperty, image: InputProperty, call: _Call) -> str | None:
    """How `one` has to be set for the image to be used, if it is not."""
    choices = [choice for choice in one.enum if isinstance(choice, str)]
    needed = [choice for choice in choices if _FROM_IMAGE.search(choice)]
    if not needed and {"text", "image"} <= set(choices):
        needed = ["image"]
    if needed and call.current(one) not in needed:
        return f"{one.name} {one_of([repr(choice) for choice in needed])}"
    # deforum: "Provide init_image if use_init"
    is_named = "_" in one.name and re.search(rf"\b{re.escape(one.name)}\b", image.description)
    is_switch = one.type == "boolean" and (is_named or _USES_IMAGE.fullmatch(one.name))
    return f"{one.name} True" if is_switch and not call.current(one) else None


def _duration(call: _Call) -> dict[str, Any]:
    asked = call.given["duration"]
    target = call.found("duration", _LENGTHS, _is_length)
    _refuse_no_time(asked, target.name)
    match _unit(target, call.model):
        case "frames":
            return {target.name: _frames(asked, target, _frame_rate(target, call))}
        case "ms":
            return {target.name: _time(asked, target, 1000)}
        case "s":
            return {target.name: _time(asked, target, 1)}
        case _:
            raise Refused(
                target.name,
                f"its {target.name!r} does not say whether it counts seconds or frames:"
                " set it in `input` instead of duration",
            )


def _is_length(one: InputProperty) -> bool:
    is_number = bool(_numbered(one)) or one.type in ("integer", "number")
    return is_number and not _SAYS_OTHER_LENGTH.search(_first_clause(one.description))


def _first_clause(description: str) -> str:
    return re.split(r"[.;(]", description, maxsplit=1)[0]


def _unit(target: InputProperty, model: str) -> str | None:
    for text in (target.description, target.name.replace("_", " ").replace(" ms", "_ms")):
        said = _UNITS.search(text)
        if said:
            return said.lastgroup
    if "length" in target.name:
        return "frames" if _known_rate(model) else None
    return "s"


def _known_rate(model: str) -> float | None:
    return _KNOWN_FRAME_RATES.get(model.partition(":")[0])


def _frame_rate(frames: InputProperty, call: _Call) -> float | None:
    """Frames a second: as the user sets them, else as the schema or the model's makers say."""
    named = call.find(_FRAME_RATES, lambda _: True)
    words = _RATE_IN_WORDS.search(frames.description)
    sources = (
        call.current(named) if named else None,
        words[1] if words else None,
        _known_rate(call.model),
    )
    return next(filter(None, map(_number, sources)), None)


def _time(asked: float, target: InputProperty, per_second: int) -> Any:
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
    if rate is None:
        raise Refused(
            target.name,
            "it counts frames and does not say how many a second:"
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
        text = f"it makes videos{possible} at {rate:g} frames a second, not {asked:g} s"
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


def _refuse_no_time(asked: float, target: str) -> None:
    if not 0 < asked < math.inf:
        raise Refused(target, f"duration must be more than 0 s, not {asked:g} s")


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


def _aspect_ratio(call: _Call) -> dict[str, Any]:
    return frame_size("aspect_ratio", call.schema, call.given, call.free)


def _resolution(call: _Call) -> dict[str, Any]:
    return frame_size("resolution", call.schema, call.given, call.free)


_WRITERS = {
    "prompt": _prompt,
    "image": _image,
    "duration": _duration,
    "aspect_ratio": _aspect_ratio,
    "resolution": _resolution,
    "seed": _seed,
    "negative_prompt": _negative_prompt,
}


def _by_its_own_name(parameter: str) -> Callable[[_Call], dict[str, Any]]:
    def write(call: _Call) -> dict[str, Any]:
        value = call.given[parameter]
        if parameter == "prompt" and value is not None and not value.strip():
            raise Refused(parameter, "the prompt is empty")
        if parameter == "duration":
            value = _time(value, InputProperty(name=parameter), 1)
        return {} if value is None else {parameter: value}

    return write


_UNKNOWN = {parameter: _by_its_own_name(parameter) for parameter in _WRITERS}
