"""Scores of a folder of masks, and of kitsjax paired with a baseline case by case."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.labels import KITS, MAJORITY
from kitsjax.report.names import SCORE_NAMES
from kitsjax.report.statistics import MeanInterval, mean_interval

Scores = dict[str, dict[str, dict[str, float]]]
"""{"dice" or "surface_dice": {evaluation class: {case id: score}}}."""


def score_predictions(cases: Path, masks: Path) -> Scores:
    """Score masks on the native grid against the majority labels.

    Args:
        cases: data set with a case for each mask.
        masks: folder of <case id>.nii.gz.

    Raises:
        InputError: A case has no mask, or one that cannot be scored.
    """
    found = evaluate(find_cases(cases), masks, (MAJORITY,))
    problems = [message for _, message in found.failures]
    problems += [f"{masks}: no mask of {case}" for case in found.missing]
    if problems:
        raise InputError(f"learn: {problems[0]} ({len(problems)} such cases); remove that folder")
    return {column: found.table(MAJORITY, column) for column in SCORE_NAMES}


class Comparison(NamedTuple):
    """kitsjax beside a baseline in a score of an evaluation class.

    Attributes:
        ours, theirs: mean over the cases for each seed.
        our_mean, their_mean: mean over cases and seeds, with its interval over cases.
        difference: ours less theirs, paired by case, each the mean over the seeds, with the
            interval of its mean over cases.
    """

    ours: list[float]
    theirs: list[float]
    our_mean: MeanInterval
    their_mean: MeanInterval
    difference: MeanInterval


def compare(ours: Sequence[Scores], theirs: Sequence[Scores]) -> dict[str, dict[str, Comparison]]:
    """Compare the trainings of two contenders on the same cases.

    Args:
        ours, theirs: scores of each seed.

    Returns:
        {"dice" or "surface_dice": {evaluation class: comparison}}.

    Raises:
        ValueError: They are not of the same cases.
    """
    return {
        column: {
            name: _compare(*(_gather(scores, column, name) for scores in (ours, theirs)))
            for name in KITS.evaluation_keys
        }
        for column in SCORE_NAMES
    }


def _gather(scores: Sequence[Scores], column: str, name: str) -> dict[str, list[float]]:
    """Return each case's scores, one for each seed."""
    tables = [each[column][name] for each in scores]
    if any(table.keys() != tables[0].keys() for table in tables):
        raise ValueError("trainings of a contender were scored on different cases")
    return {case: [table[case] for table in tables] for case in tables[0]}


def _compare(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> Comparison:
    if ours.keys() != theirs.keys():
        raise ValueError("contenders were scored on different cases")
    # (case, seed)
    mine, other = (np.array([scores[case] for case in ours]) for scores in (ours, theirs))
    means = [array.mean(axis=1) for array in (mine, other)]
    return Comparison(
        mine.mean(axis=0).tolist(),
        other.mean(axis=0).tolist(),
        mean_interval(means[0].tolist()),
        mean_interval(means[1].tolist()),
        mean_interval((means[0] - means[1]).tolist()),
    )
