from typing import Any

import httpx
import pytest

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.limits import LOW_CREDIT, STANDARD, Level, Meter, take
from prefect_replicate.emulator.models.catalogue import default_catalogue
from prefect_replicate.emulator.validation import (
    CREATE,
    CREATE_FROM_VERSION,
    check_create_body,
    check_input,
)


def findings(model: str, values: dict[str, Any], *, strict: bool = False) -> list[tuple[str, str]]:
    found = default_catalogue().find_model(model)
    assert found is not None
    schema = found.latest_version.openapi_schema
    return [(one.field, one.description) for one in check_input(values, schema, strict=strict)]


@pytest.mark.parametrize(
    ("values", "field", "description"),
    [
        ({}, "input", "prompt is required"),
        ({"prompt": 1}, "input.prompt", "Invalid type. Expected: string, given: integer"),
        ({"prompt": "x", "fps": 30}, "input.fps", "fps must be one of the following: 24"),
        ({"prompt": "x", "duration": 1}, "input.duration", "Must be greater than or equal to 2"),
        ({"prompt": "x", "duration": 13}, "input.duration", "Must be less than or equal to 12"),
        ({"prompt": "x", "image": "fox.png"}, "input.image", "Does not match format 'uri'"),
        (
            {"prompt": "x", "resolution": "4k"},
            "input.resolution",
            'resolution must be one of the following: "480p", "720p", "1080p"',
        ),
    ],
)  # fmt: skip
def test_an_input_is_checked_by_its_models_schema(
    values: dict[str, Any], field: str, description: str
) -> None:
    assert findings("bytedance/seedance-1-lite", values) == [(field, description)]


def test_an_integer_enum_is_an_enum_of_integers() -> None:
    values = {"prompt": "x", "duration": 5}

    assert findings("google/veo-3.1-fast", values) == [
        ("input.duration", "duration must be one of the following: 4, 6, 8")
    ]


def test_unknown_inputs_are_refused_only_if_strict() -> None:
    values = {"prompt": "x", "lenght": 5}

    assert findings("google/veo-3.1-fast", values) == []
    assert findings("google/veo-3.1-fast", values, strict=True) == [
        ("input", "Additional property lenght is not allowed")
    ]


@pytest.mark.parametrize(
    ("schema", "body", "detail"),
    [
        (CREATE, [], "Invalid type. Expected: object, given: array"),
        (CREATE, {}, "input is required"),
        (CREATE_FROM_VERSION, {"input": {}}, "version is required"),
        (CREATE, {"input": {}, "lifetime": 5}, "Additional property lifetime is not allowed"),
        (
            CREATE,
            {"input": {}, "webhook_events_filter": ["start"]},
            "webhook_events_filter cannot be provided without webhook",
        ),
    ],
)
def test_a_create_body_has_only_the_documented_fields(
    schema: dict[str, Any], body: object, detail: str
) -> None:
    assert [one.description for one in check_create_body(body, schema)] == [detail]


def test_a_422_has_the_recorded_shape(api: httpx.Client) -> None:
    reply = api.post("/models/google/veo-3.1-fast/predictions", json={"input": {}})

    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "detail": "- input: prompt is required\n",
        "status": 422,
        "title": "Input validation failed",
        "invalid_fields": [
            {"type": "required", "field": "input", "description": "prompt is required"}
        ],
    }


@pytest.mark.parametrize("body", ["{", '{"version": "emulator/timer", "input": {"seconds": NaN}}'])
def test_a_body_that_is_not_json_is_refused(api: httpx.Client, body: str) -> None:
    assert api.post("/predictions", content=body).status_code == 400


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        (None, "You did not pass an authentication token"),
        ("Basic dTpw", "You did not pass an authentication token"),
        ("Bearer r8_wrong", "You did not pass a valid authentication token"),
    ],
)
def test_requests_without_a_known_token_are_refused(
    replicate_emulator: Emulator, authorization: str | None, detail: str
) -> None:
    headers = {"authorization": authorization} if authorization else {}

    reply = httpx.get(f"{replicate_emulator.base_url}/v1/account", headers=headers)

    assert reply.status_code == 401
    assert reply.json() == {"title": "Unauthenticated", "detail": detail, "status": 401}


def test_the_old_scheme_token_is_accepted(replicate_emulator: Emulator) -> None:
    headers = {"authorization": f"Token {replicate_emulator.token}"}

    assert httpx.get(f"{replicate_emulator.base_url}/v1/account", headers=headers).is_success


def test_an_account_without_credit_gets_402(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.behave(credit=False)
    reply = api.post("/predictions", json={"version": "emulator/timer", "input": {}})

    assert (reply.status_code, reply.json()["title"]) == (402, "Insufficient credit")
    assert len(replicate_emulator.predictions) == 0


@pytest.mark.parametrize(
    "path", ["/predictions/none", "/models/no/model", "/deployments/no/one", "/nothing"]
)
def test_what_does_not_exist_is_404(api: httpx.Client, path: str) -> None:
    reply = api.get(path)

    assert reply.status_code == 404
    assert reply.json()["detail"] == "The requested resource could not be found."


def test_a_method_that_a_route_lacks_is_405(api: httpx.Client) -> None:
    assert api.delete("/account").status_code == 405


def test_a_bucket_refills_with_time() -> None:
    limit = LOW_CREDIT["create"]
    first, level = take(limit, Level(limit.burst, 0.0), 0.0)
    second, level = take(limit, level, 4.0)
    third, level = take(limit, level, 10.0)

    assert [first.allowed, second.allowed, third.allowed] == [True, False, True]
    assert second.retry_after == 6


def test_each_class_of_requests_has_its_own_limit(api: httpx.Client) -> None:
    created = api.post("/predictions", json={"version": "emulator/timer", "input": {}})
    polled = api.get(f"/predictions/{created.json()['id']}")
    others = [api.get("/account"), api.get("/files")]

    replies = (created, polled, *others)
    assert [one.headers.get("ratelimit-remaining") for one in replies] == [
        "599", "59999", "2999", None,
    ]  # fmt: skip
    assert created.headers["ratelimit-reset"] == "1"


def test_low_credit_allows_one_create_in_ten_seconds(api: httpx.Client, still: Emulator) -> None:
    still.behave(rate_limits="low-credit")
    body = {"version": "emulator/timer", "input": {}}
    first, second = (api.post("/predictions", json=body) for _ in range(2))
    still.clock.advance(10)
    third = api.post("/predictions", json=body)

    assert [one.status_code for one in (first, second, third)] == [201, 429, 201]
    assert second.headers["retry-after"] == "10"
    assert second.json()["retry_after"] == 10
    assert "burst of 1 requests while you have less than $5.0" in second.json()["detail"]


def test_standard_limits_refuse_the_601st_create() -> None:
    meter = Meter()
    allowed = [meter.take(STANDARD, "create", now=0.0).allowed for _ in range(601)]

    assert allowed == [True] * 600 + [False]
