import numpy as np
import pytest

from kitsjax.check.measure import mean_dice, measure_agreement, measure_image, round_hu
from kitsjax.data.instances import Instance
from kitsjax.data.normalization import count_hu
from kitsjax.image.volume import make_volume
from kitsjax.labels import KITS

BOX = (slice(0, 1), slice(0, 1), slice(0, 4))


def masks(*rows):
    return np.array(rows, bool)[:, None, None]


def facts(array):
    image = make_volume(array, (1, 1, 1))
    return measure_image(image, count_hu(round_hu(image)), None, KITS)


def test_mean_dice_of_pairs():
    """Dice of the three pairs: 2/3, 0 and 0."""
    assert mean_dice(masks([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1])) == pytest.approx(2 / 9)
    assert mean_dice(masks([0, 0, 0, 0], [0, 0, 0, 0])) == 1
    assert np.isnan(mean_dice(masks([1, 0, 0, 0])))


def test_agreement_is_the_mean_over_instances():
    """Instances with one annotation say nothing about agreement, but count their annotator."""
    instances = [
        Instance("tumor", 1, BOX, masks([1, 1, 0, 0], [1, 1, 0, 0]), (1, 2)),
        Instance("tumor", 2, BOX, masks([1, 1, 0, 0], [0, 0, 0, 1]), (1, 2)),
        Instance("cyst", 1, BOX, masks([1, 0, 0, 0]), (4,)),
    ]
    found, agreements = measure_agreement(instances)
    assert found == (3, {"tumor": 0.5})
    assert agreements[:2] == [1, 0]
    assert np.isnan(agreements[2])


def test_the_range_of_hu():
    """The percentiles are those of np.percentile."""
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10) - 700
    assert facts(array).hu == pytest.approx((-700, *np.percentile(array, [0.5, 99.5]), 299))


def test_the_digest_is_that_of_the_content():
    """The type does not matter, nor the sign of 0; any change of a voxel and the shape do."""
    array = np.random.default_rng(0).integers(-1000, 1000, (4, 6, 8)).astype(np.float32)
    other = array.copy()
    other[1, 2, 3] += 1
    one = facts(array).digest
    assert facts(array.astype(np.int16)).digest == one
    assert facts(other).digest != one
    assert facts(array.reshape(4, 8, 6)).digest != one
    # Attenuation per mm: every value rounds to 0 HU.
    assert facts(array / 1e5).digest != facts(other / 1e5).digest
    array[0, 0] = 0
    one = facts(array).digest
    array[0, 0] = -0.0
    assert facts(array).digest == one
