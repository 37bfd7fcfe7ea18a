"""A video's aspect ratio and resolution, as a model's own schema takes them.

Models take a ratio and a resolution, one size for both (`1280*720`), or a width and a height.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from prefect_replicate.values.model_schema import InputProperty, ModelSchema, Refused, one_of

_RATIOS = ("aspect_ratio", "ratio", "video_aspect_ratio", "orientation")
# Their choices are resolutions, whatever they look like.
_RESOLUTIONS = (
    "resolution",
    "video_resolution",
    "output_resolution",
    "target_resolution",
    "target_size",
)
# Resolutions only if the choices or the description say so: a `quality` may be an encoder's, a
# `size` a font's. kling's `mode`: "'standard' generates 720p, 'pro' generates 1080p".
_PERHAPS_RESOLUTIONS = ("quality", "video_quality", "size", "video_size", "mode")
_SIZES = ("size", "video_size", "image_size", *_RESOLUTIONS, *_RATIOS)
# samurai: "Width of bounding box"
_SAYS_OTHER_SIZE = re.compile(
    r"\b(?:font|box|crop|mask|thumbnail|texture|caption|encod\w*)\b", re.IGNORECASE
)

_PAIR = re.compile(r"(\d{1,5}(?:\.\d{1,5})?)\s*[x*×:]\s*(\d{1,5}(?:\.\d{1,5})?)\b", re.IGNORECASE)
_LEAST_PIXELS = 100
"""Numbers below it are a ratio (`16:9`); from it on they are a size (`1280:720`)."""
_SHAPES = {"landscape": "16:9", "portrait": "9:16", "square": "1:1"}
_WIDE_RATIOS = (Fraction(21, 9), Fraction(16, 9), Fraction(3, 2), Fraction(4, 3), Fraction(1))
_LINES = re.compile(r"(\d{3,4})p\b", re.IGNORECASE)
# Not 2k, which may be 1440 lines or 2048 columns.
_NAMED_LINES = {"hd": 720, "fhd": 1080, "full hd": 1080, "uhd": 2160, "4k": 2160}
_TOLERANCE = 0.03
"""832*480 counts as 16:9 and 1280*704 as 720p: models round to whole blocks."""
_STEP_IN_WORDS = re.compile(r"(?:divis[ia]ble by|multiples? of) ([1-9]\d{0,2})\b", re.IGNORECASE)
_STEP = 8
"""Pixels, if the schema gives no step: the block size of the video models' autoencoders."""


@dataclass(frozen=True)
class _Frame:
    """What is known about a frame: its shape, and the pixels of its shorter side."""

    ratio: Fraction | None = None
    lines: int | None = None

    @classmethod
    def of(cls, size: Any) -> _Frame:
        """Parse `1280*720`; return an unknown frame for anything else."""
        pair = _PAIR.match(str(size))
        if not pair or min(map(float, pair.groups())) < _LEAST_PIXELS:
            return cls()
        return cls(_ratio(size), round(min(map(float, pair.groups()))))

    @property
    def turned(self) -> _Frame:
        return _Frame(1 / self.ratio if self.ratio else None, self.lines)

    def over(self, other: _Frame) -> _Frame:
        return _Frame(self.ratio or other.ratio, self.lines or other.lines)

    def off(self, other: _Frame) -> float:
        """Return the largest relative difference of two frames in what is known about both."""
        sides = ((self.ratio, other.ratio), (self.lines, other.lines))
        return max(abs(float(a) / float(b) - 1) if a and b else 0.0 for a, b in sides)


