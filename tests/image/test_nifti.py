"""NIfTI in and out: every type and scaling, one-line refusals, nothing half written."""

import gzip
import tracemalloc

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

from kitsjax.image import read_nifti as volume
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.write_nifti import write_label, write_volume


def test_what_describes_the_images_values_is_not_copied_to_its_mask(tmp_path):
    image = nib.Nifti1Image(house_array(), AFFINE)
    image.header["descrip"] = b"Doe^Jane"
    image.header["cal_max"] = 300
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "image.nii.gz")
    like = read_grid(tmp_path / "image.nii.gz").header
    write_label(tmp_path / "mask.nii.gz", label_array(), like)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert (mask.header["descrip"], mask.header["cal_max"]) == (b"", 0)
    assert (mask.dataobj.slope, mask.dataobj.inter) == (1, 0)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64", ">i2"]
)
def test_every_real_type_is_read_as_float32(tmp_path, dtype):
    body = np.abs(house_array()).astype(np.uint8).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(body.dtype.newbyteorder("="))
    nib.save(nib.Nifti1Image(body, AFFINE, header), tmp_path / "image.nii.gz")
    read = read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(read.array, body.astype(np.float32))
    write_label(tmp_path / "mask.nii.gz", label_array(), read.header)
    assert nib.load(tmp_path / "mask.nii.gz").affine.tobytes() == AFFINE.tobytes()


def test_slope_and_intercept_are_applied_to_images_and_labels(tmp_path):
    image = nib.Nifti1Image(house_array(dtype=np.int16), AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    # nibabel would choose a slope of its own from the data: write the stored integers as they are.
    _write_stored(tmp_path / "image.nii", image)
    expected = house_array().astype(np.float64) * 0.5 - 1024
    np.testing.assert_array_equal(read_volume(tmp_path / "image.nii").array, expected)

    # 49 times the float32 nearest to 1 / 49 is a little less than 1, for 60 it is a little more.
    for factor in (49, 60):
        scaled = nib.Nifti1Image(label_array() * np.uint8(factor), AFFINE)
        scaled.header.set_slope_inter(1 / factor, 0)
        _write_stored(tmp_path / "label.nii", scaled)
        np.testing.assert_array_equal(read_label(tmp_path / "label.nii").array, label_array())


def _write_stored(path, image):
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F"))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint16", "float32", "float64"])
def test_labels_of_any_type_become_uint8(tmp_path, dtype):
    path = save(tmp_path / "label.nii.gz", label_array().astype(dtype))
    read = read_label(path)
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(read.array, label_array())


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
    labels = label_array().astype(dtype)
    labels[2, 3, 4] = labels[4, 0, 0] = bad
    path = save(tmp_path / "label.nii.gz", labels)
    message = refusal(read_label, path)
    assert f"label values {shown} are not among 0, 1, 2, 3" in message
    assert str(path) in message


def test_the_allowed_labels_are_the_callers(tmp_path):
    path = save(tmp_path / "label.nii.gz", label_array())
    assert "label values 3 are" in refusal(read_label, path, labels=(0, 1, 2))
    assert "1, 2, 3 are not among 0;" in refusal(read_label, path, labels=(0,))
    many = save(tmp_path / "image.nii.gz", np.abs(house_array()))
    assert " more are not among" in refusal(read_label, many)


