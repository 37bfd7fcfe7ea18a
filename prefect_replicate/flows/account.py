"""As whom a recorded prediction may be canceled."""

from __future__ import annotations

from prefect_replicate.api.connection import Address
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.ledger.prefect_api import as_ledger_error
from prefect_replicate.ledger.record import Record
from prefect_replicate.lifecycle.bookkeeping import address_of


async def address_for(record: Record, credentials: ReplicateCredentials | None = None) -> Address:
    """The account that a prediction was made with.

    Args:
        record: Names the saved block, if there was one.
        credentials: The account where there was none; `None`: the environment's.

    Raises:
        LedgerError: The block could not be loaded.
        ConfigurationError: There is no token, or the one there is belongs to another address.
    """
    known = address_of(record.prediction_id)
    if known is not None:
        return known
    if record.credentials_block is not None:
        with as_ledger_error("load the credentials block that it was made with"):
            block = await ReplicateCredentials.aload_from_ref(record.credentials_block)
        return block.address()
    address = (credentials or ReplicateCredentials()).address()
    if address.base_url != record.base_url:
        # A record is data that others may write: it must not say where a token goes.
        raise ConfigurationError(
            f"it was made at {record.base_url}, and this process's token is for {address.base_url}."
            " Set REPLICATE_BASE_URL, or use a saved ReplicateCredentials block."
        )
    return address
