import io
from collections.abc import Callable

import httpx
import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError

from prefect_replicate.emulator import Emulator


@pytest.fixture
def client(replicate_emulator: Emulator) -> replicate.Client:
    return replicate.Client(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )


def test_run_returns_the_output_of_an_official_model(client: replicate.Client) -> None:
    output = client.run("emulator/timer", input={"output": {"answer": 42}})

    assert output == {"answer": 42}


def test_a_failed_run_raises_the_models_error(client: replicate.Client) -> None:
    asked = {"outcome": "failed", "error": "CUDA out of memory"}

    with pytest.raises(ModelError, match="CUDA out of memory"):
        client.run("emulator/timer", input=asked, wait=False)


def test_the_environment_points_the_module_level_client_here(replicate_emulator: Emulator) -> None:
    replicate.Client().run("emulator/timer", input={"output": "x"})

    assert len(replicate_emulator.predictions) == 1


def test_a_video_is_created_awaited_and_downloaded(
    client: replicate.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.clock.speed = 100
    client.poll_interval = 0.05
    created = client.models.predictions.create(
        "bytedance/seedance-1-lite", input={"prompt": "a red fox", "duration": 2}
    )

    created.wait()

    assert created.status == "succeeded"
    assert httpx.get(created.output).headers["content-type"] == "video/mp4"


def test_predictions_are_read_listed_and_cancelled(client: replicate.Client) -> None:
    created = client.predictions.create(version="emulator/timer", input={"seconds": 600})

    canceled = client.predictions.cancel(created.id)

    assert canceled.status == "canceled"
    assert client.predictions.get(created.id).status == "canceled"
    assert [one.id for one in client.predictions.list()] == [created.id]


def test_an_output_is_streamed(client: replicate.Client) -> None:
    events = client.stream("emulator/timer", input={"output": ["Hello", " world"]})

    assert "".join(str(event) for event in events) == "Hello world"


async def test_the_async_twin_works_too(client: replicate.Client) -> None:
    assert await client.async_run("emulator/timer", input={"output": [1, 2]}) == [1, 2]


def test_a_community_version_runs(client: replicate.Client) -> None:
    version = client.models.get("emulator/community-timer").versions.list()[0]

    output = client.run(f"emulator/community-timer:{version.id}", input={"output": {"a": 1}})

    assert output == {"a": 1}


def test_a_wrong_token_is_refused(replicate_emulator: Emulator) -> None:
    client = replicate.Client(api_token="r8_wrong", base_url=replicate_emulator.base_url)

    with pytest.raises(ReplicateError, match="Unauthenticated"):
        client.predictions.list()


CALLS: dict[str, Callable[[replicate.Client], object]] = {
    "accounts.current": lambda client: client.accounts.current(),
    "collections.list": lambda client: client.collections.list(),
    "collections.get": lambda client: client.collections.get("text-to-video"),
    "deployments.list": lambda client: client.deployments.list(),
    "deployments.get": lambda client: client.deployments.get("acme/timer"),
    "deployments.create": lambda client: create_deployment(client),
    "deployments.update": lambda client: client.deployments.update("acme", "timer"),
    "deployments.delete": lambda client: client.deployments.delete("acme", "timer"),
    "deployments.predictions.create": lambda client: client.deployments.predictions.create(
        "acme/timer", input={}
    ),
    "files.create": lambda client: client.files.create(io.BytesIO(b"x")),
    "files.get": lambda client: client.files.get(client.files.create(io.BytesIO(b"x")).id),
    "files.list": lambda client: client.files.list(),
    "files.delete": lambda client: client.files.delete(client.files.create(io.BytesIO(b"x")).id),
    "hardware.list": lambda client: client.hardware.list(),
    "models.get": lambda client: client.models.get("emulator/picture"),
    "models.list": lambda client: client.models.list(),
    "models.search": lambda client: client.models.search("video"),
    "models.versions.list": lambda client: client.models.get(SPEECH).versions.list(),
    "models.versions.get": lambda client: client.models.get(SPEECH).versions.get(version(client)),
    "predictions.list": lambda client: client.predictions.list(),
    "trainings.list": lambda client: client.trainings.list(),
    "webhooks.default.secret": lambda client: client.webhooks.default.secret(),
}
REFUSED: dict[str, Callable[[replicate.Client], object]] = {
    "models.create": lambda client: client.models.create(
        "acme", "new", visibility="private", hardware="cpu"
    ),
    "models.delete": lambda client: client.models.delete("emulator", "speech"),
    "models.versions.delete": lambda client: client.models.get(SPEECH).versions.delete(
        version(client)
    ),
    "trainings.create": lambda client: client.trainings.create(
        f"{SPEECH}:{version(client)}", input={}, destination="acme/new"
    ),
}
SPEECH = "emulator/speech"


def version(client: replicate.Client) -> str:
    return client.models.get(SPEECH).versions.list()[0].id


def create_deployment(client: replicate.Client) -> object:
    return client.deployments.create(
        name="new", model=SPEECH, version=version(client), hardware="cpu",
        min_instances=0, max_instances=1,
    )  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_answered(
    client: replicate.Client, replicate_emulator: Emulator, name: str
) -> None:
    CALLS[name](client)

    assert {one.status for one in replicate_emulator.requests} <= {200, 201, 204}


def test_the_calls_are_all_that_the_client_has() -> None:
    client = replicate.Client("r8_none")
    namespaces = ("collections", "deployments", "files", "hardware", "models", "trainings")
    calls = {
        f"{namespace}.{name}"
        for namespace in namespaces
        for name in dir(getattr(client, namespace))
        if name.islower() and not name.startswith(("_", "async_"))
    }

    # These are objects with calls of their own, or a property.
    calls -= {"deployments.predictions", "models.predictions", "models.model"}
    assert calls <= {*CALLS, *REFUSED, "trainings.get", "trainings.cancel"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_local_replicate_does_not_have_is_refused_with_a_reason(
    client: replicate.Client, name: str
) -> None:
    with pytest.raises(ReplicateError, match="The local Replicate has no"):
        REFUSED[name](client)


def test_a_training_that_does_not_exist_is_404(client: replicate.Client) -> None:
    for call in (client.trainings.get, client.trainings.cancel):
        with pytest.raises(ReplicateError, match="could not be found"):
            call("none")
