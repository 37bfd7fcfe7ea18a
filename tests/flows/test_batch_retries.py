"""A batch that is retried goes on where it stood; if interrupted it leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from prefect.states import Cancelling

from prefect_replicate import GeneratedVideos, PollPolicy, agenerate_videos, generate_videos
from prefect_replicate.batch import view as batch_view
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call
from prefect_replicate.exceptions import BatchError
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import BatchLog
from prefect_replicate.lifecycle import creation, run_watch

TIMER = "emulator/timer"
PA = "Prediction interrupted; please retry (code: PA)"
LONG = {"prompt": "a fox", "input": {"seconds": 1000}}
REFUSED = {"prompt": "a hare", "input": {"seconds": -1}}
STATE = ("ledgers", "ancestries", "batches", "process")


def failing(error: str) -> dict[str, Any]:
    return {"prompt": "a wolf", "input": {"outcome": "failed", "error": error}}


def ids(videos: GeneratedVideos) -> list[str | None]:
    return [one.prediction_id for one in videos.outcomes]


def statuses(emulator: Emulator) -> list[str]:
    return [one.status for one in emulator.predictions]


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"model": TIMER, "policy": quick, "destination": tmp_path, "retries": 0}


@pytest.fixture(autouse=True)
def _often_shown(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """A batch that is interrupted ends with the next look at how it stands."""
    monkeypatch.setattr(batch_view, "LOOK_SECONDS", 0.1)


Attempts = Callable[..., list[GeneratedVideos]]


@pytest.fixture
def two_attempts(options: dict[str, Any]) -> Attempts:
    """What the batch has become in each attempt of a run around it, of which the first fails."""

    def two_attempts(requests: list[Any], between: Callable[[], Any] = lambda: None) -> Any:
        seen: list[GeneratedVideos] = []

        @flow(retries=1)
        async def parent() -> None:
            seen.append(await agenerate_videos(requests, **options, raise_on_failure=False))
            if len(seen) == 1:
                await asyncio.to_thread(between)
                raise RuntimeError

        asyncio.run(parent())
        return seen

    return two_attempts


@contextmanager
def beside(act: Callable[[], None]) -> Generator[None, None, None]:
    """Act in another thread meanwhile, and not after the test."""
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("forgotten", [(), STATE], ids=["same process", "another process"])
def test_a_retry_leaves_alone_what_has_succeeded(
    replicate_emulator: Emulator,
    two_attempts: Attempts,
    forget: Callable[..., None],
    forgotten: tuple[str, ...],
) -> None:
    first, second = two_attempts(["a fox", failing(PA), "an owl"], lambda: forget(*forgotten))

    done = [one for one in replicate_emulator.predictions if one.status == "succeeded"]
    downloads = [one for one in replicate_emulator.requests if one.host == "files"]
    assert first.outcomes[0] == second.outcomes[0]
    assert first.outcomes[2] == second.outcomes[2]
    assert len(done) == len(downloads) == 2
    assert not [one for one in done if replicate_emulator.requests.matching(path=one.id)[1:]]


def test_a_retry_pays_anew_for_what_failed_for_a_reason_that_may_pass_and_for_nothing_else(
    replicate_emulator: Emulator, two_attempts: Attempts
) -> None:
    first, second = two_attempts([failing(PA), failing("CUDA OOM"), REFUSED])

    assert ids(first)[0] != ids(second)[0]
    assert ids(first)[1:] == ids(second)[1:]
    assert replicate_emulator.predictions.create_requests == 3
    assert [one.state for one in second.outcomes] == ["failed"] * 3


@pytest.mark.smoke
def test_a_retry_of_the_run_itself_redoes_only_what_has_not_succeeded(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    retried = generate_videos.with_options(retries=1)

    with pytest.raises(BatchError, match="2 items: 1 succeeded, 1 failed"):
        retried(["a fox", failing(PA)], **options)

    assert replicate_emulator.predictions.create_requests == 3


@pytest.mark.parametrize("forgotten", [(), STATE], ids=["same process", "another process"])
def test_equal_items_each_keep_their_own_prediction(
    replicate_emulator: Emulator,
    two_attempts: Attempts,
    forget: Callable[..., None],
    forgotten: tuple[str, ...],
) -> None:
    replicate_emulator.faults.add("not_found", path=r"\.txt$", nth=2)

    first, second = two_attempts(["a fox"] * 4, lambda: forget(*forgotten))

    assert [one.state for one in first.outcomes].count("failed") == 1
    assert len(second.succeeded) == 4
    assert ids(first) == ids(second)
    assert replicate_emulator.predictions.create_requests == 4


def test_a_retry_that_does_not_find_how_items_stood_goes_by_their_calls(
    replicate_emulator: Emulator,
    two_attempts: Attempts,
    forget: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BatchLog, "tell", lambda *_: None)

    first, second = two_attempts(["a fox", "a fox", "an owl"], lambda: forget(*STATE))

    assert len(second.succeeded) == 3
    assert sorted(map(str, ids(first))) == sorted(map(str, ids(second)))
    assert replicate_emulator.predictions.create_requests == 3


@pytest.mark.parametrize("other", [["a fox"], ["a fox", REFUSED]], ids=["equal", "overlapping"])
def test_batches_of_one_run_do_not_take_each_others_results(
    replicate_emulator: Emulator, options: dict[str, Any], other: list[Any]
) -> None:
    replicate_emulator.faults.add("not_found", path=r"\.txt$", nth=2)
    seen: list[list[GeneratedVideos]] = []
    options["raise_on_failure"] = False

    @flow(retries=1)
    async def parent() -> None:
        one = await agenerate_videos(["a fox"], **options)
        seen.append([one, await agenerate_videos(other, **options)])
        if len(seen) == 1:
            raise RuntimeError

    asyncio.run(parent())

    first, second = ([ids(one)[0] for one in both] for both in seen)
    assert [[len(one.succeeded) for one in both] for both in seen] == [[1, 0], [1, 1]]
    assert first == second
    assert replicate_emulator.predictions.create_requests == 2


@pytest.mark.parametrize("forgotten", [(), STATE], ids=["same process", "another process"])
def test_batches_with_an_item_in_common_may_begin_in_another_order(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    forget: Callable[..., None],
    forgotten: tuple[str, ...],
) -> None:
    replicate_emulator.faults.add("not_found", path=r"\.txt$", nth=3)
    seen: list[list[GeneratedVideos]] = []

    async def late(seconds: float, requests: list[Any]) -> GeneratedVideos:
        await asyncio.sleep(seconds)
        return await agenerate_videos(requests, **options, raise_on_failure=False)

    @flow(retries=1)
    async def parent() -> None:
        first, second = (1, 0) if seen else (0, 1)
        batches = late(first, ["a fox", "an owl"]), late(second, ["a fox"])
        seen.append(await asyncio.gather(*batches))
        if len(seen) == 1:
            forget(*forgotten)
            raise RuntimeError

    asyncio.run(parent())

    made = [str(one) for videos in seen[1] for one in ids(videos)]
    assert sorted(made) == sorted(one.id for one in replicate_emulator.predictions)
    assert [len(videos.succeeded) for videos in seen[1]] == [2, 1]


def test_equal_items_of_batches_in_different_processes_are_different_calls(
    replicate_emulator: Emulator, options: dict[str, Any], forget: Callable[..., None]
) -> None:
    """Each process writes to a log of its own, so that one could not exclude the other."""
    roots: list[UUID] = []

    @task
    def subflow() -> None:
        """Stand for a subflow run in the parent's graph, as Prefect's own tasks of its kind do."""

    @flow
    def parent() -> list[Any]:
        root = UUID(flow_run.id)
        roots.append(root)
        with get_client(sync_client=True) as client:
            # created by the API: the server learns of a task run of this process with a delay
            tasks = [client.create_task_run(subflow, root, dynamic_key=str(i)) for i in range(2)]
            return [
                client.create_flow_run(generate_videos, parent_task_run_id=one.id) for one in tasks
            ]

    parameters = {"requests": ["a fox"], **options}
    for one in parent():
        run_flow(generate_videos, flow_run=one, parameters=parameters)
        forget(*STATE)

    ledger = Ledger(roots[0])
    call(lambda _: ledger.read())
    known = [one.generation.prediction_id for one in ledger.all if one.generation]
    assert sorted(map(str, known)) == sorted(one.id for one in replicate_emulator.predictions)
    assert len(known) == 2


def test_batches_that_run_side_by_side_each_have_their_own_videos(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    async def both() -> Any:
        @flow
        async def parent() -> Any:
            batches = (agenerate_videos(["a fox", "an owl"], **options) for _ in range(2))
            return await asyncio.gather(*batches)

        return await parent()

    one, other = asyncio.run(both())

    assert not set(ids(one)) & set(ids(other))
    assert replicate_emulator.predictions.create_requests == 4


def test_a_retry_goes_on_with_what_is_running_where_the_limit_of_the_run_is_retried(
    still: Emulator, options: dict[str, Any], eventually: Callable[..., None], unhurried: float
) -> None:
    attempts: list[None] = []
    limited = generate_videos.with_options(
        timeout_seconds=1.5 * unhurried, retries=1, on_running=[lambda *_: attempts.append(None)]
    )

    def let_them_end() -> None:
        eventually(lambda: still.predictions.create_requests == 2)
        limited.timeout_seconds = 60.0  # that of the second attempt
        eventually(lambda: len(attempts) == 2)
        still.clock.advance(2000)
        eventually(lambda: still.predictions.create_requests == 4)
        still.clock.advance(2000)

    with beside(let_them_end):
        videos = limited([LONG] * 4, **options, concurrency=2)

    assert len(videos.succeeded) == still.predictions.create_requests == 4
    assert statuses(still) == ["succeeded"] * 4


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_run_that_is_out_of_time_leaves_nothing_running_and_starts_nothing_more(
    still: Emulator, options: dict[str, Any], unhurried: float, form: str
) -> None:
    limited = generate_videos if form == "sync" else agenerate_videos
    limited = limited.with_options(timeout_seconds=1.5 * unhurried)

    made: Any = limited([LONG] * 6, **options, concurrency=3, chunk_size=2, return_state=True)
    state = asyncio.run(made) if asyncio.iscoroutine(made) else made

    assert state.name == "TimedOut"
    assert statuses(still) == ["canceled"] * 3


@pytest.mark.parametrize(("on_crash", "status"), [("cancel", "canceled"), ("keep", "processing")])
def test_ctrl_c_starts_nothing_more_and_leaves_running_what_is_to_be_kept(
    still: Emulator,
    options: dict[str, Any],
    eventually: Callable[..., None],
    ctrl_c: None,
    on_crash: Any,
    status: str,
) -> None:
    def press() -> None:
        eventually(lambda: len(still.predictions.live()) == 3)
        os.kill(os.getpid(), signal.SIGINT)

    with beside(press), pytest.raises(KeyboardInterrupt, match=r"^$"):
        generate_videos([LONG] * 6, **options, concurrency=3, chunk_size=2, on_crash=on_crash)

    assert statuses(still) == [status] * 3


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell starts what runs in its background deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("form", [generate_videos, agenerate_videos], ids=["sync", "async"])
def test_a_run_that_is_canceled_leaves_nothing_running_and_starts_nothing_more(
    still: Emulator,
    options: dict[str, Any],
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    form: Any,
) -> None:
    monkeypatch.setattr(run_watch, "INTERVAL", 0.1)
    name = f"canceled-{uuid4()}"

    def cancel() -> None:
        eventually(lambda: len(still.predictions.live()) == 3)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(runs_named(name)[0].id, Cancelling(), force=True)

    named = form.with_options(flow_run_name=name)
    with beside(cancel):
        made: Any = named([LONG] * 6, **options, concurrency=3, chunk_size=2, return_state=True)
        state = asyncio.run(made) if asyncio.iscoroutine(made) else made

    assert state.name in ("Cancelling", "Cancelled")
    assert statuses(still) == ["canceled"] * 3


def runs_named(name: str) -> list[FlowRun]:
    chosen = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=chosen)


def test_a_retry_after_an_interruption_makes_what_is_missing(
    still: Emulator, options: dict[str, Any], unhurried: float
) -> None:
    requests = ["an owl", *[LONG] * 3]
    still.behave(retention=1e9)
    limits = iter([1.5 * unhurried, 60])

    @flow(retries=1)
    def parent() -> GeneratedVideos:
        limited = generate_videos.with_options(timeout_seconds=next(limits))
        if still.predictions.create_requests:
            still.clock.speed = 5000
        return limited(requests, **options, concurrency=2)

    videos = parent()

    assert len(videos.succeeded) == 4
    assert sorted(statuses(still)) == ["canceled"] * 2 + ["succeeded"] * 4


@pytest.mark.contract
def test_what_happens_to_many_items_is_written_down_together(
    replicate_emulator: Emulator, options: dict[str, Any], ledger_requests: list[str]
) -> None:
    count = 40

    videos = generate_videos([f"fox {number}" for number in range(count)], **options)

    assert len(videos.succeeded) == count
    assert len(ledger_requests) <= 0.5 * count


def test_what_was_not_written_down_together_in_time_is_found_by_the_retry(
    replicate_emulator: Emulator,
    two_attempts: Attempts,
    forget: Callable[..., None],
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(BatchLog, "note", nothing)
    monkeypatch.setattr(BatchLog, "tell", lambda *_: None)
    monkeypatch.setattr(creation, "ABANDONED_SECONDS", 0.0)

    first, second = two_attempts(
        ["a fox", "an owl", REFUSED], lambda: forget(*STATE, "taken", "history")
    )

    assert sorted(map(str, ids(first))) == sorted(map(str, ids(second)))
    assert replicate_emulator.predictions.create_requests == 2
