from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefect_replicate import GeneratedVideo, ModelOutput, OutputFile, Prediction
from prefect_replicate.presentation import (
    MOST_BYTES,
    Ages,
    ended_table,
    output_page,
    progress_of,
    progress_text,
)
from prefect_replicate.previews import Preview
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


def made(*files: OutputFile, **fields: Any) -> GeneratedVideo:
    one = prediction(status="succeeded", **fields)
    return GeneratedVideo(prediction=one, files=list(files))


def page(*files: OutputFile, **fields: Any) -> str:
    return output_page(made(*files, **fields))


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
    ("fields", "age", "expected", "said"),
    [
        ({"status": "starting"}, 0, EXPECTED, "about 48 s (nine in ten within 96 s)"),
        ({}, 97, EXPECTED, "taking longer than usual (usually 48 s, nine in ten within 96 s)"),
        ({}, 97, None, "processing"),
        ({"status": "canceled", "metrics": {"predict_time": 6.2}}, 97, EXPECTED, "canceled, 6.2 s"),
        ({"status": "canceled"}, 97, EXPECTED, "canceled"),
    ],
)
def test_the_bar_says_first_what_to_expect(
    fields: dict[str, Any], age: float, expected: Expectation | None, said: str
) -> None:
    text = progress_text(prediction(**fields), age, expected)

    assert text == f"{said}: prediction abc of owner/name"


def test_previews_come_first_and_nothing_is_at_replicate(small: Path) -> None:
    preview = Preview("data:image/webp;base64,AA", "data:image/webp;base64,BB", 480, "5.0 s, 2×2")

    shown = output_page(made(output(small)), [preview])

    assert shown.startswith('<img src="data:image/webp;base64,BB" alt="moving preview"')
    assert 'src="data:image/webp;base64,AA" alt="still"' in shown
    assert "5.0 s, 2×2" in shown
    assert "replicate.delivery" not in shown


def test_a_file_that_cannot_be_shown_is_told_of(small: Path) -> None:
    shown = output_page(made(output(small)), [Preview(problem="it is <none>")])

    assert (
        f"* {small}, 5 bytes, SHA-256 <sub>{'0' * 64}</sub>\n  (no preview: it is &lt;none&gt;)"
        in shown
    )


@pytest.mark.parametrize(
    ("location", "link"),
    [
        (
            "s3://bucket/a b.mp4",
            "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a%20b.mp4",
        ),
        ("gs://bucket/a.mp4", "https://storage.cloud.google.com/bucket/a.mp4"),
        ("/home/me/a.mp4", None),
    ],
)
def test_the_page_links_to_places_that_have_a_page(
    small: Path, location: str, link: str | None
) -> None:
    stored = output(small).model_copy(update={"location": location, "block": "s3-bucket/mine"})

    shown = output_page(made(stored))

    place = location if link is None else f"[{location}]({link})"
    assert f"* {place} in s3-bucket/mine, 5 bytes" in shown


def test_a_text_is_no_markdown() -> None:
    text = "![x](http://host/beacon.png)\n# a head"
    one = prediction(status="succeeded", output=text)

    shown = output_page(ModelOutput(prediction=one, output=text, text=text))

    assert "> \\!\\[x\\](http://host/beacon.png)\n> \\# a head" in shown


def test_a_page_never_outgrows_its_artifact(small: Path) -> None:
    large = "data:image/webp;base64," + "A" * 200_000
    inputs = {f"input_{number}": "ö" * 200 for number in range(500)}
    one = prediction(status="succeeded", input=inputs, output="é" * 100_000)
    whole = ModelOutput(prediction=one, output=one.output, text="é" * 100_000)

    for shown in (
        output_page(made(*[output(small)] * 60, input=inputs), [Preview(large, large)] * 3),
        output_page(whole),
    ):
        assert len(shown.encode()) <= MOST_BYTES


def test_the_page_has_parameters_metrics_and_hashes(small: Path) -> None:
    shown = page(
        output(small), input={"prompt": "a fox", "duration": 5}, metrics={"predict_time": 9.5}
    )

    for row in ("# a fox", "| duration | 5 |", "| predict_time | 9.5 |", "9.5 s of model time"):
        assert row in shown


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("a\nfox | b", "# a fox \\| b"),
        ("<script>alert(1)</script>", "# &lt;script&gt;alert(1)&lt;/script&gt;"),
        ("# a [fox](http://x) *b* `c` a_b _d_", r"# \# a \[fox\](http://x) \*b\* \`c\` a_b \_d\_"),
        ("x y " * 100, "# " + "x y " * 49 + "x y…"),
        ("x" * 90, "# " + ("x" * 40 + "\u200b") * 2 + "x" * 10),
    ],
)
def test_a_prompt_cannot_break_the_page(small: Path, prompt: str, title: str) -> None:
    assert page(output(small), input={"prompt": prompt}).splitlines()[0] == title


def test_an_inline_image_in_the_input_does_not_fill_the_page(small: Path) -> None:
    assert len(page(output(small), input={"image": "data:image/png;base64," + "A" * 10**6})) < 5000


def row(state: str, prediction: str = "") -> dict[str, Any]:
    return {"state": state, "prediction": prediction, "result": ""}


@pytest.mark.parametrize(
    ("rows", "counts", "shown", "told"),
    [
        (
            [row("succeeded", "a"), row("running", "b"), row("waiting")],
            "3 items: 1 succeeded, 1 running, 1 waiting",
            ["succeeded", "canceled", "not started"],
            "3 items: 1 succeeded, 1 canceled, 1 not started",
        ),
        # A row that is behind: one that waits there had a prediction, and nobody knows which.
        (
            [row("waiting"), row("waiting")],
            "2 items: 2 waiting",
            ["not finished", "not finished"],
            "2 items: 2 not finished",
        ),
        # Kept for a retry: it does run.
        (
            [row("running", "kept"), row("running", "b")],
            "2 items: 2 running",
            ["running", "canceled"],
            "2 items: 1 running, 1 canceled",
        ),
        # Of thousands, those that have succeeded are not in the table.
        (
            [row("running", "b")],
            "5000 items: 4999 succeeded, 1 running",
            ["canceled"],
            "5000 items: 4999 succeeded, 1 canceled",
        ),
    ],
)
def test_a_table_says_what_has_become_of_its_items(
    rows: list[dict[str, Any]], counts: str, shown: list[str], told: str
) -> None:
    changed, words = ended_table(rows, counts, {"b": 2.94})

    assert [one["state"] for one in changed] == shown
    assert words == told
    assert [one["result"] for one in changed if one["state"] == "canceled"] in (
        [],
        ["canceled after 2.9 s of model time"],
    )
