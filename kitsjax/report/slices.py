"""Figures 3 and 6: axial slices of the best and worst cases, prediction above and truth below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kitsjax.errors import InputError
from kitsjax.evaluate.lesions import describe_case
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import CLASSES, COLORS, CYST, FOREGROUND, KIDNEY, MAJORITY, PAINT_ORDER, TUMOR
from kitsjax.report.drawing import Drawing, new_figure
from kitsjax.report.views import (
    WIDTH_TO_HEIGHT,
    Files,
    View,
    best_slice,
    cut_view,
    find_files,
    worst_slice,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, WORST = 4, 5
"""How many cases the paper's Figures 3 and 6 show."""

WINDOW_HU = (-160, 240)
"""Shown range of a CT: width 400, level 40, the usual window for the abdomen."""

_OPACITY = 0.35
_LINES: dict[int, Any] = {KIDNEY: "dashed", TUMOR: "solid", CYST: "dotted"}
_HOW = (
    "Kidneys are red with a dashed outline, tumors green with a solid one, cysts blue with a "
    "dotted one; anterior is up, the patient's right on the left; bars are 50 mm long"
)

_MOST = "at the slice with most tumor, else most cyst, else most kidney"

Views = dict[str, View | str]
"""By case id; instead of a view the reason why there is none."""


def plot_best(evaluation: Evaluation, files: Mapping[str, Files] | None = None) -> Drawing:
    """Figure 3 (F3): the four best cases by the mean of both Dice scores over all classes.

    Each at its `best_slice`. Scores are those against the majority, if there are any, otherwise
    the individual ones.

    Args:
        evaluation: of any number of cases.
        files: by case id; None: those in the folders that were scored. Where one has gone or cannot
            be read, figure and caption say so, and the other cases are drawn.
    """
    drawing = Drawing("figure_3_best", "Figure 3. The best cases", "", None)
    found = _find_scored(evaluation) if files is None else files
    if isinstance(found, str):
        return drawing._replace(caption=found)
    means = _mean_scores(evaluation)
    shown = sorted(means, key=lambda case: (-means[case], case))[:BEST]
    views: Views = {case: cut_view(found.get(case), best_slice) for case in shown}
    listed = ", ".join(f"{case} ({means[case]:.3f})" for case in shown)
    lead = (
        f"The best cases ({len(shown)} of n = {len(means)}) by the mean of Dice and surface Dice "
        f"over all classes, {_against(evaluation)}, each {_MOST}: {listed}."
    )
    if len(means) == 1:
        drawing = drawing._replace(title="Figure 3. The case")
        lead = (
            "The case (n = 1) and the mean of its Dice and surface Dice over all classes, "
            f"{_against(evaluation)}, {_MOST}: {listed}."
        )
    titles = [f"{case}\nmean {means[case]:.3f}" for case in shown]
    return _draw(drawing._replace(caption=lead), views, titles)


def plot_worst(evaluation: Evaluation, files: Mapping[str, Files] | None = None) -> Drawing:
    """Figure 6 (F6): the five worst cases by tumor Dice, A to E, with their failure modes.

    Each at its `worst_slice`. Scores and arguments as of `plot_best`.
    """
    drawing = Drawing("figure_6_worst", "Figure 6. The worst cases", "", None)
    found = _find_scored(evaluation) if files is None else files
    if isinstance(found, str):
        return drawing._replace(caption=found)
    dice = _finite(evaluation, "dice").get("tumor", {})
    shown = sorted(dice, key=lambda case: (dice[case], case))[:WORST]
    views: Views = {}
    titles, modes = [], []
    for letter, case in zip("ABCDE", shown, strict=False):
        lesions = [lesion for lesion in evaluation.lesions if lesion.case_id == case]
        views[case] = cut_view(found.get(case), partial(worst_slice, lesions=lesions))
        titles.append(f"{letter}  {case}\ntumor Dice {dice[case]:.3f}")
        modes.append(f"{letter}, {case}, Dice {dice[case]:.3f}: {describe_case(lesions)}.")
    lead = (
        f"The worst cases ({len(shown)} of n = {len(dice)}) by tumor Dice, {_against(evaluation)}, "
        "each at the slice where its tumor is most wrong, if it is, and their failure modes."
    )
    if len(dice) == 1:
        drawing = drawing._replace(title="Figure 6. The case and its failures")
        lead = (
            f"The case (n = 1) and its tumor Dice, {_against(evaluation)}, at the slice where its "
            "tumor is most wrong, if it is, and its failure modes."
        )
    return _draw(drawing._replace(caption=" ".join([lead, *modes])), views, titles)


