"""NIfTI files in and out: whatever a file's storage, arrays are (z, y, x) in house orientation."""

import gzip
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

from kitsjax.data.geometry import (
    FileGeometry,
    Geometry,
    Volume,
    file_geometry,
    format_matrix,
    format_numbers,
)
from kitsjax.errors import InputError
from kitsjax.files import written_beside

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
    image, geometry = _open(Path(path))
    array = _empty(geometry, np.float32)
    unfinite = 0
    for brick, stored in _bricks(image, geometry, array):
        with np.errstate(over="ignore"):
            brick[...] = _scaled(image, stored)
        unfinite += brick.size - int(np.isfinite(brick).sum())
    if unfinite:
        raise InputError(
            f"{path}: {unfinite} of {array.size} voxels are NaN or infinite; "
            "replace them, with air's -1024 for instance"
        )
    return Volume(array, geometry.spacing_mm, geometry.affine, geometry.file)


def read_label(path: str | Path, labels: Sequence[int] = (0, 1, 2, 3)) -> Volume:
    """Read a label map as uint8, whatever type it is stored as.

    Raises:
        InputError: as `read_volume`; values outside `labels`. A value within 0.001 of an integer
            is that integer, since writers scale (`scl_slope`) with rounding.
    """
    image, geometry = _open(Path(path))
    array = _empty(geometry, np.uint8)
    foreign = []
    for brick, stored in _bricks(image, geometry, array):
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
    return Volume(array, geometry.spacing_mm, geometry.affine, geometry.file)


def read_geometry(path: str | Path) -> Geometry:
    """Read shape, spacing and affine from the header alone; raises as `read_volume`."""
    return _open(Path(path))[1]


def write_label(path: str | Path, label: Volume | np.ndarray, like: FileGeometry) -> None:
    """Write a label map in house orientation as uint8, with the layout of `like`.

    `path` ends in .nii.gz or .nii; it appears whole or not at all. The file's shape is that of
    `like` with its trailing axes of one, so that image and mask match voxel for voxel in nibabel;
    ITK drops such axes.

    Raises:
        InputError: `path` cannot be written.
    """
    array = label.array if isinstance(label, Volume) else label
    if array.dtype.kind not in "biu" or (array.size and not 0 <= array.min() <= array.max() < 256):
        raise ValueError(f"labels must be integers from 0 to 255, not {array.dtype}")
    _write(Path(path), array.astype(np.uint8, copy=False), like)


def write_volume(
    path: str | Path,
    volume: Volume | np.ndarray,
    like: FileGeometry | None = None,
    dtype: Any = None,
) -> None:
    """Write a volume, or an array (z, y, x) or (z, y, x, class) with the layout of `like`.

    Values are stored unscaled as `dtype`; None: label maps (uint8, bool) as uint8, others as
    float32. Otherwise as `write_label`.

    Args:
        like: the layout of the file; None: that of the file which the volume came from, or, of a
            volume that came from none, house orientation with its affine.

    Raises:
        ValueError: an array without `like`, or one that does not fit it.
        InputError: as `write_label`.
    """
    if isinstance(volume, Volume):
        like = like or volume.file or file_geometry(volume.array.shape, volume.affine)
        volume = volume.array
    if like is None:
        raise ValueError("an array alone has no place: give `like`, or a volume by make_volume")
    dtype = dtype or (np.uint8 if volume.dtype in (np.uint8, np.bool_) else np.float32)
    _write(Path(path), volume.astype(dtype, copy=False), like)


def _open(path: Path) -> tuple[Any, Geometry]:
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
    return image, _geometry(path, image)


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


def _geometry(path: Path, image: Any) -> Geometry:
    """Voxel size and place of a loaded image.

    Where pixdim and affine disagree, the affine counts: it says where the voxels lie, and NIfTI
    ignores pixdim when there is an sform. But a pixdim that is no length is a broken header, which
    ITK refuses too.
    """
    file = FileGeometry(image.header.binaryblock, str(path))
    affine = file.affine.astype(float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # nibabel mends voxel sizes of zero and below as it loads; see them as they are in the file.
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
    inverse = orientations.inv_ornt_aff(file.orientation, image.shape[:3])
    house = np.diag([unit, unit, unit, 1.0]) @ affine @ inverse
    z, y, x = (float(length) for length in np.linalg.norm(house[:3, :3], axis=0))
    file_axes = np.argsort(file.orientation[:, 0])
    n_z, n_y, n_x = (int(image.shape[axis]) for axis in file_axes)
    return Geometry((n_z, n_y, n_x), (z, y, x), house, file)


def _empty(geometry: Geometry, dtype: Any) -> np.ndarray:
    try:
        return np.empty(geometry.shape, dtype)
    except (MemoryError, ValueError):
        assert geometry.file is not None
        raise InputError(
            f"{geometry.file.path}: its header claims {geometry.shape} voxels, more than memory "
            "holds; correct the header"
        ) from None


def _bricks(
    image: Any, geometry: Geometry, array: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bricks of an array in house orientation, each with a view of its voxels as stored.

    They fit the processor's cache whichever axis is contiguous.
    """
    file = geometry.file
    assert file is not None
    layout = file.to_file(array)
    for planes, stored in _pieces(Path(file.path), image):
        into, voxels = (file.to_house(part) for part in (layout[:, :, planes], stored))
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


def _write(path: Path, array: np.ndarray, like: FileGeometry) -> None:
    """Write an array in house orientation with the layout of `like`, whole or not at all."""
    if not path.name.endswith((".nii.gz", ".nii")):
        raise InputError(f"{path}: not a NIfTI file name; let it end in .nii.gz")
    image = _image(array, like)
    with written_beside(path) as beside, open(beside, "wb") as stream:
        if path.suffix == ".gz":
            # Level 1: label maps shrink a hundredfold at any level, and this one is quick.
            with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _image(array: np.ndarray, like: FileGeometry) -> Any:
    """The nibabel image of an array in house orientation with the layout of `like`."""
    stored = like.to_file(array)
    if stored.shape[:3] != like.shape[:3]:
        raise ValueError(f"array {array.shape} does not fit a file of shape {like.shape}")
    if array.ndim == 3:
        stored = stored.reshape(like.shape)
    header = like.nifti.as_byteswapped("<")
    header.set_data_dtype(array.dtype)
    # What describes the voxel values of `like` is not true of the new ones.
    for name in ("descrip", "aux_file", "intent_name"):
        header[name] = b""
    for name in ("cal_min", "cal_max", "intent_code", "vox_offset"):
        header[name] = 0
    # Without an affine nibabel leaves qform, sform and their codes as the header has them.
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(stored, None, header)


def _reason(error: BaseException) -> str:
    """An exception's message in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
