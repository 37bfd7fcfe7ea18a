"""One task for each operation on a prediction, sync and async."""

from prefect_replicate.tasks.cancel import acancel_prediction, cancel_prediction
from prefect_replicate.tasks.create import acreate_prediction, create_prediction
from prefect_replicate.tasks.download import adownload_outputs, download_outputs
from prefect_replicate.tasks.get import aget_prediction, get_prediction
from prefect_replicate.tasks.predict import apredict, astore_output, predict, store_output
from prefect_replicate.tasks.wait import await_for_prediction, wait_for_prediction

__all__ = [
    "acancel_prediction",
    "acreate_prediction",
    "adownload_outputs",
    "aget_prediction",
    "apredict",
    "astore_output",
    "await_for_prediction",
    "cancel_prediction",
    "create_prediction",
    "download_outputs",
    "get_prediction",
    "predict",
    "store_output",
    "wait_for_prediction",
]
