"""Writing NIfTI: the layout of the reference header, and nothing half written."""

import nibabel as nib
import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    SHAPE,
    SPACING_MM,
    canonical_array,
    label_array,
    refusal,
    save,
    stored_as,
)

from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_grid, read_label
from kitsjax.image.write_nifti import write_label, write_volume


def test_a_mask_drops_what_describes_image_values(tmp_path):
    image = nib.Nifti1Image(canonical_array(), AFFINE)
    image.header["descrip"] = b"Doe^Jane"
    image.header["cal_max"] = 300
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "image.nii.gz")
    reference = read_grid(tmp_path / "image.nii.gz").header
    write_label(tmp_path / "mask.nii.gz", label_array(), reference)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert (mask.header["descrip"], mask.header["cal_max"]) == (b"", 0)
    assert (mask.dataobj.slope, mask.dataobj.inter) == (1, 0)


def test_probabilities_have_their_classes_last(tmp_path):
    stored, affine = stored_as("RAS", canonical_array())
    reference = read_grid(save(tmp_path / "image.nii.gz", stored, affine)).header
    probabilities = np.random.default_rng(2).random((*SHAPE, 4)).astype(np.float32)
    write_volume(tmp_path / "p.nii.gz", probabilities, reference)
    written = nib.load(tmp_path / "p.nii.gz")
    assert written.shape == (*stored.shape, 4)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj)[..., 2], stored_as("RAS", probabilities[..., 2])[0]
    )
    write_volume(tmp_path / "hu.nii.gz", canonical_array(), reference, np.int16)
    np.testing.assert_array_equal(nib.load(tmp_path / "hu.nii.gz").dataobj, stored)


@pytest.mark.parametrize("name", ["file/mask.nii.gz", "mask.png", "folder.nii.gz"])
def test_unwritable_paths_leave_nothing(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    before = sorted(tmp_path.rglob("*"))
    message = refusal(write_label, tmp_path / name, label_array(), kits_header(SHAPE, SPACING_MM))
    assert name in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    reference = kits_header(SHAPE, SPACING_MM)
    write_label(tmp_path / "mask.nii.gz", label_array(), reference)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full_disk)
    message = refusal(write_label, tmp_path / "mask.nii.gz", 0 * label_array(), reference)
    assert "No space left on device" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, label_array())


def test_wrong_arrays_raise_value_error(tmp_path):
    """No file is to blame: these are mistakes of the calling program."""
    reference = kits_header(SHAPE, SPACING_MM)
    for wrong in (
        label_array() / 3,
        label_array().astype(int) - 1,
        label_array().astype(int) + 253,
    ):
        with pytest.raises(ValueError, match="labels must be integers"):
            write_label(tmp_path / "mask.nii.gz", wrong, reference)
    with pytest.raises(ValueError, match="does not fit"):
        write_label(tmp_path / "mask.nii.gz", label_array()[1:], reference)
    with pytest.raises(ValueError, match="needs a reference header"):
        write_volume(tmp_path / "mask.nii.gz", label_array())


def test_names_are_judged_without_case(tmp_path):
    reference = kits_header(SHAPE, SPACING_MM)
    write_label(tmp_path / "MASK.NII.GZ", label_array(), reference)
    assert (tmp_path / "MASK.NII.GZ").read_bytes()[:2] == b"\x1f\x8b"
    np.testing.assert_array_equal(read_label(tmp_path / "MASK.NII.GZ").array, label_array())
