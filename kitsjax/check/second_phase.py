"""Find a second scan of the same patient that is appended along z and not labeled.

The known bad cases of KiTS19 are like that (15, 25, 61 and 117): another contrast phase follows the
labeled one in the same file, and its kidneys would be taught as background. Where it begins, the
body jumps from its lower end to its upper one, and then the labeled slices come again.
"""

from collections.abc import Iterator

import numpy as np

from kitsjax.check.findings import Finding
from kitsjax.types import Spacing

COARSE = 32
"""Slices are compared as images of about this many pixels across."""

TISSUE_HU = (-200.0, 300.0)
"""Slices are compared within this range."""

LEAST_MM = 50.0
"""Each of the two scans is at least so long; less would show no whole kidney."""

COMPARED_MM = 30.0
"""So much of the middle of the labeled slices is looked for in the other scan."""


def find_second_phase(hu: np.ndarray, label: np.ndarray, spacing_mm: Spacing) -> Iterator[Finding]:
    """Yield a warning if a CT is two scans along z, and only one of them is labeled.

    Args:
        hu: CT (z, y, x) in HU.
        label: label map of the same shape.
        spacing_mm: voxel edges (z, y, x).
    """
    labeled = np.flatnonzero(label.any(axis=(1, 2)))
    least = int(np.ceil(LEAST_MM / spacing_mm[0]))
    if len(hu) < 2 * least or not len(labeled):
        return
    slices = _shrink(hu)
    jumps = np.abs(np.diff(slices, axis=0)).mean(axis=1)
    # The second scan begins after the largest jump that leaves room for a scan on both sides.
    begin = least + int(jumps[least - 1 : len(hu) - least].argmax())
    if labeled[0] < begin <= labeled[-1]:
        return
    first, last = (0, begin - 1) if labeled[0] >= begin else (begin, len(hu) - 1)
    # The middle of what is labeled is found again in the other scan if it differs from some part of
    # that by less than the scans jump. In a single scan it differs by several times the jump.
    length = max(1, min(len(labeled), round(COMPARED_MM / spacing_mm[0])))
    middle = (labeled[0] + labeled[-1] + 1 - length) // 2
    shown, other = slices[middle : middle + length], slices[first : last + 1]
    nearest = min(
        float(np.abs(other[at : at + length] - shown).mean())
        for at in range(len(other) - length + 1)
    )
    if nearest < jumps[begin - 1]:
        yield Finding(
            "second phase",
            f"slices {first} to {last} show the body of the labeled slices again, without a label, "
            f"and the body jumps at slice {begin}: probably another contrast phase; cut it off",
        )


def _shrink(hu: np.ndarray) -> np.ndarray:
    """Shrink every slice to about `COARSE` pixels across by taking means, (z, pixels) float32."""
    _, height, width = hu.shape
    step = max(1, min(height, width) // COARSE)
    rows, columns = height // step, width // step
    shrunk = np.empty((len(hu), rows * columns), np.float32)
    for plane, target in zip(hu, shrunk, strict=True):
        tissue = np.clip(plane[: rows * step, : columns * step], *TISSUE_HU, dtype=np.float32)
        target[:] = tissue.reshape(rows, step, columns, step).mean(axis=(1, 3)).ravel()
    return shrunk
