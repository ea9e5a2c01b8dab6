"""Values that an evaluation can hold; whole files are damaged in `test_read_results`."""

import math

import pytest

from kitsjax.evaluate.check_results import (
    check_complete,
    check_lesion,
    check_mean,
    check_sample,
    check_samples,
    check_scored,
)
from kitsjax.evaluate.outcomes import OUTCOMES
from kitsjax.evaluate.results import Lesion
from kitsjax.labels import KITS


def refused(fields):
    return [name for name, is_possible in fields.items() if not is_possible]


def test_every_field_is_checked(evaluation):
    mean, sample, lesion = (
        rows[0] for rows in (evaluation.scores, evaluation.samples, evaluation.lesions)
    )
    for row, check in ((mean, check_mean), (sample, check_sample), (lesion, check_lesion)):
        assert set(check(row, KITS)) == set(row._fields)
        assert refused(check(row, KITS)) == []


@pytest.mark.parametrize(
    ("field", "possible", "impossible"),
    [
        ("case_id", ["case_00001"], ["", " "]),
        ("evaluation_class", ["mass", "tumor"], ["liver", ""]),
        ("against", ["majority", "individual"], ["", "group_0/kidney.nii.gz"]),
        ("samples", [1, 15], [0, -1]),
        ("dice", [0.0, 1.0, 1 + 2e-16], [-1e-9, 1.001, math.nan, math.inf]),
        ("surface_dice", [0.0, 1.0, 1 + 2e-16], [-1e-9, 1.001, math.nan, math.inf]),
        ("hausdorff95_mm", [0.0, 300.0, math.nan], [-1.0, math.inf]),
        ("prediction_cm3", [0.0, 3000.0], [-1.0, math.nan, math.inf]),
        ("truth_cm3", [0.0, 3000.0], [-1.0, math.nan, math.inf]),
        ("lesions", [0, 5], [-1]),
    ],
)
def test_values_of_scores(evaluation, field, possible, impossible):
    """A share may exceed 1 by rounding alone."""
    for value in possible:
        assert refused(check_mean(evaluation.scores[0]._replace(**{field: value}), KITS)) == []
    for value in impossible:
        assert refused(check_mean(evaluation.scores[0]._replace(**{field: value}), KITS)) == [field]


def test_a_sample_is_against_its_file(evaluation):
    for against in ("", "majority", "individual"):
        assert refused(check_sample(evaluation.samples[0]._replace(against=against), KITS)) == [
            "against"
        ]


@pytest.mark.parametrize(
    ("field", "possible", "impossible"),
    [
        ("case_id", ["case_00001"], ["", " "]),
        ("source", ["truth"], []),
        ("label", ["tumor", "cyst"], ["kidney", ""]),
        ("number", [1, 9], [0]),
        ("volume_cm3", [0.01, 900.0], [-1.0, math.nan, math.inf]),
        ("outcome", list(OUTCOMES)[:-1], ["false positive", "eaten", ""]),
        ("covered", [0.0, 1 + 2e-16, math.nan], [-0.1, 1.1, math.inf]),
        ("excess", [0.0, 1 + 2e-16, math.nan], [-0.1, 1.1, math.inf]),
        ("misclassified", [0.0, 1 + 2e-16, math.nan], [-0.1, 1.1, math.inf]),
        ("slice", [0, 500], [-1]),
    ],
)
def test_values_of_lesions(field, possible, impossible):
    lesion = Lesion("case_00000", "truth", "tumor", 1, 2.0, "detected", 1.0, 0.0, 0.0, 7)
    for value in possible:
        assert refused(check_lesion(lesion._replace(**{field: value}), KITS)) == []
    for value in impossible:
        assert refused(check_lesion(lesion._replace(**{field: value}), KITS)) == [field]


def test_only_false_positives_are_predicted(evaluation):
    (lesion,) = evaluation.lesions
    for outcome in OUTCOMES:
        expected = [] if outcome == "false positive" else ["outcome"]
        assert refused(check_lesion(lesion._replace(outcome=outcome), KITS)) == expected
    assert "source" in refused(check_lesion(lesion._replace(source="x"), KITS))


def test_whole_tables(evaluation):
    scores, samples, lesions = evaluation.scores, evaluation.samples, evaluation.lesions
    check_complete(scores, KITS)
    check_samples(scores, samples)
    check_scored(lesions, scores)
    with pytest.raises(ValueError, match="no row of case_00000, mass, majority"):
        check_complete(scores[:1] + scores[2:], KITS)
    with pytest.raises(ValueError, match="no row of case_00000, majority, which other cases have"):
        check_complete(scores[3:], KITS)
    with pytest.raises(ValueError, match=r"0 rows of case_00000, tumor, while .* the mean of 1"):
        check_samples(scores, samples[:2])
    with pytest.raises(ValueError, match=r"rows of 'case_00000', which scores\.csv lacks"):
        check_scored(lesions, scores[6:])
