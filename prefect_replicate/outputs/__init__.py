"""The files of a prediction's output: found, downloaded, verified and stored."""

from prefect_replicate.outputs.destination import Destination, check_destination
from prefect_replicate.outputs.failure import TransferPolicy
from prefect_replicate.outputs.store import is_there, store_outputs

__all__ = ["Destination", "TransferPolicy", "check_destination", "is_there", "store_outputs"]
