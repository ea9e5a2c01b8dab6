"""Linear resampling: SciPy's numbers, known answers, and parts that equal those of the whole."""

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.image.resample import (
    interpolate_linear,
    linear_neighbors,
    nearest_neighbors,
    resample_nearest,
)

SHAPES = [(20, 18, 22), (7, 30, 5), (3, 9, 11), (1, 1, 1), (23, 9, 8)]


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def resample_linear(array, shape, box=(slice(None),) * 3):
    sizes = zip(array.shape[-3:], shape, box, strict=True)
    parts = [linear_neighbors(n_in, n_out).part(part) for n_in, n_out, part in sizes]
    return interpolate_linear(array, parts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", [(10, 9, 11), (1, 2, 3)])
def test_values_are_scipys(before, shape):
    array = noise(before)
    zoom = np.divide(shape, before)
    expected = ndimage.zoom(array.astype(np.float64), zoom, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resample_linear(array, shape), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([0, 1], [0, 0.25, 0.75, 1]),
        ([3, 9, 0], [3, 3, 5, 7, 9, 6, 3, 0, 0]),
        ([0, 2, 4, 6, 8, 10], [1, 5, 9]),
        ([0, 2, 4, 6, 8, 10], [0.5, 3.5, 6.5, 9.5]),
        ([7], [7, 7, 7]),
        ([1, 5], [3]),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_known_answers_on_each_axis(line, expected, axis):
    """Voxel centers, not corners: nothing shifts, and the edge voxels are continued outside.

    NumPy's interpolation between the centers gives the same, for it holds the ends.
    """
    shape = np.ones(3, int)
    shape[axis] = len(expected)
    array = np.moveaxis(np.array(line, np.float32).reshape(-1, 1, 1), 0, axis)
    found = resample_linear(array, shape).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    centers = (np.arange(len(expected)) + 0.5) * len(line) / len(expected) - 0.5
    np.testing.assert_allclose(found, np.interp(centers, np.arange(len(line)), line), atol=1e-6)


def test_the_same_grid_is_the_same_array():
    array = noise((4, 3, 5, 6))
    np.testing.assert_array_equal(resample_linear(array, (3, 5, 6)), array)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_part_equals_that_of_the_whole(shape):
    """Bit for bit, in slabs and in boxes."""
    array = noise((4, 10, 9, 11))
    whole = resample_linear(array, shape)
    for thickness in (1, 2, 5):
        slabs = [
            resample_linear(array, shape, (slice(z, z + thickness), slice(None), slice(None)))
            for z in range(0, shape[0], thickness)
        ]
        np.testing.assert_array_equal(np.concatenate(slabs, axis=1), whole)
    box = (slice(0, 5), slice(2, 7), slice(3, 4))
    np.testing.assert_array_equal(resample_linear(array, shape, box), whole[:, *box])


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbors_of_an_input_that_begins_later(shape):
    """The planes before the first neighbor may be gone."""
    array = noise((10, 9, 11))
    whole = resample_linear(array, shape)
    z, y, x = (linear_neighbors(*sizes) for sizes in zip(array.shape, shape, strict=True))
    last = slice(shape[0] - 1, shape[0])
    first = int(z.lower[-1])
    found = interpolate_linear(array[first:], (z.part(last, first), y, x))
    np.testing.assert_array_equal(found, whole[last])


@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_neighbors_as_weights(shape):
    """Weights of 1 and 0 give the nearest voxel itself."""
    array = noise((10, 9, 11))
    nearest = [nearest_neighbors(*sizes) for sizes in zip(array.shape, shape, strict=True)]
    found = interpolate_linear(array, nearest)
    np.testing.assert_array_equal(found, resample_nearest(array, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_mirrored_input_gives_mirrored_result(shape):
    array = noise((10, 9, 11))
    for axis in range(3):
        mirrored = resample_linear(np.flip(array, axis), shape)
        np.testing.assert_array_equal(mirrored, np.flip(resample_linear(array, shape), axis))


def test_each_leading_index_is_resampled_alone():
    array = noise((4, 5, 6, 7))
    together = resample_linear(array, (9, 4, 13))
    for one, found in zip(array, together, strict=True):
        np.testing.assert_array_equal(resample_linear(one, (9, 4, 13)), found)
