"""The figure of the scaling: a panel for each curve, with logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kitsjax.report.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_LINEAR_COLOR, _STEEP_COLOR = "#2166ac", "#b2182b"


class Curve(NamedTuple):
    """A cost of a stage at several sizes.

    Attributes:
        title: the stage's name in the figure.
        axis: what the size counts.
        cost: name and unit of the cost.
        sizes: sizes, ascending.
        values: the cost at each size.
        exponent: exponent of the power law through the points.
    """

    title: str
    axis: str
    cost: str
    sizes: list[float]
    values: list[float]
    exponent: float


def plot_scaling(curves: Sequence[Curve], max_exponent: float) -> Figure:
    """Draw the curves; those whose exponent exceeds `max_exponent` are red."""
    from matplotlib.lines import Line2D

    lines = -(-len(curves) // _COLUMNS)
    figure = new_figure(8.4, 2.45 * lines + 0.6)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axis, curve in zip(panels, curves, strict=False):
        _draw(axis, curve, max_exponent)
    for axis in panels[len(curves) :]:
        axis.set_axis_off()
    handles = [Line2D([], [], color=_LINEAR_COLOR, marker="o", label="measured")]
    if any(curve.exponent > max_exponent for curve in curves):
        label = f"measured, exponent above {max_exponent:g}"
        handles.append(Line2D([], [], color=_STEEP_COLOR, marker="s", label=label))
    handles.append(Line2D([], [], color="0.55", ls="--", label="proportional to the size"))
    figure.suptitle("Cost of each stage against its size", fontsize=12)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axis: Axes, curve: Curve, max_exponent: float) -> None:
    steep = curve.exponent > max_exponent
    color, marker = (_STEEP_COLOR, "s") if steep else (_LINEAR_COLOR, "o")
    sizes, values = np.array(curve.sizes), np.array(curve.values)
    guide = values[0] * sizes / sizes[0]
    axis.loglog(sizes, guide, color="0.55", ls="--", lw=1.2, zorder=1)
    axis.loglog(sizes, values, color=color, marker=marker, ms=5, lw=1.6, zorder=2)
    # The guide is always in view, so that a constant cost looks flat beside it.
    low, high = min(values.min(), guide.min()), max(values.max(), guide.max())
    axis.set(ylim=(low / 1.8, high * 1.8), xlabel=curve.axis, ylabel=curve.cost)
    # Adding zero takes the sign off a rounded -0.
    exponent = f"{round(curve.exponent, 2) + 0:.2f}".replace("-", "−")
    axis.set_title(f"{curve.title}\nexponent {exponent}", fontsize=10, color=color)
    _set_ticks(axis, curve.sizes)
    axis.grid(alpha=0.3)


def _set_ticks(axis: Axes, sizes: Sequence[float]) -> None:
    """Put ticks at small sizes themselves, and at 1, 2 and 5 where decades are too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_ylim()
    if high < 40 * low:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    if max(sizes) < 1000:
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
