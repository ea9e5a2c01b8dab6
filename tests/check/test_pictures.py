from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from kitsjax.check.pictures import LONGER_EDGE, draw_case
from kitsjax.image.volume import make_volume
from kitsjax.labels import KITS

RED, GREEN = (0, (1, 2)), (1, (0, 2))
"""The channel that a color has, and those that it lacks."""


def draw(array, label, spacing_mm=(2, 1, 1)):
    image = make_volume(array, spacing_mm)
    return [
        imread(BytesIO(picture), format="jpg").astype(int)
        for picture in draw_case(image, label, KITS)
    ]


def pixels(picture, color):
    """Return the pixels (n, 2) of a contour's color."""
    channel, others = color
    rest = picture[..., list(others)].max(axis=-1)
    return np.argwhere(picture[..., channel] > rest + 60)


@pytest.fixture(scope="module")
def scan():
    """A CT of air with a bright tumor above and left of its middle, around slice 5 of 20."""
    array = np.full((20, 64, 64), -1000, np.float32)
    label = np.zeros(array.shape, np.uint8)
    box = np.s_[4:7, 8:24, 36:56]
    array[box], label[box] = 500, 2
    return array, label


def test_pictures_have_square_pixels(scan):
    """64 x 64 mm seen from below, and 40 x 64 mm from the front."""
    axial, coronal = draw(*scan)
    assert axial.shape == (LONGER_EDGE, LONGER_EDGE, 3)
    assert coronal.shape == (LONGER_EDGE * 40 // 64, LONGER_EDGE, 3)


def test_contours_run_around_the_labels(scan):
    """Four pixels stand for a voxel, so the contour's box is four times the label's."""
    axial, coronal = draw(*scan)
    for picture, box in ((axial, (8, 24, 36, 56)), (coronal, (8, 14, 36, 56))):
        found = pixels(picture, GREEN)
        low, high = found.min(axis=0), found.max(axis=0) + 1
        expected = np.multiply(box, 4)
        assert np.abs(low - expected[::2]).max() <= 2
        assert np.abs(high - expected[1::2]).max() <= 2
        # The line is one pixel wide, and as colored everywhere.
        assert len(found) == pytest.approx(2 * (high - low).sum() - 4, rel=0.1)
        # Within, the CT is seen.
        middle = (low + high) // 2
        assert picture[tuple(middle)].min() > 230


def test_without_a_label_there_is_no_color(scan):
    array, _ = scan
    for picture in draw(array, None):
        assert len(pixels(picture, GREEN)) == len(pixels(picture, RED)) == 0


def test_a_lesion_decides_on_the_slice(scan):
    """A larger kidney elsewhere does not."""
    array, label = scan
    with_kidney = label.copy()
    with_kidney[12:18, 30:60, 2:30] = 1
    axial, coronal = draw(array, with_kidney)
    for picture in (axial, coronal):
        assert len(pixels(picture, GREEN))
        assert not len(pixels(picture, RED))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (300, 4, 4), (2, 700, 3)])
def test_any_shape_is_drawn(shape):
    for picture in draw(np.zeros(shape, np.float32), np.ones(shape, np.uint8)):
        assert max(picture.shape[:2]) == LONGER_EDGE
