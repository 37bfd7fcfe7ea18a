"""Finds models, versions and deployments by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from prefect_replicate.emulator.models.kinds import kinds
from prefect_replicate.emulator.models.model import Deployment, Model, Version
from prefect_replicate.emulator.models.timer import timers
from prefect_replicate.emulator.models.videos import STUDIOS

_COLLECTIONS = (
    ("text-to-image", "Generate images", "Models that make images from text", "picture"),
    ("language-models", "Large language models", "Models that answer in text", "language"),
    ("text-to-speech", "Generate speech", "Models that read text out", "speech"),
    ("embedding-models", "Get embeddings", "Models that turn text into vectors", "embedding"),
    ("audio-separation", "Separate audio", "Models that take sound apart", "separation"),
)
_VERSION_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Collection:
    """Models that belong together, by their full names."""

    slug: str
    name: str
    description: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """Everything that can be run."""

    models: tuple[Model, ...]
    deployments: tuple[Deployment, ...]
    collections: tuple[Collection, ...] = ()

    def with_model(self, model: Model) -> Catalogue:
        """Return this catalogue with `model`, in place of any with the same name."""
        others = (one for one in self.models if one.full_name != model.full_name)
        deployments = (
            replace(one, model=model, pinned=None)
            if one.model.full_name == model.full_name
            else one
            for one in self.deployments
        )
        return replace(self, models=(*others, model), deployments=tuple(deployments))

    def with_deployment(self, deployment: Deployment) -> Catalogue:
        """Return this catalogue with `deployment`, in place of any with the same name."""
        others = self.without_deployment(deployment.full_name).deployments
        return replace(self, deployments=(*others, deployment))

    def without_deployment(self, full_name: str) -> Catalogue:
        """Return this catalogue without the deployment `owner/name`."""
        kept = (one for one in self.deployments if one.full_name != full_name)
        return replace(self, deployments=tuple(kept))

    def find_model(self, full_name: str) -> Model | None:
        """Return the model `owner/name`, if there is one."""
        return next((one for one in self.models if one.full_name == full_name), None)

    def find_deployment(self, full_name: str) -> Deployment | None:
        """Return the deployment `owner/name`, if there is one."""
        return next((one for one in self.deployments if one.full_name == full_name), None)

    def resolve(self, reference: str) -> tuple[Model, Version] | None:
        """Return the model and version that a create's `version` means.

        It may be 64 hexadecimal digits, `owner/name:` followed by those, or the `owner/name` of an
        official model; return `None` if it is none of these or unknown.
        """
        name, colon, version_id = reference.partition(":")
        if colon:
            model = self.find_model(name)
            return _pair(model, version_id) if model else None
        if _VERSION_ID.fullmatch(reference):
            pairs = (_pair(model, reference) for model in self.models)
            return next((pair for pair in pairs if pair), None)
        model = self.find_model(reference)
        return (model, model.latest_version) if model and model.is_official else None


def default_catalogue() -> Catalogue:
    """Return all models, two deployments, and the collections."""
    videos = tuple(studio.model() for studio in STUDIOS)
    official_timer, community_timer = timers()
    ltx = next(model for model in videos if not model.is_official)
    return Catalogue(
        models=(*videos, *kinds(), official_timer, community_timer),
        deployments=(
            Deployment("acme", "studio-video", ltx),
            Deployment("acme", "timer", community_timer),
        ),
        collections=(
            Collection(
                "text-to-video",
                "Generate videos",
                "Models that make videos from text and images",
                tuple(model.full_name for model in videos),
            ),
            *(
                Collection(slug, name, description, (f"emulator/{model}",))
                for slug, name, description, model in _COLLECTIONS
            ),
        ),
    )


def _pair(model: Model, version_id: str) -> tuple[Model, Version] | None:
    version = model.find_version(version_id)
    return (model, version) if version else None
