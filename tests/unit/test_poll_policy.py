from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from prefect_replicate import PollPolicy

POLICY = PollPolicy(min_interval=1, max_interval=8, factor=2, jitter=0.1)
LIMITS = PollPolicy(queue_timeout=10, run_timeout=20)


@pytest.mark.parametrize(
    ("looks", "chance", "pause"),
    [(0, 0.5, 1), (1, 0.5, 2), (3, 0.5, 8), (9, 0.5, 8), (10**9, 0.5, 8), (3, 0, 7.2), (3, 1, 8.8)],
)
def test_the_pause_grows_up_to_the_longest_with_jitter(
    looks: int, chance: float, pause: float
) -> None:
    assert POLICY.pause(looks, chance) == pytest.approx(pause)


def test_the_default_notices_the_end_of_a_minute_within_a_tenth_of_it() -> None:
    policy, now, worst = PollPolicy(jitter=0), 0.0, 0.0
    for looks in range(200):
        pause = policy.pause(looks, 0.5)
        now += pause
        worst = max(worst, pause / now) if now > 60 else worst

    assert worst <= 0.11


@pytest.mark.parametrize(
    ("status", "queued", "running", "said"),
    [
        ("starting", 10, 0, None),
        ("starting", 11, 0, "still queued after 11 s (queue_timeout 10 s)"),
        ("processing", 99, 20, None),
        ("processing", 99, 21, "still running after 21 s (run_timeout 20 s)"),
        ("brand-new", 99, 21, "still running after 21 s (run_timeout 20 s)"),
    ],
)
def test_each_limit_counts_its_own_time(
    status: str, queued: float, running: float, said: str | None
) -> None:
    assert LIMITS.exceeded(status, queued, running) == said


@pytest.mark.parametrize(
    ("policy", "status", "left"),
    [
        (LIMITS, "starting", 7),
        (LIMITS, "processing", 18),
        (PollPolicy(), "starting", math.inf),
        (PollPolicy(), "processing", math.inf),
    ],
)
def test_the_time_that_is_left_is_that_of_the_limit_that_applies(
    policy: PollPolicy, status: str, left: float
) -> None:
    assert policy.time_left(status, 3, 2) == left


def test_no_limit_is_none() -> None:
    assert PollPolicy().exceeded("starting", 1e9, 0) is None
    assert PollPolicy().exceeded("processing", 1e9, 1e9) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_interval": -1}, "greater than or equal to 0"),
        ({"min_interval": 20}, r"min_interval \(20 s\) is longer than max_interval \(10 s\)"),
        ({"factor": 0.9}, "greater than or equal to 1"),
        ({"jitter": 1}, "less than 1"),
        ({"queue_timeout": 0}, "greater than 0"),
        ({"run_timeout": -1}, "greater than 0"),
        ({"failure_budget": -1}, "greater than or equal to 0"),
        ({"interval": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PollPolicy(**fields)
