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
