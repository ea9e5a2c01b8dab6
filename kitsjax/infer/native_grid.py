"""From class probabilities on the network's grid to labels on the CT's own, a slab at a time.

The probabilities of a CT on its own grid would take gigabytes: 16 bytes a voxel. They are
interpolated in slabs of a few slices, and only where a class other than the background can win.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from kitsjax.image.resample import linear_neighbors, resample_linear
from kitsjax.types import Box, Shape

SLAB_SLICES = 4
"""As many slices of the CT are interpolated at once."""


def interpolate_label(
    by_class: Float[np.ndarray, "k z y x"],
    shape: Shape,
    out: Float[np.ndarray, "k Z Y X"] | None = None,
) -> UInt8[np.ndarray, "Z Y X"]:
    """Interpolate class probabilities linearly and take the most probable class of each voxel.

    Beyond its arguments and the label map this takes the memory of four slabs: `SLAB_SLICES`
    slices of float32 probabilities, (class, y, x), with the larger number of rows and of columns of
    the two grids.

    Args:
        by_class: probabilities on the network's grid; the background is the first class.
        shape: (z, y, x) of the CT.
        out: gets the interpolated probabilities, whose argmax is the label map.

    Returns:
        The label map; of equally probable classes the lowest value.
    """
    label = np.zeros(shape, np.uint8)
    boxes = _foreground_boxes(by_class, shape) if out is None else _slabs(shape)
    for box in boxes:
        part = resample_linear(by_class, shape, box)
        label[box] = part.argmax(0)
        if out is not None:
            out[:, *box] = part
    return label


def _slabs(shape: Shape) -> Iterator[Box]:
    for start in range(0, shape[0], SLAB_SLICES):
        end = min(start + SLAB_SLICES, shape[0])
        yield slice(start, end), slice(0, shape[1]), slice(0, shape[2])


def _foreground_boxes(by_class: Float[np.ndarray, "k z y x"], shape: Shape) -> Iterator[Box]:
    """Cut each slab to the box outside of which every voxel is background.

    That is a voxel of which no neighbor is foreground: rounding keeps the order of numbers, so if
    the background is as probable as any class at all neighbors, it is so between them.
    """
    z, y, x = (linear_neighbors(*sizes) for sizes in zip(by_class.shape[1:], shape, strict=True))
    # Rows and columns of each plane of the network's grid that hold a foreground voxel.
    planes = ((plane[1:] > plane[0]).any(0) for plane in np.moveaxis(by_class, 1, 0))
    found = [(plane.any(1), plane.any(0)) for plane in planes]
    for slab, _, _ in _slabs(shape):
        seen = found[z.lower[slab][0] : z.upper[slab][-1] + 1]
        rows, columns = (np.any(each, axis=0) for each in zip(*seen, strict=True))
        (reached_y,) = np.nonzero(rows[y.lower] | rows[y.upper])
        (reached_x,) = np.nonzero(columns[x.lower] | columns[x.upper])
        # On a coarser grid no voxel may see the rows or columns that hold foreground.
        if reached_y.size and reached_x.size:
            yield (
                slab,
                slice(reached_y[0], reached_y[-1] + 1),
                slice(reached_x[0], reached_x[-1] + 1),
            )
