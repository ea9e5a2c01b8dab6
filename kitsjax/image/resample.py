"""Resampling between voxel grids that share the volume's outer edges.

Output voxel `i` of an axis lies at input index `(i + 0.5) * n_in / n_out - 0.5`: voxel centers,
not corners, so that nothing shifts. Grids are axis-aligned, hence everything is separable.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kitsjax.types import Shape, Spacing

_EDGE_VOXELS = 12
"""Before the spline prefilter the edge voxel is repeated this often, as SciPy's "nearest" does.

The filter's response falls by the factor 2 - sqrt(3) a voxel, so what lies beyond weighs 1e-7.
"""

_BLOCK = 64
"""One matrix product computes this many output voxels of an axis."""


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], target_mm: float | Sequence[float]
) -> Shape:
    """Return the shape of a volume resampled to `target_mm`: `round(shape * spacing / target)`.

    An axis has at least one voxel. `target_mm` is one voxel edge for all axes, or one for each.
    Since the shape is rounded, the true spacing differs a little: see `resampled_spacing`.
    """
    target = np.broadcast_to(np.asarray(target_mm, dtype=float), (3,))
    z, y, x = (
        max(1, round(n * spacing / edge))
        for n, spacing, edge in zip(shape, spacing_mm, target, strict=True)
    )
    return z, y, x


def resampled_spacing(
    shape: Sequence[int], spacing_mm: Sequence[float], new_shape: Sequence[int]
) -> Spacing:
    """Return the true spacing in mm of a volume resampled from `shape` to `new_shape`."""
    z, y, x = (
        float(spacing * n / m) for spacing, n, m in zip(spacing_mm, shape, new_shape, strict=True)
    )
    return z, y, x


def resample_image(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample an image to `shape` by cubic splines; edge voxels are continued outside.

    The values are those of `scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)` to
    float32 rounding, overshoot at sharp edges included. An axis that keeps its size is left
    untouched; with all three kept, the input itself may be returned.

    Args:
        array: (z, y, x) of any real dtype.
        shape: the new shape (z, y, x).

    Returns:
        A float32 array.
    """
    image = np.ascontiguousarray(array, dtype=np.float32)
    for axis in _axes_to_resample(image.shape, shape):
        image = _interpolate(image, shape[axis], axis)
    return image


