"""Figures 3 and 6: axial slices of the best and worst cases, prediction above and truth below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kitsjax.data.geometry import check_same_grid
from kitsjax.data.volume import read_label, read_volume
from kitsjax.errors import InputError
from kitsjax.evaluate.lesions import describe_case
from kitsjax.evaluate.results import MAJORITY, Evaluation, Lesion
from kitsjax.labels import CLASSES, COLORS, CYST, FOREGROUND, KIDNEY, PAINT_ORDER, TUMOR
from kitsjax.report.drawing import Drawing, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, WORST = 4, 5
"""How many cases the paper's Figures 3 and 6 show."""

WINDOW_HU = (-160, 240)
"""Shown range of a CT: width 400, level 40, the usual window for the abdomen."""

MARGIN_MM, LEAST_HEIGHT_MM, WIDTH_TO_HEIGHT = 12.0, 150.0, 4 / 3
"""Of a view: around all that is labeled; its least height, so that the surroundings show; and its
shape, since two kidneys stand side by side."""

_OPACITY = 0.35
_LINES: dict[int, Any] = {KIDNEY: "dashed", TUMOR: "solid", CYST: "dotted"}
_HOW = (
    "Kidneys are red with a dashed outline, tumors green with a solid one, cysts blue with a "
    "dotted one; anterior is up, the patient's right on the left; bars are 50 mm long"
)


class Files(NamedTuple):
    """The NIfTI files of a case: CT, prediction, majority label; None where there is none."""

    image: Path | None
    prediction: Path
    truth: Path | None


class View(NamedTuple):
    """The part of an axial slice that is shown.

    Attributes:
        image: CT in HU (y, x); None where there is none.
        prediction, truth: labels (y, x).
        spacing_mm: (y, x).
        without: why there is no CT, "" where there is one.
    """

    image: np.ndarray | None
    prediction: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float]
    without: str = ""


Views = dict[str, View | str]
"""By case id; instead of a view the reason why there is none."""


def plot_best(evaluation: Evaluation, files: Mapping[str, Files]) -> Drawing:
    """Figure 3 (F3): the four best cases by the mean of both Dice scores over all classes.

    Each at its `best_slice`. Scores are those against the majority, if there are any, otherwise
    the individual ones.

    Args:
        evaluation: of any number of cases.
        files: by case id. Where one has gone or cannot be read, figure and caption say so, and
            the other cases are drawn.
    """
    means = _mean_scores(evaluation)
    shown = sorted(means, key=lambda case: (-means[case], case))[:BEST]
    views: Views = {case: _view(files.get(case), best_slice) for case in shown}
    listed = ", ".join(f"{case} ({means[case]:.3f})" for case in shown)
    lead = (
        f"The best cases ({len(shown)} of n = {len(means)}) by the mean of Dice and surface Dice "
        f"over all classes, {_against(evaluation)}, each at the slice with most of its tumor: "
        f"{listed}."
    )
    titles = [f"{case}\nmean {means[case]:.3f}" for case in shown]
    return _draw(Drawing("figure_3_best", "Figure 3. The best cases", lead, None), views, titles)


def plot_worst(evaluation: Evaluation, files: Mapping[str, Files]) -> Drawing:
    """Figure 6 (F6): the five worst cases by tumor Dice, A to E, with their failure modes.

    Each at its `worst_slice`. Scores and arguments as of `plot_best`.
    """
    dice = _finite(evaluation, "dice").get("tumor", {})
    shown = sorted(dice, key=lambda case: (dice[case], case))[:WORST]
    views: Views = {}
    titles, modes = [], []
    for letter, case in zip("ABCDE", shown, strict=False):
        lesions = [lesion for lesion in evaluation.lesions if lesion.case_id == case]
        views[case] = _view(files.get(case), partial(worst_slice, lesions=lesions))
        titles.append(f"{letter}  {case}\ntumor Dice {dice[case]:.3f}")
        modes.append(f"{letter}, {case}, Dice {dice[case]:.3f}: {describe_case(lesions)}.")
    lead = (
        f"The worst cases ({len(shown)} of n = {len(dice)}) by tumor Dice, "
        f"{_against(evaluation)}, each at the slice where its tumor is most wrong, and their "
        f"failure modes. {' '.join(modes)}"
    )
    return _draw(Drawing("figure_6_worst", "Figure 6. The worst cases", lead, None), views, titles)


