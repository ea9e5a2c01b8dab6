"""NIfTI in and out: one house array from any storage, exact geometry back, one-line refusals."""

import gzip
import itertools
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from kitsjax.data import volume
from kitsjax.errors import InputError

SHAPE = (5, 6, 7)
SPACING = (3.0, 0.75, 0.5)
KITS_AFFINE = np.array([[0, 0, -0.5, 0], [0, -0.75, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

# Every axis order and every set of flips, as nibabel codes: 48 ways to store the same body.
ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]


def _house_array(seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(-1000, 3000, SHAPE).astype(dtype)


def _labels():
    return np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)


def _rotation(degrees):
    a, b, c = np.deg2rad(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    return about_z @ about_y @ about_x


def _stored_as(codes, array, affine=KITS_AFFINE):
    """The same body stored along other axes: array and affine by nibabel's own machinery."""
    change = orientations.ornt_transform(
        orientations.axcodes2ornt("IPL"), orientations.axcodes2ornt(codes)
    )
    moved = orientations.apply_orientation(array, change)
    return moved, affine @ orientations.inv_ornt_aff(change, array.shape)


def _save(path, array, affine=KITS_AFFINE, *, qform=0, sform=2, units="mm", kind=nib.Nifti1Image):
    image = kind(array, None)
    image.header.set_qform(affine, code=qform)
    image.header.set_sform(affine, code=sform)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def _refusal(function, *arguments, **named):
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_any_storage_gives_the_same_house_array_and_goes_back(tmp_path, codes):
    body, labels = _house_array(), _labels()
    stored, affine = _stored_as(codes, body)
    path = _save(tmp_path / "image.nii", stored, affine)
    read = volume.read_volume(path)
    np.testing.assert_array_equal(read.array, body)
    np.testing.assert_allclose(read.affine, KITS_AFFINE, atol=1e-5)
    assert read.spacing_mm == pytest.approx(SPACING)
    assert read.array.dtype == np.float32
    assert read.array.flags.c_contiguous

    volume.write_label(tmp_path / "mask.nii", labels, read.file)
    mask = nib.load(tmp_path / "mask.nii")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), _stored_as(codes, labels)[0])
    assert mask.affine.tobytes() == nib.load(path).affine.tobytes()
    np.testing.assert_array_equal(volume.read_label(tmp_path / "mask.nii").array, labels)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (12, -7, 21)], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ["IPL", "RAS", "ASL"])
@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 1), (0, 0), (1, 2), (3, 4)])
def test_written_geometry_is_bit_for_bit_the_input(tmp_path, qform, sform, codes, degrees, kind):
    turned = np.eye(4)
    turned[:3, :3] = _rotation(degrees)
    turned[:3, 3] = (-187.3, 41.77, 1203.1)
    stored, affine = _stored_as(codes, _house_array(), turned @ KITS_AFFINE)
    path = _save(tmp_path / "image.nii.gz", stored, affine, qform=qform, sform=sform, kind=kind)
    source = nib.load(path)

    read = volume.read_volume(path)
    labels = np.random.default_rng(1).integers(0, 4, read.shape).astype(np.uint8)
    volume.write_label(tmp_path / "mask.nii.gz", labels, read.file)
    mask = nib.load(tmp_path / "mask.nii.gz")

    assert type(mask) is kind
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == np.uint8
    assert mask.affine.tobytes() == source.affine.tobytes()
    for name in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"):
        assert mask.header[name].tobytes() == source.header[name].tobytes(), name
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        assert mask.header[name].tobytes() == source.header[name].tobytes(), name
    np.testing.assert_array_equal(volume.read_label(tmp_path / "mask.nii.gz").array, labels)
    if (qform, sform) != (0, 0):  # such a file says nothing about its axes
        np.testing.assert_array_equal(read.array, _house_array())
        np.testing.assert_allclose(read.affine, turned @ KITS_AFFINE, atol=1e-3)


