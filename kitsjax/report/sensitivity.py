"""How many lesions were found, by their volume."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy import stats

from kitsjax.evaluate.outcomes import MISCLASSIFIED
from kitsjax.evaluate.results import Lesion
from kitsjax.labels import LabelScheme
from kitsjax.report.statistics import CONFIDENCE

VOLUME_EDGES_CM3 = (0.0, 0.5, 1.0, 3.0, 10.0, 25.0, 100.0, math.inf)
"""Ends of the ranges of lesion volumes: balls of about 1.0, 1.2, 1.8, 2.7, 3.6 and 5.8 cm across.
Most cysts of KiTS21 lie in the first ranges; the paper's median tumor has 24.75 cm³."""


class Sensitivity(NamedTuple):
    """Number of true lesions in a range of volumes, and of those that were found.

    Attributes:
        low_cm3, high_cm3: ends of the range. The upper one, which may be infinite, is excluded.
        lesions: number of true lesions.
        found: number of those that were not missed.
        misclassified: number of those found that have another lesion label.
        rate: found / lesions; nan without lesions.
        low, high: Wilson's 95 % interval (1927), which takes lesions as independent, though some
            share a case; nan without lesions.
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
    lesions: Iterable[Lesion],
    scheme: LabelScheme,
    edges_cm3: Sequence[float] = VOLUME_EDGES_CM3,
) -> dict[str, list[Sensitivity]]:
    """Count true lesions and those found, by volume.

    A misclassified lesion counts as found. False positives do not count.

    Args:
        lesions: lesions of any number of cases.
        scheme: their label scheme.
        edges_cm3: rising ends of the ranges of volumes. Lesions outside all of them are left out.

    Returns:
        {name of a lesion label, such as "tumor": a row for each range}.
    """
    true = [lesion for lesion in lesions if lesion.source == "truth"]
    rates: dict[str, list[Sensitivity]] = {}
    for name in (scheme.names[label] for label in scheme.lesions):
        named = [lesion for lesion in true if lesion.label == name]
        rates[name] = [_rate(named, low, high) for low, high in pairwise(edges_cm3)]
    return rates


def _rate(lesions: Sequence[Lesion], low_cm3: float, high_cm3: float) -> Sensitivity:
    within = [lesion for lesion in lesions if low_cm3 <= lesion.volume_cm3 < high_cm3]
    outcomes = [lesion.outcome for lesion in within]
    found, misclassified = len(outcomes) - outcomes.count("missed"), outcomes.count(MISCLASSIFIED)
    counts = (low_cm3, high_cm3, len(outcomes), found, misclassified)
    if not outcomes:
        return Sensitivity(*counts, math.nan, math.nan, math.nan)
    interval = stats.binomtest(found, len(outcomes)).proportion_ci(CONFIDENCE, method="wilson")
    rate = found / len(outcomes)
    return Sensitivity(*counts, rate, float(interval.low), float(interval.high))
