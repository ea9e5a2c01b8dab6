"""Reading NIfTI: every type, scaling and storage, and refusals in one line."""

import gzip
import pickle
import tracemalloc

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

from kitsjax.image import read_nifti, stored_voxels
from kitsjax.image.header import NiftiHeader
from kitsjax.image.read_nifti import check_whole, read_grid, read_label, read_volume
from kitsjax.image.write_nifti import write_label


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64", ">i2"]
)
def test_every_real_type_is_read_as_float32(tmp_path, dtype):
    body = np.abs(canonical_array()).astype(np.uint8).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(body.dtype.newbyteorder("="))
    nib.save(nib.Nifti1Image(body, AFFINE, header), tmp_path / "image.nii.gz")
    read = read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(read.array, body.astype(np.float32))
    write_label(tmp_path / "mask.nii.gz", label_array(), read.header)
    assert nib.load(tmp_path / "mask.nii.gz").affine.tobytes() == AFFINE.tobytes()


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(canonical_array(dtype=np.int16), AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    # nibabel would choose a slope of its own from the data: write the stored integers as they are.
    _write_stored(tmp_path / "image.nii", image)
    expected = canonical_array().astype(np.float64) * 0.5 - 1024
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


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_no_label_value_overflows(tmp_path, dtype):
    """The lowest and highest values of a type, and those that wrap around to labels, are named."""
    info = np.iinfo(dtype)
    wrapping = [256 + 1, -255, info.max - 254, info.min + 1, info.min + 256, info.min, info.max]
    for bad in {value for value in wrapping if info.min <= value <= info.max} - {0, 1}:
        labels = label_array().astype(dtype)
        labels[1, 1, 1] = bad
        for inter in (0, 1):
            path = _save_scaled(tmp_path / "label.nii", labels, 1, inter)
            message = refusal(read_label, path, labels=range(5))
            assert f"label values {float(bad + inter):.7g} are not among" in message


def _save_scaled(path, stored, slope, inter=0.0):
    """Write stored integers under a slope and an intercept, as they are."""
    image = nib.Nifti1Image(stored, AFFINE, dtype=stored.dtype)
    image.header.set_slope_inter(slope, inter)
    _write_stored(path, image)
    return path


def test_labels_under_an_old_header_are_read(tmp_path):
    """nibabel scales floats to the range of an old integer type: of 0, 1, 2 the 1 is 0.996."""
    labels = np.minimum(label_array(), 2)
    save(tmp_path / "old.nii.gz", labels)
    old = nib.load(tmp_path / "old.nii.gz")
    nib.save(nib.Nifti1Image(old.get_fdata(), old.affine, old.header), tmp_path / "new.nii.gz")
    assert 0.996 in np.round(nib.load(tmp_path / "new.nii.gz").get_fdata(), 3)
    np.testing.assert_array_equal(read_label(tmp_path / "new.nii.gz").array, labels)


@pytest.mark.parametrize("slope", [2 / 255, -3 / 200, 0.3, 0.9])
def test_labels_within_half_the_slope_are_read(tmp_path, slope):
    """Any multiple of the slope that is nearest to a label is that label."""
    stored = np.rint(label_array() / slope).astype(np.int16)
    path = _save_scaled(tmp_path / "label.nii", stored, slope)
    np.testing.assert_array_equal(read_label(path).array, label_array())


@pytest.mark.parametrize(
    ("slope", "inter", "stored", "shown"),
    [
        (2 / 255, 0, 126, "0.9882354"),  # one step of the slope too low
        (0.3, 0, 8, "2.4"),
        (1, 0.5, 1, "1.5"),  # a slope of one or more rounds no label
        (2, 0, 2, "4"),
    ],
)
def test_labels_beyond_half_the_slope_are_refused(tmp_path, slope, inter, stored, shown):
    labels = np.full(SHAPE, stored, np.uint8)
    message = refusal(read_label, _save_scaled(tmp_path / "label.nii", labels, slope, inter))
    assert f"label values {shown} are not among 0, 1, 2, 3 within " in message
    assert f"the file is scaled: scl_slope {slope:g}, scl_inter {inter:g}" in message


def test_callers_choose_the_allowed_labels(tmp_path):
    path = save(tmp_path / "label.nii.gz", label_array())
    assert "label values 3 are" in refusal(read_label, path, labels=(0, 1, 2))
    assert "1, 2, 3 are not among 0;" in refusal(read_label, path, labels=(0,))
    many = save(tmp_path / "image.nii.gz", np.abs(canonical_array()))
    assert " more are not among" in refusal(read_label, many)


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    body = canonical_array(dtype=np.float32)
    body[0, 0, 0], body[1, 2, 3], body[4, 5, 6] = np.nan, np.inf, -np.inf
    message = refusal(read_volume, save(tmp_path / "image.nii.gz", body))
    assert "3 of 210 voxels are NaN or infinite" in message


@pytest.mark.parametrize("code", [0, 4, 7, 63, 64, 255])
def test_units_that_are_unknown_are_mm(tmp_path, code):
    path = save(tmp_path / "image.nii", canonical_array())
    content = bytearray(path.read_bytes())
    content[123] = code
    path.write_bytes(content)
    assert read_volume(path).spacing_mm == SPACING_MM


def test_units_other_than_mm_are_converted(tmp_path):
    meters = np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE
    read = read_volume(save(tmp_path / "image.nii.gz", canonical_array(), meters, units="meter"))
    assert read.spacing_mm == pytest.approx(SPACING_MM)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)


