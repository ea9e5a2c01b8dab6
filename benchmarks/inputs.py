"""Inputs that several benchmarks read: CTs and cases of the phantom.

They need no download, and the same arguments give the same voxels on every machine.
"""

from functools import cache
from pathlib import Path

import numpy as np

from kitsjax.image.read_nifti import read_grid
from kitsjax.image.volume import make_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.phantom.case import PhantomCase, make_case
from kitsjax.phantom.dataset import make_phantom
from kitsjax.types import Shape, Spacing

_SEED = 0

# The search for a case takes seconds with so many candidates, so few voxels across a slice.
_CANDIDATES, _CANDIDATE_MATRIX = 24, 24


def make_cases(folder: Path, number: int, matrix: int) -> Path:
    """Write phantom cases in KiTS21's layout, unless they are there.

    Args:
        number: number of cases.
        matrix: number of voxels across a slice.

    Returns:
        The data folder in `folder`, another one for each number and matrix.
    """
    root = folder / f"cases-{number}x{matrix}"
    make_phantom(root, number, matrix, progress=False)
    return root


def make_ct(path: Path, shape: Shape, spacing_mm: Spacing) -> None:
    """Write the image of `make_arrays` as int16, unless a file of that shape is there.

    Args:
        path: .nii.gz, in KiTS21's layout.
    """
    if path.exists() and read_grid(path).shape == shape:
        return
    image, _ = make_arrays(shape, spacing_mm)
    write_volume(path, make_volume(image, spacing_mm), dtype=np.int16)


def make_arrays(shape: Shape, spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Make a CT of the abdomen with a scanner's noise, and its label.

    Args:
        shape: any (z, y, x). Beyond the phantom's borders the patient is reflected.

    Returns:
        The image, int16 in HU, and the majority label, uint8; both of `shape`.
    """
    case = choose_case(spacing_mm[0], max(shape[1:]))
    return fit_to_shape(case.image, shape), fit_to_shape(case.labels["MAJ"], shape)


def choose_case(slice_mm: float, matrix: int) -> PhantomCase:
    """Make the phantom case, of a few, whose slice spacing is nearest to `slice_mm`.

    Then an organ has about as many slices as it would have at the spacing that a benchmark gives
    its arrays.
    """
    nearest = 0
    for n in range(_CANDIDATES):
        if abs(_slice_mm(n) - slice_mm) < abs(_slice_mm(nearest) - slice_mm):
            nearest = n
        if _slice_mm(nearest) == slice_mm:
            break
    return make_case(_SEED, nearest, matrix)


@cache
def _slice_mm(n: int) -> float:
    # A case has the same slices at any matrix.
    return make_case(_SEED, n, _CANDIDATE_MATRIX).spacing_mm[0]


def fit_to_shape(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Crop an array (z, y, x) to its center, and reflect it at borders where it is too small.

    Returns:
        A C-contiguous array of `shape` and the same dtype.
    """
    for axis, size in enumerate(shape):
        available = array.shape[axis]
        index = np.arange(size) + (available - size) // 2
        array = array.take(_reflected(index, available), axis)
    return np.ascontiguousarray(array)


def _reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices back into 0..size-1, with each border voxel twice: 1 0 | 0 1 2 | 2 1."""
    folded = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
