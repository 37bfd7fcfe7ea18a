"""The block that runs a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect.blocks.abstract import JobBlock, JobRun
from pydantic import ConfigDict, Field, field_validator

from prefect_replicate.blocks.credentials import (
    DOCUMENTATION_URL,
    LOGO_URL,
    ReplicateCredentials,
    acall_as,
    call_as,
)
from prefect_replicate.blocks.dispatch import dispatch
from prefect_replicate.blocks.portable import PortableCredentials
from prefect_replicate.engine import Caller, acall, call
from prefect_replicate.exceptions import PredictionError
from prefect_replicate.lifecycle.cancellation import cancel_to_the_end
from prefect_replicate.lifecycle.creation import (
    DEFAULT_TIMEOUT,
    OnCrash,
    Request,
    create,
    deadline_for,
    keeps,
)
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.waiting import OnUpdate, wait
from prefect_replicate.values import ModelReference, PollPolicy, Prediction
from prefect_replicate.values.poll_policy import LONGEST_SECONDS


@dataclass(eq=False, repr=False)
class PredictionRun(JobRun[Any]):
    """A prediction that a `ReplicateModel` started. Not a block.

    A task may return it. The stored result never holds the token: another process loads the saved
    block, or reads its own environment.
    """

    prediction: Prediction
    """The prediction as it was last seen."""
    timeout: float | None
    policy: PollPolicy
    account: PortableCredentials

    async def await_for_completion(self, on_update: OnUpdate | None = None) -> None:
        """Async version of `wait_for_completion`."""
        await acall_as(await acall(self._credentials), self._wait, on_update)

    @dispatch(await_for_completion)
    def wait_for_completion(self, on_update: OnUpdate | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as every Prefect block does
        """Poll the prediction until it succeeds.

        Raises:
            PredictionFailedError: The model failed.
            PredictionCanceledError: It was canceled or aborted.
            PredictionTimeoutError: The block's timeout passed, and it was canceled.
        """
        call_as(call(self._credentials), self._wait, on_update)

    async def afetch_result(self) -> Any:
        """Async version of `fetch_result`."""
        return self._output()

    @dispatch(afetch_result)
    def fetch_result(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the prediction's `output`, which Replicate keeps for one hour.

        Raises:
            PredictionError: It has not succeeded.
        """
        return self._output()

    async def acancel(self) -> Prediction:
        """Async version of `cancel`."""
        await acall_as(await acall(self._credentials), self._cancel)
        return self.prediction

    @dispatch(acancel)
    def cancel(self) -> Prediction:
        """Cancel the prediction unless it has ended, and return it in its final state."""
        call_as(call(self._credentials), self._cancel)
        return self.prediction

    async def _credentials(self, _: Caller) -> ReplicateCredentials | None:
        return await self.account.get()

    async def _wait(self, run: Run, on_update: OnUpdate | None) -> None:
        self.prediction = await wait(run, self.prediction, self.timeout, self.policy, on_update)

    async def _cancel(self, run: Run) -> None:
        self.prediction = await cancel_to_the_end(run, self.prediction.id, is_known=True)

    def _output(self) -> Any:
        if not self.prediction.is_succeeded:
            raise PredictionError(
                f"Prediction {self.prediction.id} has no result: it is {self.prediction.status}."
                " Call `wait_for_completion` first.",
                self.prediction,
            )
        return self.prediction.output


class ReplicateModel(JobBlock[Any]):
    """Runs a model with saved defaults and limits.

    Example:
        Load a saved model, run it and get its output:
        ```python
        from prefect_replicate import ReplicateModel

        model = ReplicateModel.load("BLOCK_NAME")
        run = model.trigger({"prompt": "a lighthouse in a storm"})
        run.wait_for_completion()
        print(run.fetch_result())
        ```

        In a notebook or an async flow, the same methods are awaited, or block with `_sync=True`:
        ```python
        run = await model.trigger({"prompt": "a lighthouse in a storm"})
        await run.wait_for_completion()
        print(await run.fetch_result())
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Replicate Model"
    _block_type_slug = "replicate-model"
    _logo_url = LOGO_URL
    _documentation_url = DOCUMENTATION_URL
    _description = "Runs a model on Replicate with saved defaults, limits and credentials."

    model: str = Field(
        title="Model",
        description=(
            "Model reference: owner/name, owner/name:version, a 64-hex version,"
            " or deployment:owner/name."
        ),
    )
    credentials: ReplicateCredentials = Field(
        default_factory=ReplicateCredentials,
        title="Credentials",
        description="Account that runs and pays for the predictions.",
    )
    default_input: dict[str, Any] = Field(
        default_factory=dict,
        title="Default input",
        description="Default input of every run; `trigger`'s input overrides it, name by name.",
    )
    timeout: float | None = Field(
        default=DEFAULT_TIMEOUT,
        gt=0,
        le=LONGEST_SECONDS,
        title="Timeout",
        description="Seconds from creation after which a prediction is canceled. None: no limit.",
    )
    policy: PollPolicy = Field(
        default_factory=PollPolicy,
        title="Poll policy",
        description="How often to poll, and separate limits for queue and run time.",
    )

    on_crash: OnCrash = Field(
        default="cancel",
        title="On crash",
        description=(
            "What happens to a prediction when its run crashes: `cancel` it, or `keep` it running"
            " for a retry of the run to continue with."
        ),
    )

    check_input: bool = Field(
        default=True,
        title="Check input",
        description="Whether to check each input against the model's schema before it is sent.",
    )

    @field_validator("model")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        return str(ModelReference.parse(value))

    async def atrigger(self, input: Mapping[str, Any] | None = None) -> PredictionRun:
        """Async version of `trigger`."""
        return self._run_of(await acall_as(self.credentials, create, self._request(input)))

    @dispatch(atrigger)
    def trigger(self, input: Mapping[str, Any] | None = None) -> PredictionRun:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start a prediction.

        Args:
            input: Merged over the block's default input.

        Raises:
            InvalidInputError: Nothing was paid; the message says what to correct.
        """
        return self._run_of(call_as(self.credentials, create, self._request(input)))

    def _run_of(self, prediction: Prediction) -> PredictionRun:
        account = PortableCredentials(self.credentials, saved_in=self._block_document_id)
        return PredictionRun(prediction, self.timeout, self.policy, account)

    def _request(self, input: Mapping[str, Any] | None) -> Request:
        whole = {**self.default_input, **(input or {})}
        deadline, keep = deadline_for(self.timeout), keeps(self.on_crash)
        return Request(
            self.model, whole, deadline, keep_on_crash=keep, check_input=self.check_input
        )
