"""Serve the flows from one process, without a work pool; see README.md."""

from prefect import serve
from prefect.schedules import Cron, Interval
from prefect.types.entrypoint import EntrypointType

from prefect_replicate import (
    cancel_orphaned_predictions,
    generate_video,
    generate_videos,
    run_models,
)

if __name__ == "__main__":
    on_demand = generate_video.to_deployment(
        "on-demand",
        description="Fill in a prompt, and run.",
        parameters={"destination": "~/videos"},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    daily = generate_video.to_deployment(
        "daily",
        description="A video every morning, once its schedule is switched on.",
        schedules=[Cron("0 7 * * *", timezone="UTC", active=False)],  # each run is paid for
        parameters={
            "prompt": "the weather of today as a paper collage, in slow motion",
            "destination": "~/videos",
        },
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    batches = generate_videos.to_deployment(
        "on-demand",
        description="A batch of videos, which this deployment's own runs can share.",
        parameters={"destination": "~/videos"},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    model_batches = run_models.to_deployment(
        "on-demand",
        description="A batch for any model, which this deployment's own runs can share.",
        parameters={"destination": "~/videos"},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    cancel_orphans = cancel_orphaned_predictions.to_deployment(
        "cancel-orphans",
        description="Cancels the predictions that no flow run waits for any more.",
        schedules=[Interval(600)],  # seconds; it pays for nothing
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    serve(on_demand, daily, batches, model_batches, cancel_orphans)
