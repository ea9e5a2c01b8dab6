from itertools import pairwise

import numpy as np
import pytest
from example_scores import random_evaluation

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, MAJORITY
from kitsjax.report.charts import MOST_DOTS, plot_boxes, plot_volume
from kitsjax.report.score_panels import BINS, LEAST_CASES
from kitsjax.report.statistics import size_halves


def black_lines(axis):
    return [line for line in axis.get_lines() if line.get_color() == "black"]


@pytest.mark.parametrize("against", [(MAJORITY,), (MAJORITY, INDIVIDUAL)])
def test_boxes_show_the_medians_of_the_cases(against):
    found = random_evaluation(30, against)
    drawing = plot_boxes(found)
    for axis, column in zip(drawing.figure.axes, ("dice", "surface_dice"), strict=True):
        drawn = sorted(
            line.get_ydata()[0] for line in black_lines(axis) if line.get_linewidth() == 2
        )
        tables = [found.table(truth, column) for truth in against]
        medians = [np.median(list(t[name].values())) for t in tables for name in t]
        np.testing.assert_allclose(drawn, sorted(medians))
        assert f"Tumor {'/'.join(f'{m:.3f}' for m in medians[2::3])}" in drawing.caption
        hatches = [patch.get_hatch() for patch in axis.patches]
        assert len(hatches) == 3 * len(against)
        assert sum(map(bool, hatches)) == 3 * (INDIVIDUAL in against)
        edges = sorted(patch.get_extents().intervalx.tolist() for patch in axis.patches)
        assert all(left[1] < right[0] for left, right in pairwise(edges)), "boxes overlap"
    assert drawing.caption.count("n = 30") == len(against)


def test_few_cases_are_dots_without_boxes():
    drawing = plot_boxes(random_evaluation(LEAST_CASES - 1))
    for axis in drawing.figure.axes:
        assert not axis.patches
        assert [len(dots.get_offsets()) for dots in axis.collections] == [LEAST_CASES - 1] * 6
    assert "a box takes 5 cases" in drawing.caption


def test_every_case_is_drawn_once():
    low = random_evaluation(30)
    # One case far below all others: an outlier in every box.
    scores = tuple(
        score._replace(dice=0.01, surface_dice=0.01) if score.case_id == "case_00007" else score
        for score in low.scores
    )
    drawing = plot_boxes(Evaluation(scores))
    assert "marks: outliers; points: all other cases." in drawing.caption
    for axis in drawing.figure.axes:
        points = [dots.get_offsets()[:, 1].tolist() for dots in axis.collections]
        marks = [
            list(line.get_ydata()) for line in axis.get_lines() if line.get_marker() in ("o", "s")
        ]
        assert len(points) == len(marks) == 6
        for dots, outliers in zip(points, marks, strict=True):
            assert 0.01 in outliers
            assert len(dots) + len(outliers) == 30
            assert not set(dots) & set(outliers)
    many = plot_boxes(random_evaluation(MOST_DOTS + 1))
    assert not any(axis.collections for axis in many.figure.axes)
    assert "marks: outliers." in many.caption


def test_histograms_count_every_case_once():
    """Every case with a single tumor is in one bar; the lines are the medians of the caption."""
    found = random_evaluation(60)
    halves = size_halves(found)
    drawing = plot_volume(found)
    for axis, half in zip(drawing.figure.axes, (halves.dice, halves.surface_dice), strict=True):
        for bars, scores in zip(axis.containers, (half.low, half.high), strict=True):
            heights = [bar.get_height() for bar in bars]
            assert sum(heights) == len(scores)
            assert heights == list(np.histogram(scores, BINS)[0])
        low, high = (line.get_xdata()[0] for line in black_lines(axis))
        assert (low, high) == (np.median(half.low), np.median(half.high))
        assert {bool(bars[0].get_hatch()) for bars in axis.containers} == {True, False}
        for number in (f"{low:.3f}", f"{high:.3f}", f"U = {half.u:g}", f"p = {half.p:.2g}"):
            assert number in drawing.caption
    assert f"n = {halves.cases} cases" in drawing.caption
    assert f"median volume of {halves.median_cm3:.2f} cm³" in drawing.caption