def resample_nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample a label map to `shape` by nearest neighbor; dtype and label values are kept.

    An output voxel takes the input voxel that `nearest_neighbors` finds on each axis. The result
    lies in memory as the input does: with the same axis fastest.
    """
    axes = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    in_memory = array.transpose(axes)
    for axis in _axes_to_resample(array.shape, shape):
        voxels = nearest_neighbors(array.shape[axis], shape[axis]).lower
        in_memory = in_memory.take(voxels, axis=axes.index(axis))
    return in_memory.transpose(np.argsort(axes))


class Neighbors(NamedTuple):
    """The two input voxels that each output voxel of an axis is computed from, and their weights.

    Attributes:
        lower: (n,) indices of the input.
        upper: (n,) indices of the input, from `lower` on.
        lower_weight: (n,) float32.
        upper_weight: (n,) float32.
    """

    lower: np.ndarray
    upper: np.ndarray
    lower_weight: np.ndarray
    upper_weight: np.ndarray

    def part(self, wanted: slice, first: int = 0) -> "Neighbors":
        """Return those of some output voxels, for an input that begins at its voxel `first`."""
        lower, upper, *weights = (each[wanted] for each in self)
        return Neighbors(lower - first, upper - first, *weights)


def linear_neighbors(n_in: int, n_out: int) -> Neighbors:
    """Find the voxels that each output voxel lies between, in integer arithmetic.

    Beyond the centers of the edge voxels both are the edge voxel, which is so continued.
    """
    # The place of voxel i, (i + 1/2) n_in / n_out - 1/2, in units of 1 / (2 n_out) input voxels.
    place = (2 * np.arange(n_out) + 1) * n_in - n_out
    lower, beyond = np.divmod(np.clip(place, 0, 2 * n_out * (n_in - 1)), 2 * n_out)
    # Both weights are rounded alike, so that a mirrored input gives the mirrored result.
    lower_weight, upper_weight = (
        (part / (2 * n_out)).astype(np.float32) for part in (2 * n_out - beyond, beyond)
    )
    return Neighbors(lower, lower + (beyond > 0), lower_weight, upper_weight)


def nearest_neighbors(n_in: int, n_out: int) -> Neighbors:
    """Find the voxel that holds the center of each output voxel: the lower one, of weight 1.

    That is `floor((i + 0.5) * n_in / n_out)`, in integer arithmetic. A center on the border of two
    voxels goes to the upper one.
    """
    voxels = (2 * np.arange(n_out) + 1) * n_in // (2 * n_out)
    return Neighbors(voxels, voxels, np.ones(n_out, np.float32), np.zeros(n_out, np.float32))


def interpolate_linear(array: np.ndarray, neighbors: Sequence[Neighbors]) -> np.ndarray:
    """Interpolate the last three axes linearly.

    A voxel is computed from its eight neighbors alone, in the same order everywhere, so that a part
    of the result is the same bit for bit when it is computed alone. Beyond its input and result,
    this takes the memory of one more array of the result's size, or of one with the input's rows or
    columns where the input has more of them.

    Args:
        array: (..., z, y, x) float32, of finite values.
        neighbors: those of the wanted output voxels on the axes z, y and x.

    Returns:
        A float32 array (..., z, y, x) of the wanted voxels.
    """
    z, y, x = neighbors
    # The last axis is gathered voxel by voxel, the others row by row: x comes before y, while there
    # are few rows.
    for axis, between in ((-3, z), (-1, x), (-2, y)):
        along = (-1, *(1,) * (-1 - axis))
        result = array.take(between.lower, axis)
        result *= between.lower_weight.reshape(along)
        above = array.take(between.upper, axis)
        above *= between.upper_weight.reshape(along)
        result += above
        array = result
    return array


def _axes_to_resample(shape: Sequence[int], new_shape: Sequence[int]) -> list[int]:
    """List the axes that change, the most shrinking first: later passes then have less to do."""
    changed = [axis for axis in range(3) if shape[axis] != new_shape[axis]]
    return sorted(changed, key=lambda axis: new_shape[axis] / shape[axis])


def _interpolate(image: np.ndarray, n_out: int, axis: int) -> np.ndarray:
    """Resample one axis to `n_out` voxels by products with blocks of its spline matrix."""
    matrix = _spline_matrix(image.shape[axis], n_out)
    result = np.empty((*image.shape[:axis], n_out, *image.shape[axis + 1 :]), np.float32)
    # View the axes as (before, axis, after): each product is then one BLAS call on contiguous
    # memory.
    after = int(np.prod(image.shape[axis + 1 :]))
    source = image.reshape(-1, image.shape[axis], after)
    target = result.reshape(-1, n_out, after)
    for start in range(0, n_out, _BLOCK):
        rows = matrix[start : start + _BLOCK]
        # The matrix is banded: only the columns that these rows use are multiplied.
        (used,) = np.nonzero(rows.any(axis=0))
        band = slice(used[0], used[-1] + 1)
        block = target[:, start : start + _BLOCK]
        if after == 1:
            # The resampled axis is the last one and contiguous: multiply from the right.
            np.matmul(source[:, band, 0], rows[:, band].T, out=block[:, :, 0])
        else:
            np.matmul(rows[:, band], source[:, band], out=block)
    return result


def _spline_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Return the float32 matrix (n_out, n_in) that filters and interpolates an axis in one step.

    Cubic spline interpolation is linear in the voxels: a prefilter turns them into B-spline
    coefficients, and each output voxel is a weighted sum of the four coefficients around it.
    """
    # Row j holds B-spline coefficient j - _EDGE_VOXELS as weights of the input voxels: the
    # prefilter is applied to each unit vector, continued by its edge values.
    padded = np.pad(np.eye(n_in), ((_EDGE_VOXELS, _EDGE_VOXELS), (0, 0)), mode="edge")
    coefficients = ndimage.spline_filter1d(padded, order=3, axis=0, mode="nearest")
    # Centers of the output voxels, as indices of padded input voxels, and the first of the four
    # coefficients whose B-splines are not zero there.
    position = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5 + _EDGE_VOXELS
    first = np.floor(position).astype(int) - 1
    # Each coefficient is weighted by its B-spline at the distance of the output voxel.
    matrix = np.zeros((n_out, n_in))
    for tap in range(4):
        weight = _cubic_b_spline(position - (first + tap))
        matrix += weight[:, None] * coefficients[first + tap]
    # The prefilter reaches all voxels, but weights this small are below float32's resolution of
    # the sum. Without them the matrix is a narrow band.
    matrix[np.abs(matrix) < 1e-9] = 0
    return matrix.astype(np.float32)


def _cubic_b_spline(distance: np.ndarray) -> np.ndarray:
    """Evaluate the cubic B-spline at distances from its center in voxels; it is zero from 2 on."""
    d = np.abs(distance)
    return np.where(d < 1, 2 / 3 - d**2 * (2 - d) / 2, np.clip(2 - d, 0, None) ** 3 / 6)
