"""Where the sliding window stands, how much each of its voxels counts, and shape buckets."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from kitsjax.data.patches import Shape

Count = Any
"""An int, or a JAX integer whose value is not known yet."""


def window_positions(shape: Shape, patch_shape: Shape, step: float) -> Int[np.ndarray, "n 3"]:
    """First voxels of the windows that cover a volume exactly, x fastest.

    nnU-Net's rule: an axis gets the fewest windows whose stride is at most step * patch, spread
    evenly from its first to its last voxel. Here with size 11, patch 4, step 0.5:

        voxels    0 1 2 3 4 5 6 7 8 9 10
        windows   # # # #                    at 0
                      # # # #                at 2  (7/4 = 1.75, rounded)
                          # # # #            at 4  (3.5, to even)
                            # # # #          at 5  (5.25)
                                  (...)      at 7 = 11 - 4

    Args:
        shape: volume (z, y, x), voxels; every axis at least the patch's.
        patch_shape: window (z, y, x), voxels.
        step: stride over patch edge, in (0, 1]; a stride below one voxel is one voxel.
    """
    axes = [_axis_positions(*sizes, step) for sizes in zip(shape, patch_shape, strict=True)]
    return np.array(list(itertools.product(*axes)), dtype=np.int32)


def _axis_positions(size: int, patch: int, step: float) -> list[int]:
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is smaller than the patch's {patch}: pad first")
    count = window_count(size - patch, patch, step)
    return [window_start(index, size - patch, count) for index in range(count)]


def window_count(room: Count, patch: int, step: float) -> Count:
    """Number of windows on an axis that leaves `room` voxels beside the patch.

    Of an integer or of a traced one, as is `window_start`: in integers alone, so that programs in
    which the shape is not known beforehand place the same windows.
    """
    stride = Fraction(max(1.0, patch * step)).limit_denominator(1000)
    return -(-room * stride.denominator // stride.numerator) + 1


def window_start(index: Count, room: Count, count: Count) -> Count:
    """First voxel of window `index` of `count` on an axis: index * room / (count - 1), rounded.

    Halves go to even.
    """
    # A single window stands at 0 whatever it is divided by.
    double = 2 * (count - 1 + (count == 1))
    up, rest = divmod(2 * index * room + double // 2, double)
    return up - (rest == 0) * (up % 2)


def importance_map(
    patch_shape: Shape, weighting: Literal["gaussian", "uniform"]
) -> Float[np.ndarray, "z y x"]:
    """Weight of each voxel of a window, float32, in (0, 1], at most 1 and symmetric.

    `gaussian` has sigma = patch / 8 an axis, as nnU-Net's; it's evaluated, not filtered, about the
    window's true center, so that it is mirror-symmetric and never 0: a corner has exp(-24).
    """
    if weighting == "uniform":
        return np.ones(patch_shape, np.float32)
    z, y, x = (_gaussian(edge) for edge in patch_shape)
    weights = z[:, None, None] * y[:, None] * x
    return (weights / weights.max()).astype(np.float32)


def _gaussian(edge: int) -> Float[np.ndarray, " edge"]:
    distance = np.arange(edge) - (edge - 1) / 2
    return np.exp(-0.5 * (distance / (edge / 8)) ** 2)


def bucket_shape(shape: Sequence[int], patch_shape: Shape, bucket: int) -> Shape:
    """Least shape in multiples of `bucket` that holds both the volume and a patch.

    One program is compiled a bucket: at 64, CTs of 0.8 x 0.8 x 3 mm and 512 x 512 x 300 voxels,
    452 x 206 x 206 on the 1.99 mm grid, share 512 x 256 x 256 with all of similar size.
    """
    z, y, x = (
        math.ceil(max(size, patch) / bucket) * bucket
        for size, patch in zip(shape, patch_shape, strict=True)
    )
    return z, y, x


def place_volume(shape: Sequence[int], patch_shape: Shape) -> tuple[slice, slice, slice]:
    """Where a volume lies in its bucket: from the first voxel on, or amid a patch that is larger.

    On an axis that is smaller than the patch, the odd voxel of padding goes after the volume.
    """
    starts = (max(0, patch - size) // 2 for size, patch in zip(shape, patch_shape, strict=True))
    z, y, x = (slice(start, start + size) for start, size in zip(starts, shape, strict=True))
    return z, y, x
