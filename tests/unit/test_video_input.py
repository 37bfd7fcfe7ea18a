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


def said(description: str, rules: dict[str, Any] | None = None) -> dict[str, Any]:
    return {**(TEXT if rules is None else rules), "description": description}


RATIO = choice("string", "16:9", "9:16")
FILES = {"type": "array", "items": FILE}
NUMBER = {"type": "integer"}
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
    "kwaivgi/kling-v2.5-turbo-pro": schema(
        image=said("Deprecated: Use start_image instead.", FILE),
        start_image=said("First frame of the video", FILE),
    ),
    "kwaivgi/kling-v3-video": schema(
        mode=said(
            "'standard' generates 720p, 'pro' generates 1080p.",
            choice("string", "pro", "standard", "4k"),
        ),
    ),
    "lightricks/ltx-2.3-pro": schema(
        task=choice("string", "text_to_video", "image_to_video", "retake"),
        image=said("First frame image for image-to-video generation", FILE),
    ),
    "openai/sora-2-pro": schema(
        aspect_ratio=said(
            "Portrait is 720x1280, landscape is 1280x720", choice("string", "portrait", "landscape")
        ),
        resolution=said("Standard is 720p, high is 1024p", choice("string", "standard", "high")),
    ),
    "wan-video/wan-2.5-t2v": schema(
        size=choice(
            "string", "1280*720", "720*1280", "832*480", "480*832", "1920*1080", "1080*1920"
        ),
    ),
    "tencent/hunyuan-video-of-a-size": schema(
        width=said("Width (must be divisible by 16)", whole(16, 1280, default=864)),
        height=said("Height (must be divisible by 16)", whole(16, 1280, default=480)),
    ),
    "cjwbw/controlvideo": schema(
        seed=said("Random seed. Leave blank to randomize the seed"),
        video_length=said("Length of synthesized video", NUMBER),
    ),
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
            "it makes videos of 4, 5.4, 6.7, 8, 9.4 or 10.7 s at 24 frames per second, not 6 s.",
        ),
        (
            "tencent/hunyuan-video",
            9,
            "it makes videos of at most 8.3 s at 24 frames per second, not 9 s.",
        ),
        (
            "acme/untimed",
            4,
            "it counts frames, and its schema does not say how many per second:"
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
            {"aspect_ratio": "4:3"},
            "aspect_ratio must be 'portrait' or 'landscape', not '4:3'",
        ),
        (
            "tencent/hunyuan-video",
            {"aspect_ratio": "16:9"},
            "it takes a size in pixels, so 16:9 needs resolution too",
        ),
        (
            "tencent/hunyuan-video",
            {"resolution": "720p"},
            "it takes a size in pixels, so 720p needs aspect_ratio too",
        ),
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


def of(schema: ModelSchema, **given: Any) -> dict[str, Any] | str:
    """What is written beside the prompt, or the first problem."""
    try:
        result = video_input(schema, "acme/model", **{"prompt": "a cat", **given})
    except InvalidInputError as exc:
        return str(exc).partition("input: ")[2].partition(". Its inputs")[0]
    return {name: value for name, value in result.items() if name != "prompt"}


@pytest.mark.parametrize(
    ("name", "rules", "seconds", "expected"),
    [
        ("video_length", said("Video length in seconds", NUMBER), 5, 5),
        ("duration", said("Duration in milliseconds", NUMBER), 2.5, 2500),
        ("duration", said("In ms", choice("integer", 4000, 8000)), 8, 8000),
        ("duration_ms", {"type": "number"}, 0.5, 500),
        ("duration", said("Length in frames at 10 fps", NUMBER), 5, 50),
        ("frames", said("In frames (playback is at 8 fps e.g. 16 is 2 seconds)", NUMBER), 2, 16),
        ("num_frames", said("At 24 fps. Will be 8N+1 (e.g., 9, 17)", NUMBER), 5, 121),
        ("duration", said("In seconds. More frames cost more.", NUMBER), 5, 5),
        ("duration", said("At 24 frames per second, in seconds", NUMBER), 5, 5),
        ("duration", said("In seconds. Ignored when editing a video.", NUMBER), 5, 5),
    ],
)
def test_a_duration_is_counted_in_the_unit_that_the_description_says(
    name: str, rules: dict[str, Any], seconds: float, expected: float
):
    assert of(schema(**{name: rules}), duration=seconds) == {name: expected}


