"""Lesion by lesion: which tumors and cysts a prediction found, and how it failed on the others.

A lesion is a connected component of tumor voxels or of cyst voxels, in the truth or in the
prediction. A mass is either of the two.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kitsjax.evaluate.components import Components, find_components
from kitsjax.evaluate.results import Lesion
from kitsjax.labels import CLASSES, CYST, TUMOR

OUTCOMES = {
    "detected": "found, under its own label, and neither far too small nor far too large",
    "under-segmented": "less than half of it is predicted as a mass",
    "over-segmented": "more than half of what was found for it lies outside every true mass",
    "misclassified": "most of what was found of it has the other mass's label",
    "missed": "no predicted lesion matches it, or less than a tenth of it is predicted as a mass",
    "false positive": "a predicted lesion that matches no true one",
}
"""Each outcome and its meaning. Only the last one is an outcome of predicted lesions."""

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

_MAX_NAMED = 3
"""A caption names at most this many lesions, so that it stays short."""


class _Verdict(NamedTuple):
    """Outcome of a lesion and the three shares of `Lesion` that it follows from."""

    outcome: str
    covered: float
    excess: float
    misclassified: float


_FALSE_POSITIVE = _Verdict("false positive", math.nan, math.nan, math.nan)


def find_lesions(
    case_id: str, prediction: np.ndarray, truth: np.ndarray, voxel_mm3: float
) -> list[Lesion]:
    """List every true lesion with its outcome, then every false positive.

    A true and a predicted lesion, of either label, match if they share `LEAST_SHARED` of the
    smaller one. A matched true lesion has the first of these outcomes that applies: misclassified,
    under-segmented, over-segmented, detected. A prediction that merges true lesions is not
    over-segmented for that reason: only voxels outside every true mass are excess.

    Args:
        case_id: Copied to every row.
        prediction: Predicted label map (z, y, x), values of `kitsjax.labels`.
        truth: True label map of the same shape.
        voxel_mm3: Volume of a voxel, from `Grid.voxel_mm3`.

    Returns:
        True lesions, then false positives; of each kind first tumors, then cysts, each by falling
        volume. Empty if there are none.

    Raises:
        ValueError: The label maps differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {prediction.shape} and {truth.shape}")
    # Tumor and cyst are the highest label values, so one comparison finds both, in both maps.
    places = np.flatnonzero(np.maximum(prediction, truth) >= TUMOR)
    voxels = np.unravel_index(places, truth.shape)
    predicted_labels, true_labels = prediction[voxels], truth[voxels]
    true, predicted = (
        find_components(labels, voxels, truth.shape, LEAST_MM3 / voxel_mm3)
        for labels in (true_labels, predicted_labels)
    )
    pairs = _match(true, predicted)
    verdicts = _judge(true, predicted, pairs, true_labels, predicted_labels)
    unmatched = sorted(set(range(len(predicted.sizes))).difference(pairs[1].tolist()))
    false_positives = dict.fromkeys(unmatched, _FALSE_POSITIVE)
    return [
        *_list_rows(case_id, "truth", true, dict(enumerate(verdicts)), voxel_mm3),
        *_list_rows(case_id, "prediction", predicted, false_positives, voxel_mm3),
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
    true_labels: np.ndarray,
    predicted_labels: np.ndarray,
) -> list[_Verdict]:
    """Judge each true lesion by its matches and by the label values of the listed voxels."""
    is_covered = predicted_labels >= TUMOR
    covered = _count(true, is_covered)
    mistaken = _count(true, is_covered & (predicted_labels != true_labels))
    # Add up the sizes of all predicted lesions that match a true one, and their voxels outside.
    outside = _count(predicted, true_labels < TUMOR)
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
        outcome = "misclassified"
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
    case_id: str, source: str, lesions: Components, verdicts: dict[int, _Verdict], voxel_mm3: float
) -> Iterator[Lesion]:
    """Yield the rows of the lesions that have a verdict, numbered within each label."""
    numbers = {label: itertools.count(1) for label in (TUMOR, CYST)}
    for index, verdict in verdicts.items():
        label = int(lesions.labels[index])
        yield Lesion(
            case_id,
            source,
            CLASSES[label],
            number=next(numbers[label]),
            volume_cm3=float(lesions.sizes[index] * voxel_mm3 / 1000),
            **verdict._asdict(),
            slice=int(lesions.slices[index]),
        )


def count_outcomes(lesions: Iterable[Lesion]) -> dict[str, dict[str, int]]:
    """Count the lesions of each label and outcome, as {label: {outcome: number}}.

    Both labels and every outcome are there, in the order of `OUTCOMES`, also with number 0.
    """
    counts = {CLASSES[label]: dict.fromkeys(OUTCOMES, 0) for label in (TUMOR, CYST)}
    for lesion in lesions:
        counts[lesion.label][lesion.outcome] += 1
    return counts


def describe_case(lesions: Sequence[Lesion]) -> str:
    """Describe for a caption what went wrong in one case; "no failure" if nothing did.

    The largest failures of true lesions are named, the others and the false positives counted:
    "tumor 2.1 cm³ missed; cyst 0.4 cm³ misclassified as tumor; 1 false-positive tumor".
    """
    failed = [lesion for lesion in lesions if lesion.outcome not in ("detected", "false positive")]
    failed.sort(key=lambda lesion: -lesion.volume_cm3)
    parts = [_describe_lesion(lesion) for lesion in failed[:_MAX_NAMED]]
    if len(failed) > _MAX_NAMED:
        parts.append(_in_words(len(failed) - _MAX_NAMED, "smaller failure"))
    for label, counts in count_outcomes(lesions).items():
        if counts["false positive"]:
            parts.append(_in_words(counts["false positive"], f"false-positive {label}"))
    return "; ".join(parts) or "no failure"


def _in_words(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _describe_lesion(lesion: Lesion) -> str:
    digits = 1 if lesion.volume_cm3 >= 0.1 else 2
    text = f"{lesion.label} {lesion.volume_cm3:.{digits}f} cm³ {lesion.outcome}"
    if lesion.outcome != "misclassified":
        return text
    return f"{text} as {'cyst' if lesion.label == 'tumor' else 'tumor'}"
