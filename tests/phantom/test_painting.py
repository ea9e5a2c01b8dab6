"""Painting: shapes keep their volume and place whatever the voxels."""

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.phantom.painting import Scene, ellipsoid


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.8, 0.8), (5.0, 0.8, 0.8), (3.0, 6.0, 6.0)])
def test_painting_keeps_volume_and_place(spacing_mm):
    """A ball of 0 HU painted in air keeps its volume and centroid: partial volume is right."""
    shape = tuple(int(100 / h) for h in spacing_mm)
    first = tuple(-h * (n - 1) / 2 for h, n in zip(spacing_mm, shape, strict=True))
    scene = Scene(np.random.default_rng(0), shape, spacing_mm, first, (60, 60, 60))
    center, radius = np.array([3.3, -7.1, 5.2]), 21.0
    straight = np.stack(np.meshgrid(*scene.lattice, indexing="ij"))
    ball = ellipsoid(straight, center, (radius,) * 3)
    scene.paint(ball, scene.everywhere, 0.0)
    share = 1 + scene.image / 1000
    assert share.min() == 0
    assert share.max() == 1
    assert share.sum() * np.prod(spacing_mm) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    centroid = np.array(ndimage.center_of_mass(share)) * spacing_mm + first
    np.testing.assert_allclose(centroid, center, atol=0.15)
    box, inside = scene.to_voxels(ball, scene.everywhere)
    inside, painted = inside < 0, share[box] > 0.5
    assert 2 * (inside & painted).sum() / (inside.sum() + painted.sum()) > 0.98
