"""DICOM series read as volumes: right, or refused by name."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import (
    HEAD_FIRST_SUPINE,
    SHAPE,
    STEP_MM,
    affine,
    positions,
    random_hu,
    write_enhanced,
    write_series,
)
from nifti_files import refusal
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from kitsjax import read_volume

REAL = Path(__file__).parents[3] / "shared" / "data" / "dicom_series"

ORIENTATIONS = {
    "head first supine": HEAD_FIRST_SUPINE,
    "prone": (-1, 0, 0, 0, -1, 0),
    "decubitus": (0, 1, 0, -1, 0, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0, -0.6, 0.8, 0),
}
"""Directions of rows and columns in LPS+. Feet first is how the patient lay in the scanner: the
positions are the patient's own, and the files only come in the other order."""


def as_nifti(array, matrix, path):
    """The same HU (slices, rows, columns) as NIfTI, by nibabel."""
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), matrix), path)
    return read_volume(path)


def check_equal(volume, other):
    np.testing.assert_array_equal(volume.array, other.array)
    np.testing.assert_allclose(volume.affine, other.affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, other.spacing_mm, rtol=1e-5)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_a_series_is_what_its_nifti_is(tmp_path, name, position):
    array, orientation = random_hu(), ORIENTATIONS[name]
    order = [3, 1, 0, 5, 2, 4] if position == "HFS" else range(5, -1, -1)
    write_series(
        tmp_path / "ct", array, orientation=orientation, order=order, PatientPosition=position
    )
    expected = as_nifti(array, affine(orientation), tmp_path / "ct.nii")
    check_equal(read_volume(tmp_path / "ct"), expected)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_simpleitk_reads_the_same(tmp_path, name):
    sitk = pytest.importorskip("SimpleITK")
    write_series(tmp_path / "ct", orientation=ORIENTATIONS[name], order=[3, 1, 0, 5, 2, 4])
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct"))
    sitk.WriteImage(sitk.ReadImage(files), tmp_path / "itk.nii.gz")
    check_equal(read_volume(tmp_path / "ct"), read_volume(tmp_path / "itk.nii.gz"))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real series, which is not distributed")
def test_a_real_series_with_blank_uids(tmp_path, caplog):
    """JPEG 2000, and blank UIDs of study, series and SOP class."""
    sitk = pytest.importorskip("SimpleITK")
    volume = read_volume(REAL)
    files = sorted(map(str, REAL.glob("*.dcm")), reverse=True)
    sitk.WriteImage(sitk.ReadImage(files), tmp_path / "itk.nii.gz")
    check_equal(volume, read_volume(tmp_path / "itk.nii.gz"))
    # Beside the slices lies their license.
    assert caplog.messages == [f"{REAL}: passed over 1 file: no DICOM there"]


