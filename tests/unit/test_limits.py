import pytest

from prefect_replicate.lifecycle.cancellation import how_it_ended
from prefect_replicate.lifecycle.creation import deadline_for
from prefect_replicate.values import Prediction


@pytest.mark.parametrize(("timeout", "deadline"), [(3600, 3660), (1, 61), (None, 86400)])
def test_replicates_deadline_comes_a_little_after_our_own(
    timeout: float | None, deadline: float
) -> None:
    assert deadline_for(timeout) == deadline


@pytest.mark.parametrize(
    ("status", "seconds", "said"),
    [
        ("canceled", 1.25, "canceled, stopped after 1.2 s"),
        ("canceled", None, "canceled"),
        ("aborted", None, "aborted before it started, which is not charged"),
        ("succeeded", 3.0, "had already succeeded after 3.0 s"),
        ("failed", 2.0, "failed after 2.0 s"),
    ],
)
def test_how_a_prediction_ended_is_one_line(status: str, seconds: float | None, said: str) -> None:
    metrics = {} if seconds is None else {"predict_time": seconds}
    prediction = Prediction(id="abc", status=status, metrics=metrics)

    assert how_it_ended(prediction) == f"Prediction abc: {said}"
