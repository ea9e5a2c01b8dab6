"""Lesion by lesion: which tumors and cysts a prediction found, and how it failed on the others.

A lesion is a connected component (26-neighborhood) of one label, tumor or cyst, in the truth or in
the prediction. Only the voxels of masses are looked at, so that a stray voxel far from the kidneys
costs one voxel and not a volume.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
"""Each outcome, and in one line what it means; the last one is of predicted lesions only."""

LEAST_SHARED = 0.1
"""Lesions match when they share this part of the smaller one's voxels: neighbors that only graze
each other do not, while every piece of a split lesion and every part of a merged one does."""

LEAST_FOUND = 0.1
"""A speck within a large tumor, or the edge of a neighbor's prediction, has not found a lesion."""

LEAST_COVERED = 0.5
MOST_EXCESS = 0.5
"""Beyond either, a lesion's Dice is below 2/3 whatever else the prediction does well."""

MOST_MISCLASSIFIED = 0.5
"""A lesion has the label that most of it is given."""

LEAST_MM3 = 1.99**3
"""Smaller components are no lesions: one voxel of the grid the paper predicts on (P1). A network
cannot mean anything smaller, nor can an annotator; they are left by votes and by resampling."""

_SHOWN = 3
"""A caption names this many lesions; more would not be read."""


class _Lesions(NamedTuple):
    """The lesions of one label map: tumors, then cysts, each by falling size.

    Attributes:
        labels, sizes, slices: (lesions,) label value, number of voxels, slice that shows most.
        owners: (voxels,) the lesion of each voxel looked at, -1 where there is none.
    """

    labels: np.ndarray
    sizes: np.ndarray
    slices: np.ndarray
    owners: np.ndarray


class _Verdict(NamedTuple):
    """`outcome`, `covered`, `excess` and `misclassified` of a `Lesion`."""

    outcome: str
    covered: float
    excess: float
    misclassified: float


_FALSE = _Verdict("false positive", math.nan, math.nan, math.nan)


def find_lesions(
    case_id: str,
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> list[Lesion]:
    """Every true lesion with its outcome, then every predicted one that matches no true lesion.

    A true and a predicted lesion, of either label, match when they share `LEAST_SHARED` of the
    smaller one. Of the outcomes of a matched true lesion the first that holds is taken: misclassified,
    under-segmented, over-segmented, detected. A prediction that merges true lesions is not
    over-segmented by that: only what lies outside every true mass is excess.

    Args:
        case_id: copied to every row.
        prediction, truth: label maps (z, y, x) of one shape, values of `kitsjax.labels`.
        spacing_mm: (z, y, x).

    Returns:
        Of each source tumors, then cysts, each by falling volume; empty without lesions.

    Raises:
        ValueError: the label maps differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {prediction.shape} and {truth.shape}")
    # Tumor and cyst are the highest label values, so one comparison finds both, in both maps.
    places = np.flatnonzero(np.maximum(prediction, truth) >= TUMOR)
    voxels = np.unravel_index(places, truth.shape)
    predicted_labels, true_labels = prediction[voxels], truth[voxels]
    voxel_mm3 = math.prod(spacing_mm)
    true, found = (
        _find_components(labels, voxels, truth.shape, LEAST_MM3 / voxel_mm3)
        for labels in (true_labels, predicted_labels)
    )
    pairs = _match(true, found)
    verdicts = _judge(true, found, pairs, true_labels, predicted_labels)
    false = sorted(set(range(len(found.sizes))).difference(pairs[1].tolist()))
    return [
        *_list_rows(case_id, "truth", true, dict(enumerate(verdicts)), voxel_mm3),
        *_list_rows(case_id, "prediction", found, dict.fromkeys(false, _FALSE), voxel_mm3),
    ]


def count_outcomes(lesions: Iterable[Lesion]) -> dict[str, dict[str, int]]:
    """{"tumor" and "cyst": {outcome: how many}}, every outcome of `OUTCOMES` in its order."""
    counts = {CLASSES[label]: dict.fromkeys(OUTCOMES, 0) for label in (TUMOR, CYST)}
    for lesion in lesions:
        counts[lesion.label][lesion.outcome] += 1
    return counts


def describe_case(lesions: Sequence[Lesion]) -> str:
    """What went wrong in one case, for a caption; "no failure" where nothing did.

    Such as "tumor 2.1 cm³ missed; cyst 0.4 cm³ misclassified as tumor; 1 false-positive tumor". Of the true
    lesions the largest failures are named, the others counted.
    """
    failed = [lesion for lesion in lesions if lesion.outcome not in ("detected", "false positive")]
    failed.sort(key=lambda lesion: -lesion.volume_cm3)
    parts = [_describe(lesion) for lesion in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        parts.append(_in_words(len(failed) - _SHOWN, "smaller failure"))
    for label, counts in count_outcomes(lesions).items():
        if counts["false positive"]:
            parts.append(_in_words(counts["false positive"], f"false-positive {label}"))
    return "; ".join(parts) or "no failure"


def _in_words(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _describe(lesion: Lesion) -> str:
    digits = 1 if lesion.volume_cm3 >= 0.1 else 2
    text = f"{lesion.label} {lesion.volume_cm3:.{digits}f} cm³ {lesion.outcome}"
    if lesion.outcome != "misclassified":
        return text
    return f"{text} as {'cyst' if lesion.label == 'tumor' else 'tumor'}"


def _find_components(
    labels: np.ndarray, voxels: tuple[np.ndarray, ...], shape: tuple[int, ...], least: float
) -> _Lesions:
    """The components of at least so many voxels, in the order of `_Lesions`.

    Args:
        labels: (n,) label value of each voxel looked at.
        voxels: their z, y and x, in C order.
        shape: of the volume.
        least: number of voxels.
    """
    owners = np.full(len(labels), -1)
    lesion_labels, lesion_sizes = [], []
    first = 0
    for label in (TUMOR, CYST):
        here = np.flatnonzero(labels == label)
        component = _connect(tuple(axis[here] for axis in voxels), shape)
        sizes = np.bincount(component)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] >= least]
        rank = np.full(len(sizes), -1)
        rank[order] = np.arange(first, first + len(order))
        owners[here] = rank[component]
        lesion_labels += [label] * len(order)
        lesion_sizes.append(sizes[order])
        first += len(order)
    slices = _fullest_slices(owners, voxels[0], shape[0], first)
    return _Lesions(np.array(lesion_labels, int), np.concatenate(lesion_sizes), slices, owners)


def _connect(voxels: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The component, from 0, of each voxel (z, y, x; in C order) under the 26-neighborhood.

    Joins runs along x instead of voxels: tens of times fewer, and rows without any cost nothing.
    """
    if not len(voxels[0]):
        return np.zeros(0, int)
    # One empty voxel at the end of each row and plane, so that none continues in the next.
    _, rows, columns = shape
    row, plane = columns + 1, (rows + 1) * (columns + 1)
    places = voxels[0] * plane + voxels[1] * row + voxels[2]
    begins = np.diff(places, prepend=-2) > 1
    starts = places[begins]
    ends = places[np.diff(places, append=places[-1] + 2) > 1]
    ones, others = [], []
    # The other four of the eight rows around a row are these, seen from the neighbor.
    for ahead in (row, plane - row, plane, plane + row):
        # The runs of the row ahead that touch a run, sideways by one voxel, stand in sequence.
        low = np.searchsorted(ends, starts + ahead - 1)
        count = np.searchsorted(starts, ends + ahead + 1, side="right") - low
        ones.append(np.repeat(np.arange(len(starts)), count))
        others.append(np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count))
    joined = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(joined[0]), bool), joined), (len(starts),) * 2)
    _, components = connected_components(graph, directed=False)
    return components[np.cumsum(begins) - 1]


