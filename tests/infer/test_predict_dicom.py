"""The same CT as DICOM and as NIfTI gives the same mask, voxel for voxel in the patient."""

import gzip
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import SPACING_MM, positions, random_hu, write_series
from nifti_files import refusal
from pydicom import dcmread
from threshold_model import bright_cube, threshold_model

from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import check_same_grid
from kitsjax.infer import predict_files as predict_files_module
from kitsjax.infer.current_masks import mask_key
from kitsjax.infer.find_inputs import find_inputs
from kitsjax.infer.predict_files import predict_files
from kitsjax.phantom.case import make_case

ROOT = Path(__file__).parents[2]

ORIENTATIONS = {
    "head first supine": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "oblique": (0.8, 0.6, 0, -0.6, 0.8, 0),
}


@pytest.fixture(scope="module")
def phantom_hu():
    """A phantom's CT as slices from foot to head, whose rows go back and columns left."""
    return np.rint(make_case(0, 0, 64).image[::-1]).astype(np.int16)


def predict(source, folder, **options):
    """Predict one CT; return its mask."""
    ((series, mask),) = find_inputs(source, folder, dicom_seg=options.get("dicom_seg", False))
    assert predict_files(threshold_model(), [(series, mask)], **options) == []
    return read_label(mask)


def as_simpleitk(dicom, folder):
    sitk = pytest.importorskip("SimpleITK")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(dicom))
    sitk.WriteImage(sitk.ReadImage(files), folder / "ct.nii.gz")


def as_dcm2niix(dicom, folder):
    program = shutil.which("dcm2niix")
    if program is None:
        pytest.skip("needs dcm2niix")
    command = [program, "-z", "y", "-f", "ct", "-o", folder, dicom]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("converter", [as_simpleitk, as_dcm2niix])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_masks_of_dicom_and_nifti_are_equal(tmp_path, phantom_hu, name, converter):
    dicom, folder = tmp_path / "dicom", tmp_path / "nifti"
    folder.mkdir()
    order = np.random.default_rng(0).permutation(len(phantom_hu))
    write_series(dicom, phantom_hu, orientation=ORIENTATIONS[name], order=order)
    converter(dicom, folder)
    mask, expected = predict(dicom, tmp_path / "out"), predict(folder, tmp_path / "out2")
    assert 100 < np.count_nonzero(mask.array) < mask.array.size / 2
    check_same_grid(mask.grid, expected.grid)
    np.testing.assert_array_equal(mask.array, expected.array)


@pytest.mark.parametrize("shift_mm", [0.0, 1.0, -0.8])
def test_a_sphere_is_found_in_its_place(tmp_path, shift_mm):
    """Also where the gantry was tilted: a sphere in the patient stays one."""
    center, radius = np.array([-31.0, 45.0, -278.0]), 9.0
    places = positions(16, shift_mm=(0.0, shift_mm))
    rows, columns = np.mgrid[:56, :40]
    pixel = np.stack([columns * SPACING_MM[1], rows * SPACING_MM[0], 0 * rows], axis=-1)
    far = np.linalg.norm(pixel[None] + places[:, None, None] - center, axis=-1)
    write_series(tmp_path / "ct", np.where(far < radius, 1000, 0).astype(np.int16), places=places)
    mask = predict(tmp_path / "ct", tmp_path / "out")
    world = np.argwhere(mask.array == 2) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    np.testing.assert_allclose(world.mean(0) * [-1, -1, 1], center, atol=0.4)
    # The voxels of a ball of radius r vary by r / sqrt(5) along each axis.
    np.testing.assert_allclose(world.std(0), radius / 5**0.5, rtol=0.1)
    products = np.corrcoef(world.T)[np.triu_indices(3, 1)]
    assert np.abs(products).max() < 0.08


@pytest.fixture
def studies(tmp_path):
    """Two patients with a bright cube each, and one with a slice missing."""
    cube = bright_cube().astype(np.int16)
    for name in ("a", "b", "c"):
        folder = tmp_path / "in" / name
        write_series(folder, cube, uid=name, StudyInstanceUID=f"1.2.{ord(name)}")
    (tmp_path / "in" / "b" / "IM0007").unlink()
    return tmp_path / "in"


