"""The plain HU threshold that a network's scores are shown beside.

For each evaluation class, the window of HU with the best Dice over the training cases. If that
does well, the data is too easy to say anything about a network.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from kitsjax.evaluate.scoring import ClassScore, measure_label, measure_mask, score_case
from kitsjax.labels import CLASSES, EVALUATION_CLASSES
from kitsjax.types import Spacing

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""The range of a 12-bit CT. Voxels beyond count as at its ends."""

Window = tuple[int, int]
"""Lowest and highest HU inside, both included."""

_BINS = HIGHEST_HU - LOWEST_HU + 1


def fit_windows(cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Window]:
    """The window of whole HU with the best pooled Dice for each evaluation class.

    Exact: every window is tried, from histograms with bins of 1 HU. Pooled: the voxels of all
    cases are counted together. The cases, (image in HU, label map) of one shape, are drawn one
    at a time. Of equally good windows the one of the highest lower end, then of the lowest upper
    end, is taken; a class with no voxel at all gets (3071, -1024), which holds nothing.
    """
    counts = np.zeros((len(CLASSES), _BINS), np.int64)
    for image, label in cases:
        # Plane by plane: counting needs 8 bytes a voxel.
        for plane, labels in zip(image, label, strict=True):
            joint = labels.astype(np.int64) * _BINS + _bin(plane)
            counts += np.bincount(joint.ravel(), minlength=counts.size).reshape(counts.shape)
    return {
        name: _best_window(counts[list(labels)].sum(axis=0), counts.sum(axis=0))
        for name, (labels, _) in EVALUATION_CLASSES.items()
    }


def threshold_scores(
    image: np.ndarray, truth: np.ndarray, spacing_mm: Spacing, windows: Mapping[str, Window]
) -> dict[str, ClassScore]:
    """Scores of thresholding an image (z, y, x) in HU at each class's window."""
    prediction = {
        name: measure_mask(_threshold(image, window), spacing_mm)
        for name, window in windows.items()
    }
    return score_case(prediction, measure_label(truth, spacing_mm), spacing_mm)


def _bin(image: np.ndarray) -> np.ndarray:
    return (np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU) - LOWEST_HU).astype(np.int64)


def _threshold(image: np.ndarray, window: Window) -> np.ndarray:
    low, high = (hu - LOWEST_HU for hu in window)
    mask = np.empty(image.shape, bool)
    for plane, inside in zip(image, mask, strict=True):
        bins = _bin(plane)
        inside[:] = (bins >= low) & (bins <= high)
    return mask


def _best_window(inside: np.ndarray, total: np.ndarray) -> Window:
    """The window of the best Dice, from histograms of the class's voxels and of all voxels."""
    if not inside.any():
        return HIGHEST_HU, LOWEST_HU
    # Sums below each bin's lower edge, so that a window's count is one difference.
    hits, taken = (np.concatenate([[0], np.cumsum(counts)]) for counts in (inside, total))
    best, window = 0.0, (LOWEST_HU, HIGHEST_HU)
    for low in range(_BINS):
        below, above = hits[low], hits[low + 1 :]
        dices = 2 * (above - below) / (taken[low + 1 :] - taken[low] + hits[-1])
        high = int(np.argmax(dices))
        if dices[high] >= best:
            best, window = float(dices[high]), (low + LOWEST_HU, low + high + LOWEST_HU)
    return window
