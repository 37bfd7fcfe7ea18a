"""Facts that somebody else has written, who may write to Prefect's API and knows how they look."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.runtime import flow_run
from prefect.states import Crashed, State

from prefect_replicate import (
    OutputFile,
    Prediction,
    acancel_orphaned_predictions,
    acreate_prediction,
    cancel_predictions,
    generate_videos,
)
from prefect_replicate.cleanup import hook, orphans
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import LedgerError, ReplicateError
from prefect_replicate.ledger.facts import REDACTED

MODEL = "emulator/timer"
MINE, THEIRS = {"seconds": 1000, "output": "mine"}, {"seconds": 2000, "output": "theirs"}

pytestmark = pytest.mark.usefixtures("own_ledger")


@pytest.fixture(autouse=True)
def _old_intents(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """An intent counts as abandoned at once."""
    monkeypatch.setattr(orphans, "ABANDONED_SECONDS", 0.0)


async def forge(run: UUID, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the facts of a run again, changed."""
    async with get_client() as client:
        facts = await client.filter_flow_run_input(run, "replicate-", limit=100, exclude_keys=set())
        for one in facts:
            fact = json.loads(one.value)
            change(fact)
            await client.delete_flow_run_input(run, one.key)
            await client.create_flow_run_input(run, one.key, json.dumps(fact))


def naming(prediction: Prediction, **more: Any) -> Callable[[dict[str, Any]], None]:
    """Have facts name a prediction as the one that was made."""

    def change(fact: dict[str, Any]) -> None:
        if "made" in fact:
            fact["made"]["id"] = prediction.id
        if "intent" in fact:
            fact["intent"] |= more

    return change


@flow
async def generation() -> None:
    """Has no hooks."""
    await acreate_prediction(MODEL, MINE)


@flow(on_failure=[cancel_predictions], on_crashed=[cancel_predictions])
async def with_hooks(prepare: Any = None) -> None:
    await acreate_prediction(MODEL, MINE)
    await prepare(UUID(flow_run.id))
    raise RuntimeError


NOTHING_SAID: list[dict[str, Any]] = [
    {},
    {"input_digest": {}},
    {"input_digest": dict.fromkeys(THEIRS, REDACTED)},
    {"input_digest": dict.fromkeys([*THEIRS, "key"], REDACTED)},
    {"model": "unknown model", "input_digest": dict.fromkeys(THEIRS, REDACTED)},
    {"model": "no model at all"},
    {"model": ""},
]


