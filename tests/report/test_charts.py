import math
import subprocess
import sys
from dataclasses import replace

import pytest
from example_scores import random_evaluation

from kitsjax.evaluate.results import Evaluation
from kitsjax.report.charts import plot_boxes, plot_sensitivity, plot_volume

CHARTS = (plot_boxes, plot_volume, plot_sensitivity)


@pytest.mark.parametrize("chart", CHARTS)
def test_without_data_the_caption_says_why(chart):
    """One sentence stands in place of the figure."""
    drawing = chart(Evaluation())
    assert drawing.figure is None
    assert drawing.caption.endswith(".")
    assert ". " not in drawing.caption


def test_one_single_tumor_has_no_two_halves():
    drawing = plot_volume(random_evaluation(1))
    assert drawing.figure is None
    assert "halves" in drawing.caption


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cases", [1, 2])
@pytest.mark.parametrize("scores", ["different", "equal", "unknown"])
def test_odd_scores_are_drawn_without_a_warning(cases, scores):
    """Few, equal and unknown scores leave no empty box and no division by zero."""
    found = random_evaluation(cases)
    value = {"equal": 1.0, "unknown": math.nan}.get(scores)
    if value is not None:
        same = tuple(score._replace(dice=value, surface_dice=value) for score in found.scores)
        found = replace(found, scores=same)
    for chart in CHARTS:
        drawing = chart(found)
        assert drawing.caption
        if drawing.figure is not None:
            drawing.figure.draw_without_rendering()


def test_importing_figures_loads_no_matplotlib():
    code = (
        "import sys, kitsjax.report.charts, kitsjax.report.slices, kitsjax.report.training_curves;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jax')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
