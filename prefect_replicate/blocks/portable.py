"""Credentials that go to another process: with a task, in a result, or to a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from prefect.blocks.core import Block

from prefect_replicate.blocks.credentials import ReplicateCredentials, reference_to
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.ledger.prefect_api import as_ledger_error


@dataclass(init=False, repr=False, eq=False)
class PortableCredentials:
    """Credentials that leave their process without a token.

    They leave it as the id of a saved block, or as a block that reads the other process's
    environment. A token that is in no saved block stays behind. `None`: the environment's.
    """

    # A pickle and Prefect's JSON serializer include only the fields.
    block_id: UUID | None
    """Id of the saved credentials block, or of the saved model block that has them."""
    without_token: ReplicateCredentials | None
    is_left_behind: bool

    _here = cast("ReplicateCredentials | None", None)

    def __init__(
        self, credentials: ReplicateCredentials | None, saved_in: UUID | None = None
    ) -> None:
        self._here = credentials
        token = credentials and credentials.api_token
        has_token = token is not None and token.get_secret_value().strip() != ""
        own_id = credentials and credentials._block_document_id  # pyright: ignore[reportPrivateUsage]
        self.block_id = own_id or (saved_in if has_token else None)
        self.without_token = None if has_token else credentials
        self.is_left_behind = has_token and self.block_id is None

    async def get(self) -> ReplicateCredentials | None:
        """Return the credentials, loaded if they came as a reference.

        Raises:
            ConfigurationError: Their token was not saved, and this is another process.
            LedgerError: Prefect's API could not be read, or no longer has the block.
        """
        if self._here is not None:
            return self._here
        if self.is_left_behind:
            raise ConfigurationError(
                "The token of this PredictionRun was in a ReplicateCredentials block that is not"
                " saved, and is not sent to other processes. Here, call"
                " `wait_for_prediction(run.prediction, credentials)`. To use the run itself, save"
                " the block with `credentials.save(NAME)` before `trigger`, or leave `credentials`"
                " out and set REPLICATE_API_TOKEN in both processes."
            )
        if self.block_id is None:
            return self.without_token
        with as_ledger_error("load the credentials block"):
            block: Any = await Block.aload_from_ref(self.block_id)
        self._here = getattr(block, "credentials", block)
        return self._here

    def reference(self) -> dict[str, Any] | None:
        """Return the credentials as the parameter of a deployment's run.

        Raises:
            ConfigurationError: They are not saved, or have no usable token.
        """
        if self.block_id is None and self._here is not None:
            self._here.address()  # its error may be more specific
            raise ConfigurationError(
                "The ReplicateCredentials block is not saved, and its token is not sent to other"
                " processes. Save it with `credentials.save(NAME)`, or leave `credentials` out and"
                " set REPLICATE_API_TOKEN where the work is done. Nothing was paid."
            )
        return reference_to(self.block_id) if self.block_id else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_here"}
