"""Connected components, by label maps whose answers are counted by hand and by SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.evaluate.components import find_components
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR

SHAPE = (12, 30, 30)


def find(label, min_voxels=1, listed=None):
    """Find the components among the listed voxels of a label map, or among all that are labeled."""
    voxels = np.nonzero(label if listed is None else listed)
    return find_components(label[voxels], voxels, label.shape, min_voxels, KITS.lesions)


def label_voxels(value, *places):
    label = np.zeros(SHAPE, np.uint8)
    for place in places:
        label[place] = value
    return label


def test_order_labels_sizes_and_slices():
    label = np.zeros(SHAPE, np.uint8)
    label[1, 1, 0:3] = label[5, 1, 0:9] = CYST
    label[3, 1, 0:2] = label[7, 1, 0:5] = TUMOR
    label[9, 1, 0:9] = KIDNEY
    found = find(label)
    assert found.labels.tolist() == [TUMOR, TUMOR, CYST, CYST]
    assert found.sizes.tolist() == [5, 2, 9, 3]
    assert found.slices.tolist() == [7, 3, 5, 1]
    assert found.of_voxel.tolist() == [3] * 3 + [1] * 2 + [2] * 9 + [0] * 5 + [-1] * 9


def test_no_voxels_and_none_of_a_mass():
    for label in (label_voxels(TUMOR), label_voxels(KIDNEY, (3, 3, 3))):
        found = find(label)
        assert [len(array) for array in found] == [0, 0, 0, np.count_nonzero(label)]
        assert set(found.of_voxel.tolist()) <= {-1}


def test_voxels_touching_at_a_corner_are_one():
    label = label_voxels(TUMOR, (3, 3, 3), (4, 4, 4), (5, 3, 5), (5, 2, 6))
    assert find(label).sizes.tolist() == [4]
    label[7, 2, 6] = TUMOR
    assert find(label).sizes.tolist() == [4, 1]


def test_components_end_at_the_volumes_edge():
    """The last voxel of a row or plane does not touch the first of the next."""
    places = (3, 5, -1), (3, 6, 0), (4, -1, 9), (5, 0, 9), (6, -1, -1), (8, 0, 0)
    assert find(label_voxels(CYST, *places)).sizes.tolist() == [1] * 6


def test_labels_that_touch_are_apart():
    label = label_voxels(TUMOR, (3, 3, 3), (3, 3, 5))
    label[3, 3, 4] = CYST
    assert find(label).sizes.tolist() == [1, 1, 1]


def test_smaller_components_are_left_out():
    label = np.zeros(SHAPE, np.uint8)
    label[1, 1, :4], label[3, 1, :3], label[5, 1, :2] = TUMOR, TUMOR, CYST
    assert find(label, 2).sizes.tolist() == [4, 3, 2]
    found = find(label, 2.1)
    assert found.sizes.tolist() == [4, 3]
    assert found.of_voxel.tolist() == [0] * 4 + [1] * 3 + [-1] * 2


def test_voxels_of_no_mass_may_be_listed():
    label = label_voxels(TUMOR, (3, 3, 3), (3, 3, 5))
    found = find(label, listed=np.ones(SHAPE))
    assert found.sizes.tolist() == [1, 1]
    assert np.flatnonzero(found.of_voxel >= 0).tolist() == np.flatnonzero(label).tolist()


def test_slice_shows_most_of_the_component():
    label = np.zeros(SHAPE, np.uint8)
    label[2, 2:4, 2:6] = label[3:5, 2:5, 2:6] = CYST
    assert find(label).slices.tolist() == [3], "of equals the first"
    label[4, 2, 6] = CYST
    label[9:11, 20, 20:22] = CYST
    label[11, 20, 20:25] = CYST
    assert find(label).slices.tolist() == [4, 11]


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.7])
def test_components_are_those_of_scipy(density):
    mask = np.random.default_rng(3).random((9, 14, 17)) < density
    found = find(mask * np.uint8(CYST))
    components, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())[1:]
    assert found.sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    # Each component of ours lies in one of SciPy's, and the other way round.
    pairs = set(zip(found.of_voxel.tolist(), components[mask].tolist(), strict=True))
    assert len(pairs) == count == len(found.sizes)
