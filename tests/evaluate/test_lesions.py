"""Lesions and their outcomes, by label maps whose answers are counted by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from counting_numpy import Counted, CountingNumpy
from scipy import ndimage

from kitsjax.evaluate import components, lesions
from kitsjax.evaluate.lesions import find_lesions
from kitsjax.evaluate.outcomes import OUTCOMES, count_outcomes, describe_case
from kitsjax.evaluate.results import Lesion
from kitsjax.image.read_nifti import read_label
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"

SPACING_MM = (2.0, 2.0, 2.0)
"""A voxel is 8 mm3, so that each one counts as a lesion."""

SHAPE = (12, 30, 30)


def draw(*boxes):
    """A label map of boxes (label, z, y, x), each axis given as (start, stop)."""
    label = np.zeros(SHAPE, np.uint8)
    for value, *axes in boxes:
        label[tuple(slice(*axis) for axis in axes)] = value
    return label


def find(prediction, truth, spacing_mm=SPACING_MM):
    return find_lesions("case_00007", prediction, truth, math.prod(spacing_mm), KITS)


def outcomes(prediction, truth, spacing_mm=SPACING_MM):
    return [(row.label, row.outcome) for row in find(prediction, truth, spacing_mm)]


def row_of(value, length, offset=0):
    """A row of voxels along x."""
    return draw((value, (5, 6), (5, 6), (offset, offset + length)))


def test_row_of_a_detected_tumor():
    truth = draw((TUMOR, (2, 6), (5, 10), (5, 15)), (TUMOR, (6, 7), (5, 11), (5, 15)))
    (row,) = find(truth, truth)
    assert row == Lesion(
        "case_00007", "truth", "tumor", 1, 260 * 8 / 1000, "detected", 1.0, 0.0, 0.0, slice=6
    )
    assert all(type(value) in (str, int, float) for value in row)


def test_empty_maps_have_no_lesions():
    empty = draw((KIDNEY, (0, 5), (0, 5), (0, 5)))
    assert find(empty, empty) == []
    assert describe_case([], KITS) == "no failure"


def test_a_missed_lesion_and_a_false_positive():
    truth, empty = row_of(TUMOR, 4), draw()
    (missed,) = find(empty, truth)
    assert (missed.source, missed.outcome, missed.covered) == ("truth", "missed", 0)
    assert all(math.isnan(share) for share in (missed.excess, missed.misclassified))
    (false,) = find(truth, empty)
    found = false.source, false.outcome, false.volume_cm3
    assert found == ("prediction", "false positive", 0.032)
    assert all(math.isnan(share) for share in (false.covered, false.excess, false.misclassified))


def test_a_tenth_of_the_smaller_lesion_matches():
    """One voxel is shared, of 10 true and 12 predicted ones; then of 11 and 12."""
    truth, prediction = row_of(TUMOR, 10), row_of(TUMOR, 12, offset=9)
    assert outcomes(prediction, truth) == [("tumor", "under-segmented")]
    truth, prediction = row_of(TUMOR, 11), row_of(TUMOR, 12, offset=10)
    assert outcomes(prediction, truth) == [("tumor", "missed"), ("tumor", "false positive")]
    (true, _) = find(prediction, truth)
    assert true.covered == pytest.approx(1 / 11)


def test_a_speck_has_not_found_a_large_lesion():
    """One voxel of 19 is no detection, and no false positive since it lies inside the lesion."""
    assert outcomes(row_of(TUMOR, 1), row_of(TUMOR, 19)) == [("tumor", "missed")]
    assert outcomes(row_of(TUMOR, 2), row_of(TUMOR, 19)) == [("tumor", "under-segmented")]


@pytest.mark.parametrize(
    ("length", "offset", "expected"),
    [
        (10, 5, "detected"),  # exactly half is covered, exactly half is outside
        (10, 6, "under-segmented"),
        (4, 0, "under-segmented"),
        (5, 0, "detected"),
        (20, 0, "detected"),
        (21, 0, "over-segmented"),
    ],
)
def test_half_is_the_limit_of_both_shares(length, offset, expected):
    """The limit of what is covered, and of what is excess."""
    true = find(row_of(TUMOR, length, offset), row_of(TUMOR, 10))[0]
    assert true.outcome == expected
    covered = min(10, offset + length) - offset
    assert true.covered == pytest.approx(covered / 10)
    assert true.excess == pytest.approx(1 - covered / length)


def test_most_voxels_decide_about_the_label():
    truth = row_of(TUMOR, 10)
    half, more = row_of(TUMOR, 10), row_of(TUMOR, 10)
    half[5, 5, :5] = CYST
    more[5, 5, :6] = CYST
    assert outcomes(half, truth) == [("tumor", "detected")]
    assert outcomes(more, truth) == [("tumor", "misclassified")]
    assert find(more, truth)[0].misclassified == pytest.approx(0.6)


def test_misclassified_comes_first():
    """A lesion that is under-segmented too is called misclassified."""
    (true,) = find(row_of(TUMOR, 4), row_of(CYST, 10))
    assert (true.label, true.outcome) == ("cyst", "misclassified")
    assert (true.covered, true.misclassified) == (0.4, 1.0)


def test_a_merged_prediction_detects_both():
    truth = draw((TUMOR, (5, 6), (5, 6), (0, 10)), (TUMOR, (5, 6), (5, 6), (12, 22)))
    assert outcomes(row_of(TUMOR, 22), truth) == [("tumor", "detected")] * 2
    assert [row.excess for row in find(row_of(TUMOR, 22), truth)] == [pytest.approx(2 / 22)] * 2


def test_a_tumor_that_swallows_a_cyst():
    """The cyst is misclassified, but lies in a true mass and so adds no excess to the tumor."""
    truth = row_of(TUMOR, 4)
    truth[5, 5, 4:20] = CYST
    assert outcomes(row_of(TUMOR, 20), truth) == [("tumor", "detected"), ("cyst", "misclassified")]
    assert outcomes(truth, truth) == [("tumor", "detected"), ("cyst", "detected")]


def test_a_lesion_found_in_pieces_is_detected():
    """No piece is a false positive."""
    prediction = row_of(TUMOR, 10)
    prediction[5, 5, 4] = prediction[5, 5, 7] = 0
    (true,) = find(prediction, row_of(TUMOR, 10))
    assert (true.outcome, true.covered) == ("detected", 0.8)


def test_excess_is_of_all_pieces_that_match():
    prediction = draw((TUMOR, (5, 6), (5, 6), (0, 4)), (TUMOR, (5, 6), (5, 15), (6, 7)))
    true = find(prediction, row_of(TUMOR, 10))[0]
    # Pieces of 4 voxels, none outside, and of 10, nine of them outside.
    assert true.excess == pytest.approx(9 / 14)


def test_order_and_numbers():
    truth = draw(
        (CYST, (1, 2), (1, 2), (0, 3)),
        (TUMOR, (3, 4), (1, 2), (0, 2)),
        (CYST, (5, 6), (1, 2), (0, 9)),
        (TUMOR, (7, 8), (1, 2), (0, 5)),
    )
    prediction = draw((CYST, (9, 10), (1, 2), (0, 2)), (CYST, (11, 12), (1, 2), (0, 4)))
    prediction[truth > 0] = truth[truth > 0]
    rows = find(prediction, truth)
    assert [(r.source, r.label, r.number, round(r.volume_cm3 / 0.008), r.slice) for r in rows] == [
        ("truth", "tumor", 1, 5, 7),
        ("truth", "tumor", 2, 2, 3),
        ("truth", "cyst", 1, 9, 5),
        ("truth", "cyst", 2, 3, 1),
        ("prediction", "cyst", 1, 4, 11),
        ("prediction", "cyst", 2, 2, 9),
    ]


def test_specks_are_no_lesions():
    """Components below the least volume, in the truth and in the prediction."""
    truth, prediction = row_of(TUMOR, 2), row_of(CYST, 3, offset=20)
    side = lesions.LEAST_MM3 ** (1 / 3)
    assert len(find(prediction, truth, (side, side, side / 1.9))) == 2
    assert outcomes(prediction, truth, (side, side, side / 2.1)) == [("cyst", "false positive")]
    assert find(prediction, truth, (side, side, side / 3.1)) == []


def random_case():
    """Draw blobs of both labels; the prediction is the truth moved, torn and partly relabeled."""
    rng = np.random.default_rng(11)
    blobs = ndimage.gaussian_filter(rng.random((20, 24, 28)), 1.4) > 0.525
    truth = np.where(blobs, rng.permuted(np.repeat([TUMOR, CYST], 14))[None, None, :], 0)
    prediction = np.roll(truth, 1, axis=0)
    prediction[:, :9] = np.where(prediction[:, :9] == CYST, TUMOR, prediction[:, :9])
    prediction[ndimage.gaussian_filter(rng.random(truth.shape), 2) > 0.505] = 0
    return prediction.astype(np.uint8), truth.astype(np.uint8)


@pytest.mark.parametrize("move", [np.flip, np.transpose, np.rot90, np.asfortranarray])
def test_flips_and_rotations_change_no_outcome(move):
    prediction, truth = random_case()

    def facts(prediction, truth):
        rows = find(prediction, truth)
        return sorted((r.source, r.label, r.volume_cm3, *map(str, r[5:9])) for r in rows)

    expected = facts(prediction, truth)
    assert {fact[3] for fact in expected} == set(OUTCOMES), "the case must show every outcome"
    assert facts(move(prediction), move(truth)) == expected


@pytest.fixture
def count_elements(monkeypatch):
    """Count the array elements that finding lesions computes, and the lesions found."""
    for module in (components, lesions):
        monkeypatch.setattr(module, "np", CountingNumpy())

    def count(prediction, truth):
        Counted.elements = 0
        rows = find(prediction.view(Counted), truth.view(Counted))
        return Counted.elements, len(rows)

    return count


def specks(size, step):
    """A tumor, and the same with specks all over the volume."""
    truth = np.zeros((size,) * 3, np.uint8)
    truth[10:20, 10:20, 10:20] = TUMOR
    prediction = truth.copy()
    if step:
        prediction[::step, ::step, ::step] = TUMOR
    return prediction, truth


def test_work_grows_with_the_specks(count_elements):
    """Eight times the specks take about eight times the work, and not 64 times."""
    none, few, many = (count_elements(*specks(49, step)) for step in (None, 8, 4))
    assert many[1] > 6 * few[1] > 500
    assert many[0] - none[0] < 1.1 * (many[1] / few[1]) * (few[0] - none[0])


def test_work_hardly_grows_with_the_volume(count_elements):
    """Each further voxel is compared in both label maps, and no more is done about it."""
    small, large = (count_elements(*specks(size, None)) for size in (30, 60))
    assert small[1] == large[1] == 1
    assert large[0] - small[0] == 2 * (60**3 - 30**3)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"differ in shape: \(2, 2, 2\) and \(3, 2, 2\)"):
        find(np.zeros((2, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint8))


def lesion(label, volume_cm3, outcome):
    source = "prediction" if outcome == "false positive" else "truth"
    return Lesion("case_00001", source, label, 1, volume_cm3, outcome, 1.0, 0.0, 0.0, 0)


def test_outcomes_are_counted_by_label():
    rows = [
        lesion("tumor", 1, "false positive"),
        lesion("tumor", 2, "false positive"),
        lesion("cyst", 1, "detected"),
    ]
    counts = count_outcomes(rows, KITS)
    assert counts["tumor"] == {**dict.fromkeys(OUTCOMES, 0), "false positive": 2}
    assert counts["cyst"] == {**dict.fromkeys(OUTCOMES, 0), "detected": 1}


def test_a_case_in_words():
    rows = [
        lesion("tumor", 30, "detected"),
        lesion("cyst", 0.42, "misclassified"),
        lesion("tumor", 2.08, "missed"),
        lesion("tumor", 0.3, "false positive"),
    ]
    assert describe_case(rows, KITS) == (
        "tumor 2.1 cm³ missed; cyst 0.4 cm³ misclassified as tumor; 1 false-positive tumor"
    )
    assert describe_case(rows[:1], KITS) == "no failure"
    rows = [lesion("cyst", volume, "missed") for volume in (5, 4, 3, 0.04)]
    rows += [lesion("cyst", 1, "false positive")] * 2
    assert describe_case(rows, KITS) == (
        "cyst 5.0 cm³ missed; cyst 4.0 cm³ missed; cyst 3.0 cm³ missed; "
        "1 smaller failure; 2 false-positive cysts"
    )
    assert describe_case([rows[3]], KITS) == "cyst 0.04 cm³ missed"


@pytest.mark.skipif(not DATA.exists(), reason="needs the real label and prediction of case_00021")
def test_a_real_case():
    truth = read_label(DATA / "kits21/case_00021/aggregated_MAJ_seg.nii.gz")
    prediction = read_label(DATA / "predictions/case_00021.nii.gz")
    rows = find_lesions("case_00021", prediction.array, truth.array, truth.grid.voxel_mm3, KITS)
    assert [(row.label, row.outcome, round(row.volume_cm3, 1)) for row in rows] == [
        ("tumor", "detected", 26.5),
        ("cyst", "detected", 8.0),
        ("cyst", "detected", 2.3),
        ("cyst", "detected", 1.8),
        ("cyst", "false positive", 0.4),
    ]
    assert all(0.8 < row.covered < 1 and row.excess < 0.1 for row in rows[:4])
