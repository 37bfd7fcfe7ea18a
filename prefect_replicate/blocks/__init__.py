"""The blocks: a saved API token, and a saved model that is ready to run."""

from prefect_replicate.blocks.credentials import ReplicateCredentials
from prefect_replicate.blocks.model import PredictionRun, ReplicateModel

__all__ = ["PredictionRun", "ReplicateCredentials", "ReplicateModel"]
