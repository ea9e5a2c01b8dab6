"""Cases of another organ's labels, some voxels of which nobody annotated."""

from dataclasses import replace

import numpy as np
import pytest
from raw_cases import SETTINGS, write_case

from kitsjax.data.cache import cache_folder
from kitsjax.data.kits import find_cases
from kitsjax.data.patches import draw_start, read_patch
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.image.read_nifti import read_label
from kitsjax.image.resample import resample_nearest
from kitsjax.labels import KITS
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import LabelSettings

LIVER = make_scheme(LabelSettings(names=("liver", "tumor"), ignore=True))


def leave_out(image, label):
    """Nobody annotated the last slices and one row of the organ."""
    label = label.copy()
    label[7:] = label[3, 5] = LIVER.ignore
    return image, label


@pytest.fixture
def case(tmp_path):
    write_case(tmp_path / "raw", 3, edit=leave_out)
    (raw,) = find_cases(tmp_path / "raw")
    preprocess_case(raw, tmp_path / "case_00003", SETTINGS, LIVER)
    return raw, PreprocessedCase(tmp_path / "case_00003")


def test_ignored_voxels_are_no_foreground(case):
    """They keep their value by nearest neighbor, and have no position, count or intensity."""
    raw, stored = case
    label = np.asarray(stored.label())
    expected = resample_nearest(read_label(raw.label, LIVER.values).array, stored.shape)
    np.testing.assert_array_equal(label, expected)
    assert set(np.unique(label)) == {0, 1, 2, 3}
    assert set(stored.present) == set(stored.voxels) == {1, 2}
    labeled = (label == 1) | (label == 2)
    histogram = stored.foreground_histogram()
    found = np.repeat(histogram.hu, histogram.counts)
    np.testing.assert_array_equal(found, np.sort(stored.image()[labeled], axis=None))


def test_no_foreground_patch_is_centered_on_them(case):
    _, stored = case
    rng, label = np.random.default_rng(0), stored.label()
    for weights in ((), (1.0, 3.0)):
        starts = [draw_start(rng, stored, (2, 2, 2), True, weights) for _ in range(200)]
        assert {int(label[z + 1, y + 1, x + 1]) for z, y, x in starts} == {1, 2}


def test_beyond_the_volume_all_is_background(case):
    """Padding is annotated: prediction pads with the same zeros."""
    _, stored = case
    start = stored.shape[0] - 1, 0, 0
    patch = read_patch(stored.label(), start, (3, 2, 2))
    np.testing.assert_array_equal(patch[0], LIVER.ignore)
    np.testing.assert_array_equal(patch[1:], 0)


def test_values_beyond_the_scheme_are_refused(tmp_path):
    """By file and value, and the other cases are made."""
    write_case(tmp_path / "raw", 1, edit=leave_out)
    write_case(tmp_path / "raw", 2)
    whole = replace(LIVER, ignore=None)
    cases = find_cases(tmp_path / "raw")
    report = preprocess_cases(cases, tmp_path / "out", SETTINGS, 1, scheme=whole)
    ((name, message),) = report.failures
    assert (name, list(report.cases)) == ("case_00001", ["case_00002"])
    assert f"{cases[0].label}: label values 3 are not among 0, 1, 2" in message


def test_other_values_have_another_folder():
    """Else a case would be taken for checked that holds a value beyond the scheme."""
    same = [replace(KITS, lesions=()), make_scheme(LabelSettings(names=("a", "b", "c")))]
    assert {cache_folder("c", SETTINGS, scheme) for scheme in (KITS, *same)} == {
        cache_folder("c", SETTINGS)
    }
    other = [LIVER, replace(LIVER, ignore=None), replace(KITS, ignore=4)]
    assert len({cache_folder("c", SETTINGS, scheme) for scheme in (KITS, *other)}) == 4