def test_a_bad_series_does_not_stop_others(studies, tmp_path):
    out = tmp_path / "out"
    files = find_inputs(studies, out, dicom_seg=True)
    assert [mask.name for _, mask in files] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    failures = predict_files(threshold_model(), files, dicom_seg=True, probabilities=True)
    ((series, message),) = failures
    assert message.startswith(f"{studies / 'b'}: series 2: 1 slice is missing")
    assert str(series) == f"{studies / 'b'}: series 2"
    assert sorted(path.name for path in out.iterdir()) == [
        "a.nii.gz", "a.seg.dcm", "a_probabilities.nii.gz",
        "c.nii.gz", "c.seg.dcm", "c_probabilities.nii.gz",
    ]  # fmt: skip
    frames = dcmread(out / "a.seg.dcm").NumberOfFrames
    assert frames == np.any(read_label(out / "a.nii.gz").array == 2, axis=(1, 2)).sum()


def test_mixed_studies_do_not_stop_others(studies, tmp_path):
    """Nor does a folder of which no file can be read; each has a line, so the status is 2."""
    for path in (studies / "b").iterdir():
        path.write_bytes(path.read_bytes()[:150])
    for name in ("c", "d"):
        write_series(studies / "c", random_hu(), uid=name, StudyInstanceUID=f"1.2.{ord(name)}",
                     order=range(20, 26) if name == "d" else None)  # fmt: skip
    out = tmp_path / "out"
    files = find_inputs(studies, out, dicom_seg=True)
    failures = [line for _, line in predict_files(threshold_model(), files, dicom_seg=True)]
    assert [line.removeprefix(str(studies)).split(";")[0] for line in failures] == [
        "/c: holds CTs of 2 studies",
        ": folder 2 of 3 by name: 19 of 19 DICOM files cannot be read",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "a.seg.dcm"]


def test_continue_keeps_masks_of_dicom(studies, tmp_path, caplog):
    """The DICOM SEG of a kept mask is written if it is missing; a changed slice is seen."""
    files = find_inputs(studies / "a", tmp_path / "out")
    assert predict_files(threshold_model(), files) == []
    mask = files[0][1]
    before = mask.stat().st_ino
    assert predict_files(threshold_model(), files, keep_current=True, dicom_seg=True) == []
    assert mask.stat().st_ino == before
    assert "1 of 1 masks are whole and current" in caplog.messages[-1]
    assert (tmp_path / "out" / "a.seg.dcm").exists()
    path = studies / "a" / "IM0003"
    dataset = dcmread(path)
    dataset.RescaleIntercept = -1000
    dataset.save_as(path)
    assert predict_files(threshold_model(), files, keep_current=True) == []
    assert mask.stat().st_ino != before


def test_what_is_of_an_older_mask_is_told(studies, tmp_path, caplog):
    """Probabilities and DICOM SEG of another model stay, and a note names them."""
    files, out = find_inputs(studies / "a", tmp_path / "out"), tmp_path / "out"
    model, both = threshold_model(), {"probabilities": True, "dicom_seg": True}
    other = replace(model, params={"cut": model.params["cut"] + 1})
    assert predict_files(model, files, **both) == []
    # The same mask once more.
    assert predict_files(model, files) == []
    assert not [message for message in caplog.messages if "is not of the new" in message]
    assert predict_files(other, files) == []
    notes = [message for message in caplog.messages if "is not of the new" in message]
    assert notes == [
        f"{out / name}: is not of the new mask beside it; remove it, or predict with {option}"
        for name, option in (
            ("a_probabilities.nii.gz", "--probabilities"), ("a.seg.dcm", "--dicom-seg"),
        )
    ]  # fmt: skip
    caplog.clear()
    assert predict_files(other, files, **both) == []
    assert not [message for message in caplog.messages if "is not of the new" in message]


