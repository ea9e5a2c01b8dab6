"""The proxy of surface Dice: known values, what it shares with the real one, where it pulls."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from kitsjax.evaluate.metrics import compare_surfaces
from kitsjax.evaluate.surfaces import Mask, cut_blocks, find_surface
from kitsjax.labels import CYST, KITS, TUMOR
from kitsjax.model import losses
from kitsjax.settings import LossSettings

RADIUS, SOFTNESS = 5.0, 0.7
CENTERED = np.moveaxis(np.indices((20, 20, 20)), 0, -1) - 9.5
AXES = np.eye(3)

boundary_loss = partial(losses.boundary_loss, scheme=KITS)
value = jax.jit(boundary_loss, static_argnames=("settings", "axis_name"))
descent = jax.jit(jax.value_and_grad(boundary_loss), static_argnames="settings")


def tolerance(voxels):
    return LossSettings(boundary_tolerance=voxels)


def perfect(label):
    return 100.0 * jax.nn.one_hot(label, 4)


def cube(low, high, label=TUMOR, shape=(10, 10, 10)):
    """A batch of one volume: the voxels low <= (z, y, x) < high have the label."""
    volume = np.zeros((1, *shape), np.int32)
    volume[(0, *map(slice, low, high))] = label
    return jnp.asarray(volume)


def blobs(seed, shape=(2, 9, 10, 11), smooth=1.5):
    """Random smooth regions of all four labels."""
    noise = np.random.default_rng(seed).normal(size=(4, *shape))
    return jnp.asarray(ndimage.gaussian_filter(noise, (0, 0, smooth, smooth, smooth)).argmax(0))


@pytest.mark.parametrize(
    ("shift", "voxels", "near"),
    [(1, 0, 8), (1, 1, 16), (2, 1, 8), (3, 1, 0), (3, 2, 8), (3, 3, 16)],
)
def test_two_voxels_by_hand(shift, voxels, near):
    # A voxel has eight corners, in two planes across the shift; planes are one voxel apart.
    truth, predicted = cube((4, 4, 4), (5, 5, 5)), cube((4, 4, 4 + shift), (5, 5, 5 + shift))
    found = value(perfect(predicted), truth, tolerance(voxels))
    assert found == pytest.approx(-(near + 1) / (16 + 1))


def test_nested_classes_by_hand():
    # A cyst beside the true one is wrong as kidney+masses and as mass; no tumor is right.
    truth, predicted = (cube((4, 4, x), (5, 5, x + 1), CYST) for x in (3, 6))
    found = value(perfect(predicted), truth, tolerance(1))
    assert found == pytest.approx(-(1 / 17 + 1 / 17 + 1) / 3)
    # A cyst called tumor: only the tumor's surface is wrong.
    found = value(perfect(cube((4, 4, 3), (5, 5, 4), TUMOR)), truth, tolerance(1))
    assert found == pytest.approx(-(1 + 1 + 1 / 9) / 3)


def test_absent_classes_follow_the_official_rule():
    nothing, something = cube((0, 0, 0), (0, 0, 0)), cube((2, 2, 2), (8, 8, 8))
    elements = 7**3 - 5**3
    assert value(perfect(nothing), nothing, tolerance(1)) == -1
    for predicted, truth in ((nothing, something), (something, nothing)):
        found = value(perfect(predicted), truth, tolerance(1))
        assert found == pytest.approx(-1 / (elements + 1))


def test_faces_of_the_patch_are_no_surface():
    # Two half-spaces, cut two voxels apart, have a plane of 9 x 9 corners each and no more.
    truth, predicted = cube((0, 0, 0), (4, 10, 10)), cube((0, 0, 0), (6, 10, 10))
    assert value(perfect(predicted), truth, tolerance(1)) == pytest.approx(-1 / (2 * 81 + 1))
    everything, nothing = cube((0, 0, 0), (10, 10, 10)), cube((0, 0, 0), (0, 0, 0))
    assert value(perfect(everything), nothing, tolerance(1)) == -1


def test_per_batch_sums_before_dividing():
    # Sample 0 is perfect, eight corners each; sample 1 has eight of its own alone.
    voxel, nothing = cube((4, 4, 4), (5, 5, 5)), cube((0, 0, 0), (0, 0, 0))
    truth, predicted = jnp.concatenate([voxel, voxel]), jnp.concatenate([voxel, nothing])
    each = value(perfect(predicted), truth, tolerance(1))
    assert each == pytest.approx(-(1 + 1 / 9) / 2)
    together = value(perfect(predicted), truth, LossSettings(dice_per_batch=True))
    assert together == pytest.approx(-17 / 25)


def brute_force(predicted, truth, voxels):
    """The documented formula, corner by corner."""
    ratios = []
    for sample in range(len(truth)):
        for _, _, labels, _ in KITS.evaluation:
            p, t = (corners(np.isin(mask[sample], labels)) for mask in (predicted, truth))
            apart = np.abs(p[:, None] - t[None]).max(-1) <= voxels
            near = apart.any(1).sum() + apart.any(0).sum()
            ratios.append((near + 1) / (len(p) + len(t) + 1))
    return -np.mean(ratios)


def corners(mask):
    cubes = np.lib.stride_tricks.sliding_window_view(mask, (2, 2, 2))
    count = cubes.sum((-3, -2, -1))
    return np.argwhere((count > 0) & (count < 8))


@pytest.mark.parametrize("voxels", [0, 1, 2])
def test_hard_masks_as_by_brute_force(voxels):
    predicted, truth = blobs(0), blobs(1)
    expected = brute_force(np.asarray(predicted), np.asarray(truth), voxels)
    assert -0.97 < expected < -0.1
    assert value(perfect(predicted), truth, tolerance(voxels)) == pytest.approx(expected)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_flips_and_exchanged_axes_change_nothing(axes):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 10, 10, 10, 4)), jnp.float32)
    truth = blobs(1, (1, 10, 10, 10))
    expected = float(value(logits, truth, tolerance(1)))
    for axis in (1, 2, 3):
        found = value(jnp.flip(logits, axis), jnp.flip(truth, axis), tolerance(1))
        assert found == pytest.approx(expected, rel=1e-5)
    order = [0, *(axis + 1 for axis in axes)]
    found = value(logits.transpose([*order, 4]), truth.transpose(order), tolerance(1))
    assert found == pytest.approx(expected, rel=1e-5)


SPHERE = jnp.asarray(TUMOR * (np.linalg.norm(CENTERED, axis=-1) < RADIUS))[None]


@jax.jit
@jax.value_and_grad
def sphere_loss(shift):
    """Loss of a soft tumor, a sphere shifted by (z, y, x) voxels from the true one."""
    distance = jnp.linalg.norm(CENTERED - shift.reshape(1, 1, 1, 3), axis=-1)
    inside = (RADIUS - distance) / SOFTNESS
    impossible = jnp.full_like(inside, -100.0)
    logits = jnp.stack([jnp.zeros_like(inside), impossible, inside, impossible], axis=-1)
    return boundary_loss(logits[None], SPHERE, LossSettings())


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradient_moves_a_shifted_sphere_back(axis, sign):
    losses = [sphere_loss(jnp.zeros(3))[0]]
    for voxels in (0.5, 1.0, 2.0, 3.0):
        loss, gradient = sphere_loss(jnp.asarray(sign * voxels * AXES[axis]))
        losses.append(loss)
        assert sign * gradient[axis] > 1e-3
        across = np.delete(np.asarray(gradient), axis)
        np.testing.assert_allclose(across, 0, atol=1e-4)
    assert losses == sorted(losses)


def test_descent_on_the_shift_finds_the_truth():
    shift = jnp.asarray([2.0, -1.0, 1.5])
    for _ in range(15):
        shift = shift - 10.0 * sphere_loss(shift)[1]
    # Well within the tolerance of a voxel; the loss is all but flat there.
    np.testing.assert_allclose(shift, 0, atol=0.3)


def test_gradient_on_logits_pulls_surface_over():
    """Descent on free logits, from a sphere two voxels off, regains most of the surface."""
    distance = np.linalg.norm(CENTERED - 2 * AXES[2], axis=-1)
    inside = jnp.asarray((RADIUS - distance) / SOFTNESS, jnp.float32)
    logits = jnp.stack([0 * inside, 0 * inside - 9, inside, 0 * inside - 9], axis=-1)[None]
    first = descent(logits, SPHERE, tolerance(1))[0]
    for _ in range(60):
        loss, gradient = descent(logits, SPHERE, tolerance(1))
        logits -= 300.0 * gradient
    assert loss < first - 0.2


def perturbed(mask, rng):
    """A mask moved, grown or shrunk, and with a rough edge, each by a random amount."""
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    moved = ndimage.shift(depth, rng.uniform(-1.5, 1.5, 3), order=1, mode="nearest")
    rough = ndimage.gaussian_filter(rng.normal(size=mask.shape), 1.0)
    return moved + rng.uniform(-2, 2) + rng.uniform(0, 8) * rough > 0


def surface_dice(a, b):
    surfaces = (find_surface(Mask(tuple(cut_blocks(m))), (1.0, 1.0, 1.0)) for m in (a, b))
    return compare_surfaces(*surfaces, 1.0).surface_dice


def test_ranks_predictions_as_surface_dice_does():
    rng = np.random.default_rng(0)
    truth = np.linalg.norm(CENTERED / (1.0, 0.8, 1.3), axis=-1) < RADIUS
    predictions = [perturbed(truth, rng) for _ in range(40)]
    real = [surface_dice(p, truth) for p in predictions]
    label = jnp.asarray(TUMOR * truth)[None]
    proxy = [
        -value(perfect(jnp.asarray(TUMOR * p)[None]), label, tolerance(1)) for p in predictions
    ]
    assert max(real) - min(real) > 0.5
    assert stats.spearmanr(real, proxy).statistic > 0.9


# In the shape of the sphere, whose compiled gradient they share.
EXTREMES = {
    "empty": cube((0, 0, 0), (0, 0, 0), shape=(20, 20, 20)),
    "full": cube((0, 0, 0), (20, 20, 20), shape=(20, 20, 20)),
    "blobs": blobs(0, (1, 20, 20, 20)),
}


@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize("magnitude", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("truth", EXTREMES)
@pytest.mark.parametrize("predicted", EXTREMES)
def test_gradients_are_finite(predicted, truth, magnitude, per_batch):
    logits = magnitude * jax.nn.one_hot(EXTREMES[predicted], 4)
    settings = LossSettings(dice_per_batch=per_batch)
    loss, gradient = descent(logits, EXTREMES[truth], settings)
    assert -1 <= loss <= 0
    assert jnp.isfinite(gradient).all()
