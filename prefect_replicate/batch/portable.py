"""An account on its way to where a part of a batch is worked on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.ledger.prefect_api import as_ledger_error


class PortableCredentials:
    """Credentials that leave their process as the id of a saved block, never as a token.

    Within a process they are what they are; `None` stands for the environment's, wherever it is.
    """

    def __init__(
        self, credentials: ReplicateCredentials | None, block_id: UUID | None = None
    ) -> None:
        self._credentials = credentials
        self._block_id = block_id or (credentials and credentials._block_document_id)  # pyright: ignore[reportPrivateUsage]

    async def get(self) -> ReplicateCredentials | None:
        """The credentials, loaded where they have come as a reference.

        Raises:
            LedgerError: Prefect's API could not be read, or does not have the block any more.
        """
        if self._credentials is None and self._block_id is not None:
            with as_ledger_error("load the credentials block"):
                self._credentials = await ReplicateCredentials.aload_from_ref(self._block_id)
        return self._credentials

    def reference(self) -> dict[str, Any] | None:
        """The credentials as the parameter of a deployment's run.

        Raises:
            ConfigurationError: They are not saved.
        """
        self._check_saved()
        return {"$ref": {"block_document_id": str(self._block_id)}} if self._block_id else None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        self._check_saved()
        return type(self), (None, self._block_id)

    def _check_saved(self) -> None:
        if self._credentials is not None and self._block_id is None:
            raise ConfigurationError(
                "The ReplicateCredentials block is not saved, and its token is not sent to other"
                " processes. Save it with `credentials.save(NAME)`, or leave `credentials` out and"
                " set REPLICATE_API_TOKEN where the work is done. Nothing was paid."
            )
