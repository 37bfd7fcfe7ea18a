"""Starting a prediction exactly once for a call, whatever happens on the way.

From top to bottom: if an earlier attempt or another process has started the call, continue with its
prediction. Otherwise, the limits admit the create, the ledger announces it, and it is sent. If a
create gets no reply, its prediction is searched for before another create is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from prefect_replicate.api.connection import LostReplyError, Refused
from prefect_replicate.api.input_files import read_files, send_files, without_content
from prefect_replicate.api.models import ResolvedModel, resolve_model
from prefect_replicate.api.predictions import get_prediction, post_prediction
from prefect_replicate.engine import Recent, process_state
from prefect_replicate.exceptions import (
    APIUnreachableError,
    InvalidInputError,
    LedgerError,
    ReplicateError,
    UncertainCreateError,
)
from prefect_replicate.ledger.facts import (
    PREFIX,
    Claim,
    Intent,
    Origin,
    digest,
    input_digest,
    made,
    may_be_of,
)
from prefect_replicate.ledger.ledger import Ledger, ledger_of
from prefect_replicate.ledger.limits import AHEAD_SECONDS, NAME, slots
from prefect_replicate.ledger.log import OwnLog, this_process
from prefect_replicate.ledger.prefect_api import server_clock
from prefect_replicate.ledger.scope import Ancestry, ancestry_of
from prefect_replicate.lifecycle.adoption import (
    ANSWERED,
    LOOKS,
    Sought,
    look_for_lost,
    take,
    under_way,
)
from prefect_replicate.lifecycle.bookkeeping import announce, record_outcome
from prefect_replicate.lifecycle.cancellation import outlives_end_of_run, stop, stop_unless_kept
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.run_watch import (
    end_of_run,
    has_ended,
    look_for_end_elsewhere,
    refuse_if_ended,
    refuse_if_known_to_have_ended,
)
from prefect_replicate.outputs import is_there
from prefect_replicate.values import Prediction
from prefect_replicate.values.given import as_given
from prefect_replicate.values.model_schema import validate_input

DEFAULT_TIMEOUT = 3600.0
"""Seconds from creation. Replicate itself stops a model after 30 minutes of running; the rest is
for the queue and the boot (https://replicate.com/docs/topics/predictions/lifecycle)."""

UNWATCHED_SECONDS = 24 * 3600.0
"""The deadline of a prediction whose wait has no limit, in case nobody is left to end it."""

SEND_SECONDS = 10.0
"""A create is sent no later than this after it was announced, or announced again."""

ABANDONED_SECONDS = ANSWERED.total_seconds()

PAUSE_SECONDS = 1.0
"""Between two reads of what another process has done with a create."""

SILENT_SECONDS = 3.0
"""A longer wait for the limits is logged, and watches for the end of its flow run."""

_MARGIN = 60.0
_LOST_REPLIES = 3

OnCrash = Literal["cancel", "keep"]
"""What happens to a prediction when its run crashes."""


def deadline_for(timeout: float | None) -> float:
    """Return the seconds after creation at which Replicate ends an unwatched prediction.

    A little after the wait's own timeout, so that the wait can cancel and report how it ended.
    """
    return UNWATCHED_SECONDS if timeout is None else timeout + _MARGIN


def keeps(on_crash: str) -> bool:
    """Whether a prediction keeps running when its run crashes.

    Raises:
        InvalidInputError: `on_crash` is neither `cancel` nor `keep`.
    """
    if on_crash not in get_args(OnCrash):
        raise InvalidInputError(f"on_crash must be 'cancel' or 'keep', not {on_crash!r}.")
    return on_crash == "keep"


@dataclass(frozen=True)
class Request:
    """A prediction that a user asks for."""

    model: str
    input: Mapping[str, Any]
    cancel_after: float
    replaces: str | None = None
    """The failed prediction that this one replaces, which makes it the same call."""
    keep_on_crash: bool = False
    regenerate_expired: bool = False
    place: str = ""
    """What distinguishes it from equal calls, if it is a batch item."""
    keep_for_parent: bool = False
    batch: str = ""
    """The log of its batch, if it is a batch item."""
    check_input: bool = True
    """Whether the input is checked against the model's schema, which may be wrong."""


async def create(run: Run, request: Request) -> Prediction:
    """Return the prediction of this call: the one it made before, or a new one.

    If it is interrupted midway, it first learns the prediction's id and then cancels it.

    Raises:
        InvalidInputError: Nothing was paid; the message says what to correct.
        LedgerError: Prefect's API could not be read or written, and nothing was paid.
        RunEndedError: Prefect has ended the flow run; nothing was paid.
        UncertainCreateError: Replies were lost, and no prediction of this call was found.
    """
    given = as_given(request.input)
    files = await read_files(given)
    model = await resolve_model(run.connection, request.model)
    if request.check_input:
        validate_input(model.schema, request.model, given)
    await run.connection.learn_time()
    await refuse_if_ended(run)
    ancestry, ledger = await ancestry_of(run.scope), await ledger_of(run.scope)
    creation = _Creation(run, request, files, model, ledger, ancestry)
    work = asyncio.create_task(creation.perform())
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        creation.unwanted.set()
        prediction = await work
        await stop_unless_kept(run, prediction.id)
        raise
    except ReplicateError:
        raise
    except BaseException:
        if creation.paid is not None:
            await stop_unless_kept(run, creation.paid.id)
        raise


class _Creation:
    """One call until it has its prediction. It is not canceled; `unwanted` is set instead."""

    log: OwnLog
    intent: Intent

    def __init__(
        self,
        run: Run,
        request: Request,
        files: Mapping[str, Any],
        model: ResolvedModel,
        ledger: Ledger,
        ancestry: Ancestry | None,
    ) -> None:
        self.run = run
        self.request = request
        self.model = model
        self.ledger = ledger
        self.ancestry = ancestry
        self.batch = ledger.batch(request.batch) if request.batch else None
        self.unwanted = asyncio.Event()
        """Set when the caller was interrupted: nothing more may be paid."""
        self._files: Any = files
        self._has_sent_files = False
        self._is_in_doubt = False
        """Whether a prediction may have been made whose reply was lost."""
        self._announced_at = 0.0
        self.paid: Prediction | None = None
        """The prediction of its own create, once it is known."""
        content = input_digest(without_content(files))
        # Calls that write to different logs could not exclude each other.
        parts = [_account(run), request.model, content, *filter(None, [request.batch])]
        self.call = digest(parts)[:16]
        """What equal calls share, in any run and attempt."""
        self.origin = Origin(
            flow_runs=ancestry.flow_runs if ancestry else (),
            base_url=run.connection.address.base_url,
            credentials_block=run.credentials_block,
            keep_on_crash=request.keep_on_crash,
            keep_for_parent=request.keep_for_parent,
        )
        attempt = ancestry.attempt if ancestry else 1
        if request.place:
            # It is the same call, even if another flow run has replaced the one that made it.
            self.claim = Claim(str(attempt), request.place)
        elif request.replaces is None or not ledger.of(request.replaces):
            self.claim = ledger.occurrences.claim(run.scope, attempt, self.call)
        else:
            [log, *_] = ledger.of(request.replaces)
            self.call = log.name.partition("-")[0]
            self.claim = Claim(str(attempt), log.holder(str(attempt)) or "")

    async def perform(self) -> Prediction:
        while True:
            self.log = await self.ledger.choose(
                self.claim, self.call, self.batch, is_retry=self._is_retry
            )
            self.log.check_readable()
            prediction = await self._earlier()
            if prediction is None:
                prediction = await self._pay()
            elif not await self._claimed():
                continue
            if prediction is not None:
                return prediction

    @property
    def _is_retry(self) -> bool:
        is_first = self.claim.attempt == "1" and all(
            one.attempt == 1 for one in self.run.scope.levels
        )
        return not is_first or self.request.keep_for_parent or self.run.scope.ancestry is None

    async def _claimed(self) -> bool:
        """Record that this attempt has the log; return whether nobody was faster."""
        if self.log.claims.get(self.claim.attempt) == self.claim.name:
            return True
        return await self.log.write(self.log.next, claim=self.claim, origin=self.origin)

    # The call's earlier prediction

    async def _earlier(self) -> Prediction | None:
        """Return the prediction that this call already has, if it is useful."""
        has_said_so = False
        while True:
            known, age = self.log.generation, 0.0
            if not self.log.is_under_way:
                if known is None or not (known.is_open or known.is_useful):
                    return None
                if known.prediction_id is not None:
                    prediction = await get_prediction(self.run.connection, known.prediction_id)
                    self._check_is_of_call(prediction)
                    return await self._useful(prediction)
                is_ours = known.process == this_process()
                if not is_ours:
                    clock = await server_clock()
                    age = (clock.now() - known.written_at).total_seconds()
                if is_ours or age >= ABANDONED_SECONDS:
                    found = await self._adopted(LOOKS)
                    return found and await self._useful(found)
                if age > SEND_SECONDS and (found := await self._adopted(1)):
                    return await self._useful(found)
            if not has_said_so:
                has_said_so = True
                self.run.say("Another process is already starting this prediction; waiting")
            await self._sleep(PAUSE_SECONDS)
            self._refuse_if_unwanted()
            await self.log.row.read_on()
            self.log.check_readable()

    def _check_is_of_call(self, prediction: Prediction) -> None:
        """Refuse somebody else's prediction, since anybody may have written the record.

        Raises:
            LedgerError: It has another model, or another value for one of our inputs.
        """
        sent, given = without_content(self._files), self._files
        shown = {} if prediction.data_removed else prediction.input
        told = {n for n in sent if n in shown and sent[n] is not None and sent[n] == given[n]}
        digests = input_digest({n: sent[n] for n in told}, self.model.schema.secrets)
        if may_be_of(prediction, self.request.model, digests):
            return
        raise LedgerError(
            f"Prediction {prediction.id}, which is recorded for this call of"
            f" {self.model.reference}, is of another model or has another input. Nothing was"
            f" started; delete the inputs {PREFIX}{self.log.row.name}-… of flow run"
            f" {self.ledger.root} if you don't need them."
        )

    async def _useful(self, prediction: Prediction) -> Prediction | None:
        """Return a prediction of this call if a retry can use it and need not pay for a new one."""
        self.log.address = self.run.connection.address
        take(prediction, is_known=True)
        stored = self.log.generation.stored if self.log.generation is not None else ()
        is_useful = not prediction.is_terminal
        if prediction.is_succeeded:
            is_lost = prediction.data_removed and not (stored and all(map(is_there, stored)))
            is_useful = not (is_lost and self.request.regenerate_expired)
        elif prediction.status == "failed":
            # After any other failure, a new one would fail again, and be paid again.
            is_useful = not prediction.is_transient_failure
        if not is_useful:
            await record_outcome(self.run, prediction)
            return None
        self.run.say(
            "Continuing with prediction %s (%s), which this run started before: %s",
            prediction.id, prediction.status, prediction.web_url,
        )  # fmt: skip
        return prediction

    async def _adopted(self, looks: int) -> Prediction | None:
        """Find the prediction of a create if its id was not recorded."""
        assert self.log.generation is not None
        found = await look_for_lost(self.run, Sought.by(self.log.generation), looks)
        if found is not None:
            self.run.say("Found prediction %s, whose id was not recorded", found.id)
            origin = self.log.generation.origin
            await self._note(made=made(found))
            announce(self.run, found, "created", origin)
        return found

    def _refuse_if_unwanted(self) -> None:
        if self.unwanted.is_set():
            raise ReplicateError("Nothing was sent: the caller was interrupted.")

    # A new prediction

    async def _pay(self) -> Prediction | None:
        """Make a prediction; `None` if somebody else has written to the log meanwhile."""
        after, log = self.log.next, self.log
        if log.is_under_way:
            return None
        log.is_under_way = True
        try:
            if not self._has_sent_files:
                self._files = await send_files(self.run.connection, self._files)
                self._has_sent_files = True
            admission = _Admission(self.run, self.unwanted)
            try:
                await admission.come()
                if self.ancestry is not None:
                    await self.ledger.tag(self.ancestry)
                if not await self._announce(after):
                    return None
                return await self._send(admission)
            finally:
                admission.give_back()
        finally:
            log.is_under_way = False

    async def _announce(self, after: int) -> bool:
        """Record what is about to be paid; return whether nobody was faster."""
        self._announced_at = time.monotonic()
        self.intent = Intent(
            call=self.call,
            model=str(self.model.reference),
            input_digest=input_digest(self._files, self.model.schema.secrets),
            at=self.run.connection.clock.now(),
            cancel_after=self.request.cancel_after,
        )
        return await self.log.write(after, claim=self.claim, origin=self.origin, intent=self.intent)

    async def _send(self, admission: _Admission) -> Prediction:
        assert self.log.generation is not None
        announced_at = self.log.generation.written_at
        sought = Sought(self.origin.base_url, self.intent, announced_at)
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(LostReplyError),
            stop=stop_after_attempt(_LOST_REPLIES),
            reraise=True,
        )
        try:
            with under_way(self.run, sought, is_recorded=self.ledger.root is not None):
                prediction: Prediction = await attempts(self._send_or_adopt, admission, sought)
                self.paid = prediction
        except LostReplyError as lost:
            raise UncertainCreateError(
                f"Creating a prediction of {self.model.reference} was tried {_LOST_REPLIES} times,"
                f" each reply was lost ({lost}), and no such prediction is listed. If one was made"
                f" after all, Replicate ends it within {self.request.cancel_after:.0f} s; a retry"
                " checks for it before it pays for another."
            ) from lost
        self.log.address = self.run.connection.address
        await self._note(made=made(prediction))
        announce(self.run, prediction, "created", self.origin)
        self.run.say(
            "Prediction %s of %s: %s", prediction.id, self.model.reference, prediction.web_url
        )
        # The run's hook may have searched for predictions to cancel before this one existed.
        if has_ended(self.run) and not await outlives_end_of_run(self.run, prediction.id):
            await stop(self.run, prediction.id)
            refuse_if_known_to_have_ended(self.run)
        return prediction

    async def _send_or_adopt(self, admission: _Admission, sought: Sought) -> Prediction:
        try:
            return take(await self._post(admission))
        except ReplicateError:
            if not self._is_in_doubt:
                await self._note(is_void=True)
            raise
        except LostReplyError as lost:
            self._is_in_doubt = True
            self.run.say(
                "No reply to the create request (%s); checking whether Replicate received it",
                lost, level=logging.WARNING,
            )  # fmt: skip
            found = await self._look_for(sought, lost)
            if found is None:
                raise
            return found

    async def _look_for(self, sought: Sought, lost: LostReplyError) -> Prediction | None:
        try:
            return await look_for_lost(self.run, sought)
        except ReplicateError as exc:
            raise UncertainCreateError(
                f"A create of {self.model.reference} was sent, its reply was lost ({lost}), and its"
                f" prediction can't be identified: {exc} If one was made, Replicate ends it"
                f" within {self.request.cancel_after:.0f} s; a retry checks for it before it pays"
                " for another."
            ) from exc

    async def _post(self, admission: _Admission) -> Prediction:
        connection = self.run.connection
        attempts = connection.retrying(admission.turn, self._sleep)
        try:
            async for attempt in attempts:
                with attempt:
                    await admission.come()
                    await self._confirm()
                    return await post_prediction(
                        connection,
                        self.model,
                        self._files,
                        self.request.cancel_after,
                        admission.turn,
                    )
        except Refused as refusal:
            error = refusal.error
            if isinstance(error, APIUnreachableError) and not self._is_in_doubt:
                error = APIUnreachableError(f"{error}. Nothing more was paid.", error.status)
            raise error from refusal.__cause__
        raise AssertionError("it is sent, or an error says why not")

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.unwanted.wait(), seconds)

    async def _confirm(self) -> None:
        """Check, right before a create is sent, that it is still wanted and this process's.

        Raises:
            LedgerError: Another process has taken it over, or the ledger can't be reached.
        """
        await look_for_end_elsewhere(self.run)
        refuse_if_known_to_have_ended(self.run)
        self._refuse_if_unwanted()
        while time.monotonic() - self._announced_at > SEND_SECONDS:
            before = self.intent
            if await self._announce(self.log.next):
                return
            known = self.log.generation
            if known is None or known.intent != before or not known.is_unknown:
                self._is_in_doubt = True
                raise LedgerError(
                    f"The create of {self.model.reference} was not sent: while it was delayed,"
                    " another process took over this call of the flow run."
                )
            self._announced_at -= SEND_SECONDS + 1

    async def _note(self, **content: Any) -> None:
        """Record what has happened. Never raises: a retry finds the prediction by its input."""
        try:
            await self.log.note(**content)
        except LedgerError as exc:
            self.run.say("%s", exc, level=logging.WARNING)


