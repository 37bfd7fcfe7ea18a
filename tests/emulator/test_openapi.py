"""Every reply is checked against Replicate's own OpenAPI document."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.uploads import sign_download

DOCUMENT: dict[str, Any] = json.loads(
    Path(__file__).with_name("replicate-openapi.json").read_text("utf-8")
)
PREDICTION = "schemas_prediction_response"

# What the document says and recorded replies contradict. The emulator follows the recordings.
NULL_IN_THE_DATABASE_FORM = ("started_at", "completed_at", "metrics")
NULL_IN_THE_REPLY_TO_A_CANCEL = ("logs",)
ABSENT_WHILE_THERE_IS_NONE = ("output",)

# Operations that the emulator does not have; they answer 404 or 405.
LEFT_OUT = {
    "models.create", "models.delete", "models.update", "models.versions.delete",
    "trainings.cancel", "trainings.create", "trainings.get",
}  # fmt: skip


class Operation(NamedTuple):
    method: str
    path: str
    replies: dict[str, Any]


def operations() -> dict[str, Operation]:
    return {
        operation["operationId"]: Operation(method, path, operation["responses"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def made_valid(schema: Any) -> Any:
    """Mend the document where it cannot mean what it says.

    It uses `nullable`, which OpenAPI 3.1 no longer has; and its `version` is one of "hidden" and
    any string, so that "hidden" is both and never valid.
    """
    if isinstance(schema, list):
        return [made_valid(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    done = {name: made_valid(value) for name, value in schema.items()}
    if done.pop("nullable", False) and "type" in done:
        done["type"] = [done["type"], "null"]
    if "oneOf" in done:
        done["anyOf"] = done.pop("oneOf")
    return done


def as_recorded(components: Any) -> Any:
    amended = copy.deepcopy(components)
    prediction = amended["schemas"][PREDICTION]
    for name in (*NULL_IN_THE_DATABASE_FORM, *NULL_IN_THE_REPLY_TO_A_CANCEL):
        prediction["properties"][name]["type"] = [prediction["properties"][name]["type"], "null"]
    for name in ABSENT_WHILE_THERE_IS_NONE:
        prediction["required"].remove(name)
    return amended


LITERAL = made_valid(DOCUMENT["components"])
RECORDED = as_recorded(LITERAL)


def problems(operation: str, reply: httpx.Response, components: Any = RECORDED) -> list[str]:
    documented = operations()[operation].replies
    described = documented.get(str(reply.status_code))
    if described is None:
        return [f"status {reply.status_code} is not among {sorted(documented)}"]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    contents = described.get("content", {})
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if not contents or kind not in contents:
        return [] if not contents else [f"{kind} is not among {sorted(contents)}"]
    schema = made_valid(contents[kind].get("schema", {}))
    if "json" not in kind:
        return []
    validator = Draft202012Validator(
        {**schema, "components": components}, format_checker=FormatChecker()
    )
    return [f"{one.json_path}: {one.message}" for one in validator.iter_errors(reply.json())]


TIMER = "/models/emulator/timer"
COMMUNITY = "/models/emulator/community-timer"


@pytest.fixture
def prediction(api: httpx.Client, still: Emulator) -> str:
    created = api.post(f"{TIMER}/predictions", json={"input": {"queue_seconds": 5, "seconds": 10}})
    return created.json()["id"]


@pytest.fixture
def file(api: httpx.Client) -> str:
    return api.post("/files", files={"content": b"x"}).json()["id"]


def create_replies(api: httpx.Client, version: str) -> Iterator[tuple[str, httpx.Response]]:
    waiting = {"prefer": "wait=1"}
    for headers in ({}, waiting, {"cancel-after": "5m"}):
        body = {"input": {}, "webhook": "http://127.0.0.1:1/", "stream": True}
        asked = {"json": body, "headers": headers}
        versioned = {**asked, "json": {**body, "version": version}}
        yield "predictions.create", api.post("/predictions", **versioned)
        yield "models.predictions.create", api.post(f"{TIMER}/predictions", **asked)
        deployment = api.post("/deployments/acme/timer/predictions", **asked)
        yield "deployments.predictions.create", deployment


def prediction_replies(api: httpx.Client, key: str) -> Iterator[tuple[str, httpx.Response]]:
    yield "predictions.get", api.get(f"/predictions/{key}")
    yield "predictions.list", api.get("/predictions")
    yield "predictions.cancel", api.post(f"/predictions/{key}/cancel")


def file_replies(
    api: httpx.Client, key: str, signature: dict[str, str]
) -> Iterator[tuple[str, httpx.Response]]:
    yield "files.create", api.post("/files", files={"content": b"x"})
    yield "files.get", api.get(f"/files/{key}")
    yield "files.get", api.get("/files/none")
    yield "files.list", api.get("/files")
    yield "files.download", api.get(f"/files/{key}/download", params=signature)
    yield "files.download", api.get(f"/files/{key}/download")
    yield "files.delete", api.delete(f"/files/{key}")
    yield "files.delete", api.delete(f"/files/{key}")


def deployment_replies(api: httpx.Client, version: str) -> Iterator[tuple[str, httpx.Response]]:
    asked = {"version": version, "hardware": "cpu", "min_instances": 0, "max_instances": 1}
    named = {"name": "new", "model": "emulator/community-timer", **asked}
    yield "deployments.list", api.get("/deployments")
    yield "deployments.get", api.get("/deployments/acme/studio-video")
    yield "deployments.create", api.post("/deployments", json=named)
    yield "deployments.update", api.patch("/deployments/acme/new", json={"max_instances": 2})
    yield "deployments.delete", api.delete("/deployments/acme/new")


def other_replies(api: httpx.Client, version: str) -> Iterator[tuple[str, httpx.Response]]:
    yield "account.get", api.get("/account")
    yield "webhooks.default.secret.get", api.get("/webhooks/default/secret")
    yield "hardware.list", api.get("/hardware")
    yield "collections.list", api.get("/collections")
    yield "collections.get", api.get("/collections/text-to-image")
    yield "search", api.get("/search?query=image")
    yield "search", api.get("/search")
    yield "trainings.list", api.get("/trainings")
    yield "models.list", api.get("/models")
    yield "models.search", api.request("QUERY", "/models", content="video")
    yield "models.get", api.get("/models/bytedance/seedance-1-lite")
    yield "models.readme.get", api.get(f"{TIMER}/readme")
    yield "models.examples.list", api.get(f"{TIMER}/examples")
    yield "models.versions.list", api.get(f"{COMMUNITY}/versions")
    yield "models.versions.get", api.get(f"{COMMUNITY}/versions/{version}")


@pytest.fixture
def replies(
    api: httpx.Client, still: Emulator, prediction: str, file: str
) -> list[tuple[str, httpx.Response]]:
    version = api.get(f"{COMMUNITY}/versions").json()["results"][0]["id"]
    expiry = int(still.clock.now()) + 60
    secret = still._running.signing_secret  # the API does not tell it
    signature = {
        "owner": "acme",
        "expiry": str(expiry),
        "signature": sign_download(secret, "acme", file, expiry),
    }
    gathered = [*create_replies(api, version), *other_replies(api, version)]
    gathered += deployment_replies(api, version)
    for seconds in (0, 5, 5, 100, 3600):
        still.clock.advance(seconds)
        gathered += [("predictions.get", api.get(f"/predictions/{prediction}"))]
    gathered += file_replies(api, file, signature)
    return [*gathered, *prediction_replies(api, prediction)]


def test_every_reply_is_as_documented_but_for_what_was_recorded(
    replies: list[tuple[str, httpx.Response]],
) -> None:
    found = {f"{name}: {problem}" for name, reply in replies for problem in problems(name, reply)}

    assert found == set()


def test_every_operation_was_tried_or_is_named_as_left_out(
    replies: list[tuple[str, httpx.Response]],
) -> None:
    tried = {name for name, _ in replies}

    assert tried | LEFT_OUT == set(operations())
    assert tried & LEFT_OUT == set()


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_says_so(api: httpx.Client, name: str) -> None:
    operation = operations()[name]
    path = operation.path.format_map(dict.fromkeys(_names_in(operation.path), "none"))

    assert api.request(operation.method.upper(), path).status_code in (404, 405)


def test_the_database_form_has_nulls_that_the_document_does_not_allow(
    api: httpx.Client, prediction: str
) -> None:
    found = problems("predictions.list", api.get("/predictions"), LITERAL)

    assert {one.partition(":")[0].rpartition(".")[2] for one in found} == set(
        NULL_IN_THE_DATABASE_FORM
    )


def test_the_reply_to_a_cancel_has_no_logs_which_the_document_does_not_allow(
    api: httpx.Client, prediction: str
) -> None:
    reply = api.post(f"/predictions/{prediction}/cancel")

    assert problems("predictions.cancel", reply, LITERAL) == [
        "$.logs: None is not of type 'string'"
    ]


def test_the_live_form_lacks_an_output_that_the_document_requires(
    api: httpx.Client, prediction: str
) -> None:
    reply = api.get(f"/predictions/{prediction}")

    assert problems("predictions.get", reply, LITERAL) == ["$: 'output' is a required property"]


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
