"""The figure of growth: a panel a curve, on logarithmic axes, where a power law is a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kitsjax.report.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_FINE, _STEEP = "#2166ac", "#b2182b"


class Curve(NamedTuple):
    """A cost of a stage at growing sizes.

    Attributes:
        title: of the stage.
        axis: what is counted.
        cost: what it costs, with its unit.
        sizes, values: of the points, by size.
        exponent: of the power law through them.
    """

    title: str
    axis: str
    cost: str
    sizes: list[float]
    values: list[float]
    exponent: float


def plot_growth(curves: Sequence[Curve], most: float) -> Figure:
    """Small multiples of the curves.

    Args:
        most: the largest exponent that counts as linear; curves above it are red.
    """
    from matplotlib.lines import Line2D

    lines = -(-len(curves) // _COLUMNS)
    figure = new_figure(8.4, 2.45 * lines + 0.6)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axis, curve in zip(panels, curves, strict=False):
        _draw(axis, curve, most)
    for axis in panels[len(curves) :]:
        axis.set_axis_off()
    handles = [Line2D([], [], color=_FINE, marker="o", label="measured")]
    if any(curve.exponent > most for curve in curves):
        label = f"measured, exponent above {most:g}"
        handles.append(Line2D([], [], color=_STEEP, marker="s", label=label))
    handles.append(Line2D([], [], color="0.55", ls="--", label="proportional to the size"))
    figure.suptitle("Cost of each stage against its size", fontsize=12)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axis: Axes, curve: Curve, most: float) -> None:
    color, mark = (_STEEP, "s") if curve.exponent > most else (_FINE, "o")
    sizes, values = np.array(curve.sizes), np.array(curve.values)
    guide = values[0] * sizes / sizes[0]
    axis.loglog(sizes, guide, color="0.55", ls="--", lw=1.2, zorder=1)
    axis.loglog(sizes, values, color=color, marker=mark, ms=5, lw=1.6, zorder=2)
    # As high as the guide, so that what stays flat is seen to.
    low, high = min(values.min(), guide.min()), max(values.max(), guide.max())
    axis.set(ylim=(low / 1.8, high * 1.8), xlabel=curve.axis, ylabel=curve.cost)
    # Adding zero takes the sign off a rounded -0.
    exponent = f"{round(curve.exponent, 2) + 0:.2f}".replace("-", "−")
    axis.set_title(f"{curve.title}\nexponent {exponent}", fontsize=10, color=color)
    _tick(axis, curve.sizes)
    axis.grid(alpha=0.3)


def _tick(axis: Axes, sizes: Sequence[float]) -> None:
    """The sizes themselves as ticks where they are small; 1, 2, 5 where decades are too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_ylim()
    if high < 40 * low:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    if max(sizes) < 1000:
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
