import math
from statistics import NormalDist

import numpy as np
import pytest
from example_scores import lesion

from kitsjax.evaluate.results import Evaluation, Score
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.report.sensitivity import VOLUME_EDGES_CM3, sensitivity
from kitsjax.report.statistics import (
    SizeHalves,
    agreement,
    mean_interval,
    size_halves,
)


def evaluation_of(dice, surface_dice=None, against=MAJORITY, volumes=None, tumors=None):
    """Scores given as (cases, classes); the volumes and numbers of tumors of each case."""
    dice = np.asarray(dice, float)
    surface_dice = dice if surface_dice is None else np.asarray(surface_dice, float)
    volumes = [1.0] * len(dice) if volumes is None else volumes
    tumors = [1] * len(dice) if tumors is None else tumors
    rows = [
        Score(f"case_{i:05d}", name, against, 1, float(dice[i, k]), float(surface_dice[i, k]),
              1.0, 1.0, volumes[i], tumors[i])
        for i in range(len(dice))
        for k, name in enumerate(KITS.evaluation_keys)
    ]  # fmt: skip
    return Evaluation(scores=tuple(rows))


def both(majority, individual):
    """The evaluation that holds the scores of two."""
    return Evaluation(scores=majority.scores + individual.scores)


def test_interval_of_many_cases_is_a_normal_one():
    values = np.random.default_rng(5).normal(0.8, 0.05, 300)
    mean, low, high = mean_interval(values)
    half = NormalDist().inv_cdf(0.975) * values.std(ddof=1) / math.sqrt(300)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.05 * half)


def test_interval_reaches_further_to_the_outlier():
    """Skewed scores have a skewed interval."""
    mean, low, high = mean_interval([0.0, *[0.9, 0.92, 0.94, 0.95, 0.96, 0.97] * 4])
    assert 0 < high - mean < 0.4 * (mean - low), "0.56 by percentiles alone"
    assert high < 0.97


def test_interval_is_the_same_for_the_same_seed():
    values = [0.2, 0.5, 0.7, 0.71, 0.9, 0.95]
    assert mean_interval(values) == mean_interval(values, seed=0)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_interval_of_few_or_equal_cases():
    assert np.isnan(mean_interval([])).all()
    assert mean_interval([0.4])[0] == 0.4
    assert np.isnan(mean_interval([0.4])[1:]).all()
    assert mean_interval([1.0, 1.0, 1.0]) == (1, 1, 1)
    assert mean_interval([0.7, 0.7, 0.7, 0.7, 0.1 * 7]) == pytest.approx((0.7, 0.7, 0.7))
    assert mean_interval([0.1, 0.9]) == pytest.approx((0.5, 0.1, 0.9))
    assert np.isnan(mean_interval([0.4, math.nan, 0.5])).all()


def test_largest_fall_and_its_class():
    majority = [[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.7, 0.5, 0.5]]
    falls = np.array([[0.01, 0.04, 0.02], [0.01, 0.05, 0.02], [0.01, 0.00, 0.06]])
    # Means of the falls over cases: 0.01, 0.03, 0.0333; surface Dice's: half, in reverse order.
    ours = evaluation_of(majority)
    theirs = evaluation_of(majority - falls, majority - falls[:, ::-1] / 2, against=INDIVIDUAL)
    found = agreement(both(ours, theirs))
    assert found.cases == 3
    assert found.dice == (pytest.approx(0.1 / 3), "tumor")
    assert found.surface_dice == (pytest.approx(0.05 / 3), "kidney_and_mass")
    assert found.spearman_r == pytest.approx(1)


def test_spearman_is_over_the_case_means():
    """Ranks 1..5 against 2, 1, 4, 3, 5: 1 - 6 * 4 / (5 * 24) = 0.8, whatever single scores do."""
    classes, columns = np.array([-0.3, 0, 0.3]), np.array([[0.4], [-0.3], [0.2], [-0.2], [0]])

    def scores(ranks, classes, **against):
        means = np.array(ranks)[:, None] / 10 + classes
        return evaluation_of(means + columns, means - columns, **against)

    ours = scores([1, 2, 3, 4, 5], classes)
    theirs = scores([2, 1, 4, 3, 5], -classes, against=INDIVIDUAL)
    assert agreement(both(ours, theirs)).spearman_r == pytest.approx(0.8)


