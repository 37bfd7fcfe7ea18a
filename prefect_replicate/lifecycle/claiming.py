"""Which of the records of equal calls a call goes on with; pure.

A call writes an intent of its own first and reads the records of the calls like it then. Whoever
finds nobody else's fresh intent for the same call goes on; whoever finds one withdraws its own and
waits. Since each of two has written before it has read, at least one sees the other, so that two
processes that run the same flow run never both go on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from prefect_replicate.ledger.record import INTENT, VOID, Claim
from prefect_replicate.ledger.store import Entry

SEND_SECONDS = 10.0
"""A create is sent no later than this after its intent was written, or the intent is renewed."""

ABANDONED_SECONDS = 75.0
"""After this an intent's create has been sent and answered, if anybody was left to do it: it is
sent within ten seconds, and its reply awaited for sixty."""

_USELESS = {VOID, "canceled", "aborted"}


def earlier_of(
    own: Entry, entries: Sequence[Entry], claim: Claim, passed: Collection[UUID]
) -> Entry | None:
    """The record that a call is to go on with instead of starting anew, if there is one.

    That is one that it has had before in this attempt; else, as equal calls are interchangeable,
    one that no call of this attempt has. Several that look for one at once each take their own.

    Args:
        own: The intent that the call has just written.
        entries: The records of all calls like it.
        claim: The call.
        passed: Artifacts that turned out to be of no use.
    """
    others = [one for one in entries if one.record.status not in _USELESS and not _same(one, own)]
    left = [one for one in others if one.artifact_id not in passed]
    mine = [one for one in left if _holder(one, claim) == claim.call]
    if mine:
        return max(mine, key=_age)
    free = sorted((one for one in left if _holder(one, claim) is None), key=_age)
    ahead = _how_many_are_ahead(own, others, claim)
    return free[ahead] if ahead < len(free) else None


def is_fresh(entry: Entry, own: Entry) -> bool:
    """Whether an intent's create may still be on its way, by the server's clock."""
    is_intent = entry.record.status == INTENT and entry.record.prediction_id is None
    return is_intent and seconds_between(entry, own) < ABANDONED_SECONDS


def seconds_between(entry: Entry, own: Entry) -> float:
    """Seconds from the last change of a record to the writing of our own."""
    return (own.created - entry.updated).total_seconds()


def _how_many_are_ahead(own: Entry, others: Sequence[Entry], claim: Claim) -> int:
    """Calls that have come before this one to look for a record, and have not taken one yet."""
    looking = [one for one in others if set(one.record.claims) == {claim.attempt}]
    fresh = [one for one in looking if is_fresh(one, own) and _age(one) < _age(own)]
    have_one = {_holder(one, claim) for one in others if one not in fresh}
    return len([one for one in fresh if _holder(one, claim) not in have_one])


def _same(one: Entry, own: Entry) -> bool:
    # Prefect's client repeats a write whose reply was lost, which makes two artifacts of a record.
    return one.artifact_id == own.artifact_id or one.record == own.record


def _holder(entry: Entry, claim: Claim) -> str | None:
    return entry.record.claims.get(claim.attempt)


def _age(entry: Entry) -> tuple[float, UUID]:
    return entry.created.timestamp(), entry.artifact_id
