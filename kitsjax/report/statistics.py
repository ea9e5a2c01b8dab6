"""The statistics of the results section, by SciPy: how sure a mean is, T2, F5 and sensitivity."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats

from kitsjax.evaluate.results import Evaluation, Lesion
from kitsjax.labels import CLASSES, CYST, EVALUATION_CLASSES, INDIVIDUAL, MAJORITY, TUMOR

CONFIDENCE = 0.95

RESAMPLES = 10_000
"""The interval's ends then differ between seeds by about 1 % of its width."""

VOLUME_EDGES_CM3 = (0.0, 0.5, 1.0, 3.0, 10.0, 25.0, 100.0, math.inf)
"""Balls of about 1.0, 1.2, 1.8, 2.7, 3.6 and 5.8 cm across. Most cysts of KiTS21 lie in the first
bins; near 25 cm3 lies the paper's median tumor (24.75, F5)."""


class MeanInterval(NamedTuple):
    """A mean over cases and its 95 % confidence interval; nan where there is none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], seed: int = 0) -> MeanInterval:
    """The mean and its 95 % bootstrap interval over cases; the same for the same seed.

    Bias-corrected and accelerated (BCa; Efron, 1987), since the scores are skewed to the left and
    bounded by 1, where percentiles of the resampled means alone lie too high.

    Args:
        values: one a case. Of one case there is no interval, of none no mean; a nan makes all
            three nan. Where all are equal, so are both ends.
        seed: of the resampling.
    """
    cases = np.asarray(values, float)
    mean = float(cases.mean()) if len(cases) else math.nan
    if len(cases) < 2 or math.isnan(mean):
        return MeanInterval(mean, math.nan, math.nan)
    # Values that differ by rounding alone would leave the correction 0 / 0.
    if np.ptp(cases) < 1e-12:
        return MeanInterval(mean, mean, mean)
    interval = stats.bootstrap(
        (cases,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,  # stays in the processor's cache: four times as fast as all at once
        confidence_level=CONFIDENCE,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return MeanInterval(mean, float(interval.low), float(interval.high))


class Fall(NamedTuple):
    """The largest fall of a mean score from majority to individual, and the class it is of.

    Below 0 if every class scores higher against individual annotations.
    """

    fall: float
    evaluation_class: str


class Agreement(NamedTuple):
    """How far the scores against individual annotations follow those against the majority (T2).

    Attributes:
        cases: how many were scored against both.
        dice, surface_dice: the largest fall over the evaluation classes.
        spearman_r: over cases, between the two means of each case's six scores; nan where one of
            them is the same in all cases.
    """

    cases: int
    dice: Fall
    surface_dice: Fall
    spearman_r: float


def agreement(evaluation: Evaluation) -> Agreement | None:
    """T2, over the cases scored against both; None for fewer than three."""
    columns = ("dice", "surface_dice")
    majority, individual = (
        [evaluation.table(against, column) for column in columns]
        for against in (MAJORITY, INDIVIDUAL)
    )
    cases = sorted(majority[0]["tumor"].keys() & individual[0]["tumor"].keys())
    if len(cases) < 3:
        return None
    # (majority or individual, Dice or surface Dice, class, case)
    scores = np.array(
        [
            [[[by_case[case] for case in cases] for by_case in table.values()] for table in tables]
            for tables in (majority, individual)
        ]
    )
    falls = np.mean(scores[0] - scores[1], axis=-1)
    dice, surface_dice = (
        Fall(*max(zip(of.tolist(), EVALUATION_CLASSES, strict=True), key=lambda pair: pair[0]))
        for of in falls
    )
    ours, theirs = scores.mean(axis=(1, 2))
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return Agreement(len(cases), dice, surface_dice, math.nan)
    r = float(stats.spearmanr(ours, theirs).statistic)
    return Agreement(len(cases), dice, surface_dice, r)


class Halves(NamedTuple):
    """A score of the cases with a small and with a large tumor, compared.

    Attributes:
        low, high: the scores of each half, by case.
        low_median, high_median: of these.
        u: Mann-Whitney's U, the smaller of the two, as the paper's 28 of 28 x 29 pairs.
        p: two-sided; exact for halves of up to 8 cases without ties, else by the normal
            approximation with corrections for ties and continuity.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    low_median: float
    high_median: float
    u: float
    p: float


