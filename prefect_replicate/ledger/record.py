"""One record of the ledger; pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_replicate.values import Prediction
from prefect_replicate.values.data_uri import elided
from prefect_replicate.values.moments import as_utc
from prefect_replicate.values.prediction import TERMINAL_STATUSES

INTENT = "intent"
"""The status of a record whose create is under way, or whose process died in the middle of it."""

VOID = "void"
"""The status of a record whose create turned out not to have made a prediction."""


class Claim(NamedTuple):
    """A call, as it is told from equal ones and known again by its retries."""

    attempt: str
    """Of the run at the top."""
    call: str


_CHOICE = re.compile(r"[\w.:+-]{0,16}")
_SAYS_WHAT = re.compile(r"prompt|text|seed")
_PRESENT = "…"
_LARGEST = 10**300
"""Larger integers are no floating-point numbers."""


class Timing(BaseModel):
    """How long a prediction took to succeed, for who waits for another one like it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    workload: str
    seconds_queued: float | None = None
    seconds: float
    """From creation to completion."""

    @classmethod
    def of(cls, prediction: Prediction) -> Timing | None:
        """What a prediction tells of it, if it has succeeded and its times can be trusted."""
        if not prediction.is_succeeded or prediction.data_removed:
            return None
        seconds = _seconds(prediction.created_at, prediction.completed_at)
        if seconds is None or seconds < 0:
            return None
        return cls(
            model=timed_model(prediction),
            workload=workload_of(prediction),
            seconds_queued=_seconds(prediction.created_at, prediction.started_at),
            seconds=seconds,
        )

    def description(self) -> str:
        queued = f", {self.seconds_queued:.1f} s of them queued" if self.seconds_queued else ""
        return f"{self.seconds:.1f} s{queued}"


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return (as_utc(until) - as_utc(since)).total_seconds() if since and until else None


class Record(BaseModel):
    """What is known of one paid call."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    call: str
    model: str
    input_digest: dict[str, str] | None
    """Of the input as it is sent, by `input_digest`; `None` while its files are uploaded."""
    intent_at: datetime
    cancel_after: float
    base_url: str
    credentials_block: UUID | None = None
    """The saved block that has the key; `None` where it came from the environment."""
    flow_runs: tuple[UUID, ...] = ()
    """The flow run of the call and those around it, up to the one at the top."""
    claims: dict[str, str] = Field(default_factory=dict)
    """Which call has it, in each attempt of the run at the top."""
    keep_on_crash: bool = False
    """Whether a crash of the run leaves the prediction running, for a retry to go on with."""
    keep_for_parent: bool = False
    """Whether a crash of its own flow run alone leaves it running, since the run around that has
    another flow run take its place."""
    status: str = INTENT
    prediction_id: str | None = None
    web_url: str | None = None
    seconds_billed: float | None = None
    timing: Timing | None = None

    @property
    def is_open(self) -> bool:
        """Whether a prediction may be running for it."""
        return self.status not in TERMINAL_STATUSES and self.status != VOID

    def showing(self, prediction: Prediction) -> Record:
        """The record, brought up to what Replicate says now."""
        return self.model_copy(
            update={
                "status": prediction.status,
                "prediction_id": prediction.id,
                "web_url": prediction.web_url,
                "seconds_billed": prediction.predict_time,
                "timing": Timing.of(prediction) or self.timing,
            }
        )

    def outlives_crash_of(self, flow_run_id: UUID) -> bool:
        """Whether the prediction is left running when this one of its flow runs crashes."""
        is_own = self.flow_runs[:1] == (flow_run_id,)
        return self.keep_on_crash or (self.keep_for_parent and is_own)

    def is_of_one_of(self, flow_runs: Iterable[UUID]) -> bool:
        """Whether the call was made in one of these flow runs itself."""
        return bool(self.flow_runs) and self.flow_runs[0] in flow_runs

    def claimed_by(self, claim: Claim) -> Record:
        """The record, as one that this call has."""
        return self.model_copy(update={"claims": {**self.claims, claim.attempt: claim.call}})

    def description(self) -> str:
        """The record for people, as Markdown."""
        shown = f"[{self.prediction_id}]({self.web_url})" if self.prediction_id else "no id yet"
        billed = "" if self.seconds_billed is None else f" · {self.seconds_billed:.1f} s billed"
        took = f" · {self.timing.description()}" if self.timing else ""
        return f"**{self.model}** · {shown} · {self.status}{took}{billed}"


def timed_model(prediction: Prediction) -> str:
    """What is timed together: a model, or a deployment, whose machines are its own."""
    if prediction.deployment:
        return f"deployment:{prediction.deployment}"
    return prediction.model or prediction.version or ""


def workload_of(prediction: Prediction) -> str:
    """A short digest of what decides how long a prediction takes.

    That is the version of the model, and from the input: numbers, switches, choices such as `720p`,
    and which files there are; not what the result is to show.
    """
    version = prediction.version
    return digest([timed_model(prediction), version, _deciding(prediction.input)])[:16]


def _deciding(value: Any) -> Any:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {name: _deciding(one) for name, one in fields if not _SAYS_WHAT.search(name)}
    if isinstance(value, list | tuple):
        return [_deciding(one) for one in cast("list[Any]", value)]
    if isinstance(value, str) and not _CHOICE.fullmatch(value):
        return _PRESENT
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON, which is the same whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


REDACTED = "[REDACTED]"
"""What Replicate shows in the place of a secret input."""


def input_digest(input: Mapping[str, Any], secrets: Collection[str] = ()) -> dict[str, str]:
    """By name, a short SHA-256 of each input that is given; of one that is secret, `[REDACTED]`.

    Args:
        input: As it is sent.
        secrets: Their names, as far as they are known.
    """
    given = {name: value for name, value in input.items() if value is not None}
    return {name: REDACTED if name in secrets else _digest_of(one) for name, one in given.items()}


def is_input(shown: Mapping[str, Any], sent: Mapping[str, str]) -> bool:
    """Whether an input that Replicate shows may be the one that was sent.

    Replicate writes whole numbers without a fraction, secrets as `[REDACTED]`, and no content of
    `data:` URIs. Where a model's schema is not known, what it shows alone says what is secret.

    Args:
        shown: In a reply.
        sent: By `input_digest`.
    """
    given = {name: value for name, value in shown.items() if value is not None}
    return given.keys() == sent.keys() and all(
        REDACTED in (value, sent[name]) or _digest_of(value) == sent[name]
        for name, value in given.items()
    )


def _digest_of(value: Any) -> str:
    return digest(_shown(value))[:16]


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {name: _shown(one) for name, one in fields}
    if isinstance(value, list | tuple):
        return [_shown(one) for one in cast("list[Any]", value)]
    if isinstance(value, str):
        return elided(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value + 0.0  # which makes 0 of -0, too
    return value


def call_digest(account: str, model: str, input_digest: Mapping[str, str], place: str = "") -> str:
    """What equal calls share, in whatever run and attempt they are made.

    Args:
        account: Who pays.
        model: The model reference.
        input_digest: Of the whole input, with files by their content.
        place: Tells a call from equal ones that have other places in a batch.
    """
    return digest([account, model, input_digest, *([place] if place else [])])[:16]


def record_key(root: UUID, call: str) -> str:
    """The key that the records of equal calls of a run share, in each of its attempts.

    Args:
        root: The run at the top.
        call: What is called, by `call_digest`.
    """
    return f"replicate-{digest([str(root), call])[:16]}"  # longer ones overflow their card
