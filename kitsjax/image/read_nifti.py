"""Read NIfTI files as arrays (z, y, x) in canonical orientation, however the files store them.

A file is read in chunks, so that its voxels as stored (often float64) are never in memory at once.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import HeaderDataError

from kitsjax.errors import InputError
from kitsjax.image.header import NiftiHeader
from kitsjax.image.volume import Grid, Volume, format_matrix, format_numbers

_MM_OF_UNIT = {"meter": 1000.0, "micron": 0.001}
"""Any other unit of a header is taken for mm."""

_UNREADABLE: tuple[Any, ...] = (
    OSError, EOFError, zlib.error, isal_zlib.error, ImageFileError, HeaderDataError, ValueError
)  # fmt: skip
"""nibabel, gzip and zlib raise these on files that are damaged, cut short or not NIfTI."""

_CHUNK_BYTES = 2**25
"""Chunks of a file hold about this much, uncompressed."""

_LABEL_ROUNDING = 1e-3
"""A label this close to an integer is that integer: writers that scale (`scl_slope`) round."""


def read_volume(path: str | Path) -> Volume:
    """Read an image as float32 with `scl_slope` and `scl_inter` applied (HU for a CT).

    Trailing axes of one are dropped.

    Raises:
        InputError: The file is missing, damaged or not NIfTI, is not three-dimensional, has a
            voxel size that is not positive, or holds complex, RGB, NaN or infinite voxels.
    """
    image, grid = _open(Path(path))
    array = _allocate(grid, np.float32)
    not_finite = 0
    for block, stored in _blocks(image, grid, array):
        with np.errstate(over="ignore"):
            block[...] = _scaled(image, stored)
        not_finite += block.size - int(np.isfinite(block).sum())
    if not_finite:
        raise InputError(
            f"{path}: {not_finite} of {array.size} voxels are NaN or infinite; "
            "replace them, for example by air (-1024)"
        )
    return Volume(array, grid)


def read_label(path: str | Path, labels: Sequence[int] = (0, 1, 2, 3)) -> Volume:
    """Read a label map as uint8, whatever type it is stored as.

    Raises:
        InputError: The file cannot be read (see `read_volume`), or holds values other than
            `labels`, which lie between 0 and 255.
    """
    image, grid = _open(Path(path))
    array = _allocate(grid, np.uint8)
    foreign = []
    for block, stored in _blocks(image, grid, array):
        values = _scaled(image, stored)
        with np.errstate(invalid="ignore"):
            # Values that uint8 cannot hold wrap around, and then differ from what is stored.
            block[...] = np.rint(values) if values.dtype.kind == "f" else values
            good = np.abs(values - block) <= _LABEL_ROUNDING
        good &= np.logical_or.reduce([block == label for label in labels])
        if not good.all():
            foreign.append(np.unique(values[~good]))
    if foreign:
        found = np.unique(np.concatenate(foreign))
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(
            f"{path}: label values {format_numbers(found[:5])}{more} are not among "
            f"{format_numbers(labels)}; give a label map with these values only"
        )
    return Volume(array, grid)


def read_grid(path: str | Path) -> Grid:
    """Read where a file's voxels lie from its header alone; raises as `read_volume`."""
    return _open(Path(path))[1]


