"""The numbers of a preprocessed image."""

import numpy as np
import pytest
from raw_cases import AFFINE, SETTINGS

from kitsjax.data.preprocess import normalize, preprocess
from kitsjax.errors import InputError
from kitsjax.image.volume import Grid, Volume, make_volume
from kitsjax.settings import PreprocessSettings


def test_normalize_clips_then_standardizes():
    array = np.random.default_rng(0).normal(50, 300, (20, 20, 20)).astype(np.float32)
    array[0, 0, 0] = 1e6
    out = normalize(array, SETTINGS)
    low, high = np.percentile(array, (0.5, 99.5))
    clipped = np.clip(array.astype(np.float64), low, high)
    assert np.allclose(out, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    assert abs(out.mean()) < 1e-6
    assert abs(out.std() - 1) < 1e-6
    assert array[0, 0, 0] == np.float32(1e6), "the input was changed"


@pytest.mark.parametrize("value", [0.0, -1000.0, 3071.3, 1e5])
def test_constant_volume_gives_zeros(value):
    assert (normalize(np.full((5, 5, 5), value, np.float32), SETTINGS) == 0).all()


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