def test_a_rise_is_a_fall_below_zero():
    ours = evaluation_of([[0.5, 0.5, 0.5]] * 3)
    theirs = evaluation_of([[0.6, 0.7, 0.8]] * 3, against=INDIVIDUAL)
    found = agreement(both(ours, theirs))
    assert found.dice == (pytest.approx(-0.1), "kidney_and_mass")
    assert math.isnan(found.spearman_r), "constant scores have no ranks"


def test_agreement_is_over_cases_scored_twice():
    scores = np.array([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.7, 0.5, 0.5], [0.1, 0.1, 0.1]])
    ours, theirs = evaluation_of(scores), evaluation_of(scores[:3], against=INDIVIDUAL)
    found = agreement(both(ours, theirs))
    assert (found.cases, found.dice.fall, found.spearman_r) == (3, 0, pytest.approx(1))
    assert agreement(ours) is None
    assert agreement(theirs) is None
    assert agreement(both(ours, evaluation_of(scores[:2], against=INDIVIDUAL))) is None
    assert agreement(Evaluation()) is None


def tumor_scores(dice):
    return np.array([[1.0, 1.0, value] for value in dice])


def test_halves_by_hand():
    """The median case is in the high half; the case with two tumors is in neither."""
    dice = [0.9, 0.5, 0.0, 0.8, 0.3, 0.7]
    surface_dice = [0.1, 0.5, 0.0, 0.2, 0.6, 0.4]
    found = size_halves(
        evaluation_of(
            tumor_scores(dice), tumor_scores(surface_dice),
            volumes=[30.0, 5.0, 1.0, 20.0, 10.0, 40.0], tumors=[1, 1, 2, 1, 1, 1],
        )
    )  # fmt: skip
    assert isinstance(found, SizeHalves)
    assert (found.cases, found.median_cm3) == (5, 20)
    assert (found.dice.low, found.dice.high) == ((0.5, 0.3), (0.9, 0.8, 0.7))
    assert (found.dice.low_median, found.dice.high_median) == pytest.approx((0.4, 0.8))
    # No low case beats a high one: U = 0, in 2 of the 10 arrangements, two-sided.
    assert (found.dice.u, found.dice.p) == (0, pytest.approx(0.2))
    # Every low case beats every high one: SciPy's U of the low half is 6, the smaller is 0.
    assert found.surface_dice.low == (0.5, 0.6)
    assert (found.surface_dice.u, found.surface_dice.p) == (0, pytest.approx(0.2))


def test_p_of_many_cases_is_by_the_normal_law():
    """As the paper's: 57 cases, 28 below the median and 29 not; U by counting pairs."""
    rng = np.random.default_rng(2)
    volumes = rng.lognormal(3.2, 1.0, 57)
    dice = rng.random(57) ** 0.2 - (volumes < np.median(volumes)) * 0.1
    found = size_halves(evaluation_of(tumor_scores(dice), volumes=volumes.tolist()))
    low, high = np.array(found.dice.low), np.array(found.dice.high)
    assert (len(low), len(high)) == (28, 29)
    assert found.dice.u == (low[:, None] > high).sum()
    z = (found.dice.u + 0.5 - 28 * 29 / 2) / math.sqrt(28 * 29 * 58 / 12)
    assert found.dice.p == pytest.approx(2 * NormalDist().cdf(z))


def test_halves_of_equal_scores_differ_in_nothing():
    found = size_halves(evaluation_of(tumor_scores([0.8] * 4), volumes=[1.0, 2.0, 3.0, 4.0]))
    assert (found.dice.u, found.dice.p) == (2, 1)


def test_volumes_are_those_of_the_majority():
    scores = tumor_scores([0.1, 0.2, 0.8, 0.9])
    ours = evaluation_of(scores / 2, volumes=[1.0, 2.0, 3.0, 4.0])
    theirs = evaluation_of(scores, against=INDIVIDUAL, volumes=[9.0, 8.0, 2.0, 1.0])
    found = size_halves(both(ours, theirs), against=INDIVIDUAL)
    assert (found.median_cm3, found.dice.low, found.dice.high) == (2.5, (0.1, 0.2), (0.8, 0.9))
    assert size_halves(both(ours, theirs)).dice.high == (0.4, 0.45)


