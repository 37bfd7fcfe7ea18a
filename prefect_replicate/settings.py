"""Settings of a worker, and the checks of which files a deployment's runs may use.

Someone who may start a run of a deployment is not necessarily allowed to read its worker's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from prefect.blocks.core import Block
from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import ByteSize, Field, ValidationError

from prefect_replicate.exceptions import ConfigurationError, InvalidInputError
from prefect_replicate.text import in_line
from prefect_replicate.values.poll_policy import PollPolicy

D = TypeVar("D")

_PREFIX = "PREFECT_INTEGRATIONS_REPLICATE_"
_POLICY = PollPolicy()
INPUT_FOLDERS = f"{_PREFIX}INPUT_FOLDERS"
DESTINATION_FOLDERS = f"{_PREFIX}DESTINATION_FOLDERS"
MAX_FILE_SIZE = f"{_PREFIX}MAX_FILE_SIZE"


class ReplicateSettings(PrefectBaseSettings):
    """Settings of a worker, or of a process that serves flows, set like Prefect's own.

    Environment variables start with `PREFECT_INTEGRATIONS_REPLICATE_`; in `prefect.toml`, the
    section is `[integrations.replicate]`.
    """

    model_config = build_settings_config(("integrations", "replicate"))

    destination: str = Field(
        default="~/replicate",
        description=(
            "Where flows, `download_outputs` and the command line store files if no destination is"
            " given: a folder, a URL such as s3://bucket/folder, or block:type-slug/name."
        ),
    )
    poll_min_interval: float = Field(
        default=_POLICY.min_interval,
        description="Seconds before the first status request, if no `policy` is given.",
    )
    poll_max_interval: float = Field(
        default=_POLICY.max_interval,
        description="Longest pause between status requests in seconds, if no `policy` is given.",
    )
    queue_timeout: float | None = Field(
        default=None,
        description="Seconds that a prediction may be queued, if no `policy` is given.",
    )
    run_timeout: float | None = Field(
        default=None,
        description="Seconds that a prediction may run, if no `policy` is given.",
    )
    sweep_grace: float = Field(
        default=300.0,
        ge=0,
        description="Seconds after a run ends before the sweep treats its predictions as orphaned.",
    )
    input_folders: str = Field(
        default="",
        description=(
            "Comma-separated folders whose files a run of a deployment may send to a model if a"
            " parameter names them. None by default."
        ),
    )
    destination_folders: str = Field(
        default="",
        description=(
            "Comma-separated folders and URLs of folders that a run of a deployment may use as its"
            " destination, in addition to the setting `destination`."
        ),
    )
    previews: bool = Field(
        default=True,
        description="Whether pages and galleries show small images of the files.",
    )
    max_file_size: ByteSize = Field(
        default=ByteSize(10_000_000_000),
        gt=0,
        description="Largest file to store, in bytes or as `20GB`; larger files are refused.",
    )

    @property
    def policy(self) -> PollPolicy:
        """How often to poll, and for how long, if no policy is given."""
        return PollPolicy(
            min_interval=self.poll_min_interval,
            max_interval=self.poll_max_interval,
            queue_timeout=self.queue_timeout,
            run_timeout=self.run_timeout,
        )


def settings() -> ReplicateSettings:
    """Return the current settings.

    Raises:
        ConfigurationError: A setting has an invalid value.
    """
    try:
        found = ReplicateSettings()
        found.policy  # noqa: B018 reading it checks its numbers
        return found
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = str(first["loc"][0]) if first["loc"] else "poll_max_interval"
        own = place if place in ReplicateSettings.model_fields else f"poll_{place}"
        shown = f"{_PREFIX}{own.upper()} is {in_line(repr(first['input']), 80)}"
        raise ConfigurationError(f"{shown}: {first['msg']}.") from exc


def check_input_file(text: str, what: str, *, is_deployed: bool) -> None:
    """Refuse a path that a deployment's run may not read.

    Raises:
        InvalidInputError: It is in none of the allowed folders.
    """
    if not is_deployed:
        return
    folders = settings().input_folders
    if not _is_below(text, folders.split(",")):
        raise InvalidInputError(
            f"{what}={text!r} is a path on the worker, and a run of a deployment may read files"
            f" only from the folders in {INPUT_FOLDERS}: {folders or 'none are set'}. Use a URL,"
            " or add the file's folder to that setting. Nothing was paid."
        )


def check_destination_folder(destination: object, *, is_deployed: bool) -> None:
    """Refuse a destination that a deployment's run may not write to.

    Raises:
        ConfigurationError: It is in none of the allowed folders.
    """
    if not is_deployed or (isinstance(destination, str) and destination.startswith("block:")):
        return
    if isinstance(destination, Block):
        if destination._block_document_name is None:  # pyright: ignore[reportPrivateUsage] no public way
            raise ConfigurationError(
                f"destination is a {type(destination).__name__} block that is not saved, but a run"
                " of a deployment accepts only saved blocks. Nothing was paid."
            )
        return
    own, others = settings().destination, settings().destination_folders
    if not _is_below(str(destination), [own, *others.split(",")]):
        raise ConfigurationError(
            f"destination={str(destination)!r} is not allowed: a run of a deployment may store"
            f" files only where its deployment says, in {own}, in the folders in"
            f" {DESTINATION_FOLDERS}, or in a storage block ('block:<type-slug>/<name>'). Nothing"
            " was paid."
        )


def path_of(text: str) -> str:
    """Return the path of a `file:` URL, and any other text unchanged."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def or_default(destination: D | None) -> D | str:
    """Return the destination, or the setting's if none is given."""
    return settings().destination if destination is None else destination


def _is_below(text: str, folders: Iterable[str]) -> bool:
    named = [path_of(one.strip()) for one in folders if one.strip()]
    text = path_of(text)
    if "://" in text:
        is_plain = text.isprintable() and not re.search(r"[% ]|(^|/)\.\.(/|$)", text)
        return is_plain and any(f"{text}/".startswith(f"{one.rstrip('/')}/") for one in named)
    try:
        path = Path(text).expanduser().resolve()
        allowed = [
            Path(one).expanduser().resolve()
            for one in named
            if "://" not in one and not one.startswith("block:")
        ]
    except (OSError, RuntimeError, ValueError):  # an unknown ~user, a symlink loop, a null byte
        return False
    return any(path.is_relative_to(one) for one in allowed)
