"""Panels of Figures 3 and 6: label maps over slices of CTs, predictions above truths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kitsjax.labels import CLASSES, COLORS, CYST, FOREGROUND, KIDNEY, PAINT_ORDER, TUMOR
from kitsjax.report.drawing import new_figure
from kitsjax.report.views import WIDTH_TO_HEIGHT, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_HU = (-160, 240)
"""Range of a CT that is shown: width 400, level 40, the usual window for the abdomen."""

_OPACITY = 0.35
"""Opacity of a label over the CT."""

_LINES: dict[int, Any] = {KIDNEY: "dashed", TUMOR: "solid", CYST: "dotted"}
"""Line style of each label's outline."""


def draw_views(views: Sequence[View | str], titles: Sequence[str]) -> Figure:
    """Draw a column for each case: prediction above, truth below."""
    from matplotlib.patches import Patch

    columns = len(views)
    width_in = min(7.5, 0.6 + 3 * columns)
    panel_in = (width_in - 0.3) / columns / WIDTH_TO_HEIGHT
    figure = new_figure(width_in, 2 * panel_in + 0.85)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, view, title in zip(axes.T, views, titles, strict=True):
        # A case's name may hold a dollar sign.
        column[0].set_title(title, fontsize=9.5, parse_math=False)
        for row, axis in enumerate(column):
            axis.set(xticks=[], yticks=[])
            if isinstance(view, View):
                _show(axis, view, view.truth if row else view.prediction)
            else:
                axis.set(facecolor="0.85", box_aspect=1 / WIDTH_TO_HEIGHT)
                axis.text(0.5, 0.5, "not shown", ha="center", transform=axis.transAxes)
    for axis, name in zip(axes[:, 0], ("prediction", "truth"), strict=True):
        axis.set_ylabel(name, fontsize=10)
    keys = [
        Patch(
            facecolor=(COLORS[value], _OPACITY), edgecolor=COLORS[value], lw=1.5,
            linestyle=_LINES[value], label=CLASSES[value],
        )
        for value in FOREGROUND
    ]  # fmt: skip
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


def _show(axis: Axes, view: View, label_map: np.ndarray) -> None:
    """Show a label map over the CT, translucent and outlined, with a scale bar; axes are in mm."""
    from matplotlib.colors import to_rgb

    low, high = WINDOW_HU
    gray = np.full(label_map.shape, 0.75)
    if view.image is not None:
        gray = np.clip((view.image - low) / (high - low), 0, 1)
    shown = np.repeat(gray[..., None], 3, axis=-1)
    for value, color in COLORS.items():
        mask = label_map == value
        shown[mask] = (1 - _OPACITY) * shown[mask] + _OPACITY * np.array(to_rgb(color))
    (rows, columns), (dy, dx) = label_map.shape, view.spacing_mm
    axis.imshow(shown, extent=(0, columns * dx, rows * dy, 0))
    x, y = (np.arange(columns) + 0.5) * dx, (np.arange(rows) + 0.5) * dy
    for order, value in enumerate(PAINT_ORDER):
        # Without the later labels, so that only one outline is drawn where two labels meet.
        later = np.isin(label_map, PAINT_ORDER[order + 1 :])
        mask = np.ma.masked_array(label_map == value, later)
        if mask.any():
            axis.contour(
                x, y, mask, [0.5], colors=COLORS[value], linestyles=_LINES[value], linewidths=1.2
            )
    for color, width in (("black", 4), ("white", 2.5)):
        axis.plot([6, 56], [rows * dy - 6] * 2, color=color, lw=width, solid_capstyle="butt")
