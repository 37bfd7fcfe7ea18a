"""The accounts as a table, by fate, with the three figures that count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

from benchmarks.chaos.accounting import Account
from benchmarks.chaos.benchmark import BOUND, Outcome
from benchmarks.chaos.plan import FATES
from benchmarks.report import Measurement

_HEADER = (
    "fate",
    "runs",
    "completed",
    "calls",
    "creates",
    "in place of an ended one",
    "creates per call",
    "paid again",
    "left to the sweep",
    "live",
    "lost",
)


def total(outcomes: Sequence[Outcome]) -> Account:
    """The accounts of some outcomes, added up."""
    return reduce(add, (one.account for one in outcomes), Account())


def unclean(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those in which something was paid again, left running or lost, or that did not end."""
    return [one for one in outcomes if not one.account.is_clean or one.life.problem]


def measured(outcomes: Sequence[Outcome], seconds: float) -> Measurement:
    """The table and the findings."""
    groups = [(fate, [one for one in outcomes if one.asked.group == fate]) for fate in FATES]
    return Measurement(
        _HEADER,
        [*(_row(fate, group) for fate, group in groups if group), _row("**all**", outcomes)],
        _findings(outcomes, seconds),
        is_met=not unclean(outcomes),
    )


def _row(title: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    sums = total(outcomes)
    lives = {one.life.planned.name: one.life for one in outcomes}.values()
    figures = (
        len(lives),
        sum(life.is_completed for life in lives),
        sums.calls,
        sums.creates,
        sums.renewed,
        f"{sums.creates_per_call:.3f}",
        sums.paid_again,
        sum(one.live_before_sweep for one in outcomes),
        sums.live,
        sums.lost,
    )
    return (title, *map(str, figures))


def _findings(outcomes: Sequence[Outcome], seconds: float) -> list[str]:
    sums = total(outcomes)
    lives = {one.life.planned.name: one.life for one in outcomes}.values()
    left = sum(one.live_before_sweep for one in outcomes)
    late = sum(any("before its moment" in deed.what for deed in life.deeds) for life in lives)
    more = sum(life.more_retries for life in lives)
    odd = sum(life.planned.input != "plain" for life in lives)
    off = sum(life.planned.clock_ahead > 0 for life in lives)
    stuck = sum(bool(life.problem) for life in lives)
    return [
        f"Creates per logical call: **{sums.creates_per_call:.3f}**"
        f" (target: 1.000, {_met(not sums.paid_again)}).",
        f"Live predictions after the bound: **{sums.live}** (target: 0, {_met(not sums.live)});"
        f" {left} were live"
        f" {BOUND:.0f} s after the last run had ended, before `cancel_orphaned_predictions` ran.",
        f"Lost results: **{sums.lost}** (target: 0, {_met(not sums.lost)}).",
        f"{odd} runs had whole floats, a picture, a `data:` URI or a secret in their inputs;"
        f" the clocks of {off} were 90 or 4,000 s ahead of Replicate's, the others an hour behind.",
        f"{late} runs had ended before their moment came; {stuck} could not be brought to an end.",
        f"Retries beyond the plan, until all results were there: {more}. Of a run that was killed,"
        " Prefect's worker says a second time that it has crashed when its hooks are done, which"
        " undoes a retry that was quicker.",
        f"It took {seconds // 60:.0f} min {seconds % 60:.0f} s.",
    ]


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"
