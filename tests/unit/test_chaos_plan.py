import pytest
from benchmarks.chaos.plan import CALLS, CLOCKS, FATES, INPUTS, plan

MANY = plan(400, seed=1)


def test_the_same_seed_plans_the_same_runs() -> None:
    assert plan(50, seed=7) == plan(50, seed=7)
    assert plan(50, seed=7) != plan(50, seed=8)


@pytest.mark.parametrize("seed", range(20))
def test_every_fate_comes_where_there_is_room_for_all(seed: int) -> None:
    assert {run.fate for run in plan(len(FATES), seed)} == set(FATES)


def test_every_form_meets_every_fate_in_the_long_run() -> None:
    met = {(run.form, run.fate) for run in plan(2000, seed=1)}

    assert len(met) == len(CALLS) * len(FATES)


def test_no_two_runs_share_a_prompt() -> None:
    prompts = [prompt for run in MANY for prompt in run.prompts]

    assert len(set(prompts)) == len(prompts)


def test_only_a_run_that_is_left_alone_has_no_moment() -> None:
    assert all((run.moment is None) == (run.fate == "left alone") for run in MANY)


def test_a_run_that_is_only_ended_has_predictions_that_would_outlast_the_benchmark() -> None:
    for run in MANY:
        outlasts = run.moment is not None and run.moment.event != "succeeded" and not run.is_due
        assert (run.seconds >= 3600) == outlasts, run


def test_predictions_are_kept_after_a_crash_only_where_a_retry_goes_on_with_them() -> None:
    assert all(run.is_retried for run in MANY if run.on_crash == "keep")
    assert any(run.on_crash == "keep" for run in MANY)


def test_every_fate_meets_every_input_and_every_clock() -> None:
    met = {(run.fate, run.input, run.clock_ahead) for run in plan(2000, seed=1)}

    assert len(met) == len(FATES) * len(INPUTS) * len(CLOCKS)