def _account(run: Run) -> str:
    """Identify who pays, if possible by what outlives a token: the block, or the environment."""
    address = run.connection.address
    if run.credentials_block is not None:
        return str(run.credentials_block)
    token = address.token.get_secret_value()
    if token == os.environ.get("REPLICATE_API_TOKEN", "").strip():
        return address.base_url
    return f"{address.base_url} {hashlib.sha256(token.encode()).hexdigest()}"


class _SaidToWait(Recent[Any, None]):
    """Runs, or accounts outside of runs, whose log already says that creates wait for a limit."""


class _Admission:
    """A create's place in two queues: the account's, and that of Prefect's limit."""

    def __init__(self, run: Run, unwanted: asyncio.Event) -> None:
        self._run = run
        self._unwanted = unwanted
        self._gate = run.connection.gates.creates
        self._slots = slots() if run.scope.is_in_run else None
        self._has_slot, self._has_come = False, False
        self.turn = self._gate.turn()

    async def come(self) -> None:
        """Wait until the create may be sent, or sent again after a refusal has used up its turn.

        Nothing is taken if that fails.

        Raises:
            RunEndedError: Prefect has ended the flow run meanwhile.
            ConfigurationError: The limit in Prefect would never admit anything.
            LedgerError: The limit could not be read, or no slot be taken, through Prefect's API.
        """
        if self.turn.is_held:
            return
        coming = asyncio.create_task(self._come())
        unwanted = asyncio.create_task(self._unwanted.wait())
        try:
            await asyncio.wait(
                {coming, unwanted}, timeout=SILENT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not coming.done():
                self._say_once()
                async with end_of_run(self._run) as ended:
                    end = asyncio.create_task(ended.wait())
                    try:
                        await asyncio.wait(
                            {coming, unwanted, end}, return_when=asyncio.FIRST_COMPLETED
                        )
                    finally:
                        end.cancel()
                refuse_if_known_to_have_ended(self._run)
            if not coming.done():
                raise ReplicateError("Nothing was sent: the caller was interrupted.")
            coming.result()
        finally:
            coming.cancel()
            unwanted.cancel()

    async def _come(self) -> None:
        await self.turn.come()
        if self._slots is not None and not self._has_come:
            self._has_slot = await self._slots.take(lambda: self._gate.soon(AHEAD_SECONDS))
        self._has_come = True

    def give_back(self) -> None:
        """Give the place to the next create, if nothing was sent."""
        was_unused = self.turn.give_back()
        if was_unused and self._has_slot and self._slots is not None:
            self._slots.give_back()

    def _say_once(self) -> None:
        said = process_state("said to wait", _SaidToWait)
        who = (
            self._run.scope.flow_run_id
            or self._run.scope.task_run_id
            or self._run.connection.address
        )
        if who not in said:
            said[who] = None
            self._run.say("%s", self._reason())

    def _reason(self) -> str:
        if not self.turn.is_held or self._slots is None:
            limit = self._gate.budget.limit
            allowed = _allowed(limit.per_second * 60, self._gate.waiting)
            return f"Replicate lets this account create {allowed}"
        shared = self._slots.limit
        if shared is None:
            return f"Waiting for Prefect's API to return the limit {NAME}"
        allowed = _allowed(shared.per_second * 60, self._slots.waiting)
        return f"Prefect's limit {NAME} lets all workers together create {allowed}"


def _allowed(per_minute: float, waiting: int) -> str:
    minutes = waiting / per_minute
    about = f"{minutes:.0f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"
    return f"{per_minute:.0f} predictions a minute: {waiting} waiting, about {about}"
