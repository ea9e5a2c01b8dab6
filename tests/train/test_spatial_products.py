"""The products give what the gathers give, and their boxes are large enough."""

import jax.numpy as jnp
import numpy as np
import pytest
from oversized_patches import IMPLEMENTATIONS, LEAST_SCALE, noise, resample

from kitsjax.train.spatial import rotation_matrix


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(24, 20, 22), (17, 33, 8), (9, 9, 9)])
def test_implementations_agree(seed, shape):
    """At any rotation, at the least and a larger scale, and where blocks reach over the edge."""
    rng = np.random.default_rng(seed)
    oversized = tuple(size + extra for size, extra in zip(shape, (0, 5, 13), strict=True))
    image, label = noise(oversized, seed)
    angles_rad = rng.uniform(-np.pi, np.pi, 3).astype(np.float32)
    for scale in (LEAST_SCALE, 1.0, 1.4):
        (known, classes), (patch, mask) = (
            resample(image, label, shape, angles_rad, scale, implementation)
            for implementation in IMPLEMENTATIONS
        )
        np.testing.assert_allclose(patch, known, atol=1e-4)
        # A point halfway between two voxels may fall to either after another rounding.
        assert (np.asarray(mask) == classes).mean() > 0.999


def test_boxes_hold_the_widest_block():
    """A row of the rotation with three equal numbers is the longest way through a block."""
    cube = (16, 16, 16)
    image, label = noise((40, 40, 40))
    angles_rad = np.array([np.pi / 4, np.arctan(np.sqrt(0.5)), 0.0], np.float32)
    rows = np.abs(rotation_matrix(jnp.asarray(angles_rad)))
    assert max(rows.sum(axis=0).max(), rows.sum(axis=1).max()) > np.sqrt(3) - 1e-5
    for sign in np.ndindex(2, 2):
        rotated = angles_rad * np.array([*(1 - 2 * np.array(sign)), 0], np.float32)
        known, patch = (
            resample(image, label, cube, rotated, LEAST_SCALE, implementation)[0]
            for implementation in IMPLEMENTATIONS
        )
        np.testing.assert_allclose(patch, known, atol=1e-4)
