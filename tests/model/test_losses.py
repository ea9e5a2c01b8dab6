"""The losses: values worked out by hand, and properties of every term."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.labels import KITS
from kitsjax.model import losses
from kitsjax.model.losses import (
    deep_supervision_loss,
    downsample_label,
    loss_terms,
    supervision_weights,
)
from kitsjax.model.regions import region_truth
from kitsjax.settings import LossSettings

EXACT = LossSettings(dice_smooth=0.0)
PERFECT = {"dice": -1.0, "cross_entropy": 0.0, "boundary": -1.0}
TERMS = {name: partial(term, scheme=KITS) for name, (_, term) in loss_terms(LossSettings()).items()}
REGIONS = LossSettings(dice_smooth=0.0, regions=True)

# As one program each, quicker than op by op; tests of equal shapes and settings share them.
compiled = partial(jax.jit, static_argnums=2)
VALUE = {name: compiled(term) for name, term in TERMS.items()}
DESCENT = {name: compiled(jax.value_and_grad(term)) for name, term in TERMS.items()}
dice_loss, cross_entropy_loss = VALUE["dice"], VALUE["cross_entropy"]


def volume(*voxels) -> jnp.ndarray:
    """A batch of one volume of 1 x 1 x n voxels, from n values or n rows of channels."""
    return jnp.asarray(voxels)[None, None, None]


def random_case(shape=(2, 4, 4, 4), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(*shape, classes)), jnp.float32)
    return logits, jnp.asarray(rng.integers(0, classes, shape))


def perfect(label, classes=4, confidence=100.0):
    return confidence * jax.nn.one_hot(label, classes)


def perfect_regions(label, confidence=100.0):
    return confidence * (2 * region_truth(label, KITS) - 1)


def test_every_term_has_its_weight_and_a_minimum():
    weights = {f"{name}_weight": 2.0 + n for n, name in enumerate(PERFECT)}
    found = {name: weight for name, (weight, _) in loss_terms(LossSettings(**weights)).items()}
    assert found == {name: weights[f"{name}_weight"] for name in PERFECT}
    assert {name for name in LossSettings.model_fields if name.endswith("_weight")} == set(weights)


def test_dice_by_hand():
    # Probabilities of class 1: 3/4 and 1/4; truth: 1, 0. I = 3/4, sums 1 and 1: Dice 3/4.
    odds = math.log(3)
    logits = volume([0.0, odds], [odds, 0.0])
    label = volume(1, 0)
    assert dice_loss(logits, label, EXACT) == pytest.approx(-0.75, abs=1e-6)
    # A smoothing of 2 stands once above and once below: (1.5 + 2) / (2 + 2).
    smooth = LossSettings(dice_smooth=2.0)
    assert dice_loss(logits, label, smooth) == pytest.approx(-0.875, abs=1e-6)
    # All voxels are 1: I = 1, sums 1 and 2: Dice 2/3; background's is 0 and halves the mean.
    ones = volume(1, 1)
    assert dice_loss(logits, ones, EXACT) == pytest.approx(-2 / 3, abs=1e-6)
    both = LossSettings(dice_smooth=0.0, dice_background=True)
    assert dice_loss(logits, ones, both) == pytest.approx(-1 / 3, abs=1e-6)


def test_dice_per_sample_and_per_batch_by_hand():
    # Sample 0 is perfect on one voxel, sample 1 misses three of three.
    label = jnp.concatenate([volume(1, 0, 0), volume(1, 1, 1)])
    logits = perfect(jnp.concatenate([volume(1, 0, 0), volume(0, 0, 0)]), 2)
    assert dice_loss(logits, label, EXACT) == pytest.approx(-0.5)
    # Over the batch: I = 1, truth 4, prediction 1.
    batch = LossSettings(dice_smooth=0.0, dice_per_batch=True)
    assert dice_loss(logits, label, batch) == pytest.approx(-2 / 5)


def test_cross_entropy_by_hand():
    # Probabilities of the truth: 3/4, 1/4, 1/2.
    odds = math.log(3)
    logits = volume([odds, 0.0], [0.0, odds], [7.0, 7.0])
    expected = (math.log(4 / 3) + math.log(4) + math.log(2)) / 3
    found = cross_entropy_loss(logits, volume(0, 0, 1), EXACT)
    assert found == pytest.approx(expected, rel=1e-6)


def test_losses_of_regions_by_hand():
    # A tumor and a kidney voxel, predicted with these probabilities of the three regions.
    tumor, kidney = (3 / 4, 3 / 4, 1 / 4), (3 / 4, 1 / 4, 1 / 4)
    logits = volume(*([math.log(p / (1 - p)) for p in voxel] for voxel in (tumor, kidney)))
    label = volume(2, 1)
    # 2 I / (truth + prediction) of each region: the kidney voxel is in the first one only.
    dice = (2 * 1.5 / (2 + 1.5) + 2 * 0.75 / (1 + 1.0) + 2 * 0.25 / (1 + 0.5)) / 3
    assert dice_loss(logits, label, REGIONS) == pytest.approx(-dice, rel=1e-6)
    smooth = (4 / 4.5 + 2.5 / 3 + 1.5 / 2.5) / 3
    settings = LossSettings(dice_smooth=1.0, regions=True)
    assert dice_loss(logits, label, settings) == pytest.approx(-smooth, rel=1e-6)
    # Five of six answers have a probability of 3/4, and the tumor's own has 1/4.
    entropy = (5 * math.log(4 / 3) + math.log(4)) / 6
    assert cross_entropy_loss(logits, label, REGIONS) == pytest.approx(entropy, rel=1e-6)


def test_dice_of_regions_per_batch_by_hand():
    # Sample 0 is a perfect tumor; in sample 1 the kidney is missed.
    label = jnp.concatenate([volume(2, 0, 0), volume(1, 0, 0)])
    logits = perfect_regions(jnp.concatenate([volume(2, 0, 0), volume(0, 0, 0)]))
    # Per sample, with a smoothing far below a voxel, an absent region is perfect.
    settings = LossSettings(dice_smooth=1e-5, regions=True)
    assert dice_loss(logits, label, settings) == pytest.approx(-(1 + 2 / 3) / 2, abs=1e-4)
    batch = LossSettings(dice_smooth=0.0, regions=True, dice_per_batch=True)
    assert dice_loss(logits, label, batch) == pytest.approx(-(2 / 3 + 1 + 1) / 3)


@pytest.mark.parametrize("name", TERMS)
def test_gradient_of_regions_is_the_slope(name):
    logits, label = random_case((2, 4, 4, 4), classes=3)
    label = jnp.asarray(np.random.default_rng(1).integers(0, 4, label.shape))
    direction = jnp.asarray(np.random.default_rng(2).normal(size=logits.shape), jnp.float32)
    settings = LossSettings(regions=True, dice_per_batch=True)
    _, gradient = DESCENT[name](logits, label, settings)
    step = 1e-2
    ahead, behind = (VALUE[name](logits + s * direction, label, settings) for s in (step, -step))
    slope = float((ahead - behind) / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-2, abs=1e-5)


@pytest.mark.parametrize("name", sorted(TERMS.keys() - {"boundary"}))
def test_gradient_pulls_each_region_apart(name):
    """Raising the logit of a region lowers the loss where the region is, and nowhere else."""
    _, label = random_case()
    _, gradient = DESCENT[name](jnp.zeros((2, 4, 4, 4, 3)), label, REGIONS)
    inside = np.asarray(region_truth(label, KITS)) > 0
    assert (np.asarray(gradient)[inside] < 0).all()
    assert (np.asarray(gradient)[~inside] > 0).all()


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("name", TERMS)
def test_perfect_is_the_minimum_without_gradient(name, regions):
    _, label = random_case()
    logits = perfect_regions(label) if regions else perfect(label)
    value, gradient = DESCENT[name](logits, label, REGIONS if regions else EXACT)
    assert value == pytest.approx(PERFECT[name], abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


# A constant prediction has no surface yet that a boundary term could move.
@pytest.mark.parametrize("name", sorted(TERMS.keys() - {"boundary"}))
def test_gradient_pulls_toward_the_truth(name):
    """Raising the true foreground class's logit lowers the loss, raising any other raises it."""
    logits = jnp.zeros((2, 4, 4, 4, 4))
    _, label = random_case()
    _, gradient = DESCENT[name](logits, label, LossSettings(dice_background=True))
    true = np.asarray(jax.nn.one_hot(label, 4, dtype=bool))
    assert (np.asarray(gradient)[true] < 0).all()
    assert (np.asarray(gradient)[~true] > 0).all()


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize("magnitude", [0.0, 1e4, 1e30])
@pytest.mark.parametrize("name", TERMS)
def test_extreme_logits_and_absent_classes(name, magnitude, per_batch, regions):
    """The loss and its gradient stay finite."""
    logits = jnp.zeros((2, 4, 4, 4, 3 if regions else 4)).at[..., 1].set(magnitude)
    settings = LossSettings(dice_smooth=0.0, dice_per_batch=per_batch, regions=regions)
    label = jnp.zeros((2, 4, 4, 4), jnp.int32)
    value, gradient = DESCENT[name](logits, label, settings)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", TERMS)
