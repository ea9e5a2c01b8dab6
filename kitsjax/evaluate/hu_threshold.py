"""Baseline without a network: the best plain HU threshold.

For each evaluation class it predicts all voxels in the HU window with the best Dice over the
training cases. If this baseline scores well, the data is too easy to tell anything about a network.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.scoring import ClassScore, measure_label, measure_mask, score_case
from kitsjax.labels import KITS, LabelScheme
from kitsjax.types import Spacing

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Range of a 12-bit CT. Voxels outside it count as if they were at its ends."""

Window = tuple[int, int]
"""Lowest and highest HU of a window, both included."""

_BINS = HIGHEST_HU - LOWEST_HU + 1


def fit_windows(
    cases: Iterable[tuple[np.ndarray, np.ndarray]], scheme: LabelScheme = KITS
) -> dict[str, Window]:
    """Fit the window with the best pooled Dice for each evaluation class.

    Pooled means that the voxels of all cases are counted together. HU are rounded to whole numbers,
    and every window between `LOWEST_HU` and `HIGHEST_HU` is tried.

    Args:
        cases: Image (z, y, x) in HU and label map of the same shape, for each case. They are
            consumed one at a time. Voxels that the truth ignores do not count.
        scheme: The label scheme.

    Returns:
        {class: window}. Of equally good windows it is the one with the highest lower end, then
        with the lowest upper end. A class without any voxel gets (3071, -1024), an empty window.
    """
    counts = np.zeros((len(scheme.values), _BINS), np.int64)
    for image, label in cases:
        # Plane by plane, since counting needs 8 bytes for each voxel.
        for plane, labels in zip(image, label, strict=True):
            joint = labels.astype(np.int64) * _BINS + _bin(plane)
            counts += np.bincount(joint.ravel(), minlength=counts.size).reshape(counts.shape)
    known = counts[: len(scheme.names)].sum(axis=0)
    return {
        each.key: _best_window(counts[list(each.labels)].sum(axis=0), known)
        for each in scheme.evaluation
    }


def threshold_scores(
    image: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Spacing,
    windows: Mapping[str, Window],
    scheme: LabelScheme = KITS,
) -> dict[str, ClassScore]:
    """Score the prediction of each class by its HU window.

    Args:
        image: Image (z, y, x) in HU.
        truth: Label map of the same shape.
        spacing_mm: Voxel edges (z, y, x).
        windows: Window of each evaluation class, from `fit_windows`.
        scheme: The label scheme.
    """
    _, truth, ignored = remove_ignored(truth, truth, scheme)
    prediction = {}
    for name, window in windows.items():
        mask = _threshold(image, window)
        if ignored is not None:
            mask &= ~ignored
        prediction[name] = measure_mask(mask, spacing_mm, ignored=ignored)
    return score_case(
        prediction, measure_label(truth, spacing_mm, scheme, ignored), spacing_mm, scheme
    )


def _bin(image: np.ndarray) -> np.ndarray:
    """Return the histogram bin of each voxel, one bin for each whole HU."""
    return (np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU) - LOWEST_HU).astype(np.int64)


def _threshold(image: np.ndarray, window: Window) -> np.ndarray:
    low, high = (hu - LOWEST_HU for hu in window)
    mask = np.empty(image.shape, bool)
    for plane, inside in zip(image, mask, strict=True):
        bins = _bin(plane)
        inside[:] = (bins >= low) & (bins <= high)
    return mask


def _best_window(inside: np.ndarray, total: np.ndarray) -> Window:
    """Find the window with the best Dice.

    Args:
        inside: Histogram (bins,) of the class's voxels.
        total: Histogram (bins,) of all voxels.
    """
    if not inside.any():
        return HIGHEST_HU, LOWEST_HU
    # Sums over all bins below each edge, so that a window's count is one difference. A window holds
    # `hits` voxels of the class (true positives) among all voxels `taken`.
    hits, taken = (np.concatenate([[0], np.cumsum(counts)]) for counts in (inside, total))
    best, window = 0.0, (LOWEST_HU, HIGHEST_HU)
    for low in range(_BINS):
        # The Dice of all windows that start at this bin, by their last bin.
        below, above = hits[low], hits[low + 1 :]
        dices = 2 * (above - below) / (taken[low + 1 :] - taken[low] + hits[-1])
        high = int(np.argmax(dices))
        if dices[high] >= best:
            best, window = float(dices[high]), (low + LOWEST_HU, low + high + LOWEST_HU)
    return window