def test_probabilities_are_written_with_classes_last(tmp_path):
    stored, affine = stored_as("RAS", house_array())
    like = read_grid(save(tmp_path / "image.nii.gz", stored, affine)).header
    probabilities = np.random.default_rng(2).random((*SHAPE, 4)).astype(np.float32)
    write_volume(tmp_path / "p.nii.gz", probabilities, like)
    written = nib.load(tmp_path / "p.nii.gz")
    assert written.shape == (*stored.shape, 4)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj)[..., 2], stored_as("RAS", probabilities[..., 2])[0]
    )
    write_volume(tmp_path / "hu.nii.gz", house_array(), like, np.int16)
    np.testing.assert_array_equal(nib.load(tmp_path / "hu.nii.gz").dataobj, stored)


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    body = house_array(dtype=np.float32)
    body[0, 0, 0], body[1, 2, 3], body[4, 5, 6] = np.nan, np.inf, -np.inf
    message = refusal(read_volume, save(tmp_path / "image.nii.gz", body))
    assert "3 of 210 voxels are NaN or infinite" in message


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7, 2), (5, 6, 7, 1, 3), (5, 0, 7)])
def test_other_shapes_are_refused(tmp_path, shape):
    path = save(tmp_path / "image.nii", np.zeros(shape, np.int16))
    message = refusal(read_volume, path)
    assert f"{shape}" in message
    assert str(path) in message


def test_complex_and_colored_voxels_are_refused(tmp_path):
    path = save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.complex64))
    assert "voxels are complex64" in refusal(read_volume, path)
    rgb = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = save(tmp_path / "rgb.nii.gz", rgb)
    assert "voxels are RGB" in refusal(read_label, path)


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
    whole = save(tmp_path / "whole.nii.gz", body).read_bytes()
    path = tmp_path / "image.nii.gz"
    expected = damage(path, whole)
    for read in (read_volume, read_label):
        message = refusal(read, path)
        assert expected in message
        assert message.startswith(f"{path}: ")
    assert not caplog.records


@pytest.mark.parametrize("name", ["file/mask.nii.gz", "mask.png", "folder.nii.gz"])
def test_unwritable_places_are_refused_and_leave_nothing(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    before = sorted(tmp_path.rglob("*"))
    message = refusal(write_label, tmp_path / name, label_array(), kits_header(SHAPE, SPACING_MM))
    assert name in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    like = kits_header(SHAPE, SPACING_MM)
    write_label(tmp_path / "mask.nii.gz", label_array(), like)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full_disk)
    message = refusal(write_label, tmp_path / "mask.nii.gz", 0 * label_array(), like)
    assert "No space left on device" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, label_array())


def test_arrays_that_are_no_labels_or_do_not_fit_are_the_programs_mistake(tmp_path):
    like = kits_header(SHAPE, SPACING_MM)
    for wrong in (
        label_array() / 3,
        label_array().astype(int) - 1,
        label_array().astype(int) + 253,
    ):
        with pytest.raises(ValueError, match="labels must be integers"):
            write_label(tmp_path / "mask.nii.gz", wrong, like)
    with pytest.raises(ValueError, match="does not fit"):
        write_label(tmp_path / "mask.nii.gz", label_array()[1:], like)


@pytest.mark.parametrize("codes", ["IPL", "RAS", "LPS", "AIR", "SLP"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_pieces_make_the_whole(tmp_path, monkeypatch, codes, suffix):
    monkeypatch.setattr(volume, "_PIECE_BYTES", 3 * 5 * 7 * 2)
    array, affine = stored_as(codes, house_array())
    path = save(tmp_path / f"image{suffix}", array, affine)
    np.testing.assert_array_equal(read_volume(path).array, house_array())


def test_a_label_stored_as_float64_takes_a_fraction_of_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "_PIECE_BYTES", 2**18)
    label = np.zeros((40, 200, 200), np.uint8)
    label[10:20, 50:90, 60:80] = 2
    save(tmp_path / "label.nii.gz", label.astype(np.float64))
    tracemalloc.start()
    try:
        read = read_label(tmp_path / "label.nii.gz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(read.array, label)
    assert peak < 3 * label.nbytes, "as float64 it would be eight times as much"


def test_a_header_that_claims_more_than_memory_is_one_line(tmp_path):
    path = save(tmp_path / "image.nii", house_array())
    header = bytearray(path.read_bytes())
    header[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(header)
    assert "header claims" in refusal(read_volume, path)
