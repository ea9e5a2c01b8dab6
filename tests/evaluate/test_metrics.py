"""Volumetric and surface Dice: answers by hand, and equality with the PyPI package."""

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from kitsjax.evaluate import metrics
from kitsjax.evaluate.metrics import Surface, bounding_box, dice, find_surface, surface_dice

with warnings.catch_warnings():
    # The package imports deprecated names of SciPy.
    warnings.simplefilter("ignore")
    from surface_distance import lookup_tables
    from surface_distance import metrics as reference

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
UNIT = (1.0, 1.0, 1.0)


def reference_surface_dice(prediction, truth, spacing_mm, tolerance_mm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distances = reference.compute_surface_distances(truth, prediction, spacing_mm)
    return reference.compute_surface_dice_at_tolerance(distances, tolerance_mm)


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


# Dice


def test_dice_of_two_overlapping_boxes_by_hand():
    # 8 and 12 voxels, 4 in common.
    a = box((4, 4, 4), (0, 2), (0, 2), (0, 2))
    b = box((4, 4, 4), (0, 3), (0, 2), (1, 3))
    assert dice(a, b) == 2 * 4 / (8 + 12)


@pytest.mark.parametrize("score", [dice, lambda a, b: surface_dice(a, b, UNIT, 1.0)])
def test_empty_masks(score):
    one = voxel((3, 3, 3), 1, 1, 1)
    assert score(empty(3, 3, 3), empty(3, 3, 3)) == 1
    assert score(one, empty(3, 3, 3)) == 0
    assert score(empty(3, 3, 3), one) == 0
    assert score(one, one) == 1


@pytest.mark.parametrize("score", [dice, lambda a, b: surface_dice(a, b, UNIT, 1.0)])
def test_masks_of_different_shape_are_refused(score):
    with pytest.raises(ValueError, match=r"\(2, 2, 2\) and \(2, 2, 3\)"):
        score(empty(2, 2, 2), empty(2, 2, 3))


# Areas


def test_areas_equal_the_package_for_every_neighborhood():
    spacing_mm = (3.0, 0.7, 0.9)
    ours = metrics._unit_areas() @ metrics._facet_sizes(spacing_mm)
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    # The package counts the eight voxels' bits from the other end.
    mirrored = [int(f"{code:08b}"[::-1], 2) for code in range(256)]
    np.testing.assert_allclose(ours, theirs[mirrored], rtol=1e-12)


def test_areas_of_a_voxel_and_a_box_by_hand():
    # A voxel is cut to an octahedron: 8 triangles of half-diagonals, sqrt(3)/8 each.
    single = find_surface(voxel((1, 1, 1), 0, 0, 0), UNIT)
    assert single.areas_mm2.sum() == pytest.approx(np.sqrt(3))
    # A cube of 4 voxels: on each of 6 faces 3x3 whole corners, on each of 12 edges 3 rectangles
    # of sqrt(2)/2, and 8 corner triangles.
    cube = find_surface(box((6, 6, 6), (1, 5), (1, 5), (1, 5)), UNIT)
    assert cube.areas_mm2.sum() == pytest.approx(54 + 18 * np.sqrt(2) + np.sqrt(3))
    # The same cube of voxels of 2 x 3 x 5 mm, one face's corner across z: 3 x 5 mm.
    stretched = find_surface(box((6, 6, 6), (1, 5), (1, 5), (1, 5)), (2.0, 3.0, 5.0))
    middle = np.all(stretched.corners == [[1], [3], [3]], axis=0)
    assert stretched.areas_mm2[middle].tolist() == [15]


def test_surface_is_found_where_the_mask_is_and_in_order():
    mask = np.random.default_rng(0).random((40, 9, 7)) < 0.1
    surface = find_surface(mask, UNIT)
    flat = np.ravel_multi_index(tuple(surface.corners), (41, 10, 8))
    assert (np.diff(flat) > 0).all()
    moved = find_surface(np.pad(mask, ((19, 0), (5, 0), (3, 0))), UNIT)
    np.testing.assert_array_equal(moved.corners, np.add(surface.corners, [[19], [5], [3]]))
    np.testing.assert_array_equal(moved.areas_mm2, surface.areas_mm2)


def test_bounding_box():
    assert bounding_box(box((5, 6, 7), (1, 3), (0, 6), (6, 7))) == (
        slice(1, 3),
        slice(0, 6),
        slice(6, 7),
    )
    assert bounding_box(empty(2, 2, 2)) is None


# Surface Dice


def test_two_voxels_apart_along_an_axis_by_hand():
    # Voxel surfaces are 2 corners deep, so at n = 2 apart the facing corners are 1 apart and the
    # others 2: half of each surface is within 1.
    a, b = voxel((1, 1, 9), 0, 0, 1), voxel((1, 1, 9), 0, 0, 3)
    assert surface_dice(a, b, UNIT, 0.99) == 0
    assert surface_dice(a, b, UNIT, 1.0) == pytest.approx(0.5)
    assert surface_dice(a, b, UNIT, 1.99) == pytest.approx(0.5)
    assert surface_dice(a, b, UNIT, 2.0) == 1


def test_neighboring_voxels_share_a_face_of_corners():
    a, b = voxel((3, 3, 3), 1, 1, 1), voxel((3, 3, 3), 1, 2, 1)
    assert surface_dice(a, b, UNIT, 0.0) == pytest.approx(0.5)
    assert surface_dice(a, b, UNIT, 1.0) == 1


@pytest.mark.parametrize("step", [0.1, 0.3, 0.7, 0.78125, 1.1, 1.99])
@pytest.mark.parametrize("most_offsets", [4096, 0])
def test_a_tolerance_equal_to_the_distance_counts(step, most_offsets, monkeypatch):
    monkeypatch.setattr(metrics, "_MOST_OFFSETS", most_offsets)
    a, b = box((8, 8, 8), (2, 6), (2, 6), (1, 4)), box((8, 8, 8), (2, 6), (2, 6), (4, 7))
    spacing_mm = (9.0, 9.0, step)
    for tolerance_mm in (step, np.nextafter(step, 0), 3 * step, np.sqrt((3 * step) ** 2)):
        expected = reference_surface_dice(a, b, spacing_mm, tolerance_mm)
        assert surface_dice(a, b, spacing_mm, tolerance_mm) == pytest.approx(expected, abs=1e-12)
    assert surface_dice(a, b, spacing_mm, step) > surface_dice(
        a, b, spacing_mm, np.nextafter(step, 0)
    )


def random_pair(rng):
    """Two masks of random size and density, some cut at the border, some of one voxel."""
    shape = tuple(rng.integers(1, [40, 14, 14]))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < rng.choice([0.003, 0.1, 0.5, 0.95])
        mask[tuple(rng.integers(0, shape))] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize("most_offsets", [4096, 0])
def test_random_masks_equal_the_package(most_offsets, monkeypatch):
    monkeypatch.setattr(metrics, "_MOST_OFFSETS", most_offsets)
    rng = np.random.default_rng(1)
    for _ in range(150):
        a, b = random_pair(rng)
        spacing_mm, tolerance_mm = tuple(rng.uniform(0.3, 3, 3)), rng.uniform(0, 5)
        expected = reference_surface_dice(a, b, spacing_mm, tolerance_mm)
        assert surface_dice(a, b, spacing_mm, tolerance_mm) == pytest.approx(expected, abs=1e-9)


def test_full_volume_and_single_voxel_equal_the_package():
    full, one = np.ones((5, 6, 7), bool), voxel((5, 6, 7), 4, 0, 6)
    for a, b in [(full, one), (one, full), (full, full)]:
        expected = reference_surface_dice(a, b, (5.0, 0.8, 0.8), 1.1)
        assert surface_dice(a, b, (5.0, 0.8, 0.8), 1.1) == pytest.approx(expected, abs=1e-9)


def test_an_infinite_tolerance_reaches_everything():
    a, b = random_pair(np.random.default_rng(2))
    assert surface_dice(a, b, UNIT, np.inf) == pytest.approx(1)


def test_each_path_is_taken(monkeypatch):
    a, b = (
        box((30, 30, 30), (2, 20), (2, 20), (2, 20)),
        box((30, 30, 30), (5, 25), (5, 25), (5, 25)),
    )
    taken = []
    for name in ("_look_up", "_map_distances"):
        original = getattr(metrics, name)
        monkeypatch.setattr(
            metrics, name, lambda *args, f=original, n=name: taken.append(n) or f(*args)
        )
    surface_dice(a, b, UNIT, 1.1)
    surface_dice(a, b, UNIT, 12.0)
    assert taken == ["_look_up"] * 2 + ["_map_distances"] * 2


@pytest.mark.parametrize("tolerance_mm", [1.03, 9.0])
def test_far_false_positives_add_their_area_and_little_memory(tolerance_mm):
    shape, spacing_mm = (80, 300, 300), (1.0, 0.8, 0.8)
    z, y, x = np.ogrid[:80, :300, :300]
    truth = ((z - 40) / 9) ** 2 + ((y - 150) / 14) ** 2 + ((x - 140) / 12) ** 2 < 1
    prediction = np.roll(truth, (1, 2), (1, 2))
    near = surface_dice(prediction, truth, spacing_mm, tolerance_mm)
    area = sum(find_surface(m, spacing_mm).areas_mm2.sum() for m in (prediction, truth))
    prediction[1, 1, 1] = prediction[-2, -2, -2] = True
    stray = 2 * find_surface(voxel((1, 1, 1), 0, 0, 0), spacing_mm).areas_mm2.sum()
    tracemalloc.start()
    far = surface_dice(prediction, truth, spacing_mm, tolerance_mm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert far == pytest.approx(near * area / (area + stray), abs=1e-12)
    # A distance map of the whole volume takes twenty bytes a voxel.
    assert peak < np.prod(shape)


def test_elements_are_compared_on_one_grid():
    a = Surface(np.array([[0], [0], [0]], np.int32), np.array([1.0]))
    b = Surface(np.array([[0, 9], [0, 9], [3, 9]], np.int32), np.array([2.0, 3.0]))
    assert metrics.surface_overlap(a, b, UNIT, 3.0) == pytest.approx((1 + 2) / 6)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_real_masks_equal_the_package():
    from kitsjax.data.volume import read_label

    truth = read_label(DATA / "kits21/case_00021/aggregated_MAJ_seg.nii.gz")
    prediction = read_label(DATA / "predictions/case_00021.nii.gz")
    for labels in [(1, 2, 3), (2, 3), (2,), (3,)]:
        masks = np.isin(prediction.array, labels), np.isin(truth.array, labels)
        for tolerance_mm in (0.5, 1.1, truth.spacing_mm[1], truth.spacing_mm[0]):
            expected = reference_surface_dice(*masks, truth.spacing_mm, tolerance_mm)
            ours = surface_dice(*masks, truth.spacing_mm, tolerance_mm)
            assert ours == pytest.approx(expected, abs=1e-9)
