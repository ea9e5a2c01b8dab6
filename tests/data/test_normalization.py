"""Normalization by numbers: exact statistics of histograms, and tables of HU."""

from dataclasses import astuple

import numpy as np
import pytest
from raw_cases import SETTINGS, write_case

from kitsjax.data.kits import find_cases
from kitsjax.data.normalization import (
    Histogram,
    Normalization,
    choose_normalization,
    count_hu,
    make_table,
    measure_intensities,
    measure_normalization,
    normalize,
    pool_histograms,
)
from kitsjax.data.patches import read_patch
from kitsjax.data.preprocess import preprocess, resample_hu
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_volume
from kitsjax.settings import PreprocessSettings

EXTREMES = np.array([-32767, -20_000, -1, 0, 1, 20_000, 32767], np.int16)


def draw(number, deviation=300, seed=0):
    values = np.random.default_rng(seed).normal(-300, deviation, number)
    return np.rint(np.clip(values, -1024, 3071)).astype(np.int16)


@pytest.mark.parametrize("number", [1, 2, 3, 10, 999, 40_000])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (0, 100), (13.7, 50.1)])
def test_statistics_are_those_of_the_voxels(number, percentiles):
    """The percentiles to the bit, and the sums to their own rounding."""
    settings = PreprocessSettings(lower_percentile=percentiles[0], upper_percentile=percentiles[1])
    for deviation in (1, 40, 1000):
        voxels = draw(number, deviation)
        found = measure_normalization(count_hu(voxels.reshape(1, 1, -1)), settings)
        low, high = np.percentile(voxels.astype(float), percentiles)
        assert (found.low, found.high) == (low, high)
        clipped = np.clip(voxels.astype(float), low, high)
        expected = clipped.mean(), clipped.std()
        np.testing.assert_allclose((found.mean, found.deviation), expected, rtol=1e-12, atol=1e-12)


def test_histogram_repeats_to_the_sorted_voxels():
    for image in (draw(600).reshape(6, 10, 10), EXTREMES.reshape(7, 1, 1)):
        found = count_hu(image)
        np.testing.assert_array_equal(np.repeat(found.hu, found.counts), np.sort(image, None))


