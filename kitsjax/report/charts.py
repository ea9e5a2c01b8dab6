"""Charts of an evaluation, with their captions: Figures 4 and 5 of the paper, and Figure 7.

Figure 7, the lesions found by volume, is not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kitsjax.evaluate.outcomes import count_outcomes
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import LabelScheme
from kitsjax.report.drawing import Drawing, new_figure
from kitsjax.report.lesion_panels import draw_outcomes, draw_rates
from kitsjax.report.names import (
    SCORE_NAMES,
    find_focus,
    join_names,
    name_truth,
    pluralize,
)
from kitsjax.report.score_panels import (
    LEAST_CASES,
    MOST_UPRIGHT,
    draw_boxes,
    draw_histograms,
    keep_finite,
)
from kitsjax.report.sensitivity import sensitivity
from kitsjax.report.statistics import Halves, size_halves

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.container import BarContainer

MOST_DOTS = 40
"""More cases than this are not drawn one by one behind their box."""

_UNDER = {1: "", 2: " under either label"}
"""Under which labels a lesion counts as found, by the number of lesion labels."""


def plot_boxes(evaluation: Evaluation) -> Drawing:
    """Draw box and whisker plots of both Dice scores by class: the paper's Figure 4.

    Scores against the majority label and the individual annotations stand side by side where both
    are known. Fewer than `LEAST_CASES` cases are dots with their median, without a box.
    """
    drawing = Drawing("figure_4_boxes", "Figure 4. Dice and surface Dice by class", "", None)
    truths = evaluation.against
    if not truths:
        return drawing._replace(caption="No case was scored, so there are no boxes to draw.")
    counts = {truth: len(evaluation.scored(truth)) for truth in truths}
    dots = max(counts.values()) <= MOST_DOTS
    scheme = evaluation.scheme
    # Many classes take the whole width, so the two panels lie one below the other.
    many = len(scheme.evaluation) > MOST_UPRIGHT
    figure = new_figure(7, 6.4 if many else 4.2)
    panels = figure.subplots(2, 1, sharex=True) if many else figure.subplots(1, 2, sharey=True)
    handles: list[Artist] = []
    captions = [_describe_boxes(counts, dots, scheme)]
    for axis, (column, name) in zip(panels, SCORE_NAMES.items(), strict=True):
        scores = {
            truth: [keep_finite([*by_case.values()]) for by_case in classes.values()]
            for truth, classes in ((truth, evaluation.table(truth, column)) for truth in truths)
        }
        axis.set_title(name)
        handles = draw_boxes(axis, scores, dots, [*scheme.titles.values()])
        captions.append(_list_medians(name, scores, scheme))
    if len(truths) > 1:
        figure.legend(handles, truths, loc="outside lower center", ncols=2, frameon=False)
    return drawing._replace(caption=" ".join(captions), figure=figure)


def plot_volume(evaluation: Evaluation) -> Drawing:
    """Draw histograms of tumor scores for small and large tumors: the paper's Figure 5.

    Shows Dice above and surface Dice below, against the majority label, over the cases with a
    single tumor. With other labels than KiTS's, a tumor is a lesion of the class in focus.
    """
    focus = find_focus(evaluation.scheme)
    kind = evaluation.scheme.names[focus.labels[0]] if focus else "lesion"
    title = f"Figure 5. {kind.capitalize()} scores by {kind} volume"
    drawing = Drawing("figure_5_volume", title, "", None)
    halves = size_halves(evaluation)
    if isinstance(halves, str):
        return drawing._replace(caption=halves)
    figure = new_figure(7, 5)
    captions = [
        f"{kind.capitalize()} Dice (top) and surface Dice (bottom) of the n = {halves.cases} cases "
        f"with a single {kind}, {len(halves.dice.low)} below the median volume of "
        f"{halves.median_cm3:.2f} cm³ (low volume) and {len(halves.dice.high)} of at least that "
        "(high volume)."
    ]
    handles: list[Artist | BarContainer] = []
    for axis, (column, name) in zip(
        figure.subplots(2, 1, sharex=True), SCORE_NAMES.items(), strict=True
    ):
        scores: Halves = getattr(halves, column)
        handles = draw_histograms(axis, scores)
        axis.set_xlabel(f"{kind} {name}")
        captions.append(
            f"Median {name}: {scores.low_median:.3f} of low and {scores.high_median:.3f} of high "
            f"volume, Mann-Whitney U = {scores.u:g}, p = {scores.p:.2g}."
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return drawing._replace(caption=" ".join(captions), figure=figure)


def plot_sensitivity(evaluation: Evaluation) -> Drawing:
    """Draw the detection rate of lesions by volume, and below it their outcomes.

    The rates have Wilson's 95 % intervals. Each label has one bar, whose sections are the outcomes.
    """
    drawing = Drawing("figure_7_sensitivity", "Figure 7. Lesions found, by volume", "", None)
    lesions, scheme = evaluation.lesions, evaluation.scheme
    if not lesions:
        kinds = join_names([scheme.names[label] for label in scheme.lesions] or ["lesion"], "or")
        return drawing._replace(
            caption=f"There is no {kinds} in truth or prediction, so no rate can be shown."
        )
    counts, rates = count_outcomes(lesions, scheme), sensitivity(lesions, scheme)
    figure = new_figure(7, 6.4)
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    draw_rates(above, rates, scheme)
    draw_outcomes(below, counts)
    figure.legend(handles=above.containers, loc="outside upper center", ncols=2, frameon=False)
    figure.legend(handles=below.containers, loc="outside lower center", ncols=3, frameon=False)
    found = join_names(
        [
            f"{sum(row.found for row in rows)} of {sum(row.lesions for row in rows)} "
            f"{pluralize(label)}"
            for label, rows in rates.items()
        ],
        "and",
    )
    listed = " ".join(
        f"{pluralize(label).title()}: "
        f"{', '.join(f'{n} {name}' for name, n in row.items() if n) or 'none'}."
        for label, row in counts.items()
    )
    caption = (
        f"Top: rate of true lesions found{_UNDER.get(len(rates), ' under any label')}, by volume, "
        f"with Wilson's 95 % intervals, and numbers of lesions; in all {found} were found. Bottom: "
        f"outcomes of true lesions, and false positives. {listed}"
    )
    return drawing._replace(caption=caption, figure=figure)


def _describe_boxes(counts: Mapping[str, int], dots: bool, scheme: LabelScheme) -> str:
    """Name the cases of Figure 4, and the parts of a box."""
    cases = " and ".join(
        f"n = {n} against {name_truth(truth, scheme)}" for truth, n in counts.items()
    )
    text = f"Dice and surface Dice of the cases, {cases}."
    if max(counts.values()) < LEAST_CASES:
        return (
            f"{text} Each case is a mark and the line their median; a box takes {LEAST_CASES} "
            "cases."
        )
    return (
        f"{text} Box: quartiles and median; whiskers: the farthest case within 1.5 interquartile "
        f"ranges; marks: outliers{'; points: all other cases' if dots else ''}."
    )


def _list_medians(
    score: str, scores: Mapping[str, Sequence[np.ndarray]], scheme: LabelScheme
) -> str:
    """List the medians of a score by class, those of the ground truths apart by slashes."""
    listed = ", ".join(
        f"{name} {'/'.join(map(_median, values))}"
        for name, *values in zip(scheme.titles.values(), *scores.values(), strict=True)
    )
    truths = f" ({'/'.join(scores)})" if scheme.is_kits else ""
    return f"Median {score}{truths}: {listed}."


def _median(values: np.ndarray) -> str:
    return f"{np.median(values):.3f}" if len(values) else "–"
