"""The threshold baseline: the exact best window, and its scores."""

import tracemalloc

import numpy as np
import pytest

from kitsjax.evaluate.hu_threshold import fit_windows, threshold_scores
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR

SPACING_MM = (3.0, 0.8, 0.8)


def block_case(shift=0):
    """Draw a block each of kidney at 200 HU, tumor at 120 and cyst at 10, in fat of -100."""
    image = np.full((4, 12, 12), -100.0, np.float32)
    label = np.zeros(image.shape, np.uint8)
    for value, hu, rows in ((KIDNEY, 200, (1, 4)), (TUMOR, 120, (4, 7)), (CYST, 10, (7, 10))):
        label[1:3, slice(*rows), 2:8] = value
        image[1:3, slice(*rows), 2:8] = hu + shift
    return image, label


def test_windows_of_separable_classes_by_hand():
    windows = fit_windows([block_case(), block_case(shift=5)])
    assert windows == {"kidney_and_mass": (10, 205), "mass": (10, 125), "tumor": (120, 125)}


def test_scores_of_separable_classes_are_one():
    image, label = block_case()
    scores = threshold_scores(image, label, SPACING_MM, fit_windows([(image, label)]))
    assert set(scores) == set(KITS.evaluation_keys)
    for score in scores.values():
        assert score[:3] == pytest.approx((1, 1, 0))


def test_dice_is_pooled_over_cases():
    """HU that occur inside and outside are weighed."""
    # 6 tumor voxels at 50 and 2 at 60, background 1 at 50 and 9 at 60:
    # {50}: 12 / (7 + 8) = 0.8; {50, 60}: 16 / (18 + 8) = 0.62; {60}: 4 / (11 + 8) = 0.21.
    image = np.array([[[50.0] * 7 + [60.0] * 11]])
    label = np.array([[[TUMOR] * 6 + [0] + [TUMOR] * 2 + [0] * 9]], np.uint8)
    assert fit_windows([(image, label)])["tumor"] == (50, 50)
    # A second case with 12 tumor voxels at 60 decides: 40 / (30 + 20) against 12 / 27.
    more = np.full((1, 1, 12), 60.0), np.full((1, 1, 12), TUMOR, np.uint8)
    assert fit_windows([(image, label), more])["tumor"] == (50, 60)


def test_no_window_is_better():
    rng = np.random.default_rng(0)
    label = rng.choice([0, KIDNEY, TUMOR, CYST], (3, 16, 16), p=[0.7, 0.15, 0.1, 0.05])
    image = rng.normal(np.array([0, 30, 12, -12])[label], 10)
    windows = fit_windows([(image, label)])
    hu = np.rint(image)
    for name, _, labels, _ in KITS.evaluation:
        truth = np.isin(label, labels)

        def score(low, high, truth=truth):
            inside = (hu >= low) & (hu <= high)
            return 2 * np.sum(inside & truth) / (inside.sum() + truth.sum())

        found = score(*windows[name])
        best = max(score(a, b) for a in np.unique(hu) for b in np.unique(hu) if a <= b)
        assert found == pytest.approx(best, abs=1e-12)


def test_values_beyond_the_range():
    image = np.array([[[-3000.0, -2000.0, 0.0, 5000.0]]])
    label = np.array([[[TUMOR, TUMOR, 0, 0]]], np.uint8)
    windows = fit_windows([(image, label)])
    assert windows["tumor"] == (-1024, -1024)
    assert threshold_scores(image, label, SPACING_MM, windows)["tumor"].dice == 1


def test_an_absent_class_is_never_predicted():
    image, label = block_case()
    label[label != KIDNEY] = 0
    image[0, 0, :2] = -1024, 3071
    windows = fit_windows([(image, label)])
    assert threshold_scores(image, label, SPACING_MM, windows)["tumor"][:2] == (1, 1)


def test_cases_are_drawn_one_at_a_time():
    def cases():
        for _ in range(8):
            yield np.zeros((8, 128, 128), np.float32), np.zeros((8, 128, 128), np.uint8)

    tracemalloc.start()
    fit_windows(cases())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_case = 8 * 128 * 128 * 5
    assert peak < 4 * one_case
