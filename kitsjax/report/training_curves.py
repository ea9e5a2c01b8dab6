"""The training curves, which are the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kitsjax.report.drawing import Drawing, new_figure, tick_integers
from kitsjax.report.table_format import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _Curves(NamedTuple):
    """Values of the training log by epoch; nan where a value is unknown."""

    epoch: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    pseudo_dice: np.ndarray
    pseudo_dice_average: np.ndarray


def plot_training(epochs: Sequence[Mapping[str, Any]]) -> Drawing:
    """Draw both losses and the moving average of the pseudo-Dice: the paper's Figure 2.

    Figure and caption name the epoch of the lowest validation loss (the paper's is 892 of 1000).
    The pseudo-Dice is the Dice over an epoch's validation patches; the paper calls it composite
    Dice.

    Args:
        epochs: rows with epoch (from 1), train_loss, validation_loss, pseudo_dice and
            pseudo_dice_average. A value that is missing or nan leaves a gap in its curve.
    """
    drawing = Drawing("figure_2_training", "Figure 2. Training", "", None)
    if not epochs:
        return drawing._replace(caption="No epoch is done yet, so there is no curve to draw.")
    curves = _Curves(
        *(np.array([row.get(name, np.nan) for row in epochs], float) for name in _Curves._fields)
    )
    return drawing._replace(caption=_describe(curves), figure=_draw(curves))


def _describe(curves: _Curves) -> str:
    caption = (
        "Training loss (blue), validation loss (red, dashed) and exponential moving average of the "
        "pseudo-Dice, which the paper calls composite Dice (green, dash-dotted; faint: each "
        f"epoch's); epochs: {len(curves.epoch)}."
    )
    if np.isfinite(curves.validation_loss).any():
        at = int(np.nanargmin(curves.validation_loss))
        lowest = number(curves.validation_loss[at])
        caption += f" The validation loss is lowest, {lowest}, at epoch {curves.epoch[at]:g}."
    if np.isfinite(curves.pseudo_dice_average).any():
        at = int(np.nanargmax(curves.pseudo_dice_average))
        highest = number(curves.pseudo_dice_average[at])
        caption += f" The average pseudo-Dice is highest, {highest}, at epoch {curves.epoch[at]:g}."
    return caption


def _draw(curves: _Curves) -> Figure:
    epoch, train, validation, dice, average = curves
    figure = new_figure(7, 4)
    losses = figure.add_subplot()
    scores = losses.twinx()
    # A single epoch is a point, which a line without markers would not show.
    marker = "o" if len(epoch) == 1 else None
    losses.plot(epoch, train, "b-", lw=1.2, marker=marker, label="training loss")
    losses.plot(epoch, validation, "r--", lw=1.2, marker=marker, label="validation loss")
    scores.plot(epoch, dice, color="green", alpha=0.25, lw=0.8)
    (shown,) = scores.plot(epoch, average, "g-.", marker=marker, label="pseudo-Dice, average")
    handles = [*losses.get_lines(), shown]
    if np.isfinite(validation).any():
        lowest = int(np.nanargmin(validation))
        losses.axvline(epoch[lowest], color="0.4", lw=1, ls=":", zorder=0)
        handles += losses.plot(
            epoch[lowest], validation[lowest], "rv", ms=8, mec="black",
            label=f"lowest validation loss: epoch {epoch[lowest]:g}",
        )  # fmt: skip
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(ylabel="pseudo-Dice", ylim=(0, 1))
    tick_integers(losses.xaxis)
    losses.grid(alpha=0.3)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure
