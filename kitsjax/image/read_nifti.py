"""Read NIfTI files as arrays (z, y, x) in canonical orientation, however the files store them.

A file is read in chunks, so that its voxels as stored (often float64) are never in memory at once.
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from kitsjax.errors import InputError, LabelError, NotFiniteError
from kitsjax.image.byte_stream import (
    UNPACKING_ERRORS,
    largest_size,
    open_unpacked,
    read_first,
    skip_bytes,
)
from kitsjax.image.file_format import HEADER_BYTES, advise_folder
from kitsjax.image.header import NiftiHeader
from kitsjax.image.parse_header import make_grid, parse_header
from kitsjax.image.round_labels import describe_scaling, round_labels
from kitsjax.image.volume import LARGEST_TILT_DEG, Grid, Volume, format_numbers
from kitsjax.input_file import reading

_CHUNK_BYTES = 2**25
"""Chunks of a file hold about this much, uncompressed."""

_logger = logging.getLogger(__name__)


def read_volume(path: str | Path) -> Volume:
    """Read an image as float32 with `scl_slope` and `scl_inter` applied (HU for a CT).

    The file is gzipped or plain, whatever its name. Trailing axes of one are dropped. A note is
    logged if the file does not say how the patient lies, or if its axes are not perpendicular.

    Raises:
        InputError: The file is missing, damaged or not NIfTI, is not three-dimensional, has no
            usable affine, or holds complex or RGB voxels.
        NotFiniteError: Voxels are NaN or infinite.
    """
    grid = _read_grid(Path(path))
    array = _allocate(grid, np.float32)
    not_finite = 0
    for block, stored in _blocks(grid, array):
        with np.errstate(over="ignore"):
            block[...] = _scaled(grid, stored)
        not_finite += block.size - int(np.isfinite(block).sum())
    if not_finite:
        _check_scaling(grid)
        raise NotFiniteError(
            f"{path}: {not_finite} of {array.size} voxels are NaN or infinite; "
            "replace them, for example by air (-1024)"
        )
    _note_orientation(grid)
    if grid.tilt_deg > LARGEST_TILT_DEG:
        _logger.warning(
            "%s: its axes are %.3g degrees off perpendicular (a tilted gantry) and are taken for "
            "perpendicular; give a straightened scan (dcm2niix writes a _Tilt file) if you can",
            path, grid.tilt_deg,
        )  # fmt: skip
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
    grid = _read_grid(Path(path))
    array = _allocate(grid, np.uint8)
    header = grid.header
    assert header is not None
    foreign = []
    for block, stored in _blocks(grid, array):
        values = _scaled(grid, stored)
        good = round_labels(values, header, block)
        good &= np.logical_or.reduce([block == label for label in labels])
        if not good.all():
            foreign.append(np.unique(values[~good]))
    if foreign:
        found = np.unique(np.concatenate(foreign))
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise LabelError(
            f"{path}: label values {format_numbers(found[:5])}{more} are not among "
            f"{format_numbers(labels)}{describe_scaling(header)}; give a label map with these "
            "values only"
        )
    _note_orientation(grid)
    return Volume(array, grid)


def read_grid(path: str | Path) -> Grid:
    """Read where a file's voxels lie from its header alone; raises as `read_volume`."""
    return _read_grid(Path(path))


def check_whole(path: str | Path) -> None:
    """Read a file to its end without keeping its voxels; raises as `read_volume` if it is damaged.

    Values are not looked at.
    """
    header = _read_grid(Path(path)).header
    assert header is not None
    for _ in _chunks(header):
        pass


def _read_grid(path: Path) -> Grid:
    """Read and check a file's header."""
    if os.path.isdir(path):
        with reading(path):
            advice = advise_folder(path) or "give a NIfTI file (.nii.gz)"
        raise InputError(f"{path}: is a folder; {advice}")
    try:
        with open_unpacked(path) as stream:
            start = read_first(stream, HEADER_BYTES)
    except (OSError, *UNPACKING_ERRORS) as error:
        raise InputError(
            f"{path}: not a readable NIfTI file ({_reason(error)}); give a complete .nii.gz"
        ) from None
    return make_grid(parse_header(start, path))