def best_slice(prediction: np.ndarray, truth: np.ndarray) -> int:
    """The slice with most tumor, else cyst, else kidney, of the truth, else of the prediction.

    Label maps are (z, y, x). The middle one if nothing is labeled.
    """
    for label_map in (truth, prediction):
        for value in (TUMOR, CYST, KIDNEY):
            area = np.count_nonzero(label_map == value, axis=(1, 2))
            if area.any():
                return int(area.argmax())
    return len(truth) // 2


def worst_slice(prediction: np.ndarray, truth: np.ndarray, lesions: Sequence[Lesion]) -> int:
    """The slice that shows best why the tumor Dice is low.

    The largest failed lesion decides, of the tumors and the confused cysts: where it was omitted,
    confused or falsely found, the slice that shows most of it. Otherwise the slice with most voxels
    that are tumor in one label map only; without those, `best_slice`.
    """
    failed = [
        lesion
        for lesion in lesions
        if lesion.outcome == "confused"
        or (lesion.label == "tumor" and lesion.outcome != "detected")
    ]
    worst = max(failed, key=lambda lesion: lesion.volume_cm3, default=None)
    if worst and worst.outcome in ("omitted", "confused", "false"):
        # A file exchanged since scoring may have fewer slices.
        return min(worst.slice, len(truth) - 1)
    wrong = np.count_nonzero((prediction == TUMOR) != (truth == TUMOR), axis=(1, 2))
    return int(wrong.argmax()) if wrong.any() else best_slice(prediction, truth)


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


def _view(files: Files | None, choose: Callable[[np.ndarray, np.ndarray], int]) -> View | str:
    """What to show of a case, at the slice that `choose` picks from prediction and truth."""
    if files is None or files.truth is None:
        return f"there is no {'majority label' if files else 'file'} of it"
    try:
        prediction, truth = read_label(files.prediction), read_label(files.truth)
        check_same_grid(prediction, truth)
    except InputError as error:
        return str(error)
    z = choose(prediction.array, truth.array)
    seen = np.maximum(prediction.array.max(axis=0), truth.array.max(axis=0)) > 0
    window = _window(seen, truth.spacing_mm[1:])
    image, without = None, "there is no CT"
    if files.image is not None:
        try:
            volume = read_volume(files.image)
            check_same_grid(volume, truth)
            image, without = _cut(volume.array[z], window, -1024), ""
        except InputError as error:
            without = str(error)
    labels = [_cut(volume.array[z], window, 0) for volume in (prediction, truth)]
    return View(image, labels[0], labels[1], truth.spacing_mm[1:], without)


def _window(seen: np.ndarray, spacing_mm: tuple[float, float]) -> list[tuple[int, int]]:
    """First pixel and number of pixels, in y and x, of a rectangle around all that is seen."""
    found = np.argwhere(seen) if seen.any() else np.array([(0, 0), np.subtract(seen.shape, 1)])
    first, last = found.min(axis=0), found.max(axis=0)
    tall, wide = (last + 1 - first) * spacing_mm + 2 * MARGIN_MM
    height_mm = max(LEAST_HEIGHT_MM, tall, wide / WIDTH_TO_HEIGHT)
    counts = np.rint(np.array([height_mm, height_mm * WIDTH_TO_HEIGHT]) / spacing_mm).astype(int)
    spare = seen.shape - counts
    # Within the image if it is large enough, otherwise around its middle.
    start = np.clip((first + last + 1 - counts) // 2, 0, np.maximum(spare, 0))
    start = np.where(spare < 0, spare // 2, start)
    return [(int(begin), int(count)) for begin, count in zip(start, counts, strict=True)]


def _cut(plane: np.ndarray, window: list[tuple[int, int]], outside: float) -> np.ndarray:
    (y, height), (x, width) = window
    padded = np.pad(plane, ((height, height), (width, width)), constant_values=outside)
    return padded[y + height : y + 2 * height, x + width : x + 2 * width].copy()


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
        column[0].set_title(title, fontsize=9.5)
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
