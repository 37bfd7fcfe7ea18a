"""The video models, with the names and inputs that they have on Replicate.

The inputs are those of the models' schemas as published in 2026; the descriptions are ours. The
inputs of `openai/sora-2` could not be checked against a schema.
"""

from __future__ import annotations

from prefect_replicate.emulator.models import cog
from prefect_replicate.emulator.models.studio import Studio, frames_in, seconds_in

_PROMPT = cog.text("Text prompt for video generation", required=True)
_NEGATIVE = cog.text("What the video should not show")
_FIRST_FRAME = cog.file("Image that the video starts from")
_LAST_FRAME = cog.file("Image that the video ends with")

SEEDANCE = Studio(
    "bytedance/seedance-1-lite",
    "Text-to-video and image-to-video, 2 to 12 seconds, 480p to 1080p",
    {
        "prompt": _PROMPT,
        "image": _FIRST_FRAME,
        "last_frame_image": _LAST_FRAME,
        "duration": cog.integer("Video duration in seconds", 5, 2, 12),
        "resolution": cog.choice("Video resolution", "720p", "480p", "720p", "1080p"),
        "aspect_ratio": cog.choice(
            "Video aspect ratio", "16:9", "16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "9:21"
        ),
        "fps": cog.Field("integer", "Frames per second", 24, choices=(24,)),
        "camera_fixed": cog.flag("Whether to fix the camera", False),
        "seed": cog.seed(),
    },
    seconds_in("duration"),
    run_seconds=5.0,
    image_input="image",
    run_count=1_100_000,
)

VEO = Studio(
    "google/veo-3.1-fast",
    "Faster and cheaper Veo 3.1, with sound",
    {
        "prompt": _PROMPT,
        "aspect_ratio": cog.choice("Video aspect ratio", "16:9", "16:9", "9:16"),
        "duration": cog.choice("Video duration in seconds", 8, 4, 6, 8),
        "image": _FIRST_FRAME,
        "last_frame": _LAST_FRAME,
        "negative_prompt": _NEGATIVE,
        "resolution": cog.choice("Video resolution", "1080p", "720p", "1080p"),
        "generate_audio": cog.flag("Generate audio with the video", True),
        "seed": cog.seed(),
    },
    seconds_in("duration"),
    run_seconds=8.0,
    image_input="image",
)

KLING = Studio(
    "kwaivgi/kling-v2.1",
    "Image-to-video, 5 or 10 seconds, standard or pro",
    {
        "prompt": _PROMPT,
        "negative_prompt": _NEGATIVE,
        "start_image": cog.file("First frame of the video", required=True),
        "end_image": cog.file("Last frame of the video, in pro mode"),
        "mode": cog.choice("Standard is 720p, pro is 1080p", "standard", "standard", "pro"),
        "duration": cog.choice("Video duration in seconds", 5, 5, 10),
    },
    seconds_in("duration"),
    run_seconds=9.0,
    image_input="start_image",
    run_count=1_900_000,
)

HAILUO = Studio(
    "minimax/hailuo-02",
    "Text-to-video and image-to-video, 6 or 10 seconds",
    {
        "prompt": _PROMPT,
        "first_frame_image": _FIRST_FRAME,
        "last_frame_image": _LAST_FRAME,
        "duration": cog.choice("Video duration in seconds", 6, 6, 10),
        "resolution": cog.choice("Video resolution", "1080p", "512p", "768p", "1080p"),
        "prompt_optimizer": cog.flag("Use the prompt optimizer", True),
    },
    seconds_in("duration"),
    run_seconds=8.0,
    image_input="first_frame_image",
)

WAN = Studio(
    "wan-video/wan-2.2-t2v-fast",
    "Fast text-to-video, counted in frames",
    {
        "prompt": _PROMPT,
        "optimize_prompt": cog.flag("Translate and expand the prompt", False),
        "num_frames": cog.integer("Number of frames; 81 are best", 81, 81, 121),
        "aspect_ratio": cog.choice("Video aspect ratio", "16:9", "16:9", "9:16"),
        "resolution": cog.choice("Video resolution", "480p", "480p", "720p"),
        "frames_per_second": cog.integer("Frames per second", 16, 5, 30),
        "interpolate_output": cog.flag("Interpolate to 30 frames per second", False),
        "go_fast": cog.flag("Go fast", True),
        "sample_shift": cog.number("Sample shift factor", 12, 1, 20),
        "disable_safety_checker": cog.flag("Disable the safety checker", False),
        "seed": cog.seed(),
    },
    frames_in("num_frames", "frames_per_second"),
    run_seconds=5.0,
)

SORA = Studio(
    "openai/sora-2",
    "Text-to-video and image-to-video with sound",
    {
        "prompt": _PROMPT,
        "seconds": cog.choice("Video duration in seconds", 4, 4, 8, 12),
        "aspect_ratio": cog.choice("Video aspect ratio", "portrait", "portrait", "landscape"),
        "input_reference": _FIRST_FRAME,
    },
    seconds_in("seconds"),
    run_seconds=8.0,
    image_input="input_reference",
)

LTX = Studio(
    "lightricks/ltx-video",
    "Open text-to-video and image-to-video model, run by a community version",
    {
        "prompt": cog.text("Text prompt for the video", "best quality, 4k, HDR, a tracking shot"),
        "negative_prompt": cog.text("What the video should not show", "low quality, distorted"),
        "image": _FIRST_FRAME,
        "image_noise_scale": cog.number("Lower keeps closer to the image", 0.15, 0, 1),
        "cfg": cog.number("How strongly the video follows the prompt", 3, 1, 20),
        "steps": cog.integer("Number of steps", 30, 1, 50),
        "length": cog.choice("Length in frames", 97, 97, 129, 161, 193, 225, 257),
        "target_size": cog.choice("Target size", 640, 512, 576, 640, 704, 768, 832, 896, 960, 1024),
        "aspect_ratio": cog.choice(
            "Video aspect ratio", "3:2", "1:1", "1:2", "2:1", "2:3", "3:2", "3:4", "4:3",
            "4:5", "5:4", "9:16", "16:9", "9:21", "21:9",
        ),
        "model": cog.choice("Model version", "0.9.1", "0.9.1", "0.9"),
        "seed": cog.seed(),
    },
    frames_in("length", 25.0),
    run_seconds=7.0,
    image_input="image",
    is_official=False,
    output_is_list=True,
    versions=2,
)  # fmt: skip

PIXVERSE = Studio(
    "pixverse/pixverse-v5",
    "Text-to-video and image-to-video, 5 or 8 seconds",
    {
        "prompt": _PROMPT,
        "image": _FIRST_FRAME,
        "last_frame_image": _LAST_FRAME,
        "quality": cog.choice("Video resolution", "540p", "360p", "540p", "720p", "1080p"),
        "duration": cog.choice("Video duration in seconds", 5, 5, 8),
        "aspect_ratio": cog.choice("Video aspect ratio", "16:9", "16:9", "9:16", "1:1"),
        "negative_prompt": cog.text("What the video should not show", ""),
        "effect": cog.choice("Special effect", "None", "None", "Let's YMCA!", "Subject 3 Fever"),
        "seed": cog.seed(),
    },
    seconds_in("duration"),
    run_seconds=6.0,
    image_input="image",
)

STUDIOS = (SEEDANCE, VEO, KLING, HAILUO, WAN, SORA, LTX, PIXVERSE)