def test_bfloat16_logits_are_summed_in_float32(name):
    # 2**15 voxels of probability 1/4: a bfloat16 sum would stop growing at 256 addends.
    logits = jnp.zeros((1, 32, 32, 32, 4), jnp.bfloat16)
    label = jnp.asarray(np.arange(2**15).reshape(1, 32, 32, 32) % 4)
    # A constant has no surface; of each class the truth has one at so many of 31 steps along x.
    boundary = -sum(1 / (steps * 31**2 + 1) for steps in (15, 15, 16)) / 3
    expected = {"dice": -1 / 4, "cross_entropy": math.log(4), "boundary": boundary}[name]
    found = VALUE[name](logits, label, LossSettings())
    assert found.dtype == jnp.float32
    assert found == pytest.approx(expected, rel=1e-5)


def test_supervision_weights_halve_and_sum_to_one():
    assert supervision_weights(4) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert supervision_weights(1) == (1.0,)


def test_downsampled_label_is_nearest_the_center():
    label = jnp.arange(8 * 4 * 8).reshape(1, 8, 4, 8)
    found = downsample_label(label, (2, 2, 8))
    np.testing.assert_array_equal(found, label[:, [2, 6]][:, :, [1, 3]])


def test_deep_supervision_sums_all_weighted_terms():
    _, label = random_case(shape=(2, 8, 8, 8))
    outputs = [random_case((2, n, n, n), seed=n)[0] for n in (8, 4)]
    settings = LossSettings(dice_weight=0.5, cross_entropy_weight=3.0, boundary_weight=0.25)

    def terms(logits, label):
        dice, cross_entropy, boundary = (
            TERMS[name](logits, label, settings) for name in ("dice", "cross_entropy", "boundary")
        )
        return 0.5 * dice + 3.0 * cross_entropy + 0.25 * boundary

    @jax.jit
    def by_hand(outputs, label):
        small = label[:, 1::2, 1::2, 1::2]
        return 2 / 3 * terms(outputs[0], label) + 1 / 3 * terms(outputs[1], small)

    found = compiled(deep_supervision_loss)(outputs, label, settings)
    assert found == pytest.approx(float(by_hand(outputs, label)), rel=1e-6)


