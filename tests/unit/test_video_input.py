"""Schemas are modelled on those of real models on Replicate, shortened to what matters here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.model_schema import ModelSchema
from prefect_replicate.video.input import video_input

FILE = {"type": "string", "format": "uri"}
TEXT = {"type": "string"}
SEED = {"type": "integer"}
URL = "https://x.org/cat.png"


def choice(kind: str, *values: Any) -> dict[str, Any]:
    return {"allOf": [{"enum": list(values), "type": kind}], "default": values[0]}


def whole(low: int, high: int, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, **more}


def schema(required: tuple[str, ...] = ("prompt",), **properties: dict[str, Any]) -> ModelSchema:
    return promptless(required, prompt=TEXT, **properties)


def promptless(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> ModelSchema:
    root = {"type": "object", "properties": properties, "required": list(required)}
    return ModelSchema.from_openapi({"components": {"schemas": {"Input": root}}})


RATIO = choice("string", "16:9", "9:16")
MODELS = {
    "bytedance/seedance-1-lite": schema(
        image=FILE,
        duration=whole(2, 12, default=5),
        resolution=choice("string", "720p", "480p", "1080p"),
        aspect_ratio=RATIO,
        fps=choice("integer", 24),
        seed=SEED,
    ),
    "bytedance/seedance-2.0": schema(duration=whole(-1, 15, default=5)),
    "google/veo-3.1-fast": schema(
        aspect_ratio=RATIO,
        duration=choice("integer", 8, 4, 6),
        image=FILE,
        last_frame=FILE,
        negative_prompt=TEXT,
        resolution=choice("string", "1080p", "720p"),
        seed=SEED,
    ),
    "kwaivgi/kling-v2.1": schema(
        ("prompt", "start_image"),
        start_image=FILE,
        end_image=FILE,
        duration=choice("integer", 5, 10),
        negative_prompt=TEXT,
    ),
    "minimax/hailuo-02": schema(
        first_frame_image=FILE,
        last_frame_image=FILE,
        duration=choice("integer", 6, 10),
        resolution=choice("string", "1080p", "768p", "512p"),
    ),
    "wan-video/wan-2.2-i2v-fast": schema(
        ("prompt", "image"),
        image=FILE,
        num_frames=whole(81, 121, default=81),
        frames_per_second=whole(5, 30, default=16),
        resolution=choice("string", "480p", "720p"),
    ),
    "wan-video/wan-2.1-1.3b": schema(
        frame_num={
            **choice("integer", 81, 17, 33, 49, 65),
            "description": "Video duration in frames (based on standard 16fps playback)",
        },
    ),
    "openai/sora-2": schema(
        seconds=choice("integer", 4, 8, 12),
        aspect_ratio=choice("string", "portrait", "landscape"),
        input_reference=FILE,
    ),
    "lightricks/ltx-video": schema(
        image=FILE,
        length=choice("integer", 97, 129, 161, 193, 225, 257),
        target_size=choice("integer", 640, 512, 1024),
    ),
    "tencent/hunyuan-video": schema(
        fps={"type": "integer", "minimum": 1, "default": 24},
        width=whole(16, 1280),
        height=whole(16, 1280),
        video_length=whole(
            1, 200, description="Number of frames to generate (must be 4k+1, ex: 49 or 129)"
        ),
    ),
    "pixverse/pixverse-v5": schema(
        image=FILE,
        quality=choice("string", "540p", "360p", "720p", "1080p"),
        duration=choice("integer", 5, 8),
    ),
    "luma/ray": schema(start_image_url=TEXT, loop={"type": "boolean"}),
    "acme/strings": schema(
        duration=choice("string", "5s", "10s"),
        images={"type": "array", "items": FILE},
    ),
    "acme/digits": schema(duration=choice("string", "5", "10", "auto")),
    "acme/float": schema(duration_seconds={"type": "number", "minimum": 0.5}),
    "acme/untimed": schema(num_frames=whole(1, 100), duration=TEXT),
    "acme/animate": promptless(("input_image",), input_image=FILE, text_prompt=TEXT),
    "acme/upscale": promptless(image=FILE),
}


def written(model: str, **given: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"prompt": "a cat", **given}
    result = video_input(MODELS[model], model, **arguments)
    return {name: value for name, value in result.items() if name != "prompt"}


def refusal(model: str, **given: Any) -> str:
    with pytest.raises(InvalidInputError, match="cannot take this input") as caught:
        written(model, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("bytedance/seedance-1-lite", {"image": URL}, {"image": URL}),
        ("kwaivgi/kling-v2.1", {"image": URL}, {"start_image": URL}),
        ("minimax/hailuo-02", {"image": Path("a.png")}, {"first_frame_image": Path("a.png")}),
        ("openai/sora-2", {"image": URL}, {"input_reference": URL}),
        ("luma/ray", {"image": URL}, {"start_image_url": URL}),
        ("acme/animate", {"image": URL}, {"input_image": URL, "text_prompt": "a cat"}),
        ("acme/strings", {"image": URL}, {"images": [URL]}),
    ],
)
def test_the_first_frame_goes_by_the_models_own_name(
    model: str, given: dict[str, Any], expected: dict[str, Any]
):
    assert written(model, **given) == expected


@pytest.mark.parametrize(
    ("model", "seconds", "expected"),
    [
        ("bytedance/seedance-1-lite", 5, {"duration": 5}),
        ("bytedance/seedance-1-lite", 12.0, {"duration": 12}),
        ("google/veo-3.1-fast", 6.0, {"duration": 6}),
        ("openai/sora-2", 8, {"seconds": 8}),
        ("acme/strings", 5, {"duration": "5s"}),
        ("acme/digits", 10.0, {"duration": "10"}),
        ("acme/float", 2.5, {"duration_seconds": 2.5}),
        ("lightricks/ltx-video", 4, {"length": 97}),
        ("lightricks/ltx-video", 5, {"length": 129}),
        ("lightricks/ltx-video", 10.5, {"length": 257}),
        ("wan-video/wan-2.1-1.3b", 3, {"frame_num": 49}),
        ("tencent/hunyuan-video", 5, {"video_length": 121}),
        ("tencent/hunyuan-video", 8.3, {"video_length": 197}),
        ("tencent/hunyuan-video", 0.01, {"video_length": 1}),
    ],
)
def test_a_duration_goes_in_the_models_own_measure(
    model: str, seconds: float, expected: dict[str, Any]
):
    result = written(model, duration=seconds)

    assert result == expected
    assert [type(value) for value in result.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("free", "seconds", "frames"),
    [({}, 5, 81), ({}, 6, 96), ({}, 8, 121), ({"frames_per_second": 24}, 4, 96)],
)
def test_frames_are_counted_at_the_rate_that_the_user_sets(
    free: dict[str, Any], seconds: float, frames: int
):
    result = written("wan-video/wan-2.2-i2v-fast", image=URL, duration=seconds, input=free)

    assert result == {"image": URL, "num_frames": frames, **free}


@pytest.mark.parametrize(
    ("model", "seconds", "problem"),
    [
        ("google/veo-3.1-fast", 5, "it makes videos of 4, 6 or 8 s, not 5 s."),
        ("acme/strings", 7, "it makes videos of 5 or 10 s, not 7 s."),
        ("acme/digits", 5.5, "it makes videos of 5 or 10 s, not 5.5 s."),
        ("bytedance/seedance-1-lite", 30, "it makes videos from 2 to 12 s, not 30 s."),
        (
            "bytedance/seedance-1-lite",
            5.5,
            "it makes videos from 2 to 12 s in whole seconds, not 5.5 s.",
        ),
        ("bytedance/seedance-2.0", 16, "it makes videos of at most 15 s, not 16 s."),
        ("acme/float", 0.1, "it makes videos of at least 0.5 s, not 0.1 s."),
        (
            "lightricks/ltx-video",
            6,
            "it makes videos of 4, 5.4, 6.7, 8, 9.4 or 10.7 s at 24 frames a second, not 6 s.",
        ),
        (
            "tencent/hunyuan-video",
            9,
            "it makes videos of at most 8.3 s at 24 frames a second, not 9 s.",
        ),
        (
            "acme/untimed",
            4,
            "it counts frames and does not say how many a second:"
            " set 'num_frames' in `input` instead of duration.",
        ),
        ("luma/ray", 5, "it has no input for duration."),
        ("bytedance/seedance-2.0", -1, "duration must be more than 0 s, not -1 s."),
        ("acme/float", float("nan"), "duration must be more than 0 s, not nan s."),
    ],
)
def test_a_duration_that_the_model_cannot_make_is_refused_with_those_it_can(
    model: str, seconds: float, problem: str
):
    assert refusal(model, duration=seconds).startswith(
        f"{model} cannot take this input: {problem} Its inputs are: prompt (required), "
    )


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("google/veo-3.1-fast", {"resolution": "1080P"}, {"resolution": "1080p"}),
        ("pixverse/pixverse-v5", {"resolution": "720p"}, {"quality": "720p"}),
        ("lightricks/ltx-video", {"resolution": "512"}, {"target_size": 512}),
        ("google/veo-3.1-fast", {"aspect_ratio": "9:16"}, {"aspect_ratio": "9:16"}),
        ("openai/sora-2", {"aspect_ratio": "Landscape"}, {"aspect_ratio": "landscape"}),
        (
            "google/veo-3.1-fast",
            {"seed": 0, "negative_prompt": "dogs"},
            {"seed": 0, "negative_prompt": "dogs"},
        ),
    ],
)
def test_the_other_parameters_go_by_the_models_own_words(
    model: str, given: dict[str, Any], expected: dict[str, Any]
):
    assert written(model, **given) == expected


@pytest.mark.parametrize(
    ("model", "given", "problem"),
    [
        (
            "google/veo-3.1-fast",
            {"resolution": "4k"},
            "resolution must be '1080p' or '720p', not '4k'",
        ),
        (
            "openai/sora-2",
            {"aspect_ratio": "16:9"},
            "aspect_ratio must be 'portrait' or 'landscape', not '16:9'",
        ),
        ("tencent/hunyuan-video", {"aspect_ratio": "16:9"}, "it has no input for aspect_ratio"),
        ("tencent/hunyuan-video", {"resolution": "720p"}, "it has no input for resolution"),
        ("tencent/hunyuan-video", {"image": URL}, "it has no input for image"),
        ("minimax/hailuo-02", {"seed": 1}, "it has no input for seed"),
        ("minimax/hailuo-02", {"negative_prompt": "x"}, "it has no input for negative_prompt"),
        ("luma/ray", {"image": Path("a.png")}, "start_image_url takes a string, not a file"),
        ("google/veo-3.1-fast", {"image": "a.png"}, "image takes a URL or a file, not 'a.png'"),
        ("kwaivgi/kling-v2.1", {}, "start_image is missing"),
        ("luma/ray", {"prompt": " \n"}, "the prompt is empty"),
    ],
)
def test_what_the_model_cannot_take_is_refused(model: str, given: dict[str, Any], problem: str):
    assert refusal(model, **given).startswith(f"{model} cannot take this input: {problem}. Its ")


def test_all_problems_come_in_one_line():
    told = refusal(
        "bytedance/seedance-1-lite",
        duration=30,
        negative_prompt="dogs",
        aspect_ratio="2:1",
        input={"resolutoin": "720p"},
    )

    assert told == (
        "bytedance/seedance-1-lite cannot take this input: it makes videos from 2 to 12 s, not"
        " 30 s; it has no input for negative_prompt; aspect_ratio must be '16:9' or '9:16', not"
        " '2:1'; 'resolutoin' is unknown (did you mean 'resolution'?). Its inputs are: prompt"
        " (required), image, duration, resolution, aspect_ratio, fps, seed. Nothing was sent."
    )


def test_the_users_own_input_wins_even_over_a_parameter_that_would_be_refused():
    result = video_input(
        MODELS["google/veo-3.1-fast"],
        "google/veo-3.1-fast",
        prompt=" ",
        duration=5,
        seed=1,
        input={"prompt": "a dog", "duration": 8, "seed": 2, "last_frame": URL},
    )

    assert result == {"prompt": "a dog", "duration": 8, "seed": 2, "last_frame": URL}


def test_the_users_own_input_is_not_changed():
    free = {"seed": 2}

    written("google/veo-3.1-fast", duration=8, input=free)

    assert free == {"seed": 2}


def test_a_model_without_a_prompt_takes_an_empty_one():
    assert written("acme/upscale", prompt="", image=URL) == {"image": URL}
    assert "it has no input for prompt" in refusal("acme/upscale", prompt="sharper")


def test_a_models_frame_rate_is_known_whatever_the_version():
    result = video_input(
        MODELS["lightricks/ltx-video"], f"lightricks/ltx-video:{'0' * 64}", prompt="x", duration=4
    )

    assert result["length"] == 97


def test_without_a_schema_the_parameters_go_by_their_own_names_unchecked():
    result = video_input(
        ModelSchema(),
        "acme/private",
        prompt="a cat",
        image=Path("a.png"),
        duration=5.0,
        resolution="720P",
        input={"seed": "x", "style": 1},
    )

    assert result == {
        "prompt": "a cat",
        "image": Path("a.png"),
        "duration": 5,
        "resolution": "720P",
        "seed": "x",
        "style": 1,
    }


def test_an_empty_prompt_is_refused_without_a_schema_too():
    with pytest.raises(InvalidInputError, match=r"input: the prompt is empty\. Nothing was sent"):
        video_input(ModelSchema(), "acme/private", prompt=" ")
