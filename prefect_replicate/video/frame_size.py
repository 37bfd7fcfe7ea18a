"""A video's aspect ratio and resolution, as a model's own schema takes them.

As a ratio and a resolution, as one size of both (`1280*720`), or as a width and a height.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from prefect_replicate.values.model_schema import InputProperty, ModelSchema, one_of

_RATIOS = ("aspect_ratio", "ratio", "video_aspect_ratio", "orientation")
# Their choices are resolutions, whatever they look like.
_RESOLUTIONS = (
    "resolution",
    "video_resolution",
    "output_resolution",
    "target_resolution",
    "target_size",
)
# Resolutions where the choices or the description show it: a `quality` may be an encoder's, a
# `size` a font's. kling's `mode`: "'standard' generates 720p, 'pro' generates 1080p".
_PERHAPS_RESOLUTIONS = ("quality", "video_quality", "size", "video_size", "mode")
_SIZES = ("size", "video_size", "image_size", *_RESOLUTIONS, *_RATIOS)
# samurai: "Width of bounding box"
_SAYS_OTHER_SIZE = re.compile(
    r"\b(?:font|box|crop|mask|thumbnail|texture|caption|encod\w*)\b", re.IGNORECASE
)

_PAIR = re.compile(r"(\d+(?:\.\d+)?)\s*[x*×:]\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_LEAST_PIXELS = 100
"""Below it `16:9` is a ratio; from it on `1280:720` is a size."""
_SHAPES = {"landscape": "16:9", "portrait": "9:16", "square": "1:1"}
_LINES = re.compile(r"(\d{3,4})p\b", re.IGNORECASE)
# Not 2k, which may be 1440 lines or 2048 columns.
_NAMED_LINES = {"hd": 720, "fhd": 1080, "full hd": 1080, "uhd": 2160, "4k": 2160}
_TOLERANCE = 0.03
"""832*480 goes for 16:9 and 1280*704 for 720p: models round to whole blocks."""
_STEP_IN_WORDS = re.compile(r"(?:divis[ia]ble by|multiples? of) (\d+)", re.IGNORECASE)
_STEP = 8
"""Pixels, where the schema gives none: the block of the video models' autoencoders."""


class Refused(Exception):
    """The model cannot be asked for this value; the text says what it can do."""

    def __init__(self, target: str, text: str) -> None:
        super().__init__(text)
        self.target = target


@dataclass(frozen=True)
class _Frame:
    """What is known of a frame's size: its shape, and the pixels of its shorter side."""

    ratio: Fraction | None = None
    lines: int | None = None

    def over(self, default: _Frame) -> _Frame:
        return _Frame(self.ratio or default.ratio, self.lines or default.lines)

    def is_near(self, other: _Frame) -> bool:
        """Whether two sizes are the same in what is known of both."""
        return _is_near(self.ratio, other.ratio) and _is_near(self.lines, other.lines)

    def distance(self, other: _Frame) -> float:
        return sum(_off(a, b) for a, b in ((self.ratio, other.ratio), (self.lines, other.lines)))