@pytest.mark.parametrize(
    ("evaluation", "against", "reason"),
    [
        (Evaluation(), MAJORITY, "No case was scored against the majority label."),
        (
            evaluation_of(tumor_scores([0.5, 0.6]), against=INDIVIDUAL),
            INDIVIDUAL,
            "No case was scored against the majority label.",
        ),
        (
            evaluation_of(tumor_scores([0.5, 0.6])),
            INDIVIDUAL,
            "No case was scored against the individual annotations.",
        ),
        (
            evaluation_of(tumor_scores([0.5, 0.6]), tumors=[0, 2]),
            MAJORITY,
            "No case has a single tumor; two halves take at least two.",
        ),
        (
            evaluation_of(tumor_scores([0.5])),
            MAJORITY,
            "Only one case has a single tumor; two halves take at least two.",
        ),
        (
            evaluation_of(tumor_scores([0.5, 0.6, 0.7]), volumes=[3.0, 3.0, 3.0]),
            MAJORITY,
            "No single tumor is smaller than the median of their volumes.",
        ),
    ],
)
def test_halves_that_cannot_be_made_say_why(evaluation, against, reason):
    assert size_halves(evaluation, against) == reason


def test_sensitivity_by_hand():
    rows = [
        lesion("tumor", "missed", 0.99),
        lesion("tumor", "detected", 1.0),
        lesion("tumor", "missed", 1.5),
        lesion("tumor", "under-segmented", 1.6),
        lesion("tumor", "misclassified", 2.9),
        lesion("tumor", "false positive", 2.0),
        lesion("cyst", "over-segmented", 2.0),
        lesion("tumor", "detected", 500.0),
    ]
    rates = sensitivity(rows, KITS)
    assert list(rates) == ["tumor", "cyst"]
    assert [row.lesions for row in rates["tumor"]] == [0, 1, 4, 0, 0, 0, 1]
    assert [row.found for row in rates["tumor"]] == [0, 0, 3, 0, 0, 0, 1]
    assert [row.lesions for row in rates["cyst"]] == [0, 0, 1, 0, 0, 0, 0]
    row = rates["tumor"][2]
    assert (row.low_cm3, row.high_cm3, row.misclassified, row.rate) == (1, 3, 1, 0.75)
    assert rates["tumor"][-1].high_cm3 == math.inf


def test_interval_of_a_rate_is_wilsons():
    """(p + z2 / 2n -+ z sqrt(p (1 - p) / n + z2 / 4n2)) / (1 + z2 / n), with z2 = z squared."""
    rows = [lesion("cyst", "detected", 5)] * 7 + [lesion("cyst", "missed", 5)] * 3
    (row,) = sensitivity(rows, KITS, (0, 10))["cyst"]
    z = NormalDist().inv_cdf(0.975)
    center, half = 0.7 + z**2 / 20, z * math.sqrt(0.7 * 0.3 / 10 + z**2 / 400)
    expected = [(center + sign * half) / (1 + z**2 / 10) for sign in (-1, 1)]
    assert (row.low, row.high) == pytest.approx(expected)


def test_sensitivity_without_lesions():
    rates = sensitivity([], KITS)
    assert [len(rows) for rows in rates.values()] == [len(VOLUME_EDGES_CM3) - 1] * 2
    for row in rates["tumor"] + rates["cyst"]:
        assert (row.lesions, row.found) == (0, 0)
        assert np.isnan([row.rate, row.low, row.high]).all()


def test_rates_of_0_and_1_have_intervals():
    (none,) = sensitivity([lesion("tumor", "missed", 1)] * 5, KITS, (0, 2))["tumor"]
    (all_found,) = sensitivity([lesion("tumor", "detected", 1)] * 5, KITS, (0, 2))["tumor"]
    assert (none.low, all_found.high) == (0, pytest.approx(1))
    assert none.high == pytest.approx(1 - all_found.low)
    assert 0.4 < none.high < 0.5
