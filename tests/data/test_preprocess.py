"""The numbers of a preprocessed image."""

import numpy as np
import pytest
from raw_cases import AFFINE, SETTINGS

from kitsjax.data.preprocess import NOTED_SHARE, preprocess, resample_hu
from kitsjax.errors import InputError
from kitsjax.image.volume import Grid, Volume, make_volume
from kitsjax.settings import PreprocessSettings

UNCLIPPED = SETTINGS.model_copy(update={"hu_range": ()})


def test_a_cases_own_numbers_normalize_it():
    volume = make_volume(np.random.default_rng(0).normal(50, 300, (20, 20, 20)), (3.0, 3.0, 3.0))
    volume.array[0, 0, 0] = 1e6
    hu = np.rint(np.clip(volume.array, -1024, 3071))
    np.testing.assert_array_equal(resample_hu(volume, SETTINGS), hu)
    clipped = np.clip(hu, *np.percentile(hu, (0.5, 99.5)))
    expected = (clipped - clipped.mean()) / clipped.std()
    found = preprocess(volume, SETTINGS.model_copy(update={"dtype": "float32"}))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert volume.array[0, 0, 0] == 1e6, "the input was changed"


@pytest.mark.parametrize("value", [0.0, -1000.0, 3071.3, 1e5])
def test_constant_volume_gives_zeros(value):
    volume = make_volume(np.full((5, 5, 5), value, np.float32), (3.0, 3.0, 3.0))
    for settings in (SETTINGS, UNCLIPPED):
        assert (preprocess(volume, settings) == 0).all()


def test_hu_are_whole_and_fit_their_type():
    """Without a range of HU they are cut at what int16 holds on both sides of zero."""
    array = np.zeros((4, 4, 4), np.float64)
    array[0, 0] = -1e9, -32768, 40.4, 1e9
    found = resample_hu(make_volume(array, (3.0, 3.0, 3.0)), UNCLIPPED)
    assert found.dtype == np.int16
    assert found[0, 0].tolist() == [-32767, -32767, 40, 32767]


def test_half_precision_is_the_stored_number():
    volume = Volume(
        np.random.default_rng(0).normal(0, 300, (8, 9, 10)),
        Grid((8, 9, 10), (3.0, 3.0, 3.0), AFFINE),
    )
    half = preprocess(volume, SETTINGS)
    full = preprocess(volume, PreprocessSettings(spacing_mm=3.0, dtype="float32"))
    assert half.dtype == np.float16
    assert (half == full.astype(np.float16)).all()
    assert np.abs(half - full).max() <= 2**-11 * np.abs(full).max()


@pytest.mark.parametrize(("unit", "verdict"), [(1e-3, "too few"), (1e3, "too many")])
def test_spacings_in_other_units_are_refused(unit, verdict):
    """Meters read as mm make a whole scan one voxel, micrometers make it too many."""
    array = np.zeros((30, 128, 128), np.float32)
    spacing = tuple(edge * unit for edge in (3.0, 0.8, 0.8))
    with pytest.raises(InputError, match=f"{verdict} for a CT; correct the spacing"):
        preprocess(make_volume(array, spacing), PreprocessSettings())


def test_small_volumes_are_preprocessed():
    """A volume of a few voxels is no mistake; only one that shrinks to them is."""
    for shape in ((1, 1, 1), (5, 6, 7)):
        volume = make_volume(np.zeros(shape, np.float32), (3.0, 0.8, 0.8))
        assert preprocess(volume, PreprocessSettings()).size


def padded_ct(padding, dtype=np.float32):
    """A CT whose scanner saw a circle: the corners of each slice, 21 % of it, hold the padding."""
    rng = np.random.default_rng(0)
    array = np.clip(rng.normal(0, 300, (10, 40, 40)), -1024, 1500)
    y, x = np.mgrid[:40, :40] - 19.5
    array[:, np.hypot(y, x) > 20] = padding
    return make_volume(array.astype(dtype), (3.0, 1.5, 1.5))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("padding", [-2048, -3024, -32768])
def test_padding_below_air_is_air(padding, dtype, caplog):
    air = preprocess(padded_ct(-1024, dtype), SETTINGS)
    assert caplog.messages == []
    volume = padded_ct(padding, dtype)
    np.testing.assert_array_equal(preprocess(volume, SETTINGS), air)
    (note,) = caplog.messages
    assert "21.0 % of its voxels lie beyond -1024 to 3071 HU" in note
    assert f"the file has {padding} to " in note
    assert volume.array.min() == padding, "the input was changed"
    assert np.abs(preprocess(volume, UNCLIPPED) - air).max() > 0.3


def test_hu_in_range_are_unchanged():
    """Numbers of ordinary CTs are equal to the bit with and without the range."""
    volume = padded_ct(-1024)
    np.testing.assert_array_equal(preprocess(volume, SETTINGS), preprocess(volume, UNCLIPPED))


def test_a_few_clipped_voxels_make_no_note(caplog):
    """Metal reaches 30,000 HU in some voxels; it counts as the range's end."""
    volume, expected = padded_ct(-1024), padded_ct(-1024)
    count = int(NOTED_SHARE * volume.array.size)
    volume.array.flat[:count], expected.array.flat[:count] = 30_000, 3071
    np.testing.assert_array_equal(preprocess(volume, SETTINGS), preprocess(expected, SETTINGS))
    assert caplog.messages == []
    volume.array.flat[count] = 30_000
    preprocess(volume, SETTINGS)
    assert len(caplog.messages) == 1


def test_values_that_are_no_hu_are_noted(caplog):
    fractions = np.random.default_rng(0).random((8, 8, 8), np.float32)
    preprocess(make_volume(fractions, (4.0, 4.0, 4.0)), SETTINGS)
    assert "give the CT in HU" in caplog.text
    caplog.clear()
    for usual in (fractions * 1000 - 500, np.zeros_like(fractions)):
        preprocess(make_volume(usual, (4.0, 4.0, 4.0)), SETTINGS)
    assert caplog.messages == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(value):
    """Also where clipping would make a number of them."""
    volume = padded_ct(-2048)
    volume.array[3, 20, 20] = value
    for settings in (SETTINGS, UNCLIPPED):
        with pytest.raises(InputError, match="not finite"):
            preprocess(volume, settings)
