from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

import pytest
from benchmarks.local_account import LocalAccount

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acreate_prediction,
    await_for_prediction,
    cancel_prediction,
    create_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import (
    APIError,
    APIUnreachableError,
    ConfigurationError,
    PredictionCanceledError,
    PredictionError,
    PredictionFailedError,
    PredictionTimeoutError,
)

POLL = {"method": "GET", "path": r"/predictions/\w+$"}
NEVER = 1000.0
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(params=[4000.0, -3600.0], ids="our clock {:g} s ahead".format)
def our_clock(request: pytest.FixtureRequest) -> float:
    """It makes no difference."""
    return request.param


def test_a_prediction_is_waited_for_until_it_has_succeeded(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    created = create_prediction.fn("emulator/timer", {"seconds": 0.1, "output": {"n": 1}})

    done = wait_for_prediction.fn(created, policy=quick)

    assert (done.id, done.status, done.output) == (created.id, "succeeded", {"n": 1})
    assert done.predict_time == pytest.approx(0.1)


def test_an_id_is_enough(replicate_emulator: Emulator, quick: PollPolicy) -> None:
    created = create_prediction.fn("emulator/timer", {})

    assert wait_for_prediction.fn(created.id, policy=quick).is_succeeded


def test_one_that_has_ended_is_not_looked_at_again(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    done = wait_for_prediction.fn(create_prediction.fn("emulator/timer", {}), policy=quick)
    before = len(replicate_emulator.requests)

    assert wait_for_prediction.fn(done) == done
    assert len(replicate_emulator.requests) == before


@pytest.mark.parametrize(
    ("error", "is_transient", "said"),
    [
        ("Prediction interrupted; please retry (code: PA)", True, "trying again may help"),
        ("CUDA out of memory.\n  Tried to allocate", False, r"permanent\): CUDA out of memory. Tr"),
        ("NSFW content detected (E005)", False, "permanent"),
    ],
)
def test_a_failure_says_whether_trying_again_can_help(
    replicate_emulator: Emulator, quick: PollPolicy, error: str, is_transient: bool, said: str
) -> None:
    asked = {"outcome": "failed", "error": error}
    created = create_prediction.fn("emulator/timer", asked)

    with pytest.raises(PredictionFailedError, match=f"^Prediction .*{said}[^\n]*$") as failed:
        wait_for_prediction.fn(created, policy=quick)

    assert failed.value.is_transient is is_transient
    assert failed.value.prediction.error == error


def test_a_prediction_canceled_elsewhere_is_an_error(
    replicate_emulator: Emulator, running: Prediction, quick: PollPolicy
) -> None:
    import replicate

    def cancel_elsewhere(_: Prediction) -> None:
        client = replicate.Client(
            api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
        )
        client.predictions.cancel(running.id)

    with pytest.raises(
        PredictionCanceledError,
        match=rf"{running.id}: canceled, stopped after 0.0 s\. A retry pays",
    ):
        wait_for_prediction.fn(running, policy=quick, on_update=cancel_elsewhere)


def test_a_prediction_that_its_deadline_aborts_is_an_error(
    still: Emulator, quick: PollPolicy
) -> None:
    queued = create_prediction.fn("emulator/timer", {"queue_seconds": NEVER}, cancel_after=5)

    with pytest.raises(PredictionCanceledError, match=r"aborted before it started.*not charged"):
        wait_for_prediction.fn(
            queued, policy=quick, on_update=lambda _: still.clock.advance(10) and None
        )


def test_an_unknown_status_is_waited_through(scripted: Any, quick: PollPolicy) -> None:
    scripted.says(
        {"id": "abc", "status": "dozing"}, {"id": "abc", "status": "succeeded", "output": 1}
    )

    assert wait_for_prediction.fn("abc", scripted.credentials, policy=quick).output == 1


@pytest.mark.parametrize("kind", ["reset", "error_page", "error_text", "html", "malformed"])
async def test_failed_looks_do_not_lose_the_prediction(account: LocalAccount, kind: Any) -> None:
    account.faults.add(kind, **POLL, times=3)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 60})

    assert (await await_for_prediction.fn(created)).is_succeeded
    assert not account.faults.pending
    assert account.predictions.cancel_requests == 0