def test_a_term_of_weight_0_is_not_computed(monkeypatch):
    """By default the boundary term is off, and then it is not in the program."""
    _, label = random_case((1, 8, 8, 8))
    outputs = (jnp.zeros((1, 8, 8, 8, 4)), jnp.zeros((1, 4, 4, 4, 4)))

    def program(settings):
        return str(jax.make_jaxpr(lambda *o: deep_supervision_loss(o, label, settings))(*outputs))

    default = program(LossSettings())
    assert len(program(LossSettings(boundary_weight=0.5))) > len(default)
    monkeypatch.setattr(losses, "boundary_loss", None)
    assert program(LossSettings()) == default


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("per_batch", [False, True])
def test_devices_together_equal_one_device(per_batch, regions):
    """Loss and gradient of a global batch do not depend on how many devices share it."""
    devices = jax.devices()[:4]
    if len(devices) < 2:
        pytest.skip("needs several devices: --xla_force_host_platform_device_count")
    count = len(devices)
    settings = LossSettings(dice_per_batch=per_batch, boundary_weight=1.0, regions=regions)
    # Foreground on the first device alone: a Dice a device would be another number.
    logits, label = random_case((count, 4, 4, 4))
    logits, label = logits[..., : 3 if regions else 4], label.at[1:].set(0)

    def loss(scale, logits, label, axis_name=None):
        return deep_supervision_loss((scale * logits,), label, settings, axis_name)

    def device_step(logits, label):
        found = jax.value_and_grad(loss)(1.0, logits, label, "device")
        return jax.lax.pmean(found, "device")

    expected = jax.jit(jax.value_and_grad(loss))(1.0, logits, label)
    step = jax.pmap(device_step, axis_name="device", devices=devices)
    found = step(logits[:, None], label[:, None])
    np.testing.assert_allclose([found[0][0], found[1][0]], expected, rtol=1e-5)