def run_of(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


@pytest.mark.parametrize("forged", NOTHING_SAID, ids=str)
async def test_a_sweep_ends_nothing_that_a_fact_only_names(
    still: Emulator, forged: dict[str, Any]
) -> None:
    theirs = await acreate_prediction.fn(MODEL, THEIRS)
    state = await generation(return_state=True)
    async with get_client() as client:
        await client.set_flow_run_state(run_of(state), Crashed(), force=True)
    await forge(run_of(state), naming(theirs, **forged))

    with pytest.raises(
        ReplicateError, match=r"does not match the recorded call of .* is left alone"
    ):
        await acancel_orphaned_predictions(grace=0)
    assert still.predictions[theirs.id].cancel_requests == 0


@pytest.mark.parametrize("forged", NOTHING_SAID, ids=str)
async def test_nor_does_a_hook(
    still: Emulator,
    forget: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    forged: dict[str, Any],
) -> None:
    theirs = await acreate_prediction.fn(MODEL, THEIRS)

    async def prepare(run: UUID) -> None:
        await forge(run, naming(theirs, **forged))
        forget("ledgers")  # the hook runs in another process

    await with_hooks(prepare, return_state=True)

    assert still.predictions[theirs.id].cancel_requests == 0
    assert f"prediction {theirs.id} does not match the recorded call of" in caplog.text


@pytest.mark.parametrize("input", [MINE, {"seconds": 1000, "key": "sk-secret"}])
async def test_what_a_fact_tells_truly_is_ended_by_another_process(
    still: Emulator, forget: Callable[..., None], input: dict[str, Any]
) -> None:
    @flow(on_failure=[cancel_predictions])
    async def generation() -> None:
        await acreate_prediction(MODEL, input)
        forget("ledgers", "process", "taken")
        raise RuntimeError

    await generation(return_state=True)

    assert still.predictions.live() == []


async def test_what_another_process_has_started_is_ended_though_it_can_not_be_looked_at(
    still: Emulator, forget: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_CHECK_SECONDS", 0.1)

    @flow(on_failure=[cancel_predictions])
    async def generation() -> None:
        await acreate_prediction(MODEL, MINE)
        forget("ledgers", "process", "taken")
        still.faults.add("throttled", method="GET", path="/predictions/[^/]+$", retry_after=60)
        raise RuntimeError

    await generation(return_state=True)

    [prediction] = still.predictions
    assert prediction.cancel_requests == 1


async def test_a_retry_is_not_handed_what_is_somebody_elses(
    still: Emulator, forget: Callable[..., None]
) -> None:
    theirs = await acreate_prediction.fn(MODEL, THEIRS)
    attempts: list[int] = []

    @flow(retries=1)
    async def generation() -> Prediction:
        attempts.append(1)
        made = await acreate_prediction(MODEL, MINE)
        if len(attempts) == 1:
            await forge(UUID(flow_run.id), naming(theirs))
            forget("ledgers", "process", "taken")
            raise RuntimeError
        return made

    with pytest.raises(LedgerError, match=f"Prediction {theirs.id}, which is recorded for"):
        await generation()
    assert still.predictions.create_requests == 2


def test_an_item_is_not_done_whose_file_is_not_there(
    replicate_emulator: Emulator, tmp_path: Path, forget: Callable[..., None]
) -> None:
    found: list[list[OutputFile]] = []

    @flow(retries=1)
    def batch() -> None:
        asked: list[Any] = ["a fox", "a seal", "a crow"]
        videos = generate_videos(asked, MODEL, destination=tmp_path)
        found.append([one.files[0] for one in videos.outcomes])
        if len(found) == 1:
            Path(found[0][1].location).unlink()
            Path(found[0][2].location).write_text("another")
            forget("ledgers", "process", "taken")
            raise RuntimeError

    batch()

    before, after = found
    assert [one.sha256 for one in before] == [one.sha256 for one in after]
    assert all(Path(one.location).stat().st_size == one.size for one in after)
    assert replicate_emulator.predictions.create_requests == 3


STRANGE: list[dict[str, Any]] = [
    {"intent": {"at": "0001-01-01T00:00:00Z"}},
    {"intent": {"at": "9999-12-31T23:59:59Z"}},
    {"intent": {"at": "2026-01-01T00:00:00"}},
    {"intent": {"cancel_after": 1e308}},
    {"intent": {"cancel_after": -1}},
    {"intent": {"cancel_after": None}},
    {"intent": {"model": None}},
    {"intent": {"input_digest": []}},
    {"origin": {"flow_runs": []}},
    {"origin": {"flow_runs": [["00000000-0000-0000-0000-000000000000", True]] * 1000}},
    {"origin": {"base_url": "http://thief"}},
    {"origin": {"base_url": ""}},
    {"origin": {"credentials_block": "00000000-0000-0000-0000-000000000000"}},
    {"made": {"id": "../../account"}},
    {"made": {"id": ""}},
    {"made": {"id": "a" * 100_000}},
    {"made": {"url": "\x1b]52;c;eA==\x07"}},
    {"claim": ["9" * 5000, ""]},
    {"version": 9},
    {"id": None},
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda one: str(one)[:60])
async def test_no_fact_stops_a_sweep(still: Emulator, strange: dict[str, Any]) -> None:
    others = await generation(return_state=True)
    [first] = still.predictions
    state = await generation(return_state=True)
    async with get_client() as client:
        for one in (others, state):
            await client.set_flow_run_state(run_of(one), Crashed(), force=True)

    def change(fact: dict[str, Any]) -> None:
        for name, value in strange.items():
            if isinstance(value, dict):
                fact.get(name, {}).update(value)
            else:
                fact[name] = value

    await forge(run_of(state), change)

    with contextlib.suppress(ReplicateError):  # which says that one of the two was left
        await acancel_orphaned_predictions(grace=0)
    assert still.predictions[first.id].status == "canceled"
