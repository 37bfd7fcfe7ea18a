"""How requests and delays grow with the number of predictions at a time, as a picture."""

# matplotlib leaves the types of its `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.scale_outcome import Outcome

_PICTURE = Path(__file__).parents[2] / "docs" / "scale.png"
_COLOURS = 64  # a quarter of the file's size, and no difference to see
# Of Okabe and Ito, whose colours stay apart for the colour-blind; so do the markers.
_STYLES = {"ours": ("#0072B2", "o"), "gathered": ("#D55E00", "s"), "threads": ("#000000", "^")}

Outcomes = Mapping[Any, Outcome]
"""By side and number."""


def draw(outcomes: Outcomes, titles: Mapping[str, str]) -> None:
    """Write docs/scale.png."""
    figure = Figure(figsize=(9.6, 4.4), dpi=110, layout="constrained")
    requests, delays = figure.subplots(1, 2)
    for axes, title in ((requests, "API requests per result"), (delays, "Mean delay in seconds")):
        _prepare(axes, title, sorted({size for _, size in outcomes}))
    requests.set_yscale("log")
    for side, title in titles.items():
        mine = {size: outcome for (name, size), outcome in outcomes.items() if name == side}
        _line(requests, mine, side, title, lambda one: one.requests_per_result)
        _line(delays, mine, side, title, lambda one: one.delay)
        _say_what_was_lost(requests, mine, side)
    requests.set_ylim(1, 400)
    requests.set_yticks([1, 10, 100], ["1", "10", "100"])
    requests.minorticks_off()
    delays.set_ylim(bottom=0)
    handles, labels = requests.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    _save(figure)


def _prepare(axes: Axes, title: str, sizes: list[int]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xscale("log")
    axes.set_xlim(0.6, 9000)
    axes.set_xticks(sizes, [f"{size}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("concurrent predictions")
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)


def _line(
    axes: Axes,
    outcomes: Mapping[int, Outcome],
    side: str,
    title: str,
    height: Callable[[Outcome], float],
) -> None:
    colour, marker = _STYLES[side]
    heights = [height(outcome) for outcome in outcomes.values()]
    label = title.replace("`", "")
    axes.plot(list(outcomes), heights, color=colour, marker=marker, label=label, clip_on=False)


def _say_what_was_lost(axes: Axes, outcomes: Mapping[int, Outcome], side: str) -> None:
    for size, outcome in outcomes.items():
        if outcome.lost:
            beside_axis = size == min(outcomes)
            axes.annotate(
                f"{outcome.lost / outcome.asked:.0%} lost",
                (size, outcome.requests_per_result),
                xytext=(9, -4) if beside_axis else (0, 8),
                textcoords="offset points",
                ha="left" if beside_axis else "center",
                fontsize=8.5,
                color=_STYLES[side][0],
            )


def _save(figure: Figure) -> None:
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(_PICTURE, optimize=True)
