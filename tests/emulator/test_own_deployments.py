from typing import Any

import httpx
import pytest

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.models.catalogue import default_catalogue

MODEL = "emulator/community-timer"
NEW = "/deployments/acme/new"


def versions() -> list[str]:
    found = default_catalogue().find_model(MODEL)
    assert found is not None
    return [one.id for one in found.versions]


def create(api: httpx.Client, **changes: Any) -> httpx.Response:
    asked = {
        "name": "new", "model": MODEL, "version": versions()[1], "hardware": "cpu",
        "min_instances": 0, "max_instances": 1,
    }  # fmt: skip
    return api.post("/deployments", json={**asked, **changes})


def test_a_deployment_runs_the_version_that_it_was_created_with(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    release = create(api).json()["current_release"]

    created = api.post(f"{NEW}/predictions", json={"input": {}}).json()

    assert release["configuration"] == {"hardware": "cpu", "min_instances": 0, "max_instances": 1}
    assert created["version"] == release["version"] == versions()[1]
    assert created["deployment"] == "acme/new"


def test_a_change_makes_a_new_release(api: httpx.Client, replicate_emulator: Emulator) -> None:
    create(api)

    changed = api.patch(NEW, json={"version": versions()[0], "max_instances": 5}).json()

    release = changed["current_release"]
    assert (release["number"], release["version"]) == (2, versions()[0])
    assert release["configuration"]["max_instances"] == 5
    assert api.get(NEW).json() == changed


def test_a_deployment_is_deleted_15_minutes_after_its_last_use(
    api: httpx.Client, still: Emulator
) -> None:
    create(api)
    api.post(f"{NEW}/predictions", json={"input": {}})
    early = api.delete(NEW)
    still.clock.advance(15 * 60 + 1)
    late = api.delete(NEW)

    assert (early.status_code, late.status_code) == (400, 204)
    assert api.get(NEW).status_code == 404


def test_a_reset_forgets_changes_of_deployments(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    create(api)
    api.delete("/deployments/acme/timer")
    replicate_emulator.reset()

    assert [one["name"] for one in api.get("/deployments").json()["results"]] == [
        "studio-video", "timer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"name": "timer"}, 422, "A deployment with this name already exists"),
        ({"name": "a/b"}, 422, "Does not match pattern"),
        ({"model": "no/model"}, 404, "could not be found"),
        ({"version": "0" * 64}, 422, "The specified version does not exist"),
        ({"hardware": "abacus"}, 422, "hardware must be one of the following"),
        ({"min_instances": 6}, 422, "Must be less than or equal to 5"),
        ({"colour": "red"}, 422, "Additional property colour is not allowed"),
    ],
)
def test_deployments_that_make_no_sense_are_refused(
    api: httpx.Client, changes: dict[str, Any], status: int, detail: str
) -> None:
    reply = create(api, **changes)

    assert reply.status_code == status
    assert detail in reply.json()["detail"]
