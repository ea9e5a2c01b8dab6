"""Points of a patch in its oversized patch, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.train.spatial_points import central_start, map_to_oversized, split_points


def test_an_odd_margin_is_larger_after_the_patch():
    assert central_start((10, 9, 5), (4, 4, 5)) == (3, 2, 0)
    with pytest.raises(ValueError, match="smaller than the patch"):
        central_start((10, 9, 4), (4, 4, 5))


def test_offsets_are_mapped_from_center_to_center():
    """The center of 4 of 10 voxels is at 3 + 1.5, that of 5 of 5 at 2."""
    half = 0.5 * jnp.eye(3, dtype=jnp.float32)
    points = map_to_oversized((0.0, 1.0, -2.0), half, (10, 9, 5), (4, 4, 5))
    np.testing.assert_array_equal(jnp.stack(points), [4.5, 3.5 + 0.5, 2 - 1])


def test_outside_points_are_moved_to_the_padding():
    """On an axis of 3 voxels the padded ones are 1, 2 and 3; 0 and 4 are padding."""
    point = jnp.array([-7.0, -1.0, -0.25, 0.0, 1.75, 2.0, 2.5, 9.0])
    (corner,), (fraction,) = split_points([point], (3,))
    np.testing.assert_array_equal(corner, [0, 0, 0, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(fraction, [0, 0, 0.75, 0, 0.75, 0, 0.5, 1])
