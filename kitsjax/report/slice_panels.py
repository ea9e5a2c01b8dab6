"""Panels of Figures 3 and 6: label maps over slices of CTs, predictions above truths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kitsjax.labels import LabelScheme
from kitsjax.report.drawing import new_figure
from kitsjax.report.views import WIDTH_TO_HEIGHT, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_HU = (-160, 240)
"""Range of a CT that is shown: width 400, level 40, the usual window for the abdomen."""

_OPACITY = 0.35
"""Opacity of a label over the CT."""

_LINES: tuple[Any, ...] = ("dashed", "solid", "dotted", "dashdot")
"""Line styles of the labels' outlines, from label 1 on, and over again."""

_KEY_IN, _LETTER_IN, _LINE_IN = 0.55, 0.075, 0.2
"""Width of a key of the legend without its name, and of a letter; height of a line of keys."""


def draw_views(views: Sequence[View | str], titles: Sequence[str], scheme: LabelScheme) -> Figure:
    """Draw a column for each case: prediction above, truth below."""
    from matplotlib.patches import Patch

    columns = len(views)
    width_in = min(7.5, 0.6 + 3 * columns)
    panel_in = (width_in - 0.3) / columns / WIDTH_TO_HEIGHT
    longest = max(len(scheme.names[value]) for value in scheme.foreground)
    fitting = max(1, int(width_in / (_KEY_IN + _LETTER_IN * longest)))
    lines = -(-len(scheme.foreground) // fitting)
    figure = new_figure(width_in, 2 * panel_in + 0.85 + _LINE_IN * (lines - 1))
    axes = figure.subplots(2, columns, squeeze=False)
    for column, view, title in zip(axes.T, views, titles, strict=True):
        # A case's name may hold a dollar sign.
        column[0].set_title(title, fontsize=9.5, parse_math=False)
        for row, axis in enumerate(column):
            axis.set(xticks=[], yticks=[])
            if isinstance(view, View):
                _show(axis, view, view.truth if row else view.prediction, scheme)
            else:
                axis.set(facecolor="0.85", box_aspect=1 / WIDTH_TO_HEIGHT)
                axis.text(0.5, 0.5, "not shown", ha="center", transform=axis.transAxes)
    for axis, name in zip(axes[:, 0], ("prediction", "truth"), strict=True):
        axis.set_ylabel(name, fontsize=10)
    keys = [
        Patch(
            facecolor=(scheme.color(value), _OPACITY), edgecolor=scheme.color(value), lw=1.5,
            linestyle=_line(value), label=scheme.names[value],
        )
        for value in scheme.foreground
    ]  # fmt: skip
    columns = min(fitting, len(keys))
    figure.legend(
        handles=keys, loc="outside lower center", ncols=columns, fontsize=10, frameon=False
    )
    return figure


def _line(value: int) -> Any:
    return _LINES[(value - 1) % len(_LINES)]


def _show(axis: Axes, view: View, label_map: np.ndarray, scheme: LabelScheme) -> None:
    """Show a label map over the CT, translucent and outlined, with a scale bar; axes are in mm."""
    from matplotlib.colors import to_rgb

    low, high = WINDOW_HU
    gray = np.full(label_map.shape, 0.75)
    if view.image is not None:
        gray = np.clip((view.image - low) / (high - low), 0, 1)
    shown = np.repeat(gray[..., None], 3, axis=-1)
    for value in scheme.foreground:
        mask, color = label_map == value, np.array(to_rgb(scheme.color(value)))
        shown[mask] = (1 - _OPACITY) * shown[mask] + _OPACITY * color
    (rows, columns), (dy, dx) = label_map.shape, view.spacing_mm
    axis.imshow(shown, extent=(0, columns * dx, rows * dy, 0))
    x, y = (np.arange(columns) + 0.5) * dx, (np.arange(rows) + 0.5) * dy
    for order, value in enumerate(scheme.paint_order):
        # Without the later labels, so that only one outline is drawn where two labels meet.
        later = np.isin(label_map, scheme.paint_order[order + 1 :])
        mask = np.ma.masked_array(label_map == value, later)
        if mask.any():
            axis.contour(
                x, y, mask, [0.5], colors=scheme.color(value), linestyles=_line(value),
                linewidths=1.2,
            )  # fmt: skip
    for edge, width in (("black", 4), ("white", 2.5)):
        axis.plot([6, 56], [rows * dy - 6] * 2, color=edge, lw=width, solid_capstyle="butt")
