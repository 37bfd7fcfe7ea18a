"""How requests and delays grow with the number of predictions at a time, as a picture."""

# matplotlib leaves the types of its `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.scale_outcome import Outcome

_PICTURE = Path(__file__).parents[2] / "docs" / "scale.png"
# Of Okabe and Ito, whose colours stay apart for the colour-blind; so do the markers.
_STYLES = {"ours": ("#0072B2", "o"), "gathered": ("#D55E00", "s"), "threads": ("#000000", "^")}


Outcomes = Mapping[Any, Outcome]
"""By side and number."""


def draw(outcomes: Outcomes, titles: Mapping[str, str]) -> None:
    """Write docs/scale.png."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 4.2), dpi=110, layout="constrained")
        requests, delays = figure.subplots(1, 2)
        for axes in (requests, delays):
            _prepare(axes, sorted({count for _, count in outcomes}))
        for side, title in titles.items():
            _line(requests, outcomes, side, title, lambda one: one.requests_per_result)
            _line(delays, outcomes, side, title, lambda one: one.delay)
        requests.set_yscale("log")
        requests.set_title("API requests for each result", loc="left")
        delays.set_title("Mean seconds from completion to the end of the wait", loc="left")
        handles, labels = requests.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(_PICTURE, metadata={"Software": None})


def _prepare(axes: Axes, counts: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}".replace(",", " ") for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("predictions at a time")
    axes.grid(axis="y", color="#dddddd")


def _line(
    axes: Axes,
    outcomes: Outcomes,
    side: str,
    title: str,
    figure_of: Callable[[Outcome], float],
) -> None:
    mine = {count: outcome for (name, count), outcome in outcomes.items() if name == side}
    colour, marker = _STYLES[side]
    axes.plot(
        list(mine),
        [figure_of(outcome) for outcome in mine.values()],
        color=colour,
        marker=marker,
        label=title.replace("`", ""),
    )
    for count, outcome in mine.items():
        if outcome.lost:
            axes.annotate(
                f"{outcome.lost / outcome.asked:.0%} lost",
                (count, figure_of(outcome)),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
