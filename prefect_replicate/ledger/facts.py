"""The records of paid calls, and what they say; pure.

Each call has a log on the flow run at the top of those around it: a row of facts under the keys
`replicate-<call>-<slot>-<number>`. Prefect lets each key be written only once. So a process that
writes the next number has seen all earlier facts, and a process that comes second gets a conflict.
Announcing a create this way gives the right to pay for it.

`<call>` is a digest of account, model and input. Equal calls share it, and each has its own slot.
The items of a batch share a log, under `replicate-<batch>-b<part>-<number>`, with facts about many
calls.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, cast
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values import ModelReference, OutputFile, Prediction
from prefect_replicate.values.data_uri import elided
from prefect_replicate.values.poll_policy import LONGEST_SECONDS
from prefect_replicate.values.prediction import TERMINAL_STATUSES

PREFIX = "replicate-"

INTENT = "intent"
"""The status of an announced create whose prediction is not known yet."""

VOID = "void"
"""The status of a create that has made no prediction."""

REDACTED = "[REDACTED]"
"""What Replicate shows in place of a secret input."""

_LARGEST = 10**308
"""Larger integers don't fit into a float."""

_USELESS = {VOID, "canceled", "aborted"}

UNKNOWN_MODEL = "unknown model"
"""For a prediction that somebody else has made, and that does not name its model."""


def _of_our_time(moment: datetime) -> datetime:
    """Refuse a time so extreme that adding or subtracting an hour might not give a date."""
    if not 2000 < moment.year < 3000:
        raise ValueError("it is not of our time")
    return moment


_Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)]
_Seconds = Annotated[float, Field(ge=0, le=2 * LONGEST_SECONDS)]


class Claim(NamedTuple):
    """Who makes a call: the attempt of the run at the top, and a name among its equal calls."""

    attempt: str
    name: str


class Ancestor(NamedTuple):
    """A flow run that a call is made in."""

    id: UUID
    lives_by_itself: bool
    """Whether it continues whatever happens to the runs around it, unless they are canceled."""


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Origin(_Content):
    """The runs that a call is made for, and its credentials."""

    flow_runs: tuple[Ancestor, ...] = ()
    """The flow run of the call and those around it, up to the one at the top."""
    base_url: str
    credentials_block: UUID | None = None
    """The saved block with the API token; `None` if it came from the environment."""
    keep_on_crash: bool = False
    """Whether a crash of the run leaves the prediction running, for a retry to continue with."""
    keep_for_parent: bool = False
    """Whether a crash of only its own flow run leaves it running, since the parent run then starts
    another flow run in its place."""


class Intent(_Content):
    """A create that is about to be sent, with what identifies its prediction."""

    call: str
    model: str
    input_digest: dict[str, str]
    at: _Moment
    """By Replicate's clock."""
    cancel_after: _Seconds


class Made(_Content):
    """The prediction of a create."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    url: str


class Ended(_Content):
    """How a prediction has ended."""

    status: Annotated[str, Field(pattern=f"^({'|'.join(sorted(TERMINAL_STATUSES))})$")]
    predict_time: _Seconds | None = None


class Said(_Content):
    """What has happened to a call, or who continues it."""

    claim: Claim | None = None
    """Who owns the call from now on."""
    origin: Origin | None = None
    intent: Intent | None = None
    made: Made | None = None
    is_void: bool = False
    """Whether the announced create has made no prediction."""
    ended: Ended | None = None
    stored: list[OutputFile] | None = None
    output: Any = None
    """Text or JSON, in place of files."""
    is_awaited: bool = False
    """Whether `origin` waits for it in addition to the runs that already do."""


class OfCall(Said):
    """What a fact about many calls says about one of them."""

    log: str
    """`<call>-<slot>`."""
    of: str | None = None
    """The id of the fact that announced the create that this is news about."""


class OfItems(_Content):
    """Changes to the state of a batch's items."""

    part: str
    """The key of the part that they belong to."""
    by: str
    """Who works on it: `<flow run>/<execution>`."""
    items: dict[int, dict[str, Any]]
    """By number within the part: changed fields of its `ItemOutcome`."""


class Fact(Said):
    """One entry of a log."""

    version: Literal[1]
    id: str
    """Unique to this write, to tell a repeated write from somebody else's."""
    process: str
    calls: list[OfCall] = []
    """In the log of a batch. `origin` then applies to calls without their own."""
    items: list[OfItems] = []
    """Of that batch."""
    stops: list[str] = []
    """Flow runs that must start nothing more of it, since too many items have failed."""