def test_qform_and_sform_that_disagree_both_survive(tmp_path):
    image = nib.Nifti1Image(_house_array(), None)
    image.header.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
    image.header.set_sform(KITS_AFFINE, code=4)
    nib.save(image, tmp_path / "image.nii.gz")
    volume.write_label(
        tmp_path / "mask.nii.gz", _labels(), volume.read_geometry(tmp_path / "image.nii.gz").file
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
    assert volume.read_volume(tmp_path / "image.nii.gz").spacing_mm == SPACING


def test_what_describes_the_images_values_is_not_copied_to_its_mask(tmp_path):
    image = nib.Nifti1Image(_house_array(), KITS_AFFINE)
    image.header["descrip"] = b"Doe^Jane"
    image.header["cal_max"] = 300
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "image.nii.gz")
    like = volume.read_geometry(tmp_path / "image.nii.gz").file
    volume.write_label(tmp_path / "mask.nii.gz", _labels(), like)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert (mask.header["descrip"], mask.header["cal_max"]) == (b"", 0)
    assert (mask.dataobj.slope, mask.dataobj.inter) == (1, 0)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64", ">i2"]
)
def test_every_real_type_is_read_as_float32(tmp_path, dtype):
    body = np.abs(_house_array()).astype(np.uint8).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(body.dtype.newbyteorder("="))
    nib.save(nib.Nifti1Image(body, KITS_AFFINE, header), tmp_path / "image.nii.gz")
    read = volume.read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(read.array, body.astype(np.float32))
    volume.write_label(tmp_path / "mask.nii.gz", _labels(), read.file)
    assert nib.load(tmp_path / "mask.nii.gz").affine.tobytes() == KITS_AFFINE.tobytes()


def test_slope_and_intercept_are_applied_to_images_and_labels(tmp_path):
    image = nib.Nifti1Image(_house_array(dtype=np.int16), KITS_AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    # nibabel would choose a slope of its own from the data: write the stored integers as they are.
    _write_stored(tmp_path / "image.nii", image)
    expected = _house_array().astype(np.float64) * 0.5 - 1024
    np.testing.assert_array_equal(volume.read_volume(tmp_path / "image.nii").array, expected)

    # 49 times the float32 nearest to 1 / 49 is a little less than 1, for 60 it is a little more.
    for factor in (49, 60):
        scaled = nib.Nifti1Image(_labels() * np.uint8(factor), KITS_AFFINE)
        scaled.header.set_slope_inter(1 / factor, 0)
        _write_stored(tmp_path / "label.nii", scaled)
        np.testing.assert_array_equal(volume.read_label(tmp_path / "label.nii").array, _labels())


def _write_stored(path, image):
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F"))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint16", "float32", "float64"])
def test_labels_of_any_type_become_uint8(tmp_path, dtype):
    path = _save(tmp_path / "label.nii.gz", _labels().astype(dtype))
    read = volume.read_label(path)
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(read.array, _labels())


@pytest.mark.parametrize(
    ("dtype", "bad", "shown"),
    [
        ("uint8", 4, "4"),
        ("int16", -1, "-1"),
        ("int32", 257, "257"),
        ("int32", 256, "256"),
        ("float32", 1.5, "1.5"),
        ("float64", np.nan, "nan"),
        ("float64", np.inf, "inf"),
    ],
)
def test_foreign_label_values_are_named(tmp_path, dtype, bad, shown):
    labels = _labels().astype(dtype)
    labels[2, 3, 4] = labels[4, 0, 0] = bad
    path = _save(tmp_path / "label.nii.gz", labels)
    message = _refusal(volume.read_label, path)
    assert f"label values {shown} are not among 0, 1, 2, 3" in message
    assert str(path) in message


def test_the_allowed_labels_are_the_callers(tmp_path):
    path = _save(tmp_path / "label.nii.gz", _labels())
    assert "label values 3 are" in _refusal(volume.read_label, path, labels=(0, 1, 2))
    assert "1, 2, 3 are not among 0;" in _refusal(volume.read_label, path, labels=(0,))
    many = _save(tmp_path / "image.nii.gz", np.abs(_house_array()))
    assert " more are not among" in _refusal(volume.read_label, many)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_a_single_frame_is_a_volume_and_keeps_its_shape(tmp_path, extra):
    path = _save(tmp_path / "image.nii.gz", _house_array().reshape(*SHAPE, *extra))
    read = volume.read_volume(path)
    np.testing.assert_array_equal(read.array, _house_array())
    volume.write_label(tmp_path / "mask.nii.gz", _labels(), read.file)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (*SHAPE, *extra)
    np.testing.assert_array_equal(volume.read_label(tmp_path / "mask.nii.gz").array, _labels())


def test_units_other_than_mm_are_converted(tmp_path):
    meters = np.diag([1e-3, 1e-3, 1e-3, 1]) @ KITS_AFFINE
    read = volume.read_volume(
        _save(tmp_path / "image.nii.gz", _house_array(), meters, units="meter")
    )
    assert read.spacing_mm == pytest.approx(SPACING)
    np.testing.assert_allclose(read.affine, KITS_AFFINE, atol=1e-5)


