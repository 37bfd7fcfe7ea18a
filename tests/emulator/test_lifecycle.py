import pytest

from prefect_replicate.emulator.plans import Plan, progress_bar, progress_logs
from prefect_replicate.emulator.predictions import Record, Status, ending_of, logs_at, state_at


def record(
    *, deadline: float | None = None, stop_at: float | None = None, fails: bool = False
) -> Record:
    outcome = "failed" if fails else "succeeded"
    plan = Plan(queue=10, run=20, outcome=outcome, logs=progress_logs(20, 10, seed=1))
    return Record(
        id="x", model="a/b", version="hidden", input={}, plan=plan, created_at=100,
        deadline=deadline, stop_at=stop_at,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "now", "status"),
    [
        (record(), 100, "starting"),
        (record(), 109.9, "starting"),
        (record(), 110, "processing"),
        (record(), 129.9, "processing"),
        (record(), 130, "succeeded"),
        (record(fails=True), 130, "failed"),
        (record(deadline=105), 104.9, "starting"),
        (record(deadline=105), 105, "aborted"),
        (record(deadline=115), 114.9, "processing"),
        (record(deadline=115), 115, "canceled"),
        (record(deadline=130), 130, "succeeded"),
        (record(stop_at=105), 105, "canceled"),
        (record(stop_at=120), 119.9, "processing"),
        (record(stop_at=120), 120, "canceled"),
        (record(stop_at=120, deadline=105), 120, "aborted"),
        (record(stop_at=105, deadline=106), 120, "canceled"),
    ],
)
def test_status_follows_from_the_record_and_the_time(
    one: Record, now: float, status: Status
) -> None:
    assert state_at(one, now).status == status


def test_a_prediction_canceled_before_it_ran_has_the_recorded_3_microseconds() -> None:
    ending = ending_of(record(stop_at=105))

    assert ending.started_at == pytest.approx(105 - 3e-06)


def test_an_aborted_prediction_never_started() -> None:
    assert ending_of(record(deadline=105)).started_at is None


def test_logs_grow_while_the_model_runs() -> None:
    one = record()
    early, late = (logs_at(one, state_at(one, now)) for now in (112, 125))

    assert late.startswith(early)
    assert len(late.splitlines()) > len(early.splitlines()) > 1


def test_progress_looks_like_tqdm() -> None:
    bar = progress_bar(20, 50, 20.0)

    assert bar == " 40%|████      | 20/50 [00:08<00:12,  2.50it/s]\n"
