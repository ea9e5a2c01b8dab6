"""Write NIfTI files from arrays in canonical orientation, with the layout of a reference header."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.header import NiftiHeader, canonical_header
from kitsjax.image.volume import Volume


def write_label(path: str | Path, label: Volume | np.ndarray, reference: NiftiHeader) -> None:
    """Write a label map in canonical orientation as uint8, with the layout of `reference`.

    `path` ends in .nii.gz or .nii; it appears whole or not at all. The file's shape is that of
    `reference` with its trailing axes of one, so that image and mask match voxel for voxel in nibabel;
    ITK drops such axes.

    Raises:
        InputError: `path` cannot be written.
    """
    array = label.array if isinstance(label, Volume) else label
    if array.dtype.kind not in "biu" or (array.size and not 0 <= array.min() <= array.max() < 256):
        raise ValueError(f"labels must be integers from 0 to 255, not {array.dtype}")
    _write(Path(path), array.astype(np.uint8, copy=False), reference)


def write_volume(
    path: str | Path,
    volume: Volume | np.ndarray,
    reference: NiftiHeader | None = None,
    dtype: Any = None,
) -> None:
    """Write a volume, or an array (z, y, x) or (z, y, x, class) with the layout of `reference`.

    Values are stored unscaled as `dtype`; None: label maps (uint8, bool) as uint8, others as
    float32. Otherwise as `write_label`.

    Args:
        reference: the layout of the file; None: that of the file which the volume came from, or, of a
            volume that came from none, canonical orientation with its affine.

    Raises:
        ValueError: an array without `reference`, or one that does not fit it.
        InputError: as `write_label`.
    """
    if isinstance(volume, Volume):
        reference = (
            reference or volume.header or canonical_header(volume.array.shape, volume.affine)
        )
        volume = volume.array
    if reference is None:
        raise ValueError(
            "an array alone has no place: give `reference`, or a volume by make_volume"
        )
    dtype = dtype or (np.uint8 if volume.dtype in (np.uint8, np.bool_) else np.float32)
    _write(Path(path), volume.astype(dtype, copy=False), reference)


def _write(path: Path, array: np.ndarray, reference: NiftiHeader) -> None:
    """Write an array in canonical orientation with the layout of `reference`, whole or not at all."""
    if not path.name.endswith((".nii.gz", ".nii")):
        raise InputError(f"{path}: not a NIfTI file name; let it end in .nii.gz")
    image = _image(array, reference)
    with atomic_write(path) as beside, open(beside, "wb") as stream:
        if path.suffix == ".gz":
            # Level 1: label maps shrink a hundredfold at any level, and this one is quick.
            with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _image(array: np.ndarray, reference: NiftiHeader) -> Any:
    """The nibabel image of an array in canonical orientation with the layout of `reference`."""
    stored = reference.to_file(array)
    if stored.shape[:3] != reference.shape[:3]:
        raise ValueError(f"array {array.shape} does not fit a file of shape {reference.shape}")
    if array.ndim == 3:
        stored = stored.reshape(reference.shape)
    header = reference.nifti.as_byteswapped("<")
    header.set_data_dtype(array.dtype)
    # What describes the voxel values of `reference` is not true of the new ones.
    for name in ("descrip", "aux_file", "intent_name"):
        header[name] = b""
    for name in ("cal_min", "cal_max", "intent_code", "vox_offset"):
        header[name] = 0
    # Without an affine nibabel leaves qform, sform and their codes as the header has them.
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(stored, None, header)
