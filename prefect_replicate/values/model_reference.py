"""The model that a prediction runs, and the API route that runs it."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from prefect_replicate.exceptions import InvalidInputError

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_VERSION = r"[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"(?P<deployment>deployment:)?(?P<owner>{_NAME})/(?P<name>{_NAME})(?::(?P<version>{_VERSION}))?"
    rf"|(?P<bare>{_VERSION})"
)
_FORMS = (
    "'owner/name', 'owner/name:version' with a version of 64 hex digits, a bare 64-hex version, "
    "or 'deployment:owner/name'"
)


class ModelReference(BaseModel):
    """A parsed model reference; `str()` returns the text that it was parsed from."""

    model_config = ConfigDict(frozen=True)

    owner: str | None = None
    name: str | None = None
    version: str | None = None
    is_deployment: bool = False

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Parse a reference in one of the four accepted forms.

        Raises:
            InvalidInputError: The text has none of these forms.
        """
        match = _REFERENCE.fullmatch(text.strip())
        if match is None or (match["deployment"] and match["version"]):
            raise InvalidInputError(f"{text!r} is not a model reference; use {_FORMS}.")
        return cls(
            owner=match["owner"],
            name=match["name"],
            version=match["version"] or match["bare"],
            is_deployment=bool(match["deployment"]),
        )

    @property
    def full_name(self) -> str | None:
        """`owner/name`, or `None` for a bare version."""
        return f"{self.owner}/{self.name}" if self.owner else None

    def __str__(self) -> str:
        prefix = "deployment:" if self.is_deployment else ""
        return prefix + ":".join(part for part in (self.full_name, self.version) if part)