def test_continue_sees_another_series(tmp_path):
    """Though its files have the same names, sizes and times, as an archive leaves them."""
    for number in (1, 2):
        folder = tmp_path / "ct" / str(number)
        for path in write_series(folder, bright_cube().astype(np.int16), uid=str(number)):
            os.utime(path, (0, 0))
    keys = {
        mask_key("models", find_inputs(folder, tmp_path)[0][0])
        for folder in (tmp_path / "ct" / "1", tmp_path / "ct" / "2")
    }
    assert len(keys) == 2


def test_where_masks_of_dicom_cannot_go(studies, tmp_path):
    """Masks in the folder of the slices would be taken for CTs by the next prediction."""
    message = refusal(find_inputs, studies / "a", studies / "a")
    assert message.endswith("holds the DICOM files; choose another output folder")
    (tmp_path / "ct.nii.gz").touch()
    message = refusal(find_inputs, tmp_path / "ct.nii.gz", tmp_path / "out", dicom_seg=True)
    assert (
        message == f"{tmp_path / 'ct.nii.gz'}: is no DICOM series; predict it without --dicom-seg"
    )


def test_a_series_without_uids_fails_alone(studies, tmp_path, monkeypatch):
    """It fails before its prediction, since no DICOM SEG can refer to it."""
    dataset = dcmread(studies / "c" / "IM0003")
    dataset.FrameOfReferenceUID = ""
    dataset.save_as(studies / "c" / "IM0003")
    out, read = tmp_path / "out", []
    original = predict_files_module.read_volume
    monkeypatch.setattr(
        predict_files_module, "read_volume", lambda s: read.append(str(s.place)) or original(s)
    )
    files = find_inputs(studies, out, dicom_seg=True)
    failures = dict(predict_files(threshold_model(), files, dicom_seg=True))
    messages = {series.place: message for series, message in failures.items()}
    assert list(messages) == [str(studies / "b"), str(studies / "c")]
    lacking = f"{studies / 'c'}: series 2: its images lack FrameOfReferenceUID"
    assert messages[str(studies / "c")].startswith(lacking)
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "a.seg.dcm"]
    assert str(studies / "c") not in read
    # Without a DICOM SEG nothing refers to the UIDs.
    failures = predict_files(threshold_model(), find_inputs(studies, out))
    assert [series.place for series, _ in failures] == [str(studies / "b")]


def test_nifti_files_go_before_dicom(studies, tmp_path, caplog):
    (studies / "ct.nii.gz").touch()
    assert [source for source, _ in find_inputs(studies, tmp_path)] == [studies / "ct.nii.gz"]
    assert "passed over 3 files: a (a folder)" in caplog.messages[0]


@pytest.mark.slow
def test_the_command_tells_no_name(tmp_path):
    """Neither what it prints nor what it writes, but for the DICOM SEG, names the patient."""
    folder = tmp_path / "in" / "Muster_Erika"
    write_series(folder, random_hu((8, 24, 24)), SeriesDescription="Erika", StudyInstanceUID="1.1")
    write_series(folder, random_hu((9, 24, 24)), order=range(20, 29), uid="2", SeriesNumber=3,
                 StudyInstanceUID="1.1")  # fmt: skip
    write_series(tmp_path / "in" / "b", random_hu((3, 9, 9)), uid="3", StudyInstanceUID="1.3")
    (tmp_path / "in" / "b" / "IM0001").write_bytes(bytes(128) + b"DICM")
    command = [
        sys.executable, ROOT / "bin" / "predict.py", "--input", tmp_path / "in",
        "--model", ROOT / "notebooks" / "phantom.safetensors", "--output", tmp_path / "out",
        "--dicom-seg", "--series", "3",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    uid = dcmread(folder / "IM0020").StudyInstanceUID
    assert done.returncode == 2
    assert "1 of 2 masks are whole" in done.stdout
    assert f"{tmp_path / 'in' / uid}: took series 3 of 2, as asked" in done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{uid}.nii.gz", f"{uid}.seg.dcm"]
    mask = gzip.decompress((tmp_path / "out" / names[0]).read_bytes())
    told = (done.stdout + done.stderr).encode() + mask
    assert b"muster" not in told.lower()
    assert b"erika" not in told.lower()
    assert dcmread(tmp_path / "out" / names[1]).PatientName == "Muster^Erika"
