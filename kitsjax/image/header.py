"""NIfTI headers: how a file lays out its voxels, and the way to and from canonical orientation.

The canonical orientation is that of KiTS21's files, IPL: array axes (z, y, x) that point inferior,
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
"""Where the array axes (z, y, x) point, as nibabel's axis codes."""


@dataclass(frozen=True)
class NiftiHeader:
    """How a NIfTI file lays out its voxels: all that is needed to write another just like it.

    Everything follows from the header, which is kept byte for byte, so that shape, affine, qform
    and sform with their codes survive unchanged. `bytes.hex` makes it fit for JSON.

    Attributes:
        binaryblock: the NIfTI-1 (348 bytes) or NIfTI-2 (540 bytes) header.
        path: the file it was read from, for messages.
    """

    binaryblock: bytes
    path: str = field(default="", compare=False)

    @cached_property
    def nifti(self) -> Any:
        """The parsed header; not to be changed."""
        kind = nib.Nifti1Header if len(self.binaryblock) == 348 else nib.Nifti2Header
        return kind(self.binaryblock, check=False)

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
        house = orientations.axcodes2ornt(CANONICAL_AXES)
        return orientations.ornt_transform(orientations.io_orientation(self.affine), house)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """A view of an array in file order (three axes, then any others) in canonical orientation."""
        return orientations.apply_orientation(array, self.orientation)

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """A view of an array in canonical orientation in file order; the inverse of `to_canonical`."""
        axes, flips = self.orientation.T
        backward = np.empty((3, 2))
        backward[axes.astype(int)] = np.stack([np.arange(3), flips], axis=1)
        return orientations.apply_orientation(array, backward)


def kits_header(shape: Sequence[int], spacing_mm: Sequence[float]) -> NiftiHeader:
    """The layout of a KiTS21 file: canonical orientation, world origin at voxel 0, sform only."""
    sz, sy, sx = spacing_mm
    affine = np.array([[0, 0, -sx, 0], [0, -sy, 0, 0], [-sz, 0, 0, 0], [0, 0, 0, 1.0]])
    return canonical_header(shape, affine)


def canonical_header(shape: Sequence[int], affine: np.ndarray) -> NiftiHeader:
    """The layout of a file of canonical orientation, from a volume's shape and affine."""
    header = nib.Nifti1Header()
    header.set_data_shape(tuple(shape))
    header.set_qform(affine, code="unknown")
    header.set_sform(affine, code="aligned")
    header.set_xyzt_units("mm")
    return NiftiHeader(header.binaryblock)
