"""NIfTI files in and out: whatever a file's storage, arrays are (z, y, x) in canonical orientation."""

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

_UNREADABLE: tuple[Any, ...] = (
    OSError, EOFError, zlib.error, isal_zlib.error, ImageFileError, HeaderDataError, ValueError
)  # fmt: skip
"""What nibabel, gzip and zlib raise on files that are not whole NIfTI files."""

_PIECE_BYTES = 2**25
"""How much of a file is in memory as it is stored, often as float64, at a time."""


def read_volume(path: str | Path) -> Volume:
    """Read an image as float32, `scl_slope` and `scl_inter` applied (HU for a CT).

    Raises:
        InputError: no readable NIfTI file, not three-dimensional (trailing axes of one are
            dropped), voxel size not positive, complex or RGB voxels, NaN or infinite voxels.
    """
    image, grid = _open(Path(path))
    array = _empty(grid, np.float32)
    unfinite = 0
    for brick, stored in _bricks(image, grid, array):
        with np.errstate(over="ignore"):
            brick[...] = _scaled(image, stored)
        unfinite += brick.size - int(np.isfinite(brick).sum())
    if unfinite:
        raise InputError(
            f"{path}: {unfinite} of {array.size} voxels are NaN or infinite; "
            "replace them, with air's -1024 for instance"
        )
    return Volume(array, grid)


def read_label(path: str | Path, labels: Sequence[int] = (0, 1, 2, 3)) -> Volume:
    """Read a label map as uint8, whatever type it is stored as.

    Raises:
        InputError: as `read_volume`; values outside `labels`. A value within 0.001 of an integer
            is that integer, since writers scale (`scl_slope`) with rounding.
    """
    image, grid = _open(Path(path))
    array = _empty(grid, np.uint8)
    foreign = []
    for brick, stored in _bricks(image, grid, array):
        values = _scaled(image, stored)
        with np.errstate(invalid="ignore"):
            brick[...] = np.rint(values) if values.dtype.kind == "f" else values
            good = np.abs(values - brick) <= 1e-3
        good &= np.logical_or.reduce([brick == label for label in labels])
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
    """Read shape, spacing and affine from the header alone; raises as `read_volume`."""
    return _open(Path(path))[1]


def _open(path: Path) -> tuple[Any, Grid]:
    """Read and check a file's header."""
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
            f"{path}: not a readable NIfTI file ({_reason(error)}); give a whole .nii.gz"
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
    return image, _read_header(path, image)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from printing its repairs of a header: what matters is refused in our words."""

    def silence(record: logging.LogRecord) -> bool:
        return False

    nibabel_logger.addFilter(silence)
    try:
        yield
    finally:
        nibabel_logger.removeFilter(silence)


def _read_header(path: Path, image: Any) -> Grid:
    """Voxel size and place of a loaded image.

    Where pixdim and affine disagree, the affine counts: it says where the voxels lie, and NIfTI
    ignores pixdim when there is an sform. But a pixdim that is no length is a broken header, which
    ITK refuses too.
    """
    header = NiftiHeader(image.header.binaryblock, str(path))
    affine = header.affine.astype(float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # nibabel mends voxel sizes of zero and below as it loads; see them as they are in the header.
    with image.file_map["image"].get_prepare_fileobj() as stream:
        raw = type(image.header).from_fileobj(stream, check=False)
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        volume = abs(np.linalg.det(affine[:3, :3] / lengths))
    if not (np.isfinite(affine).all() and (pixdim > 0).all() and volume > 1e-3):
        raise InputError(
            f"{path}: voxel size {format_numbers(pixdim)} mm with affine {format_matrix(affine)} "
            "is not usable; correct the header"
        )
    unit = _MM_OF_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
    inverse = orientations.inv_ornt_aff(header.orientation, image.shape[:3])
    house = np.diag([unit, unit, unit, 1.0]) @ affine @ inverse
    z, y, x = (float(length) for length in np.linalg.norm(house[:3, :3], axis=0))
    file_axes = np.argsort(header.orientation[:, 0])
    n_z, n_y, n_x = (int(image.shape[axis]) for axis in file_axes)
    return Grid((n_z, n_y, n_x), (z, y, x), house, header)


def _empty(grid: Grid, dtype: Any) -> np.ndarray:
    try:
        return np.empty(grid.shape, dtype)
    except (MemoryError, ValueError):
        assert grid.header is not None
        raise InputError(
            f"{grid.header.path}: its header claims {grid.shape} voxels, more than memory "
            "holds; correct the header"
        ) from None


def _bricks(image: Any, grid: Grid, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bricks of an array in canonical orientation, each with a view of its voxels as stored.

    They fit the processor's cache whichever axis is contiguous.
    """
    header = grid.header
    assert header is not None
    layout = header.to_file(array)
    for planes, stored in _pieces(Path(header.path), image):
        into, voxels = (header.to_canonical(part) for part in (layout[:, :, planes], stored))
        for z in range(0, into.shape[0], 16):
            for y in range(0, into.shape[1], 16):
                brick = slice(z, z + 16), slice(y, y + 16)
                yield into[brick], voxels[brick]


def _pieces(path: Path, image: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Planes of the file's last axis, as many at a time as `_PIECE_BYTES` hold, as stored."""
    proxy = image.dataobj
    *face, planes = proxy.shape[:3]
    thickness = max(1, _PIECE_BYTES // (int(np.prod(face)) * proxy.dtype.itemsize))
    piece = np.empty((*face, min(thickness, planes)), proxy.dtype, order="F")
    try:
        # Of gzip's, isal's reading takes a seventh of the time for masks, half of it for CTs.
        with igzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            stream.seek(proxy.offset)
            for start in range(0, planes, thickness):
                stored = piece[:, :, : planes - start]
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
    """Read until the buffer of bytes is full."""
    rest = buffer.data
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError("it holds fewer voxels than its header says")
        rest = rest[count:]


def _scaled(image: Any, stored: np.ndarray) -> np.ndarray:
    """Voxels as stored, times slope plus intercept where the file has them."""
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    if (slope, inter) == (1.0, 0.0):
        return stored
    return stored * np.float64(slope) + inter


def _reason(error: BaseException) -> str:
    """An exception's message in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
