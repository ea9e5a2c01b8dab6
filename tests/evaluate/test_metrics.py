"""Dice, surface Dice and the Hausdorff distance: by hand, and equal to surface-distance."""

import tracemalloc
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.evaluate import metrics
from kitsjax.evaluate.metrics import compare_surfaces, dice
from kitsjax.evaluate.surfaces import Mask, Surface, cut_blocks, find_surface

with warnings.catch_warnings():
    # The package imports deprecated names of SciPy.
    warnings.simplefilter("ignore")
    from surface_distance import metrics as reference

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
UNIT = (1.0, 1.0, 1.0)


@pytest.fixture
def offsets(request, monkeypatch):
    """Look up so few offsets that some elements, or all, need the search tree."""
    monkeypatch.setattr(metrics, "_OFFSETS", request.param)
    metrics._ball_offsets.cache_clear()
    yield
    metrics._ball_offsets.cache_clear()


def cut(array, origin=(0, 0, 0)):
    return Mask(tuple(cut_blocks(array, origin)))


def scores(prediction, truth, spacing_mm, tolerance_mm):
    """(Dice, surface Dice, Hausdorff 95) of two arrays."""
    a, b = cut(prediction), cut(truth)
    surfaces = find_surface(a, spacing_mm), find_surface(b, spacing_mm)
    return dice(a, b), *compare_surfaces(*surfaces, tolerance_mm)


def surface_dice(prediction, truth, spacing_mm, tolerance_mm):
    return scores(prediction, truth, spacing_mm, tolerance_mm)[1]