def _find_scored(evaluation: Evaluation) -> dict[str, Files] | str:
    """The files that were scored, or what a caption says where these have gone."""
    if not (evaluation.predictions and evaluation.dataset):
        return "Not drawn: the folders of predictions and data set are not known."
    try:
        return find_files(evaluation.predictions, evaluation.dataset)
    except InputError as error:
        how = "Say with --predictions and --dataset where these folders are now."
        return f"Not drawn: {error}. {how}"


def _against(evaluation: Evaluation) -> str:
    majority = MAJORITY in evaluation.against
    return f"against the {'majority label' if majority else 'individual annotations'}"


def _finite(evaluation: Evaluation, column: str) -> dict[str, dict[str, float]]:
    """The finite scores of the majority if there are any, otherwise the individual ones."""
    table = evaluation.table(evaluation.against[0], column) if evaluation.against else {}
    return {
        name: {case: score for case, score in by_case.items() if np.isfinite(score)}
        for name, by_case in table.items()
    }


def _mean_scores(evaluation: Evaluation) -> dict[str, float]:
    tables = [_finite(evaluation, column) for column in ("dice", "surface_dice")]
    columns = [by_case for table in tables for by_case in table.values()]
    cases = set.intersection(*map(set, columns)) if columns else set()
    return {case: float(np.mean([column[case] for column in columns])) for case in cases}


def _draw(empty: Drawing, views: Views, titles: Sequence[str]) -> Drawing:
    """Add the figure to a drawing whose caption has the scores, and to its caption the rest."""
    if not views:
        return empty._replace(caption="No case was scored, so none can be shown.")
    drawn = {case: view for case, view in views.items() if isinstance(view, View)}
    failed = _explain("Not shown", {c: why for c, why in views.items() if isinstance(why, str)})
    if not drawn:
        return empty._replace(caption=" ".join([empty.caption, *failed]))
    without = {case: view.without for case, view in drawn.items() if view.without}
    window = "" if len(without) == len(drawn) else "; the CT's window is 400/40 HU"
    rest = f"Top row: prediction; bottom row: truth. {_HOW}{window}."
    plain = _explain("On plain gray", without)
    figure = _figure(list(views.values()), titles)
    return empty._replace(caption=" ".join([empty.caption, rest, *plain, *failed]), figure=figure)


def _explain(what: str, reasons: Mapping[str, str]) -> list[str]:
    """A sentence for each reason, with the cases that it holds for."""
    cases: dict[str, list[str]] = {}
    for case, why in reasons.items():
        cases.setdefault(why, []).append(case)
    return [f"{what}, {', '.join(those)}: {why}." for why, those in cases.items()]


def _figure(views: Sequence[View | str], titles: Sequence[str]) -> Figure:
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
    """A label map over the CT: translucent, outlined, with a scale bar; the axes are in mm."""
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
        # Where two labels meet, only the later one's outline is drawn.
        later = np.isin(label_map, PAINT_ORDER[order + 1 :])
        mask = np.ma.masked_array(label_map == value, later)
        if mask.any():
            axis.contour(
                x, y, mask, [0.5], colors=COLORS[value], linestyles=_LINES[value], linewidths=1.2
            )
    for color, width in (("black", 4), ("white", 2.5)):
        axis.plot([6, 56], [rows * dy - 6] * 2, color=color, lw=width, solid_capstyle="butt")