async def test_a_look_that_stays_impossible_ends_the_wait_and_leaves_the_prediction(
    account: LocalAccount,
) -> None:
    account.faults.add("reset", **POLL, times=None)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(APIUnreachableError, match=r"last seen .* may still run") as lost:
        await await_for_prediction.fn(created)

    assert created.id in str(lost.value)
    assert asyncio.get_running_loop().time() > PollPolicy().failure_budget
    assert len(account.predictions.live()) == 1


async def test_failures_that_are_not_consecutive_do_not_add_up(account: LocalAccount) -> None:
    policy = PollPolicy(min_interval=1, max_interval=1, failure_budget=2)
    for nth in range(1, 16, 2):
        account.faults.add("reset", **POLL, nth=nth)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 60})

    assert (await await_for_prediction.fn(created, policy=policy)).is_succeeded
    assert not account.faults.pending


async def test_a_prediction_that_is_unknown_is_not_looked_at_for_ever(
    account: LocalAccount,
) -> None:
    with pytest.raises(APIError, match=r"nosuchprediction \(never seen\) can't be read") as lost:
        await await_for_prediction.fn("nosuchprediction")
    assert lost.value.status == 404
    assert asyncio.get_running_loop().time() < 10


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize("is_known", [True, False])
async def test_one_look_that_is_refused_is_not_the_end(
    account: LocalAccount, status: int, is_known: bool
) -> None:
    account.faults.add("error_text", **POLL, status=status, times=3)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 60})

    done = await await_for_prediction.fn(created if is_known else created.id)

    assert done.is_succeeded
    assert not account.faults.pending


async def test_looks_that_are_refused_for_ever_end_the_wait(account: LocalAccount) -> None:
    account.faults.add("not_found", **POLL, times=None)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(APIError, match=r"last seen processing\) can't be read.*HTTP 404"):
        await await_for_prediction.fn(created)

    assert account.requests["get"] < 100


async def test_a_token_that_is_revoked_while_waiting_is_said(account: LocalAccount) -> None:
    account.faults.add("unauthenticated", **POLL, times=None)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(ConfigurationError, match=r"rejected the API token.*a retry continues"):
        await await_for_prediction.fn(created)


def test_a_token_that_never_was_good_is_said_at_once(still: Emulator, running: Prediction) -> None:
    still.faults.add("unauthenticated", **POLL, times=None)

    with pytest.raises(ConfigurationError, match=r"never seen\) can't be read"):
        wait_for_prediction.fn(running.id)


async def test_one_refused_token_does_not_lose_the_prediction(account: LocalAccount) -> None:
    account.faults.add("unauthenticated", **POLL)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 60})

    assert (await await_for_prediction.fn(created)).is_succeeded
    assert not account.faults.pending


async def test_on_timeout_the_prediction_is_canceled_and_the_error_says_so(
    account: LocalAccount,
) -> None:
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(
        TimeoutError, match=r"timeout 30 s\); canceled, stopped after (29|30)\.\d s\."
    ) as timeout:
        await await_for_prediction.fn(created, timeout=30)

    assert isinstance(timeout.value, PredictionTimeoutError)
    assert timeout.value.prediction.status == "canceled"
    assert account.predictions.live() == []


async def test_a_timeout_does_not_wait_for_the_next_look(account: LocalAccount) -> None:
    slow = PollPolicy(min_interval=600, max_interval=600)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(PredictionTimeoutError, match=r"not done 30 s after .*timeout 30 s"):
        await await_for_prediction.fn(created, timeout=30, policy=slow)


