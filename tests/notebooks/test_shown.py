"""What a notebook makes of scores, tables and figures, without a line of its own."""

import math
from io import BytesIO

import pandas as pd
from matplotlib.image import imread

from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.report.charts import plot_boxes
from kitsjax.report.mean_scores import PUBLISHED, score_means
from kitsjax.report.result_tables import score_table
from kitsjax.report.table_format import to_markdown

DICE = {"case_00000": 0.5, "case_00001": 0.7, "case_00002": 0.75}
EVALUATION = Evaluation(
    scores=tuple(
        Score(case, name, truth, 1, dice, dice / 2, math.nan, 10.0, 20.0, 1)
        for case, dice in DICE.items()
        for name in KITS.evaluation_keys
        for truth in (MAJORITY, INDIVIDUAL)
    ),
    lesions=(Lesion("case_00000", "truth", "cyst", 1, 0.3, "missed", 0.0, math.nan, math.nan, 7),),
)


def test_pandas_takes_scores_and_lesions():
    scores, lesions = pd.DataFrame(EVALUATION.scores), pd.DataFrame(EVALUATION.lesions)
    assert tuple(scores.columns) == Score._fields
    assert tuple(lesions.columns) == Lesion._fields
    means = scores.groupby("evaluation_class").dice.mean()
    assert math.isclose(means["tumor"], 0.65)
    assert lesions.volume_cm3.sum() == 0.3


def test_means_stand_beside_published_ones():
    means = pd.DataFrame(score_means(EVALUATION, "paper"))
    assert len(means) == 2 * 2 * 3
    row = means.set_index(["score", "against", "evaluation_class"]).loc["dice", MAJORITY, "mass"]
    assert math.isclose(row["mean"], 0.65)
    assert row.low < 0.65 < row.high
    assert row.published == PUBLISHED["paper"].means["dice", MAJORITY][1]
    assert row.cases == 3
    assert pd.DataFrame(score_means(EVALUATION)).published.isna().all()
    assert score_means(Evaluation()) == []


def test_table_is_shown_as_markdown():
    table = score_table(EVALUATION)
    assert table._repr_markdown_() == to_markdown(table)


def test_drawing_is_shown_as_equal_bytes():
    drawing = plot_boxes(EVALUATION)
    shown = drawing._repr_png_()
    assert shown == drawing._repr_png_()
    assert b"Software" not in shown
    assert imread(BytesIO(shown)).shape[:2] == (420, 700)


def test_drawing_without_figure_shows_fields():
    assert plot_boxes(Evaluation())._repr_png_() is None
