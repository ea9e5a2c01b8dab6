import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from kitsjax.data.kits import find_cases
from kitsjax.data.label_source import ANNOTATIONS, load_instances
from kitsjax.data.preprocess import (
    annotate_case,
    cache_folder,
    foreground_positions,
    normalize,
    preprocess,
    preprocess_case,
    preprocess_cases,
)
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.volume import Grid, Volume
from kitsjax.settings import PreprocessSettings

SETTINGS = PreprocessSettings(spacing_mm=3.0)
AFFINE = np.array([[0, 0, -1.5, 0], [0, -1.5, 0, 0], [-4.0, 0, 0, 0], [0, 0, 0, 1]])


def write_case(root, number, shape=(10, 24, 24), edit=None, annotations=0):
    rng = np.random.default_rng(number)
    image = rng.normal(40, 100, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[2:6, 4:12, 4:12], label[4:6, 6:10, 6:10] = 1, 2
    if edit:
        image, label = edit(image, label)
    folder = root / f"case_{number:05d}"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, AFFINE), folder / "imaging.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), folder / "aggregated_MAJ_seg.nii.gz")
    for annotation in range(1, annotations + 1):
        (folder / "segmentations").mkdir(exist_ok=True)
        name = f"segmentations/kidney_instance-1_annotation-{annotation}.nii.gz"
        nib.save(nib.Nifti1Image((label > 0).astype(np.uint8), AFFINE), folder / name)