@pytest.mark.parametrize(
    ("name", "rules", "problem"),
    [
        (
            "video_length",
            said("Length of synthesized video", NUMBER),
            "its schema does not say that 'video_length' counts seconds or frames:"
            " set it in `input` instead of duration",
        ),
        (
            "duration",
            said("Duration in minutes", NUMBER),
            "its schema does not say that 'duration' counts seconds or frames:"
            " set it in `input` instead of duration",
        ),
        ("duration", said("Duration of the edited section in seconds", NUMBER), "it has no"),
        ("duration", said("Format: HH:MM:SS or seconds"), "it has no input for duration"),
        ("frames", said("Zip file of frames", FILE), "it has no input for duration"),
        ("duration", said("In ms", choice("integer", 4000, 8000)), "it makes videos of 4 or 8 s"),
        ("duration", said("In ms", whole(1000, 4000)), "it makes videos from 1 to 4 s, not 5 s"),
    ],
)
def test_a_duration_in_no_certain_unit_is_refused(name: str, rules: dict[str, Any], problem: str):
    told = of(schema(**{name: rules}), duration=5)

    assert isinstance(told, str)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("start_image", FILE),
        ("first_frame", FILE),
        ("init_image", FILE),
        ("image_url", TEXT),
        ("image", said("Input image to start generating from. Not the last frame.", FILE)),
        ("image", said("First frame. Cannot be combined with reference images.", FILE)),
        ("input_reference", said("An image to use as the first frame of the video", FILE)),
        ("input_image", said("Input image", FILE)),
    ],
)
def test_an_input_for_the_first_frame_is_known_by_name_or_description(
    name: str, rules: dict[str, Any]
):
    assert of(schema(**{name: rules}), image=URL) == {name: URL}


@pytest.mark.parametrize("name", ["images", "input_images", "image_urls"])
def test_a_list_of_images_gets_one(name: str):
    assert of(schema(**{name: FILES}), image=URL) == {name: [URL]}


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("last_frame", FILE),
        ("end_image", FILE),
        ("reference_images", FILES),
        ("style_image", FILE),
        ("mask", FILE),
        ("character_image", FILE),
        ("video", FILE),
        ("image_urls", said("A comma-separated list of input urls")),
        ("image", choice("string", "cat", "dog")),
    ],
)
def test_an_input_for_another_picture_gets_no_first_frame(name: str, rules: dict[str, Any]):
    assert of(schema(**{name: rules}), image=URL) == "it has no input for image"


@pytest.mark.parametrize(
    "description",
    [
        "Reference image. The characters in the video are based on it.",
        "Last frame of the video",
        "Mask image: white is redrawn",
        "Style image",
        "Driving image for the pose",
        "Image of the character",
    ],
)
def test_an_image_that_is_said_to_be_something_else_is_no_first_frame(description: str):
    told = of(schema(image=said(description, FILE)), image=URL)

    assert told == "its schema does not say that 'image' is a first frame: set it in `input`"


def test_the_picture_beside_a_required_video_is_no_first_frame():
    swap = schema(("prompt", "driving_video"), image=FILE, driving_video=FILE)

    told = of(swap, image=URL, input={"driving_video": URL})

    assert isinstance(told, str)
    assert told.startswith("its schema does not say that 'image' is a first frame")


def test_a_first_frame_wins_over_a_reference_and_a_deprecated_name():
    model = schema(image=said("Reference image", FILE), image_url=said("First frame", FILE))

    assert of(model, image=URL) == {"image_url": URL}
    assert written("kwaivgi/kling-v2.5-turbo-pro", image=URL) == {"start_image": URL}
    for old in ({**FILE, "deprecated": True}, said("Deprecated: Use image instead.", FILE)):
        assert of(schema(start_image=old, image=FILE), image=URL) == {"image": URL}


