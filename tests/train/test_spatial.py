"""Turning and scaling against known answers and SciPy, in each implementation; flips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from source_patches import ball, centroid, noise

from kitsjax.settings import AugmentSettings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.spatial import flip, resample, rotation_matrix

PATCH = (24, 20, 22)
SOURCE = oversized_shape(PATCH, AugmentSettings())
LEAST_SCALE = 0.5

IMPLEMENTATIONS = ("gathers", "products")
compiled = jax.jit(resample, static_argnums=(2, 5, 6))


@pytest.fixture(params=IMPLEMENTATIONS)
def resampled(request):
    """`resample` in one form."""

    def run(image, label, patch_shape, angles_rad, scale):
        return compiled(image, label, patch_shape, angles_rad, scale, LEAST_SCALE, request.param)

    return run


@pytest.mark.parametrize(
    ("axis", "plane"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))], ids=["z", "y", "x"]
)
@pytest.mark.parametrize("turns", [1, -1])
def test_quarter_turn_is_rot90(axis, plane, turns, resampled):
    cube = (15, 15, 15)
    image, label = noise(cube)
    angles = np.zeros(3, np.float32)
    angles[axis] = turns * np.pi / 2
    patch, mask = resampled(image, label, cube, angles, 1.0)
    np.testing.assert_allclose(patch, np.rot90(image, turns, plane), atol=2e-5)
    np.testing.assert_array_equal(mask, np.rot90(label, turns, plane))


def test_turns_are_about_x_then_y_then_z(resampled):
    cube = (15, 15, 15)
    image, label = noise(cube)
    quarter = np.full(3, np.pi / 2, np.float32)
    expected = label
    for plane in ((0, 1), (0, 2), (1, 2)):
        expected = np.rot90(expected, 1, plane)
    np.testing.assert_array_equal(resampled(image, label, cube, quarter, 1.0)[1], expected)


def test_agrees_with_scipy_border_included(resampled):
    image, label = noise(SOURCE)
    angles, scale = np.array([0.4, -0.3, 0.5], np.float32), 0.7
    inverse = np.asarray(rotation_matrix(jnp.asarray(angles))).T / scale
    middle = (np.array(PATCH) - 1) / 2
    start = (np.array(SOURCE) - PATCH) // 2
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
    """Its volume grows by the cube of the scale; its center turns and moves with the scale."""
    source, patch_shape, radius = (61, 61, 61), (49, 49, 49), 8.0
    center = (5.0, -3.0, 2.0)
    image = ball(source, center, radius)
    angles_rad = np.array(angles, np.float32)
    label = (image > 0.5).astype(np.uint8)
    patch, mask = (np.asarray(a) for a in resampled(image, label, patch_shape, angles_rad, scale))
    moved = scale * np.asarray(rotation_matrix(jnp.asarray(angles_rad))) @ np.array(center)
    # Nearest neighbor moves the label's edge by up to half a voxel of the source.
    for seen, before, slack in ((patch, image, 1), (mask, label, 5)):
        assert abs(seen.sum() / (before.sum() * scale**3) - 1) < 0.01 * slack
        np.testing.assert_allclose(centroid(seen), moved, atol=0.03 * slack)
    weights = patch / patch.sum()
    spread = [np.sum(weights * (i - np.sum(weights * i)) ** 2) for i in np.indices(patch_shape)]
    assert max(spread) / min(spread) < 1.01


def test_outside_is_zero_and_background(resampled):
    shape = (16, 16, 16)
    image, label = np.full(shape, 5, np.float32), np.full(shape, 2, np.uint8)
    patch, mask = resampled(image, label, shape, np.zeros(3, np.float32), 0.5)
    inside = np.zeros(shape, bool)
    inside[4:12, 4:12, 4:12] = True
    np.testing.assert_array_equal(mask, np.where(inside, 2, 0))
    np.testing.assert_array_equal(patch, np.where(inside, 5, 0))


@pytest.mark.parametrize("flips", list(np.ndindex(2, 2, 2)))
def test_flip_twice_is_the_identity_and_once_is_numpys(flips):
    image, _ = noise(PATCH)
    marked = jnp.array(flips, bool)
    once = flip(jnp.asarray(image), marked)
    np.testing.assert_array_equal(once, np.flip(image, np.flatnonzero(flips)))
    np.testing.assert_array_equal(flip(once, marked), image)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(24, 20, 22), (17, 33, 8), (9, 9, 9)])
def test_forms_agree(seed, shape):
    """At any turn, at the least and the greatest scale, and where blocks stand over the edge."""
    rng = np.random.default_rng(seed)
    source = tuple(size + extra for size, extra in zip(shape, (0, 5, 13), strict=True))
    image, label = noise(source, seed)
    angles_rad = rng.uniform(-np.pi, np.pi, 3).astype(np.float32)
    for scale in (LEAST_SCALE, 1.0, 1.4):
        (known, classes), (patch, mask) = (
            compiled(image, label, shape, angles_rad, scale, LEAST_SCALE, implementation)
            for implementation in IMPLEMENTATIONS
        )
        np.testing.assert_allclose(patch, known, atol=1e-4)
        # A point halfway between two voxels may fall to either after another rounding.
        assert (np.asarray(mask) == classes).mean() > 0.999


def test_boxes_hold_the_widest_block():
    """A row of the turn with three equal numbers is the longest way through a block."""
    cube = (32, 32, 32)
    image, label = noise((64, 64, 64))
    angles_rad = np.array([np.pi / 4, np.arctan(np.sqrt(0.5)), 0.0], np.float32)
    rows = np.abs(rotation_matrix(jnp.asarray(angles_rad)))
    assert max(rows.sum(axis=0).max(), rows.sum(axis=1).max()) > np.sqrt(3) - 1e-5
    for sign in np.ndindex(2, 2):
        turned = angles_rad * np.array([*(1 - 2 * np.array(sign)), 0], np.float32)
        known, patch = (
            compiled(image, label, cube, turned, LEAST_SCALE, LEAST_SCALE, implementation)[0]
            for implementation in IMPLEMENTATIONS
        )
        np.testing.assert_allclose(patch, known, atol=1e-4)


@pytest.mark.parametrize(("platform", "gathers"), [("cpu", True), ("cuda", True), ("tpu", False)])
def test_a_tpu_gets_products_and_others_gathers(platform, gathers):
    image, label = noise(SOURCE)
    traced = jax.jit(resample, static_argnums=(2, 5)).trace(
        image, label, PATCH, np.zeros(3, np.float32), 1.0, LEAST_SCALE
    )
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.gather" in program) == gathers