def frame_size(
    parameter: str, schema: ModelSchema, given: Mapping[str, Any], free: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the aspect ratio or the resolution in the model's own terms.

    Where one size stands for both, either of them writes the whole size.

    Args:
        parameter: `aspect_ratio` or `resolution`, which is given.
        schema: The model's own schema, which is known.
        given: The parameters by name; `None` leaves one to the model.
        free: The user's own part of the input.

    Raises:
        Refused: The model cannot be asked for it.
    """
    asked = given[parameter]
    ratios = _first(schema, _RATIOS, _is_ratio)
    if parameter == "aspect_ratio" and ratios:
        return {ratios.name: _ratio_choice(asked, ratios)}
    resolutions = _first(schema, (*_RESOLUTIONS, *_PERHAPS_RESOLUTIONS), _is_resolution)
    if parameter == "resolution" and resolutions:
        return {resolutions.name: _resolution_choice(asked, resolutions)}
    sizes = _first(schema, _SIZES, _is_size)
    if sizes:
        return {sizes.name: _size_choice(given, sizes)}
    width, height = (_first(schema, (name,), _is_pixels) for name in ("width", "height"))
    # Beside an aspect ratio it is not said which of the two counts.
    if not width or not height or ratios:
        raise Refused(parameter, f"it has no input for {parameter}")
    return {} if {"width", "height"} & free.keys() else _pixels(given, width, height)


def _first(schema: ModelSchema, names: tuple[str, ...], fits: Any) -> InputProperty | None:
    candidates = filter(None, map(schema.property, names))
    return next((one for one in candidates if not one.is_deprecated and fits(one)), None)


def _is_ratio(one: InputProperty) -> bool:
    return one.type in ("string", None) and not _is_size(one)


def _is_resolution(one: InputProperty) -> bool:
    if _is_size(one) or _SAYS_OTHER_SIZE.search(one.description):
        return False
    if one.enum:
        return one.name in _RESOLUTIONS or bool(_by_lines(one))
    if one.name not in _RESOLUTIONS:
        return False
    # Free text or a free number: it has to say that it is lines.
    said = f"{one.default} {one.description}"
    return bool(_LINES.search(said) or "height" in said)


def _is_size(one: InputProperty) -> bool:
    pairs = [_PAIR.match(str(choice)) for choice in one.enum]
    numbers = [float(number) for pair in pairs if pair for number in pair.groups()]
    return bool(numbers) and min(numbers) >= _LEAST_PIXELS


def _is_pixels(one: InputProperty) -> bool:
    is_number = one.type == "integer" or all(isinstance(choice, int) for choice in one.enum)
    return is_number and not _SAYS_OTHER_SIZE.search(one.description)


def _ratio_choice(asked: str, target: InputProperty) -> Any:
    """Find the model's own spelling; a value that it doesn't take stays, for the schema to tell."""
    wanted = _ratio(asked)
    for choice in target.enum:
        if str(choice).casefold() == asked.strip().casefold():
            return choice
    for choice in target.enum:
        if wanted and wanted == _ratio(_explained(choice, _PAIR, target) or choice):
            return choice
    return asked


def _resolution_choice(asked: str, target: InputProperty) -> Any:
    for choice in target.enum:
        if str(choice).casefold() == asked.strip().casefold():
            return choice
    lines = _lines(asked, is_bare=True)
    if target.type == "integer" and not target.enum:
        return lines or asked
    return _by_lines(target).get(lines, asked)


def _by_lines(target: InputProperty) -> dict[int | None, Any]:
    # Bare numbers are lines where it is about a resolution; ltx-video's `target_size` is no height.
    is_bare = "resolution" in target.name or bool(_LINES.search(target.description))
    found = {
        _lines(choice, is_bare=is_bare) or _lines(_explained(choice, _LINES, target)): choice
        for choice in target.enum
    }
    return {lines: choice for lines, choice in found.items() if lines}


def _size_choice(given: Mapping[str, Any], target: InputProperty) -> Any:
    asked, words = _asked(given, target)
    wanted = asked.over(_frame(target.default))
    near = [choice for choice in target.enum if _frame(choice).is_near(wanted)]
    if not near:
        choices = one_of([str(choice) for choice in target.enum])
        raise Refused(target.name, f"it makes videos of {choices}, not {words}")
    if len(near) > 1:
        _refuse_half(wanted, words, target)
    return min(near, key=lambda choice: _frame(choice).distance(wanted))


def _pixels(
    given: Mapping[str, Any], width: InputProperty, height: InputProperty
) -> dict[str, Any]:
    asked, words = _asked(given, width)
    wanted = asked.over(_frame(f"{width.default}x{height.default}"))
    _refuse_half(wanted, words, width)
    ratio, lines = wanted.ratio or Fraction(1), wanted.lines or 0
    longer = max(ratio, 1 / ratio) * lines
    across, down = (longer, lines) if ratio >= 1 else (lines, longer)
    return {"width": _rounded(across, width), "height": _rounded(down, height)}


def _asked(given: Mapping[str, Any], target: InputProperty) -> tuple[_Frame, str]:
    """The frame asked for, and the same in the user's words."""
    shape, size = given["aspect_ratio"], given["resolution"]
    frame = _Frame(_ratio(shape), _lines(size, is_bare=True)).over(_frame(size))
    for words, read in ((shape, frame.ratio), (size, frame.lines)):
        if words is not None and not read:
            raise Refused(target.name, f"it takes a size in pixels, not {words!r}")
    return frame, " at ".join(filter(None, (shape, size)))


def _refuse_half(wanted: _Frame, words: str, target: InputProperty) -> None:
    if not wanted.ratio or not wanted.lines:
        needed = "aspect_ratio" if wanted.lines else "resolution"
        raise Refused(target.name, f"it takes a size in pixels, so {words} needs {needed} too")


def _rounded(side: Fraction | int, target: InputProperty) -> int:
    words = _STEP_IN_WORDS.search(target.description)
    step = target.rules.get("multipleOf") or (int(words[1]) if words else _STEP)
    return round(side / step) * step


def _frame(size: Any) -> _Frame:
    pair = _PAIR.match(str(size))
    if not pair or "0" in pair.groups():
        return _Frame()
    return _Frame(_ratio(size), round(min(map(float, pair.groups()))))


def _ratio(text: Any) -> Fraction | None:
    pair = _PAIR.match(_SHAPES.get(str(text).strip().casefold(), str(text).strip()))
    if not pair or not float(pair[2]):
        return None
    return Fraction(pair[1]) / Fraction(pair[2]) or None


def _lines(text: Any, *, is_bare: bool = False) -> int | None:
    word = str(text).strip().casefold()
    said = _LINES.match(word)
    if said or word in _NAMED_LINES:
        return int(said[1]) if said else _NAMED_LINES[word]
    return int(word) if is_bare and word.isdecimal() else None


def _explained(choice: Any, what: re.Pattern[str], target: InputProperty) -> str | None:
    """What the description says of a choice: "Portrait is 720x1280, landscape is 1280x720"."""
    clause = re.search(rf"\b{re.escape(str(choice))}\b([^,;.]*)", target.description, re.IGNORECASE)
    said = what.search(clause[1]) if clause else None
    return said[0] if said else None


def _is_near(one: float | Fraction | None, other: float | Fraction | None) -> bool:
    return one is None or other is None or _off(one, other) <= _TOLERANCE


def _off(one: float | Fraction | None, other: float | Fraction | None) -> float:
    return abs(float(one) / float(other) - 1) if one and other else 0.0
