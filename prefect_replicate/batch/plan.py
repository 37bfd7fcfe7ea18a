"""A batch: its parameters, its items and how they are made, and its parts; pure."""

# No `from __future__ import annotations`: see `video.options`.

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from uuid import UUID

from prefect.blocks.core import Block

from prefect_replicate.batch.requests import (
    check_columns,
    model_requests,
    prompt_in,
    requests_or_lines,
    video_requests,
)
from prefect_replicate.blocks import ReplicateCredentials
from prefect_replicate.blocks.portable import PortableCredentials
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError
from prefect_replicate.generation import (
    CountFromOne,
    FileText,
    GenerationSettings,
    ModelOptions,
    Seconds,
)
from prefect_replicate.ledger.facts import digest
from prefect_replicate.lifecycle.creation import keeps
from prefect_replicate.settings import settings
from prefect_replicate.text import in_line
from prefect_replicate.values import (
    GeneratedVideos,
    ItemOutcome,
    ModelOutputs,
    ModelRequest,
    PollPolicy,
    VideoRequest,
)
from prefect_replicate.video.options import (
    DEFAULT_MODEL,
    VideoOptions,
    VideoSettings,
)

DEFAULT_DEPLOYMENTS = {
    "generate_videos": "generate-videos/video-batch",
    "run_models": "run-models/model-batch",
}
"""Those in `deployments/`, for batches that are started outside of a deployment."""

_PASSED_ON = (
    "timeout",
    "retries",
    "on_crash",
    "regenerate_expired",
    "check_input",
    "concurrency",
    "on_item_failure",
    "max_failures",
    "chunk_size",
)

R = TypeVar("R", VideoRequest, ModelRequest)
OnItemFailure = Literal["continue", "stop"]
FanOut = Literal["tasks", "deployment"]


@dataclass(frozen=True)
class Item:
    """One item of a batch."""

    number: int
    """From 1, in the order of the requests."""
    request: VideoRequest | ModelRequest
    options: VideoOptions | ModelOptions
    equal: int
    """Which of the equal items it is, from 1."""

    @property
    def label(self) -> str:
        """Its name in log lines: its number and the request's `id`, as in the table."""
        id = self.request.id
        return str(self.number) if id is None else f"{self.number} ({in_line(id, 80)})"

    @cached_property
    def outcome(self) -> ItemOutcome:
        """Its outcome before anything has been done."""
        return ItemOutcome(
            number=self.number,
            id=self.request.id,
            prompt=self.options.prompt,
            model=self.options.model,
        )


@dataclass(frozen=True)
class ItemOptions:
    """How each item is made."""

    credentials: PortableCredentials
    destination: Any
    timeout: float | None
    retries: int
    policy: PollPolicy
    keep_on_crash: bool
    keep_for_parent: bool
    regenerate_expired: bool
    check_input: bool = True


@dataclass(frozen=True)
class Part:
    """Some items of a batch, for one process to work on."""

    key: str
    """Key of the batch."""
    items: tuple[Item, ...]
    options: ItemOptions
    concurrency: int
    max_failures: int | None
    log: str = ""
    """The log in which its items are recorded."""
    by: str = ""
    """What works on it: `<flow run>/<execution>`."""
    name: str = ""
    """The `part` parameter of the flow run that works on it."""
    before: int = 0
    """How many items of the batch come before those of its log, which are numbered from 1."""

    def number_of(self, item: Item) -> int:
        """Return an item's number in the log."""
        return item.number - self.before

    def place_of(self, item: Item) -> str:
        """Return what tells an item from equal ones, wherever and however often it is tried."""
        return f"{self.key}:{item.equal}"

    def __str__(self) -> str:
        """Say which items they are."""
        first, last = self.items[0].number, self.items[-1].number
        return f"item {first}" if first == last else f"items {first} to {last}"


def items_of(
    requests: Sequence[R],
    options_of: Callable[[R], VideoOptions | ModelOptions],
    before: int = 0,
) -> list[Item]:
    """Number the items, after those `before` them in the batch, and add the options of each."""
    items, equal = list[Item](), Counter[str]()
    for number, request in enumerate(requests, before + 1):
        options = options_of(request)
        like = fingerprint([options])
        equal[like] += 1
        items.append(Item(number, request, options, equal[like]))
    return items


def _inputs_of(items: Sequence[Item]) -> list[tuple[str, dict[str, Any]]]:
    """Return the model of each item, and the inputs that are its request's own."""
    return [(item.options.model, item.request.input) for item in items]


def fingerprint(options: Sequence[VideoOptions | ModelOptions]) -> str:
    """Return a digest of what to make."""
    content = [{part.name: getattr(one, part.name) for part in fields(one)} for one in options]
    return digest(json.dumps(content, sort_keys=True, default=_identity))


def _identity(value: Any) -> str:
    """Return a text that identifies a value that JSON can't hold, the same in every process."""
    if hasattr(value, "read") and value.seekable():
        value.seek(0)
        value = value.read()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def in_parts(whole: Part, size: int) -> list[Part]:
    """Split a batch into parts of at most `size` items."""
    starts = range(0, len(whole.items), size)
    return [replace(whole, items=whole.items[start : start + size]) for start in starts]


