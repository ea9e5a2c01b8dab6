"""Mean scores over cases with their confidence intervals, and those that others have published."""

import itertools
import math
from typing import NamedTuple

from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.report.names import SCORE_NAMES
from kitsjax.report.statistics import mean_interval


class Published(NamedTuple):
    """Mean scores that others have published.

    Attributes:
        means: {(score, MAJORITY or INDIVIDUAL): means in the order of KiTS21's evaluation classes}.
        source: where they were published.
    """

    means: dict[tuple[str, str], tuple[float, ...]]
    source: str


PUBLISHED = {
    "paper": Published(
        {
            ("dice", MAJORITY): (0.971, 0.861, 0.840),
            ("dice", INDIVIDUAL): (0.963, 0.856, 0.835),
            ("surface_dice", MAJORITY): (0.937, 0.762, 0.743),
            ("surface_dice", INDIVIDUAL): (0.919, 0.749, 0.729),
        },
        "Zang et al., 3D U-Net Based Semantic Segmentation of Kidneys and Renal Masses on "
        "Contrast-Enhanced CT (KiTS21), Table 1: 60 cases; falls of at most 0.008 (Dice) and 0.018 "
        "(surface Dice), Spearman r = 0.996",
    )
}
"""Published scores to compare with, by the name that `compare` takes."""


class MeanScore(NamedTuple):
    """A mean score over cases with its 95 % bootstrap interval.

    Attributes:
        evaluation_class: key of an evaluation class.
        score: "dice" or "surface_dice".
        against: MAJORITY or INDIVIDUAL.
        mean: mean over the cases.
        low, high: ends of its interval; nan where there is none.
        cases: number of cases.
        published: the mean that others report; nan where there is none, or nobody asked for it.
    """

    evaluation_class: str
    score: str
    against: str
    mean: float
    low: float
    high: float
    cases: int
    published: float


def score_means(evaluation: Evaluation, compare: str | None = None) -> list[MeanScore]:
    """Compute the numbers of Table 1, one row for each mean, as pandas or R take them.

    Args:
        evaluation: scores of the cases. Ground truths that were not scored against have no rows.
        compare: a key of `PUBLISHED`, to have those means beside ours.

    Raises:
        InputError: The evaluation classes are not KiTS21's, of which the published means are.
    """
    keys = evaluation.scheme.evaluation_keys
    if compare and keys != KITS.evaluation_keys:
        raise InputError(
            f"--compare {compare}: its scores are of KiTS21's classes "
            f"{', '.join(KITS.evaluation_keys)}, not of {', '.join(keys)}; report without it"
        )
    published = PUBLISHED[compare].means if compare else {}
    means = []
    for score, against in itertools.product(SCORE_NAMES, evaluation.against):
        theirs = published.get((score, against), (math.nan,) * len(keys))
        for name, other in zip(keys, theirs, strict=True):
            values = list(evaluation.table(against, score)[name].values())
            interval = mean_interval(values)
            means.append(MeanScore(name, score, against, *interval, len(values), other))
    return means
