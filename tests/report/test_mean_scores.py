import math

import pytest
from example_scores import evaluation

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, MAJORITY
from kitsjax.report.mean_scores import PUBLISHED, score_means


@pytest.mark.parametrize("compare", [None, *PUBLISHED])
def test_means_stand_beside_the_published_ones(compare):
    rows = {row[:3]: row for row in score_means(evaluation(0.5, 0.7), compare)}
    assert len(rows) == 3 * 2 * 2
    row = rows["mass", "surface_dice", INDIVIDUAL]
    assert row.mean == pytest.approx(0.49)
    assert row.low <= row.mean <= row.high
    assert row.cases == 2
    published = PUBLISHED["paper"].means["surface_dice", INDIVIDUAL][1] if compare else math.nan
    assert row.published == pytest.approx(published, nan_ok=True)


def test_what_was_not_scored_has_no_rows():
    rows = score_means(evaluation(0.5, against=[MAJORITY]))
    assert {row.against for row in rows} == {MAJORITY}
    assert score_means(Evaluation()) == []
