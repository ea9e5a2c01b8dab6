import numpy as np
import pytest

from kitsjax.check.second_phase import find_second_phase
from kitsjax.image.read_nifti import read_label, read_volume


@pytest.fixture(scope="module")
def scan(clean_root):
    """A CT and its label."""
    folder = clean_root / "case_00001"
    image = read_volume(folder / "imaging.nii.gz")
    return image.array, read_label(folder / "aggregated_MAJ_seg.nii.gz").array, image.spacing_mm


def found(hu, label, spacing_mm):
    return list(find_second_phase(hu, label, spacing_mm))


def another_phase(hu):
    """The same patient a little moved, with more contrast and other noise."""
    noise = np.random.default_rng(0).normal(0, 15, hu.shape)
    moved = np.roll(hu, (1, 1), axis=(1, 2)) + noise
    return np.where((hu > 20) & (hu < 300), moved + 50, moved).astype(np.float32)


def test_a_phase_that_follows(scan):
    hu, label, spacing_mm = scan
    n = len(hu)
    both, labels = np.concatenate([hu, another_phase(hu)]), np.concatenate([label, 0 * label])
    (finding,) = found(both, labels, spacing_mm)
    assert finding.name == "second phase"
    assert finding.text.startswith(f"slices {n} to {2 * n - 1} show")
    assert f"jumps at slice {n}:" in finding.text


def test_a_phase_that_comes_first(scan):
    hu, label, spacing_mm = scan
    both, labels = np.concatenate([another_phase(hu), hu]), np.concatenate([0 * label, label])
    (finding,) = found(both, labels, spacing_mm)
    assert finding.text.startswith(f"slices 0 to {len(hu) - 1} show")


def test_a_phase_of_a_part_of_the_body(scan):
    """The second scan shows a part only, but the labeled slices."""
    hu, label, spacing_mm = scan
    labeled = np.flatnonzero(label.any(axis=(1, 2)))
    part = slice(max(0, labeled[0] - 2), labeled[-1] + 3)
    both = np.concatenate([hu, another_phase(hu)[part]])
    assert found(both, np.concatenate([label, 0 * label[part]]), spacing_mm)


def test_two_phases_that_are_both_labeled(scan):
    hu, label, spacing_mm = scan
    both = np.concatenate([hu, another_phase(hu)])
    assert found(both, np.concatenate([label, label]), spacing_mm) == []


def test_a_single_scan(scan, clean_root):
    """Also if only a few of its slices are labeled, or air or nothing is scanned beside them."""
    hu, label, spacing_mm = scan
    assert found(hu, label, spacing_mm) == []
    assert found(hu, 0 * label, spacing_mm) == []
    for z in range(0, len(hu), 5):
        few = np.zeros_like(label)
        few[z : z + 3] = 1
        assert found(hu, few, spacing_mm) == []
    air = np.full_like(hu, -1000)
    assert found(np.concatenate([hu, air]), np.concatenate([label, 0 * label]), spacing_mm) == []
    assert found(air, label, spacing_mm) == []


def test_a_scan_too_short_for_two(scan):
    hu, label, spacing_mm = scan
    assert found(hu[:3], label[:3] + 1, spacing_mm) == []
    assert found(hu[:1], label[:1] + 1, spacing_mm) == []