def failures_allowed(on_item_failure: str, max_failures: int | None) -> int | None:
    """Return how many items may fail before no more are started; `None`: all of them.

    Raises:
        InvalidInputError: One of the two is invalid.
    """
    if on_item_failure not in ("continue", "stop"):
        raise InvalidInputError(
            f"on_item_failure must be 'continue' or 'stop', not {on_item_failure!r}."
        )
    if max_failures is not None and max_failures < 0:
        raise InvalidInputError(f"max_failures must be 0 or more, not {max_failures}.")
    return 0 if on_item_failure == "stop" else max_failures


def check_positive(**numbers: int) -> None:
    """Refuse a number that is not at least 1.

    Raises:
        InvalidInputError: A number is below 1; the message names the first one.
    """
    for name, number in numbers.items():
        if number < 1:
            raise InvalidInputError(f"{name} must be at least 1, not {number}. Nothing was paid.")


def merged(items: Iterable[Item], *sources: Mapping[int, ItemOutcome]) -> list[ItemOutcome]:
    """Return the outcome of each item, in order; a success in any source counts."""
    return [_best([source[item.number] for source in sources if item.number in source], item)
            for item in items]  # fmt: skip


def _best(known: Sequence[ItemOutcome], item: Item) -> ItemOutcome:
    done = [one for one in known if one.state == "succeeded"]
    return (done or [*reversed(known)] or [item.outcome])[0]


@dataclass(frozen=True, kw_only=True)
class BatchSettings(GenerationSettings):
    """The parameters that all batches share; their flows document them."""

    ADVANCED: ClassVar[tuple[str, ...]] = (
        "concurrency",
        "on_item_failure",
        "max_failures",
        "chunk_size",
        "fan_out",
        "worker_timeout",
        *GenerationSettings.ADVANCED,
    )
    NOT_IN_FORMS: ClassVar[tuple[str, ...]] = ("requests", "prompt", "part", "deployment")

    concurrency: CountFromOne = 100
    on_item_failure: OnItemFailure = "continue"
    max_failures: int | None = None
    raise_on_failure: bool = True
    chunk_size: CountFromOne = 100
    fan_out: FanOut = "tasks"
    worker_timeout: Seconds = 600.0
    part: str = ""

    @property
    def lent(self) -> PortableCredentials:
        assert isinstance(self, VideoBatch | ModelBatch)  # both have credentials
        return PortableCredentials(self.credentials)

    @property
    def is_handed_out(self) -> bool:
        return self.fan_out == "deployment"

    @property
    def before(self) -> int:
        """How many items of the whole batch come before those of this run, which does a part."""
        number = self.part.rpartition(".")[2]  # see `handed_out`
        return (int(number) - 1) * self.chunk_size if number.isdecimal() else 0

    def check(self) -> None:
        """Refuse invalid parameters.

        Raises:
            InvalidInputError: A parameter is invalid; the message names the first one.
        """
        check_positive(concurrency=self.concurrency, chunk_size=self.chunk_size)
        if self.fan_out not in ("tasks", "deployment"):
            raise InvalidInputError(
                f"fan_out must be 'tasks' or 'deployment', not {self.fan_out!r}."
            )

    def whole(self, items: Sequence[Item]) -> Part:
        """Return the whole batch as one part, still without its key."""
        options = ItemOptions(
            credentials=self.lent,
            destination=self.destination,
            timeout=self.timeout,
            retries=self.retries,
            policy=self.policy or settings().policy,
            keep_on_crash=keeps(self.on_crash),
            keep_for_parent=bool(self.part),
            regenerate_expired=self.regenerate_expired,
            check_input=self.check_input,
        )
        allowed = failures_allowed(self.on_item_failure, self.max_failures)
        return Part("", tuple(items), options, self.concurrency, allowed, before=self.before)


