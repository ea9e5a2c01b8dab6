"""The training curves, which are the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kitsjax.report.drawing import Drawing, new_figure, tick_integers
from kitsjax.report.table_format import number
from kitsjax.run_record import KeptEpoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _Curves(NamedTuple):
    """Values of the training log by epoch; nan where a value is unknown."""

    epoch: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    pseudo_dice: np.ndarray
    pseudo_dice_average: np.ndarray


def plot_training(epochs: Sequence[Mapping[str, Any]], kept: KeptEpoch | None = None) -> Drawing:
    """Draw both losses and the moving average of the pseudo-Dice: the paper's Figure 2.

    Figure and caption name the epoch of the lowest validation loss (the paper's is 892 of 1000).
    The pseudo-Dice is the Dice over an epoch's validation patches; the paper calls it composite
    Dice.

    Args:
        epochs: rows with epoch (from 1), train_loss, validation_loss, pseudo_dice and
            pseudo_dice_average. An epoch or a value that is missing or nan leaves a gap.
        kept: the epoch whose parameters the run kept; None while it trains.
    """
    drawing = Drawing("figure_2_training", "Figure 2. Training", "", None)
    if not epochs:
        return drawing._replace(caption="No epoch is done yet, so there is no curve to draw.")
    rows = {row["epoch"]: row for row in epochs}
    numbers = range(1, max(rows) + 1)
    curves = _Curves(
        np.array(numbers, float),
        *(
            np.array([rows.get(number, {}).get(name, np.nan) for number in numbers], float)
            for name in _Curves._fields[1:]
        ),
    )
    missing = len(numbers) - len(rows)
    caption = _describe(curves, kept)
    if missing:
        caption += f" The training log lacks {missing} of these epochs."
    return drawing._replace(caption=caption, figure=_draw(curves, kept))


def _describe(curves: _Curves, kept: KeptEpoch | None) -> str:
    caption = (
        "Training loss (blue), validation loss (red, dashed) and exponential moving average of the "
        "pseudo-Dice, which the paper calls composite Dice (green, dash-dotted; faint: each "
        f"epoch's); epochs: {len(curves.epoch)}."
    )
    if np.isfinite(curves.validation_loss).any():
        at = int(np.nanargmin(curves.validation_loss))
        lowest = number(curves.validation_loss[at])
        caption += f" The validation loss is lowest, {lowest}, at epoch {curves.epoch[at]:g}."
    if kept is not None:
        average = number(kept.pseudo_dice_average)
        caption += f" The model has the parameters of epoch {kept.epoch}: its average is {average}."
    elif np.isfinite(curves.pseudo_dice_average).any():
        at = int(np.nanargmax(curves.pseudo_dice_average))
        highest = number(curves.pseudo_dice_average[at])
        caption += f" The average pseudo-Dice is highest, {highest}, at epoch {curves.epoch[at]:g}."
    return caption


def _draw(curves: _Curves, kept: KeptEpoch | None) -> Figure:
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
    if kept is not None:
        handles += scores.plot(
            kept.epoch, kept.pseudo_dice_average, "g^", ms=8, mec="black",
            label=f"parameters of the model: epoch {kept.epoch}",
        )  # fmt: skip
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(ylabel="pseudo-Dice", ylim=(0, 1))
    tick_integers(losses.xaxis)
    losses.grid(alpha=0.3)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure
