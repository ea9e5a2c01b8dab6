"""Slices of the best and the worst cases: the paper's Figures 3 and 6, with their captions."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from kitsjax.errors import InputError
from kitsjax.evaluate.outcomes import describe_case
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY, LabelScheme
from kitsjax.report.drawing import Drawing
from kitsjax.report.names import SCORE_NAMES, find_focus, name_truth
from kitsjax.report.rank_cases import rank_cases
from kitsjax.report.slice_panels import draw_views
from kitsjax.report.views import (
    Files,
    View,
    best_slice,
    cut_view,
    find_files,
    shown_labels,
    worst_slice,
)

BEST, WORST = 4, 5
"""Numbers of cases that the paper's Figures 3 and 6 show."""

_KITS_LEGEND = (
    "Kidneys are red with a dashed outline, tumors green with a solid one, cysts blue with a "
    "dotted one"
)

_MOST_LISTED = 3
"""So many labels are listed at most where a caption says which slice is shown."""

Views = dict[str, View | str]
"""Views by case id; instead of a view, the reason why there is none."""


def plot_best(evaluation: Evaluation, files: Mapping[str, Files] | None = None) -> Drawing:
    """Draw the four best cases by the mean of both Dice scores: the paper's Figure 3.

    The mean is over all classes; each case is shown at its `best_slice`. Scores are those against
    the majority label if there are any, otherwise the individual ones.

    Args:
        evaluation: scores of any number of cases.
        files: files by case id; None takes them from the folders that were scored. Figure and
            caption name the files that are missing or cannot be read, and the other cases are
            drawn.
    """
    drawing = Drawing("figure_3_best", "Figure 3. The best cases", "", None)
    found = _find_scored(evaluation) if files is None else files
    if isinstance(found, str):
        return drawing._replace(caption=found)
    means = _average_scores(evaluation)
    shown = sorted(means, key=lambda case: (-means[case], case))[:BEST]
    scheme = evaluation.scheme
    choose = partial(best_slice, scheme=scheme)
    views: Views = {case: cut_view(found.get(case), choose, scheme) for case in shown}
    listed = ", ".join(f"{case} ({means[case]:.3f})" for case in shown)
    over = " over all classes" if len(scheme.evaluation) > 1 else ""
    lead = (
        f"The best cases ({len(shown)} of n = {len(means)}) by the mean of Dice and surface Dice"
        f"{over}, {_name_truth(evaluation)}, each {_name_slice(scheme)}: {listed}."
    )
    if len(means) == 1:
        drawing = drawing._replace(title="Figure 3. The case")
        lead = (
            f"The case (n = 1) and the mean of its Dice and surface Dice{over}, "
            f"{_name_truth(evaluation)}, {_name_slice(scheme)}: {listed}."
        )
    titles = [f"{case}\nmean {means[case]:.3f}" for case in shown]
    return _draw(drawing._replace(caption=lead), views, titles, scheme)


def plot_worst(evaluation: Evaluation, files: Mapping[str, Files] | None = None) -> Drawing:
    """Draw the five worst cases by the Dice of `rank_cases`, A to E: the paper's Figure 6.

    With KiTS's labels it is the tumor's. The caption names their failure modes if there are
    lesions; each case is shown at its `worst_slice`. Scores and arguments are those of `plot_best`.
    """
    drawing = Drawing("figure_6_worst", "Figure 6. The worst cases", "", None)
    found = _find_scored(evaluation) if files is None else files
    if isinstance(found, str):
        return drawing._replace(caption=found)
    by, ranked = rank_cases(evaluation)
    dice = {case: value for case, value in ranked.items() if np.isfinite(value)}
    scheme = evaluation.scheme
    shown = sorted(dice, key=lambda case: (dice[case], case))[:WORST]
    views: Views = {}
    titles, modes = [], []
    for letter, case in zip("ABCDE", shown, strict=False):
        lesions = [lesion for lesion in evaluation.lesions if lesion.case_id == case]
        choose = partial(worst_slice, lesions=lesions, scheme=scheme)
        views[case] = cut_view(found.get(case), choose, scheme)
        titles.append(f"{letter}  {case}\n{by} {dice[case]:.3f}")
        mode = f": {describe_case(lesions, scheme)}" if scheme.lesions else ""
        modes.append(f"{letter}, {case}, Dice {dice[case]:.3f}{mode}.")
    focus = find_focus(scheme)
    error = f"{scheme.names[focus.labels[0]]} error" if focus else "error"
    ending = ", and with its failure modes." if scheme.lesions else "."
    lead = (
        f"The worst cases ({len(shown)} of n = {len(dice)}) by {by}, "
        f"{_name_truth(evaluation)}, each at the slice with the largest {error}, if there is "
        f"one{ending}"
    )
    if len(dice) == 1:
        drawing = drawing._replace(title="Figure 6. The case and its failures")
        lead = (
            f"The case (n = 1) and its {by}, {_name_truth(evaluation)}, at the slice with "
            f"the largest {error}, if there is one{ending}"
        )
    return _draw(drawing._replace(caption=" ".join([lead, *modes])), views, titles, scheme)


