"""Statistics of the results section: intervals, agreement and tumor sizes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, MAJORITY
from kitsjax.report.names import SCORE_NAMES, find_focus, name_truth

CONFIDENCE = 0.95
"""Confidence level of every interval."""

RESAMPLES = 10_000
"""With this many resamples an interval's ends differ between seeds by about 1 % of its width."""


class MeanInterval(NamedTuple):
    """A mean over cases and its 95 % confidence interval; nan where there is none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], seed: int = 0) -> MeanInterval:
    """Compute a mean over cases and its 95 % bootstrap interval; the same seed gives the same one.

    Bias-corrected and accelerated (BCa; Efron, 1987), because scores are skewed to the left and
    bounded by 1, where plain percentiles of the resampled means lie too high.

    Args:
        values: a value for each case. One case has no interval, no case has no mean, and a nan
            makes both nan. Equal values are both ends of their interval.
        seed: seed of the resampling.
    """
    cases = np.asarray(values, float)
    mean = float(cases.mean()) if len(cases) else math.nan
    if len(cases) < 2 or math.isnan(mean):
        return MeanInterval(mean, math.nan, math.nan)
    # Values that differ by rounding alone would make the correction 0 / 0.
    if np.ptp(cases) < 1e-12:
        return MeanInterval(mean, mean, mean)
    interval = stats.bootstrap(
        (cases,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,  # fits in the processor's cache: four times as fast as all at once
        confidence_level=CONFIDENCE,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return MeanInterval(mean, float(interval.low), float(interval.high))


class Fall(NamedTuple):
    """Largest fall of a mean from majority to individual, negative for a rise, and its class."""

    fall: float
    evaluation_class: str


class Agreement(NamedTuple):
    """Agreement of the scores against the individual annotations with those against the majority.

    Attributes:
        cases: number of cases scored against both.
        dice, surface_dice: largest fall over the evaluation classes.
        spearman_r: rank correlation over the cases between the mean of a case's scores against
            the majority and that against the individual annotations; nan where either mean is the
            same in all cases.
    """

    cases: int
    dice: Fall
    surface_dice: Fall
    spearman_r: float


def agreement(evaluation: Evaluation) -> Agreement | None:
    """Compare the scores against both ground truths, as the paper does below its Table 1.

    The comparison is over the cases scored against both; fewer than three give None.
    """
    majority, individual = (
        [evaluation.table(against, column) for column in SCORE_NAMES]
        for against in (MAJORITY, INDIVIDUAL)
    )
    cases = sorted(evaluation.scored(MAJORITY) & evaluation.scored(INDIVIDUAL))
    if len(cases) < 3:
        return None
    # (majority or individual, Dice or surface Dice, class, case)
    scores = np.array(
        [
            [[[by_case[case] for case in cases] for by_case in table.values()] for table in tables]
            for tables in (majority, individual)
        ]
    )
    keys = evaluation.scheme.evaluation_keys
    # Mean over cases of the difference: (Dice or surface Dice, class)
    falls = np.mean(scores[0] - scores[1], axis=-1)
    dice, surface_dice = (
        Fall(*max(zip(row.tolist(), keys, strict=True), key=lambda pair: pair[0])) for row in falls
    )
    # One mean for each case: (majority or individual, case)
    means = scores.mean(axis=(1, 2))
    if np.ptp(means[0]) == 0 or np.ptp(means[1]) == 0:
        return Agreement(len(cases), dice, surface_dice, math.nan)
    r = float(stats.spearmanr(means[0], means[1]).statistic)
    return Agreement(len(cases), dice, surface_dice, r)


class Halves(NamedTuple):
    """A score of the cases with a small tumor, compared with that of cases with a large one.

    Attributes:
        low, high: scores of the cases in each half.
        low_median, high_median: medians of these scores.
        u: Mann-Whitney's U, the smaller of the two, as the paper's 28 of 28 x 29 pairs.
        p: two-sided p-value: exact where a half has up to 8 cases and there are no ties, otherwise
            by the normal approximation with corrections for ties and continuity.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    low_median: float
    high_median: float
    u: float
    p: float


class SizeHalves(NamedTuple):
    """Cases with a single tumor, split at the median tumor volume, as in the paper's Figure 5.

    With other labels than KiTS's, a tumor is a lesion of the class in focus.

    Attributes:
        cases: number of cases.
        median_cm3: median volume; tumors of the low half are smaller, those of the high half not.
        dice, surface_dice: scores of the tumor class by half.
    """

    cases: int
    median_cm3: float
    dice: Halves
    surface_dice: Halves


def size_halves(evaluation: Evaluation, against: str = MAJORITY) -> SizeHalves | str:
    """Split the cases with a single tumor at the median volume, and compare the halves' scores.

    Args:
        evaluation: scores of the cases.
        against: MAJORITY or INDIVIDUAL, whose scores are compared. The volumes are always those of
            the majority label, and cases that were not scored against both are left out.

    Returns:
        The halves, or one sentence that says why there are none.
    """
    for truth in (MAJORITY, against):
        if truth not in evaluation.against:
            return f"No case was scored against {name_truth(truth, evaluation.scheme)}."
    focus = find_focus(evaluation.scheme)
    if focus is None:
        return "No evaluation class is that of a single kind of lesion."
    name = evaluation.scheme.names[focus.labels[0]]
    tumors = [score for score in evaluation.scores if score.evaluation_class == focus.key]
    volumes = {s.case_id: s.truth_cm3 for s in tumors if s.against == MAJORITY and s.lesions == 1}
    scores = [s for s in tumors if s.against == against and s.case_id in volumes]
    if len(scores) < 2:
        number = "Only one case" if scores else "No case"
        return f"{number} has a single {name}; two halves take at least two."
    median_cm3 = float(np.median([volumes[score.case_id] for score in scores]))
    low = [score for score in scores if volumes[score.case_id] < median_cm3]
    high = [score for score in scores if volumes[score.case_id] >= median_cm3]
    if not low:
        return f"No single {name} is smaller than the median of their volumes."
    dice, surface_dice = (
        _compare([getattr(s, column) for s in low], [getattr(s, column) for s in high])
        for column in SCORE_NAMES
    )
    return SizeHalves(len(scores), median_cm3, dice, surface_dice)


def _compare(low: Sequence[float], high: Sequence[float]) -> Halves:
    u, found = stats.mannwhitneyu(low, high, alternative="two-sided")
    smaller = min(float(u), len(low) * len(high) - float(u))
    medians = float(np.median(low)), float(np.median(high))
    # Where all scores are equal, some versions of scipy divide by their spread of zero.
    p = 1.0 if len({*low, *high}) == 1 else float(found)
    return Halves(tuple(low), tuple(high), *medians, smaller, p)
