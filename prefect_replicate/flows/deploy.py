"""Deployments of single models, each with a form of the model's own inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import ParameterSchema

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.credentials import call_as
from prefect_replicate.engine import call
from prefect_replicate.exceptions import (
    ConfigurationError,
    InvalidInputError,
    ReplicateError,
)
from prefect_replicate.flows.run_model import run_model
from prefect_replicate.generation import TAG, schema_of
from prefect_replicate.ledger.prefect_api import as_ledger_error, prefect_client
from prefect_replicate.lifecycle.creation import DEFAULT_TIMEOUT
from prefect_replicate.outputs.destination import load_block
from prefect_replicate.values import ModelReference
from prefect_replicate.values.form import changes_in, form_of, with_defaults
from prefect_replicate.values.given import as_given, is_file
from prefect_replicate.values.model_schema import ModelSchema

__all__ = ["model_deployment"]

_READ = "read the deployments"


def model_deployment(
    model: str,
    name: str | None = None,
    *,
    input: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    credentials: ReplicateCredentials | None = None,
    destination: str | None = None,
    tags: Sequence[str] = (),
    **options: Any,
) -> RunnerDeployment:
    """Create a deployment of `run_model` for one model, with a form of that model's inputs.

    Prefect's server refuses an input that the form does not allow, before a run exists.

    Args:
        model: `owner/name`, `owner/name:version`, or `deployment:owner/name`.
        name: Name of the deployment; `owner-name` by default.
        input: Default input of its runs, which the form shows first; a run's own input overrides
            it, name by name.
        secrets: Secret inputs, which are not in the form: maps the name of each to the name of the
            saved Secret block that holds it.
        credentials: A saved block with the account; `None` reads `REPLICATE_API_TOKEN` in the
            environment of the runs, and in this process for the schema.
        destination: Where its runs store files, unless the form says otherwise. By default, the
            settings of their process decide.
        tags: Tags of the deployment, in addition to `replicate-model`.
        options: Options of `Flow.to_deployment`, such as `cron`, `schedules`, `concurrency_limit`,
            `work_pool_name` and `description`.

    Returns:
        The deployment, for `serve`, or to create with its method `apply`.

    Raises:
        InvalidInputError: There is no such model, its schema can't be read, it doesn't
            accept `input`, or a schedule lacks an input that it needs.
        ConfigurationError: The credentials are not saved, or a secret input has no block.

    Example:
        ```python
        from prefect import serve
        from prefect_replicate import model_deployment

        if __name__ == "__main__":
            daily = {"prompt": "a red fox in snow"}
            serve(model_deployment("emulator/picture", input=daily, cron="0 7 * * *"))
        ```
    """
    reference = ModelReference.parse(model)
    schema = call_as(credentials, schema_of, model)
    if not schema.is_known:
        raise InvalidInputError(
            f"{model} has no readable schema, so it has no form. Deploy `run_model` itself, whose"
            " form takes any input as JSON."
        )
    given, blocks = as_given(input or {}), dict(secrets or {})
    _check_secrets(schema, model, blocks)
    _check_input(schema, model, given)
    form = _parameters(schema, given, blocks, destination)
    if any(options.get(one) for one in ("cron", "interval", "rrule")):
        _check_schedulable(model, form)
    fixed = _fixed(model, given, blocks, credentials)
    if destination is not None:
        fixed["destination"] = destination
    asked: dict[str, Any] = {
        "name": name or "-".join(filter(None, [reference.owner, reference.name])) or "model",
        "description": f"Runs {model}, with a form of its own inputs.",
        "parameters": fixed,
        "tags": [TAG, *tags],
        "entrypoint_type": EntrypointType.MODULE_PATH,
        **options,
    }
    deployment = RunnerDeployment.from_flow(run_model, **asked)
    # Prefect makes the form from a flow's parameters, and has no public API to set another.
    deployment._parameter_openapi_schema = form  # pyright: ignore[reportPrivateUsage]
    return deployment


def _check_secrets(schema: ModelSchema, model: str, blocks: Mapping[str, str]) -> None:
    if unknown := [name for name in blocks if name not in schema.secrets]:
        raise InvalidInputError(f"{model} has no secret input {unknown[0]!r}.")
    for name, block in blocks.items():
        call(lambda _, name=name, block=block: _check_block(name, block))
    missing = [
        one.name
        for one in schema.inputs.values()
        if one.is_secret and one.is_required and one.name not in blocks
    ]
    if missing:
        raise ConfigurationError(
            f"{model} needs the secret input {missing[0]!r}: name the saved Secret block that holds"
            f" it, as secrets={{{missing[0]!r}: 'my-secret'}} or --secret {missing[0]}=my-secret."
        )


async def _check_block(name: str, block: str) -> None:
    await load_block(f"secret/{block}", f"The secret block {block!r} for the input {name!r}")


def _check_input(schema: ModelSchema, model: str, given: Mapping[str, Any]) -> None:
    """Refuse input that no run could start from; required inputs may still be filled in."""
    if secret := next((name for name in given if name in schema.secrets), None):
        raise ConfigurationError(
            f"The input {secret!r} of {model} is secret, but would be in the parameters of each"
            f" run: save it in a Secret block, and name the block in `secrets`."
        )
    if file := next((name for name, value in given.items() if _has_file(value)), None):
        raise InvalidInputError(
            f"The input {file!r} is a file on this machine, but the runs are elsewhere: use a URL."
        )
    problems = schema.problems(given, [name for name in schema.names if name not in given])
    if problems:
        raise InvalidInputError(
            f"{model} cannot take this input: {'; '.join(problems)}. Its inputs are:"
            f" {schema.listing}. Nothing was deployed."
        )


def _check_schedulable(model: str, form: ParameterSchema) -> None:
    """Refuse a schedule whose runs would all fail; `schedules` can have parameters of their own."""
    if missing := form.definitions["Input"].get("required"):
        raise InvalidInputError(
            f"A schedule starts runs without the form, and {model} needs the input"
            f" {missing[0]!r}: give it as `input` or with -i. Nothing was deployed."
        )


def _has_file(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_file, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(_has_file, cast("list[Any]", value)))
    return is_file(value)


def _parameters(
    schema: ModelSchema,
    given: Mapping[str, Any],
    blocks: Mapping[str, str],
    destination: str | None,
) -> ParameterSchema:
    form = with_defaults(form_of(schema, blocks), given)
    properties: dict[str, Any] = {
        "input": {"$ref": "#/definitions/Input", "title": "Input", "position": 0}
    }
    if schema.output.makes_files is not False:
        properties["destination"] = {
            "title": "Destination",
            "description": (
                "A folder for its files, a URL such as s3://bucket/folder, or block:type-slug/name"
                " for a storage block. Empty: as the deployment or the worker's settings say."
            ),
            "type": "string",
            "position": 1,
            **({} if destination is None else {"default": destination}),
        }
    properties["timeout"] = {
        "title": "Timeout",
        "description": "Seconds after which a prediction is canceled. None: no limit.",
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}],
        "default": DEFAULT_TIMEOUT,
        "position": 2,
    }
    required = ["input"] if form.get("required") else []
    return ParameterSchema(
        title="Parameters",
        type="object",
        properties=properties,
        required=required,
        definitions={"Input": form},
    )


def _fixed(
    model: str,
    given: Mapping[str, Any],
    blocks: Mapping[str, str],
    credentials: ReplicateCredentials | None,
) -> dict[str, Any]:
    """Return the parameters that runs have by default."""
    fixed: dict[str, Any] = {"model": model}
    if given:
        fixed["input"] = dict(given)
    if blocks:
        fixed["secrets"] = dict(blocks)
    if credentials is not None:
        fixed["credentials"] = credentials.reference
    return fixed


class Drift(NamedTuple):
    """How the model of a deployment has changed since the deployment was made."""

    deployment: str
    """Its full name."""
    model: str
    changes: list[str]
    """Changes of its form; empty if there are none."""
    error: str | None = None
    """Why the changes are unknown."""


def drifts() -> list[Drift]:
    """Compare the form of each deployment of a single model with what the model takes now.

    Raises:
        LedgerError: Prefect's API could not be read.
    """
    return [_drift_of(deployment) for deployment in call(lambda _: _deployments())]


async def _deployments() -> list[DeploymentResponse]:
    client, found = await prefect_client(), list[DeploymentResponse]()
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    with as_ledger_error(_READ):
        while page := await client.read_deployments(
            deployment_filter=tagged, limit=200, offset=len(found)
        ):
            found += page
    return found


def _drift_of(deployment: DeploymentResponse) -> Drift:
    fixed = deployment.parameters
    model = str(fixed.get("model", ""))
    name = f"run-model/{deployment.name}"
    try:
        schema = call_as(_credentials_in(fixed), schema_of, model)
    except ReplicateError as exc:
        return Drift(name, model, [], str(exc))
    return Drift(name, model, changes_in(deployment.parameter_openapi_schema, fixed, schema))


def _credentials_in(fixed: Mapping[str, Any]) -> ReplicateCredentials | None:
    if "credentials" not in fixed:
        return None

    async def load(_: Any) -> ReplicateCredentials:
        with as_ledger_error("load the credentials block of a deployment"):
            try:
                block = UUID(fixed["credentials"]["$ref"]["block_document_id"])
            except (TypeError, KeyError, ValueError):
                raise ConfigurationError(
                    "its `credentials` are not a reference to a saved block: deploy it again"
                ) from None
            return await ReplicateCredentials.aload_from_ref(block)

    return call(load)