@pytest.mark.parametrize(
    ("asked", "limit", "said"),
    [
        (
            {"queue_seconds": NEVER},
            {"queue_timeout": 20},
            "still queued after 20 s.*queue_timeout 20",
        ),
        (
            {"seconds": NEVER},
            {"run_timeout": 20},
            "still running after 20 s.*run_timeout 20 s",
        ),
    ],
)
@pytest.mark.parametrize("interval", [1.0, 600.0])
async def test_queue_and_run_have_their_own_limits(
    account: LocalAccount,
    asked: dict[str, float],
    limit: dict[str, float],
    said: str,
    interval: float,
) -> None:
    policy = PollPolicy(min_interval=interval, max_interval=interval, **limit)
    created = await acreate_prediction.fn("emulator/timer", asked)

    with pytest.raises(PredictionTimeoutError, match=said):
        await await_for_prediction.fn(created, policy=policy)
    assert account.predictions.live() == []


async def test_a_queue_limit_does_not_count_the_run(account: LocalAccount) -> None:
    asked = {"queue_seconds": 10, "seconds": 60}
    created = await acreate_prediction.fn("emulator/timer", asked)

    done = await await_for_prediction.fn(created, policy=PollPolicy(queue_timeout=20))

    assert done.is_succeeded


def test_the_time_counts_from_the_creation(still: Emulator, quick: PollPolicy) -> None:
    new = create_prediction.fn("emulator/timer", {"seconds": NEVER})
    aged = new.model_copy(update={"created_at": LONG_AGO})

    with pytest.raises(PredictionTimeoutError, match=r"not done \d{8,} s after its creation"):
        wait_for_prediction.fn(aged, timeout=3600, policy=quick)


def test_the_run_limit_counts_from_the_start_that_replicate_states(
    still: Emulator, running: Prediction, quick: PollPolicy
) -> None:
    policy = quick.model_copy(update={"run_timeout": 3600.0})
    aged = running.model_copy(update={"started_at": LONG_AGO, "status": "processing"})

    with pytest.raises(PredictionTimeoutError, match=r"still running after \d{8,} s"):
        wait_for_prediction.fn(aged, timeout=None, policy=policy)


async def test_a_result_that_comes_at_the_last_moment_is_kept(account: LocalAccount) -> None:
    account.faults.add("delay", method="POST", path="/cancel$", seconds=5)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 30})

    done = await await_for_prediction.fn(created, timeout=28)

    assert done.is_succeeded
    assert account.predictions.cancel_requests == 1


async def test_a_timeout_whose_cancel_fails_says_that_it_may_still_run(
    account: LocalAccount,
) -> None:
    account.faults.add("error_page", method="POST", path="/cancel$", times=None)
    created = await acreate_prediction.fn("emulator/timer", {"seconds": NEVER})

    with pytest.raises(PredictionTimeoutError, match="may still run until its deadline: htt"):
        await await_for_prediction.fn(created, timeout=30)


def test_each_look_is_told_in_the_callers_thread(
    still: Emulator, running: Prediction, quick: PollPolicy
) -> None:
    seen: list[tuple[str, threading.Thread]] = []

    def note(prediction: Prediction) -> None:
        seen.append((prediction.status, threading.current_thread()))
        if len(seen) == 3:
            still.clock.advance(NEVER)

    wait_for_prediction.fn(running, policy=quick, on_update=note)

    looks = len(still.requests.matching("GET", running.id))
    assert len(seen) == looks + 1  # the first is the prediction that it was called with
    assert {thread for _, thread in seen} == {threading.current_thread()}
    assert seen[-1][0] == "succeeded"


def test_an_exception_in_on_update_is_logged_and_harmless(
    replicate_emulator: Emulator, quick: PollPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Prediction) -> None:
        raise RuntimeError("the progress bar fell over")

    created = create_prediction.fn("emulator/timer", {"seconds": 0.1})

    assert wait_for_prediction.fn(created, policy=quick, on_update=broken).is_succeeded
    assert "on_update failed; the wait continues" in caplog.text
    assert "the progress bar fell over" in caplog.text


