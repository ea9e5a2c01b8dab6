"""Where a volume's voxels lie: in the patient, and in the file that it came from.

House orientation is that of KiTS21's files: array axes (z, y, x) that point Inferior, Posterior
and Left. Only `FileGeometry` knows that a file may be stored otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

from kitsjax.errors import InputError

HOUSE_AXES = "IPL"
"""Where the array axes (z, y, x) point, as nibabel's axis codes."""


@dataclass(frozen=True)
class FileGeometry:
    """How a NIfTI file lays out its voxels: all that is needed to write another just like it.

    Everything follows from the header, which is kept byte for byte, so that shape, affine, qform
    and sform with their codes survive unchanged. `bytes.hex` makes it fit for JSON.

    Attributes:
        header: the NIfTI-1 (348 bytes) or NIfTI-2 (540 bytes) header.
        path: the file it was read from, for messages.
    """

    header: bytes
    path: str = field(default="", compare=False)

    @cached_property
    def nifti(self) -> Any:
        """The parsed header; not to be changed."""
        kind = nib.Nifti1Header if len(self.header) == 348 else nib.Nifti2Header
        return kind(self.header, check=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The file's shape, in its own axis order; with trailing ones if the file has them."""
        return tuple(int(n) for n in self.nifti.get_data_shape())

    @property
    def affine(self) -> np.ndarray:
        """The file's affine, 4x4: file index to RAS+ world in the file's own unit."""
        return np.asarray(self.nifti.get_best_affine())

    @cached_property
    def orientation(self) -> np.ndarray:
        """nibabel's orientation (3x2: house axis, flip) of each file axis; nearest if oblique."""
        house = orientations.axcodes2ornt(HOUSE_AXES)
        return orientations.ornt_transform(orientations.io_orientation(self.affine), house)

    def to_house(self, array: np.ndarray) -> np.ndarray:
        """A view of an array in file order (three axes, then any others) in house orientation."""
        return orientations.apply_orientation(array, self.orientation)

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """A view of an array in house orientation in file order; the inverse of `to_house`."""
        axes, flips = self.orientation.T
        backward = np.empty((3, 2))
        backward[axes.astype(int)] = np.stack([np.arange(3), flips], axis=1)
        return orientations.apply_orientation(array, backward)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a volume's voxels lie: a `Volume` without its voxels, with the same meanings."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    file: FileGeometry | None = None


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional array and where it lies in the patient.

    Attributes:
        array: (z, y, x), C-contiguous, house orientation.
        spacing_mm: (z, y, x), lengths of the affine's columns.
        affine: 4x4, (z, y, x, 1) index to RAS+ world in mm.
        file: the layout of the file that it came from, if any.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    file: FileGeometry | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.array.shape
        return z, y, x


def make_volume(array: np.ndarray, spacing_mm: Sequence[float]) -> Volume:
    """A volume from an array (z, y, x) that points inferior, posterior and left, as KiTS files do.

    Args:
        spacing_mm: (z, y, x); the world's origin is voxel 0.

    Raises:
        ValueError: the array has not three axes, or the spacing is no three positive lengths.
    """
    check_spacing(spacing_mm)
    if np.ndim(array) != 3 or not np.size(array):
        raise ValueError(f"a volume has three axes (z, y, x) and voxels, not shape {array.shape}")
    z, y, x = (float(edge) for edge in spacing_mm)
    file = kits_geometry(array.shape, spacing_mm)
    return Volume(np.ascontiguousarray(array), (z, y, x), file.affine.astype(float), file)


def check_spacing(spacing_mm: Sequence[float]) -> None:
    """Raise ValueError unless these are three finite lengths above 0."""
    if len(spacing_mm) != 3 or not all(0 < edge < np.inf for edge in spacing_mm):
        raise ValueError(f"a spacing is three positive lengths (z, y, x) in mm, not {spacing_mm}")


def kits_geometry(shape: Sequence[int], spacing_mm: Sequence[float]) -> FileGeometry:
    """The layout of a KiTS21 file: house orientation, world origin at voxel 0, sform only."""
    sz, sy, sx = spacing_mm
    affine = np.array([[0, 0, -sx, 0], [0, -sy, 0, 0], [-sz, 0, 0, 0], [0, 0, 0, 1.0]])
    return file_geometry(shape, affine)


def file_geometry(shape: Sequence[int], affine: np.ndarray) -> FileGeometry:
    """The layout of a file of house orientation, from a volume's shape and affine."""
    header = nib.Nifti1Header()
    header.set_data_shape(tuple(shape))
    header.set_qform(affine, code="unknown")
    header.set_sform(affine, code="aligned")
    header.set_xyzt_units("mm")
    return FileGeometry(header.binaryblock)


GRID_TOLERANCE_MM = 1e-3
"""How far entries of two affines may differ: what rounding in headers leaves, and no more."""


def check_same_grid(a: Volume | Geometry, b: Volume | Geometry) -> None:
    """Refuse two volumes (image and label, prediction and truth) of different voxels.

    Shape and affine are compared in house orientation, so that files stored along other axes or
    flipped, but with the same world positions, pass.

    Raises:
        InputError: shapes differ, or an entry of the affines by more than 0.001 mm; names both
            files and shows both shapes, spacings or affines, and both axis codes if they differ.
    """
    what = _difference(a, b)
    if what is None:
        return
    codes = [_axis_codes(grid) for grid in (a, b)]
    stored = "" if codes[0] == codes[1] else f" (stored as {codes[0]} and {codes[1]})"
    names = [grid.file.path if grid.file else "volume" for grid in (a, b)]
    raise InputError(
        f"{names[0]} and {names[1]}: {what} differ{stored}; give files of the same voxels"
    )


def _difference(a: Volume | Geometry, b: Volume | Geometry) -> str | None:
    """What tells two grids apart, the plainest first, with both values."""
    if a.shape != b.shape:
        return f"shapes {a.shape} and {b.shape} (z, y, x)"
    # The affine alone decides: a spacing is a root of its squares, rounded once more.
    if np.allclose(a.affine, b.affine, rtol=0, atol=GRID_TOLERANCE_MM):
        return None
    if not np.allclose(a.spacing_mm, b.spacing_mm, rtol=0, atol=GRID_TOLERANCE_MM):
        values = f"({format_numbers(a.spacing_mm)}) and ({format_numbers(b.spacing_mm)})"
        return f"spacings {values} mm (z, y, x)"
    return f"affines {format_matrix(a.affine)} and {format_matrix(b.affine)} (mm)"


def _axis_codes(grid: Volume | Geometry) -> str:
    """Where the array axes of the grid's file point, as nibabel has it: IPL for KiTS."""
    return "".join(nib.aff2axcodes(grid.file.affine if grid.file else grid.affine))


def format_numbers(values: Sequence[float] | np.ndarray) -> str:
    """Numbers for a message, as in 1, 2.5: to the micrometer, as far as float32 goes."""
    return ", ".join(f"{float(value):.7g}" for value in values)


def format_matrix(affine: np.ndarray) -> str:
    """An affine for a message, its rows parted by semicolons."""
    return "[" + "; ".join(format_numbers(row) for row in affine[:3]) + "]"