INIT = said("Provide init_image if use_init", FILE)
OFF = {"type": "boolean", "default": False}
ON = {"type": "boolean", "default": True}
TASK = choice("string", "text2video", "image2video")
BOTH = choice("string", "text", "image")


@pytest.mark.parametrize(
    ("properties", "needs"),
    [
        ({"init_image": INIT, "use_init": OFF}, "'init_image' needs use_init True"),
        ({"image": FILE, "use_image": OFF}, "'image' needs use_image True"),
        (
            {"image": said("Needs animate_photo", FILE), "animate_photo": OFF},
            "'image' needs animate_photo True",
        ),
        ({"image": FILE, "task": TASK}, "'image' needs task 'image2video'"),
        ({"image": FILE, "mode": BOTH}, "'image' needs mode 'image'"),
        (
            {
                "image": said("Only used when style_mode is 'animate'", FILE),
                "style_mode": choice("string", "paint", "animate"),
            },
            "'image' needs style_mode 'animate'",
        ),
    ],
)
def test_an_image_that_another_input_turns_on_is_refused_with_its_name(
    properties: dict[str, Any], needs: str
):
    assert of(schema(**properties), image=URL) == f"its {needs}: set that in `input`"


@pytest.mark.parametrize(
    ("properties", "free"),
    [
        ({"image": INIT, "use_init": OFF}, {"use_init": True}),
        ({"image": FILE, "task": TASK}, {"task": "image2video"}),
        ({"image": FILE, "use_image": ON}, {}),
        ({"image": FILE, "mode": choice("string", "image_to_video", "text_to_video")}, {}),
        (
            {
                "image": said("Image to loop", FILE),
                "loop": OFF,
                "orientation": choice("string", "image", "video"),
            },
            {},
        ),
    ],
)
def test_an_image_goes_where_nothing_has_to_be_turned_on_any_more(
    properties: dict[str, Any], free: dict[str, Any]
):
    assert of(schema(**properties), image=URL, input=free) == {"image": URL, **free}


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("wan-video/wan-2.5-t2v", {"aspect_ratio": "9:16"}, {"size": "720*1280"}),
        ("wan-video/wan-2.5-t2v", {"resolution": "1080p"}, {"size": "1920*1080"}),
        ("wan-video/wan-2.5-t2v", {"resolution": "480p"}, {"size": "832*480"}),
        (
            "wan-video/wan-2.5-t2v",
            {"aspect_ratio": "9:16", "resolution": "480P"},
            {"size": "480*832"},
        ),
        ("wan-video/wan-2.5-t2v", {"resolution": "1080*1920"}, {"size": "1080*1920"}),
        ("openai/sora-2", {"aspect_ratio": "16:9"}, {"aspect_ratio": "landscape"}),
        ("openai/sora-2", {"aspect_ratio": "9:16"}, {"aspect_ratio": "portrait"}),
        ("openai/sora-2-pro", {"aspect_ratio": "9:16"}, {"aspect_ratio": "portrait"}),
        ("openai/sora-2-pro", {"resolution": "720p"}, {"resolution": "standard"}),
        ("kwaivgi/kling-v3-video", {"resolution": "1080p"}, {"mode": "pro"}),
        ("kwaivgi/kling-v3-video", {"resolution": "4k"}, {"mode": "4k"}),
        (
            "tencent/hunyuan-video",
            {"aspect_ratio": "9:16", "resolution": "720p"},
            {"width": 720, "height": 1280},
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"aspect_ratio": "16:9"},
            {"width": 864, "height": 480},
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"aspect_ratio": "9:16"},
            {"width": 480, "height": 864},
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"resolution": "720p"},
            {"width": 1280, "height": 720},
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"aspect_ratio": "1:1"},
            {"width": 480, "height": 480},
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"resolution": "848x480"},
            {"width": 848, "height": 480},
        ),
    ],
)
def test_a_shape_and_a_resolution_go_onto_what_the_model_calls_its_size(
    model: str, given: dict[str, Any], expected: dict[str, Any]
):
    assert written(model, **given) == expected


