"""Voxels whose truth nobody knows: they count in no score, no volume and no lesion."""

import numpy as np
import pytest
from label_schemes import LIVER

from kitsjax.evaluate.hu_threshold import fit_windows, threshold_scores
from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.score_volumes import score
from kitsjax.evaluate.surfaces import Mask, cut_blocks, find_surface
from kitsjax.labels import KITS

UNIT = (1.0, 1.0, 1.0)
LIVER_VALUE, TUMOR_VALUE, IGNORE = 1, 2, 4
SHAPE = (12, 14, 14)


def bar(first, last, value=LIVER_VALUE):
    """A bar of ten by ten voxels through the slices from first to last."""
    label = np.zeros(SHAPE, np.uint8)
    label[first : last + 1, 2:12, 2:12] = value
    return label


def ignore_from(label, z):
    """Ignore all slices from z on."""
    label = label.copy()
    label[z:] = IGNORE
    return label


def test_ignored_voxels_count_in_no_score():
    """Whatever is predicted there, what is known of the bar is found without any error."""
    truth = ignore_from(bar(2, 9), 6)
    noise = bar(2, 5) + np.where(truth == IGNORE, np.random.default_rng(0).integers(0, 4, SHAPE), 0)
    for prediction in (bar(2, 9), bar(2, 5), noise.astype(np.uint8)):
        found = score(prediction, truth, UNIT, LIVER)["liver_and_all"]
        assert found == (1, 1, 0, 0.4, 0.4), "four slices of 100 voxels of 1 mm³"


def test_errors_beside_the_region_count():
    """The last known slice is not found: 2 * 300 / 700, and a surface 1 mm from the border."""
    found = score(bar(2, 4), ignore_from(bar(2, 9), 6), UNIT, LIVER)["liver_and_all"]
    assert found == (pytest.approx(6 / 7), 1, 1, 0.3, 0.4)


def test_a_cut_face_is_no_error():
    """A wrong slice beside the region has a face 1 mm from the truth; that at the border, 2 mm from
    it, is only where the region begins."""
    truth = ignore_from(bar(2, 3), 6)
    found = score(bar(2, 3) + bar(5, 9), truth, UNIT, LIVER)["liver_and_all"]
    assert found == (pytest.approx(4 / 5), 1, 1, 0.3, 0.2)


def test_elements_off_the_region_are_measured():
    """Those away from it are as without it; those that touch it have no area."""
    mask, ignored = bar(2, 9) > 0, ignore_from(bar(2, 9), 6) == IGNORE
    whole = find_surface(Mask(tuple(cut_blocks(mask))), UNIT)
    cut = find_surface(Mask(tuple(cut_blocks(mask & ~ignored))), UNIT, ignored)
    for surface in (whole, cut):
        assert surface.corners[0].min() == 2
    near, far = cut.corners[0] >= 6, whole.corners[0] < 6
    assert near.any()
    assert not cut.areas_mm2[near].any()
    np.testing.assert_array_equal(cut.corners[:, ~near], whole.corners[:, far])
    np.testing.assert_array_equal(cut.areas_mm2[~near], whole.areas_mm2[far])


def test_a_case_of_which_nothing_is_known():
    """Both masks are empty then, whatever is predicted."""
    for found in score(bar(2, 9), np.full(SHAPE, IGNORE, np.uint8), UNIT, LIVER).values():
        assert found[:2] == (1, 1)
        assert np.isnan(found.hausdorff95_mm)
        assert found[3:] == (0, 0)


def test_a_voxel_amid_ignored_ones_has_no_surface():
    """Its Dice counts; nothing of its surface is known."""
    truth = np.full(SHAPE, IGNORE, np.uint8)
    truth[6, 6, 6] = LIVER_VALUE
    found = score(bar(2, 9), truth, UNIT, LIVER)["liver_and_all"]
    assert found[:2] == (1, 1)
    assert np.isnan(found.hausdorff95_mm)


def test_what_is_known_is_left_as_it_was():
    label = bar(2, 9)
    for scheme in (KITS, LIVER):
        assert remove_ignored(label, label, scheme) == (label, label, None)
    truth = ignore_from(label, 6)
    seen, true, ignored = remove_ignored(label, truth, LIVER)
    np.testing.assert_array_equal(seen, bar(2, 5))
    np.testing.assert_array_equal(true, bar(2, 5))
    assert ignored.sum() == 6 * 14 * 14
    assert truth[6, 0, 0] == IGNORE, "the label map that was given is not changed"


def test_a_prediction_has_no_ignored_voxels():
    truth = ignore_from(bar(2, 9), 6)
    with pytest.raises(ValueError, match="integers from 0 to 3"):
        score(truth, truth, UNIT, LIVER)
    with pytest.raises(ValueError, match="integers from 0 to 4"):
        score(bar(2, 9), np.where(truth == IGNORE, 5, truth), UNIT, LIVER)


def test_thresholds_are_fitted_to_known_voxels():
    """Half of the known liver has the HU of all that is ignored, which would be taken for wrong."""
    truth = ignore_from(bar(2, 9), 6)
    image = np.where(truth == 0, 0.0, 100.0)
    image[:4][truth[:4] == LIVER_VALUE] = 50
    windows = fit_windows([(image, truth)], LIVER)
    low, high = windows["liver_and_all"]
    assert 0 < low <= 50
    assert high == 100
    found = threshold_scores(image, truth, UNIT, windows, LIVER)["liver_and_all"]
    assert found[:3] == (1, 1, 0)
    assert found.prediction_cm3 == 0.4
