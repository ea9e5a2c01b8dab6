"""NIfTI headers: how a file stores its voxels, and the way to and from canonical orientation.

The canonical orientation is that of KiTS21's files, IPL: the array axes (z, y, x) point inferior,
posterior and left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

CANONICAL_AXES = "IPL"
"""The array axes (z, y, x) point in these directions, given as nibabel's axis codes."""


@dataclass(frozen=True)
class NiftiHeader:
    """The header of a NIfTI file: all that is needed to write another file with the same layout.

    The header is kept byte for byte, so that shape, affine, qform and sform with their codes
    survive unchanged. Everything else is read from it. `bytes.hex` makes it fit for JSON.

    Attributes:
        binaryblock: the NIfTI-1 (348 bytes) or NIfTI-2 (540 bytes) header.
        path: the file that the header was read from, for messages; "" if there is none.
        itk_format: format of that file if it is one of `itk.READERS`; "" for NIfTI.
    """

    binaryblock: bytes
    path: str = field(default="", compare=False)
    itk_format: str = field(default="", compare=False)

    @cached_property
    def nifti(self) -> Any:
        """The header as parsed by nibabel; callers must not change it."""
        kind = nib.Nifti1Header if len(self.binaryblock) == 348 else nib.Nifti2Header
        return kind(self.binaryblock, check=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The file's shape in its own axis order, with trailing axes of one if it has them."""
        return tuple(int(n) for n in self.nifti.get_data_shape())

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type of the voxels as stored, with their byte order."""
        return np.dtype(self.nifti.get_data_dtype())

    @cached_property
    def scaling(self) -> tuple[float, float]:
        """The slope and the intercept of the stored values; (1, 0) where the file has none."""
        slope, inter = self.nifti.get_slope_inter()
        return (1.0, 0.0) if slope is None else (slope, inter)

    @property
    def offset(self) -> int:
        """The number of bytes before the first voxel, in the unpacked file."""
        return int(self.nifti.get_data_offset())

    @property
    def states_orientation(self) -> bool:
        """Whether the file says how the patient lies: qform or sform has a code above 0."""
        return bool(self.nifti["qform_code"] or self.nifti["sform_code"])

    @property
    def affine(self) -> np.ndarray:
        """The file's affine, 4x4: from file index to RAS+ world in the file's own unit."""
        return np.asarray(self.nifti.get_best_affine())

    @cached_property
    def orientation(self) -> np.ndarray:
        """The canonical axis and the flip (1 or -1) of each file axis, 3x2, as nibabel has them.

        An oblique file axis belongs to the nearest canonical axis.
        """
        canonical = orientations.axcodes2ornt(CANONICAL_AXES)
        return orientations.ornt_transform(orientations.io_orientation(self.affine), canonical)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """View an array in file order (three axes, then any others) in canonical orientation."""
        return orientations.apply_orientation(array, self.orientation)

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """View an array in canonical orientation in file order; the inverse of `to_canonical`."""
        axes, flips = self.orientation.T
        backward = np.empty((3, 2))
        backward[axes.astype(int)] = np.stack([np.arange(3), flips], axis=1)
        return orientations.apply_orientation(array, backward)


def kits_affine(spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the affine (4x4, index to RAS+ mm) of a KiTS21 file, whose origin is voxel (0, 0, 0).

    `spacing_mm` are the voxel edges (z, y, x).
    """
    sz, sy, sx = spacing_mm
    return np.array([[0, 0, -sx, 0], [0, -sy, 0, 0], [-sz, 0, 0, 0], [0, 0, 0, 1.0]])


def kits_header(shape: Sequence[int], spacing_mm: Sequence[float]) -> NiftiHeader:
    """Make the header of a KiTS21 file of this shape (z, y, x) and these voxel edges (z, y, x)."""
    return canonical_header(shape, kits_affine(spacing_mm))


def canonical_header(shape: Sequence[int], affine: np.ndarray) -> NiftiHeader:
    """Make the header of a file in canonical orientation; as in KiTS21, it has an sform only.

    `affine` is 4x4, from index (z, y, x, 1) to RAS+ world in mm.
    """
    # NIfTI-1 stores 16 bits for the length of an axis.
    kind = nib.Nifti1Header if max(shape) < 2**15 else nib.Nifti2Header
    header = kind()
    header.set_data_shape(tuple(shape))
    header.set_qform(affine, code="unknown")
    header.set_sform(affine, code="aligned")
    header.set_xyzt_units("mm")
    return NiftiHeader(header.binaryblock)
