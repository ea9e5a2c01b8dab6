from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.infer.sliding_window import (
    bucket_shape,
    importance_map,
    pad_volume,
    place_volume,
    window_count,
    window_positions,
    window_start,
)


def axis_positions(size, patch, step_size=0.5):
    return window_positions((size, 1, 1), (patch, 1, 1), step_size)[:, 0].tolist()


@pytest.mark.parametrize(
    ("size", "patch", "step_size", "expected"),
    [
        (128, 128, 0.5, [0]),
        (129, 128, 0.5, [0, 1]),
        (192, 128, 0.5, [0, 64]),
        (206, 128, 0.5, [0, 39, 78]),
        # 452 - 128 = 324 in ceil(324 / 64) = 6 strides of 54.
        (452, 128, 0.5, [0, 54, 108, 162, 216, 270, 324]),
        (452, 128, 1.0, [0, 108, 216, 324]),
        # nnU-Net's np.round: 1.75, 3.5 (to even), 5.25.
        (11, 4, 0.5, [0, 2, 4, 5, 7]),
        # A stride below a voxel is a voxel.
        (5, 2, 0.1, [0, 1, 2, 3]),
    ],
)
def test_positions_worked_out_by_hand(size, patch, step_size, expected):
    assert axis_positions(size, patch, step_size) == expected


def test_windows_cover_every_voxel():
    rng = np.random.default_rng(0)
    for _ in range(60):
        patch = rng.integers(1, 9, 3)
        shape = patch + rng.integers(0, 12, 3)
        step_size = rng.uniform(0.05, 1)
        positions = window_positions(tuple(shape.tolist()), tuple(patch.tolist()), step_size)
        assert (positions >= 0).all()
        assert (positions + patch <= shape).all()
        seen = np.zeros(shape, bool)
        for z, y, x in positions:
            seen[z : z + patch[0], y : y + patch[1], x : x + patch[2]] = True
        assert seen.all()
        assert len(np.unique(positions, axis=0)) == len(positions)


def test_positions_are_symmetric_to_a_voxel():
    """And strides are at most half of the patch."""
    for size in range(16, 200):
        positions = np.array(axis_positions(size, 16))
        # Rounding halves to even can move either of a pair by a half.
        assert np.abs(positions + positions[::-1] - (size - 16)).max() <= 1
        assert np.diff(positions, append=positions[-1]).max() <= 8


def test_window_starts_are_rounded_to_even():
    for count in range(2, 9):
        for last_start in range(20):
            for index in range(count):
                exact = Fraction(index * last_start, count - 1)
                assert window_start(index, last_start, count) == round(exact)
    assert window_start(0, 0, 1) == 0


def test_traced_integers_place_the_same_windows():
    """The shape is known at once to one function, and only at run time to the other."""

    @jax.jit
    def place(last_start):
        count = window_count(last_start, 10, 0.35)
        return count, jax.vmap(lambda n: window_start(n, last_start, count))(jnp.arange(30))

    for last_start in range(40):
        count, starts = place(np.int32(last_start))
        assert count == window_count(last_start, 10, 0.35)
        assert starts[:count].tolist() == axis_positions(last_start + 10, 10, 0.35)


def test_a_volume_below_the_patch_is_refused():
    with pytest.raises(ValueError, match="pad first"):
        window_positions((8, 7, 8), (8, 8, 8), 0.5)


def test_gaussian_importance():
    weights = importance_map((16, 8, 12), "gaussian")
    assert weights.shape == (16, 8, 12)
    assert weights.dtype == np.float32
    assert weights.max() == 1
    assert weights.min() > 0
    for axis in range(3):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))
    # Along z, sigma is 2 voxels: from 0.5 to 2.5 voxels off center, exp(-(6.25 - 0.25) / 8).
    assert weights[10, 4, 6] / weights[8, 4, 6] == pytest.approx(np.exp(-0.75))


def test_uniform_importance():
    np.testing.assert_array_equal(importance_map((4, 3, 2), "uniform"), np.ones((4, 3, 2)))


def test_buckets():
    patch = (128, 128, 128)
    # A CT of 512 x 512 x 300 voxels of 0.8 x 0.8 x 3 mm at 1.99 mm.
    assert bucket_shape((452, 206, 206), patch, 64) == (512, 256, 256)
    assert bucket_shape((1, 128, 129), patch, 64) == (128, 128, 192)
    assert bucket_shape((5, 130, 140), patch, 1) == (128, 130, 140)
    assert bucket_shape((5, 9, 9), (8, 8, 8), 7) == (14, 14, 14)


def test_volumes_below_the_patch_are_centered():
    expected = (slice(1, 6), slice(0, 8), slice(0, 20))
    assert place_volume((5, 8, 20), (8, 8, 8)) == expected


@pytest.mark.parametrize(("bucket", "shape"), [(1, (8, 8, 20)), (7, (14, 14, 21))])
def test_padding_is_zero_around_the_volume(bucket, shape):
    image = np.random.default_rng(0).standard_normal((5, 8, 20))
    expected = np.zeros(shape)
    expected[1:6, :8, :20] = image
    np.testing.assert_array_equal(pad_volume(image, (8, 8, 8), bucket), expected)
    on_device = jnp.asarray(image, jnp.float32)
    np.testing.assert_array_equal(
        pad_volume(on_device, (8, 8, 8), bucket), expected.astype(np.float32)
    )
