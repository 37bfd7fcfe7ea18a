"""Serve the flows from one process, without a work pool; see README.md."""

from typing import Any

from prefect import serve
from prefect.schedules import Cron, Interval
from prefect.types.entrypoint import EntrypointType

from prefect_replicate import (
    cancel_orphaned_predictions,
    generate_video,
    generate_videos,
    run_model,
    run_models,
)

OPTIONS: dict[str, Any] = {
    "tags": ["replicate-flow"],
    "entrypoint_type": EntrypointType.MODULE_PATH,
}

if __name__ == "__main__":
    one_video = generate_video.to_deployment(
        "one-video", description="Fill in a prompt, and run.", **OPTIONS
    )
    daily_video = generate_video.to_deployment(
        "daily-video",
        description="A video every morning, once its schedule is switched on.",
        schedules=[Cron("0 7 * * *", timezone="UTC", active=False)],  # each run costs money
        parameters={"prompt": "the weather of today as a paper collage, in slow motion"},
        **OPTIONS,
    )
    video_batch = generate_videos.to_deployment(
        "video-batch",
        description="A batch of videos, which this deployment's own runs can share.",
        **OPTIONS,
    )
    any_model = run_model.to_deployment(
        "any-model", description="Any model, with its input as JSON.", **OPTIONS
    )
    model_batch = run_models.to_deployment(
        "model-batch",
        description="A batch for any model, which this deployment's own runs can share.",
        **OPTIONS,
    )
    cancel_orphans = cancel_orphaned_predictions.to_deployment(
        "cancel-orphans",
        description="Cancels the predictions that no flow run waits for anymore.",
        schedules=[Interval(600)],  # seconds; it costs nothing
        **OPTIONS,
    )
    serve(one_video, daily_video, video_batch, any_model, model_batch, cancel_orphans)