def test_read_grid_gives_the_grid_of_the_volume(tmp_path):
    stored, affine = stored_as("ASR", canonical_array())
    path = save(tmp_path / "image.nii.gz", stored, affine)
    read, grid = read_volume(path), read_grid(path)
    assert (grid.shape, grid.spacing_mm) == (read.shape, read.spacing_mm)
    assert grid.affine.tobytes() == read.affine.tobytes()
    assert grid.header == read.header == pickle.loads(pickle.dumps(read.header))
    assert grid.header == NiftiHeader(bytes.fromhex(read.header.binaryblock.hex()))


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7, 2), (5, 6, 7, 1, 3), (5, 0, 7)])
def test_other_shapes_are_refused(tmp_path, shape):
    path = save(tmp_path / "image.nii", np.zeros(shape, np.int16))
    message = refusal(read_volume, path)
    assert f"{shape}" in message
    assert str(path) in message


def test_a_guessed_orientation_is_noted(tmp_path, caplog):
    """Codes of 0 in qform and sform: nibabel's reading is kept, and one note says which it is."""
    path = save(tmp_path / "bare.nii", canonical_array(), qform=0, sform=0)
    volume = read_volume(path)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{path}: does not say how the patient lies")
    assert "assumed to point to LAS" in message
    np.testing.assert_allclose(volume.header.affine, nib.load(path).affine)
    label = save(tmp_path / "label.nii", label_array(), qform=0, sform=0)
    assert (read_grid(label), read_label(label), len(caplog.records))[2] == 2
    read_volume(save(tmp_path / "image.nii", canonical_array(), qform=1, sform=0))
    assert len(caplog.records) == 2


def test_a_tilted_gantry_is_noted(tmp_path, caplog):
    tilted = AFFINE.copy()
    tilted[2, 1] = 0.75 * np.tan(np.radians(18.5))
    read_volume(save(tmp_path / "tilted.nii", canonical_array(), tilted))
    (record,) = caplog.records
    assert "tilted.nii: its axes are 18.5 degrees off perpendicular" in record.getMessage()
    read_label(save(tmp_path / "tilted.nii", label_array(), tilted))
    assert len(caplog.records) == 1


def test_complex_and_rgb_voxels_are_refused(tmp_path):
    path = save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.complex64))
    assert "voxels are complex64" in refusal(read_volume, path)
    rgb = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = save(tmp_path / "rgb.nii.gz", rgb)
    assert "voxels are RGB" in refusal(read_label, path)


def _zero_the_middle(content):
    middle = len(content) // 2
    return content[:middle] + bytes(40) + content[middle + 40 :]


UNREADABLE, DAMAGED = "not a readable NIfTI file", "damaged or cut short"

# The content of a bad file, made from that of an intact one, and what the message says.
BAD_CONTENT = {
    "text": (lambda intact: b"patient 21: not an image\n" * 40, UNREADABLE),
    "empty": (lambda intact: b"", UNREADABLE),
    "compressed text": (lambda intact: gzip.compress(b"not an image" * 100), UNREADABLE),
    "header cut short": (lambda intact: intact[:60], UNREADABLE),
    "data cut short": (lambda intact: intact[: len(intact) // 2], DAMAGED),
    "no checksum": (lambda intact: intact[:-8], DAMAGED),
    "bytes zeroed": (_zero_the_middle, DAMAGED),
    "too few voxels": (lambda intact: gzip.compress(gzip.decompress(intact)[:-10]), DAMAGED),
}


@pytest.mark.parametrize("kind", BAD_CONTENT)
def test_bad_files_are_refused_in_one_line(tmp_path, caplog, kind):
    body = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 30)).astype(np.int16)
    intact = save(tmp_path / "intact.nii.gz", body).read_bytes()
    change, expected = BAD_CONTENT[kind]
    path = tmp_path / "image.nii.gz"
    path.write_bytes(change(intact))
    _check_refusals(path, expected)
    assert not caplog.records