def test_on_update_may_be_a_coroutine_function(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    seen: list[str] = []

    async def note(prediction: Prediction) -> None:
        await asyncio.sleep(0)
        seen.append(prediction.status)

    created = create_prediction.fn("emulator/timer", {"seconds": 0.1})
    wait_for_prediction.fn(created, policy=quick, on_update=note)

    assert seen[-1] == "succeeded"


async def test_a_coroutine_function_is_awaited_on_the_callers_loop(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note(prediction: Prediction) -> None:
        loops.append(asyncio.get_running_loop())
        raise ValueError("broken")

    created = await acreate_prediction.fn("emulator/timer", {"seconds": 0.1})
    done = await await_for_prediction.fn(created, on_update=note)

    assert done.is_succeeded
    assert set(loops) == {asyncio.get_running_loop()}
    assert "on_update failed; the wait continues" in caplog.text


def test_on_update_may_call_tasks_itself(
    still: Emulator, running: Prediction, quick: PollPolicy
) -> None:
    with pytest.raises(PredictionCanceledError, match="canceled"):
        wait_for_prediction.fn(running, policy=quick, on_update=cancel_prediction.fn)


async def test_the_models_log_is_forwarded_each_line_once(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    created = await acreate_prediction.fn("emulator/timer", {"seconds": 60, "log_lines": 6})

    await await_for_prediction.fn(created)

    forwarded = [line for line in caplog.messages if line.startswith("[emulator/timer]")]
    assert forwarded == [f"[emulator/timer] line {number} of 6" for number in range(1, 7)]


async def test_a_state_is_logged_when_it_changes(
    account: LocalAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    asked = {"queue_seconds": 30, "seconds": 30}
    created = await acreate_prediction.fn("emulator/timer", asked)
    caplog.clear()

    await await_for_prediction.fn(created)

    known = f"Prediction {created.id}"
    states = [line for line in caplog.messages if line.startswith(known)]
    assert states == [f"{known} is starting", f"{known} is processing", f"{known} succeeded"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"outcome": "failed"}, "failed"),
        ({"seconds": NEVER}, "was canceled"),
        ({"queue_seconds": NEVER}, "was aborted"),
    ],
)
async def test_an_end_without_success_is_logged_as_a_sentence(
    account: LocalAccount, caplog: pytest.LogCaptureFixture, asked: dict[str, Any], said: str
) -> None:
    caplog.set_level("INFO", "prefect_replicate")
    created = await acreate_prediction.fn("emulator/timer", asked, cancel_after=5)

    with pytest.raises(PredictionError, match=created.id):
        await await_for_prediction.fn(created)

    assert f"Prediction {created.id} {said}" in caplog.messages


async def test_looks_get_rarer_and_frequent_again_when_the_state_changes(
    account: LocalAccount,
) -> None:
    policy = PollPolicy(min_interval=1, max_interval=60, factor=3, jitter=0)
    asked = {"queue_seconds": 10, "seconds": 100}
    created = await acreate_prediction.fn("emulator/timer", asked)

    await await_for_prediction.fn(created, policy=policy)

    looks = [one.time for one in account.traffic.matching("GET", created.id)]
    pauses = [round(later - earlier) for earlier, later in pairwise(looks)]
    assert pauses == [3, 9, 1, 3, 9, 27, 60]


async def test_the_async_twin_waits_too(replicate_emulator: Emulator, quick: PollPolicy) -> None:
    created = create_prediction.fn("emulator/timer", {"seconds": 0.1})
    seen: list[str] = []

    done = await await_for_prediction.fn(
        created, policy=quick, on_update=lambda one: seen.append(one.status)
    )

    assert done.is_succeeded
    assert seen[-1] == "succeeded"


def test_many_waits_share_one_connection_pool(
    replicate_emulator: Emulator, quick: PollPolicy
) -> None:
    def create_and_wait(_: int) -> Prediction:
        created = create_prediction.fn("emulator/timer", {"seconds": 0.1})
        return wait_for_prediction.fn(created, policy=quick)

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(create_and_wait, range(6)))

    engines = [one for one in threading.enumerate() if one.name == "prefect-replicate"]
    assert {one.id for one in results} == {one.id for one in replicate_emulator.predictions}
    assert len(engines) == 1
