"""The parameters of a generation: what to generate, and how often to retry."""

# No `from __future__ import annotations` where flow parameters are declared: Pydantic could not
# resolve string annotations.

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from prefect.client.schemas.responses import DeploymentResponse
from pydantic import SecretStr, WithJsonSchema
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
from prefect_replicate.outputs.destination import Destination, load_block
from prefect_replicate.settings import (
    check_destination_folder,
    check_input_file,
    or_default,
)
from prefect_replicate.tasks.arguments import Advanced, checked
from prefect_replicate.text import keep_secret
from prefect_replicate.values import PollPolicy
from prefect_replicate.values.form import changes_in
from prefect_replicate.values.given import as_given
from prefect_replicate.values.model_schema import InputProperty, ModelSchema, validate_input

TAG = "replicate-model"
"""Marks the deployments that have the form of one model."""

_ELSEWHERE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
"""Any URL except that of a local file."""


async def schema_of(run: Run, model: str) -> ModelSchema:
    """Return what a model takes and makes, cached in this process for five minutes.

    Raises:
        InvalidInputError: The reference is malformed, or there is no such model.
    """
    return (await resolve_model(run.connection, model)).schema


def attempts(retries: int) -> dict[str, Any]:
    """Return tenacity's options: retry when the platform failed, not when the input did."""
    return {
        "retry": retry_if_exception(
            lambda exc: isinstance(exc, PredictionFailedError) and exc.is_transient
        ),
        "stop": stop_after_attempt(retries + 1),
        "wait": wait_random_exponential(multiplier=1, max=30),
        "reraise": True,
    }


_TEXT = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
"""Makes forms show one text field for a file or a folder, not one for each Python type."""

Seconds = Annotated[
    float | None,
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}),
]
"""Prefect's server refuses invalid values before a run exists."""

Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
CountFromOne = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]

FileText = Annotated[str | Path | None, _TEXT]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """The parameters shared by all flows that generate something; the flows document them."""

    ADVANCED: ClassVar[tuple[str, ...]] = (
        "policy",
        "on_crash",
        "regenerate_expired",
        "check_input",
    )
    NOT_IN_FORMS: ClassVar[tuple[str, ...]] = ()

    destination: Annotated[Destination | None, _TEXT] = None
    timeout: Seconds = DEFAULT_TIMEOUT
    retries: Count = 2
    policy: PollPolicy | None = None
    on_crash: OnCrash = "cancel"
    regenerate_expired: bool = False
    check_input: bool = True
    advanced: Advanced | None = None

    def __post_init__(self) -> None:
        """Apply the values under `advanced`, and check what the types don't.

        Raises:
            InvalidInputError: The timeout or the number of retries is invalid.
        """
        own = {one.name: one.default for one in fields(self)}
        for name in self.advanced.model_fields_set if self.advanced else ():
            if getattr(self, name) == own[name]:  # else it was given directly
                object.__setattr__(self, name, getattr(self.advanced, name))
        checked(timeout=self.timeout, retries=self.retries)


@dataclass(frozen=True)
class ModelGeneration(GenerationSettings):
    """The parameters of `run_model`, which documents them."""

    model: str
    input: dict[str, Any] | None = None
    credentials: ReplicateCredentials | None = None
    NOT_IN_FORMS: ClassVar[tuple[str, ...]] = ("secrets",)
    secrets: dict[str, str] | None = field(default=None, kw_only=True)

    async def prepared(self, run: Run) -> dict[str, Any]:
        """Return the model's input, after every check that can be made before anything is paid.

        Raises:
            InvalidInputError: The model doesn't accept it.
            ConfigurationError: Files can't be stored, or a secret can't be read.
        """
        schema = await schema_of(run, self.model)
        found = await _deployment_of(run)
        changes = self._changes_since_deployed(run, found, schema)
        asked = self
        if found is not None and TAG in found.tags:  # Prefect merges only whole parameters
            known: dict[str, Any] = found.parameters.get("input") or {}
            whole = {**known, **(self.input or {})}
            asked = replace(self, input=whole)
        destination = or_default(self.destination)
        # Even if the schema declares no file: an output may be a file all the same.
        await check_place(run, destination)
        if schema.output.makes_files is not False:
            await check_destination(destination)
        try:
            input = await asked.whole_input(run, schema)
        except InvalidInputError as exc:
            if not changes:
                raise
            raise InvalidInputError(f"{exc} Since this was deployed: {changes}.") from exc
        if changes:
            run.say(
                "%s has changed since this was deployed: %s. `prefect-replicate deploy %s` updates"
                " its form", self.model, changes, self.model, level=logging.WARNING,
            )  # fmt: skip
        return input

    def _changes_since_deployed(
        self, run: Run, found: DeploymentResponse | None, schema: ModelSchema
    ) -> str:
        """Describe how the form of this run's deployment differs from what its model takes now.

        Raises:
            ConfigurationError: The run was given secrets, or a model for them, that its deployment
                does not name.
        """
        fixed = found.parameters if found is not None else {}
        own = {"model": self.model, "secrets": self.secrets}
        if (
            run.scope.is_deployed
            and self.secrets
            and own != {name: fixed.get(name) for name in own}
        ):
            raise ConfigurationError(
                "`secrets`, and the model that gets them, can be set only in the deployment, not"
                " when a run is started. Nothing was paid."
            )
        if found is None or TAG not in found.tags:
            return ""
        return "; ".join(changes_in(found.parameter_openapi_schema, fixed, schema))

    async def whole_input(self, run: Run, schema: ModelSchema) -> dict[str, Any]:
        """Return the input to send to the model."""
        given = with_files(self.input or {}, schema, is_deployed=run.scope.is_deployed)
        if plain := [name for name in given if name in schema.secrets]:
            run.say(
                "The input %r is secret, but it is in the parameters of this run, which Prefect"
                " stores: save it in a Secret block, and name the block in `secrets`", plain[0],
                level=logging.WARNING,
            )  # fmt: skip
            for name in plain:
                keep_secret(str(given[name]))
        given |= await read_secrets(self.secrets or {}, schema)
        if self.check_input:
            validate_input(schema, self.model, as_given(given))
        return given


