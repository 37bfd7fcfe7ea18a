"""What tasks and flows are called with is checked once, at their door."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_replicate import (
    PollPolicy,
    Prediction,
    acreate_prediction,
    adownload_outputs,
    await_for_prediction,
    cancel_prediction,
    create_prediction,
    download_outputs,
    generate_video,
    generate_videos,
    get_prediction,
    wait_for_prediction,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import InvalidInputError, ReplicateError
from prefect_replicate.lifecycle import waiting
from prefect_replicate.tasks.arguments import checked

DONE = Prediction(id="abc", status="succeeded")
TIMES = [0, -1, 0.0, -math.inf, math.inf, math.nan, 1e300, 10**400, True, "5", b"5", [], {}, 5j]
TIMES += [timedelta(seconds=5), object()]
NOTHINGS = [None, 5, 5.5, True, b"x", [], {}, (), object(), print]
BAD: dict[str, list[Any]] = {
    "model": NOTHINGS,
    "input": [None, 5, "x", b"x", [], [("a", 1)], {1: 2}, {None: 1}, {("a",): 1}, object(), print],
    "cancel_after": TIMES,
    "timeout": TIMES,
    "prediction": NOTHINGS,
    "replaces": NOTHINGS[1:],
    "on_crash": [None, 5, "", "keep ", "KEEP", ["keep"], {"keep"}, True],
    "regenerate_expired": [None, 0, 1, "yes", [], object()],
    "policy": [5, "fast", [], {"min_interval": -1}, {"unknown": 1}, {"factor": 0}, object()],
    "on_update": [5, "print", [], {}, object(), True],
    "destination": [5, b"x", [], {}, object(), print, ("a",)],
    "allowed_hosts": [None, "files.example.com", b"x", 5, [5], [None], [""], {"a": 1}, object()],
}


def _create(**given: Any) -> Any:
    model, input = given.pop("model", "emulator/timer"), given.pop("input", {})
    return create_prediction.fn(model, input, **given)


USES: dict[str, list[Callable[..., Any]]] = {
    "model": [_create],
    "input": [_create],
    "cancel_after": [_create],
    "replaces": [_create],
    "on_crash": [_create],
    "regenerate_expired": [_create],
    "timeout": [lambda timeout: wait_for_prediction.fn("abc", timeout=timeout)],
    "policy": [lambda policy: wait_for_prediction.fn("abc", policy=policy)],
    "on_update": [lambda on_update: wait_for_prediction.fn("abc", on_update=on_update)],
    "prediction": [wait_for_prediction.fn, cancel_prediction.fn, get_prediction.fn],
    "destination": [lambda destination: download_outputs.fn(DONE, destination)],
    "allowed_hosts": [lambda allowed_hosts: download_outputs.fn(DONE, allowed_hosts=allowed_hosts)],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: in_short(value),
)
def test_a_bad_argument_is_refused_in_one_line(
    replicate_emulator: Emulator, name: str, value: Any
) -> None:
    for use in USES[name]:
        with pytest.raises(InvalidInputError, match=rf"^{name}[. :][^\n]*\. Nothing was sent\.$"):
            use(**{name: value})

    assert list(replicate_emulator.requests) == []


def in_short(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else type(value).__name__


@pytest.mark.parametrize("value", [None, 5, "abc", {}, [], object()])
async def test_what_was_not_made_is_not_downloaded(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^prediction must be a Prediction, not"):
        download_outputs.fn(value)
    with pytest.raises(InvalidInputError, match=r"^prediction must be a Prediction, not"):
        await adownload_outputs.fn(value)


async def test_the_async_forms_check_the_same(replicate_emulator: Emulator) -> None:
    with pytest.raises(InvalidInputError, match=r"^cancel_after must be a number"):
        await acreate_prediction.fn("emulator/timer", {}, cancel_after=0)
    with pytest.raises(InvalidInputError, match=r"^timeout must be a number"):
        await await_for_prediction.fn("abc", timeout=math.nan)
    assert list(replicate_emulator.requests) == []


def test_what_can_be_meant_is_taken(tmp_path: Path) -> None:
    policy = {"min_interval": 0.1}

    assert checked(timeout=5, cancel_after=None, policy=policy, allowed_hosts=("a", "b")) == (
        5.0, None, PollPolicy(min_interval=0.1), ["a", "b"],
    )  # fmt: skip
    assert checked(destination=tmp_path, replaces="abc", on_update=print)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("definition", [generate_video, generate_videos], ids=lambda one: one.name)
def test_nor_do_flows_take_a_timeout_that_is_none(
    prefect_api: None, replicate_emulator: Emulator, definition: Any, timeout: float
) -> None:
    asked = {"prompt": "a fox"} if definition is generate_video else {"requests": ["a fox"]}

    state = definition(**asked, timeout=timeout, return_state=True)

    assert state.is_failed()
    assert "timeout must be a number of seconds above 0" in (state.message or "")
    assert replicate_emulator.predictions.create_requests == 0


@pytest.mark.parametrize("field", [*PollPolicy.model_fields])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -1, "soon", 1e300])
def test_a_policy_has_numbers_that_can_be_waited_for(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        PollPolicy.model_validate({field: value})


@given(
    factor=st.floats(1, 1000),
    first=st.floats(0, 1e6),
    more=st.floats(0, 1e6),
    looks=st.integers(0, 10**9),
    chance=st.floats(0, 1),
)
def test_a_pause_is_one_whatever_the_policy(
    factor: float, first: float, more: float, looks: int, chance: float
) -> None:
    policy = PollPolicy(factor=factor, min_interval=first, max_interval=first + more, jitter=0)

    assert 0 <= policy.pause(looks, chance) <= policy.max_interval


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ZeroDivisionError, RecursionError])
@pytest.mark.parametrize("where", ["saw", "pause", "learn", "record_interest"])
def test_whatever_breaks_a_wait_off_its_prediction_is_canceled(
    still: Emulator, monkeypatch: pytest.MonkeyPatch, error: type[Exception], where: str
) -> None:
    def break_off(*_: Any) -> Any:
        raise error("it \x1b[31m broke")

    prediction = create_prediction.fn("emulator/timer", {"seconds": 1000})
    monkeypatch.setattr(waiting._Wait, where, break_off)

    with pytest.raises(ReplicateError, match=rf"^The wait for prediction .*{error.__name__}"):
        wait_for_prediction.fn(prediction)
    assert [one.status for one in still.predictions] == ["canceled"]
