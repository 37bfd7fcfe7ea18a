"""The parameters that video models have in common, under each model's own names and in its units.

A name alone says little: one model's `video_length` counts frames, another's seconds; a `size` may
be a font's, an `image` a style reference. So a name only makes an input a candidate; its choices
and its description decide. What stays uncertain is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prefect_replicate.values.given import as_given
from prefect_replicate.values.model_schema import (
    InputProperty,
    ModelSchema,
    Refused,
    one_of,
    validate_input,
)
from prefect_replicate.values.prediction import PROMPTS
from prefect_replicate.video.duration import exact_time, video_duration
from prefect_replicate.video.frame_size import frame_size, needs_video

# The names are those of the video models on Replicate; the first that fits is used.

# Not `text`: kling-lip-sync's is spoken, not shown.
_NEGATIVES = ("negative_prompt", "negative", "n_prompt", "video_negative_prompt")
_SEEDS = ("seed", "random_seed")
# latentsync: "Set to 0 for Random seed"; animate-diff: "Seed (0 = random, maximum: 2147483647)"
_RANDOM_SEED_IN_WORDS = re.compile(
    r"(?<![\d.])(-?\d{1,9})\s*(?:=|for|means|to|is)\s*(?:a )?random", re.IGNORECASE
)

_FIRST_FRAMES = (
    "start_image",
    "first_frame_image",
    "first_frame",
    "first_image",
    "start_frame",
    "start_frame_image",
    "start_image_url",
    "start_frame_url",
    "first_frame_url",
    "first_frame_image_url",
    "init_image",
    "initial_image",
)
# A first frame unless the description says otherwise. sora-2's `input_reference` is one.
_PICTURES = (
    "image",
    "image_url",
    "image_path",
    "input_image",
    "input_image_url",
    "input_reference",
    "source_image",
    "img",
    "images",
    "input_images",
    "image_urls",
)
_SAYS_FIRST_FRAME = re.compile(
    r"\b(?:first[- ]frame|start(?:ing)?[- ](?:frame|image)|initial (?:frame|image)"
    r"|start generating from|image[- ]to[- ]video)\b",
    re.IGNORECASE,
)
_SAYS_OTHER_PICTURE = re.compile(
    r"\b(?:references?|mask\w*|last|final|end(?:ing)?[- ](?:frame|image)|style|driving|control\w*"
    r"|pose|depth|background|swap|character|subject|identity|garment|product|logo|watermark)\b",
    re.IGNORECASE,
)
# ltx-2.3-pro uses its `image` only if `task` is `image_to_video`, which is not the default.
_FROM_IMAGE = re.compile(r"(?:image|img|i)[ _-]?(?:to|2)[ _-]?v(?:id(?:eo)?)?\b", re.IGNORECASE)
_IMAGE_SWITCH = re.compile(
    r"(?:use|enable|with)_(?:\w*_)?(?:init|image)|(?:image|img|i)_?(?:to|2)_?v\w*", re.IGNORECASE
)


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
    check: bool = True,
) -> dict[str, Any]:
    """Write a model's input from common parameters, and check it before anything is paid.

    If the schema is unknown, the parameters are sent under their own names, unchecked.

    Args:
        schema: The model's own input schema.
        model: The model as the user named it.
        prompt: What to show; may be empty or `None` if the model works without it, or `input`
            has it.
        image: The first frame: a URL, a path, or an open binary file.
        duration: Seconds. A model that counts frames gets the nearest number of frames that it
            takes, if that is off by at most half a second; nothing else is rounded.
        aspect_ratio: Such as `16:9`. A model that takes sizes gets one of that shape.
        resolution: Such as `720p`, in upper or lower case: the pixels of the shorter side.
        seed: For a repeatable result.
        negative_prompt: What not to show.
        input: The model's own inputs by its own names; they win over the parameters.
        check: Whether to check the whole input against the schema, not only the parameters.

    Raises:
        InvalidInputError: The model has no such input or doesn't take the value; the message
            lists all problems, and what the model takes.
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
    free = dict(input or {})
    call = _Call(schema, model, given, free)
    written, problems = _written(call) if schema.is_known else _by_own_names(call)
    whole = {**written, **free}
    if check or problems:
        validate_input(schema, model, as_given(whole), problems=problems)
    return whole


@dataclass(frozen=True)
class _Call:
    """The parameters to write for a model; `free` is the user's own part of the input."""

    schema: ModelSchema
    model: str
    given: Mapping[str, Any]
    free: Mapping[str, Any]

    def current(self, one: InputProperty) -> Any:
        return self.free.get(one.name, one.default)


def _written(call: _Call) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters in the model's terms, and the problems by input name."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for parameter, write in _WRITERS.items():
        if call.given[parameter] is None and parameter != "prompt":
            continue
        try:
            values |= write(call)
        except Refused as refusal:
            if refusal.name not in call.free:
                problems[refusal.name] = str(refusal)
    return values, problems