@pytest.mark.parametrize(("name", "expected"), [("none", "no such file"), ("", "is a folder")])
def test_missing_files_and_folders_are_refused(tmp_path, caplog, name, expected):
    (tmp_path / "image.nii.gz").mkdir()
    _check_refusals(tmp_path / "image.nii.gz" / name, expected)
    assert not caplog.records


def _check_refusals(path, expected):
    for read in (read_volume, read_label):
        message = refusal(read, path)
        assert expected in message
        assert message.startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_larger_than_the_file_is_refused(tmp_path, monkeypatch, suffix):
    """It is refused before memory is asked for."""
    path = save(tmp_path / "image.nii", canonical_array())
    header = bytearray(path.read_bytes())
    header[42:48] = np.array([32767] * 3, "<i2").tobytes()
    claiming = tmp_path / f"claiming{suffix}"
    claiming.write_bytes(gzip.compress(header) if suffix == ".nii.gz" else header)
    monkeypatch.setattr(np, "empty", None)
    for read in (read_volume, read_label):
        assert "header claims (32767, 32767, 32767) voxels" in refusal(read, claiming)


@pytest.mark.parametrize("codes", ["IPL", "RAS", "LPS", "AIR", "SLP"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_chunks_make_the_whole_volume(tmp_path, monkeypatch, codes, suffix):
    monkeypatch.setattr(stored_voxels, "_CHUNK_BYTES", 3 * 5 * 7 * 2)
    array, affine = stored_as(codes, canonical_array())
    path = save(tmp_path / f"image{suffix}", array, affine)
    np.testing.assert_array_equal(read_volume(path).array, canonical_array())


def test_a_float64_label_is_read_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_voxels, "_CHUNK_BYTES", 2**18)
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


def test_voxels_above_a_meter_are_refused(tmp_path):
    affine = np.diag([2.0, 2.0, 1e30, 1.0])
    message = refusal(read_volume, save(tmp_path / "image.nii.gz", canonical_array(), affine))
    assert "voxel size 1e+30, 2, 2 mm (z, y, x) is above 1000 mm" in message


@pytest.mark.parametrize(("slope", "inter"), [(1e38, 0), (1, 3e38)])
def test_a_scaling_to_infinity_is_named(tmp_path, slope, inter):
    stored = np.full(SHAPE, 30000, np.int16)
    path = _save_scaled(tmp_path / "image.nii", stored, slope, inter)
    if inter:
        assert read_volume(path).array.max() > 1e38
        return
    message = refusal(read_volume, path)
    assert f"scl_slope {slope:g} and scl_inter 0 make its integers infinite" in message


@pytest.mark.parametrize("slope", [1 / 65535, 1e-4, 1e-30])
def test_a_small_slope_does_not_merge_values(tmp_path, slope):
    """Labels that were stored as 0 to 3 under such a slope are nearly 0, and not background."""
    path = _save_scaled(tmp_path / "label.nii", label_array(), slope)
    assert "are not among 0, 1, 2, 3 within" in refusal(read_label, path)
    right = np.rint(label_array() / max(slope, 1e-6)).astype(np.int32)
    path = _save_scaled(tmp_path / "label.nii", right, max(slope, 1e-6))
    np.testing.assert_array_equal(read_label(path).array, label_array())


def test_scaled_integers_are_off_by_no_more(tmp_path):
    """What a float's writer may have left, 0.001, no slope explains."""
    path = _save_scaled(tmp_path / "label.nii", label_array(), 1, 0.0005)
    assert "are not among" in refusal(read_label, path)
    path = save(tmp_path / "label.nii.gz", label_array() + np.float32(0.0005))
    np.testing.assert_array_equal(read_label(path).array, label_array())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, 400, -30, -1])
def test_a_cut_file_is_not_whole(tmp_path, suffix, kept):
    """Every byte counts, to the last of gzip's checksum."""
    path = save(tmp_path / f"image{suffix}", canonical_array())
    check_whole(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(lambda: check_whole(path)).startswith(f"{path}: ")


def test_a_file_is_checked_in_chunks(tmp_path, monkeypatch):
    """The whole file is read, and never allocated whole."""
    monkeypatch.setattr(stored_voxels, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(read_nifti, "_allocate", None)
    check_whole(save(tmp_path / "image.nii.gz", canonical_array()))
