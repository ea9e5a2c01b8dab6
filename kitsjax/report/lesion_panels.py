"""Panels of Figure 7: detection rates by volume, and the outcomes of all lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kitsjax.labels import LabelScheme
from kitsjax.report.drawing import tick_integers
from kitsjax.report.names import pluralize
from kitsjax.report.sensitivity import Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Markers, dashes and hatches serve the color-blind and black-and-white print.
_MARKERS = (("o", "-"), ("s", ":"), ("^", "--"), ("D", "-."))
"""Markers and line styles of the lesion labels in their order, and over again."""

_SPREAD = 0.6
"""All points of a range of volumes lie within this part of its width."""

_OUTCOMES = {
    "detected": ("#d9d9d9", ""),
    "under-segmented": ("#56b4e9", "////"),
    "over-segmented": ("#e69f00", "\\\\\\\\"),
    "misclassified": ("#cc79a7", "xxxx"),
    "missed": ("#ffffff", "...."),
    "false positive": ("#f0e442", "----"),
}
"""Color and hatch of each outcome."""


def draw_rates(axis: Axes, rates: Mapping[str, Sequence[Sensitivity]], scheme: LabelScheme) -> None:
    """Draw a point for each label and range of volumes, with the numbers of lesions below.

    Args:
        axis: panel to draw in.
        rates: {label: rates by range}, the same ranges for every label.
        scheme: the label scheme.
    """
    step = min(0.16, _SPREAD / len(rates))
    for place, (label, rows) in enumerate(rates.items()):
        marker, line = _MARKERS[place % len(_MARKERS)]
        color = scheme.color(scheme.names.index(label))
        rate, low, high = (
            np.array([getattr(row, name) for row in rows]) for name in ("rate", "low", "high")
        )
        # Labels stand a little apart, so that their intervals do not cover each other.
        x = np.arange(len(rows)) + step * (place - (len(rates) - 1) / 2)
        # Rounding can leave an interval's end on the wrong side of its rate by 1e-17.
        errors = np.maximum([rate - low, high - rate], 0)
        axis.errorbar(
            x, rate, errors, marker=marker, ls=line, color=color, capsize=3,
            label=pluralize(label),
        )  # fmt: skip
    _label_ranges(axis, rates)
    axis.set(ylabel="rate found", ylim=(-0.04, 1.04))
    axis.grid(axis="y", alpha=0.3)


def draw_outcomes(axis: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Draw a bar for each label with a section for each outcome, and its number where it fits.

    Args:
        axis: panel to draw in.
        counts: {label: {outcome: number of lesions}}.
    """
    labels = list(counts)
    start = np.zeros(len(labels))
    most = max(sum(row.values()) for row in counts.values())
    for outcome in next(iter(counts.values())):
        color, hatch = _OUTCOMES[outcome]
        numbers = np.array([counts[label][outcome] for label in labels])
        bars = axis.barh(
            labels, numbers, left=start, color=color, hatch=hatch, edgecolor="0.25", lw=0.8,
            height=0.6, label=outcome,
        )  # fmt: skip
        texts = [str(n) if n > 0.04 * most else "" for n in numbers]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        for text in axis.bar_label(bars, texts, label_type="center"):
            text.set_bbox(box if text.get_text() else None)
        start += numbers
    axis.set(xlabel="lesions", ylim=(len(labels) - 0.5, -0.5))
    tick_integers(axis.xaxis)


def _label_ranges(axis: Axes, rates: Mapping[str, Sequence[Sensitivity]]) -> None:
    """Write under each range its volumes, and the number of lesions of each label."""
    names = [
        f"≥ {row.low_cm3:g}" if math.isinf(row.high_cm3) else f"{row.low_cm3:g}–{row.high_cm3:g}"
        for row in next(iter(rates.values()))
    ]
    numbers = ([str(row.lesions) for row in rows] for rows in rates.values())
    columns = zip(names, *numbers, strict=True)
    axis.set_xticks(range(len(names)), ["\n".join(column) for column in columns])
    axis.set_xlim(-0.5, len(names) - 0.5)
    heads = "\n".join(["cm³", *map(pluralize, rates)])
    axis.annotate(
        heads, (0, 0), (-6, -axis.xaxis.get_tick_padding() - 3.5), ha="right", va="top",
        xycoords="axes fraction", textcoords="offset points",
    )  # fmt: skip
