"""Figures 2, 4 and 5 of the paper and the sensitivity by volume: charts with captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kitsjax.evaluate.lesions import count_outcomes
from kitsjax.evaluate.results import Evaluation, Lesion
from kitsjax.labels import EVALUATION_NAMES, INDIVIDUAL, MAJORITY
from kitsjax.report.drawing import Drawing, new_figure, tick_integers
from kitsjax.report.lesion_panels import draw_outcomes, draw_rates
from kitsjax.report.statistics import sensitivity, size_halves
from kitsjax.report.table_format import number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LEAST_CASES = 5
"""Quartiles of fewer cases say nothing; the cases themselves are drawn."""

MOST_DOTS = 40
"""More cases than this are not drawn one by one behind their box."""

SCORES = {"dice": "Dice", "surface_dice": "surface Dice"}

BINS = np.linspace(0, 1, 21)
"""Of the histograms."""

# Hatches, marks and dashes as well as colors, for the color-blind and for print.
_TRUTHS = {
    MAJORITY: ("the majority label", "#9ecae1", "", "o"),
    INDIVIDUAL: ("the individual annotations", "#fdd0a2", "////", "s"),
}
_HALVES = {"low volume": ("#fdb863", "////"), "high volume": ("#8073ac", "")}


def plot_training(epochs: Sequence[Mapping[str, Any]]) -> Drawing:
    """Figure 2 (V2): both losses and the pseudo-Dice's moving average over the epochs.

    The epoch of the least validation loss (the paper's was 892 of 1000) is marked and named.

    Args:
        epochs: rows with epoch (from 1), train_loss, validation_loss, pseudo_dice, pseudo_dice_average; nan
            leaves a gap.
    """
    drawing = Drawing("figure_2_training", "Figure 2. Training", "", None)
    if not epochs:
        return drawing._replace(caption="No epoch is done yet, so there is no curve to draw.")
    names = ("epoch", "train_loss", "validation_loss", "pseudo_dice", "pseudo_dice_average")
    epoch, train, validation, dice, average = (
        np.array([row.get(name, np.nan) for row in epochs], float) for name in names
    )
    caption = (
        "Training loss (blue), validation loss (red, dashed) and exponential moving average of the "
        f"pseudo-Dice (green, dash-dotted; faint: each epoch's); epochs: {len(epochs)}."
    )
    figure = new_figure(7, 4)
    losses = figure.add_subplot()
    scores = losses.twinx()
    mark = "o" if len(epochs) == 1 else None  # one epoch is no line
    losses.plot(epoch, train, "b-", lw=1.2, marker=mark, label="training loss")
    losses.plot(epoch, validation, "r--", lw=1.2, marker=mark, label="validation loss")
    scores.plot(epoch, dice, color="green", alpha=0.25, lw=0.8)
    (shown,) = scores.plot(epoch, average, "g-.", marker=mark, label="pseudo-Dice, average")
    handles = [*losses.get_lines(), shown]
    if np.isfinite(validation).any():
        least = int(np.nanargmin(validation))
        losses.axvline(epoch[least], color="0.4", lw=1, ls=":", zorder=0)
        handles += losses.plot(
            epoch[least], validation[least], "rv", ms=8, mec="black",
            label=f"least validation loss: epoch {epoch[least]:g}",
        )  # fmt: skip
        lowest = f"{number(validation[least])}, at epoch {epoch[least]:g}"
        caption += f" Validation loss is least, {lowest}."
    if np.isfinite(average).any():
        best = int(np.nanargmax(average))
        caption += (
            f" The average Dice is highest, {number(average[best])}, at epoch {epoch[best]:g}."
        )
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(ylabel="Dice", ylim=(0, 1))
    tick_integers(losses.xaxis)
    losses.grid(alpha=0.3)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return drawing._replace(caption=caption, figure=figure)


def plot_boxes(evaluation: Evaluation) -> Drawing:
    """Figure 4 (F4): box and whisker plots of both Dice scores for each class.

    Majority and individual stand side by side where both were scored. Fewer than `LEAST_CASES`
    cases are dots with their median, without a box.
    """
    drawing = Drawing("figure_4_boxes", "Figure 4. Dice and surface Dice by class", "", None)
    kinds = evaluation.against
    if not kinds:
        return drawing._replace(caption="No case was scored, so there are no boxes to draw.")
    figure = new_figure(7, 4.2)
    medians = []
    handles: list[Artist] = []
    counts = {kind: len(evaluation.table(kind)["tumor"]) for kind in kinds}
    dots = max(counts.values()) <= MOST_DOTS
    panels = figure.subplots(1, 2, sharey=True)
    for axis, (column, title) in zip(panels, SCORES.items(), strict=True):
        scores = [
            [_finite(by_case.values()) for by_case in evaluation.table(kind, column).values()]
            for kind in kinds
        ]
        handles = [
            _draw_boxes(axis, kind, values, 0.4 * (place - (len(kinds) - 1) / 2), dots)
            for place, (kind, values) in enumerate(zip(kinds, scores, strict=True))
        ]
        names = [name.replace(" + ", " +\n") for name in EVALUATION_NAMES.values()]
        axis.set_xticks(range(len(names)), names)
        axis.set(title=title, xlim=(-0.6, len(names) - 0.4), ylim=(-0.03, 1.03))
        axis.grid(axis="y", alpha=0.3)
        listed = ", ".join(
            f"{name} {'/'.join(map(_median, values))}"
            for name, *values in zip(EVALUATION_NAMES.values(), *scores, strict=True)
        )
        medians.append(f"Median {title} ({'/'.join(kinds)}): {listed}.")
    if len(kinds) > 1:
        figure.legend(handles, kinds, loc="outside lower center", ncols=2, frameon=False)
    cases = " and ".join(f"n = {n} against {_TRUTHS[kind][0]}" for kind, n in counts.items())
    how = (
        "Box: quartiles and median; whiskers: the farthest case within 1.5 interquartile ranges; "
        f"marks: outliers{'; points: all other cases' if dots else ''}."
        if max(counts.values()) >= LEAST_CASES
        else f"Each case is a mark and the line their median; a box takes {LEAST_CASES} cases."
    )
    lead = f"Dice and surface Dice of the cases, {cases}. {how}"
    return drawing._replace(caption=" ".join([lead, *medians]), figure=figure)


def plot_volume(evaluation: Evaluation) -> Drawing:
    """Figure 5 (F5): tumor scores of cases with a single tumor, by the half of its volume.

    Histograms of Dice above and surface Dice below, against the majority label.
    """
    drawing = Drawing("figure_5_volume", "Figure 5. Tumor scores by tumor volume", "", None)
    halves = size_halves(evaluation)
    if isinstance(halves, str):
        return drawing._replace(caption=halves)
    figure = new_figure(7, 5)
    caption = (
        f"Tumor Dice (top) and surface Dice (bottom) of the n = {halves.cases} cases with a single "
        f"tumor, {len(halves.dice.low)} below the median volume of {halves.median_cm3:.2f} cm³ "
        f"(low volume) and {len(halves.dice.high)} of at least that (high volume)."
    )
    panels = figure.subplots(2, 1, sharex=True)
    for axis, (column, title) in zip(panels, SCORES.items(), strict=True):
        half = getattr(halves, column)
        colors, hatches = zip(*_HALVES.values(), strict=True)
        values = [_finite(half.low), _finite(half.high)]
        _, _, bars = axis.hist(values, BINS, color=colors, edgecolor="0.2", lw=0.6)
        for bar, hatch in zip(bars, hatches, strict=True):
            for patch in bar:
                patch.set_hatch(hatch)
        medians = [
            axis.axvline(half.low_median, color="black", lw=1.6, ls="--", label="median of low"),
            axis.axvline(half.high_median, color="black", lw=1.6, ls="-", label="median of high"),
        ]
        axis.set(xlabel=f"tumor {title}", ylabel="cases", xlim=(-0.02, 1.02))
        axis.tick_params(labelbottom=True)
        tick_integers(axis.yaxis)
        caption += (
            f" Median {title}: {half.low_median:.3f} of low and {half.high_median:.3f} of high "
            f"volume, Mann-Whitney U = {half.u:g}, p = {half.p:.2g}."
        )
    for bar, name in zip(bars, _HALVES, strict=True):
        bar.set_label(name)
    figure.legend(handles=[*bars, *medians], loc="outside lower center", ncols=4, frameon=False)
    return drawing._replace(caption=caption, figure=figure)


def plot_sensitivity(lesions: Sequence[Lesion]) -> Drawing:
    """Detection rate of tumors and cysts by their volume, and below what became of them.

    The rates have Wilson's 95 % intervals; a bar's sections are the outcomes.
    """
    drawing = Drawing("figure_7_sensitivity", "Figure 7. Lesions found, by volume", "", None)
    if not lesions:
        return drawing._replace(
            caption="There is no tumor or cyst in truth or prediction, so no rate can be shown."
        )
    counts, rates = count_outcomes(lesions), sensitivity(lesions)
    figure = new_figure(7, 6.4)
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    draw_rates(above, rates)
    draw_outcomes(below, counts)
    figure.legend(handles=above.containers, loc="outside upper center", ncols=2, frameon=False)
    figure.legend(handles=below.containers, loc="outside lower center", ncols=3, frameon=False)
    found = " and ".join(
        f"{sum(row.found for row in rows)} of {sum(row.lesions for row in rows)} {label}s"
        for label, rows in rates.items()
    )
    listed = " ".join(
        f"{label.title()}s: {', '.join(f'{n} {name}' for name, n in row.items() if n) or 'none'}."
        for label, row in counts.items()
    )
    caption = (
        "Top: rate of true lesions found under either label, by volume, with Wilson's 95 % "
        f"intervals, and numbers of lesions; in all {found} were found. Bottom: outcomes of true "
        f"lesions, and false detections. {listed}"
    )
    return drawing._replace(caption=caption, figure=figure)


def _draw_boxes(
    axis: Axes, kind: str, values: Sequence[np.ndarray], offset: float, dots: bool
) -> Artist:
    """The boxes of a kind of truth, one a class; returns what stands for it in a legend.

    With `dots`, cases that are no outliers are drawn one by one, too.
    """
    from matplotlib.patches import Patch

    _, color, hatch, mark = _TRUTHS[kind]
    few = max(map(len, values)) < LEAST_CASES
    places = np.arange(len(values)) + offset
    drawn = axis.boxplot(
        values, positions=places, widths=0.34, manage_ticks=False, patch_artist=True,
        showbox=not few, showcaps=not few, showfliers=not few,
        boxprops={"facecolor": color, "edgecolor": "0.25", "hatch": hatch},
        whiskerprops={"lw": 0 if few else 1}, medianprops={"color": "black", "lw": 2},
        flierprops={"marker": mark, "ms": 4, "mfc": color, "mec": "0.25"},
    )  # fmt: skip
    key: Artist = Patch(facecolor=color, edgecolor="0.25", hatch=hatch)
    faint: dict[str, Any] = {"s": 10, "color": "0.1", "lw": 0, "alpha": 0.35}
    style = {"s": 26, "color": color, "edgecolors": "0.25", "lw": 0.8} if few else faint
    outliers = [line.get_ydata() for line in drawn["fliers"]] or [()] * len(values)
    for place, scores, marked in zip(places, values, outliers, strict=True):
        if dots:
            scores = scores[~np.isin(scores, marked)]
            # Spread by the golden ratio: evenly for any number of cases, and without chance.
            x = place + 0.2 * ((np.arange(len(scores)) * 0.618 + 0.5) % 1 - 0.5)
            points = axis.scatter(x, scores, marker=mark, zorder=3, **style)
            key = points if few else key
    return key


def _finite(values: Iterable[float]) -> np.ndarray:
    array = np.array(list(values), float)
    return array[np.isfinite(array)]


def _median(values: np.ndarray) -> str:
    return f"{np.median(values):.3f}" if len(values) else "–"
