import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread

from kitsjax.evaluate.lesions import OUTCOMES
from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.labels import EVALUATION_CLASSES, INDIVIDUAL, MAJORITY
from kitsjax.report.charts import (
    BINS,
    LEAST_CASES,
    MOST_DOTS,
    plot_boxes,
    plot_sensitivity,
    plot_training,
    plot_volume,
)
from kitsjax.report.drawing import Drawing, new_figure, save_drawing
from kitsjax.report.statistics import size_halves

CHARTS = (plot_boxes, plot_volume, lambda evaluation: plot_sensitivity(evaluation.lesions))


def epoch(number, **changed):
    row = {
        "epoch": number, "train_loss": 1 / number, "validation_loss": abs(number - 6) / 4 - 0.5,
        "pseudo_dice": 0.05 * number, "pseudo_dice_average": 0.04 * number,
    }  # fmt: skip
    return row | changed


def lesion(case_id, label, volume_cm3, outcome):
    source = "prediction" if outcome == "false positive" else "truth"
    return Lesion(case_id, source, label, 1, volume_cm3, outcome, 0.5, 0.1, 0.1, 3)


def evaluation(cases, against=(MAJORITY, INDIVIDUAL)):
    """Scores of KiTS-like cases: larger tumors score higher."""
    random = np.random.default_rng(cases)
    scores, lesions = [], []
    for number in range(cases):
        case_id = f"case_{number:05d}"
        volume = float(np.exp(random.normal(3.2, 1.2)))
        dice = float(np.clip(0.9 - 0.6 * random.random() / volume**0.3, 0, 1))
        for name in EVALUATION_CLASSES:
            for kind in against:
                value = dice - 0.01 * (kind == INDIVIDUAL)
                row = (value, 0.9 * value, 5.0, volume, volume, 1 + (number % 10 == 9))
                scores.append(Score(case_id, name, kind, 1, *row))
        lesions.append(lesion(case_id, "tumor", volume, list(OUTCOMES)[number % len(OUTCOMES)]))
    return Evaluation(tuple(scores), (), tuple(lesions))


def lines(axis, color):
    return [line for line in axis.get_lines() if line.get_color() == color]


def test_training_curves_have_the_paper_colors_and_their_values():
    epochs = [epoch(number) for number in range(1, 11)]
    losses, scores = plot_training(epochs).figure.axes
    for axis, color, name in (
        (losses, "b", "train_loss"), (losses, "r", "validation_loss"), (scores, "g", "pseudo_dice_average")
    ):  # fmt: skip
        (curve,) = (line for line in lines(axis, color) if len(line.get_xdata()) == 10)
        assert list(curve.get_ydata()) == [row[name] for row in epochs]


def test_the_epoch_of_the_least_validation_loss_is_marked_and_named():
    drawing = plot_training([epoch(number) for number in range(1, 11)])
    assert "least, −0.500, at epoch 6." in drawing.caption
    assert "highest, 0.400, at epoch 10." in drawing.caption
    (mark,) = (line for line in lines(drawing.figure.axes[0], "r") if line.get_marker() == "v")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (6, -0.5)


def test_a_single_epoch_is_visible(tmp_path):
    path = save_drawing(plot_training([epoch(1)]), tmp_path)[0]
    image = imread(path)[:520, 200:1000, :3]  # without the legend
    for channel in range(3):
        others = [c for c in range(3) if c != channel]
        assert (image[..., channel] > image[..., others].max(-1) + 0.2).sum() > 50


def test_unknown_numbers_leave_gaps_in_the_curves():
    drawing = plot_training([epoch(1, validation_loss=math.nan), epoch(2, validation_loss=2.0)])
    assert "at epoch 2." in drawing.caption
    nothing = dict.fromkeys(("validation_loss", "pseudo_dice", "pseudo_dice_average"), math.nan)
    assert "least" not in plot_training([epoch(1, **nothing)]).caption


@pytest.mark.parametrize("against", [(MAJORITY,), (MAJORITY, INDIVIDUAL)])
def test_medians_of_the_boxes_are_those_of_the_cases(against):
    found = evaluation(30, against)
    drawing = plot_boxes(found)
    for axis, column in zip(drawing.figure.axes, ("dice", "surface_dice"), strict=True):
        drawn = sorted(
            line.get_ydata()[0] for line in lines(axis, "black") if line.get_linewidth() == 2
        )
        tables = [found.table(kind, column) for kind in against]
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
    drawing = plot_boxes(evaluation(LEAST_CASES - 1))
    for axis in drawing.figure.axes:
        assert not axis.patches
        assert [len(dots.get_offsets()) for dots in axis.collections] == [LEAST_CASES - 1] * 6
    assert "a box takes 5 cases" in drawing.caption


def test_every_case_is_drawn_once():
    low = evaluation(30)
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
    many = plot_boxes(evaluation(MOST_DOTS + 1))
    assert not any(axis.collections for axis in many.figure.axes)
    assert "marks: outliers." in many.caption