def _check_scaling(grid: Grid) -> None:
    """Refuse a scaling that makes integers infinite or NaN: it is wrong, not the voxels."""
    header = grid.header
    assert header is not None
    if header.dtype.kind in "iu":
        slope, inter = header.scaling
        raise InputError(
            f"{header.path}: the header's scl_slope {slope:g} and scl_inter {inter:g} make "
            "its integers infinite; correct the header"
        )


def _note_orientation(grid: Grid) -> None:
    """Log a note if the file does not say how the patient lies."""
    header = grid.header
    assert header is not None
    if not header.states_orientation:
        _logger.warning(
            "%s: does not say how the patient lies (qform and sform codes are 0); its axes are "
            "assumed to point to %s; check in a viewer that left and right are not swapped",
            header.path, "".join(nib.aff2axcodes(header.affine)),
        )  # fmt: skip


def _allocate(grid: Grid, dtype: type[np.generic]) -> np.ndarray:
    """Allocate an array of the grid's shape; refuse one that the file or memory cannot hold."""
    header = grid.header
    assert header is not None
    claimed = f"{header.path}: its header claims {grid.shape} voxels"
    size = header.offset + math.prod(grid.shape) * header.dtype.itemsize
    if size > largest_size(Path(header.path)):
        raise InputError(f"{claimed}, more than the file holds; get it again, or correct it")
    try:
        return np.empty(grid.shape, dtype)
    except (MemoryError, ValueError):
        raise InputError(f"{claimed}, more than memory can hold; correct the header") from None


def _blocks(grid: Grid, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of an array in canonical orientation, each with a view of its stored voxels.

    File and array may run along different axes. A block fits the processor's cache, so that
    copying it is fast whichever axes are contiguous.
    """
    header = grid.header
    assert header is not None
    in_file_order = header.to_file(array)
    for planes, stored in _chunks(header):
        target = header.to_canonical(in_file_order[:, :, planes])
        voxels = header.to_canonical(stored)
        for z in range(0, target.shape[0], 16):
            for y in range(0, target.shape[1], 16):
                block = slice(z, z + 16), slice(y, y + 16)
                yield target[block], voxels[block]


def _chunks(header: NiftiHeader) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield planes of the file's last axis as stored, as many at a time as `_CHUNK_BYTES` hold.

    All chunks share one buffer: each is valid until the next is asked for.
    """
    *face, planes = header.shape[:3]
    thickness = max(1, _CHUNK_BYTES // (math.prod(face) * header.dtype.itemsize))
    try:
        chunk = np.empty((*face, min(thickness, planes)), header.dtype, order="F")
        with open_unpacked(Path(header.path)) as stream:
            skip_bytes(stream, header.offset)
            for start in range(0, planes, thickness):
                stored = chunk[:, :, : planes - start]
                _fill(stored.reshape(-1, order="F").view(np.uint8), stream)
                yield slice(start, start + thickness), stored
            # gzip compares its checksum only at the file's end.
            while stream.read(2**18):
                pass
    except (OSError, MemoryError, *UNPACKING_ERRORS) as error:
        raise InputError(
            f"{header.path}: damaged or cut short ({_reason(error)}); get the file again"
        ) from None


def _fill(buffer: np.ndarray, stream: BinaryIO) -> None:
    """Read from the stream until the buffer of bytes is full."""
    rest = buffer.data
    while rest:
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it holds fewer voxels than its header says")
        rest = rest[count:]


def _scaled(grid: Grid, stored: np.ndarray) -> np.ndarray:
    """Apply the file's slope and intercept, if it has them, to voxels as stored."""
    assert grid.header is not None
    slope, inter = grid.header.scaling
    if (slope, inter) == (1.0, 0.0):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * np.float64(slope) + inter


def _reason(error: BaseException) -> str:
    """Put an exception's message in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
