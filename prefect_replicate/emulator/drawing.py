"""Draws a scene: the prompt and the model's name, in a video with a ball and a progress bar."""

# The stubs of PyAV and Pillow leave parts of what they return unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from math import pi, sin
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from prefect_replicate.emulator.scenes import Scene

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_WHITE = (255, 255, 255)
_MARGIN = 18


def draw_video(scene: Scene) -> bytes:
    """Return `scene` as an H.264 MP4 that browsers play while it still loads."""
    # Moving the index to the front makes FFmpeg open the file again by its name.
    with tempfile.TemporaryDirectory(prefix="emulator-") as folder:
        target = Path(folder, "video.mp4")
        _write_video(scene, target)
        return target.read_bytes()


def draw_picture(scene: Scene, format: str) -> bytes:
    """Return `scene` as a picture: a lossless `png` or `webp`, or a `jpeg`."""
    file = io.BytesIO()
    _still(scene).save(file, format, lossless=True)
    return file.getvalue()


def _write_video(scene: Scene, target: Path) -> None:
    options = {"movflags": "+faststart"}
    container = av.open(str(target), mode="w", format="mp4", options=options)
    with closing(container):
        stream = _add_stream(container, scene)
        for picture in _pictures(scene):
            container.mux(stream.encode(cast("av.VideoFrame", av.VideoFrame.from_image(picture))))
        container.mux(stream.encode(None))


def _add_stream(container: OutputContainer, scene: Scene) -> VideoStream:
    options = {"preset": "ultrafast", "crf": "26", "g": str(scene.fps)}
    stream = container.add_stream("libx264", rate=scene.fps, options=options)
    stream.width, stream.height = scene.size
    stream.pix_fmt = "yuv420p"
    # One thread writes the same bytes on every machine, and leaves the other cores free.
    stream.codec_context.thread_count = 1
    return stream


def _pictures(scene: Scene) -> Iterator[Image.Image]:
    still = _still(scene)
    for number in range(scene.frames):
        picture = still.copy()
        _draw_motion(ImageDraw.Draw(picture), scene, number)
        yield picture


def _still(scene: Scene) -> Image.Image:
    picture = _background(scene)
    draw = ImageDraw.Draw(picture)
    width, height = scene.size
    text = _wrapped(scene.prompt, _font(20), width - 2 * _MARGIN, (height - 110) // 26)
    draw.multiline_text(
        (_MARGIN, _MARGIN), text, _WHITE, _font(20), spacing=4, stroke_width=1, stroke_fill=0
    )
    draw.text((_MARGIN, height - 58), scene.model, _WHITE, _font(15))
    return picture


def _background(scene: Scene) -> Image.Image:
    if scene.image is not None and (picture := _opened(scene.image)) is not None:
        return ImageOps.fit(picture.convert("RGB"), scene.size)
    dark, light = _colours(scene.seed)
    shades = Image.linear_gradient("L").resize(scene.size)
    return ImageOps.colorize(shades, dark, light)


def _opened(image: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(image))
    except UnidentifiedImageError:
        return None


def _colours(seed: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    chance = random.Random(seed)
    dark = (chance.randrange(60), chance.randrange(60), chance.randrange(30, 90))
    return dark, (dark[0] + 90, dark[1] + 70, dark[2] + 80)


def _draw_motion(draw: ImageDraw.ImageDraw, scene: Scene, number: int) -> None:
    width, height = scene.size
    share = (number + 1) / scene.frames
    seconds = number / scene.fps
    x = _MARGIN + 10 + (width - 2 * _MARGIN - 20) * (0.5 - 0.5 * sin(pi / 2 + seconds * 1.5))
    y = height - 84 - 22 * abs(sin(seconds * 3))
    draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=(255, 196, 0))
    draw.rectangle((_MARGIN, height - 30, width - _MARGIN, height - 22), outline=_WHITE)
    end = _MARGIN + (width - 2 * _MARGIN) * share
    draw.rectangle((_MARGIN, height - 30, end, height - 22), fill=_WHITE)
    label = f"{seconds:.1f} / {scene.seconds:.1f} s"
    draw.text((width - _MARGIN, height - 58), label, _WHITE, _font(15), "ra")


@lru_cache(maxsize=8)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _wrapped(text: str, font: _Font, width: int, lines: int) -> str:
    rows: list[str] = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    kept = rows[: max(1, lines)]
    return "\n".join(kept) + ("…" if len(rows) > len(kept) else "")