def _by_own_names(call: _Call) -> tuple[dict[str, Any], dict[str, str]]:
    values = {k: v for k, v in call.given.items() if v is not None and k not in call.free}
    problems: dict[str, str] = {}
    if "prompt" in values and not values["prompt"].strip():
        problems["prompt"] = "the prompt is empty"
    try:
        if "duration" in values:
            values["duration"] = exact_time(values["duration"], InputProperty(name="duration"))
    except Refused as refusal:
        problems["duration"] = str(refusal)
    return values, problems


def _no_input(parameter: str) -> Refused:
    return Refused(parameter, f"it has no input for {parameter}")


def _is_text(one: InputProperty) -> bool:
    return one.type in ("string", None) and not one.enum


def _prompt(call: _Call) -> dict[str, Any]:
    prompt = call.given["prompt"] or ""
    target = call.schema.find(PROMPTS, _is_text)
    if not prompt.strip():
        # Without a prompt, a default such as "An astronaut riding a horse" would be paid for.
        if target and (target.is_required or target.default):
            raise Refused(target.name, "the prompt is empty")
        return {}
    if not target:
        raise _no_input("prompt")
    return {target.name: prompt}


def _negative_prompt(call: _Call) -> dict[str, Any]:
    target = call.schema.find(_NEGATIVES, _is_text)
    if not target:
        raise _no_input("negative_prompt")
    return {target.name: call.given["negative_prompt"]}


def _seed(call: _Call) -> dict[str, Any]:
    seed = call.given["seed"]
    target = call.schema.find(_SEEDS, lambda one: one.type in ("integer", "number", "string", None))
    if not target:
        raise _no_input("seed")
    if str(seed) in _RANDOM_SEED_IN_WORDS.findall(target.description):
        raise Refused(target.name, f"its {target.name} {seed} means a random one")
    return {target.name: str(seed) if target.type == "string" else seed}


def _image(call: _Call) -> dict[str, Any]:
    target = call.schema.find(_FIRST_FRAMES, _takes_image) or call.schema.find(
        _PICTURES, lambda one: _takes_image(one) and _is_first_frame(one, call.schema)
    )
    if not target:
        other = call.schema.find(_PICTURES, _takes_image)
        if not other:
            raise _no_input("image")
        raise Refused(
            other.name,
            f"its schema does not say that {other.name!r} is a first frame: set it in `input`",
        )
    for other in call.schema.inputs.values():
        switch = _switch(other, target, call)
        if switch:
            raise Refused(target.name, f"its {target.name!r} needs {switch}: set that in `input`")
    image = call.given["image"]
    return {target.name: [image] if target.type == "array" else image}


def _takes_image(one: InputProperty) -> bool:
    # A text with several URLs (image-urls-to-video) makes a slide show.
    is_text = one.type == "string" and not one.enum and not one.name.endswith("s")
    return one.is_file or one.type == "array" or is_text


def _is_first_frame(one: InputProperty, schema: ModelSchema) -> bool:
    if _SAYS_FIRST_FRAME.search(one.description):
        return True
    # If a video is required, the frames come from it, and the image is a face or a character.
    return not needs_video(schema) and not _SAYS_OTHER_PICTURE.search(one.description)


def _switch(one: InputProperty, image: InputProperty, call: _Call) -> str | None:
    """Say how an input must be set for the image to be used, unless it already is."""
    if one.type == "boolean":
        # deforum: "Provide init_image if use_init"
        is_named = "_" in one.name and re.search(rf"\b{re.escape(one.name)}\b", image.description)
        is_off = not call.current(one)
        is_switch = is_named or _IMAGE_SWITCH.fullmatch(one.name)
        return f"{one.name} True" if is_switch and is_off else None
    choices = [choice for choice in one.enum if isinstance(choice, str)]
    needed = [choice for choice in choices if _FROM_IMAGE.search(choice)]
    needed = needed or [choice for choice in choices if _is_condition(one.name, choice, image)]
    if not needed and {"text", "image"} <= set(choices):
        needed = ["image"]
    if not needed or call.current(one) in needed:
        return None
    return f"{one.name} {one_of([repr(choice) for choice in needed])}"


def _is_condition(name: str, choice: str, image: InputProperty) -> bool:
    """Return whether the image's description says "only used when mode is 'animate'"."""
    said = rf"\b(?:only|if|when|with|requires?|needs?)\b[^.;]*\b{re.escape(name)}\W+(?:is\W+)?"
    return bool(re.search(rf"{said}{re.escape(choice)}\b", image.description, re.IGNORECASE))


_WRITERS: dict[str, Callable[[_Call], dict[str, Any]]] = {
    "prompt": _prompt,
    "image": _image,
    "duration": lambda call: video_duration(
        call.given["duration"], call.schema, call.model, call.free
    ),
    "aspect_ratio": lambda call: frame_size("aspect_ratio", call.schema, call.given, call.free),
    "resolution": lambda call: frame_size("resolution", call.schema, call.given, call.free),
    "seed": _seed,
    "negative_prompt": _negative_prompt,
}