def reference_scores(prediction, truth, spacing_mm, tolerance_mm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distances = reference.compute_surface_distances(truth, prediction, spacing_mm)
    return (
        reference.compute_dice_coefficient(truth, prediction),
        reference.compute_surface_dice_at_tolerance(distances, tolerance_mm),
        reference.compute_robust_hausdorff(distances, 95),
    )


def assert_equal_to_the_package(*case):
    assert scores(*case) == pytest.approx(reference_scores(*case), abs=1e-9)


def empty(*shape):
    return np.zeros(shape, bool)


def box(shape, *corners):
    mask = empty(*shape)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return mask


def voxel(shape, *index):
    mask = empty(*shape)
    mask[index] = True
    return mask


# By hand


def test_dice_of_two_overlapping_boxes():
    # 8 and 12 voxels, 4 in common.
    a = box((4, 4, 4), (0, 2), (0, 2), (0, 2))
    b = box((4, 4, 4), (0, 3), (0, 2), (1, 3))
    assert dice(cut(a), cut(b)) == 2 * 4 / (8 + 12)


def test_dice_of_masks_that_start_anywhere():
    rng = np.random.default_rng(0)
    for _ in range(50):
        volume = np.zeros((2, 80, 12, 12), bool)
        masks = []
        for whole in volume:
            shape, corner = rng.integers(1, [40, 8, 8]), rng.integers(0, [40, 5, 5])
            part = rng.random(shape) < 0.5
            whole[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] = part
            masks.append(cut(part, tuple(corner.tolist())))
        common, total = (volume[0] & volume[1]).sum(), volume.sum()
        assert dice(*masks) == pytest.approx(2 * common / total if total else 1, abs=1e-15)


def test_empty_masks():
    one, none = voxel((3, 3, 3), 1, 1, 1), empty(3, 3, 3)
    for a, b, expected in [(none, none, 1), (one, none, 0), (none, one, 0), (one, one, 1)]:
        found = scores(a, b, UNIT, 1.0)
        assert found[:2] == (expected, expected)
        assert np.isnan(found[2]) == (a is none or b is none)


def test_two_voxels_apart_along_an_axis():
    # Voxel surfaces are 2 corners deep, so at n = 2 apart the facing corners are 1 apart and the
    # others 2: half of each surface is within 1.
    a, b = voxel((1, 1, 9), 0, 0, 1), voxel((1, 1, 9), 0, 0, 3)
    assert surface_dice(a, b, UNIT, 0.99) == 0
    assert surface_dice(a, b, UNIT, 1.0) == pytest.approx(0.5)
    assert surface_dice(a, b, UNIT, 1.99) == pytest.approx(0.5)
    assert scores(a, b, UNIT, 2.0)[1:] == (1, 2)


def test_neighboring_voxels_share_corners():
    a, b = voxel((3, 3, 3), 1, 1, 1), voxel((3, 3, 3), 1, 2, 1)
    assert surface_dice(a, b, UNIT, 0.0) == pytest.approx(0.5)
    assert surface_dice(a, b, UNIT, 1.0) == 1


def test_hausdorff_ignores_a_twentieth():
    """A twentieth of the area may be farther; the larger of both surfaces' distances counts."""
    ends = [[0, 30], [0, 0], [0, 0]]
    point = Surface(np.zeros((3, 1), np.int32), np.array([1.0]), UNIT)
    for far_mm2, expected in [(0.04, 0), (0.06, 30)]:
        pair = Surface(np.array(ends, np.int32), np.array([1 - far_mm2, far_mm2]), UNIT)
        assert compare_surfaces(point, pair, 1.0).hausdorff95_mm == expected
        assert compare_surfaces(pair, point, 1.0).hausdorff95_mm == expected


def test_surface_dice_weighs_by_area():
    a = Surface(np.array([[0], [0], [0]], np.int32), np.array([1.0]), UNIT)
    b = Surface(np.array([[0, 9], [0, 9], [3, 9]], np.int32), np.array([2.0, 3.0]), UNIT)
    assert compare_surfaces(a, b, 3.0).surface_dice == pytest.approx((1 + 2) / 6)


def test_different_spacings_are_refused():
    mask = cut(voxel((3, 3, 3), 1, 1, 1))
    with pytest.raises(ValueError, match="differ in spacing"):
        compare_surfaces(find_surface(mask, UNIT), find_surface(mask, (1.0, 1.0, 2.0)), 1.0)


# Equal to the package


@pytest.mark.parametrize("step", [0.1, 0.3, 0.7, 0.78125, 1.1, 1.99])
@pytest.mark.parametrize("offsets", [256, 1], indirect=True)
@pytest.mark.usefixtures("offsets")
def test_a_tolerance_equal_to_the_distance_counts(step):
    a, b = box((8, 8, 8), (2, 6), (2, 6), (1, 4)), box((8, 8, 8), (2, 6), (2, 6), (4, 7))
    spacing_mm = (9.0, 9.0, step)
    for tolerance_mm in (step, np.nextafter(step, 0), 3 * step, np.sqrt((3 * step) ** 2)):
        assert_equal_to_the_package(a, b, spacing_mm, tolerance_mm)
    assert surface_dice(a, b, spacing_mm, step) > surface_dice(
        a, b, spacing_mm, np.nextafter(step, 0)
    )


def speckle(rng):
    """Two masks of random size and density, many cut at the border, some of one voxel."""
    shape = tuple(rng.integers(1, [40, 14, 14]))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < rng.choice([0.003, 0.1, 0.5, 0.95])
        mask[tuple(rng.integers(0, shape))] = True
        masks.append(mask)
    return masks


def blobs(rng):
    """Two smooth masks, much alike or far apart."""
    shape = tuple(rng.integers([20, 20, 20], [45, 45, 45]))
    noise = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 3, 3, 3))
    noise[1] = noise[0] + noise[1] * rng.choice([0.1, 1, 10])
    noise /= noise.std(axis=(1, 2, 3), keepdims=True)
    masks = noise > rng.uniform(0, 2, 2)[:, None, None, None]
    masks[:, *rng.integers(0, shape)] = True
    return masks


@cache
def random_cases(make, count):
    """Draw cases for `scores`, each with the package's answer."""
    rng = np.random.default_rng(1)
    cases = [(*make(rng), tuple(rng.uniform(0.3, 3, 3)), rng.uniform(0, 5)) for _ in range(count)]
    return [(case, reference_scores(*case)) for case in cases]


@pytest.mark.parametrize(("make", "count"), [(speckle, 150), (blobs, 25)])
@pytest.mark.parametrize("offsets", [256, 8], indirect=True)
@pytest.mark.usefixtures("offsets")
def test_random_masks(make, count):
    for case, expected in random_cases(make, count):
        assert scores(*case) == pytest.approx(expected, abs=1e-9)