def test_histograms_count_every_case_with_a_single_tumor_once():
    found = evaluation(60)
    halves = size_halves(found)
    drawing = plot_volume(found)
    for axis, half in zip(drawing.figure.axes, (halves.dice, halves.surface_dice), strict=True):
        for bars, scores in zip(axis.containers, (half.low, half.high), strict=True):
            heights = [bar.get_height() for bar in bars]
            assert sum(heights) == len(scores)
            assert heights == list(np.histogram(scores, BINS)[0])
        low, high = (line.get_xdata()[0] for line in lines(axis, "black"))
        assert (low, high) == (np.median(half.low), np.median(half.high))
        assert {bool(bars[0].get_hatch()) for bars in axis.containers} == {True, False}
        for number in (f"{low:.3f}", f"{high:.3f}", f"U = {half.u:g}", f"p = {half.p:.2g}"):
            assert number in drawing.caption
    assert f"n = {halves.cases} cases" in drawing.caption
    assert f"median volume of {halves.median_cm3:.2f} cm³" in drawing.caption


def test_rates_of_detection_and_their_numbers_stand_at_their_volumes():
    found = [lesion("case_00000", "tumor", 5.0, "detected")] * 3
    found += [lesion("case_00000", "tumor", 5.0, "missed")]
    found += [
        lesion("case_00000", "cyst", 200.0, "missed"),
        lesion("", "cyst", 0.2, "false positive"),
    ]
    drawing = plot_sensitivity(found)
    above, below = drawing.figure.axes
    tumors, cysts = (container.lines[0].get_ydata() for container in above.containers)
    assert [rate for rate in tumors if rate == rate] == [0.75]
    assert [rate for rate in cysts if rate == rate] == [0.0]
    labels = [text.get_text().split("\n") for text in above.get_xticklabels()]
    assert ["3–10", "4", "0"] in labels
    assert labels[-1][1:] == ["0", "1"]
    assert "3 of 4 tumors and 0 of 1 cysts were found" in drawing.caption
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in below.containers}
    assert widths == {name: [0, 0] for name in OUTCOMES} | {
        "detected": [3, 0], "missed": [1, 1], "false positive": [0, 1]
    }  # fmt: skip
    assert "Cysts: 1 missed, 1 false positive." in drawing.caption


def test_outcomes_are_told_apart_without_color():
    below = plot_sensitivity(evaluation(12).lesions).figure.axes[1]
    assert len({bars[0].get_hatch() for bars in below.containers}) == len(OUTCOMES)


def test_without_data_the_caption_says_in_one_sentence_why_there_is_no_figure():
    for drawing in [plot_training([]), *(chart(Evaluation()) for chart in CHARTS)]:
        assert drawing.figure is None
        assert drawing.caption.endswith(".")
        assert ". " not in drawing.caption


def test_one_single_tumor_has_no_two_halves():
    drawing = plot_volume(evaluation(1))
    assert drawing.figure is None
    assert "halves" in drawing.caption


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cases", [1, 2])
@pytest.mark.parametrize("scores", ["different", "equal", "unknown"])
def test_few_equal_and_unknown_scores_are_drawn_without_a_warning(cases, scores):
    found = evaluation(cases)
    value = {"equal": 1.0, "unknown": math.nan}.get(scores)
    if value is not None:
        same = tuple(score._replace(dice=value, surface_dice=value) for score in found.scores)
        found = replace(found, scores=same)
    for chart in CHARTS:
        drawing = chart(found)
        assert drawing.caption
        if drawing.figure is not None:
            drawing.figure.draw_without_rendering()


def test_equal_drawings_are_equal_bytes_in_png_and_pdf(tmp_path):
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        written = save_drawing(plot_sensitivity(evaluation(20).lesions), folder)
        assert [path.name for path in written] == [
            "figure_7_sensitivity.png", "figure_7_sensitivity.pdf"
        ]  # fmt: skip
        files.append([path.read_bytes() for path in written])
    assert files[0] == files[1]
    assert b"CreationDate" not in files[0][1]


def test_without_a_figure_the_files_of_an_earlier_one_are_removed(tmp_path):
    assert len(save_drawing(plot_boxes(evaluation(6)), tmp_path)) == 2
    assert save_drawing(plot_boxes(Evaluation()), tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_a_png_keeps_white_and_the_hue_of_a_small_spot(tmp_path):
    figure = new_figure(3, 2)
    axis = figure.add_subplot()
    noise = np.random.default_rng(0).random((200, 300, 1)).repeat(3, axis=2)
    noise[:100, :, 0] = 1  # half of it reddish
    noise[150:153, 150:153] = (0, 0.2, 0.9)
    axis.imshow(noise)
    image = imread(save_drawing(Drawing("spot", "Spot", "A spot.", figure), tmp_path)[0])
    assert (image[0, 0, :3] == 1).all()
    blue = (image[..., 2] > 0.7) & (image[..., 0] < 0.25) & (image[..., 1] < 0.4)
    assert blue.sum() >= 4


def test_importing_the_charts_does_not_load_matplotlib():
    code = (
        "import sys, kitsjax.report.charts, kitsjax.report.slices;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'PIL', 'jax')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