def test_probabilities_are_written_with_classes_last(tmp_path):
    stored, affine = _stored_as("RAS", _house_array())
    like = volume.read_geometry(_save(tmp_path / "image.nii.gz", stored, affine)).file
    probabilities = np.random.default_rng(2).random((*SHAPE, 4)).astype(np.float32)
    volume.write_volume(tmp_path / "p.nii.gz", probabilities, like)
    written = nib.load(tmp_path / "p.nii.gz")
    assert written.shape == (*stored.shape, 4)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj)[..., 2], _stored_as("RAS", probabilities[..., 2])[0]
    )
    volume.write_volume(tmp_path / "hu.nii.gz", _house_array(), like, np.int16)
    np.testing.assert_array_equal(nib.load(tmp_path / "hu.nii.gz").dataobj, stored)


def test_the_header_alone_gives_the_volumes_geometry(tmp_path):
    stored, affine = _stored_as("ASR", _house_array())
    path = _save(tmp_path / "image.nii.gz", stored, affine)
    read, geometry = volume.read_volume(path), volume.read_geometry(path)
    assert (geometry.shape, geometry.spacing_mm) == (read.shape, read.spacing_mm)
    assert geometry.affine.tobytes() == read.affine.tobytes()
    assert geometry.file == read.file == pickle.loads(pickle.dumps(read.file))
    assert geometry.file == volume.FileGeometry(bytes.fromhex(read.file.header.hex()))


def test_kits_geometry_is_that_of_the_kits_files(tmp_path):
    like = volume.kits_geometry(SHAPE, SPACING)
    volume.write_label(tmp_path / "label.nii.gz", _labels(), like)
    written = nib.load(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(written.affine, KITS_AFFINE)
    np.testing.assert_array_equal(written.dataobj, _labels())
    assert nib.aff2axcodes(written.affine) == ("I", "P", "L")
    real = DATA / "kits21" / "case_00021" / "aggregated_MAJ_seg.nii.gz"
    if real.exists():
        ours, theirs = written.header, nib.load(real).header
        assert ours["qform_code"] == theirs["qform_code"]
        assert ours["sform_code"] == theirs["sform_code"]
        np.testing.assert_array_equal(volume.read_label(real).array, nib.load(real).dataobj)


def test_image_and_label_must_share_their_grid(tmp_path):
    image = volume.read_volume(_save(tmp_path / "image.nii.gz", _house_array()))
    nearly = KITS_AFFINE + np.eye(4)[:, [1, 2, 3, 0]] * 1e-5
    stored, affine = _stored_as("RAS", _labels(), nearly)
    volume.check_same_grid(image, volume.read_geometry(_save(tmp_path / "a.nii", stored, affine)))

    short = volume.read_geometry(_save(tmp_path / "short.nii", _labels()[1:]))
    message = _refusal(volume.check_same_grid, image, short)
    assert "(5, 6, 7) and (4, 6, 7)" in message
    assert "image.nii.gz" in message
    assert "short.nii" in message

    moved = KITS_AFFINE.copy()
    moved[0, 3] = 2.5
    shifted = volume.read_geometry(_save(tmp_path / "moved.nii", _labels(), moved))
    message = _refusal(volume.check_same_grid, image, shifted)
    assert "0, 0, -0.5, 0;" in message
    assert "0, 0, -0.5, 2.5;" in message


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    body = _house_array(dtype=np.float32)
    body[0, 0, 0], body[1, 2, 3], body[4, 5, 6] = np.nan, np.inf, -np.inf
    message = _refusal(volume.read_volume, _save(tmp_path / "image.nii.gz", body))
    assert "3 of 210 voxels are NaN or infinite" in message


@pytest.mark.parametrize("value", [0.0, -0.75, np.nan])
@pytest.mark.parametrize("form", ["qform", "sform"])
def test_voxel_sizes_that_are_no_lengths_are_refused(tmp_path, caplog, form, value):
    path = _save(
        tmp_path / "image.nii", _house_array(), qform=form == "qform", sform=form == "sform"
    )
    content = bytearray(path.read_bytes())
    content[84:88] = np.float32(value).tobytes()  # pixdim[2] of NIfTI-1
    path.write_bytes(content)
    for read in (volume.read_volume, volume.read_geometry, volume.read_label):
        message = _refusal(read, path)
        assert f"voxel size 3, {value:g}, 0.5 mm" in message
    assert not caplog.records


@pytest.mark.parametrize("entry", [0.0, np.nan])
def test_affines_without_a_volume_are_refused(tmp_path, entry):
    affine = KITS_AFFINE.copy()
    affine[1, 1] = entry
    image = nib.Nifti1Image(_house_array(), None)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    image.header["sform_code"] = 1
    nib.save(image, tmp_path / "image.nii.gz")
    assert "voxel size" in _refusal(volume.read_volume, tmp_path / "image.nii.gz")


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7, 2), (5, 6, 7, 1, 3), (5, 0, 7)])
def test_other_shapes_are_refused(tmp_path, shape):
    path = _save(tmp_path / "image.nii", np.zeros(shape, np.int16))
    message = _refusal(volume.read_volume, path)
    assert f"{shape}" in message
    assert str(path) in message


