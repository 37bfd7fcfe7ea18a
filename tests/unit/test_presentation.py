from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from prefect_replicate import GeneratedVideo, OutputFile, Prediction
from prefect_replicate.presentation import (
    EMBEDDED_BYTES,
    Ages,
    output_page,
    progress_of,
    progress_text,
)
from prefect_replicate.values.expectation import Expectation

EXPECTED = Expectation(p50=48, p90=96)


def prediction(**fields: Any) -> Prediction:
    return Prediction(**{"id": "abc", "status": "processing", "model": "owner/name", **fields})


def output(path: Path, media_type: str = "video/mp4", size: int | None = None) -> OutputFile:
    return OutputFile(
        location=str(path),
        output_path="",
        source="https://replicate.delivery/x/output.mp4",
        media_type=media_type,
        size=path.stat().st_size if size is None else size,
        sha256="0" * 64,
    )


def page(*files: OutputFile, **fields: Any) -> str:
    one = prediction(status="succeeded", **fields)
    return output_page(GeneratedVideo(prediction=one, files=list(files), predict_time=None))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "abc.mp4"
    path.write_bytes(b"video")
    return path


@pytest.mark.parametrize(
    ("fields", "seconds", "percent"),
    [
        ({"status": "starting", "logs": "50%"}, 0, 0),
        ({"logs": "40%|███"}, 0, 40),
        ({"logs": "100%"}, 0, 99),
        ({}, 0, 0),
        ({}, 1e9, 95),
        ({"status": "succeeded"}, 0, 100),
        ({"status": "failed", "logs": "70%"}, 0, 70),
    ],
)
def test_the_progress_is_what_the_log_says_or_a_guess(
    fields: dict[str, Any], seconds: float, percent: float
) -> None:
    assert progress_of(prediction(**fields), Ages(900, seconds)) == pytest.approx(percent)


def test_a_guess_grows_and_never_arrives() -> None:
    guesses = [progress_of(prediction(), Ages(0, seconds)) for seconds in range(0, 600, 10)]

    assert guesses == sorted(guesses)
    assert guesses[-1] < 95


@pytest.mark.parametrize(
    ("fields", "age", "percent"),
    [
        ({"logs": "40%|███"}, 1000, 40),
        ({"status": "starting"}, 48, 69),
        ({}, 48, 69),
        ({}, 1e9, 95),
        ({"status": "succeeded"}, 1, 100),
    ],
)
def test_the_progress_is_what_the_log_says_or_what_earlier_runs_lead_to_expect(
    fields: dict[str, Any], age: float, percent: float
) -> None:
    shown = progress_of(prediction(**fields), Ages(age, 0), EXPECTED)

    assert shown == pytest.approx(percent, abs=1)


@pytest.mark.parametrize(
    ("status", "age", "expected", "said"),
    [
        ("starting", 0, EXPECTED, ": usually takes about 48 s (nine in ten within 96 s)"),
        ("processing", 97, EXPECTED, ": taking longer than usual (usually 48 s, at most 96 s in"),
        ("succeeded", 97, EXPECTED, ""),
        ("processing", 97, None, ""),
    ],
)
def test_the_bar_says_what_to_expect(
    status: str, age: float, expected: Expectation | None, said: str
) -> None:
    text = progress_text(prediction(status=status), age, expected)

    assert text.startswith(f"Progress of prediction abc{said}")
    assert bool(said) is (":" in text)


def test_a_small_video_is_part_of_the_page(small: Path) -> None:
    content = base64.b64encode(b"video").decode()

    assert f'<video controls width="640" src="data:video/mp4;base64,{content}">' in page(
        output(small)
    )


def test_a_large_video_plays_from_replicate(small: Path) -> None:
    shown = page(output(small, size=EMBEDDED_BYTES + 1))

    assert '<video controls width="640" src="https://replicate.delivery/x/output.mp4">' in shown


@pytest.mark.parametrize(
    ("media_type", "shown"), [("image/png", '<img src="'), ("text/plain", "abc.mp4](")]
)
def test_other_files_are_shown_as_what_they_are(small: Path, media_type: str, shown: str) -> None:
    assert shown in page(output(small, media_type))


def test_the_page_has_parameters_metrics_and_hashes(small: Path) -> None:
    shown = page(
        output(small), input={"prompt": "a fox", "duration": 5}, metrics={"predict_time": 9.5}
    )

    for row in ("# a fox", "| duration | 5 |", "| predict_time | 9.5 |", f"| 5 | `{'0' * 64}` |"):
        assert row in shown


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("a\nfox | b", "# a fox \\| b"),
        ("<script>alert(1)</script>", "# &lt;script&gt;alert(1)&lt;/script&gt;"),
        ("x" * 300, "# " + "x" * 199 + "…"),
    ],
)
def test_a_prompt_cannot_break_the_page(small: Path, prompt: str, title: str) -> None:
    assert page(output(small), input={"prompt": prompt}).splitlines()[0] == title


def test_an_inline_image_in_the_input_does_not_fill_the_page(small: Path) -> None:
    assert len(page(output(small), input={"image": "data:image/png;base64," + "A" * 10**6})) < 5000
