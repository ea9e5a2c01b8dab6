"""From the first bytes of a file to its checked NIfTI header and its grid.

Where qform, sform and pixdim disagree or are broken, the codes of the first two decide which one
says where the voxels lie: the sform if its code is not 0, else the qform if its code is not 0, else
pixdim. Only an unusable sform gives way, to a qform whose code is not 0; any other choice that is
unusable is refused.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.spatialimages import HeaderDataError

from kitsjax.errors import InputError, first_line
from kitsjax.image.file_format import ADVICE, NIFTI_1, NIFTI_2, UNKNOWN, tell_format
from kitsjax.image.header import NiftiHeader
from kitsjax.image.volume import LARGEST_EDGE_MM, Grid, format_matrix, format_numbers

_HEADERS = {NIFTI_1: nib.Nifti1Header, NIFTI_2: nib.Nifti2Header}

_MM_OF_UNIT = {1: 1000.0, 3: 0.001}
"""Meters and micrometers, by the code in a header; any other unit is taken for mm."""

_UNIT_BITS = 7
"""Bits of xyzt_units that hold the unit of length."""

_LEAST_VOLUME = 1e-3
"""Axes whose unit vectors span less than this lie in one plane."""

_silent = logging.Logger("repairs", logging.CRITICAL + 1)
"""nibabel reports its repairs here; what matters is refused or noted by kitsjax itself."""


def parse_header(start: bytes, path: Path) -> NiftiHeader:
    """Parse the first bytes of an unpacked file; fields that do not matter are repaired.

    Args:
        start: the first `file_format.HEADER_BYTES` bytes, or fewer if the file is shorter.
        path: the file, for messages.

    Raises:
        InputError: The file is not NIfTI, is not three-dimensional, has other voxels than real
            numbers, or its voxel size, affine, scaling or offset is not usable.
    """
    name = tell_format(start)
    if name not in _HEADERS:
        advice = ADVICE.get(name, ADVICE[UNKNOWN])
        raise InputError(f"{path}: not a readable NIfTI file ({name}); {advice}")
    try:
        kind = _HEADERS[name]
        if len(start) < kind.sizeof_hdr:
            raise InputError(f"{path}: not a readable NIfTI file (cut short); {ADVICE[UNKNOWN]}")
        header = kind(start[: kind.sizeof_hdr], check=False)
        _check_offset(header, path)
        pixdim = np.array(header["pixdim"][1:4], float)
        # nibabel repairs what it can and raises on what it cannot read, such as an unknown type.
        header.check_fix(_silent)
        _check_voxels(header, path)
        header.get_slope_inter()
        _choose_affine(header, pixdim, path)
    except InputError:
        raise
    except (HeaderDataError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable NIfTI file ({first_line(error)}); correct the header"
        ) from None
    return NiftiHeader(header.binaryblock, str(path))


def make_grid(header: NiftiHeader) -> Grid:
    """Make the grid of a parsed header: mm, in canonical orientation.

    Raises:
        InputError: A voxel's edge is longer than `LARGEST_EDGE_MM`.
    """
    unit = _MM_OF_UNIT.get(int(header.nifti["xyzt_units"]) & _UNIT_BITS, 1.0)
    shape = header.shape[:3]
    inverse = orientations.inv_ornt_aff(header.orientation, shape)
    canonical = np.diag([unit, unit, unit, 1.0]) @ header.affine.astype(float) @ inverse
    z, y, x = (float(length) for length in np.linalg.norm(canonical[:3, :3], axis=0))
    if max(z, y, x) > LARGEST_EDGE_MM:
        raise InputError(
            f"{header.path}: voxel size {format_numbers((z, y, x))} mm (z, y, x) is above "
            f"{LARGEST_EDGE_MM:g} mm; correct the header's affine or unit"
        )
    n_z, n_y, n_x = (shape[axis] for axis in np.argsort(header.orientation[:, 0]))
    return Grid((n_z, n_y, n_x), (z, y, x), canonical, header)


def _check_offset(header: Any, path: Path) -> None:
    """Refuse an offset of the voxels that lies within the header or is no number."""
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not least <= offset < np.inf:
        raise InputError(
            f"{path}: vox_offset {offset:g} is not a byte after the header, which ends at {least}; "
            "correct the header"
        )


def _check_voxels(header: Any, path: Path) -> None:
    """Refuse a shape that is no volume's, and voxels that are no real numbers."""
    shape = header.get_data_shape()
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        shown = tuple(int(n) for n in shape)
        raise InputError(f"{path}: shape {shown} is not that of a 3-D volume; give one volume")
    if header.get_data_dtype().kind not in "biuf":
        raise InputError(
            f"{path}: voxels are {header.get_value_label('datatype')}; give real numbers"
        )


def _choose_affine(header: Any, pixdim: np.ndarray, path: Path) -> None:
    """Make the header's best affine a usable one, or refuse the file.

    An unusable sform gives way to the qform. The sform needs no pixdim, so an unusable pixdim is
    replaced by the lengths of the sform's axes; the qform takes its lengths from pixdim.

    Args:
        header: nibabel's header after its repairs; it is changed.
        pixdim: the header's voxel size (3,) before the repairs.
        path: the file, for messages.
    """
    if header["sform_code"] and header["qform_code"] and not _is_usable(header.get_sform()):
        header["sform_code"] = 0
    has_lengths = bool(np.all((pixdim > 0) & np.isfinite(pixdim)))
    affine = np.full((4, 4), np.nan)
    if header["sform_code"] or has_lengths:
        # nibabel raises where a quaternion is none.
        with suppress(HeaderDataError, ValueError), np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), float)
    check_affine(affine, pixdim.tolist(), path)
    if not has_lengths:
        header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)


def check_affine(affine: np.ndarray, spacing_mm: Sequence[float], path: Path) -> None:
    """Refuse an affine (4, 4) that is not finite or whose axes span no volume.

    Args:
        affine: from index to world, mm; all nan if there is none.
        spacing_mm: voxel size as the file has it, for the message.
        path: the file, for the message.

    Raises:
        InputError: The affine is not usable.
    """
    if not _is_usable(affine):
        where = f" with affine {format_matrix(affine)}" if np.isfinite(affine).any() else ""
        raise InputError(
            f"{path}: voxel size {format_numbers(spacing_mm)} mm{where} is not usable; correct the "
            "header"
        )


def _is_usable(affine: np.ndarray) -> bool:
    """Tell whether an affine (4, 4) is finite and its axes span a volume."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # The volume of the unit axes: 1 if they are perpendicular, 0 if they lie in one plane.
        volume = abs(np.linalg.det(affine[:3, :3] / lengths))
    return bool(np.isfinite(affine).all() and lengths.min() > 0 and volume > _LEAST_VOLUME)
