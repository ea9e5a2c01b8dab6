"""Write NIfTI files from arrays in canonical orientation, with the layout of a reference header.

A file is written under a temporary name and renamed, so that it is never seen half written.
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.file_format import nifti_stem
from kitsjax.image.header import NiftiHeader, canonical_header
from kitsjax.image.stored_type import to_stored
from kitsjax.image.volume import Volume


def write_label(
    path: str | Path,
    label: Volume | np.ndarray,
    reference: NiftiHeader,
    description: str = "",
) -> None:
    """Write a label map in canonical orientation as uint8, with the layout of `reference`.

    The file gets the shape of `reference` with its trailing axes of one, so that image and mask
    match voxel for voxel in nibabel; ITK drops such axes.

    Args:
        path: the file, whose name ends in .nii.gz or .nii.
        label: integers (z, y, x) from 0 to 255.
        reference: the header of the file whose layout the mask gets, usually of the image.
        description: text of the header's field `descrip`; at most 80 bytes.

    Raises:
        ValueError: The values are not integers from 0 to 255, or the shape is not the reference's.
        InputError: `path` cannot be written.
    """
    array = label.array if isinstance(label, Volume) else label
    if array.dtype.kind not in "biu" or (array.size and not 0 <= array.min() <= array.max() < 256):
        raise ValueError(f"labels must be integers from 0 to 255, not {array.dtype}")
    _write(Path(path), array.astype(np.uint8, copy=False), reference, description)


def write_volume(
    path: str | Path,
    volume: Volume | np.ndarray,
    reference: NiftiHeader | None = None,
    dtype: Any = None,
    description: str = "",
) -> None:
    """Write a volume, or an array with the layout of a reference header; values are not scaled.

    Args:
        path: the file, whose name ends in .nii.gz or .nii.
        volume: a volume, or an array (z, y, x) or (z, y, x, class) in canonical orientation.
        reference: the header whose layout the file gets. None: the header of the file that the
            volume came from; for a volume that came from none, canonical orientation and the
            volume's affine.
        dtype: the stored type, of uint8 to int64 or float32 or float64. None: float32 for floats,
            uint8 for bool, and for integers their own type, or int32 where that holds 64 bits.
        description: text of the header's field `descrip`; at most 80 bytes.

    Raises:
        TypeError: `reference` is no header.
        ValueError: An array comes without `reference`, its shape is not the reference's, or the
            stored type is none of NIfTI's or does not hold the values.
        InputError: `path` cannot be written.
    """
    if isinstance(volume, Volume):
        reference = (
            reference or volume.header or canonical_header(volume.array.shape, volume.affine)
        )
        volume = volume.array
    if not isinstance(reference, NiftiHeader | None):
        raise TypeError("a reference is the header of a volume (volume.header), not its path")
    if reference is None:
        raise ValueError(
            "a bare array needs a reference header; or use make_volume(array, spacing_mm)"
        )
    _write(Path(path), to_stored(volume, dtype), reference, description)


def _write(path: Path, array: np.ndarray, reference: NiftiHeader, description: str) -> None:
    """Write an array in canonical orientation atomically, with the layout of `reference`."""
    if nifti_stem(path.name) is None:
        raise InputError(f"{path}: not the name of a NIfTI file; let it end in .nii.gz")
    image = _make_image(array, reference)
    image.header["descrip"] = description.encode()
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        if path.suffix.lower() == ".gz":
            # isal takes a tenth of gzip's time for a label map, and its file is smaller. Without a
            # name and a time in it, equal voxels give equal bytes.
            with igzip.IGzipFile("", "wb", 1, stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _make_image(array: np.ndarray, reference: NiftiHeader) -> Any:
    """Make the nibabel image of an array in canonical orientation, laid out as `reference`."""
    stored = reference.to_file(array)
    if stored.shape[:3] != reference.shape[:3]:
        raise ValueError(f"array {array.shape} does not fit a file of shape {reference.shape}")
    if array.ndim == 3:
        # Trailing axes of one; the class axis of a four-dimensional array takes their place.
        stored = stored.reshape(reference.shape)
    header = reference.nifti.as_byteswapped("<")
    header.set_data_dtype(array.dtype)
    # These fields describe the voxel values of the reference, which are not those written here.
    for name in ("descrip", "aux_file", "intent_name"):
        header[name] = b""
    for name in ("cal_min", "cal_max", "intent_code", "vox_offset"):
        header[name] = 0
    # Without an affine nibabel leaves qform, sform and their codes as the header has them.
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(stored, None, header)
