"""Panels of scores: box plots by class for Figure 4, histograms by tumor volume for Figure 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from kitsjax.labels import INDIVIDUAL, MAJORITY
from kitsjax.report.drawing import tick_integers
from kitsjax.report.statistics import Halves

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

LEAST_CASES = 5
"""Quartiles of fewer cases than this say nothing, so the cases are drawn instead of a box."""

MOST_UPRIGHT = 4
"""The names of more classes than this would overlap, so they are written aslant."""

BINS = np.linspace(0, 1, 21).tolist()
"""Edges of the bins of a histogram of scores."""


class _Style(NamedTuple):
    """Looks of a ground truth. Hatch and marker serve the color-blind and black-and-white print."""

    color: str
    hatch: str
    marker: str


_STYLES = {
    MAJORITY: _Style("#9ecae1", "", "o"),
    INDIVIDUAL: _Style("#fdd0a2", "////", "s"),
}
_HALVES = {"low volume": ("#fdb863", "////"), "high volume": ("#8073ac", "")}
"""Color and hatch of each half of the cases."""


def draw_boxes(
    axis: Axes, scores: Mapping[str, Sequence[np.ndarray]], dots: bool, titles: Sequence[str]
) -> list[Artist]:
    """Draw the boxes of each class, those of all ground truths side by side.

    Args:
        axis: panel to draw in.
        scores: {MAJORITY and INDIVIDUAL, or one of them: finite scores of the cases by class}.
        dots: whether to draw the cases, too, that are no outliers.
        titles: of the classes; many are written aslant.

    Returns:
        An artist for the legend from each ground truth.
    """
    handles = [
        _draw_truth(axis, _STYLES[truth], values, 0.4 * (place - (len(scores) - 1) / 2), dots)
        for place, (truth, values) in enumerate(scores.items())
    ]
    names = [title.replace(" + ", " +\n") for title in titles]
    aslant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    look = aslant if len(names) > MOST_UPRIGHT else {}
    axis.set_xticks(range(len(names)), names, **look)
    axis.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.03, 1.03))
    axis.grid(axis="y", alpha=0.3)
    return handles


def draw_histograms(axis: Axes, halves: Halves) -> list[Artist | BarContainer]:
    """Draw the histograms of both halves of the cases, with a line at each median.

    Returns:
        The artists for the legend: bars of both halves, then lines of both medians.
    """
    colors, hatches = zip(*_HALVES.values(), strict=True)
    values = [keep_finite(halves.low), keep_finite(halves.high)]
    _, _, containers = axis.hist(values, BINS, color=colors, edgecolor="0.2", lw=0.6)
    bars = cast("list[BarContainer]", containers)
    for bar, name, hatch in zip(bars, _HALVES, hatches, strict=True):
        bar.set_label(name)
        for patch in bar:
            patch.set_hatch(hatch)
    medians = [
        axis.axvline(halves.low_median, color="black", lw=1.6, ls="--", label="median of low"),
        axis.axvline(halves.high_median, color="black", lw=1.6, ls="-", label="median of high"),
    ]
    axis.set(ylabel="cases", xlim=(-0.02, 1.02))
    axis.tick_params(labelbottom=True)
    tick_integers(axis.yaxis)
    return [*bars, *medians]


def keep_finite(values: Sequence[float]) -> np.ndarray:
    """Drop the scores that are nan or infinite."""
    array = np.array(values, float)
    return array[np.isfinite(array)]


def _draw_truth(
    axis: Axes, style: _Style, values: Sequence[np.ndarray], offset: float, dots: bool
) -> Artist:
    """Draw the boxes of one ground truth, one for each class; return its artist for the legend."""
    from matplotlib.patches import Patch

    color, hatch, marker = style
    few = max(map(len, values)) < LEAST_CASES
    places = np.arange(len(values)) + offset
    drawn = axis.boxplot(
        values, positions=places, widths=0.34, manage_ticks=False, patch_artist=True,
        showbox=not few, showcaps=not few, showfliers=not few,
        boxprops={"facecolor": color, "edgecolor": "0.25", "hatch": hatch},
        whiskerprops={"lw": 0 if few else 1}, medianprops={"color": "black", "lw": 2},
        flierprops={"marker": marker, "ms": 4, "mfc": color, "mec": "0.25"},
    )  # fmt: skip
    handle: Artist = Patch(facecolor=color, edgecolor="0.25", hatch=hatch)
    faint: dict[str, Any] = {"s": 10, "color": "0.1", "lw": 0, "alpha": 0.35}
    look = {"s": 26, "color": color, "edgecolors": "0.25", "lw": 0.8} if few else faint
    outliers = [line.get_ydata() for line in drawn["fliers"]] or [()] * len(values)
    for place, scores, marked in zip(places, values, outliers, strict=True):
        if dots:
            # The box plot has drawn the outliers already.
            scores = scores[~np.isin(scores, marked)]
            # The golden ratio spreads the points evenly, whatever their number, without chance.
            x = place + 0.2 * ((np.arange(len(scores)) * 0.618 + 0.5) % 1 - 0.5)
            points = axis.scatter(x, scores, marker=marker, zorder=3, **look)
            handle = points if few else handle
    return handle
