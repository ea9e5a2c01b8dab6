"""From slabs on the network's grid to the label map on the CT's own grid.

The probabilities of a whole CT are never in memory: on its own grid they would take 4 bytes a
class for each voxel. Slabs of the network's planes come one after the other; as soon as the planes
around a few slices of the CT are there, these slices are computed, and only where a class other
than the background can win.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from kitsjax.image.resample import (
    Neighbors,
    interpolate_linear,
    linear_neighbors,
    nearest_neighbors,
    resample_nearest,
)
from kitsjax.types import Box, Shape

SLAB_SLICES = 4
"""As many slices of the CT are computed at once."""


def join_slabs(slabs: Iterable[np.ndarray], out: np.ndarray) -> np.ndarray:
    """Write slabs (..., z, y, x), one after the other along z, into an array, and return it."""
    end = 0
    for slab in slabs:
        start, end = end, end + slab.shape[-3]
        out[..., start:end, :, :] = slab
    return out


def resample_label(
    slabs: Iterable[UInt8[np.ndarray, "n y x"]], shape: Shape, like: np.ndarray
) -> UInt8[np.ndarray, "Z Y X"]:
    """Resample a label map, which comes in slabs, by nearest neighbor.

    Args:
        slabs: labels on the network's grid, along z.
        shape: (z, y, x) of the network's grid.
        like: an array (z, y, x) of the CT's shape. The label map lies in memory as it does, so that
            it is written without reordering; its voxels do not matter.
    """
    label = join_slabs(slabs, np.empty_like(like, np.uint8, shape=shape))
    return resample_nearest(label, like.shape)


def resample_probabilities(
    slabs: Iterable[Float[np.ndarray, "k n y x"]],
    shape: Shape,
    like: np.ndarray,
    way: Literal["label", "probability"],
    out: Float[np.ndarray, "k Z Y X"] | None = None,
    see: Callable[[Float[np.ndarray, "k n y x"], UInt8[np.ndarray, "n y x"]], None] | None = None,
) -> UInt8[np.ndarray, "Z Y X"]:
    """Bring probabilities, which come in slabs, to the CT's grid; take the most probable class.

    Beyond its arguments, the label map and two of the given slabs this takes the memory of four
    slabs of float32 probabilities, (class, y, x), with the larger number of rows and of columns of
    the two grids: `SLAB_SLICES` slices, or the network's planes around them where these are more.

    Args:
        slabs: probabilities on the network's grid, along z; the background is the first class.
        shape: (z, y, x) of the network's grid.
        like: see `resample_label`.
        way: "probability" interpolates linearly; "label" takes the nearest neighbor.
        out: gets the probabilities on the CT's grid, whose argmax is the label map.
        see: is called, slice after slice of the CT, with the probabilities and labels of a box
            outside of which these slices are background.

    Returns:
        The label map; of equally probable classes the lowest value.
    """
    find = linear_neighbors if way == "probability" else nearest_neighbors
    z, y, x = (find(*sizes) for sizes in zip(shape, like.shape, strict=True))
    label = np.zeros_like(like, np.uint8)
    for slices, planes, first in _slices_with_planes(slabs, z):
        whole = slices, slice(0, len(y.lower)), slice(0, len(x.lower))
        box = _foreground_box(planes, slices, y, x) if out is None else whole
        # On a coarser grid no voxel may see the rows or columns that hold foreground.
        if box is None:
            continue
        _, rows, columns = box
        part = interpolate_linear(planes, (z.part(slices, first), y.part(rows), x.part(columns)))
        label[box] = part.argmax(0)
        if out is not None:
            out[:, *box] = part
        if see is not None:
            see(part, label[box])
    return label


def _slices_with_planes(
    slabs: Iterable[Float[np.ndarray, "k n y x"]], z: Neighbors
) -> Iterator[tuple[slice, Float[np.ndarray, "k n y x"], int]]:
    """Yield slices of the CT, the network's planes around them, and the number of the first plane.

    Args:
        slabs: slabs of the network's planes.
        z: the planes around each slice.
    """
    kept, first, start = None, 0, 0
    for slab in slabs:
        kept = slab if kept is None else np.concatenate([kept, slab], axis=1)
        while start < len(z.lower):
            slices = slice(start, min(start + SLAB_SLICES, len(z.lower)))
            begin, end = z.lower[start], z.upper[slices.stop - 1] + 1
            if end > first + kept.shape[1]:
                break
            yield slices, kept[:, begin - first : end - first], begin
            start = slices.stop
        if start < len(z.lower):
            # What no later slice needs. On a finer grid than the CT's it may be yet to come.
            done = min(z.lower[start] - first, kept.shape[1])
            kept, first = kept[:, done:], first + done


def _foreground_box(
    planes: Float[np.ndarray, "k n y x"], slices: slice, y: Neighbors, x: Neighbors
) -> Box | None:
    """Find the box of some slices outside of which every voxel is background; None: all are.

    That is a voxel of which no neighbor is foreground: rounding keeps the order of numbers, so if
    the background is as probable as any class at all neighbors, it is so between them.
    """
    # Plane by plane, so that what is compared stays in the processor's cache.
    found = np.any([(plane[1:] > plane[0]).any(0) for plane in np.moveaxis(planes, 1, 0)], axis=0)
    rows, columns = found.any(1), found.any(0)
    (reached_y,) = np.nonzero(rows[y.lower] | rows[y.upper])
    (reached_x,) = np.nonzero(columns[x.lower] | columns[x.upper])
    if not (reached_y.size and reached_x.size):
        return None
    return (
        slices,
        slice(reached_y[0], reached_y[-1] + 1),
        slice(reached_x[0], reached_x[-1] + 1),
    )