@pytest.mark.parametrize(
    ("name", "rules", "given", "expected"),
    [
        ("resolution", choice("string", "720", "480"), "720p", "720"),
        ("resolution", choice("integer", 720, 480), "480p", 480),
        ("resolution", choice("string", "512P"), "512p", "512P"),
        ("resolution", choice("string", "FHD", "2k", "4k"), "1080p", "FHD"),
        ("resolution", choice("string", "1080p", "4k"), "2160p", "4k"),
        ("resolution", said("Height in pixels", NUMBER), "720p", 720),
        ("resolution", {**TEXT, "default": "480p"}, "720p", "720p"),
        (
            "mode",
            said("standard or pro (1080p)", choice("string", "pro", "standard")),
            "1080p",
            "pro",
        ),
        ("ratio", choice("string", "1280:720", "720:1280"), "720p", "1280:720"),
        ("size", choice("string", "1280x704", "704x1280"), "720p", "1280x704"),
    ],
)
def test_a_resolution_goes_by_the_lines_that_a_choice_stands_for(
    name: str, rules: dict[str, Any], given: str, expected: Any
):
    assert of(schema(**{name: rules}), resolution=given) == {name: expected}


@pytest.mark.parametrize(
    ("properties", "given", "expected"),
    [
        ({"aspect_ratio": choice("string", "832x480", "480x832")}, "9:16", "480x832"),
        ({"aspect_ratio": choice("string", "16:9", "1024x1024", "1:1")}, "1:1", "1:1"),
        ({"aspect_ratio": choice("string", "auto", "16:9")}, "Auto", "auto"),
        ({"aspect_ratio": choice("string", "16:9 (wide)", "9:16 (tall)")}, "9:16", "9:16 (tall)"),
        ({"aspect_ratio": TEXT}, "4:3", "4:3"),
        ({"aspect_ratio": said("Such as 16:9 (landscape) or 9:16 (portrait)")}, "9:16", "9:16"),
        ({"orientation": said('Must be "landscape" or "portrait".')}, "9:16", "portrait"),
        (
            {"aspect_ratio": said("16:9 corresponds to 832x480px", choice("string", "16:9"))},
            "landscape",
            "16:9",
        ),
        ({"aspect_ratio": RATIO}, "landscape", "16:9"),
    ],
)
def test_an_aspect_ratio_goes_by_the_shape_that_a_choice_stands_for(
    properties: dict[str, Any], given: str, expected: str
):
    [name] = properties

    assert of(schema(**properties), aspect_ratio=given) == {name: expected}


SIDE = said("Width of bounding box", NUMBER)


@pytest.mark.parametrize(
    "properties",
    [
        {"size": said("Size of font", NUMBER)},
        {"size": said("Font size", choice("integer", 20, 40))},
        {"size": choice("integer", 512, 720)},
        {"quality": said("Encoder quality", whole(0, 100))},
        {"quality": said("Video quality preset", choice("string", "low", "medium", "high"))},
        {"resolution": said("Resolution of the mask", choice("string", "480p", "720p"))},
        {"resolution": said("Of the model's grid", NUMBER)},
        {"mode": choice("string", "std", "pro")},
        {"mode": said("Pick pro or standard. 1080p costs more.", choice("string", "pro"))},
        {"width": SIDE, "height": SIDE},
        {"width": NUMBER},
        {"width": NUMBER, "height": NUMBER, "aspect_ratio": RATIO},
    ],
)
def test_what_is_no_resolution_gets_none(properties: dict[str, Any]):
    assert of(schema(**properties), resolution="720p") == "it has no input for resolution"


