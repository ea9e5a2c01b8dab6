"""Writing NIfTI: the layout of the reference header, and nothing half written."""

import jax.numpy as jnp
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
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.volume import make_volume
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


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 300], np.uint8),
        ([0.0, 1.5], np.uint8),
        ([0.0, np.nan], np.int16),
        ([-1, 0], np.uint16),
        ([0.0, 2.0**63], np.int64),
        (np.array([0, 2**63 + 1], np.uint64), np.int64),
        (np.array([0, 2**24 + 1], np.int32), np.float32),
        (np.array([0, 2**53 + 1]), np.float64),
        ([0.0, 1e300], np.float32),
    ],
)
def test_values_that_a_type_cannot_hold(tmp_path, values, dtype):
    array = np.resize(np.array(values), SHAPE)
    with pytest.raises(ValueError, match=f"^{np.dtype(dtype)} does not hold the values from"):
        write_volume(tmp_path / "a.nii.gz", make_volume(array, SPACING_MM), dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float16, bool, np.complex64, np.dtype("V4"), "S3"])
def test_types_that_are_not_written(tmp_path, dtype):
    volume = make_volume(label_array(), SPACING_MM)
    with pytest.raises(ValueError, match=r"NIfTI files hold no .*; give a dtype among uint8, "):
        write_volume(tmp_path / "a.nii.gz", volume, dtype=dtype)
    array = label_array().astype(np.complex64)
    with pytest.raises(ValueError, match="voxels are complex64; give real numbers"):
        write_volume(tmp_path / "a.nii.gz", array, volume.header)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (np.array([True, False]), "uint8"),
        (np.array([0, 255], np.uint8), "uint8"),
        (np.array([-1024, 3000], np.int16), "int16"),
        (np.array([0, 2**24 + 1], np.int32), "int32"),
        (np.array([0, 2**24 + 1]), "int32"),
        (np.array([0, -(2**40) - 1]), "int64"),
        (np.array([0, 2**64 - 1], np.uint64), "uint64"),
        (np.array([0, 0.1]), "float32"),
        (np.array([0, 0.1], ">f4"), "float32"),
        (np.array([0, 0.1], jnp.bfloat16), "float32"),
    ],
)
def test_a_type_is_chosen_that_holds_the_values(tmp_path, values, stored):
    array = np.resize(values, SHAPE)
    write_volume(tmp_path / "a.nii.gz", make_volume(array, SPACING_MM))
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == stored
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), array.astype(stored))


def test_long_axes_make_nifti_2(tmp_path):
    """NIfTI-1 holds axes up to 32,767 voxels."""
    volume = make_volume(np.arange(40_000, dtype=np.int32).reshape(1, 1, -1), SPACING_MM)
    write_volume(tmp_path / "a.nii.gz", volume)
    assert isinstance(nib.load(tmp_path / "a.nii.gz"), nib.Nifti2Image)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, volume.array)
