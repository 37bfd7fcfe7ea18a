"""What a run is called, what its form asks for, and what becomes of its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings
from prefect.utilities.callables import parameter_schema

from prefect_replicate import (
    GeneratedVideo,
    PollPolicy,
    cancel_predictions,
    generate_video,
    generate_videos,
    run_model,
    run_models,
)
from prefect_replicate.batch.plan import VideoBatch
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import BatchError
from prefect_replicate.flows.deploy import model_deployment
from prefect_replicate.generation import ModelGeneration

TIMER = "emulator/timer"
FLOWS = [generate_video, generate_videos, run_model, run_models]


@pytest.fixture
def options(quick: PollPolicy, tmp_path: Path) -> dict[str, Any]:
    return {"policy": quick, "destination": tmp_path}


@pytest.fixture
def name_of(prefect_api: None) -> Callable[[Any], str]:
    def name_of(state: Any) -> str:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(state.state_details.flow_run_id).name

    return name_of


@pytest.mark.parametrize(
    ("definition", "given", "name"),
    [
        (generate_video, {"prompt": "a fox", "model": TIMER}, "timer: a fox"),
        (generate_video, {"prompt": "a {fox}\n" + "x" * 90, "model": TIMER}, "timer: a {fox} x"),
        (run_model, {"model": TIMER, "input": {"prompt": "a hare"}}, "timer: a hare"),
        (run_model, {"model": TIMER}, "timer"),
        (run_models, {"requests": ["a", "b"], "model": TIMER}, "timer: 2 items"),
        (run_models, {"prompts": ["a"], "model": TIMER}, "timer: 1 item"),
        (generate_videos, {"prompts": ["a"], "variations": [{}] * 2, "model": TIMER}, "timer: 2 i"),
    ],
)  # fmt: skip
def test_a_run_is_named_after_its_model_and_what_is_asked_for(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    name_of: Callable[[Any], str],
    definition: Any,
    given: dict[str, Any],
    name: str,
) -> None:
    state = definition(**given, **options, return_state=True)

    assert name_of(state).startswith(name)
    assert len(name_of(state)) <= 80


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("Report of Monday", True),
        ("nightly-batch", True),
        ("fox", True),
        ("Practical-Kiwi", False),
        ("beta4-cerros-a", False),
        ("psi3-draygo-instability", False),
    ],
)
def test_a_run_that_somebody_has_named_keeps_its_name(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    name_of: Callable[[Any], str],
    name: str,
    is_kept: bool,
) -> None:
    with get_client(sync_client=True) as client:
        named = client.create_flow_run(run_model, name=name)

    parameters = {"model": TIMER, "input": {"prompt": "a fox"}, **options}
    state = run_flow(run_model, flow_run=named, parameters=parameters, return_type="state")

    assert (name_of(state) == name) is is_kept


async def test_task_runs_are_named_after_the_model_and_the_prediction(
    replicate_emulator: Emulator, options: dict[str, Any], name_of: Callable[[Any], str]
) -> None:
    state = run_model(TIMER, {"seconds": 0}, **options, return_state=True)

    made = await state.aresult()
    of_run = TaskRunFilterFlowRunId(any_=[state.state_details.flow_run_id])
    names = set[str]()
    async with get_client() as client:
        while len(names) < 3:  # Prefect writes them down a little later
            runs = await client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=of_run),
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=of_run.any_)),
            )
            names = {one.name for one in runs}
    short = made.prediction.id[:5]
    assert names == {f"create {TIMER}", f"wait {TIMER} {short}…", f"store {TIMER} {short}…"}


@pytest.mark.parametrize("definition", FLOWS, ids=lambda one: one.name)
def test_a_form_has_what_is_rare_under_one_heading_and_nothing_internal(definition: Any) -> None:
    form = parameter_schema(definition).model_dump()

    shown = form["properties"]
    assert {"part", "deployment", "secrets", "policy", "on_crash", "requests"}.isdisjoint(shown)
    assert max(shown, key=lambda name: shown[name]["position"]) == "advanced"
    assert all(one.get("description") for one in shown.values())
    grouped = form["definitions"]["Advanced"]["properties"]
    assert {"policy", "on_crash", "regenerate_expired", "check_input"} <= {*grouped}
    assert all(one.get("description") for one in grouped.values())
    assert shown["destination"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert shown["timeout"]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0}
    assert shown["retries"]["minimum"] == 0


@pytest.mark.parametrize("definition", [generate_videos, run_models], ids=lambda one: one.name)
def test_a_forms_texts_refer_to_hidden_parameters_only_as_what_python_has(definition: Any) -> None:
    shown = parameter_schema(definition).model_dump()["properties"]
    texts = [one["description"] for one in shown.values()]

    sentences = [sentence for text in texts for sentence in re.split(r"(?<=\.) ", text)]
    of_hidden = [one for one in sentences if re.search(r"`(requests|prompt)`|\brequests?\b", one)]
    assert all(one.startswith(("In Python, ", "Its columns are ")) for one in of_hidden)


def test_what_is_under_advanced_counts_unless_it_is_given_by_its_own_name() -> None:
    group: Any = parameter_schema(generate_videos).definitions["Advanced"]
    assert group["properties"]["concurrency"]["default"] == 100
    advanced: Any = generate_videos.validate_parameters(
        {"advanced": {"concurrency": 3, "fan_out": "deployment", "on_crash": "keep"}}
    )["advanced"]

    batch = VideoBatch(["a fox"], advanced=advanced, on_crash="cancel", concurrency=7)

    assert (batch.concurrency, batch.fan_out, batch.on_crash) == (7, "deployment", "keep")


def test_a_form_reaches_the_flow(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path
) -> None:
    advanced = {"policy": quick.model_dump(), "check_input": False}

    run_model(TIMER, {"seconds": 0, "unknown": 1}, destination=tmp_path, advanced=advanced)  # pyright: ignore[reportArgumentType] as it comes from a form

    [prediction] = replicate_emulator.predictions
    assert prediction.input["unknown"] == 1


@pytest.mark.parametrize("retries", [-1, 1.5, True, "2"])
def test_retries_are_a_number_of_them(retries: Any) -> None:
    with pytest.raises(ValueError, match="retries must be a whole number, 0 or more, not"):
        ModelGeneration(TIMER, retries=retries)


@pytest.fixture
def deployed_run(prefect_api: None) -> Callable[..., Any]:
    """Runs a deployment as a worker does, and returns the state that others read of it."""

    def deployed_run(definition: Any, **parameters: Any) -> Any:
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name(definition.name)
            deployment_id = client.create_deployment(flow_id=flow_id, name="results")
            made = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
            run_flow(definition, flow_run=made, parameters=parameters)
            return client.read_flow_run(made.id).state

    return deployed_run


def test_whoever_starts_a_run_of_a_deployment_gets_its_result(
    replicate_emulator: Emulator, quick: PollPolicy, deployed_run: Callable[..., Any]
) -> None:
    state = deployed_run(generate_video, prompt="a fox", duration=2, policy=quick)

    video = state.result()
    assert isinstance(video, GeneratedVideo)
    assert video.files[0].sha256 in video.model_dump_json()
    assert Path(video.files[0].location).stat().st_size == video.files[0].size


def test_a_script_keeps_no_result_of_its_own_accord(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    state = run_model(TIMER, {"seconds": 0}, **options, return_state=True)

    with get_client(sync_client=True) as client:
        read = client.read_flow_run(state.state_details.flow_run_id).state
    assert read is not None
    assert getattr(read.data, "storage_key", None) is None


def test_a_retry_gives_each_submitted_call_its_own_result_where_prefect_keeps_them(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path
) -> None:
    attempts = list[int]()

    @task
    def make(prompt: str) -> str:
        video = generate_video(prompt, TIMER, {"seconds": 0.1, "output": "file:a.png"},
                               policy=quick, destination=tmp_path)  # fmt: skip
        return str(video.prediction.input["prompt"])

    @flow(retries=1)
    def pipeline() -> dict[str, str]:
        attempts.append(1)
        prompts = ["a fox", "a seal", "an owl"][:: 1 if len(attempts) == 1 else -1]
        made = {prompt: make.submit(prompt) for prompt in prompts}
        results = {prompt: one.result() for prompt, one in made.items()}
        if len(attempts) == 1:
            raise RuntimeError
        return results

    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        results = pipeline()

    assert results == {prompt: prompt for prompt in results}
    assert replicate_emulator.predictions.create_requests == 3


def test_what_a_deployment_starts_from_is_under_what_its_run_gives(
    replicate_emulator: Emulator, quick: PollPolicy, tmp_path: Path
) -> None:
    made = model_deployment(
        TIMER, input={"seconds": 0.1, "log_lines": 2}, destination=str(tmp_path)
    )
    deployment_id: Any = made.apply()

    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            deployment_id, parameters={"input": {"log_lines": 3}}
        )
    run_flow(run_model, flow_run=run, parameters={**run.parameters, "policy": quick})

    assert run.parameters["destination"] == str(tmp_path)
    [prediction] = replicate_emulator.predictions
    assert prediction.input == {"seconds": 0.1, "log_lines": 3}


@pytest.mark.parametrize("definition", [generate_video, generate_videos])
def test_the_cards_of_a_run_that_was_cut_off_say_so_first(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    artifacts: Callable[..., list[Any]],
    definition: Any,
) -> None:
    asked = ["a fox"] if definition is generate_videos else "a fox"
    cut = definition.with_options(timeout_seconds=2)

    state = cut(asked, TIMER, {"seconds": 600}, **options, return_state=True)

    [progress] = artifacts(state, "progress")
    words = "failed: 1 item: 1 canceled" if definition is generate_videos else r"canceled, \d"
    assert re.match(words, progress.description)


def test_the_table_of_a_batch_that_was_cut_off_says_what_was_canceled(
    replicate_emulator: Emulator,
    options: dict[str, Any],
    artifacts: Callable[..., list[Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cut = generate_videos.with_options(timeout_seconds=4)

    items = ["a fox", "an owl", "a seal"]
    state: Any = cut(items, TIMER, {"seconds": 600}, **options, concurrency=2, return_state=True)

    [table] = artifacts(state, "table")
    rows = json.loads(table.data)
    assert [row["state"] for row in rows] == ["canceled", "canceled", "not started"]
    assert re.fullmatch(r"canceled after \d\.\d s of model time", rows[0]["result"])
    assert table.description == "failed: 3 items: 2 canceled, 1 not started"
    assert "2 predictions were canceled in this run, after" in caplog.text


def test_a_batch_goes_to_the_deployment_that_its_run_is_of(
    replicate_emulator: Emulator, options: dict[str, Any], deployed_run: Callable[..., Any]
) -> None:
    with pytest.raises(BatchError, match="a process that serves `results`"):
        deployed_run(
            generate_videos,
            requests=["a fox"],
            model=TIMER,
            policy=options["policy"],
            fan_out="deployment",
            worker_timeout=0.5,
        )

    assert replicate_emulator.predictions.create_requests == 0


def test_a_hook_of_a_flow_completes_the_table_of_its_subflow(
    replicate_emulator: Emulator, options: dict[str, Any]
) -> None:
    quiet = run_models.with_options()
    # As if its process had no time left for them; `with_options` takes an empty list for none.
    quiet.on_failure_hooks, quiet.on_crashed_hooks, quiet.on_cancellation_hooks = [], [], []

    @flow(timeout_seconds=5, on_failure=[cancel_predictions])
    def around() -> None:
        quiet([{"seconds": 600}], TIMER, **options)

    state: Any = around(return_state=True)

    above = FlowRunFilterParentFlowRunId(any_=[state.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        below = FlowRunFilter(parent_flow_run_id=above)
        found = client.read_artifacts(flow_run_filter=below)
    [table] = [one for one in found if one.type == "table"]
    assert table.description == "failed: 1 item: 1 canceled"