async def check_place(run: Run, destination: object) -> None:
    """Refuse a destination that this run may not use.

    Raises:
        ConfigurationError: Neither the settings nor the run's deployment allow it.
    """
    try:
        check_destination_folder(destination, is_deployed=run.scope.is_deployed)
    except ConfigurationError:
        found = await _deployment_of(run)
        if found is None or found.parameters.get("destination") != str(destination):
            raise


async def _deployment_of(run: Run) -> DeploymentResponse | None:
    """Return the run's deployment, or `None` if it has none or it can't be read. Never raises."""
    if run.scope.deployment_id is None:
        return None
    with suppress(LedgerError):
        action = "read the deployment of this run"
        reply = await request(action, "GET", f"/deployments/{run.scope.deployment_id}")
        with as_ledger_error(action):
            return DeploymentResponse.model_validate(reply.json())
    return None


@dataclass(frozen=True)
class ModelOptions:
    """The model and the input of one batch item."""

    model: str
    input: Mapping[str, Any]

    @property
    def prompt(self) -> str | None:
        """The prompt, which identifies the item to people."""
        prompt = self.input.get("prompt")
        return prompt if isinstance(prompt, str) else None

    async def whole_input(self, run: Run, *, check: bool = True) -> dict[str, Any]:
        """Return the input to send to the model.

        Raises:
            InvalidInputError: The model doesn't accept it.
        """
        schema = await schema_of(run, self.model)
        given = with_files(typed(self.input, schema), schema, is_deployed=run.scope.is_deployed)
        if check:
            validate_input(schema, self.model, as_given(given))
        return given


def from_text(text: str, known: InputProperty | None) -> Any:
    """Convert a cell of a file, or a command-line value, to what the model takes.

    It stays text if the model takes text; else it is parsed as JSON, if it is JSON.
    """
    if known is not None and known.takes_text:
        return text
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except (ValueError, RecursionError):
        return text


def typed(input: Mapping[str, Any], schema: ModelSchema) -> dict[str, Any]:
    """Convert the texts in a batch item's input, which may come from the cells of a file.

    An input of any type keeps a text unchanged, unless it is a list or an object in JSON.
    """

    def read(name: str, value: Any) -> Any:
        known = schema.property(name)
        if known is None or not isinstance(value, str) or value == "null":
            return value
        meant = from_text(value, known)
        return value if known.type is None and type(meant) not in (list, dict) else meant

    return {name: read(name, value) for name, value in input.items()}


def with_files(
    input: Mapping[str, Any], schema: ModelSchema, *, is_deployed: bool
) -> dict[str, Any]:
    """Treat a text as a local file if the model takes a file and the text isn't a URL.

    Raises:
        InvalidInputError: A run of a deployment may not read the file.
    """

    def read(name: str, value: Any) -> Any:
        known = schema.property(name)
        if known is not None and known.is_file_list and isinstance(value, list):
            each = cast("list[Any]", value)
            read = [local_file(one, name, is_deployed=is_deployed) for one in each]
            return [one for one in read if one is not None]
        if known is not None and known.is_file:
            return local_file(value, name, is_deployed=is_deployed)
        return value

    return {name: read(name, value) for name, value in input.items()}


def local_file(value: Any, name: str, *, is_deployed: bool) -> Any:
    """Turn a text that isn't a URL into a path, and an empty text into `None`.

    Raises:
        InvalidInputError: A run of a deployment may not read the file.
    """
    if not isinstance(value, str) or _ELSEWHERE.match(value):
        return value
    if not value.strip():  # a form field that was cleared
        return None
    check_input_file(value, name, is_deployed=is_deployed)
    return Path(value)


def _secret_in(block: Any) -> Any:
    value = block.get()
    return value.get_secret_value() if isinstance(value, SecretStr) else value


async def read_secrets(blocks: Mapping[str, str], schema: ModelSchema) -> dict[str, str]:
    """Return the values of saved Secret blocks, by input name, and redact them everywhere.

    Raises:
        InvalidInputError: An input is not secret, so Replicate would show its value.
        ConfigurationError: A block is missing, or holds no text.
    """
    if shown := [name for name in blocks if name not in schema.secrets and schema.is_known]:
        raise InvalidInputError(
            f"The input {shown[0]!r} is not secret, so Replicate would show the value of the"
            f" secret block {blocks[shown[0]]!r}. Nothing was paid."
        )
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
