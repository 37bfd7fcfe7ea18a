"""Serve `generate_video` on the demo's Prefect server; started with the demo's environment."""

from __future__ import annotations

import asyncio
import os

from prefect import serve
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr

from prefect_replicate import ReplicateCredentials, generate_video

DEPLOYMENT = "demo"
BLOCK = "demo"


def main() -> None:
    """Save the credentials as a block, and serve a deployment that uses it."""
    # For the real Replicate, the block holds no token: that stays in the environment.
    base_url = os.environ["REPLICATE_BASE_URL"]
    token = SecretStr(os.environ["REPLICATE_API_TOKEN"]) if base_url else None
    block = ReplicateCredentials(api_token=token, base_url=base_url or None)
    block.save(BLOCK, overwrite=True)
    deployment = generate_video.ato_deployment(
        DEPLOYMENT,
        description="Press Run, and fill in the prompt.",
        parameters={"credentials": block},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    serve(
        asyncio.run(deployment),
        query_seconds=2,  # a user who presses Run is waiting
        print_starting_message=False,
        pause_on_shutdown=False,
    )


if __name__ == "__main__":
    main()