def test_pooling_is_counting_all_at_once():
    parts = [draw(n, deviation, n) for n, deviation in ((7, 20), (500, 300), (60, 2000))]
    pooled = pool_histograms(count_hu(part.reshape(1, 1, -1)) for part in parts)
    values, counts = np.unique(np.concatenate(parts), return_counts=True)
    np.testing.assert_array_equal(pooled.hu[pooled.counts > 0], values)
    np.testing.assert_array_equal(pooled.counts[pooled.counts > 0], counts)
    assert pool_histograms([]).counts.sum() == 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "numbers",
    [(-79.5, 304, 101.25, 76.9), (-2000, 4000, 10, 500), (39.2, 39.4, 39.3, 0.1),
     (-32767, 32767, 0, 2), (40_000, 50_000, 45_000, 1000)],
)  # fmt: skip
def test_table_clips_subtracts_and_divides(dtype, numbers):
    image = np.concatenate([draw(1000), EXTREMES, np.arange(30, 50, dtype=np.int16)])
    low, high, mean, deviation = numbers
    expected = (np.clip(image.astype(float), low, high) - mean) / deviation
    found = normalize(image.reshape(1, 1, -1), make_table(Normalization(*numbers), dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[0, 0], expected.astype(np.float32).astype(dtype))


def test_half_precision_is_single_rounded():
    """Of all 65,536 HU, some would differ if they were rounded in one step."""
    for seed in range(3):
        mean, deviation = np.random.default_rng(seed).uniform(50, 500, 2)
        normalization = Normalization(-32767, 32767, mean, deviation)
        half, single = (make_table(normalization, dtype) for dtype in ("float16", "float32"))
        np.testing.assert_array_equal(half, single.astype(np.float16))


def test_a_constant_image_becomes_zeros():
    image = np.full((3, 4, 5), 3071, np.int16)
    normalization = measure_normalization(count_hu(image), SETTINGS)
    assert normalization == Normalization(3071, 3071, 3071, 0)
    assert (normalize(image, make_table(normalization, "float16")) == 0).all()


def test_padding_is_zero_whatever_air_is():
    """Air at the border is -5 here, and what lies beyond the volume is 0, the mean."""
    table = make_table(Normalization(-100, 300, 100, 40), "float32")
    image = np.full((4, 5, 6), -1000, np.int16)
    patch = read_patch(image, (-1, 2, -2), (4, 4, 4), table)
    expected = np.zeros((4, 4, 4), np.float32)
    expected[1:, :3, 2:] = -5
    np.testing.assert_array_equal(patch, expected)
    assert (read_patch(image, (9, 9, 9), (2, 2, 2), table) == 0).all()


def with_foreground(*groups):
    """A histogram of each group of labeled voxels."""
    return [Histogram(*np.unique(np.array(g, np.int64), return_counts=True)) for g in groups]


class CountingTable(np.ndarray):
    """A table that counts how often it is looked up."""

    def take(self, *args, **kwargs):
        self.lookups = getattr(self, "lookups", 0) + 1
        return self.view(np.ndarray).take(*args, **kwargs)


@pytest.mark.parametrize("shape", [(90, 100, 110), (3, 600, 700), (5, 0, 4), (1, 1, 1)])
def test_few_lookups_normalize_a_volume(shape):
    """Threads that read patches meet at every call; the values are the table's."""
    hu = np.random.default_rng(0).integers(-1024, 3071, shape).astype(np.int16)
    table = make_table(Normalization(-100.0, 300.0, 50.0, 80.0), "float16")
    counting = table.view(CountingTable)
    expected = table[hu.view(np.uint16)]
    np.testing.assert_array_equal(normalize(hu[:, ::-1], counting), expected[:, ::-1])
    assert counting.lookups <= max(shape[0] // 20, 3)


def test_intensities_weigh_each_voxel_the_same():
    """nnU-Net's rule: percentiles of all foreground voxels, and the statistics of the clipped."""
    groups = [draw(50, 30, 1), [], draw(4000, 90, 2)]
    found = measure_intensities(with_foreground(*groups), SETTINGS)
    voxels = np.concatenate(groups).astype(float)
    low, high = np.percentile(voxels, (0.5, 99.5))
    clipped = np.clip(voxels, low, high)
    assert found == pytest.approx((low, high, clipped.mean(), clipped.std()), rel=1e-12)
    assert PreprocessSettings(normalize="foreground", intensities=found).intensities == found


@pytest.mark.parametrize(
    ("groups", "words"),
    [([], "are none"), ([[], []], "are none"), ([[40] * 9, [40]], "all have the same HU"),
     ([[40] * 10_000, [41]], "all have the same HU")],
)  # fmt: skip
def test_foreground_without_a_range_is_refused(groups, words):
    with pytest.raises(InputError, match=words):
        measure_intensities(with_foreground(*groups), SETTINGS)


def test_a_model_alone_knows_the_foreground():
    settings = SETTINGS.model_copy(update={"normalize": "foreground"})
    with pytest.raises(InputError, match=r"intensities is empty: .*model\.preprocess") as error:
        choose_normalization(settings, lambda: pytest.fail("the case does not count"))
    assert "\n" not in str(error.value)
    numbers = (-79.0, 304.0, 101.0, 76.9)
    for choice in ("foreground", "fixed"):
        given = SETTINGS.model_copy(update={"normalize": choice, "intensities": numbers})
        assert astuple(choose_normalization(given, lambda: pytest.fail("nor here"))) == numbers


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("choice", ["case", "foreground", "fixed"])
def test_patches_are_what_prediction_sees(tmp_path, choice, dtype):
    """To the bit: a patch over a whole case is the image that `preprocess` makes of its file."""
    write_case(tmp_path / "raw", 3)
    (raw,) = find_cases(tmp_path / "raw")
    preprocess_case(raw, tmp_path / "case_00003", SETTINGS)
    case = PreprocessedCase(tmp_path / "case_00003")
    foreground = measure_intensities([case.foreground_histogram()], SETTINGS)
    numbers = {"case": (), "foreground": foreground, "fixed": (-79.0, 304.0, 101.0, 76.9)}
    settings = PreprocessSettings(
        spacing_mm=3.0, normalize=choice, intensities=numbers[choice], dtype=dtype
    )
    table = make_table(choose_normalization(settings, case.histogram), dtype)
    patch = read_patch(case.image(), (0, 0, 0), case.shape, table)
    image = preprocess(read_volume(raw.image), settings)
    assert patch.dtype == image.dtype == dtype
    np.testing.assert_array_equal(patch, image)
    assert len(np.unique(image)) > 50
    hu = resample_hu(read_volume(raw.image), settings)
    np.testing.assert_array_equal(case.image(), hu)