def test_normalize_clips_then_standardizes():
    array = np.random.default_rng(0).normal(50, 300, (20, 20, 20)).astype(np.float32)
    array[0, 0, 0] = 1e6
    out = normalize(array, SETTINGS)
    low, high = np.percentile(array, (0.5, 99.5))
    clipped = np.clip(array.astype(np.float64), low, high)
    assert np.allclose(out, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    assert abs(out.mean()) < 1e-6
    assert abs(out.std() - 1) < 1e-6
    assert array[0, 0, 0] == np.float32(1e6), "the input was changed"


@pytest.mark.parametrize("value", [0.0, -1000.0, 3071.3, 1e5])
def test_constant_volume_gives_zeros(value):
    assert (normalize(np.full((5, 5, 5), value, np.float32), SETTINGS) == 0).all()


def test_half_precision_is_the_stored_number():
    volume = Volume(
        np.random.default_rng(0).normal(0, 300, (8, 9, 10)),
        Grid((8, 9, 10), (3.0, 3.0, 3.0), AFFINE),
    )
    half = preprocess(volume, SETTINGS)
    full = preprocess(volume, PreprocessSettings(spacing_mm=3.0, dtype="float32"))
    assert half.dtype == np.float16
    assert (half == full.astype(np.float16)).all()
    assert np.abs(half - full).max() <= 2**-11 * np.abs(full).max()


def test_foreground_positions_are_voxels_of_the_class_without_repeats():
    label = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    for value in (1, 2, 3):
        found = foreground_positions(label, value, 500, seed=1)
        assert len(found) == (500 if value < 3 else 0)
        assert (label[tuple(found.T)] == value).all()
        assert len(np.unique(found, axis=0)) == len(found)
    assert len(foreground_positions(np.ones((60, 60, 60), np.uint8), 1, 500, 0)) == 2160


def test_preprocessed_case_on_disk(tmp_path):
    write_case(tmp_path / "raw", 3)
    report = preprocess_cases(find_cases(tmp_path / "raw"), tmp_path / "out", SETTINGS, 1)
    assert (report.made, report.kept, report.failures) == (1, 0, [])
    assert 0.01 < report.peak_gib < 4
    case = PreprocessedCase(tmp_path / "out" / "case_00003")
    assert case.shape == case.image().shape == case.label().shape == (13, 12, 12)
    assert isinstance(case.image(), np.memmap)
    assert set(case.foreground) == {1, 2}
    for value, positions in case.foreground.items():
        assert (case.label()[tuple(positions.T)] == value).all()
        assert len(positions) == (case.label() == value).sum()
    facts = json.loads((case.folder / "case.json").read_text())
    # 10 slices of 4 mm are 40 mm, which 13 voxels share.
    assert facts["spacing_mm"] == pytest.approx([40 / 13, 3.0, 3.0])
    raw = read_volume(tmp_path / "raw/case_00003/imaging.nii.gz")
    assert (case.image() == preprocess(raw, SETTINGS)).all()


def test_only_what_changed_is_made_again(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number)
    cases = find_cases(tmp_path / "raw")
    folder = tmp_path / "out"
    assert preprocess_cases(cases, folder, SETTINGS, 2).made == 3
    assert preprocess_cases(cases, folder, SETTINGS, 2).kept == 3
    before = {c.case_id: (folder / c.case_id / "image.npy").stat().st_ino for c in cases}
    os.utime(cases[1].image)
    assert preprocess_cases(cases, folder, SETTINGS, 2).made == 1
    after = {c.case_id: (folder / c.case_id / "image.npy").stat().st_ino for c in cases}
    assert [before[c] == after[c] for c in sorted(before)] == [True, False, True]


def made_at(folder):
    """When each file of each preprocessed case was made."""
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_annotations_are_added_to_what_is_there_and_follow_their_files(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number, annotations=2)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    for case in cases:
        preprocess_case(case, folder / case.case_id, SETTINGS)
    before = made_at(folder)
    assert preprocess_cases(cases, folder, SETTINGS, 1, annotations=True).made == 3
    added = made_at(folder)
    assert {name: added[name] for name in before} == before
    assert {name.parent.name for name in set(added) - set(before)} == {"annotations"}
    assert preprocess_cases(cases, folder, SETTINGS, 1, annotations=True).kept == 3
    assert preprocess_cases(cases, folder, SETTINGS, 1).kept == 3
    (cases[1].annotations / "kidney_instance-1_annotation-2.nii.gz").unlink()
    assert preprocess_cases(cases, folder, SETTINGS, 1).kept == 3
    assert preprocess_cases(cases, folder, SETTINGS, 1, annotations=True).made == 1
    changed = {name for name, when in made_at(folder).items() if when != added[name]}
    assert {name.parent.as_posix() for name in changed} == {"case_00001/annotations"}
    (kidney,) = load_instances(folder / "case_00001" / ANNOTATIONS)
    assert kidney.annotations == (1,)
    # A case whose image changed loses its old annotations with all the rest.
    os.utime(cases[2].image)
    assert preprocess_cases(cases, folder, SETTINGS, 1).made == 1
    assert not (folder / "case_00002" / "annotations").exists()


def test_a_case_without_annotations_fails_before_its_image_is_made(tmp_path):
    write_case(tmp_path / "raw", 0)
    write_case(tmp_path / "raw", 1, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    report = preprocess_cases(cases, folder, SETTINGS, 1, annotations=True)
    assert report.made == 1
    ((case_id, message),) = report.failures
    assert case_id == "case_00000"
    assert message.startswith(f"{cases[0].folder}: has no individual annotations")
    assert "data.label_source=majority" in message
    assert [p.name for p in folder.iterdir()] == ["case_00001"]


def test_annotations_that_cannot_be_written_leave_the_case_as_it_was(tmp_path, monkeypatch):
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    preprocess_case(cases[0], folder / "case_00000", SETTINGS)
    before = made_at(folder)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kitsjax.data.label_source.np.concatenate", full)
    with pytest.raises(InputError, match="No space left"):
        annotate_case(cases[0], folder / "case_00000")
    assert made_at(folder) == before


def test_other_settings_have_another_folder():
    other = SETTINGS.model_copy(update={"lower_percentile": 1.0})
    assert cache_folder("c", SETTINGS) == cache_folder("c", PreprocessSettings(spacing_mm=3.0))
    assert cache_folder("c", SETTINGS) != cache_folder("c", other)


def shrink(image, label):
    return image, label[:-1]


def spoil(image, label):
    image[0, 0, 0] = np.nan
    return image, label


def strange(image, label):
    label[0, 0, 0] = 9
    return image, label


@pytest.mark.parametrize(("edit", "word"), [(shrink, "9"), (spoil, "NaN"), (strange, "9")])
def test_bad_case_is_reported_and_the_rest_go_on(tmp_path, edit, word):
    write_case(tmp_path / "raw", 0, edit=edit)
    write_case(tmp_path / "raw", 1)
    report = preprocess_cases(find_cases(tmp_path / "raw"), tmp_path / "out", SETTINGS, 2)
    assert report.made == 1
    ((case_id, message),) = report.failures
    assert case_id == "case_00000"
    assert "case_00000" in message
    assert word in message
    assert "\n" not in message
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["case_00001"]


def test_failure_within_a_write_leaves_no_case(tmp_path, monkeypatch):
    write_case(tmp_path / "raw", 0)
    case = find_cases(tmp_path / "raw")[0]

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kitsjax.data.preprocess.foreground_positions", full)
    with pytest.raises(InputError, match="No space left"):
        preprocess_case(case, tmp_path / "out" / case.case_id, SETTINGS)
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_run_keeps_finished_cases_and_leaves_none_half_written(tmp_path):
    for number in range(12):
        write_case(tmp_path / "raw", number, shape=(40, 96, 96))
    code = (
        "import sys; from kitsjax.data.kits import find_cases;"
        "from kitsjax.data.preprocess import preprocess_cases;"
        "from kitsjax.settings import PreprocessSettings; from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "  raw, out = map(Path, sys.argv[1:])\n"
        "  preprocess_cases(find_cases(raw), out, PreprocessSettings(spacing_mm=3.0), 1)\n"
    )
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(code)
    job = subprocess.Popen(
        [sys.executable, script, tmp_path / "raw", out],
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while len(list(out.glob("case_*"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    finished = sorted(p.name for p in out.glob("case_*"))
    assert 2 <= len(finished) <= 12
    for name in finished:
        assert len(list((out / name).iterdir())) == 6
    cases = find_cases(tmp_path / "raw")
    report = preprocess_cases(cases, out, SETTINGS, 2)
    assert report.kept == len(finished)
    assert len(list(out.glob("case_*"))) == 12
