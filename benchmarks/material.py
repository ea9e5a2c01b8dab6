"""CTs and cases that several parts read, of the built-in phantom: made once in a folder, then kept.

No download, nothing random: the same arguments give the same voxels on every machine.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kitsjax.image.read_nifti import read_grid
from kitsjax.image.volume import make_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.phantom.case import PhantomCase, make_case
from kitsjax.phantom.dataset import make_phantom

CT_SPACING_MM = (3.0, 0.8, 0.8)
"""About KiTS21's median."""

_CANDIDATES, _CANDIDATE_MATRIX = 24, 24
"""Patients to choose from by their slices, and voxels across them while choosing: seconds."""


def make_cases(folder: Path, number: int, matrix: int) -> Path:
    """A folder in KiTS21's layout of `number` phantom cases, `matrix` voxels across a slice.

    Cases of another number or size lie in another folder, so that parts and sizes don't collide.

    Returns:
        The data folder, within `folder`.
    """
    root = folder / f"cases-{number}x{matrix}"
    make_phantom(root, number, matrix, progress=False)
    return root


def make_ct(
    path: Path,
    shape: tuple[int, int, int],
    spacing_mm: Sequence[float] = CT_SPACING_MM,
    seed: int = 0,
    label: Path | None = None,
) -> None:
    """Write a CT of the abdomen, int16 HU with the noise of a scanner, and its label if asked.

    Nothing is done where files of that shape are.

    Args:
        path: .nii.gz, in KiTS21's layout; likewise `label`.
        shape: (z, y, x), any; beyond the phantom the patient is mirrored.
        spacing_mm: (z, y, x).
    """
    files = [path] if label is None else [path, label]
    if all(file.exists() and read_grid(file).shape == shape for file in files):
        return
    image, labels = ct_arrays(shape, spacing_mm, seed)
    write_volume(path, make_volume(image, spacing_mm), dtype=np.int16)
    if label is not None:
        write_volume(label, make_volume(labels, spacing_mm))


def ct_arrays(
    shape: tuple[int, int, int], spacing_mm: Sequence[float] = CT_SPACING_MM, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The CT of `make_ct` in memory: (z, y, x) int16 in HU, and its majority label, uint8."""
    case = case_with_slices(spacing_mm[0], max(shape[1:]), seed)
    image, label = (fit(array, shape) for array in (case.image, case.labels["MAJ"]))
    return image, label


def case_with_slices(slice_mm: float, matrix: int, seed: int = 0) -> PhantomCase:
    """The phantom case, of a few, whose slices are nearest to `slice_mm`.

    So an organ has about as many slices as it would have at the spacing that a part gives it.
    """
    differences = [abs(found - slice_mm) for found in _slices_mm(seed)]
    return make_case(seed, int(np.argmin(differences)), matrix)


@cache
def _slices_mm(seed: int) -> list[float]:
    """Of the first cases; a smaller matrix shows the same patient with the same slices."""
    return [make_case(seed, n, _CANDIDATE_MATRIX).spacing_mm[0] for n in range(_CANDIDATES)]


def fit(array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The middle of an array (z, y, x); where that is too small, it is continued by mirroring.

    Returns:
        A C-contiguous array of `shape` and the same dtype.
    """
    for axis, size in enumerate(shape):
        have = array.shape[axis]
        array = array.take(_mirrored(np.arange(size) + (have - size) // 2, have), axis)
    return np.ascontiguousarray(array)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Indices folded back into 0..size-1, each border voxel twice: 1 0 | 0 1 2 | 2 1."""
    folded = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