class SizeHalves(NamedTuple):
    """Cases with a single tumor, split at the median tumor volume (F5).

    Attributes:
        cases: how many there are.
        median_cm3: the low half lies below it, the high half is the rest.
        dice, surface_dice: of the tumor class, by half.
    """

    cases: int
    median_cm3: float
    dice: Halves
    surface_dice: Halves


def size_halves(evaluation: Evaluation, against: str = MAJORITY) -> SizeHalves | str:
    """F5, or in one sentence why it cannot be done.

    Volumes are the tumor class's in the majority label, whatever the scores are against; cases
    that were not scored against both are left out.
    """
    for needed in (MAJORITY, against):
        if needed not in evaluation.against:
            return f"No case was scored against the {needed} annotation."
    tumors = [score for score in evaluation.scores if score.evaluation_class == "tumor"]
    volumes = {s.case_id: s.truth_cm3 for s in tumors if s.against == MAJORITY and s.tumors == 1}
    scores = [s for s in tumors if s.against == against and s.case_id in volumes]
    if len(scores) < 2:
        number = {0: "No case", 1: "Only one case"}[len(scores)]
        return f"{number} has a single tumor; two halves take at least two."
    median_cm3 = float(np.median([volumes[score.case_id] for score in scores]))
    low = [score for score in scores if volumes[score.case_id] < median_cm3]
    high = [score for score in scores if volumes[score.case_id] >= median_cm3]
    if not low:
        return "No single tumor is smaller than the median of their volumes."
    dice, surface_dice = (
        _compare([getattr(s, column) for s in low], [getattr(s, column) for s in high])
        for column in ("dice", "surface_dice")
    )
    return SizeHalves(len(scores), median_cm3, dice, surface_dice)


def _compare(low: Sequence[float], high: Sequence[float]) -> Halves:
    u, p = stats.mannwhitneyu(low, high, alternative="two-sided")
    smaller = min(float(u), len(low) * len(high) - float(u))
    medians = float(np.median(low)), float(np.median(high))
    return Halves(tuple(low), tuple(high), *medians, smaller, float(p))


class Sensitivity(NamedTuple):
    """How many of the true lesions of a range of volumes were found.

    Attributes:
        low_cm3, high_cm3: the range; the upper end, which may be infinite, is not in it.
        lesions: how many there are.
        found: those of any outcome but missed.
        misclassified: those of the found that have the other mass's label.
        rate: found / lesions; nan without lesions, as are both ends of its interval.
        low, high: Wilson's 95 % interval (1927). It takes lesions as independent, though some
            share a case.
    """

    low_cm3: float
    high_cm3: float
    lesions: int
    found: int
    misclassified: int
    rate: float
    low: float
    high: float


def sensitivity(
    lesions: Iterable[Lesion], edges_cm3: Sequence[float] = VOLUME_EDGES_CM3
) -> dict[str, list[Sensitivity]]:
    """Detection rate of true lesions by volume: {"tumor" and "cyst": a row each range}.

    A lesion found but named wrongly is found: whether it is seen and whether it is taken for the
    other mass are two questions, and `misclassified` answers the second. False detections do not count.

    Args:
        lesions: of any number of cases.
        edges_cm3: rising; what lies outside all of them is left out.
    """
    true = [lesion for lesion in lesions if lesion.source == "truth"]
    rates: dict[str, list[Sensitivity]] = {}
    for name in (CLASSES[TUMOR], CLASSES[CYST]):
        named = [lesion for lesion in true if lesion.label == name]
        rates[name] = [_rate(named, low, high) for low, high in pairwise(edges_cm3)]
    return rates


def _rate(lesions: Sequence[Lesion], low_cm3: float, high_cm3: float) -> Sensitivity:
    within = [lesion for lesion in lesions if low_cm3 <= lesion.volume_cm3 < high_cm3]
    outcomes = [lesion.outcome for lesion in within]
    found, misclassified = len(outcomes) - outcomes.count("missed"), outcomes.count("misclassified")
    counts = (low_cm3, high_cm3, len(outcomes), found, misclassified)
    if not outcomes:
        return Sensitivity(*counts, math.nan, math.nan, math.nan)
    interval = stats.binomtest(found, len(outcomes)).proportion_ci(CONFIDENCE, method="wilson")
    rate = found / len(outcomes)
    return Sensitivity(*counts, rate, float(interval.low), float(interval.high))
