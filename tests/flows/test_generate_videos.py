"""A batch in one process, from its requests to its outcomes; retries are in a file of their own."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from batches import failing, soon, states
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_replicate import (
    PollPolicy,
    ReplicateCredentials,
    VideoRequest,
    agenerate_videos,
    cancel_predictions,
    generate_videos,
)
from prefect_replicate.batch import view as batch_view
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import BatchError, InvalidInputError

Artifacts = Callable[[State[Any], str], list[Artifact]]
TIMER = "emulator/timer"
LONG = {"prompt": "a fox", "input": {"seconds": 1000}}
REFUSED = {"prompt": "a hare", "input": {"seconds": -1}}


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    """Those of the tests' batches, which complete whatever becomes of their items."""
    where = {"policy": quick, "destination": tmp_path / "videos"}
    return {"model": TIMER, **where, "raise_on_failure": False}


async def table_now() -> list[dict[str, Any]]:
    """The rows of the newest batch."""
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["generated-videos"])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    return json.loads(found[0].data) if found else []


@pytest.mark.smoke
def test_outcomes_are_in_the_order_of_the_requests_whatever_ends_first(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    requests = [
        VideoRequest(prompt="a fox", input={"seconds": 0.5}, id="slow"),
        {"prompt": "a heron", "model": "emulator/community-timer"},
        "an owl",
    ]

    videos = generate_videos(requests, **options)

    assert [one.number for one in videos.succeeded] == [1, 2, 3]
    assert [one.id for one in videos.outcomes] == ["slow", None, None]
    assert [one.prompt for one in videos.outcomes] == ["a fox", "a heron", "an owl"]
    assert videos.outcomes[1].model == "emulator/community-timer"
    for one in videos.outcomes:
        assert Path(one.files[0].location).is_file()
        assert one.prediction_id is not None
        assert one.prediction_id in one.files[0].source + one.files[0].location + str(one.web_url)


async def test_an_item_that_fails_loses_none_of_the_others(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    videos = await agenerate_videos(["a fox", failing(), "an owl"], **options)

    assert states(videos) == ["succeeded", "failed", "succeeded"]
    assert "failed (permanent): NSFW content detected" in (videos.failed[0].error or "")
    assert replicate_emulator.predictions.create_requests == 3


async def test_an_input_that_the_model_refuses_fails_alone_and_costs_nothing(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    videos = await agenerate_videos(["a fox", REFUSED], **options)

    assert states(videos) == ["succeeded", "failed"]
    assert "seconds must be at least 0, not -1" in (videos.failed[0].error or "")
    assert replicate_emulator.predictions.create_requests == 1


async def test_nothing_is_paid_when_a_refused_input_is_to_stop_the_batch(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    videos = await agenerate_videos(["a fox", REFUSED], **options, on_item_failure="stop")

    assert states(videos) == ["skipped", "failed"]
    assert videos.skipped[0].error == "not started: too many items have failed"
    assert replicate_emulator.predictions.create_requests == 0


async def test_equal_items_are_each_generated_and_warned_of(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    requests = ["a fox", "an owl", {"prompt": "a fox", "id": "again"}]

    videos = await agenerate_videos(requests, **options)

    assert len({one.prediction_id for one in videos.succeeded}) == 3
    assert len({one.files[0].location for one in videos.succeeded}) == 3
    assert "Items 1, 3 are equal: each is generated and paid for" in caplog.text


async def test_of_many_groups_of_equal_items_five_are_named(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    requests = [f"fox {number}" for number in range(8)] * 2

    await agenerate_videos(requests, **options)

    assert len(re.findall(r"Items \d+, \d+ are equal", caplog.text)) == 5
    assert "So are items in 3 more groups" in caplog.text


async def test_the_log_names_an_item_as_the_table_does(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    artifacts: Callable[..., list[Artifact]],
) -> None:
    requests = [{"prompt": "a fox", "id": "50% %s"}, failing() | {"id": "wolf"}, "an owl"]

    state = await agenerate_videos(requests, **options, return_state=True)

    lines = [line for line in caplog.messages if line.startswith("Item ")]
    labels = {re.split(": | has failed: ", line)[0] for line in lines}
    [table] = artifacts(state, "table")
    assert labels == {f"Item {row['item']}" for row in json.loads(str(table.data))}
    assert labels == {"Item 1 (50% %s)", "Item 2 (wolf)", "Item 3"}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"requests": []}, "The batch is empty: `requests` is empty"),
    ({"requests": ["a fox"] * 10_001}, "The batch has 10,001 items, but a run takes at most"),
    ({}, "Give exactly one of `requests`"),
    ({"requests": ["a fox"], "path": "rows.csv"}, "Give exactly one of `requests`"),
    ({"prompt": "a fox"}, "`prompt` also needs `variations`"),
    ({"prompts": ["a", "b\nc"], "variations": [{}]}, "vary one prompt, but `prompts` has 3; give"),
    ({"requests": ["a fox", ""]}, "1 of 2 items can't be used: item 2: prompt: it is empty"),
    ({"requests": ["a fox"], "concurrency": 0}, "concurrency must be at least 1, not 0"),
    ({"requests": ["a fox"], "max_failures": -1}, "max_failures must be 0 or more, not -1"),
    ({"path": "nowhere.csv"}, "No rows can be read from 'nowhere.csv'"),
]


@pytest.mark.parametrize(("given", "said"), BAD, ids=[said[:30] for _, said in BAD])
async def test_a_batch_that_makes_no_sense_is_refused_before_anything_is_paid(
    replicate_emulator: Emulator, options: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=rf"^[^\n]*{re.escape(said)}[^\n]*$"):
        await agenerate_videos(**options, **given)

    assert len(replicate_emulator.requests) == 0


async def test_a_row_that_cannot_be_read_is_named(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,seed\na fox,1\nan owl,many\n")

    with pytest.raises(
        InvalidInputError, match=r"1 of 2 items can't be used: row 2 of .* \(line 3\): seed 'many'"
    ):
        await agenerate_videos(path=path, **options)

    assert len(replicate_emulator.requests) == 0


FILES = {
    "rows.csv": "prompt,id,seed,input.output_bytes\na fox,f,7,12\nan owl,o,,30\n",
    "rows.jsonl": '{"prompt": "a fox", "id": "f", "seed": 7, "input": {"output_bytes": 12}}\n'
    '{"prompt": "an owl", "id": "o", "input": {"output_bytes": 30}}\n',
}


@pytest.mark.parametrize("name", FILES)
async def test_rows_of_a_file_become_videos(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(FILES[name])

    videos = await agenerate_videos(path=tmp_path / name, **options)

    assert [(one.id, one.files[0].size) for one in videos.succeeded] == [("f", 12), ("o", 30)]
    sent = {
        str(one.input["prompt"]): one.input.get("seed") for one in replicate_emulator.predictions
    }
    assert sent == {"a fox": 7, "an owl": None}


async def test_a_column_for_an_input_that_the_model_does_not_have_fails_the_batch_once(
    replicate_emulator: Emulator, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("prompt,input.secnods\na fox,1\nan owl,2\n")

    with pytest.raises(
        InvalidInputError,
        match=r"unknown columns: 'input\.secnods' \(did you mean 'input\.seconds'\?\); accepted",
    ):
        await agenerate_videos(path=tmp_path / "a.csv", **options)
    assert replicate_emulator.predictions.create_requests == 0


async def test_variations_of_a_prompt_get_the_defaults_that_they_leave_out(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    replicate_emulator.behave(duration_factor=0.01)
    model = {"model": "bytedance/seedance-1-lite", "input": {"camera_fixed": True}}
    variations = [{"seed": 1}, {"duration": 10, "prompt": "an owl"}]

    await agenerate_videos(
        prompt="a fox", variations=variations, duration=5, **{**options, **model}
    )

    common = {"camera_fixed": True}
    assert sorted((dict(one.input) for one in replicate_emulator.predictions), key=str) == sorted(
        [
            {"prompt": "a fox", "seed": 1, "duration": 5, **common},
            {"prompt": "an owl", "duration": 10, **common},
        ],
        key=str,
    )


async def test_a_form_varies_the_only_line_of_its_prompts(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    made = {"prompts": [" a fox\n"], "variations": [{"seed": 1}, {"seed": 2}]}

    state = await agenerate_videos(**made, **options, return_state=True)

    assert [one.prompt for one in (await state.aresult()).succeeded] == ["a fox", "a fox"]
    assert {one.input["seed"] for one in replicate_emulator.predictions} == {1, 2}


async def test_no_more_items_are_under_way_at_once_than_asked(
    still: Emulator, options: dict[str, Any]
) -> None:
    requests = [{"prompt": f"fox {n}", "input": {"seconds": 100}} for n in range(9)]

    work = agenerate_videos(requests, **options, concurrency=3, chunk_size=4)
    running = asyncio.create_task(work)
    for _ in range(3):
        await soon(lambda: len(still.predictions.live()) == 3)
        still.clock.advance(101)
    await running

    lives = [(one.created_at, one.completed_at or 0.0) for one in still.predictions]
    at_once = [sum(born <= moment < died for born, died in lives) for moment, _ in lives]
    assert at_once == [3] * 9


async def test_a_batch_that_is_to_stop_finishes_what_runs_and_skips_the_rest(
    still: Emulator, options: dict[str, Any], eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = {"prompt": "a fox", "input": {"seconds": 2}}
    requests = [running, failing(seconds=1), *(f"owl {n}" for n in range(4))]
    batch = agenerate_videos(requests, **options, on_item_failure="stop", concurrency=2)
    made = asyncio.ensure_future(batch)

    await asyncio.to_thread(eventually, lambda: len(still.predictions) == 2)
    still.clock.advance(1)
    await asyncio.to_thread(eventually, lambda: "Item 2 has failed" in caplog.text)
    still.clock.advance(1)
    videos = await made

    assert states(videos) == ["succeeded", "failed", *["skipped"] * 4]
    assert still.predictions.create_requests == 2


@pytest.mark.parametrize("threads", [1, 8])
async def test_the_parts_of_a_batch_share_the_count_of_failures(
    replicate_emulator: Emulator, options: dict[str, Any], threads: int
) -> None:
    runner = ThreadPoolTaskRunner(max_workers=threads)
    in_parts = agenerate_videos.with_options(task_runner=runner)

    videos = await in_parts([failing()] * 6, **options, max_failures=1, concurrency=1, chunk_size=2)

    assert sorted(states(videos)) == ["failed"] * 2 + ["skipped"] * 4
    assert replicate_emulator.predictions.create_requests == 2


async def test_as_many_failures_as_are_allowed_stop_nothing(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    requests = [failing(), "a fox", failing(), "an owl"]

    videos = await agenerate_videos(requests, **options, max_failures=2, concurrency=1)

    assert states(videos) == ["failed", "succeeded", "failed", "succeeded"]


def test_a_run_fails_with_the_counts_when_an_item_has(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    strict = {**options, "raise_on_failure": True}

    state = generate_videos(["a fox", failing()], **strict, return_state=True)

    error = state.result(raise_on_failure=False)
    assert state.is_failed()
    assert isinstance(error, BatchError)
    assert len(error.videos.succeeded) == 1
    assert re.search(
        r"2 items: 1 succeeded, 1 failed; \d+\.\d s of model time, \d+ s elapsed\. The first"
        r" is item 2: .*NSFW.* A retry of the run redoes only the items that have not succeeded\.",
        state.message or "",
    )


async def test_a_run_completes_with_a_failed_item_where_that_is_asked(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    state = await agenerate_videos(["a fox", failing()], **options, return_state=True)

    assert state.is_completed()


async def test_the_summary_has_counts_billed_seconds_and_the_time_it_took(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    requests = [{"prompt": "a fox", "input": {"seconds": 0.5}}, failing(seconds=0.25)]

    videos = await agenerate_videos(requests, **options)

    assert videos.predict_time == pytest.approx(0.75, abs=0.1)
    assert 0.5 <= (videos.outcomes[0].seconds or 0) < videos.wall_seconds
    assert videos.summary.startswith("2 items: 1 succeeded, 1 failed; 0.")
    assert videos.summary in caplog.text


async def test_the_table_fills_while_the_run_goes_on(
    still: Emulator, options: dict[str, Any], artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_view, "LOOK_SECONDS", 0.1)
    requests = ["a fox", {"prompt": "an owl", "input": {"seconds": 100}}, "a hare"]

    work = agenerate_videos(requests, **options, concurrency=2, chunk_size=3, return_state=True)
    running = asyncio.create_task(work)
    shown: list[Any] = []
    with anyio.fail_after(20):
        while shown != ["succeeded", "running", "succeeded"]:
            await asyncio.sleep(0.05)
            shown = [row["state"] for row in await table_now()]
    still.clock.advance(200)
    state = await running
    videos = await state.aresult()

    [table], [progress] = artifacts(state, "table"), artifacts(state, "progress")
    rows = json.loads(table.data)
    assert table.key == "generated-videos"
    assert [row["state"] for row in rows] == ["succeeded"] * 3
    assert rows[1]["seconds"] >= 100
    assert rows[1]["result"] == videos.outcomes[1].files[0].location
    assert progress.data == 100
    assert table.description == progress.description == "3 items: 3 succeeded"


async def test_a_batch_leaves_the_loop_to_others_while_it_waits(
    still: Emulator, options: dict[str, Any]
) -> None:
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    beating = asyncio.create_task(beat())
    running = asyncio.create_task(agenerate_videos([LONG], **options))
    await soon(lambda: len(still.predictions.live()) == 1)
    del beats[:-1]
    await soon(lambda: len(beats) > 50)
    still.clock.advance(2000)
    await running
    beating.cancel()

    assert max(later - one for one, later in pairwise(beats[:50])) < 0.5


@pytest.mark.parametrize("saved", [True, False])
async def test_no_token_gets_into_what_prefect_keeps(
    replicate_emulator: Emulator, options: dict[str, Any], artifacts: Artifacts, saved: bool
) -> None:
    account = ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )
    if saved:
        await account.asave("account-of-batch", overwrite=True)

    state = await agenerate_videos(["a fox"], credentials=account, **options, return_state=True)

    flow_run_id = state.state_details.flow_run_id
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    async with get_client() as client:
        kept = [await client.read_flow_run(flow_run_id)]
        kept += await client.read_task_runs(flow_run_filter=chosen)
        kept += await client.read_artifacts(flow_run_filter=chosen)
        kept += await client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
        )
    assert {one.type for one in kept if isinstance(one, Artifact)} == {"table", "progress"}
    assert replicate_emulator.token not in "".join(one.model_dump_json() for one in kept)


async def test_an_item_is_logged_in_one_line(
    replicate_emulator: Emulator, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await agenerate_videos([f"fox {n}" for n in range(8)], **options)

    about_items = [one for one in caplog.messages if "Item" in one or "rediction" in one]
    assert len(about_items) == 8


def test_the_hooks_are_those_of_the_package() -> None:
    for one in (generate_videos, agenerate_videos):
        hooks = [one.on_cancellation_hooks, one.on_crashed_hooks, one.on_failure_hooks]
        assert hooks == [[cancel_predictions]] * 3