def test_full_volume_and_single_voxel():
    full, one = np.ones((5, 6, 7), bool), voxel((5, 6, 7), 4, 0, 6)
    for a, b in [(full, one), (one, full), (full, full), (one, voxel((5, 6, 7), 0, 5, 0))]:
        assert_equal_to_the_package(a, b, (5.0, 0.8, 0.8), 1.1)


def test_an_infinite_tolerance_reaches_everything():
    a, b = speckle(np.random.default_rng(2))
    assert surface_dice(a, b, UNIT, np.inf) == pytest.approx(1)


def ellipsoid(shape, *center):
    offsets = np.ogrid[tuple(map(slice, shape))]
    radii = (9, 14, 12)
    return sum(((o - c) / r) ** 2 for o, c, r in zip(offsets, center, radii, strict=True)) < 1


def test_each_way_to_a_distance(monkeypatch):
    """Each way is taken once a surface, and gives the package's scores."""
    taken = []
    for name in ("_far_percentile", "_search_tree"):
        original = getattr(metrics, name)
        monkeypatch.setattr(
            metrics, name, lambda *args, f=original, n=name: taken.append(n) or f(*args)
        )
    shape, spacing_mm = (60, 70, 80), (1.0, 0.8, 0.8)
    truth = ellipsoid(shape, 30, 30, 30)
    for center, tolerance_mm, expected in [
        ((30, 31, 32), 1.1, []),
        ((30, 31, 32), 9.0, ["_search_tree"]),
        ((30, 50, 60), 1.1, ["_far_percentile", "_search_tree"]),
    ]:
        taken.clear()
        assert_equal_to_the_package(ellipsoid(shape, *center), truth, spacing_mm, tolerance_mm)
        assert taken == 2 * expected


def test_most_distant_elements_are_bounded_only(monkeypatch):
    asked = []
    original = metrics._search_tree
    monkeypatch.setattr(
        metrics, "_search_tree", lambda *args: asked.append(args[0].shape[1]) or original(*args)
    )
    rng = np.random.default_rng(3)
    truth = ellipsoid((90, 90, 90), 10, 15, 15)
    prediction = truth | (rng.random(truth.shape) < 0.002)
    assert_equal_to_the_package(prediction, truth, UNIT, 1.1)
    elements = len(find_surface(cut(prediction), UNIT).areas_mm2)
    assert sum(asked) < elements / 4


@pytest.mark.parametrize("tolerance_mm", [1.03, 9.0])
def test_far_false_positives(tolerance_mm):
    """They add their area to the scores, and little memory."""
    shape, spacing_mm = (80, 300, 300), (1.0, 0.8, 0.8)
    truth = ellipsoid(shape, 40, 150, 140)
    prediction = np.roll(truth, (1, 2), (1, 2))
    near, hausdorff = scores(prediction, truth, spacing_mm, tolerance_mm)[1:]
    area = sum(find_surface(cut(m), spacing_mm).areas_mm2.sum() for m in (prediction, truth))
    prediction[1, 1, 1] = prediction[-2, -2, -2] = True
    stray = 2 * find_surface(cut(voxel((1, 1, 1), 0, 0, 0)), spacing_mm).areas_mm2.sum()
    tracemalloc.start()
    far = scores(prediction, truth, spacing_mm, tolerance_mm)[1:]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert far == pytest.approx((near * area / (area + stray), hausdorff), abs=1e-12)
    # One array of the volume's voxels, such as a mask of both, would take more.
    assert peak < np.prod(shape) / 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_real_masks():
    from kitsjax.image.read_nifti import read_label

    truth = read_label(DATA / "kits21/case_00021/aggregated_MAJ_seg.nii.gz")
    prediction = read_label(DATA / "predictions/case_00021.nii.gz")
    for labels in [(1, 2, 3), (2, 3), (2,), (3,)]:
        masks = np.isin(prediction.array, labels), np.isin(truth.array, labels)
        for tolerance_mm in (0.5, 1.1, truth.spacing_mm[0]):
            assert_equal_to_the_package(*masks, truth.spacing_mm, tolerance_mm)
