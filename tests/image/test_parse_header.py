"""Headers: the affine decides, and fields that are broken are repaired or refused in one line."""

import struct

import nibabel as nib
import numpy as np
import pytest
from nifti_files import AFFINE, SHAPE, SPACING_MM, canonical_array, label_array, refusal, save

from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.write_nifti import write_label

BROKEN_LENGTHS = [0.0, -0.75, np.nan, np.inf]


def patch(path, offset, form, *values):
    """Overwrite bytes of a plain file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("value", BROKEN_LENGTHS)
@pytest.mark.parametrize("qform", [0, 1])
def test_a_good_sform_needs_no_pixdim(tmp_path, caplog, qform, value):
    """The mask gets the lengths of the sform, so that every program reads it."""
    path = save(tmp_path / "image.nii", canonical_array(), qform=qform)
    patch(path, 84, "f", value)  # pixdim[2] of NIfTI-1
    volume = read_volume(path)
    assert volume.spacing_mm == SPACING_MM
    np.testing.assert_array_equal(volume.affine, AFFINE)
    np.testing.assert_array_equal(volume.array, canonical_array())
    write_label(tmp_path / "mask.nii", label_array(), volume.header)
    mask = nib.load(tmp_path / "mask.nii")
    np.testing.assert_array_equal(mask.affine, AFFINE)
    assert mask.header.get_zooms() == SPACING_MM
    assert not caplog.records


@pytest.mark.parametrize("value", BROKEN_LENGTHS)
@pytest.mark.parametrize("qform", [0, 1])
def test_without_sform_pixdim_must_be_lengths(tmp_path, qform, value):
    path = save(tmp_path / "image.nii", canonical_array(), qform=qform, sform=0)
    patch(path, 84, "f", value)
    for read in (read_volume, read_grid, read_label):
        assert f"voxel size 3, {value:g}, 0.5 mm is not usable" in refusal(read, path)


@pytest.mark.parametrize("broken", [[0.0] * 12, [np.nan] * 12, [1.0] * 12, [3e38] * 12])
def test_an_unusable_sform_gives_way_to_the_qform(tmp_path, broken):
    path = save(tmp_path / "image.nii", canonical_array(), qform=1)
    patch(path, 280, "12f", *broken)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(volume.array, canonical_array())
    write_label(tmp_path / "mask.nii", label_array(), volume.header)
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii").affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("entry", [0.0, np.nan])
def test_affines_without_a_volume_are_refused(tmp_path, entry):
    affine = AFFINE.copy()
    affine[1, 1] = entry
    image = nib.Nifti1Image(canonical_array(), None)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    image.header["sform_code"] = 1
    nib.save(image, tmp_path / "image.nii.gz")
    assert "voxel size" in refusal(read_volume, tmp_path / "image.nii.gz")


def test_a_quaternion_that_is_none_is_refused(tmp_path):
    path = save(tmp_path / "image.nii", canonical_array(), qform=1, sform=0)
    patch(path, 256, "3f", 3.0, 3.0, 3.0)
    assert "voxel size 3, 0.75, 0.5 mm is not usable" in refusal(read_volume, path)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -352.0, 0.0, 348.0])
def test_offsets_within_the_header_are_refused(tmp_path, value):
    path = patch(save(tmp_path / "image.nii", canonical_array()), 108, "f", value)
    message = refusal(read_volume, path)
    assert message.startswith(f"{path}: vox_offset {value:g} is not a byte after the header")


@pytest.mark.parametrize(("kind", "size"), [(nib.Nifti1Image, 347), (nib.Nifti2Image, 539)])
def test_a_header_cut_short_is_refused(tmp_path, kind, size):
    path = save(tmp_path / "image.nii", canonical_array(), kind=kind)
    path.write_bytes(path.read_bytes()[:size])
    for read in (read_volume, read_grid, read_label):
        assert refusal(read, path) == (
            f"{path}: not a readable NIfTI file (cut short); give a complete .nii.gz"
        )


def test_voxels_may_begin_later(tmp_path):
    path = save(tmp_path / "image.nii", canonical_array())
    content = path.read_bytes()
    path.write_bytes(content[:352] + bytes(48) + content[352:])
    np.testing.assert_array_equal(
        read_volume(patch(path, 108, "f", 400.0)).array, canonical_array()
    )


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(70, "h", 9999), (70, "h", 0), (40, "h", 0), (40, "h", -3), (116, "f", np.inf)],
    ids=["type", "no type", "no axes", "negative axes", "intercept"],
)
def test_other_broken_fields_are_refused(tmp_path, offset, form, value):
    path = save(tmp_path / "image.nii", np.zeros(SHAPE, np.int16))
    patch(path, 112, "f", 1.0)
    patch(path, offset, form, value)
    for read in (read_volume, read_grid, read_label):
        assert refusal(read, path).startswith(f"{path}: ")
