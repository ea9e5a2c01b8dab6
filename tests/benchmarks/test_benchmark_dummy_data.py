import numpy as np

from benchmarks.dummy_data import make_patches


def test_patches_repeat_and_hold_every_class():
    image, label = make_patches((8, 8, 8), 2)
    again, _ = make_patches((8, 8, 8), 2)
    np.testing.assert_array_equal(image, again)
    assert image.shape == label.shape == (2, 8, 8, 8)
    assert set(np.unique(label)) == {0, 1, 2, 3}
