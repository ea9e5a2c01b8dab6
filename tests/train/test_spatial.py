"""Rotation and scaling against known answers and SciPy, in each implementation; flips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oversized_patches import IMPLEMENTATIONS, LEAST_SCALE, ball, centroid, noise, resample
from scipy import ndimage

from kitsjax.train.spatial import SpatialTransform, flip, rotation_matrix
from kitsjax.train.spatial import resample as portable_resample

PATCH = (24, 20, 22)
OVERSIZED = (24, 25, 35)
CUBE = (15, 15, 15)


@pytest.fixture(params=IMPLEMENTATIONS)
def resampled(request):
    """`resample` in one implementation."""

    def run(image, label, patch_shape, angles_rad, scale):
        return resample(image, label, patch_shape, angles_rad, scale, request.param)

    return run


@pytest.mark.parametrize(
    ("axis", "plane"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))], ids=["z", "y", "x"]
)
@pytest.mark.parametrize("quarters", [1, -1])
def test_a_quarter_rotation_is_rot90(axis, plane, quarters, resampled):
    image, label = noise(CUBE)
    angles = np.zeros(3, np.float32)
    angles[axis] = quarters * np.pi / 2
    patch, mask = resampled(image, label, CUBE, angles, 1.0)
    np.testing.assert_allclose(patch, np.rot90(image, quarters, plane), atol=2e-5)
    np.testing.assert_array_equal(mask, np.rot90(label, quarters, plane))


def test_rotations_are_about_x_then_y_then_z(resampled):
    image, label = noise(CUBE)
    quarter = np.full(3, np.pi / 2, np.float32)
    expected = label
    for plane in ((0, 1), (0, 2), (1, 2)):
        expected = np.rot90(expected, 1, plane)
    np.testing.assert_array_equal(resampled(image, label, CUBE, quarter, 1.0)[1], expected)


def test_agrees_with_scipy_border_included(resampled):
    image, label = noise(OVERSIZED)
    angles, scale = np.array([0.4, -0.3, 0.5], np.float32), 0.7
    inverse = np.asarray(rotation_matrix(jnp.asarray(angles))).T / scale
    middle = (np.array(PATCH) - 1) / 2
    start = (np.array(OVERSIZED) - PATCH) // 2
    offset = start + middle - inverse @ middle
    expected, expected_mask = (
        ndimage.affine_transform(
            array, inverse, offset, PATCH, order=order, mode="grid-constant", cval=0
        )
        for array, order in ((image.astype(np.float64), 1), (label, 0))
    )
    patch, mask = resampled(image, label, PATCH, angles, scale)
    np.testing.assert_allclose(patch, expected, atol=1e-4)
    assert (np.asarray(mask) == expected_mask).mean() > 0.9999


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.5, 0, 0), (0.3, -0.5, 0.4)])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_a_ball_stays_a_ball(angles, scale, resampled):
    """Its volume grows by the cube of the scale; its center rotates and moves with the scale."""
    oversized, patch_shape, radius = (48, 48, 48), (40, 40, 40), 8.0
    center = (2.0, -1.5, 1.0)
    image = ball(oversized, center, radius)
    angles_rad = np.array(angles, np.float32)
    label = (image > 0.5).astype(np.uint8)
    patch, mask = (np.asarray(a) for a in resampled(image, label, patch_shape, angles_rad, scale))
    moved = scale * np.asarray(rotation_matrix(jnp.asarray(angles_rad))) @ np.array(center)
    # Nearest neighbor moves the label's edge by up to half a voxel of the oversized patch.
    for seen, before, slack in ((patch, image, 1), (mask, label, 5)):
        assert abs(seen.sum() / (before.sum() * scale**3) - 1) < 0.01 * slack
        np.testing.assert_allclose(centroid(seen), moved, atol=0.03 * slack)
    weights = patch / patch.sum()
    spread = [np.sum(weights * (i - np.sum(weights * i)) ** 2) for i in np.indices(patch_shape)]
    assert max(spread) / min(spread) < 1.01


def test_outside_is_zero_and_background(resampled):
    image, label = np.full(CUBE, 5, np.float32), np.full(CUBE, 2, np.uint8)
    patch, mask = resampled(image, label, CUBE, np.zeros(3, np.float32), 0.5)
    # Voxel 7 is the center. At half the size the object spans 3.75 voxels on either side of it.
    inside = np.zeros(CUBE, bool)
    inside[4:11, 4:11, 4:11] = True
    np.testing.assert_array_equal(mask, np.where(inside, 2, 0))
    np.testing.assert_array_equal(patch, np.where(inside, 5, 0))


@pytest.mark.parametrize("flips", list(np.ndindex(2, 2, 2)))
def test_one_flip_is_numpys_and_two_are_none(flips):
    image, _ = noise(PATCH)
    marked = jnp.array(flips, bool)
    once = flip(jnp.asarray(image), marked)
    np.testing.assert_array_equal(once, np.flip(image, np.flatnonzero(flips)))
    np.testing.assert_array_equal(flip(once, marked), image)


@pytest.mark.parametrize(("platform", "gathers"), [("cpu", True), ("cuda", True), ("tpu", False)])
def test_a_tpu_gets_products_and_others_gathers(platform, gathers):
    image, label = noise(OVERSIZED)
    traced = jax.jit(portable_resample, static_argnums=(2, 4)).trace(
        image, label, PATCH, SpatialTransform(np.zeros(3, np.float32), 1.0), LEAST_SCALE
    )
    lowered = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.gather" in lowered) == gathers
