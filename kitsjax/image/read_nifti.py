"""Read images as arrays (z, y, x) in canonical orientation, however their files store them.

NIfTI, and with the extra `itk` NRRD and MetaImage: the content of a file decides, not its name.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from kitsjax.errors import InputError, LabelError, NotFiniteError, name_first
from kitsjax.image.file_format import advise_folder
from kitsjax.image.header import NiftiHeader
from kitsjax.image.parse_header import make_grid
from kitsjax.image.round_labels import describe_scaling, round_labels
from kitsjax.image.stored_voxels import check_size, describe_claim, iterate_planes, read_header
from kitsjax.image.volume import LARGEST_TILT_DEG, Grid, Volume, format_numbers
from kitsjax.input_file import reading
from kitsjax.types import Shape

_MOST_VALUES = 5
"""A message names at most so many values of a label map."""

TILT_NOTE = (
    "%s: its axes are %.3g degrees off perpendicular (a tilted gantry) and are taken for "
    "perpendicular; give a straightened scan (dcm2niix writes a _Tilt file) if you can"
)
"""The note on a file with a tilted grid, by which a reader of the log tells it from others."""

_logger = logging.getLogger(__name__)


def read_volume(path: str | Path) -> Volume:
    """Read an image as float32 with `scl_slope` and `scl_inter` applied (HU for a CT).

    NIfTI is gzipped or plain, whatever its name. Trailing axes of one are dropped. A note is
    logged if the file does not say how the patient lies, or if its axes are not perpendicular.

    Raises:
        InputError: The file is missing, damaged or of another format, is not three-dimensional, has
            no usable affine, or holds complex or RGB voxels; or the extra is missing.
        NotFiniteError: Voxels are NaN or infinite.
    """
    header, grid = _read_header(Path(path))
    array = _allocate(header, grid.shape, np.float32)
    not_finite = 0
    for block, stored in _blocks(header, array):
        with np.errstate(over="ignore"):
            block[...] = _scaled(header, stored)
        not_finite += block.size - int(np.isfinite(block).sum())
    if not_finite:
        _check_scaling(header)
        raise NotFiniteError(
            f"{path}: {not_finite} of {array.size} voxels are NaN or infinite; "
            "replace them, for example by air (-1024)"
        )
    _note_orientation(header)
    if grid.tilt_deg > LARGEST_TILT_DEG:
        _logger.warning(TILT_NOTE, path, grid.tilt_deg)
    return Volume(array, grid)


def read_label(path: str | Path, labels: Sequence[int] = (0, 1, 2, 3)) -> Volume:
    """Read a label map as uint8, whatever type it is stored as.

    In a scaled file (`scl_slope`) a value counts as the nearest integer within half the slope,
    which is what the writer's rounding explains. A note is logged if the file does not say how the
    patient lies.

    Raises:
        InputError: The file cannot be read (see `read_volume`).
        LabelError: It holds values other than `labels`, which lie between 0 and 255.
    """
    header, grid = _read_header(Path(path))
    array = _allocate(header, grid.shape, np.uint8)
    foreign = []
    for block, stored in _blocks(header, array):
        values = _scaled(header, stored)
        good = round_labels(values, header, block)
        good &= np.logical_or.reduce([block == label for label in labels])
        if not good.all():
            foreign.append(np.unique(values[~good]))
    if foreign:
        found = np.unique(np.concatenate(foreign)).tolist()
        shown = name_first(found, _MOST_VALUES, lambda value: format_numbers([value]))
        raise LabelError(
            f"{path}: label values {shown} are not among "
            f"{format_numbers(labels)}{describe_scaling(header)}; give a label map with these "
            "values only"
        )
    _note_orientation(header)
    return Volume(array, grid)


def read_grid(path: str | Path) -> Grid:
    """Read where a file's voxels lie from its header alone; raises as `read_volume`."""
    return _read_header(Path(path))[1]


def check_whole(path: str | Path) -> None:
    """Read a file to its end without keeping its voxels; raises as `read_volume` if it is damaged.

    Values are not looked at.
    """
    header = _read_header(Path(path))[0]
    for _ in iterate_planes(header):
        pass


def _read_header(path: Path) -> tuple[NiftiHeader, Grid]:
    """Read and check a file's header and its grid."""
    if os.path.isdir(path):
        with reading(path):
            advice = advise_folder(path) or "give a NIfTI file (.nii.gz)"
        raise InputError(f"{path}: is a folder; {advice}")
    header = read_header(path)
    return header, make_grid(header)


def _check_scaling(header: NiftiHeader) -> None:
    """Refuse a scaling that makes integers infinite or NaN: it is wrong, not the voxels."""
    if header.dtype.kind in "iu":
        slope, inter = header.scaling
        raise InputError(
            f"{header.path}: the header's scl_slope {slope:g} and scl_inter {inter:g} make "
            "its integers infinite; correct the header"
        )


def _note_orientation(header: NiftiHeader) -> None:
    """Log a note if the file does not say how the patient lies."""
    if not header.states_orientation:
        _logger.warning(
            "%s: does not say how the patient lies (qform and sform codes are 0); its axes are "
            "assumed to point to %s; check in a viewer that left and right are not swapped",
            header.path, "".join(nib.aff2axcodes(header.affine)),
        )  # fmt: skip


def _allocate(header: NiftiHeader, shape: Shape, dtype: type[np.generic]) -> np.ndarray:
    """Allocate an array (z, y, x); refuse one that the file or memory cannot hold."""
    check_size(header)
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise InputError(
            f"{describe_claim(header)}, more than memory can hold; correct the header"
        ) from None


def _blocks(header: NiftiHeader, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of an array in canonical orientation, each with a view of its stored voxels.

    File and array may run along different axes. A block fits the processor's cache, so that
    copying it is fast whichever axes are contiguous.
    """
    in_file_order = header.to_file(array)
    for planes, stored in iterate_planes(header):
        target = header.to_canonical(in_file_order[:, :, planes])
        voxels = header.to_canonical(stored)
        for z in range(0, target.shape[0], 16):
            for y in range(0, target.shape[1], 16):
                block = slice(z, z + 16), slice(y, y + 16)
                yield target[block], voxels[block]


def _scaled(header: NiftiHeader, stored: np.ndarray) -> np.ndarray:
    """Apply the file's slope and intercept, if it has them, to voxels as stored."""
    slope, inter = header.scaling
    if (slope, inter) == (1.0, 0.0):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * np.float64(slope) + inter
