"""A phantom's case: seeded, with every patient's organs, and no gift to a threshold."""

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.labels import KITS
from kitsjax.phantom.case import make_case


@pytest.fixture(scope="module")
def cases():
    return [make_case(0, n, 64) for n in range(8)]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# By case: HU along a line through the volume, and the number of voxels of kidney, tumor and cyst.
KNOWN = {
    (0, 0, 64): ([-999, -6, -81, 155, -2, 61, -107, 43], [2873, 995, 85]),
    (0, 7, 64): ([-997, -113, 90, 30, 121, 71, -109, -94], [1866, 68, 0]),
    (3, 1, 32): ([-999, -105, 6, 43, 102, -83, -93, -91], [185, 314, 0]),
}


@pytest.mark.parametrize("arguments", KNOWN)
def test_the_plain_phantom_never_changes(arguments):
    """Voxels and labels are those of version 1, but for rounding on another processor."""
    case = make_case(*arguments)
    hu, counts = KNOWN[arguments]
    planes, size, _ = case.image.shape
    line = case.image[planes // 2, size // 2, :: size // 8]
    np.testing.assert_allclose(line, hu, atol=1)
    found = np.bincount(case.labels["MAJ"].ravel(), minlength=4)[1:]
    np.testing.assert_allclose(found, counts, atol=3)


def test_equal_arguments_give_equal_cases():
    one, same = make_case(3, 1, 32), make_case(3, 1, 32)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.labels["MAJ"], same.labels["MAJ"])
    assert one.spacing_mm == same.spacing_mm
    for other in (make_case(4, 1, 32), make_case(3, 2, 32)):
        assert other.spacing_mm != one.spacing_mm


@pytest.mark.parametrize("n", range(6))
def test_every_patient_has_kidneys_and_a_tumor(n):
    """Three annotators see them alike, but not exactly alike."""
    case = make_case(11, n, 64)
    kinds = [instance.kind for instance in case.instances]
    assert 1 <= kinds.count("kidney") <= 2
    assert kinds.count("tumor") >= 1
    assert set(np.unique(case.labels["MAJ"])) <= {0, 1, 2, 3}
    for instance in case.instances:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            agreement = dice(instance.masks[a], instance.masks[b])
            assert agreement > (0.6 if instance.kind == "cyst" else 0.85)
            assert agreement < 1 or instance.kind != "kidney"
    milliliters = (case.labels["MAJ"] > 0).sum() * np.prod(case.spacing_mm) / 1000
    assert 120 < milliliters < 900


def test_tissues_have_their_hounsfield_units(cases):
    tissue = {1: [], 2: [], 3: []}
    for case in cases:
        assert case.image.min() >= -1024
        # Fat is the most frequent tissue far below water.
        values = np.bincount(np.clip(case.image.ravel(), -200, 0) + 200, minlength=201)
        smooth = ndimage.uniform_filter1d(values[1:-30].astype(float), 9)
        assert -125 < np.argmax(smooth) - 199 < -75
        assert np.median(case.image[:, 0]) == pytest.approx(-1000, abs=15)
        means = {}
        for label, found in tissue.items():
            inside = ndimage.binary_erosion(case.labels["AND"] == label, iterations=1)
            if inside.sum() > 20:
                means[label] = case.image[inside].mean()
                found.append(means[label])
        assert means[1] > means.get(2, 0) + 10
    assert 90 < np.mean(tissue[1]) < 190
    assert 35 < np.mean(tissue[2]) < 120
    assert -10 < np.mean(tissue[3]) < 30


def test_no_threshold_finds_the_classes(cases):
    """Even the best range of HU, chosen on these voxels, finds far less than a network would."""
    hu = np.concatenate([np.clip(c.image, -200, 500).ravel() for c in cases]).astype(int) + 200
    label = np.concatenate([c.labels["MAJ"].ravel() for c in cases])
    everything = np.r_[0, np.bincount(hu, minlength=701).cumsum()]
    for evaluation in KITS.evaluation:
        truth = np.isin(label, evaluation.labels)
        hits = np.r_[0, np.bincount(hu[truth], minlength=701).cumsum()]
        overlap = np.triu(hits[None] - hits[:, None])
        size = np.triu(everything[None] - everything[:, None])
        assert (2 * overlap / (size + truth.sum())).max() < 0.35, evaluation.key
