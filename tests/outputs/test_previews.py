"""What stored files look like, drawn by another process."""

from __future__ import annotations

import base64
import io
import math
import os
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from prefect_replicate import previews
from prefect_replicate.previews import Preview, Sizes, draw

SIZES = Sizes(still=40_000, moving=130_000)


def drawn(path: Path, media_type: str, sizes: Sizes = SIZES) -> Preview:
    [preview] = draw([(path, media_type)], sizes)
    return preview


def image_in(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def write_video(path: Path, seconds: float, size: tuple[int, int] = (320, 180)) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 10)
        for number in range(int(seconds * 10)):
            shade = number * 255 // int(seconds * 10)
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (shade, 0, 255 - shade)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_sound(path: Path, seconds: int) -> None:
    samples = (int(9000 * math.sin(number / 9)) for number in range(8000 * seconds))
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", one) for one in samples))


@pytest.mark.parametrize("seconds", [1, 5, 60])
def test_a_video_moves(tmp_path: Path, seconds: int) -> None:
    write_video(tmp_path / "a.mp4", seconds)

    preview = drawn(tmp_path / "a.mp4", "video/mp4")

    moving, still = image_in(preview.moving), image_in(preview.still)
    assert 10 <= getattr(moving, "n_frames", 1) <= 24
    assert (moving.size, still.size) == ((320, 180), (320, 180))
    assert preview.facts == f"{seconds}.0 s, 320×180, 10 fps"


def test_a_large_video_is_shown_by_its_key_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 60)
    monkeypatch.setattr(previews, "_AT_ONCE_PIXELS", 0)

    # in this process: the limit is not that of the other
    preview = previews._drawn(str(tmp_path / "a.mp4"), "video", SIZES)

    assert getattr(image_in(preview.moving), "n_frames", 1) > 1


@pytest.mark.parametrize(
    ("mode", "size", "name"),
    [
        ("RGB", (3000, 2000), "a.png"),
        ("RGB", (3000, 2000), "a.jpg"),
        ("RGBA", (64, 64), "a.webp"),
        ("I;16", (640, 480), "a.tiff"),
        ("P", (640, 480), "a.bmp"),
    ],
)
def test_a_picture_fits(tmp_path: Path, mode: str, size: tuple[int, int], name: str) -> None:
    Image.effect_noise(size, 90).convert("RGB").convert("L" if mode == "I;16" else mode).convert(
        mode
    ).save(tmp_path / name)

    preview = drawn(tmp_path / name, "image/x")

    assert max(image_in(preview.still).size) <= 960
    assert preview.facts == f"{size[0]}×{size[1]}"
    assert preview.moving is None


def test_a_picture_that_moves_still_does(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (90, 60), (number * 8, 0, 0)) for number in range(30)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)

    preview = drawn(tmp_path / "a.gif", "image/gif")

    assert getattr(image_in(preview.moving), "n_frames", 1) > 9  # equal ones become one


def test_sound_is_shown_as_a_waveform(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 3)

    preview = drawn(tmp_path / "a.wav", "audio/wav")

    assert image_in(preview.still).size == (640, 120)
    assert preview.facts.startswith("3.0 s, 8 kHz")


def test_a_small_vector_image_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")

    preview = drawn(tmp_path / "a.svg", "image/svg+xml")

    assert preview.still is not None
    assert preview.still.startswith("data:image/svg+xml;base64,")


def junk(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def playlist(path: Path) -> None:
    write_video(path.with_name("other.mp4"), 1)
    other = path.with_name("other.mp4")
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST")


def list_of_files(path: Path) -> None:
    write_video(path.with_name("other.mp4"), 1)
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


def cut(path: Path) -> None:
    write_video(path, 2)
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize("write", [junk, playlist, list_of_files, cut])
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_what_is_not_what_it_says_is_told_in_a_line(
    tmp_path: Path, write: Callable[[Path], None], kind: str
) -> None:
    write(tmp_path / "a.mp4")

    preview = drawn(tmp_path / "a.mp4", f"{kind}/x")

    assert preview.problem is not None
    assert preview.problem.startswith(f"it can't be decoded as {kind}: ")
    assert "\n" not in preview.problem
    assert str(tmp_path) not in preview.problem
    assert (preview.still, preview.moving) == (None, None)


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts code in the place of Pillow, and gives a picture for it to decode."""

    def decoder(code: str) -> Path:
        package = tmp_path / "modules" / "PIL"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))
        picture = tmp_path / "a.png"
        picture.write_bytes(b"x")
        return picture

    return decoder


def test_a_decoder_that_ends_its_process_costs_one_preview(
    tmp_path: Path, decoder: Callable[[str], Path]
) -> None:
    picture = decoder("import os; os.abort()")
    svg = tmp_path / "b.svg"
    svg.write_text("<svg/>")
    first, second = draw([(picture, "image/png"), (svg, "text/plain")], SIZES)

    assert first.problem is not None
    assert first.problem.startswith("its decoder exited with code ")
    assert second.problem is not None


def test_a_decoder_that_never_ends_is_stopped(
    decoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = decoder("import time; time.sleep(600)")
    monkeypatch.setattr(previews, "_SECONDS", 0.5)

    assert drawn(picture, "image/png").problem == "it takes too long to decode"


def test_the_decoder_gets_none_of_the_environment(
    decoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = decoder(
        "import os; raise ValueError(sorted({'REPLICATE_API_TOKEN', 'HOME'} & {*os.environ}))"
    )
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_a_token_that_is_secret")

    assert drawn(picture, "image/png").problem == "it can't be decoded as image: []"


def test_without_the_extra_a_line_says_what_to_install(decoder: Callable[[str], Path]) -> None:
    picture = decoder("raise ImportError")

    problem = drawn(picture, "image/png").problem

    assert problem == "a preview needs PyAV and Pillow: pip install av pillow"


def test_what_else_is_printed_costs_nothing(decoder: Callable[[str], Path]) -> None:
    picture = decoder("print('hello'); print('{}', end=''); raise ImportError")

    problem = drawn(picture, "image/png").problem

    assert problem == "a preview needs PyAV and Pillow: pip install av pillow"


def test_all_files_of_a_call_share_its_time(
    decoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = decoder("import time; time.sleep(600)")
    monkeypatch.setattr(previews, "_SECONDS", 0.5)

    shown = draw([(picture, "image/png")] * 12, SIZES)

    assert [one.problem for one in shown[:2]] == [
        "it takes too long to decode",
        "the other files took too long",
    ]
    assert len(shown) == 12


def test_a_tall_picture_is_not_drawn_wider_than_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (20, 6000)).save(tmp_path / "a.png")

    assert drawn(tmp_path / "a.png", "image/png").width == 3
