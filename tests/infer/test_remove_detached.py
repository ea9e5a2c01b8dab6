import numpy as np
import pytest

from kitsjax.infer.remove_detached import remove_detached
from kitsjax.labels import BACKGROUND, CYST, KIDNEY, KITS, TUMOR

VOXEL_MM3 = 500.0


def two_kidneys():
    """Return a map with kidneys of 4 ml and 1 ml, each with a tumor, and a cyst on its own."""
    label = np.zeros((6, 8, 12), np.uint8)
    label[1:3, 1:3, 1:3] = KIDNEY
    # It touches the kidney by a corner alone.
    label[3, 3, 3] = TUMOR
    label[1, 1, 8:10] = KIDNEY
    label[1, 2, 8:10] = TUMOR
    label[5, 6:8, 9:12] = CYST
    return label


@pytest.mark.parametrize(
    ("least_kidney_ml", "removed"),
    [
        (0.0, []),
        (0.1, [np.s_[5, 6:8, 9:12]]),
        (1.0, [np.s_[5, 6:8, 9:12]]),
        (1.1, [np.s_[5, 6:8, 9:12], np.s_[1, 1:3, 8:10]]),
        (4.0, [np.s_[5, 6:8, 9:12], np.s_[1, 1:3, 8:10]]),
        (4.1, [np.s_[:]]),
    ],
)
def test_components_need_kidney(least_kidney_ml, removed):
    label = two_kidneys()
    # Prediction may give an array that must not be written to.
    label.flags.writeable = False
    expected = two_kidneys()
    for part in removed:
        expected[part] = BACKGROUND
    found = remove_detached(label, VOXEL_MM3, least_kidney_ml, KITS)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_an_empty_map_stays_empty():
    assert not remove_detached(np.zeros((3, 4, 5), np.uint8), VOXEL_MM3, 1.0, KITS).any()
