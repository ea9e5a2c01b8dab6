"""The paper's figures, drawn with matplotlib; each function writes one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kitsjax.files import written_beside
from kitsjax.labels import CLASSES, COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float]

WINDOW_HU = (-160, 240)
"""Shown range of a CT: width 400, level 40, the usual window for the abdomen."""


class Slice(NamedTuple):
    """An axial slice: title, CT in HU, predicted and true labels, all (y, x), and pixel edges."""

    title: str
    image: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float]


def draw_progress(epochs: Sequence[Row], path: str | Path) -> None:
    """Figure 2 (V2): both losses and the composite Dice's moving average over the epochs.

    The title names the epoch of the least validation loss (the paper's was 892 of 1000).

    Args:
        epochs: rows with epoch (from 1), train_loss, validation_loss, dice, dice_average.
        path: .png or .pdf.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(7, 4.2)
    losses = figure.add_subplot()
    scores = losses.twinx()
    number = [row["epoch"] for row in epochs]

    def values(name: str) -> list[float]:
        return [row[name] for row in epochs]

    mark = "o" if len(epochs) == 1 else None
    # Dashes as well as colors, for the color-blind and for print.
    losses.plot(number, values("train_loss"), "b-", marker=mark, label="training loss")
    losses.plot(number, values("validation_loss"), "r--", marker=mark, label="validation loss")
    scores.plot(number, values("dice"), color="green", alpha=0.25, lw=0.8)
    scores.plot(
        number, values("dice_average"), "g-.", marker=mark, label="composite Dice, moving average"
    )
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(ylabel="Dice", ylim=(0, 1))
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.grid(alpha=0.3)
    least = min(epochs, key=lambda row: row["validation_loss"])
    figure.suptitle(
        f"validation loss is least, {least['validation_loss']:.3f}, at epoch {least['epoch']:g}",
        fontsize="medium",
    )
    handles = [*losses.get_lines(), scores.get_lines()[-1]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
    _save(figure, path)


def draw_segmentations(slices: Sequence[Slice], path: str | Path) -> None:
    """Predicted labels above, true ones below, over the CT (the layout of the paper's Figure 3).

    Kidney red, tumor green, cyst blue; tumors have a solid outline, cysts a dotted and kidneys a
    dashed one, for the color-blind.
    """
    columns = len(slices)
    figure = _figure(3 * columns, 6)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, shown in zip(axes.T, slices, strict=True):
        for axis, label in zip(column, (shown.prediction, shown.truth), strict=True):
            _show(axis, shown, label)
        column[0].set_title(shown.title, fontsize="medium")
    for axis, name in zip(axes[:, 0], ("prediction", "truth"), strict=True):
        axis.set_ylabel(name)
    _save(figure, path)


_LINES = {"kidney": "dashed", "tumor": "solid", "cyst": "dotted"}


def _show(axis: Axes, shown: Slice, label: np.ndarray) -> None:
    y, x = shown.spacing_mm
    low, high = WINDOW_HU
    axis.imshow(shown.image, cmap="gray", vmin=low, vmax=high, aspect=y / x)
    for value, color in COLORS.items():
        mask = label == value
        if mask.any():
            axis.contourf(mask, levels=[0.5, 1.5], colors=color, alpha=0.25)
            axis.contour(mask, levels=[0.5], colors=color, linestyles=_LINES[CLASSES[value]])
    axis.set(xticks=[], yticks=[])


def _figure(width: float, height: float) -> Figure:
    # Without pyplot: no global state, no window system, and a fast import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    with written_beside(path) as beside:
        figure.savefig(beside)