def _find_scored(evaluation: Evaluation) -> dict[str, Files] | str:
    """Find the files that were scored; where they are gone, return what the caption says then."""
    if not (evaluation.predictions and evaluation.dataset):
        return "Not drawn: the folders of predictions and data set are not known."
    try:
        return find_files(evaluation.predictions, evaluation.dataset, evaluation.layout)
    except InputError as error:
        advice = "Say with --predictions and --dataset where these folders are now."
        return f"Not drawn: {error}. {advice}"


def _name_truth(evaluation: Evaluation) -> str:
    truth = MAJORITY if MAJORITY in evaluation.against else INDIVIDUAL
    return f"against {name_truth(truth, evaluation.scheme)}"


def _name_slice(scheme: LabelScheme) -> str:
    """Say which slice `best_slice` chooses."""
    names = [scheme.names[value] for value in shown_labels(scheme)]
    listed = ", else ".join(f"most {name}" for name in names[:_MOST_LISTED])
    return f"at the slice with {listed}{' and so on' if len(names) > _MOST_LISTED else ''}"


def _finite_scores(evaluation: Evaluation, column: str) -> dict[str, dict[str, float]]:
    """Return the finite scores against the majority if there are any, else the individual ones."""
    table = evaluation.table(evaluation.against[0], column) if evaluation.against else {}
    return {
        name: {case: score for case, score in by_case.items() if np.isfinite(score)}
        for name, by_case in table.items()
    }


def _average_scores(evaluation: Evaluation) -> dict[str, float]:
    """Average both Dice scores over all classes, for the cases where all of them are finite."""
    tables = [_finite_scores(evaluation, column) for column in SCORE_NAMES]
    columns = [by_case for table in tables for by_case in table.values()]
    cases = set.intersection(*map(set, columns)) if columns else set()
    return {case: float(np.mean([column[case] for column in columns])) for case in cases}


def _draw(empty: Drawing, views: Views, titles: Sequence[str], scheme: LabelScheme) -> Drawing:
    """Add the figure to a drawing whose caption states the scores, and complete the caption."""
    if not views:
        return empty._replace(caption="No case was scored, so none can be shown.")
    drawn = {case: view for case, view in views.items() if isinstance(view, View)}
    failed = _explain("Not shown", {c: why for c, why in views.items() if isinstance(why, str)})
    if not drawn:
        return empty._replace(caption=" ".join([empty.caption, *failed]))
    no_image = {case: view.why_no_image for case, view in drawn.items() if view.why_no_image}
    window = "" if len(no_image) == len(drawn) else "; the CT's window is 400/40 HU"
    colors = f"{_KITS_LEGEND}; anterior" if scheme == KITS else "Anterior"
    legend = f"{colors} is up, the patient's right on the left; bars are 50 mm long"
    rest = f"Top row: prediction; bottom row: truth. {legend}{window}."
    plain = _explain("On plain gray", no_image)
    figure = draw_views(list(views.values()), titles, scheme)
    return empty._replace(caption=" ".join([empty.caption, rest, *plain, *failed]), figure=figure)


def _explain(what: str, reasons: Mapping[str, str]) -> list[str]:
    """Write a sentence for each reason, with the cases that it holds for."""
    cases: dict[str, list[str]] = {}
    for case, why in reasons.items():
        cases.setdefault(why, []).append(case)
    return [f"{what}, {', '.join(those)}: {why}." for why, those in cases.items()]
