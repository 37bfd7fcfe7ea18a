"""What the facts of a log say, and which log a call goes on with."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from prefect_replicate import Prediction
from prefect_replicate.ledger.facts import (
    INTENT,
    PREFIX,
    REDACTED,
    VOID,
    Ancestor,
    Claim,
    Ended,
    Fact,
    Generation,
    Intent,
    Log,
    Made,
    OfCall,
    Origin,
    choose,
    digest,
    ended,
    input_digest,
)

NOW = datetime(2025, 1, 2, tzinfo=timezone.utc)
OWN, PARENT, ROOT = (Ancestor(UUID(int=number), False) for number in (1, 2, 3))
FIRST, SECOND = Claim("1", "root/1"), Claim("2", "root/1")
INTENDED = Intent(call="c", model="owner/name", input_digest={}, at=NOW, cancel_after=60)


def origin(*flow_runs: Ancestor, **fields: Any) -> Origin:
    return Origin(flow_runs=flow_runs or (OWN, ROOT), base_url="https://x.org", **fields)


def fact(**content: Any) -> Fact:
    return Fact(**{"version": 1, "id": "f", "process": "p", **content})


ANNOUNCED = fact(claim=FIRST, origin=origin(), intent=INTENDED)
MADE = fact(made=Made(id="abc", url="https://x.org/p/abc"))
CANCELED = fact(ended=Ended(status="canceled", predict_time=2.5))


def log(*facts: Fact) -> Log:
    made = Log("c-1")
    for one in facts:
        made.apply(one, NOW)
    return made


def known(*facts: Fact) -> Generation:
    generation = log(*facts).generation
    assert generation is not None
    return generation


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (
            {"a": {"y": 1, "x": [1, {"q": 0, "p": 0}]}},
            {"a": {"x": [1, {"p": 0, "q": 0}], "y": 1}},
            True,
        ),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": "ü"}, {"a": "u"}, False),
        ({}, {}, True),
    ],
)
def test_the_digest_is_that_of_the_meaning(one: Any, other: Any, is_same: bool) -> None:
    assert (digest(one) == digest(other)) is is_same


def test_a_log_tells_a_generation_from_its_intent_to_its_end() -> None:
    told = [
        known(*facts) for facts in ([ANNOUNCED], [ANNOUNCED, MADE], [ANNOUNCED, MADE, CANCELED])
    ]

    assert [one.status for one in told] == [INTENT, "starting", "canceled"]
    assert [one.prediction_id for one in told] == [None, "abc", "abc"]
    assert [one.is_open for one in told] == [True, True, False]
    assert told[-1].predict_time == 2.5


def test_a_create_that_made_nothing_is_void_and_one_that_made_something_is_not() -> None:
    void = fact(is_void=True)

    assert known(ANNOUNCED, void).status == VOID
    assert known(ANNOUNCED, MADE, void).status == "starting"


def test_another_create_of_the_call_takes_the_place_of_the_first() -> None:
    again = log(ANNOUNCED, MADE, CANCELED, fact(origin=origin(), intent=INTENDED))

    assert again.generation is not None
    assert (again.generation.status, again.generation.prediction_id) == (INTENT, None)
    assert again.former_ids == {"abc"}


def test_the_attempt_that_claims_a_call_waits_for_it_in_the_place_of_the_one_before() -> None:
    retried = known(ANNOUNCED, MADE, fact(claim=SECOND, origin=origin(PARENT, ROOT)))

    assert retried.awaited_by == ((PARENT, ROOT),)
    assert (retried.prediction_id, retried.origin.flow_runs) == ("abc", (PARENT, ROOT))


def test_a_flow_run_that_waits_too_is_added() -> None:
    both = known(ANNOUNCED, MADE, fact(origin=origin(PARENT, ROOT), is_awaited=True))

    assert both.awaited_by == ((OWN, ROOT), (PARENT, ROOT))
    assert both.origin.flow_runs == (OWN, ROOT)


def test_news_count_for_the_create_that_they_are_of() -> None:
    told = log(ANNOUNCED)
    told.hear(OfCall(log="c-1", of=ANNOUNCED.id, made=MADE.made))
    told.hear(OfCall(log="c-1", of=ANNOUNCED.id, ended=CANCELED.ended))
    told.apply(fact(id="g", origin=origin(), intent=INTENDED), NOW)

    told.hear(OfCall(log="c-1", of=ANNOUNCED.id, made=Made(id="late", url="")))

    assert told.generation is not None
    assert (told.generation.status, told.generation.prediction_id) == (INTENT, None)
    assert told.former_ids == {"abc", "late"}
    assert told.next == 2


def test_facts_of_what_was_never_announced_say_nothing() -> None:
    assert log(MADE, CANCELED, fact(is_void=True)).generation is None


@pytest.mark.parametrize(
    ("run", "of_deployments", "is_below"),
    [
        (OWN, False, True),
        (ROOT, False, False),
        (ROOT, True, True),
        (Ancestor(UUID(int=9), False), True, False),
    ],
)
def test_a_deployments_run_counts_as_below_only_where_asked(
    run: Ancestor, of_deployments: bool, is_below: bool
) -> None:
    child = OWN._replace(lives_by_itself=True)
    one = known(fact(origin=origin(child, ROOT), intent=INTENDED))

    assert one.is_below(run.id, of_deployments=of_deployments) is is_below


@pytest.mark.parametrize(
    ("keep", "run", "outlives"),
    [
        ({}, OWN, False),
        ({"keep_on_crash": True}, ROOT, True),
        ({"keep_for_parent": True}, OWN, True),
        ({"keep_for_parent": True}, ROOT, False),
    ],
)
def test_what_a_crash_leaves_running(keep: dict[str, bool], run: Ancestor, outlives: bool) -> None:
    one = known(fact(origin=origin(**keep), intent=INTENDED))

    assert one.outlives_crash_of(run.id) is outlives


def claimed(*claims: Claim, facts: tuple[Fact, ...] = (ANNOUNCED, MADE)) -> Log:
    others = [fact(claim=one, origin=origin()) for one in claims]
    return log(*[one.model_copy(update={"claim": None}) for one in facts], *others)


OTHER = Claim("2", "root/2")
USELESS: list[tuple[Fact, ...]] = [(ANNOUNCED, fact(is_void=True)), (ANNOUNCED, MADE, CANCELED)]


@pytest.mark.parametrize(
    ("logs", "slot"),
    [
        ({}, 1),
        ({1: claimed(FIRST)}, 1),
        ({1: claimed(FIRST, OTHER)}, 2),
        ({1: claimed(FIRST, OTHER), 2: claimed(FIRST)}, 2),
        ({1: claimed(FIRST), 2: claimed(FIRST, SECOND)}, 2),
        ({1: claimed(FIRST, SECOND), 2: claimed(FIRST)}, 1),
        ({1: claimed(FIRST, facts=(ANNOUNCED,))}, 1),
        ({1: claimed(FIRST, facts=USELESS[0]), 2: claimed(FIRST)}, 2),
        ({1: claimed(FIRST, facts=USELESS[1]), 2: claimed(FIRST)}, 2),
        ({1: claimed(FIRST, facts=USELESS[1])}, 2),
        ({1: claimed(SECOND, facts=USELESS[1])}, 1),
        ({1: claimed(facts=())}, 1),
        ({1: claimed(OTHER, facts=())}, 2),
        ({1: claimed(OTHER), 3: claimed(OTHER)}, 4),
    ],
)
def test_a_call_takes_its_own_slot_else_a_free_one_of_use_else_a_new_one(
    logs: dict[int, Log], slot: int
) -> None:
    assert choose(logs, SECOND) == slot


def test_whoever_claims_a_slot_first_has_it() -> None:
    assert claimed(SECOND, OTHER).holder("2") == SECOND.name


def test_a_fact_is_short_and_holds_no_input() -> None:
    prediction = Prediction(
        id="abc", status="succeeded", metrics={"predict_time": 2.5}, input={"secret": "prompt"}
    )

    text = fact(ended=ended(prediction)).model_dump_json(exclude_defaults=True)

    assert "prompt" not in text
    assert len(text) < 100


def test_a_fact_that_has_more_than_we_know_is_read_and_one_of_another_version_is_not() -> None:
    later = {**MADE.model_dump(mode="json"), "brand_new": 1}

    assert Fact.model_validate(later) == MADE
    with pytest.raises(ValidationError, match="version"):
        Fact.model_validate({**later, "version": 2})


def test_the_prefix_is_one_that_prefect_takes() -> None:
    assert re.fullmatch(r"[a-z0-9-]+", PREFIX)


SENT = {"prompt": "a fox", "seconds": 5, "frames": [{"at": 1, "of": None}]}


def shown(input: Any, model: str | None = "owner/name") -> Prediction:
    given = {"id": "abc", "status": "processing", "model": model, "input": input}
    return Prediction.model_validate(given)


@pytest.mark.parametrize(
    ("prediction", "is_ours"),
    [
        (shown(SENT), True),
        (shown({**SENT, "seconds": 5.0}), True),
        (shown({**SENT, "steps": 20}), True),  # a default
        (shown({**SENT, "frames": [{"at": 1}]}), True),
        (shown({**SENT, "prompt": "[REDACTED]"}), True),
        (shown({**SENT, "frames": [{"at": "[REDACTED]"}]}), True),
        (shown({"prompt": "a fox"}), True),
        (shown({}), True),
        (shown(None), True),
        (shown(SENT, None), True),
        (shown(SENT, "Owner/Name"), True),
        (shown(SENT, "owner/renamed"), True),
        (shown({**SENT, "prompt": "a seal"}), False),
        (shown({"prompt": "a seal"}), False),
        (shown({"text": "a fox"}), False),
        (shown({}, "others/model"), False),
        (shown({"prompt": "[REDACTED]"}, "others/model"), False),
    ],
)
def test_a_prediction_is_that_of_a_call_unless_what_replicate_shows_speaks_against_it(
    prediction: Prediction, is_ours: bool
) -> None:
    log, announced = Log("c-1"), INTENDED.model_copy(update={"input_digest": input_digest(SENT)})
    log.apply(fact(intent=announced, origin=origin()), NOW)

    assert log.generation is not None
    assert log.generation.has_made(prediction) == is_ours


@pytest.mark.parametrize(
    ("sent", "input", "is_ours"),
    [
        ({"key": REDACTED}, {"key": REDACTED}, True),
        ({"key": REDACTED}, {"key": "plain"}, False),
        ({"prompt": REDACTED}, {"prompt": "a fox"}, False),
        ({}, {}, True),
        ({}, {"prompt": "a fox"}, False),
    ],
)
def test_a_fact_that_says_nothing_of_the_input_fits_nothing_but_what_has_none(
    sent: dict[str, str], input: dict[str, Any], is_ours: bool
) -> None:
    log, announced = Log("c-1"), INTENDED.model_copy(update={"input_digest": sent})
    log.apply(fact(intent=announced, origin=origin()), NOW)

    assert log.generation is not None
    assert log.generation.has_made(shown(input)) == is_ours
