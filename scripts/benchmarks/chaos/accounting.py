"""From what Replicate has seen to what was paid twice, left running or lost; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paid:
    """A prediction as the benchmark found it."""

    id: str
    prompt: str
    status: str
    created_at: float
    completed_at: float | None

    @property
    def is_live(self) -> bool:
        """Whether it runs, and costs."""
        return self.completed_at is None

    @property
    def is_succeeded(self) -> bool:
        """Whether there is a result, which was paid for."""
        return self.status == "succeeded"

    def stands_at(self, moment: float) -> bool:
        """Whether it was alive or had succeeded, so that nobody needed another."""
        return self.is_succeeded or self.completed_at is None or self.completed_at > moment


@dataclass(frozen=True)
class Asked:
    """The equal calls of one flow run.

    Args:
        calls: How many predictions the run wants for this prompt.
        is_due: Whether their results are to be on storage: the run has completed, or should have.
        stored: The predictions whose files are on storage, whole.
    """

    prompt: str
    group: str
    calls: int
    is_due: bool
    stored: Collection[str] = ()


@dataclass(frozen=True)
class Account:
    """What became of some calls.

    Args:
        calls: Those for which a prediction was created.
        creates: All predictions.
        renewed: Those that took the place of one that had ended without a result.
        paid_again: Those created while all that were needed were alive or had succeeded.
        live: Those that still run.
        lost: Results that are missing on storage.
    """

    calls: int = 0
    creates: int = 0
    renewed: int = 0
    paid_again: int = 0
    live: int = 0
    lost: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(*(ours + theirs for ours, theirs in zip(self._all, other._all, strict=True)))

    @property
    def _all(self) -> tuple[int, ...]:
        return self.calls, self.creates, self.renewed, self.paid_again, self.live, self.lost

    @property
    def creates_per_call(self) -> float:
        """Creates for each call, without those that took the place of one that had ended."""
        return (self.creates - self.renewed) / self.calls if self.calls else 1.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was paid twice, left running or lost."""
        return not (self.paid_again or self.live or self.lost)


def account(asked: Asked, predictions: Iterable[Paid]) -> Account:
    """Go through the predictions of one prompt in the order in which they were paid for."""
    paid = sorted(predictions, key=lambda one: one.created_at)
    calls = renewed = again = 0
    for index, one in enumerate(paid):
        standing = sum(earlier.stands_at(one.created_at) for earlier in paid[:index])
        if standing >= asked.calls:
            again += 1
        elif calls < asked.calls:
            calls += 1
        else:
            renewed += 1
    return Account(
        calls=calls,
        creates=len(paid),
        renewed=renewed,
        paid_again=again,
        live=sum(one.is_live for one in paid),
        lost=_lost(asked, paid, was_paid_again=again > 0),
    )


def _lost(asked: Asked, paid: Sequence[Paid], *, was_paid_again: bool) -> int:
    succeeded = {one.id for one in paid if one.is_succeeded}
    stored = succeeded.intersection(asked.stored)
    missing = max(0, asked.calls - len(stored)) if asked.is_due else 0
    thrown_away = len(succeeded - stored) if was_paid_again else 0
    return max(missing, thrown_away)
