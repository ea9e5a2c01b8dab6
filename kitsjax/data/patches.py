"""Where patches lie, and reading them: foreground oversampling (O3) and padding.

  volume                 A patch is given by its start. It may overhang the volume on any
+----------+             side, as one centered on a voxel near the border does, or one that
|     +----|---+         is longer than the volume; the overhang is padding.
+-----|----+ p |
      +--------+         The source patch that is read is larger than the patch p and has
                         the same center, so that a rotated or shrunk patch is filled.
"""

import numpy as np

from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.types import Shape


def forced_foreground(slot: int, share: int, fraction: float) -> bool:
    """Whether a slot of a host's share of the batch must be centered on foreground (O3).

    The first ceil(share * fraction) slots are, so that every share keeps the rule, and with it
    every batch: 2 of 4 for the paper's third.
    """
    # A fraction such as 1/3 is not exact in binary: 3 * (1/3) must not become 2 slots.
    return slot < int(np.ceil(share * fraction - 1e-9))


def draw_start(
    rng: np.random.Generator, case: PreprocessedCase, patch_shape: Shape, foreground: bool
) -> Shape:
    """Start (z, y, x) of a random patch; negative where it overhangs the volume.

    Foreground: centered on a voxel of a class drawn uniformly from those present in the case.
    Otherwise, or in a case without any foreground: uniform over the positions within the volume,
    the last one included; along an axis shorter than the patch it is centered.
    """
    positions = case.foreground if foreground else {}
    if positions:
        value = rng.choice(sorted(positions))
        center = rng.choice(positions[value])
        z, y, x = (int(c) - p // 2 for c, p in zip(center, patch_shape, strict=True))
        return z, y, x
    room = [s - p for s, p in zip(case.shape, patch_shape, strict=True)]
    z, y, x = (int(rng.integers(0, r, endpoint=True)) if r > 0 else r // 2 for r in room)
    return z, y, x


def oversized_start(start: Shape, patch_shape: Shape, oversized_shape: Shape) -> Shape:
    """Start of the source patch whose center crop is the patch at `start`."""
    z, y, x = (
        s - (big - p) // 2 for s, p, big in zip(start, patch_shape, oversized_shape, strict=True)
    )
    return z, y, x


def read_patch(array: np.ndarray, start: Shape, shape: Shape) -> np.ndarray:
    """The patch at `start`, a fresh array of `shape`, zero outside the volume.

    Zero is the mean of a normalized image, and background in a label. Background rather than an
    ignored value: whole-volume prediction pads its windows with the same zeros, and the network
    has to have learned that nothing is there.
    """
    patch = np.zeros(shape, array.dtype)
    inside = [
        slice(max(s, 0), max(min(s + p, n), 0))
        for s, p, n in zip(start, shape, array.shape, strict=True)
    ]
    target = tuple(
        slice(i.start - s, i.start - s + max(i.stop - i.start, 0))
        for i, s in zip(inside, start, strict=True)
    )
    if all(t.stop > t.start for t in target):
        patch[target] = array[tuple(inside)]
    return patch
