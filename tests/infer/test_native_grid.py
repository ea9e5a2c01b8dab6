"""Labels from interpolated probabilities: known answers, SciPy's, and a bounded memory."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.image.resample import interpolate_linear, resample_nearest
from kitsjax.infer.lesion_certainty import LesionCertainty
from kitsjax.infer.native_grid import SLAB_SLICES, resample_label, resample_probabilities
from kitsjax.labels import KITS


def cut(array, planes):
    """Cut an array (..., z, y, x) into slabs of so many planes."""
    return [array[..., n : n + planes, :, :] for n in range(0, array.shape[-3], planes)]


def interpolate_label(by_class, shape, out=None, planes=3):
    slabs = cut(by_class, planes)
    like = np.empty(shape, np.uint8)
    return resample_probabilities(slabs, by_class.shape[1:], like, "probability", out)


def line_probabilities(foreground, axis, label=1):
    """Four classes along one axis; what is not the label is background."""
    by_class = np.zeros((4, len(foreground)), np.float32)
    by_class[label] = foreground
    by_class[0] = 1 - by_class[label]
    return np.moveaxis(by_class[..., None, None], 1, 1 + axis)


def random_probabilities(shape, seed=0, levels=None):
    """Background with a few blobs of the other classes, some at the edge of the volume."""
    rng = np.random.default_rng(seed)
    by_class = rng.random((4, *shape), np.float32) * 0.3
    by_class[0] += 0.5
    for label in (1, 2, 3):
        for _ in range(2):
            corner = rng.integers(-1, np.array(shape) - 1)
            place = tuple(slice(max(c, 0), c + 3) for c in corner)
            by_class[label][place] += 0.5 + rng.random()
    by_class /= by_class.sum(0)
    return by_class if levels is None else np.round(by_class * levels) / np.float32(levels)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("foreground", "expected"),
    [
        # The probability passes 1/2 at the border of the two voxels: there the edge stays.
        ([0.2, 0.8], [0, 0, 0, 0, 1, 1, 1, 1]),
        # Here it does so at 0.8 of the way between their centers: 1.2 output voxels further.
        ([0.1, 0.6], [0, 0, 0, 0, 0, 1, 1, 1]),
        # And here at 0.4 / 0.9 of it, before the border by less than half an output voxel.
        ([0.1, 1.0], [0, 0, 0, 0, 1, 1, 1, 1]),
        # At 0.1 / 0.6 of it, by more than one.
        ([0.4, 1.0], [0, 0, 0, 1, 1, 1, 1, 1]),
    ],
)
def test_an_edge_lies_where_probability_says(axis, foreground, expected):
    shape = np.ones(3, int)
    shape[axis] = 8
    found = interpolate_label(line_probabilities(foreground, axis), tuple(map(int, shape)))
    np.testing.assert_array_equal(found.ravel(), expected)


def test_twice_as_fine_keeps_hard_labels():
    label = np.random.default_rng(0).integers(0, 2, (4, 1, 1))
    by_class = line_probabilities(label.ravel().astype(np.float32), 0)
    np.testing.assert_array_equal(
        interpolate_label(by_class, (8, 1, 1)).ravel(), np.repeat(label.ravel(), 2)
    )


def test_of_equal_classes_the_lowest_wins():
    """Half as fine, a voxel lies between two: background wins against a class, and 1 against 3."""
    pairs = np.array([[0, 1], [2, 0], [3, 1], [2, 2]]).reshape(-1)
    by_class = np.eye(4, dtype=np.float32)[:, pairs, None, None]
    found = interpolate_label(by_class, (4, 1, 1))
    np.testing.assert_array_equal(found.ravel(), [0, 0, 1, 2])


def test_the_same_grid_keeps_the_argmax():
    by_class = random_probabilities((9, 8, 7))
    found = interpolate_label(by_class, (9, 8, 7))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_class.argmax(0))


@pytest.mark.parametrize("shape", [(21, 30, 33), (5, 40, 11), (33, 7, 6), (1, 1, 1), (9, 8, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_the_argmax_of_scipys(shape, seed):
    by_class = random_probabilities((9, 8, 11), seed)
    zoom = np.divide(shape, (9, 8, 11))
    expected = np.stack(
        [
            ndimage.zoom(one, zoom, order=1, mode="nearest", grid_mode=True)
            for one in by_class.astype(np.float64)
        ]
    )
    highest = np.sort(expected, axis=0)
    clear = highest[-1] - highest[-2] > 1e-6
    assert clear.mean() > 0.9
    out = np.full((4, *shape), np.nan, np.float32)
    found = interpolate_label(by_class, shape, out)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_array_equal(found[clear], expected.argmax(0)[clear])
    np.testing.assert_array_equal(found, out.argmax(0))


@pytest.mark.parametrize("levels", [None, 3, 5, 8])
@pytest.mark.parametrize("shape", [(21, 30, 33), (5, 40, 11), (33, 7, 6)])
def test_background_left_out_is_background(shape, levels):
    """The mask is the same where all voxels are computed, also for equal probabilities."""
    for seed in range(4):
        by_class = random_probabilities((12, 14, 13), seed, levels)
        out = np.empty((4, *shape), np.float32)
        expected = interpolate_label(by_class, shape, out)
        assert expected.any()
        np.testing.assert_array_equal(interpolate_label(by_class, shape), expected)


def test_foreground_between_coarse_voxels_is_lost():
    """A CT of much larger voxels than the network's sees only some rows and columns of it."""
    by_class = np.zeros((4, 4, 7, 7), np.float32)
    by_class[0] = 1
    for row, column in ((0, 3), (3, 0), (0, 0)):
        seldom = by_class.copy()
        seldom[:2, :, row, column] = np.array([0, 1], np.float32)[:, None]
        out = np.empty((4, 2, 1, 1), np.float32)
        expected = interpolate_label(seldom, (2, 1, 1), out)
        np.testing.assert_array_equal(interpolate_label(seldom, (2, 1, 1)), expected)
        assert not expected.any()


