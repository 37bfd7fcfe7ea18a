import io
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.artifacts import VideoFile
from prefect_replicate.emulator.drawing import draw_video
from prefect_replicate.emulator.models.catalogue import default_catalogue
from prefect_replicate.emulator.models.cog import defaults
from prefect_replicate.emulator.models.model import Job
from prefect_replicate.emulator.plans import artifacts_in
from prefect_replicate.emulator.scenes import Scene

IMAGE = "https://example.com/a.png"


def scene_of(model: str, **values: Any) -> Scene:
    found = default_catalogue().find_model(model)
    assert found is not None
    filled = {**defaults(found.latest_version.openapi_schema), "prompt": "a red fox", **values}
    (file,) = artifacts_in(found.planner(Job(model, filled, seed=7)).output)
    assert isinstance(file, VideoFile)
    return file.scene


@pytest.mark.parametrize(
    ("model", "values", "seconds", "size"),
    [
        ("bytedance/seedance-1-lite", {"duration": 3, "aspect_ratio": "1:1"}, 3, (480, 480)),
        ("google/veo-3.1-fast", {"duration": 4, "aspect_ratio": "9:16"}, 4, (270, 480)),
        ("kwaivgi/kling-v2.1", {"start_image": IMAGE, "duration": 10}, 10, (480, 270)),
        ("minimax/hailuo-02", {}, 6, (480, 270)),
        ("wan-video/wan-2.2-t2v-fast", {"num_frames": 96}, 6, (480, 270)),
        ("openai/sora-2", {"seconds": 8}, 8, (270, 480)),
        ("lightricks/ltx-video", {"length": 225}, 9, (480, 320)),
        ("pixverse/pixverse-v5", {"duration": 8}, 8, (480, 270)),
    ],
)
def test_length_and_shape_follow_the_input(
    model: str, values: dict[str, Any], seconds: float, size: tuple[int, int]
) -> None:
    scene = scene_of(model, **values)

    assert (scene.seconds, scene.size) == (seconds, size)


def test_a_video_is_h264_that_plays_while_it_loads() -> None:
    content = draw_video(scene_of("bytedance/seedance-1-lite", duration=2))

    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        codec = (stream.codec_context.name, stream.codec_context.pix_fmt)
        seconds = len(list(container.decode(stream))) / float(stream.average_rate or 0)
    assert (codec, seconds) == (("h264", "yuv420p"), 2)
    assert content.index(b"moov") < content.index(b"mdat")


def test_something_moves() -> None:
    content = draw_video(scene_of("bytedance/seedance-1-lite", duration=2))

    with av.open(io.BytesIO(content)) as container:
        first, *_, last = (frame.to_image().tobytes() for frame in container.decode(video=0))
    assert first != last


def test_the_same_scene_gives_the_same_bytes_and_another_seed_others() -> None:
    one, same, other = (scene_of("pixverse/pixverse-v5", seed=seed) for seed in (1, 1, 2))

    assert draw_video(one) == draw_video(same) != draw_video(other)


def test_a_video_starts_from_its_uploaded_image(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 36), (250, 10, 10)).save(picture, "PNG")
    url = api.post("/files", files={"content": picture.getvalue()}).json()["urls"]["get"]
    asked = {"input": {"prompt": "x", "start_image": url}}
    created = api.post("/models/kwaivgi/kling-v2.1/predictions", json=asked).json()
    replicate_emulator.clock.advance(60)
    output = api.get(f"/predictions/{created['id']}").json()["output"]

    with av.open(io.BytesIO(httpx.get(output).content)) as container:
        frame = next(container.decode(video=0)).to_image()
    red, green, blue = frame.getpixel((240, 130))  # pyright: ignore[reportGeneralTypeIssues] RGB
    assert red > 200 > 60 > max(green, blue)


def test_only_ltx_returns_a_list(api: httpx.Client, replicate_emulator: Emulator) -> None:
    for route in ("/deployments/acme/studio-video", "/models/openai/sora-2"):
        assert api.post(f"{route}/predictions", json={"input": {"prompt": "x"}}).is_success
    replicate_emulator.clock.advance(60)

    outputs = {one.model: one.body["output"] for one in replicate_emulator.predictions}

    assert isinstance(outputs["lightricks/ltx-video"], list)
    assert isinstance(outputs["openai/sora-2"], str)


def test_every_schema_is_in_cogs_dialect() -> None:
    for model in default_catalogue().models:
        schemas = model.latest_version.openapi_schema["components"]["schemas"]
        properties = schemas["Input"]["properties"]
        orders = [one["x-order"] for one in properties.values()]
        references = [one["allOf"][0]["$ref"] for one in properties.values() if "allOf" in one]

        assert orders == list(range(len(properties)))
        assert all(one.rpartition("/")[2] in schemas for one in references)
        assert "Output" in schemas
