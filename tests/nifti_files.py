"""Small NIfTI files of one body, stored in any way, for the tests of geometry and volumes."""

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from kitsjax.errors import InputError

SHAPE = (5, 6, 7)
SPACING_MM = (3.0, 0.75, 0.5)
AFFINE = np.array([[0, 0, -0.5, 0], [0, -0.75, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
"""Of a KiTS file of that spacing."""


def house_array(seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(-1000, 3000, SHAPE).astype(dtype)


def label_array():
    return np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)


def stored_as(codes, array, affine=AFFINE):
    """The same body stored along other axes: array and affine by nibabel's own machinery."""
    change = orientations.ornt_transform(
        orientations.axcodes2ornt("IPL"), orientations.axcodes2ornt(codes)
    )
    moved = orientations.apply_orientation(array, change)
    return moved, affine @ orientations.inv_ornt_aff(change, array.shape)


def save(path, array, affine=AFFINE, *, qform=0, sform=2, units="mm", kind=nib.Nifti1Image):
    image = kind(array, None)
    image.header.set_qform(affine, code=qform)
    image.header.set_sform(affine, code=sform)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def refusal(function, *arguments, **named):
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message
