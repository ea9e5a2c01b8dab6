"""NIfTI headers: one array from any storage, and the file's layout back, bit for bit."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    SHAPE,
    SPACING_MM,
    canonical_array,
    label_array,
    save,
    stored_as,
)

from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.write_nifti import write_label

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

# Every axis order and every set of flips, as nibabel codes: 48 ways to store the same array.
ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]


def _rotation(degrees):
    a, b, c = np.deg2rad(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_any_storage_is_read_alike_and_goes_back(tmp_path, codes):
    body, labels = canonical_array(), label_array()
    stored, affine = stored_as(codes, body)
    path = save(tmp_path / "image.nii", stored, affine)
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, body)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)
    assert read.spacing_mm == pytest.approx(SPACING_MM)
    assert read.array.dtype == np.float32
    assert read.array.flags.c_contiguous

    write_label(tmp_path / "mask.nii", labels, read.header)
    mask = nib.load(tmp_path / "mask.nii")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), stored_as(codes, labels)[0])
    assert mask.affine.tobytes() == nib.load(path).affine.tobytes()
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii").array, labels)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (12, -7, 21)], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ["IPL", "RAS", "ASL"])
@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 1), (0, 0), (1, 2), (3, 4)])
def test_written_geometry_is_the_input_bit_by_bit(tmp_path, qform, sform, codes, degrees, kind):
    rotated = np.eye(4)
    rotated[:3, :3] = _rotation(degrees)
    rotated[:3, 3] = (-187.3, 41.77, 1203.1)
    stored, affine = stored_as(codes, canonical_array(), rotated @ AFFINE)
    path = save(tmp_path / "image.nii.gz", stored, affine, qform=qform, sform=sform, kind=kind)
    source = nib.load(path)

    read = read_volume(path)
    labels = np.random.default_rng(1).integers(0, 4, read.shape).astype(np.uint8)
    write_label(tmp_path / "mask.nii.gz", labels, read.header)
    mask = nib.load(tmp_path / "mask.nii.gz")

    assert type(mask) is kind
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == np.uint8
    assert mask.affine.tobytes() == source.affine.tobytes()
    for name in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"):
        assert mask.header[name].tobytes() == source.header[name].tobytes(), name
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        assert mask.header[name].tobytes() == source.header[name].tobytes(), name
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, labels)
    if (qform, sform) != (0, 0):  # such a file says nothing about its axes
        np.testing.assert_array_equal(read.array, canonical_array())
        np.testing.assert_allclose(read.affine, rotated @ AFFINE, atol=1e-3)


def test_disagreeing_qform_and_sform_both_survive(tmp_path):
    image = nib.Nifti1Image(canonical_array(), None)
    image.header.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
    image.header.set_sform(AFFINE, code=4)
    nib.save(image, tmp_path / "image.nii.gz")
    write_label(
        tmp_path / "mask.nii.gz", label_array(), read_grid(tmp_path / "image.nii.gz").header
    )
    source, mask = nib.load(tmp_path / "image.nii.gz"), nib.load(tmp_path / "mask.nii.gz")
    for form in ("get_qform", "get_sform"):
        (a, code_a), (b, code_b) = (
            getattr(source, form)(coded=True),
            getattr(mask, form)(coded=True),
        )
        assert a.tobytes() == b.tobytes()
        assert code_a == code_b
    # The sform wins over pixdim (1, 2, 3).
    assert read_volume(tmp_path / "image.nii.gz").spacing_mm == SPACING_MM


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_kept_in_masks(tmp_path, extra):
    path = save(tmp_path / "image.nii.gz", canonical_array().reshape(*SHAPE, *extra))
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, canonical_array())
    write_label(tmp_path / "mask.nii.gz", label_array(), read.header)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (*SHAPE, *extra)
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, label_array())


def test_kits_header_is_that_of_kits_files(tmp_path):
    reference = kits_header(SHAPE, SPACING_MM)
    write_label(tmp_path / "label.nii.gz", label_array(), reference)
    written = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(written.affine, AFFINE)
    np.testing.assert_array_equal(written.dataobj, label_array())
    assert nib.aff2axcodes(written.affine) == ("I", "P", "L")
    real = DATA / "kits21" / "case_00021" / "aggregated_MAJ_seg.nii.gz"
    if real.exists():
        ours, theirs = written.header, nib.load(real).header
        assert ours["qform_code"] == theirs["qform_code"]
        assert ours["sform_code"] == theirs["sform_code"]
        np.testing.assert_array_equal(read_label(real).array, nib.load(real).dataobj)