def test_each_slice_has_its_own_scaling(tmp_path):
    array = 4 * (random_hu() // 8)
    scaling = [(1, -1024), (2, 0), (0.5, -1024), (4, 8), (1, 0), (-1, 100)]
    write_series(tmp_path / "ct", array, scaling=scaling)
    expected = as_nifti(array, affine(), tmp_path / "ct.nii")
    check_equal(read_volume(tmp_path / "ct"), expected)
    write_enhanced(tmp_path / "enhanced", array, scalings=scaling)
    check_equal(read_volume(tmp_path / "enhanced"), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_pixels_are_read(tmp_path, syntax):
    # The encoder of JPEG 2000 takes no smaller images.
    array = random_hu((2, 40, 48))
    write_series(tmp_path / "plain", array)
    write_series(tmp_path / "packed", array, syntax=syntax)
    check_equal(read_volume(tmp_path / "packed"), read_volume(tmp_path / "plain"))


def test_jpeg_lossless_is_read(tmp_path):
    """The most common compression of scanners, which only GDCM's decoder reads here."""
    gdcm = pytest.importorskip("gdcm")
    for path in write_series(tmp_path / "ct"):
        reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    write_series(tmp_path / "plain")
    check_equal(read_volume(tmp_path / "ct"), read_volume(tmp_path / "plain"))


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    write_series(tmp_path / "ct", syntax=JPEGLSLossless)
    monkeypatch.setattr(get_decoder(JPEGLSLossless), "_available", {})
    assert refusal(read_volume, tmp_path / "ct") == (
        f"{tmp_path / 'ct'}: series 2: IM0000 is compressed (JPEG-LS Lossless Image Compression), "
        "and no decoder is installed; install what reads it: python -m pip install 'kitsjax[dicom]'"
    )


def test_a_file_of_many_frames(tmp_path):
    array = random_hu()
    expected = as_nifti(array, affine(), tmp_path / "ct.nii")
    path = write_enhanced(tmp_path / "in" / "ct.dcm", array, order=[3, 1, 0, 5, 2, 4])
    check_equal(read_volume(path), expected)
    check_equal(read_volume(path.parent), expected)


def test_doubled_slices(tmp_path, caplog):
    """A slice that is there twice counts once; two phases in one series are refused."""
    array = random_hu()
    paths = write_series(tmp_path / "ct", array)
    expected = read_volume(tmp_path / "ct")
    copy = tmp_path / "ct" / "copy"
    copy.write_bytes(paths[2].read_bytes())
    check_equal(read_volume(tmp_path / "ct"), expected)
    assert caplog.messages == [
        f"{tmp_path / 'ct'}: series 2: 1 image is there twice, with equal pixels"
    ]
    dataset = dcmread(copy)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(copy)
    message = refusal(read_volume, tmp_path / "ct")
    assert "IM0002 and copy lie at one place with different pixels" in message


def without(*indices):
    return [i for i in range(8) if i not in indices]


STACKS = {
    "one missing": (positions(8)[without(3)], "1 slice is missing: slices lie 3 mm apart, but"),
    "two missing": (positions(8)[without(2, 5)], "2 slices are missing"),
    "uneven": (positions(6) + np.outer([0, 0, 0, 1, 2, 4], [0, 0, 1]), "not evenly spaced (3 to 5"),
    "sideways": (positions(6) + np.outer([0, 0, 3, 0, 0, 0], [1, 0, 0]), "sideways unevenly"),
    "one place": (positions(1), "lie at one place; give the whole series"),
}


@pytest.mark.parametrize("name", STACKS)
def test_what_is_no_volume_is_named(tmp_path, name):
    places, message = STACKS[name]
    write_series(tmp_path / "ct", random_hu((len(places), 10, 12)), places=places)
    assert message in refusal(read_volume, tmp_path / "ct")


def test_rounded_positions_are_even(tmp_path):
    """Scanners round: what is within a tenth of the distance is even."""
    array, places = random_hu(), positions()
    write_series(
        tmp_path / "ct", array, places=places + np.outer([0, 2, -2, 1, -1, 0], [0, 0, 0.1])
    )
    check_equal(read_volume(tmp_path / "ct"), as_nifti(array, affine(), tmp_path / "ct.nii"))


DIFFERENT = {
    "orientations": {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
    "pixel spacings": {"PixelSpacing": [0.75, 0.75]},
    "shapes": {"Rows": 5, "PixelData": bytes(120)},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_mixed_images_are_refused(tmp_path, what):
    paths = write_series(tmp_path / "ct")
    change(paths[-1], **DIFFERENT[what])
    message = refusal(read_volume, tmp_path / "ct")
    assert f"its images have several {what} (5 of 6 are like the first)" in message


def change(path, **attributes):
    dataset = dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


LEFT_OUT = {
    "localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "not in gray values": {"PhotometricInterpretation": "RGB"},
    "without usable position, orientation, pixel spacing or scaling": {"PixelSpacing": None},
}


@pytest.mark.parametrize("problem", LEFT_OUT)
def test_images_of_no_volume_are_left_out(tmp_path, caplog, problem):
    """A topogram, or a report as a picture, among the slices of a series."""
    expected = as_nifti(random_hu()[:-1], affine(), tmp_path / "ct.nii")
    paths = write_series(tmp_path / "ct")
    change(paths[-1], **LEFT_OUT[problem])
    check_equal(read_volume(tmp_path / "ct"), expected)
    assert caplog.messages == [f"{tmp_path / 'ct'}: series 2: left out 1 of 6 files: {problem}"]


UNREADABLE = {
    "MR, not CT": {"Modality": "MR"},
    "localizer": {"ImageType": ["DERIVED", "SECONDARY", "LOCALIZER"]},
    "without usable": {"RescaleSlope": None},
    "without usable position": {"RescaleType": "Z_EFF"},
    "not in gray values": {"PhotometricInterpretation": "MONOCHROME1"},
}


@pytest.mark.parametrize("problem", UNREADABLE)
def test_series_without_hu_are_refused(tmp_path, problem):
    write_series(tmp_path / "ct", **UNREADABLE[problem])
    assert f"series 2: its images are {problem}" in refusal(read_volume, tmp_path / "ct")


def test_damaged_files_are_named(tmp_path, caplog):
    paths = write_series(tmp_path / "ct", syntax=JPEGLSLossless)
    paths[-1].write_bytes(paths[-1].read_bytes()[:300])
    read_volume(tmp_path / "ct")
    assert caplog.messages == [f"{tmp_path / 'ct'}: 1 of 6 DICOM files cannot be read"]
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[:-60])
    assert "IM0002: its pixels cannot be read (" in refusal(read_volume, tmp_path / "ct")
    for path in paths:
        path.write_bytes(content[:200])
    message = refusal(read_volume, tmp_path / "ct")
    assert "no images in its 6 DICOM files; 6 cannot be read; get them again" in message


@pytest.mark.parametrize("shift_mm", [(0.0, 1.1), (0.0, -0.7), (0.6, 0.4)])
def test_a_tilted_series_is_straightened(tmp_path, caplog, shift_mm):
    """No voxel moves by more than half a pixel, and none is lost."""
    array, places = random_hu((6, 30, 32)), positions(shift_mm=shift_mm)
    write_series(tmp_path / "ct", array, places=places)
    volume = read_volume(tmp_path / "ct")
    assert volume.grid.tilt_deg < 0.01
    assert volume.spacing_mm == pytest.approx((STEP_MM, 0.75, 0.5))
    tilt = np.degrees(np.arctan(np.hypot(*shift_mm) / STEP_MM))
    (message,) = caplog.messages
    assert f"tilted by {tilt:.3g} degrees" in message
    along, down = np.reshape(HEAD_FIRST_SUPINE, (2, 3))
    for hu, place in zip(array, places, strict=True):
        for row, column in ((0, 0), (29, 31), (13, 7)):
            world = (place + along * column * 0.5 + down * row * 0.75) * [-1, -1, 1]
            index = np.linalg.inv(volume.affine) @ [*world, 1]
            nearest = np.rint(index[:3] + 1e-6).astype(int)
            off_mm = (volume.affine @ [*nearest, 1])[:3] - world
            assert (np.abs(off_mm) < [0.251, 0.376, 1e-3]).all()
            near = [nearest + np.array([0, dy, dx]) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            inside = [i for i in near if (i >= 0).all() and (i < volume.shape).all()]
            found = [volume.array[tuple(i)] for i in inside]
            assert hu[row, column] in found
    covered = np.sort(volume.array[volume.array != -1024])
    np.testing.assert_array_equal(covered, np.sort(array, axis=None))


def test_a_barely_tilted_series_stays(tmp_path):
    """Axes within a tenth of a degree are perpendicular; the affine has the tilt."""
    array, places = random_hu(), positions(shift_mm=(0.0, 0.004))
    write_series(tmp_path / "ct", array, places=places)
    volume = read_volume(tmp_path / "ct")
    assert volume.shape == SHAPE
    matrix = affine(step=places[1] - places[0])
    check_equal(volume, as_nifti(array, matrix, tmp_path / "ct.nii"))
