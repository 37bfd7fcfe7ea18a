"""When a failed prediction is worth another one."""

from __future__ import annotations

from typing import Any

from tenacity import retry_if_exception, stop_after_attempt, wait_random_exponential

from prefect_replicate.exceptions import PredictionFailedError


def attempts(retries: int) -> dict[str, Any]:
    """Options for tenacity: try anew where the platform has failed, not the input."""
    return {
        "retry": retry_if_exception(
            lambda exc: isinstance(exc, PredictionFailedError) and exc.is_transient
        ),
        "stop": stop_after_attempt(retries + 1),
        "wait": wait_random_exponential(multiplier=1, max=30),
        "reraise": True,
    }