@dataclass(frozen=True)
class Generation:
    """What is known about one paid call."""

    announced_by: str
    """The id of the fact."""
    intent: Intent
    origin: Origin
    written_at: datetime
    """When the intent was written, by the clock of Prefect's server."""
    process: str
    """The process that announced it."""
    awaited_by: tuple[tuple[Ancestor, ...], ...]
    """The flow runs that want it, each with those around it."""
    status: str = INTENT
    prediction_id: str | None = None
    web_url: str | None = None
    predict_time: float | None = None
    stored: tuple[OutputFile, ...] = ()
    output: Any = None

    @property
    def is_open(self) -> bool:
        """Whether a prediction may be running for it."""
        return self.status not in TERMINAL_STATUSES and self.status != VOID

    @property
    def is_unknown(self) -> bool:
        """Whether its create may be in flight, or may have made a prediction that is not known."""
        return self.status == INTENT

    @property
    def is_useful(self) -> bool:
        """Whether another attempt can continue with it."""
        return self.status not in _USELESS

    def has_made(self, prediction: Prediction) -> bool:
        """Whether a prediction may be this call's; a fact may name any prediction."""
        sent = self.intent.input_digest
        return bool(sent or not _given(prediction)) and may_be_of(
            prediction, self.intent.model, sent
        )

    def outlives_crash_of(self, flow_run_id: UUID) -> bool:
        """Whether the prediction keeps running when the given one of its flow runs crashes."""
        is_own = [one.id for one in self.origin.flow_runs[:1]] == [flow_run_id]
        return self.origin.keep_on_crash or (self.origin.keep_for_parent and is_own)

    def is_below(self, flow_run_id: UUID, *, of_deployments: bool) -> bool:
        """Whether a flow run, or one that it has started, wants it.

        Args:
            flow_run_id: The run.
            of_deployments: Whether runs below it that live by themselves count.
        """
        for around in self.awaited_by:
            for ancestor in around:
                if ancestor.id == flow_run_id:
                    return True
                if ancestor.lives_by_itself and not of_deployments:
                    break
        return False


class Log:
    """What the known facts of one log say.

    Args:
        name: `<call>-<slot>`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.next = 0
        """The number of the next fact."""
        self.claims: dict[str, str] = {}
        """By attempt: the call that has this slot."""
        self.facts: set[str] = set()
        """The ids of the known facts."""
        self.generation: Generation | None = None
        self.former_ids: set[str] = set()
        """Predictions of the call that were replaced by others."""

    def holder(self, attempt: str) -> str | None:
        """The call that has this slot in an attempt."""
        return self.claims.get(attempt)

    def apply(self, fact: Fact, written_at: datetime, said: Said | None = None) -> None:
        """Apply the next fact.

        Args:
            fact: As it was written.
            written_at: By the clock of Prefect's server.
            said: What it says about this call, if it is about many.
        """
        self.next += 1
        self.facts.add(fact.id)
        said = said or fact
        known, origin = self.generation, said.origin
        if said.claim is not None:
            self.claims.setdefault(said.claim.attempt, said.claim.name)
            origin = origin or fact.origin
        if said.intent is not None and origin is not None:
            if known is not None and known.prediction_id is not None:
                self.former_ids.add(known.prediction_id)
            self.generation = Generation(
                fact.id, said.intent, origin, written_at, fact.process, (origin.flow_runs,)
            )
        elif origin is not None and known is not None:
            awaited_by = (*(known.awaited_by if said.is_awaited else ()), origin.flow_runs)
            origin = known.origin if said.is_awaited else origin
            self._change(origin=origin, awaited_by=awaited_by)
        self._hear(said)

    def hear(self, news: OfCall) -> None:
        """Apply news about a create, unless another create has replaced it."""
        if self.generation is not None and self.generation.announced_by == news.of:
            self._hear(news)
        elif news.made is not None:
            self.former_ids.add(news.made.id)

    def _hear(self, said: Said) -> None:
        if said.made is not None:
            made = said.made
            self._change(status="starting", prediction_id=made.id, web_url=made.url)
        if said.is_void and self.generation is not None and self.generation.is_unknown:
            self._change(status=VOID)
        if said.ended is not None:
            ended = said.ended
            self._change(status=ended.status, predict_time=ended.predict_time)
        if said.stored is not None:
            self._change(stored=tuple(said.stored), output=said.output)

    def _change(self, **changes: Any) -> None:
        if self.generation is not None:  # otherwise, somebody else wrote the fact
            self.generation = replace(self.generation, **changes)


def choose(logs: Mapping[int, Log], claim: Claim) -> int:
    """Return a call's slot: its own, else one that no call of its attempt has, else a new one.

    Equal calls are interchangeable, so any slot of an earlier attempt will do. The one that had the
    same name there comes first, since others may know it by that name.

    Args:
        logs: The logs of all equal calls, by slot.
        claim: Who makes the call.
    """
    mine = [slot for slot, log in logs.items() if log.holder(claim.attempt) == claim.name]
    if mine:
        return max(mine)
    free = [slot for slot, log in sorted(logs.items()) if log.holder(claim.attempt) is None]
    # If nothing is announced yet, a call of another attempt in this process is about to do so.
    useful = [slot for slot in free if (one := logs[slot].generation) is None or one.is_useful]
    own = [slot for slot in useful if claim.name in logs[slot].claims.values()]
    return next(iter([*own, *useful]), max(logs, default=0) + 1)


def made(prediction: Prediction) -> Made:
    return Made(id=prediction.id, url=prediction.web_url)


def ended(prediction: Prediction) -> Ended:
    return Ended(status=prediction.status, predict_time=prediction.predict_time)


def digest(value: Any) -> str:
    """Return the SHA-256 of canonical JSON, which does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def input_digest(input: Mapping[str, Any], secrets: Collection[str] = ()) -> dict[str, str]:
    """Return, by name, a short SHA-256 of each given input; `[REDACTED]` for a secret one.

    Args:
        input: As it is sent.
        secrets: Names of secret inputs, as far as they are known.
    """
    shown = dict[str, str]()
    for name, value in input.items():
        if value is not None:
            shown[name] = REDACTED if name in secrets else digest(canonical(value))[:16]
    return shown


