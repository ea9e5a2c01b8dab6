"""Where voxels lie: one house array from any storage, and exact geometry back."""

import itertools
import pickle
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    SHAPE,
    SPACING_MM,
    house_array,
    label_array,
    refusal,
    save,
    stored_as,
)

from kitsjax.image.header import NiftiHeader, kits_header
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.volume import check_same_grid
from kitsjax.image.write_nifti import write_label

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

# Every axis order and every set of flips, as nibabel codes: 48 ways to store the same body.
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
def test_any_storage_gives_the_same_house_array_and_goes_back(tmp_path, codes):
    body, labels = house_array(), label_array()
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
def test_written_geometry_is_bit_for_bit_the_input(tmp_path, qform, sform, codes, degrees, kind):
    turned = np.eye(4)
    turned[:3, :3] = _rotation(degrees)
    turned[:3, 3] = (-187.3, 41.77, 1203.1)
    stored, affine = stored_as(codes, house_array(), turned @ AFFINE)
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
        np.testing.assert_array_equal(read.array, house_array())
        np.testing.assert_allclose(read.affine, turned @ AFFINE, atol=1e-3)


def test_qform_and_sform_that_disagree_both_survive(tmp_path):
    image = nib.Nifti1Image(house_array(), None)
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
def test_a_single_frame_is_a_volume_and_keeps_its_shape(tmp_path, extra):
    path = save(tmp_path / "image.nii.gz", house_array().reshape(*SHAPE, *extra))
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, house_array())
    write_label(tmp_path / "mask.nii.gz", label_array(), read.header)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (*SHAPE, *extra)
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, label_array())


def test_units_other_than_mm_are_converted(tmp_path):
    meters = np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE
    read = read_volume(save(tmp_path / "image.nii.gz", house_array(), meters, units="meter"))
    assert read.spacing_mm == pytest.approx(SPACING_MM)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)


def test_the_header_alone_gives_the_volumes_geometry(tmp_path):
    stored, affine = stored_as("ASR", house_array())
    path = save(tmp_path / "image.nii.gz", stored, affine)
    read, geometry = read_volume(path), read_grid(path)
    assert (geometry.shape, geometry.spacing_mm) == (read.shape, read.spacing_mm)
    assert geometry.affine.tobytes() == read.affine.tobytes()
    assert geometry.header == read.header == pickle.loads(pickle.dumps(read.header))
    assert geometry.header == NiftiHeader(bytes.fromhex(read.header.binaryblock.hex()))


def test_kits_geometry_is_that_of_the_kits_files(tmp_path):
    like = kits_header(SHAPE, SPACING_MM)
    write_label(tmp_path / "label.nii.gz", label_array(), like)
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


def test_image_and_label_must_share_their_grid(tmp_path):
    image = read_volume(save(tmp_path / "image.nii.gz", house_array()))
    nearly = AFFINE + np.eye(4)[:, [1, 2, 3, 0]] * 1e-5
    stored, affine = stored_as("RAS", label_array(), nearly)
    check_same_grid(image.grid, read_grid(save(tmp_path / "a.nii", stored, affine)))

    short = read_grid(save(tmp_path / "short.nii", label_array()[1:]))
    message = refusal(check_same_grid, image.grid, short)
    assert "(5, 6, 7) and (4, 6, 7)" in message
    assert "image.nii.gz" in message
    assert "short.nii" in message

    moved = AFFINE.copy()
    moved[0, 3] = 2.5
    shifted = read_grid(save(tmp_path / "moved.nii", label_array(), moved))
    message = refusal(check_same_grid, image.grid, shifted)
    assert "0, 0, -0.5, 0;" in message
    assert "0, 0, -0.5, 2.5;" in message
    assert "stored as" not in message


def test_grids_that_differ_are_shown_by_what_tells_them_apart(tmp_path):
    label = read_label(save(tmp_path / "label.nii", label_array())).grid
    thick = AFFINE.copy()
    thick[2, 0] = -3.002
    path = save(tmp_path / "thick.nii", label_array(), thick)
    message = refusal(check_same_grid, read_grid(path), label)
    assert message.startswith(f"{path} and {tmp_path / 'label.nii'}: spacings ")
    assert "(3.002, 0.75, 0.5) and (3, 0.75, 0.5) mm" in message

    # Saved with its axes reversed and no word of its place: another shape once it is oriented.
    path = save(tmp_path / "reversed.nii", label_array().T, np.diag([0.5, 0.75, 3, 1]))
    reversed_axes = read_grid(path)
    message = refusal(check_same_grid, reversed_axes, label)
    assert "affines" in message
    assert "(stored as RAS and IPL)" in message
    path = save(tmp_path / "plain.nii", label_array(), np.eye(4))
    message = refusal(check_same_grid, read_grid(path), label)
    assert "shapes (7, 6, 5) and (5, 6, 7) (z, y, x) differ (stored as RAS and IPL)" in message

    # A flip in the affine alone moves the body.
    flipped = AFFINE @ np.diag([-1, 1, 1, 1])
    path = save(tmp_path / "flipped.nii", label_array(), flipped)
    message = refusal(check_same_grid, read_grid(path), label)
    assert "affines" in message
    assert "(stored as SPL and IPL)" in message


@pytest.mark.parametrize("codes", ["IPL", "SAR", "RAS", "LPI"])
def test_the_tolerance_is_a_thousandth_in_an_entry_however_the_file_is_stored(tmp_path, codes):
    """What is shown of two refused files differs, even far from the origin and by this little."""
    place = AFFINE.copy()
    place[:3, 3] = (-187.3, 41.77, 1203.1)
    label = read_label(save(tmp_path / "label.nii", label_array(), place))
    for row, column in itertools.product(range(3), range(4)):
        for by, same in ((8e-4, True), (-8e-4, True), (1.3e-3, False), (-1.3e-3, False)):
            affine = place.copy()
            affine[row, column] += by
            path = save(tmp_path / "other.nii", *stored_as(codes, label_array(), affine))
            other = read_label(path)
            if same:
                check_same_grid(label.grid, other.grid)
                np.testing.assert_array_equal(other.array, label.array)
            else:
                what = refusal(check_same_grid, label.grid, other.grid).partition(": ")[2]
                values = re.search(r"[(\[](.*?)[)\]] and [(\[](.*?)[)\]]", what)
                assert values[1] != values[2]


@pytest.mark.parametrize("value", [0.0, -0.75, np.nan])
@pytest.mark.parametrize("form", ["qform", "sform"])
def test_voxel_sizes_that_are_no_lengths_are_refused(tmp_path, caplog, form, value):
    path = save(tmp_path / "image.nii", house_array(), qform=form == "qform", sform=form == "sform")
    content = bytearray(path.read_bytes())
    content[84:88] = np.float32(value).tobytes()  # pixdim[2] of NIfTI-1
    path.write_bytes(content)
    for read in (read_volume, read_grid, read_label):
        message = refusal(read, path)
        assert f"voxel size 3, {value:g}, 0.5 mm" in message
    assert not caplog.records


@pytest.mark.parametrize("entry", [0.0, np.nan])
def test_affines_without_a_volume_are_refused(tmp_path, entry):
    affine = AFFINE.copy()
    affine[1, 1] = entry
    image = nib.Nifti1Image(house_array(), None)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    image.header["sform_code"] = 1
    nib.save(image, tmp_path / "image.nii.gz")
    assert "voxel size" in refusal(read_volume, tmp_path / "image.nii.gz")
