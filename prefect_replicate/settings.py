"""What those who deploy may set, and what runs of deployments may therefore do with files.

Who may start a run of a deployment need not be somebody who may read its worker's files.
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
    """Settings of a worker, or of a process that serves flows, in Prefect's own ways.

    In the environment their names begin with `PREFECT_INTEGRATIONS_REPLICATE_`; in `prefect.toml`
    they stand in `[integrations.replicate]`.
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
        description="Seconds before the first status request, where no `policy` is given.",
    )
    poll_max_interval: float = Field(
        default=_POLICY.max_interval,
        description="Longest pause between status requests in seconds, where no `policy` is given.",
    )
    queue_timeout: float | None = Field(
        default=None,
        description="Seconds that a prediction may be queued, where no `policy` is given.",
    )
    run_timeout: float | None = Field(
        default=None,
        description="Seconds that a prediction may run, where no `policy` is given.",
    )
    sweep_grace: float = Field(
        default=300.0,
        ge=0,
        description="Seconds after which the sweep counts what an ended run has left as orphaned.",
    )
    input_folders: str = Field(
        default="",
        description=(
            "Folders whose files a run of a deployment may send to a model if a parameter names"
            " them, with commas between them. None by default."
        ),
    )
    destination_folders: str = Field(
        default="",
        description=(
            "Folders, and URLs of folders, that a parameter of a deployment's run may name as its"
            " destination, besides that of the setting, with commas between them."
        ),
    )
    previews: bool = Field(
        default=True,
        description="Whether pages and galleries show small images of the files.",
    )
    max_file_size: ByteSize = Field(
        default=ByteSize(10_000_000_000),
        gt=0,
        description="Largest file that is stored, in bytes or as `20GB`; a larger one is refused.",
    )

    @property
    def policy(self) -> PollPolicy:
        """How often to poll, and for how long, where no policy is given."""
        return PollPolicy(
            min_interval=self.poll_min_interval,
            max_interval=self.poll_max_interval,
            queue_timeout=self.queue_timeout,
            run_timeout=self.run_timeout,
        )


def settings() -> ReplicateSettings:
    """The settings as they are now.

    Raises:
        ConfigurationError: One has a value that makes no sense.
    """
    try:
        found = ReplicateSettings()
        found.policy  # noqa: B018 which checks its numbers
        return found
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = str(first["loc"][0]) if first["loc"] else "poll_max_interval"
        own = place if place in ReplicateSettings.model_fields else f"poll_{place}"
        shown = f"{_PREFIX}{own.upper()} is {in_line(repr(first['input']), 80)}"
        raise ConfigurationError(f"{shown}: {first['msg']}.") from exc


def check_input_file(text: str, what: str, *, is_deployed: bool) -> None:
    """Refuse a path in a parameter of a deployment's run that was not allowed.

    Raises:
        InvalidInputError: It is in none of the folders that were named.
    """
    if not is_deployed:
        return
    folders = settings().input_folders
    if not _is_below(text, folders.split(",")):
        raise InvalidInputError(
            f"{what}={text!r} is read as a file on the worker, and a run of a deployment reads"
            f" only from the folders in {INPUT_FOLDERS}: {folders or 'there is none'}. Give a URL,"
            " or add its folder there. Nothing was paid."
        )


def check_destination_folder(destination: object, *, is_deployed: bool) -> None:
    """Refuse a folder in a parameter of a deployment's run that was not allowed.

    Raises:
        ConfigurationError: It is in none of the folders that were named.
    """
    if not is_deployed or (isinstance(destination, str) and destination.startswith("block:")):
        return
    if isinstance(destination, Block):
        if destination._block_document_name is None:  # pyright: ignore[reportPrivateUsage] no public way
            raise ConfigurationError(
                f"destination is a {type(destination).__name__} block that is not saved, and a run"
                " of a deployment takes saved ones alone. Nothing was paid."
            )
        return
    own, others = settings().destination, settings().destination_folders
    if not _is_below(str(destination), [own, *others.split(",")]):
        raise ConfigurationError(
            f"destination={str(destination)!r} comes from whoever starts the run, and a run of a"
            f" deployment stores files only in {own}, in the folders in {DESTINATION_FOLDERS}, or"
            " in a storage block ('block:<type-slug>/<name>'). Nothing was paid."
        )


def path_of(text: str) -> str:
    """The path in the place of a `file:` URL; what else there is as it is."""
    return unquote(text.removeprefix("file://")) if text.startswith("file:///") else text


def or_default(destination: D | None) -> D | str:
    """The destination, or that of the setting where none is given."""
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
    except (OSError, RuntimeError, ValueError):  # an unknown ~user, a loop of links, a null byte
        return False
    return any(path.is_relative_to(one) for one in allowed)
