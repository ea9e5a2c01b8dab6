"""One preprocessed case: what its files hold, and that a failed write leaves nothing behind."""

import json
import os
from functools import partial

import numpy as np
import pytest
from made_instances import random_choice
from raw_cases import SETTINGS, full_disk, made_at, write_case

from kitsjax.data.cache import locate_case, stamp_of
from kitsjax.data.instances import read_instances
from kitsjax.data.kits import find_cases
from kitsjax.data.label_source import paint_patch
from kitsjax.data.paint_instances import paint_sample
from kitsjax.data.preprocess import resample_hu
from kitsjax.data.preprocess_case import annotate_case, foreground_positions, preprocess_case
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.data.stored_instances import load_instances
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.resample import resample_nearest
from kitsjax.settings import PreprocessSettings


def test_foreground_positions_are_distinct():
    label = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    for value in (1, 2, 3):
        found = foreground_positions(label, value, 500, seed=1)
        assert len(found) == (500 if value < 3 else 0)
        assert (label[tuple(found.T)] == value).all()
        assert len(np.unique(found, axis=0)) == len(found)
    assert len(foreground_positions(np.ones((60, 60, 60), np.uint8), 1, 500, 0)) == 2160


def test_preprocessed_case_on_disk(tmp_path):
    write_case(tmp_path / "raw", 3)
    (raw,) = find_cases(tmp_path / "raw")
    preprocess_case(raw, tmp_path / "case_00003", SETTINGS)
    case = PreprocessedCase(tmp_path / "case_00003")
    assert case.shape == case.image().shape == case.label().shape == (13, 12, 12)
    assert isinstance(case.image(), np.memmap)
    assert case.present == (1, 2)
    for value, positions in ((value, case.positions(value)) for value in case.present):
        assert (case.label()[tuple(positions.T)] == value).all()
        assert len(positions) == (case.label() == value).sum()
    facts = json.loads((case.folder / "case.json").read_text())
    # 10 slices of 4 mm are 40 mm, which 13 voxels share.
    assert facts["spacing_mm"] == pytest.approx([40 / 13, 3.0, 3.0])
    assert (case.image() == resample_hu(read_volume(raw.image), SETTINGS)).all()
    assert case.image().dtype == np.int16


def test_histograms_count_the_voxels(tmp_path):
    write_case(tmp_path / "raw", 3)
    (raw,) = find_cases(tmp_path / "raw")
    preprocess_case(raw, tmp_path / "case_00003", SETTINGS)
    case = PreprocessedCase(tmp_path / "case_00003")
    image, label = case.image(), case.label()
    pairs = (case.histogram(), image), (case.foreground_histogram(), image[label > 0])
    for histogram, voxels in pairs:
        np.testing.assert_array_equal(
            np.repeat(histogram.hu, histogram.counts), np.sort(voxels, axis=None)
        )


def test_annotations_are_resampled_as_labels_are(phantom, tmp_path):
    (case,), folder = find_cases(phantom), tmp_path / "case_00000"
    preprocess_case(case, folder, PreprocessSettings(spacing_mm=4.0))
    annotate_case(case, folder / "annotations")
    truth, shape = read_label(case.label), PreprocessedCase(folder).shape
    native = read_instances(case.annotations, truth.grid)
    choice = random_choice(np.random.default_rng(0), native)
    expected = resample_nearest(paint_sample(native, choice, truth.shape), shape)
    assert set(np.unique(expected)) > {0, 1}
    whole = paint_patch(load_instances(folder / "annotations"), choice, (0, 0, 0), shape)
    np.testing.assert_array_equal(whole, expected)


def test_failed_annotations_leave_the_case_alone(tmp_path, monkeypatch):
    write_case(tmp_path / "raw", 0, annotations=1)
    (case,), folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    preprocess_case(case, folder / "case_00000", SETTINGS)
    before = made_at(folder)
    monkeypatch.setattr("kitsjax.data.stored_instances.np.concatenate", full_disk)
    with pytest.raises(InputError, match="No space left"):
        annotate_case(case, folder / "case_00000" / "annotations")
    assert made_at(folder) == before


def test_failure_within_a_write_leaves_no_case(tmp_path, monkeypatch):
    write_case(tmp_path / "raw", 0)
    (case,) = find_cases(tmp_path / "raw")
    monkeypatch.setattr("kitsjax.data.preprocess_case.foreground_positions", full_disk)
    with pytest.raises(InputError, match="No space left"):
        preprocess_case(case, tmp_path / "out" / case.case_id, SETTINGS)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("part", ["case", "annotations"])
def test_files_that_changed_since_the_stamp(tmp_path, part):
    """The folder is named by the stamp, so that it must not hold what came after it."""
    write_case(tmp_path / "raw", 0, annotations=1)
    (case,) = find_cases(tmp_path / "raw")
    stored = locate_case(case, tmp_path / "out", annotations=True)
    preprocess_case(case, stored.folder, SETTINGS, stamp=stamp_of(stored.folder))
    before = made_at(tmp_path / "out")
    path = {"case": case.label, "annotations": next(case.annotations.iterdir())}[part]
    os.utime(path, (1, 1))
    write = {
        "case": partial(preprocess_case, case, tmp_path / "new", SETTINGS),
        "annotations": partial(annotate_case, case, stored.annotations),
    }[part]
    named = {"case": stored.folder, "annotations": stored.annotations}[part]
    with pytest.raises(InputError, match="its files changed while they were read"):
        write(stamp=stamp_of(named))
    assert made_at(tmp_path / "out") == before
