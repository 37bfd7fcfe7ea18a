"""Previews of stored files: images that are small enough for an artifact.

A separate process draws them, without this one's environment: a file is untrusted data, and one
that crashes its decoder, or keeps it busy, must not take down the flow. That process runs this
module, so it imports nothing that is slow.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS = 10.0
"""For all files of a call. A caller who waits for the result waits for its previews too."""

_DECODING_SECONDS = 5.0
"""For one file."""

_MEMORY = 3_000_000_000
"""Bytes of address space; a video of 3840×2160 has taken 1.1 GB."""

_LINE = "preview "
_FRAMES = 24
_SHORTEST_FRAME, _LONGEST_FRAME = 0.04, 0.4
_AT_ONCE_PIXELS = 2_000_000_000
"""The largest video that is decoded as a whole, about 2,000 frames of 1280×720; of a longer one,
only the key frames are decoded."""

_SOUND_RATE, _SOUND_SECONDS = 8000, 600
_WAVE = (640, 120)
_WAVE_COLOR = (76, 110, 245, 255)

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,gif,mp3,wav,flac,ogg,aac,aiff,mpeg,flv"
"""The formats that FFmpeg may read: no playlists, which name other files and hosts."""

_PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")
_SHOWN_AS_THEY_ARE = {"PNG", "JPEG", "WEBP", "GIF"}


class Sizes(NamedTuple):
    """The most bytes that the images of a file may have."""

    still: int
    moving: int
    """0: none is drawn. A file that doesn't move gets both for its still."""

    def shared_by(self, count: int) -> Sizes:
        return Sizes(self.still // max(count, 1), self.moving // max(count, 1))


class Preview(NamedTuple):
    """The preview of a file."""

    still: str | None = None
    """A `data:` URI."""
    moving: str | None = None
    """A `data:` URI of an animated image."""
    width: int = 0
    """Width of the still, in pixels."""
    facts: str = ""
    """Such as `5.0 s, 1280×720, 24 fps`."""
    problem: str | None = None
    """Why there is no preview."""


def can_be_drawn(media_type: str) -> bool:
    return media_type.partition("/")[0] in ("image", "video", "audio")


def draw(files: Sequence[tuple[Path, str]], sizes: Sizes) -> list[Preview]:
    """Draw files in another process, and block until it is done. Never raises.

    Args:
        files: Paths and media types.
        sizes: The most bytes for the images of each.
    """
    drawn, end = list[Preview](), time.monotonic() + _SECONDS
    while len(drawn) < len(files) and (left := end - time.monotonic()) > 0:
        # again, without the file at which a process ended
        lines, problem = _ask(files[len(drawn) :], sizes, left)
        drawn += [Preview(**json.loads(line)) for line in lines]
        if len(drawn) < len(files):
            drawn.append(Preview(problem=problem))
    missing = len(files) - len(drawn)
    return [*drawn, *[Preview(problem="the other files took too long")] * missing]


def _ask(files: Sequence[tuple[Path, str]], sizes: Sizes, seconds: float) -> tuple[list[str], str]:
    """Have another process draw files; return its line for each, and why it stopped."""
    asked = json.dumps([[[str(path), kind] for path, kind in files], sizes, seconds])
    # Not our environment, which has the token. An empty folder: Python looks for modules there.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if "SYSTEMROOT" in os.environ:  # Python on Windows does not start without it
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    with tempfile.TemporaryDirectory(prefix="prefect-replicate-") as folder:
        try:
            reply = subprocess.run(
                [sys.executable, "-m", "prefect_replicate.previews"],
                input=asked.encode(), capture_output=True, cwd=folder, env=environment,
                timeout=seconds, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            return _lines(exc.stdout or b""), "it takes too long to decode"
        except OSError as exc:
            return [], f"the process that draws it could not be started: {exc}"
    return _lines(reply.stdout), f"its decoder exited with code {reply.returncode}"


def _lines(output: bytes) -> list[str]:
    """Return the lines about files. Other code that starts with Python may print, too."""
    whole = output.decode(errors="replace").split("\n")[:-1]
    return [line.removeprefix(_LINE) for line in whole if line.startswith(_LINE)]


# What follows runs in the other process.


def main() -> None:
    files, sizes, seconds = json.loads(sys.stdin.read())
    _limit(seconds)
    for path, media_type in files:
        preview = _drawn(path, media_type.partition("/")[0], Sizes(*sizes))
        sys.stdout.write(f"\n{_LINE}{json.dumps(preview._asdict())}\n")
        sys.stdout.flush()


def _limit(seconds: float) -> None:
    """Limit this process's time, since the one that started it may be gone, and its memory."""
    with suppress(ImportError, ValueError, OSError, AttributeError):  # Windows, macOS
        import resource
        import signal

        signal.alarm(math.ceil(seconds) + 1)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _drawn(path: str, kind: str, sizes: Sizes) -> Preview:
    try:
        if kind == "image":
            return _picture(path, sizes)
        return _recording(path, sizes)
    except ImportError:
        return Preview(problem="a preview needs PyAV and Pillow: pip install av pillow")
    except Exception as exc:  # noqa: BLE001 - decoders raise anything at all
        reason = getattr(exc, "strerror", None) or str(exc).replace(path, "it")
        return Preview(problem=f"it can't be decoded as {kind}: {reason or type(exc).__name__}")


def _uri(content: bytes, media_type: str = "image/webp") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _picture(path: str, sizes: Sizes) -> Preview:
    from PIL import Image, ImageOps, ImageSequence

    alone = Sizes(sizes.still + sizes.moving, 0)
    content = Path(path).read_bytes() if os.path.getsize(path) <= alone.still else b""
    if path.endswith(".svg"):
        if not content:
            raise ValueError("an SVG is shown only if it is small")
        return Preview(_uri(content, "image/svg+xml"), width=480)
    Image.init()
    known = [one for one in _PICTURES if one in Image.OPEN]
    opened: Any = Image.open(path, formats=known)
    with opened as image:
        facts = f"{image.width}×{image.height}"
        count = getattr(image, "n_frames", 1)
        if count > 1 and sizes.moving:
            picked = {round(number * (count - 1) / (_FRAMES - 1)) for number in range(_FRAMES)}
            sequence: Any = _in_time(ImageSequence.Iterator(image))
            frames = [_reduced(one) for at, one in enumerate(sequence) if at in picked]
            seconds = count * image.info.get("duration", 100) / 1000
            return _of_frames(frames, seconds, f"{facts}, {count} frames", sizes)
        if content and image.format in _SHOWN_AS_THEY_ARE:
            image.load()  # fails here if the rest is missing
            return Preview(_uri(content, Image.MIME[image.format]), None, _width(image), facts)
        image.draft("RGB", (1920, 1920))  # decodes a JPEG at about that size
        upright = ImageOps.exif_transpose(image)
        has_alpha = "A" in upright.getbands() or "transparency" in upright.info
        shown = upright.convert("RGBA" if has_alpha else "RGB")
        return Preview(_still(shown, alone), width=_width(shown), facts=facts)


def _reduced(frame: Any) -> Any:
    frame = frame.convert("RGBA")
    frame.thumbnail((960, 960))
    return frame


def _still(image: Any, sizes: Sizes) -> str | None:
    for width, quality in ((960, 80), (720, 75), (640, 60), (480, 50), (320, 40), (200, 30)):
        content = _webp([image], width, quality)
        if len(content) <= sizes.still:
            return _uri(content)
    return None


def _moving(frames: Sequence[Any], seconds: float, sizes: Sizes) -> str | None:
    if len(frames) < 2:
        return None
    each = min(max(seconds / len(frames), _SHORTEST_FRAME), _LONGEST_FRAME)
    for width, quality in ((480, 50), (360, 45), (300, 35), (240, 30), (160, 20)):
        content = _webp(frames, width, quality, round(1000 * each))
        if len(content) <= sizes.moving:
            return _uri(content)
    return None


def _webp(frames: Sequence[Any], width: int, quality: int, milliseconds: int = 0) -> bytes:
    shown = list[Any]()
    for frame in frames:
        small = frame.copy()
        small.thumbnail((width, width))
        shown.append(small)
    buffer = io.BytesIO()
    more: dict[str, Any] = {}
    if len(shown) > 1:
        more = {"save_all": True, "append_images": shown[1:], "duration": milliseconds, "loop": 0}
    shown[0].save(buffer, "WEBP", quality=quality, method=4, **more)
    return buffer.getvalue()


def _of_frames(frames: Sequence[Any], seconds: float, facts: str, sizes: Sizes) -> Preview:
    middle = frames[len(frames) // 2]
    moving = _moving(frames, seconds, sizes) if sizes.moving else None
    return Preview(_still(middle, sizes), moving, _width(middle), facts)


def _width(image: Any) -> int:
    """Return the most pixels that it may be wide, so that it is no higher than 960."""
    return max(1, round(image.width * min(1, 960 / image.height)))


def _recording(path: str, sizes: Sizes) -> Preview:
    import av

    opened: Any = av.open(path, options={"format_whitelist": _FORMATS})
    with opened as container:
        if container.streams.video:
            return _video(container, sizes)
        if container.streams.audio:
            return _sound(container, sizes)
    raise ValueError("it has neither pictures nor sound")


def _length(container: Any, stream: Any) -> float:
    """Return the duration in seconds, or 0 if it is unknown."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1_000_000


def _video(container: Any, sizes: Sizes) -> Preview:
    stream = container.streams.video[0]
    seconds, rate = _length(container, stream), float(stream.average_rate or 0)
    facts = [f"{stream.width}×{stream.height}"]
    if seconds:
        facts.insert(0, f"{seconds:.1f} s")
    if rate:
        facts.append(f"{rate:.4g} fps")
    pixels = stream.width * stream.height * max(seconds * rate, stream.frames or 0)
    count = _FRAMES if sizes.moving else 3
    if pixels <= _AT_ONCE_PIXELS or not seconds:
        decoded = _some(container.decode(stream), seconds, count)
    else:
        stream.codec_context.skip_frame = "NONKEY"
        decoded = _key_frames(container, stream, seconds, count)
    frames = [_small(frame) for frame in decoded]
    if not frames:
        raise ValueError("it has no whole picture")
    return _of_frames(frames, seconds, ", ".join(facts), sizes)


def _small(frame: Any) -> Any:
    scale = min(1.0, 960 / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    return frame.to_image(width=width, height=height)


def _in_time(decoded: Iterator[Any]) -> Iterator[Any]:
    """Yield what can be decoded in time, even from a broken file."""
    from av.error import FFmpegError

    began = time.monotonic()
    with suppress(FFmpegError):
        for one in decoded:
            yield one
            if time.monotonic() - began > _DECODING_SECONDS:
                return


def _some(decoded: Iterator[Any], seconds: float, count: int) -> list[Any]:
    """Return evenly spaced frames; if the length is unknown, all frames, thinned out."""
    picked, step = list[Any](), seconds / count
    for frame in _in_time(decoded):
        if frame.time is None or frame.time >= len(picked) * step:
            picked.append(frame)
        if len(picked) >= 4 * count:
            picked = picked[::2]
    return picked[:: math.ceil(len(picked) / count) or 1] if picked else picked


def _key_frames(container: Any, stream: Any, seconds: float, count: int) -> Iterator[Any]:
    def sought() -> Iterator[Any]:
        seen: int | None = None
        for number in range(count):
            at = Fraction(seconds) * number / count / stream.time_base
            container.seek(int(at), stream=stream)
            frame = next(container.decode(stream), None)
            if frame is not None and frame.pts != seen:
                seen = frame.pts
                yield frame

    return _in_time(sought())


def _sound(container: Any, sizes: Sizes) -> Preview:
    import av
    from PIL import Image, ImageDraw

    stream = container.streams.audio[0]
    seconds = _length(container, stream)
    facts = f"{stream.rate / 1000:g} kHz, {stream.layout.name}"
    resampler = av.AudioResampler("s16", "mono", _SOUND_RATE)
    peaks, step = list[int](), _SOUND_RATE // 100
    for frame in _in_time(container.decode(stream)):
        for part in resampler.resample(frame):
            samples = array("h", bytes(part.planes[0])[: part.samples * 2])
            peaks += [
                max(map(abs, samples[start : start + step]))
                for start in range(0, len(samples), step)
            ]
        if len(peaks) > _SOUND_SECONDS * 100:
            break
    if not peaks:
        raise ValueError("it has no sound that can be decoded")
    width, height = _WAVE
    image = Image.new("RGBA", _WAVE, (0, 0, 0, 0))
    lines, loudest = ImageDraw.Draw(image), max(*peaks, 1)
    for x in range(width):
        own = peaks[x * len(peaks) // width : (x + 1) * len(peaks) // width + 1]
        half = max(own) / loudest * (height / 2 - 2)
        lines.line([(x, height / 2 - half), (x, height / 2 + half + 1)], _WAVE_COLOR)
    about = f"{seconds or len(peaks) / 100:.1f} s, {facts}"
    return Preview(_still(image, sizes), width=width, facts=about)


if __name__ == "__main__":
    main()
