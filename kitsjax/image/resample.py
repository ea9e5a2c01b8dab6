"""Resampling between voxel grids that share the volume's outer edges (P1, R1).

Output voxel `i` of an axis lies at input index `(i + 0.5) * n_in / n_out - 0.5`: voxel centers,
not corners, so that nothing shifts. Grids are axis-aligned, hence everything is separable.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_EDGE_VOXELS = 12
"""Replicated border of the spline prefilter: SciPy's number for mode "nearest". The filter's
response falls by 2 - sqrt(3) a voxel, so what lies beyond weighs 1e-7."""

_BLOCK = 64
"""Output voxels of an axis computed by one matrix product."""


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], target_mm: float | Sequence[float]
) -> tuple[int, int, int]:
    """The shape of a volume resampled to `target_mm`: `round(shape * spacing / target)`, least 1.

    `target_mm` is one voxel edge for all axes or one an axis. Rounding makes the true spacing
    `spacing_mm * shape / resampled_shape`, within half a voxel's share of `target_mm`.
    """
    target = np.broadcast_to(np.asarray(target_mm, dtype=float), (3,))
    z, y, x = (
        max(1, round(n * spacing / edge))
        for n, spacing, edge in zip(shape, spacing_mm, target, strict=True)
    )
    return z, y, x


def resampled_spacing(
    shape: Sequence[int], spacing_mm: Sequence[float], new_shape: Sequence[int]
) -> tuple[float, float, float]:
    """The true spacing in mm of a volume resampled from `shape` to `new_shape`."""
    z, y, x = (
        float(spacing * n / m) for spacing, n, m in zip(spacing_mm, shape, new_shape, strict=True)
    )
    return z, y, x


def resampled_affine(
    affine: np.ndarray, shape: Sequence[int], new_shape: Sequence[int]
) -> np.ndarray:
    """The affine (4x4, index to mm) of a volume resampled from `shape` to `new_shape`."""
    ratio = np.asarray(shape, dtype=float) / np.asarray(new_shape, dtype=float)
    index = np.eye(4)
    index[:3, :3] = np.diag(ratio)
    index[:3, 3] = ratio / 2 - 0.5
    return np.asarray(affine, dtype=float) @ index


def resample_image(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample an image to `shape` by third-order splines, edge voxels continued outside.

    Any real dtype in, float32 out. The numbers are those of `scipy.ndimage.zoom(order=3,
    mode="nearest", grid_mode=True)` to float32 rounding, overshoot at sharp edges included. An
    axis that keeps its size is left untouched; with all three kept, the input itself may be
    returned.
    """
    image = np.ascontiguousarray(array, dtype=np.float32)
    for axis in _axes_by_growth(image.shape, shape):
        image = _interpolate(image, shape[axis], axis)
    return image


def resample_label(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample a label map to `shape` by nearest neighbor; dtype and label values are kept.

    Takes the input voxel that holds the output voxel's center, `floor((i + 0.5) * n_in / n_out)`,
    in integer arithmetic. A center on the border of two voxels goes to the upper one.
    """
    for axis in _axes_by_growth(array.shape, shape):
        n_in, n_out = array.shape[axis], shape[axis]
        array = array.take((2 * np.arange(n_out) + 1) * n_in // (2 * n_out), axis=axis)
    return array


def _axes_by_growth(shape: Sequence[int], new_shape: Sequence[int]) -> list[int]:
    """Axes that change, most shrinking first: later passes then have the least to do."""
    changed = [axis for axis in range(3) if shape[axis] != new_shape[axis]]
    return sorted(changed, key=lambda axis: new_shape[axis] / shape[axis])


def _interpolate(image: np.ndarray, n_out: int, axis: int) -> np.ndarray:
    """Apply the spline matrix along one axis, block by block of its band."""
    matrix = _spline_matrix(image.shape[axis], n_out)
    result = np.empty((*image.shape[:axis], n_out, *image.shape[axis + 1 :]), np.float32)
    # Axes to (before, axis, after), so that each product is one BLAS call on the memory as it is.
    after = int(np.prod(image.shape[axis + 1 :]))
    source = image.reshape(-1, image.shape[axis], after)
    target = result.reshape(-1, n_out, after)
    for start in range(0, n_out, _BLOCK):
        rows = matrix[start : start + _BLOCK]
        (used,) = np.nonzero(rows.any(axis=0))
        band = slice(used[0], used[-1] + 1)
        block = target[:, start : start + _BLOCK]
        if after == 1:
            np.matmul(source[:, band, 0], rows[:, band].T, out=block[:, :, 0])
        else:
            np.matmul(rows[:, band], source[:, band], out=block)
    return result


def _spline_matrix(n_in: int, n_out: int) -> np.ndarray:
    """The (n_out, n_in) float32 matrix of cubic B-spline prefilter and interpolation in one."""
    padded = np.pad(np.eye(n_in), ((_EDGE_VOXELS, _EDGE_VOXELS), (0, 0)), mode="edge")
    coefficients = ndimage.spline_filter1d(padded, order=3, axis=0, mode="nearest")
    position = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5 + _EDGE_VOXELS
    first = np.floor(position).astype(int) - 1
    matrix = np.zeros((n_out, n_in))
    for tap in range(4):
        weight = _cubic_b_spline(position - (first + tap))
        matrix += weight[:, None] * coefficients[first + tap]
    # Below float32's resolution of the sum; dropping it leaves the band alone.
    matrix[np.abs(matrix) < 1e-9] = 0
    return matrix.astype(np.float32)


def _cubic_b_spline(distance: np.ndarray) -> np.ndarray:
    """The cubic B-spline at distances from its center, in voxels; zero from 2 on."""
    d = np.abs(distance)
    return np.where(d < 1, 2 / 3 - d**2 * (2 - d) / 2, np.clip(2 - d, 0, None) ** 3 / 6)
