from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from prefect_replicate import Prediction
from prefect_replicate.ledger.facts import Intent, input_digest
from prefect_replicate.lifecycle.adoption import Sought, is_contested, match

INPUT: dict[str, Any] = {"prompt": "a fox", "seed": 1}
MODEL = "owner/name"
VERSION = "0" * 64
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def one(id: str, status: str = "processing", **fields: Any) -> Prediction:
    return Prediction(**{"id": id, "status": status, "model": MODEL, "input": INPUT, **fields})


def create(call: str = "ours", model: str = MODEL, base_url: str = "", **input: Any) -> Sought:
    digest = input_digest({**INPUT, **input})
    intent = Intent(call=call, model=model, input_digest=digest, at=NOW, cancel_after=60)
    return Sought(base_url, intent, announced_at=NOW, until=NOW + timedelta(minutes=2))


def chosen(*candidates: Prediction, model: str = MODEL, owned: frozenset[str] = frozenset()) -> Any:
    found = match(candidates, create(model=model), set(owned))
    return found and found.id


@pytest.mark.parametrize(
    ("candidate", "found"),
    [
        (one("a"), "a"),
        (one("a", input={"seed": 1, "prompt": "a fox"}), "a"),
        (one("a", version="hidden"), "a"),
        (one("a", model=None), "a"),
        (one("a", source="api"), "a"),
        (one("a", status="aborted"), "a"),
        (one("a", status="brand-new"), "a"),
        (one("a", input={"prompt": "a fox"}), None),
        (one("a", input={**INPUT, "seed": 2}), None),
        (one("a", input={}), None),
        (one("a", model="other/name"), None),
        (one("a", source="web"), None),
    ],
)
def test_model_and_input_decide(candidate: Prediction, found: str | None) -> None:
    assert chosen(candidate) == found


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        (["processing", "starting"], "0"),
        (["failed", "processing"], "1"),
        (["canceled", "failed", "succeeded"], "2"),
        (["failed", "canceled"], "0"),
        ([], None),
    ],
)
def test_the_newest_that_is_of_use_is_preferred(statuses: list[str], found: str | None) -> None:
    candidates = [one(str(index), status) for index, status in enumerate(statuses)]

    assert chosen(*candidates) == found


def test_what_another_call_owns_is_left_to_it() -> None:
    assert chosen(one("a"), one("b"), owned=frozenset({"a"})) == "b"
    assert chosen(one("a"), owned=frozenset({"a"})) is None


@pytest.mark.parametrize("model", [VERSION, "deployment:acme/timer"])
def test_a_reference_that_names_no_model_goes_by_the_input(model: str) -> None:
    assert chosen(one("a", model="whose/ever"), model=model) == "a"


@pytest.mark.parametrize("model", [f"{MODEL}:{VERSION}", MODEL])
def test_the_version_does_not_decide(model: str) -> None:
    assert chosen(one("a", version="1" * 64), model=model) == "a"


SECRET: dict[str, Any] = {"key": "[REDACTED]"}
SHOWN = one("a", input=INPUT | SECRET, created_at=NOW)
SHOWN_LATER = SHOWN.model_copy(update={"created_at": NOW + timedelta(minutes=4)})


@pytest.mark.parametrize(
    ("found", "other", "contested"),
    [
        (SHOWN, create("other", **SECRET), True),
        (SHOWN, create("other", model="deployment:owner/fast", **SECRET), True),
        (SHOWN, create("ours", **SECRET), False),  # it has the same one
        (SHOWN, create("other"), False),
        (SHOWN, create("other", seed=2, **SECRET), False),
        (SHOWN, create("other", model="other/name", **SECRET), False),
        (SHOWN, create("other", base_url="https://elsewhere.example", **SECRET), False),
        (one("a"), create("other"), False),
        (SHOWN_LATER, create("other", **SECRET), False),
    ],
)
def test_what_may_have_another_secret_is_contested(
    found: Prediction, other: Sought, contested: bool
) -> None:
    assert is_contested(found, create(**SECRET), [other]) == contested
