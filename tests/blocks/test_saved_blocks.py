"""Blocks on a Prefect server: saved, loaded, registered, and shown in the UI's form."""

from __future__ import annotations

import pytest
from prefect import get_client
from prefect.client.schemas.actions import BlockDocumentCreate
from prefect.testing.cli import invoke_and_assert

from prefect_replicate import PollPolicy, ReplicateCredentials, ReplicateModel, create_prediction
from prefect_replicate.emulator import Emulator

pytestmark = pytest.mark.usefixtures("prefect_api")
TOKEN = "r8_" + "s3cret" * 6


def test_credentials_are_saved_and_loaded_with_their_secret() -> None:
    ReplicateCredentials(api_token=TOKEN, base_url="http://localhost:1").save("ours")

    loaded = ReplicateCredentials.load("ours")

    assert loaded.address().token.get_secret_value() == TOKEN
    assert loaded.base_url == "http://localhost:1"


def test_a_block_without_a_token_saves_none_from_the_environment(
    replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ReplicateCredentials().save("from-environment")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_later")

    loaded = ReplicateCredentials.load("from-environment")

    assert (loaded.api_token, loaded.base_url) == (None, None)
    assert loaded.address().token.get_secret_value() == "r8_later"


def test_the_token_is_masked_on_the_server() -> None:
    id = ReplicateCredentials(api_token=TOKEN).save("masked")

    with get_client(sync_client=True) as client:
        shown = client.read_block_document(id, include_secrets=False)

    assert TOKEN not in shown.model_dump_json()


def test_a_saved_account_is_used(replicate_emulator: Emulator) -> None:
    account = ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )
    account.save("emulated")

    create_prediction.fn("emulator/timer", {}, ReplicateCredentials.load("emulated"))

    assert replicate_emulator.predictions.create_requests == 1


@pytest.mark.smoke
def test_a_model_is_saved_with_its_credentials_and_limits(replicate_emulator: Emulator) -> None:
    account = ReplicateCredentials(
        api_token=replicate_emulator.token, base_url=replicate_emulator.base_url
    )
    account.save("account-of-model")
    policy = PollPolicy(min_interval=0.01, max_interval=0.02)
    ReplicateModel(
        model="emulator/timer", credentials=account, default_input={"seed": 3}, policy=policy
    ).save("timer")

    run = ReplicateModel.load("timer").trigger({"output": 1})
    run.wait_for_completion()

    assert run.prediction.input == {"seed": 3, "output": 1}


@pytest.mark.parametrize("model", ["", "timer"])
def test_a_saved_model_that_is_no_reference_is_refused_when_it_is_loaded(model: str) -> None:
    ReplicateModel.register_type_and_schema()
    with get_client(sync_client=True) as client:
        type = client.read_block_type_by_slug("replicate-model")
        schema = client.get_most_recent_block_schema_for_block_type(type.id)
        assert schema is not None
        name = f"no-reference-{len(model)}"
        client.create_block_document(
            BlockDocumentCreate(
                name=name, data={"model": model}, block_schema_id=schema.id, block_type_id=type.id
            )
        )

    with pytest.raises(RuntimeError, match=f"Unable to load '{name}'") as refused:
        ReplicateModel.load(name)
    assert "is not a model reference; use" in str(refused.value.__cause__)


def test_the_blocks_are_registered_with_a_form_that_people_can_fill_in() -> None:
    invoke_and_assert(
        ["block", "register", "-m", "prefect_replicate"],
        expected_output_contains="Successfully registered 2 blocks",
        expected_code=0,
    )


def test_the_forms_key_is_masked_and_asked_for() -> None:
    ReplicateCredentials.register_type_and_schema()

    with get_client(sync_client=True) as client:
        type = client.read_block_type_by_slug("replicate-credentials")
        schema = client.get_most_recent_block_schema_for_block_type(type.id)

    assert schema is not None
    assert schema.fields["secret_fields"] == ["api_token"]
    assert schema.fields["properties"]["api_token"]["title"] == "API token"
    assert schema.fields["required"] == ["api_token"]  # without it, no deployment takes the block
