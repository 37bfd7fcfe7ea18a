"""A model and its versions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_replicate.emulator.plans import Plan


@dataclass(frozen=True)
class Job:
    """What a model receives: above all its input, with the defaults filled in.

    Args:
        seed: Follows from the model and the input, for inputs without a seed.
        factor: Multiplies the time that models take, except the timers and added models.
        image: Bytes of the first frame, if the input has one that can be read locally.
    """

    model: str
    input: Mapping[str, Any]
    seed: int
    factor: float = 1.0
    image: bytes | None = None


Planner = Callable[[Job], Plan]


@dataclass(frozen=True)
class Version:
    """A version of a model: 64 hexadecimal digits and the schema of its input and output."""

    id: str
    created_at: float
    openapi_schema: Mapping[str, Any]
    cog_version: str = "0.16.8"


@dataclass(frozen=True)
class Model:
    """A model; its newest version comes first."""

    owner: str
    name: str
    description: str
    versions: tuple[Version, ...]
    planner: Planner
    is_official: bool = True
    run_count: int = 0
    image_input: str | None = None

    @property
    def full_name(self) -> str:
        """The model as `owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def latest_version(self) -> Version:
        """The newest version."""
        return self.versions[0]

    def find_version(self, version_id: str) -> Version | None:
        """Return the version with this id, if there is one."""
        return next((one for one in self.versions if one.id == version_id), None)


@dataclass(frozen=True)
class Deployment:
    """A model that an account keeps running under its own name.

    Args:
        pinned: The version that it runs; without one, the newest.
        number: The number of its release, which every change increments.
    """

    owner: str
    name: str
    model: Model
    pinned: Version | None = None
    hardware: str = "gpu-l40s"
    min_instances: int = 0
    max_instances: int = 5
    number: int = 1

    @property
    def full_name(self) -> str:
        """The deployment as `owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def version(self) -> Version:
        """The version that it runs."""
        return self.pinned or self.model.latest_version


def version_id(full_name: str, number: int) -> str:
    """Return the 64 hexadecimal digits of the `number`-th version of a model."""
    return hashlib.sha256(f"{full_name}#{number}".encode()).hexdigest()
