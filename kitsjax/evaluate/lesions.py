"""Lesion by lesion: which a prediction found, and how it failed on the others.

A lesion is a connected component of one of the scheme's lesion labels, in the truth or in the
prediction; with KiTS's labels, of tumor voxels or of cyst voxels. A mass is a voxel of any of them.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kitsjax.evaluate.components import Components, find_components
from kitsjax.evaluate.outcomes import MISCLASSIFIED
from kitsjax.evaluate.results import Lesion
from kitsjax.evaluate.scoring import union_mask
from kitsjax.labels import LabelScheme

LEAST_SHARED = 0.1
"""Lesions match if they share this part of the smaller one's voxels. Neighbors that only graze each
other do not match, while every piece of a split lesion and every part of a merged one does."""

LEAST_FOUND = 0.1
"""A lesion of which a smaller part is predicted as a mass is missed: a speck inside a large tumor,
or the edge of a neighbor's prediction, has not found it."""

LEAST_COVERED = 0.5
"""A lesion of which a smaller part is predicted as a mass has a Dice below 2/3."""

MOST_EXCESS = 0.5
"""A lesion whose matches have a larger part outside every true mass has a Dice below 2/3."""

MOST_MISCLASSIFIED = 0.5
"""A lesion has the label that most of its predicted voxels have."""

LEAST_MM3 = 1.99**3
"""Smaller components are no lesions: this is one voxel of the grid on which the paper predicts. A
network cannot mean anything smaller, nor can an annotator; majority votes and resampling leave such
specks."""


class _Verdict(NamedTuple):
    """Outcome of a lesion and the three shares of `Lesion` that it follows from."""

    outcome: str
    covered: float
    excess: float
    misclassified: float


_FALSE_POSITIVE = _Verdict("false positive", math.nan, math.nan, math.nan)


def find_lesions(
    case_id: str,
    prediction: np.ndarray,
    truth: np.ndarray,
    voxel_mm3: float,
    scheme: LabelScheme,
) -> list[Lesion]:
    """List every true lesion with its outcome, then every false positive.

    A true and a predicted lesion, of any lesion label, match if they share `LEAST_SHARED` of the
    smaller one. A matched true lesion has the first of these outcomes that applies: misclassified,
    under-segmented, over-segmented, detected. A prediction that merges true lesions is not
    over-segmented for that reason: only voxels outside every true mass are excess.

    Args:
        case_id: Copied to every row.
        prediction: Predicted label map (z, y, x), values of the scheme.
        truth: True label map of the same shape; 0 where it is ignored, as the prediction.
        voxel_mm3: Volume of a voxel, from `Grid.voxel_mm3`.
        scheme: The label scheme.

    Returns:
        True lesions, then false positives; of each kind in the order of `scheme.lesions` (tumors,
        then cysts), each by falling volume. Empty if there are none.

    Raises:
        ValueError: The label maps differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {prediction.shape} and {truth.shape}")
    if not scheme.lesions:
        return []
    # One comparison finds the lesions in both maps, and perhaps labels above the lowest of theirs.
    places = np.flatnonzero(np.maximum(prediction, truth) >= min(scheme.lesions))
    voxels = np.unravel_index(places, truth.shape)
    predicted_labels, true_labels = prediction[voxels], truth[voxels]
    true, predicted = (
        find_components(labels, voxels, truth.shape, LEAST_MM3 / voxel_mm3, scheme.lesions)
        for labels in (true_labels, predicted_labels)
    )
    pairs = _match(true, predicted)
    true_mass, predicted_mass = (
        union_mask(labels, scheme.lesions) for labels in (true_labels, predicted_labels)
    )
    is_other = predicted_mass & (predicted_labels != true_labels)
    verdicts = _judge(true, predicted, pairs, true_mass, predicted_mass, is_other)
    unmatched = sorted(set(range(len(predicted.sizes))).difference(pairs[1].tolist()))
    false_positives = dict.fromkeys(unmatched, _FALSE_POSITIVE)
    return [
        *_list_rows(case_id, "truth", true, dict(enumerate(verdicts)), voxel_mm3, scheme),
        *_list_rows(case_id, "prediction", predicted, false_positives, voxel_mm3, scheme),
    ]


def _match(true: Components, predicted: Components) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (pairs,) of the true and of the predicted lesions that match."""
    # Count the voxels that each pair of a true and a predicted lesion shares.
    both = (true.of_voxel >= 0) & (predicted.of_voxel >= 0)
    many = max(len(predicted.sizes), 1)
    keys, shared = np.unique(
        true.of_voxel[both] * many + predicted.of_voxel[both], return_counts=True
    )
    one, other = np.divmod(keys, many)
    match = shared / np.minimum(true.sizes[one], predicted.sizes[other]) >= LEAST_SHARED
    return one[match], other[match]


def _judge(
    true: Components,
    predicted: Components,
    pairs: tuple[np.ndarray, np.ndarray],
    is_true_mass: np.ndarray,
    is_predicted_mass: np.ndarray,
    is_other: np.ndarray,
) -> list[_Verdict]:
    """Judge each true lesion by its matches and by the listed voxels.

    Args:
        true, predicted: Lesions of both label maps.
        pairs: Matches from `_match`.
        is_true_mass, is_predicted_mass: (n,) whether each voxel is of a lesion label.
        is_other: (n,) whether it is predicted with a lesion label that is not its true one.
    """
    covered = _count(true, is_predicted_mass)
    mistaken = _count(true, is_other)
    # Add up the sizes of all predicted lesions that match a true one, and their voxels outside.
    outside = _count(predicted, ~is_true_mass)
    matched_outside, matched = (
        np.bincount(pairs[0], weights=counts[pairs[1]], minlength=len(true.sizes))
        for counts in (outside, predicted.sizes)
    )
    numbers = np.column_stack((true.sizes, covered, mistaken, matched, matched_outside))
    return [_name_outcome(*row) for row in numbers.tolist()]


def _name_outcome(
    size: float, covered: float, mistaken: float, matched: float, matched_outside: float
) -> _Verdict:
    """Judge a true lesion by numbers of voxels."""
    covered_share = covered / size
    if not matched or covered_share < LEAST_FOUND:
        return _Verdict("missed", covered_share, math.nan, math.nan)
    excess, misclassified = matched_outside / matched, mistaken / covered
    if misclassified > MOST_MISCLASSIFIED:
        outcome = MISCLASSIFIED
    elif covered_share < LEAST_COVERED:
        outcome = "under-segmented"
    elif excess > MOST_EXCESS:
        outcome = "over-segmented"
    else:
        outcome = "detected"
    return _Verdict(outcome, covered_share, excess, misclassified)


def _count(lesions: Components, selected: np.ndarray) -> np.ndarray:
    """Count the selected voxels of each lesion (lesions,)."""
    return np.bincount(
        lesions.of_voxel[selected & (lesions.of_voxel >= 0)], minlength=len(lesions.sizes)
    )


def _list_rows(
    case_id: str,
    source: str,
    lesions: Components,
    verdicts: dict[int, _Verdict],
    voxel_mm3: float,
    scheme: LabelScheme,
) -> Iterator[Lesion]:
    """Yield the rows of the lesions that have a verdict, numbered within each label."""
    numbers = {label: itertools.count(1) for label in scheme.lesions}
    for index, verdict in verdicts.items():
        label = int(lesions.labels[index])
        yield Lesion(
            case_id,
            source,
            scheme.names[label],
            number=next(numbers[label]),
            volume_cm3=float(lesions.sizes[index] * voxel_mm3 / 1000),
            **verdict._asdict(),
            slice=int(lesions.slices[index]),
        )