def test_complex_and_colored_voxels_are_refused(tmp_path):
    path = _save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.complex64))
    assert "voxels are complex64" in _refusal(volume.read_volume, path)
    rgb = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = _save(tmp_path / "rgb.nii.gz", rgb)
    assert "voxels are RGB" in _refusal(volume.read_label, path)


def _missing(path, whole):
    return "no such file"


def _folder(path, whole):
    path.mkdir()
    return "is a folder"


def _text(path, whole):
    path.write_text("patient 21: not an image\n" * 40)
    return "not a readable NIfTI file"


def _empty(path, whole):
    path.touch()
    return "not a readable NIfTI file"


def _compressed_text(path, whole):
    path.write_bytes(gzip.compress(b"not an image" * 100))
    return "not a readable NIfTI file"


def _not_compressed(path, whole):
    path.write_bytes(gzip.decompress(whole))
    return "not a readable NIfTI file"


def _header_cut_short(path, whole):
    path.write_bytes(whole[:60])
    return "not a readable NIfTI file"


def _data_cut_short(path, whole):
    path.write_bytes(whole[: len(whole) // 2])
    return "damaged or cut short"


def _checksum_missing(path, whole):
    path.write_bytes(whole[:-8])
    return "damaged or cut short"


def _bytes_flipped(path, whole):
    content = bytearray(whole)
    content[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    return "damaged or cut short"


def _fewer_voxels_than_the_header_says(path, whole):
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-10]))
    return "damaged or cut short"


@pytest.mark.parametrize(
    "damage",
    [
        _missing,
        _folder,
        _text,
        _empty,
        _compressed_text,
        _not_compressed,
        _header_cut_short,
        _data_cut_short,
        _checksum_missing,
        _bytes_flipped,
        _fewer_voxels_than_the_header_says,
    ],
)
def test_bad_files_are_refused_in_one_quiet_line(tmp_path, caplog, damage):
    body = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 30)).astype(np.int16)
    whole = _save(tmp_path / "whole.nii.gz", body).read_bytes()
    path = tmp_path / "image.nii.gz"
    expected = damage(path, whole)
    for read in (volume.read_volume, volume.read_label):
        message = _refusal(read, path)
        assert expected in message
        assert message.startswith(f"{path}: ")
    assert not caplog.records


@pytest.mark.parametrize(
    "name", ["absent/mask.nii.gz", "file/mask.nii.gz", "mask.png", "folder.nii.gz"]
)
def test_unwritable_places_are_refused_and_leave_nothing(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    before = sorted(tmp_path.rglob("*"))
    message = _refusal(
        volume.write_label, tmp_path / name, _labels(), volume.kits_geometry(SHAPE, SPACING)
    )
    assert name in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    like = volume.kits_geometry(SHAPE, SPACING)
    volume.write_label(tmp_path / "mask.nii.gz", _labels(), like)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full_disk)
    message = _refusal(volume.write_label, tmp_path / "mask.nii.gz", 0 * _labels(), like)
    assert "No space left on device" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]
    np.testing.assert_array_equal(volume.read_label(tmp_path / "mask.nii.gz").array, _labels())


def test_arrays_that_are_no_labels_or_do_not_fit_are_the_programs_mistake(tmp_path):
    like = volume.kits_geometry(SHAPE, SPACING)
    for wrong in (_labels() / 3, _labels().astype(int) - 1, _labels().astype(int) + 253):
        with pytest.raises(ValueError, match="labels must be integers"):
            volume.write_label(tmp_path / "mask.nii.gz", wrong, like)
    with pytest.raises(ValueError, match="does not fit"):
        volume.write_label(tmp_path / "mask.nii.gz", _labels()[1:], like)
