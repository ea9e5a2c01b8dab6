"""NRRD and MetaImage files, read by SimpleITK (the extra `itk`) as if they were NIfTI."""

import logging
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from kitsjax.errors import InputError
from kitsjax.image.header import NiftiHeader, canonical_header
from kitsjax.image.parse_header import check_affine, parse_header

EXTRA = "install what reads it: python -m pip install 'kitsjax[itk]'"
"""Advice where the extra is missing."""

READERS = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}
"""SimpleITK's name of what reads each format, so that the content decides, not the name."""

_TYPES = (
    "UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64",
)  # fmt: skip
"""SimpleITK's types of real numbers, which in lower case are NumPy's."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK's world axes point left, posterior and superior; NIfTI's right, anterior and superior."""

_logger = logging.getLogger(__name__)


def read_itk_header(path: Path, kind: str) -> NiftiHeader:
    """Read the header of a NRRD or MetaImage file, and make that of the same volume in NIfTI.

    Args:
        path: the file.
        kind: its format, a key of `READERS`.

    Raises:
        InputError: SimpleITK is not installed or cannot read the file; or as `parse_header`.
    """
    sitk, reader = _open(path, kind)
    _call(reader.ReadImageInformation, path, kind)
    dtypes = {getattr(sitk, f"sitk{name}"): name.lower() for name in _TYPES}
    if reader.GetPixelID() not in dtypes:
        voxels = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise InputError(f"{path}: voxels are {voxels}; give real numbers")
    shape = reader.GetSize()
    if len(shape) != 3:
        raise InputError(f"{path}: shape {shape} is not that of a 3-D volume; give one volume")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    check_affine(_LPS_TO_RAS @ affine, reader.GetSpacing(), path)
    header = canonical_header(shape, _LPS_TO_RAS @ affine).nifti.copy()
    header.set_data_dtype(dtypes[reader.GetPixelID()])
    header.set_data_offset(header.single_vox_offset)
    return replace(parse_header(header.binaryblock, path), itk_format=kind)


def read_itk_voxels(header: NiftiHeader) -> np.ndarray:
    """Read the voxels of the file of `read_itk_header`: (x, y, z) in the order of the file.

    A note is logged if a NRRD file does not say how the patient lies.

    Raises:
        InputError: SimpleITK is not installed, or the file is damaged.
    """
    path, kind = Path(header.path), header.itk_format
    sitk, reader = _open(path, kind)
    image = _call(reader.Execute, path, kind)
    if kind == "NRRD" and not reader.HasMetaDataKey("NRRD_space"):
        _logger.warning(
            "%s: does not say how the patient lies (no space in its header); its axes are assumed "
            "to point to %s; check in a viewer that left and right are not swapped",
            path, "".join(nib.aff2axcodes(_LPS_TO_RAS)),
        )  # fmt: skip
    array: np.ndarray = sitk.GetArrayFromImage(image).T
    return array


def _open(path: Path, kind: str) -> tuple[Any, Any]:
    """Return SimpleITK, and a reader for the file."""
    try:
        sitk: Any = import_module("SimpleITK")
    except ImportError:
        raise InputError(f"{path}: is {kind}, and SimpleITK is not installed; {EXTRA}") from None
    # What is wrong with a file is raised as well.
    sitk.ProcessObject.GlobalWarningDisplayOff()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[kind])
    reader.SetFileName(str(path))
    return sitk, reader


def _call(function: Any, path: Path, kind: str) -> Any:
    """Call a function of SimpleITK, and put what it raises in one line."""
    try:
        return function()
    except (RuntimeError, MemoryError) as error:
        lines = [line for line in str(error).splitlines() if not line.startswith("Reason:")]
        reason = re.sub(r"\(0x[0-9a-f]+\)", "", " ".join(lines[-1].split())) if lines else ""
        raise InputError(
            f"{path}: damaged or not a readable {kind} file ({reason}); get the file again"
        ) from None