def test_no_foreground_is_no_work(monkeypatch):
    """Only the box around the foreground is interpolated."""
    sizes = []

    def record(planes, neighbors):
        sizes.append(tuple(len(axis.lower) for axis in neighbors))
        return interpolate_linear(planes, neighbors)

    monkeypatch.setattr("kitsjax.infer.native_grid.interpolate_linear", record)
    by_class = line_probabilities([0.4] * 10, 0)
    interpolate_label(by_class, (20, 3, 3))
    assert sizes == []
    by_class = np.zeros((4, 10, 10, 10), np.float32)
    by_class[0] = 1
    by_class[:2, 5, 2, 7] = 0.2, 0.8
    interpolate_label(by_class, (20, 20, 20))
    # Voxel n reaches from output voxel 2 n - 1 to 2 n + 2, and slices 9 to 12 lie in two slabs.
    assert sizes == [(4, 4, 4), (4, 4, 4)]


@pytest.mark.parametrize("shape", [(21, 30, 33), (5, 40, 11), (33, 7, 6), (1, 1, 1), (12, 14, 13)])
@pytest.mark.parametrize("way", ["label", "probability"])
def test_slabs_of_any_size_give_the_same(shape, way):
    """Bit for bit, as one slab of the whole volume does."""
    by_class, like = random_probabilities((12, 14, 13)), np.empty(shape, np.uint8)
    expected = np.empty((4, *shape), np.float32)
    label = resample_probabilities([by_class], (12, 14, 13), like, way, expected)
    if way == "label":
        np.testing.assert_array_equal(expected[2], resample_nearest(by_class[2], shape))
        slabs = cut(by_class.argmax(0).astype(np.uint8), 5)
        np.testing.assert_array_equal(resample_label(slabs, (12, 14, 13), like), label)
    for planes in (1, 2, 5, 11):
        out = np.empty_like(expected)
        found = resample_probabilities(cut(by_class, planes), (12, 14, 13), like, way, out)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(found, label)
        found = resample_probabilities(cut(by_class, planes), (12, 14, 13), like, way)
        np.testing.assert_array_equal(found, label)


@pytest.mark.parametrize("way", ["label", "probability"])
def test_certainty_is_listed_as_the_lesion_voxels(way):
    """In C order, whatever the slabs and the memory order, also of a CT that is never a lesion."""
    by_class, shape = random_probabilities((12, 14, 13)), (33, 30, 21)
    out = np.empty((4, *shape), np.float32)
    for like in (np.empty(shape, np.uint8), np.empty(shape[::-1], np.uint8).T):
        for planes in (2, 5):
            slabs = cut(by_class, planes)
            for written in (out, None):
                certainty = LesionCertainty(KITS)
                label = resample_probabilities(
                    slabs, (12, 14, 13), like, way, written, certainty.add
                )
                found = certainty.join()
                assert found.dtype == np.float32
                expected = (out[2] + out[3])[(label == 2) | (label == 3)]
                np.testing.assert_array_equal(found, expected)
                assert len(np.unique(found)) > 50
    empty, background = LesionCertainty(KITS), line_probabilities([0.1, 0.2], 1)
    resample_probabilities([background], (1, 2, 1), np.empty((3, 3, 3)), way, see=empty.add)
    assert empty.join().shape == (0,)
    none = LesionCertainty(dataclasses.replace(KITS, lesions=()))
    resample_probabilities([by_class], (12, 14, 13), np.empty(shape), way, see=none.add)
    assert none.join().shape == (0,)


@pytest.mark.parametrize("way", ["label", "probability"])
def test_labels_lie_in_memory_as_the_ct(way):
    """A CT whose z is fastest, as in KiTS' files, gets such a mask."""
    by_class, like = random_probabilities((9, 8, 11)), np.empty((33, 30, 21), np.uint8).T
    assert resample_probabilities([by_class], (9, 8, 11), like, way).T.flags.c_contiguous
    slabs = [by_class.argmax(0).astype(np.uint8)]
    assert resample_label(slabs, (9, 8, 11), like).T.flags.c_contiguous


@pytest.mark.parametrize("shape", [(64, 60, 70), (32, 60, 70), (6, 20, 90), (64, 10, 12)])
@pytest.mark.parametrize("all_voxels", [False, True])
def test_memory_is_bounded_by_slabs(shape, all_voxels):
    """Beyond the label map, however many slices there are: four slabs, and three of the given."""
    by_class = np.random.default_rng(0).random((4, 24, 30, 28), np.float32)
    out = np.empty((4, *shape), np.float32) if all_voxels else None
    like = np.empty(shape, np.uint8)
    slabs = (slab.copy() for slab in cut(by_class, 5))
    tracemalloc.start()
    resample_probabilities(slabs, (24, 30, 28), like, "probability", out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    slab = 4 * SLAB_SLICES * max(shape[1], 30) * max(shape[2], 28) * 4
    given = 4 * 5 * 30 * 28 * 4
    assert peak - np.prod(shape) < 4 * slab + 3 * given + 2**15
