"""What is to be generated, as the user says it, and how stubbornly."""

# No `from __future__ import annotations` where parameters of flows are declared: Pydantic could not
# resolve annotations that are text.

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.blocks.abstract import ObjectStorageBlock
from prefect.client.schemas.responses import DeploymentResponse
from prefect.filesystems import WritableFileSystem
from pydantic import SecretStr
from tenacity import retry_if_exception, stop_after_attempt, wait_random_exponential

from prefect_replicate.api.models import resolve_model
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.exceptions import (
    ConfigurationError,
    InvalidInputError,
    LedgerError,
    PredictionFailedError,
)
from prefect_replicate.ledger.prefect_api import as_ledger_error, request
from prefect_replicate.lifecycle.creation import DEFAULT_TIMEOUT, OnCrash
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.outputs import check_destination
from prefect_replicate.outputs.destination import load_block
from prefect_replicate.settings import (
    DEFAULT_DESTINATION,
    check_destination_folder,
    check_input_file,
)
from prefect_replicate.tasks.arguments import checked
from prefect_replicate.text import keep_secret
from prefect_replicate.values import PollPolicy
from prefect_replicate.values.form import changes_in
from prefect_replicate.values.given import as_given
from prefect_replicate.values.model_schema import InputProperty, ModelSchema, validate_input

TAG = "replicate-model"
"""Of the deployments that have the form of one model."""

_DEFAULT_POLICY = PollPolicy()
_REMOTE = ("http://", "https://", "data:")


def attempts(retries: int) -> dict[str, Any]:
    """Options for tenacity: try anew where the platform has failed, not the input."""
    return {
        "retry": retry_if_exception(
            lambda exc: isinstance(exc, PredictionFailedError) and exc.is_transient
        ),
        "stop": stop_after_attempt(retries + 1),
        "wait": wait_random_exponential(multiplier=1, max=30),
        "reraise": True,
    }


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """The parameters that all flows share which generate something; those document them."""

    destination: str | Path | WritableFileSystem | ObjectStorageBlock = DEFAULT_DESTINATION
    timeout: float | None = DEFAULT_TIMEOUT
    retries: int = 2
    policy: PollPolicy = _DEFAULT_POLICY
    on_crash: OnCrash = "cancel"
    regenerate_expired: bool = False
    check_input: bool = True

    def __post_init__(self) -> None:
        """Refuse what no type says.

        Raises:
            InvalidInputError: The timeout is no time.
        """
        checked(timeout=self.timeout)


@dataclass(frozen=True)
class ModelGeneration(GenerationSettings):
    """The parameters of `run_model`, which documents them."""

    model: str
    input: dict[str, Any] | None = None
    credentials: ReplicateCredentials | None = None
    secrets: dict[str, str] | None = field(default=None, kw_only=True)

    async def prepared(self, run: Run) -> dict[str, Any]:
        """The model's input, after all that can be checked before anything is paid.

        Raises:
            InvalidInputError: The model can't take it.
            ConfigurationError: Its files can't be stored, or a secret can't be read.
        """
        schema = (await resolve_model(run.connection, self.model)).schema
        changes = await _changes_since(run.scope.deployment_id, schema)
        if schema.output.makes_files is not False:
            check_destination_folder(self.destination, is_deployed=run.scope.is_deployed)
            await check_destination(self.destination)
        try:
            input = await self.whole_input(run, schema)
        except InvalidInputError as exc:
            if not changes:
                raise
            raise InvalidInputError(f"{exc} Since this was deployed: {changes}.") from exc
        if changes:
            run.say(
                "%s has changed since this was deployed: %s. `prefect-replicate deploy %s` makes"
                " its form again", self.model, changes, self.model, level=logging.WARNING,
            )  # fmt: skip
        return input

    async def whole_input(self, run: Run, schema: ModelSchema) -> dict[str, Any]:
        """What is sent to the model."""
        given = with_files(self.input or {}, schema, is_deployed=run.scope.is_deployed)
        given |= await read_secrets(self.secrets or {})
        if self.check_input:
            validate_input(schema, self.model, as_given(given))
        return given


async def _changes_since(deployment_id: UUID | None, schema: ModelSchema) -> str:
    """In what the form of a run's deployment differs from what its model takes now.

    Never raises: where that can't be read, nothing is said.
    """
    if deployment_id is None:
        return ""
    with suppress(LedgerError):
        action = "read the deployment of this run"
        reply = await request(action, "GET", f"/deployments/{deployment_id}")
        with as_ledger_error(action):
            found = DeploymentResponse.model_validate(reply.json())
        if TAG in found.tags:
            return "; ".join(changes_in(found.parameter_openapi_schema, found.parameters, schema))
    return ""


@dataclass(frozen=True)
class ModelOptions:
    """What one item of a batch is to be."""

    model: str
    input: Mapping[str, Any]

    @property
    def prompt(self) -> str | None:
        """What people know it by."""
        prompt = self.input.get("prompt")
        return prompt if isinstance(prompt, str) else None

    async def whole_input(self, run: Run, *, check: bool = True) -> dict[str, Any]:
        """What is sent to the model.

        Raises:
            InvalidInputError: The model can't take it.
        """
        schema = (await resolve_model(run.connection, self.model)).schema
        asked = self.input.items()
        typed = {name: _as_typed(value, schema.property(name)) for name, value in asked}
        given = with_files(typed, schema, is_deployed=run.scope.is_deployed)
        if check:
            validate_input(schema, self.model, as_given(given))
        return given


def _as_typed(value: Any, known: InputProperty | None) -> Any:
    """A text from a file's cell, as what the model takes it for."""
    if not isinstance(value, str) or known is None or known.type in (None, "string"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def with_files(
    input: Mapping[str, Any], schema: ModelSchema, *, is_deployed: bool
) -> dict[str, Any]:
    """Take a text for a local file where the model takes a file, and the text is no URL.

    Raises:
        InvalidInputError: A run of a deployment may not read it.
    """

    def read(name: str, value: Any) -> Any:
        known = schema.property(name)
        if known is not None and known.is_file_list and isinstance(value, list):
            each = cast("list[Any]", value)
            return [local_file(one, name, is_deployed=is_deployed) for one in each]
        if known is not None and known.is_file:
            return local_file(value, name, is_deployed=is_deployed)
        return value

    return {name: read(name, value) for name, value in input.items()}


def local_file(value: Any, name: str, *, is_deployed: bool) -> Any:
    """A path in the place of a text that is no URL; `None` in that of an empty one.

    Raises:
        InvalidInputError: A run of a deployment may not read it.
    """
    if not isinstance(value, str) or value.lower().startswith(_REMOTE):
        return value
    if not value.strip():  # a field of a form that was emptied again
        return None
    check_input_file(value, name, is_deployed=is_deployed)
    return Path(value)


def _secret_in(block: Any) -> Any:
    value = block.get()
    return value.get_secret_value() if isinstance(value, SecretStr) else value


async def read_secrets(blocks: Mapping[str, str]) -> dict[str, str]:
    """The values in saved Secret blocks, by the input that each is for; they are shown nowhere.

    Raises:
        ConfigurationError: One is missing, or holds no text.
    """
    found = dict[str, str]()
    for name, block_name in blocks.items():
        what = f"The secret block {block_name!r} for the input {name!r}"
        block = await load_block(f"secret/{block_name}", what)
        text = _secret_in(cast("Any", block))
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"{what} holds no text. Nothing was paid.")
        keep_secret(text)
        found[name] = text
    return found