def frame_size(
    parameter: str, schema: ModelSchema, given: Mapping[str, Any], free: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the aspect ratio or the resolution in the model's own terms.

    If the model takes one size for both, either parameter sets the whole size.

    Args:
        parameter: `aspect_ratio` or `resolution`; it is not `None` in `given`.
        schema: The model's own schema, which is known.
        given: The parameters by name; `None` leaves the choice to the model.
        free: The user's own part of the input.

    Raises:
        Refused: The model can't do it.
    """
    asked = given[parameter].strip()
    ratios = schema.find(_RATIOS, _is_ratio)
    if parameter == "aspect_ratio" and ratios:
        return {ratios.name: _ratio_choice(asked, ratios)}
    resolutions = schema.find((*_RESOLUTIONS, *_PERHAPS_RESOLUTIONS), _is_resolution)
    if parameter == "resolution" and resolutions:
        return {resolutions.name: _resolution_choice(asked, resolutions)}
    sizes = schema.find(_SIZES, _is_size)
    if sizes:
        return {sizes.name: _size_choice(given, sizes)}
    width, height = (schema.find((name,), _is_pixels) for name in ("width", "height"))
    # Next to an aspect ratio or a video to edit, the schema doesn't say which of the two counts.
    if not width or not height or ratios or needs_video(schema):
        raise Refused(parameter, f"it has no input for {parameter}")
    if {"width", "height"} & free.keys():
        return {}
    return _pixels(given, width, height)


def needs_video(schema: ModelSchema) -> bool:
    """Return whether the model edits or follows a video, which then decides much of the frame."""
    return any(
        one.is_required and "video" in one.name and (one.is_file or one.is_file_list)
        for one in schema.inputs.values()
    )


def _is_ratio(one: InputProperty) -> bool:
    if one.type not in ("string", None) or _is_size(one):
        return False
    return bool(_words(one)) or _ratio(one.default) is not None or "ratio" in one.name


def _words(one: InputProperty) -> list[Any]:
    """Return its choices, or those in its description: 'Must be "landscape" or "portrait"'."""
    if one.enum or _ratio(one.default) or _PAIR.search(one.description):
        return list(one.enum)
    return [word for word in _SHAPES if re.search(rf"\b{word}\b", one.description)]


def _is_resolution(one: InputProperty) -> bool:
    if _is_size(one) or _SAYS_OTHER_SIZE.search(one.description):
        return False
    if one.enum:
        return one.name in _RESOLUTIONS or bool(_by_lines(one))
    # Free text or a free number must say that it counts lines.
    said = f"{one.default} {one.description}".casefold()
    return one.name in _RESOLUTIONS and bool(_LINES.search(said) or "height" in said)


def _is_size(one: InputProperty) -> bool:
    pairs = [choice for choice in one.enum if _PAIR.match(str(choice))]
    return bool(pairs) and all(_Frame.of(choice).lines for choice in pairs)


def _is_pixels(one: InputProperty) -> bool:
    is_number = one.type == "integer" or (one.type is None and bool(one.enum))
    return is_number and not _SAYS_OTHER_SIZE.search(one.description)


def _ratio_choice(asked: str, target: InputProperty) -> Any:
    """Find the model's own spelling; keep an invalid value for the schema check to report."""
    choices = _words(target)
    wanted = _ratio(asked)
    same = [choice for choice in choices if str(choice).casefold() == asked.casefold()]
    alike = [choice for choice in choices if wanted and wanted == _shape(choice, target)]
    if choices and not (same or alike or target.enum):
        words = one_of([repr(choice) for choice in choices])
        raise Refused(target.name, f"{target.name} must be {words}, not {asked!r}")
    return [*same, *alike, asked][0]


def _shape(choice: Any, target: InputProperty) -> Fraction | None:
    is_ratio = _PAIR.match(str(choice))
    return _ratio(choice if is_ratio else _explained(choice, _PAIR, target) or choice)


def _resolution_choice(asked: str, target: InputProperty) -> Any:
    lines = _lines(asked, is_bare=True)
    if target.type == "integer" and not target.enum:
        return lines or asked
    same = [choice for choice in target.enum if str(choice).casefold() == asked.casefold()]
    return same[0] if same else _by_lines(target).get(lines, asked)


def _by_lines(target: InputProperty) -> dict[int | None, Any]:
    # Bare numbers are lines if the input is a resolution; ltx-video's `target_size` is no height.
    is_bare = "resolution" in target.name or bool(_LINES.search(target.description))
    found = {
        _lines(choice, is_bare=is_bare) or _lines(_explained(choice, _LINES, target)): choice
        for choice in target.enum
    }
    return {lines: choice for lines, choice in found.items() if lines}


def _size_choice(given: Mapping[str, Any], target: InputProperty) -> Any:
    asked, words = _asked(given, target)
    wanted = asked.over(_Frame.of(target.default))
    near = [
        choice
        for choice in target.enum
        if _Frame.of(choice).lines and _Frame.of(choice).off(wanted) <= _TOLERANCE
    ]
    if not near:
        choices = one_of([str(choice) for choice in target.enum])
        raise Refused(target.name, f"it makes videos of {choices}, not {words}")
    if len(near) > 1:
        _refuse_half(wanted, words, target)
    return min(near, key=lambda choice: _Frame.of(choice).off(wanted))


def _pixels(
    given: Mapping[str, Any], width: InputProperty, height: InputProperty
) -> dict[str, Any]:
    asked, words = _asked(given, width)
    native = _Frame.of(f"{width.default}x{height.default}")
    wanted = asked.over(_Frame(_common(native.ratio), native.lines))
    _refuse_half(wanted, words, width)
    is_exact = _Frame.of(given["resolution"]).lines
    # The default's own sides, as they are or swapped, need no rounding: hunyuan-video's 864 by 480.
    if native.lines and not is_exact and native.off(wanted) <= _TOLERANCE:
        return {"width": width.default, "height": height.default}
    if native.lines and not is_exact and native.turned.off(wanted) <= _TOLERANCE:
        return {"width": height.default, "height": width.default}
    ratio, lines = wanted.ratio or Fraction(1), wanted.lines or 0
    longer = max(ratio, 1 / ratio) * lines
    across, down = (longer, lines) if ratio >= 1 else (lines, longer)
    return {"width": _rounded(across, width), "height": _rounded(down, height)}


def _asked(given: Mapping[str, Any], target: InputProperty) -> tuple[_Frame, str]:
    """Return the requested frame, and the user's words for it."""
    shape, size = given["aspect_ratio"], given["resolution"]
    frame = _Frame(_ratio(shape), _lines(size, is_bare=True)).over(_Frame.of(size))
    for word, read in ((shape, frame.ratio), (size, frame.lines)):
        if word is not None and not read:
            raise Refused(target.name, f"it takes a size in pixels, not {word!r}")
    return frame, " at ".join(filter(None, (shape, size)))


def _refuse_half(wanted: _Frame, words: str, target: InputProperty) -> None:
    if not wanted.ratio or not wanted.lines:
        needed = "aspect_ratio" if wanted.lines else "resolution"
        raise Refused(target.name, f"it takes a size in pixels, so {words} needs {needed} too")


def _common(ratio: Fraction | None) -> Fraction | None:
    """Undo the rounding to blocks: 864 by 480 is meant to be 16:9."""
    usual = (*_WIDE_RATIOS, *(1 / wide for wide in _WIDE_RATIOS))
    near = (one for one in usual if ratio and _Frame(one).off(_Frame(ratio)) <= _TOLERANCE)
    return next(near, ratio)


def _rounded(side: Fraction | int, target: InputProperty) -> int:
    words = _STEP_IN_WORDS.search(target.description)
    step = target.rules.get("multipleOf") or (int(words[1]) if words else _STEP)
    return round(side / step) * step


def _ratio(text: Any) -> Fraction | None:
    word = str(text).strip().casefold()
    pair = _PAIR.match(_SHAPES.get(word, word))
    return Fraction(pair[1]) / Fraction(pair[2]) if pair and float(pair[2]) else None


def _lines(text: Any, *, is_bare: bool = False) -> int | None:
    word = str(text).strip().casefold()
    said = _LINES.match(word)
    if said or word in _NAMED_LINES:
        return int(said[1]) if said else _NAMED_LINES[word]
    return int(word) if is_bare and word.isdecimal() and len(word) in (3, 4) else None


def _explained(choice: Any, what: re.Pattern[str], target: InputProperty) -> str | None:
    """Find what the description says of a choice: "Portrait is 720x1280, landscape is 1280x720"."""
    clause = re.search(rf"\b{re.escape(str(choice))}\b([^,;.]*)", target.description, re.IGNORECASE)
    said = what.search(clause[1]) if clause else None
    if not clause or not said:
        return None
    # "standard or pro (1080p)" says nothing about standard.
    before = clause[1][: said.start()]
    others = (str(other) for other in _words(target) if other != choice)
    is_others = any(
        re.search(rf"\b{re.escape(other)}\b", before, re.IGNORECASE) for other in others
    )
    return None if is_others else said[0]