def is_input(shown: Mapping[str, Any], sent: Mapping[str, str]) -> bool:
    """Whether an input that Replicate shows may be the one that was sent.

    Replicate writes whole numbers without a fraction and secrets as `[REDACTED]`, and leaves out
    the content of `data:` URIs. If a model's schema is unknown, only the reply says what is secret.

    Args:
        shown: From a reply.
        sent: From `input_digest`.
    """
    given = {name: value for name, value in shown.items() if value is not None}
    return given.keys() == sent.keys() and all(
        REDACTED in (value, sent[name]) or digest(canonical(value))[:16] == sent[name]
        for name, value in given.items()
    )


def may_be_of(prediction: Prediction, model: str, sent: Mapping[str, str]) -> bool:
    """Whether nothing that Replicate shows about a prediction contradicts a call.

    Laxer than `is_input`: inputs that Replicate adds, such as defaults, or leaves out, such as
    deleted ones, don't count. If an input matches, neither does the model's name, which may change.
    Secret inputs must be secret on both sides; otherwise a fact that marks all of them as secret
    would fit any prediction.
    """
    shown = _given(prediction)
    shared = sent.keys() & shown.keys()
    if not all(_is_same(shown[name], sent[name]) for name in shared):
        return False
    is_told = any(sent[name] != REDACTED and not _is_secret(shown[name]) for name in shared)
    return is_told or ((bool(shared) or not shown or not sent) and is_of_model(prediction, model))


def _given(prediction: Prediction) -> dict[str, Any]:
    return {name: value for name, value in prediction.input.items() if value is not None}


def _is_same(shown: Any, sent: str) -> bool:
    if sent == REDACTED or _is_secret(shown):
        return _is_secret(shown)
    return digest(canonical(shown))[:16] == sent


def _is_secret(shown: Any) -> bool:
    """Whether any part of a value is redacted."""
    if isinstance(shown, Mapping):
        return any(map(_is_secret, cast("Mapping[str, Any]", shown).values()))
    if isinstance(shown, list):
        return any(map(_is_secret, cast("list[Any]", shown)))
    return shown == REDACTED


def is_of_model(prediction: Prediction, reference: str) -> bool:
    """Whether a prediction may be of a model, as far as its reply says.

    A deployment's predictions name its model, a bare version does not name its model, and some
    replies leave the model out.
    """
    if prediction.model is None or reference in (UNKNOWN_MODEL, prediction.model):
        return True
    try:
        model = ModelReference.parse(reference)
    except InvalidInputError:  # anybody may have written the record
        return False
    if model.is_deployment or model.full_name is None:
        return True
    return prediction.model.lower() == model.full_name.lower()


def canonical(value: Any) -> Any:
    """Return a value in a form that is the same for all values that Replicate shows alike."""
    if isinstance(value, str):
        return elided(value) if value[:5].lower() == "data:" else value.replace("\r\n", "\n")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value + 0.0  # which also turns -0 into 0
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {name: canonical(one) for name, one in fields if one is not None}
    if isinstance(value, list | tuple):
        return [canonical(one) for one in cast("list[Any]", value)]
    return value