def _open(path: Path) -> tuple[Any, Grid]:
    """Open a file and check its header; no voxel of the nibabel image is read yet."""
    image: Any
    try:
        with _quiet():
            image = nib.load(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except _UNREADABLE as error:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a NIfTI file (.nii.gz)") from None
        raise InputError(
            f"{path}: not a readable NIfTI file ({_reason(error)}); give a complete .nii.gz"
        ) from None
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path}: not a single-file NIfTI; convert it to .nii.gz")
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise InputError(f"{path}: shape {shape} is not that of a 3-D volume; give one volume")
    if image.get_data_dtype().kind not in "biuf":
        raise InputError(
            f"{path}: voxels are {image.header.get_value_label('datatype')}; give real numbers"
        )
    return image, _make_grid(path, image)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from logging its repairs of a header: `_make_grid` refuses what matters."""

    def silence(record: logging.LogRecord) -> bool:
        return False

    nibabel_logger.addFilter(silence)
    try:
        yield
    finally:
        nibabel_logger.removeFilter(silence)


def _make_grid(path: Path, image: Any) -> Grid:
    """Make the grid of an opened image; refuse a header without usable voxel sizes.

    Where pixdim and affine disagree, the affine counts: it says where the voxels lie, and NIfTI
    ignores pixdim when there is an sform. But a pixdim that is not positive means a broken header,
    which ITK refuses too.
    """
    header = NiftiHeader(image.header.binaryblock, str(path))
    affine = header.affine.astype(float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # nibabel repairs voxel sizes of zero and below as it loads, so read them once more unchecked.
    with image.file_map["image"].get_prepare_fileobj() as stream:
        raw = type(image.header).from_fileobj(stream, check=False)
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        # The volume of the unit axes: 1 if they are perpendicular, 0 if they lie in one plane.
        volume = abs(np.linalg.det(affine[:3, :3] / lengths))
    if not (np.isfinite(affine).all() and (pixdim > 0).all() and volume > 1e-3):
        raise InputError(
            f"{path}: voxel size {format_numbers(pixdim)} mm with affine {format_matrix(affine)} "
            "is not usable; correct the header"
        )
    unit = _MM_OF_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
    inverse = orientations.inv_ornt_aff(header.orientation, image.shape[:3])
    canonical = np.diag([unit, unit, unit, 1.0]) @ affine @ inverse
    z, y, x = (float(length) for length in np.linalg.norm(canonical[:3, :3], axis=0))
    file_axes = np.argsort(header.orientation[:, 0])
    n_z, n_y, n_x = (int(image.shape[axis]) for axis in file_axes)
    return Grid((n_z, n_y, n_x), (z, y, x), canonical, header)


def _allocate(grid: Grid, dtype: Any) -> np.ndarray:
    """Allocate an array of the grid's shape; refuse one that memory cannot hold."""
    try:
        return np.empty(grid.shape, dtype)
    except (MemoryError, ValueError):
        assert grid.header is not None
        raise InputError(
            f"{grid.header.path}: its header claims {grid.shape} voxels, more than memory "
            "can hold; correct the header"
        ) from None


def _blocks(image: Any, grid: Grid, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of an array in canonical orientation, each with a view of its stored voxels.

    File and array may run along different axes. A block fits the processor's cache, so that
    copying it is fast whichever axes are contiguous.
    """
    header = grid.header
    assert header is not None
    in_file_order = header.to_file(array)
    for planes, stored in _chunks(Path(header.path), image):
        target = header.to_canonical(in_file_order[:, :, planes])
        voxels = header.to_canonical(stored)
        for z in range(0, target.shape[0], 16):
            for y in range(0, target.shape[1], 16):
                block = slice(z, z + 16), slice(y, y + 16)
                yield target[block], voxels[block]


def _chunks(path: Path, image: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield planes of the file's last axis as stored, as many at a time as `_CHUNK_BYTES` hold.

    All chunks share one buffer: each is valid until the next is asked for.
    """
    proxy = image.dataobj
    *face, planes = proxy.shape[:3]
    thickness = max(1, _CHUNK_BYTES // (int(np.prod(face)) * proxy.dtype.itemsize))
    chunk = np.empty((*face, min(thickness, planes)), proxy.dtype, order="F")
    try:
        # isal decompresses masks in a seventh and CTs in half of the time of Python's gzip.
        with igzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            stream.seek(proxy.offset)
            for start in range(0, planes, thickness):
                stored = chunk[:, :, : planes - start]
                _fill(stored.reshape(-1, order="F").view(np.uint8), stream)
                yield slice(start, start + thickness), stored
            # gzip compares its checksum only at the file's end.
            while path.suffix == ".gz" and stream.read(2**20):
                pass
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: damaged or cut short ({_reason(error)}); get the file again"
        ) from None


def _fill(buffer: np.ndarray, stream: Any) -> None:
    """Read from the stream until the buffer of bytes is full."""
    rest = buffer.data
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError("it holds fewer voxels than its header says")
        rest = rest[count:]


def _scaled(image: Any, stored: np.ndarray) -> np.ndarray:
    """Apply the file's slope and intercept, if it has them, to voxels as stored."""
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    if (slope, inter) == (1.0, 0.0):
        return stored
    return stored * np.float64(slope) + inter


def _reason(error: BaseException) -> str:
    """Put an exception's message in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