@dataclass(frozen=True)
class _Source:
    requests: list[VideoRequest | dict[str, Any] | str] | None = None
    model: str = DEFAULT_MODEL
    input: dict[str, Any] | None = None
    credentials: ReplicateCredentials | None = None
    prompts: list[str] | None = field(default=None, kw_only=True)
    prompt: str | None = field(default=None, kw_only=True)
    variations: list[dict[str, Any]] | None = field(default=None, kw_only=True)
    path: FileText = field(default=None, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class VideoBatch(BatchSettings, VideoSettings, _Source):
    """The parameters of `generate_videos`, which documents them."""

    FLOW: ClassVar[str] = "generate_videos"
    ARTIFACT: ClassVar[str] = "generated-videos"
    deployment: str | None = None

    async def items(self) -> list[Item]:
        """Read the items.

        Raises:
            InvalidInputError: They are invalid.
        """
        requests, prompt = requests_or_lines(self.requests, self.prompts), self.prompt
        if self.variations is not None and self.prompts is not None and prompt is None:
            requests, prompt = None, prompt_in(self.prompts)
        found = await video_requests(requests, prompt, self.variations, self.path)
        options = partial(VideoOptions.of, model=self.model, input=self.input, **self.common)
        items = items_of(found, options, self.before)
        if self.path is not None and self.check_input:
            await check_columns(self.path, _inputs_of(items), self.credentials)
        return items

    def result(self, outcomes: list[ItemOutcome], wall_seconds: float) -> GeneratedVideos:
        return GeneratedVideos(outcomes=outcomes, wall_seconds=wall_seconds)


@dataclass(frozen=True)
class _ModelSource:
    requests: list[ModelRequest | dict[str, Any] | str] | None = None
    model: str | None = None
    input: dict[str, Any] | None = None
    credentials: ReplicateCredentials | None = None
    prompts: list[str] | None = field(default=None, kw_only=True)
    variations: list[dict[str, Any]] | None = field(default=None, kw_only=True)
    path: FileText = field(default=None, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class ModelBatch(BatchSettings, _ModelSource):
    """The parameters of `run_models`, which documents them."""

    FLOW: ClassVar[str] = "run_models"
    ARTIFACT: ClassVar[str] = "model-outputs"
    deployment: str | None = None

    async def items(self) -> list[Item]:
        """Read the items.

        Raises:
            InvalidInputError: They are invalid, or one has no model.
        """
        requests = requests_or_lines(self.requests, self.prompts)
        found = await model_requests(requests, self.variations, self.path)
        items = items_of(found, self._options_of, self.before)
        if self.path is not None and self.check_input:
            own = ("model", "id")
            await check_columns(self.path, _inputs_of(items), self.credentials, own)
        return items

    def _options_of(self, request: ModelRequest) -> ModelOptions:
        model = request.model or self.model
        if model is None:
            raise InvalidInputError(
                "`model` is not given, and not all items name one. Nothing was paid."
            )
        return ModelOptions(model, {**(self.input or {}), **request.input})

    def result(self, outcomes: list[ItemOutcome], wall_seconds: float) -> ModelOutputs:
        return ModelOutputs(outcomes=outcomes, wall_seconds=wall_seconds)


Batch: TypeAlias = VideoBatch | ModelBatch


def handed_out(whole: Part, size: int, root: UUID, equal: int) -> list[Part]:
    """Split a batch into parts, with the keys that they have in the runs that get them; pure.

    Args:
        whole: The batch.
        size: Items per part.
        root: The root run.
        equal: Which of several equal batches of that run it is.
    """
    parts = in_parts(whole, size)
    names = [f"{equal}.{number}" for number in range(1, len(parts) + 1)]
    return [
        replace(part, name=name, key=key_of_part(root, name, part.items), log=log_of(root, name))
        for name, part in zip(names, parts, strict=True)
    ]


def log_of(run: UUID, part: str) -> str:
    """Return the name of the log in which the items of a part are recorded.

    Args:
        run: The root run, or the run of a whole batch.
        part: `<batch>.<number>`.
    """
    batch, _, number = part.rpartition(".")
    return f"{digest([str(run), batch])[:16]}-b{number if number.isdecimal() else 0}"


def key_of_part(root: UUID, name: str, items: Sequence[Item]) -> str:
    """Return a key for what to make, in which run, and as which of its batches or parts."""
    options = fingerprint([item.options for item in items])
    return f"replicate-{digest([str(root), name, options])[:16]}"


def parameters_for(batch: Batch, part: Part) -> dict[str, Any]:
    """Return the parameters of the flow run that works on a part, as JSON.

    Raises:
        ConfigurationError: A block among them is not saved, and can't be passed on.
        InvalidInputError: An input can't be sent.
    """
    credentials = batch.lent.reference()
    own = {
        **({"credentials": credentials} if credentials else {}),
        "requests": [item.request.model_dump(exclude_defaults=True) for item in part.items],
        "destination": destination_reference(batch.destination),
        "policy": batch.policy and batch.policy.model_dump(),
        "raise_on_failure": False,
        "part": part.name,
    }
    common = batch.common if isinstance(batch, VideoBatch) else {}
    names = ("model", "input", *common, *_PASSED_ON)
    parameters = {name: getattr(batch, name) for name in names} | own
    try:
        return json.loads(json.dumps(parameters))
    except TypeError as exc:
        raise InvalidInputError(
            f"The batch can't be passed to other runs: {exc}. Use URLs for files. Nothing was paid."
        ) from exc


def destination_reference(destination: Any) -> str | None:
    """Return the destination as a text for other processes; `None`: that of their settings.

    Raises:
        ConfigurationError: It is a block that is not saved.
    """
    if isinstance(destination, Block):
        name = destination._block_document_name  # pyright: ignore[reportPrivateUsage] no public way
        if name is None:
            raise ConfigurationError(
                f"The {type(destination).__name__} block given as destination is not saved, and"
                " can't be passed to other processes. Save it with `.save(NAME)`. Nothing was paid."
            )
        return f"block:{destination.get_block_type_slug()}/{name}"
    return None if destination is None else str(destination)