@pytest.mark.parametrize(
    ("model", "given", "problem"),
    [
        (
            "wan-video/wan-2.5-t2v",
            {"aspect_ratio": "1:1", "resolution": "720p"},
            "it makes videos of 1280*720, 720*1280, 832*480, 480*832, 1920*1080 or 1080*1920,"
            " not 1:1 at 720p",
        ),
        (
            "wan-video/wan-2.5-t2v",
            {"aspect_ratio": "auto"},
            "it takes a size in pixels, not 'auto'",
        ),
        (
            "tencent/hunyuan-video-of-a-size",
            {"resolution": "1080p"},
            "width must be from 16 to 1280, not 1920",
        ),
        (
            "kwaivgi/kling-v3-video",
            {"resolution": "480p"},
            "mode must be 'pro', 'standard' or '4k', not '480p'",
        ),
        (
            "openai/sora-2-pro",
            {"resolution": "1080p"},
            "resolution must be 'standard' or 'high', not '1080p'",
        ),
        ("openai/sora-2", {"resolution": "720p"}, "it has no input for resolution"),
    ],
)
def test_a_size_that_the_model_does_not_make_is_refused(
    model: str, given: dict[str, Any], problem: str
):
    assert f"cannot take this input: {problem}" in refusal(model, **given)


def test_a_width_and_a_height_beside_a_required_video_are_left_to_the_user():
    edit = schema(("video",), video=FILE, width=NUMBER, height=NUMBER)

    told = of(edit, aspect_ratio="16:9", resolution="720p", input={"video": URL})

    assert told == "it has no input for aspect_ratio; it has no input for resolution"


def test_free_text_that_takes_two_words_gets_no_third():
    model = schema(orientation=said('Must be "landscape" or "portrait".'))

    assert of(model, aspect_ratio="4:3") == (
        "orientation must be 'landscape' or 'portrait', not '4:3'"
    )


def test_a_size_of_unknown_default_needs_both_halves():
    sizes = schema(size={"type": "string", "enum": ["1280*720", "720*1280"]})

    assert of(sizes, resolution="720p") == (
        "it takes a size in pixels, so 720p needs aspect_ratio too"
    )
    assert of(sizes, aspect_ratio="9:16") == {"size": "720*1280"}


def test_the_users_own_width_leaves_the_height_to_the_user_too():
    model = MODELS["tencent/hunyuan-video-of-a-size"]

    assert of(model, aspect_ratio="1:1", input={"width": 640}) == {"width": 640}


@pytest.mark.parametrize(
    ("rules", "seed", "expected"),
    [
        (TEXT, 7, {"seed": "7"}),
        (NUMBER, 7, {"seed": 7}),
        (said("Seed (0 = random)", NUMBER), 7, {"seed": 7}),
        (said("Seed (0 = random)", NUMBER), 0, "its seed 0 means a random one"),
        (said("Set to 0 for Random seed", NUMBER), 0, "its seed 0 means a random one"),
        (said("Use -1 to randomize", NUMBER), -1, "its seed -1 means a random one"),
    ],
)
def test_a_seed_is_written_as_the_model_takes_it(rules: dict[str, Any], seed: int, expected: Any):
    assert of(schema(seed=rules), seed=seed) == expected


@pytest.mark.parametrize("prompt", [None, "", " \n"])
@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (promptless(video=FILE), None),
        (promptless(text=said("Text that the avatar speaks")), None),
        (promptless(prompt=TEXT), None),
        (promptless(prompt={**TEXT, "default": ""}), None),
        (promptless(prompt={**TEXT, "default": "An astronaut"}), "the prompt is empty"),
        (promptless(("prompt",), prompt=TEXT), "the prompt is empty"),
    ],
)
def test_a_prompt_is_needed_where_the_model_does_not_work_without(
    prompt: str | None, model: ModelSchema, problem: str | None
):
    assert of(model, prompt=prompt) == (problem or {})


@pytest.mark.parametrize(
    "model", [promptless(text=said("Text that the avatar speaks")), promptless(video=FILE)]
)
def test_a_prompt_for_a_model_without_one_is_refused(model: ModelSchema):
    assert of(model, prompt="a cat") == "it has no input for prompt"


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


def test_without_a_schema_none_leaves_the_prompt_out():
    assert video_input(ModelSchema(), "acme/private", prompt=None, seed=1) == {"seed": 1}