def _fullest_slices(owners: np.ndarray, z: np.ndarray, depth: int, lesions: int) -> np.ndarray:
    """(lesions,) the slice with most of each lesion's voxels, the first of equals."""
    owned = owners >= 0
    keys, counts = np.unique(owners[owned] * depth + z[owned], return_counts=True)
    # By lesion, then by rising count; of equals the first slice comes last.
    order = np.lexsort((-keys, counts, keys // depth))
    last = np.searchsorted(keys[order] // depth, np.arange(lesions), side="right") - 1
    return keys[order][last] % depth


def _match(true: _Lesions, found: _Lesions) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) indices of the true and of the predicted lesions that match, by true lesion."""
    both = (true.owners >= 0) & (found.owners >= 0)
    many = max(len(found.sizes), 1)
    keys, shared = np.unique(true.owners[both] * many + found.owners[both], return_counts=True)
    one, other = np.divmod(keys, many)
    match = shared / np.minimum(true.sizes[one], found.sizes[other]) >= LEAST_SHARED
    return one[match], other[match]


def _judge(
    true: _Lesions,
    found: _Lesions,
    pairs: tuple[np.ndarray, np.ndarray],
    true_labels: np.ndarray,
    predicted_labels: np.ndarray,
) -> list[_Verdict]:
    """The verdict on each true lesion, given its matches and the label maps' values."""
    is_covered = predicted_labels >= TUMOR
    covering = _count(true, is_covered)
    mistaken = _count(true, is_covered & (predicted_labels != true_labels))
    outside = _count(found, true_labels < TUMOR)
    matched_outside, matched = (
        np.bincount(pairs[0], weights=of[pairs[1]], minlength=len(true.sizes))
        for of in (outside, found.sizes)
    )
    numbers = np.column_stack((true.sizes, covering, mistaken, matched, matched_outside))
    return [_name_outcome(*row) for row in numbers.tolist()]


def _name_outcome(
    size: float, covering: float, mistaken: float, matched: float, matched_outside: float
) -> _Verdict:
    """The verdict on a true lesion, from voxel counts."""
    covered = covering / size
    if not matched or covered < LEAST_FOUND:
        return _Verdict("missed", covered, math.nan, math.nan)
    excess, misclassified = matched_outside / matched, mistaken / covering
    if misclassified > MOST_MISCLASSIFIED:
        outcome = "misclassified"
    elif covered < LEAST_COVERED:
        outcome = "under-segmented"
    elif excess > MOST_EXCESS:
        outcome = "over-segmented"
    else:
        outcome = "detected"
    return _Verdict(outcome, covered, excess, misclassified)


def _count(lesions: _Lesions, selected: np.ndarray) -> np.ndarray:
    """(lesions,) how many of each lesion's voxels are selected."""
    return np.bincount(
        lesions.owners[selected & (lesions.owners >= 0)], minlength=len(lesions.sizes)
    )


def _list_rows(
    case_id: str, source: str, lesions: _Lesions, verdicts: dict[int, _Verdict], voxel_mm3: float
) -> Iterator[Lesion]:
    """The rows of those lesions that have a verdict."""
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
